"""The commands of ``bon-theory``."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import numpy as np
import typer

from bon_theory import bounds as inequalities
from bon_theory.cli.output import Result, emit, plot, save, say, working
from bon_theory.cli.scores import Columns, ScoreFile, read_scores
from bon_theory.cli.text import visible
from bon_theory.divergences import kl_divergence
from bon_theory.performance import expected_reward, win_rate
from bon_theory.policy import Policy
from bon_theory.pools import (
    Band,
    Curve,
    Pool,
    advise,
    best_of_n_curve,
    bootstrap_band,
    choose,
    kl_curve,
    normal_band,
    soft_best_of_n_curve,
    win_rate_between,
)
from bon_theory.report import gather, render
from bon_theory.report.page import decision
from bon_theory.selection import best_of_n, soft_best_of_n

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Best-of-n from a file of scored answers: unbiased, at every n, with intervals.",
    epilog="Exit codes: 0 done, 1 interrupted or failed, 2 something wrong with what was given.",
)

File = Annotated[
    str, typer.Argument(help="CSV, JSONL, Parquet, NPZ, inspect or lm-eval; - reads stdin.")
]
Prompt = Annotated[str | None, typer.Option("--prompt", help="Column that names the prompt.")]
Score = Annotated[str | None, typer.Option("--score", help="Column that selects.")]
True_ = Annotated[str | None, typer.Option("--true", help="Column of the score that counts.")]
LogProb = Annotated[
    str | None, typer.Option("--log-prob", help="Column of answers' log-probabilities, in nats.")
]
Where = Annotated[
    list[str] | None, typer.Option("--where", help="column=value that rows must have; repeatable.")
]
Drop = Annotated[
    bool, typer.Option("--drop-missing", help="Leave out rows without a score instead of refusing.")
]
AtLeast = Annotated[
    int, typer.Option("--at-least", min=1, help="Leave out prompts with fewer answers.")
]
Form = Annotated[
    Literal["table", "json", "csv"], typer.Option("--format", help="For people, or for programs.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="File to write; by default, and for -, stdout."),
]
Numbers = Annotated[
    str | None, typer.Option("--n", help="As 1,4,16 or 1:64; by default powers of two, or all.")
]
Temperatures = Annotated[
    str | None, typer.Option("--temperature", help="Soft best-of-n at these, as 0.1,0.5.")
]
Level = Annotated[float, typer.Option("--level", help="Coverage of the intervals.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of what is resampled.")]


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """What is wrong with what was given is said in one line, with exit code 2."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, **options: Any) -> None:
        try:
            for target in (options.get("output"), options.get("plot_file")):
                if target is not None and not target.parent.is_dir():
                    raise ValueError(f"there is no folder {target.parent} to write to")
            command(*arguments, **options)
        except BrokenPipeError:  # whoever reads has read enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except KeyboardInterrupt:
            say("interrupted")
            raise typer.Exit(1) from None
        except (ValueError, OSError, MemoryError) as error:
            say(f"error: {visible(' '.join(str(error).split())) or type(error).__name__}")
            raise typer.Exit(2) from None

    return wrapped


@app.command()
@guarded
def describe(
    file: File,
    prompt: Prompt = None,
    score: Score = None,
    true: True_ = None,
    log_prob: LogProb = None,
    where: Where = None,
    drop_missing: Drop = False,
    at_least: AtLeast = 1,
    within: Annotated[
        float | None, typer.Option("--within", help="Advise on an interval of ± this much.")
    ] = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Of best-of-n, for --within.")] = 1,
    form: Form = "table",
    output: Output = None,
) -> None:
    """What a file holds: prompts, answers, ties, what is missing; and how many would be enough.

    Example: bon-theory describe scores.csv --prompt question --score reward --within 0.01 --n 4
    """
    found = _read(file, prompt, score, true, log_prob, where, drop_missing, at_least)
    rows = summary(found)
    if within is not None:
        advice = advise(found.pool, within, n=n)
        rows += [
            (f"half width of best-of-{n} now", advice.half_width_now),
            (f"prompts for ± {within:g}, so many answers", advice.prompts),
            (f"prompts for ± {within:g}, any number of answers", advice.prompts_at_least),
            (f"answers for ± {within:g}, these prompts", advice.answers),
        ]
    emit(Result("describe", ("quantity", "value"), rows, found.notes), form, output)


def summary(found: ScoreFile) -> list[tuple[str, float | int]]:
    """Quantities that say what a pool can tell."""
    pool = found.pool
    real = np.arange(pool.scores.shape[1]) < pool.counts[:, None]
    scores, counts = pool.scores[real], pool.counts
    rows: list[tuple[str, float | int]] = [
        ("prompts", pool.num_prompts),
        ("answers", int(counts.sum())),
        ("fewest answers to a prompt", int(counts.min())),
        ("median answers to a prompt", float(np.median(counts))),
        ("most answers to a prompt", int(counts.max())),
        ("rows left out", found.num_dropped),
        ("lowest score", float(scores.min())),
        ("mean score", float(pool.weights @ best_of_n_curve(pool, n=1).per_prompt[:, 0])),
        ("highest score", float(scores.max())),
        ("distinct scores", int(np.unique(scores).size)),
        ("chance that two answers tie", _ties(pool)),
        ("prompts whose answers all tie", int(np.sum(pool.scores[:, 0] == _highest(pool)))),
    ]
    if pool.true_scores is not None and scores.std() > 0 and pool.true_scores[real].std() > 0:
        rows.append(("correlation with the true score", _within(pool, real)))
    return rows


def _highest(pool: Pool) -> np.ndarray:
    return np.take_along_axis(pool.scores, pool.counts[:, None] - 1, axis=1)[:, 0]


def _ties(pool: Pool) -> float:
    """Mean over prompts with two answers of the chance that two of them have the same score."""
    chances = []
    for row, count in zip(pool.scores, pool.counts.tolist(), strict=True):
        if count > 1:
            sizes = np.unique(row[:count], return_counts=True)[1]
            chances.append(float(sizes @ (sizes - 1)) / (count * (count - 1)))
    return float(np.mean(chances)) if chances else math.nan


def _within(pool: Pool, real: np.ndarray) -> float:
    """Correlation about the means of prompts: what is common to a prompt's answers selects none."""
    assert pool.true_scores is not None
    centred = []
    for table in (pool.scores, pool.true_scores):
        values = np.where(real, table, 0)
        mean = values.sum(axis=1, keepdims=True) / pool.counts[:, None]
        centred.append(np.where(real, values - mean, 0).ravel())
    norm = math.sqrt(float(centred[0] @ centred[0]) * float(centred[1] @ centred[1]))
    return float(centred[0] @ centred[1]) / norm if norm > 0 else math.nan


@app.command()
@guarded
def curve(
    file: File,
    n: Numbers = None,
    temperature: Temperatures = None,
    prompt: Prompt = None,
    score: Score = None,
    true: True_ = None,
    log_prob: LogProb = None,
    where: Where = None,
    drop_missing: Drop = False,
    at_least: AtLeast = 1,
    cluster: Annotated[
        str | None, typer.Option("--cluster", help="Column of prompts that belong together.")
    ] = None,
    simultaneous: Annotated[
        bool, typer.Option("--simultaneous", help="A band for the whole curve at once.")
    ] = False,
    level: Level = 0.95,
    seed: Seed = 0,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", help="Figure to write: .png, .svg or .pdf.")
    ] = None,
    form: Form = "table",
    output: Output = None,
) -> None:
    """Best-of-n at every n, over all subsets of the answers, with intervals over prompts.

    Example: bon-theory curve scores.jsonl --n 1:64 --format csv > curve.csv
    """
    if simultaneous and cluster is not None:
        raise ValueError("--simultaneous resamples prompts: take it without --cluster")
    found = _read(file, prompt, score, true, log_prob, where, drop_missing, at_least, cluster)
    pool = found.pool
    numbers = _numbers(n, int(pool.counts.min()))
    heats = [0.0] if temperature is None else _floats("--temperature", temperature)
    names = ["score"] + (["true"] if pool.true_scores is not None else [])
    with working("computing"):
        curves = {name: _curve(pool, numbers, heats, name) for name in names}
    bands = {
        name: _band(found_curve, found, level, simultaneous, seed)
        for name, found_curve in curves.items()
    }
    divergence = kl_curve(pool, n=numbers)
    columns = ["n", "temperature"]
    for name in names:
        columns += [name, f"{name}_low", f"{name}_high"]
    columns.append("kl")
    rows = []
    for index, number in enumerate(curves["score"].n.tolist()):
        heat = heats[index // len(numbers)]
        row: list[Any] = [number, heat]
        for name in names:
            band = bands[name]
            ends = (band.low[index], band.high[index]) if band is not None else (None, None)
            row += [
                float(curves[name].mean[index]),
                *(None if e is None else float(e) for e in ends),
            ]
        row.append(float(divergence.mean[index % len(numbers)]) if heat == 0 else None)
        rows.append(row)
    notes = [*found.notes, f"kl: {divergence.label}, in nats"]
    if bands["score"] is None:
        notes.append("no intervals: they take at least two prompts")
    if plot_file is not None:
        plot(plot_file, _lines(curves, bands, len(numbers), heats), ("n", "mean score"))
    emit(Result("curve", columns, rows, notes), form, output)


def _curve(pool: Pool, numbers: list[int], heats: list[float], name: str) -> Curve:
    of = "scores" if name == "score" else "true_scores"
    parts = [
        best_of_n_curve(pool, n=numbers, of=of)
        if heat == 0
        else soft_best_of_n_curve(pool, n=numbers, temperature=heat, of=of)
        for heat in heats
    ]
    return Curve(
        np.tile(parts[0].n, len(heats)),
        np.concatenate([part.per_prompt for part in parts], axis=1),
        pool.weights,
        np.repeat(heats, len(numbers)),
    )


def _band(
    curve: Curve, found: ScoreFile, level: float, simultaneous: bool, seed: int
) -> Band | None:
    if curve.weights.size < 2:
        return None
    if simultaneous:
        return bootstrap_band(jax.random.key(seed), curve, level=level, simultaneous=True)
    return normal_band(curve, level=level, clusters=found.clusters)


def _lines(
    curves: dict[str, Curve], bands: dict[str, Band | None], size: int, heats: list[float]
) -> list[tuple[str, Any, Any, Any, Any]]:
    lines = []
    for name, found in curves.items():
        for part, heat in enumerate(heats):
            at = slice(part * size, (part + 1) * size)
            band, mean = bands[name], found.mean[at]
            low, high = (mean, mean) if band is None else (band.low[at], band.high[at])
            label = name if heat == 0 else f"{name}, temperature {heat:g}"
            lines.append((label, found.n[at], mean, low, high))
    return lines


@app.command()
@guarded
def tune(
    file: File,
    n: Numbers = None,
    temperature: Temperatures = None,
    prompt: Prompt = None,
    score: Score = None,
    true: True_ = None,
    where: Where = None,
    drop_missing: Drop = False,
    at_least: AtLeast = 1,
    level: Level = 0.95,
    seed: Seed = 0,
    form: Form = "table",
    output: Output = None,
) -> None:
    """One n, and one temperature, for all prompts, by the true score of what is selected.

    One half of the prompts judges what the other chose; the regret is what the best single setting
    would earn more.

    Example: bon-theory tune scores.csv --score proxy --true gold --temperature 0,0.1,0.3
    """
    found = _read(
        file, prompt, score, true, None, where, drop_missing, at_least, only_named=("log_prob",)
    )
    pool = found.pool
    if pool.true_scores is None:
        raise ValueError("tune needs --true, the column of the score that counts")
    numbers = _numbers(n, int(pool.counts.min()))
    heats = [0.0] if temperature is None else _floats("--temperature", temperature)
    curve = _curve(pool, numbers, heats, "true")
    choice = choose(jax.random.key(seed), curve, level=level)
    base = best_of_n_curve(pool, n=1, of="true_scores").per_prompt
    gains = dataclasses.replace(curve, per_prompt=curve.per_prompt - base)
    gain = choose(jax.random.key(seed), gains, level=level)  # the same halves, the same choice
    setting = f"n = {choice.n}" + (
        f" and temperature {choice.temperature:g}" if choice.temperature else ""
    )
    sentence = (
        f"Take {setting}: choosing so earns {choice.value:.4g} on prompts that had no say "
        f"({level:.0%} interval {choice.low:.4g} to {choice.high:.4g}); no other single setting "
        f"earns more than {choice.regret_high:.3g} beyond that."
    )
    rows = [
        ("n", choice.n),
        ("temperature", choice.temperature),
        ("value", choice.value),
        ("value_low", choice.low),
        ("value_high", choice.high),
        ("regret", choice.regret),
        ("regret_low", choice.regret_low),
        ("regret_high", choice.regret_high),
        ("gain_over_n_1", gain.value),
        ("gain_low", gain.low),
        ("gain_high", gain.high),
    ]
    emit(Result("tune", ("quantity", "value"), rows, found.notes, sentence), form, output)


@app.command()
@guarded
def compare(
    first: File,
    second: Annotated[str, typer.Argument(help="Another file with the same prompts.")],
    n: Numbers = None,
    prompt: Prompt = None,
    score: Score = None,
    second_score: Annotated[
        str | None, typer.Option("--second-score", help="Column that selects in the second file.")
    ] = None,
    true: Annotated[
        str | None, typer.Option("--true", help="Column that judges, in both files.")
    ] = None,
    where: Where = None,
    drop_missing: Drop = False,
    at_least: AtLeast = 1,
    level: Level = 0.95,
    form: Form = "table",
    output: Output = None,
) -> None:
    """Two models, or two scores that select, on the same prompts: their difference, paired.

    Example: bon-theory compare small.csv large.csv --n 1,4,16
    Example: bon-theory compare a.csv a.csv --score proxy --second-score judge --true gold
    """
    found = [
        _read(
            file,
            prompt,
            selects,
            true,
            None,
            where,
            drop_missing,
            at_least,
            only_named=("true", "log_prob"),
        )
        for file, selects in ((first, score), (second, second_score or score))
    ]
    one, other, common = _matched(found[0], found[1])
    numbers = _numbers(n, int(min(one.counts.min(), other.counts.min())))
    of = "scores" if true is None else "true_scores"
    curves = [best_of_n_curve(pool, n=numbers, of=of) for pool in (one, other)]
    band = normal_band(curves[0] - curves[1], level=level)
    columns = ["n", "first", "second", "difference", "low", "high"]
    values = [curves[0].mean, curves[1].mean, band.mean, band.low, band.high]
    if true is None and second_score is None:  # the same scale
        columns.append("win_rate_against_one_answer")
        values.append(win_rate_between(one, other, n=numbers).mean)
    rows = [[number, *(float(x[i]) for x in values)] for i, number in enumerate(numbers)]
    notes = [*found[0].notes, *found[1].notes, f"{common} prompts are in both files"]
    emit(Result("compare", columns, rows, notes), form, output)


def _matched(one: ScoreFile, other: ScoreFile) -> tuple[Pool, Pool, int]:
    places = {prompt: index for index, prompt in enumerate(other.prompts)}
    pairs = [(i, places[p]) for i, p in enumerate(one.prompts) if p in places]
    if len(pairs) < 2:
        raise ValueError(f"the files must have two prompts in common, got {len(pairs)}")
    first, second = zip(*pairs, strict=True)
    return one.pool.take(first), other.pool.take(second), len(pairs)


@app.command()
@guarded
def report(
    file: File,
    output: Annotated[Path, typer.Option("--output", "-o", help="Page to write; - is stdout.")],
    prompt: Prompt = None,
    score: Score = None,
    true: True_ = None,
    log_prob: LogProb = None,
    where: Where = None,
    drop_missing: Drop = False,
    at_least: AtLeast = 1,
    level: Level = 0.95,
    seed: Seed = 0,
) -> None:
    """One self-contained page: curves, the decision with its interval, sliders, the data's quality.

    Example: bon-theory report scores.parquet -o report.html
    """
    found = _read(file, prompt, score, true, log_prob, where, drop_missing, at_least)
    with working("computing the report"):
        contents = gather(
            jax.random.key(seed),
            found.pool,
            found.prompts,
            title=f"Best-of-n from {visible(Path(file).name)}",
            quality=summary(found),
            notes=found.notes,
            level=level,
        )
    page = render(contents)
    save(output, page.encode())
    for note in found.notes:
        say(note)
    say(decision(contents))


Probs = Annotated[
    str | None, typer.Option("--probs", help="Of outcomes, as 0.5,0.3,0.2; by default equal.")
]
Rewards = Annotated[str, typer.Option("--rewards", help="Of the same outcomes, as 0,0.5,1.")]
N = Annotated[float, typer.Option("--n", min=1.0, help="Candidates; real numbers are allowed.")]
Temperature = Annotated[
    float, typer.Option("--temperature", min=0.0, help="Of soft best-of-n; 0 is best-of-n.")
]


@app.command()
@guarded
def law(
    rewards: Rewards,
    probs: Probs = None,
    n: N = 4.0,
    temperature: Temperature = 0.0,
    form: Form = "table",
    output: Output = None,
) -> None:
    """The exact law of what is selected, its divergence and its win rate.

    Example: bon-theory law --probs 0.5,0.3,0.2 --rewards 0,0.5,1 --n 64 --temperature 0.1
    """
    with jax.enable_x64(True):
        reference = _reference(rewards, probs)
        selected = (
            soft_best_of_n(reference, n, temperature) if temperature else best_of_n(reference, n)
        )
        rows = [
            (float(r), float(p), float(q))
            for r, p, q in zip(reference.rewards, reference.probs, selected.probs, strict=True)
        ]
        quantities = (
            f"expected reward {float(expected_reward(selected)):.10g}, "
            f"KL {float(kl_divergence(selected, reference)):.10g} nats, "
            f"win rate {float(win_rate(selected, reference, ties='half')):.10g}"
        )
    result = Result("law", ("reward", "reference", "selected"), rows, (), quantities)
    emit(result, form, output)


@app.command()
@guarded
def bounds(
    rewards: Rewards,
    probs: Probs = None,
    n: N = 4.0,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Above 0; without, best-of-n alone.")
    ] = None,
    form: Form = "table",
    output: Output = None,
) -> None:
    """Every published inequality that applies, beside the truth.

    Example: bon-theory bounds --rewards 0,0.5,1 --n 4 --temperature 0.5
    """
    with jax.enable_x64(True):
        parameters: dict[str, Any] = {"n": n}
        if temperature is not None:
            parameters["temperature"] = temperature
        table = inequalities.table(_reference(rewards, probs), **parameters)
        rows = [
            (
                row.name,
                row.bound.quantity,
                row.bound.side,
                float(row.bound.value),
                float(row.exact),
                row.bound.source,
            )
            for row in table.rows
        ]
    columns = ("bound", "quantity", "side", "value", "exact", "source")
    emit(Result("bounds", columns, rows), form, output)


def _reference(rewards: str, probs: str | None) -> Policy:
    values = _floats("--rewards", rewards)
    masses = [1 / len(values)] * len(values) if probs is None else _floats("--probs", probs)
    return Policy.from_probs(masses, values)


def _read(
    file: str,
    prompt: str | None,
    score: str | None,
    true: str | None,
    log_prob: str | None,
    where: Sequence[str] | None,
    drop_missing: bool,
    at_least: int,
    cluster: str | None = None,
    only_named: Sequence[str] = (),
) -> ScoreFile:
    columns = Columns(prompt, score, true, log_prob, cluster, only_named)
    return read_scores(
        file, columns, where=where or (), drop_missing=drop_missing, at_least=at_least
    )


def _numbers(text: str | None, most: int) -> list[int]:
    """``1,4,16`` or ``1:64``; by default powers of two and the most."""
    if text is None:
        return sorted({2**k for k in range(most.bit_length())} | {most})
    try:
        numbers: list[int] = []
        for part in text.split(","):
            first, colon, last = part.partition(":")
            end = int(last if colon else first)
            # One beyond the most is enough to be refused.
            numbers += [*range(int(first), min(end, most) + 1), *([end] if end > most else [])]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 1:
        raise ValueError(f"--n must be as 1,4,16 or 1:64, got {visible(text)[:80]}")
    if max(numbers) > most:
        raise ValueError(
            f"--n must be at most {most}, the answers that every prompt has, got {max(numbers)}: "
            "leave shorter prompts out by --at-least"
        )
    return sorted(set(numbers))


def _floats(name: str, text: str) -> list[float]:
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name} must be numbers as 0.1,0.5, got {visible(text)[:80]}")
    return values
