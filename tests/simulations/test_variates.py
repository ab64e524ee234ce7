"""The transforms of words, against SciPy in float64 at every kind of word."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from simulations.draws.variates import (
    exponential,
    exponential_quantile,
    gaussian_quantile,
    gumbel,
    unit_interval,
)

# Both ends, the median and around it, all powers of two and whatever lies between.
WORDS = np.concatenate(
    [
        np.arange(500),
        2**32 - 1 - np.arange(500),
        2**31 + np.arange(-500, 500),
        2 ** np.arange(32),
        np.random.default_rng(0).integers(0, 2**32, 100_000),
        np.random.default_rng(1).integers(int(0.38 * 2**32), int(0.62 * 2**32), 20_000),
    ]
).astype(np.uint32)
RANK, SURVIVAL = (WORDS + 0.5) / 2**32, (2.0**32 - 1 - WORDS + 0.5) / 2**32
MINUS_LOG = -np.where(RANK < 0.5, np.log(RANK), np.log1p(-SURVIVAL))


def of_rank(quantile):
    return lambda words: quantile(unit_interval(words), unit_interval(~words))


# Each with the absolute error that it may have where 1e-6 of its value is less.
TRANSFORMS = {
    "unit interval": (unit_interval, RANK, 0),
    "exponential": (exponential, MINUS_LOG, 0),
    "Gumbel": (gumbel, -np.log(MINUS_LOG), 1e-6),
    "exponential quantile": (
        of_rank(exponential_quantile),
        -np.where(RANK < 0.5, np.log1p(-RANK), np.log(SURVIVAL)),
        0,
    ),
    "Gaussian quantile": (
        of_rank(gaussian_quantile),
        np.where(RANK < 0.5, special.ndtri(RANK), -special.ndtri(SURVIVAL)),
        1e-7,
    ),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["by operation", "compiled"])
@pytest.mark.parametrize(("transform", "exact", "least"), TRANSFORMS.values(), ids=TRANSFORMS)
def test_transforms_are_accurate_at_every_word(transform, exact, least, compiled):
    transform = jax.jit(transform) if compiled else transform
    ours = np.asarray(transform(jnp.asarray(WORDS)), np.float64)
    # A dozen roundings of 2⁻²⁴ and fits to 4e-7.
    assert np.max(np.abs(ours - exact) / np.maximum(1e-6 * np.abs(exact), least)) <= 1


def test_the_earliest_clocks_keep_their_relative_accuracy():
    """They decide who wins among many candidates."""
    early = WORDS >= 2**32 - 500
    ours = np.asarray(exponential(jnp.asarray(WORDS[early])), np.float64)
    np.testing.assert_allclose(ours, MINUS_LOG[early], rtol=3e-7)
    assert len(np.unique(ours)) == len(np.unique(WORDS[early]))
