"""Whether two objects of different pickles say the same, without asking their ``__eq__``."""

from __future__ import annotations

import functools
import io
import itertools
import marshal
import pickle
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import cloudpickle
import xxhash

from mpkernel.namespace import science
from mpkernel.namespace.anatomy import Kinds, Way
from mpkernel.namespace.atoms import ATOMS, plain
from mpkernel.namespace.parts import Bytes, Elements, Entries, Items, Named, Part

Dumps = Callable[[Any], bytes]
# How many objects are compared to find out what belongs together; it need not be exact.
GLANCE = 30
# So many glances are had at all, lest they take longer than what they are for: all is alike after that.
GLANCES = 10_000
# What has more bytes is compared with what is in its place only.
MARKED = 1 << 16
# Atoms whose equality is of C, and exact once the types are the same.
_EXACT = frozenset((int, str, bytes, bool, type(None)))
_PLAIN_CONTAINERS = frozenset((list, dict, tuple, set, frozenset, bytearray))


def default_dumps(value: Any) -> bytes:
    """The pickle of a leaf."""
    return _dumped(value, _Pickler)


def same(a: Any, b: Any, dumps: Dumps = default_dumps, kinds: Kinds | None = None) -> bool:
    """Whether `a` and `b` have the same structure and content.

    The order of a dict and which objects are aliases doesn't count. Leaves of unknown kinds are compared by `dumps`.
    """
    return _Comparison(dumps, kinds or Kinds()).run(a, b)


def may_stem(now: Any, base: Any, dumps: Dumps, kinds: Kinds) -> bool:
    """Whether `now` looks as if it was made of `base`: it has some of its items or columns, or there are none.

    Instances don't: what two of a class have in common is that they are of that.
    """
    if type(now) is not type(base):
        return False
    parts = kinds.of(type(base)).parts
    if any(isinstance(part, science.Frame) for part in parts):
        return science.has_columns_of(now, base)
    contents = [(part, part.read(base), part.read(now)) for part in parts if not isinstance(part, Named)]
    filled = [(part, was, has) for part, was, has in contents if len(was)]
    return len(filled) < len(contents) or any(_have_in_common(*three, dumps, kinds) for three in filled)


def _have_in_common(part: Part, was: Any, has: Any, dumps: Dumps, kinds: Kinds) -> bool:
    if isinstance(part, science.Elementwise) and not isinstance(was, list):
        return was.shape == has.shape and bool((science.bits(was) == science.bits(has)).any())
    if isinstance(part, Elements):
        return not {token(element, dumps) for element in was}.isdisjoint(token(element, dumps) for element in has)
    one, other = (list(content.items() if isinstance(part, Entries) else content) for content in (was, has))
    ends = (zip(one, other, strict=False), zip(reversed(one), reversed(other), strict=False))
    return any(same(a, b, dumps, kinds) for end in ends for a, b in end)


def _dumps_atom(value: Any) -> bytes:
    return pickle.dumps(value, 5)


def glance(kinds: Kinds) -> Callable[[Any, Any], bool]:
    """A function that tells whether two objects are the same as far as a quick look shows.

    What was alike in one look isn't looked into in the next ones: nested objects would be compared at each level.
    """
    left = itertools.count(GLANCES, -1)
    alike: dict[tuple[int, int], Any] = {}
    return lambda a, b: next(left) < 0 or _Comparison(None, kinds, GLANCE, alike).run(a, b)


def quick_same(a: Any, b: Any) -> bool:
    """Whether `a` and `b` are the same, for what shows at once; false for all that has parts."""
    return a is b or (type(a) is type(b) and type(a) in _EXACT and a == b)


class _Comparison:
    def __init__(
        self,
        dumps: Dumps | None,
        kinds: Kinds,
        limit: int | None = None,
        alike: dict[tuple[int, int], Any] | None = None,
    ) -> None:
        self._dumps = dumps
        self._kinds = kinds
        self._limit = limit
        self._alike = {} if alike is None else alike  # pairs by their ids, which are not to be used twice
        self._todo: list[tuple[Any, Any]] = []

    def run(self, a: Any, b: Any) -> bool:
        seen: dict[tuple[int, int], Any] = {}
        self._todo = [(a, b)]
        while self._todo:
            a, b = self._todo.pop()
            cls = type(a)
            if a is b:
                continue
            if cls is not type(b):
                return False
            if cls in _EXACT:
                if a != b:
                    return False
                continue
            pair = (id(a), id(b))
            if pair in seen or pair in self._alike:
                continue
            if self._limit is not None and len(seen) >= self._limit:
                break
            seen[pair] = (a, b)
            if not self._objects(a, b, cls):
                return False
        self._alike.update(seen)
        return True

    def _objects(self, a: Any, b: Any, cls: type) -> bool:
        kind = self._kinds.of(cls)
        if kind.way in (Way.ATOM, Way.OPAQUE) or (kind.atom is not None and kind.atom(a)):
            return self._leaves(a, b, cls)
        if (
            cls in _PLAIN_CONTAINERS
            and self._limit is None
            and _big(a)
            and plain_bytes(a) == plain_bytes(b) is not None
        ):
            return True
        if not kind.fits(a, b) and kind.memory is None:
            return False
        links = kind.links(a), kind.links(b)
        if len(links[0]) != len(links[1]):
            return False
        self._todo += zip(*links, strict=True)
        return all(self._parts(part, a, b) for part in kind.all_parts)

    def _leaves(self, a: Any, b: Any, cls: type) -> bool:
        if cls is float or cls is complex:
            return repr(a) == repr(b)
        if self._dumps is None:
            return bool(a == b) if cls in ATOMS else True
        if (compare := self._kinds.of(cls).same) is not None:
            with suppress(Exception):
                return compare(a, b)
        for dumps in (_dumps_atom, self._dumps) if cls in ATOMS else (self._dumps,):
            try:
                return dumps(a) == dumps(b)
            except Exception:  # what can't be pickled at all is only the same as itself
                continue
        return False

    def _parts(self, part: Part, a: Any, b: Any) -> bool:
        one, other = part.read(a), part.read(b)
        if isinstance(part, Entries):
            return self._entries(one, other)
        if isinstance(part, Elements):
            return self._elements(one, other)
        if isinstance(part, Items):
            return self._items(one, other)
        if isinstance(part, science.Elementwise):
            return self._items(one, other) if isinstance(one, list) else science.same_bits(one, other)
        if isinstance(part, Bytes):
            return bytes(one) == bytes(other)
        return self._leaves(one, other, type(one))

    def _items(self, one: list[Any], other: list[Any]) -> bool:
        if len(one) != len(other):
            return False
        self._todo += zip(one, other, strict=True)
        return True

    def _entries(self, one: dict[Any, Any], other: dict[Any, Any]) -> bool:
        if len(one) != len(other):
            return False
        if not plain(one):
            self._todo += self._equal_keys(one, other)
            one, other = self.by_token(one.items()), self.by_token(other.items())
        missing = object()
        for key, value in one.items():
            if (there := other.get(key, missing)) is missing:
                return False
            self._todo.append((value, there))
        return True

    def _elements(self, one: list[Any], other: list[Any]) -> bool:
        if len(one) != len(other):
            return False
        if plain(one) and plain(other):
            return set(one) == set(other) and Counter(map(type, one)) == Counter(map(type, other))
        self._todo += self._equal_keys(one, other)
        return Counter(map(self.token, one)) == Counter(map(self.token, other))

    def _equal_keys(self, one: Iterable[Any], other: Iterable[Any]) -> list[tuple[Any, Any]]:
        """Keys that are equal, as they themselves say, but may have other attributes."""
        here, there = ([key for key in keys if is_by_value(key, self._kinds)] for keys in (one, other))
        known = {self.token(key): key for key in there} if here else {}
        return [(key, known[token]) for key in here if (token := self.token(key)) in known]

    def by_token(self, items: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
        return {self.token(key): value for key, value in items}

    def token(self, key: Any) -> Any:
        return token(key, self._dumps or default_dumps, self._kinds)


def is_by_value(key: Any, kinds: Kinds) -> bool:
    """Whether an instance, which can be changed in place, says itself by what of it it is known as a key."""
    kind = kinds.of(type(key))
    return kind.by_value and kind.way is Way.PATCH


def token(key: Any, dumps: Dumps = default_dumps, kinds: Kinds | None = None) -> Any:
    """What stands for a key or an element when two pickles are compared: itself, or its bytes."""
    if type(key) in ATOMS:
        return key
    try:
        if kinds is not None and is_by_value(key, kinds):
            hash(key)
            return (type(key), key)
        return (type(key), dumps(key))
    except Exception:
        return (type(key), id(key))


def mark(value: Any) -> Any:
    """What is equal for values with the same content, but not for large ones: each of these is like no other."""
    if type(value) in ATOMS:
        return type(value), repr(value) if isinstance(value, (float, complex)) else value
    if type(value) is dict and plain(value) and plain(value.values()):
        with suppress(ValueError):
            return marshal.dumps(value, 0)  # without references: the same bytes for the same content
    if (content := plain_bytes(value)) is not None:
        return xxhash.xxh3_128_digest(content)
    return _marked(value, _Pickler)


def mark_beside(value: Any, known_as: Callable[[Any], Any]) -> Any:
    """As `mark`, but of each object in it for which `known_as` gives something, only that counts."""
    return mark(value) if type(value) in ATOMS else _marked(value, functools.partial(_BesidePickler, value, known_as))


def mark_own(value: Any, is_other: Callable[[Any], bool]) -> Any:
    """As `mark`, but of what `is_other` only the class counts: what that becomes is no change of `value`."""
    return mark(value) if type(value) in ATOMS else _marked(value, functools.partial(_OwnPickler, None, is_other))


def mark_alone(value: Any, is_other: Callable[[Any], bool]) -> Any:
    """As `mark_own`, for an object that may be such a one itself."""
    return _marked(value, functools.partial(_OwnPickler, value, is_other))


def dumps_own(value: Any, is_other: Callable[[Any], bool]) -> bytes:
    """The pickle of what is in an object, but for other ones."""
    return _dumped(value, functools.partial(_OwnPickler, value, is_other))


def _dumped(value: Any, pickler: Callable[..., Any]) -> bytes:
    file = io.BytesIO()
    pickler(file, 5).dump(value)
    return file.getvalue()


def _marked(value: Any, pickler: Callable[..., Any]) -> Any:
    file = _Small()
    try:
        pickler(file, 5, buffer_callback=file.takes).dump(value)
    except Exception:  # it is large, or can't be pickled
        return object()
    return type(value), file.getvalue()


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """A class is one object on all sides: what it holds, and globals of its methods, are no part of its instances."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, type):
            return id, (id(obj),)
        return super().reducer_override(obj)


class _PartPickler(_Pickler):
    """`ask` tells of what is to be left out of `value`."""

    def __init__(self, value: Any, ask: Callable[[Any], Any], *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._value, self._ask = value, ask


class _OwnPickler(_PartPickler):
    """Of what is left out the class is there, and which are one object."""

    def reducer_override(self, obj: Any) -> Any:
        if obj is not self._value and self._ask(obj):
            return id, (id(type(obj)),)
        return super().reducer_override(obj)


class _BesidePickler(_PartPickler):
    """Of what is left out, also dicts and lists, there is what it is known as."""

    def persistent_id(self, obj: Any) -> Any:
        return None if obj is self._value else self._ask(obj)


class _Small(io.BytesIO):
    """Takes so much, and raises ValueError at more."""

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes > MARKED:
            raise ValueError("too large")
        return super().write(data)

    def takes(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether a buffer is to be written; `pickle` has not made a copy of it yet."""
        if buffer.raw().nbytes > MARKED:
            raise ValueError("too large")
        return True


def _big(a: Any) -> bool:
    return len(a) > 8


def plain_bytes(value: Any) -> bytes | None:
    """The pickle of a value that consists of nothing but built-in data; None for all others."""
    file = io.BytesIO()
    pickler = _PlainPickler(file, 5)
    pickler.fast = True  # no memo: aliases don't count
    try:
        pickler.dump(value)
    except (_NotPlain, ValueError, RecursionError, pickle.PicklingError, RuntimeError):
        return None
    return file.getvalue()


class _NotPlain(Exception):
    pass


class _PlainPickler(pickle.Pickler):
    def reducer_override(self, obj: Any) -> Any:
        raise _NotPlain
