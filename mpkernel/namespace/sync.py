"""The worker's half of the namespace service: commits what a cell changed, takes over what others committed, merges.

Values are changed by the main thread only, and only between requests or at the start of one: names don't change under
a running cell (unless it says `pull`). Committing in the midst of a cell, for others that start one, is done by the
service thread.

What the broker tells about versions is taken in the order in which it was sent, all from one inbox. What it tells of a
name that has changed here meanwhile isn't taken over: the change is committed, refused, and comes back to be merged. So
it is if a commit of that name was on its way when the broker said so.
"""

from __future__ import annotations

import builtins
import dis
import gc
import logging
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from mpkernel.messages import Acquired, Commit, LaneMessage, Merge, Missed, News, Resent
from mpkernel.namespace import component, weight
from mpkernel.namespace.bindings import is_own
from mpkernel.namespace.changes import Changes, Group, Tracker
from mpkernel.namespace.component import DELETED, HELD, PROCESS, Component
from mpkernel.namespace.definitions import ContentKey
from mpkernel.namespace.exchange import Exchange, Parcels
from mpkernel.namespace.graft import graft
from mpkernel.namespace.husks import retire
from mpkernel.namespace.loading import NotImported
from mpkernel.namespace.lost import homecomers
from mpkernel.namespace.merging import Merging
from mpkernel.namespace.offers import WORD, Offers
from mpkernel.namespace.payload import to_component
from mpkernel.namespace.pickling import Pickled, Pickling
from mpkernel.namespace.pressure import plentiful
from mpkernel.namespace.process_state import Items, ProcessState
from mpkernel.namespace.state_news import StateNews
from mpkernel.namespace.transport import Transport
from mpkernel.namespace.weight import UNLIMITED, Allowance
from mpkernel.namespace.wording import listed, told

log = logging.getLogger("mpkernel.namespace")

# Statements of a cell that follow each other faster are published together (seconds).
RELEASE_INTERVAL, RELEASE_INTERVAL_ALONE = 0.1, 1.0
# CPU time (seconds) that goes into sharing at the end of each cell, as long as there is nobody to share with, and then.
ALONE, NOT_ALONE = 0.01, 0.05
# As much of the time that a cell took may go into it anyway, but so many seconds at most: what has been computed for an
# hour is to outlive a crash.
SHARE, MOST = 0.05, 2.0
# Values that don't change in place, or not by being used.
_UNCHANGING = (int, float, complex, str, bytes, type(None), type, types.ModuleType, types.FunctionType)
_BUILTINS = frozenset(dir(builtins))
# A larger value isn't copied unasked (bytes that pickle must walk): it takes the GIL for 0.1 s and more.
MAX_BACK_UP_IN_BAND = 32 << 20


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
        self._tracker = Tracker(namespace, pickling, lambda: self._state.named)
        self._exchange = Exchange(pickling, self._tracker, transport)
        self.parcels = Parcels(pickling, self._exchange)
        self._state_news = StateNews(self._state, self._exchange.load)
        self._lock = threading.Lock()  # between the main thread and the service thread
        self._backing_up: set[str] = set()  # names whose values are being copied
        self._backed_up = threading.Condition(self._lock)
        self._number = 0  # of the last message about versions that was applied
        self._committed = 0.0  # when: monotonic seconds
        self._began = 0.0  # the cell that runs, or ran
        self._alone = False  # no other subshell has run anything
        self._at_leisure = Allowance()  # for what is done between cells
        self._inbox: deque[News | Acquired | Merge] = deque()
        self._offers = Offers()
        self._merging = Merging(namespace, self._tracker, self._exchange, pickling, self._state, self._offers, warn)
        self.background = False  # threads or tasks of the user's go on between cells
        self.calls_back: Callable[[], bool] = lambda: False  # is code of the user's run that is in no cell?
        self._committed_all = True  # no cell has run since
        self._statement: types.CodeType | None = None  # that was run last
        self.awaits_merge = False  # a commit will be refused
        self._closed = False
        self._commits = 0
        self._changed_by: dict[str, int] = {}  # name: the last commit that the broker may not have had yet
        self._rebound_by: dict[str, int] = {}  # the same, of names that count as rebound
        self._bound_by: dict[str, int] = {}  # and of those that code has bound
        self._void: set[int] = set()  # numbers of messages that could not be followed

    def note_loading(self, note: Callable[[str], None]) -> None:
        """From now on `note` is called with the name of what is about to be loaded, and with "" when it was."""
        self._exchange.note_loading = note

    def startup_done(self) -> None:
        """Startup files and the like have run: each worker has what they made by itself."""
        self._tracker.rebase()
        self._state.rebase()

    def close(self) -> None:
        """The process ends: from now on nothing is committed. IPython is about to clear the namespace."""
        with self._looking():
            self._closed = True

    def ran(self, code: types.CodeType) -> None:
        """A top-level statement of a cell is run."""
        self._committed_all = False
        # If another thread is just looking at everything, nobody waits for it.
        if self._tracker.mentioned(code) and self._lock.acquire(blocking=False):
            self._statement = code
            try:
                self._tracker.lend(code)
            finally:
                self._lock.release()
        self._tracker.ran(code)
        self._state_news.imported()
        self._state.ran(code)

    # --- committing ---------------------------------------------------------------------------------------------------

    def release(self) -> None:
        """After a top-level statement: commit rebound and deleted names, if the last commit isn't just over.

        What nothing else refers to any more is gone in any case, as in every IPython.
        """
        self._let_go()
        seconds = time.monotonic() - self._committed
        if seconds >= (RELEASE_INTERVAL_ALONE if self._alone else RELEASE_INTERVAL):
            self._commit(mutations=False, allowance=Allowance(min(MOST, SHARE * seconds)))

    def _let_go(self) -> None:
        code, self._statement = self._statement, None
        if code is None or not self._lock.acquire(blocking=False):
            return
        try:
            old = self._tracker.let_go(code.co_names)
        finally:
            self._lock.release()
        old.clear()  # which may run code of the user's

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """With the lock, and with all that was lent to code that runs."""
        with self._lock:
            self._tracker.settle()
            yield

    def commit(self) -> None:
        """At the end of a cell: commit what it changed."""
        self.take()
        try:
            self._commit(allowance=self._allowance())
        except Exception:  # code of the user's: a signal handler that raises
            log.warning("what a cell changed is looked for again", exc_info=True)
            self._commit(allowance=self._allowance())
        self._committed_all = True

    def _allowance(self) -> Allowance:
        """What a cell that is at its end may spend on being shared."""
        share = min(MOST, SHARE * (time.monotonic() - self._began))
        return Allowance(max(ALONE if self._alone else NOT_ALONE, share))

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
        with self._telling():
            changes = self._tracker.collect(only=names, force=names) if names else self._tracker.collect()
            self._publish(changes)

    def start_over(self) -> None:
        """Everything may have changed since the last cell: commit what was bound, and have `sweep` look at the rest."""
        with self._telling():
            if self.mode == "shared":
                self._began = time.monotonic()
                self._publish(self._tracker.collect(mutations=False, allowance=self._allowance()), state=True)
                self._tracker.uncheck()

    def sweep(self, seconds: float) -> bool:
        """Between cells, for about so long: look at what the end of the last one left out; whether that was all."""
        if self.mode != "shared":
            return True
        with self._telling():
            self._publish(self._tracker.sweep(seconds))
            return self._tracker.swept

    def only_dear_left(self, seconds: float) -> bool:
        """Whether `sweep` has nothing to do any more."""
        return self._tracker.only_dear_left(seconds)

    def sweep_dear(self) -> None:
        """Between cells: do what there was no time for at the end of the last ones, until `put_off`."""
        with self._telling():
            self._at_leisure = Allowance()
            with _no_garbage_collection():
                changes = self._tracker.sweep_dear(self._at_leisure)
            self._publish(changes)

    def put_off(self) -> None:
        """In any thread: a cell is to run, what is done between cells has to wait."""
        self._at_leisure.withdraw()

    @property
    def holds(self) -> bool:
        """Whether there are large values that would be lost with this process, and could be copied."""
        return self.mode == "shared" and self._tracker.holds

    def back_up(self) -> None:
        """In the service thread, while no cell runs: copy large values, as long as there is plenty of memory.

        The lock is free while memory is written: what is changed meanwhile is found afterwards.
        """
        while True:
            with self._looking():
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
        try:
            copy = self._exchange.copy(values, pickled)
        except OSError as error:
            log.info("no copy of %s is kept: %s", listed(values), error)
            return
        copy.part.meta["rebound"] = []
        with self._looking():
            if not self._tracker.copied(group, digest):
                copy.drop()
                return
            self._exchange.sent(copy)
            heads, blobs = component.join([copy.part])
            self._send_commit(Commit(self._number, heads, [], False, blobs))

    @property
    def seconds_to_cold(self) -> float | None:
        """Until `cool` may have something to do; None if it won't."""
        return self._exchange.seconds_to_cold

    def cool(self) -> None:
        """Between cells, while no code of the user's runs: see `cold`."""
        with self._looking():
            self._exchange.cool()

    @property
    def settled(self) -> bool:
        """Whether everything that cells have changed is committed."""
        return self.mode != "shared" or self._tracker.swept

    def _commit(
        self, *, mutations: bool = True, only: Collection[str] | None = None, allowance: Allowance = UNLIMITED
    ) -> None:
        if self.mode != "shared":
            return
        with self._telling():
            self._committed = time.monotonic()
            with _no_garbage_collection():
                changes = self._tracker.collect(mutations=mutations, only=only, allowance=allowance)
            live = self._of_state(self._state.changes(live=True)) if only is not None else ()
            self._publish(changes, state=only is None, merged=live)

    def _publish(
        self,
        changes: Changes,
        *,
        overruled: list[str] | None = None,
        force: bool = False,
        state: bool = False,
        merged: Collection[Component] = (),
        in_message: bool = False,
    ) -> None:
        """Within `_telling`, so that commits go out in the order in which changes were found.

        With `state`, what has changed in the process's own state goes first: others need it to load the rest. With
        `in_message`, nothing travels by segment.
        """
        if self._closed:
            return
        components = [*merged]
        if state:
            self._state_news.before_commit()
            components += self._of_state(self._state.changes())
        components += [
            self._exchange.component(names, pickled, in_message=in_message) for names, pickled in changes.changed
        ]
        components += [self._exchange.delta(patch) for patch in changes.patched]
        components += [Component(tuple(names), HELD) for names in changes.held]
        for part in components:
            rebound = part.meta.setdefault("rebound", [name for name in part.names if name in changes.rebound])
            if not changes.bound.issuperset(rebound):
                part.meta["bound"] = [name for name in rebound if name in changes.bound]
        components += [Component((name,), DELETED) for name in changes.deleted]
        if components or overruled is not None:
            heads, blobs = component.join(components)
            self._send_commit(Commit(self._number, heads, overruled or [], force, blobs))
        self._tracker.told()
        self._exchange.let_go()

    def _send_commit(self, commit: Commit) -> None:
        self._commits += 1
        for part in component.split(commit.components, commit.blobs):
            if part.kind != DELETED:
                self._changed_by.update(dict.fromkeys(part.names, self._commits))
                self._rebound_by.update(dict.fromkeys(part.rebound, self._commits))
                self._bound_by.update(dict.fromkeys(part.bound, self._commits))
        self._send(commit)

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """With the lock: what is found in here is published, or will be found again."""
        with self._looking():
            try:
                yield
            except BaseException:
                self._tracker.take_back()
                raise

    def _of_state(self, changes: dict[str, Items]) -> list[Component]:
        """The process's state as components, each of which is always sent as a whole."""
        components = [
            to_component([name], self._pickling.dump({name: items}), None)[0] for name, items in changes.items()
        ]
        for part in components:
            part.meta["rebound"] = list(part.names)
        return components

    def taken(self, segments: list[str], refused: list[str]) -> None:
        """The broker has these segments of ours, and can't get at those that it refuses. In any thread."""
        try:
            with self._looking():
                again = self._exchange.taken(segments, refused)
            for names in again:
                with self._telling():
                    changes = self._tracker.collect(only=names, force=names)
                    changes.bound = changes.rebound  # which of them were is lost with the commit
                    self._publish(changes, in_message=True)
        finally:
            if refused:
                self._send(Resent())  # a reply waits for that

    def keep(self, key: str, names: list[str]) -> None:
        """In the service thread: there is no copy any more of what was sent as `key`."""
        with self._looking():
            self._tracker.hold(self._exchange.given_up(key, names))

    # --- receiving ----------------------------------------------------------------------------------------------------

    def put(self, message: News | Acquired | Merge) -> None:
        """In the IO thread: here is what `take` will find."""
        self._inbox.append(message)

    @property
    def has_to_merge(self) -> bool:
        """Whether a reply waits for `take`."""
        return any(isinstance(message, Merge) for message in tuple(self._inbox))

    def take(self) -> None:
        """Take over what other subshells committed, and merge it with what was refused."""
        while self._inbox:
            with self._telling():
                try:
                    message = self._inbox.popleft()
                except IndexError:  # another thread was faster
                    return
                if isinstance(message, Merge):
                    self._merge_or_insist(message)
                    continue
                try:
                    self._apply(message)
                except BaseException as error:
                    parts = component.split(message.components, message.blobs)
                    self._miss(message.number, [(part, error) for part in parts if part.kind == component.VALUE])
                    raise

    def _apply(self, news: News | Acquired) -> None:
        parts = list(component.split(news.components, news.blobs))
        for part in parts:
            if part.names[0].startswith(PROCESS):
                self._state_news.receive(part, imports=self.mode != "shared")
        parts = [part for part in parts if not part.names[0].startswith(PROCESS)]
        changed, rebound = self._changed_meanwhile(parts)
        changed |= _after(news.commits, self._changed_by)
        rebound |= _after(news.commits, self._rebound_by)
        _after(news.commits, self._bound_by)
        fresh: dict[str, Any] = {}
        contents: dict[ContentKey, Any] = {}
        grouped: list[tuple[list[str], list[str]]] = []
        missed: list[tuple[Component, BaseException]] = []
        with self._lending(fresh) as lend:
            for part in sorted(parts, key=_order):
                if changed.isdisjoint(part.given) if part.kind != DELETED else rebound.isdisjoint(part.given):
                    try:
                        names = self._take_over_as_needed(part, news, fresh, contents)
                    except Exception as error:
                        if not isinstance(error, NotImported):
                            log.warning("%s could not be loaded", listed(part.names), exc_info=True)
                        missed.append((part, error.with_traceback(None)))  # that would keep alive all that is in here
                    else:
                        grouped.append((names, [key for key, _ in part.meta.get("defs", ())]))
                        lend(names)
        self._miss(news.number, missed)
        # All at once: of two names that shared an object and no longer do, one keeps it.
        torn = [name for name in fresh if self._tracker.shares_beyond(name, fresh.keys())]
        held = self._pickling.contents(contents)
        arriving = fresh.keys()
        self._state.arrived()
        old = self._tracker.values(fresh.keys() - set(torn)) | self._state.counterparts(arriving) | held
        self._state_news.imported()
        copies = [*self._tracker.values(fresh).values(), *fresh.values(), *held.values(), *contents.values()]
        late: list[None] = []
        # Nor is what belongs to other names patched: that a value too dear to pickle shared it wasn't known.
        made = graft(
            old,
            fresh | contents,
            keep=lambda obj: self._tracker.is_shared_beyond(obj, arriving),
            came_late=lambda: late.append(None),
            stay=self._homecomers(parts, fresh),
        )
        old.clear()
        held.clear()
        fresh = {name: made[name] for name in fresh}
        self._namespace.update(fresh)
        self._state.delivered()
        self._pickling.put({key: made[key] for key in contents})
        self._tracker.received(fresh, grouped, self._exchange.known_as(fresh), checked=self.mode == "shared")
        for names, _, meta, *_ in news.offers:
            self._offers.add(names, why=meta.get("why", ""))
        self._number = max(self._number, news.number)
        retire(copies)
        if late and self.mode == "shared":  # a thread's change is in what others don't have
            self._publish(self._tracker.collect(only=fresh.keys(), force=fresh.keys()))
        if self.background:
            self._tracker.prepare(None)
            self._send_commit(Commit(self._number, [], [], False, ()))  # no reply may say that this was taken over

    def _homecomers(self, parts: list[Component], fresh: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
        """What has come for what is here and others could not load, with that."""
        for part in parts:
            if part.meta.get("left_out"):
                old = self._tracker.values(fresh.keys() & part.given)
                yield from homecomers(old, {name: fresh[name] for name in part.given if name in fresh})

    @contextmanager
    def _lending(self, fresh: Mapping[str, Any]) -> Iterator[Callable[[Collection[str]], None]]:
        """Bind names of `fresh` that are new here while others are loaded: what runs then may use them."""
        lent: dict[str, Any] = {}

        def lend(names: Collection[str]) -> None:
            new = {name: fresh[name] for name in names if name in fresh and name not in self._namespace}
            lent.update(new)
            self._namespace.update(new)

        try:
            yield lend
        finally:
            for name in lent:
                self._namespace.pop(name, None)

    def _changed_meanwhile(self, parts: list[Component]) -> tuple[set[str], set[str]]:
        """Of the names in `parts`, those that have changed here since the last commit, and those that were rebound.

        They are committed, as of before the news.
        """
        if self.mode != "shared" or (self._committed_all and self._tracker.swept and not self.background):
            return set(), set()
        names = {name for part in parts for name in part.names}
        changes = self._tracker.collect(only=names, deliver=False)  # whatever it takes, so that nothing is lost
        self._publish(changes)
        self.awaits_merge = self.awaits_merge or bool(changes.names)
        return changes.names, changes.rebound

    def _take_over_as_needed(
        self, part: Component, news: News | Acquired, fresh: dict[str, Any], contents: dict[ContentKey, Any]
    ) -> list[str]:
        """As `_take_over`, with imports if a cell needs it, or if code that nobody looked at may."""
        wanted = self.mode != "shared" or _is_asked_for(part, news)
        try:
            return self._take_over(part, fresh, contents, imports=wanted)
        except NotImported:
            # Of an object that is here and was changed in place: somebody else may hold it.
            held = any(name in self._namespace for name in part.given if name not in part.rebound)
            if wanted or not (held or self.background or self.calls_back()):
                raise
        return self._take_over(part, fresh, contents, imports=True)

    def _take_over(
        self, part: Component, fresh: dict[str, Any], contents: dict[ContentKey, Any], *, imports: bool
    ) -> list[str]:
        """Put what `part` has into `fresh` and `contents`; returns the names.

        Raises whatever loading it raises, and NotImported if that took a library, but for `imports`.
        """
        names = part.given
        self._offers.drop(names)
        if part.kind == DELETED:
            copies = [self._namespace.pop(name, None) for name in names]
            self._tracker.forget(names)
            retire(copies)
            return []
        if self._exchange.patched(part, names):
            return []
        self._exchange.arrived(names, self._exchange.take(part, names, fresh, contents, imports=imports))
        return list(names)

    def _miss(self, number: int, parts: Collection[tuple[Component, BaseException]]) -> None:
        """The values of `parts`, told of by message `number`, aren't here: a cell that needs them asks again."""
        for part, error in parts:
            names = part.given
            self._offers.add(names, error)
            self._send(Missed(number, list(names)))

    def starts(self, *, beside: bool, alone: bool) -> None:
        """A cell is about to run; `beside` others? `alone`: no other subshell has run anything."""
        self._began, self._alone = time.monotonic(), alone
        with self._looking():
            self._state.before_cell(beside=beside)

    def before_cell(self, code: types.CodeType | None) -> None:
        """A cell is about to run that may change what came from elsewhere; None: a callback, though no cell runs."""
        if code is None:
            self._began = time.monotonic()
        with self._looking():
            self._committed_all = False
            self._tracker.prepare(code)

    def prepare(self) -> None:
        """In the midst of a cell: code may change whatever has come from elsewhere since it began."""
        with self._looking():
            self._tracker.prepare(None)

    def may_need(self, *, crowded: bool) -> bool:
        """Whether it matters what a cell can reach: more than the news that came with it, or a fingerprint."""
        return self.mode == "shared" and (crowded or self.has_offers or self._tracker.has_unknown)

    @property
    def has_offers(self) -> bool:
        """Whether other subshells have values that this one hasn't, and could need."""
        return self.mode == "shared" and bool(self._offers)

    def needs(self, codes: Collection[types.CodeType], *, crowded: bool) -> set[str] | None:
        """The names of which a cell that runs `codes` should ask for newer values before it starts; None for all."""
        if not crowded and not self._offers:
            return set()
        names = self._tracker.reached(codes, self._meant if self._offers else None)
        if names is None:
            return None
        return (names - _BUILTINS if crowded else self._offers.among(names)) | self._offers.of_packages(names)

    def _meant(self, text: str, code: types.CodeType) -> set[str]:
        """The names that `code` may mean by `text`, if they are offered or have code that names others."""
        here = {word for word in WORD.findall(text) if _has_code(self._namespace.get(word))}
        return self._offers.quoted(text, code) | here

    @property
    def loadable(self) -> set[str]:
        """Names whose values were not taken because of a library that has been imported since."""
        return self._offers.loadable()

    def waiting_in(self, text: str) -> set[str]:
        """Names in `text` whose values need a library that isn't imported here."""
        return self._offers.waiting_in(text)

    def is_offered(self, name: str) -> bool:
        """Whether another subshell has a value of `name` that this one hasn't."""
        return name in self._offers

    def not_had(self, names: Collection[str]) -> Iterator[str]:
        """What to tell a user whose code needs `names`: values of other subshells that aren't here."""
        return self._offers.complaints(names)

    def touched_by_both(self, ours: types.CodeType, theirs: types.CodeType) -> str:
        """Variables that `ours` can reach and `theirs` may be changing, listed for people."""
        stored = {i.argval for i in dis.get_instructions(theirs) if i.opname in ("STORE_NAME", "STORE_GLOBAL")}
        reach_theirs, reach_ours = self._tracker.reached([theirs]), self._tracker.reached([ours])
        mutable = {name for name, value in self._namespace.items() if not isinstance(value, _UNCHANGING)}
        both = stored | mutable if reach_theirs is None else stored | (mutable & reach_theirs)
        both = both & set(self._namespace) if reach_ours is None else both & reach_ours
        here = self._namespace
        both = {name for name in both if not issubclass(type(here.get(name)), types.ModuleType)}  # imported there, too
        return listed(sorted(name for name in both if not is_own(name)))

    # --- merging ------------------------------------------------------------------------------------------------------

    def _merge_or_insist(self, message: Merge) -> None:
        """Merge what others committed into what is here, and commit that; there is a commit whatever happens."""
        try:
            if self.mode == "shared":
                self._publish(self._tracker.collect())  # of the names to be merged, it will be refused
        except BaseException:  # odd objects of the user's
            log.warning("what has changed is looked for again", exc_info=True)
            self._tracker.take_back()
        if self._is_void(message):
            return
        self.awaits_merge = False
        state: dict[str, Items] = {}  # what became of the process's own state
        try:
            self._merge(message, state)
        except BaseException as error:
            log.warning("%s could not be merged", listed(message.names), exc_info=True)
            self._tracker.take_back()
            self._number = max(self._number, message.number)
            self._warn(
                f"{listed(message.names)} could not be merged with what another subshell made of it "
                f'({told(error)}); this cell\'s value counts. The other one: mpkernel.theirs("{message.names[0]}")'
            )
            self._insist(message.names, state)  # after that the reply goes out

    def _is_void(self, message: Merge) -> bool:
        """Whether the broker takes something for what is here that isn't: see `Merge`. It has noticed that, too."""
        theirs = islice(component.split(message.components, message.blobs), message.n_theirs)
        names = {name for part in theirs for name in part.given}.difference(message.names)
        changed = any(self._changed_by.get(name, 0) > message.commits for name in names)
        if changed or not self._void.isdisjoint(message.relies_on):
            self._void.add(message.number)
            return True
        return False

    def _insist(self, names: list[str], state: dict[str, Items]) -> None:
        """Commit what is here, in any case."""
        try:
            changes = self._tracker.collect(only=names, force=names)
            changes.bound = changes.rebound
            self._publish(changes, overruled=names, force=True, merged=self._of_state(state))
        except BaseException:
            log.warning("%s can't be committed", listed(names), exc_info=True)
            self._tracker.take_back()
            self._send_commit(Commit(self._number, [], names, True, ()))

    def _merge(self, message: Merge, state: dict[str, Items]) -> None:
        rivals = self._merging.rivals(message)
        later = {name for name, commits in self._bound_by.items() if commits > message.commits}
        rivals.bound_here |= later
        state.update(self._merging.merge_state(rivals))
        self._state_news.drop(state)
        merged = self._merging.merge_values(rivals)
        self._number = max(self._number, message.number)
        changes = self._tracker.collect(only=merged.names)
        changes.bound &= merged.bound
        changes.deleted += merged.gone
        self._publish(changes, merged=self._of_state(state), overruled=merged.overruled)


def _order(part: Component) -> tuple[bool, bool, int]:
    """What is small is loaded first: to load an instance may take functions that use others by their names."""
    size = len(part.blobs[0]) if part.blobs else 0
    return bool(part.meta.get("defs")), "pickle" in part.meta, size


def _is_asked_for(part: Component, news: News | Acquired) -> bool:
    """Whether a cell here needs what `part` has."""
    return isinstance(news, Acquired) and (news.names is None or not set(news.names).isdisjoint(part.given))


def _has_code(value: Any) -> bool:
    """Whether it is a function or class of the notebook, or an instance of one."""
    kind = type(value)
    return kind is types.FunctionType or "__main__" in (kind.__module__, isinstance(value, type) and value.__module__)


def _after(commits: int, by: dict[str, int]) -> set[str]:
    """The names that came with a later one; the others are forgotten."""
    for name in [name for name, number in by.items() if number <= commits]:
        del by[name]
    return set(by)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """To pickle makes Python look through all objects again and again, and leaves no garbage.

    In the main thread only: beside it, code of the user's may run that turns the collector on or off.
    """
    if threading.current_thread() is not threading.main_thread() or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
