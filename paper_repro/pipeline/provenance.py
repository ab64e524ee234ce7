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
from collections.abc import Iterator, Mapping
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


class Sources:
    """Files of our modules, by one look at the folders: what a module's results depend on.

    Args:
        root: of the checkout.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._root, self._paths = root, _modules(root)
        self._read: dict[str, tuple[str, frozenset[str]]] = {}

    def of(self, module: str) -> dict[str, str]:
        """SHA-256 of the file of ``module`` and of all of ours that it imports, directly or not.

        Imports are read from the source, inside functions too; nothing is executed.
        """
        digests: dict[str, str] = {}
        seen, waiting = {module}, [module]
        while waiting:
            # A package that is above it counts; the last part may be a name inside a module.
            for name in itertools.accumulate(waiting.pop().split("."), "{}.{}".format):
                path = self._paths.get(name)
                if path is not None and path not in digests:
                    digests[path], imported = self._of_file(path)
                    waiting += imported - seen
                    seen |= imported
        return dict(sorted(digests.items()))

    def _of_file(self, path: str) -> tuple[str, frozenset[str]]:
        """SHA-256 of a file and what it imports of ours; stages share most of theirs."""
        if path not in self._read:
            content = (self._root / path).read_bytes()
            self._read[path] = hashlib.sha256(content).hexdigest(), _imports(content.decode())
        return self._read[path]


def key(
    name: str,
    module: str,
    config: Mapping[str, Any],
    needs: tuple[str, ...],
    sources: Sources,
) -> str:
    """Digest of everything that a stage's result depends on.

    Args:
        name: of the stage.
        module: its entry point.
        config: JSON-able.
        needs: keys of the stages whose results it reads.
        sources: of the checkout.
    """
    parts = {
        "name": name,
        "config": config,
        "sources": sources.of(module),
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


def _modules(root: Path) -> dict[str, str]:
    """Paths below the root of our modules and packages, by their dotted names."""
    paths: dict[str, str] = {}
    for package in PACKAGES:
        for file in (root / package).rglob("*.py"):
            path = file.relative_to(root)
            parts = path.with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            paths[name] = path.as_posix()
    return paths


def _imports(text: str) -> frozenset[str]:
    """What a source imports of ours."""
    found: set[str] = set()
    for node in _statements(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(name for name in found if name.split(".")[0] in PACKAGES)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """All statements inside, at any depth; expressions, which most nodes are, have none."""
    for field in ("body", "handlers", "orelse", "finalbody", "cases"):
        for inner in getattr(node, field, ()):
            yield inner
            yield from _statements(inner)
