"""Selection among candidates that are given: the picks of real processes, and their exact laws.

Where :mod:`simulations.selection.races` draws candidates by the million, here they came at a cost,
as a language model's responses do, and each has its reward already. A rule is the same race of
noisy scores, argmax r/λ + noise, with the noise of :mod:`simulations.draws.variates`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import jax
import numpy as np
from numpy.typing import ArrayLike, NDArray

import bon_theory as bt
from simulations.draws.variates import exponential, gumbel
from simulations.tools.arguments import integer_within, positive_float

_NOISE = {"gumbel": gumbel, "exponential": exponential}


@dataclass(frozen=True)
class CandidateRule:
    """Keep argmax min(r, τ)/λ + noise among n candidates, the first of equals.

    Made by :func:`best_of_n`, :func:`soft_best_of_n`, :func:`exponential_race` and
    :func:`first_above`.

    Attributes:
        n: how many candidates it looks at.
        temperature: λ; 0 for no noise.
        noise: what is added to r/λ.
        threshold: τ.
    """

    n: int
    temperature: float = 0.0
    noise: Literal["gumbel", "exponential"] = "gumbel"
    threshold: float = math.inf

    def pick(self, words: ArrayLike, rewards: ArrayLike) -> NDArray[np.intp]:
        """Which candidate is kept, ``[...]``.

        Args:
            words: random words ``[..., n]``, uint32, one for each candidate's noise.
            rewards: ``[..., n]``.

        Raises:
            ValueError: another number of candidates, or a reward that is no number.
        """
        scores = np.asarray(rewards, np.float64)
        if scores.ndim == 0 or scores.shape[-1] != self.n:
            raise ValueError(
                f"rewards has shape {scores.shape}, but the rule looks at {self.n} candidates: "
                f"pass [..., {self.n}]"
            )
        if np.isnan(scores).any():
            place = tuple(np.argwhere(np.isnan(scores))[0].tolist())
            raise ValueError(f"rewards is NaN at {place}: give every candidate a number")
        scores = np.minimum(scores, self.threshold)
        if self.temperature > 0:
            noise = _NOISE[self.noise](jax.numpy.asarray(words, jax.numpy.uint32))
            scores = scores / self.temperature + np.asarray(noise, np.float64)
        return np.argmax(scores, axis=-1)

    def law(self, reference: bt.Policy) -> bt.Policy:
        """The exact law of what is kept of n draws from ``reference``."""
        if self.threshold < math.inf:
            capped = np.minimum(np.asarray(reference.rewards), self.threshold)
            kept = bt.best_of_n(bt.Policy.from_logits(reference.log_probs, capped), self.n)
            return bt.Policy.from_logits(kept.log_probs, reference.rewards)
        if self.temperature == 0:
            return bt.best_of_n(reference, self.n)
        race = bt.soft_best_of_n if self.noise == "gumbel" else bt.exponential_race
        return race(reference, self.n, self.temperature)


def best_of_n(n: int) -> CandidateRule:
    """Keep the candidate with the highest reward.

    Example:
        >>> int(best_of_n(3).pick([0, 0, 0], [0.2, 0.9, 0.4]))
        1
    """
    return CandidateRule(_number(n))


def soft_best_of_n(n: int, temperature: float) -> CandidateRule:
    """Keep candidate i with probability ∝ e^{r_i/λ}: argmax r_i/λ + Gumbel_i."""
    return CandidateRule(_number(n), positive_float("temperature", temperature))


def exponential_race(n: int, temperature: float) -> CandidateRule:
    """Keep argmax r_i/λ + Exp(1)_i."""
    return CandidateRule(_number(n), positive_float("temperature", temperature), "exponential")


def first_above(n: int, threshold: float) -> CandidateRule:
    """Keep the first candidate of reward τ or more; of n below it, the best.

    Rejection with a threshold and a budget. Its law is that of best-of-n with rewards capped at τ,
    because candidates are exchangeable (derived here).

    Example:
        >>> rule = first_above(3, 0.5)
        >>> int(rule.pick([0, 0, 0], [0.2, 0.6, 0.9])), int(rule.pick([0, 0, 0], [0.2, 0.4, 0.1]))
        (1, 1)
    """
    if math.isnan(threshold):
        raise ValueError("threshold is nan: choose the reward from which on a candidate is kept")
    return CandidateRule(_number(n), threshold=float(threshold))


def _number(n: int) -> int:
    return integer_within("n", n, at_most=2**31 - 1, remedy="candidates are counted")
