"""Front ends' messages about comms: each goes to the worker that has the comm, whatever subshell id it carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mpkernel import messages
from mpkernel.broker.comms import WIDGET_CONTROL, CommOwners, may_follow, opening
from mpkernel.broker.events import ToWorker
from mpkernel.broker.state import Request, Subshell, Worker

if TYPE_CHECKING:
    from mpkernel.broker.machine import Machine


# So many messages for comms are with a worker at a time; it has to handle half of them before it gets more. (One that
# is stopped would have them all in the queue of its socket, where nobody counts them.)
MOST_AT_A_TIME = 1000


class CommRouting:
    """`wait`: comm messages wait for the cell that runs, instead of being handled beside it."""

    def __init__(self, machine: Machine, *, wait: bool) -> None:
        self._machine = machine
        self._wait = wait
        self.owners = CommOwners()

    def on_info(self, request: Request) -> None:
        target = request.message.content().get("target_name")
        self._machine.answer(request, {"status": "ok", "comms": self.owners.info(target)})

    def on_open(self, request: Request) -> None:
        """A front end's comm goes to a worker that takes comms of its target, by preference to the one it asks for."""
        subshell = self._machine.subshell_of(request)
        takers = self.owners.takers(target := str(request.message.content().get("target_name")))
        if target == WIDGET_CONTROL and len(takers) > 1:
            self._machine.busy(request)  # none of them knows all widgets: so the front end is to ask each
            closed: dict[str, Any] = {"comm_id": request.message.content().get("comm_id"), "data": {}}
            self._machine.publish("comm_close", closed, request.message.header_frame)
            self._machine.finish(request, {})
            return
        homes = [taker.subshell for taker in takers if taker.subshell is not None]
        if homes and subshell not in homes:
            subshell = self._machine.main if self._machine.main in homes else homes[0]
        self._machine.enqueue(request, subshell)

    def on_comm(self, request: Request) -> None:
        """A comm's messages go to the worker that owns it, whatever subshell id they carry."""
        owner = self.owner(request)
        if owner is None:  # if nobody opens it, the worker says so
            comm_id = str(request.message.content().get("comm_id"))
            subshell = opening(comm_id, self._machine.subshells.values()) or self._machine.subshell_of(request)
        elif owner.subshell is None or owner.ending:
            self._machine.answer(request, {})
            return
        else:
            subshell = owner.subshell
        self._machine.enqueue(request, subshell)

    def owner(self, request: Request) -> Worker | None:
        """The worker that has the comm which this is a message for."""
        if request.message.msg_type not in ("comm_msg", "comm_close"):
            return None
        return self.owners.owner(str(request.message.content().get("comm_id")))

    def send(self, subshell: Subshell, worker: Worker) -> None:
        """A worker gets comm messages beside a cell that it runs, as far as they needn't wait for other cells.

        By the ordered lane, so that cells come after them.
        """
        if subshell.running is None:
            if subshell.queue and subshell.queue[0].is_comm:
                self._machine.sharing.before_comms(worker, subshell)
        elif self._wait:
            return
        room = MOST_AT_A_TIME - len(worker.comms)
        for request in may_follow(subshell)[:room] if room > 0 else ():
            if not self._machine.beside.has_room(worker, request):
                return
            subshell.queue.remove(request)
            worker.served = True
            worker.comms.add(request.seq)
            request.last_told = worker.last_told
            self._machine.beside.put(request, worker)
            self.owners.note_request(request, worker)
            idents = request.message.idents
            blobs = (*idents, *request.message.frames)
            self._machine.act(
                ToWorker(worker.id, messages.CommRequest(request.seq, request.is_urgent, len(idents), blobs))
            )

    def go_on(self, worker: Worker) -> None:
        """A worker has handled one more."""
        subshell = worker.subshell
        few = len(worker.comms) <= MOST_AT_A_TIME // 2 and self._machine.beside.is_half_free(worker)
        if few and subshell is not None and subshell.queue.has_comms:
            self._machine.dispatch(subshell)

    def close_all(self, worker: Worker) -> None:
        for comm_id in self.owners.drop(worker):
            self._machine.publish("comm_close", {"comm_id": comm_id, "data": {}})
