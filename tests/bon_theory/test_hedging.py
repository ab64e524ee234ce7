"""Hedging against a true reward: the toy, stationarity, batches, samples, refusals."""

import math
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from tests.oracles import hedging
from tests.oracles.soft_continuous import SoftBestOfN

C = (12 / 13) ** 12 / 13


def toy(u: Any) -> Any:
    """[K]'s true reward, with its maximum, 1, at the rank 12/13."""
    return u**12 * (1 - u) / C


@cache
def problem(num_nodes: int = 1281) -> tuple[bt.Policy, jax.Array]:
    uniform = bt.Policy.uniform_reward(num_nodes=num_nodes)
    return uniform, toy(jnp.exp(uniform.log_cdf))


# --- the toy ---------------------------------------------------------------------------


def test_best_of_n_is_hedged_where_its_polynomial_is_stationary():
    found = bt.hedge_n(*problem())
    # E r* = n/((n + 12)(n + 13) C), which is stationary where n² = 156.
    assert float(found.parameter) == pytest.approx(math.sqrt(156), rel=1e-12)
    n = math.sqrt(156)
    assert float(found.true_reward) == pytest.approx(n / ((n + 12) * (n + 13) * C), rel=1e-12)
    assert abs(float(found.slope)) < 1e-13


STATIONARITY: dict[str, tuple[Any, Any, Any]] = {
    # The density ratio, ψ, and the bracket of the parameter.
    "n": (lambda u, n: n * u ** (n - 1), lambda u, n, _: 1 / n + np.log(u), (2.0, 100.0)),
    "mean": (
        lambda u, mu: (mu * u + 1) * np.exp(mu * (u - 1)),
        lambda u, mu, _: u - 1 + u / (mu * u + 1),
        (2.0, 100.0),
    ),
    "tilt": (
        lambda u, c: c * np.exp(c * (u - 1)) / -np.expm1(-c),
        lambda u, c, mean: u - mean,
        (2.0, 100.0),
    ),
}


@pytest.mark.parametrize("family", STATIONARITY)
def test_the_optimum_solves_the_stationarity_condition(family: str):
    density, psi, bracket = STATIONARITY[family]

    def condition(theta: float) -> float:
        mean = hedging.integral(lambda u: u * density(u, theta))
        return hedging.integral(
            lambda u: toy(u) * density(u, theta) * psi(u, theta, mean) if u > 0 else 0.0
        )

    theta = hedging.stationary(condition, *bracket)
    value = hedging.integral(lambda u: toy(u) * density(u, theta))
    found = {
        "n": lambda: bt.hedge_n(*problem()),
        "mean": lambda: bt.hedge_mean_extra_draws(*problem()),
        "tilt": lambda: bt.hedge_temperature(*problem(), n=math.inf),
    }[family]()
    parameter = float(found.parameter)
    assert (1 / parameter if family == "tilt" else parameter) == pytest.approx(theta, rel=1e-9)
    assert float(found.true_reward) == pytest.approx(value, rel=1e-12)


@pytest.mark.slow
def test_soft_best_of_16_earns_what_the_multiprecision_law_says():
    found = bt.hedge_temperature(*problem(2561), n=16)
    temperature = float(found.parameter)
    law = SoftBestOfN("uniform", 16, temperature)
    assert float(found.true_reward) == pytest.approx(
        float(law.functional(lambda x, h: h * toy(x))), rel=1e-12
    )
    assert temperature == pytest.approx(0.03828, abs=5e-6)
    assert float(found.true_reward) == pytest.approx(0.70004147, abs=5e-9)
    assert abs(float(found.slope)) < 1e-14


@pytest.mark.parametrize("max_n", [14.0, 20.0, 37.0, 100.0, 1e4])
def test_the_optimum_is_found_from_either_side_of_it(max_n: float):
    """Grids whose best point lies below the optimum, and above it."""
    found = bt.hedge_n(*problem(), max_n=max_n)
    assert float(found.parameter) == pytest.approx(math.sqrt(156), rel=1e-12)


def test_a_true_reward_that_only_rises_or_falls_is_answered_by_an_end():
    uniform, _ = problem()
    u = jnp.exp(uniform.log_cdf)
    assert float(bt.hedge_n(uniform, u, max_n=50.0).parameter) == 50
    assert float(bt.hedge_n(uniform, -u).parameter) == 1.0
    assert float(bt.hedge_mean_extra_draws(uniform, -u).parameter) == 0.0
    pool = bt.Policy.from_samples([0.0, 0.3, 1.0])
    rising = jnp.array([0.0, 0.5, 2.0])
    assert float(bt.hedge_temperature(pool, rising, n=4).parameter) == 0.0
    assert float(bt.hedge_temperature(pool, -rising, n=4).parameter) == math.inf


SEVERAL: dict[str, tuple[Any, Any, float]] = {
    "rare outcomes": (
        (0.997983388, 2.01661193e-3, 2.54938928e-10, 1.36226495e-10, 2.77674134e-11),
        (-0.23379314, 0.43310736, -1.24304401, 0.92657384, 0.08118335),
        1e12,
    ),
    "an end nearly as high": (
        (0.64448, 0.21518, 0.09202, 0.04572, 0.00260),
        (-0.18080, 0.44781, 0.41502, -0.33868, 0.24225),
        1024.0,
    ),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_of_several_maxima_the_highest_is_found(name: str):
    probs, true, max_n = SEVERAL[name]
    p = np.array(probs) / np.sum(probs)
    found = bt.hedge_n(bt.Policy.from_probs(p, np.arange(5.0)), jnp.array(true), max_n=max_n)
    n = np.geomspace(1, max_n, 20001)[:, None]
    below = np.log1p(-np.cumsum(p[::-1])[:-1])[::-1]  # log F, accurate near 1
    cdf = np.exp(n * np.concatenate([below, [0.0]]))
    scan = np.diff(cdf, axis=1, prepend=0.0) @ np.array(true)
    assert float(found.parameter) == pytest.approx(n[np.argmax(scan), 0], rel=2e-3)
    assert float(found.true_reward) == pytest.approx(np.max(scan), abs=1e-6)
    assert float(found.true_reward) >= np.max(scan) - 1e-14


RARE = ((0.998, 0.001, 0.001), (0.0, 0.6, 1.0))


@pytest.mark.parametrize(
    ("true", "bracket"),
    [
        ((0.0, 1.0, -0.2), (0.1, 1.0)),  # where e^{r/λ} makes up for the rarity
        ((0.0, 1.0, -0.599), (1.0, 1e3)),  # hardly selected at all
    ],
)
@pytest.mark.parametrize("n", [math.inf, 1e5])
def test_a_best_temperature_is_found_far_from_the_spread_of_the_proxy(
    true: Any, bracket: Any, n: float
):
    def slope(temperature: float) -> float:
        """The covariance of both rewards under the tilt, from which best-of-10^5 is 1e-3 off."""
        tilt = np.array(RARE[0]) * np.exp(np.array(RARE[1]) / temperature)
        tilt, true_ = tilt / tilt.sum(), np.array(true)
        return float(tilt @ (true_ * RARE[1]) - (tilt @ true_) * (tilt @ RARE[1]))

    best = hedging.stationary(slope, *bracket)
    found = bt.hedge_temperature(bt.Policy.from_probs(*RARE), jnp.array(true), n=n)
    assert float(found.parameter) == pytest.approx(best, rel=1e-9 if n == math.inf else 2e-2)
    assert abs(float(found.slope)) < 1e-14


def test_the_slope_at_infinite_temperature_is_that_in_its_inverse():
    pool = bt.Policy.from_samples([0.0, 0.3, 1.0])
    found = bt.hedge_temperature(pool, jnp.array([0.0, -0.5, -2.0]), n=math.inf)
    assert float(found.parameter) == math.inf
    # The covariance -0.42... under the reference, times d(1/λ)/dx = 1/(10 R).
    covariance = np.mean([0.0, -0.15, -2.0]) - np.mean([0.0, 0.3, 1.0]) * np.mean([0.0, -0.5, -2.0])
    assert float(found.slope) == pytest.approx(covariance / 10, rel=1e-12)


@pytest.mark.parametrize("value", [0.0, -3.0])
def test_of_equal_values_the_mildest_is_the_answer(value: float):
    reference = bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0])
    flat = jnp.full(3, value)
    assert float(bt.hedge_n(reference, flat).parameter) == 1
    assert float(bt.hedge_mean_extra_draws(reference, flat).parameter) == 0
    for n in (4, math.inf):
        assert float(bt.hedge_temperature(reference, flat, n=n).parameter) == math.inf
    # One draw is the reference at any temperature.
    found = bt.hedge_temperature(reference, jnp.array([0.0, 1.0, 2.0]), n=1)
    assert float(found.parameter) == math.inf


def test_the_end_of_a_range_is_exact():
    uniform, _ = problem()
    assert float(bt.hedge_n(uniform, jnp.exp(uniform.log_cdf)).parameter) == 1024.0
    found = bt.hedge_mean_extra_draws(uniform, jnp.exp(uniform.log_cdf), max_mean=1000.0)
    assert float(found.parameter) == 1000.0


def test_a_range_of_one_point_is_answered_by_it():
    reference = bt.Policy.from_probs(*RARE)
    assert float(bt.hedge_n(reference, [0.0, 1.0, 2.0], max_n=1).parameter) == 1
    assert float(bt.hedge_mean_extra_draws(reference, [0.0, 1.0, 2.0], max_mean=0).parameter) == 0


# --- the derivative in the temperature -------------------------------------------------

PROBS = (0.4, 0.3, 0.2, 0.1)
PROXY = np.array([0.0, 0.4, 1.0, 1.7])
TRUE = np.array([0.0, -0.6, 0.9, -0.6])


@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_the_derivative_is_the_mean_softmax_covariance_over_batches(n: int, temperature: float):
    reference = bt.Policy.from_probs(jnp.array(PROBS), jnp.asarray(PROXY))

    def value(inverse: jax.Array) -> jax.Array:
        return bt.expected_value(bt.soft_best_of_n(reference, float(n), 1 / inverse), TRUE)

    ours = float(jax.jit(jax.grad(value))(1 / temperature))
    arguments = (PROBS, PROXY, TRUE, n, temperature)
    assert ours == pytest.approx(hedging.softmax_covariance(*arguments), rel=1e-11, abs=1e-14)
    if n > 1:  # at n = 1 nothing depends on the temperature, but the marginal is not 0
        assert abs(hedging.marginal_covariance(*arguments) / ours - 1) > 0.1
    else:
        assert abs(ours) < 1e-14
        assert abs(hedging.marginal_covariance(*arguments)) > 1e-3


def test_the_oracle_differentiates_its_own_law():
    inverse, step = 2.0, 1e-5
    ahead, behind = (
        hedging.soft_value(PROBS, PROXY, TRUE, 3, 1 / x) for x in (inverse + step, inverse - step)
    )
    exact = hedging.softmax_covariance(PROBS, PROXY, TRUE, 3, 1 / inverse)
    assert (ahead - behind) / (2 * step) == pytest.approx(exact, rel=1e-8)


def test_a_marginal_covariance_would_choose_another_temperature():
    """The surrogate in circulation vanishes elsewhere, and what it chooses earns less."""
    reference = bt.Policy.from_probs(jnp.array(PROBS), jnp.asarray(PROXY))
    found = bt.hedge_temperature(reference, TRUE, n=4)

    def surrogate(temperature: float) -> float:
        return hedging.marginal_covariance(PROBS, PROXY, TRUE, 4, temperature)

    def derivative(temperature: float) -> float:
        return hedging.softmax_covariance(PROBS, PROXY, TRUE, 4, temperature)

    wrong = hedging.stationary(surrogate, 0.1, 10.0)
    right = hedging.stationary(derivative, 0.1, 10.0)
    assert float(found.parameter) == pytest.approx(right, rel=1e-9)
    assert wrong > 4 * right
    assert hedging.soft_value(PROBS, PROXY, TRUE, 4, wrong) < float(found.true_reward) - 0.05


# --- samples, batches, derivatives -----------------------------------------------------


def pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    true = rng.normal(size=(2, 60))
    return np.round(true + rng.standard_t(2, size=true.shape), 1), true  # rounded: ties


def test_paired_samples_are_hedged_as_a_scan_over_n_says():
    proxy, true = pairs()
    found = bt.hedge_n(bt.Policy.from_samples(proxy), true, max_n=256.0)
    for row in range(2):
        _, inverse = np.unique(proxy[row], return_inverse=True)
        cdf = np.cumsum(np.bincount(inverse)) / proxy.shape[1]
        mean = np.bincount(inverse, weights=true[row]) / np.bincount(inverse)

        def earned(n: float, cdf: np.ndarray = cdf, mean: np.ndarray = mean) -> float:
            return float(np.diff(cdf**n, prepend=0.0) @ mean)

        scan = np.geomspace(1, 256, 4001)
        best = scan[np.argmax([earned(n) for n in scan])]
        assert float(found.parameter[row]) == pytest.approx(best, rel=2e-3)
        assert float(found.true_reward[row]) == pytest.approx(earned(best), abs=1e-6)
        assert float(found.true_reward[row]) >= earned(best) - 1e-14


def test_the_value_is_differentiated_with_the_parameter_held():
    proxy, true = pairs()
    reference = bt.Policy.from_samples(jnp.asarray(proxy[0]))

    @jax.jit
    def value(values: jax.Array) -> jax.Array:
        return bt.hedge_temperature(reference, values, n=math.inf).true_reward

    at, direction = jnp.asarray(true[0]), jnp.asarray(true[1])
    _, forward = jax.jvp(value, (at,), (direction,))
    step = 1e-4
    ahead, behind = (float(value(at + s * direction)) for s in (step, -step))
    # A central difference of a maximum: step² times a third derivative.
    assert float(forward) == pytest.approx((ahead - behind) / (2 * step), rel=1e-5)
    assert float(jnp.sum(jax.grad(value)(at) * direction)) == pytest.approx(float(forward))


def test_a_placeholder_for_an_impossible_outcome_decides_nothing():
    """It would set the rounding below which an end of the range is preferred to a maximum."""
    reference = bt.Policy.from_probs([0.5, 0.3, 0.2, 0.0], rewards=[0.0, 0.5, 1.0, 2.0])
    for placeholder in (0.0, -1e30):
        found = bt.hedge_n(reference, [1.0, 2.0, 1.5, placeholder])
        # Of F^n at .5, .8, 1: the derivative of 1.5 - .5 (.5^n) ... vanishes where
        # (2 - 1) .5^n log .5 = (2 - 1.5) .8^n log .8.
        assert float(found.parameter) == pytest.approx(
            math.log(0.5 * math.log(0.8) / math.log(0.5)) / math.log(0.5 / 0.8)
        )


def test_some_numbers_of_candidates_may_be_infinite() -> None:
    """The tilt beside soft best-of-n: as each is alone."""
    reference = bt.Policy.from_probs([0.5, 0.3, 0.2], [0.0, 0.5, 1.0])
    values = [0.0, 1.0, 0.2]
    both = bt.hedge_temperature(reference, values, n=[16, math.inf])
    for i, n in enumerate([16, math.inf]):
        alone = bt.hedge_temperature(reference, values, n=n)
        assert float(both.parameter[i]) == pytest.approx(float(alone.parameter), rel=1e-8)
        assert float(both.true_reward[i]) == pytest.approx(float(alone.true_reward), rel=1e-13)


# --- refused ---------------------------------------------------------------------------

hedge_n: Any = bt.hedge_n

REFUSED: dict[str, tuple[Any, str]] = {
    "too few values": (lambda r: bt.hedge_n(r, [1.0, 2.0]), r"true_reward .* shape \(2,\)"),
    "NaN": (lambda r: bt.hedge_n(r, [1.0, math.nan, 0.0]), "true_reward must be finite"),
    "max_n": (lambda r: bt.hedge_n(r, [1.0, 2.0, 0.0], max_n=0.5), "max_n must be .* got 0.5"),
    "max_mean": (
        lambda r: bt.hedge_mean_extra_draws(r, [1.0, 2.0, 0.0], max_mean=-1.0),
        "max_mean must be .* got -1",
    ),
    "max_n, a word": (lambda r: hedge_n(r, [1.0, 2.0, 0.0], max_n="abc"), "max_n must be .*'abc'"),
    "no max_n": (lambda r: hedge_n(r, [1.0, 2.0, 0.0], max_n=None), "max_n must be .* got None"),
    "a traced max_n": (
        lambda r: jax.jit(lambda n: hedge_n(r, [1.0, 2.0, 0.0], max_n=n))(4.0),
        "max_n must be a number known before tracing",
    ),
    "n": (lambda r: bt.hedge_temperature(r, [1.0, 2.0, 0.0], n=0.0), "n must be"),
    "temperature": (
        lambda r: bt.hedge_n(r, [1.0, 2.0, 0.0], temperature=-0.1),
        "temperature must be",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(case: str):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call(bt.Policy.from_probs([0.5, 0.3, 0.2], rewards=[0.0, 0.5, 1.0]))


@pytest.mark.slow
def test_a_proxy_with_heavy_tails_is_hedged_as_a_discrete_law_of_many_outcomes():
    """Its extreme nodes lie far apart, and matter to nobody."""
    proxy = bt.noisy_proxy(bt.Policy.gaussian_reward(num_nodes=641), bt.Noise.student_t2(1.0))
    found = bt.hedge_temperature(*proxy, n=16)
    hard = bt.expected_value(bt.best_of_n(proxy.reference, 16), proxy.true_reward)
    assert float(found.parameter) == 0
    assert float(found.true_reward) == pytest.approx(float(hard), rel=1e-12)
    warm = bt.soft_best_of_n(proxy.reference, 16, 1.0)
    assert float(bt.expected_value(warm, proxy.true_reward)) == pytest.approx(0.558025, abs=5e-7)


@pytest.mark.slow
def test_the_colder_the_better_is_answered_by_best_of_n():
    """No nodes resolve all temperatures, but the order in them says that none is better."""
    uniform, _ = problem(2561)
    found = bt.hedge_temperature(uniform, jnp.exp(uniform.log_cdf), n=16)
    assert float(found.parameter) == 0
    assert float(found.true_reward) == pytest.approx(16 / 17, rel=1e-12)


def test_a_best_temperature_that_nodes_do_not_resolve_is_refused():
    uniform, _ = problem(2561)
    rank = jnp.exp(uniform.log_cdf)
    with pytest.raises(ValueError, match="reference has too few nodes for the temperature"):
        bt.hedge_temperature(uniform, jnp.exp(-(((rank - 0.99) / 0.005) ** 2)), n=1000)
