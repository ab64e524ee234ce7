"""Win rate against KL divergence: best-of-n beside the optimum ([G] Figure 2, both panels).

``python -m figures.win_rate_frontier --output DIR``
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
    BOUND,
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
    "At equal KL divergence best-of-n wins less than one percentage point less than the "
    "optimum. "
    "Best-of-n against the optimum (Gui et al., Figure 2). (a) Win rate against the reference"
    " and KL divergence from it, for a reward without ties: best-of-n for real n (line) and n"
    " = 2, 4, … (dots), and the policy that has the highest win rate at its KL divergence. "
    "(b) How much higher, in percentage points, the optimum's win rate is at the KL divergence "
    "of best-of-n. Largest"
    " over real n: {gap:.6f} at n = {n:.3f}; for large n it falls like 1/(2n³). Exact; no "
    "sampling."
)


@float64
def data(*, largest_n: float = 128.0, points: int = 241) -> FigureData:
    """Best-of-n and the optimum at equal KL, for real n and for powers of two."""
    whole = 2.0 ** np.arange(int(np.log2(largest_n)) + 1)
    best = _equal_kl(np.geomspace(1.0, largest_n, points)[1:])
    dots = _equal_kl(whole[1:])

    # The gap is smooth with one maximum: a parabola through the three highest points of a fine
    # grid is off by less than the printed digits.
    near = np.linspace(1.6, 2.0, 81)
    gaps = _equal_kl(near)["gap"]
    top = int(np.argmax(gaps))
    curvature, slope, height = np.polyfit(
        near[top - 1 : top + 2] - near[top], gaps[top - 1 : top + 2], 2
    )
    at = -slope / (2 * curvature)
    n, gap = near[top] + at, height + slope * at / 2

    return FigureData(
        CAPTION.format(gap=gap, n=n),
        {
            "best_of_n": best,
            "powers_of_two": dots,
            "largest_gap": {"n": np.array([n]), "gap": np.array([gap])},
        },
        {"reward": "without ties", "largest_n": largest_n},
    )


def _equal_kl(n: np.ndarray) -> dict[str, np.ndarray]:
    """Columns n, kl, win_rate, optimal_win_rate and gap, of equal KL."""
    columns = _solve(jnp.asarray(n))
    return {"n": n} | {name: np.asarray(column) for name, column in columns.items()}


@jax.jit
def _solve(n: jax.Array) -> dict[str, jax.Array]:
    reference = bt.Policy.uniform_reward(num_nodes=641)
    best = bt.best_of_n(reference, n)
    kl, win_rate = bt.kl_divergence(best, reference), bt.win_rate(best, reference)
    optimal = bt.frontier(reference, kl, objective="win_rate").value
    return {"kl": kl, "win_rate": win_rate, "optimal_win_rate": optimal, "gap": optimal - win_rate}


@styled
def draw(data: FigureData) -> Figure:
    """Two panels: the plane, and the gap."""
    figure = new_figure(DOUBLE_COLUMN, 2.5)
    plane, gap = figure.subplots(1, 2)
    best, dots = data["best_of_n"], data["powers_of_two"]

    plane.plot(best["kl"], best["optimal_win_rate"], color=COLORS["win_rate_optimal"])
    plane.plot(best["kl"], best["win_rate"], color=COLORS["best_of_n"], linestyle="--")
    plane.plot(dots["kl"], dots["win_rate"], "o", color=COLORS["best_of_n"])
    for n, x, y in zip(dots["n"], dots["kl"], dots["win_rate"], strict=True):
        name = f"n = {n:.0f}" if n == 2 else f"{n:.0f}"
        plane.annotate(
            name, (x, y), (4, -9), textcoords="offset points", fontsize=7, color=COLORS["best_of_n"]
        )
    plane.set(xlabel="KL divergence from the reference (nats)", ylabel="win rate")
    plane.set(xlim=(0, None), ylim=(0.5, 1.0))
    label(plane, "optimal", (0.55, 0.83), color=COLORS["win_rate_optimal"], ha="right")
    label(plane, "best-of-n", (1.0, 0.80), color=COLORS["best_of_n"])

    percent = 100
    gap.plot(best["n"], percent * best["gap"], color=COLORS["best_of_n"])
    gap.plot(dots["n"], percent * dots["gap"], "o", color=COLORS["best_of_n"])
    tail = best["n"] >= 3.0
    n = best["n"][tail]
    gap.plot(n, percent / (2 * n**3), color=BOUND, linestyle=":")
    [n_top], [top] = data["largest_gap"]["n"], data["largest_gap"]["gap"]
    gap.plot([n_top], [percent * top], "*", color="black", markersize=7)
    gap.annotate(
        f"largest: {percent * top:.4f} at n = {n_top:.3f}",
        (n_top, percent * top),
        (8, 4),
        textcoords="offset points",
        fontsize=7,
    )
    label(gap, "$1/(2n^3)$", (5.3, 0.42), color=BOUND)
    gap.set(xscale="log", xlim=(1, 1.1 * best["n"][-1]), ylim=(0, 1.1))
    gap.set(xlabel="n (draws)", ylabel="win rate gained (points)")
    whole_ticks(gap, [1, *dots["n"]])
    panel_titles({plane: "win rate and KL divergence", gap: "advantage of the optimum at equal KL"})
    return figure


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("win_rate_frontier", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
