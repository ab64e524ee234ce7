"""The trained table ends where the exact theory says, and the test could tell if it did not."""

import jax
import numpy as np
import pytest

import bon_theory as bt
from bon_theory import alignment
from simulations.experiments.alignment_training import (
    LOSSES,
    AlignmentTrainingConfig,
    AlignmentTrainingResults,
    Loss,
    run,
)

pytestmark = pytest.mark.slow  # compiles for half a minute

QUICK = AlignmentTrainingConfig(batch_size=256, num_steps=1500, num_replicas=16)


@pytest.fixture(scope="module")
def results() -> AlignmentTrainingResults:
    return run(QUICK, jax.random.key(5))


def test_every_loss_is_trained_in_every_way_it_names(results: AlignmentTrainingResults):
    assert [(o.loss, o.ending) for o in results.outcomes] == [
        (loss.name, ending) for loss in LOSSES for ending in loss.endings
    ]


def test_training_without_noise_at_the_end_agrees_with_newton(results: AlignmentTrainingResults):
    converged = [o for o in results.outcomes if o.ending != "averaged"]
    assert len(converged) == 5
    assert max(outcome.distance for outcome in converged) < 1e-9


def test_averaged_training_agrees_within_its_error(results: AlignmentTrainingResults):
    """A false alarm in 1e4: five probabilities each, at 5.5 errors from 16 replicas (Student t)."""
    averaged = [o for o in results.outcomes if o.ending == "averaged"]
    assert len(averaged) == 3
    assert all(o.z_score(o.exact) < 5.5 for o in averaged)


def test_it_would_tell_another_minimiser(results: AlignmentTrainingResults):
    reference, n = QUICK.reference, QUICK.n
    ipo, half = (next(o for o in results.outcomes if o.loss == LOSSES[i].name) for i in (0, 2))
    assert ipo.z_score(bt.best_of_n(reference, n).probs) > 20
    assert ipo.z_score(alignment.ipo_best_of_n(reference, n=n + 1).probs) > 20
    # 4 % of the margin.
    beta = 1.04 * alignment.best_of_n_beta(n)
    assert ipo.z_score(alignment.ipo(reference, n=n, beta=beta).probs) > 8
    assert half.z_score(alignment.bonbon(reference, n=n, sft_weight=0.45).probs) > 8


def test_only_averages_have_an_error(results: AlignmentTrainingResults):
    with pytest.raises(ValueError, match="plain"):
        next(o for o in results.outcomes if o.ending == "plain").z_score(0.0)


def test_the_error_of_averages_is_their_spread_over_independent_repeats():
    """Twelve repeats of nine replicas: the spread of an average, a third of that of a replica."""
    loss = Loss("IPO-BoN", 0.0, endings=("averaged",))
    small = AlignmentTrainingConfig(batch_size=256, num_steps=400, num_replicas=9, losses=(loss,))
    ends = [run(small, jax.random.key(seed)).outcomes[0] for seed in range(12)]
    spread = np.std([end.reached for end in ends], axis=0, ddof=1)
    errors = [end.std_error for end in ends if end.std_error is not None]
    # Twelve know a spread to a fifth; four of five probabilities are free.
    assert 0.6 < np.sqrt(np.mean(np.square(spread)) / np.mean(np.square(errors))) < 1.6
