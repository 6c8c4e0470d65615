"""Lets a worker print no faster than front ends read.

After each `MARK_EVERY` bytes of output a `Mark` is sent behind it, which the broker answers when front ends have been
given what came before. As long as more than `WINDOW` is without answer, who prints waits, and what children of the
worker write stays in their pipe, so that they wait, too.

Nobody waits who can't be interrupted: user code in the main thread waits only in a window of `interrupts`, and the IO
thread, which has to read the answer, never.
"""

from __future__ import annotations

import itertools
import queue
from collections.abc import Callable

from mpkernel.messages import Mark

MARK_EVERY = 1 << 18
WINDOW = 4 << 20


class Pace:
    """`send` sends a message behind the output that was counted. Any thread may count."""

    def __init__(self, send: Callable[[Mark], None]) -> None:
        self._send = send
        self._tokens = itertools.count(1)
        # Bytes since the last mark. Threads may overwrite each other's sum: it only says when to set the next one.
        self.unmarked = 0
        self._ahead: dict[int, int] = {}  # marks without answer: bytes before them
        self._waiting: list[queue.SimpleQueue[None]] = []
        self.crowded = False  # who prints should wait; two threads may have left it wrong, `look` is right

    def count(self, nbytes: int) -> None:
        """So much output was queued."""
        self.unmarked += nbytes
        if self.unmarked >= MARK_EVERY:
            self.mark()

    def mark(self) -> None:
        """Set a mark behind what was counted."""
        nbytes, self.unmarked = self.unmarked, 0
        token = next(self._tokens)
        self._ahead[token] = nbytes
        self._send(Mark(token))
        self.look()

    def passed(self, token: int) -> None:
        """In the IO thread: the mark was answered."""
        self._ahead.pop(token, None)
        if not self.look():
            for gate in self._waiting.copy():
                gate.put(None)

    def look(self) -> bool:
        """Whether more than the window is without answer."""
        self.crowded = crowded = sum(self._ahead.copy().values()) > WINDOW
        return crowded

    def wait(self) -> None:
        """Until the worker isn't `crowded`. A signal handler may raise out of it."""
        gate: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._waiting.append(gate)
        try:
            while self.look():
                gate.get()
        finally:
            self._waiting.remove(gate)
