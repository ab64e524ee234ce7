"""Selection by a judge who errs: closed forms for Gaussian rewards, a slope, and the real thing."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt

COIN = bt.Policy.from_probs([0.9, 0.1], rewards=[0.0, 1.0])
LAW = bt.Policy.from_probs([0.4, 0.0, 0.25, 0.35], rewards=[0.0, 5.0, 1.0, 0.25])
GAUSSIAN = bt.Policy.gaussian_reward(num_nodes=641)


def test_of_a_gaussian_reward_value_and_plug_in_are_one_part_each() -> None:
    """Scores have variance 1 + σ²: value m/√(1 + σ²), plug-in m √(1 + σ²), with m = E max."""
    n, deviation, scores = 8.0, 2.0, 4.0
    m = float(bt.expected_reward(bt.best_of_n(GAUSSIAN, n)))
    judged = bt.judged_value(GAUSSIAN, n, deviation, scores=scores, held_out=5.0)
    spread = math.sqrt(1 + deviation**2 / scores)
    assert float(judged.value) == pytest.approx(m / spread, rel=1e-12)
    assert float(judged.plug_in) == pytest.approx(m * spread, rel=1e-12)
    # Of the winner, the reward given its score keeps the variance σ²/(1 + σ²).
    top = bt.best_of_n(GAUSSIAN, n)
    variance = float(bt.expected_value(top, (top.rewards - m) ** 2)) / spread**2
    variance += (spread**2 - 1) / spread**2
    expected = math.sqrt(variance + deviation**2 / 5)
    assert float(judged.held_out_deviation) == pytest.approx(expected, rel=1e-12)


def test_among_ties_the_plug_in_is_the_highest_of_the_errors() -> None:
    tied = bt.Policy.from_probs([0.5, 0.5], [1.0, 1.0])
    judged = bt.judged_value(tied, jnp.asarray([1.0, 2.0, 3.0]), 2.0)
    np.testing.assert_allclose(judged.value, 1, rtol=1e-14)
    highest = np.array([0, 1 / math.sqrt(math.pi), 1.5 / math.sqrt(math.pi)])
    np.testing.assert_allclose(judged.plug_in, 1 + 2 * highest, atol=1e-13)


def test_the_plug_in_is_too_high_by_the_slope_of_the_density_ratio() -> None:
    """σ² E_π ρ′, with the slope taken at outcomes too rare to matter, a little above and below."""
    n, scale, step = 5.5, 0.6, 1e-4
    mass, rewards = np.asarray(LAW.probs), np.asarray(LAW.rewards)
    rare = np.full(8, 1e-200)
    near = np.concatenate([rewards + step, rewards - step])
    law = bt.Policy.from_probs(np.append(mass, rare), np.append(rewards, near))
    ratio = np.exp(np.asarray(bt.log_ratio(bt.noisy_best_of_n(law, n, scale), law))[4:])
    slope = (ratio[:4] - ratio[4:]) / (2 * step)
    judged = bt.judged_value(LAW, n, scale)
    bias = float(judged.plug_in - judged.value)
    assert bias == pytest.approx(scale**2 * float(mass @ slope), rel=1e-7)


def test_held_out_scores_are_right_in_the_mean_and_the_winning_ones_are_not() -> None:
    """200,000 prompts: z-scores below 5 against the law, and far above 5 for the plug-in."""
    rng, trials = np.random.default_rng(0), 200_000
    n, deviation, scores, held_out = 6, 1.5, 2, 3
    true = rng.choice(np.asarray(LAW.rewards), p=np.asarray(LAW.probs), size=(trials, n))
    errors = deviation * rng.normal(size=(scores + held_out, trials, n))
    selecting = true + errors[:scores].mean(axis=0)
    rows, winner = np.arange(trials), selecting.argmax(axis=1)
    held = (true + errors[scores:].mean(axis=0))[rows, winner]
    judged = bt.judged_value(LAW, n, deviation, scores=scores, held_out=held_out)
    error = float(judged.held_out_deviation) / math.sqrt(trials)
    assert abs(held.mean() - float(judged.value)) < 5 * error
    assert held.std() == pytest.approx(float(judged.held_out_deviation), rel=0.01)
    won = selecting[rows, winner]
    spread = won.std() / math.sqrt(trials)
    assert abs(won.mean() - float(judged.plug_in)) < 5 * spread
    assert abs(won.mean() - float(judged.value)) > 100 * spread
    # All of the winner's scores together are too high by their share.
    everything = (scores * won + held_out * held).mean() / (scores + held_out)
    share = scores / (scores + held_out)
    expected = float(judged.value + share * (judged.plug_in - judged.value))
    assert abs(everything - expected) < 5 * spread


def test_more_scores_are_worth_more_up_to_the_true_reward() -> None:
    counts = jnp.asarray([1.0, 2.0, 4.0, 64.0, 1e6, 1e30])
    judged = bt.judged_value(LAW, 8.0, 1.0, scores=counts)
    assert np.all(np.diff(judged.value) >= 0)
    best = float(bt.expected_reward(bt.best_of_n(LAW, 8.0)))
    assert float(judged.value[-1]) == pytest.approx(best, rel=1e-12)
    assert np.all(np.diff(judged.plug_in - judged.value) <= 1e-15)
    assert np.isinf(judged.held_out_deviation).all()  # J = K: nothing is held out
    certain = bt.judged_value(LAW, 8.0, 0.0, held_out=1.0)
    assert float(certain.value) == float(certain.plug_in)


@pytest.mark.slow
def test_a_budget_buys_what_no_other_number_of_scores_beats() -> None:
    choice = bt.scores_for_budget(COIN, 1.0, budget=100.0, draw_cost=2.0, score_cost=0.5)
    scores = np.arange(1, 40)
    n = np.floor(100 / (2 + scores * 0.5))
    values = np.asarray(bt.judged_value(COIN, n, 1.0, scores=scores).value)
    assert int(choice.scores) == scores[values.argmax()]
    assert float(choice.value) == pytest.approx(values.max(), rel=1e-13)
    assert int(choice.n) == n[values.argmax()]
    # Without error one score is enough, and all the rest goes into candidates.
    exact = bt.scores_for_budget(COIN, 0.0, budget=10.0)
    assert (int(exact.scores), int(exact.n)) == (1, 5)


@pytest.mark.slow
def test_over_few_prompts_more_scores_are_held_out() -> None:
    chosen = [
        int(bt.scores_to_select_on(COIN, 16, 1.0, scores=8, prompts=prompts).scores)
        for prompts in (2, 100, 1e9)
    ]
    assert chosen == sorted(chosen)
    assert chosen[-1] == 7
    assert chosen[0] < 7
    both = bt.Policy.from_probs([[0.9, 0.1], [0.5, 0.5]], rewards=[0.0, 1.0])
    of_both = bt.scores_to_select_on(both, 16, 1.0, scores=8, prompts=100)
    assert of_both.scores.shape == (2,)
    assert int(of_both.scores[0]) == chosen[1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bt.judged_value(COIN, 8, -1.0), "deviation must be .*got -1"),
        (lambda: bt.judged_value(COIN, 0.5, 1.0), "n must be .*got 0.5"),
        (lambda: bt.judged_value(COIN, 8, 1.0, scores=0.5), "scores must be .*got 0.5"),
        (lambda: bt.judged_value(COIN, 8, 1.0, held_out=-1), "held_out must be .*got -1"),
        (lambda: bt.scores_for_budget(COIN, 1.0, budget=1.5), "budget must be .*got 1.5"),
        (lambda: bt.scores_for_budget(COIN, 1.0, budget=math.inf), "budget must be .*got inf"),
        (
            lambda: bt.scores_for_budget(COIN, 1.0, budget=9.0, score_cost=0.0),
            "score_cost must be positive .*got 0",
        ),
        (
            lambda: bt.scores_to_select_on(COIN, 8, 1.0, scores=1, prompts=9),
            "scores must be a whole number of at least 2",
        ),
        (
            lambda: bt.scores_to_select_on(COIN, 8, 1.0, scores=4, prompts=0),
            "prompts must be at least 1",
        ),
    ],
)
def test_bad_input_is_named(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
