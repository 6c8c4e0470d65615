"""What others committed at the same time, merged into what is here (`merge` has the rules for values)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from mpkernel.messages import Merge
from mpkernel.namespace import component, merge
from mpkernel.namespace.changes import Tracker
from mpkernel.namespace.component import HELD, PROCESS, Component
from mpkernel.namespace.exchange import Exchange
from mpkernel.namespace.graft import Torn
from mpkernel.namespace.offers import Offers
from mpkernel.namespace.pickling import Pickling
from mpkernel.namespace.process_state import Items, ProcessState
from mpkernel.namespace.wording import listed

log = logging.getLogger("mpkernel.namespace")

# If more places within variables were changed by two, only the variables are named: not all the insides of a figure.
MAX_PLACES = 4
# So often a copy is made of objects that threads go on changing.
MAX_TRIES = 5


@dataclass(slots=True)
class Rivals:
    """What others have of `names`, and of what they committed together with these; and what both sides began with.

    `held`: names of which they have values too large to be sent.
    """

    names: set[str]
    theirs: dict[str, Any]
    base: dict[str, Any]
    held: set[str]


@dataclass(frozen=True, slots=True)
class Merged:
    """Names that have other values now, or are deleted, and those of which something of theirs was overruled."""

    names: Collection[str]
    gone: list[str]
    overruled: list[str]


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
        theirs: dict[str, Any] = {}
        for part in parts[: message.n_theirs]:
            if part.kind == component.VALUE:
                theirs.update(self._taken(part))
        base = self._base(parts[message.n_theirs :])
        held = {name for part in parts[: message.n_theirs] if part.kind == HELD for name in part.meta["take"]}
        return Rivals(set(message.names), theirs, base, held)

    def _base(self, parts: list[Component]) -> dict[str, Any]:
        """What can't be loaded counts as not having been there."""
        values: dict[str, Any] = {}
        for part in parts:
            if part.kind == component.VALUE:
                try:
                    values.update(self._taken(part))
                except Exception as error:
                    log.warning("%s can't be loaded to be merged: %s", listed(part.names), error)
        return values

    def _taken(self, part: Component) -> dict[str, Any]:
        """Of its values those that count."""
        values = self._exchange.load(part, fill_cells=False)
        return {name: values[name] for name in part.meta["take"]}

    def merge_state(self, rivals: Rivals) -> dict[str, Items]:
        """Take the process's own state out of what is to be merged, and merge it: what is to be committed of it."""
        names = {name for name in {*rivals.names, *rivals.theirs} if name.startswith(PROCESS)}
        rivals.names -= names
        return {name: self._state.merge(name, rivals.theirs.pop(name, {}), rivals.base.pop(name, {})) for name in names}

    def merge_values(self, rivals: Rivals) -> Merged:
        """Bring the namespace up to date."""
        here, theirs, base = self._namespace, rivals.theirs, rivals.base
        # Of what else they have committed together with these: not what was deleted here.
        names = rivals.names | {name for name in theirs if name in here or name not in base}
        theirs = {name: value for name, value in theirs.items() if name in names}
        names = {name for grouped in names for name in self._tracker.group(grouped)}
        names -= self._left_there(rivals.held)
        base = {name: value for name, value in base.items() if name in names}
        merged = self._merged(base, names, theirs)
        gone = [name for name, value in merged.values.items() if value is merge.DELETED]
        values = {name: value for name, value in merged.values.items() if value is not merge.DELETED}
        here.update(values)
        for name in gone:
            here.pop(name, None)
        self._tracker.forget({*values, *gone})
        self._offers.drop(theirs)
        overruled = sorted({path.split("[")[0].split(".")[0] for path in merged.conflicts})
        if merged.conflicts:
            shown = merged.conflicts if len(merged.conflicts) <= MAX_PLACES else overruled
            self._warn(
                f"{listed(shown)} was changed in another subshell at the same time; this cell's value "
                f'counts. The other one: mpkernel.theirs("{overruled[0]}")'
            )
        return Merged(values, gone, overruled)

    def _merged(self, base: dict[str, Any], names: set[str], theirs: dict[str, Any]) -> merge.Merged:
        for tries_left in reversed(range(MAX_TRIES)):
            mine = self._tracker.values(names)
            try:
                return merge.merge(base, mine, theirs, self._copy(mine), check=tries_left > 0)
            except Torn:
                continue
        raise AssertionError("the last try can't fail so")

    def _left_there(self, held: set[str]) -> set[str]:
        """Names whose newest values are too large to be sent unasked: they count, and come when they are needed."""
        if held:
            self._offers.add(held)
            self._tracker.leave(held)
            self._warn(f"{listed(held)} was changed in another subshell at the same time; that value counts")
        return held

    def _copy(self, values: dict[str, Any]) -> dict[str, Any]:
        """`values` as another worker would see them."""
        loaded: dict[str, Any] = self._pickling.load(self._pickling.dump(values), fill_cells=False)
        return loaded
