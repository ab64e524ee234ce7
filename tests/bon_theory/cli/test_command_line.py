"""From any file to the same numbers; bad input is one line, hostile text is text."""

import csv
import io
import json
import math
import os
import re
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

import bon_theory as bt
from bon_theory import cli, pools
from bon_theory.cli import files, main, options, scores
from bon_theory.cli.text import visible

ROOT = Path(__file__).parents[3]
SCORES = np.array([[0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]])
TRUTH = np.array([[0.1, 0.9, 0.4, 0.3], [0.8, 0.7, 0.2, 0.6], [0.0, 0.3, 0.2, 0.5]])
TABLE = pl.DataFrame(
    {
        "prompt": np.repeat(["a", "b", "c"], 4),
        "candidate": np.tile(np.arange(4), 3),
        "score": SCORES.ravel(),
        "true_score": TRUTH.ravel(),
    }
)


def run(*arguments: Any, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(main.app, [str(a) for a in arguments], input=stdin)


def rows_of(*arguments: Any, stdin: bytes = b"") -> list[dict[str, Any]]:
    result = run(*arguments, "--format", "json", stdin=stdin)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)["rows"]


def write_npz(path: Path, kind: Any) -> None:
    np.savez(path, scores=SCORES.astype(kind), true_scores=TRUTH)


def write_inspect(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.json", "{}")
        for p, (row, truth) in enumerate(zip(SCORES, TRUTH, strict=True)):
            for e, (value, gold) in enumerate(zip(row, truth, strict=True)):
                sample = {"id": p, "epoch": e + 1, "scores": {"match": {"value": "IC"[int(value)]}}}
                sample["scores"]["gold"] = {"value": gold}
                archive.writestr(f"samples/{p}_epoch_{e + 1}.json", json.dumps(sample))


def write_zstandard(path: Path) -> None:
    """As inspect writes today: every member in two frames of Zstandard, which zipfile cannot."""
    plain = path.with_name("plain.zip")
    write_inspect(plain)
    members, directory = io.BytesIO(), b""
    with zipfile.ZipFile(plain) as archive:
        for name in archive.namelist():
            text, place = archive.read(name), members.tell()
            halves = text[: len(text) // 2], text[len(text) // 2 :]
            packed = b"".join(map(zstandard.ZstdCompressor().compress, halves))
            common = struct.pack(
                "<HHHHHLLLHH", 63, 0, 93, 0, 33, zlib.crc32(text), len(packed), len(text),
                len(name), 0,
            )  # fmt: skip
            members.write(b"PK\x03\x04" + common + name.encode() + packed)
            directory += b"PK\x01\x02?\0" + common + struct.pack("<HHHLL", 0, 0, 0, 0, place)
            directory += name.encode()
        count = len(archive.namelist())
    plain.unlink()
    end = struct.pack("<HHHHLLH", 0, 0, count, count, len(directory), members.tell(), 0)
    path.write_bytes(members.getvalue() + directory + b"PK\x05\x06" + end)


def write_log(path: Path) -> None:
    samples = [
        {"id": f"p{p}", "epoch": e, "scores": {"match": bool(v), "gold": float(TRUTH[p, e])}}
        for p in range(3)
        for e, v in enumerate(SCORES[p])
    ]
    path.write_text(json.dumps({"status": "success", "samples": samples}, indent=1))


def write_lists(path: Path) -> None:
    lines = [
        {"score": s.tolist(), "true_score": t.tolist()} for s, t in zip(SCORES, TRUTH, strict=True)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))


def write_lm_eval(path: Path) -> None:
    """The fields of lm-eval 0.4.13, a document of another kind in every row, several runs."""
    lines = []
    for p in range(3):
        for e in range(4):
            for name, offset in (("first", 0.0), ("second", 5.0)):
                doc: dict[str, Any] = {"q": "x"} if e else {"q": None, "tags": [1, "a", {"b": p}]}
                lines.append(
                    {"doc_id": p, "doc": doc, "target": "4",
                     "arguments": {"gen_args_0": {"arg_0": "x", "arg_1": {"until": ["\n"] * e}}},
                     "resps": [["y"] * e], "filtered_resps": ["y"] if e else [["y"]],
                     "filter": name, "metrics": ["exact_match"], "doc_hash": "a",
                     "prompt_hash": "b", "target_hash": "c",
                     "exact_match": SCORES[p, e] + offset, "true_score": TRUTH[p, e]}
                )  # fmt: skip
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")


FILES: dict[str, Callable[[Path], object]] = {
    "csv": lambda path: TABLE.write_csv(path),
    "tsv": lambda path: TABLE.write_csv(path, separator="\t"),
    "semicolons.csv": lambda path: TABLE.write_csv(path, separator=";"),
    "words.csv": lambda path: path.write_text(
        TABLE.with_columns(pl.col("score") == 1).write_csv().replace("true,", " True ,")
    ),
    "jsonl": lambda path: TABLE.write_ndjson(path),
    "json": lambda path: path.write_text(json.dumps(TABLE.to_dicts(), indent=2)),
    "parquet": lambda path: TABLE.with_columns(pl.col("score").cast(pl.Boolean)).write_parquet(
        path
    ),
    "int.npz": lambda path: write_npz(path, np.int8),
    "bfloat16.npz": lambda path: write_npz(path, jnp.bfloat16),
    "eval": write_inspect,
    "zstandard.eval": write_zstandard,
    "log.json": write_log,
    "lists.jsonl": write_lists,
    "lm_eval.jsonl": write_lm_eval,
}


@pytest.mark.parametrize("kind", FILES)
def test_the_same_answers_in_any_file_give_the_same_curve(kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"scores.{kind}"
    FILES[kind](file)
    gold = ["--true", "score:gold"] if "eval" in kind.split(".") or kind == "log.json" else []
    found = rows_of("curve", file, *gold, "--n", "1:4")
    for name, table in (("score", SCORES), ("true", TRUTH)):
        curve = pools.best_of_n_curve(
            pools.Pool.from_lists(SCORES, true_scores=table), of="true_scores"
        )
        band = pools.normal_band(curve)
        for key, expected in (
            (name, band.mean),
            (f"{name}_low", band.low),
            (f"{name}_high", band.high),
        ):
            np.testing.assert_allclose([row[key] for row in found], expected, rtol=1e-14)
    np.testing.assert_allclose(found[3]["kl"], math.log(4) - 0.75)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "int.npz"])
def test_standard_input_is_a_file(kind: str, tmp_path: Path) -> None:
    file = tmp_path / "scores"
    FILES[kind](file.with_suffix(".npz") if "npz" in kind else file)
    data = (file.with_suffix(".npz") if "npz" in kind else file).read_bytes()
    assert rows_of("curve", "-", stdin=data) == rows_of("curve", "-", stdin=data)
    assert len(rows_of("curve", "-", stdin=data)) == 3


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "scores.csv"
    TABLE.write_csv(path)
    return path


def test_guesses_are_printed_and_programs_get_every_digit(file: Path) -> None:
    shown = run("curve", file, "--n", "3")
    assert "guessed prompt: prompt, score: score, true: true_score" in shown.stderr
    table = list(
        csv.DictReader(io.StringIO(run("curve", file, "--n", "3", "--format", "csv").stdout))
    )
    (row,) = rows_of("curve", file, "--n", "3")
    assert {key: float(value) if value else None for key, value in table[0].items()} == row
    assert f"{row['true']:.5g}" in shown.stdout


def test_soft_best_of_n_and_bands_are_those_of_the_library(file: Path) -> None:
    found = rows_of("curve", file, "--temperature", "0,0.5", "--n", "2,4", "--simultaneous")
    pool = pools.Pool.from_lists(SCORES)
    soft = pools.soft_best_of_n_curve(pool, n=[2, 4], temperature=0.5)
    np.testing.assert_allclose([row["score"] for row in found[2:]], soft.mean, rtol=1e-14)
    assert [row["temperature"] for row in found] == [0, 0, 0.5, 0.5]
    kl = pools.kl_curve(pool, n=[2, 4], temperature=0.5)
    np.testing.assert_allclose([row["kl"] for row in found[2:]], kl.mean, rtol=1e-14)
    wins = pools.normal_band(pools.win_rate_curve(pool, n=2, temperature=0.5))
    ends = [found[2][f"win_rate{end}"] for end in ("", "_low", "_high")]
    np.testing.assert_allclose(ends, [wins.mean[0], wins.low[0], wins.high[0]], rtol=1e-14)
    assert found[3]["win_rate"] is None  # no answer is left to be beaten


def test_ties_count_as_they_are_told_and_prompts_by_their_weights(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    TABLE.with_columns(share=pl.col("prompt").replace_strict({"a": 1, "b": 3, "c": 0})).write_csv(
        path
    )
    options = ("curve", path, "--n", "2", "--ties", "win", "--weight", "share")
    (row,) = rows_of(*options)
    pool = pools.Pool.from_lists(SCORES, weights=[1, 3, 0])
    assert row["win_rate"] == pytest.approx(pools.win_rate_curve(pool, n=2, ties="win").mean[0])
    assert row["score"] == pytest.approx(pools.best_of_n_curve(pool, n=2).mean[0])
    assert "win_rate_low" in row
    assert "win_rate_low" not in run(*options).stdout
    TABLE.with_columns(share=pl.col("candidate")).write_csv(path)
    refused = run("curve", path, "--weight", "share")
    assert "prompts in more than one share, the first prompt a: a weight is of" in refused.stderr
    TABLE.with_columns(share=pl.lit("much")).write_csv(path)
    assert "weights must be nonnegative" in run("curve", path, "--weight", "share").stderr


def test_a_report_says_what_it_lacks(file: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    judged = run("report", file, "-o", page)
    assert "with fewer than four prompts nothing here says" in judged.stderr
    alone = tmp_path / "alone.csv"
    TABLE.drop("true_score").write_csv(alone)
    assert "without a second score nothing here says" in run("report", alone, "-o", page).stderr


def test_one_setting_is_chosen_and_said_in_a_sentence(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    proxy = draws.normal(size=(40, 8))
    path = tmp_path / "scores.npz"
    np.savez(path, scores=proxy, true_scores=-((proxy - 0.8) ** 2))
    found = {row["quantity"]: row["value"] for row in rows_of("tune", path, "--n", "1:8")}
    assert found["n"] in (3, 4, 5)
    assert found["value_low"] < found["value"] < found["value_high"]
    assert 0 < found["gain_low"] < found["gain_over_n_1"]
    text = run("tune", path).stdout
    assert f"Take n = {4}: choosing so earns" in text


def test_few_prompts_are_said_to_be_few(tmp_path: Path) -> None:
    lines = [f"{p},{s},{int(p > 0)}" for p in range(5) for s in range(4)]
    path = tmp_path / "few.csv"
    path.write_text("prompt,proxy,gold\n" + "\n".join(lines))
    result = run("tune", path, "--score", "proxy", "--true", "gold")
    assert "5 prompts are few: one half chooses" in result.stderr
    path.write_text("prompt,proxy,gold\n" + "\n".join(f"{p},1,1\n{p},2,1" for p in range(12)))
    result = run("tune", path, "--score", "proxy", "--true", "gold")
    assert "all prompts agree at the chosen setting" in result.stderr
    assert "are few" not in result.stderr


def test_models_are_compared_on_the_prompts_that_both_have(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    moved = TABLE.with_columns(pl.col("score") - 0.25).filter(pl.col("prompt") != "b")
    moved.sample(fraction=1.0, shuffle=True, seed=1).write_csv(other)
    found = rows_of("compare", file, other)
    np.testing.assert_allclose([row["difference"] for row in found], 0.25)
    np.testing.assert_allclose([row["low"] for row in found], 0.25)
    assert found[0]["n"] == 1
    assert 0.5 < found[0]["win_rate_against_one_answer"] < found[-1]["win_rate_against_one_answer"]


def test_two_scores_that_select_are_compared_by_a_third(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    TABLE.with_columns(pl.col("candidate").alias("other"), gold=pl.col("true_score")).write_csv(
        path
    )
    found = rows_of("compare", path, path, "--second-score", "other", "--true", "gold", "--n", "2")
    first, second = (
        pools.best_of_n_curve(pools.Pool.from_lists(s, true_scores=TRUTH), n=2, of="true_scores")
        for s in (SCORES, np.tile(np.arange(4.0), (3, 1)))
    )
    band = pools.normal_band(first - second)
    expected = [first.mean[0], second.mean[0], band.mean[0], band.low[0], band.high[0]]
    assert list(found[0]) == ["n", "first", "second", "difference", "low", "high"]
    np.testing.assert_allclose(list(found[0].values())[1:], expected)


def test_prompts_that_belong_together_are_one_cluster(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    TABLE.with_columns(topic=pl.col("prompt").replace("c", "a")).write_csv(path)
    (row,) = rows_of("curve", path, "--n", "1", "--cluster", "topic")
    curve = pools.best_of_n_curve(pools.Pool.from_lists(SCORES), n=1)
    band = pools.normal_band(curve, clusters=["a", "b", "a"])
    assert row["score_low"] == pytest.approx(band.low[0])
    assert run("curve", path, "--cluster", "topic", "--simultaneous").exit_code == 2


def test_a_law_is_exact_in_full_precision() -> None:
    options = ("law", "--probs", "0.5,0.3,0.2", "--rewards", "0,0.5,1", "--n", "3")
    found = rows_of(*options)
    np.testing.assert_allclose(
        [row["selected"] for row in found], [0.125, 0.387, 0.488], rtol=1e-14
    )
    soft = run(*options[:-1], "64", "--temperature", "0.1")
    assert "KL 1.543586432 nats" in soft.stdout


def test_bounds_are_beside_the_truth() -> None:
    found = rows_of("bounds", "--rewards", "0,0.5,1", "--n", "4")
    assert len(found) > 5
    for row in found:
        slack = (
            row["value"] - row["exact"] if row["side"] == "upper" else row["exact"] - row["value"]
        )
        assert slack > -1e-12
    law = bt.Policy.from_probs([1 / 3] * 3, [0.0, 0.5, 1.0])
    exact = {row["bound"]: row["exact"] for row in found}["best_of_n_kl"]
    assert exact == pytest.approx(float(bt.kl_divergence(bt.best_of_n(law, 4.0), law)))


def test_a_description_counts(file: Path) -> None:
    found = {row["quantity"]: row["value"] for row in rows_of("describe", file)}
    assert found["prompts"] == 3
    assert found["answers"] == 12
    assert found["chance that two answers tie"] == pytest.approx((2 + 3 + 3) / 18)
    assert found["mean score"] == pytest.approx(0.5)


def test_the_largest_scores_are_described_without_a_word_of_overflow() -> None:
    table = header("a,1.7e308\na,-1.7e308\nb,1\nb,1\n")
    found = {r["quantity"]: r["value"] for r in rows_of("describe", "-", stdin=table)}
    assert found["prompts whose answers all tie"] == 1


def test_advice_is_that_of_the_library(file: Path) -> None:
    options = ("--within", "0.1", "--n", "2", "--true", "true_score")
    found = [row["value"] for row in rows_of("describe", file, *options)][-4:]
    advice = pools.advise(pools.Pool.from_lists(SCORES), 0.1, n=2)
    assert found[:3] == [advice.half_width_now, advice.prompts, advice.prompts_at_least]


def test_what_lies_beyond_the_answers_is_called_an_extrapolation(tmp_path: Path) -> None:
    draws = np.random.default_rng(0)
    right = draws.uniform(size=(200, 32)) < draws.beta(0.5, 1.0, size=(200, 1))
    path = tmp_path / "passed.npz"
    np.savez(path, scores=right)
    found = {r["quantity"]: r["value"] for r in rows_of("describe", path, "--beyond", "1000")}
    pool = pools.Pool.from_lists(right)
    beta, tail = pools.fit_coverage(pool), pools.fit_tail(pool)
    for fit in (beta, tail):
        assert "extrapolation beyond k = 32" in fit.label
        assert found[f"pass@1000, {fit.label}"] == pytest.approx(float(fit.pass_at(1000)))
    assert found["pass@1000, low end of that"] < float(tail.pass_at(1000))
    refused = run("describe", path, "--beyond", "0.5,10")
    assert "--beyond must be numbers of at least 1, got 0.5" in refused.stderr


def test_a_table_is_as_wide_as_its_numbers(file: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    lines = run("curve", file).stdout.splitlines()
    assert len(lines) == 4
    assert [len(line.split()) for line in lines] == [10, 10, 10, 9]  # n = N leaves none to beat


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_figure_is_written_beside_the_numbers(suffix: str, file: Path, tmp_path: Path) -> None:
    figure = tmp_path / f"curve.{suffix}"
    assert run("curve", file, "--plot", figure).exit_code == 0
    assert figure.read_bytes()[:5].startswith(
        {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    )


def test_scores_of_changing_types_are_read_to_the_last_digit() -> None:
    values = [0, True, 0.1 + 0.2, 1e-300, -1.7976931348623157e308 / 4, 2**53 + 2, None]
    lines = [json.dumps({"prompt": i, "score": v}) for i, v in enumerate(values)]
    result = run("describe", "-", "--drop-missing", stdin="\n".join(lines).encode())
    assert result.exit_code == 0
    for value, line in zip(values[:-1], lines, strict=False):
        found = rows_of("curve", "-", "--n", "1", stdin=line.encode())
        assert found[0]["score"] == float(value or 0)


@pytest.mark.parametrize("size", [7, 100, 1 << 20])
def test_json_lines_are_read_in_blocks_of_any_size(
    size: int, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(files, "_BLOCK", size)
    path = tmp_path / "scores.jsonl"
    TABLE.write_ndjson(path)
    path.write_bytes(path.read_bytes().rstrip())  # the last line without its end
    found = rows_of("curve", path)
    expected = pools.best_of_n_curve(pools.Pool.from_lists(SCORES), n=[1, 2, 4]).mean
    np.testing.assert_allclose([row["score"] for row in found], expected)
    shares: list[float] = []
    scores.read_scores(str(path), scores.Columns(), progress=shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_completion_knows_the_commands_and_their_options(monkeypatch: Any) -> None:
    """As the shell asks: what comes after `cu`, and what `--ties` may be."""
    monkeypatch.setenv("_BON_THEORY_COMPLETE", "complete_bash")
    for words, expected in (("cu", ["curve"]), ("curve x --ties ", ["half", "win", "loss"])):
        monkeypatch.setenv("COMP_WORDS", f"bon-theory {words}")
        monkeypatch.setenv("COMP_CWORD", str(len(words.split(" "))))
        shown = CliRunner().invoke(main.app, [], prog_name="bon-theory")
        assert shown.stdout.split() == expected
    monkeypatch.delenv("_BON_THEORY_COMPLETE")
    for command in main.app.registered_commands:
        assert command.callback is not None
        assert "Example: bon-theory" in str(command.callback.__doc__)


# --- what is wrong is said in one line -------------------------------------------------------


def header(text: str) -> bytes:
    return f"prompt,score\n{text}".encode()


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


# --- hostile text ----------------------------------------------------------------------------

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
