"""Estimates from scored answers: what best-of-n gives, at every n at once, without bias.

A :class:`Pool` holds some scored answers to each of some prompts. The estimators are those of
subsets: n of a prompt's N answers *without* replacement, averaged over all C(N, n) subsets exactly.
They are unbiased for the model that gave the answers, where the empirical law
(:meth:`bon_theory.Policy.from_samples`) draws with replacement and is biased low.

Everything is computed in NumPy, in float64, whatever JAX's settings: scores come from files.
"""

from bon_theory.pools.curves import Curve, best_of_n_curve, best_of_n_weights, pass_at_k
from bon_theory.pools.intervals import Band, bootstrap_band, normal_band
from bon_theory.pools.pool import Pool
from bon_theory.pools.variance import subset_variance
from bon_theory.pools.win_rates import win_rate_curve

__all__ = [
    "Band",
    "Curve",
    "Pool",
    "best_of_n_curve",
    "best_of_n_weights",
    "bootstrap_band",
    "normal_band",
    "pass_at_k",
    "subset_variance",
    "win_rate_curve",
]
