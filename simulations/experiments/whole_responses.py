"""What whole responses cost as they grow: candidates for a gain of an additive reward per token.

A language model's responses are cut at ever greater lengths, and the number of candidates is found
whose best earns so much more per token. Beside it stands the theory for independent tokens of the
same reward law (:mod:`bon_theory.sequence`), by which that number grows exponentially.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import bon_theory as bt
from bon_theory import sequence


@dataclass(frozen=True)
class CandidatesNeeded:
    """Candidates n for a gain per token, ``[M]``; infinite where no number is enough.

    Attributes:
        length: of responses, in tokens.
        model: of the language model: one n for all prompts, by the law of its responses' rewards.
        independent: if tokens were independent, with the law of the model's.
        any_rule: that any rule needs at least, if tokens were independent.
    """

    length: NDArray[np.int64]
    model: NDArray[np.float64]
    independent: NDArray[np.float64]
    any_rule: NDArray[np.float64]


def candidates_needed(
    rewards: NDArray[np.float64], lengths: tuple[int, ...], *, gain: float
) -> CandidatesNeeded:
    """Best-of-n over whole responses, at each of ``lengths``.

    Args:
        rewards: ``[B, N, T]``, of each token of N responses to each of B prompts, on a lattice
            (multiples of one number); 0 after a response's end.
        lengths: at which responses are cut, each at most T.
        gain: of the mean reward per token, end or not.
    """
    levels, counts = np.unique(rewards, return_counts=True)
    symbol = bt.Policy.from_probs(counts / counts.sum(), levels)
    mean = float(bt.expected_reward(symbol))
    columns = []
    for length in lengths:
        totals = rewards[..., :length].sum(axis=-1)
        alike = sequence.total_reward(sequence.SequenceLaw.independent(symbol, length=length))
        columns.append(
            (
                _n(bt.Policy.from_samples(totals), totals.mean() + gain * length, across=True),
                _n(alike, (mean + gain) * length, across=False),
                float(np.exp(sequence.necessary_log_n(symbol, mean + gain, length=length))),
            )
        )
    return CandidatesNeeded(np.asarray(lengths), *np.array(columns).T)


def _n(law: bt.Policy, reward: float, *, across: bool) -> float:
    """n whose best earns ``reward``."""
    n = bt.n_for_reward(law, reward, across_prompts=across, unattainable="nan")
    return float(np.nan_to_num(n, nan=np.inf))
