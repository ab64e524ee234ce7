"""What a result depends on: sources, versions, configuration, digested into one key."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import itertools
import json
import platform
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("bon_theory", "simulations", "figures", "paper_repro")
DISTRIBUTIONS = ("jax", "jaxlib", "numpy", "scipy", "flax", "optax", "matplotlib")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that compute; empty text for one not installed."""
    found = {"python": platform.python_version(), "bon-theory": _own_version()}
    return found | {name: _installed(name) for name in DISTRIBUTIONS}


def sources(module: str, root: Path = ROOT) -> dict[str, str]:
    """SHA-256 of the file of ``module`` and of every file of ours that it imports, directly or not.

    Imports are read from the source, inside functions too; nothing is executed.
    """
    files, digests = _modules(root), {}
    seen, waiting = {module}, [module]
    while waiting:
        # A package that is above it counts; the last part may be a name inside a module.
        for name in itertools.accumulate(waiting.pop().split("."), "{}.{}".format):
            if (file := files.pop(name, None)) is not None:
                content = file.read_bytes()
                digests[file.relative_to(root).as_posix()] = hashlib.sha256(content).hexdigest()
                new = _imports(content.decode()) - seen
                seen |= new
                waiting += new
    return dict(sorted(digests.items()))


def key(
    name: str,
    module: str,
    config: Mapping[str, Any],
    needs: tuple[str, ...] = (),
    root: Path = ROOT,
) -> str:
    """Digest of everything that a stage's result depends on.

    Args:
        name: of the stage.
        module: its entry point.
        config: JSON-able.
        needs: keys of the stages whose results it reads.
        root: of the checkout.
    """
    parts = {
        "name": name,
        "config": config,
        "sources": sources(module, root),
        "versions": versions(),
        "machine": platform.machine(),
        "needs": needs,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def commit(root: Path = ROOT) -> str:
    """The checkout's commit, with a "+" if files of it were changed since; "" if there is none."""
    git = shutil.which("git")
    if git is None:
        return ""

    def said(*arguments: str) -> str:
        command = [git, "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()

    try:
        changed = said("status", "--porcelain", "--untracked-files=no")
        return said("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except subprocess.CalledProcessError:  # no checkout, or one without a commit
        return ""


@cache
def _own_version() -> str:
    import bon_theory

    return bon_theory.__version__


@cache
def _installed(name: str) -> str:
    """Version of a package, looked up once; empty text if there is none."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _modules(root: Path) -> dict[str, Path]:
    """The files of our modules and packages by their dotted names: one look at the folders."""
    files: dict[str, Path] = {}
    for package in PACKAGES:
        for file in (root / package).rglob("*.py"):
            parts = file.relative_to(root).with_suffix("").parts
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return files


@cache
def _imports(text: str) -> frozenset[str]:
    """What a source imports of ours; stages share most of theirs, and reading one takes long."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name for name in found if name.split(".")[0] in PACKAGES)
