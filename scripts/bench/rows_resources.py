"""Cores, memory, idle cost, and the speed of user code."""

from __future__ import annotations

import statistics
import subprocess
import time

from scripts.bench.registry import AtLeast, AtMost, Metric, Options, Values, measures
from scripts.bench.tools import SETTLE, need_modules, subshells
from scripts.harness import proc
from scripts.harness.kernel import Kernel

CORES = "Cores"
MEMORY = "Memory (PSS of the whole process tree)"
IDLE = "Idle kernel"
SPEED = "Speed of user code against `python -c` (1.00 is the same)"
MB = 1 << 20
_LOOP = "def burn(n):\n    for _ in range(n): pass\n"


@measures(
    CORES,
    Metric("two-cores", "CPU loops in two subshells at once: work done per second", "x", AtLeast(1.9, "x")),
    Metric("two-cores-wall", "the same: time of both against that of one alone", "x", AtMost(1.08, "x")),
)
def two_loops(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    first, second = subshells(kernel, 2)
    for child in (first, second):
        front.run(_LOOP, child)
    probe = front.run("burn(5_000_000)", first).seconds
    code = f"burn({int(5_000_000 * options.loop_seconds / probe)})"
    alone = statistics.median(front.run(code, child).seconds for child in (first, second, first))
    start = time.perf_counter()
    cells = [front.execute(code, child) for child in (first, second)]
    front.wait(*cells)
    both = time.perf_counter() - start
    return {"two-cores": 2 * alone / both, "two-cores-wall": both / alone}


@measures(
    MEMORY,
    Metric("memory-idle", "idle kernel after its first cell", "MB"),
    Metric("memory-child", "each subshell that ran a cell", "MB"),
)
def memory(kernel: Kernel, options: Options) -> Values:
    time.sleep(1)
    idle = proc.pss(kernel.tree())
    values = {"memory-idle": idle / MB}
    if kernel.has_subshells:
        subshells(kernel, 5)
        time.sleep(1)
        values["memory-child"] = (proc.pss(kernel.tree()) - idle) / 5 / MB
    return values


_MAKE = "big = np.ones(62_500_000)"
_READ = "float(big.sum())"


@measures(
    MEMORY,
    Metric("array-4-readers", "a 500 MB array read in 4 subshells: added, memfds counted", "GB", AtMost(1.05, "GB")),
    Metric("array-4-cold", "the same, a while later", "GB", AtMost(0.6, "GB")),
    rarely=True,
)
def array_with_four_readers(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    children = subshells(kernel, 4)
    for child in (None, *children):
        need_modules(kernel, "numpy as np", child)
    empty = proc.footprint(kernel.tree())
    front.run(_MAKE)
    for child in children:
        front.run(_READ, child)
    read = proc.footprint(kernel.tree())
    time.sleep(options.cold_seconds)
    cold = proc.footprint(kernel.tree())
    return {"array-4-readers": (read - empty) / 1e9, "array-4-cold": (cold - empty) / 1e9}


@measures(
    MEMORY,
    Metric("private-main", "private memory of main's idle worker", "MB", AtMost(8, "MB")),
    Metric("private-child", "private memory of a child's idle worker", "MB", AtMost(8, "MB")),
    only="mpkernel",
)
def private_memory(kernel: Kernel, options: Options) -> Values:
    subshells(kernel, 3)
    time.sleep(0.5)
    rows = kernel.front.ask("mpkernel_request", {"op": "ps"}, channel="control").reply["subshells"]
    used = [proc.private(row["pid"]) / MB for row in rows]
    return {"private-main": used[0], "private-child": statistics.median(used[1:])}


@measures(
    IDLE,
    Metric("idle-cpu", "CPU of the whole tree, 10 subshells that ran a cell", "%", AtMost(0.05, "%")),
    Metric("idle-switches", "wake-ups (context switches) of the whole tree per second", "/s", AtMost(1, "/s")),
    rarely=True,
)
def idle(kernel: Kernel, options: Options) -> Values:
    subshells(kernel, 10)
    time.sleep(2)
    pids = kernel.tree()
    start, cpu, switches = time.perf_counter(), proc.cpu_seconds(pids), proc.context_switches(pids)
    time.sleep(options.idle_seconds)
    seconds = time.perf_counter() - start
    return {
        "idle-cpu": 100 * (proc.cpu_seconds(pids) - cpu) / seconds,
        "idle-switches": (proc.context_switches(pids) - switches) / seconds,
    }


_TIMED = "import time; start = time.perf_counter()\n{}\nprint(time.perf_counter() - start)"
_GLOBAL_LEVEL = _TIMED.format("total = 0\nfor i in range(4_000_000):\n    total = total + i")
_FUNCTION = "def work(n):\n    total = 0\n    for i in range(n):\n        total = total + i\n" + _TIMED.format(
    "work(8_000_000)"
)


def _against_python(kernel: Kernel, python: str, code: str) -> float:
    """Time of `code` in a cell over its time in plain Python, each the best of five taken in turn."""
    here: list[float] = []
    plain: list[float] = []
    for _ in range(5):
        time.sleep(SETTLE / 3)
        here.append(float(kernel.front.run(code).text()))
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
        plain.append(float(done.stdout))
    return min(here) / min(plain)


@measures(
    SPEED,
    Metric("speed-global", "loop at the top level", "x", AtMost(1.05, "x")),
    Metric("speed-function", "loop in a function", "x", AtMost(1.05, "x")),
)
def speed(kernel: Kernel, options: Options) -> Values:
    python = options.interpreter.get(kernel.spec.name)
    if python is None:
        return {}
    return {
        "speed-global": _against_python(kernel, python, _GLOBAL_LEVEL),
        "speed-function": _against_python(kernel, python, _FUNCTION),
    }
