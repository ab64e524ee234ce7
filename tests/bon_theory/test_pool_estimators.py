"""What pools estimate beside the curve: soft selection, divergences, votes, fits and choices."""

import math
from fractions import Fraction
from typing import Any

import jax
import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import special, stats

import bon_theory as bt
from bon_theory import pools
from bon_theory.pools import Pool
from tests.oracles import subsets

TIED = [0.5, 0.0, 0.5, 1.0, 0.25, 1.0, 0.5]
TRUTH = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]
KEY = jax.random.key(0)
SLOW = pytest.mark.slow


# --- soft best-of-n ------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.002, 0.05, 0.7, 300.0])
def test_soft_best_of_n_is_the_mean_over_all_subsets(temperature: float) -> None:
    """Prompts of unequal length, with ties, in one call; to 1e-12 as the task of pools asks."""
    lists, n = [TIED, TIED[:4], [0.3] * 5], [1, 2, 4]
    truths = [TRUTH, TRUTH[:4], TRUTH[:5]]
    pool = Pool.from_lists(lists, true_scores=truths)
    found = pools.soft_best_of_n_curve(pool, n=n, temperature=temperature, of="true_scores")
    expected = [
        [subsets.soft_best_of_n(x, k, temperature, g) for k in n]
        for x, g in zip(lists, truths, strict=True)
    ]
    np.testing.assert_allclose(found.per_prompt, expected, rtol=1e-12)


def test_all_of_twelve_answers() -> None:
    draws = np.random.default_rng(4).normal(size=12)
    n = np.arange(1, 13)
    found = pools.soft_best_of_n_curve(Pool.from_lists([draws]), n=n, temperature=[0.3]).mean
    expected = [subsets.soft_best_of_n(draws.tolist(), k, 0.3, draws.tolist()) for k in n.tolist()]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_of_hundreds_all_and_all_but_one_are_softmax_itself(temperature: float) -> None:
    """Subsets of N and of N − 1 answers can be gone through at any N."""
    scores = np.random.default_rng(0).normal(size=300)

    def softmax(x: np.ndarray) -> float:
        return float(special.softmax(x / temperature) @ x)

    pool = Pool.from_lists([scores])
    found = pools.soft_best_of_n_curve(pool, n=[1, 299, 300], temperature=temperature).mean
    left_out = float(np.mean([softmax(np.delete(scores, i)) for i in range(300)]))
    np.testing.assert_allclose(found[1:], [left_out, softmax(scores)], rtol=1e-12)
    assert found[0] == pytest.approx(scores.mean(), abs=1e-13)


def test_drawn_again_and_with_its_bias_taken_off() -> None:
    pool = Pool.from_lists([TIED[:5]], true_scores=[TRUTH[:5]])
    options: dict[str, Any] = {"n": [1, 2, 3], "temperature": 0.4, "of": "true_scores"}
    whole = [subsets.soft_with_replacement(TIED[:5], n, 0.4, TRUTH[:5]) for n in (1, 2, 3)]
    found = pools.soft_best_of_n_curve(pool, **options, estimate="resampled").mean
    np.testing.assert_allclose(found, whole, rtol=1e-12)
    left = np.mean(
        [
            [
                subsets.soft_with_replacement(
                    TIED[:i] + TIED[i + 1 : 5], n, 0.4, TRUTH[:i] + TRUTH[i + 1 : 5]
                )
                for n in (1, 2, 3)
            ]
            for i in range(5)
        ],
        axis=0,
    )
    found = pools.soft_best_of_n_curve(pool, **options, estimate="jackknife").mean
    np.testing.assert_allclose(found, 5 * np.array(whole) - 4 * left, rtol=1e-12)


def test_drawn_again_it_is_the_law_of_the_library() -> None:
    scores = np.random.default_rng(2).normal(size=(2, 40))
    law = bt.soft_best_of_n(bt.Policy.from_samples(scores), 9.0, 0.3)
    found = pools.soft_best_of_n_curve(
        Pool.from_lists(scores), n=9, temperature=0.3, estimate="resampled"
    )
    np.testing.assert_allclose(found.per_prompt[:, 0], bt.expected_reward(law), rtol=1e-12)


def test_subsets_and_jackknife_are_less_biased_than_drawing_again() -> None:
    """Uniform scores, n = 8 of N = 16 at λ = 1/10: the law's own mean, four standard errors."""
    truth = float(bt.expected_reward(bt.soft_best_of_n(bt.Policy.uniform_reward(), 8.0, 0.1)))
    pool = Pool.from_lists(np.random.default_rng(0).uniform(size=(1000, 16)))
    bias, error = {}, 0.0
    for estimate in ("subsets", "jackknife", "resampled"):
        curve = pools.soft_best_of_n_curve(pool, n=8, temperature=0.1, estimate=estimate)
        error = curve.per_prompt.std() / math.sqrt(1000)
        bias[estimate] = abs(float(curve.mean[0]) - truth)
    assert bias["subsets"] < 4 * error < 0.5 * bias["resampled"]
    assert bias["jackknife"] < 0.5 * bias["resampled"]


def test_cold_and_hot_limits_are_best_of_n_and_the_mean() -> None:
    scores = np.random.default_rng(3).normal(size=(3, 30))
    pool = Pool.from_lists(scores)
    cold, hot = (
        pools.soft_best_of_n_curve(pool, n=[4, 30], temperature=t).mean for t in (1e-5, 1e9)
    )
    np.testing.assert_allclose(cold, pools.best_of_n_curve(pool, n=[4, 30]).mean, rtol=1e-4)
    np.testing.assert_allclose(hot, scores.mean(), rtol=1e-7)


@pytest.mark.parametrize("temperature", [0.002, 0.7])
def test_the_law_of_a_pool_is_that_of_all_draws(temperature: float) -> None:
    lists = [TIED[:5], TIED[3:6]]
    found = pools.soft_best_of_n_law(Pool.from_lists(lists), n=[1, 3], temperature=temperature)
    for row, scores in zip(found, lists, strict=True):
        for law, n in zip(row, (1, 3), strict=True):
            expected = subsets.soft_law(sorted(scores), n, temperature)
            np.testing.assert_allclose(law[: len(scores)], expected, rtol=1e-12, atol=1e-14)
            assert not law[len(scores) :].any()


@pytest.mark.parametrize(("ties", "share"), [("half", 0.5), ("win", 1.0), ("loss", 0.0)])
@pytest.mark.parametrize("temperature", [0.002, 0.7])
def test_a_soft_win_rate_is_that_over_all_choices(
    temperature: float, ties: Any, share: float
) -> None:
    """Prompts of unequal length; triples of ties, all tied, none tied."""
    lists = [[*TIED, 0.5], [0.3] * 6, [0.1, 0.4, 0.2, 0.9, 0.7]]
    n = [1, 2, 4]
    found = pools.win_rate_curve(
        Pool.from_lists(lists), n=n, temperature=temperature, ties=ties
    ).per_prompt
    expected = [[subsets.soft_win_rate(x, k, temperature, share) for k in n] for x in lists]
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_soft_win_rates_of_hundreds_lie_between_a_draw_and_the_best() -> None:
    """At n = N − 1 all subsets can be gone through; cold it is n/(n + 1), hot one half."""
    scores = np.random.default_rng(5).normal(size=120)
    pool = Pool.from_lists([scores])

    def won(other: int) -> float:
        rest = np.delete(scores, other)
        return float(special.softmax(rest / 0.5) @ (rest > scores[other]))

    found = pools.win_rate_curve(pool, n=[2, 119], temperature=0.5).mean
    assert found[1] == pytest.approx(np.mean([won(i) for i in range(120)]), rel=2e-11)
    assert 0.5 < found[0] < 2 / 3
    cold, hot = (pools.win_rate_curve(pool, n=8, temperature=t).mean for t in (1e-5, 1e9))
    np.testing.assert_allclose([cold[0], hot[0]], [8 / 9, 0.5], rtol=1e-6)


# --- ranks, win rates, variances, gradients --------------------------------------------------


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


# --- divergences ------------------------------------------------------------------------------


def test_the_divergence_of_known_probabilities_is_the_formula_over_subsets() -> None:
    log_probs = [-0.1, -3.0, -50.0, -2000.0]
    pool = Pool.from_lists([[1.0, 2.0, 3.0, 4.0]], log_probs=[log_probs])

    def formula(log_prob: float, n: int) -> float:
        with mpmath.workdps(1200):
            e = mpmath.exp(log_prob)
            none = (1 - e) ** n
            first = mpmath.log(n) + (n - 1) * mpmath.log(1 - e) - mpmath.mpf(n - 1) / n
            return float(none * first + (1 - none) * mpmath.log((1 - none) / e))

    found = pools.kl_curve(pool)
    for n, value in zip(found.n.tolist(), found.mean.tolist(), strict=True):
        values = [formula(x, n) for x in log_probs]
        expected = float(subsets.best_of_n([1.0, 2.0, 3.0, 4.0], n, values))
        assert value == pytest.approx(expected, rel=1e-12, abs=1e-14)
    assert "estimate" in found.label
    certain = Pool.from_lists([[1.0]], log_probs=[[0.0]])
    assert pools.kl_curve(certain).mean == [0.0]


def test_an_answer_that_is_all_but_certain_has_no_divergence() -> None:
    scores, log_probs = [[1.0, 2.0]], [[-1e-18, -1e-320]]  # warnings are errors here
    curve = pools.kl_curve(pools.Pool.from_lists(scores, log_probs=log_probs))
    np.testing.assert_allclose(curve.per_prompt, 0, atol=1e-15)


def test_without_log_probabilities_it_is_an_upper_bound_and_says_so() -> None:
    curve = pools.kl_curve(Pool.from_lists([TIED, TIED]), n=[1, 4])
    assert curve.label.startswith("upper bound")
    np.testing.assert_allclose(curve.mean, [0.0, math.log(4) - 0.75])


def test_the_divergence_is_estimated_from_above() -> None:
    """A model of ten answers, tie-free reward: the mean of the estimate is at least the KL."""
    draws = np.random.default_rng(1)
    p = draws.dirichlet(np.ones(10))
    answers = draws.choice(10, size=(2000, 6), p=p)
    pool = Pool.from_lists(answers, log_probs=np.log(p)[answers])
    curve = pools.kl_curve(pool, n=[2, 6])
    law = bt.Policy.from_probs(p, np.arange(10.0))
    for column, n in enumerate(curve.n):
        exact = float(bt.kl_divergence(bt.best_of_n(law, float(n)), law))
        error = curve.per_prompt[:, column].std() / math.sqrt(2000)
        assert exact - 4 * error < curve.mean[column] < math.log(n) - (n - 1) / n


def test_the_divergence_of_soft_best_of_n_needs_no_log_probabilities() -> None:
    """A model of seven answers, two of one reward; of 64 answers it is one or two per cent low."""
    draws = np.random.default_rng(2)
    p, rewards = draws.dirichlet(np.ones(7)), np.array([0.0, 1.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    answers = draws.choice(7, size=(2000, 64), p=p)
    pool, law = Pool.from_lists(rewards[answers]), bt.Policy.from_probs(p, rewards)
    curve = pools.kl_curve(pool, n=[2, 6], temperature=0.8)
    assert "estimate by the pool's own law" in curve.label
    for column, n in enumerate(curve.n):
        exact = float(bt.kl_divergence(bt.soft_best_of_n(law, float(n), 0.8), law))
        error = curve.per_prompt[:, column].std() / math.sqrt(2000)
        assert 0.98 * exact - 4 * error < curve.mean[column] < exact + 4 * error
        assert 4 * error < 0.011 * exact
        assert exact < 0.7 * (math.log(n) - (n - 1) / n)  # the bound says less


def test_the_divergence_of_a_pool_is_that_of_its_law() -> None:
    """As the library's own law of the same outcomes; cold, it is nearly that of best-of-n."""
    scores = np.random.default_rng(6).normal(size=(3, 50))
    policy = bt.Policy.from_samples(scores)
    found = pools.kl_curve(Pool.from_lists(scores), n=[1, 9], temperature=0.3).per_prompt
    expected = bt.kl_divergence(bt.soft_best_of_n(policy, 9.0, 0.3), policy)
    np.testing.assert_allclose(found[:, 1], expected, rtol=1e-11)
    np.testing.assert_allclose(found[:, 0], 0, atol=1e-12)
    cold = pools.kl_curve(Pool.from_lists(scores), n=9, temperature=1e-6).mean[0]
    assert 0 < math.log(9) - 8 / 9 - cold < 0.002


# --- votes ------------------------------------------------------------------------------------


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
    curve = pools.sampled_vote_curve(KEY, answers, ["a", "b"], scores, n=6, num_subsets=3)
    assert curve.per_prompt.tolist() == [[1.0], [0.0]]
    assert max(sums, key=lambda a: sums[a]) == "a"
    share = {a: subsets.best_of_n(scores[0], 2, [x == a for x in answers[0]]) for a in "abc"}
    bests = pools.sampled_vote_curve(KEY, answers, ["a", "b"], scores, n=6, best_of=2)
    winner = max(share, key=lambda a: share[a])
    assert bests.per_prompt[:, 0].tolist() == [float(winner == a) for a in "ab"]
    tied = pools.sampled_vote_curve(KEY, [list("ab")], ["a"], [[0.1 + 0.2, 0.3]], n=2)
    assert tied.mean == [0.5]


def test_equal_scores_vote_as_a_majority() -> None:
    row = list("aabbbcd")
    sampled = pools.sampled_vote_curve(KEY, [row], ["a"], [[1.0] * 7], n=[3, 5], num_subsets=4000)
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
    sampled = pools.sampled_vote_curve(KEY, [row], ["a"], [grades], n=[5, 32], num_subsets=3000)
    np.testing.assert_allclose(exact.mean, sampled.mean, atol=5 / (2 * math.sqrt(3000)))
    equal = pools.weighted_vote_curve([row], ["a"], [[2.0] * 300], n=[5, 32, 300])
    np.testing.assert_allclose(
        equal.mean, pools.majority_curve([row], ["a"], n=[5, 32, 300]).mean, rtol=1e-10
    )


# --- repeated scores, lengths -----------------------------------------------------------------


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


# --- fits -------------------------------------------------------------------------------------


def test_the_fit_of_difficulty_is_the_likeliest_and_covers() -> None:
    """Beta(0.4, 1.5): its logarithms within 1.96 errors in 95 % of 150 data sets."""
    draws, hits, p = np.random.default_rng(2), [], np.zeros(0)
    for _ in range(150):
        p = draws.beta(0.4, 1.5, size=(300, 1))
        fit = pools.fit_coverage(Pool.from_lists(draws.uniform(size=(300, 24)) < p))
        hits.append(abs(math.log(fit.a / 0.4)) < 1.96 * fit.a_error)
        hits.append(abs(math.log(fit.b / 1.5)) < 1.96 * fit.b_error)
    assert 0.91 < np.mean(hits) < 0.99
    data = Pool.from_lists(draws.uniform(size=(300, 24)) < p)
    fit = pools.fit_coverage(data)
    counts = data.scores.sum(axis=1)
    best = stats.betabinom.logpmf(counts, 24, fit.a, fit.b).sum()
    assert best == pytest.approx(fit.log_likelihood, rel=1e-9)
    for a, b in ((1.05, 1), (0.95, 1), (1, 1.05), (1, 0.95)):
        assert stats.betabinom.logpmf(counts, 24, fit.a * a, fit.b * b).sum() < best


def test_errors_of_the_fit_of_difficulty_are_the_curvature_of_its_likelihood() -> None:
    draws = np.random.default_rng(4)
    data = Pool.from_lists(draws.uniform(size=(200, 24)) < draws.beta(0.4, 1.5, size=(200, 1)))
    fit, counts = pools.fit_coverage(data), data.scores.sum(axis=1)

    def loss(logs: np.ndarray) -> float:
        return -float(stats.betabinom.logpmf(counts, 24, *np.exp(logs)).sum())

    at, step = np.log([fit.a, fit.b]), 1e-3 * np.eye(2)
    curvature = [
        [
            (loss(at + u + v) - loss(at + u - v) - loss(at - u + v) + loss(at - u - v)) / 4e-6
            for v in step
        ]
        for u in step
    ]
    expected = np.sqrt(np.diag(np.linalg.inv(curvature)))
    np.testing.assert_allclose([fit.a_error, fit.b_error], expected, rtol=1e-3)


def test_coverage_beyond_the_pool_follows_the_law() -> None:
    exact = 1 - special.beta(0.3, 52) / special.beta(0.3, 2)
    assert pools.CoverageFit(0.3, 2, 0, 0, 0, 8).pass_at(50) == pytest.approx(exact)
    assert exact == pytest.approx(0.64269, abs=1e-5)


def test_a_planted_exponent_is_recovered_where_a_beta_law_misses_it() -> None:
    """Half of 800 prompts easy, half with the density p^(a-1) at 0: in 60 data sets a is covered.

    A Beta law of all prompts is off by more than a tenth, and at k = 10,000 the power is nearer.
    """
    draws, exponent, hits = np.random.default_rng(7), 0.6, []
    k, middle, fits = 10_000, [], []
    truth = 1 - 0.5 * math.exp(special.betaln(exponent, 1 + k) - special.betaln(exponent, 1))
    for _ in range(60):
        hard = draws.beta(exponent, 1.0, size=(800, 1))
        p = np.where(draws.uniform(size=(800, 1)) < 0.5, hard, draws.beta(20, 5, size=(800, 1)))
        pool = Pool.from_lists(draws.uniform(size=(800, 128)) < p)
        fit = pools.fit_tail(pool)
        hits.append(abs(fit.exponent - exponent) < 1.96 * fit.exponent_error)
        low, high = fit.interval(k)
        middle.append(low < truth < high)
        fits.append((fit.exponent, float(fit.pass_at(k)), pool))
    assert 0.86 < np.mean(hits) <= 1  # 95 %, less three errors of 60 data sets
    assert 0.86 < np.mean(middle) <= 1
    assert abs(np.mean([a for a, *_ in fits]) - exponent) < 0.03
    found, at_k, pool = fits[0]
    beta = pools.fit_coverage(pool)
    assert abs(beta.a - exponent) > 0.1 > abs(found - exponent)
    assert abs(at_k - truth) < abs(float(beta.pass_at(k)) - truth)
    assert "extrapolation beyond k = 128" in pools.fit_tail(pool).label
    assert "extrapolation beyond k = 128" in beta.label


@pytest.mark.parametrize("answers", [[[1] * 8] * 5, [[0, 1, 0, 1]] * 2, [[0] * 8, *[[1] * 8] * 4]])
def test_without_failures_there_is_no_tail(answers: Any) -> None:
    with pytest.raises(ValueError, match=r"no tail to fit|a tail takes at least 4 answers"):
        pools.fit_tail(Pool.from_lists(answers))


@pytest.mark.parametrize("answers", [[[1, 1], [1, 1]], [[0, 0], [0, 0]], [[0, 1]] * 40])
def test_prompts_that_fare_alike_have_no_fit(answers: Any) -> None:
    with pytest.raises(ValueError, match="scores must differ between prompts"):
        pools.fit_coverage(Pool.from_lists(answers))


@pytest.mark.parametrize("form", ["linear", "log"])
def test_a_fit_of_its_own_form_is_exact_and_peaks_there(form: Any) -> None:
    n = np.array([1, 2, 4, 16, 64, 256])
    d = np.sqrt(np.log(n) - (n - 1) / n)
    bend = d if form == "linear" else np.log(np.where(d > 0, d, 1))
    rows = [7 + d * (a - b * bend) for a, b in ((1.0, 0.3), (1.2, 0.5))]
    curve = pools.Curve(n, np.array(rows), np.full(2, 0.5))
    fit = pools.fit_peak(curve, form=form)
    assert (fit.alpha, fit.beta) == pytest.approx((1.1, 0.4))
    grid = np.linspace(1e-3, 8, 400_001)
    heights = grid * (1.1 - 0.4 * (grid if form == "linear" else np.log(grid)))
    assert fit.peak == pytest.approx(grid[heights.argmax()], abs=5e-5)
    assert fit.gain == pytest.approx(heights.max(), rel=1e-8)
    assert fit.residual < 1e-12
    np.testing.assert_allclose(fit.covariance, np.array([[0.01, 0.01], [0.01, 0.01]]), atol=1e-12)

    def top(a: float, b: float) -> np.ndarray:
        peak = a / (2 * b) if form == "linear" else math.exp(a / b - 1)
        return np.array([peak, peak * (a - b * (peak if form == "linear" else math.log(peak)))])

    slopes = [(top(1.1 + e, 0.4) - top(1.1 - e, 0.4)) / (2 * e) for e in (1e-5,)]
    slopes += [(top(1.1, 0.4 + e) - top(1.1, 0.4 - e)) / (2 * e) for e in (1e-5,)]
    errors = 0.1 * np.abs(slopes[0] + slopes[1])  # both coefficients move together
    np.testing.assert_allclose([fit.peak_error, fit.gain_error], errors, rtol=1e-6)


@pytest.mark.parametrize("form", ["linear", "log"])
def test_errors_of_a_peak_cover(form: Any) -> None:
    """Coefficients vary over prompts; the peak of their mean is covered in 93-97 % of 1,000."""
    draws, n = np.random.default_rng(5), np.array([1, 2, 8, 64])
    d = np.sqrt(np.log(n) - (n - 1) / n)
    bend = d if form == "linear" else np.log(np.where(d > 0, d, 1))
    peak = 1 / 0.8 if form == "linear" else math.exp(1 / 0.4 - 1)
    gain = peak / 2 if form == "linear" else 0.4 * peak
    hits = []
    for _ in range(1000):
        a, b = draws.normal(1, 0.3, (100, 1)), draws.normal(0.4, 0.05, (100, 1))
        curve = pools.Curve(n, d * (a - b * bend), np.full(100, 0.01))
        fit = pools.fit_peak(curve, form=form)
        hits += [abs(fit.peak - peak) < 1.96 * fit.peak_error]
        hits += [abs(fit.gain - gain) < 1.96 * fit.gain_error]
    assert 0.93 < np.mean(hits) < 0.97


def test_a_rising_curve_has_no_peak() -> None:
    pool = Pool.from_lists(np.random.default_rng(0).normal(size=(20, 16)) ** 3)
    fit = pools.fit_peak(pools.best_of_n_curve(pool))
    assert fit.peak == math.inf or fit.beta > 0


# --- choices and comparisons --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trials", "low", "high"), [(80, 0.86, 1.0), pytest.param(2000, 0.93, 0.97, marks=SLOW)]
)
def test_the_chosen_setting_is_judged_without_its_choice_and_its_regret_is_bounded(
    trials: int, low: float, high: float
) -> None:
    """Settings of known means: value and regret are inside as often as they say."""
    draws, means = np.random.default_rng(6), np.array([0.0, 0.10, 0.15, 0.12, 0.02])
    value, regret, optimism = [], [], []
    for trial in range(trials):
        rows = means + draws.normal(size=(60, 5)) + draws.normal(size=(60, 1))
        curve = pools.Curve(np.arange(1, 6), rows, np.full(60, 1 / 60))
        choice = pools.choose(jax.random.key(trial), curve)
        truth = np.mean(means[choice.by_half])
        value.append(choice.low <= truth <= choice.high)
        regret.append(choice.regret_low <= means.max() - truth <= choice.regret_high)
        optimism.append(curve.mean.max() - truth - (choice.value - truth))
    assert low < np.mean(value) <= high
    assert np.mean(regret) > low  # a band over all settings bounds more than the largest
    assert np.mean(optimism) > 0.05  # what judging with the data that chose would add


def test_a_clear_winner_is_chosen_everywhere_with_no_regret() -> None:
    draws = np.random.default_rng(0).normal(size=(40, 1)) + np.array([0.0, 1.0, 0.5])
    temperatures = np.array([1.0, 2.0, 3.0])
    curve = pools.Curve(np.full(3, 4), draws, np.full(40, 1 / 40), temperatures)
    choice = pools.choose(KEY, curve)
    assert (choice.index, choice.n, choice.temperature) == (1, 4, 2.0)
    assert choice.by_half.tolist() == [1] * 2
    assert choice.regret == choice.regret_high == 0.0
    assert choice.value == pytest.approx(draws[:, 1].mean())


def test_halves_that_agree_within_themselves_are_no_certainty() -> None:
    """Four or five prompts right or wrong: in a tenth of data sets each half agrees with itself."""
    draws = np.random.default_rng(0)
    for trial in range(40):
        rows = draws.integers(0, 2, size=(4 + trial % 2, 3)).astype(float)
        curve = pools.Curve(np.arange(1, 4), rows, np.full(len(rows), 1 / len(rows)))
        choice = pools.choose(jax.random.key(trial), curve)
        if 0 < choice.value < 1:  # prompts differ
            assert choice.high - choice.low > 0.5


def test_pairs_are_compared_prompt_by_prompt() -> None:
    """Two models that differ by 0.1 everywhere, on prompts that vary by 1: no doubt at all."""
    base = np.random.default_rng(9).normal(size=(30, 1)) + np.linspace(0, 1, 6)
    one, other = (pools.best_of_n_curve(Pool.from_lists(base + x), n=[1, 4]) for x in (0.1, 0.0))
    band = pools.normal_band(one - other)
    np.testing.assert_allclose(band.low, 0.1, rtol=1e-9)
    np.testing.assert_allclose(band.high, 0.1, rtol=1e-9)
    with pytest.raises(ValueError, match="same prompts and settings"):
        _ = one - pools.best_of_n_curve(Pool.from_lists(base), n=1)
    soft = pools.soft_best_of_n_curve(Pool.from_lists(base), n=[1, 4], temperature=1.0)
    with pytest.raises(ValueError, match="same temperatures"):
        _ = one - soft
    with pytest.raises(ValueError, match="same n and weights"):
        _ = one - pools.best_of_n_curve(Pool.from_lists(base), n=[1, 5])


def test_advice_is_met() -> None:
    """As many prompts, or answers, as advised make the interval as short as was asked."""
    draws = np.random.default_rng(10)

    def pool(num_prompts: int, num_answers: int) -> Pool:
        shifts = draws.normal(0, 0.05, size=(num_prompts, 1))
        return Pool.from_lists(shifts + draws.uniform(size=(num_prompts, num_answers)))

    asked = pools.advise(pool(400, 24), 0.006, n=4)
    assert asked.prompts_at_least < asked.prompts
    met = pools.advise(pool(asked.prompts, 24), 0.006, n=4).half_width_now
    assert met == pytest.approx(0.006, rel=0.12)
    more = pools.advise(pool(400, 24), 0.0062, n=4)
    assert 24 < more.answers < 400
    met = pools.advise(pool(400, int(more.answers)), 0.0062, n=4).half_width_now
    assert met == pytest.approx(0.0062, rel=0.12)
    assert pools.advise(pool(400, 24), 0.001, n=4).answers == math.inf


# --- bad input ----------------------------------------------------------------------------------

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
    "few": (lambda: pools.choose(KEY, pools.best_of_n_curve(POOL)), "at least 4 prompts, got 2"),
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
        lambda: pools.sampled_vote_curve(KEY, [["a"]], ["a"], [[1.0, 2.0]]),
        "scores of prompt 0 must be finite",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_by_name(what: str) -> None:
    call, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        call()
