"""Requests to debuggers: each subshell's process has its own. They go there whatever runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpkernel import messages
from mpkernel.broker.state import Request, Subshell, Worker

if TYPE_CHECKING:
    from mpkernel.broker.machine import Machine


class Debugging:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def on_request(self, request: Request) -> None:
        subshell = self._machine.subshell_of(request)
        if self._machine.put_in(subshell.to_debugger, request, subshell):
            self.dispatch(subshell)

    def dispatch(self, subshell: Subshell) -> None:
        """Forward requests to the debugger of `subshell`, whatever runs there, as soon as there is a process."""
        while subshell.to_debugger:
            worker = self._machine.pool.worker_for(subshell)
            if not worker.ready or worker.ending:
                return  # again at its Hello, or when it is gone
            request = subshell.to_debugger.popleft()
            worker.debug_parent = request.message.header_frame
            self._machine.beside.to_service(request, worker, subshell)

    def on_attached(self, worker: Worker, message: messages.Debugged) -> None:
        worker.debugged = message.attached

    def on_gone(self, worker: Worker) -> None:
        """The front end's debugger is told that its process has ended."""
        if worker.debugged and not self._machine.stopping:
            ended = {"seq": 0, "type": "event", "event": "terminated", "body": {}}
            self._machine.publish("debug_event", ended, worker.debug_parent)
