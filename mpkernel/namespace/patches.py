"""What a notebook sets in libraries: attributes of their modules and classes (``pd.DataFrame.brief = brief``).

It has to be in the notebook's code (`mpkernel.namespace.uses`): an assignment, ``setattr`` with the name as a literal,
or one of the ways that libraries offer for it.

The kernel itself is made of libraries: ``signal.signal = None`` in one subshell would end every process of the kernel,
new ones included. So what a cell replaces in them stays in its process. What it adds to them doesn't.
"""

from __future__ import annotations

import builtins
import logging
import sys
import types
from contextlib import suppress
from typing import Any

from mpkernel.namespace.process_state import GONE, Facet, Items
from mpkernel.namespace.uses import Place, Places, found_in, uses

log = logging.getLogger("mpkernel.namespace")

# Module, what in it ("" for the module itself, else names with dots), attribute.
Key = tuple[str, str, str]

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
_BUILTINS = dict(vars(builtins))  # as they are before a cell has run
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
    if type(value) is types.BuiltinFunctionType:
        name = value.__name__
        if _BUILTINS.get(name) is value:
            return builtins.__name__, "", name
    return _originals.key(value)


def stand_ins() -> list[Any]:
    """What cells have set: code of libraries may call it."""
    return list(_originals.now.values())


def original(module: str, qualname: str, name: str) -> Any:
    """The inverse. Raises AttributeError if there was nothing."""
    if module == builtins.__name__:
        return _BUILTINS[name]
    found = _originals.known.get((module, qualname, name), GONE)
    if found is GONE:
        __import__(module)
        return getattr(found_in(module, qualname), name)
    return found


class Patches(Facet):
    """Each as a tuple of the value, an empty one if the attribute was deleted."""

    name = "patches"

    def __init__(self, places: Places, parts: frozenset[str]) -> None:
        self._places = places
        self._parts = parts
        self._early: Items = {}  # of libraries that this process hasn't imported yet
        self._untold: set[Key] = set()  # what is replaced there

    def ran(self, code: types.CodeType) -> None:
        self.arrived()
        for each in self._places.reached(code):
            for chain, name in uses(each).sets:
                with suppress(Exception):  # what the names lead to computes the rest
                    self._watch(self._places.at(chain), name)
            for register in _REGISTERS.keys() & each.co_names:
                for text in each.co_consts:
                    if isinstance(text, str):
                        self._watch(_REGISTERS[register], text)

    def _watch(self, place: Place | None, name: str) -> None:
        if place is None or (target := found_in(*place)) is None:
            return
        key = (*place, name)
        is_ours = place[0] in self._parts and key not in _HOOKS
        if is_ours and key not in _originals.known and hasattr(target, name):
            self._untold.add(key)
        _originals.keep(key, _value(target, name))

    def read(self) -> Items:
        found = dict(self._early)
        for key, before in list(_originals.known.items()):
            if (target := found_in(*key[:2])) is None:
                continue
            now = _value(target, key[2])
            if now is GONE and not _has_own(target):
                continue
            if not same(now, before):
                if key not in self._untold:
                    found[key] = () if now is GONE else (now,)
                _originals.now[key] = now
            else:
                _originals.now.pop(key, None)
        return found

    def differs(self, one: Any, other: Any) -> bool:
        if type(one) is not tuple or type(other) is not tuple or len(one) != len(other):
            return one is not other
        return not all(map(same, one, other))

    def write(self, items: Items) -> None:
        for key, value in items.items():
            if (target := found_in(*key[:2])) is None:
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
        if early := {key: value for key, value in self._early.items() if found_in(*key[:2]) is not None}:
            self.write(early)


def parts_of_the_kernel() -> frozenset[str]:
    """Modules that the kernel is made of, asked before the notebook has imported any."""
    return frozenset(name for name in sys.modules if _may_be_a_part(name))


def _may_be_a_part(module: str) -> bool:
    package = module.partition(".")[0]
    return (package in sys.stdlib_module_names and package not in _NOT_PARTS) or package in _PARTS


def same(one: Any, other: Any) -> bool:
    """Whether two values are one, or plain and equal."""
    return one is other or (type(one) is type(other) and type(one) in _PLAIN and one == other)


def _has_own(of: Any) -> bool:
    """Whether its attributes are what is written there."""
    return issubclass(type(of), (types.ModuleType, type))


def _value(of: Any, name: str) -> Any:
    """What is written there, not inherited; of other objects than modules and classes, if it is something plain."""
    if _has_own(of):
        return vars(of).get(name, GONE)
    try:
        value = getattr(of, name, GONE)
    except Exception:
        return GONE
    return value if type(value) in _PLAIN else GONE
