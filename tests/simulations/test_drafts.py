"""Drafts and draws as they are made follow the exact laws, and other laws are rejected."""

import math
from typing import Any

import jax
import numpy as np
import pytest

import bon_theory as bt
from simulations.engine.simulate import simulate
from simulations.selection.drafts import guided_draft
from simulations.statistics.checks import check_histogram

REWARDS = [0.5, 0.0, 1.0, 0.5, 0.25]
REFERENCE, PROPOSAL = [0.3, 0.1, 0.2, 0.4, 0.0], [0.2, 0.3, 0.1, 0.0, 0.4]
FALSE_ALARM = 1e-6


def law(n: int, temperature: float, threshold: float, proposal: Any = PROPOSAL) -> np.ndarray:
    reference, drafts = (bt.Policy.from_probs(p, REWARDS) for p in (REFERENCE, proposal))
    found = bt.guided_draft(reference, n, temperature, threshold, proposal=drafts)
    return np.asarray(found.policy.probs)


@pytest.mark.parametrize("threshold", [-math.inf, 0.6])
def test_what_is_kept_follows_its_law_and_no_other(threshold: float) -> None:
    sampler = guided_draft(REFERENCE, REWARDS, 3, 0.5, threshold, proposal=PROPOSAL)
    counts = simulate(jax.random.key(1), sampler, num_trials=400_000).counts
    assert check_histogram("n = 3", counts, law(3, 0.5, threshold)).p_value > FALSE_ALARM
    mixed = 0.8 * np.array(PROPOSAL) + 0.2 * np.eye(5)[0]
    for wrong in (
        law(4, 0.5, threshold),
        law(3, 0.65, threshold),
        law(3, 0.5, 0.9),
        law(3, 0.5, threshold, mixed),
    ):
        assert check_histogram("wrong", counts, wrong).p_value < FALSE_ALARM


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": [0.0]}, r"must all be \[K\]"),
        ({"proposal": [0.5, 0.5]}, r"must all be \[K\]"),
        ({"temperature": 0.0}, "temperature must be"),
        ({"threshold": math.nan}, "threshold is nan"),
        ({"n": 0}, "n must be"),
        ({"proposal": [0.9] * 5}, "sum to 1"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"proposal": PROPOSAL, "rewards": REWARDS, "n": 2, "temperature": 1.0}
    with pytest.raises(ValueError, match=message):
        guided_draft(REFERENCE, **(given | change))
