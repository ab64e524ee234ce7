"""The engine: counts depend on the seed and on nothing else, and memory not on trials or n."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from simulations.draws.references import discrete_reference, uniform_reward
from simulations.draws.words import key_words
from simulations.engine.accumulate import Schedule, _step, counted, moments, shape_in_tiles
from simulations.engine.simulate import Picks, simulate
from simulations.selection.samplers import (
    best_of_n,
    exponential_tilt,
    soft_best_of_n,
    win_rate_optimal,
)
from simulations.statistics.estimate import merge_moments

THREE = discrete_reference([0.5, 0.3, 0.2], [0.0, 0.5, 1.0])
SAMPLERS = {
    "race": soft_best_of_n(THREE, 5, 0.3),
    "random number of candidates": win_rate_optimal(uniform_reward(), 4.0),
    "rejection": exponential_tilt(THREE, 0.4),
}


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_any_chunk_size_gives_the_same_counts(sampler):
    whole, *others = (
        simulate(jax.random.key(3), sampler, num_trials=5003, schedule=Schedule(chunk_size=size))
        for size in (2**16, 1000, 617)
    )
    for other in others:
        np.testing.assert_array_equal(other.counts, whole.counts)
        # Moments are float32 within a tile of 256 trials.
        assert other.reward.mean == pytest.approx(whole.reward.mean, rel=1e-6)
        assert other.reward.std_error == pytest.approx(whole.reward.std_error, rel=1e-5)
        assert other.win_rate.mean == pytest.approx(whole.win_rate.mean, rel=1e-6)


def test_the_seed_decides():
    runs = [
        simulate(jax.random.key(seed), SAMPLERS["race"], num_trials=5003).counts
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.any(runs[0] != runs[2])


@pytest.mark.parametrize("num_outcomes", [1, 3, 257, 5000, 2**17])
def test_copies_of_the_counters_add_up(num_outcomes):
    rng = np.random.default_rng(0)
    outcomes = rng.integers(num_outcomes, size=4096)
    valid = np.arange(outcomes.size) < 3001
    found = counted(jnp.asarray(outcomes, jnp.int32), jnp.asarray(valid), num_outcomes)
    np.testing.assert_array_equal(found, np.bincount(outcomes[valid], minlength=num_outcomes))


@pytest.mark.parametrize("size", [256, 2**18, 2**18 + 512, 3 * 2**18 - 768])
def test_long_chunks_have_long_tiles(size):
    """At most 1024 of them, which give the moments of all trials together."""
    rng = np.random.default_rng(1)
    values = (5 + rng.normal(size=(2, size))).astype(np.float32)
    valid = np.arange(size) < size - 100
    parts = moments(jnp.asarray(values), jnp.asarray(valid))
    assert parts.shape == shape_in_tiles(2, size)
    assert parts.shape[-1] == min(size // 256, size // (256 * -(-size // 2**18))) <= 1024
    number, mean, squares = merge_moments(parts)
    kept = values[:, valid].astype(np.float64)
    assert number.tolist() == [size - 100] * 2
    np.testing.assert_allclose(mean, kept.mean(axis=1), rtol=1e-6)
    np.testing.assert_allclose(squares, kept.var(axis=1) * kept.shape[1], rtol=1e-5)


def test_golden_counts():
    """Published numbers must not move; selection by rank is integers, the same anywhere."""
    out = simulate(jax.random.key(0), best_of_n(THREE, 3), num_trials=1000)
    assert out.counts.tolist() == [130, 387, 483]
    assert out.num_trials == 1000


@pytest.mark.parametrize("sampler", SAMPLERS.values(), ids=SAMPLERS)
def test_a_longer_run_continues_a_shorter_one(sampler):
    """Trial s is the same trial in every run: 300 trials from 512 on, alone or within 1000."""
    words = key_words(jax.random.key(0))
    whole = sampler(words, jnp.arange(1000, dtype=jnp.uint32))
    part = sampler(words, jnp.arange(512, 812, dtype=jnp.uint32))
    assert jnp.array_equal(whole[512:812], part)


@pytest.mark.parametrize("sampler", [best_of_n(THREE, 10**6), soft_best_of_n(THREE, 10**6, 0.3)])
def test_memory_does_not_grow_with_candidates_or_trials(sampler):
    """Per trial in flight, 16 scores as they are read and written, and a few words."""
    size = 2**14
    mesh = jax.sharding.Mesh(jax.devices(), ("trials",))
    tally = Picks(sampler)
    arguments = (key_words(jax.random.key(0)), tally, jnp.uint32(0), jnp.uint32(2**20))
    program: Any = _step  # pyright does not see the methods of a jitted function
    shapes = {"chunk_size": size, "moments_shape": (1, *tally.moments_shape(size))}
    compiled = program.lower(*arguments, mesh=mesh, **shapes).compile()
    numbers = compiled.memory_analysis().temp_size_in_bytes / 4 / size
    assert numbers <= 2 * 16 + 8
    # By what it says a chunk is chosen that fits a core's cache.
    assert numbers / 2 <= tally.numbers_per_trial <= 2 * numbers


def test_one_program_serves_every_number_of_candidates():
    program: Any = _step
    simulate(jax.random.key(1), best_of_n(THREE, 100), num_trials=37)
    before = program._cache_size()
    for n in (9, 16, 100_000):
        simulate(jax.random.key(1), best_of_n(THREE, n), num_trials=37)
    assert program._cache_size() == before


def test_runs_shorter_than_a_chunk_share_their_programs():
    program: Any = _step
    simulate(jax.random.key(1), best_of_n(THREE, 5), num_trials=600)
    before = program._cache_size()
    for num_trials in (513, 900, 1024):
        simulate(jax.random.key(1), best_of_n(THREE, 5), num_trials=num_trials)
    assert program._cache_size() == before
    simulate(jax.random.key(1), best_of_n(THREE, 5), num_trials=1025)
    assert program._cache_size() == before + 1


def test_many_candidates_find_the_rare_outcome():
    # Missed by all 10⁵ candidates of any of 37 trials with probability 37·e^{−100}.
    rare = discrete_reference([0.999, 0.001], [0.0, 1.0])
    assert simulate(jax.random.key(2), best_of_n(rare, 10**5), num_trials=37).counts[1] == 37


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_trials": 0}, r"num_trials must be a whole number in \[1, 4294967295\], got 0"),
        ({"num_trials": 2**32}, "num_trials must be a whole number"),
        ({"num_trials": -1}, "got -1: merge runs of several keys"),
        ({"num_trials": 10.5}, r"got 10\.5"),
        ({"num_trials": float("nan")}, "num_trials must be a whole number .*, got nan"),
        ({"num_trials": "a"}, "num_trials must be a whole number .*, got 'a'"),
        ({"num_trials": True}, "num_trials must be a whole number .*, got True"),
        (
            {"num_trials": 10, "schedule": Schedule(chunk_size=-1)},
            "chunk_size must be a whole number",
        ),
        (
            {"num_trials": 10, "schedule": Schedule(mesh=jax.devices())},  # pyright: ignore
            r"mesh must be a jax\.sharding\.Mesh, got \[",
        ),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        simulate(jax.random.key(0), SAMPLERS["race"], **arguments)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (lambda: jax.random.PRNGKey(0), r"one typed key, got uint32\[2\]: make it by jax\.random"),
        (lambda: 0, "one typed key, got 0: make it"),
        (lambda: jax.random.split(jax.random.key(0)), r"one typed key, got key<fry>\[2\]"),
        (lambda: jax.random.key(0, impl="rbg"), "must be a threefry2x32 key, got .*rbg"),
    ],
    ids=["raw", "number", "several", "another generator"],
)
def test_a_key_of_the_wrong_kind_is_refused(key, message):
    with pytest.raises(ValueError, match=message):
        simulate(key(), SAMPLERS["race"], num_trials=1)
