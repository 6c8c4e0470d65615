"""Which worker owns which comm: a comm's messages go there, whatever subshell id they carry.

JupyterLab sends a comm's first messages under one subshell and later ones under another. A comm belongs to the worker
that opened it, or, if the front end did, to the worker that takes comms of that target.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import takewhile
from typing import Any

from mpkernel.broker.state import Request, Subshell, Worker

# ipywidgets' front ends ask for the states of all widgets by a comm of this target. If it is closed, they ask each
# widget by itself.
WIDGET, WIDGET_CONTROL = "jupyter.widget", "jupyter.widget.control"


class CommOwners:
    def __init__(self) -> None:
        self._owners: dict[str, tuple[Worker, str]] = {}  # comm_id: owner, target_name
        self._targets: dict[str, list[Worker]] = {}  # who takes comms of a target

    def owner(self, comm_id: str) -> Worker | None:
        """The worker that has this comm; None if none is known to."""
        return self._owners.get(comm_id, (None, ""))[0]

    def workers(self) -> list[Worker]:
        """All workers that have comms, once for each comm."""
        return [worker for worker, _ in self._owners.values()]

    def info(self, target: object = None) -> dict[str, Any]:
        """All open comms, or those of one target, as comm_info_reply has them."""
        return {
            comm_id: {"target_name": name}
            for comm_id, (_, name) in self._owners.items()
            if target is None or name == target
        }

    def note(self, msg_type: str, comm_id: str, target: str, worker: Worker) -> None:
        """`worker` opened or closed a comm, or is about to hear that the front end did."""
        if msg_type == "comm_open":
            self._owners[comm_id] = (worker, target)
        else:
            self._owners.pop(comm_id, None)

    def note_target(self, name: str, worker: Worker, *, taken: bool) -> None:
        """`worker` takes comms of this target from now on, or no longer."""
        takers = self._targets.setdefault(name, [])
        if taken and worker not in takers:
            takers.append(worker)
        elif not taken and worker in takers:
            takers.remove(worker)

    def takers(self, target: str) -> list[Worker]:
        """The workers to which a front end's comm of this target could be opened.

        For the states of widgets that are the workers that have widgets, if any.
        """
        if target == WIDGET_CONTROL:
            having = [worker for worker, name in self._owners.values() if name == WIDGET]
            if having:
                return list(dict.fromkeys(having))
        return [worker for worker in self._targets.get(target, ()) if not worker.ending]

    def note_request(self, request: Request, worker: Worker) -> None:
        """A front end's request is about to be forwarded to `worker`."""
        if request.message.msg_type not in ("comm_open", "comm_close"):
            return  # the content of others isn't parsed here
        match request.message.msg_type, request.content():
            case "comm_open", {"comm_id": str(comm_id), "target_name": str(target)}:
                self.note("comm_open", comm_id, target, worker)
            case "comm_close", {"comm_id": str(comm_id)}:
                self.note("comm_close", comm_id, "", worker)

    def drop(self, worker: Worker) -> list[str]:
        """Forget the comms of a worker that ends; returns their ids."""
        for takers in self._targets.values():
            if worker in takers:
                takers.remove(worker)
        gone = [comm_id for comm_id, (owner, _) in self._owners.items() if owner is worker]
        for comm_id in gone:
            del self._owners[comm_id]
        return gone


def opening(comm_id: str, subshells: Iterable[Subshell]) -> Subshell | None:
    """The subshell in whose queue a front end's comm_open for this comm still waits."""
    for subshell in subshells:
        for request in subshell.queue:
            if request.message.msg_type == "comm_open" and request.content().get("comm_id") == comm_id:
                return subshell
    return None


def may_follow(subshell: Subshell) -> list[Request]:
    """The comm messages in the queue that needn't wait for the cells there.

    Those that come before the next cell; and, if one came under a subshell's id, all comm messages up to the last such:
    whoever sent it expects no comm to wait, and a comm's messages keep their order. All, if the cell that runs has come
    to an await: it may well be one of them that it awaits.
    """
    queue = subshell.queue
    if not queue.has_comms:
        return []
    before_cells = list(takewhile(lambda request: request.is_comm, queue))
    awaits = subshell.running is not None and subshell.running.awaits
    if not awaits and not queue.has_urgent:
        return before_cells
    comms = [request for request in queue if request.is_comm]
    if awaits:
        return comms
    last = max(n for n, request in enumerate(comms) if request.is_urgent)
    return comms[: max(last + 1, len(before_cells))]
