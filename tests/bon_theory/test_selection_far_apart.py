"""Soft selections of rewards far apart: placeholders, and stretches in which nothing rings."""

from typing import Any

import jax
import numpy as np
import pytest

import bon_theory as bt
from tests.bon_theory.test_selection_exact import LAWS, cases, worst_error
from tests.oracles import discrete, soft_real_n
from tests.oracles.multiprecision import mp


def test_a_negligible_outcome_far_above_costs_no_accuracy() -> None:
    probs, rewards = np.array([1e-30, 0.5, 0.3, 0.2]), np.array([1e9, 0.5, 0.51, 0.52])
    duel = 1 / (1 + np.exp(np.minimum((rewards[None, :] - rewards[:, None]) / 0.013, 700)))
    law = bt.soft_best_of_n(bt.Policy.from_probs(probs, rewards), 2.0, 0.013)
    np.testing.assert_allclose(law.probs, 2 * probs * (duel @ probs), rtol=1e-13)


@pytest.mark.parametrize("select", [bt.soft_best_of_n, bt.exponential_race])
def test_among_placeholders_the_better_one_is_preferred(select: Any) -> None:
    """As told by their duels at n = 2; a place 1e6 below the rest is known to 1e-10."""
    probs, rewards = np.array([0.1, 0.4, 0.3, 0.2]), np.array([-1e9, 0.5, -1e9 + 0.25, 0.52])
    gaps = (rewards[:, None] - rewards[None, :]) / 0.1
    if select is bt.soft_best_of_n:
        duel = 1 / (1 + np.exp(np.minimum(-gaps, 700)))
    else:  # r/λ + Exp(1) on either side: a Laplace variable is less than the gap
        duel = np.where(gaps > 0, 1 - np.exp(-np.abs(gaps)) / 2, np.exp(-np.abs(gaps)) / 2)
    law = bt.Policy.from_probs(probs, rewards)
    np.testing.assert_allclose(select(law, 2.0, 0.1).probs, 2 * probs * (duel @ probs), rtol=1e-9)


def test_ties_beyond_long_gaps_stay_ties_and_their_neighbours_keep_their_distance() -> None:
    """A ladder of 400 placeholders of three answers each, two of which tie and one is better."""
    ladder = -1e9 * np.arange(1, 401)[:, None] + np.array([0.0, 0.0, 0.25])
    rewards = np.concatenate([[0.5, 0.6], ladder.ravel()])
    probs = np.concatenate([[0.3, 0.3], np.full(1200, 0.4 / 1200)])
    kept = np.asarray(bt.soft_best_of_n(bt.Policy.from_probs(probs, rewards), 2.0, 0.1).probs)
    triples = kept[2:].reshape(400, 3)
    np.testing.assert_array_equal(triples[:, 0], triples[:, 1])
    worse = probs[2:].sum() - np.cumsum(
        np.full(400, 3 * probs[2])
    )  # a win against every rung below
    share = 1 / (1 + np.exp(2.5))
    p = probs[2]
    tied, better = (2 * p * (p * x + worse) for x in (1 + share, 0.5 + 2 * (1 - share)))
    np.testing.assert_allclose(triples[:, 0], tied, rtol=1e-6)
    np.testing.assert_allclose(triples[:, 2], better, rtol=1e-6)


def test_a_stretch_counts_as_idle_only_when_all_before_it_have_rung() -> None:
    """The first outcomes to ring have e^-22 to e^-44 left of them where a block of nodes ends."""
    table = cases((2, 3), (0.01124,), names=("a tiny best", "tiny but one"))
    assert worst_error(bt.soft_best_of_n, discrete.soft_best_of_n, table) < 1e-12
    # What is left of them is to be small beside the 1e-200 of the last one. The branch point of
    # M^0.05 where M is as small as that limits the accuracy here.
    table = [(*LAWS["a tiny worst"], 1.05, 0.01)]
    assert worst_error(bt.soft_best_of_n, soft_real_n.soft_best_of_n, table) < 1e-9


@pytest.mark.parametrize("rare", [1e-6, 1e-13])
def test_a_derivative_in_n_sees_a_rare_outcome_that_arrives_last(rare: float) -> None:
    """At n = 1 the law is the reference, whatever the steps; its derivative needs finer ones.

    d/dn log p_j = 1 + ∫ w_j e^{−t w_j} log M(t) dt there, M(t) = Σ π_i e^{−t w_i}.
    """
    temperature = 0.5
    probs, weights = [rare, 1 - rare], [mp.exp(-1 / temperature), mp.mpf(1)]

    def waited(s: Any, rate: Any) -> Any:
        t = mp.exp(s)
        left = mp.fsum(p * mp.exp(-t * w) for p, w in zip(probs, weights, strict=True))
        return t * rate * mp.exp(-t * rate) * mp.log(left)

    pieces = mp.linspace(-50, 8, 117)
    slopes = [float(1 + mp.quad(lambda s, w=w: waited(s, w), pieces)) for w in weights]

    def log_probs(n: Any) -> jax.Array:
        reference = bt.Policy.from_probs(np.array(probs), np.array([0.0, 1.0]))
        return bt.soft_best_of_n(reference, n, temperature).log_probs

    found = jax.jit(jax.jacfwd(log_probs))(1.0)
    np.testing.assert_allclose(found, slopes, rtol=1e-10, atol=1e-14)
