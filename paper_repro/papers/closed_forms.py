"""Closed forms that several papers state, in plain arithmetic: what expected values are made of."""

from __future__ import annotations

import math


def tie_free_kl(n: float) -> float:
    """log n − (n−1)/n: the divergence of best-of-n from a reference without ties, in nats."""
    return math.log(n) - (n - 1) / n
