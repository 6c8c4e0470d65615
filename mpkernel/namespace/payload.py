"""Pickles as components, and back: which bytes are what, and what travels by segment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mpkernel.namespace.component import Component
from mpkernel.namespace.pickling import Pickled
from mpkernel.namespace.segments import Segment, attach, write
from mpkernel.namespace.transport import Place, Transport


def to_component(
    names: Iterable[str], pickled: Pickled, transport: Transport | None
) -> tuple[Component, Segment | None]:
    """For a message, with its large buffers in a segment; without a transport, in the message itself.

    Raises OSError if there is no memory for the segment.
    """
    definitions = pickled.definitions or {}
    bodies = [body for _, body in definitions.values()]
    meta: dict[str, Any] = {
        "defs": [[key, version] for key, (version, _) in definitions.items()],
        "nbytes": len(pickled.data) + sum(map(len, bodies)) + sum(b.nbytes for b in pickled.buffers),
    }
    if pickled.buffers and transport is not None:
        segment = write(transport, pickled.buffers)
        place = segment.place
        meta["segment"] = {"pid": place.pid, "name": place.name, "size": place.size, "ranges": segment.ranges}
        return Component(tuple(names), meta=meta, blobs=(pickled.data, *bodies)), segment
    buffers = map(bytes, pickled.buffers)
    return Component(tuple(names), meta=meta, blobs=(pickled.data, *bodies, *buffers)), None


def from_component(component: Component, transport: Transport | None) -> Pickled:
    """As the sender had it. Raises BadSegment."""
    definitions = component.meta["defs"]
    data, *rest = component.blobs
    bodies, inline = rest[: len(definitions)], rest[len(definitions) :]
    buffers: list[Any] = [bytearray(buffer) for buffer in inline]
    if (segment := component.meta.get("segment")) is not None and transport is not None:
        place = Place(segment["pid"], segment["name"], segment["size"])
        buffers = list(attach(transport, place, [(offset, nbytes) for offset, nbytes in segment["ranges"]]))
    needed = {key: (tuple(version), body) for (key, version), body in zip(definitions, bodies, strict=True)}
    return Pickled(data, tuple(buffers), needed)
