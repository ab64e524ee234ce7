"""The picture of the README: exact curves, and the real process on top of them.

``python -m figures.readme --output DIR``; the committed copy is figures/readme.png.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bon_theory as bt
from figures.output import FigureData, FigureFiles, command_line, float64, write
from figures.reward_frontier import PROBS, REWARDS
from figures.style import COLORS, DOUBLE_COLUMN, ink, new_figure, shades, styled
from simulations.draws.references import discrete_reference
from simulations.engine.simulate import simulate
from simulations.selection import samplers
from simulations.statistics.divergences import divergence_from_counts

__all__ = ["data", "draw", "main"]

NUMBERS = (2, 4, 16, 64)
SIMULATED = (0.03, 0.07, 0.16, 0.36, 0.8)  # temperatures
NUM_TRIALS = 400
SEED = 20250506

CAPTION = (
    "Simulated soft best-of-n lies on the exact curves, at every n and temperature. "
    "Soft best-of-n among eight outcomes, π = (8, 7, …, 1)/36, rewards 0, 1/7, …, 1: what is "
    "gained and what it costs, at every temperature. Curves are exact, from best-of-n "
    "(temperature 0, left) to the reference (right); black is n = ∞, the exponential tilt. "
    "Points are the real process, draw n, score, select, run {trials} times each; bars are "
    "two standard errors (seed {seed})."
)


@float64
def data(*, points: int = 81) -> FigureData:
    """Exact reward and KL divergence over temperature, and simulated ones at a few."""
    reference = bt.Policy.from_probs(PROBS, REWARDS)
    temperature = np.geomspace(0.02, 2.0, points)
    curves: dict[str, np.ndarray] = {"temperature": temperature}
    for n in NUMBERS:
        columns = _soft(reference, jnp.asarray(float(n)), jnp.asarray(temperature))
        curves |= {f"{name}_{n}": np.asarray(values) for name, values in columns.items()}
    tilt = bt.exponential_tilt(reference, jnp.asarray(temperature))
    curves["reward_limit"] = np.asarray(bt.expected_reward(tilt))
    curves["kl_limit"] = np.asarray(bt.kl_divergence(tilt, reference))

    rows = [_simulated(n, t, index) for index, (n, t) in enumerate(_cells())]
    simulated = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    return FigureData(
        CAPTION.format(trials=NUM_TRIALS, seed=SEED),
        {"curves": curves, "simulated": simulated},
        {"probs": PROBS, "rewards": REWARDS, "num_trials": NUM_TRIALS, "seed": SEED},
    )


@jax.jit
def _soft(reference: bt.Policy, n: jax.Array, temperature: jax.Array) -> dict[str, jax.Array]:
    policy = bt.soft_best_of_n(reference, n, temperature)
    return {
        "reward": bt.expected_reward(policy),
        "kl": bt.kl_divergence(policy, reference),
    }


def _cells() -> list[tuple[int, float]]:
    return [(n, temperature) for n in NUMBERS for temperature in SIMULATED]


def _simulated(n: int, temperature: float, index: int) -> dict[str, float]:
    """Mean reward, and the KL divergence of the observed frequencies, with standard errors."""
    race = samplers.soft_best_of_n(discrete_reference(PROBS, REWARDS), n, temperature)
    key = jax.random.fold_in(jax.random.key(SEED), index)
    runs = simulate(key, race, num_trials=NUM_TRIALS)
    kl = divergence_from_counts(runs.counts, PROBS)
    return {
        "n": float(n),
        "temperature": temperature,
        "reward": runs.reward.mean,
        "reward_error": runs.reward.std_error,
        "kl": kl.mean,
        "kl_error": kl.std_error,
    }


@styled
def draw(data: FigureData) -> Figure:
    """Gain and cost side by side."""
    figure = new_figure(DOUBLE_COLUMN, 2.9)
    gain, cost = figure.subplots(1, 2)
    _draw_panel(gain, data, "reward")
    _draw_panel(cost, data, "kl")
    gain.set_ylabel("expected reward")
    cost.set_ylabel("KL divergence (nats)")
    gain.set_title("gain of soft best-of-n, eight rewards from 0 to 1", loc="left")
    cost.set_title("its cost, at the same n and temperature", loc="left")
    color = COLORS["soft_best_of_n"]
    cost.plot([], [], color=color, label="exact")
    cost.plot(
        [],
        [],
        "o",
        color=color,
        markerfacecolor="white",
        markersize=4,
        label=f"simulated, {data.parameters['num_trials']} runs ± 2 s.e.",
    )
    cost.plot([], [], color=COLORS["exponential_tilt"], label="infinitely many draws")
    cost.set_ylim(top=4.4)  # room for the legend above the curves
    cost.legend(loc="upper right")
    return figure


def _draw_panel(ax: Axes, data: FigureData, name: str) -> None:
    curves, simulated = data["curves"], data["simulated"]
    temperature = curves["temperature"]
    ax.plot(temperature, curves[f"{name}_limit"], color=COLORS["exponential_tilt"])
    ends = [(curves[f"{name}_limit"][0], "∞", COLORS["exponential_tilt"])]
    colors = shades(COLORS["soft_best_of_n"], len(NUMBERS))
    for n, color in zip(NUMBERS, colors, strict=True):
        exact, here = curves[f"{name}_{n}"], simulated["n"] == n
        ax.plot(temperature, exact, color=color)
        ax.errorbar(
            simulated["temperature"][here],
            simulated[name][here],
            yerr=2 * simulated[f"{name}_error"][here],
            fmt="o",
            color=color,
            markerfacecolor="white",
            elinewidth=0.8,
            markersize=4,
        )
        ends.append((exact[0], f"n = {n} draws" if n == NUMBERS[0] else str(n), color))
    for y, text, color in ends:
        ax.annotate(
            text,
            (temperature[0], y),
            (-3, 3 if text == "∞" else 0),
            textcoords="offset points",
            ha="right",
            va="center",
            color=ink(color),
            fontsize=7,
        )
    ax.set(xscale="log", xlabel="temperature (units of reward)", xlim=(0.0042, temperature[-1]))


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("readme", draw(numbers), numbers, output_dir, png_dpi=150)


if __name__ == "__main__":
    command_line(main)
