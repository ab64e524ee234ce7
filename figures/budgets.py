"""Equal mean draws: what a fixed, a random and a stopped number of draws are worth.

``python -m figures.budgets --output DIR``
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import bon_theory as bt
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
    "Stopping halves what best-of-n still loses, at equal mean draws. For a reward without ties "
    "and c draws on average: (a) the chance to lose against the reference, in units of best-of-c's "
    "1/(c + 1); (b) the KL divergence from the reference. A fixed number c; 1 + Poisson(c − 1) "
    "draws; drawing until a rank is high enough, at most 2c or 4c times, else keeping the best; "
    "and the same with no limit, which draws from the top fraction 1/c and wins 1 − 1/(2c), the "
    "most that any rule with c draws on average can win (derived here). Exact; no sampling."
)
_RULES = ("best_of_n", "best_of_poisson", "stopped_2", "stopped_4", "top_fraction")


@float64
def data(*, largest: float = 32.0, points: int = 16) -> FigureData:
    """Win rate and KL divergence of every rule at each mean number of draws."""
    mean = np.geomspace(1.25, largest, points)
    stops = {m: np.asarray(bt.threshold_for_mean_draws(m * mean, mean)) for m in (2, 4)}
    # A density that jumps wants a break of the lattice: all of them in one.
    jumps = np.unique(np.concatenate([*stops.values(), 1 - 1 / mean]))
    reference = bt.Policy.uniform_reward(num_nodes=321, breaks=tuple(jumps.tolist()))
    numbers = _numbers(reference, jnp.asarray(mean), *map(jnp.asarray, stops.values()))
    series = {name: {k: np.asarray(v) for k, v in table.items()} for name, table in numbers.items()}
    for m, a in stops.items():
        series[f"stopped_{m}"]["threshold"] = a
    return FigureData(
        CAPTION,
        {"budget": {"mean_draws": mean}, **series},
        {"reward": "without ties", "largest": largest},
    )


@jax.jit
def _numbers(
    reference: bt.Policy, mean: jax.Array, at_most_2: jax.Array, at_most_4: jax.Array
) -> dict[str, dict[str, jax.Array]]:
    laws = (
        bt.best_of_n(reference, mean),
        bt.best_of_poisson(reference, mean - 1),
        bt.best_of_n_stopped(reference, at_most_2, 2 * mean),
        bt.best_of_n_stopped(reference, at_most_4, 4 * mean),
        bt.top_fraction(reference, 1 / mean),
    )
    return {
        name: {"win_rate": bt.win_rate(law, reference), "kl": bt.kl_divergence(law, reference)}
        for name, law in zip(_RULES, laws, strict=True)
    }


@styled
def draw(data: FigureData) -> Figure:
    """Two panels: what is lost, and what it costs in divergence."""
    figure = new_figure(DOUBLE_COLUMN, 2.5)
    lost, divergence = figure.subplots(1, 2)
    mean = data["budget"]["mean_draws"]
    looks = {
        "best_of_n": ("best-of-n", COLORS["best_of_n"], "-"),
        "best_of_poisson": ("Poisson", COLORS["best_of_poisson"], "--"),
        "stopped_2": ("stopped, at most 2c", COLORS["bonbon"], "-."),
        "stopped_4": ("stopped, at most 4c", COLORS["soft_best_of_n"], (0, (3, 1, 1, 1, 1, 1))),
        "top_fraction": ("no limit: the top 1/c", COLORS["top_fraction"], ":"),
    }
    for name, (title, color, dashes) in looks.items():
        table = data[name]
        share = (1 - table["win_rate"]) * (mean + 1)
        lost.plot(mean, share, color=color, linestyle=dashes)
        divergence.plot(mean, table["kl"], color=color, linestyle=dashes, label=title)
    lost.axhline(0.5, color="black", linewidth=0.5)
    label(lost, "one half", (1.3, 0.45), color="black")
    lost.set(xscale="log", ylim=(0.4, 1.35), xlabel="c (mean draws)", ylabel="loss over 1/(c + 1)")
    divergence.set(xscale="log", xlabel="c (mean draws)", ylim=(0, None))
    divergence.set(ylabel="KL divergence (nats)")
    divergence.legend(loc="upper left")
    for axes in (lost, divergence):
        whole_ticks(axes, [2, 4, 8, 16, 32])
    panel_titles({lost: "chance to lose to the reference", divergence: "divergence"})
    return figure


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("budgets", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
