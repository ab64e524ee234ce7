r"""What is asked about a law of sequences: its divergence from another, what it earns.

A divergence of Markov laws is the sum over blocks of the divergence given the state that the block
starts from, averaged over where the first law is by then (the chain rule); for i.i.d. blocks it is
the number of blocks times the divergence of one.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory import divergences, performance
from bon_theory._arguments import require
from bon_theory.policy import Policy
from bon_theory.sequence.convolution import log_convolution_power, log_convolve
from bon_theory.sequence.law import SequenceLaw, require_law

__all__ = ["expected_reward", "kl_divergence", "total_reward"]


def kl_divergence(policy: SequenceLaw, reference: SequenceLaw) -> jax.Array:
    r""":math:`\mathrm{KL}(P\|Q)` of laws over whole sequences, in nats; swap for the reverse.

    .. math:: \mathrm{KL}(P\|Q) = \sum_t \sum_s P(s_{t-1} = s)\,
              \mathrm{KL}\bigl(P_t(\cdot|s)\,\|\,Q_t(\cdot|s)\bigr)

    Args:
        policy: :math:`P`.
        reference: :math:`Q`, in the same blocks; both selected from one reference (or being it), so
            that they agree on the symbols given a block's reward.

    Raises:
        ValueError: the laws differ in their blocks or in what they were selected from; if that is
            traced, the divergence is NaN instead.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import sequence
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> reference = sequence.SequenceLaw.independent(coin, length=100)
        >>> policy = reference.select(bt.best_of_n, n=4)
        >>> round(float(sequence.kl_divergence(policy, reference)), 6)
        0.633551

    Standard (chain rule); [V] for the i.i.d. case.
    """
    require_law("policy", policy)
    require_law("reference", reference)
    if _frame(policy) != _frame(reference):
        raise ValueError(
            "policy and reference must be laws in the same blocks, got "
            f"{_describe(policy)} and {_describe(reference)}: select both from one reference."
        )
    require(
        lambda: _have_equal_leaves(np, policy.reference, reference.reference),
        lambda: (
            "policy and reference must be selected from one reference, got laws whose symbols have "
            "other probabilities or rewards: only blocks' rewards are compared."
        ),
        policy.reference,
        reference.reference,
    )
    return _kl_divergence(policy, reference)


def expected_reward(law: SequenceLaw) -> jax.Array:
    r""":math:`E_P \sum_i r(x_i)`, the expected reward of the whole sequence.

    Raises:
        ValueError: ``law`` is no :class:`SequenceLaw`.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import sequence
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> float(sequence.expected_reward(sequence.SequenceLaw.independent(coin, length=100)))
        50.0

    Standard.
    """
    require_law("law", law)
    return _expected_reward(law)


def total_reward(law: SequenceLaw) -> Policy:
    r"""The law of the whole sequence's reward :math:`\sum_i r(x_i)`, a policy over its levels.

    The blocks' rewards are convolved. With it a win rate over whole sequences is
    ``bt.win_rate(total_reward(policy), total_reward(reference))``.

    Args:
        law: one whose blocks are independent: of i.i.d. symbols, or whole sequences.

    Raises:
        ValueError: blocks depend on the state in which the one before ended.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import sequence
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> reference = sequence.SequenceLaw.independent(coin, length=8, block_length=2)
        >>> policy = reference.select(bt.best_of_n, n=4)
        >>> win_rate = bt.win_rate(sequence.total_reward(policy), sequence.total_reward(reference))
        >>> round(float(win_rate), 6)
        0.937053

    Derived here (convolution).
    """
    require_law("law", law)
    if law.has_memory:
        raise ValueError(
            "law must have independent blocks, got blocks that depend on the state before: "
            "use block_length=None, or sum rewards by expected_reward."
        )
    return _total_reward(law)


@jax.jit
def _total_reward(law: SequenceLaw) -> Policy:
    runs = [
        log_convolution_power(s.policy.log_probs[0, 0], exponent=s.count) for s in law.stretches
    ]
    total = functools.reduce(log_convolve, runs)
    policy = Policy.from_logits(total, law.lattice.excess_rewards(law.length, total.dtype))
    # Afterwards: next to a large lowest reward levels would be ties.
    return dataclasses.replace(policy, rewards=_lowest_reward(law) + policy.rewards)


@jax.jit
def _kl_divergence(policy: SequenceLaw, reference: SequenceLaw) -> jax.Array:
    pairs = zip(policy.stretches, reference.stretches, strict=True)
    values = [divergences.kl_divergence(ours.policy, theirs.policy) for ours, theirs in pairs]
    divergence = _sum_over_blocks(policy, values)
    comparable = _have_equal_leaves(jnp, policy.reference, reference.reference)
    return jnp.where(comparable, divergence, jnp.nan)


@jax.jit
def _expected_reward(law: SequenceLaw) -> jax.Array:
    excess = _sum_over_blocks(law, [performance.expected_reward(s.policy) for s in law.stretches])
    return _lowest_reward(law) + excess


def _sum_over_blocks(law: SequenceLaw, values: list[jax.Array]) -> jax.Array:
    """Sum of values per block and start ``[T, S]``, weighted by where ``law`` is."""
    visits = law.visits()
    # Where the law never is, a value may be infinite.
    sums = [
        jnp.sum(jnp.where(v > 0, v * jnp.where(v > 0, x, 0), 0))
        for v, x in zip(visits, values, strict=True)
    ]
    return functools.reduce(jnp.add, sums)


def _lowest_reward(law: SequenceLaw) -> float:
    return law.length * law.lattice.origin


def _frame(law: SequenceLaw) -> Any:
    """What cannot differ between laws selected from one reference: static facts and shapes."""
    blocks = [s.policy.log_probs.shape[1:] for s in law.stretches]
    arrays = [(leaf.shape, leaf.dtype) for leaf in jax.tree.leaves(law.reference)]
    return jax.tree.structure(law), blocks, arrays


def _have_equal_leaves(xp: Any, ours: Any, theirs: Any) -> Any:
    """Whether all arrays are equal, for NumPy or JAX as ``xp``."""
    pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
    return functools.reduce(xp.logical_and, [xp.all(xp.equal(a, b)) for a, b in pairs])


def _describe(law: SequenceLaw) -> str:
    return " + ".join(f"{s.count} of {s.policy.log_probs.shape[1:]}" for s in law.stretches)
