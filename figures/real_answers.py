"""A real model's answers: selection as the exact law predicts it from half, and as it came.

``python -m figures.real_answers RESULTS.npz --output DIR``, with the results saved by
``simulations.experiments.real_pool``.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from figures.output import FigureData, FigureFiles, results_command_line, write
from figures.predicted_and_measured import panels, tables
from simulations.experiments.real_pool import RealPoolResults

__all__ = ["data", "draw", "main"]

REWARDS = {
    "lexicon": "valence of words",
    "sentiment": "sentiment",
    "likelihood": "trigram likelihood",
}
UNITS = {"lexicon": "valence", "sentiment": "score", "likelihood": "nats per letter"}

CAPTION = (
    "Selecting among a real model's answers gives the rewards that the exact law predicts. "
    "SmolLM2-135M-Instruct, {prompts} instructions, averages over them. Lines: predicted by the "
    "exact law of the rewards of {half} answers to each; bands, two standard errors of that "
    "estimate. Points: measured by selecting one of n among {rest} other answers, in disjoint "
    "groups; bars, two standard errors; a divergence is the mean of the predicted log-ratio over "
    "what was selected. Temperature 0 is best-of-n, whose divergence without ties is dashed. "
    "(a–c) The sum of VADER's valences of the words, an additive reward: two answers tie with "
    "probability {ties[lexicon]:.0%}, which count half. "
    "(d–f) VADER's compound score of the text: {ties[sentiment]:.0%} tie. "
    "(g–i) The likelihood of its letters under a trigram model: {ties[likelihood]:.1%} tie."
)


def data(results: RealPoolResults) -> FigureData:
    """Averages over instructions, with standard errors, of prediction and measurement."""
    num_prompts, num_answers = results.rewards["lexicon"].shape
    half = num_answers // 4 * 2
    caption = CAPTION.format(
        prompts=num_prompts, half=half, rest=num_answers - half, ties=results.tie_probability
    )
    pools = {reward: results.comparisons[reward] for reward in REWARDS}
    return FigureData(caption, tables(pools), dict(results.identity))


def draw(data: FigureData) -> Figure:
    """A row per reward."""
    return panels(data, REWARDS, UNITS)


def main(output_dir: Path, results: Path) -> FigureFiles:
    """Draw and write what an experiment found and saved."""
    numbers = data(RealPoolResults.load(results))
    return write("real_answers", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    results_command_line(main)
