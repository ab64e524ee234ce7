r"""The race behind soft best-of-n: candidates' scores with Gumbel noise, exactly.

Candidate :math:`i` scores :math:`r(X_i)/\lambda` plus Gumbel noise and the highest score wins,
which picks :math:`i` with probability proportional to :math:`w_i = e^{r_i/\lambda}`. Equivalently
the first of exponential clocks of rates :math:`w_i` rings; integrating over the time of the first
ring (derived here; checked against enumeration),

.. math:: \frac{P(x)}{\pi(x)} = w(x) \int_0^\infty e^{-t w(x)}\, g(M(t))\, dt,
          \qquad M(t) = E_\pi e^{-t W},

where :math:`g = \Phi'` is the derivative of the probability generating function of the number of
candidates: :math:`n z^{n-1}` for :math:`n` of them.

The half-line integral is a trapezoidal sum over :math:`t = e^{s}`, :math:`s \in h\mathbb{Z}`,
accumulated in blocks until no later node can matter. Stretches of :math:`s` over which every
outcome either has surely rung or surely has not are jumped over: there the integrand is a pure
exponential, whose sum is a geometric series that the next node carries. So the cost grows with the
number of outcomes times the smaller of the range of :math:`r/\lambda` and the number of separate
clusters of it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bon_theory.numerics import linear_map, safe_log

__all__ = ["Candidates", "gumbel_race_log_ratio"]


@dataclasses.dataclass(frozen=True)
class Candidates:
    r"""How many candidates race: :math:`\log g` as a function of ``(log_m, parameter)``.

    ``log_slope`` increases in ``log_m``. ``is_power`` says that :math:`g` is the power
    :math:`n z^{n-1}`, which for fractional :math:`n` (or differentiated in :math:`n`) has a branch
    point wherever :math:`M` vanishes in the complex plane; the lattice is then refined.
    """

    log_slope: Callable[[jax.Array, jax.Array], jax.Array]
    is_power: bool


_BLOCK = 16  # nodes per step of the loop
_LEAST_LOG_M = -1e18  # stands for log 0, so that 0 · log 0 = 0 at n = 1


class _Block(NamedTuple):
    """One block of lattice nodes s_b and what every use of them needs."""

    log_first: jax.Array  # [K] log of e^{s} w at the first node
    first: jax.Array  # [K] its exponential X, capped to stay finite
    growth: jax.Array  # [S] e^{s_b - s_first}
    decay: jax.Array  # [S, K] e^{-(X_b - X_first)}
    share: jax.Array  # [S, K] posterior π e^{-X_b} / M_b
    log_m: jax.Array  # [S] log M
    height: jax.Array  # [S] log(g(M) e^{s_b - s_first}) + log of the node's quadrature weight


@functools.partial(jax.jit, static_argnames="candidates")  # outside jit it would compile anew
def gumbel_race_log_ratio(
    log_probs: jax.Array, log_weights: jax.Array, parameter: jax.Array, *, candidates: Candidates
) -> jax.Array:
    r""":math:`\log P/\pi` of the Gumbel race; see the module's formula.

    Args:
        log_probs: :math:`\log\pi`, ``[K]``, ``-inf`` allowed (the ratio is still finite there).
        log_weights: :math:`\log w`, ``[K]``, finite; a common shift does not matter.
        parameter: scalar handed to ``candidates.log_slope``.
        candidates: the law of their number.

    Differentiable once, forwards and backwards, through its own integral formulas; a second
    derivative raises ``NotImplementedError``.
    """
    return _gumbel_race(candidates, log_probs, log_weights, parameter)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _gumbel_race(
    candidates: Candidates, log_probs: jax.Array, log_weights: jax.Array, parameter: jax.Array
) -> jax.Array:
    # The integrand over s is X e^{-X} g(M) with X = e^s w; log X is exact where it is near 0.
    def accumulate(log_ratio: jax.Array, block: _Block) -> jax.Array:
        top = jnp.max(block.height)
        inner = jnp.sum(jnp.exp(block.height - top)[:, None] * block.decay, axis=0)
        return jnp.logaddexp(log_ratio, block.log_first - block.first + top + jnp.log(inner))

    nothing = jnp.full_like(log_weights, -jnp.inf)
    return _Sweep.of(candidates, log_probs, log_weights, parameter).fold(accumulate, nothing)


@_gumbel_race.defjvp
def _gumbel_race_jvp(candidates: Candidates, primals: Any, tangents: Any) -> Any:
    log_probs, log_weights, parameter = jax.tree.map(_first_order_only, primals)
    log_ratio = _gumbel_race(candidates, log_probs, log_weights, parameter)
    sweep = _Sweep.of(candidates, log_probs, log_weights, parameter, differentiated=True)
    derivative = _Derivative(sweep, log_ratio)
    # A zero-probability outcome's log has no meaningful tangent and no influence.
    d_log_probs = jnp.where(log_probs > -jnp.inf, tangents[0], 0)
    tangent = derivative.join(d_log_probs, *tangents[1:])
    moved = linear_map(derivative.forward, derivative.backward, tangent)
    return log_ratio, tangents[1] + derivative.split(moved)[0]


@jax.custom_jvp
def _first_order_only(x: jax.Array) -> jax.Array:
    return x


@_first_order_only.defjvp
def _no_second_order(primals: Any, tangents: Any) -> Any:
    raise NotImplementedError(
        "soft best-of-n can be differentiated once: its derivative is computed by its own loop, "
        "which is not differentiable again. Take finite differences of the gradient for curvature."
    )


@dataclasses.dataclass(frozen=True)
class _Sweep:
    """The lattice of one race: which nodes there are, and what happens on them."""

    candidates: Candidates
    log_probs: jax.Array
    log_weights: jax.Array
    parameter: jax.Array
    step: jax.Array

    @staticmethod
    def of(
        candidates: Candidates,
        log_probs: jax.Array,
        log_weights: jax.Array,
        parameter: jax.Array,
        *,
        differentiated: bool = False,
    ) -> _Sweep:
        """The lattice whose step suits the integrand.

        The trapezoidal error is exp(-π²/step). A branch point of a power adds at most
        exp(-2π sqrt(2n/step)); the worst case is an atom of mass exp(-π sqrt(2/(n step))).
        """
        dtype = log_weights.dtype
        step = jnp.asarray(0.25 if dtype == jnp.float64 else 0.5, dtype)
        if candidates.is_power:
            # A quarter of the step from n = 1, half of it from n = 2, and all of it from n = 4.
            branched = differentiated | (parameter != jnp.round(parameter))
            finer = jnp.where(parameter < 2, 4, jnp.where(parameter < 4, 2, 1))
            step = jnp.where(branched, step / finer.astype(dtype), step)
        return _Sweep(candidates, log_probs, log_weights, parameter, step)

    @property
    def cut(self) -> float:
        """An exponent c such that e^{-c} is nothing."""
        return 44.0 if self.log_weights.dtype == jnp.float64 else 22.0

    @property
    def offsets(self) -> jax.Array:
        """Where the nodes of a block lie from its first, ``[S]``."""
        return self.step * jnp.arange(_BLOCK, dtype=self.log_weights.dtype)

    def log_g(self, log_m: jax.Array) -> jax.Array:
        """Log g(M), finite."""
        return jnp.maximum(self.candidates.log_slope(log_m, self.parameter), _LEAST_LOG_M)

    def sensitivity(self, log_m: jax.Array) -> jax.Array:
        """How much log g changes with log M."""
        return jax.grad(self.candidates.log_slope)(log_m, self.parameter)

    def fold(self, accumulate: Callable[[Any, _Block], Any], initial: Any) -> Any:
        """Fold ``accumulate`` over the blocks of nodes, skipping idle stretches."""

        def body(state: Any) -> Any:
            position, skipped, top, carry = state
            block = self.block_at(position, skipped)
            top = jnp.maximum(top, position * self.step + jnp.max(block.height))
            following = self.next_position(position + _BLOCK, block.log_m[-1], top)
            return following, following - position - _BLOCK, top, accumulate(carry, block)

        start = jnp.floor(self.first_effect(self.log_weights) / self.step)
        state = (start, jnp.full_like(start, jnp.inf), jnp.full_like(start, -jnp.inf), initial)
        return jax.lax.while_loop(lambda state: jnp.isfinite(state[0]), body, state)[-1]

    def block_at(self, position: jax.Array, skipped: jax.Array) -> _Block:
        """Evaluate the nodes from ``position`` on; the first stands for ``skipped`` more."""
        dtype = self.log_weights.dtype
        log_first = position * self.step + self.log_weights
        first = jnp.minimum(jnp.exp(log_first), jnp.finfo(dtype).max ** 0.5)
        growth = jnp.exp(self.offsets)
        decay = jnp.exp(-first[None, :] * (growth[:, None] - 1))
        # M near one from its complement; otherwise from scaled terms that cannot all underflow.
        rung = -jnp.expm1(-first[None, :] * growth[:, None])
        complement = jnp.sum(jnp.exp(self.log_probs)[None, :] * rung, axis=1)
        scaled = self.log_probs - first
        shift = jnp.max(scaled)
        terms = jnp.exp(scaled - shift)[None, :] * decay
        total = jnp.sum(terms, axis=1)
        share = terms / jnp.maximum(total, jnp.finfo(dtype).tiny)[:, None]
        near_one = complement < 0.5
        from_complement = jnp.log1p(-jnp.where(near_one, complement, 0))
        log_m = jnp.where(near_one, from_complement, shift + jnp.log(total))
        log_m = jnp.maximum(log_m, _LEAST_LOG_M)
        height = self.offsets + jnp.log(self.step) + self.log_g(log_m)
        # Below an idle stretch's end the integrand is e^s: Σ_{k=0}^{skipped} e^{-k step}.
        series = jnp.expm1(-(skipped + 1) * self.step) / jnp.expm1(-self.step)
        height = height.at[0].add(jnp.log(series))
        return _Block(log_first, first, growth, decay, share, log_m, height)

    def first_effect(self, log_weights: jax.Array) -> jax.Array:
        """Where, in s, the first of some outcomes begins to matter; the others' weight is -inf.

        There e^s (w_max + E[w] d log g/d log M) is so small that the series' relative error, its
        square, is below rounding. +inf if there are no outcomes.
        """
        small = 1e-8 if log_weights.dtype == jnp.float64 else 1e-4
        log_mass = jax.nn.logsumexp(jnp.where(log_weights > -jnp.inf, self.log_probs, -jnp.inf))
        log_mass = jnp.clip(log_mass, _LEAST_LOG_M, 0)
        log_mean = jax.nn.logsumexp(self.log_probs + log_weights) - log_mass
        log_pull = safe_log(self.sensitivity(log_mass)) + log_mean
        return jnp.log(small) - jnp.logaddexp(jnp.max(log_weights), log_pull)

    def next_position(self, following: jax.Array, log_m: jax.Array, top: jax.Array) -> jax.Array:
        """The next node worth a visit, from ``following`` on; +inf when no later one can matter."""
        x = jnp.exp(following * self.step + self.log_weights)
        waiting = x < 1
        any_waiting = jnp.any(waiting)
        # Idle: all that have begun to ring have rung, and of what they leave M feels nothing.
        log_left = jax.nn.logsumexp(jnp.where(waiting, -jnp.inf, self.log_probs - x))
        log_waiting = jax.nn.logsumexp(jnp.where(waiting, self.log_probs, -jnp.inf))
        log_waiting = jnp.clip(log_waiting, _LEAST_LOG_M, 0)
        log_felt = log_left + safe_log(self.sensitivity(log_waiting))
        all_rung = jnp.min(jnp.where(waiting, jnp.inf, x)) > self.cut
        idle = all_rung & (log_felt < log_waiting - self.cut)
        effect = self.first_effect(jnp.where(waiting, self.log_weights, -jnp.inf))
        jump = jnp.maximum(following, jnp.floor(effect / self.step))
        # g only falls, and nothing is left of any outcome beyond the end of the lattice.
        log_end = jnp.log(self.cut) - jnp.min(self.log_weights)
        done = (all_rung & ~any_waiting) | (log_end + self.log_g(log_m) < top - self.cut)
        return jnp.where(done, jnp.inf, jnp.where(idle & any_waiting, jump, following))


@dataclasses.dataclass(frozen=True)
class _Derivative:
    r"""The derivative of log ∫ e^{height - X} as a linear map, and its transpose.

    With p(s | k) the integrand of outcome k at node s over its integral and q(k | s) the share of
    outcome k in M(s),

    .. math:: d\log I_k = \sum_s p(s|k)\,[dh_s - X_{sk}\,d\log w_k], \qquad
              dh_s = \partial_M h\, d\log M_s + \partial_n h\, dn, \qquad
              d\log M_s = \sum_k q(k|s)\,[d\log\pi_k - X_{sk}\,d\log w_k] .

    A tangent is one vector ``[2K + 1]``: :math:`(d\log\pi, d\log w, dn)`; a derivative is one too,
    with only its first ``K`` entries in use, because a linear map here goes from a space to itself.
    """

    sweep: _Sweep
    log_ratio: jax.Array

    def join(self, by_probs: Any, by_weights: Any, by_parameter: Any) -> jax.Array:
        """One vector from its three parts."""
        return jnp.concatenate([by_probs, by_weights, by_parameter[None]])

    def split(self, vector: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """The three parts of a vector."""
        size = self.log_ratio.shape[0]
        return vector[:size], vector[size:-1], vector[-1]

    def forward(self, tangent: jax.Array) -> jax.Array:
        """The derivative of the logarithms of the integrals along ``tangent``."""
        d_log_probs, d_log_weights, d_parameter = self.split(tangent)

        def accumulate(total: jax.Array, block: _Block) -> jax.Array:
            by_log_m, by_parameter, x, weights = self.at(block)
            terms = d_log_probs[None, :] - x * d_log_weights[None, :]
            d_log_m = jnp.sum(block.share * terms, axis=1)
            d_height = by_log_m * d_log_m + by_parameter * d_parameter
            return total + d_height @ weights - jnp.sum(weights * x, axis=0) * d_log_weights

        total = self.sweep.fold(accumulate, jnp.zeros_like(self.log_ratio))
        return self.join(total, jnp.zeros_like(total), jnp.zeros_like(d_parameter))

    def backward(self, cotangent: jax.Array) -> jax.Array:
        """The transpose of ``forward``."""
        received, _, nothing = self.split(cotangent)

        def accumulate(totals: Any, block: _Block) -> Any:
            to_log_probs, to_log_weights, to_parameter = totals
            by_log_m, by_parameter, x, weights = self.at(block)
            to_height = weights @ received
            to_log_m = to_height * by_log_m
            to_log_weights = to_log_weights - to_log_m @ (block.share * x)
            return (
                to_log_probs + to_log_m @ block.share,
                to_log_weights - jnp.sum(weights * x, axis=0) * received,
                to_parameter + to_height @ by_parameter,
            )

        zeros = jnp.zeros_like(received)
        return self.join(*self.sweep.fold(accumulate, (zeros, zeros, jnp.zeros_like(nothing))))

    def at(self, block: _Block) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """The partial derivatives of the height ``[S]``, X ``[S, K]`` and p(s | k) ``[S, K]``."""
        slopes = jax.vmap(jax.grad(self.sweep.candidates.log_slope, argnums=(0, 1)), (0, None))
        by_log_m, by_parameter = slopes(block.log_m, self.sweep.parameter)
        top = jnp.max(block.height)
        scale = jnp.exp(block.log_first - block.first + top - self.log_ratio)
        weights = jnp.exp(block.height - top)[:, None] * block.decay * scale[None, :]
        return by_log_m, by_parameter, block.first[None, :] * block.growth[:, None], weights
