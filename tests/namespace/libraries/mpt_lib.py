"""A library that some subshells have imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

FIRST = 1


class Numbers(list[Any]):
    """A kind of list."""


def giver() -> Callable[[], int]:
    return lambda: FIRST
