"""Every method on one model's candidates: saved, read, averaged, and gone on with."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from paper_repro.papers.bonbon_alignment import small_model
from simulations.alignment.evaluation import HeldOutPrompts
from simulations.alignment.training import AlignmentConfig, Objective
from simulations.experiments.text_alignment import (
    BASELINES,
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


def test_the_committed_runs_are_of_every_loss_and_seed():
    """And what the claims take from them, by their means over seeds in plain Python."""
    found = TextAlignmentResults.load(small_model.RUNS.file)
    task = "trigram likelihood"
    own = [p for p in found.policies if p.task == task]
    assert {p.method for p in own} == {m.name for m in BASELINES}
    assert {p.seed for p in own} == {0, 1, 2}

    def mean(method: str, step: int, name: str) -> float:
        rows = [p.found for p in own if (p.method, p.step) == (method, step)]
        return sum(getattr(row, name).mean for row in rows) / len(rows)

    past, below = small_model._further_and_below()
    assert past == pytest.approx(mean("BoNBoN", 60, "kl") - (np.log(8) - 7 / 8))
    assert below == pytest.approx(8 / 9 - mean("BoNBoN", 60, "win_rate"))
    slower = mean("BoNBoN", 20, "win_rate") - mean("SFT-BoN", 60, "win_rate")
    assert small_model._inefficient() == pytest.approx(slower)
    assert small_model._combined()[0] == pytest.approx(
        mean("BoNBoN", 60, "win_rate") - mean("SFT-BoN", 60, "win_rate")
    )
    dpo = "DPO-BoN, β = 0.1"
    longer = mean(dpo, 60, "mean_length") - mean(dpo, 60, "reference_length")
    assert small_model.RUNS.lengthened(dpo) == pytest.approx(longer)


def test_equal_divergence_is_read_off_straight_lines_in_its_logarithm():
    """Half way between two evaluations' logarithms is the mean of their win rates."""
    low, high = (small_model.RUNS.path("BoNBoN")[step] for step in (5, 10))
    between = np.sqrt(low.kl.mean * high.kl.mean)
    expected = (low.win_rate.mean + high.win_rate.mean) / 2
    assert small_model.RUNS.win_rate_at(between, "BoNBoN") == pytest.approx(expected)
    assert small_model.RUNS.win_rate_at(high.kl.mean, "BoNBoN") == pytest.approx(high.win_rate.mean)
