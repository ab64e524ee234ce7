"""A pool from a file: which column is what, and what of it is no score."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from bon_theory._arguments import shown
from bon_theory.cli.files import InputError, Progress, open_rows
from bon_theory.cli.text import visible
from bon_theory.pools import Pool

__all__ = ["Columns", "ScoreFile", "read_scores"]

# What columns are called, the likeliest first.
_GUESSES = {
    "prompt": (
        "prompt_id", "prompt", "doc_id", "sample_id", "question_id", "problem_id", "task_id", "id",
        "question", "instruction", "query", "input", "group",
    ),
    "score": (
        "score", "scores", "reward", "rewards", "proxy", "rm_score", "judge_score", "correct",
        "is_correct", "passed", "acc", "exact_match", "value",
    ),
    "true": (
        "true_score", "true_scores", "true_reward", "gold", "gold_score", "gold_reward", "truth",
    ),
    "log_prob": (
        "log_prob", "log_probs", "logprob", "logp", "log_probability", "sum_logprob",
        "cumulative_logprob",
    ),
    "candidate": (
        "candidate", "epoch", "sample", "sample_index", "attempt", "repeat", "response_id",
    ),
}  # fmt: skip
_ROW = "bon_theory_row"
_OF_PROMPTS = ("cluster", "weight")  # the same in every row of a prompt


@dataclasses.dataclass(frozen=True)
class Columns:
    """Names of columns as the user gave them; None is to be guessed.

    Attributes:
        prompt: which prompt a row answers.
        score: by which answers are selected.
        true: another score of the same answers.
        log_prob: log-probability of the whole answer.
        cluster: which prompts were not drawn independently of each other; never guessed.
        weight: how much a prompt counts; never guessed.
        only_named: of these fields, those not to be guessed, since nothing is made of them.
    """

    prompt: str | None = None
    score: str | None = None
    true: str | None = None
    log_prob: str | None = None
    cluster: str | None = None
    weight: str | None = None
    only_named: Sequence[str] = ()


@dataclasses.dataclass(frozen=True)
class ScoreFile:
    """What a file holds.

    Attributes:
        pool: the answers that have scores.
        prompts: what names each prompt, printable.
        notes: what was guessed or left out, for people.
        num_dropped: rows without a score that were left out.
        clusters: of the prompts, if the file tells them.
    """

    pool: Pool
    prompts: tuple[str, ...]
    notes: tuple[str, ...]
    num_dropped: int
    clusters: tuple[str, ...] | None = None


def read_scores(
    source: str,
    columns: Columns,
    *,
    where: Sequence[str] = (),
    drop_missing: bool = False,
    at_least: int = 1,
    progress: Progress = lambda share: None,
) -> ScoreFile:
    """The pool of a file.

    Args:
        source: a path, or ``-`` for standard input.
        columns: what the user knows of them.
        where: ``column=value`` that rows must have.
        drop_missing: leave out rows without a finite score instead of refusing the file.
        at_least: leave out prompts with fewer answers.
        progress: is told what share of a long file is read.

    Raises:
        InputError: in one line, what is wrong with the file and what to do.
    """
    try:
        before = _state(source)
        rows = open_rows(source, progress)
        names = rows.collect_schema().names()
        rows, roles, notes = _roles(rows, names, columns, where)
        pooled = _pooled(
            _table(rows, source, before, where),  # not held here while it is made a pool
            roles,
            notes,
            drop_missing=drop_missing,
            at_least=at_least,
        )
    except InputError as error:
        raise InputError(f"{source} {error}") from None
    except (pl.exceptions.PolarsError, UnicodeError, OSError) as error:
        first = next(iter(str(error).splitlines()), "")
        raise InputError(f"{source} cannot be read: {visible(first)[:160]}") from None
    return pooled


def _table(
    rows: pl.LazyFrame, source: str, before: tuple[int, int] | None, where: Sequence[str]
) -> pl.DataFrame:
    table = rows.collect(engine="streaming")
    if _state(source) != before:
        raise InputError("changed while it was read: wait until it is complete")
    if where and table.is_empty():
        raise InputError(f"has no rows where {visible(' and '.join(where))[:120]}")
    return table


def _state(source: str) -> tuple[int, int] | None:
    if source == "-":
        return None
    try:
        status = os.stat(source)
    except (OSError, ValueError):  # a name may hold a null character
        return None
    return status.st_size, status.st_mtime_ns


def _roles(
    rows: pl.LazyFrame, names: list[str], columns: Columns, where: Sequence[str]
) -> tuple[pl.LazyFrame, dict[str, str], list[str]]:
    """The rows and columns that matter, renamed to their roles."""
    schema = rows.collect_schema()
    given = {"prompt": columns.prompt, "score": columns.score}
    given |= {"true": columns.true, "log_prob": columns.log_prob, "candidate": None}
    for role in _OF_PROMPTS:
        name = getattr(columns, role)
        given |= {} if name is None else {role: name}
    roles: dict[str, str] = {}
    guessed: list[str] = []
    for role, name in given.items():
        if name is not None:
            if name not in names:
                raise InputError(f"has no column {shown(name)}, only {_listed(names)}")
            roles[role] = name
            continue
        taken = {*roles.values(), *(x for x in given.values() if x)}
        found = None if role in columns.only_named else _guess(role, rows, schema, taken)
        if found is not None:
            roles[role] = found
            guessed.append(f"{role.replace('_', '-')}: {visible(found)}")
    if "score" not in roles:
        raise InputError(f"needs --score, one of the columns {_listed(names)}")
    listed = isinstance(schema[roles["score"]], pl.List | pl.Array)
    if "prompt" not in roles and not listed:
        raise InputError(f"needs --prompt, one of the columns {_listed(names)}")
    notes = [f"guessed {', '.join(guessed)}"] if guessed else []
    for condition in where:
        name, equals, value = condition.partition("=")
        if not equals or name not in names:
            raise InputError(f"has no column for --where {shown(condition)}: {_listed(names)}")
        rows = rows.filter(pl.col(name).cast(pl.String) == value)
    if {"doc_id", "filter", "resps"} <= {*names} and not any(
        w.startswith("filter=") for w in where
    ):
        # lm-eval has a row per filter of its answers; the scores are of one at a time.
        first = rows.select(pl.first("filter")).collect().item()
        rows = rows.filter(pl.col("filter") == first)
        notes.append(f"took filter={visible(str(first))} (others by --where)")
    rows = rows.select(**{role: pl.col(name) for role, name in roles.items()})
    if listed:
        rows = rows.with_row_index(_ROW)
        if "prompt" not in roles:
            rows = rows.with_columns(prompt=pl.col(_ROW))
        many = [r for r, n in roles.items() if isinstance(schema[n], pl.List | pl.Array)]
        # A list without scores is a prompt without a score, not no prompt.
        lists = [pl.col(r) for r in many if isinstance(schema[roles[r]], pl.List)]
        rows = rows.with_columns(pl.when(column.list.len() > 0).then(column) for column in lists)
        rows = rows.drop(_ROW, *({"candidate"} & {*roles})).explode(many)
        roles.pop("candidate", None)
    return rows, roles, notes


def _guess(role: str, rows: pl.LazyFrame, schema: pl.Schema, taken: set[str]) -> str | None:
    names = schema.names()
    for name in _GUESSES[role]:
        if name in names and name not in taken:
            return name
    if role != "score":
        return None
    named = [name for name in names if name.startswith("score:")]  # inspect's scorers
    known = {name for guesses in _GUESSES.values() for name in guesses}
    numbers = [n for n in names if n not in taken | known and _is_numeric(rows, schema, n)]
    return named[0] if named else numbers[0] if len(numbers) == 1 else None


def _is_numeric(rows: pl.LazyFrame, schema: pl.Schema, name: str) -> bool:
    if schema[name] != pl.String:
        return schema[name].is_numeric() or schema[name] == pl.Boolean
    first = rows.select(name).head(50).collect()
    return bool(first.select(_number(first, name).is_not_null().all()).item())


def _listed(names: list[str]) -> str:
    text = ", ".join(visible(name) for name in names)
    return text if len(text) <= 200 else f"{text[:197]}..."


def _pooled(
    table: pl.DataFrame,
    roles: dict[str, str],
    notes: list[str],
    *,
    drop_missing: bool,
    at_least: int,
) -> ScoreFile:
    if table.is_empty():
        raise InputError("has no rows")
    values = [role for role in ("score", "true", "log_prob") if role in roles]
    numbers = table.with_columns(*(_number(table, role) for role in values))
    wrong = pl.any_horizontal(~pl.col(role).is_finite().fill_null(False) for role in values)
    # A blank line is no answer; what is no number is null in the numbers, and not in the table.
    blank = table.select(pl.all_horizontal(pl.all().is_null())).to_series()
    numbers = numbers.with_row_index(_ROW)
    numbers = numbers.filter(~blank) if blank.any() else numbers
    bad = numbers.filter(wrong | pl.col("prompt").is_null())
    if bad.height and not drop_missing:
        row = int(bad[_ROW][0])
        role = next((r for r in values if not _is_finite(bad[r][0])), "prompt")
        raise InputError(
            f"has {bad.height} rows without a score, the first row {row + 1} "
            f"(prompt {visible(str(table['prompt'][row]))[:60]}, {visible(roles.get(role, role))} "
            f"{visible(str(table[role][row]))[:40]}): mend them or leave them out by --drop-missing"
        )
    del table, blank  # the text of the scores
    if bad.height:
        numbers = numbers.filter(~wrong & pl.col("prompt").is_not_null())
    if "candidate" in roles:
        keys = ["prompt", "candidate"]
        twice = numbers.filter(numbers.select(keys).is_duplicated())
        if twice.height:
            raise InputError(
                f"has {twice.height} rows that share prompt and "
                f"{visible(roles['candidate'])}, the first prompt "
                f"{visible(str(twice['prompt'][0]))[:60]}: an answer would count twice; "
                "a column that does not number the answers needs another name"
            )
    for role in {*_OF_PROMPTS} & {*roles}:
        many = numbers.filter(pl.col(role).n_unique().over("prompt") > 1)
        if many.height:
            raise InputError(
                f"has prompts in more than one {visible(roles[role])}, the first prompt "
                f"{visible(str(many['prompt'][0]))[:60]}: a {role} is of whole prompts"
            )
    first, member = _members(numbers["prompt"])
    counts = np.bincount(member, minlength=first.size)
    kept = np.flatnonzero(counts >= at_least)
    if kept.size < first.size:
        few = first.size - kept.size
        notes = [*notes, f"left out {few} prompts with fewer than {at_least} answers"]
    if not kept.size:
        raise InputError(f"has no prompt with {max(at_least, 1)} answers that have a score")
    sizes = counts[kept]
    longest, shortest = int(sizes.max()), int(sizes.min())
    if shortest < longest:
        notes = [
            *notes,
            f"every prompt has {shortest} answers, some {longest}: --at-least leaves out shorter",
        ]
    if bad.height:
        notes = [*notes, f"left out {bad.height} rows without a score"]
    order, ends = np.argsort(member, kind="stable"), np.cumsum(counts)[:-1]
    parts = {role: np.split(numbers[role].to_numpy()[order], ends) for role in values}
    lists = {role: [part[i] for i in kept.tolist()] for role, part in parts.items()}
    rows = numbers[first[kept].tolist()]
    weights = rows.select(_number(rows, "weight")).to_series() if "weight" in roles else None
    names = {"score": "scores", "true": "true_scores", "log_prob": "log_probs"}
    try:
        pool = Pool.from_lists(
            **{names[role]: lists[role] for role in values},
            weights=None if weights is None else weights.fill_null(math.nan).to_numpy(),
        )
    except ValueError as error:
        raise InputError(f"holds what is no pool: {error}") from None
    prompts = tuple(visible(str(prompt)) for prompt in rows["prompt"].to_list())
    clusters = tuple(map(str, rows["cluster"].to_list())) if "cluster" in roles else None
    return ScoreFile(pool, prompts, tuple(notes), bad.height, clusters)


def _members(prompts: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """The first row of every prompt, in their order, and which of them each row belongs to.

    Far less memory than grouping the table takes.
    """
    codes = prompts.cast(pl.String).cast(pl.Categorical).to_physical().to_numpy()
    first = np.full(int(codes.max(initial=0)) + 1, codes.size)
    first[codes[::-1]] = np.arange(codes.size - 1, -1, -1)  # what is written last stays
    order = np.argsort(first)[: int(np.sum(first < codes.size))]
    place = np.zeros(first.size, np.int32)
    place[order] = np.arange(order.size)
    return first[order], place[codes]


def _number(table: pl.DataFrame, role: str) -> pl.Expr:
    """A column as numbers; what is none becomes null."""
    dtype = table.schema[role]
    if isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        words = {"true": "1", "false": "0"}
        text = pl.col(role).cast(pl.String).str.strip_chars().str.to_lowercase().replace(words)
        return text.cast(pl.Float64, strict=False)
    if dtype.is_temporal() or dtype.is_nested():
        return pl.lit(None, pl.Float64).alias(role)
    return pl.col(role).cast(pl.Float64, strict=False)


def _is_finite(value: Any) -> bool:
    return value is not None and bool(np.isfinite(value))
