"""What one worker asks of another: a live value, a call of an object that lives there. The broker carries it over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpkernel import messages
from mpkernel.broker.events import ToWorker
from mpkernel.broker.state import Worker
from mpkernel.errors import SubshellNotFound
from mpkernel.namespace.component import join

if TYPE_CHECKING:
    from mpkernel.broker.machine import Machine


class Reads:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        # By our token: the asking worker, its token, the owner, and the last news that this one had, if it ran no cell.
        self._open: dict[int, tuple[int, int, int, int | None]] = {}

    def on_ask_live(self, worker: Worker, message: messages.AskLive) -> None:
        why = self._why_no_owner(worker, message.name) if message.subshell is None else "the subshell has no process"
        try:
            owner = self._machine.ops.find_owner(worker, message.subshell)
        except SubshellNotFound as error:
            owner, why = None, str(error)
        if owner is None or owner.worker is None or not owner.worker.ready:
            self._refuse(worker.id, message.token, f"there is no live value of {message.name!r}: {why}")
            return
        self._ask(owner.worker.id, messages.ReadLive(self._open_for(worker, message.token, owner.worker), message.name))

    def _why_no_owner(self, worker: Worker, name: str) -> str:
        others = [s for s in self._machine.subshells.values() if s.worker not in (None, worker)]
        text = "no other subshell runs a cell"
        if not others:
            return text
        return f'{text}; name the one that is meant: mpkernel.live("{name}", "{others[0].shown}")'

    def on_ask_theirs(self, worker: Worker, message: messages.AskTheirs) -> None:
        loser = self._machine.sharing.store.loser(message.name)
        if loser is None:
            text = (
                f"there is no other value of {message.name!r}: no cell's change of it was overruled by another's, "
                "or many others were since"
            )
            self._refuse(worker.id, message.token, text)
        else:
            self._ask(worker.id, messages.LiveValue(message.token, None, *join([loser])))

    def on_ask_call(self, worker: Worker, message: messages.AskCall) -> None:
        owner = self._machine.workers.get(message.worker)
        if owner is None or owner.ending or not owner.ready:
            self._refuse(worker.id, message.token, "the process in which the object lived has ended; make it again")
            return
        subshell = owner.subshell
        is_idle = subshell is not None and subshell.running is None
        if subshell is not None and is_idle:  # it is as a callback: with what is new
            self._machine.sharing.before_comms(owner, subshell)
        token = self._open_for(worker, message.token, owner, owner.last_told if is_idle else None)
        call = messages.Call(token, message.held, message.method, message.parent, message.components, message.blobs)
        self._machine.act(ToWorker(owner.id, call, service=not is_idle))

    def on_answer(self, worker: Worker, message: messages.LiveAnswer) -> None:
        asking, token, owner, told = self._open.get(message.token, (0, 0, 0, None))
        if owner != worker.id:
            return
        del self._open[message.token]
        if told is not None:
            worker.background = worker.background or message.background
            self._machine.sharing.on_callback_done(worker, told, background=message.background)
        if asking in self._machine.workers:
            self._ask(asking, messages.LiveValue(token, message.error, message.components, message.blobs))

    def on_gone(self, worker: Worker, how: str) -> None:
        """Whoever waits for something from `worker` needn't any longer."""
        for ours, (asking, token, owner, _) in list(self._open.items()):
            if owner == worker.id:
                del self._open[ours]
                if asking in self._machine.workers:
                    self._refuse(asking, token, f"the subshell that has it ended ({how})")

    def _open_for(self, asking: Worker, token: int, owner: Worker, told: int | None = None) -> int:
        ours = self._machine.number()
        self._open[ours] = (asking.id, token, owner.id, told)
        return ours

    def _ask(self, worker: int, message: messages.LaneMessage) -> None:
        self._machine.act(ToWorker(worker, message, service=True))

    def _refuse(self, worker: int, token: int, text: str) -> None:
        self._ask(worker, messages.LiveValue(token, text, [], ()))
