"""Policies on their way through alignment, as committed runs found them, by method."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from simulations.alignment.evaluation import PolicyEvaluation
from simulations.experiments.text_policies import TaskReference, TextAlignmentResults


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

    def win_rate_at(self, kl: float, method: str) -> float:
        """On a method's path, straight in log KL between evaluations."""
        path = sorted(self.path(method).items())
        kls = np.array([found.kl.mean for _, found in path])
        rates = [found.win_rate.mean for _, found in path]
        rising = np.flatnonzero(kls == np.maximum.accumulate(kls))  # a path may turn back
        return float(np.interp(np.log(kl), np.log(kls[rising]), np.array(rates)[rising]))


@cache
def _results(file: Path) -> TextAlignmentResults:
    return TextAlignmentResults.load(file)
