"""Progress: live bars on a terminal, one line at a time anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

_LINE_EVERY = 15.0  # seconds between two lines of one stage when there are no bars


class Display:
    """Shows stages as they run; use as a context manager.

    Args:
        console: where to; bars appear if it is a terminal.
    """

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars = _bars(console) if console.is_terminal else None

    def __enter__(self) -> Display:
        """Start the live part."""
        if self._bars is not None:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop it, also after an interrupt, so that the terminal is left in order."""
        if self._bars is not None:
            self._bars.stop()

    def cached(self, title: str, seconds: float) -> None:
        """Show a stage whose result is on disk."""
        if self._bars is None:
            self._line(f"{title}: cached (took {seconds:.1f} s)")
            return
        task = self._bars.add_task(title, total=1, completed=1, what="[cyan]cached")
        self._bars.stop_task(task)

    @contextmanager
    def running(self, title: str) -> Iterator[Callable[[str, int, int], None]]:
        """Show a stage while it runs; yields the function to report progress by."""
        start = time.monotonic()
        if self._bars is None:
            self._line(f"{title}: running")
            yield self._liner(title, start)
            self._line(f"{title}: done in {time.monotonic() - start:.1f} s")
            return
        task = self._bars.add_task(title, total=None, what="")
        yield self._mover(self._bars, task)
        self._bars.update(task, total=1, completed=1, what="[green]done")
        self._bars.stop_task(task)

    def _mover(self, bars: Progress, task: TaskID) -> Callable[[str, int, int], None]:
        def progress(what: str, done: int, total: int) -> None:
            bars.update(task, completed=done, total=total or None, what=what)

        return progress

    def _liner(self, title: str, start: float) -> Callable[[str, int, int], None]:
        last = start

        def progress(what: str, done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= _LINE_EVERY:
                last = time.monotonic()
                self._line(f"{title}: {what}" + (f" {done}/{total}" if total else ""))

        return progress

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def _bars(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[what]}", table_column=None),
        console=console,
    )
