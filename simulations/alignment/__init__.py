"""Aligning a language model with its own best-of-n law: losses, pairs, training, evaluation."""
