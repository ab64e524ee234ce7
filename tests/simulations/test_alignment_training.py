"""The trained table ends where the exact theory says, and the test could tell if it did not."""

import jax
import numpy as np
import pytest

import bon_theory as bt
from bon_theory import alignment
from simulations.experiments.alignment_training import LOSSES, Config, Results, run

QUICK = Config(batch_size=256, num_steps=1500, num_replicas=16)


@pytest.fixture(scope="module")
def results() -> Results:
    return run(QUICK, jax.random.key(5))


def test_every_loss_is_trained_in_every_way_it_names(results: Results):
    assert [(o.loss, o.ending) for o in results.outcomes] == [
        (loss.name, ending) for loss in LOSSES for ending in loss.endings
    ]


def test_training_without_noise_at_the_end_agrees_with_newton(results: Results):
    converged = [o for o in results.outcomes if o.ending != "averaged"]
    assert len(converged) == 5
    assert max(outcome.distance for outcome in converged) < 1e-9


def test_averaged_training_agrees_within_its_error(results: Results):
    """A false alarm in 1e4: five probabilities each, at 5.5 errors from 16 replicas (Student t)."""
    averaged = [o for o in results.outcomes if o.ending == "averaged"]
    assert len(averaged) == 3
    assert all(o.z_score(o.exact) < 5.5 for o in averaged)


def test_it_would_tell_another_minimiser(results: Results):
    reference, n = QUICK.reference, QUICK.n
    ipo, half = (next(o for o in results.outcomes if o.loss == LOSSES[i].name) for i in (0, 2))
    assert ipo.z_score(bt.best_of_n(reference, n).probs) > 20
    assert ipo.z_score(alignment.ipo_best_of_n(reference, n + 1).probs) > 20
    # 4 % of the margin.
    beta = 1.04 * alignment.best_of_n_beta(n)
    assert ipo.z_score(alignment.ipo(reference, beta, n).probs) > 8
    assert half.z_score(alignment.bonbon(reference, n, 0.45).probs) > 8


def test_only_averages_have_an_error(results: Results):
    with pytest.raises(ValueError, match="plain"):
        next(o for o in results.outcomes if o.ending == "plain").z_score(0.0)


def test_the_error_of_averages_is_neither_too_small_nor_too_large(results: Results):
    """Over fifteen probabilities the mean square of gap over error is that of χ² over its degrees.

    Outside of [0.3, 2.2]² less than once in 1e4, with twelve degrees of freedom.
    """
    averaged = [o for o in results.outcomes if o.std_error is not None]
    z = np.concatenate([(o.reached - o.exact) / o.std_error for o in averaged])
    assert 0.3 < np.sqrt(np.mean(np.square(z))) < 2.2
