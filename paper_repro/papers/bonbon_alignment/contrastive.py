"""Claims on BoNBoN's loss: the contrastive identity, its variance, β*_n, and what IPO fits.

The margin of a best-and-worst pair is log h(U_(n)) − log h(U_(1)) with h = n·uⁿ⁻¹, the density
ratio of best-of-n: (n−1)·log(U_(n)/U_(1)).
"""

from __future__ import annotations

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import bon_theory as bt
from paper_repro.papers.bonbon_alignment.rank_policies import BEST_OF_N_CHECK, QUADRATURE, uniform
from paper_repro.papers.claim import DERIVED, READ, Claim, Tolerance, printed

_claim = partial(Claim, paper="bonbon_alignment", provenance=READ)

MEAN_CHECK = "margin of best-and-worst pairs, n=8: mean"
VARIANCE_CHECK = "margin of best-and-worst pairs, n=8: variance"

NUMBERS = (2, 4, 8, 16, 64)
_LABELS = tuple(f"n={n}" for n in NUMBERS)
_CHECKED_BY = (MEAN_CHECK, BEST_OF_N_CHECK, "worst_of_n on uniform reward")


def harmonic(n: int, power: int = 1) -> float:
    """Σ_{k=1}^n 1/k^power."""
    return math.fsum(1 / k**power for k in range(1, n + 1))


@jax.jit
def margin_mean(reference: bt.Policy, n: Array) -> Array:
    """E log h at the best of n minus E log h at the worst of n."""
    best, worst = bt.best_of_n(reference, n), bt.worst_of_n(reference, n)
    log_ratio = bt.log_ratio(best, reference)
    return bt.expected_value(best, log_ratio) - bt.expected_value(worst, log_ratio)


@jax.jit
def margin_moments(n: Array) -> tuple[Array, Array]:
    """Mean and variance of the margin, by the law of the pair.

    Given the best, the other n−1 draws are uniform below it, so U_(1)/U_(n) is the worst of n−1
    uniform draws, independent of the best.
    """
    ratio = bt.worst_of_n(uniform(), n - 1)
    margin = -(n - 1) * uniform().log_cdf
    mean = bt.expected_value(ratio, margin)
    return mean, bt.expected_value(ratio, (margin - mean) ** 2)


@cache
def _margin_means() -> tuple[float, ...]:
    return tuple(float(margin_mean(uniform(), jnp.asarray(float(n)))) for n in NUMBERS)


@cache
def _margin_moments() -> tuple[tuple[float, float], ...]:
    moments = (margin_moments(jnp.asarray(float(n))) for n in NUMBERS)
    return tuple((float(mean), float(variance)) for mean, variance in moments)


@partial(jax.jit, static_argnames="levels")
def _discrete_margin(n: Array, *, levels: int) -> Array:
    """Mean margin on equally likely distinct rewards."""
    probs = jnp.full(levels, 1 / levels)
    return margin_mean(bt.Policy.from_probs(probs, jnp.arange(levels, dtype=float)), n)


_LEVELS = (2, 10, 10_000)


def _ipo_minimiser_error() -> list[float]:
    """TV between the minimiser of IPO's population loss and the optimum for mid-ranks at c = 1/β.

    On pairs drawn from π the loss Σ π_i π_j (s_ij (h_i − h_j) − 1/(2β))², s_ij = sign(r_i − r_j),
    is least squares in h = log(policy/π).
    """
    probs = np.array([0.3, 0.1, 0.25, 0.15, 0.2])
    rank = np.arange(probs.size)
    i, j = np.nonzero(rank[:, None] > rank)
    weight = np.sqrt(probs[i] * probs[j])
    contrasts = weight[:, None] * (np.eye(probs.size)[i] - np.eye(probs.size)[j])
    distances = []
    for beta in (1.0, 0.2):
        h = np.linalg.lstsq(contrasts, weight / (2 * beta), rcond=None)[0]
        distances.append(
            float(_distance_to_optimum(jnp.asarray(probs), jnp.asarray(h), jnp.asarray(beta)))
        )
    return distances


@jax.jit
def _distance_to_optimum(probs: Array, h: Array, beta: Array) -> Array:
    """TV between π·eʰ/Z and the tilt of mid-ranks at λ = β."""
    midrank = bt.Policy.from_probs(probs, jnp.cumsum(probs) - probs / 2)
    fitted = bt.Policy.from_logits(jnp.log(probs) + h, midrank.rewards)
    return bt.total_variation(fitted, bt.exponential_tilt(midrank, beta))


CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="bonbon/contrastive-identity",
        where="Theorem 3, eq. 4.2, p. 7",
        statement=(
            "At best-of-n the margin log π⁽ⁿ⁾(y₍ₙ₎)/π(y₍ₙ₎) − log π⁽ⁿ⁾(y₍₁₎)/π(y₍₁₎) of the best "
            "and the worst of n has mean (n−1)·Σ_{k<n} 1/k."
        ),
        compute=_margin_means,
        expected=tuple((n - 1) * harmonic(n - 1) for n in NUMBERS),
        tolerance=QUADRATURE,
        labels=_LABELS,
        test="bon_theory/test_alignment.py::test_the_margin_at_best_of_n",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/contrastive-identity-by-pairs",
        where="beside Theorem 3",
        provenance=DERIVED,
        statement="The same mean from the law of the pair: U₍₁₎/U₍ₙ₎ is the worst of n−1 draws.",
        compute=lambda: [mean for mean, _ in _margin_moments()],
        expected=tuple((n - 1) * harmonic(n - 1) for n in NUMBERS),
        tolerance=QUADRATURE,
        labels=_LABELS,
        test="bon_theory/test_alignment.py::test_the_margin_at_best_of_n",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/contrastive-variance",
        where="beside Theorem 3",
        provenance=DERIVED,
        statement=(
            "The margin is not constant at best-of-n: its variance is (n−1)²·Σ_{k<n} 1/k², so the "
            "loss does not vanish there."
        ),
        compute=lambda: [variance for _, variance in _margin_moments()],
        expected=tuple((n - 1) ** 2 * harmonic(n - 1, 2) for n in NUMBERS),
        tolerance=QUADRATURE,
        labels=_LABELS,
        test="bon_theory/test_alignment.py::test_the_margin_at_best_of_n",
        checked_by=(VARIANCE_CHECK, "worst_of_n on uniform reward"),
    ),
    _claim(
        id="bonbon/beta",
        where="Theorem 3, eq. 4.2, p. 7",
        statement=(
            "The regularisation is fixed by n alone: β*_n = 1/(2(n−1)·Σ_{k<n} 1/k), half the "
            "reciprocal of the mean margin."
        ),
        compute=lambda: [0.5 / mean for mean in _margin_means()],
        expected=tuple(0.5 / ((n - 1) * harmonic(n - 1)) for n in NUMBERS),
        tolerance=QUADRATURE,
        labels=_LABELS,
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/beta-8",
        where="beside Theorem 3; n = 8 is that of §5.1",
        provenance=DERIVED,
        statement="At the n = 8 of the experiments, β*_8 = 0.0275482094.",
        compute=lambda: 0.5 / _margin_means()[NUMBERS.index(8)],
        expected=0.0275482094,
        tolerance=printed(9),
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/discrete-margin",
        where="beside Theorem 3",
        provenance=DERIVED,
        statement="With 10 equally likely reward levels, the mean margin at n = 8 is 14.2083.",
        compute=lambda: _discrete_margin(jnp.asarray(8.0), levels=10),
        expected=14.2083,
        tolerance=printed(6),
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=("best_of_n on distinct rewards", "worst_of_n on distinct rewards"),
    ),
    _claim(
        id="bonbon/discrete-margin-is-smaller",
        where="beside Theorem 3",
        provenance=DERIVED,
        statement=(
            "With finitely many equally likely reward levels the mean margin at n = 8 is below the "
            "18.15 that β*_8 assumes."
        ),
        compute=lambda: [float(_discrete_margin(jnp.asarray(8.0), levels=k)) for k in _LEVELS],
        expected=(7 * harmonic(7),) * len(_LEVELS),
        kind="inequality",
        relation="<=",
        tolerance=Tolerance("an inequality: no slack"),
        labels=tuple(f"{levels} levels" for levels in _LEVELS),
        test="bon_theory/test_alignment.py::test_the_margin_at_best_of_n",
        checked_by=("best_of_n on distinct rewards", "worst_of_n on distinct rewards"),
    ),
    _claim(
        id="bonbon/ipo-minimiser",
        where="beside eq. 4.3",
        provenance=DERIVED,
        statement=(
            "IPO on pairs from the reference has the win-rate optimum with c = 1/β as its "
            "population minimiser (mid-ranks where the law has atoms). Entries: TV between the two."
        ),
        compute=_ipo_minimiser_error,
        expected=(0.0, 0.0),
        tolerance=Tolerance("least squares in float64", absolute=1e-13),
        labels=("β=1", "β=0.2"),
        figure="bonbon",
        test="bon_theory/test_alignment.py::test_ipo_is_what_an_optimiser_finds_on_enumerated_pairs",
        checked_by=("exponential_tilt on distinct rewards",),
    ),
)
