"""Training of a model whose law is known: the path of every loss, beside what it aims at."""

import pathlib
from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx

import bon_theory as bt
from bon_theory import alignment
from paper_repro.papers.bonbon_alignment import trained
from simulations.experiments import tabular_alignment
from simulations.experiments.enumerable_alignment import (
    EnumerableAlignmentConfig,
    EnumerableAlignmentResults,
    Landmark,
    Path,
    _observed_laws,
    problem,
    run,
)
from simulations.experiments.enumerable_pairs import (
    KnownResponses,
    batch,
    every_pair,
    loss,
    methods,
)

SMALL = EnumerableAlignmentConfig(
    names=("SFT-BoN", "BoNBoN, β*", "matched targets", "matched targets, further draws"),
    num_tokens=4,
    max_new_tokens=3,
    width=16,
    num_steps=160,
    decays=True,
    num_observed=16,
)


@pytest.fixture(scope="module")
def results() -> EnumerableAlignmentResults:
    return run(SMALL, jax.random.key(20261126))


def test_bonbon_runs_past_best_of_n_and_stays_below_its_win_rate(
    results: EnumerableAlignmentResults,
):
    path, best = results.path("BoNBoN, β*"), results.landmark("best-of-n")
    assert path.kl.max() > 1.3 * best.kl
    assert path.win_rate[-1] < best.win_rate


def test_own_targets_end_nearer_to_best_of_n(results: EnumerableAlignmentResults):
    bonbon = results.path("BoNBoN, β*").total_variation[-1]
    for name in ("matched targets", "matched targets, further draws"):
        assert results.path(name).total_variation[-1] < bonbon


def test_no_law_is_above_the_frontier(results: EnumerableAlignmentResults):
    """All exact: the slack is of the interpolation between the frontier's points."""
    for path in results.paths:
        highest = np.interp(path.kl[1:], *results.frontier)
        assert np.all(path.win_rate[1:] <= highest + 0.01)


def test_every_path_begins_at_the_reference(results: EnumerableAlignmentResults):
    assert results.steps[0] == 0
    for path in results.paths:
        assert path.win_rate[0] == pytest.approx(0.5, abs=1e-6)
        assert path.kl[0] == pytest.approx(0.0, abs=1e-6)


def test_the_models_law_is_the_enumerated_one():
    model, law, reference = problem(SMALL, jax.random.key(0))
    known = KnownResponses.of(law, reference, SMALL.n)
    graph, state = nnx.split(model)
    runs = nnx.merge(graph, jax.tree.map(lambda leaf: leaf[None], state))
    np.testing.assert_allclose(_observed_laws(runs, known)[0], law.log_probs, atol=1e-5)


def test_batches_are_best_and_worst_with_their_margins():
    _, law, reference = problem(SMALL, jax.random.key(0))
    known = KnownResponses.of(law, reference, SMALL.n)
    which = methods(SMALL.n)
    draw = partial(
        batch, n=SMALL.n, num_candidates=SMALL.num_candidates, batch_size=SMALL.batch_size
    )
    found = draw(known, which, jax.random.key(1), 3)
    rewards = np.asarray(reference.rewards)
    assert np.all(rewards[found.chosen] >= rewards[found.rejected])
    margin = np.asarray(bt.log_ratio(bt.best_of_n(reference, SMALL.n), reference))
    row = [method.name for method in which].index("matched targets")
    exact = margin[found.chosen[row]] - margin[found.rejected[row]]
    np.testing.assert_allclose(found.terms.margin[row], exact, rtol=1e-4)
    again = draw(known, which, jax.random.key(1), 3)
    assert np.array_equal(found.chosen, again.chosen)


def test_tables_end_at_the_minimisers():
    ends = tabular_alignment.run(SMALL, jax.random.key(20261126))
    for name, end in ends.items():
        assert end.win_rate == pytest.approx(end.exact_win_rate, abs=1e-3), name
        assert end.kl == pytest.approx(end.exact_kl, abs=1e-3), name
    assert ends["SFT-BoN"].to_best_of_n < 1e-3
    assert ends["matched targets"].to_best_of_n < 1e-3
    assert ends["BoNBoN, α = 0.005"].to_best_of_n > 0.1


def test_results_survive_a_file(results: EnumerableAlignmentResults, tmp_path: pathlib.Path):
    results.save(tmp_path / "results.json")
    read = EnumerableAlignmentResults.load(tmp_path / "results.json")
    assert read.config == SMALL
    assert read.landmarks == results.landmarks
    np.testing.assert_array_equal(read.frontier, results.frontier)
    for path, same in zip(read.paths, results.paths, strict=True):
        np.testing.assert_equal(vars(path), vars(same))


def test_the_mean_over_every_pair_is_the_populations_loss():
    _, law, reference = problem(SMALL, jax.random.key(0))
    known, n = KnownResponses.of(law, reference, SMALL.n), SMALL.n
    other, _, _ = problem(SMALL, jax.random.key(1))
    graph, state = nnx.split(other)
    runs = nnx.merge(graph, jax.tree.map(lambda leaf: leaf[None], state))
    own = np.asarray(_observed_laws(runs, known)[0], np.float64)
    policy = bt.Policy.from_logits(own, reference.rewards)
    populations = {
        "SFT-BoN": alignment.sft_best_of_n_loss(policy, reference, n=n),
        "BoNBoN, β*": alignment.bonbon_loss(policy, reference, n=n, sft_weight=0.005),
        "IPO, ordinary, β = 0.1": alignment.ipo_loss(policy, reference, n=2, beta=0.1),
        "matched targets": alignment.ipo_matched_loss(policy, reference, n=n),
    }
    for name, expected in populations.items():
        which = tuple(method for method in methods(n) if method.name == name)
        total, number = nnx.jit(loss)(runs, every_pair(known, which, n))
        assert float(total / number) == pytest.approx(float(expected), rel=1e-4), name


def test_claims_on_paths_are_read_off_them():
    """Made so that each claim's number is a difference that can be done in the head."""
    steps = np.arange(20)

    def path(name: str, win_rate: float, kl: float) -> Path:
        return Path(name, np.full(20, win_rate), np.full(20, kl), np.zeros(20), np.zeros(20))

    made = {
        "BoNBoN, β*": (0.8, 1.5),
        "BoNBoN, β*/5": (0.8, 2.0),
        "BoNBoN, 5β*": (0.8, 1.0),
        "IPO-BoN, β*": (0.75, 1.5),
        "SFT-BoN": (0.7, 0.5),
        "variational best-of-n": (0.8, 1.0),
        "BOND": (0.85, 1.5),
    }
    paths = tuple(path(name, *place) for name, place in made.items())
    frontier = np.array([[0.0, 1.0, 2.0], [0.5, 0.9, 1.0]])
    found = EnumerableAlignmentResults(SMALL, 9, steps, paths, (), frontier)
    assert trained._ends_apart(found) == pytest.approx([0.5, 0.5])
    assert trained._nearer(found) == pytest.approx([0.15 - 0.0, 0.15 - 0.1, 0.15 - 0.1])
    assert trained._told_apart(found) == pytest.approx(0.05)
    assert trained._slower(found) == pytest.approx(0.1)


def test_what_is_past_and_given_back_is_read_off_the_path():
    rises = np.array([0.5, 0.9, 0.75])
    names = ("BoNBoN, β*", "matched targets", "matched targets, further draws", "SFT-BoN", "BOND")
    paths = tuple(
        Path(name, rises, 4 * (rises - 0.5), np.array([0.5, 0.3, 0.4 - 0.1 * place]), 0 * rises)
        for place, name in enumerate(names)
    )
    landmarks = (
        Landmark("best-of-n", 0.85, 1.2, 0.0, 3.0),
        Landmark("BoNBoN, β*", 0.8, 0.9, 0.3, 3.0),
    )
    found = EnumerableAlignmentResults(SMALL, 9, np.arange(3), paths, landmarks, np.zeros((2, 2)))
    assert trained._past_and_back(found) == pytest.approx((0.1, 0.4, 0.15, 0.6))
    assert trained._closer(found) == pytest.approx([0.1, 0.2, 0.3, 0.4])


@pytest.mark.slow
def test_a_transformer_trained_on_the_best_of_n_has_their_law():
    """TV at most .02, sampled pairs; its rate falls to 0, which averages the samples."""
    config = EnumerableAlignmentConfig(
        names=("SFT-BoN",),
        width=48,
        optimizer="adamw",
        learning_rate=5e-3,
        decays=True,
        num_steps=1500,
        batch_size=1024,
        num_observed=2,
    )
    results = run(config, jax.random.key(20261126))
    assert results.path("SFT-BoN").total_variation[-1] < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("seed", [20261126, 2])
def test_own_targets_lead_a_transformer_to_best_of_n(seed: int):
    """TV at most .02, by the expectation over all pairs: what is left is what training can do."""
    config = EnumerableAlignmentConfig(
        names=("matched targets, relative",),
        width=64,
        expected=True,
        optimizer="adamw",
        learning_rate=3e-3,
        decays=True,
        num_steps=2400,
        num_observed=2,
    )
    (path,) = run(config, jax.random.key(seed)).paths
    assert path.total_variation[-1] < 0.02
