"""Blocks or whole sequences: draws needed, the phase transition, reward against KL ([V], derived).

``python -m figures.sequences --output DIR``
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bon_theory as bt
from bon_theory import sequence
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

TEMPERATURE = 0.5
BUDGET = 0.1  # nats
BLOCK_LENGTHS: tuple[int, ...] = (1, 4, 16)
LENGTHS = (1, 4, 16, 32, 64)
LONG_LENGTHS = (16, 64, 256, 1024)
COST_LENGTHS: tuple[int, ...] = (1, 4, 16, 64, 256)
PRICES = (4.0, 64.0, 4096.0)  # candidates per block, and so drawn symbols per symbol
#: One shade per block length in all panels; whole sequences have the full colour.
SHADES: dict[int, str] = dict(zip(COST_LENGTHS, shades(COLORS["soft_best_of_n"], 6), strict=False))
WHOLE = 0  # stands for a block that is as long as the sequence
SHARE = 0.99

CAPTION = (
    "Block by block soft best-of-n needs few candidates; over whole sequences it needs "
    "exponentially many. "
    "Soft best-of-n on m fair coins whose ones earn 1 each, temperature {temperature}, block by "
    "block: n candidates per block cost n drawn symbols per symbol, whatever the block length b. "
    "(a) Candidates for KL(P*‖Pₙ) = {budget} over the whole sequence: few with blocks of any fixed "
    "length, exponentially many with whole sequences. Dashed: n = exp(mD − {budget}), which soft "
    "best-of-n over whole sequences needs at least; dotted: log n − (n−1)/n = m·I, what any rule "
    "among n sequences needs for {share:.0%} of the optimum's gain, I the Cramér rate. (b) "
    "n = exp(ρm) whole sequences: the divergence per symbol tends to max(D − ρ, 0), "
    "D = {divergence:.4f} nats; until ρ reaches D the optimum stays out of reach. (c) Reward per "
    "symbol of P* (line) and of blocks of b symbols, at equal cost: n = 4, 64, 4096. The shorter "
    "the blocks, the more of it the same number of drawn symbols buys. "
    "Exact; no sampling."
)


@float64
def data(*, points: int = 65) -> FigureData:
    """Draws for a budget, divergences at exponential numbers of draws, rewards at equal cost."""
    coin = bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0])
    divergence = float(sequence.limit_kl(coin, TEMPERATURE, 0.0))
    exponents = np.linspace(0, 1.6, points) * divergence
    return FigureData(
        CAPTION.format(temperature=TEMPERATURE, budget=BUDGET, divergence=divergence, share=SHARE),
        {
            "draws": _draws(coin),
            "any_rule": _any_rule(coin, np.linspace(1, LENGTHS[-1], points)),
            "transition": _transition(coin, exponents),
            "cost": _cost(coin),
            "tilts": _tilts(coin, np.geomspace(0.25, 50, points)),
        },
        {"temperature": TEMPERATURE, "budget": BUDGET, "divergence": divergence},
    )


def _draws(coin: bt.Policy) -> Columns:
    """Candidates for the budget; KL adds over blocks, so that each has its share of it."""
    rows = [
        (block, length, block or length)
        for block in (*BLOCK_LENGTHS, WHOLE)
        for length in LENGTHS
        if length % (block or 1) == 0 and (block or length) in SHADES
    ]
    laws = {size: sequence.SequenceLaw.independent(coin, size) for _, _, size in rows}
    n = [
        sequence.n_for_kl_from_optimum(laws[size], BUDGET * size / length, TEMPERATURE)
        for _, length, size in tracked(rows, "draws for a budget")
    ]
    blocks, lengths, _ = np.array(rows).T
    return {"block": blocks, "length": lengths, "n": np.array(n, float)}


def _any_rule(coin: bt.Policy, lengths: np.ndarray) -> Columns:
    """The least n of any rule with a share of the optimum's gain; I(x) is per symbol."""
    lengths = np.unique(np.round(lengths))
    mean, best = (float(sequence.limit_reward(coin, TEMPERATURE, rho)) for rho in (0.0, 10.0))
    reward = mean + SHARE * (best - mean)
    log_n = sequence.necessary_log_n(coin, reward, length=lengths)
    return {"length": lengths, "n": np.exp(np.asarray(log_n))}


def _transition(coin: bt.Policy, exponents: np.ndarray) -> Columns:
    tables = [_per_symbol(coin, m, np.exp(exponents * m)) for m in tracked(LONG_LENGTHS, "lengths")]
    limit = np.asarray(sequence.limit_kl(coin, TEMPERATURE, exponents))
    tables = [table | {"exponent": exponents, "limit": limit} for table in tables]
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _cost(coin: bt.Policy) -> Columns:
    tables = [_per_symbol(coin, b, np.array([*PRICES])) for b in COST_LENGTHS]
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _per_symbol(coin: bt.Policy, length: int, n: np.ndarray) -> dict[str, np.ndarray]:
    """Divergences and reward per symbol of n whole sequences; lengths share a compiled program."""
    reference = sequence.total_reward(sequence.SequenceLaw.independent(coin, length))
    missing = LONG_LENGTHS[-1] - length
    log_probs = jnp.pad(reference.log_probs, (0, missing), constant_values=-jnp.inf)
    padded = bt.Policy.from_logits(log_probs, jnp.arange(float(log_probs.size)))
    values = _curve(padded, jnp.asarray(n))
    return {"length": np.full(n.size, length), "n": n} | {
        name: np.asarray(value) / length for name, value in values.items()
    }


@jax.jit
def _curve(reference: bt.Policy, n: jax.Array) -> dict[str, jax.Array]:
    def point(number: jax.Array) -> dict[str, jax.Array]:
        policy = bt.soft_best_of_n(reference, number, TEMPERATURE)
        return {
            "kl": bt.kl_divergence(policy, reference),
            "kl_from_optimum": bt.kl_divergence(optimum, policy),
            "reward": bt.expected_reward(policy),
        }

    optimum = bt.exponential_tilt(reference, TEMPERATURE)
    return jax.lax.map(point, n)


def _tilts(coin: bt.Policy, temperatures: np.ndarray) -> Columns:
    temperatures = np.append(temperatures, TEMPERATURE)
    tilts = bt.exponential_tilt(coin, temperatures)
    kl, reward = bt.kl_divergence(tilts, coin), bt.expected_reward(tilts)
    return {"temperature": temperatures, "kl": np.asarray(kl), "reward": np.asarray(reward)}


@styled
def draw(data: FigureData) -> Figure:
    """Three panels."""
    panels = {
        "draws needed": _draw_draws,
        "phase transition": _draw_transition,
        "reward at equal cost": _draw_cost,
    }
    return side_by_side(2.6, data, panels)


def _draw_draws(ax: Axes, data: FigureData) -> None:
    table, any_rule = data["draws"], data["any_rule"]
    least = np.exp(data.parameters["divergence"] * any_rule["length"] - BUDGET)
    ax.plot(any_rule["length"], least, "--", color=BOUND)
    ax.plot(any_rule["length"], any_rule["n"], ":", color=BOUND)
    label(ax, r"$e^{mD-\varepsilon}$", (67, 2e8), color=BOUND, ha="left", va="center")
    label(ax, "any rule", (67, 6e9), color=BOUND, ha="left", va="center")
    for block in (*BLOCK_LENGTHS, WHOLE):
        color = SHADES.get(block, COLORS["soft_best_of_n"])
        rows = table["block"] == block
        m, n = table["length"][rows], table["n"][rows]
        ax.plot(m, n, "o-", color=color)
        name = "whole" if block == WHOLE else f"b = {block}"
        label(ax, name, (m[-1] + 3, n[-1]), color=color, ha="left", va="center")
    ax.set(yscale="log", xlabel="m (symbols)", ylabel="n (candidates per block)")
    ax.set_xlim(0, 90)
    ax.set_xticks(LENGTHS[2:], [str(m) for m in LENGTHS[2:]])
    ax.set_ylim(0.8, 3 * table["n"].max())


def _draw_transition(ax: Axes, data: FigureData) -> None:
    table, d = data["transition"], data.parameters["divergence"]
    colors = shades(COLORS["soft_best_of_n"], len(LONG_LENGTHS))
    for m, color in zip(LONG_LENGTHS, colors, strict=True):
        rows = table["length"] == m
        exponent, kl = table["exponent"][rows], table["kl_from_optimum"][rows]
        ax.plot(exponent / d, kl / d, color=color, label=f"m = {m}")
    rows = table["length"] == LONG_LENGTHS[0]
    exponent, limit = table["exponent"][rows], table["limit"][rows]
    ax.plot(exponent / d, limit / d, ":", color="black", label="limit")
    ax.set(
        xlabel=r"$\rho/D$,  with $n = e^{\rho m}$",
        ylabel=r"KL$(P^*\|P_n)\,/\,mD$",
        xlim=(0, 1.6),
        ylim=(0, 1),
    )
    ax.legend(loc="upper right")


def _draw_cost(ax: Axes, data: FigureData) -> None:
    table, tilts = data["cost"], data["tilts"]
    ax.axhline(tilts["reward"][-1], color=COLORS["exponential_tilt"], linewidth=0.8)
    label(ax, "$P^*$", (1.0, tilts["reward"][-1] - 0.004), color="black", va="top")
    colors = shades(COLORS["soft_best_of_n"], len(PRICES))
    for n, color in zip(PRICES, colors, strict=True):
        rows = table["n"] == n
        ax.plot(table["length"][rows], table["reward"][rows], "o-", color=color, label=f"n = {n:g}")
    ax.set(
        xscale="log",
        xlabel="b (symbols per block)",
        ylabel="reward per symbol",
        ylim=(0.5, 0.92),
    )
    whole_ticks(ax, COST_LENGTHS)
    ax.legend(loc="lower left")


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("sequences", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
