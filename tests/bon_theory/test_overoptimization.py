"""Joint laws of proxy and true reward: against closed forms and plain double sums."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import bon_theory as bt
from tests.oracles import hedging

NOISES: dict[str, tuple[Any, Any]] = {
    "gaussian": (bt.Noise.gaussian, scipy.stats.norm),
    "logistic": (bt.Noise.logistic, scipy.stats.logistic),
    "student_t2": (bt.Noise.student_t2, lambda scale: scipy.stats.t(2, scale=scale)),
}


@functools.cache
def gaussian() -> bt.Policy:
    """Of half the usual nodes: a proxy takes a sixth of the time and is right to rounding."""
    return bt.Policy.gaussian_reward(num_nodes=641)


def earned(proxy: bt.NoisyProxy, n: Any) -> np.ndarray:
    numbers = jnp.atleast_1d(jnp.asarray(n, float))
    return np.asarray(bt.expected_value(bt.best_of_n(proxy.reference, numbers), proxy.true_reward))


@pytest.mark.parametrize("name", NOISES)
@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_noise_has_the_density_and_survival_of_scipy(name: str, scale: float):
    ours, theirs = NOISES[name]
    law = theirs(scale=scale)
    e = np.array([-50.0, -3.0, -0.1, 0.0, 0.7, 4.0, 30.0])
    np.testing.assert_allclose(ours(scale).log_density(jnp.asarray(e)), law.logpdf(e), rtol=1e-12)
    # scipy's own survival function of Student's t is good to 1e-11 or so.
    np.testing.assert_allclose(
        ours(scale).log_survival(jnp.asarray(e)), law.logsf(e), rtol=1e-10, atol=1e-15
    )


@pytest.mark.parametrize("scale", [pytest.param(0.5, marks=pytest.mark.slow), 2.0])
def test_gaussian_noise_shrinks_by_its_share_of_the_variance(scale: float):
    proxy = bt.noisy_proxy(gaussian(), bt.Noise.gaussian(scale))
    n = [2.0, 100.0, 1e6, 1e12]
    best = bt.expected_reward(bt.best_of_n(gaussian(), jnp.array(n)))
    np.testing.assert_allclose(earned(proxy, n), best / math.sqrt(1 + scale**2), rtol=1e-12)


@pytest.mark.parametrize("name", NOISES)
def test_best_of_n_earns_what_a_double_sum_says(name: str):
    ours, theirs = NOISES[name]
    proxy = bt.noisy_proxy(gaussian(), ours(0.8))
    for n in (1.5, 8.0, 200.0):
        expected = hedging.noisy_best_of_n(n, theirs(scale=0.8))
        # The grid ends where the proxy is 6e5: tails of 1e-12, and as many significant digits.
        assert earned(proxy, n)[0] == pytest.approx(expected, rel=1e-9)


def test_tails_of_the_noise_decide_what_becomes_of_the_true_reward():
    n = np.geomspace(1, 1e12, 25)
    light, exponential, heavy = (
        earned(bt.noisy_proxy(gaussian(), noise), n)
        for noise in (bt.Noise.gaussian(1.0), bt.Noise.logistic(0.5), bt.Noise.student_t2(1.0))
    )
    assert np.all(np.diff(light) > 0)
    assert light[-1] > 4
    assert np.all(np.diff(exponential) > 0)
    assert exponential[-1] == pytest.approx(2.0, abs=1e-3)  # 1/scale
    top = np.argmax(heavy)
    assert 0 < top < 10
    assert np.all(np.diff(heavy[top:]) < 0)
    assert heavy[-1] < 1e-5


def test_a_binary_true_reward_is_the_posterior_probability():
    proxy = bt.noisy_proxy(bt.Policy.from_probs([0.7, 0.3], [0.0, 1.0]), bt.Noise.logistic(0.4))
    p = np.asarray(proxy.reference.rewards)
    high, low = (np.exp(scipy.stats.logistic.logpdf(p - t, scale=0.4)) for t in (1, 0))
    middle = np.abs(p) < 20
    posterior = 0.3 * high[middle] / (0.3 * high[middle] + 0.7 * low[middle])
    np.testing.assert_allclose(np.asarray(proxy.true_reward)[middle], posterior, rtol=1e-11)
    assert earned(proxy, 1.0)[0] == pytest.approx(0.3, rel=1e-12)
    cdf = 0.3 * scipy.stats.logistic.cdf(p - 1, scale=0.4) + 0.7 * scipy.stats.logistic.cdf(
        p, scale=0.4
    )
    np.testing.assert_allclose(np.exp(proxy.reference.log_cdf), cdf, rtol=1e-10)


def test_a_hedge_of_a_noisy_proxy_is_where_the_curve_turns():
    proxy = bt.noisy_proxy(gaussian(), bt.Noise.student_t2(1.0))
    found = bt.hedge_n(*proxy)
    n = float(found.parameter)
    curve = earned(proxy, [0.99 * n, n, 1.01 * n])
    assert curve[1] == pytest.approx(float(found.true_reward), rel=1e-12)
    assert curve[1] > max(curve[0], curve[2])


def test_the_scale_of_the_noise_can_be_differentiated():
    def value(scale: jax.Array) -> jax.Array:
        noise = bt.Noise(
            lambda e: -jnp.log(scale) + jax.scipy.stats.norm.logpdf(e / scale),
            lambda e: jax.scipy.special.log_ndtr(-e / scale),
        )
        proxy = bt.noisy_proxy(gaussian(), noise)
        return bt.expected_value(bt.best_of_n(proxy.reference, 8.0), proxy.true_reward)

    best_of_8 = 1.4236003060469  # expected maximum of eight standard normals
    slope = -best_of_8 / 2**1.5  # d/ds of best_of_8 / sqrt(1 + s²) at s = 1
    assert float(jax.grad(value)(1.0)) == pytest.approx(slope, rel=1e-9)


def test_the_parabola_in_root_kl_is_recovered_and_its_misfit_reported():
    kl = jnp.array([0.1, 0.7, 2.0, 5.0])
    d = jnp.sqrt(kl)
    curves = jnp.stack([d * (0.8 - 0.3 * d), jnp.sin(d)])
    fit = bt.fit_overoptimization(jnp.stack([kl, kl]), curves)
    assert float(fit.alpha[0]) == pytest.approx(0.8, rel=1e-12)
    assert float(fit.beta[0]) == pytest.approx(0.3, rel=1e-12)
    assert float(fit.residual[0]) < 1e-14
    design = np.stack([d, -kl], axis=1)
    expected, *_ = np.linalg.lstsq(design, np.asarray(curves[1]), rcond=None)
    np.testing.assert_allclose([fit.alpha[1], fit.beta[1]], expected, rtol=1e-10)
    misfit = np.abs(design @ expected - np.asarray(curves[1])).max()
    assert float(fit.residual[1]) == pytest.approx(misfit, rel=1e-8)


def test_the_residual_is_the_largest_deviation_of_either_sign():
    """Of these points it is where the fit lies above the curve."""
    kl, gain = np.array([0.25, 1.0, 2.25, 4.0]), np.array([0.5, 0.6, 1.6, 1.2])
    design = np.stack([np.sqrt(kl), -kl], axis=1)
    deviation = design @ np.linalg.lstsq(design, gain, rcond=None)[0] - gain
    assert np.max(deviation) != pytest.approx(-np.min(deviation), rel=0.1)
    for sign in (1, -1):
        fit = bt.fit_overoptimization(kl, sign * gain)
        assert float(fit.residual) == pytest.approx(np.max(np.abs(deviation)), rel=1e-12)


def test_close_points_of_a_parabola_keep_their_digits():
    kl = 100 + 1e-3 * jnp.arange(5.0)
    d = jnp.sqrt(kl)
    fit = bt.fit_overoptimization(kl, d * (1 - 0.05 * d))
    # Rounding of the data, 1e-16, over the relative width of their interval, 2e-5.
    assert float(fit.alpha) == pytest.approx(1, abs=3e-10)
    assert float(fit.beta) == pytest.approx(0.05, abs=3e-11)


def test_a_fit_through_the_reference_has_derivatives():
    def alpha(kl: jax.Array) -> jax.Array:
        return bt.fit_overoptimization(kl, jnp.array([0.0, 0.5, 0.7, 0.6])).alpha

    kl, step = jnp.array([0.0, 0.5, 1.5, 4.0]), 1e-6
    gradient = jax.grad(alpha)(kl)
    for i in (1, 2, 3):
        ahead, behind = (float(alpha(kl.at[i].add(s))) for s in (step, -step))
        assert float(gradient[i]) == pytest.approx((ahead - behind) / (2 * step), rel=1e-7)
    assert np.isnan(jax.jit(alpha)(kl.at[1].set(-0.1)))


def test_float32_proxies_and_hedges_agree_to_its_precision():
    single = jax.tree.map(lambda x: x.astype(jnp.float32), gaussian())
    exact, found = (
        bt.hedge_n(*bt.noisy_proxy(law, bt.Noise.student_t2(1.0))) for law in (gaussian(), single)
    )
    assert found.parameter.dtype == found.true_reward.dtype == jnp.float32
    assert float(found.true_reward) == pytest.approx(float(exact.true_reward), rel=3e-6)
    # A slope's rounding, 1e-7, over a curvature of 0.1.
    assert float(found.parameter) == pytest.approx(float(exact.parameter), rel=1e-4)


noise: Any = bt.Noise.gaussian
noisy: Any = bt.noisy_proxy

REFUSED: dict[str, tuple[Any, str]] = {
    "scale": (lambda: bt.Noise.gaussian(0.0), "scale must be positive"),
    "heavy scale": (lambda: bt.Noise.student_t2(math.inf), "scale must be positive"),
    "a word for a scale": (lambda: noise("a"), "scale must be a number"),
    "one point": (lambda: bt.fit_overoptimization([1.0], [1.0]), "kl must be .* two different"),
    "equal points": (lambda: bt.fit_overoptimization([1.0, 1.0], [1.0, 2.0]), "kl must be"),
    "a point and none": (lambda: bt.fit_overoptimization([0.0, 1.0], [0.0, 1.0]), "kl must be"),
    "negative": (lambda: bt.fit_overoptimization([-1.0, 1.0, 2.0], [0.0, 1.0, 2.0]), "kl must be"),
    "NaN": (lambda: bt.fit_overoptimization([math.nan, 1.0, 2.0], [0.0, 1.0, 2.0]), "kl must be"),
    "gain": (lambda: bt.fit_overoptimization([1.0, 2.0], [0.0, math.inf]), "gain must be finite"),
    "no noise": (lambda: noisy(bt.Policy.gaussian_reward(), 3.0), "noise must be a Noise, got 3"),
    "no law": (lambda: noisy([0.5, 0.5], bt.Noise.gaussian(1.0)), "true_reward must be a Policy"),
    "shapes": (lambda: bt.fit_overoptimization([1.0, 2.0], [1.0]), "gain must have one value"),
    "a batch": (
        lambda: bt.noisy_proxy(bt.Policy.from_samples([[0.0, 1.0]]), bt.Noise.logistic(1.0)),
        "true_reward must be a single law",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused(case: str):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()
