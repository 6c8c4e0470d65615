"""Instances of classes that aren't the notebook's: they travel as a whole, or not at all."""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from typing import Any

from mpkernel.namespace import words
from mpkernel.namespace.dumping import Dumper, Reduced
from mpkernel.namespace.stubs import Stub

_LOCKS = (_thread.LockType, _thread.RLock, threading.Condition, threading.Semaphore, threading.BoundedSemaphore)


def reduce_library(dumper: Dumper, obj: Any) -> Reduced:
    """An instance of an installed class. If it holds a lock or the like, all of it stays: half of it is of no use."""
    return _as_a_whole(dumper, obj, ())


def reduce_own(dumper: Dumper, obj: Any, way: Callable[[Any], Reduced] | None = None) -> Reduced:
    """An instance of a class in a file of the user's: a lock is made anew, as for classes of the notebook."""
    return _as_a_whole(dumper, obj, _LOCKS, way)


def _as_a_whole(
    dumper: Dumper, obj: Any, twins: tuple[type, ...], way: Callable[[Any], Reduced] | None = None
) -> Reduced:
    reduced = dumper.by_itself(obj, way)
    if type(reduced) is tuple and reduced[0] is not words.stub:
        parts = list(reduced[1])
        if len(reduced) > 2:
            states = reduced[2] if type(reduced[2]) is tuple else (reduced[2],)
            parts += [part for state in states if type(state) is dict for part in state.values()]
        for part in parts:
            if type(part) is Stub or (dumper.context.is_local(type(part)) and type(part) not in twins):
                return dumper.stub(obj, f"it holds a {type(part).__name__}")
    return reduced
