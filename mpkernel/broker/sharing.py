"""The broker's part in sharing variables: who is told what, who has to merge, who is asked in the middle of a cell.

The store has the versions; here they meet subshells, workers and clocks. Three rules:

1. A reply isn't out before what its cell made is in the store. If the commit before it was refused, it is held back
   until the worker has merged; if its memory could not be had, until the worker has sent it by other means. If there is
   no such memory because the process is gone, the cell is one that was lost with it.
2. A cell that starts waits for running ones no longer than `ANSWER_LIMIT`: who sits in C code doesn't answer. Only for
   a large value that nobody else has, and for a process that runs no cell, it waits longer. A cell that may reach
   everything (`eval`, magics) waits for all large values, but not again for those whose owner didn't give them in time.
3. Who asks for what an idle process has still to merge waits until that is done: for `IDLE_LIMIT` at most, and not if
   that process waits, directly or through others, for the one who asks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

from mpkernel import messages
from mpkernel.broker.events import CancelTimer, MemoryShort, SegmentsRefused, SetTimer, SignalProcess, ToWorker
from mpkernel.broker.state import Subshell, Worker
from mpkernel.broker.turns import Turns
from mpkernel.namespace.clash import Clash
from mpkernel.namespace.component import join, split
from mpkernel.namespace.store import NamespaceStore, Telling
from mpkernel.namespace.wording import listed

if TYPE_CHECKING:
    from mpkernel.broker.machine import Machine

# Seconds after which a running cell that has not answered is left alone, and after which it is helped to answer.
ANSWER_LIMIT = 0.2
KICK_AFTER = 0.001
# One that runs no cell isn't in C code, but perhaps slow on a busy machine, or merging something large.
IDLE_LIMIT = 2.0
# Somebody who alone has a large value needs time to copy it; less if it isn't named, and perhaps not wanted at all.
HOLDER_LIMIT = 120.0
UNNAMED_LIMIT = 10.0
# Threads that go on between cells hear of what others commit after so many seconds, all of it together.
TELL_AFTER = 0.05
# A cell that is done waits no longer for a value that its own is to be merged with.
MERGED_LIMIT = 2.0
# Nor does a process that is to end wait longer for its turn to merge its last changes.
LAST_MERGE_LIMIT = 1.0


@dataclass(slots=True)
class _Acquisition:
    worker: int  # for whom; 0: for the broker itself
    token: int
    names: list[str] | None
    waiting: set[int]
    holders: set[int]
    silent: list[list[str]]
    also: list[str] = field(default_factory=list)  # names whose offered values are given, too
    wanted: Mapping[int, list[str] | None] = field(default_factory=dict)  # of whom which names (None: all)
    looks: int = 0  # at whom to give up: first those that run a cell, then all but holders, then all
    holder_limit: float = HOLDER_LIMIT
    then: Callable[[], None] | None = None


@dataclass(slots=True)
class _Untold:
    """What a worker is to merge once others have given what they alone have. What it asks for meanwhile comes after."""

    clash: Clash
    waits_for: int = 0  # so many acquisitions
    asked: list[messages.Acquire] = field(default_factory=list)


class Sharing:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.store = NamespaceStore()
        self.turns = Turns(self, machine.act)
        self._acquisitions: dict[int, _Acquisition] = {}
        self._refused: dict[int, deque[list[str]]] = {}  # by worker: names whose memory could not be had, by commit
        self._untold: dict[int, _Untold] = {}  # by worker
        self._half_released: dict[int, list[int]] = {}  # by worker: what it released, while some of that is refused
        self._leaving: dict[int, Worker] = {}  # those that tell the last that they have, by id
        self._last_merges: dict[int, Callable[[], None]] = {}  # what comes when they have merged that, by id
        self._slow: set[int] = set()  # workers that did not answer the last time, and have not yet
        self._withheld: dict[int, set[str]] = {}  # by worker: held names of which it was told that they can't be had
        self._tells_soon = False
        self._kicked: set[int] = set()  # workers whose running cell let nobody else run, so that they had to be kicked

    # --- commits ------------------------------------------------------------------------------------------------------

    def on_commit(self, worker: Worker, message: messages.Commit) -> None:
        if self.turns.puts_off(worker, message):
            return
        clash = self._commit(worker, message)
        if clash is not None:
            self._have_merged(worker, clash)
        elif not self.store.clashing(worker.id):
            self.turns.on_through(worker)
            self.on_last_merge(worker.id)
        self._machine.keeping.changed()
        self.on_caught_up(worker)
        self._machine.release_reply(worker)
        self._tell_soon()

    def _commit(self, worker: Worker, message: messages.Commit) -> Clash | None:
        components = split(message.components, message.blobs)
        return self.store.commit(worker.id, message.after, components, force=message.force, lost=message.overruled)

    def _have_merged(self, worker: Worker, clash: Clash) -> None:
        """If others alone have what it is to be merged with, they are asked for that first."""
        untold = self._untold.setdefault(worker.id, _Untold(Clash()))
        untold.clash.add(clash)

        def had() -> None:
            untold.waits_for -= 1
            if not untold.waits_for and self._untold.get(worker.id) is untold:
                self._tell_clash(worker)

        if held := self._held_elsewhere(worker.id, clash.heads.keys()):
            untold.waits_for += 1
            waiting = set(held)
            holders = waiting.copy()
            acquisition = _Acquisition(worker.id, 0, None, waiting, holders, [], holder_limit=MERGED_LIMIT, then=had)
            self._ask(self._machine.number(), acquisition, held)
            self.turns.give_up(worker)
        elif not untold.waits_for:
            self._tell_clash(worker)

    def _tell_clash(self, worker: Worker) -> None:
        untold = self._untold.pop(worker.id)
        clash = self.store.brought_up(worker.id, untold.clash)
        number = self.store.clash_told(worker.id, clash)
        merge = messages.Merge(number, self.store.commits(worker.id), *clash_fields(clash))
        self._machine.act(ToWorker(worker.id, merge))
        self.turns.on_overtaken(worker)
        for message in untold.asked:
            self.on_acquire(worker, message)

    def on_memory_short(self, event: MemoryShort) -> None:
        """Give up copies of values that are still with those who made them, but for what somebody waits for."""
        asked = [acquisition.names for acquisition in self._acquisitions.values() if acquisition.token]
        if None not in asked:
            wanted = {name for names in asked for name in names or ()}
            self._have_kept(self.store.give_up(event.nbytes, event.segments, wanted))

    def on_deadly(self, worker: Worker, name: str) -> list[str]:
        """`worker` has ended while it loaded the value of `name`. Returns the names that nobody is sent any more."""
        names, kept = self.store.withhold(worker.id, name, self._heirs(worker))
        self._have_kept(kept)
        return names

    def _have_kept(self, given_up: Iterable[tuple[int, str, list[str]]]) -> None:
        for worker, key, names in given_up:
            self._machine.act(ToWorker(worker, messages.Keep(key, names), service=True))

    def _heirs(self, worker: Worker) -> list[int]:
        """Those who may keep what was given up when `worker` is gone."""
        others = (subshell.worker for subshell in self._machine.subshells.values() if subshell.mode == "shared")
        return [other.id for other in others if other and other is not worker and other.ready and not other.ending]

    def holds_back(self, worker: Worker) -> bool:
        """Rule 1."""
        return bool(self.store.clashing(worker.id)) or self.turns.waits(worker) or worker.id in self._refused

    def on_refused(self, event: SegmentsRefused) -> None:
        self._refused.setdefault(event.worker, deque()).append(event.names)

    def on_resent(self, worker: Worker, message: messages.Resent) -> None:
        if self.turns.puts_behind(worker, message):
            return
        if refused := self._refused.get(worker.id):
            self.store.resent(worker.id, refused.popleft())
        if not refused:
            self._refused.pop(worker.id, None)
            self.on_caught_up(worker)
            self._machine.release_reply(worker)

    def _is_unmerged(self, worker: Worker, token: int) -> bool:
        """Rule 3: whether what `worker` has committed when asked still waits, or has to be merged first."""
        acquisition = self._acquisitions.get(token)
        if acquisition is None or worker.id in self._refused:
            return acquisition is not None
        wanted = acquisition.wanted[worker.id]
        merges = set() if _is_busy(worker) else self._merges(worker)
        waits = self.turns.waits(worker) or bool(merges if wanted is None else merges.intersection(wanted))
        return waits and not self._waits_for(worker.id, acquisition.worker)

    def _merges(self, worker: Worker) -> set[str]:
        """Names that `worker` has to merge."""
        untold = self._untold.get(worker.id)
        return {*self.store.clashing(worker.id), *(untold.clash.heads if untold is not None else ())}

    def _waits_for(self, worker: int, other: int) -> bool:
        """Whether `worker`, or somebody that it waits for, waits until `other` has merged; each waits for itself."""
        return worker == other or any(
            self._waits_for(merging, other)
            for token, acquisition in self._acquisitions.items()
            if acquisition.worker == worker
            for merging in acquisition.waiting
            if token in self._half_released.get(merging, ())
        )

    def on_caught_up(self, worker: Worker) -> None:
        """All that `worker` has committed may be in the store by now."""
        for token in self._half_released.pop(worker.id, ()):
            self._release(worker, token)

    def lost_names(self, worker: Worker) -> list[str]:
        """Names whose newest value goes with `worker`."""
        refused = chain.from_iterable(self._refused.get(worker.id, ()))
        return sorted({*self.store.lost_names(worker.id, self._heirs(worker)), *refused})

    def fallen_back(self, worker: Worker) -> list[str]:
        """Those of `lost_names` of which another process has an older value, which counts then."""
        heirs = self._heirs(worker)
        return [name for name in self.store.lost_names(worker.id, heirs) if self.store.older(name, heirs) is not None]

    def on_reply(self, worker: Worker) -> None:
        """What `worker` was told before the request, it has applied by now."""
        self._kicked.discard(worker.id)
        self.store.heard(worker.id, worker.last_told)
        self._tell_soon()

    def on_callback_done(self, worker: Worker, told: int, *, background: bool) -> None:
        """The same, of a message for a comm, or a call, if no cell and no thread ran beside it.

        Unless it has committed something before that waits, and is without what it was told since.
        """
        if not background and not self.turns.waits(worker):
            self.store.heard(worker.id, told)

    # --- at the start of a cell ---------------------------------------------------------------------------------------

    def before_request(self, worker: Worker, subshell: Subshell) -> bool:
        """Tell `worker` what is new; returns whether it may have to ask cells that are running for more."""
        if subshell.mode == "isolated" or (subshell.mode == "snapshot" and worker.told):
            return False
        worker.told = True
        wanted = None if subshell.mode == "snapshot" else ()
        if (telling := self.store.news(worker.id, wanted)) is not None:
            worker.last_told = telling.number
            news = messages.News(telling.number, self.store.commits(worker.id), *_fields(telling))
            self._machine.act(ToWorker(worker.id, news))
        return any(self._others(worker))

    def before_comms(self, worker: Worker, subshell: Subshell) -> None:
        """The same before messages for comms.

        One whose threads go on doesn't tell when it has applied the news; it gets no more of them once there are many,
        until it runs a cell.
        """
        if not self.store.is_behind(worker.id):
            self.before_request(worker, subshell)

    def _tell_soon(self) -> None:
        """Threads and tasks that go on between cells use what others have committed."""
        if not self._tells_soon and any(self._that_go_on()):
            self._tells_soon = True
            self._machine.act(SetTimer(("tell",), TELL_AFTER))

    def on_tell_timer(self) -> None:
        self._tells_soon = False
        for worker, subshell in list(self._that_go_on()):
            self.before_comms(worker, subshell)

    def _that_go_on(self) -> Iterable[tuple[Worker, Subshell]]:
        """Workers whose threads may use variables between cells, and that have not been told of all that is new."""
        for subshell in self._machine.subshells.values():
            worker = subshell.worker
            if worker is None or not worker.background or subshell.running is not None or worker.ending:
                continue
            if subshell.mode == "shared" and self.store.has_news(worker.id):
                yield worker, subshell

    def cells_run_beside(self, worker: Worker) -> bool:
        """Whether another subshell runs a cell at this moment."""
        return any(other.subshell is not None and _runs_a_cell(other.subshell) for other in self._others(worker))

    def is_alone(self, worker: Worker) -> bool:
        """Whether no other process has been told of variables."""
        return not any(other.told for other in self._machine.workers.values() if other is not worker)

    def _others(self, worker: Worker | None) -> Iterable[Worker]:
        """Those who may change variables right now."""
        for subshell in self._machine.subshells.values():
            other = subshell.worker
            if other is None or other is worker or not other.ready or other.ending or subshell.mode != "shared":
                continue
            if other.background or _runs_a_cell(subshell) or self.holds_back(other):
                yield other
        yield from self._leaving.values()

    def on_acquire(self, worker: Worker, message: messages.Acquire) -> None:
        if worker.id in self._untold:
            self._untold[worker.id].asked.append(message)
            return
        names = message.names
        asked = set() if names == [] else {other.id for other in self._others(worker)}
        held = self._held_elsewhere(worker.id, names)
        holders = set(held) if names is not None else set(held) - self._slow
        waiting = (asked - self._slow) | holders
        limit = HOLDER_LIMIT if names is not None else UNNAMED_LIMIT
        acquisition = _Acquisition(
            worker.id, message.token, names, waiting, holders, [], also=message.also, holder_limit=limit
        )
        for other in asked & self._slow - holders:
            self._give_up_on(acquisition, other)
        wanted = {other: names if names is not None or other in asked else held[other] for other in waiting}
        self._ask(self._machine.number(), acquisition, wanted)

    def _held_elsewhere(self, worker: int, names: Collection[str] | None) -> dict[int, list[str]]:
        """Those of `names` (None: of all) that only others have, by their owners."""
        if names is None:
            found = self.store.held()
        else:
            found = {}
            for name in names:
                if (holder := self.store.holder(name)) is not None:
                    found.setdefault(holder, []).append(name)
        return {owner: of for owner, of in found.items() if owner != worker and owner in self._machine.workers}

    def gather(self, then: Callable[[], None], holder_limit: float = HOLDER_LIMIT) -> None:
        """Have the store get what running cells have changed, and values that only their makers have; then call `then`.

        Who has not answered after `ANSWER_LIMIT`, or `holder_limit` seconds for a large value, isn't waited for.
        """
        workers = self._machine.workers
        held = self.store.held()
        wanted: dict[int, list[str] | None] = {
            worker: names
            for worker, names in held.items()
            if worker in workers and workers[worker].ready and not workers[worker].ending
        }
        holders = set(wanted)
        wanted |= {other.id: None for other in self._others(None) if other.id not in self._slow or other.id in holders}
        acquisition = _Acquisition(0, 0, None, set(wanted), holders, [], holder_limit=holder_limit, then=then)
        self._ask(self._machine.number(), acquisition, wanted)

    def last_call(self, worker: Worker, then: Callable[[], None], *, busy: bool) -> None:
        """Have the store get all that `worker` has changed and not told, or tells only who asks; then call `then`.

        A `busy` one can't merge what others were faster with before its cell has ended.
        """

        def told() -> None:
            self._leaving.pop(worker.id, None)
            self._last_merges[worker.id] = then
            if self.holds_back(worker) and not busy:
                self._machine.act(SetTimer(("last merge", worker.id), LAST_MERGE_LIMIT))
            else:
                self.on_last_merge(worker.id)

        if not (worker.ready and worker.told and worker.subshell is not None and worker.subshell.mode == "shared"):
            then()
            return
        self._leaving[worker.id] = worker
        holders = {worker.id} & self.store.held().keys()
        limit = UNNAMED_LIMIT
        acquisition = _Acquisition(worker.id, 0, None, {worker.id}, holders, [], holder_limit=limit, then=told)
        self._ask(self._machine.number(), acquisition, {worker.id: None})

    def on_last_merge(self, worker: int) -> None:
        """`worker` has merged all that it has told, or takes too long; if it was the last that it had, it may go."""
        if then := self._last_merges.pop(worker, None):
            self._machine.act(CancelTimer(("last merge", worker)))
            then()

    def _ask(self, token: int, acquisition: _Acquisition, wanted: Mapping[int, list[str] | None]) -> None:
        """Have workers commit the names that are wanted of them (None: all)."""
        self._acquisitions[token] = acquisition
        acquisition.wanted = wanted
        for worker, names in wanted.items():
            self._machine.act(ToWorker(worker, messages.Release(token, names), service=True))
            if worker in self._kicked:
                self._machine.act(SignalProcess(worker, messages.KICK_SIGNAL))
        if not wanted:
            self._finish(token)
            return
        self._machine.act(SetTimer(("kick", token), KICK_AFTER))
        self._machine.act(SetTimer(("acquire", token), ANSWER_LIMIT))

    def on_released(self, worker: Worker, message: messages.Released) -> None:
        self._release(worker, message.token)

    def _release(self, worker: Worker, token: int) -> None:
        """`worker` has committed what it was asked for."""
        if self._is_unmerged(worker, token):
            self._half_released.setdefault(worker.id, []).append(token)
            return
        self._slow.discard(worker.id)
        acquisition = self._acquisitions.get(token)
        if acquisition is not None:
            acquisition.waiting.discard(worker.id)
            if not acquisition.waiting:
                self._finish(token)

    def on_settled(self, worker: Worker, message: messages.Settled) -> None:
        """Nobody needs to ask `worker` any more."""
        worker.background = False

    def on_kick_timer(self, token: int) -> None:
        """The owners that have not answered: a signal has their main thread let the service thread run."""
        if acquisition := self._acquisitions.get(token):
            for worker in acquisition.waiting - self._kicked:
                self._kicked.add(worker)
                self._machine.act(SignalProcess(worker, messages.KICK_SIGNAL))

    def on_acquire_timer(self, token: int) -> None:
        """Rules 2 and 3."""
        if (acquisition := self._acquisitions.get(token)) is None:
            return
        acquisition.looks += 1
        late = {worker for worker in acquisition.waiting if self._is_late(acquisition, token, worker)}
        for worker in late:
            self._slow.add(worker)
            self._give_up_on(acquisition, worker)
        acquisition.waiting -= late
        if acquisition.waiting:
            idle_limit = min(IDLE_LIMIT, acquisition.holder_limit)
            limit = idle_limit if acquisition.looks == 1 else acquisition.holder_limit - idle_limit
            self._machine.act(SetTimer(("acquire", token), limit))
        else:
            self._finish(token)

    def _is_late(self, acquisition: _Acquisition, token: int, worker: int) -> bool:
        busy = _is_busy(self._machine.workers[worker])
        if worker in acquisition.holders and not (busy and token in self._half_released.get(worker, ())):
            return acquisition.looks > 2
        return busy or acquisition.looks > 1

    def _subshell_of(self, worker: int) -> Subshell | None:
        known = self._machine.workers.get(worker)
        return known.subshell if known is not None else None

    def _give_up_on(self, acquisition: _Acquisition, worker: int) -> None:
        subshell = self._subshell_of(worker)
        if subshell is not None:
            code = subshell.running.content().get("code") if subshell.running is not None else ""
            acquisition.silent.append([subshell.shown, str(code)])

    def _finish(self, token: int) -> None:
        acquisition = self._acquisitions.pop(token)
        self._machine.act(CancelTimer(("kick", token)))
        self._machine.act(CancelTimer(("acquire", token)))
        if acquisition.then is not None:
            acquisition.then()
            return
        worker = self._machine.workers.get(acquisition.worker)
        if worker is None:
            return
        if acquisition.names is None:
            self._tell_missing(worker)
        shares = worker.subshell is None or worker.subshell.mode == "shared"
        if shares or acquisition.names is None:
            names = acquisition.names
            telling = self.store.news(worker.id, None if names is None else [*names, *acquisition.also])
        else:  # it pulls these, and leaves the rest as it was
            telling = self.store.only(worker.id, acquisition.names)
        telling = telling or Telling(0, [], [])
        heads, offers, blobs = _fields(telling)
        commits = self.store.commits(worker.id)
        about = (acquisition.token, acquisition.names, telling.number, commits)
        answer = messages.Acquired(*about, heads, offers, acquisition.silent, blobs)
        self._machine.act(ToWorker(acquisition.worker, answer))  # in order with news and merges

    def _tell_missing(self, worker: Worker) -> None:
        """A cell that may reach everything doesn't get these; if it names them, its worker says so."""
        missing = {name for names in self._held_elsewhere(worker.id, None).values() for name in names}
        fresh = sorted(missing - self._withheld.get(worker.id, set()))
        self._withheld[worker.id] = missing
        request = worker.subshell.running if worker.subshell is not None else None
        if fresh and request is not None and request.is_execute and not request.content().get("silent"):
            text = (
                f"mpkernel: {listed(fresh)}: the newest value stays in its subshell (there isn't enough memory for a "
                f"copy here, or it takes more than {UNNAMED_LIMIT:.0f} s). A cell that names it waits longer; "
                "%%subshell runs a cell there\n"
            )
            self._machine.publish("stream", {"name": "stderr", "text": text}, request.output_frame)

    def on_gone(self, worker: Worker) -> None:
        """`worker` is gone; nobody waits for it any longer."""
        self._slow.discard(worker.id)
        self._kicked.discard(worker.id)
        self._leaving.pop(worker.id, None)
        self._last_merges.pop(worker.id, None)
        self._untold.pop(worker.id, None)
        self._withheld.pop(worker.id, None)
        self._refused.pop(worker.id, None)
        self._half_released.pop(worker.id, None)
        for message in self.turns.on_gone(worker):
            self._commit(worker, message)
        self._have_kept(self.store.forget(worker.id, self._heirs(worker)))
        for token, acquisition in list(self._acquisitions.items()):
            if worker.id in acquisition.waiting:
                acquisition.waiting.discard(worker.id)
                if not acquisition.waiting:
                    self._finish(token)


def _runs_a_cell(subshell: Subshell) -> bool:
    running = subshell.running
    return running is not None and running.running and running.is_execute


def _is_busy(worker: Worker) -> bool:
    """Whether its main thread runs a cell, and does not only merge what that has changed."""
    return worker.subshell is not None and _runs_a_cell(worker.subshell) and worker.held_back is None


def clash_fields(
    clash: Clash,
) -> tuple[list[int], list[str], list[str], list[str], list[Any], int, tuple[bytes, ...]]:
    """Of a `messages.Merge`."""
    heads, blobs = join([*(theirs := clash.theirs), *clash.base])
    bound = sorted(clash.bound_there), sorted(clash.bound_here)
    return sorted(clash.relies_on), sorted(clash.names), *bound, heads, len(theirs), blobs


def _fields(telling: Telling) -> tuple[list[Any], list[Any], tuple[bytes, ...]]:
    heads, blobs = join(telling.sent)
    return heads, join(telling.offered)[0], blobs
