"""What is wrong with a file, or stops a command, is one line and no partial output."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from bon_theory import cli
from bon_theory.cli import options, scores
from tests.bon_theory.cli.examples import ROOT, SCORES, TABLE, header, rows_of, run, write_zstandard

BAD: dict[str, tuple[bytes, tuple[str, ...], str]] = {
    "empty": (b"", (), "is empty"),
    "only a header": (header(""), (), "has no rows"),
    "no such column": (header("a,1\n"), ("--score", "reward"), "no column 'reward', only prompt"),
    "no score": (b"prompt,x,y\na,1,2\n", (), "needs --score, one of the columns prompt, x, y"),
    "no prompt": (b"score,x\n1,2\n", (), "needs --prompt, one of the columns score, x"),
    "text": (header("a,1\nb,good\n"), (), "without a score, the first row 2 (prompt b, score good"),
    "NaN": (header("a,nan\nb,1\n"), (), "1 rows without a score, the first row 1 (prompt a"),
    "infinite": (header("a,1e999\n"), (), "1 rows without a score"),
    "missing": (header("a,1\na,\n"), (), "leave them out by --drop-missing"),
    "nothing left": (header("a,nan\n"), ("--drop-missing",), "no prompt with 1 answers"),
    "too many candidates": (header("a,1\na,2\nb,1\n"), ("--n", "2"), "--n must be at most 1"),
    "no number": (header("a,1\n"), ("--n", "x"), "--n must be as 1,4,16"),
    "cold": (header("a,1\n"), ("--temperature", "-1"), "temperature must be positive"),
    "truncated JSON lines": (b'{"prompt": 1, "score": 1}\n{"prompt": 1, "sc', (), "cannot be read"),
    "truncated JSON": (b'[{"prompt": 1', (), "is not JSON"),
    "truncated Parquet": (b"PAR1abc", (), "cannot be read"),
    "truncated archive": (b"PK\x03\x04abc", (), "is cut short or damaged"),
    "binary": (b"\x7fELF\0\0", (), "is none of CSV"),
    "a list of numbers": (b"[1, 2]", (), "holds no list of objects"),
    "twice": (b"prompt,candidate,score\na,1,1\na,1,2\n", (), "2 rows that share prompt"),
    "ragged": (b"prompt,score\na,1,2,3\n", (), "cannot be read"),
    "another filter": (header("a,1\n"), ("--where", "x=1"), "has no column for --where"),
    "a list without scores": (
        b'{"prompt": "a", "scores": [1, 2]}\n{"prompt": "b", "scores": []}\n',
        (),
        "1 rows without a score, the first row 3 (prompt b",
    ),
    "NaN as Python writes it": (
        b'{"prompt": 1, "score": 2}\n{"prompt": 1, "score": NaN}\n',
        (),
        "1 rows without a score, the first row 2 (prompt 1, score NaN)",
    ),
    "billions of n": (header("a,1\na,2\n"), ("--n", "1:9000000000000"), "--n must be at most 2"),
    "no folder for a figure": (
        header("a,1\nb,2\n"), ("--plot", "none/x.png"), "no folder none to write to",
    ),
    "a prompt of two clusters": (
        b"prompt,score,topic\na,1,x\nb,2,x\nb,3,y\n", ("--cluster", "topic"),
        "has prompts in more than one topic, the first prompt b",
    ),
    "nothing is where": (header("a,1\n"), ("--where", "prompt=b"), "has no rows where prompt=b"),
    "a level": (header("a,1\nb,2\n"), ("--level", "2"), "level must lie between 0 and 1"),
    "a strange figure": (header("a,1\n"), ("--plot", "x.exe"), "a plot is .png, .svg or .pdf"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_one_line_and_nothing_else(what: str, tmp_path: Path) -> None:
    data, options, message = BAD[what]
    path, output = tmp_path / "scores.parquet", tmp_path / "out.csv"  # the name says nothing
    path.write_bytes(data)
    result = run("curve", path, *options, "--format", "csv", "-o", output)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert message in result.stderr
    assert len(result.stderr) < 500
    assert [p.name for p in tmp_path.iterdir()] == ["scores.parquet"]


def test_a_file_that_is_not_there_or_grows_is_refused(file: Path, monkeypatch: Any) -> None:
    missing = run("curve", file.with_name("none.csv"))
    assert missing.exit_code == 2
    assert "none.csv is not a file" in missing.stderr
    sizes = iter([(1, 1), (2, 1)])
    monkeypatch.setattr(scores, "_state", lambda source: next(sizes))
    result = run("curve", file)
    assert result.exit_code == 2
    assert "changed while it was read" in result.stderr


def test_a_sample_that_an_error_stopped_has_no_score(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    samples: list[dict[str, Any]] = [
        {"id": 1, "epoch": e, "scores": {"match": {"value": "C"}}} for e in (1, 2)
    ]
    samples += [{"id": 1, "epoch": 3, "scores": None, "error": {"message": "stopped"}}]
    path.write_text(json.dumps({"samples": samples}))
    assert "1 rows without a score, the first row 3 (prompt 1" in run("curve", path).stderr
    assert rows_of("curve", path, "--drop-missing", "--n", "2")[0]["score"] == 1
    path.write_text(json.dumps({"samples": samples[2:]}))
    assert "with samples that have no scores" in run("curve", path).stderr


def test_a_damaged_member_of_an_archive_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "scores.eval"
    write_zstandard(path)
    data = bytearray(path.read_bytes())
    place = data.index(b"samples/0_epoch_1.json") + 40
    data[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    result = run("curve", path)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "is cut short or damaged" in result.stderr


def test_rows_without_a_score_are_left_out_when_told_so(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes(header("a,1\na,nan\nb,2\nb,4\nc,oops\n"))
    result = run("curve", path, "--drop-missing", "--at-least", "2", "--format", "json")
    document = json.loads(result.stdout)
    assert [row["score"] for row in document["rows"]] == [3.0, 4.0]
    assert "left out 2 rows without a score" in document["notes"]
    assert "left out 1 prompts with fewer than 2 answers" in document["notes"]
    short = run("curve", path, "--drop-missing")
    assert "every prompt has 1 answers, some 2: --at-least" in short.stderr


def test_a_blank_line_is_no_answer() -> None:
    table = header("a,1\n\na,2\nb,4\n,\nb,5\n\n")
    (first, *_) = rows_of("curve", "-", "--n", "1", stdin=table)
    assert first["score"] == 3.0
    half = run("curve", "-", stdin=header("a,1\n,2\n"))
    assert "1 rows without a score, the first row 2" in half.stderr


@pytest.mark.parametrize("scale", [1j, "date"])
def test_what_numpy_would_convert_is_no_score(scale: Any, tmp_path: Path) -> None:
    path = tmp_path / "scores.npy"
    np.save(path, SCORES.astype("M8[s]") if scale == "date" else SCORES * scale)
    result = run("curve", path)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "are no numbers" in result.stderr
    TABLE.with_columns(pl.col("candidate").cast(pl.Date).alias("score")).write_parquet(path)
    result = run("curve", path)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "12 rows without a score" in result.stderr
    TABLE.with_columns(score=pl.struct("candidate")).write_parquet(path)
    assert "12 rows without a score, the first row 1 (prompt a" in run("curve", path).stderr


def test_categories_are_read_as_their_text(file: Path, tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    as_text = pl.col("prompt", "score").cast(pl.String).cast(pl.Categorical)
    TABLE.with_columns(as_text).write_parquet(path)
    assert rows_of("curve", path) == rows_of("curve", file)


def test_lists_with_the_constants_of_python_are_read() -> None:
    lines = b'{"scores": [1.0, NaN, 3]}\n{"scores": [-Infinity, 2, 4]}\n'
    assert run("curve", "-", stdin=lines).exit_code == 2
    found = rows_of("curve", "-", "--drop-missing", "--n", "1,2", stdin=lines)
    assert [row["score"] for row in found] == [2.5, 3.5]


def test_a_comparison_needs_no_columns_that_it_makes_nothing_of(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    TABLE.with_columns(true_score=pl.lit("unknown"), log_prob=pl.lit(3)).write_csv(path)
    result = run("compare", path, path, "--n", "1")
    assert result.exit_code == 0
    assert "true" not in result.stderr
    assert "true_score unknown" in run("compare", path, path, "--true", "true_score").stderr


def test_a_pipe_and_a_link_stay_what_they_are(file: Path, tmp_path: Path) -> None:
    pipe, link, page = (tmp_path / name for name in ("pipe", "link.csv", "page.csv"))
    os.mkfifo(pipe)
    page.write_text("old")
    link.symlink_to(page)
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE) as reader:
        assert run("curve", file, "--format", "csv", "-o", pipe).exit_code == 0
        written, _ = reader.communicate(timeout=60)
    assert run("curve", file, "--format", "csv", "-o", link).exit_code == 0
    assert written == page.read_bytes()
    assert written.startswith(b"n,temperature,score")
    assert run("curve", file, "--format", "csv", "-o", "-").stdout.encode() == written
    assert not Path("-").exists()
    assert pipe.is_fifo()
    assert link.is_symlink()
    folder = run("curve", file, "-o", tmp_path)
    assert (folder.exit_code, folder.stderr.splitlines()[-1].count(str(tmp_path))) == (2, 1)
    nowhere = run("report", file, "-o", tmp_path / "none" / "x.html")
    assert nowhere.exit_code == 2
    assert nowhere.stderr == f"error: there is no folder {tmp_path / 'none'} to write to\n"


def test_an_interrupt_is_no_traceback(file: Path, monkeypatch: Any) -> None:
    def interrupted(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(options, "read_scores", interrupted)
    result = run("curve", file)
    assert (result.exit_code, result.stderr) == (130, "interrupted\n")
    assert run("nonsense").exit_code == 2
    assert run("curve", "--help").exit_code == 0


@pytest.mark.parametrize("seconds", [0.2, 0.6])
def test_an_interrupt_during_imports_is_silent(seconds: float, file: Path) -> None:
    """A real process, with the entry point of the installed command."""
    code = "import bon_theory_command; print(flush=True); bon_theory_command.main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "curve", str(file)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.readline()  # it is there
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    printed, said = process.communicate(timeout=60)
    assert (printed, said) == (b"", b"") or said == b"interrupted\n"
    assert process.returncode in (-signal.SIGINT, 130)


def test_without_its_extra_one_line_says_so(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "typer", None)
    monkeypatch.delitem(sys.modules, "bon_theory.cli.main")
    with pytest.raises(SystemExit) as stopped:
        cli.run()
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: no module typer: pip install 'bon-theory[cli]'\n"


def test_a_pipe_that_closes_early_is_no_error(file: Path) -> None:
    """A real process, whose reader goes away at once."""
    command = [sys.executable, "-m", "bon_theory.cli", "curve", str(file), "--format", "csv"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT)
    assert process.stdout
    process.stdout.close()
    assert process.wait(60) == 0
    assert process.stderr
    assert process.stderr.read() == b""
    process.stderr.close()
