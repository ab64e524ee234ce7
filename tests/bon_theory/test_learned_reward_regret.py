"""Selecting by a learned reward: what it can cost, on joint laws of it and a true one."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bon_theory as bt
from tests import strategies as some

pairwise_error: Any = jax.jit(bt.pairwise_error)
regret_bound: Any = jax.jit(bt.regret_bound)
ratios = st.floats(1.0, 20.0).map(jnp.asarray)


@given(reference=some.laws, truth=some.rewards)
def test_the_error_is_that_of_pairs(reference: bt.Policy, truth: np.ndarray) -> None:
    probs, learned = np.asarray(reference.probs), np.asarray(reference.rewards)
    total = 0.0
    for p, r, t in zip(probs, learned, truth, strict=True):
        for q, s, u in zip(probs, learned, truth, strict=True):
            mine, true = ((a > b) + 0.5 * (a == b) for a, b in ((r, s), (t, u)))
            total += p * q * abs(mine - true)
    assert float(pairwise_error(reference, truth)) == pytest.approx(total, abs=1e-14)


@given(
    reference=some.laws, truth=some.rewards, comparator=some.probabilities, n=some.numbers, m=ratios
)
def test_best_of_n_never_loses_more(
    reference: bt.Policy, truth: np.ndarray, comparator: np.ndarray, n: Any, m: Any
) -> None:
    def true_win_rate(probs: np.ndarray) -> float:
        law, base = (some.policy_of(p / p.sum(), truth) for p in (probs, some.probs(reference)))
        return float(some.win_rate(law, base))

    against = some.policy_of(comparator, np.asarray(reference.rewards))
    bound = float(regret_bound(against, reference, truth, n=n, ratio=m))
    best = some.probs(some.best_of_n(reference, n))
    assert true_win_rate(comparator) - true_win_rate(best) <= bound + 1e-11


@given(reference=some.laws, n=some.numbers, m=ratios)
def test_the_published_term_is_larger(reference: bt.Policy, n: Any, m: Any) -> None:
    """With the same reward, and a comparator of density at most M, it is all that is left."""
    top = some.top_fraction(reference, 1 / m)
    bound = float(regret_bound(top, reference, reference.rewards, n=n, ratio=m))
    assert bound <= 0.5 * float(jnp.exp(-n / m)) + 1e-9
    regret = some.win_rate(top, reference) - some.win_rate(some.best_of_n(reference, n), reference)
    assert bound == pytest.approx(float(regret), abs=1e-9)  # attained; E_M is rounding over M


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda law: bt.pairwise_error(law, [0.0, 1.0]), "one value per outcome"),
        (lambda law: bt.regret_bound(law, law, law.rewards, n=2, ratio=0.5), "ratio must be"),
        (lambda law: bt.pairwise_error(bt.Policy.uniform_reward(), [0.0]), "must be discrete"),
    ],
)
def test_bad_input_says_what_to_do(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call(some.law([0.5, 0.3, 0.2], [0.0, 0.5, 1.0]))
