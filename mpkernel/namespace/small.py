"""Values that travel as small pickles of their own, within items of the process's state: variables of modules, say."""

from __future__ import annotations

import mmap
import pickle
import types
from collections.abc import Hashable
from contextlib import suppress
from typing import Any

from mpkernel.namespace.graft import graft
from mpkernel.namespace.process_state import UNTOLD

MAX_BYTES = 64 << 10  # of a value

DEFINITIONS = (type, types.FunctionType, types.BuiltinFunctionType)
NUMBERS = (int, float, complex, bool)


class SmallValues:
    """By the place where they are. Not for two threads at once."""

    def __init__(self) -> None:
        self._refused: dict[Hashable, int] = {}  # by place, ids of values that can't be told
        # A file that takes no more, so that what is large isn't pickled to its end: no Python is run to write to it.
        self._file = mmap.mmap(-1, MAX_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def told(self, place: Hashable, value: Any) -> Any:
        """A value as it travels: as a pickle, but for numbers and text; UNTOLD if it can't, or is large.

        None for what each process has by itself.
        """
        kind = type(value)
        if issubclass(kind, DEFINITIONS):
            return value if getattr(value, "__module__", None) == "__main__" else None
        if kind in NUMBERS:
            return value
        if kind is str:
            return value if len(value) < MAX_BYTES else UNTOLD
        if kind is types.ModuleType:
            return None
        if self._refused.get(place) == id(value):
            return UNTOLD
        with suppress(Exception):
            self._file.seek(0)
            pickle.dump(value, self._file, 5)
            return self._file[: self._file.tell()]
        self._refused[place] = id(value)
        return UNTOLD


def received(old: Any, told: Any) -> Any:
    """What is to take the place of `old`, when this was told of it: the old object with another content, if it can."""
    return graft({"": old}, {"": pickle.loads(told)})[""] if type(told) is bytes else told
