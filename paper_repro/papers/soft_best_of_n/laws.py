"""The laws that the claims are checked on, and everything about one (n, λ) in one compiled call."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import NDArray

import bon_theory as bt
from paper_repro.papers.claim import ABSTRACT, Claim, Tolerance

claim = partial(Claim, paper="soft_best_of_n", provenance=ABSTRACT)

SOFT_CHECK = "soft_best_of_n(8, 0.2) on distinct rewards"
TIED_CHECK = "soft_best_of_n(8, 0.25) on tied rewards"
UNIFORM_CHECK = "soft_best_of_n(8, 0.2) on uniform reward"
TILT_CHECK = "exponential_tilt(0.2) on distinct rewards"
BEST_CHECK = "best_of_n(8) on distinct rewards"

ROUNDING = Tolerance("quadrature and sums in float64, to rounding", absolute=2e-14, relative=1e-12)
INEQUALITY = Tolerance("an inequality: no slack but rounding", absolute=1e-14, relative=1e-12)


def _two_points(top: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return (1 - top, top), (0.0, 1.0)


#: name -> probabilities and rewards.
LAWS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "three outcomes": ((0.5, 0.3, 0.2), (0.0, 0.5, 1.0)),
    "rare best": ((0.6, 0.399, 0.001), (0.0, 0.5, 1.0)),
    "eight outcomes": (tuple(j / 36 for j in range(8, 0, -1)), tuple(j / 7 for j in range(8))),
    "coin": ((0.5, 0.5), (0.0, 1.0)),
    # not ordered in the temperature
    "uneven": ((0.5, 0.25, 0.25), (0.0, 0.75, 1.0)),
    # two points of the probability at which χ² is largest for this temperature
    **{f"extremal {t:g}": _two_points(1 / (1 + math.exp(1 / t))) for t in (0.1, 0.5, 2.0)},
    # all the reward is in one rare outcome
    **{f"needle {epsilon:g}": _two_points(epsilon) for epsilon in (1e-6, 1e-9)},
}
GENERAL = ("three outcomes", "rare best", "eight outcomes")


class SoftAndTilt(NamedTuple):
    """Soft best-of-n and the tilt at one (n, λ); ``[K]`` where not a number."""

    probs: NDArray[np.float64]
    tilt: NDArray[np.float64]
    weight: NDArray[np.float64]
    reward: float
    tilt_reward: float
    kl: float
    tilt_kl: float
    kl_from_tilt: float
    kl_to_tilt: float
    chi_squared: float
    variation_to_tilt: float
    variation_to_best: float
    variation_to_reference: float


@cache
def point(name: str, n: float, temperature: float) -> SoftAndTilt:
    """Soft best-of-n on the law of that name: ``kl`` KL(P_n‖π), ``kl_from_tilt`` KL(P*‖P_n)."""
    probs, rewards = LAWS[name]
    size = len(probs)
    spare = (0, max(len(probs) for probs, _ in LAWS.values()) - size)
    # Outcomes of probability 0 at the end: all laws share a program.
    filled = np.pad(probs, spare), np.pad(rewards, spare, mode="edge")
    found = _point(*filled, float(n), float(temperature))
    return SoftAndTilt(
        **{key: plain(value[:size] if value.ndim else value) for key, value in found.items()}
    )


def plain(value: Array) -> Any:
    """A number as a float, anything else as a NumPy array."""
    return np.asarray(value) if np.ndim(value) else float(value)


@jax.jit
def _point(probs: Array, rewards: Array, n: Array, temperature: Array) -> dict[str, Array]:
    reference = bt.Policy.from_probs(probs, rewards)
    policy = bt.soft_best_of_n(reference, n, temperature)
    tilt, best = bt.exponential_tilt(reference, temperature), bt.best_of_n(reference, n)
    return {
        "probs": policy.probs,
        "tilt": tilt.probs,
        "weight": jnp.exp(bt.log_ratio(tilt, reference)),
        "reward": bt.expected_reward(policy),
        "tilt_reward": bt.expected_reward(tilt),
        "kl": bt.kl_divergence(policy, reference),
        "tilt_kl": bt.kl_divergence(tilt, reference),
        "kl_from_tilt": bt.kl_divergence(tilt, policy),
        "kl_to_tilt": bt.kl_divergence(policy, tilt),
        "chi_squared": bt.chi_squared_divergence(tilt, reference),
        "variation_to_tilt": bt.total_variation(policy, tilt),
        "variation_to_best": bt.total_variation(policy, best),
        "variation_to_reference": bt.total_variation(policy, reference),
    }


class Weights(NamedTuple):
    """The tilt by its formula, in plain NumPy: what expected values are computed from.

    Attributes:
        tilt: P* = π w / E_π w.
        relative: w̄ = w / E_π w.
        chi_squared: Var_π(w̄).
        rewards: r.
    """

    tilt: NDArray[np.float64]
    relative: NDArray[np.float64]
    chi_squared: float
    rewards: NDArray[np.float64]

    @property
    def centred(self) -> NDArray[np.float64]:
        """w̄ minus its mean under P*, which is 1 + χ²."""
        return self.relative - 1 - self.chi_squared

    @property
    def half_variance(self) -> float:
        """½ Var_{P*}(w̄)."""
        return float(self.tilt @ self.centred**2) / 2

    @property
    def reward(self) -> float:
        """E_{P*} r."""
        return float(self.tilt @ self.rewards)


def weights(name: str, temperature: float) -> Weights:
    """Weights e^{r/λ} of the law of that name."""
    probs, rewards = (np.array(column) for column in LAWS[name])
    weight = np.exp(rewards / temperature)
    relative = weight / (probs @ weight)
    return Weights(probs * relative, relative, float(probs @ (relative - 1) ** 2), rewards)


def enumerated(name: str, n: int, temperature: float) -> tuple[float, ...]:
    """Lemma 1 word for word: n·π(x)·E[w(x)/(w(x) + Σ_{i=2}^n w(X_i))], over all other draws.

    Sums over the multinomial counts of the n − 1 other draws; shares nothing with the library.
    """
    probs, rewards = LAWS[name]
    weight = [math.exp(r / temperature) for r in rewards]
    law = [0.0] * len(probs)
    for counts in _compositions(n - 1, len(probs)):
        ways = math.factorial(n - 1)
        for count in counts:
            ways //= math.factorial(count)
        chance = ways * math.prod(p**c for p, c in zip(probs, counts, strict=True))
        others = sum(w * c for w, c in zip(weight, counts, strict=True))
        for x, w in enumerate(weight):
            law[x] += n * probs[x] * chance * w / (w + others)
    return tuple(law)


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)
