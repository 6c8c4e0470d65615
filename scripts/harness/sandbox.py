"""Directories and environment of the kernels under test, and the proof that nothing of them is left.

Everything that a kernel could write to is below one short temporary folder. Its processes are known by a variable in
the environment they were started with, so that re-parenting doesn't hide them; only those are ever killed.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

MARKER = "MPB_SANDBOX"
POLL = 0.005  # seconds between two looks at what sends no message
# Would make a kernel under test behave unlike one that a front end starts: without byte code, for example.
_NOT_INHERITED = ("JUPYTER", "JPY_", "IPY", "PYTEST_", "MPLBACKEND", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")


def clean_up_when_terminated() -> None:
    """Have SIGTERM end this program as an exception does: through the sandboxes' ends."""
    signal.signal(signal.SIGTERM, lambda signum, _frame: sys.exit(128 + signum))


def poll_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Whether `condition` came true within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


@functools.cache
def _cache() -> str:
    """A folder for caches that all kernels of this run share, as one user's do: Jedi is slow without."""
    folder = tempfile.mkdtemp(prefix="mpb-cache-", dir="/tmp")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class Sandbox:
    """A context manager: at its end all processes that were started in it are killed and the folder is removed."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="mpb-", dir="/tmp"))  # short: socket paths end at 108 bytes
        self.runtime = self.folder("runtime")
        self.data = self.folder("data")
        self.tmp = self.folder("tmp")
        self.xdg = self.folder("xdg")
        self.cwd = self.folder("cwd")
        self.home = self.folder("home")

    def folder(self, name: str) -> Path:
        path = self.root / name
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        return path

    def __enter__(self) -> Sandbox:
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
            "JUPYTER_CONFIG_DIR": str(self.folder("config")),
            "IPYTHONDIR": str(self.folder("ipython")),
            "XDG_CACHE_HOME": _cache(),
        }

    def processes(self) -> list[int]:
        """The pids of all live processes that were started in this sandbox."""
        wanted = f"{MARKER}={self.root}".encode()
        found = []
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                environ = Path(f"/proc/{entry.name}/environ").read_bytes().split(b"\0")
                if wanted in environ and _state(int(entry.name)) not in ("Z", "X", ""):
                    found.append(int(entry.name))
        return found

    def files(self) -> list[str]:
        """What lies where sockets, temporary and connection files are made."""
        return sorted(
            str(path.relative_to(self.root))
            for folder in (self.tmp, self.xdg, self.runtime)
            for path in folder.rglob("*")
        )

    def leftovers(self, timeout: float = 2.0) -> list[str]:
        """Processes and files that are there after `timeout` seconds; returns at once when there are none."""

        def left() -> list[str]:
            return [_describe(pid) for pid in self.processes()] + self.files()

        poll_until(lambda: not left(), timeout)
        return left()

    def kill_everything(self) -> None:
        """SIGKILL to the sandbox's processes, also to such as start meanwhile."""

        def none_left() -> bool:
            pids = self.processes()
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return not pids

        poll_until(none_left, 5)


def _state(pid: int) -> str:
    """The state letter in /proc/PID/stat (proc(5)); empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def _describe(pid: int) -> str:
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return f"process {pid} ({_state(pid)}): {command.strip()}"
    return f"process {pid}: gone meanwhile"
