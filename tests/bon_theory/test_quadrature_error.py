"""What the nodes of a continuous law leave in a number, and whether the estimate is honest."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special as sc

import bon_theory as bt
from bon_theory.certificate import error_of_known
from tests.oracles import soft_pairs


class Law(NamedTuple):
    """A reward by its quantile function from both ends, and where that is not smooth (log-odds)."""

    lower: Callable[[Any], Any]
    upper: Callable[[Any], Any] | None
    breaks: tuple[float, ...] = ()

    def policy(self, **options: Any) -> bt.Policy:
        return bt.Policy.from_quantile(self.lower, self.upper, **options)

    def at(self, x: np.ndarray) -> np.ndarray:
        """For the oracle, from log-odds."""
        lower, upper = sc.expit(np.minimum(x, 0)), sc.expit(-np.maximum(x, 0))
        if self.upper is None:
            return np.asarray(self.lower(jnp.asarray(sc.expit(x))))
        return np.where(x < 0, self.lower(jnp.asarray(lower)), self.upper(jnp.asarray(upper)))


def near_jump(at: float, width: float) -> Law:
    return Law(
        lambda u: u + 5 * jax.nn.sigmoid((u - at) / width),
        lambda s: 1 - s + 5 * jax.nn.sigmoid((1 - at - s) / width),
        tuple(float(sc.logit(at + k * width)) for k in range(-24, 25, 2)),
    )


def pareto(index: float) -> Law:
    return Law(lambda u: (1 - u) ** (-1 / index), lambda s: s ** (-1 / index))


def beta(a: float, b: float) -> Law:
    def inverted(inverse: Callable[..., np.ndarray]) -> Callable[[Any], jax.Array]:
        def quantile(u: Any) -> jax.Array:
            # Half of what ``at`` asks for is the median, and an inversion takes half a microsecond.
            levels = np.asarray(u)
            rewards = np.full(levels.shape, inverse(a, b, 0.5))
            rewards[levels != 0.5] = inverse(a, b, levels[levels != 0.5])
            return jnp.asarray(rewards)

        return quantile

    return Law(inverted(sc.betaincinv), inverted(sc.betainccinv))


ndtri = jax.scipy.special.ndtri
LEVELS = np.array([0.0, 0.1, 0.35, 0.8, 1.0]), np.array([0.0, 0.5, 0.6, 3.0, 3.5])
LAWS = {
    "uniform": Law(lambda u: u, lambda s: 1 - s),
    "far from 0": Law(lambda u: 1e6 + u, lambda s: 1e6 + (1 - s)),
    "Gaussian": Law(ndtri, lambda s: -ndtri(s)),
    "logistic": Law(lambda u: jnp.log(u / (1 - u)), lambda s: jnp.log((1 - s) / s)),
    "Gumbel": Law(lambda u: -jnp.log(-jnp.log(u)), lambda s: -jnp.log(-jnp.log1p(-s))),
    "log-normal": Law(lambda u: jnp.exp(ndtri(u)), lambda s: jnp.exp(-ndtri(s))),
    "arcsine": Law(lambda u: jnp.sin(jnp.pi * u / 2) ** 2, lambda s: jnp.cos(jnp.pi * s / 2) ** 2),
    "Beta(.3, .4)": beta(0.3, 0.4),
    "Pareto 1.5": pareto(1.5),
    "near jump in the middle": near_jump(0.5, 0.01),
    "near jump": near_jump(0.37, 0.01),
    "near jump above": near_jump(0.9, 0.002),
    "wide near jump": near_jump(0.6, 0.015),
    "gap": Law(
        lambda u: jnp.where(u < 0.5, 2 * u, 4 + 2 * u),
        lambda s: jnp.where(s <= 0.5, 6 - 2 * s, 2 - 2 * s),
        (0.0,),
    ),
    "gap below": Law(
        lambda u: jnp.where(u < 0.3, u, 4 + u), lambda s: 5 - s, (float(sc.logit(0.3)),)
    ),
    "piecewise linear": Law(
        lambda u: jnp.interp(u, *map(jnp.asarray, LEVELS)),
        None,
        tuple(map(float, sc.logit(LEVELS[0][1:-1]))),
    ),
}


@functools.partial(jax.jit, static_argnames="selection")
def estimated(
    selection: Callable[..., bt.Policy], reference: bt.Policy, *parameters: float
) -> tuple[jax.Array, jax.Array]:
    """The expected reward under the selection, and the estimate of its error."""

    def reward(reference: bt.Policy) -> jax.Array:
        return bt.expected_reward(selection(reference, *parameters))

    return reward(reference), bt.quadrature_error(reward, reference)


def judge(value: jax.Array, estimate: jax.Array, exact: float, rounding: float = 1e-13) -> None:
    """Not below a tenth of the error, nor above it by orders of magnitude."""
    error, floor = abs(float(value) - exact), rounding * max(1.0, abs(exact))
    assert float(estimate) >= 0.1 * error - floor
    assert float(estimate) <= 3e3 * max(error, 1e-12 * max(1.0, abs(exact)))


@pytest.mark.parametrize("n", [1.5, 2.0, 16.0, 1000.0])
@pytest.mark.parametrize("law", LAWS)
def test_the_estimate_is_honest_of_rank_selections(law: str, n: float) -> None:
    value, estimate = estimated(bt.best_of_n, LAWS[law].policy(), n)
    judge(value, estimate, soft_pairs.best_of_n(LAWS[law].at, n, LAWS[law].breaks))


TEMPERATURES = [0.01, 0.1, 1.0, 10.0, 100.0]


QUICK_LAWS = ("Beta(.3, .4)", "gap")


@pytest.mark.parametrize(
    "law", [x if x in QUICK_LAWS else pytest.param(x, marks=pytest.mark.slow) for x in LAWS]
)
def test_the_estimate_is_honest_of_soft_selections(law: str) -> None:
    exact = soft_pairs.soft_of_two(LAWS[law].at, TEMPERATURES, LAWS[law].breaks)
    reference = LAWS[law].policy()
    for temperature, mean in zip(TEMPERATURES, exact, strict=True):
        value, estimate = estimated(bt.soft_best_of_n, reference, 2.0, temperature)
        judge(value, estimate, mean, rounding=1e-12)


# --- any number, by any transformation -------------------------------------------------

STEEP = LAWS["near jump"].policy()
FINE = LAWS["near jump"].policy(num_nodes=1281, breaks=(0.35, 0.36, 0.37, 0.38, 0.39))


def everything(reference: bt.Policy) -> dict[str, jax.Array]:
    policy = bt.soft_best_of_n(reference, 16.0, 1.0)
    return {
        "reward": bt.expected_reward(policy),
        "squared reward": bt.expected_value(policy, reference.rewards**2),
        "kl": bt.kl_divergence(policy, reference),
        "chi squared": bt.chi_squared_divergence(policy, reference),
        "renyi": bt.renyi_divergence(policy, reference, 0.5),
        "total variation": bt.total_variation(policy, reference),
        "win rate": bt.win_rate(policy, reference),
        "loss rate": bt.win_rate(reference, policy),
    }


def test_the_estimate_is_honest_of_every_functional() -> None:
    values, exact = jax.jit(everything)(STEEP), jax.jit(everything)(FINE)
    estimates = jax.jit(functools.partial(bt.quadrature_error, everything))(STEEP)
    finer = jax.jit(functools.partial(bt.quadrature_error, everything))(FINE)
    for name, value in values.items():
        error = abs(float(value) - float(exact[name]))
        assert error > 1e-8, name
        assert 0.1 * error <= float(estimates[name]) <= 1e3 * error, name
        assert float(finer[name]) < 1e-2 * error, name


def test_batches_and_vmap_give_each_law_its_own_error() -> None:
    n = jnp.array([2.0, 16.0, 1e3])

    def reward(reference: bt.Policy, n: Any = n) -> jax.Array:
        return bt.expected_reward(bt.best_of_n(reference, n))

    together = bt.quadrature_error(reward, STEEP)
    mapped = jax.vmap(lambda n: bt.quadrature_error(lambda r: reward(r, n), STEEP))(n)
    one_by_one = [float(bt.quadrature_error(lambda r, n=n: reward(r, n), STEEP)) for n in n]
    np.testing.assert_allclose(together, one_by_one, rtol=1e-6, atol=1e-14)
    np.testing.assert_allclose(mapped, one_by_one, rtol=1e-6, atol=1e-14)


def test_a_functional_alone_takes_policies_and_values() -> None:
    policy = bt.best_of_n(STEEP, 2.0)
    reward = bt.quadrature_error(bt.expected_reward, policy)
    value = bt.quadrature_error(bt.expected_value, policy, policy.rewards)
    assert float(value) == pytest.approx(float(reward), rel=1e-6)
    assert float(bt.quadrature_error(bt.kl_divergence, policy, STEEP)) < 1e-12  # of ranks alone


def test_a_discrete_law_has_no_nodes() -> None:
    reference = bt.Policy.from_samples([0.0, 1.0, 3.0])
    assert float(bt.quadrature_error(bt.expected_reward, reference)) == 0


def test_an_error_that_cannot_be_seen_is_infinite() -> None:
    def fails(reference: bt.Policy) -> jax.Array:
        is_coarse = jnp.sum(reference.log_probs > -jnp.inf) < 1000
        return jnp.where(is_coarse, jnp.nan, bt.expected_reward(reference))

    assert float(bt.quadrature_error(fails, STEEP)) == math.inf


def test_what_is_no_law_is_refused() -> None:
    with pytest.raises(ValueError, match="must be a Policy, got tuple"):
        bt.quadrature_error(jnp.sum, [1.0])
    with pytest.raises(ValueError, match="same outcomes, got 1281 continuous nodes and 3 outcomes"):
        bt.quadrature_error(bt.kl_divergence, STEEP, bt.Policy.from_samples([0.0, 1.0, 3.0]))


# --- gaps and tails --------------------------------------------------------------------


@pytest.mark.parametrize("at", [0.5, 0.3, 1e-6, 1 - 2.0**-20])
def test_a_gap_of_the_support_is_found_and_broken_at(at: float) -> None:
    """U(0, 1) with a gap of 4 at a rank: its mean is ½ + 4 (1 − at)."""
    law = Law(
        lambda u: u + jnp.where(u >= at, 4.0, 0.0),
        lambda s: 1 - s + jnp.where(s <= 1 - at, 4.0, 0.0),
    )
    reference = law.policy()
    assert reference.num_outcomes == 2 * 1281
    assert float(bt.expected_reward(reference)) == pytest.approx(0.5 + 4 * (1 - at), rel=1e-13)
    soft, error = estimated(bt.soft_best_of_n, reference, 2.0, 50.0)
    exact = soft_pairs.soft_of_two(law.at, [50.0], (float(sc.logit(at)),))[0]
    assert float(soft) == pytest.approx(exact, rel=1e-12)
    assert float(error) < 1e-11


def test_several_gaps_and_given_breaks_are_merged() -> None:
    def quantile(u: jax.Array) -> jax.Array:
        return u + sum(jnp.where(u >= k / 8, 1.0, 0.0) for k in range(1, 8))

    reference = bt.Policy.from_quantile(quantile, breaks=(0.25, 0.3))
    assert reference.num_outcomes == 9 * 1281
    assert float(bt.expected_reward(reference)) == pytest.approx(4.0, rel=1e-13)


@pytest.mark.parametrize("jumps", [(0.501, 0.502), (0.501, 0.503, 0.506)])
def test_jumps_between_the_same_nodes_escape_but_not_the_estimate(jumps: tuple[float, ...]) -> None:
    """None of equal jumps is half of the rise; breaks that are given make the mean exact."""

    def quantile(u: jax.Array) -> jax.Array:
        return u + sum(jnp.where(u >= jump, 1.0, 0.0) for jump in jumps)

    exact = 0.5 + sum(1 - jump for jump in jumps)
    reference = bt.Policy.from_quantile(quantile)
    error = abs(float(bt.expected_reward(reference)) - exact)
    assert error > 1e-3
    assert float(bt.quadrature_error(bt.expected_reward, reference)) > 0.1 * error
    broken = bt.Policy.from_quantile(quantile, breaks=jumps)
    assert float(bt.expected_reward(broken)) == pytest.approx(exact, rel=1e-13)


def test_what_is_drawn_beyond_the_last_node_is_mass_lost() -> None:
    """Best-of-1e36 looks at ranks beyond 1 - e^-80: its reward is wrong, and it says so."""
    reference = bt.Policy.exponential_reward()
    assert float(bt.certificate(bt.best_of_n(reference, 1e36))) > 0.99
    assert float(bt.certificate(bt.best_of_n(reference, 1e20))) < 1e-13


@pytest.mark.parametrize("law", ["uniform", "far from 0", "Gaussian", "Pareto 1.5", "near jump"])
def test_no_gap_is_seen_where_there_is_none(law: str) -> None:
    assert LAWS[law].policy().num_outcomes == 1281
    with jax.enable_x64(False):
        assert LAWS[law].policy().num_outcomes == 1281


def test_a_law_of_atoms_is_refused() -> None:
    with pytest.raises(ValueError, match=r"but for 16 gaps, got [0-9]+ jumps.*from_probs"):
        bt.Policy.from_quantile(lambda u: jnp.floor(u * 40))


def test_a_quantile_function_may_be_traced() -> None:
    def mean(scale: jax.Array) -> jax.Array:
        return bt.expected_reward(bt.Policy.from_quantile(lambda u: scale * u))

    assert float(jax.jit(mean)(3.0)) == pytest.approx(1.5, rel=1e-13)


@pytest.mark.parametrize("index", [1.001, 1.01, 1.2, 1.5, 3.0])
@pytest.mark.parametrize("n", [1, 16, 1000])
def test_the_mean_of_a_power_tail_is_exact(index: float, n: int) -> None:
    """E max = n B(n, 1 − 1/index)."""
    exact = n * math.exp(sc.betaln(n, 1 - 1 / index))
    value, error = estimated(bt.best_of_n, pareto(index).policy(), float(n))
    assert float(value) == pytest.approx(exact, rel=1e-9 if index > 1.005 else 1e-7)
    assert float(error) < 1e-6 * exact


@pytest.mark.parametrize("index", [0.5, 1.0])
def test_a_mean_that_does_not_exist_is_infinite(index: float) -> None:
    heavy = pareto(index).policy()
    for n in (1.0, 16.0):
        assert float(bt.expected_reward(bt.best_of_n(heavy, n))) == math.inf
    both = Law(lambda u: -1 / u, lambda s: 1 / s).policy()
    assert math.isnan(float(bt.expected_reward(both)))
    assert float(bt.expected_value(both, -jnp.abs(both.rewards))) == -math.inf


def test_a_tail_that_is_no_power_is_estimated() -> None:
    """The mean of 1/(s (1 − log s)²) is 1, of which 1/81 lies beyond the nodes."""
    slow = Law(
        lambda u: 1 / ((1 - u) * (1 - jnp.log1p(-u)) ** 2),
        lambda s: 1 / (s * (1 - jnp.log(s)) ** 2),
    )
    mean, error = estimated(bt.best_of_n, slow.policy(), 1.0)
    assert 0.1 * abs(float(mean) - 1) < float(error) < abs(float(mean) - 1) < 0.01


@pytest.mark.parametrize("n", [1e20, 1e27])
def test_ranks_are_followed_to_the_end_of_the_nodes(n: float) -> None:
    """E of the best of n exponentials is the harmonic number log n + γ; mass beyond e^-80."""
    best = bt.best_of_n(bt.Policy.exponential_reward(), n)
    assert float(bt.expected_reward(best)) == pytest.approx(math.log(n) + np.euler_gamma, rel=1e-10)


# --- tuning -----------------------------------------------------------------------------


def test_tuning_refuses_what_the_nodes_do_not_resolve() -> None:
    with pytest.raises(ValueError, match="too few nodes for the temperature"):
        bt.temperature_for_reward(LAWS["near jump in the middle"].policy(), 3.3577980, n=2)


@pytest.mark.slow
def test_tuning_is_not_put_off_by_a_tail_that_the_selection_does_not_feel() -> None:
    proxy = bt.noisy_proxy(bt.Policy.gaussian_reward(), bt.Noise.student_t2(1.0)).reference
    temperature = bt.temperature_for_kl(proxy, 0.5, n=16)
    kl = bt.kl_divergence(bt.soft_best_of_n(proxy, 16, temperature), proxy)
    assert float(kl) == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize("name", ["uniform", "near jump"])
def test_where_the_value_is_known_half_the_nodes_say_the_same(name: str) -> None:
    reference = LAWS[name].policy(num_nodes=641)

    @jax.jit
    def estimates(reference: bt.Policy, temperature: jax.Array) -> tuple[jax.Array, jax.Array]:
        def kl(law: bt.Policy) -> jax.Array:
            return bt.kl_divergence(bt.exponential_tilt(law, temperature), law)

        known = error_of_known(kl(reference), kl, reference)
        return known, bt.quadrature_error(kl, reference)

    for temperature in (0.002, 0.005, 0.02, 1.0):
        half, every = estimates(reference, jnp.asarray(temperature))
        assert float(half) == pytest.approx(float(every), rel=1e-3, abs=1e-13)
        assert float(every) > 1e-11 or temperature > 0.005
