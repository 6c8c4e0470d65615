"""Very many kernels on one machine at once: all start, answer, are interrupted, end, and leave nothing."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

from scripts.faults.table import Row, cpu_when_idle
from scripts.harness import proc
from scripts.harness.client import NoAnswer, Pending
from scripts.harness.kernel import Kernel, Spec

WITHIN = 300.0  # seconds for each step of all of them together
FREE = 120 << 20  # bytes that a kernel may need; so much memory must be free for each
SETTLE, IDLE_FOR = 5.0, 10.0  # each has a spare process to start yet
MB = 1 << 20


def kernels(spec: Spec, count: int) -> list[Row]:
    """Raises NoAnswer if one doesn't, and MemoryError if the machine has too little for so many."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if free < count * FREE:
        raise MemoryError(f"{count} kernels may need {count * FREE / MB:.0f} MB, and {free / MB:.0f} MB are free")
    with ExitStack() as stack:
        all_of_them = [stack.enter_context(Kernel(spec)) for _ in range(count)]
        begin = time.perf_counter()
        for kernel in all_of_them:
            kernel.start()
        for kernel in all_of_them:
            kernel.front.wait_for_iopub(WITHIN)
        _all_answer(all_of_them)
        started = time.perf_counter() - begin
        all_of_them[0].front.wait_until(lambda: False, SETTLE)
        pids = [pid for kernel in all_of_them for pid in kernel.tree()]
        memory = proc.pss(pids)
        before = proc.cpu_seconds(pids)
        all_of_them[0].front.wait_until(lambda: False, IDLE_FOR)
        idle = (proc.cpu_seconds(pids) - before) / IDLE_FOR

        loops = [kernel.front.execute("while True: pass") for kernel in all_of_them]
        for kernel, loop in zip(all_of_them, loops, strict=True):
            kernel.front.wait_until(lambda loop=loop: loop.shown("execute_input"), WITHIN)  # type: ignore[misc]
        begin = time.perf_counter()
        for kernel in all_of_them:
            kernel.interrupt()
        _wait(all_of_them, loops, "KeyboardInterrupt")
        interrupted = time.perf_counter() - begin
        _all_answer(all_of_them)

        pids = [pid for kernel in all_of_them for pid in kernel.tree()]
        begin = time.perf_counter()
        for kernel in all_of_them:
            kernel.front.send("shutdown_request", {"restart": False}, channel="control")
        if proc.wait_for_end(pids, WITHIN) is None:
            raise NoAnswer(f"not all processes had ended after {WITHIN:g} s")
        ended = time.perf_counter() - begin
        for kernel in all_of_them:
            kernel.reap()
        left = [line for kernel in all_of_them for line in kernel.sandbox.leftovers()]
        logged = [line for kernel in all_of_them for line in kernel.log_tail().splitlines()]
    return [
        Row(f"{count} kernels at once, each to its first reply", f"{started:.1f} s in all"),
        Row("memory of all of them", f"{memory / MB:.0f} MB (PSS), {memory / count / MB:.0f} MB each"),
        cpu_when_idle("CPU of all when idle", idle, count),
        Row("all in `while True`, all interrupted", f"{interrupted:.1f} s in all"),
        Row("all shut down", f"{ended:.1f} s in all"),
        Row("lines in their logs", f"{len(logged)} ({logged[0]}, …)" if logged else "none"),
        Row("left of them", ", ".join(left) or "nothing", bad=bool(left)),
    ]


def _all_answer(kernels_: list[Kernel]) -> None:
    _wait(kernels_, [kernel.front.execute("6 * 7") for kernel in kernels_], None)


def _wait(kernels_: list[Kernel], pendings: list[Pending], ename: str | None) -> None:
    for kernel, pending in zip(kernels_, pendings, strict=True):
        kernel.front.wait(pending, timeout=WITHIN)
        if pending.reply.get("ename") != ename:
            raise NoAnswer(f"{pending.content['code']!r} was answered with {pending.reply}")
