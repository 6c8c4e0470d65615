"""The large buffers of one group of names: what of them was written, and what of them others have."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import xxhash

from mpkernel.namespace.cold import take_place
from mpkernel.namespace.layout import Layout
from mpkernel.namespace.pages import WATCHED, HashWatch, PageTracker, Watch
from mpkernel.namespace.pickling import Pickled
from mpkernel.namespace.runs import Run, merged, total
from mpkernel.namespace.segments import Opened, Range

# If more than this part of the buffers changed, all of them are sent again; also after so many deltas.
MAX_PART = 0.3
MAX_DELTAS = 8


@dataclass(frozen=True, slots=True)
class Patch:
    """Only these runs of the buffers have changed since they were sent as `key`."""

    names: list[str]
    pickled: Pickled
    runs: list[list[Run]]
    key: str


class WatchedBuffers:
    """Large buffers are watched, not read; all else of the pickle goes into a hash."""

    def __init__(self, pages: PageTracker) -> None:
        self._pages = pages
        self._watches: dict[int, Watch] = {}  # by index
        self._changes = itertools.count(1)
        self._change = 0
        self._dirty: dict[int, list[Run]] = {}  # since they were sent
        self._frame = b""  # the hash of all but the large buffers
        self._sent_frame: bytes | None = None
        self._deltas = 0
        self._pickled: Pickled | None = None
        self.key = ""

    def look(self, pickled: Pickled) -> bytes:
        """A fingerprint of `pickled`, the group's values now."""
        frame = xxhash.xxh3_128(pickled.data)
        versions = sorted((key, version) for key, (version, _) in (pickled.definitions or {}).items())
        frame.update(repr((versions, [text.stamp for text in pickled.texts])).encode())
        for index, buffer in enumerate(pickled.buffers):
            frame.update(b"%d" % buffer.nbytes)
            if buffer.nbytes < WATCHED:
                frame.update(buffer)
            elif runs := self._written(index, buffer, index in pickled.made):
                self._dirty.setdefault(index, []).extend(runs)
                self._change = next(self._changes)
        self._frame, self._pickled = frame.digest(), pickled
        return self._frame + b"%d" % self._change

    def _written(self, index: int, buffer: memoryview, made: bool) -> list[Run]:
        watch = self._watches.get(index)
        if watch is not None and watch.valid(buffer):
            return watch.dirty(buffer)
        self._watches[index] = HashWatch(buffer) if made else self._pages.arm(buffer)  # by content, wherever that is
        return [(0, buffer.nbytes)]

    def has(self, layout: Layout) -> bool:
        """Whether the memory that was just looked at is what `layout` tells of."""
        return self._pickled is not None and layout.is_of(self._pickled)

    def sent_as(self, key: str) -> None:
        """Others have all that was seen by the last look."""
        if key != self.key:
            self._deltas = 0
        self.key, self._sent_frame = key, self._frame
        self._dirty.clear()
        self._pickled = None

    def patch(self, names: list[str]) -> Patch | None:
        """What has to be sent, if nothing but some of the large buffers' content has changed. It counts as sent."""
        pickled = self._pickled
        if not self.key or self._frame != self._sent_frame or pickled is None or self._deltas >= MAX_DELTAS:
            return None
        runs = [merged(self._dirty.get(index, ())) for index in range(len(pickled.buffers))]
        if sum(map(total, runs)) > MAX_PART * sum(buffer.nbytes for buffer in pickled.buffers):
            return None
        self._deltas += 1
        self.sent_as(self.key)
        return Patch(names, pickled, runs, self.key)

    def is_all_in(self, key: str) -> bool:
        """Whether the segment known as `key` has all that was seen by the last look."""
        return self.key == key and not self._deltas and not self._dirty and self._frame == self._sent_frame

    def settle(self, opened: Opened, ranges: Sequence[Range]) -> None:
        """Let the memory that was just looked at be that of the segment that has the same, where that can be done."""
        buffers, self._pickled = self._pickled.buffers if self._pickled is not None else (), None
        for index, (buffer, place) in enumerate(zip(buffers, ranges, strict=False)):  # texts and the pickle come after
            if (watch := self._watches.get(index)) is not None and take_place(opened, buffer, place, watch):
                self._watches[index] = self._pages.arm(buffer)

    def close(self) -> None:
        """Watch no more."""
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        self._pickled = None
