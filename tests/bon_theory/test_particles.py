"""One path of sequential Monte Carlo, and how far it can be from the optimum."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bon_theory as bt
from bon_theory import sequence
from tests.oracles import particles as oracle
from tests.oracles import sequences
from tests.sequence_examples import COIN, DIE, DIE_PROBS

INITIAL, MOVES = np.array([0.25, 0.75]), np.array([[0.8, 0.2], [0.35, 0.65]])
REWARDS = np.array([0.0, 1.0])
THREE = np.array([0.2, 0.5, 0.3]), np.array([[0.6, 0.3, 0.1], [0.25, 0.7, 0.05], [0.1, 0.0, 0.9]])
TEMPERATURE = 0.7

bound: Any = jax.jit(sequence.particle_bound)


def markov(length: int, block_length: int, moves: Any = MOVES) -> sequence.SequenceLaw:
    chain = sequence.MarkovChain.from_probs(INITIAL, moves, REWARDS)
    return sequence.SequenceLaw.markov(chain, length, block_length=block_length)


def twist(law: sequence.SequenceLaw, factor: float) -> Any:
    """The look-ahead, or a wrong one: a share of it."""
    values = sequence.look_ahead(law, TEMPERATURE)
    return tuple(factor * value for value in values) if factor else None


def by_symbol(law: sequence.SequenceLaw, values: Any) -> np.ndarray:
    """Values of the ends of blocks, at the symbols where blocks end, ``[m, K]``."""
    table = np.zeros((law.length, 2))
    ends = [row for stretch in values or () for row in np.asarray(stretch)]
    for block, value in enumerate(ends[:-1]):
        table[(block + 1) * law.block_length - 1] = value
    return table


# --- the exact law ----------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.0, 1.0, 0.4])
@pytest.mark.parametrize(
    ("n", "length", "block_length"), [(2, 3, 1), (2, 3, 2), (3, 2, 1), (2, 3, 3)]
)
def test_the_law_of_a_path_and_the_second_moment_are_those_of_all_draws(
    n: int, length: int, block_length: int, factor: float
) -> None:
    law = markov(length, block_length)
    values = twist(law, factor)
    expected, second = oracle.path_law(
        oracle.Chain(INITIAL, MOVES, REWARDS),
        length,
        n,
        TEMPERATURE,
        block_length=block_length,
        values=by_symbol(law, values),
    )
    found = sequence.particle_law(law, n, TEMPERATURE, look_ahead=values)
    np.testing.assert_allclose(found.probs, expected, rtol=1e-12)
    chances = sequences.markov_law(INITIAL, MOVES, length)
    weights = np.exp(sequences.total_rewards(REWARDS, length) / TEMPERATURE)
    log_second = math.log(second / (chances @ weights) ** 2)
    assert float(bound(law, n, TEMPERATURE, look_ahead=values)) == pytest.approx(
        log_second, rel=1e-12
    )


def test_weights_too_small_for_floating_point_and_thousands_of_particles() -> None:
    # Rewards are 1 apart: at a hundredth of that the temperature does not matter any more.
    cold, colder = (sequence.particle_law(markov(3, 1), 3, lam) for lam in (1e-2, 1e-4))
    np.testing.assert_allclose(colder.probs, cold.probs, rtol=1e-13, atol=1e-30)
    law = markov(2, 1)
    many = sequence.particle_law(law, 3000, TEMPERATURE)
    assert bt.certificate(many) < 1e-10  # factorials of thousands, by their logarithms
    optimum = sequence.enumerated(sequence.optimum(law, TEMPERATURE))
    assert 0 < bt.kl_divergence(optimum, many) < bound(law, 3000.0, TEMPERATURE)


def test_more_symbols_and_an_impossible_move() -> None:
    initial, moves = THREE
    rewards = np.array([0.0, 1.5, 0.5])
    chain = sequence.MarkovChain.from_probs(initial, moves, rewards)
    law = sequence.SequenceLaw.markov(chain, 2, block_length=1)
    expected, _ = oracle.path_law(
        oracle.Chain(initial, moves, rewards), 2, 3, 0.5, block_length=1, values=np.zeros((2, 3))
    )
    found = sequence.particle_law(law, 3, 0.5)
    np.testing.assert_allclose(found.probs, expected, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 2.5, 64, 1e9])
def test_the_second_moment_of_long_sequences_in_multiprecision(n: float) -> None:
    initial, moves = THREE
    rewards = np.array([0.0, 2.0, 1.0])
    chain = sequence.MarkovChain.from_probs(initial, moves, rewards)
    law = sequence.SequenceLaw.markov(chain, 24, block_length=1)
    expected = oracle.second_moment(oracle.Chain(initial, moves, rewards), 24, n, 0.7)
    assert float(bound(law, n, 0.7)) == pytest.approx(expected, rel=1e-12)


# --- what it is elsewhere ---------------------------------------------------------------


@pytest.mark.parametrize("ahead", [0.0, 1.0])
def test_one_block_is_soft_best_of_n_of_whole_sequences(ahead: float) -> None:
    law = markov(5, 5)
    found = sequence.particle_law(law, 6, TEMPERATURE, look_ahead=twist(law, ahead))
    whole = sequence.enumerated(law)
    soft = bt.soft_best_of_n(whole, 6, TEMPERATURE)
    np.testing.assert_allclose(found.probs, soft.probs, rtol=1e-12)
    chi_squared = bt.chi_squared_divergence(bt.exponential_tilt(whole, TEMPERATURE), whole)
    assert float(bound(law, 6, TEMPERATURE)) == pytest.approx(
        math.log1p(float(chi_squared) / 6), rel=1e-12
    )


@pytest.mark.parametrize("block_length", [1, 2, 3])
def test_of_independent_symbols_it_is_soft_best_of_n_block_by_block(block_length: int) -> None:
    law = sequence.SequenceLaw.independent(DIE, 4, block_length=block_length)
    found = sequence.particle_law(law, 3, TEMPERATURE)
    soft = sequence.enumerated(law.select(bt.soft_best_of_n, 3, TEMPERATURE))
    np.testing.assert_allclose(found.probs, soft.probs, rtol=1e-12)


def test_independent_symbols_have_a_bound_in_closed_form() -> None:
    law = sequence.SequenceLaw.independent(COIN, 32, block_length=1)
    chi_squared = math.tanh(1 / (2 * 0.5)) ** 2
    expected = 32 * math.log1p(chi_squared / 7)
    assert float(bound(law, 7, 0.5)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("ahead", "n"), [(0.0, 32), (1.0, 8)])
def test_one_particle_is_the_reference_and_many_are_the_optimum(ahead: float, n: int) -> None:
    law = markov(4, 1)
    values = twist(law, ahead)
    one = sequence.particle_law(law, 1, TEMPERATURE, look_ahead=values)
    np.testing.assert_allclose(one.probs, sequence.enumerated(law).probs, rtol=1e-13)
    optimum = sequence.enumerated(sequence.optimum(law, TEMPERATURE))
    distances = []
    for number in (n, 2 * n):
        found = sequence.particle_law(law, number, TEMPERATURE, look_ahead=values)
        distances.append(number**2 * float(bt.kl_divergence(optimum, found)))
    # KL(P*‖P_N) falls like 1/N², as soft best-of-n's does; the bound like 1/N.
    assert distances[0] == pytest.approx(distances[1], rel=0.25)
    scaled = [x * float(bound(law, x, TEMPERATURE, look_ahead=values)) for x in (1e6, 1e9)]
    assert scaled[0] == pytest.approx(scaled[1], rel=1e-5)


# --- laws -------------------------------------------------------------------------------


@settings(max_examples=10)
@given(
    rows=st.lists(st.floats(0.02, 0.98), min_size=2, max_size=2),
    n=st.sampled_from([1, 2, 5]),
    block_length=st.sampled_from([1, 3]),
    factor=st.sampled_from([0.0, 1.0, 0.4, -0.5]),
)
def test_it_is_a_law_within_its_bound(
    rows: list[float], n: int, block_length: int, factor: float
) -> None:
    law = markov(4, block_length, np.stack([rows, 1 - np.array(rows)], axis=1))
    values = twist(law, factor)
    found = sequence.particle_law(law, n, TEMPERATURE, look_ahead=values)
    assert float(jnp.sum(found.probs)) == pytest.approx(1, abs=1e-12)
    optimum = sequence.enumerated(sequence.optimum(law, TEMPERATURE))
    distance = float(bt.kl_divergence(optimum, found))
    assert distance <= float(bound(law, n, TEMPERATURE, look_ahead=values)) + 1e-12


def test_the_bound_falls_with_particles_here_and_with_a_twist() -> None:
    law = markov(16, 1)
    values = twist(law, 1.0)
    numbers = jnp.array([1.0, 2.0, 4.0, 64.0])
    blind, seeing = (
        np.asarray(jax.vmap(lambda n, v=v: bound(law, n, TEMPERATURE, look_ahead=v))(numbers))
        for v in (None, values)
    )
    assert np.all(np.diff(seeing) < 0)
    assert np.all(seeing[1:] < blind[1:])
    assert seeing[0] == pytest.approx(blind[0], rel=1e-12)  # nothing is dropped: no difference


def test_more_particles_can_be_further_from_the_optimum() -> None:
    """Known falsehood: that KL(P*‖P_N) falls with N. A reward that comes early misleads."""
    chain = sequence.MarkovChain.from_probs([0.7, 0.3], [[0.1, 0.9], [0.999, 0.001]], REWARDS)
    law = sequence.SequenceLaw.markov(chain, 6, block_length=1)
    optimum = sequence.enumerated(sequence.optimum(law, 0.3))
    two, eight, sixteen = (
        float(bt.kl_divergence(optimum, sequence.particle_law(law, n, 0.3))) for n in (2, 8, 16)
    )
    assert two < sixteen < eight
    assert bound(law, 1, 0.3) < bound(law, 8, 0.3)


def test_it_can_be_differentiated() -> None:
    law, h = markov(6, 2), 1e-5

    @jax.jit
    def of(x: Any) -> Any:
        return sequence.particle_bound(law, x[0], x[1])

    x = jnp.array([3.0, 0.7])
    slopes = jax.jit(jax.grad(of))(x)
    steps = [(of(x + h * e) - of(x - h * e)) / (2 * h) for e in jnp.eye(2)]
    np.testing.assert_allclose(slopes, jnp.stack(steps), rtol=1e-7)


def test_a_whole_sequence_too_rare_for_floating_point() -> None:
    """χ² of 3,000 coins is beyond float64; its logarithm is not."""
    law = sequence.SequenceLaw.independent(COIN, 3000)
    expected = 3000 * math.log1p(math.tanh(1 / (2 * 0.2)) ** 2) - math.log(1e5)
    assert float(bound(law, 1e5, 0.2)) == pytest.approx(expected, rel=1e-12)


def test_single_precision_and_what_is_inadmissible_while_traced() -> None:
    """The bound to 1e-5 of itself (measured 3e-6), the law of a path to 5e-6 (measured 5e-7)."""
    laws = []
    for dtype in (jnp.float32, jnp.float64):
        numbers = (jnp.asarray(x, dtype) for x in (INITIAL, MOVES, REWARDS))
        chain = sequence.MarkovChain.from_probs(*numbers)
        laws.append(sequence.SequenceLaw.markov(chain, 6, block_length=1))
    for n in (1, 64, 1e6):
        single, double = (float(bound(law, n, 0.5)) for law in laws)
        assert single == pytest.approx(double, rel=1e-5)
    single, double = (np.asarray(sequence.particle_law(law, 5, 0.5).probs) for law in laws)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, rtol=5e-6)
    for n, temperature in ((0.5, 0.5), (2.0, -0.5)):
        assert math.isnan(float(bound(laws[1], n, temperature)))


# --- sequences written out --------------------------------------------------------------


@pytest.mark.parametrize("block_length", [1, 2, 4])
def test_a_law_written_out_is_that_of_all_sequences(block_length: int) -> None:
    law = markov(4, block_length)
    expected = sequences.blockwise(
        INITIAL,
        MOVES,
        REWARDS,
        length=4,
        block_length=block_length,
        select=sequences.soft_best_of_n(3, TEMPERATURE),
    )
    found = sequence.enumerated(law.select(bt.soft_best_of_n, 3, TEMPERATURE))
    np.testing.assert_allclose(found.probs, expected, rtol=1e-12)
    np.testing.assert_array_equal(found.rewards, sequences.total_rewards(REWARDS, 4))


def test_symbols_of_one_reward_are_told_apart() -> None:
    same = bt.Policy.from_probs(DIE_PROBS, [2.0] * 4)
    law = sequence.SequenceLaw.independent(same, 3, block_length=2)
    found = sequence.enumerated(law.select(bt.best_of_n, 5))
    words = sequences.sequences(4, 3)
    np.testing.assert_allclose(found.probs, np.prod(np.array(DIE_PROBS)[words], axis=1), rtol=1e-12)


# --- bad input --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sequence.particle_law(markov(4, 1), 0, 1.0), "n must be a whole number of at"),
        (lambda: sequence.particle_law(markov(4, 1), 2.5, 1.0), "n must be a whole number"),  # pyright: ignore[reportArgumentType]
        (lambda: sequence.particle_law(markov(4, 1), 2, 0.0), "temperature must be"),
        (lambda: sequence.particle_law(markov(4, 1), 10**5, 1.0), "got 100000 particles of .*bou"),
        (lambda: sequence.particle_law(markov(25, 1), 2, 1.0), "at most 1048576 sequences"),
        (lambda: sequence.enumerated(markov(25, 1)), "at most 1048576 sequences"),
        (lambda: sequence.enumerated(COIN), "law must be a SequenceLaw"),  # pyright: ignore[reportArgumentType]
        (
            lambda: jax.jit(lambda law: sequence.particle_law(law, 2, 1.0).probs)(markov(4, 1)),
            "must be concrete for particle_law",
        ),
        (lambda: sequence.particle_bound(markov(4, 1), 0.5, 1.0), "n must be"),
        (lambda: sequence.particle_bound(markov(4, 1), [2.0], 1.0), "n must be a scalar"),
        (lambda: sequence.particle_bound(markov(4, 1), 2, -1.0), "temperature must be"),
        (
            lambda: sequence.particle_bound(markov(4, 1), 2, 1.0, look_ahead=(jnp.zeros(3),)),
            "look_ahead must hold arrays",
        ),
        (lambda: sequence.particle_bound(COIN, 2, 1.0), "reference must be a SequenceLaw"),  # pyright: ignore[reportArgumentType]
    ],
)
def test_bad_input_says_what_to_do(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
