"""The real process: draw candidates, score them, keep the winner. No formula under test is used.

A sampler maps (key words, trial indices) to the winning candidate's word, one per trial. Candidates
stream: a trial remembers its running winner only, whatever its number of candidates. Two processes
make all ten selections:

* :class:`Race` — the candidate with the highest noisy score among n, or among a random number N;
* :class:`Rejection` — the first candidate accepted, with no end to their number.

The functions below bear the names of the laws in ``bon_theory`` they are to be checked against.

What is not exact: probabilities are multiples of 2⁻³² (see ``DiscreteReference.drawn_probs``); soft
scores and acceptance probabilities are float32, which moves log-weights by about 2⁻²⁴·max(1, r/λ).
For r/λ up to 100 that is 6e-6, a relative entropy of at most 1e-11, and a check begins to see
S·KL ≈ 20: far more trials than there are. Hard selection is integer arithmetic throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from scipy import optimize, stats

from simulations.random_bits import exponential, gumbel, threefry_words, unit_interval
from simulations.references import Reference

_UNROLL = 4  # candidates per loop step: the carry costs nothing, and compilation stays short
_COUNT_DRAW = 2**32 - 1  # the counter that no candidate uses decides how many candidates there are
_SMALLEST_ACCEPTANCE = 1e-4

Score = Callable[[Reference, Array, Array, Array], Array]


@partial(jax.tree_util.register_dataclass, data_fields=["minimum", "thresholds"], meta_fields=[])
@dataclass(frozen=True)
class CandidateCount:
    """The number of candidates of a trial: ``minimum`` plus the number of thresholds ≤ a word."""

    minimum: Array
    thresholds: Array

    def draw(self, key: Array, trials: Array) -> Array:
        """One count per trial, int32."""
        word, _ = threefry_words(key, trials, jnp.full_like(trials, _COUNT_DRAW))
        extra = jnp.searchsorted(self.thresholds, word, side="right")
        return self.minimum + extra.astype(jnp.int32)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["reference", "count", "inverse_temperature"],
    meta_fields=["score"],
)
@dataclass(frozen=True)
class Race:
    """The highest score among a trial's candidates wins; ties go to the higher random word.

    Attributes:
        reference: what candidates are drawn from.
        count: how many there are, the same or random.
        inverse_temperature: 1/λ, float32; not read by hard selection.
        score: ``(reference, words, noise, inverse_temperature) -> score``.
    """

    reference: Reference
    count: CandidateCount
    inverse_temperature: Array
    score: Score

    def __call__(self, key: Array, trials: Array) -> Array:
        """The winners' words, uint32, one per trial index."""
        counts = self.count.draw(key, trials)

        def step(block: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            best, tie, winner = state
            for offset in range(_UNROLL):
                index = block * _UNROLL + offset
                draw = jnp.broadcast_to(index.astype(jnp.uint32), trials.shape)
                word, noise = threefry_words(key, trials, draw)
                score = self.score(self.reference, word, noise, self.inverse_temperature)
                # For hard selection the noise word is the lot that breaks ties uniformly.
                better = (score > best) | ((score == best) & (noise > tie)) | (index == 0)
                better = better & (index < counts)
                best, tie, winner = (
                    jnp.where(better, new, old)
                    for new, old in ((score, best), (noise, tie), (word, winner))
                )
            return best, tie, winner

        words = jnp.zeros_like(trials)
        score = self.score(self.reference, words, words, self.inverse_temperature)
        steps = (jnp.max(counts) + (_UNROLL - 1)) // _UNROLL
        return lax.fori_loop(0, steps, step, (score, words, words))[2]


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["reference", "parameter"],
    meta_fields=["accept"],
)
@dataclass(frozen=True)
class Rejection:
    """The first accepted candidate wins; every candidate comes with its own random word.

    Attributes:
        reference: what candidates are drawn from.
        parameter: what the rule depends on, float32.
        accept: ``(reference, words, noise, parameter) -> bool``.
    """

    reference: Reference
    parameter: Array
    accept: Score

    def __call__(self, key: Array, trials: Array) -> Array:
        """The winners' words, uint32, one per trial index."""

        def step(state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
            index, done, winner = state
            for _ in range(_UNROLL):
                word, noise = threefry_words(key, trials, jnp.broadcast_to(index, trials.shape))
                winner = jnp.where(done, winner, word)
                done = done | self.accept(self.reference, word, noise, self.parameter)
                index = index + jnp.uint32(1)
            return index, done, winner

        start = (jnp.uint32(0), jnp.zeros(trials.shape, bool), jnp.zeros_like(trials))
        return lax.while_loop(lambda state: ~jnp.all(state[1]), step, start)[2]


Sampler = Race | Rejection


# Selection among n candidates.


def best_of_n(reference: Reference, n: int) -> Race:
    """Draw n candidates, keep one with the highest reward, uniformly among ties.

    Example:
        >>> from simulations.references import discrete_reference
        >>> race = best_of_n(discrete_reference([0.5, 0.5], [0.0, 1.0]), n=8)
        >>> race(jnp.uint32([0, 7]), jnp.arange(5, dtype=jnp.uint32)) >= 2**31
        Array([ True,  True,  True,  True,  True], dtype=bool)
    """
    return _race(reference, _fixed(n), math.inf, _highest)


def worst_of_n(reference: Reference, n: int) -> Race:
    """Draw n candidates, keep one with the lowest reward, uniformly among ties."""
    return _race(reference, _fixed(n), math.inf, _lowest)


def soft_best_of_n(reference: Reference, n: int, temperature: float) -> Race:
    """Draw n candidates, keep argmax r_i/λ + Gumbel_i, that is Pr(i) ∝ e^{r_i/λ}."""
    return _race(reference, _fixed(n), temperature, _gumbel_score)


def exponential_race(reference: Reference, n: int, temperature: float) -> Race:
    """Draw n candidates, keep argmax r_i/λ + Exp(1)_i."""
    return _race(reference, _fixed(n), temperature, _exponential_score)


# Selection among a random number of candidates.


def best_of_poisson(reference: Reference, mean_extra_draws: float) -> Race:
    """Best of N = 1 + Poisson(μ) candidates."""
    return _race(reference, _one_plus_poisson(mean_extra_draws), math.inf, _highest)


def soft_best_of_poisson(reference: Reference, mean_extra_draws: float, temperature: float) -> Race:
    """Soft best of N = 1 + Poisson(μ) candidates."""
    return _race(reference, _one_plus_poisson(mean_extra_draws), temperature, _gumbel_score)


def win_rate_optimal(reference: Reference, strength: float) -> Race:
    """Best of N candidates, N ~ Poisson(c) given N ≥ 1, which is the win-rate-optimal policy."""
    _positive("strength", strength)
    sizes = np.arange(1, _poisson_range(strength))
    cdf = (stats.poisson.cdf(sizes, strength) - math.exp(-strength)) / -math.expm1(-strength)
    return _race(reference, _random_count(cdf), math.inf, _highest)


# Selection by rejection.


def top_fraction(reference: Reference, fraction: float) -> Rejection:
    """Draw until a candidate's rank, uniform within its tie, is among the top q."""
    if not _SMALLEST_ACCEPTANCE <= fraction <= 1:
        raise ValueError(f"fraction must be in [{_SMALLEST_ACCEPTANCE}, 1], got {fraction}")
    return Rejection(reference, jnp.float32(1 - fraction), _accept_top)


def exponential_tilt(reference: Reference, temperature: float) -> Rejection:
    """Draw until one is accepted, with probability e^{(r − r_max)/λ}."""
    _positive("temperature", temperature)
    rewards, weights = reference.reward_grid()
    accepted = np.exp((rewards - float(reference.max_reward)) / temperature)
    _check_acceptance(float(weights @ accepted), reference)
    return Rejection(reference, jnp.float32(1 / temperature), _accept_tilt)


def chi_squared_tilt(reference: Reference, strength: float) -> Rejection:
    """Draw until one is accepted, with probability (r − ν)₊/(r_max − ν), E_π(r − ν)₊ = β.

    The rejection step of InferenceTimePessimism (Huang et al., Algorithm 1) with its normaliser ν
    computed rather than estimated from a first set of draws, that is, in the limit of many draws.
    """
    _positive("strength", strength)
    rewards, weights = reference.reward_grid()

    def excess(nu: float) -> float:
        return float(weights @ np.maximum(rewards - nu, 0)) - strength

    bracket = (rewards.min() - strength - 1, rewards.max())
    nu = optimize.root_scalar(excess, bracket=bracket, xtol=1e-13).root
    _check_acceptance(strength / (float(reference.max_reward) - nu), reference)
    return Rejection(reference, jnp.float32(nu), _accept_chi_squared)


# Scores and acceptance rules: (reference, words, noise, parameter).


def _highest(reference: Reference, words: Array, noise: Array, parameter: Array) -> Array:
    del noise, parameter
    return reference.level(words)


def _lowest(reference: Reference, words: Array, noise: Array, parameter: Array) -> Array:
    del noise, parameter
    return ~reference.level(words)


def _gumbel_score(reference: Reference, words: Array, noise: Array, parameter: Array) -> Array:
    return reference.reward(words) * parameter + gumbel(noise)


def _exponential_score(reference: Reference, words: Array, noise: Array, parameter: Array) -> Array:
    return reference.reward(words) * parameter + exponential(noise)


def _accept_top(reference: Reference, words: Array, noise: Array, parameter: Array) -> Array:
    # Strictly: a rank just below the threshold may round to it.
    return reference.randomised_rank(words, noise) > parameter


def _accept_tilt(reference: Reference, words: Array, noise: Array, parameter: Array) -> Array:
    # e^{(r − r_max)/λ} is the chance that an Exp(1) variable exceeds (r_max − r)/λ.
    shortfall = (
        jnp.asarray(reference.max_reward, jnp.float32) - reference.reward(words)
    ) * parameter
    return exponential(noise) >= shortfall


def _accept_chi_squared(
    reference: Reference, words: Array, noise: Array, parameter: Array
) -> Array:
    span = jnp.asarray(reference.max_reward, jnp.float32) - parameter
    return unit_interval(noise) * span <= reference.reward(words) - parameter


# Construction.


def _race(reference: Reference, count: CandidateCount, temperature: float, score: Score) -> Race:
    _positive("temperature", temperature)
    return Race(reference, count, jnp.float32(1 / temperature), score)


def _fixed(n: int) -> CandidateCount:
    if n != int(n) or not 1 <= n < 2**31:
        raise ValueError(f"n must be a whole number in [1, 2³¹), got {n}: candidates are counted")
    return CandidateCount(jnp.int32(n), jnp.zeros(0, jnp.uint32))


def _one_plus_poisson(mean_extra_draws: float) -> CandidateCount:
    _positive("mean_extra_draws", mean_extra_draws)
    return _random_count(
        stats.poisson.cdf(np.arange(_poisson_range(mean_extra_draws)), mean_extra_draws)
    )


def _random_count(cdf: np.ndarray) -> CandidateCount:
    """P(N ≤ 1), P(N ≤ 2), … as words; rounding to 2⁻³² cuts the far tail off."""
    edges = np.rint(cdf * 2**32)
    return CandidateCount(jnp.int32(1), jnp.asarray(edges[edges < 2**32].astype(np.uint32)))


def _poisson_range(mean: float) -> int:
    return int(mean + 12 * math.sqrt(mean) + 30)


def _positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} must be positive, got {value}")


def _check_acceptance(rate: float, reference: Reference) -> None:
    if not rate >= _SMALLEST_ACCEPTANCE:
        raise ValueError(
            f"rejection from {type(reference).__name__} with max_reward {reference.max_reward} "
            f"accepts a fraction {rate:.3g} of draws, below {_SMALLEST_ACCEPTANCE}: "
            "raise the temperature or strength, or use a bounded reward"
        )
