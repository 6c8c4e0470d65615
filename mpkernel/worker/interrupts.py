"""Where SIGINT may raise KeyboardInterrupt in a worker, and where it must wait.

The broker sends SIGINT only between a request's `Started` and its reply. Within that span this module decides:

- In a *window* - user code is running: a statement, a hook, a callback, a repr - it raises at once.
- Outside (IPython's own work between two statements, our bookkeeping) it is kept, and raised when the next window of
  the same request opens. What is kept when the request ends is dropped: it was meant for that request only.
- A cell that is suspended in a top-level ``await`` isn't on the stack: raising would hit the event loop or some other
  task. So its task is cancelled, as `asyncio.run` does it: what the cell awaits (a task group, say) can clean up, and
  what comes out of the cell is shown as KeyboardInterrupt (`behind`). If the loop doesn't get to that because another
  task hogs it, a later interrupt raises where it is.
- Between two requests it is dropped. But if the last reply waits for the main thread to merge what the cell changed,
  and a task or callback of the user's hogs that thread, it raises there (`hogs_the_loop`).
- A thread that stands at a breakpoint waits in the debugger, which would be broken by an exception there. It is let go
  first, and raises when the debugger is done with it (`go_on`).

A signal can't leak into the next request. The kernel prefers the main thread for a process-directed signal (signal(7)),
so that its C handler has run, and Python's handler is due, before the main thread can read any message that was sent
after the signal; Python's handler then finds no request active.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
import types
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from mpkernel.errors import Killed
from mpkernel.messages import KICK_SIGNAL
from mpkernel.worker.dap import waits
from mpkernel.worker.kicker import Kicker

# The loop hasn't got to an interrupt for so many seconds: some task hogs it.
HOGGED_AFTER = 0.5

_HANDLED = (signal.SIGINT, signal.SIGTERM, KICK_SIGNAL)

# Modules whose frames, if the user's code called them, are none of the user's business in an interrupt's traceback.
INTERRUPTIBLE = ("mpkernel.", "pydevd", "_pydevd_")


class Interrupts:
    """The state behind the SIGINT and SIGTERM handlers of one worker. All of it belongs to the main thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
        self._loop = loop
        self._end = end  # called in the loop on SIGTERM between two requests
        self._main = threading.main_thread().ident
        self._active = False  # a request is running
        self._missed = False  # a signal came since the last request, and found none
        self._windows = 0  # user code is running, perhaps nested
        self._in_callback = False  # it is the callback of a comm, in the main thread
        self._pending: type[BaseException] | None = None
        self._since = 0.0  # when it became pending
        self._delivered: type[BaseException] | None = None  # what the request's task was cancelled for
        self._task: asyncio.Task[Any] | None = None  # the cell, while `drive` has it
        self._suspended = False  # the cell waits in an await
        self.terminating = False
        self.kicker: Kicker | None = None
        self.let_go: Callable[[], None] = lambda: None  # asks the debugger not to hold the main thread any longer
        self._held = False  # a debugger holds the main thread, to which an interrupt has come
        self.first_await: Callable[[], None] = lambda: None  # called when the cell is suspended for the first time
        self._has_awaited = False
        self.interrupt_callback: Callable[[], None] = lambda: None  # of a comm, that runs though no request does
        self.awaited: Callable[[], bool] = lambda: False  # whether a reply waits for the main thread, between requests
        self.interrupt_look: Callable[[], None] = lambda: None  # a completion, say, in a thread beside the cell

    def install(self) -> None:
        """Handle SIGINT and SIGTERM. Called before each cell, as user code may have set its own handlers, or a mask."""
        signal.signal(signal.SIGINT, self._on_sigint)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        if self.kicker is not None:
            self.kicker.install()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _HANDLED)

    def uninstall(self) -> None:
        """In a process that user code forked: what Python does by itself, unless user code wants something else."""
        if signal.getsignal(signal.SIGINT) == self._on_sigint:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if signal.getsignal(signal.SIGTERM) == self._on_sigterm:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    @contextmanager
    def request(self) -> Iterator[bool]:
        """The span in which a request runs: SIGINT means it, and nothing outside of it.

        Gives whether one has come since the request before.
        """
        self.install()
        self._pending = self._delivered = None
        self._active = True
        self._has_awaited = False
        missed, self._missed = self._missed, False
        try:
            yield missed
        finally:
            self._active = self._held = False
            self._pending = None
            self._windows = 0

    def window(self) -> AbstractContextManager[None]:
        """User code runs in here. (In other threads than the main one that has no meaning.)"""
        return _Window(self) if threading.get_ident() == self._main else nullcontext()

    def callback(self) -> AbstractContextManager[None]:
        """As `window`, for the callback of a comm: it may be interrupted though no request runs."""
        return _Callback(self) if threading.get_ident() == self._main else nullcontext()

    def can_wait(self) -> bool:
        """Whether the calling thread may wait for long: an interrupt ends it, or it isn't the main one."""
        return threading.get_ident() != self._main or self._windows > 0

    @property
    def in_users_code(self) -> bool:
        """Whether the calling thread is the main one, in the midst of user code."""
        return threading.get_ident() == self._main and self._windows > 0

    @property
    def suspended(self) -> bool:
        """Whether the cell waits in a top-level await."""
        return self._suspended

    def hit_a_callback(self) -> None:
        """An interrupt ended a comm's callback, in the main thread. The cell beside it was meant, too."""
        if self._active and self._pending is None:
            self._pending = KeyboardInterrupt
            if self._suspended:
                self._wake()

    @contextmanager
    def shelter(self) -> Iterator[None]:
        """In the midst of user code: an import, say, that would stay half done for good. Raises at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        windows, self._windows = self._windows, 0
        try:
            yield
        finally:
            self._windows = windows
        if windows and self._pending is not None:
            self._raise()

    def _raise(self) -> None:
        error, self._pending = self._pending or KeyboardInterrupt, None
        raise error

    def _on_sigint(self, _signum: int, frame: types.FrameType | None) -> None:
        self.interrupt_look()
        if self._active:
            self._interrupt(KeyboardInterrupt, frame)
        elif self._in_callback or (self.awaited() and hogs_the_loop(frame)):
            raise KeyboardInterrupt
        else:
            self._missed = True
            self.interrupt_callback()

    def _on_sigterm(self, _signum: int, frame: types.FrameType | None) -> None:
        self.terminating = True
        if self._active:
            self._interrupt(Killed, frame)
        else:
            self._loop.call_soon_threadsafe(self._end)

    def _interrupt(self, error: type[BaseException], frame: types.FrameType | None) -> None:
        now = time.monotonic()
        hogged = self._suspended and self._pending is not None and now - self._since > HOGGED_AFTER
        if self._pending is None:
            self._since = now
        self._pending = error
        if hogged:
            self._raise()
        elif self._suspended:
            self._loop.call_soon_threadsafe(self._wake)
        elif self._windows and waits(frame):
            self._held = True
            self.let_go()
        elif self._windows:
            self._raise()

    def go_on(self) -> None:
        """When the debugger lets a thread go on: raises what was held back for that."""
        if threading.current_thread() is not threading.main_thread():
            return
        held, self._held = self._held, False
        if held and self._windows and self._pending is not None:
            self._raise()

    def _wake(self) -> None:
        """Cancel the await that the cell is in, if it hasn't gone on by itself meanwhile."""
        if self._pending is not None and self._suspended and self._task is not None:
            self._delivered, self._pending = self._pending, None
            self._task.cancel()

    def behind(self, error: BaseException | None) -> BaseException | None:
        """The interrupt that `error`, a CancelledError, came from; None for any other error."""
        if isinstance(error, asyncio.CancelledError) and self._delivered is not None:
            return self._delivered().with_traceback(error.__traceback__)
        return None

    @types.coroutine
    def drive(self, coroutine: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Await a cell, so that an interrupt reaches it where it waits."""
        self._task = asyncio.current_task()
        resume, value = coroutine.send, None
        try:
            while True:
                try:
                    waited_for = resume(value)
                except StopIteration as stop:
                    return stop.value
                self._suspended = True
                if not self._has_awaited:
                    self._has_awaited = True
                    self.first_await()
                try:
                    resume, value = coroutine.send, (yield waited_for)
                except BaseException as error:
                    cancelled = isinstance(error, asyncio.CancelledError)
                    resume, value = coroutine.throw, error.with_traceback(None) if cancelled else error
                finally:
                    self._suspended = False
                if self._pending is not None:  # what it waited for came in the same moment
                    self._delivered, self._pending = self._pending, None
                    resume, value = coroutine.throw, asyncio.CancelledError()
        except asyncio.CancelledError as error:
            raise self.behind(error) or error from None
        finally:
            while self._task is not None and self._delivered is not None and self._task.cancelling():
                self._task.uncancel()  # the cell's task goes on: it has a reply to make
            self._task = None


def hogs_the_loop(frame: types.FrameType | None) -> bool:
    """Whether what the loop runs is a task or callback of the user's, and that runs none of the kernel's code."""
    while frame is not None and frame.f_code is not asyncio.Handle._run.__code__:
        if str(frame.f_globals.get("__name__")).startswith("mpkernel."):
            return False
        frame = frame.f_back
    return frame is not None


class _Window:
    """A class, as a generator would put a frame of `contextlib` into tracebacks."""

    def __init__(self, interrupts: Interrupts) -> None:
        self._interrupts = interrupts

    def __enter__(self) -> None:
        if self._interrupts._pending is not None:
            self._interrupts._raise()
        self._interrupts._windows += 1

    def __exit__(self, *_: object) -> None:
        self._interrupts._windows -= 1


class _Callback(_Window):
    def __enter__(self) -> None:
        super().__enter__()
        self._interrupts._in_callback = True

    def __exit__(self, *error: object) -> None:
        self._interrupts._in_callback = False
        super().__exit__(*error)


def without_the_wait(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """Cut asyncio's own frames off the end of a cancelled await's traceback: they only say that it waited.

    Showing them takes longer than all else that an interrupt does, as IPython parses their whole file.
    """
    last = None
    step = traceback
    while step is not None:
        if not str(step.tb_frame.f_globals.get("__name__", "")).startswith("asyncio."):
            last = step
        step = step.tb_next
    if last is not None:
        last.tb_next = None
    return traceback


def users_frames(traceback: types.TracebackType | None) -> types.TracebackType | None:
    """Cut a traceback where the user's code called ours (a signal handler, a stream): it ends with the user's frame.

    None if there is none, for an interrupt between two statements.
    """
    users = None
    step = traceback
    while step is not None:
        module = str(step.tb_frame.f_globals.get("__name__", ""))
        if module.startswith(INTERRUPTIBLE) and users is not None:
            users.tb_next = None
            return traceback
        if not module.startswith(("mpkernel.", "IPython.core.")):
            users = step
        step = step.tb_next
    return traceback if users is not None else None
