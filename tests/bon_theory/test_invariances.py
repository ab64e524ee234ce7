"""What a selection does not depend on, and how selections compose.

Tolerances as in ``test_laws.py``: ten times the accuracy of a probability against enumeration.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bon_theory as bt
from tests import strategies as some
from tests.strategies import K, drawn, probs

by_selection = pytest.mark.parametrize("name", some.SELECTIONS)
by_rank_selection = pytest.mark.parametrize("name", some.RANK)


# --- invariances ------------------------------------------------------------------------


@by_selection
@given(data=st.data(), reference=some.laws, order=st.permutations(range(K)))
def test_the_order_of_outcomes_does_not_matter(
    name: str, data: Any, reference: bt.Policy, order: list[int]
) -> None:
    rule, places = drawn(data, name), np.array(order)
    shuffled = some.policy_of(probs(reference)[places], np.asarray(reference.rewards)[places])
    np.testing.assert_allclose(
        probs(rule(shuffled)), probs(rule(reference))[places], rtol=1e-11, atol=1e-13
    )


@by_selection
@given(data=st.data(), reference=some.laws, shift=st.integers(-8, 8))
def test_a_shift_of_all_rewards_does_not_matter(
    name: str, data: Any, reference: bt.Policy, shift: int
) -> None:
    # Rewards are multiples of 2^-24 or so: the shift is exact up to rounding of 1e-15 in r/λ·λ.
    rule = drawn(data, name)
    shifted = some.with_rewards(reference, np.asarray(reference.rewards) + float(shift))
    np.testing.assert_allclose(probs(rule(shifted)), probs(rule(reference)), rtol=1e-11, atol=1e-13)


SCALED = [
    *("soft_best_of_n", "soft_best_of_poisson", "exponential_race"),
    *("noisy_best_of_n", "exponential_tilt"),
]


@pytest.mark.parametrize("name", [*SCALED, "chi_squared_tilt"])
@given(data=st.data(), reference=some.laws, power=st.integers(-6, 6))
def test_the_unit_of_reward_and_temperature_does_not_matter(
    name: str, data: Any, reference: bt.Policy, power: int
) -> None:
    selection, parameters = some.SELECTIONS[name]
    *others, temperature = [data.draw(parameter) for parameter in parameters]
    unit = 2.0**power
    scaled = some.with_rewards(reference, np.asarray(reference.rewards) * unit)
    np.testing.assert_allclose(
        probs(selection(scaled, *others, temperature * unit)),
        probs(selection(reference, *others, temperature)),
        rtol=1e-11,
        atol=1e-13,
    )


@by_rank_selection
@given(data=st.data(), reference=some.laws)
def test_rank_selections_see_only_the_order_of_rewards(
    name: str, data: Any, reference: bt.Policy
) -> None:
    rule, rewards = drawn(data, name), np.asarray(reference.rewards)
    _, ranks = np.unique(rewards, return_inverse=True)
    cubed = some.with_rewards(reference, ranks.astype(float) ** 3 - 7)
    # The law is normalised again, and n magnifies that rounding of F.
    np.testing.assert_allclose(probs(rule(cubed)), probs(rule(reference)), rtol=1e-12)


@by_selection
@given(data=st.data(), reference=some.laws, share=st.floats(0.0, 1.0))
def test_splitting_an_outcome_into_ties_splits_its_probability(
    name: str, data: Any, reference: bt.Policy, share: float
) -> None:
    rule, mass, rewards = drawn(data, name), probs(reference), np.array(reference.rewards)
    rewards[1] = rewards[0]
    whole = np.array([mass[0] + mass[1], 0, *mass[2:]])
    split = np.array([share * whole[0], (1 - share) * whole[0], *mass[2:]])
    merged = probs(rule(some.policy_of(whole, rewards)))
    expected = np.array([share * merged[0], (1 - share) * merged[0], *merged[2:]])
    np.testing.assert_allclose(
        probs(rule(some.policy_of(split, rewards))), expected, rtol=1e-11, atol=1e-13
    )


@by_selection
@given(data=st.data(), reference=some.laws, reward=st.sampled_from([-1e30, -3.0, 0.5, 7.0, 1e30]))
def test_the_reward_of_an_impossible_outcome_does_not_matter(
    name: str, data: Any, reference: bt.Policy, reward: float
) -> None:
    rule, mass, rewards = drawn(data, name), probs(reference), np.array(reference.rewards)
    mass = np.array([*mass[:-1], 0.0]) / mass[:-1].sum()
    before = probs(rule(some.policy_of(mass, rewards)))
    rewards[-1] = reward
    after = probs(rule(some.policy_of(mass, rewards)))
    np.testing.assert_allclose(after, before, rtol=1e-11, atol=1e-13)


# --- compositions -----------------------------------------------------------------------


@given(reference=some.laws, m=st.floats(1, 30), n=st.floats(1, 30))
def test_best_of_m_of_best_of_n_is_best_of_mn(reference: bt.Policy, m: float, n: float) -> None:
    twice = some.best_of_n(some.best_of_n(reference, jnp.asarray(n)), jnp.asarray(m))
    once = some.best_of_n(reference, jnp.asarray(m * n))
    np.testing.assert_allclose(probs(twice), probs(once), rtol=1e-10, atol=1e-14)


@given(reference=some.laws, n=some.numbers)
def test_worst_of_n_is_best_of_n_of_the_negated_reward(reference: bt.Policy, n: Any) -> None:
    negated = some.with_rewards(reference, -np.asarray(reference.rewards))
    np.testing.assert_allclose(
        probs(some.worst_of_n(reference, n)), probs(some.best_of_n(negated, n)), rtol=1e-11
    )


@given(reference=some.laws, a=some.fractions, b=some.fractions)
def test_the_top_of_the_top_is_the_product(reference: bt.Policy, a: Any, b: Any) -> None:
    twice = some.top_fraction(some.top_fraction(reference, a), b)
    np.testing.assert_allclose(probs(twice), probs(some.top_fraction(reference, a * b)), atol=1e-11)


@given(reference=some.laws, s=st.floats(0.1, 10), t=st.floats(0.1, 10))
def test_tilts_add_their_inverse_temperatures(reference: bt.Policy, s: float, t: float) -> None:
    twice = some.exponential_tilt(some.exponential_tilt(reference, jnp.asarray(s)), jnp.asarray(t))
    once = some.exponential_tilt(reference, jnp.asarray(1 / (1 / s + 1 / t)))
    np.testing.assert_allclose(probs(twice), probs(once), rtol=1e-12)


# Best-of-N with a random N is the mixture of best-of-n; 60 terms hold all but 1e-20 of these.
COUNTS = jnp.arange(1.0, 61.0)
each_best: Any = jax.jit(jax.vmap(bt.best_of_n, in_axes=(None, 0)))
each_soft: Any = jax.jit(jax.vmap(bt.soft_best_of_n, in_axes=(None, 0, None)))


def poisson(mean: float, counts: np.ndarray) -> np.ndarray:
    return np.array([math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in counts])


@given(reference=some.laws, mean=st.floats(0.01, 8))
def test_best_of_poisson_mixes_best_of_n(reference: bt.Policy, mean: float) -> None:
    mixture = poisson(mean, np.arange(60)) @ probs(each_best(reference, COUNTS))
    policy = some.best_of_poisson(reference, jnp.asarray(mean))
    np.testing.assert_allclose(probs(policy), mixture, rtol=1e-12, atol=1e-15)


@given(reference=some.laws, strength=st.floats(0.01, 8))
def test_win_rate_optimal_mixes_best_of_a_positive_poisson_number(
    reference: bt.Policy, strength: float
) -> None:
    weights = poisson(strength, np.arange(1, 61)) / -math.expm1(-strength)
    policy = some.win_rate_optimal(reference, jnp.asarray(strength))
    mixture = weights @ probs(each_best(reference, COUNTS))
    np.testing.assert_allclose(probs(policy), mixture, rtol=1e-12, atol=1e-15)


@given(reference=some.laws, mean=st.floats(0.01, 8), t=some.temperatures)
def test_soft_best_of_poisson_mixes_soft_best_of_n(
    reference: bt.Policy, mean: float, t: Any
) -> None:
    mixture = poisson(mean, np.arange(60)) @ probs(each_soft(reference, COUNTS, t))
    policy = some.soft_best_of_poisson(reference, jnp.asarray(mean), t)
    np.testing.assert_allclose(probs(policy), mixture, rtol=1e-11, atol=1e-14)


@given(reference=some.laws, t=some.temperatures)
def test_two_soft_candidates_meet_in_a_logistic_duel(reference: bt.Policy, t: Any) -> None:
    mass, rewards = probs(reference), np.asarray(reference.rewards)
    duel = 1 / (1 + np.exp(np.clip((rewards - rewards[:, None]) / float(t), -700, 700)))
    np.testing.assert_allclose(
        probs(some.soft_best_of_n(reference, jnp.asarray(2.0), t)),
        2 * mass * (duel @ mass),
        rtol=1e-12,
        atol=1e-300,
    )
