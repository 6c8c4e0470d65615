"""Copies that go away here, while the object that they are of lives on elsewhere or ended elsewhere: no ``__del__``."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any

from mpkernel.namespace.holders import NOBODY_ELSE


class _Husk:
    """What such a copy is made to be."""


def retire(copies: list[Any]) -> None:
    """Let go of those of `copies` that nobody else refers to, without their ``__del__``. Empties the list."""
    while copies:
        copy = copies.pop()
        if sys.getrefcount(copy) == NOBODY_ELSE and _ends_loudly(type(copy)):
            with suppress(TypeError):  # its layout is another
                object.__setattr__(copy, "__class__", _Husk)


def _ends_loudly(kind: type) -> bool:
    return kind.__module__ == "__main__" and any("__del__" in vars(base) for base in kind.__mro__)
