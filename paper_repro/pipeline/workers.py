"""Processes that run stages, one at a time each, and say how far they are."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType

import jax

from paper_repro.pipeline.stages import Product, Stage

_PATIENCE = 5.0  # seconds that a process has to end by itself
_MEMORY = 2 * 2**30  # bytes that one may need: the language model takes 1.1 GB, others less
_ALLOCATIONS = 50_000  # of objects, between two looks for cycles among the youngest
# JAX must not be forked: its threads would be missing in the child, their locks would not.
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Step:
    """A stage has come further."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Failure:
    """A stage has failed: what was raised, and where."""

    trace: str


News = Step | Product | Failure


class Crew:
    """Up to ``size`` processes; use as a context manager, which ends them whatever happens.

    A process is kept from stage to stage, with its compiled programs, as long as what comes next
    wants the same settings.

    Args:
        size: processes at a time.
        output: where the stages write.
    """

    def __init__(self, size: int, output: Path) -> None:
        self._size, self.output = size, output
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, _Worker] = {}

    def __enter__(self) -> Crew:
        """Nothing is started before there is a stage to run."""
        return self

    def __exit__(self, *exception: object) -> None:
        """End all processes; what they had not finished is lost."""
        for worker in (*self._idle, *self._busy.values()):
            worker.process.terminate()
        for worker in (*self._idle, *self._busy.values()):
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():  # compiling, where no signal is heard
                worker.process.kill()
                worker.process.join()

    @property
    def has_room(self) -> bool:
        """Whether another stage can be started."""
        return len(self._busy) < self._size

    def has_idle(self, settings: Mapping[str, str]) -> bool:
        """Whether a process of these settings has nothing to do; to start one takes seconds."""
        return any(worker.settings == settings for worker in self._idle)

    def start(self, stage: Stage) -> None:
        """Have a process run the stage."""
        worker = next((w for w in self._idle if w.settings == stage.settings), None)
        if worker is None:
            for other in self._idle:  # of other settings: it would only hold memory
                other.connection.send(None)
            self._idle = []
            worker = _Worker(stage.settings, self.output)
        else:
            self._idle.remove(worker)
        worker.stage = stage
        worker.connection.send(stage)
        self._busy[worker.connection] = worker

    def news(self) -> Iterator[tuple[Stage, News]]:
        """Wait until a stage has something to say."""
        for connection in wait(self._busy):
            worker = self._busy[connection]  # pyright: ignore[reportArgumentType]
            assert worker.stage is not None
            stage = worker.stage
            try:
                found: News = worker.connection.recv()
            except (EOFError, OSError):
                worker.process.join()
                found = Failure(f"its process ended with exit code {worker.process.exitcode}")
                del self._busy[worker.connection]
            else:
                if not isinstance(found, Step):
                    self._idle.append(self._busy.pop(worker.connection))
            yield stage, found


def cores() -> int:
    """Processes that this machine has cores and memory for."""
    available = getattr(os, "sched_getaffinity", None)
    count = len(available(0)) if available else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(count, memory // _MEMORY))


class _Worker:
    """A process, and what it is at."""

    def __init__(self, settings: Mapping[str, str], output: Path) -> None:
        self.settings = settings
        self.stage: Stage | None = None
        self.connection, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_work, args=(theirs, output), daemon=True)
        with _interrupts_blocked(), _environment(settings):
            self.process.start()
        theirs.close()


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """A process started here never hears Ctrl-C, which goes to the whole group of the terminal.

    It is the parent that stops its processes. An interrupt meanwhile reaches the parent afterwards.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """A process started here finds these variables, but for those that the caller has set."""
    added = {name: value for name, value in settings.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _work(connection: Connection, output: Path) -> None:
    """Run the stages that come, until none does, or the parent is gone."""
    signal.signal(signal.SIGTERM, _leave)
    # Tracing makes objects by the million and hardly a cycle. Looking for cycles that often, among
    # all that the modules hold, takes a twentieth of the time.
    gc.freeze()
    gc.set_threshold(_ALLOCATIONS)
    with suppress(EOFError, BrokenPipeError), jax.enable_x64(True):
        while (stage := connection.recv()) is not None:
            connection.send(_outcome(stage, output, connection))


def _outcome(stage: Stage, output: Path, connection: Connection) -> Product | Failure:
    def progress(what: str, done: int, total: int) -> None:
        connection.send(Step(what, done, total))

    try:
        with _compiling(stage.hasty):
            return stage.run(output, progress)
    except BrokenPipeError:
        raise
    except Exception:  # one stage that fails must not lose the others
        return Failure(traceback.format_exc())


@contextmanager
def _compiling(hasty: bool) -> Iterator[None]:
    """Programs met here for the first time are compiled without optimizations, if ``hasty``."""
    name = "jax_disable_most_optimizations"
    asked = jax.config.read(name)  # by whoever runs the job
    jax.config.update(name, hasty or asked)
    try:
        yield
    finally:
        jax.config.update(name, asked)


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)  # by an exception, so that no temporary file stays
