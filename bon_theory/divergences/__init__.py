r"""Divergences between two laws on the same outcomes, in nats; ``(policy, reference)`` throughout.

Every sum is over :math:`\ell = \log P/Q` and is arranged so that its terms have one sign. A
divergence of nearly equal laws therefore keeps its relative accuracy. Where :math:`Q` has no mass
but :math:`P` has, the value is the divergence's own limit (:math:`\infty` for KL, not NaN).
Probabilities that underflow are read off their logarithms, so log-ratios of thousands of nats cost
no accuracy. Outcomes are compared position by position, and rewards are not looked at. The total
variation has a kink, with one-sided derivatives only, wherever :math:`P = Q`.
"""

from bon_theory.divergences.generated import f_divergence
from bon_theory.divergences.named import (
    chi_squared_divergence,
    hockey_stick_divergence,
    jensen_shannon,
    kl_divergence,
    squared_hellinger,
    total_variation,
)
from bon_theory.divergences.renyi import renyi_divergence
from bon_theory.divergences.terms import log_ratio

__all__ = [
    "chi_squared_divergence",
    "f_divergence",
    "hockey_stick_divergence",
    "jensen_shannon",
    "kl_divergence",
    "log_ratio",
    "renyi_divergence",
    "squared_hellinger",
    "total_variation",
]
