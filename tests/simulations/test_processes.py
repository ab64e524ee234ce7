"""The streaming processes against the obvious ones: every candidate at once, in NumPy.

Same words, by the library's generator; each candidate gets its outcome, reward, lot and score, and
the winner is found by sorting. Winners must be the same trial by trial, not in law only.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.random import threefry_2x32
from scipy import special, stats

from simulations.draws.alias import AliasTable
from simulations.draws.references import discrete_reference, gaussian_reward
from simulations.draws.words import derived_key, key_words
from simulations.selection import samplers
from simulations.selection.races import NO_DRAW, CandidateCount, Sampler

KEY = key_words(jax.random.key(11))
TRIALS = np.arange(40, 1040)
RNG = np.random.default_rng(3)
PROBS = RNG.dirichlet(np.ones(9))
MANY = RNG.dirichlet(np.full(100, 0.5))
REFERENCES = {
    "distinct": discrete_reference(PROBS, RNG.permutation(9)),
    "tied": discrete_reference(PROBS, RNG.integers(0, 4, 9)),
    "all tied": discrete_reference(PROBS, np.zeros(9)),
    "many, tied": discrete_reference(MANY, RNG.integers(0, 30, 100)),
}
NUMBERS = [1, 6, 37]


@jax.jit
def run(sampler: Sampler) -> jax.Array:
    return sampler(KEY, jnp.asarray(TRIALS, jnp.uint32))


def words(first: np.ndarray, second: np.ndarray, key=KEY) -> tuple[np.ndarray, np.ndarray]:
    """Both outputs of every counter (first, second), by the library."""
    shape = np.broadcast_shapes(first.shape, second.shape)
    counters = [np.broadcast_to(x, shape).astype(np.uint32).ravel() for x in (first, second)]
    flat = np.asarray(threefry_2x32(jnp.asarray(key), jnp.concatenate(counters)))
    left, right = np.split(flat, 2)
    return left.reshape(shape).astype(np.int64), right.reshape(shape).astype(np.int64)


def pair_words(n: int) -> np.ndarray:
    """Words of draws 0, …, n − 1 of a race by rank, ``[S, n]``."""
    pairs = words(TRIALS[:, None], np.arange((n + 1) // 2)[None, :])
    return np.stack(pairs, axis=-1).reshape(len(TRIALS), -1)[:, :n]


@pytest.mark.parametrize("n", NUMBERS)
@pytest.mark.parametrize("lowest", [False, True])
@pytest.mark.parametrize("name", REFERENCES)
def test_the_highest_rank_wins_and_ties_are_broken_by_lot(name, n, lowest):
    reference = REFERENCES[name]
    select = samplers.worst_of_n if lowest else samplers.best_of_n
    winners = run(select(reference, n))
    ours = np.asarray(reference.outcome(winners))

    # Every candidate: reward level, lot (its place within the level), and outcome within the level.
    drawn = pair_words(n)
    edges = np.concatenate([[0], np.asarray(reference.level_thresholds, np.int64), [2**32]])
    level = np.searchsorted(edges, drawn, side="right") - 1
    lot = (drawn - edges[level]) / np.diff(edges)[level]
    chooser, _ = words(TRIALS[:, None], drawn, derived_key(KEY))
    place = edges[level] + np.array(
        [[c * w >> 32 for c, w in zip(*row, strict=True)]
         for row in zip(chooser.tolist(), np.diff(edges)[level].tolist(), strict=True)]
    )  # fmt: skip
    outcome = np.asarray(reference.outcomes)[
        np.searchsorted(np.asarray(reference.thresholds, np.int64), place, side="right")
    ]
    sign = -1 if lowest else 1
    best = np.lexsort((sign * lot, sign * level), axis=1)[:, -1]
    np.testing.assert_array_equal(ours, outcome[np.arange(len(TRIALS)), best])


@pytest.mark.parametrize(
    "n", [n if n == 6 else pytest.param(n, marks=pytest.mark.slow) for n in NUMBERS]
)
@pytest.mark.parametrize("name", ["tied", "many, tied", "Gaussian"])
def test_the_highest_score_wins(name, n):
    reference = gaussian_reward() if name == "Gaussian" else REFERENCES[name]
    drawn, noise = words(TRIALS[:, None], np.arange(n)[None, :])
    rewards = np.asarray(reference.unordered().reward(jnp.asarray(drawn, jnp.uint32)), np.float64)
    rank = (noise + 0.5) / 2**32
    minus_log = -np.log(rank)
    student_t2 = partial(samplers.noisy_best_of_n, noise="student_t2")
    for select, scores in (
        (samplers.soft_best_of_n, rewards / 0.7 - np.log(minus_log)),
        (samplers.exponential_clocks, rewards / 0.7 - np.log(minus_log)),
        (samplers.exponential_race, rewards / 0.7 + minus_log),
        (samplers.noisy_best_of_n, rewards / 0.7 + special.ndtri(rank)),
        (student_t2, rewards / 0.7 + stats.t(2).ppf(rank)),
    ):
        ours = np.asarray(run(select(reference, n, 0.7)))
        ordered = np.sort(scores, axis=1)
        clear = np.ones(len(TRIALS), bool) if n == 1 else np.diff(ordered)[:, -1] > 1e-4
        exact = drawn[np.arange(len(TRIALS)), np.argmax(scores, axis=1)]
        assert clear.mean() > 0.99  # float32 scores may swap two that are closer than that
        np.testing.assert_array_equal(ours[clear], exact[clear])


def test_random_numbers_of_candidates():
    """Draws beyond a trial's own number do not count."""
    race = samplers.best_of_poisson(gaussian_reward(), 6.0)
    counts = np.asarray(race.count.draw(KEY, jnp.asarray(TRIALS, jnp.uint32)))
    assert counts.min() == 1
    assert counts.max() > 10
    drawn = np.where(np.arange(40) < counts[:, None], pair_words(40), -1)
    winners = np.asarray(run(race))
    np.testing.assert_array_equal(winners, drawn.max(axis=1))


def test_the_first_accepted_candidate_wins():
    tilt = samplers.exponential_tilt(REFERENCES["distinct"], 3.0)
    drawn, noise = words(TRIALS[:, None], np.arange(200)[None, :])
    rewards = np.asarray(tilt.reference.reward(jnp.asarray(drawn, jnp.uint32)), np.float64)
    accepted = -np.log((noise + 0.5) / 2**32) >= (8 - rewards) / 3.0
    assert accepted.any(axis=1).all()
    winners = np.asarray(run(tilt))
    np.testing.assert_array_equal(winners, drawn[np.arange(len(TRIALS)), accepted.argmax(axis=1)])


def test_an_alias_table_has_exactly_the_words_it_was_given():
    """Counted over whole columns: every word that is not at a split, by its column's two cells."""
    rng = np.random.default_rng(0)
    for size in (40, 64, 257):
        reference = discrete_reference(rng.dirichlet(np.full(size, 0.3)), np.arange(size))
        table = reference.unordered()
        assert isinstance(table, AliasTable)
        columns = table.splits.size
        capacity = 2**32 // columns
        owner, alias = np.asarray(table.outcomes, np.int64).reshape(-1, 2).T
        split = np.asarray(table.splits, np.int64) * capacity // 2**32
        masses = np.bincount(owner, split, minlength=size)
        masses += np.bincount(alias, capacity - split, minlength=size)
        np.testing.assert_array_equal(masses / 2**32, reference.drawn_probs())
        # And the look-up agrees with the table on both sides of each split.
        first = np.arange(columns) * capacity
        inside = split > 0
        for place, holder in ((split - 1, owner), (split, alias)):
            there = jnp.asarray((first + np.minimum(place, capacity - 1))[inside], jnp.uint32)
            np.testing.assert_array_equal(np.asarray(table.outcome(there)), holder[inside])


def test_of_equal_scores_the_earliest_wins():
    """The documented rule of races that share candidates: with all tied, the first draw is kept."""
    first, _ = words(TRIALS, np.zeros_like(TRIALS))
    race = samplers.best_of_n(REFERENCES["all tied"], 4, shared=True)
    np.testing.assert_array_equal(np.asarray(run(race)), first)


def test_a_word_on_a_threshold_is_past_it():
    """The number is 1 plus the thresholds at or below the trial's word, of its last counter."""
    trial = jnp.asarray(TRIALS[:1], jnp.uint32)
    word = int(words(TRIALS[:1], np.array([NO_DRAW]))[0][0])
    for threshold, number in ((word, 2), (word + 1, 1)):
        count = CandidateCount(jnp.int32(1), jnp.asarray([threshold], jnp.uint32))
        assert np.asarray(count.draw(KEY, trial)).tolist() == [number]
