"""Between cells: what threads, tasks and callbacks change is found and committed, and large values are copied."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from mpkernel import messages
from mpkernel.worker.pending import users_callbacks
from mpkernel.worker.threads import is_users

if TYPE_CHECKING:
    from mpkernel.worker.kernel import WorkerKernel

# Variables that might have changed are looked at for so long, with such pauses (seconds).
SWEEP_SLICE, SWEEP_PAUSE = 0.005, 0.02

# When no cell has run for so long (seconds), what takes longer is looked at, and large values are copied.
LEISURE_AFTER = 0.3

# If it can't be done then what is cold is seen to again after so long (seconds).
COOL_PAUSE = 5.0


class Background:
    def __init__(self, kernel: WorkerKernel) -> None:
        self._kernel = kernel
        self._backing_up: asyncio.TimerHandle | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._cooling: asyncio.TimerHandle | None = None
        self._at_leisure: asyncio.TimerHandle | None = None
        self._main_thread = threading.main_thread()

    def look(self) -> bool:
        """After a commit: whether it may have left something out. That is looked for from now on."""
        try:
            return self._look()
        except Exception:  # replies wait for this
            self._kernel.log.exception("looking for changed variables failed")
            return True

    def _look(self) -> bool:
        went_on, self._kernel.sync.background = self._kernel.sync.background, self._goes_on()
        if went_on and not self._kernel.sync.background:
            self._kernel.sync.start_over()  # it has ended, and may have changed anything since the last look
        if self._at_leisure is not None:
            self._at_leisure.cancel()
            self._at_leisure = None
        background = self._kernel.sync.background or not self._kernel.sync.settled
        if background:
            self.sweep_soon()
        else:
            self._back_up_soon()
        return background

    def sweep_soon(self) -> None:
        if self._sweeping is None:
            self._sweeping = self._kernel.loop.call_later(SWEEP_PAUSE, self._sweep)

    def _sweep(self) -> None:
        """Between cells: find what they changed by ways that their end did not look at, or change in the background."""
        self._sweeping = None
        if self._kernel.running:
            return  # its end will see to it
        try:
            if self._kernel.sync.background and not self._goes_on():
                self._kernel.sync.background = False  # it has ended, and may have changed anything since the cell
                self._kernel.sync.start_over()
            settled = self._kernel.sync.sweep(SWEEP_SLICE)
        except Exception:
            self._kernel.log.exception("looking for changed variables failed")
            return
        if not settled and self._kernel.sync.only_dear_left(SWEEP_SLICE):
            if self._at_leisure is None:
                self._at_leisure = self._kernel.loop.call_later(LEISURE_AFTER, self._sweep_dear)
        elif not settled:
            self.sweep_soon()
        elif not self._goes_on():
            self._kernel.lanes.send(messages.Settled())
            self._back_up_soon()

    def _sweep_dear(self) -> None:
        """The user pauses, until the next message comes."""
        self._at_leisure = None
        if self._kernel.running:
            return
        try:
            self._kernel.sync.sweep_dear()
        except Exception:
            self._kernel.log.exception("looking for changed variables failed")
            return
        self.sweep_soon()

    def _back_up_soon(self) -> None:
        if self._kernel.sync.holds and self._backing_up is None:
            self._backing_up = self._kernel.loop.call_later(LEISURE_AFTER, self._back_up)

    def _back_up(self) -> None:
        """The user pauses: what is large can be copied now, so that it outlives this process."""
        self._backing_up = None
        if not self._kernel.running:  # else at the next pause
            self._kernel.service.in_background(self._kernel.sync.back_up)

    def cool_later(self) -> None:
        """There are copies of arrays, and what doesn't change need not be there twice."""
        seconds = self._kernel.sync.seconds_to_cold
        if seconds is not None and self._cooling is None:
            self._cooling = self._kernel.loop.call_later(max(seconds, COOL_PAUSE), self._cool)

    def _cool(self) -> None:
        self._cooling = None
        if not self._kernel.running and not self._goes_on():
            try:
                self._kernel.sync.cool()
            except Exception:
                self._kernel.log.exception("memory that is there twice could not be put together")
        self.cool_later()

    def _goes_on(self) -> bool:
        """Whether threads, tasks or callbacks of the user's go on, which may change variables."""
        if any(is_users(thread) for thread in threading.enumerate() if thread is not self._main_thread):
            return True
        kernel = self._kernel
        if kernel.callbacks.busy or users_callbacks(kernel.loop):
            return True
        return any(task is not kernel.request_task for task in asyncio.all_tasks(kernel.loop))
