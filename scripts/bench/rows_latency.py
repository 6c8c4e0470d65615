"""What a user waits for: start, cells, completion, subshells."""

from __future__ import annotations

import statistics
import time

from scripts.bench.registry import AtMost, Metric, Options, RatioAtMost, Values, measures
from scripts.bench.tools import MS, SPIN, need_modules, need_subshells, seconds_to, start_cell, subshells, trip, trips
from scripts.harness.kernel import Kernel

START = "Start"
TRIP = "Round trip of `pass`, to reply and idle"
SHELLS = "Subshells"
LOOK = "big.shape; df.shape;"


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


_LARGE = (
    "big = np.ones(125_000_000)\n"
    "df = pd.DataFrame({'n': np.arange(1e6), 's': [f'row {i % 1000}' for i in range(1_000_000)]})"
)
_MUCH_MORE = AtMost(3, "ms")


@measures(
    TRIP,
    Metric("large-there", "main, a 1 GB array and a DataFrame of 1e6 rows there: more than without", "ms", _MUCH_MORE),
    Metric("large-looked", "the same, and the cell is `big.shape; df.shape;`", "ms", _MUCH_MORE),
    rarely=True,
)
def pass_beside_large_values(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    need_modules(kernel, "numpy as np, pandas as pd")
    if kernel.has_subshells:
        subshells(kernel, 1)  # somebody who could see them
    without = trips(front, options.trips // 2, warm=20)
    front.run(_LARGE)
    there = trips(front, options.trips // 2)
    return {"large-there": there - without, "large-looked": trips(front, options.trips // 2, LOOK) - without}


@measures(
    TRIP,
    Metric(
        "plot",
        "a cell that plots to one of six axes, to which variables lead, and shows the figure",
        "ms",
        RatioAtMost(1),
    ),
    Metric("plot-child", "the same, a second subshell there", "ms", RatioAtMost(1.5)),
)
def plot(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    need_modules(kernel, "numpy as np, matplotlib.pyplot as plt")
    front.run("%matplotlib inline")
    front.run("fig, axes = plt.subplots(3, 2); ax1, ax2, ax3, ax4, ax5, ax6 = axes.flat; data = np.random.rand(100)")
    values = {"plot": trips(front, options.trips // 20, "line, = ax1.plot(data); fig", warm=2)}
    if kernel.has_subshells:
        subshells(kernel, 1)
        values["plot-child"] = trips(front, options.trips // 20, "line, = ax2.plot(data); fig", warm=2)
    return values


@measures(
    SHELLS,
    Metric("create-reply", "create_subshell: reply", "ms", RatioAtMost(1.0)),
    Metric("create-first", "create_subshell → reply of its first cell", "ms", AtMost(20, "ms")),
)
def create(kernel: Kernel, options: Options) -> Values:
    need_subshells(kernel)
    front = kernel.front
    time.sleep(1)  # a user doesn't open a subshell within the first second
    start = time.perf_counter()
    child = front.create_subshell()
    created = time.perf_counter()
    front.run("pass", child)
    return {"create-reply": (created - start) * MS, "create-first": (time.perf_counter() - start) * MS}


@measures(
    SHELLS,
    Metric("create-50", "the same with 50 live ones that ran a cell", "ms", AtMost(20, "ms")),
    rarely=True,
)
def create_beside_50(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    subshells(kernel, 50)
    times = []
    for _ in range(5):
        time.sleep(1)
        start = time.perf_counter()
        front.run("pass", front.create_subshell())
        times.append((time.perf_counter() - start) * MS)
    return {"create-50": statistics.median(times)}


@measures(
    SHELLS,
    Metric("create-burst", "five new subshells at once → reply of the last one's first cell", "ms", AtMost(100, "ms")),
)
def create_five(kernel: Kernel, options: Options) -> Values:
    need_subshells(kernel)
    front = kernel.front
    time.sleep(1)
    start = time.perf_counter()
    cells = [front.execute("pass", front.create_subshell()) for _ in range(5)]
    front.wait(*cells)
    return {"create-burst": (time.perf_counter() - start) * MS}


@measures(
    SHELLS, Metric("delete-busy", "delete of a subshell in `while True`: reply", "ms", AtMost(20, "ms")), rarely=True
)
def delete_busy(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    (child,) = subshells(kernel, 1)
    start_cell(kernel, SPIN, child)
    pending = front.send("delete_subshell_request", {"subshell_id": child}, channel="control")
    return {"delete-busy": seconds_to(front, pending, lambda: pending.replied_at, options.deadline)}


@measures(
    SHELLS,
    Metric(
        "delete-elsewhere", "`pass` in main right after the delete of a busy subshell was sent", "ms", AtMost(20, "ms")
    ),
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
