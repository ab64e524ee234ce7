"""Ties make best-of-n closer to the reference than log n − (n−1)/n says ([G] appendix, [B]).

``python -m figures.ties --output DIR``
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import bon_theory as bt
from bon_theory import bounds
from figures.output import FigureData, FigureFiles, command_line, float64, write
from figures.style import (
    BOUND,
    COLORS,
    ink,
    label,
    shades,
    side_by_side,
    styled,
    whole_ticks,
)

__all__ = ["data", "draw", "main"]

CURVES = (2, 8, 32, 128)  # outcomes of the curves over n
N = 8  # candidates where the number of outcomes varies

CAPTION = (
    "With ties the KL divergence of best-of-n levels off, below the formula without ties. "
    "Best-of-n among finitely many outcomes (Gui et al., discrete appendix; bounds of Beirami"
    " et al.). The reference is uniform on L outcomes with different rewards; equal outcomes "
    "tie and ties are broken uniformly. (a) KL divergence from the reference against n: it "
    "levels off at log L, below the tie-free formula log n − (n−1)/n. (b) The formula minus "
    "the exact divergence at n = {n}: it falls like 1/L² (dotted: n(n−1)²/(24(n−2)L²)), while"
    " the bound 2n(n−1)e^(−H₂) = 2n(n−1)/L falls like 1/L; the estimator D̂ of "
    "Beirami et al., on average, overestimates the divergence too, but never by more here. "
    "(c) Win rate at n = {n} with ties counted as wins, half, or losses; horizontal line: "
    "n/(n+1). Exact; no sampling."
)


@float64
def data(*, largest_n: float = 256.0, points: int = 65) -> FigureData:
    """Divergences over n at a few numbers of outcomes, and everything over outcomes at one n."""
    n = np.geomspace(1.0, largest_n, points)
    columns = {
        f"kl_{count}": np.asarray(_divergence(jnp.asarray(n), count=count)) for count in CURVES
    }
    columns["kl_without_ties"] = np.asarray(bounds.best_of_n_kl(n=n).value)
    # One padded law per number of outcomes, so that all share one compilation.
    counts = 2 ** np.arange(1, 11)
    outcomes = {name: np.asarray(values) for name, values in _over_outcomes(counts).items()}
    return FigureData(
        CAPTION.format(n=N),
        {"over_n": {"n": n} | columns, "over_outcomes": {"outcomes": counts} | outcomes},
        {"n": N},
    )


@partial(jax.jit, static_argnames="count")
def _divergence(n: jax.Array, *, count: int) -> jax.Array:
    reference = bt.Policy.from_logits(jnp.zeros(count), jnp.arange(count))
    return bt.kl_divergence(bt.best_of_n(reference, n), reference)


def _over_outcomes(counts: np.ndarray) -> dict[str, jax.Array]:
    positions = np.arange(counts.max())
    logits = np.where(positions < counts[:, None], 0.0, -np.inf)
    return _statistics(jnp.asarray(logits), jnp.asarray(counts, float))


@jax.jit
def _statistics(logits: jax.Array, counts: jax.Array) -> dict[str, jax.Array]:
    rewards = jnp.arange(logits.shape[-1], dtype=logits.dtype)
    reference = bt.Policy.from_logits(logits, jnp.broadcast_to(rewards, logits.shape))
    best = bt.best_of_n(reference, N)
    kl = bt.kl_divergence(best, reference)
    estimate = bounds.best_of_n_kl_from_selected_atom(reference, n=N).value
    return {
        "kl": kl,
        "gap": np.log(N) - (N - 1) / N - kl,
        "gap_bound": 2 * N * (N - 1) / counts,
        "gap_sharp": N * (N - 1) ** 2 / (24 * (N - 2) * counts**2),
        "estimate_excess": estimate - kl,
        "win_rate_win": bt.win_rate(best, reference, ties="win"),
        "win_rate_half": bt.win_rate(best, reference, ties="half"),
        "win_rate_loss": bt.win_rate(best, reference, ties="loss"),
    }


@styled
def draw(data: FigureData) -> Figure:
    """Divergence over n; its gap and the win rates over the number of outcomes."""
    panels = {
        "KL divergence (nats)": _draw_over_n,
        f"formula − exact, n = {N}": _draw_gap,
        f"win rate, n = {N}": _draw_win_rates,
    }
    return side_by_side(2.55, data, panels)


def _draw_over_n(ax: Axes, data: FigureData) -> None:
    table = data["over_n"]
    n = table["n"]
    ax.plot(n, table["kl_without_ties"], color="black", linestyle="--")
    label(ax, "no ties", (60, 3.95), color="black", ha="right")
    for count, color in zip(CURVES, shades(COLORS["best_of_n"], len(CURVES)), strict=True):
        kl = table[f"kl_{count}"]
        ax.plot(n, kl, color=color)
        text = f"L = {count}" if count == CURVES[0] else f"{count}"
        ax.annotate(
            text,
            (n[-1], kl[-1]),
            (3, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=ink(color),
        )
    ax.set(xscale="log", xlim=(1, 3.5 * n[-1]), ylim=(0, None), xlabel="n (draws)")
    whole_ticks(ax, [1, 4, 16, 64, 256])


def _draw_gap(ax: Axes, data: FigureData) -> None:
    table = data["over_outcomes"]
    count = table["outcomes"]
    blue = COLORS["best_of_n"]
    ax.plot(count, table["gap_bound"], color=BOUND, linestyle="--")
    label(ax, "bound, $2n(n-1)/L$", (12, 25), color=BOUND)
    ax.plot(count, table["gap"], "o-", color=blue, label="exact")
    ax.plot(count, table["gap_sharp"], color="black", linestyle=":", label="sharp, $1/L^2$")
    ax.plot(
        count,
        table["estimate_excess"],
        "s--",
        color=blue,
        markerfacecolor="white",
        markersize=3,
        linewidth=0.8,
        label=r"estimator $\hat D$ − exact",
    )
    ax.set(xscale="log", yscale="log", xlabel="outcomes L", xlim=(2, count[-1]), ylim=(1e-7, 300))
    whole_ticks(ax, [2, 8, 32, 128, 1024])
    ax.legend(loc="lower left")


def _draw_win_rates(ax: Axes, data: FigureData) -> None:
    table = data["over_outcomes"]
    count = table["outcomes"]
    ax.axhline(N / (N + 1), color="black", linestyle="--", linewidth=0.8)
    styles = {
        "win": ("^-", "ties win"),
        "half": ("o-", "ties count half"),
        "loss": ("v-", "ties lose"),
    }
    for ties, (marker, name) in styles.items():
        ax.plot(
            count,
            table[f"win_rate_{ties}"],
            marker,
            color=COLORS["best_of_n"],
            label=name,
            markerfacecolor=COLORS["best_of_n"] if ties == "half" else "white",
        )
    ax.set(xscale="log", xlabel="outcomes L", xlim=(2, count[-1]), ylim=(0.45, 1.02))
    whole_ticks(ax, [2, 8, 32, 128, 1024])
    ax.legend(loc="lower right")


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("ties", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
