"""Claims on numbers of draws that are limited on average alone, beside a fixed one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

import bon_theory as bt
from paper_repro.papers.claim import DERIVED, Claim, Tolerance

_MEANS = (2.0, 4.0, 8.0)
_PLACE = "beside rejection sampling beyond best-of-n"


@jax.jit
def _losses(reference: bt.Policy) -> Array:
    """The chances to lose to the reference, of best-of-c and of the top 1/c."""
    means = jnp.asarray(_MEANS)
    laws = bt.best_of_n(reference, means), bt.top_fraction(reference, 1 / means)
    return jnp.concatenate([1 - bt.win_rate(law, reference) for law in laws])


def _at_equal_means() -> NDArray[np.float64]:
    return np.asarray(_losses(bt.Policy.uniform_reward(breaks=(0.5, 0.75, 0.875))))


def _stopped() -> list[float]:
    reference = bt.Policy.uniform_reward(breaks=(0.7,))
    law = bt.best_of_n_stopped(reference, threshold=0.7, n_max=5)
    win, kl = bt.win_rate(law, reference), bt.kl_divergence(law, reference)
    return [float(bt.mean_draws_stopped(0.7, 5)), float(win), float(kl)]


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="guarantees/half-the-loss",
        paper="best_of_n_guarantees",
        where=_PLACE,
        provenance=DERIVED,
        statement=(
            "At c draws on average no rule wins more than 1 − 1/(2c), which drawing until a rank "
            "is in the top 1/c attains; best-of-c wins 1 − 1/(c+1). Entries: what they lose."
        ),
        compute=_at_equal_means,
        expected=(*(1 / (c + 1) for c in _MEANS), *(1 / (2 * c) for c in _MEANS)),
        tolerance=Tolerance("1,281 nodes for each rank interval, in float64", relative=1e-12),
        labels=(*(f"best-of-{c:g}" for c in _MEANS), *(f"top 1/{c:g}" for c in _MEANS)),
        figure="budgets",
        test="bon_theory/test_mean_draws.py::test_the_best_that_c_draws_can_do_is_the_top_fraction",
        checked_by=("best_of_n on tied rewards",),
    ),
    Claim(
        id="guarantees/stopped",
        paper="best_of_n_guarantees",
        where=_PLACE,
        provenance=DERIVED,
        statement=(
            "The first draw of rank .7 or more, of at most five, else the best: 2.77 draws on "
            "average, a win rate of .805 and .745 nats, where best-of-2.77 wins .735."
        ),
        compute=_stopped,
        expected=(2.7731, 0.805181, 0.744797),
        tolerance=Tolerance(
            "stated to 4 or 6 digits after the point", absolute=5e-7, relative=1e-6
        ),
        labels=("mean draws", "win rate", "KL divergence"),
        figure="budgets",
        test="bon_theory/test_selection_continuous.py::test_stopping_at_a_rank_has_its_closed_forms",
        checked_by=("best_of_n_stopped(0.6, 4) on tied rewards",),
    ),
)
