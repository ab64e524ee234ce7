"""Policies on their way through alignment, as committed runs found them, by method.

And what is asked of them whatever the model.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

import bon_theory as bt
from paper_repro.papers.claim import DERIVED, Claim, Tolerance
from simulations.alignment.evaluation import PolicyEvaluation
from simulations.experiments.text_policies import TaskReference, TextAlignmentResults

BEST_OF_8_KL, BEST_OF_8_WIN_RATE = np.log(8) - 7 / 8, 8 / 9
"""Of best-of-8, without ties."""

claim_on_runs = partial(
    Claim,
    paper="bonbon_alignment",
    provenance=DERIVED,
    kind="empirical",
    relation=">=",
    tolerance=Tolerance("what is stated is that much at least"),
    figure="aligned_models",
)


class CommittedPaths(NamedTuple):
    """What a file says of one task, by means over seeds.

    Attributes:
        file: written by :class:`~simulations.experiments.text_policies.TextAlignmentResults`.
        task: the name of the reward.
    """

    file: Path
    task: str

    def reference(self) -> TaskReference:
        """The model before training, and best-of-8 sampling."""
        [found] = [each for each in _results(self.file).references if each.task == self.task]
        return found

    def path(self, method: str) -> dict[int, PolicyEvaluation]:
        """By number of updates."""
        return dict(_results(self.file).mean_path(self.task, method))

    def end(self, method: str) -> PolicyEvaluation:
        """After all updates."""
        path = self.path(method)
        return path[max(path)]

    def lengthened(self, method: str) -> float:
        """Tokens that a method's answers are longer than the reference's in the end."""
        end = self.end(method)
        return end.mean_length.mean - end.reference_length.mean

    def wins_more_than(self, method: str) -> float:
        """How much more often BoNBoN wins than a method, in the end."""
        return self.end("BoNBoN").win_rate.mean - self.end(method).win_rate.mean

    def win_rate_at(self, kl: float, method: str) -> float:
        """On a method's path, straight in log KL between evaluations."""
        path = sorted(self.path(method).items())
        kls = np.array([found.kl.mean for _, found in path])
        rates = [found.win_rate.mean for _, found in path]
        rising = np.flatnonzero(kls == np.maximum.accumulate(kls))  # a path may turn back
        return float(np.interp(np.log(kl), np.log(kls[rising]), np.array(rates)[rising]))


def below_the_frontier(found: Iterable[PolicyEvaluation]) -> tuple[float, ...]:
    """The largest win rate at each policy's KL divergence less its own, without ties."""
    found = list(found)
    budgets = jnp.asarray([at.kl.mean for at in found])
    highest = bt.frontier(bt.Policy.uniform_reward(), budgets, objective="win_rate").value
    return tuple((np.asarray(highest) - [at.win_rate.mean for at in found]).tolist())


@cache
def _results(file: Path) -> TextAlignmentResults:
    return TextAlignmentResults.load(file)
