"""Line charts as plain SVG: axes, bands, lines, and a cursor that a script may move."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

__all__ = ["Chart", "Line", "draw"]

_WIDTH, _HEIGHT = 640, 320
Place = Callable[[NDArray[np.float64] | float], NDArray[np.float64]]
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 28, 28, 48


@dataclasses.dataclass(frozen=True)
class Line:
    """One series.

    Attributes:
        name: in the legend.
        y: ``[G]``, NaN where there is nothing.
        low: lower end of a band, or None.
        high: upper end.
        x: ``[G]`` of its own, or None for the chart's.
        is_faint: whether it stands behind the others, without a name in the legend.
    """

    name: str
    y: NDArray[np.float64]
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    x: NDArray[np.float64] | None = None
    is_faint: bool = False


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines over common places.

    Attributes:
        key: identifier in the page.
        title: what it shows, a sentence for those who do not see it.
        x: ``[G]``.
        lines: the series.
        x_label: of the axis.
        y_label: of the axis.
        is_log: whether x is drawn in doublings.
    """

    key: str
    title: str
    x: NDArray[np.float64]
    lines: Sequence[Line]
    x_label: str
    y_label: str
    is_log: bool = False


def draw(chart: Chart) -> tuple[str, list[list[float | None]]]:
    """The SVG, and where each x is in it, for a cursor: of the chart, or of each of its lines."""
    scale = np.log2 if chart.is_log else np.asarray
    at = np.asarray(scale(chart.x), np.float64)
    x_low, x_high = float(at.min()), float(at.max())
    x_high = x_high if x_high > x_low else x_low + 1
    ends = [v for line in chart.lines for v in (line.y, line.low, line.high) if v is not None]
    finite = np.concatenate([v[np.isfinite(v)] for v in ends])
    ticks = _ticks(float(finite.min()), float(finite.max()))
    y_low, y_high = ticks[0], ticks[-1]

    def across(value: NDArray[np.float64] | float) -> NDArray[np.float64]:
        share = (np.asarray(value) - x_low) / (x_high - x_low)
        return np.round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 2)

    def up(value: NDArray[np.float64] | float) -> NDArray[np.float64]:
        share = (np.asarray(value) - y_low) / (y_high - y_low)
        return np.round(_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM), 2)

    parts, found = [_axes(chart, ticks, across, up)], []
    for index, line in enumerate(chart.lines):
        places = across(at if line.x is None else np.asarray(scale(line.x), np.float64))
        found.append([None if math.isnan(x) else x for x in places.tolist()])
        known = np.isfinite(line.y) & np.isfinite(places)
        if line.low is not None and line.high is not None:
            known_band = known & np.isfinite(line.low) & np.isfinite(line.high)
            upper = _points(places[known_band], up(line.high[known_band]))
            lower = _points(places[known_band][::-1], up(line.low[known_band])[::-1])
            parts.append(f'<polygon class="band series-{index}" points="{upper} {lower}"/>')
        points = _points(places[known], up(line.y[known]))
        kind = "faint" if line.is_faint else f"series-{index}"
        parts.append(f'<polyline class="line {kind}" points="{points}"/>')
    named = [line.name for line in chart.lines if not line.is_faint]
    if len(named) > 1:
        parts += [
            f'<text class="legend series-{i}" x="{_LEFT + 8 + 150 * i}" y="18">'
            f"{escape(name)}</text>"
            for i, name in enumerate(named)
        ]
    parts.append(f'<line class="cursor" x1="0" x2="0" y1="{_TOP}" y2="{_HEIGHT - _BOTTOM}"/>')
    name = f"{chart.key}-title"
    svg = (
        f'<svg id="{chart.key}" class="chart" role="img" aria-labelledby="{name}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}"><title id="{name}">{escape(chart.title)}</title>'
        f"{''.join(parts)}</svg>"
    )
    own = any(line.x is not None for line in chart.lines)
    return svg, found if own else found[:1]


def _axes(chart: Chart, ticks: list[float], across: Place, up: Place) -> str:
    parts = []
    for tick in ticks:
        y = up(tick)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
            f'<text class="tick end" x="{_LEFT - 8}" y="{y + 4}">{tick:g}</text>'
        )
    low, high = float(chart.x.min()), float(chart.x.max())
    if chart.is_log:
        marks = [x for x in chart.x.tolist() if math.log2(x).is_integer()]
    else:
        marks = [x for x in _ticks(low, high) if low <= x <= high]
    last = -math.inf
    for mark in marks:
        place = float(across(math.log2(mark) if chart.is_log else mark))
        if place - last > 44:
            y = _HEIGHT - _BOTTOM + 18
            parts.append(f'<text class="tick middle" x="{place}" y="{y}">{mark:g}</text>')
            last = place
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(
        f'<text class="label middle" x="{middle}" y="{_HEIGHT - 8}">{escape(chart.x_label)}</text>'
        f'<text class="label middle" transform="translate(14 {(_TOP + _HEIGHT - _BOTTOM) / 2}) '
        f'rotate(-90)">{escape(chart.y_label)}</text>'
    )
    return "".join(parts)


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers around a range.

    >>> _ticks(0.13, 0.92)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    if high <= low:
        low, high = low - max(abs(low), 1) / 10, high + max(abs(high), 1) / 10
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def _points(x: NDArray[np.float64], y: NDArray[np.float64]) -> str:
    return " ".join(f"{a:g},{b:g}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
