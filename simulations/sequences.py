"""The real process on sequences: draw n candidates for a block, keep one, go on from where it ends.

No formula under test is used: symbols are drawn one by one, rewards are added up, and candidates
stream, so that a trial remembers its running winner only. Rewards are whole numbers of a unit,
which keeps totals and their ties exact; probabilities are rounded to 2⁻²⁴ and soft scores are
float32.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import ArrayLike, NDArray

__all__ = ["Process", "reward_counts", "word_counts"]

_CHUNK = 2**14
_MOST_WORDS = 2**20


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["initial", "transition", "levels", "inverse_temperature"],
    meta_fields=["length", "block_length", "n"],
)
@dataclasses.dataclass(frozen=True)
class Process:
    """Block-by-block selection from a Markov reference; made by :meth:`soft` or :meth:`hard`.

    Attributes:
        initial: running sums of the first symbol's probabilities, ``[K]``.
        transition: the same of the next symbol's, ``[K, K]``.
        levels: rewards in units, int32 ``[K]``.
        inverse_temperature: units over λ, float32; infinite for hard selection.
        length: m, symbols of a sequence.
        block_length: symbols selected at a time; what is left over makes one shorter block.
        n: candidates per block.
    """

    initial: Array
    transition: Array
    levels: Array
    inverse_temperature: Array
    length: int
    block_length: int
    n: int

    @staticmethod
    def soft(
        initial: ArrayLike,
        transition: ArrayLike,
        levels: ArrayLike,
        *,
        length: int,
        block_length: int,
        n: int,
        temperature: float,
    ) -> Process:
        """Keep candidate i of a block with probability ∝ e^{r_i/λ}; λ in units of the levels.

        An i.i.d. reference has equal rows.

        Raises:
            ValueError: a level is not a whole number, λ is not positive, or a count is below 1.
        """
        if not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}: see Process.hard.")
        return _process(initial, transition, levels, length, block_length, n, 1 / temperature)

    @staticmethod
    def hard(
        initial: ArrayLike,
        transition: ArrayLike,
        levels: ArrayLike,
        *,
        length: int,
        block_length: int,
        n: int,
    ) -> Process:
        """Keep the candidate of the highest reward, uniformly among ties; raises as `soft` does."""
        return _process(initial, transition, levels, length, block_length, n, np.inf)


def word_counts(
    key: Array, process: Process, *, num_trials: int, chunk_size: int = _CHUNK
) -> NDArray[np.int64]:
    """How often each of the K^m sequences was kept, in the order of their code Σ x_i K^{m−i}.

    Args:
        key: a typed key; consumed.
        process: what is simulated.
        num_trials: S.
        chunk_size: trials in flight at a time.

    Raises:
        ValueError: there are more than 2²⁰ sequences, or fewer than one trial.

    Example:
        >>> import jax
        >>> coin = Process.hard([0.5, 0.5], [[0.5, 0.5]] * 2, [0, 1], length=3, block_length=1, n=9)
        >>> int(word_counts(jax.random.key(0), coin, num_trials=100).argmax())
        7
    """
    num_symbols = process.levels.shape[0]
    if num_symbols**process.length > _MOST_WORDS:
        raise ValueError(
            f"there are {num_symbols}^{process.length} sequences, more than can be counted one by "
            "one: count rewards by reward_counts."
        )
    digits = num_symbols ** np.arange(process.length)[::-1]
    return _histogram(
        key, process, num_trials, chunk_size, num_symbols**process.length, lambda x: x @ digits
    )


def reward_counts(
    key: Array, process: Process, *, num_trials: int, chunk_size: int = _CHUNK
) -> NDArray[np.int64]:
    """How often each total reward was kept, in units above the lowest possible one, ``[mL + 1]``.

    Args and Raises: as :func:`word_counts`, for any number of sequences.

    Example:
        >>> import jax
        >>> coin = Process.hard([0.5, 0.5], [[0.5, 0.5]] * 2, [0, 1], length=9, block_length=3, n=9)
        >>> reward_counts(jax.random.key(0), coin, num_trials=100).shape
        (10,)
    """
    levels = np.asarray(process.levels) - int(process.levels.min())
    size = process.length * int(levels.max()) + 1
    return _histogram(
        key, process, num_trials, chunk_size, size, lambda words: levels[words].sum(axis=1)
    )


def _histogram(key, process, num_trials, chunk_size, size, outcome) -> NDArray[np.int64]:
    if num_trials < 1:
        raise ValueError(f"num_trials must be at least 1, got {num_trials}.")
    counts = np.zeros(size, np.int64)
    for chunk, start in enumerate(range(0, num_trials, chunk_size)):
        words = np.asarray(_kept(jax.random.fold_in(key, chunk), process, chunk_size))
        kept = outcome(words[: num_trials - start])
        counts += np.bincount(kept, minlength=size)
    return counts


@functools.partial(jax.jit, static_argnames="trials")
def _kept(key: Array, process: Process, trials: int) -> Array:
    """The sequences kept in so many trials, int32 ``[S, m]``."""
    blocks, rest = divmod(process.length, process.block_length)
    first_key, middle_key, last_key = jax.random.split(key, 3)
    first = jnp.broadcast_to(process.initial[None], (trials, process.initial.shape[0]))
    words = [_keep_block(first_key, process, first, process.block_length)]

    def following(before: Array, block_key: Array) -> tuple[Array, Array]:
        block = _keep_block(block_key, process, process.transition[before], process.block_length)
        return block[:, -1], block

    if blocks > 1:
        keys = jax.random.split(middle_key, blocks - 1)
        _, middle = lax.scan(following, words[0][:, -1], keys)
        words.append(jnp.moveaxis(middle, 0, 1).reshape(trials, -1))
    if rest:
        words.append(_keep_block(last_key, process, process.transition[words[-1][:, -1]], rest))
    return jnp.concatenate(words, axis=1)


def _keep_block(key: Array, process: Process, starts: Array, size: int) -> Array:
    """One block per trial, its first symbol drawn from ``starts [S, K]``, best of n."""
    trials = starts.shape[0]

    def candidate(index: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        best, lot, winner = state
        draw_key, noise_key = jax.random.split(jax.random.fold_in(key, index))
        block = _draw_block(draw_key, process, starts, size)
        noise = jax.random.uniform(noise_key, (trials,), jnp.float32, minval=1e-30)
        total = jnp.sum(process.levels[block], axis=1).astype(jnp.float32)
        # λ = 0: the reward decides, the lot breaks ties. Otherwise the noise is Gumbel's.
        is_hard = jnp.isinf(process.inverse_temperature)
        scale = jnp.where(is_hard, 1, process.inverse_temperature)
        score = total * scale - jnp.where(is_hard, 0, jnp.log(-jnp.log(noise)))
        better = (score > best) | ((score == best) & (noise > lot))
        return (
            jnp.where(better, score, best),
            jnp.where(better, noise, lot),
            jnp.where(better[:, None], block, winner),
        )

    nothing = jnp.full(trials, -jnp.inf, jnp.float32)
    start = (nothing, jnp.zeros(trials, jnp.float32), jnp.zeros((trials, size), jnp.int32))
    return lax.fori_loop(0, process.n, candidate, start)[2]


def _draw_block(key: Array, process: Process, starts: Array, size: int) -> Array:
    """Symbols of one block per trial, ``[S, b]``."""

    def symbol(cdf: Array, uniform: Array) -> tuple[Array, Array]:
        drawn = jnp.sum(uniform[:, None] >= cdf[:, :-1], axis=1, dtype=jnp.int32)
        return process.transition[drawn], drawn

    uniforms = jax.random.uniform(key, (size, starts.shape[0]), jnp.float32)
    return jnp.moveaxis(lax.scan(symbol, starts, uniforms)[1], 0, 1)


def _process(
    initial: ArrayLike,
    transition: ArrayLike,
    levels: ArrayLike,
    length: int,
    block_length: int,
    n: int,
    inverse_temperature: float,
) -> Process:
    whole = np.asarray(levels)
    if not np.array_equal(whole, np.round(whole)):
        raise ValueError(f"levels must be whole numbers, got {whole}: choose a smaller unit.")
    for name, value in (("length", length), ("block_length", block_length), ("n", n)):
        if value != int(value) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value}.")
    if block_length > length:
        raise ValueError(f"block_length must be at most length={length}, got {block_length}.")
    return Process(
        jnp.asarray(np.cumsum(initial), jnp.float32),
        jnp.asarray(np.cumsum(transition, axis=-1), jnp.float32),
        jnp.asarray(whole, jnp.int32),
        jnp.float32(inverse_temperature),
        length,
        block_length,
        int(n),
    )
