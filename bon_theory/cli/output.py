"""One result three ways: a table for people, JSON and CSV for programs; figures for papers."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bon_theory.cli.text import cell, visible

__all__ = ["Result", "emit", "plot", "save", "say", "working"]

Format = Literal["table", "json", "csv"]


@dataclasses.dataclass(frozen=True)
class Result:
    """What a command found.

    Attributes:
        command: its name.
        columns: of the rows.
        rows: numbers, text, or None where there is nothing.
        notes: what was assumed, for people.
        sentence: the answer in words, if there is one.
        details: of the columns, those that programs get and tables leave out.
    """

    command: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    notes: Sequence[str] = ()
    sentence: str = ""
    details: Sequence[str] = ()


def say(message: str) -> None:
    """A line for people, on standard error."""
    sys.stderr.write(f"{message}\n")


def working(what: str) -> AbstractContextManager[Any]:
    """A sign of life on a terminal's standard error, and nothing elsewhere."""
    return Console(stderr=True).status(what)


def emit(result: Result, form: Format, output: Path | None) -> None:
    """Write a result where it was asked for, whole or not at all."""
    if form == "table":
        for note in result.notes:
            say(note)
    text = {"table": _table, "json": _json, "csv": _csv}[form](result, output is None)
    if output is None:
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        save(output, text.encode())


def save(path: Path, data: bytes) -> None:
    """Write a file whole: under another name first; a pipe or a device as it is; - is stdout."""
    if path == Path("-"):
        sys.stdout.buffer.write(data)
        sys.stdout.flush()
        return
    path = path.resolve()  # of a link, what it points to
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _table(result: Result, on_screen: bool) -> str:
    table = Table(box=None, header_style="bold", pad_edge=False)
    shown = [i for i, name in enumerate(result.columns) if name not in result.details]
    for index in shown:
        name = result.columns[index]
        numeric = all(not isinstance(row[index], str) for row in result.rows)
        table.add_column(Text(visible(name)), justify="right" if numeric else "left")
    for row in result.rows:
        table.add_row(*(Text(_short(row[index])) for index in shown))
    target = io.StringIO()
    # Never narrower than its numbers: a terminal may wrap a line, but none is cut.
    is_terminal = on_screen and sys.stdout.isatty()
    console = Console(file=target, force_terminal=is_terminal, width=10_000, highlight=False)
    console.print(table)
    if result.sentence:
        console.print(Text(visible(result.sentence)), soft_wrap=True)
    return target.getvalue()


def _short(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.5g}"
    return visible(value) if isinstance(value, str) else str(value)


def _json(result: Result, on_screen: bool) -> str:
    rows = [dict(zip(result.columns, map(_plain, row), strict=True)) for row in result.rows]
    document = {"command": result.command, "notes": list(result.notes), "rows": rows}
    if result.sentence:
        document["sentence"] = result.sentence
    return json.dumps(document, indent=1, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    return value


def _csv(result: Result, on_screen: bool) -> str:
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(map(cell, result.columns))
    writer.writerows([cell(value) for value in row] for row in result.rows)
    return target.getvalue()


def plot(
    path: Path,
    lines: Sequence[tuple[str, Sequence[float], Sequence[float], Sequence[float], Sequence[float]]],
    labels: tuple[str, str],
) -> None:
    """Curves with bands, (name, x, y, low, high) each, as PNG, SVG or PDF by the path's suffix.

    Raises:
        ValueError: another suffix.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ValueError(f"a plot is .png, .svg or .pdf, got {visible(path.name)}")
    import matplotlib as mpl  # half a second, which only figures are to cost

    mpl.use("Agg")
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "bon-theory", "svg.fonttype": "none"}):
        figure = Figure(figsize=(5.0, 3.4), layout="constrained")
        axes = figure.add_subplot()
        for name, x, y, low, high in lines:
            (line,) = axes.plot(x, y, label=name, linewidth=1.6)
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        axes.spines[["top", "right"]].set_visible(False)
        if len(lines) > 1:
            axes.legend(frameon=False)
        target = io.BytesIO()
        form = path.suffix[1:].lower()
        metadata = {"Date": None} if form == "svg" else None
        figure.savefig(target, format=form, dpi=200, metadata=metadata)
    save(path, target.getvalue())
