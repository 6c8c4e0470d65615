"""How instances of the user's classes on built-in ones (``class Bag(Counter)``) travel: made, and filled, by the base.

``__reduce__`` of these bases has the class called with what the base wants. ``__init__`` and ``__new__`` of the class
may want something else, or take it for something else; and few of the bases tell what attributes there are.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import pathlib
import sys
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from mpkernel.namespace import words
from mpkernel.namespace.definitions import importable, is_installed


def _nothing(_: Any) -> tuple[Any, ...]:
    return ()


def _attributes(obj: Any) -> Any:
    return obj.__getstate__()


@dataclass(frozen=True, slots=True)
class _Base:
    """What an instance consists of, as the base has it, whatever methods the class has."""

    args: Callable[[Any], tuple[Any, ...]] = _nothing  # what it is made with
    items: Callable[[Any], Iterable[Any]] = _nothing
    pairs: Callable[[Any], Iterable[tuple[Any, Any]]] = _nothing
    fields: tuple[str, ...] = ()
    state: Callable[[Any], Any] = _attributes


def _size(obj: Any) -> tuple[Any, ...]:
    size = vars(deque)["maxlen"].__get__(obj)
    return () if size is None else ((), size)


def _as_reduced(base: Any) -> _Base:
    return _Base(lambda obj: tuple(base.__reduce_ex__(obj, 5)[1]))


_OF_TIME = (datetime.date, datetime.datetime, datetime.time, datetime.timedelta)
_partial: Any = partial
_BASES: dict[Any, _Base] = {
    set: _Base(items=set.__iter__),
    frozenset: _Base(lambda obj: (list(frozenset.__iter__(obj)),)),
    bytearray: _Base(lambda obj: (bytes(bytearray.__getitem__(obj, slice(None))),)),
    deque: _Base(_size, deque.__iter__),
    defaultdict: _Base(pairs=dict.items, fields=("default_factory",)),
    Counter: _Base(pairs=dict.items),
    OrderedDict: _Base(pairs=OrderedDict.items),
    decimal.Decimal: _Base(lambda obj: (decimal.Decimal.__str__(obj),)),
    fractions.Fraction: _Base(lambda obj: (fractions.Fraction(obj).numerator, fractions.Fraction(obj).denominator)),
    datetime.tzinfo: _Base(),
    **{base: _as_reduced(base) for base in _OF_TIME},
    **{base: _as_reduced(base) for base in (pathlib.PurePath, pathlib.PurePosixPath, pathlib.PureWindowsPath)},
    **{base: _as_reduced(base) for base in (pathlib.Path, pathlib.PosixPath, pathlib.WindowsPath)},
    _partial: _Base(lambda obj: _partial.__reduce__(obj)[1], state=lambda obj: _partial.__reduce__(obj)[2]),
}
_OWN_WAYS = ("__getnewargs__", "__getnewargs_ex__", "__getinitargs__")


def base_of(kind: Any) -> Any:
    """The base that makes instances of `kind`; None if that isn't the user's class, or says itself how it's done."""
    base = next((base for base in kind.__mro__ if base in _BASES), None)
    if base is None or (importable(kind) and is_installed(sys.modules[kind.__module__])):
        return None
    if kind.__reduce__ is not base.__reduce__ or kind.__reduce_ex__ is not base.__reduce_ex__:
        return None
    return None if any(hasattr(kind, name) for name in _OWN_WAYS) else base


def values() -> Iterator[tuple[Any, Callable[[Any], list[Any]]]]:
    """The bases whose instances can't be changed, but for their attributes; and what makes another of each."""
    yield int, lambda obj: [int.__int__(obj)]
    yield float, lambda obj: [float.__repr__(obj)]  # so that what isn't a number is equal to itself
    yield complex, lambda obj: [complex.__repr__(obj)]
    yield str, lambda obj: [str.__str__(obj)]
    yield bytes, lambda obj: [bytes.__getitem__(obj, slice(None))]
    for base in (decimal.Decimal, fractions.Fraction, *_OF_TIME):
        yield base, partial(_listed_args, base)


def _listed_args(base: Any, obj: Any) -> list[Any]:
    return list(_BASES[base].args(obj))


def reduced(obj: Any, base: Any) -> tuple[Any, ...]:
    """What ``__reduce__`` would answer, if the base knew of derived classes."""
    parts, state = _BASES[base], _BASES[base].state(obj)
    if type(state) is tuple and len(state) == 2 and type(state[1]) is dict:  # not the base's own slots
        state = state[0], {name: value for name, value in state[1].items() if not hasattr(base, name)}
    fields = {name: vars(base)[name].__get__(obj) for name in parts.fields}
    content = state, list(parts.items(obj)), list(parts.pairs(obj)), fields
    made = words.made, (base, type(obj), *parts.args(obj))
    return (*made, content, None, None, words.content) if any(content) else made
