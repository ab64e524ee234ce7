"""Targets that cannot be reached are refused with the range that can, and NaN under jit."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt

REFERENCE = bt.Policy.from_probs([0.5, 0.3, 0.2], [0.0, 0.5, 1.0])
PROMPTS = bt.Policy.from_probs([[0.5, 0.3, 0.2], [0.25, 0.25, 0.5]], [0.0, 0.5, 1.0])
n_for_kl: Any = bt.n_for_kl  # called as its type forbids
n_for_win_rate: Any = bt.n_for_win_rate

IMPOSSIBLE = {
    "KL above -log of the top mass": (
        lambda r: bt.n_for_kl(r, 1.7),
        r"kl must be in the attainable range \[0, 1.60944\) of best-of-n .* got 1.7",
    ),
    "KL of the top mass itself": (lambda r: bt.n_for_kl(r, -math.log(0.2)), r"\[0, 1.60944\)"),
    "KL above that of the tilt": (
        lambda r: bt.n_for_kl(r, 1.55, temperature=0.1),
        r"\[0, 1.54812\) of soft best-of-n at temperature 0.1",
    ),
    "KL above that of best-of-n": (
        lambda r: bt.temperature_for_kl(r, 0.6, n=4),
        r"\[0, 0.559751\] of soft best-of-4",
    ),
    "negative KL": (lambda r: bt.n_for_kl(r, -0.1), "kl must be .* got -0.1"),
    "one of several": (
        lambda r: bt.n_for_kl(r, [0.5, 3.0, 0.1], unattainable="raise"),
        r"got 3 at index \(1,\): choose kl there, or pass unattainable='nan'",
    ),
    "some of many": (
        lambda r: bt.n_for_kl(r, [[0.5, 0.2], [3.0, 4.0]], unattainable="raise"),
        r"got 3 at index \(1, 0\) \(and 1 more like it\)",
    ),
    "unattainable": (
        lambda r: n_for_kl(r, 0.1, unattainable="skip"),
        "unattainable must be None, 'raise' or 'nan', got 'skip'",
    ),
    "a mean over one law": (
        lambda r: bt.n_for_kl(r, 0.1, across_prompts=True),
        "reference must have a batch axis of prompts",
    ),
    "no weight": (
        lambda r: bt.n_for_kl(PROMPTS, 0.1, across_prompts=[0.0, 0.0]),
        "across_prompts must have a positive weight",
    ),
    "a negative weight": (
        lambda r: bt.n_for_kl(PROMPTS, 0.1, across_prompts=[1.0, -1.0]),
        "across_prompts must be a finite number at least 0",
    ),
    "a mean out of range": (
        lambda r: bt.n_for_kl(PROMPTS, 1.2, across_prompts=True),
        r"\[0, 1.15129\) of best-of-n over this reference, on average over prompts, got 1.2",
    ),
    "win rate of a coin": (lambda r: bt.n_for_win_rate(r, 0.45), r"win_rate .* \[0.5, 0.9\)"),
    "win rate 1 with ties": (lambda r: bt.n_for_win_rate(r, 0.95), r"win_rate .* \[0.5, 0.9\)"),
    "reward above the best": (lambda r: bt.n_for_reward(r, 1.5), r"reward .* \[0.35, 1\)"),
    "reward below the mean": (
        lambda r: bt.temperature_for_reward(r, 0.2, n=4),
        r"reward must be .* \[0.35, 0.",
    ),
    "NaN": (lambda r: bt.n_for_kl(r, math.nan), "kl must be a number, got nan"),
    "a word": (lambda r: n_for_kl(r, "much"), "kl must be a real number"),
    "a number in words": (lambda r: n_for_kl(r, "0.5"), "kl must be a real number .* '0.5'"),
    "nothing": (lambda r: n_for_kl(r, None), "kl must be a real number .* None"),
    "a large reward below the mean": (
        lambda r: bt.n_for_reward(dataclasses.replace(r, rewards=r.rewards + 1e8), 1e8),
        r"\[100000000.35, 100000001\) of best-of-n .* got 100000000: choose",
    ),
    "KL of one candidate": (
        lambda r: bt.temperature_for_kl(r, 0.1, n=1),
        "kl must be at the only attainable value, 0, of soft best-of-1",
    ),
    "n below 1": (lambda r: bt.temperature_for_kl(r, 0.1, n=0.5), "n must be"),
    "n negative infinite": (lambda r: bt.temperature_for_kl(r, 0.1, n=-math.inf), "n must be"),
    "negative temperature": (lambda r: bt.n_for_kl(r, 0.1, temperature=-1.0), "temperature must"),
    "rounding": (lambda r: n_for_kl(r, 0.1, rounding="nearest"), "rounding must be .*'nearest'"),
    "ties": (lambda r: n_for_win_rate(r, 0.6, ties="draw"), "ties must be .*'draw'"),
    "a list of ties": (lambda r: n_for_win_rate(r, 0.6, ties=["half"]), "ties must be .*'half'"),
    "shapes": (
        lambda r: bt.temperature_for_kl(r, jnp.zeros(3), n=jnp.ones(2)),
        r"n of shape \(2,\) does not broadcast",
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_is_impossible_is_refused_with_the_range(case: str):
    call, message = IMPOSSIBLE[case]
    with pytest.raises(ValueError, match=message):
        call(REFERENCE)


def test_nodes_too_coarse_for_the_temperature_are_refused():
    uniform = bt.Policy.uniform_reward()
    with pytest.raises(ValueError, match="reference has too few nodes for the temperature"):
        bt.temperature_for_kl(uniform, 1.2, n=8)  # hard best-of-8 has 1.2044


BEYOND: dict[str, tuple[Any, str]] = {
    "n": (
        lambda x: bt.n_for_kl(bt.Policy.from_probs([1.0, 1e-300], [0.0, 1.0]), x),
        "n beyond .* float64",
    ),
    "n in float32": (
        lambda x: bt.n_for_kl(
            bt.Policy.from_logits(*jnp.array([[0, -99], [0, 1]], jnp.float32)), 90 * x
        ),
        "n beyond the range of float32",
    ),
    "temperature": (
        lambda x: bt.temperature_for_kl(
            bt.Policy.from_probs([0.4, 0.3, 0.3 - 1e-9, 1e-9], [0.0, 1.0, 2.0, -1e40]),
            x / 5,
            n=math.inf,
        ),
        "temperature beyond the range of float64",
    ),
}


@pytest.mark.parametrize("case", BEYOND)
def test_an_answer_that_floating_point_does_not_hold_is_refused(case: str):
    call, message = BEYOND[case]
    target = 650.0 if case == "n" else 1.0
    with pytest.raises(ValueError, match=message):
        call(target)
    assert np.isnan(jax.jit(call)(target))


NO_POLICY: dict[str, Any] = {
    "n_for_kl": lambda x: bt.n_for_kl(x, 0.1),
    "temperature_for_kl": lambda x: bt.temperature_for_kl(x, 0.1, n=4),
    "frontier": lambda x: bt.frontier(x, 0.1),
    "choose": lambda x: bt.choose_n_and_temperature(x, 0.1, max_n=2),
    "hedge_n": lambda x: bt.hedge_n(x, [0.1]),
    "hedge_mean_extra_draws": lambda x: bt.hedge_mean_extra_draws(x, [0.1]),
    "hedge_temperature": lambda x: bt.hedge_temperature(x, [0.1], n=2),
}


@pytest.mark.parametrize("name", NO_POLICY)
def test_what_is_no_policy_is_refused(name: str):
    with pytest.raises(ValueError, match="reference must be a Policy, got list"):
        NO_POLICY[name]([0.5, 0.5])


def test_among_many_prompts_those_without_an_answer_are_nan():
    """All right, all wrong, and one in between: people hold thousands of such."""
    scores = [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    pools = bt.Policy.from_samples(scores)
    found = np.asarray(bt.n_for_kl(pools, 0.5))
    assert np.isnan(found).tolist() == [True, True, False]
    alone = bt.n_for_kl(bt.Policy.from_samples(scores[2]), 0.5)
    assert found[2] == pytest.approx(float(alone), rel=1e-12)
    assert np.isnan(bt.temperature_for_kl(pools, 0.2, n=4)).tolist() == [True, True, False]
    assert np.isnan(bt.frontier(pools, 0.5).value).tolist() == [True, True, False]
    assert np.isnan(bt.n_for_kl(REFERENCE, 9.0, unattainable="nan"))
    with pytest.raises(ValueError, match=r"got 0.5 at index \(0,\) \(and 1 more like it\)"):
        bt.n_for_kl(pools, 0.5, unattainable="raise")


def test_traced_targets_out_of_range_give_nan():
    found = jax.jit(lambda kl: bt.n_for_kl(REFERENCE, kl))(jnp.array([0.5, 9.0, jnp.nan]))
    assert np.isnan(found).tolist() == [False, True, True]
    found = jax.vmap(lambda n: bt.temperature_for_kl(REFERENCE, 0.3, n=n))(
        jnp.array([4.0, 1.1, 0.5])
    )
    assert np.isnan(found).tolist() == [False, True, True]
