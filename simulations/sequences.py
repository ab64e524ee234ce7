"""The real process on sequences: draw n candidates for a block, keep one, go on from where it ends.

No formula under test is used: symbols are drawn one by one, rewards are added up, and candidates
stream, so that a trial remembers its running winner only. Rewards are whole numbers of a unit,
which keeps totals and their ties exact; probabilities are rounded to 2⁻²⁴ and soft scores are
float32. Every trial reads its own random words, so counts do not depend on the chunks.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from numpy.typing import ArrayLike, NDArray

from simulations.random_bits import key_words, threefry_words
from simulations.variates import gumbel, unit_interval

__all__ = ["Process", "reward_counts", "word_counts"]

_CHUNK = 2**14
_MOST_WORDS = 2**20
_ROUNDING = 1e-6  # of sums of probabilities


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
            ValueError: a level is not a whole number, λ is not positive, a count is below 1, shapes
                do not match, or probabilities are negative or do not sum to one.
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
    counts, key = np.zeros(size, np.int64), key_words(key)
    for start in range(0, num_trials, chunk_size):
        words = np.asarray(_kept(key, process, jnp.uint32(start), chunk_size))
        kept = outcome(words[: num_trials - start])
        counts += np.bincount(kept, minlength=size)
    return counts


@functools.partial(jax.jit, static_argnames="trials")
def _kept(key: Array, process: Process, first_trial: Array, trials: int) -> Array:
    """The sequences kept in so many trials, int32 ``[S, m]``."""
    blocks, rest = divmod(process.length, process.block_length)
    trial = first_trial + jnp.arange(trials, dtype=jnp.uint32)
    keep = functools.partial(_keep_block, key, process, trial)
    first = jnp.broadcast_to(process.initial[None], (trials, process.initial.shape[0]))
    words = [keep(jnp.uint32(0), first, process.block_length)]

    def following(before: Array, place: Array) -> tuple[Array, Array]:
        block = keep(place, process.transition[before], process.block_length)
        return block[:, -1], block

    if blocks > 1:
        places = jnp.arange(1, blocks, dtype=jnp.uint32) * jnp.uint32(process.block_length)
        _, middle = lax.scan(following, words[0][:, -1], places)
        words.append(jnp.moveaxis(middle, 0, 1).reshape(trials, -1))
    if rest:
        place = jnp.uint32(process.length - rest)
        words.append(keep(place, process.transition[words[-1][:, -1]], rest))
    return jnp.concatenate(words, axis=1)


def _keep_block(
    key: Array, process: Process, trial: Array, place: Array, starts: Array, size: int
) -> Array:
    """The best of n blocks per trial; the symbol at ``place`` is drawn from ``starts [S, K]``."""
    trials = starts.shape[0]

    def candidate(index: Array, state: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
        best, best_lot, winner = state
        # Symbol i of candidate j reads counter i n + j; the second word of the first is the lot.
        places = place + jnp.arange(size, dtype=jnp.uint32)
        draws = places * jnp.uint32(process.n) + index.astype(jnp.uint32)
        shape = (size, trials)
        symbols, lots = threefry_words(
            key, jnp.broadcast_to(trial[None], shape), jnp.broadcast_to(draws[:, None], shape)
        )
        block, lot = _draw_block(unit_interval(symbols), process, starts), lots[0]
        total = jnp.sum(process.levels[block], axis=1).astype(jnp.float32)
        # λ = 0: the reward decides, the lot breaks ties. Otherwise the noise is Gumbel's.
        is_hard = jnp.isinf(process.inverse_temperature)
        scale = jnp.where(is_hard, 1, process.inverse_temperature)
        score = total * scale + jnp.where(is_hard, 0, gumbel(lot))
        better = (score > best) | ((score == best) & (lot > best_lot))
        return (
            jnp.where(better, score, best),
            jnp.where(better, lot, best_lot),
            jnp.where(better[:, None], block, winner),
        )

    nothing = jnp.full(trials, -jnp.inf, jnp.float32)
    start = (nothing, jnp.zeros(trials, jnp.uint32), jnp.zeros((trials, size), jnp.int32))
    return lax.fori_loop(0, process.n, candidate, start)[2]


def _draw_block(uniforms: Array, process: Process, starts: Array) -> Array:
    """Symbols of one block per trial, ``[S, b]``, from ``uniforms [b, S]``."""

    def symbol(cdf: Array, uniform: Array) -> tuple[Array, Array]:
        drawn = jnp.sum(uniform[:, None] > cdf[:, :-1], axis=1, dtype=jnp.int32)
        return process.transition[drawn], drawn

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
    first, rows = np.asarray(initial, float), np.asarray(transition, float)
    if whole.ndim != 1 or first.shape != whole.shape or rows.shape != whole.shape * 2:
        raise ValueError(
            "initial [K], transition [K, K] and levels [K] must agree, got shapes "
            f"{first.shape}, {rows.shape}, {whole.shape}."
        )
    laws = np.vstack([first, rows])
    if not (np.all(laws >= 0) and np.all(np.abs(laws.sum(axis=1) - 1) < _ROUNDING)):
        raise ValueError(
            "initial and transition rows must be non-negative and sum to one, got sums "
            f"{laws.sum(axis=1)} and least {laws.min()}: check them."
        )
    for name, value in (("length", length), ("block_length", block_length), ("n", n)):
        if value != int(value) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {value}.")
    if block_length > length:
        raise ValueError(f"block_length must be at most length={length}, got {block_length}.")
    return Process(
        jnp.asarray(np.cumsum(first), jnp.float32),
        jnp.asarray(np.cumsum(rows, axis=-1), jnp.float32),
        jnp.asarray(whole, jnp.int32),
        jnp.float32(inverse_temperature),
        length,
        block_length,
        int(n),
    )
