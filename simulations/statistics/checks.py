"""Exact value or law against a simulation: p-values that hold at any sample size.

The p-values come from finite-sample inequalities, not from large-sample approximations: at a
family-wise false-alarm rate of 1e-6 a check works some five standard deviations out, where the χ²
and normal approximations are not to be trusted, least of all in cells that expect few counts. Only
:func:`check_mean` without bounds approximates, and says so.

A report plans its checks before it sees a sample. Each then gets the same share of the false-alarm
rate (Bonferroni), so dependence between checks does not matter.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from simulations.statistics.estimate import Estimate
from simulations.tools.arguments import counts_of, probabilities

_MOST_TRIALS = 2**48  # more need a relative entropy that float64 rounds away
_POOL_BELOW = 5.0  # cells that expect fewer counts carry little power and cost a degree of freedom


@dataclass(frozen=True)
class Check:
    """One comparison: ``p_value`` bounds the chance of at least such a discrepancy if all is right.

    Attributes:
        name: what was compared.
        statistic: the discrepancy; its meaning depends on the check.
        p_value: in [0, 1], valid in the sense Pr(p_value ≤ α) ≤ α.
        num_trials: size of the sample.
    """

    name: str
    statistic: float
    p_value: float
    num_trials: int


@dataclass(frozen=True)
class Report:
    """The verdict on a family of checks.

    Attributes:
        checks: all of them, in the planned order.
        false_alarm: chance, at most, that any is rejected although all is right.
    """

    checks: tuple[Check, ...]
    false_alarm: float

    @property
    def threshold(self) -> float:
        """p-value at or below which a check is rejected: false_alarm / number of checks."""
        return self.false_alarm / len(self.checks)

    @property
    def rejected(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.p_value <= self.threshold)

    @property
    def passed(self) -> bool:
        """Whether none failed."""
        return not self.rejected


@dataclass(frozen=True)
class Family:
    """A report planned up front.

    Attributes:
        names: the checks that will be made, each once.
        false_alarm: family-wise false-alarm rate.

    Example:
        >>> family = Family(("mean", "law"), false_alarm=1e-2)
        >>> family.threshold
        0.005
        >>> family.judge([Check("law", 0.0, 0.8, 10), Check("mean", 9.0, 1e-9, 10)]).passed
        False
    """

    names: tuple[str, ...]
    false_alarm: float = 1e-6

    def __post_init__(self) -> None:
        """Refuse an empty family, a name twice, and a rate outside (0, 1)."""
        if not self.names or len(set(self.names)) != len(self.names):
            raise ValueError(f"names must be distinct and not empty, got {self.names}")
        if not 0 < self.false_alarm < 1:
            raise ValueError(f"false_alarm must be in (0, 1), got {self.false_alarm}")

    @property
    def threshold(self) -> float:
        """The share of each check: false_alarm / number of checks."""
        return self.false_alarm / len(self.names)

    def judge(self, checks: Iterable[Check]) -> Report:
        """The report on exactly the planned checks.

        Raises:
            ValueError: when a planned check is missing, or one was not planned or is there twice;
                choosing checks after seeing the sample would void the false-alarm rate.
        """
        made = list(checks)
        names = [check.name for check in made]
        if sorted(names) != sorted(self.names):
            missing, extra = set(self.names) - set(names), set(names) - set(self.names)
            raise ValueError(
                f"checks must be the planned ones, each once: missing {sorted(missing)}, "
                f"not planned {sorted(extra)}, made {len(names)} of {len(self.names)}"
            )
        return Report(
            tuple(sorted(made, key=lambda check: self.names.index(check.name))), self.false_alarm
        )


def check_histogram(name: str, counts: ArrayLike, law: ArrayLike) -> Check:
    """G-test: S·KL(counts/S ‖ law) against its finite-sample tail.

    p = e^{−x}(e·x/(K − 1))^{K−1} at x = S·KL ≥ K − 1, and 1 below; valid for every law and every S,
    however few counts a cell expects. Cells that expect fewer than five are joined, for power.

    Args:
        name: what is compared.
        counts: ``[K]`` nonnegative integers.
        law: ``[K]`` probabilities under the theory, summing to one within 1e-9.

    Raises:
        ValueError: for shapes that differ, negative or fractional counts, or an inadmissible law.

    Source:
        Agrawal, Finite-sample concentration of the multinomial in relative entropy, IEEE
        Transactions on Information Theory 66 (2020): the moment generating function of S·KL is at
        most that of Gamma(K − 1), and this is Chernoff's bound with it.

    Example:
        >>> check_histogram("coin", [70, 30], [0.5, 0.5]).p_value
        0.0060...
    """
    probs = probabilities("law", law)
    observed = counts_of(counts, probs, "law")
    total = int(observed.sum())
    cells = _cells(probs, total)
    observed, probs = np.bincount(cells, observed), np.bincount(cells, probs)
    statistic = _relative_entropy(observed / total, probs) * total
    return Check(name, statistic, _histogram_tail(statistic, int(np.count_nonzero(probs))), total)


def check_mean(
    name: str, estimate: Estimate, exact: float, *, bounds: tuple[float, float] | None = None
) -> Check:
    """Mean against its exact value.

    With ``bounds`` on the variable, the two-sided empirical Bernstein inequality
    Pr(|mean − exact| > √(2V·L/S) + 7R·L/(3(S − 1))) ≤ 4e^{−L}, with V the sample variance and R the
    range, solved for L: valid at any S. Without, the z-test, 2Φ(−|z|): approximate, with a relative
    error of about skewness·|z|³/(6√S).

    Raises:
        ValueError: for a single sample, an exact value or a mean that is no number, bounds that are
            infinite, or an exact value outside them.

    Source:
        Maurer and Pontil, Empirical Bernstein bounds and sample variance penalization (COLT 2009),
        Theorem 4.

    Example:
        >>> check_mean(
        ...     "mean", Estimate(0.5, 0.001, 10**5), 0.5062, bounds=(0.0, 1.0)
        ... ).p_value < 1e-6
        True
    """
    if estimate.num_samples < 2:
        raise ValueError("estimate must have at least 2 samples: one has no standard error")
    gap = abs(estimate.mean - exact)
    if math.isnan(gap):
        raise ValueError(f"exact and mean must be numbers, got {exact} and {estimate.mean}")
    if bounds is None:
        # A constant variable has no error: then any gap is a contradiction.
        z = gap / estimate.std_error if estimate.std_error > 0 else math.inf if gap else 0.0
        return Check(name, z, float(2 * scipy.special.ndtr(-z)), estimate.num_samples)
    low, high = bounds
    if not -math.inf < low <= exact <= high < math.inf:
        raise ValueError(f"exact must be within bounds {bounds}, both finite, got {exact}")
    # gap = a·√L + b·L; in the form without cancellation.
    a = math.sqrt(2) * estimate.std_error
    b = 7 * (high - low) / (3 * (estimate.num_samples - 1))
    root = 2 * gap / (a + math.sqrt(a * a + 4 * b * gap)) if gap else 0.0
    return Check(name, root**2, min(1.0, 4 * math.exp(-(root**2))), estimate.num_samples)


def check_distribution(name: str, counts: ArrayLike, cdf: ArrayLike) -> Check:
    """Kolmogorov–Smirnov on a grid: D = max_k |share of counts up to cell k − cdf[k]|.

    p = 2e^{−2S·D²} (Dvoretzky–Kiefer–Wolfowitz with Massart's constant): valid for every law, with
    atoms or without, and on every grid.

    Args:
        name: what is compared.
        counts: ``[K]`` nonnegative integers, cells in ascending order.
        cdf: ``[K]`` exact probability up to the upper edge of each cell; the last is 1.

    Raises:
        ValueError: for shapes that differ, negative or fractional counts, or a cdf that decreases
            or does not end at 1.

    Source:
        Massart, The tight constant in the Dvoretzky–Kiefer–Wolfowitz inequality (1990).

    Example:
        >>> check_distribution("coin", [70, 30], [0.5, 1.0]).p_value
        0.00067...
    """
    upto = np.asarray(cdf, np.float64)
    probabilities("differences of cdf", np.diff(upto, prepend=0.0))
    observed = counts_of(counts, upto, "cdf")
    total = int(observed.sum())
    distance = float(np.max(np.abs(np.cumsum(observed) / total - upto)))
    return Check(name, distance, min(1.0, 2 * math.exp(-2 * total * distance**2)), total)


def required_trials(
    law: ArrayLike, alternative: ArrayLike, *, false_alarm: float, miss: float
) -> int:
    """Trials at which :func:`check_histogram` of ``law`` rejects samples of ``alternative``.

    2S·KL(sample ‖ law) is nearly noncentral χ² with K − 1 degrees of freedom and noncentrality
    2S·KL(alternative ‖ law) for alternatives close by, and nearly normal with variance
    4S·Var(log ratio) for those far off; the larger S of the two is returned, and the tests plant
    the alternative to see it rejected.

    Args:
        law: ``[K]``, what the check believes.
        alternative: ``[K]``, what the sample follows.
        false_alarm: p-value at which the check rejects, e.g. ``Family.threshold``.
        miss: allowed chance not to reject.

    Returns:
        The number of trials S.

    Raises:
        ValueError: for inadmissible laws or rates, or laws that no sample of 2⁴⁸ tells apart.

    Example:
        >>> required_trials([0.5, 0.5], [0.51, 0.49], false_alarm=1e-8, miss=1e-3)
        274579
    """
    null, planted = probabilities("law", law), probabilities("alternative", alternative)
    if null.shape != planted.shape:
        raise ValueError(f"alternative must have the shape {null.shape}, got {planted.shape}")
    if not (0 < false_alarm < 1 and 0 < miss < 1):
        raise ValueError(f"false_alarm and miss must be in (0, 1), got {false_alarm}, {miss}")
    if np.allclose(null, planted, rtol=1e-12, atol=0):
        raise ValueError("alternative must differ from law: no sample tells equal laws apart")

    def power(trials: float) -> float:
        cells = _cells(null, trials)
        return _power(np.bincount(cells, null), np.bincount(cells, planted), trials, false_alarm)

    upper = 1
    while power(upper) < 1 - miss:
        upper *= 2
        if upper > _MOST_TRIALS:
            raise ValueError("alternative must differ more from law: it takes over 2^48 trials")
    return bisect_left(range(upper), True, lo=upper // 2, key=lambda s: power(s) >= 1 - miss)


def _power(null: NDArray, planted: NDArray, trials: float, false_alarm: float) -> float:
    """Smaller of the two approximations of the chance to reject."""
    # One count where the law has none suffices; if they are rare, the others may tell sooner.
    impossible = min(float(planted[null == 0].sum()), 1 - 1e-16)
    contradicted = -math.expm1(trials * math.log1p(-impossible))
    null, planted = null[null > 0], planted[null > 0] / (1 - impossible)
    num_cells = null.size
    if num_cells < 2:
        return contradicted
    critical = 2 * _critical(num_cells, false_alarm)
    support = planted > 0
    log_ratio = np.log(planted[support]) - np.log(null[support])
    kl = _relative_entropy(planted, null)
    spread = float(planted[support] @ np.square(log_ratio - kl))
    freedom, shift = num_cells - 1, 2 * trials * kl
    near = 1 - scipy.special.chndtr(critical, freedom, shift)
    far = scipy.special.ndtr((shift - critical) / (2 * math.sqrt(trials * spread) + 1e-300))
    return max(contradicted, float(min(near, far)))


def _critical(num_cells: int, false_alarm: float) -> float:
    """Where :func:`_histogram_tail` falls to ``false_alarm``: Lambert's W on its lower branch."""
    freedom = num_cells - 1
    depth = 1 - math.log(false_alarm) / freedom
    return -freedom * float(scipy.special.lambertw(-math.exp(-depth), k=-1).real)


def _histogram_tail(statistic: float, num_cells: int) -> float:
    """Chernoff's bound with Gamma(K − 1)."""
    freedom = num_cells - 1
    if math.isinf(statistic):
        return 0.0
    if freedom == 0 or statistic <= freedom:
        return 1.0
    return math.exp(freedom * math.log(statistic / freedom) - statistic + freedom)


def _cells(probs: NDArray, trials: float) -> NDArray[np.intp]:
    """Cell of each outcome: its own, or one common cell for those that expect few counts.

    An outcome that the law excludes keeps its own cell: a single count there is a contradiction.
    """
    small = (probs * trials < _POOL_BELOW) & (probs > 0)
    if small.sum() < 2:
        return np.arange(probs.size)
    return np.where(small, 0, np.cumsum(~small))


def _relative_entropy(sample: NDArray, law: NDArray) -> float:
    return max(0.0, float(scipy.special.rel_entr(sample, law).sum()))
