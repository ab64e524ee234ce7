"""Bounds: true on random problems, tight where they should be, equal to formulas written twice."""

import ast
import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mpmath_module
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bon_theory as bt
from bon_theory import bounds, divergences
from simulations.experiments import bounds_sweep
from tests import strategies as some
from tests.bound_examples import (
    EXAMPLE,
    FUNCTIONS,
    PARAMETERS,
    TIE_FREE,
    TIED,
    value,
)
from tests.strategies import law, policy_of, probs

ROUNDING = 1e-11
mpmath: Any = mpmath_module  # its types do not know that numbers are numbers


# --- they hold --------------------------------------------------------------------------


@settings(max_examples=100)
@given(
    reference=some.laws,
    n=st.one_of(some.numbers, st.floats(1.0, 4.0).map(jnp.asarray)),
    temperature=some.temperatures,
    order=st.one_of(st.sampled_from([1.0, 2.0, math.inf]), st.floats(0.1, 5)).map(jnp.asarray),
    mean=some.means,
    strength=some.strengths,
    ratio=st.floats(1.0, 100.0).map(jnp.asarray),
    truth=some.rewards,
)
def test_no_bound_is_violated(
    reference: bt.Policy,
    n: Any,
    temperature: Any,
    order: Any,
    mean: Any,
    strength: Any,
    ratio: Any,
    truth: np.ndarray,
) -> None:
    table = bounds.table(
        reference,
        n=n,
        temperature=temperature,
        order=order,
        mean_extra_draws=mean,
        strength=strength,
        ratio=ratio,
        true_reward=truth,
    )
    assert len(table.rows) == len(bounds.REGISTRY)
    for row in table.rows:
        assert row.slack >= -ROUNDING * max(1, abs(float(row.exact))), row.name


def test_collisions_bound_the_gaps_of_fine_laws() -> None:
    """Where [B]'s bounds say something: many levels, few draws."""
    masses = np.random.default_rng(0).dirichlet(np.full(500, 2.0))
    fine, n = policy_of(masses, np.arange(500.0)), jnp.asarray([1.0, 1.2, 2.0, 2.5, 3.0, 5.0])
    best = some.best_of_n(fine, n)
    divergence = bounds.best_of_n_kl_from_collisions(fine, n)
    assert np.all(divergence.slack(some.kl(best, fine)) >= -ROUNDING)
    assert np.all(divergence.value[2:] > 0.1)
    wins = bounds.best_of_n_win_rate_from_collisions(fine, n)
    assert np.all(wins.slack(some.win_rate(best, fine)) >= -ROUNDING)


@given(reference=some.laws, n=some.numbers)
def test_knowing_the_level_hides_least_of_what_is_known(reference: bt.Policy, n: Any) -> None:
    """[B]'s conjecture in two steps: KL ≤ by level ≤ by atom ≤ the closed form."""
    exact = some.kl(some.best_of_n(reference, n), reference)
    level, atom = (selected(reference, n) for selected in SELECTED)
    assert exact - ROUNDING <= level <= atom + ROUNDING
    assert atom <= value("best_of_n_kl", n=n) + ROUNDING


SELECTED: Any = [
    jax.jit(lambda reference, n, name=name: FUNCTIONS[name](reference, n).value)
    for name in ("best_of_n_kl_from_selected_level", "best_of_n_kl_from_selected_atom")
]


@given(reference=some.laws, n=some.numbers, t=some.temperatures, factor=st.floats(1.001, 10))
def test_soft_best_of_n_is_stochastically_ordered_in_temperature(
    reference: bt.Policy, n: Any, t: Any, factor: float
) -> None:
    cool, warm = (some.soft_best_of_n(reference, n, x) for x in (t, factor * t))
    assert np.all(np.exp(cool.log_cdf) <= np.exp(warm.log_cdf) + ROUNDING)


def test_the_divergence_falls_with_temperature_by_a_covariance() -> None:
    """n(n-1) ∫ t M^{n-2} (E W e^{-tW})² Cov_t(log P/π, r) dt, against the core's derivative."""
    n, beta = 2.5, 5.0
    mass, rewards = np.array([0.5, 0.3, 0.2]), np.array([0.0, 0.5, 1.0])
    reference = bt.Policy.from_probs(mass, rewards)
    soft = jax.jit(lambda b: bt.soft_best_of_n(reference, n, 1 / b))
    slope = jax.grad(lambda b: bt.kl_divergence(soft(b), reference))(beta)
    ratio, weights = np.asarray(bt.log_ratio(soft(beta), reference)), np.exp(beta * rewards)

    def integrand(t: float) -> float:
        decay = mass * np.exp(-t * weights)
        law, height = decay * weights / (decay @ weights), decay @ weights
        covariance = law @ (ratio * rewards) - (law @ ratio) * (law @ rewards)
        return n * (n - 1) * t * decay.sum() ** (n - 2) * height**2 * covariance

    s = np.linspace(-40, 5, 2001)  # t = e^s
    integral = sum(integrand(np.exp(x)) * np.exp(x) for x in s) * (s[1] - s[0])
    assert float(slope) == pytest.approx(integral, rel=1e-12)


SOUND = bounds.REGISTRY["best_of_n_win_rate_from_largest_level"]


def believed_once(reference: bt.Policy, n: jax.Array) -> jax.Array:
    """A gap of at most n p_max²/12 at every real n."""
    largest = jnp.max(jnp.exp(reference.log_cdf) - jnp.exp(reference.log_cdf_below), axis=-1)
    return n / (n + 1) - n * largest**2 / 12


FALSE = dataclasses.replace(SOUND, name="false", formula=believed_once)
SWEEP = bounds_sweep.BoundsSweepConfig((SOUND, FALSE), num_problems=20_000, batch_size=2000)


def test_a_false_bound_is_found_and_the_problem_shown() -> None:
    results = bounds_sweep.run(SWEEP, jax.random.key(0))
    assert results.violated == ("false",)
    example = results.outcomes["false"].tightest
    assert 2 < example.parameters["n"] < 3
    again = policy_of(np.array(example.probs), np.array(example.rewards))
    gap = some.win_rate(some.best_of_n(again, jnp.asarray(example.parameters["n"])), again)
    assert float(gap) == pytest.approx(example.exact, abs=1e-13)
    assert example.exact < example.bound - 1e-4


def test_a_sweep_is_reproducible_and_ordered() -> None:
    one, other = (bounds_sweep.run(SWEEP, jax.random.key(3)).outcomes[SOUND.name] for _ in "ab")
    np.testing.assert_array_equal(one.relative_slack, other.relative_slack)
    assert one.tightest == other.tightest
    slack = (one.tightest.exact - one.tightest.bound) / one.tightest.exact
    assert one.worst == pytest.approx(slack, abs=1e-12)
    assert np.all(np.diff([one.worst, *one.relative_slack]) >= 0)


def test_a_sweep_needs_float64() -> None:
    with jax.enable_x64(False), pytest.raises(ValueError, match="float64"):
        bounds_sweep.run(bounds_sweep.BoundsSweepConfig(), jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("num_outcomes", [2, 3, 5, 8])
def test_no_bound_is_violated_by_many_problems(num_outcomes: int) -> None:
    config = bounds_sweep.BoundsSweepConfig(num_outcomes=num_outcomes)
    assert bounds_sweep.run(config, jax.random.key(num_outcomes)).violated == ()


# --- they are tight ---------------------------------------------------------------------


def test_without_ties_the_rank_bounds_are_equalities() -> None:
    table = bounds.table(
        bt.Policy.uniform_reward(), n=7.5, order=1.7, mean_extra_draws=3, strength=4
    )
    assert len(TIE_FREE) == 29
    for name in TIE_FREE:
        assert abs(float(table[name].slack)) < 1e-11, name


def test_the_win_rate_optimum_attains_the_penalised_bound() -> None:
    win, kl = (value(f"win_rate_optimal_{name}") for name in ("win_rate", "kl"))
    bound = value("best_of_n_penalised_win_rate")
    assert float(win - kl / PARAMETERS["strength"]) == pytest.approx(float(bound), abs=1e-14)


@pytest.mark.parametrize("n", [2.0, 2.2, 1 + math.sqrt(2), 2.9, 3.0])
def test_one_level_attains_the_cost_of_ties_between_two_and_three_candidates(n: float) -> None:
    constant = law([1.0], rewards=[0.0])
    least = value("best_of_n_win_rate_from_largest_level", constant, n=n)
    assert float(least) == pytest.approx(0.5, abs=1e-15)


def test_one_top_atom_over_a_continuum_attains_its_divergence() -> None:
    # 500 equal levels below an atom of 0.3 are a continuum up to a gap of about n³/(24 L²).
    reference = policy_of(np.append(np.full(499, 0.7 / 499), 0.3), np.arange(500.0))
    bound = bounds.best_of_n_kl_from_top_atom(reference, 6.0)
    exact = some.kl(some.best_of_n(reference, jnp.asarray(6.0)), reference)
    assert 0 < float(bound.slack(exact)) < 6**3 / (24 * 500**2)


def test_two_outcomes_attain_the_variance_of_the_weights() -> None:
    # sinh² is reached where the lower reward is e^{R/λ} times as likely.
    ratio = math.exp(1.5 / 0.5)
    share = 1 / (1 + ratio)
    pair = law([1 - share, share, 0.0, 0.0, 0.0], rewards=[0.5, 2.0, 0.0, 0.0, 0.0])
    row = bounds.table(pair, **PARAMETERS)["tilt_chi_squared_from_range"]
    assert float(row.slack / row.exact) == pytest.approx(0, abs=1e-13)


def test_bounds_of_one_candidate_or_a_constant_reward_are_exact() -> None:
    # Nothing is selected: every divergence is 0 and every reward the reference's.
    constant = law([0.25, 0.7, 0.05, 0.0, 0.0], rewards=[1.0, 1.0, 1.0, 0.0, 3.0])
    attained = bounds.table(constant, **PARAMETERS)
    for row in attained.rows:
        if row.name.startswith(("soft", "tilt", "exponential_race")) and "tie_free" not in row.name:
            assert abs(float(row.slack)) < 1e-14, row.name
    alone = bounds.table(TIED, n=1.0, order=2.0)
    for name in ("kl", "reverse_kl", "chi_squared", "total_variation", "squared_hellinger"):
        assert float(alone[f"best_of_n_{name}"].slack) == 0


@pytest.mark.parametrize(("name", "order"), [("pointwise", 1.0), ("", 0.5)])
def test_the_pointwise_bound_has_the_order_of_the_distance(name: str, order: float) -> None:
    """TV(P_n, P*) = Θ(1/n), where Pinsker's inequality falls like n^{-1/2}."""
    name = "_".join(filter(None, ["soft_best_of_n_total_variation", name]))
    few, many = (float(value(name, n=n)) for n in (1e4, 1e6))
    assert few / many == pytest.approx(100**order, rel=1e-3)


def test_on_continuous_laws_kinks_cost_no_accuracy() -> None:
    """E*(w̄-1)₊/(n-1+w̄) under a uniform reward, against quadrature that knows the kink."""
    n, t = 3, mpmath.mpf("0.2")
    mean = t * mpmath.expm1(1 / t)
    kink = t * mpmath.log(mean)
    exact = mpmath.quad(
        lambda u: (w := mpmath.exp(u / t) / mean) * (w - 1) / (n - 1 + w), [kink, 0.8, 1]
    )
    function = jax.jit(bounds.soft_best_of_n_total_variation_pointwise)
    bound = function(bt.Policy.uniform_reward(), 3.0, 0.2).value
    assert float(bound) == pytest.approx(float(exact), rel=1e-11)


def enumerated(levels: np.ndarray, n: int, c: float) -> dict[str, float]:
    """What ties cost: divergence and win rates less the tie-free ones, over e^{-H2}.

    Of best-of-n by its probabilities Fⁿ - F₋ⁿ, of the win-rate optimum by e^{cF} - e^{cF₋}.
    """
    above = np.append(np.cumsum(levels[:-1]), 1.0)
    below, collisions, gaps = above - levels, float(levels @ levels), dict[str, float]()
    win, kl = n / (n + 1), math.log(n) - (n - 1) / n
    gaps |= ties_cost("best_of_n", above**n - below**n, levels, win, kl)
    win = 1 / (1 - math.exp(-c)) - 1 / c
    kl = c * win - math.log(math.expm1(c) / c)
    optimum = (np.exp(c * above) - np.exp(c * below)) / math.expm1(c)
    gaps |= ties_cost("win_rate_optimal", optimum, levels, win, kl)
    return {name: gap / collisions for name, gap in gaps.items()}


def ties_cost(
    name: str, law: np.ndarray, levels: np.ndarray, win: float, kl: float
) -> dict[str, float]:
    joint = np.outer(law, levels)
    return {
        f"{name}_kl": kl - float(law @ np.log(np.where(law > 0, law / levels, 1))),
        f"{name}_won": float(np.tril(joint).sum()) - win,
        f"{name}_lost": win - float(np.tril(joint, -1).sum()),
    }


def test_the_discrete_corrections_hold_by_enumeration_and_are_not_idle() -> None:
    """[G] Appendix B: Σp² times n(n-1), n; with s = 1/(1 - e^{-c}), c²s, cs."""
    rng, worst = np.random.default_rng(0), dict[str, float]()
    for _ in range(2000):
        levels = rng.dirichlet(np.full(rng.integers(1, 9), 10 ** rng.uniform(-1, 1)))
        levels = levels[levels > 1e-9] / levels[levels > 1e-9].sum()
        n, c = int(rng.choice([1, 2, 3, 8, 64])), 10 ** rng.uniform(-1, 1.5)
        steep = c / -math.expm1(-c)
        allowed = {"best_of_n_kl": n * (n - 1), "win_rate_optimal_kl": c * steep}
        allowed |= {f"best_of_n_{tie}": n for tie in ("won", "lost")}
        allowed |= {f"win_rate_optimal_{tie}": steep for tie in ("won", "lost")}
        for name, gap in enumerated(levels, n, c).items():
            assert -1e-11 <= gap <= allowed[name] + 1e-11, name
            worst[name] = max(worst.get(name, 0.0), gap / max(allowed[name], 1))
    # Win rates need .4 of what is allowed or more, divergences a fiftieth.
    for name, share in worst.items():
        assert share > (0.02 if name.endswith("kl") else 0.4), (name, worst)


# --- they are the formulas they claim to be ---------------------------------------------


def by_hand(reference: bt.Policy, n: float, t: float) -> dict[str, Any]:
    """The bounds that use a statistic of the reference, from their definitions."""
    mass, rewards = probs(reference), np.asarray(reference.rewards)
    mass, rewards = mass[mass > 0], rewards[mass > 0]
    levels = np.array([mass[rewards == r].sum() for r in np.unique(rewards)])
    kl, extent = math.log(n) - (n - 1) / n, np.ptp(rewards)
    weights = np.exp(rewards / t) / (mass @ np.exp(rewards / t))
    tilt, chi_squared, least = mass * weights, mass @ (weights - 1) ** 2, rewards.min()
    e, gain = levels[-1], tilt @ (rewards - least)
    missed = (1 - e) ** n
    selected = np.diff(np.concatenate([[0.0], np.cumsum(levels)]) ** n)

    def known(p: float) -> float:
        return 1 - (1 - p) ** n

    def hidden(p: float) -> float:
        """Of the density u^{n-1} on [1-p, 1] from uniform, by the trapezoidal rule."""
        u = np.linspace(1 - p, 1, 200_001)
        density = n * u ** (n - 1) * p / known(p)
        return float(np.trapezoid(density * np.log(density), u)) / p

    constant = tilt @ ((rewards - least) * weights) / gain
    win, half = n / (n + 1), levels.max() ** 2 * max(n / 12, (n - 1) / 2 / (n + 1))
    return {
        "best_of_n_kl_from_top_level": -math.log(e),
        "best_of_n_kl_from_top_atom": missed * (kl + (n - 1) * math.log(1 - e))
        + (1 - missed) * math.log((1 - missed) / e),
        "best_of_n_kl_from_selected_atom": selected
        @ [
            known(p) * (math.log(known(p) / p)) + (1 - p) ** n * (kl + (n - 1) * math.log(1 - p))
            for p in levels
        ],
        "best_of_n_kl_from_selected_level": kl - selected @ [hidden(p) for p in levels],
        "best_of_n_kl_from_collisions": kl - 2 * n * (n - 1) * levels @ levels,
        "best_of_n_reward": t * kl + t * math.log(mass @ np.exp(rewards / t)),
        "best_of_n_reward_from_range": mass @ rewards + extent * math.sqrt(kl / 2),
        "best_of_n_win_rate_from_largest_level": win - half,
        "best_of_n_win_rate_from_collisions": win - (n - 1) / 2 * levels @ levels,
        "best_of_n_win_rate_ties_won_from_largest_level": win + levels.max(),
        "best_of_n_win_rate_ties_lost_from_largest_level": win - levels.max(),
        "soft_best_of_n_kl_to_tilt": math.log(1 + chi_squared / n),
        "soft_best_of_n_kl_to_tilt_over_n": chi_squared / n,
        "soft_best_of_n_kl_to_tilt_pointwise": tilt @ np.log((n - 1 + weights) / n),
        "soft_best_of_n_kl_to_tilt_from_range": math.log(1 + math.sinh(extent / 2 / t) ** 2 / n),
        "soft_best_of_n_max_log_ratio": math.log((n - 1 + weights.max()) / n),
        "soft_best_of_n_total_variation": math.sqrt(math.log(1 + chi_squared / n) / 2),
        "soft_best_of_n_total_variation_pointwise": tilt
        @ (np.maximum(weights - 1, 0) / (n - 1 + weights)),
        "soft_best_of_n_reward_floor": least + gain / (1 + (constant - 1) / n),
        "soft_best_of_n_reward_above_reference": mass @ rewards,
        "soft_best_of_n_reward_below_tilt": tilt @ rewards,
        "soft_best_of_n_kl_below_tilt": tilt @ np.log(weights),
        "soft_best_of_n_kl_from_range": math.log(n / (1 + (n - 1) * math.exp(-extent / t))),
        "tilt_chi_squared_from_range": math.sinh(extent / 2 / t) ** 2,
        "exponential_race_total_variation": (1 - 1 / weights.max()) ** n,
    }


@pytest.mark.parametrize("reference", [EXAMPLE, TIED], ids=["example", "tied"])
@pytest.mark.parametrize(("n", "t"), [(4.0, 0.5), (1.3, 0.1), (2.5, 3.0)])
def test_bounds_agree_with_their_definitions(reference: bt.Policy, n: float, t: float) -> None:
    for name, expected in by_hand(reference, n, t).items():
        bound = float(value(name, reference, n=n, temperature=t))
        assert bound == pytest.approx(expected, rel=1e-9 if "level" in name else 1e-12), name


@pytest.mark.parametrize("mean", [1e-3, 0.0999, 0.1001, 0.499, 0.501, 3.0, 48.9, 49.1, 1e3])
def test_best_of_poisson_agrees_with_quadrature(mean: float) -> None:
    def density(u: Any) -> Any:
        return (1 + mean * u) * mpmath.exp(mean * (u - 1))

    edges = sorted({0, 1, *(max(0, 1 - k / mean) for k in (5, 20, 60))})
    kl = mpmath.quad(lambda u: density(u) * mpmath.log(density(u)), edges)
    win = mpmath.quad(lambda u: density(u) * u, edges)
    bound = value("best_of_poisson_kl", mean_extra_draws=mean)
    assert float(bound) == pytest.approx(float(kl), rel=2e-12)
    bound = value("best_of_poisson_win_rate", mean_extra_draws=mean)
    assert float(bound) == pytest.approx(float(win), rel=1e-14)


@pytest.mark.parametrize("strength", [1e-3, 0.1, 0.699, 0.701, 5.0, 50.0, 1e3])
def test_the_optimum_agrees_with_multiprecision(strength: float) -> None:
    with mpmath.workdps(40):
        c = mpmath.mpf(strength)
        win = 1 / (1 - mpmath.exp(-c)) - 1 / c
        kl = c * win - mpmath.log(mpmath.expm1(c) / c)
    bound = value("win_rate_optimal_win_rate", strength=strength)
    assert float(bound) == pytest.approx(float(win), rel=1e-14)
    bound = value("win_rate_optimal_kl", strength=strength)
    assert float(bound) == pytest.approx(float(kl), rel=1e-13)


@pytest.mark.parametrize("order", [0.0, 0.5, 1 - 1e-9, 1.0, 1 + 1e-5, 2.0, 40.0, math.inf])
def test_renyi_agrees_with_multiprecision_and_takes_its_limits(order: float) -> None:
    n = 5
    with mpmath.workdps(40):
        a = mpmath.mpf(order)
        expected = (
            mpmath.log(n) - mpmath.mpf(4) / 5
            if order == 1
            else mpmath.log(n)
            if order == math.inf
            else (a * mpmath.log(n) - mpmath.log(a * (n - 1) + 1)) / (a - 1)
        )
    assert float(value("best_of_n_renyi", n=n, order=order)) == pytest.approx(
        float(expected), rel=1e-13, abs=1e-15
    )


# --- they do not compute what they bound ------------------------------------------------


def test_every_bound_differs_from_the_quantity_on_a_generic_problem() -> None:
    generic = law([0.35, 0.2, 0.1, 0.15, 0.2], rewards=[0.0, 0.3, 1.0, 0.45, 0.8])
    for row in bounds.table(generic, **PARAMETERS).rows:
        assert row.slack > 1e-4, row.name


@pytest.mark.parametrize("module", ["hard_divergences", "hard_win_rates", "rank_families"])
def test_bounds_on_rank_policies_import_no_divergence_and_no_win_rate(module: str) -> None:
    tree = ast.parse(Path(bounds.__file__).with_name(f"{module}.py").read_text())
    imported: set[str] = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert "inequality" in imported
    assert not imported & {*divergences.__all__, "win_rate"}
