r"""Where the true score turns down: parabolas in the square root of the divergence, with errors."""

from __future__ import annotations

import dataclasses
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bon_theory.pools.curves import Curve

__all__ = ["PeakFit", "fit_peak"]


@dataclasses.dataclass(frozen=True)
class PeakFit:
    r"""A fit of the gain over the model as a function of :math:`d = \sqrt{\mathrm{KL}}`.

    Attributes:
        form: "linear" for :math:`d(\alpha - \beta d)`, "log" for :math:`d(\alpha - \beta \log d)`.
        alpha: :math:`\alpha`.
        beta: :math:`\beta`.
        covariance: ``[2, 2]`` of both, over prompts.
        peak: d at which the fit is highest, infinite where it does not turn down.
        peak_error: its standard error, by the delta method.
        gain: the fit at the peak.
        gain_error: its standard error.
        residual: largest absolute deviation of the mean curve from the fit.
    """

    form: str
    alpha: float
    beta: float
    covariance: NDArray[np.float64]
    peak: float
    peak_error: float
    gain: float
    gain_error: float
    residual: float


def fit_peak(curve: Curve, *, form: Literal["linear", "log"] = "linear") -> PeakFit:
    r"""Least squares for the gain over n = 1, with standard errors over prompts.

    .. math:: R(d) = d\,(\alpha - \beta d) \quad\text{or}\quad d\,(\alpha - \beta \log d), \qquad
              d = \sqrt{\log n - (n - 1)/n}.

    Both are linear in their coefficients, so that a prompt has coefficients of its own whose mean
    is the fit to the mean curve, and whose spread is its error. They peak at
    :math:`\alpha/(2\beta)` and :math:`e^{\alpha/\beta - 1}`.

    Args:
        curve: of best-of-n, with n = 1 and at least two others, of at least two prompts.
        form: "linear" (Gao et al.'s for best-of-n) or "log" (theirs for reinforcement learning).

    Raises:
        ValueError: n = 1 is missing, there are fewer than two others, or one prompt; ``form`` is
            unknown.

    Example:
        >>> import numpy as np
        >>> import bon_theory as bt
        >>> proxy = np.random.default_rng(0).normal(size=(50, 32))
        >>> pool = bt.pools.Pool.from_lists(proxy, true_scores=proxy - 0.4 * proxy**2)
        >>> fit = bt.pools.fit_peak(bt.pools.best_of_n_curve(pool, of="true_scores"))
        >>> 0.2 < fit.peak < 1.5
        True

    [Gao] §3 for the forms; the errors are derived here.
    """
    if form not in ("linear", "log"):
        raise ValueError(f"form must be 'linear' or 'log', got {form!r}.")
    others = curve.n > 1
    if others.all() or np.unique(curve.n[others]).size < 2 or np.sum(curve.weights > 0) < 2:
        raise ValueError(
            f"curve must have n = 1, two others and two prompts, got n {curve.n.tolist()!s:.60} "
            f"of {curve.weights.size} prompts."
        )
    n = curve.n[others].astype(float)
    d = np.sqrt(np.log(n) - (n - 1) / n)
    basis = np.stack([d, -d * (d if form == "linear" else np.log(d))], axis=1)
    base = curve.per_prompt[:, np.flatnonzero(~others)[:1]]
    gains = curve.per_prompt[:, others] - base
    coefficients = gains @ np.linalg.pinv(basis).T  # [B, 2]
    mean = curve.weights @ coefficients
    deviations = curve.weights[:, None] * (coefficients - mean)
    count = int(np.sum(curve.weights > 0))
    covariance = deviations.T @ deviations * count / (count - 1)
    alpha, beta = mean.tolist()
    peak, gain, slopes = _peak(form, alpha, beta)
    with np.errstate(invalid="ignore"):
        errors = np.sqrt(np.einsum("si,ij,sj->s", slopes, covariance, slopes))
    residual = float(np.max(np.abs(basis @ mean - curve.weights @ gains)))
    return PeakFit(
        form, alpha, beta, covariance, peak, float(errors[0]), gain, float(errors[1]), residual
    )


def _peak(form: str, alpha: float, beta: float) -> tuple[float, float, NDArray[np.float64]]:
    """Where, how high, and the derivatives of both by alpha and beta."""
    if beta <= 0 or (form == "linear" and alpha <= 0):
        top = 0.0 if form == "linear" and alpha <= 0 <= beta else np.inf
        return top, 0.0 if top == 0 else np.inf, np.full((2, 2), 0.0 if top == 0 else np.inf)
    if form == "linear":
        peak = alpha / (2 * beta)
        by = [[1 / (2 * beta), -peak / beta], [peak, -(peak**2)]]
        return peak, alpha * peak / 2, np.array(by)
    peak = float(np.exp(alpha / beta - 1))
    by = [[peak / beta, -peak * alpha / beta**2], [peak, -peak * np.log(peak)]]
    return peak, beta * peak, np.array(by)
