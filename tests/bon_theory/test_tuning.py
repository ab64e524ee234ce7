"""n or temperature for a KL budget, a win rate or a reward: right, whole, differentiable."""

import itertools
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mpmath
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


def test_some_of_the_numbers_may_be_infinite():
    reference = policy(TERNARY)
    together = bt.temperature_for_kl(reference, 0.3, n=[4.0, math.inf])
    alone = [float(bt.temperature_for_kl(reference, 0.3, n=n)) for n in (4, math.inf)]
    np.testing.assert_allclose(together, alone, rtol=1e-12)
    traced = jax.jit(lambda n: bt.temperature_for_kl(reference, 0.3, n=n))(jnp.array([4, math.inf]))
    np.testing.assert_allclose(traced, alone, rtol=1e-12)


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


def kl_of_best_of(law: Any, n: int) -> float:
    """In multiprecision, rounded once."""
    with mpmath.workdps(50):
        mass: list[Any] = [mpmath.mpf(float(p)) for p in law[0]]
        cdf: list[Any] = [mpmath.mpf(0)]
        for p in mass:
            cdf.append(cdf[-1] + p)
        cdf = [f / cdf[-1] for f in cdf]  # Policy divides what is left of rounding out
        selected = [b**n - a**n for a, b in itertools.pairwise(cdf)]
        total = mpmath.fsum(mass)
        terms = (q * mpmath.log(q * total / p) for q, p in zip(selected, mass, strict=True))
        return float(str(mpmath.fsum(terms)))


def test_a_target_computed_elsewhere_does_not_lose_its_integer():
    """Thirty random laws: what any other program gets for the KL of n draws is that of n."""
    rng = np.random.default_rng(14)
    probs = rng.dirichlet(np.ones(5), size=30)
    numbers = np.arange(2, 9)
    laws = [(tuple(row), tuple(range(5))) for row in probs]
    targets = np.array([[kl_of_best_of(law, int(n)) for n in numbers] for law in laws])
    reference = bt.Policy.from_probs(jnp.asarray(probs), jnp.arange(5.0))
    for rounding in ("down", "up"):
        found = bt.n_for_kl(reference, targets.T, rounding=rounding)
        np.testing.assert_array_equal(found, np.broadcast_to(numbers[:, None], (7, 30)))


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


@pytest.mark.parametrize(
    "name",
    [
        *("hard n", "tilt"),
        *(pytest.param(x, marks=pytest.mark.slow) for x in ("soft n", "soft temperature")),
    ],
)
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
