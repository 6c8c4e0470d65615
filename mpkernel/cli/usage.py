"""What processes use: CPU, resident and private memory.

A worker is measured together with all processes below it, because a cell that starts twenty helpers is what costs.
Resident memory counts pages that workers share once per process; private memory (USS) is what ending the processes
would free.
"""

from __future__ import annotations

import ipaddress
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil

from mpkernel.connection import ConnectionInfo

# Long enough for ten ticks of the kernel's 10 ms clock, short enough not to be felt.
SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class Usage:
    """Of one worker and the processes below it. None: can't be had (another user's, or not known yet)."""

    cpu_percent: float | None  # 100 is one core
    rss: int | None  # bytes
    private: int | None  # bytes
    stopped: bool = False  # by SIGSTOP and the like: it can't answer anything


UNKNOWN = Usage(None, None, None)

# CPU seconds of each process of a family; a Process knows its start time, so a pid that is used again is another key.
_Times = dict[psutil.Process, float]


class Meter:
    """Measures families of processes. CPU is what they used since the last time, at first since `SAMPLE_S` ago."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._last: tuple[float, dict[int, _Times]] | None = None

    def read(self, pids: Iterable[int]) -> dict[int, Usage]:
        """The usage by each of `pids` that is there; waits for one sample at most."""
        pids = set(pids)
        if not pids:
            return {}
        if self._last is None:
            self._last = self._clock(), {pid: _times(family) for pid, family in _families(pids).items()}
            self._sleep(SAMPLE_S)
        families = _families(pids)
        then, before = self._last
        now, after = self._clock(), {pid: _times(family) for pid, family in families.items()}
        self._last = now, after
        return {
            pid: Usage(_percent(before.get(pid), after[pid], now - then), *_memory(family), _is_stopped(family[0]))
            for pid, family in families.items()
        }


def is_local(info: ConnectionInfo) -> bool:
    """Whether a kernel runs on this machine, so that its pids mean something here."""
    if info.transport == "ipc" or info.ip in ("localhost", "*"):
        return True
    try:
        address = ipaddress.ip_address(info.ip)
    except ValueError:
        return False
    if address.is_loopback or address.is_unspecified:
        return True
    return any(entry.address == info.ip for entries in psutil.net_if_addrs().values() for entry in entries)


def _families(pids: set[int]) -> dict[int, list[psutil.Process]]:
    """Each of `pids` that is there with all processes below it; one walk through the process table for all."""
    processes = {process.pid: process for process in psutil.process_iter()}
    children = defaultdict(list)
    for process in processes.values():
        try:
            children[process.ppid()].append(process)
        except psutil.Error:  # it has just ended
            continue
    families = {}
    for pid in pids & processes.keys():
        family = [processes[pid]]
        for member in family:  # grows while we walk
            family += children.get(member.pid, ())
        families[pid] = family
    return families


def _times(family: list[psutil.Process]) -> _Times:
    times = {}
    for process in family:
        try:
            used = process.cpu_times()
        except psutil.Error:
            continue
        times[process] = used.user + used.system
    return times


def _percent(before: _Times | None, after: _Times, elapsed: float) -> float | None:
    if before is None or elapsed <= 0:
        return None
    used = sum(seconds - before.get(process, 0.0) for process, seconds in after.items())
    return round(max(used, 0.0) / elapsed * 100, 1)


def _is_stopped(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_STOPPED)
    except psutil.Error:
        return False


def _memory(family: list[psutil.Process]) -> tuple[int | None, int | None]:
    resident: list[int] = []
    private: list[int] = []
    for process in family:
        try:
            resident.append(process.memory_info().rss)
            private.append(process.memory_full_info().uss)
        except psutil.Error:  # ended, or another user's
            continue
    return (sum(resident) if resident else None, sum(private) if private else None)
