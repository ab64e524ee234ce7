"""Text from files as text: no markup, no terminal escape, no formula."""

from __future__ import annotations

import unicodedata

__all__ = ["cell", "visible"]


def visible(text: str) -> str:
    r"""The text with everything that is no printable character escaped.

    Control characters move the cursor, recolour the screen or write to the clipboard of a terminal;
    format characters turn the direction of what follows.

    >>> visible("a\x1b[31mb\u202e")
    'a\\x1b[31mb\\u202e'
    """
    return "".join(
        c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else _escape(c)
        for c in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def cell(value: object) -> str:
    """A value for CSV: text that a spreadsheet would take for a formula is quoted.

    >>> cell("=1+1"), cell("plain"), cell(-0.1)
    ("'=1+1", 'plain', '-0.1')
    """
    if isinstance(value, str):
        text = visible(value)
        return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text
    return "" if value is None else repr(value)
