"""Values as components, and back, in one process: what of its large values others have, and as what."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mpkernel.messages import Blobs
from mpkernel.namespace import cold, component, meeting, weight
from mpkernel.namespace.buffers import Patch
from mpkernel.namespace.changes import Tracker
from mpkernel.namespace.cold import Copies
from mpkernel.namespace.component import HELD, Component
from mpkernel.namespace.definitions import ContentKey
from mpkernel.namespace.layout import NOTHING, Layout, Sent
from mpkernel.namespace.payload import from_component, patch, sent_as, to_component, to_delta
from mpkernel.namespace.pickling import Pickled, Pickling
from mpkernel.namespace.segments import Opened, Segment
from mpkernel.namespace.stubs import Note, Stub, note_of
from mpkernel.namespace.transport import Transport
from mpkernel.namespace.wording import listed

log = logging.getLogger("mpkernel.namespace")

# Of so many objects in a value that can't be copied, a file says why they aren't in it.
MAX_LEFT_OUT = 20


@dataclass(frozen=True, slots=True)
class Copy:
    """Of large values, not yet told of."""

    part: Component
    segment: Segment | None
    sent: Sent

    def drop(self) -> None:
        """It isn't wanted any more."""
        if self.segment is not None:
            self.segment.close()


class Exchange:
    """Makes components of what `tracker` found, and values of what came from elsewhere."""

    def __init__(self, pickling: Pickling, tracker: Tracker, transport: Transport | None) -> None:
        self._pickling = pickling
        self._tracker = tracker
        self._transport = transport
        self._keys = itertools.count(1)
        self._here: dict[str, Sent] = {}  # large values: as what others know them
        self._outgoing: dict[str, tuple[Segment, list[str], str]] = {}  # until the broker has them
        self._copies = Copies()
        self.note_loading: Callable[[str], None] = lambda _name: None

    # --- to others ----------------------------------------------------------------------------------------------------

    def component(self, names: list[str], pickled: Pickled, *, in_message: bool = False) -> Component:
        """All of the values; that they stay here, if there is no memory for a copy.

        With `in_message` there's no use of segments.
        """
        try:
            copy = self.copy(names, pickled, in_message=in_message)
        except OSError as error:
            log.warning("there is no memory for a copy of %s (%s): it stays here", listed(names), error)
            self._tracker.hold(names)
            return Component(tuple(names), HELD)
        if pickled.stubs:
            values = self._tracker.values(names)
            meta = copy.part.meta
            meta["stubs"] = [name for name in values if self._pickling.is_held(values[name], pickled.stubs)]
            meta["left_out"] = [self._left_out(note, values) for note in pickled.stubs[:MAX_LEFT_OUT]]
        self.sent(copy)
        return copy.part

    def copy(self, names: Iterable[str], pickled: Pickled, *, in_message: bool = False) -> Copy:
        """Of the values; see `sent`. Raises OSError if there is no memory for it."""
        if in_message and len(pickled.data) + sum(buffer.nbytes for buffer in pickled.buffers) > weight.HEAVY:
            raise OSError("it is too large for a message")
        key = f"{self._pickling.worker}.{next(self._keys)}"
        part, segment = to_component(names, pickled, None if in_message else self._transport, key=key)
        return Copy(part, segment, Sent(key, 0, Layout.of(pickled)))

    def sent(self, copy: Copy) -> None:
        """A copy is on its way."""
        if copy.segment is not None:
            names = list(copy.part.names)
            self._outgoing[copy.segment.place.name] = (copy.segment, names, copy.sent.key)
            self._tracker.sent(names, copy.sent.key)
            self._here.update(dict.fromkeys(names, copy.sent))

    def _left_out(self, note: Note, values: dict[str, Any]) -> list[Any]:
        """Who saves this component leaves these of its names out, or, if there are none, a part of them; and why."""
        names = [
            name
            for name, value in values.items()
            if self._pickling.is_held(value, (note,)) or (type(value) is Stub and note_of(value) == note)
        ]
        return [names, f"{note.type} {note.repr}: {note.reason}"]

    def delta(self, patch: Patch) -> Component:
        """Only what has changed of the values; all of them, if that can't be."""
        if self._transport is None:
            return self.component(patch.names, patch.pickled)
        try:
            part, segment = to_delta(patch.names, patch.pickled, patch.runs, self._transport, patch.key)
        except OSError:
            return self.component(patch.names, patch.pickled)
        self._outgoing[segment.place.name] = (segment, patch.names, "")
        known, layout = self._here.get(patch.names[0]), Layout.of(patch.pickled)
        sent = Sent(patch.key, 1, layout) if known is None else Sent(known.key, known.deltas + 1, layout)
        self._here.update(dict.fromkeys(patch.names, sent))
        return part

    def taken(self, segments: list[str], refused: list[str]) -> list[list[str]]:
        """The broker has these segments, and can't get at those that it refuses: names that must go in messages."""
        for name in segments:
            segment, names, key = self._outgoing.pop(name)
            self._copies.add(key, names, segment)
        again = []
        for name in refused:
            segment, names, _ = self._outgoing.pop(name)
            segment.close()
            log.warning("the broker can't open a segment with %s: it travels in a message", listed(names))
            again.append(names)
        return again

    def given_up(self, key: str, names: Iterable[str]) -> list[str]:
        """There is no copy any more of what was sent as `key`. Returns those of `names` whose values it was."""
        self._copies.drop(key)
        return [name for name in names if (sent := self._here.get(name)) is not None and sent.key == key]

    @property
    def seconds_to_cold(self) -> float | None:
        """Until `cool` may have something to do; None if it won't."""
        return self._copies.seconds_left() if self._copies else None

    def let_go(self) -> None:
        """What cells have changed need not be kept to become cold."""
        if self._copies:
            self._copies.drop_stale(self._tracker.has_sent)

    def cool(self) -> None:
        """Between cells, while nothing of the user's runs: cold arrays share memory with the copies of them."""
        transport = self._transport if not cold.why_not() else None
        for names, key, segment in self._copies.cold():
            if transport is not None and self._tracker.has_sent(names, key):
                with Opened(transport, segment.place) as opened:
                    self._tracker.cool(names, opened, segment.ranges)

    # --- from others --------------------------------------------------------------------------------------------------

    def load(
        self,
        part: Component,
        contents: dict[ContentKey, Any] | None = None,
        *,
        imports: bool = True,
        lacking: set[str] | None = None,
    ) -> dict[str, Any]:
        """The values of `part`; else see `Pickling.load`. Raises BadSegment, and whatever loading raises."""
        return self._loaded(part, contents, imports=imports, lacking=lacking)[0]

    def _loaded(
        self, part: Component, contents: dict[ContentKey, Any] | None, *, imports: bool, lacking: set[str] | None = None
    ) -> tuple[dict[str, Any], Pickled]:
        """And what they were loaded from."""
        pickled = from_component(part, self._transport)
        self.note_loading(part.names[0])
        try:
            values: dict[str, Any] = self._pickling.load(pickled, contents, imports=imports, lacking=lacking)
        finally:
            self.note_loading("")
        return values, pickled

    def take(
        self,
        part: Component,
        names: Collection[str],
        values: dict[str, Any],
        contents: dict[ContentKey, Any],
        *,
        imports: bool = True,
    ) -> Sent:
        """As `load`, into `values`, of which those of `names` count; what definitions hold counts if all of them do.

        Returns as what others know them.
        """
        loaded, pickled = self._loaded(part, contents if set(names) >= set(part.names) else None, imports=imports)
        values.update({name: loaded[name] for name in names})
        key, deltas = sent_as(part)
        return Sent(key, deltas, Layout.of(pickled) if key else NOTHING)

    def patched(self, part: Component, names: Collection[str]) -> bool:
        """Bring the memory of `names` up to date, if that is all there is to do."""
        key, deltas = sent_as(part)
        have = {self._here.get(name) for name in names}
        if not deltas or self._transport is None or len(have) != 1 or set(names) != set(part.names):
            return False
        known = have.pop()
        if known is None or known.key != key or known.deltas > deltas:
            return False
        pickled = self._tracker.buffers_of(names)
        if pickled is None or pickled.made or not known.layout.is_of(pickled):
            return False
        if any(buffer.readonly for buffer in pickled.buffers):
            return False
        patch(part, pickled.buffers, known.deltas, self._transport)
        self._tracker.written(names)
        self._here.update(dict.fromkeys(names, Sent(key, deltas, Layout.of(pickled))))
        return True

    def arrived(self, names: Iterable[str], sent: Sent) -> None:
        """`names` are bound to what was taken, which others know as `sent`."""
        self._here.update(dict.fromkeys(names, sent))

    def known_as(self, names: Iterable[str]) -> dict[str, Sent]:
        """As what others have the large values of those of `names` that have some."""
        return {name: sent for name in names if (sent := self._here[name]).key}


class Parcels:
    """Values for other uses than the namespace, as fields of a lane message."""

    def __init__(self, pickling: Pickling, exchange: Exchange) -> None:
        self._pickling = pickling
        self._exchange = exchange

    def pack(self, values: dict[str, Any]) -> tuple[list[Any], Blobs]:
        """Components and blobs."""
        return component.join([to_component(values, self._pickling.dump(values), None)[0]])

    def unpack(self, heads: list[Any], blobs: Blobs) -> dict[str, Any]:
        """The inverse of `pack`."""
        (part,) = component.split(heads, blobs)
        return self._exchange.load(part)

    def may_wait(self, held: int) -> bool:
        """Whether methods of a held object may wait for what other threads do."""
        with suppress(LookupError):
            return isinstance(self._pickling.held(held), meeting.KINDS)
        return False

    def call(self, held: int, method: str, heads: list[Any], blobs: Blobs) -> tuple[list[Any], Blobs]:
        """Call a method of an object for which another process has a stub, and pack what it returns.

        ``__next__`` returns whether there was an item, and the item; ``__getattr__`` what there is, and the value of
        what can't be called. Raises what the method raises.
        """
        given = self.unpack(heads, blobs)
        target = self._pickling.held(held)
        if method == "__next__":
            return self.pack({"result": _next(target)})
        if method == meeting.READY:
            meeting.ready(target, *given["args"])
            return self.pack({"result": None})
        if method == "__getattr__":
            found, value = _attribute(target, *given["args"])
            return self.pack({"result": (found, self._pickling.from_afar(target, value))})
        return self.pack({"result": getattr(target, method)(*given["args"], **given["kwargs"])})


def _next(iterator: Any) -> tuple[bool, Any]:
    try:
        return True, next(iterator)
    except StopIteration:
        return False, None


def _attribute(target: Any, name: str) -> tuple[str, Any]:
    try:
        value = getattr(target, name)
    except AttributeError as error:
        return "nothing", str(error)
    return ("method", None) if callable(value) else ("value", value)
