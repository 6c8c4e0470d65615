"""What a cell that fails takes along: the other cells that its client had sent before it could know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpkernel.broker import answers
from mpkernel.broker.events import SetTimer
from mpkernel.broker.state import Failure, Request, Subshell

if TYPE_CHECKING:
    from mpkernel.broker.machine import Machine


# Seconds that a request may have been longer on its way than one sent before it; beyond, a clock was set back.
LATE = 10.0


class Aborting:
    """`timeout`: so many seconds after an error all cells that arrive are aborted, whoever sent them."""

    def __init__(self, machine: Machine, timeout: float) -> None:
        self._machine = machine
        self._timeout = timeout

    def concerns(self, subshell: Subshell, request: Request) -> bool:
        """Whether `request`, which has just arrived, is to be aborted."""
        return request.is_execute and (subshell.aborting or self._sent_in_vain(subshell, request))

    def on_failure(self, subshell: Subshell, request: Request) -> None:
        """`request` failed. What its client had sent by now, without knowing of the error, may still be on its way."""
        self.abort_queue(subshell)
        if (sent := request.message.sent()) is not None:
            now = self._machine.now
            took = now - request.received
            subshell.failed = Failure(request.message.header.get("session"), sent, request.received, took)

    def abort_queue(self, subshell: Subshell) -> int:
        """Answer all queued execute requests with ``aborted``; returns how many. Other types still run."""
        aborted = [request for request in subshell.queue if request.is_execute]
        for request in aborted:
            subshell.queue.remove(request)
            self._machine.answer(request, answers.aborted())
        if self._timeout > 0 and not subshell.aborting:
            subshell.aborting = True
            self._machine.act(SetTimer(("aborting", subshell.id), self._timeout))
        return len(aborted)

    def on_timer(self, subshell: Subshell) -> None:
        subshell.aborting = False

    def _sent_in_vain(self, subshell: Subshell, request: Request) -> bool:
        """Whether `request` is of the same "Run all" as a cell that failed, but took longer to get here than that one.

        All times but the one between receipt and reply are by the client's clock, which may be set meanwhile: then the
        request seems to have taken as long as the clock was set back. Some send the same date always.
        """
        failed = subshell.failed
        if failed is None or request.message.header.get("session") != failed.session:
            return False
        sent = request.message.sent()
        if sent is not None and failed.sent < sent < failed.sent + failed.took:
            delay = (request.received - failed.received) - (sent - failed.sent)
            if delay < LATE:
                return True
        subshell.failed = None
        return False
