"""The oracles against each other: every law by at least two routes that share nothing.

Also the formulas of the theory, so that the library rests on checked mathematics: each is compared
with enumeration in 40 digits, far below what a wrong term would change.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from tests.oracles import (
    bounds,
    continuous,
    discrete,
    divergences,
    monte_carlo,
    random_n,
    soft_continuous,
    soft_real_n,
    tilts,
)
from tests.oracles.multiprecision import Law, Real, mp

# Ties, a zero, a tiny probability, unsorted rewards.
LAWS: dict[str, tuple[list[float], list[float]]] = {
    "ternary": ([0.5, 0.3, 0.2], [0.0, 0.5, 1.0]),
    "ties": ([0.25, 0.125, 0.375, 0.25], [0.5, 1.0, 0.5, 0.0]),
    "tiny on top": ([0.625, 1e-200, 0.375], [0.0, 1.0, 0.25]),
    "tiny below": ([1e-200, 0.75, 0.25], [-1.0, 0.5, 0.25]),
    "zero": ([0.5, 0.0, 0.5], [0.0, 2.0, 1.0]),
}


@pytest.fixture(autouse=True)
def forty_digits() -> Any:
    with mp.workdps(40):
        yield


def assert_same(law: Law, other: Law, tolerance: float = 1e-22) -> None:
    assert len(law) == len(other)
    for p, q in zip(law, other, strict=True):
        assert abs(p - q) <= tolerance * q


def levels(law: tuple[list[float], list[float]]) -> list[tuple[Real, Real]]:
    """Return (F⁻, F) per outcome."""
    probs, rewards = discrete.normalized(law[0]), law[1]
    return [
        (
            mp.fsum(p for p, r in zip(probs, rewards, strict=True) if r < reward),
            mp.fsum(p for p, r in zip(probs, rewards, strict=True) if r <= reward),
        )
        for reward in rewards
    ]


def distorted(law: tuple[list[float], list[float]], distortion: Any) -> Law:
    """Return π [H(F) − H(F⁻)]/[F − F⁻] with digits to subtract 1e-200⁷ from 1."""
    with mp.workdps(1600):
        probs = [mp.mpf(p) for p in law[0]]
        probs = [p / mp.fsum(probs) for p in probs]
        result = []
        for p, reward in zip(probs, law[1], strict=True):
            a = mp.fsum(q for q, r in zip(probs, law[1], strict=True) if r < reward)
            b = mp.fsum(q for q, r in zip(probs, law[1], strict=True) if r <= reward)
            result.append(p * (distortion(b) - distortion(a)) / (b - a) if b > a else mp.mpf(0))
        return result


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("n", [1, 2, 7])
def test_rank_selections_are_distortions_of_the_distribution_function(name: str, n: int) -> None:
    law = LAWS[name]
    assert_same(discrete.best_of_n(*law, n), distorted(law, lambda u: u**n))
    assert_same(discrete.worst_of_n(*law, n), distorted(law, lambda u: 1 - (1 - u) ** n))


@pytest.mark.parametrize("name", LAWS)
def test_worst_is_best_of_the_negated_reward(name: str) -> None:
    probs, rewards = LAWS[name]
    best = discrete.best_of_n(probs, [-r for r in rewards], 5)
    assert_same(discrete.worst_of_n(probs, rewards, 5), best)


@pytest.mark.parametrize(
    ("name", "mean"), [("ternary", 3.0), ("ties", 0.125), ("tiny on top", 1.0)]
)
def test_poisson_mixtures_are_distortions(name: str, mean: float) -> None:
    law, mu = LAWS[name], mp.mpf(mean)
    poisson = random_n.best_of_poisson(*law, mean)
    assert_same(poisson, distorted(law, lambda u: u * mp.exp(mu * (u - 1))))
    # The win-rate-optimal policy is best-of-N, N Poisson given N ≥ 1.
    positive = random_n.best_of_positive_poisson(*law, mean)
    assert_same(positive, distorted(law, lambda u: mp.expm1(mu * u) / mp.expm1(mu)))


@pytest.mark.parametrize("name", LAWS)
def test_top_fraction_is_a_distortion(name: str) -> None:
    law = LAWS[name]
    for fraction in (0.125, 0.5, 1.0):
        q = mp.mpf(fraction)
        expected = distorted(law, lambda u, q=q: max(0, (u - 1 + q) / q))
        for p, other in zip(tilts.top_fraction(*law, fraction), expected, strict=True):
            assert abs(p - other) <= 1e-35


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(("n", "temperature"), [(1, 0.5), (6, 0.25), (9, 1e3)])
def test_soft_best_of_n_is_the_arrival_race(name: str, n: int, temperature: float) -> None:
    enumerated = discrete.soft_best_of_n(*LAWS[name], n, temperature)
    assert_same(soft_real_n.soft_best_of_n(*LAWS[name], n, temperature), enumerated)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("temperature", [1e-3, 0.5, 1e3])
def test_soft_best_of_two_is_a_logistic_average(name: str, temperature: float) -> None:
    probs, rewards = discrete.normalized(LAWS[name][0]), LAWS[name][1]
    scale = mp.mpf(temperature)
    logistic = [
        2
        * p
        * mp.fsum(
            q / (1 + mp.exp((mp.mpf(s) - r) / scale)) for q, s in zip(probs, rewards, strict=True)
        )
        for p, r in zip(probs, rewards, strict=True)
    ]
    assert_same(discrete.soft_best_of_n(*LAWS[name], 2, temperature), logistic)


@pytest.mark.parametrize("name", ["ternary", "ties"])
def test_soft_selections_run_from_best_of_n_to_the_reference(name: str) -> None:
    law = LAWS[name]
    for soft in (discrete.soft_best_of_n, discrete.exponential_race):
        assert_same(soft(*law, 6, 1e-3), discrete.best_of_n(*law, 6), 1e-50)
        assert_same(soft(*law, 6, 1e30), discrete.normalized(law[0]))
    # Error of order 1/n, with the constant n/(n − 1 + w̄) of the theory.
    far = soft_real_n.soft_best_of_n(*law, 1e15, 0.25)
    assert_same(far, tilts.exponential_tilt(*law, 0.25), 1e-13)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(("n", "temperature"), [(1, 0.5), (2, 0.25), (5, 1e-3), (5, 0.5), (4, 1e3)])
def test_exponential_race_by_both_routes(name: str, n: int, temperature: float) -> None:
    race = discrete.exponential_race(*LAWS[name], n, temperature)
    assert_same(race, discrete.exponential_race_by_counts(*LAWS[name], n, temperature), 1e-50)
    assert_same(race, race_closed_form(*LAWS[name], n, temperature))


def race_closed_form(probs: list[float], rewards: list[float], n: int, temperature: float) -> Law:
    """Return the closed form over outcomes sorted by weight, with digits to subtract in."""
    with mp.workdps(1000):
        total = mp.fsum(probs)
        p = [mp.mpf(x) / total for x in probs]
        w = [mp.exp((mp.mpf(r) - max(rewards)) / mp.mpf(temperature)) for r in rewards]
        order = sorted(range(len(p)), key=lambda j: w[j])
        law = [mp.mpf(0)] * len(p)
        for rank, x in enumerate(order):
            for k in range(rank, len(order)):
                below = order[: k + 1]
                mass = mp.fsum(p[j] for j in below)
                weight = mp.fsum(p[j] * w[j] for j in below)
                after = mass - (weight / w[order[k + 1]] if k + 1 < len(order) else 0)
                before = mass - weight / w[order[k]]
                law[x] += p[x] * w[x] * (after**n - before**n) / weight if weight else 0
        return law


def test_soft_best_of_poisson_is_its_integral() -> None:
    probs, rewards = LAWS["ternary"]
    w, p, mean = discrete.weights(rewards, 0.5), discrete.normalized(probs), mp.mpf(2)
    law = [mp.mpf(0)] * 3
    for s, width in soft_continuous.nodes(mp.mpf(-60), mp.mpf(8), mp.mpf(2)):
        t = mp.exp(s)
        survive = mp.fsum(a * mp.exp(-t * b) for a, b in zip(p, w, strict=True))
        others = (1 + mean * survive) * mp.exp(-mean * (1 - survive))
        for j in range(3):
            law[j] += width * t * p[j] * w[j] * mp.exp(-t * w[j]) * others
    assert_same(random_n.soft_best_of_poisson(probs, rewards, 2, 0.5), law)


def test_chi_squared_tilt_matches_the_closed_form_of_a_uniform_reward() -> None:
    size = 200
    rewards = [(j + 0.5) / size for j in range(size)]
    probs = [1 / size] * size
    for beta, mean in ((0.125, 5 / 6), (1.0, 0.5 + 1 / 12)):
        law = tilts.chi_squared_tilt(probs, rewards, beta)
        # ν = 1 − √(2β) and mean (2 + ν)/3 below β = ½, mean ½ + 1/(12β) above; K = 200 cells.
        assert abs(divergences.expected_value(law, rewards) - mean) < 1 / size**2


# --- divergences ------------------------------------------------------------------------------


def test_divergences_of_two_coins() -> None:
    p, q = [0.75, 0.25], [0.5, 0.5]
    assert abs(divergences.kl(p, q) - (mp.log(3) * 3 / 4 - mp.log(2))) < 1e-35
    assert divergences.chi_squared(p, q) == 0.25
    assert divergences.total_variation(p, q) == 0.25
    assert abs(divergences.squared_hellinger(p, q) - (2 - mp.sqrt(1.5) - mp.sqrt(0.5))) < 1e-35
    assert abs(divergences.renyi(p, q, 2) - mp.log(1.25)) < 1e-35
    assert abs(divergences.renyi(p, q, mp.inf) - mp.log(1.5)) < 1e-35
    assert abs(divergences.renyi([1, 0], q, 0) - mp.log(2)) < 1e-35


def test_divergences_are_f_divergences() -> None:
    p, q = discrete.best_of_n(*LAWS["ties"], 3), discrete.normalized(LAWS["ties"][0])
    pairs = [
        (divergences.kl(p, q), lambda x: x * mp.log(x)),
        (divergences.kl(q, p), lambda x: -mp.log(x)),
        (divergences.chi_squared(p, q), lambda x: x**2 - 1),
        (divergences.total_variation(p, q), lambda x: max(x - 1, 0)),
        (divergences.squared_hellinger(p, q), lambda x: 2 - 2 * mp.sqrt(x)),
        (
            divergences.jensen_shannon(p, q),
            lambda x: (x * mp.log(x) - (1 + x) * mp.log((1 + x) / 2)) / 2,
        ),
        (mp.exp(1.5 * divergences.renyi(p, q, 2.5)), lambda x: x ** mp.mpf(2.5)),
    ]
    for value, generator in pairs:
        assert abs(value - divergences.f_divergence(p, q, generator)) < 1e-35
    for order in (0.999999999, 1.000000001):
        assert abs(divergences.renyi(p, q, order) - divergences.kl(p, q)) < 1e-8


def test_mass_where_the_reference_has_none_is_an_infinite_divergence() -> None:
    p, q = [0.5, 0.5], [1.0, 0.0]
    assert divergences.kl(p, q) == divergences.chi_squared(p, q) == mp.inf
    assert divergences.renyi(p, q, 2) == divergences.renyi(p, q, mp.inf) == mp.inf
    assert abs(divergences.kl(q, p) - mp.log(2)) < 1e-35
    assert abs(divergences.renyi(q, p, 0) - mp.log(2)) < 1e-35


def test_win_rates_by_the_tie_convention() -> None:
    probs, rewards = LAWS["ties"]
    best = discrete.best_of_n(probs, rewards, 3)
    args = (best, rewards, discrete.normalized(probs), rewards)
    middle = mp.fsum(
        p * (a + b) / 2 for p, (a, b) in zip(best, levels((probs, rewards)), strict=True)
    )
    assert abs(divergences.win_rate(*args) - middle) < 1e-35
    won, lost = (divergences.win_rate(*args, ties=ties) for ties in ("win", "loss"))
    assert abs(won + lost - 2 * middle) < 1e-35
    assert lost < middle < won


# --- the real process -------------------------------------------------------------------------

SIGMAS = 5.0  # per outcome; false alarms below 6e-7 each, 1e-5 over this whole section
TRIALS = 200_000
PROCESSES = {
    "best": (monte_carlo.best, discrete.best_of_n, ()),
    "worst": (monte_carlo.worst, discrete.worst_of_n, ()),
    "soft": (monte_carlo.soft(0.5), discrete.soft_best_of_n, (0.5,)),
    "race": (monte_carlo.race(0.5), discrete.exponential_race, (0.5,)),
}


def largest_deviation(counts: Any, law: Law) -> float:
    p = np.array([float(x) for x in law])
    return float(np.max(np.abs(counts / TRIALS - p) / np.sqrt(p * (1 - p) / TRIALS)))


@pytest.mark.parametrize("name", PROCESSES)
def test_the_real_process_has_the_enumerated_law(name: str) -> None:
    rule, law, extra = PROCESSES[name]
    probs, rewards = LAWS["ties"]
    rng = np.random.default_rng(20251)
    counts = monte_carlo.count_picks(rng, probs, rewards, 4, rule, num_trials=TRIALS)
    assert counts.sum() == TRIALS
    assert largest_deviation(counts, law(probs, rewards, 4, *extra)) < SIGMAS
    # Power: the law for five draws is told apart.
    assert largest_deviation(counts, law(probs, rewards, 5, *extra)) > 2 * SIGMAS


# --- facts of the theory that are not a formula for a law ---------------------------------------


def test_kl_of_discrete_best_of_n_falls_short_by_the_divergence_within_atoms() -> None:
    """log n − (n−1)/n − KL = Σ_j P_j KL(u^{n−1} on atom j ‖ uniform on it)."""
    n, law = 3, LAWS["ternary"]
    best, reference = discrete.best_of_n(*law, n), discrete.normalized(law[0])
    shortfall = mp.log(n) - mp.mpf(n - 1) / n - divergences.kl(best, reference)
    within = mp.mpf(0)
    for p, (a, b) in zip(best, levels(law), strict=True):
        density = lambda u, p=p: n * u ** (n - 1) / p  # noqa: E731
        within += p * mp.quad(
            lambda u, a=a, b=b, density=density: density(u) * mp.log(density(u) * (b - a)), [a, b]
        )
    assert shortfall > 0.04
    assert abs(within - shortfall) < 1e-20


def test_excess_kl_of_best_of_poisson_over_the_tilt_peaks_where_the_theory_says() -> None:
    def excess(mean: Any) -> Real:
        law = continuous.best_of_poisson(mean)
        mu = continuous.win_rate(law)
        c = mp.findroot(lambda c: 1 / -mp.expm1(-c) - 1 / c - mu, (mp.mpf(mean), mp.mpf(mean) + 1))
        return continuous.kl(law) - (c * mu - mp.log(mp.expm1(c) / c))

    with mp.workdps(20):
        left, peak, right = (excess(mean) for mean in (3.3, 3.358, 3.42))
    assert left < peak > right
    assert abs(peak - 6.751e-4) < 5e-8


def test_small_strength_expansion_of_the_optimum() -> None:
    c = mp.mpf("0.01")
    law = continuous.win_rate_optimal(c)
    # The next terms are c⁵/30240 and c⁶/36288.
    assert abs(continuous.win_rate(law) - (0.5 + c / 12 - c**3 / 720)) < c**5 / 30000
    assert abs(continuous.kl(law) - (c**2 / 24 - c**4 / 960)) < c**6 / 30000


def test_the_kl_from_the_tilt_falls_as_the_square_of_n() -> None:
    law, temperature = LAWS["ternary"], 0.5
    tilt = tilts.exponential_tilt(*law, temperature)
    relative = [t / p for t, p in zip(tilt, discrete.normalized(law[0]), strict=True)]
    mean = divergences.expected_value(tilt, relative)
    limit = divergences.expected_value(tilt, [(w - mean) ** 2 for w in relative]) / 2
    rewards = [mp.mpf(r) for r in law[1]]
    covariance = divergences.expected_value(
        tilt, [r * (w - mean) for r, w in zip(rewards, relative, strict=True)]
    )
    gaps = []
    for n in (10**3, 10**4):
        soft = soft_real_n.soft_best_of_n(*law, n, temperature)
        drop = divergences.expected_value(tilt, rewards) - divergences.expected_value(soft, rewards)
        gaps.append(
            (
                n**2 * divergences.kl(tilt, soft) / limit - 1,
                n**2 * divergences.kl(soft, tilt) / limit - 1,
                n * drop / covariance - 1,
                2
                * n
                * divergences.total_variation(soft, tilt)
                / divergences.expected_value(tilt, [abs(w - mean) for w in relative])
                - 1,
            )
        )
    for coarse, fine in pairwise(gaps):
        for before, after in zip(coarse, fine, strict=True):
            # First-order corrections: ten times the draws, a tenth of the distance.
            assert abs(after) < 1e-3
            assert abs(after / before) == pytest.approx(0.1, rel=0.02)


def test_an_oracle_leaves_the_precision_as_it_found_it() -> None:
    """Where 120 digits stayed on, every integral of the tests after it took ten times as long."""
    probs, rewards = [0.5, 0.5], [0.0, 1.0]
    of_poisson = bounds.values(
        probs, rewards, rewards, n=2.0, temperature=0.5, order=2.0,
        mean_extra_draws=1.0, strength=1.0, ratio=2.0,
    )["best_of_poisson_kl"]  # fmt: skip
    assert mp.dps == 40
    assert len(mp.nstr(of_poisson(), 200)) > 110
    assert mp.dps == 40
