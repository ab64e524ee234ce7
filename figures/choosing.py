"""Choosing n and temperature: what spends a KL budget, and when softness pays.

``python -m figures.choosing --output DIR``
"""

from __future__ import annotations

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bon_theory as bt
from bon_theory.tuning.root import increasing_root
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
    "At equal KL divergence a few more draws chosen softly are worse than fewer chosen hard, "
    "and many more are better. "
    "Choosing n and temperature for a reward uniform on (0, 1). (a) The temperature at which soft "
    "best-of-n spends a KL budget. It is 0 at the n of hard best-of-n (dots) and tends to that of "
    "the tilt (dotted). (b) Best-of-N against soft best-of-n at the same KL divergence: the share "
    "of the gap between best-of-N and the optimum that softness closes. A few more draws than N "
    "are worse than none once N ≥ 5. (c) The n beyond which soft best-of-n has the higher reward, "
    "about N²/5. Exact; no sampling."
)


@float64
def data(*, points: int = 65) -> FigureData:
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
    crossings = np.asarray(CROSSINGS, float)
    tables = {
        "budgets": {"kl": np.asarray(BUDGETS), "hard_n": hard_n, "limit": limits},
        "temperatures": {
            "kl": budget,
            "temperature": temperature,
            "n": np.asarray(_numbers(reference, budget, temperature)),
        },
        "advantage": {
            "hard": number,
            "n": draws,
            "share": np.asarray(_shares(reference, number, draws)),
        },
        "crossings": {"hard": crossings, "n": np.asarray(_crossings(reference, crossings))},
    }
    return FigureData(CAPTION, tables, {"num_nodes": NODES})


# The law is an argument of each program: what it closed over, XLA would sort while compiling.
@jax.jit
def _numbers(reference: bt.Policy, kl: jax.Array, temperature: jax.Array) -> jax.Array:
    def one(x: tuple[jax.Array, jax.Array]) -> jax.Array:
        return bt.n_for_kl(reference, x[0], temperature=x[1])

    return jax.lax.map(one, (kl, temperature))


@jax.jit
def _shares(reference: bt.Policy, hard: jax.Array, n: jax.Array) -> jax.Array:
    """(soft - hard)/(optimal - hard) in expected reward, all at the KL of best-of-`hard`."""

    def one(x: tuple[jax.Array, jax.Array]) -> jax.Array:
        kl = jnp.log(x[0]) - (x[0] - 1) / x[0]
        optimal = bt.frontier(reference, kl).value
        return _gain(reference, *x) / (optimal - x[0] / (x[0] + 1))

    return jax.lax.map(one, (hard, n))


@jax.jit
def _crossings(reference: bt.Policy, hard: jax.Array) -> jax.Array:
    """The n at which soft best-of-n overtakes best-of-`hard` at its KL."""

    def one(hard: jax.Array) -> jax.Array:
        low, high = jnp.log(hard * (0.5 + hard / 10)), jnp.log(hard**2)  # around hard²/5

        def gain(x: jax.Array) -> jax.Array:
            return _gain(reference, jax.lax.stop_gradient(hard), jnp.exp(x))

        return jnp.exp(increasing_root(gain, low, high, -jnp.ones_like(low), jnp.ones_like(low)))

    return jax.lax.map(one, hard)


def _gain(reference: bt.Policy, hard: jax.Array, n: jax.Array) -> jax.Array:
    """Expected reward of soft best-of-n less that of best-of-`hard`, at the KL of the latter."""
    temperature = bt.temperature_for_kl(reference, jnp.log(hard) - (hard - 1) / hard, n=n)
    return bt.expected_reward(bt.soft_best_of_n(reference, n, temperature)) - hard / (hard + 1)


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
