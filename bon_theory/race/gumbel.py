r"""The race behind soft best-of-n: candidates' scores with Gumbel noise, exactly.

Candidate :math:`i` scores :math:`r(X_i)/\lambda` plus Gumbel noise and the highest score wins,
which picks :math:`i` with probability proportional to :math:`w_i = e^{r_i/\lambda}`. Equivalently
the first of exponential clocks of rates :math:`w_i` rings; integrating over the time of the first
ring (derived here; checked against enumeration),

.. math:: \frac{P(x)}{\pi(x)} = w(x) \int_0^\infty e^{-t w(x)}\, g(M(t))\, dt,
          \qquad M(t) = E_\pi e^{-t W},

where :math:`g = \Phi'` is the derivative of the probability generating function of the number of
candidates: :math:`n z^{n-1}` for :math:`n` of them.

The half-line integral is a trapezoidal sum over :math:`t = e^{s}`, :math:`s \in h\mathbb{Z}`; how
its terms are visited is the matter of :mod:`bon_theory.race.time_grid`.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from bon_theory._numerics import NOTHING, linear_map
from bon_theory.race.derivative import Derivative, join, split
from bon_theory.race.time_grid import (
    NumberOfCandidates,
    TimeBlock,
    TimeGrid,
    by_race,
    by_size,
    in_chunks,
)

__all__ = ["NumberOfCandidates", "gumbel_race_log_ratio"]


@functools.partial(jax.jit, static_argnames="candidates")  # outside jit it would compile anew
def gumbel_race_log_ratio(
    log_probs: jax.Array,
    log_weights: jax.Array,
    parameter: jax.Array,
    *,
    candidates: NumberOfCandidates,
) -> jax.Array:
    r""":math:`\log P/\pi` of the Gumbel race; see the module's formula.

    Args:
        log_probs: :math:`\log\pi`, ``[K]``, ``-inf`` allowed (the ratio is still finite there).
        log_weights: :math:`\log w`, ``[K]``, finite and falling; a common shift does not matter.
        parameter: scalar handed to ``candidates.log_slope``.
        candidates: the law of their number.

    Differentiable once, forwards and backwards, through its own integral formulas; a second
    derivative raises ``NotImplementedError``.
    """
    chunks = in_chunks(log_probs, log_weights)
    return _gumbel_race(candidates, *chunks, parameter).reshape(-1)[: log_probs.size]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _gumbel_race(
    candidates: NumberOfCandidates,
    log_probs: jax.Array,
    log_weights: jax.Array,
    parameter: jax.Array,
) -> jax.Array:
    def race(*operands: jax.Array) -> jax.Array:
        return _log_ratio(TimeGrid.of(candidates, *operands))

    return by_size(race, log_weights)(log_probs, log_weights, parameter)


def _log_ratio(grid: TimeGrid) -> jax.Array:
    """Log of the sum over s of X e^{-X} g(M), ``[J, C]``; log X is exact where X is near 1."""

    def visit(log_ratio: jax.Array, block: TimeBlock) -> jax.Array:
        def add(chunk: Any, log_ratio: jax.Array) -> jax.Array:
            tile = grid.tile(block.start, chunk)
            terms = block.height[:, :, None] + tile.log_first[:, None, :] - tile.x  # [R, S, C]
            before = block.resume(chunk, log_ratio, block.log_waited + tile.log_first[0])
            top = jnp.maximum(before, jnp.max(terms, axis=(0, 1)))
            added = jnp.sum(jnp.exp(terms - top[None, None, :]), axis=(0, 1))
            return grid.set_chunk(log_ratio, chunk, top + jnp.log(jnp.exp(before - top) + added))

        return grid.over_chunks(block, add, log_ratio)

    log_ratio, end = grid.fold(visit, jnp.full_like(grid.log_weights, NOTHING))
    if grid.is_whole:
        return log_ratio
    return jnp.where(end.waits, end.log_waited + (end.s + grid.log_weights), log_ratio)


@functools.partial(_gumbel_race.defjvp, symbolic_zeros=True)
def _gumbel_race_jvp(candidates: NumberOfCandidates, primals: Any, tangents: Any) -> Any:
    at = jax.tree.map(_first_order_only, primals)
    log_ratio = _gumbel_race(candidates, *at)
    by_parameter = not isinstance(tangents[2], SymbolicZero)
    tangents = tuple(map(_instantiated, tangents, at))

    def derivative(log_ratio: jax.Array, *operands: jax.Array) -> Derivative:
        return Derivative(
            TimeGrid.of(candidates, *operands, differentiated=by_parameter), log_ratio
        )

    forward = by_race(lambda vector, *race: derivative(*race).forward(vector), log_ratio)
    backward = by_race(lambda vector, *race: derivative(*race).backward(vector), log_ratio)
    # A zero-probability outcome's log has no meaningful tangent and no influence.
    d_log_probs = jnp.where(at[0] > -jnp.inf, tangents[0], 0)
    moved = linear_map(
        lambda vector: forward(vector, log_ratio, *at),
        lambda vector: backward(vector, log_ratio, *at),
        join(d_log_probs, *tangents[1:]),
    )
    return log_ratio, tangents[1] + split(moved, log_ratio.shape)[0]


def _instantiated(tangent: Any, primal: jax.Array) -> jax.Array:
    return jnp.zeros_like(primal) if isinstance(tangent, SymbolicZero) else tangent


@jax.custom_jvp
def _first_order_only(x: jax.Array) -> jax.Array:
    return x


@_first_order_only.defjvp
def _no_second_order(primals: Any, tangents: Any) -> Any:
    raise NotImplementedError(
        "soft best-of-n can be differentiated once: its derivative is computed by its own loop, "
        "which is not differentiable again. Take finite differences of the gradient for curvature."
    )
