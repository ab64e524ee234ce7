"""The best policy to select from, and two ways to distil best-of-n: against optimisers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize

import bon_theory as bt
from bon_theory import alignment
from tests.strategies import law

TIES = law([0.3, 0.1, 0.25, 0.15, 0.2], [0.0, 1.0, 1.0, 2.0, 3.0])
UNSORTED = law([0.4, 0.2, 0.3, 0.1, 0.0], [2.0, 0.0, 1.0, 3.0, 2.5])
by_law = pytest.mark.parametrize("reference", [TIES, UNSORTED], ids=["ties", "unsorted"])
UNIFORM = bt.Policy.uniform_reward(num_nodes=641)


def kept(probs: np.ndarray, rewards: np.ndarray, n: float, keeps: str) -> np.ndarray:
    """P(the best, or the worst, of n has each outcome), from powers of cumulated masses."""
    sign = 1 if keeps == "best" else -1
    upto = np.array([probs[sign * rewards <= sign * r].sum() for r in rewards])
    below = np.array([probs[sign * rewards < sign * r].sum() for r in rewards])
    level = np.where(upto > below, upto - below, 1)
    return probs * (upto**n - below**n) / level


def objective(probs: np.ndarray, reference: bt.Policy, n: float, beta: float, keeps: str) -> float:
    """Win rate of what is kept of n by a double sum, less the price of the divergence."""
    rewards, drawn = np.asarray(reference.rewards), np.asarray(reference.probs)
    ours, theirs = kept(probs, rewards, n, keeps), kept(drawn, rewards, n, keeps)
    beats = (rewards[:, None] > rewards) + 0.5 * (rewards[:, None] == rewards)
    some = probs > 0
    divergence = np.sum(probs[some] * np.log(probs[some] / drawn[some]))
    return float(ours @ beats @ theirs - beta * divergence)


def maximised(value: Callable[[np.ndarray], float], reference: bt.Policy) -> np.ndarray:
    """The best law that optimisers without derivatives find, over logits of possible outcomes."""
    drawn = np.asarray(reference.probs)
    some = drawn > 0

    def probs(x: np.ndarray) -> np.ndarray:
        weights = np.zeros_like(drawn)
        weights[some] = drawn[some] * np.exp(np.append(x, 0.0) - np.max(np.append(x, 0.0)))
        return weights / weights.sum()

    x = optimize.minimize(lambda x: -value(probs(x)), np.zeros(some.sum() - 1), method="BFGS").x
    for _ in range(3):
        x = optimize.minimize(
            lambda x: -value(probs(x)), x, method="Nelder-Mead",
            options={"xatol": 1e-10, "fatol": 1e-15, "maxiter": 4000, "maxfev": 4000},
        ).x  # fmt: skip
    return probs(x)


@by_law
@pytest.mark.parametrize("keeps", ["best", "worst"])
@pytest.mark.parametrize(("n", "beta"), [(2.0, 0.2), (4.5, 0.5)])
def test_it_is_what_an_optimiser_finds(
    reference: bt.Policy, keeps: Any, n: float, beta: float
) -> None:
    found = maximised(lambda p: objective(p, reference, n, beta, keeps), reference)
    policy, residual = alignment.inference_aware(reference, n=n, beta=beta, keeps=keeps)
    assert float(residual) < 1e-12
    # The objective is flat to 1e-16 within 1e-8 of its maximum.
    np.testing.assert_allclose(policy.probs, found, atol=3e-7)
    own = objective(np.asarray(policy.probs), reference, n, beta, keeps)
    assert own >= objective(found, reference, n, beta, keeps) - 1e-15


# The win rate of the best of n from the optimum, its KL divergence, and the win rate of the best of
# n from a tilt of the rank at that divergence.
GOLDEN = [
    (2.0, 0.2, 0.835652, 0.592594, 0.811090),
    (4.0, 0.2, 0.880569, 0.535163, 0.807131),
    (16.0, 0.2, 0.950047, 0.347625, 0.769072),
]


@pytest.mark.parametrize(("n", "beta", "value", "kl", "tilted"), GOLDEN)
def test_without_ties_it_has_the_known_values(
    n: float, beta: float, value: float, kl: float, tilted: float
) -> None:
    policy, residual = alignment.inference_aware(UNIFORM, n=n, beta=beta)
    best, rival = bt.best_of_n(policy, n), bt.best_of_n(UNIFORM, n)
    divergence = bt.kl_divergence(policy, UNIFORM)
    assert float(residual) < 1e-12
    assert float(bt.win_rate(best, rival)) == pytest.approx(value, abs=5e-7)
    assert float(divergence) == pytest.approx(kl, abs=5e-7)
    strength: Any = optimize.brentq(
        lambda c: float(bt.kl_divergence(bt.win_rate_optimal(UNIFORM, c), UNIFORM) - divergence),
        0.1,
        20,
    )
    tilt = bt.best_of_n(bt.win_rate_optimal(UNIFORM, strength), n)
    assert float(bt.win_rate(tilt, rival)) == pytest.approx(tilted, abs=5e-7)


@pytest.mark.parametrize("keeps", ["best", "worst"])
def test_of_one_answer_it_is_the_win_rate_optimum(keeps: Any) -> None:
    policy, _ = alignment.inference_aware(UNIFORM, n=1, beta=0.2, keeps=keeps)
    optimum = bt.win_rate_optimal(UNIFORM, 5.0)
    np.testing.assert_allclose(policy.probs, optimum.probs, atol=1e-13)


@pytest.mark.parametrize("keeps", ["best", "worst"])
def test_a_fine_grid_tends_to_the_law_without_ties(keeps: Any) -> None:
    """Two programs, for outcomes and for nodes, one law: L levels are off by 1/L², taken out."""

    def divergence(reference: bt.Policy) -> float:
        policy, _ = alignment.inference_aware(reference, n=4, beta=0.3, keeps=keeps)
        return float(bt.kl_divergence(policy, reference))

    coarse, fine = (divergence(bt.Policy.from_samples(np.arange(size))) for size in (250.0, 500.0))
    assert (4 * fine - coarse) / 3 == pytest.approx(divergence(UNIFORM), abs=2e-6)


def test_batches_are_solved_law_by_law() -> None:
    beta = jnp.asarray([0.2, 1.0])
    together, residual = alignment.inference_aware(TIES, n=3.0, beta=beta)
    assert together.probs.shape == (2, 5)
    assert residual.shape == (2,)
    alone, _ = alignment.inference_aware(TIES, n=3.0, beta=1.0)
    np.testing.assert_allclose(together.probs[1], alone.probs, rtol=1e-12)
    nan: Any = jax.jit(lambda b: alignment.inference_aware(TIES, n=3.0, beta=b).policy.probs)(-1.0)
    assert np.isnan(np.asarray(nan)).all()


# --- distillation -----------------------------------------------------------------------


@by_law
@pytest.mark.parametrize("weight", [0.1, 0.9])
def test_bond_leads_an_optimiser_to_best_of_n(reference: bt.Policy, weight: float) -> None:
    best = kept(np.asarray(reference.probs), np.asarray(reference.rewards), 3.0, "best")
    some = best > 0

    def loss(probs: np.ndarray) -> float:
        ratio = np.log(probs[some] / best[some])
        forward, backward = -best[some] @ ratio, probs[some] @ ratio
        return float(weight * forward + (1 - weight) * backward)

    found = maximised(lambda p: -loss(p), reference)
    np.testing.assert_allclose(alignment.bond(reference, n=3.0).probs, found, atol=3e-7)
    policy = bt.win_rate_optimal(reference, 2.0)
    value = alignment.bond_loss(policy, reference, n=3.0, forward_weight=weight)
    assert float(value) == pytest.approx(loss(np.asarray(policy.probs)), rel=1e-12)


@by_law
def test_variational_best_of_n_is_what_an_optimiser_finds(reference: bt.Policy) -> None:
    drawn, rewards = np.asarray(reference.probs), np.asarray(reference.rewards)
    upto = np.array([drawn[rewards <= r].sum() for r in rewards])
    some = drawn > 0

    def loss(probs: np.ndarray) -> float:
        terms = np.log(probs[some] / drawn[some]) - np.log(upto[some]) / 0.5
        return float(probs[some] @ terms)

    found = maximised(lambda p: -loss(p), reference)
    policy = alignment.variational_best_of_n(reference, beta=0.5)
    np.testing.assert_allclose(policy.probs, found, atol=3e-7)
    value = alignment.variational_best_of_n_loss(policy, reference, beta=0.5)
    assert float(value) == pytest.approx(loss(np.asarray(policy.probs)), rel=1e-12)
    assert float(value) <= loss(found) + 1e-15


def test_without_ties_variational_best_of_n_is_best_of_n() -> None:
    policy = alignment.variational_best_of_n(UNIFORM, beta=jnp.asarray([1.0, 0.2]))
    best = bt.best_of_n(UNIFORM, jnp.asarray([2.0, 6.0]))
    np.testing.assert_allclose(policy.probs, best.probs, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: alignment.inference_aware(TIES, n=0.5, beta=1.0), "n must be"),
        (lambda: alignment.inference_aware(TIES, n=2, beta=0.0), "beta must be"),
        (
            lambda: alignment.inference_aware(TIES, n=2, beta=1.0, keeps="median"),  # pyright: ignore[reportArgumentType]
            'keeps must be "best" or "worst", got .median',
        ),
        (lambda: alignment.bond_loss(TIES, TIES, n=2, forward_weight=2.0), "forward_weight must"),
        (lambda: alignment.variational_best_of_n(TIES, beta=-1.0), "beta must be"),
    ],
)
def test_bad_input_says_what_to_do(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
