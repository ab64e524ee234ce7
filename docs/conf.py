"""The documentation as a site: ``make docs`` builds it, without a network, into build/docs."""

import json
import re
from html import escape
from pathlib import Path
from typing import Any

from docutils.nodes import SkipNode  # pyright: ignore[reportMissingModuleSource]
from latex2mathml.converter import convert  # pyright: ignore[reportMissingImports]

project = "bon-theory"
author = "The bon-theory developers"
html_title = project
html_show_copyright = False
html_show_sourcelink = False

extensions = ["myst_parser"]
exclude_patterns = ["*.py", "__pycache__"]
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4  # links of the pages lead to headings, as on a forge
html_theme = "sphinx_book_theme"
html_theme_options = {"home_page_in_toc": True, "show_toc_level": 2, "use_download_button": False}
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]

FIGURES = Path(__file__).parents[1] / "build" / "repro" / "figures"


def as_myst(text: str) -> str:
    """Mathematics as MyST has it, and what lies outside the pages by name instead of by link."""
    text = re.sub(r"\$`([^`]+)`\$", r"$\1$", text)
    text = re.sub(r"^```math\n(.*?)^```", r"$$\n\1$$", text, flags=re.M | re.S)
    return re.sub(r"\[([^\]]+)\]\(\.\./[^)]+\)", r"\1", text)


def contents(index: str) -> str:
    """The lists of links of the first page, each as a part of the site's table of contents."""
    lists = re.split(r"^## ", index, flags=re.M)[1:]
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {part.splitlines()[0]}\n\n"
        + "\n".join(re.findall(r"^- \[[^\]]+\]\(([\w-]+)\.md\)", part, flags=re.M))
        + "\n```\n"
        for part in lists
    )


def with_pictures(gallery: str) -> str:
    """The gallery, each figure below its script as far as it has been made."""
    return re.sub(r"^.* Script: `figures/(\w+)\.py`\.$", _pictured, gallery, flags=re.M)


def _pictured(line: re.Match[str]) -> str:
    data = FIGURES / f"{line[1]}.json"
    if not data.exists():
        return line[0]
    caption = json.loads(data.read_text(encoding="utf-8"))["caption"]
    finding = caption.partition(". ")[0]
    picture = f"![{finding}](../build/repro/figures/{line[1]}.png)"
    return f"{line[0]}\n\n{picture}\n\n{caption}"


def _read(app: Any, page: str, source: list[str]) -> None:
    text = as_myst(source[0])
    if page == "index":
        text += contents(text)
    source[0] = with_pictures(text) if page == "gallery" else text


def _mathml(display: str) -> Any:
    """A visitor of formulas: browsers draw MathML by themselves, without a script."""

    def visit(writer: Any, node: Any) -> None:
        formula = node.astext()
        alternative = f'<math alttext="{escape(formula)}" '
        drawn = convert(formula, display=display).replace("<math ", alternative, 1)
        writer.body.append(f'<div class="math">{drawn}</div>' if display == "block" else drawn)
        raise SkipNode

    return visit


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _read)
    app.add_html_math_renderer("mathml", (_mathml("inline"), None), (_mathml("block"), None))
