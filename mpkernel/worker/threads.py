"""Threads of the kernel's own, in the process that runs the user's code."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class KernelThread(threading.Thread):
    """A daemon thread that debuggers neither show nor stop: it has to answer while the user's threads stand still."""

    # As pydevd, the core of debugpy, asks for them.
    pydev_do_not_trace = True
    is_pydev_daemon_thread = True

    def __init__(self, name: str, target: Any = None, args: tuple[Any, ...] = ()) -> None:
        super().__init__(name=f"mpkernel-{name}", target=target, args=args, daemon=True)


def leave_alone(thread: Any) -> None:
    """Have debuggers treat `thread` (an object or a class), which others made, as a `KernelThread`."""
    thread.pydev_do_not_trace = thread.is_pydev_daemon_thread = True


def executor(name: str) -> ThreadPoolExecutor:
    """Runs one thing at a time in such a thread."""
    return ThreadPoolExecutor(1, f"mpkernel-{name}", initializer=lambda: leave_alone(threading.current_thread()))


def is_users(thread: threading.Thread) -> bool:
    """Whether code of the user's may run in `thread`."""
    return not (
        isinstance(thread, KernelThread)
        or thread.name.startswith(("mpkernel-", "IPythonHistorySaving"))
        or getattr(thread, "is_pydev_daemon_thread", False)
    )
