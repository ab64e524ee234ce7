"""Files whole or not at all, progress on a terminal and elsewhere."""

import io
import os
from pathlib import Path
from typing import IO

import pytest
from rich.console import Console

from simulations.tools import progress as tools
from simulations.tools.files import write_atomically
from simulations.tools.progress import Display


@pytest.mark.parametrize("content", ["λ", "λ".encode(), lambda file: file.write("λ".encode())])
def test_a_file_is_written_with_its_folders(tmp_path: Path, content: str):
    write_atomically(tmp_path / "a" / "b.txt", content)
    assert (tmp_path / "a" / "b.txt").read_text(encoding="utf-8") == "λ"
    assert os.listdir(tmp_path / "a") == ["b.txt"]


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path: Path):
    path = tmp_path / "record.json"
    write_atomically(path, "old")

    def interrupted(file: IO[bytes]) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, interrupted)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["record.json"]


def test_a_full_disk_is_reported_with_the_file(tmp_path: Path):
    def full(file: IO[bytes]) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"cannot write .*x.npz: No space left.*Make room"):
        write_atomically(tmp_path / "x.npz", full)


def test_elsewhere_than_on_a_terminal_progress_is_lines(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tools, "_LINE_EVERY", 0.0)
    text = io.StringIO()
    with Display(Console(file=text)) as display:
        display.overall(lambda running: (1 + running.get("coin", 0.0)) / 2)
        display.started("coin")
        display.step("coin", "tossing", 1_000, 4_000)
        display.ended("coin")
    lines = text.getvalue().splitlines()
    assert lines[:2] == ["coin: running", "coin: tossing 1,000/4,000"]
    assert lines[2].startswith("coin: done in 0.0 s (50% of all")


def test_on_a_terminal_bars_leave_a_line_for_what_is_done():
    text = io.StringIO()
    with Display(Console(file=text, force_terminal=True)) as display:
        display.overall(lambda running: 0.5)
        with display.running("coin", unit="tosses") as step:
            step("", 1_000, 4_000)
    assert "coin: done in" in text.getvalue()


def test_what_is_stopped_is_not_done():
    text = io.StringIO()
    with (
        pytest.raises(ZeroDivisionError),
        Display(Console(file=text)) as display,
        display.running("coin"),
    ):
        raise ZeroDivisionError
    assert "coin: stopped" in text.getvalue()


def test_the_time_left_is_that_of_the_rest_at_the_speed_so_far(monkeypatch: pytest.MonkeyPatch):
    task = tools.Task("coin")
    monkeypatch.setattr(task, "start", task.start - 30.0)
    assert tools.left(0.25, task) == "about 1:30 left"
    assert tools.left(0.0, task) == tools.left(1.0, task) == ""
