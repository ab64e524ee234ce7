"""Claims on reward hacking and over-optimisation come out as documented."""

import pytest

from paper_repro.papers.claim import Claim, evaluate
from paper_repro.papers.inference_time_reward_hacking.claims import CLAIMS as HACKING
from paper_repro.papers.reward_model_overoptimization.claims import CLAIMS as OVEROPTIMIZATION

CHECKABLE = [
    claim
    for claim in (*HACKING, *OVEROPTIMIZATION)
    if claim.compute is not None and not claim.stage
]
# Both compile every tuning of the toy; tests/bon_theory/test_hedging.py has smaller ones.
LONG = {"hacking/toy-parameters", "hacking/toy-values"}


@pytest.mark.parametrize(
    "claim",
    [pytest.param(c, id=c.id, marks=[pytest.mark.slow] * (c.id in LONG)) for c in CHECKABLE],
)
def test_a_claim_comes_out_as_documented(claim: Claim):
    computed = evaluate(claim)
    assert not computed.unexpected, computed
