"""Claims on the divergence of soft best-of-n from its reference by the range of the reward."""

from __future__ import annotations

import math
from functools import partial

import jax
import jax.numpy as jnp

import bon_theory as bt
from paper_repro.papers.claim import ABSTRACT, DERIVED, Claim, Tolerance
from paper_repro.papers.inequalities import never_violated

_PAPER = "smoothing_lens"
_CHECKED_BY = ("soft_best_of_n(8, 0.2) on distinct rewards",)
# Two outcomes with r = 0 and 1, the better one ever rarer: where the bound is approached.
_RARE = (1e-3, 1e-6, 1e-9)


@partial(jax.jit, static_argnames="n")
def _rare_top_divergence(top: float, n: float) -> jax.Array:
    law = bt.Policy.from_probs(jnp.stack([1 - top, top]), jnp.array([0.0, 1.0]))
    return bt.renyi_divergence(bt.soft_best_of_n(law, n, 0.25), law, jnp.inf)


CLAIMS: tuple[Claim, ...] = (
    never_violated(
        "soft_best_of_n_kl_from_range",
        "soft_best_of_n_kl_tie_free",
        id="smoothing/kl-from-range",
        where="Lemma 4.1",
        provenance=ABSTRACT,
        paper=_PAPER,
        statement="KL(P(n, λ)‖π) ≤ log(n/(1 + (n−1)e^{−R/λ})) for rewards of range R.",
        sharper=(
            "KL(P(n, λ)‖π) ≤ log n − (n−1)/n as well, smaller once R/λ exceeds about log n − 1: "
            "soft selection spends no more than best-of-n."
        ),
        figure="bounds",
        test="bon_theory/test_bounds.py::test_no_bound_is_violated",
    ),
    Claim(
        id="smoothing/range-bound-is-the-largest-log-ratio",
        kind="asymptotic",
        where="beside Lemma 4.1",
        provenance=DERIVED,
        paper=_PAPER,
        statement=(
            "It bounds D_∞(P(n, λ)‖π) as well, and is approached when the better of two outcomes "
            "becomes rare; R/λ = 4, n = 8."
        ),
        compute=lambda: [float(_rare_top_divergence(top, 8.0)) for top in _RARE],
        expected=(math.log(8 / (1 + 7 * math.exp(-4))),) * len(_RARE),
        tolerance=Tolerance("the better outcome comes twice with probability 7ε", absolute=7e-3),
        labels=tuple(f"ε={top:g}" for top in _RARE),
        test="bon_theory/test_bounds.py::test_no_bound_is_violated",
        checked_by=_CHECKED_BY,
    ),
)
