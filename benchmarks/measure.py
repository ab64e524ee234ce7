"""What every benchmark shares: a clock, a description of the machine, and the result on disk.

A script states the sentence that it tests, runs as ``python -m benchmarks.<name>`` and writes
``benchmarks/results/<name>.json``; with ``--quick`` it takes smaller sizes and only prints.
Nothing here imports JAX, so that a script can still choose its settings.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from simulations.tools.files import write_atomically

RESULTS = Path(__file__).with_name("results")
PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "quadax", "scorio")


@dataclass(frozen=True)
class Target:
    """A part of a sentence that is a number with a limit.

    Attributes:
        measured: what it came to.
        at_least: the limit, or
        at_most: the limit.
    """

    measured: float
    at_least: float | None = None
    at_most: float | None = None

    @property
    def holds(self) -> bool:
        """Whether the limit is kept; NaN keeps none.

        >>> Target(2.9, at_least=3).holds, Target(2.9, at_most=3).holds
        (False, True)
        """
        above = self.at_least is None or self.measured >= self.at_least
        return above and (self.at_most is None or self.measured <= self.at_most)


def options(sentence: str, arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line that all scripts understand: ``--quick``, ``--output``, ``--repeats``."""
    parser = argparse.ArgumentParser(description=sentence)
    parser.add_argument("--quick", action="store_true", help="small sizes; print, write nothing")
    parser.add_argument("--output", type=Path, help="where to write instead of benchmarks/results")
    parser.add_argument("--repeats", type=int, default=5, help="runs of which the median is taken")
    return parser.parse_args(arguments)


def seconds(function: Callable[[], Any], *, repeats: int) -> float:
    """Median wall time of ``function()``; it must wait for its own result."""
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        durations.append(time.perf_counter() - start)
    return statistics.median(durations)


def machine() -> dict[str, Any]:
    """CPU model, its vector units, cores, memory and how busy the machine is while we measure."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    if named := re.search(r"model name\s*:\s*(.+)", text):
        model = named[1]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": model,
        "vector_units": vector_units(text, os.environ.get("XLA_FLAGS", "")),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": round(os.getloadavg()[0], 2),
    }


def vector_units(cpuinfo: str, xla_flags: str = "") -> str:
    """Widest vector instructions of the machine, and what XLA was told to do without.

    >>> vector_units("flags : fma avx avx2 avx512f", "--xla_cpu_max_isa=AVX2")
    'AVX-512, XLA at most AVX2'
    """
    names = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "asimd": "NEON", "sse2": "SSE2"}
    present = set(re.findall(r"\w+", cpuinfo))
    units = next((name for flag, name in names.items() if flag in present), "unknown")
    limit = re.search(r"xla_cpu_max_isa=(\w+)", xla_flags)
    return units + (f", XLA at most {limit[1]}" if limit else "")


def versions() -> dict[str, str]:
    """Python and the packages that a result depends on."""
    installed = {name for name in PACKAGES if importlib.util.find_spec(name)}
    found = {name: metadata.version(name) for name in PACKAGES if name in installed}
    return {"python": platform.python_version()} | found


def publish(
    name: str,
    sentence: str,
    holds: Mapping[str, bool | Target],
    results: dict[str, Any],
    chosen: argparse.Namespace,
) -> dict[str, Any]:
    """Print the results and, unless quick, write them with machine, versions and command.

    ``holds`` says, part by part, whether the sentence is true of what was measured. A target is
    written with its number and its limit, and one that is not reached is repeated as missed.
    """
    targets = {part: found for part, found in holds.items() if isinstance(found, Target)}
    document = {
        "sentence": sentence,
        "holds": {
            part: found if isinstance(found, bool) else found.holds for part, found in holds.items()
        },
        "targets": {part: asdict(target) for part, target in targets.items()},
        "missed": {part: target.measured for part, target in targets.items() if not target.holds},
        "command": f"python -m benchmarks.{name}" + (" --quick" if chosen.quick else ""),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions(),
        "repeats": chosen.repeats,
        "results": results,
    }
    text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    print(text, end="")
    path = chosen.output or (None if chosen.quick else RESULTS / f"{name}.json")
    if path:
        write_atomically(path, text)
    return document
