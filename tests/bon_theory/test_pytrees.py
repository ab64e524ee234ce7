"""Structures of different classes differ: in a compilation cache they are keys."""

import dataclasses
import importlib
import itertools
import pkgutil
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

import bon_theory
import bon_theory as bt
import simulations
from simulations.tools.pytree import pytree
from tests import strategies as some
from tests.bon_theory import test_transforms


def nodes(package: Any) -> Iterator[Any]:
    """One of every dataclass of a package, with alike fields; leaves to JAX are left out."""
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.endswith("__main__"):
            continue
        for found in vars(importlib.import_module(module.name)).values():
            if isinstance(found, type) and found.__module__ == module.name:
                if not dataclasses.is_dataclass(found):
                    continue
                node = object.__new__(found)
                for field in dataclasses.fields(found):
                    object.__setattr__(
                        node, field.name, (1, 1) if "tuple" in str(field.type) else 1
                    )
                if jax.tree.structure(node) != jax.tree.structure(1):
                    yield node


def alike(found: list[Any]) -> list[tuple[Any, Any]]:
    """Pairs with equal structures."""
    structure = jax.tree.structure
    return [(a, b) for a, b in itertools.combinations(found, 2) if structure(a) == structure(b)]


@pytest.mark.parametrize("package", [bon_theory, simulations])
def test_no_two_classes_have_one_structure(package: Any) -> None:
    found = list(nodes(package))
    assert len(found) >= 5
    assert alike(found) == []


@dataclasses.dataclass(frozen=True)
class One:
    data: Any
    static: Any


@dataclasses.dataclass(frozen=True)
class Other:
    data: Any
    static: Any


def test_classes_with_the_same_fields_are_told_apart() -> None:
    for cls in (One, Other):
        pytree(data_fields=["data"], meta_fields=["static"])(cls)
    assert alike([One(1, "x"), Other(1, "x")]) == []
    assert alike([One(1, "x"), One(2, "x")]) != []
    assert alike([One(1, "x"), One(1, "y")]) == []
    assert jax.tree.map(lambda x: x + 1, One(1, "x")) == One(2, "x")
    [(path, _)] = jax.tree_util.tree_leaves_with_path(One(1, "x"))
    assert jax.tree_util.keystr(path) == ".data"


@pytest.mark.parametrize("name", some.SELECTIONS)
def test_all_laws_on_the_same_outcomes_are_pytrees_of_one_structure(name: str) -> None:
    """A branch of ``lax.cond`` may select by one rule, and the other by another."""
    reference = bt.Policy.from_probs([0.5, 0.3, 0.2], [0.0, 0.5, 1.0])
    parameters = test_transforms.PARAMETERS[name]
    policy = getattr(bt, name)(reference, *parameters)
    assert jax.tree.structure(policy) == jax.tree.structure(reference)
    traced = jax.jit(lambda law: getattr(bt, name)(law, *parameters))(reference)
    assert jax.tree.structure(traced) == jax.tree.structure(reference)
    for one, other in zip(jax.tree.leaves(policy), jax.tree.leaves(traced), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-15)
