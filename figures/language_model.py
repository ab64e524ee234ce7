"""A language model's own samples: selection as predicted by the exact law, and as measured.

``python -m figures.language_model RESULTS.npz --output DIR``, with the results saved by
``simulations.experiments.language_model``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from figures.output import FigureData, FigureFiles, write
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
from simulations.experiments.language_model import LanguageModelResults
from simulations.experiments.reward_pools import MeasuredQuantity, PoolComparison

__all__ = ["data", "draw", "main"]

REWARDS = {"known_words": "known words", "trigram_likelihood": "trigram likelihood"}
UNITS = {"known_words": "words", "trigram_likelihood": "nats per symbol"}
QUANTITIES = {"expected_reward": "reward gained", "win_rate": "win rate"}

CAPTION = (
    "Selecting among a language model's responses gives the rewards that the exact law "
    "predicts. "
    "Selection among responses of a language model ({parameters:,} parameters, trained on English "
    "text), averaged over {prompts} held-out prompts. Lines: predicted by the exact law of the "
    "rewards of {pool} sampled candidates per prompt; bands, two standard errors of that estimate. "
    "Points: measured by selecting one of n among {fresh} other candidates per prompt, in disjoint "
    "groups; bars, two standard errors. Temperature 0 is best-of-n. (a, b) The number of known "
    "words in the response: two responses tie with probability {ties:.0%}, which count half. "
    "(c, d) Its likelihood under a trigram model: almost no ties."
)


def data(results: LanguageModelResults) -> FigureData:
    """Averages over prompts, with standard errors, of prediction and measurement."""
    tables = {}
    for reward in REWARDS:
        pools: PoolComparison = getattr(results, reward).comparison
        for quantity in QUANTITIES:
            comparison: MeasuredQuantity = getattr(pools, quantity)
            tables[f"{reward}/{quantity}"] = _table(pools, comparison)
    config = results.identity["config"]
    caption = CAPTION.format(
        parameters=results.num_parameters,
        prompts=len(results.prompts),
        pool=config["prediction_pool"],
        fresh=config["measurement_pool"],
        ties=results.known_words.tie_probability,
    )
    return FigureData(caption, tables, dict(results.identity))


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
def draw(data: FigureData) -> Figure:
    """A row per reward: what is gained, and how often the selected response wins."""
    figure = new_figure(DOUBLE_COLUMN, 4.4)
    axes = figure.subplots(2, 2, sharex=True)
    titles = {}
    for row, reward in zip(axes, REWARDS, strict=True):
        for ax, quantity in zip(row, QUANTITIES, strict=True):
            _draw_panel(ax, data, reward, quantity)
            titles[ax] = f"{REWARDS[reward]}: {QUANTITIES[quantity]}"
        row[0].set_ylabel(f"gain ({UNITS[reward]})")
        row[1].set_ylabel("win rate")
        row[0].legend(
            loc="upper left",
            title=f"temperature ({UNITS[reward]})",
            title_fontsize=7,
            alignment="left",
        )
    [line] = axes[0, 1].plot([], [], color=BOUND)
    [point] = axes[0, 1].plot([], [], "o", color=BOUND, markerfacecolor="white")
    axes[0, 1].legend([line, point], ["predicted", "measured"], loc="lower right")
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
        ax.plot(n, predicted, color=color, label=name)
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
    ax.set_xscale("log")
    whole_ticks(ax, np.unique(table["n"]))


def main(output_dir: Path, results: LanguageModelResults) -> FigureFiles:
    """Draw and write what an experiment found."""
    numbers = data(results)
    return write("language_model", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Draw the results of the language model.")
    parser.add_argument("results", type=Path, metavar="RESULTS.npz")
    parser.add_argument("--output", type=Path, default=Path("figures-out"), metavar="DIR")
    arguments = parser.parse_args()
    print(main(arguments.output, LanguageModelResults.load(arguments.results)).png)
