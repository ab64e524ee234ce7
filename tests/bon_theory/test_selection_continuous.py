"""Selections of continuous laws: closed forms, multiprecision quadrature, and golden values."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from tests.oracles import continuous, soft_continuous
from tests.oracles.multiprecision import mp

# From barely a selection to a million candidates; not only integers.
SIZES = [1.0, 1.0009765625, 1.5, 2.0, 2.75, 8.0, 64.0, 1000.5, 1e6]
ORDERS = (0.25, 0.5, 2.0, 5.0)

Functional = Callable[[bt.Policy, bt.Policy], jax.Array]
FUNCTIONALS: dict[str, tuple[Functional, Callable[[continuous.RankLaw], Any]]] = {
    "kl": (bt.kl_divergence, continuous.kl),
    "reverse kl": (lambda p, q: bt.kl_divergence(q, p), continuous.reverse_kl),
    "chi squared": (bt.chi_squared_divergence, continuous.chi_squared),
    "total variation": (bt.total_variation, continuous.total_variation),
    "squared hellinger": (bt.squared_hellinger, continuous.squared_hellinger),
    "jensen shannon": (bt.jensen_shannon, continuous.jensen_shannon),
    "win rate": (bt.win_rate, continuous.win_rate),
    "f": (
        lambda p, q: bt.f_divergence(p, q, lambda t: (t - 1) ** 2 / (t + 1)),
        lambda law: law.integral(lambda u, h: (h - 1) ** 2 / (h + 1)),
    ),
    **{
        f"renyi {order}": (
            lambda p, q, order=order: bt.renyi_divergence(p, q, order),
            lambda law, order=order: continuous.renyi(law, order),
        )
        for order in ORDERS
    },
}
SELECTIONS: dict[str, tuple[Callable[..., bt.Policy], Any, list[float]]] = {
    "best of n": (bt.best_of_n, continuous.best_of_n, SIZES),
    "worst of n": (bt.worst_of_n, continuous.worst_of_n, [1.0, 2.75, 64.0, 1e6]),
    "best of poisson": (bt.best_of_poisson, continuous.best_of_poisson, [0.0, 0.01, 3.0, 1e3]),
    "win-rate optimal": (bt.win_rate_optimal, continuous.win_rate_optimal, [1e-3, 1.0, 50.0, 1e3]),
}


# What limits accuracy other than rounding: generators with poles where h = −1 or at log h = iπ
# feel the lattice spacing once n concentrates the law near an end.
TOLERANCES = {"jensen shannon": 2e-11, "f": 1e-9}


@pytest.fixture(scope="module")
def uniform() -> bt.Policy:
    return bt.Policy.uniform_reward()


@pytest.fixture(scope="module")
def computed(uniform: bt.Policy) -> dict[str, dict[str, jax.Array]]:
    """Every functional of every selection at all its parameters; one program per selection."""

    def everything(select: Callable[..., bt.Policy], parameter: jax.Array) -> dict[str, jax.Array]:
        policy = select(uniform, parameter)
        return {name: library(policy, uniform) for name, (library, _) in FUNCTIONALS.items()}

    return {
        name: jax.jit(jax.vmap(partial(everything, select)))(jnp.asarray(parameters))
        for name, (select, _, parameters) in SELECTIONS.items()
    }


@pytest.fixture(scope="module")
def exact() -> dict[str, list[continuous.RankLaw]]:
    """The same laws, each of which remembers its density at the nodes."""
    with mp.workdps(continuous.DIGITS):
        return {
            name: [law(x) for x in parameters] for name, (_, law, parameters) in SELECTIONS.items()
        }


@pytest.mark.parametrize("functional", FUNCTIONALS)
@pytest.mark.parametrize("selection", SELECTIONS)
def test_rank_selections_equal_quadrature(
    computed: dict[str, dict[str, jax.Array]],
    exact: dict[str, list[continuous.RankLaw]],
    selection: str,
    functional: str,
) -> None:
    with mp.workdps(continuous.DIGITS):
        expected = [float(FUNCTIONALS[functional][1](law)) for law in exact[selection]]
    # Where the selection is the identity, divergences vanish up to the rounding of logarithms,
    # and total variation up to that of 1281 cumulative sums.
    atol = 2e-14 if functional == "total variation" else 1e-15
    np.testing.assert_allclose(
        computed[selection][functional], expected, rtol=TOLERANCES.get(functional, 1e-12), atol=atol
    )


def test_closed_forms_of_best_of_n(computed: dict[str, dict[str, jax.Array]]) -> None:
    n, values = np.array(SIZES), computed["best of n"]
    np.testing.assert_allclose(values["kl"], np.log(n) - (n - 1) / n, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(values["reverse kl"], n - 1 - np.log(n), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(values["win rate"], n / (n + 1), rtol=1e-14)


def test_best_of_n_beats_best_of_m_in_proportion(uniform: bt.Policy) -> None:
    for n, m in ((3.0, 5.0), (64.0, 1.5), (1e5, 1e6)):
        won = bt.win_rate(bt.best_of_n(uniform, n), bt.best_of_n(uniform, m))
        assert float(won) == pytest.approx(n / (n + m), rel=1e-12)


@pytest.mark.parametrize("reward", ["uniform", "gaussian", "exponential"])
def test_rank_functionals_do_not_depend_on_the_reward_distribution(reward: str) -> None:
    reference = getattr(bt.Policy, f"{reward}_reward")()
    best = bt.best_of_n(reference, 7.5)
    assert float(bt.kl_divergence(best, reference)) == pytest.approx(
        np.log(7.5) - 6.5 / 7.5, rel=1e-13
    )


def test_expected_rewards_of_order_statistics() -> None:
    for n in (1, 2, 10, 1000):
        harmonic = float(np.sum(1 / np.arange(1, n + 1)))
        exponential = bt.best_of_n(bt.Policy.exponential_reward(), n)
        assert float(bt.expected_reward(exponential)) == pytest.approx(harmonic, rel=1e-13)
    for n in (2, 5, 200):
        gaussian = bt.best_of_n(bt.Policy.gaussian_reward(), n)
        mean = mp.quad(lambda x, n=n: n * x * mp.npdf(x) * mp.ncdf(x) ** (n - 1), [-9, 0, 3, 9, 12])
        assert float(bt.expected_reward(gaussian)) == pytest.approx(float(mean), rel=1e-12)


@pytest.mark.parametrize("fraction", [0.5, 0.125, 0.001])
def test_top_fraction_with_a_break_at_the_jump(fraction: float) -> None:
    reference = bt.Policy.uniform_reward(breaks=(1 - fraction,))
    top = bt.top_fraction(reference, fraction)
    assert float(bt.kl_divergence(top, reference)) == pytest.approx(-np.log(fraction), rel=1e-12)
    assert float(bt.total_variation(top, reference)) == pytest.approx(1 - fraction, rel=1e-12)
    assert float(bt.win_rate(top, reference)) == pytest.approx(1 - fraction / 2, rel=1e-12)


@pytest.mark.parametrize("strength", [0.125, 2.0])
def test_chi_squared_tilt_of_a_uniform_reward(strength: float) -> None:
    level = 1 - np.sqrt(2 * strength) if strength < 0.5 else 0.5 - strength
    mean = (2 + level) / 3 if strength < 0.5 else 0.5 + 1 / (12 * strength)
    breaks = (float(level),) if level > 0 else ()
    reference = bt.Policy.uniform_reward(breaks=breaks)
    policy = bt.chi_squared_tilt(reference, strength)
    assert float(bt.expected_reward(policy)) == pytest.approx(mean, rel=1e-12)
    if strength < 0.5:
        kl = 0.5 * np.log(2 / strength) - 0.5
        assert float(bt.kl_divergence(policy, reference)) == pytest.approx(kl, rel=1e-12)


# --- soft best-of-n -----------------------------------------------------------------------------

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "soft_continuous.json").read_text())


FINE = 6401  # at λ = 0.02 five times the default: nodes in proportion to 1/λ, as documented


@jax.jit
def soft_values(reference: bt.Policy, n: jax.Array, temperature: jax.Array) -> dict[str, jax.Array]:
    policy = bt.soft_best_of_n(reference, n, temperature)
    return {
        "certificate": bt.certificate(policy),
        "win_rate": bt.win_rate(policy, reference),
        "loss_rate": bt.win_rate(reference, policy),
        "total_variation": bt.total_variation(policy, reference),
        "expected_reward": bt.expected_reward(policy),
        "kl": bt.kl_divergence(policy, reference),
        "kl_from_tilt": bt.kl_divergence(bt.exponential_tilt(reference, temperature), policy),
        "log_ratio": bt.log_ratio(policy, reference),
    }


@pytest.mark.parametrize(
    "row", GOLDEN, ids=[f"{g['reward']}, n={g['n']:g}, {g['temperature']:g}" for g in GOLDEN]
)
def test_soft_best_of_n_equals_the_golden_values(row: dict[str, Any]) -> None:
    refinement = {"num_nodes": FINE} if row["temperature"] < 0.1 else {}
    reference = getattr(bt.Policy, f"{row['reward']}_reward")(**refinement)
    values = soft_values(reference, row["n"], row["temperature"])
    assert float(values["certificate"]) < 1e-11
    for name in ("win_rate", "expected_reward", "kl"):
        assert float(values[name]) == pytest.approx(float(row[name]), rel=1e-11), name
    # From the policy's own distribution function, a running integral of absolute accuracy.
    assert float(values["loss_rate"]) == pytest.approx(1 - float(row["win_rate"]), abs=1e-12)
    if row["kl_from_tilt"] is not None:
        # For large n the ratio is near 1 and KL of the order of its square: what rounding leaves.
        expected = float(row["kl_from_tilt"])
        assert float(values["kl_from_tilt"]) == pytest.approx(expected, rel=1e-11, abs=1e-20)


def test_soft_density_by_definition_at_the_nodes() -> None:
    """For n = 2 the density ratio is 2 E σ((r − r′)/λ), integrated here for the nodes' rewards."""
    reference = bt.Policy.gaussian_reward()
    log_ratio = soft_values(reference, 2.0, 0.5)["log_ratio"]
    for node in (320, 560, 640, 700, 960):
        defined = soft_continuous.density_ratio_by_definition(
            "gaussian", float(reference.rewards[node]), 2, 0.5
        )
        assert float(jnp.exp(log_ratio[node])) == pytest.approx(float(defined), rel=1e-12)


def test_total_variation_of_the_better_of_two() -> None:
    """For a uniform reward the density 2λ[log(1 + e^{u/λ}) - log(1 + e^{(u-1)/λ})] crosses 1."""
    values = soft_values(bt.Policy.uniform_reward(), 2.0, 0.25)
    with mp.workdps(30):
        excess = lambda u: (mp.log1p(mp.exp(4 * u)) - mp.log1p(mp.exp(4 * u - 4))) / 2 - 1  # noqa: E731
        expected = mp.quad(excess, [mp.findroot(excess, 0.5), 1])
    assert float(values["total_variation"]) == pytest.approx(float(expected), rel=1e-12)


@jax.jit
def kl_and_error(
    reference: bt.Policy, n: jax.Array, temperature: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def kl(reference: bt.Policy) -> jax.Array:
        return bt.kl_divergence(bt.soft_best_of_n(reference, n, temperature), reference)

    return kl(reference), bt.quadrature_error(kl, reference)


def test_the_error_of_nodes_too_coarse_for_the_temperature_is_reported() -> None:
    reference = bt.Policy.uniform_reward()
    for row in (g for g in GOLDEN if g["reward"] == "uniform"):
        kl, estimate = kl_and_error(reference, row["n"], row["temperature"])
        error = abs(float(kl) - float(row["kl"]))
        assert 0.1 * error - 1e-13 <= float(estimate)
        # At λ = 0.02 default nodes are not enough, and it must say so.
        assert (float(estimate) > 1e-7) == (error > 1e-9)


PLACES = [(3.0, 1.0), (9.0, 3.0), (7.5, 7.5), (40.25, 12.5), (1e3, 2.0), (1e6, 3.0)]


def test_order_statistics_have_their_closed_forms(uniform: bt.Policy) -> None:
    """A k-th best is Beta(n-k+1, k) in rank; one of the k best wins 1 - (k+1)/(2(n+1))."""
    n, k = (jnp.asarray(column) for column in zip(*PLACES, strict=True))

    @jax.jit
    def numbers(reference: bt.Policy) -> tuple[jax.Array, ...]:
        kth, top = bt.kth_best_of_n(reference, n, k), bt.top_k_of_n(reference, n, k)
        kl, win = bt.kl_divergence(kth, reference), bt.win_rate(kth, reference)
        return kl, win, bt.kl_divergence(top, reference), bt.win_rate(top, reference)

    kl, win, top_kl, top_win = numbers(uniform)
    np.testing.assert_allclose(win, (n - k + 1) / (n + 1), rtol=1e-12)
    np.testing.assert_allclose(top_win, 1 - (k + 1) / (2 * (n + 1)), rtol=1e-12)
    for i, (draws, place) in enumerate(PLACES):
        a, b = mp.mpf(draws) - place + 1, mp.mpf(place)
        both = mp.digamma(a + b)
        entropy = (a - 1) * (mp.digamma(a) - both) + (b - 1) * (mp.digamma(b) - both)
        assert float(kl[i]) == pytest.approx(float(entropy - mp.log(mp.beta(a, b))), rel=1e-12)

    def term(u: Any) -> Any:
        h = 3 * mp.betainc(6, 3, 0, u, regularized=True)  # n = 9, k = 3
        return h * mp.log(h)

    assert float(top_kl[1]) == pytest.approx(float(mp.quad(term, [0, 0.5, 1])), rel=1e-12)
    np.testing.assert_allclose(top_kl[2], 0, atol=1e-14)


def test_a_place_too_sharp_for_the_nodes_is_refused(uniform: bt.Policy) -> None:
    with pytest.raises(ValueError, match=r"k=400\.0 of n=1000\.0 .* num_nodes"):
        bt.kth_best_of_n(uniform, 1e3, 400.0)


@pytest.mark.parametrize(("threshold", "n_max"), [(0.7, 5.0), (0.5, 1.0), (0.9, 30.5)])
def test_stopping_at_a_rank_has_its_closed_forms(threshold: float, n_max: float) -> None:
    reference = bt.Policy.uniform_reward(breaks=(threshold,))
    stopped = bt.best_of_n_stopped(reference, threshold, n_max)
    a, most = threshold, n_max
    missed, draws = a**most, (1 - a**most) / (1 - a)
    win = most * a ** (most + 1) / (most + 1) + (1 - missed) * (1 + a) / 2
    kl = missed * (np.log(most) + (most - 1) * np.log(a) - (most - 1) / most)
    kl += (1 - missed) * np.log(draws)
    assert float(bt.win_rate(stopped, reference)) == pytest.approx(win, rel=1e-12)
    assert float(bt.kl_divergence(stopped, reference)) == pytest.approx(kl, rel=1e-12, abs=1e-15)
