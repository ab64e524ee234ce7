"""What a candidate scores, and when it is accepted: a reward and one random word of its own.

A score or an acceptance is called as ``score(reference, words, noise, parameter)``, see
:data:`simulations.selection.races.Score`: ``words`` are candidates, ``noise`` as many random words,
and ``parameter`` is what the rule was given, 1/λ unless said otherwise.
"""

import jax.numpy as jnp
from jax import Array

from simulations.draws.references import Reference
from simulations.draws.variates import exponential, gaussian_quantile, gumbel, unit_interval
from simulations.selection.races import Score

# Scores; the highest is kept.


def reward(reference: Reference, words: Array, noise: Array, sign: Array) -> Array:
    """±r."""
    del noise
    return reference.reward(words) * sign


def with_gumbel(reference: Reference, words: Array, noise: Array, inverse: Array) -> Array:
    """r/λ + Gumbel."""
    return reference.reward(words) * inverse + gumbel(noise)


def with_exponential(reference: Reference, words: Array, noise: Array, inverse: Array) -> Array:
    """r/λ + Exp(1)."""
    return reference.reward(words) * inverse + exponential(noise)


def with_gaussian(reference: Reference, words: Array, noise: Array, inverse: Array) -> Array:
    """r/λ + N(0, 1)."""
    error = gaussian_quantile(unit_interval(noise), unit_interval(~noise))
    return reference.reward(words) * inverse + error


def with_student_t2(reference: Reference, words: Array, noise: Array, inverse: Array) -> Array:
    """r/λ + t of two degrees of freedom, whose quantile at u is (2u − 1)/√(2u(1 − u))."""
    rank, survival = unit_interval(noise), unit_interval(~noise)
    error = (rank - survival) / jnp.sqrt(jnp.float32(2) * rank * survival)
    return reference.reward(words) * inverse + error


NOISY: dict[str, Score] = {
    "gaussian": with_gaussian,
    "student_t2": with_student_t2,
    "gumbel": with_gumbel,
    "exponential": with_exponential,
}


def earliness(reference: Reference, words: Array, noise: Array, parameter: Array) -> Array:
    """Minus the time of a ring of rate e^{(r − r_max)/λ}; ``parameter`` is (1/λ, r_max)."""
    mean_wait = jnp.exp((parameter[1] - reference.reward(words)) * parameter[0])
    return -exponential(noise) * mean_wait


def reward_up_to_rank(reference: Reference, words: Array, noise: Array, rank: Array) -> Array:
    """r, and ∞ from a rank on."""
    accepted = accept_rank(reference, words, noise, rank)
    return jnp.where(accepted, jnp.inf, reference.reward(words))


def reward_up_to_level(reference: Reference, words: Array, noise: Array, level: Array) -> Array:
    """r, and ∞ where :func:`accept_level` accepts."""
    accepted = accept_level(reference, words, noise, level)
    return jnp.where(accepted, jnp.inf, reference.reward(words))


# Acceptances.


def accept_rank(reference: Reference, words: Array, noise: Array, rank: Array) -> Array:
    """From a rank on: a word is the rank, and its place in a level the uniform rank in the tie."""
    del reference, noise
    return words >= rank


def accept_level(reference: Reference, words: Array, noise: Array, level: Array) -> Array:
    """Above a reward, and a share of what is at it; ``level`` is (the reward, the share)."""
    drawn = reference.reward(words)
    return (drawn > level[0]) | ((drawn == level[0]) & (unit_interval(noise) <= level[1]))


def accept_tilt(reference: Reference, words: Array, noise: Array, parameter: Array) -> Array:
    """With probability min(e^{(r − s)/λ}, 1); ``parameter`` is (1/λ, s).

    That is the chance that an Exp(1) variable exceeds (s − r)/λ, and 1 above the cap.
    """
    return exponential(noise) >= (parameter[1] - reference.reward(words)) * parameter[0]


def accept_chi_squared(reference: Reference, words: Array, noise: Array, nu: Array) -> Array:
    """With probability (r − ν)₊/(r_max − ν)."""
    span = jnp.asarray(reference.max_reward, jnp.float32) - nu
    return unit_interval(noise) * span <= reference.reward(words) - nu
