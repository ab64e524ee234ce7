"""What the commands of ``bon-theory`` take, and how what is wrong with it is said."""

from __future__ import annotations

import functools
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bon_theory.cli.output import say, working
from bon_theory.cli.scores import Columns, ScoreFile, read_scores
from bon_theory.cli.text import visible

File = Annotated[
    str, typer.Argument(help="CSV, JSONL, Parquet, NPZ, inspect or lm-eval; - reads stdin.")
]
Prompt = Annotated[str | None, typer.Option("--prompt", help="Column that names the prompt.")]
Score = Annotated[str | None, typer.Option("--score", help="Column that selects.")]
True_ = Annotated[str | None, typer.Option("--true", help="Column of the score that counts.")]
LogProb = Annotated[
    str | None, typer.Option("--log-prob", help="Column of answers' log-probabilities, in nats.")
]
Weight = Annotated[
    str | None, typer.Option("--weight", help="Column of how much a prompt counts in means.")
]
Ties = Annotated[
    Literal["half", "win", "loss"], typer.Option("--ties", help="What a tie counts in win rates.")
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
            raise typer.Exit(130) from None  # as a shell says of what Ctrl-C ended
        except (ValueError, OSError, MemoryError) as error:
            say(f"error: {visible(' '.join(str(error).split())) or type(error).__name__}")
            raise typer.Exit(2) from None

    return wrapped


def read(
    file: str,
    prompt: str | None,
    score: str | None,
    true: str | None,
    log_prob: str | None,
    where: Sequence[str] | None,
    drop_missing: bool,
    at_least: int,
    cluster: str | None = None,
    weight: str | None = None,
    only_named: Sequence[str] = (),
) -> ScoreFile:
    """The scores of a file, by the columns that were named."""
    columns = Columns(prompt, score, true, log_prob, cluster, weight, only_named)
    with working("reading") as sign:
        return read_scores(
            file,
            columns,
            where=where or (),
            drop_missing=drop_missing,
            at_least=at_least,
            progress=lambda share: sign.update(f"reading {share:.0%}"),
        )


def whole_numbers(text: str | None, most: int) -> list[int]:
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


def floats(name: str, text: str) -> list[float]:
    """``0.1,0.5``; ``name`` is the option's."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise ValueError(f"{name} must be numbers as 0.1,0.5, got {visible(text)[:80]}")
    return values
