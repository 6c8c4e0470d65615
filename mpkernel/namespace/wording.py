"""Names and errors as they stand in a line for people."""

from __future__ import annotations

from collections.abc import Collection

_SHOWN = 5


def listed(names: Collection[str]) -> str:
    """The first of them."""
    return ", ".join(list(names)[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")


def told(error: BaseException) -> str:
    """Its type, and what it says."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
