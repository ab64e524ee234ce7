"""A language model trained here, aligned by every loss: win rate, KL divergence and length.

``python -m figures.text_alignment RESULTS.json --output DIR``, with the results saved by
``simulations.experiments.text_alignment``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bon_theory as bt
from figures.bonbon_figure_3 import points as published
from figures.output import FigureData, FigureFiles, float64, write
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
from simulations.experiments.text_policies import TextAlignmentResults

__all__ = ["data", "draw", "main"]

SHOWN = {  # colour, marker, whether filled: losses on best-and-worst pairs are
    "SFT-BoN": ("sft", "P", True),
    "BoNBoN": ("bonbon", "o", True),
    "IPO-BoN": ("ipo", "v", True),
    "DPO-BoN, β = 0.1": ("dpo", "^", True),
    "IPO, ordinary, β = 0.1": ("ipo", "v", False),
    "DPO, ordinary, β = 0.1": ("dpo", "^", False),
    "matched targets": ("ipo_matched", "s", True),
}

CAPTION = (
    "A language model trained here, on its way through alignment by each loss. "
    "Left, win rate against KL divergence from the reference, in nats; right, win rate against "
    "mean length in tokens, an off-target attribute; a line for each loss, a mark for each "
    "evaluation, after {steps} updates of 32 pairs (RMSprop, {seeds}), bars of one standard error "
    "over {over}. Ring: best-of-8 sampling, its divergence log 8 − 7/8; black, the largest win "
    "rate at each KL divergence where rewards do not tie; grey dots, BoNBoN's published points "
    "(Pythia-2.8b); grey line, the reference's length. "
    "{lines} Held-out prompts; ties count half; n = 8 and α = 0.005 throughout."
)


@float64
def data(results: TextAlignmentResults) -> FigureData:
    """Every method's path, averaged over seeds, and best-of-8 beside it."""
    tables, tasks = {}, [reference.task for reference in results.references]
    methods = list(dict.fromkeys(policy.method for policy in results.policies))
    for task in tasks:
        for method in methods:
            path = results.mean_path(task, method)
            columns = {"step": np.array([step for step, _ in path])}
            for name in ("win_rate", "kl", "mean_length", "repetition", "kl_from_ranks"):
                found = [getattr(at, name) for _, at in path]
                columns[name] = np.array([estimate.mean for estimate in found])
                columns[f"{name}_error"] = np.array([estimate.std_error for estimate in found])
            tables[f"{task}, {method}"] = columns
    tables["references"] = {
        name: np.array([getattr(reference, name) for reference in results.references])
        for name in ("task", "best_of_n_win_rate", "best_of_n_kl", "best_of_n_length")
        + ("reference_length", "tie_probability", "tied_prompts")
    }
    law, strengths = bt.Policy.uniform_reward(), jnp.asarray(np.geomspace(0.3, 1e4, 60))
    optimum = bt.win_rate_optimal(law, strengths)
    tables["optimum"] = {
        "kl": np.asarray(bt.kl_divergence(optimum, law)),
        "win_rate": np.asarray(bt.win_rate(optimum, law)),
    }
    points = [point for point in published() if point.method == "BoNBoN"]
    tables["published"] = {
        "kl": np.array([point.kl for point in points]),
        "win_rate": np.array([point.win_rate for point in points]),
    }
    seeds = len({policy.seed for policy in results.policies})
    caption = CAPTION.format(
        steps=", ".join(map(str, sorted({policy.step for policy in results.policies}))),
        seeds="one seed" if seeds == 1 else f"mean of {seeds} seeds",
        over="prompts" if seeds == 1 else "seeds",
        lines=" ".join(
            f"{r.task.capitalize()}: two responses tie with probability {r.tie_probability:.0%}."
            for r in results.references
        ),
    )
    return FigureData(caption, tables)


@styled
def draw(data: FigureData) -> Figure:
    """A row for each task."""
    tasks = [str(task) for task in data["references"]["task"]]
    figure = new_figure(DOUBLE_COLUMN, 2.8 * len(tasks) + 0.5)
    rows = figure.subplots(len(tasks), 2, squeeze=False)
    titles = {}
    for i, (task, (plane, length)) in enumerate(zip(tasks, rows, strict=True)):
        at = {name: column[i] for name, column in data["references"].items()}
        best = {"color": COLORS["best_of_n"], "fillstyle": "none", "markersize": 8}
        plane.plot(*data["published"].values(), "o", color=BOUND, markersize=2.5, alpha=0.6)
        plane.plot(*data["optimum"].values(), color=COLORS["win_rate_optimal"], linewidth=0.9)
        plane.plot(at["best_of_n_kl"], at["best_of_n_win_rate"], "o", **best)
        length.plot(at["best_of_n_length"], at["best_of_n_win_rate"], "o", **best)
        length.axvline(at["reference_length"], color="#AAAAAA", linewidth=0.8)
        _paths(plane, data, task, "kl")
        _paths(length, data, task, "mean_length")
        plane.set(xscale="log", xlim=(0.02, 60), ylim=(0.45, 1.01), ylabel="win rate")
        whole_ticks(plane, (0.03, 0.1, 0.3, 1, 3, 10, 30))
        length.set_ylim(0.45, 1.01)
        label(plane, "optimum", (0.03, 0.68), color=COLORS["win_rate_optimal"])
        titles |= {plane: f"{task}: KL divergence", length: f"{task}: length"}
    rows[-1, 0].set_xlabel("KL divergence (nats)")
    rows[-1, 1].set_xlabel("mean length (tokens)")
    figure.legend(*rows[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    panel_titles(titles)
    return figure


def _paths(ax: Axes, data: FigureData, task: str, column: str) -> None:
    for method, (color, marker, filled) in SHOWN.items():
        if (path := data.tables.get(f"{task}, {method}")) is None:
            continue
        ax.errorbar(
            path[column],
            path["win_rate"],
            xerr=path[f"{column}_error"],
            yerr=path["win_rate_error"],
            marker=marker,
            color=COLORS[color],
            markerfacecolor=COLORS[color] if filled else "white",
            linewidth=0.9,
            elinewidth=0.5,
            label=method,
        )


def main(output_dir: Path, results: TextAlignmentResults) -> FigureFiles:
    """Draw and write what an experiment found."""
    numbers = data(results)
    return write("text_alignment", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the alignment of the language model.")
    parser.add_argument("results", type=Path, metavar="RESULTS.json")
    parser.add_argument("--output", type=Path, default=Path("figures-out"), metavar="DIR")
    arguments = parser.parse_args()
    print(main(arguments.output, TextAlignmentResults.load(arguments.results)).png)
