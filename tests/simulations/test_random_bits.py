"""The random words: published vectors, the library's own generator, and the transforms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy import stats

from simulations.draws.words import derived_key, high_product, key_words, threefry_words
from simulations.statistics.checks import check_histogram

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


# A battery on the words as the engine reads them: neighbouring trials, draws and keys. Every test
# is on counts with a known law; all of them together raise a false alarm once in a million keys.

SIDE = 2**10
EVEN = np.full(256, 1 / 256)


def table(key: np.ndarray, trials: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """First words, one row per trial."""
    grid = np.meshgrid(trials.astype(np.uint32), draws.astype(np.uint32), indexing="ij")
    return np.asarray(threefry_words(jnp.asarray(key), *map(jnp.asarray, grid))[0])


def battery(words: np.ndarray, other: np.ndarray) -> dict[str, float]:
    """p-values of one table of words, and of it against the table of a neighbouring key."""
    pairs = {
        "draws": words[:, 1:] ^ words[:, :-1],
        "trials": words[1:] ^ words[:-1],
        "keys": words ^ other,
    }
    p_values = {}
    for name, values in {"words": words, **pairs}.items():
        flat = values.ravel()
        for byte in range(4):
            counts = np.bincount((flat >> np.uint32(8 * byte)) & np.uint32(255), minlength=256)
            p_values[f"byte {byte} of {name}"] = check_histogram("bytes", counts, EVEN).p_value
        ones = int(np.unpackbits(flat.view(np.uint8)).sum())
        p_values[f"ones of {name}"] = float(stats.binomtest(ones, 32 * flat.size).pvalue)
    # Birthdays: equal pairs among 2²⁰ words of 32 bits are Poisson, 128 expected.
    equal = words.size - np.unique(words).size
    chance = stats.poisson(words.size * (words.size - 1) / 2 / 2**32)
    p_values["birthdays"] = 2 * min(chance.cdf(equal), chance.sf(equal - 1))
    # Order of the maximum of a trial, which is what selection reads.
    places = np.bincount(np.argmax(words[:, :256], axis=1), minlength=256)
    p_values["place of the maximum"] = check_histogram("place", places, EVEN).p_value
    return p_values


@pytest.mark.parametrize("seed", range(3))
def test_the_words_pass_a_statistical_battery(seed):
    key = np.array([seed, 7 * seed], np.uint32)
    neighbour = key + np.array([0, 1], np.uint32)
    index = np.arange(SIDE)
    p_values = battery(table(key, index, index), table(neighbour, index, index))
    assert min(p_values.values()) > 1e-6 / (3 * len(p_values)), p_values


@pytest.mark.parametrize("kept", ["low bits of a counter", "a bit stuck", "trials repeat"])
def test_the_battery_sees_what_is_wrong(kept):
    index = np.arange(SIDE)
    words = table(np.array([1, 2], np.uint32), index, index)
    other = table(np.array([1, 3], np.uint32), index, index)
    if kept == "low bits of a counter":
        words = (words & np.uint32(0xFFFFFF00)) | index.astype(np.uint32) & np.uint32(255)
    elif kept == "a bit stuck":
        words = words | np.uint32(1)
    else:
        words = np.repeat(words[::2], 2, axis=0)
    p_values = battery(words, other)
    assert min(p_values.values()) < 1e-6 / (3 * len(p_values))


def test_one_bit_of_counter_or_key_changes_half_of_the_bits():
    """Avalanche, over every bit of key, trial and draw: 512 · 32 bits each, binomial."""
    rng = np.random.default_rng(0)
    start = [rng.integers(0, 2**32, 512, np.uint32) for _ in range(3)]

    @jax.jit
    def run(key: jax.Array, trial: jax.Array, draw: jax.Array) -> jax.Array:
        return threefry_words(jnp.stack([key, key ^ jnp.uint32(5)]), trial, draw)[0]

    for bit in np.uint32(1) << np.arange(32, dtype=np.uint32):
        for position in range(3):
            changed = list(start)
            changed[position] = changed[position] ^ bit
            flipped = np.asarray(run(*start)) ^ np.asarray(run(*changed))
            ones = int(np.unpackbits(flipped.view(np.uint8)).sum())
            assert stats.binomtest(ones, 32 * 512).pvalue > 1e-6 / 96


def test_the_derived_key_is_another_key():
    keys = [key_words(jax.random.key(seed)) for seed in range(50)]
    derived = {tuple(np.asarray(derived_key(key)).tolist()) for key in keys}
    assert len(derived) == 50
    assert not derived & {(0, seed) for seed in range(50)}
