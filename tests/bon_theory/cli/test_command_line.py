"""From any file to the same numbers, in tables, programs and figures."""

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import bon_theory as bt
from bon_theory import pools
from bon_theory.cli import files, main, scores
from tests.bon_theory.cli.examples import (
    SCORES,
    TABLE,
    TRUTH,
    header,
    rows_of,
    run,
    write_inspect,
    write_lists,
    write_lm_eval,
    write_log,
    write_npz,
    write_zstandard,
)

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
    """As the shell asks: what comes after ``cu``, and what ``--ties`` may be."""
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
