"""A figure's data, and how both reach the disk: whole or not at all, the same each time."""

from __future__ import annotations

import argparse
import io
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import numpy as np
from numpy.typing import NDArray

import bon_theory
from simulations.tools.files import write_atomically
from simulations.tools.precision import float64

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Columns",
    "FigureData",
    "FigureFiles",
    "command_line",
    "float64",
    "reporting",
    "results_command_line",
    "tracked",
    "write",
]

Columns = dict[str, NDArray[Any]]
Progress = Callable[[str, int, int], None]
T = TypeVar("T")

_listener: ContextVar[Progress | None] = ContextVar("_listener", default=None)


@contextmanager
def reporting(progress: Progress) -> Iterator[None]:
    """Figures made here tell ``progress(what, done, total)`` how far they are."""
    token = _listener.set(progress)
    try:
        yield
    finally:
        _listener.reset(token)


def tracked(items: Iterable[T], what: str) -> Iterator[T]:
    """The items of a computation that takes seconds each, and word to who listens.

    Example:
        >>> with reporting(lambda *step: print(*step)):
        ...     print(sum(tracked([3, 4], "adding")))
        adding 0 2
        adding 1 2
        7
    """
    every, progress = tuple(items), _listener.get()
    for done, item in enumerate(every):
        if progress is not None:
            progress(what, done, len(every))
        yield item


@dataclass(frozen=True)
class FigureData:
    """The numbers behind a figure.

    Attributes:
        caption: stored with the figure; its first sentence says what the figure shows, the others
            what is drawn, the parameters, the source.
        tables: name -> column -> ``[rows]``; the columns of a table are equally long.
        parameters: what the numbers depend on, seeds included.
        texts: that go with the figure, a row each: to what, by whom, the text.
    """

    caption: str
    tables: Mapping[str, Columns]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    texts: tuple[tuple[str, str, str], ...] = ()

    def __post_init__(self) -> None:
        """Refuse ragged tables and numbers that cannot be drawn."""
        for name, table in self.tables.items():
            shapes = {column.shape for column in table.values()}
            if len(shapes) != 1 or len(next(iter(shapes))) != 1:
                raise ValueError(f"columns of table {name!r} must be equally long, got {shapes}")
            for column, values in table.items():
                if values.dtype.kind == "f" and not np.all(np.isfinite(values)):
                    raise ValueError(f"column {column!r} of table {name!r} is not finite")

    def __getitem__(self, table: str) -> Columns:
        """The table of that name."""
        return self.tables[table]

    @property
    def metadata(self) -> dict[str, Any]:
        """Caption, parameters and the versions that computed the numbers."""
        return {
            "caption": self.caption,
            "parameters": dict(self.parameters),
            "texts": [list(row) for row in self.texts],
            "versions": {
                "python": platform.python_version(),
                "bon-theory": bon_theory.__version__,
                "jax": jax.__version__,
                "numpy": np.__version__,
                "matplotlib": metadata.version("matplotlib"),
            },
        }


@dataclass(frozen=True)
class FigureFiles:
    """What :func:`write` wrote.

    Attributes:
        name: of the figure.
        caption: as in its data.
        pdf: for a paper.
        png: for a screen.
        npz: the tables as arrays ``table/column``, and ``metadata`` as JSON text.
        json: the same, readable.
        texts: as in its data.
    """

    name: str
    caption: str
    pdf: Path
    png: Path
    npz: Path
    json: Path
    texts: tuple[tuple[str, str, str], ...] = ()


def write(
    name: str, figure: Figure, data: FigureData, output_dir: Path, *, png_dpi: int = 200
) -> FigureFiles:
    """Write PDF, PNG, NPZ and JSON, each atomically and without a date."""
    from figures.style import settings  # matplotlib with it, which planning does without

    output_dir.mkdir(parents=True, exist_ok=True)
    arrays = {f"{t}/{c}": v for t, columns in data.tables.items() for c, v in columns.items()}
    about = json.dumps(data.metadata, indent=1, ensure_ascii=False)
    buffers = {suffix: io.BytesIO() for suffix in ("pdf", "png", "npz", "json")}

    with settings():  # fonts are embedded and formulas set only now
        pdf_metadata = {"Title": name, "Subject": data.caption, "CreationDate": None}
        figure.savefig(buffers["pdf"], format="pdf", metadata=pdf_metadata)
        png_metadata = {"Title": name, "Description": data.caption}
        figure.savefig(buffers["png"], format="png", dpi=png_dpi, metadata=png_metadata)
    np.savez(buffers["npz"], allow_pickle=False, metadata=np.array(about), **arrays)
    buffers["json"].write(_readable(data).encode())

    paths = {suffix: output_dir / f"{name}.{suffix}" for suffix in buffers}
    for suffix, path in paths.items():
        write_atomically(path, buffers[suffix].getvalue())
    return FigureFiles(name, data.caption, **paths, texts=data.texts)


def command_line(main: Callable[[Path], FigureFiles]) -> None:
    """Run ``main`` on the directory given as ``--output``, ``figures-out`` unless told."""
    parser = argparse.ArgumentParser(description="Make one figure, and write the data behind it.")
    parser.add_argument("--output", type=Path, default=Path("figures-out"), metavar="DIR")
    print(main(parser.parse_args().output).png)


def results_command_line(main: Callable[[Path, Path], FigureFiles]) -> None:
    """Run ``main`` on such a directory and on the file in which an experiment saved its results."""
    parser = argparse.ArgumentParser(description="Draw what an experiment found.")
    parser.add_argument("results", type=Path, metavar="RESULTS")
    parser.add_argument("--output", type=Path, default=Path("figures-out"), metavar="DIR")
    arguments = parser.parse_args()
    print(main(arguments.output, arguments.results).png)


def _readable(data: FigureData) -> str:
    """JSON with one column a line."""
    tables = ",\n".join(
        f"  {json.dumps(name)}: {{\n"
        + ",\n".join(f"   {json.dumps(c)}: {json.dumps(v.tolist())}" for c, v in columns.items())
        + "\n  }"
        for name, columns in data.tables.items()
    )
    head = json.dumps(data.metadata, indent=1, ensure_ascii=False).removesuffix("\n}")
    return f'{head},\n "tables": {{\n{tables}\n }}\n}}\n'
