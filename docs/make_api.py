"""Write docs/api.md: every public name, with its formula and its example, from the docstrings.

python docs/make_api.py
"""

import inspect
import re
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import Any

import bon_theory
from bon_theory import alignment, bounds, pools, sequence
from tests.test_architecture import FLOORS

LIBRARY = FLOORS["bon_theory"]
PAGE = Path(__file__).with_name("api.md")
SECTION = re.compile(r"^(Args|Attributes|Example|Examples|Raises|Returns|Source|References):$")
# The formula stands beside ".. math::" or indented below it, and ends before the next paragraph.
DISPLAY = re.compile(r"^\.\. math::[ ]*(.*(?:\n(?:[ ]+.*|[ ]*(?=\n[ ]+)))*)", re.M)


def public_names(module: ModuleType) -> list[tuple[str, Any]]:
    """Return (name, object) for everything the module offers that can carry a docstring."""
    pairs = [(name, getattr(module, name)) for name in module.__all__]
    return [(name, thing) for name, thing in pairs if callable(thing)]


def public_methods(cls: type) -> list[tuple[str, Any]]:
    """Return (name, function) for the public methods written in the class body."""
    own = [(name, inspect.unwrap(getattr(cls, name))) for name in vars(cls) if name[0] != "_"]
    return [(name, thing) for name, thing in own if inspect.isfunction(thing)]


def sections(docstring: str) -> dict[str, str]:
    """Split a docstring at its headings; unindented text belongs to the description, key ''."""
    parts: dict[str, list[str]] = {"": []}
    current = ""
    for line in docstring.splitlines():
        heading = SECTION.match(line)
        if heading:
            current = heading[1].removesuffix("s")
            parts[current] = []
            continue
        if line and not line.startswith(" "):
            current = ""
        parts[current].append(line)
    return {key: inspect.cleandoc("\n".join(lines)) for key, lines in parts.items()}


def markdown(text: str) -> str:
    """Translate the roles used in docstrings: literals, mathematics and cross-references."""
    text = text.replace("``", "`")
    text = re.sub(r":(?:func|meth|class|mod|data):`~?([^`]+)`", r"`\1`", text)
    # $`…`$ rather than $…$: forges take the backslashes of the latter for Markdown's.
    text = re.sub(r":math:`([^`]+)`", lambda m: f"$`{_formula(m[1])}`$", text)
    return DISPLAY.sub(lambda m: f"```math\n{_formula(inspect.cleandoc(m[1]))}\n```", text)


def _formula(tex: str) -> str:
    """TeX that survives inside a table, where a bar would end the cell."""
    return re.sub(r"\\\| ?", r"\\Vert ", tex)


def entry(name: str, thing: Any, *, level: int) -> Iterator[str]:
    """Yield the Markdown of one name: signature, description, example."""
    parts = sections(inspect.getdoc(thing) or "")
    yield f"{'#' * level} `{name}`"
    if not inspect.isclass(thing):
        yield f"```python\n{name}{signature(thing)}\n```"
    yield markdown(parts[""])
    for heading in ("Arg", "Attribute", "Return", "Raise"):
        if heading in parts:
            yield f"**{heading}s:**{listed(parts[heading])}"
    if "Example" in parts:
        yield f"```python\n{parts['Example']}\n```"


def listed(text: str) -> str:
    """Items ``name: what it is`` of a section as a list; other text as it stands."""
    items = re.split(r"\n(?! )", text)
    matches = [re.match(r"(\w+): (.*)", item, re.S) for item in items]
    if not all(matches):
        return f" {markdown(text)}"
    lines = [f"- `{m[1]}`: {markdown(' '.join(m[2].split()))}" for m in matches if m]
    return "\n\n" + "\n".join(lines)


def signature(function: Any) -> str:
    """Return the parameters with their defaults; the types are in the source."""
    parameters = inspect.signature(function).parameters.values()
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in parameters if p.name != "self"]
    return str(inspect.Signature(bare))


def floor(thing: Any) -> str:
    """Return the module or package of the library in which a thing lives."""
    return thing.__module__.split(".")[1]


def reading_order(pair: tuple[str, Any]) -> tuple[int, int, int]:
    """Order by floor, by module as its package imports them, then by place in the file."""
    _, thing = pair
    _, line = inspect.getsourcelines(thing)
    return LIBRARY.index(floor(thing)), list(sys.modules).index(thing.__module__), line


def render() -> str:
    """Return the whole page."""
    blocks = [
        "# API",
        "Made by `make docs` from the docstrings.",
    ]
    names = sorted(public_names(bon_theory), key=reading_order)
    sections = [
        (sys.modules[f"bon_theory.{name}"], "", list(group))
        for name, group in groupby(names, key=lambda pair: floor(pair[1]))
    ]
    offered = (bounds, sequence, alignment, pools)
    sections += [(m, f"{m.__name__.split('.')[-1]}.", public_names(m)) for m in offered]
    for module, prefix, group in sections:
        blocks += [f"## {module.__name__}", markdown(inspect.getdoc(module) or "").split("\n\n")[0]]
        for name, thing in group:
            blocks += entry(prefix + name, thing, level=3)
            if inspect.isclass(thing):
                for method, function in public_methods(thing):
                    blocks += entry(f"{prefix}{name}.{method}", function, level=4)
    return "\n\n".join(block.strip() for block in blocks) + "\n"


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
