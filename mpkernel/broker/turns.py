"""Who has to merge goes first, once others were faster too often.

A commit that was overtaken is merged by its worker, which commits again; meanwhile somebody may be faster once more,
and with many short cells again and again. So a worker that does nothing but merge, and was overtaken a second time, has
a *turn*: what others commit of the same names waits, with their replies, until it is through. Nothing is forced and
nothing is lost. One worker at a time has a turn, so that no two wait for each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from mpkernel import messages
from mpkernel.broker.events import Action, CancelTimer, SetTimer
from mpkernel.broker.state import Worker

if TYPE_CHECKING:
    from mpkernel.broker.sharing import Sharing

# So often a worker may be overtaken.
PATIENCE = 1
# A turn lasts no longer than so many seconds: the worker may have been stopped, or compare objects for ever.
TURN_LIMIT = 2.0


class Turns:
    def __init__(self, sharing: Sharing, act: Callable[[Action], None]) -> None:
        self._sharing = sharing
        self._act = act
        self._holder: int | None = None
        self._overtaken: Counter[int] = Counter()  # since a commit went through, by worker
        self._waiting: list[tuple[Worker, messages.Commit | messages.Resent]] = []

    def puts_off(self, worker: Worker, message: messages.Commit) -> bool:
        """Whether a commit has to wait; it is made when the turn is over."""
        if not self.waits(worker):
            if self._holder is None or self._holder == worker.id:
                return False
            names = {name for head in message.components for name in head[0]}
            if names.isdisjoint(self._sharing.store.merges(self._holder)):
                return False
        self._waiting.append((worker, message))
        return True

    def puts_behind(self, worker: Worker, message: messages.Resent) -> bool:
        """Whether what comes after a commit of `worker` has to wait with it."""
        if waits := self.waits(worker):
            self._waiting.append((worker, message))
        return waits

    def waits(self, worker: Worker) -> bool:
        """Whether something that `worker` has committed waits."""
        return any(other is worker for other, _ in self._waiting)

    def on_overtaken(self, worker: Worker) -> None:
        """A commit of `worker` was refused."""
        self._overtaken[worker.id] += 1
        is_free = worker.held_back is not None or worker.subshell is None or worker.subshell.running is None
        if self._holder is None and is_free and self._overtaken[worker.id] > PATIENCE:
            self._holder = worker.id
            self._act(SetTimer(("turn", worker.id), TURN_LIMIT))

    def on_through(self, worker: Worker) -> None:
        """`worker` has nothing to merge any more."""
        self._overtaken.pop(worker.id, None)
        self.give_up(worker)

    def give_up(self, worker: Worker) -> None:
        """`worker` is through, or others have something that it needs first: what they have committed may wait."""
        if self._holder == worker.id:
            self._act(CancelTimer(("turn", worker.id)))
            self._end()

    def on_timer(self, worker: int) -> None:
        if self._holder == worker:
            self._end()

    def _end(self) -> None:
        self._holder = None
        waiting, self._waiting = self._waiting, []
        for other, message in waiting:
            if isinstance(message, messages.Commit):
                self._sharing.on_commit(other, message)
            else:
                self._sharing.on_resent(other, message)

    def on_gone(self, worker: Worker) -> list[messages.Commit]:
        """Returns what it has committed before."""
        left = [message for other, message in self._waiting if other is worker and isinstance(message, messages.Commit)]
        self._waiting = [(other, message) for other, message in self._waiting if other is not worker]
        self.on_through(worker)
        return left
