"""``python -m scripts.transport``: what it costs to carry big arrays and to know what was written in them.

Medians of `--repeat` samples in turn, with the ratio to one fresh copy of the array. Needs numpy.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from mpkernel.namespace.deltas import Delta, apply_delta, attach_with, write_delta
from mpkernel.namespace.pages import HashWatch, PageTracker
from mpkernel.namespace.runs import total
from mpkernel.namespace.segments import Segment, Segments, attach, choose, write
from mpkernel.namespace.transport import Place, Transport

Samples = dict[str, list[float]]


class Clock:
    """Milliseconds of each thing measured, by its name."""

    def __init__(self) -> None:
        self.samples: Samples = defaultdict(list)

    @contextmanager
    def time(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.samples[name].append((time.perf_counter() - start) * 1e3)

    def table(self, unit: str) -> str:
        """A row for each thing; ratios to the one called `unit`."""
        copy = statistics.median(self.samples[unit])
        rows = ["| what | median | least | most | copies |", "|---|---|---|---|---|"]
        for name, times in self.samples.items():
            middle = statistics.median(times)
            rows.append(f"| {name} | {middle:.3f} ms | {min(times):.3f} | {max(times):.3f} | {middle / copy:.4f} |")
        return "\n".join(rows)


def taken(broker: Segments, segment: Segment) -> int:
    with segment:
        return broker.take(os.getpid(), segment.place.name, segment.size)


def flat(array: Any) -> memoryview:
    return memoryview(array).cast("B")


def transfers(clock: Clock, transport: Transport, array: Any) -> None:
    """A whole array, then three pages of it."""
    broker = Segments(transport)
    with clock.time("one fresh copy"):
        copy = array.copy()
    del copy
    with clock.time("whole: visible elsewhere"):
        segment = write(transport, [flat(array)])
        number = taken(broker, segment)
        (view,) = attach(transport, broker.place(number), segment.ranges)
        assert view[0] == flat(array)[0]
    place = broker.place(number)
    with clock.time("attach"):
        (view,) = attach(transport, place, segment.ranges)
    with clock.time("attached: read all of it"):
        np.frombuffer(view).sum()
    with clock.time("the owner reads all of it"):
        array.sum()
    runs = [(array.nbytes // 3 * i // 4096 * 4096, 4096) for i in range(3)]
    with clock.time("3 pages: write and attach"):
        piece, delta = write_delta(transport, [flat(array)], [runs])
        changed = taken(broker, piece)
        attach_with(transport, place, segment.ranges, [replace(delta, place=broker.place(changed))])
    with clock.time("3 pages: into a buffer that is there"):
        apply_delta(transport, [view], replace(delta, place=broker.place(changed)))
    broker.close()


def scattered(clock: Clock, transport: Transport, array: Any) -> None:
    """Every 64th page, and every second megabyte."""
    broker = Segments(transport)
    base = write(transport, [flat(array)])
    place = broker.place(taken(broker, base))
    for name, step, nbytes in (("1/64 of the pages", 64 * 4096, 4096), ("half, by megabytes", 2 << 20, 1 << 20)):
        runs = [(offset, nbytes) for offset in range(0, array.nbytes, step)]
        with clock.time(f"{name}: write"):
            piece, delta = write_delta(transport, [flat(array)], [runs])
            changed = broker.place(taken(broker, piece))
        delta = Delta(changed, delta.ranges, delta.runs)
        with clock.time(f"{name}: attach"):
            views = attach_with(transport, place, base.ranges, [delta])
        with clock.time(f"{name}: into a buffer that is there"):
            apply_delta(transport, views, delta)
    broker.close()


def watching(clock: Clock, array: Any) -> None:
    """Page tracking of an array in huge pages, where numpy gets them."""
    array = array.copy()
    with clock.time("rewrite in place, never watched"):
        array += 1
    tracker = PageTracker()
    if tracker.by_pages:
        with clock.time("pages: arm"):
            watch = tracker.arm(flat(array))
        with clock.time("pages: clean"):
            assert watch.dirty(flat(array)) == []
        array[[array.size // 4, array.size // 2, array.size // 4 * 3]] += 1
        with clock.time("pages: 3 dirty"):
            assert total(watch.dirty(flat(array))) == 3 * 4096
        for after in ("pages: rewrite in place, once after a look", "pages: rewrite in place, watched, again"):
            with clock.time(after):
                array += 1
        with clock.time("pages: all dirty"):
            assert total(watch.dirty(flat(array))) == array.nbytes
        with clock.time("pages: rewrite in place, after the second look"):
            array += 1
        watch.close()
        with clock.time("pages: rewrite in place, no longer watched"):
            array += 1
    with clock.time("hashes: arm"):
        watch = HashWatch(flat(array))
    with clock.time("hashes: clean"):
        assert watch.dirty(flat(array)) == []
    tracker.close()


def _reader(transport: Transport, place: Place, ranges: list[tuple[int, int]], pipe: Connection) -> None:
    (view,) = attach(transport, place, ranges)
    np.frombuffer(view).sum()
    pipe.send("read")
    pipe.recv()


def pss(transport: Transport, array: Any, readers: int) -> float:
    """GB of all processes together, when each has read the array. The pages of the segment count once."""
    spawn = multiprocessing.get_context("spawn")
    broker = Segments(transport)
    segment = write(transport, [flat(array)])
    place = broker.place(taken(broker, segment))
    pipes, processes = [], []
    for _ in range(readers):
        here, there = spawn.Pipe()
        process = spawn.Process(target=_reader, args=(transport, place, segment.ranges, there))
        process.start()
        pipes.append(here)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    everyone = [psutil.Process(), *(psutil.Process(process.pid) for process in processes)]
    used = sum(process.memory_full_info().pss for process in everyone)
    for pipe, process in zip(pipes, processes, strict=True):
        pipe.send("end")
        process.join()
    broker.close()
    return used / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.transport", description=__doc__)
    parser.add_argument("--size", type=int, default=1 << 30, metavar="BYTES", help="of the array (1 GB)")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--files", action="store_true", help="files instead of memfds")
    arguments = parser.parse_args()
    array = np.arange(arguments.size // 8, dtype="f8")
    clock = Clock()
    with tempfile.TemporaryDirectory() as directory:
        transport = choose(Path(directory), memfds=not arguments.files)
        parts: list[Callable[[], None]] = [
            lambda: transfers(clock, transport, array),
            lambda: scattered(clock, transport, array),
            lambda: watching(clock, array),
        ]
        for _ in range(arguments.repeat):
            for part in parts:
                part()
        print(clock.table("one fresh copy"))
        used = pss(transport, array, 4)
        print(f"\n4 readers and the owner of {array.nbytes / 1e9:.2f} GB: {used:.2f} GB of PSS in all")


if __name__ == "__main__":
    main()
