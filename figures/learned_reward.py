"""A reward learned from preferences: how far to select by it, and what hedging is worth.

``python -m figures.learned_reward RESULTS.npz --output DIR``, with the results saved by
``simulations.experiments.learned_reward``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

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

__all__ = ["data", "draw", "main"]

CAPTION = (
    "Selecting by a learned reward raises the true one at first, and then lowers it; hedging stops "
    "in time. An example made to show it: the judges saw no response with too much of what they "
    "like. A Bradley–Terry model on the language model's features, learned from "
    "{pairs} noisy preferences of a true reward that is known; both in standard deviations within "
    "a prompt; {seeds}. Correlation of proxy and true reward {correlation:.2f}. (a) Best-of-n by "
    "the proxy on prompts that were not used to choose: gain of the proxy, and of the true reward "
    "with a band of two standard errors over prompts. Dotted: the n that hedging chose on the "
    "other prompts, one for all. (b) True reward on the fresh prompts: of the largest n, of the "
    "hedged n, and of soft best-of-{hedged} at the hedged temperature. Bars: two standard errors "
    "of the gain over the largest n, prompts paired."
)
NAMES = {
    "largest n": "largest n",
    "hedged n": "hedged n",
    "hedged temperature": "hedged\ntemperature",
}


def data(results: LearnedRewardResults) -> FigureData:
    """Means over seeds."""
    config, seeds = results.identity["config"], len(results.correlation)
    choices = [results.choices[name] for name in NAMES]
    curve = {
        "n": results.numbers,
        "proxy": results.proxy.mean(axis=0),
        "true": results.true.mean(axis=0),
        # Seeds share the prompts: their errors are not averaged away.
        "true_error": results.true_std_error.mean(axis=0),
    }
    return FigureData(
        CAPTION.format(
            pairs=config["num_pairs"],
            seeds="one training" if seeds == 1 else f"means over {seeds} trainings",
            correlation=results.correlation.mean(),
            hedged=config["hedged_n"],
        ),
        {
            "curve": curve,
            "choices": {
                "name": np.array(list(NAMES)),
                "n": _mean([choice.n for choice in choices]),
                "achieved": _mean([choice.achieved for choice in choices]),
                "gain_error": _mean([choice.std_error for choice in choices]),
            },
        },
        dict(results.identity),
    )


def _mean(seeds: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.stack(seeds).mean(axis=1)


@styled
def draw(data: FigureData) -> Figure:
    """Curves against n; what the choices achieve."""
    figure = new_figure(DOUBLE_COLUMN, 2.6)
    left, right = figure.subplots(1, 2)
    _draw_curve(left, data)
    _draw_choices(right, data)
    panel_titles({left: "selecting by the proxy", right: "true reward on fresh prompts"})
    return figure


def _draw_curve(ax: Axes, data: FigureData) -> None:
    curve, choices = data["curve"], data["choices"]
    n, band = curve["n"], 2 * curve["true_error"]
    gained = curve["true"] - curve["true"][0]
    ax.plot(n, curve["proxy"] - curve["proxy"][0], "--", color=BOUND, label="proxy")
    ax.plot(n, gained, "o-", color=COLORS["best_of_n"], label="true reward")
    ax.fill_between(
        n,
        gained - band,
        gained + band,
        color=COLORS["best_of_n"],
        alpha=0.2,
        linewidth=0,
    )
    ax.axvline(choices["n"][1], color=BOUND, linestyle=":", label="hedged n")
    ax.set_xscale("log")
    whole_ticks(ax, n)
    ax.set(xlabel="n (draws)", ylabel="gain (sd)")
    ax.legend(loc="upper left")


def _draw_choices(ax: Axes, data: FigureData) -> None:
    choices = data["choices"]
    places = np.arange(len(NAMES))
    ax.errorbar(
        places,
        choices["achieved"],
        yerr=2 * choices["gain_error"],
        fmt="o",
        color=COLORS["best_of_n"],
        elinewidth=0.8,
    )
    ax.axhline(choices["achieved"][0], color=BOUND, linestyle=":")
    ax.set_xticks(places, list(NAMES.values()))
    ax.set_xlim(-0.5, len(NAMES) - 0.5)
    ax.set(xlabel="setting for all prompts", ylabel="true reward (sd)")


def main(output_dir: Path, results: Path) -> FigureFiles:
    """Draw and write what an experiment found and saved."""
    numbers = data(LearnedRewardResults.load(results))
    return write("learned_reward", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    results_command_line(main)
