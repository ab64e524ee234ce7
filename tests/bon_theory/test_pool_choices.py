"""Settings chosen and judged by different prompts, paired comparisons, advice."""

import itertools
import math

import jax
import numpy as np
import pytest
from scipy import stats

from bon_theory import pools
from bon_theory.pools import Pool

SLOW = pytest.mark.slow


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
    choice = pools.choose(jax.random.key(0), curve)
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


@pytest.mark.parametrize(("size", "level"), [(3, 0.95), (12, 0.8)])
def test_advice_begins_with_students_interval(size: int, level: float) -> None:
    """Of the prompts' means over all pairs, which best-of-2 is the larger of."""
    scores = np.random.default_rng(size).normal(size=(size, 4))
    best = [np.mean([max(pair) for pair in itertools.combinations(row, 2)]) for row in scores]
    low, high = stats.ttest_1samp(best, 0).confidence_interval(level)
    found = pools.advise(Pool.from_lists(scores), 0.1, n=2, level=level).half_width_now
    assert found == pytest.approx((high - low) / 2, rel=1e-12)


@pytest.mark.parametrize("apart", [0.0, 100.0])
@pytest.mark.parametrize(("size", "level"), [(5, 0.95), (12, 0.8)])
def test_a_choice_is_known_to_students_interval(size: int, level: float, apart: float) -> None:
    """By the smaller half's freedom about its mean, or by all about one where halves are apart."""
    deal, _ = jax.random.split(jax.random.key(size))
    half = np.asarray(jax.random.permutation(deal, size)) % 2
    values = np.random.default_rng(size).normal(size=size) + apart * half
    halves = [values[half == h] for h in range(2)]
    within = math.sqrt(sum(len(x) * np.var(x, ddof=1) for x in halves)) / size
    widths = [
        stats.t.ppf(0.5 + level / 2, min(map(len, halves)) - 1) * within,
        stats.t.ppf(0.5 + level / 2, size - 1) * stats.sem(values),
    ]
    assert np.argmax(widths) == (apart > 0)
    curve = pools.Curve(np.array([1]), values[:, None], np.full(size, 1 / size))
    choice = pools.choose(jax.random.key(size), curve, level=level)
    assert (choice.high - choice.low) / 2 == pytest.approx(max(widths), rel=1e-12)
