r"""How sure a curve is: intervals over prompts, at each n or for all n at once."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from bon_theory._arguments import whole_number
from bon_theory.pools.curves import Curve

__all__ = ["Band", "bootstrap_band", "normal_band"]


@dataclasses.dataclass(frozen=True)
class Band:
    """An interval at every n of a curve.

    Attributes:
        n: ``[G]``.
        mean: ``[G]``.
        low: ``[G]``.
        high: ``[G]``.
        level: the coverage aimed at.
        simultaneous: whether it is that of the whole curve, not of each n.
        temperature: ``[G]`` of soft best-of-n; None for best-of-n.

    Example:
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[0.0, 1.0], [0.5, 0.7], [0.2, 0.3]])
        >>> bt.pools.normal_band(bt.pools.best_of_n_curve(pool), level=0.9).mean
        array([0.45      , 0.66666667])

    Derived here (bookkeeping; no published counterpart).
    """

    n: NDArray[np.int64]
    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    level: float
    simultaneous: bool
    temperature: NDArray[np.float64] | None = None


def normal_band(curve: Curve, *, level: float = 0.95, clusters: ArrayLike | None = None) -> Band:
    r"""Intervals by the central limit theorem over prompts, or over clusters of them.

    .. math:: \bar x \pm t_{C-1}\, \Big(\frac{C-1}{C} \sum_c
              \big(\bar x - \bar x_{-c}\big)^2\Big)^{1/2}, \qquad \bar x - \bar x_{-c}
              = \frac{\sum_{b \in c} w_b (x_b - \bar x)}{1 - \sum_{b \in c} w_b},

    every cluster left out once; of equal weights it is the usual standard error and Student's
    interval. Where one cluster counts half of everything, 95 % intervals cover 92 % of the time.

    Args:
        curve: one value per prompt and n.
        level: of the interval at each n.
        clusters: ``[B]``, equal for prompts that were not drawn independently of each other.

    Raises:
        ValueError: fewer than two prompts, or clusters, of positive weight; ``clusters`` of another
            length; ``level`` outside (0, 1).

    Example:
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[0.0, 1.0], [0.5, 0.7], [0.2, 0.3]])
        >>> band = bt.pools.normal_band(bt.pools.best_of_n_curve(pool, n=1))
        >>> (band.high - band.mean).round(4)
        array([0.4478])

    Standard (the jackknife over clusters, Student's quantile). Of eight normal prompts the normal
    quantile's intervals cover 91 % of the time for 95 %.
    """
    labels = np.arange(curve.weights.size) if clusters is None else np.asarray(clusters)
    if labels.shape != curve.weights.shape:
        raise ValueError(
            f"clusters must be one per prompt, {curve.weights.size}, got shape {labels.shape}."
        )
    curve, labels = counted(curve), labels[curve.weights > 0]
    _, cluster = np.unique(labels, return_inverse=True)
    size = int(cluster.max()) + 1
    _require(size, level)
    deviations = curve.weights[:, None] * (curve.per_prompt - curve.mean)
    sums = np.zeros((size, curve.n.size))
    np.add.at(sums, cluster, deviations)
    others = np.maximum(1 - np.bincount(cluster, curve.weights), np.finfo(float).eps)  # rounding
    error = np.sqrt(np.sum((sums / others[:, None]) ** 2, axis=0) * (size - 1) / size)
    half = scipy.special.stdtrit(size - 1, 0.5 + level / 2) * error
    return Band(
        curve.n, curve.mean, curve.mean - half, curve.mean + half, level, False, curve.temperature
    )


def bootstrap_band(
    key: jax.Array,
    curve: Curve,
    *,
    level: float = 0.95,
    simultaneous: bool = False,
    num_resamples: int = 2000,
) -> Band:
    r"""Intervals by resampling prompts with replacement.

    At each n the interval reaches from the mean as far as the studentised deviations of resampled
    means do. For all n at once it is the largest deviation over n that decides: the band contains
    the whole curve with probability ``level``.

    Args:
        key: consumed.
        curve: one value per prompt and n.
        level: of the interval at each n, or of the band.
        simultaneous: whether all of the curve is to be inside at once.
        num_resamples: the error of the ends is about 1/√(num_resamples) of their distance.

    Returns:
        The band; infinite where so few prompts are resampled that the ends fall on resamples of one
        prompt alone, which have no spread.

    Raises:
        ValueError: fewer than two prompts of positive weight; ``level`` outside (0, 1);
            ``num_resamples`` is not a whole number of at least 1.

    Example:
        >>> import jax
        >>> import bon_theory as bt
        >>> pool = bt.pools.Pool.from_lists([[0.0, 1.0], [0.5, 0.7], [0.2, 0.3], [0.1, 0.8]])
        >>> band = bt.pools.bootstrap_band(jax.random.key(0), bt.pools.best_of_n_curve(pool))
        >>> bool((band.low <= band.mean).all())
        True

    Efron 1979; the band by the largest studentised deviation is Romano and Wolf's (2005).
    """
    curve = counted(curve)
    size = curve.weights.size
    _require(size, level)
    num_resamples = whole_number("num_resamples", num_resamples)
    draws = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())
    times = draws.multinomial(size, np.full(size, 1 / size), num_resamples)  # [R, B]
    centred = curve.per_prompt - curve.mean
    weights = times * curve.weights
    total = weights.sum(axis=1, keepdims=True)
    deviation = weights @ centred / total  # [R, G], of the resampled mean
    squares = weights * curve.weights
    spread = squares @ centred**2 - 2 * deviation * (squares @ centred)
    spread = np.sqrt(np.maximum(spread + deviation**2 * squares.sum(axis=1, keepdims=True), 0))
    with np.errstate(
        invalid="ignore", divide="ignore"
    ):  # all draws from one prompt: infinitely far
        ratio = np.where(deviation == 0, 0.0, deviation / (spread / total))
    scale = np.sqrt(curve.weights**2 @ centred**2)
    # No interpolation between order statistics: some may be infinite.
    if simultaneous:
        above = np.quantile(np.abs(ratio).max(axis=1), level, method="higher")
        below = -above
    else:
        below = np.quantile(ratio, (1 - level) / 2, axis=0, method="lower")
        above = np.quantile(ratio, (1 + level) / 2, axis=0, method="higher")
    some = scale > 0  # where all prompts agree there is nothing to resample
    low = np.where(some, curve.mean - above * np.where(some, scale, 1), curve.mean)
    high = np.where(some, curve.mean - below * np.where(some, scale, 1), curve.mean)
    return Band(curve.n, curve.mean, low, high, level, simultaneous, curve.temperature)


def counted(curve: Curve) -> Curve:
    """The prompts that count: one of weight zero is no evidence of anything."""
    counts = curve.weights > 0
    if counts.all():
        return curve
    return dataclasses.replace(
        curve, per_prompt=curve.per_prompt[counts], weights=curve.weights[counts]
    )


def _require(size: int, level: float) -> None:
    if size < 2:
        raise ValueError(f"an interval over prompts needs at least 2 of them, got {size}.")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}.")
