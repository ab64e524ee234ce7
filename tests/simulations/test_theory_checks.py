"""The report on the theory: complete, passing, and able to fail."""

from dataclasses import replace
from typing import Any

import jax
import numpy as np
import pytest

import bon_theory as bt
from simulations.experiments import theory_problems
from simulations.experiments.theory_checks import DEFAULT, Case, TheoryChecksConfig, run
from simulations.experiments.theory_problems import PROBLEMS
from simulations.statistics.checks import required_trials
from tests.oracles import tilts

# One of each kind: ties and a random number of candidates, a race over a continuum, blocks of a
# sequence, rejection.
FEW = (
    Case("tied rewards", "best_of_poisson", (4.0,), ((5.0,),)),
    Case("uniform reward", "soft_best_of_n", (3, 0.2), ((4, 0.2),)),
    Case("Markov sequence, blockwise", "best_of_n", (4,), ((5,), (3,))),
    Case("distinct rewards", "chi_squared_tilt", (0.1,), ((0.11,),)),
)


def test_the_matrix_covers_every_selection_on_ties_a_continuum_and_sequences():
    selections = {
        "best_of_n",
        "worst_of_n",
        "best_of_poisson",
        "win_rate_optimal",
        "top_fraction",
        "best_of_n_stopped",
        "kth_best_of_n",
        "top_k_of_n",
        "soft_best_of_n",
        "soft_best_of_poisson",
        "exponential_race",
        "noisy_best_of_n",
        "exponential_tilt",
        "chi_squared_tilt",
        "nearest_reachable",
        "nearest_in_mean_draws",
    }
    covered = {(case.selection, case.problem) for case in DEFAULT.cases}
    assert {(name, "drafts") for name in ("soft_best_of_drafts", "guided_draft")} <= covered
    for problem in ("distinct rewards", "tied rewards", "Markov sequence, whole"):
        assert {(selection, problem) for selection in selections} <= covered
    # The exact race over a continuum is not in the package, and a density that is capped within a
    # bin wants a discrete reference. Noise on thousands of nodes would take a minute.
    discrete = {"exponential_race", "nearest_in_mean_draws", "noisy_best_of_n"}
    continuous = {(selection, "uniform reward") for selection in selections - discrete}
    assert continuous <= covered
    kept = {f"{kind} sequence, {how}" for kind in ("i.i.d.", "Markov")
            for how in ("symbolwise", "blockwise", "whole")}  # fmt: skip
    for selection in ("best_of_n", "soft_best_of_n"):
        assert {(selection, problem) for problem in kept} <= covered
    assert {problem for _, problem in covered} == set(PROBLEMS)
    assert all(case.planted for case in DEFAULT.cases)
    assert len({case.name for case in DEFAULT.cases}) == len(DEFAULT.cases)


def test_right_laws_pass_and_planted_ones_are_rejected():
    seen = []
    results = run(TheoryChecksConfig(FEW), jax.random.key(1), progress=seen.append)
    assert results.passed
    assert results.missed == ()
    assert seen == [case.name for case in FEW]
    assert len(results.report.checks) == 4 * len(FEW)
    assert results.report.threshold == pytest.approx(1e-6 / 16)
    again = run(TheoryChecksConfig(FEW), jax.random.key(1))
    assert [o.simulation.reward for o in again.outcomes] == [
        o.simulation.reward for o in results.outcomes
    ]


def test_a_wrong_theory_fails(monkeypatch):
    """The theory of n + 1 in place of n, through the whole pipeline."""
    exact: Any = theory_problems._select_each  # pyright sees no methods of a jitted function
    right = bt.best_of_n
    case = Case("tied rewards", "best_of_n", (8,), ((9,),))
    monkeypatch.setattr(bt, "best_of_n", lambda reference, n: right(reference, n + 1))
    exact.clear_cache()
    results = run(TheoryChecksConfig((case,)), jax.random.key(2))
    exact.clear_cache()
    assert not results.report.passed
    assert f"{case.name}: law" in [check.name for check in results.report.rejected]


def test_a_wrong_theory_of_sequences_fails(monkeypatch):
    """Blocks of two taken for blocks of three."""
    name = "Markov sequence, blockwise"
    wrong = replace(PROBLEMS[name], block_length=2)  # pyright: ignore[reportArgumentType]
    exact = wrong.exact  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(type(wrong), "exact", lambda self, *given: exact(*given))
    results = run(TheoryChecksConfig((FEW[2],)), jax.random.key(2))
    assert next(check.name.partition(": ")[2] for check in results.report.rejected) == "law"


def test_a_missed_plant_fails_the_results():
    results = run(TheoryChecksConfig(FEW[3:]), jax.random.key(3))
    (outcome,) = results.outcomes
    unnoticed = replace(outcome.planted[0], p_value=1e-3)
    blunt = replace(results, outcomes=(replace(outcome, planted=(unnoticed,)),))
    assert results.passed
    assert blunt.report.passed
    assert blunt.missed == (unnoticed,)
    assert not blunt.passed


def test_samples_are_as_large_as_the_planted_law_needs():
    case, config = FEW[3], TheoryChecksConfig(FEW[3:], min_trials=1)
    (outcome,) = run(config, jax.random.key(3)).outcomes
    probs, rewards = (0.3, 0.1, 0.25, 0.15, 0.2), (0.2, 1.0, 0.0, 0.7, 0.5)
    wrong, law = (
        np.array(tilts.chi_squared_tilt(probs, rewards, *parameters), np.float64)
        for parameters in (*case.planted, case.parameters)
    )
    np.testing.assert_allclose(outcome.law, law, atol=1e-12)
    needed = required_trials(wrong, law, false_alarm=1e-6 / 4, miss=1e-3)
    assert outcome.simulation.num_trials == pytest.approx(needed, abs=1)


def test_a_plant_too_close_to_see_is_refused():
    case = replace(FEW[3], planted=((0.1001,),))
    with pytest.raises(ValueError, match="more than max_trials 8000000: choose parameters"):
        run(TheoryChecksConfig((case,)), jax.random.key(3))


def test_float32_is_refused():
    with jax.enable_x64(False), pytest.raises(ValueError, match="needs float64"):
        run(TheoryChecksConfig(FEW), jax.random.key(4))
