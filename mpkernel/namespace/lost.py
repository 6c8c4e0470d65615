"""What other subshells could not load (its class raises) is a stand-in there, and finds its way home.

Such a stand-in knows its type, and which one it was in the pickle that could not be loaded whole. So where a value
comes back with as many of them as there are objects of the type here, these stay, in the same order. Of fewer or more
it can't be told which is which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from mpkernel.namespace.anatomy import Kinds
from mpkernel.namespace.atoms import ATOMS
from mpkernel.namespace.stubs import Stub, note_of
from mpkernel.namespace.survey import directly_in


def homecomers(old: Mapping[str, Any], new: Mapping[Any, Any]) -> Iterator[tuple[Stub, Any]]:
    """Stand-ins in `new`, and the objects in what `old` has under the same names, for which they stand."""
    stubs: dict[str, list[Stub]] = {}
    for stub in _walk(new.values(), lambda obj: type(obj) is Stub):
        note = note_of(stub)
        if not note.owner:
            stubs.setdefault(note.type, []).append(stub)
    if not stubs:
        return
    found: dict[str, list[Any]] = {name: [] for name in stubs}
    for obj in _walk([old[name] for name in new if name in old], lambda obj: type(obj).__qualname__ in stubs):
        found[type(obj).__qualname__].append(obj)
    for name, of_type in stubs.items():
        if len(of_type) == len(found[name]):
            of_type.sort(key=lambda stub: note_of(stub).token)
            yield from zip(of_type, found[name], strict=True)


def _walk(values: Iterable[Any], wanted: Callable[[Any], bool]) -> Iterator[Any]:
    """What is wanted of all that the values consist of, in the order in which they are pickled; not what is in it."""
    kinds, seen = Kinds(), {}
    todo = list(values)[::-1]
    while todo:
        obj = todo.pop()
        if type(obj) in ATOMS or id(obj) in seen:
            continue
        seen[id(obj)] = obj
        if wanted(obj):
            yield obj
        else:
            todo += directly_in(obj, kinds)[::-1]
