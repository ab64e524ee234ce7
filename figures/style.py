"""How every figure looks: paper widths, eight-point type, and one colour per method throughout."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from string import ascii_lowercase
from typing import Any, ParamSpec, TypeVar, cast

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

__all__ = [
    "BOUND",
    "COLORS",
    "DOUBLE_COLUMN",
    "SINGLE_COLUMN",
    "contrast",
    "ink",
    "label",
    "new_figure",
    "panel_titles",
    "settings",
    "shades",
    "side_by_side",
    "styled",
    "whole_ticks",
]

P = ParamSpec("P")
Data = TypeVar("Data")

SINGLE_COLUMN, DOUBLE_COLUMN = 3.3, 6.75  # inches

#: Okabe and Ito's palette, which colour-blind readers can tell apart. The win-rate optimum is the
#: tilt of the rank, so both optima are black.
COLORS: dict[str, str] = {
    "exponential_tilt": "#000000",
    "win_rate_optimal": "#000000",
    "best_of_n": "#0072B2",
    "soft_best_of_n": "#D55E00",
    "best_of_poisson": "#009E73",
    "top_fraction": "#CC79A7",
    "bonbon": "#E69F00",
    "dpo": "#56B4E9",
    # Losses beside BoNBoN, from Paul Tol's muted palette, told apart by their dashes as well.
    "sft": "#882255",
    "ipo": "#999933",
    "ipo_matched": "#332288",
}
#: Published inequalities and asymptotes, beside the exact values in a method's colour.
BOUND = "#7F7F7F"

_SETTINGS: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.0,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "lines.linewidth": 1.3,
    "lines.markersize": 3.5,
    "pdf.fonttype": 42,  # TrueType, which journals ask for
    "mathtext.fontset": "dejavusans",
}


@contextmanager
def settings() -> Iterator[None]:
    """The settings above over matplotlib's own defaults, whatever a user's matplotlibrc says."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(cast(Any, _SETTINGS))
        yield


def styled(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draw in this style, and lay the figure out while the style still holds."""

    @wraps(draw)
    def in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with settings():
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # ticks take their settings now, not when saved
            return figure

    return in_style


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that makes room for its labels; no window system involved."""
    return Figure(figsize=(width, height), layout="constrained")


def shades(color: str, count: int) -> list[str]:
    """``count`` shades of a method's colour, light to full: an ordered parameter."""
    red, green, blue = to_rgb(color)
    strengths = np.linspace(1.0, 0.45, count)[::-1].tolist()
    return [to_hex((1 - s * (1 - red), 1 - s * (1 - green), 1 - s * (1 - blue))) for s in strengths]


def contrast(color: Any) -> float:
    """Contrast of a colour on white, from 1 to 21, as accessibility guidelines define it."""
    channels = np.asarray(to_rgb(color))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(1.05 / (linear @ [0.2126, 0.7152, 0.0722] + 0.05))


def ink(color: Any) -> str:
    """The colour darkened until text in it is legible on white: a contrast of 4.5 or more."""
    channels = np.asarray(to_rgb(color))
    for share in np.linspace(1.0, 0.0, 101):
        if contrast(darker := to_hex(channels * share)) >= 4.5:
            return darker
    raise AssertionError("black is legible on white")


def panel_titles(titles: Mapping[Axes, str]) -> None:
    """(a), (b), … and a title above each panel, flush left."""
    for letter, (ax, title) in zip(ascii_lowercase, titles.items(), strict=False):
        ax.set_title(f"({letter}) {title}", loc="left")


def side_by_side(
    height: float, data: Data, panels: Mapping[str, Callable[[Axes, Data], None]]
) -> Figure:
    """A figure two columns wide with one panel per title, each drawn from ``data``."""
    figure = new_figure(DOUBLE_COLUMN, height)
    axes = figure.subplots(1, len(panels))
    for ax, draw_panel in zip(axes, panels.values(), strict=True):
        draw_panel(ax, data)
    panel_titles(dict(zip(axes, panels, strict=True)))
    return figure


def label(ax: Axes, text: str, xy: tuple[float, float], *, color: Any, **options: Any) -> None:
    """Name a curve beside it, in its colour, on a white ground that keeps grid lines out."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
    ax.text(*xy, text, color=ink(color), fontsize=options.pop("fontsize", 7), bbox=box, **options)


def whole_ticks(ax: Axes, values: Iterable[float], axis: str = "x") -> None:
    """Ticks at these values only, written as plain numbers: for logarithmic axes of draws."""
    target = ax.xaxis if axis == "x" else ax.yaxis
    ticks = list(values)
    target.set_ticks(ticks, labels=[f"{value:g}" for value in ticks])
    target.set_ticks([], minor=True)
