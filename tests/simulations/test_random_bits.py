"""The random words: published vectors, the library's own generator, and the transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32

from simulations.random_bits import high_product, key_words, threefry_words

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


def test_high_product_is_the_integer_product():
    rng = np.random.default_rng(0)
    extreme = np.array([0, 1, 2**16 - 1, 2**16, 2**31, 2**32 - 1], np.uint64)
    word, last = np.meshgrid(
        np.concatenate([extreme, rng.integers(0, 2**32, 300, np.uint64)]),
        np.concatenate([extreme, rng.integers(0, 2**32, 300, np.uint64)]),
    )
    exact = [
        [int(w) * (int(m) + 1) >> 32 for w, m in zip(*row, strict=True)]
        for row in zip(word, last, strict=True)
    ]
    ours = high_product(jnp.asarray(word, jnp.uint32), jnp.asarray(last, jnp.uint32))
    assert np.array_equal(np.asarray(ours, np.uint64), np.array(exact, np.uint64))
