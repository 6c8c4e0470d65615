"""Who waits for the user to type, and whose answer is whose.

An answer finds its request by the input_request it answers (``parent_header``, as JupyterLab sends it), else by
``subshell_id``, else it is for the oldest open request of that client; but what answers an input_request that is no
longer open answers no other. A client that never sends a ``subshell_id`` key shows one prompt at a time and may answer
without a parent: its requests are shown one after the other.
"""

from __future__ import annotations

from mpkernel.broker.state import OpenInput
from mpkernel.wire import Message

# Of so many clients that know about subshells it is remembered: each connection is another client.
MOST_CLIENTS = 10_000


class OpenInputs:
    def __init__(self) -> None:
        self._open: list[OpenInput] = []  # oldest first
        self._aware: dict[tuple[bytes, ...], None] = {}  # clients that know about subshells, the latest at the end

    def note_client(self, message: Message) -> None:
        """Remember whether this client sends ``subshell_id`` in its headers."""
        if "subshell_id" in message.header:
            self._aware.pop(message.idents, None)
            self._aware[message.idents] = None
            if len(self._aware) > MOST_CLIENTS:
                del self._aware[next(iter(self._aware))]

    def add(self, entry: OpenInput) -> list[OpenInput]:
        """A new request; returns what is to be shown now."""
        self._open.append(entry)
        return self._to_show(entry.request.message.idents)

    def drop(self, *, worker: int, token: int | None = None, seq: int | None = None) -> list[OpenInput]:
        """Forget a worker's requests (one token, one request's, or all); returns what is to be shown now."""
        gone = [
            entry
            for entry in self._open
            if entry.worker.id == worker
            and (token is None or entry.token == token)
            and (seq is None or entry.request.seq == seq)
        ]
        self._open = [entry for entry in self._open if entry not in gone]
        return [shown for entry in gone for shown in self._to_show(entry.request.message.idents)]

    def answer(self, message: Message) -> tuple[OpenInput | None, list[OpenInput]]:
        """The request that `message` answers, None if there's none; and what is to be shown now."""
        mine = [entry for entry in self._open if entry.shown and entry.request.message.idents == message.idents]
        header = message.parent_header()
        parent, subshell = header.get("msg_id"), message.subshell_id
        entry = next((e for e in self._open if e.shown and e.msg_id == parent), None)
        if entry is None and header.get("msg_type") != "input_request":
            entry = (
                next((e for e in mine if parent and e.request.message.msg_id == parent), None)
                or next((e for e in mine if subshell and e.request.message.subshell_id == subshell), None)
                or next(iter(mine), None)
            )
        if entry is None:
            return None, []
        self._open.remove(entry)
        return entry, self._to_show(entry.request.message.idents)

    def _to_show(self, client: tuple[bytes, ...]) -> list[OpenInput]:
        waiting = [entry for entry in self._open if entry.request.message.idents == client]
        if client not in self._aware:
            waiting = waiting[:1]
        fresh = [entry for entry in waiting if not entry.shown]
        for entry in fresh:
            entry.shown = True
        return fresh
