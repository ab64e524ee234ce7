"""Figures that take long: whoever makes them is told how far they are."""

import pytest

from figures import hedging
from figures.output import reporting, tracked


def test_who_listens_is_told_before_each_item() -> None:
    steps: list[tuple[str, int, int]] = []
    with reporting(lambda *step: steps.append(step)):
        for _, steps_so_far in zip(tracked("ab", "letters"), (1, 2), strict=True):
            assert len(steps) == steps_so_far
    assert steps == [("letters", 0, 2), ("letters", 1, 2)]


@pytest.mark.slow
def test_a_figure_tells_how_far_it_is() -> None:
    steps: list[tuple[str, int, int]] = []
    with reporting(lambda *step: steps.append(step)):
        hedging.data(points=3)
    assert steps == [
        *(("hedging", done, 4) for done in range(4)),
        *(("over-optimisation", done, 3) for done in range(3)),
    ]


def test_nobody_has_to_listen() -> None:
    assert list(tracked(iter("ab"), "letters")) == ["a", "b"]
