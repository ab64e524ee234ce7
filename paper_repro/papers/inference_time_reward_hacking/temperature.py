"""Claims on tuning the temperature of soft best-of-n: what its derivative is and is not."""

from __future__ import annotations

from functools import cache, partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

import bon_theory as bt
from paper_repro.papers.claim import ABSTRACT, DERIVED, Claim, Tolerance

_claim = partial(
    Claim,
    paper="inference_time_reward_hacking",
    provenance=ABSTRACT,
    where="HedgeTune for soft best-of-n",
)
_CHECK = "soft_best_of_n(8, 0.2) on distinct rewards"
_PROBS = np.array([0.4, 0.3, 0.2, 0.1])
_PROXY = np.array([0.0, 0.4, 1.0, 1.7])
_TRUE = np.array([0.0, -0.6, 0.9, -0.6])
_CASES = ((2, 0.2), (2, 1.0), (4, 0.2), (4, 1.0))
_LABELS = tuple(f"n={n}, λ={t:g}" for n, t in _CASES)


@jax.jit
def _derivative(n: Array, inverse: Array) -> Array:
    """d/d(1/λ) of the mean true reward, by automatic differentiation of the exact law."""
    reference = bt.Policy.from_probs(jnp.asarray(_PROBS), jnp.asarray(_PROXY))
    return jax.grad(
        lambda x: bt.expected_value(bt.soft_best_of_n(reference, n, 1 / x), jnp.asarray(_TRUE))
    )(inverse)


def _batches(
    n: int, temperature: float
) -> tuple[NDArray[np.intp], NDArray[np.float64], NDArray[np.float64]]:
    """Every batch, its probability, and the softmax over it."""
    index = np.array(list(product(range(len(_PROBS)), repeat=n)))
    weights = np.exp((_PROXY[index] - _PROXY.max()) / temperature)
    return index, np.prod(_PROBS[index], axis=1), weights / weights.sum(axis=1, keepdims=True)


def _softmax_covariance(n: int, temperature: float) -> float:
    index, chance, picked = _batches(n, temperature)
    f, r = _TRUE[index], _PROXY[index]
    mean_f, mean_r = (np.sum(picked * x, axis=1, keepdims=True) for x in (f, r))
    return float(chance @ np.sum(picked * (f - mean_f) * (r - mean_r), axis=1))


def _marginal_covariance(n: int, temperature: float) -> float:
    index, chance, picked = _batches(n, temperature)
    law = np.bincount(index.ravel(), weights=(chance[:, None] * picked).ravel())
    return float(law @ (_TRUE * _PROXY) - (law @ _TRUE) * (law @ _PROXY))


def _tilt_covariance(temperature: float) -> float:
    law = _PROBS * np.exp(_PROXY / temperature)
    law /= law.sum()
    return float(law @ (_TRUE * _PROXY) - (law @ _TRUE) * (law @ _PROXY))


@cache
def _best_temperature() -> float:
    reference = bt.Policy.from_probs(jnp.asarray(_PROBS), jnp.asarray(_PROXY))
    return float(bt.hedge_temperature(reference, _TRUE, n=4).parameter)


CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="hacking/softmax-covariance",
        where="beside HedgeTune, for soft best-of-n",
        provenance=DERIVED,
        statement=(
            "The derivative of the mean true reward in 1/λ is the mean over batches of the "
            "covariance of true reward and proxy under the softmax. Expected: all Kⁿ batches."
        ),
        compute=lambda: [_derivative(jnp.asarray(float(n)), jnp.asarray(1 / t)) for n, t in _CASES],
        expected=tuple(_softmax_covariance(n, t) for n, t in _CASES),
        tolerance=Tolerance("an integral against a finite sum, in float64", relative=1e-11),
        labels=_LABELS,
        figure="hedging",
        test="bon_theory/test_hedging.py::test_the_derivative_is_the_mean_softmax_covariance_over_batches",
        checked_by=(_CHECK,),
    ),
    _claim(
        id="hacking/marginal-covariance",
        where="HedgeTune carried over to soft best-of-n",
        statement=(
            "The derivative in 1/λ is the covariance of true reward and proxy under the selected "
            "law P(n, λ) itself, as for a tilt."
        ),
        compute=lambda: [_derivative(jnp.asarray(float(n)), jnp.asarray(1 / t)) for n, t in _CASES],
        expected=tuple(_marginal_covariance(n, t) for n, t in _CASES),
        tolerance=Tolerance("an integral against a finite sum, in float64", relative=1e-11),
        labels=_LABELS,
        outside_scope=(
            "A surrogate in circulation; not known to be the paper's. It is right for the tilt, "
            "which P(n, λ) is at no finite n."
        ),
        consequence=(
            "Its zero is another temperature (at n = 4 about 1 instead of .17), which here loses "
            ".08 of true reward. The mean softmax covariance over batches is the derivative."
        ),
        figure="hedging",
        test="bon_theory/test_known_falsehoods.py::test_the_derivative_in_temperature_is_not_the_marginal_covariance",
        checked_by=(_CHECK,),
    ),
    _claim(
        id="hacking/stationarity-soft",
        where="beside HedgeTune, for soft best-of-n",
        provenance=DERIVED,
        statement="At the best temperature the mean softmax covariance vanishes; n = 4.",
        compute=lambda: _softmax_covariance(4, _best_temperature()),
        expected=0.0,
        tolerance=Tolerance("the optimum to rounding", absolute=1e-13),
        figure="hedging",
        test="bon_theory/test_hedging.py::test_a_marginal_covariance_would_choose_another_temperature",
        checked_by=(_CHECK,),
    ),
    _claim(
        id="hacking/softmax-covariance-limits",
        kind="asymptotic",
        where="beside HedgeTune, for soft best-of-n",
        provenance=DERIVED,
        statement=(
            "As n grows the two covariances agree, as they must: soft best-of-n tends to the "
            "tilt. Entries: ratio to the tilt's covariance at n = 10⁶."
        ),
        compute=lambda: [
            float(_derivative(jnp.asarray(1e6), jnp.asarray(1 / t))) / _tilt_covariance(t)
            for t in (0.2, 1.0)
        ],
        expected=(1.0, 1.0),
        tolerance=Tolerance("the gap is of the order of χ²/n", absolute=1e-3),
        labels=("λ=0.2", "λ=1"),
        test="bon_theory/test_hedging.py::test_the_derivative_is_the_mean_softmax_covariance_over_batches",
        checked_by=(_CHECK,),
    ),
)
