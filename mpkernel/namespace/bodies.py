"""What a definition consists of, and how to make it, or bring an existing one up to date, from that.

The *head* of a body is what the object needs to come into being; the *rest*, which may refer to the object itself, is
filled in afterwards, in a new object and in an old one alike. Where it holds content (see `definitions`), the body has
None, and an old object keeps what it has.
"""

from __future__ import annotations

import abc
import builtins
import enum
import functools
import linecache
import marshal
import os
import sys
import types
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from mpkernel.namespace import c_types, type_params
from mpkernel.namespace.caches import LruCache
from mpkernel.namespace.definitions import (
    DEFAULTS,
    DISPATCHER,
    DISPATCHER_OWN,
    MEMBERS_OWN,
    UNTOLD,
    Definition,
    Definitions,
    abc_init,
    made_by_hand,
    registered,
)
from mpkernel.namespace.parts import MISSING

_FUNCTION_PARTS = (
    "__name__",
    "__qualname__",
    "__module__",
    "__doc__",
    *DEFAULTS,
    *(("__type_params__",) if sys.version_info >= (3, 12) else ()),
)
_ENUM_OWN = frozenset(
    (
        *("_generate_next_value_", "_member_names_", "_member_map_", "_member_type_", "_value2member_map_"),
        *("_unhashable_values_", "_hashable_values_", "_unhashable_values_map_", "_new_member_", "__new__"),
    )
)
_HEAD = ("__module__", "__qualname__", "__slots__", "__orig_bases__", "__doc__")

Body = tuple[str, Any, Any]  # the kind, the head, the rest


class Place(NamedTuple):
    """In a definition: an attribute, or a member's; or, for a class, what was registered for that."""

    name: Any
    of: str = ""

    def __str__(self) -> str:
        if self.of == _REGISTERED:
            return f"registry[{getattr(self.name, '__name__', self.name)}]"
        return f"{self.of}.{self.name}" if self.of else str(self.name)


_REGISTERED = "<registered>"


def describe(obj: Any, namespace: dict[Any, Any], definitions: Definitions, contents: tuple[str, ...]) -> Body:
    """The body of a definition, which holds content in these attributes."""
    if isinstance(obj, type):
        return _describe_enum(obj, contents) if isinstance(obj, enum.EnumMeta) else _describe_class(obj, contents)
    if isinstance(obj, LruCache):
        parameters = obj.cache_parameters()
        own = _own(obj)
        return "cache", (obj.__wrapped__, parameters["maxsize"], parameters["typed"]), (_blank(own, contents), contents)
    if type(obj) is object:
        return "object", None, None
    if type(obj) in type_params.KINDS:
        return "typing", *type_params.describe(obj)
    if obj.__code__ is DISPATCHER:
        return "dispatcher", obj.registry[object], (_parts(obj), _own(obj), dict(obj.registry))
    names, used = _globals(obj, namespace, definitions)
    head = (_code(definitions.of(obj), obj.__code__), obj.__code__.co_freevars != (), names)
    parts, own = _blank(_parts(obj), contents), _blank(vars(obj), contents)
    return "function", head, (parts, own, source(obj.__code__.co_filename), contents, used)


def _own(obj: Any) -> dict[str, Any]:
    """Attributes of a function or the like that aren't those with which it was made."""
    if isinstance(obj, LruCache):
        left_out: Collection[str] = ("__wrapped__", "cache_parameters")
    else:
        left_out = DISPATCHER_OWN if obj.__code__ is DISPATCHER else ()
    return {name: value for name, value in vars(obj).items() if name not in left_out}


def _blank(named: dict[str, Any], contents: tuple[str, ...]) -> dict[str, Any]:
    return {name: None if name in contents else value for name, value in named.items()}


def _parts(function: Any) -> dict[str, Any]:
    """To ask a function for its annotations may be to evaluate them, which may fail as yet (since Python 3.14)."""
    annotations = "__annotations__" if getattr(function, "__annotate__", None) is None else "__annotate__"
    return {name: getattr(function, name) for name in (*_FUNCTION_PARTS, annotations)}


def _code(definition: Definition, code: types.CodeType) -> Any:
    """The bytes of `code`, made once: they depend on who else has its constants."""
    if definition.code is None or definition.code[0] is not code:
        try:
            definition.code = (code, marshal.dumps(code))
        except ValueError:  # something put other objects among its constants
            definition.code = (code, code)
    return definition.code[1]


def _globals(function: types.FunctionType, namespace: dict[Any, Any], definitions: Definitions) -> tuple[Any, Any]:
    """What a function has as globals: the receiver's namespace (None), a module's (its name), or a private dict (by
    id), of which it uses these names."""
    names = function.__globals__
    if names is namespace or names is vars(sys.modules["__main__"]):
        return None, {}
    module = names.get("__name__")
    owner = sys.modules.get(module) if isinstance(module, str) and module != "__main__" else None
    if getattr(owner, "__dict__", None) is names and not made_by_hand(owner):
        return module, {}
    used = {name: names[name] for name in (*sorted(names_in(function.__code__)), "__name__") if name in names}
    if "__file__" in names and all(namespace.get(name, names) is value for name, value in used.items()):
        return None, {}  # a script that was %run: what it defines are the notebook's variables
    if names.get("__builtins__", True) == {}:  # as namedtuple wants it
        used["__builtins__"] = {}
    return (definitions.globals_id(names),), used


def names_in(code: types.CodeType) -> set[str]:
    """Names of variables and attributes in `code`, and in that of functions within it."""
    names = set(code.co_names)
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            names |= names_in(const)
    return names


def source(filename: str) -> Any:
    """The text of the cell, for tracebacks and `inspect`; None for a real file."""
    entry = linecache.cache.get(filename)
    if entry is None or len(entry) != 4 or (entry[1] is not None and os.path.exists(filename)):
        return None
    return filename, entry[2]


def attributes(cls: Any) -> dict[str, Any]:
    """Those of a class that can be set when it has been made."""
    slots = vars(cls).get("__slots__", ())
    left_out = UNTOLD | {_mangled(cls, name) for name in ((slots,) if isinstance(slots, str) else slots)}
    if c_types.is_c_type(cls):
        left_out |= {name for name, value in vars(cls).items() if name in c_types.LAYOUT or c_types.is_field(value)}
    return {name: value for name, value in vars(cls).items() if name not in left_out and name not in _HEAD}


def know_source(filename: str, lines: list[str]) -> None:
    """The text of a cell of another subshell."""
    if filename not in linecache.cache:
        # As IPython does it: no time of change, so `checkcache` keeps it.
        linecache.cache[filename] = (sum(map(len, lines)), None, lines, filename)


def _describe_class(cls: Any, contents: tuple[str, ...]) -> Body:
    named = vars(cls)
    heads = (*_HEAD, *c_types.LAYOUT) if c_types.is_c_type(cls) else _HEAD
    own = {name: named[name] for name in heads if name in named}
    own["__qualname__"] = cls.__qualname__
    if "__slots__" in own and not isinstance(own["__slots__"], (str, tuple)):
        own["__slots__"] = tuple(own["__slots__"])
    rest = attributes(cls)
    if "__abstractmethods__" in named:
        rest["__abstractmethods__"] = named["__abstractmethods__"]
    registry = registered(cls) if isinstance(cls, abc.ABCMeta) else []
    return "class", (type(cls), cls.__name__, cls.__bases__, own), (_blank(rest, contents), registry, contents)


def _mangled(cls: type, name: str) -> str:
    if name.startswith("__") and not name.endswith("__"):
        return f"_{cls.__name__.lstrip('_')}{name}"
    return name


def _describe_enum(cls: Any, contents: tuple[str, ...]) -> Body:
    members = {name: member._value_ for name, member in cls._member_map_.items()}
    states = {name: _member_state(member) for name, member in cls._member_map_.items()}
    left_out = UNTOLD | _ENUM_OWN | set(members) | set(_HEAD)
    rest = {name: value for name, value in vars(cls).items() if name not in left_out}
    own = {name: vars(cls)[name] for name in ("__module__", "__doc__") if name in vars(cls)}
    own["__qualname__"] = cls.__qualname__
    return "enum", (type(cls), cls.__name__, cls.__bases__, own, members), (_blank(rest, contents), states, contents)


def _member_state(member: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(member).items() if name not in MEMBERS_OWN}


# --- what may be changed by itself -----------------------------------------------------------------------------------


def has_places(obj: Any) -> bool:
    """Whether `places_of` can take it."""
    return isinstance(obj, (type, types.FunctionType, LruCache))


def places_of(obj: Any) -> dict[Place, Any]:
    """What is in a definition that is here."""
    if isinstance(obj, enum.EnumMeta):
        return places(*_describe_enum(obj, ()))[0]
    if isinstance(obj, type):
        return places(*_describe_class(obj, ()))[0]
    if isinstance(obj, LruCache):
        return _named(_own(obj))
    registry = dict(obj.registry) if obj.__code__ is DISPATCHER else {}
    return _named({**_parts(obj), **_own(obj)}) | _registered(registry) | _code_place(obj.__code__)


def places(kind: str, head: Any, rest: Any) -> tuple[dict[Place, Any], tuple[str, ...]]:
    """The same of a body; and its names that hold content. Of the head, only that of a function is needed."""
    if kind == "class":
        return _named(rest[0]) | _registered(dict.fromkeys(rest[1])), rest[2]
    if kind == "enum":
        states = {Place(name, of): value for of, state in rest[1].items() for name, value in state.items()}
        return _named(rest[0]) | states, rest[2]
    if kind == "cache":
        return _named(rest[0]), rest[1]
    if kind == "dispatcher":
        return _named({**rest[0], **rest[1]}) | _registered(rest[2]) | _code_place(DISPATCHER), ()
    code = marshal.loads(head[0]) if isinstance(head[0], bytes) else head[0]
    return _named({**rest[0], **rest[1]}) | _code_place(code), rest[3]


def _named(named: dict[str, Any]) -> dict[Place, Any]:
    return {Place(name): value for name, value in named.items()}


def _registered(registry: dict[Any, Any]) -> dict[Place, Any]:
    return {Place(cls, _REGISTERED): value for cls, value in registry.items()}


def _code_place(code: types.CodeType) -> dict[Place, Any]:
    return {Place("__code__"): code}


def put(obj: Any, place: Place, value: Any) -> None:
    """Have that there; or nothing, if it is MISSING. What was registered stays."""
    if place.of == _REGISTERED:
        if value is not MISSING:
            obj.register(place.name, *(() if isinstance(obj, type) else (value,)))
        return
    if place.of:
        state = vars(obj._member_map_[place.of])
        _replace(state, {name: its for name, its in (state | {place.name: value}).items() if its is not MISSING})
        return
    of_class = isinstance(obj, type)
    if value is MISSING:
        (type.__delattr__ if of_class else delattr)(obj, place.name)
    else:
        (type.__setattr__ if of_class else setattr)(obj, place.name, value)


# --- the other way ---------------------------------------------------------------------------------------------------


def make(
    kind: str,
    head: Any,
    cells: Any,
    namespace: dict[Any, Any],
    definitions: Definitions,
    import_module: Callable[[str], types.ModuleType],
) -> Any:
    """A new object that has but its head. Raises whatever `import_module` raises."""
    if kind == "class":
        return _make_class(*head)
    if kind == "enum":
        return _make_enum(*head)
    if kind == "cache":
        function, maxsize, typed = head
        return functools.lru_cache(maxsize, typed)(function)
    if kind == "object":
        return object()
    if kind == "typing":
        return type_params.make(*head)
    if kind == "dispatcher":
        return functools.singledispatch(head)
    code, has_cells, names = head
    code = marshal.loads(code) if isinstance(code, bytes) else code
    if names is None:
        its_globals = namespace
    else:
        its_globals = vars(import_module(names)) if isinstance(names, str) else definitions.private_globals(*names)
    closure = tuple(cells or (types.CellType() for _ in code.co_freevars)) if has_cells else None
    return types.FunctionType(code, its_globals, None, None, closure)


def _make_class(meta: Any, name: str, bases: tuple[type, ...], own: dict[str, Any]) -> type:
    """A class without the side effects of a class statement: no ``__init_subclass__``, no code of a metaclass."""
    if any(kind.__module__ == "_ctypes" for kind in meta.__mro__):
        return meta(name, bases, dict(own))  # type: ignore[no-any-return]
    with _quiet(bases):
        cls: type = type.__new__(meta, name, bases, dict(own))
    if isinstance(cls, abc.ABCMeta):
        abc_init(cls)
    return cls


@contextmanager
def _quiet(bases: tuple[type, ...]) -> Iterator[None]:
    """What `bases` do when they are inherited from was done where the class was defined.

    For this moment: bases can't be exchanged later if their layouts differ, and the look-up can't be intercepted.
    """
    hooked = [
        (base, hook)
        for base in {base for kind in bases for base in kind.__mro__}
        if isinstance(hook := vars(base).get("__init_subclass__"), classmethod)
    ]
    try:
        for base, _ in hooked:
            type.__setattr__(base, "__init_subclass__", classmethod(_nothing))
        yield
    finally:
        for base, hook in hooked:
            type.__setattr__(base, "__init_subclass__", hook)


def _nothing(_cls: type, /, **_: Any) -> None:
    """Stands in for an ``__init_subclass__``."""


def _make_enum(meta: Any, name: str, bases: tuple[type, ...], own: dict[str, Any], members: dict[str, Any]) -> type:
    fields = meta.__prepare__(name, bases)
    for key, value in (*own.items(), *members.items()):
        fields[key] = value
    return meta.__new__(meta, name, bases, fields)  # type: ignore[no-any-return]


def fill(obj: Any, kind: str, head: Any, rest: Any, *, old: bool) -> None:
    """Give an object, if `old` one that has been in use, all that its body says."""
    if kind == "class":
        _fill_class(obj, rest[0] | _kept(obj, rest[2]), keep=set(head[3]) if old else set(), own=head[3])
        for registered_class in rest[1]:
            obj.register(registered_class)
    elif kind == "enum":
        keep = set(vars(obj)) & (_ENUM_OWN | set(head[4]) | set(head[3]))
        _fill_class(obj, rest[0] | _kept(obj, rest[2]), keep=keep, own={})
        for name, state in rest[1].items():
            vars(obj._member_map_[name]).update(state)
    elif kind == "cache":
        kept = _kept(obj, ("cache_parameters", *rest[1]))
        _replace(vars(obj), {"__wrapped__": head[0], **rest[0], **kept})
    elif kind == "dispatcher":
        _set_parts(obj, rest[0])
        _replace(vars(obj), {**_kept(obj, DISPATCHER_OWN), **rest[1]})
        for registered_class, function in rest[2].items():
            obj.register(registered_class, function)
    elif kind == "typing":
        type_params.fill(obj, rest)
    elif kind == "function":
        if old:
            obj.__code__ = marshal.loads(head[0]) if isinstance(head[0], bytes) else head[0]
        _set_parts(obj, {name: value for name, value in rest[0].items() if not (old and name in rest[3])})
        _replace(vars(obj), rest[1] | _kept(obj, rest[3]))
        for name, value in rest[4].items():
            obj.__globals__.setdefault(name, value)
        obj.__globals__.setdefault("__builtins__", builtins)
        if rest[2] is not None:
            know_source(*rest[2])


def finish(obj: Any) -> None:
    """What can be done only when all definitions are there: pydantic compiles its validators."""
    if isinstance(obj, type) and "__pydantic_decorators__" in vars(obj):
        with suppress(Exception):  # pydantic tries again, and tells, when the class is used
            obj.model_rebuild(force=True, raise_errors=False)  # type: ignore[attr-defined]


def _kept(obj: Any, names: Any) -> dict[str, Any]:
    return {name: vars(obj)[name] for name in names if name in vars(obj)}


def _set_parts(function: Any, parts: dict[str, Any]) -> None:
    for name, value in parts.items():
        setattr(function, name, value)


def _replace(names: dict[str, Any], new: dict[str, Any]) -> None:
    for name in [name for name in names if name not in new]:
        del names[name]
    names.update(new)


def _fill_class(cls: Any, rest: dict[str, Any], *, keep: set[str], own: dict[str, Any]) -> None:
    made = (types.MemberDescriptorType, types.GetSetDescriptorType)
    put, remove = (setattr, delattr) if c_types.is_c_type(cls) else (type.__setattr__, type.__delattr__)
    for name, value in list(vars(cls).items()):
        if name in rest or name in own or name in keep or name in UNTOLD:
            continue
        if type(value) not in made and not c_types.is_field(value):
            with suppress(Exception):
                remove(cls, name)
    # On Python 3.13, setting anything deletes the line number.
    for name, value in sorted(rest.items(), key=lambda item: item[0] == "__firstlineno__"):
        if vars(cls).get(name, cls) is not value:
            put(cls, name, value)
    if "__pydantic_decorators__" in rest:
        type.__setattr__(cls, "__pydantic_setattr_handlers__", {})
        type.__setattr__(cls, "__pydantic_parent_namespace__", None)
    if own.get("__doc__") is not None and vars(cls).get("__doc__") != own["__doc__"]:
        type.__setattr__(cls, "__doc__", own["__doc__"])
