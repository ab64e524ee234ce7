"""Soft best-of-n on hundreds of distinct rewards, where only tiles of the race are evaluated.

Temperatures from one at which all 600 outcomes race at once to one at which each races alone.
"""

from typing import Any

import jax
import numpy as np
import pytest

import bon_theory as bt
from tests.oracles import soft_many
from tests.test_selection_exact import log_error

K = 600
RNG = np.random.default_rng(8)


def _normalised(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits)


LEVELS = np.arange(float(K))
GAPS = RNG.choice([0.0, 0.125, 1.0, 4.0], size=K)
LAWS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    # Masses as those of a long sum: e^-500 at the ends.
    "levels": (_normalised(-(((LEVELS - 240) / 15) ** 2)), LEVELS),
    "uneven": (_normalised(np.log(RNG.dirichlet(np.full(K, 0.3)))), RNG.permutation(GAPS.cumsum())),
    # The least of all possible outcomes is the last to ring.
    "a tiny worst": (_normalised(np.where(LEVELS > 0, 0, -460.0)), LEVELS),
    "impossible outcomes": (_normalised(np.where(LEVELS % 3 > 0, 0, -np.inf)), LEVELS),
}
by_law = pytest.mark.parametrize("name", LAWS)


@jax.jit
def _selected(log_probs: Any, rewards: Any, n: Any, temperature: Any) -> tuple[Any, Any]:
    reference = bt.Policy.from_logits(log_probs, rewards)
    policy, certificate = bt.soft_best_of_n(reference, n, temperature, full_output=True)
    return policy.log_probs, certificate


def law(name: str, n: float, temperature: float) -> np.ndarray:
    log_probs, certificate = _selected(*LAWS[name], n, temperature)
    assert certificate < 1e-12
    return np.asarray(log_probs)


@by_law
@pytest.mark.parametrize("temperature", [0.5, 16.0, 1024.0])
@pytest.mark.parametrize("n", [1.5, 16.0, 1e15])
def test_many_outcomes_equal_the_whole_plane(name: str, n: float, temperature: float) -> None:
    log_probs, rewards = LAWS[name]
    step = 1 / 32 if n == 1.5 else 1 / 8
    expected = soft_many.log_law(log_probs, rewards / temperature, n, step=step)
    assert log_error(law(name, n, temperature), expected) < 1e-12


@by_law
@pytest.mark.parametrize("temperature", [1 / 1024, 1 / 64, 1 / 16, 1.0, 256.0])
def test_many_outcomes_equal_their_duels(name: str, temperature: float) -> None:
    log_probs, rewards = LAWS[name]
    expected = soft_many.log_law_of_duels(log_probs, rewards / temperature)
    assert log_error(law(name, 2.0, temperature), expected) < 1e-12


@by_law
@pytest.mark.parametrize("n", [1.5, 16.0])
def test_far_apart_they_are_ranked(name: str, n: float) -> None:
    """Gaps of 16384 λ, and ties: to overtake is less likely than the least law here."""
    log_probs, rewards = LAWS[name]
    reference = bt.Policy.from_logits(log_probs, np.ceil(rewards))
    hard = bt.best_of_n(reference, n).log_probs
    soft, _ = _selected(log_probs, np.ceil(rewards), n, 2.0**-14)
    assert log_error(np.asarray(soft), np.asarray(hard)) < 1e-12


def test_laws_of_many_outcomes_may_be_batched() -> None:
    ns, temperatures = np.asarray([1.5, 16.0]), np.asarray([0.25, 64.0])
    batch = [np.stack([LAWS[name][i] for name in LAWS][:2]) for i in (0, 1)]
    mapped, _ = jax.jit(jax.vmap(_selected))(*batch, ns, temperatures)
    for row, name, n, temperature in zip(mapped, LAWS, ns, temperatures, strict=False):
        np.testing.assert_allclose(row, law(name, n, temperature), rtol=1e-14, atol=1e-14)


DIRECTION = RNG.normal(size=(2, K))


@jax.jit
def _kl(at: jax.Array) -> jax.Array:
    """KL at (distance moved in logits and rewards, n, λ)."""
    log_probs, rewards = LAWS["uneven"]
    reference = bt.Policy.from_logits(
        log_probs + at[0] * DIRECTION[0], rewards + at[0] * DIRECTION[1]
    )
    return bt.kl_divergence(bt.soft_best_of_n(reference, at[1], at[2]), reference)


_slopes: Any = jax.jit(lambda at: (jax.grad(_kl)(at), jax.jacfwd(_kl)(at)))


@pytest.mark.parametrize("temperature", [0.25, 16.0])
def test_derivatives_among_many_are_those_of_differences(temperature: float) -> None:
    at = np.asarray([0.0, 6.5, temperature])
    backward, forward = map(np.asarray, _slopes(at))
    np.testing.assert_allclose(forward, backward, rtol=1e-9)
    steps = 1e-5 * np.eye(3)
    differences = [float(_kl(at + step) - _kl(at - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(backward, differences, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("possible", [slice(0, 2), slice(K - 2, K), slice(300, 302)])
def test_hundreds_of_impossible_outcomes_do_no_harm(possible: slice) -> None:
    logits = np.full(K, -np.inf)
    logits[possible] = 0.0
    log_probs, certificate = _selected(logits, LEVELS, 16.0, 0.5)
    few = bt.Policy.from_logits(logits[possible], LEVELS[possible])
    expected = bt.soft_best_of_n(few, 16.0, 0.5).log_probs
    np.testing.assert_allclose(log_probs[possible], expected, rtol=1e-13, atol=1e-15)
    assert certificate < 1e-12


@pytest.mark.parametrize(
    ("dtype", "n", "accuracy"),
    [
        (np.float64, 1e13, 1e-12),
        (np.float64, 1e20, 1e-12),
        (np.float64, 1e200, 1e-12),
        (np.float32, 1e7, 2e-6),
        (np.float32, 1e30, 2e-6),
    ],
)
@pytest.mark.parametrize("size", [3, K])
def test_with_many_candidates_gradients_are_those_of_the_tilt(
    size: int, dtype: Any, n: float, accuracy: float
) -> None:
    rng = np.random.default_rng(size)
    logits, rewards = rng.normal(size=(2, size)).astype(dtype)

    def reward(select: Any, logits: Any) -> Any:
        return bt.expected_reward(select(bt.Policy.from_logits(logits, rewards)))

    expected = jax.grad(lambda x: reward(lambda law: bt.exponential_tilt(law, 0.5), x))(logits)
    slope = jax.jit(jax.grad(lambda x: reward(lambda law: bt.soft_best_of_n(law, n, 0.5), x)))
    np.testing.assert_allclose(slope(logits), expected, atol=accuracy)
