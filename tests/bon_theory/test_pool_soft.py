"""Soft best-of-n from pools: all subsets, the pool drawn again, its law and its divergence."""

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy import special

import bon_theory as bt
from bon_theory import pools
from bon_theory.pools import Pool
from tests.oracles import subsets

TIED = [0.5, 0.0, 0.5, 1.0, 0.25, 1.0, 0.5]
TRUTH = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]


# --- soft best-of-n -------------------------------------------------------------------------------


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


# --- divergences ----------------------------------------------------------------------------------


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
