"""Every number that the theory reference prints for selections, from the oracles alone.

A printed number is right if no printed digit is wrong: |computed − printed| ≤ half a unit in its
last place.
"""

from collections.abc import Callable
from decimal import Decimal
from functools import cache
from itertools import pairwise
from typing import Any

import pytest

from tests.oracles import continuous, discrete, divergences, soft_real_n, tilts
from tests.oracles.multiprecision import Real, mp
from tests.oracles.soft_continuous import SoftBestOfN

TERNARY = ([0.5, 0.3, 0.2], [0.0, 0.5, 1.0])
BINARY = ([0.7, 0.3], [0.0, 1.0])


def agrees(computed: Any, printed: str) -> bool:
    exponent = Decimal(printed).as_tuple().exponent
    assert isinstance(exponent, int)
    with mp.workdps(40):
        # A millionth of the unit covers the float inputs (0.1 is not a tenth).
        unit = mp.mpf(10) ** exponent
        return bool(abs(mp.mpf(computed) - mp.mpf(printed)) <= unit * mp.mpf("0.500001"))


def optimal_win_rate(c: Any) -> Real:
    return continuous.win_rate(continuous.win_rate_optimal(c))


def optimal_kl(c: Any) -> Real:
    return continuous.kl(continuous.win_rate_optimal(c))


@cache
def equal_kl_strength(n: float) -> Real:
    """Return c with KL(c) = KL(best-of-n), both by quadrature."""
    target = continuous.kl(continuous.best_of_n(n))
    with mp.workdps(25):
        return mp.findroot(lambda c: optimal_kl(c) - target, (mp.mpf(n), mp.mpf(n) + 1), tol=1e-18)


def gap(n: float) -> Real:
    return optimal_win_rate(equal_kl_strength(n)) - continuous.win_rate(continuous.best_of_n(n))


def soft(n: int, temperature: float) -> list[Real]:
    return discrete.soft_best_of_n(*TERNARY, n, temperature)


@cache
def soft_uniform(n: int, temperature: float) -> SoftBestOfN:
    return SoftBestOfN("uniform", n, temperature)


def soft_1000() -> list[Real]:
    return soft_real_n.soft_best_of_n(*TERNARY, 1000, 0.5)


def tilt(temperature: float) -> list[Real]:
    return tilts.exponential_tilt(*TERNARY, temperature)


def reference() -> list[Real]:
    return discrete.normalized(TERNARY[0])


def best_performance(law: tuple[list[float], list[float]], n: int, ties: Any) -> Real:
    probs, rewards = law
    policy = discrete.best_of_n(probs, rewards, n)
    return divergences.win_rate(policy, rewards, discrete.normalized(probs), rewards, ties=ties)


def best_kl(law: tuple[list[float], list[float]], n: int) -> Real:
    return divergences.kl(discrete.best_of_n(*law, n), discrete.normalized(law[0]))


def top_atom_kl(epsilon: Any, n: int) -> Real:
    """Return KL of best-of-n for one top atom ε over a continuum, each part by itself."""
    with mp.workdps(40):
        eps = mp.mpf(epsilon)
        below = mp.quad(lambda u: n * u ** (n - 1) * mp.log(n * u ** (n - 1)), [0, 1 - eps])
        top = 1 - (1 - eps) ** n
        return below + top * mp.log(top / eps)


def uniform_levels_kl(levels: int, n: int) -> Real:
    with mp.workdps(40):
        top = [(mp.mpf(j) / levels) ** n for j in range(levels + 1)]
        masses = [b - a for a, b in pairwise(top)]
        return mp.fsum(p * mp.log(p * levels) for p in masses)


def relative_weights(temperature: float) -> list[Real]:
    w = discrete.weights(TERNARY[1], temperature)
    mean = mp.fsum(p * v for p, v in zip(reference(), w, strict=True))
    return [v / mean for v in w]


def weight_variance_under_tilt(temperature: float) -> Real:
    w, p = relative_weights(temperature), tilt(temperature)
    mean = divergences.expected_value(p, w)
    return divergences.expected_value(p, [(v - mean) ** 2 for v in w])


NUMBERS: dict[str, tuple[Callable[[], Any], str]] = {
    # Win rate and KL of the win-rate-optimal policy.
    "WR(0.1)": (lambda: optimal_win_rate("0.1"), "0.5083319448"),
    "KL(0.1)": (lambda: optimal_kl("0.1"), "0.0004165625276"),
    "WR(1)": (lambda: optimal_win_rate(1), "0.5819767069"),
    "KL(1)": (lambda: optimal_kl(1), "0.04065185226"),
    "WR(5)": (lambda: optimal_win_rate(5), "0.8067836549"),
    "KL(5)": (lambda: optimal_kl(5), "0.6501169364"),
    "WR(50)": (lambda: optimal_win_rate(50), "0.98"),
    "KL(50)": (lambda: optimal_kl(50), "2.912023005"),
    # At the KL of best-of-n: strength, win rate, advantage.
    **{
        f"c_{n}": (lambda n=n: equal_kl_strength(n), c)
        for n, c in {
            2: "2.288640586",
            4: "4.916907932",
            8: "9.054541421",
            64: "65.00785335",
        }.items()
    },
    **{
        f"WR_opt({n})": (lambda n=n: optimal_win_rate(equal_kl_strength(n)), w)
        for n, w in {
            2: "0.6759068193",
            4: "0.8039958879",
            8: "0.8896750565",
            64: "0.9846172432",
        }.items()
    },
    **{
        f"gap({n})": (lambda n=n: gap(n), g)
        for n, g in {2: "9.24015e-3", 4: "3.99589e-3", 8: "7.86168e-4", 64: "1.85856e-6"}.items()
    },
    "largest gap": (lambda: gap(1.778), "0.009473"),
    # Best-of-Poisson.
    **{
        f"KL(Poisson {mu})": (lambda mu=mu: continuous.kl(continuous.best_of_poisson(mu)), v)
        for mu, v in {1: ".1071535839", 2: ".2987243092", 5: ".8334494258"}.items()
    },
    # Discrete best-of-n.
    **{
        f"ternary best-of-3, outcome {j}": (lambda j=j: discrete.best_of_n(*TERNARY, 3)[j], v)
        for j, v in enumerate([".125", ".387", ".488"])
    },
    "ternary KL": (lambda: best_kl(TERNARY, 3), ".360555"),
    "ternary win": (lambda: best_performance(TERNARY, 3, "win"), ".8601"),
    "ternary loss": (lambda: best_performance(TERNARY, 3, "loss"), ".5839"),
    "ternary half": (lambda: best_performance(TERNARY, 3, "half"), ".7220"),
    "binary best-of-8, low": (lambda: discrete.best_of_n(*BINARY, 8)[0], ".057648"),
    "binary best-of-8, high": (lambda: discrete.best_of_n(*BINARY, 8)[1], ".942352"),
    "binary KL": (lambda: best_kl(BINARY, 8), ".934681"),
    "binary half": (lambda: best_performance(BINARY, 8, "half"), ".821176"),
    "100 levels KL": (lambda: uniform_levels_kl(100, 10), "1.4021632888"),
    "100 levels top-atom KL": (lambda: top_atom_kl("0.01", 10), "1.4025525051"),
    # Soft best-of-n.
    **{
        f"soft(4, .5), outcome {j}": (lambda j=j: soft(4, 0.5)[j], v)
        for j, v in enumerate([".26155819", ".33785150", ".40059031"])
    },
    "soft(4, .5) KL(tilt‖P)": (lambda: divergences.kl(tilt(0.5), soft(4, 0.5)), "3.6633494709e-2"),
    "soft(4, .5) KL(P‖tilt)": (lambda: divergences.kl(soft(4, 0.5), tilt(0.5)), "3.7116734332e-2"),
    "soft(4, .5) KL(P‖π)": (lambda: divergences.kl(soft(4, 0.5), reference()), ".1489266696"),
    **{
        f"soft(64, .1), outcome {j}": (lambda j=j: soft(64, 0.1)[j], v)
        for j, v in enumerate(["1.22476968e-4", ".010899581", ".98897794"])
    },
    "soft(64, .1) KL(tilt‖P)": (
        lambda: divergences.kl(tilt(0.1), soft(64, 0.1)),
        "3.8631958668e-5",
    ),
    "soft(64, .1) KL(P‖tilt)": (
        lambda: divergences.kl(soft(64, 0.1), tilt(0.1)),
        "3.9739005924e-5",
    ),
    "soft(64, .1) KL(P‖π)": (lambda: divergences.kl(soft(64, 0.1), reference()), "1.5435864316"),
    # Soft best-of-n of a uniform reward.
    "uniform(2, .1) mean": (lambda: soft_uniform(2, 0.1).win_rate(), ".6538224071"),
    "uniform(2, .1) KL": (lambda: soft_uniform(2, 0.1).kl(), ".1575084027"),
    "uniform(2, .1) KL from tilt": (
        lambda: soft_uniform(2, 0.1).kl_from_tilt(),
        ".7648438",
    ),
    "uniform(8, .5) mean": (lambda: soft_uniform(8, 0.5).win_rate(), ".6371698129"),
    "uniform(8, .5) KL": (lambda: soft_uniform(8, 0.5).kl(), ".1156902145"),
    "uniform(8, .5) KL from tilt": (
        lambda: soft_uniform(8, 0.5).kl_from_tilt(),
        "2.786385e-3",
    ),
    # The n² law of the KL from the tilt.
    "χ²": (lambda: divergences.chi_squared(tilt(0.5), reference()), ".74768916"),
    "½Var": (lambda: weight_variance_under_tilt(0.5) / 2, ".4735402223"),
    "n²KL, n=10": (lambda: 100 * divergences.kl(tilt(0.5), soft(10, 0.5)), ".5530888"),
    "n²KL, n=1000": (lambda: 10**6 * divergences.kl(tilt(0.5), soft_1000()), ".4744042"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_no_printed_digit_is_wrong(name: str) -> None:
    compute, printed = NUMBERS[name]
    assert agrees(compute(), printed), f"{name}: {mp.nstr(compute(), 14)}, printed {printed}"


def test_a_wrong_last_digit_is_noticed() -> None:
    assert not agrees(best_kl(TERNARY, 3), ".360556")
