"""The papers, and where their claims are."""

from __future__ import annotations

import importlib
from dataclasses import dataclass

from paper_repro.papers.claim import Claim


@dataclass(frozen=True)
class Paper:
    """A paper whose claims are checked.

    Attributes:
        key: name of its folder; the claims are ``paper_repro.papers.<key>.claims.CLAIMS``.
        letter: by which docstrings and captions cite it, in brackets.
        title: of the paper.
        short_title: in few words, where space is short.
        authors: as printed.
        arxiv: identifier.
    """

    key: str
    letter: str
    title: str
    short_title: str
    authors: str
    arxiv: str

    @property
    def module(self) -> str:
        """Where its claims are defined."""
        return f"paper_repro.papers.{self.key}.claims"


PAPERS: tuple[Paper, ...] = (
    Paper(
        "bonbon_alignment",
        "G",
        "BoNBoN Alignment for Large Language Models and the Sweetness of Best-of-n Sampling",
        "BoNBoN alignment",
        "Lin Gui, Cristina Gârbacea, Victor Veitch",
        "2406.00832",
    ),
    Paper(
        "soft_best_of_n",
        "V",
        "Soft Best-of-n Sampling for Model Alignment",
        "soft best-of-n sampling",
        "Claudio Mayrink Verdun, Alex Oesterling, Himabindu Lakkaraju, Flavio P. Calmon",
        "2505.03156",
    ),
    Paper(
        "best_of_n_guarantees",
        "B",
        "Theoretical guarantees on the best-of-n alignment policy",
        "guarantees on best-of-n",
        "Ahmad Beirami et al.",
        "2401.01879",
    ),
    Paper(
        "information_theoretic_guarantees",
        "M",
        "Information Theoretic Guarantees For Policy Alignment In Large Language Models",
        "information-theoretic guarantees",
        "Youssef Mroueh",
        "2406.05883",
    ),
    Paper(
        "smoothing_lens",
        "A",
        "Best-of-N through the Smoothing Lens: KL Divergence and Regret Analysis",
        "smoothing lens",
        "Gholamali Aminian et al.",
        "2507.05913",
    ),
    Paper(
        "uniform_race",
        "U",
        "Uniform Race; ExpBoN (the same mechanism, argmax w/U)",
        "uniform race",
        "Shin, Pang, Jun; Liu, Wan, Gunduz",
        "2609.21899",
    ),
    Paper(
        "coverage_and_pessimism",
        "H",
        "Is Best-of-N the Best of Them? Coverage, Scaling, and Optimality in Inference-Time "
        "Alignment",
        "coverage and pessimism",
        "Audrey Huang et al.",
        "2503.21878",
    ),
    Paper(
        "inference_time_reward_hacking",
        "K",
        "Inference-Time Reward Hacking in Large Language Models",
        "inference-time reward hacking",
        "Hadi Khalaf et al.",
        "2506.19248",
    ),
    Paper(
        "reward_model_overoptimization",
        "Gao",
        "Scaling Laws for Reward Model Overoptimization",
        "reward-model overoptimization",
        "Leo Gao, John Schulman, Jacob Hilton",
        "2210.10760",
    ),
)


def claims(paper: Paper) -> tuple[Claim, ...]:
    """The paper's claims.

    Raises:
        ValueError: a claim names another paper, or two have the same id.
    """
    found: tuple[Claim, ...] = importlib.import_module(paper.module).CLAIMS
    ids = [claim.id for claim in found]
    strays = {claim.id for claim in found if claim.paper != paper.key}
    twice = {i for i in ids if ids.count(i) > 1}
    if strays or twice:
        raise ValueError(f"{paper.module}: claims of another paper {strays}, ids twice {twice}")
    return found
