"""Estimates: against the statistics module, and combination as an equality with pooling."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulations.statistics.estimate import Estimate, combine

finite = st.floats(-1e6, 1e6, allow_subnormal=False)
samples = st.lists(finite, min_size=1, max_size=20)


@given(st.lists(finite, min_size=2, max_size=20))
def test_agrees_with_the_statistics_module(values):
    estimate = Estimate.from_values(values)
    assert estimate.num_samples == len(values)
    assert estimate.mean == pytest.approx(statistics.fmean(values), rel=1e-12, abs=1e-9)
    exact = math.sqrt(statistics.variance(values) / len(values))
    assert estimate.std_error == pytest.approx(exact, rel=1e-9, abs=1e-9)


@given(st.lists(samples, min_size=1, max_size=6))
def test_combining_parts_equals_pooling_them(parts):
    merged = combine(Estimate.from_values(part) for part in parts)
    pooled = Estimate.from_values(np.concatenate(parts))
    assert merged.num_samples == pooled.num_samples
    assert merged.mean == pytest.approx(pooled.mean, rel=1e-12, abs=1e-9)
    assert merged.std_error == pytest.approx(pooled.std_error, rel=1e-9, abs=1e-8)


@given(samples, st.integers(0, 2**32 - 1))
def test_counts_equal_the_sample_they_count(values, seed):
    counts = np.random.default_rng(seed).integers(0, 5, len(values))
    counts[0] += 1
    ours = Estimate.from_counts(counts, values)
    theirs = Estimate.from_values(np.repeat(values, counts))
    assert ours.mean == pytest.approx(theirs.mean, rel=1e-12, abs=1e-9)
    assert ours.std_error == pytest.approx(theirs.std_error, rel=1e-9, abs=1e-8)


def test_a_large_mean_does_not_swamp_the_variance():
    # Σx² − S·mean² would lose all digits here: the mean is 1e9 deviations away.
    noise = np.random.default_rng(0).standard_normal(10_000)
    parts = [Estimate.from_values(part + 1e9) for part in np.split(noise, 100)]
    # x itself is rounded to 1.2e-7, hence 1e-6.
    assert combine(parts).std_error == pytest.approx(
        Estimate.from_values(noise).std_error, rel=1e-6
    )


def test_one_sample_has_no_error_bar():
    single = Estimate.from_values([3.0])
    assert single.std_error == math.inf
    assert math.isnan(single.variance)
    assert combine([single, Estimate.from_values([5.0])]) == Estimate.from_values([3.0, 5.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Estimate(0.0, 1.0, 0), "num_samples must be at least 1, got 0"),
        (lambda: Estimate(0.0, -1.0, 5), r"std_error must be nonnegative, got -1\.0"),
        (lambda: Estimate(0.0, math.nan, 5), "std_error must be nonnegative, got nan"),
        (lambda: Estimate.from_values([]), "values must not be empty"),
        (lambda: Estimate.from_counts([1, 2], [0.0]), r"shapes \(2,\) and \(1,\)"),
        (lambda: Estimate.from_counts([0, 0], [0.0, 1.0]), "positive sum"),
        (lambda: Estimate.from_counts([-1, 3], [0.0, 1.0]), "counts must be whole, nonneg"),
        (lambda: Estimate.from_counts([0.5, 0.25], [0.0, 1.0]), "counts must be whole, nonneg"),
        (lambda: combine([]), "estimates must not be empty"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()
