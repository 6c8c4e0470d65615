"""Kernels started and ended in all ways: nothing of one may be left."""

from __future__ import annotations

import os
import random
import signal
import statistics
import time
from collections.abc import Callable
from contextlib import suppress

from scripts.harness import proc
from scripts.harness.kernel import Kernel, Spec
from scripts.soak.report import Part

WITHIN = 2.0  # seconds in which everything must be gone


def _request(kernel: Kernel, rng: random.Random) -> None:
    kernel.warm_up()
    kernel.front.send("shutdown_request", {"restart": False}, channel="control")


def _request_while_busy(kernel: Kernel, rng: random.Random) -> None:
    kernel.warm_up()
    for subshell in (None, kernel.front.create_subshell()):
        cell = kernel.front.execute("while True: pass", subshell)
        kernel.front.wait_until(lambda p=cell: p.shown("execute_input"))  # type: ignore[misc]
    kernel.front.send("shutdown_request", {"restart": False}, channel="control")


def _request_with_children(kernel: Kernel, rng: random.Random) -> None:
    kernel.warm_up()
    kernel.front.run("import subprocess; p = subprocess.Popen(['sleep', '1000'])", kernel.front.create_subshell())
    kernel.front.send("shutdown_request", {"restart": False}, channel="control")


def _terminate(kernel: Kernel, rng: random.Random) -> None:
    kernel.warm_up()
    os.kill(kernel.pid, signal.SIGTERM)


def _kill(kernel: Kernel, rng: random.Random) -> None:
    kernel.warm_up()
    kernel.front.run("pass", kernel.front.create_subshell())
    os.killpg(kernel.pid, signal.SIGKILL)  # as jupyter_client does: it started the kernel in a session of its own


def _kill_while_busy(kernel: Kernel, rng: random.Random) -> None:
    kernel.warm_up()
    for subshell in (None, kernel.front.create_subshell()):
        cell = kernel.front.execute("import ctypes; ctypes.PyDLL(None).sleep(1000)", subshell)
        kernel.front.wait_until(lambda p=cell: p.shown("execute_input"), 2)  # type: ignore[misc]
    os.killpg(kernel.pid, signal.SIGKILL)


def _kill_while_starting(kernel: Kernel, rng: random.Random) -> None:
    time.sleep(rng.uniform(0, 0.4))
    os.killpg(kernel.pid, signal.SIGKILL)


def _terminate_while_starting(kernel: Kernel, rng: random.Random) -> None:
    time.sleep(rng.uniform(0, 0.4))
    with suppress(ProcessLookupError):
        os.kill(kernel.pid, signal.SIGTERM)


WAYS: dict[str, Callable[[Kernel, random.Random], None]] = {
    "shutdown_request, idle": _request,
    "shutdown_request, two shells in `while True`": _request_while_busy,
    "shutdown_request, a cell's child process runs": _request_with_children,
    "SIGTERM": _terminate,
    "SIGKILL to the broker's group": _kill,
    "SIGKILL to the broker's group, two shells in C with the GIL": _kill_while_busy,
    "SIGKILL at a random moment of the start": _kill_while_starting,
    "SIGTERM at a random moment of the start": _terminate_while_starting,
}


def run(spec: Spec, starts: int, seed: int, minutes: float) -> Part:
    """`starts` kernels, the ways to end them in turn; as many as can be in `minutes`."""
    rng = random.Random(seed)
    part = Part(f"{starts} starts and ends (seed {seed})")
    begin, times = time.monotonic(), dict[str, list[float]]()
    own_files = len(os.listdir("/proc/self/fd"))
    for number in range(starts):
        if time.monotonic() - begin > minutes * 60:
            break
        name = list(WAYS)[number % len(WAYS)]
        with Kernel(spec) as kernel:
            try:
                kernel.start()
                WAYS[name](kernel, rng)
            except Exception as error:  # noqa: BLE001 - it goes into the report, with the log
                part.violate(f"start {number}, {name}: {type(error).__name__}: {error}; log: {kernel.log_tail()}")
                continue
            took = _gone(kernel, part, f"start {number}, {name}")
            times.setdefault(name, []).append(took)
    part.figures["kernels"] = f"{sum(map(len, times.values()))} in {(time.monotonic() - begin) / 60:.1f} min"
    for name, seconds in times.items():
        shown = f"{statistics.median(seconds) * 1000:.0f}, {max(seconds) * 1000:.0f}"
        part.figures[f"{name}: {len(seconds)} times, gone after (ms, median and worst)"] = shown
    if (now := len(os.listdir("/proc/self/fd"))) > own_files + 2:
        part.figures["this script's own files"] = f"{own_files}, then {now}"
    return part


def _gone(kernel: Kernel, part: Part, where: str) -> float:
    """Wait until nothing is left; returns the seconds that it took."""
    start = time.perf_counter()
    while time.perf_counter() - start < WITHIN:
        pids = [process.pid for process in kernel.sandbox.processes()]
        if not pids:
            break
        proc.wait_for_end(pids, 0.05)
    took = time.perf_counter() - start
    kernel.reap()  # removes the connection file, which is the front end's
    for left in kernel.sandbox.leftovers(max(0.0, WITHIN - took)):
        part.violate(f"{where}: left over: {left}; log: {kernel.log_tail(500)}")
    return took
