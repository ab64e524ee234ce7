"""The random words: published vectors, the library's own generator, and the transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

from simulations.random_bits import (
    exponential,
    gumbel,
    key_words,
    threefry_words,
    unit_interval,
)

# Random123's known-answer tests, threefry2x32 with 20 rounds: counter, key, result.
KNOWN_ANSWERS = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_published_vectors(counter, key, expected):
    words = threefry_words(jnp.uint32(key), jnp.uint32(counter[0]), jnp.uint32(counter[1]))
    assert tuple(int(word) for word in words) == expected


def test_bit_identical_to_the_library():
    words = key_words(jax.random.key(20_26))
    trial, draw = jnp.arange(1009, dtype=jnp.uint32), jnp.arange(7, 1016, dtype=jnp.uint32)
    ours = jnp.concatenate(threefry_words(words, trial, draw))
    assert jnp.array_equal(ours, threefry_2x32(words, jnp.concatenate([trial, draw])))


@pytest.mark.parametrize(
    "key",
    [jax.random.PRNGKey(0), jax.random.key(0, impl="rbg"), jax.random.split(jax.random.key(0))],
    ids=["untyped", "another generator", "several"],
)
def test_other_keys_are_refused(key):
    with pytest.raises(ValueError, match=r"key must be .*jax\.random\.key\(seed"):
        key_words(key)


WORDS = np.array([0, 1, 2, 1000, 2**20 + 1, 2**31, 2**32 - 1001, 2**32 - 2, 2**32 - 1], np.uint32)


@pytest.mark.parametrize(
    ("transform", "exact", "inaccurate_from"),
    [
        (unit_interval, lambda u: u, 9),
        # −log U is accurate for small U, −log(−log(1 − U)) too: the tails in which winners lie.
        (exponential, lambda u: -np.log(u), 6),
        (gumbel, lambda u: -np.log(-np.log1p(-u)), 6),
    ],
)
def test_transforms_are_accurate_in_the_tail_of_winners(transform, exact, inaccurate_from):
    u = (WORDS.astype(np.float64) + 0.5) / 2**32
    ours = np.asarray(transform(jnp.asarray(WORDS)), np.float64)
    reach = slice(0, inaccurate_from)
    # Two roundings of 2⁻²⁴ each, and the library's log within a few units in the last place.
    np.testing.assert_allclose(ours[reach], exact(u)[reach], rtol=1e-6)
    assert not np.any(np.isnan(ours))
