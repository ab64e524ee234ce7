"""Estimates from scored answers: what best-of-n gives, at every n at once, without bias.

A :class:`Pool` holds some scored answers to each of some prompts. The estimators are those of
subsets: n of a prompt's N answers *without* replacement, averaged over all C(N, n) subsets exactly.
They are unbiased for the model that gave the answers, where the empirical law
(:meth:`bon_theory.Policy.from_samples`) draws with replacement and is biased low.

Everything is computed in float64, whatever JAX's settings: scores come from files.
"""

from bon_theory.pools.advice import Advice, advise
from bon_theory.pools.choice import ChosenSetting, choose
from bon_theory.pools.coverage import CoverageFit, TailFit, fit_coverage, fit_tail
from bon_theory.pools.curves import (
    Curve,
    best_of_n_curve,
    best_of_n_weights,
    pass_at_k,
    ranked_weights,
)
from bon_theory.pools.divergence import kl_curve
from bon_theory.pools.gradients import gradient_weights
from bon_theory.pools.intervals import Band, bootstrap_band, normal_band
from bon_theory.pools.peak import PeakFit, fit_peak
from bon_theory.pools.pool import Pool
from bon_theory.pools.repeated import held_out_curve, length_normalised
from bon_theory.pools.soft import soft_best_of_n_curve, soft_best_of_n_law
from bon_theory.pools.variance import jackknife_variance, subset_variance
from bon_theory.pools.votes import majority_curve, sampled_vote_curve
from bon_theory.pools.weighted_votes import weighted_vote_curve
from bon_theory.pools.win_rates import win_rate_between, win_rate_curve

__all__ = [
    "Advice",
    "Band",
    "ChosenSetting",
    "CoverageFit",
    "Curve",
    "PeakFit",
    "Pool",
    "TailFit",
    "advise",
    "best_of_n_curve",
    "best_of_n_weights",
    "bootstrap_band",
    "choose",
    "fit_coverage",
    "fit_peak",
    "fit_tail",
    "gradient_weights",
    "held_out_curve",
    "jackknife_variance",
    "kl_curve",
    "length_normalised",
    "majority_curve",
    "normal_band",
    "pass_at_k",
    "ranked_weights",
    "sampled_vote_curve",
    "soft_best_of_n_curve",
    "soft_best_of_n_law",
    "subset_variance",
    "weighted_vote_curve",
    "win_rate_between",
    "win_rate_curve",
]
