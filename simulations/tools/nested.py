"""Nested dictionaries of arrays as flat ones, whose names are joined by slashes, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["flatten", "unflatten"]


def flatten(tree: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays by joined names.

    Example:
        >>> flatten({"a": {"b": 1.0}, "c": [2]})
        {'a/b': array(1.), 'c': array([2])}
    """
    flat = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}/{inner}": array for inner, array in flatten(value).items()}
        else:
            flat[name] = np.asarray(value)
    return flat


def unflatten(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Undo :func:`flatten`.

    Example:
        >>> unflatten({"a/b": np.array(1.0), "c": np.array([2])})
        {'a': {'b': array(1.)}, 'c': array([2])}
    """
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *outer, last = name.split("/")
        branch = tree
        for part in outer:
            branch = branch.setdefault(part, {})
        branch[last] = array
    return tree
