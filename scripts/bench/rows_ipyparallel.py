"""What ipyparallel's engines do where mpkernel has subshells: processes that a notebook's cells start and talk to.

Its other rows would be those of the ipykernel that the notebook is in.
"""

from __future__ import annotations

import time

from scripts.bench.registry import Options, Values, measures_with
from scripts.bench.tools import MS, SPIN, asked, trips
from scripts.harness import proc
from scripts.harness.kernel import Kernel

NAME = "ipyparallel"
MB = 1 << 20
_START = (
    "import ipyparallel as ipp, time\n"
    "cluster = ipp.Cluster(n={}, log_level=40)\n"
    "engines = cluster.start_and_connect_sync(activate=False)\n"
    "all_ = engines[:]; one = engines[0]"
)
_LOOP = "def burn(n):\n    for _ in range(n): pass\n"


def _engines(kernel: Kernel, count: int) -> None:
    kernel.front.run(_START.format(count))


@measures_with(NAME, "pass_child")
def one_engine(kernel: Kernel, options: Options) -> Values:
    _engines(kernel, 1)
    return {"pass-child": trips(kernel.front, options.trips, "one.execute('pass', block=True)", warm=20)}


@measures_with(NAME, "create")
def first_engine(kernel: Kernel, options: Options) -> Values:
    start = time.perf_counter()
    _engines(kernel, 1)
    kernel.front.run("one.execute('pass', block=True)")
    return {"create-first": (time.perf_counter() - start) * MS}


@measures_with(NAME, "while_cpu_burns")
def while_an_engine_computes(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    _engines(kernel, 1)
    front.run(f"busy = one.execute({SPIN!r})")
    info = lambda: front.send("kernel_info_request", channel="control")  # noqa: E731
    return {
        "cpu-pass": asked(front, lambda: front.execute("pass"), options.trips, options.deadline),
        "cpu-info": asked(front, info, options.trips, options.deadline),
    }


@measures_with(NAME, "two_loops")
def two_engines(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    _engines(kernel, 2)
    front.run(f"all_.execute({_LOOP!r}, block=True)")
    probe = front.run("one.execute('burn(5_000_000)', block=True)").seconds
    code = f"burn({int(5_000_000 * options.loop_seconds / probe)})"
    alone = sorted(front.run(f"engines[{n}].execute({code!r}, block=True)").seconds for n in (0, 1, 0))[1]
    both = front.run(f"all_.execute({code!r}, block=True)").seconds
    return {"two-cores": 2 * alone / both, "two-cores-wall": both / alone}


@measures_with(NAME, "memory")
def memory(kernel: Kernel, options: Options) -> Values:
    idle = proc.pss(kernel.tree())
    _engines(kernel, 5)
    time.sleep(1)
    return {"memory-idle": idle / MB, "memory-child": (proc.pss(_all(kernel)) - idle) / 5 / MB}


@measures_with(NAME, "array_with_four_readers")
def array_pushed_to_four(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    _engines(kernel, 4)
    front.run("import numpy as np; all_.execute('import numpy as np', block=True)")
    empty = proc.footprint(_all(kernel))
    front.run("big = np.ones(62_500_000); all_.push({'big': big}, block=True)")
    front.run("all_.execute('s = float(big.sum())', block=True)")
    read = proc.footprint(_all(kernel))
    time.sleep(options.cold_seconds)
    return {"array-4-readers": (read - empty) / 1e9, "array-4-cold": (proc.footprint(_all(kernel)) - empty) / 1e9}


def _all(kernel: Kernel) -> list[int]:
    """The cluster's processes leave the kernel's tree."""
    return kernel.sandbox.processes()
