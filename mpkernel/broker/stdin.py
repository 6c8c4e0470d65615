"""`input()`: a worker's question goes to the front end whose cell asks, the answer back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpkernel import messages
from mpkernel.broker.events import Log, Send, ToWorker
from mpkernel.broker.inputs import OpenInputs
from mpkernel.broker.state import OpenInput, Worker
from mpkernel.errors import BadMessage
from mpkernel.wire import Message

if TYPE_CHECKING:
    from mpkernel.broker.machine import Machine


class Stdin:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._open = OpenInputs()

    def note_client(self, message: Message) -> None:
        """A request came: its sender may know about subshells."""
        self._open.note_client(message)

    def drop(self, worker: Worker, *, token: int | None = None, seq: int | None = None) -> None:
        """Forget what a worker asked (by one token, in one request, or at all)."""
        self._show(self._open.drop(worker=worker.id, token=token, seq=seq))

    def on_request(self, worker: Worker, message: messages.InputRequest) -> None:
        request = worker.subshell.running if worker.subshell else None
        if request is None or request.seq != message.seq:
            return  # its request was answered meanwhile (deleted, killed)
        entry = OpenInput(worker, message.token, request, message.msg_id, message.blobs)
        self._show(self._open.add(entry))

    def _show(self, entries: list[OpenInput]) -> None:
        for entry in entries:
            self._machine.act(Send("stdin", [*entry.request.message.idents, *entry.frames]))

    def on_reply(self, message: Message) -> None:
        try:
            value = message.content().get("value", "")
            entry, to_show = self._open.answer(message)
        except BadMessage as error:
            self._machine.act(Log("warning", f"an input_reply was dropped: {error}"))
            return
        if entry is None:
            self._machine.act(Log("info", "an input_reply came that nobody waits for; dropped"))
            return
        self._machine.act(ToWorker(entry.worker.id, messages.InputReply(entry.token, str(value))))
        self._show(to_show)
