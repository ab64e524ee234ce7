"""Selections of discrete laws against enumeration in multiprecision, outcome by outcome.

All cases of a selection go through it in one batch, so each is compiled once.
"""

import json
import math
from collections.abc import Callable, Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from tests.oracles import discrete, divergences, random_n, soft_many, tilts
from tests.oracles.multiprecision import Law, mp

# Four outcomes each; rewards are in no order, and probabilities sum to one up to rounding.
LAWS: dict[str, tuple[list[float], list[float]]] = {
    "distinct": ([0.1, 0.2, 0.3, 0.4], [0.5, -0.25, 1.0, 0.0]),
    "two tied": ([0.25, 0.4, 0.05, 0.3], [0.5, 0.5, 1.0, 0.0]),
    "tied on top": ([0.5, 0.2, 0.2, 0.1], [0.25, 1.0, 0.0, 1.0]),
    "all tied": ([0.1, 0.2, 0.3, 0.4], [0.7, 0.7, 0.7, 0.7]),
    "a tiny best": ([0.5, 0.25, 1e-200, 0.25], [0.0, 0.5, 1.0, 0.75]),
    "a tiny worst": ([0.5, 1e-200, 0.25, 0.25], [0.25, 0.0, 0.5, 1.0]),
    "a tiny tie on top": ([0.5, 1e-200, 0.125, 0.375], [0.0, 1.0, 1.0, 0.125]),
    "tiny but one": ([1e-12, 1e-100, 1.0, 1e-200], [1.0, 0.75, 0.0, 0.25]),
    "a placeholder": ([0.1, 0.2, 0.3, 0.4], [-1e9, 0.5, 1.0, 0.0]),
    "impossible outcomes": ([0.6, 0.0, 0.4, 0.0], [0.0, 2.0, 1.0, -1.0]),
}
SIZES = (1, 2, 11)
TEMPERATURES = (1e-3, 0.03, 0.5, 1e3)
# A twentieth of a second of enumeration each, as soft selection from 24.
LARGE = ("distinct", "tied on top", "a tiny best")

Case = tuple[list[float], list[float], *tuple[float, ...]]


def cases(*parameters: Sequence[float], names: Iterable[str] = LAWS) -> list[Case]:
    return [(*LAWS[name], *rest) for name in names for rest in product(*parameters)]


def computed(select: Callable[..., bt.Policy], table: Sequence[Case]) -> np.ndarray:
    """Return log P of every case, from one batched call."""

    @jax.jit
    def log_probs(probs: jax.Array, rewards: jax.Array, *parameters: jax.Array) -> jax.Array:
        return select(bt.Policy.from_probs(probs, rewards), *parameters).log_probs

    columns = (jnp.asarray(column, float) for column in zip(*table, strict=True))
    return np.asarray(log_probs(*columns))


def worst_error(select: Callable[..., bt.Policy], oracle: Callable[..., Law], table: Any) -> float:
    """Return the largest error of a probability over the cases; see ``log_error``."""
    expected = [discrete.logs(oracle(*case)) for case in table]
    return log_error(computed(select, table), expected)


def log_error(log_probs: np.ndarray, expected: Any) -> float:
    """Return the largest relative error of a probability, in units of what float64 can hold.

    A probability is stored as a logarithm L, which has a rounding error of |L| eps: beyond
    |L| = 1000 (below 1e-434, no longer a float64) the unit grows in proportion.
    """
    expected = np.asarray(expected, dtype=float)
    np.testing.assert_array_equal(log_probs == -np.inf, expected == -np.inf)
    possible = expected > -np.inf
    error = np.abs(log_probs[possible] - expected[possible])
    return float(np.max(error / np.maximum(1, np.abs(expected[possible]) / 1000)))


@pytest.mark.parametrize(
    ("select", "oracle"),
    [(bt.best_of_n, discrete.best_of_n), (bt.worst_of_n, discrete.worst_of_n)],
    ids=["best", "worst"],
)
def test_rank_selections_equal_enumeration(select: Any, oracle: Any) -> None:
    table = cases(SIZES) + cases((40,), names=LARGE)
    assert worst_error(select, oracle, table) < 1e-12


@pytest.mark.parametrize(
    ("select", "oracle"),
    [(bt.kth_best_of_n, discrete.kth_best_of_n), (bt.top_k_of_n, discrete.top_k_of_n)],
    ids=["k-th best", "top k"],
)
def test_order_statistics_equal_enumeration(select: Any, oracle: Any) -> None:
    pairs = ((1, 1), (2, 1), (2, 2), (11, 1), (11, 2), (11, 7), (11, 11))
    table: list[Any] = [(*law, *pair) for law in LAWS.values() for pair in pairs]
    assert worst_error(select, oracle, table) < 1e-12


def test_best_of_n_stopped_equals_enumeration() -> None:
    """Where a level is passed, its share above is a difference of masses: absolute error here."""
    table: list[Any] = cases((0.0, 0.05, 0.3, 0.65, 0.999, 1.0), SIZES)
    expected = np.array([[float(p) for p in discrete.best_of_n_stopped(*c)] for c in table])
    errors = np.abs(np.exp(computed(bt.best_of_n_stopped, table)) - expected)
    assert errors.max() < 1e-12


def test_soft_best_of_n_equals_enumeration() -> None:
    table = cases(SIZES, TEMPERATURES) + cases((24,), TEMPERATURES, names=LARGE)
    assert worst_error(bt.soft_best_of_n, discrete.soft_best_of_n, table) < 1e-12


def test_a_relative_error_of_1e_11_in_a_parameter_is_noticed() -> None:
    """The power of the tests above."""

    def perturbed(reference: bt.Policy, n: jax.Array, temperature: jax.Array) -> bt.Policy:
        return bt.soft_best_of_n(reference, n, temperature * (1 + 1e-11))

    assert worst_error(perturbed, discrete.soft_best_of_n, cases((3,), (0.1,))) > 1e-12


def test_exponential_race_equals_quadrature_of_the_race() -> None:
    table = cases((2, 40), TEMPERATURES)
    assert worst_error(bt.exponential_race, discrete.exponential_race, table) < 1e-10


def test_an_exponential_race_of_two_on_many_outcomes_is_every_pairs() -> None:
    """One beats another by d in r/λ with probability 1 - e^{-d}/2, or e^{d}/2 where d < 0."""
    random = np.random.default_rng(5)
    probs, rewards = random.dirichlet(np.full(600, 0.3)), random.choice(4000, 600) / 100
    d = (rewards[:, None] - rewards[None]) / 0.5
    beats = np.where(d >= 0, 1 - np.exp(-abs(d)) / 2, np.exp(-abs(d)) / 2)
    found = bt.exponential_race(bt.Policy.from_probs(probs, rewards), 2, 0.5)
    np.testing.assert_allclose(found.probs, 2 * probs * (beats @ probs), rtol=1e-11)


@pytest.mark.parametrize(
    ("select", "oracle"),
    [
        (bt.best_of_poisson, random_n.best_of_poisson),
        (bt.win_rate_optimal, random_n.best_of_positive_poisson),
    ],
    ids=["poisson", "positive poisson"],
)
def test_random_numbers_of_candidates_equal_their_mixture(select: Any, oracle: Any) -> None:
    table = [(*law, mean) for law in RESTRICTED for mean in (0.25, 3.0)]
    assert worst_error(select, oracle, table) < 1e-12


# Three outcomes, for what enumerates many n.
RESTRICTED = [
    ([0.5, 0.3, 0.2], [0.0, 0.5, 1.0]),
    ([0.5, 0.3, 0.2], [1.0, 0.5, 1.0]),
    ([0.75, 1e-200, 0.25], [0.0, 1.0, 0.5]),
]


def test_soft_best_of_poisson_equals_its_mixture() -> None:
    table = [(*law, 1.5, temperature) for law in RESTRICTED for temperature in (0.05, 0.5)]
    assert worst_error(bt.soft_best_of_poisson, random_n.soft_best_of_poisson, table) < 1e-12


def test_exponential_tilt_equals_its_sum() -> None:
    table = cases(TEMPERATURES)
    assert worst_error(bt.exponential_tilt, tilts.exponential_tilt, table) < 1e-12


def test_chi_squared_tilt_equals_bisection() -> None:
    # Outcomes near the cut have P ∝ r − ν by cancellation: absolute error here.
    table = cases((0.01, 0.3, 5.0))
    expected = np.array([[float(p) for p in tilts.chi_squared_tilt(*case)] for case in table])
    assert np.abs(np.exp(computed(bt.chi_squared_tilt, table)) - expected).max() < 1e-13


def test_top_fraction_equals_filling_from_the_top() -> None:
    table = cases((0.001, 0.3, 0.65, 1.0))
    expected = np.array([[float(p) for p in tilts.top_fraction(*case)] for case in table])
    # The level that fits in part is a difference of masses near 1, over the fraction.
    assert np.abs(np.exp(computed(bt.top_fraction, table)) - expected).max() < 1e-12


def test_temperature_limits_are_the_hard_rule_and_the_reference() -> None:
    for select, hard in (
        (bt.soft_best_of_n, bt.best_of_n),
        (bt.exponential_race, bt.best_of_n),
        (bt.soft_best_of_poisson, bt.best_of_poisson),
    ):
        at_zero = computed(select, cases((3,), (0.0,)))
        np.testing.assert_allclose(at_zero, computed(hard, cases((3,))), rtol=1e-13, atol=1e-13)
        at_infinity = computed(select, cases((3,), (math.inf,)))
        reference = computed(bt.best_of_n, cases((1,)))
        np.testing.assert_allclose(at_infinity, reference, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("temperature", [0.0, 0.5, math.inf])
def test_a_single_outcome_is_always_selected(temperature: float) -> None:
    only = bt.Policy.from_probs([1.0], [0.7])
    for select in (bt.soft_best_of_n, bt.exponential_race, bt.soft_best_of_poisson):
        assert select(only, 3.0, temperature).log_probs.tolist() == pytest.approx([0], abs=1e-14)


@pytest.mark.parametrize(
    ("dtype", "placeholder", "accuracy"), [(np.float64, -1e16, 1e-15), (np.float32, -1e4, 1e-6)]
)
def test_a_placeholder_reward_does_not_harden_a_soft_selection(
    dtype: Any, placeholder: float, accuracy: float
) -> None:
    """n = 2, λ = 0.01: P(x) = 2π(x) E σ((r(x) - r(X'))/λ), and a placeholder loses every duel."""
    probs, rewards = np.array([0.1, 0.4, 0.3, 0.2]), np.array([0.0, 0.5, 0.51, 0.52])
    duel = 1 / (1 + np.exp(-(rewards[:, None] - rewards[None, :]) / 0.01))
    expected = 2 * probs * (duel @ probs)
    rewards[0] = placeholder
    law = bt.Policy.from_probs(probs.astype(dtype), rewards)
    np.testing.assert_allclose(bt.soft_best_of_n(law, 2.0, 0.01).probs, expected, rtol=accuracy)
    tilt = probs[1:] * np.exp((rewards[1:] - 0.52) / 0.01)
    np.testing.assert_allclose(
        bt.exponential_tilt(law, 0.01).probs[1:], tilt / tilt.sum(), rtol=10 * accuracy
    )


def test_fractional_n_keeps_the_relative_accuracy_of_a_rare_worst() -> None:
    """M^{n-1} has a branch point near the real line where only an outcome e^-L is left."""
    table = [
        ([-math.expm1(-rarity), math.exp(-rarity)], [gap, 0.0], n, 1.0)
        for rarity in (4, 9, 18, 27, 36)
        for gap in (1.0, 4.0, 8.0)
        for n in (1.0625, 1.25, 1.5, 1.75, 2.5, 3.5, 4.5)
    ]
    expected = [
        soft_many.log_law(np.log(probs), np.array(rewards), n, step=1 / 256)
        for probs, rewards, n, _ in table
    ]
    assert log_error(computed(bt.soft_best_of_n, table), expected) < 1e-12


# --- far beyond enumeration: n to 1e15, ranges to 1e4 temperatures ------------------------------

EXTREME = json.loads((Path(__file__).parents[1] / "golden" / "soft_extreme.json").read_text())


def test_soft_best_of_n_is_exact_far_beyond_enumeration() -> None:
    table = [(row["probs"], row["rewards"], row["n"], row["temperature"]) for row in EXTREME]
    expected = [row["log_law"] for row in EXTREME]
    assert log_error(computed(bt.soft_best_of_n, table), expected) < 1e-12


@pytest.fixture(scope="module")
def certified() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and certificates of 300 random laws of 8 outcomes, over the whole domain."""
    rng, size = np.random.default_rng(7), 300
    probs = jnp.asarray(rng.dirichlet(np.full(8, 0.3), size=size))
    rewards = rng.random((size, 8))
    rewards[: size // 3] = np.round(rewards[: size // 3] * 3)  # ties
    # Below 4 a real n is hardest: M^{n−1} then has branch points near the axis of integration.
    n = 10.0 ** rng.uniform(0, 15, size)
    n[::3] = rng.uniform(1, 4, len(n[::3]))
    temperature = jnp.asarray(np.ptp(rewards, axis=1).clip(0.1) / 10.0 ** rng.uniform(-3, 4, size))
    reference = bt.Policy.from_probs(probs, jnp.asarray(rewards))
    policy = bt.soft_best_of_n(reference, jnp.asarray(n), temperature)
    return np.asarray(policy.probs), np.asarray(bt.certificate(policy))


def test_certificate_is_small_everywhere(certified: tuple[np.ndarray, np.ndarray]) -> None:
    assert certified[1].shape == (300,)
    assert certified[1].max() <= 1e-12


def test_certificate_is_honest(certified: tuple[np.ndarray, np.ndarray]) -> None:
    for probs, certificate in zip(*certified, strict=True):
        # The sum is exact here; adding eight numbers costs the certificate 8 roundings at most.
        assert certificate >= abs(math.fsum([*probs, -1.0])) - 8 * np.finfo(float).eps


def test_certificate_notices_lost_mass_in_single_precision() -> None:
    """Honesty where errors are not zero: float32, whose mass error is far above 1e-12."""
    probs = jnp.asarray([0.5, 0.3, 0.2], jnp.float32)
    rewards = jnp.asarray([0.0, 0.5, 1.0], jnp.float32)
    n = jnp.asarray([1.5, 64.0, 1e6], jnp.float32)
    reference = bt.Policy.from_probs(jnp.tile(probs, (3, 1)), jnp.tile(rewards, (3, 1)))
    policy = bt.soft_best_of_n(reference, n, jnp.full(3, 0.05, jnp.float32))
    certificate = bt.certificate(policy)
    for row, bound in zip(np.asarray(policy.probs, dtype=float), certificate, strict=True):
        assert float(bound) >= abs(row.sum() - 1) - 3 * np.finfo(np.float32).eps
        assert float(bound) < 1e-5


# --- divergences and performance of discrete laws ------------------------------------------

ORDERS = (0.0, 0.25, 0.5, 1 - 1e-6, 1.0, 1 + 1e-9, 2.0, 7.5, math.inf)
DIVERGENCES: dict[str, tuple[Callable[..., jax.Array], Callable[..., Any]]] = {
    "kl": (bt.kl_divergence, divergences.kl),
    "chi squared": (bt.chi_squared_divergence, divergences.chi_squared),
    "total variation": (bt.total_variation, divergences.total_variation),
    "squared hellinger": (bt.squared_hellinger, divergences.squared_hellinger),
    "jensen shannon": (bt.jensen_shannon, divergences.jensen_shannon),
    "f": (
        lambda p, q: bt.f_divergence(p, q, lambda t: (t - 1) * jnp.log(t)),
        lambda p, q: divergences.kl(p, q) + divergences.kl(q, p),
    ),
    **{
        f"renyi {order}": (
            lambda p, q, order=order: bt.renyi_divergence(p, q, order),
            lambda p, q, order=order: divergences.renyi(p, q, order),
        )
        for order in ORDERS
    },
}
# A law far from the reference, and one at a distance of 1e-7 where naive sums cancel.
PAIRS: list[Case] = [
    (*law, n)
    for name, law in LAWS.items()
    if name != "impossible outcomes"
    for n in (1 + 2.0**-23, 5)
]


Pairs = tuple[bt.Policy, bt.Policy, list[Law], list[Law]]


@pytest.fixture(scope="module")
def pairs() -> Pairs:
    """Best-of-n and its reference, and both as the exact numbers that the floats stand for."""
    probs, rewards, n = (jnp.asarray(column, float) for column in zip(*PAIRS, strict=True))
    reference = bt.Policy.from_probs(probs, rewards)
    policy = bt.best_of_n(reference, n)
    with mp.workdps(70):
        exact_policy, exact_reference = (
            [[mp.exp(mp.mpf(x)) for x in row] for row in np.asarray(law.log_probs).tolist()]
            for law in (policy, reference)
        )
    return policy, reference, exact_policy, exact_reference


@pytest.fixture(scope="module")
def divergence_values(pairs: Pairs) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Every divergence of all pairs, forwards and with the arguments swapped."""

    @jax.jit
    def everything(p: bt.Policy, q: bt.Policy) -> dict[str, jax.Array]:
        return {name: jax.vmap(library)(p, q) for name, (library, _) in DIVERGENCES.items()}

    return everything(pairs[0], pairs[1]), everything(pairs[1], pairs[0])


# Checked for staleness: a failure that is mended turns the suite red until it leaves this table.
@pytest.mark.parametrize(
    ("name", "swapped"),
    list(product(DIVERGENCES, [False, True])),
)
def test_divergences_equal_their_sums(
    pairs: Pairs, divergence_values: Any, name: str, swapped: bool
) -> None:
    oracle = DIVERGENCES[name][1]
    first, second = (pairs[3], pairs[2]) if swapped else (pairs[2], pairs[3])
    # These are of first order in the rounding of each law's total mass; the others are of second
    # order, and their oracle must divide it out.
    first_order = name in ("total variation", "renyi 0.0", "renyi inf")
    with mp.workdps(70):
        expected = [
            oracle(a, b) if first_order else oracle(discrete.normalized(a), discrete.normalized(b))
            for a, b in zip(first, second, strict=True)
        ]
    # The generator sees 1 + ℓ, and Rényi's terms are differences of order ℓ: for the near pairs,
    # ℓ ~ 1e-7, that leaves eps·ℓ; the others are sums of squares.
    differences = name == "f" or name.startswith("renyi")
    np.testing.assert_allclose(
        divergence_values[swapped][name],
        np.array([float(value) for value in expected]),
        rtol=1e-12,
        atol=4e-15 if first_order else 1e-22 if differences else 1e-26,
    )


@pytest.mark.parametrize("ties", ["half", "win", "loss"])
def test_win_rates_equal_the_double_sum(pairs: Any, ties: Any) -> None:
    policy, reference, exact_policy, exact_reference = pairs
    values = np.asarray(bt.win_rate(policy, reference, ties=ties))
    for value, p, q, (_, rewards, _) in zip(
        values, exact_policy, exact_reference, PAIRS, strict=True
    ):
        expected = divergences.win_rate(p, rewards, q, rewards, ties=ties)
        assert float(value) == pytest.approx(float(expected), rel=1e-14)


def test_expected_rewards_equal_the_sum(pairs: Any) -> None:
    policy, _, exact_policy, _ = pairs
    for value, p, (_, rewards, _) in zip(
        np.asarray(bt.expected_reward(policy)), exact_policy, PAIRS, strict=True
    ):
        expected = float(divergences.expected_value(p, rewards))
        assert float(value) == pytest.approx(expected, rel=1e-14, abs=1e-16)
