"""One parameter of a loss changed at a time, on the model trained here, by runs that are kept.

[G], Figure 5, and beyond it: β, the weight α of SFT, n; and β of IPO and DPO.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures import text_alignment
from figures.aligned_models import FOUND
from figures.output import FigureData, FigureFiles, command_line, write
from figures.style import COLORS, DOUBLE_COLUMN, new_figure, panel_titles, shades, styled
from figures.text_alignment import RING
from simulations.experiments.text_policies import TextAlignmentResults

__all__ = ["SWEPT", "data", "draw", "main"]

SWEPT = {  # panels, and methods that differ in one parameter alone: value and colour
    "BoNBoN’s β": {"β*/5": "BoNBoN, β*/5", "β*": "BoNBoN", "5β*": "BoNBoN, 5β*"},
    "BoNBoN’s α": {
        "0 (IPO-BoN)": "IPO-BoN",
        "0.005": "BoNBoN",
        "0.05": "BoNBoN, α = 0.05",
        "0.5": "BoNBoN, α = 0.5",
        "1 (SFT-BoN)": "SFT-BoN",
    },
    "BoNBoN’s n": {"n = 2": "BoNBoN, n = 2", "n = 4": "BoNBoN, n = 4", "n = 8": "BoNBoN"},
    "IPO’s β": {
        "0.03": "IPO, ordinary, β = 0.03",
        "0.1": "IPO, ordinary, β = 0.1",
        "BoN, β*": "IPO-BoN",
        "BoN, 0.1": "IPO-BoN, β = 0.1",
    },
    "DPO’s β": {
        "0.03": "DPO, ordinary, β = 0.03",
        "0.1": "DPO, ordinary, β = 0.1",
        "BoN, 0.03": "DPO-BoN, β = 0.03",
        "BoN, 0.1": "DPO-BoN, β = 0.1",
    },
}
_SWEPT_IN = {"B": "bonbon", "I": "ipo", "D": "dpo"}  # colours, by the panel's first letter

CAPTION = (
    "Five times β*_n stops early, a fifth of it runs away; the weight of SFT hardly matters. "
    "BoNBoN with one parameter changed ([G] Figure 5): β, α and n (a ring at each best-of-n "
    "without ties), and IPO and DPO at several β on ordinary and on best-and-worst pairs (BoN); "
    "last, win rate by updates of the losses below. Model trained here, {seeds} seeds, after "
    "{steps} updates of 32 pairs; bars: one standard error over seeds. {marks}"
)


def data() -> FigureData:
    """The committed runs' paths, averaged over seeds."""
    results = TextAlignmentResults.load(FOUND["trained here"])
    caption = CAPTION.format(
        seeds=len({policy.seed for policy in results.policies}),
        steps=", ".join(map(str, sorted({policy.step for policy in results.policies}))),
        marks=text_alignment.marks(results),
    )
    return FigureData(caption, text_alignment.tables(results))


@styled
def draw(data: FigureData) -> Figure:
    """Two rows for each task: its sweeps, and win rates by updates."""
    tasks = [str(task) for task in data["references"]["task"]]
    figure = new_figure(DOUBLE_COLUMN, 4.4 * len(tasks))
    grid, titles = figure.subplots(2 * len(tasks), 3, squeeze=False), {}
    for i, task in enumerate(tasks):
        rows = grid[2 * i : 2 * i + 2]
        *panels, wins = rows.reshape(-1)
        for ax, (title, values) in zip(panels, SWEPT.items(), strict=True):
            text_alignment.plane(ax, data, i)
            _sweep(ax, data, task, title, values)
            titles[ax] = f"{task}: {title}" if ax is panels[0] else title
        text_alignment.updates(wins, data, task)
        best = float(data["references"]["best_of_n_win_rate"][i])
        text_alignment.levels(wins, best, float(data["BoNBoN's minimiser"]["win_rate"][0]))
        text_alignment.paths(wins, data, task, "step", "win_rate")
        titles[wins] = "win rate by updates"
        for ax in rows[:, 0]:
            ax.set_ylabel("win rate")
    handles = grid[1, 2].get_legend_handles_labels()
    figure.legend(*handles, loc="outside lower center", ncols=4)
    panel_titles(titles)
    return figure


def _sweep(ax: Axes, data: FigureData, task: str, title: str, values: Mapping[str, str]) -> None:
    """One path for each value, light to full."""
    colors = shades(COLORS[_SWEPT_IN[title[0]]], len(values))
    for (value, method), color, marker in zip(values.items(), colors, "osv^P", strict=False):
        path = data[f"{task}, {method}"]
        ax.errorbar(
            path["kl"],
            path["win_rate"],
            xerr=path["kl_error"],
            yerr=path["win_rate_error"],
            marker=marker,
            color=color,
            linewidth=0.9,
            elinewidth=0.5,
            label=value,
        )
        if value.startswith("n = "):
            n = int(value.removeprefix("n = "))
            ax.plot(np.log(n) - (n - 1) / n, n / (n + 1), "o", **RING)
    ax.legend(loc="upper left", handlelength=1.0, labelspacing=0.2)


def main(output_dir: Path) -> FigureFiles:
    """Draw and write."""
    numbers = data()
    return write("alignment_sweeps", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
