"""A reward learned from preferences: how far to select by it, and what hedging is worth.

``python -m figures.learned_reward RESULTS.npz --output DIR``, with the results saved by
``simulations.experiments.learned_reward``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from figures.output import FigureData, FigureFiles, results_command_line, write
from figures.style import (
    BOUND,
    COLORS,
    DOUBLE_COLUMN,
    new_figure,
    panel_titles,
    styled,
    whole_ticks,
)
from simulations.experiments.learned_reward import LearnedRewardResults
from simulations.statistics.estimate import crossed_mean

__all__ = ["data", "draw", "main"]

CAPTION = (
    "Selecting by a learned reward raises the true one at first, and then lowers it; hedging stops "
    "in time. An example made to show it: judges want some of a good thing and no more, which a "
    "sum over tokens cannot say. The proxy is linear in sums of the language model's features and "
    "was learned from {pairs} noisy preferences of a true reward that is known; both are in "
    "standard deviations within a prompt, and what is shown is the gain over one draw; {seeds}. "
    "Correlation of proxy and true reward {correlation:.2f}. (a) Best-of-n by the proxy. Dotted: "
    "the n that hedging chose, one for all prompts. (b) True reward of the largest n, of the "
    "hedged n, and of soft best-of-{hedged} at the hedged temperature, each prompt by what was "
    "chosen on the other half of the prompts. Band and bars: two standard errors over prompts and "
    "sets of preferences."
)
GAIN = "gain over one draw (sd)"
NAMES = {
    "largest n": "largest n",
    "hedged n": "hedged n",
    "hedged temperature": "hedged\ntemperature",
}


def data(results: LearnedRewardResults) -> FigureData:
    """Means over prompts and sets of preferences, of gains over one draw."""
    config, seeds = results.identity["config"], len(results.correlation)
    choices = [results.choices[name] for name in NAMES]
    proxy, _ = crossed_mean(results.proxy - results.proxy[:, :1])
    true, true_error = crossed_mean(results.true - results.true[:, :1])
    gain, gain_error = crossed_mean(
        np.stack([choice.achieved - results.true[:, 0] for choice in choices], axis=1)
    )
    return FigureData(
        CAPTION.format(
            pairs=f"{config['num_pairs']:,}",
            seeds="one set of preferences" if seeds == 1 else f"means over {seeds} such sets",
            correlation=results.correlation.mean(),
            hedged=config["hedged_n"],
        ),
        {
            "curve": {
                "n": results.numbers,
                "proxy": proxy,
                "true": true,
                "true_error": true_error,
            },
            "choices": {
                "name": np.array(list(NAMES)),
                "n": np.array([choice.n.mean() for choice in choices]),
                "gain": gain,
                "gain_error": gain_error,
            },
        },
        dict(results.identity),
    )


@styled
def draw(data: FigureData) -> Figure:
    """Curves against n; what the choices achieve."""
    figure = new_figure(DOUBLE_COLUMN, 2.6)
    left, right = figure.subplots(1, 2)
    _draw_curve(left, data)
    _draw_choices(right, data)
    panel_titles({left: "selecting by the proxy", right: "true reward on other prompts"})
    return figure


def _draw_curve(ax: Axes, data: FigureData) -> None:
    curve, choices = data["curve"], data["choices"]
    n, true, band = curve["n"], curve["true"], 2 * curve["true_error"]
    ax.plot(n, curve["proxy"], "--", color=BOUND, label="proxy")
    ax.plot(n, true, "o-", color=COLORS["best_of_n"], label="true reward")
    ax.fill_between(n, true - band, true + band, color=COLORS["best_of_n"], alpha=0.2, linewidth=0)
    ax.axvline(choices["n"][1], color=BOUND, linestyle=":", label="hedged n")
    ax.set_xscale("log")
    whole_ticks(ax, n)
    ax.set(xlabel="n (draws)", ylabel=GAIN)
    ax.legend(loc="upper left")


def _draw_choices(ax: Axes, data: FigureData) -> None:
    choices = data["choices"]
    places = np.arange(len(NAMES))
    ax.errorbar(
        places,
        choices["gain"],
        yerr=2 * choices["gain_error"],
        fmt="o",
        color=COLORS["best_of_n"],
        elinewidth=0.8,
    )
    ax.axhline(choices["gain"][0], color=BOUND, linestyle=":")
    ax.set_xticks(places, list(NAMES.values()))
    ax.set_xlim(-0.5, len(NAMES) - 0.5)
    ax.set_ylim(bottom=min(0.0, *ax.get_ylim()))
    ax.set(xlabel="setting for all prompts", ylabel=GAIN)


def main(output_dir: Path, results: Path) -> FigureFiles:
    """Draw and write what an experiment found and saved."""
    numbers = data(LearnedRewardResults.load(results))
    return write("learned_reward", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    results_command_line(main)
