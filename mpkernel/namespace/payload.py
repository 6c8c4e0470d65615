"""Pickles as components, and back: which bytes are what, and what travels by segment."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mpkernel.namespace.component import Component
from mpkernel.namespace.definitions import Version
from mpkernel.namespace.deltas import Delta, apply_delta, attach_with, write_delta
from mpkernel.namespace.pickling import Pickled
from mpkernel.namespace.pressure import room_for
from mpkernel.namespace.runs import Run
from mpkernel.namespace.segments import Segment, attach, write
from mpkernel.namespace.texts import Text
from mpkernel.namespace.transport import Place, Transport

# A pickle from so many bytes on travels by segment: a message is signed and copied several times.
LONG = 256 << 10


def to_component(
    names: Iterable[str], pickled: Pickled, transport: Transport | None, *, key: str = ""
) -> tuple[Component, Segment | None]:
    """For a message, with large buffers, and a long pickle, in a segment; without a transport, in the message itself.

    Raises OSError if there is no memory for the segment.
    """
    meta, blobs = _described(pickled, transport)
    texts = [text.packed() for text in pickled.texts if text.long] if transport is not None else []
    data = [pickled.data] if len(pickled.data) >= LONG else []
    if (pickled.buffers or texts or data) and transport is not None:
        meta["nbytes"] += sum(map(len, texts))
        room_for(meta["nbytes"])
        segment = write(transport, [*pickled.buffers, *texts, *data])
        ranges = list(segment.ranges)
        if data:
            meta["pickle"] = ranges.pop()
            blobs = (b"", *blobs[1:])
        n = len(pickled.buffers)
        meta["segment"] = {"key": key, "ranges": ranges[:n], "texts": ranges[n:], **_place(segment)}
        return Component(tuple(names), meta=meta, blobs=blobs), segment
    buffers = map(bytes, pickled.buffers)
    return Component(tuple(names), meta=meta, blobs=(*blobs, *buffers)), None


def to_delta(
    names: Iterable[str], pickled: Pickled, runs: Sequence[Iterable[Run]], transport: Transport, key: str
) -> tuple[Component, Segment]:
    """Only these runs of the buffers, on top of what was sent as `key`. Raises OSError."""
    meta, blobs = _described(pickled, transport)
    segment, delta = write_delta(transport, pickled.buffers, runs)
    meta["onto"] = key
    meta["delta"] = {"ranges": delta.ranges, "runs": delta.runs, **_place(segment)}
    return Component(tuple(names), meta=meta, blobs=blobs), segment


def _described(pickled: Pickled, transport: Transport | None) -> tuple[dict[str, Any], tuple[bytes, ...]]:
    """The meta of a component, and its blobs: the pickle, definitions, and texts that aren't in a segment."""
    definitions = pickled.definitions or {}
    told = [[key, version] for key, (version, _) in definitions.items()]
    apart = [text.long and transport is not None for text in pickled.texts]
    texts = [bytes(text.packed()) for text, far in zip(pickled.texts, apart, strict=True) if not far]
    blobs = (bytes(pickled.data), *(body for _, body in definitions.values()), *texts)
    nbytes = sum(map(len, blobs)) + sum(buffer.nbytes for buffer in pickled.buffers)
    meta = {"defs": told, "nbytes": nbytes}
    return {**meta, "texts": apart} if apart else meta, blobs


def _place(segment: Segment) -> dict[str, Any]:
    return {"pid": segment.place.pid, "name": segment.place.name, "size": segment.place.size}


def _delta(told: dict[str, Any]) -> Delta:
    ranges = [(offset, nbytes) for offset, nbytes in told["ranges"]]
    runs = [[(offset, nbytes) for offset, nbytes in some] for some in told["runs"]]
    return Delta(Place(told["pid"], told["name"], told["size"]), ranges, runs)


def sent_as(component: Component) -> tuple[str, int]:
    """What a component's buffers are: the key of their segment, and how many deltas lie over it."""
    return component.meta.get("segment", {}).get("key", ""), len(component.meta.get("deltas", ()))


def patch(component: Component, buffers: Sequence[Any], have: int, transport: Transport) -> None:
    """Bring `buffers`, which have the first `have` deltas, up to date in place. Raises BadSegment."""
    for told in component.meta.get("deltas", ())[have:]:
        apply_delta(transport, buffers, _delta(told))


def definitions_of(component: Component) -> dict[str, tuple[Version, bytes]]:
    """Versions and bodies of functions and classes, by id."""
    told = component.meta["defs"]
    return {key: (tuple(version), body) for (key, version), body in zip(told, component.blobs[1:], strict=False)}


def from_component(component: Component, transport: Transport | None) -> Pickled:
    """As the sender had it. Raises BadSegment."""
    needed = definitions_of(component)
    data: bytes | memoryview = component.blobs[0]
    rest = component.blobs[1 + len(needed) :]
    apart = component.meta.get("texts", [])
    near, rest = rest[: apart.count(False)], rest[apart.count(False) :]
    buffers: list[Any] = [bytearray(buffer) for buffer in rest]
    far: list[memoryview] = []
    if (segment := component.meta.get("segment")) is not None and transport is not None:
        place = Place(segment["pid"], segment["name"], segment["size"])
        ranges = [(offset, nbytes) for offset, nbytes in segment["ranges"]]
        if texts := segment.get("texts"):
            far = attach(transport, place, [(offset, nbytes) for offset, nbytes in texts])
        buffers = list(
            attach_with(transport, place, ranges, [_delta(told) for told in component.meta.get("deltas", ())])
        )
        if (stretch := component.meta.get("pickle")) is not None and not data:
            data = attach(transport, place, [(stretch[0], stretch[1])])[0]
    packed = [iter(near), iter(far)]
    texts = tuple(Text(packed=next(packed[is_far])) for is_far in apart)
    return Pickled(data, tuple(buffers), texts, needed)
