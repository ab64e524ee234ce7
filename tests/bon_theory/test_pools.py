"""Pools: every subset counted, ties and order of the file without influence, unbiased, covering."""

import math
from fractions import Fraction
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import bon_theory as bt
from bon_theory import pools
from bon_theory.pools import Pool
from tests.oracles import subsets

SCORES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0]), min_size=2, max_size=8)
TIED = [0.5, 0.0, 0.5, 1.0, 0.25, 1.0, 0.5]
TRUTH = [3.0, 1.0, 4.0, 1.0, 5.0, 9.0, 2.0]


def best(scores: list[float], **options: object) -> np.ndarray:
    return pools.best_of_n_curve(Pool.from_lists([scores]), **options).mean  # pyright: ignore[reportArgumentType]


@given(scores=SCORES)
def test_a_curve_is_the_mean_over_all_subsets(scores: list[float]) -> None:
    expected = [float(subsets.best_of_n(scores, n, scores)) for n in range(1, len(scores) + 1)]
    np.testing.assert_allclose(best(scores), expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("size", [1, 2, 7, 12])
def test_the_true_score_at_the_best_shares_ties_out(size: int) -> None:
    draws = np.random.default_rng(size)
    scores, truth = draws.integers(0, 4, size).astype(float).tolist(), draws.normal(size=size)
    pool = Pool.from_lists([scores], true_scores=[truth])
    expected = [float(subsets.best_of_n(scores, n, truth.tolist())) for n in range(1, size + 1)]
    found = pools.best_of_n_curve(pool, of="true_scores").mean
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    if size >= 7:  # a wrong tie rule is seen: the first of the tied in the file
        first = truth[np.argsort(scores, kind="stable")]
        wrong = pools.best_of_n_weights(size, np.arange(1, size + 1)) @ first
        assert np.abs(wrong - expected).max() > 1e-3


@given(scores=SCORES, order=st.randoms(use_true_random=False))
def test_the_order_of_the_file_does_not_matter(scores: list[float], order: object) -> None:
    truth = np.arange(len(scores)) ** 2.0
    shuffled = np.random.default_rng(order.randint(0, 10**9)).permutation(len(scores))  # pyright: ignore[reportAttributeAccessIssue]
    one = Pool.from_lists([scores], true_scores=[truth])
    other = Pool.from_lists([np.array(scores)[shuffled]], true_scores=[truth[shuffled]])
    for of in ("scores", "true_scores"):
        a, b = (pools.best_of_n_curve(pool, of=of).mean for pool in (one, other))
        np.testing.assert_allclose(a, b, rtol=1e-13)


@pytest.mark.parametrize(("ties", "counts"), [("half", (1, 2)), ("win", (1, 1)), ("loss", (0, 1))])
@pytest.mark.parametrize("scores", [TIED, [1.0, 1.0, 1.0], [0.1, 0.2, 0.3, 0.4, 0.5]])
def test_a_win_rate_is_that_over_all_choices(
    scores: list[float], ties: str, counts: tuple[int, int]
) -> None:
    found = pools.win_rate_curve(Pool.from_lists([scores]), ties=ties).mean  # pyright: ignore[reportArgumentType]
    numbers = range(1, len(scores))
    expected = [float(subsets.win_rate(scores, n, Fraction(*counts))) for n in numbers]
    np.testing.assert_allclose(found, expected, rtol=1e-13)


def test_without_ties_the_win_rate_is_exact_whatever_the_scores() -> None:
    pool = Pool.from_lists([np.random.default_rng(0).normal(size=40)])
    n = np.arange(1, 40)
    np.testing.assert_allclose(pools.win_rate_curve(pool).mean, n / (n + 1), rtol=1e-13)


@pytest.mark.parametrize(
    "scores", [TIED, [1.0, 2.0, 4.0, 7.0, 11.0, 16.0], [1e6, 1e6 + 1, 1e6 + 3.0]]
)
def test_the_variance_compares_disjoint_subsets(scores: list[float]) -> None:
    found = pools.subset_variance(Pool.from_lists([scores])).mean
    numbers = range(1, len(scores) // 2 + 1)
    expected = [float(subsets.variance(scores, n)) for n in numbers]
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


def test_the_variance_is_unbiased_at_known_values() -> None:
    """Uniform rewards at (N, n) = (64, 8): 7.6293e-4; 4000 pools, five standard errors."""
    scores = np.random.default_rng(3).uniform(size=(4000, 64))
    variance = pools.subset_variance(Pool.from_lists(scores), n=8).per_prompt[:, 0]
    error = variance.std() / math.sqrt(variance.size)
    assert abs(variance.mean() - 7.6293e-4) < 5 * error
    assert 5 * error < 0.05 * 7.6293e-4  # five per cent would be seen
    curve = pools.best_of_n_curve(Pool.from_lists(scores), n=8).per_prompt[:, 0]
    assert curve.mean() == pytest.approx(8 / 9, abs=5 * curve.std() / math.sqrt(4000))
    with_replacement = np.asarray(
        bt.expected_reward(bt.best_of_n(bt.Policy.from_samples(scores), 8))
    )
    assert with_replacement.mean() - 8 / 9 == pytest.approx(-6.143e-3, abs=2e-3)


def test_many_answers_keep_their_accuracy() -> None:
    """Of the ranks 1 … N the best of n is n (N + 1)/(n + 1) on average."""
    size, n = 1_000_000, np.array([1, 2, 1000, 999_999, 1_000_000])
    found = best(np.arange(1.0, size + 1).tolist(), n=n)
    np.testing.assert_allclose(found, n * (size + 1) / (n + 1), rtol=1e-11)


@pytest.mark.parametrize(("size", "right"), [(5, 0), (5, 2), (200, 3), (200, 199), (1000, 500)])
def test_pass_at_k_is_the_binary_case(size: int, right: int) -> None:
    answers = [True] * right + [False] * (size - right)
    k = np.arange(1, size + 1)
    expected = [
        float(1 - Fraction(math.comb(size - right, j), math.comb(size, j))) for j in k.tolist()
    ]
    found = pools.pass_at_k(Pool.from_lists([answers])).mean
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-300)
    with pytest.raises(ValueError, match=r"scores must be 0 or 1, got .*0\.5"):
        pools.pass_at_k(Pool.from_lists([[0.0, 0.5]]))


def test_prompts_of_unequal_length_are_each_their_own() -> None:
    lists = [TIED, [0.1, 0.9], [2.0, 1.0, 3.0]]
    pool = Pool.from_lists(lists, weights=[1, 2, 1])
    found = pools.best_of_n_curve(pool)
    for row, scores in zip(found.per_prompt, lists, strict=True):
        np.testing.assert_array_equal(row, best(scores, n=[1, 2]))
    np.testing.assert_allclose(found.mean, [0.25, 0.5, 0.25] @ found.per_prompt)
    assert pool.with_at_least(3).counts.tolist() == [7, 3]
    np.testing.assert_allclose(pool.with_at_least(3).weights, [0.5, 0.5])


def test_the_largest_numbers_do_not_overflow() -> None:
    """Equal scores near the end of float64, and true scores and weights there."""
    scores = [1.7e308, 1.7e308, 1.7e308, -1.7e308]
    np.testing.assert_allclose(best(scores), [0.85e308, 1.7e308, 1.7e308, 1.7e308], rtol=1e-14)
    pool = Pool.from_lists([[1, 1, 1, 0]] * 2, true_scores=[scores] * 2, weights=[1e308, 1e308])
    found = pools.best_of_n_curve(pool, n=[1, 4], of="true_scores").mean
    np.testing.assert_allclose(found, [0.85e308, 1.7e308], rtol=1e-14)


def test_a_value_that_is_no_number_is_refused_where_there_is_an_answer() -> None:
    """It would count as 0 in the mean of its ties; beyond a prompt's count there is none."""
    pool = Pool.from_lists([[1.0, 2.0], [3.0]])
    values = [[1.0, 2.0], [4.0, math.nan]]
    assert pools.best_of_n_curve(pool, of=values).mean.tolist() == [2.75]
    for stray in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValueError, match=r"of must be finite for every answer, got \["):
            pools.best_of_n_curve(pool, of=[[1.0, stray], [4.0, 0.0]])


@pytest.mark.parametrize(
    ("estimate", "most", "short"),
    [
        (pools.best_of_n_curve, 4, "n=7: 2"),
        (pools.win_rate_curve, 3, "n=5: 2"),
        (pools.subset_variance, 2, "n=3: 2"),
    ],
)
def test_prompts_that_are_too_short_are_counted(estimate: Any, most: int, short: str) -> None:
    pool = Pool.from_lists([[0.0] * size for size in (4, 5, 9)])
    assert estimate(pool).n.tolist() == list(range(1, most + 1))
    n, number = short.removeprefix("n=").split(": ")
    with pytest.raises(ValueError, match=f"n must be at most {most}.*got {n}: {number} prompts"):
        estimate(pool, n=int(n))


@pytest.mark.parametrize("estimate", [pools.win_rate_curve, pools.subset_variance])
def test_one_answer_is_too_few_to_compare(estimate: Any) -> None:
    with pytest.raises(ValueError, match=r"n must be at most 0, .* 1 prompts are too short"):
        estimate(Pool.from_lists([[3.0], [1.0, 2.0]]))


@pytest.mark.parametrize("n", [[], "two", [[1]], math.nan, 1.5, 0])
def test_numbers_of_candidates_are_whole(n: Any) -> None:
    with pytest.raises(ValueError, match="n must be whole numbers of at least 1, got"):
        best(TIED, n=n)


@pytest.mark.parametrize("row", [[1 + 2j], ["1", "2"], [10**400], np.array(["2020"], "M8[D]")])
def test_scores_that_are_not_real_numbers_are_refused(row: Any) -> None:
    with pytest.raises(ValueError, match="scores of prompt 1 must be numbers"):
        Pool.from_lists([[1.0], row])


# --- intervals --------------------------------------------------------------------------


def covered(band: pools.Band, truth: np.ndarray) -> np.ndarray:
    return (band.low <= truth) & (truth <= band.high)


@pytest.mark.slow
def test_intervals_cover_as_often_as_they_say() -> None:
    """800 data sets of 60 prompts: a coverage of 95 % is met within 2.5 %, three errors."""
    draws, n = np.random.default_rng(11), np.array([1, 2, 4, 8])
    hits: dict[str, list[Any]] = {"normal": [], "bootstrap": [], "band": []}
    for trial in range(800):
        # Prompts of unequal difficulty: E best of n of shift + uniform is n/(n + 1) + E shift.
        scores = draws.uniform(size=(60, 16)) + draws.exponential(0.3, size=(60, 1))
        curve = pools.best_of_n_curve(Pool.from_lists(scores), n=n)
        truth, key = n / (n + 1) + 0.3, jax.random.key(trial)
        hits["normal"].append(covered(pools.normal_band(curve), truth))
        pointwise = pools.bootstrap_band(key, curve, num_resamples=400)
        hits["bootstrap"].append(covered(pointwise, truth))
        band = pools.bootstrap_band(key, curve, num_resamples=400, simultaneous=True)
        hits["band"].append(covered(band, truth).all())
    assert np.mean(hits["bootstrap"], axis=0) == pytest.approx(0.95, abs=0.025)
    assert np.mean(hits["band"]) == pytest.approx(0.95, abs=0.025)
    assert np.mean(hits["normal"], axis=0) == pytest.approx(0.94, abs=0.03)  # skewed shifts


def test_intervals_of_few_prompts_cover_too() -> None:
    """4,000 data sets of 5 normal prompts: 95 % within 1.4 %, four errors; z covers 88 %."""
    draws = np.random.default_rng(3)
    means = draws.normal(size=(4000, 5))
    curves = [pools.Curve(np.array([1]), row[:, None], np.full(5, 0.2)) for row in means]
    hits = [covered(pools.normal_band(curve), np.zeros(1)) for curve in curves]
    assert np.mean(hits) == pytest.approx(0.95, abs=0.014)


def test_intervals_of_unequal_clusters_leave_each_out_and_cover() -> None:
    """4,000 data sets of 6 prompts, of which one counts half; equal shares of variance: 88 %."""
    draws, weights, labels = np.random.default_rng(4), np.arange(1.0, 7), np.array(list("abacbb"))
    x = draws.normal(size=6)
    curve = pools.Curve(np.array([1]), x[:, None], weights / 21)
    band = pools.normal_band(curve, clusters=labels)
    mean = np.average(x, weights=weights)
    left = [np.average(x[labels != c], weights=weights[labels != c]) for c in "abc"]
    error = np.sqrt(np.sum((np.array(left) - mean) ** 2) * 2 / 3)
    np.testing.assert_allclose(band.high - mean, stats.t.ppf(0.975, 2) * error)
    half = np.array([0.5, 0.1, 0.1, 0.1, 0.1, 0.1])
    sets = [pools.Curve(np.array([1]), x[:, None], half) for x in draws.normal(size=(4000, 6))]
    hits = [covered(pools.normal_band(curve), np.zeros(1)) for curve in sets]
    assert 0.905 < np.mean(hits) < 0.95


def test_clusters_widen_intervals_and_one_prompt_each_changes_nothing() -> None:
    scores = np.repeat(np.random.default_rng(0).normal(size=(20, 6)), 4, axis=0)  # four copies
    curve = pools.best_of_n_curve(Pool.from_lists(scores), n=[1, 3])
    plain = pools.normal_band(curve)
    alone = pools.normal_band(curve, clusters=np.arange(80))
    together = pools.normal_band(curve, clusters=np.repeat(np.arange(20), 4))
    np.testing.assert_allclose(alone.high, plain.high)
    once = pools.normal_band(pools.best_of_n_curve(Pool.from_lists(scores[::4]), n=[1, 3]))
    np.testing.assert_allclose(together.high - together.mean, once.high - once.mean)
    assert np.all(together.high - together.mean > 1.9 * (plain.high - plain.mean))


def test_equal_weights_are_the_default_and_a_key_is_all_that_is_random() -> None:
    scores = np.random.default_rng(1).normal(size=(9, 4))
    curves = [
        pools.best_of_n_curve(Pool.from_lists(scores, weights=w)) for w in (None, np.full(9, 7.0))
    ]
    one, other = (pools.bootstrap_band(jax.random.key(5), curve) for curve in curves)
    np.testing.assert_allclose(one.low, other.low)
    changed = pools.bootstrap_band(jax.random.key(6), curves[0])
    assert np.all(changed.low != one.low)


# --- bad input --------------------------------------------------------------------------

REFUSED = {
    "no prompt": (lambda: Pool.from_lists([]), "at least one prompt"),
    "no answer": (lambda: Pool.from_lists([[1.0], []]), "scores of prompt 1 .* at least one score"),
    "text": (lambda: Pool.from_lists([["a"]]), "scores of prompt 0 must be numbers, got"),
    "NaN": (lambda: Pool.from_lists([[1.0, math.nan]]), "got nan at answer 1 of prompt 0"),
    "other lengths": (
        lambda: Pool.from_lists([[1.0, 2.0]], true_scores=[[1.0]]),
        "true_scores must have the lengths of scores",
    ),
    "ragged columns": (
        lambda: Pool.from_table(["a", "b"], [1.0]),
        "one entry per row of prompts, 2",
    ),
    "weights": (lambda: Pool.from_lists([[1.0]], weights=[-1.0]), "weights must be nonnegative"),
    "too many candidates": (
        lambda: best(TIED, n=8),
        "n must be at most 7, .*1 prompts are too short",
    ),
    "half a candidate": (lambda: best(TIED, n=1.5), "n must be whole numbers"),
    "no candidate": (lambda: best(TIED, n=0), "n must be whole numbers"),
    "no truth": (lambda: best(TIED, of="true_scores"), "needs a pool that was given true_scores"),
    "unknown values": (lambda: best(TIED, of="proxy"), "of must be 'scores', 'true_scores'"),
    "other values": (lambda: best(TIED, of=[1.0]), "of must have shape"),
    "unknown ties": (
        lambda: pools.win_rate_curve(Pool.from_lists([TIED]), ties="draw"),  # pyright: ignore[reportArgumentType]
        "ties must be 'half', 'win' or 'loss'",
    ),
    "no opponent left": (
        lambda: pools.win_rate_curve(Pool.from_lists([TIED]), n=7),
        "n must be at most 6",
    ),
    "one prompt": (
        lambda: pools.normal_band(pools.best_of_n_curve(Pool.from_lists([TIED]))),
        "needs at least 2",
    ),
    "a level of two": (
        lambda: pools.normal_band(pools.best_of_n_curve(Pool.from_lists([TIED, TIED])), level=2),
        "level must lie between 0 and 1",
    ),
    "nobody has so many": (lambda: Pool.from_lists([TIED]).with_at_least(8), "at most 7"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_by_name(what: str) -> None:
    call, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        call()


def test_scores_of_any_type_are_taken_as_they_come() -> None:
    expected = best([1.0, 0.0, 1.0])
    for row in ([1, 0, 1], [True, False, True], np.array([1, 0, 1], np.float16)):
        np.testing.assert_array_equal(best(row), expected)  # pyright: ignore[reportArgumentType]
    np.testing.assert_array_equal(best(jax.numpy.asarray([1, 0, 1], jax.numpy.bfloat16)), expected)  # pyright: ignore[reportArgumentType]
    big = best([2**53 + 2, 1])
    assert big[1] == 2.0**53 + 2


@pytest.mark.parametrize("simultaneous", [False, True])
def test_a_bootstrap_of_few_prompts_has_ends(simultaneous: bool) -> None:
    """Of two prompts half of the resamples are one of them: the band is infinite, never NaN."""
    key, two = jax.random.key(0), pools.best_of_n_curve(Pool.from_lists([[1, 2], [3, 4]]))
    band = pools.bootstrap_band(key, two, simultaneous=simultaneous)
    assert np.all(band.low == -math.inf)
    assert np.all(band.high == math.inf)
    equal = pools.best_of_n_curve(Pool.from_lists([[0.3, 0.3]] * 2))
    band = pools.bootstrap_band(key, equal, simultaneous=simultaneous)
    assert np.all(band.low == band.high)
    assert np.all(band.low == equal.mean)


def test_a_prompt_of_weight_zero_is_no_evidence() -> None:
    draws = np.random.default_rng(5).uniform(size=(6, 3))
    curve = pools.best_of_n_curve(Pool.from_lists(draws))
    with_another = pools.best_of_n_curve(
        Pool.from_lists([*draws, [9.0, 9.0, 9.0]], weights=[1] * 6 + [0])
    )
    key = jax.random.key(1)
    for band in (pools.normal_band, lambda c: pools.bootstrap_band(key, c)):
        expected, found = band(curve), band(with_another)
        np.testing.assert_allclose(found.low, expected.low, rtol=1e-13)
        np.testing.assert_allclose(found.high, expected.high, rtol=1e-13)
    alone = pools.best_of_n_curve(Pool.from_lists(draws[:2], weights=[1, 0]))
    with pytest.raises(ValueError, match="at least 2 of them, got 1"):
        pools.normal_band(alone)
    with pytest.raises(ValueError, match="clusters must be one per prompt, 6, got shape"):
        pools.normal_band(curve, clusters=[0, 1])
    with pytest.raises(ValueError, match="num_resamples must be a whole number"):
        pools.bootstrap_band(key, curve, num_resamples=0)
