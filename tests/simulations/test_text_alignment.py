"""Every method on one model's candidates: saved, read, averaged, and gone on with."""

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

from paper_repro.papers.bonbon_alignment import small_model
from simulations.alignment.evaluation import HeldOutPrompts
from simulations.alignment.training import AlignmentConfig, Objective
from simulations.experiments.text_alignment import (
    BASELINES,
    FULL,
    SWEEPS,
    TextAlignmentConfig,
    run,
)
from simulations.experiments.text_policies import TextAlignmentResults
from simulations.language_model.architecture import TransformerConfig
from simulations.language_model.text.tokenizers import Vocabulary
from simulations.language_model.train import TrainingConfig

SMALL = TextAlignmentConfig(
    pretraining=TrainingConfig(
        TransformerConfig(Vocabulary.plain(300), width=16, num_layers=1),
        num_steps=2,
        batch_size=2,
        window=16,
        learning_rate=1e-3,
        matrix_learning_rate=2e-2,
        warmup_steps=1,
        num_parts=1,
        pair_steps=20,
        counted_share=0.0,
    ),
    tasks=("known words",),
    methods=(BASELINES[1], SWEEPS[0]),
    num_seeds=2,
    num_prompts=8,
    num_held_out=4,
    num_judging=8,
    num_responses=4,
    max_new_tokens=8,
    alignment=AlignmentConfig(
        Objective(), num_steps=4, batch_size=8, learning_rate=1e-3, evaluate_at=(2, 4)
    ),
)


def found(folder: Path) -> TextAlignmentResults:
    return run(SMALL, jax.random.key(1), jax.random.key(2), checkpoint_dir=folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def results(folder: Path) -> TextAlignmentResults:
    return found(folder)


@pytest.mark.slow
def test_every_method_is_evaluated_for_every_seed(results: TextAlignmentResults):
    places = {(p.method, p.seed, p.step) for p in results.policies}
    assert places == {(m.name, s, t) for m in SMALL.methods for s in (0, 1) for t in (2, 4)}
    one, other = (p.found for p in results.policies if p.step == 4 and p.method == "BoNBoN")
    assert one != other
    assert all(p.found.kl.mean >= 0 for p in results.policies)


@pytest.mark.slow
def test_what_was_done_is_not_done_again(
    folder: Path, results: TextAlignmentResults, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(HeldOutPrompts, "draw", lambda *_: pytest.fail("evaluated again"))
    assert found(folder) == results


@pytest.mark.slow
def test_results_survive_a_file(results: TextAlignmentResults, tmp_path: Path):
    results.save(tmp_path / "results.json")
    assert TextAlignmentResults.load(tmp_path / "results.json") == results


@pytest.mark.slow
def test_paths_are_means_over_seeds(results: TextAlignmentResults):
    (_, first), (step, last) = results.mean_path("known words", "BoNBoN")
    own = [p.found.kl.mean for p in results.policies if (p.method, p.step) == ("BoNBoN", step)]
    assert last.kl.mean == pytest.approx(np.mean(own))
    assert last.kl.std_error == pytest.approx(np.std(own, ddof=1) / np.sqrt(2))
    assert first.kl.num_samples == 2


@pytest.mark.slow
def test_texts_are_compared_where_all_methods_win_equally_often(results: TextAlignmentResults):
    def at(policy, method: str, win_rate: float):
        estimate = replace(policy.found.win_rate, mean=win_rate)
        return replace(policy, method=method, found=replace(policy.found, win_rate=estimate))

    policy = results.policies[0]
    made = [("a", 0.6), ("a", 0.9), ("b", 0.55), ("b", 0.62), ("b", 0.58)]
    policies = tuple(at(policy, method, win_rate) for method, win_rate in made)
    chosen = TextAlignmentResults((), policies).at_equal_win_rate("known words")
    assert [(p.method, p.found.win_rate.mean) for p in chosen] == [("a", 0.6), ("b", 0.62)]


@pytest.mark.slow
def test_best_of_8_is_better_than_a_sample(results: TextAlignmentResults):
    (reference,) = results.references
    assert 0.5 < reference.best_of_n_win_rate <= 8 / 9
    assert 0 < reference.tie_probability < 1
    assert 0 < reference.best_of_n_kl < np.log(8) - 7 / 8  # by the ties


def test_claims_on_the_small_model_are_read_off_the_runs():
    """By means over seeds in plain Python; every loss, reward and seed of the full profile."""
    saved = json.loads(small_model.LIKELIHOOD.file.read_text(encoding="utf-8"))
    policies = saved["policies"]
    assert {p["task"] for p in policies} == set(FULL.tasks)
    for task in FULL.tasks:
        own = [p for p in policies if p["task"] == task]
        assert {p["method"] for p in own} == {m.name for m in FULL.methods}
        assert {p["seed"] for p in own} == set(range(FULL.num_seeds))
        assert {p["step"] for p in own} == set(FULL.alignment.evaluate_at)

    def mean(task: str, method: str, name: str, step: int = 160) -> float:
        rows = [
            p["found"]
            for p in policies
            if (p["task"], p["method"], p["step"]) == (task, method, step)
        ]
        return sum(row[name]["mean"] for row in rows) / len(rows)

    def rates(method: str, step: int = 160) -> np.ndarray:
        return np.array([mean(task, method, "win_rate", step) for task in FULL.tasks])

    def kls(method: str) -> np.ndarray:
        return np.array([mean(task, method, "kl") for task in FULL.tasks])

    def value(name: str) -> np.ndarray:
        [claim] = [c for c in small_model.CLAIMS if c.id == f"bonbon/small-model-{name}"]
        assert claim.compute is not None
        return np.atleast_1d(np.asarray(claim.compute(), np.float64))

    likelihood = FULL.tasks[0]
    dpo, bonbon = "DPO-BoN, β = 0.1", "BoNBoN"
    longer = [
        mean(task, dpo, "mean_length") - mean(task, dpo, "reference_length") for task in FULL.tasks
    ]
    best = {each["task"]: each["best_of_n_length"] for each in saved["references"]}
    weights = [rates(m) for m in ("IPO-BoN", bonbon, "BoNBoN, α = 0.05", "BoNBoN, α = 0.5")]
    two, four, eight = rates("BoNBoN, n = 2"), rates("BoNBoN, n = 4"), rates(bonbon)
    expected = {
        "past-best-of-n": [kls(bonbon)[0] - np.log(8) + 7 / 8, 8 / 9 - eight[0]],
        "length": [-longer[0], longer[1]],
        "off-target": [abs(mean(task, bonbon, "mean_length") - best[task]) for task in FULL.tasks],
        "combined-loss": eight - rates("SFT-BoN"),
        "weight-of-sft": np.max(weights, axis=0) - np.min(weights, axis=0),
        "beta-is-not-neutral": eight - rates("BoNBoN, 5β*"),
        "small-beta-runs-away": kls("BoNBoN, β*/5") - kls(bonbon),
        "rises-with-n": np.stack([four - two, eight - four], axis=1).ravel(),
        "own-targets": kls("IPO-BoN") - kls("matched targets"),
        "sft-inefficient": rates(bonbon, 40) - rates("SFT-BoN"),
    }
    for name, numbers in expected.items():
        np.testing.assert_allclose(value(name), numbers, rtol=1e-12, err_msg=name)

    def read_off(task: str, method: str, kl: float) -> float:
        path = [
            (mean(task, method, "kl", step), mean(task, method, "win_rate", step))
            for step in FULL.alignment.evaluate_at
        ]
        for (low, first), (high, second) in itertools.pairwise(path):
            if low <= kl <= high:
                return first + (second - first) * np.log(kl / low) / np.log(high / low)
        raise AssertionError(f"{method} does not pass {kl}")

    ordinary = "IPO, ordinary, β = 0.1"
    at_end, at_ipo = [], []
    for place, task in enumerate(FULL.tasks):
        at_end.append(eight[place] - read_off(task, dpo, kls(bonbon)[place]))
        at_ipo.append(read_off(task, bonbon, kls(ordinary)[place]) - rates(ordinary)[place])
    np.testing.assert_allclose(value("beats-dpo-at-equal-kl"), at_end, rtol=1e-9)
    np.testing.assert_allclose(value("no-better-than-ipo-at-equal-kl"), at_ipo, rtol=1e-9)
    # The frontier is a little more than best-of-n's win rate at its divergence, n a real number.
    for place, method in enumerate(("SFT-BoN", bonbon, dpo)):
        kl: Any = mean(likelihood, method, "kl")
        more: Any = brentq(lambda m, kl=kl: np.log1p(m) - m / (1 + m) - kl, 0, 1e4)
        below = (1 + more) / (2 + more) - mean(likelihood, method, "win_rate")
        assert below <= value("below-the-frontier")[place] <= below + 0.02


def test_the_page_has_the_numbers_of_the_small_model():
    """To the digits that it gives, with errors over seeds."""
    policies = json.loads(small_model.LIKELIHOOD.file.read_text(encoding="utf-8"))["policies"]
    page = (Path(__file__).parents[2] / "docs" / "alignment-training.md").read_text("utf-8")
    page = page[page.index("## On a language model") : page.index("## On SmolLM2")]
    columns = [(t, name) for t in FULL.tasks for name in ("win_rate", "kl", "mean_length")]
    compared = 0
    for name, *cells in (map(str.strip, line[2:-2].split("|")) for line in page.splitlines()):
        method = name.replace(" pairs", "").replace("\\*", "*")
        method = method.replace("β = .", "β = 0.").replace("α = .", "α = 0.")
        for cell, (task, what) in zip(cells, columns, strict=False):
            found = [
                p["found"][what]["mean"]
                for p in policies
                if (p["task"], p["method"], p["step"]) == (task, method, 160)
            ]
            if not found:
                continue
            for told, number in zip(
                cell.split(" ± "), (np.mean(found), stats.sem(found)), strict=False
            ):
                digits = len(told.partition(".")[2])
                assert float(told) == pytest.approx(number, abs=0.5001 * 10**-digits), (name, what)
                compared += 1
    assert compared == 13 * 2 * (2 + 2 + 1)


def test_equal_divergence_is_read_off_straight_lines_in_its_logarithm():
    """Half way between two evaluations' logarithms is the mean of their win rates."""
    runs = small_model.LIKELIHOOD
    low, high = (runs.path("BoNBoN")[step] for step in (10, 20))
    between = np.sqrt(low.kl.mean * high.kl.mean)
    expected = (low.win_rate.mean + high.win_rate.mean) / 2
    assert runs.win_rate_at(between, "BoNBoN") == pytest.approx(expected)
