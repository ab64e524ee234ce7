"""The nodes of a continuous law: its quantile function on a lattice that is broken at its gaps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import is_concrete, on_device, require, reward_array, shown
from bon_theory._quadrature import gaps, log_odds_nodes

__all__ = ["DEFAULT_NODES", "quantile_nodes"]

DEFAULT_NODES = 1281  # spacing 1/8 in log-odds
_FEWEST_NODES = 321  # spacing 1/2: divergences of best-of-8 to 1e-10
_MOST_GAPS = 16

_Quantile = Callable[[jax.Array], jax.Array]


def quantile_nodes(
    quantile: _Quantile,
    survival_quantile: _Quantile | None,
    *,
    num_nodes: int,
    breaks: tuple[float, ...],
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Logarithms of the weights, rewards, and logarithms of the ranks, ``[K]`` each.

    The arguments, and what is refused, are those of :meth:`bon_theory.Policy.from_quantile`.
    """
    if not isinstance(num_nodes, int) or num_nodes < _FEWEST_NODES:
        raise ValueError(
            f"num_nodes must be a whole number of at least {_FEWEST_NODES}, got "
            f"{shown(num_nodes)}: the default is {DEFAULT_NODES}."
        )
    if list(breaks) != sorted({b for b in breaks if 0 < b < 1}):
        raise ValueError(f"breaks must be distinct ascending ranks in (0, 1), got {shown(breaks)}.")
    dtype = jnp.zeros(()).dtype  # float64 where the caller has enabled it
    largest = 1 - jnp.finfo(dtype).epsneg

    def reward_at(log_u: np.ndarray, complement: np.ndarray) -> jax.Array:
        ranks = on_device(np.minimum(np.exp(log_u).astype(dtype), largest))
        rewards = quantile(ranks)
        if survival_quantile is not None:
            from_above = survival_quantile(on_device(complement.astype(dtype)))
            rewards = jnp.where(ranks <= 0.5, rewards, from_above)
        return reward_array(rewards, ranks.shape, dtype)

    nodes = log_odds_nodes(num_nodes, tuple(breaks))
    if is_concrete(reward_at(*nodes[:2])):
        found = _gaps(reward_at, num_nodes, dtype, survival_quantile is not None)
        nodes = log_odds_nodes(num_nodes, _merged(breaks, found))
    log_u, complement, log_weights = nodes
    rewards = reward_at(log_u, complement)
    require(
        lambda: _ascending(np.asarray(rewards)),
        lambda: (
            "quantile must be increasing in the rank, got a decreasing stretch: "
            "check the order of its argument (survival_quantile takes 1 - u)."
        ),
        rewards,
    )
    return jnp.asarray(log_weights, dtype), rewards, jnp.asarray(log_u, dtype)


def _gaps(
    reward_at: Callable[[np.ndarray, np.ndarray], jax.Array],
    num_nodes: int,
    dtype: Any,
    both_tails: bool,
) -> list[float]:
    """The jumps of a quantile function, as far out as its ranks are floating-point numbers."""

    def at_log_odds(x: np.ndarray) -> np.ndarray:
        return np.asarray(reward_at(-np.logaddexp(0, -x), np.exp(-np.logaddexp(0, x))))

    end = 40.0 if both_tails else -0.5 * float(np.log(jnp.finfo(dtype).eps))
    found = gaps(at_log_odds, num_nodes, end)
    if len(found) > _MOST_GAPS:
        raise ValueError(
            f"quantile must be continuous but for {_MOST_GAPS} gaps, got {len(found)} jumps: a law "
            "of atoms is discrete, Policy.from_probs or from_samples."
        )
    return found


def _merged(breaks: tuple[float, ...], found: list[float]) -> tuple[float, ...]:
    """The breaks that were given, and those found elsewhere."""
    new = [rank for rank in found if not np.any(np.isclose(rank, breaks, rtol=1e-6, atol=0))]
    return tuple(sorted([*breaks, *new]))


def _ascending(values: np.ndarray) -> bool:
    """Whether values never fall by more than rounding of their largest magnitude."""
    slack = 8 * np.finfo(values.dtype).eps * np.max(np.abs(values))
    return bool(np.all(np.diff(values) >= -slack))
