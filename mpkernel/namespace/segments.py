"""Segments: how big buffers get from the process that has them to all others, with one copy in memory for all readers.

A segment is memory that doesn't change any more. A worker writes the buffers of a pickle into one (`write`), the
broker takes it over and holds it (`Segments`), readers map it privately (`attach`): they may write to what they see,
and a page becomes their own only then. The broker never looks inside. `transport` has the ways to have such memory.

A mapping stays when the broker lets the segment go, and in children after fork; the memory is freed with its last user.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from pickle import PickleBuffer
from types import TracebackType

from mpkernel.errors import BadSegment
from mpkernel.namespace.transport import Files, Memfds, Place, Transport

PAGE = mmap.PAGESIZE
Range = tuple[int, int]  # offset in the segment, bytes; offsets are multiples of PAGE

# One call of pwrite(2) can't be interrupted, and after each one the GIL has to be had again: 64 MB take 40 ms.
_WRITE_AT_ONCE = 64 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_long,
)
_MAP_FIXED = 0x10  # Linux and macOS
_NORESERVE: int = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def choose(directory: Path, *, memfds: bool | None = None, peer: int | None = None) -> Transport:
    """The transport of a kernel with that private directory: memfds where they work, if not told otherwise."""
    if memfds is None:
        memfds = memfds_work(peer)
    return Memfds() if memfds else Files(directory)


def memfds_work(peer: int | None = None) -> bool:
    """Whether a segment can be made, sealed and found here, and /proc shows the handles of the process `peer`."""
    if not (sys.platform == "linux" and hasattr(os, "memfd_create")):
        return False
    transport = Memfds()
    try:
        os.listdir(f"/proc/{peer or os.getpid()}/fd")
        with write(transport, [b"x"]) as segment:
            transport.release(transport.hold(segment.place))
    except (OSError, BadSegment):
        return False
    return True


# --- the worker that has the buffers ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that this process wrote. Close it once the broker has taken it, or refused to."""

    fd: int
    place: Place
    ranges: list[Range]
    _transport: Transport

    @property
    def size(self) -> int:
        return self.place.size

    def close(self) -> None:
        self._transport.drop(self.fd, self.place.name)

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


Bytes = bytes | bytearray | memoryview | PickleBuffer


def write(transport: Transport, buffers: Sequence[Bytes]) -> Segment:
    """A sealed segment with these contiguous buffers, each from the start of a page on. Releases the GIL meanwhile."""
    views = [flat(buffer) for buffer in buffers]
    return write_stretches(transport, [[view] for view in views])


def write_stretches(transport: Transport, stretches: Sequence[Sequence[memoryview]]) -> Segment:
    """The same, of buffers that are in pieces. Raises OSError if there is no room."""
    fd, name = transport.create()
    try:
        ranges: list[Range] = []
        end = 0
        for pieces in stretches:
            nbytes = _write_pieces(fd, pieces, end)
            ranges.append((end, nbytes))
            end += -(-nbytes // PAGE) * PAGE
        end = max(end, PAGE)
        os.ftruncate(fd, end)
        transport.seal(fd, name)
    except BaseException:
        transport.drop(fd, name)
        raise
    return Segment(fd, Place(os.getpid(), name, end), ranges, transport)


def flat(buffer: Bytes) -> memoryview:
    """The bytes of a contiguous buffer, C or Fortran."""
    return buffer.raw() if isinstance(buffer, PickleBuffer) else PickleBuffer(buffer).raw()


def _write_pieces(fd: int, pieces: Iterable[memoryview], offset: int) -> int:
    """pwrite(2) from the buffer is as fast as two threads that copy into a mapping, which must be faulted in first."""
    start = offset
    for piece in pieces:
        for at in range(0, piece.nbytes, _WRITE_AT_ONCE):
            part = piece[at : at + _WRITE_AT_ONCE]
            while part.nbytes:
                done = os.pwrite(fd, part, offset)
                part, offset = part[done:], offset + done
    return offset - start


# --- the broker that holds them -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Held:
    place: Place
    references: int = 1


@dataclass(slots=True)
class Segments:
    """The segments that the broker holds, by id, with a count of references for each."""

    transport: Transport
    total: int = 0  # bytes
    _held: dict[int, _Held] = field(default_factory=dict)
    _ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def take(self, pid: int, name: str, size: int) -> int:
        """Hold what the worker `pid` (one that we started) calls `name`; returns its id, with one reference.

        Raises BadSegment if it isn't there, has another size or isn't sealed.
        """
        place = self.transport.hold(Place(pid, name, size))
        number = next(self._ids)
        self._held[number] = _Held(place)
        self.total += size
        return number

    def place(self, segment: int) -> Place:
        """Where readers find it, as long as it is held."""
        return self._held[segment].place

    def hold(self, segment: int) -> None:
        """One more reference."""
        self._held[segment].references += 1

    def release(self, segment: int) -> bool:
        """One reference fewer; with the last one the segment is let go. True then."""
        held = self._held[segment]
        held.references -= 1
        if held.references:
            return False
        del self._held[segment]
        self.total -= held.place.size
        self.transport.release(held.place)
        return True

    def close(self) -> None:
        """Let go of all."""
        for held in self._held.values():
            self.transport.release(held.place)
        self._held.clear()
        self.total = 0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, segment: int) -> bool:
        return segment in self._held


# --- readers ------------------------------------------------------------------------------------------------------


def attach(transport: Transport, place: Place, ranges: Sequence[Range]) -> list[memoryview]:
    """The buffers of a segment, writable; what one reader writes no other sees. Mapped as long as a view of it lives.

    Raises BadSegment if it isn't there or smaller than the ranges say; OSError if there is no address space left.
    """
    check_ranges(place, ranges)
    fd = transport.open(place)
    try:
        # An mmap of a file would keep a handle open. One of nothing, with the segment mapped over it, doesn't.
        memory = mmap.mmap(-1, place.size, mmap.MAP_PRIVATE | mmap.MAP_ANON | _NORESERVE)
        map_over(memoryview(memory), fd, 0)
    finally:
        os.close(fd)
    whole = memoryview(memory)
    return [whole[offset : offset + nbytes] for offset, nbytes in ranges]


def map_over(target: memoryview, fd: int, offset: int) -> None:
    """Put pages of a file, privately, where the target's are. It must begin with a page. Raises OSError."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(target))
    flags = mmap.MAP_PRIVATE | _MAP_FIXED | _NORESERVE
    if _libc.mmap(address, target.nbytes, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset) != address:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def check_ranges(place: Place, ranges: Sequence[Range]) -> None:
    """Reading behind the end of a mapped file kills the process: the ranges must be within."""
    for offset, nbytes in ranges:
        if offset < 0 or nbytes < 0 or offset % PAGE or offset + nbytes > place.size:
            raise BadSegment(f"a buffer at {offset} of {nbytes} bytes is not in a segment of {place.size} bytes")
