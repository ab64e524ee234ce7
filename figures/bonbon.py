"""What BoNBoN alignment converges to, and how it gets there, in the win-rate-KL plane.

``python -m figures.bonbon --output DIR``
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import bon_theory as bt
from bon_theory import alignment
from figures.output import Columns, FigureData, FigureFiles, command_line, float64, tracked, write
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

__all__ = ["data", "draw", "main"]


SWEPT = (4, 8, 32)  # n of the sweeps over the SFT weight
N, LEVELS = 8, 64  # of the flows
DPO_BETA = 0.1

CAPTION = (
    "From n = 8 on IPO-BoN and BoNBoN have minimisers that win less often than best-of-n. "
    "What losses on samples of best-of-n aim at, for a reward without ties: (a) minimisers of "
    "BoNBoN, α SFT-BoN + (1 − α) IPO-BoN, for n = 4, 8, 32, from IPO-BoN (α = 0, squares) to "
    "best-of-n (α = 1, dots); the cross is the paper's n = 8, α = 0.005; black, the largest win "
    "rate at each KL divergence. (b) Win rate of the minimiser of IPO-BoN against n: largest at "
    "n = 5, then falling to 3/4, that of the better half of the reference. (c) Gradient flow from "
    "the reference, n = {n}, on {levels} equally likely levels of reward: win rate against time. "
    "Matched: IPO with each pair's own margin as its target; IPO: on ordinary pairs with 1/β = "
    "9.05, which has the KL divergence of best-of-8; DPO: best and worst of 8, β = {beta}. (d) The "
    "same flows: what their win rate falls short of the largest at the same KL divergence, in "
    "percentage points. Dots: they end at best-of-8; squares: elsewhere; DPO does not end. Blue is "
    "best-of-n and black the optimum in all panels. Exact; no sampling."
)


@float64
def data(*, points: int = 25) -> FigureData:
    """The sweeps, the flows and the win rates by n."""
    reference = bt.Policy.uniform_reward(num_nodes=641, breaks=(0.5,))
    strengths = jnp.asarray(np.geomspace(0.3, 60.0, 4 * points))
    tables = {
        "win_rate_optimal": _places(bt.win_rate_optimal(reference, strengths), reference),
        "best_of_n": _places(
            bt.best_of_n(reference, jnp.asarray(np.geomspace(1.05, 64, points))), reference
        ),
    }
    # Evenly spaced logarithms of α up to a half, of 1 − α beyond: for large n the minimiser has
    # moved half of the way before α reaches 1e-3.
    small = np.geomspace(1e-8, 0.5, points)
    near_one = 1 - np.geomspace(1e-4, 0.5, (points + 1) // 2)
    weights = np.unique(np.concatenate([[0.0, 0.005, 1.0], small, near_one]))
    numbers = np.array([2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 48, 64])
    # Everything in one batch: a sweep for each n, and IPO-BoN, of weight 0, for each number.
    n = np.concatenate([np.repeat(SWEPT, len(weights)), numbers])
    alpha = np.concatenate([np.tile(weights, len(SWEPT)), np.zeros(len(numbers))])
    minimisers = jax.jit(alignment.bonbon)(reference, n=n, sft_weight=alpha)
    *sweeps, by_n = _split(
        _places(minimisers, reference), len(weights) * np.arange(1, len(SWEPT) + 1)
    )
    for n, sweep in zip(SWEPT, sweeps, strict=True):
        tables[f"bonbon_{n}"] = {"sft_weight": weights} | sweep
    tables |= {f"flow_{name}": table for name, table in _flows(points).items()}
    tables["by_n"] = {"n": numbers} | by_n
    caption = CAPTION.format(n=N, levels=LEVELS, beta=DPO_BETA)
    return FigureData(caption, tables, {"n": N, "levels": LEVELS, "dpo_beta": DPO_BETA})


def _places(policy: bt.Policy, reference: bt.Policy) -> Columns:
    """Columns kl and win_rate, a row per policy of the batch."""
    kl, win_rate = bt.kl_divergence(policy, reference), bt.win_rate(policy, reference)
    return {"kl": np.asarray(kl), "win_rate": np.asarray(win_rate)}


def _split(table: Columns, places: NDArray[np.intp]) -> list[Columns]:
    """The table in pieces, which begin at these rows."""
    columns = {name: np.split(column, places) for name, column in table.items()}
    return [dict(zip(columns, rows, strict=True)) for rows in zip(*columns.values(), strict=True)]


def _flows(points: int) -> dict[str, Columns]:
    """Gradient flow of each loss on equally likely levels, at ``points`` times."""
    reference = bt.Policy.from_samples(jnp.arange(float(LEVELS)))
    losses: dict[str, Callable[[bt.Policy], jax.Array]] = {
        "sft": lambda policy: alignment.sft_best_of_n_loss(policy, reference, n=N),
        "ipo_best_of_n": lambda policy: alignment.bonbon_loss(
            policy, reference, n=N, sft_weight=0.0
        ),
        "ipo_matched": lambda policy: alignment.ipo_matched_loss(policy, reference, n=N),
        "ipo": lambda policy: alignment.ipo_loss(policy, reference, beta=1 / 9.054541421),
        "dpo": lambda policy: alignment.dpo_loss(policy, reference, n=N, beta=DPO_BETA),
    }
    times = np.geomspace(1e-3, 1000.0, 4 * points)
    tables = {}
    for name, loss in tracked(losses.items(), "gradient flows"):
        places = _places(alignment.gradient_flow(loss, reference, times), reference)
        best = np.asarray(bt.frontier(reference, places["kl"], objective="win_rate").value)
        tables[name] = {"time": times} | places | {"shortfall": best - places["win_rate"]}
    return tables


FLOWS = {
    "sft": ("SFT-BoN", COLORS["sft"], "-"),
    "ipo_matched": ("matched", COLORS["ipo_matched"], "--"),
    "ipo": ("IPO", COLORS["ipo"], "-."),
    "ipo_best_of_n": ("IPO-BoN", COLORS["bonbon"], "-"),
    "dpo": ("DPO", COLORS["dpo"], ":"),
}


@styled
def draw(data: FigureData) -> Figure:
    """Aims and their dependence on n above, ways below."""
    figure = new_figure(DOUBLE_COLUMN, 4.9)
    (aims, numbers), (ways, shortfalls) = figure.subplots(2, 2)
    _draw_aims(aims, data)
    _draw_numbers(numbers, data)
    _draw_ways(ways, shortfalls, data)
    panel_titles(
        {
            aims: "minimisers",
            numbers: "more candidates",
            ways: f"gradient flow, n = {N}",
            shortfalls: "short of the optimum on the way",
        }
    )
    return figure


def _draw_aims(ax: Axes, data: FigureData) -> None:
    table = data["win_rate_optimal"]
    ax.plot(table["kl"], table["win_rate"], color=COLORS["win_rate_optimal"], linewidth=0.8)
    for n in SWEPT:
        table = data[f"bonbon_{n}"]
        kl, win_rate = table["kl"], table["win_rate"]
        ax.plot(kl, win_rate, color=COLORS["bonbon"])
        ax.plot(kl[:1], win_rate[:1], "s", color=COLORS["bonbon"])
        ax.plot(kl[-1:], win_rate[-1:], "o", color=COLORS["best_of_n"])
        left = n == min(SWEPT)  # the other side is taken
        ax.annotate(
            f"n = {n}",
            (float(kl[-1]), float(win_rate[-1])),
            (-6, -2) if left else (4, -8),
            textcoords="offset points",
            ha="right" if left else "left",
            fontsize=7,
        )
        if n == N:
            paper = int(np.searchsorted(table["sft_weight"], 0.005))
            ax.plot(kl[paper], win_rate[paper], "x", color="black", markersize=5)
    label(ax, "optimal", (0.75, 0.9), color=COLORS["win_rate_optimal"], ha="right")
    label(ax, "IPO-BoN", (1.0, 0.745), color=COLORS["bonbon"])
    label(ax, "best-of-n", (1.75, 0.86), color=COLORS["best_of_n"])
    ax.set(xlabel="KL divergence from the reference (nats)", ylabel="win rate")
    ax.set(xlim=(0, 2.9), ylim=(0.7, 1.0))


def _draw_ways(ways: Axes, shortfalls: Axes, data: FigureData) -> None:
    percent = 100
    for name, (text, color, style) in FLOWS.items():
        table = data[f"flow_{name}"]
        time, kl, win_rate = table["time"], table["kl"], table["win_rate"]
        ways.plot(time, win_rate, style, color=color, label=text)
        shortfalls.plot(kl, percent * table["shortfall"], style, color=color)
        if name != "dpo":
            marker = "o" if name in ("sft", "ipo_matched") else "s"
            end = percent * table["shortfall"][-1:]
            shortfalls.plot(kl[-1:], end, marker, color=color, zorder=3)
    ways.legend(loc="center right", bbox_to_anchor=(1.0, 0.3))
    ways.set(xscale="log", xlabel="time of the flow", ylabel="win rate", ylim=(0.5, 1.0))
    ways.set(xlim=(data["flow_sft"]["time"][0], data["flow_sft"]["time"][-1]))
    shortfalls.set(xlabel="KL divergence from the reference (nats)", xlim=(0, 3.4), ylim=(0, None))
    shortfalls.set(ylabel="win rate lacking (points)")


def _draw_numbers(ax: Axes, data: FigureData) -> None:
    table = data["by_n"]
    n = table["n"]
    ax.plot(n, n / (n + 1), "o-", color=COLORS["best_of_n"])
    ax.plot(n, table["win_rate"], "s-", color=COLORS["bonbon"])
    ax.axhline(0.75, color=BOUND, linestyle=":", linewidth=1)
    label(ax, "best-of-n", (8, 0.93), color=COLORS["best_of_n"], ha="right")
    label(ax, "IPO-BoN", (14, 0.80), color=COLORS["bonbon"])
    label(ax, "the better half", (15, 0.728), color=BOUND)
    ax.set(xscale="log", xlabel="n (candidates)", ylabel="win rate", ylim=(0.64, 1.0))
    whole_ticks(ax, [2, 4, 8, 16, 32, 64])


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("bonbon", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
