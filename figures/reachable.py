"""What n draws can do at best, beside soft best-of-n (derived here; sequences: [V]).

``python -m figures.reachable --output DIR``
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import special

import bon_theory as bt
from figures.output import FigureData, FigureFiles, command_line, float64, write
from figures.style import (
    BOUND,
    COLORS,
    DOUBLE_COLUMN,
    ink,
    new_figure,
    panel_titles,
    shades,
    styled,
)

__all__ = ["LENGTHS", "TEMPERATURES", "data", "draw", "main"]

TEMPERATURES = (0.25, 0.1)  # of the uniform reward
LENGTHS = (8, 32, 128)  # coins
TEMPERATURE = 0.5  # of the coins

DISTANCES = {
    "kl_from_tilt": bt.kl_divergence,
    "kl_to_tilt": lambda law, tilt: bt.kl_divergence(tilt, law),
    "variation": bt.total_variation,
}

CAPTION = (
    "A few draws sample the tilt of a uniform reward exactly, which soft best-of-n does with none. "
    "At λ = 1/4 it takes {whole} draws; soft best-of-n with as many is {soft:.3f} nats away. "
    "The law nearest to the tilt among all rules that return one of n draws (blue), beside soft "
    "best-of-n (orange). (a) A reward uniform on (0, 1): KL divergence from the tilt at λ = 1/4 "
    "and, darker, 1/10; from n* draws on (vertical lines) some rule has the tilt itself. (b, c) "
    "The total reward of m = 8, 32 and, darkest, 128 coins at λ = 1/2, against the logarithm of "
    "the number of whole sequences that are drawn, in units of mD = m·KL of one symbol. (b) Total "
    "variation. (c) KL divergence to the optimum, per mD; dashed 1 − log n / mD, below which no "
    "rule can be, that is n ≥ exp(mD − ε). The best rule has the same transition at mD: "
    "that long sequences need so many draws is not the softmax's fault. Exact; no sampling."
)

Columns = dict[str, np.ndarray]


@float64
def data(*, points: int = 81) -> FigureData:
    """Distances of both laws to the tilt, on a uniform reward and on sequences of coins."""
    uniform = bt.Policy.uniform_reward()
    n = np.geomspace(1.0, 32.0, points)
    exact = [_draws_for_exact(uniform, jnp.asarray(lam)) for lam in TEMPERATURES]
    whole = np.ceil(float(exact[0]))
    curves = [_columns(uniform, np.append(n, whole), lam, "kl_from_tilt") for lam in TEMPERATURES]
    soft = curves[0]["soft_kl_from_tilt"][-1]
    coin = bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0])
    divergence = float(bt.kl_divergence(bt.exponential_tilt(coin, TEMPERATURE), coin))
    exponents = np.linspace(0.0, 2.0, points)
    return FigureData(
        CAPTION.format(whole={5: "Five"}.get(int(whole), f"{whole:.0f}"), soft=soft),
        {
            "uniform": _joined([{k: v[:-1] for k, v in curve.items()} for curve in curves]),
            "exact": {"temperature": np.array(TEMPERATURES), "n": np.array(exact, float)},
            "coins": _joined([_on_coins(m, exponents, m * divergence) for m in LENGTHS]),
        },
        {"temperature": TEMPERATURE, "divergence": divergence},
    )


def _on_coins(length: int, exponents: np.ndarray, total: float) -> Columns:
    """Distances at n = exp(exponent·mD) whole sequences; lengths share a compiled program."""
    heads = np.arange(LENGTHS[-1] + 1)  # impossible beyond the length
    logits = -special.gammaln(heads + 1.0) - special.gammaln(length - heads + 1.0)
    reference = bt.Policy.from_logits(logits, heads)
    columns = _columns(reference, np.exp(exponents * total), TEMPERATURE, "variation", "kl_to_tilt")
    shares = {f"{rule}_kl": columns[f"{rule}_kl_to_tilt"] / total for rule in ("soft", "best")}
    return {"length": np.full(exponents.size, length), "exponent": exponents} | columns | shares


def _columns(reference: bt.Policy, n: np.ndarray, temperature: float, *names: str) -> Columns:
    values = _distances(reference, jnp.asarray(n), jnp.asarray(temperature), names)
    columns = {name: np.asarray(value) for name, value in values.items()}
    return {"n": n, "temperature": np.full(n.size, temperature)} | columns


@partial(jax.jit, static_argnames="names")
def _distances(
    reference: bt.Policy, n: jax.Array, temperature: jax.Array, names: tuple[str, ...]
) -> dict[str, jax.Array]:
    """Distances between the tilt and both laws, at each n."""
    tilt = bt.exponential_tilt(reference, temperature)

    def each(number: jax.Array) -> dict[str, bt.Policy]:
        soft = bt.soft_best_of_n(reference, number, temperature)
        return {"soft": soft, "best": bt.nearest_reachable(tilt, reference, number)}

    return {
        f"{rule}_{name}": DISTANCES[name](law, tilt)
        for rule, law in jax.vmap(each)(n).items()
        for name in names
    }


@jax.jit
def _draws_for_exact(reference: bt.Policy, temperature: jax.Array) -> jax.Array:
    return bt.draws_for_exact(bt.exponential_tilt(reference, temperature), reference)


def _joined(tables: list[Columns]) -> Columns:
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


@styled
def draw(data: FigureData) -> Figure:
    """Three panels."""
    figure = new_figure(DOUBLE_COLUMN, 2.55)
    axes = figure.subplots(1, 3)
    _draw_uniform(axes[0], data)
    for ax, name in zip(axes[1:], ("variation", "kl"), strict=True):
        _draw_coins(ax, data, name)
    rho = np.array([0.0, 1.0])
    axes[2].plot(rho, 1 - rho, color=BOUND, linestyle="--", label="no rule is below")
    axes[2].legend(loc="upper right")
    titles = ("KL from the tilt (nats)", "coins: total variation", "coins: KL per $mD$")
    panel_titles(dict(zip(axes, titles, strict=True)))
    return figure


def _draw_uniform(ax: Axes, data: FigureData) -> None:
    table = data["uniform"]
    soft, best = (shades(COLORS[name], 3)[::2] for name in ("soft_best_of_n", "best_of_n"))
    for i, (lam, n) in enumerate(zip(*data["exact"].values(), strict=True)):
        rows = table["temperature"] == lam
        ax.axvline(n, color=BOUND, linewidth=0.6)
        ax.plot(table["n"][rows], table["soft_kl_from_tilt"][rows], color=soft[i])
        below = rows & (table["n"] < n)
        ax.plot(table["n"][below], table["best_kl_from_tilt"][below], color=best[i])
        ax.annotate(
            f"$n^*$ = {n:.2f}".replace(".00", ""),
            (n, 3e-5),
            ((-9, 0), (3, 0))[i],  # beside the curves, which fall to their lines
            textcoords="offset points",
            ha=("right", "left")[i],
            fontsize=7,
            color=ink(BOUND),
        )
    ax.plot([], [], color=COLORS["soft_best_of_n"], label="soft best-of-n")
    ax.plot([], [], color=COLORS["best_of_n"], label="best possible")
    ax.set(xscale="log", yscale="log", xlim=(1, 32), ylim=(1e-5, 3), xlabel="n (draws)")
    ax.set_xticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    ax.xaxis.set_ticks([], minor=True)
    ax.yaxis.set_ticks([], minor=True)
    ax.legend(loc="upper right")


def _draw_coins(ax: Axes, data: FigureData, name: str) -> None:
    table = data["coins"]
    for rule, method in (("soft", "soft_best_of_n"), ("best", "best_of_n")):
        for length, color in zip(LENGTHS, shades(COLORS[method], len(LENGTHS)), strict=True):
            rows = table["length"] == length
            ax.plot(table["exponent"][rows], table[f"{rule}_{name}"][rows], color=color)
    ax.axvline(1, color=BOUND, linewidth=0.6)
    ax.set(xlim=(0, 2), ylim=(0, 1), xlabel=r"$\log n$ / $mD$")


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("reachable", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
