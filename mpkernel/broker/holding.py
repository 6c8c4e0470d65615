"""The broker's hold on the memory that commits speak of: as long as anyone here speaks of it, it stays."""

from __future__ import annotations

import logging
import os
import weakref
from typing import Any

from mpkernel.errors import BadSegment
from mpkernel.messages import Commit, Taken
from mpkernel.namespace.archive import Content, drop
from mpkernel.namespace.component import Component
from mpkernel.namespace.segments import Segments
from mpkernel.namespace.transport import Transport

log = logging.getLogger("mpkernel.broker")


class _Note(dict[str, Any]):
    """Where readers find a segment, for a component's `meta`. With the last reference to it the segment is let go."""


def take_segments(segments: Segments, worker: int, pid: int, commit: Commit) -> Taken | None:
    """Take hold of what `commit` of the process `pid` speaks of, and put into it where readers find that.

    Components whose memory can't be had are dropped from it. Returns the answer to the worker, if it needs one.
    """
    taken: list[str] = []
    refused: list[str] = []
    kept = []
    for head in commit.components:
        what = "delta" if "delta" in head[2] else "segment"
        if (told := head[2].get(what)) is not None:
            try:
                head[2][what] = _hold(segments, pid, told)
                taken.append(told["name"])
            except BadSegment as error:
                log.warning("a segment of worker %d is refused: %s", worker, error)
                refused.append(told["name"])
                continue
        kept.append(head)
    if refused:
        _drop_blobs(commit, kept)
    return Taken(taken, refused) if taken or refused else None


def take_made(segments: Segments, transport: Transport, content: Content, origin: str) -> list[Component]:
    """Take hold of what was read from a file; returns its components, with where readers find their memory.

    `origin` makes the segments' keys unlike all others. Raises BadSegment.
    """
    try:
        notes = [_hold(segments, os.getpid(), {"name": made.name, "size": made.size}) for made in content.segments]
    finally:
        drop(content.segments, transport)

    def placed(told: dict[str, Any]) -> _Note:
        own = {key: value for key, value in told.items() if key != "part"}
        note: _Note = notes[told["part"]]
        if "key" in own:
            own["key"] = f"{origin}.{told['part']}"
        note.update(own)
        return note

    components = []
    for component in content.components:
        meta = dict(component.meta)
        if "segment" in meta:
            meta["segment"] = placed(meta["segment"])
        if "deltas" in meta:
            meta["deltas"] = [placed(told) for told in meta["deltas"]]
        components.append(Component(component.names, component.kind, meta, component.blobs))
    return components


def _hold(segments: Segments, pid: int, told: dict[str, Any]) -> _Note:
    """What lets the segment go when nobody speaks of it any more."""
    number = segments.take(pid, told["name"], told["size"])
    place = segments.place(number)
    note = _Note(told, pid=place.pid, name=place.name, size=place.size)
    weakref.finalize(note, _release, segments, number).atexit = False
    return note


def _release(segments: Segments, number: int) -> None:
    if number in segments:  # else all were let go at the kernel's end
        segments.release(number)


def _drop_blobs(commit: Commit, kept: list[Any]) -> None:
    blobs: list[bytes] = []
    start = 0
    for head in commit.components:
        if any(head is one for one in kept):
            blobs += commit.blobs[start : start + head[3]]
        start += head[3]
    commit.components[:] = kept
    object.__setattr__(commit, "blobs", tuple(blobs))
