"""Lattices that rewards lie on, and input that no law of sequences has."""

import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from bon_theory import sequence
from tests.oracles import sequences as oracle
from tests.sequence_examples import BLOCKS, CHAIN, COIN, DIE, DIE_PROBS, ROWS, WHOLE


def test_a_lattice_is_recognised():
    lattice = sequence.Lattice.fit([0.1, 0.7, 0.3, 1.3])
    assert lattice.num_levels == 7
    assert lattice.levels(jnp.array([0.1, 0.7, 0.3, 1.3])).tolist() == [0, 3, 1, 6]
    assert sequence.Lattice.fit(jnp.array([0.1, 0.2, 0.7], jnp.float32)).num_levels == 7
    assert sequence.Lattice.fit([5.0]).num_levels == 1


def test_a_lattice_serves_single_precision_and_impossible_symbols():
    lattice = sequence.Lattice.fit([0.1, 0.4, 0.7])
    symbol = bt.Policy.from_probs(jnp.array([0.5, 0.3, 0.2], jnp.float32), [0.1, 0.4, 0.7])
    law = sequence.SequenceLaw.independent(symbol, np.int64(4), lattice=lattice)  # pyright: ignore
    assert float(sequence.expected_reward(law)) == pytest.approx(4 * 0.31, rel=1e-6)
    impossible = bt.Policy.from_probs([0.5, 0.5, 0.0], [0.0, 1.0, math.pi])
    [stretch] = sequence.SequenceLaw.independent(impossible, 4).stretches
    np.testing.assert_allclose(
        stretch.policy.log_probs,
        sequence.SequenceLaw.independent(COIN, 4).stretches[0].policy.log_probs,
        rtol=1e-15,
    )


def test_rounded_rewards_move_log_ratios_by_no_more_than_stated():
    rewards, length, temperature = np.array([0.0, 0.317, 0.7251, 1.0]), 3, 0.4
    lattice = sequence.Lattice.round(rewards, 21)
    symbol = bt.Policy.from_probs(DIE_PROBS, rewards)
    law = sequence.SequenceLaw.independent(symbol, length, lattice=lattice)
    policy = jax.jit(lambda law: law.select(bt.soft_best_of_n, 3, temperature))(law)
    ratio = bt.log_ratio(policy.stretches[0].policy, law.stretches[0].policy)[0, 0]
    words = oracle.sequences(4, length)
    exact_law = oracle.markov_law(np.array(DIE_PROBS), np.array([DIE_PROBS] * 4), length)
    exact = oracle.soft_best_of_n(3, temperature)(exact_law, rewards[words].sum(axis=1))
    levels = np.asarray(lattice.levels(jnp.asarray(rewards)))[words].sum(axis=1)
    moved = np.abs(np.asarray(ratio)[levels] - np.log(exact / exact_law)).max()
    assert 1e-3 < moved <= length * lattice.spacing / temperature


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "off any lattice": (
        lambda: sequence.SequenceLaw.independent(
            bt.Policy.from_probs([0.5, 0.3, 0.2], [0.0, 1.0, math.pi]), 4
        ),
        "rewards must lie on a lattice",
    ),
    "off the given lattice": (
        lambda: sequence.SequenceLaw.independent(DIE, 4, lattice=sequence.Lattice.fit([0.0, 1.0])),
        "rewards must lie on Lattice",
    ),
    "traced rewards": (
        lambda: jax.jit(lambda r: sequence.Lattice.fit(r))(jnp.arange(3.0)),
        "rewards are traced",
    ),
    "infinite rewards": (lambda: sequence.Lattice.fit([0.0, np.inf]), "must be finite"),
    "letters for rewards": (lambda: sequence.Lattice.fit(["a", "b"]), "rewards must be real"),  # pyright: ignore
    "complex rewards": (lambda: sequence.Lattice.fit([1j, 0.0]), "rewards must be real"),
    "at most one level": (lambda: sequence.Lattice.fit([0.0, 1.0], max_levels=1), "max_levels"),
    "half a level": (lambda: sequence.Lattice.round([0.0, 1.0], 2.5), "num_levels"),  # pyright: ignore
    "one reward to round": (lambda: sequence.Lattice.round([1.0, 1.0], 5), "must be distinct"),
    "letters for a chain": (
        lambda: sequence.MarkovChain.from_probs([0.5, 0.5], [[0.5, 0.5]] * 2, ["low", "high"]),  # pyright: ignore
        "rewards must be numbers",
    ),
    "a chain off the given lattice": (
        lambda: sequence.MarkovChain.from_probs(
            [0.5, 0.5], [[0.5, 0.5]] * 2, [0.0, 0.7], lattice=sequence.Lattice.fit([0.0, 1.0])
        ),
        "rewards must lie on Lattice",
    ),
    "a list for a symbol": (
        lambda: sequence.SequenceLaw.independent([0.5, 0.5], 4),  # pyright: ignore
        "symbol must be a Policy",
    ),
    "a symbol for a chain": (
        lambda: sequence.SequenceLaw.markov(COIN, 4),  # pyright: ignore
        "chain must be a MarkovChain",
    ),
    "a true length": (lambda: sequence.SequenceLaw.independent(COIN, True), "length must be"),
    "values of other ends": (
        lambda: BLOCKS.select(bt.best_of_n, 3, look_ahead=(jnp.zeros((2, 3)),)),
        "look_ahead must hold arrays of shapes [(3, 3)]",
    ),
    "a value that is not a number": (
        lambda: BLOCKS.select(bt.best_of_n, 3, look_ahead=(jnp.full((3, 3), np.nan),)),
        "look_ahead must be finite",
    ),
    "other symbols with the same rewards": (
        lambda: sequence.kl_divergence(
            *(
                sequence.SequenceLaw.independent(bt.Policy.from_probs(probs, [0.0, 1.0, 1.0]), 4)
                for probs in ([0.5, 0.25, 0.25], [0.5, 0.1, 0.4])
            )
        ),
        "selected from one reference",
    ),
    "other rewards in the same blocks": (
        lambda: sequence.kl_divergence(
            *(
                sequence.SequenceLaw.independent(bt.Policy.from_probs([0.5, 0.5], [0.0, top]), 4)
                for top in (1.0, 5.0)
            )
        ),
        "select both from one reference",
    ),
    "one level to round to": (lambda: sequence.Lattice.round([0.0, 1.0], 1), "num_levels"),
    "no symbols": (lambda: sequence.SequenceLaw.independent(COIN, 0), "length must be"),
    "half a symbol": (lambda: sequence.SequenceLaw.independent(COIN, 2.5), "length must be"),  # pyright: ignore
    "no block": (
        lambda: sequence.SequenceLaw.independent(COIN, 4, block_length=0),
        "block_length must be a whole",
    ),
    "too long a block": (
        lambda: sequence.SequenceLaw.markov(CHAIN, 4, block_length=5),
        "block_length must be at most",
    ),
    "continuous symbols": (
        lambda: sequence.SequenceLaw.independent(bt.Policy.uniform_reward(), 4),
        "one discrete law",
    ),
    "a batch of symbols": (
        lambda: sequence.SequenceLaw.independent(
            bt.Policy.from_probs([[0.5, 0.5], [0.2, 0.8]], [0.0, 1.0]), 4
        ),
        "one discrete law",
    ),
    "rows that do not sum to one": (
        lambda: sequence.MarkovChain.from_probs([0.5, 0.5], [[0.5, 0.6], [0.5, 0.5]], [0.0, 1.0]),
        "transition rows must sum to one",
    ),
    "a negative transition": (
        lambda: sequence.MarkovChain.from_probs([0.5, 0.5], [[1.5, -0.5], [0.5, 0.5]], [0.0, 1.0]),
        "non-negative",
    ),
    "shapes that differ": (
        lambda: sequence.MarkovChain.from_probs([0.5, 0.5], [[1.0]], [0.0, 1.0]),
        "must agree",
    ),
    "too few draws": (lambda: WHOLE.select(bt.soft_best_of_n, 0.5, 1.0), "n must be"),
    "many draws at once": (
        lambda: WHOLE.select(bt.best_of_n, n=jnp.array([[1.0], [2.0]])),
        "must be scalars",
    ),
    "no temperature": (
        lambda: sequence.optimum(WHOLE, 0.0),
        "temperature must be a finite number above 0, got 0.0: choose temperature above 0.",
    ),
    "ragged rewards": (lambda: sequence.Lattice.fit([[0.0], [1.0, 2.0]]), "must be regular"),
    "rewards too far apart": (lambda: sequence.Lattice.fit([-1e308, 1e308]), "a finite range"),
    **{
        f"one draw for {name}": (call, f"{argument} must be a SequenceLaw, got Policy")
        for name, argument, call in (
            ("kl_divergence", "policy", lambda: sequence.kl_divergence(COIN, WHOLE)),  # pyright: ignore
            ("its reference", "reference", lambda: sequence.kl_divergence(WHOLE, COIN)),  # pyright: ignore
            ("expected_reward", "law", lambda: sequence.expected_reward(COIN)),  # pyright: ignore
            ("total_reward", "law", lambda: sequence.total_reward(COIN)),  # pyright: ignore
            ("look_ahead", "law", lambda: sequence.look_ahead(COIN, 1.0)),  # pyright: ignore
            ("optimum", "law", lambda: sequence.optimum(COIN, 1.0)),  # pyright: ignore
            ("draws", "reference", lambda: sequence.n_for_kl_from_optimum(COIN, 0.1, 1.0)),  # pyright: ignore
        )
    },
    "many temperatures": (lambda: sequence.optimum(WHOLE, jnp.ones(2)), "must be a scalar"),
    "a negative budget": (
        lambda: sequence.n_for_kl_from_optimum(WHOLE, -0.1, 1.0),
        "kl must be",
    ),
    "other blocks": (
        lambda: sequence.kl_divergence(WHOLE, BLOCKS),
        "the same blocks",
    ),
    "blocks with a memory": (
        lambda: sequence.total_reward(BLOCKS),
        "independent blocks",
    ),
    "a batch of references": (
        lambda: sequence.cramer_rate(
            bt.Policy.from_probs([[0.5, 0.5], [0.2, 0.8]], [0.0, 1.0]), 0.5
        ),
        "one discrete law, got batch axes (2,): use jax.vmap",
    ),
    "half a symbol per sequence": (
        lambda: sequence.necessary_log_n(COIN, 0.7, length=2.5),
        "length must be a whole",
    ),
    "lengths of another shape": (
        lambda: sequence.necessary_log_n(COIN, [0.6, 0.7, 0.8], length=[2, 3]),
        "length of shape",
    ),
    "rates of another shape": (
        lambda: sequence.limit_reward(COIN, [0.5, 0.6, 0.7], [0.1, 0.2]),
        "growth_rate of shape",
    ),
    "no length": (lambda: sequence.necessary_log_n(COIN, 0.7, length=0), "length must be"),
    "a list for a limit": (
        lambda: sequence.limit_kl([0.5, 0.5], 0.5, 0.1),  # pyright: ignore
        "reference must be a Policy",
    ),
    "limits of another shape": (
        lambda: sequence.limit_kl(COIN, [0.5, 0.6, 0.7], [0.1, 0.2]),
        "growth_rate of shape",
    ),
    "a negative rate": (lambda: sequence.limit_kl(COIN, 1.0, -1.0), "growth_rate must be"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_reason(case: str):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


def test_traced_bad_input_gives_nan():
    assert np.isnan(
        jax.jit(lambda n: sequence.expected_reward(WHOLE.select(bt.best_of_n, n=n)))(0.5)
    )
    off = bt.Policy.from_probs([0.5, 0.5], [0.0, 0.7])
    lattice = sequence.Lattice.fit([0.0, 1.0])

    @jax.jit
    def reward(symbol: bt.Policy) -> jax.Array:
        law = sequence.SequenceLaw.independent(symbol, 4, lattice=lattice)
        return sequence.expected_reward(law)

    assert np.isnan(reward(off))
    assert not np.isnan(reward(COIN))

    @jax.jit
    def chain_reward(initial: jax.Array) -> jax.Array:
        chain = sequence.MarkovChain.from_probs(initial, ROWS, CHAIN.rewards, lattice=CHAIN.lattice)
        return sequence.expected_reward(sequence.SequenceLaw.markov(chain, 4, block_length=2))

    assert np.isnan(chain_reward(jnp.array([0.5, 0.9, 0.1])))
    assert not np.isnan(chain_reward(jnp.array([0.5, 0.4, 0.1])))
    draws = jax.jit(lambda kl: sequence.n_for_kl_from_optimum(WHOLE, kl, 1.0))
    assert np.isnan(draws(-0.1))


def test_traced_laws_of_other_references_have_no_divergence():
    @jax.jit
    def between(ours: jax.Array, theirs: jax.Array) -> jax.Array:
        laws = [
            sequence.SequenceLaw.independent(
                bt.Policy.from_probs(probs, [0.0, 1.0]), 4, lattice=WHOLE.lattice
            )
            for probs in (ours, theirs)
        ]
        return sequence.kl_divergence(laws[0].select(bt.best_of_n, n=2), laws[1])

    assert np.isnan(between(jnp.array([0.5, 0.5]), jnp.array([0.4, 0.6])))
    assert between(jnp.array([0.5, 0.5]), jnp.array([0.5, 0.5])) > 0


def test_a_reward_a_billionth_off_the_lattice_is_refused():
    with pytest.raises(ValueError, match="rewards must lie on"):
        sequence.Lattice.fit([0.0, 1.0, 0.5 + 4e-10])
    assert sequence.Lattice.fit([0.0, 1.0, 0.5 + 2e-16]).num_levels == 3  # rounding is not


@pytest.mark.parametrize(("error", "is_refused"), [(1e-5, True), (1e-10, False)])
def test_rows_may_miss_one_by_rounding_and_no_more(error: float, is_refused: bool):
    rows = [[0.5, 0.5 + error], [0.2, 0.8]]
    if is_refused:
        with pytest.raises(ValueError, match="sum"):
            sequence.MarkovChain.from_probs([0.5, 0.5], rows, [0.0, 1.0])
    else:
        chain = sequence.MarkovChain.from_probs([0.5, 0.5], rows, [0.0, 1.0])
        np.testing.assert_allclose(np.exp(chain.log_transition).sum(axis=-1), 1, rtol=1e-15)


def test_the_look_ahead_can_be_differentiated_where_a_move_is_impossible_and_it_is_cold():
    chain = sequence.MarkovChain.from_probs([0.5, 0.5], [[1.0, 0.0], [0.5, 0.5]], [0.0, 1.0])
    law = sequence.SequenceLaw.markov(chain, 3, block_length=1)

    def total(temperature: Any) -> Any:
        return sum(jnp.sum(values) for values in sequence.look_ahead(law, temperature))

    for temperature in (1e-3, 0.5):
        slope = float(jax.grad(total)(temperature))
        step = 1e-6 * temperature
        difference = (total(temperature + step) - total(temperature - step)) / (2 * step)
        assert slope == pytest.approx(float(difference), rel=1e-6)
