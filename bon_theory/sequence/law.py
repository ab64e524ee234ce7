r"""A law of whole sequences, held block by block.

Selection by additive reward looks at a block's total reward alone, so given that total (and the
state in which the block ends, for a Markov reference) the block's symbols follow the reference.
Whatever is asked about sequences is therefore a question about levels of reward: :math:`m L + 1` of
them instead of :math:`K^m` sequences.

.. math:: P(x^m) = \prod_t P_t(\text{block}_t \mid s_{t-1}), \qquad
          P_t(\text{block} \mid s) = \pi(\text{block} \mid s)\, \rho_t(k, s' \mid s)

with :math:`k` the level of the block's reward, :math:`s` the state it starts from and :math:`s'`
the state it ends in. An i.i.d. reference is the case of a single state. Derived here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import is_concrete, require, untraced, whole_number
from bon_theory._laws import require_policy
from bon_theory.policy import Policy
from bon_theory.sequence.convolution import log_convolution_power, log_sum
from bon_theory.sequence.lattice import Lattice
from bon_theory.sequence.markov import MarkovChain, log_block_law
from bon_theory.sequence.stretch import Stretch

__all__ = ["SequenceLaw"]

_FEW_LEVELS = 512  # of a block's reward


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SequenceLaw:
    r"""The law of a sequence of :math:`m` symbols in blocks; a frozen pytree.

    Made by :meth:`independent` or :meth:`markov`, turned into the law of what is selected by
    :meth:`select`.

    Attributes:
        stretches: runs of equal blocks, in order; the last may be one shorter block.
        reference: what candidates are drawn from, the law of one symbol or a chain.
        lattice: of the symbols' rewards (static).
        length: :math:`m` (static).
        block_length: symbols of a block, but for a shorter last one (static).

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import sequence
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> reference = sequence.SequenceLaw.independent(coin, length=8)
        >>> policy = reference.select(bt.soft_best_of_n, n=7.914, temperature=1.0)
        >>> optimum = sequence.optimum(reference, temperature=1.0)
        >>> round(float(sequence.kl_divergence(optimum, policy)), 4)
        0.1

    [V] for blockwise sampling with additive reward; the representation is derived here.
    """

    stretches: tuple[Stretch, ...]
    reference: Policy | MarkovChain
    lattice: Lattice = dataclasses.field(metadata={"static": True})
    length: int = dataclasses.field(metadata={"static": True})
    block_length: int = dataclasses.field(metadata={"static": True})

    @staticmethod
    def independent(
        symbol: Policy,
        length: int,
        *,
        block_length: int | None = None,
        lattice: Lattice | None = None,
    ) -> SequenceLaw:
        r"""The law :math:`\pi^{\otimes m}` of i.i.d. symbols, cut into blocks of ``block_length``.

        Args:
            symbol: :math:`\pi`, discrete, without batch axes (``vmap`` for many).
            length: :math:`m`, the number of symbols (static).
            block_length: symbols per block (static): 1 is symbolwise, ``None`` the whole sequence.
                What is left over makes one last, shorter block.
            lattice: of the rewards of possible symbols; found by :meth:`Lattice.fit` unless given,
                which needs concrete rewards.

        Raises:
            ValueError: a length is not a positive whole number, ``block_length > length``, the
                symbol is continuous or batched, or its rewards are on no lattice.

        Example:
            >>> import bon_theory as bt
            >>> from bon_theory import sequence
            >>> die = bt.Policy.from_probs([1 / 6] * 6, rewards=[1, 2, 3, 4, 5, 6])
            >>> reference = sequence.SequenceLaw.independent(die, length=20, block_length=8)
            >>> [stretch.count for stretch in reference.stretches]
            [2, 1]
        """
        length, size = _lengths(length, block_length)
        rewards = single("symbol", symbol).rewards
        if is_concrete(symbol):
            rewards = np.asarray(rewards)[np.asarray(symbol.log_probs) != -np.inf]
        lattice = Lattice.fit(rewards) if lattice is None else lattice
        lattice.levels(rewards)  # off the lattice is an error, while rewards can be seen
        return _independent(symbol, lattice, length, size)

    @staticmethod
    def markov(chain: MarkovChain, length: int, *, block_length: int | None = None) -> SequenceLaw:
        r"""The law of a Markov chain's first :math:`m` symbols, cut into blocks.

        Args:
            chain: the reference.
            length: :math:`m`, the number of symbols (static).
            block_length: symbols per block (static): 1 is symbolwise, ``None`` the whole sequence.

        Raises:
            ValueError: a length is not a positive whole number, ``block_length > length``, or
                ``chain`` is not a :class:`MarkovChain`.

        Example:
            >>> from bon_theory import sequence
            >>> chain = sequence.MarkovChain.from_probs(
            ...     [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [0.0, 1.0])
            >>> reference = sequence.SequenceLaw.markov(chain, length=32, block_length=8)
            >>> round(float(sequence.expected_reward(reference)), 6)
            11.222216
        """
        if not isinstance(chain, MarkovChain):
            raise ValueError(
                f"chain must be a MarkovChain, got {type(chain).__name__}: "
                "make one with MarkovChain.from_probs."
            )
        length, size = _lengths(length, block_length)
        return _markov(chain, length, size)

    def before_selection(self) -> SequenceLaw:
        """The law of the reference itself, in the same blocks.

        Example:
            >>> import bon_theory as bt
            >>> from bon_theory import sequence
            >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
            >>> reference = sequence.SequenceLaw.independent(coin, length=8, block_length=3)
            >>> policy = reference.select(bt.best_of_n, n=4)
            >>> float(sequence.kl_divergence(policy.before_selection(), reference))
            0.0
        """
        if isinstance(self.reference, MarkovChain):
            return _markov(self.reference, self.length, self.block_length)
        return _independent(self.reference, self.lattice, self.length, self.block_length)

    @property
    def has_memory(self) -> bool:
        """Whether a block depends on the state in which the one before it ended."""
        return any(s.policy.log_probs.shape[1] * s.num_ends > 1 for s in self.stretches)

    def select(
        self,
        selection: Callable[..., Policy],
        *parameters: Any,
        look_ahead: tuple[jax.Array, ...] | None = None,
        **named: Any,
    ) -> SequenceLaw:
        r"""The law of what is kept when ``selection`` is applied to every block in turn.

        Each block is drawn from the reference given what was kept before it, and selected by its
        own reward; with ``look_ahead`` by its reward plus the value of the state in which it ends
        (:func:`bon_theory.sequence.look_ahead`). Soft best-of-n on thousands of levels takes less
        than a second at any temperature and whole number of draws, and longest at fractional n
        below 2.

        Args:
            selection: any of the library's, such as ``bt.soft_best_of_n``.
            *parameters: handed on to it; scalars.
            look_ahead: values of the ends, one array ``[count, E]`` per stretch.
            **named: handed on as well.

        Raises:
            ValueError: as the selection does, a parameter is not a scalar, or ``look_ahead`` is not
                finite and of those shapes.

        Example:
            >>> import bon_theory as bt
            >>> from bon_theory import sequence
            >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
            >>> reference = sequence.SequenceLaw.independent(coin, length=8, block_length=2)
            >>> policy = reference.select(bt.best_of_n, n=4)
            >>> round(float(sequence.expected_reward(policy)), 6)
            6.71875
        """
        values = (None,) * len(self.stretches)
        if look_ahead is not None:
            values = checked_values(self, look_ahead)
        stretches = tuple(
            stretch.selected(lambda law: selection(law, *parameters, **named), value)
            for stretch, value in zip(self.stretches, values, strict=True)
        )
        return dataclasses.replace(self, stretches=stretches)

    @jax.jit
    def visits(self) -> tuple[jax.Array, ...]:
        """The probability that each block starts in each state, ``[count, S]`` per stretch.

        Example:
            >>> import bon_theory as bt
            >>> from bon_theory import sequence
            >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
            >>> [visits] = sequence.SequenceLaw.independent(coin, 32, block_length=8).visits()
            >>> visits.shape
            (4, 1)
        """
        starts = self.stretches[0].policy.log_probs.shape[1]
        here = jnp.zeros(starts, self.stretches[0].policy.dtype).at[-1].set(1)
        found = []
        for stretch in self.stretches:
            moves = jnp.exp(log_sum(stretch.log_joint, axis=-2))
            moves = jnp.broadcast_to(moves, (stretch.count, *moves.shape[1:]))
            _, starts, ends = moves.shape

            def step(here: jax.Array, move: jax.Array, unused: int = starts - ends) -> Any:
                return jnp.pad(here @ move, (0, unused)), here

            after, visits = jax.lax.scan(step, here, moves)
            found.append(visits)
            here = after[:ends]
        return tuple(found)


def _independent(symbol: Policy, lattice: Lattice, length: int, size: int) -> SequenceLaw:
    # A program for each length would take longer to compile than a few levels to compute.
    few = size * (lattice.num_levels - 1) < _FEW_LEVELS
    blocks = _blocks if few and is_concrete(symbol) else _blocks_by_program
    return blocks(symbol, lattice, length, size)


def _blocks(symbol: Policy, lattice: Lattice, length: int, size: int) -> SequenceLaw:
    masses = untraced(_log_masses(lattice, symbol.log_probs, symbol.rewards))
    stretches = []
    for count, block in ((length // size, size), (1, length % size)):
        if block:
            law = log_convolution_power(masses, exponent=block)[None, None]
            rewards = untraced(lattice.excess_rewards(block, symbol.dtype))[None, None]
            stretches.append(Stretch(Policy.from_logits(law, rewards), count, num_ends=1))
    return SequenceLaw(tuple(stretches), symbol, lattice, length, size)


_blocks_by_program = jax.jit(_blocks, static_argnames=("lattice", "length", "size"))
_log_masses = jax.jit(Lattice.log_masses, static_argnums=0)


@functools.partial(jax.jit, static_argnames=("length", "size"))
def _markov(chain: MarkovChain, length: int, size: int) -> SequenceLaw:
    def stretch(log_law: jax.Array, block: int, count: int) -> Stretch:
        if block == length or block < size:  # nothing depends on where the last block ends
            log_law = log_sum(log_law, axis=-1)[..., None]
        ends = log_law.shape[-1]
        rewards = jnp.repeat(chain.lattice.excess_rewards(block, log_law.dtype), ends)
        law = log_law.reshape(1, log_law.shape[0], -1)
        return Stretch(Policy.from_logits(law, rewards[None, None]), count, ends)

    # The first block starts from a state of its own, the last row.
    starts = chain.log_initial[None]
    if size < length:
        starts = jnp.concatenate([chain.log_transition, starts])
    stretches = [stretch(log_block_law(chain, starts, size), size, length // size)]
    if rest := length % size:
        law = log_block_law(chain, chain.log_transition, rest)
        stretches.append(stretch(law, rest, 1))
    return SequenceLaw(tuple(stretches), chain, chain.lattice, length, size)


def single(name: str, policy: Policy) -> Policy:
    """The policy, if it is one discrete law."""
    require_policy(name, policy)
    if policy.continuous:
        raise ValueError(
            f"{name} must be one discrete law, got a continuous one: discretise it, for instance "
            "Policy.from_samples(quantiles of the reward)."
        )
    if policy.batch_shape:
        raise ValueError(
            f"{name} must be one discrete law, got batch axes {policy.batch_shape}: use jax.vmap."
        )
    return policy


def require_law(name: str, law: SequenceLaw) -> None:
    """Raise ``ValueError`` unless ``law`` is one of sequences."""
    if not isinstance(law, SequenceLaw):
        raise ValueError(
            f"{name} must be a SequenceLaw, got {type(law).__name__}: make one with "
            "SequenceLaw.independent or SequenceLaw.markov; what is asked about a single draw is "
            "in bon_theory itself."
        )


def checked_values(law: SequenceLaw, look_ahead: tuple[jax.Array, ...]) -> list[jax.Array]:
    """The values of the ends, if they are finite numbers, one for each."""
    values = jax.tree.leaves(look_ahead)
    shapes = [(stretch.count, stretch.num_ends) for stretch in law.stretches]
    if (got := [jnp.shape(value) for value in values]) != shapes:
        raise ValueError(
            f"look_ahead must hold arrays of shapes {shapes}, one per stretch, got {got}: "
            "take it from sequence.look_ahead."
        )
    for value in values:
        require(
            lambda value=value: np.isfinite(value),
            lambda: "look_ahead must be finite: take it from sequence.look_ahead.",
            value,
        )
    return values


def _lengths(length: int, block_length: int | None) -> tuple[int, int]:
    """The numbers of symbols in the sequence and in a block."""
    length = whole_number("length", length)
    size = length if block_length is None else whole_number("block_length", block_length)
    if size > length:
        raise ValueError(
            f"block_length must be at most length={length}, got {size}: "
            "block_length=None takes the sequence as one block."
        )
    return length, size
