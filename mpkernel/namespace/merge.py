"""Two subshells changed the same names at once: what each name is to have, and where only one of them could win.

The walk goes over three graphs that were each loaded from a pickle, so that they compare on equal terms: the *base*
that both started from, *theirs*, and a frozen copy of *mine*. It makes of the frozen copy the merged graph, which is
then grafted onto the live objects. What only one side changed is taken from it, down to keys, elements and attributes.
Where both changed the same thing, mine wins, since I commit later; its path is a *conflict*.
"""

from __future__ import annotations

import copy
import functools
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace
from enum import Enum
from types import FunctionType
from typing import Any

from mpkernel.namespace import behind, science
from mpkernel.namespace.alignment import Alignment, Unclear, in_order, in_place, woven
from mpkernel.namespace.anatomy import Kind, Way
from mpkernel.namespace.atoms import ATOMS, plain
from mpkernel.namespace.belonging import Belonging
from mpkernel.namespace.frames import merge_managers
from mpkernel.namespace.graft import Graft
from mpkernel.namespace.keys import Entry, Keys, Matched
from mpkernel.namespace.naming import Names, Naming, Side
from mpkernel.namespace.parts import MISSING, Bytes, Elements, Entries, Items, Named, Part, QueueItems, Value
from mpkernel.namespace.same import Dumps, default_dumps, mark, may_stem, quick_same, same
from mpkernel.namespace.sequences import Edit, appended, by_index, combined, differing
from mpkernel.namespace.survey import BULK, Survey

# So many paths are told; the names that they begin with all are.
MAX_CONFLICTS = 20
# What is nested deeper has its turn when the rest is done; what can't be changed in place is taken as a whole there.
MAX_DEPTH = 100
MAX_KEY = 60
# Of these, another object with the same content can be made without running any code of the user's.
TWINS = (list, dict, set, bytearray, deque, defaultdict, OrderedDict, Counter)


class Deleted(Enum):
    """Stands for the value of a name that is to be deleted."""

    DELETED = "deleted"


DELETED = Deleted.DELETED


@dataclass(frozen=True, slots=True)
class Merged:
    """What each name is to have, or `DELETED`; and the paths where both sides had changed something, if not too many.

    `overruled` are the names (and other places) of which anything of theirs was; of these, there are all.
    `bound` are names that have another object than theirs, as they were bound to it here, or are bound back to it.
    `given_up` are those that have theirs, though what they had here was changed; that is in another place.
    """

    values: dict[Any, Any]
    conflicts: list[str]
    overruled: set[str]
    bound: set[Any]
    given_up: list[str]


def merge(
    base: dict[Any, Any] | None,
    mine: dict[Any, Any],
    theirs: dict[Any, Any],
    frozen_mine: dict[Any, Any],
    dumps: Dumps = default_dumps,
    keep: Callable[[Any], bool] | None = None,
    *,
    check: bool = False,
    beside: Mapping[Any, Any] | None = None,
    bound: tuple[Set[Any], Set[Any]] = (frozenset(), frozenset()),
    stay: Iterable[tuple[Any, Any]] = (),
) -> Merged:
    """Merge `theirs` into `mine`, whose objects are patched. Besides names, there may be other places: as text, a path.

    A name that a dict doesn't have isn't there, or was deleted, on that side. `base` None: it isn't known, so all that
    differs is a conflict. `dumps` gives the bytes by which objects of unknown kinds are compared, and `keep` is as for
    `mpkernel.namespace.graft.graft`. With `check`, Torn is raised if `mine` has changed since `frozen_mine` was made
    of it. `beside` are names that aren't merged, with values that may be in `mine`. `bound` are names that were bound
    to another object since the base: by them, and here. A name that isn't in the base was. `stay` is as for `graft`.
    """
    grafting = Graft(keep)
    for stub, obj in stay:
        grafting.alias(stub, obj)
    grafting.pair(mine, frozen_mine, copies=True, check=check)
    walk = _Merge(grafting, dumps, beside or {})
    values = walk.names(base, theirs, frozen_mine, bound)
    made = grafting.apply({name: value for name, value in values.items() if value is not DELETED})
    values = {name: made.get(name, DELETED) for name in values}
    return Merged(values, walk.conflicts, walk.overruled, walk.bound, walk.given_up)


def name_of(path: str) -> str:
    """The name that a path begins with."""
    return path.split("[")[0].split(".")[0]


class _Merge:
    def __init__(self, grafting: Graft, dumps: Dumps, beside: Mapping[Any, Any]) -> None:
        self._graft = grafting
        self._kinds = grafting.kinds
        self._dumps = dumps
        self._named: dict[int, tuple[Any, Any]] = {}  # by the id of mine, which is the value of a name: base and theirs
        self._sides: tuple[dict[Any, Any], ...] = ({}, {}, {})  # the base, theirs and mine
        self._sharing: dict[Side, set[int]] = {}  # ids of arrays that have their memory in common with others
        self._naming = Naming(self._kinds, ({}, {}, {}), (set(), set()))
        self._beside = Names(self._kinds, beside)
        self._twins: dict[Any, Any] = {}  # by name: another object, with the content that mine had at first
        self._done: dict[int, tuple[Any, Any]] = {}  # by the id of mine: what was merged with it
        self._one: dict[int, int] = {}  # by the id of one of the three that were merged: that of mine
        self._keys = Keys(self._kinds, dumps, self._known_key, self._mark)
        self._belonging = Belonging(self._kinds, self._keys.is_one, *self._sides)
        self._later: deque[tuple[str, Callable[[], Any]]] = deque()  # paths, and what is to be done there
        self._rebuilds: dict[tuple[int, int, int], Any] = {}
        self._overruled: set[int] = set()  # ids of theirs
        self._arrays: dict[int, Any] = {}  # that were merged: mine, by the id of theirs
        self._held: list[Any] = []  # so that no id is used twice
        self.conflicts: list[str] = []
        self.overruled: set[str] = set()
        self.bound: set[Any] = set()  # names
        self.given_up: list[str] = []

    def names(
        self,
        base: dict[Any, Any] | None,
        theirs: dict[Any, Any],
        mine: dict[Any, Any],
        bound: tuple[Set[Any], Set[Any]],
    ) -> dict[Any, Any]:
        """What each name is to have."""
        if base is None:
            for name in mine.keys() & theirs.keys():
                if not self.same(mine[name], theirs[name]):
                    self.conflict(str(name))
            return theirs | mine
        self._belonging = Belonging(self._kinds, self._keys.is_one, base, theirs, mine)
        named = self._belonging.names
        self._sides = base | named[0], theirs | named[1], mine | named[2]
        self._naming = Naming(self._kinds, self._sides, bound)
        anew, there, here = map(self._naming.bound, Side)
        undecided = self._naming.undecided
        for name, value in self._sides[Side.MINE].items():
            if name not in undecided:
                self._named.setdefault(id(value), (self._sides[Side.BASE][name], self._sides[Side.THEIRS][name]))
        self._twins = {name: copy.copy(mine[name]) for name in there - here if type(mine.get(name)) in TWINS}
        values: dict[Any, Any] = {}
        for name in self._in_order(dict.fromkeys((*mine, *theirs, *base))):
            if name in undecided:
                self._do_rest()
            three = base.get(name, MISSING), theirs.get(name, MISSING), mine.get(name, MISSING)
            if name not in undecided and self._naming.matters:
                self._naming.same_place(*three)
            try:
                value = self._undecided(name, *three) if name in undecided else self._name(name, *three)
            except Exception:  # hashes of keys, say, are user code
                self.conflict(str(name))
                value = three[1] if three[2] is MISSING else three[2]
            values[name] = DELETED if value is MISSING else value
            if name in anew and value is three[2] and not (name in there and self._graft.stands_for(three[1]) is value):
                self.bound.add(name)
        self._do_rest()
        if self._arrays:
            self._show_merged(theirs)
        return values

    def _do_rest(self) -> None:
        while self._later:
            path, do = self._later.popleft()
            try:
                do()
            except Exception:  # hashes of keys, say, are user code
                self.conflict(path)

    def _in_order(self, names: Iterable[Any]) -> list[Any]:
        """Those that were bound or deleted last; of these, first what may have the others in it."""
        sizes = dict.fromkeys(names, 0)
        undecided = sizes.keys() & self._naming.undecided
        for name in undecided if len(undecided) > 1 else ():
            values = (self._naming.value(name, side) for side in (Side.THEIRS, Side.MINE))
            sizes[name] = -len(self._survey(values).mutable)
        return sorted(sizes, key=lambda name: (name in self._naming.undecided, sizes[name]))

    def _survey(self, values: Iterable[Any]) -> Survey:
        """Of all that these have in them."""
        survey = Survey(self._kinds, None, {}, {}, set())
        survey.walk(values)
        return survey

    def _show_merged(self, theirs: dict[Any, Any]) -> None:
        """What of theirs is a view of an array that was merged is one of the merged array."""
        for group in self._survey(theirs.values()).memories():
            arrays = [node.obj for _, node in group]
            wholes = [array for array in arrays if id(array) in self._arrays]
            for array in arrays:
                if id(array) not in self._arrays and (view := self._view(array, wholes)) is not None:
                    self._graft.alias(array, view)

    def _view(self, array: Any, wholes: list[Any]) -> Any:
        """What `array` of theirs is of the arrays that were merged with `wholes`; None if it is a view of none."""
        for whole in wholes:
            if (view := science.view_of_other(array, whole, self._arrays[id(whole)])) is not None:
                return view
        return None

    def _name(self, name: Any, base: Any, theirs: Any, mine: Any) -> Any:
        """The merged value of a name: both sides have what became of that of the base, or it was replaced."""
        value = self.entry(base, theirs, mine, str(name), depth=0 if isinstance(name, str) else 1)
        if type(theirs) is type(mine) and self._naming.of(theirs, Side.THEIRS):  # what refers to the other, will to it
            if value is mine:
                self._graft.alias(theirs, mine)
            elif value is theirs and self._naming.of(mine, Side.MINE) == {name}:
                self._graft.alias(mine, theirs)
        return value

    def _undecided(self, name: Any, base: Any, theirs: Any, mine: Any) -> Any:
        """The same if a side has deleted it, or bound it to another object, which may be one that is elsewhere, too."""
        there, here = (name in self._naming.bound(side) for side in (Side.THEIRS, Side.MINE))
        if theirs is MISSING or mine is MISSING:
            unwanted = not (there or here) and self._is_elsewhere(base, Side.BASE)  # and so what was made of it
            return MISSING if unwanted else self._name(name, base, theirs, mine)
        stands_for = self._graft.stands_for(theirs)
        known = (
            there and (stands_for is not theirs or self._is_elsewhere(theirs, Side.THEIRS)),
            here and self._is_elsewhere(mine, Side.MINE),
        )
        if stands_for is mine:
            lost = id(theirs) in self._overruled
        elif there and here:
            if not any(known) and all(may_stem(now, base, self._dumps, self._kinds) for now in (theirs, mine)):
                return self._name(name, base, theirs, mine)
            lost = not all(known) and not self.same(theirs, mine)
        else:
            elsewhere = self._is_elsewhere(base, Side.BASE)  # so that what the other side made of it is there
            if not any(known) and not elsewhere:
                return self._name(name, base, theirs, mine)
            new, is_array = mine if here else theirs, self._kinds.of(type(base)).memory is not None
            if not (any(known) or is_array) and may_stem(new, base, self._dumps, self._kinds):
                return self._name(name, base, theirs, mine if here else self._twins.get(name, mine))
            changed = not (self.same(base, theirs) if here else self.left_alone(base, mine))
            seems_lost = changed and science.has_labels_of(new, base)  # as it isn't in the new table
            lost = seems_lost and here if elsewhere else changed
            if elsewhere and seems_lost and there:
                self.given_up.append(name)
        if lost:
            self.conflict(str(name))
        return mine if here or lost else theirs

    def _is_elsewhere(self, obj: Any, side: Side) -> bool:
        """Whether the value of a name is in another place, too, or is an array on the memory of another."""
        if self._naming.is_old(obj) or self._kinds.of(type(obj)).memory is None:
            return self._naming.is_old(obj)
        if side not in self._sharing:
            memories = self._survey(self._sides[side].values()).memories()
            groups = ({id(node.obj) for _, node in group} for group in memories)
            self._sharing[side] = {key for group in groups if len(group) > 1 for key in group}
        return id(obj) in self._sharing[side]

    def same(self, a: Any, b: Any) -> bool:
        """Whether two loaded objects say the same."""
        return same(a, b, self._dumps, self._kinds)

    def left_alone(self, base: Any, mine: Any) -> bool:
        """Whether mine says the same as the base, or did before a part of it was merged on another path."""
        return self.same(base, mine) or (
            bool(self._done) and (live := self._graft.partner(mine)) is not None and self.same(base, live)
        )

    def conflict(self, path: str) -> None:
        """Both sides changed what is there."""
        self.overruled.add(name_of(path))
        if len(self.conflicts) < MAX_CONFLICTS and path not in self.conflicts:
            self.conflicts.append(path)

    # --- one value ----------------------------------------------------------------------------------------------------

    def entry(self, base: Any, theirs: Any, mine: Any, path: str, depth: int = 0) -> Any:
        """The merged value of a name, key or attribute; any of the three may be missing."""
        if theirs is MISSING and mine is MISSING:
            return MISSING
        if mine is MISSING or theirs is MISSING:
            other, unchanged = (theirs, self.same) if mine is MISSING else (mine, self.left_alone)
            if base is MISSING:
                return other
            # Deleted by one; left alone by the other, or elsewhere, too, where that has changed it.
            elsewhere = self._belonging.lives_on(base, other, Side.MINE if mine is MISSING else Side.THEIRS)
            return MISSING if elsewhere or unchanged(base, other) else other
        return self.value(base, theirs, mine, path, depth)

    def value(self, base: Any, theirs: Any, mine: Any, path: str, depth: int) -> Any:
        """The merged value of something that both sides have."""
        if (named := self._named.get(id(mine))) is not None and named[1] is theirs:
            base = named[0]  # though it may not have been here in the base: both sides have put it here
        if theirs is mine or quick_same(base, theirs):
            return mine
        if depth and base is not MISSING and (moved := self._moved(base, theirs, mine, path)) is not MISSING:
            return moved
        if self._naming.matters and depth:
            self._naming.same_place(base, theirs, mine)
        if (known := self._done.get(id(mine))) is not None:
            return mine if known[1] is theirs else self._again(known[0] is base, base, theirs, mine, path)
        kind = self._kinds.of(type(mine))
        if type(base) is type(theirs) is type(mine) and self._has_parts(kind, base, theirs, mine):
            if kind.frozen is None:
                return self._object(kind, base, theirs, mine, path, depth)
            if depth < MAX_DEPTH:
                return self._other(kind, base, theirs, mine, path, depth)
        value = self.leaf(base, theirs, mine, path)
        if self._naming.matters and type(base) is type(theirs) is type(mine) and kind.way is Way.OPAQUE:
            self._graft.alias(theirs if value is mine else mine, value)  # names may have been bound to either
        return value

    def _left_there(self, base: Any, theirs: Any) -> bool:
        same = self._alike(base, theirs) or self.same(base, theirs)
        return same and not self._has_moved(base, theirs, Side.THEIRS)

    def _left_here(self, base: Any, mine: Any) -> bool:
        same = self._alike(base, mine) or self.left_alone(base, mine)
        return same and not self._has_moved(base, mine, Side.MINE)

    def _moved(self, base: Any, theirs: Any, mine: Any, path: str) -> Any:
        """If a side has put here what is the value of another name, what is to be here; else MISSING.

        What became of that which was here before, if it has a name, is merged under that.
        """
        they, i_did = self._has_moved(base, theirs, Side.THEIRS), self._has_moved(base, mine, Side.MINE)
        if not (they or i_did):
            return MISSING
        if they and i_did:
            there, here = self._naming.bound(Side.THEIRS), self._naming.bound(Side.MINE)
            both = self._naming.of(theirs, Side.THEIRS) & self._names_of(mine, Side.MINE)
            if any((name in there) == (name in here) for name in both):
                return MISSING
        were = self._naming.of(base, Side.BASE) - self._naming.bound(Side.BASE)
        if they and not i_did and (were or self.left_alone(base, mine)):
            return theirs
        if they or not (were or self.same(base, theirs)):
            self.conflict(path)
        return mine

    def _names_of(self, obj: Any, side: Side) -> Set[str]:
        names = self._naming.of(obj, side)
        return self._beside.of(self._graft.partner(obj)) if side is Side.MINE and not names else names

    def _has_moved(self, base: Any, now: Any, side: Side) -> bool:
        """Whether `now` isn't what became of `base`, but of something else, as names tell that nobody has bound."""
        bound = self._naming.bound(side)
        values = [self._naming.value(name, side) for name in self._naming.of(base, Side.BASE) - bound]
        if became := [value for value in values if value is not MISSING]:
            return all(value is not now for value in became)
        return any(name in self._sides[Side.BASE] for name in self._names_of(now, side) - bound)

    def _again(self, split: bool, base: Any, theirs: Any, mine: Any, path: str) -> Any:
        """Mine is one object on two paths, with which one of theirs is merged already, but here they have another.

        If it was one object in the base, they made two of it (`split`); else I made one of two.
        """
        live = self._graft.partner(mine)  # as mine was before
        if split and live is not None and self.same(base, live):
            return theirs
        if not ((not split and self.same(base, theirs)) or self.same(theirs, mine)):
            self._overruled.add(id(theirs))
            self.conflict(path)
        return mine

    def leaf(self, base: Any, theirs: Any, mine: Any, path: str) -> Any:
        """One of the two sides, as a whole."""
        if base is not MISSING and self.same(base, theirs):
            return mine
        if base is not MISSING and self.left_alone(base, mine):
            return theirs
        if not self.same(theirs, mine):
            self.conflict(path)
        return mine

    def _has_parts(self, kind: Kind, base: Any, theirs: Any, mine: Any) -> bool:
        if kind.way not in (Way.PATCH, Way.REBUILD) or (kind.atom is not None and kind.atom(mine)):
            return False
        return kind.fits(base, theirs) and kind.fits(base, mine) and kind.fits(mine, theirs)

    def _other(self, kind: Kind, base: Any, theirs: Any, mine: Any, path: str, depth: int) -> Any:
        """What can't be changed in place: another one is made."""
        self._held += (base, theirs, mine)
        key = (id(base), id(theirs), id(mine))  # all three: there is only one empty tuple
        if key not in self._rebuilds:
            made = self._rebuilds[key] = self._rebuilt(kind, base, theirs, mine, path, depth)
            if kind.parts:
                self._give_attributes(kind, base, theirs, mine, made, path, depth)
        return self._rebuilds[key]

    def _object(self, kind: Kind, base: Any, theirs: Any, mine: Any, path: str, depth: int) -> Any:
        self._held += (base, theirs, mine)
        self._done[id(mine)] = (base, theirs)
        for obj in (base, theirs, mine):
            self._one.setdefault(id(obj), id(mine))
        self._graft.alias(theirs, mine)
        if depth < MAX_DEPTH:
            self._fill(kind, base, theirs, mine, path, depth)
        else:
            self._later.append((path, functools.partial(self._fill, kind, base, theirs, mine, path, 1)))
        return mine

    def _fill(self, kind: Kind, base: Any, theirs: Any, mine: Any, path: str, depth: int) -> None:
        changed = False
        for part in kind.parts:
            changed |= self._part(part, base, theirs, mine, path, depth)
        for name, cells in self._links(kind, base, theirs, mine):
            self.value(cells[0], cells[1], cells[2], f"{path}.<closure>.{name}", depth + 1)
        if changed and kind.by_value:
            self._graft.unpair(mine)

    def _links(self, kind: Kind, base: Any, theirs: Any, mine: Any) -> Iterable[tuple[str, tuple[Any, Any, Any]]]:
        parts = list(zip(kind.links(base), kind.links(theirs), kind.links(mine), strict=False))
        is_function = isinstance(mine, FunctionType)
        names = list(behind.closure(mine)) if is_function else [str(index) for index in range(len(parts))]
        return zip(names, parts, strict=True)

    def _give_attributes(self, kind: Kind, base: Any, theirs: Any, mine: Any, made: Any, path: str, depth: int) -> None:
        """Those that a tuple or the like may have."""
        for obj in (theirs, mine):
            self._graft.alias(obj, made)
        for part in kind.parts:
            self._part(part, base, theirs, mine, path, depth)
            if made is not mine:
                part.write(made, part.read(mine))

    def _rebuilt(self, kind: Kind, base: Any, theirs: Any, mine: Any, path: str, depth: int) -> Any:
        part, make = kind.frozen, kind.make
        assert part is not None
        assert make is not None
        contents = part.read(base), part.read(theirs), part.read(mine)
        if isinstance(part, Elements):
            fresh = self._set(*contents, path, depth)
        elif len({len(content) for content in contents}) == 1:
            names = getattr(type(mine), "_fields", None)
            paths = [f"{path}.{name}" for name in names] if names else [f"{path}[{i}]" for i in range(len(contents[0]))]
            if isinstance(part, Value):
                paths = [path] * len(paths)
            places = zip(*contents, paths, strict=True)
            fresh = [self.value(b, t, m, where, depth + 1) for b, t, m, where in places]
        else:
            return self.leaf(base, theirs, mine, path)
        if len(fresh) == len(contents[2]) and all(a is b for a, b in zip(fresh, contents[2], strict=True)):
            return mine
        return make(mine, fresh)

    # --- parts --------------------------------------------------------------------------------------------------------

    def _part(
        self, part: Part, base: Any, theirs: Any, mine: Any, path: str, depth: int, *, at_last: bool = False
    ) -> bool:
        """Merge one part into `mine`; whether that changed it, or may do so later.

        Keys that aren't known by what they are wait for other places, where their index or name tells which they are.
        """
        contents = part.read(base), part.read(theirs), part.read(mine)
        if isinstance(part, (Entries, Elements)) and not (
            at_last or isinstance(part, Named) or all(map(plain, contents))
        ):
            again = functools.partial(self._part, part, base, theirs, mine, path, 1, at_last=True)
            self._later.append((path, again))
            return True
        fresh: Any
        if isinstance(part, science.Frame):
            fresh = self._frame(base, theirs, mine, contents, path, depth)
        elif isinstance(part, Entries):
            fresh = self._entries(*contents, path, depth, named=isinstance(part, Named))
        elif isinstance(part, Elements):
            fresh = self._set(*contents, path, depth)
        elif (arrays := [science.array_of(part, content) for content in contents])[2] is not None:
            if science.merge_arrays(*arrays):
                self.conflict(path)
            self._arrays[id(theirs)] = mine
            return True
        elif isinstance(part, Items):
            fresh = self._items(*contents, path, depth)
            if isinstance(part, QueueItems):
                fresh = self._cut(contents[0], fresh, mine.maxlen)
        elif isinstance(part, science.Elementwise):
            fresh = [
                self.value(*three, f"{path}[{i}]", depth + 1) for i, three in enumerate(zip(*contents, strict=True))
            ]
        elif isinstance(part, Bytes):
            fresh = self._bytes(*contents, path)
        else:
            fresh = self.leaf(*contents, path)
        if fresh is contents[2] or fresh is None:
            return False
        part.write(mine, fresh)
        return True

    def _entries(
        self, base: dict[Any, Any], theirs: dict[Any, Any], mine: dict[Any, Any], path: str, depth: int, *, named: bool
    ) -> dict[Any, Any]:
        try:
            b, t, m, _ = self._by_key((base.items(), theirs.items(), mine.items()), path, depth, is_set=False)
        except Unclear:
            self.conflict(path)
            return mine
        order = in_order(list(b), list(t), list(m))
        nothing = (None, MISSING)
        fresh: dict[Any, Any] = {}
        count = 0
        for key in order:
            mine_key, mine_value = m.get(key, nothing)
            their_key, their_value = t.get(key, nothing)
            base_value = b.get(key, nothing)[1]
            if mine_value is not MISSING and quick_same(base_value, their_value) and type(mine_key) in ATOMS:
                fresh[mine_key] = mine_value
                count += 1
                continue
            where = _attribute(path, key) if named else f"{path}[{_shown(mine_key if key in m else their_key)}]"
            value = self.entry(base_value, their_value, mine_value, where, depth + 1)
            if value is MISSING:
                continue
            if key in m and key in t:
                self._same_key(their_key, mine_key)
            fresh[mine_key if key in m else their_key] = value
            count += 1
        if len(fresh) < count:
            self.conflict(path)
        return fresh

    def _frame(
        self, base: Any, theirs: Any, mine: Any, contents: tuple[dict[Any, Any], ...], path: str, depth: int
    ) -> dict[Any, Any]:
        try:
            manager = merge_managers(self, base, theirs, mine, path)
        except Exception:  # of all that may be in a DataFrame something is beyond this
            manager = mine._mgr
            self.conflict(path)
        b, t, m = ({name: value for name, value in content.items() if name != "_mgr"} for content in contents)
        return {"_mgr": manager, **self._entries(b, t, m, path, depth, named=True)}

    def _same_key(self, theirs: Any, mine: Any) -> None:
        if theirs is not mine and self._kinds.of(type(mine)).way is Way.PATCH:
            self._held += (theirs, mine)
            self._graft.alias(theirs, mine)

    def _by_key(self, contents: tuple[Iterable[Entry], ...], path: str, depth: int, *, is_set: bool) -> Matched:
        """Keys that both have are merged. May raise Unclear."""
        matched = self._keys.matched(contents, is_set=is_set)
        base, theirs, mine, changeable = matched
        for known in changeable:
            key, value = mine[known]
            merged = self.value(base[known][0], theirs[known][0], key, f"{path}[{_shown(key)}]", depth + 1)
            mine[known] = merged, value
        return matched

    def _known_key(self, key: Any) -> Any:
        """What stands for an object that has a name, or was merged on another path."""
        return self._naming.lasting_name(key) or self._one.get(id(key))

    def _set(self, base: list[Any], theirs: list[Any], mine: list[Any], path: str, depth: int) -> list[Any]:
        try:
            contents = tuple(zip(content, content, strict=True) for content in (base, theirs, mine))
            b, t, m, _ = self._by_key(contents, path, depth, is_set=True)
        except Unclear:
            self.conflict(path)
            return mine
        for key in m.keys() & t.keys():
            self._same_key(t[key][0], m[key][0])
        fresh = [m[key][0] for key in m if key in t or key not in b]
        fresh += [t[key][0] for key in t if key not in m and key not in b]
        if not plain(fresh) and len(set(fresh)) < len(fresh):
            self.conflict(path)
        return fresh

    def _items(self, base: list[Any], theirs: list[Any], mine: list[Any], path: str, depth: int) -> list[Any]:
        if all(in_place(base, items, self._mark, self._keys.own_mark) for items in (theirs, mine)):
            return self._by_index(base, theirs, mine, path, depth)
        edits = Edit.between(base, theirs, self._left_there), Edit.between(base, mine, self._left_here)
        start, stop = min(edit.start for edit in edits), max(edit.stop for edit in edits)
        if stop - start > BULK and not edits[0].touches(edits[1]):
            return self._with_equal_items(base, theirs, mine, edits, path, depth)
        try:
            for known_by in (self._near, self._mark) if self._belonging.matters else (self._mark,):
                there, here = (Alignment.of(base[start:stop], edit.behind(start), known_by) for edit in edits)
                if there is not None and here is not None:
                    break
            else:
                return self._with_equal_items(base, theirs, mine, edits, path, depth)
            at_stake = base[start:stop], theirs[start:], mine[start:]
            self._let_go(there, here, at_stake, Side.THEIRS)
            self._let_go(here, there, at_stake, Side.MINE)
            places, differ = woven(there, here)
        except Unclear:
            if edits[1].empty:
                return theirs
            if not edits[0].empty and not self.same(theirs, mine):
                self.conflict(path)
            return mine
        if differ:
            self.conflict(path)
        behind = len(base) - stop
        ends = len(theirs) - behind, len(mine) - behind
        changed = there.changed | here.changed
        fresh = self._by_index(base[:start], theirs[:start], mine[:start], path, depth)
        for at, their_place, my_place in places:
            them = MISSING if their_place is None else theirs[start + their_place]
            item = them if my_place is None else mine[start + my_place]
            if at is not None and (self._naming.matters or self._belonging.matters or at in changed):
                item = self.value(base[start + at], them, item, f"{path}[{start + at}]", depth + 1)
            elif at is not None:
                self._same_key(them, item)
            fresh.append(item)
        return fresh + self._by_index(base[stop:], theirs[ends[0] :], mine[ends[1] :], path, depth)

    def _let_go(self, one: Alignment, other: Alignment, items: tuple[list[Any], ...], side: Side) -> None:
        """What `one`, of that `side`, has taken out is no change of `other`'s here if it is in other places, too."""
        now = items[Side.MINE if side is Side.THEIRS else Side.THEIRS]
        gone = other.changed & (other.places.keys() - one.places.keys())
        lives_on = self._belonging.lives_on
        other.changed -= {at for at in gone if lives_on(items[Side.BASE][at], now[other.places[at]], side)}

    def _cut(self, base: list[Any], fresh: list[Any], most: int | None) -> list[Any]:
        """What there is room for in a deque: what both have put in at the left has driven out the last ones."""
        if most is None or len(fresh) <= most or not base:
            return fresh
        left = set(map(self._mark, fresh))
        from_right = self._mark(base[0]) in left and self._mark(base[-1]) not in left
        return fresh[:most] if from_right else fresh[len(fresh) - most :]

    def _with_equal_items(
        self,
        base: list[Any],
        theirs: list[Any],
        mine: list[Any],
        edits: tuple[Edit, Edit],
        path: str,
        depth: int,
    ) -> list[Any]:
        """Content doesn't tell where an item is: it counts as being where it was, unless a stretch was replaced."""
        if len(base) == len(theirs) == len(mine):
            return self._by_index(base, theirs, mine, path, depth)
        if not edits[0].touches(edits[1]):
            self._alias_kept(base, theirs, mine, edits)
            return combined(base, mine, self._kept_here(edits, base, mine, path, depth), edits[1])
        if by_index(base, theirs, mine, self._mergeable):
            count = len(base)
            head = self._by_index(base, theirs[:count], mine[:count], path, depth)
            return head + appended(base, theirs) + appended(base, mine)
        if not self.same(theirs, mine):
            self.conflict(path)
        return mine

    def _mark(self, item: Any) -> Any:
        name = self._naming.lasting_name(item)
        return mark(item) if name is None else name

    def _alike(self, base: Any, now: Any) -> bool:
        """Whether two instances are the same, but for what others refer to as well."""
        may_be = self._belonging.matters and self._keys.is_one(base) and type(base) is type(now)
        return may_be and bool(self._near(base) == self._near(now))

    def _near(self, item: Any) -> Any:
        """As `_mark`, but what happens to objects that others refer to as well is no change of the item."""
        name = self._naming.lasting_name(item)
        return self._belonging.mark(item) if name is None else name

    def _by_index(self, base: list[Any], theirs: list[Any], mine: list[Any], path: str, depth: int) -> list[Any]:
        fresh = list(mine)
        for index in self._to_merge(base, theirs, mine):
            three = base[index], theirs[index], mine[index]
            fresh[index] = self.value(*three, f"{path}[{index}]", depth + 1)
        return fresh

    def _to_merge(self, base: list[Any], theirs: list[Any], mine: list[Any]) -> Iterable[int]:
        """Where two lists of the same length may differ, or have what names were bound to."""
        if not self._naming.matters:
            return differing(base, theirs)
        if len(base) <= BULK:
            return range(len(base))
        sides = (theirs, Side.THEIRS), (mine, Side.MINE)
        bound = {at for items, side in sides for at, item in enumerate(items) if self._naming.bound_to(item, side)}
        return sorted(bound.union(differing(base, theirs)))

    def _kept_here(self, edits: tuple[Edit, Edit], base: list[Any], mine: list[Any], path: str, depth: int) -> Edit:
        """Their edit, with my objects where theirs have only got another content."""
        items = list(edits[0].items)
        for at in range(min(len(items), edits[0].stop - edits[0].start)):
            index = edits[0].start + at
            if (place := edits[1].place(index)) is not None:
                items[at] = self.value(base[index], items[at], mine[place], f"{path}[{index}]", depth + 1)
        return replace(edits[0], items=items)

    def _alias_kept(self, base: list[Any], theirs: list[Any], mine: list[Any], edits: tuple[Edit, Edit]) -> None:
        """Items that neither side touched are one object from now on."""
        for index in range(0 if plain(base) else len(base)):
            places = [edit.place(index) for edit in edits]
            if places[0] is not None and places[1] is not None:
                self._same_key(theirs[places[0]], mine[places[1]])
            if self._naming.matters:
                sides = zip((theirs, mine), (edit.counterpart(index) for edit in edits), strict=True)
                now = (MISSING if place is None else items[place] for items, place in sides)
                self._naming.same_place(base[index], *now)

    def _mergeable(self, base: Any, theirs: Any, mine: Any) -> bool:
        kind = self._kinds.of(type(mine))
        if type(base) is type(theirs) is type(mine) and self._has_parts(kind, base, theirs, mine):
            return True
        return self.same(base, theirs) or self.left_alone(base, mine)

    def _bytes(self, base: Any, theirs: Any, mine: Any, path: str) -> Any:
        if theirs in (base, mine):
            return mine
        if mine == base:
            return theirs
        fresh = self._items(list(base), list(theirs), list(mine), path, 0)
        whole = mine[:0]
        whole.extend(fresh)
        return whole


def _attribute(path: str, name: str) -> str:
    return path if name == "cell_contents" else f"{path}.{name}"


def _shown(key: Any) -> str:
    """A key in a path; no code of a user's class is run for it."""
    text = repr(key) if type(key) in (str, int, float, bool, bytes, type(None)) else _shown_other(key)
    return text if len(text) <= MAX_KEY else text[: MAX_KEY - 1] + "…"


def _shown_other(key: Any) -> str:
    if type(key) is tuple:
        return f"({', '.join(map(_shown, key))})"
    return f"<{type(key).__name__}>"
