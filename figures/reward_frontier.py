"""Expected reward against KL divergence: where soft best-of-n lies ([V] Figure 1).

``python -m figures.reward_frontier --output DIR``
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
from figures.style import (
    COLORS,
    DOUBLE_COLUMN,
    ink,
    new_figure,
    panel_titles,
    shades,
    styled,
)
from simulations.tools.programs import compiled_in_earnest

__all__ = ["NUMBERS", "data", "draw", "main"]

NUMBERS = (2, 4, 8, 16, 64)  # candidates n of the curves

PROBS = tuple(float(p) for p in np.array([8, 7, 6, 5, 4, 3, 2, 1]) / 36)
REWARDS = tuple(float(r) for r in np.arange(8) / 7)

BEST = ("best_kl", "best_reward", "best_shortfall")

NODES = 1601  # twice as many move no point by 1e-6

CAPTION = (
    "Soft best-of-n comes closer to the largest reward at its KL divergence the more "
    "candidates it has. "
    "Reward and KL divergence of soft best-of-n (the plane of Mayrink Verdun et al., Figure "
    "1). (a) Eight outcomes, π = (8, 7, …, 1)/36, rewards 0, 1/7, …, 1. (b) A reward uniform "
    "on (0, 1). Black: the exponential tilt, the largest expected reward at each KL "
    "divergence from the reference. Dots: best-of-n. (c, d) What is lacking to the optimum at "
    "equal KL divergence, which in (a, b) is within the lines. Curves: soft best-of-n at fixed n, "
    "from the reference (temperature ∞, lower left) to best-of-n (temperature 0, the dot), darker "
    "for larger n. Curves tend to "
    "the optimum as n grows; under a uniform reward a few more candidates chosen softly lose "
    "to fewer chosen hard. Blue: the least that any rule of n draws lacks, none at all up to the "
    "divergence of the tilt that n draws can sample exactly. Exact; no sampling."
)


@float64
def data(*, points: int = 41) -> FigureData:
    """Soft best-of-n over temperatures, down to 0, with the optimal reward at equal KL."""
    references = {
        "discrete": bt.Policy.from_probs(PROBS, REWARDS),
        "uniform": bt.Policy.uniform_reward(num_nodes=NODES),
    }
    n = np.repeat(np.asarray(NUMBERS, float), points + 1)
    temperature = np.concatenate([temperatures(number, points) for number in NUMBERS])
    tables: dict[str, dict[str, np.ndarray]] = {}
    for name, reference in references.items():
        plane = _columns(_points(reference, jnp.asarray(n), jnp.asarray(temperature)))
        hard = temperature == 0
        best = {column: np.where(hard, plane[column[5:]], plane[column]) for column in BEST}
        plane = {column: values for column, values in plane.items() if column not in BEST}
        tables[f"{name}/soft_best_of_n"] = {"n": n, "temperature": temperature} | plane
        tables[f"{name}/any_rule"] = {"n": n, "temperature": temperature} | {
            column[5:]: values for column, values in best.items()
        }
        tables[f"{name}/best_of_n"] = {"n": n[hard]} | {k: v[hard] for k, v in plane.items()}
        kl = np.linspace(0.0, 1.02 * plane["kl"].max(), 121)[1:]
        tilt = _columns(_tilts(reference, jnp.asarray(kl)))
        tables[f"{name}/exponential_tilt"] = {"kl": kl} | tilt
    return FigureData(CAPTION, tables, {"probs": PROBS, "rewards": REWARDS, "num_nodes": NODES})


def temperatures(n: int, points: int) -> np.ndarray:
    """From so warm that nothing is selected to so cold that only the step to 0 is left."""
    coldest = 0.3 / (n + 6)  # the best of n uniform rewards are about 1/n apart
    return np.concatenate([np.geomspace(3.0, coldest, points), [0.0]])


@compiled_in_earnest
def _points(reference: bt.Policy, n: jax.Array, temperature: jax.Array) -> dict[str, jax.Array]:
    """Soft best-of-n at each (n, temperature), and what it falls short of at its KL."""

    def one(parameters: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        # Of all rules of n draws the nearest to a tilt has the largest reward at its divergence.
        tilt = bt.exponential_tilt(reference, parameters[1])
        best = bt.nearest_reachable(tilt, reference, parameters[0])
        laws = bt.soft_best_of_n(reference, *parameters), best
        kl = jnp.stack([bt.kl_divergence(law, reference) for law in laws])
        return kl, jnp.stack([bt.expected_reward(law) for law in laws])

    kl, reward = jax.lax.map(one, (n, temperature), batch_size=42)
    shortfall = bt.frontier(reference, kl).value - reward
    columns = {"kl": kl, "reward": reward, "shortfall": shortfall}
    soft, best = ({k: v[:, i] for k, v in columns.items()} for i in (0, 1))
    return soft | {f"best_{name}": column for name, column in best.items()}


@jax.jit
def _tilts(reference: bt.Policy, kl: jax.Array) -> dict[str, jax.Array]:
    best = bt.frontier(reference, kl)
    return {"temperature": best.temperature, "reward": best.value}


def _columns(arrays: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    return {name: np.asarray(array) for name, array in arrays.items()}


@styled
def draw(data: FigureData) -> Figure:
    """Two planes above two shortfalls."""
    figure = new_figure(DOUBLE_COLUMN, 4.6)
    axes = figure.subplots(2, 2, height_ratios=[1.25, 1], sharex="col")
    for name, (plane, below) in zip(("discrete", "uniform"), axes.T, strict=True):
        _draw_plane(plane, data, name)
        _draw_shortfall(below, data, name)
        below.set_xlabel("KL divergence from the reference (nats)")
    axes[0, 0].set_ylabel("expected reward")
    axes[1, 0].set_ylabel("shortfall at equal KL")
    titles = ("eight outcomes", "uniform reward", "shortfall, eight outcomes", "shortfall, uniform")
    panel_titles(dict(zip(axes.ravel(), titles, strict=True)))
    return figure


def _draw_plane(ax: Axes, data: FigureData, name: str) -> None:
    tilt, best = data[f"{name}/exponential_tilt"], data[f"{name}/best_of_n"]
    ax.plot(tilt["kl"], tilt["reward"], color=COLORS["exponential_tilt"], label="optimal (tilt)")
    ax.plot(best["kl"], best["reward"], "o", color=COLORS["best_of_n"], label="best-of-n")
    _name_dots(ax, best["n"], best["kl"], best["reward"], (4, -9))
    ax.legend(loc="lower right")


def _draw_shortfall(ax: Axes, data: FigureData, name: str) -> None:
    for n, color in _colors():
        curve = _of(data, name, n)
        ax.plot(curve["kl"], curve["shortfall"], color=color, linewidth=1.0)
        least = _of(data, name, n, "any_rule")
        ax.plot(least["kl"], least["shortfall"], color=COLORS["best_of_n"], linewidth=0.8)
    best = data[f"{name}/best_of_n"]
    ax.plot(best["kl"], best["shortfall"], "o", color=COLORS["best_of_n"])
    _name_dots(ax, best["n"], best["kl"], best["shortfall"], (5, 2))
    ax.set(ylim=(0, 1.12 * best["shortfall"].max()), xlim=(0, None))
    ax.plot([], [], color=COLORS["soft_best_of_n"], label="soft best-of-n, all temperatures")
    ax.plot([], [], color=COLORS["best_of_n"], linewidth=0.8, label="any rule of n draws")
    ax.legend(loc="upper right")


def _name_dots(
    ax: Axes, n: np.ndarray, x: np.ndarray, y: np.ndarray, offset: tuple[float, float]
) -> None:
    for number, at in zip(n, zip(x, y, strict=True), strict=True):
        text = f"n = {number:.0f}" if number == n[0] else f"{number:.0f}"
        ax.annotate(
            text, at, offset, textcoords="offset points", fontsize=7, color=ink(COLORS["best_of_n"])
        )


def _colors() -> list[tuple[int, str]]:
    return list(zip(NUMBERS, shades(COLORS["soft_best_of_n"], len(NUMBERS)), strict=True))


def _of(data: FigureData, name: str, n: int, rule: str = "soft_best_of_n") -> dict[str, np.ndarray]:
    table = data[f"{name}/{rule}"]
    return {column: values[table["n"] == n] for column, values in table.items()}


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("reward_frontier", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
