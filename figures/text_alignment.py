"""A language model trained here, aligned by every loss: win rate, KL divergence and length.

``python -m figures.text_alignment RESULTS.json --output DIR``, with the results saved by
``simulations.experiments.text_alignment``.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bon_theory as bt
from bon_theory import alignment
from figures.bonbon_figure_3 import points as published
from figures.output import Columns, FigureData, FigureFiles, float64, results_command_line, write
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

__all__ = [
    "RING", "data", "draw", "levels", "main", "marks", "paths", "plane", "tables", "texts",
    "updates",
]  # fmt: skip

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
    "Left, win rate against KL divergence from the reference, in nats; middle, win rate against "
    "mean length in tokens, an off-target attribute; right, the divergence as updates go by; a "
    "line for each loss, a mark for each evaluation, after {steps} updates of 32 pairs (RMSprop, "
    "{seeds}), bars of one standard error over {over}. {marks} Held-out prompts. The full profile "
    "adds a second reward, three seeds, matched targets and DPO on ordinary pairs."
)
MARKS = (
    "Ring and blue line: best-of-8 sampling, by the rewards of the reference's own responses; "
    "orange cross and dashes: what minimises BoNBoN's loss over all laws; black, the largest win "
    "rate at each KL divergence, both where rewards do not tie; grey dots, BoNBoN's published "
    "points (Pythia-2.8b); grey line, the reference's length. {ties} Ties count half; n = 8 "
    "and α = 0.005 where nothing else is said."
)


def data(results: TextAlignmentResults) -> FigureData:
    """Every method's path, averaged over seeds, and best-of-8 beside it."""
    seeds = len({policy.seed for policy in results.policies})
    found = tables(results)
    caption = CAPTION.format(
        steps=", ".join(map(str, sorted({policy.step for policy in results.policies}))),
        seeds="one seed" if seeds == 1 else f"mean of {seeds} seeds",
        over="prompts" if seeds == 1 else "seeds",
        marks=marks(results),
    )
    return FigureData(caption, found, texts=texts(results))


def marks(results: TextAlignmentResults) -> str:
    """What is drawn beside the paths, as a part of a caption."""
    ties = (f"{r.task}: {r.tie_probability:.0%}" for r in results.references)
    return MARKS.format(ties=f"Two responses tie with probability ({'; '.join(ties)}).")


@float64
def tables(results: TextAlignmentResults) -> dict[str, Columns]:
    """Of each task and method its path; and what lies beside them."""
    found, tasks = {}, [reference.task for reference in results.references]
    methods = list(dict.fromkeys(policy.method for policy in results.policies))
    for task, method in itertools.product(tasks, methods):
        if not (path := results.mean_path(task, method)):
            continue
        columns = {"step": np.array([step for step, _ in path])}
        for name in ("win_rate", "kl", "mean_length", "repetition", "kl_from_ranks"):
            estimates = [getattr(at, name) for _, at in path]
            columns[name] = np.array([estimate.mean for estimate in estimates])
            columns[f"{name}_error"] = np.array([estimate.std_error for estimate in estimates])
        found[f"{task}, {method}"] = columns
    found["references"] = {
        name: np.array([getattr(reference, name) for reference in results.references])
        for name in ("task", "best_of_n_win_rate", "best_of_n_kl", "best_of_n_length")
        + ("reference_length", "tie_probability", "tied_prompts")
    }
    law, strengths = bt.Policy.uniform_reward(), jnp.asarray(np.geomspace(0.3, 1e4, 60))
    for name, policy in {
        "optimum": bt.win_rate_optimal(law, strengths),
        "BoNBoN's minimiser": alignment.bonbon(law, n=8, sft_weight=jnp.asarray([0.005])),
    }.items():
        found[name] = {
            "kl": np.asarray(bt.kl_divergence(policy, law)),
            "win_rate": np.asarray(bt.win_rate(policy, law)),
        }
    points = [point for point in published() if point.method == "BoNBoN"]
    found["published"] = {
        "kl": np.array([point.kl for point in points]),
        "win_rate": np.array([point.win_rate for point in points]),
    }
    return found


def texts(results: TextAlignmentResults, prompts: int = 2) -> tuple[tuple[str, str, str], ...]:
    """Of the drawn methods, where they win equally often; the reference's and its best of 8 first.

    [G], Table 1.
    """
    rows = []
    for reference in results.references:
        chosen = [p for p in results.at_equal_win_rate(reference.task) if p.method in SHOWN]
        for i, prompt in enumerate(reference.prompts[:prompts]):
            rows.append((prompt, "the reference", reference.texts[i]))
            rows.append((prompt, "best of its first 8", reference.best_texts[i]))
            for policy in chosen:
                rate = f"{policy.found.win_rate.mean:.2f}".lstrip("0")
                name = f"{policy.method}, {policy.step} updates (win rate {rate})"
                rows.append((prompt, name, policy.texts[i]))
    return tuple(rows)


@styled
def draw(data: FigureData) -> Figure:
    """A row for each task."""
    tasks = [str(task) for task in data["references"]["task"]]
    figure = new_figure(DOUBLE_COLUMN, 2.2 * len(tasks) + 0.6)
    grid, titles = figure.subplots(len(tasks), 3, squeeze=False), {}
    for i, (task, (frontier, length, steps)) in enumerate(zip(tasks, grid, strict=True)):
        plane(frontier, data, i)
        paths(frontier, data, task, "kl", "win_rate")
        label(frontier, "optimum", (0.012, 0.62), color=COLORS["win_rate_optimal"])
        frontier.set_ylabel("win rate")
        _length(length, data, i)
        paths(length, data, task, "mean_length", "win_rate")
        updates(steps, data, task)
        best = data["references"]["best_of_n_kl"][i], data["BoNBoN's minimiser"]["kl"][0]
        levels(steps, *map(float, best))
        paths(steps, data, task, "step", "kl")
        steps.set(yscale="log", ylim=(0.005, 200))
        whole_ticks(steps, (0.01, 0.1, 1, 10, 100), "y")
        titles |= {frontier: task, length: "length", steps: "KL by updates"}
    drawn = [ax.get_legend_handles_labels() for ax in grid[:, 0]]
    methods = {
        name: handle
        for handles, names in drawn
        for handle, name in zip(handles, names, strict=True)
    }
    order = [name for name in SHOWN if name in methods]
    figure.legend([methods[n] for n in order], order, loc="outside lower center", ncols=4)
    panel_titles(titles)
    return figure


RING = {"color": COLORS["best_of_n"], "fillstyle": "none", "markersize": 8}


def _steps(data: FigureData, task: str) -> list[int]:
    """Every evaluation's number of updates, or every other one if they are many."""
    steps = sorted(
        {int(s) for n, t in data.tables.items() if n.startswith(f"{task}, ") for s in t["step"]}
    )
    return steps if len(steps) < 5 else steps[::2]


def plane(ax: Axes, data: FigureData, row: int) -> None:
    """What every path is held against."""
    at = {name: column[row] for name, column in data["references"].items()}
    ax.plot(*data["published"].values(), "o", color=BOUND, markersize=2.5, alpha=0.6)
    ax.plot(*data["optimum"].values(), color=COLORS["win_rate_optimal"], linewidth=0.9)
    ax.plot(*data["BoNBoN's minimiser"].values(), "x", color=COLORS["bonbon"], markersize=6)
    ax.plot(at["best_of_n_kl"], at["best_of_n_win_rate"], "o", **RING)
    ax.set(xscale="log", xlim=(0.005, 200), ylim=(0.45, 1.01), xlabel="KL (nats)")
    whole_ticks(ax, (0.01, 0.1, 1, 10, 100))


def _length(ax: Axes, data: FigureData, row: int) -> None:
    at = {name: column[row] for name, column in data["references"].items()}
    ax.plot(at["best_of_n_length"], at["best_of_n_win_rate"], "o", **RING)
    ax.axvline(at["reference_length"], color="#AAAAAA", linewidth=0.8)
    ax.set(ylim=(0.45, 1.01), xlabel="mean length (tokens)")


def updates(ax: Axes, data: FigureData, task: str) -> None:
    """The axis of updates, with those at which a task was looked at."""
    ax.set(xscale="log", xlabel="updates")
    whole_ticks(ax, _steps(data, task))


def levels(ax: Axes, best_of_n: float, minimiser: float) -> None:
    """What best-of-8 has, and what minimises BoNBoN's loss."""
    ax.axhline(best_of_n, color=COLORS["best_of_n"], linewidth=0.8)
    ax.axhline(minimiser, color=COLORS["bonbon"], linewidth=0.8, dashes=(4, 2))


def paths(ax: Axes, data: FigureData, task: str, across: str, up: str) -> None:
    """Every method's path, one column against another."""
    for method, (color, marker, filled) in SHOWN.items():
        if (path := data.tables.get(f"{task}, {method}")) is None:
            continue
        ax.errorbar(
            path[across],
            path[up],
            xerr=path.get(f"{across}_error"),
            yerr=path.get(f"{up}_error"),
            marker=marker,
            color=COLORS[color],
            markerfacecolor=COLORS[color] if filled else "white",
            linewidth=0.9,
            elinewidth=0.5,
            label=method,
        )


def main(output_dir: Path, results: Path) -> FigureFiles:
    """Draw and write what an experiment found, saved in the file ``results``."""
    numbers = data(TextAlignmentResults.load(results))
    return write("text_alignment", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    results_command_line(main)
