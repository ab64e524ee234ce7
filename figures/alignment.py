"""A language model on its way through alignment, exactly: every loss beside what it aims at.

``python -m figures.alignment RESULTS.json --output DIR``, with the results saved by
``simulations.experiments.enumerable_alignment``.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.bonbon_figure_3 import points as published
from figures.output import FigureData, FigureFiles, results_command_line, write
from figures.style import (
    BOUND,
    COLORS,
    DOUBLE_COLUMN,
    label,
    new_figure,
    panel_titles,
    styled,
    whole_ticks,
)
from simulations.experiments.enumerable_alignment import EnumerableAlignmentResults

__all__ = ["data", "draw", "main"]

SHOWN = {  # colour and dashes
    "SFT-BoN": ("sft", (4, 1)),
    "BoNBoN, β*": ("bonbon", ()),
    "IPO, ordinary, β = 0.1": ("ipo", (1, 1)),
    "DPO-BoN, β = 0.1": ("dpo", (3, 1, 1, 1)),
    "matched targets": ("ipo_matched", (5, 1, 1, 1)),
    "variational best-of-n": ("best_of_poisson", (2, 1)),
}
CAPTION = (
    "Contrastive losses run past best-of-n soon, and come back towards what they aim at. "
    "Here within {peak} updates. "
    "A transformer all of whose {responses} responses are known is trained by RMSprop (as in the "
    "paper; learning rate {rate:g}, falling to 0) on fresh pairs of best and worst of {n}, {batch} "
    "a step, and its law written down on the way: exact values, one run. (a) Win rate against KL "
    "divergence from the reference; black, the largest win rate at each; ring, best-of-{n}; "
    "crosses, the minimisers over all laws of the drawn losses that have one other than best-of-n; "
    "grey, BoNBoN's published points (Pythia-2.8b). (b) Win rate and (c) KL divergence by updates; "
    "blue, best-of-{n}; orange dashes, BoNBoN's minimiser. (d) Total variation from best-of-{n}. "
    "Ordinary IPO's β has a minimiser with about the KL divergence of best-of-{n}; matched: each "
    "pair's own margin at best-of-{n} as its target, exact; variational best-of-n and the second "
    "half of BOND are trained on the policy's own responses."
)


def data(results: EnumerableAlignmentResults) -> FigureData:
    """All paths, and what lies beside them."""
    config = results.config
    bonbon = results.path("BoNBoN, β*")
    caption = CAPTION.format(
        n=config.n,
        peak=int(results.steps[np.argmax(bonbon.win_rate)]),
        responses=results.num_responses,
        rate=config.learning_rate,
        batch=config.batch_size,
    )
    tables = {
        f"path, {path.name}": {
            "step": results.steps,
            "win_rate": path.win_rate,
            "kl": path.kl,
            "total_variation": path.total_variation,
            "mean_length": path.mean_length,
        }
        for path in results.paths
    }
    marks = [asdict(landmark) for landmark in results.landmarks]
    tables["landmarks"] = {name: np.array([m[name] for m in marks]) for name in marks[0]}
    tables["frontier"] = {"kl": results.frontier[0], "win_rate": results.frontier[1]}
    points = [point for point in published() if point.method == "BoNBoN"]
    tables["published"] = {
        "kl": np.array([point.kl for point in points]),
        "win_rate": np.array([point.win_rate for point in points]),
    }
    return FigureData(caption, tables, {"config": asdict(config)})


@styled
def draw(data: FigureData) -> Figure:
    """The plane, and three quantities by updates."""
    figure = new_figure(DOUBLE_COLUMN, 4.9)
    ((plane, wins), (divergence, distance)) = figure.subplots(2, 2)
    _plane(plane, data)
    marks = {str(name): i for i, name in enumerate(data["landmarks"]["name"])}
    for ax, column, title in (
        (wins, "win_rate", "win rate"),
        (divergence, "kl", "KL divergence (nats)"),
        (distance, "total_variation", "total variation"),
    ):
        for name, style in _styles().items():
            path = data[f"path, {name}"]
            ax.plot(path["step"][1:], path[column][1:], **style)
        for name, color, dashes in (
            ("best-of-n", "best_of_n", "-"),
            ("BoNBoN, β*", "bonbon", "--"),
        ):
            level = data["landmarks"][column][marks[name]]
            ax.axhline(level, color=COLORS[color], linestyle=dashes, linewidth=0.8)
        ax.set(xscale="log", xlabel="updates", ylabel=title, ylim=(0, None))
        whole_ticks(ax, (1, 3, 10, 30, 100, 300))
    wins.set_ylim(0.5, 1.0)
    figure.legend(
        *wins.get_legend_handles_labels(), loc="outside lower center", ncols=3, handlelength=2.6
    )
    panel_titles(
        {
            plane: "where training leads",
            wins: "win rate",
            divergence: "KL divergence",
            distance: "distance from best-of-n",
        }
    )
    return figure


def _styles() -> dict[str, dict]:
    return {
        name: {"color": COLORS[color], "dashes": dashes, "label": name}
        for name, (color, dashes) in SHOWN.items()
    }


def _plane(ax: Axes, data: FigureData) -> None:
    ax.plot(*data["published"].values(), "o", color=BOUND, markersize=2.5, alpha=0.6)
    ax.plot(*data["frontier"].values(), color=COLORS["win_rate_optimal"], linewidth=0.9)
    for name, style in _styles().items():
        path = data[f"path, {name}"]
        ax.plot(path["kl"][1:], path["win_rate"][1:], linewidth=1.0, **style)
        ax.plot(path["kl"][-1:], path["win_rate"][-1:], "o", color=style["color"], markersize=3)
    marks = data["landmarks"]
    for name, kl, win_rate in zip(marks["name"], marks["kl"], marks["win_rate"], strict=True):
        if name == "best-of-n":
            best = {"color": COLORS["best_of_n"], "fillstyle": "none", "markersize": 8}
            ax.plot(kl, win_rate, "o", **best)
        elif name in SHOWN:
            ax.plot(kl, win_rate, "x", color=COLORS[SHOWN[str(name)][0]], markersize=6)
    ax.set(xscale="log", xlim=(0.1, 15), ylim=(0.5, 1.01))
    ax.set(xlabel="KL divergence (nats)", ylabel="win rate")
    whole_ticks(ax, (0.1, 0.3, 1, 3, 10))
    label(ax, "optimum", (0.13, 0.72), color=COLORS["win_rate_optimal"])
    label(ax, "published", (5.5, 0.72), color=BOUND)


def main(output_dir: Path, results: Path) -> FigureFiles:
    """Draw and write what an experiment found, saved in the file ``results``."""
    numbers = data(EnumerableAlignmentResults.load(results))
    return write("alignment", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    results_command_line(main)
