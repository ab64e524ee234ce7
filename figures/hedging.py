"""A true reward under selection by a proxy: hedging ([K]) and over-optimisation ([Gao]).

``python -m figures.hedging --output DIR``
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bon_theory as bt
from figures.output import FigureData, FigureFiles, command_line, float64, tracked, write
from figures.style import (
    BOUND,
    COLORS,
    label,
    shades,
    side_by_side,
    styled,
)
from simulations.tools.programs import compiled_in_earnest

__all__ = ["data", "draw", "main"]

SOFT_N = 16
NODES = 1281
NOISES = {
    "Gaussian noise": bt.Noise.gaussian(1.0),
    "logistic noise": bt.Noise.logistic(1.0),
    "Student t₂ noise": bt.Noise.student_t2(1.0),
}
PLACES = {
    "Gaussian noise": (2.9, 2.9),
    "logistic noise": (3.15, 1.06),
    "Student t₂ noise": (3.15, 0.44),
}
NAMES = {
    "best_of_n": "best-of-n",
    "exponential_tilt": "tilt",
    "best_of_poisson": "best-of-Poisson",
    "soft_best_of_n": f"soft best-of-{SOFT_N}",
}

CAPTION = (
    "Selecting harder by a proxy lowers the true reward in the end, unless the noise is light "
    "enough. "
    "Selecting by a proxy when another reward counts. (a) The toy of Khalaf et al.: the true "
    "reward is u¹²(1−u), scaled to a maximum of 1, of the proxy's rank u. Each family's curve "
    "against its KL divergence from the reference, with its highest point: n = {n:.2f} for "
    "best-of-n, μ = {mu:.2f} for best-of-Poisson, 1/λ = {inverse:.2f} for the tilt, λ = {soft:.4f} "
    "for soft best-of-{soft_n}, which ends in best-of-{soft_n}. (b) Over-optimisation after Gao et "
    "al.: best-of-n by a standard normal true reward plus noise of scale 1, n up to 60,000. "
    "Gaussian noise lets the true reward grow for ever, exponential tails bound it, polynomial "
    "tails send it back to that of the reference. Dashed: the least-squares fit of d(α − βd), "
    "d = √KL. Exact; no sampling."
)


def true_reward(rank: jax.Array) -> jax.Array:
    """The toy, with its maximum of 1 at the rank 12/13."""
    return rank**12 * (1 - rank) * 13 * (13 / 12) ** 12


@float64
def data(*, points: int = 81) -> FigureData:
    """Hedging curves with their maxima, and over-optimisation curves with their fits."""
    uniform = bt.Policy.uniform_reward(num_nodes=NODES)
    values = true_reward(jnp.exp(uniform.log_cdf))
    best = {
        "best_of_n": bt.hedge_n(uniform, values),
        "best_of_poisson": bt.hedge_mean_extra_draws(uniform, values),
        "exponential_tilt": bt.hedge_temperature(uniform, values, n=math.inf),
        "soft_best_of_n": bt.hedge_temperature(uniform, values, n=SOFT_N),
    }
    steps = np.linspace(0.02, 1.0, points)
    grids = {
        "best_of_n": 200.0**steps,
        "best_of_poisson": 200.0**steps,
        "exponential_tilt": 1 / 200.0**steps,
        "soft_best_of_n": np.append(3.0 * 0.006**steps, 0.0),
    }
    tables: dict[str, dict[str, np.ndarray]] = {}
    for name, grid in tracked(grids.items(), "hedging"):
        # The highest point goes with the curve: one program for both.
        with_top = np.append(grid, np.asarray(best[name].parameter))
        table = _walk(SELECTIONS[name], uniform, values, with_top)
        tables[name] = {column: entries[:-1] for column, entries in table.items()}
        tables[f"{name}/best"] = {column: entries[-1:] for column, entries in table.items()}
    for name, noise in tracked(NOISES.items(), "over-optimisation"):
        tables[name] = _overoptimization(noise, np.geomspace(1.01, 6e4, points))
    n, mu, tilt, soft = (float(found.parameter) for found in best.values())
    caption = CAPTION.format(n=n, mu=mu, inverse=1 / tilt, soft=soft, soft_n=SOFT_N)
    return FigureData(caption, tables, {"num_nodes": NODES, "soft_n": SOFT_N})


Selection = Callable[[bt.Policy, jax.Array], bt.Policy]

SELECTIONS: dict[str, Selection] = {
    "best_of_n": bt.best_of_n,
    "best_of_poisson": bt.best_of_poisson,
    "exponential_tilt": bt.exponential_tilt,
    "soft_best_of_n": lambda reference, t: bt.soft_best_of_n(reference, SOFT_N, t),
}


def _walk(
    selection: Selection, reference: bt.Policy, values: jax.Array, parameters: np.ndarray
) -> dict[str, np.ndarray]:
    """KL divergence and true reward along a family."""
    kl, reward = _along(selection, reference, values, jnp.asarray(parameters))
    return {"parameter": parameters, "kl": np.asarray(kl), "true_reward": np.asarray(reward)}


@partial(jax.jit, static_argnames="selection")
def _along(
    selection: Selection, reference: bt.Policy, values: jax.Array, parameters: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def one(parameter: jax.Array) -> tuple[jax.Array, jax.Array]:
        policy = selection(reference, parameter)
        return bt.kl_divergence(policy, reference), bt.expected_value(policy, values)

    return jax.lax.map(one, parameters)


_noisy_proxy = compiled_in_earnest(bt.noisy_proxy, static_argnames="noise")


def _overoptimization(noise: bt.Noise, n: np.ndarray) -> dict[str, np.ndarray]:
    """True reward of best-of-n, and the parabola in √KL that fits it best."""
    proxy = _noisy_proxy(bt.Policy.gaussian_reward(), noise)
    table = _walk(bt.best_of_n, proxy.reference, proxy.true_reward, n)
    fit = bt.fit_overoptimization(table["kl"], table["true_reward"])
    d = np.sqrt(table["kl"])
    return table | {"fit": d * (float(fit.alpha) - float(fit.beta) * d)}


@styled
def draw(data: FigureData) -> Figure:
    """Two panels side by side."""
    panels = {
        "hedging, toy true reward": _draw_hedging,
        "over-optimisation by best-of-n": _draw_overoptimization,
    }
    return side_by_side(2.7, data, panels)


def _draw_hedging(ax: Axes, data: FigureData) -> None:
    for name, text in NAMES.items():
        curve, best = data[name], data[f"{name}/best"]
        style = "--" if name == "best_of_poisson" else "-"  # nearly on the tilt
        ax.plot(curve["kl"], curve["true_reward"], style, color=COLORS[name], label=text)
        ax.plot(best["kl"], best["true_reward"], "o", color=COLORS[name])
    ax.set(xlim=(0, 3.2), ylim=(0, 0.78))
    ax.set(xlabel="KL divergence from the reference (nats)", ylabel="expected true reward")
    ax.legend(loc="lower right")


def _draw_overoptimization(ax: Axes, data: FigureData) -> None:
    for name, color in zip(NOISES, shades(COLORS["best_of_n"], 3)[::-1], strict=True):
        table = data[name]
        d = np.sqrt(table["kl"])
        ax.plot(d, table["fit"], "--", color=BOUND, linewidth=0.9)
        ax.plot(d, table["true_reward"], color=color)
        label(ax, name, PLACES[name], color=color, va="bottom", ha="right")
    ax.plot([], [], "--", color=BOUND, linewidth=0.9, label="fit of d(α − βd)")
    ax.set(xlim=(0, 3.25), ylim=(0, 3.4))
    ax.set(xlabel="d = √KL  (√nats)", ylabel="expected true reward")
    ax.legend(loc="upper left")


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("hedging", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
