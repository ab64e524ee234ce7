"""Best-of-n under noise of any law: against enumeration, closed forms and the faster routes.

Where no tolerance is explained it is 1e-12 relative to a probability, which is what logarithms
down to e^{-1000} can hold.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import bon_theory as bt
from tests import strategies as some
from tests.oracles import noisy
from tests.strategies import K, log_ratio, probs


def halved(e: jax.Array) -> jax.Array:
    return -jnp.abs(e) - math.log(2)


LAPLACE = bt.Noise(
    halved, lambda e: jnp.where(e > 0, halved(e), jnp.log1p(-jnp.exp(halved(e)))), kinks=(0.0,)
)
UNIFORM = bt.Noise(
    lambda e: jnp.where(jnp.abs(e) < 0.5, 0.0, -jnp.inf),
    lambda e: jnp.log(jnp.clip(0.5 - e, 0, 1)),
    kinks=(-0.5, 0.5),
)
# Laws of noise, and the probability that the difference of two is at most x.
DIFFERENCES: dict[str, tuple[bt.Noise, Any]] = {
    "gaussian": (bt.Noise.gaussian(), lambda x: special.ndtr(x / math.sqrt(2))),
    "gumbel": (bt.Noise.gumbel(), special.expit),
    "exponential": (
        bt.Noise.exponential(),
        lambda x: np.where(x < 0, np.exp(-np.abs(x)) / 2, 1 - np.exp(-np.abs(x)) / 2),
    ),
    "laplace": (
        LAPLACE,
        lambda x: (
            np.where(x > 0, 1, 0)
            - np.where(x > 0, 1, -1) * np.exp(-np.abs(x)) * (0.5 + np.abs(x) / 4)
        ),
    ),
    "uniform": (
        UNIFORM,
        lambda x: (
            np.where(x > 0, 1, 0) - np.where(x > 0, 1, -1) * np.clip(1 - np.abs(x), 0, 1) ** 2 / 2
        ),
    ),
    "cauchy": (bt.Noise.student_t(1.0), lambda x: 0.5 + np.arctan(x / 2) / np.pi),
}
SCIPY: dict[str, tuple[bt.Noise, Any]] = {
    "gumbel": (bt.Noise.gumbel(0.7), scipy.stats.gumbel_r(scale=0.7)),
    "exponential": (bt.Noise.exponential(0.7), scipy.stats.expon(scale=0.7)),
    "student_t": (bt.Noise.student_t(3.5, 0.7), scipy.stats.t(3.5, scale=0.7)),
    "student_t2": (bt.Noise.student_t(2.0, 0.7), scipy.stats.t(2, scale=0.7)),
}


def batch(seed: int, size: int = 48) -> tuple[bt.Policy, jax.Array, jax.Array]:
    """Laws with ties, impossible and tiny outcomes; numbers to 1e6; scales from .003 to 100."""
    rng = np.random.default_rng(seed)
    mass = rng.dirichlet(np.full(K, 0.3), size=size).clip(1e-12)
    mass[1::4, 2] = 0
    mass /= mass.sum(axis=1, keepdims=True)
    rewards = rng.random((size, K))
    rewards[::3] = np.round(rewards[::3] * 4) / 4
    n = 10 ** rng.uniform(0, 6, size)
    n[::6], n[1::6] = 1, rng.uniform(1, 3, len(n[1::6]))
    scale = 10 ** rng.uniform(-2.5, 2, size)
    return some.policy_of(mass, rewards), jnp.asarray(n), jnp.asarray(scale)


def errors(ours: bt.Policy, logs: Any) -> float:
    """Largest error of a log-probability, in units of what float64 holds."""
    logs, found = np.asarray(logs, float), np.asarray(ours.log_probs)
    np.testing.assert_array_equal(found == -np.inf, logs == -np.inf)
    possible = logs > -np.inf
    error = np.abs(found[possible] - logs[possible])
    return float(np.max(error / np.maximum(1, np.abs(logs[possible]) / 1000)))


@pytest.mark.parametrize("name", SCIPY)
def test_noise_has_the_density_and_tails_of_scipy(name: str) -> None:
    ours, theirs = SCIPY[name]
    e = np.array([-20.0, -3.0, -0.1, 0.0, 0.7, 4.0, 30.0])
    with np.errstate(divide="ignore"):
        expected = theirs.logpdf(e), theirs.logcdf(e), theirs.logsf(e)
    found = ours.log_density(jnp.asarray(e)), ours.log_cdf(jnp.asarray(e))
    for left, right in zip((*found, ours.log_survival(jnp.asarray(e))), expected, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-9, atol=1e-15)


def test_no_mass_is_lost_of_noise_without_a_mean() -> None:
    coin = bt.Policy.from_probs([0.5, 0.5], rewards=[0.0, 1.0])
    n = jnp.asarray([1.0, 4.0, 1e6, 1e15])
    lost = bt.certificate(bt.noisy_best_of_n(coin, n, 0.5, noise=bt.Noise.student_t(1.0)))
    assert float(jnp.max(lost)) < 1e-13


@pytest.mark.parametrize("name", DIFFERENCES)
def test_of_two_candidates_the_difference_of_their_noise_decides(name: str) -> None:
    noise, difference = DIFFERENCES[name]
    reference, _, scale = batch(1)
    mass, rewards = probs(reference), np.asarray(reference.rewards)
    gaps = (rewards[:, :, None] - rewards[:, None, :]) / np.asarray(scale)[:, None, None]
    expected = 2 * mass * (difference(gaps) * mass[:, None, :]).sum(axis=2)
    found = probs(bt.noisy_best_of_n(reference, 2.0, scale, noise=noise))
    # Far below, arctan and 1 - e^{-x}/2 of the oracle cancel: absolute errors.
    np.testing.assert_allclose(found, expected, atol=1e-14)


@pytest.mark.parametrize(
    ("noise", "oracle"),
    [
        (bt.Noise.gaussian(), noisy.gaussian),
        (bt.Noise.student_t2(), noisy.student_t2),
        (bt.Noise.logistic(), noisy.logistic),
    ],
    ids=["gaussian", "student_t2", "logistic"],
)
@pytest.mark.parametrize(("n", "scale"), [(3, 0.1), (4, 1.5)])
def test_it_equals_enumeration(noise: bt.Noise, oracle: Any, n: int, scale: float) -> None:
    mass, rewards = [0.4, 0.25, 0.25, 0.1, 0.0], [0.0, 1.0, 0.25, 1.0, 3.0]
    expected = noisy.noisy_best_of_n(mass[:4], rewards[:4], n, scale, oracle)
    found = bt.noisy_best_of_n(some.law(mass, rewards), n, scale, noise=noise)
    np.testing.assert_allclose(probs(found)[:4], [float(p) for p in expected], rtol=1e-12)
    assert probs(found)[4] == 0
    assert float(bt.certificate(found)) < 1e-13


@pytest.mark.parametrize(
    ("noise", "fast"),
    [(bt.Noise.gumbel(), bt.soft_best_of_n), (bt.Noise.exponential(), bt.exponential_race)],
    ids=["soft best-of-n", "exponential race"],
)
def test_the_special_cases_agree_with_their_own_routes(noise: bt.Noise, fast: Any) -> None:
    reference, n, scale = batch(2)
    found = bt.noisy_best_of_n(reference, n, scale, noise=noise)
    assert errors(found, fast(reference, n, scale).log_probs) < 1e-12
    assert float(bt.certificate(found).max()) < 1e-13
    # What an error of 1e-11 in the scale would do.
    wrong = bt.noisy_best_of_n(reference, n, scale * (1 + 1e-11), noise=noise)
    assert errors(wrong, fast(reference, n, scale).log_probs) > 2e-12


@pytest.mark.parametrize("noise", [bt.Noise.gaussian(), bt.Noise.student_t2()])
def test_the_integral_loses_nothing(noise: bt.Noise) -> None:
    reference, n, scale = batch(3)
    extreme = jnp.where(jnp.arange(n.size) % 2 == 0, n**2.5, n)
    assert (
        float(bt.certificate(bt.noisy_best_of_n(reference, extreme, scale, noise=noise)).max())
        < 1e-13
    )


def test_gaussian_noise_on_a_gaussian_reward_shrinks_what_is_earned() -> None:
    """The score has variance 1 + σ², of which the reward is one part: E r = E max / √(1 + σ²)."""
    reference = bt.Policy.gaussian_reward(num_nodes=641)
    best = bt.expected_reward(bt.best_of_n(reference, 20.0))
    for scale in (0.5, 2.0):
        judged = bt.noisy_best_of_n(reference, 20.0, scale)
        shrunk = float(best) / math.sqrt(1 + scale**2)
        assert float(bt.expected_reward(judged)) == pytest.approx(shrunk, rel=1e-12)


def test_on_nodes_too_gumbel_noise_is_soft_best_of_n() -> None:
    reference = bt.Policy.gaussian_reward(num_nodes=321)
    gumbel = bt.noisy_best_of_n(reference, 7.5, 2.0, noise=bt.Noise.gumbel())
    soft = bt.soft_best_of_n(reference, 7.5, 2.0)
    np.testing.assert_allclose(gumbel.log_probs, soft.log_probs, rtol=1e-12)


def test_heavy_tails_bridge_any_gap() -> None:
    """n draws of t₂ noise reach √(n/2): a gap beyond that is not bridged, one below it is."""
    gap = 1e6
    coin = bt.Policy.from_probs([0.5, 0.5], [0.0, gap])
    noise = bt.Noise.student_t2()
    few, many = (float(bt.noisy_best_of_n(coin, n, 1.0, noise=noise).probs[0]) for n in (4.0, 1e15))
    # A low candidate wins where all are low: 1/16.
    assert few == pytest.approx(1 / 16, rel=1e-6)
    # P(high) - P(low) ~ gap/√n: the maximum is Fréchet, of scale √(n/2).
    assert 0.45 < many < 0.5


def test_extreme_scales_are_limits() -> None:
    reference = bt.Policy.from_probs([0.5, 0.3, 0.2], [0.0, 0.5, 1.0])
    best = bt.best_of_n(reference, 3.5)
    for noise in (bt.Noise.gaussian(), bt.Noise.exponential(), bt.Noise.student_t2()):
        for scale in (0.0, 1e-300, 1e-30):
            cold = bt.noisy_best_of_n(reference, 3.5, scale, noise=noise)
            np.testing.assert_allclose(cold.probs, best.probs, rtol=1e-12)
        for scale in (1e300, math.inf):
            hot = bt.noisy_best_of_n(reference, 3.5, scale, noise=noise)
            np.testing.assert_allclose(hot.probs, reference.probs, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_placeholder_costs_no_accuracy(dtype: Any) -> None:
    """Of two by Gaussian noise: P(x) = 2 π(x) Σ π(z) Φ((r(x) - r(z))/σ√2)."""
    mass, rewards = np.array([0.1, 0.4, 0.3, 0.2]), np.array([-1e6, 0.5, 0.53125, 0.5625])
    gaps = (rewards[:, None] - rewards[None, :]) / 0.03125
    expected = 2 * mass * (special.ndtr(gaps / math.sqrt(2)) @ mass)
    law = bt.Policy.from_probs(mass.astype(dtype), rewards.astype(dtype))
    found = bt.noisy_best_of_n(law, 2.0, 0.03125).probs
    np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == np.float32 else 1e-12)


@given(reference=some.laws, n=some.numbers, t=some.temperatures)
def test_more_noise_wins_less(reference: bt.Policy, n: Any, t: Any) -> None:
    less, more = some.noisy_best_of_n(reference, n, t), some.noisy_best_of_n(reference, n, 2 * t)
    assert some.expected_reward(more) <= some.expected_reward(less) + 1e-11


@given(reference=some.laws, power=st.integers(0, 40))
def test_ties_alone_leave_the_reference(reference: bt.Policy, power: int) -> None:
    tied = some.with_rewards(reference, np.full(K, 3.0))
    policy = some.noisy_best_of_n(tied, jnp.asarray(2.0**power), jnp.asarray(0.5))
    np.testing.assert_allclose(log_ratio(policy, tied), 0, atol=1e-12)


def test_bounded_noise_does_not_bridge_a_longer_gap() -> None:
    coin = bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0])
    won = bt.noisy_best_of_n(coin, 3.0, 0.5, noise=UNIFORM)
    # A low candidate wins among low ones alone.
    np.testing.assert_allclose(won.probs, [1 / 8, 7 / 8], rtol=1e-13)
    far = bt.Policy.from_probs([1e-300, 1.0], [0.0, 1.0])
    assert not np.isnan(
        np.asarray(bt.noisy_best_of_n(far, 300.0, 0.5, noise=UNIFORM).log_probs)
    ).any()


def test_one_outcome_is_kept() -> None:
    one = bt.Policy.from_probs([1.0], [0.7])
    for scale in (0.0, 0.5, math.inf):
        assert bt.noisy_best_of_n(one, 3.0, scale).log_probs.tolist() == pytest.approx(
            [0], abs=1e-14
        )


def test_what_is_no_noise_is_refused() -> None:
    coin = bt.Policy.from_probs([0.5, 0.5], [0.0, 1.0])
    with pytest.raises(ValueError, match=r"noise must be a Noise, got 0.5: pass Noise.gaussian"):
        bt.noisy_best_of_n(coin, 2, 1.0, noise=0.5)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="degrees_of_freedom must be positive"):
        bt.Noise.student_t(0.0)
