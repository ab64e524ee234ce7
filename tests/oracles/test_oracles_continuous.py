"""The oracles of continuous rewards against each other and against SciPy, by unrelated routes."""

import json
from pathlib import Path
from typing import Any

import pytest
import scipy.stats

from tests.oracles import (
    continuous,
    soft_continuous,
)
from tests.oracles.multiprecision import mp


@pytest.fixture(autouse=True)
def forty_digits() -> Any:
    with mp.workdps(40):
        yield


# --- rank laws of a continuous reward -----------------------------------------------------------


@pytest.mark.parametrize("n", [1, 1.5, 2, 16, 1e6])
def test_closed_forms_of_best_of_n(n: float) -> None:
    law, m = continuous.best_of_n(n), mp.mpf(n)
    pairs = [
        (continuous.kl(law), mp.log(m) - (m - 1) / m),
        (continuous.reverse_kl(law), m - 1 - mp.log(m)),
        (continuous.chi_squared(law), (m - 1) ** 2 / (2 * m - 1)),
        (continuous.squared_hellinger(law), 2 * (mp.sqrt(m) - 1) ** 2 / (m + 1)),
        (continuous.win_rate(law), m / (m + 1)),
        (continuous.kl(continuous.worst_of_n(n)), mp.log(m) - (m - 1) / m),
    ]
    if n > 1:
        pairs.append((continuous.total_variation(law), (1 - 1 / m) * m ** (-1 / (m - 1))))
    for order in (0.5, 2, 3.5):
        rate = (order * mp.log(m) - mp.log(order * (m - 1) + 1)) / (order - 1)
        pairs.append((continuous.renyi(law, order), rate))
    for value, expected in pairs:
        assert abs(value - expected) <= 1e-25 * max(1, abs(expected))


@pytest.mark.parametrize("mean", [0.5, 5.0])
def test_closed_forms_of_best_of_poisson(mean: float) -> None:
    law, mu = continuous.best_of_poisson(mean), mp.mpf(mean)
    tail = mp.exp(-(mu + 1)) * (mp.ei(mu + 1) - mp.ei(1)) / mu
    assert abs(continuous.kl(law) - (mp.log1p(mu) - 1 + tail)) < 1e-25
    expected = 1 - 1 / mu + (1 - mp.exp(-mu)) / mu**2
    assert abs(continuous.win_rate(law) - expected) < 1e-25


@pytest.mark.parametrize("strength", [0.25, 5, 50])
def test_closed_forms_of_the_win_rate_optimum(strength: float) -> None:
    law, c = continuous.win_rate_optimal(strength), mp.mpf(strength)
    win_rate = 1 / -mp.expm1(-c) - 1 / c
    assert abs(continuous.win_rate(law) - win_rate) < 1e-25
    assert abs(continuous.kl(law) - (c * win_rate - mp.log(mp.expm1(c) / c))) < 1e-25


def test_scipy_order_statistics_agree() -> None:
    """A third opinion: the best of n uniforms is Beta(n, 1)."""
    for n in (2, 7.5, 64):
        beta, law = scipy.stats.beta(n, 1), continuous.best_of_n(n)
        assert float(continuous.win_rate(law)) == pytest.approx(beta.mean(), rel=1e-14)
        assert float(continuous.kl(law)) == pytest.approx(-beta.entropy(), rel=1e-12)
        squares = continuous.expected_value(law, lambda u: u**2)
        assert float(squares) == pytest.approx(beta.moment(2), rel=1e-13)


@pytest.mark.parametrize("n", [2, 5])
def test_scipy_order_statistics_agree_on_a_gaussian_reward(n: int) -> None:
    best = scipy.stats.order_statistic(scipy.stats.Normal(), n=n, r=n)
    mean = mp.quad(lambda x: n * x * mp.npdf(x) * mp.ncdf(x) ** (n - 1), [-12, -4, 0, 4, 12])
    assert float(mean) == pytest.approx(float(best.mean()), rel=1e-10)


# --- soft best-of-n of a continuous reward ------------------------------------------------------


@pytest.mark.parametrize(("name", "n"), [("uniform", 2), ("uniform", 3), ("exponential", 2)])
def test_soft_density_by_definition(name: str, n: int) -> None:
    law = soft_continuous.SoftBestOfN(name, n, 1.0)
    for x in (0.125, 0.75):
        defined = soft_continuous.density_ratio_by_definition(name, x, n, 1.0)
        assert abs(law.density_ratio(x) - defined) < 1e-20


@pytest.mark.parametrize("reward", ["uniform", "gaussian", "exponential"])
def test_golden_densities_by_definition(reward: str) -> None:
    """The stored values with n = 2, against the plain integral that needs no race."""
    table = json.loads((Path(__file__).parents[1] / "golden" / "soft_continuous.json").read_text())
    row = next(row for row in table if row["reward"] == reward and row["n"] == 2)
    for x, golden in zip(row["points"], row["density_ratio"], strict=True):
        defined = soft_continuous.density_ratio_by_definition(reward, x, 2, row["temperature"])
        assert abs(mp.mpf(golden) / defined - 1) < 1e-19


def test_soft_best_of_two_uniform_rewards_in_closed_form() -> None:
    law = soft_continuous.SoftBestOfN("uniform", 2, 0.5)
    for x in (0, 0.25, 1):
        closed = mp.log1p(mp.exp(2 * mp.mpf(x))) - mp.log1p(mp.exp(2 * (mp.mpf(x) - 1)))
        assert abs(law.density_ratio(x) - closed) < 1e-20
