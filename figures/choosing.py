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
from scipy import optimize

import bon_theory as bt
from figures.output import FigureData, FigureFiles, command_line, float64, write
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
NODES, COLDEST = 2561, 0.024  # what so many nodes resolve

CAPTION = (
    "Choosing n and temperature for a reward uniform on (0, 1). (a) The temperature at which soft "
    "best-of-n spends a KL budget. It is 0 at the n of hard best-of-n (dots) and tends to that of "
    "the tilt (dotted). (b) Best-of-N against soft best-of-n at the same KL divergence: the share "
    "of the gap between best-of-N and the optimum that softness closes. A few more draws than N "
    "are worse than none once N ≥ 5. (c) The n beyond which soft best-of-n has the higher reward, "
    "about N²/5. Exact; no sampling."
)


class RewardsAtKl(NamedTuple):
    """Expected rewards at one KL divergence: of best-of-N, of soft best-of-n, of the optimum."""

    hard: jax.Array
    soft: jax.Array
    optimal: jax.Array


@float64
def data(*, points: int = 25) -> FigureData:
    """Temperatures along budgets, advantages along equal KL, and where they change sign."""
    reference = bt.Policy.uniform_reward(num_nodes=NODES)
    hard_n = np.asarray(bt.n_for_kl(reference, np.asarray(BUDGETS)))
    limits = np.asarray(bt.temperature_for_kl(reference, np.asarray(BUDGETS), n=math.inf))
    budget = np.repeat(BUDGETS, points)
    # Close points where curves bend: at either end in temperature, at the first extra draws.
    share = (1 - np.cos(np.linspace(0, np.pi, points))) / 2
    temperature = np.concatenate([COLDEST + (0.99 * end - COLDEST) * share for end in limits])
    number, factor = np.repeat(HARD, points).astype(float), 1 + np.geomspace(0.15, 11.0, points)
    draws = number * np.tile(factor, len(HARD))
    shares = np.array([_share(reference, *x) for x in zip(number, draws, strict=True)])
    crossings = np.asarray(CROSSINGS, float)
    beyond = np.array([_crossing(reference, hard) for hard in crossings])
    tables = {
        "budgets": {"kl": np.asarray(BUDGETS), "hard_n": hard_n, "limit": limits},
        "temperatures": {
            "kl": budget,
            "temperature": temperature,
            "n": np.array([_number(reference, *x) for x in zip(budget, temperature, strict=True)]),
        },
        "advantage": {"hard": number, "n": draws, "share": shares},
        "crossings": {"hard": crossings, "n": beyond},
    }
    return FigureData(CAPTION, tables, {"num_nodes": NODES})


@jax.jit
def _number(reference: bt.Policy, kl: jax.Array, temperature: jax.Array) -> jax.Array:
    return bt.n_for_kl(reference, kl, temperature=temperature)


@jax.jit
def _rewards(reference: bt.Policy, hard: jax.Array, n: jax.Array) -> RewardsAtKl:
    """At the KL divergence of best-of-``hard``: its own expected reward and the others'."""
    best = bt.best_of_n(reference, hard)
    kl = bt.kl_divergence(best, reference)
    temperature = bt.temperature_for_kl(reference, kl, n=n)
    soft = bt.soft_best_of_n(reference, n, temperature)
    optimal = bt.frontier(reference, kl).value
    return RewardsAtKl(bt.expected_reward(best), bt.expected_reward(soft), optimal)


def _share(reference: bt.Policy, hard: float, n: float) -> float:
    """(soft - hard)/(optimal - hard) in expected reward."""
    rewards = _rewards(reference, hard, n)
    return float((rewards.soft - rewards.hard) / (rewards.optimal - rewards.hard))


def _crossing(reference: bt.Policy, hard: float) -> float:
    """The n at which soft best-of-n overtakes best-of-``hard`` at its KL, around hard²/5."""

    def share(log_n: float) -> float:
        return _share(reference, hard, np.exp(log_n))

    bracket = np.log([hard * (0.6 + hard / 10), hard**2])
    return np.exp(optimize.root_scalar(share, bracket=tuple(bracket), xtol=1e-6).root)


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
    ax.set(xscale="log", xlabel="n", ylabel="temperature λ", ylim=(0, 0.42), xlim=(1.9, 110))
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
