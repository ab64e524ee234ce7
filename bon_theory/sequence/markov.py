r"""Markov references: the joint law of a block's total reward and of the state in which it ends.

A symbol is a state; from state :math:`i` the next symbol is :math:`j` with probability
:math:`T_{ij}`, and earns :math:`r_j`. With :math:`A_t(k, j)` the probability that :math:`t` symbols
earn level :math:`k` and end in :math:`j`,

.. math:: A_{t+1}(k + \ell_j, j) = \sum_i A_t(k, i)\, T_{ij}.

Each level carries its own exponent, so small probabilities keep their relative accuracy. Ends *of
the same total reward* share one: an end less than 1e-300 times (float32: 1e-38) as likely as
another is lost, and with it what can be reached through that end alone. Derived here.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, float_array, require, reward_array
from bon_theory._numerics import NOTHING, log_normalised, safe_log
from bon_theory.sequence.lattice import Lattice

__all__ = ["MarkovChain"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class MarkovChain:
    r"""A Markov reference with a reward per symbol; a frozen pytree, made by ``from_probs``.

    Attributes:
        log_initial: log-probabilities of the first symbol, ``[K]``.
        log_transition: :math:`\log T_{ij}`, from row to column, ``[K, K]``.
        rewards: :math:`r_j`, ``[K]``.
        lattice: on which the rewards lie (static).

    Example:
        >>> from bon_theory import sequence
        >>> chain = sequence.MarkovChain.from_probs(
        ...     [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [0.0, 1.0])
        >>> chain.num_states
        2

    Standard.
    """

    log_initial: jax.Array
    log_transition: jax.Array
    rewards: jax.Array
    lattice: Lattice = dataclasses.field(metadata={"static": True})

    @staticmethod
    def from_probs(
        initial: Numbers, transition: Numbers, rewards: Numbers, *, lattice: Lattice | None = None
    ) -> MarkovChain:
        r"""A chain from the probabilities of its first symbol and of each next one.

        A reference with a longer memory is a chain on pairs (triples, …) of symbols.

        Args:
            initial: of the first symbol, floating point, ``[K]``.
            transition: :math:`T_{ij}` from :math:`i` (row) to :math:`j` (column), ``[K, K]``.
            rewards: of each symbol, ``[K]``.
            lattice: on which the rewards lie; found by :meth:`Lattice.fit` unless given, which
                needs concrete ``rewards``.

        Raises:
            ValueError: shapes do not match, ``initial`` or a row does not sum to one, a probability
                is negative, or the rewards are not finite or not on the lattice. Traced
                inadmissible probabilities make a law that is NaN throughout.

        Example:
            >>> from bon_theory import sequence
            >>> sequence.MarkovChain.from_probs([0.5, 0.5], [[0.9, 0.2], [0.2, 0.8]], [0.0, 1.0])
            Traceback (most recent call last):
            ...
            ValueError: transition rows must sum to one, got sums [1.1 1. ]: divide each by its sum.
        """
        first, rows = float_array("initial", initial), float_array("transition", transition)
        size = first.shape[-1]
        values = reward_array(rewards, (size,), first.dtype)
        if first.shape != (size,) or rows.shape != (size, size) or values.shape != (size,):
            raise ValueError(
                "initial [K], transition [K, K] and rewards [K] must agree, got shapes "
                f"{first.shape}, {rows.shape}, {values.shape}: use jax.vmap for many chains."
            )
        lattice = Lattice.fit(values) if lattice is None else lattice
        lattice.levels(values)  # off the lattice is an error, while rewards can be seen
        return MarkovChain(
            _log_normalised("initial", first),
            _log_normalised("transition rows", rows.astype(first.dtype)),
            values,
            lattice,
        )

    @property
    def num_states(self) -> int:
        """K, the number of symbols."""
        return self.rewards.shape[0]


@functools.partial(jax.jit, static_argnames="length")
def log_block_law(chain: MarkovChain, log_starts: jax.Array, length: int) -> jax.Array:
    r""":math:`\log A_b(k, j)` of a block of ``length`` symbols, ``[R, bL + 1, K]``.

    ``log_starts`` are the log-probabilities of the block's first symbol in each of ``R`` cases.
    """
    levels = chain.lattice.levels(chain.rewards)
    totals = length * (chain.lattice.num_levels - 1) + 1
    source = jnp.arange(totals)[:, None] - levels[None, :]  # where A(k, j) comes from
    possible = (source >= 0) & (levels >= 0)[None, :]
    source = jnp.broadcast_to(jnp.maximum(source, 0)[None], (log_starts.shape[0], *source.shape))

    def earn(law: jax.Array) -> jax.Array:
        return jnp.where(possible[None], jnp.take_along_axis(law, source, axis=1), NOTHING)

    @jax.checkpoint
    def step(law: jax.Array, _: None) -> tuple[jax.Array, None]:
        tops = jax.lax.stop_gradient(jnp.max(law, axis=-1, keepdims=True))
        mixed = jnp.einsum("rki,ij->rkj", jnp.exp(law - tops), jnp.exp(chain.log_transition))
        return earn(jnp.maximum(safe_log(mixed) + tops, NOTHING)), None

    empty = jnp.full((log_starts.shape[0], totals, chain.num_states), NOTHING, log_starts.dtype)
    start = empty.at[:, 0, :].set(jnp.maximum(log_starts, NOTHING))
    law, _ = jax.lax.scan(step, earn(start), length=length - 1)
    law = jnp.where(jnp.any(levels < 0), jnp.nan, law)  # a traced reward off the lattice
    return jnp.where(law < 0.5 * NOTHING, -jnp.inf, law)


def _log_normalised(name: str, probs: jax.Array) -> jax.Array:
    """Logarithms of rows that are non-negative and sum to one up to rounding."""
    tolerance = float(jnp.finfo(probs.dtype).eps) ** 0.5
    require(
        lambda: np.asarray(probs) >= 0,
        lambda: f"{name} must be non-negative numbers, got {np.asarray(probs).min()}: check them.",
        probs,
    )
    require(
        lambda: np.abs(np.asarray(probs).sum(-1) - 1) <= tolerance,
        lambda: (
            f"{name} must sum to one, got sums {np.asarray(probs).sum(-1)}: divide each by its sum."
        ),
        probs,
    )
    log_probs = log_normalised(probs)
    return jnp.where(jnp.any(jnp.isnan(log_probs)), jnp.nan, log_probs)  # one wrong row spoils all
