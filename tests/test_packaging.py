"""The wheel holds the library and its command, needs JAX alone, and runs the README's example."""

import re
import subprocess
import sys
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

PROMISE = r"#\s*(-?\d+\.\d+)\b"  # the comment "# 1.5435864316" behind an expression

# Prints where the library is, then the value of every bare expression with such a comment.
RUNNER = f"""
import ast, re, sys, bon_theory
print(bon_theory.__file__)
source = open(sys.argv[1]).read()
lines = source.splitlines()
names = {{}}
for node in ast.parse(source).body:
    code = ast.unparse(node)
    if isinstance(node, ast.Expr) and re.search(r"{PROMISE}", lines[node.end_lineno - 1]):
        print(float(eval(code, names)))
    else:
        exec(code, names)
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command and return what it prints; its own words are the failure message."""
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def dependencies(*roots: str) -> set[str]:
    """The distributions that these distributions need, themselves included."""
    found: set[str] = set()
    pending = [*roots]
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            needed = map(Requirement, metadata.requires(name) or [])
            pending += [r.name for r in needed if not r.marker or r.marker.evaluate({"extra": ""})]
    return found


def link_distributions(names: set[str], site_packages: Path) -> None:
    """Lend installed distributions to another environment, offline, by one link per entry."""
    for name in names:
        distribution = metadata.distribution(name)
        tops = {file.parts[0] for file in distribution.files or []} - {"..", "__pycache__"}
        for top in tops:
            target = Path(str(distribution.locate_file(top)))
            if not (site_packages / top).exists():
                (site_packages / top).symlink_to(target)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, offline."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


def readme_example() -> str:
    """The first Python block of the README, verbatim."""
    block = re.search(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert block
    return block[1]


def test_the_wheel_holds_the_library_and_its_command_alone(wheel: Path):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {Path(name).parts[0].partition("-")[0] for name in names}
    assert tops == {"bon_theory", "bon_theory_command.py"}
    assert "bon_theory/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    shipped = {name for name in names if name.startswith("bon_theory/")}
    files = (p for end in ("py", "css", "js") for p in (ROOT / "bon_theory").rglob(f"*.{end}"))
    present = {str(p.relative_to(ROOT)) for p in files}
    assert shipped == present | {"bon_theory/py.typed"}


def test_the_readme_example_runs_from_the_wheel_with_jax_alone(wheel: Path, tmp_path: Path):
    environment = tmp_path / "environment"
    venv.create(environment, symlinks=True)
    (site_packages,) = environment.glob("lib/python*/site-packages")
    link_distributions(dependencies("jax", "jaxlib"), site_packages)
    python = environment / "bin" / "python"
    # pip also checks that nothing the wheel asks for is missing.
    pip = [sys.executable, "-m", "pip", "--python", python]
    run(*pip, "install", "--quiet", "--no-index", "--no-compile", wheel, cwd=tmp_path)

    (tmp_path / "example.py").write_text(readme_example())
    (tmp_path / "runner.py").write_text(RUNNER)
    where, *values = run(python, "-I", "runner.py", "example.py", cwd=tmp_path).splitlines()

    assert Path(where).is_relative_to(environment)
    promised = re.findall(PROMISE, readme_example())
    assert len(values) == len(promised) > 0
    for value, number in zip(values, promised, strict=True):
        decimals = len(number.partition(".")[2])
        assert f"{float(value):.{decimals}f}" == number
