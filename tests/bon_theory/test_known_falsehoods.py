"""What is often said and is false: each test is a counterexample, with numbers done by hand."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from tests.strategies import law, probs

COIN = law([0.5, 0.5], rewards=[0.0, 1.0])


def test_kl_of_best_of_n_is_not_the_closed_form_when_there_are_atoms() -> None:
    # Best of 2 coins is (1/4, 3/4): KL = ¼ log ½ + ¾ log 3/2 = 0.1308, not log 2 - ½ = 0.1931.
    kl = float(bt.kl_divergence(bt.best_of_n(COIN, 2.0), COIN))
    assert kl == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=1e-14)
    assert kl < math.log(2) - 1 / 2 - 0.06


def test_kl_of_best_of_n_does_not_grow_without_bound() -> None:
    # It ends at -log of the probability of the top level, however large log n.
    assert float(bt.kl_divergence(bt.best_of_n(COIN, 1e6), COIN)) == pytest.approx(math.log(2))
    assert math.log(1e6) - 1 > 18 * math.log(2)


@pytest.mark.parametrize(("ties", "wins"), [("loss", 0.375), ("half", 0.625), ("win", 0.875)])
def test_the_win_rate_is_not_n_over_n_plus_one_when_there_are_ties(ties: Any, wins: float) -> None:
    # Best of 2 wins outright with probability ¾·½, ties with ¼·½ + ¾·½; 2/3 is none of the three.
    rate = float(bt.win_rate(bt.best_of_n(COIN, 2.0), COIN, ties=ties))
    assert rate == pytest.approx(wins, abs=1e-15)
    assert abs(rate - 2 / 3) > 0.04


def test_half_counted_ties_can_cost_more_than_a_twelfth_between_two_and_three_candidates() -> None:
    """The bound n p_max²/12 on the win-rate gap needs n outside (2, 3).

    One atom: the win rate is ½, the gap (n-1)/(2(n+1)), and (n-2)(n-3) ≥ 0 is what the bound says.
    """
    constant = law([1.0], rewards=[0.0])
    gaps = [n / (n + 1) - bt.win_rate(bt.best_of_n(constant, n), constant) for n in (2.0, 2.5, 3.0)]
    assert gaps[1] > 2.5 / 12 + 0.005
    assert [float(gaps[0]), float(gaps[2])] == pytest.approx([2 / 12, 3 / 12], abs=1e-15)


def test_best_of_n_can_be_a_percentage_point_below_the_optimum_when_there_are_atoms() -> None:
    """Without ties it never is ([G]); the discrete optimum tilts by the mid-rank."""
    reference = law([0.065, 0.07, 0.06, 0.71, 0.095], rewards=[0.0, 1.0, 2.0, 3.0, 4.0])
    middle = 0.5 * (jnp.exp(reference.log_cdf_below) + jnp.exp(reference.log_cdf))
    by_middle_rank = bt.Policy.from_probs(reference.probs, middle)
    best = bt.best_of_n(reference, 3.0)
    optimum = bt.exponential_tilt(by_middle_rank, 1 / 3.295)
    assert bt.kl_divergence(optimum, reference) < bt.kl_divergence(best, reference)
    assert bt.win_rate(optimum, by_middle_rank) > bt.win_rate(best, reference) + 0.01


def test_soft_best_of_n_is_not_ordered_by_likelihood_ratio_in_temperature() -> None:
    """Cooling from 0.1 to 0.05 hurts the middle outcome more than the lowest one.

    The lowest survives when both candidates are lowest, which no temperature changes; the middle
    one loses its duels against the top. n = 2: P(x) = 2π(x) E σ((r(x) - r(X'))/λ).
    """
    reference = law([0.5, 0.25, 0.25], rewards=[0.0, 0.75, 1.0])
    warm, cold = (probs(bt.soft_best_of_n(reference, 2.0, t)) for t in (0.1, 0.05))
    np.testing.assert_allclose(warm, [0.25014954, 0.32184408, 0.42800638], atol=5e-9)
    low, middle, top = cold / warm
    assert middle < 0.975 < 0.999 < low < 1 < top
    # Stochastically it is ordered: no upper set of rewards loses probability.
    assert np.all(np.cumsum((cold - warm)[::-1])[:-1] > 0)  # of all outcomes none can


def test_no_constant_over_n_bounds_the_divergence_to_the_tilt_from_below() -> None:
    """KL(P*‖P_n) of a fixed problem is Θ(1/n²): n·KL falls below any constant."""
    reference = law([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
    tilt = bt.exponential_tilt(reference, 0.5)
    scaled = [
        n * float(bt.kl_divergence(tilt, bt.soft_best_of_n(reference, n, 0.5)))
        for n in (1e1, 1e3, 1e5)
    ]
    assert scaled[0] > 50 * scaled[1] > 2500 * scaled[2] > 0
    assert scaled[2] < 1e-5


def test_the_derivative_in_temperature_is_not_the_marginal_covariance() -> None:
    """It is for the tilt; soft best-of-n needs the covariance within each batch.

    Two coins: a batch is mixed with probability ½, and σ' = σ(1-σ), so d/dβ E r = ½σ(β)(1-σ(β)).
    """
    beta, values = 2.0, jnp.asarray([0.0, 1.0])
    slope, tilt_slope = (
        float(jax.jit(jax.grad(lambda b, rule=rule: bt.expected_value(rule(b), values)))(beta))
        for rule in (
            lambda b: bt.soft_best_of_n(COIN, 2.0, 1 / b),
            lambda b: bt.exponential_tilt(COIN, 1 / b),
        )
    )
    top = float(bt.soft_best_of_n(COIN, 2.0, 1 / beta).probs[1])
    sigma = 1 / (1 + math.exp(-beta))
    assert slope == pytest.approx(0.5 * sigma * (1 - sigma), abs=1e-13)
    assert tilt_slope == pytest.approx(sigma * (1 - sigma), abs=1e-13)
    assert top * (1 - top) > 3 * slope


def test_soft_best_of_n_is_not_a_tilt() -> None:
    """At equal divergence the tilt earns more: soft best-of-n spends some of its KL on noise."""
    reference = law([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
    soft, tilt = bt.soft_best_of_n(reference, 3.0, 0.05), bt.exponential_tilt(reference, 0.475)
    assert bt.kl_divergence(tilt, reference) < bt.kl_divergence(soft, reference)
    assert bt.expected_reward(tilt) > bt.expected_reward(soft)


def test_summing_and_powering_in_single_precision_does_not_give_best_of_n() -> None:
    """The textbook formula F^n - F_-^n creates mass; the library's law keeps it."""
    size, n = 1_000_000, 64
    cdf = np.cumsum(np.full(size, 1 / size, np.float32), dtype=np.float32)
    textbook = cdf**n - np.insert(cdf[:-1], 0, 0) ** n
    assert textbook.sum(dtype=np.float64) > 1.5
    levels = jax.jit(bt.Policy.from_samples)(jnp.linspace(0, 1, size, dtype=jnp.float32))
    policy = jax.jit(bt.best_of_n)(levels, jnp.asarray(n, jnp.float32))
    assert policy.dtype == jnp.float32
    assert probs(policy).sum(dtype=np.float64) == pytest.approx(1, abs=1e-5)
