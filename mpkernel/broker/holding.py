"""The broker's hold on the memory that commits speak of: as long as anyone here speaks of it, it stays."""

from __future__ import annotations

import errno
import logging
import os
import resource
import sys
import weakref
from typing import Any

from mpkernel.errors import BadSegment
from mpkernel.messages import Commit, Taken
from mpkernel.namespace.component import LOST
from mpkernel.namespace.segments import Segments

log = logging.getLogger("mpkernel.broker")


# Each part of a segment that is held takes one of this process's files. A quarter of those that it may have is left for
# new workers and clients, and at least so many.
LEFT = 48


class Note(dict[str, Any]):
    """Where readers find a segment, for a component's `meta`. With the last reference to it the segment is let go."""


def take_segments(segments: Segments, worker: int, pid: int, commit: Commit) -> tuple[Taken | None, list[str]]:
    """Take hold of what `commit` of the process `pid` speaks of, and put into it where readers find that.

    Components whose memory can't be had, or would leave too few files, are `LOST`: their worker has told that the names
    have changed. Returns the answer to the worker, if it needs one, and these names.
    """
    taken: list[str] = []
    refused: list[str] = []
    names: list[str] = []
    blobs: list[bytes] = []
    start = 0
    for index, head in enumerate(commit.components):
        start += head[3]
        what = "delta" if "delta" in head[2] else "segment"
        if (told := head[2].get(what)) is not None:
            try:
                head[2][what] = hold(segments, pid, told)
                taken.append(told["name"])
            except BadSegment as error:
                log.warning("a segment of worker %d is refused: %s", worker, error)
                refused.append(told["name"])
                names += head[0]
                commit.components[index] = [head[0], LOST, {"rebound": head[2].get("rebound", head[0])}, 0]
                continue
        blobs += commit.blobs[start - head[3] : start]
    if refused:
        object.__setattr__(commit, "blobs", tuple(blobs))
    return (Taken(taken, refused) if taken or refused else None), names


def crowded(commit: Commit) -> int:
    """How many segments should be given up before those of `commit` are taken, as files run out."""
    wanted = sum("delta" in head[2] or "segment" in head[2] for head in commit.components)
    lacking = wanted - _room() if wanted else 0
    return max(lacking, wanted, _most() // 8) if lacking > 0 else 0


def _most() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return sys.maxsize
    return limit - max(LEFT, limit // 4)


def _room() -> int:
    """How many files segments may take, at least if those that are open are in a row."""
    try:
        lowest_free = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return 0 if error.errno in (errno.EMFILE, errno.ENFILE) else _most()
    os.close(lowest_free)
    return max(0, _most() - lowest_free)


def hold(segments: Segments, pid: int, told: dict[str, Any]) -> Note:
    """What lets the segment go when nobody speaks of it any more. Raises BadSegment."""
    if not _room():
        raise BadSegment("too few open files are left in the broker (ulimit -n)")
    number = segments.take(pid, told["name"], told["size"])
    place = segments.place(number)
    note = Note(told, pid=place.pid, name=place.name, size=place.size)
    weakref.finalize(note, _release, segments, number).atexit = False
    return note


def _release(segments: Segments, number: int) -> None:
    if number in segments:  # else all were let go at the kernel's end
        segments.release(number)
