"""Bounds at the ends of their parameters, every entry of the registry against multiprecision."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from bon_theory import bounds
from tests.bound_examples import FUNCTIONS, arguments
from tests.oracles import bounds as oracle

LAW = bt.Policy.from_probs(
    np.array([0.5, 0.3, 1e-9, 0.0, 0.2 - 1e-9]), rewards=np.array([0.5, 0.0, 1.0, 9.0, 0.5])
)
PROBS = np.asarray(LAW.probs).tolist()
POSSIBLE = [i for i, p in enumerate(PROBS) if p > 0]

# Each row is one problem; together they meet every pair of n and temperature.
NUMBERS = [1.0, 1.5, 2.5, 1e8, 1e15, 1e30]
TEMPERATURES = [1e-12, 1e-3, 0.3, 50.0, 1e15]
N, TEMPERATURE = (a.ravel() for a in np.meshgrid(NUMBERS, TEMPERATURES))
REPEATED: dict[str, list[float]] = {
    "order": [0.0, 1e-40, 1e-9, 0.4, 0.6, 1 - 1e-9, 1.0, 1 + 1e-9, 3.0, 1e15, 1e300, np.inf],
    "mean_extra_draws": [0.0, 1e-12, 0.04, 0.3, 0.9, 7.0, 49.0, 51.0, 1e4, 1e30],
    "strength": [1e-12, 1e-3, 0.69, 0.71, 5.0, 600.0, 1e4, 1e15, 1e30],
    "ratio": [1.0, 1.5, 2.0, 7.5, 1e3, 1e15, 1e30],
}
PARAMETERS: dict[str, Any] = {
    "n": N,
    "temperature": TEMPERATURE,
    **{name: np.resize(values, N.size) for name, values in REPEATED.items()},
}
TRUE_REWARD = np.array([0.2, 0.1, 0.0, 5.0, 0.1])
ORDERS = {"n": np.repeat(NUMBERS, 12), "order": np.resize(REPEATED["order"], 72)}

# These evaluate another law, and what they say of it is as accurate as that; see below.
COMPARISONS = {
    "soft_best_of_n_kl_from_tilt",
    "soft_best_of_n_kl_below_cooler",
    "exponential_race_kl_to_tilt",
    "exponential_race_kl_from_tilt",
}
SUMS = {"reward", "win_rate", "collisions"}  # what may be 0 as a sum of both signs


@cache
def formulas(**row: float) -> dict[str, Any]:
    """Every bound of one problem; what bounds have in common is computed once for all of them."""
    probs, rewards, true_rewards = (
        [np.asarray(x).tolist()[i] for i in POSSIBLE] for x in (LAW.probs, LAW.rewards, TRUE_REWARD)
    )
    return oracle.values(probs, rewards, true_rewards, **row)


def expected(name: str, parameters: dict[str, Any]) -> list[float]:
    rows = [
        dict(zip(parameters, row, strict=True)) for row in zip(*parameters.values(), strict=True)
    ]
    return [float(formulas(**row)[name]()) for row in rows]


@pytest.mark.parametrize("name", [name for name in bounds.REGISTRY if name not in COMPARISONS])
def test_a_bound_is_its_formula_at_the_ends_of_its_parameters(name: str) -> None:
    parameters = PARAMETERS if name != "best_of_n_renyi" else {**PARAMETERS, **ORDERS}
    size = parameters["n"].size
    parameters = {key: np.resize(values, size) for key, values in parameters.items()}
    given = {**parameters, "true_reward": TRUE_REWARD}
    got = np.asarray(FUNCTIONS[name](**arguments(name, LAW, given)).value)
    truth = expected(name, parameters)
    scale = 1e-13 if any(word in name for word in SUMS) else 1e-100  # the oracle's
    np.testing.assert_allclose(np.broadcast_to(got, size), truth, rtol=2e-12, atol=scale)


def test_no_bound_is_violated_at_the_ends_of_its_parameters() -> None:
    """Up to the rounding of the laws: a probability near 1 has 1e-16 of it."""
    given = {key: jnp.asarray(values) for key, values in PARAMETERS.items()}
    table = bounds.table(LAW, **given, true_reward=TRUE_REWARD)
    assert {row.name for row in table.rows} == set(bounds.REGISTRY)
    for row in table.rows:
        scale = np.maximum(1.0, np.where(np.isfinite(row.exact), np.abs(row.exact), 1.0))
        slack = np.where(row.bound.value == row.exact, 0.0, row.slack)  # both may be infinite
        assert np.all(slack >= -1e-11 * scale), row.name


def test_the_largest_order_of_nothing_is_nothing() -> None:
    for n in (1.0, 8.0, 1e15, 1e17, 1e30):
        assert float(bounds.best_of_n_renyi(n, 0.0).value) == 0
    few = float(bounds.best_of_n_renyi(8.0, 1e-9).value)
    assert few == pytest.approx(1e-9 * float(bounds.best_of_n_reverse_kl(8.0).value), rel=1e-7)


@pytest.mark.parametrize("temperature", [1e12, 1e15, 1e30])
def test_what_one_draw_can_buy_is_the_mean_at_any_temperature(temperature: float) -> None:
    reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
    bound = bounds.best_of_n_reward(reference, 1.0, temperature).value
    assert float(bound) == pytest.approx(0.35, rel=1e-12)


@pytest.mark.slow
def test_derivatives_are_numbers_at_the_ends() -> None:
    small = {"n": 1e30, "temperature": 1e15, "order": 1e-9, "mean_extra_draws": 1e30}
    cold = {"n": 1.0, "temperature": 1e-12, "order": 1.0, "mean_extra_draws": 0.0}
    for parameters in (small, cold):
        given = {**parameters, "strength": 1e30, "ratio": 3.0, "true_reward": TRUE_REWARD}
        for name in set(bounds.REGISTRY) - COMPARISONS:
            names = [key for key in arguments(name, LAW, given) if key != "reference"]
            if not names:
                continue
            slope = jax.grad(
                lambda point, name=name: FUNCTIONS[name](**arguments(name, LAW, point)).value
            )(given)
            assert not any(np.isnan(slope[key]).any() for key in names), name
