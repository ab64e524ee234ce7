"""The Pareto frontier, and the best (n, temperature) within two budgets."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import bon_theory as bt
from tests.oracles import discrete, roots

LAW = ((0.1, 0.25, 0.3, 0.05, 0.3), (0.0, 1.0, 0.5, 2.0, 1.0))
TERNARY = ((0.5, 0.3, 0.2), (0.0, 0.5, 1.0))


def policy(law: roots.Law) -> bt.Policy:
    return bt.Policy.from_probs(jnp.array(law[0]), jnp.array(law[1]))


def best_by_programming(probs: Any, values: Any, kl: float) -> float:
    """max Σ P g subject to KL(P‖π) ≤ d, as a nonlinear program that knows nothing of tilts."""
    p = np.asarray(probs)

    def divergence(x: np.ndarray) -> float:
        x = np.maximum(x, 1e-300)
        return float(np.sum(x * np.log(x / p)))

    found = scipy.optimize.minimize(
        lambda x: -x @ values,
        p,
        method="SLSQP",
        bounds=[(0, 1)] * len(p),
        constraints=[
            {"type": "eq", "fun": lambda x: x.sum() - 1},
            {"type": "ineq", "fun": lambda x: kl - divergence(x)},
        ],
        options={"ftol": 1e-14, "maxiter": 500},
    )
    return -float(found.fun)


@pytest.mark.parametrize("objective", ["reward", "win_rate", "values"])
def test_the_frontier_is_what_a_nonlinear_program_finds(objective: str):
    rewards = np.asarray(LAW[1])
    below, at_most = (
        (compare(rewards[None, :], rewards[:, None]) @ np.asarray(LAW[0]))
        for compare in (np.less, np.less_equal)
    )
    values = {
        "reward": rewards,
        "win_rate": (below + at_most) / 2,
        "values": np.array([0.3, -1.0, 0.9, 0.2, 0.1]),
    }[objective]
    kls = np.array([0.05, 0.3, 0.9])
    wanted: Any = values if objective == "values" else objective
    found = bt.frontier(policy(LAW), kls, objective=wanted)
    np.testing.assert_allclose(bt.kl_divergence(found.policy, policy(LAW)), kls, rtol=1e-12)
    expected = [best_by_programming(LAW[0], values, kl) for kl in kls]
    np.testing.assert_allclose(found.value, expected, rtol=1e-6)


def test_without_ties_it_is_the_printed_win_rate_optimum():
    found = bt.frontier(
        bt.Policy.uniform_reward(), [0.04065185226, 0.6501169364], objective="win_rate"
    )
    np.testing.assert_allclose(found.value, [0.5819767069, 0.8067836549], atol=1e-9)
    np.testing.assert_allclose(1 / found.temperature, [1.0, 5.0], rtol=1e-8)


def test_the_slope_of_the_frontier_is_the_temperature():
    def value(kl: jax.Array) -> jax.Array:
        return bt.frontier(policy(LAW), kl).value

    slope = jax.jit(jax.grad(value))(0.4)
    assert float(slope) == pytest.approx(
        float(bt.frontier(policy(LAW), 0.4).temperature), rel=1e-11
    )


def test_no_selection_is_above_the_frontier():
    reference = policy(LAW)
    for selected in (bt.best_of_n(reference, 4), bt.soft_best_of_n(reference, 8, 0.4)):
        kl = bt.kl_divergence(selected, reference)
        assert float(bt.frontier(reference, kl).value) > float(bt.expected_reward(selected))
    frontier = bt.frontier(
        reference, bt.kl_divergence(bt.exponential_tilt(reference, 0.5), reference)
    )
    np.testing.assert_allclose(
        frontier.policy.probs, bt.exponential_tilt(reference, 0.5).probs, rtol=1e-12
    )


def test_a_budget_of_nothing_has_the_derivative_of_the_mean():
    probs, rewards = (jnp.array(x) for x in TERNARY)

    def value(logits: jax.Array) -> jax.Array:
        return bt.frontier(bt.Policy.from_logits(logits, rewards), 0.0).value

    expected = probs * (rewards - probs @ rewards)
    np.testing.assert_allclose(jax.grad(value)(jnp.log(probs)), expected, atol=1e-15)


OBJECTIVES: dict[str, tuple[Any, float]] = {
    "rising": (lambda u: u, 0.65),
    "falling": (lambda u: -u, 0.65),
    "falling, in a corner": (lambda u: -u, 3.0),
    "a hump": (lambda u: -((u - 0.3) ** 2), 2.0),
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_continuous_reward_has_a_frontier_for_any_objective(name: str):
    curve, kl = OBJECTIVES[name]
    # Nodes that the estimate of their error, larger than the error itself, is content with.
    uniform = bt.Policy.uniform_reward(num_nodes=2561)
    found = bt.frontier(uniform, kl, objective=curve(jnp.exp(uniform.log_cdf)))
    temperature = float(found.temperature)
    u = (np.arange(100_000) + 0.5) / 100_000  # midpoints, right to 1e-7 of so smooth a law
    density = np.exp(curve(u) / temperature)
    density /= density.mean()
    assert np.mean(density * np.log(density)) == pytest.approx(kl, rel=1e-5)
    assert float(found.value) == pytest.approx(np.mean(density * curve(u)), rel=1e-5)


def test_where_the_nodes_are_the_limit_the_message_says_so():
    uniform = bt.Policy.uniform_reward()
    with pytest.raises(ValueError, match=r"over the nodes of this reference, got 4"):
        bt.frontier(uniform, 4.0, objective=-((jnp.exp(uniform.log_cdf) - 0.3) ** 2))


@pytest.mark.parametrize("kl", [0.05, 0.4, 0.9])
def test_the_choice_is_the_best_of_a_scan_by_enumeration(kl: float):
    """Per n the coldest temperature within the budget, by brentq over the enumerated law."""
    most = 5

    def law(n: int, temperature: float) -> np.ndarray:
        return roots.by_level(TERNARY, discrete.soft_best_of_n(*TERNARY, n, temperature))

    def spent(n: int, temperature: float) -> float:
        return roots.functional("kl", TERNARY, law(n, temperature))

    scan = []
    for n in range(1, most + 1):
        hard = roots.best_of_n(TERNARY, n)
        temperature, chosen = 0.0, hard
        if roots.functional("kl", TERNARY, hard) > kl:
            temperature = roots.root(lambda t, n=n: spent(n, t) - kl, 0.02, 20.0)
            chosen = law(n, temperature)
        scan.append((roots.functional("reward", TERNARY, chosen), n, temperature))
    value, n, temperature = max(scan)
    found = bt.choose_n_and_temperature(policy(TERNARY), kl, max_n=most)
    assert int(found.n) == n
    assert float(found.value) == pytest.approx(value, rel=1e-11)
    assert float(found.temperature) == pytest.approx(temperature, rel=1e-8)
    assert float(found.kl) <= kl * (1 + 1e-12)


@pytest.mark.slow
def test_a_few_more_draws_do_not_help_but_many_do():
    """At the KL of best-of-8 on a uniform reward, up to 12 soft draws lose to 8 hard ones."""
    uniform = bt.Policy.uniform_reward(num_nodes=2561)
    kl = math.log(8) - 7 / 8
    few = bt.choose_n_and_temperature(uniform, kl, max_n=10)
    assert int(few.n) == 8
    assert float(few.temperature) == 0.0


@pytest.mark.slow
def test_a_choice_is_differentiated_with_its_n_held():
    """Within the budget of draws, and where hard best-of-4 leaves some of the nats."""
    probs, rewards = (jnp.array(x) for x in TERNARY)

    @jax.jit
    def value(logits: jax.Array, kl: jax.Array) -> jax.Array:
        reference = bt.Policy.from_logits(logits, rewards)
        return bt.choose_n_and_temperature(reference, kl, max_n=4).value

    gradient = jax.jit(jax.grad(value, argnums=(0, 1)))
    logits, step = jnp.log(probs), 1e-5
    by_logits, by_kl = gradient(logits, jnp.asarray(0.3))
    assert float(by_kl) == pytest.approx(
        float(value(logits, 0.3 + step) - value(logits, 0.3 - step)) / (2 * step), rel=1e-8
    )
    ahead, behind = (float(value(logits.at[2].add(s), 0.3)) for s in (step, -step))
    assert float(by_logits[2]) == pytest.approx((ahead - behind) / (2 * step), rel=1e-7)

    def hard(logits: jax.Array) -> jax.Array:
        return bt.expected_reward(bt.best_of_n(bt.Policy.from_logits(logits, rewards), 4))

    by_logits, by_kl = gradient(logits, jnp.asarray(5.0))
    np.testing.assert_allclose(by_logits, jax.grad(hard)(logits), rtol=1e-12)
    assert float(by_kl) == 0


def test_every_prompt_has_its_own_choice():
    pools = bt.Policy.from_samples(jnp.asarray(np.random.default_rng(5).normal(size=(2, 6))))
    found = jax.jit(lambda p: bt.choose_n_and_temperature(p, 0.3, max_n=4))(pools)
    for row in range(2):
        one = bt.choose_n_and_temperature(jax.tree.map(lambda x, r=row: x[r], pools), 0.3, max_n=4)
        for together, alone in zip(found, one, strict=True):
            assert float(together[row]) == pytest.approx(float(alone), rel=1e-11)


choose: Any = bt.choose_n_and_temperature
frontier: Any = bt.frontier

REFUSED: dict[str, tuple[Any, str]] = {
    "KL above -log of the top mass": (
        lambda r: frontier(r, 1.7),
        r"kl must be in the attainable range \[0, 1.60944\] of the exponential tilt",
    ),
    "objective": (lambda r: frontier(r, 0.1, objective="luck"), "objective must be .*'luck'"),
    "values": (lambda r: frontier(r, 0.1, objective=[1.0]), r"objective .* shape \(1,\)"),
    "negative budget": (lambda r: choose(r, -0.1, max_n=4), "kl must be .* got -0.1"),
    "no draws": (lambda r: choose(r, 0.1, max_n=0), "max_n must be .* got 0"),
    "half a draw": (lambda r: choose(r, 0.1, max_n=2.5), "max_n must be .* got 2.5"),
    "objective of a choice": (lambda r: choose(r, 0.1, max_n=2, objective="x"), "objective must"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(case: str):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call(policy(TERNARY))
