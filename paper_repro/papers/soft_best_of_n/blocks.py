"""Claims on blocks of any length, on long sequences, and on references with a memory.

Computed by ``bon_theory.sequence``; expected values by enumeration or closed forms in plain NumPy.
"""

from __future__ import annotations

import itertools
import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

import bon_theory as bt
from bon_theory import sequence
from paper_repro.papers.claim import DERIVED, Claim, Tolerance
from paper_repro.papers.closed_forms import tie_free_kl
from paper_repro.papers.search import root
from paper_repro.papers.soft_best_of_n.laws import (
    INEQUALITY,
    ROUNDING,
    claim,
    weights,
)
from paper_repro.papers.soft_best_of_n.sequences import Blockwise, blockwise

_BLOCKWISE = "blockwise sampling"
_AUTOREGRESSIVE = "autoregressive references"
_BLOCK_CHECKS = tuple(
    f"soft_best_of_n(8, 1.5) on i.i.d. sequence, {kept}"
    for kept in ("symbolwise", "blockwise", "whole")
)
_CHAIN_CHECK = "soft_best_of_n(8, 1.5) on Markov sequence, whole"
_MYOPIC_CHECK = "soft_best_of_n(8, 1.5) on Markov sequence, symbolwise"
_CHAIN_TILT_CHECK = "exponential_tilt(3) on Markov sequence, whole"
_TEMPERATURE, _BUDGET = 0.5, 0.1
_LENGTH, _BLOCK_LENGTHS = 32, (1, 8, 32)
_PRICES = (4.0, 64.0)
_LONG, _SHARES = 800, (0.25, 0.5, 0.75, 1.25)  # log n over m·D

INITIAL, TRANSITION = np.array([0.5, 0.5]), np.array([[0.8, 0.2], [0.3, 0.7]])
_MARKOV_LENGTH = 8


@cache
def samples(block_length: int) -> float:
    """Candidates n per block for KL(P*‖P_n) = 0.1 over 32 coins; each block has its share."""
    coin = bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0])
    block = sequence.SequenceLaw.independent(coin, block_length)
    share = _BUDGET * block_length / _LENGTH
    return float(sequence.n_for_kl_from_optimum(block, share, _TEMPERATURE))


def at(length: int, n: float) -> Blockwise:
    """Soft best-of-n over whole sequences of coins; some lengths share one compiled program."""
    return blockwise(length, n, _TEMPERATURE, padded=33 if length <= 32 else _LONG + 1)


def _binary_divergence(x: float) -> float:
    """The Cramér rate of a fair coin: log 2 − entropy(x)."""
    return math.log(2) + x * math.log(x) + (1 - x) * math.log(1 - x)


_TILTED = 1 / (1 + math.exp(-1 / _TEMPERATURE))
_DIVERGENCE = _binary_divergence(_TILTED)


def _selection_costs(length: int, n: float) -> list[float]:
    """log n − (n−1)/n − KL, KL − m·I(½ + g) and m·I − 2mg² at the gain g of soft best-of-n."""
    kl, reward = at(length, n).kl, at(length, n).reward
    coin = bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0])
    rate = length * float(sequence.cramer_rate(coin, reward / length))
    gain = reward / length - 0.5
    return [tie_free_kl(n) - kl, kl - rate, rate - 2 * length * gain**2]


def _frozen_reward(exponent: float) -> float:
    """The reward x ≥ ½ per symbol with I(x) = min(ρ, D), by root finding on the entropy."""
    return root(lambda x: _binary_divergence(x) - min(exponent, _DIVERGENCE), 0.5, 1 - 1e-9)


# References with a memory: two states that persist, reward 1 in the second.


@cache
def _enumeration() -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """All 2^8 sequences, their probabilities and rewards."""
    words = np.array(list(itertools.product((0, 1), repeat=_MARKOV_LENGTH)))
    moves = TRANSITION[words[:, :-1], words[:, 1:]].prod(axis=1)
    return words, INITIAL[words[:, 0]] * moves, words.sum(axis=1).astype(float)


def _enumerated_optimum() -> NDArray[np.float64]:
    _, law, rewards = _enumeration()
    tilted = law * np.exp(rewards / _TEMPERATURE)
    return tilted / tilted.sum()


def _enumerated_myopic() -> NDArray[np.float64]:
    """Each symbol tilted by its own reward."""
    words, *_ = _enumeration()
    weight = np.exp(np.array([0.0, 1.0]) / _TEMPERATURE)
    rows = TRANSITION * weight / (TRANSITION @ weight)[:, None]
    first = INITIAL * weight / (INITIAL @ weight)
    return first[words[:, 0]] * rows[words[:, :-1], words[:, 1:]].prod(axis=1)


def _enumerated_conditionals() -> tuple[float, ...]:
    """P*(x_i = 1 | x_{i−1} = 0) at i = 2, …, m."""
    words, optimum = _enumeration()[0], _enumerated_optimum()
    return tuple(
        float(optimum[(words[:, i - 1] == 0) & (words[:, i] == 1)].sum())
        / float(optimum[words[:, i - 1] == 0].sum())
        for i in range(1, _MARKOV_LENGTH)
    )


def _enumerated_losses() -> tuple[float, ...]:
    optimum, myopic, rewards = _enumerated_optimum(), _enumerated_myopic(), _enumeration()[2]
    return (
        float(optimum @ np.log(optimum / myopic)),
        float(myopic @ np.log(myopic / optimum)),
        float((optimum - myopic) @ rewards),
    )


def _enumerated_pairs() -> tuple[float, ...]:
    """KL(P_2‖π) and E_{P_2} R: with two candidates P(x) = 2π(x) E σ((R(x) − R(X))/λ)."""
    _, law, rewards = _enumeration()
    wins = 1 / (1 + np.exp(-(rewards[:, None] - rewards[None, :]) / _TEMPERATURE))
    policy = 2 * law * (wins @ law)
    return float(policy @ np.log(policy / law)), float(policy @ rewards)


def _chain(block_length: int | None) -> sequence.SequenceLaw:
    chain = sequence.MarkovChain.from_probs(INITIAL, TRANSITION, [0.0, 1.0])
    return sequence.SequenceLaw.markov(chain, _MARKOV_LENGTH, block_length=block_length)


def _conditionals() -> NDArray[np.float64]:
    """From state 0 to state 1 at every step but the first, under the optimum symbol by symbol."""
    [stretch] = jax.jit(lambda law: sequence.optimum(law, _TEMPERATURE))(_chain(1)).stretches
    moves = jnp.exp(stretch.log_joint).sum(axis=2)  # over levels: [T, S, E]
    return np.asarray(moves[1:, 0, 1])


def _pairs() -> list[float]:
    @jax.jit
    def pairs(law: sequence.SequenceLaw) -> list[jax.Array]:
        policy = law.select(bt.soft_best_of_n, 2.0, _TEMPERATURE)
        return [sequence.kl_divergence(policy, law), sequence.expected_reward(policy)]

    return [float(value) for value in pairs(_chain(None))]


def _losses() -> list[float]:
    @jax.jit
    def losses(law: sequence.SequenceLaw) -> list[jax.Array]:
        optimum = sequence.optimum(law, _TEMPERATURE)
        myopic = law.select(bt.exponential_tilt, _TEMPERATURE)
        return [
            sequence.kl_divergence(optimum, myopic),
            sequence.kl_divergence(myopic, optimum),
            sequence.expected_reward(optimum) - sequence.expected_reward(myopic),
        ]

    return [float(loss) for loss in losses(_chain(1))]


CLAIMS: tuple[Claim, ...] = (
    claim(
        id="soft/blocks-need",
        where="blocks",
        provenance=DERIVED,
        statement=(
            "Blocks of b symbols need n ≥ exp(bD − εb/m) candidates each for KL(P*‖P_n) ≤ ε over m "
            "symbols: exponential in the block, not in the sequence. Entries: that n; m = 32 fair "
            "coins, λ = 0.5, ε = 0.1, at equal cost n drawn symbols per symbol."
        ),
        compute=lambda: [samples(b) for b in _BLOCK_LENGTHS],
        expected=tuple(math.exp(b * _DIVERGENCE - _BUDGET * b / _LENGTH) for b in _BLOCK_LENGTHS),
        kind="inequality",
        relation=">=",
        tolerance=INEQUALITY,
        labels=tuple(f"b={b}" for b in _BLOCK_LENGTHS),
        figure="sequences",
        test="bon_theory/test_sequence_laws.py::test_the_draws_of_blocks_that_pass_by_the_optimum",
        checked_by=_BLOCK_CHECKS,
    ),
    claim(
        id="soft/blocks-suffice",
        where="blocks",
        provenance=DERIVED,
        statement=(
            "n ≤ ((1 + χ²)^b − 1)/(exp(εb/m) − 1) candidates per block of b symbols are enough "
            "for KL(P*‖P_n) ≤ ε over m symbols. Entries: the n that is needed; m = 32, λ = 0.5."
        ),
        compute=lambda: [samples(b) for b in _BLOCK_LENGTHS],
        expected=tuple(
            math.expm1(b * math.log1p(weights("coin", _TEMPERATURE).chi_squared))
            / math.expm1(_BUDGET * b / _LENGTH)
            for b in _BLOCK_LENGTHS
        ),
        kind="inequality",
        relation="<=",
        tolerance=INEQUALITY,
        labels=tuple(f"b={b}" for b in _BLOCK_LENGTHS),
        figure="sequences",
        test="bon_theory/test_sequence_laws.py::test_the_draws_of_blocks_that_pass_by_the_optimum",
        checked_by=_BLOCK_CHECKS,
    ),
    claim(
        id="soft/equal-cost",
        where="blocks",
        provenance=DERIVED,
        statement=(
            "At equal cost shorter blocks earn more per symbol. Entries: the reward per symbol "
            "with blocks of b less that with the next longer ones; λ = 0.5."
        ),
        compute=lambda: [
            at(short, n).reward / short - at(long, n).reward / long
            for n in _PRICES
            for short, long in itertools.pairwise(_BLOCK_LENGTHS)
        ],
        expected=(0.0,) * len(_PRICES) * (len(_BLOCK_LENGTHS) - 1),
        kind="inequality",
        relation=">=",
        tolerance=INEQUALITY,
        labels=tuple(
            f"n={n:g}, b={short} − b={long}"
            for n in _PRICES
            for short, long in itertools.pairwise(_BLOCK_LENGTHS)
        ),
        figure="sequences",
        test="bon_theory/test_sequence.py::test_blocks_agree_with_all_sequences",
        checked_by=_BLOCK_CHECKS,
    ),
    claim(
        id="soft/cost-of-gain-exact",
        where="whole sequences",
        provenance=DERIVED,
        statement=(
            "A mean gain g per symbol, by any rule among n sequences, costs log n − (n−1)/n ≥ "
            "KL(P_n‖π) ≥ m·I(E_π r + g) ≥ 2mg²/R², I the Cramér rate. Entries: the three "
            "differences at the gain of soft best-of-n, λ = 0.5."
        ),
        compute=lambda: [v for n in _PRICES for v in _selection_costs(_LENGTH, n)],
        expected=(0.0,) * 3 * len(_PRICES),
        kind="inequality",
        relation=">=",
        tolerance=INEQUALITY,
        labels=tuple(
            f"n={n:g}, {side}"
            for n in _PRICES
            for side in ("log n − (n−1)/n − KL", "KL − m·I", "m·I − 2mg²")
        ),
        figure="sequences",
        test="bon_theory/test_sequence_laws.py::test_a_gain_costs_at_least_its_rate",
        checked_by=_BLOCK_CHECKS,
    ),
    claim(
        id="soft/phase-transition-reward",
        kind="asymptotic",
        where="whole sequences",
        provenance=DERIVED,
        statement=(
            "With n = exp(ρm) whole sequences the reward per symbol tends to x, I(x) = min(ρ, D): "
            "below D soft best-of-n is frozen into best-of-n. m = 800, λ = 0.5."
        ),
        compute=lambda: [
            at(_LONG, math.exp(share * _DIVERGENCE * _LONG)).reward / _LONG for share in _SHARES
        ],
        expected=tuple(_frozen_reward(share * _DIVERGENCE) for share in _SHARES),
        tolerance=Tolerance("finite length: of the order (log m)/m = 0.008", absolute=0.008),
        labels=tuple(f"ρ={share:g}·D" for share in _SHARES),
        figure="sequences",
        test="bon_theory/test_sequence_laws.py::test_long_sequences_tend_to_the_phase_transition",
        checked_by=_BLOCK_CHECKS,
    ),
    claim(
        id="soft/look-ahead",
        where="autoregressive references",
        provenance=DERIVED,
        statement=(
            "The optimal next symbol has probability ∝ π(x_i|x^{i−1}) e^{r(x_i)/λ} h_i(x^i), "
            "h_i = E[exp(Σ_{j>i} r_j/λ) | x^i]. Entries: from state 0 to state 1 of a Markov chain "
            "at i = 2, …, 8, beside the optimum over all 256 sequences."
        ),
        compute=_conditionals,
        expected=_enumerated_conditionals(),
        tolerance=ROUNDING,
        labels=tuple(f"i={i}" for i in range(2, _MARKOV_LENGTH + 1)),
        test="bon_theory/test_sequence.py::test_looking_ahead_tends_to_the_optimum",
        checked_by=(_CHAIN_TILT_CHECK,),
    ),
    claim(
        id="soft/myopic-loss",
        where="autoregressive references",
        provenance=DERIVED,
        statement=(
            "Symbol-by-symbol selection drops h and with any number of draws tends to another law "
            "Q. Entries: its distance from the optimum, the same Markov chain, λ = 0.5."
        ),
        compute=_losses,
        expected=_enumerated_losses(),
        tolerance=ROUNDING,
        labels=("KL(P*‖Q)", "KL(Q‖P*)", "reward lost"),
        test="bon_theory/test_sequence.py::test_the_myopic_rule_misses_the_optimum_of_a_markov_reference",
        checked_by=(_CHAIN_TILT_CHECK, _MYOPIC_CHECK),
    ),
    claim(
        id="soft/markov-pairs",
        where="autoregressive references",
        provenance=DERIVED,
        statement=(
            "Soft best-of-2 over whole sequences of a Markov chain: KL(P‖π) and reward, beside "
            "2π(x)·E σ((R(x) − R(X))/λ) on all 256 sequences."
        ),
        compute=_pairs,
        expected=_enumerated_pairs(),
        tolerance=ROUNDING,
        labels=("KL", "reward"),
        test="bon_theory/test_sequence.py::test_blocks_agree_with_all_sequences",
        checked_by=(_CHAIN_CHECK,),
    ),
)
