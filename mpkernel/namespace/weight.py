"""How dear a value is to pickle: a guess from its outside, in no time; and what may be spent on finding out."""

from __future__ import annotations

import collections
import itertools
import math
import time
from typing import Any

# Values above are not pickled before the reply of the cell that made them, but when somebody wants them (bytes).
HEAVY = 8 << 20

_FLAT = (int, float, bool, str, bytes, type(None), complex)
_CONTAINERS = (list, tuple, dict, set, frozenset, collections.deque, collections.OrderedDict, collections.defaultdict)
# What an element costs (bytes): an atom, and anything else.
_ATOM_COST, _OBJECT_COST = 8, 200
_STRING_COST = 20
# So many elements of a container are looked at.
_SAMPLE = 20


class TooDear(BaseException):
    """An allowance is used up. Nobody but who gave it catches this."""


class Allowance:
    """CPU time of this thread that may go into values that nobody waits for."""

    def __init__(self, seconds: float = math.inf) -> None:
        self._until = seconds if seconds == math.inf else time.thread_time() + seconds

    @property
    def left(self) -> float:
        """Seconds; not more than 0 if it is used up."""
        return self._until if self._until in (math.inf, -math.inf) else self._until - time.thread_time()

    def withdraw(self) -> None:
        """In any thread: there is something better to do."""
        self._until = -math.inf

    def check(self) -> None:
        """Raises TooDear."""
        if self.left <= 0:
            raise TooDear


UNLIMITED = Allowance()


def in_band(value: Any, depth: int = 2) -> int:
    """About how many bytes `value` has that pickle must walk; memory of arrays doesn't count."""
    kind = type(value)
    if kind in (str, bytes, bytearray):
        return len(value)
    if kind in _CONTAINERS:
        return _of_container(value, depth)
    library = kind.__module__.partition(".")[0]
    if library == "pandas" and hasattr(value, "memory_usage"):
        return _of_frame(value)
    if library == "polars" and hasattr(value, "estimated_size"):
        return int(value.estimated_size())  # it is pickled as one string of bytes
    return _of_instance(value, depth) if depth else 0


def _of_instance(value: Any, depth: int) -> int:
    try:
        attributes = object.__getattribute__(value, "__dict__")
        return _of_container(attributes, depth) if type(attributes) is dict else 0
    except Exception:  # it has none, or one of its own
        return 0


def _of_container(value: Any, depth: int) -> int:
    count = len(value)
    try:
        sample = list(itertools.islice(value.values() if isinstance(value, dict) else value, _SAMPLE))
    except RuntimeError:  # a thread changes it
        return 0
    if not sample:
        return 0
    flat = all(type(item) in _FLAT for item in sample)
    inner = sum(in_band(item, depth - 1) for item in sample) / len(sample) if depth else 0
    return int(count * max(_ATOM_COST if flat else _OBJECT_COST, inner))


def _of_frame(value: Any) -> int:
    """Only columns of objects are walked, of which those of strings cost little."""
    try:
        kinds = [str(kind) for kind in (value.dtypes if hasattr(value, "columns") else [value.dtype])]
        cost = _OBJECT_COST * kinds.count("object") + _STRING_COST * (kinds.count("str") + kinds.count("string"))
        return len(value) * cost
    except Exception:
        return 0
