"""Claims on the race of uniform numbers against the Gumbel race (soft best-of-n)."""

from __future__ import annotations

import math
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

import bon_theory as bt
from paper_repro.papers.claim import ABSTRACT, DERIVED, Claim, Tolerance
from paper_repro.papers.inequalities import never_violated

_PAPER = "uniform_race"
_claim = partial(Claim, paper=_PAPER, provenance=ABSTRACT)
_holds = partial(never_violated, paper=_PAPER, provenance=ABSTRACT)

_DIVERGENCES = {
    "KL": bt.kl_divergence,
    "reverse KL": lambda p, q: bt.kl_divergence(q, p),
    "total variation": bt.total_variation,
    "∫(√p − √q)²": bt.squared_hellinger,
    "χ²": bt.chi_squared_divergence,
    "Jensen–Shannon": bt.jensen_shannon,
}
_CASES = tuple((n, t) for n in (2.0, 8.0, 64.0) for t in (0.1, 0.5))
_PROBS, _REWARDS = (0.5, 0.3, 0.2), (0.0, 0.5, 1.0)
_TEMPERATURE = 0.5


@jax.jit
def _distances(n: Array, temperature: Array) -> Array:
    """``[2, D]``: divergences to the tilt of the uniform race and of the Gumbel race."""
    law = bt.Policy.from_probs(jnp.array(_PROBS), jnp.array(_REWARDS))
    tilt = bt.exponential_tilt(law, temperature)
    races = (bt.exponential_race(law, n, temperature), bt.soft_best_of_n(law, n, temperature))
    return jnp.array([[d(race, tilt) for d in _DIVERGENCES.values()] for race in races])


@cache
def _ratios() -> NDArray[np.float64]:
    """Uniform over Gumbel race, per case and divergence."""
    rows = [_distances(jnp.asarray(n), jnp.asarray(t)) for n, t in _CASES]
    return np.concatenate([np.asarray(uniform / gumbel) for uniform, gumbel in rows])


def _miss_probability() -> float:
    """1 − 1/w̄_max, in plain Python."""
    weights = [math.exp(r / _TEMPERATURE) for r in _REWARDS]
    mean = math.fsum(p * w for p, w in zip(_PROBS, weights, strict=True))
    return 1 - mean / max(weights)


def _decay() -> list[float]:
    """TV at n + 1 over TV at n, late."""
    variation = [
        float(_distances(jnp.asarray(n), jnp.asarray(_TEMPERATURE))[0, 2]) for n in (40.0, 41.0)
    ]
    return [variation[1] / variation[0]]


CLAIMS: tuple[Claim, ...] = (
    _holds(
        "exponential_race_kl_to_tilt",
        "exponential_race_kl_from_tilt",
        id="race/nearer-in-kl",
        where="comparison with soft best-of-n",
        statement="In both KL divergences argmax w/U is nearer to the tilt than soft best-of-n.",
        figure="bounds",
        test="bon_theory/test_rates.py::test_the_exponential_race_is_nearer_to_the_tilt",
    ),
    _claim(
        id="race/nearer-in-every-divergence",
        where="comparison with soft best-of-n",
        statement="So in every f-divergence. Entries: the divergence over soft best-of-n's.",
        compute=_ratios,
        expected=(1.0,) * len(_CASES) * len(_DIVERGENCES),
        kind="inequality",
        relation="<=",
        tolerance=Tolerance("an inequality between ratios of float64 sums", absolute=1e-9),
        labels=tuple(f"{name}, n={n:g}, λ={t:g}" for n, t in _CASES for name in _DIVERGENCES),
        test="bon_theory/test_rates.py::test_the_exponential_race_is_nearer_to_the_tilt",
        checked_by=("exponential_race(8, 0.3) on distinct rewards",),
    ),
    _holds(
        "exponential_race_total_variation",
        id="race/exponential-convergence",
        where="convergence",
        statement="TV to the tilt ≤ (1 − 1/w̄_max)ⁿ, where soft best-of-n's is of the order 1/n.",
        figure="bounds",
        test="bon_theory/test_rates.py::test_the_exponential_race_misses_the_tilt_by_at_most_a_power",
    ),
    _claim(
        id="race/exponential-rate",
        kind="asymptotic",
        where="beside the convergence",
        provenance=DERIVED,
        statement="The total variation falls by the factor 1 − 1/w̄_max a draw. Entry: at n = 40.",
        compute=_decay,
        expected=(_miss_probability(),),
        relation="<=",
        tolerance=Tolerance(
            "TV at n = 40 is 6e-9, of probabilities good to 1e-12",
            absolute=1e-3,
        ),
        labels=("n=40",),
        test="bon_theory/test_selection_exact.py::test_exponential_race_equals_quadrature_of_the_race",
        checked_by=("exponential_race(8, 0.3) on distinct rewards",),
    ),
)
