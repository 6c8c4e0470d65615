"""Completion, inspection and the like while a cell runs: answered in a thread, and an interrupt ends what never ends.

They run code of the user's - a ``__dir__``, a property, a repr - so they have a thread of their own: what hangs there
holds up no other subshell, and can be ended as if it hung in the main thread.
"""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpkernel.worker.cells import error_content
from mpkernel.worker.threads import KernelThread

if TYPE_CHECKING:
    from mpkernel import messages
    from mpkernel.wire import Json, Message
    from mpkernel.worker.kernel import WorkerKernel


# An interrupt is for what has taken so many seconds. It may be late: what has just begun came after it.
HANGS = 1.0


class Looks:
    """`put` is called by the service thread, `interrupt` by a signal handler; `reply` is called with each answer."""

    def __init__(self, kernel: WorkerKernel, reply: Callable[[messages.SideRequest, Message, Json], None]) -> None:
        self._kernel = kernel
        self._reply = reply
        self._inbox: queue.SimpleQueue[tuple[messages.SideRequest, Message]] = queue.SimpleQueue()
        self._thread = KernelThread("looks", self._serve)
        self._looking = False  # code of the user's may be running in the thread
        self._since = 0.0  # when: monotonic seconds
        self._interrupted = False  # an interrupt was sent to it
        self._lock = threading.Lock()  # for `_looking`

    def put(self, request: messages.SideRequest, message: Message) -> None:
        self._inbox.put((request, message))
        if self._thread.ident is None:
            self._thread.start()

    def interrupt(self) -> None:
        """In the main thread, in a signal handler: KeyboardInterrupt for what is being answered, if it hangs.

        If the lock is taken, the thread is just done, or this handler interrupts itself.
        """
        if self._lock.acquire(blocking=False):
            try:
                if self._looking and time.monotonic() - self._since > HANGS:
                    self._interrupted = True
                    _raise_in(self._thread, KeyboardInterrupt)
            finally:
                self._lock.release()

    def _serve(self) -> None:
        while True:
            request, message = self._inbox.get()
            try:
                self._reply(request, message, self._look(message))
            except BaseException as error:
                self._kernel.die(error)  # somebody waits for the answer

    def _look(self, message: Message) -> Json:
        try:
            self._since = time.monotonic()
            self._looking = True
            content = self._kernel.answer_side_request(message)
            self._be_done()
        except KeyboardInterrupt as error:
            content = error_content(error)
            self._be_done()
        return content

    def _be_done(self) -> None:
        """From here on no interrupt comes. One that was sent and not raised yet is replaced by one that is caught here.

        (Tried: to take it back, by PyThreadState_SetAsyncExc with NULL. Threads that a debugger had stopped then didn't
        go on, in Python 3.11.)
        """
        while self._looking or self._interrupted:
            try:
                with self._lock:
                    self._looking = False
                if self._interrupted:
                    self._interrupted = False
                    _raise_in(self._thread, KeyboardInterrupt)
                    while True:
                        pass
            except KeyboardInterrupt:
                continue


def _raise_in(thread: threading.Thread, error: type[BaseException]) -> None:
    """Have `thread` raise `error` at its next bytecode, in place of what it hasn't raised yet."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(error))
