"""Two laws, parameters for every bound, and how to call one by its name."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import bon_theory as bt
from bon_theory import bounds
from tests.strategies import law

# Five outcomes each, so that the table compiles once.
EXAMPLE = law([0.5, 0.3, 0.2, 0.0, 0.0], rewards=[0.0, 0.5, 1.0, 0.0, 0.0])
TIED = law([0.2, 0.3, 0.0, 0.1, 0.4], rewards=[0.5, 0.0, 2.0, 1.0, 0.5])
PARAMETERS: dict[str, Any] = {
    "n": 4.0,
    "temperature": 0.5,
    "order": 2.0,
    "mean_extra_draws": 2.0,
    "strength": 5.0,
    "ratio": 2.5,
    "true_reward": np.array([0.1, 0.7, 0.6, 0.0, 0.3]),
}
TIE_FREE = [
    name
    for name, inequality in bounds.REGISTRY.items()
    if inequality.quantity.selection in ("best_of_n", "best_of_poisson", "win_rate_optimal")
    and "reward" not in name
    and name not in ("best_of_n_kl_from_top_level", "best_of_n_penalised_win_rate")
]
FUNCTIONS: dict[str, Callable[..., bounds.Bound]] = {
    name: getattr(bounds, name) for name in bounds.REGISTRY
}
inequalities = pytest.mark.parametrize("name", bounds.REGISTRY)


def arguments(name: str, reference: bt.Policy, parameters: dict[str, Any]) -> dict[str, Any]:
    """Those that the function takes."""
    given = {"reference": reference, **parameters}
    return {argument: given[argument] for argument in inspect.signature(FUNCTIONS[name]).parameters}


def value(name: str, reference: Any = EXAMPLE, **parameters: Any) -> Any:
    return FUNCTIONS[name](**arguments(name, reference, {**PARAMETERS, **parameters})).value
