"""What ``mpkernel info`` says that the machine can't know: versions, limits, fast paths, and why one of them isn't on.

Each is tried, not read off a version, where that costs little.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import sys
from collections.abc import Iterator
from typing import Any

import zmq

from mpkernel.broker.beside import MAX_BESIDE
from mpkernel.broker.waiting import MAX_WAITING
from mpkernel.namespace import hugepages
from mpkernel.namespace.pressure import limits
from mpkernel.namespace.segments import Segments
from mpkernel.namespace.transport import Memfds, Transport

_PR_GET_CHILD_SUBREAPER = 37  # include/uapi/linux/prctl.h

Fact = dict[str, Any]


def describe(
    *,
    forks: bool,
    transport: Transport,
    segments: Segments,
    memory_cap: int,
    patience: float,
    curve: bool,
    watches_parent: bool,
    records: bool,
) -> Fact:
    """Content of the answer."""
    soft, hard = map(_bounded, resource.getrlimit(resource.RLIMIT_NOFILE))
    return {
        "versions": {
            "python": platform.python_version(),
            "pyzmq": zmq.__version__,
            "libzmq": zmq.zmq_version(),
            "system": f"{platform.system()} {platform.release()}",
        },
        "limits": {
            "open_files": soft,
            "open_files_at_most": hard,
            "open_files_now": _open_files_now(),
            "copies_bytes": memory_cap,
            "copies_bytes_now": segments.total,
            "copies_now": len(segments),
            "processes_of_the_user": _bounded(resource.getrlimit(resource.RLIMIT_NPROC)[0]),
            "memory": [
                {"name": limit.name, "bytes": limit.total, "available_bytes": limit.available} for limit in limits()
            ],
            "waiting_bytes": MAX_WAITING,
            "beside_bytes": MAX_BESIDE,
            "reader_patience_s": patience,
        },
        "event_log": records,
        "encrypted": curve,
        "fast_paths": [
            {"name": name, "on": not why, "why": why} for name, why in _paths(forks, transport, watches_parent)
        ],
    }


def _bounded(limit: int) -> int | None:
    return None if limit == resource.RLIM_INFINITY else limit


def _paths(forks: bool, transport: Transport, watches_parent: bool) -> Iterator[tuple[str, str]]:
    """Name, and why it isn't on; "" if it is."""
    linux = "" if sys.platform == "linux" else "Linux only"
    yield (
        "fork",
        "" if forks else "workers are spawned: start_method, MPKERNEL_START, or the system's default",
    )
    memfds = isinstance(transport, Memfds)
    yield (
        "memfd",
        ""
        if memfds
        else linux or "switched off (MPKERNEL_SEGMENTS=files), or the system has none, or forbids them, or hides /proc",
    )
    yield "huge pages", (linux or hugepages.why_not()) if memfds else "only where there are memfds"
    userfault = linux or _why_not_userfault()
    yield "userfault", userfault
    yield "cold arrays", (userfault or _why_not_cold()) if memfds else "only where there are memfds"
    yield "mremap", linux or ("" if _linux() >= (5, 13) else "needs Linux 5.13: changed arrays are copied")
    yield "subreaper", linux or _why_no_subreaper(forks)
    yield (
        "pidfd",
        _why_not_pidfd() or ("" if watches_parent else "nobody to watch: the kernel wasn't started by a front end"),
    )
    yield "peer pid", linux and "the system doesn't tell who sends: password and signature count"


def _why_not_userfault() -> str:
    from mpkernel.namespace.pages import PageTracker

    if PageTracker.available():
        return ""
    return "needs Linux 6.7 with userfaultfd allowed (a container may forbid it): large arrays are hashed"


def _why_not_cold() -> str:
    from mpkernel.namespace import cold

    return cold.why_not()


def _why_not_pidfd() -> str:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else "the system has none"
        return f"{why}: the parent is looked for once a second"
    return ""


def _linux() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2] if part.isdigit())


def _why_no_subreaper(forks: bool) -> str:
    answer = ctypes.c_int()
    libc = ctypes.CDLL(None, use_errno=True)
    asked = libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer), 0, 0, 0) == 0
    if asked and answer.value == 1:
        return ""
    if asked and not forks:
        return "not needed: workers are spawned"
    return "prctl refused it: forked workers can't be reaped"


def _open_files_now() -> int | None:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None
