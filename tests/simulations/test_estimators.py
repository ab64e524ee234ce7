"""Conditional laws, curves from one stream and divergences from counts, against exact values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from simulations.draws.references import discrete_reference, gaussian_reward, uniform_reward
from simulations.engine.accumulate import Schedule
from simulations.engine.conditional import conditional_law
from simulations.engine.curves import all_n, compare
from simulations.engine.simulate import simulate
from simulations.selection import samplers
from simulations.selection.every_n import ordered
from simulations.statistics.checks import check_histogram, check_mean
from simulations.statistics.divergences import DIVERGENCES, divergence_from_counts
from tests.oracles import discrete

PROBS, REWARDS = [0.3, 0.1, 0.4, 0.2], [0.5, 1.0, 0.0, 1.0]  # a tie, unsorted
TIED = discrete_reference(PROBS, REWARDS)
LEVEL = 1e-6 / 60  # at most sixty comparisons in this file


def assert_mean(estimate, exact):
    assert check_mean("mean", estimate, exact).p_value > LEVEL, (estimate, exact)


@pytest.mark.parametrize("temperature", [0.0, 0.4])
def test_conditional_probabilities_have_the_same_law_and_less_variance(temperature):
    n, trials = 5, 40_000
    result = conditional_law(jax.random.key(0), TIED, n, temperature, num_trials=trials)
    oracle = discrete.soft_best_of_n if temperature else discrete.best_of_n
    exact = np.array(oracle(PROBS, REWARDS, n, *([temperature] if temperature else [])), float)
    for estimate, probability in zip(result.law, exact, strict=True):
        assert_mean(estimate, probability)
    assert_mean(result.reward, float(exact @ REWARDS))
    assert result.probs.sum() == pytest.approx(1, abs=1e-6)
    # Hard selection leaves nothing to average but ties, here the outcomes 1 and 3.
    least = [2, 2, 2, 2] if temperature else [0.999, 1.2, 0.999, 1.2]
    assert np.all(result.variance_ratios > least)


def test_given_the_other_candidates_the_law_is_the_same_and_known_better():
    n, trials = 5, 40_000
    exact = np.array(discrete.soft_best_of_n(PROBS, REWARDS, n, 0.4), float)
    result = conditional_law(jax.random.key(1), TIED, n, 0.4, num_trials=trials, given="others")
    for estimate, probability in zip(result.law, exact, strict=True):
        assert_mean(estimate, probability)
    assert_mean(result.reward, float(exact @ REWARDS))
    assert np.all(result.variance_ratios > 10)
    one = conditional_law(jax.random.key(1), TIED, 1, 0.4, num_trials=300, given="others")
    np.testing.assert_allclose(one.probs, PROBS, rtol=1e-6)  # alone: nothing is left to chance
    with pytest.raises(ValueError, match=r"temperature must be at least 0\.0125 .*, got 0\.01"):
        conditional_law(jax.random.key(1), TIED, n, 0.01, num_trials=9, given="others")
    with pytest.raises(ValueError, match="given must be 'candidates' at temperature 0"):
        conditional_law(jax.random.key(1), TIED, n, 0.0, num_trials=9, given="others")


@pytest.mark.parametrize("n", [2, 17, 18])
def test_given_the_others_no_candidate_of_a_block_is_left_out(n):
    """One other candidate, a whole block of sixteen, and one more than that."""
    exact = np.array(discrete.soft_best_of_n(PROBS, REWARDS, n, 0.4), float)
    result = conditional_law(jax.random.key(1), TIED, n, 0.4, num_trials=20_000, given="others")
    for estimate, probability in zip(result.law, exact, strict=True):
        assert_mean(estimate, probability)


def test_a_conditional_law_of_the_wrong_n_is_rejected():
    result = conditional_law(jax.random.key(0), TIED, 5, 0.4, num_trials=40_000)
    wrong = np.array(discrete.soft_best_of_n(PROBS, REWARDS, 6, 0.4), float)
    assert (
        min(
            check_mean("m", estimate, probability).p_value
            for estimate, probability in zip(result.law, wrong, strict=True)
        )
        < 1e-9
    )


def test_too_many_outcomes_for_conditional_probabilities():
    many = discrete_reference(np.full(300, 1 / 300), np.arange(300))
    with pytest.raises(ValueError, match="at most 256 outcomes, got 300: use soft_best_of_n"):
        conditional_law(jax.random.key(0), many, 5, 1.0, num_trials=10)


def test_all_n_are_the_exact_curve():
    curve = all_n(jax.random.key(1), samplers.best_of_n(uniform_reward(), 33), num_trials=50_000)
    assert len(curve) == 33
    for n in (1, 2, 7, 32, 33):
        assert_mean(curve[n - 1].win_rate, n / (n + 1))
    variance = [each.win_rate.variance for each in curve]
    np.testing.assert_allclose(
        variance, [n / (n + 1) ** 2 / (n + 2) for n in range(1, 34)], rtol=0.05
    )


@pytest.mark.parametrize(
    "select",
    [
        lambda n: samplers.best_of_n(gaussian_reward(), n),
        lambda n: samplers.worst_of_n(TIED, n),
        lambda n: samplers.soft_best_of_n(TIED, n, 0.4),
        lambda n: samplers.best_of_n(TIED, n, shared=True),
    ],
    ids=["by rank", "worst", "soft", "shared"],
)
@pytest.mark.slow
def test_a_curve_is_the_simulations_of_each_n_with_the_same_key(select):
    """Not only in law: the winner among n is the running winner after n draws."""
    key, trials = jax.random.key(4), 2000
    curve = all_n(key, select(19), num_trials=trials)
    for n in (1, 2, *range(9, 20)):
        ours, theirs = curve[n - 1], simulate(key, select(n), num_trials=trials)
        np.testing.assert_array_equal(ours.counts, theirs.counts)
        for one, other in ((ours.reward, theirs.reward), (ours.win_rate, theirs.win_rate)):
            assert one.mean == pytest.approx(other.mean, abs=2e-6)
            assert one.std_error == pytest.approx(other.std_error, rel=1e-5)


def test_the_counts_of_a_curve_follow_the_exact_laws_and_no_others():
    race, schedule = samplers.worst_of_n(TIED, 19), Schedule(chunk_size=2048)
    curve = all_n(jax.random.key(5), race, num_trials=60_000, schedule=schedule)
    for n in (1, 2, 9, 19):
        law, wrong = (np.array(discrete.worst_of_n(PROBS, REWARDS, m), float) for m in (n, n + 1))
        assert curve[n - 1].num_trials == 60_000
        assert check_histogram(f"n = {n}", curve[n - 1].counts, law).p_value > LEVEL
        assert n > 9 or check_histogram("n + 1", curve[n - 1].counts, wrong).p_value < LEVEL


@pytest.mark.slow
def test_a_curve_does_not_depend_on_the_chunks():
    race = samplers.best_of_n(uniform_reward(4), 21)
    curves = [
        all_n(jax.random.key(4), race, num_trials=2001, schedule=Schedule(chunk_size=size))
        for size in (2**16, 700)
    ]
    for one, other in zip(*curves, strict=True):
        np.testing.assert_array_equal(one.counts, other.counts)
        assert one.reward.mean == pytest.approx(other.reward.mean, rel=1e-6)
        assert one.reward.std_error == pytest.approx(other.reward.std_error, rel=1e-5)


@pytest.mark.parametrize(
    "sampler",
    [samplers.best_of_poisson(TIED, 4.0), samplers.top_fraction(TIED, 0.5)],
    ids=["random number", "rejection"],
)
def test_curves_that_are_not_of_a_fixed_race_are_refused(sampler):
    with pytest.raises(ValueError, match="must be a race among a fixed number of candidates"):
        all_n(jax.random.key(0), sampler, num_trials=10)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 1.0])
def test_set_flags_are_found_once_each(share):
    """Those are the trials that are drawn again."""
    flags = np.random.default_rng(0).random(512) < share
    index = jnp.arange(flags.sum(), dtype=jnp.uint32)
    places = np.asarray(ordered(jnp.asarray(flags))(index))
    assert sorted(places) == np.flatnonzero(flags).tolist()


def test_common_candidates_sharpen_differences():
    """Across λ, n and mechanisms; the differences are right, and known much better."""
    law = {t: np.array(discrete.soft_best_of_n(PROBS, REWARDS, 4, t), float) for t in (0.4, 0.408)}
    best = np.array(discrete.best_of_n(PROBS, REWARDS, 4), float)
    result = compare(
        jax.random.key(2),
        (
            samplers.soft_best_of_n(TIED, 4, 0.4),
            samplers.soft_best_of_n(TIED, 4, 0.408),
            samplers.best_of_n(TIED, 4, shared=True),
        ),
        num_trials=200_000,
    )
    exact = [law[0.408] - law[0.4], best - law[0.4]]
    for difference, change in zip(result.differences, exact, strict=True):
        assert_mean(difference, float(change @ REWARDS))
    assert result.variance_ratios[0] > 30
    assert result.variance_ratios[1] > 1.5


def test_the_variance_ratio_is_over_two_independent_runs():
    """Variances far apart: of the best of n uniform rewards, n/((n + 1)² (n + 2)) exactly."""
    pair = tuple(samplers.best_of_n(uniform_reward(), n, shared=True) for n in (2, 64))
    result = compare(jax.random.key(6), pair, num_trials=50_000)
    apart = sum(n / ((n + 1) ** 2 * (n + 2)) for n in (2, 64))
    ratio = apart / result.differences[0].variance
    assert result.variance_ratios[0] == pytest.approx(ratio, rel=0.05)


def test_a_single_trial_says_nothing_about_variances():
    pair = samplers.best_of_n(TIED, 4), samplers.best_of_n(TIED, 5)
    compared = compare(jax.random.key(0), pair, num_trials=1)
    averaged = conditional_law(jax.random.key(0), TIED, 4, 0.5, num_trials=1)
    assert np.isnan([*compared.variance_ratios, *averaged.variance_ratios]).all()


def test_one_selection_is_nothing_to_compare():
    with pytest.raises(ValueError, match="at least two to compare, got 1"):
        compare(jax.random.key(0), (samplers.best_of_n(TIED, 4),), num_trials=10)


EXACT = {
    "kl": lambda p, q: p @ np.log(p / q),
    "reverse_kl": lambda p, q: q @ np.log(q / p),
    "chi_squared": lambda p, q: np.sum((p - q) ** 2 / q),
    "squared_hellinger": lambda p, q: np.sum((np.sqrt(p) - np.sqrt(q)) ** 2),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("near", [False, True], ids=["far", "equal"])
def test_divergences_from_counts_are_unbiased_with_honest_errors(name, near):
    assert set(EXACT) == set(DIVERGENCES)
    q = np.array([0.4, 0.3, 0.2, 0.1])
    p = q if near else np.array([0.2, 0.2, 0.25, 0.35])
    trials, repeats = 2000, 4000
    samples = np.random.default_rng(0).multinomial(trials, p, repeats)
    estimates = [divergence_from_counts(counts, q, name) for counts in samples]
    means = np.array([each.mean for each in estimates])
    errors = np.array([each.std_error for each in estimates])
    exact, spread = float(EXACT[name](p, q)), means.std()
    # Bias is O(1/S²): below a fiftieth of the spread. Five standard errors of the mean of repeats.
    assert abs(means.mean() - exact) < (5 / np.sqrt(repeats) + 0.02) * spread
    # Mean squared error bar against the spread: 4000 repeats know it to 2 %.
    ratio = np.sqrt(np.mean(errors**2)) / spread
    assert 0.95 < ratio < (1.5 if near else 1.1)
    plug_in = np.array([EXACT[name](c / trials, q) for c in samples])
    assert abs(plug_in.mean() - exact) > 2 * abs(means.mean() - exact)  # it was worth correcting


def test_unseen_outcomes():
    assert divergence_from_counts([10, 0], [0.5, 0.5]).mean == pytest.approx(np.log(2))
    hellinger = divergence_from_counts([10, 0], [0.5, 0.5], "squared_hellinger")
    assert hellinger.mean == pytest.approx(2 - np.sqrt(2))
    assert stats.entropy([1, 0], [0.5, 0.5]) == pytest.approx(np.log(2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2], [1.0]), r"counts must have the law's shape \(1,\), got \(2,\)"),
        (([-1, 2], [0.5, 0.5]), r"counts must be whole, nonnegative and not all 0, got \[-1"),
        (([0, 0], [0.5, 0.5]), "not all 0"),
        (([1, 2], [0.5, 0.6]), "law must be .* sum to one"),
        (([1, 2], [0.5, 0.5], "tv"), "name must be one of kl, .*, got 'tv'"),
        (([1, 2], [1.0, 0.0]), "kl is infinite on these counts"),
        (([3, 0], [0.5, 0.5], "reverse_kl"), "reverse_kl is infinite on these counts"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        divergence_from_counts(*arguments)
