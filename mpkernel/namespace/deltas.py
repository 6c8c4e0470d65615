"""Deltas: the pages of a buffer that changed, in a segment of their own, and a base together with its deltas.

A delta has, for each buffer of its base, the changed runs (widened to whole pages) one after the other. A reader that
has the buffer gets them copied into it; one that hasn't attaches the base and lays the deltas over it. Long runs are
mapped over it and so stay common to all readers; short ones are copied, as each mapped run costs the system two more
mappings, of which a process may have 65,530, and as much time as copying 20 kB (7 us).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mpkernel.errors import BadSegment
from mpkernel.namespace.runs import Run, aligned, total
from mpkernel.namespace.segments import (
    Bytes,
    Opened,
    Range,
    Segment,
    attach,
    check_ranges,
    flat,
    skew,
    write_stretches,
)
from mpkernel.namespace.transport import PAGE, Place, Transport

_MAP_FROM = 64 << 10  # bytes of a run
_MAP_AT_MOST = 1000  # runs of a buffer
_READ_AT_ONCE = 1000  # pieces of one preadv(2); IOV_MAX is 1024


@dataclass(frozen=True, slots=True)
class Delta:
    """A segment of changed pages: for each buffer of the base where they are in it, and which runs these are."""

    place: Place
    ranges: Sequence[Range]
    runs: Sequence[Sequence[Run]]


def write_delta(
    transport: Transport, buffers: Sequence[Bytes], dirty: Sequence[Iterable[Run]]
) -> tuple[Segment, Delta]:
    """The dirty runs of each buffer as a segment, to be closed when the broker has taken it."""
    views = [flat(buffer) for buffer in buffers]
    runs = [aligned(some, PAGE, view.nbytes, skew(view)) for view, some in zip(views, dirty, strict=True)]
    stretches = [
        [view[offset : offset + nbytes] for offset, nbytes in some] for view, some in zip(views, runs, strict=True)
    ]
    segment = write_stretches(transport, stretches)
    return segment, Delta(segment.place, segment.ranges, runs)


def attach_with(
    transport: Transport, place: Place, ranges: Sequence[Range], deltas: Sequence[Delta]
) -> list[memoryview]:
    """As `segments.attach`, with the deltas laid over the base, the oldest first. Raises BadSegment, OSError."""
    buffers = attach(transport, place, ranges)
    for delta in deltas:
        _lay_over(transport, buffers, delta, map_long=True)
    return buffers


def apply_delta(transport: Transport, targets: Sequence[memoryview], delta: Delta) -> None:
    """Copy the changed pages into the (writable, flat) buffers that this process has. A watch of theirs sees that, too.

    Raises BadSegment, before anything is written, if it isn't a delta of buffers of these sizes.
    """
    _lay_over(transport, targets, delta, map_long=False)


def _lay_over(transport: Transport, targets: Sequence[memoryview], delta: Delta, *, map_long: bool) -> None:
    _check(targets, delta)
    if not any(delta.runs):
        return
    with Opened(transport, delta.place) as opened:
        for target, (start, _), runs in zip(targets, delta.ranges, delta.runs, strict=True):
            long = _long(runs) if map_long else set()
            short: list[tuple[memoryview, int]] = []
            for (offset, nbytes), at in zip(runs, _offsets(start, runs), strict=True):
                piece = target[offset : offset + nbytes]
                if offset not in long or not _mapped(opened, piece, at):
                    short.append((piece, at))
            _copy(opened, short)


def _check(targets: Sequence[memoryview], delta: Delta) -> None:
    check_ranges(delta.place, delta.ranges)
    if not len(targets) == len(delta.ranges) == len(delta.runs):
        raise BadSegment(f"a delta of {len(delta.runs)} buffers doesn't fit {len(targets)}")
    for target, (start, nbytes), runs in zip(targets, delta.ranges, delta.runs, strict=True):
        first = runs[0][0] if runs else 0
        whole = aligned(runs, PAGE, target.nbytes, -first % PAGE if first else start % PAGE)
        if total(runs) != nbytes or [tuple(run) for run in runs] != whole or any(offset < 0 for offset, _ in runs):
            raise BadSegment(f"a delta doesn't fit a buffer of {target.nbytes} bytes")


def _offsets(start: int, runs: Sequence[Run]) -> Iterator[int]:
    for _, nbytes in runs:
        yield start
        start += nbytes


def _long(runs: Sequence[Run]) -> set[int]:
    """The offsets of the runs that are better mapped."""
    longest = sorted((run for run in runs if run[1] >= _MAP_FROM), key=lambda run: run[1], reverse=True)
    return {offset for offset, _ in longest[:_MAP_AT_MOST]}


def _mapped(opened: Opened, piece: memoryview, offset: int) -> bool:
    try:
        opened.map_over(piece, offset)
    except OSError:  # too many mappings already, or its pages begin elsewhere than here
        return False
    return True


def _copy(opened: Opened, pieces: Sequence[tuple[memoryview, int]]) -> None:
    """Read each piece from its offset; those that follow one another in the segment by one call."""
    batch: list[memoryview] = []
    start = end = 0
    for piece, offset in pieces:
        if batch and (offset != end or len(batch) == _READ_AT_ONCE):
            opened.read(batch, start)
            batch = []
        if not batch:
            start = offset
        batch.append(piece)
        end = offset + piece.nbytes
    if batch:
        opened.read(batch, start)
