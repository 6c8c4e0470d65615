"""Cold arrays: what has been copied for others and then doesn't change is there once, not twice.

A worker that has written the memory of an array into a segment keeps the segment open for a while. If the array is
still the same then, the segment's pages take the place of its own (`Opened.map_over`), as if it had come from another
process: whoever writes to a page gets a copy of that. So only memory that malloc has from the system for that array
alone is replaced, of which nothing but free(3) and realloc(3) keep account, and these by address.

Written to for the first time thereafter, a gigabyte takes 0.9 s longer than it would have: hence cold arrays only.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mpkernel.namespace.address import address_of
from mpkernel.namespace.pages import PageWatch, Watch
from mpkernel.namespace.segments import Opened, Range, Segment, whole_pages
from mpkernel.namespace.transport import PAGE

# An array is cold when it has been the same for so long (seconds).
COLD = 10.0
# What has fewer bytes isn't worth while.
LEAST = 8 << 20
# So many segments are kept open for it: each takes up to four files.
MOST = 16

_PROC = Path("/proc")
_HEADER = 16  # bytes before what malloc gives: how far the chunk is from its mapping's start, and how large it is
_FLAGS, _IS_MAPPED = 7, 2
_STRICT = 2  # of vm/overcommit_memory: there a mapping can be refused after what it replaces is gone


@dataclass(frozen=True, slots=True)
class _Copy:
    names: list[str]
    segment: Segment
    since: float  # monotonic seconds


class Copies:
    """The segments that this process wrote lately, by the key as which others know them."""

    def __init__(self) -> None:
        self._copies: dict[str, _Copy] = {}

    def __bool__(self) -> bool:
        return bool(self._copies)

    def add(self, key: str, names: list[str], segment: Segment) -> None:
        """The broker has taken the segment: keep it open if it is worth while."""
        if not key or not any(nbytes >= LEAST for _, nbytes in segment.ranges):
            segment.close()
            return
        while len(self._copies) >= MOST:
            self.drop(next(iter(self._copies)))
        self._copies[key] = _Copy(names, segment, time.monotonic())

    def drop(self, key: str) -> None:
        """What was sent as `key` has changed, or is to be freed."""
        if copy := self._copies.pop(key, None):
            copy.segment.close()

    def drop_stale(self, is_current: Callable[[list[str], str], bool]) -> None:
        """Let go of those that are not what their names have."""
        for key, copy in list(self._copies.items()):
            if not is_current(copy.names, key):
                self.drop(key)

    def cold(self) -> Iterator[tuple[list[str], str, Segment]]:
        """Those that have been there for long enough, which are let go thereafter."""
        for key, copy in list(self._copies.items()):
            if time.monotonic() - copy.since >= COLD:
                try:
                    yield copy.names, key, copy.segment
                finally:
                    self.drop(key)

    def seconds_left(self) -> float:
        """Until one of them may be cold."""
        since = min((copy.since for copy in list(self._copies.values())), default=0.0)  # the service thread adds some
        return max(0.0, since + COLD - time.monotonic())


def why_not(proc: Path = _PROC) -> str:
    """Why pages of this process may not be replaced; "" if they may."""
    try:
        if int((proc / "sys/vm/overcommit_memory").read_text()) == _STRICT:
            return "the system commits memory strictly (vm.overcommit_memory is 2)"
        return "a device is mapped, which could have been told where memory is" if _devices(proc) else ""
    except (OSError, ValueError):
        return "/proc doesn't tell"


def _devices(proc: Path) -> bool:
    with (proc / "self/maps").open("rb") as maps:
        return any(b" /dev/" in line and b" /dev/shm/" not in line and b" /dev/zero" not in line for line in maps)


def take_place(opened: Opened, buffer: memoryview, place: Range, watch: Watch) -> bool:
    """Let the whole pages of `buffer` be those of the segment at `place`, which have the same content.

    As its pages are noted by `watch`, nothing writes to it without being seen. False if they stay as they are.
    """
    offset, nbytes = place
    if not isinstance(watch, PageWatch) or nbytes != buffer.nbytes or nbytes < LEAST or buffer.readonly:
        return False
    if (address := address_of(buffer)) is None:
        return False
    first, end = whole_pages(address, nbytes)
    if (offset + first) % PAGE or not _has_own_mapping(address, nbytes):
        return False
    with suppress(OSError):
        opened.map_over(buffer[first:end], offset + first)
        return True
    return False


def _has_own_mapping(address: int, nbytes: int) -> bool:
    """Whether glibc's malloc has mapped memory for what is at this address, and for nothing else."""
    if address % PAGE < _HEADER:  # the header may be anywhere
        return False
    before, size = (ctypes.c_size_t * 2).from_address(address - _HEADER)
    chunk, length = address - _HEADER, size & ~_FLAGS
    return (
        size & _FLAGS == _IS_MAPPED
        and before < PAGE
        and (chunk - before) % PAGE == (chunk + length) % PAGE == 0
        and address + nbytes <= chunk + length < address + nbytes + 2 * PAGE
    )
