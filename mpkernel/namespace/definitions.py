"""The functions and classes of a notebook: which of them this process has, by id and version.

A definition travels by reference. Its id is given by the process that first pickles it, and is the same everywhere. Its
version is a Lamport clock and the worker that made the change: the greater one is the newer one, in any process. To
see cheaply whether a definition changed, its *surface* is compared: the objects of which it consists, by identity.
Where one of these can be changed in place (a list as class attribute), only its pickle tells.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
import operator
import secrets
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

_abc: Any = importlib.import_module("_abc")  # CPython's own part of abc

Version = tuple[int, int]
NEVER: Version = (0, 0)

LruCache = type(functools.lru_cache(lambda: None))
_dispatcher: Any = functools.singledispatch(lambda _: None)
DISPATCHER: types.CodeType = _dispatcher.__code__
DISPATCHER_OWN = frozenset(("register", "dispatch", "registry", "_clear_cache", "__wrapped__"))

_ATOMS = frozenset(
    (
        *(int, float, complex, str, bytes, bool, type(None), type(Ellipsis), type(NotImplemented), range),
        *(types.ModuleType, types.BuiltinFunctionType, types.CodeType),
        *(types.WrapperDescriptorType, types.MethodDescriptorType),
    )
)
_SENTINELS = (
    type(dataclasses.MISSING),
    type(getattr(dataclasses, "_HAS_DEFAULT_FACTORY", None)),
    types.MappingProxyType,
)
# Python makes these by itself, or what they say is said elsewhere.
_NO_STATE = (types.MemberDescriptorType, types.GetSetDescriptorType)
UNTOLD = frozenset(
    (
        *("__dict__", "__weakref__", "_abc_impl", "__abstractmethods__", "__slotnames__"),
        # pydantic makes these anew; they hold the class and much else.
        *("__pydantic_serializer__", "__pydantic_validator__", "__pydantic_core_schema__", "__pydantic_complete__"),
        *("__pydantic_parent_namespace__", "__pydantic_setattr_handlers__", "__signature__"),
    )
)
# Made with the class, and changed by nobody.
_MADE_ONCE = frozenset(
    (
        *("__annotations__", "__dataclass_fields__", "__dataclass_params__", "__orig_bases__", "__parameters__"),
        *("__match_args__", "__static_attributes__", "__signature__", "__annotations_cache__", "__annotate_func__"),
        *("_member_map_", "_value2member_map_", "_member_names_", "_unhashable_values_", "_hashable_values_"),
        *("_unhashable_values_map_", "__protocol_attrs__", "__non_callable_proto_members__"),
    )
)


@dataclass(slots=True, eq=False)
class Definition:
    """One function or class that this process has."""

    id: str
    ref: Callable[[], Any]
    version: Version = NEVER
    body: bytes | None = None  # None: never pickled here
    surface: list[Any] | None = None  # when last looked at; None: only the pickle tells
    baseline: bytes = b""  # what pickling it here gave
    needs: tuple[str, ...] = ()  # ids of the definitions that the body names
    cells: tuple[str, ...] = ()
    code: tuple[types.CodeType, Any] | None = None  # and its bytes
    checked: int = 0  # the sweep in which it was last looked at


@dataclass(slots=True, eq=False)
class _Cell:
    id: str
    owners: dict[str, tuple[Callable[[], Any], int]] = field(default_factory=dict)  # by id of the function


class Definitions:
    """All definitions that this process knows and still has."""

    def __init__(self, worker: int) -> None:
        self.worker = worker
        self.clock = 0
        self._numbers = itertools.count(1)
        self._origin = f"{worker}-{secrets.token_hex(4)}"  # what was saved by another kernel has other ids
        self._by_id: dict[str, Definition] = {}
        self._by_address: dict[int, Definition] = {}
        self._cells: dict[int, _Cell] = {}  # by address
        self._cell_addresses: dict[str, int] = {}
        # Functions that were made with a private dict of globals go on sharing it. There are few.
        self._globals: dict[str, dict[str, Any]] = {}
        self._globals_ids: dict[int, str] = {}

    def of(self, obj: Any) -> Definition:
        """The definition whose object is `obj`; one never seen before gets an id."""
        known = self._by_address.get(id(obj))
        return known if known is not None else self.add(obj, self._fresh_id())

    def get(self, def_id: str) -> Definition | None:
        """The definition of that id, if this process has it."""
        return self._by_id.get(def_id)

    def add(self, obj: Any, def_id: str) -> Definition:
        """Know `obj` by `def_id` from now on."""
        address = id(obj)

        def gone(_: Any) -> None:
            self._by_address.pop(address, None)
            if (lost := self._by_id.pop(def_id, None)) is not None:
                self._forget_cells(lost)

        # A bare `object()` knows no weak references; it costs next to nothing to keep.
        fresh = Definition(def_id, (lambda: obj) if type(obj) is object else weakref.ref(obj, gone))
        self._by_id[def_id] = self._by_address[address] = fresh
        return fresh

    def next_version(self) -> Version:
        """Newer than all that were seen."""
        self.clock += 1
        return (self.clock, self.worker)

    def saw(self, version: Version) -> None:
        """A version from elsewhere: ours will be newer."""
        self.clock = max(self.clock, version[0])

    def _fresh_id(self) -> str:
        return f"{self._origin}.{next(self._numbers)}"

    # --- cells of closures: they have no weak references, so they are known by the functions that have them ---------

    def cells_of(self, definition: Definition, function: types.FunctionType) -> tuple[str, ...]:
        """The ids of the cells of a function."""
        if not definition.cells:
            definition.cells = tuple(
                self._own_cell(cell, definition, index) for index, cell in enumerate(function.__closure__ or ())
            )
        return definition.cells

    def _own_cell(self, cell: types.CellType, definition: Definition, index: int, cell_id: str | None = None) -> str:
        known = self._cells.get(id(cell))
        if known is None:
            known = self._cells[id(cell)] = _Cell(cell_id or self._fresh_id())
            self._cell_addresses[known.id] = id(cell)
        known.owners[definition.id] = (definition.ref, index)
        return known.id

    def adopt_cells(self, definition: Definition, function: types.FunctionType, ids: tuple[str, ...]) -> None:
        """A function came from elsewhere, with cells of these ids."""
        pairs = zip(function.__closure__ or (), ids, strict=True)
        definition.cells = tuple(
            self._own_cell(cell, definition, index, cell_id) for index, (cell, cell_id) in enumerate(pairs)
        )

    def cell(self, cell_id: str) -> types.CellType | None:
        """The cell of that id, if a function here has it."""
        known = self._cells.get(self._cell_addresses.get(cell_id, 0))
        if known is not None:
            for ref, index in known.owners.values():
                if (function := ref()) is not None:
                    return function.__closure__[index]  # type: ignore[no-any-return]
        return None

    def _forget_cells(self, definition: Definition) -> None:
        for cell_id in definition.cells:
            address = self._cell_addresses.get(cell_id)
            if address is None:
                continue
            owners = self._cells[address].owners
            owners.pop(definition.id, None)
            if not owners:
                del self._cells[address], self._cell_addresses[cell_id]

    # --- private globals ----------------------------------------------------------------------------------------------

    def globals_id(self, names: dict[str, Any]) -> str:
        """The id of a dict that functions have as globals."""
        if (known := self._globals_ids.get(id(names))) is None:
            known = self._globals_ids[id(names)] = self._fresh_id()
            self._globals[known] = names
        return known

    def private_globals(self, globals_id: str) -> dict[str, Any]:
        """The dict of that id, empty if it is new here."""
        names = self._globals.setdefault(globals_id, {})
        self._globals_ids[id(names)] = globals_id
        return names

    # --- has it changed? ----------------------------------------------------------------------------------------------

    def surface(self, obj: Any) -> list[Any] | None:
        """What `obj` consists of, to be compared by identity; None if it has parts that change in place."""
        parts: list[Any] = []
        told = self._class_parts(obj, parts) if isinstance(obj, type) else self._parts_of_callable(obj, parts)
        return parts if told else None

    def _class_parts(self, cls: type, parts: list[Any]) -> bool:
        parts += (cls.__name__, cls.__qualname__, *(self.of(base) for base in cls.__bases__))
        if "_abc_impl" in vars(cls):
            parts.append(len(registered(cls)))
        members = vars(cls).get("_member_map_", ())  # an enum's own objects
        for name, value in tuple(vars(cls).items()):
            if name in UNTOLD or name in members:
                continue
            parts.append(name)
            if name not in _MADE_ONCE and not name.startswith("__pydantic_") and not self._part(value, parts):
                return False
        return True

    def _parts_of_callable(self, obj: Any, parts: list[Any]) -> bool:
        if isinstance(obj, types.FunctionType):
            if obj.__code__ is DISPATCHER:
                parts.append(len(obj.registry))  # type: ignore[attr-defined]
                return all(self._part(item, parts) for pair in obj.registry.items() for item in pair)  # type: ignore[attr-defined]
            parts += (obj.__code__, obj.__name__, obj.__qualname__, obj.__module__, obj.__doc__)
            told = self._part(obj.__defaults__, parts)
            if obj.__kwdefaults__:
                told = told and all(self._part(item, parts) for item in obj.__kwdefaults__.items())
        elif type(obj) is object:
            return True
        else:
            told = True
        return told and all(self._part(item, parts) for item in tuple(vars(obj).items()))

    def _closed(self, function: types.FunctionType, parts: list[Any]) -> bool:
        """Whether the contents of a closure can't change in place (the class, or what `dataclasses` put there)."""
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # it is empty
                content = None
            if isinstance(content, type) or (type(content) is types.FunctionType and content.__closure__ is None):
                parts.append(self.of(content))
            elif name == "repr_running":  # of `reprlib.recursive_repr`: empty but while it runs
                continue
            elif type(content) in _ATOMS or type(content) in _SENTINELS:
                parts.append(content)
            else:
                return False
        return True

    def _part(self, value: Any, parts: list[Any]) -> bool:
        kind = type(value)
        if kind in _ATOMS:
            parts.append(value)
        elif kind is types.FunctionType:
            parts.append(self.of(value))
            return value.__closure__ is None or self._closed(value, parts)
        elif isinstance(value, type) or kind is LruCache:
            parts.append(self.of(value))
        elif kind is property:
            parts.append(value.__doc__)
            return all(self._part(part, parts) for part in (value.fget, value.fset, value.fdel))
        elif kind is staticmethod or kind is classmethod:
            parts.append(kind)
            return self._part(value.__func__, parts)
        elif kind is functools.cached_property:
            return self._part(value.func, parts)
        elif kind in _SENTINELS:
            parts.append(value)
        elif kind is tuple:
            parts.append(len(value))
            return all(self._part(item, parts) for item in value)
        else:
            return kind in _NO_STATE
        return True


def same(one: list[Any] | None, other: list[Any] | None) -> bool:
    """Whether two surfaces consist of the same objects."""
    return one is not None and other is not None and len(one) == len(other) and all(map(operator.is_, one, other))


def registered(cls: Any) -> list[type]:
    """The classes that were registered with an abstract base class."""

    return [kind for ref in _abc._get_dump(cls)[0] if (kind := ref()) is not None]


def abc_init(cls: type) -> None:
    """What `abc.ABCMeta.__new__` does with a class that it has made."""
    _abc._abc_init(cls)


def importable(obj: Any) -> bool:
    """Whether another process gets a function or class by importing it."""
    module_name, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(name, str) or module_name == "__main__":
        return False
    found: Any = sys.modules.get(module_name)
    if found is None:
        return False
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except Exception:
        return False
    return found is obj


def walk(definitions: Definitions, roots: Iterable[str], refresh: Callable[[Definition], None]) -> Iterator[Definition]:
    """Definitions by id, with all that they need; each is brought up to date first."""
    todo, seen = list(roots), set()
    while todo:
        def_id = todo.pop()
        if def_id not in seen and (found := definitions.get(def_id)) is not None:
            seen.add(def_id)
            refresh(found)
            yield found
            todo.extend(found.needs)
