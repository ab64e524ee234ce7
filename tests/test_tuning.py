"""n or temperature for a KL budget, a win rate or a reward: right, refused, differentiable."""

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bon_theory as bt
from tests import strategies
from tests.oracles import roots, soft_real_n, tilts

TERNARY = ((0.5, 0.3, 0.2), (0.0, 0.5, 1.0))
TIED = ((0.1, 0.25, 0.3, 0.05, 0.3), (0.0, 1.0, 0.5, 2.0, 1.0))
LAWS: dict[str, roots.Law] = {"ternary": TERNARY, "tied": TIED}

N_FOR: dict[str, Any] = {
    "kl": bt.n_for_kl,
    "reward": bt.n_for_reward,
    **{ties: partial(bt.n_for_win_rate, ties=ties) for ties in ("half", "win", "loss")},
}
TEMPERATURE_FOR: dict[str, Any] = {
    "kl": bt.temperature_for_kl,
    "reward": bt.temperature_for_reward,
    **{ties: partial(bt.temperature_for_win_rate, ties=ties) for ties in ("half", "win", "loss")},
}


def policy(law: roots.Law) -> bt.Policy:
    return bt.Policy.from_probs(jnp.array(law[0]), jnp.array(law[1]))


def between(law: roots.Law, name: str, share: float) -> float:
    """A target at this share of the way from the reference to the highest reward."""
    _, mass, _ = roots.levels(law)
    top = np.zeros_like(mass)
    top[-1] = 1.0
    low, high = (roots.functional(name, law, p) for p in (mass, top))
    return low + share * (high - low)


# --- right -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", N_FOR)
@pytest.mark.parametrize("key", LAWS)
def test_n_of_best_of_n_is_that_of_brentq(key: str, name: str):
    law = LAWS[key]
    targets = [between(law, name, share) for share in (1e-4, 0.3, 0.9)]
    found = N_FOR[name](policy(law), targets)
    expected = [
        roots.root(
            lambda n, t=target: roots.functional(name, law, roots.best_of_n(law, n)) - t, 1, 1e4
        )
        for target in targets
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)  # n − 1 has six digits at KL = 1e-4


def test_without_ties_n_is_in_closed_form():
    uniform = bt.Policy.uniform_reward()
    kls = np.array([1e-3, 0.5, 1.204441541679836, 5.0, 20.0])
    expected = [roots.root(lambda n, k=k: math.log(n) - (n - 1) / n - k, 1, 1e12) for k in kls]
    np.testing.assert_allclose(bt.n_for_kl(uniform, kls), expected, rtol=1e-11)
    rates = np.array([0.51, 0.9, 0.999])
    np.testing.assert_allclose(bt.n_for_win_rate(uniform, rates), rates / (1 - rates), rtol=1e-11)


@pytest.mark.parametrize(
    ("key", "name"),
    [("ternary", "kl"), ("ternary", "half"), ("tied", "reward"), ("tied", "win"), ("tied", "loss")],
)
def test_the_oracle_confirms_soft_answers(key: str, name: str):
    """The multiprecision law at what was found has the quantity that was asked for."""
    law = LAWS[key]
    reference, limit = policy(law), tilts.exponential_tilt(law[0], law[1], 0.3)
    low = between(law, name, 0.0)
    high = roots.functional(name, law, roots.by_level(law, limit))
    target = low + 0.6 * (high - low)
    n = float(N_FOR[name](reference, target, temperature=0.3))
    found = roots.by_level(law, soft_real_n.soft_best_of_n(law[0], law[1], n, 0.3))
    assert roots.functional(name, law, found) == pytest.approx(target, rel=1e-12)

    temperature = float(TEMPERATURE_FOR[name](reference, target, n=2.5 * n))
    found = roots.by_level(law, soft_real_n.soft_best_of_n(law[0], law[1], 2.5 * n, temperature))
    assert roots.functional(name, law, found) == pytest.approx(target, rel=1e-12)


@pytest.mark.parametrize("name", TEMPERATURE_FOR)
def test_infinitely_many_candidates_are_the_tilt(name: str):
    target = between(TIED, name, 0.7)
    temperature = TEMPERATURE_FOR[name](policy(TIED), target, n=math.inf)
    tilt = roots.by_level(TIED, tilts.exponential_tilt(*TIED, float(temperature)))
    assert roots.functional(name, TIED, tilt) == pytest.approx(target, rel=1e-12)


def test_the_ends_of_the_range_are_answered():
    reference = policy(TERNARY)
    assert float(bt.n_for_kl(reference, 0.0)) == 1.0
    assert float(bt.temperature_for_kl(reference, 0.0, n=4)) == math.inf
    hard = bt.kl_divergence(bt.best_of_n(reference, 4), reference)
    cold = bt.temperature_for_kl(reference, hard, n=4)
    reached = bt.kl_divergence(bt.soft_best_of_n(reference, 4, cold), reference)
    assert float(reached) == pytest.approx(float(hard), rel=1e-14)
    constant = bt.Policy.from_probs([0.5, 0.5], rewards=[1.0, 1.0])
    assert float(bt.n_for_reward(constant, 1.0)) == 1.0


@pytest.mark.parametrize("temperature", [0.0, 0.005])
def test_rare_outcomes_take_as_many_draws_as_they_take(temperature: float):
    reference = bt.Policy.from_logits([0.0, -200.0], [0.0, 1.0])
    n = bt.n_for_kl(reference, 20.0, temperature=temperature)
    # KL = q log(q/p) + (1 − q) log(1 − q) up to p, and in best-of-n q = 1 − (1 − p)^n.
    q = roots.root(lambda q: q * (math.log(q) + 200) + (1 - q) * math.log1p(-q) - 20, 1e-9, 0.5)
    if temperature == 0:
        assert math.log(float(n)) == pytest.approx(200 + math.log(-math.log1p(-q)), rel=1e-12)
    spent = bt.kl_divergence(bt.soft_best_of_n(reference, n, temperature), reference)
    assert float(spent) == pytest.approx(20, rel=1e-11)


@pytest.mark.parametrize("n", [4, math.inf])
def test_a_placeholder_reward_leaves_the_temperature_of_the_others(n: float):
    probs, rewards = jnp.array([0.4, 0.3, 0.3 - 1e-9, 1e-9]), jnp.array([0.0, 1.0, 2.0, -1e16])
    reference = bt.Policy.from_probs(probs, rewards)
    others = bt.Policy.from_probs(probs[:3] / (1 - 1e-9), rewards[:3])
    temperature = bt.temperature_for_kl(reference, 0.2, n=n)
    expected = bt.temperature_for_kl(others, 0.2, n=n)
    assert float(temperature) == pytest.approx(float(expected), rel=1e-7)


_kl_for_n = jax.jit(bt.n_for_kl)


@given(reference=strategies.laws, share=st.floats(0.001, 0.999))
def test_best_of_the_n_that_was_found_spends_the_budget(reference: bt.Policy, share: float):
    top = float(
        -jnp.log(jnp.sum(jnp.where(reference.rewards == _top(reference), _p(reference), 0)))
    )
    n = _kl_for_n(reference, share * top)
    if top == 0:
        assert float(n) == 1
        return
    spent = float(strategies.kl(strategies.best_of_n(reference, n), reference))
    assert spent == pytest.approx(share * top, rel=1e-10, abs=1e-13)


def _p(reference: bt.Policy) -> jax.Array:
    return jnp.exp(reference.log_probs)


def _top(reference: bt.Policy) -> jax.Array:
    return jnp.max(jnp.where(_p(reference) > 0, reference.rewards, -jnp.inf))


# --- whole numbers ---------------------------------------------------------------------


def test_rounding_down_stays_within_and_rounding_up_reaches():
    reference = policy(TERNARY)
    budgets = np.linspace(0.01, 1.5, 40)
    down, real, up = (
        np.asarray(bt.n_for_kl(reference, budgets, rounding=rounding))
        for rounding in ("down", None, "up")
    )
    assert np.all(down == np.floor(real))
    assert np.all(up == np.ceil(real))
    laws = [roots.best_of_n(TERNARY, n) for n in (*down, *(down + 1))]
    kls = np.array([roots.functional("kl", TERNARY, law) for law in laws])
    assert np.all(kls[:40] <= budgets)
    assert np.all(kls[40:] > budgets)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 8, 50, 64])
def test_a_whole_answer_is_not_rounded_away(n: int):
    reference = policy(TERNARY)
    kl = bt.kl_divergence(bt.best_of_n(reference, n), reference)
    for rounding in ("down", "up"):
        assert float(bt.n_for_kl(reference, kl, rounding=rounding)) == n


# --- refused ---------------------------------------------------------------------------

n_for_kl: Any = bt.n_for_kl  # called as its type forbids
n_for_win_rate: Any = bt.n_for_win_rate

IMPOSSIBLE = {
    "KL above -log of the top mass": (
        lambda r: bt.n_for_kl(r, 1.7),
        r"kl must be in the attainable range \[0, 1.60944\) of best-of-n .* got 1.7",
    ),
    "KL of the top mass itself": (lambda r: bt.n_for_kl(r, -math.log(0.2)), r"\[0, 1.60944\)"),
    "KL above that of the tilt": (
        lambda r: bt.n_for_kl(r, 1.55, temperature=0.1),
        r"\[0, 1.54812\) of soft best-of-n at temperature 0.1",
    ),
    "KL above that of best-of-n": (
        lambda r: bt.temperature_for_kl(r, 0.6, n=4),
        r"\[0, 0.559751\] of soft best-of-4",
    ),
    "negative KL": (lambda r: bt.n_for_kl(r, -0.1), "kl must be .* got -0.1"),
    "one of several": (lambda r: bt.n_for_kl(r, [0.5, 3.0, 0.1]), "got 3: choose kl"),
    "win rate of a coin": (lambda r: bt.n_for_win_rate(r, 0.45), r"win_rate .* \[0.5, 0.9\)"),
    "win rate 1 with ties": (lambda r: bt.n_for_win_rate(r, 0.95), r"win_rate .* \[0.5, 0.9\)"),
    "reward above the best": (lambda r: bt.n_for_reward(r, 1.5), r"reward .* \[0.35, 1\)"),
    "reward below the mean": (
        lambda r: bt.temperature_for_reward(r, 0.2, n=4),
        r"reward must be .* \[0.35, 0.",
    ),
    "NaN": (lambda r: bt.n_for_kl(r, math.nan), "kl must be a number, got nan"),
    "a word": (lambda r: n_for_kl(r, "much"), "kl must be a real number"),
    "a number in words": (lambda r: n_for_kl(r, "0.5"), "kl must be a real number .* '0.5'"),
    "nothing": (lambda r: n_for_kl(r, None), "kl must be a real number .* None"),
    "a large reward below the mean": (
        lambda r: bt.n_for_reward(dataclasses.replace(r, rewards=r.rewards + 1e8), 1e8),
        r"\[100000000.35, 100000001\) of best-of-n .* got 100000000: choose",
    ),
    "KL of one candidate": (
        lambda r: bt.temperature_for_kl(r, 0.1, n=1),
        "kl must be at the only attainable value, 0, of soft best-of-1",
    ),
    "n below 1": (lambda r: bt.temperature_for_kl(r, 0.1, n=0.5), "n must be"),
    "n negative infinite": (lambda r: bt.temperature_for_kl(r, 0.1, n=-math.inf), "n must be"),
    "n partly infinite": (
        lambda r: bt.temperature_for_kl(r, 0.1, n=[2.0, math.inf]),
        "n must be a finite number",
    ),
    "negative temperature": (lambda r: bt.n_for_kl(r, 0.1, temperature=-1.0), "temperature must"),
    "rounding": (lambda r: n_for_kl(r, 0.1, rounding="nearest"), "rounding must be .*'nearest'"),
    "ties": (lambda r: n_for_win_rate(r, 0.6, ties="draw"), "ties must be .*'draw'"),
    "a list of ties": (lambda r: n_for_win_rate(r, 0.6, ties=["half"]), "ties must be .*'half'"),
    "shapes": (
        lambda r: bt.temperature_for_kl(r, jnp.zeros(3), n=jnp.ones(2)),
        r"n of shape \(2,\) does not broadcast",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_is_impossible_is_refused_with_the_range(case: str):
    call, message = IMPOSSIBLE[case]
    with pytest.raises(ValueError, match=message):
        call(policy(TERNARY))


def test_nodes_too_coarse_for_the_temperature_are_refused():
    uniform = bt.Policy.uniform_reward()
    with pytest.raises(ValueError, match="reference has too few nodes for the temperature"):
        bt.temperature_for_kl(uniform, 1.2, n=8)  # hard best-of-8 has 1.2044


BEYOND: dict[str, tuple[Any, str]] = {
    "n": (lambda x: bt.n_for_kl(policy(((1.0, 1e-300), (0.0, 1.0))), x), "n beyond .* float64"),
    "n in float32": (
        lambda x: bt.n_for_kl(
            bt.Policy.from_logits(*jnp.array([[0, -99], [0, 1]], jnp.float32)), 90 * x
        ),
        "n beyond the range of float32",
    ),
    "temperature": (
        lambda x: bt.temperature_for_kl(
            policy(((0.4, 0.3, 0.3 - 1e-9, 1e-9), (0.0, 1.0, 2.0, -1e40))), x / 5, n=math.inf
        ),
        "temperature beyond the range of float64",
    ),
}


@pytest.mark.parametrize("case", BEYOND)
def test_an_answer_that_floating_point_does_not_hold_is_refused(case: str):
    call, message = BEYOND[case]
    target = 650.0 if case == "n" else 1.0
    with pytest.raises(ValueError, match=message):
        call(target)
    assert np.isnan(jax.jit(call)(target))


NO_POLICY: dict[str, Any] = {
    "n_for_kl": lambda x: bt.n_for_kl(x, 0.1),
    "temperature_for_kl": lambda x: bt.temperature_for_kl(x, 0.1, n=4),
    "frontier": lambda x: bt.frontier(x, 0.1),
    "choose": lambda x: bt.choose_n_and_temperature(x, 0.1, max_n=2),
    "hedge_n": lambda x: bt.hedge_n(x, [0.1]),
    "hedge_mean_extra_draws": lambda x: bt.hedge_mean_extra_draws(x, [0.1]),
    "hedge_temperature": lambda x: bt.hedge_temperature(x, [0.1], n=2),
}


@pytest.mark.parametrize("name", NO_POLICY)
def test_what_is_no_policy_is_refused(name: str):
    with pytest.raises(ValueError, match="reference must be a Policy, got list"):
        NO_POLICY[name]([0.5, 0.5])


def test_traced_targets_out_of_range_give_nan():
    found = jax.jit(lambda kl: bt.n_for_kl(policy(TERNARY), kl))(jnp.array([0.5, 9.0, jnp.nan]))
    assert np.isnan(found).tolist() == [False, True, True]
    found = jax.vmap(lambda n: bt.temperature_for_kl(policy(TERNARY), 0.3, n=n))(
        jnp.array([4.0, 1.1, 0.5])
    )
    assert np.isnan(found).tolist() == [False, True, True]


# --- transformed -----------------------------------------------------------------------

LOGITS = np.log(np.array([0.1, 0.25, 0.3, 0.05, 0.3]))


def tuned(name: str, parameters: dict[str, Any]) -> jax.Array:
    """An answer as a function of everything real that it depends on."""
    reference = bt.Policy.from_logits(parameters["logits"], parameters["rewards"])
    target, fixed = parameters["target"], parameters["fixed"]
    if name == "hard n":
        return bt.n_for_kl(reference, target)
    if name == "soft n":
        return bt.n_for_kl(reference, target, temperature=fixed)
    if name == "tilt":
        return bt.temperature_for_reward(reference, target, n=math.inf)
    return bt.temperature_for_win_rate(reference, target, n=8 * fixed)


@pytest.mark.parametrize("name", ["hard n", "soft n", "tilt", "soft temperature"])
def test_implicit_derivatives_are_finite_differences_in_both_modes(name: str):
    target = {"hard n": 0.6, "soft n": 0.2, "tilt": 1.2, "soft temperature": 0.7}[name]
    at = {
        "logits": jnp.asarray(LOGITS),
        "rewards": jnp.array([0.0, 1.1, 0.5, 2.0, 0.9]),
        "target": jnp.asarray(target),
        "fixed": jnp.asarray(0.5),
    }
    rng = np.random.default_rng(0)
    direction = jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape)), at)
    function = jax.jit(partial(tuned, name))
    gradient = jax.grad(function)(at)
    _, forward = jax.jvp(function, (at,), (direction,))
    backward = sum(
        float(jnp.sum(g * d))
        for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    step = 1e-5
    ahead, behind = (
        float(function(jax.tree.map(lambda x, d, s=s: x + s * d, at, direction)))
        for s in (step, -step)
    )
    # Central differences: step² times a third derivative, and rounding over step.
    assert float(forward) == pytest.approx((ahead - behind) / (2 * step), rel=1e-6, abs=1e-8)
    assert backward == pytest.approx(float(forward), rel=1e-12)


@pytest.mark.parametrize("name", ["kl", "reward", "half"])
def test_an_end_of_the_range_spoils_no_gradient(name: str):
    """One prompt is at λ = ∞, one inside, one at λ = 0; a loss that looks at the second alone."""
    targets = jnp.array([between(TERNARY, name, share) for share in (0.0, 0.5, 1.0)])
    probs, rewards = (jnp.array(x) for x in TERNARY)

    @jax.jit
    def loss(logits: jax.Array, targets: jax.Array) -> jax.Array:
        reference = bt.Policy.from_logits(logits, rewards)
        found = TEMPERATURE_FOR[name](reference, targets, n=math.inf)
        ends = jnp.isinf(found) | (found == 0)
        return jnp.sum(jnp.where(ends, 0, found))

    alone = jax.grad(loss, argnums=(0, 1))(jnp.log(probs), targets[1:2])
    together = jax.grad(loss, argnums=(0, 1))(jnp.log(probs), targets)
    np.testing.assert_allclose(together[0], alone[0], rtol=1e-12)
    np.testing.assert_allclose(together[1], [0.0, float(alone[1][0]), 0.0], rtol=1e-12)
    assert float(alone[1][0]) != 0


def test_a_batch_of_prompts_is_solved_lane_by_lane():
    pools = bt.Policy.from_samples(jnp.asarray(np.random.default_rng(1).normal(size=(3, 8))))
    budgets = jnp.array([0.1, 0.25, 0.3])
    together = bt.n_for_kl(pools, budgets, temperature=0.4)
    mapped = jax.vmap(lambda p, kl: bt.n_for_kl(p, kl, temperature=0.4))(pools, budgets)
    one_by_one = [
        float(bt.n_for_kl(jax.tree.map(lambda x, i=i: x[i], pools), kl, temperature=0.4))
        for i, kl in enumerate(budgets)
    ]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-12)
    np.testing.assert_allclose(mapped, one_by_one, rtol=1e-12)
    table = bt.n_for_kl(pools, budgets[:, None], temperature=jnp.array([0.3, 0.4, 0.5]))
    assert table.shape == (3, 3)
    np.testing.assert_allclose(jnp.diagonal(table)[1], one_by_one[1], rtol=1e-12)


def test_float32_answers_agree_to_its_precision():
    reference = policy(TIED)
    single = jax.tree.map(lambda x: x.astype(jnp.float32), reference)
    for exact, found in (
        (bt.n_for_kl(reference, 0.8), bt.n_for_kl(single, 0.8)),
        (
            bt.temperature_for_kl(reference, 0.6, n=8),
            bt.temperature_for_kl(single, 0.6, n=8),
        ),
    ):
        assert found.dtype == jnp.float32
        # The functions' own error, 1e-6, over a slope in log n of about one.
        assert float(found) == pytest.approx(float(exact), rel=1e-5)
