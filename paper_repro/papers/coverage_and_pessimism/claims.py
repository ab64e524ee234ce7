"""Claims on the target of InferenceTimePessimism, the optimum under a penalty on χ²."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array

import bon_theory as bt
from paper_repro.papers.claim import ABSTRACT, DERIVED, Claim, Tolerance

_claim = partial(
    Claim,
    paper="coverage_and_pessimism",
    provenance=ABSTRACT,
    where="InferenceTimePessimism",
    checked_by=("chi_squared_tilt(0.125) on uniform reward",),
)
_SHARP, _FLAT = (0.02, 0.125, 0.32), (0.5, 1.0, 4.0)
_STRENGTHS = _SHARP + _FLAT


def _level(strength: float) -> float:
    """ν for the uniform reward: 1 − √(2β) below ½, then ½ − β."""
    return 1 - math.sqrt(2 * strength) if strength < 0.5 else 0.5 - strength


def _mean(strength: float) -> float:
    return (2 + _level(strength)) / 3 if strength < 0.5 else 0.5 + 1 / (12 * strength)


def _reference(strength: float) -> bt.Policy:
    """The optimum's density has a kink at ν, where nodes must crowd."""
    level = _level(strength)
    return bt.Policy.uniform_reward(breaks=(level,) if 0 < level < 1 else ())


def _quantities(strength: float) -> Array:
    """Mean reward, KL divergence, and the largest density ratio of the optimum."""
    return _of_optimum(_reference(strength), jnp.float64(strength))


@jax.jit
def _of_optimum(reference: bt.Policy, strength: Array) -> Array:
    policy = bt.chi_squared_tilt(reference, strength)
    supremum = jnp.exp(jnp.max(bt.log_ratio(policy, reference)))
    kl = bt.kl_divergence(policy, reference)
    return jnp.stack([bt.expected_reward(policy), kl, supremum])


@jax.jit
def _normalisation(strength: Array) -> Array:
    """E_π (r − ν)₊/β with ν read off the selected law, on a law with ties."""
    law = bt.Policy.from_probs(
        jnp.array([0.3, 0.1, 0.25, 0.15, 0.2]), jnp.array([0.0, 1.0, 0.5, 1.0, 0.25])
    )
    policy = bt.chi_squared_tilt(law, strength)
    level = 1.0 - strength * jnp.exp(bt.log_ratio(policy, law)[1])
    return jnp.sum(law.probs * jnp.maximum(law.rewards - level, 0)) / strength


CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="pessimism/mean-reward",
        where="beside InferenceTimePessimism",
        provenance=DERIVED,
        statement=(
            "π·((r − ν)/β)₊ has, for a uniform reward, the mean (2 + ν)/3 with ν = 1 − √(2β) if "
            "β < ½, and ½ + 1/(12β) with ν = ½ − β otherwise."
        ),
        compute=lambda: [_quantities(b)[0] for b in _STRENGTHS],
        expected=tuple(_mean(b) for b in _STRENGTHS),
        tolerance=Tolerance("quadrature in float64 with a break at the kink", absolute=1e-12),
        labels=tuple(f"β={b:g}" for b in _STRENGTHS),
        test="bon_theory/test_selection_continuous.py::test_chi_squared_tilt_of_a_uniform_reward",
    ),
    _claim(
        id="pessimism/kl",
        where="beside InferenceTimePessimism",
        provenance=DERIVED,
        statement="Its KL divergence from the reference is ½ log(2/β) − ½ for β < ½.",
        compute=lambda: [_quantities(b)[1] for b in _SHARP],
        expected=tuple(0.5 * math.log(2 / b) - 0.5 for b in _SHARP),
        tolerance=Tolerance("quadrature in float64 with a break at the kink", absolute=1e-11),
        labels=tuple(f"β={b:g}" for b in _SHARP),
        test="bon_theory/test_selection_continuous.py::test_chi_squared_tilt_of_a_uniform_reward",
    ),
    _claim(
        id="pessimism/normalisation",
        where="InferenceTimePessimism",
        statement="On any law ν solves E_π((r − ν)/β)₊ = 1; five outcomes with a tie.",
        compute=lambda: [_normalisation(jnp.asarray(b)) for b in _STRENGTHS],
        expected=(1.0,) * len(_STRENGTHS),
        tolerance=Tolerance("sums of five terms in float64", absolute=1e-14),
        labels=tuple(f"β={b:g}" for b in _STRENGTHS),
        test="bon_theory/test_selection_exact.py::test_chi_squared_tilt_equals_bisection",
        checked_by=("chi_squared_tilt(0.4) on tied rewards",),
    ),
    _claim(
        id="pessimism/rejection-sampling",
        where="InferenceTimePessimism",
        statement=(
            "Accepting a fresh draw with probability ((r − ν)/β)₊/M, M = (r_max − ν)/β, samples "
            "it; M draws are needed on average. Entries: sup of the density, uniform reward."
        ),
        compute=lambda: [_quantities(b)[2] for b in _STRENGTHS],
        expected=tuple((1 - _level(b)) / b for b in _STRENGTHS),
        tolerance=Tolerance("the density at the last node, 1e-16 below the top", relative=1e-13),
        labels=tuple(f"β={b:g}" for b in _STRENGTHS),
        test="simulations/test_samplers.py::test_the_chi_squared_rule_with_an_estimated_normaliser",
    ),
)
