"""The broker's half of the namespace service: what each name was last committed as. Opaque bytes, never unpickled.

One clock orders all commits. For each worker the store knows which version of a name it has: so it can tell what is
new to it (`news`), refuse a commit that somebody was faster than (`commit`), and give the one who has to merge the
version that both started from. An old version is kept only as long as a live worker has it.

A message to a worker about versions has a number. A commit says which of them the worker had seen, as it may have been
under way when one was sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from mpkernel.namespace.clash import Clash, by_entry
from mpkernel.namespace.component import DELETED, HELD, LOST, PROCESS, VALUE, Component
from mpkernel.namespace.views import NOT_YET, Entry, View

# A dearer component (bytes) isn't sent along with the news but offered: who needs it asks.
MAX_SENT_UNASKED = 1 << 20
# Deletions that are remembered though all workers know of them.
LAST_DELETIONS = 256
# Values that lost a conflict, all together: names, bytes.
MOST_LOSERS, MOST_LOST_BYTES = 100, 256 << 20
_NOBODY = 0  # workers have positive numbers


@dataclass(slots=True)
class Telling:
    """What a worker is told: whole components, and names of those that it may ask for."""

    number: int
    sent: list[Component]
    offered: list[Component]


# Why nobody is sent a value.
DEADLY = "a process that loaded it has ended"


@dataclass(slots=True)
class NamespaceStore:
    """`worker` is a worker's id."""

    clock: int = 0
    _number: int = 0
    _heads: dict[str, Entry] = field(default_factory=dict)  # ordered by version
    _bound: dict[str, int] = field(default_factory=dict)  # the version with which a name was bound to another object
    _views: dict[int, View] = field(default_factory=dict)
    _losers: dict[str, Component] = field(default_factory=dict)  # the last ones
    _deadly: set[str] = field(default_factory=set)  # names of values that nobody is sent: see `withhold`
    _bury_at: int = LAST_DELETIONS

    # --- commits ------------------------------------------------------------------------------------------------------

    def commit(
        self, worker: int, after: int, components: Iterable[Component], *, force: bool = False, lost: Iterable[str] = ()
    ) -> Clash | None:
        """Take over what `worker` changed, having seen message number `after`; what it must merge first, if anything.

        With `force`, it has merged often enough and wins. `lost` are names whose values elsewhere it overruled.
        """
        view = self._view(worker)
        view.commits += 1
        self.heard(worker, after)
        for name in lost:
            if name in self._heads:
                self._keep_loser(name, self._heads[name].component)
        for name in [name for name, number in view.clashing.items() if number <= after]:
            del view.clashing[name]  # merged
            view.bound.discard(name)
        components = list(components)
        parts = [part for part in components if part.kind != DELETED]
        rebound = {name for part in parts for name in part.rebound}
        changed = {name for part in parts for name in part.names}
        view.changed(after, changed, rebound)
        self.clock += 1
        clash = view.void(changed)
        for component in components:
            if component.kind == LOST:
                view.lost.update(component.names)
                continue
            if not self._fits(component):
                if self._gave_up(worker, component):
                    continue  # it will be asked for all of it
                overtaken = list(component.names)
            else:
                overtaken = [] if force else [n for n in component.names if self._overtaken(view, n, component)]
            if overtaken:
                self._refuse(view, component, clash)
                continue
            if "onto" in component.meta:
                component = self._laid_over(component)
            bound = set(component.bound)
            if self._deadly and component.kind != HELD and not self._deadly.isdisjoint(component.names):
                self._deadly -= bound.union(component.names) if component.kind == DELETED else bound
                component = component if self._deadly.isdisjoint(component.names) else _withheld(component)
            entry = Entry(component, self.clock, worker)
            for name in component.names:
                if self._stays_deleted(view, name, component):
                    continue
                if name in bound:
                    self._bound[name] = self.clock
                self._heads.pop(name, None)  # re-inserted at the end: the dict stays ordered by version
                self._heads[name] = view.has[name] = entry
                view.offered.pop(name, None)
        if len(self._heads) > self._bury_at:
            self._bury()
        return self.brought_up(worker, clash) if clash.names else None

    def commits(self, worker: int) -> int:
        """How many commits of `worker` have come."""
        return self._view(worker).commits

    def resent(self, worker: int, names: Collection[str]) -> None:
        """What a commit of `worker` had of these `LOST` names has been committed by now."""
        self._view(worker).lost.difference_update(names)

    def heard(self, worker: int, number: int) -> None:
        """`worker` has applied what it was sent up to message `number`."""
        self._view(worker).heard(number)

    def _overtaken(self, view: View, name: str, component: Component) -> bool:
        """Whether somebody was faster, and the two can't simply both be done."""
        if name in view.clashing and component.kind != DELETED:
            return True  # it may have been told of the other value, but has not merged it
        head = self._heads.get(name)
        if head is None or head is view.has.get(name) or head.component.kind == DELETED:
            return False
        if view.knows_of_other(name, head):
            # It knew of the other value without having it: it can have replaced that, but not have changed it in place.
            return component.kind != DELETED and name not in component.rebound
        return component.kind != DELETED or name in head.component.rebound

    def _stays_deleted(self, view: View, name: str, component: Component) -> bool:
        """Whether the name was deleted elsewhere while the object was only changed here."""
        head = self._heads.get(name)
        gone = head is not None and head.component.kind == DELETED and head is not view.has.get(name)
        return gone and component.kind != DELETED and name not in component.rebound

    def _fits(self, component: Component) -> bool:
        """Whether a delta is of what is the head; always, if it is none."""
        if (base := component.meta.get("onto")) is None:
            return True
        head = self._heads.get(component.names[0])
        return (
            head is not None
            and head.component.names == component.names
            and all(self._heads.get(name) is head for name in component.names)
            and head.component.meta.get("segment", {}).get("key") == base
        )

    def _gave_up(self, worker: int, delta: Component) -> bool:
        """Whether what `delta` is of isn't here any more, and `worker` alone has it."""
        return all(self.holder(name) == worker for name in delta.names)

    def _laid_over(self, delta: Component) -> Component:
        """The head with one more delta."""
        base = self._heads[delta.names[0]].component.meta
        own = {key: value for key, value in delta.meta.items() if key not in ("onto", "delta")}
        deltas = [*base.get("deltas", ()), delta.meta["delta"]]
        return Component(delta.names, VALUE, {**own, "segment": base["segment"], "deltas": deltas}, delta.blobs)

    def _refuse(self, view: View, component: Component, clash: Clash) -> None:
        if component.kind == DELETED:  # what was changed elsewhere survives; the next news bring it back
            return
        view.bound.update(component.bound)
        if all(name in view.clashing for name in component.names):
            return  # it was told already, and will commit what it has then
        clash.names.update(component.names)
        for name in component.names:
            if not view.will_be_told(name) and (entry := view.will_have(name)) is not None:
                clash.started[name] = entry  # else that is known already
        view.clashing.update(dict.fromkeys(component.names, NOT_YET))

    def brought_up(self, worker: int, clash: Clash) -> Clash:
        """`clash` with what others have by now."""
        view = self._view(worker)
        known = {name: self._heads[name] for name in self._one_with(view, clash.names) if name in self._heads}
        heads = {n: e for n, e in known.items() if e.component.kind != HELD or e.writer != worker}
        began = {name: view.will_have(name) for name in heads if name not in clash.names}
        others = {name: entry for name, entry in began.items() if entry is not None}
        found = Clash(clash.names, clash.started, heads, others)
        found.relies_on = view.relied_on(found)
        versions = {name: entry.version for name, entry in (clash.started | others).items()}
        found.bound_there = {name for name in heads if self._bound.get(name, 0) > versions.get(name, -1)}
        found.bound_here = (clash.names | heads.keys()) & view.bound
        return found

    def _one_with(self, view: View, names: Collection[str]) -> list[str]:
        """`names`, and those that share objects with them: in what was committed last, or in what the worker has.

        To merge a part of these would tear them apart, or change the others as if the worker's user had.
        """
        found = dict.fromkeys(sorted(names))
        left, done = list(found), set[int]()
        while left:
            name = left.pop()
            for entry in (self._heads.get(name), view.will_have(name)):
                if entry is not None and id(entry) not in done:
                    done.add(id(entry))
                    same = [n for n in entry.component.names if entry in (self._heads.get(n), view.will_have(n))]
                    left += [n for n in same if n not in found]
                    found.update(dict.fromkeys(same))
        return list(found)

    def clash_told(self, worker: int, clash: Clash) -> int:
        """The worker is sent `clash`; returns the message's number."""
        view = self._view(worker)
        held = {name: entry for name, entry in clash.heads.items() if entry.component.kind == HELD}
        given = {name: entry for name, entry in clash.heads.items() if name not in held}
        number = self._tell(view, given, held, to_merge=True)
        view.to_merge(number, clash)
        return number

    def clashing(self, worker: int) -> Collection[str]:
        """The names that `worker` still has to merge."""
        return self._view(worker).clashing

    def merges(self, worker: int) -> Collection[str]:
        """Those that it was told to merge."""
        view = self._view(worker)
        return [name for name in view.clashing if not view.will_be_told(name)]

    # --- news ---------------------------------------------------------------------------------------------------------

    def has_news(self, worker: int) -> bool:
        """Whether `worker` may not have been told of all that others have committed."""
        return next(reversed(self._heads.values())).version > self._view(worker).seen if self._heads else False

    def news(self, worker: int, wanted: Collection[str] | None = ()) -> Telling | None:
        """What `worker` has not heard of, None if nothing. It counts as told.

        Of `wanted` names (None: all), values are sent however large they are.
        """
        view = self._view(worker)
        entries = self._fresh(view)
        asked = {id(offer.entry) for name, offer in view.offered.items() if wanted is None or name in wanted}
        for name, offer in view.offered.items():  # with all names that an entry offers: they share objects
            if id(offer.entry) in asked and name not in view.undecided:
                entries.setdefault(name, offer.entry)
        return self._telling(view, entries, wanted)

    def only(self, worker: int, wanted: Collection[str]) -> Telling | None:
        """Others' newest values of the `wanted` names, for one who keeps all else as it is; None if there are none."""
        heads = {name: entry for name in wanted if (entry := self._heads.get(name)) is not None}
        undecided = self._view(worker).undecided
        others = {name: entry for name, entry in heads.items() if entry.writer != worker and name not in undecided}
        return self._telling(self._view(worker), others, wanted)

    def _telling(self, view: View, entries: dict[str, Entry], wanted: Collection[str] | None) -> Telling | None:
        if not entries:
            return None
        sent, offered = [], []
        given: dict[str, Entry] = {}
        kept: dict[str, Entry] = {}
        for entry, names in by_entry(entries.items()):
            component = entry.component
            dear = component.nbytes > MAX_SENT_UNASKED and wanted is not None and not any(n in wanted for n in names)
            if component.kind == HELD or dear:
                why = {"why": component.meta["why"]} if "why" in component.meta else {}
                offered.append(Component(tuple(names), component.kind, {"nbytes": component.nbytes, **why}))
                kept.update(dict.fromkeys(names, entry))
            else:
                meta = {**component.meta, "take": names}
                sent.append(Component(component.names, component.kind, meta, component.blobs))
                given.update(dict.fromkeys(names, entry))
                for name in names:
                    view.offered.pop(name, None)
        return Telling(self._tell(view, given, kept), sent, offered)

    def _fresh(self, view: View) -> dict[str, Entry]:
        """What was accepted since `view` was told, and isn't its own; in the order of acceptance.

        But for what is undecided: that comes with the merge, or thereafter.
        """
        if view.seen == self.clock and not view.passed_over:
            return {}
        known = view.known()
        fresh: dict[str, Entry] = {}
        for name in reversed(self._heads):
            entry = self._heads[name]
            if entry.version <= view.seen:
                break
            if known.get(name) is not entry:
                fresh[name] = entry
        view.seen = self.clock
        for name in view.passed_over - fresh.keys():
            if (head := self._heads.get(name)) is not None and known.get(name) is not head:
                fresh[name] = head
        view.passed_over = fresh.keys() & view.undecided
        for name in view.passed_over:
            del fresh[name]
        return dict(reversed(fresh.items()))

    def holder(self, name: str) -> int | None:
        """The worker that alone has the value of `name`."""
        entry = self._heads.get(name)
        return entry.writer if entry is not None and entry.component.kind == HELD else None

    def missed(self, worker: int, number: int, names: Iterable[str]) -> None:
        """`worker` could not load these names of message `number`: it has what it had, and may ask for them again."""
        self._view(worker).missed(number, names)

    def _tell(self, view: View, given: dict[str, Entry], offered: dict[str, Entry], *, to_merge: bool = False) -> int:
        """A worker is given these values, and offered those."""
        self._number += 1
        view.tell(self._number, given, offered, to_merge=to_merge)
        return self._number

    def is_behind(self, worker: int) -> bool:
        """Whether `worker` was told a lot that it isn't known to have applied."""
        return self._view(worker).is_behind

    def give_up(self, nbytes: int, segments: int = 0, wanted: Collection[str] = ()) -> list[tuple[int, str, list[str]]]:
        """Forget large values that their workers still have, the oldest first, but for those of `wanted` names.

        Until at least so many bytes, and so many segments, are free. What a worker was told of stays: it may not have
        mapped it yet.

        Returns workers, each with the key of a segment and the names that only it has now.
        """
        for name in [name for name, component in self._losers.items() if "segment" in component.meta]:
            if nbytes > 0 or segments > 0:
                nbytes -= self._losers.pop(name).meta["segment"]["size"]
                segments -= 1
        given: list[tuple[int, str, list[str]]] = []
        under_way = {id(e) for view in self._views.values() for told in view.told for e in told.entries.values()}
        for entry in list(dict.fromkeys(self._heads.values())):
            told = entry.component.meta.get("segment")
            if nbytes <= 0 and segments <= 0:
                break
            if told is None or any(self._heads[name] is not entry for name in entry.component.names):
                continue
            if id(entry) in under_way or any(name in wanted for name in entry.component.names):
                continue
            view = self._views.get(entry.writer)
            if view is None or any(view.has.get(name) is not entry for name in entry.component.names):
                continue
            nbytes -= told["size"]
            segments -= 1 + len(entry.component.meta.get("deltas", ()))
            entry.key = told["key"]
            given.append((entry.writer, entry.key, list(entry.component.names)))
            entry.component = Component(entry.component.names, HELD, {"nbytes": entry.component.nbytes})
        return given

    def withhold(
        self, worker: int, name: str, heirs: Collection[int]
    ) -> tuple[list[str], list[tuple[int, str, list[str]]]]:
        """`worker` has ended while it loaded the value of `name`: nobody is sent that until code binds it to another.

        Returns the names, none if it was not the newest value; and whom to tell that they keep something, as `forget`.
        """
        entry, view = self._heads.get(name), self._view(worker)
        if entry is None or entry.component.kind != VALUE or entry.writer == worker:
            return [], []
        if not any(entry in told.entries.values() for told in view.told):
            return [], []
        names = [name for name in entry.component.names if self._heads.get(name) is entry]
        self._deadly.update(names)
        entry.component = _withheld(entry.component)
        return names, [] if entry.writer in heirs else self._go_back(names, heirs)

    # --- workers and names --------------------------------------------------------------------------------------------

    def _view(self, worker: int) -> View:
        return self._views.setdefault(worker, View())

    def forget(self, worker: int, heirs: Collection[int] = ()) -> list[tuple[int, str, list[str]]]:
        """`worker` is gone: what only it had is gone too. A stub stays, and says so.

        Of what was given up, one of `heirs` may have the same version. Returns whom to tell that they keep something
        now, as `give_up` does. For what is lost the value before that counts, if one of them has that.
        """
        self._views.pop(worker, None)
        self.clock += 1
        given: list[tuple[int, str, list[str]]] = []
        for entry, names in self._held_by(worker):
            if (heir := self._heir(entry, names, heirs)) is not None:
                entry.writer = heir
                given.append((heir, entry.key, names))
            else:
                given += self._go_back(names, heirs)
        return given

    def _go_back(self, names: list[str], heirs: Collection[int]) -> list[tuple[int, str, list[str]]]:
        given: list[tuple[int, str, list[str]]] = []
        again: dict[tuple[int, int], Entry] = {}  # by what they were, and who has it
        for name in names:
            del self._heads[name]
            self._bound[name] = self.clock
            was_known = [view for view in self._views.values() if view.offered.pop(name, None) or view.will_have(name)]
            if (found := self.older(name, heirs)) is not None:
                heir, old = found
                held = old.component.kind == HELD
                entry = Entry(old.component, self.clock, heir if held else old.writer, old.key)
                entry = self._heads[name] = again.setdefault((id(old), heir), entry)
                if held:
                    self._views[heir].has[name] = entry
                    given += [(heir, old.key, [name])] if old.key else []
            elif was_known:
                self._heads[name] = Entry(Component((name,), DELETED), self.clock, _NOBODY)
        return given

    def older(self, name: str, heirs: Collection[int]) -> tuple[int, Entry] | None:
        """The newest value of `name` that one of `heirs` has, though it may not be the last that was committed."""
        views = {heir: self._views[heir] for heir in heirs if heir in self._views}
        found = [(heir, entry) for heir, view in views.items() if (entry := view.will_have(name)) is not None]
        if not found:
            return None
        heir, entry = max(found, key=lambda one: (one[1].version, one[0] == one[1].writer))
        if entry.component.kind == HELD:
            return (heir, entry) if heir == entry.writer or entry.key else None
        return (heir, entry) if entry.component.kind == VALUE else None

    def _held_by(self, worker: int) -> list[tuple[Entry, list[str]]]:
        heads = self._heads.items()
        return by_entry((n, e) for n, e in heads if e.writer == worker and e.component.kind == HELD)

    def _heir(self, entry: Entry, names: list[str], heirs: Collection[int]) -> int | None:
        """Who else has what was given up."""
        views = {heir: self._views[heir] for heir in heirs if heir in self._views and entry.key}
        return next((h for h, view in views.items() if all(view.has.get(name) is entry for name in names)), None)

    def _bury(self) -> None:
        """Forget deletions that no worker needs to hear of any more.

        But for the last ones: startup files of new workers may make the names again.
        """
        deleted = [name for name, entry in self._heads.items() if entry.component.kind == DELETED]
        for name in deleted[:-LAST_DELETIONS]:
            if not any(view.may_have(name, self._heads[name]) for view in self._views.values()):
                del self._heads[name]
                self._bound.pop(name, None)
                for view in self._views.values():
                    view.has.pop(name, None)
        self._bury_at = LAST_DELETIONS + len(self._heads) * 3 // 2

    def held(self) -> dict[int, list[str]]:
        """Names that have no copy, by the worker that has their values."""
        found: dict[int, list[str]] = {}
        for name, entry in self._heads.items():
            if entry.component.kind == HELD:
                found.setdefault(entry.writer, []).append(name)
        return found

    def heads(self) -> list[Component]:
        """Everything that is known of the names that there are, each component once, with the names that it is for."""
        found = by_entry((name, entry) for name, entry in self._heads.items() if entry.component.kind != DELETED)
        return [
            Component(tuple(names), entry.component.kind, entry.component.meta, entry.component.blobs)
            for entry, names in found
        ]

    def put_back(self, components: Iterable[Component]) -> None:
        """Take components that no worker has made for the newest, whatever there is of their names."""
        told = [
            Component(part.names, part.kind, {**part.meta, "rebound": list(part.names)}, part.blobs)
            for part in components
        ]
        self.commit(_NOBODY, 0, told, force=True)
        self.forget(_NOBODY)

    def lost_names(self, worker: int, heirs: Collection[int] = ()) -> list[str]:
        """Names whose value only `worker` has; `heirs` as in `forget`."""
        lost = {
            name
            for name, entry in self._heads.items()
            if entry.writer == worker and name in entry.component.meta.get("stubs", ())
        }
        for entry, names in self._held_by(worker):
            if self._heir(entry, names, [heir for heir in heirs if heir != worker]) is None:
                lost.update(names)
        return sorted(lost)

    def kept_names(self) -> list[str]:
        """Names that a new worker would get."""
        return sorted(
            name
            for name, entry in self._heads.items()
            if entry.component.kind == VALUE
            and name not in entry.component.meta.get("stubs", ())
            and not name.startswith(PROCESS)
        )

    def _keep_loser(self, name: str, component: Component) -> None:
        self._losers.pop(name, None)
        self._losers[name] = component
        total = sum(loser.nbytes for loser in self._losers.values())
        while len(self._losers) > MOST_LOSERS or (total > MOST_LOST_BYTES and len(self._losers) > 1):
            total -= self._losers.pop(next(iter(self._losers))).nbytes

    def loser(self, name: str) -> Component | None:
        """What `name` was in the subshell that lost the last conflict over it."""
        return self._losers.get(name)


def _withheld(component: Component) -> Component:
    return Component(component.names, HELD, {"nbytes": component.nbytes, "why": DEADLY})
