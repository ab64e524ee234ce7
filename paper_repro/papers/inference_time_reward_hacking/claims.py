"""All claims on inference-time reward hacking, by topic."""

from __future__ import annotations

from paper_repro.papers.claim import ABSTRACT, Claim
from paper_repro.papers.inference_time_reward_hacking import (
    learned,
    order,
    poisson,
    temperature,
    toy,
)

CLAIMS: tuple[Claim, ...] = (
    *poisson.CLAIMS,
    *toy.CLAIMS,
    *order.CLAIMS,
    *temperature.CLAIMS,
    *learned.CLAIMS,
    Claim(
        id="hacking/language-models",
        paper="inference_time_reward_hacking",
        where="experiments",
        provenance=ABSTRACT,
        kind="empirical",
        statement="Curves of proxy and true reward of language models under best-of-n and hedging.",
        not_checkable=(
            "The paper's models and reward models cannot be had offline; the same curves are "
            "computed exactly for joint laws of a proxy and a true reward "
            "(claims/reward_model_overoptimization), and found on a model and a reward model that "
            "are trained here (hacking/learned-reward-overoptimization)."
        ),
    ),
)
