"""Soft best-of-n on hundreds of distinct rewards, where only tiles of the race are evaluated.

Temperatures from one at which all 600 outcomes race at once to one at which each races alone.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bon_theory as bt
from tests.bon_theory.test_selection_exact import log_error
from tests.oracles import soft_many

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
    policy = bt.soft_best_of_n(reference, n, temperature)
    return policy.log_probs, bt.certificate(policy)


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


def test_tied_placeholders_are_selected_equally() -> None:
    rng = np.random.default_rng(0)
    rewards = np.concatenate([rng.random(300), rng.choice([-1e9, -2e9, -3e9], size=300)])
    log_probs, _ = _selected(np.zeros(K), rewards, 8.5, 0.013)
    for placeholder in (-1e9, -2e9, -3e9):
        assert np.ptp(np.asarray(log_probs)[rewards == placeholder]) == 0


def test_laws_of_many_outcomes_may_be_batched() -> None:
    ns, temperatures = np.asarray([1.5, 16.0]), np.asarray([0.25, 64.0])
    batch = [np.stack([LAWS[name][i] for name in LAWS][:2]) for i in (0, 1)]
    mapped, _ = jax.jit(jax.vmap(_selected))(*batch, ns, temperatures)
    for row, name, n, temperature in zip(mapped, LAWS, ns, temperatures, strict=False):
        np.testing.assert_allclose(row, law(name, n, temperature), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("temperature", [8 / 5, 8 / 6, 8 / 7])
@pytest.mark.parametrize("n", [2.0, 16.0])
def test_chunks_that_are_ringing_are_not_skipped(n: float, temperature: float) -> None:
    """Two whole chunks, the last of which rings where a block of nodes ends, far above the rest."""
    rewards = np.where(LEVELS < 64, 200.0 - LEVELS // 4, -LEVELS // 8)
    log_probs, certificate = _selected(np.zeros(K), rewards, n, temperature)
    expected = soft_many.log_law(np.full(K, -np.log(K)), rewards / temperature, n, step=1 / 8)
    assert certificate < 1e-12
    assert log_error(np.asarray(log_probs), expected) < 1e-12


DIRECTION = RNG.normal(size=(2, K))
WEIGHTS = RNG.normal(size=K) / K
DIFFERENTIATED = {
    "uneven": LAWS["uneven"],
    # The highest two chunks have rung, and are seldom drawn, while M is still near one.
    "a tiny best": (
        _normalised(RNG.normal(size=K) - 41.0 * (LEVELS >= K - 64)),
        RNG.permutation(LEVELS) / K + 32.0 * (LEVELS >= K - 64),
    ),
}


def _functionals(at: Any, log_probs: Any, rewards: Any) -> jax.Array:
    """KL and a sum over all log-ratios at (distance moved in logits and r/λ, log n, λ)."""
    reference = bt.Policy.from_logits(
        log_probs + at[0] * DIRECTION[0], rewards + at[0] * at[2] * DIRECTION[1]
    )
    policy = bt.soft_best_of_n(reference, jnp.exp(at[1]), at[2])
    return jnp.stack(
        [bt.kl_divergence(policy, reference), bt.log_ratio(policy, reference) @ WEIGHTS]
    )


_values: Any = jax.jit(_functionals)
_slopes: Any = jax.jit(lambda *at: (jax.jacrev(_functionals)(*at), jax.jacfwd(_functionals)(*at)))


@pytest.mark.slow
@pytest.mark.parametrize("temperature", [0.25, 0.64, 1.0, 16.0])
@pytest.mark.parametrize("n", [1.5, 6.5, 1e3, 1e17, 1e20])
@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_derivatives_among_many_are_those_of_differences(
    name: str, n: float, temperature: float
) -> None:
    at = np.asarray([0.0, np.log(n), temperature])
    law = DIFFERENTIATED[name]
    backward, forward = map(np.asarray, _slopes(at, *law))
    np.testing.assert_allclose(forward, backward, rtol=1e-9, atol=1e-12)
    steps = 1e-5 * np.diag([1, 1, temperature])
    differences = [
        (_values(at + step, *law) - _values(at - step, *law)) / (2 * step.sum()) for step in steps
    ]
    np.testing.assert_allclose(backward, np.transpose(differences), rtol=1e-6, atol=1e-7)


def _two_functionals(logits: Any, n: Any, rewards: Any) -> jax.Array:
    reference = bt.Policy.from_logits(logits, rewards)
    policy = bt.soft_best_of_n(reference, n, 16.0)
    ratio = bt.log_ratio(policy, reference)
    return jnp.stack([bt.expected_reward(policy), jnp.where(reference.probs > 0, ratio, 0).sum()])


_in_the_law: Any = jax.jit(jax.jacrev(_two_functionals))
_in_both: Any = jax.jit(jax.jacrev(_two_functionals, argnums=(0, 1)))


@pytest.mark.parametrize("n", [1.0, 2.0, 3.0])
@by_law
def test_a_derivative_in_the_law_alone_needs_no_finer_steps_at_whole_n(name: str, n: float) -> None:
    logits, rewards = LAWS[name]
    finely = np.asarray(_in_both(logits, n, rewards)[0])
    np.testing.assert_allclose(_in_the_law(logits, n, rewards), finely, rtol=1e-10, atol=1e-12)


@pytest.mark.slow
def test_cotangents_of_one_law_are_pulled_back_together_as_they_are_one_by_one() -> None:
    laws = np.stack([LAWS["levels"][0], LAWS["uneven"][0]])
    together: Any = jax.jit(jax.vmap(jax.jacrev(_two_functionals), in_axes=(0, None, None)))

    @jax.jit
    def one(weights: Any, logits: Any) -> Any:
        return jax.grad(lambda at: weights @ _two_functionals(at, 6.5, LEVELS))(logits)

    alone = np.array([[one(weights, law) for weights in np.eye(2)] for law in laws])
    np.testing.assert_allclose(together(laws, 6.5, LEVELS), alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("possible", [slice(0, 2), slice(K - 2, K), slice(300, 302)])
def test_hundreds_of_impossible_outcomes_do_no_harm(possible: slice) -> None:
    logits = np.full(K, -np.inf)
    logits[possible] = 0.0
    log_probs, certificate = _selected(logits, LEVELS, 16.0, 0.5)
    few = bt.Policy.from_logits(logits[possible], LEVELS[possible])
    expected = bt.soft_best_of_n(few, 16.0, 0.5).log_probs
    np.testing.assert_allclose(log_probs[possible], expected, rtol=1e-13, atol=1e-15)
    assert certificate < 1e-12


@jax.jit
def _reward_slopes(logits: Any, rewards: Any, n: Any) -> Any:
    """Derivatives of the expected reward in the logits, soft best-of-n's and the tilt's."""

    def rewards_of_both(logits: Any) -> Any:
        law = bt.Policy.from_logits(logits, rewards)
        both = bt.soft_best_of_n(law, n, 0.5), bt.exponential_tilt(law, 0.5)
        return jnp.stack([bt.expected_reward(policy) for policy in both])

    return jax.jacrev(rewards_of_both)(logits)


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
    soft, tilt = _reward_slopes(logits, rewards, np.asarray(n, dtype))
    np.testing.assert_allclose(soft, tilt, atol=accuracy)
