r"""Pooling of adjacent violators: the greatest convex minorant of a curve, by its slopes.

A curve of points :math:`(s_k, h_k)` with steps :math:`e^{b_k}` to the right and :math:`e^{a_k}` up
has a greatest convex minorant whose slopes are the isotonic regression of :math:`e^{a_k - b_k}`
with weights :math:`e^{b_k}`: neighbours whose slopes fall are replaced by the chord over both,
until slopes rise throughout. A chord is a sum of steps, and all of them are positive, so nothing
cancels however small the masses are.

The loop is the stack of Brunk et al. (1972) in one state machine: every pass either pools the last
two chords or takes the next step in, at most :math:`2K` passes of constant cost. A million steps
take a tenth of a second on a CPU; on an accelerator, where a pass is a kernel launch, the batch
axes run beside each other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bon_theory._numerics import NOTHING

__all__ = ["increasing_log_slopes"]


class _Last(NamedTuple):
    """The chord that may yet be pooled with the one before.

    Attributes:
        place: how many chords are before it.
        log_step: its log-rise and log-run, ``[2]``.
        start: the step with which it begins.
        taken: how many steps are in, by now.
    """

    place: jax.Array
    log_step: jax.Array
    start: jax.Array
    taken: jax.Array


def increasing_log_slopes(log_rise: jax.Array, log_run: jax.Array) -> jax.Array:
    """Log-slopes of the greatest convex minorant over each of its steps, ``[K], [K] -> [K]``.

    Runs of zero must stand last and rises of zero first; the slopes are then infinite. The
    derivative is that of the chords, which does not see where they end: there it is one-sided.
    """
    rise, run = jnp.maximum(log_rise, NOTHING), jnp.maximum(log_run, NOTHING)
    chord = jax.lax.stop_gradient(_chords(jax.lax.stop_gradient(jnp.stack([rise, run], axis=-1))))
    slope = _log_sum_by(chord, rise) - _log_sum_by(chord, run)
    flat, steep = slope < 0.5 * NOTHING, slope > -0.5 * NOTHING
    return jnp.where(flat, -jnp.inf, jnp.where(steep, jnp.inf, slope))[chord]


def _chords(log_steps: jax.Array) -> jax.Array:
    """The number of the chord to which each step ``[K, 2]`` belongs, ascending, ``[K]``."""
    size = log_steps.shape[0]

    def advance(_: int, state: tuple[jax.Array, jax.Array, _Last]) -> Any:
        stack, starts, last = state
        # Written before anything is read, for the arrays to be updated in place.
        stack = stack.at[last.place].set(last.log_step)
        starts = starts.at[last.place].set(last.start)
        before, following = jnp.maximum(last.place - 1, 0), jnp.minimum(last.taken, size - 1)
        earlier = stack[before]
        falls = earlier[0] - earlier[1] >= last.log_step[0] - last.log_step[1]
        pools = falls & (last.place > 0)
        chord = _Last(before, jnp.logaddexp(earlier, last.log_step), starts[before], last.taken)
        step = _Last(last.place + 1, log_steps[following], following, last.taken + 1)
        is_done = ~pools & (last.taken == size)

        def chosen(pooled: jax.Array, stepped: jax.Array, stays: jax.Array) -> jax.Array:
            return jnp.where(pools, pooled, jnp.where(is_done, stays, stepped))

        return stack, starts, jax.tree.map(chosen, chord, step, last)

    zero = jnp.int32(0)
    stack = jnp.full((size + 1, 2), NOTHING, log_steps.dtype)
    starts = jnp.zeros(size + 1, jnp.int32)
    first = _Last(zero, log_steps[0], zero, jnp.int32(1))
    _, starts, last = jax.lax.fori_loop(0, 2 * size, advance, (stack, starts, first))
    # The last chord, too, has been written; what is behind it is left over.
    begins = jnp.where(jnp.arange(size + 1, dtype=jnp.int32) <= last.place, starts, size)
    return jnp.cumsum(jnp.zeros(size, jnp.int32).at[begins].set(1, mode="drop")) - 1


def _log_sum_by(chord: jax.Array, x: jax.Array) -> jax.Array:
    """``log Σ e^x`` over the steps of each chord, ``[K]``."""
    top = jax.ops.segment_max(jax.lax.stop_gradient(x), chord, x.shape[0], True)
    terms = jnp.exp(x - top[chord])
    total = jax.ops.segment_sum(terms, chord, x.shape[0], True)
    is_chord = total > 0
    return jnp.where(is_chord, jnp.log(jnp.where(is_chord, total, 1)) + top, 0)
