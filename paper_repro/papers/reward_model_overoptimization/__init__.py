"""Gao, Schulman and Hilton, *Scaling Laws for Reward Model Overoptimization* [Gao]."""
