"""What n draws can reach: against every selection kernel, every set, and every rule we have.

Sums of a few probabilities are exact to 1e-15; tolerances of 1e-12 leave room for logarithms.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression, minimize

import bon_theory as bt
from bon_theory import sequence
from bon_theory.reachable.isotonic import increasing_log_slopes
from tests import strategies as some
from tests.oracles import reachable as oracle
from tests.strategies import probs

nearest = jax.jit(bt.nearest_reachable)
distance = jax.jit(bt.distance_to_reachable)
draws_for_exact = jax.jit(bt.draws_for_exact)
targets = st.sampled_from(sorted(some.SELECTIONS))


def random_laws(seed: int, sizes: tuple[int, ...] = (2, 3, 4)) -> list[tuple[bt.Policy, bt.Policy]]:
    """Targets and references, some with an outcome that they lack."""
    rng = np.random.default_rng(seed)
    found = []
    for size in sizes:
        for lacking in (None, 0, 1):
            laws = rng.dirichlet(np.ones(size), size=2)
            if lacking is not None:
                laws[lacking, 0] = 0
            rows = [law / law.sum() for law in laws]
            found.append(tuple(bt.Policy.from_probs(row, np.arange(size) / size) for row in rows))
    return found


# --- the nearest law --------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_no_selection_kernel_is_nearer_in_total_variation(n: int) -> None:
    for target, reference in random_laws(n):
        least = oracle.least_total_variation(probs(target), probs(reference), n)
        law = bt.nearest_reachable(target, reference, float(n))
        found, event = bt.distance_to_reachable(target, reference, float(n))
        assert float(bt.total_variation(law, target)) == pytest.approx(least, abs=1e-12)
        assert float(found) == pytest.approx(least, abs=1e-12)
        mass, drawn = (
            float(np.sum(probs(each)[np.asarray(event)])) for each in (target, reference)
        )
        assert mass - 1 + (1 - drawn) ** n == pytest.approx(least, abs=1e-12)


# Derivatives in P of convex functions of it; the linear one they give is least where its
# minimum over all rules is its value, which bounds how much smaller the function can be.
SLOPES = {
    "kl": lambda p, t: np.log(p / t),
    "reverse kl": lambda p, t: -t / p,
    "chi squared": lambda p, t: 2 * p / t,
    "reverse chi squared": lambda p, t: -((t / p) ** 2),
    "hellinger": lambda p, t: -np.sqrt(t / p),
}


@pytest.mark.parametrize("name", SLOPES)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_no_selection_kernel_is_nearer_in_any_divergence(name: str, n: int) -> None:
    rng = np.random.default_rng(n)
    for size in (2, 3, 4):
        p, q = rng.dirichlet(np.ones(size), size=2)
        target, reference = (bt.Policy.from_probs(x, np.arange(size) / size) for x in (p, q))
        law = probs(bt.nearest_reachable(target, reference, float(n)))
        slope = SLOPES[name](law, p)
        gap = law @ slope - oracle.least_mean(slope, q, n)
        assert -1e-13 <= gap < 1e-12 * (1 + np.max(np.abs(slope)))


@pytest.mark.parametrize("name", ["kl", "reverse kl", "chi squared"])
def test_constrained_optimisation_finds_the_same_least_divergence(name: str) -> None:
    divergence = {
        "kl": lambda x, t: np.sum(x * np.log(x / t)),
        "reverse kl": lambda x, t: np.sum(t * np.log(t / x)),
        "chi squared": lambda x, t: np.sum((x - t) ** 2 / t),
    }[name]
    p, q, n = np.array([0.7, 0.2, 0.1]), np.array([0.3, 0.3, 0.4]), 2
    target, reference = (bt.Policy.from_probs(x, np.arange(3.0)) for x in (p, q))
    law = probs(bt.nearest_reachable(target, reference, float(n)))
    sets = np.array([[(i >> k) & 1 for k in range(3)] for i in range(1, 7)])
    found = minimize(
        divergence,
        q,
        args=(p,),
        jac=lambda x, t: {"chi squared": 2 * (x - t) / t}.get(name, SLOPES[name](x, t)),
        constraints=[
            {
                "type": "ineq",
                "fun": lambda x: 1 - (1 - sets @ q) ** n - sets @ x,
                "jac": lambda _: -sets,
            },
            {"type": "eq", "fun": lambda x: np.sum(x) - 1, "jac": lambda x: np.ones_like(x)},
        ],
        method="SLSQP",
        options={"ftol": 1e-15},
    )
    assert found.fun == pytest.approx(divergence(law, p), abs=1e-9)


DIVERGENCES = {**some.DIVERGENCES, "total variation": some.total_variation}
RULES = ("best_of_n", "worst_of_n", "soft_best_of_n", "exponential_race")


@given(data=st.data(), reference=some.laws, name=targets, rule=st.sampled_from(RULES))
def test_no_rule_of_the_library_is_nearer(
    data: Any, reference: bt.Policy, name: str, rule: str
) -> None:
    target = some.drawn(data, name)(reference)
    n, temperature = data.draw(some.numbers), data.draw(some.temperatures)
    selection = some.SELECTIONS[rule][0]
    law = selection(reference, n, *(() if rule.startswith(("best", "worst")) else (temperature,)))
    best = nearest(target, reference, n)
    for name, divergence in DIVERGENCES.items():
        for ours, theirs in (((target, best), (target, law)), ((best, target), (law, target))):
            least, other = float(divergence(*ours)), float(divergence(*theirs))
            assert least <= other * (1 + 1e-9) + 1e-12, name


@given(data=st.data(), reference=some.laws, name=targets, n=some.numbers)
def test_it_is_a_law_that_n_draws_can_reach(
    data: Any, reference: bt.Policy, name: str, n: jax.Array
) -> None:
    target = some.drawn(data, name)(reference)
    law = nearest(target, reference, n)
    assert math.fsum(probs(law)) == pytest.approx(1, abs=1e-12)
    assert float(distance(law, reference, n).total_variation) < 1e-12
    off = float(distance(target, reference, n).total_variation)
    assert float(some.total_variation(law, target)) == pytest.approx(off, abs=1e-12)


@given(data=st.data(), reference=some.laws, name=targets)
def test_more_draws_reach_more(data: Any, reference: bt.Policy, name: str) -> None:
    target = some.drawn(data, name)(reference)
    fewer, more = sorted((data.draw(some.numbers), data.draw(some.numbers)))
    off = [float(distance(target, reference, n).total_variation) for n in (fewer, more)]
    assert off[1] <= off[0] + 1e-13


@given(data=st.data(), reference=some.laws, name=targets)
def test_one_draw_reaches_the_reference_alone(data: Any, reference: bt.Policy, name: str) -> None:
    target = some.drawn(data, name)(reference)
    assert probs(nearest(target, reference, jnp.asarray(1.0))) == pytest.approx(probs(reference))


@given(reference=some.laws, n=some.numbers, temperature=some.temperatures)
def test_what_n_draws_return_can_be_reached_by_n_draws(
    reference: bt.Policy, n: jax.Array, temperature: jax.Array
) -> None:
    for law in (some.best_of_n(reference, n), some.soft_best_of_n(reference, n, temperature)):
        assert probs(nearest(law, reference, n)) == pytest.approx(probs(law), abs=1e-12)


def test_it_is_the_greatest_convex_minorant_by_maxima_of_minima() -> None:
    rng = np.random.default_rng(13)
    for n, temperature in ((1.5, 0.3), (3.0, 0.1), (12.0, 0.2)):
        p, rewards = rng.dirichlet(np.ones(7)), rng.integers(0, 5, 7) / 4
        reference = bt.Policy.from_probs(p, rewards)
        law = bt.nearest_reachable(bt.exponential_tilt(reference, temperature), reference, n)
        known = oracle.nearest_to_tilt(list(p), list(rewards), n, temperature)
        assert probs(law) == pytest.approx(known, abs=1e-13)


# --- exactly ----------------------------------------------------------------------------


def test_draws_for_exact_is_what_bisection_over_all_sets_finds() -> None:
    with mp.workdps(40):
        rng = np.random.default_rng(3)
        for size in (2, 3, 4, 5):
            for spread in (0.3, 1.0, 5.0):
                p, q = rng.dirichlet(np.full(size, spread), size=2)
                target, reference = (bt.Policy.from_probs(x, np.arange(size) / 1) for x in (p, q))
                known = oracle.draws_for_exact(p, q)
                found = float(bt.draws_for_exact(target, reference))
                assert found == pytest.approx(float(known), rel=1e-12)
                assert int(bt.draws_for_exact(target, reference, rounding="up")) == mp.ceil(known)


@given(data=st.data(), reference=some.laws, name=targets)
def test_a_target_is_reached_from_its_number_of_draws_on(
    data: Any, reference: bt.Policy, name: str
) -> None:
    target = some.drawn(data, name)(reference)
    n = draws_for_exact(target, reference)
    ratio = some.log_ratio(target, reference)
    assert float(n) >= np.exp(np.max(ratio)) * (1 - 1e-12)
    if 1.01 < n < 100:  # beyond, what is lacking underflows
        assert float(distance(target, reference, n * (1 + 1e-9)).total_variation) < 1e-12
        assert float(distance(target, reference, n * 0.99).total_variation) > 0


def test_draws_for_exact_rounds_up_but_for_rounding() -> None:
    reference = bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0])
    for n in (2, 3, 7, 20):
        best = bt.best_of_n(reference, float(n))
        assert int(bt.draws_for_exact(best, reference, rounding="up")) == n
        assert (
            int(bt.draws_for_exact(bt.best_of_n(reference, n + 1e-9), reference, rounding="up"))
            == n + 1
        )


def test_what_the_reference_or_the_target_lacks_takes_infinitely_many_draws() -> None:
    whole, half = (bt.Policy.from_probs(p, [0.0, 1.0]) for p in ([0.5, 0.5], [1.0, 0.0]))
    assert float(bt.draws_for_exact(half, whole)) == math.inf
    assert float(bt.draws_for_exact(whole, half)) == math.inf
    assert float(bt.draws_for_exact(whole, whole)) == 1


def test_five_draws_sample_the_tilt_of_a_uniform_reward_at_a_quarter() -> None:
    """And soft best-of-n is .036 nats away from it; four draws can be within 4.5e-6."""
    uniform = bt.Policy.uniform_reward(num_nodes=2_561)
    tilt = bt.exponential_tilt(uniform, 0.25)
    known = 1 / (0.25 * -math.expm1(-4))
    assert float(bt.draws_for_exact(tilt, uniform)) == pytest.approx(known, rel=1e-12)
    two, four, five = (bt.nearest_reachable(tilt, uniform, n) for n in (2.0, 4.0, 5.0))
    assert float(bt.kl_divergence(five, tilt)) < 1e-20
    # By mpmath: the tangent from (1, 1) to 1 - (1 - p(s))^n, p the tilt's quantile function.
    for law, kl, variation in ((two, *_uniform(2)), (four, *_uniform(4))):
        assert float(bt.kl_divergence(law, tilt)) == pytest.approx(kl, rel=3e-3)
        assert float(bt.total_variation(law, tilt)) == pytest.approx(variation, rel=3e-3)


def _uniform(n: int) -> tuple[float, float]:
    """KL from the tilt and total variation of the nearest law, where it is a curve and a chord."""
    lam = mp.mpf(1) / 4
    top = 1 / (lam * -mp.expm1(-1 / lam))
    target, best = (lambda p: top * mp.exp(-p / lam)), (lambda p: n * (1 - p) ** (n - 1))
    rest = lambda p: lam * top * (mp.exp(-p / lam) - mp.exp(-1 / lam))  # noqa: E731
    # Up to the touching point the law is best-of-n, from there a multiple of the target.
    touch = mp.findroot(lambda p: (1 - p) ** n / rest(p) - best(p) / target(p), 0.2 / n)
    slope = (1 - touch) ** n / rest(touch)
    kl = mp.quad(lambda p: best(p) * mp.log(best(p) / target(p)), [0, touch])
    kl += slope * mp.log(slope) * rest(touch)
    variation = mp.quad(lambda p: abs(target(p) - best(p)), mp.linspace(0, touch, 20))
    return float(kl), float((variation + abs(slope - 1) * rest(touch)) / 2)


# --- the rule ---------------------------------------------------------------------------


@given(data=st.data(), reference=some.laws, name=targets, n=some.numbers)
def test_at_most_k_orders_have_the_law(
    data: Any, reference: bt.Policy, name: str, n: jax.Array
) -> None:
    law = nearest(some.drawn(data, name)(reference), reference, n)
    rule = bt.mixture_of_orders(law, reference, n)
    assert len(rule.weights) <= some.K
    assert np.all(np.asarray(rule.weights) > 0)
    assert math.fsum(np.asarray(rule.weights)) == pytest.approx(1, abs=1e-14)
    mixed = sum(
        float(weight) * probs(some.best_of_n(some.policy_of(reference.probs, -places), n))
        for weight, places in zip(rule.weights, rule.places.astype(float), strict=True)
    )
    assert mixed == pytest.approx(probs(law), abs=1e-13)


def test_a_rule_of_four_hundred_outcomes() -> None:
    rng = np.random.default_rng(5)
    reference = bt.Policy.from_logits(*rng.normal(size=(2, 400)))
    target = bt.exponential_tilt(reference, 0.5)
    law = bt.nearest_reachable(target, reference, 20.0)
    rule = bt.mixture_of_orders(law, reference, 20.0)
    assert float(bt.total_variation(rule.law(reference, 20.0), law)) < 1e-13


# --- arrays -----------------------------------------------------------------------------


def test_slopes_are_scipys_isotonic_regression() -> None:
    rng = np.random.default_rng(7)
    slopes = jax.jit(increasing_log_slopes)
    for size in (1, 64):
        rise, run = rng.normal(size=(2, size)) * 3
        found = np.exp(slopes(jnp.asarray(rise), jnp.asarray(run)))
        known = isotonic_regression(np.exp(rise - run), weights=np.exp(run)).x
        assert found == pytest.approx(known, rel=1e-13)


def test_batches_of_targets_references_and_numbers_broadcast() -> None:
    (target, reference), other = random_laws(1, (3,))[0], random_laws(2, (3,))[0][0]
    both = jax.tree.map(lambda *x: jnp.stack(x)[:, None], target, other)
    n = jnp.array([1.0, 2.5, 8.0])
    laws = bt.nearest_reachable(both, reference, n)
    assert laws.batch_shape == (2, 3)
    single = bt.nearest_reachable(other, reference, 2.5)
    assert probs(laws)[1, 1] == pytest.approx(probs(single), abs=1e-15)
    assert bt.distance_to_reachable(both, reference, n).event.shape == (2, 3, 3)
    assert bt.draws_for_exact(both, reference).shape == (2, 1)


def test_derivatives_are_difference_quotients() -> None:
    logits = jnp.array([0.3, -1.0, 0.2, 0.9])
    rewards = jnp.array([0.0, 0.3, 0.7, 1.0])

    def kl(n: jax.Array, logits: jax.Array) -> jax.Array:
        reference = bt.Policy.from_logits(logits, rewards)
        target = bt.exponential_tilt(reference, 0.3)
        return bt.kl_divergence(target, bt.nearest_reachable(target, reference, n))

    n, step = jnp.asarray(2.3), 1e-6
    by_n, by_logits = jax.jit(jax.grad(kl, argnums=(0, 1)))(n, logits)
    value = jax.jit(kl)

    def quotient(up: jax.Array, down: jax.Array) -> float:
        return float((up - down) / (2 * step))

    assert float(by_n) == pytest.approx(
        quotient(value(n + step, logits), value(n - step, logits)), rel=1e-6
    )
    up, down = (value(n, logits.at[2].add(s)) for s in (step, -step))
    assert float(by_logits[2]) == pytest.approx(quotient(up, down), rel=1e-6)


def test_tiny_masses_keep_their_ratios() -> None:
    """A target and a reference of masses down to e^-1000, on which sums in linear space are 0."""
    reference = bt.Policy.from_logits([0.0, -1000.0, -1001.0], [0.0, 1.0, 2.0])
    target = bt.Policy.from_logits([0.0, -1002.0, -1000.0], [0.0, 1.0, 2.0])
    law = bt.nearest_reachable(target, reference, 2.0)
    # The third outcome wants e times its mass and gets twice it, and so on.
    assert np.asarray(law.log_probs - reference.log_probs)[2] == pytest.approx(
        math.log(2), abs=1e-12
    )
    assert np.asarray(law.log_probs - target.log_probs)[1] == pytest.approx(0, abs=1e-12)


def test_float32_is_accurate_to_its_rounding() -> None:
    for target, reference in random_laws(11):
        single = [jax.tree.map(lambda x: x.astype(jnp.float32), law) for law in (target, reference)]
        law = bt.nearest_reachable(single[0], single[1], 3.0)
        assert law.dtype == jnp.float32
        assert probs(law) == pytest.approx(
            probs(bt.nearest_reachable(target, reference, 3.0)), abs=1e-6
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, q: bt.nearest_reachable(p, q, 0.5), "n must be .*got 0.5"),
        (lambda p, q: bt.distance_to_reachable(p, q, math.nan), "n must be .*got nan"),
        (lambda p, q: bt.nearest_reachable(p, bt.Policy.uniform_reward(), 2), "same outcomes"),
        (
            lambda p, q: bt.draws_for_exact(p, q, rounding="down"),  # pyright: ignore
            "rounding must be .*got 'down'",
        ),
        (
            lambda p, q: bt.mixture_of_orders(p, q, 1.0),
            "policy must be the law of a rule of 1 draws",
        ),
        (lambda p, q: bt.mixture_of_orders(q, q, jnp.ones(2)), "n must be a number known"),
        (lambda p, q: jax.jit(lambda q: bt.mixture_of_orders(q, q, 1.0))(q), "outside jit"),
    ],
)
def test_bad_input_is_refused(call: Any, message: str) -> None:
    target, reference = random_laws(1, (3,))[0]
    with pytest.raises(ValueError, match=message):
        call(target, reference)


# --- sequences --------------------------------------------------------------------------


def test_the_numbers_of_coins_in_whole_sequences() -> None:
    """Eight coins at λ = ½: 115 sequences are enough for the optimum, 64 leave .1407 of .2020."""
    coin = bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0])
    whole = sequence.SequenceLaw.independent(coin, 8)
    optimum = sequence.optimum(whole, 0.5)
    levels, target = sequence.total_reward(whole), sequence.total_reward(optimum)
    assert float(bt.draws_for_exact(target, levels)) == pytest.approx(114.9, abs=0.05)
    law = sequence.nearest_reachable(whole, 64.0, 0.5)
    # By hand: levels from the top have 2^-8, 9·2^-8, … of all sequences.
    drawn, wanted = probs(levels)[::-1].cumsum(), probs(target)[::-1].cumsum()
    off = np.max(wanted - 1 + (1 - np.minimum(drawn, 1)) ** 64)
    found = bt.total_variation(sequence.total_reward(law), target)
    assert float(found) == pytest.approx(off, abs=1e-12)
    assert float(found) == pytest.approx(0.1407, abs=5e-5)
    soft = whole.select(bt.soft_best_of_n, 64.0, 0.5)
    assert float(sequence.kl_divergence(optimum, law)) < float(
        sequence.kl_divergence(optimum, soft)
    )


@pytest.mark.parametrize("ahead", [False, True])
def test_blocks_of_a_chain_are_nearest_to_their_own_tilts(ahead: bool) -> None:
    chain = sequence.MarkovChain.from_probs([0.6, 0.4], [[0.9, 0.1], [0.2, 0.8]], [0.0, 1.0])
    law = sequence.SequenceLaw.markov(chain, 6, block_length=2)
    many = sequence.nearest_reachable(law, 1e6, 0.7, ahead=ahead)
    off = float(sequence.kl_divergence(sequence.optimum(law, 0.7), many))
    assert off < 1e-12 if ahead else off > 1e-3
    soft = law.select(
        bt.soft_best_of_n, 4.0, 0.7, look_ahead=sequence.look_ahead(law, 0.7) if ahead else None
    )
    few = sequence.nearest_reachable(law, 4.0, 0.7, ahead=ahead)
    ends = law.select(
        bt.exponential_tilt, 0.7, look_ahead=sequence.look_ahead(law, 0.7) if ahead else None
    )
    for best, other, end in zip(few.stretches, soft.stretches, ends.stretches, strict=True):
        least = np.asarray(bt.kl_divergence(end.policy, best.policy))
        assert np.all(least <= np.asarray(bt.kl_divergence(end.policy, other.policy)) + 1e-12)
