"""Claims that a hacking curve has at most one peak, and where the theorem does not apply."""

from __future__ import annotations

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import bon_theory as bt
from paper_repro.papers.claim import ABSTRACT, DERIVED, Claim, Tolerance

_claim = partial(
    Claim,
    paper="inference_time_reward_hacking",
    provenance=ABSTRACT,
    where="inevitability of reward hacking",
)
#: Two rare outcomes above a common one; the best proxy is the worst true reward.
_PROBS, _REWARDS, _TRUE = (0.8, 0.1, 0.1), (0.0, 0.6, 1.0), (0.0, 1.0, -0.8)
_VALLEY, _HUMP = 0.5266556, 0.1049364  # temperatures


def _law() -> bt.Policy:
    return bt.Policy.from_probs(jnp.array(_PROBS), jnp.array(_REWARDS))


@jax.jit
def _curves(steps: Array) -> Array:
    """E r* along n, μ, 1/λ of the tilt, and 1/λ of soft best-of-2: ``[4, steps]``."""
    law, true = _law(), jnp.array(_TRUE)
    selections = (
        lambda x: bt.best_of_n(law, jnp.exp(x)),
        lambda x: bt.best_of_poisson(law, jnp.expm1(x)),
        lambda x: bt.exponential_tilt(law, 1 / jnp.expm1(x)),
        lambda x: bt.soft_best_of_n(law, 2.0, 1 / jnp.expm1(x)),
    )
    return jnp.stack([bt.expected_value(select(steps), true) for select in selections])


def _turns() -> list[int]:
    """How often each curve turns, on 400 points of the logarithm of its parameter."""
    changes = np.diff(np.asarray(_curves(jnp.linspace(0.02, 4.0, 400))), axis=1)
    signs = np.sign(np.where(np.abs(changes) < 1e-13, 0, changes))
    return [int(np.sum(np.diff(row[row != 0]) != 0)) for row in signs]


def _soft_best_of_two() -> list[float]:
    """E r* at both ends and both turns."""
    found = []
    for temperature in (np.inf, _VALLEY, _HUMP, 0.0):
        policy = bt.soft_best_of_n(_law(), 2.0, temperature)
        found.append(float(bt.expected_value(policy, jnp.array(_TRUE))))
    return found


def _by_logistic(temperature: float) -> float:
    """The same from P(x) = 2π(x)·E σ((r(x) − r(X))/λ)."""
    mean = 0.0
    for (p, r, f), (q, s, _) in product(zip(_PROBS, _REWARDS, _TRUE, strict=True), repeat=2):
        mean += 2 * p * q * f / (1 + np.exp(-(r - s) / temperature))
    return float(mean)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="hacking/one-peak",
        where="inevitability of reward hacking",
        statement=(
            "Along a family ordered by likelihood ratio, the mean of a true reward with one peak "
            "is monotone or has one peak. Entries: turns of the curve, π = (.8, .1, .1), proxy "
            "(0, .6, 1), true reward (0, 1, −.8)."
        ),
        compute=lambda: _turns()[:3],
        expected=(1.0, 1.0, 1.0),
        kind="inequality",
        relation="<=",
        tolerance=Tolerance("a count"),
        labels=("best-of-n in n", "best-of-Poisson in μ", "tilt in 1/λ"),
        test="bon_theory/test_hedging.py::test_of_several_maxima_the_highest_is_found",
        checked_by=("best_of_n on distinct rewards",),
    ),
    _claim(
        id="hacking/one-peak-soft",
        where="inevitability of reward hacking",
        statement=(
            "Soft best-of-2, which is not ordered by likelihood ratio in 1/λ: the mean of a true "
            "reward with one peak is monotone or has one peak."
        ),
        compute=lambda: _turns()[3],
        expected=1.0,
        kind="inequality",
        relation="<=",
        tolerance=Tolerance("a count"),
        outside_scope=(
            "The theorem is on families ordered by likelihood ratio. Soft best-of-n at fixed n is "
            "ordered in its temperature stochastically, but not by likelihood ratio."
        ),
        consequence=(
            "Here the true reward falls, rises and falls again as λ falls: a search for a "
            "temperature must look for the highest peak, not for a zero of the derivative."
        ),
        test="bon_theory/test_hedging.py::test_of_several_maxima_the_highest_is_found",
        checked_by=("soft_best_of_n(8, 0.2) on distinct rewards",),
    ),
    _claim(
        id="hacking/soft-valley-and-hump",
        where="beside the inevitability of reward hacking",
        provenance=DERIVED,
        statement=(
            "That curve: .02 without selection, a valley of .00735 at λ = .5267, a hump of .01826 "
            "at λ = .1049, and .018 for best-of-2."
        ),
        compute=_soft_best_of_two,
        expected=(0.02, _by_logistic(_VALLEY), _by_logistic(_HUMP), 0.018),
        tolerance=Tolerance("two exact forms in float64", absolute=1e-14),
        labels=("λ=∞", "λ=.5267", "λ=.1049", "λ=0"),
        test="bon_theory/test_hedging.py::test_of_several_maxima_the_highest_is_found",
        checked_by=("soft_best_of_n(8, 0.2) on distinct rewards",),
    ),
)
