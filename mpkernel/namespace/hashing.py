"""Objects that are hashed by what they have: as keys and elements they are of use only once they have it.

But an object that refers to the set or dict in which it is (``self.group = {self}``) isn't complete when that is
filled. So it gets what can't lead back to it, numbers and texts, when it is made. Where the hash takes more than that,
it raises, and the loader fills sets and dicts in the end.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import pathlib
import sys
import types
import uuid
from collections.abc import Iterable
from typing import Any

from mpkernel.namespace.definitions import importable, is_installed

State = tuple[dict[str, Any], dict[str, Any]]  # what is in ``__dict__``, and in slots
_PLAIN = frozenset(
    (
        *(int, float, complex, str, bytes, bool, type(None), decimal.Decimal, fractions.Fraction, uuid.UUID),
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
        *(pathlib.PosixPath, pathlib.PurePosixPath, pathlib.PureWindowsPath),
    )
)
_CONTAINERS = frozenset((list, dict, set, tuple, frozenset))
# Tuples within tuples are looked into so deep.
_DEPTH = 3


def hashes_itself(kind: Any) -> bool:
    """Whether the hash of an instance comes from a method of the user's."""
    found = next(vars(base)["__hash__"] for base in kind.__mro__ if "__hash__" in vars(base))  # a mock's makes mocks
    if type(found) is not types.FunctionType:
        return False
    return not (importable(kind) and is_installed(sys.modules[kind.__module__]))


def known_at_once(obj: Any, told: Any) -> State | None:
    """What an object can get before the rest of its state, `told`; None if there is no such thing, or no need."""
    kind: Any = type(obj)
    state = told if kind.__getstate__ is object.__getstate__ else object.__getstate__(obj)
    named, slots = state if type(state) is tuple else (state, None)
    named, slots = named or {}, slots or {}
    if not any(map(_may_lead_back, named.values())) and not any(map(_may_lead_back, slots.values())):
        return None
    if told is not state and type(told) is dict:  # there may be less in it, or something else
        named, slots = ({name: v for name, v in part.items() if told.get(name, told) is v} for part in (named, slots))
    known = _plain_of(named), _plain_of(slots)
    return known if known[0] or known[1] else None


def _plain_of(state: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in state.items() if type(value) in _PLAIN or _is_plain(value)}


def _may_lead_back(value: Any) -> bool:
    """Whether objects may be in it, at a glance."""
    kind = type(value)
    if kind in _PLAIN:
        return False
    if kind in _CONTAINERS:
        return not (_are_plain(value) and (kind is not dict or _are_plain(value.values())))
    return True


def _are_plain(values: Iterable[Any]) -> bool:
    return _PLAIN.issuperset(map(type, values))


def _is_plain(value: Any, depth: int = _DEPTH) -> bool:
    kind = type(value)
    if kind is tuple or kind is frozenset:
        return depth > 0 and all(_is_plain(part, depth - 1) for part in value)
    return kind in _PLAIN or isinstance(kind, enum.EnumType)
