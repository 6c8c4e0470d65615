"""What a class leaves out of the state that is pickled of its instances: each process goes on with what it has."""

from __future__ import annotations

import copyreg
from contextlib import suppress
from typing import Any

from mpkernel.namespace.parts import MISSING

NEWOBJ: Any = vars(copyreg)["__newobj__"]  # what makes an instance that has no ways of its own
_REDUCERS = ("__reduce__", "__reduce_ex__", "__new__", "__setstate__", "__getnewargs__", "__getnewargs_ex__")


def untold(obj: Any, was: dict[Any, Any], news: dict[Any, Any]) -> dict[Any, Any]:
    """Of the attributes that `obj` has had, those that stay although `news` came, in which they can't be.

    What can't be copied, as a file, and what isn't in `news` at all; what `__setstate__` has made anew isn't kept.
    """
    if not _tells(type(obj)):
        return {}
    told: Any = None
    with suppress(Exception):
        told = obj.__getstate__()
    if type(told) is tuple and len(told) == 2:
        told = told[0]
    if type(told) is not dict:
        return {}
    kept = {}
    for name, value in was.items():
        if name not in told:
            if name not in news or not _can_be_copied(value):
                kept[name] = value
        elif told[name] is not value and news.get(name, MISSING) is told[name] and not _can_be_copied(value):
            kept[name] = value
    return kept


def _tells(kind: Any) -> bool:
    """Whether the class says itself what the state of its instances is."""
    return kind.__getstate__ is not object.__getstate__


def _can_be_copied(value: Any) -> bool:
    try:
        value.__reduce_ex__(4)
    except Exception:
        return False
    return True


def whole_state(obj: Any) -> tuple[Any, ...] | None:
    """How to make an instance of which `__getstate__` fails, with all its attributes; None if that isn't enough.

    It may look for what only the process has in which `__init__` was run (``del state["file"]``).
    """
    kind: Any = type(obj)
    if not _tells(kind) or any(getattr(kind, name, None) is not getattr(object, name, None) for name in _REDUCERS):
        return None
    return NEWOBJ, (kind,), object.__getstate__(obj)
