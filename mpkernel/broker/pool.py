"""The life of worker processes: started, given to a subshell, ready, asked to end, gone.

A subshell has one process at a time, from its first request on; a spare one waits for the next subshell. Rule 4 of
`machine` lives here: a process that dies or is killed leaves its subshell there.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mpkernel import messages
from mpkernel.broker import answers
from mpkernel.broker.events import (
    CancelTimer,
    Log,
    SetTimer,
    SignalWorker,
    StartWorker,
    ToWorker,
    WorkerGone,
    WorkerLaunched,
)
from mpkernel.broker.state import Subshell, Worker
from mpkernel.errors import Killed, WorkerDied, WorkerStartFailed
from mpkernel.namespace.wording import listed
from mpkernel.surroundings import refusal_said

if TYPE_CHECKING:
    from mpkernel.broker.machine import Machine

# A worker that was asked to end (deleted, shutdown) is killed after this many seconds, or so many from when its exit
# hooks began to run: as long as jupyter_client waits until it becomes impatient.
END_GRACE, HOOKS_GRACE = 1.0, 2.5
# One that SIGKILL doesn't end in so many seconds (a system call that waits for a disk isn't left) is given up.
KILL_LIMIT = 5.0
# A spare process is forked this many seconds after the last one was taken: not while its taker starts.
SPARE_DELAY = 0.25
# So many workers in a row may die before they are ready, until the waiting requests are answered with an error.
MAX_FAILED_STARTS = 3
# Of an end by these, what the process did just then is no reason.
_BY_OTHERS = (None, -signal.SIGKILL, -signal.SIGTERM)


class Pool:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self.spare: Worker | None = None

    def worker_for(self, subshell: Subshell) -> Worker:
        if subshell.worker is None:
            if self.spare is not None:
                worker, self.spare = self.spare, None
                subshell.worker = worker
                self._assign(worker, subshell)
            else:
                subshell.worker = self.start(subshell)
            subshell.died = None
        return subshell.worker

    def start(self, subshell: Subshell | None) -> Worker:
        worker = Worker(self._machine.number(), subshell=subshell)
        self._machine.workers[worker.id] = worker
        self._machine.act(StartWorker(worker.id))
        return worker

    def _assign(self, worker: Worker, subshell: Subshell) -> None:
        worker.subshell = subshell
        if worker.ready:
            subshell.failed_starts, subshell.refused = 0, ""
            assign = messages.Assign(
                subshell.id, subshell.name, subshell.execution_count, subshell.mode, list(self._machine.everywhere)
            )
            self._machine.act(ToWorker(worker.id, assign))
            self._machine.act(SetTimer(("spare",), SPARE_DELAY))

    def on_spare_timer(self) -> None:
        if self.spare is None and not self._machine.stopping:
            self.spare = self.start(None)

    def on_kill_timer(self, worker_id: int) -> None:
        worker = self._machine.workers.get(worker_id)
        if worker is None:
            return
        if worker.unkillable:
            why = "was killed, but the system doesn't let it end yet (does a disk or a file server not answer?)"
            self._machine.act(Log("warning", f"process {worker.pid} {why}"))
            self.on_gone(WorkerGone(worker_id, None, why))
            return
        worker.unkillable = True
        self._machine.act(SignalWorker(worker_id, signal.SIGKILL))
        self._machine.act(SetTimer(("kill", worker_id), KILL_LIMIT))
        self._machine.ops.on_killed(worker_id)

    def on_launched(self, event: WorkerLaunched) -> None:
        worker = self._machine.workers.get(event.worker)
        if worker is not None:
            worker.pid = event.pid
        if worker is None or worker.ending:  # given up, deleted or shut down before there was a process
            self._machine.act(SignalWorker(event.worker, signal.SIGKILL))

    def on_hello(self, worker: Worker, message: messages.Hello) -> None:
        worker.pid = message.pid
        worker.ready = True
        if worker.subshell is not None and not worker.ending:
            self._assign(worker, worker.subshell)
            self._machine.debugging.dispatch(worker.subshell)
            self._machine.dispatch(worker.subshell)

    def delete(self, worker: Worker, *, busy: bool) -> None:
        """Have a process end whose subshell was deleted. What its cells made and nobody has yet is had first."""
        worker.ending = "deleted"
        self._machine.comms.close_all(worker)
        self._machine.sharing.last_call(worker, lambda: self.end(worker, "deleted"), busy=busy)

    def end(self, worker: Worker, why: str, grace: float = END_GRACE) -> None:
        """Ask a process to end, and kill it if it doesn't within `grace` seconds."""
        if worker.id not in self._machine.workers:
            return
        worker.ending = why
        self._machine.comms.close_all(worker)
        if worker.ready:
            self._machine.act(ToWorker(worker.id, messages.Exit(self._machine.restarting)))
        if worker.pid is not None:
            self._machine.act(SignalWorker(worker.id, signal.SIGTERM if worker.ready else signal.SIGKILL))
        self._machine.act(SetTimer(("kill", worker.id), grace))

    def on_ending(self, worker: Worker, _message: messages.Ending) -> None:
        """It has left its cells: what it does now may have to write something down, or to upload it."""
        if worker.ending not in (None, "killed"):  # who kills it has said how long it has
            self._machine.act(SetTimer(("kill", worker.id), HOOKS_GRACE))

    def on_gone(self, event: WorkerGone) -> None:
        worker = self._machine.workers.pop(event.worker, None)
        if worker is None:
            return
        self._machine.act(CancelTimer(("kill", worker.id)))
        self._machine.answer_kernel_infos()  # it won't say any more what it is
        subshell = worker.subshell
        how = answers.how_it_ended(event.returncode, event.reason)
        self._machine.comms.close_all(worker)
        self._machine.debugging.on_gone(worker)
        self._machine.ops.on_gone(worker, how, exited=not worker.unkillable or event.returncode is not None)
        self._machine.reads.on_gone(worker, how)
        if worker is self.spare:
            self.spare = None  # another is started when one is needed
        deadly = []
        if event.loading and worker.ending is None and event.returncode not in _BY_OTHERS:
            deadly = self._machine.sharing.on_deadly(worker, event.loading)
        if subshell is not None and subshell.worker is worker:
            self._on_lost(worker, subshell, how, event, deadly)
        self._machine.sharing.on_gone(worker)
        self._machine.stop_if_done()

    def _on_lost(self, worker: Worker, subshell: Subshell, how: str, event: WorkerGone, deadly: Sequence[str]) -> None:
        """Rule 4: the subshell stays. Its running request is answered; the queue is aborted as after any error."""
        if worker.ending is None:
            what = f"the process of subshell {subshell.shown} (pid {worker.pid}) ended: {how}"
            self._machine.act(Log("warning", what))
        if not worker.ready and worker.ending is None:
            subshell.failed_starts += 1
            subshell.refused = refusal_said("".join(words for _, words in event.last_words)) or subshell.refused
            if subshell.failed_starts < MAX_FAILED_STARTS and (subshell.queue or subshell.to_debugger):
                subshell.worker = self.start(subshell)
                return
            error = self._start_failed(subshell, subshell.refused or how)
        else:
            error = self._death(worker, subshell, how)
        if excerpt := answers.crash_excerpt(event.dump):
            error.add_note(excerpt)
        if deadly:
            error.add_note(f"It was loading {listed(deadly)} from another subshell: no process is sent that any more.")
        running, subshell.died = subshell.running, how
        # A kill has aborted what was queued by then; what came later was meant for the new process.
        stop = running is not None and worker.ending != "killed" and running.content().get("stop_on_error", True)
        queued = [] if stop else list(subshell.queue)
        if not stop:
            subshell.queue.clear()
        to_debugger = list(subshell.to_debugger) if worker.ready else []
        if worker.ready:
            subshell.to_debugger.clear()
        if running is not None:
            for name, words in event.last_words:
                self._machine.publish("stream", {"name": name, "text": words}, running.output_frame)
        self._machine.answer_all(subshell, error)
        subshell.worker = None
        subshell.queue.extend(queued)
        subshell.to_debugger.extend(to_debugger)
        if worker.served and not self._machine.stopping:
            self.worker_for(subshell)  # but if it may be the start that kills it, on the next request
        self._machine.debugging.dispatch(subshell)
        self._machine.dispatch(subshell)

    def _start_failed(self, subshell: Subshell, how: str) -> BaseException:
        """The error for the request that waited for a process."""
        subshell.failed_starts, subshell.refused = 0, ""
        if subshell.queue:
            subshell.running = subshell.queue.popleft()
            self._machine.busy(subshell.running)
        return WorkerStartFailed(
            f"no process could be started for subshell {subshell.shown}: {how}. The next request tries again."
        )

    def _death(self, worker: Worker, subshell: Subshell, how: str) -> BaseException:
        """The error for the request that the process ran."""
        sharing = self._machine.sharing
        cell = subshell.running.cell if subshell.running else None
        kept, lost, older = sharing.store.kept_names(), sharing.lost_names(worker), sharing.fallen_back(worker)
        text = answers.death_notice(subshell.shown, worker.pid, how, cell, kept, lost, older)
        return Killed(text) if worker.ending == "killed" else WorkerDied(text)
