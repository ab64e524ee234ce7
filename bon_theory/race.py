r"""Races of noisy scores among n candidates, exactly.

Candidate :math:`i` scores :math:`r(X_i)/\lambda` plus noise and the highest score wins.

*Gumbel noise* picks :math:`i` with probability proportional to :math:`w_i = e^{r_i/\lambda}`: soft
best-of-n. Equivalently each candidate's exponential clock of rate :math:`w_i` rings first, and
integrating over the time of the first ring (derived here; checked against enumeration),

.. math:: \frac{P(x)}{\pi(x)} = w(x) \int_0^\infty e^{-t w(x)}\, g(M(t))\, dt,
          \qquad M(t) = E_\pi e^{-t W},

where :math:`g = \Phi'` is the derivative of the probability generating function of the number of
candidates: :math:`n z^{n-1}` for :math:`n` of them. *Exponential noise* has a closed form on a
discrete law.

The half-line integral is a trapezoidal sum over :math:`t = e^{s}`, :math:`s \in h\mathbb{Z}`,
accumulated in blocks until no later node can matter. Stretches of :math:`s` over which every outcome
either has surely rung or surely has not are jumped over: there the integrand is a pure exponential,
whose sum is a geometric series that the next node carries. So the cost grows with the number of
outcomes times the smaller of the range of :math:`r/\lambda` and the number of separate clusters of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from bon_theory.numerics import linear_map, log1mexp, log_diff_exp, log_mean_power, safe_log

__all__ = ["exponential_race_log_ratio", "gumbel_race_log_ratio"]

# log g as a function of (log M, parameter); increasing in log M.
LogSlope = Callable[[jax.Array, jax.Array], jax.Array]

_BLOCK = 16  # nodes per step of the loop
_LEAST_LOG_M = -1e18  # stands for log 0, so that 0 · log 0 = 0 at n = 1


class _Block(NamedTuple):
    """One block of lattice nodes s_b and what every use of them needs; ``[S]``, ``[K]``, ``[S, K]``."""

    log_first: jax.Array  # [K] log of e^{s} w at the first node
    first: jax.Array  # [K] its exponential X, capped to stay finite
    growth: jax.Array  # [S] e^{s_b - s_first}
    decay: jax.Array  # [S, K] e^{-(X_b - X_first)}
    share: jax.Array  # [S, K] posterior π e^{-X_b} / M_b
    log_m: jax.Array  # [S] log M
    height: jax.Array  # [S] log(g(M) e^{s_b - s_first}) + log of the node's quadrature weight


def gumbel_race_log_ratio(
    log_probs: jax.Array, log_weights: jax.Array, parameter: jax.Array, log_slope: LogSlope
) -> jax.Array:
    r""":math:`\log P/\pi` of the Gumbel race; see the module's formula.

    Args:
        log_probs: :math:`\log\pi`, ``[K]``, ``-inf`` allowed (the ratio is still finite there).
        log_weights: :math:`\log w`, ``[K]``, finite; a common shift does not matter.
        parameter: scalar handed to ``log_slope``.
        log_slope: :math:`(\log M, \mathrm{parameter}) \mapsto \log g(M)`; a plain function, hashable.

    Differentiable once, forwards and backwards, through its own integral formulas; a second
    derivative raises ``NotImplementedError``.
    """
    return _gumbel_race(log_slope, log_probs, log_weights, parameter)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _gumbel_race(
    log_slope: LogSlope, log_probs: jax.Array, log_weights: jax.Array, parameter: jax.Array
) -> jax.Array:
    # The integrand over s is X e^{-X} g(M) with X = e^s w; log X is exact where it is near 0.
    def accumulate(log_ratio: jax.Array, block: _Block) -> jax.Array:
        top = jnp.max(block.height)
        inner = jnp.sum(jnp.exp(block.height - top)[:, None] * block.decay, axis=0)
        return jnp.logaddexp(log_ratio, block.log_first - block.first + top + jnp.log(inner))

    nothing = jnp.full_like(log_weights, -jnp.inf)
    return _over_nodes(log_slope, log_probs, log_weights, parameter, accumulate, nothing)


@_gumbel_race.defjvp
def _gumbel_race_jvp(log_slope: LogSlope, primals: Any, tangents: Any) -> Any:
    primals = jax.tree.map(_first_order_only, primals)
    log_probs, log_weights, parameter = primals
    log_ratio = _gumbel_race(log_slope, *primals)
    sweep = functools.partial(_over_nodes, log_slope, *primals)

    size = log_weights.shape[0]

    # One vector [2K + 1] in and out: a linear map has to be from a space to itself.
    def join(by_probs: jax.Array, by_weights: jax.Array, by_parameter: jax.Array) -> jax.Array:
        return jnp.concatenate([by_probs, by_weights, by_parameter[None]])

    def split(vector: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        return vector[:size], vector[size:-1], vector[-1]

    def node_weights(block: _Block) -> jax.Array:
        """p(s | k): the integrand of outcome k at node s over its integral; sums to one over s."""
        top = jnp.max(block.height)
        scale = jnp.exp(block.log_first - block.first + top - log_ratio)
        return jnp.exp(block.height - top)[:, None] * block.decay * scale

    def slopes(block: _Block) -> tuple[jax.Array, jax.Array]:
        def height(log_m: jax.Array, parameter: jax.Array) -> jax.Array:
            return jnp.maximum(log_slope(log_m, parameter), _LEAST_LOG_M)

        return jax.vmap(jax.grad(height, argnums=(0, 1)), in_axes=(0, None))(
            block.log_m, parameter
        )

    def forward(tangent: jax.Array) -> jax.Array:
        d_log_probs, d_log_weights, d_parameter = split(tangent)

        def accumulate(total: jax.Array, block: _Block) -> jax.Array:
            by_log_m, by_parameter = slopes(block)
            x = block.first * block.growth[:, None]
            d_log_m = jnp.sum(block.share * (d_log_probs - x * d_log_weights), axis=1)
            d_height = by_log_m * d_log_m + by_parameter * d_parameter
            weights = node_weights(block)
            weighted_x = jnp.where(weights > 0, weights * x, 0)
            return total + d_height @ weights - weighted_x.sum(0) * d_log_weights

        total = sweep(accumulate, jnp.zeros_like(log_weights))
        return join(total, jnp.zeros_like(total), jnp.zeros_like(parameter))

    def backward(cotangent: jax.Array) -> jax.Array:
        received = split(cotangent)[0]

        def accumulate(totals: Any, block: _Block) -> Any:
            to_log_probs, to_log_weights, to_parameter = totals
            by_log_m, by_parameter = slopes(block)
            x = block.first * block.growth[:, None]
            weights = node_weights(block)
            weighted_x = jnp.where(weights > 0, weights * x, 0)
            to_height = weights @ received
            to_log_m = to_height * by_log_m
            shared_x = jnp.where(block.share > 0, block.share * x, 0)
            return (
                to_log_probs + to_log_m @ block.share,
                to_log_weights - to_log_m @ shared_x - weighted_x.sum(0) * received,
                to_parameter + to_height @ by_parameter,
            )

        zeros = (jnp.zeros_like(log_weights), jnp.zeros_like(log_weights), jnp.zeros_like(parameter))
        return join(*sweep(accumulate, zeros))

    # A zero-probability outcome's log has no meaningful tangent and no influence.
    d_log_probs, d_log_weights, d_parameter = tangents
    d_log_probs = jnp.where(log_probs > -jnp.inf, d_log_probs, 0)
    moved = linear_map(forward, backward, join(d_log_probs, d_log_weights, d_parameter))
    return log_ratio, d_log_weights + split(moved)[0]


@jax.custom_jvp
def _first_order_only(x: jax.Array) -> jax.Array:
    return x


@_first_order_only.defjvp
def _no_second_order(primals: Any, tangents: Any) -> Any:
    raise NotImplementedError(
        "soft best-of-n can be differentiated once: its derivative is computed by its own loop, which "
        "is not differentiable again. Take finite differences of the gradient for curvature."
    )


def _over_nodes(
    log_slope: LogSlope,
    log_probs: jax.Array,
    log_weights: jax.Array,
    parameter: jax.Array,
    accumulate: Callable[[Any, _Block], Any],
    initial: Any,
) -> Any:
    """Fold ``accumulate`` over the blocks of lattice nodes, skipping stretches where nothing happens."""
    dtype = log_weights.dtype
    double = dtype == jnp.float64
    step = 0.25 if double else 0.5  # trapezoidal error exp(-π²/step)
    start_error = 1e-8 if double else 1e-4  # squared: relative error of the first node's series
    cut = 44.0 if double else 22.0  # e^{-cut} is nothing
    largest = jnp.finfo(dtype).max ** 0.5
    support = log_probs > -jnp.inf
    probs = jnp.exp(log_probs)
    offsets = step * jnp.arange(_BLOCK, dtype=dtype)
    growth = jnp.exp(offsets)
    last_log_weight = jnp.min(log_weights)
    log_g = functools.partial(log_slope, parameter=parameter)
    sensitivity = jax.grad(lambda log_m: log_g(log_m))

    def next_start(active: jax.Array) -> jax.Array:
        """Where, in s, the first of the ``active`` outcomes begins to matter; +inf if there are none."""
        weights = jnp.where(active, log_weights, -jnp.inf)
        log_mass = jax.nn.logsumexp(jnp.where(active, log_probs, -jnp.inf))
        log_mass = jnp.clip(log_mass, _LEAST_LOG_M, 0)
        log_mean = jax.nn.logsumexp(log_probs + weights) - log_mass
        log_pull = safe_log(sensitivity(log_mass)) + log_mean
        return jnp.log(start_error) - jnp.logaddexp(jnp.max(weights), log_pull)

    def block_at(position: jax.Array, skipped: jax.Array) -> _Block:
        log_first = position * step + log_weights
        first = jnp.minimum(jnp.exp(log_first), largest)
        decay = jnp.exp(-first * (growth[:, None] - 1))
        # M near one from its complement; otherwise from scaled terms that cannot all underflow.
        complement = -jnp.sum(probs * jnp.expm1(-first * growth[:, None]), axis=1)
        scaled = log_probs - first
        shift = jnp.max(scaled)
        terms = jnp.exp(scaled - shift) * decay
        total = terms.sum(1)
        tiny = jnp.finfo(dtype).tiny
        share = terms / jnp.maximum(total, tiny)[:, None]
        near_one = complement < 0.5
        log_m = jnp.where(
            near_one, jnp.log1p(-jnp.where(near_one, complement, 0)), shift + jnp.log(total)
        )
        log_m = jnp.maximum(log_m, _LEAST_LOG_M)
        height = offsets + jnp.log(step) + jnp.maximum(log_g(log_m), _LEAST_LOG_M)
        # Σ_{k=0}^{skipped} e^{-k h}: this node also stands for the skipped ones below it.
        series = jnp.expm1(-(skipped + 1) * step) / jnp.expm1(-step)
        height = height.at[0].add(jnp.log(series))
        return _Block(log_first, first, growth, decay, share, log_m, height)

    def advance(state: Any) -> Any:
        position, skipped, top, carry = state
        block = block_at(position, skipped)
        carry = accumulate(carry, block)
        top = jnp.maximum(top, position * step + jnp.max(block.height))
        # What has not rung yet by the next node, and what is left of the rest.
        following = position + _BLOCK
        x = jnp.exp(following * step + log_weights)
        waiting = x < 1
        log_left = jax.nn.logsumexp(jnp.where(waiting, -jnp.inf, log_probs - x))
        log_waiting = jax.nn.logsumexp(jnp.where(waiting, log_probs, -jnp.inf))
        log_waiting = jnp.clip(log_waiting, _LEAST_LOG_M, 0)
        log_pull = safe_log(sensitivity(log_waiting))  # at n = 1 nothing else is felt
        quiet = jnp.min(jnp.where(waiting, jnp.inf, x)) > cut
        quiet &= log_left + log_pull < log_waiting - cut
        none_waits = ~jnp.any(waiting)
        done = none_waits & (jnp.min(x) > cut)
        # No later node exceeds the end of the lattice times g at the current M.
        bound = jnp.log(cut) - last_log_weight + log_g(block.log_m[-1])
        done = done | (bound < top - cut)
        jump = jnp.floor(next_start(waiting) / step)
        target = jnp.where(quiet & ~none_waits, jnp.maximum(following, jump), following)
        return jnp.where(done, jnp.inf, target), target - following, top, carry

    start = jnp.floor(next_start(jnp.ones_like(support)) / step)
    initial_state = (start, jnp.full_like(start, jnp.inf), jnp.full_like(start, -jnp.inf), initial)
    return jax.lax.while_loop(lambda state: state[0] < jnp.inf, advance, initial_state)[-1]


def exponential_race_log_ratio(
    log_probs: jax.Array, log_weights: jax.Array, n: jax.Array
) -> jax.Array:
    r""":math:`\log P/\pi` of :math:`\arg\max_i r_i/\lambda + \mathrm{Exp}(1)`, equivalently :math:`\arg\max w_i/U_i`.

    With :math:`H(s) = E_\pi[(1 - w/s)_+]` the probability that a candidate scores at most
    :math:`s`, and outcomes sorted by :math:`w`, on :math:`[w_k, w_{k+1}]` it is
    :math:`A_k - B_k/s` (:math:`A_k, B_k` running sums of :math:`\pi` and :math:`\pi w`), so

    .. math:: \frac{P(x)}{\pi(x)} = w(x) \sum_{k \ge x} \frac{H(w_{k+1})^n - H(w_k)^n}
              {H(w_{k+1}) - H(w_k)} \Bigl(\frac1{w_k} - \frac1{w_{k+1}}\Bigr), \qquad w_{K+1} = \infty .

    Every term is positive and nothing cancels. Arrays ``[K]``; derived here, for the mechanism of [U].
    """
    order = jnp.argsort(log_weights)
    inverse = jnp.argsort(order)
    log_probs, log_w = log_probs[order], log_weights[order]
    nothing = -1e30  # stands for -inf; finite, so that gradients of the running sums are too
    log_gap = jnp.maximum(log_diff_exp(-log_w, -jnp.append(log_w[1:], jnp.inf)), nothing)
    finite = jnp.maximum(log_probs, nothing)
    log_b = jax.lax.cumlogsumexp(finite + log_w)
    # H rises by B_k (1/w_k - 1/w_{k+1}) from one outcome to the next; its complement is what is above.
    rises = jax.lax.cumlogsumexp(jnp.maximum(log_b + log_gap, nothing))
    log_above = jnp.append(jax.lax.cumlogsumexp(finite, reverse=True)[1:], nothing)
    complement = jnp.minimum(jnp.logaddexp(log_above, log_b - log_w), 0)
    lower = jnp.insert(rises[:-1], 0, nothing)
    log_h = jnp.where(lower <= complement, lower, log1mexp(complement))
    log_h = jnp.where(log_h > 0.5 * nothing, log_h, -jnp.inf)
    log_next = jnp.append(log_h[1:], 0)
    terms = log_mean_power(n, log_h, jnp.maximum(log_next, log_h)) + log_gap
    tail = jax.lax.cumlogsumexp(jnp.maximum(terms, nothing), reverse=True)
    return (log_w + tail)[inverse]
