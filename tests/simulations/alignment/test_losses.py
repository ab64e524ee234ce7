"""Losses on pairs: their means over all pairs are the population's, and so are their gradients."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import stats

import bon_theory as bt
from bon_theory import alignment
from simulations.alignment import losses
from simulations.alignment.losses import OnPolicy, PairLogProbs

N = 4
REFERENCE = bt.Policy.from_probs([0.3, 0.1, 0.25, 0.15, 0.2], rewards=[0.0, 1.0, 1.0, 2.0, 3.0])
LOGITS = jnp.asarray([0.4, -1.0, 0.3, 0.0, 1.2])


def policy_of(logits: jax.Array) -> bt.Policy:
    return bt.Policy.from_logits(logits, REFERENCE.rewards)


def all_pairs(logits: jax.Array) -> PairLogProbs:
    """Every pair of outcomes, ``[K, K]``: the chosen one on the first axis."""
    shape = (5, 5)
    policy, reference = jax.nn.log_softmax(logits), REFERENCE.log_probs
    return PairLogProbs(
        *(
            jnp.broadcast_to(array, shape)
            for array in (policy[:, None], policy[None], reference[:, None], reference[None])
        )
    )


TARGETS = bt.log_ratio(bt.best_of_n(REFERENCE, N), REFERENCE)
CASES = {
    "sft": (losses.sft, lambda p: alignment.sft_best_of_n_loss(p, REFERENCE, n=N)),
    "ipo": (
        lambda pairs: losses.ipo(pairs, beta=0.3),
        lambda p: alignment.ipo_loss(p, REFERENCE, n=N, beta=0.3),
    ),
    "ipo_best_of_n": (
        lambda pairs: losses.ipo_best_of_n(pairs, n=N),
        lambda p: alignment.ipo_loss(p, REFERENCE, n=N, beta=alignment.best_of_n_beta(N)),
    ),
    "bonbon": (
        lambda pairs: losses.bonbon(pairs, n=N, sft_weight=0.3),
        lambda p: alignment.bonbon_loss(p, REFERENCE, n=N, sft_weight=0.3),
    ),
    "bonbon, other beta": (
        lambda pairs: losses.bonbon(pairs, n=N, sft_weight=0.3, beta=0.2),
        lambda p: alignment.bonbon_loss(p, REFERENCE, n=N, sft_weight=0.3, beta=0.2),
    ),
    "dpo": (
        lambda pairs: losses.dpo(pairs, beta=0.7),
        lambda p: alignment.dpo_loss(p, REFERENCE, n=N, beta=0.7),
    ),
    "ipo_matched": (
        lambda pairs: losses.ipo_matched(pairs, target=TARGETS[:, None] - TARGETS[None, :]),
        lambda p: alignment.ipo_matched_loss(p, REFERENCE, n=N),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_mean_over_all_pairs_is_the_populations(name: str) -> None:
    """The value and the gradient, by a law of pairs and a code of losses of its own."""
    of_pairs, of_population = CASES[name]
    weights = alignment.best_and_worst_probs(REFERENCE, n=N)

    def mean(logits: jax.Array) -> jax.Array:
        return jnp.sum(weights * of_pairs(all_pairs(logits)))

    def exact(logits: jax.Array) -> jax.Array:
        return of_population(policy_of(logits))

    np.testing.assert_allclose(mean(LOGITS), exact(LOGITS), rtol=1e-13)
    np.testing.assert_allclose(jax.grad(mean)(LOGITS), jax.grad(exact)(LOGITS), atol=1e-13)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    of_pairs, _ = CASES[name]
    rows = np.random.default_rng(0).normal(size=(4, 5, 5))
    pairs = PairLogProbs(*map(jnp.asarray, rows))
    check_grads(lambda *p: jnp.sum(of_pairs(PairLogProbs(*p))), pairs, order=1, modes=["rev"])


@pytest.mark.parametrize(("rank", "num_draws"), [(0.05, 3), (0.3, 8), (0.9, 40), (1.0, 5)])
def test_the_estimate_of_a_log_rank_has_the_mean_that_is_stated(
    rank: float, num_draws: int
) -> None:
    counts = np.arange(num_draws + 1)
    mean = stats.binom.pmf(counts, num_draws, rank) @ losses.log_rank(counts, num_draws)
    j = np.arange(1, num_draws + 1)
    assert mean == pytest.approx(-np.sum((1 - rank) ** j / j), abs=1e-12)
    bias_bound = (1 - rank) ** (num_draws + 1) / ((num_draws + 1) * rank)
    assert -1e-12 <= mean - np.log(rank) <= bias_bound + 1e-12


def test_a_noisy_target_changes_the_loss_by_a_constant() -> None:
    pairs = all_pairs(LOGITS)
    noise = np.random.default_rng(1).choice([-2.0, 2.0], size=(5, 5))
    both = [losses.ipo_matched(pairs, target=1.5 + sign * noise) for sign in (1, -1)]
    np.testing.assert_allclose(
        (both[0] + both[1]) / 2, losses.ipo_matched(pairs, target=1.5) + 4, rtol=1e-13
    )


def test_the_target_of_a_pair_is_its_margin_at_best_of_n() -> None:
    """Without ties: ranks of four equally likely outcomes are continuous only in the limit."""
    ranks = np.array([0.25, 0.5, 0.75, 1.0])
    found = losses.matched_target(np.log(ranks[1:]), np.log(ranks[:-1]), n=5)
    np.testing.assert_allclose(found, 4 * np.log(ranks[1:] / ranks[:-1]), rtol=1e-15)


def test_the_surrogate_has_the_gradient_of_the_reverse_divergence() -> None:
    """In expectation over all pairs of responses that a policy may draw: exactly, no sampling.

    Ties are part of the law: the target's log rank is log(P_n/π) less log n, over n − 1.
    """
    target = bt.best_of_n(REFERENCE, N)
    log_ranks = (bt.log_ratio(target, REFERENCE) - np.log(N)) / (N - 1)

    def drawn(logits: jax.Array) -> OnPolicy:
        log_probs = jax.nn.log_softmax(logits)
        first, second = jnp.meshgrid(jnp.arange(5), jnp.arange(5), indexing="ij")
        index = jnp.stack([first.ravel(), second.ravel()], axis=-1)  # [25, 2]
        return OnPolicy(log_probs[index], REFERENCE.log_probs[index], log_ranks[index])

    probs = jax.nn.softmax(LOGITS)
    weights = (probs[:, None] * probs[None, :]).reshape(-1, 1)

    def surrogate(logits: jax.Array) -> jax.Array:
        return jnp.sum(weights * losses.reverse_kl(drawn(logits), n=N)) / 2

    def exact(logits: jax.Array) -> jax.Array:
        return bt.kl_divergence(policy_of(logits), target)

    np.testing.assert_allclose(jax.grad(surrogate)(LOGITS), jax.grad(exact)(LOGITS), atol=1e-13)
    values = losses.reverse_kl_values(drawn(LOGITS), n=N)
    np.testing.assert_allclose(jnp.sum(weights * values) / 2, exact(LOGITS), rtol=1e-13)


def test_jeffreys_is_the_weighted_sum_of_its_halves() -> None:
    pairs = PairLogProbs(*(jnp.asarray([-1.0, -3.0]) for _ in range(4)))
    drawn = OnPolicy(*(jnp.asarray([[-1.0, -2.0], [-3.0, -5.0]]) for _ in range(3)))
    found = losses.jeffreys(pairs, drawn, n=3, forward_weight=0.25)
    expected = 0.25 * 2.0 + 0.75 * jnp.mean(losses.reverse_kl(drawn, n=3))
    np.testing.assert_allclose(found, expected, rtol=1e-14)


def test_bad_input_is_named() -> None:
    one = OnPolicy(*(jnp.zeros((3, 1)) for _ in range(3)))
    with pytest.raises(ValueError, match=r"drawn has 1 response"):
        losses.reverse_kl(one, n=2)
    with pytest.raises(ValueError, match=r"got 3.0 to 3.0 of 2.0"):
        losses.log_rank(3, 2)
    with pytest.raises(ValueError, match=r"n must be a finite number at least 2"):
        losses.ipo_best_of_n(all_pairs(LOGITS), n=1)


@pytest.mark.parametrize("loss", [losses.ipo_best_of_n, partial(losses.bonbon, sft_weight=0.1)])
def test_losses_of_best_of_n_can_be_compiled(loss: Callable) -> None:
    pairs = PairLogProbs(*map(jnp.asarray, np.random.default_rng(2).normal(size=(4, 3))))
    np.testing.assert_allclose(jax.jit(partial(loss, n=4))(pairs), loss(pairs, n=4), rtol=1e-14)
