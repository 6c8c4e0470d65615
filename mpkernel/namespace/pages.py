"""Which parts of a big buffer were written since the last look.

A *watch* is armed on a buffer and then tells, as often as it is asked, the runs that were written since. A `PageWatch`
has the kernel note written pages: a clean gigabyte costs 0.05 ms, and the first write to each page after each look
costs the writer a fault. A `HashWatch` compares checksums: 100 ms for each gigabyte, everywhere.

A watch holds no reference to the memory, so that the user may resize or free it: whoever asks gives the buffer again.
A watch may err on one side only, that a run is called written which isn't. What neither can see: memory that a device
writes by DMA into pages pinned before they were armed (page watch only), and madvise(MADV_DONTNEED) of the user's on a
private mapping of a file.
"""

from __future__ import annotations

import mmap
from itertools import pairwise
from typing import Protocol

import xxhash

from mpkernel.namespace.address import address_of
from mpkernel.namespace.runs import Run, merged
from mpkernel.namespace.userfault import PAGE, Userfault

# Smaller buffers are not worth a watch of their own: hashing one takes 0.1 ms.
WATCHED = 1 << 20
# Bytes with a checksum of their own in a HashWatch. A call of the hash costs as much as 5 kB of hashing.
CHUNK = 256 << 10


class Watch(Protocol):
    """Tells what was written; `close` it when the buffer is of no interest any more."""

    def valid(self, buffer: memoryview) -> bool:
        """Whether it is this very buffer that is watched."""

    def dirty(self, buffer: memoryview) -> list[Run]:
        """The runs written since armed or last asked, the whole buffer if the watch isn't valid. Arms itself again.

        Ask before the content is read: what is written in between is then both read and told the next time.
        """

    def put_back(self, runs: list[Run]) -> None:
        """Tell these again the next time: they were asked for, and then couldn't be published."""

    def close(self) -> None:
        """Watch no more."""


class PageTracker:
    """Arms watches in this process: by pages where the kernel can, else by checksums. Not safe among threads."""

    def __init__(self, *, pages: bool = True) -> None:
        """`pages` False: checksums only."""
        self._userfault: Userfault | None = None
        self._tried = not pages  # it is opened for the first buffer
        self._watches: list[PageWatch] = []

    @staticmethod
    def available() -> bool:
        """Whether pages can be tracked here: tried, not read off a version."""
        userfault = _working()
        if userfault is None:
            return False
        userfault.close()
        return True

    @property
    def by_pages(self) -> bool:
        """Whether watches that are armed now are page watches."""
        userfault = self._opened()
        return userfault is not None and userfault.usable

    def _opened(self) -> Userfault | None:
        if not self._tried:
            self._tried = True
            self._userfault = _working()
        return self._userfault

    def arm(self, buffer: memoryview) -> Watch:
        """Watch a contiguous buffer of bytes from now on. An older watch of any part of it isn't valid any more."""
        start = address_of(buffer) if buffer.nbytes >= 2 * PAGE else None
        userfault = self._opened() if start is not None else None
        if start is not None and userfault is not None and userfault.usable:
            for other in [watch for watch in self._watches if watch.overlaps(start, start + buffer.nbytes)]:
                other.close()
            try:
                return PageWatch(userfault, self._watches, start, buffer)
            except OSError:  # memory that can't be tracked, or that another userfaultfd has
                pass
        return HashWatch(buffer)

    def close(self) -> None:
        """End all watches."""
        for watch in list(self._watches):
            watch.close()
        if self._userfault is not None:
            self._userfault.close()


class PageWatch:
    """Whole pages by the kernel's notes, the ends of the buffer that share pages with other memory by checksum."""

    def __init__(self, userfault: Userfault, watches: list[PageWatch], address: int, buffer: memoryview) -> None:
        self._userfault = userfault
        self._watches = watches
        self._address, self._end = address, address + buffer.nbytes
        self._first, self._last = -(-address // PAGE) * PAGE, self._end // PAGE * PAGE
        self._missed: list[Run] = []
        self._open = True
        userfault.register(self._first, self._last)
        watches.append(self)
        self._edges = self._hashes(buffer)

    def overlaps(self, start: int, end: int) -> bool:
        return self._address < end and start < self._end

    def valid(self, buffer: memoryview) -> bool:
        return self._same(buffer) and self._userfault.tracked(self._first, self._last)

    def dirty(self, buffer: memoryview) -> list[Run]:
        if not self._same(buffer):
            return [(0, buffer.nbytes)]
        # An exception at any point (an interrupt of the user's, too) must not lose what the kernel has told only once.
        missed, self._missed = self._missed, [(0, buffer.nbytes)]
        try:
            written = self._userfault.written(self._first, self._last)
            found = [(start - self._address, end - start) for start, end in written]
        except OSError:  # not the memory that was armed: unmapped and mapped again
            self.close()
            return [(0, buffer.nbytes)]
        edges = self._hashes(buffer)
        if edges[0] != self._edges[0]:
            found.append((0, self._first - self._address))
        if edges[1] != self._edges[1]:
            found.append((self._last - self._address, self._end - self._last))
        runs = merged(missed + found)
        self._edges, self._missed = edges, []
        return runs

    def put_back(self, runs: list[Run]) -> None:
        self._missed = merged(self._missed + runs)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._watches.remove(self)
            self._userfault.unregister(self._first, self._last)

    def _same(self, buffer: memoryview) -> bool:
        there = buffer.nbytes == self._end - self._address and address_of(buffer) == self._address
        return there and self._open and self._userfault.usable

    def _hashes(self, buffer: memoryview) -> tuple[int, int]:
        head, tail = buffer[: self._first - self._address], buffer[self._last - self._address :]
        return xxhash.xxh3_128_intdigest(head), xxhash.xxh3_128_intdigest(tail)


class HashWatch:
    """Checksums of chunks; it goes by the content alone, wherever that is."""

    def __init__(self, buffer: memoryview) -> None:
        self._nbytes = buffer.nbytes
        self._hashes = _chunk_hashes(buffer)
        self._missed: list[Run] = []

    def valid(self, buffer: memoryview) -> bool:
        return bool(self._hashes) and buffer.nbytes == self._nbytes

    def dirty(self, buffer: memoryview) -> list[Run]:
        if not self.valid(buffer):
            return [(0, buffer.nbytes)]
        new = _chunk_hashes(buffer)
        changed = [
            (i * CHUNK, min(CHUNK, self._nbytes - i * CHUNK))
            for i, (now, before) in enumerate(zip(new, self._hashes, strict=True))
            if now != before
        ]
        runs = merged(self._missed + changed)
        self._hashes, self._missed = new, []
        return runs

    def put_back(self, runs: list[Run]) -> None:
        self._missed = merged(self._missed + runs)

    def close(self) -> None:
        self._hashes = []


def _chunk_hashes(buffer: memoryview) -> list[bytes]:
    bounds = [*range(0, buffer.nbytes, CHUNK), buffer.nbytes]
    return [xxhash.xxh3_128_digest(buffer[start:end]) for start, end in pairwise(bounds)]


def _working() -> Userfault | None:
    """Page tracking that has just seen a write and nothing else. None where there is no such thing, or a fake one."""
    try:
        userfault = Userfault()
    except OSError:
        return None
    try:
        if _sees_writes(userfault):
            return userfault
    except OSError:
        pass
    userfault.close()
    return None


def _sees_writes(userfault: Userfault) -> bool:
    with mmap.mmap(-1, 6 * PAGE, mmap.MAP_PRIVATE) as probe:
        start = address_of(memoryview(probe))
        assert start is not None
        end = start + 6 * PAGE
        probe[4 * PAGE] = 1  # written before: not to be seen
        userfault.register(start, end)
        clean = list(userfault.written(start, end))
        probe[PAGE] = probe[2 * PAGE] = 1
        seen = list(userfault.written(start, end))
        return not clean and seen == [(start + PAGE, start + 3 * PAGE)] and not list(userfault.written(start, end))
