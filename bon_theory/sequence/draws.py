r"""How many draws sequences need: the number at which a law is as near to the optimum as wanted.

``n`` candidates for each of :math:`m/b` blocks of :math:`b` symbols are :math:`m n` drawn symbols
whatever the block length, so equal numbers of candidates are equal costs.
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, positive
from bon_theory.selection import exponential_tilt, soft_best_of_n
from bon_theory.sequence.functionals import kl_divergence
from bon_theory.sequence.law import SequenceLaw, require_law
from bon_theory.sequence.look_ahead import look_ahead, optimum
from bon_theory.tuning.root import increasing_root

__all__ = ["n_for_kl_from_optimum"]

_STEPS = 64


def n_for_kl_from_optimum(
    reference: SequenceLaw, kl: Numbers, temperature: Numbers, *, ahead: bool = False
) -> jax.Array:
    r"""The fewest candidates per block with :math:`\mathrm{KL}(P^{*m}\|P_n) = \varepsilon`.

    Soft best-of-n block by block; :math:`n` is real, and 1 where the reference is near enough. The
    divergence falls with :math:`n`, except in blocks of a Markov reference selected without looking
    ahead: these tend to another law, and may pass near the optimum on their way. There the first
    crossing is looked for in 64 steps of :math:`\sinh^{-1}\log n`, each more than a tenth of a nat;
    a dip that only just reaches :math:`\varepsilon` between two of them is overlooked.

    Args:
        reference: i.i.d. or Markov, in blocks.
        kl: :math:`\varepsilon > 0`, nats over the whole sequence; a scalar.
        temperature: :math:`\lambda > 0`; a scalar.
        ahead: whether blocks are selected with :func:`look_ahead`.

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
    require_law("reference", reference)
    dtype = reference.stretches[0].policy.dtype
    budget = positive("kl", kl, dtype)
    lam = positive("temperature", temperature, dtype)
    if budget.ndim or lam.ndim:
        raise ValueError(
            f"kl and temperature must be scalars, got shapes {budget.shape} and {lam.shape}: "
            "use jax.vmap."
        )
    steps = _STEPS if reference.has_memory and not ahead else 1
    return _draws(reference, budget, lam, ahead, steps)


@functools.partial(jax.jit, static_argnames=("ahead", "steps"))
def _draws(
    reference: SequenceLaw, kl: jax.Array, lam: jax.Array, ahead: bool, steps: int
) -> jax.Array:
    target = optimum(reference, lam)
    values = look_ahead(reference, lam) if ahead else None

    def to_spare(log_n: jax.Array) -> jax.Array:
        policy = reference.select(soft_best_of_n, jnp.exp(log_n), lam, look_ahead=values)
        return kl - kl_divergence(target, policy)

    # The first step at whose end there is something to spare holds the root.
    most = 0.99 * math.log(float(jnp.finfo(kl.dtype).max))
    grid = jnp.asarray(np.sinh(np.linspace(0, np.arcsinh(most), steps + 1)), kl.dtype)
    limit = reference.select(exponential_tilt, lam, look_ahead=values)
    ends = [kl - kl_divergence(target, law) for law in (reference, limit)]
    between = jax.lax.stop_gradient(jax.lax.map(to_spare, grid[1:-1]))
    spare = jnp.concatenate([ends[0][None], between, ends[1][None]])
    step = jnp.maximum(jnp.argmax(spare > 0), 1)  # also where none has: judged below
    low, high = grid[step - 1], grid[step]
    log_n = increasing_root(
        to_spare, low, high, jnp.minimum(spare[step - 1], 0), jnp.maximum(spare[step], 0)
    )
    n = jnp.where((spare[step] > 0) & (log_n < 0.999 * most), jnp.exp(log_n), jnp.inf)
    return jnp.where(jnp.isnan(spare[0]), jnp.nan, jnp.where(spare[0] > 0, 1, n))
