"""The subshells' lives: made, listed and deleted on request (JEP 91)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mpkernel.broker import answers
from mpkernel.broker.state import MODES, Request, Subshell
from mpkernel.errors import BadMessage, SubshellDeleted, SubshellNotFound

if TYPE_CHECKING:
    from mpkernel.broker.machine import Machine


class Lifetimes:
    def __init__(self, machine: Machine, new_id: Callable[[], str]) -> None:
        self._machine = machine
        self._new_id = new_id

    def create(self, name: str | None = None, mode: str = "shared") -> Subshell:
        """A new subshell, without a process yet. Raises BadMessage if there is no such mode."""
        if mode not in MODES:
            raise BadMessage(f"a subshell's mode is one of {', '.join(MODES)}, not {mode!r}")
        now = self._machine.now
        subshell = Subshell(self._new_id(), name, now, idle_since=now, mode=mode)
        self._machine.subshells[subshell.id] = subshell
        return subshell

    def delete(self, subshell: Subshell) -> int:
        """Forget a subshell; its process ends meanwhile. Returns how many requests were aborted."""
        del self._machine.subshells[subshell.id]
        error = SubshellDeleted(f"subshell {subshell.shown} was deleted while this ran")
        aborted = self._machine.answer_all(subshell, error)
        if subshell.worker is not None:
            self._machine.pool.delete(subshell.worker)
            subshell.worker = None
        return aborted

    def on_create(self, request: Request) -> None:
        content = request.message.content()
        name, mode = content.get("name"), content.get("mode", "shared")
        subshell = self.create(name if isinstance(name, str) else None, mode)
        self._machine.answer(request, {"status": "ok", "subshell_id": subshell.id})

    def on_list(self, request: Request) -> None:
        ids = [subshell_id for subshell_id in self._machine.subshells if subshell_id is not None]
        self._machine.answer(request, {"status": "ok", "subshell_id": ids})

    def on_delete(self, request: Request) -> None:
        target = request.message.content().get("subshell_id")
        subshell = self._machine.subshells.get(target) if isinstance(target, str) else None
        if subshell is None:
            error = SubshellNotFound(f"there is no subshell {target!r} to delete")
            self._machine.answer(request, answers.error(error))
            return
        self._machine.answer(request, {"status": "ok"})
        self.delete(subshell)
