"""The checks themselves: false alarms by enumeration and simulation, power by planted errors."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import linalg, special, stats

from simulations.statistics.checks import (
    Check,
    Family,
    _histogram_tail,
    check_distribution,
    check_histogram,
    check_mean,
    required_trials,
)
from simulations.statistics.estimate import Estimate
from tests.oracles import discrete

# Laws with ample, tiny and no probability: it is in the tiny cells that the χ² approximation fails.
LAWS = {
    "even": [0.25, 0.25, 0.5],
    "small cell": [0.6, 0.39, 0.01],
    "tiny cells": [0.98, 0.01999, 1e-5],
    "excluded outcome": [0.7, 0.3, 0.0],
}
CHECKS = {
    "histogram": lambda counts, law: check_histogram("c", counts, law),
    "distribution": lambda counts, law: check_distribution("c", counts, np.cumsum(law)),
    "mean": lambda counts, law: check_mean(
        "c", Estimate.from_counts(counts, [0.0, 0.4, 1.0]), law[1] * 0.4 + law[2], bounds=(0.0, 1.0)
    ),
}


def enumerate_p_values(check, law, num_trials):
    """Every possible sample: its p-value and its exact probability under the law."""
    counts = [
        (i, j, num_trials - i - j)
        for i, j in itertools.product(range(num_trials + 1), repeat=2)
        if i + j <= num_trials
    ]
    chances = stats.multinomial.pmf(counts, num_trials, law)
    return np.array([check(c, law).p_value for c in counts]), chances


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("check", CHECKS.values(), ids=CHECKS)
def test_no_level_is_exceeded_in_exact_enumeration(check, law):
    p_values, chances = enumerate_p_values(check, law, num_trials=25)
    possible = chances > 0
    order = np.argsort(p_values[possible])
    p_values, chances = p_values[possible][order], chances[possible][order]
    # Pr(p ≤ α) ≤ α at every attainable α; 1e-12 for the sum's rounding.
    assert np.all(np.cumsum(chances) <= p_values + 1e-12)
    assert p_values.min() < 0.3  # and 25 trials are enough to raise suspicion


@pytest.mark.parametrize("check", CHECKS, ids=CHECKS)
@pytest.mark.parametrize("chance", [0.5, 0.03])
def test_p_values_bound_the_exact_tail_and_follow_it(check, chance):
    """Two outcomes, 20,000 trials, up to eight standard deviations: the tail is binomial."""
    trials, law = 20_000, np.array([1 - chance, 0.0, chance])
    mean, deviation = trials * chance, math.sqrt(trials * chance * (1 - chance))
    for z in np.arange(0.5, 8, 0.25):
        count = round(mean + z * deviation)
        tail = stats.binom.sf(count - 1, trials, chance)
        p_value = CHECKS[check]([trials - count, 0, count], law).p_value
        assert p_value >= tail
        # Two sides, and z³ between Chernoff's bound and the tail; the power of the tail is what
        # each inequality gives away: none for G, the variance's error or half a plane for others.
        given = {"histogram": 1.0, "mean": 0.7, "distribution": 4 * chance * (1 - chance)}[check]
        assert p_value <= 10 * (1 + z) ** 3 * tail**given


def test_the_chi_squared_approximation_would_exceed_its_level():
    """Why the tail is a theorem's: with one count expected per cell, χ² alarms far too often."""
    law, trials, level = np.full(1000, 1e-3), 1000, 1e-4
    counts = np.random.default_rng(5).multinomial(trials, law, 500)
    # The rule that joins small cells would join all of these: compare the bare statistics.
    statistics = trials * special.rel_entr(counts / trials, law).sum(axis=1)
    assert np.sum(stats.chi2.sf(2 * statistics, law.size - 1) <= level) >= 20  # 0.05 expected
    assert not any(_histogram_tail(statistic, law.size) <= level for statistic in statistics)


def is_an_alarm(counts, law, values, rate: float) -> bool:
    """Whether a report of four checks, all of a right theory, rejects any."""
    estimate, mean = Estimate.from_counts(counts, values), float(law @ values)
    report = Family(("law", "cdf", "mean", "z"), false_alarm=rate).judge(
        [
            check_histogram("law", counts, law),
            check_distribution("cdf", counts, np.cumsum(law)),
            check_mean("mean", estimate, mean, bounds=(0.0, float(values.max()))),
            check_mean("z", estimate, mean),
        ]
    )
    return not report.passed


def test_false_alarms_of_whole_reports():
    """Simulated at a family-wise rate of 1e-2, where it can be measured; the bound must hold."""
    law, trials, repeats, rate = np.array([0.5, 0.3, 0.15, 0.05]), 10_000, 4000, 1e-2
    values = np.array([0.0, 0.5, 1.0, 3.0])
    samples = np.random.default_rng(1).multinomial(trials, law, repeats)
    alarms = sum(is_an_alarm(counts, law, values, rate) for counts in samples)
    # False-alarm rate of this test 1e-6; not vacuous, since the z-test uses its whole share.
    assert alarms <= stats.binom.isf(1e-6, repeats, rate)
    assert alarms >= stats.binom.ppf(1e-6, repeats, rate / 4)


def rate_of_alarms(rate: float, repeats: int = 4000) -> Estimate:
    """How often a report at ``rate`` alarms, by importance sampling: looked for where it happens.

    Samples come from wrong laws all around the right one, each where reports begin to alarm, and
    count with their likelihood ratio, in which the multinomial coefficients cancel.
    """
    law, values, trials = np.array([0.5, 0.3, 0.2]), np.array([0.0, 0.5, 1.0]), 20_000
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)])
    root = np.sqrt(law)[:, None]
    away = linalg.null_space(root.T) @ circle * math.sqrt(2 * 15.5 / trials)  # S·KL = 15.5
    wrong = root * (root + away)
    rng = np.random.default_rng(7)
    samples = rng.multinomial(trials, wrong.T[rng.integers(angles.size, size=repeats)])
    log_ratios = np.logaddexp.reduce(samples @ np.log(wrong / law[:, None]), axis=1)
    alarms = np.array([is_an_alarm(counts, law, values, rate) for counts in samples])
    return Estimate.from_values(alarms * np.exp(math.log(angles.size) - log_ratios))


def test_false_alarms_of_whole_reports_at_one_in_a_million():
    """The rate that reports really use; five standard errors, so 1e-6 of this test itself."""
    found, looser = rate_of_alarms(1e-6), rate_of_alarms(1e-5)
    assert found.std_error < 0.1 * found.mean
    assert found.mean + 5 * found.std_error < 1e-6
    assert found.mean > 1e-6 / 8  # the z-test alone uses its whole quarter
    # A report that alarmed ten times as often would have been noticed.
    assert looser.mean - 5 * looser.std_error > 1e-6


def test_the_z_test_holds_its_level_both_ways():
    repeats, rate = 20_000, 1e-2
    samples = np.random.default_rng(2).exponential(size=(repeats, 400))
    errors = samples.std(axis=1, ddof=1) / 20
    p_values = [
        check_mean("z", Estimate(float(mean), float(error), 400), 1.0).p_value
        for mean, error in zip(samples.mean(axis=1), errors, strict=True)
    ]
    alarms = np.sum(np.array(p_values) <= rate)
    # Skewness 2 and 400 samples: the stated relative error is 2·2.58³/(6·20) = 0.29.
    assert stats.binom.ppf(1e-6, repeats, rate) <= alarms
    assert alarms <= stats.binom.isf(1e-6, repeats, rate * 1.3)


@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 5, 16]), st.floats(0.003, 0.5))
def test_required_trials_detect_with_the_stated_power(seed, num_outcomes, shift):
    """Planted alternatives, near and far, on even and uneven laws."""
    rng = np.random.default_rng(seed)
    law = rng.dirichlet(np.full(num_outcomes, 0.7)) * 0.95 + 0.05 / num_outcomes
    planted = law * np.exp(shift * rng.standard_normal(num_outcomes))
    planted /= planted.sum()
    threshold, miss, repeats = 2.5e-8, 1e-2, 300
    trials = required_trials(law, planted, false_alarm=threshold, miss=miss)
    samples = rng.multinomial(trials, planted, repeats)
    missed = sum(check_histogram("c", counts, law).p_value > threshold for counts in samples)
    assert missed <= stats.binom.isf(1e-8, repeats, miss)


THREE = [0.5, 0.3, 0.2], [0.0, 0.5, 1.0]
STATED = {
    "n + 1": (discrete.best_of_n(*THREE, 8), discrete.best_of_n(*THREE, 9)),
    "1.02 λ": (discrete.soft_best_of_n(*THREE, 4, 0.4), discrete.soft_best_of_n(*THREE, 4, 0.408)),
    "1 % of an atom": (THREE[0], [0.5 * 1.01, 0.3 * 0.99, 0.2 * 0.99]),
}


@pytest.mark.parametrize(("law", "planted"), STATED.values(), ids=STATED)
def test_what_is_stated_is_detected_999_times_in_1000(law, planted):
    law, planted, repeats, level = np.array(law, float), np.array(planted, float), 4000, 1e-6 / 200
    trials = required_trials(law, planted, false_alarm=level, miss=1e-3)
    samples = np.random.default_rng(4).multinomial(trials, planted, repeats)
    missed = sum(check_histogram("c", counts, law).p_value > level for counts in samples)
    assert missed <= stats.binom.isf(1e-6, repeats, 1e-3)  # 16 of 4000


def test_required_trials_are_not_wasteful():
    # A tenth of them would not do.
    law, planted = np.array([0.9, 0.1]), np.array([0.899, 0.101])
    trials = required_trials(law, planted, false_alarm=2.5e-8, miss=1e-3)
    samples = np.random.default_rng(3).multinomial(trials // 3, planted, 200)
    missed = sum(check_histogram("c", counts, law).p_value > 2.5e-8 for counts in samples)
    assert missed > 20


def test_an_outcome_the_law_excludes_is_a_contradiction():
    assert check_histogram("c", [999_999, 1], [1.0, 0.0]).p_value == 0
    assert check_histogram("c", [10**6, 0], [1.0, 0.0]).p_value == 1
    # Seen at least once, with probability 1 − 1e-3: log(1e-3)/log(1 − 0.01) trials.
    trials = required_trials([1.0, 0.0], [0.99, 0.01], false_alarm=1e-8, miss=1e-3)
    assert trials == math.ceil(math.log(1e-3) / math.log(0.99))


def test_an_impossible_speck_does_not_hide_a_large_error():
    """A quadrature's 1e-16 where the law has nothing, beside an atom that is plainly wrong."""
    law, planted = [0.0, 0.5, 0.5], [1e-16, 0.4, 0.6]
    with_it = required_trials(law, planted, false_alarm=1e-8, miss=1e-3)
    assert with_it == required_trials(law[1:], planted[1:], false_alarm=1e-8, miss=1e-3)


def test_an_outcome_the_law_excludes_costs_no_power():
    with_it = check_histogram("c", [60, 40, 0], [0.5, 0.5, 0.0])
    assert with_it.p_value == check_histogram("c", [60, 40], [0.5, 0.5]).p_value


def test_a_constant_must_be_hit_exactly():
    constant = Estimate(1.0, 0.0, 1000)
    assert check_mean("c", constant, 1.0).p_value == 1
    assert check_mean("c", constant, 1.0 + 1e-9).p_value == 0


def test_a_report_lists_its_checks_as_planned():
    family = Family(("a", "b", "c"), false_alarm=3e-3)
    made = [Check("c", 0.0, 1e-3, 1), Check("a", 0.0, 0.5, 1), Check("b", 0.0, 1.1e-3, 1)]
    report = family.judge(made)
    assert [check.name for check in report.checks] == ["a", "b", "c"]
    assert report.threshold == family.threshold == 1e-3
    assert [check.name for check in report.rejected] == ["c"]
    assert not report.passed


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("a",), r"missing \['b'\]"),
        (("a", "b", "d"), r"not planned \['d'\]"),
        (("a", "b", "b"), "3"),
    ],
)
def test_only_the_planned_checks_are_judged(names, message):
    with pytest.raises(ValueError, match=message):
        Family(("a", "b")).judge([Check(name, 0.0, 1.0, 1) for name in names])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Family(()), "names must be distinct and not empty"),
        (lambda: Family(("a", "a")), "names must be distinct"),
        (lambda: Family(("a",), false_alarm=0.0), "false_alarm must be in"),
        (lambda: check_histogram("c", [1, 2], [1.0]), r"law's shape \(1,\), got \(2,\)"),
        (lambda: check_histogram("c", [1, -2], [0.5, 0.5]), "counts must be whole"),
        (lambda: check_histogram("c", [0.5, 2], [0.5, 0.5]), "counts must be whole"),
        (lambda: check_histogram("c", [0, 0], [0.5, 0.5]), "not all 0"),
        (lambda: check_histogram("c", [1, 2], [0.5, 0.6]), "sum to one within 1e-9"),
        (lambda: check_histogram("c", [1, 2], [np.nan, 0.5]), "nonnegative numbers"),
        (lambda: check_distribution("c", [1, 2], [0.5, 0.9]), "differences of cdf"),
        (lambda: check_distribution("c", [1, 2, 3], [0.5, 1.0]), r"cdf's shape \(2,\)"),
        (lambda: check_mean("c", Estimate(0.0, np.inf, 1), 0.0), "at least 2 samples"),
        (
            lambda: check_mean("c", Estimate(0.0, 0.1, 9), 2.0, bounds=(0.0, 1.0)),
            "within bounds",
        ),
        (lambda: check_mean("c", Estimate(0.0, 0.1, 9), np.nan), "exact and mean must be numbers"),
        (
            lambda: check_mean("c", Estimate(np.nan, 0.1, 9), 0.5, bounds=(0.0, 1.0)),
            "exact and mean must be numbers, got 0.5 and nan",
        ),
        (
            lambda: check_mean("c", Estimate(0.0, 0.1, 9), 2.0, bounds=(0.0, np.inf)),
            "both finite",
        ),
        (
            lambda: required_trials(
                [0.5, 0.5], [0.5 + 1e-9, 0.5 - 1e-9], false_alarm=1e-6, miss=1e-3
            ),
            "alternative must differ more from law",
        ),
        (
            lambda: required_trials([0.5, 0.5], [0.5, 0.5], false_alarm=1e-6, miss=1e-3),
            "alternative must differ from law",
        ),
        (
            lambda: required_trials([0.5, 0.5], [0.4, 0.6], false_alarm=1.0, miss=1e-3),
            "false_alarm and miss must be in",
        ),
        (
            lambda: required_trials([0.5, 0.5], [1.0], false_alarm=1e-6, miss=1e-3),
            "alternative must have the shape",
        ),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_p_value_of_a_bounded_mean_is_the_published_one():
    """At L = 10 the inequality is an equality: p = 4e^{−10}, and 4e^{−L} at every other gap."""
    samples, variance, span = 500, 0.04, 2.0
    for depth in (3.0, 10.0):
        gap = math.sqrt(2 * variance * depth / samples) + 7 * span * depth / (3 * (samples - 1))
        estimate = Estimate(0.1 + gap, math.sqrt(variance / samples), samples)
        check = check_mean("mean", estimate, 0.1, bounds=(-1.0, 1.0))
        assert check.p_value == pytest.approx(4 * math.exp(-depth), rel=1e-9)
