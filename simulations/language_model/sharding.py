"""A model and its candidates on several devices: which axis of what is split.

A mesh has an axis ``"rows"``, over which candidates are split, or an axis ``"weights"``, over which
parameters are, or both. What is not split is on every device; XLA puts the communication in.

The rule for parameters is that of Megatron (Shoeybi et al. 2019): a matrix that enters heads or the
hidden units of a perceptron is split by its outputs, one that leaves them by its inputs, so that a
layer adds up once for attention and once for the perceptron; embedding and head by tokens. An axis
that the number of devices does not divide is not split.
"""

from __future__ import annotations

from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from simulations.language_model.transformer import Transformer

ROWS, WEIGHTS = "rows", "weights"

# The axis that is split, from the end, by the last names on a parameter's path.
_SPLIT = {
    ("attention", "project", "kernel"): -1,
    ("attention", "project", "bias"): -1,
    ("attention", "output", "kernel"): -2,
    ("perceptron", "expand", "kernel"): -1,
    ("perceptron", "expand", "bias"): -1,
    ("perceptron", "contract", "kernel"): -2,
    ("embedding", "embedding"): -2,
    ("head", "embedding"): -2,
}


def num_devices(mesh: Mesh | None, axis: str) -> int:
    """How many devices share what is split over the ``axis``.

    Raises:
        ValueError: a mesh without an axis that this module knows.
    """
    if mesh is None:
        return 1
    if not {ROWS, WEIGHTS} & set(mesh.axis_names):
        raise ValueError(
            f"mesh has the axes {mesh.axis_names}: name one {ROWS!r}, over which candidates are "
            f"split, or {WEIGHTS!r}, over which parameters are, as in jax.make_mesh((8,), "
            f"({ROWS!r},))"
        )
    return mesh.shape.get(axis, 1)


def place(model: Transformer, mesh: Mesh) -> Transformer:
    """The model with its parameters split over ``"weights"``, where ``mesh`` has such an axis.

    Example:
        >>> from simulations.language_model.architecture import TransformerConfig
        >>> mesh = jax.make_mesh((1,), ("rows",), axis_types=(jax.sharding.AxisType.Auto,))
        >>> model = place(Transformer(TransformerConfig(num_layers=1), rngs=nnx.Rngs(0)), mesh)
        >>> model.embedding.embedding[...].sharding.is_fully_replicated
        True
    """
    graph, state = nnx.split(model)
    parts = num_devices(mesh, WEIGHTS)

    def placed(path: tuple[Any, ...], leaf: jax.Array) -> jax.Array:
        names = tuple(str(part.key) for part in path if isinstance(part, jax.tree_util.DictKey))
        axis = next((a for ends, a in _SPLIT.items() if names[-len(ends) :] == ends), None)
        if parts == 1 or axis is None or leaf.shape[axis] % parts:
            return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec()))
        return jax.device_put(leaf, NamedSharding(mesh, _along(axis % leaf.ndim, WEIGHTS)))

    return nnx.merge(graph, jax.tree.map_with_path(placed, state))


def split_rows(array: jax.Array, axis: int, mesh: Mesh | None) -> jax.Array:
    """The array, inside a compiled function, with an ``axis`` of candidates split over ``"rows"``.

    Args:
        array: of any shape.
        axis: whose size is a multiple of the number of devices that share rows.
        mesh: None leaves everything where it is.
    """
    if num_devices(mesh, ROWS) == 1:
        return array
    assert mesh is not None
    return jax.lax.with_sharding_constraint(array, NamedSharding(mesh, _along(axis, ROWS)))


def _along(axis: int, name: str) -> PartitionSpec:
    return PartitionSpec(*(None,) * axis, name)
