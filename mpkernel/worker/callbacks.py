"""Callbacks of comms: a slider is moved, a button is clicked, perhaps while a cell runs.

They are run one at a time, in the order in which their messages came (`messages.CommRequest`):

- in the main thread, on the event loop, if no cell runs, or as soon as the cell awaits something: callbacks and cells
  never run at the same time there, and a callback may end what the cell waits for (``future.set_result``);
- in the main thread between two top-level statements of the cell;
- urgent ones - the front end sends them under a subshell's id, as JupyterLab does - in a thread of their own, if the
  main thread is in the midst of a statement. That is what ipykernel's thread subshells do, and what makes a Stop
  button work; the cell and the callback take turns as any two threads do. The thread has an event loop, as callbacks
  may start tasks. (Rejected: a signal handler that runs them in the main thread between two bytecodes. The cell may
  hold locks there that the callback wants, too.)
"""

from __future__ import annotations

import asyncio
import ctypes
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from mpkernel.messages import CommRequest

# An urgent message waits so many seconds for a main thread that seems to be free.
MAIN_TAKES_IT = 0.25
# What is handled within so many seconds is answered together: what it changed is committed first.
TOGETHER = 0.01


class Callbacks:
    """`put` is called in the IO thread. `handle` runs one message's callback, and raises nothing.

    `begin` is called in the main thread before some are handled; `answer` in either, for those that were.
    `main_is_free` tells whether the event loop runs. With `always_in_thread` the thread takes urgent ones even then:
    they hold up no cell, and aren't in the thread that their objects may belong to.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        begin: Callable[[], None],
        handle: Callable[[CommRequest], None],
        answer: Callable[[list[CommRequest]], None],
        main_is_free: Callable[[], bool],
        in_thread: bool,
        always_in_thread: bool = False,
    ) -> None:
        self._loop = loop
        self._begin = begin
        self._handle = handle
        self._answer = answer
        self._main_is_free = main_is_free
        self._in_thread = in_thread
        self._always_in_thread = always_in_thread
        self._queue: deque[CommRequest] = deque()
        self._came = self._taken = 0
        self._last_urgent = 0  # this one, and those before it, are taken by the thread if need be
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None
        self._thread_loop: asyncio.AbstractEventLoop | None = None
        self._thread_is_in_callback = False

    @property
    def busy(self) -> bool:
        """Whether a callback, or a task that one has started in the thread, runs or waits."""
        tasks = asyncio.all_tasks(self._thread_loop) if self._thread_loop is not None else ()
        return bool(self._queue or tasks) or self._thread_is_in_callback

    def put(self, message: CommRequest) -> None:
        """Here is a message; somebody will take it."""
        self._queue.append(message)
        self._came += 1
        if message.urgent:
            self._last_urgent = self._came
        self._wake_main()
        if message.urgent and self._in_thread:
            self._wake_thread()

    def take(self) -> None:
        """In the main thread, where no code of the cell is running: handle what has come."""
        count = len(self._queue)  # what comes later may come after a cell
        if self._always_in_thread and self._taken < self._last_urgent:
            return  # these, and those before them, are the thread's
        if not count or not self._turn.acquire(blocking=False):
            return
        try:
            self._begin()
            handled: list[CommRequest] = []
            since = time.monotonic()
            while count and self._queue:
                handled.append(message := self._next())
                self._handle(message)
                count -= 1
                if not count or time.monotonic() - since > TOGETHER:
                    self._answer(handled)
                    handled, since = [], time.monotonic()
        finally:
            self._turn.release()

    def interrupt(self) -> None:
        """In the main thread, in a signal handler: KeyboardInterrupt for a callback that runs in the thread."""
        if self._thread_is_in_callback and self._thread is not None:
            thread = ctypes.c_ulong(self._thread.ident or 0)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(KeyboardInterrupt))

    def _next(self) -> CommRequest:
        message = self._queue.popleft()
        self._taken += 1
        return message

    def _wake_main(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: we are on our way out
            self._loop.call_soon_threadsafe(self.take)

    # --- the thread -------------------------------------------------------------------------------------------------

    def _wake_thread(self) -> None:
        """The loop is made in the thread: that writes to a log, whose lock an interrupt may have left locked."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run_thread, name="mpkernel-callbacks", daemon=True)
            self._thread.start()
        elif self._thread_loop is not None:
            self._thread_loop.call_soon_threadsafe(self._take_urgent)

    def _run_thread(self) -> None:
        # The IO thread has made it, which leaves these to the main one; what callbacks start is to get them.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        self._thread_loop = loop = asyncio.new_event_loop()
        loop.call_soon(self._take_urgent)  # what has come before there was a loop to wake
        asyncio.set_event_loop(loop)
        while True:
            # An interrupt may come a moment after the callback that it was meant for; a task may exit.
            with suppress(KeyboardInterrupt, SystemExit):
                loop.run_forever()

    def _take_urgent(self) -> None:
        """In the thread: leave the messages to the main thread if that is free, else take them."""
        if self._main_is_free() and not self._always_in_thread:
            self._later(self._take_what_is_left)
        else:
            self._take_what_is_left()

    def _take_what_is_left(self) -> None:
        while self._taken < self._last_urgent:
            if not self._turn.acquire(blocking=False):
                self._later(self._take_urgent)  # the main thread is at one, and may be busy with the cell after it
                return
            try:
                if self._taken >= self._last_urgent:  # the main thread has just had it
                    return
                message = self._next()
                self._thread_is_in_callback = True
                self._handle(message)
            finally:
                self._thread_is_in_callback = False
                self._turn.release()
            self._answer([message])
        if self._queue:
            self._wake_main()  # it may have come in vain while we had the turn

    def _later(self, call: Callable[[], None]) -> None:
        assert self._thread_loop is not None
        self._thread_loop.call_later(MAIN_TAKES_IT, call)
