"""Add something up over trials: on any number of devices, in constant memory, resumable.

A :class:`Tally` says what a chunk of trials adds to exact integer counts and to averages. Trial s
reads the random words of counters (s, ·) and no others, so the totals depend on the seed and the
number of trials alone: not on chunks, devices, processes or interruptions. One compiled step deals
chunks to the devices of a mesh in turn and returns the same totals to every process.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec
from numpy.typing import NDArray

from simulations.draws.words import key_words
from simulations.engine import checkpoint as checkpoints
from simulations.statistics.estimate import Estimate, merge_moments
from simulations.tools.arguments import integer_within

_MAX_TRIALS = 2**32 - 1  # a trial is one 32-bit counter word
_TILE = 256  # trials at least whose moments are summed in float32; the rest is float64
_TILES = 2**10  # of a chunk at most: longer chunks have longer tiles
_COUNTERS = 2**16  # with all copies: so many stay in a core's cache
_COPIES = 64
_TRIALS_IN_STEP = 2**30  # of all devices: counts are int32 until they leave them
_ROUNDS = 256  # chunks per device and step at most; processes meet after a step, for some 10 ms
_MOMENTS_IN_STEP = 2**21  # per device
_AXIS = "trials"
# AVX-512 doubles the rate of integer arithmetic; XLA takes half of it unless told. No effect on
# other machines, nor on any result.
_COMPILER_OPTIONS: dict[str, Any] = {"xla_cpu_prefer_vector_width": 512}


class _Sizes(NamedTuple):
    """What suits a kind of device."""

    least_trials: int  # of a chunk
    most_trials: int
    draws: int
    numbers: int  # that a chunk keeps in memory
    draws_in_step: int  # a second or two, which nothing can interrupt


# On a processor what a chunk keeps stays in a core's cache, and a chunk is long enough for the
# threads to meet seldom. An accelerator waits for the host most of a millisecond in every chunk
# and several in every step (measured on an H200), and half a gigabyte of scores is little there.
_ON_PROCESSOR = _Sizes(2**9, 2**18, 2**24, 2**20, 2**30)
_ON_ACCELERATOR = _Sizes(2**15, 2**23, 2**27, 2**28, 2**36)

Progress = Callable[[int, int], None]
"""Called with trials done and trials in all."""


class Tally(Protocol):
    """What is added up: a frozen pytree dataclass, whose fields tell one tally from another."""

    @property
    def num_counts(self) -> int:
        """C, the number of counters."""
        ...

    @property
    def typical_draws(self) -> int:
        """About how many candidates a trial has."""
        ...

    @property
    def numbers_per_trial(self) -> int:
        """About how many numbers of a trial are in memory at a time."""
        ...

    def moments_shape(self, num_trials: int) -> tuple[int, int, int]:
        """3, V and T of the moments of so many trials, known without tracing them."""
        ...

    def __call__(self, key: Array, trials: Array, valid: Array) -> tuple[Array, Array]:
        """What these trials give, of which only those count that are ``valid``.

        Args:
            key: ``[2]`` uint32, words of the key.
            trials: ``[S]`` uint32, indices of the trials; S is a multiple of 256.
            valid: ``[S]`` bool.

        Returns:
            Counts, ``[C]`` int32, and moments, ``[3, V, T]`` float32: the numbers, means and
            Σ(x − mean)² of V averages in T parts, see :func:`moments`.
        """
        ...


@dataclass(frozen=True)
class Totals:
    """What the trials gave.

    Attributes:
        counts: ``[C]`` int64.
        moments: ``[3, V]`` float64, number, mean and Σ(x − mean)² of each average.
        num_trials: S.
    """

    counts: NDArray[np.int64]
    moments: NDArray[np.float64]
    num_trials: int

    @property
    def averages(self) -> tuple[Estimate, ...]:
        """The V means with their standard errors."""
        columns = self.moments.T.tolist()
        return tuple(Estimate.from_moments(mean, s, int(n)) for n, mean, s in columns)


@dataclass(frozen=True)
class Schedule:
    """How a run is done; no choice changes what comes out.

    Attributes:
        chunk_size: trials in flight at a time on a device, at most 2²³, rounded up to a multiple of
            256, of 512 beyond 2¹⁸, and so on; by default as many as fit a core's cache, at most
            2¹⁸ (2²³ on an accelerator), and fewer where trials have thousands of candidates.
        mesh: devices to use, in any arrangement; all by default.
        checkpoint: file to go on from if it is there, and to keep up to date. A finished run's
            file answers at once, and is where a longer run starts. Written by the first process.
        checkpoint_every: seconds between two writes.
        progress: told how many trials are done.
    """

    chunk_size: int | None = None
    mesh: Mesh | None = None
    checkpoint: str | Path | None = None
    checkpoint_every: float = 30.0
    progress: Progress | None = None


def accumulate(
    key: Array, tally: Tally, *, num_trials: int, schedule: Schedule | None = None
) -> Totals:
    """Add the tally up over trials 0, …, ``num_trials`` − 1.

    Args:
        key: typed threefry key; consumed.
        tally: what to add up.
        num_trials: S, in [1, 2³²).
        schedule: chunks, devices, checkpoint, progress.

    Raises:
        ValueError: for a key of another kind, numbers outside these ranges, or a checkpoint that is
            damaged, of another tally or key, or of more trials.
        OSError: when a checkpoint cannot be written; the previous one is intact.
    """
    plan = schedule or Schedule()
    if not isinstance(plan.mesh, Mesh | None):
        raise ValueError(f"mesh must be a jax.sharding.Mesh, got {plan.mesh!r}: jax.make_mesh")
    flat = Mesh(np.ravel(jax.devices() if plan.mesh is None else plan.mesh.devices), (_AXIS,))
    sizes = _ON_PROCESSOR if flat.devices[0].platform == "cpu" else _ON_ACCELERATOR
    chunk_size, draws = plan.chunk_size, tally.typical_draws
    if chunk_size is None:
        fitting = sizes.draws // draws, sizes.numbers // tally.numbers_per_trial
        chunk_size = max(sizes.least_trials, min(sizes.most_trials, *fitting))
    num_trials = integer_within(
        "num_trials", num_trials, at_most=_MAX_TRIALS, remedy="merge runs of several keys for more"
    )
    chunk_size = integer_within(
        "chunk_size",
        chunk_size,
        at_most=_ON_ACCELERATOR.most_trials,
        remedy="None chooses one that is fast",
    )
    # Plain arrays: every process has the same, and the mesh may be of any devices.
    words, tally = jax.tree.map(np.asarray, (key_words(key), tally))
    # Runs shorter than a chunk share their programs, up to a factor of two.
    size = min(chunk_size, 2 ** (num_trials - 1).bit_length(), _TRIALS_IN_STEP // flat.size)
    size = -(-size // _tile(size)) * _tile(size)
    part = tally.moments_shape(size)
    room = max(1, min(_ROUNDS, _MOMENTS_IN_STEP // max(1, math.prod(part))))
    rounds = min(room, sizes.draws_in_step // (size * draws), _TRIALS_IN_STEP // (size * flat.size))
    rounds = max(1, rounds)

    file = None if plan.checkpoint is None else Path(plan.checkpoint)
    identity = {} if file is None else {"key": words.tolist(), "tally": checkpoints.describe(tally)}
    nothing = Totals(np.zeros(tally.num_counts, np.int64), np.zeros(part[:2]), 0)
    totals = _resume(file, identity, nothing)
    if totals.num_trials > num_trials:
        raise ValueError(
            f"num_trials must be at least the {totals.num_trials} that {file} already holds, got "
            f"{num_trials}: raise it, or give this run a file of its own"
        )
    written = time.monotonic()

    def steps() -> Iterator[tuple[Array, Array, int]]:
        """Counts, moments and trials of each step, the next one already under way."""
        first, under_way = totals.num_trials, None
        while first < num_trials:
            step = min(rounds * size * flat.size, num_trials - first)
            launched = _step(
                words,
                tally,
                np.uint32(first),
                np.uint32(step),
                mesh=flat,
                chunk_size=size,
                moments_shape=(room, *part),
            )
            if under_way is not None:
                yield under_way
            first, under_way = first + step, (*launched, step)
        if under_way is not None:
            yield under_way

    for counts, parts, step in steps():
        totals = _add(totals, counts, parts, step)
        ended = totals.num_trials == num_trials
        due = ended or time.monotonic() - written >= plan.checkpoint_every
        if file is not None and due and jax.process_index() == 0:
            arrays = {
                field.name: getattr(totals, field.name) for field in dataclasses.fields(totals)
            }
            checkpoints.save(file, identity, jax.tree.map(np.asarray, arrays))
            written = time.monotonic()
        if plan.progress is not None:
            plan.progress(totals.num_trials, num_trials)
    return totals


def shape_in_tiles(num_averages: int, num_trials: int) -> tuple[int, int, int]:
    """Of :func:`moments` of V averages over S trials: 3, V, T ≤ 1024."""
    return 3, num_averages, num_trials // _tile(num_trials)


def _tile(num_trials: int) -> int:
    """Trials of a tile, in a chunk of so many."""
    return _TILE * -(-num_trials // (_TILE * _TILES))


def counted(outcomes: Array, valid: Array, num_outcomes: int) -> Array:
    """How many ``valid`` trials had each of ``outcomes [S]``, ``[K]`` int32.

    Trials take turns at copies of the counters, as an accelerator's threads wait for one another at
    each: with one copy best-of-16 spent nine tenths of its time so (measured on an H200).
    """
    copies = max(1, min(_COPIES, _COUNTERS // num_outcomes))
    copy = jnp.arange(outcomes.size, dtype=jnp.int32) % copies
    places = copy * num_outcomes + outcomes.astype(jnp.int32)
    counters = jnp.zeros(copies * num_outcomes, jnp.int32)
    counters = counters.at[places].add(valid.astype(jnp.int32), mode="promise_in_bounds")
    return jnp.sum(counters.reshape(copies, num_outcomes), axis=0, dtype=jnp.int32)


def moments(values: Array, valid: Array) -> Array:
    """Numbers, means and Σ(x − mean)² of ``values [V, S]``, by the tile; ``[3, V, T]``."""
    tile = _tile(valid.size)
    shape = (values.shape[0], valid.size // tile, tile)
    tiles = values.reshape(shape)
    weights = jnp.broadcast_to(valid.reshape(shape[1:]), shape).astype(jnp.float32)
    number = jnp.sum(weights, axis=-1)
    mean = jnp.sum(weights * tiles, axis=-1) / jnp.maximum(number, 1)
    squares = jnp.sum(weights * jnp.square(tiles - mean[..., None]), axis=-1)
    return jnp.stack([number, mean, squares])


def _add(totals: Totals, counts: Array, parts: Array, num_trials: int) -> Totals:
    """The totals with another step's counts and moments ``[3, V, T]``."""
    new = merge_moments(np.asarray(parts, np.float64))
    return Totals(
        totals.counts + np.asarray(counts),
        merge_moments(np.stack([totals.moments, new], axis=-1)),
        totals.num_trials + num_trials,
    )


def _resume(checkpoint: Path | None, identity: dict[str, Any], nothing: Totals) -> Totals:
    """The totals of the checkpoint if there is one, else of no trials."""
    arrays = {f.name: np.asarray(getattr(nothing, f.name)) for f in dataclasses.fields(nothing)}
    if checkpoint is not None and jax.process_index() == 0 and checkpoint.exists():
        found = checkpoints.load(checkpoint, identity)[1]
        if (got := _shapes(found)) != (wanted := _shapes(arrays)):
            raise ValueError(
                f"{checkpoint} must hold {wanted}, got {got}: it is of another version, delete it"
            )
        arrays = found
    if checkpoint is not None and jax.process_count() > 1:  # the file is the first process's
        arrays = {name: _from_first_process(arrays[name]) for name in sorted(arrays)}
    return Totals(arrays["counts"], arrays["moments"], int(arrays["num_trials"]))


def _shapes(arrays: dict[str, NDArray]) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in sorted(arrays.items())}


def _from_first_process(array: NDArray) -> NDArray:
    """The first process's array, byte by byte: JAX would make 64-bit numbers 32-bit ones."""
    same = multihost_utils.broadcast_one_to_all(np.frombuffer(array.tobytes(), np.uint8))
    return np.frombuffer(np.asarray(same).tobytes(), array.dtype).reshape(array.shape).copy()


@partial(
    jax.jit,
    static_argnames=("mesh", "chunk_size", "moments_shape"),
    compiler_options=_COMPILER_OPTIONS,
)
def _step(
    words: Array,
    tally: Tally,
    first: Array,
    num_trials: Array,
    *,
    mesh: Mesh,
    chunk_size: int,
    moments_shape: tuple[int, ...],
) -> tuple[Array, Array]:
    """Counts ``[C]`` and moments ``[3, V, T]`` of a step's trials; a device's have a given shape.

    That is an axis of chunks, then a chunk's own.
    """
    deal = jax.shard_map(
        partial(
            _device_step,
            num_devices=mesh.size,
            chunk_size=chunk_size,
            moments_shape=moments_shape,
        ),
        mesh=mesh,
        in_specs=PartitionSpec(),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    return deal(words, tally, first, num_trials)


def _device_step(
    words: Array,
    tally: Tally,
    first: Array,
    num_trials: Array,
    *,
    num_devices: int,
    chunk_size: int,
    moments_shape: tuple[int, ...],
) -> tuple[Array, Array]:
    """What one device does: every ``num_devices``-th chunk, then the sum over devices."""
    stride = jnp.uint32(num_devices * chunk_size)
    own = lax.axis_index(_AXIS).astype(jnp.uint32) * jnp.uint32(chunk_size)

    def add(index: Array, totals: tuple[Array, Array]) -> tuple[Array, Array]:
        places = own + index * stride + jnp.arange(chunk_size, dtype=jnp.uint32)
        counts, parts = tally(words, first + places, places < num_trials)
        return totals[0] + counts, totals[1].at[index].set(parts)

    start = jnp.zeros(tally.num_counts, jnp.int32), jnp.zeros(moments_shape, jnp.float32)
    rounds = (jnp.maximum(num_trials, own) - own + stride - jnp.uint32(1)) // stride
    counts, parts = lax.fori_loop(jnp.uint32(0), rounds, add, start)
    # Every process gets everything, [3, V, T], in the order of trials.
    every = jnp.moveaxis(lax.all_gather(parts, _AXIS, axis=1), (0, 1), (2, 3))
    return lax.psum(counts, _AXIS), every.reshape(*every.shape[:2], math.prod(every.shape[2:]))
