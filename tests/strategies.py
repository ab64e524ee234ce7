"""Random laws and parameters for properties, and the compiled functions they are put through.

Every law has K = 5 outcomes, so that each function compiles once however many examples it sees.
Rewards lie on a coarse grid half of the time (ties), probabilities may be zero or tiny.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st
from jax.typing import ArrayLike

import bon_theory as bt

K = 5

Selection = Callable[..., bt.Policy]

policy_of: Callable[[Any, Any], bt.Policy] = jax.jit(bt.Policy.from_probs)


def law(probs: Sequence[float], rewards: Sequence[float]) -> bt.Policy:
    """A law written down by hand."""
    return bt.Policy.from_probs(jnp.asarray(probs), jnp.asarray(rewards))


# --- laws -------------------------------------------------------------------------------

_masses = st.one_of(st.floats(0.01, 1.0), st.sampled_from([0.0, 1e-12, 1e-3]))
_rewards_on_a_grid = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=K, max_size=K)
_rewards_anywhere = st.lists(st.floats(0.0, 1.0, width=16), min_size=K, max_size=K)


def _normalised(masses: list[float]) -> np.ndarray:
    # The first outcome always has mass, so that there is something to normalise.
    weights = np.array([max(masses[0], 0.1), *masses[1:]])
    return weights / weights.sum()


probabilities: st.SearchStrategy[np.ndarray] = st.lists(_masses, min_size=K, max_size=K).map(
    _normalised
)
rewards: st.SearchStrategy[np.ndarray] = st.one_of(_rewards_on_a_grid, _rewards_anywhere).map(
    np.array
)
laws: st.SearchStrategy[bt.Policy] = st.builds(policy_of, probabilities, rewards)
"""Discrete laws on rewards in [0, 1], in no order, with ties, impossible and tiny outcomes."""

# --- parameters -------------------------------------------------------------------------

numbers: st.SearchStrategy[jax.Array] = st.one_of(
    st.integers(1, 20).map(float), st.floats(1.0, 1e4)
).map(jnp.asarray)
"""Numbers of candidates, real."""

many: st.SearchStrategy[jax.Array] = st.one_of(
    st.integers(5, 20).map(float), st.floats(5.0, 1e4)
).map(jnp.asarray)
places: st.SearchStrategy[jax.Array] = st.one_of(
    st.integers(1, 5).map(float), st.floats(1.0, 5.0)
).map(jnp.asarray)
"""Numbers of candidates, and places among them, of which there are never more."""

temperatures: st.SearchStrategy[jax.Array] = st.floats(-2.0, 2.0).map(
    lambda x: jnp.asarray(10.0**x)
)
means: st.SearchStrategy[jax.Array] = st.floats(0.0, 50.0).map(jnp.asarray)
fractions: st.SearchStrategy[jax.Array] = st.floats(0.01, 1.0).map(jnp.asarray)
strengths: st.SearchStrategy[jax.Array] = st.floats(0.01, 10.0).map(jnp.asarray)
orders: st.SearchStrategy[jax.Array] = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0, 2.0, np.inf]), st.floats(0.0, 5.0)
).map(jnp.asarray)

# --- the selections, compiled -----------------------------------------------------------

best_of_n: Selection = jax.jit(bt.best_of_n)
worst_of_n: Selection = jax.jit(bt.worst_of_n)
best_of_poisson: Selection = jax.jit(bt.best_of_poisson)
win_rate_optimal: Selection = jax.jit(bt.win_rate_optimal)
top_fraction: Selection = jax.jit(bt.top_fraction)
best_of_n_stopped: Selection = jax.jit(bt.best_of_n_stopped)
kth_best_of_n: Selection = jax.jit(bt.kth_best_of_n)
top_k_of_n: Selection = jax.jit(bt.top_k_of_n)
soft_best_of_n: Selection = jax.jit(bt.soft_best_of_n)
soft_best_of_poisson: Selection = jax.jit(bt.soft_best_of_poisson)
exponential_race: Selection = jax.jit(bt.exponential_race)
noisy_best_of_n: Selection = jax.jit(bt.noisy_best_of_n)
exponential_tilt: Selection = jax.jit(bt.exponential_tilt)
chi_squared_tilt: Selection = jax.jit(bt.chi_squared_tilt)

RANK: dict[str, tuple[Selection, tuple[Any, ...]]] = {
    "best_of_n": (best_of_n, (numbers,)),
    "worst_of_n": (worst_of_n, (numbers,)),
    "best_of_poisson": (best_of_poisson, (means,)),
    "win_rate_optimal": (win_rate_optimal, (means,)),
    "top_fraction": (top_fraction, (fractions,)),
    "best_of_n_stopped": (best_of_n_stopped, (fractions, numbers)),
    "kth_best_of_n": (kth_best_of_n, (many, places)),
    "top_k_of_n": (top_k_of_n, (many, places)),
}
SOFT: dict[str, tuple[Selection, tuple[Any, ...]]] = {
    "soft_best_of_n": (soft_best_of_n, (numbers, temperatures)),
    "soft_best_of_poisson": (soft_best_of_poisson, (means, temperatures)),
    "exponential_race": (exponential_race, (numbers, temperatures)),
    "noisy_best_of_n": (noisy_best_of_n, (numbers, temperatures)),
    "exponential_tilt": (exponential_tilt, (temperatures,)),
}
SELECTIONS = {**RANK, **SOFT, "chi_squared_tilt": (chi_squared_tilt, (strengths,))}
"""Every selection, with strategies for its parameters."""


def drawn(data: st.DataObject, name: str) -> Selection:
    """A selection with its parameters drawn: a function of the reference alone."""
    selection, parameters = SELECTIONS[name]
    values = [data.draw(parameter) for parameter in parameters]
    return lambda reference: selection(reference, *values)


# --- functionals, compiled --------------------------------------------------------------

Functional = Callable[..., jax.Array]

kl: Functional = jax.jit(bt.kl_divergence)
renyi: Functional = jax.jit(bt.renyi_divergence)
chi_squared: Functional = jax.jit(bt.chi_squared_divergence)
total_variation: Functional = jax.jit(bt.total_variation)
squared_hellinger: Functional = jax.jit(bt.squared_hellinger)
jensen_shannon: Functional = jax.jit(bt.jensen_shannon)
expected_reward: Functional = jax.jit(bt.expected_reward)
win_rate: Functional = jax.jit(bt.win_rate, static_argnames="ties")

DIVERGENCES: dict[str, Functional] = {
    "kl": kl,
    "chi_squared": chi_squared,
    "total_variation": total_variation,
    "squared_hellinger": squared_hellinger,
    "jensen_shannon": jensen_shannon,
}


def probs(policy: bt.Policy) -> np.ndarray:
    """Probabilities as a NumPy array, in which arithmetic needs no tracing."""
    return np.exp(np.asarray(policy.log_probs))


def log_ratio(policy: bt.Policy, reference: bt.Policy) -> np.ndarray:
    """log P/π where the reference has mass, in order of reward; the rest is dropped."""
    p, q = np.asarray(policy.log_probs), np.asarray(reference.log_probs)
    order = np.argsort(np.asarray(reference.rewards), kind="stable")
    order = order[q[order] > -np.inf]
    return p[order] - q[order]


def with_rewards(reference: bt.Policy, rewards: ArrayLike) -> bt.Policy:
    """The same outcomes and probabilities under another reward."""
    return policy_of(np.asarray(reference.probs), np.asarray(rewards))
