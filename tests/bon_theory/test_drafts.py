"""Selection from drafts: the laws against every draw, their limits, bounds and costs."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bon_theory as bt
from tests import strategies as some
from tests.oracles import drafts as oracle
from tests.strategies import probs

soft_best_of_drafts: Any = jax.jit(bt.soft_best_of_drafts)
guided_draft: Any = jax.jit(bt.guided_draft)
tempered: Any = jax.jit(bt.tempered)
truncated: Any = jax.jit(bt.truncated)

REWARDS = np.array([0.5, 0.0, 1.0, 0.5, 0.25])
# Two outcomes tie in the reward, two in the corrected one; some are impossible under either law.
PAIRS = {
    "of one support": ([0.3, 0.1, 0.2, 0.15, 0.25], [0.2, 0.3, 0.1, 0.25, 0.15]),
    "where drafts lack an outcome": ([0.3, 0.1, 0.2, 0.15, 0.25], [0.4, 0.3, 0.0, 0.1, 0.2]),
    "where drafts have one more": ([0.5, 0.3, 0.0, 0.2, 0.0], [0.2, 0.2, 0.3, 0.2, 0.1]),
}
EVERY_PAIR = pytest.mark.parametrize("pair", PAIRS)


def laws(pair: str) -> tuple[bt.Policy, bt.Policy]:
    reference, proposal = (some.law(p, REWARDS.tolist()) for p in PAIRS[pair])
    return reference, proposal


def arrays(pair: str) -> tuple[np.ndarray, np.ndarray]:
    reference, proposal = (np.array(p) for p in PAIRS[pair])
    return reference, proposal


# --- against every draw -----------------------------------------------------------------


@EVERY_PAIR
@pytest.mark.parametrize(("n", "temperature"), [(1, 0.3), (3, 0.3), (4, 2.0)])
def test_what_is_kept_of_drafts_is_what_all_draws_say(
    pair: str, n: int, temperature: float
) -> None:
    reference, proposal = laws(pair)
    found = soft_best_of_drafts(reference, jnp.asarray(float(n)), temperature, proposal=proposal)
    expected = oracle.soft_best_of_drafts(*arrays(pair), REWARDS, n, temperature)
    np.testing.assert_allclose(probs(found), expected, rtol=1e-12, atol=1e-300)
    np.testing.assert_array_equal(found.rewards, REWARDS)
    assert float(bt.expected_reward(found)) == pytest.approx(expected @ REWARDS, rel=1e-12)


@EVERY_PAIR
@pytest.mark.parametrize("threshold", [-math.inf, 0.2, 0.5, 0.9, math.inf])
def test_two_stages_are_what_all_draws_say(pair: str, threshold: float) -> None:
    reference, proposal = laws(pair)
    n, lam = jnp.asarray(3.0), jnp.asarray(0.3)
    found = guided_draft(reference, n, lam, jnp.asarray(threshold), proposal=proposal)
    expected, accepted = oracle.guided_draft(*arrays(pair), REWARDS, 3, 0.3, threshold)
    np.testing.assert_allclose(probs(found.policy), expected, rtol=1e-12, atol=1e-300)
    assert float(found.accepted) == pytest.approx(accepted, abs=1e-14)
    assert float(found.target_draws) == pytest.approx(3 * (1 - accepted), abs=1e-13)
    assert 0 <= found.target_draws <= 3
    assert found.accepted <= 1


def test_a_rejection_that_is_rare_costs_what_it_costs() -> None:
    law = some.law([1e-20, 0.25, 0.25, 0.25, 0.25], [0.0, 1.0, 1.0, 1.0, 1.0])
    n, lam, threshold = (jnp.asarray(x) for x in (1.0, 0.3, 0.5))
    found = guided_draft(law, n, lam, threshold, proposal=law)
    assert float(found.target_draws) == pytest.approx(1e-20, rel=1e-12)


def test_a_score_at_the_threshold_is_accepted_with_all_that_tie() -> None:
    """π/q = 2 at two outcomes of one reward, so that both have the score r + λ log 2."""
    law = some.law([0.2, 0.4, 0.4, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0, 0.0])
    proposal = some.law([0.6, 0.2, 0.2, 0.0, 0.0], [0.0, 1.0, 1.0, 0.0, 0.0])
    n, lam = jnp.asarray(2.0), jnp.asarray(1.0)
    bar = 1 + (jnp.log(0.4) - jnp.log(0.2))
    at, above = (guided_draft(law, n, lam, bar + x, proposal=proposal) for x in (0.0, 1e-9))
    assert float(above.accepted) == 0
    drafts = probs(soft_best_of_drafts(law, n, lam, proposal=proposal))
    assert float(at.accepted) == pytest.approx(drafts[1] + drafts[2], rel=1e-14)


# --- limits and laws --------------------------------------------------------------------


@given(reference=some.laws, n=some.numbers, temperature=some.temperatures)
def test_drafts_of_the_reference_itself_are_soft_best_of_n(
    reference: bt.Policy, n: Any, temperature: Any
) -> None:
    found = soft_best_of_drafts(reference, n, temperature, proposal=reference)
    soft = some.soft_best_of_n(reference, n, temperature)
    np.testing.assert_allclose(probs(found), probs(soft), rtol=1e-9, atol=1e-12)


@given(
    reference=some.laws,
    masses=some.probabilities,
    n=some.numbers,
    temperature=st.floats(0.1, 10).map(jnp.asarray),
    threshold=st.floats(-1, 2).map(jnp.asarray),
)
def test_they_are_laws_within_their_bounds(
    reference: bt.Policy, masses: Any, n: Any, temperature: Any, threshold: Any
) -> None:
    proposal = some.with_rewards(some.policy_of(masses, reference.rewards), reference.rewards)
    found = soft_best_of_drafts(reference, n, temperature, proposal=proposal)
    two = guided_draft(reference, n, temperature, threshold, proposal=proposal)
    for law in (found, two.policy):
        assert probs(law).sum() == pytest.approx(1, abs=1e-12)
    tilt = some.exponential_tilt(reference, temperature)
    chi_squared = float(some.chi_squared(tilt, proposal))
    assert float(some.kl(tilt, found)) <= math.log1p(chi_squared / float(n)) + 1e-11
    spread = float(jnp.ptp(reference.rewards) / temperature)
    ratio = float(some.chi_squared(reference, proposal))
    # math.exp of the range is an overflow at 350 or so: temperatures are not that small.
    assert chi_squared <= (1 + ratio) * math.exp(2 * spread) * (1 + 1e-12)
    # No outcome is kept with more than n times its chance in either stage.
    most = float(n) * (probs(proposal) + probs(reference) * (1 - float(two.accepted)))
    assert np.all(probs(two.policy) <= most * (1 + 1e-11) + 1e-14)


@EVERY_PAIR
def test_many_drafts_are_the_tilt_of_what_both_can_draw(pair: str) -> None:
    reference, proposal = laws(pair)
    found = soft_best_of_drafts(reference, jnp.asarray(1e12), 0.3, proposal=proposal)
    p, q = arrays(pair)
    tilt = np.where(q > 0, p * np.exp(REWARDS / 0.3), 0)
    np.testing.assert_allclose(probs(found), tilt / tilt.sum(), atol=1e-10)
    at_infinity = soft_best_of_drafts(reference, jnp.asarray(1e12), math.inf, proposal=proposal)
    plain = np.where(q > 0, p, 0)
    np.testing.assert_allclose(probs(at_infinity), plain / plain.sum(), atol=1e-10)


def test_drafts_come_nearer_with_their_number_and_a_hot_proposal_can_beat_the_reference() -> None:
    reference, _ = laws("of one support")
    tilt = some.exponential_tilt(reference, 0.3)
    hot = tempered(reference, jnp.asarray(2.0))
    numbers = [1.0, 2.0, 4.0, 16.0, 256.0]
    distances = [
        float(some.kl(tilt, soft_best_of_drafts(reference, n, 0.3, proposal=hot)))
        for n in map(jnp.asarray, numbers)
    ]
    assert np.all(np.diff(distances) < 0)


def test_two_stages_tend_to_a_law_beside_the_tilt() -> None:
    reference, proposal = laws("of one support")
    tilt = some.exponential_tilt(reference, 0.3)
    n, lam = jnp.asarray(1e9), jnp.asarray(0.3)
    scores = oracle.corrected(*arrays("of one support"), REWARDS, 0.3)
    for threshold in (0.2, 0.5, 0.9):
        rho = float(probs(tilt)[scores < threshold].sum())
        assert 0.001 < rho < 0.999
        found = guided_draft(reference, n, lam, jnp.asarray(threshold), proposal=proposal)
        variation = float(some.total_variation(found.policy, tilt))
        assert variation == pytest.approx(rho * (1 - rho), abs=1e-7)
        divergence = float(some.kl(tilt, found.policy))
        limit = -(1 - rho) * math.log1p(rho) - rho * math.log(rho)
        assert divergence == pytest.approx(limit, abs=1e-7)


def test_what_one_law_lacks_makes_divergences_infinite() -> None:
    reference, proposal = laws("where drafts lack an outcome")
    tilt = some.exponential_tilt(reference, 0.3)
    kept = soft_best_of_drafts(reference, jnp.asarray(8.0), 0.3, proposal=proposal)
    best = some.best_of_n(proposal, jnp.asarray(8.0))
    for law in (kept, best):
        assert float(some.kl(tilt, law)) == math.inf
        assert float(some.kl(reference, law)) == math.inf
        assert math.isfinite(float(some.kl(law, reference)))
    reference, proposal = laws("where drafts have one more")
    best = some.best_of_n(proposal, jnp.asarray(8.0))
    assert float(some.kl(best, reference)) == math.inf
    # All n drafts may be impossible under the reference; then one of them is kept.
    kept = soft_best_of_drafts(reference, jnp.asarray(8.0), 0.3, proposal=proposal)
    assert probs(kept)[[2, 4]].sum() == pytest.approx(0.4**8, rel=1e-9)
    assert float(some.kl(kept, reference)) == math.inf
    # Guided by any threshold it is not: what has the score -inf is drawn anew.
    found = guided_draft(reference, jnp.asarray(8.0), 0.3, -1e9, proposal=proposal)
    assert math.isfinite(float(some.kl(found.policy, reference)))
    assert float(found.accepted) == pytest.approx(1 - 0.4**8, rel=1e-12)


# --- the samplers -----------------------------------------------------------------------


@given(reference=some.laws, heat=st.floats(0.05, 20).map(jnp.asarray))
def test_a_tempered_law_is_the_power_of_the_law(reference: bt.Policy, heat: Any) -> None:
    power = np.where(probs(reference) > 0, probs(reference) ** (1 / float(heat)), 0)
    np.testing.assert_allclose(
        probs(tempered(reference, heat)), power / power.sum(), rtol=1e-11, atol=1e-13
    )


@given(reference=some.laws, mass=some.fractions)
def test_a_truncated_law_keeps_the_fewest_likeliest(reference: bt.Policy, mass: Any) -> None:
    p = probs(reference)
    kept = np.array([p[p > x].sum() < float(mass) - 1e-12 for x in p])
    loose = np.array([p[p > x].sum() < float(mass) + 1e-12 for x in p])
    if not np.array_equal(kept, loose):  # at an edge rounding decides
        return
    expected = np.where(kept, p, 0)
    np.testing.assert_allclose(
        probs(truncated(reference, mass)), expected / expected.sum(), rtol=1e-12
    )


def test_the_ends_of_the_samplers() -> None:
    reference = some.law([0.4, 0.4, 0.2 - 1e-18, 1e-18, 0.0], REWARDS.tolist())
    np.testing.assert_allclose(
        probs(tempered(reference, jnp.asarray(math.inf))), [0.25] * 4 + [0.0], rtol=1e-14
    )
    np.testing.assert_allclose(
        probs(tempered(reference, jnp.asarray(1e-3))), [0.5, 0.5, 0, 0, 0], atol=1e-300
    )
    np.testing.assert_allclose(probs(truncated(reference, jnp.asarray(1.0))), probs(reference))
    np.testing.assert_allclose(probs(truncated(reference, jnp.asarray(0.1))), [0.5, 0.5, 0, 0, 0])


# --- transforms and bad input -----------------------------------------------------------


# One value of each rule's parameters, and inadmissible ones; tests/test_registry.py reads these.
PARAMETERS: dict[str, tuple[float, ...]] = {
    "soft_best_of_drafts": (3.0, 0.3),
    "guided_draft": (3.0, 0.3, 0.5),
    "tempered": (1.3,),
    "truncated": (0.6,),
}
INVALID: list[tuple[str, tuple[float, ...]]] = [
    ("soft_best_of_drafts", (0.5, 0.3)),
    ("soft_best_of_drafts", (2.0, 0.0)),
    ("guided_draft", (0.5, 0.3, 0.5)),
    ("guided_draft", (2.0, -1.0, 0.5)),
    ("guided_draft", (2.0, 0.3, math.nan)),
    ("tempered", (-1.0,)),
    ("truncated", (2.0,)),
]
EVERY_RULE = pytest.mark.parametrize("name", PARAMETERS)
OF_PROPOSAL = ("soft_best_of_drafts", "guided_draft")


def selected(name: str, pair: tuple[bt.Policy, bt.Policy], *parameters: Any) -> bt.Policy:
    """The law of a rule, compiled where it is anyway."""
    reference, proposal = pair
    by = {"proposal": proposal} if name in OF_PROPOSAL else {}
    found = globals()[name](reference, *parameters, **by)
    return found.policy if isinstance(found, bt.GuidedDraft) else found


@EVERY_RULE
def test_batches_are_one_by_one(name: str) -> None:
    pair = laws("of one support")
    scale = jnp.array([1.0, 1.1, 1.5])
    columns = [x * scale for x in PARAMETERS[name]]
    together = selected(name, pair, *columns).probs
    mapped = jax.vmap(lambda *row: selected(name, pair, *row).probs)(*columns)
    alone = [selected(name, pair, *row).probs for row in zip(*columns, strict=True)]
    np.testing.assert_allclose(together, jnp.stack(alone), rtol=1e-12)
    np.testing.assert_allclose(mapped, together, rtol=1e-12)


@EVERY_RULE
def test_in_single_precision(name: str) -> None:
    pair = laws("of one support")
    single = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), pair)
    low = selected(name, single, *PARAMETERS[name])
    assert low.dtype == jnp.float32
    high = selected(name, pair, *PARAMETERS[name])
    np.testing.assert_allclose(low.probs, high.probs, rtol=1e-5)


def test_gradients_are_differences() -> None:
    reference, proposal = laws("of one support")

    @jax.jit
    def reward(x: Any) -> Any:
        law = bt.soft_best_of_drafts(reference, x[0], x[1], proposal=bt.tempered(proposal, x[2]))
        return bt.expected_reward(law)

    x, h = jnp.array([4.0, 0.5, 1.3]), 1e-5
    steps = [(reward(x + h * e) - reward(x - h * e)) / (2 * h) for e in jnp.eye(3)]
    np.testing.assert_allclose(jax.jit(jax.grad(reward))(x), jnp.stack(steps), rtol=1e-6)


@pytest.mark.parametrize(("name", "parameters"), INVALID)
def test_what_is_inadmissible_while_traced_is_no_number(name: str, parameters: Any) -> None:
    assert np.all(np.isnan(probs(selected(name, laws("of one support"), *parameters))))


def test_nothing_is_accepted_nor_drawn_of_what_is_no_rule() -> None:
    reference, proposal = laws("of one support")
    found = guided_draft(reference, 0.5, 0.3, 0.5, proposal=proposal)
    assert math.isnan(float(found.accepted))
    assert math.isnan(float(found.target_draws))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda r, q: bt.soft_best_of_drafts(r, 0.5, 1.0, proposal=q), "n must be"),
        (lambda r, q: bt.soft_best_of_drafts(r, 2, 0.0, proposal=q), "temperature must be"),
        (lambda r, q: bt.guided_draft(r, 2, math.inf, 0.0, proposal=q), "temperature must be"),
        (lambda r, q: bt.guided_draft(r, 2, 1.0, math.nan, proposal=q), "threshold must be"),
        (lambda r, q: bt.guided_draft(r, 0, 1.0, 0.0, proposal=q), "n must be"),
        (
            lambda r, _: bt.soft_best_of_drafts(r, 2, 1.0, proposal=bt.Policy.from_samples([0.0])),
            "policy and proposal must be laws on the same outcomes",
        ),
        (lambda r, _: bt.tempered(bt.Policy.uniform_reward(), 2.0), "policy must be discrete"),
        (lambda r, _: bt.tempered(r, 0.0), "temperature must be"),
        (lambda r, _: bt.truncated(r, 0.0), "mass must be"),
        (lambda r, _: bt.truncated(r, 1.5), "mass must be"),
    ],
)
def test_bad_input_says_what_to_do(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(*laws("of one support"))
