r"""The derivative of the Gumbel race as a linear map, and its transpose.

With :math:`h_s` the logarithm of :math:`g(M_s)` at node :math:`s`, p(s | k) the integrand of
outcome k at that node over its integral :math:`I_k` and q(k | s) the share of outcome k in
:math:`M_s`,

.. math:: d\log I_k = \sum_s p(s|k)\,[dh_s - X_{sk}\,d\log w_k], \qquad
          dh_s = \partial_M h\, d\log M_s + \partial_n h\, dn, \qquad
          d\log M_s = \sum_k q(k|s)\,[d\log\pi_k - X_{sk}\,d\log w_k] .

While k waits, p and q are a function of s times one of k; see :mod:`bon_theory.race.time_grid`.
Where M is near one, it is its complement that is differentiated, as :math:`\sum \pi\,d\log\pi = 0`:
then :math:`\pi_k (e^{-X} - 1)/M` stands before :math:`d\log\pi_k`, and nothing cancels that a
large n would magnify. Derived here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bon_theory._numerics import NOTHING
from bon_theory.race.time_grid import TimeBlock, TimeGrid

__all__ = ["Derivative", "join", "split"]


def join(by_probs: jax.Array, by_weights: jax.Array, by_parameter: jax.Array) -> jax.Array:
    """A tangent (d log π, d log w, dn) as one vector ``[2 J C + 1]``."""
    return jnp.concatenate([by_probs.ravel(), by_weights.ravel(), by_parameter[None]])


def split(vector: jax.Array, shape: tuple[int, ...]) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The three parts of a vector."""
    by_probs, by_weights = vector[:-1].reshape(2, *shape)
    return by_probs, by_weights, vector[-1]


class _Total(NamedTuple):
    """A sum of signed terms e^a x, as ``value`` times e^``log_scale``: it cannot overflow."""

    log_scale: jax.Array
    value: jax.Array

    @staticmethod
    def zero(like: jax.Array) -> _Total:
        return _Total(jnp.full_like(like, NOTHING), jnp.zeros_like(like))

    def plus(self, log_terms: jax.Array, x: jax.Array) -> _Total:
        """The sum with further terms, over all axes."""
        log_terms = jnp.where(x == 0, NOTHING, log_terms)
        log_scale = jnp.maximum(self.log_scale, jnp.max(log_terms))
        added = jnp.sum(jnp.exp(log_terms - log_scale) * x)
        return _Total(log_scale, self.value * jnp.exp(self.log_scale - log_scale) + added)

    def times(self, log_factor: jax.Array) -> jax.Array:
        """The sum times e^``log_factor``."""
        return jnp.exp(self.log_scale + log_factor) * self.value


def _from_each_on(log_terms: jax.Array, x: jax.Array) -> _Total:
    """Sums over this chunk and all later ones, ``[J, C] -> [J + 1]``."""

    def add(total: _Total, row: tuple[jax.Array, jax.Array]) -> tuple[_Total, _Total]:
        total = total.plus(*row)
        return total, total

    zero = _Total.zero(x[0, 0])
    _, totals = jax.lax.scan(add, zero, (log_terms, x), reverse=True)
    return jax.tree.map(lambda sums, last: jnp.append(sums, last), totals, zero)


class _Forward(NamedTuple):
    """The state of the forward loop."""

    totals: jax.Array  # [J, C] Σ_s p(s | k) (dh_s - X d log w_k)
    waited: _Total  # Σ_s e^s g dh_s, for the chunks that wait


class _Backward(NamedTuple):
    """The state of the backward loop: what the outputs send back to each input."""

    to_log_probs: jax.Array  # [J, C]
    to_log_weights: jax.Array  # [J, C]
    to_parameter: jax.Array
    rung: jax.Array  # [J + 1] what nodes near M = 1 send to log π of chunks that had rung
    waited: _Total  # ... and, by way of M, to those that waited
    lost: _Total  # ... by way of 1 - M
    waited_x: _Total  # ... to their log w


@dataclasses.dataclass(frozen=True)
class Derivative:
    """The derivative of the logarithms of the integrals at one race.

    A tangent is one vector; a derivative is one too, with only its first part in use, because a
    linear map here goes from a space to itself. What concerns chunks that wait, or have rung, is
    left out where all outcomes are one chunk.
    """

    grid: TimeGrid
    log_ratio: jax.Array  # [J, C] log I

    def forward(self, tangent: jax.Array) -> jax.Array:
        """The derivative along ``tangent``."""
        grid = self.grid
        d_log_probs, d_log_weights, d_parameter = split(tangent, self.log_ratio.shape)
        from_others = self._d_log_m_of_others(d_log_probs, d_log_weights)

        def visit(state: _Forward, block: TimeBlock) -> _Forward:
            def over_outcomes(chunk: Any, d_log_m: jax.Array) -> jax.Array:
                x, share, _ = self.kernels(block, chunk)
                terms = self.moved(block, chunk, x, share) * _row(d_log_probs, chunk)
                return d_log_m + jnp.sum(terms - share * x * _row(d_log_weights, chunk), axis=2)

            d_log_m = grid.over_chunks(block, over_outcomes, from_others(block))  # [R, S]
            by_log_m, by_parameter = grid.slopes(block)
            d_height = by_log_m * d_log_m + by_parameter * d_parameter

            def over_nodes(chunk: Any, totals: jax.Array) -> jax.Array:
                x, _, weights = self.kernels(block, chunk)
                terms = weights * (d_height[:, :, None] - x * _row(d_log_weights, chunk))
                before = block.resume(chunk, totals, state.waited.times(self.log_scale[chunk]))
                return grid.set_chunk(totals, chunk, before + jnp.sum(terms, axis=(0, 1)))

            totals, waited = grid.over_chunks(block, over_nodes, state.totals), state.waited
            if not grid.is_whole:
                waited = waited.plus(block.log_height, d_height)
            return _Forward(totals, waited)

        nothing = jnp.zeros_like(self.log_ratio)
        state, end = grid.fold(visit, _Forward(nothing, _Total.zero(d_parameter)))
        totals = state.totals
        if not grid.is_whole:
            totals = jnp.where(end.waits, state.waited.times(self.log_scale), totals)
        return join(totals, nothing, jnp.zeros_like(d_parameter))

    def _d_log_m_of_others(
        self, d_log_probs: jax.Array, d_log_weights: jax.Array
    ) -> Callable[[TimeBlock], jax.Array]:
        """The derivative of log M by way of chunks that wait or have rung: block to ``[R, S]``."""
        grid = self.grid
        if grid.is_whole:
            return lambda block: jnp.zeros_like(block.s)
        log_rates = grid.log_probs + grid.log_weights
        by_probs = _from_each_on(grid.log_probs, d_log_probs)
        by_weights = _from_each_on(log_rates, d_log_weights)
        by_lost_probs = _from_each_on(log_rates, d_log_probs)
        rung = jnp.cumsum(jnp.sum(jnp.exp(grid.log_probs) * d_log_probs, axis=1))
        rung = jnp.concatenate([jnp.zeros(1, rung.dtype), rung])  # [J + 1]

        def of_block(block: TimeBlock) -> jax.Array:
            log_x = block.s - block.log_m
            lost = _at(by_lost_probs, block.first_waiting).times(log_x)
            lost += rung[block.first_ringing] * jnp.exp(-block.log_m)
            kept = _at(by_probs, block.first_waiting).times(-block.log_m)
            d_log_m = jnp.where(block.near_one, -lost, kept)
            return d_log_m - _at(by_weights, block.first_waiting).times(log_x)

        return of_block

    def backward(self, cotangent: jax.Array) -> jax.Array:
        """The transpose of ``forward``."""
        grid = self.grid
        received, _, nothing = split(cotangent, self.log_ratio.shape)
        by_height = None if grid.is_whole else _from_each_on(self.log_scale, received)
        log_rates = grid.log_probs + grid.log_weights

        def visit(state: _Backward, block: TimeBlock) -> _Backward:
            def over_outcomes(chunk: Any, to_height: jax.Array) -> jax.Array:
                _, _, weights = self.kernels(block, chunk)
                return to_height + jnp.sum(weights * _row(received, chunk), axis=2)

            to_height = jnp.zeros_like(block.s)  # [R, S]
            if by_height is not None:
                to_height = _at(by_height, block.first_waiting).times(block.log_height)
            to_height = grid.over_chunks(block, over_outcomes, to_height)
            by_log_m, by_parameter = grid.slopes(block)
            to_log_m = to_height * by_log_m

            def over_nodes(chunk: Any, totals: Any) -> Any:
                x, share, weights = self.kernels(block, chunk)
                moved = self.moved(block, chunk, x, share)
                shared = jnp.sum(moved * to_log_m[:, :, None], axis=(0, 1))  # [C]
                share *= to_log_m[:, :, None]
                slowed = jnp.sum(x * (share + weights * _row(received, chunk)), axis=(0, 1))
                before = state.waited.times(grid.log_probs[chunk])
                before -= state.lost.times(log_rates[chunk])
                before_x = -state.waited_x.times(log_rates[chunk])
                return (
                    grid.set_chunk(
                        totals[0], chunk, block.resume(chunk, totals[0], before) + shared
                    ),
                    grid.set_chunk(
                        totals[1], chunk, block.resume(chunk, totals[1], before_x) - slowed
                    ),
                )

            totals = grid.over_chunks(block, over_nodes, (state.to_log_probs, state.to_log_weights))
            state = state._replace(
                to_log_probs=totals[0],
                to_log_weights=totals[1],
                to_parameter=state.to_parameter + jnp.sum(to_height * by_parameter),
            )
            return state if grid.is_whole else _sent_to_others(state, block, to_log_m)

        zeros, zero = jnp.zeros_like(received), _Total.zero(nothing)
        rung = jnp.zeros(received.shape[0] + 1, received.dtype)
        start = _Backward(zeros, zeros, jnp.zeros_like(nothing), rung, zero, zero, zero)
        state, end = grid.fold(visit, start)
        if grid.is_whole:
            return join(state.to_log_probs, state.to_log_weights, state.to_parameter)
        to_the_end = state.waited.times(grid.log_probs) - state.lost.times(log_rates)
        to_log_probs = jnp.where(end.waits, to_the_end, state.to_log_probs)
        slowed = jnp.where(end.waits, -state.waited_x.times(log_rates), state.to_log_weights)
        after = jnp.cumsum(state.rung[::-1])[::-1][1:, None]  # at nodes where the chunk has rung
        return join(to_log_probs - jnp.exp(grid.log_probs) * after, slowed, state.to_parameter)

    @property
    def log_scale(self) -> jax.Array:
        """Log of p(s | k) beyond what depends on s, ``[J, C]``."""
        return self.grid.log_weights - self.log_ratio

    def kernels(self, block: TimeBlock, chunk: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
        """X, q(k | s) and p(s | k), ``[R, S, C]``."""
        tile = self.grid.tile(block.start, chunk)
        log_share = _row(self.grid.log_probs, chunk) - tile.x - block.log_m[:, :, None]
        log_weight = tile.log_first[:, None, :] - _row(self.log_ratio, chunk)
        log_weight += block.height[:, :, None]
        # A share is at most one; where M underflows nothing is left to be shared.
        return tile.x, jnp.exp(jnp.minimum(log_share, 0)), jnp.exp(log_weight - tile.x)

    def moved(self, block: TimeBlock, chunk: Any, x: jax.Array, share: jax.Array) -> jax.Array:
        """The derivative of log M in log π, ``[R, S, C]``, by way of its complement near one."""
        probs = jnp.exp(_row(self.grid.log_probs, chunk) - block.log_m[:, :, None])
        return jnp.where(block.near_one[:, :, None], probs * jnp.expm1(-x), share)


def _sent_to_others(state: _Backward, block: TimeBlock, to_log_m: jax.Array) -> _Backward:
    """The state with what a block sends to chunks that wait or have rung."""
    near = jnp.where(block.near_one, to_log_m, 0)
    far = jnp.where(block.near_one, 0, to_log_m)
    log_x = block.s - block.log_m
    to_rung = jnp.sum(near * jnp.exp(-jnp.maximum(block.log_m, -1)))
    return state._replace(
        rung=state.rung.at[block.first_ringing].add(to_rung),
        waited=state.waited.plus(-block.log_m, far),
        lost=state.lost.plus(log_x, near),
        waited_x=state.waited_x.plus(log_x, to_log_m),
    )


def _at(totals: _Total, index: Any) -> _Total:
    return jax.tree.map(lambda array: array[index], totals)


def _row(array: jax.Array, chunk: Any) -> jax.Array:
    """One chunk's entries, to go with ``[R, S, C]``."""
    return array[chunk][None, None, :]
