r"""How many draws sequences need: the number at which a law is as near to the optimum as wanted.

``n`` candidates for each of :math:`m/b` blocks of :math:`b` symbols are :math:`m n` drawn symbols
whatever the block length, so equal numbers of candidates are equal costs.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from bon_theory.arguments import Numbers, scalar
from bon_theory.selection import exponential_tilt, soft_best_of_n
from bon_theory.sequence.functionals import kl_divergence
from bon_theory.sequence.law import SequenceLaw
from bon_theory.sequence.look_ahead import look_ahead, optimum
from bon_theory.tuning.root import increasing_root

__all__ = ["n_for_kl_from_optimum"]


def n_for_kl_from_optimum(
    reference: SequenceLaw, kl: Numbers, temperature: Numbers, *, ahead: bool = False
) -> jax.Array:
    r"""Candidates :math:`n` per block with :math:`\mathrm{KL}(P^{*m}\|P_n) = \varepsilon`.

    Soft best-of-n block by block; :math:`n` is real, and 1 where the reference is near enough.

    Args:
        reference: i.i.d. or Markov, in blocks.
        kl: :math:`\varepsilon > 0`, nats over the whole sequence; a scalar.
        temperature: :math:`\lambda > 0`; a scalar.
        ahead: whether blocks are selected with :func:`look_ahead`; without it, blocks of a Markov
            reference do not tend to the optimum however many are drawn.

    Returns:
        :math:`n`; ``inf`` where no number of draws is enough, or :math:`n` is beyond the range of
        the floating-point type.

    Raises:
        ValueError: ``kl`` or ``temperature`` is not positive and finite, or not a scalar.

    Example:
        >>> import bon_theory as bt
        >>> from bon_theory import sequence
        >>> coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
        >>> for block_length in (1, 8):
        ...     law = sequence.SequenceLaw.independent(coin, 8, block_length=block_length)
        ...     n = sequence.n_for_kl_from_optimum(law, kl=0.1, temperature=1.0)
        ...     print(round(float(n), 3))
        2.99
        7.914

    Derived here.
    """
    dtype = reference.stretches[0].policy.dtype
    least = float(jnp.finfo(dtype).tiny)
    budget = scalar("kl", kl, dtype, at_least=least)
    lam = scalar("temperature", temperature, dtype, at_least=least)
    if budget.ndim or lam.ndim:
        raise ValueError(
            f"kl and temperature must be scalars, got shapes {budget.shape} and {lam.shape}: "
            "use jax.vmap."
        )
    return _draws(reference, budget, lam, ahead)


@functools.partial(jax.jit, static_argnames="ahead")
def _draws(reference: SequenceLaw, kl: jax.Array, lam: jax.Array, ahead: bool) -> jax.Array:
    target = optimum(reference, lam)
    values = look_ahead(reference, lam) if ahead else None

    def to_spare(log_n: jax.Array) -> jax.Array:
        policy = reference.select(soft_best_of_n, jnp.exp(log_n), lam, look_ahead=values)
        return kl - kl_divergence(target, policy)

    # KL(P*‖P_n) falls with n: 1 is enough, or the root lies between, or no number is enough.
    limit = reference.select(exponential_tilt, lam, look_ahead=values)
    at_one = kl - kl_divergence(target, reference)
    at_infinity = kl - kl_divergence(target, limit)
    most = jnp.asarray(0.99 * math.log(float(jnp.finfo(kl.dtype).max)), kl.dtype)
    ends = jnp.minimum(at_one, 0), jnp.maximum(at_infinity, 0)
    log_n = increasing_root(to_spare, jnp.zeros_like(most), most, *ends)
    n = jnp.where((at_infinity > 0) & (log_n < 0.999 * most), jnp.exp(log_n), jnp.inf)
    return jnp.where(at_one > 0, 1, n)
