"""Under jit values cannot be looked at: an inadmissible law is NaN throughout."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt

NAN, INF = math.nan, math.inf
SELECTIONS: dict[str, Callable[[bt.Policy], bt.Policy]] = {
    "best": lambda law: bt.best_of_n(law, 2.0),
    "worst": lambda law: bt.worst_of_n(law, 2.0),
    "Poisson": lambda law: bt.best_of_poisson(law, 2.0),
    "optimal": lambda law: bt.win_rate_optimal(law, 2.0),
    "top": lambda law: bt.top_fraction(law, 0.5),
    "soft": lambda law: bt.soft_best_of_n(law, 2.0, 0.1),
    "hard by temperature": lambda law: bt.soft_best_of_n(law, 2.0, 0.0),
    "soft Poisson": lambda law: bt.soft_best_of_poisson(law, 2.0, 0.1),
    "race": lambda law: bt.exponential_race(law, 2.0, 0.1),
    "tilt": lambda law: bt.exponential_tilt(law, 0.1),
    "cold tilt": lambda law: bt.exponential_tilt(law, 0.0),
    "clipped tilt": lambda law: bt.chi_squared_tilt(law, 1.0),
}


@pytest.mark.parametrize(
    ("probs", "rewards"),
    [
        ([0.5, 0.5, NAN], [0.0, 1.0, 2.0]),
        ([1.0, 0.5, -0.5], [0.0, 1.0, 2.0]),
        ([0.5, 0.6, 0.1], [0.0, 1.0, 2.0]),
        ([0.5, 0.3, 0.2], [NAN, 1.0, 2.0]),
        ([0.5, 0.3, 0.2], [0.0, 1.0, INF]),
    ],
    ids=["NaN", "negative", "sum", "NaN reward", "infinite reward"],
)
def test_an_inadmissible_traced_law_is_nan_throughout(probs: Any, rewards: Any) -> None:
    @jax.jit
    def everything(probs: jax.Array, rewards: jax.Array) -> dict[str, Any]:
        law = bt.Policy.from_probs(probs, rewards)
        selected = {name: select(law) for name, select in SELECTIONS.items()}
        return {
            name: [
                policy.probs,
                bt.kl_divergence(policy, law),
                bt.renyi_divergence(policy, law, 2.0),
                bt.total_variation(policy, law),
                bt.squared_hellinger(policy, law),
                bt.jensen_shannon(policy, law),
                bt.chi_squared_divergence(policy, law),
                bt.win_rate(policy, law),
                bt.expected_reward(policy),
            ]
            for name, policy in {"itself": law, **selected}.items()
        }

    for name, values in everything(jnp.asarray(probs), jnp.asarray(rewards)).items():
        for value in values:
            assert np.isnan(np.asarray(value)).all(), name


def test_shapes_are_checked_under_jit() -> None:
    with pytest.raises(ValueError, match="rewards must have one value per outcome"):
        jax.jit(bt.Policy.from_probs)(jnp.full(2, 0.5), jnp.zeros(3))
