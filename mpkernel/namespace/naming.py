"""Of which names an object is the value, on each side of a merge; and which objects are new to a side, as far as shows.

Three graphs that were loaded from pickles have no object in common. What tells that a name has another object than it
had is that it was *bound*, which is known; what tells that an object isn't new is that there was one in its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from enum import IntEnum
from typing import Any

from mpkernel.namespace.anatomy import Kinds, Way
from mpkernel.namespace.parts import MISSING

Values = Mapping[Any, Any]


class Side(IntEnum):
    """Of a merge."""

    BASE, THEIRS, MINE = range(3)


class Naming:
    """`sides` are names (and other places) with their values: of the base, theirs and mine.

    `bound` are names that they, and I, have bound to another object since; those that the base doesn't have are, too.
    These and the names that were deleted are `undecided`: what they are to have depends on where objects are.
    """

    def __init__(self, kinds: Kinds, sides: tuple[Values, Values, Values], bound: tuple[Set[Any], Set[Any]]) -> None:
        base, theirs, mine = sides
        there, here = (
            now.keys() & (bound[side] | (now.keys() - base.keys())) for side, now in enumerate((theirs, mine))
        )
        self._bound = there | here, there, here  # by side; of the base: by any
        self._names = [Names(kinds, side) for side in sides]
        self._old: dict[int, Any] = {}  # by id
        deleted = base.keys() - theirs.keys(), base.keys() - mine.keys()
        self.undecided = there | here | deleted[0] | deleted[1]
        self.matters = any(names.values.keys() & self.undecided for names in self._names)

    def bound(self, side: Side) -> Set[Any]:
        """The names that were bound on a side; for the base: on any."""
        return self._bound[side]

    def of(self, obj: Any, side: Side) -> Set[str]:
        """The names of which it is the value."""
        return self._names[side].of(obj)

    def lasting_name(self, obj: Any) -> str | None:
        """One by which an object is known on all sides, whichever it is of."""
        names = (name for side in Side for name in self.of(obj, side))
        return min((name for name in names if name not in self._bound[Side.BASE]), default=None)

    def bound_to(self, obj: Any, side: Side) -> Set[str]:
        """Those of them that were bound on that side."""
        return self.of(obj, side) & self._bound[side]

    def value(self, name: str, side: Side) -> Any:
        """An object that can be changed in place, or MISSING."""
        return self._names[side].values.get(name, MISSING)

    def same_place(self, base: Any, theirs: Any, mine: Any) -> None:
        """These are in one place, as parts of something: they aren't new, unless a name was bound that each has."""
        names, old = self.of(base, Side.BASE), []
        for side, now in ((Side.THEIRS, theirs), (Side.MINE, mine)):
            if type(now) is type(base) and names.isdisjoint(self.bound_to(now, side)):
                old.append(now)
        self._old |= {id(obj): obj for obj in (old if len(old) < 2 else [base, *old])}

    def is_old(self, obj: Any) -> bool:
        """Whether it is in a place where there was one in the base. One of the base: whether it is on both sides."""
        return id(obj) in self._old


class Names:
    """By object that can be changed in place, the names of which it is the value."""

    def __init__(self, kinds: Kinds, values: Values) -> None:
        self._names: dict[int, set[str]] = {}
        self.values: dict[str, Any] = {}
        for name, value in values.items():
            kind = kinds.of(type(value))
            has_identity = kind.way is not Way.ATOM and kind.frozen is None
            if isinstance(name, str) and has_identity and not (kind.atom is not None and kind.atom(value)):
                self._names.setdefault(id(value), set()).add(name)
                self.values[name] = value

    def of(self, obj: Any) -> Set[str]:
        """The names of which `obj` is the value."""
        return self._names.get(id(obj), frozenset())
