"""Best-of-n block by block: reward against KL at equal draws, and what whole responses cost.

``python -m figures.block_selection RESULTS.json --output DIR``, with the results saved by
``simulations.experiments.model_blocks``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, ScalarFormatter
from numpy.typing import NDArray

from figures.output import FigureData, FigureFiles, results_command_line, write
from figures.style import BOUND, COLORS, DOUBLE_COLUMN, new_figure, panel_titles, shades, styled
from simulations.experiments.block_selection import BlockSelectionResults
from simulations.experiments.model_blocks import ModelBlocks

__all__ = ["cells", "data", "draw", "draw_cells", "main"]

CAPTION = (
    "At equal draws, blocks of a few tokens earn more than whole responses, and go further from "
    "the model. A language model's responses of up to {longest} tokens; the reward is additive, "
    "the number of little words (the, a, of, …). (a) Best-of-n of n candidates for every block: n "
    "drawn tokens for each token kept, whatever the block's length, which stands beside the "
    "points. Points: measured, bars of two standard errors; divergences are estimated from the "
    "candidates of every block. Dashed: the exact law for independent tokens with the same law of "
    "rewards. (b) Candidates that whole responses need for a gain of {gain:.3f} per token, if they "
    "are cut at a length: of the language model, by the law of its responses' rewards; of "
    "independent tokens, exact; dotted, what any rule needs at least for independent tokens, which "
    "the model's, each a hint at the next, are not."
)

KL_TICKS = (0.2, 0.5, 1, 2, 5, 10)  # nats
TICKS = (1, 2, 5, 10, 20, 50, 100, 200, 500)  # of numbers of candidates


def data(found: ModelBlocks) -> FigureData:
    """Cells of the experiment; numbers of candidates by length, as far as they are known."""
    config, needed = found.results.config, found.needed
    known = (needed.model <= found.trusted) & np.isfinite(needed.independent)
    return FigureData(
        CAPTION.format(longest=config.max_new_tokens, gain=found.gain),
        {
            "blocks": cells(found.results),
            "needed": {name: column[known] for name, column in vars(needed).items()},
        },
        {"config": asdict(config), "gain": found.gain},
    )


def cells(results: BlockSelectionResults) -> dict[str, NDArray[np.float64]]:
    """Gain and divergence, measured and of independent tokens, by n and length of block."""
    config = results.config
    n, block_length = np.meshgrid(config.numbers, config.block_lengths, indexing="ij")
    columns = {
        "n": n,
        "block_length": block_length,
        "gain": results.reward.value - results.reference_reward,
        "gain_error": results.reward.std_error,
        "kl": results.kl_divergence.value,
        "kl_error": results.kl_divergence.std_error,
        "independent_gain": results.predicted_reward - results.predicted_reference,
        "independent_kl": results.predicted_kl,
    }
    return {name: column.ravel() for name, column in columns.items()}


@styled
def draw(data: FigureData) -> Figure:
    """Reward against KL; candidates against length."""
    figure = new_figure(DOUBLE_COLUMN, 2.6)
    left, right = figure.subplots(1, 2)
    draw_cells(left, data["blocks"], unit="words")
    _draw_needed(right, data)
    panel_titles({left: "block by block", right: "whole responses"})
    return figure


def draw_cells(ax: Axes, table: Mapping[str, NDArray[np.float64]], *, unit: str) -> None:
    """A line for each n, its points the lengths of blocks; dashed, independent tokens."""
    numbers = np.unique(table["n"])
    colors = shades(COLORS["best_of_n"], numbers.size)
    for n, color in zip(numbers, colors, strict=True):
        rows = {name: column[table["n"] == n] for name, column in table.items()}
        ax.errorbar(
            rows["kl"],
            rows["gain"],
            xerr=2 * rows["kl_error"],
            yerr=2 * rows["gain_error"],
            fmt="o-",
            color=color,
            linewidth=0.8,
            elinewidth=0.6,
            markersize=3,
        )
        ax.plot(rows["independent_kl"], rows["independent_gain"], "--", color=color)
    most = table["n"] == numbers[-1]
    for kl, gain, length in zip(
        *(table[name][most] for name in ("kl", "gain", "block_length")), strict=True
    ):
        ax.annotate(f"{length:g}", (kl, gain), (3, -7), textcoords="offset points", fontsize=7)
    handles = [Line2D([], [], color=color, marker="o", markersize=3) for color in colors]
    handles.append(Line2D([], [], color=colors[-1], linestyle="--"))
    names = [*(f"n = {n}" for n in numbers), "independent tokens"]
    ax.legend(handles, names, loc="upper left")
    ax.set(xscale="log", xlabel="KL (nats)", ylabel=f"gain ({unit})")
    ticks = [tick for tick in KL_TICKS if table["kl"].min() <= tick]
    ticks = [tick for tick in ticks if tick <= table["independent_kl"].max()]
    ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.xaxis.set_minor_formatter(NullFormatter())


def _draw_needed(ax: Axes, data: FigureData) -> None:
    table = data["needed"]
    length = table["length"]
    ax.plot(length, table["model"], "o-", color=COLORS["best_of_n"], label="language model")
    ax.plot(length, table["independent"], "--", color=COLORS["best_of_n"], label="independent")
    ax.plot(length, table["any_rule"], ":", color=BOUND, label="independent, any rule")
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(ScalarFormatter())
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_yticks([tick for tick in TICKS if tick <= table["independent"].max()])
    ax.set_xticks(length)
    ax.set(xlabel="length (tokens)", ylabel="n (candidates)")
    ax.legend(loc="lower right")


def main(output_dir: Path, results: Path) -> FigureFiles:
    """Draw and write what an experiment found and saved."""
    numbers = data(ModelBlocks.load(results))
    return write("block_selection", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    results_command_line(main)
