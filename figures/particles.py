"""Particles beside selection block by block, at equal numbers of drawn symbols (derived).

``python -m figures.particles --output DIR``
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bon_theory as bt
from bon_theory import sequence
from figures.output import FigureData, FigureFiles, command_line, float64, tracked, write
from figures.style import BOUND, COLORS, side_by_side, styled, whole_ticks

__all__ = ["data", "draw", "main"]

TEMPERATURE, LENGTH = 0.5, 8
CHAIN = ([0.5, 0.5], [[0.8, 0.2], [0.3, 0.7]])
# Here symbols take turns, and what earns now will not earn next.
TURNS, TURNS_TEMPERATURE = ([0.7, 0.3], [[0.1, 0.9], [0.999, 0.001]]), 0.3
MOST_TWISTED = 16  # particles of up to four kinds that are enumerated

CAPTION = (
    "Drawing ancestors again after every symbol does what a value function does. Sequences of "
    "{length} symbols from a chain of two that remembers the last, ones earn 1, λ = {temperature}; "
    "every rule draws n symbols per symbol of the answer. (a) Divergence of the optimum "
    "P* ∝ π exp(R/λ) from what is kept: symbol by symbol, soft best-of-n stays away from it at any "
    "n, unless it looks ahead; whole sequences come near at last; n particles (sequential Monte "
    "Carlo: one path, ancestors drawn ∝ exp(r/λ)) come near without looking ahead, and within "
    "log E(Ẑ/Z)², dotted. (b) Reward against divergence from the reference, n = 1 to 64, hard "
    "best-of-n as well; crosses: the optimum. (c) More particles can be further from the optimum: "
    "where two symbols take turns, a reward that comes early misleads, λ = {turns_temperature}. "
    "Exact; no sampling."
)

_LOOKS: dict[str, tuple[str, str, Any]] = {
    "symbols": ("symbolwise soft", COLORS["soft_best_of_n"], "-"),
    "ahead": ("symbolwise, ahead", COLORS["soft_best_of_n"], "--"),
    "whole": ("whole, soft", COLORS["best_of_poisson"], "-"),
    "hard": ("symbolwise best-of-n", COLORS["best_of_n"], "-"),
    "particles": ("particles", COLORS["bonbon"], "-"),
    "twisted": ("particles, ahead", COLORS["bonbon"], "--"),
}


@float64
def data(*, points: int = 7) -> FigureData:
    """Every rule at n = 1, 2, 4, …, on both chains."""
    numbers = tuple(2**k for k in range(points))
    reference, turns = (_reference(chain, 1) for chain in (CHAIN, TURNS))
    values = sequence.look_ahead(reference, TEMPERATURE)
    blind = jax.tree.map(jnp.zeros_like, values)
    n = jnp.asarray(numbers, float)
    best = sequence.optimum(reference, TEMPERATURE)
    table = {
        # At temperature 0 it is hard best-of-n: one compiled program.
        "symbols": _selected(reference, best, n, TEMPERATURE, blind),
        "ahead": _selected(reference, best, n, TEMPERATURE, values),
        "hard": _selected(reference, best, n, 0.0, blind),
        "whole": _whole(sequence.total_reward(_reference(CHAIN, None)), n),
        "particles": _paths(reference, TEMPERATURE, numbers),
        "twisted": _paths(reference, TEMPERATURE, numbers, values),
        "turns": _paths(turns, TURNS_TEMPERATURE, numbers),
        "turns_twisted": _paths(
            turns, TURNS_TEMPERATURE, numbers, sequence.look_ahead(turns, TURNS_TEMPERATURE)
        ),
        "bound": {
            "n": n,
            "from_optimum": jnp.stack(
                [sequence.particle_bound(reference, x, TEMPERATURE) for x in numbers]
            ),
        },
        "optimum": {
            "kl": sequence.kl_divergence(best, reference)[None],
            "reward": sequence.expected_reward(best)[None],
        },
    }
    caption = CAPTION.format(
        length=LENGTH, temperature=TEMPERATURE, turns_temperature=TURNS_TEMPERATURE
    )
    return FigureData(
        caption,
        {name: jax.tree.map(np.asarray, columns) for name, columns in table.items()},
        {"temperature": TEMPERATURE, "length": LENGTH},
    )


def _reference(chain: Any, block_length: int | None) -> sequence.SequenceLaw:
    law = sequence.MarkovChain.from_probs(*chain, rewards=[0.0, 1.0])
    return sequence.SequenceLaw.markov(law, LENGTH, block_length=block_length)


@jax.jit
def _selected(
    reference: sequence.SequenceLaw,
    target: sequence.SequenceLaw,
    n: jax.Array,
    temperature: float,
    values: Any,
) -> dict[str, jax.Array]:
    """Soft best-of-n, symbol by symbol."""

    def at(number: jax.Array) -> dict[str, jax.Array]:
        law = reference.select(bt.soft_best_of_n, number, temperature, look_ahead=values)
        return {
            "n": number,
            "from_optimum": sequence.kl_divergence(target, law),
            "kl": sequence.kl_divergence(law, reference),
            "reward": sequence.expected_reward(law),
        }

    return jax.lax.map(at, n)


@jax.jit
def _whole(totals: bt.Policy, n: jax.Array) -> dict[str, jax.Array]:
    """Soft best-of-n of whole sequences, by the law of their rewards."""
    law = bt.soft_best_of_n(totals, n, TEMPERATURE)
    return {"n": n} | _functionals(law, totals, bt.exponential_tilt(totals, TEMPERATURE))


def _paths(
    reference: sequence.SequenceLaw,
    temperature: float,
    numbers: tuple[int, ...],
    values: Any = None,
) -> dict[str, Any]:
    """One path of so many particles."""
    drawn = sequence.enumerated(reference)
    best = bt.exponential_tilt(drawn, temperature)
    few = [n for n in numbers if values is None or n <= MOST_TWISTED]
    rows = [
        _functionals(
            sequence.particle_law(reference, n, temperature, look_ahead=values), drawn, best
        )
        for n in tracked(few, "particles")
    ]
    return {"n": np.asarray(few)} | {
        name: jnp.stack([row[name] for row in rows]) for name in rows[0]
    }


@jax.jit
def _functionals(law: bt.Policy, drawn: bt.Policy, target: bt.Policy) -> dict[str, jax.Array]:
    return {
        "from_optimum": bt.kl_divergence(target, law),
        "kl": bt.kl_divergence(law, drawn),
        "reward": bt.expected_reward(law),
    }


@styled
def draw(data: FigureData) -> Figure:
    """Three panels."""
    panels = {
        "distance from the optimum": _draw_distance,
        "reward against divergence": _draw_frontier,
        "more can be worse": _draw_turns,
    }
    return side_by_side(2.8, data, panels)


def _draw_distance(ax: Axes, data: FigureData) -> None:
    for name, (title, color, dashes) in _LOOKS.items():
        if name == "hard":
            continue
        table = data[name]
        ax.plot(table["n"], table["from_optimum"], color=color, linestyle=dashes, label=title)
    ax.plot(data["bound"]["n"], data["bound"]["from_optimum"], ":", color=BOUND)
    ax.set(xscale="log", yscale="log", ylim=(2e-7, 5))
    ax.set(xlabel="n (drawn symbols per symbol)", ylabel=r"KL$(P^*\|P)$ (nats)")
    whole_ticks(ax, [1, 4, 16, 64])
    ax.legend(loc="lower left")


def _draw_frontier(ax: Axes, data: FigureData) -> None:
    for name in ("symbols", "whole", "hard", "particles"):
        title, color, dashes = _LOOKS[name]
        table = data[name]
        ax.plot(table["kl"], table["reward"], "o", color=color, linestyle=dashes, label=title)
    best = data["optimum"]
    ax.plot(best["kl"], best["reward"], "x", color=COLORS["exponential_tilt"], markersize=6)
    ax.set(xlabel=r"KL$(P\|\pi)$ (nats)", ylabel="reward of 8 symbols")
    ax.legend(loc="lower right")


def _draw_turns(ax: Axes, data: FigureData) -> None:
    for name, look in (("turns", "particles"), ("turns_twisted", "twisted")):
        title, color, dashes = _LOOKS[look]
        table = data[name]
        ax.plot(table["n"], table["from_optimum"], "o", color=color, linestyle=dashes, label=title)
    ax.set(xscale="log", xlabel="n (particles)", ylabel=r"KL$(P^*\|P)$ (nats)", ylim=(0, 0.34))
    whole_ticks(ax, [1, 4, 16, 64])
    ax.legend(loc="upper right")


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("particles", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
