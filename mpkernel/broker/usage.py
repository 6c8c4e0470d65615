"""What the whole kernel uses of the machine: broker, zygote, workers and all that their cells started."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any


class UsageMeter:
    """Measures the process tree below this process; CPU percentages are since the last call (the first says 0)."""

    def __init__(self) -> None:
        self._known: dict[int, Any] = {}  # psutil measures CPU between two calls on one object

    def measure(self) -> dict[str, Any]:
        """Content of a usage_reply. Memory is the sum of PSS (shared pages counted once), in bytes; CPU in percent."""
        import psutil  # 25 ms: not on the way to the first reply

        processes = [psutil.Process(os.getpid())]
        with suppress(psutil.Error):
            processes += processes[0].children(recursive=True)
        # psutil compares start times too: a number that another process got meanwhile is a new process here
        old = self._known
        self._known = {p.pid: old[p.pid] if old.get(p.pid) == p else p for p in processes}
        cpu, memory = 0.0, 0
        for process in self._known.values():
            with suppress(psutil.Error):
                cpu += process.cpu_percent()
                memory += _memory(process)
        return {
            "status": "ok",
            "hostname": socket.gethostname(),
            "pid": os.getpid(),
            "kernel_cpu": cpu,
            "kernel_memory": memory,
            "host_cpu_percent": psutil.cpu_percent(),
            "cpu_count": psutil.cpu_count(),
            "host_virtual_memory": dict(psutil.virtual_memory()._asdict()),
        }


def _memory(process: Any) -> int:
    import psutil

    try:
        with open(f"/proc/{process.pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    with suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0
