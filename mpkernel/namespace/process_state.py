"""The process's own state, as far as subshells share it: what threads of one process would have in common.

A *facet* is one kind of such state (the environment, `sys.path`, …), read and written as a dict of items.
What a cell changed in it is committed under a name that no variable can have, ``%environ`` for instance, with the
changes of all subshells since the start: a new process needs nothing else. Items that two subshells changed at the
same time are merged if they are lists; else the later commit counts, as with threads.
"""

from __future__ import annotations

import enum
import logging
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from mpkernel.namespace.component import PROCESS
from mpkernel.namespace.stubs import Stub

log = logging.getLogger("mpkernel.namespace")

Items = dict[Any, Any]


class Absent(enum.Enum):
    """What an item is that isn't there, or is there but can't be told: others keep what they have."""

    GONE = 0
    UNTOLD = 1


GONE, UNTOLD = Absent.GONE, Absent.UNTOLD
_NEVER = object()  # neither there nor gone


class Facet:
    """One kind of process state. Subclasses read and write it."""

    name: str
    library = ""  # a module without which there is nothing to be read
    draws = False  # whether using it changes it: streams of random numbers
    live = False  # whether others see what a running cell has made of it
    takes_parts = False  # whether it can do with stubs for definitions that need a library which isn't imported here

    def read(self) -> Items | None:
        """What there is now; None if the library whose state it is isn't imported."""
        raise NotImplementedError

    def mark(self) -> Any:
        """By what `is_marked` knows that nothing has changed since; None if there is no quicker way than `read`."""
        return None

    def is_marked(self, mark: Any) -> bool:
        """Whether nothing has changed since `mark` was made: to be much quicker than `read`."""
        return bool(self.mark() == mark)

    def prepare(self) -> None:
        """Something came from elsewhere, and `read` said None: import what is about to be used."""

    def ran(self, code: types.CodeType) -> None:
        """A statement of the notebook is run."""

    def arrived(self) -> None:
        """Values have been loaded, and modules may have been imported for them."""

    @property
    def named(self) -> Mapping[str, Collection[str]]:
        """By package, variables of the notebook of which it has the values as well."""
        return {}

    def counterparts(self, names: Collection[str]) -> dict[str, Any]:
        """What there is here that elsewhere is the value of one of these variables, which have come."""
        return {}

    def delivered(self) -> Collection[Any]:
        """The values of these are here now; returns the keys of what was set therefore."""
        return ()

    def write(self, items: Items) -> None:
        """Set these items; `GONE` deletes one."""
        raise NotImplementedError

    def base(self) -> Items:
        """What there is before anybody changed anything, if the library has just been imported."""
        return {}

    def fork(self) -> None:
        """Go on with another stream of random numbers than the one that came from elsewhere."""

    def differs(self, one: Any, other: Any) -> bool:
        """Whether an item has changed."""
        if one is other:
            return False
        if type(one) is not type(other):
            return True
        try:
            return not bool(one == other)
        except Exception:
            return True

    def merged(self, key: Any, base: Any, mine: Any, theirs: Any) -> Any:
        """What is to be written of an item that both sides have changed since `base`, or GONE; UNTOLD: mine stays."""
        if type(mine) is type(theirs) is list:
            return _merged_list([] if base is GONE else base, mine, theirs)
        return UNTOLD

    def changed(self, before: Items, after: Items) -> Items:
        """The items of `after` that are others than in `before`."""
        with suppress(Exception):  # an array
            if before == after:
                return {}
        found = {key: value for key, value in after.items() if self.differs(before.get(key, GONE), value)}
        return found | dict.fromkeys(before.keys() - after.keys(), GONE)


class _Known:
    """What is known about one facet."""

    def __init__(self, facet: Facet) -> None:
        self.facet = facet
        self._seen: Items | None = None
        self._mark: Any = None  # of when it was as in `seen`
        self.shared: Items = {}  # what all subshells together have changed since the start
        self.waiting: Items | None = None  # came before its library was imported
        self.foreign = False  # it came from elsewhere, and nothing here has changed it since
        self.aside: tuple[Items, Items] | None = None  # the shared stream, and where our own one began

    @property
    def seen(self) -> Items | None:
        """How it was when last looked at; None: its library isn't imported."""
        return self._seen

    @seen.setter
    def seen(self, items: Items | None) -> None:
        self._seen, self._mark = items, None  # it needn't be so now

    def is_as_seen(self) -> bool:
        """Whether that can be told without reading it."""
        try:
            return self._mark is not None and self.facet.is_marked(self._mark)
        except Exception:  # an option that can't be compared
            return False

    def saw(self, items: Items, mark: Any) -> None:
        """It was looked at when it had just been marked."""
        self._seen, self._mark = items, mark

    def now(self) -> Items:
        """How it is; what can't be read counts as unchanged."""
        now = _read(self.facet)
        return (self.seen or {}) if now is None else now


class ProcessState:
    """The facets of this process. Not for two threads at once."""

    def __init__(self, facets: Iterable[Facet]) -> None:
        self._known = {PROCESS + facet.name: _Known(facet) for facet in facets}

    def _here(self) -> Iterator[_Known]:
        """But for what can't be read, as a library isn't imported: to know that has to be quick, for each statement."""
        modules = sys.modules
        return (known for known in self._known.values() if not (library := known.facet.library) or library in modules)

    def rebase(self) -> None:
        """Take everything as it is for unchanged."""
        for known in self._known.values():
            known.seen = _read(known.facet)

    def before_cell(self, *, beside: bool) -> None:
        """If others are running beside it: two cells that begin with one stream of random numbers draw the same."""
        for known in self._known.values():
            if not known.facet.draws or known.seen is None:
                continue
            if known.aside is not None:
                shared, known.aside = known.aside[0], None
                _write(known.facet, shared)
                known.seen = known.now()
            if beside and known.foreign:
                shared = known.seen
                known.facet.fork()
                known.seen = known.now()
                known.aside = (shared, known.seen)

    def ran(self, code: types.CodeType) -> None:
        """A statement of the notebook is run. The one before may have imported libraries whose state came before."""
        for known in self._here():
            try:
                known.facet.ran(code)
            except Exception:
                _cannot(known.facet)
            if known.waiting is not None:
                self._arrived(known)

    def changes(self, *, live: bool = False) -> dict[str, Items]:
        """By name, what is to be committed, taken for known; with `live`, in the midst of a cell."""
        return {
            PROCESS + known.facet.name: dict(known.shared)
            for known in self._here()
            if (known.facet.live or not live) and self._look(known)
        }

    def has_changed(self, name: str) -> bool:
        """Whether `changes` would have that one."""
        known = self._known[name]
        if known.is_as_seen() or (now := _read(known.facet)) is None:
            return False
        return known.seen is None or bool(known.facet.changed(known.seen, now))

    def _look(self, known: _Known) -> bool:
        """Whether the facet has changed here."""
        facet = known.facet
        if known.is_as_seen():
            return False
        mark, now = _mark(facet), _read(facet)
        if now is None:
            return False
        if known.seen is None:  # its library was imported just now
            waiting, known.waiting = known.waiting, None
            known.seen = now if waiting is not None and facet.draws else _base(facet, now)
            if waiting is not None:
                self._take(known, waiting)
                now = known.now()
        changed = facet.changed(known.seen, now)
        known.saw(now if changed else known.seen, mark)
        if not changed:
            return False
        known.shared = known.shared | changed
        known.foreign = False
        known.aside = None
        return True

    def receive(self, name: str, items: Items) -> None:
        """Another subshell has committed this. What was changed here since the last commit stays."""
        known = self._known.get(name)
        if known is None:
            return
        items = {key: value for key, value in items.items() if type(value) is not Stub}
        if known.seen is None and (now := _read(known.facet)) is not None:
            known.seen = now
        if known.seen is None:
            known.waiting = items
        else:
            self._take(known, items)

    def takes_parts(self, name: str) -> bool:
        """Whether `receive` can have something that is a stub in parts."""
        return name in self._known and self._known[name].facet.takes_parts

    def arrived(self) -> None:
        """Values have been loaded: libraries may have been imported for them whose state came before."""
        for known in self._known.values():
            try:
                known.facet.arrived()
            except Exception:
                _cannot(known.facet)
            if known.seen is not None:
                continue
            if known.waiting is not None:
                self._arrived(known)
            elif (now := _read(known.facet)) is not None:
                known.seen = _base(known.facet, now)  # before it is changed in place

    @property
    def named(self) -> Mapping[str, Collection[str]]:
        """By package, variables of the notebook that code of that package can change."""
        found: dict[str, Collection[str]] = {}
        for known in self._known.values():
            found.update(known.facet.named)
        return found

    def counterparts(self, names: Collection[str]) -> dict[str, Any]:
        """By variable, of these that have come, what there is here that is its value elsewhere."""
        found: dict[str, Any] = {}
        for known in self._known.values():
            found.update(known.facet.counterparts(names))
        return found

    def delivered(self) -> None:
        """The values of these are here now."""
        for known in self._known.values():
            if keys := known.facet.delivered():
                now = known.now()
                known.seen = (known.seen or {}) | {key: now[key] for key in keys if key in now}

    def _arrived(self, known: _Known) -> None:
        if known.waiting is not None and (now := _prepared(known.facet)) is not None:
            items, known.waiting = known.waiting, None
            known.seen = now
            self._take(known, items)

    def _take(self, known: _Known, theirs: Items) -> None:
        facet, seen = known.facet, known.seen or {}
        mine = facet.changed(seen, known.now())
        if not mine and known.aside is not None:
            known.aside = None
        news = {key: value for key, value in theirs.items() if facet.differs(known.shared.get(key, _NEVER), value)}
        known.foreign = bool(news) and not mine
        _write(facet, _merged(facet, seen, mine, news))
        known.shared = known.shared | theirs  # what is only in ours hasn't got there yet
        now = dict(known.now())
        for key in mine:  # still to be committed
            if key in seen:
                now[key] = seen[key]
            else:
                now.pop(key, None)
        known.seen = now

    def merge(self, name: str, theirs: Items, base: Items) -> Items:
        """Our commit of `name` came too late: what is to be committed instead."""
        known = self._known[name]
        facet = known.facet
        theirs = {key: value for key, value in theirs.items() if type(value) is not Stub}
        self._look(known)
        mine = facet.changed(base, known.shared)
        news = facet.changed(base, theirs)
        _write(facet, _merged(facet, base, mine, news))
        known.seen = known.now()
        known.shared = theirs | {key: known.seen.get(key, GONE) for key in mine}
        return dict(known.shared)


def _merged(facet: Facet, base: Mapping[Any, Any], mine: Items, theirs: Items) -> Items:
    """What is to be written, where `mine` is already there."""
    items = {}
    for key, value in theirs.items():
        if key not in mine:
            items[key] = value
        elif (both := facet.merged(key, base.get(key, GONE), mine[key], value)) is not UNTOLD:
            items[key] = both
    return items


def _merged_list(base: list[Any], mine: list[Any], theirs: list[Any]) -> list[Any]:
    """What is new in `theirs` first, then `mine` without what they have removed."""
    added = [item for item in theirs if item not in base and item not in mine]
    return added + [item for item in mine if item in theirs or item not in base]


def _cannot(facet: Facet) -> None:
    """What a facet, which looks into libraries, fails in is no reason for a cell to fail."""
    log.warning("the %s can't be followed", facet.name, exc_info=True)


def _read(facet: Facet) -> Items | None:
    try:
        return facet.read()
    except Exception:  # a library whose insides aren't as they were, or a folder that was deleted
        log.debug("the %s can't be read", facet.name, exc_info=True)
        return None


def _mark(facet: Facet) -> Any:
    try:
        return facet.mark()
    except Exception:
        log.debug("the %s has no mark", facet.name, exc_info=True)
        return None


def _base(facet: Facet, now: Items) -> Items:
    try:
        return facet.base()
    except Exception:
        log.debug("what the %s is by itself isn't known", facet.name, exc_info=True)
        return now


def _prepared(facet: Facet) -> Items | None:
    try:
        facet.prepare()
    except Exception:
        log.info("what the %s belongs to can't be imported", facet.name, exc_info=True)
    return _read(facet)


def _write(facet: Facet, items: Items) -> None:
    """Set `items`; one that can't be had here is no reason to leave out the others."""
    if not items:
        return
    try:
        facet.write(items)
    except Exception:
        if len(items) == 1:
            log.info("the %s of another subshell can't be had", facet.name, exc_info=True)
            return
        for key, value in items.items():
            _write(facet, {key: value})
