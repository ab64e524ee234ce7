"""Claims on Best-of-Poisson: its law, its KL divergence, and how near it is to the optimum."""

from __future__ import annotations

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax import Array

import bon_theory as bt
from paper_repro.papers.claim import ABSTRACT, DERIVED, Claim, Tolerance
from paper_repro.papers.search import maximum

_claim = partial(
    Claim, paper="inference_time_reward_hacking", provenance=ABSTRACT, where="Best-of-Poisson"
)
_CHECK = "best_of_poisson on uniform reward"
_MEANS = (1.0, 2.0, 5.0)
_LABELS = tuple(f"μ={mu:g}" for mu in _MEANS)
_QUADRATURE = Tolerance("quadrature in float64", absolute=1e-13, relative=1e-12)


@jax.jit
def _density_error(mean: Array) -> Array:
    """Largest error of log h over the ranks, h(u) = (μu + 1)e^{μ(u−1)}."""
    uniform = bt.Policy.uniform_reward()
    rank = jnp.exp(uniform.log_cdf)
    stated = jnp.log1p(mean * rank) + mean * jnp.expm1(uniform.log_cdf)
    found = bt.log_ratio(bt.best_of_poisson(uniform, mean), uniform)
    return jnp.max(jnp.abs(found - stated))


@jax.jit
def _mean_and_kl(mean: Array) -> tuple[Array, Array]:
    uniform = bt.Policy.uniform_reward()
    policy = bt.best_of_poisson(uniform, mean)
    return bt.expected_reward(policy), bt.kl_divergence(policy, uniform)


def _stated_mean(mu: float) -> float:
    return 1 - 1 / mu + (1 - math.exp(-mu)) / mu**2


def _stated_kl(mu: float) -> float:
    integral = scipy.special.expi(mu + 1) - scipy.special.expi(1.0)
    return math.log1p(mu) - 1 + math.exp(-(mu + 1)) * integral / mu


@jax.jit
def _excess(mean: Array) -> Array:
    """KL of best-of-Poisson over that of the tilt with the same mean rank."""
    uniform = bt.Policy.uniform_reward()
    policy = bt.best_of_poisson(uniform, mean)
    temperature = bt.temperature_for_win_rate(uniform, bt.win_rate(policy, uniform), n=math.inf)
    tilt = bt.exponential_tilt(uniform, temperature)
    return bt.kl_divergence(policy, uniform) - bt.kl_divergence(tilt, uniform)


@cache
def _largest_excess() -> tuple[float, float]:
    """The largest excess over μ, and where."""
    return maximum(lambda mu: float(_excess(jnp.asarray(mu))), 2.0, 6.0, accuracy=1e-5)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="hacking/best-of-poisson-law",
        where="Best-of-Poisson",
        statement=(
            "The best of 1 + Poisson(μ) draws has the density (μu + 1)e^{μ(u−1)} of the rank. "
            "Entries: largest error of its logarithm."
        ),
        compute=lambda: [_density_error(jnp.asarray(mu)) for mu in _MEANS],
        expected=(0.0,) * len(_MEANS),
        tolerance=Tolerance("rounding of logarithms in float64", absolute=1e-13),
        labels=_LABELS,
        figure="families",
        test="bon_theory/test_selection_continuous.py::test_rank_selections_equal_quadrature",
        checked_by=(_CHECK,),
    ),
    _claim(
        id="hacking/best-of-poisson-mean",
        where="beside Best-of-Poisson",
        provenance=DERIVED,
        statement="Its mean rank is 1 − 1/μ + (1 − e^{−μ})/μ².",
        compute=lambda: [_mean_and_kl(jnp.asarray(mu))[0] for mu in _MEANS],
        expected=tuple(_stated_mean(mu) for mu in _MEANS),
        tolerance=_QUADRATURE,
        labels=_LABELS,
        figure="families",
        test="bon_theory/test_bounds.py::test_best_of_poisson_agrees_with_quadrature",
        checked_by=(_CHECK,),
    ),
    _claim(
        id="hacking/best-of-poisson-kl",
        where="beside Best-of-Poisson",
        provenance=DERIVED,
        statement="Its KL divergence is log(1+μ) − 1 + e^{−(μ+1)}(Ei(μ+1) − Ei(1))/μ.",
        compute=lambda: [_mean_and_kl(jnp.asarray(mu))[1] for mu in _MEANS],
        expected=tuple(_stated_kl(mu) for mu in _MEANS),
        tolerance=_QUADRATURE,
        labels=_LABELS,
        figure="families",
        test="bon_theory/test_bounds.py::test_best_of_poisson_agrees_with_quadrature",
        checked_by=(_CHECK,),
    ),
    _claim(
        id="hacking/best-of-poisson-excess",
        where="Best-of-Poisson",
        statement=(
            "Best-of-Poisson needs less than 8e-4 nats more than the optimum (the tilt) with the "
            "same mean. Entry: the largest excess over μ."
        ),
        compute=lambda: _largest_excess()[0],
        expected=8e-4,
        kind="inequality",
        relation="<=",
        tolerance=Tolerance("the sharp value is stated to 4 significant digits", absolute=5e-8),
        sharper="The largest excess is 6.751e-4, at μ = 3.358.",
        sharp_value=6.751e-4,
        figure="families",
        test="bon_theory/test_inequalities.py::test_best_of_poisson_wastes_less_than_8e_4_nats",
        checked_by=(_CHECK, "win_rate_optimal on uniform reward"),
    ),
    _claim(
        id="hacking/best-of-poisson-excess-where",
        where="beside Best-of-Poisson",
        provenance=DERIVED,
        statement="The excess is largest at μ = 3.358.",
        compute=lambda: np.round(_largest_excess()[1], 3),
        expected=3.358,
        tolerance=Tolerance("stated to 4 digits; a maximum is flat", absolute=5e-4),
        figure="families",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=(_CHECK,),
    ),
)
