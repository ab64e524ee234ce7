"""Sequential Monte Carlo: N sequences grow together, and after every block ancestors are drawn.

The real process, resampling and all; what is kept is one path. Particle i of a trial reads the
words of counter (trial, i) under a key of the symbol's place: one decides about the symbol, the
other about the ancestor.

What is not exact: probabilities are rounded to 2⁻²⁴, and weights are float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import NDArray

from simulations.draws.chains import Chain, SequenceOutcomes, sequence_outcomes
from simulations.draws.variates import unit_interval
from simulations.draws.words import derived_key, threefry_words
from simulations.tools.arguments import integer_within, positive_float
from simulations.tools.pytree import pytree

_MOST_PARTICLES = 2**10  # each is compared with each


@pytree(data_fields=["reference", "gains", "values", "resampled"], meta_fields=["n"])
@dataclass(frozen=True)
class ParticleSampler:
    """N particles; made by :func:`particles`.

    Attributes:
        reference: the chain, and what is counted.
        gains: ``[K]`` float32, each symbol's reward over λ.
        values: ``[m, K]`` float32, what it is worth over λ that symbol t is x; 0 within blocks.
        resampled: ``[m]`` bool, whether ancestors are drawn after symbol t.
        n: N.
    """

    reference: SequenceOutcomes
    gains: Array
    values: Array
    resampled: Array
    n: int

    @property
    def typical_draws(self) -> int:
        """How many symbols a trial draws."""
        return self.reference.length * self.n

    @property
    def numbers_per_trial(self) -> int:
        """Code, weight and word of each particle, and each pair of them where one is drawn."""
        return (4 + self.n) * self.n

    def __call__(self, key: Array, trials: Array) -> Array:
        """The codes of the kept sequences, uint32, one per trial index."""
        shape = (self.n, trials.size)
        trial = jnp.broadcast_to(trials[None, :], shape)
        particle = jnp.broadcast_to(jnp.arange(self.n, dtype=jnp.uint32)[:, None], shape)
        chain, (base, digits) = self.reference.chain, self.reference.digits

        def step(state: tuple[Array, Array, Array], at: tuple[Array, Array, Array]):
            (before, codes, log_weights), (place, values, resampled) = state, at
            words, lots = threefry_words(derived_key(key, place), trial, particle)
            symbols = chain.following(before, words)
            codes = codes * jnp.uint32(base) + digits[symbols]
            log_weights = log_weights + self.gains[symbols]

            parents = jnp.where(resampled, _drawn(log_weights + values[symbols], lots), particle)
            symbols, codes = (jnp.take_along_axis(x, parents, axis=0) for x in (symbols, codes))
            log_weights = jnp.where(resampled, -values[symbols], log_weights)
            return (symbols, codes, log_weights), None

        start = jnp.full(shape, chain.levels.size, jnp.int32)
        state = start, jnp.zeros(shape, jnp.uint32), jnp.zeros(shape, jnp.float32)
        places = jnp.arange(self.reference.length, dtype=jnp.uint32)
        (_, codes, _), _ = lax.scan(step, state, (places, self.values, self.resampled))
        return codes[0]  # the last ancestors are drawn like all others; any one is the path


def particles(
    chain: Chain,
    length: int,
    n: int,
    temperature: float,
    *,
    block_length: int | None = 1,
    twisted: bool = False,
    by: Literal["words", "rewards"] = "rewards",
) -> ParticleSampler:
    """Let n particles grow block by block, and keep one of them.

    Args:
        chain: the reference.
        length: m, number of symbols.
        n: N, number of particles.
        temperature: λ, in units of the levels.
        block_length: symbols between two draws of ancestors; None for none but the last.
        twisted: whether weights count what the symbols to come will be worth after a block's last.
        by: what is counted, see :class:`simulations.draws.chains.SequenceOutcomes`.

    Raises:
        ValueError: for numbers outside their range, or more outcomes than can be counted.

    Example:
        >>> import jax
        >>> from simulations.draws.chains import markov_chain
        >>> from simulations.engine.simulate import simulate
        >>> coin = markov_chain([0.5, 0.5], [[0.5, 0.5]] * 2, [0, 1])
        >>> sampler = particles(coin, 3, 20, temperature=0.05, by="words")
        >>> simulate(jax.random.key(0), sampler, num_trials=100).counts
        array([  0,   0,   0,   0,   0,   0,   0, 100])
    """
    outcomes = sequence_outcomes(chain, length, by)
    size = outcomes.length if block_length is None else block_length
    size = integer_within(
        "block_length", size, at_most=outcomes.length, remedy="None takes the sequence as one block"
    )
    number = integer_within("n", n, at_most=_MOST_PARTICLES, remedy="all are kept in memory")
    gains = np.asarray(chain.levels, np.float64) / positive_float("temperature", temperature)
    upto = np.arange(1, outcomes.length + 1)
    resampled = (upto % size == 0) | (upto == outcomes.length)
    values = _values(chain, gains, outcomes.length) if twisted else np.zeros((1, 1))
    return ParticleSampler(
        outcomes,
        jnp.asarray(gains, jnp.float32),
        jnp.asarray(np.where(resampled[:, None], values, np.zeros(gains.size)), jnp.float32),
        jnp.asarray(resampled),
        number,
    )


def _drawn(log_weights: Array, lots: Array) -> Array:
    """Which particles are ancestors, ``[N, S]``, each with probability ∝ its weight."""
    weights = jnp.exp(log_weights - jnp.max(log_weights, axis=0, keepdims=True))
    sums = jnp.cumsum(weights, axis=0)
    marks = unit_interval(lots) * sums[-1:]
    return jnp.sum(marks[None] > sums[:-1, None], axis=0, dtype=jnp.uint32)


def _values(chain: Chain, gains: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """log E e^{Σ r/λ} of the symbols after symbol t, given it, ``[m, K]``."""
    moves = np.diff(np.asarray(chain.rows, np.float64), prepend=0.0)[:-1]
    values = np.zeros((length, gains.size))
    for t in range(length - 2, -1, -1):
        exponents = gains + values[t + 1]
        top = exponents.max()
        values[t] = top + np.log(moves @ np.exp(exponents - top))
    return values
