"""What others committed at the same time, merged into what is here (`merge` has the rules for values)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

from mpkernel.messages import Merge
from mpkernel.namespace import component, merge
from mpkernel.namespace.changes import Tracker
from mpkernel.namespace.component import HELD, PROCESS, Component
from mpkernel.namespace.definitions import ContentKey, Version
from mpkernel.namespace.exchange import Exchange
from mpkernel.namespace.graft import Torn
from mpkernel.namespace.lost import homecomers
from mpkernel.namespace.offers import Offers
from mpkernel.namespace.payload import definitions_of
from mpkernel.namespace.pickling import Pickling
from mpkernel.namespace.process_state import Items, ProcessState
from mpkernel.namespace.wording import listed

log = logging.getLogger("mpkernel.namespace")

# If more places within variables were changed by two, only the variables are named: not all the insides of a figure.
MAX_PLACES = 4
# So often a copy is made of objects that threads go on changing.
MAX_TRIES = 5
_THAT_COUNTS = "{} was changed in another subshell at the same time; that value counts"


@dataclass(slots=True)
class Rivals:
    """What others have of `names`, and of what they committed together with these; and what both sides began with.

    `held`: names of which they have values too large to be sent. `bound_there` and `bound_here`: names that they, and
    we, have bound to another object since. Beside values, what definitions hold; and conflicts in definitions.
    `together` are names of theirs that came in one pickle each.
    """

    names: set[str]
    theirs: dict[str, Any]
    base: dict[str, Any]
    held: set[str]
    bound_there: set[str]
    bound_here: set[str]
    their_contents: dict[ContentKey, Any] = field(default_factory=dict)
    base_contents: dict[ContentKey, Any] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    together: list[Collection[str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Merged:
    """Names that have other values now, or are deleted, and those of which something of theirs was overruled.

    `bound` are those that code here has bound to other objects than theirs has.
    """

    names: Collection[str]
    gone: list[str]
    overruled: list[str]
    bound: set[str]


def _definitions(parts: list[Component]) -> dict[str, tuple[Version, bytes]]:
    """Those that came with components: the newest of each."""
    found: dict[str, tuple[Version, bytes]] = {}
    for part in parts:
        for def_id, (version, body) in definitions_of(part).items() if part.kind == component.VALUE else ():
            if def_id not in found or found[def_id][0] < version:
                found[def_id] = (version, body)
    return found


class Merging:
    """For one namespace. `warn` shows the user a line."""

    def __init__(
        self,
        namespace: dict[str, Any],
        tracker: Tracker,
        exchange: Exchange,
        pickling: Pickling,
        state: ProcessState,
        offers: Offers,
        warn: Callable[[str], None],
    ) -> None:
        self._namespace = namespace
        self._tracker = tracker
        self._exchange = exchange
        self._pickling = pickling
        self._state = state
        self._offers = offers
        self._warn = warn

    def rivals(self, message: Merge) -> Rivals:
        """Raises whatever loading their values raises: a name that is missing would count as deleted."""
        parts = list(component.split(message.components, message.blobs))
        held = {name for part in parts[: message.n_theirs] if part.kind == HELD for name in part.given}
        bound = set(message.bound_there), set(message.bound_here)
        rivals = Rivals(set(message.names), {}, {}, held, *bound)
        sides = (parts[message.n_theirs :], parts[: message.n_theirs])
        rivals.conflicts = self._pickling.merge_definitions(*map(_definitions, sides))
        for part in parts[: message.n_theirs]:
            if part.kind == component.VALUE:
                self._exchange.take(part, part.given, rivals.theirs, rivals.their_contents)
                rivals.together.append(part.given)
        for part in parts[message.n_theirs :]:
            if part.kind == component.VALUE:
                try:
                    self._exchange.take(part, part.given, rivals.base, rivals.base_contents)
                except Exception as error:  # it counts as not having been there
                    log.warning("%s can't be loaded to be merged: %s", listed(part.names), error)
        return rivals

    def merge_state(self, rivals: Rivals) -> dict[str, Items]:
        """Take the process's own state out of what is to be merged, and merge it: what is to be committed of it."""
        names = {name for name in {*rivals.names, *rivals.theirs} if name.startswith(PROCESS)}
        rivals.names -= names
        return {name: self._state.merge(name, rivals.theirs.pop(name, {}), rivals.base.pop(name, {})) for name in names}

    def merge_values(self, rivals: Rivals) -> Merged:
        """Bring the namespace up to date."""
        here, theirs, base = self._namespace, rivals.theirs, rivals.base
        # Of what else they have committed together with these: not what was deleted here, but if they have bound it.
        known = here.keys() | rivals.bound_there
        names = rivals.names | {name for name in theirs if name in known or name not in base}
        theirs = {name: value for name, value in theirs.items() if name in names}
        names = {name for grouped in names for name in self._tracker.group(grouped)}
        names -= self._left_there(rivals.held)
        base = {name: value for name, value in base.items() if name in names}
        bound = rivals.bound_there, rivals.bound_here
        sides = base | rivals.base_contents, theirs | rivals.their_contents
        merged = self._merged(names, *sides, bound, rivals.together)
        conflicts = rivals.conflicts + merged.conflicts
        made = {key: value for key, value in merged.values.items() if value is not merge.DELETED}
        self._pickling.put({key: value for key, value in made.items() if isinstance(key, ContentKey)})
        values = {key: value for key, value in made.items() if not isinstance(key, ContentKey)}
        gone = [key for key in merged.values.keys() - made.keys() if not isinstance(key, ContentKey)]
        here.update(values)
        for name in gone:
            here.pop(name, None)
        self._tracker.forget({*values, *gone})
        self._offers.drop(theirs)
        lost = merged.overruled.union(map(merge.name_of, rivals.conflicts))
        overruled = sorted(lost & {*values, *gone})
        if merged.given_up:
            self._warn(_THAT_COUNTS.format(listed(merged.given_up)))
        if conflicts and not overruled:  # they are within something without a name
            overruled = [min(rivals.names, default="")]
        if conflicts:
            shown = conflicts if len(conflicts) <= MAX_PLACES else overruled
            # Of a class or function there is no other one: it is brought up to date in place.
            other = f'. The other one: mpkernel.theirs("{overruled[0]}")' if merged.conflicts else ""
            self._warn(
                f"{listed(shown)} was changed in another subshell at the same time; this cell's value counts{other}"
            )
        # Not what only seems new: what is held, or grouped with `names` here alone, had nothing to be compared with.
        return Merged(values, gone, overruled, merged.bound & (rivals.bound_here | rivals.bound_there))

    def _merged(
        self,
        names: set[str],
        base: dict[Any, Any],
        theirs: dict[Any, Any],
        bound: tuple[set[str], set[str]],
        together: list[Collection[str]],
    ) -> merge.Merged:
        for tries_left in reversed(range(MAX_TRIES)):
            mine: dict[Any, Any] = self._tracker.values(sorted(names))
            beside = {name: value for name, value in self._namespace.copy().items() if name not in mine}
            losses = self._pickling.losses
            copy = self._copy(mine)
            stay: list[tuple[Any, Any]] = []
            if self._pickling.losses > losses:  # nor can this process load what is its own
                stay += homecomers(mine, copy)
                for part in together:
                    stay += homecomers(mine, {name: theirs[name] for name in part if name in theirs})
            mine |= self._pickling.contents(key for key in copy if isinstance(key, ContentKey))
            try:
                return merge.merge(
                    base, mine, theirs, copy, check=tries_left > 0, beside=beside, bound=bound, stay=stay
                )
            except Torn:
                continue
        raise AssertionError("the last try can't fail so")

    def _left_there(self, held: set[str]) -> set[str]:
        """Names whose newest values are too large to be sent unasked: they count, and come when they are needed."""
        if held:
            self._offers.add(held)
            self._tracker.leave(held)
            self._warn(_THAT_COUNTS.format(listed(held)))
        return held

    def _copy(self, values: dict[str, Any]) -> dict[Any, Any]:
        """`values` as another worker would see them, with what the definitions that they need hold."""
        contents: dict[ContentKey, Any] = {}
        loaded: dict[Any, Any] = self._pickling.load(self._pickling.dump(values), contents)
        return loaded | contents
