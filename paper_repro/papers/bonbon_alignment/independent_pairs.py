"""The losses under the other reading: best and worst of n from draws of their own, independent.

With pairs from one draw of n the minimiser is ``bon_theory.alignment.bonbon``. Here the pair
(y_(n), y_(1)) has the law of best-of-n times that of worst-of-n, with densities f_n and f_1 over
the reference. Setting the derivative in h = log π_θ/π to zero, with m = 1/(2β*_n), A = E_{f_1} h
and B = E_{f_n} h,

    α e^h + 2(1−α) (f_n + f_1) h = α f_n + 2(1−α) [f_n (A + m) + f_1 (B − m)].

At α = 0 this is h = B − m + ρ (A − B + 2m), ρ = f_n/(f_n + f_1): a logistic in the log-odds of the
rank, and never the (n−1) log u of best-of-n. Otherwise h is given by Wright's omega function, and
A and B are found.
"""

from __future__ import annotations

import jax
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import root
from scipy.special import wrightomega

import bon_theory as bt
from bon_theory import alignment

Vector = NDArray[np.float64]


def minimiser(reference: bt.Policy, n: int, sft_weight: float) -> bt.Policy:
    """What BoNBoN aims at on independent pairs; at an SFT weight of 0, IPO-BoN."""
    probs, log_best, log_worst = (np.asarray(x) for x in _densities(reference, float(n)))
    best, worst = np.exp(log_best), np.exp(log_worst)
    margin = 0.5 / float(alignment.best_of_n_beta(n))

    # Without SFT: E_{f_n} of the equation gives A − B + 2m = m/E_{f_n} ρ.
    share = best / (best + worst)
    log_ratio = margin / (probs * best @ share) * share
    log_ratio -= np.log(probs @ np.exp(log_ratio))
    if sft_weight:
        log_ratio = _with_sft(probs, best, worst, margin, sft_weight, log_ratio)
    return reference.with_log_ratio(jax.numpy.asarray(log_ratio))


@jax.jit
def _densities(reference: bt.Policy, n: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    laws = (bt.best_of_n(reference, n), bt.worst_of_n(reference, n))
    best, worst = (bt.log_ratio(law, reference) for law in laws)
    return reference.probs, best, worst


def _with_sft(
    probs: Vector, best: Vector, worst: Vector, margin: float, weight: float, start: Vector
) -> Vector:
    """The solution h by its two means A and B, from those of ``start``."""
    slope = 2 * (1 - weight) * (best + worst)

    def log_ratio(means: Vector) -> Vector:
        at_worst, at_best = means
        pull = best * (at_worst + margin) + worst * (at_best - margin)
        right = (weight * best + 2 * (1 - weight) * pull) / slope
        return right - wrightomega(right + np.log(weight / slope)).real

    def means(h: Vector) -> Vector:
        return np.array([probs * worst @ h, probs * best @ h])

    found = root(lambda x: means(log_ratio(x)) - x, means(start), tol=1e-13)
    return log_ratio(found.x)
