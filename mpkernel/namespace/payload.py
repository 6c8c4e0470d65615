"""Pickles as components, and back: which bytes are what."""

from __future__ import annotations

from collections.abc import Iterable

from mpkernel.namespace.component import Component
from mpkernel.namespace.pickling import Pickled


def to_component(names: Iterable[str], pickled: Pickled) -> Component:
    """For a commit. Buffers ride in the message."""
    needed = pickled.definitions or {}
    definitions = [[key, version] for key, (version, _) in needed.items()]
    bodies = [body for _, body in needed.values()]
    buffers = [bytes(buffer) for buffer in pickled.buffers]
    meta = {"defs": definitions, "buffers": len(buffers)}
    return Component(tuple(names), meta=meta, blobs=(pickled.data, *bodies, *buffers))


def from_component(component: Component) -> Pickled:
    """As the sender had it."""
    definitions = component.meta["defs"]
    data, *rest = component.blobs
    bodies, buffers = rest[: len(definitions)], rest[len(definitions) :]
    return Pickled(
        data,
        tuple(bytearray(buffer) for buffer in buffers),
        {key: (tuple(version), body) for (key, version), body in zip(definitions, bodies, strict=True)},
    )
