"""Claims on a reward model that was learned from preferences between a model's responses."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from paper_repro.papers.claim import ABSTRACT, Claim, Tolerance

if TYPE_CHECKING:  # the language model's stack, which claims on theory do without
    from simulations.experiments.learned_reward import LearnedRewardResults

_TEST = "simulations/test_learned_reward.py::"


def _rise_and_fall(results: LearnedRewardResults) -> NDArray[np.float64]:
    """From one draw to the highest true reward, and from there to the largest n; less their errors.

    Two standard errors of each end: more than those of the difference, whose prompts are paired.
    Seeds share the prompts, so that their errors are averaged and not reduced.
    """
    true, error = results.true.mean(axis=0), results.true_std_error.mean(axis=0)
    top = int(true.argmax())
    ends = np.array([0, -1])
    return true[top] - true[ends] - 2 * (error[top] + error[ends])


def _gains(results: LearnedRewardResults) -> list[float]:
    """Of the hedged n and temperature over the largest n, less two standard errors."""
    choices = [results.choices[f"hedged {what}"] for what in ("n", "temperature")]
    return [float(choice.gain.mean() - 2 * choice.std_error.mean()) for choice in choices]


CLAIMS: tuple[Claim, ...] = (
    Claim(
        id="hacking/learned-reward-overoptimization",
        paper="inference_time_reward_hacking",
        where="reward hacking under best-of-n",
        provenance=ABSTRACT,
        kind="empirical",
        relation=">=",
        statement=(
            "Best-of-n by a reward that is learned from preferences raises the true reward at "
            "first, and lowers it when n grows further (in standard deviations within a prompt, on "
            "prompts held out). An example made to show it: a language model trained here, a true "
            "reward by which more of a good thing is too much, and preferences only between "
            "responses that have not too much; with five other true rewards and sets of "
            "preferences, and with the same model trained with other rounding, it did not fall, or "
            "hardly, up to n = 64. Entries: less two standard errors."
        ),
        stage="learned-reward",
        compute=_rise_and_fall,
        expected=(0.0, 0.0),
        tolerance=Tolerance("two standard errors over prompts are taken off before"),
        labels=("rise", "fall"),
        figure="learned_reward",
        test=_TEST + "test_the_true_reward_falls_again",
    ),
    Claim(
        id="hacking/learned-reward-hedged",
        paper="inference_time_reward_hacking",
        where="hedging",
        provenance=ABSTRACT,
        kind="empirical",
        relation=">=",
        statement=(
            "One n and one temperature that are chosen where the true reward is known earn more of "
            "it on other prompts than the largest n by the proxy (in standard deviations), where "
            "the proxy is over-optimised; where it was not, with another set of preferences or "
            "another rounding of the model, hedging lost 0.1 or gained nothing. Entries: less two "
            "standard errors."
        ),
        stage="learned-reward",
        compute=_gains,
        expected=(0.0, 0.0),
        tolerance=Tolerance("two standard errors over prompts are taken off before"),
        labels=("hedged n", "hedged temperature"),
        figure="learned_reward",
        test=_TEST + "test_hedging_promises_no_less_than_the_largest_n",
    ),
)
