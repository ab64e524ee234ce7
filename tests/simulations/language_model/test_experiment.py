"""The experiment: pools whose law is known, then a whole run at a tiny size."""

import itertools
import math
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from scipy import integrate, stats

from simulations.experiments.language_model import (
    LanguageModelConfig,
    LanguageModelResults,
    run,
    run_identity,
)
from simulations.experiments.pool_selection import measure
from simulations.experiments.reward_pools import (
    QUANTITIES,
    MeasuredQuantity,
    PoolComparison,
    compare_pools,
    tail_bound,
)
from simulations.language_model import train
from simulations.language_model.architecture import TransformerConfig

NUM_PROMPTS, POOL, NUMBERS, TEMPERATURES = 280, 32, (1, 3), (0.0, 0.5)
POOLS = np.random.default_rng(0).normal(size=(NUM_PROMPTS, 2 * POOL))


@pytest.fixture(scope="module")
def gaussian() -> PoolComparison:
    """Many prompts with small pools of standard normal rewards, where nothing is asymptotic."""
    return compare_pools(
        jax.random.key(0),
        POOLS[:, :POOL],
        POOLS[:, POOL:],
        numbers=NUMBERS,
        temperatures=TEMPERATURES,
        num_redrawn=256,
    )


def true_mean(n: int, temperature: float) -> float:
    """E of the selected among n standard normal rewards; soft selection among 3 by quadrature."""
    if n == 1:
        return 0.0
    if temperature == 0:
        return integrate.quad(lambda x: x * n * stats.norm.pdf(x) * stats.norm.cdf(x) ** 2, -8, 8)[
            0
        ]
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    grid = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"))
    probs = weights / weights.sum()
    share = np.exp(grid / temperature) / np.exp(grid / temperature).sum(axis=0)
    return float(np.einsum("ijk,i,j,k->", (share * grid).sum(axis=0), probs, probs, probs))


def cells(comparison: MeasuredQuantity):
    """(n, λ, the cell's arrays ``[B]`` by name) for each cell."""
    for (i, temperature), (j, n) in itertools.product(enumerate(TEMPERATURES), enumerate(NUMBERS)):
        yield n, temperature, {name: array[i, j] for name, array in vars(comparison).items()}


def test_prediction_is_the_mean_over_all_draws_from_the_pool(gaussian: PoolComparison) -> None:
    """Every one of 32³ ordered draws with replacement, each selected by its softmax."""
    pool = POOLS[0, :POOL]
    draws = np.array(list(itertools.product(pool, repeat=3)))
    weights = np.exp(draws / 0.5)
    share = weights / weights.sum(axis=1, keepdims=True)
    # Without ties the chance to beat one more draw is (rank + ½)/N.
    beats = (np.argsort(np.argsort(pool)) + 0.5) / POOL
    won = np.array(list(itertools.product(beats, repeat=3)))
    for comparison, values in ((gaussian.expected_reward, draws), (gaussian.win_rate, won)):
        expected = (share * values).sum(axis=1).mean()
        np.testing.assert_allclose(comparison.predicted[1, 1, 0], expected, rtol=1e-12)


def test_both_measurements_agree_with_the_prediction(gaussian: PoolComparison) -> None:
    """24 z-tests; 5 standard deviations are a false-alarm rate of 2e-5 over all."""
    for comparison in (gaussian.expected_reward, gaussian.win_rate, gaussian.kl_divergence):
        assert np.abs(comparison.measured_z).max() < 5
        assert np.abs(comparison.resampled_z).max() < 5


def test_the_law_of_one_more_candidate_is_rejected(gaussian: PoolComparison) -> None:
    for comparison in (gaussian.expected_reward, gaussian.win_rate, gaussian.kl_divergence):
        assert np.abs(comparison.planted_z).min() > 10


def test_the_tail_bound_holds_for_rare_losses_where_the_normal_tail_does_not() -> None:
    """240 win scores of probability 64/65: exact binomial tails on both sides."""
    size, win = 240, 64 / 65
    sigma = np.sqrt(win * (1 - win) / size)
    normal_fails, bound = False, 1.0
    for z in np.linspace(0.5, 9, 18):
        exact = stats.binom.cdf(np.floor(size * (win - z * sigma)), size, win)
        exact += stats.binom.sf(np.ceil(size * (win + z * sigma)) - 1, size, win)
        bound = float(tail_bound(np.array(z), np.array(1 / (size * sigma))))
        assert exact <= bound
        normal_fails |= exact > 1000 * stats.norm.sf(z)
    assert normal_fails
    assert bound < 1e-6


def test_prediction_error_and_bias_are_those_seen_over_prompts(gaussian: PoolComparison) -> None:
    """The truth is known: 280 pools show how far predictions scatter, and where they centre.

    A standard deviation of 280 is known to 4.2 %; the jackknife is right to order n/N = 0.1.
    """
    for n, temperature, cell in cells(gaussian.expected_reward):
        error = cell["predicted"] - true_mean(n, temperature)
        scatter = np.std(error, ddof=1)
        assert np.sqrt(np.mean(cell["predicted_error"] ** 2)) == pytest.approx(scatter, rel=0.2)
        unbiased = error - cell["predicted_bias"]
        assert abs(unbiased.mean()) < 5 * scatter / np.sqrt(NUM_PROMPTS)


def test_the_plug_in_law_is_biased_low_and_the_correction_sees_it(gaussian: PoolComparison) -> None:
    bias = gaussian.expected_reward.predicted_bias[0, 1]
    z = bias.mean() / (bias.std(ddof=1) / np.sqrt(NUM_PROMPTS))
    assert z < -5


def test_measured_errors_are_those_seen_over_prompts(gaussian: PoolComparison) -> None:
    """Prompts are replicas here, so the scatter of measured means is their standard error."""
    for comparison in (gaussian.expected_reward, gaussian.win_rate):
        for _, _, cell in cells(comparison):
            scatter = np.std(cell["measured"], ddof=1)
            stated = np.sqrt(np.mean(cell["measured_error"] ** 2))
            assert stated == pytest.approx(scatter, rel=0.2)
            difference = np.std(cell["resampled"] - cell["predicted"], ddof=1)
            stated = np.sqrt(np.mean(cell["resampled_error"] ** 2))
            assert stated == pytest.approx(difference, rel=0.2)


def test_the_standard_error_counts_the_error_of_the_prediction(gaussian: PoolComparison) -> None:
    """It is the scatter over prompts of measured minus predicted; either alone is a third less."""
    for comparison in (gaussian.expected_reward, gaussian.win_rate):
        for i, j in np.ndindex(len(TEMPERATURES), len(NUMBERS)):
            gap = (comparison.measured - comparison.predicted + comparison.predicted_bias)[i, j]
            stated = comparison.measured_std_error[i, j]
            assert stated == pytest.approx(np.std(gap, ddof=1) / np.sqrt(gap.size), rel=0.12)


def test_the_tail_bound_is_bernsteins() -> None:
    """2 exp(−z²/(2 + 2bz/3)) at z = 5, b = 1."""
    bound = float(tail_bound(np.array(5.0), np.array(1.0)))
    assert bound == pytest.approx(2 * math.exp(-75 / 16), rel=1e-12)


@pytest.mark.parametrize("size", [9, 10, 14, 15])
def test_an_incomplete_last_group_is_left_out(size: int) -> None:
    """Groups of five by hand: an opponent, then four candidates of which the best is selected."""
    pool = np.random.default_rng(1).normal(size=(3, size))
    groups = np.stack([pool[:, k : k + 5] for k in range(0, size - 4, 5)], axis=1)
    best = groups[..., 1:].max(axis=-1)
    exact = best.mean(axis=1), (best > groups[..., 0]).mean(axis=1)
    measured = measure(jax.random.key(0), pool, 2 * pool, 4, 0.0)
    np.testing.assert_allclose(measured, [*exact, 2 * exact[0]], rtol=1e-12)


@pytest.mark.parametrize(
    ("prediction", "measurement", "numbers", "temperature", "message"),
    [
        ((2, 5), (2, 5), (3,), 1.0, r"prediction_pool has shape \(2, 5\)"),
        ((2, 4), (3, 5), (3,), 1.0, r"measurement_pool has shape \(3, 5\)"),
        ((2, 4), (2, 4), (4,), 1.0, r"numbers is \(4,\) and measurement_pool has 4"),
        ((2, 4), (2, 4), (0, 3), 1.0, r"numbers is \(0, 3\)"),
        ((2, 4), (2, 4), (), 1.0, r"numbers is \(\)"),
        ((2, 4), (2, 4), (3,), -1.0, r"temperatures is \(-1.0,\)"),
        ((2, 4), (2, 4), (3,), float("nan"), r"temperatures is \(nan,\)"),
    ],
)
def test_bad_input_is_named(prediction, measurement, numbers, temperature, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_pools(
            jax.random.key(0),
            np.zeros(prediction),
            np.zeros(measurement),
            numbers=numbers,
            temperatures=(temperature,),
            num_redrawn=9,
        )


def test_fewer_redrawn_candidates_than_are_selected_among_are_refused() -> None:
    pools = np.zeros((2, 4)), np.zeros((2, 4))
    arguments = {"numbers": (1, 3), "temperatures": (0.0,), "num_redrawn": 3}
    with pytest.raises(ValueError, match="num_redrawn is 3"):
        compare_pools(jax.random.key(0), *pools, **arguments)


@pytest.mark.parametrize(("reward", "rank"), [(0.5, 1 / 4), (7.0, 1.0), (-1.0, 0.0)])
def test_rewards_that_the_pool_has_not_have_the_ratio_of_its_distribution_function(
    reward: float, rank: float
) -> None:
    """Best-of-3: 3 F² at a reward of no probability; −∞ where F = 0, here a very small number."""
    pools = np.array([[0.0, 1.0, 1.0, 2.0]]), np.array([[9.0, reward, reward, reward]])
    arguments = {"numbers": (3,), "temperatures": (0.0,), "num_redrawn": 4}
    found = compare_pools(jax.random.key(0), *pools, **arguments).kl_divergence.measured[0, 0, 0]
    assert found == pytest.approx(math.log(3 * rank**2)) if rank else found < -100


def test_the_measured_divergence_is_that_of_best_of_n(gaussian: PoolComparison) -> None:
    """log 3 − 2/3, within five standard errors and the 3 % that a law of 32 draws leaves."""
    measured = gaussian.kl_divergence.measured[0, 1]
    error = measured.std(ddof=1) / np.sqrt(NUM_PROMPTS)
    assert abs(measured.mean() - (math.log(3) - 2 / 3)) < 5 * error + 0.03 * measured.mean()


TINY = LanguageModelConfig(
    training=train.TrainingConfig(
        TransformerConfig(width=8, num_layers=1),
        num_steps=6,
        batch_size=5,
        window=17,
        warmup_steps=2,
        num_parts=1,
    ),
    num_prompts=3,
    prompt_bytes=16,
    num_samples=2,
    shown=2,
    shown_soft=4,
    max_new_tokens=11,
    prediction_pool=8,
    measurement_pool=8,
    numbers=(1, 3),
    known_words_temperatures=(0.0, 0.5),
    trigram_likelihood_temperatures=(0.0, 0.1),
    num_redrawn=28,
)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def results(directory: Path) -> LanguageModelResults:
    return run(TINY, jax.random.key(0), checkpoint_dir=directory)


def leaves(results: LanguageModelResults) -> list[np.ndarray]:
    found = []
    for scored in (results.known_words, results.trigram_likelihood):
        pools = scored.comparison
        found += [scored.rewards, pools.numbers]
        found += [pools.temperatures, pools.num_measured, pools.num_resampled]
        for quantity in QUANTITIES:
            found += vars(getattr(pools, quantity)).values()
    texts = np.array([list(vars(sample).values()) for sample in results.samples])
    return [*found, results.losses, results.prompts, results.tokens, results.lengths, texts]


@pytest.mark.slow
def test_shapes_are_as_documented(results: LanguageModelResults) -> None:
    for scored in (results.known_words, results.trigram_likelihood):
        assert scored.rewards.shape == (3, 16)
        for quantity in QUANTITIES:
            for name, array in vars(getattr(scored.comparison, quantity)).items():
                assert array.shape == ((2, 2) if name == "span" else (2, 2, 3))
    assert results.lengths.shape == (3, 16)
    assert results.tokens.shape == (3, 16, 11)
    assert len(results.samples) == 2


@pytest.mark.slow
def test_a_second_run_finds_the_trained_model_and_gives_the_same(
    results: LanguageModelResults, directory: Path
) -> None:
    stages: set[str] = set()
    again = run(
        TINY,
        jax.random.key(0),
        checkpoint_dir=directory,
        progress=lambda stage, done, total: stages.add(stage),
    )
    assert stages == {"sampling", "selecting by KnownWords", "selecting by TrigramLikelihood"}
    for a, b in zip(leaves(results), leaves(again), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_results_survive_the_disk_and_know_what_they_belong_to(
    results: LanguageModelResults, tmp_path: Path
) -> None:
    path = tmp_path / "results.npz"
    results.save(path)
    loaded = LanguageModelResults.load(path, run_identity(TINY, jax.random.key(0)))
    for a, b in zip(leaves(results), leaves(loaded), strict=True):
        np.testing.assert_array_equal(a, b)
    assert loaded.validation_loss == results.validation_loss
    assert loaded.report() == results.report()
    with pytest.raises(ValueError, match=r'(?s)"num_prompts": 3.*"num_prompts": 4'):
        LanguageModelResults.load(
            path, run_identity(replace(TINY, num_prompts=4), jax.random.key(0))
        )


@pytest.mark.slow
def test_the_report_holds_every_check_once(results: LanguageModelResults) -> None:
    """Two rewards, three quantities, two routes, two temperatures and two numbers."""
    names = [check.name for check in results.report().checks]
    assert len(names) == len(set(names)) == 3 * 2**4
    assert len(results.report(planted=True).checks) == 3 * 2**3


@pytest.mark.slow
def test_tie_probability_counts_pairs(results: LanguageModelResults) -> None:
    rewards = np.random.default_rng(0).integers(0, 4, size=(3, 16)).astype(float)
    pairs = [np.equal.outer(row, row)[~np.eye(16, dtype=bool)].mean() for row in rewards]
    assert 0.1 < np.mean(pairs) < 0.9  # a fixture in which nearly all or no rewards tie shows less
    scored = replace(results.known_words, rewards=rewards)
    assert scored.tie_probability == pytest.approx(np.mean(pairs), rel=1e-12)
