"""Laws that hold for every reference: what selections do, whatever the numbers.

Tolerances are about ten times the accuracy that `test_selection_exact.py` establishes against
enumeration: 1e-12 relative, for probabilities down to e^{-1000}; beyond, a stored logarithm L has a
rounding error of |L| eps, which `slack` allows for.
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
from tests.strategies import K, log_ratio, probs

by_selection = pytest.mark.parametrize("name", some.SELECTIONS)
by_rank_selection = pytest.mark.parametrize("name", some.RANK)
ABOVE_REFERENCE = [name for name in some.SELECTIONS if name != "worst_of_n"]


def select(data: st.DataObject, name: str) -> Any:
    """A selection with its parameters drawn: a function of the reference alone."""
    selection, parameters = some.SELECTIONS[name]
    drawn = [data.draw(parameter) for parameter in parameters]
    return lambda reference: selection(reference, *drawn)


def slack(*policies: bt.Policy) -> float:
    logs = np.concatenate([np.asarray(policy.log_probs) for policy in policies])
    return 1e-11 * (1 + np.max(np.abs(logs[logs > -np.inf])) / 1000)


def increases(values: np.ndarray, tolerance: float) -> bool:
    return bool(np.all(np.diff(values) >= -tolerance))


# --- every selection is a law, and shares ties out as the reference does ----------------


@by_selection
@given(data=st.data(), reference=some.laws)
def test_selected_probabilities_sum_to_one(name: str, data: Any, reference: bt.Policy) -> None:
    assert math.fsum(probs(select(data, name)(reference))) == pytest.approx(1, abs=1e-12)


@by_selection
@given(data=st.data(), reference=some.laws)
def test_nothing_impossible_is_selected(name: str, data: Any, reference: bt.Policy) -> None:
    policy = select(data, name)(reference)
    assert np.all(probs(policy)[probs(reference) == 0] == 0)
    assert not np.isnan(np.asarray(policy.log_probs)).any()


@by_selection
@given(data=st.data(), reference=some.laws)
def test_tied_outcomes_have_equal_ratios(name: str, data: Any, reference: bt.Policy) -> None:
    policy = select(data, name)(reference)
    ratio, order = log_ratio(policy, reference), np.argsort(reference.rewards, kind="stable")
    order = order[probs(reference)[order] > 0]
    tied = np.diff(np.asarray(reference.rewards)[order]) == 0
    between = np.diff(np.maximum(ratio, -1e9))  # two impossible outcomes do not differ
    assert np.all(np.abs(between[tied]) <= slack(policy))


@by_selection
@given(data=st.data(), reference=some.laws)
def test_the_reward_cdf_is_that_of_the_selected_law(
    name: str, data: Any, reference: bt.Policy
) -> None:
    policy = select(data, name)(reference)
    rewards, mass = np.asarray(policy.rewards), probs(policy)
    below = (mass * (rewards < rewards[:, None])).sum(1)
    at_most = (mass * (rewards <= rewards[:, None])).sum(1)
    np.testing.assert_allclose(np.exp(policy.log_cdf_below), below, atol=1e-12)
    np.testing.assert_allclose(np.exp(policy.log_cdf), at_most, atol=1e-12)


# --- order ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ABOVE_REFERENCE)
@given(data=st.data(), reference=some.laws)
def test_higher_rewards_gain_more(name: str, data: Any, reference: bt.Policy) -> None:
    policy = select(data, name)(reference)
    ratio = log_ratio(policy, reference)
    assert increases(ratio[ratio > -np.inf], slack(policy))
    assert np.all(np.diff((ratio > -np.inf).astype(int)) >= 0)


@pytest.mark.parametrize("name", ABOVE_REFERENCE)
@given(data=st.data(), reference=some.laws)
def test_selection_raises_the_reward_and_wins(name: str, data: Any, reference: bt.Policy) -> None:
    policy = select(data, name)(reference)
    assert some.expected_reward(policy) >= some.expected_reward(reference) - 1e-12
    assert some.win_rate(policy, reference) >= 0.5 - 1e-12


@given(reference=some.laws, n=some.numbers, extra=st.floats(0.01, 100.0))
def test_best_of_n_is_ordered_in_n(reference: bt.Policy, n: Any, extra: float) -> None:
    fewer, more = some.best_of_n(reference, n), some.best_of_n(reference, n + extra)
    assert increases(log_ratio(more, fewer), slack(fewer, more))


@given(reference=some.laws, n=some.numbers, extra=st.floats(0.01, 100.0), t=some.temperatures)
def test_soft_best_of_n_is_ordered_in_n(reference: bt.Policy, n: Any, extra: float, t: Any) -> None:
    fewer, more = some.soft_best_of_n(reference, n, t), some.soft_best_of_n(reference, n + extra, t)
    assert increases(log_ratio(more, fewer), slack(fewer, more))


@given(reference=some.laws, n=some.numbers, t=some.temperatures)
def test_soft_best_of_n_lies_between_reference_and_tilt(
    reference: bt.Policy, n: Any, t: Any
) -> None:
    policy, tilt = some.soft_best_of_n(reference, n, t), some.exponential_tilt(reference, t)
    assert increases(log_ratio(policy, reference), slack(policy))
    assert increases(log_ratio(tilt, policy), slack(policy, tilt))


@pytest.mark.parametrize("name", ["best_of_n", "soft_best_of_n", "exponential_race"])
@given(data=st.data(), reference=some.laws, n=some.numbers, extra=st.floats(0.01, 100.0))
def test_reward_and_divergence_increase_with_n(
    name: str, data: Any, reference: bt.Policy, n: Any, extra: float
) -> None:
    selection, (_, *others) = some.SELECTIONS[name]
    drawn = [data.draw(other) for other in others]
    fewer, more = selection(reference, n, *drawn), selection(reference, n + extra, *drawn)
    assert some.expected_reward(more) >= some.expected_reward(fewer) - 1e-12
    assert some.kl(more, reference) >= some.kl(fewer, reference) - 1e-12


@given(reference=some.laws, n=some.numbers, extra=st.floats(0.01, 100.0), t=some.temperatures)
def test_soft_best_of_n_nears_the_tilt_as_n_grows(
    reference: bt.Policy, n: Any, extra: float, t: Any
) -> None:
    tilt = some.exponential_tilt(reference, t)
    fewer, more = some.soft_best_of_n(reference, n, t), some.soft_best_of_n(reference, n + extra, t)
    assert some.kl(tilt, more) <= some.kl(tilt, fewer) + 1e-12
    assert some.kl(more, tilt) <= some.kl(fewer, tilt) + 1e-12


# --- one candidate, no pressure, no temperature: the reference --------------------------

IDENTITIES = {
    "best_of_n": (1.0,),
    "worst_of_n": (1.0,),
    "best_of_poisson": (0.0,),
    "win_rate_optimal": (0.0,),
    "top_fraction": (1.0,),
    "soft_best_of_n": (1.0, 0.1),
    "soft_best_of_poisson": (0.0, 0.1),
    "exponential_race": (1.0, 0.1),
    "exponential_tilt": (math.inf,),
}


@pytest.mark.parametrize("name", IDENTITIES)
@given(reference=some.laws)
def test_at_its_neutral_parameter_a_selection_is_the_reference(
    name: str, reference: bt.Policy
) -> None:
    policy = some.SELECTIONS[name][0](reference, *map(jnp.asarray, IDENTITIES[name]))
    np.testing.assert_allclose(log_ratio(policy, reference), 0, atol=1e-12)


@given(reference=some.laws)
def test_a_vast_regularisation_leaves_the_reference(reference: bt.Policy) -> None:
    policy = some.chi_squared_tilt(reference, jnp.asarray(1e13))  # P/π = 1 + (r - E r)/β
    np.testing.assert_allclose(log_ratio(policy, reference), 0, atol=1e-12)


# --- limits as equalities between algorithms --------------------------------------------

HARD_LIMITS = {
    "soft_best_of_n": some.best_of_n,
    "exponential_race": some.best_of_n,
    "soft_best_of_poisson": some.best_of_poisson,
}


@pytest.mark.parametrize("name", HARD_LIMITS)
@pytest.mark.parametrize("temperature", [0.0, 1e-9])
@given(reference=some.laws, n=some.numbers)
def test_without_temperature_a_race_is_its_hard_rule(
    name: str, temperature: float, reference: bt.Policy, n: Any
) -> None:
    # Rewards are at least 2^-24 apart, so at 1e-9 a lower candidate has a chance of e^{-59}.
    soft = some.SELECTIONS[name][0](reference, n, jnp.asarray(temperature))
    np.testing.assert_allclose(probs(soft), probs(HARD_LIMITS[name](reference, n)), atol=1e-11)


@pytest.mark.parametrize("name", HARD_LIMITS)
@given(reference=some.laws, n=some.numbers)
def test_at_infinite_temperature_a_race_is_the_reference(
    name: str, reference: bt.Policy, n: Any
) -> None:
    policy = some.SELECTIONS[name][0](reference, n, jnp.asarray(math.inf))
    np.testing.assert_allclose(log_ratio(policy, reference), 0, atol=1e-11)


@given(reference=some.laws)
def test_the_cold_tilt_keeps_the_highest_reward_alone(reference: bt.Policy) -> None:
    mass, rewards = probs(reference), np.asarray(reference.rewards)
    top = np.where((mass > 0) & (rewards == rewards[mass > 0].max()), mass, 0)
    cold = some.exponential_tilt(reference, jnp.asarray(0.0))
    np.testing.assert_allclose(probs(cold), top / top.sum(), rtol=1e-13)


@pytest.mark.parametrize("name", ["soft_best_of_n", "exponential_race", "soft_best_of_poisson"])
@given(reference=some.laws, t=st.floats(0.05, 10.0).map(jnp.asarray))
def test_countless_candidates_give_the_tilt(name: str, reference: bt.Policy, t: Any) -> None:
    # n(P_n - P*) is at most max w̄² P*, which is below e^{40}; n = e^{90} leaves e^{-50}.
    race = some.SELECTIONS[name][0](reference, jnp.exp(jnp.asarray(90.0)), t)
    tilt = some.exponential_tilt(reference, t)
    np.testing.assert_allclose(log_ratio(race, tilt), 0, atol=1e-11)


# --- invariances ------------------------------------------------------------------------


@by_selection
@given(data=st.data(), reference=some.laws, order=st.permutations(range(K)))
def test_the_order_of_outcomes_does_not_matter(
    name: str, data: Any, reference: bt.Policy, order: list[int]
) -> None:
    rule, places = select(data, name), np.array(order)
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
    rule = select(data, name)
    shifted = some.with_rewards(reference, np.asarray(reference.rewards) + float(shift))
    np.testing.assert_allclose(probs(rule(shifted)), probs(rule(reference)), rtol=1e-11, atol=1e-13)


SCALED = ["soft_best_of_n", "soft_best_of_poisson", "exponential_race", "exponential_tilt"]


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
    rule, rewards = select(data, name), np.asarray(reference.rewards)
    _, ranks = np.unique(rewards, return_inverse=True)
    cubed = some.with_rewards(reference, ranks.astype(float) ** 3 - 7)
    np.testing.assert_allclose(probs(rule(cubed)), probs(rule(reference)), rtol=1e-13)


@by_selection
@given(data=st.data(), reference=some.laws, share=st.floats(0.0, 1.0))
def test_splitting_an_outcome_into_ties_splits_its_probability(
    name: str, data: Any, reference: bt.Policy, share: float
) -> None:
    rule, mass, rewards = select(data, name), probs(reference), np.array(reference.rewards)
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
    rule, mass, rewards = select(data, name), probs(reference), np.array(reference.rewards)
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
