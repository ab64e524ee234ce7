"""Whatever a file holds is text: no escape, no markup, no formula, no second line."""

import csv
import io
import json
import math
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bon_theory.cli.text import visible
from tests.bon_theory.cli.examples import run

# Controls but the end of a line, marks of direction, and what has no character.
MOVES = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
ATTACKS = [
    "\x1b]0;title\x07\x1b[31mred",
    "[bold red]markup[/] [link=x]y[/link]",
    "=HYPERLINK(1)",
    "\u202egnirts\u2066",
    "a\r\nerror: forged",
    "\x9b2J",
]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("form", ["table", "json", "csv"])
def test_text_from_a_file_is_shown_as_text(attack: str, form: str, tmp_path: Path) -> None:
    path = tmp_path / "scores.parquet"
    pl.DataFrame({attack: ["x", "y"], "prompt": [attack, "b"]}).write_parquet(path)
    result = run("curve", path, "--score", attack, "--format", form)
    assert result.exit_code == 2
    printed = result.stdout + result.stderr
    assert printed.count("\n") == 1
    assert not MOVES.search(printed)
    good = tmp_path / "good.parquet"
    pl.DataFrame({attack: [1.0, 2.0], "prompt": [attack, "b"]}).write_parquet(good)
    result = run("curve", good, "--score", attack, "--format", form)
    assert result.exit_code == 0
    assert not MOVES.search(result.stdout + result.stderr)


@given(text=st.text(max_size=40))
@example(text="\ud800")
def test_what_is_visible_stays_and_moves_nothing(text: str) -> None:
    shown = visible(text)
    assert not MOVES.search(shown)
    assert "\n" not in shown
    assert visible(shown) == shown
    assert visible("déjà 数 🙂 \\ [x]") == "déjà 数 🙂 \\ [x]"


BEGINNINGS = [
    b"",
    b"prompt,score\n",
    b"PAR1",
    b"[",
    b"{",
    b"\x93NUMPY",
    b'{"prompt": 1, "score": 2}\n',
]


@given(data=st.binary(max_size=60), head=st.sampled_from(BEGINNINGS))
def test_no_bytes_bring_more_than_one_line(data: bytes, head: bytes) -> None:
    result = run("curve", "-", stdin=head + data)
    assert result.exit_code in (0, 2), (head + data, result.exception)
    if result.exit_code == 2:
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1


CELLS = st.sampled_from(["1", "0.5", "-3e2", "", "nan", "true", "x", '"', "1;2", " 7 ", "∞"])


@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=6), drop=st.booleans())
def test_no_table_is_misread(rows: list[tuple[str, str]], drop: bool) -> None:
    """What is accepted are exactly the cells that Python takes for finite numbers."""
    target = io.StringIO()
    csv.writer(target).writerows([("prompt", "score"), *rows])
    options = ["--drop-missing"] if drop else []
    result = run(
        "curve", "-", "--n", "1", "--format", "json", *options, stdin=target.getvalue().encode()
    )
    values = [(p, _number(s)) for p, s in rows]
    good = [(p, v) for p, v in values if p and v is not None]
    if not good or (not drop and len(good) < len(rows)):
        assert result.exit_code == 2
        return
    groups: dict[str, list[float]] = {}
    for prompt, value in good:
        groups.setdefault(prompt, []).append(value or 0.0)
    expected = np.mean([np.mean(group) for group in groups.values()])
    assert json.loads(result.stdout)["rows"][0]["score"] == pytest.approx(expected)


def _number(text: str) -> float | None:
    try:
        value = float({"true": "1"}.get(text, text))
    except ValueError:
        return None
    return value if math.isfinite(value) and text != "∞" else None
