"""Dataclasses as pytrees that are told apart by their class.

The structures that ``jax.tree_util.register_dataclass`` makes compare equal whenever their static
fields do, whatever the classes (JAX 0.10.2 and 0.12.0). In the cache of a compiled function, where
structures are keys, one sampler could then meet another's program.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import jax
from jax.tree_util import GetAttrKey

__all__ = ["pytree"]

T = TypeVar("T")


def pytree(
    *, data_fields: Sequence[str], meta_fields: Sequence[str]
) -> Callable[[type[T]], type[T]]:
    """Register a dataclass whose ``data_fields`` are arrays or pytrees; the others are static.

    Example:
        >>> import dataclasses, jax
        >>> from simulations.tools.pytree import pytree
        >>> @pytree(data_fields=["n"], meta_fields=[])
        ... @dataclasses.dataclass(frozen=True)
        ... class Draws:
        ...     n: object
        >>> jax.tree.map(lambda n: 2 * n, Draws(3))
        Draws(n=6)
    """

    def static(node: T) -> tuple[Any, ...]:
        return tuple(getattr(node, name) for name in meta_fields)

    def flatten(node: T) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        return tuple(getattr(node, name) for name in data_fields), static(node)

    def flatten_with_keys(node: T) -> tuple[tuple[tuple[Any, Any], ...], tuple[Any, ...]]:
        return tuple((GetAttrKey(name), getattr(node, name)) for name in data_fields), static(node)

    def register(cls: type[T]) -> type[T]:
        def unflatten(meta: tuple[Any, ...], data: Iterable[Any]) -> T:
            node = object.__new__(cls)  # leaves may be placeholders, which no constructor takes
            for name, value in zip((*data_fields, *meta_fields), (*data, *meta), strict=True):
                object.__setattr__(node, name, value)
            return node

        jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
        return cls

    return register
