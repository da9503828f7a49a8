# SPDX-License-Identifier: MIT
"""Text in columns of a terminal, where some letters are two columns wide and some none."""

from __future__ import annotations

import unicodedata


def width_of(text: str) -> int:
    """How many columns a terminal needs for a text.

    Example:

    >>> width_of("web"), width_of("\\u6771\\u4eac"), width_of("e\\u0301")
    (3, 4, 1)
    """
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(letter: str) -> int:
    if unicodedata.combining(letter) or unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def cut(text: str, width: int) -> str:
    """As much of a text as fits into so many columns."""
    if width_of(text) <= width:
        return text
    kept, used = "", 0
    for letter in text:
        used += _width(letter)
        if used > width:
            break
        kept += letter
    return kept


def left(text: str, width: int) -> str:
    """A text at the left of a column; longer ones stay as they are."""
    return text + " " * (width - width_of(text))


def right(text: str, width: int) -> str:
    """A text at the right of a column."""
    return " " * (width - width_of(text)) + text
