"""The subshells' lives: made, listed and deleted on request (JEP 91)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpkernel.broker import answers
from mpkernel.broker.state import MODES, Request, Subshell
from mpkernel.errors import BadMessage, SubshellDeleted, SubshellNotFound

if TYPE_CHECKING:
    from mpkernel.broker.machine import Machine


class Lifetimes:
    def __init__(self, machine: Machine, new_id: Callable[[], str]) -> None:
        self._machine = machine
        self._new_id = new_id

    def create(self, name: Any = None, mode: Any = "shared") -> Subshell:
        """A new subshell, without a process yet. Raises BadMessage for a name or mode that it can't have."""
        if name is not None and (not isinstance(name, str) or not name or "/" in name):
            raise BadMessage(f"a subshell's name must be a non-empty text without '/', not {name!r}")
        if name is not None and any(name in (s.name, s.label) for s in self._machine.subshells.values()):
            raise BadMessage(f"there is already a subshell named {name!r}; names are unique within a kernel")
        if mode not in MODES:
            raise BadMessage(f"a subshell's mode is one of {', '.join(MODES)}, not {mode!r}")
        now = self._machine.now
        subshell = Subshell(self._new_id(), name, now, idle_since=now, mode=mode)
        self._machine.subshells[subshell.id] = subshell
        return subshell

    def delete(self, subshell: Subshell) -> int:
        """Forget a subshell; its process ends meanwhile. Returns how many requests were aborted."""
        del self._machine.subshells[subshell.id]
        was_busy = subshell.running is not None
        error = SubshellDeleted(f"subshell {subshell.shown} was deleted while this ran")
        aborted = self._machine.answer_all(subshell, error)
        if subshell.worker is not None:
            self._machine.pool.delete(subshell.worker, busy=was_busy)
            subshell.worker = None
        return aborted

    def on_create(self, request: Request) -> None:
        content = request.message.content()
        subshell = self.create(content.get("name"), content.get("mode", "shared"))
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
