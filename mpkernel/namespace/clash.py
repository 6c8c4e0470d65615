"""A commit that came too late, as the store sees it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mpkernel.namespace.component import Component

if TYPE_CHECKING:
    from mpkernel.namespace.views import Entry


@dataclass(slots=True)
class Clash:
    """A commit of `names` that came too late: what others have by now, and what the worker had started from.

    `heads` and `others`: of names that others committed together with these as well. `relies_on` has the numbers of
    messages by which the worker was told of earlier ones: this takes for granted that it merges them. `bound_there` and
    `bound_here` are names that were bound to another object since then, by others and by the worker.
    """

    names: set[str] = field(default_factory=set)
    started: dict[str, Entry] = field(default_factory=dict)
    heads: dict[str, Entry] = field(default_factory=dict)
    others: dict[str, Entry] = field(default_factory=dict)
    relies_on: set[int] = field(default_factory=set)
    bound_there: set[str] = field(default_factory=set)
    bound_here: set[str] = field(default_factory=set)

    @property
    def theirs(self) -> list[Component]:
        """What others have."""
        return _components(self.heads)

    @property
    def base(self) -> list[Component]:
        """What the worker has, or had, before it changed that."""
        return _components(self.others | self.started)

    def add(self, later: Clash) -> None:
        """Something else of the same worker's was refused, or is void, before it was told of this.

        From a message that is void it hasn't started: that tells what it had before.
        """
        self.names |= later.names
        self.heads |= later.heads
        self.started |= later.started


def _components(entries: dict[str, Entry]) -> list[Component]:
    """The components that `entries` are, each for those names of which it is the entry."""
    components = ((entry.component, names) for entry, names in by_entry(entries.items()))
    return [Component(part.names, part.kind, {**part.meta, "take": names}, part.blobs) for part, names in components]


def by_entry(entries: Iterable[tuple[str, Entry]]) -> list[tuple[Entry, list[str]]]:
    """Each entry once, with the names that it is for."""
    names_of: dict[int, tuple[Entry, list[str]]] = {}
    for name, entry in entries:
        names_of.setdefault(id(entry), (entry, []))[1].append(name)
    return list(names_of.values())
