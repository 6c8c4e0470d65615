"""What a cell changed: names that were rebound or deleted, and values that were mutated in place.

Rebinding is an identity diff against a shallow snapshot. Mutation is found by comparing fingerprints of the values that
the cell could reach (`reach`), or of all if that is cheap. Names whose values share objects form a group: they have one
fingerprint, and are pickled together, so that they go on sharing elsewhere.

What is dear to pickle or to copy isn't: it is *held* here until somebody wants it. And what came from elsewhere gets its
fingerprint only when a cell is about to run that could change it (`prepare`).
"""

from __future__ import annotations

import re
import time
import types
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Any

from mpkernel.namespace import weight
from mpkernel.namespace.pickling import Pickled, Pickling
from mpkernel.namespace.reach import reached

# Check every value if that is expected to take no longer than this (seconds).
CHECK_ALL_BUDGET = 0.01

# IPython's own names. A user's `_cfg` is not one of them.
_OWN = frozenset(("In", "Out", "exit", "quit", "get_ipython", "open"))
_OWN_UNDERSCORED = re.compile(r"_+|_i+|_i?\d+|_ih|_oh|_dh|_exit_code|__\w+__")
_ATOMS = frozenset((int, float, complex, str, bytes, bool, type(None), type(Ellipsis), types.ModuleType, range))


def is_own(name: str) -> bool:
    """Whether `name` is IPython's or Python's own, not the user's."""
    return name in _OWN or (name[:1] == "_" and _OWN_UNDERSCORED.fullmatch(name) is not None)


@dataclass(slots=True, eq=False)
class Group:
    """Names whose values share objects.

    `shared`: ids of the objects when last looked at. `known`: there is a fingerprint. `held`: others know that there is
    a new value, and have none.
    """

    names: set[str]
    shared: set[int]
    digest: bytes | None = None
    seconds: float = 0.0
    known: bool = True
    held: bool = False


@dataclass(slots=True)
class Changes:
    """What `Tracker.collect` found: groups that changed, with their pickles; such without; names that were deleted."""

    changed: list[tuple[list[str], Pickled]] = field(default_factory=list)
    held: list[list[str]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)


class Tracker:
    """Watches one namespace, an exact dict. Not for two threads at once."""

    def __init__(self, namespace: dict[Any, Any], pickling: Pickling) -> None:
        self._namespace = namespace  # user code may put in keys that are no names
        self._pickling = pickling
        self._base: dict[str, Any] = {}  # what each name was bound to when last looked at; holds the objects alive
        self._groups: dict[str, Group] = {}  # names of atoms have none
        self._group_of: dict[int, Group] = {}  # by object
        self._ran: list[types.CodeType] = []

    def rebase(self) -> None:
        """Take the namespace as it is for unchanged."""
        self._base = self._user_names()
        self._groups.clear()
        self._group_of.clear()
        self._regroup([name for name, value in self._base.items() if type(value) not in _ATOMS], Changes())

    def _user_names(self) -> dict[str, Any]:
        while True:
            try:
                return {k: v for k, v in self._namespace.items() if isinstance(k, str) and not is_own(k)}
            except RuntimeError:  # a thread added a name meanwhile
                continue

    def ran(self, code: types.CodeType) -> None:
        """Note that `code` was run at top level."""
        self._ran.append(code)

    def forget(self, names: Iterable[str]) -> None:
        """`names` are not there any more, or will count as new."""
        for name in names:
            self._base.pop(name, None)
            self._drop(name)

    def received(self, values: dict[str, Any], grouped: Iterable[Iterable[str]]) -> None:
        """Values that came from elsewhere are no changes of ours."""
        self._base.update(values)
        for name in values:
            self._drop(name)
        for names in grouped:
            changeable = {name for name in names if type(values[name]) not in _ATOMS}
            if changeable:
                self._add(Group(changeable, {id(values[name]) for name in changeable}, known=False))

    @property
    def has_unknown(self) -> bool:
        """Whether there are values without a fingerprint, but those that are held anyway."""
        return any(not group.known and not group.held for group in self._groups.values())

    def prepare(self, code: types.CodeType | None) -> None:
        """Before a cell runs: know how what it can reach looks now."""
        unknown = {name for name, group in self._groups.items() if not group.known and not group.held}
        if unknown:
            names = reached([code], self._namespace) if code is not None else None
            self._regroup(unknown if names is None else unknown & names, Changes())

    def values(self, names: Iterable[str]) -> dict[str, Any]:
        """What those of `names` that there are are bound to."""
        return {name: self._namespace[name] for name in names if name in self._namespace}

    def group(self, name: str) -> Collection[str]:
        """The names that share objects with `name`, itself included."""
        group = self._groups.get(name)
        return sorted(group.names) if group else [name]

    # --- looking for changes ------------------------------------------------------------------------------------------

    def collect(
        self, *, mutations: bool = True, only: Collection[str] | None = None, force: Iterable[str] = ()
    ) -> Changes:
        """What has changed since the last call, taken for known.

        Without `mutations`: rebound and deleted names. With `only`: of these names, whether code could reach them or
        not. Those in `force` count as changed.
        """
        for name in force:
            self._base.pop(name, None)
        now, base = self._user_names(), self._base
        if only is not None:
            now = {**base, **{name: now[name] for name in only if name in now}}
            for name in only:
                if name in base and name not in self._namespace:
                    del now[name]
        deleted = [name for name in base if name not in now]
        rebound = [name for name, value in now.items() if base.get(name, self) is not value]
        dirty = {name for name in rebound if type(now[name]) not in _ATOMS}
        for name in (*rebound, *deleted):
            if group := self._groups.get(name):
                dirty |= group.names
                self._drop(name)
        if mutations or only is not None:
            dirty |= self._mutated(now, only)
        self._base = now
        dirty &= now.keys()
        atoms = [name for name in rebound if type(now[name]) in _ATOMS]
        dirty -= set(atoms)
        changes = Changes(deleted=deleted)
        self._regroup(dirty, changes, deliver=only is not None)
        changes.changed += [([name], self._pickling.dump({name: now[name]})) for name in atoms]
        if mutations and only is None:
            self._ran.clear()
        return changes

    def _mutated(self, now: dict[str, Any], only: Collection[str] | None) -> set[str]:
        """Names in groups whose fingerprint has changed."""
        groups = {id(group): group for group in self._groups.values()}
        if only is not None:
            wanted: set[str] | None = set(only)
        elif sum(group.seconds for group in groups.values()) <= CHECK_ALL_BUDGET:
            wanted = None
        else:
            wanted = reached(self._ran, now)
        found: set[str] = set()
        for group in groups.values():
            if group.held and only is not None and not group.names.isdisjoint(only):
                found |= group.names
            elif not group.known:
                continue
            elif wanted is None or not wanted.isdisjoint(group.names):
                start = time.perf_counter()
                digest = self._pickling.digest({name: now[name] for name in sorted(group.names) if name in now})
                group.seconds = time.perf_counter() - start
                if digest != group.digest:
                    found |= group.names
        return found

    def _drop(self, name: str) -> None:
        """`name` isn't in its group any more."""
        if group := self._groups.pop(name, None):
            group.names.discard(name)
            if not group.names:
                self._forget(group)

    def _forget(self, group: Group) -> None:
        for key in group.shared:
            if self._group_of.get(key) is group:
                del self._group_of[key]

    def _add(self, group: Group) -> None:
        self._groups.update(dict.fromkeys(group.names, group))
        self._group_of.update(dict.fromkeys(group.shared, group))

    def _regroup(self, names: Iterable[str], changes: Changes, *, deliver: bool = False) -> None:
        """Find out which of `names`, and of those that are grouped already, share objects; pickle each new group.

        With `deliver`, however dear that is.
        """
        todo = list(names)
        dumps: dict[str, Pickled | None] = {}
        parts: list[tuple[set[str], set[int]]] = []
        while todo:
            name = todo.pop()
            if name in dumps:
                continue
            value = self._base[name]
            heavy = not deliver and weight.in_band(value) > weight.HEAVY
            values = {name: value}
            pickled = dumps[name] = None if heavy else self._pickling.dump(values)
            shared = {id(value)} | (pickled.shared - {id(values)} if pickled is not None else set())
            if old := self._groups.get(name):
                todo += old.names
            for group in {self._group_of[key] for key in shared if key in self._group_of}:
                todo += group.names
            joined, rest = {name}, []
            for part in parts:
                if part[1].isdisjoint(shared):
                    rest.append(part)
                else:
                    joined |= part[0]
                    shared = shared | part[1]
            parts = [*rest, (joined, shared)]
        for part, shared in parts:
            self._regroup_part(sorted(part), shared, dumps, changes, deliver)

    def _regroup_part(
        self, names: list[str], shared: set[int], dumps: dict[str, Pickled | None], changes: Changes, deliver: bool
    ) -> None:
        for name in names:
            self._drop(name)
        values = {name: self._base[name] for name in names}
        if any(dumps[name] is None for name in names):
            self._add(Group(set(names), shared, known=False, held=True))
            changes.held.append(names)
            return
        pickled = dumps[names[0]] if len(names) == 1 else self._pickling.dump(values)
        assert pickled is not None
        held = not deliver and sum(len(buffer) for buffer in pickled.buffers) > weight.HEAVY
        group = Group(set(names), shared, known=not held, held=held)
        if held:
            changes.held.append(names)
        else:
            start = time.perf_counter()
            group.digest = self._pickling.digest(values)
            group.seconds = time.perf_counter() - start
            changes.changed.append((names, pickled))
        self._add(group)
