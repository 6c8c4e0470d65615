"""What Linux says about processes: memory, CPU, context switches, open files (proc(5))."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
_IN_MEMORY = ("/memfd:", "/dev/shm/")


def _rollup(pid: int) -> dict[str, int]:
    """Fields of smaps_rollup in bytes; empty if the process is gone."""
    fields: dict[str, int] = {}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, value, *_ = line.split()
            fields[name.rstrip(":")] = int(value) * 1024
    return fields


def pss(pids: Iterable[int]) -> int:
    """Proportional set size of all together, in bytes: shared pages are counted once."""
    return sum(_rollup(pid).get("Pss", 0) for pid in pids)


def pss_beside_libraries(pids: Iterable[int]) -> int:
    """The same without pages of files on disk: libraries count for less while other kernels have them, too."""
    return sum(fields.get("Pss_Anon", 0) + fields.get("Pss_Shmem", 0) for fields in map(_rollup, pids))


def footprint(pids: Iterable[int]) -> int:
    """Bytes of memory that all together hold: their PSS, and what is in memfds and /dev/shm, mapped or not.

    Such a file counts once and whole as soon as one of them has it open; what a process has written to in a
    private mapping of it (and so has for itself) counts besides.
    """
    total = 0
    held: dict[tuple[int, int], int] = {}  # (device, inode): bytes
    mapped: dict[tuple[int, int], int] = {}
    for pid in pids:
        with suppress(OSError):
            total += _pss_beside_files(pid, mapped)
            for entry in os.scandir(f"/proc/{pid}/fd"):
                with suppress(OSError):
                    if os.readlink(entry.path).startswith(_IN_MEMORY):
                        found = os.stat(entry.path)
                        held[found.st_dev, found.st_ino] = found.st_blocks * 512
    return total + sum((mapped | held).values())


def _pss_beside_files(pid: int, mapped: dict[tuple[int, int], int]) -> int:
    """PSS without that of memfds and files in /dev/shm, which is added to `mapped`."""
    total, pss, file = 0, 0, None
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, *values = line.split(maxsplit=5)
        if not name.endswith(":"):  # address, and then: permissions, offset, device, inode, path
            _, _, device, inode, *path = values
            major, minor = (int(part, 16) for part in device.split(":"))
            file = (os.makedev(major, minor), int(inode)) if path and path[0].startswith(_IN_MEMORY) else None
        elif name == "Pss:" and file is None:
            total += int(values[0]) * 1024
        elif name == "Pss:":
            pss = int(values[0]) * 1024
        elif name == "Anonymous:" and file is not None:
            own = int(values[0]) * 1024
            total += own
            mapped[file] = mapped.get(file, 0) + max(0, pss - own)
    return total


def private(pid: int) -> int:
    """Bytes that would be free if this process ended."""
    fields = _rollup(pid)
    return fields.get("Private_Clean", 0) + fields.get("Private_Dirty", 0)


def rss(pid: int) -> int:
    """Resident bytes; 0 if the process is gone."""
    return _rollup(pid).get("Rss", 0)


def cpu_seconds(pids: Iterable[int]) -> float:
    """utime + stime of all together; in steps of 10 ms."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / TICKS


def context_switches(pids: Iterable[int]) -> int:
    """Of all threads of all processes together. A thread that isn't woken makes none."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for status in Path(f"/proc/{pid}/task").glob("*/status"):
                for line in status.read_text().splitlines():
                    if line.startswith(("voluntary_ctxt", "nonvoluntary_ctxt")):
                        total += int(line.split()[1])
    return total


def open_files(pid: int) -> list[str]:
    """What the descriptors of a process point to, with numbers of pipes and sockets cut off; sorted."""
    found = []
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found.append(os.readlink(entry.path).partition(":[")[0])
    return sorted(found)


def wait_for_end(pids: Iterable[int], timeout: float) -> float | None:
    """Seconds until all these processes have ended (a zombie counts as ended); None if it takes over `timeout`."""
    start = time.perf_counter()
    with ExitStack() as stack:
        poller, waiting = select.poll(), 0
        for pid in pids:
            with suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                stack.callback(os.close, fd)
                poller.register(fd, select.POLLIN)
                waiting += 1
        while waiting:
            left = timeout - (time.perf_counter() - start)
            ended = poller.poll(left * 1000) if left > 0 else []
            if not ended:
                return None
            for fd, _ in ended:
                poller.unregister(fd)
            waiting -= len(ended)
    return time.perf_counter() - start


def busy_share(seconds: float) -> float:
    """The share of all cores' time that is not idle during the next `seconds`: 0 to 1."""

    def jiffies() -> tuple[int, int]:
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[3] + fields[4]

    total, idle = jiffies()
    time.sleep(seconds)
    total_now, idle_now = jiffies()
    return 1 - (idle_now - idle) / max(1, total_now - total)


def load() -> str:
    """The three load averages."""
    return " ".join(Path("/proc/loadavg").read_text().split()[:3])
