"""How tight each published or derived bound is, over random problems.

``python -m figures.bounds --output DIR``
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from bon_theory.bounds import REGISTRY, Inequality
from figures.output import FigureData, FigureFiles, Table, command_line, float64, write
from figures.style import COLORS, DOUBLE_COLUMN, new_figure, panel_titles, styled
from simulations.experiments import bounds_sweep

__all__ = ["data", "draw", "main"]

SEED = 20261122
COARSE, FINE = 5, 64  # outcomes

CAPTION = (
    "How tight each bound is: slack relative to the larger of bound and exact value, over "
    "{num_problems} random problems a panel. Dirichlet laws from nearly equal to nearly "
    "degenerate, ties in 40 %, n − 1 from 0.01 to 10⁴, temperature from 0.02 to 10 ranges of the "
    "reward. (a) {coarse} outcomes, all bounds; (b) {fine} outcomes, the bounds on rank policies. "
    "Lines: 5 % to 95 % of the problems; bars: the middle half; ticks: the median. 0 is tight; at "
    "1 the bound is of another order of magnitude, or vacuous if the quantity is positive (what is "
    "beyond is drawn at 1). Blue: rank policies; orange: soft best-of-n and the exponential race. "
    "Violations: {violations}."
)


@float64
def data(*, points: int = 16_384) -> FigureData:
    """Quantiles of the relative slack over ``points`` random problems, coarse and fine."""
    every = tuple(REGISTRY.values())
    ranks = tuple(entry for entry in every if not _is_soft(entry))
    coarse, fine = (
        _tightness(bounds_sweep.Config(entries, points, num_outcomes))
        for entries, num_outcomes in ((every, COARSE), (ranks, FINE))
    )
    violations = int(coarse["violations"].sum() + fine["violations"].sum())
    caption = CAPTION.format(num_problems=points, coarse=COARSE, fine=FINE, violations=violations)
    parameters = {"seed": SEED, "num_problems": points}
    return FigureData(caption, {"coarse": coarse, "fine": fine}, parameters)


def _tightness(config: bounds_sweep.Config) -> Table:
    outcomes = list(bounds_sweep.run(config, jax.random.key(SEED)).outcomes.values())
    entries = [outcome.inequality for outcome in outcomes]
    slack = np.array([outcome.relative_slack for outcome in outcomes])
    columns: dict[str, NDArray[np.generic]] = {
        "name": np.array([entry.name for entry in entries]),
        "quantity": np.array([entry.quantity.name for entry in entries]),
        "side": np.array([entry.side for entry in entries]),
        "source": np.array([entry.source for entry in entries]),
        "soft": np.array([_is_soft(entry) for entry in entries]),
        "violations": np.array([outcome.violations for outcome in outcomes]),
    }
    return columns | {_column(q): slack[:, i] for i, q in enumerate(bounds_sweep.QUANTILES)}


def _is_soft(entry: Inequality) -> bool:
    return "temperature" in entry.quantity.parameters


def _column(quantile: float) -> str:
    return f"slack_{100 * quantile:.0f}"


@styled
def draw(data: FigureData) -> Figure:
    """One row per bound, with a gap between the quantities that they bound."""
    coarse = data["coarse"]
    quantity = coarse["quantity"]
    gaps = np.cumsum(np.r_[False, quantity[1:] != quantity[:-1]])
    rows = np.arange(len(quantity)) + 0.4 * gaps
    figure = new_figure(DOUBLE_COLUMN, 7.4)
    axes = figure.subplots(1, 2, sharey=True, sharex=True)
    where = dict(zip(coarse["name"].tolist(), rows.tolist(), strict=True))
    for ax, name in zip(axes, ("coarse", "fine"), strict=True):
        _draw_panel(ax, data[name], where)
    signs = np.where(coarse["side"] == "upper", "≤", "≥")
    labels = [f"{name}  {sign}" for name, sign in zip(coarse["name"], signs, strict=True)]
    axes[0].set_yticks(rows, labels=labels)
    axes[0].set(xlim=(-0.01, 1.01), ylim=(rows[-1] + 0.8, -0.8))
    panel_titles({axes[0]: f"{COARSE} outcomes", axes[1]: f"{FINE} outcomes"})
    return figure


def _draw_panel(ax: Axes, table: Table, where: dict[str, float]) -> None:
    slack = np.stack([table[_column(q)] for q in bounds_sweep.QUANTILES])
    for i, (low, left, middle, right, high) in enumerate(np.clip(slack, 0, 1).T):
        row = where[str(table["name"][i])]
        color = COLORS["soft_best_of_n" if table["soft"][i] else "best_of_n"]
        ax.plot([low, high], [row, row], color=color, linewidth=0.8)
        ax.barh(row, right - left, left=left, height=0.6, color=color)
        ax.plot([middle, middle], [row - 0.42, row + 0.42], color="black", linewidth=1.2)
    ax.tick_params(axis="y", length=0, labelsize=5.5)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel("relative slack (0 is tight)")


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("bounds", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
