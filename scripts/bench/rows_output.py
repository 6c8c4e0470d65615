"""Output: how much per second, how soon."""

from __future__ import annotations

from scripts.bench.registry import Metric, Options, RatioAtMost, Values, measures
from scripts.bench.tools import MS
from scripts.harness.kernel import Kernel

OUTPUT = "Output, to reply and idle"
LINES = 100_000
MEGABYTES = 50


@measures(OUTPUT, Metric("lines", f"{LINES:,} printed lines", "ms", RatioAtMost(0.8)))
def printed_lines(kernel: Kernel, options: Options) -> Values:
    pending = kernel.front.run(f"for i in range({LINES}): print(i)")
    text = pending.text()
    assert text.count("\n") == LINES, f"{text.count(chr(10))} lines came"
    return {"lines": pending.seconds * MS}


@measures(OUTPUT, Metric("displays", "1,000 display_data", "ms", RatioAtMost(0.8)))
def displays(kernel: Kernel, options: Options) -> Values:
    pending = kernel.front.run("for i in range(1000): display({'text/plain': str(i)}, raw=True)")
    assert len(pending.shown("display_data")) == 1000
    return {"displays": pending.seconds * MS}


@measures(OUTPUT, Metric("one-line", f"one line of {MEGABYTES} MB", "ms", RatioAtMost(0.8)))
def one_line(kernel: Kernel, options: Options) -> Values:
    pending = kernel.front.run(f"print('x' * {MEGABYTES}_000_000)")
    assert len(pending.text()) == MEGABYTES * 1_000_000 + 1
    return {"one-line": pending.seconds * MS}


@measures(OUTPUT, Metric("first-output", "first output of a cell that prints and goes on", "ms", RatioAtMost(0.8)))
def first_output(kernel: Kernel, options: Options) -> Values:
    front = kernel.front
    front.run("import time")
    times = []
    for _ in range(5):
        pending = front.run("print(1)\ntime.sleep(0.4)")
        times.append((pending.shown("stream")[0].at - pending.sent) * MS)
    return {"first-output": sorted(times)[2]}
