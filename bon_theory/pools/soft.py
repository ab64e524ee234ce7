r"""The reward of soft best-of-n from a pool: all subsets, or the pool drawn from again.

A subset :math:`S` of :math:`n` answers returns its :math:`i`-th with probability
:math:`w_i / \sum_{j \in S} w_j`, :math:`w = e^{r/\lambda}`. Writing the quotient as an integral,
the mean over all subsets is

.. math:: E_S \sum_{i \in S} \frac{g_i w_i}{\sum_{j \in S} w_j}
          = \int_0^\infty q_n(t)\,dt, \qquad
          q_n(t) = E_S \sum_{i \in S} g_i w_i \prod_{j \in S} x_j, \quad x_j = e^{-t w_j}.

Answer by answer, for all sizes k of subsets of the first m at once: such a subset holds the m-th
answer with probability k/m, so that with :math:`p_k = E_S \prod_{j \in S} x_j`

.. math:: q_k \leftarrow q_k + \tfrac km \bigl(x_m (q_{k-1} + g_m w_m p_{k-1}) - q_k\bigr),
          \qquad p_k \leftarrow p_k + \tfrac km (x_m p_{k-1} - p_k),

means of means, which neither overflow nor cancel. Drawing with replacement instead,
:math:`q_n = n M^{n-1} G` with the means M of :math:`x` and G of :math:`g w x`. The integral is a
trapezoidal sum in :math:`\log t`, whose error at spacing h is about :math:`e^{-\pi^2/h}`; below its
first node the integrand is a straight line in t, and summed in closed form. Derived here.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike, NDArray

from bon_theory._arguments import shown
from bon_theory.pools.curves import Curve, checked_numbers, checked_values, is_answer
from bon_theory.pools.pool import Pool

__all__ = ["soft_best_of_n_curve"]

Estimate = Literal["subsets", "resampled", "jackknife"]

_STEP = 0.3  # of log t: an error of 6e-14
_LINEAR = 1e-5  # n t below which the integrand is a straight line, to 1e-15
_NOTHING = 38.0  # e^-38, and its square root 1e-17 of subsets, are left out
_ROWS, _NODES = 16, 32  # of a tile: its state stays in the cache
_APART = 45.0  # a longer gap between neighbouring scores, in temperatures, is as good as one
_RUNG = 50.0  # a rate e^50 is as good as any


def soft_best_of_n_curve(
    pool: Pool,
    *,
    n: ArrayLike,
    temperature: ArrayLike,
    of: ArrayLike | None = None,
    estimate: Estimate = "subsets",
) -> Curve:
    r"""Mean score of soft best-of-n, at every pair of an n and a temperature.

    .. math:: \binom Nn^{-1} \sum_{|S| = n} \sum_{i \in S}
              \frac{e^{r_i/\lambda}}{\sum_{j \in S} e^{r_j/\lambda}}\; g_i

    Args:
        pool: the answers.
        n: whole numbers of candidates, at most the answers that every prompt has.
        temperature: :math:`\lambda > 0`, one or several. The work grows with the range of the
            scores over the least of them; at 0 it is :func:`best_of_n_curve`.
        of: as in :func:`best_of_n_curve`.
        estimate: "subsets", all of them exactly, which is unbiased (default); "resampled", n draws
            from the pool with replacement, which is exact for the pool and biased for the model;
            "jackknife", that with its bias of order 1/N taken off.

    Returns:
        The curve at all pairs, those of the first temperature first; rounding leaves some 1e-13 of
        the values' spread.

    Raises:
        ValueError: ``n`` or ``of`` as in :func:`best_of_n_curve`, for one answer less with
            "jackknife"; a temperature is not positive and finite; ``estimate`` is unknown.

    Example:
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[0.0, 0.5, 1.0]])
        >>> bt.pools.soft_best_of_n_curve(pool, n=[1, 2, 3], temperature=0.5).mean.round(6)
        array([0.5     , 0.703952, 0.787605])

    Derived here; the law with replacement is that of [V] Lemma 1.
    """
    if estimate not in _KERNELS:
        raise ValueError(f"estimate must be one of {', '.join(_KERNELS)}, got {shown(estimate)}.")
    temperatures = np.atleast_1d(np.asarray(temperature, np.float64))
    if temperatures.ndim != 1 or not np.all((temperatures > 0) & np.isfinite(temperatures)):
        raise ValueError(
            f"temperature must be positive and finite, got {shown(temperature)}: "
            "at 0 take best_of_n_curve."
        )
    left_out = int(estimate == "jackknife")
    numbers = checked_numbers(pool, n, lambda counts: counts - left_out)
    values = checked_values(pool, of)
    parts = [_curve(pool, numbers, scale, values, estimate) for scale in temperatures.tolist()]
    return Curve(
        np.tile(numbers, temperatures.size),
        np.concatenate(parts, axis=1),
        pool.weights,
        np.repeat(temperatures, numbers.size),
    )


def _curve(
    pool: Pool,
    numbers: NDArray[np.int64],
    temperature: float,
    values: NDArray[np.float64],
    estimate: Estimate,
) -> NDArray[np.float64]:
    """``[B, G]`` at one temperature."""
    real, counts = is_answer(pool), pool.counts[:, None]
    g = np.where(real, values, 0)
    centre = np.sum(g / counts, axis=1, keepdims=True)
    g = np.where(real, g - centre, 0)  # what is common to all answers makes no errors
    log_weights = _log_weights(pool, real, temperature)
    row, start = _tiles(pool.counts, log_weights, numbers)
    earned = np.zeros((pool.num_prompts, numbers.size))
    first_node = np.zeros_like(earned)
    with jax.enable_x64(True):
        kernel = functools.partial(_integral, kernel=estimate, numbers=tuple(numbers.tolist()))
        tables = log_weights.T, g.T
        shares = np.where(real, 1 / np.arange(1.0, real.shape[1] + 1), 0).T
        pending = []
        for at in range(0, row.size, _ROWS):
            part = np.resize(np.arange(at, min(at + _ROWS, row.size)), _ROWS)  # the last one full
            few = row[part]
            columns = [x[:, few] for x in (*tables, shares)]
            pending.append(kernel(*columns, pool.counts[few] * 1.0, start[part]))
        for at, (total, first) in zip(range(0, row.size, _ROWS), pending, strict=True):
            few = row[at : at + _ROWS]
            np.add.at(earned, few, np.asarray(total).T[: few.size])
            is_first = start[at : at + _ROWS] == start[0]
            first_node[few[is_first]] = np.asarray(first).T[: few.size][is_first]
    # Nodes below the first: the line from the known value at t = 0 through that at the first node.
    t = _first_time(numbers)
    level = (
        numbers * np.mean(g * np.exp(log_weights), axis=1, keepdims=True) * (real.shape[1] / counts)
    )
    earned += _STEP * t * level / math.expm1(_STEP)
    earned -= _STEP * (t * level - first_node) / math.expm1(2 * _STEP)
    return earned + centre


def _log_weights(pool: Pool, real: NDArray[np.bool_], temperature: float) -> NDArray[np.float64]:
    """``[B, N]``, 0 for the best answer, and nothing beyond a prompt's count."""
    with np.errstate(over="ignore", invalid="ignore"):
        gaps = np.diff(pool.scores, axis=1) / temperature
    gaps = np.minimum(np.where(real[:, 1:], gaps, 0), _APART)
    above = np.cumsum(gaps[:, ::-1], axis=1)[:, ::-1]
    return np.where(real, -np.pad(above, ((0, 0), (0, 1))), -np.inf)


def _first_time(numbers: NDArray[np.int64]) -> float:
    return _LINEAR / int(numbers.max())


def _tiles(
    counts: NDArray[np.int64], log_weights: NDArray[np.float64], numbers: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Prompt and log t at the first node of every tile."""
    # But for 1e-17 of subsets, the best of n is among those from this place on.
    place = np.ceil(counts * 10 ** (-17 / int(numbers.min()))).astype(np.intp) - 1
    matters = np.take_along_axis(log_weights, np.maximum(place, 0)[:, None], axis=1)[:, 0]
    first = math.log(_first_time(numbers))
    width = _STEP * _NODES
    many = np.ceil((math.log(_NOTHING) - matters - first) / width).astype(np.intp)
    row = np.repeat(np.arange(counts.size), many)
    tile = np.arange(row.size) - np.repeat(np.cumsum(many) - many, many)
    return row, np.asarray(first + width * tile, np.float64)


def _subsets(rows: Any, counts: jax.Array, numbers: tuple[int, ...]) -> jax.Array:
    most = max(numbers)
    k = jnp.arange(1, most + 1, dtype=counts.dtype)[:, None, None]

    def add(state: tuple[jax.Array, jax.Array], row: Any) -> tuple[Any, None]:
        p, q = state
        x, earned, share = (y[None] for y in _terms(row))
        p_before = jnp.concatenate([jnp.ones_like(p[:1]), p[:-1]])
        q_before = jnp.concatenate([jnp.zeros_like(q[:1]), q[:-1]])
        q = q + k * share * (x * q_before + earned * p_before - q)
        p = p + k * share * (x * p_before - p)
        return (p, q), None

    zeros = jnp.zeros((most, counts.size, _NODES), counts.dtype)
    (_, q), _ = jax.lax.scan(add, (zeros, zeros), rows)
    return q[np.array(numbers) - 1]


def _terms(row: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of one answer to each prompt: x and g t w x at all nodes, ``[R, S]``, and 1/m."""
    rate, g, share = (y[:, None] for y in row)
    rate = rate * jnp.exp(_STEP * jnp.arange(_NODES, dtype=rate.dtype))[None]
    x = jnp.exp(-rate)
    return x, g * rate * x, share


def _sums(rows: Any, counts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Over answers of x and of g t w x."""

    def add(state: Any, row: Any) -> tuple[Any, None]:
        x, earned, share = _terms(row)
        return (state[0] + jnp.where(share > 0, x, 0), state[1] + earned), None

    zeros = jnp.zeros((counts.size, _NODES), counts.dtype)
    return jax.lax.scan(add, (zeros, zeros), rows)[0]


def _power(mean: jax.Array, earned: jax.Array, numbers: tuple[int, ...]) -> jax.Array:
    n = jnp.asarray(numbers, mean.dtype)[:, None, None]
    return n * jnp.maximum(mean, 0)[None] ** (n - 1) * earned[None]


def _resampled(rows: Any, counts: jax.Array, numbers: tuple[int, ...]) -> jax.Array:
    total, earned = _sums(rows, counts)
    return _power(total / counts[:, None], earned / counts[:, None], numbers)


def _jackknife(rows: Any, counts: jax.Array, numbers: tuple[int, ...]) -> jax.Array:
    total, earned = _sums(rows, counts)
    size = counts[:, None]

    def add(state: jax.Array, row: Any) -> tuple[jax.Array, None]:
        x, own, share = _terms(row)
        left = _power((total - x) / (size - 1), (earned - own) / (size - 1), numbers)
        return state + jnp.where(share > 0, left, 0), None

    zeros = jnp.zeros((len(numbers), *total.shape), total.dtype)
    left_out = jax.lax.scan(add, zeros, rows)[0]
    whole = _power(total / size, earned / size, numbers)
    return size[None] * whole - ((size - 1) / size)[None] * left_out


_KERNELS = {"subsets": _subsets, "resampled": _resampled, "jackknife": _jackknife}


@functools.partial(jax.jit, static_argnames=("kernel", "numbers"))
def _integral(
    log_weights: jax.Array,
    g: jax.Array,
    shares: jax.Array,
    counts: jax.Array,
    start: jax.Array,
    *,
    kernel: Estimate,
    numbers: tuple[int, ...],
) -> tuple[jax.Array, jax.Array]:
    """The part of the integral in each tile, ``[G, R]``, and t q at its first node."""
    rates = jnp.exp(jnp.minimum(log_weights + start[None], _RUNG))
    q = _KERNELS[kernel]((rates, g, shares), counts, numbers)
    return _STEP * jnp.sum(q, axis=2), q[:, :, 0]
