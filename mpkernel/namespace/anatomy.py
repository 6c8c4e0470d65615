"""Which kind a class is: the parts of its instances, and whether these may be patched.

An instance is patched only if its pickle carries its whole state and makes a fresh object: its class has no
``__reduce__`` of its own (that is how singletons and registered objects are pickled: a patch would turn one
of them into another), nothing to hand to ``__new__``, and no memory that neither ``__dict__`` nor slots show.
"""

from __future__ import annotations

import array
import copyreg
import io
import random
import types
import weakref
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import Any

from mpkernel.namespace import behind, derived, plots, science, tracebacks
from mpkernel.namespace.atoms import ATOMS
from mpkernel.namespace.definitions import made_by_hand
from mpkernel.namespace.parts import (
    MODULE_NAMES,
    Attributes,
    Bytes,
    Elements,
    Entries,
    Items,
    Part,
    QueueItems,
    Slots,
    State,
    TupleItems,
    Value,
)


class Way(Enum):
    """What may be done with an instance."""

    ATOM = "nothing is in it that could be replaced"
    PATCH = "its content can be replaced"
    REBUILD = "another one can be made of other items"
    OPAQUE = "it can only be taken as it is"


def _always(*_: Any) -> bool:
    return True


def _no_links(_: Any) -> tuple[Any, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class Kind:
    """What the instances of a class are made of."""

    way: Way
    parts: tuple[Part, ...] = ()
    frozen: Part | None = None  # of what REBUILD makes another one,
    make: Callable[[Any, Any], Any] | None = None  # by (its like, content)
    fits: Callable[[Any, Any], bool] = _always  # whether the old one can get the new one's content
    links: Callable[[Any], tuple[Any, ...]] = _no_links  # what is in it for ever: the cells of a function
    by_value: bool = False  # its hash comes from its content
    atom: Callable[[Any], bool] | None = None  # whether this one is only a reference to something imported
    memory: Callable[[Any], science.Extent | None] | None = None
    same: Callable[[Any, Any], bool] | None = None  # of what is taken as a whole: how two of them are compared

    @property
    def all_parts(self) -> tuple[Part, ...]:
        """The frozen part first."""
        return self.parts if self.frozen is None else (self.frozen, *self.parts)


ATOM = Kind(Way.ATOM)
OPAQUE = Kind(Way.OPAQUE)


class Kinds:
    """The kinds of classes, each found out once."""

    def __init__(self) -> None:
        self._known: dict[type, Kind] = dict.fromkeys(ATOMS, ATOM)
        self._bases = _bases() | _extra_bases()
        self._plots = plots.base()
        self._plot = Kind(Way.OPAQUE, same=plots.Pictures().same)

    def of(self, cls: type) -> Kind:
        """The kind of `cls`."""
        kind = self._known.get(cls)
        if kind is None:
            try:
                kind = self._find(cls)
            except Exception:  # a metaclass may be anything
                kind = OPAQUE
            self._known[cls] = kind
        return kind

    def _find(self, cls: type) -> Kind:
        mro = _mro(cls)
        if type in mro or Enum in mro or any(base in mro for base in science.atom_bases()):
            return ATOM
        if self._plots in mro:
            return self._plot
        base = next((base for base in _solid_bases(cls) if base in self._bases), object)
        kind = self._bases[base]
        if cls is base and cls is not object:
            return kind
        if kind.way not in (Way.PATCH, Way.REBUILD) or not _is_fresh(cls, base, mro):
            return OPAQUE
        own = mro[: mro.index(base)]
        slots = [value for owner in own for value in _namespace(owner).values() if type(value) is _MEMBER]
        if not _shows_all(cls, base, len(slots)):
            return OPAQUE
        parts = kind.parts
        attributes = next((_namespace(owner)["__dict__"] for owner in mro if "__dict__" in _namespace(owner)), None)
        if attributes is not None and not any(isinstance(part, Attributes) for part in parts):
            if type(attributes) not in (_GETSET, _MEMBER):
                return OPAQUE
            parts = (*parts, Attributes(attributes))
        if slots:
            parts = (*parts, Slots(slots))
        return replace(kind, parts=parts, by_value=_hash_by_value(mro, base))


_MEMBER = types.MemberDescriptorType
_GETSET = types.GetSetDescriptorType


def _mro(cls: type) -> tuple[type, ...]:
    mro: tuple[type, ...] = type.__getattribute__(cls, "__mro__")
    return mro


def _namespace(cls: type) -> Any:
    return type.__getattribute__(cls, "__dict__")


def _solid_bases(cls: type) -> list[type]:
    """The classes whose memory layout `cls` extends, itself first."""
    bases: list[type] = []
    now: Any = cls
    while now is not None:
        bases.append(now)
        now = type.__getattribute__(now, "__base__")
    return bases


def _is_fresh(cls: type, base: type, mro: tuple[type, ...]) -> bool:
    trusted = (*_mro(base), Counter)
    for owner in mro:
        if owner in trusted:
            continue
        names = _namespace(owner)
        if "__reduce__" in names or "__reduce_ex__" in names:
            return False
        if base is not tuple and ("__getnewargs__" in names or "__getnewargs_ex__" in names):
            return False
    return cls not in copyreg.dispatch_table


def _shows_all(cls: type, base: type, slots: int) -> bool:
    """Whether an instance has no memory besides its base's, its slots, and one pointer each for dict and weakrefs."""
    size, room = type.__getattribute__, base.__basicsize__ + 8 * slots
    for offset in ("__dictoffset__", "__weakrefoffset__"):
        own = size(cls, offset)  # negative: before the object, or, if its size varies, behind it
        if (own > 0 or (own < 0 and size(cls, "__itemsize__"))) and not size(base, offset):
            room += 8
    return bool(size(cls, "__basicsize__") <= room)


def _hash_by_value(mro: tuple[type, ...], base: type) -> bool:
    owner = next(owner for owner in mro if "__hash__" in _namespace(owner))
    return owner not in _mro(base) and _namespace(owner)["__hash__"] not in (None, object.__hash__)


# --- built-in types ---------------------------------------------------------------------------------------------------


def _bases() -> dict[type, Kind]:
    def patch(*parts: Part, fits: Callable[[Any, Any], bool] = _always, **more: Any) -> Kind:
        return Kind(Way.PATCH, parts, fits=fits, **more)

    kinds = {
        object: patch(),
        list: patch(Items()),
        deque: patch(QueueItems(), fits=lambda old, new: old.maxlen == new.maxlen),
        dict: patch(Entries()),
        OrderedDict: patch(Entries(OrderedDict), _dict_of(OrderedDict)),
        defaultdict: patch(Entries(), Slots([vars(defaultdict)["default_factory"]])),
        Counter: patch(Entries(), _dict_of(Counter)),
        set: patch(Elements()),
        bytearray: patch(Bytes(bytearray, lambda obj, content: bytearray.__setitem__(obj, slice(None), content))),
        array.array: patch(
            Bytes(lambda obj: obj[:], lambda obj, content: array.array.__setitem__(obj, slice(None), content)),
            fits=lambda old, new: old.typecode == new.typecode,
        ),
        types.SimpleNamespace: patch(_dict_of(types.SimpleNamespace)),
        types.ModuleType: patch(MODULE_NAMES, atom=lambda module: not made_by_hand(module)),
        types.CellType: patch(Slots([vars(types.CellType)["cell_contents"]])),
        types.FunctionType: patch(
            Slots([vars(types.FunctionType)[name] for name in ("__defaults__", "__kwdefaults__")]),
            _dict_of(types.FunctionType),
            fits=_same_def,
            links=lambda function: tuple(behind.closure(function).values()),
            atom=_imported,
        ),
        partial: patch(_PartialItems()),
        io.StringIO: patch(_stream_state(io.StringIO)),
        io.BytesIO: patch(_stream_state(io.BytesIO)),
        random.Random: patch(State(random.Random.getstate, random.Random.setstate), _dict_of(random.Random)),
        random.SystemRandom: ATOM,
        tuple: Kind(Way.REBUILD, frozen=TupleItems(), make=_made_tuple),
        frozenset: Kind(
            Way.REBUILD, frozen=Elements(frozenset), make=lambda like, items: _made(frozenset, like, items)
        ),
        types.BuiltinMethodType: Kind(
            Way.REBUILD, frozen=_SelfItem(), make=_rebound, atom=lambda obj: type(obj.__self__) in ATOMS
        ),
        weakref.ref: Kind(Way.REBUILD, frozen=_Referent(), make=lambda _, items: weakref.ref(items[0])),
        weakref.ProxyType: _proxy_kind(),
        weakref.CallableProxyType: _proxy_kind(),
        types.MappingProxyType: Kind(
            Way.REBUILD, frozen=_BehindMapping(), make=lambda _, items: types.MappingProxyType(items[0])
        ),
        memoryview: Kind(Way.REBUILD, frozen=_BehindView(), make=_view_of_other),
        weakref.WeakSet: patch(_WeakElements()),
        weakref.WeakValueDictionary: patch(_WeakEntries()),
        weakref.WeakKeyDictionary: patch(_WeakEntries()),
        types.MethodType: Kind(Way.REBUILD, frozen=_MethodItems(), make=lambda _, items: types.MethodType(*items)),
    }
    values: dict[type, Kind] = {
        base: Kind(Way.REBUILD, frozen=Value(read), make=partial(_made_value, base)) for base, read in derived.values()
    }
    return kinds | values | dict.fromkeys(_exceptions(), _exception_kind())


def _extra_bases() -> dict[type, Kind]:
    """The kinds of classes in libraries, as far as these have been imported."""
    return {
        base.cls: Kind(Way.PATCH, base.parts, fits=base.fits, links=base.links or _no_links, memory=base.memory)
        for base in science.bases()
    }


def _proxy_kind() -> Kind:
    return Kind(Way.REBUILD, frozen=_BehindProxy(), make=lambda _, items: weakref.proxy(items[0]))


def _dict_of(cls: type) -> Attributes:
    return Attributes(next(_namespace(owner)["__dict__"] for owner in _mro(cls) if "__dict__" in _namespace(owner)))


def _stream_state(kind: Any) -> State:
    return State(kind.__getstate__, kind.__setstate__)


def _exceptions() -> list[type]:
    """The built-in exceptions that are made of nothing but arguments and attributes."""
    found: list[type] = [BaseException]
    for cls in found:
        below: list[type] = type.__subclasses__(cls)
        found += [
            sub
            for sub in below
            if sub.__module__ == "builtins" and sub.__basicsize__ == BaseException.__basicsize__ and sub not in found
        ]
    return found


def _exception_kind() -> Kind:
    names = vars(BaseException)
    fields = Slots([names[name] for name in ("args", "__cause__", "__context__", "__suppress_context__")])
    return Kind(Way.PATCH, (fields, State(tracebacks.of_error, tracebacks.put), _dict_of(BaseException)))


def _imported(function: Any) -> bool:
    return function.__module__ != "__main__" and "<locals>" not in function.__qualname__


def _same_def(old: Any, new: Any) -> bool:
    same = old.__code__ == new.__code__ and old.__qualname__ == new.__qualname__
    return same and old.__globals__ is new.__globals__


def _made(base: Any, like: Any, items: list[Any]) -> Any:
    return base(items) if type(like) is base else base.__new__(type(like), items)


def _made_tuple(like: Any, items: list[Any]) -> Any:
    return _made(tuple, like, items)


def _made_value(base: Any, like: Any, items: list[Any]) -> Any:
    return base.__new__(type(like), *items)


class _PartialItems(Items):
    """Function, arguments, keywords and attributes of a `partial`."""

    def read(self, obj: Any) -> list[Any]:
        return list(partial.__reduce__(obj)[2])

    def write(self, obj: Any, content: list[Any]) -> None:
        partial.__setstate__(obj, tuple(content))  # type: ignore[attr-defined]


def _rebound(like: Any, items: list[Any]) -> Any:
    for owner in _mro(type(items[0])):
        found = _namespace(owner).get(like.__name__)
        if type(found) is types.MethodDescriptorType:
            return found.__get__(items[0])
    raise TypeError(f"no built-in method {like.__name__}")


class _Referent(TupleItems):
    """What a weak reference is to."""

    def read(self, obj: Any) -> list[Any]:
        return [obj()]


class _BehindProxy(TupleItems):
    """What a weak proxy is to, if that is still there."""

    def read(self, obj: Any) -> list[Any]:
        found = behind.proxy(obj)
        return [] if found is None else [found]


class _BehindMapping(TupleItems):
    """What a mapping proxy shows, unless that is a class's own."""

    def read(self, obj: Any) -> list[Any]:
        found = behind.mapping(obj)
        return [] if found is None else [found]


class _BehindView(TupleItems):
    """What a plain memoryview is of."""

    def read(self, obj: Any) -> list[Any]:
        return [] if behind.place_of(obj) is None else [obj.obj]


def _view_of_other(like: Any, items: list[Any]) -> memoryview:
    place = behind.place_of(like)
    assert place is not None
    return behind.view_of(items[0], *place)


class _WeakEntries(Entries):
    """What is in a dictionary of weak references."""

    def read(self, obj: Any) -> dict[Any, Any]:
        return dict(obj.items())

    def write(self, obj: Any, content: dict[Any, Any]) -> None:
        obj.clear()
        obj.update(content)


class _WeakElements(Elements):
    """What is in a set of weak references."""

    def read(self, obj: Any) -> list[Any]:
        return list(obj)

    def write(self, obj: Any, content: list[Any]) -> None:
        obj.clear()
        obj.update(content)


class _SelfItem(TupleItems):
    """The object of a built-in method."""

    def read(self, obj: Any) -> list[Any]:
        return [obj.__self__]


class _MethodItems(TupleItems):
    """The function and the object of a bound method."""

    def read(self, obj: Any) -> list[Any]:
        return [obj.__func__, obj.__self__]
