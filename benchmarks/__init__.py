"""Benchmarks: one script per sentence that it tests, results kept as JSON in ``results/``."""
