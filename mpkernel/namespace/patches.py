"""What a notebook sets in libraries: attributes of their modules and classes (``pd.DataFrame.brief = brief``).

What libraries set by themselves isn't looked at. So it has to be in the notebook's code, in a statement or a function:
an assignment, ``setattr`` with the name as a literal, or one of the ways that libraries offer for it.

The kernel itself is made of libraries: ``signal.signal = None`` in one subshell would end every process of the kernel,
new ones included. So what a cell replaces in them stays in its process. What it adds to them doesn't.
"""

from __future__ import annotations

import dis
import logging
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from mpkernel.namespace.process_state import GONE, Facet, Items

log = logging.getLogger("mpkernel.namespace")

# Module, what in it ("" for the module itself, else names with dots), attribute.
Key = tuple[str, str, str]

_OPS = frozenset(dis.opmap[name] for name in ("STORE_ATTR", "DELETE_ATTR"))
_CALLS = frozenset(("setattr", "delattr"))
_REGISTERS = {
    "register_dataframe_accessor": ("pandas", "DataFrame"),
    "register_series_accessor": ("pandas", "Series"),
    "register_index_accessor": ("pandas", "Index"),
    "register_dataset_accessor": ("xarray", "Dataset"),
    "register_dataarray_accessor": ("xarray", "DataArray"),
    "register_dataframe_namespace": ("polars", "DataFrame"),
    "register_lazyframe_namespace": ("polars", "LazyFrame"),
    "register_series_namespace": ("polars", "Series"),
    "register_expr_namespace": ("polars", "Expr"),
}
_NOT_THESE = ("", "__main__", "__mp_main__", "builtins", "sys", "mpkernel", "IPython")
# Third-party modules that the kernel is made of.
_PARTS = frozenset(("cloudpickle", "comm", "traitlets", "xxhash", "zmq"))
# Of the standard library, what it can do without.
_NOT_PARTS = frozenset(("getpass", "random", "subprocess"))
# What is made to be replaced: the kernel does without it.
_HOOKS = frozenset(
    (
        ("time", "", "sleep"),
        ("time", "", "time"),
        ("json", "JSONEncoder", "default"),
        ("json.encoder", "JSONEncoder", "default"),
        ("json", "", "_default_encoder"),
        ("tempfile", "", "tempdir"),
        ("threading", "", "excepthook"),
        ("warnings", "", "formatwarning"),
        ("warnings", "", "showwarning"),
        ("ssl", "", "_create_default_https_context"),
    )
)
_PLAIN = (bool, int, float, complex, str, bytes, type(None))


class _Originals:
    """What there was before a cell set it: of this process's modules, whoever asks."""

    def __init__(self) -> None:
        self.known: dict[Key, Any] = {}
        self.now: dict[Key, Any] = {}  # what is there instead
        self._keys: dict[int, Key] = {}  # by id

    def keep(self, key: Key, value: Any) -> Any:
        """The first value that was given for `key`."""
        if value is not GONE:
            self._keys.setdefault(id(value), key)
        return self.known.setdefault(key, value)

    def key(self, value: Any) -> Key | None:
        key = self._keys.get(id(value))
        return key if key is not None and self.known[key] is value else None


_originals = _Originals()


def original_of(value: Any) -> Key | None:
    """Where a cell may have put something else in the place of `value`."""
    return _originals.key(value)


def stand_ins() -> list[Any]:
    """What cells have set: code of libraries may call it."""
    return list(_originals.now.values())


def original(module: str, qualname: str, name: str) -> Any:
    """The inverse. Raises AttributeError if there was nothing."""
    found = _originals.known.get((module, qualname, name), GONE)
    if found is GONE:
        __import__(module)
        return getattr(_found(module, qualname), name)
    return found


class Patches(Facet):
    """Each as a tuple of the value, an empty one if the attribute was deleted. `names` are the notebook's variables;
    `is_own` tells modules of which the variables are shared anyway."""

    name = "patches"

    def __init__(self, names: Mapping[str, Any], is_own: Callable[[types.ModuleType], bool]) -> None:
        self._names = names
        self._is_own = is_own
        self._early: Items = {}  # of libraries that this process hasn't imported yet
        self._parts = frozenset(name for name in sys.modules if _may_be_a_part(name))  # what the kernel is made of
        self._untold: set[Key] = set()  # what is replaced there

    def ran(self, code: types.CodeType) -> None:
        self.arrived()
        for each in _reached(code, self._names):
            for chain, name in _set_by(each):
                with suppress(Exception):  # what the names lead to computes the rest
                    self._watch(self._place(chain), name)
            for register in _REGISTERS.keys() & each.co_names:
                for text in each.co_consts:
                    if isinstance(text, str):
                        self._watch(_REGISTERS[register], text)

    def _watch(self, place: tuple[str, str] | None, name: str) -> None:
        if place is None or (target := _found(*place)) is None:
            return
        key = (*place, name)
        is_ours = place[0] in self._parts and key not in _HOOKS
        if is_ours and key not in _originals.known and hasattr(target, name):
            self._untold.add(key)
        _originals.keep(key, _value(target, name))

    def _place(self, chain: list[str]) -> tuple[str, str] | None:
        """Where others find what the names in `chain` lead to; None if it isn't in a library."""
        found, module, path = self._names.get(chain[0]), "", list[str]()
        for name in (*chain[1:], None):
            if isinstance(found, types.ModuleType):
                module, path = ("" if self._is_own(found) else found.__name__), []
            elif isinstance(found, type):
                module, path = found.__module__, [found.__qualname__]
            if module.partition(".")[0] in _NOT_THESE:
                return None
            if name is not None:
                found, path = getattr(found, name, None), [*path, name]
        place = module, ".".join(path)
        return place if _found(*place) is found else None

    def read(self) -> Items:
        found = dict(self._early)
        for key, before in list(_originals.known.items()):
            if (target := _found(*key[:2])) is None:
                continue
            now = _value(target, key[2])
            if now is GONE and not _has_own(target):
                continue
            if not _same(now, before):
                if key not in self._untold:
                    found[key] = () if now is GONE else (now,)
                _originals.now[key] = now
            else:
                _originals.now.pop(key, None)
        return found

    def differs(self, one: Any, other: Any) -> bool:
        if type(one) is not tuple or type(other) is not tuple or len(one) != len(other):
            return one is not other
        return not all(map(_same, one, other))

    def write(self, items: Items) -> None:
        for key, value in items.items():
            if (target := _found(*key[:2])) is None:
                self._early[key] = value
                continue
            self._early.pop(key, None)
            _, _, name = key
            before = _originals.keep(key, _value(target, name))
            if value is GONE:
                value = () if before is GONE else (before,)
            try:
                if value:
                    setattr(target, name, *value)
                    _originals.now[key] = value[0]
                elif _has_own(target) and name in vars(target):
                    delattr(target, name)
            except Exception:  # it may need what else has been set in the library, and will have come later
                log.debug("%s.%s.%s can't be set", *key, exc_info=True)
                self._early[key] = value

    def arrived(self) -> None:
        if early := {key: value for key, value in self._early.items() if _found(*key[:2]) is not None}:
            self.write(early)


def _may_be_a_part(module: str) -> bool:
    package = module.partition(".")[0]
    return (package in sys.stdlib_module_names and package not in _NOT_PARTS) or package in _PARTS


def _same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and type(one) in _PLAIN and one == other)


def _found(module: str, path: str) -> Any:
    """None if it isn't imported here."""
    found: Any = sys.modules.get(module)
    for name in path.split(".") if path else ():
        try:
            found = getattr(found, name)
        except Exception:
            return None
    return found


def _has_own(of: Any) -> bool:
    """Whether its attributes are what is written there."""
    return type(of) is types.ModuleType or isinstance(of, type)


def _value(of: Any, name: str) -> Any:
    """What is written there, not inherited; of other objects than modules and classes, if it is something plain."""
    if _has_own(of):
        return vars(of).get(name, GONE)
    try:
        value = getattr(of, name, GONE)
    except Exception:
        return GONE
    return value if type(value) in _PLAIN else GONE


def _reached(code: types.CodeType, names: Mapping[str, Any]) -> Iterator[types.CodeType]:
    """`code`, what is defined in it, and the notebook's functions that these name."""
    todo, seen = [code], set[int]()
    while todo:
        code = todo.pop()
        if id(code) in seen:
            continue
        seen.add(id(code))
        yield code
        todo += [const for const in code.co_consts if isinstance(const, types.CodeType)]
        todo += [value.__code__ for name in code.co_names if type(value := names.get(name)) is types.FunctionType]


def _set_by(code: types.CodeType) -> Iterator[tuple[list[str], str]]:
    """Attributes that `code` may set, each after the names that lead from a variable to what it is set on."""
    called = not _CALLS.isdisjoint(code.co_names)
    if not called and _OPS.isdisjoint(code.co_code[::2]):
        return
    chain: list[str] = []
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL"):
            chain = [instruction.argval]
        elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            chain = chain and [*chain, instruction.argval]
        elif instruction.opname not in ("EXTENDED_ARG", "CACHE"):
            name = instruction.argval
            sets = instruction.opcode in _OPS or (called and instruction.opname == "LOAD_CONST")
            if chain and sets and isinstance(name, str):
                yield chain, name
            chain = []
