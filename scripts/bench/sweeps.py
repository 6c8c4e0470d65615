"""How a cost grows with the size of something: each sweep goes through sizes in one kernel (or in many)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from scripts.bench.registry import Values
from scripts.bench.tools import MS, need_subshells, trips
from scripts.harness import proc
from scripts.harness.client import FrontEnd
from scripts.harness.kernel import Kernel, Spec

MB = 1e6
TRIPS = 30
Steps = Iterator[tuple[int, Values]]  # a size, and what was measured there, by the curve's key


@dataclass(frozen=True)
class Curve:
    """One thing that is measured at each size; `cause` says in words what its slope comes from."""

    key: str
    title: str
    unit: str
    cause: str


@dataclass(frozen=True)
class Sweep:
    key: str
    title: str
    of: str  # what the sizes count
    sizes: tuple[int, ...]
    curves: tuple[Curve, ...]
    run: Callable[[Spec, Sequence[int]], Steps]  # raises Unable


SWEEPS: list[Sweep] = []


def sweeps(
    key: str, title: str, of: str, sizes: tuple[int, ...], *curves: Curve
) -> Callable[[Callable[[Spec, Sequence[int]], Steps]], Callable[[Spec, Sequence[int]], Steps]]:
    def register(run: Callable[[Spec, Sequence[int]], Steps]) -> Callable[[Spec, Sequence[int]], Steps]:
        SWEEPS.append(Sweep(key, title, of, sizes, curves, run))
        return run

    return register


def room_for(needed: float) -> bool:
    """Whether so many bytes more leave half of the available memory to others."""
    return needed < psutil.virtual_memory().available / 2


def _warm(spec: Spec, stack: ExitStack) -> Kernel:
    kernel = stack.enter_context(Kernel(spec))
    kernel.start()
    kernel.warm_up()
    return kernel


@sweeps(
    "names",
    "Names in the namespace",
    "names, each bound to a list",
    (100, 1_000, 10_000, 100_000),
    Curve(
        "pass",
        "`pass` in main",
        "ms",
        "After a cell each binding is compared with what it was before: a walk over the namespace's dict.",
    ),
    Curve(
        "other",
        "`pass` in a subshell that has them all, too",
        "ms",
        "The same walk, over the copies that the subshell has.",
    ),
    Curve(
        "seen",
        "a name is changed in main, and read in the subshell",
        "ms",
        "Two round trips and both walks; only the changed name travels.",
    ),
)
def names(spec: Spec, sizes: Sequence[int]) -> Steps:
    with ExitStack() as stack:
        kernel = _warm(spec, stack)
        need_subshells(kernel)
        front = kernel.front
        child = front.create_subshell()
        front.run("pass", child)
        for size in sizes:
            front.run(f"globals().update({{f'name_{{i}}': [i] for i in range({size})}})")
            front.run("name_0", child)
            time.sleep(1)  # what is done while idle is done
            yield (
                size,
                {
                    "pass": trips(front, TRIPS),
                    "other": trips(front, TRIPS, subshell=child),
                    "seen": statistics.median(_hop(front, child, n) for n in range(TRIPS // 2)),
                },
            )


def _hop(front: FrontEnd, child: str, value: int) -> float:
    start = time.perf_counter()
    front.run(f"name_0 = {value}")
    front.run(f"assert name_0 == {value}", child)
    return (time.perf_counter() - start) * MS


@sweeps(
    "cells",
    "Cells that ran before",
    "cells",
    (30, 100, 300, 1_000, 3_000),
    Curve(
        "pass", "`pass` in main", "ms", "Each leaves an `_i1` in the namespace, which each later cell's end passes by."
    ),
)
def cells(spec: Spec, sizes: Sequence[int]) -> Steps:
    with ExitStack() as stack:
        front, count = _warm(spec, stack).front, 0
        for size in sizes:
            while count < size - TRIPS:
                front.forget(front.run("pass"))
                count += 1
            yield size, {"pass": trips(front, TRIPS, warm=0)}
            count += TRIPS


@sweeps(
    "subshells",
    "Live subshells",
    "subshells that have run a cell",
    (1, 3, 10, 30, 100),
    Curve("pass", "`pass` in main", "ms", "The broker asks nobody else; more sockets are in its poll."),
    Curve("create", "one more, to the reply of its first cell", "ms", "The fork of a template that doesn't grow."),
    Curve("memory", "memory (PSS) of the whole tree", "MB", "Each is a process: its own pages."),
)
def subshells(spec: Spec, sizes: Sequence[int]) -> Steps:
    with ExitStack() as stack:
        kernel = _warm(spec, stack)
        need_subshells(kernel)
        front, count = kernel.front, 0
        for size in sizes:
            created = []
            while count < size:
                time.sleep(0.2)  # for the spare
                start = time.perf_counter()
                child = front.create_subshell()
                front.run("pass", child)
                created.append((time.perf_counter() - start) * MS)
                count += 1
            time.sleep(0.5)
            memory = proc.footprint(kernel.tree()) / MB
            yield size, {"pass": trips(front, TRIPS), "create": statistics.median(created[-5:]), "memory": memory}


@sweeps(
    "messages",
    "Size of a message",
    "bytes",
    (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000),
    Curve(
        "printed",
        "printed in one piece, to reply and idle",
        "ms",
        "JSON and its signature, once in the kernel and once in the client; the broker passes the bytes on.",
    ),
)
def messages(spec: Spec, sizes: Sequence[int]) -> Steps:
    with ExitStack() as stack:
        kernel = _warm(spec, stack)
        front = kernel.front
        for size in sizes:
            if not room_for(10 * size):  # text, JSON, frames in the kernel; frames, text here
                return
            times = []
            for _ in range(9 if size < 10**8 else 2):
                pending = front.run(f"print('x' * {size})", timeout=600)
                times.append(pending.seconds * MS)
                assert len(pending.text()) == size + 1
                front.forget(pending)
            yield size, {"printed": statistics.median(times)}


@sweeps(
    "clients",
    "Clients attached",
    "clients",
    (1, 2, 5, 10, 20),
    Curve("pass", "`pass` of one of them", "ms", "Each gets each iopub message (four for a `pass`)."),
    Curve("lines", "10,000 lines printed", "ms", "The same bytes go into one more socket, and are read once more."),
)
def clients(spec: Spec, sizes: Sequence[int]) -> Steps:
    with ExitStack() as stack:
        kernel = _warm(spec, stack)
        front, others = kernel.front, []
        for size in sizes:
            while len(others) < size - 1:
                other = FrontEnd(kernel.connection_file)
                stack.callback(other.close)
                other.wait_for_iopub()
                others.append(other)
            yield size, {"pass": _beside(front, others, "pass", 50), "lines": _beside(front, others, _LINES, 5)}


_LINES = "for i in range(10_000): print(i)"


def _beside(front: FrontEnd, others: Sequence[FrontEnd], code: str, count: int) -> float:
    """Median of the milliseconds of `count` cells; what the others got is read behind each, outside the time."""
    times = []
    for _ in range(count):
        pending = front.run(code)
        times.append(pending.seconds * MS)
        front.forget(pending)
        for other in others:
            while other.pump(0):
                other.strays.clear()
    return statistics.median(times)


@sweeps(
    "kernels",
    "Kernels on one machine",
    "idle kernels",
    (1, 3, 10, 30, 100),
    Curve("pass", "`pass` in one of them", "ms", "The others sleep and share nothing with it but the machine."),
    Curve("start", "start of one more, to its first execute reply", "ms", "A start doesn't know of others."),
    Curve("memory", "memory (PSS) of all", "MB", "Interpreter and libraries once for each; only files are shared."),
)
def kernels(spec: Spec, sizes: Sequence[int]) -> Steps:
    with ExitStack() as stack:
        running: list[Kernel] = []
        for size in sizes:
            started = []
            while len(running) < size:
                if not room_for(200 * MB):
                    return
                kernel = stack.enter_context(Kernel(spec))
                start = time.perf_counter()
                kernel.start()
                first = kernel.front.execute("pass")
                kernel.front.wait_until(lambda p=first: p.replied_at)  # type: ignore[misc]
                started.append((time.perf_counter() - start) * MS)
                kernel.warm_up()
                running.append(kernel)
            time.sleep(1)  # spares are forked
            memory = sum(proc.pss(kernel.tree()) for kernel in running) / MB
            times = {"pass": trips(running[0].front, TRIPS), "start": statistics.median(started[-5:])}
            yield size, {**times, "memory": memory}
