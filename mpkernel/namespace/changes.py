"""What a cell changed: names that were rebound or deleted, and values that were mutated in place.

Rebinding is an identity diff against a shallow snapshot. Mutation is found by comparing fingerprints of the values that
the cell could reach (`reach`), or of all if that is cheap. Names whose values share objects form a group: they have one
fingerprint, and are pickled together, so that they go on sharing elsewhere.

What is dear to pickle or to copy isn't: it is *held* here until somebody wants it, or there is nothing else to do.
What came from elsewhere gets its fingerprint only when a cell is about to run that could change it (`prepare`).

What was found counts as known at once. If it could not be told to others after all - a signal handler of the user's
raises, memory runs out - it is to be found again (`take_back`).
"""

from __future__ import annotations

import itertools
import math
import time
import types
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from mpkernel.namespace import weight
from mpkernel.namespace.bindings import Bindings, names_stored
from mpkernel.namespace.buffers import Patch, WatchedBuffers
from mpkernel.namespace.definitions import made_by_hand
from mpkernel.namespace.layout import Sent
from mpkernel.namespace.pages import WATCHED, PageTracker
from mpkernel.namespace.pickling import Pickled, Pickling
from mpkernel.namespace.reach import reached
from mpkernel.namespace.segments import Opened, Range
from mpkernel.namespace.weight import UNLIMITED, Allowance, TooDear

# Check every value if that is expected to take no longer than this (seconds).
CHECK_ALL_BUDGET = 0.0002
# From so many seconds on it matters whether there is time to check a value.
DEAR = 0.002
# Seconds that were not enough for a value: if twice as many are allowed it is tried again.
MIN_TRIED, MAX_TRIED = 0.001, 0.1

# How fingerprints begin of groups in which an object of another one is now.
_JOINED = b"joined "
_MISSING = object()
_ATOMS = frozenset((int, float, complex, str, bytes, bool, type(None), type(Ellipsis), range))


def _is_too_long(seconds: float, allowance: Allowance, times: int = 1) -> bool:
    """Whether there is no time for something that took `seconds`; for small values there always is."""
    return seconds >= MIN_TRIED and times * seconds > allowance.left


def _is_atom(value: Any) -> bool:
    return type(value) in _ATOMS or (issubclass(type(value), types.ModuleType) and not made_by_hand(value))


@dataclass(slots=True, eq=False)
class Group:
    """Names whose values share objects.

    `shared`: ids of the objects when last looked at. `known`: there is a fingerprint. `held`: others know that there is
    a new value, and have none.
    """

    names: set[str]
    shared: set[int]
    digest: bytes | None = None
    buffers: WatchedBuffers | None = None  # if there are large ones
    seconds: float = 0.0  # that it takes to look at it
    known: bool = True
    held: bool = False
    kept: bool = False  # it isn't to be copied unless somebody asks
    tried: float = 0.0  # so many seconds were not enough to pickle it
    uses: frozenset[str] = frozenset()  # ids of functions and classes
    opaque: bool = False  # it may use more: a part of it can't be pickled, or was too dear to pickle

    @property
    def waits_for_copy(self) -> bool:
        """Whether it is large, and only here."""
        return self.held and not self.kept and not self.tried


@dataclass(slots=True)
class Changes:
    """What `Tracker.collect` found.

    Groups that changed, with their pickles; groups of which only parts of large buffers changed; groups that are held
    here; names that were deleted.
    """

    changed: list[tuple[list[str], Pickled]] = field(default_factory=list)
    patched: list[Patch] = field(default_factory=list)
    held: list[list[str]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    rebound: set[str] = field(default_factory=set)  # of the names in all these: those that count as bound anew
    bound: set[str] = field(default_factory=set)  # of these: those that code has bound to another object

    @property
    def names(self) -> set[str]:
        """All that changed, but for those that were deleted."""
        groups = [names for names, _ in self.changed] + [patch.names for patch in self.patched] + self.held
        return {name for names in groups for name in names}


class Tracker:
    """Watches one namespace, an exact dict. Not for two threads at once.

    `named` tells, by package, which variables its code can change.
    """

    def __init__(
        self,
        namespace: dict[Any, Any],
        pickling: Pickling,
        named: Callable[[], Mapping[str, Collection[str]]] = dict,
    ) -> None:
        self._named = named
        self._namespace = namespace  # user code may put in keys that are no names
        self._pickling = pickling
        self._bindings = Bindings(namespace)
        self._base = self._bindings.known
        self._groups: dict[str, Group] = {}  # names of atoms have none
        self._group_of: dict[int, Group] = {}  # by object
        self._seconds = 0.0  # what it takes to check all groups
        self._unknown: set[Group] = set()  # groups without a fingerprint that need one before a cell changes them
        self._unchecked: set[Group] = set()  # code has run since they were checked
        self._tried: set[Group] = set()  # groups that are held as there was too little time
        self._to_regroup: set[str] = set()  # names that may share objects with others, as is found out later
        self._ran: list[types.CodeType] = []
        self._pages = PageTracker()
        self._joins = itertools.count()
        self._untold: dict[str, bool] = {}  # names that have changed, since `told`: whether code bound them
        self._untold_deleted: set[str] = set()
        self._left: set[str] = set()  # names that aren't looked at
        self._torn: set[str] = set()  # names that shared objects with one that was let go
        self._not_bound: dict[str, Any] = {}  # values of names that count as new, though code has not bound them
        self._sent: dict[str, Sent] = {}  # as what others know large values that have no fingerprint here yet

    # --- what is known ------------------------------------------------------------------------------------------------

    def rebase(self) -> None:
        """Take the namespace as it is for unchanged."""
        self.forget(list(self._base))
        _, changed = self._bindings.look()
        self._regroup([name for name, value in changed.items() if not _is_atom(value)], Changes())
        self._unchecked.clear()

    def told(self) -> None:
        """Others know of all that was found so far."""
        self._untold.clear()
        self._untold_deleted.clear()

    def take_back(self) -> None:
        """They don't, and won't: it counts as new."""
        self._not_bound = {n: self._base[n] for n, bound in self._untold.items() if not bound and n in self._base}
        self.forget(self._untold)
        self._bindings.bring_back(self._untold_deleted)
        self.told()

    def ran(self, code: types.CodeType) -> None:
        """Note that `code` was run at top level."""
        self._ran.append(code)

    def mentioned(self, code: types.CodeType) -> bool:
        """Whether `code` itself uses any name that is known."""
        return not self._base.keys().isdisjoint(code.co_names)

    def lend(self, code: types.CodeType) -> None:
        """Before `code` is run at top level: have no reference to what it uses, until `settle`."""
        self.settle()
        base, used = self._base, set()
        for name in code.co_names:
            if name in base and not _is_atom(value := base[name]):
                group = self._groups.get(name)
                used |= {name} if group is None else {other for other in group.names if base[other] is value}
        if used:
            self._bindings.lend(used - names_stored(code))

    def settle(self) -> None:
        """Before anything else that is done here while code runs."""
        if gone := self._bindings.settle():
            self._tear(gone)

    def let_go(self, names: Iterable[str]) -> list[Any]:
        """What those of `names` were bound to that aren't any more, so that nothing here keeps it alive."""
        self.settle()
        old = self._bindings.let_go(names)
        if old:
            self._tear(old)
        return list(old.values())

    def _tear(self, names: Iterable[str]) -> None:
        """`names` will be found to be bound anew, or deleted: what shared objects with them has to be looked at."""
        for name in names:
            if group := self._groups.get(name):
                self._torn |= group.names
        self._ungroup(names)

    def forget(self, names: Collection[str]) -> None:
        """`names` are not there any more, or will count as new."""
        self._bindings.forget(names)
        self._ungroup(names)

    def leave(self, names: Iterable[str]) -> None:
        """Don't look at the values of `names` any more, though others share objects with them."""
        self._ungroup(names)
        self._left.update(names)

    def shares_beyond(self, name: str, names: Set[str]) -> bool:
        """Whether others than `names` may share objects with `name`."""
        return name in self._left or not names >= set(self.group(name))

    def is_shared_beyond(self, value: Any, names: Set[str]) -> bool:
        """Whether others than `names` may share an object."""
        group = self._group_of.get(id(value))
        return group is not None and not names >= group.names

    def _ungroup(self, names: Iterable[str]) -> None:
        for name in names:
            self._sent.pop(name, None)
            self._drop(name)

    def received(
        self,
        values: dict[str, Any],
        grouped: Iterable[tuple[Iterable[str], Iterable[str]]],
        sent: Mapping[str, Sent],
        *,
        checked: bool = False,
    ) -> None:
        """Values that came from elsewhere are no changes of ours.

        `grouped`: names that share objects, and the ids of the definitions that they use. `sent` tells as what their
        buffers are known. If they were `checked` before, what shared objects with them hasn't changed either.
        """
        torn = {group for name in values if (group := self._groups.get(name))} if checked else set()
        self._ungroup(values)
        for group in torn:
            if group.known and group.names and group not in self._unchecked:
                group.known = False  # its fingerprint was that of all
                self._unknown.add(group)
        self._sent.update(sent)
        self._bindings.take(values)
        for names, uses in grouped:
            changeable = {name for name in names if not _is_atom(values[name])}
            if changeable:
                shared = {id(values[name]) for name in changeable}
                self._add(Group(changeable, shared, known=False, uses=frozenset(uses)))

    def sent(self, names: Iterable[str], key: str) -> None:
        """The buffers of `names` are known elsewhere as `key`, as they are now."""
        for name in names:
            if (group := self._groups.get(name)) and group.buffers is not None:
                group.buffers.sent_as(key)

    def has_sent(self, names: Collection[str], key: str) -> bool:
        """Whether all that `names` have was sent as `key`, as far as has been seen."""
        group = self._group_with(names)
        return group is not None and group.known and group.buffers is not None and group.buffers.is_all_in(key)

    def cool(self, names: Collection[str], opened: Opened, ranges: Sequence[Range]) -> None:
        """Nothing of the user's runs: let the memory of `names` be that of the segment with it, if it still is that."""
        group = self._group_with(names)
        if group is None or group.buffers is None or group.seconds > MAX_TRIED:
            return
        if self._fingerprint(group) == group.digest:
            group.buffers.settle(opened, ranges)

    def buffers_of(self, names: Collection[str]) -> Pickled | None:
        """The memory of `names`, which are a group; None if they aren't, or it has changed since it was looked at."""
        group = self._group_with(names)
        if group is None:
            return None
        if group.known and self._fingerprint(group) != group.digest:
            return None
        return self._pickling.dump({name: self._base[name] for name in sorted(group.names)}, outer=False)

    def _group_with(self, names: Collection[str]) -> Group | None:
        """The group of exactly these names."""
        group = next((g for name in names if (g := self._groups.get(name))), None)
        return group if group is not None and group.names == set(names) else None

    def written(self, names: Iterable[str]) -> None:
        """We have brought the memory of `names` up to date."""
        for name in names:
            if (group := self._groups.get(name)) and group.known:
                group.digest = self._fingerprint(group)
                if group.buffers is not None:
                    group.buffers.sent_as(group.buffers.key)

    @property
    def holds(self) -> bool:
        """Whether there are large values that only this process has, though they could be copied."""
        return any(group.waits_for_copy for group in self._groups.values())

    def next_held(self) -> tuple[Group, dict[str, Any]] | None:
        """A group of large values that is held, with its values; each is given once."""
        for group in self._groups.values():
            if group.waits_for_copy:
                group.kept = True
                return group, {name: self._base[name] for name in sorted(group.names)}
        return None

    def look_at(self, group: Group, pickled: Pickled) -> bytes:
        """A fingerprint of a held group whose values will be copied. What is written from now on will be seen."""
        if any(buffer.nbytes >= WATCHED for buffer in pickled.buffers):
            group.buffers = WatchedBuffers(self._pages)
            return group.buffers.look(pickled)
        return self._fingerprint(group) or b""

    def copied(self, group: Group, digest: bytes) -> bool:
        """The values of `group` were copied as they were at `digest`; False if it isn't held any more."""
        if not group.held or any(self._groups.get(name) is not group for name in group.names):
            return False
        group.held, group.known, group.digest = False, True, digest
        self._unchecked.add(group)
        return True

    def hold(self, names: Iterable[str]) -> None:
        """There was no memory to copy the values of `names`: others will have to ask."""
        for name in names:
            if name in self._base and name not in self._groups:  # an atom, say a large text
                self._add(Group({name}, {id(self._base[name])}))
            if group := self._groups.get(name):
                group.known, group.held = False, True
                group.kept = True
                self._unchecked.discard(group)

    @property
    def has_unknown(self) -> bool:
        """Whether `prepare` may have something to do."""
        return bool(self._unknown)

    def prepare(self, code: types.CodeType | None) -> None:
        """Before a cell runs: know how what it can reach looks now."""
        if not self._unknown:
            return
        names = self.reached([code]) if code is not None else None
        if names is not None:
            self._know({name for name in names if self._groups.get(name) in self._unknown})
        if names is None or any((group := self._groups.get(name)) and group.opaque for name in names):
            self._know({name for group in self._unknown for name in group.names})

    def _know(self, unknown: set[str]) -> None:
        self._regroup(unknown, None, deliver=True)
        for name in self._sent.keys() & unknown:
            if (group := self._groups.get(name)) and group.known:
                sent = self._sent.pop(name)
                if group.buffers is not None and group.buffers.has(sent.layout):
                    self.sent(group.names, sent.key)

    def reached(
        self,
        codes: Iterable[types.CodeType],
        quoted: Callable[[str, types.CodeType], Iterable[str]] | None = None,
    ) -> set[str] | None:
        """The names that `codes` can reach, also those that are `quoted` in texts; None for all."""
        return reached(codes, self._namespace, self._used_by, quoted, self._named())

    def _used_by(self, name: str) -> Iterable[Any]:
        group = self._groups.get(name)
        return self._pickling.defined(group.uses) if group is not None and group.uses else ()

    def values(self, names: Iterable[str]) -> dict[str, Any]:
        """What those of `names` that there are are bound to."""
        return {name: self._namespace[name] for name in names if name in self._namespace}

    def group(self, name: str) -> Collection[str]:
        """The names that share objects with `name`, itself included."""
        group = self._groups.get(name)
        return sorted(group.names) if group else [name]

    # --- looking for changes ------------------------------------------------------------------------------------------

    def collect(
        self,
        *,
        mutations: bool = True,
        only: Collection[str] | None = None,
        force: Collection[str] = (),
        deliver: bool = True,
        allowance: Allowance = UNLIMITED,
    ) -> Changes:
        """What has changed since the last call, taken for known.

        Without `mutations`: rebound and deleted names. With `only`: of these names, whether code could reach them or
        not; unless `deliver` is false, with their values however dear. Those in `force` count as changed. What goes
        beyond `allowance` is held, or looked at by `sweep`.
        """
        deliver = deliver and only is not None
        had = {name: self._bindings.known[name] for name in force if name in self._bindings.known} | self._not_bound
        self.forget(force)
        deleted, changed = self._bindings.look(only)
        bound = {name for name, value in changed.items() if had.pop(name, _MISSING) is not value}
        self._not_bound = {name: value for name, value in self._not_bound.items() if name in had}
        changes = Changes(deleted=deleted, rebound=set(changed), bound=bound)
        self._untold.update({name: name in bound for name in changed})
        self._untold_deleted.update(deleted)
        dirty: set[str] = set()
        for name in (*deleted, *changed):
            if group := self._groups.get(name):
                dirty |= group.names
        if only is None:
            dirty |= self._torn & self._groups.keys()
            self._torn.clear()
        self._ungroup(deleted)
        for name in changed:
            self._drop(name)
        if mutations or only is not None:
            groups = self._to_check(only)
            dirty |= self._mutated(groups, changes, Allowance(allowance.left / 2))
            if deliver:
                dirty |= {name for group in groups if group.held for name in group.names}
        atoms = [name for name, value in changed.items() if _is_atom(value)]
        changes.changed += [([name], self._pickling.dump({name: changed[name]})) for name in atoms]
        dirty = (dirty | changed.keys()) - set(deleted) - set(atoms)
        if self._tried and only is None:
            again = [group for group in self._tried if 2 * group.tried <= allowance.left]
            dirty |= {name for group in again for name in group.names}
        self._regroup(dirty, changes, deliver=deliver, allowance=allowance)
        if mutations and only is None:
            self._ran.clear()
        return changes

    def uncheck(self) -> None:
        """Code has run that nobody has told of."""
        self._unchecked.update(group for group in self._groups.values() if group.known)

    def sweep(self, seconds: float) -> Changes:
        """Check some of the groups that `collect` left out, for about so long, but not those that take longer each."""
        end, dirty, changes = time.perf_counter() + seconds, set(), Changes()
        for group in [group for group in self._unchecked if group.seconds <= seconds]:
            dirty |= self._mutated([group], changes, UNLIMITED)
            if time.perf_counter() >= end:
                break
        self._regroup(dirty, changes)
        return changes

    def sweep_dear(self, allowance: Allowance) -> Changes:
        """Check what takes long to check, and pickle what there was too little time for."""
        changes = Changes()
        dirty = self._mutated(list(self._unchecked), changes, allowance)
        dirty |= {name for group in self._tried for name in group.names}
        dirty |= {name for name in self._to_regroup if name in self._groups}
        self._to_regroup.clear()
        self._regroup(dirty, changes, allowance=allowance)
        return changes

    @property
    def swept(self) -> bool:
        """Whether all groups have been checked, and pickled, since code ran."""
        return not (self._unchecked or self._tried or self._to_regroup)

    def only_dear_left(self, seconds: float) -> bool:
        """Whether `sweep` has nothing to do any more."""
        return all(group.seconds > seconds for group in self._unchecked)

    def _to_check(self, only: Collection[str] | None) -> Collection[Group]:
        """The groups that may have changed, as far as is known and affordable."""
        if only is not None:
            return {group for name in only if (group := self._groups.get(name))}
        if self._seconds <= CHECK_ALL_BUDGET:
            return {group for group in self._groups.values() if group.known}
        names = self.reached(self._ran)
        self._unchecked.update(group for group in self._groups.values() if group.known)
        if names is None:
            return list(self._unchecked)
        return {group for name in names if (group := self._groups.get(name)) and group.known}

    def _mutated(self, groups: Iterable[Group], changes: Changes, allowance: Allowance) -> set[str]:
        """Names in those of `groups` whose fingerprint has changed, but for those that go to ``changes.patched``.

        For what is beyond `allowance` see `sweep`.
        """
        found: set[str] = set()
        with self._pickling.sweep():
            for group in groups:
                self._unchecked.discard(group)
                if group.known:
                    before = group.seconds
                    try:
                        if before > DEAR and before > allowance.left:
                            raise TooDear
                        digest = self._fingerprint(group, allowance)
                    except (TooDear, MemoryError):
                        self._unchecked.add(group)
                        self._seconds += group.seconds - before
                        continue
                    if digest != group.digest:
                        self._untold.update({name: self._untold.get(name, False) for name in group.names})
                        patch = None
                        if group.buffers is not None and digest is not None and not digest.startswith(_JOINED):
                            patch = group.buffers.patch(sorted(group.names))
                        if patch is not None:
                            group.digest = digest
                            changes.patched.append(patch)
                        else:
                            found |= group.names
                    self._seconds += group.seconds - before
        return found

    def _fingerprint(self, group: Group, allowance: Allowance = UNLIMITED) -> bytes | None:
        """Unlike any before if something in it is an object of another group: the same content, perhaps, but not it."""
        start = time.thread_time()
        values = {name: self._base[name] for name in sorted(group.names)}
        try:
            met: Set[int]
            if group.buffers is None:
                digest, met = self._pickling.look(values, self._group_of.keys(), allowance=allowance)
            else:
                pickled = self._pickling.dump(values, outer=False, allowance=allowance)
                digest, met = group.buffers.look(pickled), pickled.shared & self._group_of.keys()
            if met and any(self._group_of[key] is not group for key in met):
                digest = _JOINED + b"%d" % next(self._joins)
        except (TooDear, MemoryError):
            group.seconds = max(group.seconds, time.thread_time() - start)
            raise
        group.seconds = time.thread_time() - start
        return digest

    # --- groups -------------------------------------------------------------------------------------------------------

    def _drop(self, name: str) -> None:
        """`name` isn't in its group any more."""
        self._left.discard(name)
        if group := self._groups.pop(name, None):
            group.names.discard(name)
            if not group.names:
                self._remove(group)

    def _remove(self, group: Group) -> None:
        if group.buffers is not None:
            group.buffers.close()
        self._seconds -= group.seconds
        self._unknown.discard(group)
        self._unchecked.discard(group)
        self._tried.discard(group)
        for key in group.shared:
            if self._group_of.get(key) is group:
                del self._group_of[key]

    def _add(self, group: Group) -> None:
        self._groups.update(dict.fromkeys(group.names, group))
        self._group_of.update(dict.fromkeys(group.shared, group))
        self._seconds += group.seconds
        if not group.known and not group.held:
            self._unknown.add(group)
        if group.tried:
            self._tried.add(group)

    def _regroup(
        self, names: Iterable[str], changes: Changes | None, *, deliver: bool = False, allowance: Allowance = UNLIMITED
    ) -> None:
        """Find out which of `names`, and of those that are grouped already, share objects; pickle each new group.

        With `deliver`, however dear that is; else what is beyond `allowance` is held. Without `changes` nobody is told:
        then MemoryError is raised, for which else the values are held, too.
        """
        given, wanted = allowance.left, set(names)
        with self._pickling.sweep():
            parts, dumps = self._parts(wanted, deliver, allowance, changes is None)
            for part in parts:
                group, members = Group(part.names, part.shared), sorted(part.names)
                dumped = [pickled for name in members if (pickled := dumps[name]) is not None]
                pickled = dumped[0] if len(dumped) == len(members) else None
                if pickled is not None and len(members) > 1:
                    # Together they take no less time than any of them.
                    part.dear = _is_too_long(max(one.seconds for one in dumped), allowance)
                    pickled = None if part.dear else self._dumped(members, deliver, allowance, changes is None)
                if pickled is None and (part.dear or allowance.left <= 0):
                    # Those that share objects with them are left as they are, until there is time.
                    self._to_regroup |= part.names - wanted
                    part.names &= wanted
                    if not part.names:
                        continue
                    group = Group(part.names, {id(self._base[name]) for name in part.names})
                    group.tried = max(MIN_TRIED, min(given, MAX_TRIED))
                self._make_group(group, pickled, changes, deliver)

    def _parts(
        self, names: Iterable[str], deliver: bool, allowance: Allowance, must: bool
    ) -> tuple[list[_Part], dict[str, Pickled | None]]:
        """Those of `names`, and of what is grouped with them, that share objects; each name's value as pickled."""
        todo = list(names)
        if allowance.left < math.inf:
            todo.sort(key=self._expected, reverse=True)  # it is taken from the end
        dumps: dict[str, Pickled | None] = {}
        part_of: dict[int, _Part] = {}  # by object
        in_part: set[int] = set()  # objects of which only a part was looked at
        while todo:
            name = todo.pop()
            if name in dumps:
                continue
            value = self._base[name]
            if old := self._groups.get(name):
                todo += old.names
            if (part := part_of.get(id(value))) is not None and id(value) not in in_part:
                part.names.add(name)  # it was met on the way, and all that it consists of
                dumps[name] = dumps[part.first]
                continue
            reach = _Reach(self._group_of, old, allowance)
            pickled = None if reach.is_beyond(id(value)) else self._dumped([name], deliver, allowance, must, reach)
            if pickled is not None and any(map(reach.is_beyond, pickled.shared)):
                pickled = None
            dumps[name], shared = pickled, {id(value)}
            if pickled is not None:
                shared |= pickled.shared
                in_part |= pickled.memory
            part = _Part(name, {name}, shared, reach.exceeded)
            for key in shared:
                if group := self._group_of.get(key):
                    todo += group.names
                if (other := part_of.get(key)) and other is not part:
                    part.join(other, part_of)
            part_of.update(dict.fromkeys(shared, part))
        return list({id(part): part for part in part_of.values()}.values()), dumps

    def _expected(self, name: str) -> tuple[float, bool]:
        """How much time it may take to pickle a value, for comparisons."""
        group = self._groups.get(name)
        seconds = max(group.seconds, group.tried) if group is not None else 0.0
        return seconds, type(self._base[name]).__module__ != "builtins"

    def _dumped(
        self, names: list[str], deliver: bool, allowance: Allowance, must: bool, reach: _Reach | None = None
    ) -> Pickled | None:
        """The values; None if they are too dear."""
        values = {name: self._base[name] for name in names}
        if not deliver and any(weight.in_band(value) > weight.HEAVY for value in values.values()):
            return None
        try:
            beyond = None if reach is None else reach.is_beyond
            return self._pickling.dump(values, outer=False, allowance=allowance, beyond=beyond)
        except TooDear:
            return None
        except MemoryError:
            if must:
                raise
            return None

    def _make_group(self, group: Group, pickled: Pickled | None, changes: Changes | None, deliver: bool) -> None:
        names = sorted(group.names)
        for name in names:
            self._drop(name)
        self._to_regroup -= group.names
        opaque = pickled is None or bool(pickled.stubs)
        if pickled is not None and not deliver and sum(buffer.nbytes for buffer in pickled.buffers) > weight.HEAVY:
            pickled = None
        if pickled is None:
            group.known, group.held, group.opaque = False, True, opaque
            if changes is not None:
                changes.held.append(names)
        else:
            if any(buffer.nbytes >= WATCHED for buffer in pickled.buffers):
                group.buffers = WatchedBuffers(self._pages)
                group.digest = group.buffers.look(pickled)
            else:
                group.digest, group.seconds = pickled.digest(), pickled.seconds
            group.uses, group.opaque = pickled.uses, opaque
            if changes is not None:
                changes.changed.append((names, pickled))
        self._add(group)


@dataclass(slots=True, eq=False)
class _Part:
    """Names of which it turned out that they share objects."""

    first: str
    names: set[str]
    shared: set[int]
    dear: bool  # it leads to more than there is time for, as is known without trying

    def join(self, other: _Part, part_of: dict[int, _Part]) -> None:
        """Take over all of `other`."""
        self.names |= other.names
        self.shared = self.shared | other.shared
        self.dear |= other.dear
        part_of.update(dict.fromkeys(other.shared, self))


class _Reach:
    """What a value may lead to: not to groups for which there is too little time, as is known of them."""

    def __init__(self, group_of: Mapping[int, Group], own: Group | None, allowance: Allowance) -> None:
        self._group_of = group_of
        self._own = own  # the value's
        self._allowance = allowance
        self.exceeded = False

    def is_beyond(self, key: int) -> bool:
        """Whether the object is of such a group, or one was met before."""
        group = self._group_of.get(key)
        if group is not None:
            # A group of one name is pickled once, any other by its names and then as a whole.
            times = 1 if group is self._own and len(group.names) == 1 else 2
            seconds = group.seconds if group is self._own else max(group.seconds, group.tried)
            self.exceeded |= _is_too_long(seconds, self._allowance, times)
        return self.exceeded
