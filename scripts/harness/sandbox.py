"""The surroundings of a kernel: directories and environment of its own, and the proof that nothing of it is left.

Jupyter's directories, HOME, TMPDIR and XDG_RUNTIME_DIR all point into one short temporary folder, so that a kernel
neither sees nor touches the user's own files, and whatever it leaves behind is found. Processes are recognised by a
variable in the environment they were started with: re-parenting doesn't hide them; only those are ever killed.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

POLL = 0.01  # seconds between two looks at what sends no message: processes, files
_LONGEST_LOOK = 0.5  # seconds that one can take on a machine that runs
MARKER = "MPK_SANDBOX"
# Shared by all sandboxes, as it takes seconds to make: matplotlib's fonts, jedi's parsed modules.
_CACHE = Path(tempfile.gettempdir()) / f"mpkernel-tests-cache-{os.getuid()}"
# What would make a kernel behave unlike one started by a front end (PYTEST_CURRENT_TEST, for example, turns
# ipykernel's capture of file descriptors off).
_NOT_INHERITED = (
    *("JUPYTER", "JPY_", "IPY", "PYTEST_", "MPKERNEL_TEST_", "MPLBACKEND"),
    *("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
)
_LOG_TAIL = 8000  # characters


def clean_up_when_terminated() -> None:
    """Have SIGTERM end this program as an exception does: through the sandboxes' ends."""
    signal.signal(signal.SIGTERM, lambda signum, _frame: sys.exit(128 + signum))


def poll_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether `condition` came true within `timeout` seconds. For what sends no message: processes and files.

    Seconds in which the whole machine stood still (virtual ones do) don't count: nothing could have come true in them.
    """
    left, now = timeout, time.monotonic()
    while not condition():
        if left <= 0:
            return False
        time.sleep(POLL)
        before, now = now, time.monotonic()
        left -= min(now - before, _LONGEST_LOOK)
    return True


def is_gone(process: psutil.Process) -> bool:
    """Whether `process` has ended; one that only waits to be reaped by its parent counts as gone."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def describe(process: psutil.Process) -> str:
    """One line on `process` for a failure message."""
    try:
        with process.oneshot():
            times, command = process.cpu_times(), " ".join(process.cmdline())
            spent = f"{times.user + times.system:.2f} s of CPU"
            return f"pid {process.pid} (parent {process.ppid()}, {process.status()}, {spent}): {command}"
    except psutil.Error:
        return f"pid {process.pid}: gone meanwhile"


class Sandbox:
    """Directories and environment for one kernel. A context manager: at its end all processes that were started in it
    are killed, and the folder is removed."""

    gone_within = 2.0  # seconds in which all processes and files of a stopped kernel must be gone

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="mpt-", dir="/tmp"))  # short: paths of unix sockets end at 108 bytes
        self.runtime = self.folder("runtime")  # connection files
        self.data = self.folder("data")
        self.tmp = self.folder("tmp")
        self.xdg = self.folder("xdg")
        self.cwd = self.folder("cwd")
        self.home = self.folder("home")
        self.log = self.root / "kernel.log"
        self._recorded: set[psutil.Process] = set()

    def folder(self, name: str) -> Path:
        """A folder of that name, made if it isn't there."""
        path = self.root / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill_everything()
        shutil.rmtree(self.root, ignore_errors=True)

    def environment(self) -> dict[str, str]:
        """What a kernel in this sandbox is started with."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_NOT_INHERITED)}
        return {
            **kept,
            MARKER: str(self.root),
            "HOME": str(self.home),
            "TMPDIR": str(self.tmp),
            "XDG_RUNTIME_DIR": str(self.xdg),
            "JUPYTER_RUNTIME_DIR": str(self.runtime),
            "JUPYTER_DATA_DIR": str(self.data),
            "JUPYTER_CONFIG_DIR": str(self.root / "config"),
            "IPYTHONDIR": str(self.root / "ipython"),
            "XDG_CACHE_HOME": str(_CACHE),
        }

    def log_tail(self) -> str:
        """The end of what the kernel wrote to stdout and stderr of its own."""
        return self.log.read_text(errors="replace")[-_LOG_TAIL:] if self.log.exists() else ""

    def processes(self) -> set[psutil.Process]:
        """All live processes that were started from this sandbox, whoever their parent is now."""
        found = set()
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                if process.environ().get(MARKER) == str(self.root) and not is_gone(process):
                    found.add(process)
        return found

    def record(self, processes: Iterable[psutil.Process]) -> None:
        """Remember processes that must be gone at the end, also if they cleared their environment."""
        self._recorded.update(processes)

    def state(self) -> str:
        """What its processes do just now, for a failure message."""
        lines = []
        for process in sorted(self.processes(), key=lambda process: process.pid):
            lines.append(describe(process))
            with suppress(psutil.Error, OSError):
                connections = Counter(f"{c.laddr.port} {c.status}" for c in process.net_connections("tcp"))
                lines.append(f"  tcp: {', '.join(f'{what} x {count}' for what, count in connections.items())}")
            for thread in sorted(Path(f"/proc/{process.pid}/task").glob("*")):
                with suppress(OSError):
                    name, waits, call = ((thread / f).read_text().strip() for f in ("comm", "wchan", "syscall"))
                    lines.append(f"  {name}: {waits}, system call {call.split()[0]}")
        return "\n".join(lines)

    def still_running(self) -> list[str]:
        """The processes left over, a line each."""
        self.record(self.processes())
        return sorted(describe(process) for process in self._recorded if not is_gone(process))

    def files(self) -> list[str]:
        """What lies where sockets, temporary and connection files are made, relative to the sandbox."""
        found = []
        for folder in (self.tmp, self.xdg, self.runtime):
            for parent, below, files in os.walk(folder):  # goes on if a folder is removed meanwhile
                found += [os.path.relpath(os.path.join(parent, name), self.root) for name in (*below, *files)]
        return sorted(found)

    def leftovers(self, timeout: float | None = None, ignore: Iterable[str] = ()) -> list[str]:
        """Processes and files that are there after `timeout` seconds; returns at once when nothing is left."""

        def left() -> list[str]:
            return self.still_running() + sorted(set(self.files()) - set(ignore))

        poll_until(lambda: not left(), self.gone_within if timeout is None else timeout)
        return left()

    def kill_everything(self) -> None:
        """SIGKILL to the sandbox's processes, also to such as start meanwhile."""

        def none_left() -> bool:
            self.record(self.processes())
            left = [process for process in self._recorded if not is_gone(process)]
            for process in left:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            return not left

        poll_until(none_left, 5)
