"""Claims on sequential Monte Carlo, beside selection symbol by symbol and of whole sequences."""

from __future__ import annotations

from functools import cache

import numpy as np

import bon_theory as bt
from bon_theory import sequence
from paper_repro.papers.claim import DERIVED, Claim, Tolerance
from paper_repro.papers.soft_best_of_n.blocks import INITIAL, TRANSITION
from paper_repro.papers.soft_best_of_n.laws import INEQUALITY, claim

_WHERE = "sequential Monte Carlo"
_CHECKS = (
    "particles(3, 1.5) on Markov sequence, blockwise",
    "twisted_particles(4, 1.5) on Markov sequence, symbolwise",
)
_TEST = "bon_theory/test_particles.py::"
_TEMPERATURE, _LENGTH, _N = 0.5, 6, (2, 8, 32)
_TURNS, _TURNS_TEMPERATURE = ([0.7, 0.3], [[0.1, 0.9], [0.999, 0.001]]), 0.3


def _chain(initial: object, transition: object, block_length: int = 1) -> sequence.SequenceLaw:
    chain = sequence.MarkovChain.from_probs(np.array(initial), np.array(transition), [0.0, 1.0])
    return sequence.SequenceLaw.markov(chain, _LENGTH, block_length=block_length)


def _independent() -> float:
    """Largest relative difference between a path of particles and soft best-of-n."""
    symbol = bt.Policy.from_probs(INITIAL, [0.0, 1.0])
    law = sequence.SequenceLaw.independent(symbol, _LENGTH, block_length=1)
    path = np.asarray(sequence.particle_law(law, 8, _TEMPERATURE).probs)
    soft = np.asarray(bt.soft_best_of_n(symbol, 8, _TEMPERATURE).probs)
    words = np.indices((2,) * _LENGTH).reshape(_LENGTH, -1)
    return float(np.max(np.abs(path / np.prod(soft[words], axis=0) - 1)))


def _one_block() -> float:
    """The same of whole sequences of a chain, ancestors drawn in the end alone."""
    law = _chain(INITIAL, TRANSITION, _LENGTH)
    path = np.asarray(sequence.particle_law(law, 4, _TEMPERATURE).probs)
    soft = bt.soft_best_of_n(sequence.enumerated(law), 4, _TEMPERATURE)
    return float(np.max(np.abs(path / np.asarray(soft.probs) - 1)))


@cache
def _distance(turns: bool, n: int) -> float:
    """KL(P*‖P_N) of a path, symbol by symbol."""
    law = _chain(*_TURNS) if turns else _chain(INITIAL, TRANSITION)
    temperature = _TURNS_TEMPERATURE if turns else _TEMPERATURE
    optimum = bt.exponential_tilt(sequence.enumerated(law), temperature)
    return float(bt.kl_divergence(optimum, sequence.particle_law(law, n, temperature)))


def _bound(n: int) -> float:
    return float(sequence.particle_bound(_chain(INITIAL, TRANSITION), n, _TEMPERATURE))


CLAIMS: tuple[Claim, ...] = (
    claim(
        id="soft/particles-of-independent-symbols",
        where=_WHERE,
        provenance=DERIVED,
        statement=(
            "One path of N particles is soft best-of-N symbol by symbol where symbols are "
            "independent, and of whole sequences where ancestors are drawn in the end alone. "
            "Entries: largest relative error over all sequences of six."
        ),
        compute=lambda: [_independent(), _one_block()],
        expected=(0.0, 0.0),
        tolerance=Tolerance("a product of six sums in float64", absolute=1e-12),
        labels=("independent symbols, N=8", "a chain, one block, N=4"),
        figure="particles",
        test=f"{_TEST}test_of_independent_symbols_it_is_soft_best_of_n_block_by_block",
        checked_by=_CHECKS,
    ),
    claim(
        id="soft/particles-bound",
        where=_WHERE,
        provenance=DERIVED,
        statement=(
            "KL(P*^m‖P_N) ≤ log E(Ẑ/Z)² for one path of N particles, by a recursion for two of "
            "them; of one block it is [V]'s log(1 + χ²/N). Entries: the difference, six symbols of "
            "a chain."
        ),
        compute=lambda: [_bound(n) - _distance(False, n) for n in _N],
        expected=(0.0,) * len(_N),
        kind="inequality",
        relation=">=",
        tolerance=INEQUALITY,
        labels=tuple(f"N={n}" for n in _N),
        figure="particles",
        test=f"{_TEST}test_it_is_a_law_within_its_bound",
        checked_by=_CHECKS,
    ),
    claim(
        id="soft/more-particles-can-be-worse",
        where=_WHERE,
        provenance=DERIVED,
        statement=(
            "More particles can be further from the optimum: where two symbols take turns, a "
            "reward that comes early misleads. Entries: KL(P*^m‖P_N) of 8 and of 16 particles less "
            "that of two."
        ),
        compute=lambda: [_distance(True, n) - _distance(True, 2) for n in (8, 16)],
        expected=(0.0, 0.0),
        kind="inequality",
        relation=">=",
        tolerance=INEQUALITY,
        labels=("N=8", "N=16"),
        figure="particles",
        test=f"{_TEST}test_more_particles_can_be_further_from_the_optimum",
        checked_by=_CHECKS,
    ),
)
