"""Tails, transforms, long sequences: what must hold of any law of sequences."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from bon_theory import sequence
from bon_theory.sequence.convolution import log_convolution_power, log_convolve
from tests.oracles import sequences as oracle
from tests.sequence_examples import BLOCKS, CHAIN, COIN, DIE, DIE_PROBS, DIE_REWARDS, ROWS, WHOLE


@jax.jit
def approach(law: sequence.SequenceLaw, n: Any, temperature: Any) -> jax.Array:
    """KL(P*‖P_n), block by block."""
    policy = law.select(bt.soft_best_of_n, n, temperature)
    return sequence.kl_divergence(sequence.optimum(law, temperature), policy)


# --- laws of sums ------------------------------------------------------------------------


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_tails_of_a_sum_are_exact_to_the_last_digits_of_their_logarithms(array: Any):
    weights = [3, 1, 0, 7000]
    law = np.array(weights) / sum(weights)
    with np.errstate(divide="ignore"):
        found = np.asarray(log_convolution_power(array(np.log(law)), exponent=100))
    exact = np.array(oracle.log_lattice_power(weights, 100))
    assert exact.min() == -np.inf  # a total that cannot be had
    assert exact[0] < math.log(1e-300)
    possible = exact > -np.inf
    np.testing.assert_array_equal(found > -np.inf, possible)
    np.testing.assert_allclose(found[possible], exact[possible], rtol=1e-14, atol=1e-14)


def test_long_convolutions_agree_with_numpy():
    # More than one tile of results and one block of terms.
    a, b = (np.random.default_rng(s).dirichlet(np.ones(size)) for s, size in ((0, 1500), (1, 200)))
    found = log_convolve(jnp.asarray(np.log(a)), jnp.asarray(np.log(b)))
    np.testing.assert_allclose(np.exp(found), np.convolve(a, b), rtol=1e-13)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_few_levels_come_without_a_program_and_are_those_of_one(size: int):
    lattice = sequence.Lattice.fit(DIE_REWARDS)
    law = partial(sequence.SequenceLaw.independent, length=7, block_length=size, lattice=lattice)
    program: Any = jax.jit(law)
    expected = program(DIE)
    found = law(DIE)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-13, atol=1e-14)


def test_a_chain_of_equal_rows_has_independent_symbols():
    chain = sequence.MarkovChain.from_probs(DIE_PROBS, [DIE_PROBS] * 4, DIE_REWARDS)
    markov = sequence.SequenceLaw.markov(chain, 32)
    independent = sequence.SequenceLaw.independent(DIE, 32)
    [ours], [theirs] = markov.stretches, independent.stretches
    np.testing.assert_allclose(ours.policy.log_probs, theirs.policy.log_probs, rtol=1e-13)


# --- transforms --------------------------------------------------------------------------


def test_jit_vmap_and_a_loop_agree():
    ns, temperatures = jnp.array([1.0, 3.5, 1e15]), jnp.array([0.3, 1.0, 5.0])
    together = jax.vmap(approach, (None, 0, 0))(BLOCKS, ns, temperatures)
    alone = [approach(BLOCKS, n, t) for n, t in zip(ns, temperatures, strict=True)]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-12)


def test_gradients_agree_with_differences():
    lattice = sequence.Lattice.fit(CHAIN.rewards)

    @jax.jit
    def divergence(x: jax.Array) -> jax.Array:
        n, temperature, first, again = x
        initial = jnp.stack([first, 0.7 - first, 0.3 + 0 * first])
        rows = jnp.asarray(ROWS).at[0].set(jnp.stack([again, 0.9 - again, 0.1 + 0 * first]))
        chain = sequence.MarkovChain.from_probs(initial, rows, CHAIN.rewards, lattice=lattice)
        return approach(sequence.SequenceLaw.markov(chain, 6, block_length=2), n, temperature)

    x, h = jnp.array([5.0, 0.8, 0.2, 0.6]), 1e-5
    steps = [(divergence(x + h * e) - divergence(x - h * e)) / (2 * h) for e in jnp.eye(4)]
    # Central differences of step 1e-5 are good to about 1e-9.
    np.testing.assert_allclose(jax.jit(jax.grad(divergence))(x), jnp.stack(steps), rtol=1e-7)


def test_gradients_with_an_impossible_symbol_are_finite():
    lattice = sequence.Lattice.fit([0.0, 1.0, 2.0])

    def best(probs: jax.Array) -> jax.Array:
        symbol = bt.Policy.from_probs(probs, [0.0, 1.0, 2.0])
        law = sequence.SequenceLaw.independent(symbol, 3, lattice=lattice)
        return sequence.expected_reward(law.select(bt.best_of_n, n=4))

    assert np.all(np.isfinite(jax.jit(jax.grad(best))(jnp.array([0.5, 0.0, 0.5]))))


def test_float32_is_accurate_to_its_precision():
    symbol = bt.Policy.from_probs(jnp.array(DIE_PROBS, jnp.float32), DIE_REWARDS)
    law = sequence.SequenceLaw.independent(symbol, 32)
    found = law.stretches[0].policy
    assert found.dtype == jnp.float32
    exact = sequence.SequenceLaw.independent(DIE, 32).stretches[0].policy.log_probs
    np.testing.assert_allclose(found.log_probs, exact, rtol=1e-5)


def test_large_offsets_of_the_reward_change_nothing():
    def laws(symbol: bt.Policy) -> tuple[bt.Policy, jax.Array]:
        law = sequence.SequenceLaw.independent(symbol, 32)
        best = law.select(bt.best_of_n, n=16)
        return sequence.total_reward(best), sequence.expected_reward(best)

    def symbol(origin: float) -> bt.Policy:  # next to 32 origins a step is rounded away
        probs, steps = jnp.array([0.5, 0.5], jnp.float32), np.array([0, 2.0**-10])
        return bt.Policy.from_probs(probs, jnp.asarray(origin + steps, jnp.float32))

    (total, reward), (shifted, shifted_reward) = laws(symbol(0.0)), laws(symbol(1000.0))
    np.testing.assert_array_equal(shifted.log_probs, total.log_probs)
    np.testing.assert_array_equal(shifted.log_cdf, total.log_cdf)
    np.testing.assert_allclose(shifted_reward, 32_000 + reward, rtol=1e-7)


@pytest.mark.parametrize("temperature", [1e-3, 1.0, 1e12, 1e16])
def test_the_value_of_an_end_is_accurate_at_any_temperature(temperature: float):
    [values] = sequence.look_ahead(BLOCKS, temperature)
    rows, rewards = np.array(ROWS), np.asarray(CHAIN.rewards)
    for block, left in enumerate([4, 2]):
        exact = [
            oracle.soft_mean(oracle.markov_law(row, rows, left), totals, temperature)
            for row, totals in zip(rows, [oracle.total_rewards(rewards, left)] * 3, strict=True)
        ]
        np.testing.assert_allclose(values[block], exact, rtol=1e-13)


# --- draws -------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_draws_of_whole_sequences_and_their_slope():
    draws = jax.jit(jax.value_and_grad(lambda kl: sequence.n_for_kl_from_optimum(WHOLE, kl, 1.0)))
    n, slope = draws(0.1)
    assert float(n) == pytest.approx(7.914, abs=5e-4)
    kl, inverse = jax.jit(jax.value_and_grad(lambda n: approach(WHOLE, n, 1.0)))(n)
    assert float(kl) == pytest.approx(0.1, rel=1e-11)
    assert float(slope) == pytest.approx(1 / float(inverse), rel=1e-9)


def test_the_draws_of_symbols():
    law = sequence.SequenceLaw.independent(COIN, 8, block_length=1)
    assert float(sequence.n_for_kl_from_optimum(law, 0.1, 1.0)) == pytest.approx(2.990, abs=5e-4)


@pytest.mark.slow
def test_draws_at_the_ends():
    reference_kl = float(approach(BLOCKS, 1.0, 1.0))
    assert sequence.n_for_kl_from_optimum(BLOCKS, 1.01 * reference_kl, 1.0) == 1
    # Myopic blocks do not come nearer than this, however many are drawn.
    limit = float(approach(BLOCKS, 1e30, 1.0))
    assert sequence.n_for_kl_from_optimum(BLOCKS, 0.99 * limit, 1.0) == np.inf
    looking = sequence.n_for_kl_from_optimum(BLOCKS, 0.99 * limit, 1.0, ahead=True)
    assert 1 < float(looking) < 100


# Myopic blocks may pass near the optimum on the way to another limit (0.32 nats here).
DETOUR = sequence.SequenceLaw.markov(
    sequence.MarkovChain.from_probs(
        [0.1042346, 0.40790977, 0.48785563],
        [
            [0.14463293, 0.74150868, 0.11385839],
            [0.68163832, 0.00259668, 0.315765],
            [0.19893578, 0.01869437, 0.78236985],
        ],
        [5.0, 3.0, 0.0],
    ),
    4,
    block_length=1,
)


def test_blocks_that_pass_by_the_optimum_are_found_on_their_way():
    """Their limit misses the budget: a search between one draw and infinitely many ends at inf."""
    n = float(sequence.n_for_kl_from_optimum(DETOUR, 0.19655, 0.5))
    assert 1 < n < 1e3


@pytest.mark.slow
def test_the_draws_of_blocks_that_pass_by_the_optimum():
    budget, temperature = 0.19655, 0.5
    n = float(sequence.n_for_kl_from_optimum(DETOUR, budget, temperature))
    assert float(approach(DETOUR, n, temperature)) == pytest.approx(budget, rel=1e-11)
    fewer = jax.vmap(approach, (None, 0, None))(DETOUR, jnp.linspace(1, n, 20)[:-1], temperature)
    assert np.all(np.asarray(fewer) > budget)
    assert float(approach(DETOUR, 1e30, temperature)) > budget


# --- long sequences ----------------------------------------------------------------------

rate = jax.jit(lambda x: sequence.cramer_rate(DIE, x))


def test_the_rate_agrees_with_its_supremum():
    means = [0.01, 0.3, 0.75 + 1e-4, 1.0, 1.7, 1.9999]
    exact = [oracle.cramer_rate(DIE_PROBS, DIE_REWARDS, mean) for mean in means]
    np.testing.assert_allclose(rate(jnp.array(means)), exact, rtol=1e-10)


def test_the_rate_at_and_beyond_the_extreme_rewards():
    found = rate(jnp.array([-0.1, -0.0, 0.0, 2.0, 2.1, np.inf]))
    np.testing.assert_allclose(
        found, [np.inf, -np.log(0.4), -np.log(0.4), -np.log(0.2), np.inf, np.nan], rtol=1e-14
    )


def test_the_rate_of_a_certain_reward():
    certain = bt.Policy.from_probs([1.0], [3.0])
    np.testing.assert_array_equal(sequence.cramer_rate(certain, jnp.array([3.0, 4.0])), [0, np.inf])


def test_the_rate_of_whole_sequences_is_that_of_symbols_times_their_number():
    total = sequence.total_reward(sequence.SequenceLaw.independent(DIE, 32))
    whole = sequence.cramer_rate(total, 32 * 1.3)
    np.testing.assert_allclose(whole, 32 * rate(1.3), rtol=1e-11)


def test_a_gain_costs_at_least_its_rate():
    ns, length = jnp.array([1.0, 2.0, 16.0, 1e4, 1e12]), 32

    @jax.jit
    @jax.vmap
    def costs(n: jax.Array) -> tuple[jax.Array, ...]:
        law = sequence.SequenceLaw.independent(COIN, length)
        best = law.select(bt.best_of_n, n=n)
        mean = sequence.expected_reward(best) / length
        least = sequence.necessary_log_n(COIN, mean, length=length)
        return sequence.kl_divergence(best, law), mean, sequence.cramer_rate(COIN, mean), least

    kl, mean, rates, least = map(np.asarray, costs(ns))
    price = np.log(ns) - (ns - 1) / ns
    slack = 1e-12
    assert np.all(price >= kl - slack)
    assert np.all(kl >= length * rates - slack)
    assert np.all(rates >= 2 * (mean - 0.5) ** 2 - slack)
    assert np.all(least <= np.log(ns) + 1e-6)  # at n = 1 the root is double
    np.testing.assert_allclose(least + np.expm1(-least), length * rates, rtol=1e-12, atol=1e-14)


def test_one_draw_earns_the_mean_and_less() -> None:
    """No more draws are needed for less, however unlikely it is to earn exactly that badly."""
    means = jnp.array([-1.0, 0.0, 0.3, 0.5, 0.75])
    least = sequence.necessary_log_n(COIN, means, length=64)
    assert least[:4].tolist() == [0.0] * 4
    assert least[4] > 8
    slopes = jax.vmap(jax.grad(lambda x: sequence.necessary_log_n(COIN, x, length=64)))(means)
    assert slopes[:3].tolist() == [0.0] * 3
    assert bool(jnp.isfinite(slopes).all())


@pytest.mark.slow
def test_long_sequences_tend_to_the_phase_transition():
    temperature, shares = 0.5, jnp.array([0.0, 0.3, 0.7, 1.3])
    kl = float(sequence.limit_kl(COIN, temperature, 0.0))

    length = 256

    @jax.jit
    @jax.vmap
    def per_symbol(growth_rate: jax.Array) -> tuple[jax.Array, jax.Array]:
        law = sequence.SequenceLaw.independent(COIN, length)
        policy = law.select(bt.soft_best_of_n, jnp.exp(growth_rate * length), temperature)
        divergence = sequence.kl_divergence(sequence.optimum(law, temperature), policy)
        return divergence / length, sequence.expected_reward(policy) / length

    limit = np.asarray(sequence.limit_kl(COIN, temperature, shares * kl))
    rewards = np.stack([sequence.limit_reward(COIN, temperature, rho) for rho in shares * kl])
    divergence, reward = map(np.asarray, per_symbol(shares * kl))
    np.testing.assert_allclose(divergence, limit, atol=math.log(length) / length)  # its order
    np.testing.assert_allclose(reward, rewards, atol=math.log(length) / length)
    rates = sequence.cramer_rate(COIN, rewards)
    np.testing.assert_allclose(rates, kl * np.minimum(shares, 1), rtol=1e-9, atol=1e-15)


def test_large_deviations_do_not_depend_on_the_origin_of_the_reward():
    # At 1e9 the reward is rounded by 1e-7.
    for origin, tolerance in ((0.0, 1e-14), (1e6, 1e-9), (1e9, 1e-7)):
        symbol = bt.Policy.from_probs([0.5, 0.25, 0.25], [origin, origin + 1, origin + 2])
        rate = sequence.cramer_rate(symbol, origin + 1.25)
        assert float(rate) == pytest.approx(0.25 * math.log(2), abs=tolerance)
        rewards = sequence.limit_reward(symbol, [0.5, 1e-300], [[0.1], [10.0]]) - origin
        frozen = 1.1292955084249  # of rate 0.1, bisected with mpmath
        tilted = (0.25 * math.e**2 + 0.5 * math.e**4) / (0.5 + 0.25 * math.e**2 + 0.25 * math.e**4)
        exact = [[frozen, frozen], [tilted, 2.0]]
        np.testing.assert_allclose(rewards, exact, atol=10 * tolerance)


def test_large_deviations_of_cold_tilts():
    symbol = bt.Policy.from_probs([0.5, 0.25, 0.25], [0.0, 1.0, 2.0])
    cold = jnp.array([1e-12, 1e-14, 1e-16, 1e-300])
    np.testing.assert_allclose(sequence.limit_reward(symbol, cold, 10.0), 2, rtol=1e-14)
    assert np.isfinite(jax.grad(lambda t: sequence.limit_reward(symbol, t, 0.1))(1e-300))
