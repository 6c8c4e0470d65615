"""What a process of the kernel needs around it, whoever started it: standard files, a working directory, threads."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections.abc import Callable

from mpkernel.errors import StartError

# What to look at when the system refuses a process, a thread or a file.
LIMITS = "limits: `ulimit -a`, and those of the container; fewer subshells need less"
_LIMITED = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def refusal(error: OSError) -> str:
    """Why a process, a thread or a file can't be had, and what to do."""
    what = f"{error.strerror}: {error.filename}" if error.filename else str(error.strerror)
    return f"{what} ({LIMITS})" if error.errno in _LIMITED else what


def refusal_said(words: str) -> str:
    """The same from the last words of a process that ended by it (libzmq aborts, Python raises), or ""."""
    if "can't start new thread" in words or os.strerror(errno.EAGAIN) in words:
        return f"no more processes or threads are allowed ({LIMITS})"
    if os.strerror(errno.EMFILE) in words:
        return f"{os.strerror(errno.EMFILE)} ({LIMITS})"
    return ""


def open_standard_files() -> None:
    """Have something on fds 0 to 2 if whoever started us has closed them (a service, `2>&-`).

    Else sockets would get these numbers, and workers would replace them by what cells print.
    """
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
        stream = open(fd, "w" if fd else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
        setattr(sys, ("stdin", "stdout", "stderr")[fd], stream)
    os.close(fd)


def leave_deleted_folder() -> None:
    """Go home if the working directory doesn't exist any more: IPython doesn't start there."""
    try:
        os.getcwd()
    except FileNotFoundError:
        for folder in (os.path.expanduser("~"), "/"):
            if os.access(folder, os.X_OK):
                os.chdir(folder)
                print(f"mpkernel: the working directory was deleted; now it is {folder}", file=sys.stderr)
                return


def check_threads(count: int) -> None:
    """Raise StartError if `count` more threads are refused: libzmq would abort the process."""
    done = threading.Event()
    threads = [threading.Thread(target=done.wait, daemon=True) for _ in range(count)]
    started: list[Callable[[], None]] = []
    try:
        for thread in threads:
            thread.start()
            started.append(thread.join)
    except RuntimeError as error:
        raise StartError(f"the system refuses another thread: no more are allowed ({LIMITS})") from error
    finally:
        done.set()
        for join in started:
            join()
