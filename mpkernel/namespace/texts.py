"""Large arrays of strings: known by the addresses of their elements, and sent as one long string.

To walk a million strings takes 40 ms, to compare their addresses with those of the same strings one. As long as
somebody holds the strings, an equal address is an equal string.
"""

from __future__ import annotations

import itertools
import pickle
import sys
import weakref
from typing import Any

from mpkernel.namespace.memory import Region

# From so many elements on an array of strings is a text, and a long one.
FROM, LONG = 1000, 20_000
# Between strings.
SEPARATOR = "\0"
# What may be among the strings: nothing that can be changed in place.
_OTHERS = (int, float, bool, type(None))
_OTHERS_OF_PANDAS = ("NAType", "NaTType")
# So many elements are looked at to know what the others are like; the step is a prime, as content may be periodic.
_SAMPLE, _STEP = 4000, 7919
# Strings are sent by number if at most so many of the sample are different.
_FEW = 0.8

# The views of an array that are known are in all at most so many times as large as it is.
_TIMES = 4

_Key = tuple[int, int]  # address and bytes of an array


class Text:
    """The elements of an array as they were when it was looked at.

    `stamp` is another one whenever they are others. Give `items`, a one-dimensional array that nobody changes, or
    `packed`, what another process has made of one.
    """

    def __init__(self, *, items: Any = None, packed: Any = None, stamp: int = 0, mixed: bool = True) -> None:
        self.stamp = stamp
        self._items = items
        self._packed = packed
        self._mixed = mixed  # there may be others than strings

    @property
    def long(self) -> bool:
        """Whether its bytes are too many for a message; the same each time."""
        return self._items is not None and len(self._items) >= LONG

    def is_of(self, array: Any) -> bool:
        """Whether `array` has the same elements."""
        numpy = sys.modules["numpy"]
        return bool(numpy.array_equal(_addresses(array), _addresses(self._items)))

    def packed(self) -> bytes | memoryview:
        """As bytes, to be sent."""
        return self._packed if self._packed is not None else _pack(self._items, mixed=self._mixed)

    def array(self, shape: Any) -> Any:
        """A new array of that shape."""
        items = self._items.copy() if self._packed is None else _unpack(self._packed)
        return items.reshape(shape)


class Texts:
    """The arrays of one process."""

    def __init__(self) -> None:
        self._stamps = itertools.count(1)
        self._known: dict[int, tuple[weakref.ref[Any], dict[_Key, Text]]] = {}  # by the id of who owns the memory

    def of(self, array: Any) -> Text | None:
        """The elements of a C-contiguous array of objects; None if they aren't strings, most of them at least."""
        known = self._of_owner(_owner(array))
        text = known.pop(_key(array), None)  # what it was isn't kept alive if it is something else now
        if text is not None and text.is_of(array):
            known[_key(array)] = text
            return text
        if not _is_text(array):
            return None
        items = array.reshape(-1).copy()  # a thread may write to it
        kinds = _kinds(items)
        return self._add(known, array, items, mixed=kinds != {str}) if kinds else None

    def received(self, text: Text, shape: Any) -> Any:
        """The array that another process's text is of. The next look at it won't take long."""
        array = text.array(shape)
        text.stamp = self._add(self._of_owner(_owner(array)), array, array.reshape(-1).copy()).stamp
        return array

    def _of_owner(self, owner: Any) -> dict[_Key, Text]:
        number = id(owner)
        known = self._known.get(number)
        if known is None or known[0]() is not owner:
            known = self._known[number] = (weakref.ref(owner, lambda gone: self._forget(number, gone)), {})
        return known[1]

    def _forget(self, number: int, gone: weakref.ref[Any]) -> None:
        if (known := self._known.get(number)) is not None and known[0] is gone:
            del self._known[number]

    def _add(self, known: dict[_Key, Text], array: Any, items: Any, *, mixed: bool = True) -> Text:
        text = known[_key(array)] = Text(items=items, stamp=next(self._stamps), mixed=mixed)
        nbytes = sum(nbytes for _, nbytes in known)
        for key in list(known)[:-1]:  # of views the oldest may be gone
            if nbytes <= _TIMES * _owner(array).nbytes:
                break
            del known[key]
            nbytes -= key[1]
        return text


def _owner(array: Any) -> Any:
    numpy = sys.modules["numpy"]
    while isinstance(array.base, numpy.ndarray):
        array = array.base
    return array


def _key(array: Any) -> _Key:
    return array.__array_interface__["data"][0], array.nbytes


def _addresses(array: Any) -> Any:
    numpy = sys.modules["numpy"]
    low, nbytes = _key(array)
    return numpy.frombuffer(Region(low, low + nbytes, [array]).raw(), numpy.intp)


def _is_text(array: Any) -> bool:
    """Whether most elements are strings."""
    sample = _sample(array)
    return sum(type(item) is str for item in sample) >= len(sample) / 2


def _kinds(items: Any) -> set[type] | None:
    """The types of the elements, if none of them can change; else None."""
    kinds = set(map(type, items))
    return kinds if all(kind is str or kind in _OTHERS or _is_gap(kind) for kind in kinds) else None


def _is_gap(kind: type) -> bool:
    return kind.__name__ in _OTHERS_OF_PANDAS and kind.__module__.startswith("pandas")


def _sample(array: Any) -> list[Any]:
    flat, size = array.flat, array.size
    return [flat[number * _STEP % size] for number in range(min(_SAMPLE, size))]


def _pack(items: Any, *, mixed: bool) -> bytes:
    codes, listed = (None if mixed else _coded(items)) or (None, items.tolist())
    others = [(index, item) for index, item in enumerate(listed) if type(item) is not str] if mixed else []
    for index, _ in others:
        listed[index] = ""
    joined = SEPARATOR.join(listed)
    whole = joined.count(SEPARATOR) == len(listed) - 1
    return pickle.dumps((joined if whole else listed, codes, others), 5)


def _coded(items: Any) -> tuple[Any, list[str]] | None:
    """The number of each element's string, and the strings, if there are but few; None if not."""
    pandas = sys.modules.get("pandas")
    if pandas is None or len(set(sample := _sample(items))) > len(sample) * _FEW:
        return None
    codes, few = pandas.factorize(items)
    if len(few) > len(items) / 4:
        return None
    return codes.astype(sys.modules["numpy"].min_scalar_type(len(few))), few.tolist()


def _unpack(packed: bytes | memoryview) -> Any:
    import numpy

    strings, codes, others = pickle.loads(packed)
    if isinstance(strings, str):
        strings = strings.split(SEPARATOR)
    items = numpy.fromiter(strings, object, len(strings))
    if codes is not None:
        items = items[codes]
    for index, other in others:
        items[index] = other
    return items
