"""An import goes only to a lower floor, and exact theory never depends on the rest of the house."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Packages, and within a package its floors, from the ground up: an import goes down or stays.
FLOORS = {
    "bon_theory": [
        "_arguments",
        "_numerics",
        "_quadrature",
        "_quantile",
        "_reward_cdf",
        "_order_statistics",
        "policy",
        "_laws",
        "_ragged",
        "certificate",
        "noise",
        "distortion",
        "race",
        "selection",
        "drafts",
        "divergences",
        "performance",
        "judging",
        "tuning",
        "bounds",
        "reachable",
        "sequence",
        "alignment",
        "pools",
        "report",
        "cli",
    ],
    "simulations": [
        "tools",
        "statistics",
        "draws",
        "selection",
        "engine",
        "language_model",
        "alignment",
        "experiments",
    ],
    "figures": [],  # one script per figure: no floors
    "paper_repro": ["papers", "pipeline", "report"],
}
PACKAGES = list(FLOORS)

# What a floor may import beside the standard library; the longest name that applies decides.
EXACT = {"jax", "numpy", "scipy"}  # JAX requires the other two
PLOTS = {"matplotlib"}
MODELS = {"flax", "optax", "orbax", "gguf", "jinja2", "polars", "safetensors", "tokenizers"}
MODELS |= {"vaderSentiment"}
THIRD_PARTY = {
    "bon_theory": EXACT,
    "bon_theory.report": EXACT,
    "bon_theory.cli": EXACT | {"matplotlib", "polars", "rich", "typer", "zstandard"},
    "simulations": EXACT,
    "simulations.__main__": {"jax", "rich"},
    "simulations.tools": {"jax", "numpy", "rich"},
    "simulations.statistics": {"numpy", "scipy"},
    "simulations.language_model": EXACT | MODELS,
    "simulations.alignment": EXACT | MODELS,
    "simulations.experiments": EXACT | MODELS,
    "figures": EXACT | PLOTS,
    "paper_repro": {"jax", "rich"},
    "paper_repro.papers": EXACT,
    "paper_repro.pipeline": {"jax", "rich"},
    "paper_repro.report": {"jax", "jinja2", "markupsafe", "numpy", "rich"},
}


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
    if target not in PACKAGES:
        return target not in granted(importer) | sys.stdlib_module_names
    if target != package:
        return PACKAGES.index(target) > PACKAGES.index(package)
    floors = FLOORS[package]
    if not floors or rest in ("__init__", "__main__"):
        return False  # __init__ and __main__ only gather
    floor, target_floor = rest.split(".")[0], target_rest.split(".")[0]
    if floor not in floors or target_floor not in floors:
        return True  # a module without a floor, or a name of __init__, which stands above them all
    return floors.index(target_floor) > floors.index(floor)


def granted(importer: str) -> set[str]:
    """The third-party packages that ``importer`` may use."""
    scopes = [s for s in THIRD_PARTY if f"{importer}.".startswith(f"{s}.")]
    return THIRD_PARTY[max(scopes, key=len)]


def violations(root: Path) -> list[str]:
    """Return "importer -> imported" for every import under ``root`` that does not go down."""
    found = []
    for file in sorted(file for package in PACKAGES for file in (root / package).rglob("*.py")):
        importer = ".".join(file.relative_to(root).with_suffix("").parts)
        found += [f"{importer} -> {i}" for i in imports(file) if is_upward(importer, i)]
    return found


def test_every_import_goes_down():
    assert violations(ROOT) == []


@pytest.mark.parametrize("package", [package for package in PACKAGES if FLOORS[package]])
def test_every_module_of_a_package_has_a_floor(package: str):
    modules = {path.stem for path in (ROOT / package).iterdir() if path.suffix in ("", ".py")}
    assert modules - {"__init__", "__main__", "__pycache__"} <= set(FLOORS[package])


def test_the_page_shows_every_floor():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = page.split("```")[1]
    for package in PACKAGES:
        part = tree[tree.index(f"{package}/") :].partition("▼")[0]
        for floor in FLOORS[package]:
            if any((ROOT / package).glob(f"{floor}*")):
                assert re.search(rf"\b{floor}\b", part), f"{package}/{floor}"


PRIVATE = re.compile(r"bon_theory\._\w+|bon_theory\.\w+\._\w+")


def test_what_is_private_to_the_library_is_used_by_the_library_alone():
    outside = [
        p
        for package in ("simulations", "figures", "paper_repro", "benchmarks", "docs")
        for p in (ROOT / package).rglob("*.py")
    ]
    found = [f"{p.name}: {name}" for p in outside for name in imports(p) if PRIVATE.match(name)]
    assert found == []


def test_oracles_import_nothing_of_ours():
    files = (ROOT / "tests" / "oracles").rglob("*.py")
    found = {name.partition(".")[0] for file in files for name in imports(file)}
    assert "mpmath" in found  # the scan saw the oracles
    assert not found & {*PACKAGES, "jax"}


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("bon_theory/_numerics.py", "from bon_theory.policy import Policy"),
        ("bon_theory/_numerics.py", "from bon_theory import policy"),
        ("bon_theory/policy.py", "def f():\n    import bon_theory.selection"),
        ("bon_theory/policy.py", "from bon_theory import Policy"),
        ("bon_theory/policy.py", "import bon_theory"),
        ("bon_theory/policy.py", "from . import selection"),
        ("bon_theory/performance.py", "import simulations.engine.simulate"),
        ("bon_theory/__init__.py", "from figures import gap"),
        ("bon_theory/policy.py", "import flax"),
        ("bon_theory/pools/curve.py", "import polars"),
        ("simulations/engine/simulate.py", "from paper_repro import claims"),
        ("simulations/draws/words.py", "from simulations.engine import simulate"),
        ("simulations/draws/words.py", "from simulations import simulate"),
        ("simulations/statistics/checks.py", "import jax"),
        ("simulations/engine/simulate.py", "import flax"),
        ("figures/gap.py", "import paper_repro.report.page"),
        ("figures/gap.py", "import rich"),
        ("paper_repro/papers/claim.py", "from paper_repro.report import page"),
        ("paper_repro/pipeline/runner.py", "import matplotlib"),
    ],
)
def test_a_planted_upward_import_is_found(importer: str, statement: str, tmp_path: Path):
    (tmp_path / importer).parent.mkdir(parents=True)
    (tmp_path / importer).write_text(f"import math\n\n{statement}\n")
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("importer", "statement"),
    [
        ("bon_theory/policy.py", "from bon_theory._numerics import safe_log"),
        ("bon_theory/policy.py", "from bon_theory import _numerics"),
        ("bon_theory/policy.py", "import scipy.special"),
        ("bon_theory/cli/readers.py", "import polars"),
        ("simulations/engine/simulate.py", "from simulations.draws import words"),
        ("bon_theory/policy.py", "import jax.numpy as jnp"),
        ("bon_theory/__init__.py", "from bon_theory.cli import main"),
        ("simulations/engine/simulate.py", "import bon_theory as bt"),
        ("paper_repro/report/page.py", "from figures import gap"),
    ],
)
def test_a_downward_import_is_not(importer: str, statement: str, tmp_path: Path):
    (tmp_path / importer).parent.mkdir(parents=True)
    (tmp_path / importer).write_text(statement)
    assert violations(tmp_path) == []


def repeated_classes(root: Path) -> dict[str, list[str]]:
    """Files under ``root`` by the name of a public class that more than one of them defines."""
    places: dict[str, set[str]] = {}
    files = (f for package in (*PACKAGES, "benchmarks") for f in (root / package).rglob("*.py"))
    for file in files:
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, set()).add(file.relative_to(root).as_posix())
    return {name: sorted(files) for name, files in places.items() if len(files) > 1}


def test_a_name_means_one_thing():
    """No two public classes share a name; whoever meets it knows what it is without the import."""
    assert repeated_classes(ROOT) == {}


def test_a_repeated_name_is_found(tmp_path: Path):
    for file in ("bon_theory/a.py", "figures/b.py"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).write_text("class Point: ...\nclass _Own: ...\n")
    assert repeated_classes(tmp_path) == {"Point": ["bon_theory/a.py", "figures/b.py"]}
