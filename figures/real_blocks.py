"""A real model's answers, selected block by block while it gives them: reward against KL.

The numbers are in the repository: ``python -m simulations blocks`` makes them, a quarter of an
hour of SmolLM2's answers.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from matplotlib.figure import Figure

from figures.block_selection import cells, draw_cells
from figures.output import FigureData, FigureFiles, command_line, write
from figures.style import SINGLE_COLUMN, new_figure, panel_titles, styled
from simulations.experiments import block_selection
from simulations.experiments.block_selection import BlockSelectionResults

__all__ = ["data", "draw", "main"]

FOUND = Path(block_selection.__file__).with_name("data") / "smollm2_blocks.json"

CAPTION = (
    "At equal draws a real model's answers earn most in blocks of a few tokens. "
    "SmolLM2-135M-Instruct's answers of up to {longest} tokens to {prompts} instructions; the "
    "reward is the sum of VADER's valences of whole-word tokens. Best of {n} candidates for every "
    "block, of the lengths beside the points: {n} drawn tokens for each token kept. Points: "
    "measured, bars of two standard errors; divergences are estimated from the candidates of every "
    "block. Dashed: the exact law for independent tokens with the same law of rewards, which tell "
    "nothing of those after them; single tokens of the model do, and earn less."
)
PROMPTS = 16


def data() -> FigureData:
    """What was found, read from the repository."""
    results = BlockSelectionResults.from_json(json.loads(FOUND.read_text(encoding="utf-8")))
    config = results.config
    caption = CAPTION.format(
        longest=config.max_new_tokens, prompts=PROMPTS, n=" and ".join(map(str, config.numbers))
    )
    return FigureData(caption, {"blocks": cells(results)}, {"config": asdict(config)})


@styled
def draw(data: FigureData) -> Figure:
    """Reward against KL."""
    figure = new_figure(SINGLE_COLUMN, 2.6)
    ax = figure.subplots()
    draw_cells(ax, data["blocks"], unit="valence")
    panel_titles({ax: "blocks of so many tokens"})
    return figure


def main(output_dir: Path) -> FigureFiles:
    """Draw and write."""
    numbers = data()
    return write("real_blocks", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
