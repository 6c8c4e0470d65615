"""What it costs to look at a value, to pickle it, to load it: ``python -m tests.namespace.costs`` prints microseconds.

Columns: digest, the same within a sweep, dump, load.
"""

from __future__ import annotations

import timeit
from collections.abc import Callable
from typing import Any

from mpkernel.namespace.pickling import Pickling

from .bench import Space

CELL = """
import dataclasses, datetime
number, text, few, nested = 5, "abc", list(range(10)), {"a": 1, "b": [1, 2]}
many, dicts = list(range(10_000)), [{"a": i} for i in range(10_000)]
date = datetime.datetime(2026, 1, 1)
def function(x): return x
def make():
    n = 0
    def closure(): return n
    return closure
closure = make()
class Class:
    x = 1
    def m(self): pass
    def n(self): pass
instance = Class(); instance.a = 1
instances = [Class() for _ in range(10_000)]
@dataclasses.dataclass
class Data:
    a: int = 1
data = Data()
class Deep:
    x = [1]
    def m(self): pass
deep = Deep()
"""
NUMPY = "import numpy as np\nsmall, large = np.zeros(100), np.zeros(1_000_000)\n"


def microseconds(function: Callable[[], Any]) -> float:
    timer = timeit.Timer(function)
    number, _ = timer.autorange()
    number = max(1, number // 20)
    return min(timer.repeat(5, number)) / number * 1e6


def main() -> None:
    space = Space()
    space.execute(CELL)
    try:
        space.execute(NUMPY)
    except ImportError:
        print("numpy isn't installed")
    pickling = Pickling(space.names, 1, lambda: "main")
    with space.as_main():
        for name, value in space.user_names().items():
            if name in ("dataclasses", "datetime", "np", "make"):
                continue
            pickled = pickling.dump(value)
            digest = microseconds(lambda value=value: pickling.digest(value))
            with pickling.sweep():
                swept = microseconds(lambda value=value: pickling.digest(value))
            dump = microseconds(lambda value=value: pickling.dump(value))
            load = microseconds(lambda pickled=pickled: pickling.load(pickled))
            print(f"{name:10} {digest:9.1f} {swept:9.1f} {dump:9.1f} {load:9.1f}")


if __name__ == "__main__":
    main()
