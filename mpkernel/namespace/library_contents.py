"""What a notebook changes in lists, dicts and sets of libraries: ``nltk.data.path.append(folder)``.

They are found by the names in the notebook's code that lead to them (`mpkernel.namespace.uses`), and compared with what
they were before that code ran for the first time. What is in an entry isn't looked at. Those of modules that the kernel
itself is made of stay as each process has them.
"""

from __future__ import annotations

import copy
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from typing import Any

from mpkernel.namespace.patches import same
from mpkernel.namespace.process_state import GONE, Facet, Items
from mpkernel.namespace.uses import Place, Places, found_in, uses

_SEQUENCES = (list, deque)
_KINDS = (*_SEQUENCES, dict, OrderedDict, defaultdict, set)
# Larger ones aren't compared after each cell.
_MOST = 10_000


class Contents(Facet):
    """A sequence is an item as a whole, as a list. Of the others each entry is one, as a tuple of its value (of a set:
    True), an empty one if it was deleted."""

    name = "contents of libraries"

    def __init__(self, places: Places, parts: frozenset[str]) -> None:
        self._places = places
        self._parts = parts  # see `parts_of_the_kernel`
        self._first: dict[Place, Any] = {}  # copies of what there was before a cell, or another subshell, changed it
        self._early: Items = {}  # of libraries that this process hasn't imported yet, or not like that

    def ran(self, code: types.CodeType) -> None:
        self.arrived()
        for each in self._places.reached(code):
            for chain in uses(each).changes:
                self._watch(self._places.at(chain, *_KINDS))

    def _watch(self, place: Place | None) -> Any:
        """What is at `place`, if it can be followed."""
        if place is None or place[0] in self._parts:
            return None
        container = found_in(*place)
        if type(container) not in _KINDS or len(container) > _MOST:
            return None
        if type(self._first.get(place)) is not type(container):
            self._first[place] = copy.copy(container)
        return container

    def read(self) -> Items:
        found = dict(self._early)
        for place in list(self._first):
            if (now := self._watch(place)) is None:
                continue
            first = self._first[place]
            if isinstance(now, _SEQUENCES):
                if len(now) != len(first) or not all(map(same, now, first)):
                    found[place] = list(now)
            else:
                found |= {(*place, key): value for key, value in _changed(_entries(first), _entries(now))}
        return found

    def write(self, items: Items) -> None:
        for key, value in items.items():
            place: Place = key[:2]
            self._early.pop(key, None)
            if (container := self._watch(place)) is None:  # it goes on being told, as it isn't gone elsewhere
                if value is not GONE:
                    self._early[key] = value
            elif isinstance(container, _SEQUENCES):
                fresh = list(self._first[place] if value is GONE else value)
                container.clear()
                container.extend(fresh)
            else:
                entry = key[2]
                if value is GONE:
                    first = _entries(self._first[place])
                    value = (first[entry],) if entry in first else ()
                _put(container, entry, value)

    def merged(self, key: Any, base: Any, mine: Any, theirs: Any) -> Any:
        return super().merged(key, list(self._first.get(key, ())) if base is GONE else base, mine, theirs)

    def arrived(self) -> None:
        if early := {key: value for key, value in self._early.items() if found_in(key[0], "") is not None}:
            self.write(early)


def _entries(container: Any) -> dict[Any, Any]:
    return dict.fromkeys(container, True) if isinstance(container, set) else container


def _changed(first: dict[Any, Any], now: dict[Any, Any]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    for key, value in now.items():
        if not same(first.get(key, GONE), value):
            yield key, (value,)
    for key in first.keys() - now.keys():
        yield key, ()


def _put(container: Any, key: Any, value: tuple[Any, ...]) -> None:
    if isinstance(container, set):
        (container.add if value else container.discard)(key)
    elif value:
        container[key] = value[0]
    else:
        container.pop(key, None)
