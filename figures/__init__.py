"""One script per figure: ``data() -> FigureData``, ``draw(data) -> Figure``, ``main(output_dir)``.

``python -m figures --output DIR`` makes all of :data:`ALL`, ``python -m figures.ties --output DIR``
one. Each is written as PDF and PNG, with the data behind it as ``.npz`` and ``.json``.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from figures.output import FigureData, FigureFiles, write

if TYPE_CHECKING:  # who only wants names need not wait for it
    from matplotlib.figure import Figure

__all__ = ["ALL", "OF_RESULTS", "FigureData", "FigureFiles", "Script", "make", "script", "write"]

#: The figures whose ``data()`` takes no argument, in the order of the report.
ALL: tuple[str, ...] = (
    "win_rate_frontier",
    "published_points",
    "reward_frontier",
    "convergence_rate",
    "reachable",
    "budgets",
    "ties",
    "families",
    "choosing",
    "hedging",
    "bounds",
    "sequences",
    "particles",
    "bonbon",
    "real_blocks",
    "aligned_models",
    "alignment_sweeps",
    "readme",
)

#: The others: their ``data`` takes the results of an experiment.
OF_RESULTS: tuple[str, ...] = (
    "alignment",
    "text_alignment",
    "language_model",
    "block_selection",
    "learned_reward",
    "real_answers",
)


class Script(Protocol):
    """What every module named in :data:`ALL` offers."""

    def data(self) -> FigureData:
        """Compute the numbers of the figure, in float64."""
        ...

    def draw(self, data: FigureData) -> Figure:
        """Draw them: no computation, no file."""
        ...

    def main(self, output_dir: Path) -> FigureFiles:
        """``write(name, draw(data()), ...)``."""
        ...


def script(name: str) -> Script:
    """Import one figure's module, only when asked: matplotlib and compilation take their time.

    Raises:
        ValueError: for a name that is not in :data:`ALL`.
    """
    if name not in ALL:
        raise ValueError(f"name must be one of {', '.join(ALL)}, got {name!r}")
    return cast(Script, importlib.import_module(f"figures.{name}"))


def make(name: str, output_dir: Path) -> FigureFiles:
    """Compute, draw and write one figure."""
    return script(name).main(output_dir)
