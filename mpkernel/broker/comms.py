"""Which worker owns which comm: a comm's messages go there, whatever subshell id they carry.

JupyterLab sends a comm's first messages under one subshell and later ones under another. A comm belongs to the worker
that opened it, or, if the front end did, to the worker that was told to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mpkernel.broker.state import Request, Subshell, Worker


class CommOwners:
    def __init__(self) -> None:
        self._owners: dict[str, tuple[Worker, str]] = {}  # comm_id: owner, target_name

    def owner(self, comm_id: str) -> Worker | None:
        """The worker that has this comm; None if none is known to."""
        return self._owners.get(comm_id, (None, ""))[0]

    def owners(self) -> list[Worker]:
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
