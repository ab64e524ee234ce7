r"""The Monte Carlo engine against the obvious programs, in candidate draws per second.

Each work is the same process for all: draw 16 candidates per trial, score, keep the winner, and add
up its reward. All works and methods take their turn in each round, so that a minute of other load
on the machine spoils a round of each and no median; medians over the rounds are of wall time, and
of the processor time of all threads. PyTorch and numba are measured where they are installed.

The same again in a process in which XLA, NumPy, PyTorch and numba are held to AVX2, as most
machines have no more. Beside speed: what conditional probabilities, one pass for all n and a second
process gain, memory at :math:`10^9` draws, and whether time is linear in trials.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks import measure
from benchmarks.monte_carlo_peers import CHUNK, PEERS, Work
from simulations.draws.references import discrete_reference, gaussian_reward, uniform_reward
from simulations.engine.conditional import conditional_law
from simulations.engine.curves import all_n
from simulations.engine.simulate import simulate
from simulations.selection.samplers import best_of_n, soft_best_of_n

SENTENCE = (
    "per second on 2 cores, best-of-16 draws 600 M (K = 16), 450 M (K = 256) and "
    "2,000 M (uniform or Gaussian reward) candidates, soft best-of-16 450 M; averaged conditional "
    "probabilities reach 1e-4 on every atom in a tenth of the time; the simulations of all n to "
    "1024 cost at most 3 times the largest n alone; 10⁹ draws need at most 300 MB beside the "
    "interpreter, JAX included; time is linear in trials; two processes on a core each take at "
    "most 1/1.8 of the time of one; with AVX2 alone every one of these is at least 6 times as fast "
    "as the best of NumPy, stock JAX and numba"
)
ROOT = Path(__file__).parents[1]
N = 16
TEMPERATURE = 1.0
WANTED = {  # million draws per second
    "best, K = 16": 600,
    "best, K = 256": 450,
    "best, uniform reward": 2000,
    "best, Gaussian reward": 2000,
    "soft, Gaussian reward": 450,
    "soft, K = 256": 450,
}


def works() -> dict[str, Work]:
    """What is simulated: a law, or None for a continuous reward, and a temperature."""
    rng = np.random.default_rng(20260322)
    laws = {k: (rng.dirichlet(np.ones(k)), rng.normal(size=k)) for k in (16, 256)}
    return {
        "best, K = 16": Work(N, None, *laws[16]),
        "best, K = 256": Work(N, None, *laws[256]),
        "best, uniform reward": Work(N, None, reward="uniform"),
        "best, Gaussian reward": Work(N, None, reward="Gaussian"),
        "soft, Gaussian reward": Work(N, TEMPERATURE, reward="Gaussian"),
        "soft, K = 256": Work(N, TEMPERATURE, *laws[256]),
    }


def sampler(work: Work, n: int = N) -> Any:
    """The same work for the engine."""
    if work.probs is not None and work.rewards is not None:
        reference = discrete_reference(work.probs, work.rewards)
    else:
        reference = uniform_reward() if work.reward == "uniform" else gaussian_reward()
    if work.temperature is None:
        return best_of_n(reference, n)
    return soft_best_of_n(reference, n, work.temperature)


def ours(work: Work) -> Callable[[int], float]:
    """Mean reward of the picks of so many trials."""
    picks = sampler(work)
    return lambda trials: simulate(jax.random.key(0), picks, num_trials=trials).reward.mean


def rates(quick: bool, rounds: int) -> dict[str, dict[str, Any]]:
    """Million candidate draws per second, by work and method."""
    seconds = 0.05 if quick else 0.5
    runs = {
        name: {"ours": ours(work), **{peer: make(work) for peer, make in PEERS.items()}}
        for name, work in works().items()
    }
    clocks = {
        (name, method): Clock(run, trials_in(seconds, run))
        for name, methods in runs.items()
        for method, run in methods.items()
    }
    for _ in range(rounds):
        for clock in clocks.values():
            clock.run_once()
    return {
        name: {method: clocks[name, method].million_draws_per_second() for method in methods}
        for name, methods in runs.items()
    }


def trials_in(seconds: float, run: Callable[[int], float]) -> int:
    """How many trials take about so long, in chunks of the peers."""
    run(2**18)  # compiles
    start = time.perf_counter()
    run(2**18)
    per_trial = (time.perf_counter() - start) / 2**18
    return max(CHUNK, min(2**26, int(seconds / per_trial))) // CHUNK * CHUNK


@dataclass(frozen=True)
class Clock:
    """What runs of so many trials took: wall time, and processor time of all threads."""

    run: Callable[[int], Any]
    trials: int
    walls: list[float] = field(default_factory=list)
    processors: list[float] = field(default_factory=list)

    def run_once(self) -> None:
        """Run and remember."""
        wall, processor = time.perf_counter(), time.process_time()
        self.run(self.trials)
        self.walls.append(time.perf_counter() - wall)
        self.processors.append(time.process_time() - processor)

    def million_draws_per_second(self) -> dict[str, float]:
        """The median by wall time and by processor time, and the fastest."""
        draws = N * self.trials / 1e6
        return {
            "million_per_second": draws / statistics.median(self.walls),
            "fastest_round": draws / min(self.walls),
            "million_per_processor_second": draws / statistics.median(self.processors),
        }


def rates_on_avx2(quick: bool, rounds: int) -> dict[str, Any]:
    """:func:`rates` in a process that uses no AVX-512."""
    from numpy._core import _multiarray_umath as features  # pyright: ignore[reportAttributeAccessIssue]

    wide = [name for name in features.__cpu_dispatch__ if "512" in name or name == "X86_V4"]
    limits = {
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_max_isa=AVX2",
        "NPY_DISABLE_CPU_FEATURES": " ".join(wide),
        "NUMBA_CPU_NAME": "haswell",
        "ATEN_CPU_CAPABILITY": "avx2",
    }
    program = f"""
        import json
        from benchmarks.monte_carlo import rates
        print(json.dumps(rates({quick}, {rounds})))
    """
    return last_line(in_process(program, limits))


def times_the_best(row: dict[str, dict[str, float]]) -> float:
    """Our draws per second over the best of NumPy, stock JAX and numba."""
    peers = [row[name]["million_per_second"] for name in ("numpy", "jax", "numba") if name in row]
    return row["ours"]["million_per_second"] / max(peers)


def conditional(quick: bool, n: int) -> dict[str, float]:
    """Processor time to a standard error of 1e-4 on every atom, K = 16, soft best-of-n."""
    rng = np.random.default_rng(3)
    reference = discrete_reference(rng.dirichlet(np.ones(16)), rng.normal(size=16))
    trials = 2**16 if quick else 2**19

    def plain() -> np.ndarray:
        race = soft_best_of_n(reference, n, TEMPERATURE)
        probs = simulate(jax.random.key(0), race, num_trials=trials).counts / trials
        return probs * (1 - probs)

    def averaged(given: Any) -> np.ndarray:
        result = conditional_law(
            jax.random.key(0), reference, n, TEMPERATURE, num_trials=trials, given=given
        )
        return np.array([each.variance for each in result.law])

    needed = {}
    for name, run in (
        ("plain_picks", plain),
        ("given_candidates", lambda: averaged("candidates")),
        ("given_others", lambda: averaged("others")),
    ):
        run()
        start = time.process_time()
        variance = float(run().max())
        needed[name] = variance / 1e-8 * (time.process_time() - start) / trials
    ratios = {f"ratio_{name}": needed["plain_picks"] / s for name, s in needed.items()}
    return {f"{name}_seconds": s for name, s in needed.items()} | ratios


def every_n(quick: bool) -> dict[str, dict[str, float]]:
    """Processor time of one pass for n = 1, …, 1024 over that of n = 1024 alone."""
    largest = 64 if quick else 1024
    clocks = {}
    for name, work in works().items():
        race = sampler(work, largest)
        trials = 2**18 if name.startswith("best") else 2**16
        for which, run in (("whole", all_n), ("alone", simulate)):

            def once(trials: int, run: Any = run, race: Any = race) -> Any:
                return run(jax.random.key(0), race, num_trials=trials)

            once(trials)  # compiles
            clocks[name, which] = Clock(once, trials)
    for _ in range(1 if quick else 5):
        for clock in clocks.values():
            clock.run_once()

    def seconds(name: str, which: str) -> float:
        return statistics.median(clocks[name, which].processors)

    return {
        name: {
            "ratio": seconds(name, "whole") / seconds(name, "alone"),
            "million_per_processor_second": largest
            * clocks[name, "whole"].trials
            / seconds(name, "whole")
            / 1e6,
        }
        for name in works()
    }


def linearity() -> dict[str, Any]:
    """Processor time over three decades of trials; R² of the straight line."""
    run = ours(works()["best, uniform reward"])
    trials, seconds = [10**5, 10**6, 10**7, 10**8], []
    run(2**21)
    for number in trials:
        durations = []
        for _ in range(5):
            start = time.process_time()
            run(number)
            durations.append(time.process_time() - start)
        seconds.append(statistics.median(durations))
    correlation = float(np.corrcoef(trials, seconds)[0, 1])
    return {"trials": trials, "seconds": seconds, "r_squared": correlation**2}


def in_process(program: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A fresh interpreter in the repository's root, whose last line is JSON."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
    )


def last_line(process: subprocess.Popen[str]) -> Any:
    """What the process printed last."""
    out, _ = process.communicate(timeout=600)
    return json.loads(out.splitlines()[-1])


def memory() -> dict[str, float]:
    """Peak resident memory of 10⁹ draws, over a bare interpreter and over one with JAX ready."""
    return last_line(
        in_process("""
        import json, pathlib, re
        def peak():  # of this process alone; getrusage would count its parent's
            status = pathlib.Path("/proc/self/status").read_text()
            return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 1024
        bare = peak()
        import jax
        from simulations.engine.simulate import simulate
        from simulations.draws.references import gaussian_reward
        from simulations.selection.samplers import soft_best_of_n
        jax.random.key(0).block_until_ready()
        ready = peak()
        race = soft_best_of_n(gaussian_reward(), 16, 1.0)
        simulate(jax.random.key(0), race, num_trials=62_500_000)
        print(json.dumps({"over_interpreter_mb": peak() - bare, "over_jax_mb": peak() - ready}))
        """)
    )


def processes(quick: bool) -> dict[str, Any]:
    """One process on one core against two, which share the trials or know nothing of each other.

    The latter do twice the work: how much faster that is than one after the other is what the
    machine has to give.
    """
    trials = 2**22 if quick else 2**24
    program = """
        import json, os, statistics, time
        os.sched_setaffinity(0, {{{index} % os.cpu_count()}})
        import jax
        if {together}:
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
            jax.distributed.initialize("127.0.0.1:{port}", 2, {index})
        from simulations.engine.simulate import simulate
        from simulations.draws.references import gaussian_reward
        from simulations.selection.samplers import soft_best_of_n
        race = soft_best_of_n(gaussian_reward(), 16, 1.0)
        run = lambda: simulate(jax.random.key(0), race, num_trials={trials})
        run()
        walls, processors = [], []
        for _ in range(9):
            wall, processor = time.perf_counter(), time.process_time()
            run()
            walls.append(time.perf_counter() - wall)
            processors.append(time.process_time() - processor)
        print(json.dumps([statistics.median(walls), statistics.median(processors)]))
    """

    def seconds(count: int, together: bool) -> list[float]:
        """Wall and processor time of the slower process."""
        form = {"together": together, "port": 29_871, "trials": trials}
        started = [in_process(program.format(index=i, **form)) for i in range(count)]
        return [max(both) for both in zip(*map(last_line, started), strict=True)]

    one, two, apart = seconds(1, False), seconds(2, True), seconds(2, False)
    return {
        name: {
            "one_s": one[k],
            "two_s": two[k],
            "ratio": one[k] / two[k],
            "ratio_of_two_apart": 2 * one[k] / apart[k],
        }
        for k, name in enumerate(("wall", "processor"))
    }


def main(arguments: list[str] | None = None) -> dict[str, Any]:
    """Measure and publish."""
    chosen = measure.options(SENTENCE, arguments)
    rounds = 1 if chosen.quick else max(5, chosen.repeats)
    results = {
        "peer_versions": {
            name: metadata.version(name)
            for name in ("torch", "numba")
            if importlib.util.find_spec(name)
        },
        "rates": rates(chosen.quick, rounds),
        "conditional": {f"n = {n}": conditional(chosen.quick, n) for n in (16, 64)},
        "every_n": every_n(chosen.quick),
    }
    if not chosen.quick:
        results |= {
            "rates_on_avx2": rates_on_avx2(chosen.quick, rounds),
            "linearity": linearity(),
            "memory": memory(),
            "processes": processes(chosen.quick),
        }
    holds: dict[str, bool | measure.Target] = {
        f"{name}: {wanted} M draws/s": measure.Target(
            results["rates"][name]["ours"]["million_per_second"], at_least=wanted
        )
        for name, wanted in WANTED.items()
    }
    for name, row in results["conditional"].items():
        holds[f"conditional probabilities, {name}: 10 times"] = measure.Target(
            row["ratio_given_others"], at_least=10
        )
    for name, row in results["every_n"].items():
        holds[f"all n, {name}: 3 times"] = measure.Target(row["ratio"], at_most=3)
    if not chosen.quick:
        for name, row in results["rates_on_avx2"].items():
            holds[f"AVX2, {name}: 6 times the best peer"] = measure.Target(
                times_the_best(row), at_least=6
            )
        memory_mb, apart = results["memory"], results["processes"]["wall"]
        holds["300 MB"] = measure.Target(memory_mb["over_interpreter_mb"], at_most=300)
        holds["linear"] = measure.Target(results["linearity"]["r_squared"], at_least=0.999)
        holds["two processes: 1.8 times"] = measure.Target(apart["ratio"], at_least=1.8)
    return measure.publish("monte_carlo", SENTENCE, holds, results, chosen)


if __name__ == "__main__":
    main()
