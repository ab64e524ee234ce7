"""Bounds: true on random problems, tight where they should be, equal to formulas written twice."""

import ast
import dataclasses
import inspect
import math
from collections.abc import Callable
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
from tests.strategies import law, policy_of, probs

ROUNDING = 1e-11
# Five outcomes each, so that the table compiles once.
EXAMPLE = law([0.5, 0.3, 0.2, 0.0, 0.0], rewards=[0.0, 0.5, 1.0, 0.0, 0.0])
TIED = law([0.2, 0.3, 0.0, 0.1, 0.4], rewards=[0.5, 0.0, 2.0, 1.0, 0.5])
mpmath: Any = mpmath_module  # its types do not know that numbers are numbers
PARAMETERS: dict[str, Any] = {
    "n": 4.0,
    "temperature": 0.5,
    "order": 2.0,
    "mean_extra_draws": 2.0,
    "strength": 5.0,
}
FUNCTIONS: dict[str, Callable[..., bounds.Bound]] = {
    name: getattr(bounds, name) for name in bounds.REGISTRY
}
inequalities = pytest.mark.parametrize("name", bounds.REGISTRY)


def arguments(name: str, reference: bt.Policy, parameters: dict[str, Any]) -> dict[str, Any]:
    """Those that the function takes."""
    given = {"reference": reference, **parameters}
    return {argument: given[argument] for argument in inspect.signature(FUNCTIONS[name]).parameters}


def value(name: str, reference: Any = EXAMPLE, **parameters: Any) -> Any:
    return FUNCTIONS[name](**arguments(name, reference, {**PARAMETERS, **parameters})).value


# --- they hold --------------------------------------------------------------------------


@settings(max_examples=100)
@given(
    reference=some.laws,
    n=st.one_of(some.numbers, st.floats(1.0, 4.0).map(jnp.asarray)),
    temperature=some.temperatures,
    order=st.one_of(st.sampled_from([1.0, 2.0, math.inf]), st.floats(0.1, 5)).map(jnp.asarray),
    mean=some.means,
    strength=some.strengths,
)
def test_no_bound_is_violated(
    reference: bt.Policy, n: Any, temperature: Any, order: Any, mean: Any, strength: Any
) -> None:
    table = bounds.table(
        reference,
        n=n,
        temperature=temperature,
        order=order,
        mean_extra_draws=mean,
        strength=strength,
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
SWEEP = bounds_sweep.Config((SOUND, FALSE), num_problems=20_000, batch_size=2000)


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
        bounds_sweep.run(bounds_sweep.Config(), jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("num_outcomes", [2, 3, 5, 8])
def test_no_bound_is_violated_by_many_problems(num_outcomes: int) -> None:
    config = bounds_sweep.Config(num_outcomes=num_outcomes)
    assert bounds_sweep.run(config, jax.random.key(num_outcomes)).violated == ()


# --- they are tight ---------------------------------------------------------------------

TIE_FREE = [
    name
    for name, inequality in bounds.REGISTRY.items()
    if inequality.quantity.selection in ("best_of_n", "best_of_poisson", "win_rate_optimal")
    and "reward" not in name
    and name not in ("best_of_n_kl_from_top_level", "best_of_n_penalised_win_rate")
]


def test_without_ties_the_rank_bounds_are_equalities() -> None:
    table = bounds.table(
        bt.Policy.uniform_reward(), n=7.5, order=1.7, mean_extra_draws=3, strength=4
    )
    assert len(TIE_FREE) == 21
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


# --- the registry, the table, and their arguments ---------------------------------------


def test_the_registry_lists_every_function_of_the_package() -> None:
    offered = {name for name in bounds.__all__ if inspect.isfunction(getattr(bounds, name))}
    assert offered - {"table"} == set(bounds.REGISTRY)


@inequalities
def test_a_function_says_what_its_entry_says(name: str) -> None:
    bound, entry = FUNCTIONS[name](**arguments(name, EXAMPLE, PARAMETERS)), bounds.REGISTRY[name]
    assert (bound.side, bound.quantity, bound.source) == (
        entry.side,
        entry.quantity.name,
        entry.source,
    )
    assert inspect.signature(FUNCTIONS[name]).return_annotation is bounds.Bound
    assert (inspect.getdoc(FUNCTIONS[name]) or "").endswith(f"\n\n{entry.source}.")


def test_a_conjecture_is_marked_as_such() -> None:
    """None is left: what [B] conjectured, and that KL decreases in the temperature, is proved."""
    assert {entry.status for entry in bounds.REGISTRY.values()} == {"theorem"}
    table = bounds.table(EXAMPLE, n=4.0, order=2.0)
    [row, *_] = table.rows
    open_question = dataclasses.replace(row.bound, status="conjecture")
    text = str(bounds.Table((dataclasses.replace(row, bound=open_question), *table.rows)))
    assert [line.endswith("(?)") for line in text.splitlines()[:3]] == [False, True, False]


def test_a_problem_is_bounded_where_its_parameters_decide() -> None:
    def selections(reference: bt.Policy, **parameters: float) -> set[str]:
        problem = bounds.Problem.of(reference, **parameters)
        entries = bounds.REGISTRY.values()
        return {entry.quantity.selection for entry in entries if entry.applies_to(problem)}

    assert selections(EXAMPLE, n=4.0) == {"best_of_n"}
    assert selections(EXAMPLE, temperature=0.5) == {"exponential_tilt"}
    soft = {"best_of_n", "exponential_tilt", "soft_best_of_n"}
    assert selections(EXAMPLE, n=4.0, temperature=0.5) == {*soft, "exponential_race"}
    assert selections(bt.Policy.uniform_reward(), n=4.0, temperature=0.5) == soft
    names = {row.name for row in bounds.table(EXAMPLE, n=4.0, order=2.0).rows}
    assert names == {
        name
        for name, entry in bounds.REGISTRY.items()
        if entry.quantity.selection == "best_of_n" and set(entry.parameters) <= {"n", "order"}
    }


def test_a_table_is_set_in_columns() -> None:
    lines = str(bounds.table(EXAMPLE, n=4.0, order=2.0)).splitlines()
    start = lines[0].index("function")
    assert all(line[start - 1] == " " and line[start:].startswith("best") for line in lines[1:])
    assert "≥" in lines[6]


def test_a_batch_shows_its_tightest_element() -> None:
    [line] = [x for x in str(bounds.table(EXAMPLE, n=[4.0, 1.0])).splitlines() if "reverse" in x]
    assert line.split()[3:7] == ["0", "≤", "0", "0"]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("best_of_n_kl", {"n": 0.5}),
        ("best_of_n_kl", {"n": math.inf}),
        ("best_of_n_renyi", {"order": -1.0}),
        ("best_of_poisson_kl", {"mean_extra_draws": -0.1}),
        ("win_rate_optimal_kl", {"strength": 0.0}),
        ("soft_best_of_n_kl_to_tilt", {"temperature": 0.0}),
        ("soft_best_of_n_kl_to_tilt", {"temperature": math.inf}),
        ("soft_best_of_n_kl_to_tilt", {"temperature": math.nan}),
    ],
)
def test_a_parameter_out_of_range_is_named(name: str, parameters: dict[str, float]) -> None:
    [argument] = parameters
    with pytest.raises(ValueError, match=f"^{argument} must be a .*, got"):
        value(name, **parameters)
    with pytest.raises(ValueError, match=f"^{argument} must be a .*, got"):
        bounds.table(EXAMPLE, **parameters)
    assert jnp.isnan(jax.jit(lambda x: value(name, EXAMPLE, **{argument: x}))(parameters[argument]))


def test_a_table_without_parameters_and_a_quantity_without_reference_say_what_is_missing() -> None:
    with pytest.raises(ValueError, match="no parameter is given"):
        bounds.table(EXAMPLE)
    with pytest.raises(ValueError, match="reference must be a Policy"):
        bounds.REGISTRY["best_of_n_kl"].quantity.exact(bounds.Problem.of(n=2.0))


# --- transformations --------------------------------------------------------------------


def test_the_value_is_the_only_leaf() -> None:
    bound = bounds.best_of_n_kl(n=8.0)
    assert jax.tree.leaves(bound) == [bound.value]
    assert dataclasses.replace(bound, value=jnp.zeros(())) == jax.tree.map(jnp.zeros_like, bound)


# Those that ask for a race among candidates differentiate it, which is the core's business.
RACES = {
    "soft_best_of_n_kl_from_tilt",
    "soft_best_of_n_kl_below_cooler",
    "exponential_race_kl_to_tilt",
    "exponential_race_kl_from_tilt",
}
POINT = dict[str, Any]


@jax.jit
def all_values(point: POINT) -> dict[str, jax.Array]:
    """Every bound but those of ``RACES``, from logits, rewards and parameters."""
    reference = bt.Policy.from_logits(point["logits"], point["rewards"])
    problem = bounds.Problem.of(reference, **{name: point[name] for name in PARAMETERS})
    entries = {name: entry for name, entry in bounds.REGISTRY.items() if name not in RACES}
    return {name: entry.bound(problem).value for name, entry in entries.items()}


def point_of(reference: bt.Policy, **parameters: Any) -> POINT:
    point = {"logits": reference.log_probs, "rewards": reference.rewards, **PARAMETERS}
    return jax.tree.map(jnp.asarray, {**point, **parameters})


def test_references_and_parameters_broadcast() -> None:
    """References [2, 1] against parameters [3]."""
    batch = {
        name: jnp.broadcast_to(leaf, (2, 1, 5)) if leaf.ndim else jnp.full(3, leaf)
        for name, leaf in point_of(EXAMPLE).items()
    }
    for name, bound in jax.eval_shape(all_values, batch).items():
        names = inspect.signature(FUNCTIONS[name]).parameters
        shape = (2 if "reference" in names else 1, 3 if set(names) - {"reference"} else 1)
        assert bound.shape == shape, name


@pytest.mark.parametrize("name", ["soft_best_of_n_reward_floor", "best_of_n_kl_from_top_atom"])
def test_a_batch_is_the_same_as_one_at_a_time(name: str) -> None:
    n, function = jnp.asarray([1.0, 2.5, 16.0]), jax.jit(lambda *a: value(name, a[0], n=a[1]))
    both = jax.tree.map(lambda a, b: jnp.stack([a, b])[:, None], EXAMPLE, TIED)
    one_at_a_time = [[function(reference, number) for number in n] for reference in (EXAMPLE, TIED)]
    np.testing.assert_allclose(function(both, n), np.array(one_at_a_time), rtol=1e-13)
    mapped = jax.vmap(function, (None, 0))(EXAMPLE, n)
    np.testing.assert_allclose(mapped, np.array(one_at_a_time[0]), rtol=1e-13)


slopes: Any = jax.jit(lambda point, direction: jax.jvp(all_values, (point,), (direction,))[1])
total_gradient: Any = jax.jit(jax.grad(lambda point: sum(all_values(point).values())))


@pytest.mark.parametrize("reference", [EXAMPLE, TIED], ids=["example", "tied"])
def test_gradients_are_right_at_ties_and_impossible_outcomes(reference: bt.Policy) -> None:
    """Forward mode against central differences, and reverse against forward; ties are kept."""
    point = point_of(reference)
    levels = np.unique(np.asarray(reference.rewards), return_inverse=True)[1]
    direction = {name: jnp.asarray(0.1 + 0.05 * i) for i, name in enumerate(PARAMETERS)}
    direction |= {"logits": jnp.asarray([0.3, -0.2, 0.0, 0.5, 0.1])}
    direction |= {"rewards": jnp.asarray([0.2, -0.1, 0.4, 0.3])[levels]}
    ahead, behind = (
        all_values(jax.tree.map(lambda x, d, s=sign: x + s * 1e-5 * d, point, direction))
        for sign in (1, -1)
    )
    forward = slopes(point, direction)
    for name, slope in forward.items():
        difference = float(ahead[name] - behind[name]) / 2e-5
        assert float(slope) == pytest.approx(difference, rel=1e-6, abs=1e-8), name
    reverse = total_gradient(point)
    total = sum(float(jnp.sum(reverse[name] * direction[name])) for name in point)
    assert total == pytest.approx(float(sum(forward.values())), rel=1e-12)
    assert all(np.all(np.isfinite(leaf)) for leaf in reverse.values())


@pytest.mark.parametrize(("name", "slope"), [("kl", 0.0), ("total_variation", math.exp(-1))])
def test_one_candidate_has_a_slope(name: str, slope: float) -> None:
    # TV = (1 - 1/n) n^{-1/(n-1)} leaves n = 1 with slope 1/e.
    function = FUNCTIONS[f"best_of_n_{name}"]
    assert float(jax.grad(lambda n: function(n).value)(1.0)) == pytest.approx(slope)


def test_single_precision_stays_single() -> None:
    narrow = jax.tree.map(lambda x: x.astype(jnp.float32), point_of(EXAMPLE))
    for name, bound in jax.eval_shape(all_values, narrow).items():
        assert bound.dtype == jnp.float32, name


@pytest.mark.parametrize("name", TIE_FREE[-4:])
@pytest.mark.parametrize("parameter", [1e-3, 0.3, 5.0, 200.0])
def test_single_precision_is_accurate(name: str, parameter: float) -> None:
    function = jax.jit(FUNCTIONS[name])
    narrow, wide = (function(jnp.asarray(parameter, t)).value for t in ("float32", "float64"))
    assert narrow.dtype == jnp.float32
    assert float(narrow) == pytest.approx(float(wide), rel=3e-5)
