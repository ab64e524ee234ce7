"""Run a sampler over many trials, on any number of devices, in constant memory, with exact counts.

Trial s reads the random words of counters (s, ·) and no others, so a result depends on the seed and
the number of trials alone: not on chunks, devices or processes. One compiled step deals chunks of
trials to the devices of a mesh in turn, counts winners on the device, and returns the same totals
to every process.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.sharding import Mesh, PartitionSpec
from numpy.typing import ArrayLike, NDArray

from simulations.estimate import Estimate, combine, combine_moments
from simulations.processes import Sampler
from simulations.random_bits import key_words

_MAX_TRIALS = 2**32 - 1  # a trial is one 32-bit counter word
_CHUNK = 2**16
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
    chunk_size: int = _CHUNK,
    mesh: Mesh | None = None,
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
        chunk_size: trials in flight at a time on a device; rounded up to a multiple of 256.
        mesh: devices to use, in any arrangement; all by default.
        progress: told how many trials are done.

    Raises:
        ValueError: for a key of another kind, or numbers outside these ranges.

    Example:
        >>> import jax
        >>> from simulations.references import discrete_reference
        >>> from simulations.samplers import best_of_n
        >>> coin = discrete_reference([0.5, 0.5], [0.0, 1.0])
        >>> simulate(jax.random.key(0), best_of_n(coin, n=20), num_trials=1000).counts
        array([   0, 1000])
    """
    for name, value, upper in (
        ("num_trials", num_trials, _MAX_TRIALS),
        ("chunk_size", chunk_size, 2**20),
    ):
        if value != int(value) or not 1 <= value <= upper:
            raise ValueError(f"{name} must be a whole number in [1, {upper}], got {value}")
    # Plain arrays: every process has the same, and the mesh may be of any devices.
    words, sampler = jax.tree.map(np.asarray, (key_words(key), sampler))
    flat = Mesh(np.ravel(jax.devices() if mesh is None else mesh.devices), (_AXIS,))
    size = -(-min(chunk_size, num_trials) // _TILE) * _TILE

    counts = np.zeros(sampler.reference.num_outcomes, np.int64)
    averages: list[list[Estimate]] = []
    done, step_size = 0, _ROUNDS * size * flat.size
    while done < num_trials:
        step = min(step_size, num_trials - done)
        totals, tiles = _step(
            words, sampler, np.uint32(done), np.uint32(step), mesh=flat, chunk_size=size
        )
        counts += np.asarray(totals)
        averages.append([combine_moments(*np.asarray(t, np.float64)) for t in tiles])
        done += step
        if progress is not None:
            progress(done, num_trials)
    merged = tuple(combine(column) for column in zip(*averages, strict=True))
    return Simulation(counts, *sampler.reference.summarise(counts, merged))


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
    observables = jax.eval_shape(reference.observables, jnp.zeros(1, jnp.uint32))
    start = (
        jnp.zeros(reference.num_outcomes + 1, jnp.int32),
        [jnp.zeros(shape, jnp.float32) for _ in observables],
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
