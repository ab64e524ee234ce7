"""A language model trained here, aligned by every loss: win rate, KL divergence and length.

``python -m figures.text_alignment RESULTS.json --output DIR``, with the results saved by
``simulations.experiments.text_alignment``.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
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
    shades,
    styled,
    whole_ticks,
)
from simulations.experiments.text_policies import TextAlignmentResults

__all__ = ["data", "draw", "main", "marks", "tables", "texts"]

SHOWN = {  # colour, marker, whether filled: losses on best-and-worst pairs are
    "SFT-BoN": ("sft", "P", True),
    "BoNBoN": ("bonbon", "o", True),
    "IPO-BoN": ("ipo", "v", True),
    "DPO-BoN, β = 0.1": ("dpo", "^", True),
    "IPO, ordinary, β = 0.1": ("ipo", "v", False),
    "DPO, ordinary, β = 0.1": ("dpo", "^", False),
    "matched targets": ("ipo_matched", "s", True),
}

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
    "A language model trained here, on its way through alignment by each loss. "
    "Left, win rate against KL divergence from the reference, in nats; middle, win rate against "
    "mean length in tokens, an off-target attribute; right, the divergence as updates go by; a "
    "line for each loss, a mark for each evaluation, after {steps} updates of 32 pairs (RMSprop, "
    "{seeds}), bars of one standard error over {over}. {marks} Held-out prompts. {sweeps}"
)
MARKS = (
    "Ring and blue line: best-of-8 sampling, by the rewards of the reference's own responses; "
    "orange cross and dashes: what minimises BoNBoN's loss over all laws; black, the largest win "
    "rate at each KL divergence, both where rewards do not tie; grey dots, BoNBoN's published "
    "points (Pythia-2.8b); grey line, the reference's length. {ties} Ties count half; n = 8 "
    "and α = 0.005 where nothing else is said."
)
SWEEPS = (
    "Below, with one parameter changed ([G] Figure 5): BoNBoN’s β, the weight α of SFT, n (a ring "
    "at each best-of-n without ties), and the β of IPO and DPO on ordinary and on best-and-worst "
    "pairs.",
    "The full profile adds a second reward, three seeds, matched targets, DPO on ordinary pairs, "
    "and sweeps over β, α and n.",
)


def data(results: TextAlignmentResults) -> FigureData:
    """Every method's path, averaged over seeds, and best-of-8 beside it."""
    seeds = len({policy.seed for policy in results.policies})
    found = tables(results)
    swept = any(_is_swept(found, str(task)) for task in found["references"]["task"])
    caption = CAPTION.format(
        steps=", ".join(map(str, sorted({policy.step for policy in results.policies}))),
        seeds="one seed" if seeds == 1 else f"mean of {seeds} seeds",
        over="prompts" if seeds == 1 else "seeds",
        marks=marks(results),
        sweeps=SWEEPS[0 if swept else 1],
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
    """A row for each task, and two for the sweeps that there are of it."""
    tasks = [str(task) for task in data["references"]["task"]]
    heights = [3 if _is_swept(data.tables, task) else 1 for task in tasks]
    figure = new_figure(DOUBLE_COLUMN, 2.2 * sum(heights) + 0.6)
    grid, titles, row = figure.subplots(sum(heights), 3, squeeze=False), {}, 0
    for i, (task, height) in enumerate(zip(tasks, heights, strict=True)):
        plane, length, updates = grid[row]
        _plane(plane, data, i)
        _paths(plane, data, task, "kl", "win_rate")
        label(plane, "optimum", (0.03, 0.68), color=COLORS["win_rate_optimal"])
        _length(length, data, i)
        _paths(length, data, task, "mean_length", "win_rate")
        _updates(updates, data, task)
        best = data["references"]["best_of_n_kl"][i], data["BoNBoN's minimiser"]["kl"][0]
        _levels(updates, *map(float, best))
        _paths(updates, data, task, "step", "kl")
        updates.set(yscale="log", ylim=(0.02, 60))
        whole_ticks(updates, (0.1, 1, 10), "y")
        titles |= {plane: task, length: "length", updates: "KL by updates"}
        if height > 1:
            *panels, wins = grid[row + 1 : row + 3].reshape(-1)
            for ax, (title, values) in zip(panels, SWEPT.items(), strict=True):
                _plane(ax, data, i)
                _sweep(ax, data, task, title, values)
                titles[ax] = title
            _updates(wins, data, task)
            best = data["references"]["best_of_n_win_rate"][i]
            _levels(wins, float(best), float(data["BoNBoN's minimiser"]["win_rate"][0]))
            _paths(wins, data, task, "step", "win_rate")
            titles[wins] = "win rate by updates"
        for ax in grid[row : row + height, 0]:
            ax.set_ylabel("win rate")
        row += height
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


_RING = {"color": COLORS["best_of_n"], "fillstyle": "none", "markersize": 8}


def _is_swept(tables: Mapping[str, Columns], task: str) -> bool:
    """Whether there is a path for every value of every sweep."""
    methods = (method for values in SWEPT.values() for method in values.values())
    return all(f"{task}, {method}" in tables for method in methods)


def _steps(data: FigureData, task: str) -> list[int]:
    """Every evaluation's number of updates, or every other one if they are many."""
    steps = sorted(
        {int(s) for n, t in data.tables.items() if n.startswith(f"{task}, ") for s in t["step"]}
    )
    return steps if len(steps) < 5 else steps[::2]


def _plane(ax: Axes, data: FigureData, row: int) -> None:
    """What every path is held against."""
    at = {name: column[row] for name, column in data["references"].items()}
    ax.plot(*data["published"].values(), "o", color=BOUND, markersize=2.5, alpha=0.6)
    ax.plot(*data["optimum"].values(), color=COLORS["win_rate_optimal"], linewidth=0.9)
    ax.plot(*data["BoNBoN's minimiser"].values(), "x", color=COLORS["bonbon"], markersize=6)
    ax.plot(at["best_of_n_kl"], at["best_of_n_win_rate"], "o", **_RING)
    ax.set(xscale="log", xlim=(0.02, 60), ylim=(0.45, 1.01), xlabel="KL (nats)")
    whole_ticks(ax, (0.1, 1, 10))


def _length(ax: Axes, data: FigureData, row: int) -> None:
    at = {name: column[row] for name, column in data["references"].items()}
    ax.plot(at["best_of_n_length"], at["best_of_n_win_rate"], "o", **_RING)
    ax.axvline(at["reference_length"], color="#AAAAAA", linewidth=0.8)
    ax.set(ylim=(0.45, 1.01), xlabel="mean length (tokens)")


def _updates(ax: Axes, data: FigureData, task: str) -> None:
    ax.set(xscale="log", xlabel="updates")
    whole_ticks(ax, _steps(data, task))


def _levels(ax: Axes, best_of_n: float, minimiser: float) -> None:
    ax.axhline(best_of_n, color=COLORS["best_of_n"], linewidth=0.8)
    ax.axhline(minimiser, color=COLORS["bonbon"], linewidth=0.8, dashes=(4, 2))


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
            ax.plot(np.log(n) - (n - 1) / n, n / (n + 1), "o", **_RING)
    ax.legend(loc="lower right")


def _paths(ax: Axes, data: FigureData, task: str, across: str, up: str) -> None:
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
