"""Which cell an interrupt means, and when its process may get the signal. Rule 3 of `machine` lives here."""

from __future__ import annotations

import math
import shlex
import signal
from typing import TYPE_CHECKING

from mpkernel.broker import answers
from mpkernel.broker.events import SetTimer, SignalWorker
from mpkernel.broker.state import Request, Subshell, Worker
from mpkernel.errors import SubshellNotFound

if TYPE_CHECKING:
    from mpkernel.broker.machine import Machine


# Seconds after which a cell that goes on is said not to heed an interrupt.
IN_VAIN_AFTER = 2.0
# A request that was handed over so many seconds ago runs, though its `Started` hasn't come.
STARTED_BY_NOW = 0.05


class Interrupts:
    """`target`: what an interrupt without a subshell id means: "latest", "parent" or "all"."""

    def __init__(self, machine: Machine, target: str) -> None:
        self._machine = machine
        self._target = target

    def on_request(self, request: Request) -> None:
        target = request.message.subshell_id or request.message.content().get("subshell_id")
        if target is None:
            self.interrupt_any()
        elif (subshell := self._machine.find(target)) is None:
            self._machine.answer(
                request, answers.error(SubshellNotFound(f"there is no subshell {target!r} to interrupt"))
            )
            return
        else:
            self.interrupt(subshell)
        self._machine.answer(request, {"status": "ok"})

    def interrupt_any(self) -> None:
        """Interrupt without a target: by setting, the cell that was started last, then the one before; or others."""
        if self._target == "parent":
            self.interrupt(self._machine.main)
            return
        current = [s for s in self._machine.subshells.values() if s.current is not None]
        current = [s for s in current if s.current.is_execute] or current  # type: ignore[union-attr]
        current.sort(key=lambda s: (s.current.started or s.current.received, s.current.seq))  # type: ignore[union-attr]
        if self._target == "latest" and current:
            fewest = min(s.current.interrupts for s in current)  # type: ignore[union-attr]
            current = [[s for s in current if s.current.interrupts == fewest][-1]]  # type: ignore[union-attr]
        for subshell in current or self._machine.subshells.values():
            self.interrupt(subshell)

    def interrupt(self, subshell: Subshell) -> bool:
        """Interrupt what `subshell` runs; False if it runs nothing. Rule 3 lives here."""
        request, worker = subshell.current, subshell.worker
        # A callback runs alone, or holds up the cell; a completion may never end, though the cell beside it has.
        beside = worker is not None and not worker.ending and bool(worker.comms or (request is None and worker.seqs))
        if worker is not None and beside and (request is None or not request.running):
            self._machine.act(SignalWorker(worker.id, signal.SIGINT))
        if request is None:
            return beside
        # One that has replied only merges, but a task that it left may hog the main thread, which is to do that.
        request.interrupts += 1
        if request.running and worker is not None:
            self._machine.act(SignalWorker(worker.id, signal.SIGINT))
            self._say_what_helps(subshell, request)
        else:
            request.interrupt_wanted = True
            if request.started is not None and worker is not None:
                self._machine.act(SetTimer(("interrupt", worker.id, request.seq), STARTED_BY_NOW))
                self._say_what_helps(subshell, request)
        return True

    def on_timer(self, worker_id: int, seq: int) -> None:
        """A request that is to be interrupted should have begun by now.

        C code may hold the GIL, so that the worker can't say so. If it hasn't begun, the signal finds no request there.
        """
        worker = self._machine.workers.get(worker_id)
        request = worker.subshell.running if worker is not None and worker.subshell is not None else None
        if request is not None and request.seq == seq and request.interrupt_wanted:
            request.signalled = True
            self._machine.act(SignalWorker(worker_id, signal.SIGINT))

    def on_started(self, worker: Worker, request: Request, *, missed: bool) -> None:
        """Send what was kept until `request` runs, unless it was sent and has hit it: its worker knows."""
        if request.interrupt_wanted and (missed or not request.signalled):
            self._machine.act(SignalWorker(worker.id, signal.SIGINT))
        request.interrupt_wanted = False

    def _say_what_helps(self, subshell: Subshell, request: Request) -> None:
        """Once, at the first interrupt that comes when an earlier one has been in vain for a while."""
        now = self._machine.now
        if request.interrupted is None:
            request.interrupted = now
        elif now - request.interrupted >= IN_VAIN_AFTER:
            request.interrupted = math.inf
            target = shlex.quote(f"{self._machine.kernel_id}/{subshell.shown}")
            text = (
                "mpkernel: the cell doesn't stop when it is interrupted. Its process can be ended by "
                f"`mpkernel kill {target}`; variables are kept as of the last finished cell\n"
            )
            self._machine.publish("stream", {"name": "stderr", "text": text}, request.output_frame)
