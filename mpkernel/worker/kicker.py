"""Signals with which a worker kicks its own main thread out of a system call, or out of the user's code.

Two uses: a signal's Python handler has to run soon, and code of the user's objects has to end in time.
"""

from __future__ import annotations

import os
import resource
import signal
import threading
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic  # by name: a cell may put another clock into the module

from mpkernel.errors import TookTooLong
from mpkernel.messages import KICK_SIGNAL

# A signal of the real-time kind isn't taken where none may wait (RLIMIT_SIGPENDING); this one always is. Nobody else
# needs it, as nothing is told by it that sockets don't tell otherwise.
STAND_IN = signal.SIGURG
_WAITING = getattr(resource, "RLIMIT_SIGPENDING", None)  # Linux has it

# Seconds until the second kick, doubled from one to the next. C code that runs on after the last lets no handler run.
FIRST_KICK_DELAY, LAST_KICK_DELAY = 0.002, 2.0


# The IO thread looks again after so many seconds whether a limit that stands still goes on.
LOOK_AGAIN = 0.05


@dataclass(slots=True)
class _Limit:
    at: float  # monotonic seconds
    over: bool = False
    left: float | None = None  # seconds, while it stands still

    def pause(self) -> None:
        """In the main thread: what comes now doesn't count."""
        if self.left is None:
            self.left = self.at - monotonic()

    def go_on(self) -> None:
        """In the main thread: what comes now counts again."""
        if self.left is not None:
            self.at, self.left = monotonic() + max(self.left, 0.0), None


class Kicker:
    """Sees to it that Python's handler of a signal runs soon.

    A signal's C handler only takes a note; Python's runs at the next bytecode. If the main thread was on its way into
    a system call that waits (`time.sleep`, the loop's epoll), it gets there after the call: measured, 1 to 3 of 100
    interrupts in the first milliseconds of a cell were stuck like that. The C handler also writes a byte that wakes
    the IO thread (`signal.set_wakeup_fd`), which ends the main thread's call by another signal, until that one's
    Python handler has run - and with it, in the same pass, the first one's.
    """

    def __init__(self, wakeup_fd: int) -> None:
        self.due: float | None = None  # when the IO thread is to call `kick`
        self._wakeup_fd = wakeup_fd
        self._main = threading.main_thread().ident or 0
        self._sent = self._handled = 0
        self._delay = 0.0
        self._limit: _Limit | None = None
        self.make_way: Callable[[], None] = lambda: None  # called in the main thread, when the broker kicks

    @contextmanager
    def limit(self, seconds: float) -> Iterator[_Limit | None]:
        """In the main thread: what runs in here is ended by `TookTooLong` after so many seconds, pauses not counted.

        Gives None, and ends nothing, in other threads, and within another limit.
        """
        if threading.get_ident() != self._main or self._limit is not None:
            yield None
            return
        limit = self._limit = _Limit(monotonic() + seconds)
        with suppress(BlockingIOError):
            os.write(self._wakeup_fd, b"\0")  # the IO thread sets its alarm
        try:
            yield limit
        finally:
            self._limit = None

    def next_due(self) -> float | None:
        """In the IO thread: when to call `act`, if at all."""
        limit = self._limit
        times = (self.due, None if limit is None else limit.at)
        return min((at for at in times if at is not None), default=None)

    def act(self) -> None:
        """In the IO thread, when something is due."""
        now = monotonic()
        if self.due is not None and self.due <= now:
            self.kick()
        if (limit := self._limit) is None or limit.at > now:
            return
        if (left := limit.left) is not None:
            limit.at = now + max(left, LOOK_AGAIN)
        else:
            limit.at = now + FIRST_KICK_DELAY  # again, should the signal come between two system calls
            limit.over = True
            self._signal()

    def install(self) -> None:
        """In the main thread. A wakeup fd of the user's (`loop.add_signal_handler`) stays."""
        signal.signal(KICK_SIGNAL, self._on_kick)
        none_may_wait = _WAITING is not None and resource.getrlimit(_WAITING)[0] == 0
        if none_may_wait and signal.getsignal(STAND_IN) == signal.SIG_DFL:
            signal.signal(STAND_IN, self._on_kick)
        theirs = signal.set_wakeup_fd(self._wakeup_fd, warn_on_full_buffer=False)
        if theirs not in (-1, self._wakeup_fd):
            with suppress(OSError, ValueError):  # it was closed
                signal.set_wakeup_fd(theirs)

    def _on_kick(self, _signum: int, frame: types.FrameType | None) -> None:
        limit = self._limit
        if limit is not None and limit.over:
            limit.over = False
            if _imports(frame):  # half a module would stay
                limit.at = monotonic() + LOOK_AGAIN
            elif limit.left is None:
                raise TookTooLong
            return
        if self._handled == self._sent:  # not ours, so the broker's
            self.make_way()
        self._handled = self._sent

    def noticed(self) -> None:
        """In the IO thread: some signal's C handler has run."""
        self.due, self._delay = monotonic(), FIRST_KICK_DELAY

    def kick(self) -> None:
        """In the IO thread, when `due`."""
        if (self._delay > FIRST_KICK_DELAY and self._handled == self._sent) or self._delay > LAST_KICK_DELAY:
            self.due = None
            return
        self._sent += 1
        self._signal()
        self._delay *= 2
        self.due = monotonic() + self._delay

    def _signal(self) -> None:
        try:
            signal.pthread_kill(self._main, KICK_SIGNAL)
        except BlockingIOError:  # too many wait already; it is sent again
            signal.pthread_kill(self._main, STAND_IN)


def _imports(frame: types.FrameType | None) -> bool:
    """Whether a module is being imported."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False
