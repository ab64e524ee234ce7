"""[G] Figure 3's points on the exact frontier, and Figure 2, right, at its whole numbers.

``python -m figures.published_points --output DIR``
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bon_theory as bt
from bon_theory import alignment
from figures.bonbon_figure_3 import Marker
from figures.bonbon_figure_3 import points as published
from figures.output import FigureData, FigureFiles, command_line, float64, write
from figures.style import (
    COLORS,
    DOUBLE_COLUMN,
    label,
    new_figure,
    panel_titles,
    styled,
    whole_ticks,
)

__all__ = ["data", "draw", "main"]

CAPTION = (
    "Best-of-8 sampling lies on the exact frontier; no trained policy does."
    " (a, b) The points of Figure 3 of Gui et al., read off"
    " its graphics, on the largest win rate at each KL divergence that any policy can have (line)"
    " and on best-of-n (dashed; a ring at n = 8): Pythia-2.8b, summaries and dialogue. Best-of-8"
    " sampling lies where theory puts it, {sampling}; no trained policy does. At its own KL"
    " divergence BoNBoN is {least:.2f} to {most:.2f} below the frontier. Crosses: what minimises"
    " BoNBoN's loss over all policies at 5β*, β* and β*/5, from left to right (n = 8, α = 0.005;"
    " Figure 5 trains at these). (c) What the optimum gains on best-of-n at equal KL divergence"
    " (Figure 2, right):"
    " below one percentage point, most at n = 2."
)
TASKS = {"TL;DR": "summaries (TL;DR)", "HH": "dialogue (HH)"}
_MARKERS = {  # in words, colour, marker, filled: losses on best-and-worst pairs are filled
    "BoN sampling n=8": ("best-of-8 sampling", "best_of_n", "o", "full"),
    "BoNBoN": ("BoNBoN", "bonbon", "o", "full"),
    "SFT-BoN": ("SFT-BoN", "sft", "P", "full"),
    "IPO-BoN": ("IPO-BoN", "ipo", "v", "full"),
    "IPO original": ("IPO, ordinary pairs", "ipo", "v", "none"),
    "DPO-BoN": ("DPO-BoN", "dpo", "^", "full"),
    "DPO original": ("DPO, ordinary pairs", "dpo", "^", "none"),
}
_N = 8
_SCALES = (5.0, 1.0, 0.2)


@float64
def data(*, points: int = 321) -> FigureData:
    """Both curves, the published points with the frontier above each, and what BoNBoN aims at."""
    found = published()
    curves = _curves(jnp.geomspace(2.0, 1e24, points), jnp.geomspace(1.5, 1e24, points))
    numbers = jnp.arange(2.0, 11.0)
    kl = jnp.array([point.kl for point in found])
    optimal, gains = (np.asarray(x) for x in _frontiers(kl, numbers))
    win_rates = np.array([point.win_rate for point in found])
    table = {
        "task": np.array([point.task for point in found]),
        "method": np.array([point.method for point in found]),
        "kl": np.asarray(kl),
        "win_rate": win_rates,
        "optimal_win_rate": optimal,
        "gap": optimal - win_rates,
    }
    gaps = table["gap"][table["method"] == "BoNBoN"]
    return FigureData(
        CAPTION.format(sampling=_sampling(found), least=gaps.min(), most=gaps.max()),
        {
            **{name: _columns(curve) for name, curve in curves.items()},
            "points": table,
            "minimisers": _columns(_minimisers(jnp.array(_SCALES))),
            "gains": {"n": np.asarray(numbers), "gain": gains},
        },
        {"source": "arXiv 2406.00832v3, Figure 3", "n": _N, "sft_weight": 0.005},
    )


def _sampling(found: tuple[Marker, ...]) -> str:
    places = [f"({p.kl:g}, {p.win_rate:g})" for p in found if p.method.startswith("BoN sampling")]
    return f"at {' and '.join(places)} beside ({np.log(_N) - 1 + 1 / _N:.4f}, {_N / (_N + 1):.4f})"


def _columns(table: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    return {name: np.asarray(column) for name, column in table.items()}


@jax.jit
def _curves(strengths: jax.Array, numbers: jax.Array) -> dict[str, dict[str, jax.Array]]:
    """The optimum over its strengths and best-of-n over real n."""
    reference = bt.Policy.uniform_reward()

    def place(policy: bt.Policy) -> dict[str, jax.Array]:
        kl, win_rate = bt.kl_divergence(policy, reference), bt.win_rate(policy, reference)
        return {"kl": kl, "win_rate": win_rate}

    return {
        "optimum": jax.vmap(lambda c: place(bt.win_rate_optimal(reference, c)))(strengths),
        "best_of_n": jax.vmap(lambda n: place(bt.best_of_n(reference, n)))(numbers),
    }


@jax.jit
def _frontiers(kl: jax.Array, numbers: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The largest win rate at each KL divergence, and what it is above that of best-of-n."""
    reference = bt.Policy.uniform_reward()

    def place(n: jax.Array) -> tuple[jax.Array, jax.Array]:
        best = bt.best_of_n(reference, n)
        return bt.kl_divergence(best, reference), bt.win_rate(best, reference)

    best_kl, best_win_rate = jax.vmap(place)(numbers)
    budgets = jnp.minimum(jnp.concatenate([kl, best_kl]), 25.0)  # beyond, it is 1 to 5e-12
    highest = bt.frontier(reference, budgets, objective="win_rate").value
    return highest[: kl.size], highest[kl.size :] - best_win_rate


@jax.jit
def _minimisers(scales: jax.Array) -> dict[str, jax.Array]:
    """Where BoNBoN's loss is least, for multiples of β*_n."""
    reference = bt.Policy.uniform_reward(num_nodes=641, breaks=(0.5,))
    beta = scales * alignment.best_of_n_beta(_N)
    policy = alignment.bonbon(reference, n=_N, beta=beta, sft_weight=0.005)
    return {
        "scale": scales,
        "kl": bt.kl_divergence(policy, reference),
        "win_rate": bt.win_rate(policy, reference),
    }


@styled
def draw(data: FigureData) -> Figure:
    """A panel for each task, and a narrow one for what the optimum gains."""
    figure = new_figure(DOUBLE_COLUMN, 3.0)
    summaries, dialogue, gains = figure.subplots(1, 3, width_ratios=(1, 1, 0.75))
    for ax, task in ((summaries, "TL;DR"), (dialogue, "HH")):
        _plane(ax, data, task)
    summaries.set_ylabel("win rate")
    _gains(gains, data)
    figure.legend(
        *summaries.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        handletextpad=0.2,
        columnspacing=1.4,
    )
    panel_titles({summaries: TASKS["TL;DR"], dialogue: TASKS["HH"], gains: "optimum's gain"})
    return figure


def _plane(ax: Axes, data: FigureData, task: str) -> None:
    optimum, best = data["optimum"], data["best_of_n"]
    ax.plot(optimum["kl"], optimum["win_rate"], color=COLORS["win_rate_optimal"])
    ax.plot(best["kl"], best["win_rate"], color=COLORS["best_of_n"], linestyle="--")
    theory = (np.log(_N) - 1 + 1 / _N, _N / (_N + 1))
    ax.plot(*theory, "o", color=COLORS["best_of_n"], fillstyle="none", markersize=8)
    aims = data["minimisers"]

    table = data["points"]
    for method, (words, name, marker, fill) in _MARKERS.items():
        shown = (table["task"] == task) & (table["method"] == method)
        ax.plot(
            table["kl"][shown],
            table["win_rate"][shown],
            marker=marker,
            color=COLORS[name],
            fillstyle=fill,
            linestyle="none",
            label=words,
            clip_on=False,
        )
    aim = {"color": COLORS["bonbon"], "markersize": 5, "label": "BoNBoN's minimisers"}
    ax.plot(aims["kl"], aims["win_rate"], "x", **aim)
    ax.set(xscale="log", xlim=(0.25, 100), ylim=(0.5, 1.01))
    ax.set_xlabel("KL divergence (nats)")
    whole_ticks(ax, (0.3, 1, 3, 10, 30, 100))
    label(ax, "optimum", (3.2, 0.955), color=COLORS["win_rate_optimal"])


def _gains(ax: Axes, data: FigureData) -> None:
    gains = data["gains"]
    ax.plot(gains["n"], 100 * gains["gain"], "o-", color=COLORS["best_of_n"])
    ax.set(ylim=(0, 1.05), xlabel="n (draws)", ylabel="percentage points")
    whole_ticks(ax, gains["n"][::2])


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("published_points", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
