"""The rule by which draws swap ranks: partners as defined, scores uniform, the law asked for.

A partner solves an equation between sums of probabilities, which are exact to 1e-15 and, where
edges between outcomes are raised to the power n, to n times that. The equation is tested and not
its solution: beside a rank at which the densities meet a partner is known to the square root.
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

import bon_theory as bt
from tests import strategies as some
from tests.oracles import swapped_ranks as oracle
from tests.strategies import probs

swapped = jax.jit(bt.swapped_ranks)
swap = jax.jit(lambda rule, log_rank: rule.swap(log_rank))
nearest = jax.jit(bt.nearest_reachable)
targets = st.sampled_from(("exponential_tilt", "top_fraction", "win_rate_optimal", "worst_of_n"))
RANKS = (np.arange(4096) + 0.5) / 4096
LOG_RANKS = np.append(np.log([1e-9, 0.03, 0.2, 0.41, 0.55, 0.77, 0.9, 0.99]), [-1e-5, -1e-12])


def swaps(rule: bt.SwappedRanks, ranks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Partners and chances of ranks."""
    partners, chances = swap(rule, jnp.log(jnp.asarray(ranks)))
    return np.exp(partners), np.asarray(chances)


def density_of_score(rule: bt.SwappedRanks, ranks: np.ndarray) -> np.ndarray:
    """The mean of q at the score of each rank."""
    partners, chances = swaps(rule, ranks)
    n = float(rule.n)
    return (1 - chances) * n * ranks ** (n - 1) + chances * n * partners ** (n - 1)


def cells(rule: bt.SwappedRanks) -> tuple[np.ndarray, np.ndarray]:
    """Ranks below and up to each outcome."""
    below, upto = map(np.exp, rule.log_ranks)
    return below, upto


# --- as defined -------------------------------------------------------------------------


def assert_as_defined(rule: bt.SwappedRanks, known: oracle.Rule) -> None:
    """Partners have as much above them, and chances make up for what densities differ by."""
    for log_u, *found in zip(LOG_RANKS, *swap(rule, jnp.asarray(LOG_RANKS)), strict=True):
        log_u, log_v, chance = (mp.mpf(float(x)) for x in (log_u, *found))
        u, v = mp.exp(log_u), mp.exp(log_v)
        assert abs(known.mismatch(u, v)) < 1e-15 * (4 + float(rule.n))
        assert abs(known.density_off(u, v, chance)) < 4e-15 * float(rule.n)


@pytest.mark.parametrize(
    ("temperature", "n"),
    [(0.25, 5), (0.25, 4 / -math.expm1(-4)), (0.1, 30), (0.02, 1000), (1.0, 1.7)],
)
def test_of_the_tilt_of_a_uniform_reward_as_defined(temperature: float, n: float) -> None:
    uniform = bt.Policy.uniform_reward(num_nodes=321)
    rule = swapped(bt.exponential_tilt(uniform, temperature), uniform, jnp.asarray(float(n)))
    with mp.workdps(30):
        assert_as_defined(rule, oracle.of_tilt(temperature, n))


def test_at_the_ends_of_stretches_as_within_them() -> None:
    """Where up to four edges coincide, but for rounding."""
    uniform = bt.Policy.uniform_reward(num_nodes=321)
    rule = swapped(bt.exponential_tilt(uniform, 0.25), uniform, jnp.asarray(5.0))
    ends = np.exp(rule.log_edges)
    density = 4 * np.exp(4 * ends) / math.expm1(4)
    assert density_of_score(rule, ends) == pytest.approx(density, rel=1e-12)


@pytest.mark.parametrize("n", [1.5, 3.0, 40.0, 1000.0])
def test_of_discrete_laws_as_defined(n: float) -> None:
    rng = np.random.default_rng(int(n))
    for temperature in (0.15, 0.6):
        reference = bt.Policy.from_probs(rng.dirichlet(np.ones(5)), rng.normal(size=5))
        law = bt.nearest_reachable(bt.exponential_tilt(reference, temperature), reference, n)
        with mp.workdps(30):
            known = oracle.of_outcomes(probs(reference), probs(law), n)
            assert_as_defined(bt.swapped_ranks(law, reference, n), known)


# --- the law ----------------------------------------------------------------------------


@given(data=st.data(), reference=some.laws, name=targets, n=some.numbers)
def test_scores_are_uniform_and_what_is_kept_has_the_law(
    data: Any, reference: bt.Policy, name: str, n: jax.Array
) -> None:
    """Several excursions, touching zeros, ties, impossible and tiny outcomes, one draw."""
    law = nearest(some.drawn(data, name)(reference), reference, n)
    rule = swapped(law, reference, n)
    partners, chances = swaps(rule, RANKS)
    assert np.all((chances >= 0) & (chances <= 1))
    # Scores below any number are some forty intervals of ranks, each counted to one grid point.
    assert oracle.score_cdf_error(RANKS, partners, chances) < 40 / RANKS.size

    below, upto = cells(rule)
    inside = (RANKS[:, None] > below + 1e-9) & (RANKS[:, None] < upto - 1e-9)
    ratio = np.exp(np.where(probs(reference) > 0, law.log_probs - reference.log_probs, 0))
    off = density_of_score(rule, RANKS)[:, None] - ratio
    assert np.max(np.abs(off), where=inside, initial=0) < 1e-12 * float(n)
    if n <= 20:
        kept = oracle.kept(RANKS, partners, chances, float(n))
        found = np.array([kept[column].sum() for column in inside.T])
        assert found == pytest.approx(probs(law), abs=40 * float(n) / RANKS.size)


def test_orders_and_swapped_ranks_have_one_law() -> None:
    rng = np.random.default_rng(2)
    for size, n in ((1, 3.0), (7, 2.5)):
        reference = bt.Policy.from_probs(rng.dirichlet(np.ones(size)), rng.normal(size=size))
        target = bt.exponential_tilt(reference, 0.3)
        law = bt.nearest_reachable(target, reference, n)
        orders = bt.mixture_of_orders(law, reference, n).law(reference, n)
        rule = bt.swapped_ranks(law, reference, n)
        below, upto = cells(rule)
        nodes, weights = np.polynomial.legendre.leggauss(8)
        ranks = below[:, None] + (upto - below)[:, None] * (nodes + 1) / 2
        mean = density_of_score(rule, ranks) @ weights / 2
        assert mean * (upto - below) == pytest.approx(probs(orders), abs=1e-12)


def test_two_draws_from_a_few_ranks_one_by_one() -> None:
    """Every pair of ranks and coins: what is kept is what one formula for all pairs says."""
    reference = bt.Policy.from_probs([0.5, 0.25, 0.25], [0.0, 0.5, 1.0])
    law = bt.nearest_reachable(bt.exponential_tilt(reference, 0.5), reference, 2.0)
    rule = bt.swapped_ranks(law, reference, 2.0)
    ranks = (np.arange(96) + 0.5) / 96
    partners, chances = swaps(rule, ranks)
    score = np.concatenate([ranks, partners])
    mass = np.concatenate([1 - chances, chances]) / ranks.size
    wins = mass[:, None] * mass * ((score[:, None] > score) + (score[:, None] == score) / 2)
    kept = 2 * wins.sum(axis=1).reshape(2, -1).sum(axis=0)
    assert kept.sum() == pytest.approx(1, abs=1e-12)
    found = [kept[(ranks > a) & (ranks < b)].sum() for a, b in zip(*cells(rule), strict=True)]
    assert found == pytest.approx(probs(law), abs=2e-2)


def test_of_a_continuous_law_with_a_kink() -> None:
    """Two draws for a uniform reward's tilt: a multiple of it, and best-of-2 above some rank."""
    touch = float(mp.findroot(lambda u: 2 * mp.expm1(4 * u) - 4 * u * mp.exp(4 * u), 0.4))
    edges = np.linspace(0, 1, 17)
    below = np.expm1(4 * np.minimum(edges, touch)) / np.expm1(4 * touch) * touch**2
    known = np.diff(np.where(edges < touch, below, edges**2))
    uniform = bt.Policy.uniform_reward()
    law = bt.nearest_reachable(bt.exponential_tilt(uniform, 0.25), uniform, 2.0)
    partners, chances = swaps(bt.swapped_ranks(law, uniform, 2.0), RANKS)
    kept = oracle.kept(RANKS, partners, chances, 2.0).reshape(16, -1).sum(axis=1)
    assert kept == pytest.approx(known, abs=2e-4)  # of second order in the spacing of 1/8
    # Above the kink nothing lacks, but for that spacing.
    moved = (chances * np.abs(partners - RANKS))[touch + 0.05 < RANKS]
    assert np.max(moved) < 0.02


# --- limits and arrays ------------------------------------------------------------------


def test_one_draw_swaps_nothing() -> None:
    for law in (bt.Policy.from_probs([0.5, 0.3, 0.2], [0.0, 0.5, 1.0]), bt.Policy.uniform_reward()):
        assert np.all(swaps(bt.swapped_ranks(law, law, 1.0), RANKS)[1] == 0)


def test_best_of_n_among_distinct_rewards_swaps_within_outcomes_alone() -> None:
    reference = bt.Policy.from_probs([0.5, 0.3, 0.2], [1.0, 0.0, 0.5])
    rule = bt.swapped_ranks(bt.best_of_n(reference, 3.0), reference, 3.0)
    partners, _ = swaps(rule, RANKS)
    upper = np.sort(cells(rule)[1])
    assert np.array_equal(np.searchsorted(upper, partners), np.searchsorted(upper, RANKS))


@pytest.mark.parametrize("n", [2.0, 7.3, 1e4])
def test_best_of_n_of_a_continuous_law_is_reached_to_the_error_of_its_nodes(n: float) -> None:
    uniform = bt.Policy.uniform_reward()
    rule = bt.swapped_ranks(bt.best_of_n(uniform, n), uniform, n)
    density = n * RANKS ** (n - 1)
    assert np.mean(np.abs(density_of_score(rule, RANKS) - density)) < 1e-3
    moved = np.abs(swaps(rule, RANKS)[0] - RANKS) * swaps(rule, RANKS)[1]
    assert np.mean(moved) < 1e-3


def test_the_nearest_law_is_reached_however_long_its_logarithms() -> None:
    """Of a tilt with ratios of e^40, whose masses round to 78 eps."""
    reference = bt.Policy.from_quantile(lambda u: -jnp.log1p(-u))
    law = bt.nearest_reachable(bt.exponential_tilt(reference, 0.05), reference, 1.0)
    assert np.all(swaps(bt.swapped_ranks(law, reference, 1.0), RANKS)[1] == 0)


def test_ranks_zero_and_one_have_partners_too() -> None:
    reference = bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0])
    rule = bt.swapped_ranks(reference, reference, 2.0)  # partners lie on a circle
    partners, chances = swaps(rule, np.array([1e-300, 1.0]))
    assert partners == pytest.approx([0.5, 0.5], abs=1e-7)
    assert chances == pytest.approx([1, 1], abs=1e-7)
    partner, chance = rule.swap(jnp.asarray(-np.inf))
    assert float(jnp.exp(partner)) == pytest.approx(0.5, abs=1e-7)
    assert float(chance) == pytest.approx(1, abs=1e-7)


def test_no_law_and_no_number_of_draws_have_no_rule() -> None:
    reference = bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0])
    nothing = jax.tree.map(lambda x: x * jnp.nan, reference)
    for law, n in ((reference, 0.5), (nothing, 2.0)):
        rule = swapped(law, reference, jnp.asarray(n))
        assert all(np.isnan(x) for x in rule.swap(jnp.log(jnp.array(0.3))))


def test_a_law_out_of_reach_and_what_is_no_rank_have_no_partners_when_traced() -> None:
    reference = bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0])
    best = bt.best_of_n(reference, 2.0)
    for n, ranks in ((1.9, [0.3, 0.9]), (2.0, [math.nan, 1.1])):
        found = swap(swapped(best, reference, jnp.asarray(n)), jnp.log(jnp.array(ranks)))
        assert np.all(np.isnan(found))


def test_under_jit_and_vmap_as_one_by_one() -> None:
    reference = bt.Policy.from_probs([0.5, 0.3, 0.2], [0.0, 0.5, 1.0])
    target, log_ranks = bt.exponential_tilt(reference, 0.5), jnp.asarray(LOG_RANKS)
    numbers = jnp.array([4.0, 7.5])
    together = jax.jit(jax.vmap(lambda n: bt.swapped_ranks(target, reference, n).swap(log_ranks)))
    for n, *found in zip(numbers, *together(numbers), strict=True):
        known = bt.swapped_ranks(target, reference, n).swap(log_ranks)
        for one, other in zip(found, known, strict=True):
            assert np.asarray(one) == pytest.approx(np.asarray(other), abs=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize("n", [5.0, 1000.0])
def test_in_single_precision(n: float) -> None:
    """The law of what is kept, which is what counts; and ranks near the top, relative to 1 - u."""
    uniform = bt.Policy.uniform_reward(num_nodes=321)
    target = bt.exponential_tilt(uniform, 0.25)
    single = [jax.tree.map(lambda x: x.astype(jnp.float32), law) for law in (target, uniform)]
    rule = bt.swapped_ranks(single[0], single[1], n)
    partners, chances = rule.swap(jnp.log(jnp.asarray(RANKS, jnp.float32)))
    assert partners.dtype == chances.dtype == jnp.float32
    assert np.all((np.asarray(chances) >= 0) & (np.asarray(chances) <= 1))
    found = np.exp(np.asarray(partners, np.float64)), np.asarray(chances, np.float64)
    kept, known = (
        oracle.kept(RANKS, *each, n)
        for each in (found, swaps(bt.swapped_ranks(target, uniform, n), RANKS))
    )
    assert np.abs(kept - known).sum() < 1e-5
    top = jnp.array([-1e-6, -1e-4], jnp.float32)
    again = rule.swap(rule.swap(top).log_rank).log_rank
    assert np.asarray(again) == pytest.approx(np.asarray(top), rel=1e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, q: bt.swapped_ranks(p, q, 0.5), "n must be .*got 0.5"),
        (lambda p, q: bt.swapped_ranks(p, q, jnp.ones(2)), r"must be one of each, .*\(2,\)"),
        (lambda p, q: bt.swapped_ranks(p, q, 1.0), "policy must be the law of a rule of 1 draws"),
        (lambda p, q: bt.swapped_ranks(p, bt.Policy.uniform_reward(), 2.0), "same outcomes"),
        (
            lambda p, q: bt.swapped_ranks(q, q, 2.0).swap(jnp.asarray(0.1)),
            "log_rank must be .*got 0.1",
        ),
        (
            lambda p, q: bt.swapped_ranks(q, q, 2.0).swap(jnp.asarray(math.nan)),
            "log_rank must be .*got nan",
        ),
        (
            lambda p, q: bt.swapped_ranks(
                bt.worst_of_n(bt.Policy.uniform_reward(), 2.0), bt.Policy.uniform_reward(), 3.0
            ),
            "ratio to the reference that rises",
        ),
    ],
)
def test_bad_input_is_refused(call: Any, message: str) -> None:
    reference = bt.Policy.from_probs([0.5, 0.3, 0.2], [0.0, 0.5, 1.0])
    with pytest.raises(ValueError, match=message):
        call(bt.exponential_tilt(reference, 0.5), reference)
