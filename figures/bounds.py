"""How tight each published or derived bound is, over random problems.

``python -m figures.bounds --output DIR``
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
from matplotlib.figure import Figure

from figures.output import FigureData, FigureFiles, command_line, float64, write
from figures.style import COLORS, DOUBLE_COLUMN, new_figure, styled
from simulations.experiments import bounds_sweep

__all__ = ["data", "draw", "main"]

SEED = 20261122

CAPTION = (
    "How tight each bound is: the slack relative to the larger of bound and exact value, over "
    "{num_problems} random problems (five outcomes, Dirichlet laws from nearly equal to nearly "
    "degenerate, ties in 40 %, n − 1 from 0.01 to 10⁴, temperature from 0.02 to 10 ranges of the "
    "reward). Lines: 5 % to 95 % of the problems; bars: the middle half; ticks: the median. 0 is "
    "tight; at 1 an upper bound says nothing about the order of magnitude and a lower bound on a "
    "positive quantity is vacuous (what is beyond is drawn at 1). Blue: best-of-n and other rank "
    "policies; orange: soft best-of-n and the exponential race; hollow: conjectures. Violations: "
    "{violations}."
)


@float64
def data(*, num_problems: int = 16_384) -> FigureData:
    """Quantiles of the relative slack of every inequality."""
    config = bounds_sweep.Config(num_problems=num_problems)
    outcomes = bounds_sweep.run(config, jax.random.key(SEED)).outcomes.values()
    slack = np.array([outcome.relative_slack for outcome in outcomes])
    entries = [outcome.inequality for outcome in outcomes]
    violations = np.array([outcome.violations for outcome in outcomes])
    table = {
        "name": np.array([entry.name for entry in entries]),
        "quantity": np.array([entry.quantity.name for entry in entries]),
        "side": np.array([entry.side for entry in entries]),
        "source": np.array([entry.source for entry in entries]),
        "conjecture": np.array([entry.status == "conjecture" for entry in entries]),
        "soft": np.array([entry.name.startswith(_SOFT) for entry in entries]),
        "violations": violations,
    }
    quantiles = {f"slack_{100 * q:.0f}": slack[:, i] for i, q in enumerate(bounds_sweep.QUANTILES)}
    return FigureData(
        CAPTION.format(num_problems=num_problems, violations=int(violations.sum())),
        {"bounds": table | quantiles},
        {"seed": SEED, "num_problems": num_problems},
    )


_SOFT = ("soft", "tilt", "exponential_race")


@styled
def draw(data: FigureData) -> Figure:
    """One row per bound, grouped by the quantity that it bounds."""
    bounds = data["bounds"]
    figure = new_figure(DOUBLE_COLUMN, 7.6)
    ax = figure.subplots()
    low, left, middle, right, high = (
        np.minimum(bounds[f"slack_{100 * q:.0f}"], 1) for q in bounds_sweep.QUANTILES
    )
    rows = np.arange(len(middle), dtype=float)
    changes = np.r_[False, bounds["quantity"][1:] != bounds["quantity"][:-1]]
    rows += 0.35 * np.cumsum(changes)  # a gap between quantities
    for i, row in enumerate(rows):
        color = COLORS["soft_best_of_n" if bounds["soft"][i] else "best_of_n"]
        face = "white" if bounds["conjecture"][i] else color
        ax.plot([low[i], high[i]], [row, row], color=color, linewidth=0.8)
        ax.barh(row, right[i] - left[i], left=left[i], height=0.62, color=face, edgecolor=color)
        ax.plot(2 * [middle[i]], [row - 0.42, row + 0.42], color="black", linewidth=1.2)
    labels = [
        f"{quantity}  {'≤' if side == 'upper' else '≥'}  {_short(name)}"
        for quantity, side, name in zip(
            bounds["quantity"], bounds["side"], bounds["name"], strict=True
        )
    ]
    ax.set_yticks(rows, labels=labels)
    ax.tick_params(axis="y", length=0, labelsize=5.5)
    ax.grid(axis="y", visible=False)
    ax.set(xlim=(0, 1), ylim=(rows[-1] + 0.7, -0.7), xlabel="relative slack (0 is tight)")
    return figure


def _short(name: str) -> str:
    """What the bound uses: the name of its function without the selection and the quantity."""
    for ending in ("_from_", "_below_", "_above_", "_ties_"):
        if ending in name:
            return name[name.index(ending) + 1 :].replace("_", " ")
    for ending in ("pointwise", "over_n", "floor", "tie_free"):
        if name.endswith(ending):
            return ending.replace("_", " ")
    return "closed form"


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("bounds", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
