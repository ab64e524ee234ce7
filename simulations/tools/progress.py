"""A progress bar for long simulations: share done, throughput, time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import pick_unit_and_suffix
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Throughput(ProgressColumn):
    """Units per second, with a prefix."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed or 0.0
        unit, prefix = pick_unit_and_suffix(int(speed), ["", " k", " M", " G", " T"], 1000)
        return Text(f"{speed / unit:.3g}{prefix or ' '} {task.fields['unit']}/s")


@contextmanager
def progress_bar(
    title: str, *, unit: str = "trials", per_trial: int = 1, console: Console | None = None
) -> Iterator[Callable[[int, int], None]]:
    """Show a bar; yields the ``progress`` argument of :func:`simulations.engine.simulate.simulate`.

    Args:
        title: what is running.
        unit: what the throughput counts.
        per_trial: how many of them a trial has, e.g. n candidate draws.
        console: where to; the terminal's error stream by default, so that output stays clean.

    Example:
        >>> import io
        >>> console = Console(file=io.StringIO())
        >>> with progress_bar("coin", console=console) as progress:
        ...     progress(50, 100)
        ...     progress(100, 100)
        >>> "coin" in console.file.getvalue()
        True
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        _Throughput(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console or Console(stderr=True)) as bars:
        task = bars.add_task(title, total=None, unit=unit)
        yield lambda done, total: bars.update(
            task, completed=done * per_trial, total=total * per_trial
        )
