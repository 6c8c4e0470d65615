"""Where the items of a list are after an edit; and two edits of one list, woven into one.

Items are known by their content. Who sorts a list, or takes out the first item and puts another at the end, has left
all others as they were; what is in the place of an item that is gone is what became of it.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import operator
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from mpkernel.namespace.atoms import plain
from mpkernel.namespace.sequences import Edit, differing

# What is equal for items that are the same.
Mark = Callable[[Any], Any]
Item = tuple[int, Any]  # with its index
Traits = list[set[Any]]
Step = tuple[dict[Any, Any], dict[Any, Any] | None]
# Fewer numbers or the like that are in each other's places were written there, not moved. What no more have is rare.
FEW = 3
# Of more items than that, only those that have something rare in common are compared.
MANY = 100
START, END = -1, -2
_NUMBERS = frozenset((int, float, decimal.Decimal, fractions.Fraction, datetime.date, datetime.datetime))
_NONE = 0, -1  # has nothing in common


class Unclear(Exception):
    """It can't be told what became of which item."""


class Place(NamedTuple):
    """Of an item, the indexes in the base, theirs and mine; each None if it isn't there."""

    base: int | None
    theirs: int | None
    mine: int | None


def in_place(base: list[Any], now: list[Any], mark: Mark, own: Mark) -> bool:
    """Whether no item is where another was: items became others where they were, if at all.

    `own` is as `mark`, but without what items refer to: in a graph, all of it may be behind each of them.
    """
    if len(base) != len(now):
        return False
    places = differing(base, now)
    if len(places) < 2:
        return True
    were, are = ([own(items[at]) for at in places] for items in (base, now))
    once = {its for its, times in Counter(were).items() if times == 1}
    once &= {its for its, times in Counter(are).items() if times == 1}
    unknown = []
    for at, was, has in zip(places, were, are, strict=True):
        if was not in once:
            unknown.append(at)
        elif was != has:
            return False
    pairs = [(mark(base[at]), mark(now[at])) for at in unknown]
    changed = [(was, has) for was, has in pairs if was != has]
    return {was for was, _ in changed}.isdisjoint(has for _, has in changed)


@dataclass(slots=True)
class Alignment:
    """`places` tells, by index of the base, where an item is now; what isn't in it was taken out.

    `new` are indexes of items that were put in. `changed` are those of the base that were taken out or became something
    else, `rewritten` stretches of the base that were replaced by another number of items.
    """

    places: dict[int, int]
    new: list[int] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)
    rewritten: list[range] = field(default_factory=list)
    moved: bool = False

    @classmethod
    def of(cls, base: list[Any], edit: Edit, mark: Mark) -> Self | None:
        """None if two of the items that the edit is about have the same content. May raise Unclear."""
        span, items = range(edit.start, edit.stop), edit.items
        were = {mark(base[at]): at for at in span}
        are = {mark(item): at for at, item in enumerate(items, edit.start)}
        if len(were) < len(span) or len(are) < len(items):
            return None
        found = {at: are[its] for its, at in were.items() if its in are}
        if edit.in_place and 0 < len(found) < len(span) and _counted_on(base[edit.start : edit.stop], items, mark):
            found = {}
        shift = len(items) - len(span)
        self = cls({at: at if at < edit.start else at + shift for at in range(len(base)) if at not in span} | found)
        self.moved = list(found.values()) != sorted(found.values())
        if not self.moved:
            gaps = list(_gaps(edit, found))
        else:
            if edit.in_place and len(span) < FEW and plain(items):
                return None
            gone, new = [at for at in span if at not in found], sorted(set(are.values()).difference(found.values()))
            gaps = [
                (gone, _matched([(at, base[at]) for at in gone], [(at, items[at - edit.start]) for at in new], mark))
            ]
        for gone, new in gaps:
            self.changed.update(gone)
            if gone and new and len(gone) != len(new):
                traits = [_traits(base[at], mark) for at in gone], [_traits(items[at - edit.start], mark) for at in new]
                self._replaced(gone, new, traits, at_end=gone[-1] == len(base) - 1)
            else:
                self.places.update(zip(gone, new, strict=False))
                self.new += [] if gone else new
        return self

    def _replaced(self, gone: list[int], new: list[int], traits: tuple[Traits, Traits], *, at_end: bool) -> None:
        """In one place, what is gone and what is new, in other numbers."""
        alike = dict(_alike(*traits))
        if at_end and len(gone) < len(new):  # perhaps the last ones were appended
            likely = sum(not its.isdisjoint(theirs) for its, theirs in zip(*traits, strict=False))
            alike = alike if len(alike) > likely else dict(enumerate(range(len(gone))))
        self.places |= {gone[which]: new[other] for which, other in alike.items()}
        self.new += [at for which, at in enumerate(new) if which not in alike.values()]
        if len(alike) < min(len(gone), len(new)):
            self.rewritten.append(range(gone[0], gone[-1] + 1))

    def after(self, kept: Container[int]) -> dict[int, list[int]]:
        """In the order of the list: for each of the `kept` items of the base, and START, what was put in behind it.

        What is behind all of them is for END.
        """
        at_place = {place: at for at, place in self.places.items()}
        found: dict[int, list[int]] = {START: []}
        last = START
        for place in sorted([*at_place, *self.new]):
            if (at := at_place.get(place)) is None:
                found[last].append(place)
            elif at in kept:
                found[last := at] = []
        found[END], found[last] = found[last], []
        return found


def _counted_on(base: list[Any], now: list[Any], mark: Mark) -> bool:
    """Whether to each item, or to something in each, the same was added, or all were multiplied by the same.

    Numbers in a row look as if they were in each other's places then. Lists of which nothing is left are other ones.
    """
    added, times = True, True
    steps: list[Step] = []
    for was, has in zip(base, now, strict=True):
        if (step := _step(was, has, mark)) is None:
            return False
        steps.append(step)
        added &= step[0] == steps[0][0]
        times &= step[1] == steps[0][1] is not None
        if not (added or times):
            return False
    return True


def _step(was: Any, has: Any, mark: Mark) -> Step | None:
    """By place in an item, what may have been added there, and by what that may have been multiplied."""
    if type(was) is not type(has):
        return None
    before, after = ({0: item} if type(item) in _NUMBERS else _places(item) for item in (was, has))
    if before.keys() != after.keys():
        return None
    changed = {at: (before[at], after[at]) for at in before if mark(before[at]) != mark(after[at])}
    if not changed or (type(was) in (list, tuple) and len(changed) == len(before)):
        return None
    if not all(type(a) is type(b) and type(a) in _NUMBERS for a, b in changed.values()):
        return None
    try:
        added = {at: _rounded(b - a) for at, (a, b) in changed.items()}
    except (TypeError, ArithmeticError):  # one date has a time zone, the other none; a number that signals
        return None
    try:
        return added, {at: _rounded(b / a) for at, (a, b) in changed.items()}
    except (TypeError, ArithmeticError):  # dates, zero
        return added, None


def _rounded(value: Any) -> Any:
    return float(f"{value:.9g}") if type(value) is float else value


def _gaps(edit: Edit, found: dict[int, int]) -> Iterator[tuple[list[int], list[int]]]:
    """Between items that are still there, the indexes of what is gone and of what is new."""
    start = edit.start, edit.start
    for end in (*found.items(), (edit.stop, edit.start + len(edit.items))):
        yield list(range(start[0], end[0])), list(range(start[1], end[1]))
        start = end[0] + 1, end[1] + 1


def _alike(gone: Traits, new: Traits) -> Iterator[tuple[int, int]]:
    """Which have something in common with which of the new ones, in the same order."""
    start, likely = 0, _likely(new)
    for which, its in enumerate(gone):
        common, other = max(((len(its & new[at]), -at) for at in likely(its) if at >= start), default=(0, 0))
        if common:
            yield which, -other
            start = 1 - other


def _matched(gone: list[Item], new: list[Item], mark: Mark) -> list[int]:
    """The indexes of the new items, in the order of what they were: each the one with the most in common with that."""
    if not gone or len(gone) == len(new) == 1:
        return [at for at, _ in new]
    if not new:
        return []
    if len(gone) != len(new):
        raise Unclear
    found = counterparts([item for _, item in gone], [item for _, item in new], mark)
    if len(found) < len(gone):
        raise Unclear
    return [new[found[at]][0] for at in range(len(gone))]


def counterparts(gone: list[Any], new: list[Any], mark: Mark) -> dict[int, int]:
    """By their indexes, which of `new` those of `gone` have become: that with the most in common, if any has something.

    Raises Unclear if several may be that, or one is it of several.
    """
    traits = [_traits(item, mark) for item in new]
    likely = _likely(traits)
    found: dict[int, int] = {}
    claims: dict[int, tuple[int, int]] = {}  # by index of the new one: how much it has in common, with which
    for at, item in enumerate(gone):
        its = _traits(item, mark)
        best, second, *_ = *sorted(((len(its & traits[at]), at) for at in likely(its)), reverse=True)[:2], _NONE, _NONE
        common, other = best
        if common and common == second[0]:
            raise Unclear
        if common and (claim := claims.get(other)) is not None:
            if claim[0] == common:
                raise Unclear
            if claim[0] > common:
                continue
            del found[claim[1]]
        if common:
            found[at], claims[other] = other, (common, at)
    return found


def _likely(new: Traits) -> Callable[[set[Any]], Iterable[int]]:
    """A function that tells which of `new` may have much in common with something that has certain traits.

    All, if these are not too many to compare each with each; else those that have a trait that few have.
    """
    if len(new) <= MANY:
        return lambda _: range(len(new))
    having: dict[Any, list[int]] = {}
    for at, its in enumerate(new):
        for trait in its:
            having.setdefault(trait, []).append(at)
    return lambda its: {at for trait in its if len(few := having.get(trait, [])) <= FEW for at in few}


def _traits(item: Any, mark: Mark) -> set[Any]:
    """What it may have in common with another."""
    if type(item) in (list, tuple):
        return {(at, mark(value)) for at, value in enumerate(item)}
    return {(mark(name), mark(value)) for name, value in _places(item).items()}


def _places(item: Any) -> dict[Any, Any]:
    """What is in it, by where that is. No code of a user's class is run."""
    if type(item) in (list, tuple):
        return dict(enumerate(item))
    if type(item) is dict:
        return item
    try:
        names: dict[Any, Any] = object.__getattribute__(item, "__dict__")
    except AttributeError:
        return {}
    return names


def in_order(base: list[Any], theirs: list[Any], mine: list[Any]) -> list[Any]:
    """All of `theirs` and `mine`, which are keys or the like, in the order that both edits give."""
    count = len(base)
    if mine[:count] == base and (len(mine) == count or theirs[:count] == base):  # mostly
        return list(dict.fromkeys((*theirs, *mine)))
    either = dict.fromkeys((*mine, *theirs))
    if theirs == base:
        return list(either)
    there, here = (Alignment.of(base, Edit.between(base, now, operator.eq), lambda key: key) for now in (theirs, mine))
    if there is None or here is None:
        return list(either)
    try:
        places, _ = woven(there, here)
    except Unclear:
        return list(either)
    sides = (((theirs, place.theirs), (mine, place.mine)) for place in places)
    found = (keys[at] for both in sides for keys, at in both if at is not None)
    return list(dict.fromkeys((*found, *either)))


def woven(theirs: Alignment, mine: Alignment) -> tuple[list[Place], bool]:
    """The list with both edits, and whether both moved items, in different ways; then mine counts.

    What both put into one place: theirs goes first. Raises Unclear if one has rewritten, or taken out, what the other
    changed.
    """
    for one, other in ((theirs, mine), (mine, theirs)):
        if other.changed & (other.places.keys() - one.places.keys()):
            raise Unclear
        inside = other.after(other.places)
        for stretch in one.rewritten:
            if other.moved or not other.changed.isdisjoint(stretch) or any(inside.get(at) for at in stretch[:-1]):
                raise Unclear
    kept = theirs.places.keys() & mine.places.keys()
    there, here = theirs.after(kept), mine.after(kept)
    order = there if theirs.moved and not mine.moved else here
    result: list[Place] = []
    for at in order:
        if at >= 0:
            result.append(Place(at, theirs.places[at], mine.places[at]))
        result += [Place(None, place, None) for place in there[at]]
        result += [Place(None, None, place) for place in here[at]]
    return result, theirs.moved and mine.moved and list(there) != list(here)
