"""Random numbers of draws: what they cost on average, what they reach, where they should stop."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bon_theory as bt
from tests import strategies as some
from tests.oracles.multiprecision import mp
from tests.strategies import probs

nearest: Any = jax.jit(bt.nearest_in_mean_draws)
hockey_stick: Any = jax.jit(bt.hockey_stick_divergence)
budgets = st.floats(1.0, 30.0).map(jnp.asarray)


# --- the nearest law --------------------------------------------------------------------


def by_bisection(target: Any, reference: Any, mean_draws: float) -> np.ndarray:
    """min(κ P*, c π) with κ found in multiprecision arithmetic."""
    with mp.workdps(50):
        p, q = ([mp.mpf(float(x)) for x in law] for law in (target, reference))
        p, q = ([x / mp.fsum(law) for x in law] for law in (p, q))
        low, high = mp.mpf(1), mp.mpf(10) ** 40
        for _ in range(400):
            kappa = mp.sqrt(low * high)
            total = mp.fsum(min(kappa * a, mean_draws * b) for a, b in zip(p, q, strict=True))
            low, high = (kappa, high) if total < 1 else (low, kappa)
        law = [min(low * a, mean_draws * b) for a, b in zip(p, q, strict=True)]
        return np.array([float(x) for x in law])


@pytest.mark.parametrize("mean_draws", [1.0, 1.25, 2.0, 3.5, 9.0])
def test_the_nearest_law_is_the_capped_target(mean_draws: float) -> None:
    reference = some.law([0.1, 0.2, 0.3, 0.35, 0.05], [0.5, -0.25, 1.0, 0.0, 2.0])
    for temperature in (0.2, 1.0):
        target = bt.exponential_tilt(reference, temperature)
        law = probs(nearest(target, reference, jnp.asarray(mean_draws)))
        expected = by_bisection(probs(target), probs(reference), mean_draws)
        np.testing.assert_allclose(law, expected, rtol=1e-12)


@given(target=some.probabilities, reference=some.laws, mean_draws=budgets)
def test_it_leaves_the_hockey_stick(target: Any, reference: bt.Policy, mean_draws: Any) -> None:
    wanted = some.policy_of(target, np.asarray(reference.rewards))
    law = nearest(wanted, reference, mean_draws)
    assert probs(law).sum() == pytest.approx(1, abs=1e-12)
    assert np.all(probs(law) <= float(mean_draws) * probs(reference) * (1 + 1e-12))
    left = hockey_stick(wanted, reference, mean_draws)
    assert float(some.total_variation(law, wanted)) == pytest.approx(float(left), abs=1e-12)


@given(data=st.data(), target=some.probabilities, reference=some.laws, n=some.numbers)
def test_no_rule_with_as_many_draws_is_nearer(
    data: Any, target: Any, reference: bt.Policy, n: Any
) -> None:
    """Best-of-n has n draws, a place n/k for each that is kept, and stopping its mean."""
    wanted = some.policy_of(target, np.asarray(reference.rewards))
    k = data.draw(st.floats(1.0, float(n)).map(jnp.asarray))
    a = data.draw(some.fractions)
    rules = {
        "best of n": (some.best_of_n(reference, n), n),
        "top k of n": (some.top_k_of_n(reference, n, k), n / k),
        "stopped": (some.best_of_n_stopped(reference, a, n), bt.mean_draws_stopped(a, n)),
    }
    for rule, mean in rules.values():
        law = nearest(wanted, reference, mean)
        for name in ("kl", "total_variation", "squared_hellinger", "jensen_shannon"):
            divergence = some.DIVERGENCES[name]
            assert divergence(law, wanted) <= divergence(rule, wanted) + 1e-11
            assert divergence(wanted, law) <= divergence(wanted, rule) + 1e-11


def test_with_enough_draws_it_is_the_target_and_with_one_the_reference() -> None:
    reference = some.law([0.1, 0.2, 0.3, 0.35, 0.05], [0.5, -0.25, 1.0, 0.0, 2.0])
    target = bt.exponential_tilt(reference, 0.5)
    enough = jnp.max(target.probs / reference.probs)
    np.testing.assert_allclose(probs(nearest(target, reference, enough)), target.probs, rtol=1e-13)
    one = nearest(target, reference, jnp.asarray(1.0))
    np.testing.assert_allclose(probs(one), reference.probs, rtol=1e-13)


def test_what_the_target_lacks_is_returned_as_far_as_it_must_be() -> None:
    reference = some.law([0.2, 0.3, 0.1, 0.4, 0.0], [0.0, 1.0, 2.0, 3.0, 4.0])
    target = some.law([0.5, 0.5, 0.0, 0.0, 0.0], [0.0, 1.0, 2.0, 3.0, 4.0])
    law = probs(nearest(target, reference, jnp.asarray(1.2)))
    np.testing.assert_allclose(law, [0.24, 0.36, 0.08, 0.32, 0.0], rtol=1e-13)


@given(reference=some.laws, mean_draws=budgets)
def test_the_best_that_c_draws_can_do_is_the_top_fraction(
    reference: bt.Policy, mean_draws: Any
) -> None:
    """It has the highest win rate among laws of density at most c: 1 - 1/(2c) without ties."""
    best = some.top_fraction(reference, 1 / mean_draws)
    win = float(some.win_rate(best, reference))
    assert win <= 1 - 1 / (2 * float(mean_draws)) + 1e-12
    n = jnp.maximum(jnp.floor(mean_draws), 1.0)
    assert win >= float(some.win_rate(some.best_of_n(reference, n), reference)) - 1e-12


# --- thresholds -------------------------------------------------------------------------


@pytest.mark.parametrize("n_max", [1.0, 2.0, 5.0, 33.5, 1e6])
def test_a_threshold_spends_its_budget(n_max: float) -> None:
    share = np.array([0.0, 1e-9, 0.01, 0.4, 0.999, 1.0])
    budget = 1 + (n_max - 1) * share
    a = bt.threshold_for_mean_draws(n_max, budget)
    np.testing.assert_allclose(bt.mean_draws_stopped(a, n_max), budget, rtol=1e-9)
    assert float(a[0]) == 0
    if n_max == 5.0:
        expected = mp.findroot(lambda x: sum(x**i for i in range(5)) - budget[3], (0.1, 0.9))
        assert float(a[3]) == pytest.approx(float(expected), rel=1e-13)


def test_the_number_of_draws_is_the_mean_of_the_process() -> None:
    """Σ_i P(the first i are below): by its sum, and 2.7731 for five at .7."""
    assert float(bt.mean_draws_stopped(0.7, 5)) == pytest.approx(sum(0.7**i for i in range(5)))
    assert float(bt.mean_draws_stopped(1.0, 7)) == pytest.approx(7, rel=1e-15)
    assert float(bt.mean_draws_stopped(0.0, 7)) == 1
    slope = jax.grad(bt.threshold_for_mean_draws, argnums=1)(2.0, 1.5)
    assert float(slope) == pytest.approx(1, rel=1e-12)  # 1 + a = c


@given(reference=some.laws, cost=st.floats(0.001, 0.9))
def test_pandoras_threshold_is_worth_a_draw(reference: bt.Policy, cost: float) -> None:
    level = float(bt.pandora_threshold(reference, cost))
    gain = probs(reference) @ np.maximum(np.asarray(reference.rewards) - level, 0)
    assert gain == pytest.approx(cost, rel=1e-12)


def test_pandoras_threshold_is_what_the_rule_earns() -> None:
    """Drawing until a reward of at least τ: mean reward less the cost of the draws is τ."""
    reference = some.law([0.1, 0.2, 0.3, 0.35, 0.05], [0.5, -0.25, 1.0, 0.0, 2.0])
    for cost in (0.01, 0.1, 0.3):
        level = bt.pandora_threshold(reference, cost)
        kept = np.asarray(reference.rewards) >= float(level)
        mass = probs(reference)[kept].sum()
        mean = float(probs(reference)[kept] @ np.asarray(reference.rewards)[kept]) / mass
        assert mean - cost / mass == pytest.approx(float(level), rel=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bt.threshold_for_mean_draws(4, 5.0), "mean_draws must be at most n_max, got 5"),
        (lambda: bt.threshold_for_mean_draws(4, 0.5), "mean_draws must be"),
        (lambda: bt.mean_draws_stopped(1.5, 4), "threshold must be"),
        (lambda: bt.pandora_threshold(bt.Policy.uniform_reward(), 0.0), "cost must be"),
    ],
)
def test_bad_input_says_what_to_do(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
