"""How tight each published or derived bound is, over random problems.

``python -m figures.bounds --output DIR``
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from bon_theory.bounds import REGISTRY, Inequality
from figures.output import Columns, FigureData, FigureFiles, command_line, float64, tracked, write
from figures.style import COLORS, DOUBLE_COLUMN, new_figure, panel_titles, shades, styled
from simulations.experiments import bounds_sweep

__all__ = ["data", "draw", "main"]

SEED = 20261122
COARSE, FINE = 5, 64  # outcomes
HEADING = 0.9  # height of the line that names a quantity, in rows

CAPTION = (
    "On the same random problems some bounds are tight and others vacuous. "
    "How tight each bound is: slack relative to the larger of bound and exact value, over "
    "{num_problems} random problems for each number of outcomes. Dirichlet laws from nearly equal "
    "to nearly degenerate, ties in 40 %, n − 1 from 0.01 to 10⁴, temperature from 0.02 to 10 "
    "ranges of the reward. (a) Rank policies; (b) soft best-of-n, the exponential race, the tilt. "
    "Lines: 5 % to 95 % of the problems; bars: the middle half; ticks: the median. 0 is tight; at "
    "1 the bound is of another order of magnitude, or vacuous if the quantity is positive (what is "
    "beyond is drawn at 1). Violations: {violations}."
)


@float64
def data(*, points: int = 8_192) -> FigureData:
    """Quantiles of the relative slack over ``points`` random problems, coarse and fine."""
    every = tuple(REGISTRY.values())
    ranks = tuple(entry for entry in every if not _is_soft(entry))
    coarse, fine = (
        _tightness(bounds_sweep.BoundsSweepConfig(entries, points, num_outcomes))
        for entries, num_outcomes in tracked(((every, COARSE), (ranks, FINE)), "sweeps")
    )
    violations = int(coarse["violations"].sum() + fine["violations"].sum())
    caption = CAPTION.format(num_problems=points, violations=violations)
    parameters = {"seed": SEED, "num_problems": points}
    return FigureData(caption, {"coarse": coarse, "fine": fine}, parameters)


def _tightness(config: bounds_sweep.BoundsSweepConfig) -> Columns:
    outcomes = list(bounds_sweep.run(config, jax.random.key(SEED)).outcomes.values())
    entries = [outcome.inequality for outcome in outcomes]
    slack = np.array([outcome.relative_slack for outcome in outcomes])
    columns: dict[str, NDArray[np.generic]] = {
        "name": np.array([entry.name for entry in entries]),
        "quantity": np.array([entry.quantity.name for entry in entries]),
        "side": np.array([entry.side for entry in entries]),
        "source": np.array([entry.source for entry in entries]),
        "status": np.array([entry.status for entry in entries]),
        "soft": np.array([_is_soft(entry) for entry in entries]),
        "violations": np.array([outcome.violations for outcome in outcomes]),
        "tightest": np.array([_in_words(outcome.tightest) for outcome in outcomes]),
    }
    return columns | {_column(q): slack[:, i] for i, q in enumerate(bounds_sweep.QUANTILES)}


def _in_words(example: bounds_sweep.Example) -> str:
    """The problem where the bound is tightest; its law only where it can be read."""
    parameters = [f"{name} = {value:.3g}" for name, value in example.parameters.items()]
    law = [f"{p:.2g} at {r:.2g}" for p, r in zip(example.probs, example.rewards, strict=True)]
    return "; ".join([*parameters, *([", ".join(law)] if len(law) <= COARSE else [])])


def _is_soft(entry: Inequality) -> bool:
    return "temperature" in entry.quantity.parameters


def _column(quantile: float) -> str:
    return f"slack_{100 * quantile:.0f}"


@styled
def draw(data: FigureData) -> Figure:
    """One row per bound, with a gap between the quantities that they bound."""
    coarse, fine = data["coarse"], data["fine"]
    figure = new_figure(DOUBLE_COLUMN, 7.0)
    ranks, races = figure.subplots(1, 2, sharex=True)
    for ax, rows in ((ranks, ~coarse["soft"]), (races, coarse["soft"])):
        table = {name: column[rows] for name, column in coarse.items()}
        _label_rows(ax, table)
        _draw_slack(ax, table, -0.2 if ax is ranks else 0.0, COARSE)
        ax.set(xlim=(-0.01, 1.01), xlabel="slack (0 is tight)")
    _draw_slack(ranks, fine, 0.2, FINE)
    handles = [Patch(color=_color(False, k), label=f"{k} outcomes") for k in (COARSE, FINE)]
    handles.append(Patch(color=_color(True, COARSE), label=f"{COARSE} outcomes, soft"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    panel_titles({ranks: "Rank policies", races: "Soft selection"})
    return figure


def _label_rows(ax: Axes, table: Columns) -> None:
    """A bound is named by its quantity where it is the only one, else below the quantity's name."""
    rows, headed = _rows(table), _headed(table)
    signs = np.where(table["side"] == "upper", "≤", "≥")
    labels = [f"{words}  {sign}" for words, sign in zip(_words(table), signs, strict=True)]
    ax.set_yticks(rows, labels=labels)
    for row, quantity in zip(rows[headed], table["quantity"][headed], strict=True):
        ax.annotate(
            str(quantity),
            (0, row - HEADING),
            (-4, 0),
            xycoords=ax.get_yaxis_transform(),
            textcoords="offset points",
            ha="right",
            va="center",
            fontsize=7,
            fontweight="bold",
        )
    ax.set_ylim(rows[-1] + 0.8, rows[0] - HEADING - 0.8)
    ax.tick_params(axis="y", length=0, labelsize=7)
    ax.grid(axis="y", visible=False)


def _headed(table: Columns) -> NDArray[np.bool_]:
    """The rows that begin a group of bounds of one quantity."""
    quantity = table["quantity"]
    same = np.r_[False, quantity[1:] == quantity[:-1], False]
    return ~same[:-1] & same[1:]


def _rows(table: Columns) -> NDArray[np.float64]:
    """Heights of the rows: apart where the quantity changes, with room for its name."""
    quantity = table["quantity"]
    changes = np.r_[False, quantity[1:] != quantity[:-1]]
    return np.arange(float(len(quantity))) + np.cumsum(0.5 * changes + HEADING * _headed(table))


def _words(table: Columns) -> list[str]:
    """What a bound is made of: its name less what the names of its group begin with."""
    names = [str(name).split("_") for name in table["name"]]
    words = []
    for name, quantity in zip(names, table["quantity"], strict=True):
        group = [n for n, q in zip(names, table["quantity"], strict=True) if q == quantity]
        if len(group) == 1:
            words.append(str(quantity))
            continue
        alike = [len(set(tokens)) == 1 for tokens in zip(*group, strict=False)]
        own = name[[*alike, False].index(False) :]  # behind what all begin with
        words.append(" ".join(own).replace("best of n", "best-of-n") or "closed form")
    return words


def _draw_slack(ax: Axes, table: Columns, offset: float, num_outcomes: int) -> None:
    slack = np.stack([table[_column(q)] for q in bounds_sweep.QUANTILES])
    thickness = 0.6 if offset == 0 else 0.34
    for row, soft, quantiles in zip(_rows(table), table["soft"], slack.T, strict=True):
        low, left, middle, right, high = np.clip(quantiles, 0, 1)
        color, y = _color(bool(soft), num_outcomes), row + offset
        ax.plot([low, high], [y, y], color=color, linewidth=0.8)
        ax.barh(y, right - left, left=left, height=thickness, color=color)
        ax.plot([middle] * 2, [y - 0.6 * thickness, y + 0.6 * thickness], color="black", lw=1.2)


def _color(soft: bool, num_outcomes: int) -> str:
    """The method's colour, lighter for the finer laws."""
    fine, coarse = shades(COLORS["soft_best_of_n" if soft else "best_of_n"], 2)
    return fine if num_outcomes == FINE else coarse


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("bounds", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
