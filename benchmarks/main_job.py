"""The main job, from an empty cache, beside the commit that its speed is judged against.

Each commit is checked out into a directory of its own, so that nothing is there already, and run by
this interpreter, packages and all; the two take turns. Processor time is that of all processes, as
the system counts it. Wall time means something on an otherwise idle machine only: the load before
each run is written down with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import measure

BASE = "58f68a6"
SENTENCE = (
    "after set-up and with nothing compiled, the main job takes at most .4 of the processor time "
    f"and .3 of the wall time that it took at commit {BASE}"
)
ROOT = Path(__file__).parents[1]
_FEW = 3  # more pairs than that tell nothing new
# What would bring compiled programs, other settings or another checkout into a run.
_FOREIGN = (
    "JAX_COMPILATION_CACHE_DIR",
    "PYTHONPATH",
    "XLA_FLAGS",
    "JAX_DISABLE_MOST_OPTIMIZATIONS",
)


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """A fresh checkout of the commit, which is gone afterwards."""
    with tempfile.TemporaryDirectory() as parent:
        place = Path(parent) / "checkout"
        _git("worktree", "add", "--quiet", "--detach", str(place), commit)
        try:
            yield place
        finally:
            _git("worktree", "remove", "--force", str(place))


def run(commit: str, only: Sequence[str] = ()) -> dict[str, Any]:
    """Processor and wall seconds of one run, the stages' own among them.

    Raises:
        RuntimeError: it did not come out as documented.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
    command = [sys.executable, "-m", "paper_repro", *(["--only", *only] if only else [])]
    with checkout(commit) as place, tempfile.TemporaryFile() as said:
        load, start = os.getloadavg()[0], time.perf_counter()
        process = subprocess.Popen(command, cwd=place, env=environment, stdout=said, stderr=said)
        _, status, usage = os.wait4(process.pid, 0)  # with all processes that it has waited for
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            told = said.read().decode(errors="replace")
            raise RuntimeError(f"{commit} ended with {process.returncode}:\n{told}")
        records = sorted((place / "build" / "repro" / "stages").rglob("*.json"))
        found = [json.loads(path.read_text(encoding="utf-8")) for path in records]
        stages = {each["stage"]: round(each["seconds"], 1) for each in found}
    processor = usage.ru_utime + usage.ru_stime
    return {"cpu_s": processor, "wall_s": wall, "load_before": load, "stages_wall_s": stages}


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and publish."""
    chosen = measure.options(SENTENCE, arguments)
    only = ("claims/uniform_race",) if chosen.quick else ()
    chosen.repeats = 1 if chosen.quick else min(_FEW, chosen.repeats)
    commits = {"base": _git("rev-parse", BASE), "now": _git("rev-parse", "HEAD")}
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in commits}
    for _ in range(chosen.repeats):
        for name, commit in commits.items():
            runs[name].append(run(commit, only))
            print(name, {key: runs[name][-1][key] for key in ("cpu_s", "wall_s")}, file=sys.stderr)
    ratios = {clock: _ratio(runs, clock) for clock in ("cpu_s", "wall_s")}
    return measure.publish(
        "main_job",
        SENTENCE,
        {
            "at most .4 of the processor time": ratios["cpu_s"] <= 0.4,
            "at most .3 of the wall time": ratios["wall_s"] <= 0.3,
        },
        {"commits": commits, "ratios": ratios, "runs": runs},
        chosen,
    )


def _ratio(runs: dict[str, list[dict[str, Any]]], clock: str) -> float:
    """Median over pairs of now over base."""
    pairs = zip(runs["now"], runs["base"], strict=True)
    return median(now[clock] / base[clock] for now, base in pairs)


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
