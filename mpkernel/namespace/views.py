"""What the store knows of one worker: which versions of names it has, was told of, and was only offered."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Collection, Iterable, Set
from dataclasses import dataclass, field

from mpkernel.namespace.clash import Clash
from mpkernel.namespace.component import DELETED, Component

# In place of the number of a message that is yet to be sent.
NOT_YET = sys.maxsize
# What a worker was told and isn't known to have applied yet: bytes, with so many for each message.
MOST_UNHEARD, MESSAGE = 64 << 20, 1 << 10


@dataclass(slots=True, eq=False, weakref_slot=True)
class Entry:
    """An accepted component. It is replaced if its memory has to be given up; `key` tells as what others have it then.

    `writer` is who made it, or who keeps it now.
    """

    component: Component
    version: int
    writer: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """Message `number` says that there is such a value. The worker still has the one before, if it has any."""

    entry: Entry
    number: int


@dataclass(frozen=True, slots=True)
class Told:
    """What message `number` gives a worker, which has to merge it or to take it over."""

    number: int
    entries: dict[str, Entry]
    to_merge: bool


@dataclass(slots=True)
class View:
    """What one worker has."""

    seen: int = 0  # the clock when it was told last
    has: dict[str, Entry] = field(default_factory=dict)
    told: deque[Told] = field(default_factory=deque)  # not yet known to have arrived
    unheard: int = 0  # bytes of these
    last_heard: int = 0  # the last message that it is known to have applied
    offered: dict[str, Offer] = field(default_factory=dict)
    clashing: dict[str, int] = field(default_factory=dict)  # name: number of the message that tells it to merge
    merges: dict[int, Clash] = field(default_factory=dict)  # by number: those that it may have yet to merge
    passed_over: set[str] = field(default_factory=set)  # names of which it has to be told once more
    bound: set[str] = field(default_factory=set)  # names that it bound to another object, in commits yet to be merged
    lost: set[str] = field(default_factory=set)  # names of which it is to commit its value once more
    commits: int = 0  # so many have come from it

    def tell(self, number: int, given: dict[str, Entry], offered: dict[str, Entry], *, to_merge: bool) -> None:
        """It is given these values, and offered those."""
        if given:
            self.told.append(Told(number, given, to_merge))
            self.unheard += _cost(given)
        self.offered.update({name: Offer(entry, number) for name, entry in offered.items()})

    def heard(self, number: int) -> None:
        """It has applied what it was sent up to message `number`."""
        self.last_heard = max(self.last_heard, number)
        while self.told and self.told[0].number <= number:
            entries = self.told.popleft().entries
            self.unheard -= _cost(entries)
            self.has.update(entries)
        for merged in [merge for merge in self.merges if merge <= number]:
            del self.merges[merged]

    def missed(self, number: int, names: Iterable[str]) -> None:
        """It could not load these names of message `number`: it has what it had, and may ask for them again."""
        for told in self.told:
            if told.number == number:
                missed = self._taken_out(told, names)
                self.offered.update({name: Offer(entry, number) for name, entry in missed.items()})

    def changed(self, after: int, names: Collection[str], rebound: Collection[str]) -> None:
        """It has changed `names`, some of them `rebound`, when it had applied what it was sent up to message `after`.

        What it was told later of one of these names, and what came as one with that, it doesn't take over.
        """
        for told in self.told:
            if told.number > after and not told.to_merge:
                mine = {name: entry for name, entry in told.entries.items() if name in names}
                left = {id(e) for n, e in mine.items() if e.component.kind != DELETED or n in rebound}
                self.passed_over.update(self._taken_out(told, [n for n, e in told.entries.items() if id(e) in left]))

    def to_merge(self, number: int, clash: Clash) -> None:
        """Message `number` tells it to merge `clash`."""
        self.clashing.update(dict.fromkeys(clash.names | clash.heads.keys(), number))
        self.merges[number] = clash

    def relied_on(self, clash: Clash) -> set[int]:
        """The messages on which it depends what the worker has when it comes to merge `clash`."""
        names = clash.names | clash.heads.keys()
        return {number for number, merge in self.merges.items() if names & (merge.names | merge.heads.keys())}

    def void(self, changed: Set[str]) -> Clash:
        """It has `changed` these names: what it won't merge because of that (see `messages.Merge`), as not yet told."""
        found: dict[int, Clash] = {}
        for number, clash in self.merges.items():
            if changed & (clash.heads.keys() - clash.names) or clash.relies_on & found.keys():
                found[number] = clash
        for number in found:
            del self.merges[number]
            for name in [name for name, merge in self.clashing.items() if merge == number]:
                del self.clashing[name]
            for told in self.told:
                if told.number == number:
                    self.passed_over.update(self._taken_out(told, list(told.entries)))
            for name in [name for name, offer in self.offered.items() if offer.number == number]:
                del self.offered[name]
                self.passed_over.add(name)
        untold = Clash()
        for clash in reversed(found.values()):
            untold.add(Clash(clash.names, clash.started))
        self.clashing.update(dict.fromkeys(untold.names, NOT_YET))
        return untold

    def _taken_out(self, told: Told, names: Iterable[str]) -> dict[str, Entry]:
        self.unheard -= _cost(told.entries)
        found = {name: told.entries.pop(name) for name in names if name in told.entries}
        self.unheard += _cost(told.entries)
        return found

    @property
    def undecided(self) -> Set[str]:
        """Names of which it must not be given another value now: it would overwrite one that is only there."""
        return self.clashing.keys() | self.lost

    def will_be_told(self, name: str) -> bool:
        """Whether it is yet to be told that it has to merge this."""
        return self.clashing.get(name) == NOT_YET

    def will_have(self, name: str) -> Entry | None:
        """What it has of `name`, or will have when it has applied all that it was told."""
        for told in reversed(self.told):
            if (entry := told.entries.get(name)) is not None:
                return entry
        return self.has.get(name)

    @property
    def is_behind(self) -> bool:
        """Whether it was told a lot that it isn't known to have applied."""
        return self.unheard > MOST_UNHEARD

    def known(self) -> dict[str, Entry]:
        """What it has, or will have when it has applied all that it was told."""
        if not self.told:
            return self.has
        known = dict(self.has)
        for told in self.told:
            known.update(told.entries)
        return known

    def knows_of_other(self, name: str, head: Entry) -> bool:
        """Whether it has heard that `head` is the value of `name`, without having it."""
        offer = self.offered.get(name)
        return offer is not None and offer.entry is head and offer.number <= self.last_heard

    def may_have(self, name: str, deletion: Entry) -> bool:
        """Whether it may have the name, and not yet know that it was deleted."""
        if self.has.get(name, deletion) is not deletion or name in self.offered:
            return True
        if name in self.clashing or name in self.passed_over:
            return True
        return any(name in told.entries for told in self.told)


def _cost(entries: dict[str, Entry]) -> int:
    return MESSAGE + sum(entry.component.nbytes for entry in entries.values())
