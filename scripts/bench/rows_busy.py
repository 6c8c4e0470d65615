"""What a user gets while other code of theirs runs."""

from __future__ import annotations

import time

from scripts.bench.registry import Metric, Options, Over, RatioAtMost, Values, measures
from scripts.bench.tools import HOLD_GIL, SPIN, asked, start_cell, subshells
from scripts.harness.client import Pending
from scripts.harness.kernel import Kernel

CPU = "While other code runs pure Python"
GIL = "While other code is in C and holds the GIL"
HOLD = 3  # seconds in C with the GIL held
COMPLETE = ("complete_request", {"code": "impo", "cursor_pos": 4})
INSPECT = ("inspect_request", {"code": "len", "cursor_pos": 3, "detail_level": 0})
AS_IDLE = RatioAtMost(0.4)


def _warm(kernel: Kernel, subshell: str | None = None) -> None:
    """What is imported for the first completion or inspection isn't meant."""
    for _ in range(3):
        kernel.front.ask(*COMPLETE, subshell=subshell)
        kernel.front.ask(*INSPECT, subshell=subshell)


@measures(
    CPU,
    Metric("cpu-pass", "`pass` in main, a subshell computes", "ms", AS_IDLE),
    Metric("cpu-info", "kernel_info on control, a subshell computes", "ms", AS_IDLE),
)
def while_cpu_burns(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    (child,) = subshells(kernel, 1)
    start_cell(kernel, SPIN, child)
    return {
        "cpu-pass": asked(front, lambda: front.execute("pass"), options.trips, options.deadline),
        "cpu-info": asked(
            front, lambda: front.send("kernel_info_request", channel="control"), options.trips, options.deadline
        ),
    }


@measures(
    CPU,
    Metric("cpu-child-pass", "`pass` in a subshell, main computes", "ms", AS_IDLE),
    Metric("cpu-child-complete", "complete in a subshell, main computes", "ms", AS_IDLE),
    Metric("cpu-child-inspect", "inspect in a subshell, main computes", "ms", AS_IDLE),
)
def child_while_main_computes(kernel: Kernel, options: Options) -> Values:
    front, count, deadline = kernel.front, options.trips // 2, options.deadline
    (child,) = subshells(kernel, 1)
    _warm(kernel, child)
    start_cell(kernel, SPIN)
    return {
        "cpu-child-pass": asked(front, lambda: front.execute("pass", child), count, deadline),
        "cpu-child-complete": asked(front, lambda: front.send(*COMPLETE, subshell=child), count, deadline),
        "cpu-child-inspect": asked(front, lambda: front.send(*INSPECT, subshell=child), count, deadline),
    }


@measures(
    CPU,
    Metric("busy-complete", "complete in main, main computes", "ms", RatioAtMost(1)),
    Metric("busy-inspect", "inspect in main, main computes", "ms", RatioAtMost(1)),
)
def look_while_busy(kernel: Kernel, options: Options) -> Values:
    front, count, deadline = kernel.front, options.trips // 5, options.deadline / 2
    _warm(kernel)
    start_cell(kernel, SPIN)
    return {
        "busy-complete": asked(front, lambda: front.send(*COMPLETE), count, deadline),
        "busy-inspect": asked(front, lambda: front.send(*INSPECT), count, deadline),
    }


@measures(
    CPU,
    Metric("live-list", "`len` of a list in a subshell, main computes and appends to it", "ms", RatioAtMost(0.5)),
)
def live_list(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    (child,) = subshells(kernel, 1)
    front.run("grown = []; n = 0")
    start_cell(kernel, "while True:\n    n += 1\n    if n % 100_000 == 0: grown.append(n)")
    read = asked(front, lambda: front.execute("len(grown)", child), 20, options.deadline)
    if isinstance(read, Over):
        return {"live-list": read}
    first = int(front.run("print(len(grown))", child).text())
    time.sleep(0.2)  # it appends some ten times a second
    assert int(front.run("print(len(grown))", child).text()) > first, "what is read doesn't grow"
    return {"live-list": read}


def _held(kernel: Kernel, subshell: str | None = None) -> Pending:
    return start_cell(kernel, HOLD_GIL.format(HOLD), subshell)


@measures(GIL, Metric("gil-pass", f"`pass` in main, a subshell holds it for {HOLD} s", "ms", AS_IDLE), rarely=True)
def pass_while_gil_held(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    (child,) = subshells(kernel, 1)
    front.run("import ctypes", child)
    held = _held(kernel, child)
    value = asked(front, lambda: front.execute("pass"), options.trips // 2, HOLD + 1, held)
    front.wait(held)
    return {"gil-pass": value}


@measures(GIL, Metric("gil-info", f"kernel_info on control, main holds it for {HOLD} s", "ms", AS_IDLE), rarely=True)
def info_while_gil_held(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    front.run("import ctypes")
    held = _held(kernel)
    make = lambda: front.send("kernel_info_request", channel="control")  # noqa: E731
    value = asked(front, make, options.trips // 2, HOLD + 1, held)
    front.wait(held)
    return {"gil-info": value}


@measures(
    GIL,
    Metric("gil-child-pass", f"`pass` in a subshell, main holds it for {HOLD} s", "ms", AS_IDLE),
    Metric("gil-child-complete", "complete there", "ms", AS_IDLE),
    Metric("gil-child-inspect", "inspect there", "ms", AS_IDLE),
    rarely=True,
)
def child_while_gil_held(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    (child,) = subshells(kernel, 1)
    front.run("import ctypes")
    _warm(kernel, child)
    values: Values = {}
    for key, make in (
        ("gil-child-pass", lambda: front.execute("pass", child)),
        ("gil-child-complete", lambda: front.send(*COMPLETE, subshell=child)),
        ("gil-child-inspect", lambda: front.send(*INSPECT, subshell=child)),
    ):
        held = _held(kernel)
        values[key] = asked(front, make, options.trips // 2, HOLD + 1, held)
        front.wait(held)
    return values
