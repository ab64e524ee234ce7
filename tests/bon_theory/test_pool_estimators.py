"""Ranks, win rates between pools, variances and gradients; what all estimators refuse."""

import math
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats

from bon_theory import pools
from bon_theory.pools import Pool
from tests.oracles import subsets

TIED = [0.5, 0.0, 0.5, 1.0, 0.25, 1.0, 0.5]
TRUTH = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]


# --- ranks, win rates, variances, gradients -------------------------------------------------------


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_second_and_third_best_are_those_of_all_subsets(rank: int) -> None:
    pool = Pool.from_lists([TIED], true_scores=[TRUTH])
    found = pools.best_of_n_curve(pool, of="true_scores", rank=rank)
    expected = [float(subsets.ranked(TIED, n, rank, TRUTH)) for n in found.n.tolist()]
    np.testing.assert_allclose(found.mean, expected, rtol=1e-12)
    assert found.n[0] == rank
    top = pools.best_of_n_curve(pool, n=[3, 7], top=3, of="true_scores").mean
    each = [pools.best_of_n_curve(pool, n=[3, 7], rank=r, of="true_scores").mean for r in (1, 2, 3)]
    np.testing.assert_allclose(top, np.mean(each, axis=0))
    with pytest.raises(ValueError, match="n must be whole numbers of at least 3, got 2"):
        pools.best_of_n_curve(pool, n=2, rank=3)


def test_ranks_of_many_answers_keep_their_accuracy() -> None:
    """Of the ranks 1 … N the r-th best of n is (n + 1 − r)(N + 1)/(n + 1) on average."""
    size, n = 1_000_000, np.array([3, 1000, 999_999])
    found = pools.ranked_weights(size, n, 3) @ np.arange(1.0, size + 1)
    np.testing.assert_allclose(found, (n - 2) * (size + 1) / (n + 1), rtol=1e-9)


@pytest.mark.parametrize(("ties", "share"), [("half", (1, 2)), ("win", (1, 1)), ("loss", (0, 1))])
def test_two_pools_meet_in_all_pairs_of_subsets(ties: Any, share: tuple[int, int]) -> None:
    one, other = [0.0, 0.5, 0.5, 1.0], [0.5, 0.25, 1.0]
    found = pools.win_rate_between(
        Pool.from_lists([one, one]),
        Pool.from_lists([other, other[:2]]),
        n=[1, 3],
        opponent_n=2,
        ties=ties,
    )
    for row, theirs in zip(found.per_prompt, (other, other[:2]), strict=True):
        expected = [
            float(subsets.win_rate_between(one, n, theirs, 2, Fraction(*share))) for n in (1, 3)
        ]
        np.testing.assert_allclose(row, expected, rtol=1e-13)
    soft = pools.win_rate_between(
        Pool.from_lists([one]), Pool.from_lists([other]), n=3, temperature=0.3, ties=ties
    )
    beaten = [float(subsets.win_rate_between([x], 1, other, 1, Fraction(*share))) for x in one]
    assert soft.mean[0] == pytest.approx(subsets.soft_best_of_n(one, 3, 0.3, beaten), rel=1e-12)


@pytest.mark.parametrize("scores", [TIED, [1.0, 2.0, 4.0, 7.0, 11.0]])
def test_the_jackknife_leaves_every_answer_out_once(scores: list[float]) -> None:
    found = pools.jackknife_variance(Pool.from_lists([scores])).mean
    expected = [float(subsets.jackknife(scores, n)) for n in range(1, len(scores))]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("n", [2, 4, 7])
def test_weights_of_the_gradient_are_those_of_all_subsets(n: int, baseline: bool) -> None:
    found = pools.gradient_weights([TIED, TIED[::-1]], n=n, baseline=baseline)
    expected = [float(x) for x in subsets.gradient(TIED, n, baseline)]
    np.testing.assert_allclose(found, [expected, expected[::-1]], rtol=1e-12, atol=1e-16)


@pytest.mark.parametrize("baseline", [False, True])
def test_the_gradient_of_pass_at_k_is_unbiased(baseline: bool) -> None:
    """Bernoulli answers of probability p: the score is 1/p or −1/(1−p); d/dp 1 − (1−p)^k."""
    p, k, size = 0.3, 3, 6
    total = 0.0
    for right in range(size + 1):
        answers = np.array([1.0] * right + [0.0] * (size - right))
        score = np.where(answers == 1, 1 / p, -1 / (1 - p))
        gradient = pools.gradient_weights(answers, n=k, baseline=baseline) @ score
        total += stats.binom.pmf(right, size, p) * gradient
    assert total == pytest.approx(k * (1 - p) ** (k - 1), rel=1e-12)
    alone = pools.gradient_weights([1.0, 4.0], n=1, baseline=baseline)
    np.testing.assert_allclose(alone, [-1.5, 1.5] if baseline else [0.5, 2.0])


# --- bad input ------------------------------------------------------------------------------------


POOL = Pool.from_lists([TIED, TIED])
REFUSED: dict[str, tuple[Any, str]] = {
    "estimate": (
        lambda: pools.soft_best_of_n_curve(POOL, n=2, temperature=1.0, estimate="exact"),  # pyright: ignore[reportArgumentType]
        "estimate must be one of subsets, resampled, jackknife",
    ),
    "temperature": (
        lambda: pools.soft_best_of_n_curve(POOL, n=2, temperature=[0.0]),
        "temperature must be positive",
    ),
    "jackknife": (
        lambda: pools.soft_best_of_n_curve(POOL, n=7, temperature=1, estimate="jackknife"),
        "n must be at most 6",
    ),
    "log_probs": (lambda: Pool.from_lists([[1.0]], log_probs=[[0.5]]), "log_probs must be at most"),
    "lengths": (lambda: Pool.from_lists([[1.0]], log_probs=[[-1, -2]]), "log_probs must have the"),
    "opponent": (lambda: pools.win_rate_between(POOL, POOL.take([0])), "opponent must have"),
    "gradient": (lambda: pools.gradient_weights([1.0, 2.0], n=3), "n must be at most 2"),
    "scores": (lambda: pools.gradient_weights([math.nan], n=1), "scores must be finite"),
    "few": (
        lambda: pools.choose(jax.random.key(0), pools.best_of_n_curve(POOL)),
        "at least 4 prompts, got 2",
    ),
    "form": (lambda: pools.fit_peak(pools.best_of_n_curve(POOL), form="cubic"), "form must be"),  # pyright: ignore[reportArgumentType]
    "no base": (lambda: pools.fit_peak(pools.best_of_n_curve(POOL, n=[2, 3])), "must have n = 1"),
    "width": (lambda: pools.advise(POOL, 0.0, n=2), "half_width must be positive"),
    "scorings": (lambda: pools.held_out_curve([[TIED]]), "scorings must be at least 2"),
    "other scorings": (lambda: pools.held_out_curve([[[1, 2]], [[1]]]), "of the same answers"),
    "no length": (lambda: pools.length_normalised([[1.0]], [[0]]), "lengths of prompt 0"),
    "right": (lambda: pools.majority_curve([["a"]], []), "right must be one per prompt, 1, got 0"),
    "votes without scores": (
        lambda: pools.weighted_vote_curve([["a"]], ["a"], []),
        "scores must be one list per prompt",
    ),
    "too many sums": (
        lambda: pools.weighted_vote_curve([["a"] * 40], ["a"], [np.sqrt(np.arange(1, 41))]),
        "scores of prompt 0 have more sums than can be listed, 40 answers agree",
    ),
    "too many votes": (
        lambda: pools.weighted_vote_curve([["a"] * 1001], ["a"], [[1.0] * 1001]),
        "at most 1000",
    ),
    "vote scores": (
        lambda: pools.sampled_vote_curve(jax.random.key(0), [["a"]], ["a"], [[1.0, 2.0]]),
        "scores of prompt 0 must be finite",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_by_name(what: str) -> None:
    call, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        call()
