"""Text on a terminal: how wide it is, how to cut it, what of it must not get there, and numbers for people.

Cell code and subshell names come from user code. They may hold escape sequences, and a row must stay one line.
"""

from __future__ import annotations

import unicodedata

ELLIPSIS = "…"

# Cc: control characters, Cf: format characters (bidirectional overrides and the like), Cs: lone surrogates, Zl and Zp:
# separators that some terminals take as line ends.
_UNSAFE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = "\u200c\u200d"  # within emoji and Indic words: without width, without harm
_UNITS = "BKMGTPE"


def clean(text: str, *, keep: str = "") -> str:
    """`text` with every character that could move the cursor as its Python escape; a tab becomes a space.

    `keep` names characters that may stay, such as ``"\\n"`` in a stack dump.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_clean_character(character, keep) for character in text)


def _clean_character(character: str, keep: str) -> str:
    if character in keep or character in _JOINERS or unicodedata.category(character) not in _UNSAFE:
        return character
    return " " if character == "\t" else character.encode("unicode_escape").decode("ascii")


def width(text: str) -> int:
    """How many columns `text`, which must be `clean`, takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, columns: int) -> str:
    """`text` if it fits into `columns`, else its start and an ellipsis."""
    if width(text) <= columns:
        return text
    if columns <= 0:
        return ""
    used, end = 0, 0
    for end, character in enumerate(text):  # noqa: B007 - where the loop stops is what we want
        used += _character_width(character)
        if used > columns - 1:
            break
    return text[:end] + ELLIPSIS


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """`text` filled up with spaces to `columns`; with `right`, moved to the right edge."""
    space = " " * (columns - width(text))
    return space + text if right else text + space


def size(count: int | None) -> str:
    """A number of bytes in at most five characters: ``512B``, ``1.2M``, ``34G``; binary units."""
    if count is None:
        return ""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.1f}{_UNITS[unit]}" if unit and value < 9.95 else f"{value:.0f}{_UNITS[unit]}"


def duration(seconds: float | None) -> str:
    """A time span in at most five characters: ``0.3s``, ``12s``, ``5m``, ``3h``, ``2d``."""
    if seconds is None:
        return ""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f}s"
    for limit, unit, name in ((99.5, 1, "s"), (99.5 * 60, 60, "m"), (47.5 * 3600, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f}{name}"
    return f"{seconds / 86400:.0f}d"
