"""Published points on the exact frontier: read off as stated, and where theory says."""

import math
from typing import Any

import numpy as np
import pytest
from scipy.optimize import bisect

from figures import bonbon_figure_3
from figures.bonbon_figure_3 import points
from tests.drawings import data


def frontier(kl: float) -> float:
    """The largest win rate at that KL, from the two closed forms alone."""

    def win_rate(c: float) -> float:
        return 1 / -math.expm1(-c) - 1 / c

    def excess(log_c: float) -> float:
        c = math.exp(log_c)
        kept = -math.expm1(-c)
        return c * math.exp(-c) / kept - 1 - math.log(kept / c) - kl

    root: Any = bisect(excess, -5, 80, xtol=1e-13)
    return win_rate(math.exp(root))


def test_the_file_is_read_as_it_stands_and_no_other() -> None:
    found = points()
    assert len(found) == 58
    assert found[0] == ("TL;DR", "BoN sampling n=8", 1.21, 0.886, 41.9)
    assert {p.method for p in found if p.task == "HH"} == {p.method for p in found}
    assert sum(p.method == "BoNBoN" for p in found) == 14


def test_a_file_that_was_changed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bonbon_figure_3, "_SHA256", "0" * 64)
    with pytest.raises(ValueError, match="was changed: put its new"):
        points()


def test_best_of_8_sampling_lies_on_theory() -> None:
    for point in points()[:2]:
        assert point.kl == pytest.approx(math.log(8) - 7 / 8, abs=0.006)
        assert point.win_rate == pytest.approx(8 / 9, abs=0.0035)


def test_trained_policies_are_below_the_frontier() -> None:
    table = data("published_points")["points"]
    for kl, win_rate, optimal, gap in zip(
        table["kl"], table["win_rate"], table["optimal_win_rate"], table["gap"], strict=True
    ):
        assert optimal == pytest.approx(frontier(float(kl)), abs=1e-5)
        assert gap == optimal - win_rate
    assert table["gap"][2:].min() > 0.08
    bonbon = table["gap"][table["method"] == "BoNBoN"]
    assert (bonbon.min(), bonbon.max()) == pytest.approx((0.122, 0.220), abs=1e-3)


def test_gains_and_minimisers_are_those_of_the_claims() -> None:
    shown = data("published_points")
    gains = dict(zip(shown["gains"]["n"].tolist(), shown["gains"]["gain"], strict=True))
    assert [gains[n] for n in (2, 4, 8)] == pytest.approx(
        [9.24015e-3, 3.99589e-3, 7.86168e-4], rel=1e-5
    )
    minimisers = shown["minimisers"]
    np.testing.assert_allclose(minimisers["kl"], [0.57500, 0.87909, 1.10223], atol=5e-6)
    np.testing.assert_allclose(minimisers["win_rate"], [0.76013, 0.81407, 0.86386], atol=5e-6)
