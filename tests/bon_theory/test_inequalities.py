"""Inequalities about rank selections and optima, as properties, and tight where they should be.

``ROUNDING`` is what two quantities that are equal in exact arithmetic may differ by here: sums of
five terms of order one, each good to 1e-14 or so.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import bon_theory as bt
from tests import strategies as some
from tests.strategies import probs

ROUNDING = 1e-11


def levels(reference: bt.Policy) -> np.ndarray:
    """Probability of each distinct reward that is possible, in ascending order."""
    rewards, mass = np.asarray(reference.rewards), probs(reference)
    sums = np.array([mass[rewards == r].sum() for r in np.unique(rewards)])
    return sums[sums > 0]


# --- divergences of best-of-n: the continuous law is the worst case (data processing) ---

CLOSED_FORMS = {
    "kl": lambda n: math.log(n) - (n - 1) / n,
    "chi_squared": lambda n: (n - 1) ** 2 / (2 * n - 1),
    "total_variation": lambda n: (1 - 1 / n) * n ** (-1 / (n - 1)),
    "squared_hellinger": lambda n: 2 * (math.sqrt(n) - 1) ** 2 / (n + 1),
}
several = st.one_of(st.integers(2, 50).map(float), st.floats(1.01, 1e4))


@pytest.mark.parametrize("name", CLOSED_FORMS)
@given(reference=some.laws, n=several)
def test_ties_only_lower_a_divergence(name: str, reference: bt.Policy, n: float) -> None:
    divergence = some.DIVERGENCES[name](some.best_of_n(reference, jnp.asarray(n)), reference)
    assert divergence <= CLOSED_FORMS[name](n) + ROUNDING


@given(reference=some.laws, n=several)
def test_ties_only_lower_the_reverse_divergence(reference: bt.Policy, n: float) -> None:
    reverse = some.kl(reference, some.best_of_n(reference, jnp.asarray(n)))
    assert reverse <= (n - 1 - math.log(n)) * (1 + ROUNDING)


@given(reference=some.laws, n=several, order=st.floats(1.1, 20))
def test_ties_only_lower_renyi(reference: bt.Policy, n: float, order: float) -> None:
    policy = some.best_of_n(reference, jnp.asarray(n))
    bound = (order * math.log(n) - math.log(order * (n - 1) + 1)) / (order - 1)
    assert some.renyi(policy, reference, jnp.asarray(order)) <= bound + ROUNDING
    assert some.renyi(policy, reference, jnp.asarray(math.inf)) <= math.log(n) + ROUNDING


@given(reference=some.laws, mean=st.floats(0.01, 50))
def test_ties_only_lower_the_divergence_of_the_optimum(reference: bt.Policy, mean: float) -> None:
    policy, win = some.win_rate_optimal(reference, jnp.asarray(mean)), 1 / -math.expm1(-mean)
    bound = mean * (win - 1 / mean) - mean - math.log(-math.expm1(-mean) / mean)
    assert some.kl(policy, reference) <= bound + ROUNDING


@given(reference=some.laws, n=several)
def test_the_gap_of_kl_is_what_ties_hide_within_atoms(reference: bt.Policy, n: float) -> None:
    edges = np.concatenate([[0.0], np.cumsum(levels(reference))])
    edges = edges / edges[-1]
    low, high = edges[:-1], edges[1:]
    assume(np.diff(edges).min() > 1e-4)  # the formula below cancels; the library need not
    selected = high**n - low**n
    integral = high**n * np.log(high) - low**n * np.log(np.where(low > 0, low, 1)) - selected / n
    hidden = selected * (np.log(n * (high - low)) - np.log(np.where(selected > 0, selected, 1)))
    gap = np.sum(np.where(selected > 0, hidden + (n - 1) * integral, 0))
    kl = some.kl(some.best_of_n(reference, jnp.asarray(n)), reference)
    assert CLOSED_FORMS["kl"](n) - float(kl) == pytest.approx(gap, abs=1e-9)


@given(reference=some.laws, n=st.integers(1, 60))
def test_collision_entropy_bounds_the_gaps(reference: bt.Policy, n: int) -> None:
    """[B]: KL gap ≤ 2n(n-1)e^{-H₂}, win-rate gap ≤ (n-1)/2 e^{-H₂}."""
    policy, collision = (
        some.best_of_n(reference, jnp.asarray(float(n))),
        (levels(reference) ** 2).sum(),
    )
    kl_gap = math.log(n) - (n - 1) / n - some.kl(policy, reference)
    assert -ROUNDING <= kl_gap <= 2 * n * (n - 1) * collision + ROUNDING
    win_gap = n / (n + 1) - some.win_rate(policy, reference)
    assert -ROUNDING <= win_gap <= (n - 1) / 2 * collision + ROUNDING


@given(reference=some.laws, n=st.integers(2, 60))
def test_the_expected_top_atom_estimate_is_above_kl(reference: bt.Policy, n: int) -> None:
    """[B]'s conjecture: E D̂(ε) ≥ KL with ε the probability of what was selected."""
    mass = np.clip(levels(reference), 0, 1 - 1e-15)
    above, log_rest = -np.expm1(n * np.log1p(-mass)), np.log1p(-mass)
    rest = np.exp(n * log_rest) * (math.log(n) + (n - 1) * log_rest - (n - 1) / n)
    estimate = rest + above * np.log(above / mass)
    edges = np.concatenate([[0.0], np.cumsum(levels(reference))]) / levels(reference).sum()
    selected = np.diff(edges**n)
    kl = some.kl(some.best_of_n(reference, jnp.asarray(float(n))), reference)
    assert selected @ estimate >= float(kl) - ROUNDING


# --- win rates --------------------------------------------------------------------------


@given(reference=some.laws, n=some.numbers)
def test_win_rates_bracket_the_continuous_one(reference: bt.Policy, n: Any) -> None:
    policy, exact, largest = some.best_of_n(reference, n), n / (n + 1), levels(reference).max()
    win, half, loss = (some.win_rate(policy, reference, ties=t) for t in ("win", "half", "loss"))
    assert exact - ROUNDING <= win <= exact + largest + ROUNDING
    assert exact - largest - ROUNDING <= loss <= exact + ROUNDING
    assert half <= exact + ROUNDING
    assert float(half) == pytest.approx(float(win + loss) / 2, abs=1e-14)


@given(reference=some.laws, n=st.one_of(st.integers(1, 50).map(float), st.floats(3, 1e3)))
def test_half_counted_ties_cost_little(reference: bt.Policy, n: float) -> None:
    # For n in (2, 3) it is false: see test_known_falsehoods.py.
    half = some.win_rate(some.best_of_n(reference, jnp.asarray(n)), reference)
    assert n / (n + 1) - half <= n * levels(reference).max() ** 2 / 12 + ROUNDING


@given(reference=some.laws, n=some.numbers, m=some.numbers)
def test_win_rates_of_two_policies_add_up_to_one(reference: bt.Policy, n: Any, m: Any) -> None:
    one, other = some.best_of_n(reference, n), some.soft_best_of_n(reference, m, jnp.asarray(0.3))
    forth, back = some.win_rate(one, other), some.win_rate(other, one)
    assert float(forth + back) == pytest.approx(1, abs=1e-12)


def test_uniform_atoms_have_the_asymptotic_gaps() -> None:
    # L equal levels: KL gap n(n-1)²/(24(n-2)L²), win-rate gap n/(12L²), relative error O(n/L).
    size, n = 1000, 10.0

    @jax.jit
    def kl_and_win_rate(rewards: jax.Array) -> tuple[jax.Array, jax.Array]:
        reference = bt.Policy.from_samples(rewards)
        policy = bt.best_of_n(reference, n)
        return bt.kl_divergence(policy, reference), bt.win_rate(policy, reference)

    kl, win = kl_and_win_rate(jnp.arange(size) / size)
    kl_gap = CLOSED_FORMS["kl"](n) - kl
    assert float(kl_gap) * size**2 == pytest.approx(n * (n - 1) ** 2 / (24 * (n - 2)), rel=1e-3)
    win_gap = n / (n + 1) - win
    assert float(win_gap) * size**2 == pytest.approx(n / 12, rel=1e-3)


# --- continuous laws: the optimum at its win rate ---------------------------------------

UNIFORM = bt.Policy.uniform_reward()
on_uniform = {
    "best_of_n": lambda x: bt.best_of_n(UNIFORM, 1 + x),
    "worst_of_n": lambda x: bt.worst_of_n(UNIFORM, 1 + x),
    "best_of_poisson": lambda x: bt.best_of_poisson(UNIFORM, x),
    "win_rate_optimal": lambda x: bt.win_rate_optimal(UNIFORM, x),
    "soft_best_of_n": lambda x: bt.soft_best_of_n(UNIFORM, 1 + x, 0.2),
    "exponential_tilt": lambda x: bt.exponential_tilt(UNIFORM, 1 / x),
    "chi_squared_tilt": lambda x: bt.chi_squared_tilt(UNIFORM, 1 / x),
}
win_and_kl: Any = {
    name: jax.jit(
        lambda x, rule=rule: (bt.win_rate(rule(x), UNIFORM), bt.kl_divergence(rule(x), UNIFORM))
    )
    for name, rule in on_uniform.items()
}


@pytest.mark.parametrize("name", on_uniform)
@given(parameter=st.floats(0.05, 20), strength=st.floats(0.1, 30))
def test_nothing_wins_more_at_its_divergence(name: str, parameter: float, strength: float) -> None:
    """[G] Theorem 1 in dual form: win rate − KL/c is largest for the optimum of strength c."""
    win, divergence = win_and_kl[name](parameter)
    optimal = 1 / -math.expm1(-strength) - 1 / strength
    # KL = c·WR − log((e^c − 1)/c), so the optimum's WR − KL/c is log((e^c − 1)/c)/c.
    bound = (strength + math.log(-math.expm1(-strength) / strength)) / strength
    assert win - divergence / strength <= bound + 1e-12
    assert win_and_kl["win_rate_optimal"](strength)[0] == pytest.approx(optimal, abs=1e-12)


def bisect(above: Callable[[float], Any], low: float, high: float) -> float:
    """Where ``above`` turns from false to true."""
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if above(middle) else (middle, high)
    return high


@given(mean=st.floats(0.01, 60))
def test_best_of_poisson_wastes_less_than_8e_4_nats(mean: float) -> None:
    """[K]: its KL exceeds that of the tilt with the same mean rank by less than 8e-4."""
    win, divergence = win_and_kl["best_of_poisson"](mean)
    c = bisect(lambda c: 1 / -math.expm1(-c) - 1 / c > win, 1e-3, 1e3)
    least = c * float(win) - c - math.log(-math.expm1(-c) / c)
    assert -1e-11 <= float(divergence) - least < 6.752e-4


def test_one_more_soft_candidate_is_worse_than_best_of_n() -> None:
    """[D]: at the divergence of best-of-8, soft best-of-9 wins less."""
    hard_win, hard_kl = win_and_kl["best_of_n"](7.0)
    law: Any = jax.jit(lambda t: bt.soft_best_of_n(UNIFORM, 9.0, t))
    t = bisect(lambda t: bt.kl_divergence(law(t), UNIFORM) < hard_kl, 0.01, 1.0)
    assert bt.win_rate(law(t), UNIFORM) < hard_win - 1e-5
