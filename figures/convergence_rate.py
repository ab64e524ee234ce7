"""How fast soft best-of-n tends to the tilt: rates beside the truth ([V] as quoted, derived).

``python -m figures.convergence_rate --output DIR``
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
from figures.style import BOUND, COLORS, DOUBLE_COLUMN, ink, new_figure, panel_titles, styled

__all__ = ["data", "draw", "main"]

# Each step up in reward is half as likely.
PROBS = tuple(float(p) for p in 0.5 ** np.arange(10) / (0.5 ** np.arange(10)).sum())
REWARDS = tuple(float(r) for r in np.arange(10) / 9)
TEMPERATURE = 0.06

CAPTION = (
    "Soft best-of-n tends to the tilt faster than the quoted bound: its divergence falls like "
    "1/n², not 1/n. "
    "Convergence of soft best-of-n to the tilt P*: bounds of the order 1/n beside the exact "
    "values ((a) of Verdun et al., as arXiv 2506.04118 quotes it; (b), (c) derived here). "
    "Ten outcomes, π ∝ 2⁻ʲ, rewards j/9, temperature {temperature}; χ² = "
    "{chi_squared:.1f}. (a) KL(P*‖Pₙ) ≤ log(1 + χ²/n) holds at every n and is the right order"
    " while n is far below χ² (vertical line); beyond, the divergence is Θ(1/n²), with "
    "constant ½Var(w̄) under P*. (b) E*/Eₙ − 1 ≤ (c − 1)/n, c = E*[r w̄]/E*[r]: the order 1/n"
    " is exact, the constant is Cov(r, w̄)/E*[r] under P*. (c) Total variation: Pinsker's "
    "inequality applied to (a) gives n^(−1/2), the truth is 1/n with constant ½E*|w̄ − 1 − "
    "χ²|. Blue: the best that any rule of n draws can do; from {draws_for_exact:.0f} draws on it "
    "is the tilt itself. Exact; no sampling."
)


@float64
def data(*, points: int = 121, largest_n: float = 1e6) -> FigureData:
    """Exact distances, published bounds and sharp asymptotes, for real n."""
    n = np.geomspace(1.0, largest_n, points)
    reference = bt.Policy.from_probs(PROBS, REWARDS)
    arrays, constants = _rates(reference, jnp.asarray(n), jnp.asarray(TEMPERATURE))
    names = {name: float(value) for name, value in constants.items()}
    return FigureData(
        CAPTION.format(
            temperature=TEMPERATURE,
            chi_squared=names["chi_squared"],
            draws_for_exact=np.ceil(names["draws_for_exact"]),
        ),
        {
            "rates": {"n": n} | {name: np.asarray(values) for name, values in arrays.items()},
            "constants": {name: np.array([value]) for name, value in names.items()},
        },
        {"probs": PROBS, "rewards": REWARDS, "temperature": TEMPERATURE},
    )


@jax.jit
def _rates(
    reference: bt.Policy, n: jax.Array, temperature: jax.Array
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    tilt = bt.exponential_tilt(reference, temperature)
    weight = jnp.exp(bt.log_ratio(tilt, reference))  # w̄, of mean 1 under π and 1 + χ² under P*
    chi_squared = bt.chi_squared_divergence(tilt, reference)
    best_reward = bt.expected_reward(tilt)
    centred = weight - 1 - chi_squared
    weighted_reward = bt.expected_value(tilt, reference.rewards * weight) / best_reward
    half_variance = bt.expected_value(tilt, centred**2) / 2
    covariance = bt.expected_value(tilt, reference.rewards * centred) / best_reward
    deviation = bt.expected_value(tilt, jnp.abs(centred)) / 2

    best = jax.vmap(lambda number: bt.nearest_reachable(tilt, reference, number))(n)

    def distances(number: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        policy = bt.soft_best_of_n(reference, number, temperature)
        gap = best_reward / bt.expected_reward(policy) - 1
        return bt.kl_divergence(tilt, policy), gap, bt.total_variation(policy, tilt)

    kl, reward_gap, total_variation = jax.lax.map(distances, n, batch_size=64)
    kl_bound = jnp.log1p(chi_squared / n)
    arrays = {
        "kl": kl,
        "kl_bound": kl_bound,
        "kl_sharp": half_variance / n**2,
        "kl_best": bt.kl_divergence(tilt, best),
        "reward_gap": reward_gap,
        "reward_gap_bound": (weighted_reward - 1) / n,
        "reward_gap_sharp": covariance / n,
        "total_variation": total_variation,
        "total_variation_bound": jnp.minimum(jnp.sqrt(kl_bound / 2), 1),
        "total_variation_sharp": deviation / n,
        "total_variation_best": bt.total_variation(best, tilt),
    }
    return arrays, {
        "chi_squared": chi_squared,
        "half_variance": half_variance,
        "relative_covariance": covariance,
        "half_mean_deviation": deviation,
        "draws_for_exact": bt.draws_for_exact(tilt, reference),
    }


@styled
def draw(data: FigureData) -> Figure:
    """Three panels on doubly logarithmic axes."""
    figure = new_figure(DOUBLE_COLUMN, 2.55)
    axes = figure.subplots(1, 3, sharex=True)
    titles = ("KL divergence (nats)", "relative reward gap", "total variation")
    bounds = (r"bound $\log(1+\chi^2/n)$", "bound $(c-1)/n$", "Pinsker's bound")
    orders = ("sharp, $1/n^2$", "sharp, $1/n$", "sharp, $1/n$")
    names = ("kl", "reward_gap", "total_variation")
    for ax, name, bound, order in zip(axes, names, bounds, orders, strict=True):
        _draw_panel(ax, data, name, bound, order)
    panel_titles(dict(zip(axes, titles, strict=True)))
    return figure


def _draw_panel(ax: Axes, data: FigureData, name: str, bound: str, order: str) -> None:
    rates, [chi_squared] = data["rates"], data["constants"]["chi_squared"]
    n, exact = rates["n"], rates[name]
    ax.axvline(chi_squared, color=BOUND, linewidth=0.6)
    ax.plot(n, rates[f"{name}_bound"], color=BOUND, linestyle="--", label=bound)
    ax.plot(n, exact, color=COLORS["soft_best_of_n"], label="exact")
    ax.plot(n, rates[f"{name}_sharp"], color="black", linestyle=":", label=order)
    if f"{name}_best" in rates:
        lacks = n < data["constants"]["draws_for_exact"]
        best = rates[f"{name}_best"][lacks]
        ax.plot(n[lacks], best, color=COLORS["best_of_n"], linewidth=1.0, label="best possible")
    low = 10.0 ** np.floor(np.log10(exact.min()))
    ax.set(
        xscale="log",
        yscale="log",
        xlim=(1, n[-1]),
        ylim=(low, 3 * max(exact.max(), 1)),
        xlabel="n (draws)",
    )
    ax.set_xticks(10.0 ** np.arange(0, 7, 2))
    ax.annotate(
        r"$n=\chi^2$",
        (chi_squared, low),
        (3, 3),
        textcoords="offset points",
        fontsize=7,
        color=ink(BOUND),
    )
    ax.yaxis.set_ticks([], minor=True)
    legend = ax.legend(loc="lower left", bbox_to_anchor=(0.0, 0.08), frameon=True, framealpha=1.0)
    legend.get_frame().set(edgecolor="none")


def main(output_dir: Path) -> FigureFiles:
    """Compute, draw and write."""
    numbers = data()
    return write("convergence_rate", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
