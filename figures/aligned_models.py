"""Alignment of two language models as it was run once, and is kept: the one trained here, SmolLM2.

``make repro PROFILE=full`` and ``python -m simulations align-real`` make the numbers, in an hour
and, on an accelerator, in minutes; they are in the repository.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from matplotlib.figure import Figure

from figures import text_alignment
from figures.output import FigureData, FigureFiles, command_line, write
from simulations.experiments import text_policies
from simulations.experiments.text_policies import TextAlignmentResults

__all__ = ["FOUND", "data", "draw", "main"]

_DATA = Path(text_policies.__file__).with_name("data")
FOUND = {
    "trained here": Path(__file__).with_name("data") / "text_alignment.json",
    "SmolLM2": _DATA / "smollm2_all_parameters.json",
    "SmolLM2, rank 8": _DATA / "smollm2_low_rank.json",
}
"""What was found, by model."""

CAPTION = (
    "Aligned policies lie below the frontier, which best-of-n sampling all but reaches. "
    "As the figure of alignment in this run, at greater length: {models}. Bars: one standard error "
    "over seeds, or over prompts where there is one. {marks}"
)
MODELS = {
    "trained here": "the model trained here ({seeds} seeds, to {steps} updates of 32 pairs)",
    "SmolLM2": (
        "SmolLM2-135M-Instruct, all parameters ({seeds} seeds, {steps} updates of 8 pairs of its "
        "own answers, judged on instructions that no pair is of)"
    ),
    "SmolLM2, rank 8": "the same by a change of rank 8 (one seed, {steps} updates)",
}


def results() -> dict[str, TextAlignmentResults]:
    """What the repository holds."""
    return {name: TextAlignmentResults.load(path) for name, path in FOUND.items()}


def data() -> FigureData:
    """Every model's paths, its tasks under names of their own."""
    found = results()
    named = [_named(name, each) for name, each in found.items()]
    together = TextAlignmentResults(
        tuple(reference for each in named for reference in each.references),
        tuple(policy for each in named for policy in each.policies),
    )
    models = [
        MODELS[name].format(
            seeds=len({policy.seed for policy in each.policies}),
            steps=max(policy.step for policy in each.policies),
        )
        for name, each in found.items()
    ]
    caption = CAPTION.format(models="; ".join(models), marks=text_alignment.marks(together))
    tables = text_alignment.tables(together)
    return FigureData(caption, tables, texts=text_alignment.texts(together))


def _named(model: str, found: TextAlignmentResults) -> TextAlignmentResults:
    """The methods that are shown, under names of the model; sweeps have a figure of their own."""

    def named(task: str) -> str:
        return f"{model}, {task}"

    return TextAlignmentResults(
        tuple(replace(each, task=named(each.task)) for each in found.references),
        tuple(
            replace(each, task=named(each.task))
            for each in found.policies
            if each.method in text_alignment.SHOWN
        ),
    )


def draw(data: FigureData) -> Figure:
    """A row for each model and task."""
    return text_alignment.draw(data)


def main(output_dir: Path) -> FigureFiles:
    """Draw and write."""
    numbers = data()
    return write("aligned_models", draw(numbers), numbers, output_dir)


if __name__ == "__main__":
    command_line(main)
