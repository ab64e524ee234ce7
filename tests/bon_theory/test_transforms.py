"""Everything works under jit, vmap and grad, and means the same there.

Derivatives are compared with central differences of step 1e-5: their error is about 1e-10 times the
third derivative plus 1e-11 of rounding, far below the 1e-6 that is asked for.
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
from tests.strategies import K

by_selection = pytest.mark.parametrize("name", some.SELECTIONS)
# Where every name costs seconds of compilation. All ten are held to enumeration in batches by
# test_selection_exact.py, outside jit, and are mapped over all their arguments below.
of_each_kind = pytest.mark.parametrize(
    "name", ["best_of_n", "top_fraction", "soft_best_of_n", "exponential_race", "chi_squared_tilt"]
)

EAGER = {name: getattr(bt, name) for name in some.SELECTIONS}
PARAMETERS: dict[str, tuple[float, ...]] = {
    "best_of_n": (3.5,),
    "worst_of_n": (3.5,),
    "best_of_poisson": (2.5,),
    "win_rate_optimal": (2.5,),
    "top_fraction": (0.45,),
    "best_of_n_stopped": (0.45, 3.5),
    "kth_best_of_n": (5.5, 2.25),
    "top_k_of_n": (5.5, 2.25),
    "soft_best_of_n": (3.5, 0.4),
    "soft_best_of_poisson": (2.5, 0.4),
    "exponential_race": (3.5, 0.4),
    "noisy_best_of_n": (3.5, 0.4),
    "exponential_tilt": (0.4,),
    "chi_squared_tilt": (1.7,),
}
LOGITS = jnp.asarray([0.0, -0.5, 0.25, -1.0, 0.75])
REWARDS = jnp.asarray([0.3, 1.0, 0.0, 0.55, 0.7])
REFERENCE = bt.Policy.from_logits(LOGITS, REWARDS)
FUNCTIONALS = {
    **{name: getattr(bt, f"{name}_divergence") for name in ("kl", "chi_squared")},
    "total_variation": bt.total_variation,
    "squared_hellinger": bt.squared_hellinger,
    "jensen_shannon": bt.jensen_shannon,
    "renyi": lambda p, q: bt.renyi_divergence(p, q, 2.5),
    "f": lambda p, q: bt.f_divergence(p, q, lambda t: t * jnp.log(t)),
    "win_rate": bt.win_rate,
    "expected_reward": lambda p, q: bt.expected_reward(p) - bt.expected_reward(q),
}


def every_functional(policy: bt.Policy, reference: bt.Policy) -> dict[str, jax.Array]:
    return {name: functional(policy, reference) for name, functional in FUNCTIONALS.items()}


values_of_all: Any = jax.jit(every_functional)  # one compilation instead of nine


def leaves(policy: bt.Policy) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(policy)]


def agree(one: bt.Policy, other: bt.Policy, tolerance: float = 1e-13) -> None:
    for left, right in zip(leaves(one), leaves(other), strict=True):
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance)


# --- jit --------------------------------------------------------------------------------


@of_each_kind
def test_jit_changes_nothing(name: str) -> None:
    parameters = [jnp.asarray(x) for x in PARAMETERS[name]]
    agree(some.SELECTIONS[name][0](REFERENCE, *parameters), EAGER[name](REFERENCE, *parameters))


def test_jit_changes_no_functional() -> None:
    best = some.best_of_n(REFERENCE, 3.5)
    compiled, eager = values_of_all(best, REFERENCE), every_functional(best, REFERENCE)
    for name in FUNCTIONALS:
        assert float(compiled[name]) == pytest.approx(float(eager[name]), rel=1e-13)


def test_arrays_may_be_closed_over_under_jit() -> None:
    """Values that are known while the rest is traced are checked, and do no harm."""
    probs, ns = jnp.asarray([0.5, 0.3, 0.2]), jnp.asarray([2.0, 3.0])

    @jax.jit
    def best(rewards: jax.Array) -> jax.Array:
        return bt.best_of_n(bt.Policy.from_probs(probs, rewards), ns).probs

    @jax.jit
    def worse_than_none(rewards: jax.Array) -> jax.Array:
        return bt.best_of_n(bt.Policy.from_probs(probs, rewards), ns - ns).probs

    np.testing.assert_allclose(best(REWARDS[:3])[1], [0.335, 0.657, 0.008], rtol=1e-13)
    assert np.isnan(np.asarray(worse_than_none(REWARDS[:3]))).all()


INVALID = [
    ("best_of_n", (0.5,)),
    ("worst_of_n", (math.nan,)),
    ("best_of_poisson", (-1.0,)),
    ("win_rate_optimal", (math.inf,)),
    ("top_fraction", (0.0,)),
    ("top_fraction", (1.5,)),
    ("best_of_n_stopped", (1.5, 2.0)),
    ("best_of_n_stopped", (0.5, 0.5)),
    ("kth_best_of_n", (2.0, 0.5)),
    ("kth_best_of_n", (2.0, 2.5)),
    ("top_k_of_n", (2.0, 2.5)),
    ("soft_best_of_n", (0.5, 0.4)),
    ("soft_best_of_n", (2.0, -0.4)),
    ("soft_best_of_poisson", (2.0, math.nan)),
    ("exponential_race", (math.inf, 0.4)),
    ("noisy_best_of_n", (0.5, 0.4)),
    ("noisy_best_of_n", (2.0, -0.4)),
    ("exponential_tilt", (-0.4,)),
    ("chi_squared_tilt", (0.0,)),
]


@pytest.mark.parametrize(("name", "parameters"), INVALID)
def test_a_traced_inadmissible_parameter_gives_nan(name: str, parameters: Any) -> None:
    policy = some.SELECTIONS[name][0](REFERENCE, *map(jnp.asarray, parameters))
    assert np.isnan(np.asarray(policy.log_probs)).all()
    assert math.isnan(some.kl(policy, REFERENCE))
    assert math.isnan(some.expected_reward(policy))


def test_a_traced_negative_order_gives_nan() -> None:
    assert math.isnan(some.renyi(some.best_of_n(REFERENCE, 2.0), REFERENCE, jnp.asarray(-1.0)))


# --- vmap and batch axes: one call is a loop --------------------------------------------


@of_each_kind
def test_vmap_over_parameters_is_a_loop(name: str) -> None:
    rule = some.SELECTIONS[name][0]
    scale = jnp.asarray([0.5, 0.8, 1.0]) if name != "best_of_n" else jnp.asarray([1.0, 2.0, 9.0])
    columns = [x * scale for x in PARAMETERS[name]]
    mapped = jax.jit(jax.vmap(EAGER[name], in_axes=(None, *[0] * len(columns))))(
        REFERENCE, *columns
    )
    for i in range(3):
        one = rule(REFERENCE, *[column[i] for column in columns])
        agree(jax.tree.map(lambda leaf, i=i: leaf[i], mapped), one, 1e-12)


from_logits: Any = jax.jit(bt.Policy.from_logits)


@of_each_kind
def test_batch_axes_of_laws_and_parameters_are_a_loop(name: str) -> None:
    shifts = jnp.asarray([[0.0, 0.1, -0.2], [0.4, 0.3, 0.9]])
    logits = LOGITS[None, None, :] * (1 + shifts[:, :, None])
    rewards = jnp.cos(REWARDS[None, None, :] * (3 + shifts[:, :, None]))
    parameters = [x * (1 + 0.5 * jnp.abs(shifts[i])) for i, x in enumerate(PARAMETERS[name])]
    batch = jax.jit(lambda x, r: EAGER[name](bt.Policy.from_logits(x, r), *parameters))(
        logits, rewards
    )
    assert batch.log_probs.shape == (2, 3, K)
    for i, j in np.ndindex(2, 3):
        reference = from_logits(logits[i, j], rewards[i, j])
        one = some.SELECTIONS[name][0](reference, *[parameter[j] for parameter in parameters])
        agree(jax.tree.map(lambda leaf, i=i, j=j: leaf[i, j], batch), one, 1e-12)


def test_batches_of_policies_meet_one_reference() -> None:
    ns = jnp.asarray([1.5, 2.0, 6.0])
    together = values_of_all(some.best_of_n(REFERENCE, ns), REFERENCE)
    for i, n in enumerate(ns):
        alone = values_of_all(some.best_of_n(REFERENCE, n), REFERENCE)
        for name in FUNCTIONALS:
            assert float(together[name][i]) == pytest.approx(float(alone[name]), rel=1e-12)


def test_rewards_alone_may_be_batched() -> None:
    rewards = jnp.stack([REWARDS, -REWARDS])
    policy = from_logits(LOGITS, rewards)
    best, negated = some.best_of_n(policy, 4.0), some.worst_of_n(policy, 4.0)
    np.testing.assert_allclose(best.probs[0], negated.probs[1], rtol=1e-13)


# --- derivatives ------------------------------------------------------------------------


def curve(name: str) -> Any:
    """log P of the selected law as a function of (logits, rewards, parameters), flattened."""

    def log_probs(point: jax.Array) -> jax.Array:
        reference = bt.Policy.from_logits(point[:K], point[K : 2 * K])
        policy = EAGER[name](reference, *(point[i] for i in range(2 * K, point.shape[0])))
        return jnp.maximum(policy.log_probs, -1e3)  # finite, where an outcome is never selected

    return log_probs


def point(logits: Any, rewards: Any, *parameters: float) -> np.ndarray:
    return np.concatenate([logits, rewards, parameters])


class Derivatives:
    """Each selection's Jacobian forwards and in reverse, and by differences; compiled once."""

    def __init__(self) -> None:
        self.values: Any = {name: jax.jit(jax.vmap(curve(name))) for name in some.SELECTIONS}
        self.jacobians: Any = {name: jax.jit(both_modes(curve(name))) for name in some.SELECTIONS}

    def of(self, name: str, at: np.ndarray) -> np.ndarray:
        """The Jacobian [K, parameters], in which both modes agree and every entry is finite."""
        forward, reverse = map(np.asarray, self.jacobians[name](at))
        assert np.isfinite(reverse).all()
        np.testing.assert_allclose(forward, reverse, rtol=1e-11, atol=1e-11)
        return reverse

    def differences(self, name: str, at: np.ndarray, step: float = 1e-5) -> np.ndarray:
        steps = step * np.eye(at.size)
        values = np.asarray(self.values[name](at + np.concatenate([steps, -steps])))
        return (values[: at.size] - values[at.size :]).T / (2 * step)

    def ahead(self, name: str, at: np.ndarray, step: float = 1e-6) -> np.ndarray:
        """One-sided differences, from as many points: the same program."""
        steps = step * np.eye(at.size)
        values = np.asarray(self.values[name](at + np.concatenate([steps, 0 * steps])))
        return (values[: at.size] - values[at.size :]).T / step


def both_modes(function: Any) -> Any:
    return lambda at: (jax.jacfwd(function)(at), jax.jacrev(function)(at))


derivatives = Derivatives()


@by_selection
def test_derivatives_are_those_of_the_law(name: str) -> None:
    at = point(LOGITS, REWARDS, *PARAMETERS[name])
    expected = derivatives.differences(name, at)
    np.testing.assert_allclose(derivatives.of(name, at), expected, atol=1e-6)


TIES = jnp.asarray([0.5, 1.0, 0.0, 0.5, 1.0])
IMPOSSIBLE = jnp.asarray([0.0, -jnp.inf, 0.25, -jnp.inf, 0.75])
SMOOTH_AT_TIES = (
    *("soft_best_of_n", "soft_best_of_poisson", "noisy_best_of_n"),
    *("exponential_tilt", "chi_squared_tilt"),
)


@by_selection
def test_derivatives_at_ties_are_those_of_the_law(name: str) -> None:
    """In probabilities and parameters always; in rewards where the selection is smooth there."""
    at = point(LOGITS, TIES, *PARAMETERS[name])
    expected = derivatives.differences(name, at)
    columns = [i for i in range(at.size) if name in SMOOTH_AT_TIES or not K <= i < 2 * K]
    jacobian = derivatives.of(name, at)
    np.testing.assert_allclose(jacobian[:, columns], expected[:, columns], atol=1e-6)


@by_selection
@pytest.mark.parametrize("rewards", [REWARDS, TIES], ids=["distinct", "tied"])
def test_derivatives_with_impossible_outcomes_are_finite(name: str, rewards: Any) -> None:
    at = point(IMPOSSIBLE, rewards, *PARAMETERS[name])
    parameters = slice(2 * K, None)
    expected = derivatives.differences(name, at)[:, parameters]
    np.testing.assert_allclose(derivatives.of(name, at)[:, parameters], expected, atol=1e-6)


# At n = 1 only the one-sided difference exists (n < 1 is inadmissible); it is of first order.
EDGES = {
    "best_of_n": (1.0,),
    "worst_of_n": (1.0,),
    "best_of_poisson": (0.0,),
    "win_rate_optimal": (0.0,),
    "kth_best_of_n": (2.5, 2.5),
    "soft_best_of_n": (1.0, 0.4),
    "soft_best_of_poisson": (0.0, 0.4),
    "exponential_race": (1.0, 0.4),
    "noisy_best_of_n": (1.0, 0.4),
}


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("logits", [LOGITS, IMPOSSIBLE], ids=["positive", "impossible"])
def test_derivatives_at_one_candidate_are_one_sided_limits(name: str, logits: Any) -> None:
    at, number = point(logits, TIES, *EDGES[name]), 2 * K
    jacobian, ahead = derivatives.of(name, at), derivatives.ahead(name, at)
    np.testing.assert_allclose(jacobian[:, number], ahead[:, number], atol=1e-4)


def test_stopping_at_the_last_rank_is_flat_in_the_rank() -> None:
    """From above .6, where the highest level begins, only its own share is moved about."""
    at = point(LOGITS, TIES, 1.0, 3.5)
    np.testing.assert_allclose(derivatives.of("best_of_n_stopped", at)[:, 2 * K], 0, atol=1e-12)


TEMPERED = [
    *("soft_best_of_n", "soft_best_of_poisson", "exponential_race"),
    *("noisy_best_of_n", "exponential_tilt"),
]


@pytest.mark.parametrize("name", TEMPERED)
@pytest.mark.parametrize("temperature", [0.0, math.inf])
def test_derivatives_at_the_ends_of_temperature_are_finite(name: str, temperature: float) -> None:
    at = point(LOGITS, TIES, *PARAMETERS[name][:-1], temperature)
    jacobian = derivatives.of(name, at)
    np.testing.assert_array_equal(jacobian[:, -1], 0)  # flat: e^{-1/λ} at 0, 1/λ² at infinity


@jax.jit
def along_tilts(inverse_temperature: jax.Array) -> dict[str, jax.Array]:
    reference = bt.Policy.from_logits(IMPOSSIBLE, TIES)
    return every_functional(bt.exponential_tilt(reference, 1 / inverse_temperature), reference)


slopes_along_tilts: Any = jax.jit(jax.jacrev(along_tilts))


@pytest.mark.parametrize("at", [1e-3, 2.5])
def test_functionals_have_the_derivative_of_their_differences(at: float) -> None:
    ahead, behind = along_tilts(at + 1e-5), along_tilts(at - 1e-5)
    slopes = slopes_along_tilts(at)
    for name in FUNCTIONALS:
        difference = float(ahead[name] - behind[name]) / 2e-5
        assert float(slopes[name]) == pytest.approx(difference, abs=1e-6)


@jax.jit
def all_slopes(reference: bt.Policy, n: Any) -> Any:
    """Derivatives of every functional of best-of-n in n, the logits and the rewards."""

    def values(n: jax.Array, logits: jax.Array, rewards: jax.Array) -> dict[str, jax.Array]:
        law = bt.Policy.from_logits(logits, rewards)
        return every_functional(bt.best_of_n(law, n), law)

    return jax.jacrev(values, argnums=(0, 1, 2))(n, reference.log_probs, reference.rewards)


@pytest.mark.parametrize("name", FUNCTIONALS)
@given(reference=some.laws, n=st.one_of(st.just(1.0), some.numbers.map(float)))
def test_functionals_of_best_of_n_have_finite_derivatives(
    name: str, reference: bt.Policy, n: float
) -> None:
    assert np.isfinite(np.hstack(all_slopes(reference, n)[name])).all()


def test_the_order_of_renyi_may_be_differentiated_through_one() -> None:
    policy = some.best_of_n(REFERENCE, 3.5)
    slope: Any = jax.jit(jax.grad(lambda order: bt.renyi_divergence(policy, REFERENCE, order)))
    value: Any = jax.jit(lambda order: bt.renyi_divergence(policy, REFERENCE, order))
    for order in (0.5, 1.0, 2.5):
        difference = (value(order + 1e-5) - value(order - 1e-5)) / 2e-5
        assert float(slope(order)) == pytest.approx(float(difference), abs=1e-6)


def test_rank_selections_have_second_derivatives() -> None:
    def kl(n: jax.Array) -> jax.Array:
        return bt.kl_divergence(bt.best_of_n(UNIFORM, n), UNIFORM)

    # KL = log n - 1 + 1/n without ties.
    assert float(jax.jit(jax.grad(jax.grad(kl)))(4.0)) == pytest.approx(-1 / 16 + 2 / 64, abs=1e-11)


UNIFORM = bt.Policy.uniform_reward(num_nodes=641)


@pytest.mark.parametrize("name", ["soft_best_of_n", "soft_best_of_poisson", "noisy_best_of_n"])
def test_a_second_derivative_of_a_soft_selection_is_refused(name: str) -> None:
    def value(t: jax.Array) -> jax.Array:
        return EAGER[name](REFERENCE, 3.0, t).log_probs[0]

    with pytest.raises(NotImplementedError, match="finite differences of the gradient"):
        jax.grad(jax.grad(value))(0.5)


def test_continuous_laws_differentiate_as_their_closed_forms_do() -> None:
    def kl(n: jax.Array) -> jax.Array:
        return bt.kl_divergence(bt.best_of_n(UNIFORM, n), UNIFORM)

    for n in (1.0, 2.5, 1e4):
        assert float(jax.jit(jax.grad(kl))(n)) == pytest.approx((n - 1) / n**2, abs=1e-12)
