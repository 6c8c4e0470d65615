"""Runs the measurements, kernel by kernel in turn, and keeps every sample."""

from __future__ import annotations

import fnmatch
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scripts.bench.registry import REGISTRY, Function, Measurement, Options, Over, Unable
from scripts.harness import proc
from scripts.harness.kernel import Kernel, Spec

QUIET = 0.10  # the machine counts as quiet when others use less than this share of its cores


@dataclass
class Results:
    """Samples and failures by metric and kernel; how much others used the machine meanwhile."""

    samples: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    failures: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    unable: set[tuple[str, str]] = field(default_factory=set)  # metrics of which a kernel has nothing
    busy: list[float] = field(default_factory=list)  # share of the cores in use just before each sample
    done: list[str] = field(default_factory=list)  # names of the measurements that are through
    minutes: float = 0.0  # that earlier runs took
    dates: list[str] = field(default_factory=list)  # of these

    def add(self, metric: str, kernel: str, value: float) -> None:
        self.samples.setdefault((metric, kernel), []).append(value)

    def fail(self, metric: str, kernel: str, reason: str) -> None:
        self.failures.setdefault((metric, kernel), []).append(reason)


def chosen(pattern: str | None) -> list[Measurement]:
    """The measurements whose name, section, or a metric's key or title matches (glob or part of it)."""
    if pattern is None:
        return list(REGISTRY)
    glob = pattern if any(char in pattern for char in "*?[") else f"*{pattern}*"
    found = []
    for measurement in REGISTRY:
        words = [measurement.name, measurement.section]
        words += [word for metric in measurement.metrics for word in (metric.key, metric.title)]
        if any(fnmatch.fnmatch(word.lower(), glob.lower()) for word in words):
            found.append(measurement)
    return found


def wait_for_quiet(patience: float) -> float:
    """Wait at most `patience` seconds until nobody else uses the machine; the share in use at the end."""
    deadline = time.monotonic() + patience
    while (share := proc.busy_share(0.25)) > QUIET and time.monotonic() < deadline:
        pass
    return share


def run(
    measurements: Sequence[Measurement],
    specs: Sequence[Spec],
    options: Options,
    repeat: int,
    patience: float,
    results: Results,
    *,
    after_each: Callable[[Results], None] | None = None,
    seconds: float = math.inf,
) -> None:
    """A B C A B A B: `repeat` samples of each measurement for the first two kernels, for the others a third of that.

    What `results` has is left out; after so many `seconds` none is begun any more.
    """
    deadline = time.monotonic() + seconds
    for number, measurement in enumerate(measurements, 1):
        if measurement.name in results.done:
            continue
        if time.monotonic() > deadline:
            break
        times = max(1, repeat // 3) if measurement.rarely else repeat
        print(f"[{number}/{len(measurements)}] {measurement.name}", file=sys.stderr, flush=True)
        for turn in range(times):
            for spec in specs if turn % 3 == 0 else specs[:2]:
                function = measurement.function(spec.name)
                if function is not None:
                    sample(measurement, function, spec, options, patience, results)
        results.done.append(measurement.name)
        if after_each is not None:
            after_each(results)


def sample(
    measurement: Measurement, function: Function, spec: Spec, options: Options, patience: float, results: Results
) -> None:
    """One sample on a kernel of its own; what is wrong with it is told and kept in `results`."""
    with Kernel(spec) as kernel:
        try:
            if not measurement.fresh:
                kernel.start()
                kernel.warm_up()
            results.busy.append(wait_for_quiet(patience))
            values = function(kernel, options)
        except Unable:
            results.unable |= {(metric.key, spec.name) for metric in measurement.metrics}
            return
        except Exception as error:  # noqa: BLE001 - a row that fails is reported, the others go on
            print(f"\n{spec.name}: {measurement.name}: {error!r}\n{kernel.log_tail()}", file=sys.stderr)
            for metric in measurement.metrics:
                results.fail(metric.key, spec.name, f"{type(error).__name__}: {error}")
            return
    for key, value in values.items():
        results.add(key, spec.name, value)
    shown = ", ".join(f"{key} {'> ' if isinstance(value, Over) else ''}{value:.4g}" for key, value in values.items())
    print(f"    {spec.name}: {shown} ({results.busy[-1]:.0%} busy)", file=sys.stderr, flush=True)
