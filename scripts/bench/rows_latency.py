"""What a user waits for: start, cells, completion, subshells."""

from __future__ import annotations

import time

from scripts.bench.registry import AtMost, Metric, Options, RatioAtMost, Values, measures
from scripts.bench.tools import HOLD_GIL, MS, SPIN, asked, seconds_to, start_cell, subshells, trip, trips
from scripts.harness.kernel import Kernel

START = "Start"
TRIP = "Round trip of `pass`, to reply and idle"
BUSY = "While other code runs"
SHELLS = "Subshells"
HOLD = 3  # seconds in C with the GIL held


@measures(START, Metric("start-info", "start_kernel → kernel_info reply", "ms", RatioAtMost(0.5)), fresh=True)
def start_to_kernel_info(kernel: Kernel, options: Options) -> Values:
    start = time.perf_counter()
    kernel.start()
    pending = kernel.front.send("kernel_info_request")
    kernel.front.wait_until(lambda: pending.replied_at)
    return {"start-info": (time.perf_counter() - start) * MS}


@measures(START, Metric("start-execute", "start_kernel → first execute reply", "ms", RatioAtMost(0.5)), fresh=True)
def start_to_execute(kernel: Kernel, options: Options) -> Values:
    start = time.perf_counter()
    kernel.start()
    pending = kernel.front.execute("pass")
    kernel.front.wait_until(lambda: pending.replied_at)
    return {"start-execute": (time.perf_counter() - start) * MS}


@measures(TRIP, Metric("pass-main", "main", "ms", RatioAtMost(0.4)))
def pass_main(kernel: Kernel, options: Options) -> Values:
    return {"pass-main": trips(kernel.front, options.trips, warm=20)}


@measures(TRIP, Metric("pass-child", "child subshell", "ms", RatioAtMost(0.4)))
def pass_child(kernel: Kernel, options: Options) -> Values:
    (child,) = subshells(kernel, 1)
    return {"pass-child": trips(kernel.front, options.trips, subshell=child, warm=20)}


_MORE = AtMost(1.5, "ms")


@measures(
    TRIP,
    Metric("names-ints", "main, 10,000 names bound to ints: more than without", "ms", _MORE),
    Metric("names-lists", "main, 10,000 names bound to lists: more than without", "ms", _MORE),
)
def pass_many_names(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    values = {}
    without = trips(front, options.trips // 2, warm=20)
    for kind, value in (("ints", "i"), ("lists", "[i]")):
        front.run(f"globals().update({{f'name_{{i}}': {value} for i in range(10_000)}})")
        values[f"names-{kind}"] = trips(front, options.trips // 2) - without
    return values


@measures(
    BUSY,
    Metric("cpu-pass", "`pass` in main, a subshell burns CPU", "ms", RatioAtMost(0.4)),
    Metric("cpu-info", "kernel_info on control, a subshell burns CPU", "ms"),
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


@measures(BUSY, Metric("gil-pass", f"`pass` in main, a subshell holds the GIL in C for {HOLD} s", "ms"))
def pass_while_gil_held(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    (child,) = subshells(kernel, 1)
    front.run("import ctypes", child)
    held = start_cell(kernel, HOLD_GIL.format(HOLD), child)
    value = asked(front, lambda: front.execute("pass"), options.trips // 2, HOLD + 1, held)
    front.wait(held)
    return {"gil-pass": value}


@measures(BUSY, Metric("gil-info", f"kernel_info on control, main holds the GIL in C for {HOLD} s", "ms"))
def info_while_gil_held(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    front.run("import ctypes")
    held = start_cell(kernel, HOLD_GIL.format(HOLD))
    make = lambda: front.send("kernel_info_request", channel="control")  # noqa: E731
    value = asked(front, make, options.trips // 2, HOLD + 1, held)
    front.wait(held)
    return {"gil-info": value}


@measures(
    BUSY,
    Metric("busy-complete", "complete in main, main runs a pure-Python loop", "ms"),
    Metric("busy-inspect", "inspect in main, main runs a pure-Python loop", "ms"),
)
def look_while_busy(kernel: Kernel, options: Options) -> Values:
    front, count = kernel.front, options.trips // 5
    for _ in range(3):  # what is imported for the first one isn't meant
        front.ask("complete_request", {"code": "impo", "cursor_pos": 4})
        front.ask("inspect_request", {"code": "len", "cursor_pos": 3, "detail_level": 0})
    start_cell(kernel, SPIN)
    complete = {"code": "impo", "cursor_pos": 4}
    inspect = {"code": "len", "cursor_pos": 3, "detail_level": 0}
    deadline = options.deadline / 2
    return {
        "busy-complete": asked(front, lambda: front.send("complete_request", complete), count, deadline),
        "busy-inspect": asked(front, lambda: front.send("inspect_request", inspect), count, deadline),
    }


@measures(
    SHELLS,
    Metric("create-reply", "create_subshell: reply", "ms", RatioAtMost(1.0)),
    Metric("create-first", "create_subshell → reply of its first cell", "ms", AtMost(20, "ms")),
)
def create(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    time.sleep(1)  # a user doesn't open a subshell within the first second
    start = time.perf_counter()
    child = front.create_subshell()
    created = time.perf_counter()
    front.run("pass", child)
    return {"create-reply": (created - start) * MS, "create-first": (time.perf_counter() - start) * MS}


@measures(
    SHELLS,
    Metric("create-burst", "five new subshells at once → reply of the last one's first cell", "ms"),
)
def create_five(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    time.sleep(1)
    start = time.perf_counter()
    cells = [front.execute("pass", front.create_subshell()) for _ in range(5)]
    front.wait(*cells)
    return {"create-burst": (time.perf_counter() - start) * MS}


@measures(SHELLS, Metric("delete-busy", "delete of a subshell in `while True`: reply", "ms"), rarely=True)
def delete_busy(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    (child,) = subshells(kernel, 1)
    start_cell(kernel, SPIN, child)
    pending = front.send("delete_subshell_request", {"subshell_id": child}, channel="control")
    return {"delete-busy": seconds_to(front, pending, lambda: pending.replied_at, options.deadline)}


@measures(
    SHELLS,
    Metric("delete-elsewhere", "`pass` in main right after the delete of a busy subshell was sent", "ms"),
    rarely=True,
)
def pass_during_delete(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    (child,) = subshells(kernel, 1)
    start_cell(kernel, SPIN, child)
    trip(front)
    front.send("delete_subshell_request", {"subshell_id": child}, channel="control")
    time.sleep(0.02)
    pending = front.execute("pass")
    return {"delete-elsewhere": seconds_to(front, pending, lambda: pending.done, options.deadline)}
