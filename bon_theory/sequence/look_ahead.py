r"""Looking ahead: what a state is worth, and the optimum over whole sequences.

With an additive reward the optimum of :math:`E\,R - \lambda\,\mathrm{KL}(\cdot\|\pi)` over laws of
sequences is :math:`P^*(x^m) \propto \pi(x^m) e^{R(x^m)/\lambda}`. Block by block it is the tilt of
the block's reward *plus* the value :math:`\lambda \log h_t(s)` of the state it ends in,

.. math:: h_t(s) = E\bigl[e^{\sum_{j > t} r_j/\lambda} \mid s_t = s\bigr]
          = \sum_{k, s'} \pi_{t+1}(k, s' \mid s)\, e^{r_k/\lambda}\, h_{t+1}(s'),

with :math:`h = 1` after the last block. Rewards count from the lowest, :math:`a` per symbol: what
is the same for all states makes no difference. A rule that drops :math:`h` is myopic: with any
number of draws it tends to the product of the blocks' own tilts, not to :math:`P^*`. As
:math:`E_{P^*} R - \lambda\,\mathrm{KL}(P^*\|\pi)` is the maximum and exceeds the value of any other
:math:`P` by :math:`\lambda\,\mathrm{KL}(P\|P^*)`, that divergence is the exact loss. Derived here.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from bon_theory._arguments import Numbers, positive
from bon_theory.selection import exponential_tilt
from bon_theory.sequence.convolution import log_sum
from bon_theory.sequence.law import SequenceLaw, require_law

__all__ = ["look_ahead", "optimum"]


def look_ahead(law: SequenceLaw, temperature: Numbers) -> tuple[jax.Array, ...]:
    r"""The value :math:`\lambda \log h_t(s)` of ending block :math:`t` in state :math:`s`.

    Rewards count in excess of the lowest reward of the symbols to come: what is the same for all
    states makes no difference. With ``block_length=1`` this is the look-ahead of every symbol.

    Args:
        law: the reference.
        temperature: :math:`\lambda > 0`, in units of the reward; a scalar.

    Returns:
        One array ``[count, E]`` per stretch, in units of the reward; 0 after the last block.

    Raises:
        ValueError: ``temperature`` is not positive and finite, or not a scalar.

    Example:
        >>> from bon_theory import sequence
        >>> chain = sequence.MarkovChain.from_probs(
        ...     [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [0.0, 1.0])
        >>> reference = sequence.SequenceLaw.markov(chain, length=8, block_length=1)
        >>> [values] = sequence.look_ahead(reference, temperature=0.5)
        >>> [round(float(value), 4) for value in values[0]]  # after the first symbol
        [5.2928, 6.2529]

    Derived here; theory for the autoregressive optimum is standard (soft Bellman recursion).
    """
    return _values(law, _temperature(law, temperature))


def optimum(law: SequenceLaw, temperature: Numbers) -> SequenceLaw:
    r"""The tilt of whole sequences :math:`P^*(x^m) \propto \pi(x^m) e^{R(x^m)/\lambda}`, in blocks.

    The same law whatever the blocks; what best-of-n over whole sequences tends to.

    Args:
        law: the reference.
        temperature: :math:`\lambda > 0`, in units of the reward; a scalar.

    Raises:
        ValueError: ``temperature`` is not positive and finite, or not a scalar.

    Example:
        >>> from bon_theory import sequence
        >>> chain = sequence.MarkovChain.from_probs(
        ...     [0.5, 0.5], [[0.9, 0.1], [0.2, 0.8]], [0.0, 1.0])
        >>> laws = [sequence.SequenceLaw.markov(chain, 8, block_length=b) for b in (1, 3, 8)]
        >>> rewards = [sequence.expected_reward(sequence.optimum(law, 0.5)) for law in laws]
        >>> [round(float(reward), 6) for reward in rewards]
        [7.899776, 7.899776, 7.899776]

    [V] Eq. (2) for whole sequences; block by block derived here.
    """
    values = look_ahead(law, temperature)
    return law.select(exponential_tilt, temperature, look_ahead=values)


@jax.jit
def _values(law: SequenceLaw, lam: jax.Array) -> tuple[jax.Array, ...]:
    value = jnp.zeros(law.stretches[-1].num_ends, lam.dtype)
    found = []
    for stretch in reversed(law.stretches):
        # What a block is worth by itself, given where it starts and ends.
        log_moves = log_sum(stretch.log_joint, axis=-2)
        log_given = stretch.log_joint - jnp.where(log_moves > -jnp.inf, log_moves, 0)[..., None, :]
        gains = _soft_mean(log_given, stretch.rewards, lam, axis=-2)
        shape = (stretch.count, *gains.shape[1:])
        blocks = jnp.broadcast_to(log_moves, shape), jnp.broadcast_to(gains, shape)

        def before(after: jax.Array, block: tuple[jax.Array, jax.Array]) -> jax.Array:
            return _soft_mean(block[0], block[1] + after[None, :], lam, axis=-1)

        def back(after: jax.Array, block: tuple[jax.Array, jax.Array]) -> Any:
            return before(after, block)[: after.shape[0]], after

        # The stretch's first block: where it starts is where the stretch before it ends.
        _, ends = jax.lax.scan(back, value, blocks, reverse=True)
        found.append(ends)
        value = before(ends[0], (log_moves[0], gains[0]))
    return tuple(reversed(found))


def _soft_mean(log_probs: jax.Array, values: jax.Array, lam: jax.Array, axis: int) -> jax.Array:
    r""":math:`\lambda \log E e^{v/\lambda}`: the mean for large λ, the maximum for small."""
    possible = log_probs != -jnp.inf
    tops = jnp.max(jnp.where(possible, values, -jnp.inf), axis=axis, keepdims=True)
    tops = jax.lax.stop_gradient(jnp.where(tops > -jnp.inf, tops, 0))
    exponents = jnp.where(possible, (values - tops) / lam, 0)
    # E e^x - 1 for x <= 0 has no cancellation; near -1 the logarithm of E e^x itself is accurate.
    shortfall = jnp.sum(jnp.exp(log_probs) * jnp.expm1(exponents), axis=axis)
    near = shortfall > -0.5
    log_mean = jnp.log1p(jnp.where(near, shortfall, 0))
    log_mean = jnp.where(near, log_mean, log_sum(log_probs + exponents, axis=axis))
    return jnp.squeeze(tops, axis) + lam * log_mean


def _temperature(law: SequenceLaw, value: Numbers) -> jax.Array:
    require_law("law", law)
    dtype = law.stretches[0].policy.dtype
    lam = positive("temperature", value, dtype)
    if lam.ndim:
        raise ValueError(f"temperature must be a scalar, got shape {lam.shape}: use jax.vmap.")
    return lam
