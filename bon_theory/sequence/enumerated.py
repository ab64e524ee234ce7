r"""A law of sequences written out: the probability of every one of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bon_theory.policy import Policy
from bon_theory.sequence.law import SequenceLaw, require_law
from bon_theory.sequence.markov import MarkovChain

__all__ = ["all_words", "enumerated"]

MOST_WORDS = 2**20


def enumerated(law: SequenceLaw) -> Policy:
    r"""The law over all :math:`K^m` sequences, each an outcome that earns its total reward.

    The other laws know levels of reward alone; here are the sequences themselves, for whatever is
    asked of a few of them, and for laws that are not made block by block.

    Args:
        law: of sequences, of which there are at most 2²⁰.

    Returns:
        The law, ``[K^m]``, in lexicographic order: sequence :math:`x^m` is outcome
        :math:`\sum_i x_i K^{m-i}`.

    Raises:
        ValueError: there are too many sequences.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import sequence
        >>> coin = bt.Policy.from_probs([0.75, 0.25], rewards=[0.0, 1.0])
        >>> reference = sequence.SequenceLaw.independent(coin, length=2)
        >>> policy = sequence.enumerated(reference.select(bt.best_of_n, n=2))
        >>> policy.rewards.tolist(), [round(float(p), 4) for p in policy.probs]
        ([0.0, 1.0, 1.0, 2.0], [0.3164, 0.2812, 0.2812, 0.1211])

    Derived here (:math:`P/\pi` depends on the reward, the start and the end of every block).
    """
    require_law("law", law)
    return _enumerated(law, law.before_selection())


@jax.jit
def _enumerated(law: SequenceLaw, before: SequenceLaw) -> Policy:
    words = all_words(law)
    gains = law.lattice.levels(law.reference.rewards)[words]  # [W, m]
    log_ratio = jnp.zeros(len(words), law.stretches[0].policy.dtype)
    place = 0
    for selected, reference in zip(law.stretches, before.stretches, strict=True):
        possible = reference.log_joint > -jnp.inf
        ratio = jnp.where(possible, selected.log_joint - reference.log_joint, 0)  # [T, S, N, E]
        ratio = jnp.broadcast_to(ratio, (selected.count, *ratio.shape[1:]))
        for block in ratio:
            here = slice(place, min(place + law.block_length, law.length))
            states, _, ends = block.shape
            start = words[:, place - 1] if place and states > 1 else np.intp(-1)
            end = words[:, here.stop - 1] if ends > 1 else np.intp(0)
            log_ratio += block[start, jnp.sum(gains[:, here], axis=1), end]
            place = here.stop
    log_drawn, rewards = _reference(law, words)
    return Policy.from_logits(log_drawn, rewards).with_log_ratio(log_ratio)


def all_words(law: SequenceLaw) -> NDArray[np.intp]:
    """Every sequence of symbols, ``[K^m, m]``."""
    size = law.reference.rewards.shape[0]
    if size**law.length > MOST_WORDS:
        raise ValueError(
            f"law must be of at most {MOST_WORDS} sequences, got {size} symbols in sequences of "
            f"{law.length}: what depends on the total reward is in total_reward."
        )
    return np.indices((size,) * law.length).reshape(law.length, -1).T


def _reference(law: SequenceLaw, words: NDArray[np.intp]) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities of all sequences under the reference, and their total rewards."""
    reference = law.reference
    if isinstance(reference, MarkovChain):
        moves = reference.log_transition[words[:, :-1], words[:, 1:]]
        log_probs = reference.log_initial[words[:, 0]] + jnp.sum(moves, axis=1)
    else:
        log_probs = jnp.sum(reference.log_probs[words], axis=1)
    return log_probs, jnp.sum(reference.rewards[words], axis=1)
