"""Gradient flow against SciPy, derivatives of minimisers, what bad input says."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, linalg

import bon_theory as bt
from bon_theory import alignment
from tests.oracles import alignment as oracle

TIES = bt.Policy.from_probs([0.3, 0.1, 0.25, 0.15, 0.2], [0.0, 1.0, 1.0, 2.0, 3.0])
UNIFORM = bt.Policy.uniform_reward(num_nodes=641, breaks=(0.5,))
TIMES = np.array([0.1, 1.0, 30.0])


def joint_law(n: int) -> np.ndarray:
    return oracle.pair_probs(np.asarray(TIES.probs), np.asarray(TIES.rewards), n)


def test_ipo_flows_as_the_matrix_exponential():
    n, beta = 3, 0.2
    joint, probs = joint_law(n), np.asarray(TIES.probs)
    ends = joint + joint.T
    rate = 2 * (np.diag(ends.sum(1)) - ends) / probs[:, None]
    push = (joint.sum(1) - joint.sum(0)) / probs / beta
    # h' = push - rate h from 0, as one linear system in (h, 1).
    system = np.block([[-rate, push[:, None]], [np.zeros((1, 6))]])
    exact = [linalg.expm(t * system)[:5, 5] for t in TIMES]

    def loss(policy: bt.Policy) -> jax.Array:
        return alignment.ipo_loss(policy, TIES, n=n, beta=beta)

    path = alignment.gradient_flow(loss, TIES, TIMES)
    weights = probs * np.exp(exact)
    assert np.max(np.abs(path.probs - weights / weights.sum(1, keepdims=True))) < 1e-8


def test_bonbon_flows_as_an_independent_integrator_says():
    n, weight, margin = 4, 0.3, 0.5 / float(alignment.best_of_n_beta(4))
    joint, probs = joint_law(n), np.asarray(TIES.probs)

    def velocity(_: float, h: np.ndarray) -> np.ndarray:
        pull = 2 * joint * (h[:, None] - h[None, :] - margin)
        law = probs * np.exp(h) / np.sum(probs * np.exp(h))
        slope = (1 - weight) * (pull.sum(1) - pull.sum(0)) + weight * (law - joint.sum(1))
        return -slope / probs

    found = integrate.solve_ivp(
        velocity, (0, 30), np.zeros(5), method="Radau", t_eval=TIMES, rtol=1e-10, atol=1e-10
    )
    weights = probs * np.exp(found.y.T)

    def loss(policy: bt.Policy) -> jax.Array:
        return alignment.bonbon_loss(policy, TIES, n=n, sft_weight=weight)

    path = alignment.gradient_flow(loss, TIES, TIMES)
    assert np.max(np.abs(path.probs - weights / weights.sum(1, keepdims=True))) < 1e-7


@pytest.mark.parametrize("sft_weight", [0.005, 1.0])
def test_flow_ends_at_the_minimiser_and_the_loss_falls_all_the_way(sft_weight: float):
    def loss(policy: bt.Policy) -> jax.Array:
        return alignment.bonbon_loss(policy, TIES, n=4, sft_weight=sft_weight)

    path = alignment.gradient_flow(loss, TIES, np.array([0.01, 0.1, 1.0, 10.0, 2000.0]))
    end = jax.tree.map(lambda leaf: leaf[-1], path)
    assert (
        jnp.max(jnp.abs(end.probs - alignment.bonbon(TIES, n=4, sft_weight=sft_weight).probs))
        < 1e-6
    )
    losses = alignment.bonbon_loss(path, TIES, n=4, sft_weight=sft_weight)
    assert jnp.all(jnp.diff(losses)[:-1] < 0)
    assert losses[-1] <= losses[-2] + 1e-12  # both are the minimum, to the integrator's rounding


def test_dpo_flows_towards_the_highest_reward_without_end():
    def loss(policy: bt.Policy) -> jax.Array:
        return alignment.dpo_loss(policy, TIES, beta=0.5)

    path = alignment.gradient_flow(loss, TIES, np.array([1e1, 1e2, 1e3, 1e4]))
    kl, furthest = bt.kl_divergence(path, TIES), -jnp.log(0.2)
    assert jnp.all(jnp.diff(kl) > 0)
    assert jnp.all(kl < furthest)
    assert furthest - kl[-1] < 0.05


@jax.jit
def win_rate(logits: Any, beta: Any, sft_weight: Any) -> Any:
    reference = bt.Policy.from_logits(logits, TIES.rewards)
    return bt.win_rate(
        alignment.bonbon(reference, n=4, beta=beta, sft_weight=sft_weight), reference
    )


slopes_of: Any = jax.jit(jax.grad(win_rate, (0, 1, 2)))


@pytest.mark.parametrize("sft_weight", [0.01, 0.6])
def test_derivatives_are_those_of_finite_differences(sft_weight: float):
    point = (TIES.log_probs, jnp.asarray(0.1), jnp.asarray(sft_weight))
    step = 1e-5
    slopes = slopes_of(*point)
    for argument in range(3):
        direction = jnp.linspace(-1.0, 1.0, 5) if argument == 0 else jnp.asarray(1.0)
        moved: list[jax.Array] = [
            win_rate(*(x + s * direction if i == argument else x for i, x in enumerate(point)))
            for s in (step, -step)
        ]
        along = jnp.sum(slopes[argument] * direction)
        assert jnp.allclose(along, (moved[0] - moved[1]) / (2 * step), rtol=1e-6, atol=1e-9)


def test_minimisers_have_derivatives_of_any_order():
    midrank = (jnp.exp(TIES.log_cdf) + jnp.exp(TIES.log_cdf_below)) / 2

    def by_pairs(beta: jax.Array) -> jax.Array:
        return bt.win_rate(alignment.ipo(TIES, beta=beta), TIES)

    def by_tilt(beta: jax.Array) -> jax.Array:
        tilt = bt.exponential_tilt(bt.Policy.from_probs(TIES.probs, midrank), beta)
        return jnp.sum(tilt.probs * midrank)

    for derivative in (jax.grad, lambda f: jax.jacfwd(jax.grad(f))):
        one, other = (jax.jit(derivative(f))(jnp.asarray(0.4)) for f in (by_pairs, by_tilt))
        assert jnp.allclose(one, other, rtol=1e-10)


def test_minimisers_on_nodes_have_derivatives():
    def by_pairs(beta: jax.Array) -> jax.Array:
        return bt.win_rate(alignment.ipo(UNIFORM, beta=beta), UNIFORM)

    def by_strength(beta: jax.Array) -> jax.Array:
        return bt.win_rate(bt.win_rate_optimal(UNIFORM, 1 / beta), UNIFORM)

    one, other = (jax.jit(jax.grad(f))(jnp.asarray(0.4)) for f in (by_pairs, by_strength))
    assert jnp.allclose(one, other, rtol=1e-10)


@jax.jit
def everything(reference: bt.Policy, n: jax.Array, weight: jax.Array, tau: jax.Array):
    policy = alignment.bonbon(reference, n=n, sft_weight=weight)
    loss = alignment.bonbon_loss(policy, reference, n=n, sft_weight=weight)
    return (
        policy.probs,
        loss,
        alignment.dpo_loss(policy, reference, n=n, beta=weight, label_temperature=tau),
    )


def test_batches_are_loops():
    batch = bt.Policy.from_probs([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], [0.0, 1.0, 1.5])
    n, weight, tau = jnp.array([[3], [5]]), jnp.array([0.1, 0.7]), jnp.array([0.0, 0.5])
    together = everything(batch, n, weight, tau)
    assert together[0].shape == (2, 2, 3)
    for i in range(2):
        for j in range(2):
            reference = jax.tree.map(lambda leaf, j=j: leaf[j], batch)
            single = everything(reference, n[i, 0], weight[j], tau[j])
            for all_of_them, one in zip(together, single, strict=True):
                assert jnp.allclose(all_of_them[i, j], one, rtol=1e-12)


def test_outcomes_of_probability_zero_stay_so_and_spoil_no_derivative():
    def probs(logits: jax.Array) -> jax.Array:
        reference = bt.Policy.from_logits(logits, [0.0, 1.0, 2.0, 2.0])
        return alignment.bonbon(reference, n=3, sft_weight=0.2).probs

    logits = jnp.array([0.0, 0.5, -jnp.inf, 0.1])
    without = bt.Policy.from_logits([0.0, 0.5, 0.1], [0.0, 1.0, 2.0])
    expected = jax.jit(alignment.bonbon)(without, n=3, sft_weight=0.2).probs
    assert jnp.allclose(jax.jit(probs)(logits)[jnp.array([0, 1, 3])], expected, rtol=1e-12)
    assert jnp.all(jnp.isfinite(jax.jit(jax.jacobian(probs))(logits)))


def test_float32_is_right_to_its_precision():
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), TIES)
    weights = jnp.array([0.0, 0.005, 0.9])
    exact = jax.jit(alignment.bonbon)(TIES, n=8, sft_weight=weights).probs
    found = jax.jit(alignment.bonbon)(single, n=8, sft_weight=weights)
    assert found.dtype == jnp.float32
    assert jnp.max(jnp.abs(found.probs.astype(jnp.float64) - exact)) < 3e-5


def times(*at: float) -> Callable[[bt.Policy], bt.Policy]:
    return lambda _: alignment.gradient_flow(lambda policy: policy.probs[0], TIES, at)


NO_POLICY = r"reference must be a Policy, got list"


BAD: dict[str, tuple[Callable[[bt.Policy], Any], str]] = {
    "one candidate": (lambda p: alignment.ipo_best_of_n(p, n=1), r"n must be .*at least 2, got 1"),
    "half a candidate": (
        lambda p: alignment.ipo(p, n=2.5, beta=0.1),
        r"n must be an integer.*2\.5",
    ),
    "no candidate": (lambda p: alignment.best_and_worst_probs(p, n=0), r"n must be .*at least 2"),
    "beta zero": (lambda p: alignment.ipo(p, beta=0.0), r"beta must be .*got 0"),
    "beta negative": (lambda p: alignment.ipo_loss(p, p, beta=-1.0), r"beta must be .*got -1"),
    "beta infinite": (
        lambda p: alignment.bonbon(p, n=4, beta=np.inf, sft_weight=0.1),
        r"beta must be .*inf",
    ),
    "weight above one": (
        lambda p: alignment.bonbon(p, n=4, sft_weight=1.1),
        r"sft_weight must be .*\[0, 1\]",
    ),
    "weight negative": (
        lambda p: alignment.bonbon_loss(p, p, n=4, sft_weight=-0.1),
        r"sft_weight must be",
    ),
    "weight not a number": (
        lambda p: alignment.bonbon(p, n=4, sft_weight=np.nan),
        r"sft_weight must be",
    ),
    "dpo without noise": (
        lambda p: alignment.dpo(p, beta=0.1, label_temperature=0.0),
        r"no finite minimiser",
    ),
    "negative noise": (
        lambda p: alignment.dpo(p, beta=0.1, label_temperature=-1.0),
        r"label_temperature must be",
    ),
    "other outcomes": (
        lambda p: alignment.ipo_loss(bt.best_of_n(STRICT, 2), p, beta=0.1),
        r"same outc",
    ),
    "batch of n": (
        lambda p: alignment.ipo(BATCH, n=[2, 3, 4], beta=0.1),
        r"n .*\(3,\).*batch axes \(2,\)",
    ),
    "batch of weights": (
        lambda p: alignment.bonbon(BATCH, n=4, sft_weight=[0.1] * 3),
        r"sft_weight .*batch ax",
    ),
    "batch of policies": (
        lambda p: alignment.ipo_loss(BATCH, THREE, beta=0.1),
        r"policy .*batch axes",
    ),
    "pairs of nodes": (lambda p: alignment.best_and_worst_probs(UNIFORM, n=2), r"must be discrete"),
    "loss on nodes": (lambda p: alignment.sft_best_of_n_loss(UNIFORM, UNIFORM, n=2), r"discrete"),
    "flow on nodes": (
        lambda p: alignment.gradient_flow(bt.expected_reward, UNIFORM, [1.0]),
        r"discrete",
    ),
    "flow of a batch": (
        lambda p: alignment.gradient_flow(bt.expected_reward, BATCH, [1.0]),
        r"single law",
    ),
    "time going back": (times(1.0, 0.5), r"times must be .*ascending"),
    "no end of time": (times(1.0, np.inf), r"times must be .*finite"),
    "log ratios beyond floats": (
        lambda p: alignment.ipo(p, beta=1e-300),
        r"beta=1e-300.*larger beta",
    ),
    "a list for a reference": (lambda p: alignment.bonbon([0.5], n=4, sft_weight=0.1), NO_POLICY),  # pyright: ignore
    "a list to match": (lambda p: alignment.ipo_matched([0.5], n=4), NO_POLICY),  # pyright: ignore
    "a list for DPO": (lambda p: alignment.dpo([0.5], beta=0.1, label_temperature=1.0), NO_POLICY),  # pyright: ignore
    "a list of pairs": (lambda p: alignment.best_and_worst_probs([0.5], n=4), NO_POLICY),  # pyright: ignore
    "a list with a margin": (lambda p: alignment.mean_margin(p, [0.5], n=4), NO_POLICY),  # pyright: ignore
    "a list with a loss": (lambda p: alignment.ipo_loss(p, [0.5], beta=0.1), NO_POLICY),  # pyright: ignore
    "a list to imitate": (
        lambda p: alignment.bonbon_loss(p, [0.5], n=4, sft_weight=0.1),  # pyright: ignore
        NO_POLICY,
    ),
    "a list to prefer from": (lambda p: alignment.dpo_loss(p, [0.5], beta=0.1), NO_POLICY),  # pyright: ignore
    "a list to fine-tune": (
        lambda p: alignment.sft_best_of_n_loss([0.5], p, n=4),  # pyright: ignore
        r"policy must be a Policy, got list",
    ),
    "coarse nodes": (lambda p: alignment.ipo_best_of_n(COARSE, n=64), r"breaks=\(0\.5,\)"),
}

STRICT = bt.Policy.from_probs([0.4, 0.2, 0.3, 0.1], [2.0, 0.0, 1.0, 3.0])
BATCH = bt.Policy.from_probs([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], [0.0, 1.0, 1.5])
THREE = bt.Policy.from_probs([[0.2, 0.3, 0.5]] * 3, [0.0, 1.0, 1.5])
COARSE = bt.Policy.uniform_reward(num_nodes=321)


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_named(call: Callable[[bt.Policy], Any], message: str):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call(TIES)


def test_traced_bad_input_gives_nan():
    bonbon = jax.jit(
        lambda n, beta, weight: alignment.bonbon(TIES, n=n, beta=beta, sft_weight=weight)
    )
    for bad in ((2.5, 0.1, 0.1), (3.0, -0.1, 0.1), (3.0, 0.1, 1.5), (1.0, 0.1, 0.1)):
        policy = bonbon(*bad)
        assert jnp.all(jnp.isnan(policy.log_probs))
