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
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from pickle import PickleBuffer
from types import TracebackType

from mpkernel.errors import BadSegment
from mpkernel.namespace.address import address_of
from mpkernel.namespace.transport import PAGE, Files, Memfds, Part, Place, Transport
from mpkernel.namespace.writing import STRIPE_FROM, Piece, write_parts

Range = tuple[int, int]  # offset in the segment, bytes; each has its pages for itself

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
_AT_MOST = 4  # parts: more threads wait for memory, and other cells want cores as well
_MAP_FIXED = 0x10  # Linux and macOS
if sys.platform == "linux":
    _libc.mremap.restype = ctypes.c_void_p
    _libc.mremap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_void_p)
_MOVE_ONTO = 1 | 2 | 4  # MREMAP_MAYMOVE, _FIXED, _DONTUNMAP: the pages go, the old mapping stays (Linux 5.13)
_NORESERVE: int = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


class _Mapping(mmap.mmap):
    stripe = 0  # bytes of each part of the segment


# What this process has mapped, by address.
_attached: weakref.WeakValueDictionary[int, _Mapping] = weakref.WeakValueDictionary()


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
            for part in segment.place.parts():
                transport.release(transport.hold(part))
    except (OSError, BadSegment):
        return False
    return True


# --- the worker that has the buffers ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that this process wrote. Close it once the broker has taken it, or refused to."""

    fds: Sequence[int]
    place: Place
    ranges: list[Range]
    _transport: Transport

    @property
    def size(self) -> int:
        return self.place.size

    def close(self) -> None:
        for fd, name in zip(self.fds, self.place.names(), strict=True):
            self._transport.drop(fd, name)

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


Bytes = bytes | bytearray | memoryview | PickleBuffer


def write(transport: Transport, buffers: Sequence[Bytes]) -> Segment:
    """A sealed segment with these contiguous buffers, each with its pages for itself. Releases the GIL meanwhile.

    Where a page begins in a buffer here, one begins in the segment, and so in readers: the pages of one can take the
    place of another's.
    """
    views = [flat(buffer) for buffer in buffers]
    return write_stretches(transport, [[view] for view in views])


def write_stretches(transport: Transport, stretches: Sequence[Sequence[memoryview]]) -> Segment:
    """The same, of buffers that are in pieces. Raises OSError if there is no room."""
    ranges: list[Range] = []
    pieces: list[Piece] = []
    end = 0
    for stretch in stretches:
        start = end = end + (skew(stretch[0]) if stretch else 0)
        for view in stretch:
            pieces.append((end, view))
            end += view.nbytes
        ranges.append((start, end - start))
        end = -(-end // PAGE) * PAGE
    size = max(end, PAGE)
    made: list[tuple[int, str]] = []
    try:
        parts = _parts(size) if transport.parallel else 1
        for _ in range(parts):
            made.append(transport.create(size // parts))
        place = Place.of(os.getpid(), [name for _, name in made], size)
        fds = [fd for fd, _ in made]
        for (fd, _), part in zip(made, place.parts(), strict=True):
            os.ftruncate(fd, part.size)
        write_parts(fds, place.stripe, pieces)
        for fd, name in made:
            transport.seal(fd, name)
    except BaseException:
        for fd, name in made:
            transport.drop(fd, name)
        raise
    return Segment(fds, place, ranges, transport)


def _parts(size: int) -> int:
    """One for each core, as long as starting a thread for it is nothing beside the writing."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    return max(1, min(cores, _AT_MOST, size // STRIPE_FROM))


def skew(view: memoryview) -> int:
    """How far from the start of a page a buffer begins; 0 if there is no way to know."""
    return (address_of(view) or 0) % PAGE if view.nbytes else 0


def whole_pages(address: int, nbytes: int) -> tuple[int, int]:
    """Which of the bytes from an address on, from and to, are whole pages."""
    first = -address % PAGE
    return first, first + (nbytes - first) // PAGE * PAGE


def flat(buffer: Bytes) -> memoryview:
    """The bytes of a contiguous buffer, C or Fortran."""
    return buffer.raw() if isinstance(buffer, PickleBuffer) else PickleBuffer(buffer).raw()


# --- the broker that holds them -----------------------------------------------------------------------------------


@dataclass(slots=True)
class _Held:
    place: Place
    parts: list[Part]
    references: int = 1


class Segments:
    """The segments that the broker holds, by id, with a count of references for each."""

    def __init__(self, transport: Transport) -> None:
        self.total = 0  # bytes
        self._transport = transport
        self._held: dict[int, _Held] = {}
        self._ids = itertools.count(1)

    def take(self, pid: int, name: str, size: int) -> int:
        """Hold what the worker `pid` (one that we started) calls so; returns its id, with one reference.

        Raises BadSegment if a part isn't there, has another size or isn't sealed.
        """
        parts: list[Part] = []
        try:
            for part in Place(pid, name, size).parts():
                parts.append(self._transport.hold(part))
        except BaseException:
            self._let_go(parts)
            raise
        number = next(self._ids)
        self._held[number] = _Held(Place.of(parts[0].pid, [part.name for part in parts], size), parts)
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
        self._let_go(held.parts)
        return True

    def close(self) -> None:
        """Let go of all."""
        for held in self._held.values():
            self._let_go(held.parts)
        self._held.clear()
        self.total = 0

    def _let_go(self, parts: list[Part]) -> None:
        for part in parts:
            self._transport.release(part)

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
    with Opened(transport, place) as opened:
        # An mmap of a file would keep a handle open. One of nothing, with the segment mapped over it, doesn't.
        memory = _Mapping(-1, place.size, mmap.MAP_PRIVATE | mmap.MAP_ANON | _NORESERVE)
        whole = memoryview(memory)
        opened.map_over(whole, 0)
    memory.stripe = place.stripe
    _attached[ctypes.addressof(ctypes.c_char.from_buffer(memory))] = memory
    return [whole[offset : offset + nbytes] for offset, nbytes in ranges]


def move_pages(source: int, target: int, nbytes: int) -> tuple[int, int]:
    """Let the whole pages at `target` be those at `source`, both addresses in attached segments.

    As good as copying, but takes no time, and no memory. Returns which bytes were moved, from and to: none if that
    can't be done here. What is at `source` has to be forgotten, but for the bytes that weren't moved.
    """
    first, end = whole_pages(source, nbytes)
    if sys.platform != "linux" or end <= first or (target + first) % PAGE:
        return 0, 0
    mappings = [m for address in (source, target) if (m := _mapping_of(address + first, end - first)) is not None]
    if len(mappings) < 2:
        return 0, 0
    moved = first
    while moved < end:
        size = min(end - moved, *(stripe - (offset + moved - first) % stripe for offset, stripe in mappings))
        if not _moved(source + moved, target + moved, size):
            break
        moved += size
    return first, moved


def _mapping_of(address: int, nbytes: int) -> tuple[int, int] | None:
    """Where in an attached segment this is, and how long its parts are; None if it isn't all in one."""
    for base, memory in list(_attached.items()):
        if base <= address and address + nbytes <= base + len(memory):
            return address - base, memory.stripe
    return None


def _moved(source: int, target: int, size: int) -> bool:
    return bool(_libc.mremap(source, size, size, _MOVE_ONTO, ctypes.c_void_p(target)) == target)


class Opened:
    """A segment that is open for reading. Raises BadSegment if it isn't there."""

    def __init__(self, transport: Transport, place: Place) -> None:
        self._stripe = place.stripe
        self._fds: list[int] = []
        try:
            for part in place.parts():
                self._fds.append(transport.open(part))
        except BaseException:
            self.close()
            raise

    def map_over(self, target: memoryview, offset: int) -> None:
        """Put the pages from there on, privately, where the target's are. Raises OSError.

        The target has its pages for itself, and begins as far from the start of one as the offset does.
        """
        address = ctypes.addressof(ctypes.c_char.from_buffer(target))
        at, end = offset // PAGE * PAGE, offset + target.nbytes
        address -= offset - at
        while at < end:
            part, inside = divmod(at, self._stripe)
            size = min(end - at, self._stripe - inside)
            flags = mmap.MAP_PRIVATE | _MAP_FIXED | _NORESERVE
            if _libc.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, self._fds[part], inside) != address:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))
            address, at = address + size, at + size

    def read(self, targets: Sequence[memoryview], offset: int) -> None:
        """Copy what follows from there on into the targets, one after the other."""
        size = sum(target.nbytes for target in targets)
        part, at = divmod(offset, self._stripe)
        if at + size <= self._stripe and os.preadv(self._fds[part], targets, at) == size:
            return  # nearly always
        for target in targets:
            for fd, at, piece in self._split(target, offset):
                while piece.nbytes:
                    done = os.preadv(fd, [piece], at)
                    if not done:
                        raise BadSegment("a segment ended too early")
                    piece, at = piece[done:], at + done
            offset += target.nbytes

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds = []

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _split(self, target: memoryview, offset: int) -> Iterator[tuple[int, int, memoryview]]:
        """The pieces of the target by part: its fd, the offset in it, the piece."""
        while target.nbytes:
            part, at = divmod(offset, self._stripe)
            piece = target[: self._stripe - at]
            yield self._fds[part], at, piece
            target, offset = target[piece.nbytes :], offset + piece.nbytes


def check_ranges(place: Place, ranges: Sequence[Range]) -> None:
    """Reading behind the end of a mapped file kills the process: the ranges must be within."""
    for offset, nbytes in ranges:
        if offset < 0 or nbytes < 0 or offset + nbytes > place.size:
            raise BadSegment(f"a buffer at {offset} of {nbytes} bytes is not in a segment of {place.size} bytes")
