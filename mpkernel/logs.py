"""Where mpkernel's own log goes: the stderr that the kernel was started with.

Only our loggers are touched. The root logger belongs to the user's code, in whose process a worker runs, and whose
stderr is a cell's output.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable

FORMAT = "[mpkernel %(process)d %(levelname)s %(asctime)s] %(message)s"


def silence(fds: Iterable[int]) -> None:
    """Drop what is written to `fds` from now on."""
    for fd in fds:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, fd)
        os.close(null)


def to_fd(fd: int, level: int | str) -> None:
    """Log to `fd` from now on, from `level` (a number or a name of `logging`)."""
    logger = logging.getLogger("mpkernel")
    handler = logging.StreamHandler(open(fd, "w", buffering=1, closefd=False))  # noqa: SIM115
    handler.setFormatter(logging.Formatter(FORMAT, "%H:%M:%S"))
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False
