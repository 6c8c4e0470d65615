"""Writing much memory to files at once: as fast as the machine can, beside threads that want to run Python meanwhile.

pwrite(2) straight from the buffer is as fast as two threads copying into a mapping (each page of which must be faulted
in first), and a file is written by one thread at a time; hence several files, with a thread for each.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

Piece = tuple[int, memoryview]  # where it begins in all of the files together, and its bytes

# Bytes of a file from which on a thread of its own is worth while: it takes 15 ms to write.
STRIPE_FROM = 32 << 20
# One call can't be interrupted, and after each the GIL has to be had again, which takes 5 ms beside a busy thread.
_AT_ONCE = 64 << 20
_PIECES_AT_ONCE = 1000  # IOV_MAX is 1024


def write_parts(fds: Sequence[int], stripe: int, pieces: Sequence[Piece]) -> None:
    """Write the pieces (sorted) to files that each have `stripe` bytes, the last one fewer. Raises OSError."""
    jobs = [_Job(fd, part) for fd, part in zip(fds, _split(pieces, stripe, len(fds)), strict=True)]
    threads = [thread for job in jobs[1:] if (thread := job.start()) is not None]
    try:
        for job in jobs:
            if not job.started:
                job.run()
        for thread in threads:
            thread.join()
    finally:
        for job in jobs:
            job.stopped = True
    for job in jobs:
        if job.error is not None:
            raise job.error


class _Job:
    """What one thread writes to one file."""

    def __init__(self, fd: int, pieces: list[Piece]) -> None:
        self._fd = fd
        self._pieces = pieces
        self.started = False
        self.stopped = False
        self.error: Exception | None = None

    def start(self) -> threading.Thread | None:
        """Run in a thread; None if there can't be one."""
        # With a handle of its own: an interrupt may end `write_parts`, and the file be closed, before the thread ends.
        own = os.dup(self._fd)
        thread = threading.Thread(target=self._run_and_close, args=(own,), name="mpkernel-write", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # a limit of the system, or the interpreter is about to end
            os.close(own)
            return None
        self.started = True
        return thread

    def run(self) -> None:
        self._write(self._fd)

    def _run_and_close(self, own: int) -> None:
        try:
            self._write(own)
        except Exception as error:
            self.error = error
        finally:
            os.close(own)

    def _write(self, fd: int) -> None:
        batch: list[memoryview] = []
        start = end = 0
        for offset, view in self._pieces:
            for at in range(0, view.nbytes, _AT_ONCE):
                part = view[at : at + _AT_ONCE]
                full = len(batch) == _PIECES_AT_ONCE or end - start + part.nbytes > _AT_ONCE
                if batch and (offset + at != end or full):
                    self._write_batch(fd, batch, start)
                    batch = []
                if not batch:
                    start = end = offset + at
                batch.append(part)
                end += part.nbytes
        if batch:
            self._write_batch(fd, batch, start)

    def _write_batch(self, fd: int, batch: list[memoryview], offset: int) -> None:
        if self.stopped:
            return
        done = os.pwritev(fd, batch, offset)
        for view in batch:  # the rest, if it wasn't all
            skip = min(done, view.nbytes)
            view, offset, done = view[skip:], offset + skip, done - skip
            while view.nbytes:
                more = os.pwrite(fd, view, offset)
                view, offset = view[more:], offset + more


def _split(pieces: Sequence[Piece], stripe: int, parts: int) -> list[list[Piece]]:
    """The pieces of each file, with their offsets in it."""
    result: list[list[Piece]] = [[] for _ in range(parts)]
    for offset, view in pieces:
        while view.nbytes:
            part, at = divmod(offset, stripe)
            piece = view[: stripe - at]
            result[part].append((at, piece))
            view, offset = view[piece.nbytes :], offset + piece.nbytes
    return result
