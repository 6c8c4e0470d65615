"""A process that user code forks is an ordinary one: signals do to it what they do to a child of a plain Python.

With the worker's own handler of SIGTERM, which is Python code, a child that is just about to wait in a system call
would take note of the signal and wait on: `multiprocessing.Pool.terminate` hung, once in thirty times. And as Python
forgets in the child what signals have come since the fork, SIGTERM is blocked until the worker's handler is gone.
"""

from __future__ import annotations

import os
import signal
import threading

from mpkernel.worker.interrupts import Interrupts

_END = {signal.SIGTERM}


class Forks:
    """Watches over the forks of this process, from `install` on."""

    def __init__(self, interrupts: Interrupts, wakeup_fd: int) -> None:
        self._interrupts = interrupts
        self._wakeup_fd = wakeup_fd
        self._masks = threading.local()

    def install(self) -> None:
        """In the worker, once: hooks of forks can't be taken back."""
        os.register_at_fork(before=self._before, after_in_parent=self._unblock, after_in_child=self._in_child)

    def _before(self) -> None:
        self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, _END)

    def _unblock(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)

    def _in_child(self) -> None:
        self._interrupts.uninstall()
        fd = signal.set_wakeup_fd(-1)  # a copy of the worker's, which would think that it got the signal
        if fd not in (-1, self._wakeup_fd):
            signal.set_wakeup_fd(fd)
        self._unblock()
