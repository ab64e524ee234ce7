"""The margin of best-and-worst pairs by the real process: draw n, take the best and the worst."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from paper_repro.papers.bonbon_alignment.contrastive import (
    MEAN_CHECK,
    VARIANCE_CHECK,
    margin_moments,
)
from simulations.statistics.checks import Check, check_mean
from simulations.statistics.estimate import Estimate

N = 8
_CHUNK = 2**17
_PLANTED_FACTOR = 1.02

CHECK_NAMES = (MEAN_CHECK, VARIANCE_CHECK)


@dataclass(frozen=True)
class MarginChecks:
    """Checks of mean and variance at n = 8, and the same against wrong values.

    Attributes:
        checks: in the order of ``CHECK_NAMES``.
        planted: against the mean and the variance for n+1, and against 1.02 times the right ones.
    """

    checks: tuple[Check, ...]
    planted: tuple[Check, ...]


def run(key: Array, *, num_trials: int) -> MarginChecks:
    """Simulate pairs and check their margins; consumes ``key``.

    The variance is checked as the mean of squared distances from the exact mean, which the first
    check vouches for. Both are normal approximations at a million pairs or more; 2 % is 24 standard
    errors of the mean there, and 8 of the variance.
    """
    mean, variance = (float(moment) for moment in margin_moments(jnp.asarray(float(N))))
    margins = _simulate(key, num_trials)
    first = Estimate.from_values(margins)
    second = Estimate.from_values((margins - mean) ** 2)
    wrong_mean, wrong_variance = (float(x) for x in margin_moments(jnp.asarray(N + 1.0)))
    planted = [
        (f"{MEAN_CHECK} taken for n={N + 1}", first, wrong_mean),
        (f"{MEAN_CHECK} taken for {_PLANTED_FACTOR} times it", first, mean * _PLANTED_FACTOR),
        (f"{VARIANCE_CHECK} taken for n={N + 1}", second, wrong_variance),
        (
            f"{VARIANCE_CHECK} taken for {_PLANTED_FACTOR} times it",
            second,
            variance * _PLANTED_FACTOR,
        ),
    ]
    return MarginChecks(
        (check_mean(MEAN_CHECK, first, mean), check_mean(VARIANCE_CHECK, second, variance)),
        tuple(check_mean(name, estimate, value) for name, estimate, value in planted),
    )


def _simulate(key: Array, num_trials: int) -> np.ndarray:
    """``[S]`` margins (n−1)·log(U_(n)/U_(1)) of n uniform draws each."""
    num_chunks = -(-num_trials // _CHUNK)
    chunks = [_margins(chunk_key) for chunk_key in jax.random.split(key, num_chunks)]
    return np.concatenate(chunks)[:num_trials]


@jax.jit
def _margins(key: Array) -> Array:
    # −log U drawn as Exp(1): the smallest U, on which the margin turns, keeps its digits.
    surprise = jax.random.exponential(key, (_CHUNK, N), jnp.float64)
    return (N - 1) * (jnp.max(surprise, axis=1) - jnp.min(surprise, axis=1))
