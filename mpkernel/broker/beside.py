"""Requests that a worker has beside the one that it runs: completion and the like, its debugger's, messages for comms.

If the process is stopped, or C code holds its GIL, they all stay in its lane: so they have a limit, and those that only
look are answered without it after a while.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpkernel import messages
from mpkernel.broker import answers
from mpkernel.broker.events import CancelTimer, SetTimer, ToWorker
from mpkernel.broker.state import Request, Subshell, Worker
from mpkernel.broker.waiting import size
from mpkernel.errors import NoAnswer, TooManyRequests

if TYPE_CHECKING:
    from mpkernel.broker.machine import Machine

LOOKS = frozenset(("complete_request", "inspect_request", "is_complete_request", "history_request"))
# Bytes that one worker may have.
MAX_BESIDE = 64 << 20
# Seconds that those of `LOOKS` may take. Jedi's first completion with large libraries takes a few.
ANSWER_WITHIN = 30.0


class Beside:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._requests: dict[int, Request] = {}  # by seq
        self._late: set[int] = set()  # those that were answered without their worker

    def on_look(self, request: Request) -> None:
        """Completion and the like don't wait for a running cell: a thread of the worker's answers them."""
        subshell = self._machine.subshell_of(request)
        worker = subshell.worker
        if worker is None or subshell.running is None or not subshell.running.is_execute or worker.ending:
            self._machine.enqueue(request)
        elif self.to_service(request, worker, subshell):
            self._machine.act(SetTimer(("beside", request.seq), ANSWER_WITHIN))

    def to_service(self, request: Request, worker: Worker, subshell: Subshell) -> bool:
        """Hand `request` to the thread that serves beside the main one; False if it is refused."""
        if not self.has_room(worker, request):
            text = (
                f"{len(worker.seqs):,} requests ({worker.nbytes_beside >> 20} MB) are with the process of subshell "
                f"{subshell.shown}, which doesn't answer them: no more are taken. Is it stopped, or in C code?"
            )
            self._machine.answer(request, answers.error(TooManyRequests(text)))
            return False
        self.put(request, worker)
        idents = request.message.idents
        forward = messages.SideRequest(request.seq, request.channel, len(idents), (*idents, *request.message.frames))
        self._machine.act(ToWorker(worker.id, forward, service=True))
        return True

    @staticmethod
    def has_room(worker: Worker, request: Request) -> bool:
        """Whether `worker` may have one more; one it may have in any case."""
        return not worker.nbytes_beside or worker.nbytes_beside + size(request) <= MAX_BESIDE

    @staticmethod
    def is_half_free(worker: Worker) -> bool:
        return worker.nbytes_beside <= MAX_BESIDE // 2

    def put(self, request: Request, worker: Worker) -> None:
        """`worker` gets `request` beside the one that it runs."""
        self._machine.busy(request)
        worker.seqs.add(request.seq)
        worker.nbytes_beside += size(request)
        self._requests[request.seq] = request

    def take(self, worker: Worker, seq: int) -> Request | None:
        """`worker` doesn't have it any more; None if it was answered meanwhile."""
        request = self._requests.pop(seq)
        worker.seqs.discard(seq)
        worker.nbytes_beside -= size(request)
        if seq in self._late:
            self._late.discard(seq)
            return None
        if request.message.msg_type in LOOKS:
            self._machine.act(CancelTimer(("beside", seq)))
        return request

    def answer_all(self, worker: Worker) -> None:
        """`worker` is given up: it won't answer."""
        for seq in list(worker.seqs):
            if (request := self.take(worker, seq)) is not None:
                self._machine.finish(request, answers.aborted())

    def on_timer(self, seq: int) -> None:
        """Nobody waits longer. The worker may still be busy with it: an interrupt goes there as long as it is."""
        if (request := self._requests.get(seq)) is not None:
            self._late.add(seq)
            text = (
                f"the process of this subshell hasn't answered a {request.message.msg_type} within "
                f"{ANSWER_WITHIN:.0f} s: it is stopped, or runs C code that lets no other thread run"
            )
            self._machine.finish(request, answers.error(NoAnswer(text)))
