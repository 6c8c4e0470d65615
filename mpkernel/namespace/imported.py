"""Which modules have been imported."""

from __future__ import annotations

import sys
import types
from itertools import islice


class Imported:
    """What `sys.modules` has got since one last asked. What was there before isn't touched: it is in shared memory."""

    def __init__(self) -> None:
        self._count = 0
        self._last: str | None = None  # imported of so many

    def new(self) -> list[tuple[str, types.ModuleType]]:
        """In the order in which they were imported. If some have been removed meanwhile, all."""
        modules = sys.modules
        count = len(modules)
        names = list(islice(reversed(modules), max(0, count - self._count) + 1))
        if names and names[-1] == self._last:
            names.pop()
        else:
            names = list(reversed(modules))
            count = len(names)
        if names:
            self._last = names[0]
        self._count = count
        return [(name, modules[name]) for name in reversed(names) if name in modules]
