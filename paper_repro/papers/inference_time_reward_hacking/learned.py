"""Claims on a reward model that was learned from preferences between a model's responses."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paper_repro.papers.claim import ABSTRACT, DERIVED, Claim, Tolerance
from simulations.statistics.estimate import crossed_mean

if TYPE_CHECKING:  # the language model's stack, which claims on theory do without
    from simulations.experiments.learned_reward import LearnedRewardResults

_TEST = "simulations/test_learned_reward.py::"


def _surely(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means of ``values [S, ..., B]`` over sets of preferences and prompts, less two errors."""
    mean, error = crossed_mean(values)
    return mean - 2 * error


def _rise_and_fall(results: LearnedRewardResults) -> NDArray[np.float64]:
    """From one draw to the highest true reward, and from there to the largest n."""
    top = int(results.true.mean(axis=(0, 2)).argmax())
    return _surely(results.true[:, [top]] - results.true[:, [0, -1]])


def _gains(results: LearnedRewardResults) -> NDArray[np.float64]:
    """Of the hedged n and temperature over the largest n."""
    largest = results.choices["largest n"].achieved
    gains = [results.choices[name].achieved - largest for name in HEDGED]
    return _surely(np.stack(gains, axis=1))


def _regrets(results: LearnedRewardResults) -> NDArray[np.float64]:
    """Of what is chosen on other prompts, against what is chosen in hindsight."""
    choices = [results.choices[name] for name in HEDGED]
    return -_surely(np.stack([c.achieved - c.promised for c in choices], axis=1))


HEDGED = ("hedged n", "hedged temperature")
_SETTING = (
    "a language model trained here; a true reward that wants four little words, not more; 4,096 "
    "preferences, none of them on responses with more; a reward linear in the model's features; in "
    "standard deviations within a prompt, means over 64 prompts and 4 sets of preferences (128 and "
    "16 in the full profile)"
)
_claim = partial(
    Claim,
    paper="inference_time_reward_hacking",
    kind="empirical",
    stage="learned-reward",
    tolerance=Tolerance("two standard errors are counted against it before"),
    figure="learned_reward",
)

CLAIMS: tuple[Claim, ...] = (
    _claim(
        id="hacking/learned-reward-overoptimization",
        where="reward hacking under best-of-n",
        provenance=ABSTRACT,
        relation=">=",
        statement=(
            "Best-of-n by a reward that is learned from preferences raises the true reward at "
            f"first, and lowers it when n grows further. An example made to show it: {_SETTING}. "
            "Entries: less two standard errors."
        ),
        compute=_rise_and_fall,
        expected=(0.1, 0.1),
        labels=("rise", "fall to n = 128"),
        test=_TEST + "test_the_true_reward_falls_again",
    ),
    _claim(
        id="hacking/learned-reward-hedged",
        where="hedging",
        provenance=ABSTRACT,
        relation=">=",
        statement=(
            "Where the proxy is over-optimised, one n or one temperature for all prompts, chosen "
            "where the true reward is known, earns more of it on other prompts than best-of-128 by "
            f"the proxy: {_SETTING}. Entries: by how much, less two standard errors."
        ),
        compute=_gains,
        expected=(0.1, 0.1),
        labels=HEDGED,
        test=_TEST + "test_the_true_reward_falls_again",
    ),
    _claim(
        id="hacking/learned-reward-regret",
        where="hedging",
        provenance=DERIVED,
        relation="<=",
        statement=(
            "What is chosen for all prompts on half of them is almost as good on the other half as "
            f"what would be chosen there in hindsight: {_SETTING}. Entries: what it lacks, and two "
            "standard errors."
        ),
        compute=_regrets,
        expected=(0.05, 0.1),
        labels=HEDGED,
        test=_TEST + "test_hindsight_is_no_worse",
    ),
)
