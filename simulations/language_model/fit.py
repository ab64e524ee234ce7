"""The driver of all training: parameters, a loss, the batch of each step, and what happens between.

Step i depends on its parameters and on batch i alone, so that a run that was interrupted and goes
on from what is on disk ends in the same numbers, to the bit.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec

from simulations.language_model.resume import Checkpoint

Batch = Any
"""A pytree of arrays whose first axis is that of the examples."""

Loss = Callable[[Any, Batch], tuple[jax.Array, jax.Array]]
"""(model, batch) → a sum over the batch, and what to divide it by: the number of tokens or pairs.

Kept apart, they add up over the parts of a batch, whatever the sizes of these.
"""


@dataclass(frozen=True)
class Update:
    """How far a run is.

    Attributes:
        done: updates so far, in earlier runs too.
        total: updates in all.
        loss: before the last of them.
        speed: of this run, in units of the loss's divisor (tokens, pairs) per second; NaN at first.
    """

    done: int
    total: int
    loss: float
    speed: float


@dataclass(frozen=True)
class Fit:
    """What is left of a run, beside the parameters.

    Attributes:
        losses: before each update, ``[S]``.
        gradient_norms: over all trained parameters, before any clipping, ``[S]``.
        speed: of this run without its first update, which compiles: units of the loss's divisor per
            second; NaN for a run that did not make two.
    """

    losses: np.ndarray
    gradient_norms: np.ndarray
    speed: float


def fit(
    model: nnx.Module,
    loss: Loss,
    batches: Callable[[int], Batch],
    transform: optax.GradientTransformation,
    *,
    num_steps: int,
    trained: nnx.filterlib.Filter = nnx.Param,
    num_parts: int = 1,
    devices: jax.sharding.Mesh | None = None,
    checkpoint: Checkpoint | None = None,
    observe: Callable[[int, Any], None] | None = None,
    observe_at: Collection[int] = (),
    progress: Callable[[Update], None] | None = None,
) -> Fit:
    """Train a model in place; when anything stops it, the model has what the last update made.

    What is trained is kept in float32 at least, whatever the model computes in: an update of a
    thousandth of a parameter is less than bfloat16 can tell, and would be lost. The model is given
    its own precision's rounding of it.

    Args:
        model: whose trained parameters change.
        loss: a function from the top of a module, so that a second run does not compile it again.
        batches: the batch of step i, which is to depend on i alone.
        transform: optax's; the same object does not compile again either.
        num_steps: S, in all, those of earlier runs counted.
        trained: which variables; all others are frozen and in no checkpoint.
        num_parts: parts of a batch whose gradients are accumulated one after another, for batches
            whose activations do not fit; it changes rounding alone.
        devices: a mesh of one axis, over which the examples are shared out; the parameters are on
            every device.
        checkpoint: where the state is kept; a run that finds one goes on from it.
        observe: called as ``observe(done, model)`` with the model after so many updates, whose
            arrays the next update takes: it keeps what it finds, not the model. A run that goes on
            calls it again for the state it begins with, since it may have been interrupted there.
        observe_at: numbers of updates at which it is called, from 0 to S.
        progress: called after each update.

    Raises:
        FloatingPointError: the loss or the gradient is not finite; the last checkpoint is older.
        ValueError: there is nothing to train, or the checkpoint is of another run.
    """
    graph, parameters, frozen = nnx.split(model, trained, ...)
    if not jax.tree.leaves(parameters):
        raise ValueError(f"trained is {trained}, which no variable of the model is: name others")
    precisions = tuple(leaf.dtype for leaf in jax.tree.leaves(parameters))
    parameters = _rounded(
        parameters, tuple(np.promote_types(dtype, np.float32) for dtype in precisions)
    )
    state = parameters, jax.jit(transform.init)(parameters)  # one program, not one for each shape
    history, done = np.full((2, num_steps), np.nan, np.float32), 0
    if checkpoint is not None and (found := checkpoint.load((state, history))) is not None:
        done, (state, history) = found
        history = np.array(history)

    state, frozen = _on_all(devices, (state, frozen))
    clock = _Clock()

    def look() -> None:
        if observe is not None and done in observe_at:
            observe(done, nnx.merge(graph, _rounded(state[0], precisions), frozen))
            clock.stop()

    try:
        look()
        batch = _shared_out(devices, batches(done)) if done < num_steps else None
        while done < num_steps:
            *state, told = _step(
                graph, loss, transform, precisions, num_parts, *state, frozen, batch
            )
            if done + 1 < num_steps:
                batch = _shared_out(devices, batches(done + 1))  # while the step runs
            value, norm, divisor = np.asarray(told).tolist()
            if not math.isfinite(value + norm):
                kept = "" if checkpoint is None else f"; {checkpoint.folder} holds an earlier state"
                raise FloatingPointError(
                    f"step {done} has loss {value} and a gradient of norm {norm}: lower the "
                    f"learning rate, or look at what is in its batch{kept}"
                )
            history[:, done] = value, norm
            done += 1
            clock.count(divisor)
            look()  # before a state is kept, so that what is kept has been looked at
            if progress is not None:
                progress(Update(done, num_steps, value, clock.speed))
            if checkpoint is not None and checkpoint.is_due(done, num_steps):
                checkpoint.save(done, (tuple(state), history))
    finally:
        nnx.update(model, _rounded(state[0], precisions))
    return Fit(history[0], history[1], clock.speed)


@partial(
    jax.jit,
    static_argnames=("graph", "loss", "transform", "precisions", "num_parts"),
    donate_argnames=("trained", "optimizer"),
)
def _step(
    graph: nnx.GraphDef,
    loss: Loss,
    transform: optax.GradientTransformation,
    precisions: tuple[np.dtype, ...],
    num_parts: int,
    trained: nnx.State,
    optimizer: optax.OptState,
    frozen: nnx.State,
    batch: Batch,
) -> tuple[nnx.State, optax.OptState, jax.Array]:
    """The state after an update, and the loss, gradient norm and divisor ``[3]`` before it."""

    def differentiate(part: Batch) -> tuple[tuple[jax.Array, jax.Array], nnx.State]:
        def total(trained: nnx.State) -> tuple[jax.Array, jax.Array]:
            return loss(nnx.merge(graph, _rounded(trained, precisions), frozen), part)

        return jax.value_and_grad(total, has_aux=True)(trained)

    sums = _summed(differentiate, batch, num_parts)
    (total, divisor), gradient = sums
    gradient = jax.tree.map(lambda leaf: leaf / divisor.astype(leaf.dtype), gradient)
    norm = optax.tree.norm(gradient)
    # Optax's schedules and bias corrections mix Python floats with an integer step count.
    with jax.numpy_dtype_promotion("standard"):
        updates, optimizer = transform.update(gradient, optimizer, trained)
        moved: Any = optax.apply_updates(trained, updates)
    return moved, optimizer, jnp.stack([total / divisor, norm, divisor]).astype(jnp.float32)


def _rounded(tree: Any, precisions: tuple[np.dtype, ...]) -> Any:
    """The arrays of the tree, each in its precision."""
    leaves, structure = jax.tree.flatten(tree)
    rounded = (leaf.astype(dtype) for leaf, dtype in zip(leaves, precisions, strict=True))
    return jax.tree.unflatten(structure, rounded)


def _summed(function: Callable[[Batch], Any], batch: Batch, num_parts: int) -> Any:
    """The sum of ``function`` over parts of the batch, one in memory at a time."""
    if num_parts == 1:
        return function(batch)

    # Part p has the examples p, p + num_parts, …: so each device has its share of every part.
    def dealt(leaf: jax.Array) -> jax.Array:
        return leaf.reshape(-1, num_parts, *leaf.shape[1:]).swapaxes(0, 1)

    parts = jax.tree.map(dealt, batch)
    function = jax.jit(function)  # traced once for both
    shape = jax.eval_shape(function, jax.tree.map(lambda leaf: leaf[0], parts))
    zero = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)

    def add(sums: Any, part: Batch) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, function(part)), None

    return jax.lax.scan(add, zero, parts)[0]


class _Clock:
    """Counts what is done after the first update, which compiles."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.seconds, self.counted, self.speed = 0.0, 0.0, math.nan

    def count(self, amount: float) -> None:
        now = time.perf_counter()
        if self.since is not None:
            self.counted += amount
            self.seconds += now - self.since
            self.speed = self.counted / self.seconds
        self.since = now

    def stop(self) -> None:
        """What happens until now is no update; the next one is counted from here."""
        if self.since is not None:
            self.since = time.perf_counter()


def _on_all(devices: jax.sharding.Mesh | None, tree: Any) -> Any:
    if devices is None:
        return jax.tree.map(jnp.asarray, tree)
    return jax.device_put(tree, NamedSharding(devices, PartitionSpec()))


def _shared_out(devices: jax.sharding.Mesh | None, batch: Batch) -> Batch:
    if devices is None:
        return jax.tree.map(jnp.asarray, batch)
    return jax.device_put(batch, NamedSharding(devices, PartitionSpec(devices.axis_names[0])))
