"""The claims of soft best-of-n: their verdicts, and that wrong laws would have changed them."""

import math
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from jax import Array

import bon_theory as bt
from paper_repro.papers.claim import Claim, Computed, documented, evaluate, judge
from paper_repro.papers.soft_best_of_n import laws, sequences
from paper_repro.papers.soft_best_of_n.claims import CLAIMS
from simulations.experiments.theory_checks import DEFAULT
from tests.oracles import discrete

# The stage of an enumerated model has claims alone, no results that they take.
BY_ID = {claim.id: claim for claim in CLAIMS if claim.stage in ("", "enumerated-model")}
SHARPENED = {"soft/kl-rate-sharp", "soft/reward-rate-sharp"}
FROM_LEMMA_1 = (
    "soft/lemma-1",
    "soft/two-draws",
    "soft/vectors",
    "soft/divergence-vectors",
    "soft/kl-rate-numbers",
    "soft/symbolwise-divergence",
)


def told(claim: Claim, result: Computed) -> str:
    entries = zip(result.computed, result.expected, strict=True)
    return f"{claim.id}: {result.verdict} {result.error} {list(entries)}"


# What a smaller case of its own experiment tests too, in simulations/test_enumerable_model.py.
LONG = {"soft/enumerated-model"}


@pytest.mark.parametrize(
    "claim_id", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in BY_ID]
)
def test_the_verdict_is_the_documented_one(claim_id: str) -> None:
    claim = BY_ID[claim_id]
    result = evaluate(claim)
    assert result.verdict == documented(claim), told(claim, result)
    assert (result.verdict == "sharpened") == (claim_id in SHARPENED)
    assert not result.unexpected


@pytest.fixture(params=["n + 1", "1.02 λ"])
def wrong_law(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The library with a small error in its law, as the claims see it."""

    def soft_best_of_n(reference: bt.Policy, n: Array, temperature: Array) -> bt.Policy:
        if request.param == "n + 1":
            return bt.soft_best_of_n(reference, n + 1, temperature)
        return bt.soft_best_of_n(reference, n, 1.02 * temperature)

    def forget() -> None:
        cast(Any, laws._point).clear_cache()
        laws.point.cache_clear()

    names = {name: getattr(bt, name) for name in bt.__all__}
    forget()
    with monkeypatch.context() as patch:
        patch.setattr(laws, "bt", SimpleNamespace(**names | {"soft_best_of_n": soft_best_of_n}))
        yield request.param
    forget()


def test_a_wrong_law_is_rejected(wrong_law: str) -> None:
    verdicts = {claim_id: evaluate(BY_ID[claim_id]).verdict for claim_id in FROM_LEMMA_1}
    assert set(verdicts.values()) <= {"differs", "failed"}, (wrong_law, verdicts)


@pytest.mark.parametrize("claim_id", sorted(SHARPENED))
def test_the_published_order_alone_is_not_called_sharpened(claim_id: str) -> None:
    """A value on the published bound itself satisfies the bound, but not the sharper statement."""
    assert judge(BY_ID[claim_id], BY_ID[claim_id].expected) == "differs"


@pytest.mark.parametrize("name", ["three outcomes", "uneven", "eight outcomes"])
@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_the_claims_enumeration_is_the_oracles(name: str, temperature: float) -> None:
    probs, rewards = laws.LAWS[name]
    oracle = discrete.soft_best_of_n(list(probs), list(rewards), 5, temperature)
    np.testing.assert_allclose(
        laws.enumerated(name, 5, temperature), [float(p) for p in oracle], rtol=1e-13
    )


@pytest.mark.parametrize("temperature", [0.2, 0.5, 3.0])
def test_the_tilted_coin_and_its_divergence(temperature: float) -> None:
    w = laws.weights("coin", temperature)
    assert w.tilt[1] == pytest.approx(sequences.tilted_coin(temperature), rel=1e-14)
    kl = float(w.tilt @ np.log(w.tilt / 0.5))
    assert sequences.coin_divergence(temperature) == pytest.approx(kl, abs=1e-14)
    assert w.chi_squared == pytest.approx(math.tanh(1 / (2 * temperature)) ** 2, rel=1e-13)


def test_blockwise_sampling_is_soft_best_of_n_among_all_sequences() -> None:
    """Two coins spelled out as four sequences, in place of three counts."""
    sequences_of_two = bt.Policy.from_probs([0.25] * 4, [0.0, 1.0, 1.0, 2.0])
    policy = bt.soft_best_of_n(sequences_of_two, 3.0, 0.5)
    tilt = bt.exponential_tilt(sequences_of_two, 0.5)
    found = sequences.blockwise(2, 3.0, 0.5)
    assert found.kl_from_tilt == pytest.approx(float(bt.kl_divergence(tilt, policy)), abs=1e-13)
    assert found.kl == pytest.approx(float(bt.kl_divergence(policy, sequences_of_two)), abs=1e-13)
    assert found.reward == pytest.approx(float(bt.expected_reward(policy)), abs=1e-13)


def test_every_monte_carlo_check_that_a_claim_names_is_made() -> None:
    made = {case.name for case in DEFAULT.cases}
    named = {name for claim in CLAIMS for name in claim.checked_by}
    assert named
    assert named <= made
    assert all(claim.checked_by for claim in CLAIMS if claim.compute and not claim.stage)


def test_the_claims_that_the_readme_names_exist() -> None:
    readme = Path(laws.__file__).with_name("README.md").read_text()
    named = set(re.findall(r"`(soft/[\w-]+)`", readme))
    assert named
    assert named <= BY_ID.keys()
