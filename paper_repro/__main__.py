"""The main job: claims, Monte Carlo checks, language model, figures, report."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console

from paper_repro.papers import ledger
from paper_repro.pipeline import runner
from paper_repro.pipeline.runner import Finished
from paper_repro.pipeline.stages import Stage, stages
from paper_repro.pipeline.workers import Crew, cores
from paper_repro.report import page as report
from paper_repro.report import terminal
from paper_repro.report.summary import Summary, summarise
from simulations.tools.files import write_atomically
from simulations.tools.progress import Display

DEFAULT_OUTPUT = Path("build") / "repro"
COMPILED = Path("build") / "compiled"
_WIDTH = 110
INTERRUPTED = 130  # what a shell reports for a program ended by Ctrl-C


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the main job.

    Returns:
        0 if everything came out as documented; 1 if a claim differs though no difference is
        documented, or a check or a stage failed; 2 for arguments that make no sense; 130 when
        interrupted.
    """
    options = _parse(arguments)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)  # a file or a pipe has no width of its own
    planned = stages(options.profile)
    try:
        runner.selected(planned, options.only)
        options.output.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"paper_repro: error: {error}", file=sys.stderr)
        return 2

    try:
        with Display(console) as display:
            crew = Crew(options.processes or cores(), options.output)
            finished = runner.run(planned, crew, display, only=options.only)
    except KeyboardInterrupt:
        console.print("Interrupted. Finished stages are kept; run the same command to go on.")
        return INTERRUPTED
    return _conclude(console, options.profile, options.output, planned, finished)


def _conclude(
    console: Console,
    profile: str,
    output: Path,
    planned: Sequence[Stage],
    finished: Finished,
) -> int:
    summary: Summary = summarise(profile, planned, finished.records, finished.failures)
    write_atomically(output / ledger.NAME, summary.ledger.to_json())
    page = output / "report.html"
    write_atomically(page, report.render(summary, output))
    terminal.show(console, summary, page)
    for name, trace in finished.failures.items():
        console.print(f"Failed: {name}\n{trace}", markup=False, highlight=False, soft_wrap=True)
    return 0 if summary.passed else 1


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m paper_repro",
        description="Hold the papers' claims against exact theory; write figures and a report.",
        epilog="Interrupt it at any time: the same command goes on from the last finished stage.",
    )
    parser.add_argument(
        "--profile", choices=("quick", "full"), default="quick", help="default: quick"
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        metavar="DIR",
        help="where everything is written; default: %(default)s",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=(),
        metavar="STAGE",
        help="claims, checks, language-model, figures, or one of them such as figures/ties",
    )
    parser.add_argument(
        "--processes",
        type=int,
        metavar="N",
        help="stages run at a time; default: as many as there are cores and memory for",
    )
    options = parser.parse_args(arguments)
    if options.processes is not None and options.processes < 1:
        parser.error(f"--processes must be at least 1, got {options.processes}")
    return options


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Compiled programs are kept, so that going on after an interrupt is quick.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(COMPILED.resolve()))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")
    signal.signal(signal.SIGTERM, _interrupt)  # a terminated run leaves no half file either
    sys.exit(main())
