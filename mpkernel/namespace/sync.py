"""The worker's half of the namespace service: commits what a cell changed, takes over what others committed, merges.

Values are changed by the main thread only, and only between requests or at the start of one: names don't change under
a running cell (unless it says `pull`). Committing in the midst of a cell, for others that start one, is done by the
service thread.

What the broker tells about versions is taken in the order in which it was sent, all from one inbox. What it tells of a
name that has changed here meanwhile isn't taken over: the change is committed, refused, and comes back to be merged.
"""

from __future__ import annotations

import builtins
import dis
import itertools
import logging
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any

from mpkernel.messages import Acquired, Blobs, Commit, LaneMessage, Merge, News
from mpkernel.namespace import component, merge, weight
from mpkernel.namespace.buffers import Patch
from mpkernel.namespace.changes import Changes, Group, Tracker, is_own
from mpkernel.namespace.component import DELETED, HELD, PROCESS, Component
from mpkernel.namespace.graft import graft
from mpkernel.namespace.husks import retire
from mpkernel.namespace.payload import from_component, patch, sent_as, to_component, to_delta
from mpkernel.namespace.pickling import Pickled, Pickling
from mpkernel.namespace.pressure import plentiful
from mpkernel.namespace.process_state import ProcessState
from mpkernel.namespace.segments import Segment
from mpkernel.namespace.stubs import Note, Stub, note_of
from mpkernel.namespace.transport import Transport

log = logging.getLogger("mpkernel.namespace")

# Statements of a cell that follow each other faster are published together (seconds).
RELEASE_INTERVAL = 0.1
# Values that don't change in place, or not by being used.
_UNCHANGING = (int, float, complex, str, bytes, type(None), type, types.ModuleType, types.FunctionType)
_BUILTINS = frozenset(dir(builtins))
# A larger value isn't copied unasked (bytes that pickle must walk): it takes the GIL for 0.1 s and more.
MAX_BACK_UP_IN_BAND = 32 << 20
# Of so many objects in a value that can't be copied, a file says why they aren't in it.
MAX_LEFT_OUT = 20
# So often two subshells may overtake each other; then the one who merges last wins.
MERGE_ROUNDS = 3
# If more places within variables were changed by two, only the variables are named: not all the insides of a figure.
MAX_PLACES = 4


class NamespaceSync:
    """Attached to a shell. `send` puts a message on the ordered lane; `warn` shows the user a line."""

    def __init__(
        self,
        namespace: dict[str, Any],
        pickling: Pickling,
        send: Callable[[LaneMessage], None],
        warn: Callable[[str], None],
        transport: Transport | None = None,
        state: ProcessState | None = None,
    ) -> None:
        self.mode = "shared"
        self._state = state or ProcessState(())
        self._namespace = namespace
        self._pickling = pickling
        self._send = send
        self._warn = warn
        self._transport = transport
        self._keys = itertools.count(1)
        self._here: dict[str, tuple[str, int]] = {}  # large values: as what, with how many deltas, they are here
        self._outgoing: dict[str, tuple[Segment, list[str]]] = {}  # until the broker has them
        self._tracker = Tracker(namespace, pickling)
        self._lock = threading.Lock()  # between the main thread and the service thread
        self._backing_up: set[str] = set()  # names whose values are being copied
        self._backed_up = threading.Condition(self._lock)
        self._number = 0  # of the last message about versions that was applied
        self._committed = 0.0  # when: monotonic seconds
        self._inbox: deque[News | Acquired | Merge] = deque()
        self._offers: dict[str, Component] = {}
        self._rounds = 0
        self.background = False  # threads or tasks of the user's go on between cells
        self._committed_all = True  # no cell has run since
        self.awaits_merge = False  # a commit will be refused
        self._closed = False

    def startup_done(self) -> None:
        """Startup files and the like have run: each worker has what they made by itself."""
        self._tracker.rebase()
        self._state.rebase()

    def close(self) -> None:
        """The process ends: from now on nothing is committed. IPython is about to clear the namespace."""
        with self._lock:
            self._closed = True

    def ran(self, code: types.CodeType) -> None:
        """A top-level statement of a cell is run."""
        self._committed_all = False
        self._tracker.ran(code)
        self._state.ran(code)

    # --- committing ---------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """After a top-level statement: commit rebound and deleted names, if the last commit isn't just over."""
        if time.monotonic() - self._committed >= RELEASE_INTERVAL:
            self._commit(mutations=False)

    def commit(self) -> None:
        """At the end of a cell: commit what it changed."""
        self.take()
        self._commit()
        self._committed_all = True
        self._rounds = 0

    def release_names(self, names: Collection[str] | None) -> None:
        """In the service thread: somebody needs the newest values of `names` (None: all) while a cell runs here."""
        if names is None:
            names = list(self._namespace)
        with self._backed_up:  # else what is large would be copied twice at the same time
            self._backed_up.wait_for(lambda: self._backing_up.isdisjoint(names))
        self._commit(only=names)

    def publish(self, names: list[str] | None) -> None:
        """Commit the values of `names` (None: all that changed), in whatever mode. Raises NameError."""
        for name in names or ():
            if name not in self._namespace:
                raise NameError(f"there is no variable {name!r} to publish")
        with self._lock:
            changes = self._tracker.collect(only=names, force=names) if names else self._tracker.collect()
            self._publish(changes)

    def start_over(self) -> None:
        """Everything may have changed since the last cell: commit what was bound, and have `sweep` look at the rest."""
        with self._lock:
            if self.mode == "shared":
                self._publish(self._tracker.collect(mutations=False), state=True)
                self._tracker.uncheck()

    def sweep(self, seconds: float) -> bool:
        """Between cells, for about so long: look at what the end of the last one left out; whether that was all."""
        if self.mode != "shared":
            return True
        with self._lock:
            self._publish(self._tracker.sweep(seconds))
            return self._tracker.swept

    @property
    def holds(self) -> bool:
        """Whether there are large values that would be lost with this process, and could be copied."""
        return self.mode == "shared" and self._tracker.holds

    def back_up(self) -> None:
        """In the service thread, while no cell runs: copy large values, as long as there is plenty of memory.

        The lock is free while memory is written: what is changed meanwhile is found afterwards.
        """
        while True:
            with self._lock:
                found = None if self._closed else self._tracker.next_held()
                if found is None:
                    return
                group, values = found
                if sum(map(weight.in_band, values.values())) > MAX_BACK_UP_IN_BAND:
                    continue  # nobody else would have the GIL for long
                pickled = self._pickling.dump(values, outer=False)
                if not plentiful(sum(buffer.nbytes for buffer in pickled.buffers)):
                    continue
                digest = self._tracker.look_at(group, pickled)
                self._backing_up.update(values)
            try:
                self._copy_of(group, values, pickled, digest)
            finally:
                with self._backed_up:
                    self._backing_up.clear()
                    self._backed_up.notify_all()

    def _copy_of(self, group: Group, values: dict[str, Any], pickled: Pickled, digest: bytes) -> None:
        key = f"{self._pickling.worker}.{next(self._keys)}"
        try:
            part, segment = to_component(values, pickled, self._transport, key=key)
        except OSError as error:
            log.info("no copy of %s is kept: %s", _listed(values), error)
            return
        part.meta["rebound"] = []
        with self._lock:
            if not self._tracker.copied(group, digest):
                if segment is not None:
                    segment.close()
                return
            if segment is not None:
                self._outgoing[segment.place.name] = (segment, list(values))
                self._tracker.sent(values, key)
                self._here.update(dict.fromkeys(values, (key, 0)))
            heads, blobs = component.join([part])
            self._send(Commit(self._number, heads, [], False, blobs))

    @property
    def settled(self) -> bool:
        """Whether everything that cells have changed is committed."""
        return self.mode != "shared" or self._tracker.swept

    def _commit(self, *, mutations: bool = True, only: Collection[str] | None = None) -> None:
        if self.mode != "shared":
            return
        with self._lock:
            self._committed = time.monotonic()
            changes = self._tracker.collect(mutations=mutations, only=only)
            self._publish(changes, state=only is None)

    def _publish(
        self,
        changes: Changes,
        *,
        overruled: list[str] | None = None,
        force: bool = False,
        state: bool = False,
        merged: Collection[Component] = (),
    ) -> None:
        """With the lock held, so that commits go out in the order in which changes were found.

        With `state`, what has changed in the process's own state goes first: others need it to load the rest.
        """
        if self._closed:
            return
        components = [*merged, *(self._of_state(self._state.changes()) if state else ())]
        components += [self._component(names, pickled) for names, pickled in changes.changed]
        components += [self._delta(patch) for patch in changes.patched]
        components += [Component(tuple(names), HELD) for names in changes.held]
        for part in components:
            part.meta.setdefault("rebound", [name for name in part.names if name in changes.rebound])
        components += [Component((name,), DELETED) for name in changes.deleted]
        if components or overruled is not None:
            heads, blobs = component.join(components)
            self._send(Commit(self._number, heads, overruled or [], force, blobs))

    def _of_state(self, changes: dict[str, dict[Any, Any]]) -> list[Component]:
        """The process's state as components, each of which is always sent as a whole."""
        components = [
            to_component([name], self._pickling.dump({name: items}), None)[0] for name, items in changes.items()
        ]
        for part in components:
            part.meta["rebound"] = list(part.names)
        return components

    def _component(self, names: list[str], pickled: Pickled) -> Component:
        try:
            key = f"{self._pickling.worker}.{next(self._keys)}"
            part, segment = to_component(names, pickled, self._transport, key=key)
        except OSError as error:
            log.warning("there is no memory for a copy of %s (%s): it stays here", _listed(names), error)
            self._tracker.hold(names)
            return Component(tuple(names), HELD)
        if pickled.stubs:
            values = self._tracker.values(names)
            part.meta["stubs"] = [name for name in values if self._pickling.is_held(values[name], pickled.stubs)]
            part.meta["left_out"] = [self._left_out(note, values) for note in pickled.stubs[:MAX_LEFT_OUT]]
        if segment is not None:
            self._outgoing[segment.place.name] = (segment, names)
            self._tracker.sent(names, key)
            self._here.update(dict.fromkeys(names, (key, 0)))
        return part

    def _left_out(self, note: Note, values: dict[str, Any]) -> list[Any]:
        """Who saves this component leaves these of its names out, or, if there are none, a part of them; and why."""
        names = [
            name
            for name, value in values.items()
            if self._pickling.is_held(value, (note,)) or (type(value) is Stub and note_of(value) == note)
        ]
        return [names, f"{note.type} {note.repr}: {note.reason}"]

    def _delta(self, patch: Patch) -> Component:
        if self._transport is None:
            return self._component(patch.names, patch.pickled)
        try:
            part, segment = to_delta(patch.names, patch.pickled, patch.runs, self._transport, patch.key)
        except OSError:
            return self._component(patch.names, patch.pickled)
        self._outgoing[segment.place.name] = (segment, patch.names)
        key, deltas = self._here.get(patch.names[0], (patch.key, 0))
        self._here.update(dict.fromkeys(patch.names, (key, deltas + 1)))
        return part

    def taken(self, segments: list[str], refused: list[str]) -> None:
        """The broker has these segments of ours, and can't get at those that it refuses. In any thread."""
        for name in segments:
            self._outgoing.pop(name)[0].close()
        for name in refused:
            segment, names = self._outgoing.pop(name)
            segment.close()
            log.warning("the broker can't open segments: large values travel in messages from now on")
            self._transport = None
            with self._lock:
                self._publish(self._tracker.collect(only=names, force=names))

    def keep(self, key: str, names: list[str]) -> None:
        """In the service thread: there is no copy any more of what was sent as `key`."""
        with self._lock:
            self._tracker.hold([name for name in names if self._here.get(name, ("", 0))[0] == key])

    # --- receiving ----------------------------------------------------------------------------------------------------

    def put(self, message: News | Acquired | Merge) -> None:
        """In the IO thread: here is what `take` will find."""
        self._inbox.append(message)

    def take(self) -> None:
        """Take over what other subshells committed, and merge it with what was refused."""
        while self._inbox:
            with self._lock:
                try:
                    message = self._inbox.popleft()
                except IndexError:  # another thread was faster
                    return
                if isinstance(message, Merge):
                    self._merge_or_insist(message)
                else:
                    self._apply(message)

    def _apply(self, news: News | Acquired) -> None:
        parts = list(component.split(news.components, news.blobs))
        state = [part for part in parts if part.names[0].startswith(PROCESS)]
        parts = [part for part in parts if not part.names[0].startswith(PROCESS)]
        self._receive_state(state)
        changed, bound = self._changed_meanwhile(parts)
        fresh: dict[str, Any] = {}
        grouped: list[tuple[list[str], list[str]]] = []
        for part in parts:
            if changed.isdisjoint(part.names) if part.kind != DELETED else bound.isdisjoint(part.names):
                grouped.append((self._take_over(part, fresh), [key for key, _ in part.meta.get("defs", ())]))
        # All at once: of two names that shared an object and no longer do, one keeps it.
        torn = [name for name in fresh if not fresh.keys() >= set(self._tracker.group(name))]
        old = self._tracker.values(fresh.keys() - set(torn))
        self._state.arrived()
        copies = [*self._tracker.values(fresh).values(), *fresh.values()]
        fresh = graft(old, fresh)
        old.clear()
        self._namespace.update(fresh)
        self._tracker.received(fresh, grouped, {name: self._here[name][0] for name in fresh if self._here[name][0]})
        for names, kind, meta, _ in news.offers:
            self._offers.update(dict.fromkeys(names, Component(tuple(names), kind, meta)))
        self._number = max(self._number, news.number)
        retire(copies)
        if self.background:
            self._tracker.prepare(None)

    def _receive_state(self, parts: list[Component]) -> None:
        for part in parts:
            try:
                for name, items in self._load(part).items():
                    self._state.receive(name, items)
            except Exception:
                log.warning("%s can't be had from another subshell", part.names[0], exc_info=True)

    def _changed_meanwhile(self, parts: list[Component]) -> tuple[set[str], set[str]]:
        """Of the names in `parts`, those that have changed here since the last commit, and those that were rebound.

        They are committed, as of before the news.
        """
        if self.mode != "shared" or (self._committed_all and self._tracker.swept and not self.background):
            return set(), set()
        changes = self._tracker.collect(only={name for part in parts for name in part.names}, deliver=False)
        self._publish(changes)
        self.awaits_merge = self.awaits_merge or bool(changes.names)
        return changes.names, changes.rebound

    def _take_over(self, part: Component, fresh: dict[str, Any]) -> list[str]:
        """Put what `part` has into `fresh`; returns the names."""
        names = part.meta.get("take", part.names)
        for name in names:
            self._offers.pop(name, None)
        if part.kind == DELETED:
            copies = [self._namespace.pop(name, None) for name in names]
            self._tracker.forget(names)
            retire(copies)
            return []
        try:
            if self._patched(part, names):
                return []
            values = self._load(part)
            fresh.update({name: values[name] for name in names})
            self._here.update(dict.fromkeys(names, sent_as(part)))
            return list(names)
        except Exception as error:
            log.warning("%s could not be loaded", _listed(names), exc_info=True)
            self._warn(f"the value of {_listed(names)} from another subshell can't be had here: {_text(error)}")
            return []

    def _patched(self, part: Component, names: list[str]) -> bool:
        """Bring the memory that is here up to date, if that is all there is to do."""
        key, deltas = sent_as(part)
        have = {self._here.get(name) for name in names}
        if not deltas or self._transport is None or len(have) != 1 or set(names) != set(part.names):
            return False
        known = have.pop()
        if known is None or known[0] != key or known[1] > deltas:
            return False
        pickled = self._tracker.buffers_of(names)
        if pickled is None or [b.nbytes for b in pickled.buffers] != [n for _, n in part.meta["segment"]["ranges"]]:
            return False
        if any(buffer.readonly for buffer in pickled.buffers):
            return False
        patch(part, pickled.buffers, known[1], self._transport)
        self._tracker.written(names)
        self._here.update(dict.fromkeys(names, (key, deltas)))
        return True

    def _load(self, part: Component, *, fill_cells: bool = True) -> dict[str, Any]:
        pickled = from_component(part, self._transport)
        values: dict[str, Any] = self._pickling.load(pickled, fill_cells=fill_cells)
        return values

    def starts(self, *, beside: bool) -> None:
        """A cell is about to run, `beside` others or not."""
        with self._lock:
            self._state.before_cell(beside=beside)

    def before_cell(self, code: types.CodeType | None) -> None:
        """A cell is about to run that may change what came from elsewhere."""
        with self._lock:
            self._committed_all = False
            self._tracker.prepare(code)

    def may_need(self, *, crowded: bool) -> bool:
        """Whether it matters what a cell can reach: more than the news that came with it, or a fingerprint."""
        return self.mode == "shared" and (crowded or bool(self._offers) or self._tracker.has_unknown)

    def needs(self, code: types.CodeType, *, crowded: bool) -> set[str] | None:
        """The names of which the cell `code` should ask for newer values before it starts; None for all."""
        if not crowded and not self._offers:
            return set()
        names = self._tracker.reached([code])
        if names is None:
            return None
        return names - _BUILTINS if crowded else names & self._offers.keys()

    def touched_by_both(self, ours: types.CodeType, theirs: types.CodeType) -> str:
        """Variables that `ours` can reach and `theirs` may be changing, listed for people."""
        stored = {i.argval for i in dis.get_instructions(theirs) if i.opname in ("STORE_NAME", "STORE_GLOBAL")}
        reach_theirs, reach_ours = self._tracker.reached([theirs]), self._tracker.reached([ours])
        mutable = {name for name, value in self._namespace.items() if not isinstance(value, _UNCHANGING)}
        both = stored | mutable if reach_theirs is None else stored | (mutable & reach_theirs)
        both = both & set(self._namespace) if reach_ours is None else both & reach_ours
        here = self._namespace
        both = {name for name in both if type(here.get(name)) is not types.ModuleType}  # imported there, too
        return _listed(sorted(name for name in both if not is_own(name)))

    # --- values for other uses than the namespace ---------------------------------------------------------------------

    def copy_out(self, name: str) -> tuple[list[Any], Blobs]:
        """The value of `name`, in the midst of a cell, as fields of a lane message. Raises KeyError."""
        return self.pack_values({name: self._namespace[name]})

    def pack_values(self, values: dict[str, Any]) -> tuple[list[Any], Blobs]:
        """As fields of a lane message."""
        return component.join([to_component(values, self._pickling.dump(values), None)[0]])

    def unpack_values(self, heads: list[Any], blobs: Blobs) -> dict[str, Any]:
        """The inverse of `pack_values`."""
        (part,) = component.split(heads, blobs)
        return self._load(part)

    def call(self, held: int, method: str, heads: list[Any], blobs: Blobs) -> tuple[list[Any], Blobs]:
        """Call a method of an object for which another process has a stub, and pack what it returns.

        ``__next__`` returns whether there was an item, and the item. Raises what the method raises.
        """
        given = self.unpack_values(heads, blobs)
        target = self._pickling.held(held)
        if method == "__next__":
            return self.pack_values({"result": _next(target)})
        return self.pack_values({"result": getattr(target, method)(*given["args"], **given["kwargs"])})

    # --- merging ------------------------------------------------------------------------------------------------------

    def _merge_or_insist(self, message: Merge) -> None:
        """Merge what others committed into what is here, and commit that; there is a commit whatever happens."""
        self.awaits_merge = False
        try:
            self._merge(message)
        except BaseException as error:  # odd objects of the user's
            log.warning("%s could not be merged", _listed(message.names), exc_info=True)
            self._number = max(self._number, message.number)
            changes = Changes()
            with suppress(Exception):
                changes = self._tracker.collect(only=message.names, force=message.names)
            self._publish(changes, overruled=message.names, force=True)
            self._warn(
                f"{_listed(message.names)} could not be merged with what another subshell made of it "
                f'({_text(error)}); this cell\'s value counts. The other one: mpkernel.theirs("{message.names[0]}")'
            )

    def _merge(self, message: Merge) -> None:
        self._rounds += 1
        parts = list(component.split(message.components, message.blobs))
        theirs = self._values_of(parts[: message.n_theirs])
        base = self._values_of(parts[message.n_theirs :])
        state = self._merge_state(message.names, theirs, base)
        if self.mode == "shared":
            self._publish(self._tracker.collect())  # of the names to be merged, it will be refused
        here = self._namespace
        # Of what else they have committed together with these: not what was deleted here.
        names = {*message.names, *(name for name in theirs if name in here or name not in base)} - set(state)
        theirs = {name: value for name, value in theirs.items() if name in names}
        names = {name for grouped in names for name in self._tracker.group(grouped)}
        names -= self._held_elsewhere(parts[: message.n_theirs])
        base = {name: value for name, value in base.items() if name in names}
        mine = self._tracker.values(names)
        merged = merge.merge(base, mine, theirs, self._copy(mine))
        gone = [name for name, value in merged.values.items() if value is merge.DELETED]
        values = {name: value for name, value in merged.values.items() if value is not merge.DELETED}
        self._namespace.update(values)
        for name in gone:
            self._namespace.pop(name, None)
        self._tracker.forget({*values, *gone})
        self._number = max(self._number, message.number)
        overruled = sorted({path.split("[")[0].split(".")[0] for path in merged.conflicts})
        if merged.conflicts:
            shown = merged.conflicts if len(merged.conflicts) <= MAX_PLACES else overruled
            self._warn(
                f"{_listed(shown)} was changed in another subshell at the same time; this cell's value "
                f'counts. The other one: mpkernel.theirs("{overruled[0]}")'
            )
        changes = self._tracker.collect(only=values)
        changes.deleted += gone
        self._publish(changes, merged=self._of_state(state), overruled=overruled, force=self._rounds >= MERGE_ROUNDS)

    def _merge_state(
        self, names: Collection[str], theirs: dict[str, Any], base: dict[str, Any]
    ) -> dict[str, dict[Any, Any]]:
        """Take the process's own state out of what is to be merged, and merge it: what is to be committed of it."""
        state = {}
        for name in [name for name in {*names, *theirs} if name.startswith(PROCESS)]:
            state[name] = self._state.merge(name, theirs.pop(name, {}), base.pop(name, {}))
        return state

    def _held_elsewhere(self, parts: list[Component]) -> set[str]:
        """Names whose newest values are too large to be sent unasked: they count, and come when they are needed."""
        offers = {name: part for part in parts if part.kind == HELD for name in part.names}
        if offers:
            self._offers.update(offers)
            self._warn(f"{_listed(offers)} was changed in another subshell at the same time; that value counts")
        return set(offers)

    def _values_of(self, parts: list[Component]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for part in parts:
            if part.kind == component.VALUE:
                try:
                    values.update(self._load(part, fill_cells=False))
                except Exception as error:
                    log.warning("%s can't be loaded to be merged: %s", _listed(part.names), error)
        return values

    def _copy(self, values: dict[str, Any]) -> dict[str, Any]:
        """`values` as another worker would see them."""
        loaded: dict[str, Any] = self._pickling.load(self._pickling.dump(values), fill_cells=False)
        return loaded


def _next(iterator: Any) -> tuple[bool, Any]:
    try:
        return True, next(iterator)
    except StopIteration:
        return False, None


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:5])
    return shown + (", …" if len(names) > 5 else "")


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
