r"""Best-and-worst pairs of a tie-free reward, on nodes in the rank :math:`u`.

What the losses aim at is a function :math:`h(u)` that is smooth but for three places: it turns
within :math:`1/n` of :math:`u = 1/2`, where an outcome stops being mostly the worst of its pair and
becomes mostly the best, and it has logarithms at the ends. The panels of the grid halve towards all
three, and each carries Gauss-Legendre nodes. The kernel :math:`|u-v|^{n-2}` has a kink at
:math:`u = v` for odd :math:`n`; within a node's own panel it is integrated on both sides of the
node against the polynomial through the panel's nodes (product integration; Atkinson 1997, §4.2).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from numpy.polynomial import chebyshev, legendre

from bon_theory._numerics import log1mexp
from bon_theory.alignment.pairs import PairLaw

__all__ = ["grid_pair_law", "interpolate", "log_densities"]

_NODES = 16  # per panel
_HALVINGS = 4  # from 1/4 down to 1/64 towards 0, 1/2 and 1


@functools.cache
def _edges() -> np.ndarray:
    """Ends of the panels, ascending from 0 to 1."""
    steps = 0.5 ** np.arange(2, 3 + _HALVINGS)
    lower = np.unique(np.concatenate([[0.0], steps, 0.5 - steps, [0.5]]))
    return np.concatenate([lower, 1 - lower[-2::-1]])


@functools.cache
def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """Ranks and weights of all nodes, ``[K]`` each."""
    x, weights = legendre.leggauss(_NODES)
    middle, half = (_edges()[1:] + _edges()[:-1]) / 2, np.diff(_edges()) / 2
    return (middle[:, None] + half[:, None] * x).ravel(), (half[:, None] * weights).ravel()


@functools.cache
def _own_panel() -> tuple[np.ndarray, np.ndarray]:
    r"""Distances and weights of product integration on the panel [-1, 1], around each node.

    ``distances [q, 2q]`` of 2q auxiliary nodes from node i, and ``weights [q, 2q, q]`` such that
    :math:`\int k(|x_i - x|) g(x)\,dx \approx \sum_{sj} k(d_{is}) w_{isj} g(x_j)`.
    """
    x, weights = legendre.leggauss(_NODES)
    left, right = (x[:, None] + 1) / 2, (1 - x[:, None]) / 2
    auxiliary = np.hstack([left * (x + 1) - 1, 1 - right * (1 - x)])
    auxiliary_weights = np.hstack([left * weights, right * weights])
    to_polynomial = np.linalg.inv(chebyshev.chebvander(x, _NODES - 1))
    lagrange = chebyshev.chebvander(auxiliary, _NODES - 1) @ to_polynomial
    return np.abs(auxiliary - x[:, None]), auxiliary_weights[..., None] * lagrange


def grid_pair_law(n: jax.Array) -> PairLaw:
    """The pair law on the grid."""
    ranks, weights = _nodes()
    dtype = n.dtype
    distance = np.abs(ranks[:, None] - ranks[None, :])
    np.fill_diagonal(distance, 1)  # not used: a node's own panel is integrated apart
    # Over the farthest distance from a node, so that no power underflows all along a row.
    farthest = np.maximum(ranks, 1 - ranks)
    log_distance = jnp.asarray(np.log(distance / farthest[:, None]), dtype)
    kernel = jnp.exp((n - 2) * log_distance) * jnp.asarray(weights, dtype)[None, :]
    kernel = _with_own_panels(kernel, farthest, n)
    partner = kernel / jnp.sum(kernel, axis=-1, keepdims=True)
    log_rank = jnp.asarray(np.log(ranks), dtype)
    return PairLaw(jnp.asarray(np.log(weights), dtype), *log_densities(log_rank, n), partner)


def _with_own_panels(kernel: jax.Array, farthest: np.ndarray, n: jax.Array) -> jax.Array:
    """Replace the diagonal blocks of ``kernel [K, K]`` by product integration."""
    half = np.diff(_edges()) / 2
    panels = half.size
    distance, weights = _own_panel()
    unit = half[:, None] / farthest.reshape(panels, _NODES)
    log_distance = np.log(distance)[None, :, :] + np.log(unit)[:, :, None]
    block = jnp.einsum(
        "pis,isj->pij",
        jnp.exp((n - 2) * jnp.asarray(log_distance, n.dtype)),
        jnp.asarray(weights, n.dtype),
    )
    blocks = kernel.reshape(panels, _NODES, panels, _NODES)
    own = np.arange(panels)
    blocks = blocks.at[own, :, own, :].set(jnp.asarray(half, n.dtype)[:, None, None] * block)
    return blocks.reshape(kernel.shape)


def log_densities(log_rank: jax.Array, n: jax.Array) -> tuple[jax.Array, jax.Array]:
    r""":math:`\log n u^{n-1}` and :math:`\log n (1-u)^{n-1}`."""
    return jnp.log(n) + (n - 1) * log_rank, jnp.log(n) + (n - 1) * log1mexp(log_rank)


def interpolate(values: jax.Array, ranks: jax.Array) -> jax.Array:
    """From ``values [K]`` on the grid to ``ranks [M]``, by each panel's polynomial."""
    x, _ = legendre.leggauss(_NODES)
    to_polynomial = np.linalg.inv(chebyshev.chebvander(x, _NODES - 1))
    coefficients = values.reshape(-1, _NODES) @ jnp.asarray(to_polynomial.T, values.dtype)
    edges = jnp.asarray(_edges(), values.dtype)
    panel = jnp.clip(jnp.searchsorted(edges, ranks, side="right") - 1, 0, edges.size - 2)
    lower, upper = edges[panel], edges[panel + 1]
    inside = (2 * ranks - lower - upper) / (upper - lower)
    near, far = jnp.zeros_like(ranks), jnp.zeros_like(ranks)
    for degree in range(_NODES - 1, 0, -1):  # Clenshaw
        near, far = coefficients[panel, degree] + 2 * inside * near - far, near
    return coefficients[panel, 0] + inside * near - far
