"""An import goes only to a lower floor, and exact theory never depends on the rest of the house."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

PACKAGES = ["bon_theory", "simulations", "figures", "paper_repro"]
FLOORS = [
    "arguments",
    "numerics",
    "quadrature",
    "reward_cdf",
    "policy",
    "distortion",
    "race_lattice",
    "race_derivative",
    "race",
    "uniform_race",
    "selection",
    "divergences",
    "performance",
    "tuning",
    "bounds",
    "sequence",
    "alignment",
    "pools",
    "cli",
]
THIRD_PARTY = {"jax", "numpy"}  # what the wheel depends on


def imports(file: Path) -> Iterator[str]:
    """Every module or name that ``file`` imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{a.name}" for a in node.names)


def is_upward(importer: str, imported: str) -> bool:
    """Whether the dotted module ``importer`` must not import the dotted name ``imported``."""
    package, _, rest = importer.partition(".")
    target, _, target_rest = imported.partition(".")
    if target.startswith(".") or target not in PACKAGES:
        return target not in THIRD_PARTY | sys.stdlib_module_names and package == "bon_theory"
    if target != package:
        return PACKAGES.index(target) > PACKAGES.index(package)
    if package != "bon_theory" or rest in ("", "__init__", "__main__"):
        return False  # the other packages have no floors; __init__ only gathers
    floor, target_floor = rest.split(".")[0], target_rest.split(".")[0]
    if floor not in FLOORS or target_floor not in FLOORS:
        return True  # a module without a floor, or a name of __init__, which stands above them all
    return FLOORS.index(target_floor) > FLOORS.index(floor)


def violations(root: Path) -> list[str]:
    """Return "importer -> imported" for every import under ``root`` that does not go down."""
    found = []
    for file in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        importer = ".".join(file.relative_to(root).with_suffix("").parts)
        found += [f"{importer} -> {i}" for i in imports(file) if is_upward(importer, i)]
    return found


def test_every_import_goes_down():
    assert violations(ROOT) == []


def test_every_module_of_the_library_has_a_floor():
    modules = {path.stem for path in (ROOT / "bon_theory").iterdir() if path.suffix in ("", ".py")}
    assert modules - {"__init__", "__main__", "__pycache__"} <= set(FLOORS)


def test_oracles_import_nothing_of_ours():
    files = (ROOT / "tests" / "oracles").rglob("*.py")
    found = {name.partition(".")[0] for file in files for name in imports(file)}
    assert "mpmath" in found  # the scan saw the oracles
    assert not found & {*PACKAGES, "jax"}


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("bon_theory/numerics.py", "from bon_theory.policy import Policy"),
        ("bon_theory/numerics.py", "from bon_theory import policy"),
        ("bon_theory/policy.py", "def f():\n    import bon_theory.selection"),
        ("bon_theory/policy.py", "from bon_theory import Policy"),
        ("bon_theory/policy.py", "import bon_theory"),
        ("bon_theory/policy.py", "from . import selection"),
        ("bon_theory/performance.py", "import simulations.engine"),
        ("bon_theory/__init__.py", "from figures import gap"),
        ("bon_theory/policy.py", "import scipy"),
        ("simulations/engine.py", "from paper_repro import claims"),
        ("figures/gap.py", "import paper_repro.report"),
    ],
)
def test_a_planted_upward_import_is_found(importer: str, statement: str, tmp_path: Path):
    (tmp_path / importer).parent.mkdir()
    (tmp_path / importer).write_text(f"import math\n\n{statement}\n")
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("bon_theory/policy.py", "from bon_theory.numerics import safe_log"),
        ("bon_theory/policy.py", "from bon_theory import numerics"),
        ("bon_theory/policy.py", "import jax.numpy as jnp"),
        ("bon_theory/__init__.py", "from bon_theory.cli import main"),
        ("simulations/engine.py", "import bon_theory as bt"),
        ("paper_repro/report.py", "from figures import gap"),
    ],
)
def test_a_downward_import_is_not(importer: str, statement: str, tmp_path: Path):
    (tmp_path / importer).parent.mkdir()
    (tmp_path / importer).write_text(statement)
    assert violations(tmp_path) == []
