"""Log-space primitives and the lattice rules against multiprecision arithmetic.

Tolerances are a few units of 2.2e-16, relative to the larger of one and the value.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest

from bon_theory import _numerics as numerics
from bon_theory import _quadrature as quadrature
from bon_theory import distortion

INF = math.inf
SMALL_TO_LARGE = [
    1e-300,
    1e-100,
    1e-17,
    1e-9,
    1e-3,
    0.0099,
    0.0101,
    0.5,
    0.69,
    0.7,
    1.0,
    30.0,
    700.0,
]


def exact(function: Callable[..., Any], *arguments: float) -> float:
    """One value in 400 digits, enough for 1 - e^{-1e-300}."""
    with mp.workdps(400):
        return float(function(*map(mp.mpf, arguments)))


# --- primitives -------------------------------------------------------------------------


@pytest.mark.parametrize("x", [-x for x in SMALL_TO_LARGE])
def test_log1mexp_keeps_both_tails(x: float) -> None:
    expected = exact(lambda x: mp.log1p(-mp.exp(x)), x)
    assert float(numerics.log1mexp(jnp.asarray(x))) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("x", [sign * x for x in SMALL_TO_LARGE for sign in (-1, 1)])
def test_log_expm1_quotient_is_accurate_and_smooth(x: float) -> None:
    expected = exact(lambda x: mp.log(-mp.expm1(-x) / x), x)
    slope = exact(lambda x: 1 / mp.expm1(x) - 1 / x, x)
    computed: Any = jax.value_and_grad(numerics.log_expm1_quotient)(jnp.asarray(x))
    assert float(computed[0]) == pytest.approx(expected, rel=2e-13)
    assert float(computed[1]) == pytest.approx(slope, rel=1e-11)


@pytest.mark.parametrize(
    "x", [sign * x for x in SMALL_TO_LARGE for sign in (-1, 1) if sign * x > -1]
)
def test_log1p_quotient_is_accurate(x: float) -> None:
    expected = exact(lambda x: mp.log1p(x) / x, x)
    assert float(numerics.log1p_quotient(jnp.asarray(x))) == pytest.approx(expected, rel=4e-15)


@pytest.mark.parametrize("gap", SMALL_TO_LARGE)
@pytest.mark.parametrize("a", [-800.0, 0.0, 5.0])
def test_log_diff_exp_does_not_cancel(a: float, gap: float) -> None:
    b = a - gap
    if a == b:
        assert float(numerics.log_diff_exp(jnp.asarray(a), jnp.asarray(b))) == -INF
    else:
        expected = exact(lambda a, b: a + mp.log1p(-mp.exp(b - a)), a, b)
        computed = float(numerics.log_diff_exp(jnp.asarray(a), jnp.asarray(b)))
        assert computed == pytest.approx(expected, rel=1e-15)


# Pairs (log a, log b): apart, close, tiny, next to one, and empty below.
INTERVALS = [(-2.0, -1.0), (-1.0 - 1e-12, -1.0), (-460.0, -450.0), (-1e-12, -1e-13), (-30.0, 0.0)]


@pytest.mark.parametrize("n", [1.0, 1.5, 2.0, 64.0, 1e6])
@pytest.mark.parametrize("interval", INTERVALS)
def test_log_mean_power_is_the_mean_of_the_derivative(n: float, interval: Any) -> None:
    def ratio(n: Any, log_a: Any, log_b: Any) -> Any:
        a, b = mp.exp(log_a), mp.exp(log_b)
        return mp.log((b**n - a**n) / (b - a))

    expected = exact(ratio, n, *interval)
    computed = numerics.log_mean_power(jnp.asarray(n), *map(jnp.asarray, interval))
    assert float(computed) == pytest.approx(expected, rel=4e-15, abs=4e-15)


@pytest.mark.parametrize("n", [1.0, 1.5, 64.0])
def test_log_mean_power_takes_its_limits(n: float) -> None:
    def value(log_a: float, log_b: float) -> float:
        return float(numerics.log_mean_power(*map(jnp.asarray, (n, log_a, log_b))))

    assert value(-0.5, -0.5) == pytest.approx(math.log(n) - 0.5 * (n - 1), abs=1e-14)
    assert value(-INF, -0.5) == pytest.approx(-0.5 * (n - 1), abs=1e-14)
    assert value(-INF, -INF) == (0 if n == 1 else -INF)


HAZARDS: dict[str, tuple[Callable[..., jax.Array], tuple[float, ...]]] = {
    "log 0": (numerics.safe_log, (0.0,)),
    "log(1 - 1)": (numerics.log1mexp, (0.0,)),
    "log(1 - 0)": (numerics.log1mexp, (-INF,)),
    "log(e^a - e^a)": (numerics.log_diff_exp, (-1.0, -1.0)),
    "log(e^a - 0)": (numerics.log_diff_exp, (-1.0, -INF)),
    "log(0 - 0)": (numerics.log_diff_exp, (-INF, -INF)),
    "(1 - e^0)/0": (numerics.log_expm1_quotient, (0.0,)),
    "log(1)/0": (numerics.log1p_quotient, (0.0,)),
    "0^0": (numerics.log_mean_power, (1.0, -INF, -INF)),
    "0^n": (numerics.log_mean_power, (3.0, -INF, -INF)),
    "b^n": (numerics.log_mean_power, (3.0, -INF, -0.5)),
    "0 interval": (numerics.log_mean_power, (3.0, -0.5, -0.5)),
}


@pytest.mark.parametrize("name", HAZARDS)
def test_hazards_have_values_and_finite_derivatives(name: str) -> None:
    function, arguments = HAZARDS[name]
    points = tuple(map(jnp.asarray, arguments))
    assert not math.isnan(function(*points))
    for mode in (jax.jacfwd, jax.jacrev):
        slopes = np.asarray(mode(function, argnums=tuple(range(len(points))))(*points))
        assert np.isfinite(slopes).all()


def test_logarithms_of_negative_numbers_stay_nan() -> None:
    assert math.isnan(numerics.safe_log(jnp.asarray(-1.0)))
    assert math.isnan(numerics.safe_log(jnp.asarray(math.nan)))
    assert math.isnan(numerics.log1mexp(jnp.asarray(0.5)))


@pytest.mark.parametrize("size", [1, 5, 16, 17, 300])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_running_log_sum_is_the_loop(size: int, reverse: bool) -> None:
    x = np.random.default_rng(size).normal(scale=30.0, size=(2, size))
    x[0, : size // 2] = -INF
    expected = np.logaddexp.accumulate(x[:, ::-1], axis=1)[:, ::-1] if reverse else None
    expected = np.logaddexp.accumulate(x, axis=1) if expected is None else expected

    def sums(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        running = numerics.cumulative_log_sum(x, reverse=reverse)
        return jnp.sum(running[1:]), running

    slopes, computed = jax.jit(jax.grad(sums, has_aux=True))(jnp.asarray(x))
    np.testing.assert_allclose(computed, expected, rtol=1e-14, atol=1e-14)
    assert np.isfinite(np.asarray(slopes)).all()


@pytest.mark.parametrize("size", [1, 64, 65, 5000])
def test_running_sums_of_whole_numbers_are_exact_at_any_size(size: int) -> None:
    x = np.random.default_rng(size).integers(0, 2**20, (2, size)).astype(float)
    np.testing.assert_array_equal(numerics.cumulative_sum(jnp.asarray(x)), np.cumsum(x, axis=1))


@pytest.mark.parametrize("x", [-0.3, -0.2, -0.1999, -1e-5, 0.0, 1e-9, 0.1, 0.1999, 0.2, 0.3])
def test_a_divergence_term_has_the_derivatives_of_its_formula(x: float) -> None:
    """Of x e^x - e^x + 1 with P = Q e^x: x e^x and (1 + x) e^x."""

    def term(x: jax.Array) -> jax.Array:
        return numerics.kl_term(x, jnp.exp(x), jnp.ones_like(x))

    once, at = jax.grad(term), jnp.asarray(x)
    with mp.workdps(40):
        exact = mp.mpf(x) * mp.exp(x) - mp.exp(x) + 1
    np.testing.assert_allclose(term(at), float(exact), rtol=1e-13)
    np.testing.assert_allclose(once(at), x * math.exp(x), rtol=1e-13)
    np.testing.assert_allclose(jax.grad(once)(at), (1 + x) * math.exp(x), rtol=1e-13)


def test_a_linear_map_uses_the_transpose_it_is_given() -> None:
    matrix = jnp.asarray([[1.0, 2.0], [3.0, 4.0]])

    def apply(x: jax.Array) -> jax.Array:
        return numerics.linear_map(lambda v: matrix @ v, lambda v: matrix.T @ v, x)

    np.testing.assert_array_equal(jax.jacfwd(apply)(jnp.zeros(2)), matrix)
    np.testing.assert_array_equal(jax.jacrev(apply)(jnp.zeros(2)), matrix)


# --- distortions: increasing maps of the unit interval onto itself ----------------------

DISTORTIONS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "best of 2.5": (distortion.BestOfN(jnp.asarray(2.5)), lambda u: u ** mp.mpf("2.5")),
    "worst of 2.5": (
        distortion.WorstOfN(jnp.asarray(2.5)),
        lambda u: 1 - (1 - u) ** mp.mpf("2.5"),
    ),
    "best of Poisson": (
        distortion.BestOfPoisson(jnp.asarray(3.0)),
        lambda u: u * mp.exp(3 * (u - 1)),
    ),
    "optimal": (
        distortion.WinRateOptimal(jnp.asarray(4.0)),
        lambda u: mp.expm1(4 * u) / mp.expm1(4),
    ),
    "top": (distortion.TopFraction(jnp.asarray(0.25)), lambda u: max(0, 1 - (1 - u) * 4)),
}
RANKS = [1e-200, 1e-9, 0.3, 0.7500001, 0.8, 1 - 2.0**-40]


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_distortion_is_its_formula(name: str) -> None:
    bend, formula = DISTORTIONS[name]
    assert float(bend.log_cdf(jnp.asarray(0.0))) == 0
    assert float(bend.log_cdf(jnp.asarray(-INF))) == -INF
    for rank in RANKS:
        expected = exact(lambda u: mp.log(formula(u)) if formula(u) else mp.ninf, rank)
        computed = float(bend.log_cdf(jnp.log(rank)))
        # A rank near one is rounded as log u: by 1e-16 of it, which is what 2e-15 allows. The top
        # fraction is H = 4e-7 there, less accurate by the quotient.
        near_threshold = 3e-16 / 4e-7 if name == "top" and rank == 0.7500001 else 0
        assert computed == pytest.approx(expected, rel=2e-13, abs=2e-15 + near_threshold)


def test_a_rank_at_the_threshold_keeps_nothing_but_rounding() -> None:
    kept = distortion.TopFraction(jnp.asarray(0.25)).log_cdf(jnp.log(0.75))
    assert float(jnp.exp(kept)) == pytest.approx(0, abs=5e-16)


@pytest.mark.parametrize("name", DISTORTIONS)
def test_a_distortion_shares_mass_by_its_increments(name: str) -> None:
    bend, formula = DISTORTIONS[name]
    for low, high in [(0.0, 1e-9), (1e-9, 0.3), (0.3, 0.8), (0.75, 0.75 + 2.0**-30), (0.5, 1.0)]:
        expected = exact(lambda a, b: (formula(b) - formula(a)) / (b - a), low, high)
        ratio = bend.log_ratio(jnp.log(jnp.asarray(low)), jnp.log(jnp.asarray(high)))
        # The width b - a is rounded by 1e-16/(b - a).
        tolerance = 1e-13 + 3e-16 / (high - low)
        assert float(jnp.exp(ratio)) == pytest.approx(expected, rel=tolerance, abs=1e-12)


# --- the lattice in log-odds ------------------------------------------------------------


@pytest.mark.parametrize("breaks", [(), (0.3,), (0.3, 0.999)])
def test_lattice_weights_integrate_smooth_functions(breaks: tuple[float, ...]) -> None:
    log_u, complement, log_weights = quadrature.log_odds_nodes(1281, breaks)
    weights = np.exp(log_weights)
    np.testing.assert_allclose(np.exp(log_u) + complement, 1, atol=4e-16)
    assert np.all(np.diff(log_u) >= 0)
    for power in (0.0, 1.0, 7.5, -0.5):
        assert weights @ np.exp(power * log_u) == pytest.approx(1 / (power + 1), rel=1e-13)
        assert weights @ complement**power == pytest.approx(1 / (power + 1), rel=1e-13)


def test_running_sums_are_the_integral_up_to_each_node() -> None:
    log_u, _, log_weights = quadrature.log_odds_nodes(1281)
    density = 3 * np.exp(2 * log_u + log_weights)
    running = quadrature.running_sum(jnp.asarray(density))
    np.testing.assert_allclose(running, np.exp(3 * log_u), atol=2e-15)


def test_the_absolute_sum_sees_kinks_between_nodes() -> None:
    # D = u³ - u falls to -2/√27 at u = 1/√3, between nodes, and rises to 0 again.
    log_u, _, log_weights = quadrature.log_odds_nodes(1281)
    u, weights = np.exp(log_u), np.exp(log_weights)
    total = quadrature.absolute_sum(jnp.asarray(u**3 - u), jnp.asarray((3 * u**2 - 1) * weights))
    assert float(total) == pytest.approx(4 / (3 * math.sqrt(3)), abs=1e-13)
    assert abs(weights @ np.abs(3 * u**2 - 1) - float(total)) > 1e-6
