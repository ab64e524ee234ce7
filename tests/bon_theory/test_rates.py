"""Soft best-of-n and its tilt: published bounds, sharp constants, optimality, derivatives.

``ROUNDING`` is what two quantities that are equal in exact arithmetic may differ by here: sums of
five terms of order one, each good to 1e-14 or so.
"""

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import bon_theory as bt
from tests import strategies as some
from tests.strategies import law, probs

ROUNDING = 1e-11


def tilted(reference: bt.Policy, t: Any) -> tuple[np.ndarray, np.ndarray, float]:
    """P*, the weights relative to their mean, and their variance χ², by their definitions."""
    mass, rewards = probs(reference), np.asarray(reference.rewards)
    weights = np.exp((rewards - rewards[mass > 0].max()) / float(t))
    weights = weights / (mass @ weights)
    return mass * weights, weights, float(mass @ (weights - 1) ** 2)


# --- the tilt: soft best-of-n's limit and the optimum -----------------------------------


@given(reference=some.laws, n=some.numbers, t=some.temperatures)
def test_soft_best_of_n_approaches_the_tilt_at_the_published_rate(
    reference: bt.Policy, n: Any, t: Any
) -> None:
    """KL(P*‖P_n) ≤ log(1 + χ²/n) ≤ χ²/n ≤ sinh²(1/2λ)/n for rewards in [0, 1] ([V] Thm 1)."""
    divergence = some.kl(some.exponential_tilt(reference, t), some.soft_best_of_n(reference, n, t))
    variance, n = tilted(reference, t)[2], float(n)
    assert divergence <= math.log1p(variance / n) * (1 + 1e-9) + 1e-14
    assert variance <= math.sinh(1 / (2 * float(t))) ** 2 * (1 + 1e-9) + 1e-14


@given(reference=some.laws, t=some.temperatures, budget=st.floats(0.01, 2))
def test_this_many_samples_suffice(reference: bt.Policy, t: Any, budget: float) -> None:
    tilt, _, variance = tilted(reference, t)
    n = jnp.asarray(max(1.0, variance / math.expm1(budget)))
    policy = some.soft_best_of_n(reference, n, t)
    ratio = np.log(np.where(tilt > 0, tilt, 1)) - np.where(
        tilt > 0, np.asarray(policy.log_probs), 0
    )
    assert tilt @ ratio <= budget + ROUNDING


@given(reference=some.laws, n=some.numbers, t=some.temperatures)
def test_soft_best_of_n_is_pointwise_near_the_tilt(reference: bt.Policy, n: Any, t: Any) -> None:
    policy = some.soft_best_of_n(reference, n, t)
    tilt, weights, _ = tilted(reference, t)
    floor = tilt * float(n) / (float(n) - 1 + weights)
    assert np.all(probs(policy) >= floor * (1 - ROUNDING))


@given(reference=some.laws, n=some.numbers, t=some.temperatures)
def test_the_relative_reward_gap_is_of_order_one_over_n(
    reference: bt.Policy, n: Any, t: Any
) -> None:
    tilt, weights, _ = tilted(reference, t)
    rewards, best = np.asarray(reference.rewards), tilt @ np.asarray(reference.rewards)
    assume(best > 0)
    constant = tilt @ (rewards * weights) / best
    earned = float(some.expected_reward(some.soft_best_of_n(reference, n, t)))
    assert best / earned - 1 <= (constant - 1) / float(n) + ROUNDING


@given(reference=some.laws, n=some.numbers, t=some.temperatures)
def test_soft_best_of_n_diverges_least_of_three_bounds(
    reference: bt.Policy, n: Any, t: Any
) -> None:
    mass, rewards = probs(reference), np.asarray(reference.rewards)
    extent, number = np.ptp(rewards[mass > 0]), float(n)
    smoothed = math.log(number / (1 + (number - 1) * math.exp(-extent / float(t))))  # [A] Lemma 4.1
    hard = math.log(number) - (number - 1) / number
    soft = float(some.kl(some.exponential_tilt(reference, t), reference))
    divergence = some.kl(some.soft_best_of_n(reference, n, t), reference)
    assert divergence <= min(soft, hard, smoothed) + ROUNDING


@given(reference=some.laws, n=some.numbers, t=st.floats(0.05, 20.0).map(jnp.asarray))
def test_the_regret_is_temperature_times_kl_to_the_tilt(
    reference: bt.Policy, n: Any, t: Any
) -> None:
    tilt, policy = some.exponential_tilt(reference, t), some.soft_best_of_n(reference, n, t)
    objectives = [some.expected_reward(p) - t * some.kl(p, reference) for p in (tilt, policy)]
    regret = t * some.kl(policy, tilt)
    assert float(regret) == pytest.approx(float(objectives[0] - objectives[1]), abs=1e-11)
    assert regret <= some.expected_reward(tilt) - some.expected_reward(policy) + ROUNDING


@pytest.mark.parametrize("name", some.SELECTIONS)
@given(data=st.data(), reference=some.laws, t=st.floats(0.1, 10.0))
def test_no_selection_beats_the_tilt_at_its_objective(
    name: str, data: Any, reference: bt.Policy, t: float
) -> None:
    """Donsker–Varadhan: E r − λ KL ≤ λ log E e^{r/λ}."""
    selection, parameters = some.SELECTIONS[name]
    policy = selection(reference, *[data.draw(parameter) for parameter in parameters])
    objective = some.expected_reward(policy) - t * some.kl(policy, reference)
    optimum = t * math.log(probs(reference) @ np.exp(np.asarray(reference.rewards) / t))
    assert objective <= optimum + ROUNDING


@pytest.mark.parametrize("name", some.SELECTIONS)
@given(data=st.data(), reference=some.laws, strength=some.strengths)
def test_no_selection_beats_the_chi_squared_tilt_at_its_objective(
    name: str, data: Any, reference: bt.Policy, strength: Any
) -> None:
    selection, parameters = some.SELECTIONS[name]
    policy = selection(reference, *[data.draw(parameter) for parameter in parameters])
    optimum = some.chi_squared_tilt(reference, strength)
    objective, best = (
        some.expected_reward(p) - strength / 2 * some.chi_squared(p, reference)
        for p in (policy, optimum)
    )
    assert objective <= best + ROUNDING


# --- the exponential race ([U]) ---------------------------------------------------------


@pytest.mark.parametrize("name", some.DIVERGENCES)
@given(reference=some.laws, n=some.numbers, t=some.temperatures)
def test_the_exponential_race_is_nearer_to_the_tilt(
    name: str, reference: bt.Policy, n: Any, t: Any
) -> None:
    tilt, divergence = some.exponential_tilt(reference, t), some.DIVERGENCES[name]
    race, soft = some.exponential_race(reference, n, t), some.soft_best_of_n(reference, n, t)
    for forwards in (True, False):
        from_race, from_soft = (
            divergence(p, tilt) if forwards else divergence(tilt, p) for p in (race, soft)
        )
        assert from_race <= from_soft * (1 + 1e-9) + 1e-12


@given(reference=some.laws, n=some.numbers, t=some.temperatures)
def test_the_exponential_race_misses_the_tilt_by_at_most_a_power(
    reference: bt.Policy, n: Any, t: Any
) -> None:
    tilt, weights, _ = tilted(reference, t)
    bound = (1 - 1 / weights[tilt > 0].max()) ** float(n)
    race = some.exponential_race(reference, n, t)
    assert some.total_variation(race, some.exponential_tilt(reference, t)) <= bound + 1e-12


# --- sharp constants --------------------------------------------------------------------

THREE = law([0.5, 0.3, 0.2, 0.0, 0.0], rewards=[0.0, 0.5, 1.0, 1.0, 0.0])


@pytest.mark.parametrize(("n", "value"), [(10.0, 0.5530888), (1000.0, 0.4744042)])
def test_divergence_to_the_tilt_is_of_order_one_over_n_squared(n: float, value: float) -> None:
    t = jnp.asarray(0.5)
    tilt, policy = some.exponential_tilt(THREE, t), some.soft_best_of_n(THREE, jnp.asarray(n), t)
    assert n**2 * float(some.kl(tilt, policy)) == pytest.approx(value, abs=6e-8)


@given(reference=some.laws, t=st.floats(0.3, 10.0).map(jnp.asarray))
def test_sharp_constants_of_the_rates(reference: bt.Policy, t: Any) -> None:
    # Corrections are of relative order w̄_max²/n ≤ e^{6.7}/n; rounding is 1e-14 n² of n² KL.
    tilt, weights, variance = tilted(reference, t)
    n, rewards = 1e6, np.asarray(reference.rewards)
    star, policy = (
        some.exponential_tilt(reference, t),
        some.soft_best_of_n(reference, jnp.asarray(n), t),
    )
    half_variance = 0.5 * tilt @ (weights - tilt @ weights) ** 2
    for divergence in (some.kl(star, policy), some.kl(policy, star)):
        assert n**2 * float(divergence) == pytest.approx(half_variance, rel=5e-3, abs=1e-5)
    covariance = tilt @ (rewards * weights) - (tilt @ rewards) * (tilt @ weights)
    gap = n * float(some.expected_reward(star) - some.expected_reward(policy))
    assert gap == pytest.approx(covariance, rel=5e-3, abs=1e-6)
    deviation = 0.5 * tilt @ np.abs(weights - 1 - variance)
    assert n * float(some.total_variation(star, policy)) == pytest.approx(
        deviation, rel=5e-3, abs=1e-6
    )


# --- the derivative in the temperature --------------------------------------------------

VALUES = np.array([0.3, -1.0, 2.0, 0.0, 1.0])


@jax.jit
def derivative_of_value(reference: bt.Policy, inverse_temperature: Any) -> jax.Array:
    def value(beta: jax.Array) -> jax.Array:
        return bt.expected_value(bt.soft_best_of_n(reference, 3.0, 1 / beta), jnp.asarray(VALUES))

    return jax.grad(value)(inverse_temperature)


@given(reference=some.laws, beta=st.floats(0.1, 20))
def test_the_derivative_in_temperature_is_the_softmax_covariance(
    reference: bt.Policy, beta: float
) -> None:
    """d/d(1/λ) E f = E_batch Cov_softmax(f, r), by enumeration of all 5³ batches."""
    mass, rewards = probs(reference), np.asarray(reference.rewards)
    batches = np.array(list(itertools.product(range(some.K), repeat=3)))
    weights = np.exp(beta * rewards[batches])
    softmax = weights / weights.sum(1, keepdims=True)
    f, r = VALUES[batches], rewards[batches]
    covariance = (softmax * f * r).sum(1) - (softmax * f).sum(1) * (softmax * r).sum(1)
    expected = mass[batches].prod(1) @ covariance
    assert float(derivative_of_value(reference, jnp.asarray(beta))) == pytest.approx(
        expected, abs=1e-11
    )
