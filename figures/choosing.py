"""Choosing n and temperature: what spends a KL budget, and when softness pays.

``python -m figures.choosing --output DIR``
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy import optimize

import bon_theory as bt
from figures.output import Columns, FigureData, FigureFiles, command_line, float64, tracked, write
from figures.style import (
    BOUND,
    COLORS,
    label,
    shades,
    side_by_side,
    styled,
    whole_ticks,
)

__all__ = ["data", "draw", "main"]

BUDGETS = (0.25, 0.5, 1.0, 1.5)  # nats
HARD = (2, 4, 8, 16)  # N of the best-of-N that is to be beaten
CROSSINGS = (5, 6, 8, 11, 16, 23, 32)
MOST = 110.0  # draws shown
NODES = 1281  # resolve temperatures from .02 on

CAPTION = (
    "Choosing n and temperature for a reward uniform on (0, 1). (a) The temperature at which soft "
    "best-of-n spends a KL budget. It is 0 at the n of hard best-of-n (dots) and tends to that of "
    "the tilt (dotted). (b) Best-of-N against soft best-of-n at the same KL divergence: the share "
    "of the gap between best-of-N and the optimum that softness closes. A few more draws than N "
    "are worse than none once N ≥ 5. (c) The n beyond which soft best-of-n has the higher reward, "
    "about N²/5. Exact; no sampling."
)


class Goal(NamedTuple):
    """Best-of-N, which is to be beaten: its KL divergence, its expected reward, and the largest."""

    kl: jax.Array
    hard: jax.Array
    optimal: jax.Array


@float64
def data(*, points: int = 15) -> FigureData:
    """Temperatures along budgets, advantages along equal KL, and where they change sign."""
    reference = bt.Policy.uniform_reward(num_nodes=NODES)
    budgets = np.asarray(BUDGETS)
    hard_n = np.asarray(bt.n_for_kl(reference, budgets))
    limits = np.asarray(bt.temperature_for_kl(reference, budgets, n=math.inf))
    # Close points where curves bend: at the first extra draws.
    spent = [
        _along(reference, n, 1 + np.geomspace(0.05, MOST / n - 1, points))
        for n in tracked(hard_n, "budgets")
    ]
    beaten = [
        _along(reference, float(n), 1 + np.geomspace(0.15, 11.0, points))
        for n in tracked(HARD, "advantages")
    ]
    crossings = np.asarray(CROSSINGS, float)
    tables = {
        "budgets": {"kl": budgets, "hard_n": hard_n, "limit": limits},
        "temperatures": {"kl": np.repeat(budgets, points)} | _columns(spent, "n", "temperature"),
        "advantage": _columns(beaten, "hard", "n", "share"),
        "crossings": {
            "hard": crossings,
            "n": np.array([_crossing(reference, hard) for hard in tracked(crossings, "crossings")]),
        },
    }
    return FigureData(CAPTION, tables, {"num_nodes": NODES})


def _along(reference: bt.Policy, hard: float, factors: NDArray[np.float64]) -> Columns:
    """Soft best-of-n with the KL divergence of best-of-``hard``, n a multiple of it."""
    goal = _goal(reference, np.float64(hard))
    found = [_equal_kl(reference, goal, hard * factor) for factor in factors]
    temperature, share = np.array(found).T
    return {
        "hard": np.full(len(factors), hard),
        "n": hard * factors,
        "temperature": temperature,
        "share": share,
    }


def _columns(tables: list[Columns], *names: str) -> Columns:
    return {name: np.concatenate([table[name] for table in tables]) for name in names}


@jax.jit
def _goal(reference: bt.Policy, hard: jax.Array) -> Goal:
    best = bt.best_of_n(reference, hard)
    kl = bt.kl_divergence(best, reference)
    return Goal(kl, bt.expected_reward(best), bt.frontier(reference, kl).value)


@jax.jit
def _equal_kl(reference: bt.Policy, goal: Goal, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Temperature of soft best-of-n at the goal's KL, (soft - hard)/(optimal - hard) in reward."""
    temperature = bt.temperature_for_kl(reference, goal.kl, n=n)
    soft = bt.expected_reward(bt.soft_best_of_n(reference, n, temperature))
    return temperature, (soft - goal.hard) / (goal.optimal - goal.hard)


def _crossing(reference: bt.Policy, hard: float) -> float:
    """The n at which soft best-of-n overtakes best-of-``hard`` at its KL, around hard²/5."""
    goal = _goal(reference, np.float64(hard))

    def share(log_n: float) -> float:
        return float(_equal_kl(reference, goal, np.exp(log_n))[1])

    bracket = np.log([hard * (0.6 + hard / 10), hard**2 / 3])
    return np.exp(optimize.root_scalar(share, bracket=tuple(bracket), xtol=1e-4).root)


@styled
def draw(data: FigureData) -> Figure:
    """Three panels side by side."""
    panels = {
        "what spends a KL budget": _draw_temperatures,
        "softness at equal KL": _draw_advantage,
        "draws that softness needs": _draw_crossings,
    }
    return side_by_side(2.5, data, panels)


def _draw_temperatures(ax: Axes, data: FigureData) -> None:
    table, budgets = data["temperatures"], data["budgets"]
    colors = shades(COLORS["soft_best_of_n"], len(BUDGETS))
    for kl, first, limit, color in zip(
        budgets["kl"], budgets["hard_n"], budgets["limit"], colors, strict=True
    ):
        mine = table["kl"] == kl
        n, temperature = np.r_[first, table["n"][mine]], np.r_[0.0, table["temperature"][mine]]
        ax.plot(n, temperature, color=color)
        ax.axhline(limit, color=COLORS["exponential_tilt"], linewidth=0.7, linestyle=":")
        ax.plot([first], [0], "o", color=COLORS["best_of_n"], clip_on=False, zorder=3)
        label(ax, f"{kl:g} nats", (95, limit + 0.004), color=color, ha="right", va="bottom")
    ax.set(xscale="log", xlabel="n", ylabel="temperature λ", ylim=(0, 0.42), xlim=(1.9, MOST))
    whole_ticks(ax, [2, 5, 10, 20, 50, 100])


def _draw_advantage(ax: Axes, data: FigureData) -> None:
    table = data["advantage"]
    ax.axhline(0, color=COLORS["best_of_n"], linewidth=1.0)
    ax.axhline(1, color=COLORS["exponential_tilt"], linewidth=1.0)
    label(ax, "best-of-N", (11.5, -0.05), color=COLORS["best_of_n"], ha="right", va="top")
    label(ax, "optimum", (1.06, 0.98), color=COLORS["exponential_tilt"], va="top")
    for number, color in zip(HARD, shades(COLORS["soft_best_of_n"], len(HARD)), strict=True):
        mine = table["hard"] == number
        x, y = table["n"][mine] / number, table["share"][mine]
        ax.plot(x, y, color=color, label=f"N = {number}")
    ax.set(xscale="log", xlabel="n / N", ylabel="share of the gap closed", ylim=(-1.5, 1.1))
    ax.legend(loc="lower right")
    whole_ticks(ax, [1, 2, 5, 10])


def _draw_crossings(ax: Axes, data: FigureData) -> None:
    table = data["crossings"]
    line = np.array([4.5, 36.0])
    ax.plot(line, line**2 / 5, color=BOUND, linestyle="--", linewidth=1.0)
    ax.plot(line, line, color=COLORS["best_of_n"], linewidth=1.0)
    ax.plot(table["hard"], table["n"], "o", color=COLORS["soft_best_of_n"])
    label(ax, "N²/5", (9.0, 22.0), color=BOUND, ha="right", va="bottom")
    label(ax, "n = N", (20.0, 17.0), color=COLORS["best_of_n"], va="top")
    ax.set(xscale="log", yscale="log", xlabel="N of best-of-N", ylabel="n of soft best-of-n")
    whole_ticks(ax, [5, 10, 20, 30])
    whole_ticks(ax, [5, 10, 20, 50, 100, 200], "y")


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("choosing", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
