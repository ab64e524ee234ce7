"""Run a sampler over many trials, on any number of devices, in constant memory, with exact counts.

Trial s reads the random words of counters (s, ·) and no others, so a result depends on the seed and
the number of trials alone: not on chunks, devices or processes. One compiled step deals chunks of
trials to the devices of a mesh in turn, counts winners on the device, and returns the same totals
to every process.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, PartitionSpec
from numpy.typing import ArrayLike, NDArray

from simulations import checkpoint as checkpoints
from simulations.estimate import Estimate, combine, combine_moments
from simulations.processes import Sampler
from simulations.random_bits import key_words

_MAX_TRIALS = 2**32 - 1  # a trial is one 32-bit counter word
_CHUNK = 2**16
_DRAWS_IN_CHUNK = 2**26  # a hundredth of a second; steps of some seconds cannot be interrupted
_TILE = 256  # trials whose moments are summed in float32; the rest is float64
_ROUNDS = 16  # chunks per device and step
_AXIS = "trials"
# AVX-512 doubles the rate of integer arithmetic; XLA takes half of it unless told. No effect on
# other machines, nor on any result.
_COMPILER_OPTIONS: dict[str, Any] = {"xla_cpu_prefer_vector_width": 512}

Progress = Callable[[int, int], None]
"""Called with trials done and trials in all."""


@dataclass(frozen=True)
class Simulation:
    """What the trials gave.

    Attributes:
        counts: ``[K]`` int64, how often each outcome (or rank bin) was picked.
        reward: mean reward of the pick.
        win_rate: mean chance that the pick beats a fresh reference draw, ties counting half; for a
            continuous reward the mean rank.
    """

    counts: NDArray[np.int64]
    reward: Estimate
    win_rate: Estimate

    @property
    def num_trials(self) -> int:
        """S, the number of trials."""
        return int(self.counts.sum())

    def expected_value(self, values: ArrayLike) -> Estimate:
        """Mean of ``values[outcome]`` over the picks."""
        return Estimate.from_counts(self.counts, values)


def simulate(
    key: Array,
    sampler: Sampler,
    *,
    num_trials: int,
    chunk_size: int | None = None,
    mesh: Mesh | None = None,
    checkpoint: Path | None = None,
    checkpoint_every: float = 30.0,
    progress: Progress | None = None,
) -> Simulation:
    """Run the real process ``num_trials`` times.

    The counts are the same for every ``chunk_size`` and ``mesh``, the two means of a continuous
    reward up to float32 rounding, and the first S trials of a longer run are the shorter run.
    Memory is proportional to ``chunk_size``, whatever the number of candidates. With several
    processes (``jax.distributed``), all of them make the same call and get the same result.

    Args:
        key: typed threefry key; consumed.
        sampler: from :mod:`simulations.samplers`.
        num_trials: S, in [1, 2³²).
        chunk_size: trials in flight at a time on a device, rounded up to a multiple of 256; by
            default 2¹⁶ (2²⁰ on an accelerator), fewer where trials have thousands of candidates.
        mesh: devices to use, in any arrangement; all by default.
        checkpoint: file to go on from if it is there, and to keep up to date. A finished run's
            file answers at once, and is where a longer run starts. Written by the first process.
        checkpoint_every: seconds between two writes.
        progress: told how many trials are done.

    Raises:
        ValueError: for a key of another kind, numbers outside these ranges, or a checkpoint of
            another sampler or key, or of more trials.
        OSError: when a checkpoint cannot be written; the previous one is intact.

    Example:
        >>> import jax
        >>> from simulations.references import discrete_reference
        >>> from simulations.samplers import best_of_n
        >>> coin = discrete_reference([0.5, 0.5], [0.0, 1.0])
        >>> simulate(jax.random.key(0), best_of_n(coin, n=20), num_trials=1000).counts
        array([   0, 1000])
    """
    flat = Mesh(np.ravel(jax.devices() if mesh is None else mesh.devices), (_AXIS,))
    if chunk_size is None:
        largest = _CHUNK if flat.devices[0].platform == "cpu" else 16 * _CHUNK
        chunk_size = max(largest // 64, min(largest, _DRAWS_IN_CHUNK // sampler.typical_draws))
    for name, value, upper in (
        ("num_trials", num_trials, _MAX_TRIALS),
        ("chunk_size", chunk_size, 2**20),
    ):
        if value != int(value) or not 1 <= value <= upper:
            raise ValueError(f"{name} must be a whole number in [1, {upper}], got {value}")
    # Plain arrays: every process has the same, and the mesh may be of any devices.
    words, sampler = jax.tree.map(np.asarray, (key_words(key), sampler))
    size = -(-min(chunk_size, num_trials) // _TILE) * _TILE

    identity = {"key": words.tolist(), "sampler": _description(sampler)}
    done, counts, averages = _resume(checkpoint, identity, sampler, num_trials)
    written = time.monotonic()
    while done < num_trials:
        step = min(_ROUNDS * size * flat.size, num_trials - done)
        totals, tiles = _step(
            words, sampler, np.uint32(done), np.uint32(step), mesh=flat, chunk_size=size
        )
        counts += np.asarray(totals)
        new = [combine_moments(*np.asarray(t, np.float64)) for t in tiles]
        averages = [combine(pair) for pair in zip(averages, new, strict=True)] if done else new
        done += step
        due = done == num_trials or time.monotonic() - written >= checkpoint_every
        if checkpoint is not None and due and jax.process_index() == 0:
            state = np.array([dataclasses.astuple(average) for average in averages], np.float64)
            checkpoints.save(
                checkpoint, identity, {"done": np.array(done), "counts": counts, "averages": state}
            )
            written = time.monotonic()
        if progress is not None:
            progress(done, num_trials)
    return Simulation(counts, *sampler.reference.summarise(counts, tuple(averages)))


def _resume(
    checkpoint: Path | None, identity: dict[str, Any], sampler: Sampler, num_trials: int
) -> tuple[int, NDArray[np.int64], list[Estimate]]:
    """Trials done, counts and averages: of the checkpoint if there is one, else of no trials."""
    state = {
        "done": np.zeros((), np.int64),
        "counts": np.zeros(sampler.reference.num_outcomes, np.int64),
        "averages": np.zeros((_observables(sampler), 3)),
    }
    if checkpoint is not None and jax.process_index() == 0 and checkpoint.exists():
        state = checkpoints.load(checkpoint, identity)[1]
    if checkpoint is not None and jax.process_count() > 1:  # the file is the first process's
        state = {name: _from_first_process(array) for name, array in state.items()}
    done = int(state["done"])
    if done > num_trials:
        raise ValueError(
            f"num_trials must be at least the {done} that {checkpoint} already holds, "
            f"got {num_trials}: raise it, or give this run a file of its own"
        )
    rows = state["averages"] if done else []
    return done, state["counts"], [Estimate(float(m), float(e), int(s)) for m, e, s in rows]


def _from_first_process(array: NDArray) -> NDArray:
    """The first process's array, byte by byte: JAX would make its 64-bit numbers 32-bit ones."""
    same = multihost_utils.broadcast_one_to_all(np.frombuffer(array.tobytes(), np.uint8))
    return np.frombuffer(np.asarray(same).tobytes(), array.dtype).reshape(array.shape).copy()


def _observables(sampler: Sampler) -> int:
    """How many averages the sampler's reference asks for."""
    return len(jax.eval_shape(sampler.reference.observables, jnp.zeros(1, jnp.uint32)))


def _description(value: Any) -> Any:
    """A configuration as JSON: fields by name, functions by name, long arrays by their hash."""
    if dataclasses.is_dataclass(value):
        fields = {f.name: _description(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, np.ndarray | np.generic):
        if value.size <= 8:
            return value.tolist()
        digest = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()[:16]
        return f"{value.dtype}{list(value.shape)} {digest}"
    if callable(value):
        return f"{value.__module__}.{value.__qualname__}"
    return value


@partial(jax.jit, static_argnames=("mesh", "chunk_size"), compiler_options=_COMPILER_OPTIONS)
def _step(
    words: Array, sampler: Sampler, first: Array, num_trials: Array, *, mesh: Mesh, chunk_size: int
) -> tuple[Array, list[Array]]:
    """Counts ``[K]``, and per observable the moments ``[3, tiles]``, of a step's trials."""
    deal = jax.shard_map(
        partial(_device_step, num_devices=mesh.size, chunk_size=chunk_size),
        mesh=mesh,
        in_specs=PartitionSpec(),
        out_specs=PartitionSpec(),
        check_vma=False,
    )
    return deal(words, sampler, first, num_trials)


def _device_step(
    words: Array,
    sampler: Sampler,
    first: Array,
    num_trials: Array,
    *,
    num_devices: int,
    chunk_size: int,
) -> tuple[Array, list[Array]]:
    """What one device does: every ``num_devices``-th chunk, then the sum over devices."""
    reference = sampler.reference
    stride = jnp.uint32(num_devices * chunk_size)
    own = lax.axis_index(_AXIS).astype(jnp.uint32) * jnp.uint32(chunk_size)

    def chunk(index: Array, totals: tuple[Array, list[Array]]) -> tuple[Array, list[Array]]:
        counts, tiles = totals
        places = own + index * stride + jnp.arange(chunk_size, dtype=jnp.uint32)
        winners, valid = sampler(words, first + places), places < num_trials
        # What is beyond the last trial goes to a cell that is cut off below.
        outcomes = jnp.where(valid, reference.outcome(winners), counts.size - 1)
        counts = counts.at[outcomes].add(1, mode="promise_in_bounds")
        rows = [_moments(values, valid) for values in reference.observables(winners)]
        return counts, [t.at[index].set(row) for t, row in zip(tiles, rows, strict=True)]

    shape = (_ROUNDS, 3, chunk_size // _TILE)
    start = (
        jnp.zeros(reference.num_outcomes + 1, jnp.int32),
        [jnp.zeros(shape, jnp.float32)] * _observables(sampler),
    )
    rounds = (jnp.maximum(num_trials, own) - own + stride - jnp.uint32(1)) // stride
    counts, tiles = lax.fori_loop(jnp.uint32(0), rounds, chunk, start)
    # Every process gets everything, in the order of trials.
    gathered = [lax.all_gather(t, _AXIS, axis=1) for t in tiles]
    return lax.psum(counts[:-1], _AXIS), [jnp.moveaxis(t, 2, 0).reshape(3, -1) for t in gathered]


def _moments(values: Array, valid: Array) -> Array:
    """Number, mean and Σ(x − mean)² of each tile, ``[3, tiles]`` float32."""
    tiles, weights = values.reshape(-1, _TILE), valid.reshape(-1, _TILE).astype(jnp.float32)
    number = jnp.sum(weights, axis=1)
    mean = jnp.sum(weights * tiles, axis=1) / jnp.maximum(number, 1)
    squares = jnp.sum(weights * jnp.square(tiles - mean[:, None]), axis=1)
    return jnp.stack([number, mean, squares])
