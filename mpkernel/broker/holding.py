"""The broker's hold on the memory that commits speak of: as long as anyone here speaks of it, it stays."""

from __future__ import annotations

import logging
import weakref
from typing import Any

from mpkernel.errors import BadSegment
from mpkernel.messages import Commit, Taken
from mpkernel.namespace.segments import Segments

log = logging.getLogger("mpkernel.broker")


class Note(dict[str, Any]):
    """Where readers find a segment, for a component's `meta`. With the last reference to it the segment is let go."""


def take_segments(segments: Segments, worker: int, pid: int, commit: Commit) -> tuple[Taken | None, list[str]]:
    """Take hold of what `commit` of the process `pid` speaks of, and put into it where readers find that.

    Components whose memory can't be had are dropped from it. Returns the answer to the worker, if it needs one, and
    the names that were dropped.
    """
    taken: list[str] = []
    refused: list[str] = []
    names: list[str] = []
    kept = []
    for head in commit.components:
        what = "delta" if "delta" in head[2] else "segment"
        if (told := head[2].get(what)) is not None:
            try:
                head[2][what] = hold(segments, pid, told)
                taken.append(told["name"])
            except BadSegment as error:
                log.warning("a segment of worker %d is refused: %s", worker, error)
                refused.append(told["name"])
                names += head[0]
                continue
        kept.append(head)
    if refused:
        _drop_blobs(commit, kept)
    return (Taken(taken, refused) if taken or refused else None), names


def hold(segments: Segments, pid: int, told: dict[str, Any]) -> Note:
    """What lets the segment go when nobody speaks of it any more."""
    number = segments.take(pid, told["name"], told["size"])
    place = segments.place(number)
    note = Note(told, pid=place.pid, name=place.name, size=place.size)
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
