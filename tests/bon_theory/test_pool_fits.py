"""Fits to pools: difficulty, the tail of coverage, where a true score turns down."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import special, stats

from bon_theory import pools
from bon_theory.pools import Pool


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
