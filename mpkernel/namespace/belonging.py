"""Which objects belong to one other alone, and which are referred to from several places.

What is done to the latter is no change of an object that refers to them: in a graph, all of it is behind each node. And
they are what could be torn into two if it weren't known which is which on the sides of a merge. So what differs from
all others by what it has in itself gets a name, as variables have one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from mpkernel.namespace.anatomy import Kinds
from mpkernel.namespace.atoms import ATOMS
from mpkernel.namespace.naming import Side
from mpkernel.namespace.same import mark, mark_beside
from mpkernel.namespace.survey import directly_in

# Of more objects, none gets a name.
MAX_NAMED = 10_000
Values = Mapping[Any, Any]
_CONTAINERS = frozenset((list, dict, set))


class Belonging:
    """Of the base, theirs and mine, which are looked through at once. `is_one` is true of what only its class tells of.

    `names`: for each side, the same names for objects that are the same on all, in themselves, and like no others.
    """

    def __init__(self, kinds: Kinds, is_one: Callable[[Any], bool], *sides: Values) -> None:
        self._kinds = kinds
        self._is_one = is_one
        self._known_as: dict[int, Any] = {}  # by id of what several refer to: its name, or its type
        self._shared: list[dict[int, Any]] = [{} for _ in sides]  # by id
        self._met = [self._look_through(side, shared) for side, shared in zip(sides, self._shared, strict=True)]
        for shared in self._shared:
            self._known_as |= {key: id(type(obj)) for key, obj in shared.items()}
        # Of objects of the types that are shared in the base: by id, and all of a side.
        self._marks: list[dict[int, Any]] = [{} for _ in Side]
        self._alive: list[set[Any]] = [set() for _ in Side]
        self.names: list[dict[str, Any]] = [{} for _ in Side]
        if self._shared[Side.BASE]:
            self._give_names(set(map(type, self._shared[Side.BASE].values())))

    @property
    def matters(self) -> bool:
        """Whether there is something that several refer to."""
        return bool(self._known_as)

    def mark(self, obj: Any) -> Any:
        """What is equal for objects that are the same in themselves, whatever became of others that they refer to."""
        return mark_beside(obj, lambda part: self._known_as.get(id(part))) if self.matters else mark(obj)

    def lives_on(self, base: Any, now: Any, side: Side) -> bool:
        """Whether what one side has taken out is elsewhere there, as it was, and `now` is what the other made of it."""
        known = self._known_as.get(id(base))
        # Who puts something else in its place refers to that only there.
        if known is None or self._known_as.get(id(now)) != known:
            return False
        return self._marks[Side.BASE].get(id(base)) in self._alive[side]

    def _give_names(self, kinds: set[type]) -> None:
        like = [{key: obj for key, obj in met.items() if type(obj) in kinds} for met in self._met]
        if sum(map(len, like)) > MAX_NAMED:
            return
        self._marks = [{key: self.mark(obj) for key, obj in objects.items()} for objects in like]
        self._alive = [set(marks.values()) for marks in self._marks]
        times = [Counter(marks.values()) for marks in self._marks]
        ids = [{its: key for key, its in marks.items()} for marks in self._marks]
        common = [
            self._marks[Side.BASE][key]
            for key in self._shared[Side.BASE]
            if all(count[self._marks[Side.BASE][key]] == 1 for count in times)
        ]
        self.names = [
            {f"<{number}>": self._met[side][ids[side][its]] for number, its in enumerate(common)} for side in Side
        ]
        self._known_as |= {id(obj): name for side in self.names for name, obj in side.items()}

    def _look_through(self, side: Values, shared: dict[int, Any]) -> dict[int, Any]:
        """All that is there, by id, so that none is used twice."""
        met: dict[int, Any] = {}
        todo = list(side.values())
        while todo:
            obj = todo.pop()
            if type(obj) in ATOMS:
                continue
            if id(obj) in met:
                if type(obj) in _CONTAINERS or self._is_one(obj):
                    shared[id(obj)] = obj
                continue
            met[id(obj)] = obj
            todo += directly_in(obj, self._kinds, bulk_too=False)
        return met
