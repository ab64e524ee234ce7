"""Sequences one by one: all K^m of them, and every draw of n of them, in NumPy."""

import itertools
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tests.oracles.multiprecision import mp

Array: TypeAlias = NDArray[np.float64]
Select: TypeAlias = Callable[[Array, Array], Array]


def sequences(num_symbols: int, length: int) -> NDArray[np.int64]:
    """All sequences, ``[K^m, m]``, in the order of their code Σ x_i K^{m−i}."""
    return np.array(list(itertools.product(range(num_symbols), repeat=length)))


def markov_law(initial: Array, transition: Array, length: int) -> Array:
    """Probability of every sequence; i.i.d. symbols are a chain of equal rows."""
    words = sequences(len(initial), length)
    moves = transition[words[:, :-1], words[:, 1:]]
    return initial[words[:, 0]] * np.prod(moves, axis=1)


def total_rewards(rewards: Array, length: int) -> Array:
    """Reward of every sequence."""
    return rewards[sequences(len(rewards), length)].sum(axis=1)


def soft_best_of_n(n: int, temperature: float) -> Select:
    """P(x) = n π(x) E[w(x)/(w(x) + Σ w(X_i))], over all π^{n−1} other draws."""

    def select(law: Array, rewards: Array) -> Array:
        weights = np.exp((rewards - rewards.max()) / temperature)
        others, chances = np.zeros(1), np.ones(1)
        for _ in range(n - 1):
            others = np.add.outer(others, weights).ravel()
            chances = np.multiply.outer(chances, law).ravel()
        return np.array(
            [n * p * (chances @ (w / (w + others))) for p, w in zip(law, weights, strict=True)]
        )

    return select


def best_of_n(n: int) -> Select:
    """P(x) = n π(x) E[1{no other is higher}/(1 + ties)], over all other draws."""

    def select(law: Array, rewards: Array) -> Array:
        found = []
        for p, reward in zip(law, rewards, strict=True):
            ties, chances = np.zeros(1), np.ones(1)
            lower_or_tied = rewards <= reward
            for _ in range(n - 1):
                tied = (rewards == reward)[lower_or_tied].astype(float)
                ties = np.add.outer(ties, tied).ravel()
                chances = np.multiply.outer(chances, law[lower_or_tied]).ravel()
            found.append(n * p * (chances @ (1 / (1 + ties))))
        return np.array(found)

    return select


def tilt(temperature: float) -> Select:
    """P(x) ∝ π(x) e^{r(x)/λ}."""

    def select(law: Array, rewards: Array) -> Array:
        weights = law * np.exp((rewards - rewards.max()) / temperature)
        return weights / weights.sum()

    return select


def blockwise(
    initial: Array,
    transition: Array,
    rewards: Array,
    *,
    length: int,
    block_length: int,
    select: Select,
    value: Callable[[Array, Array], float] | None = None,
) -> Array:
    """Law of every sequence whose blocks are selected in turn, by their own reward.

    With ``value`` a block is scored by its reward plus the value of the rest of the sequence, whose
    law and rewards are enumerated as well.
    """
    num_symbols = len(initial)
    words = sequences(num_symbols, length)
    law = np.ones(len(words))
    for start in range(0, length, block_length):
        size = min(block_length, length - start)
        left = length - start - size
        scores = total_rewards(rewards, size)
        if value is not None and left > 0:
            rest = total_rewards(rewards, left)
            values = [value(markov_law(row, transition, left), rest) for row in transition]
            scores = scores + np.array(values)[sequences(num_symbols, size)[:, -1]]
        firsts = initial[None] if start == 0 else transition
        selected = np.array([select(markov_law(row, transition, size), scores) for row in firsts])
        code = words[:, start : start + size] @ num_symbols ** np.arange(size)[::-1]
        before = np.zeros(len(words), int) if start == 0 else words[:, start - 1]
        law = law * selected[before, code]
    return law


def log_mean_exp(temperature: float) -> Callable[[Array, Array], float]:
    """λ log E e^{r/λ}, what the rest of a sequence is worth."""
    return lambda law, rewards: float(temperature * np.log(law @ np.exp(rewards / temperature)))


def soft_mean(law: Array, rewards: Array, temperature: float) -> float:
    """λ log E e^{r/λ} in multiprecision."""
    with mp.workdps(60):
        whole = mp.fsum(law)
        mean = mp.fsum(
            p * mp.exp(mp.mpf(r) / temperature) for p, r in zip(law, rewards, strict=True)
        )
        return float(temperature * mp.log(mean / whole))


def kl(p: Array, q: Array) -> float:
    """Σ p log p/q."""
    here = p > 0
    return float(np.sum(p[here] * np.log(p[here] / q[here])))


def log_lattice_power(weights: list[int], length: int) -> list[float]:
    """Logarithms of the law of a sum of ``length`` levels drawn ∝ integer weights, exactly."""
    power = [1]
    for _ in range(length):
        product = [0] * (len(power) + len(weights) - 1)
        for i, x in enumerate(power):
            for j, y in enumerate(weights):
                product[i + j] += x * y
        power = product
    with mp.workdps(40):
        whole = length * mp.log(sum(weights))
        return [float(mp.log(x) - whole) if x else float("-inf") for x in power]


def cramer_rate(probs: Sequence[float], rewards: Sequence[float], mean: float) -> float:
    """sup_θ [θx − log E e^{θr}], the tilted mean bisected in multiprecision."""
    with mp.workdps(40):
        whole = mp.fsum(probs)
        law = [(p / whole, mp.mpf(r) - mp.mpf(mean)) for p, r in zip(probs, rewards, strict=True)]
        low, high = mp.mpf(-2000), mp.mpf(2000)
        for _ in range(200):
            theta = (low + high) / 2
            below = mp.fsum(p * r * mp.exp(theta * r) for p, r in law) < 0
            low, high = (theta, high) if below else (low, theta)
        return float(-mp.log(mp.fsum(p * mp.exp(low * r) for p, r in law)))
