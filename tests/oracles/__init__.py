"""Slow, obvious reference computations that share no code and no formula with the library.

Nothing here imports the library or JAX. ``discrete`` enumerates, ``divergences`` sums,
``continuous`` integrates with mpmath, and ``monte_carlo`` runs the real process with NumPy.
"""
