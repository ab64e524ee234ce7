"""Numbers as people have them: 0 and 1, booleans, half precision, integers beyond 32 bits."""

import fractions
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt

SCORES = [0.0, 1.0, 1.0, 0.0]
GIVEN: dict[str, Any] = {
    "integers": np.array([0, 1, 1, 0]),
    "a list of integers": [0, 1, 1, 0],
    "booleans": np.array([False, True, True, False]),
    "fractions": [fractions.Fraction(x) for x in (0, 1, 1, 0)],
    "float16": np.array(SCORES, np.float16),
    "bfloat16": jnp.array(SCORES, jnp.bfloat16),
    "int8 in JAX": jnp.array([0, 1, 1, 0], jnp.int8),
    "long double": np.array(SCORES, np.longdouble),
}


@pytest.mark.parametrize("given", GIVEN)
def test_scores_of_any_real_type_mean_what_they_say(given: str) -> None:
    scores = GIVEN[given]
    pool = bt.Policy.from_samples(scores)
    assert pool.rewards.tolist() == SCORES
    assert float(bt.expected_value(bt.Policy.from_samples([0.0, 1.0, 2.0, 3.0]), scores)) == 0.5
    assert bt.Policy.from_probs([0.25] * 4, scores).rewards.tolist() == SCORES


def test_a_true_reward_may_be_integers() -> None:
    reference = bt.Policy.from_probs([0.5, 0.3, 0.2], [0.0, 1.0, 2.0])
    assert float(bt.hedge_n(reference, [0, 1, 0]).parameter) == pytest.approx(
        float(bt.hedge_n(reference, [0.0, 1.0, 0.0]).parameter), rel=1e-12
    )


def test_a_batch_may_be_of_no_laws() -> None:
    nothing = bt.Policy.from_probs(np.zeros((0, 3)), np.zeros((0, 3)))
    assert "batch (0,)" in repr(nothing)
    assert bt.best_of_n(nothing, 2).probs.shape == (0, 3)
    assert bt.kl_divergence(bt.best_of_n(nothing, 2), nothing).shape == (0,)
    assert bt.n_for_kl(nothing, 0.1).shape == (0,)
    assert bt.choose_n_and_temperature(nothing, 0.1, max_n=4).n.shape == (0,)
    assert bt.hedge_n(nothing, np.zeros((0, 3))).parameter.shape == (0,)
    assert bt.hedge_temperature(nothing, np.zeros(3), n=[[2.0], [4.0]]).slope.shape == (2, 0)


# Best-of-2 of p = (.5, .3, .2) where the rewards descend, and where the second is the lowest.
LARGE: dict[str, tuple[Any, list[float]]] = {
    "beyond 32 bits": (np.array([2**32, 1, 0]), [0.75, 0.21, 0.04]),
    "the same as a list": ([2**32, 1, 0], [0.75, 0.21, 0.04]),
    "beyond 64 bits": ([2**70, 1, 0], [0.75, 0.21, 0.04]),
    "negative": (np.array([-3 * 10**9, -5 * 10**9, -(10**9)]), [0.55, 0.09, 0.36]),
    "unsigned": (np.array([2**64 - 1, 2**40, 0], np.uint64), [0.75, 0.21, 0.04]),
}


@pytest.mark.parametrize("x64", [True, False])
@pytest.mark.parametrize("rewards", LARGE)
def test_large_integers_are_not_wrapped(rewards: str, x64: bool) -> None:
    given, expected = LARGE[rewards]
    with jax.enable_x64(x64):
        reference = bt.Policy.from_probs([0.5, 0.3, 0.2], given)
        probs = np.asarray(bt.best_of_n(reference, 2).probs)
        samples = bt.Policy.from_samples(given)
        mean = float(bt.expected_value(samples, given))
    np.testing.assert_allclose(probs, expected, rtol=1e-6)
    assert mean == pytest.approx(np.mean([float(r) for r in given]), rel=1e-6)


RAGGED = [[0.0] * 50_000, [0.0] * 3]
WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "nothing": (lambda: bt.Policy.from_samples(None), "must be numbers, got None"),  # pyright: ignore
    "words": (lambda: bt.Policy.from_samples(["a", "b"]), "must be numbers, got .'a', 'b'."),  # pyright: ignore
    "a word": (lambda: bt.Policy.from_probs("half", [0.0]), "must be numbers, got 'half'"),  # pyright: ignore
    "a dictionary": (lambda: bt.Policy.from_samples({"a": 1.0}), "must be numbers, got {'a'"),  # pyright: ignore
    "too large": (lambda: bt.Policy.from_samples([10**400, 1]), "within the range of float64, got"),
    "ragged": (lambda: bt.Policy.from_samples(RAGGED), r"\.\.\.: nested lists must be regular"),
    "a long array as n": (
        lambda: bt.best_of_n(bt.Policy.from_samples([0.0, 1.0]), np.linspace(0.1, 0.9, 900)),
        r"\.\.\.: choose n at least 1",
    ),
    "a long word for ties": (
        lambda: bt.win_rate(*[bt.Policy.from_samples([0.0])] * 2, ties="half" * 1000),  # pyright: ignore
        r"\.\.\.: choose how",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_message_shows_80_characters_of_what_was_got(wrong: str) -> None:
    call, words = WRONG[wrong]
    with pytest.raises(ValueError, match=words) as caught:
        call()
    assert len(str(caught.value)) < 80 + 120
