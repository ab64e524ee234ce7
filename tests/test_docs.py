"""Every page is true: its Python runs, its promised values are met, its links lead somewhere."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bon_theory.bounds import REGISTRY
from docs import make_tables
from tests.test_packaging import PROMISE

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
# Doctests in the API page come from docstrings and run there.
RUN = [page for page in PAGES if page.name != "api.md"]

LIST = r"#\s*\[([-+\d., e]+)\]"  # the comment "# [0.125, 0.387, 0.488]" behind an expression
NUMBER = r"-?\d+\.\d+"
LINK = re.compile(r"(?<!!)\[[^\]]+\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def relative(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def promised(line: str) -> list[str]:
    """The numbers that the comment at the end of a line promises."""
    if listed := re.search(LIST, line):
        return re.findall(NUMBER, listed[1])
    single = re.search(PROMISE, line)
    return [single[1]] if single else []


def broken_promises(source: str, names: dict[str, Any]) -> list[str]:
    """Run a block: a bare expression shows what its comment says, a bare comparison holds."""
    lines, found = source.splitlines(), []
    for node in ast.parse(source).body:
        numbers = promised(lines[(node.end_lineno or 0) - 1])
        if not isinstance(node, ast.Expr):
            assert not numbers, f"a promise behind a statement is not tested: {ast.unparse(node)}"
            exec(compile(ast.Module([node], []), "<page>", "exec"), names)
            continue
        value = eval(compile(ast.Expression(node.value), "<page>", "eval"), names)
        if np.asarray(value).dtype == bool and not np.all(value):
            found.append(f"{ast.unparse(node)} does not hold")
        if numbers:
            flat = np.ravel(np.asarray(value, float))
            shown = [
                f"{v:.{len(n.partition('.')[2])}f}" for v, n in zip(flat, numbers, strict=False)
            ]
            if len(flat) != len(numbers) or shown != numbers:
                found.append(f"{ast.unparse(node)} is {flat}, not {numbers}")
    return found


def python_blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


# Those that compile for seconds.
LONG = {
    *("alignment.md", "alignment-training.md", "architecture.md", "bounds.md", "choosing.md"),
    *("continuous-rewards.md", "judges.md", "language-model.md", "pools.md", "precision.md"),
    *("reachable.md", "sequences.md", "simulation.md", "soft-best-of-n.md", "training.md"),
}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=relative(page), marks=[pytest.mark.slow] * (page.name in LONG))
        for page in RUN
        if python_blocks(page)
    ],
)
def test_the_python_of_a_page_runs_and_gives_what_it_promises(page: Path):
    names: dict[str, Any] = {}  # one namespace per page, as a reader would type it in
    for block in python_blocks(page):
        assert broken_promises(block, names) == []


def test_the_page_of_bounds_counts_them():
    page = (ROOT / "docs" / "bounds.md").read_text(encoding="utf-8")
    stated = re.search(r"none of the (\d+) inequalities", page)
    assert stated
    assert int(stated[1]) == len(REGISTRY)


def test_the_guides_promise_values():
    promises = [n for p in RUN for block in python_blocks(p) for n in re.findall(NUMBER, block)]
    assert len(promises) > 50


@pytest.mark.parametrize(
    ("block", "broken"),
    [
        ("1 / 3  # 0.333", 0),
        ("1 / 3  # 0.334", 1),
        ("[0.25, 1 / 3]  # [0.25, 0.33]", 0),
        ("[0.25, 1 / 3]  # [0.25, 0.34]", 1),
        ("[0.25, 1 / 3]  # [0.25]", 1),
        ("x = 1\nx + 1", 0),
        ("1 < 2", 0),
        ("2 < 1", 1),
    ],
)
def test_a_wrong_promise_is_found(block: str, broken: int):
    assert len(broken_promises(block, {})) == broken


def anchors(page: Path) -> set[str]:
    """The fragments that a page's headings make on a git forge."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.strip().replace(" ", "-") for heading in plain}


def dead_links(page: Path) -> list[str]:
    """Relative links of a page that lead to no file, or to no heading of it."""
    text = re.sub(
        r"^```.*?^```|\$\$.*?\$\$|`[^`\n]*`", "", page.read_text("utf-8"), flags=re.M | re.S
    )
    dead = []
    for target in (first or second for first, second in LINK.findall(text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, fragment = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (fragment and fragment not in anchors(file)):
            dead.append(target)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_the_links_of_a_page_lead_somewhere(page: Path):
    assert dead_links(page) == []


def test_a_dead_link_is_found(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("# A heading\n[x](page.md#a-heading) [y](page.md#none) ![z](none.png)\n")
    assert dead_links(page) == ["page.md#none", "none.png"]


def test_every_page_can_be_reached_from_the_readme():
    reached, pending = set(), [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        if page in reached or not page.exists():
            continue
        reached.add(page)
        targets = [a or b for a, b in LINK.findall(page.read_text(encoding="utf-8"))]
        names = [target.partition("#")[0] for target in targets]
        pending += [(page.parent / name).resolve() for name in names if name.endswith(".md")]
    assert set(PAGES) <= reached


@pytest.mark.parametrize("page", make_tables.PAGES, ids=relative)
def test_the_measured_numbers_are_the_committed_ones(page: Path):
    text = page.read_text(encoding="utf-8")
    assert text == make_tables.filled(text, make_tables.PAGES[page]()), "run `make docs`"


def test_what_is_not_measured_says_so(tmp_path: Path):
    table = make_tables.table(tmp_path)
    assert table.count("not measured yet") == 8
    assert not re.search(NUMBER, table)
    logits = make_tables.logits_table(tmp_path)
    assert logits.count("not measured yet") == 9 * 4
    assert not re.search(r"\d+e-\d+", logits)


def test_what_a_card_was_not_measured_at_is_not_in_the_table(tmp_path: Path):
    """A part may have failed, a peer not have been installed."""
    found = {
        "device": {"kind": "a card"},
        "million_draws_per_second": {"best": {"ours": 2e3, "torch": 1e3}},
        "models": {"SmolLM2-135M": {"ours": {}}},
    }
    (tmp_path / "accelerator.json").write_text(json.dumps({"results": found}))
    assert list(make_tables.accelerator_rows(tmp_path)) == [
        (
            "a card: simulation, billion draws per second, ours (PyTorch, CuPy)",
            "best 2 (1, not installed)",
        )
    ]


def test_the_first_screen_of_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_gallery_names_every_figure():
    scripts = [
        path.stem
        for path in (ROOT / "figures").glob("*.py")
        if re.search(r"^def draw\(", path.read_text(encoding="utf-8"), re.M)
    ]
    shown = re.findall(r"Script: `figures/(\w+)\.py`", (ROOT / "docs" / "gallery.md").read_text())
    assert sorted(shown) == sorted(scripts)


def test_the_first_page_leads_to_every_other():
    first = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in PAGES} - {"README.md", "index.md"}
    assert set(re.findall(r"^- \[[^\]]+\]\(([\w-]+\.md)\)", first, re.M)) == pages
