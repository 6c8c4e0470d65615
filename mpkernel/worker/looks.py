"""Completion, inspection and the like while a cell runs: answered in a thread, and an interrupt ends what never ends.

They run code of the user's - a ``__dir__``, a property, a repr - so they have a thread of their own: what hangs there
holds up no other subshell, and can be ended as if it hung in the main thread.
"""

from __future__ import annotations

import ctypes
import queue
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpkernel.worker.cells import error_content
from mpkernel.worker.threads import KernelThread

if TYPE_CHECKING:
    from mpkernel import messages
    from mpkernel.wire import Json, Message
    from mpkernel.worker.kernel import WorkerKernel


class Looks:
    """`put` is called by the service thread, `interrupt` by a signal handler; `reply` is called with each answer."""

    def __init__(self, kernel: WorkerKernel, reply: Callable[[messages.SideRequest, Message, Json], None]) -> None:
        self._kernel = kernel
        self._reply = reply
        self._inbox: queue.SimpleQueue[tuple[messages.SideRequest, Message]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._looking = False  # code of the user's may be running in the thread
        self._lock = threading.Lock()  # for `_looking`

    def put(self, request: messages.SideRequest, message: Message) -> None:
        self._inbox.put((request, message))
        if self._thread is None:
            self._thread = KernelThread("looks", self._serve)
            self._thread.start()

    def interrupt(self) -> None:
        """In the main thread, in a signal handler: KeyboardInterrupt for what is being answered.

        If the lock is taken, the thread is just done, or this handler interrupts itself.
        """
        if self._thread is not None and self._lock.acquire(blocking=False):
            try:
                if self._looking:
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
            self._looking = True
            content = self._kernel.answer_side_request(message)
            self._be_done()
        except KeyboardInterrupt as error:
            content = error_content(error)
            self._be_done()
        return content

    def _be_done(self) -> None:
        """From here on no interrupt comes, nor does one that was just sent."""
        assert self._thread is not None
        while self._looking:
            try:
                with self._lock:
                    self._looking = False
                    _raise_in(self._thread, None)
            except KeyboardInterrupt:
                continue


def _raise_in(thread: threading.Thread, error: type[BaseException] | None) -> None:
    """Have `thread` raise `error` at its next bytecode; None takes back what it hasn't raised yet."""
    number = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(number, None if error is None else ctypes.py_object(error))
