"""Claims on what the paper's losses converge to: population minimisers, exactly.

[G] choose β*_n so that best-of-n has the right mean margin, and take best-of-n for what IPO-BoN and
BoNBoN aim at. Their minimisers are elsewhere; what the training reaches is a matter of its length.
"""

from __future__ import annotations

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

import bon_theory as bt
from bon_theory import alignment
from paper_repro.papers.claim import DERIVED, READ, Claim, Tolerance, printed

_claim = partial(Claim, paper="bonbon_alignment", provenance=READ)

N, SFT_WEIGHT = 8, 0.005  # the paper's
MANY = (16, 32, 64, 128)
_GRID = Tolerance("integral equation on a grid of ranks, to 1e-9", absolute=1e-9)
_PLACES = ("win rate", "KL")
_BEST_OF_N = (N / (N + 1), float(np.log(N)) - (N - 1) / N)
_CHECKED_BY = ("best_of_n on distinct rewards", "worst_of_n on distinct rewards")

# Three-valued rewards with a tie, for claims about atoms.
PROBS, REWARDS = (0.3, 0.1, 0.25, 0.15, 0.2), (0.0, 1.0, 1.0, 2.0, 3.0)


@cache
def uniform() -> bt.Policy:
    """A reward without ties; the break is where minimisers turn."""
    return bt.Policy.uniform_reward(num_nodes=641, breaks=(0.5,))


@jax.jit
def _place(reference: bt.Policy, n: Array, sft_weight: Array) -> tuple[Array, Array]:
    """Win rate and KL divergence of BoNBoN's minimiser."""
    policy = alignment.bonbon(reference, n, sft_weight)
    return bt.win_rate(policy, reference), bt.kl_divergence(policy, reference)


@cache
def _placed(n: int, sft_weight: float) -> tuple[float, float]:
    win_rate, kl = _place(uniform(), jnp.asarray(float(n)), jnp.asarray(sft_weight))
    return float(win_rate), float(kl)


def _better_half_excess(n: int) -> float:
    """log(2m)/(8(n−1)), m the target margin: to first order by how much the win rate exceeds 3/4.

    Near the median h = m·tanh((n−1)x/2) in the log-odds x, so e^h has its full size where
    2m·e^(−(n−1)x) < 1: the half starts at rank 1/2 + log(2m)/(4(n−1)), and half of the shift is
    gained.
    """
    margin = 0.5 / float(alignment.best_of_n_beta(n))
    return float(np.log(2 * margin)) / (8 * (n - 1))


@jax.jit
def _distance_to_optimum(reference: bt.Policy, beta: Array) -> Array:
    """TV between IPO's minimiser on ordinary pairs and the win-rate optimum with c = 1/β."""
    optimum = bt.win_rate_optimal(reference, 1 / beta)
    return bt.total_variation(alignment.ipo(reference, beta), optimum)


@jax.jit
def _dpo_losses(strengths: Array) -> Array:
    """DPO's loss, deterministic ranker, along the tilts of the rank."""
    reference = bt.Policy.from_probs(jnp.asarray(PROBS), jnp.asarray(REWARDS))
    return alignment.dpo_loss(bt.win_rate_optimal(reference, strengths), reference, 0.1, N)


def _dpo_gains() -> np.ndarray:
    """How much the loss falls from each strength to ten times it."""
    losses = _dpo_losses(jnp.asarray([1.0, 10.0, 100.0, 1000.0, 10_000.0]))
    return -np.diff(np.asarray(losses))


def _matched_error() -> list[float]:
    """TV between best-of-n and the least-squares fit of every pair's own margin; n = 2, 4, 8."""
    reference = bt.Policy.from_probs(jnp.asarray(PROBS), jnp.asarray(REWARDS))
    return [_fitted_error(reference, n) for n in (2, 4, N)]


def _fitted_error(reference: bt.Policy, n: int) -> float:
    best = bt.best_of_n(reference, n)
    margins = np.asarray(bt.log_ratio(best, reference))
    joint = np.asarray(alignment.best_and_worst_probs(reference, n))
    i, j = np.nonzero(joint)
    weight = np.sqrt(joint[i, j])
    contrasts = weight[:, None] * (np.eye(len(PROBS))[i] - np.eye(len(PROBS))[j])
    h = np.linalg.lstsq(contrasts, weight * (margins[i] - margins[j]), rcond=None)[0]
    fitted = bt.Policy.from_logits(reference.log_probs + h, reference.rewards)
    return float(bt.total_variation(fitted, best))


CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="bonbon/ipo-bon-aims-at-best-of-n",
        where="IPO-BoN",
        statement=(
            "IPO-BoN with β*_n is a contrastive loss with best-of-n as its target. Entries: win "
            "rate and KL of its minimiser at n = 8."
        ),
        compute=lambda: _placed(N, 0.0),
        expected=_BEST_OF_N,
        tolerance=_GRID,
        labels=_PLACES,
        known_difference=(
            "β*_n makes the mean margin of best-of-n right, but one target for every pair is "
            "nearest in square to another law: its win rate is .814, its KL .879."
        ),
        consequence=(
            "The longer IPO-BoN is trained, the further it ends from best-of-8: where training "
            "stops is a hyper-parameter that the loss does not set. A target of its own for every "
            "pair, (n−1)·log(F(best)/F(worst)), has best-of-n as its minimiser."
        ),
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/bonbon-aims-at-best-of-n",
        where="BoNBoN",
        statement=(
            "BoNBoN combines two losses that both aim at best-of-n. Entries: win rate and KL of "
            "its minimiser at α = 0.005, n = 8."
        ),
        compute=lambda: _placed(N, SFT_WEIGHT),
        expected=_BEST_OF_N,
        tolerance=_GRID,
        labels=_PLACES,
        known_difference=(
            "At α = 0.005 the minimiser is nearly that of IPO-BoN: win rate .814, KL .879. The two "
            "terms pull towards different laws, so that each regularises against the other."
        ),
        consequence=(
            "α is no neutral mixing weight: it chooses the law aimed at, from IPO-BoN's minimiser "
            "at 0 to best-of-n at 1, and 0.005 chooses a law that wins .814 instead of .889."
        ),
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/converged",
        where="BoNBoN",
        statement=(
            "Trained to the end at n = 8, BoNBoN has win rate .81407 and KL .87909 at α = .005, "
            ".88559 and 1.18749 (up to 2e-5) at α = .95, and is best-of-8 at α = 1."
        ),
        compute=lambda: np.ravel([_placed(N, weight) for weight in (SFT_WEIGHT, 0.95, 1.0)]),
        expected=(0.81407, 0.87909, 0.88559, 1.18749, *_BEST_OF_N),
        tolerance=Tolerance("stated from a table of finitely many levels", absolute=2e-5),
        labels=tuple(f"{name}, α={w}" for w in (SFT_WEIGHT, 0.95, 1.0) for name in _PLACES),
        provenance=DERIVED,
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/ipo-bon-converged",
        where="IPO-BoN",
        statement="The minimiser of IPO-BoN at n = 8 has win rate .813681 and KL .878527.",
        compute=lambda: _placed(N, 0.0),
        expected=(0.813681, 0.878527),
        tolerance=printed(6),
        labels=_PLACES,
        provenance=DERIVED,
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/ipo-bon-better-half",
        where="IPO-BoN",
        statement=(
            "With more candidates IPO-BoN's minimiser does not improve but tends to the better "
            "half of the reference: its win rate is 3/4 + log(2m)/(8(n−1)), m = 1/(2β*_n), to "
            "first order."
        ),
        compute=lambda: [_placed(n, 0.0)[0] for n in MANY],
        expected=tuple(0.75 + _better_half_excess(n) for n in MANY),
        tolerance=Tolerance("terms of relative order 1/log n of the excess over 3/4", 0.002),
        labels=tuple(f"n={n}" for n in MANY),
        provenance=DERIVED,
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/ipo-minimiser-without-ties",
        where="relation to contrastive methods",
        statement=(
            "IPO on ordinary pairs has the win-rate optimum with c = 1/β as its minimiser, without "
            "ties as well. Entries: TV between the two."
        ),
        compute=lambda: [_distance_to_optimum(uniform(), jnp.asarray(b)) for b in (1.0, 0.2)],
        expected=(0.0, 0.0),
        tolerance=_GRID,
        labels=("β=1", "β=0.2"),
        provenance=DERIVED,
        checked_by=("win_rate_optimal on uniform reward",),
    ),
    _claim(
        id="bonbon/dpo-no-minimiser",
        where="relation to contrastive methods",
        statement=(
            "With a deterministic ranker DPO has no minimiser: along the tilts of the rank its "
            "loss falls for ever. Entries: its fall from strength c to 10c."
        ),
        compute=_dpo_gains,
        expected=(0.0,) * 4,
        kind="inequality",
        relation=">=",
        tolerance=Tolerance("an inequality: no slack"),
        labels=tuple(f"c={c}" for c in (1, 10, 100, 1000)),
        provenance=DERIVED,
        checked_by=_CHECKED_BY,
    ),
    _claim(
        id="bonbon/matched-targets",
        where="IPO-BoN",
        statement=(
            "IPO with each pair's own margin, (n−1)·log(F(best)/F(worst)) without ties, as its "
            "target has best-of-n as its minimiser. Entries: TV between best-of-n and the "
            "least-squares fit over the law of pairs."
        ),
        compute=_matched_error,
        expected=(0.0,) * 3,
        tolerance=Tolerance("least squares in float64", absolute=1e-11),
        labels=("n=2", "n=4", "n=8"),
        provenance=DERIVED,
        checked_by=_CHECKED_BY,
    ),
)
