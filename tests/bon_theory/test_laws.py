"""Laws that hold for every reference: what selections do, whatever the numbers.

Tolerances are about ten times the accuracy that ``test_selection_exact.py`` establishes against
enumeration: 1e-12 relative, for probabilities down to e^{-1000}; beyond, a stored logarithm L has a
rounding error of |L| eps, which ``slack`` allows for.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bon_theory as bt
from tests import strategies as some
from tests.strategies import drawn, log_ratio, probs

by_selection = pytest.mark.parametrize("name", some.SELECTIONS)
ABOVE_REFERENCE = [name for name in some.SELECTIONS if name not in ("worst_of_n", "kth_best_of_n")]


def slack(*policies: bt.Policy) -> float:
    logs = np.concatenate([np.asarray(policy.log_probs) for policy in policies])
    return 1e-11 * (1 + np.max(np.abs(logs[logs > -np.inf])) / 1000)


def increases(values: np.ndarray, tolerance: float) -> bool:
    return bool(np.all(np.diff(values) >= -tolerance))


# --- every selection is a law, and shares ties out as the reference does ----------------


@by_selection
@given(data=st.data(), reference=some.laws)
def test_selected_probabilities_sum_to_one(name: str, data: Any, reference: bt.Policy) -> None:
    assert math.fsum(probs(drawn(data, name)(reference))) == pytest.approx(1, abs=1e-12)


@by_selection
@given(data=st.data(), reference=some.laws)
def test_nothing_impossible_is_selected(name: str, data: Any, reference: bt.Policy) -> None:
    policy = drawn(data, name)(reference)
    assert np.all(probs(policy)[probs(reference) == 0] == 0)
    assert not np.isnan(np.asarray(policy.log_probs)).any()


@by_selection
@given(data=st.data(), reference=some.laws)
def test_tied_outcomes_have_equal_ratios(name: str, data: Any, reference: bt.Policy) -> None:
    policy = drawn(data, name)(reference)
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
    policy = drawn(data, name)(reference)
    rewards, mass = np.asarray(policy.rewards), probs(policy)
    below = (mass * (rewards < rewards[:, None])).sum(1)
    at_most = (mass * (rewards <= rewards[:, None])).sum(1)
    np.testing.assert_allclose(np.exp(policy.log_cdf_below), below, atol=1e-12)
    np.testing.assert_allclose(np.exp(policy.log_cdf), at_most, atol=1e-12)


# --- order ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ABOVE_REFERENCE)
@given(data=st.data(), reference=some.laws)
def test_higher_rewards_gain_more(name: str, data: Any, reference: bt.Policy) -> None:
    policy = drawn(data, name)(reference)
    ratio = log_ratio(policy, reference)
    assert increases(ratio[ratio > -np.inf], slack(policy))
    assert np.all(np.diff((ratio > -np.inf).astype(int)) >= 0)


@pytest.mark.parametrize("name", ABOVE_REFERENCE)
@given(data=st.data(), reference=some.laws)
def test_selection_raises_the_reward_and_wins(name: str, data: Any, reference: bt.Policy) -> None:
    policy = drawn(data, name)(reference)
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


@pytest.mark.parametrize(
    "name", ["best_of_n", "soft_best_of_n", "exponential_race", "noisy_best_of_n"]
)
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
    "best_of_n_stopped": (0.0, 7.0),
    "kth_best_of_n": (1.0, 1.0),
    "top_k_of_n": (7.5, 7.5),
    "soft_best_of_n": (1.0, 0.1),
    "soft_best_of_poisson": (0.0, 0.1),
    "exponential_race": (1.0, 0.1),
    "noisy_best_of_n": (1.0, 0.1),
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


@given(reference=some.laws, n=some.numbers)
def test_the_first_and_the_last_place_are_best_and_worst(reference: bt.Policy, n: Any) -> None:
    for place, rule in ((jnp.asarray(1.0), some.best_of_n), (n, some.worst_of_n)):
        policy = some.kth_best_of_n(reference, n, place)
        expected = rule(reference, n)
        np.testing.assert_allclose(
            log_ratio(policy, reference), log_ratio(expected, reference), atol=slack(expected)
        )


@given(reference=some.laws, n=some.numbers)
def test_without_a_threshold_it_stops_at_the_best(reference: bt.Policy, n: Any) -> None:
    policy = some.best_of_n_stopped(reference, jnp.asarray(1.0), n)
    expected = some.best_of_n(reference, n)
    np.testing.assert_allclose(
        log_ratio(policy, reference), log_ratio(expected, reference), atol=slack(expected)
    )


@given(reference=some.laws, fraction=some.fractions)
def test_with_no_limit_it_stops_in_the_top_fraction(reference: bt.Policy, fraction: Any) -> None:
    policy = some.best_of_n_stopped(reference, 1 - fraction, jnp.asarray(1e6))
    np.testing.assert_allclose(
        probs(policy), probs(some.top_fraction(reference, fraction)), atol=1e-11
    )


@given(reference=some.laws, n=some.many, k=some.places)
def test_top_places_have_a_bounded_density(reference: bt.Policy, n: Any, k: Any) -> None:
    ratio = log_ratio(some.top_k_of_n(reference, n, k), reference)
    assert np.all(ratio <= np.log(float(n) / float(k)) + 1e-12)


HARD_LIMITS = {
    "soft_best_of_n": some.best_of_n,
    "exponential_race": some.best_of_n,
    "noisy_best_of_n": some.best_of_n,
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
