r"""Divergences of the law that counts were sampled from, with bias taken off and error bars.

For D = Σ_k φ_k(p_k) and the shares p̂ of S trials, a Taylor expansion to second order under the
multinomial law gives (derived here)

.. math::
    E D(\hat p) - D(p) \approx \frac1{2S} \sum_k \varphi_k'' p_k (1 - p_k), \qquad
    S \operatorname{Var} D(\hat p) \approx \operatorname{Var}_p \varphi'
        + \frac1{2S} \operatorname{tr} (H \Sigma)^2,

with H the diagonal of φ'' and Σ = diag p − p pᵀ. For the KL divergence the first is Miller's
(K − 1)/(2S). The second-order term of the variance is all there is where p = q, and there it is
that of χ²/(2S).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import MappingProxyType

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from simulations.statistics.estimate import Estimate
from simulations.tools.arguments import counts_of, probabilities

Array = NDArray[np.float64]
Terms = Callable[[Array, Array], tuple[Array, Array, Array]]
"""(p, q) -> φ(p) and its first two derivatives, where p > 0."""

# At p = 0 the first three are finite: φ(0) = 0, q and q; a reverse divergence is not.
DIVERGENCES: MappingProxyType[str, Terms] = MappingProxyType(
    {
        "kl": lambda p, q: (scipy.special.rel_entr(p, q), np.log(p / q) + 1, 1 / p),
        "chi_squared": lambda p, q: ((p - q) ** 2 / q, 2 * (p - q) / q, 2 / q),
        "squared_hellinger": lambda p, q: (
            (np.sqrt(p) - np.sqrt(q)) ** 2,
            1 - np.sqrt(q / p),
            np.sqrt(q / p) / (2 * p),
        ),
        "reverse_kl": lambda p, q: (scipy.special.rel_entr(q, p), -q / p, q / p**2),
    }
)


def divergence_from_counts(counts: ArrayLike, law: ArrayLike, name: str = "kl") -> Estimate:
    """Divergence of the sampled law P from an exact law Q: bias-corrected, with standard error.

    Where P and Q cannot be told apart the standard error is up to a half too large.

    Args:
        counts: ``[K]`` nonnegative integers, S in all.
        law: ``[K]`` probabilities Q.
        name: ``"kl"`` for KL(P‖Q), ``"reverse_kl"`` for KL(Q‖P), ``"chi_squared"`` for
            Σ(p − q)²/q, ``"squared_hellinger"`` for Σ(√p − √q)².

    Raises:
        ValueError: for inadmissible counts or law, an unknown name, or a divergence that is
            infinite on this sample: an outcome seen that Q excludes, or, for ``"reverse_kl"``, one
            unseen that Q has.

    Source:
        Miller, Note on the bias of information estimates (1955); Paninski, Estimation of entropy
        and mutual information, Neural Computation 15 (2003).

    Example:
        >>> estimate = divergence_from_counts([4000, 6000], [0.5, 0.5])
        >>> round(estimate.mean, 4), round(estimate.std_error, 4)  # exact: 0.0201
        (0.0201, 0.002)
    """
    q = probabilities("law", law)
    observed = counts_of(counts, q, "law")
    if name not in DIVERGENCES:
        raise ValueError(f"name must be one of {', '.join(DIVERGENCES)}, got {name!r}")
    if np.any(observed[q == 0] > 0) or (name == "reverse_kl" and np.any(observed[q > 0] == 0)):
        raise ValueError(f"{name} is infinite on these counts: sample more, or join outcomes")

    total = observed.sum()
    p = observed / total
    seen = p > 0
    unseen = {"kl": 0.0, "reverse_kl": 0.0}.get(name, float(q[~seen].sum()))
    value, slope, curvature = DIVERGENCES[name](p[seen], q[seen])
    p = p[seen]
    bias = float(curvature @ (p * (1 - p))) / (2 * total)
    first = float(p @ np.square(slope - p @ slope))
    # tr (HΣ)² with Σ = diag p − p pᵀ.
    a = curvature * p
    second = float(np.sum(a**2 * (1 - p) ** 2) + np.sum(a * p) ** 2 - np.sum((a * p) ** 2))
    # The shares' own noise adds second/S to the expectation of first, all of it where P = Q.
    variance = (max(0.0, first - second / total) + second / (2 * total)) / total
    return Estimate(float(value.sum() + unseen - bias), math.sqrt(variance), int(total))
