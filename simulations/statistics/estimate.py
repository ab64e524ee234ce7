"""A mean with its standard error, and how estimates of disjoint samples combine."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class Estimate:
    """Sample mean, its standard error s/√S with s² the unbiased variance, and S.

    Attributes:
        mean: sample mean.
        std_error: √(Σ(x − mean)² / (S(S − 1))); ``inf`` for a single sample.
        num_samples: S ≥ 1.

    Raises:
        ValueError: for a sample size below one or a negative standard error.

    Example:
        >>> Estimate.from_values([1.0, 2.0, 3.0, 4.0])
        Estimate(mean=2.5, std_error=0.6454972243679028, num_samples=4)
    """

    mean: float
    std_error: float
    num_samples: int

    def __post_init__(self) -> None:
        """Refuse what no sample can give."""
        if self.num_samples < 1:
            raise ValueError(f"num_samples must be at least 1, got {self.num_samples}")
        if not self.std_error >= 0:
            raise ValueError(f"std_error must be nonnegative, got {self.std_error}")

    @property
    def sum_of_squares(self) -> float:
        """Σ(x − mean)², the quantity that merges exactly."""
        if self.num_samples == 1:
            return 0.0
        return self.std_error**2 * self.num_samples * (self.num_samples - 1)

    @property
    def variance(self) -> float:
        """Unbiased sample variance s² = S·std_error²; ``nan`` for a single sample."""
        return math.nan if self.num_samples == 1 else self.std_error**2 * self.num_samples

    @staticmethod
    def from_moments(mean: float, sum_of_squares: float, num_samples: int) -> Estimate:
        """From the mean, Σ(x − mean)² and S."""
        if num_samples < 2:
            return Estimate(mean, math.inf, num_samples)
        return Estimate(
            mean, math.sqrt(sum_of_squares / (num_samples * (num_samples - 1))), num_samples
        )

    @staticmethod
    def from_values(values: ArrayLike) -> Estimate:
        """From the sample itself, in float64 and in two passes."""
        sample = np.asarray(values, np.float64).ravel()
        if sample.size == 0:
            raise ValueError("values must not be empty: an estimate needs at least one sample")
        mean = float(sample.mean())
        return Estimate.from_moments(mean, float(np.square(sample - mean).sum()), sample.size)

    @staticmethod
    def from_counts(counts: ArrayLike, values: ArrayLike) -> Estimate:
        """From a sample that took ``values[k]`` ``counts[k]`` times: exact up to rounding.

        Example:
            >>> Estimate.from_counts([2, 2], [0.0, 1.0]) == Estimate.from_values(
            ...     [0.0, 0.0, 1.0, 1.0]
            ... )
            True
        """
        weights, levels = np.asarray(counts), np.asarray(values, np.float64)
        whole = np.all(weights >= 0) and np.all(weights % 1 == 0)
        if weights.shape != levels.shape or not (whole and weights.sum() > 0):
            raise ValueError(
                f"counts must be whole, nonnegative, of the shape of values and with a positive "
                f"sum, got {weights}, shapes {weights.shape} and {levels.shape}"
            )
        total = int(weights.sum())
        mean = float(weights @ levels) / total
        return Estimate.from_moments(mean, float(weights @ np.square(levels - mean)), total)


def merge_moments(parts: ArrayLike) -> NDArray[np.float64]:
    """:func:`combine` of many small samples at once, for many quantities at once.

    Args:
        parts: ``[3, ..., T]``: sizes (0 for parts without samples), means, Σ(x − mean)².

    Returns:
        The same of the joined samples, ``[3, ...]``.

    Example:
        >>> merge_moments([[2, 2, 0], [1.5, 3.5, 9.0], [0.5, 0.5, 0.0]])
        array([4. , 2.5, 5. ])
    """
    sizes, means, squares = np.asarray(parts, np.float64)
    total = sizes.sum(axis=-1)
    centre = np.sum(sizes * means, axis=-1) / np.maximum(total, 1)
    between = np.sum(sizes * np.square(means - centre[..., None]), axis=-1)
    return np.stack([total, centre, squares.sum(axis=-1) + between])


def combine(estimates: Iterable[Estimate]) -> Estimate:
    """The estimate that the joined samples would have given, merged in the order given.

    Nothing cancels: the means enter through their difference only (Chan, Golub, LeVeque, Updating
    formulae and a pairwise algorithm for computing sample variances, 1979, eq. 2.1).

    Raises:
        ValueError: when there is nothing to combine.

    Example:
        >>> halves = [Estimate.from_values([1.0, 2.0]), Estimate.from_values([3.0, 4.0])]
        >>> combine(halves) == Estimate.from_values([1.0, 2.0, 3.0, 4.0])
        True
    """
    parts = list(estimates)
    if not parts:
        raise ValueError("estimates must not be empty")
    return reduce(_merge, parts)


def crossed_mean(
    values: ArrayLike,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean of ``values [S, ..., B]`` over S and B, drawn apart from each other, and its error.

    Averages over either leave the spread of the other; squares of the standard errors of both are
    added, which counts what belongs to the pairs alone twice. For S = 1 only B is counted.

    Example:
        >>> mean, error = crossed_mean([[1.0, 2.0], [2.0, 3.0]])  # 1½ ± ½ in both directions
        >>> float(mean), round(float(error), 3)
        (2.0, 0.707)
    """
    table = np.asarray(values, np.float64)
    rows, columns = table.mean(axis=-1), table.mean(axis=0)
    error = columns.std(axis=-1, ddof=1) / np.sqrt(table.shape[-1])
    if len(table) > 1:
        error = np.hypot(error, rows.std(axis=0, ddof=1) / np.sqrt(len(table)))
    return rows.mean(axis=0), error


def _merge(left: Estimate, right: Estimate) -> Estimate:
    total = left.num_samples + right.num_samples
    gap = right.mean - left.mean
    mean = left.mean + gap * (right.num_samples / total)
    between = gap**2 * (left.num_samples * right.num_samples / total)
    return Estimate.from_moments(mean, left.sum_of_squares + right.sum_of_squares + between, total)
