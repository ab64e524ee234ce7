"""A run of equally long blocks: the joint law of a block's reward and of the state it ends in."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from bon_theory.divergences import log_ratio
from bon_theory.policy import Policy
from bon_theory.sequence.convolution import log_sum

__all__ = ["Stretch"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Stretch:
    """A run of equally long blocks.

    Attributes:
        policy: the law of one block, ``[T, S, N·E]``: ``S`` states to start from, ``N`` levels of
            reward and, innermost, ``E`` states to end in; ``T`` is ``count`` if the blocks' laws
            differ and 1 if they do not. ``S = E = 1`` for an i.i.d. reference; for a Markov
            reference ``E = K`` and, in the first stretch, ``S = K + 1``: the sequence starts from
            the last. A stretch that is the last block alone has ``E = 1``: nothing follows.
            Rewards are those in excess of the block's lowest, which no selection looks at.
        count: the number of blocks (static).
        num_ends: ``E`` (static).

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import sequence
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> [stretch] = sequence.SequenceLaw.independent(coin, 32, block_length=8).stretches
        >>> stretch.count, stretch.policy.log_probs.shape
        (4, (1, 1, 9))

    Derived here (bookkeeping; no published counterpart).
    """

    policy: Policy
    count: int = dataclasses.field(metadata={"static": True})
    num_ends: int = dataclasses.field(metadata={"static": True})

    @property
    def log_joint(self) -> jax.Array:
        """Log-probabilities of level and end, ``[T, S, N, E]``."""
        return self._by_end(self.policy.log_probs)

    @property
    def rewards(self) -> jax.Array:
        """The block's reward above its lowest, at each level and end, ``[T, S, N, E]``."""
        return self._by_end(self.policy.rewards)

    @property
    def levels(self) -> Policy:
        """The law of the block's reward, ``[T, S, N]``."""
        log_masses = log_sum(self.log_joint, axis=-1)
        return Policy.from_logits(log_masses, self.rewards[..., 0])

    def _by_end(self, array: jax.Array) -> jax.Array:
        return array.reshape(*array.shape[:-1], -1, self.num_ends)

    def selected(self, selection: Callable[[Policy], Policy], values: jax.Array | None) -> Stretch:
        """The stretch whose blocks are selected by their reward, plus the ``values`` of its end."""
        if values is None or self.num_ends == 1:  # a single end can make no difference
            reference = self.levels
        else:
            rewards = self.rewards + values[:, None, None, :]
            shape = (rewards.shape[0], *self.policy.log_probs.shape[1:])
            rewards = rewards.reshape(shape)
            reference = Policy.from_logits(
                jnp.broadcast_to(self.policy.log_probs, rewards.shape), rewards
            )
        policy = selection(reference)
        if policy.log_probs.shape != reference.log_probs.shape:
            raise ValueError(
                "parameters of the selection must be scalars, got some that make a batch of shape "
                f"{policy.batch_shape}: use jax.vmap over them."
            )
        ratio = log_ratio(policy, reference)
        if ratio.shape[-1] != self.policy.num_outcomes:
            ratio = jnp.repeat(ratio, self.num_ends, axis=-1)
        return dataclasses.replace(self, policy=self.policy.with_log_ratio(ratio))
