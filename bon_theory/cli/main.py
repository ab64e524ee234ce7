"""The commands of ``bon-theory``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer

from bon_theory.cli.curves import band, columns_of, divergences, drawn, score_curve, win_rates
from bon_theory.cli.laws import bounds, law
from bon_theory.cli.options import (
    AtLeast,
    Drop,
    File,
    Form,
    Level,
    LogProb,
    Numbers,
    Output,
    Prompt,
    Score,
    Seed,
    Temperatures,
    Ties,
    True_,
    Weight,
    Where,
    floats,
    guarded,
    read,
    whole_numbers,
)
from bon_theory.cli.output import Result, emit, plot, save, say, working
from bon_theory.cli.scores import ScoreFile
from bon_theory.cli.summary import caution, summary
from bon_theory.cli.text import visible
from bon_theory.pools import (
    Pool,
    advise,
    best_of_n_curve,
    choose,
    fit_coverage,
    fit_tail,
    normal_band,
    win_rate_between,
)
from bon_theory.report import gather, render
from bon_theory.report.page import decision

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Best-of-n from a file of scored answers: unbiased, at every n, with intervals.",
    epilog="Exit codes: 0 done, 1 failed, 2 something wrong with what was given, 130 interrupted.",
)


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
    beyond: Annotated[
        str | None,
        typer.Option("--beyond", help="Extrapolate pass@k of scores 0 and 1 to k, as 1000,10000."),
    ] = None,
    form: Form = "table",
    output: Output = None,
) -> None:
    """What a file holds: prompts, answers, ties, what is missing; and how many would be enough.

    Example: bon-theory describe scores.csv --prompt question --score reward --within 0.01 --n 4
    Example: bon-theory describe passed.csv --beyond 1000,10000
    """
    found = read(file, prompt, score, true, log_prob, where, drop_missing, at_least)
    rows = summary(found)
    if within is not None:
        advice = advise(found.pool, within, n=n)
        rows += [
            (f"half width of best-of-{n} now", advice.half_width_now),
            (f"prompts for ± {within:g}, so many answers", advice.prompts),
            (f"prompts for ± {within:g}, any number of answers", advice.prompts_at_least),
            (f"answers for ± {within:g}, these prompts", advice.answers),
        ]
    if beyond is not None:
        rows += _extrapolated(found.pool, floats("--beyond", beyond))
    emit(Result("describe", ("quantity", "value"), rows, found.notes), form, output)


def _extrapolated(pool: Pool, numbers: list[float]) -> list[tuple[str, float]]:
    if min(numbers) < 1:
        raise ValueError(f"--beyond must be numbers of at least 1, got {min(numbers):g}")
    beta, tail = fit_coverage(pool), fit_tail(pool)
    rows = [("exponent of the tail", tail.exponent), ("its error", tail.exponent_error)]
    for k in numbers:
        low, high = tail.interval(k)
        rows += [
            (f"pass@{k:.10g}, {beta.label}", float(beta.pass_at(k))),
            (f"pass@{k:.10g}, {tail.label}", float(tail.pass_at(k))),
            (f"pass@{k:.10g}, low end of that", float(low)),
            (f"pass@{k:.10g}, high end of that", float(high)),
        ]
    return rows


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
    weight: Weight = None,
    ties: Ties = "half",
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

    Divergence and win rate too; their intervals are in CSV and JSON.

    Example: bon-theory curve scores.csv --true gold --temperature 0,0.1,0.5 --ties win
    Example: bon-theory curve scores.jsonl --n 1:64 --format csv > curve.csv
    """
    if simultaneous and cluster is not None:
        raise ValueError("--simultaneous resamples prompts: take it without --cluster")
    found = read(
        file, prompt, score, true, log_prob, where, drop_missing, at_least, cluster, weight
    )
    pool = found.pool
    numbers = whole_numbers(n, int(pool.counts.min()))
    heats = [0.0] if temperature is None else floats("--temperature", temperature)
    names = ["score"] + (["true"] if pool.true_scores is not None else [])
    with working("computing"):
        curves = {name: score_curve(pool, numbers, heats, name) for name in names}
        kl, labels = divergences(pool, numbers, heats)
        wins = win_rates(pool, numbers, heats, ties)
    bands = {
        name: band(one, found, level, simultaneous=simultaneous, seed=seed)
        for name, one in curves.items()
    }
    table: dict[str, list[Any]] = {
        "n": kl.n.tolist(),
        "temperature": np.repeat(heats, len(numbers)).tolist(),
    }
    for name, one in curves.items():
        table |= columns_of(name, one, bands[name])
    for name, one in (("kl", kl), ("win_rate", wins)):
        table |= columns_of(name, one, band(one, found, level))
    notes = [*found.notes, *(f"kl: {label}, in nats" for label in labels)]
    if bands["score"] is None:
        notes.append("no intervals: they take at least two prompts")
    if plot_file is not None:
        plot(plot_file, drawn(curves, bands, len(numbers), heats), ("n", "mean score"))
    rows = list(zip(*table.values(), strict=True))
    details = [f"{name}_{end}" for name in ("kl", "win_rate") for end in ("low", "high")]
    emit(Result("curve", list(table), rows, notes, details=details), form, output)


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
    weight: Weight = None,
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
    found = read(
        file,
        prompt,
        score,
        true,
        None,
        where,
        drop_missing,
        at_least,
        weight=weight,
        only_named=("log_prob",),
    )
    pool = found.pool
    if pool.true_scores is None:
        raise ValueError("tune needs --true, the column of the score that counts")
    numbers = whole_numbers(n, int(pool.counts.min()))
    heats = [0.0] if temperature is None else floats("--temperature", temperature)
    curve = score_curve(pool, numbers, heats, "true")
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
    notes = [*found.notes, *caution(pool.num_prompts, choice.low == choice.high)]
    emit(Result("tune", ("quantity", "value"), rows, notes, sentence), form, output)


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
    weight: Weight = None,
    level: Level = 0.95,
    form: Form = "table",
    output: Output = None,
) -> None:
    """Two models, or two scores that select, on the same prompts: their difference, paired.

    Example: bon-theory compare small.csv large.csv --n 1,4,16
    Example: bon-theory compare a.csv a.csv --score proxy --second-score judge --true gold
    """
    found = [
        read(
            file,
            prompt,
            selects,
            true,
            None,
            where,
            drop_missing,
            at_least,
            weight=weight,
            only_named=("true", "log_prob"),
        )
        for file, selects in ((first, score), (second, second_score or score))
    ]
    one, other, common = _matched(found[0], found[1])
    numbers = whole_numbers(n, int(min(one.counts.min(), other.counts.min())))
    of = "scores" if true is None else "true_scores"
    curves = [best_of_n_curve(pool, n=numbers, of=of) for pool in (one, other)]
    ends = normal_band(curves[0] - curves[1], level=level)
    columns = ["n", "first", "second", "difference", "low", "high"]
    values = [curves[0].mean, curves[1].mean, ends.mean, ends.low, ends.high]
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
    weight: Weight = None,
    level: Level = 0.95,
    seed: Seed = 0,
) -> None:
    """One self-contained page: curves, the decision with its interval, sliders, the data's quality.

    Example: bon-theory report scores.parquet -o report.html
    """
    found = read(file, prompt, score, true, log_prob, where, drop_missing, at_least, weight=weight)
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


app.command()(law)
app.command()(bounds)
