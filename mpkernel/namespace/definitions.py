"""The functions and classes of a notebook: which of them this process has, by id and version.

A definition travels by reference. Its id is given by the process that first pickles it, and is the same everywhere. Its
version is a Lamport clock and the worker that made the change: the greater one is the newer one, in any process. To
see cheaply whether a definition changed, its *surface* is compared: the objects of which it consists, by identity.

What a definition holds that can be changed in place - a list as class attribute, default argument, attribute of a
function or in the closure of a method - is its *content*, which isn't part of it. It goes with the values that need the
definition, in the same pickle, so that what is one object with a variable, or a part of one, stays so. All values that
need a definition share its content, and so belong to one component.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import itertools
import operator
import os
import secrets
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mpkernel.namespace import c_types, type_params
from mpkernel.namespace.caches import Caches, LruCache

# What a function has as attributes, but not in its ``__dict__``, and may hold content.
DEFAULTS = ("__defaults__", "__kwdefaults__")
# What is in the cache of a function.
CACHED = "<cache>"

_abc: Any = importlib.import_module("_abc")  # CPython's own part of abc

Version = tuple[int, int]
NEVER: Version = (0, 0)

_dispatcher: Any = functools.singledispatch(lambda _: None)
DISPATCHER: types.CodeType = _dispatcher.__code__
DISPATCHER_OWN = frozenset(("register", "dispatch", "registry", "_clear_cache", "__wrapped__"))

_ATOMS = frozenset(
    (
        *(int, float, complex, str, bytes, bool, type(None), type(Ellipsis), type(NotImplemented), range),
        *(types.ModuleType, types.BuiltinFunctionType, types.CodeType),
        *(types.WrapperDescriptorType, types.MethodDescriptorType),
        *type_params.KINDS,
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
        "__type_params__",
        *("__match_args__", "__static_attributes__", "__signature__", "__annotations_cache__", "__annotate_func__"),
        *("_member_map_", "_value2member_map_", "_member_names_", "_unhashable_values_", "_hashable_values_"),
        *("_unhashable_values_map_", "__protocol_attrs__", "__non_callable_proto_members__"),
        *("_field_defaults", "model_config"),  # of a NamedTuple, of pydantic
    )
)
# Of an enum's member, what the class has made.
MEMBERS_OWN = ("_value_", "_name_", "__objclass__", "_sort_order_")


@dataclass(slots=True, eq=False)
class Definition:
    """One function or class that this process has."""

    id: str
    ref: Callable[[], Any]
    version: Version = NEVER
    body: bytes | None = None  # None: never pickled here
    surface: list[Any] | None = None  # when last looked at; None: only the pickle tells
    contents: tuple[str, ...] = ()  # attributes that hold something which can be changed in place
    baseline: bytes = b""  # what pickling it here gave
    needs: tuple[str, ...] = ()  # ids of the definitions that the body names
    cells: tuple[str, ...] = ()
    code: tuple[types.CodeType, Any] | None = None  # and its bytes
    checked: int = 0  # the sweep in which it was last looked at


@dataclass(frozen=True, slots=True)
class ContentKey:
    """Where content is held: an attribute of a definition, or, if that has no name, the cell of a closure."""

    owner: str  # the id of the definition, or of the cell
    name: str
    shown: str = field(compare=False)  # to users

    def __str__(self) -> str:
        return self.shown


@dataclass(slots=True, eq=False)
class _Cell:
    id: str
    owners: dict[str, tuple[Callable[[], Any], int]] = field(default_factory=dict)  # by id of the function


class Definitions:
    """All definitions that this process knows and still has. `is_content` tells whether what one of them holds can be
    changed in place, `travels` whether all of it can be copied."""

    def __init__(self, worker: int, is_content: Callable[[Any], bool], travels: Callable[[Any], bool]) -> None:
        self.worker = worker
        self._is_content = is_content
        self._caches = Caches(worker, travels)
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
        self._modules: dict[str, types.ModuleType] = {}  # whose dicts they are, until a value brings the module itself

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

        # A bare `object()` or a type alias knows no weak references; it costs next to nothing to keep.
        kept = type(obj) in (object, type_params.ALIAS)
        fresh = Definition(def_id, (lambda: obj) if kept else weakref.ref(obj, gone))
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
            known = self._fresh_id()
            self._know_globals(known, names)
        return known

    def private_globals(self, globals_id: str) -> dict[str, Any]:
        """The dict of that id, empty if it is new here."""
        if globals_id not in self._globals:
            module = self._modules[globals_id] = types.ModuleType("")
            vars(module).clear()
            self._know_globals(globals_id, vars(module))
        return self._globals[globals_id]

    def module(self, globals_id: str) -> types.ModuleType:
        """A module to be filled: that of these globals, or, if it is in use already, another one."""
        if globals_id in self._globals:
            return self._modules.pop(globals_id, None) or types.ModuleType("")
        module = types.ModuleType("")
        self._know_globals(globals_id, vars(module))
        return module

    def _know_globals(self, globals_id: str, names: dict[str, Any]) -> None:
        self._globals[globals_id] = names
        self._globals_ids[id(names)] = globals_id

    # --- content ------------------------------------------------------------------------------------------------------

    def is_content(self, value: Any) -> bool:
        """Whether something that a definition holds can be changed in place."""
        return type(value) not in _SENTINELS and self._is_content(value)

    def key(self, owner: str, name: str) -> ContentKey:
        """The key of what is held there, with what users know it by."""
        if not name:
            cell = self._cells.get(self._cell_addresses.get(owner, 0))
            for ref, index in cell.owners.values() if cell is not None else ():
                if (function := ref()) is not None:
                    variable = function.__code__.co_freevars[index]
                    return ContentKey(owner, name, f"{function.__qualname__}.<closure>.{variable}")
        elif (holder := self._holder(owner)) is not None:
            return ContentKey(owner, name, f"{getattr(holder, '__qualname__', type(holder).__name__)}.{name}")
        return ContentKey(owner, name, name)

    def content(self, key: ContentKey) -> Any:
        """What is held there. Raises LookupError if that isn't here, or empty."""
        if key.name:
            holder = self._holder(key.owner)
            if holder is None:
                raise LookupError(key)
            if key.name == CACHED:
                return self._caches.content(holder)
            return getattr(holder, key.name) if key.name in DEFAULTS else vars(holder)[key.name]
        cell = self.cell(key.owner)
        try:
            return cell.cell_contents  # type: ignore[union-attr]
        except (AttributeError, ValueError):
            raise LookupError(key) from None

    def put(self, key: ContentKey, content: Any) -> None:
        """Have `content` held there, if that is here."""
        if not key.name:
            if (cell := self.cell(key.owner)) is not None:
                cell.cell_contents = content
        elif isinstance(holder := self._holder(key.owner), type):
            if vars(holder).get(key.name, holder) is not content:
                type.__setattr__(holder, key.name, content)
        elif holder is not None and key.name == CACHED:
            self._caches.put(holder, content)
        elif holder is not None:
            setattr(holder, key.name, content)

    def _holder(self, def_id: str) -> Any:
        known = self._by_id.get(def_id)
        return known.ref() if known is not None else None

    # --- has it changed? ----------------------------------------------------------------------------------------------

    def surface(self, obj: Any) -> tuple[list[Any] | None, tuple[str, ...]]:
        """What `obj` consists of, to be compared by identity; None if that doesn't tell. And its `contents`."""
        parts: list[Any] = []
        contents: list[str] = []
        if isinstance(obj, type):
            told = self._class_parts(obj, parts, contents)
        else:
            told = self._parts_of_callable(obj, parts, contents)
        return (parts if told else None), tuple(contents)

    def _class_parts(self, cls: type, parts: list[Any], contents: list[str]) -> bool:
        parts += (cls.__name__, cls.__qualname__, *(self.of(base) for base in cls.__bases__))
        if "_abc_impl" in vars(cls):
            parts.append(len(registered(cls)))
        members = vars(cls).get("_member_map_", ())  # an enum's own objects
        told, of_c = True, c_types.is_c_type(cls)
        for member in dict(members).values():
            for name, value in tuple(vars(member).items()):
                if name not in MEMBERS_OWN:
                    parts.append(name)
                    told &= self._part(value, parts)
        for name, value in tuple(vars(cls).items()):
            if name in UNTOLD or name in members:
                continue
            parts.append(name)
            if of_c and (name in c_types.LAYOUT or c_types.is_field(value)):
                continue
            if name not in _MADE_ONCE and not name.startswith("__pydantic_"):
                told &= self._attribute(name, value, parts, contents)
        return told

    def _parts_of_callable(self, obj: Any, parts: list[Any], contents: list[str]) -> bool:
        told = True
        if isinstance(obj, types.FunctionType):
            if obj.__code__ is DISPATCHER:
                parts.append(len(obj.registry))  # type: ignore[attr-defined]
                return all(self._part(item, parts) for pair in obj.registry.items() for item in pair)  # type: ignore[attr-defined]
            parts += (obj.__code__, obj.__name__, obj.__qualname__, obj.__module__, obj.__doc__)
            for name in DEFAULTS:
                told &= self._attribute(name, getattr(obj, name), parts, contents)
        elif type(obj) is object or type(obj) in type_params.KINDS:
            return True
        for name, value in tuple(vars(obj).items()):
            parts.append(name)
            told &= self._attribute(name, value, parts, contents)
        if isinstance(obj, LruCache) and self._caches.is_followed(obj):
            contents.append(CACHED)
        return told

    def _attribute(self, name: str, value: Any, parts: list[Any], contents: list[str]) -> bool:
        if name == "__kwdefaults__":
            value = tuple((value or {}).items())
        if (name in DEFAULTS or not _is_special(name)) and self.is_content(value):
            contents.append(name)
            return True
        return self._part(value, parts)

    def _closed(self, function: types.FunctionType, parts: list[Any]) -> bool:
        """Whether it can be told what is in a closure, beside content."""
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                content = cell.cell_contents
            except ValueError:  # it is empty
                content = None
            if isinstance(content, type) or (type(content) is types.FunctionType and content.__closure__ is None):
                parts.append(self.of(content))
            elif type(content) in _ATOMS or type(content) in _SENTINELS:
                parts.append(content)
            elif name != "repr_running" and not self.is_content(content):  # that is of `reprlib.recursive_repr`
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


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def same(one: list[Any] | None, other: list[Any] | None) -> bool:
    """Whether two surfaces consist of the same objects."""
    return one is not None and other is not None and len(one) == len(other) and all(map(operator.is_, one, other))


def registered(cls: Any) -> list[type]:
    """The classes that were registered with an abstract base class."""

    return [kind for ref in _abc._get_dump(cls)[0] if (kind := ref()) is not None]


def abc_init(cls: type) -> None:
    """What `abc.ABCMeta.__new__` does with a class that it has made."""
    _abc._abc_init(cls)


def made_by_hand(module: Any) -> bool:
    """Whether no other process can import a module: it isn't registered, or comes from nowhere."""
    names = vars(module)
    spec, name = names.get("__spec__"), names.get("__name__", "")
    if spec is not None:
        return sys.modules.get(spec.name) is not module
    if name == "__main__" or "__file__" in names:
        return False
    # Extension modules register such ones, too: pyexpat.errors, and those that Cython needs.
    return sys.modules.get(name) is not module or not ("." in name or name.startswith(("_", "cython")))


def is_installed(module: types.ModuleType) -> bool:
    """Whether it belongs to Python or an installed package, and isn't in a file of the user's."""
    file = getattr(module, "__file__", None)
    if not isinstance(file, str) or not file.endswith(".py") or module.__name__.partition(".")[0] == "mpkernel":
        return True
    file = real_path(file)
    libraries = (os.path.join(prefix, "lib") for prefix in (sys.prefix, sys.base_prefix))
    return any(map(file.startswith, libraries)) or "-packages" + os.sep in file


def real_path(file: str) -> str:
    """`os.path.realpath`, which asks the system about each folder on the way, for many files in few folders."""
    if not os.path.isabs(file) or os.path.islink(file):
        return os.path.realpath(file)
    folder, name = os.path.split(file)
    return os.path.join(_real_folder(folder), name)


@functools.lru_cache(maxsize=1024)
def _real_folder(folder: str) -> str:
    return os.path.realpath(folder)


def importable(obj: Any) -> bool:
    """Whether another process gets a function or class by importing it."""
    module_name, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    if not isinstance(module_name, str) or not isinstance(name, str) or module_name == "__main__":
        return False
    found: Any = sys.modules.get(module_name)
    if found is None and sys.modules.get(module_name.partition(".")[0]) is not None:  # np.recarray says numpy.rec
        with suppress(Exception):
            found = importlib.import_module(module_name)
    if found is None or (isinstance(found, types.ModuleType) and made_by_hand(found)):
        return False
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except Exception:
        return False
    return found is obj


def walk(
    definitions: Definitions, roots: Iterable[str], refresh: Callable[[Definition], None], seen: set[str]
) -> Iterator[Definition]:
    """Definitions by id, with all that they need, but those `seen` before; each is brought up to date first."""
    todo = list(roots)
    while todo:
        def_id = todo.pop()
        if def_id not in seen and (found := definitions.get(def_id)) is not None:
            seen.add(def_id)
            refresh(found)
            yield found
            todo.extend(found.needs)
