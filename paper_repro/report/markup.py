"""Just enough HTML: text is escaped exactly once, on the way in."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import NewType

Markup = NewType("Markup", str)
"""HTML, as opposed to text."""


def escape(text: str) -> Markup:
    """Text as HTML.

    Example:
        >>> escape("n < 2 & λ")
        'n &lt; 2 &amp; λ'
    """
    return Markup(html.escape(text))


def join(parts: Iterable[str]) -> Markup:
    """One after the other."""
    return Markup("".join(parts))


def element(tag: str, content: str = "", **attributes: str) -> Markup:
    """An element; a trailing underscore of an attribute is dropped, an inner one is a hyphen.

    Example:
        >>> element("p", escape("a < b"), class_="note")
        '<p class="note">a &lt; b</p>'
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for name, value in attributes.items()
    )
    if tag == "img":
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{content}</{tag}>")


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], *, class_: str = "", numbers: int = 0
) -> Markup:
    """A table in a box that scrolls; cells are markup, the last `numbers` columns right-aligned."""
    first_number = len(heads) - numbers

    def cells(tag: str, row: Sequence[str]) -> Markup:
        return join(
            element(tag, cell, **({"class_": "number"} if i >= first_number else {}))
            for i, cell in enumerate(row)
        )

    head = element("thead", element("tr", cells("th", [escape(head) for head in heads])))
    body = element("tbody", join(element("tr", cells("td", row)) for row in rows))
    attributes = {"class_": class_} if class_ else {}
    return element("div", element("table", head + body, **attributes), class_="scroll")
