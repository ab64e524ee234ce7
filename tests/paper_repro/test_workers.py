"""Stages in processes of their own: what comes back, and that none outlives its run."""

import io
import multiprocessing
import os
import time
from functools import partial
from pathlib import Path

import jax.numpy as jnp
import pytest
from rich.console import Console

from paper_repro.pipeline import runner
from paper_repro.pipeline.payloads import FigureResult
from paper_repro.pipeline.stages import Product, Progress, Stage
from paper_repro.pipeline.workers import Crew, cores
from simulations.tools.progress import Display


def work(name: str, output: Path, progress: Progress) -> Product:
    progress("working", 1, 2)
    if name == "fails":
        raise ValueError("no such law")
    if name == "dies":
        os._exit(3)
    if name == "waits":
        (output / "waiting").touch()
        time.sleep(600)
    file = output / name
    file.write_text(f"{jnp.zeros(()).dtype} {os.environ.get('STAGE_SETTING')} {os.getpid()}")
    return Product(FigureResult(name, "", ""), (file,))


def stage(name: str, **options: object) -> Stage:
    run, module = partial(work, name), "paper_repro.papers.claim"
    return Stage(name, name, module, run, FigureResult, **options)  # pyright: ignore


class Interrupting(Display):
    """Ctrl-C once a stage waits."""

    def __init__(self, console: Console, output: Path) -> None:
        super().__init__(console)
        self.output = output

    def step(self, title: str, what: str, done: int, total: int) -> None:
        if title == "waits":
            while not (self.output / "waiting").exists():
                time.sleep(0.01)
            raise KeyboardInterrupt


def test_stages_run_in_double_precision_with_their_settings_and_share_a_process(tmp_path: Path):
    planned = [
        stage("one", weight=3.0),
        stage("two", weight=1.0),  # lighter than the other, but its process is there
        stage("other", weight=2.0, settings={"STAGE_SETTING": "on"}),
    ]
    with Display(Console(file=io.StringIO())) as display:
        found = runner.run(planned, Crew(1, tmp_path), display)
    assert list(found.records) == ["one", "two", "other"]
    one, two, other = ((tmp_path / s.name).read_text().split() for s in planned)
    assert one == two
    assert one[:2] == ["float64", "None"]
    assert other[:2] == ["float64", "on"]
    assert "STAGE_SETTING" not in os.environ
    assert multiprocessing.active_children() == []


def test_what_fails_or_dies_says_so_and_loses_no_other(tmp_path: Path):
    planned = [stage("fails", weight=3.0), stage("dies", weight=2.0), stage("fine", weight=1.0)]
    with Display(Console(file=io.StringIO())) as display:
        found = runner.run(planned, Crew(1, tmp_path), display)
    assert set(found.records) == {"fine"}
    assert "ValueError: no such law" in found.failures["fails"]
    assert "exit code 3" in found.failures["dies"]


def test_an_interrupt_ends_every_process_and_keeps_what_is_done(tmp_path: Path):
    planned = [stage("fine", weight=3.0), stage("waits", weight=2.0)]
    with (
        pytest.raises(KeyboardInterrupt),
        Interrupting(Console(file=io.StringIO()), tmp_path) as display,
    ):
        runner.run(planned, Crew(1, tmp_path), display)
    assert multiprocessing.active_children() == []
    assert [path.name for path in (tmp_path / "stages").iterdir()] == ["fine.json"]


def test_there_is_room_for_one_process_at_least():
    assert 1 <= cores() <= (os.cpu_count() or 1)
