"""How an object is taken apart and put together again without running code of its class.

A *kind* says, for a class, of which parts its instances consist: the items of a list, the attributes in ``__dict__``,
the slots. A *part* reads its content (a shallow copy), writes it, and says which objects are in it. Everything goes by
methods of built-in types and by descriptors that Python made itself, so neither ``__getattr__`` nor properties nor
``__eq__`` of users are called. Adding or looking up keys needs ``__hash__``, and ``__eq__`` for equal hashes.
"""

from __future__ import annotations

import builtins
import operator
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from mpkernel.namespace.atoms import plain


class Nothing(Enum):
    """Stands for what isn't there."""

    MISSING = "missing"


MISSING = Nothing.MISSING
# Lists with up to so many items, or what is left of them, are matched each with each.
FEW = 32
Pairs = Iterable[tuple[Any, Any]]
Alike = Callable[[Any, Any], bool]  # whether two objects are the same at a glance
Results = Mapping[int, Any]  # by id of a new object: what takes its place


class Part:
    """A part without objects in it: a number's state, a buffer."""

    def read(self, obj: Any) -> Any:
        """The content, as a shallow copy."""
        raise NotImplementedError

    def write(self, obj: Any, content: Any) -> None:
        """Make `content` the content."""
        raise NotImplementedError

    def take(self, obj: Any, content: Any) -> None:
        """As `write`, last of all, of what has its memory for itself: that may be gone thereafter."""
        self.write(obj, content)

    def children(self, content: Any) -> Iterable[Any]:
        """The objects in a content; none, if they are all atoms."""
        return ()

    def pairs(self, old: Any, new: Any, alike: Alike) -> Pairs:
        """The objects of two contents that are at corresponding places, the old one first."""
        return ()

    def mapped(self, content: Any, results: Results) -> Any:
        """`content` with objects replaced; itself, if there is nothing to replace."""
        return content

    def undo(self, content: Any) -> Any:
        """What `write` needs to bring `content` back; None: it can't fail, and a copy would be dear."""
        return content

    def hashed(self, content: Any) -> bool:
        """Whether writing the content needs the hashes of objects that aren't atoms."""
        return False


def replaced(items: list[Any], results: Results) -> list[Any]:
    """`items` with what `results` has in their place; the very list, if it has nothing."""
    if not results or plain(items):
        return items
    fresh = list(map(results.get, map(id, items), items))
    return fresh if any(map(operator.is_not, fresh, items)) else items


def _listed(iterate: Callable[[Any], Iterator[Any]], obj: Any) -> list[Any]:
    """What `iterate`, a C function, gives for `obj`. No other thread runs, and changes that, meanwhile."""
    return next(map(list, map(iterate, (obj,))))


class Items(Part):
    """The items of a list, in order."""

    def read(self, obj: Any) -> list[Any]:
        return list.copy(obj)

    def write(self, obj: Any, content: list[Any]) -> None:
        list.__setitem__(obj, slice(None), content)

    def children(self, content: list[Any]) -> Iterable[Any]:
        return () if plain(content) else content

    def pairs(self, old: list[Any], new: list[Any], alike: Alike) -> Pairs:
        if plain(new):
            return ()
        return _aligned(old, new, alike)

    def mapped(self, content: list[Any], results: Results) -> list[Any]:
        return replaced(content, results)


def _aligned(old: list[Any], new: list[Any], alike: Alike) -> Iterator[tuple[Any, Any]]:
    """Pairs of two lists: what is alike at the start, or at the end, belongs together."""
    short = min(len(old), len(new))
    if len(old) == len(new) <= 1:
        yield from zip(old, new, strict=True)
        return
    if not short:
        return
    if alike(old[0], new[0]) and alike(old[short - 1], new[short - 1]):
        yield from zip(old[:short], new, strict=False)  # in the middle, at the end, or not at all was it changed
        return
    if len(old) == len(new) > FEW:
        yield from zip(old, new, strict=True)
        return
    front = 0
    while front < short and alike(old[front], new[front]):
        front += 1
    back = 0
    while back < short - front and alike(old[-1 - back], new[-1 - back]):
        back += 1
    yield from zip(old[:front], new[:front], strict=True)
    yield from _matched(old[front : len(old) - back], new[front : len(new) - back], alike)
    yield from zip(old[len(old) - back :], new[len(new) - back :], strict=True)


def _matched(old: list[Any], new: list[Any], alike: Alike) -> Iterator[tuple[Any, Any]]:
    """Pairs of what is alike anywhere; then of what is left, in order."""
    if len(old) * len(new) <= FEW * FEW:
        free, open_ = list(range(len(old))), []
        for value in new:
            found = next((index for index in free if alike(old[index], value)), None)
            if found is None:
                open_.append(value)
            else:
                free.remove(found)
                yield old[found], value
        old, new = [old[index] for index in free], open_
    yield from zip(old, new, strict=False)


class QueueItems(Items):
    """The items of a deque."""

    def read(self, obj: Any) -> list[Any]:
        return _listed(deque.__iter__, obj)

    def write(self, obj: Any, content: list[Any]) -> None:
        deque.clear(obj)
        deque.extend(obj, content)


class TupleItems(Items):
    """The items of a tuple; can't be written."""

    def read(self, obj: Any) -> list[Any]:
        return list(tuple.__iter__(obj))


class Value(TupleItems):
    """What another value of a built-in type is made of."""

    def __init__(self, read: Callable[[Any], list[Any]]) -> None:
        self._read = read

    def read(self, obj: Any) -> list[Any]:
        return self._read(obj)


class Entries(Part):
    """Keys and values of a dict."""

    def __init__(self, base: type[dict[Any, Any]] = dict) -> None:
        self._base = base

    @property
    def is_plain(self) -> bool:
        """Whether they are where a dict has them."""
        return self._base is dict

    def read(self, obj: Any) -> dict[Any, Any]:
        return dict(obj) if type(obj) is dict else dict(self._base.items(obj))

    def write(self, obj: Any, content: dict[Any, Any]) -> None:
        if self._base is not dict:
            self._base.clear(obj)
            for key, value in content.items():
                self._base.__setitem__(obj, key, value)
            return
        # The keys stay where they are if they are the same, so that another thread never finds the dict empty.
        if not (len(obj) == len(content) and plain(content) and list(dict.keys(obj)) == list(content)):
            dict.clear(obj)
        dict.update(obj, content)

    def children(self, content: dict[Any, Any]) -> Iterable[Any]:
        if plain(content):
            return () if plain(content.values()) else content.values()
        return [*content, *content.values()]

    def pairs(self, old: dict[Any, Any], new: dict[Any, Any], alike: Alike) -> Pairs:
        if plain(new):
            return () if plain(new.values()) else [(old.get(key, MISSING), value) for key, value in new.items()]
        return self._pairs_with_keys(old, new)

    def _pairs_with_keys(self, old: dict[Any, Any], new: dict[Any, Any]) -> Pairs:
        here = {key: (key, value) for key, value in old.items()}
        pairs: list[tuple[Any, Any]] = []
        unmatched: list[tuple[Any, Any]] = []
        for key, value in new.items():
            old_key, old_value = here.pop(key, (MISSING, MISSING))
            if old_key is MISSING:
                unmatched.append((key, value))
            else:
                pairs += ((old_key, key), (old_value, value))
        if len(unmatched) == len(here):  # keys that are equal to nothing but themselves: by their order
            for (old_key, old_value), (key, value) in zip(here.values(), unmatched, strict=True):
                if type(old_key) is type(key) and by_identity(type(key)):
                    pairs += ((old_key, key), (old_value, value))
        return pairs

    def mapped(self, content: dict[Any, Any], results: Results) -> dict[Any, Any]:
        if plain(content):
            values = list(content.values())
            fresh = replaced(values, results)
            return content if fresh is values else dict(zip(content, fresh, strict=True))
        return {results.get(id(key), key): results.get(id(value), value) for key, value in content.items()}

    def hashed(self, content: dict[Any, Any]) -> bool:
        return not plain(content)


class Elements(Part):
    """The elements of a set, in no order."""

    def __init__(self, base: type[Any] = set) -> None:
        self._base = base

    def read(self, obj: Any) -> list[Any]:
        return _listed(self._base.__iter__, obj)

    def write(self, obj: Any, content: list[Any]) -> None:
        set.clear(obj)
        set.update(obj, content)

    def children(self, content: list[Any]) -> Iterable[Any]:
        return () if plain(content) else content

    def pairs(self, old: list[Any], new: list[Any], alike: Alike) -> Pairs:
        if plain(new):
            return ()
        here = {element: element for element in old}
        return [(here.get(element, MISSING), element) for element in new]

    def mapped(self, content: list[Any], results: Results) -> list[Any]:
        # A copy: the hashes of objects that stay may have changed.
        return content if plain(content) else list(replaced(content, results))

    def hashed(self, content: list[Any]) -> bool:
        return not plain(content)


class Named(Entries):
    """What has a name in an object: attributes, slots, fields. Content: a dict."""


class Attributes(Named):
    """What is in ``__dict__``, which `descriptor` gives."""

    def __init__(self, descriptor: Any) -> None:
        super().__init__()
        self._descriptor = descriptor

    def entries(self, obj: Any) -> dict[Any, Any]:
        """The very ``__dict__``."""
        return self._descriptor.__get__(obj)  # type: ignore[no-any-return]

    def read(self, obj: Any) -> dict[Any, Any]:
        return dict(self.entries(obj))

    def write(self, obj: Any, content: dict[Any, Any]) -> None:
        super().write(self.entries(obj), content)


class ModuleNames(Attributes):
    """What is in a module, but for what `exec` puts there."""

    def read(self, obj: Any) -> dict[Any, Any]:
        content = super().read(obj)
        content.pop("__builtins__", None)
        return content

    def write(self, obj: Any, content: dict[Any, Any]) -> None:
        super().write(obj, content | {"__builtins__": builtins})


MODULE_NAMES = ModuleNames(vars(types.ModuleType)["__dict__"])


class Slots(Named):
    """What is in ``__slots__``, or in fields of a built-in type. Content: as for attributes."""

    def __init__(self, descriptors: Iterable[Any]) -> None:
        super().__init__()
        self._descriptors = tuple(descriptors)

    def read(self, obj: Any) -> dict[Any, Any]:
        content = {}
        for descriptor in self._descriptors:
            try:
                content[_slot_name(descriptor)] = descriptor.__get__(obj)
            except (AttributeError, ValueError):  # it is empty; a cell says ValueError
                continue
        return content

    def write(self, obj: Any, content: dict[Any, Any]) -> None:
        for descriptor in self._descriptors:
            name = _slot_name(descriptor)
            if name in content:
                if not self._has(descriptor, obj, content[name]):
                    descriptor.__set__(obj, content[name])
            elif self._has(descriptor, obj):
                descriptor.__delete__(obj)

    def _has(self, descriptor: Any, obj: Any, value: Any = MISSING) -> bool:
        try:
            now = descriptor.__get__(obj)
        except (AttributeError, ValueError):
            return False
        return value is MISSING or now is value


def _slot_name(descriptor: Any) -> str:
    return str(descriptor.__name__)


class State(Part):
    """A part that `get` gives as a value of atoms, and `put` takes."""

    def __init__(self, get: Callable[[Any], Any], put: Callable[[Any, Any], None]) -> None:
        self._get, self._put = get, put

    def read(self, obj: Any) -> Any:
        return self._get(obj)

    def write(self, obj: Any, content: Any) -> None:
        self._put(obj, content)


class Bytes(State):
    """Small items without identity, side by side: a bytearray or an array. Content: of the same type."""


def by_identity(kind: Any) -> bool:
    """Whether objects of that type are equal to nothing but themselves, as keys."""
    return kind.__hash__ is object.__hash__
