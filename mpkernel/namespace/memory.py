"""The memory that arrays look at: which parts of it overlap, so that views are views in the other process as well.

While a value is pickled each array notes the extent of memory that it covers. Afterwards extents that overlap become
one *region*; each view is then a place in a region. Only that is put down, never an address, so that the same value
gives the same bytes each time although some types make fresh arrays whenever they are pickled.
"""

from __future__ import annotations

import ctypes
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# Smaller buffers ride in the pickle (bytes).
OUT_OF_BAND = 64 << 10

Places = list[tuple[int, int]]  # for each view: which region, and the offset in it
Sizes = list[int]


@dataclass(slots=True)
class Region:
    """A stretch of memory that something covers without a gap."""

    low: int
    high: int
    holders: list[Any] = field(default_factory=list)
    made: bool = False  # for the pickle only, at another address each time

    @property
    def size(self) -> int:
        return self.high - self.low

    def raw(self) -> memoryview:
        """The memory itself; holds what owns it alive."""
        numpy = sys.modules.get("numpy")
        if numpy is not None:
            return memoryview(numpy.asarray(_Holder(self)))
        # ctypes keeps a type for each size that it has seen, hence only where there is nothing else.
        block = type("Block", (ctypes.c_char * self.size,), {}).from_address(self.low)  # type: ignore[attr-defined]
        block.holders = self.holders
        return memoryview(block).cast("B")


class _Holder:
    """Memory as numpy wants to be told of it."""

    def __init__(self, region: Region) -> None:
        self._region = region
        place = {"data": (region.low, False), "shape": (region.size,)}
        self.__array_interface__ = {**place, "typestr": "|u1", "version": 3}


class Views:
    """The views of one dump, in the order in which they were met."""

    def __init__(self) -> None:
        self._extents: list[tuple[int, int, Any]] = []
        self.buffers: list[tuple[int, int]] = []  # views that are buffers pickle itself asks for, and their sizes
        self.made: list[Any] = []  # holders that were made for this dump

    def __len__(self) -> int:
        return len(self._extents)

    def clear(self) -> None:
        if self._extents:
            self._extents = []
            self.buffers = []
            self.made = []

    def add(self, low: int, high: int, holder: Any) -> int:
        """Note a view; returns its number."""
        self._extents.append((low, high, holder))
        return len(self._extents) - 1

    def regions(self) -> tuple[list[Region], Places]:
        """Overlapping extents merged, in the order of their first view; and the place of each view."""
        order = sorted(range(len(self._extents)), key=lambda view: self._extents[view][:2])
        owner: list[Region | None] = [None] * len(order)
        last: Region | None = None
        for view in order:
            low, high, holder = self._extents[view]
            if last is None or low >= last.high:
                last = Region(low, high)
            last.high = max(last.high, high)
            last.holders.append(holder)
            last.made = last.made or any(holder is made for made in self.made)
            owner[view] = last
        numbers: dict[int, int] = {}
        regions: list[Region] = []
        places: Places = []
        for view, region in enumerate(owner):
            assert region is not None
            if id(region) not in numbers:
                numbers[id(region)] = len(regions)
                regions.append(region)
            places.append((numbers[id(region)], self._extents[view][0] - region.low))
        return regions, places


def extent(address: int, shape: Sequence[int], strides: Sequence[int], itemsize: int) -> tuple[int, int]:
    """The bytes from the first to the last that an array of at least one element may touch."""
    low = high = address
    for length, stride in zip(shape, strides, strict=True):
        if stride < 0:
            low += stride * (length - 1)
        else:
            high += stride * (length - 1)
    return low, high + itemsize


def table(
    places: Places, regions: list[Region], buffers: list[tuple[int, int]], *, inline: bool
) -> tuple[bytes, list[Region]]:
    """What a loader must know about the regions, and those that travel by themselves."""
    apart: list[Region] = []
    stored: list[bytes | int] = []
    for region in regions:
        if region.size >= OUT_OF_BAND and not inline:
            stored.append(region.size)
            apart.append(region)
        else:
            stored.append(ctypes.string_at(region.low, region.size))
    return pickle.dumps((places, stored, buffers), 5), apart


class Regions:
    """The regions of a payload, in the process that loads it; all are writable."""

    def __init__(self, table: bytes, buffers: Sequence[Any]) -> None:
        self._places, stored, self._buffers = pickle.loads(table)
        apart = iter(buffers)
        self._regions = [_writable(next(apart) if isinstance(item, int) else item) for item in stored]
        self._views = [0] * len(stored)
        self._storages: dict[tuple[int, int], Any] = {}
        for region, _ in self._places:
            self._views[region] += 1

    def place(self, view: int) -> tuple[memoryview, int]:
        """A view's region, and its offset there."""
        region, offset = self._places[view]
        return self._regions[region], offset

    def alone(self, view: int) -> bool:
        """Whether nothing else looks at the region, and it is small enough to be copied."""
        region, _ = self._places[view]
        return bool(self._views[region] == 1) and self._regions[region].nbytes < OUT_OF_BAND

    def storage(self, view: int, size: int, torch: Any) -> Any:
        """A view's place as storage of a tensor, the same one for the same place."""
        place = self._places[view]
        if place not in self._storages:
            region, offset = self.place(view)
            self._storages[place] = torch.frombuffer(
                region, dtype=torch.uint8, count=size, offset=offset
            ).untyped_storage()
        return self._storages[place]

    def out_of_band(self) -> list[memoryview]:
        """The buffers that pickle itself will ask for, in order."""
        spans: list[memoryview] = []
        for view, size in self._buffers:
            region, offset = self.place(view)
            spans.append(region[offset : offset + size])
        return spans


def _writable(buffer: Any) -> memoryview:
    view = memoryview(buffer)
    if view.readonly:
        view = memoryview(bytearray(view))
    return view.cast("B") if view.ndim == 1 and view.contiguous else view
