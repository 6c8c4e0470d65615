"""Which variable a process is loading: a note that outlives it, if that is what ends it.

It is a page of a file that both have mapped: to write there takes no system call, and needs no thread that lives on.
"""

from __future__ import annotations

import mmap
import os
from contextlib import suppress
from pathlib import Path

_SIZE = 512


class LoadingNote:
    """Where a process writes, as long as it lives. Without room for a file it writes nowhere."""

    def __init__(self, path: Path) -> None:
        self._page: mmap.mmap | None = None
        with suppress(OSError):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, bytes(_SIZE))  # a page that has no place on the disk couldn't be written to later
                self._page = mmap.mmap(fd, _SIZE)
            finally:
                os.close(fd)

    def write(self, name: str) -> None:
        """`name` is about to be loaded; "": it was."""
        if self._page is not None:
            data = name.encode(errors="replace")[: _SIZE - 1] + b"\0"
            self._page[: len(data)] = data


def read_note(path: Path) -> str:
    """What was being loaded when the process that wrote there ended; "" if nothing was. The file is gone then."""
    found = b""
    with suppress(OSError):
        found = path.read_bytes()
        path.unlink()
    return found.partition(b"\0")[0].decode(errors="replace")
