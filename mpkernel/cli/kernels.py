"""The kernels of this user: their connection files in the Jupyter runtime directory, and who listens there.

A connection file says that there was a kernel, of whatever implementation, not that there is one.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from mpkernel import connection
from mpkernel.connection import ConnectionInfo
from mpkernel.errors import ConnectionFileError

PREFIX, SUFFIX = "kernel-", ".json"
# How long a connection attempt may take. On this machine it takes no time; a host that is gone never answers.
REACH_TIMEOUT_S = 1.0
_MAX_THREADS = 64


@dataclass(frozen=True, slots=True)
class Kernel:
    """A connection file: one kernel, be it alive or not, ours or not."""

    id: str
    path: Path
    info: ConnectionInfo = field(compare=False, repr=False)  # has the key
    modified_ns: int  # when the file was written, in ns since the epoch


class Reach(Enum):
    """What came of connecting to a kernel's control port."""

    LISTENING = "listening"
    REFUSED = "refused"  # certain: nobody is there
    UNKNOWN = "unknown"  # no answer from the host, or an address that can't be tried from here


def runtime_directory() -> Path:
    """Where Jupyter keeps the connection files of this user."""
    from jupyter_core.paths import jupyter_runtime_dir

    return Path(jupyter_runtime_dir())


def at(path: Path) -> Kernel:
    """The kernel of the connection file `path`. Raises ConnectionFileError."""
    info = connection.read(path)
    try:
        modified = path.stat().st_mtime_ns
    except OSError as error:
        raise ConnectionFileError(f"connection file {path} can't be read: {error}") from error
    return Kernel(path.stem.removeprefix(PREFIX), path.absolute(), info, modified)


def find(directory: Path) -> tuple[list[Kernel], list[str]]:
    """All kernels in `directory` by name of their file, and what is wrong with the files that can't be read."""
    found, problems = [], []
    for path in sorted(directory.glob(f"{PREFIX}*{SUFFIX}")):
        if not path.is_file():
            continue
        try:
            found.append(at(path))
        except ConnectionFileError as error:
            if path.exists():  # a kernel that ends removes its file
                problems.append(str(error))
    return found, problems


def reach(info: ConnectionInfo, timeout: float = REACH_TIMEOUT_S) -> Reach:
    """Try the control port, the one that any live kernel listens on.

    `connection.is_listening` answers no for a refusal and for silence alike. Here the difference decides whether a
    file is shown as dead and may be removed.
    """
    port = info.ports["control"]
    if not port:
        return Reach.REFUSED
    try:
        if info.transport == "ipc":
            address = f"{info.ip}-{port}"
            if not os.path.isabs(address):  # relative to the kernel's directory, which isn't ours
                return Reach.UNKNOWN
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.settimeout(timeout)
                probe.connect(address)
        else:
            socket.create_connection((info.ip, port), timeout).close()
    except (ConnectionRefusedError, FileNotFoundError):
        return Reach.REFUSED
    except OSError:
        return Reach.UNKNOWN
    return Reach.LISTENING


def reach_all(kernels: Sequence[Kernel], timeout: float = REACH_TIMEOUT_S) -> list[Reach]:
    """`reach` for each of `kernels`, side by side."""
    from concurrent.futures import ThreadPoolExecutor

    if not kernels:
        return []
    with ThreadPoolExecutor(min(len(kernels), _MAX_THREADS)) as pool:
        return list(pool.map(lambda kernel: reach(kernel.info, timeout), kernels))
