"""Divergences: by hand, against each other, at the edge of the support.

``ROUNDING`` covers sums of five terms of order one. Pairs of random laws share their rewards;
either may lack outcomes that the other has.
"""

import itertools
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
from tests.oracles import divergences as oracle
from tests.oracles.multiprecision import mp
from tests.strategies import law, probs

ROUNDING = 1e-12
REWARDS = np.array([0.0, 0.25, 0.5, 0.75, 1.0])

pairs: Any = st.tuples(some.probabilities, some.probabilities).map(
    lambda two: (some.policy_of(two[0], REWARDS), some.policy_of(two[1], REWARDS))
)
"""Two laws on the same outcomes."""


# --- by hand ----------------------------------------------------------------------------

FAIR = law([0.5, 0.5], rewards=[0.0, 1.0])
BIASED = law([0.25, 0.75], rewards=[0.0, 1.0])
INF = math.inf
LOG2, LOG3 = math.log(2), math.log(3)

BY_HAND = {
    "kl": (bt.kl_divergence, 0.75 * LOG3 - LOG2, LOG2 - 0.5 * LOG3),
    "chi_squared": (bt.chi_squared_divergence, 1 / 4, 1 / 3),
    "total_variation": (bt.total_variation, 1 / 4, 1 / 4),
    "squared_hellinger": (
        bt.squared_hellinger,
        2 - math.sqrt(1 / 2) - math.sqrt(3 / 2),
        2 - math.sqrt(1 / 2) - math.sqrt(3 / 2),
    ),
    "renyi_2": (lambda p, q: bt.renyi_divergence(p, q, 2.0), math.log(5 / 4), math.log(4 / 3)),
    "renyi_inf": (lambda p, q: bt.renyi_divergence(p, q, math.inf), math.log(3 / 2), LOG2),
    "renyi_0": (lambda p, q: bt.renyi_divergence(p, q, 0.0), 0.0, 0.0),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_two_coins_by_hand(name: str) -> None:
    divergence, forwards, backwards = BY_HAND[name]
    assert float(divergence(BIASED, FAIR)) == pytest.approx(forwards, abs=1e-15)
    assert float(divergence(FAIR, BIASED)) == pytest.approx(backwards, abs=1e-15)


def test_jensen_shannon_by_hand() -> None:
    from_biased = 0.25 * math.log(0.25 / 0.375) + 0.75 * math.log(0.75 / 0.625)
    from_fair = 0.5 * math.log(0.5 / 0.375) + 0.5 * math.log(0.5 / 0.625)
    expected = 0.5 * (from_biased + from_fair)
    assert float(bt.jensen_shannon(BIASED, FAIR)) == pytest.approx(expected, abs=1e-15)


# --- outcomes that only one law has -----------------------------------------------------

LEFT = law([0.5, 0.5, 0.0], rewards=[0.0, 1.0, 2.0])
RIGHT = law([0.0, 0.5, 0.5], rewards=[0.0, 1.0, 2.0])
PART = law([0.0, 1.0, 0.0], rewards=[0.0, 1.0, 2.0])

AT_THE_EDGE = {
    "kl": (bt.kl_divergence, math.inf),
    "chi_squared": (bt.chi_squared_divergence, math.inf),
    "total_variation": (bt.total_variation, 0.5),
    "squared_hellinger": (bt.squared_hellinger, 1.0),
    "jensen_shannon": (bt.jensen_shannon, 0.5 * LOG2),
    "renyi_0": (lambda p, q: bt.renyi_divergence(p, q, 0.0), LOG2),
    "renyi_half": (lambda p, q: bt.renyi_divergence(p, q, 0.5), 2 * LOG2),
    "renyi_1": (lambda p, q: bt.renyi_divergence(p, q, 1.0), math.inf),
    "renyi_2": (lambda p, q: bt.renyi_divergence(p, q, 2.0), math.inf),
    "renyi_inf": (lambda p, q: bt.renyi_divergence(p, q, math.inf), math.inf),
    "f_kl": (
        lambda p, q: bt.f_divergence(p, q, lambda t: t * jnp.log(jnp.where(t > 0, t, 1))),
        math.inf,
    ),
    "f_tv": (lambda p, q: bt.f_divergence(p, q, lambda t: 0.5 * jnp.abs(t - 1)), 0.5),
}


@pytest.mark.parametrize("name", AT_THE_EDGE)
def test_mass_outside_the_reference_gives_the_limit_never_nan(name: str) -> None:
    divergence, expected = AT_THE_EDGE[name]
    assert float(divergence(LEFT, RIGHT)) == pytest.approx(expected, abs=1e-15)
    assert float(divergence(RIGHT, LEFT)) == pytest.approx(expected, abs=1e-15)


def test_outcomes_that_only_the_reference_has_cost_their_probability() -> None:
    assert float(bt.kl_divergence(PART, LEFT)) == pytest.approx(LOG2, abs=1e-15)
    assert float(bt.chi_squared_divergence(PART, LEFT)) == pytest.approx(1, abs=1e-15)
    assert float(bt.renyi_divergence(PART, LEFT, 3.0)) == pytest.approx(LOG2, abs=1e-15)


def test_log_ratios_at_the_edge_are_signed_infinities() -> None:
    assert bt.log_ratio(LEFT, RIGHT).tolist() == [math.inf, 0.0, -math.inf]
    assert bt.log_ratio(PART, PART).tolist() == [0.0, 0.0, 0.0]


def test_disjoint_laws_are_as_far_apart_as_can_be() -> None:
    one, other = law([1.0, 0.0], rewards=[0.0, 1.0]), law([0.0, 1.0], rewards=[0.0, 1.0])
    assert float(bt.total_variation(one, other)) == 1
    assert float(bt.squared_hellinger(one, other)) == pytest.approx(2, abs=1e-15)
    assert float(bt.jensen_shannon(one, other)) == pytest.approx(LOG2, abs=1e-15)


def test_probabilities_that_underflow_still_count() -> None:
    """Q(1) = e^-800 is no float64, but P(1)²/Q(1) = e^600 is; and P(1) = e^-800 is not zero."""
    rare, rarer, never = (
        bt.Policy.from_logits([0.0, logit], rewards=[0.0, 1.0]) for logit in (-100.0, -800, -INF)
    )
    assert float(bt.chi_squared_divergence(rare, rarer)) == pytest.approx(math.exp(600), rel=1e-12)
    assert float(bt.chi_squared_divergence(rarer, rare)) == pytest.approx(math.exp(-100), rel=1e-12)
    for divergence in (bt.kl_divergence, bt.chi_squared_divergence):
        assert float(divergence(rarer, never)) == INF
        assert float(divergence(never, rarer)) == 0


# --- log-ratios of thousands of nats, orders from 0 to infinity ---------------------------

ORDERS = [0.0, 1e-290, 1e-40, 1e-9, 1e-3, 0.3, 0.5, 0.9, 1 - 1e-6, 1 - 1e-15]
ORDERS += [1.0, 1 + 1e-15, 1 + 1e-7, 1.01, 2.0, 30.0, 1e9, 1e40, 1e306, INF]
FAR = bt.Policy.from_logits([-3000.0, 0.0, -700.0, -5.0], rewards=[0.0, 1.0, 2.0, 3.0])
NEAR = bt.Policy.from_logits([0.0, -2000.0, -1.0, -3.0], rewards=[0.0, 1.0, 2.0, 3.0])
CLOSE = bt.Policy.from_logits([1e-5, -2000.0, -1.0, -3.0], rewards=[0.0, 1.0, 2.0, 3.0])
PARTIAL = bt.Policy.from_logits([-INF, -2000.0, -1.0, 0.2], rewards=[0.0, 1.0, 2.0, 3.0])
BEST_OF_MANY = some.best_of_n(NEAR, jnp.asarray(1e9))
renyi_of_orders: Any = jax.jit(lambda p, q: bt.renyi_divergence(p, q, jnp.asarray(ORDERS)))


@pytest.mark.parametrize(
    ("p", "q"),
    [
        *[(FAR, NEAR), (NEAR, FAR), (CLOSE, NEAR), (NEAR, CLOSE), (NEAR, NEAR)],
        *[(PARTIAL, NEAR), (NEAR, PARTIAL), (BEST_OF_MANY, NEAR), (NEAR, BEST_OF_MANY)],
    ],
)
def test_a_renyi_divergence_is_accurate_at_every_order(p: bt.Policy, q: bt.Policy) -> None:
    with mp.workdps(700):
        laws = [[mp.exp(x) for x in np.asarray(law.log_probs).tolist()] for law in (p, q)]
        mass, other = ([x / mp.fsum(law) for x in law] for law in laws)
    for order, got in zip(ORDERS, renyi_of_orders(p, q).tolist(), strict=True):
        expected = oracle.renyi(mass, other, mp.mpf(order), digits=700)
        # The largest log-ratio and -log Q(P > 0) are as rounded as the logarithms that were given.
        rounding = 1e-12 * float(expected) if 0 < order < 1e9 else 1e-12
        assert got == pytest.approx(float(expected), abs=rounding, rel=1e-12), order
        assert got >= 0, order


def test_orders_near_one_at_log_ratios_beyond_a_billion() -> None:
    """D of best-of-n to its reference, where the lower outcomes are all but gone."""
    reference = law([0.2, 0.3, 0.5], rewards=[0.0, 1.0, 2.0])
    best = some.best_of_n(reference, jnp.asarray(1e9))
    near = some.renyi(best, reference, jnp.asarray(1 + 1e-7))
    assert float(near) == pytest.approx(LOG2, rel=1e-14)  # P is 1 on the top outcome
    uniform, n, order = bt.Policy.uniform_reward(), 1e6, 1 - 1e-6
    with mp.workdps(40):
        a = mp.mpf(order)
        expected = (a * mp.log(n) - mp.log(a * (n - 1) + 1)) / (a - 1)
    got = bt.renyi_divergence(bt.best_of_n(uniform, n), uniform, order)
    assert float(got) == pytest.approx(float(expected), rel=1e-12)


def ratio_squared(t: jax.Array) -> jax.Array:
    return (t - 1) ** 2 / (t + 1)


def kl_generator(t: jax.Array) -> jax.Array:
    return t * jnp.log(t)  # NaN at 0, where its limit is 0


def rare(logit: float) -> bt.Policy:
    return bt.Policy.from_logits([0.0, logit], rewards=[0.0, 1.0])


COIN = rare(0.0)


@pytest.mark.parametrize("logit", [-30.0, -360.0, -600.0, -3000.0])
def test_a_generator_with_limits_is_summed_at_any_log_ratio(logit: float) -> None:
    """(t-1)²/(t+1) weighs (P-Q)²/(P+Q): 2/3 between a coin and what is all but certain."""
    for pair in ((COIN, rare(logit)), (rare(logit), COIN)):
        value = bt.f_divergence(*pair, ratio_squared)
        assert float(value) == pytest.approx(2 / 3, rel=1e-12)
        assert float(jax.jit(lambda p, q: bt.f_divergence(p, q, ratio_squared))(*pair)) == value


def test_a_generator_takes_its_limit_at_zero() -> None:
    p, q = (law(mass, rewards=[0.0, 1.0, 2.0]) for mass in ([0.0, 0.1, 0.9], [0.1, 0.1, 0.8]))
    value = 0.9 * math.log(9 / 8)
    assert float(bt.f_divergence(p, q, kl_generator)) == pytest.approx(value, rel=1e-14)
    assert float(bt.f_divergence(p, q, lambda t: -jnp.log(t))) == INF


def test_a_divergence_by_generator_of_all_but_equal_laws_is_accurate_and_positive() -> None:
    p, q = (bt.Policy.from_logits([shift, 0.0], rewards=[0.0, 1.0]) for shift in (0.0, 1e-6))
    value = float(bt.f_divergence(p, q, kl_generator))
    assert value == pytest.approx(1e-12 / 8, rel=1e-3)  # f carries t, not t - 1
    assert float(bt.jensen_shannon(p, q)) == pytest.approx(1e-12 / 32, rel=1e-6)
    assert float(bt.f_divergence(p, p, kl_generator)) == 0


@pytest.mark.parametrize("tilt", [0.0, 1.0, -7.0])
@pytest.mark.parametrize("logit", [-600.0, -690.0, -720.0, -3000.0, -1e6])
def test_a_generator_that_ends_in_a_line_of_the_log_ratio_follows_it(
    logit: float, tilt: float
) -> None:
    """t log t forwards and -log t backwards, whatever their multiple of t - 1; and both at once."""
    kl = -logit / 2 - LOG2
    forwards = bt.f_divergence(COIN, rare(logit), lambda t: t * jnp.log(t) + tilt * (t - 1))
    backwards = bt.f_divergence(rare(logit), COIN, lambda t: -jnp.log(t) + tilt * (t - 1))
    assert float(forwards) == pytest.approx(kl, rel=1e-12)
    assert float(backwards) == pytest.approx(kl, rel=1e-12)
    jeffreys = jax.jit(lambda p, q: bt.f_divergence(p, q, lambda t: (t - 1) * jnp.log(t)))
    assert float(jeffreys(COIN, rare(logit))) == pytest.approx(-logit / 2, rel=1e-12)


@pytest.mark.parametrize(
    "generator",
    [
        lambda t: (t - 1) ** 2,
        lambda t: t * jnp.log(t) ** 2,
        lambda t: t * jnp.log(jnp.log(t + jnp.e)),
    ],
)
def test_a_ratio_that_no_float_holds_is_refused_where_no_line_goes_on(generator: Any) -> None:
    with pytest.raises(ValueError, match=r"generator must .* got NaN at a log ratio of 2999\.31"):
        bt.f_divergence(COIN, rare(-3000.0), generator)
    traced = jax.jit(lambda p, q: bt.f_divergence(p, q, generator))
    assert jnp.isnan(traced(COIN, rare(-3000.0)))


@pytest.mark.parametrize(
    ("generator", "expected"),
    [
        (kl_generator, INF),
        (lambda t: t * jnp.log(jnp.log(t + jnp.e)), INF),  # grows by 4 % over sixty decades
        (lambda t: (t - 1) ** 4 / (t + 1) ** 3, 0.5),  # its parts overflow long before t does
        (lambda t: (t**0.9 - 0.9 * t - 0.1) / 0.9 / -0.1, 5.0),
    ],
)
def test_mass_outside_the_reference_takes_the_slope_at_infinity(
    generator: Any, expected: float
) -> None:
    """Half of P lies where Q has nothing; on the rest P/Q is 1/2."""
    shared = 1 - float(generator(jnp.asarray(1.0)))
    value = float(bt.f_divergence(COIN, rare(-INF), generator))
    rest = float(generator(jnp.asarray(0.5))) * shared
    assert value == pytest.approx(expected + rest, rel=1e-12)


def test_a_slope_that_changes_too_slowly_to_tell_is_refused() -> None:
    with pytest.raises(ValueError, match="generator must be a number, or have a limit"):
        bt.f_divergence(COIN, rare(-INF), lambda t: t * (1 - 1 / jnp.log(t + 2)))


def test_what_is_not_a_number_stays_so() -> None:
    nothing = jax.tree.map(lambda leaf: leaf * math.nan, COIN)
    for name, divergence in some.DIVERGENCES.items():
        assert jnp.isnan(divergence(nothing, COIN)), name
    traced = jax.jit(lambda p, q: bt.f_divergence(p, q, kl_generator))
    assert jnp.isnan(traced(nothing, COIN))


# --- laws of each -----------------------------------------------------------------------


@pytest.mark.parametrize("name", some.DIVERGENCES)
@given(pair=pairs)
def test_a_divergence_is_positive_and_vanishes_on_the_diagonal(name: str, pair: Any) -> None:
    assert some.DIVERGENCES[name](*pair) >= 0
    assert some.DIVERGENCES[name](pair[0], pair[0]) == 0


@pytest.mark.parametrize("name", ["total_variation", "squared_hellinger", "jensen_shannon"])
@given(pair=pairs)
def test_symmetric_divergences_are_symmetric(name: str, pair: Any) -> None:
    forth, back = some.DIVERGENCES[name](*pair), some.DIVERGENCES[name](*pair[::-1])
    assert float(forth) == pytest.approx(float(back), abs=ROUNDING)


@pytest.mark.parametrize("name", some.DIVERGENCES)
@given(pair=pairs)
def test_merging_outcomes_lowers_a_divergence(name: str, pair: Any) -> None:
    merged = []
    for policy in pair:
        first, second, *rest = probs(policy)
        merged.append(some.policy_of(np.array([first + second, 0.0, *rest]), REWARDS))
    apart, together = some.DIVERGENCES[name](*pair), some.DIVERGENCES[name](*merged)
    assert together <= apart * (1 + 1e-9) + ROUNDING


# --- relations among them ---------------------------------------------------------------


@given(pair=pairs)
def test_pinsker(pair: Any) -> None:
    assert some.total_variation(*pair) ** 2 <= some.kl(*pair) / 2 + ROUNDING


@given(pair=pairs)
def test_kl_is_below_the_logarithm_of_chi_squared(pair: Any) -> None:
    kl, chi_squared = some.kl(*pair), some.chi_squared(*pair)
    assert kl <= jnp.log1p(chi_squared) + ROUNDING
    assert 4 * some.total_variation(*pair) ** 2 <= chi_squared + ROUNDING


@given(pair=pairs)
def test_hellinger_brackets_total_variation(pair: Any) -> None:
    """With H² = Σ(√P - √Q)² in [0, 2]: H²/2 ≤ TV ≤ √(H²(1 - H²/4)), and H² ≤ KL."""
    squared, variation = some.squared_hellinger(*pair), some.total_variation(*pair)
    assert squared / 2 - ROUNDING <= variation
    assert variation**2 <= squared * (1 - squared / 4) + ROUNDING
    assert squared <= some.kl(*pair) + ROUNDING


@given(pair=pairs)
def test_jensen_shannon_is_bounded(pair: Any) -> None:
    shannon = some.jensen_shannon(*pair)
    assert shannon <= LOG2 * some.total_variation(*pair) + ROUNDING
    assert some.squared_hellinger(*pair) / 4 <= shannon + ROUNDING


@given(pair=pairs, lower=some.orders, higher=some.orders)
def test_renyi_increases_with_its_order(pair: Any, lower: Any, higher: Any) -> None:
    lower, higher = min(lower, higher), max(lower, higher)
    assert some.renyi(*pair, lower) <= some.renyi(*pair, higher) * (1 + 1e-12) + ROUNDING


@given(pair=pairs, order=st.floats(0.05, 0.95))
def test_renyi_orders_below_one_swap_with_their_complement(pair: Any, order: float) -> None:
    forth = (1 - order) * some.renyi(*pair, jnp.asarray(order))
    back = order * some.renyi(*pair[::-1], jnp.asarray(1 - order))
    assert float(forth) == pytest.approx(float(back), rel=1e-11, abs=ROUNDING)


@given(pair=pairs)
def test_renyi_contains_the_others(pair: Any) -> None:
    half, one, two = (float(some.renyi(*pair, jnp.asarray(order))) for order in (0.5, 1.0, 2.0))
    assert half == pytest.approx(
        float(-2 * jnp.log1p(-some.squared_hellinger(*pair) / 2)), abs=1e-9
    )
    assert one == pytest.approx(float(some.kl(*pair)), abs=ROUNDING)
    assert two == pytest.approx(float(jnp.log1p(some.chi_squared(*pair))), abs=1e-9)


@given(pair=pairs, side=st.sampled_from([-1, 1]))
def test_renyi_is_continuous_at_order_one(pair: Any, side: int) -> None:
    # Its slope there is ½Var(log P/Q), at most 28²/2e here. With mass m outside the reference it
    # is infinite above 1, and about m/(1-α) just below.
    near, at = some.renyi(*pair, jnp.asarray(1 + side * 1e-12)), some.kl(*pair)
    outside = probs(pair[0])[probs(pair[1]) == 0].sum()
    if outside == 0:
        assert float(near) == pytest.approx(float(at), abs=1e-9)
    else:
        assert near >= (math.inf if side > 0 else 0.99 * outside / 1e-12)


GENERATORS = {
    "kl": lambda t: t * jnp.log(jnp.where(t > 0, t, 1)),
    "chi_squared": lambda t: (t - 1) ** 2,
    "total_variation": lambda t: 0.5 * jnp.abs(t - 1),
    "squared_hellinger": lambda t: (jnp.sqrt(t) - 1) ** 2,
    "jensen_shannon": lambda t: (
        0.5 * (t * jnp.log(jnp.where(t > 0, t, 1)) - (t + 1) * jnp.log((t + 1) / 2))
    ),
}


@jax.jit
def by_generator(p: bt.Policy, q: bt.Policy) -> dict[str, jax.Array]:
    return {name: bt.f_divergence(p, q, generator) for name, generator in GENERATORS.items()}


@pytest.mark.parametrize("name", GENERATORS)
@given(pair=pairs)
def test_a_generator_gives_the_named_divergence(name: str, pair: Any) -> None:
    named, generic = some.DIVERGENCES[name](*pair), by_generator(*pair)[name]
    assert float(generic) == pytest.approx(float(named), rel=1e-9, abs=1e-9)


# --- win rates and expectations ---------------------------------------------------------


@given(pair=pairs, rewards=some.rewards)
def test_a_win_rate_is_the_double_sum(pair: Any, rewards: np.ndarray) -> None:
    policy, opponent = (some.with_rewards(p, rewards) for p in pair)
    joint = np.outer(probs(policy), probs(opponent))
    wins, ties = (
        (joint * (rewards[:, None] > rewards)).sum(),
        (joint * (rewards[:, None] == rewards)).sum(),
    )
    for convention, share in (("win", 1.0), ("half", 0.5), ("loss", 0.0)):
        rate = float(some.win_rate(policy, opponent, ties=convention))
        assert rate == pytest.approx(wins + share * ties, abs=ROUNDING)


@given(pair=pairs, values=some.rewards)
def test_an_expected_value_is_the_sum(pair: Any, values: np.ndarray) -> None:
    expected = probs(pair[0]) @ values
    assert float(bt.expected_value(pair[0], values)) == pytest.approx(expected, abs=ROUNDING)


def test_values_of_impossible_outcomes_may_be_infinite() -> None:
    assert float(bt.expected_value(LEFT, jnp.asarray([1.0, 3.0, -math.inf]))) == 2


# --- hockey stick -----------------------------------------------------------------------

hockey_stick = jax.jit(bt.hockey_stick_divergence)


@given(pair=pairs, ratio=st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 50.0)))
def test_the_hockey_stick_is_the_largest_excess_of_any_set(pair: Any, ratio: float) -> None:
    p, q = (some.probs(law) for law in pair)
    most = max(
        math.fsum(p[list(A)]) - ratio * math.fsum(q[list(A)])
        for size in range(some.K + 1)
        for A in itertools.combinations(range(some.K), size)
    )
    found = float(hockey_stick(*pair, jnp.asarray(ratio)))
    assert found == pytest.approx(max(most, 0), abs=1e-14)
    if ratio == 1:
        assert found == pytest.approx(float(some.total_variation(*pair)), abs=1e-14)


@pytest.mark.parametrize("n", [2.0, 5.5, 64.0])
def test_the_hockey_stick_of_best_of_n_is_beyond_one_rank(n: float) -> None:
    """n u^(n-1) exceeds c above t = (c/n)^(1/(n-1)), where 1 - t^n - c(1 - t) is left."""
    uniform = bt.Policy.uniform_reward()
    best = bt.best_of_n(uniform, n)
    ratios = np.array([0.5, 1.0, 1.7, 0.9 * n, n, 2 * n])
    t = np.minimum(ratios / n, 1) ** (1 / (n - 1))
    found = bt.hockey_stick_divergence(best, uniform, ratios)
    np.testing.assert_allclose(found, 1 - t**n - ratios * (1 - t), atol=2e-12)


def test_the_hockey_stick_is_differentiable_and_refuses_negative_ratios() -> None:
    reference = bt.Policy.from_probs([0.5, 0.5, 0.0], [0.0, 1.0, 2.0])
    best = bt.best_of_n(reference, 3.0)
    slope = jax.grad(lambda c: bt.hockey_stick_divergence(best, reference, c))(1.2)
    assert float(slope) == pytest.approx(-0.5, rel=1e-12)  # minus the mass of the higher reward
    with pytest.raises(ValueError, match=r"ratio must be .*got -1"):
        bt.hockey_stick_divergence(best, reference, -1.0)
