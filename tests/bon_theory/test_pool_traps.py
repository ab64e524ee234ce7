"""Estimators in circulation: where their numbers are right they are ours, and where not, why."""

import math

import jax
import numpy as np
import pytest

import bon_theory as bt
from bon_theory import pools
from bon_theory.pools import Pool
from tests.oracles import subsets

# --- what scorio 0.2.3 documents ------------------------------------------------------------------

RIGHT = [[0, 1, 1, 0, 1], [1, 1, 0, 1, 1]]
GRADES = [[0, 1, 2, 2, 1], [1, 1, 0, 2, 2]]  # worth 0, 1/2 and 1


def test_pass_at_k_and_its_all_right_counterpart_are_those_of_scorio() -> None:
    """``pass_at_k``: .7 and .95; ``pass_hat_k``, all of k right: .7 and .45, the worst of k."""
    np.testing.assert_allclose(pools.pass_at_k(Pool.from_lists(RIGHT), k=[1, 2]).mean, [0.7, 0.95])
    worst = -pools.best_of_n_curve(Pool.from_lists(-np.array(RIGHT)), n=[1, 2]).mean
    np.testing.assert_allclose(worst, [0.7, 0.45])


def test_max_at_k_is_that_of_scorio() -> None:
    """``max_at_k(R, 2, w=[0, .5, 1])``: .85; of right and wrong it is pass@k."""
    curve = pools.best_of_n_curve(Pool.from_lists(np.array(GRADES) / 2), n=2)
    assert curve.mean[0] == pytest.approx(0.85)


def test_a_majority_of_an_odd_number_is_that_of_scorio_and_of_an_even_one_shares_its_ties() -> None:
    """``maj_at_k``: .7, .45, .85. It counts a tie as lost, and takes wrong answers as one answer.

    With ties shared, two votes are worth what one is: .7 in place of .45.
    """
    answers = [["right" if x else "wrong" for x in row] for row in RIGHT]
    shared = pools.majority_curve(answers, ["right"] * 2, n=[1, 2, 3]).mean
    np.testing.assert_allclose(shared, [0.7, 0.7, 0.85])
    strict = [np.mean([math.comb(sum(row), 2) / math.comb(5, 2) for row in RIGHT])]
    np.testing.assert_allclose(strict, [0.45])


def test_votes_are_those_of_scorio() -> None:
    """``weighted_majority_vote``: A by .9 to .85; ``majority_of_the_bests``: A, where best is B."""
    answers, scores = [["A", "A", "A", "B"]], [[0.3, 0.3, 0.3, 0.85]]
    assert pools.weighted_vote_curve(answers, ["A"], scores, n=4).mean == 1
    answers, scores = [list("AAABBC")], [[0.5, 0.55, 0.6, 0.9, 0.4, 0.3]]
    key = jax.random.key(0)
    for wanted, by_bests in (("A", 1.0), ("B", 0.0)):
        bests = pools.sampled_vote_curve(key, answers, [wanted], scores, n=6, best_of=2)
        assert bests.mean == by_bests
    is_b = [[answer == "B" for answer in answers[0]]]
    of_all = pools.best_of_n_curve(Pool.from_lists(scores, true_scores=is_b), n=6, of="true_scores")
    assert of_all.mean == 1


def test_the_first_of_the_tied_is_a_matter_of_the_file() -> None:
    """scorio's ``best_of_n`` takes the tied answer of the lowest index: here 1, or 0 turned round.

    Whoever wrote the file decides; all orders of the tied are equally likely in truth.
    """
    scores, right = [0.9, 0.9, 0.1], [1.0, 0.0, 0.0]
    for turn in (slice(None), slice(None, None, -1)):
        pool = Pool.from_lists([scores[turn]], true_scores=[right[turn]])
        assert pools.best_of_n_curve(pool, n=3, of="true_scores").mean == 0.5
        assert right[turn][int(np.argmax(scores[turn]))] == (1.0 if turn == slice(None) else 0.0)


# --- traps ----------------------------------------------------------------------------------------


def test_with_replacement_is_biased_low() -> None:
    """Ten answers of which one is right: best of ten draws from the file misses it in a third."""
    scores = [1.0] + [0.0] * 9
    again = bt.expected_reward(bt.best_of_n(bt.Policy.from_samples(scores), 10))
    assert float(again) == pytest.approx(1 - 0.9**10)
    assert pools.best_of_n_curve(Pool.from_lists([scores]), n=10).mean == 1


def test_the_first_n_of_a_sorted_file_are_no_sample() -> None:
    """A file that is sorted by score, as many are: its first n give its worst, or its best."""
    scores = np.random.default_rng(0).normal(size=64)
    shuffled, ascending = (
        pools.best_of_n_curve(Pool.from_lists([row])).mean for row in (scores, np.sort(scores))
    )
    np.testing.assert_array_equal(shuffled, ascending)
    first = np.maximum.accumulate(np.sort(scores))[:8]
    assert np.all(ascending[:8] - first > 1.5)


def test_binomials_of_big_integers_do_not_fit_into_floats() -> None:
    """C(2000, 1000) is 2e600: as a float it is an error, and a sum of gammas loses digits."""
    size, n = 2000, 1000
    with pytest.raises(OverflowError):
        float(math.comb(size, n))
    found = pools.best_of_n_weights(size, [n])[0]
    exact = math.comb(size - 1, n - 1) / math.comb(size, n)  # of integers: correctly rounded
    assert found[-1] == exact
    third = math.comb(size - 3, n - 1) / math.comb(size, n)
    assert found[-3] == pytest.approx(third, rel=1e-15)


def test_gradients_of_pass_at_k_weigh_wrong_answers_too() -> None:
    """Weights that are pass@k of the whole prompt for all, or of the right ones alone, are biased.

    Of four answers, one right, with k = 2: the right one is in half of the pairs, a wrong one with
    it in a sixth. Without a baseline the weights sum to k times pass@k, as every pair counts twice.
    """
    weights = pools.gradient_weights([0, 1, 0, 0], n=2, baseline=False)
    np.testing.assert_allclose(weights, [1 / 6, 1 / 2, 1 / 6, 1 / 6])
    passed = pools.pass_at_k(Pool.from_lists([[0, 1, 0, 0]]), k=2).mean[0]
    assert weights.sum() == pytest.approx(2 * passed)
    expected = [float(x) for x in subsets.gradient([0, 1, 1, 0], 3, True)]
    np.testing.assert_allclose(pools.gradient_weights([0, 1, 1, 0], n=3), expected, atol=1e-16)
