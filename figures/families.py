"""Five families of policies in the plane of win rate and KL divergence.

``python -m figures.families --output DIR``
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import bon_theory as bt
from figures.output import Columns, FigureData, FigureFiles, command_line, float64, write
from figures.style import COLORS, DOUBLE_COLUMN, label, new_figure, panel_titles, styled

__all__ = ["data", "draw", "main"]

Selection = Callable[[bt.Policy, jax.Array], bt.Policy]

SOFT_N = 32  # candidates of the soft best-of-n curve

NAMES = {
    "win_rate_optimal": "optimal",
    "best_of_n": "best-of-n",
    "best_of_poisson": "best-of-Poisson",
    "soft_best_of_n": f"soft best-of-{SOFT_N}",
    "top_fraction": "top fraction",
}

APART = ("win_rate_optimal", "top_fraction")  # what the eye can tell apart in the plane

CAPTION = (
    "At equal KL divergence best-of-n wins less than one percentage point less than the "
    "optimum, the top fraction up to nine. "
    "Families of policies compared, for a reward without ties. (a) Win rate against the "
    "reference and KL divergence from it. (b) What each win rate falls short of the largest "
    "at the same KL divergence (logarithmic). Best-of-n for real n; best-of-Poisson, the best"
    " of 1 + Poisson(μ) draws; soft best-of-n with n = {n} over temperatures, on a uniform "
    "reward, down to best-of-{n} (dot); the top fraction q, which accepts any draw above a "
    "threshold. Exact; no sampling."
)


@float64
def data(*, points: int = 61) -> FigureData:
    """KL divergence, win rate and shortfall along each family."""
    reference = bt.Policy.uniform_reward(num_nodes=1601)
    coldest = 0.004  # the best of 32 uniform rewards are about 0.03 apart
    tables = {
        "best_of_n": _walk(bt.best_of_n, reference, np.geomspace(1.03, 180.0, points)),
        "best_of_poisson": _walk(bt.best_of_poisson, reference, np.geomspace(0.05, 170.0, points)),
        "soft_best_of_n": _walk(
            _soft, reference, np.append(np.geomspace(3.0, coldest, points), 0.0)
        ),
        "win_rate_optimal": _walk(bt.win_rate_optimal, reference, np.geomspace(0.3, 180.0, points)),
        "top_fraction": _top_fractions(np.exp(-np.geomspace(0.01, np.log(70.0), points))),
    }
    return FigureData(CAPTION.format(n=SOFT_N), tables, {"soft_n": SOFT_N})


def _soft(reference: bt.Policy, temperature: jax.Array) -> bt.Policy:
    return bt.soft_best_of_n(reference, SOFT_N, temperature)


def _walk(select: Selection, reference: bt.Policy, parameters: np.ndarray) -> Columns:
    """One row per parameter."""

    @jax.jit
    def walk(parameters: jax.Array) -> tuple[jax.Array, jax.Array]:
        def place(parameter: jax.Array) -> tuple[jax.Array, jax.Array]:
            policy = select(reference, parameter)
            return bt.kl_divergence(policy, reference), bt.win_rate(policy, reference)

        return jax.lax.map(place, parameters, batch_size=32)

    return _table(reference, parameters, *walk(jnp.asarray(parameters)))


def _top_fractions(fractions: np.ndarray) -> Columns:
    """One row per fraction q, each with quadrature nodes that know of the jump at rank 1 - q."""
    place = jax.jit(
        lambda policy, reference: (
            bt.kl_divergence(policy, reference),
            bt.win_rate(policy, reference),
        )
    )
    places = []
    for fraction in fractions.tolist():
        reference = bt.Policy.uniform_reward(num_nodes=321, breaks=(1 - fraction,))
        places.append(place(bt.top_fraction(reference, fraction), reference))
    kl, win_rate = (jnp.stack(column) for column in zip(*places, strict=True))
    return _table(bt.Policy.uniform_reward(num_nodes=961), fractions, kl, win_rate)


def _table(
    reference: bt.Policy, parameters: np.ndarray, kl: jax.Array, win_rate: jax.Array
) -> Columns:
    optimal = bt.frontier(reference, kl, objective="win_rate").value
    return {
        "parameter": parameters,
        "kl": np.asarray(kl),
        "win_rate": np.asarray(win_rate),
        "shortfall": np.asarray(optimal - win_rate),
    }


@styled
def draw(data: FigureData) -> Figure:
    """The plane, and the shortfalls on a logarithmic axis."""
    figure = new_figure(DOUBLE_COLUMN, 2.7)
    plane, shortfall = figure.subplots(1, 2)
    for family in NAMES:
        table, style = data[family], "--" if family == "best_of_n" else "-"
        if family in APART:
            plane.plot(table["kl"], table["win_rate"], color=COLORS[family])
        if family != "win_rate_optimal":
            shortfall.plot(table["kl"], table["shortfall"], style, color=COLORS[family])
    plane.set(xlim=(0, 4.2), ylim=(0.5, 1.0), ylabel="win rate")
    label(plane, "top fraction", (1.05, 0.79), color=COLORS["top_fraction"])
    label(plane, "optimal", (0.7, 0.87), color="black", ha="right")
    label(
        plane,
        f"best-of-n, best-of-Poisson, soft\nbest-of-{SOFT_N}: within 0.01 of\nthe optimum, see (b)",
        (4.1, 0.53),
        color="black",
        ha="right",
    )

    soft = data["soft_best_of_n"]
    shortfall.plot(soft["kl"][-1], soft["shortfall"][-1], "o", color=COLORS["soft_best_of_n"])
    shortfall.set(xlim=(0, 4.2), ylim=(1e-6, 0.2), yscale="log", ylabel="win rate lost")
    shortfall.yaxis.set_ticks([], minor=True)
    for ax in (plane, shortfall):
        ax.set_xlabel("KL divergence from the reference (nats)")
    for family, at in {
        "top_fraction": (2.2, 0.045),
        "best_of_n": (1.75, 5e-4),
        "best_of_poisson": (1.5, 6e-6),
        "soft_best_of_n": (2.62, 1.5e-4),
    }.items():
        label(shortfall, NAMES[family], at, color=COLORS[family])
    panel_titles({plane: "win rate and KL divergence", shortfall: "short of the largest win rate"})
    return figure


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("families", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
