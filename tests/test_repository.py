"""The repository as a whole: one version everywhere, and nothing that only one machine has."""

import ast
import io
import re
import shutil
import subprocess
import tokenize
import tomllib
from pathlib import Path

import pytest

import bon_theory

ROOT = Path(__file__).parents[1]

# Spelled in pieces, so that this file passes its own test.
FOREIGN = re.compile(
    "|".join(
        [
            r"(?<![\w.])/(?:work|root|home|Users|mnt|opt|tmp)" + r"/\w",
            r"pypi\." + "org",
            r"python" + r"hosted\.org",
            r"registry\." + "npmjs",
            r"--(?:extra-)?index" + "-url ",
            r"find" + "-links",
        ]
    )
)


def foreign(text: str) -> list[str]:
    """Machine paths and package registries that a text names."""
    return [match[0] for match in FOREIGN.finditer(text)]


@pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="needs the git checkout"
)
def test_no_tracked_file_names_a_machine_or_a_registry():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    files = [ROOT / name for name in listing.stdout.decode().split("\0") if name]
    found = {}
    for file in files:
        content = file.read_bytes() if file.is_file() else b""
        if b"\0" not in content and (named := foreign(content.decode(errors="replace"))):
            found[file.relative_to(ROOT).as_posix()] = named
    assert found == {}


@pytest.mark.parametrize(
    "planted",
    ["open('/ro" + "ot/x')", "cd /wo" + "rk/main", "https://py" + "pi.org/simple"],
)
def test_a_planted_machine_path_is_found(planted: str):
    assert len(foreign(planted)) == 1


@pytest.mark.parametrize(
    "text", ["../work/x", "and/or", "https://arxiv.org/abs/1/home/", "a/tmp/b"]
)
def test_an_innocent_path_is_not(text: str):
    assert foreign(text) == []


def test_the_version_is_the_same_everywhere():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    changelog = re.search(
        r"(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text().split("[Unreleased]")[1]
    )
    assert citation
    assert changelog
    assert {project["version"], citation[1], changelog[1]} == {bon_theory.__version__}


@pytest.mark.parametrize(
    ("name", "at_least"),
    [("browser", 10), ("dev", 10), ("docs", 10), ("reproduce", 10), ("real-model", 1)],
)
def test_the_lock_pins_and_hashes_everything(name: str, at_least: int):
    lock = (ROOT / "requirements" / f"{name}.txt").read_text().replace("\\\n", " ")
    lines = [line for line in lock.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) >= at_least
    for line in lines:
        assert re.match(r"[a-z0-9-]+==[\w.]+ .*--hash=sha256:", line)
    assert not any(line.startswith("torch") for line in lines)


# A role with its text, a literal, a link, Markdown's formula: what backticks may mean; or a name.
MARKS = re.compile(r"(:[\w:]+:`[^`]*`|``[^`]*``|`[^`]+`_|\$`[^`]*`\$)|`[^`\n]+`")


def single_ticks(file: Path) -> list[str]:
    """Names between single backticks in a file's docstrings and comments."""
    text = file.read_text(encoding="utf-8")
    prose = [
        node.value.value
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    prose += [token.string for token in tokens if token.type == tokenize.COMMENT]
    marks = [match for each in prose for match in MARKS.finditer(each)]
    return [match[0] for match in marks if match[1] is None]


@pytest.mark.parametrize(
    "package",
    ["bon_theory", "simulations", "figures", "paper_repro", "tests", "benchmarks", "docs"],
)
def test_code_in_docstrings_stands_between_double_backticks(package: str):
    """Single ones are another mark in Sphinx: a cross-reference, in italics."""
    found = {file.name: single_ticks(file) for file in (ROOT / package).rglob("*.py")}
    assert {name: ticks for name, ticks in found.items() if ticks} == {}


def test_a_single_backtick_is_found(tmp_path: Path):
    file = tmp_path / "x.py"
    text = '"""Of `n` and ``m``, :func:`f` of :math:`x`, `k`."""\nx = 1  # `x`\ny = "`y`"\n'
    file.write_text(text)
    assert single_ticks(file) == ["`n`", "`k`", "`x`"]
