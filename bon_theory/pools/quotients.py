r"""Means of quotients :math:`\sum_i g_i w_i / \sum_j w_j` over subsets of a pool, as integrals.

Writing the quotient as an integral turns it into products,

.. math:: E_S \sum_{i \in S} \frac{g_i w_i}{\sum_{j \in S} w_j}
          = \int_0^\infty q_n(t)\,dt, \qquad
          q_n(t) = E_S \sum_{i \in S} g_i w_i \prod_{j \in S} x_j, \quad x_j = e^{-t w_j}.

Answer by answer, for all sizes k of subsets of the first m at once: such a subset holds the m-th
answer with probability k/m, so that with :math:`p_k = E_S \prod_{j \in S} x_j`

.. math:: q_k \leftarrow q_k + \tfrac km \bigl(x_m (q_{k-1} + g_m w_m p_{k-1}) - q_k\bigr),
          \qquad p_k \leftarrow p_k + \tfrac km (x_m p_{k-1} - p_k),

means of means, which neither overflow nor cancel. Drawing with replacement instead,
:math:`q_n = n M^{n-1} G` with the means M of :math:`x` and G of :math:`g w x`. The integral is a
trapezoidal sum in :math:`\log t`, whose error at spacing h is about :math:`e^{-\pi^2/h}`. Where
:math:`n t` is small, :math:`t q` is a polynomial whose first coefficient is known: its sum over all
nodes below the first comes from the first few. Derived here.
"""

from __future__ import annotations

import functools
import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from bon_theory.pools.curves import is_answer
from bon_theory.pools.pool import Pool

__all__ = ["Kernel", "integral", "log_weights"]

Kernel = Literal["subsets", "resampled", "jackknife", "places", "law"]

_STEP = 0.3  # of log t: an error of 6e-14
_SERIES = 0.03  # n t at the first node; below, the integrand is ...
_DEGREE = 7  # ... this polynomial, to 1e-15
_NOTHING = 38.0  # e^-38, and its square root 1e-17 of subsets, are left out
_ROWS, _NODES = 16, 32  # of a tile: its state stays in the cache
_APART = 45.0  # a longer gap between neighbouring scores, in temperatures, is as good as one
_RUNG = 50.0  # a rate e^50 is as good as any


def log_weights(pool: Pool, temperature: float) -> NDArray[np.float64]:
    """``[B, N]``, 0 for the best answer, and nothing beyond a prompt's count."""
    real = is_answer(pool)
    with np.errstate(over="ignore", invalid="ignore"):
        gaps = np.diff(pool.scores, axis=1) / temperature
    gaps = np.minimum(np.where(real[:, 1:], gaps, 0), _APART)
    above = np.cumsum(gaps[:, ::-1], axis=1)[:, ::-1]
    return np.where(real, -np.pad(above, ((0, 0), (0, 1))), -np.inf)


def integral(
    pool: Pool,
    numbers: NDArray[np.int64],
    weights: NDArray[np.float64],
    g: NDArray[np.float64],
    start: NDArray[np.float64],
    kernel: Kernel,
) -> NDArray[np.float64]:
    """``[B, G, ...]``: the integral of q over t, given ``start``, which is q at 0.

    Args:
        pool: the answers.
        numbers: ``[G]`` of candidates.
        weights: ``[B, N]`` logarithms, 0 for the best.
        g: ``[B, N]``, 0 beyond a prompt's count; of "places", what a tie with the answer before
            counts beyond the usual one, 0 where there is none; "law" does not read it.
        start: ``[B, G, ...]``.
        kernel: what q is.
    """
    row, first = _tiles(pool.counts, weights, numbers)
    time = _SERIES / int(numbers.max())
    correction = _below_the_first()
    known = time * (_STEP / math.expm1(_STEP) - correction @ np.exp(_STEP * np.arange(_DEGREE - 1)))
    found = known * start
    node_weights = np.full((2, _NODES), _STEP)
    node_weights[1, : _DEGREE - 1] += correction
    one = functools.partial(_tile, kernel=kernel, numbers=tuple(numbers.tolist()))
    shares = np.where(is_answer(pool), 1 / np.arange(1.0, weights.shape[1] + 1), 0)
    tables = weights.T, g.T, shares.T

    def total(at: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Of some tiles: their prompts, and their parts of the integral ``[T, G, ...]``."""
        few = row[at : at + _ROWS]
        part = np.resize(np.arange(at, at + few.size), _ROWS)  # the last ones full
        columns = [table[:, row[part]] for table in tables]
        at_nodes = node_weights[(first[part] == first[0]).astype(int)]
        with jax.enable_x64(True):  # of this thread
            parts = one(*columns, pool.counts[row[part]] * 1.0, first[part], at_nodes)
            return few, np.moveaxis(np.asarray(parts), 1, 0)[: few.size]

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for few, parts in threads.map(total, range(0, row.size, _ROWS)):
            np.add.at(found, few, parts)
    return found


def _below_the_first() -> NDArray[np.float64]:
    r""":math:`c_j` with :math:`h \sum_{i \ge 1} f(e^{-ih}) = \sum_j c_j f(e^{jh})`.

    For polynomials f of the stated degree without a constant and a linear term.
    """
    powers = np.arange(2, _DEGREE + 1)
    values = np.exp(_STEP * np.arange(_DEGREE - 1))[None] ** powers[:, None]
    return np.asarray(np.linalg.solve(values, _STEP / np.expm1(_STEP * powers)), np.float64)


def _tiles(
    counts: NDArray[np.int64], weights: NDArray[np.float64], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Prompt and log t at the first node of every tile."""
    # But for 1e-17 of subsets, the best of n is among those from this place on.
    place = np.ceil(counts * 10 ** (-17 / int(numbers.min()))).astype(np.intp) - 1
    matters = np.take_along_axis(weights, np.maximum(place, 0)[:, None], axis=1)[:, 0]
    first = math.log(_SERIES / int(numbers.max()))
    width = _STEP * _NODES
    many = np.ceil((math.log(_NOTHING) - matters - first) / width).astype(np.intp)
    row = np.repeat(np.arange(counts.size), many)
    tile = np.arange(row.size) - np.repeat(np.cumsum(many) - many, many)
    return row, np.asarray(first + width * tile, np.float64)


@functools.partial(jax.jit, static_argnames=("kernel", "numbers"))
def _tile(
    weights: jax.Array,
    g: jax.Array,
    shares: jax.Array,
    counts: jax.Array,
    start: jax.Array,
    node_weights: jax.Array,
    *,
    kernel: Kernel,
    numbers: tuple[int, ...],
) -> jax.Array:
    """The part of the integral in each tile, ``[G, R, ...]``."""
    rates = jnp.exp(jnp.minimum(weights + start[None], _RUNG))
    return _KERNELS[kernel]((rates, g, shares), counts, node_weights, numbers)


def _terms(row: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of one answer to each prompt: t w and x at all nodes, ``[R, S]``, and 1/m."""
    rate, _, share = (y[:, None] for y in row)
    rate = rate * jnp.exp(_STEP * jnp.arange(_NODES, dtype=rate.dtype))[None]
    return rate, jnp.exp(-rate), share


def _one_less(table: jax.Array, first: float) -> jax.Array:
    """Subsets one smaller, from those of 1 to n: of the empty one it is ``first``."""
    return jnp.concatenate([jnp.full_like(table[:1], first), table[:-1]])


def _subsets(rows: Any, counts: jax.Array, at: jax.Array, numbers: tuple[int, ...]) -> jax.Array:
    most = max(numbers)
    k = jnp.arange(1, most + 1, dtype=counts.dtype)[:, None, None]

    def add(state: tuple[jax.Array, jax.Array], row: Any) -> tuple[Any, None]:
        p, q = state
        rate, x, share = (y[None] for y in _terms(row))
        earned = row[1][None, :, None] * rate * x
        p_before = _one_less(p, 1.0)
        q = q + k * share * (x * _one_less(q, 0.0) + earned * p_before - q)
        p = p + k * share * (x * p_before - p)
        return (p, q), None

    zeros = jnp.zeros((most, *at.shape), at.dtype)
    (_, q), _ = jax.lax.scan(add, (zeros, zeros), rows)
    return jnp.sum(at[None] * q[np.array(numbers) - 1], axis=-1)


def _places(rows: Any, counts: jax.Array, at: jax.Array, numbers: tuple[int, ...]) -> jax.Array:
    """For g of an answer the number of answers in the subset that come before it.

    Answers ascend, so that these are the k − 1 others when it is the last of k. Of two that tie,
    one counts for the other, which is half for each; what is to be counted beyond that is ``g``
    times u, the mean of the product times the number of those before it that it ties with.
    """
    most = max(numbers)
    k = jnp.arange(1, most + 1, dtype=counts.dtype)[:, None, None]

    def add(state: tuple[jax.Array, jax.Array, jax.Array], row: Any) -> tuple[Any, None]:
        p, q, u = state
        rate, x, share = (y[None] for y in _terms(row))
        extra = row[1][None, :, None]
        u = jnp.where(extra == 0, 0, u)
        p_before, u_before = _one_less(p, 1.0), _one_less(u, 0.0)
        places = (k - 1) * p_before + extra * u_before
        q = q + k * share * (x * (_one_less(q, 0.0) + rate * places) - q)
        u = u + k * share * (x * (u_before + p_before) - u)
        p = p + k * share * (x * p_before - p)
        return (p, q, u), None

    zeros = jnp.zeros((most, *at.shape), at.dtype)
    (_, q, _), _ = jax.lax.scan(add, (zeros, zeros, zeros), rows)
    return jnp.sum(at[None] * q[np.array(numbers) - 1], axis=-1)


def _sums(rows: Any, like: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Over answers of x and of g t w x."""

    def add(state: Any, row: Any) -> tuple[Any, None]:
        rate, x, share = _terms(row)
        earned = row[1][:, None] * rate * x
        return (state[0] + jnp.where(share > 0, x, 0), state[1] + earned), None

    return jax.lax.scan(add, (jnp.zeros_like(like), jnp.zeros_like(like)), rows)[0]


def _power(mean: jax.Array, earned: jax.Array, numbers: tuple[int, ...]) -> jax.Array:
    n = jnp.asarray(numbers, mean.dtype)[:, None, None]
    return n * jnp.maximum(mean, 0)[None] ** (n - 1) * earned[None]


def _resampled(rows: Any, counts: jax.Array, at: jax.Array, numbers: tuple[int, ...]) -> jax.Array:
    total, earned = (y / counts[:, None] for y in _sums(rows, at))
    return jnp.sum(at[None] * _power(total, earned, numbers), axis=-1)


def _jackknife(rows: Any, counts: jax.Array, at: jax.Array, numbers: tuple[int, ...]) -> jax.Array:
    total, earned = _sums(rows, at)
    size = counts[:, None]

    def add(state: jax.Array, row: Any) -> tuple[jax.Array, None]:
        rate, x, share = _terms(row)
        own = row[1][:, None] * rate * x
        left = _power((total - x) / (size - 1), (earned - own) / (size - 1), numbers)
        return state + jnp.where(share > 0, left, 0), None

    zeros = jnp.zeros((len(numbers), *at.shape), at.dtype)
    left_out = jax.lax.scan(add, zeros, rows)[0]
    whole = _power(total / size, earned / size, numbers)
    return jnp.sum(at[None] * (size[None] * whole - ((size - 1) / size)[None] * left_out), axis=-1)


def _law(rows: Any, counts: jax.Array, at: jax.Array, numbers: tuple[int, ...]) -> jax.Array:
    """``[G, R, N]``: drawing with replacement, for g of each answer 1 at it and 0 elsewhere."""
    mean = _sums(rows, at)[0] / counts[:, None]
    others = _power(mean, at / counts[:, None], numbers)

    def one(state: None, row: Any) -> tuple[None, jax.Array]:
        rate, x, _ = _terms(row)
        return None, jnp.sum(others * (rate * x)[None], axis=-1)

    return jnp.moveaxis(jax.lax.scan(one, None, rows)[1], 0, -1)


_KERNELS = {
    "subsets": _subsets,
    "resampled": _resampled,
    "jackknife": _jackknife,
    "places": _places,
    "law": _law,
}
