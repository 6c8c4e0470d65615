"""Interrupt and shutdown: how long until the user has their way."""

from __future__ import annotations

import time

from scripts.bench.registry import AtMost, Metric, Options, Over, Values, measures
from scripts.bench.tools import MS, SPIN, start_cell, subshells
from scripts.harness import proc
from scripts.harness.kernel import Kernel

STOP = "Interrupt (Stop button) → error reply"
END = "shutdown_request → all processes gone"


def _interrupted(kernel: Kernel, code: str, deadline: float, subshell: str | None = None) -> float:
    pending = start_cell(kernel, code, subshell)
    start = time.perf_counter()
    kernel.interrupt()
    if not kernel.front.wait_until(lambda: pending.replied_at, deadline):
        return Over(deadline * MS)
    assert pending.reply.get("ename") == "KeyboardInterrupt", f"the reply is {pending.reply!r:.200}"
    return (time.perf_counter() - start) * MS


@measures(STOP, Metric("stop-sleep", "`time.sleep(20)` in main", "ms", AtMost(20, "ms")))
def stop_sleep(kernel: Kernel, options: Options) -> Values:
    return {"stop-sleep": _interrupted(kernel, "import time; time.sleep(20)", options.deadline)}


@measures(STOP, Metric("stop-loop", "`while True: pass` in main", "ms", AtMost(20, "ms")))
def stop_loop(kernel: Kernel, options: Options) -> Values:
    return {"stop-loop": _interrupted(kernel, SPIN, options.deadline)}


@measures(STOP, Metric("stop-await", "a lone `await asyncio.sleep(20)` in main", "ms", AtMost(20, "ms")), rarely=True)
def stop_await(kernel: Kernel, options: Options) -> Values:
    return {"stop-await": _interrupted(kernel, "import asyncio; await asyncio.sleep(20)", options.deadline)}


@measures(STOP, Metric("stop-child", "`while True: pass` in a subshell", "ms", AtMost(20, "ms")), rarely=True)
def stop_child(kernel: Kernel, options: Options) -> Values:
    (child,) = subshells(kernel, 1)
    return {"stop-child": _interrupted(kernel, SPIN, options.deadline, child)}


def _shut_down(kernel: Kernel, deadline: float) -> float:
    pids = kernel.tree()
    kernel.front.send("shutdown_request", {"restart": False}, channel="control")
    seconds = proc.wait_for_end(pids, deadline)
    return Over(deadline * MS) if seconds is None else seconds * MS


@measures(END, Metric("end-idle", "idle kernel", "ms", AtMost(2000, "ms")))
def end_idle(kernel: Kernel, options: Options) -> Values:
    return {"end-idle": _shut_down(kernel, options.deadline)}


@measures(END, Metric("end-five", "idle kernel with five subshells", "ms", AtMost(2000, "ms")))
def end_five(kernel: Kernel, options: Options) -> Values:
    subshells(kernel, 5)
    return {"end-five": _shut_down(kernel, options.deadline)}


@measures(
    END, Metric("end-busy", "`while True: pass` in main and in a subshell", "ms", AtMost(2000, "ms")), rarely=True
)
def end_busy(kernel: Kernel, options: Options) -> Values:
    (child,) = subshells(kernel, 1)
    start_cell(kernel, SPIN, child)
    start_cell(kernel, SPIN)
    return {"end-busy": _shut_down(kernel, options.deadline)}
