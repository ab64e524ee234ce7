"""Votes among answers: all subsets, ties shared evenly; repeated scores and lengths."""

import math
from fractions import Fraction

import jax
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bon_theory import pools
from bon_theory.pools import Pool
from tests.oracles import subsets

# --- votes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ["aabbbcd", "aaaa", "abcabc", "bcd", "aabbcc"])
def test_a_majority_is_that_of_all_subsets(row: str) -> None:
    found = pools.majority_curve([list(row)], ["a"]).mean
    expected = [float(subsets.majority(row, "a", n)) for n in range(1, len(row) + 1)]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_a_majority_of_hundreds_does_not_overflow() -> None:
    """Two answers of 500 votes each: by symmetry one half, at every n."""
    found = pools.majority_curve([["a"] * 500 + ["b"] * 500], ["a"], n=[1, 100, 101]).mean
    np.testing.assert_allclose(found, 0.5, rtol=1e-10)


def test_votes_by_scores_on_the_whole_pool_need_no_luck() -> None:
    """At n = N there is one subset: sums of scores, or of the chance of being best of m."""
    answers, scores = [list("aabbbc")] * 2, [[3.0, 3.0, 1.0, 2.0, 2.5, 3.0]] * 2
    sums = {"a": 6.0, "b": 5.5, "c": 3.0}
    curve = pools.sampled_vote_curve(
        jax.random.key(0), answers, ["a", "b"], scores, n=6, num_subsets=3
    )
    assert curve.per_prompt.tolist() == [[1.0], [0.0]]
    assert max(sums, key=lambda a: sums[a]) == "a"
    share = {a: subsets.best_of_n(scores[0], 2, [x == a for x in answers[0]]) for a in "abc"}
    bests = pools.sampled_vote_curve(jax.random.key(0), answers, ["a", "b"], scores, n=6, best_of=2)
    winner = max(share, key=lambda a: share[a])
    assert bests.per_prompt[:, 0].tolist() == [float(winner == a) for a in "ab"]
    tied = pools.sampled_vote_curve(jax.random.key(0), [list("ab")], ["a"], [[0.1 + 0.2, 0.3]], n=2)
    assert tied.mean == [0.5]


def test_equal_scores_vote_as_a_majority() -> None:
    row = list("aabbbcd")
    sampled = pools.sampled_vote_curve(
        jax.random.key(0), [row], ["a"], [[1.0] * 7], n=[3, 5], num_subsets=4000
    )
    exact = pools.majority_curve([row], ["a"], n=[3, 5])
    np.testing.assert_allclose(sampled.mean, exact.mean, atol=5 / (2 * math.sqrt(4000)))


TENTHS = st.lists(st.tuples(st.sampled_from("abcd"), st.integers(-3, 5)), min_size=1, max_size=9)


@given(votes=TENTHS, right=st.sampled_from("abx"))
@example(votes=[(a, 2) for a in "aabbccddabcd"], right="a")
@example(votes=[("a", 3), ("b", 1), ("b", 2), ("c", -1), ("a", 0)], right="a")
def test_a_weighted_vote_is_that_of_all_subsets(votes: list[tuple[str, int]], right: str) -> None:
    """Tenths, whose sums as floats are not those of the decimals: equal is equal to rounding."""
    row, tenths = [a for a, _ in votes], [w for _, w in votes]
    found = pools.weighted_vote_curve([row], [right], [[w / 10 for w in tenths]]).mean
    exact = [Fraction(w, 10) for w in tenths]
    expected = [float(subsets.weighted_vote(row, exact, right, n)) for n in range(1, len(row) + 1)]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_a_weighted_vote_of_twelve_real_scores_is_that_of_all_subsets() -> None:
    scores = np.random.default_rng(1).normal(1, 1, size=12)
    row = list("aaaabbbbccde")
    found = pools.weighted_vote_curve([row], ["a"], [scores]).mean
    exact = [Fraction(x) for x in scores.tolist()]
    expected = [float(subsets.weighted_vote(row, exact, "a", n)) for n in range(1, 13)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_weighted_vote_of_hundreds_is_that_of_random_subsets() -> None:
    """Three hundred answers with grades from 1 to 10; equal grades are a plain majority."""
    draws = np.random.default_rng(3)
    row = draws.choice(list("abcde"), p=[0.3, 0.3, 0.2, 0.1, 0.1], size=300).tolist()
    grades = draws.integers(1, 11, 300) + 1.0 * (np.array(row) == "a")
    exact = pools.weighted_vote_curve([row], ["a"], [grades], n=[5, 32])
    sampled = pools.sampled_vote_curve(
        jax.random.key(0), [row], ["a"], [grades], n=[5, 32], num_subsets=3000
    )
    np.testing.assert_allclose(exact.mean, sampled.mean, atol=5 / (2 * math.sqrt(3000)))
    equal = pools.weighted_vote_curve([row], ["a"], [[2.0] * 300], n=[5, 32, 300])
    np.testing.assert_allclose(
        equal.mean, pools.majority_curve([row], ["a"], n=[5, 32, 300]).mean, rtol=1e-10
    )


# --- repeated scores, lengths ---------------------------------------------------------------------


def test_a_held_out_scoring_does_not_flatter() -> None:
    draws = np.random.default_rng(8)
    truth = draws.normal(size=(400, 16))
    scorings = [truth + draws.normal(size=truth.shape) for _ in range(3)]
    held_out = pools.held_out_curve(scorings, n=16)
    honest = [
        pools.best_of_n_curve(Pool.from_lists(s, true_scores=truth), n=16, of="true_scores").mean
        for s in scorings
    ]
    flattered = pools.best_of_n_curve(Pool.from_lists(scorings[0]), n=16).mean[0]
    error = held_out.per_prompt.std() / 20
    assert abs(float(held_out.mean[0]) - float(np.mean(honest))) < 5 * error < 0.3
    assert flattered - held_out.mean[0] > 0.8


def test_lengths_divide() -> None:
    rows = pools.length_normalised([[-6.0, -4.0], [2.0]], [[3, 4], [4]], exponent=0.5)
    np.testing.assert_allclose(rows[0], [-6 / math.sqrt(3), -2.0])
    assert rows[1].tolist() == [1.0]
