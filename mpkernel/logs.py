"""Where mpkernel's own log goes: the stderr that the kernel was started with, and to the broker, for ``mpkernel logs``.

Only our loggers are touched. The root logger belongs to the user's code, in whose process a worker runs, and whose
stderr is a cell's output.
"""

from __future__ import annotations

import json
import logging
import os
import select
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

FORMAT = "[mpkernel %(process)d %(levelname)s %(asctime)s] %(message)s"
FORMS = ("text", "json")
# Of the last so many lines, from this level on, the broker keeps so many characters each. What cells say is logged at
# debug only, so it isn't among them.
KEPT_LINES, KEPT_LEVEL, KEPT_CHARS = 1000, logging.INFO, 4000
# No more than so many a second are handed on: code that logs without end must not fill the broker's memory.
MOST_A_SECOND = KEPT_LINES

Line = dict[str, Any]  # time (ISO 8601, UTC), level, pid, logger, text


def silence(fds: Iterable[int]) -> None:
    """Drop what is written to `fds` from now on."""
    for fd in fds:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, fd)
        os.close(null)


def to_fd(fd: int, level: int | str, form: str = "text") -> None:
    """Log to `fd` from now on, from `level` (a number or a name of `logging`), in one of `FORMS`."""
    logger = logging.getLogger("mpkernel")
    handler = logging.StreamHandler(_Unblocked(fd))
    handler.setFormatter(_JsonLines() if form == "json" else _Lines(FORMAT, "%H:%M:%S"))
    handler.setLevel(level)
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def hand_on(put: Callable[[Line], None], level: int = KEPT_LEVEL) -> None:
    """Give what is logged from `level` on to `put`, too."""
    logger = logging.getLogger("mpkernel")
    handler = _Handler(put)
    handler.setLevel(level)
    logger.addHandler(handler)
    logger.setLevel(min(logger.level, level))


def keep() -> deque[Line]:
    """The last lines, from now on."""
    lines: deque[Line] = deque(maxlen=KEPT_LINES)
    hand_on(lines.append)
    return lines


class _Unblocked:
    """Writes to a file descriptor what there is room for: nobody may read the pipe that was given us as stderr.

    It isn't set to not block, as this would hold for all who have it. Up to `select.PIPE_BUF` bytes find room in a pipe
    that can be written to (pipe(7)); what doesn't is dropped.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, text: str) -> None:
        data = text.encode(errors="backslashreplace")
        with suppress(OSError):  # closed
            while data and self._has_room():
                data = data[os.write(self._fd, data[: select.PIPE_BUF]) :]

    def _has_room(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        return bool(poll.poll(0))

    def flush(self) -> None:
        """Nothing waits."""


class _Handler(logging.Handler):
    def __init__(self, put: Callable[[Line], None]) -> None:
        super().__init__()
        self._put = put
        self._second = 0
        self._count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Called with the handler's lock held."""
        second = int(record.created)
        if second != self._second:
            self._second, self._count = second, 0
        self._count += 1
        if self._count <= MOST_A_SECOND:
            self._put(_line(record))


class _Lines(logging.Formatter):
    def formatException(self, ei: Any) -> str:
        """Its traceback, or why there is none: the exception may be a user's, whose own methods fail."""
        try:
            return super().formatException(ei)
        except Exception as failure:  # noqa: BLE001 - whatever it is, what failed is to be told
            return f"{ei[0].__name__} (its traceback can't be shown: {type(failure).__name__})"


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(_line(record, most=None))


def _line(record: logging.LogRecord, most: int | None = KEPT_CHARS) -> Line:
    text = record.getMessage()
    if record.exc_info:
        text += "\n" + _Lines().formatException(record.exc_info)
    time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    return {
        "time": time,
        "level": record.levelname.lower(),
        "pid": record.process,
        "logger": record.name,
        "text": text[:most],
    }
