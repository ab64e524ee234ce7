"""Each process against its law: by enumeration where discrete, ties included, else by integrals.

All comparisons are one family: a false alarm has probability 1e-6 over the whole file. Power:
errors of the size that matters are planted, with the number of trials computed in advance.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpmath import mp
from scipy import optimize, special, stats

from simulations.draws.references import (
    ContinuousReference,
    discrete_reference,
    exponential_reward,
    gaussian_reward,
    uniform_reward,
)
from simulations.engine.simulate import simulate
from simulations.selection import samplers
from simulations.selection.races import Sampler
from simulations.statistics.checks import check_histogram, check_mean, required_trials
from tests.oracles import discrete, noisy, random_n, reachable, tilts

FALSE_ALARM = 1e-6
TRIALS = 300_000

PROBS, REWARDS = [0.3, 0.1, 0.4, 0.2], [0.5, 1.0, 0.0, 1.0]  # a tie, unsorted
FEW = [0.4, 0.35, 0.25], [0.0, 1.0, 1.0]  # where the oracle enumerates up to 35 candidates
N, TEMPERATURE, STRENGTH, FRACTION = 3, 0.4, 1.5, 0.45

DISCRETE = {
    "best_of_n": (samplers.best_of_n, discrete.best_of_n, (N,)),
    "worst_of_n": (samplers.worst_of_n, discrete.worst_of_n, (N,)),
    "kth_best_of_n": (samplers.kth_best_of_n, discrete.kth_best_of_n, (4, 2)),
    "top_k_of_n": (samplers.top_k_of_n, discrete.top_k_of_n, (4, 3)),
    "best_of_n_stopped": (samplers.best_of_n_stopped, discrete.best_of_n_stopped, (0.6, 3)),
    "soft_best_of_n": (samplers.soft_best_of_n, discrete.soft_best_of_n, (N, TEMPERATURE)),
    "exponential_clocks": (
        samplers.exponential_clocks,
        discrete.soft_best_of_n,
        (N, TEMPERATURE),
    ),
    "nearest_reachable": (samplers.nearest_reachable, reachable.nearest_to_tilt, (4, 0.3)),
    "swapped_ranks": (samplers.swapped_ranks, reachable.nearest_to_tilt, (4, 0.3)),
    "exponential_race": (samplers.exponential_race, discrete.exponential_race, (N, TEMPERATURE)),
    "noisy_best_of_n": (samplers.noisy_best_of_n, noisy.of_gaussian, (N, TEMPERATURE)),
    "best_of_poisson": (samplers.best_of_poisson, random_n.best_of_poisson, (STRENGTH,)),
    "soft_best_of_poisson": (
        samplers.soft_best_of_poisson,
        random_n.soft_best_of_poisson,
        (STRENGTH, TEMPERATURE),
    ),
    "win_rate_optimal": (samplers.win_rate_optimal, random_n.best_of_positive_poisson, (STRENGTH,)),
    "top_fraction": (samplers.top_fraction, tilts.top_fraction, (FRACTION,)),
    "exponential_tilt": (samplers.exponential_tilt, tilts.exponential_tilt, (TEMPERATURE,)),
    "chi_squared_tilt": (samplers.chi_squared_tilt, tilts.chi_squared_tilt, (TEMPERATURE,)),
}

UNIFORM, GAUSSIAN, EXPONENTIAL = uniform_reward(), gaussian_reward(), exponential_reward()
QUANTILES = {
    UNIFORM: lambda u: u,
    GAUSSIAN: special.ndtri,
    EXPONENTIAL: lambda u: -np.log1p(-u),
}


def rank_law(cdf: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Probabilities of the 32 rank bins from the distribution function of the picked rank."""
    return np.diff(cdf(np.linspace(0, 1, 33)))


def pairwise_law(
    reference: ContinuousReference, beats: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Bins of the law with n = 2: density 2∫ Pr(u beats v) dv, by midpoints in both ranks."""
    size = 32 * 64
    scores = QUANTILES[reference]((np.arange(size) + 0.5) / size) / TEMPERATURE
    density = np.array([2 * np.mean(beats(score - scores)) for score in scores])
    return density.reshape(32, -1).mean(axis=1) / 32


def laplace_cdf(gap: np.ndarray) -> np.ndarray:
    """Pr(Exp − Exp ≤ gap)."""
    return np.where(gap < 0, np.exp(-np.abs(gap)) / 2, 1 - np.exp(-np.abs(gap)) / 2)


CONTINUOUS = {
    "best": (samplers.best_of_n(UNIFORM, 5), rank_law(lambda u: u**5)),
    "best, Gaussian": (samplers.best_of_n(GAUSSIAN, 5), rank_law(lambda u: u**5)),
    "worst": (samplers.worst_of_n(UNIFORM, 5), rank_law(lambda u: 1 - (1 - u) ** 5)),
    "second": (samplers.kth_best_of_n(UNIFORM, 4, 2), rank_law(lambda u: 4 * u**3 - 3 * u**4)),
    "first two": (samplers.top_k_of_n(UNIFORM, 3, 2), rank_law(lambda u: (3 * u**2 - u**3) / 2)),
    "stopped": (
        samplers.best_of_n_stopped(UNIFORM, 0.75, 2),
        rank_law(lambda u: np.where(u < 0.75, u**2, 1.75 * u - 0.75)),
    ),
    "Poisson": (
        samplers.best_of_poisson(UNIFORM, STRENGTH),
        rank_law(lambda u: u * np.exp(STRENGTH * (u - 1))),
    ),
    "optimal": (
        samplers.win_rate_optimal(UNIFORM, STRENGTH),
        rank_law(lambda u: np.expm1(STRENGTH * u) / np.expm1(STRENGTH)),
    ),
    "soft": (
        samplers.soft_best_of_n(UNIFORM, 2, TEMPERATURE),
        pairwise_law(UNIFORM, special.expit),
    ),
    "soft, Gaussian": (
        samplers.soft_best_of_n(GAUSSIAN, 2, TEMPERATURE),
        pairwise_law(GAUSSIAN, special.expit),
    ),
    "soft, exponential": (
        samplers.soft_best_of_n(EXPONENTIAL, 2, TEMPERATURE),
        pairwise_law(EXPONENTIAL, special.expit),
    ),
    "clocks, exponential": (
        samplers.exponential_clocks(EXPONENTIAL, 2, TEMPERATURE),
        pairwise_law(EXPONENTIAL, special.expit),
    ),
    "race": (
        samplers.exponential_race(UNIFORM, 2, TEMPERATURE),
        pairwise_law(UNIFORM, laplace_cdf),
    ),
    "race, Gaussian": (
        samplers.exponential_race(GAUSSIAN, 2, TEMPERATURE),
        pairwise_law(GAUSSIAN, laplace_cdf),
    ),
    "Gaussian noise": (
        samplers.noisy_best_of_n(UNIFORM, 2, TEMPERATURE),
        pairwise_law(UNIFORM, lambda gap: special.ndtr(gap / np.sqrt(2))),
    ),
    "top": (
        samplers.top_fraction(UNIFORM, FRACTION),
        rank_law(lambda u: np.maximum(0, (u - 1 + FRACTION) / FRACTION)),
    ),
    "tilt": (
        samplers.exponential_tilt(UNIFORM, TEMPERATURE),
        rank_law(lambda u: np.expm1(u / TEMPERATURE) / np.expm1(1 / TEMPERATURE)),
    ),
    "chi squared": (
        samplers.chi_squared_tilt(UNIFORM, 0.125),  # ν = 1 − √(2β) = ½
        rank_law(lambda u: np.maximum(0, u - 0.5) ** 2 / 0.25),
    ),
}
NUM_CHECKS = len(DISCRETE) + len(CONTINUOUS) + 15


def assert_law(seed: int, sampler: Sampler, law: np.ndarray, trials: int = TRIALS) -> None:
    counts = simulate(jax.random.key(seed), sampler, num_trials=trials).counts
    assert check_histogram("law", counts, law).p_value > FALSE_ALARM / NUM_CHECKS, counts / trials


@pytest.mark.parametrize(("sample", "law", "parameters"), DISCRETE.values(), ids=DISCRETE)
def test_discrete_law_with_ties(sample, law, parameters):
    random_number = law.__module__ == random_n.__name__
    probs, rewards = FEW if random_number else (PROBS, REWARDS)
    exact = np.array(law(probs, rewards, *parameters), np.float64)
    assert_law(1, sample(discrete_reference(probs, rewards), *parameters), exact)


@pytest.mark.parametrize(("sampler", "law"), CONTINUOUS.values(), ids=CONTINUOUS)
def test_continuous_law_of_the_rank(sampler, law):
    assert_law(2, sampler, law)


def two_draws_for_the_tilt(u: np.ndarray, temperature: float) -> np.ndarray:
    """The best of two above a rank, and below it a multiple of the tilt that meets it smoothly."""
    touch = optimize.root_scalar(
        lambda t: 2 * temperature * np.expm1(t / temperature) - t * np.exp(t / temperature),
        bracket=(0.1 * temperature, 3 * temperature),
    ).root
    tilt = np.expm1(np.minimum(u, touch) / temperature) / np.expm1(touch / temperature)
    return np.where(u < touch, tilt * touch**2, u**2)


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_nearest_to_the_tilt_of_a_uniform_reward(n):
    """Three draws are enough for the tilt itself, which takes 2.72."""
    tilt = rank_law(lambda u: np.expm1(u / TEMPERATURE) / np.expm1(1 / TEMPERATURE))
    law = tilt if n == 3 else rank_law(lambda u: two_draws_for_the_tilt(u, TEMPERATURE))
    assert_law(11, samplers.nearest_reachable(UNIFORM, n, TEMPERATURE), law)


def test_many_outcomes_use_the_same_process():
    """More outcomes than are compared one by one: binary search instead, same law."""
    rng = np.random.default_rng(0)
    probs, rewards = rng.dirichlet(np.ones(100)), rng.integers(0, 60, 100).astype(float)
    upto = np.array([probs[rewards <= r].sum() for r in rewards])
    below = np.array([probs[rewards < r].sum() for r in rewards])
    exact = probs * (upto**4 - below**4) / (upto - below)
    assert_law(3, samplers.best_of_n(discrete_reference(probs, rewards), 4), exact)


def test_the_chi_squared_rule_with_an_estimated_normaliser():
    """n = 4 draws are few: what is kept differs from the tilt of the true ν, and it shows."""
    reference, strength = discrete_reference(PROBS, REWARDS), 0.3
    few = samplers.inference_time_pessimism(reference, 4, strength)
    estimated = np.array(tilts.estimated_chi_squared_tilt(PROBS, REWARDS, strength, 4), float)
    limit = np.array(tilts.chi_squared_tilt(PROBS, REWARDS, strength), float)
    counts = simulate(jax.random.key(9), few, num_trials=TRIALS).counts
    level = FALSE_ALARM / NUM_CHECKS
    assert check_histogram("n = 4", counts, estimated).p_value > level
    assert check_histogram("known", counts, limit).p_value < level
    assert required_trials(limit, estimated, false_alarm=level, miss=1e-3) < TRIALS
    assert_law(10, samplers.inference_time_pessimism(reference, 200, strength), limit, 20_000)


def test_an_impossible_outcome_is_never_drawn():
    reference = discrete_reference([0.0, 0.5, 0.0, 0.5, 0.0], [9.0, 1.0, 2.0, 3.0, -9.0])
    counts = simulate(jax.random.key(4), samplers.worst_of_n(reference, 2), num_trials=1000).counts
    assert counts[[0, 2, 4]].sum() == 0
    assert reference.max_reward == 3


@pytest.mark.parametrize("reference", QUANTILES, ids=["uniform", "Gaussian", "exponential"])
def test_continuous_rewards_follow_their_quantile_function(reference):
    words = np.array([0, 1, 10**6, 2**31, 2**32 - 10**6, 2**32 - 2, 2**32 - 1], np.uint32)
    u = (words.astype(np.float64) + 0.5) / 2**32
    # At u near 1 float64 still holds 1 − u to 1e-7 relative.
    np.testing.assert_allclose(
        np.asarray(reference.reward(jnp.asarray(words))),
        QUANTILES[reference](u),
        rtol=1e-6,
        atol=2e-7,
    )


def test_reward_and_win_rate_of_the_pick():
    out = simulate(
        jax.random.key(5),
        samplers.best_of_n(discrete_reference(PROBS, REWARDS), N),
        num_trials=TRIALS,
    )
    law = np.array(discrete.best_of_n(PROBS, REWARDS, N), np.float64)
    middle = np.array([0.55, 0.85, 0.2, 0.85])  # (F⁻ + F)/2
    for estimate, values in ((out.reward, np.array(REWARDS)), (out.win_rate, middle)):
        check = check_mean("mean", estimate, float(law @ values), bounds=(0.0, 1.0))
        assert check.p_value > FALSE_ALARM / NUM_CHECKS
        assert estimate.mean == pytest.approx(out.expected_value(values).mean, abs=1e-6)


# Power: errors that the trials of this file must reveal, each missed with probability 1e-3.

ALTERNATIVES = {
    "n + 1": (discrete.best_of_n, samplers.best_of_n, (16,), (17,)),
    "soft n + 1": (discrete.soft_best_of_n, samplers.soft_best_of_n, (8, 0.4), (9, 0.4)),
    "1.02 λ": (discrete.soft_best_of_n, samplers.soft_best_of_n, (8, 0.4), (8, 0.408)),
    "race 1.02 λ": (discrete.exponential_race, samplers.exponential_race, (8, 0.4), (8, 0.408)),
}


@pytest.mark.parametrize(
    ("oracle", "sample", "actual", "claimed"), ALTERNATIVES.values(), ids=ALTERNATIVES
)
def test_planted_errors_are_rejected(oracle, sample, actual, claimed):
    probs, rewards = [0.5, 0.3, 0.2], [0.0, 0.5, 1.0]
    true, false = (
        np.array(oracle(probs, rewards, *parameters), np.float64)
        for parameters in (actual, claimed)
    )
    level = FALSE_ALARM / NUM_CHECKS
    trials = required_trials(false, true, false_alarm=level, miss=1e-3)
    assert trials < 4_000_000
    sampler = sample(discrete_reference(probs, rewards), *actual)
    counts = simulate(jax.random.key(6), sampler, num_trials=trials).counts
    assert check_histogram("planted", counts, false).p_value <= level
    assert check_histogram("true", counts, true).p_value > level


def test_one_per_cent_of_any_atom_is_seen():
    law, level = np.array([0.125, 0.387, 0.488]), FALSE_ALARM / NUM_CHECKS
    wrong = [law + 0.01 * law[k] * (np.eye(3)[k] - law) / (1 - law[k]) for k in range(3)]
    needed = [required_trials(w, law, false_alarm=level, miss=1e-3) for w in wrong]
    sampler = samplers.best_of_n(discrete_reference([0.5, 0.3, 0.2], [0.0, 0.5, 1.0]), 3)
    counts = simulate(jax.random.key(8), sampler, num_trials=max(needed)).counts
    assert max(needed) < 10_000_000
    assert check_histogram("right", counts, law).p_value > level
    assert all(check_histogram("1 %", counts, w).p_value <= level for w in wrong)


def test_an_uneven_split_of_a_tie_would_be_rejected():
    """An even split of a tie passes, 51 to 49 does not."""
    counts = simulate(
        jax.random.key(7),
        samplers.best_of_n(discrete_reference([0.5, 0.25, 0.25], [0.0, 1.0, 1.0]), 4),
        num_trials=TRIALS,
    ).counts
    best = 1 - 0.5**4
    level = FALSE_ALARM / NUM_CHECKS
    assert check_histogram("even", counts, [1 - best, best / 2, best / 2]).p_value > level
    assert check_histogram("odd", counts, [1 - best, best * 0.51, best * 0.49]).p_value < level


def test_rounding_to_words_is_below_detection():
    """Probabilities are multiples of 2⁻³²: what that does to the law, beside what can be seen."""
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.full(16, 0.5))
    drawn = discrete_reference(probs, np.arange(16.0)).drawn_probs()
    assert np.max(np.abs(drawn - probs)) <= 2.0**-32

    def law(p: np.ndarray) -> np.ndarray:
        return np.diff(np.cumsum(p) ** 64, prepend=0)

    rounded = law(drawn) / law(drawn).sum()
    gap = stats.entropy(rounded, law(probs) / law(probs).sum())
    assert 2e8 * gap < 1e-4  # S·KL at 2·10⁸ trials, where a report's threshold is S·KL > 20


def test_the_threshold_of_the_chi_squared_rule():
    reference = discrete_reference(PROBS, REWARDS)
    nu = float(samplers.chi_squared_tilt(reference, 0.3).parameter)
    direct = optimize.root_scalar(
        lambda v: np.maximum(np.array(REWARDS) - v, 0) @ np.array(PROBS) - 0.3, bracket=(-2, 1)
    ).root
    assert nu == pytest.approx(direct, abs=1e-6)


@pytest.mark.parametrize("strength", [1e-17, 1e-12])
def test_a_small_strength_adds_no_candidates(strength):
    """P(N > 1) = c/2 + O(c²): what a difference of probabilities near 1 would lose."""
    count = samplers.win_rate_optimal(UNIFORM, strength).count
    assert count.thresholds.size == 0


def test_rewards_that_agree_in_float32_are_tied_to_every_selection():
    near, key = discrete_reference([0.5, 0.5], [1.0, 1.0 + 1e-9]), jax.random.key(5)
    for select in (samplers.best_of_n, partial(samplers.best_of_n, shared=True)):
        counts = simulate(key, select(near, 8), num_trials=4000).counts
        assert check_histogram("tied", counts, [0.5, 0.5]).p_value > FALSE_ALARM
    assert simulate(key, samplers.best_of_n(near, 8), num_trials=9).win_rate.mean == 0.5


def bad(value: Any) -> Any:
    """What the type checker would refuse."""
    return value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(samplers.best_of_n, UNIFORM, 0), "n must be a whole number"),
        (partial(samplers.best_of_n, UNIFORM, bad(2.5)), r"n must be a whole .*, got 2\.5: cand"),
        (partial(samplers.best_of_n, UNIFORM, bad(np.nan)), "n must be a whole .*, got nan"),
        (partial(samplers.best_of_n, UNIFORM, bad("a")), "n must be a whole .*, got 'a'"),
        (partial(samplers.best_of_n, UNIFORM, 2**31), r"n must be .* in \[1, 2147483647\]"),
        (partial(samplers.soft_best_of_n, UNIFORM, 2, 0.0), "temperature must be positive"),
        (partial(samplers.soft_best_of_n, UNIFORM, 2, np.nan), "temperature must be positive"),
        (partial(samplers.soft_best_of_n, UNIFORM, 2, np.inf), "temperature must be .* finite"),
        (partial(samplers.soft_best_of_n, UNIFORM, 2, bad("a")), "temperature must be .*, got 'a'"),
        (partial(samplers.soft_best_of_n, UNIFORM, 2, 1e-39), "for scores that fit float32"),
        (
            partial(samplers.soft_best_of_n, discrete_reference([0.5, 0.5], [0.0, -9e9]), 2, 1e-29),
            r"temperature must be at least 9e-29 .*, got 1e-29: raise it",
        ),
        (
            partial(samplers.exponential_tilt, discrete_reference([1.0], [0.0]), 1e-39),
            "for scores that fit float32",
        ),
        (partial(samplers.best_of_poisson, UNIFORM, 1e9), "a mean of at most 1e.06, got 1e.09"),
        (
            partial(samplers.exponential_clocks, EXPONENTIAL, 2, 0.1),
            r"temperature must be at least 0\.286 for rewards .*, got 0\.1: use soft_best_of_n",
        ),
        (partial(samplers.best_of_poisson, UNIFORM, -1.0), "mean_extra_draws must be positive"),
        (partial(samplers.win_rate_optimal, UNIFORM, 0.0), "strength must be positive"),
        (partial(samplers.top_fraction, UNIFORM, 1e-5), r"fraction must be in \[0.0001, 1\]"),
        (partial(samplers.kth_best_of_n, UNIFORM, 3, 4), "k must be a whole number"),
        (partial(samplers.best_of_n_stopped, UNIFORM, 1.0, 4), r"threshold must be a rank in"),
        (partial(samplers.exponential_tilt, GAUSSIAN, 1.0), "use a bounded reward"),
        (partial(samplers.exponential_tilt, UNIFORM, 1e-6), "raise the temperature"),
        (partial(samplers.chi_squared_tilt, EXPONENTIAL, 1.0), "use a bounded reward"),
        (partial(samplers.inference_time_pessimism, GAUSSIAN, 5, 1.0), "use a bounded reward"),
        (partial(samplers.inference_time_pessimism, UNIFORM, 0, 1.0), "n must be a whole number"),
        (partial(uniform_reward, 33), "num_outcomes must be a power of two"),
        (partial(discrete_reference, [0.5, 0.5], [1.0]), "must both be"),
        (partial(discrete_reference, [0.5, 0.4], [1.0, 2.0]), "sum to 1"),
        (partial(discrete_reference, [1.5, -0.5], [1.0, 2.0]), "nonnegative"),
        (partial(discrete_reference, [0.5, np.nan], [1.0, 2.0]), "nonnegative"),
        (partial(discrete_reference, [0.5, 0.5], [1.0, np.inf]), "rewards must be finite"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_poisson_number_is_tabled_to_the_last_word():
    """Thresholds are the distribution function in words until it rounds to all 2³² of them."""
    mean, cdf, expected = mp.mpf(8), mp.mpf(0), []
    with mp.workdps(40):
        for k in range(200):
            cdf += mp.exp(-mean) * mean**k / mp.factorial(k)
            if (edge := int(mp.nint(cdf * 2**32))) == 2**32:
                break
            expected.append(edge)
    race = samplers.best_of_poisson(uniform_reward(), 8.0)
    spare, thresholds = np.split(np.asarray(race.count.thresholds, np.int64), [-len(expected)])
    assert int(race.count.minimum) == 1 - spare.size
    assert not spare.any()
    assert thresholds.size == len(expected) > 30
    assert np.abs(thresholds - expected).max() <= 1
