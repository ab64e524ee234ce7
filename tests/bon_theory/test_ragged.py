"""Prompts with any number of outcomes share a few compiled programs, and their results."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.monitoring
import numpy as np
import pytest

import bon_theory as bt
from bon_theory import bounds

# As a user meets them: not sorted, with ties, and rarely of the same length. Most of these lengths
# occur in no other test, whose programs would be found again.
SIZES = [1, 2, 7, 13, 16, 19, 38, 86, 109, 128]  # computed at 16 and 128
LARGE = [129, 203, 301, 467, 512]  # computed at 512

FUNCTIONS: dict[str, Callable[[bt.Policy], Any]] = {
    "best_of_n": lambda law: bt.best_of_n(law, 4),
    "top_fraction": lambda law: bt.top_fraction(law, 0.3),
    "soft_best_of_n": lambda law: bt.soft_best_of_n(law, 16, 0.5),
    "exponential_tilt": lambda law: bt.exponential_tilt(law, 0.5),
    "chi_squared_tilt": lambda law: bt.chi_squared_tilt(law, 0.5),
    "log_ratio": lambda law: bt.log_ratio(law, law),
    "kl_divergence": lambda law: bt.kl_divergence(law, law),
    "chi_squared_divergence": lambda law: bt.chi_squared_divergence(law, law),
    "total_variation": lambda law: bt.total_variation(law, law),
    "squared_hellinger": lambda law: bt.squared_hellinger(law, law),
    "jensen_shannon": lambda law: bt.jensen_shannon(law, law),
    "expected_reward": bt.expected_reward,
    "expected_value": lambda law: bt.expected_value(law, law.rewards),
    "win_rate": lambda law: bt.win_rate(law, law),
    "f_divergence": lambda law: bt.f_divergence(bt.best_of_n(law, 4), law, pearson),
    "n_for_kl": lambda law: bt.n_for_kl(law, spend(law)),
    "n_for_win_rate": lambda law: bt.n_for_win_rate(law, win(law)),
    "n_for_reward": lambda law: bt.n_for_reward(law, earn(law)),
    "temperature_for_kl": lambda law: bt.temperature_for_kl(law, spend(law), n=8),
    "temperature_for_win_rate": lambda law: bt.temperature_for_win_rate(law, win(law), n=8),
    "temperature_for_reward": lambda law: bt.temperature_for_reward(law, earn(law), n=8),
    "frontier": lambda law: bt.frontier(law, spend(law)),
    "frontier of values": lambda law: bt.frontier(law, spend(law), objective=true_reward(law)),
    "frontier of wins": lambda law: bt.frontier(law, spend(law), objective="win_rate"),
    "choose_n_and_temperature": lambda law: bt.choose_n_and_temperature(law, 0.1, max_n=4),
    "hedge_n": lambda law: bt.hedge_n(law, true_reward(law), max_n=16),
    "hedge_mean_extra_draws": lambda law: bt.hedge_mean_extra_draws(law, true_reward(law)),
    "hedge_temperature": lambda law: bt.hedge_temperature(law, true_reward(law), n=4),
    "bounds.table": lambda law: bounds.table(law, n=4, strength=1.0),
}
MOST = {"f_divergence": 5}  # the generator is asked for its limits as well


def pearson(ratio: jax.Array) -> jax.Array:
    return (ratio - 1) ** 2


def spend(law: bt.Policy) -> float:
    """A divergence that can be reached: of one outcome there is none but 0."""
    return 0.1 if law.num_outcomes > 1 else 0.0


def win(law: bt.Policy) -> float:
    return 0.55 if law.num_outcomes > 1 else 0.5


def earn(law: bt.Policy) -> float:
    """A little more than the mean of a pool of this size, which is not traced."""
    rewards = scores(law.num_outcomes)
    return float(0.9 * rewards.mean() + 0.1 * rewards.max())


def true_reward(law: bt.Policy) -> np.ndarray:
    """Falls where the proxy of a pool of this size is high."""
    return np.cos(2 * scores(law.num_outcomes))


def scores(size: int) -> np.ndarray:
    return np.round(np.random.default_rng(size).normal(size=size), 1)


def pool(size: int) -> bt.Policy:
    return bt.Policy.from_samples(scores(size))


@pytest.fixture
def compiled() -> Iterator[Counter[str]]:
    """How often each program is compiled, by name."""
    count: Counter[str] = Counter()

    def listen(event: str, duration_secs: float, **about: str | int) -> None:
        if event.endswith("backend_compile_duration"):
            count[str(about["fun_name"])] += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield count
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_ragged_laws_of_two_sizes_need_two_compilations(name: str, compiled: Counter[str]) -> None:
    for law in map(pool, SIZES):
        FUNCTIONS[name](law)
    assert max(compiled.values(), default=0) <= MOST.get(name, 2), compiled


@pytest.mark.parametrize("name", ["best_of_n", "kl_divergence", "n_for_kl"])
def test_large_ragged_laws_need_one_compilation_more(name: str, compiled: Counter[str]) -> None:
    for law in map(pool, LARGE):
        FUNCTIONS[name](law)
    assert max(compiled.values(), default=0) <= 1, compiled


def test_the_count_sees_a_compilation_for_every_size(compiled: Counter[str]) -> None:
    program = jax.jit(lambda x: x + 1)
    for law in map(pool, SIZES):
        program(law.rewards)
    assert compiled["jit(<lambda>)"] == len(SIZES)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_impossible_outcomes_change_nothing_beyond_rounding(name: str) -> None:
    law = pool(17)
    traced = jax.jit(FUNCTIONS[name])(law)  # of its own size
    for exact, padded in zip(*map(jax.tree.leaves, (traced, FUNCTIONS[name](law))), strict=True):
        assert exact.shape == padded.shape
        np.testing.assert_allclose(padded, exact, rtol=1e-14, atol=1e-14)


def test_batches_are_padded_alike() -> None:
    laws = bt.Policy.from_samples(np.random.default_rng(0).normal(size=(2, 17)))
    policy = bt.soft_best_of_n(laws, np.array([4.0, 16.0]), 0.5)
    assert policy.log_probs.shape == (2, 17)
    for row, n in enumerate((4.0, 16.0)):
        alone = bt.soft_best_of_n(bt.Policy.from_samples(laws.rewards[row]), n, 0.5)
        np.testing.assert_allclose(policy.probs[row], alone.probs, rtol=1e-13)


def test_only_small_programs_of_a_gradient_have_the_size_of_the_law(compiled: Counter[str]) -> None:
    def spent(temperature: Any, law: bt.Policy) -> Any:
        return bt.kl_divergence(bt.soft_best_of_n(law, 4, temperature), law)

    jax.grad(spent)(0.5, pool(90))
    laws = [pool(size) for size in (91, 92, 93)]
    compiled.clear()
    for law in laws:
        jax.grad(spent)(0.5, law)
    assert {*compiled} == {"jit(dynamic_slice)", "jit(_pad)", "jit(pad)"}


@pytest.mark.parametrize("function", [bt.n_for_kl, bt.frontier, bt.renyi_divergence])
def test_within_jit_laws_keep_their_size(function: Callable[..., Any]) -> None:
    law = pool(17)
    first = (law, law) if function is bt.renyi_divergence else (law,)
    assert "128" not in str(jax.make_jaxpr(lambda number: function(*first, number))(0.5))


def test_gradients_are_those_of_the_padded_law() -> None:
    law = pool(17)

    def spent(temperature: Any) -> Any:
        return bt.kl_divergence(bt.soft_best_of_n(law, 4, temperature), law)

    step = 1e-5
    difference = (spent(0.5 + step) - spent(0.5 - step)) / (2 * step)
    assert float(jax.grad(spent)(0.5)) == pytest.approx(float(difference), rel=1e-8)
