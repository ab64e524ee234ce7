"""Selection among sampled candidates, a row per reward: as predicted, and as measured."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

import bon_theory as bt
from figures.output import FigureData, float64
from figures.style import (
    BOUND,
    COLORS,
    DOUBLE_COLUMN,
    new_figure,
    panel_titles,
    shades,
    styled,
    whole_ticks,
)
from simulations.experiments.reward_pools import MeasuredQuantity, PoolComparison

__all__ = ["panels", "tables"]

QUANTITIES = {
    "expected_reward": "gain",
    "win_rate": "win rate",
    "kl_divergence": "KL divergence",
}

TIE_FREE = r"$\log n - (n - 1)/n$"


@float64
def tables(comparisons: Mapping[str, PoolComparison]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Averages over prompts, with standard errors, by "reward/quantity"."""
    found = {
        f"{reward}/{quantity}": _table(pools, getattr(pools, quantity))
        for reward, pools in comparisons.items()
        for quantity in QUANTITIES
    }
    for reward in comparisons:
        table = found[f"{reward}/kl_divergence"]
        table["tie_free"] = np.asarray(bt.bounds.best_of_n_kl(table["n"].astype(float)).value)
    return found


def _table(pools: PoolComparison, comparison: MeasuredQuantity) -> dict[str, NDArray[np.float64]]:
    """One row per temperature and n; the prediction with its bias removed."""
    temperature, n = np.meshgrid(pools.temperatures, pools.numbers, indexing="ij")
    predicted = comparison.predicted - comparison.predicted_bias
    columns = {
        "temperature": temperature,
        "n": n,
        "predicted": predicted.mean(axis=-1),
        "predicted_error": _error_of_mean(comparison.predicted_error),
        "measured": comparison.measured.mean(axis=-1),
        "measured_error": _error_of_mean(comparison.measured_error),
        "z": comparison.measured_z,
    }
    return {name: column.ravel() for name, column in columns.items()}


def _error_of_mean(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard error of the mean of independent estimates along the last axis."""
    return np.linalg.norm(errors, axis=-1) / errors.shape[-1]


@styled
def panels(data: FigureData, rewards: Mapping[str, str], units: Mapping[str, str]) -> Figure:
    """A row per reward: what is gained, how often the selected response wins, how far it goes.

    Args:
        data: with the ``tables``.
        rewards: their names, in words.
        units: of each reward.
    """
    figure = new_figure(DOUBLE_COLUMN, 2.2 * len(rewards))
    axes = figure.subplots(len(rewards), len(QUANTITIES), sharex=True, squeeze=False)
    titles = {}
    for row, reward in zip(axes, rewards, strict=True):
        for ax, quantity in zip(row, QUANTITIES, strict=True):
            _draw_panel(ax, data, reward, quantity)
            whose = f"{rewards[reward]}: " if quantity == "expected_reward" else ""
            titles[ax] = f"{whose}{QUANTITIES[quantity]}"
        row[0].set_ylabel(units[reward])
        row[1].set_ylabel("win rate")
        row[2].set_ylabel("nats")
        row[0].legend(
            loc="upper left",
            title="temperature",
            title_fontsize=7,
            alignment="left",
        )
    [line] = axes[0, 1].plot([], [], color=BOUND)
    [point] = axes[0, 1].plot([], [], "o", color=BOUND, markerfacecolor="white")
    axes[0, 1].legend([line, point], ["predicted", "measured"], loc="lower right")
    axes[0, 2].legend(loc="upper left")
    for ax in axes[-1]:
        ax.set_xlabel("n (draws)")
    panel_titles(titles)
    return figure


def _draw_panel(ax: Axes, data: FigureData, reward: str, quantity: str) -> None:
    table = data[f"{reward}/{quantity}"]
    temperatures = np.unique(table["temperature"])
    # n = 1 is the model itself, at any temperature.
    baseline = table["predicted"][table["n"] == 1][0] if quantity == "expected_reward" else 0.0
    colors = [COLORS["best_of_n"], *shades(COLORS["soft_best_of_n"], temperatures.size - 1)[::-1]]
    for temperature, color in zip(temperatures, colors, strict=True):
        rows = {name: column[table["temperature"] == temperature] for name, column in table.items()}
        n, predicted = rows["n"], rows["predicted"] - baseline
        band = 2 * rows["predicted_error"]
        name = f"{temperature:g} (best-of-n)" if temperature == 0 else f"{temperature:g}"
        ax.plot(n, predicted, color=color, label=None if quantity == "kl_divergence" else name)
        ax.fill_between(n, predicted - band, predicted + band, color=color, alpha=0.2, linewidth=0)
        ax.errorbar(
            n,  # moved aside on a rising axis they would fake a discrepancy
            rows["measured"] - baseline,
            yerr=2 * rows["measured_error"],
            fmt="o",
            color=color,
            markerfacecolor="white",
            elinewidth=0.8,
        )
    numbers = np.unique(table["n"])
    if quantity == "kl_divergence":
        tie_free = table["tie_free"][table["temperature"] == 0]
        ax.plot(numbers, tie_free, "--", color=BOUND, label=TIE_FREE)
    ax.set_xscale("log")
    whole_ticks(ax, numbers[:: 1 + (numbers.size > 6)])
