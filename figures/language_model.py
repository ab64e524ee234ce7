"""A language model's own samples: selection as predicted by the exact law, and as measured.

``python -m figures.language_model RESULTS.npz --output DIR``, with the results saved by
``simulations.experiments.language_model``.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from figures.output import FigureData, FigureFiles, results_command_line, write
from figures.predicted_and_measured import panels, tables
from simulations.experiments.language_model import LanguageModelResults

__all__ = ["data", "draw", "main"]

REWARDS = {"known_words": "known words", "trigram_likelihood": "trigram likelihood"}
UNITS = {"known_words": "words", "trigram_likelihood": "nats per symbol"}

CAPTION = (
    "Selecting among a language model's responses gives the rewards that the exact law "
    "predicts. "
    "Selection among responses of a language model ({parameters:,} parameters, trained on English "
    "text), averaged over {prompts} held-out prompts. Lines: predicted by the exact law of the "
    "rewards of {pool} sampled candidates per prompt; bands, two standard errors of that estimate. "
    "Points: measured by selecting one of n among {fresh} other candidates per prompt, in disjoint "
    "groups; bars, two standard errors; a divergence is the mean of the predicted log-ratio over "
    "what was selected. Temperature 0 is best-of-n, whose divergence without ties is dashed. "
    "(a–c) The number of known words in the response: two responses tie with probability "
    "{ties:.0%}, which count half. (d–f) Its likelihood under a trigram model, in nats per symbol: "
    "almost no ties."
)


def data(results: LanguageModelResults) -> FigureData:
    """Averages over prompts, with standard errors, of prediction and measurement."""
    config = results.identity["config"]
    caption = CAPTION.format(
        parameters=results.num_parameters,
        prompts=len(results.prompts),
        pool=config["prediction_pool"],
        fresh=config["measurement_pool"],
        ties=results.known_words.tie_probability,
    )
    pools = {reward: getattr(results, reward).comparison for reward in REWARDS}
    return FigureData(caption, tables(pools), dict(results.identity))


def draw(data: FigureData) -> Figure:
    """A row per reward."""
    return panels(data, REWARDS, UNITS)


def main(output_dir: Path, results: Path) -> FigureFiles:
    """Draw and write what an experiment found and saved."""
    numbers = data(LanguageModelResults.load(results))
    return write("language_model", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    results_command_line(main)
