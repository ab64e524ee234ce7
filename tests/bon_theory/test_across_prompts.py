"""One number of draws, or one temperature, for all prompts: against scans over plain sums."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from tests.oracles import discrete, hedging, roots

PROBS = ((0.5, 0.3, 0.2), (0.1, 0.3, 0.6), (0.25, 0.7, 0.05))
REWARDS = ((0.0, 0.5, 1.0), (0.2, 0.0, 1.5), (0.0, 1.0, 1.1))
TRUE = ((0.0, 1.0, 0.2), (0.6, 0.0, 0.3), (0.0, 2.0, -6.0))
LAWS: list[roots.Law] = list(zip(PROBS, REWARDS, strict=True))
WEIGHTS = (1.0, 2.0, 5.0)


def prompts() -> bt.Policy:
    return bt.Policy.from_probs(jnp.array(PROBS), jnp.array(REWARDS))


def mean(values: Any, weights: Any = (1, 1, 1)) -> float:
    return float(np.average(values, weights=weights))


@pytest.mark.parametrize("name", ["kl", "reward", "half"])
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_one_n_for_all_is_the_root_of_the_mean(name: str, weights: Any):
    def level(n: float) -> float:
        quantities = [roots.functional(name, law, roots.best_of_n(law, n)) for law in LAWS]
        return mean(quantities, weights or (1, 1, 1))

    target = level(1) + 0.6 * (level(1e9) - level(1))
    expected = roots.root(lambda n: level(n) - target, 1, 1e6)
    solve: Any = {"kl": bt.n_for_kl, "reward": bt.n_for_reward, "half": bt.n_for_win_rate}[name]
    options = {"across_prompts": True if weights is None else weights}
    assert float(solve(prompts(), target, **options)) == pytest.approx(expected, rel=1e-10)
    whole = float(solve(prompts(), target, rounding="down", **options))
    assert whole == math.floor(expected)


def test_one_temperature_for_all_spends_the_mean_budget_by_enumeration():
    found = bt.temperature_for_kl(prompts(), [0.1, 0.2], n=4, across_prompts=WEIGHTS)
    for temperature, budget in zip(np.asarray(found), (0.1, 0.2), strict=True):
        laws = [discrete.soft_best_of_n(*law, 4, float(temperature)) for law in LAWS]
        spent = [
            roots.functional("kl", law, roots.by_level(law, selected))
            for law, selected in zip(LAWS, laws, strict=True)
        ]
        assert mean(spent, WEIGHTS) == pytest.approx(budget, rel=1e-11)


def test_a_batch_of_equal_prompts_is_answered_as_one_of_them():
    copies = bt.Policy.from_probs([PROBS[0]] * 3, REWARDS[0])
    alone = bt.Policy.from_probs(PROBS[0], REWARDS[0])
    n = bt.n_for_kl(copies, 0.7, across_prompts=True)
    assert float(n) == pytest.approx(float(bt.n_for_kl(alone, 0.7)), rel=1e-12)
    # A prompt of weight 0 is no prompt.
    weighed = bt.n_for_kl(prompts(), 0.7, across_prompts=[1.0, 0.0, 0.0])
    assert float(weighed) == pytest.approx(float(n), rel=1e-12)


def test_leading_axes_keep_answers_of_their_own():
    both = jax.tree.map(lambda x: jnp.stack([x, x[::-1]]), prompts())
    found = bt.n_for_kl(both, jnp.array([[0.2], [0.5]]), across_prompts=True)
    assert found.shape == (2, 2)
    np.testing.assert_allclose(found[:, 0], found[:, 1], rtol=1e-12)


def test_the_derivative_of_a_common_answer_is_a_finite_difference():
    def n(logits: jax.Array, kl: jax.Array) -> jax.Array:
        reference = bt.Policy.from_logits(logits, jnp.array(REWARDS))
        return bt.n_for_kl(reference, kl, across_prompts=True)

    logits, kl, step = jnp.log(jnp.array(PROBS)), jnp.asarray(0.5), 1e-5
    by_logits, by_kl = jax.jit(jax.grad(n, argnums=(0, 1)))(logits, kl)
    ahead, behind = (float(n(logits, kl + s)) for s in (step, -step))
    assert float(by_kl) == pytest.approx((ahead - behind) / (2 * step), rel=1e-7)
    ahead, behind = (float(n(logits.at[1, 2].add(s), kl)) for s in (step, -step))
    assert float(by_logits[1, 2]) == pytest.approx((ahead - behind) / (2 * step), rel=1e-7)


def test_the_best_common_n_is_the_highest_of_a_scan():
    found = bt.hedge_n(prompts(), jnp.array(TRUE), across_prompts=WEIGHTS)

    def earned(n: float) -> float:
        means = []
        for law, true in zip(LAWS, TRUE, strict=True):
            order = np.argsort(law[1])
            means.append(roots.best_of_n(law, n) @ np.array(true)[order])
        return mean(means, WEIGHTS)

    scan = np.geomspace(1, 1024, 4001)
    values = [earned(n) for n in scan]
    assert float(found.true_reward) == pytest.approx(earned(float(found.parameter)), rel=1e-12)
    assert float(found.true_reward) >= max(values) - 1e-14
    assert float(found.parameter) == pytest.approx(scan[np.argmax(values)], rel=2e-3)


def test_the_best_common_temperature_is_where_the_mean_softmax_covariance_vanishes():
    """And is none of the prompts' own."""
    arguments = [
        (p, np.array(r), np.array(t)) for p, r, t in zip(PROBS, REWARDS, TRUE, strict=True)
    ]

    def slope(temperature: float) -> float:
        return mean([hedging.softmax_covariance(*a, 3, temperature) for a in arguments])

    def earned(temperature: float) -> float:
        return mean([hedging.soft_value(*a, 3, temperature) for a in arguments])

    found = bt.hedge_temperature(prompts(), jnp.array(TRUE), n=3, across_prompts=True)
    scan = np.geomspace(0.01, 100, 400)
    values = [earned(temperature) for temperature in scan]
    top = int(np.argmax(values))
    best = float(found.parameter)
    assert 0 < top < 399
    assert best == pytest.approx(hedging.stationary(slope, scan[top - 1], scan[top + 1]), rel=1e-9)
    assert float(found.true_reward) == pytest.approx(earned(best), rel=1e-12)
    own = np.asarray(bt.hedge_temperature(prompts(), jnp.array(TRUE), n=3).parameter)
    assert not np.any(np.isclose(own, best, rtol=0.01))


def test_the_common_frontier_is_above_every_way_to_share_the_budget():
    budget = 0.3
    shared = bt.frontier(prompts(), budget, across_prompts=True)
    spent = bt.kl_divergence(shared.policy, prompts())
    assert mean(spent) == pytest.approx(budget, rel=1e-12)
    for shares in ((1, 1, 1), (0.5, 1.5, 1), (1.2, 0.9, 0.9), tuple(np.asarray(spent) / budget)):
        kls = budget * jnp.asarray(shares, float)
        value = mean(bt.frontier(prompts(), kls, unattainable="nan").value)
        assert float(shared.value) >= value - 1e-12
    assert float(shared.value) == pytest.approx(value, rel=1e-11)  # the last is the optimum's own


def test_the_common_choice_is_the_best_of_a_scan():
    found = bt.choose_n_and_temperature(prompts(), 0.25, max_n=4, across_prompts=True)

    def law(n: int, temperature: float) -> list[np.ndarray]:
        laws = [discrete.soft_best_of_n(*law, n, temperature) for law in LAWS]
        return [roots.by_level(law, x) for law, x in zip(LAWS, laws, strict=True)]

    def level(name: str, laws: list[np.ndarray]) -> float:
        return mean([roots.functional(name, a, x) for a, x in zip(LAWS, laws, strict=True)])

    scan = []
    for n in (1, 2, 3, 4):
        hard = [roots.best_of_n(a, n) for a in LAWS]
        if level("kl", hard) <= 0.25:
            scan.append((level("reward", hard), n, 0.0))
        else:
            t = roots.root(lambda t, n=n: level("kl", law(n, t)) - 0.25, 0.02, 50.0)
            scan.append((level("reward", law(n, t)), n, t))
    value, n, temperature = max(scan)
    assert int(found.n) == n
    assert float(found.value) == pytest.approx(value, rel=1e-11)
    assert float(found.temperature) == pytest.approx(temperature, rel=1e-8)
