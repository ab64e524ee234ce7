"""The main job, from an empty cache, beside the commit that its speed is judged against.

Each commit is checked out into a directory of its own, so that nothing is there already, and run by
this interpreter, packages and all; the two take turns. Processor time is that of all processes, as
the system counts it. Wall time means something on an otherwise idle machine only: the load before
each run is written down with it.

Since that commit the job has learnt more: its language model is another, and experiments on it and
on real answers came along. So it is measured twice: as a whole, and what both do but for their
language models.
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
    "after set-up and with nothing compiled, what the main job did at commit "
    f"{BASE} but for its language model takes at most .4 of the processor time and .3 of the wall "
    "time, and so does the whole"
)
ROOT = Path(__file__).parents[1]
OF_BOTH = (
    "claims",
    "checks",
    "bounds",
    "figures/win_rate_frontier",
    "figures/reward_frontier",
    "figures/convergence_rate",
    "figures/ties",
    "figures/families",
    "figures/choosing",
    "figures/hedging",
    "figures/bounds",
    "figures/sequences",
    "figures/bonbon",
    "figures/readme",
)
_QUICK = (("claims/uniform_race", "figures/ties"), ("figures/ties",), ("claims/uniform_race",))
CLOCKS = ("cpu_s", "wall_s")
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
    chosen.repeats = 1 if chosen.quick else min(_FEW, chosen.repeats)
    commits = {"base": _git("rev-parse", BASE), "now": _git("rev-parse", "HEAD")}
    whole, model, shared = _QUICK if chosen.quick else ((), ("language-model",), OF_BOTH)
    parts: dict[str, tuple[str, Sequence[str]]] = {
        "base": ("base", whole),
        "now": ("now", whole),
        "base: language model": ("base", model),
        "now: what both do": ("now", shared),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in parts}
    for _ in range(chosen.repeats):
        for name, (which, only) in parts.items():
            runs[name].append(run(commits[which], only))
            print(name, {key: runs[name][-1][key] for key in CLOCKS}, file=sys.stderr)
    spent = {
        clock: {name: median(each[clock] for each in found) for name, found in runs.items()}
        for clock in CLOCKS
    }
    ratios = {
        clock: {
            "whole": each["now"] / each["base"],
            # Before, stages ran one after the other, so that each has its own share of the whole.
            "what both do": each["now: what both do"]
            / (each["base"] - each["base: language model"]),
        }
        for clock, each in spent.items()
    }
    return measure.publish(
        "main_job",
        SENTENCE,
        {
            f"{part}: at most .{tenths} of the {clock}": measure.Target(
                ratios[key][part], at_most=tenths / 10
            )
            for part in ("what both do", "whole")
            for clock, key, tenths in (("processor time", "cpu_s", 4), ("wall time", "wall_s", 3))
        },
        {"commits": commits, "ratios": ratios, "runs": runs},
        chosen,
    )


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
