"""A selection or a bound is complete once every place that treats them all knows it.

CONTRIBUTING.md lists the places in order; what is missing is named by the failure.
"""

import inspect
import re
from collections.abc import Callable, Collection
from pathlib import Path

import jax.numpy as jnp
import pytest

import bon_theory as bt
from bon_theory import bounds, drafts, selection
from docs import make_api
from simulations import samplers
from simulations.experiments import theory_checks
from simulations.selection import drafts as drafts_as_run
from tests import bound_examples, strategies
from tests.bon_theory import test_drafts, test_float32, test_transforms
from tests.oracles import drafts as oracle_of_drafts

ROOT = Path(__file__).parents[1]
REFERENCE = bt.Policy.from_probs([0.5, 0.3, 0.2, 0.0, 0.0], [0.0, 0.5, 1.0, 0.0, 0.0])


def first_column(page: str) -> set[str]:
    """Names in backticks in the first cells of the tables of a page of the documentation."""
    cells = re.findall(r"^\|([^|]+)\|", (ROOT / page).read_text(encoding="utf-8"), re.M)
    return set(re.findall(r"`(\w+)`", " ".join(cells)))


SELECTION_PLACES: dict[str, Callable[[], Collection[str]]] = {
    "bon_theory.__all__": lambda: bt.__all__,
    "README.md, table of selections": lambda: first_column("README.md"),
    "docs/precision.md, budgets": lambda: first_column("docs/precision.md"),
    "tests/strategies.py, SELECTIONS": lambda: strategies.SELECTIONS,
    "tests/bon_theory/test_float32.py, SELECTIONS": lambda: test_float32.SELECTIONS,
    "tests/bon_theory/test_float32.py, PARAMETERS": lambda: test_float32.PARAMETERS,
    "tests/bon_theory/test_transforms.py, PARAMETERS": lambda: test_transforms.PARAMETERS,
    "tests/bon_theory/test_transforms.py, INVALID": lambda: {n for n, _ in test_transforms.INVALID},
    "simulations/selection/samplers.py": lambda: vars(samplers),
    "simulations/experiments/theory_checks.py, symbols": lambda: {
        case.selection for case in theory_checks.DEFAULT.cases if "sequence" not in case.problem
    },
    "simulations/experiments/theory_checks.py, sequences": lambda: {
        case.selection for case in theory_checks.DEFAULT.cases if "sequence" in case.problem
    },
}
# A law to draft from is no selection: it has no process.
LAW_OF_DRAFTS_PLACES: dict[str, Callable[[], Collection[str]]] = {
    "bon_theory.__all__": lambda: bt.__all__,
    "docs/soft-best-of-n.md, examples": lambda: set(
        re.findall(r"bt\.(\w+)", (ROOT / "docs/soft-best-of-n.md").read_text(encoding="utf-8"))
    ),
    "tests/bon_theory/test_drafts.py, PARAMETERS": lambda: test_drafts.PARAMETERS,
    "tests/bon_theory/test_drafts.py, INVALID": lambda: {n for n, _ in test_drafts.INVALID},
}
DRAFT_PLACES: dict[str, Callable[[], Collection[str]]] = {
    **LAW_OF_DRAFTS_PLACES,
    "README.md": lambda: set(
        re.findall(r"bt\.(\w+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    ),
    "tests/oracles/drafts.py": lambda: vars(oracle_of_drafts),
    "simulations/selection/drafts.py": lambda: vars(drafts_as_run),
    "simulations/experiments/theory_checks.py": lambda: {
        case.selection for case in theory_checks.DEFAULT.cases
    },
}
BOUND_PLACES: dict[str, Callable[[], Collection[str]]] = {
    "bon_theory/bounds/__init__.py, __all__": lambda: bounds.__all__,
    "docs/api.md, by `make docs`": lambda: set(
        re.findall(r"^### `?bounds\.(\w+)", make_api.PAGE.read_text(encoding="utf-8"), re.M)
    ),
}


def missing(name: str, places: dict[str, Callable[[], Collection[str]]]) -> list[str]:
    """The places that do not know ``name``."""
    return [place for place, known in places.items() if name not in known()]


@pytest.mark.parametrize("name", selection.__all__)
def test_a_selection_is_known_everywhere(name: str) -> None:
    assert missing(name, SELECTION_PLACES) == []


@pytest.mark.parametrize("name", sorted(set(drafts.__all__) - {"GuidedDraft"}))
def test_a_selection_of_drafts_is_known_everywhere(name: str) -> None:
    takes_a_proposal = "proposal" in inspect.signature(getattr(bt, name)).parameters
    assert missing(name, DRAFT_PLACES if takes_a_proposal else LAW_OF_DRAFTS_PLACES) == []


@pytest.mark.parametrize("name", bounds.REGISTRY)
def test_a_bound_is_known_everywhere(name: str) -> None:
    assert missing(name, BOUND_PLACES) == []
    # One more argument than the examples have values for, and no property ever reaches it.
    bound_examples.value(name)


def test_a_selection_that_is_new_is_asked_for_everywhere() -> None:
    assert missing("median_of_n", SELECTION_PLACES) == list(SELECTION_PLACES)
    assert missing("median_of_drafts", DRAFT_PLACES) == list(DRAFT_PLACES)
    assert missing("median_of_n_kl", BOUND_PLACES) == list(BOUND_PLACES)


@pytest.mark.parametrize(("name", "parameters"), test_transforms.INVALID)
def test_an_inadmissible_parameter_is_refused_in_concrete_calls(
    name: str, parameters: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match=r"must be .*got .*"):
        getattr(bt, name)(REFERENCE, *map(jnp.asarray, parameters))
