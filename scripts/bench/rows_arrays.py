"""Large arrays across subshells: mpkernel's own matter.

The design's target is for 1 GB. In this first version a value above 256 MB isn't shared at all, so it's measured with
100 MB, and the targets are those of 1 GB.
"""

from __future__ import annotations

from scripts.bench.registry import AtMost, Metric, Options, Values, measures
from scripts.bench.tools import MS, subshells, trips
from scripts.harness.kernel import Kernel

ARRAYS = "A 100 MB array in the namespace (numpy)"
MEGABYTES = 100
_MAKE = f"import numpy, time; big = numpy.ones({MEGABYTES}_000_000 // 8)"
_MEMCPY = (
    "times = []\n"
    "for _ in range(5):\n"
    "    start = time.perf_counter(); copy = big.copy(); times.append(time.perf_counter() - start)\n"
    "del copy\n"
    "print(min(times))"
)


@measures(
    ARRAYS,
    Metric("array-memcpy", "one memcpy of it, for comparison", "ms"),
    Metric("array-seen", "made in one subshell → read in another", "ms"),
    Metric("array-seen-ratio", "the same, in memcpys", "x", AtMost(1, "x")),
    only="mpkernel",
)
def array_seen(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    (child,) = subshells(kernel, 1)
    front.run("import numpy, time", child)
    front.run("import numpy, time")
    made = float(front.run(f"{_MAKE}\nprint(time.time())").text())
    seen = float(front.run("first = big[0]\nprint(time.time())", child).text())
    memcpy = float(front.run(_MEMCPY).text())
    return {
        "array-memcpy": memcpy * MS,
        "array-seen": (seen - made) * MS,
        "array-seen-ratio": (seen - made) / memcpy,
    }


@measures(
    ARRAYS,
    Metric("array-untouched", "`pass`, the array unchanged: more than without", "ms", AtMost(1, "ms")),
    Metric("array-read", "`big.shape`, the array unchanged: more than without", "ms", AtMost(1, "ms")),
    Metric("array-pages", "3 pages of it changed: more than `pass`", "ms", AtMost(10, "ms")),
    only="mpkernel",
)
def array_later(kernel: Kernel, options: Options) -> Values:
    front, count = kernel.front, max(5, options.trips // 10)
    front.run("import numpy, time")
    without = trips(front, count)
    front.run(_MAKE)
    return {
        "array-untouched": trips(front, count) - without,
        "array-read": trips(front, count, "big.shape;") - without,
        "array-pages": trips(front, count, "big[0] += 1; big[5_000_000] += 1; big[-1] += 1") - without,
    }
