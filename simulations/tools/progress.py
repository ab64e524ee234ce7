"""Progress of long work: live bars on a terminal, a line at a time anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.filesize import pick_unit_and_suffix
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn

_LINE_EVERY = 15.0  # seconds between two lines of one task when there are no bars

Step = Callable[[str, int, int], None]
"""Called as ``step(what, done, total)``; a total of 0 is unknown."""


class Task:
    """One thing that runs: how far it is, how fast, and how long it will still take."""

    def __init__(self, title: str, unit: str = "") -> None:
        self.title, self.unit = title, unit
        self.start = self.shown = time.monotonic()
        self.what, self.done, self.total = "", 0, 0

    @property
    def seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self.start

    @property
    def share(self) -> float:
        """Of it that is done, from 0 to 1."""
        return self.done / self.total if self.total else 0.0

    @property
    def state(self) -> str:
        """What is done, the throughput if it has a unit, and the time left once that is known."""
        count = f"{self.what} {self.done:,}/{self.total:,}" if self.total else self.what
        speed = f"{_short(self.done / self.seconds)}{self.unit}/s" if self.unit else ""
        return ", ".join(part for part in (count.strip(), speed, left(self.share, self)) if part)


class Display:
    """Shows tasks that run side by side; use as a context manager.

    Args:
        console: where to; bars appear if it is a terminal. By default the error stream, so that
            output stays clean.

    Example:
        >>> import io
        >>> console = Console(file=io.StringIO())
        >>> with Display(console) as display, display.running("coin") as step:
        ...     step("tossing", 50, 100)
        >>> print(console.file.getvalue())
        coin: running
        coin: done in 0.0 s
        <BLANKLINE>
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(stderr=True)
        self._bars = _bars(self.console) if self.console.is_terminal else None
        self._rows: dict[str, TaskID] = {}
        self._tasks: dict[str, Task] = {}
        self._whole: Callable[[dict[str, float]], float] | None = None
        self._began = Task("all")

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
            for row in self._rows.values():
                self._bars.remove_task(row)
            self._bars.stop()

    def overall(self, share: Callable[[dict[str, float]], float]) -> None:
        """Show how far all of it is: ``share`` of the shares done of what runs, by title."""
        self._whole = share
        if self._bars is not None:
            self._rows[""] = self._bars.add_task("All", total=1.0, state="")

    def started(self, title: str, *, unit: str = "") -> None:
        """A task runs; ``unit`` names what its throughput counts."""
        self._tasks[title] = Task(title, unit)
        if self._bars is None:
            self.line(f"{title}: running")
        else:
            self._rows[title] = self._bars.add_task(title, total=None, state="")

    def step(self, title: str, what: str, done: int, total: int) -> None:
        """A task has come further."""
        task = self._tasks[title]
        task.what, task.done, task.total = what, done, total
        if self._bars is not None:
            share = task.share if total else None
            row = self._rows[title]
            self._bars.update(row, total=1.0 if total else None, completed=share or 0.0)
            self._bars.update(row, state=task.state)
            self._show_whole()
        elif time.monotonic() - task.shown >= _LINE_EVERY:
            task.shown = time.monotonic()
            self.line(f"{title}: {task.state}")

    def ended(self, title: str, outcome: str = "done") -> None:
        """A task has ended, well unless ``outcome`` says otherwise."""
        task = self._tasks.pop(title)
        if self._bars is not None:
            self._bars.remove_task(self._rows.pop(title))
            self._show_whole()
        whole = "" if self._bars is not None or self._whole is None else f" ({self._progress()})"
        self.line(f"{title}: {outcome} in {task.seconds:.1f} s{whole}")

    @contextmanager
    def running(self, title: str, *, unit: str = "") -> Iterator[Step]:
        """A task that runs here: yields the function to report progress by."""
        self.started(title, unit=unit)
        try:
            yield lambda what, done, total: self.step(title, what, done, total)
        except BaseException:
            self.ended(title, "stopped")
            raise
        self.ended(title)

    def line(self, text: str) -> None:
        """A line that stays; above the bars if there are any."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _show_whole(self) -> None:
        if self._bars is not None and self._whole is not None:
            row, share = self._rows[""], self._share()
            self._bars.update(row, completed=share, state=left(share, self._began))

    def _share(self) -> float:
        shares = {title: task.share for title, task in self._tasks.items()}
        return self._whole(shares) if self._whole else 0.0

    def _progress(self) -> str:
        share = self._share()
        return ", ".join(p for p in (f"{share:.0%} of all", left(share, self._began)) if p)


def left(share: float, task: Task) -> str:
    """The time that the rest takes at the speed so far; nothing where that says nothing yet."""
    if not 0.02 < share < 1 or task.seconds < 1:
        return ""
    minutes, seconds = divmod(round(task.seconds * (1 - share) / share), 60)
    return f"about {minutes}:{seconds:02} left"


@contextmanager
def progress_bar(
    title: str, *, unit: str = "trials", per_trial: int = 1, console: Console | None = None
) -> Iterator[Callable[[int, int], None]]:
    """One task; yields the ``progress`` argument of :func:`simulations.engine.simulate.simulate`.

    Args:
        title: what is running.
        unit: what the throughput counts.
        per_trial: how many of them a trial has, e.g. n candidate draws.
        console: where to; the error stream by default.

    Example:
        >>> import io
        >>> console = Console(file=io.StringIO())
        >>> with progress_bar("coin", console=console) as progress:
        ...     progress(50, 100)
        ...     progress(100, 100)
        >>> "coin" in console.file.getvalue()
        True
    """
    with Display(console) as display, display.running(title, unit=unit) as step:
        yield lambda done, total: step("", done * per_trial, total * per_trial)


def _bars(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TextColumn("[dim]{task.fields[state]}"),
        console=console,
    )


def _short(number: float) -> str:
    """Three digits and a prefix, as in 1.25 M."""
    unit, prefix = pick_unit_and_suffix(int(number), ["", " k", " M", " G", " T"], 1000)
    return f"{number / unit:.3g}{prefix or ' '}"
