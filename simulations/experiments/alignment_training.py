"""Training a table of logits on best-and-worst pairs: does it end where the exact theory says?

The real process: draw n candidates from the reference, rank them with ties broken by lot, keep the
first and the last, take a stochastic gradient step on the loss of those pairs. Three ways of ending
precisely:

* *averaged*: constant steps, the iterates of the second half averaged (Polyak and Juditsky 1992),
  independent replicas. Unbiased for a quadratic loss; the standard error comes from the replicas.
* *anchored*: the batch's gradient at an anchor is subtracted and the exact one added (a control
  variate; SVRG, Johnson and Zhang 2013). The noise vanishes with the distance from the anchor,
  which is moved along, so the iterates converge at a geometric rate.
* *plain*: constant steps and nothing else. With a target per pair (``matched``) the residual of
  every pair is zero at the minimiser, so the noise vanishes by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpy.typing import ArrayLike, NDArray

import bon_theory as bt
from bon_theory import alignment
from simulations.tools.precision import require_float64

__all__ = [
    "AlignmentTrainingConfig",
    "Loss",
    "AlignmentTrainingOutcome",
    "AlignmentTrainingResults",
    "run",
]

Ending = Literal["averaged", "anchored", "plain"]


@dataclass(frozen=True)
class Loss:
    """α·SFT-BoN + (1−α)·IPO-BoN, or with each pair's own margin at best-of-n as its target.

    Attributes:
        name: as in the results.
        sft_weight: α.
        matched: a target per pair instead of 1/(2β*_n).
        endings: the ways to train it.
    """

    name: str
    sft_weight: float
    matched: bool = False
    endings: tuple[Ending, ...] = ("averaged", "anchored")


LOSSES = (
    Loss("IPO-BoN", 0.0),
    Loss("BoNBoN, α = 0.005", 0.005),
    Loss("BoNBoN, α = 0.5", 0.5),
    Loss("matched targets", 0.0, matched=True, endings=("plain",)),
    Loss("matched targets, α = 0.5", 0.5, matched=True, endings=("anchored",)),
)


@dataclass(frozen=True)
class AlignmentTrainingConfig:
    """The table, and how long to train it.

    Attributes:
        probs: of the reference's outcomes.
        rewards: of the outcomes; ties are allowed.
        n: candidates per pair.
        losses: which.
        batch_size: pairs per step.
        num_steps: steps per run.
        num_replicas: independent runs of *averaged*.
        learning_rate: constant; in units of the mean loss per pair.
        anchor_every: steps between moves of the anchor.
    """

    probs: tuple[float, ...] = (0.3, 0.1, 0.25, 0.15, 0.2)
    rewards: tuple[float, ...] = (0.0, 1.0, 1.0, 2.0, 3.0)
    n: int = 4
    losses: tuple[Loss, ...] = LOSSES
    batch_size: int = 1024
    num_steps: int = 4000
    num_replicas: int = 16
    learning_rate: float = 0.3
    anchor_every: int = 50

    @property
    def reference(self) -> bt.Policy:
        """The law of one draw."""
        return bt.Policy.from_probs(self.probs, self.rewards)


@dataclass(frozen=True)
class AlignmentTrainingOutcome:
    """Where one training ended.

    Attributes:
        loss: its name.
        ending: how.
        exact: probabilities of the minimiser, by exact theory, ``[K]``.
        reached: probabilities at the end (of *averaged*: at the mean of the logits), ``[K]``.
        std_error: of ``reached``, from the replicas of *averaged*; None for the two that converge.
    """

    loss: str
    ending: Ending
    exact: NDArray[np.float64]
    reached: NDArray[np.float64]
    std_error: NDArray[np.float64] | None

    @property
    def distance(self) -> float:
        """The largest difference of a probability."""
        return float(np.max(np.abs(self.reached - self.exact)))

    def z_score(self, probs: ArrayLike) -> float:
        """The largest difference from ``probs [K]`` in standard errors, of *averaged*."""
        if self.std_error is None:
            raise ValueError(f"z_score needs a standard error, got the ending {self.ending!r}")
        return float(np.max(np.abs(self.reached - np.asarray(probs)) / self.std_error))


@dataclass(frozen=True)
class AlignmentTrainingResults:
    """One outcome per loss and ending.

    Attributes:
        config: what was asked for.
        outcomes: in the order of the losses and their endings.
    """

    config: AlignmentTrainingConfig
    outcomes: tuple[AlignmentTrainingOutcome, ...]


class _Problem(NamedTuple):
    """What a step needs: the reference, levels of reward, and the target of each pair."""

    log_probs: Array
    level: Array
    targets: Array
    sft_weight: Array


def run(config: AlignmentTrainingConfig, key: Array) -> AlignmentTrainingResults:
    """Train every loss in every way it names; consumes ``key``. Needs float64."""
    require_float64("alignment_training")
    reference = config.reference
    keys = iter(jax.random.split(key, sum(len(loss.endings) for loss in config.losses)))
    outcomes = [
        _train(config, reference, loss, ending, next(keys))
        for loss in config.losses
        for ending in loss.endings
    ]
    return AlignmentTrainingResults(config, tuple(outcomes))


def _train(
    config: AlignmentTrainingConfig, reference: bt.Policy, loss: Loss, ending: Ending, key: Array
) -> AlignmentTrainingOutcome:
    exact = _minimiser(config, reference, loss)
    problem = _problem(config, reference, loss)
    if ending == "averaged":
        keys = jax.random.split(key, config.num_replicas)
        runs = [_descend(config, problem, each, anchored=False) for each in keys]
        logits = jnp.stack([mean for _, mean in runs])
        probs = np.asarray(jax.nn.softmax(jnp.mean(logits, axis=0)))
        spread = np.asarray(jax.nn.softmax(logits)).std(axis=0, ddof=1)
        error = spread / np.sqrt(config.num_replicas)
    else:
        last, _ = _descend(config, problem, key, anchored=ending == "anchored")
        probs, error = np.asarray(jax.nn.softmax(last)), None
    return AlignmentTrainingOutcome(loss.name, ending, np.asarray(exact.probs), probs, error)


def _minimiser(config: AlignmentTrainingConfig, reference: bt.Policy, loss: Loss) -> bt.Policy:
    if loss.matched:
        return alignment.ipo_matched(reference, n=config.n)
    return alignment.bonbon(reference, n=config.n, sft_weight=loss.sft_weight)


def _problem(config: AlignmentTrainingConfig, reference: bt.Policy, loss: Loss) -> _Problem:
    margin = 0.5 / alignment.best_of_n_beta(config.n)
    targets = jnp.full((len(config.probs),) * 2, margin)
    if loss.matched:
        log_density = bt.log_ratio(bt.best_of_n(reference, config.n), reference)
        targets = log_density[:, None] - log_density[None, :]
    _, level = np.unique(config.rewards, return_inverse=True)
    return _Problem(
        reference.log_probs, jnp.asarray(level, float), targets, jnp.asarray(loss.sft_weight)
    )


@partial(jax.jit, static_argnames=("config", "anchored"))
def _descend(
    config: AlignmentTrainingConfig, problem: _Problem, key: Array, *, anchored: bool
) -> tuple[Array, Array]:
    """The last logits and the mean over the second half of the run, ``[K]`` each."""
    optimiser = optax.sgd(config.learning_rate)
    batch_slope = jax.grad(_batch_loss)
    start = problem.log_probs

    def exact_slope(logits: Any) -> Array:
        return jax.grad(_population_loss)(logits, config, problem)

    def step(state: Any, inputs: tuple[Array, Array]) -> tuple[Any, None]:
        logits, mean, anchor, anchor_slope, memory = state
        key, index = inputs
        best, worst = _pairs(key, config, problem)
        slope = batch_slope(logits, best, worst, problem)
        if anchored:
            move = index % config.anchor_every == 0
            anchor, anchor_slope = jax.lax.cond(
                move,
                lambda: (logits, exact_slope(logits)),
                lambda: (anchor, anchor_slope),
            )
            slope = slope - batch_slope(anchor, best, worst, problem) + anchor_slope
        updates, memory = optimiser.update(slope, memory, logits)
        logits = optax.apply_updates(logits, updates)
        counted = index - config.num_steps // 2 + 1
        share = jnp.where(counted > 0, 1 / jnp.maximum(counted, 1), 0)
        return (logits, mean + (logits - mean) * share, anchor, anchor_slope, memory), None

    inputs = jax.random.split(key, config.num_steps), jnp.arange(config.num_steps)
    state = (start, start, start, jnp.zeros_like(start), optimiser.init(start))
    (last, mean, *_), _ = jax.lax.scan(step, state, inputs)
    return last, mean


def _pairs(key: Array, config: AlignmentTrainingConfig, problem: _Problem) -> tuple[Array, Array]:
    """Best and worst of n draws, ``[B]`` each: ranked by reward, ties by lot."""
    draw_key, lot_key = jax.random.split(key)
    shape = (config.batch_size, config.n)
    cdf = jnp.cumsum(jnp.exp(problem.log_probs))
    uniform = jax.random.uniform(draw_key, shape, cdf.dtype)
    draws = jnp.minimum(jnp.searchsorted(cdf, uniform, side="right"), cdf.size - 1)
    # Levels are whole numbers, so the lot orders ties and nothing else.
    place = problem.level[draws] + jax.random.uniform(lot_key, shape, cdf.dtype)

    def at(index: Array) -> Array:
        return jnp.take_along_axis(draws, index[:, None], axis=1)[:, 0]

    return at(jnp.argmax(place, axis=1)), at(jnp.argmin(place, axis=1))


def _batch_loss(logits: Array, best: Array, worst: Array, problem: _Problem) -> Array:
    log_policy = jax.nn.log_softmax(logits)
    h = log_policy - problem.log_probs
    residual = h[best] - h[worst] - problem.targets[best, worst]
    weight = problem.sft_weight
    return jnp.mean(-weight * log_policy[best] + (1 - weight) * residual**2)


def _population_loss(logits: Array, config: AlignmentTrainingConfig, problem: _Problem) -> Array:
    """The same over the exact law of pairs."""
    joint = alignment.best_and_worst_probs(config.reference, n=config.n)
    log_policy = jax.nn.log_softmax(logits)
    h = log_policy - problem.log_probs
    residual = h[:, None] - h[None, :] - problem.targets
    weight = problem.sft_weight
    pairs = -weight * log_policy[:, None] + (1 - weight) * residual**2
    return jnp.sum(joint * pairs)
