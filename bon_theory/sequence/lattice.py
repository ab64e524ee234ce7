r"""Rewards on a lattice: the sum of many of them then takes few values.

:math:`m` symbols whose rewards are :math:`a + \delta\,\{0, \ldots, L\}` have total rewards
:math:`m a + \delta\,\{0, \ldots, m L\}`: :math:`m L + 1` levels instead of :math:`K^m` sequences.
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bon_theory._arguments import Numbers, is_concrete, require, shown, whole_number
from bon_theory._numerics import safe_log

__all__ = ["Lattice"]

_MAX_LEVELS = 1024


@dataclasses.dataclass(frozen=True)
class Lattice:
    r"""Equally spaced rewards :math:`a + \delta\,\{0, \ldots, L\}`; see :meth:`fit`, :meth:`round`.

    Attributes:
        origin: :math:`a`, the lowest reward.
        spacing: :math:`\delta > 0`.
        num_levels: :math:`L + 1`.
        tolerance: how far a reward may lie from its level, beyond rounding of its own.

    Example:
        >>> from bon_theory import sequence
        >>> sequence.Lattice.fit([0.1, 0.7, 0.4]).num_levels
        3

    Derived here (bookkeeping; no published counterpart).
    """

    origin: float
    spacing: float
    num_levels: int
    tolerance: float

    @staticmethod
    def fit(rewards: Numbers, *, max_levels: int = _MAX_LEVELS) -> Lattice:
        r"""The coarsest lattice that holds all ``rewards``, up to rounding of their own.

        Ratios to the largest difference are recognised as fractions of denominator below
        ``max_levels``; their common denominator is :math:`L`.

        Args:
            rewards: concrete numbers of any shape.
            max_levels: the most levels to accept; sums of :math:`m` symbols have :math:`m` times
                as many, and convolving them costs the square of that.

        Raises:
            ValueError: ``rewards`` are traced or not finite real numbers, or fit no lattice of so
                few levels; ``max_levels`` is not a whole number of at least 2.

        Example:
            >>> from bon_theory import sequence
            >>> sequence.Lattice.fit([0.0, 1 / 3, 1 / 2]).num_levels
            4
        """
        max_levels = whole_number("max_levels", max_levels, at_least=2)
        values, rounding = _distinct(rewards)
        spread = values - values[0]
        if spread[-1] == 0:
            return Lattice(float(values[0]), 1.0, 1, rounding)
        steps = 1
        for ratio in (spread / spread[-1]).tolist():
            steps = math.lcm(steps, Fraction(ratio).limit_denominator(max_levels - 1).denominator)
            if steps >= max_levels:
                break
        lattice = Lattice(float(values[0]), float(spread[-1]) / steps, steps + 1, rounding)
        if steps >= max_levels or not np.all(lattice._distance(values) <= rounding):
            raise ValueError(
                f"rewards must lie on a lattice of at most {max_levels} equally spaced levels, got "
                f"{values[:6]}: round them yourself, or give lattice=Lattice.round(rewards, "
                "num_levels), which states its error."
            )
        return lattice

    @staticmethod
    def round(rewards: Numbers, num_levels: int) -> Lattice:
        r"""A lattice of ``num_levels`` from the lowest to the highest reward; others are rounded.

        A total reward of :math:`m` symbols then moves by at most :math:`m\delta/2`. With weights
        :math:`e^{r/\lambda}` every :math:`\log P/\pi` of soft best-of-n or of the tilt over whole
        sequences moves by at most :math:`m\delta/\lambda`, as numerator and denominator of
        :math:`w/(w + \sum_i w_i)` move by factors within :math:`e^{\pm m\delta/2\lambda}` (derived
        here).

        Args:
            rewards: concrete numbers of any shape, not all equal.
            num_levels: at least 2.

        Raises:
            ValueError: ``num_levels`` is not a whole number of at least 2, or ``rewards`` are
                traced, not finite real numbers, or all equal.

        Example:
            >>> from bon_theory import sequence
            >>> sequence.Lattice.round([0.0, 0.3141, 1.0], 101).spacing
            0.01
        """
        num_levels = whole_number("num_levels", num_levels, at_least=2)
        values, rounding = _distinct(rewards)
        if values[0] == values[-1]:
            raise ValueError(
                f"rewards must be distinct, got {values} alone: Lattice.fit serves one level."
            )
        spacing = float(values[-1] - values[0]) / (num_levels - 1)
        return Lattice(float(values[0]), spacing, num_levels, spacing / 2 + rounding)

    def levels(self, rewards: jax.Array | np.ndarray) -> jax.Array:
        """The level of every reward, integers in [0, L]; -1 off the lattice (an error if concrete).

        Example:
            >>> import jax.numpy as jnp
            >>> from bon_theory import sequence
            >>> sequence.Lattice.fit([1.0, 2.0, 4.0]).levels(jnp.array([4.0, 2.0])).tolist()
            [3, 1]
        """
        above = rewards - self.origin
        nearest = jnp.round(above / self.spacing)
        highest = self.origin + (self.num_levels - 1) * self.spacing
        slack = self.tolerance + _rounding(above.dtype, max(abs(self.origin), abs(highest)))
        on = jnp.abs(above - nearest * self.spacing) <= slack
        on &= (nearest >= 0) & (nearest < self.num_levels)
        require(
            lambda: np.asarray(on),
            lambda: (
                f"rewards must lie on {self}, got {np.asarray(rewards)[~np.asarray(on)][:4]}: "
                "make the lattice from these rewards by Lattice.fit or Lattice.round."
            ),
            on,
        )
        return jnp.where(on, nearest, -1).astype(int)

    def excess_rewards(self, length: int, dtype: Any) -> jax.Array:
        """The possible total rewards of ``length`` symbols above the lowest, ascending from 0.

        The lowest, ``length * origin``, is left out: a large one would round levels into ties.
        """
        levels = np.arange(length * (self.num_levels - 1) + 1, dtype=float)
        rewards = jnp.asarray(self.spacing * levels, dtype)
        # A constant would be sorted, for the reward's CDF, while compiling.
        return jax.lax.optimization_barrier(rewards)

    def log_masses(self, log_probs: jax.Array, rewards: jax.Array) -> jax.Array:
        """Log-probabilities of the levels, ``[L + 1]``; NaN if a possible reward is off them."""
        levels = self.levels(rewards)
        tops = jnp.full(self.num_levels, -jnp.inf, log_probs.dtype).at[levels].max(log_probs)
        tops = jax.lax.stop_gradient(jnp.where(tops > -jnp.inf, tops, 0))
        sums = jnp.zeros_like(tops).at[levels].add(jnp.exp(log_probs - tops[levels]))
        off = (levels < 0) & (log_probs > -jnp.inf)
        return jnp.where(jnp.any(off), jnp.nan, safe_log(sums) + tops)

    def _distance(self, values: np.ndarray) -> np.ndarray:
        above = values - self.origin
        return np.abs(above - np.round(above / self.spacing) * self.spacing)


def _distinct(rewards: Numbers) -> tuple[np.ndarray, float]:
    """Sorted distinct values in float64, and by how much rounding may have moved one."""
    if not is_concrete(rewards):
        raise ValueError(
            "rewards are traced, so no lattice can be found for them: "
            "make it outside, Lattice.fit(rewards), and pass it as lattice=."
        )
    try:
        given = np.asarray(rewards)
    except ValueError:
        raise ValueError(
            f"rewards must be an array of numbers, got {shown(rewards)}: "
            "nested lists must be regular."
        ) from None
    if given.dtype.kind not in "fiu":
        raise ValueError(f"rewards must be real numbers, got dtype {given.dtype}: score outcomes.")
    values = np.unique(given.astype(np.float64))
    if values.size == 0 or not np.all(np.isfinite(values)):
        raise ValueError(f"rewards must be finite numbers, got {values[:4]}: drop the others.")
    if values[-1] / 2 - values[0] / 2 >= np.finfo(np.float64).max / 2:
        raise ValueError("rewards must have a finite range, got one that overflows: scale them.")
    dtype = given.dtype if given.dtype.kind == "f" else np.float64
    return values, _rounding(dtype, float(np.max(np.abs(values))))


def _rounding(dtype: Any, largest: float) -> float:
    """By how much a number may be off that took a few operations to compute."""
    return 8 * float(jnp.finfo(dtype).eps) * largest
