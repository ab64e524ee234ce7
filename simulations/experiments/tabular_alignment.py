"""Losses minimised over all laws of a model's responses: do they end where theory says?

The losses are those of training, :mod:`simulations.alignment.losses`, functions of given pairs'
log-probabilities. Here they are averaged over every pair with its exact probability, and the law of
the M responses is a table of M numbers, which L-BFGS moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

import bon_theory as bt
from bon_theory import alignment
from simulations.alignment.losses import PairLogProbs
from simulations.alignment.training import Objective, Terms
from simulations.experiments.enumerable_alignment import EnumerableAlignmentConfig, problem
from simulations.tools.precision import require_float64

_BETA = 0.1  # of ordinary IPO: the tilt of the rank by 10


@dataclass(frozen=True)
class TableEnd:
    """Where a loss ended.

    Attributes:
        win_rate: against the reference.
        kl: from the reference.
        exact_win_rate: of the population's minimiser.
        exact_kl: likewise.
        total_variation: from the minimiser.
        to_best_of_n: total variation from best-of-n.
    """

    win_rate: float
    kl: float
    exact_win_rate: float
    exact_kl: float
    total_variation: float
    to_best_of_n: float


@dataclass(frozen=True)
class TableLoss:
    """A loss, whether its pairs are ordinary ones, and its population's minimiser.

    Attributes:
        objective: given n.
        minimiser: given the reference and n.
        ordinary: pairs of two candidates.
    """

    objective: Callable[[int], Objective]
    minimiser: Callable[[bt.Policy, int], bt.Policy]
    ordinary: bool = False


LOSSES = {
    "SFT-BoN": TableLoss(
        lambda n: Objective.sft_best_of_n(), lambda p, n: alignment.sft_best_of_n(p, n=n)
    ),
    "IPO-BoN": TableLoss(
        lambda n: Objective.bonbon(n=n, sft_weight=0.0),
        lambda p, n: alignment.ipo_best_of_n(p, n=n),
    ),
    "BoNBoN, α = 0.005": TableLoss(
        lambda n: Objective.bonbon(n=n), lambda p, n: alignment.bonbon(p, n=n, sft_weight=0.005)
    ),
    "BoNBoN, α = 0.5": TableLoss(
        lambda n: Objective.bonbon(n=n, sft_weight=0.5),
        lambda p, n: alignment.bonbon(p, n=n, sft_weight=0.5),
    ),
    "IPO, ordinary": TableLoss(
        lambda n: Objective.ipo(beta=_BETA),
        lambda p, n: alignment.ipo(p, n=2, beta=_BETA),
        ordinary=True,
    ),
    "matched targets": TableLoss(
        lambda n: Objective.ipo_matched(), lambda p, n: alignment.ipo_matched(p, n=n)
    ),
}


def run(config: EnumerableAlignmentConfig, key: jax.Array) -> dict[str, TableEnd]:
    """The end of each loss, on the model and reward of the experiment; consumes ``key``."""
    require_float64("tabular_alignment")
    problem_key, _ = jax.random.split(key)
    _, _, reference = problem(config, problem_key)
    return {name: _end(reference, config.n, loss) for name, loss in LOSSES.items()}


def _end(reference: bt.Policy, n: int, which: TableLoss) -> TableEnd:
    best, minimiser = bt.best_of_n(reference, n), which.minimiser(reference, n)
    margins = np.asarray(bt.log_ratio(best, reference))
    terms = which.objective(n).of(margins[:, None] - margins[None, :])
    joint = alignment.best_and_worst_probs(reference, n=2 if which.ordinary else n)
    # In these units steps are as large for rare responses as for frequent ones.
    unit = np.sqrt(np.asarray(reference.probs))

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, slope = _loss_and_slope(jnp.asarray(x / unit), joint, reference.log_probs, terms)
        return float(loss), np.asarray(slope) / unit

    options = {"maxiter": 400, "maxcor": 20, "ftol": 1e-14, "gtol": 1e-9}
    found = minimize(value, np.zeros(unit.size), jac=True, method="L-BFGS-B", options=options)
    end = bt.Policy.from_logits(reference.log_probs + found.x / unit, reference.rewards)
    return TableEnd(
        float(bt.win_rate(end, reference)),
        float(bt.kl_divergence(end, reference)),
        float(bt.win_rate(minimiser, reference)),
        float(bt.kl_divergence(minimiser, reference)),
        float(bt.total_variation(end, minimiser)),
        float(bt.total_variation(end, best)),
    )


@jax.jit
@jax.value_and_grad
def _loss_and_slope(
    h: jax.Array, joint: jax.Array, log_probs: jax.Array, terms: Terms
) -> jax.Array:
    """Mean loss over all pairs of the law π e^h / Z."""
    policy = jax.nn.log_softmax(log_probs + h)
    pairs = PairLogProbs(
        *(
            jnp.broadcast_to(part, joint.shape)
            for part in (policy[:, None], policy[None], log_probs[:, None], log_probs[None])
        )
    )
    return jnp.sum(joint * terms.values(pairs))
