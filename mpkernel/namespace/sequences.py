"""Two edits of one list, put together: each as one stretch that was replaced by other items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from mpkernel.namespace.same import plain_bytes, quick_same

# So many items are compared at once.
CHUNK = 256
Same = Callable[[Any, Any], bool]


@dataclass(frozen=True, slots=True)
class Edit:
    """The items from `start` to `stop` of a list were replaced by `items`."""

    start: int
    stop: int
    items: list[Any]

    @classmethod
    def between(cls, base: list[Any], now: list[Any], same: Same) -> Self:
        """The smallest edit that makes `now` of `base`."""
        front = _equal_run(base, now, same)
        back = _equal_run(base[front:][::-1], now[front:][::-1], same)
        return cls(front, len(base) - back, now[front : len(now) - back])

    @property
    def in_place(self) -> bool:
        """Whether no item changed its place."""
        return len(self.items) == self.stop - self.start

    @property
    def empty(self) -> bool:
        """Whether nothing was changed."""
        return self.start == self.stop and not self.items

    def behind(self, count: int) -> Edit:
        """The same of the list without its first `count` items."""
        return Edit(self.start - count, self.stop - count, self.items)

    def touches(self, other: Edit) -> bool:
        """Whether both edits replaced an item, or one replaced items around where the other put some."""
        return not (self.empty or other.empty or self.stop <= other.start or other.stop <= self.start)

    def place(self, index: int) -> int | None:
        """Where the item of the base at `index` is now."""
        if index < self.start:
            return index
        return index - self.stop + self.start + len(self.items) if index >= self.stop else None

    def counterpart(self, index: int) -> int | None:
        """Where that is, or what has taken its place."""
        place = self.place(index)
        return index if place is None and index < self.start + len(self.items) else place


def combined(base: list[Any], mine: list[Any], theirs: Edit, own: Edit) -> list[Any]:
    """`mine` with their edit as well, which doesn't touch `own`. Appended by both: theirs go first."""
    if theirs.empty:
        return mine
    end = len(base)
    if theirs.start == end == own.stop and len(mine) >= end:  # mine appended too, though it changed items as well
        return [*mine[:end], *theirs.items, *mine[end:]]
    moved = 0 if theirs.stop <= own.start else len(mine) - len(base)
    return [*mine[: theirs.start + moved], *theirs.items, *mine[theirs.stop + moved :]]


def _equal_run(a: list[Any], b: list[Any], same: Same) -> int:
    """How many items are the same, from the first on."""
    short = min(len(a), len(b))
    at = 0
    while at + CHUNK <= short and _equal_chunks(a[at : at + CHUNK], b[at : at + CHUNK]):
        at += CHUNK
    while at < short and (quick_same(a[at], b[at]) or same(a[at], b[at])):
        at += 1
    return at


def _equal_chunks(a: list[Any], b: list[Any]) -> bool:
    bytes_of_a = plain_bytes(a)
    return bytes_of_a is not None and bytes_of_a == plain_bytes(b)


def differing(a: list[Any], b: list[Any]) -> list[int]:
    """Where two lists of the same length may differ; quick, and wrong only by naming too many places."""
    places: list[int] = []
    for start in range(0, len(a), CHUNK):
        one, other = a[start : start + CHUNK], b[start : start + CHUNK]
        if len(a) <= CHUNK or not _equal_chunks(one, other):
            places += (start + at for at, pair in enumerate(zip(one, other, strict=True)) if not quick_same(*pair))
    return places


def by_index(base: list[Any], theirs: list[Any], mine: list[Any], mergeable: Callable[[Any, Any, Any], bool]) -> bool:
    """Whether both sides only changed items where they are, and appended."""
    if len(theirs) < len(base) or len(mine) < len(base):
        return False
    count = len(base)
    places = sorted({*differing(base, theirs[:count]), *differing(base, mine[:count])})
    return all(mergeable(base[at], theirs[at], mine[at]) for at in places)


def appended(base: list[Any], now: list[Any]) -> list[Any]:
    """What comes after the items that were there."""
    return now[len(base) :]
