r"""Means of a beta density over intervals of ranks, for order statistics at real :math:`n, k`.

With :math:`s` the rank and :math:`x = \log\frac{s}{1-s}`, the Beta(:math:`\alpha, \beta`) density
times :math:`ds/dx` is :math:`e^{\varphi(x)}/Z`,

.. math:: \varphi(x) = \alpha \log s + \beta \log(1 - s), \qquad Z = \int e^{\varphi(x)}\,dx,

log-concave and, for :math:`\alpha, \beta \ge 1`, falling at least like :math:`e^{-|x|}`. An
interval is cut at the mode and, on either side, where :math:`e^\varphi` has fallen by
:math:`e^{-45}`; Gauss--Legendre nodes give each of the two pieces to rounding. :math:`Z` is one
more interval, so that no gamma function is needed and all parameters have derivatives. Derived
here.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._numerics import log1mexp, log_expm1_quotient, safe_log

__all__ = ["log_mean_beta", "log_odds"]

_SIZE = 64
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(_SIZE)  # on [-1, 1]
_FALL = 45.0
_FAR = 800.0  # log-odds beyond which the other end of an interval is as good as 0 or 1


def log_odds(log_u: jax.Array) -> jax.Array:
    r""":math:`\log\frac{u}{1-u}`, infinite at 0 and 1."""
    return log_u - log1mexp(log_u)


def log_mean_beta(
    alpha: jax.Array,
    beta: jax.Array,
    log_a: jax.Array,
    log_b: jax.Array,
    log_weight: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
    r"""Log of the mean Beta(:math:`\alpha, \beta`) density over the ranks [a, b], ``[..., K]``.

    At :math:`a = b` it is the density there. Parameters ``[..., 1]`` are at least 1. With
    ``log_weight`` the density is weighted: it takes log-odds of ranks ``[..., K, 2, N]``.
    """
    mode = jax.lax.stop_gradient(jnp.log(alpha) - jnp.log(beta))
    low, high = _ends(mode, _and(log_odds(log_a), -jnp.inf), _and(log_odds(log_b), jnp.inf))
    width, peak = high - low, jnp.clip(mode, low, high)

    # Two pieces, [..., K + 1, 2], downwards and upwards from the peak.
    length = jnp.minimum(jnp.stack([peak - low, high - peak], axis=-1), _reach(alpha, beta, peak))
    apart = (width > 0)[..., None]
    point = jnp.broadcast_to(jnp.arange(2) == 1, length.shape).astype(length.dtype)
    share = jnp.where(apart, length / jnp.where(apart, width[..., None], 1), point)
    nodes, weights, signs = (
        jnp.asarray(values, peak.dtype).reshape((1,) * peak.ndim + values.shape)
        for values in ((_NODES[None] + 1) / 2, _WEIGHTS[None] / 2, np.array([[-1.0], [1.0]]))
    )
    steps = length[..., None] * signs * nodes
    a, b, start = (x[..., None, None] for x in (alpha, beta, peak))
    exponent = _change(a, b, start, steps)
    if log_weight is not None:
        weight = log_weight((start + steps)[..., :-1, :, :])
        exponent += jnp.pad(weight, [(0, 0)] * (weight.ndim - 3) + [(0, 1), (0, 0), (0, 0)])
    total = jnp.sum(share[..., None] * weights * jnp.exp(exponent), axis=(-2, -1))

    # b - a = s_b (1 - s_a) (1 - e^{-width}): the rounding of a small width cancels.
    log_size = log_expm1_quotient(width) - jax.nn.softplus(-high) - jax.nn.softplus(low)
    mean = _change(alpha, beta, mode, peak - mode) + safe_log(total) - log_size
    return mean[..., :-1] - mean[..., -1:]


def _and(x: jax.Array, last: float) -> jax.Array:
    """``x`` with one more entry."""
    return jnp.concatenate([x, jnp.full_like(x[..., :1], last)], axis=-1)


def _ends(mode: jax.Array, low: jax.Array, high: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Log-odds of the ends, made finite; where both are at one end, anything that is."""
    low = jnp.where(low == jnp.inf, _FAR, low)
    high = jnp.where(high == -jnp.inf, -_FAR, high)
    high = jnp.minimum(high, jnp.maximum(low, mode) + _FAR)
    return jnp.maximum(low, jnp.minimum(high, mode) - _FAR), high


def _change(alpha: jax.Array, beta: jax.Array, start: jax.Array, step: jax.Array) -> jax.Array:
    """φ(start + step) - φ(start), without cancellation for small steps."""
    small = jnp.abs(step) < 1
    near = jnp.where(small, step, 0)
    below = jnp.where(  # of log 1/s, then of log 1/(1 - s)
        small,
        jnp.log1p(jax.nn.sigmoid(-start) * jnp.expm1(-near)),
        jax.nn.softplus(-start - step) - jax.nn.softplus(-start),
    )
    above = jnp.where(
        small,
        jnp.log1p(jax.nn.sigmoid(start) * jnp.expm1(near)),
        jax.nn.softplus(start + step) - jax.nn.softplus(start),
    )
    return -alpha * below - beta * above


def _reach(alpha: jax.Array, beta: jax.Array, peak: jax.Array) -> jax.Array:
    """How far below and above the peak φ falls by 45, ``[..., 2]``, to a few per cent."""
    alpha, beta, peak = jax.lax.stop_gradient((alpha, beta, peak))
    alpha, beta, start = alpha[..., None], beta[..., None], peak[..., None]
    ahead = jnp.concatenate([alpha, beta], axis=-1)
    signs = jnp.asarray([-1, 1], start.dtype).reshape((1,) * peak.ndim + (2,))
    # The slope is at most α + β; the fall is at least ahead · (d - 1 - log(1 + ahead/behind)).
    low = jnp.log(_FALL / (alpha + beta)) + 0 * (ahead + start)
    high = jnp.log(_FALL / ahead + 1 + jnp.log1p(ahead / ahead[..., ::-1])) + 0 * start

    def halve(_: int, bracket: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        low, high = bracket
        middle = (low + high) / 2
        enough = _change(alpha, beta, start, signs * jnp.exp(middle)) < -_FALL
        return jnp.where(enough, low, middle), jnp.where(enough, middle, high)

    return jnp.exp(jax.lax.fori_loop(0, 9, halve, (low, high))[1])
