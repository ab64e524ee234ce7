"""Additive rewards over sequences: symbol by symbol, in blocks, or whole sequences at once.

Exact laws for i.i.d. and Markov references under any selection of the library; what they cost in
draws, and what happens to them as sequences grow.
"""

from bon_theory.sequence.draws import n_for_kl_from_optimum
from bon_theory.sequence.enumerated import enumerated
from bon_theory.sequence.functionals import expected_reward, kl_divergence, total_reward
from bon_theory.sequence.large_deviations import (
    cramer_rate,
    limit_kl,
    limit_reward,
    necessary_log_n,
)
from bon_theory.sequence.lattice import Lattice
from bon_theory.sequence.law import SequenceLaw
from bon_theory.sequence.look_ahead import look_ahead, optimum
from bon_theory.sequence.markov import MarkovChain
from bon_theory.sequence.nearest import nearest_reachable
from bon_theory.sequence.particles import particle_bound, particle_law
from bon_theory.sequence.stretch import Stretch

__all__ = [
    "Lattice",
    "MarkovChain",
    "SequenceLaw",
    "Stretch",
    "cramer_rate",
    "enumerated",
    "expected_reward",
    "kl_divergence",
    "limit_kl",
    "limit_reward",
    "look_ahead",
    "n_for_kl_from_optimum",
    "nearest_reachable",
    "necessary_log_n",
    "optimum",
    "particle_bound",
    "particle_law",
    "total_reward",
]
