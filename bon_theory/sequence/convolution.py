r"""Laws of sums, by convolution in log space.

.. math:: \log c_k = \log \sum_j e^{a_j + b_{k-j}}

Every term is positive and carries its own exponent, so nothing cancels or underflows: the error
of :math:`\log c_k` is a few units in the last place of that logarithm, once per doubling of the
length, and a probability :math:`c` has a relative error of about :math:`10^{-15} |\log c|`, also
where it is :math:`e^{-10^5}`. A Fourier transform would leave noise at 1e-16 of the largest one.
Derived here.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._numerics import NOTHING, namespace, numpy_or_program, one_program, safe_log

__all__ = ["log_convolution_power", "log_convolve", "log_sum"]

_BLOCK, _TILE = 16, 1024  # terms and results held at once: what a cache holds


def log_convolve(a: jax.Array, b: jax.Array) -> jax.Array:
    r""":math:`\log` of the convolution of :math:`e^a` and :math:`e^b`, ``[A], [B] -> [A + B - 1]``.

    Costs about ``2 A B`` exponentials, in the memory of the result. ``-inf`` is probability zero.
    """
    a, b = sorted((a, b), key=lambda x: x.shape[0])
    size = a.shape[0] + b.shape[0] - 1
    tile, rows = min(size, _TILE), min(a.shape[0], _BLOCK)
    tiles, blocks = -(-size // tile), -(-a.shape[0] // rows)
    a = _padded(a, 0, blocks * rows - a.shape[0]).reshape(blocks, rows)
    # Entry k - j of b stands at k of the window that begins j places earlier.
    b = _padded(b, blocks * rows - 1, tiles * tile - b.shape[0])
    starts = (blocks - 1 - jnp.arange(blocks)) * rows
    shifts = jnp.arange(tile)[None, :] + (rows - 1 - jnp.arange(rows))[:, None]
    nothing = (jnp.full(tile, NOTHING, b.dtype), jnp.zeros(tile, b.dtype))

    def tile_from(first: jax.Array) -> jax.Array:
        @jax.checkpoint  # backwards, one block at a time as well
        def add(state: tuple[jax.Array, jax.Array], block: tuple[jax.Array, jax.Array]):
            (top, total), (start, weights) = state, block
            window = jax.lax.dynamic_slice(b, (first + start,), (tile + rows - 1,))
            terms = window[shifts] + weights[:, None]
            highest = jax.lax.stop_gradient(jnp.maximum(top, jnp.max(terms, axis=0)))
            new = jnp.sum(jnp.exp(terms - highest[None, :]), axis=0)
            return (highest, total * jnp.exp(top - highest) + new), None

        (top, total), _ = jax.lax.scan(add, nothing, (starts, a))
        return top + jnp.log(total)

    log_sum = jax.lax.map(tile_from, jnp.arange(tiles) * tile).reshape(-1)[:size]
    return jnp.where(log_sum < 0.5 * NOTHING, -jnp.inf, log_sum)  # NaN stays NaN


def _by_numpy(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """:func:`log_convolve` of a few levels, of which NumPy holds all terms at once."""
    a, b = sorted((a, b), key=len)
    b = np.pad(b, len(a) - 1, constant_values=-np.inf)
    terms = np.lib.stride_tricks.sliding_window_view(b, len(a)) + a[::-1]  # [A + B - 1, A]
    top = np.maximum(np.max(terms, axis=1), NOTHING)
    with np.errstate(divide="ignore"):
        return top + np.log(np.sum(np.exp(terms - top[:, None]), axis=1))


@numpy_or_program
def log_convolution_power(a: jax.Array, *, exponent: int = 1) -> jax.Array:
    r"""The law of a sum of ``exponent`` i.i.d. terms, ``[A] -> [exponent·(A - 1) + 1]``.

    By doubling, so three quarters of all the exponentials are in the last convolution. NumPy's
    arrays, of at most some hundred results, are convolved by NumPy and compile nothing.
    """
    convolve: Any = log_convolve if namespace(a) is jnp else _by_numpy
    power = a
    for bit in bin(exponent)[3:]:
        power = convolve(power, power)
        power = convolve(a, power) if bit == "1" else power
    return power


@functools.partial(one_program, static_argnames="axis")
def log_sum(x: jax.Array, axis: int) -> jax.Array:
    r""":math:`\log \sum e^x` along an axis; the gradient is finite where all terms are ``-inf``."""
    top = jax.lax.stop_gradient(jnp.max(x, axis=axis, keepdims=True))
    top = jnp.where(top == -jnp.inf, 0, top)
    return safe_log(jnp.sum(jnp.exp(x - top), axis=axis)) + jnp.squeeze(top, axis)


def _padded(x: jax.Array, before: int, after: int) -> jax.Array:
    return jnp.pad(jnp.maximum(x, NOTHING), (before, after), constant_values=NOTHING)
