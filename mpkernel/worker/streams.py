"""stdout and stderr of a worker: what Python prints, and what C code and child processes write to fds 1 and 2.

Both go to the cell they belong to, in the order in which they were written. Python text is queued directly, with the
request it belongs to (`Parents`). Fds 1 and 2 are FIFOs that the IO thread reads (and the broker, if the process dies
before it could). Before Python text is queued, what
the pipe holds by then is queued first; both readers take the pipe's lock, so nothing can overtake.
"""

from __future__ import annotations

import codecs
import ctypes
import fcntl
import functools
import io
import os
import platform
import sys
import termios
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from mpkernel.settings import STREAMS, WorkerSettings
from mpkernel.worker.hooks import Hooked
from mpkernel.worker.lanes import PIPE_DELAY, WorkerLanes
from mpkernel.worker.parents import SILENT, Parents, WithParent
from mpkernel.worker.threads import KernelThread

READ_SIZE = 1 << 16


class Pipe:
    """The read end of what stands behind fd 1 or 2, if these are captured.

    In any case, what user code prints in a child that it has forked comes through here: `write_end`.
    """

    def __init__(self, name: str, fd: int, fifo: Path, lanes: WorkerLanes, parents: Parents, *, capture: bool) -> None:
        self._name = name
        self._read_end = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)  # for writing too: no end when all writers are gone
        self.write_end = os.open(fifo, os.O_WRONLY)
        if capture:
            os.dup2(self.write_end, fd)
            os.close(self.write_end)
            self.write_end = fd
        self._lanes = lanes
        self._parents = parents
        self._lock = threading.RLock()  # a `__del__` may print while its thread reads
        self._reader: int | None = None  # the thread that has the lock
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._available = ctypes.c_int(0)
        self._ask_available = self._available_asker()
        lanes.add_pipe(self._read_end, self.drain)

    def _available_asker(self) -> Callable[[], object]:
        """A function that puts the number of bytes in the pipe into `_available`.

        Called for each piece of text. `fcntl.ioctl` lets go of the GIL and has to wait for it while the IO thread
        sends: 5 µs, where the call by ctypes takes 0.7. (On macOS ctypes can't call variadic functions on every CPU.)
        """
        fd, available = self._read_end, self._available
        if platform.system() == "Linux":
            ioctl = ctypes.PyDLL(None).ioctl
            ioctl.argtypes = [ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p]
            return functools.partial(ioctl, fd, termios.FIONREAD, ctypes.byref(available))
        return functools.partial(fcntl.ioctl, fd, termios.FIONREAD, available)

    def is_behind(self) -> bool:
        """Whether something waits to be read, or was read by another thread, which is about to queue it."""
        return self._waiting_bytes() > 0 or (self._reader is not None and self._reader != threading.get_ident())

    def _waiting_bytes(self) -> int:
        self._ask_available()
        return self._available.value

    def drain(self) -> None:
        """Queue what has been written so far. (Who writes as fast as this reads would hold us up for ever.)"""
        with self._lock:
            outer, self._reader = self._reader, threading.get_ident()
            try:
                self._read_all()
            finally:
                self._reader = outer

    def _read_all(self) -> None:
        left = max(self._waiting_bytes(), 1)
        while left > 0:
            try:
                data = os.read(self._read_end, READ_SIZE)
            except BlockingIOError:
                return
            if not data:  # a cell has put another file there
                return
            left -= len(data)
            if text := self._decode(data):
                self._lanes.write((self._name, self._parents.current, text))


class OutStream(Hooked, WithParent, io.TextIOBase):
    """`sys.stdout` and `sys.stderr` of the shell."""

    encoding = "UTF-8"
    errors = "backslashreplace"
    line_buffering = True
    closed = False

    def __init__(
        self,
        name: str,
        fd: int,
        lanes: WorkerLanes,
        parents: Parents,
        pipe: Pipe,
        wait_for_readers: Callable[[], None],
    ) -> None:
        self.name = self._name = name
        self._fd = fd
        self._lanes = lanes
        self._codec = lanes.codec
        self._given_parents = parents
        self._pipe = pipe
        self._wait_for_readers = wait_for_readers
        self._forked = False
        self._rest_of_line = ""  # printed by a process that user code has forked
        os.register_at_fork(after_in_child=self._note_fork)
        self.echo: TextIO | None = None  # gets all text, too

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._forked:  # by user code: there's no IO thread here, but the pipe is
            lines, newline, self._rest_of_line = (self._rest_of_line + text).rpartition("\n")
            self._write_to_pipe(lines + newline)  # whole lines: others print, too
            return len(text)
        parent = self._given_parents.get()
        if parent is SILENT["header"]:
            return len(text)
        if text != "\n" and self._pipe.is_behind():
            self._pipe.drain()
        if self._hooks_by_thread is not None and self._hooks:
            content = {"name": self._name, "text": text}
            message = self._past_hooks(self._codec, parent, "stream", content)
            text_left = "" if message is None else str(message["content"].get("text", ""))
        else:
            text_left = text
        if self.echo is not None:
            self.echo.write(text_left)
            self.echo.flush()
        if text_left:
            self._lanes.write((self._name, parent, text_left))
            if self._lanes.pace.crowded:
                self._wait_for_readers()
        return len(text)

    def _is_master_process(self) -> bool:
        """Whether this isn't a child that user code forked; ipykernel's streams have it."""
        return not self._forked

    def _write_to_pipe(self, text: str) -> None:
        if text:
            os.write(self._pipe.write_end, text.encode(errors="backslashreplace"))

    def _note_fork(self) -> None:
        self._forked, self._rest_of_line = True, ""

    def writelines(self, lines: Iterable[str]) -> None:  # type: ignore[override]
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Wait until the broker has what was written: it is shown even if the process dies right after."""
        if self._forked:
            rest, self._rest_of_line = self._rest_of_line, ""
            self._write_to_pipe(rest)
        elif self._pipe.is_behind():
            self._pipe.drain()
        self._lanes.flush()

    @property
    def _parents(self) -> Parents:
        return self._given_parents

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Stays open: others print here too."""

    @property
    def buffer(self) -> io.BufferedIOBase:
        """A binary writer onto the same stream, for code that uses ``sys.stdout.buffer``."""
        return _Binary(self)

    def reconfigure(self, **_: Any) -> None:
        """Accepted, as `io.TextIOWrapper` has it; there is nothing to configure."""


class _Binary(io.BufferedIOBase):
    def __init__(self, stream: OutStream) -> None:
        self._stream = stream

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data).decode("utf-8", errors="replace"))
        return len(data)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        """As of the stream."""


class Streams:
    """Redirects a worker's output, once."""

    def __init__(
        self,
        lanes: WorkerLanes,
        parents: Parents,
        settings: WorkerSettings,
        worker: int,
        wait_for_readers: Callable[[], None],
    ) -> None:
        self._lanes = lanes
        self._pipes: list[Pipe] = []
        for name, fd in STREAMS.items():
            echo = None if settings.quiet else open(os.dup(fd), "w", encoding="utf-8", errors="replace")  # noqa: SIM115
            pipe = Pipe(name, fd, settings.fifo(worker, fd), lanes, parents, capture=settings.capture_fds)
            self._pipes.append(pipe)
            stream = OutStream(name, fd, lanes, parents, pipe, wait_for_readers)
            stream.echo = echo
            setattr(sys, name, stream)
        self._libc_flush = _line_buffered_libc() if settings.capture_fds else lambda: None

    @contextmanager
    def drained(self) -> Iterator[None]:
        """While there is no IO thread yet to read the pipes: a program that prints much would wait for ever."""
        done = threading.Event()

        def drain() -> None:
            while not done.wait(PIPE_DELAY):
                self.drain()

        thread = KernelThread("startup", drain)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def drain(self) -> None:
        """At the end of a cell: everything that it has written is queued."""
        if self._lanes.forked:  # it would take away what its parent shows
            return
        self._libc_flush()
        for pipe in self._pipes:
            if pipe.is_behind():
                pipe.drain()


def _line_buffered_libc() -> Callable[[], object]:
    """Have C's stdout write at each line, as on a terminal; returns a function that flushes it."""
    libc = ctypes.CDLL(None)
    try:
        stdout = ctypes.c_void_p.in_dll(libc, "stdout" if sys.platform != "darwin" else "__stdoutp")
    except ValueError:  # a libc without that symbol
        return lambda: None
    libc.setvbuf(stdout, None, 1, 0)  # _IOLBF
    return lambda: libc.fflush(stdout)  # not all there are: that would wait for a thread that reads from one
