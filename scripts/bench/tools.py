"""What several measurements do alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from scripts.bench.registry import Over, Unable
from scripts.harness.client import FrontEnd, Pending
from scripts.harness.kernel import Kernel

MS = 1000.0
SETTLE = 0.5  # seconds after which a cell that was sent is surely running
HOLD_GIL = "import ctypes; _ = ctypes.PyDLL(None).sleep({})"  # PyDLL calls C without releasing the GIL
SPIN = "while True: pass"


def trip(front: FrontEnd, code: str = "pass", subshell: str | None = None) -> float:
    """Milliseconds from sending a cell until reply and idle."""
    pending = front.run(code, subshell)
    front.forget(pending)
    return pending.seconds * MS


def trips(front: FrontEnd, count: int, code: str = "pass", subshell: str | None = None, warm: int = 5) -> float:
    """Median of `count` round trips, in milliseconds."""
    for _ in range(warm):
        trip(front, code, subshell)
    return statistics.median(trip(front, code, subshell) for _ in range(count))


def asked(
    front: FrontEnd, make: Callable[[], Pending], count: int, deadline: float, meanwhile: Pending | None = None
) -> float:
    """Median of the milliseconds to the reply and idle of `count` requests made by `make`, all within `deadline` s.

    If not even one is answered in time: `Over`. No more are made once `meanwhile` is answered.
    """
    end = time.perf_counter() + deadline
    times: list[float] = []
    while len(times) < count and not (times and meanwhile is not None and meanwhile.replied_at):
        pending = make()
        if not front.wait_until(lambda p=pending: p.done, end - time.perf_counter()):  # type: ignore[misc]
            return statistics.median(times) if len(times) > 2 else Over(deadline * MS)
        times.append(pending.seconds * MS)
        front.forget(pending)
    return statistics.median(times)


def start_cell(kernel: Kernel, code: str, subshell: str | None = None) -> Pending:
    """Send a cell that goes on for long; returns when it is surely running."""
    pending = kernel.front.execute(code, subshell)  # if it holds the GIL, not even its execute_input may come out
    end = time.perf_counter() + SETTLE
    while (left := end - time.perf_counter()) > 0:
        kernel.front.pump(left)
    return pending


def need_subshells(kernel: Kernel) -> None:
    """Raises Unable if the kernel has none."""
    if not kernel.has_subshells:
        raise Unable("no subshells")


def need_modules(kernel: Kernel, modules: str, subshell: str | None = None) -> None:
    """Import them in the kernel. Raises Unable if they aren't installed there."""
    try:
        kernel.front.run(f"import {modules}", subshell)
    except RuntimeError as error:
        raise Unable(str(error)) from error


def subshells(kernel: Kernel, count: int) -> list[str]:
    """New subshells, each of which has run a cell. Raises Unable."""
    need_subshells(kernel)
    ids = [kernel.front.create_subshell() for _ in range(count)]
    for subshell in ids:
        for _ in range(2):
            kernel.front.run("pass", subshell)
    return ids


def seconds_to(front: FrontEnd, pending: Pending, condition: Callable[[], object], deadline: float) -> float:
    """Milliseconds from sending `pending` until `condition`, or `Over`."""
    if not front.wait_until(condition, deadline):
        return Over(deadline * MS)
    return (time.perf_counter() - pending.sent) * MS
