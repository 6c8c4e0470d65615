"""Many subshells of one kernel, and many of them busy."""

from __future__ import annotations

import time

from scripts.faults.table import Row, cpu_when_idle
from scripts.harness import proc
from scripts.harness.kernel import Kernel, Spec

SUBSHELLS, BUSY = 50, 20
SETTLE = 1.0
IDLE_FOR = 10.0
MB = 1 << 20


def subshells(spec: Spec) -> list[Row]:
    """Fifty subshells, twenty of them busy."""
    with Kernel(spec) as kernel:
        kernel.start()
        kernel.warm_up()
        front = kernel.front
        ids = [front.create_subshell() for _ in range(SUBSHELLS)]
        begin = time.perf_counter()
        for name in ids:
            front.run("1", name)
        started = time.perf_counter() - begin
        busy = [front.execute("while True: pass", name) for name in ids[:BUSY]]
        front.wait_until(lambda: all(pending.shown("execute_input") for pending in busy))
        begin = time.perf_counter()
        for name in ids[BUSY:]:
            front.run("1", name)
        beside = (time.perf_counter() - begin) / (SUBSHELLS - BUSY)
        begin = time.perf_counter()
        for name in ids[:BUSY]:
            front.ask("interrupt_request", channel="control", subshell=name)
        front.wait(*busy)
        stopped = time.perf_counter() - begin
        front.wait_until(lambda: False, SETTLE)
        before = proc.cpu_seconds(kernel.tree())
        front.wait_until(lambda: False, IDLE_FOR)
        idle = (proc.cpu_seconds(kernel.tree()) - before) / IDLE_FOR
        return [
            Row(f"{SUBSHELLS} subshells, each to its first reply", f"{started:.1f} s in all"),
            Row(f"a cell in another one while {BUSY} are busy (2 cores)", f"{beside * 1000:.0f} ms"),
            Row(f"{BUSY} busy ones interrupted", f"{stopped:.1f} s"),
            Row(f"memory of all, {SUBSHELLS} subshells", f"{proc.pss(kernel.tree()) / MB:.0f} MB"),
            cpu_when_idle("CPU when idle", idle),
        ]
