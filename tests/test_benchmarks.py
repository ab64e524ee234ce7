"""Benchmarks measure what they say: peers are right, and results say where they are from."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

import bon_theory as bt
from benchmarks import (
    accelerator,
    accelerator_models,
    exact_soft_best_of_n,
    large_support,
    main_job,
    measure,
    monte_carlo,
    sampling,
)
from benchmarks.monte_carlo_peers import PEERS
from simulations.language_model.transformer import Transformer

ROOT = Path(__file__).parents[1]
COMMITTED = sorted(measure.RESULTS.glob("*.json"))


def small_problem() -> tuple[bt.Policy, np.ndarray]:
    reference = bt.Policy.from_probs([0.4, 0.3, 0.2, 0.1], rewards=[0.0, 0.3, 0.3, 1.0])
    return reference, np.asarray(bt.soft_best_of_n(reference, 5, 0.4).probs)


def test_the_simulated_peer_follows_the_exact_law():
    reference, law = small_problem()
    trials = 200_000
    counts = exact_soft_best_of_n.simulate(np.random.default_rng(0), reference, 5, 0.4, trials)
    assert counts.sum() == trials
    # χ² with 3 degrees of freedom exceeds 30 once in 700,000 runs if all is right.
    chi_squared = float(np.sum((counts - trials * law) ** 2 / (trials * law)))
    assert chi_squared < 30
    # Power: the law of six candidates is rejected.
    wrong = np.asarray(bt.soft_best_of_n(reference, 6, 0.4).probs)
    assert np.sum((counts - trials * wrong) ** 2 / (trials * wrong)) > 100


def test_the_trials_needed_give_the_accuracy_wanted():
    _, law = small_problem()
    trials = exact_soft_best_of_n.trials_needed(law, 0.01)
    counts = np.random.default_rng(0).multinomial(trials, law, size=1000)
    total_variation = 0.5 * np.abs(counts / trials - law).sum(axis=1)
    # The spread over runs is below the mean, so the mean of 1000 is good to 3 %; five of those.
    assert total_variation.mean() == pytest.approx(0.01, rel=0.15)


def test_the_float64_peer_of_large_supports_counts_ties():
    rewards = np.random.default_rng(0).integers(0, 40, size=500).astype(float)
    reference = bt.Policy.from_samples(rewards)
    kl = bt.kl_divergence(bt.best_of_n(reference, 64), reference)
    assert large_support.exact_best_of_n_kl(rewards, 64) == pytest.approx(float(kl), rel=1e-12)


def test_the_peak_memory_counts_what_was_held_and_dropped():
    program = """
import numpy as np
from benchmarks.large_support import peak_memory_gib
before = peak_memory_gib()
np.ones(2**28 // 8).sum()
print(peak_memory_gib() - before)
"""
    command = [sys.executable, "-c", program]
    grown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert 0.24 < float(grown) < 0.5  # a quarter of a GiB


def test_a_result_says_where_it_is_from(tmp_path: Path):
    chosen = measure.options("A sentence.", ["--output", str(tmp_path / "new" / "x.json")])
    written = measure.publish("x", "A sentence.", {"so": True}, {"seconds": 0.5}, chosen)
    assert json.loads((tmp_path / "new" / "x.json").read_text()) == written
    assert written["command"] == "python -m benchmarks.x"
    assert written["machine"]["cores"] >= 1
    assert written["versions"].keys() >= {"python", "jax", "numpy"}
    assert [path.name for path in tmp_path.rglob("*.*")] == ["x.json"]


def test_a_quick_run_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(measure, "RESULTS", tmp_path)
    measure.publish("x", "A sentence.", {}, {}, measure.options("A sentence.", ["--quick"]))
    assert list(tmp_path.iterdir()) == []


def test_the_median_of_several_runs_is_taken():
    naps = iter([0.0, 0.0, 0.2])

    def nap() -> None:
        time.sleep(next(naps))

    assert measure.seconds(nap, repeats=3) < 0.1


def untrue(document: dict[str, Any]) -> set[str]:
    """Parts that are said to hold and do not, and those that do not hold without saying so."""
    targets = {
        part: measure.Target(**numbers) for part, numbers in document.get("targets", {}).items()
    }
    missed = {part: target.measured for part, target in targets.items() if not target.holds}
    said = {part for part, holds in document["holds"].items() if not holds}
    return said ^ missed.keys() | {
        part
        for part in missed | document.get("missed", {})
        if missed.get(part) != document.get("missed", {}).get(part)
    }


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.name)
def test_a_committed_result_is_of_the_full_size_and_true(path: Path):
    """What it says holds, or is missed by a number that is told."""
    document = json.loads(path.read_text(encoding="utf-8"))
    assert document["command"] == f"python -m benchmarks.{path.stem}"
    assert untrue(document) == set()


def test_a_missed_target_is_told_with_its_number(capsys: pytest.CaptureFixture[str]):
    chosen = measure.options("A sentence.", ["--quick"])
    holds = {"twice": measure.Target(1.9, at_least=2), "soon": measure.Target(1.0, at_most=5)}
    document = measure.publish("x", "A sentence.", {"so": True, **holds}, {}, chosen)
    assert json.loads(capsys.readouterr().out) == document
    assert document["holds"] == {"so": True, "twice": False, "soon": True}
    assert document["missed"] == {"twice": 1.9}
    assert untrue(document) == set()
    # Each of these claims what is not so.
    assert untrue(document | {"holds": {"so": True, "twice": True, "soon": True}}) == {"twice"}
    assert untrue(document | {"holds": {"so": False, "twice": False, "soon": True}}) == {"so"}
    assert untrue(document | {"missed": {"twice": 2.1}}) == {"twice"}
    assert untrue(document | {"missed": {}}) == {"twice"}
    assert not measure.Target(float("nan"), at_least=2).holds


@pytest.mark.parametrize("name", ["best, K = 16", "soft, Gaussian reward"])
def test_the_peers_of_the_monte_carlo_engine_simulate_the_same(name):
    work, trials = monte_carlo.works()[name], 2**16
    means = [monte_carlo.ours(work)(trials)]
    means += [PEERS[peer](work)(trials) for peer in ("numpy", "jax")]
    # The reward of a pick has a standard deviation below 1: six errors of a difference.
    assert np.ptp(means) < 6 * np.sqrt(2 / trials)
    assert abs(means[0] - PEERS["numpy"](replace(work, n=8))(trials)) > 12 * np.sqrt(2 / trials)


@pytest.mark.parametrize(
    ("flags", "xla_flags", "units"),
    [
        ("flags : sse2 avx avx2 avx512f avx512bw", "", "AVX-512"),
        ("flags : sse2 avx avx2", "", "AVX2"),
        ("flags : sse2 avx avx2 avx512f", "--xla_cpu_max_isa=AVX2 --other=1", "AVX-512, XLA at "),
        ("Features : fp asimd evtstrm", "", "NEON"),
        ("", "", "unknown"),
    ],
)
def test_a_result_names_the_vector_units_of_its_machine(flags, xla_flags, units):
    assert measure.vector_units(flags, xla_flags).startswith(units)
    assert measure.machine()["vector_units"]


def test_the_factor_over_peers_is_over_the_best_of_three():
    row = {
        name: {"million_per_second": rate}
        for name, rate in {"ours": 600.0, "numpy": 50.0, "jax": 100.0, "torch": 300.0}.items()
    }
    assert monte_carlo.times_the_best(row) == 6


def test_the_main_job_is_timed_in_turns_as_a_whole_and_in_what_both_commits_do(
    monkeypatch: pytest.MonkeyPatch,
):
    """The second ratio leaves both language models out."""
    turns = []
    seconds = {"base": 700.0, "now": 350.0, "base: language model": 50.0, "now: shared": 130.0}

    def run(commit: str, only: Sequence[str]) -> dict[str, float]:
        part = {"language-model": ": language model", "claims": ": shared"}
        name = commit + part.get(only[0] if only else "", "")
        turns.append(name)
        return {"cpu_s": seconds[name] + len(turns) // 5, "wall_s": seconds[name] / 2}

    monkeypatch.setattr(main_job, "run", run)
    commits = {main_job.BASE: "base", "HEAD": "now"}
    monkeypatch.setattr(main_job, "_git", lambda *arguments: commits[arguments[-1]])
    monkeypatch.setattr(measure, "publish", lambda *published: published)
    published: Any = main_job.main(["--repeats", "2"])
    name, _, holds, results, _ = published
    assert (name, turns) == ("main_job", list(seconds) * 2)
    assert results["ratios"]["wall_s"] == {"whole": 0.5, "what both do": 0.2}
    assert results["ratios"]["cpu_s"]["whole"] == 350.5 / 700.5
    assert [target.holds for target in holds.values()] == [True, True, False, False]


@pytest.mark.slow
def test_the_accelerator_benchmark_runs_without_one(capsys: pytest.CaptureFixture[str]):
    """One command, at tiny sizes: all six parts, with the counts of the processor."""
    # Flax's layers promote bfloat16 by themselves.
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        document = accelerator.main(["--quick"])
    assert json.loads(capsys.readouterr().out) == document
    results = document["results"]
    assert results["device"]["platform"] == jax.devices()[0].platform
    assert results["exact_pairs"]["largest_difference_from_processor"] < 1e-12
    assert set(results["trials_counted_elsewhere"].values()) == {0}
    assert results["integer"]["share"] > 0
    assert "flax" in results["missing"] or results["tokens"]["sampled_per_second"] > 0
    assert "flax" in results["missing"] or results["models"]["tiny"]["ours"]["decoded_per_s"] > 0


def test_a_part_that_fails_on_an_accelerator_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is told as failed; an interruption ends the run, and what was measured is told."""
    ran = []

    def parts(*, quick: bool):
        rates = {"best, K = 16": {"ours": 2.0, "torch": 1.0}}
        return {
            "million_draws_per_second": lambda: ran.append("draws") or rates,
            "integer": lambda: 1 / 0,
            "trials_counted_elsewhere": lambda: {"best, K = 16": 0},
            "tokens": stop,
            "models": lambda: ran.append("models"),
        }

    def stop():
        raise KeyboardInterrupt

    monkeypatch.setattr(accelerator, "parts", parts)
    monkeypatch.setattr(measure, "RESULTS", tmp_path / "committed")
    monkeypatch.chdir(tmp_path)
    document = accelerator.main([])
    assert ran == ["draws"]
    assert not (tmp_path / "committed").exists()
    assert json.loads((tmp_path / "out" / "accelerator.json").read_text()) == document
    assert list(document["results"]["failed"]) == ["integer", "tokens"]
    assert document["targets"]["best, K = 16: times its fastest peer"]["measured"] == 2.0
    assert "ZeroDivisionError" in document["results"]["failed"]["integer"]
    assert document["holds"] == {
        "integer: measured": False,
        "tokens: measured": False,
        "best, K = 16: times its fastest peer": True,
        "best, K = 16: counts of the processor": True,
    }


@pytest.mark.slow
def test_models_on_an_accelerator_are_timed_at_tiny_sizes():
    """Rates and shares are of each other; the larger shape has the parameters of its name."""
    [size] = accelerator_models.QUICK.values()
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        peak = accelerator_models.yardsticks(64, 1)
        ours = accelerator_models.ours(size, peak)
        shapes = jax.eval_shape(
            lambda: nnx.state(Transformer(accelerator_models.PYTHIA, rngs=nnx.Rngs(0)))
        )
    assert all(value > 0 for value in (*ours.values(), *peak.values()))
    operations = 2 * ours["parameters"] * ours["decoded_per_s"]
    share = ours["share_of_products_decoding"]
    assert operations / peak["products_per_s"] == pytest.approx(share)
    assert size.config.dtype == "bfloat16"
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == pytest.approx(1.41e9, rel=0.01)


@pytest.mark.slow
def test_the_share_of_matrix_products_counts_what_passes_through_the_model():
    """At a tiny size: what is reported is consistent, and programs say what they take."""
    found = sampling.share_of_matrix_products(sampling.TINY, (2, 4), 3, 1)
    through = 8 * 2 + 2 * sampling.PROMPT
    operations = 2 * found["parameters"] * through  # all but norms are matrices, the head tied
    rate = operations / found["cost"]["wall_s"] / 1e9
    assert found["share"]["wall_s"] == pytest.approx(
        rate / found["gigaflops_of_products"]["wall_s"]
    )
    assert found["tokens_per_s"]["wall_s"] == pytest.approx(24 / found["cost"]["wall_s"])
    programs = sampling.programs(sampling.TINY, (2, 4), 3)
    assert all(p["compilation_processor_s"] > 0 for p in programs.values())
