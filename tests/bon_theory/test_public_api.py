"""Every public name is documented: its formula, its source, an example, a place in docs/api.md."""

import importlib
import inspect
import pkgutil
import re
from typing import Any

import pytest

import bon_theory as bt
from docs.make_api import PAGE, public_methods, public_names, render, sections

NAMES = public_names(bt)
FUNCTIONS = [pair for pair in NAMES if not inspect.isclass(pair[1])]
METHODS = [
    (f"{owner}.{name}", method)
    for owner, cls in NAMES
    if inspect.isclass(cls)
    for name, method in public_methods(cls)
]
MODULES = [
    importlib.import_module(f"bon_theory.{module.name}")
    for module in pkgutil.iter_modules(bt.__path__)
]
MATHEMATICS = re.compile(r":math:`|\.\. math::")
# The last paragraph: a letter of the bibliography, "Lin 1991", our own derivation, or no one's.
SOURCE = re.compile(r"\[[A-Z]\w{0,4}\]|[A-Z]\w+ (1[89]|20)\d\d|[Dd]erived here|Standard")


def undocumented(thing: Any, *wanted: str) -> list[str]:
    """What the docstring lacks, of "summary", "example", "formula" and "source"."""
    docstring = inspect.getdoc(thing) or ""
    present = {
        "summary": sections(docstring)[""],
        "example": ">>>" in docstring,
        "formula": MATHEMATICS.search(docstring),
        "source": SOURCE.search(docstring.split("\n\n")[-1]),
    }
    return [part for part in wanted if not present[part]]


def ids(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {"argnames": ("name", "thing"), "argvalues": pairs, "ids": [name for name, _ in pairs]}


@pytest.mark.parametrize(**ids(FUNCTIONS))
def test_a_function_has_a_formula_a_source_and_an_example(name: str, thing: Any):
    assert undocumented(thing, "summary", "formula", "source", "example") == []


@pytest.mark.parametrize(**ids(METHODS))
def test_a_method_has_an_example(name: str, thing: Any):
    assert undocumented(thing, "summary", "example") == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_a_module_says_what_it_is_and_documents_what_it_exports(module: Any):
    assert inspect.getdoc(module)
    assert [name for name, thing in public_names(module) if undocumented(thing, "summary")] == []


@pytest.mark.parametrize(**ids(FUNCTIONS))
def test_a_function_returns_and_takes_what_it_says(name: str, thing: Any):
    hints = inspect.signature(thing)
    assert hints.return_annotation is not inspect.Signature.empty
    for parameter in hints.parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty


def test_the_facade_offers_exactly_what_it_imports():
    offered = {name for name, thing in vars(bt).items() if not inspect.ismodule(thing)}
    assert {name for name in offered if name[0] != "_"} == {*bt.__all__} - {"__version__"}


def test_the_api_page_is_up_to_date():
    assert PAGE.read_text(encoding="utf-8") == render(), "run `make docs`"


def test_a_bare_function_is_reported():
    def bare():
        """"""

    assert undocumented(bare, "summary", "formula", "source", "example") == [
        "summary",
        "formula",
        "source",
        "example",
    ]
