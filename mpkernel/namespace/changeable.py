"""Which objects can be changed in place."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import pathlib
import re
import sys
import types
import typing
import uuid
import weakref
from collections.abc import Iterator
from typing import Any

from mpkernel.namespace import lazy_imports, type_params
from mpkernel.namespace.anatomy import Kind, Kinds, Way
from mpkernel.namespace.atoms import ATOMS
from mpkernel.namespace.stubs import Stub

# They share nothing that could be changed; what a tuple holds is in the memo by itself.
_UNCHANGING: tuple[type, ...] = (
    *(int, float, complex, str, bytes, type(None), type(Ellipsis), range, slice, tuple, frozenset, type, Stub),
    *(types.FunctionType, types.BuiltinFunctionType, types.ModuleType, types.CodeType, types.MethodType),
    *(enum.Enum, re.Pattern, datetime.date, datetime.time, datetime.timedelta, datetime.tzinfo),
    *(decimal.Decimal, fractions.Fraction, pathlib.PurePath, uuid.UUID),
    *(*lazy_imports.KINDS, *type_params.KINDS, types.GenericAlias, types.UnionType),
    *(typing.NewType, type(typing.ClassVar), type(typing.Callable[[], Any])),
)
# Tuples within tuples are looked into so deep.
_DEPTH = 3

_OF_LIBRARIES = (
    ("numpy", "dtype"),
    ("numpy", "generic"),
    ("pandas.core.dtypes.base", "ExtensionDtype"),
    ("pandas", "Index"),  # all that is computed from a table may have its very index
)


def _of_libraries() -> Iterator[type]:
    for module, name in _OF_LIBRARIES:
        if isinstance(kind := getattr(sys.modules.get(module), name, None), type):
            yield kind


class Changeable:
    """Tells what can be changed in place, for one namespace."""

    def __init__(self) -> None:
        self._mutable: dict[type, bool] = {}
        self._kinds: dict[type, Kind] = {}
        self._ways: weakref.WeakKeyDictionary[type, Way] = weakref.WeakKeyDictionary()  # of the notebook's own classes

    def is_mutable(self, kind: type) -> bool:
        """Whether instances of `kind` may change: names that share one belong together."""
        known = self._mutable.get(kind)
        if known is None:
            bound = hasattr(kind, "__get__") and "__call__" in dir(kind)
            known = not bound and not issubclass(kind, (*_UNCHANGING, *_of_libraries()))
            known = known or kind.__module__ == "__main__"
            if kind.__module__ != "__main__":  # the notebook's own classes may go away
                self._mutable[kind] = known
        return known

    def is_content(self, value: Any, depth: int = _DEPTH) -> bool:
        """Whether something that a definition holds can be changed in place, or refers to what can."""
        kind = type(value)
        if kind in ATOMS or kind is object or issubclass(kind, (type, types.FunctionType)):
            return False
        way = self._way(kind)
        if way is Way.PATCH:
            return self.is_mutable(kind) and (kind.__module__ == "__main__" or not hasattr(kind, "__get__"))
        if way is Way.REBUILD and depth:
            part = self._kind(kind).frozen
            assert part is not None
            return any(self.is_content(child, depth - 1) for child in part.children(part.read(value)))
        return False

    def _way(self, kind: type) -> Way:
        if kind.__module__ != "__main__":
            return self._kind(kind).way
        if (known := self._ways.get(kind)) is None:
            known = self._ways[kind] = self._kind(kind).way
        return known

    def _kind(self, kind: type) -> Kind:
        if (known := self._kinds.get(kind)) is None:
            known = Kinds().of(kind)  # anew: libraries that have been imported since add theirs
            if kind.__module__ != "__main__":
                self._kinds[kind] = known
        return known
