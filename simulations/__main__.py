"""``python -m simulations check``: every selection law against its process, as a table.

Exit status 1 if a law is rejected, or if an error that was planted goes unnoticed.
``python -m simulations language-model`` is in :mod:`simulations.language_model.command`,
``python -m simulations align`` in :mod:`simulations.alignment.user`.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from simulations.experiments import theory_checks
from simulations.experiments.theory_checks import (
    TheoryChecksConfig,
    TheoryChecksOutcome,
    TheoryChecksResults,
)
from simulations.tools.files import write_atomically
from simulations.tools.progress import Display, progress_bar


def main(arguments: list[str] | None = None) -> int:
    """Run the matrix, print the table, save it; see ``python -m simulations check --help``."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["language-model"]:
        from simulations.language_model import command  # what only it needs takes seconds to import

        return command.main(arguments[1:])
    if arguments[:1] == ["align"]:
        from simulations.alignment import user

        return user.main(arguments[1:])
    parser = argparse.ArgumentParser(prog="python -m simulations", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("language-model", help="a model that converses answers; see its --help")
    commands.add_parser("align", help="a model of your own with its best-of-n; see its --help")
    made = {
        "pool": (
            _making(commands, "pool", "256 answers of a real model to each of 64 instructions"),
            make_pool,
        ),
        "blocks": (
            _making(commands, "blocks", "its answers to 16 of them, selected block by block"),
            select_blocks,
        ),
        "align-real": (
            _making(commands, "align-real", "the real model trained on the best of 8 answers"),
            align_real_model,
        ),
    }
    align_real = made["align-real"][0]
    align_real.add_argument(
        "--all-parameters",
        action="store_true",
        help="not a change of low rank; in bfloat16, which is for an accelerator",
    )
    align_real.add_argument("--all-methods", action="store_true", help="seven losses, not three")
    check = commands.add_parser("check", help="every selection law against its process")
    check.add_argument("--quick", action="store_true", help="one-sided errors, no single atoms")
    check.add_argument("--only", default="", help="cases whose name contains this text")
    check.add_argument("--seed", type=int, default=20240602)
    check.add_argument("--output", type=Path, default=Path("out") / "simulations")
    chosen = parser.parse_args(arguments)
    if chosen.command in made:
        options = vars(chosen)
        command, make = made[options.pop("command")]
        if options.get("all_parameters") and chosen.output == command.get_default("output"):
            # Another file: neither kind of training replaces what the other has found.
            chosen.output = chosen.output.with_stem(chosen.output.stem + "_all_parameters")
        seeds = chosen.seed if isinstance(chosen.seed, list) else [chosen.seed]
        if min(seeds) < 0 or max(seeds) >= 2**32 or len(set(seeds)) < len(seeds):
            command.error(f"--seed must be in [0, 2^32), no two alike, got {seeds}")
        if chosen.output.is_dir():  # before the minutes that the run takes
            command.error(f"--output must be a file, got the folder {chosen.output}: name one")
        try:
            return make(**options)
        except ValueError as error:
            command.error(str(error))
    return run_checks(chosen, check)


_MADE: dict[str, tuple[str, int | list[int]]] = {  # where, and with which seed or seeds
    "pool": ("pool.parquet", 20261126),
    "blocks": ("blocks.json", 20261126),
    "align-real": ("alignment.json", [20261127]),
}


def _making(commands: Any, name: str, what: str) -> argparse.ArgumentParser:
    """The command that makes a file with the real model, and keeps what was done beside it."""
    file, seed = _MADE[name]
    output = Path("out") / file
    command: argparse.ArgumentParser = commands.add_parser(name, help=what)
    several = "+" if isinstance(seed, list) else None
    command.add_argument("--seed", type=int, default=seed, nargs=several)
    command.add_argument("--output", type=Path, default=output)
    command.add_argument(
        "--checkpoint", type=Path, default=output.with_suffix(""), help="folder of what was done"
    )
    return command


def make_pool(seed: int, output: Path, checkpoint: Path) -> int:
    """Draw and score the answers of SmolLM2 and write them, about an hour on two cores."""
    from simulations.experiments import response_pool  # which imports what only it needs
    from simulations.language_model.real_model import smollm2

    model, tokenizer = smollm2()
    with progress_bar("answering", unit="answers") as progress:
        answers = response_pool.run(
            response_pool.ResponsePoolConfig(),
            jax.random.key(seed),
            model,
            tokenizer,
            response_pool.instructions(),
            checkpoint=checkpoint,
            progress=progress,
        )
    write_atomically(output, lambda file: answers.write_parquet(file, compression_level=19))
    print(f"{output}: {len(answers):,} answers, {output.stat().st_size / 1e6:.1f} MB")
    return 0


def select_blocks(seed: int, output: Path, checkpoint: Path) -> int:
    """Select SmolLM2's answers block by block as they are drawn, a quarter of an hour."""
    from simulations.experiments import block_selection, response_pool
    from simulations.language_model.real_model import smollm2
    from simulations.language_model.rewards.tokens import lexicon
    from simulations.language_model.text.chat import chat_prompts

    model, tokenizer = smollm2()
    chats = [[{"role": "user", "content": text}] for text in response_pool.instructions()[:16]]
    with progress_bar("selecting", unit="cases") as progress:
        results = block_selection.run(
            block_selection.BlockSelectionConfig(
                numbers=(4,), block_lengths=(1, 2, 4, 8, 16, 32), max_new_tokens=32
            ),
            jax.random.key(seed),
            model,
            chat_prompts(chats, tokenizer),
            lexicon(tokenizer),
            checkpoint=checkpoint,
            progress=progress,
        )
    write_atomically(output, json.dumps(results.to_json(), indent=1) + "\n")
    print(f"{output}: reward by length of block {results.reward.value[0].round(2).tolist()}")
    return 0


def align_real_model(
    seed: list[int], output: Path, checkpoint: Path, *, all_parameters: bool, all_methods: bool
) -> int:
    """Train SmolLM2 by several losses on pairs of the pool's answers, hours on two cores.

    What has been found is written after each of them, and each seed.
    """
    from simulations.experiments import real_alignment, real_pool
    from simulations.language_model.real_model import smollm2

    config = real_alignment.ALL_PARAMETERS if all_parameters else real_alignment.LOW_RANK
    if all_methods:
        methods = real_alignment.METHODS + real_alignment.FURTHER_METHODS
        config = dataclasses.replace(config, methods=methods)
    model, tokenizer = smollm2(dtype="bfloat16" if all_parameters else "float32")
    pool, start, policies = real_pool.load_pool(), time.perf_counter(), ()
    with Display() as display, display.running("aligning", unit="") as progress:
        for index, number in enumerate(seed):
            before = policies
            for results in real_alignment.run(
                config,
                jax.random.key(number),
                model,
                tokenizer,
                pool,
                seed=index,
                folder=checkpoint,
                progress=progress,
            ):
                policies = before + results.policies
                dataclasses.replace(results, policies=policies).save(output)
                last, seconds = policies[-1], time.perf_counter() - start
                found = f"win rate {last.found.win_rate.mean:.3f}, KL {last.found.kl.mean:.2f}"
                print(f"{output}: {last.method}, {found}, {seconds:.0f} s", flush=True)
    return 0


def run_checks(chosen: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """The matrix of checks that the arguments ``chosen`` ask for; the exit status."""
    full = theory_checks.DEFAULT if chosen.quick else theory_checks.two_sided(theory_checks.DEFAULT)
    cases = tuple(case for case in full.cases if chosen.only in case.name)
    if not cases:
        parser.error(
            f"--only must match a case, got {chosen.only!r}: try 'soft', 'tied' or 'sequence'"
        )
    config = dataclasses.replace(full, cases=cases)

    if not 0 <= chosen.seed < 2**63:
        parser.error(f"--seed must be in [0, 2^63), got {chosen.seed}")
    try:
        chosen.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:  # before the minutes that the run takes
        parser.error(f"--output must be a folder, got {chosen.output}: {error.strerror}")

    console, start = Console(), time.perf_counter()
    done = itertools.count()
    with jax.enable_x64(True), progress_bar("checking", unit="cases") as progress:
        results = theory_checks.run(
            config,
            jax.random.key(chosen.seed),
            progress=lambda name: progress(next(done), len(cases)),
        )
        progress(len(cases), len(cases))
    seconds = time.perf_counter() - start

    console.print(table(results))
    console.print(verdict(results, config, seconds))
    found = json.dumps(record(results, config, chosen.seed, seconds), indent=1, ensure_ascii=False)
    write_atomically(chosen.output / "checks.json", found + "\n")
    text = io.StringIO()
    plain = Console(file=text, width=140)
    plain.print(table(results))
    plain.print(verdict(results, config, seconds))
    write_atomically(chosen.output / "checks.txt", text.getvalue())
    console.print(f"saved in {chosen.output}")
    return 0 if results.passed else 1


def table(results: TheoryChecksResults) -> Table:
    """One row per case: smallest p-value of its checks, largest of what was planted."""
    rows = Table(title="Exact laws against the processes they describe")
    rows.add_column("case", ratio=1)
    for name in ("trials", "smallest p", "planted, rejected"):
        rows.add_column(name, justify="right", no_wrap=True)
    rows.add_column("verdict", no_wrap=True)
    for outcome in results.outcomes:
        rejected = [c for c in outcome.planted if c.p_value <= results.report.threshold]
        rows.add_row(
            outcome.case.name,
            f"{outcome.simulation.num_trials:,}",
            f"{min(check.p_value for check in outcome.checks):.2g}",
            f"{len(rejected)} of {len(outcome.planted)}",
            "passed" if _passed(outcome, results) else "FAILED",
        )
    return rows


def verdict(results: TheoryChecksResults, config: TheoryChecksConfig, seconds: float) -> str:
    """The report in a sentence."""
    planted = sum(len(outcome.planted) for outcome in results.outcomes)
    return (
        f"{len(results.report.checks)} checks with a family-wise false-alarm rate of "
        f"{config.false_alarm:g}: {len(results.report.rejected)} rejected. {planted} planted "
        f"errors: {len(results.missed)} missed. {seconds:.0f} s."
    )


def record(
    results: TheoryChecksResults, config: TheoryChecksConfig, seed: int, seconds: float
) -> dict[str, Any]:
    """The report as JSON."""
    return {
        "seed": seed,
        "false_alarm": config.false_alarm,
        "threshold": results.report.threshold,
        "passed": results.passed,
        "rejected": [check.name for check in results.report.rejected],
        "missed": [check.name for check in results.missed],
        "seconds": round(seconds, 1),
        "cases": [
            {
                "case": outcome.case.name,
                "trials": outcome.simulation.num_trials,
                "checks": [dataclasses.asdict(check) for check in outcome.checks],
                "planted": [dataclasses.asdict(check) for check in outcome.planted],
            }
            for outcome in results.outcomes
        ],
    }


def _passed(outcome: TheoryChecksOutcome, results: TheoryChecksResults) -> bool:
    threshold = results.report.threshold
    return all(check.p_value > threshold for check in outcome.checks) and all(
        check.p_value <= threshold for check in outcome.planted
    )


if __name__ == "__main__":
    raise SystemExit(main())
