"""What sharing variables costs: mpkernel's own matter."""

from __future__ import annotations

import statistics

from scripts.bench.registry import AtMost, Metric, Options, Values, measures
from scripts.bench.tools import MS, start_cell, subshells, trips
from scripts.harness import proc
from scripts.harness.client import FrontEnd
from scripts.harness.kernel import Kernel

NAMES = "Sharing: many variables"
LARGE = "Sharing: large values"
LIVE = "Sharing: while the owner's cell runs"

_IMPORTS = "import time"
_ARRAYS = "import time, numpy as np, pandas as pd"
_MANY = "for _i in range({0}): globals()[f'v{{_i}}'] = [_i, str(_i)] if _i % 2 else _i"
_COPY = (
    "times = []\n"
    "for _ in range(3):\n"
    "    start = time.perf_counter(); copy = big.copy(); times.append(time.perf_counter() - start); del copy\n"
    "print(min(times)); del times, start"
)
_GIGABYTE = 10**9


def until_seen(front: FrontEnd, child: str, make: str, read: str) -> float:
    """Seconds from the end of the cell `make` in main to when `read` is done in `child`."""
    made = float(front.run(f"{make}\nprint(time.time())").text())
    return float(front.run(f"{read}\nprint(time.time())", child).text()) - made


@measures(
    NAMES,
    Metric("names-alone-100", "`pass` with 100 names, no other subshell: more than with none", "ms", AtMost(0.1, "ms")),
    Metric("names-100", "`pass` with 100 names and a second subshell: more than with none", "ms", AtMost(0.3, "ms")),
    Metric("names-10000", "the same with 10,000 names", "ms", AtMost(1.5, "ms")),
    Metric("names-seen", "one of 10,000 names changed: seen in another subshell after", "ms", AtMost(3, "ms")),
    Metric("names-hop", "(of which: two cells in turn that share nothing)", "ms"),
    only="mpkernel",
)
def many_names(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    front.run(_IMPORTS)
    without = trips(front, options.trips)
    front.run(_MANY.format(100))
    alone = trips(front, options.trips) - without
    (child,) = subshells(kernel, 1)
    front.run(_IMPORTS, child)
    hundred = trips(front, options.trips) - without
    hop = statistics.median(until_seen(front, child, "pass", "pass") for _ in range(20))
    front.run(_MANY.format(10_000))
    front.run("pass", child)
    many = trips(front, options.trips) - without
    seen = statistics.median(until_seen(front, child, f"v0 = {n}", "v0") for n in range(20))
    return {
        "names-alone-100": alone,
        "names-100": hundred,
        "names-10000": many,
        "names-seen": seen * MS,
        "names-hop": hop * MS,
    }


@measures(
    LARGE,
    Metric("array-copy", "a copy of a 1 GB array, for comparison", "ms"),
    Metric("array-seen", "the array: seen in another subshell after so many copies", "x", AtMost(1.3, "x")),
    Metric("array-untouched", "`big.shape` in the next cell: more than `pass` without it", "ms", AtMost(2, "ms")),
    Metric("array-pages", "3 pages of it changed: seen after", "ms", AtMost(15, "ms")),
    Metric("array-memory", "PSS that it and its 4 readers add to the tree", "GB", AtMost(2.1, "GB")),
    only="mpkernel",
    rarely=True,
)
def gigabyte(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    child, *others = subshells(kernel, 4)
    for subshell in (None, child, *others):
        front.run(_ARRAYS, subshell)
    without = trips(front, 20)
    empty = proc.pss(kernel.tree())
    front.run(f"warm = [np.ones({_GIGABYTE // 8}) for _ in range(4)]; del warm")
    front.run(f"big = np.ones({_GIGABYTE // 8})")
    copy = float(front.run(_COPY).text())
    seen = statistics.median(until_seen(front, child, "big = big.copy()", "big[0]") for _ in range(3))
    untouched = trips(front, 20, "big.shape;") - without
    change = "big[0] += 1; big[50_000_000] += 1; big[-1] += 1"
    pages = statistics.median(until_seen(front, child, change, "big[0]") for _ in range(5))
    for subshell in others:
        front.run("big.sum()", subshell)
    front.run("big.sum()", child)
    memory = proc.pss(kernel.tree()) - empty
    return {
        "array-copy": copy * MS,
        "array-seen": seen / copy,
        "array-untouched": untouched,
        "array-pages": pages * MS,
        "array-memory": memory / 1e9,
    }


@measures(
    LARGE,
    Metric("frame-seen", "a DataFrame, 1e6 rows of numbers and strings: seen after", "ms", AtMost(60, "ms")),
    Metric("dicts-own", "a list of 1e6 dicts there: `pass` in its subshell costs more", "ms", AtMost(1, "ms")),
    Metric("dicts-other", "the same, in another subshell", "ms", AtMost(1, "ms")),
    only="mpkernel",
    rarely=True,
)
def frames_and_dicts(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    (child,) = subshells(kernel, 1)
    front.run(_ARRAYS)
    front.run(_ARRAYS, child)
    without, without_there = trips(front, 20), trips(front, 20, subshell=child)
    make = "df = pd.DataFrame({'n': np.arange(1e6), 's': [f'row {i % 1000}' for i in range(1_000_000)]})"
    frame = until_seen(front, child, make, "df.s.iloc[-1]")
    front.run("del df")
    front.run("rows = [{'i': i} for i in range(1_000_000)]")
    own, other = trips(front, 20), trips(front, 20, subshell=child)
    return {"frame-seen": frame * MS, "dicts-own": own - without, "dicts-other": other - without_there}


@measures(
    LIVE,
    Metric("live-python", "a growing list, read while main runs pure Python: more than `pass`", "ms", AtMost(2, "ms")),
    Metric("live-numpy", "a small list, read while main is in numpy: more than `pass`", "ms", AtMost(1, "ms")),
    only="mpkernel",
)
def live(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    (child,) = subshells(kernel, 1)
    front.run(_ARRAYS)
    without = trips(front, 20, subshell=child)
    values: Values = {}
    front.run("grown = []; n = 0; big = np.ones(30_000_000)")
    for key, loop in (
        ("live-python", "while True:\n    n += 1\n    if n % 100_000 == 0: grown.append(n)"),
        ("live-numpy", "while True: np.sqrt(big).sum()"),
    ):
        cell = start_cell(kernel, loop)
        values[key] = trips(front, 20, "len(grown)", child) - without
        front.send("interrupt_request", {}, channel="control")
        front.wait(cell)
    return values
