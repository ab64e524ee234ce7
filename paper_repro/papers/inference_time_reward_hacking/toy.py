"""Claims on the toy r*(u) = u¹²(1−u)/C: the best parameter of each family, and stationarity."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial

import jax
import jax.numpy as jnp
from jax import Array

import bon_theory as bt
from paper_repro.papers.claim import ABSTRACT, DERIVED, Claim, Tolerance

_claim = partial(
    Claim,
    paper="inference_time_reward_hacking",
    provenance=ABSTRACT,
    where="toy example, HedgeTune",
)
_CHECKS = ("best_of_n on uniform reward", "best_of_poisson on uniform reward")
_C = (12 / 13) ** 12 / 13
_NODES = 1281  # resolve the temperatures, as in the figure, whose programs serve here

_HEDGED: dict[str, Callable[[bt.Policy, Array], bt.Hedge]] = {
    "best-of-n, n": bt.hedge_n,
    "best-of-Poisson, μ": bt.hedge_mean_extra_draws,
    "tilt, λ": partial(bt.hedge_temperature, n=math.inf),
    "soft best-of-16, λ": partial(bt.hedge_temperature, n=16),
}


def toy(rank: Array) -> Array:
    """The true reward, whose maximum is 1 at the rank 12/13."""
    return rank**12 * (1 - rank) / _C


@cache
def _problem() -> tuple[bt.Policy, Array]:
    uniform = bt.Policy.uniform_reward(num_nodes=_NODES)
    return uniform, toy(jnp.exp(uniform.log_cdf))


@cache
def _hedged(family: str) -> tuple[float, float]:
    """The best parameter and the true reward there."""
    found = _HEDGED[family](*_problem())
    return float(found.parameter), float(found.true_reward)


def _parameters() -> list[float]:
    n, mu, tilt, soft = (_hedged(family)[0] for family in _HEDGED)
    return [n, mu, 1 / tilt, soft]


@jax.jit
def _best_of(uniform: bt.Policy, values: Array, numbers: Array) -> Array:
    return jax.vmap(lambda n: bt.expected_value(bt.best_of_n(uniform, n), values))(numbers)


@jax.jit
def _stationarity(
    uniform: bt.Policy, values: Array, n: Array, mu: Array, temperature: Array
) -> Array:
    """E[r* ψ] at the three optima, with ψ from the closed forms."""
    u = jnp.exp(uniform.log_cdf)
    tilt = bt.exponential_tilt(uniform, temperature)
    terms = (
        (bt.best_of_n(uniform, n), 1 / n + uniform.log_cdf),
        (bt.best_of_poisson(uniform, mu), u - 1 + u / (mu * u + 1)),
        (tilt, u - bt.expected_reward(tilt)),
    )
    return jnp.stack([bt.expected_value(policy, values * psi) for policy, psi in terms])


CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="hacking/toy-parameters",
        where="beside HedgeTune",
        provenance=DERIVED,
        statement="The true reward is highest at √156 draws, and at these parameters elsewhere.",
        compute=_parameters,
        expected=(math.sqrt(156), 12.39984, 13.52940, 0.03828),
        tolerance=Tolerance("stated to 5 decimals", absolute=5e-6),
        labels=("best-of-n, n", "best-of-Poisson, μ", "tilt, 1/λ", "soft best-of-16, λ"),
        figure="hedging",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_CHECKS,
    ),
    _claim(
        id="hacking/toy-values",
        where="beside HedgeTune",
        provenance=DERIVED,
        statement=(
            "The highest true rewards of best-of-Poisson, the tilt and soft best-of-16: softness "
            "gains 0.02 over the best n."
        ),
        compute=lambda: [_hedged(family)[1] for family in list(_HEDGED)[1:]],
        expected=(0.66693115, 0.66579781, 0.70004147),
        tolerance=Tolerance("stated to 8 decimals", absolute=5e-9),
        labels=("best-of-Poisson", "tilt", "soft best-of-16"),
        figure="hedging",
        test="bon_theory/test_theory_numbers.py::test_no_printed_digit_is_wrong",
        checked_by=_CHECKS,
    ),
    _claim(
        id="hacking/toy-whole-numbers",
        where="beside HedgeTune",
        provenance=DERIVED,
        statement="Among whole numbers 12 and 13 tie at 12/(24·25·C) = .6793891755.",
        compute=lambda: _best_of(*_problem(), jnp.array([12.0, 13.0])),
        expected=(12 / (24 * 25 * _C), 13 / (25 * 26 * _C)),
        tolerance=Tolerance("quadrature in float64", relative=1e-12),
        labels=("n=12", "n=13"),
        figure="hedging",
        test="bon_theory/test_hedging.py::test_best_of_n_is_hedged_where_its_polynomial_is_stationary",
        checked_by=_CHECKS[:1],
    ),
    _claim(
        id="hacking/stationarity",
        where="HedgeTune",
        statement=(
            "At the best parameter E[r* ψ] = 0, with ψ = 1/n + log u, u − 1 + u/(μu + 1) and "
            "u − E u."
        ),
        compute=lambda: _stationarity(
            *_problem(), *(jnp.asarray(_hedged(f)[0]) for f in list(_HEDGED)[:3])
        ),
        expected=(0.0, 0.0, 0.0),
        tolerance=Tolerance("the optimum to rounding, and quadrature in float64", absolute=1e-13),
        labels=("best-of-n", "best-of-Poisson", "tilt"),
        figure="hedging",
        test="bon_theory/test_hedging.py::test_the_optimum_solves_the_stationarity_condition",
        checked_by=_CHECKS,
    ),
)
