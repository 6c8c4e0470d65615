"""The operations of the command line (``mpkernel ps``, ``kill``, …) and of the same calls from a cell.

On the control channel they are ``mpkernel_request`` with ``{"op": …}``; from a worker they are `messages.Op`. They are
answered here, by the broker, however stuck the workers are. ``subshell`` is an id or ``"main"``; from a cell also a
name.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mpkernel import messages
from mpkernel.broker import answers
from mpkernel.broker.events import DumpStacks, Inquire, Inquired, SetTimer, SignalWorker, StacksDumped, ToWorker
from mpkernel.broker.state import KillJob, Request, Subshell, Worker
from mpkernel.errors import BadMessage, MPKernelError, RequestFailed, SubshellNotFound

if TYPE_CHECKING:
    from mpkernel.broker.machine import Machine

DEFAULT_GRACE = 3.0
# After `exit` in a cell front ends have so many seconds to read its reply: jupyter console doesn't look for it any more
# when the process is gone.
EXIT_DELAY = 0.5
Reply = dict[str, Any]


class _Asker:
    """Where an answer goes: to a front end's request, or to a worker."""

    def __init__(self, machine: Machine, request: Request | None, worker: tuple[int, int] | None) -> None:
        self._machine = machine
        self.request = request
        self.worker = worker

    def answer(self, content: Reply) -> None:
        if self.request is not None:
            self._machine.finish(self.request, content)
        elif self.worker is not None and self.worker[0] in self._machine.workers:
            worker, token = self.worker
            self._machine.act(ToWorker(worker, messages.OpReply(token, content)))


class Ops:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._kills: dict[int, tuple[_Asker, KillJob]] = {}  # worker id
        self._inquiries: dict[int, tuple[_Asker, Reply]] = {}  # token: who asked, what is known already
        self._dumps: dict[int, tuple[_Asker, int]] = {}  # token: who asked, worker id
        self._table: dict[str, Callable[[_Asker, Reply], Reply | None]] = {
            "ps": self._ps,
            "alive": self._alive,
            "interrupt": self._interrupt,
            "kill": self._kill,
            "new": self._new,
            "delete": self._delete,
            "trace": self._trace,
            "info": self._info,
            "logs": lambda asker, _: self._inquire(asker, "logs", {}),
            "run": self._run,
            "everywhere": self._everywhere,
            "save": lambda asker, content: self._machine.keeping.save(content, asker.answer),
            "restore": lambda asker, content: self._machine.keeping.restore(content, asker.answer),
            "shutdown": self._shutdown,
        }

    def on_request(self, request: Request) -> None:
        """``mpkernel_request`` on the control channel. Raises BadMessage."""
        content = request.message.content()
        self._machine.busy(request)
        self._perform(_Asker(self._machine, request, None), content)

    def on_op(self, worker: Worker, message: messages.Op) -> None:
        """The same, from a cell."""
        asker = _Asker(self._machine, None, (worker.id, message.token))
        self._perform(asker, {**message.content, "op": message.op, "from": worker})

    def _perform(self, asker: _Asker, content: Reply) -> None:
        try:
            if self._machine.stopping:
                raise RequestFailed("the kernel is shutting down")
            perform = self._table.get(str(content.get("op")))
            if perform is None:
                known = ", ".join(self._table)
                raise BadMessage(f"mpkernel_request has no op {content.get('op')!r}; there are {known}")
            reply = perform(asker, content)
        except MPKernelError as error:
            asker.answer(answers.error(error))
            return
        if reply is not None:
            asker.answer({"status": "ok", **reply})

    def _target(self, content: Reply) -> Subshell:
        wanted = content.get("subshell", "main")
        machine = self._machine
        found = machine.find(wanted)
        if found is None and isinstance(wanted, str):
            found = next((s for s in machine.subshells.values() if s.name == wanted), None)
        if found is None:
            known = ", ".join(s.shown for s in machine.subshells.values())
            raise SubshellNotFound(f"there is no subshell {wanted!r}; there are: {known}")
        return found

    def find_owner(self, asking: Worker, wanted: str | None) -> Subshell | None:
        """Whose live value is meant: the named subshell's, else that of the cell started last, but not one's own.

        Raises SubshellNotFound.
        """
        if wanted is not None:
            return self._target({"subshell": wanted})
        others = [s for s in self._machine.running_cells() if s.worker is not asking]
        return others[-1] if others else None

    # --- the operations: each returns its reply, or None if it will answer later -------------------------------------

    def _ps(self, asker: _Asker, content: Reply) -> Reply:
        machine, now = self._machine, self._machine.now
        rows = []
        for subshell in machine.subshells.values():
            running = subshell.running
            started = running.started if running is not None else None
            rows.append(
                {
                    "subshell": subshell.label,
                    "name": subshell.name,
                    "mode": subshell.mode,
                    "state": subshell.state,
                    "pid": subshell.worker.pid if subshell.worker else None,
                    "execution_count": subshell.execution_count,
                    "cell": running.cell if running is not None else None,
                    "busy_s": now - started if started is not None else None,
                    "idle_s": None if running is not None else now - subshell.idle_since,
                    "queued": len(subshell.queue),
                    "age_s": now - subshell.created,
                }
            )
        facts = machine.facts
        kernel = {"pid": facts.pid, "version": facts.mpkernel_version, "age_s": now - machine.created}
        return {"kernel": kernel, "subshells": rows}

    def _alive(self, asker: _Asker, content: Reply) -> Reply:
        """Whether a process is there, by the number that stand-ins have."""
        workers = self._machine.workers.values()
        return {"alive": any(worker.id == content.get("worker") and not worker.ending for worker in workers)}

    def _interrupt(self, asker: _Asker, content: Reply) -> Reply:
        subshell = self._target(content)
        current = subshell.current
        return {"interrupted": self._machine.interrupts.interrupt(subshell), "cell": current.cell if current else None}

    def _new(self, asker: _Asker, content: Reply) -> Reply:
        subshell = self._machine.lifetimes.create(content.get("name"), content.get("mode", "shared"))
        return {"subshell": subshell.id, "name": subshell.name, "mode": subshell.mode}

    def _delete(self, asker: _Asker, content: Reply) -> Reply:
        subshell = self._target(content)
        if subshell.id is None:
            raise RequestFailed("the parent subshell can't be deleted; `mpkernel kill` replaces its process")
        return {"aborted": self._machine.lifetimes.delete(subshell)}

    def _run(self, asker: _Asker, content: Reply) -> Reply:
        """Queue code in a subshell, making one with that name if need be; output goes to the asking cell."""
        code, wanted, parent = content.get("code"), content.get("subshell"), content.get("parent")
        if not isinstance(code, str) or not isinstance(wanted, str):
            raise BadMessage("run needs 'code' and 'subshell'")
        if not isinstance(parent, (dict, type(None))):
            raise BadMessage(f"the parent of what is run must be a message header, not {parent!r}")
        machine = self._machine
        subshell = machine.find(wanted) or next((s for s in machine.subshells.values() if s.name == wanted), None)
        if subshell is None:
            self._new(asker, {"name": wanted})
            subshell = next(s for s in machine.subshells.values() if s.name == wanted)
        if subshell.worker is not None and subshell.worker is content.get("from"):
            raise RequestFailed("a cell can't queue code in its own subshell")
        machine.submit(subshell, code, parent)
        return {"subshell": subshell.label}

    def _everywhere(self, asker: _Asker, content: Reply) -> Reply:
        """Run code in all other processes, and first thing in those that start later."""
        code, parent = content.get("code"), content.get("parent")
        if not isinstance(code, str) or not isinstance(parent, (dict, type(None))):
            raise BadMessage("everywhere needs 'code'")
        machine = self._machine
        machine.everywhere.append(code)
        others = [s for s in machine.subshells.values() if s.worker and s.worker is not content.get("from")]
        for subshell in others:
            machine.submit(subshell, code, parent, silent=True)
        return {"subshells": [subshell.label for subshell in others]}

    def _shutdown(self, asker: _Asker, content: Reply) -> Reply | None:
        """``exit`` in a cell."""
        if "from" not in content:
            raise BadMessage("a front end ends a kernel by shutdown_request")
        self._machine.act(SetTimer(("exit",), EXIT_DELAY))
        return None

    # --- kill ---------------------------------------------------------------------------------------------------------

    def _kill(self, asker: _Asker, content: Reply) -> Reply | None:
        machine = self._machine
        subshell = self._target(content)
        worker = subshell.worker
        name = str(content.get("signal", "TERM"))
        grace = content.get("grace", DEFAULT_GRACE)
        signum = getattr(signal, f"SIG{name}", None)
        if not isinstance(signum, signal.Signals) or not isinstance(grace, (int, float)) or not 0 <= grace < 1e6:
            raise BadMessage(f"kill needs a signal name such as TERM and a grace in seconds, not {name!r}, {grace!r}")
        if worker is None or worker.pid is None:
            # What is being started for its queue has nothing to do then.
            aborted = machine.aborting.abort_queue(subshell) if worker is not None else 0
            return {"sent": [], "exited": True, "after_s": None, "how": "", "aborted": aborted, **self._kept([])}
        if worker.id in self._kills:
            raise RequestFailed(f"subshell {subshell.shown} is being killed already")
        lost = machine.sharing.lost_names(worker)
        job = KillJob(asker.request, asker.worker, machine.now, [name], 0, lost)
        self._kills[worker.id] = (asker, job)
        worker.ending = "killed"
        job.aborted = machine.aborting.abort_queue(subshell)
        machine.act(SignalWorker(worker.id, signum))
        machine.act(SetTimer(("kill", worker.id), float(grace)))
        return None

    def _kept(self, lost: list[str]) -> Reply:
        return {"names_kept": len(self._machine.sharing.store.kept_names()), "names_lost": lost}

    def on_killed(self, worker_id: int) -> None:
        """The grace of a kill ran out and KILL was sent."""
        if worker_id in self._kills:
            self._kills[worker_id][1].sent.append("KILL")

    def on_gone(self, worker: Worker, how: str, *, exited: bool = True) -> None:
        """A process ended, or is given up: who waited for that, or for its stacks, is answered."""
        for token in [token for token, (_, of) in self._dumps.items() if of == worker.id]:
            self._answer_trace(token, f"the process has ended ({how})\n")
        if worker.id in self._kills:
            asker, job = self._kills.pop(worker.id)
            after = self._machine.now - job.started
            asker.answer(
                {
                    "status": "ok",
                    "sent": job.sent,
                    "exited": exited,
                    "after_s": after,
                    "how": how,
                    "aborted": job.aborted,
                    **self._kept(job.lost),
                }
            )

    # --- what only the loop knows -------------------------------------------------------------------------------------

    def _info(self, asker: _Asker, content: Reply) -> None:
        machine, facts = self._machine, self._machine.facts
        known = {
            "version": facts.mpkernel_version,
            "ipython": facts.ipython_version,
            "pid": facts.pid,
            "age_s": machine.now - machine.created,
            "subshells": len(machine.subshells),
            "processes": len(machine.workers),
            "names": len(machine.sharing.store.kept_names()),
            "kept_in": machine.keeping.path or None,
        }
        self._inquire(asker, "info", known)

    def _inquire(self, asker: _Asker, what: str, known: Reply) -> None:
        token = self._machine.number()
        self._inquiries[token] = (asker, known)
        self._machine.act(Inquire(token, what))

    def on_inquired(self, event: Inquired) -> None:
        """The loop has found out."""
        asker, known = self._inquiries.pop(event.token)
        asker.answer({"status": "ok", **known, **event.content})

    # --- trace --------------------------------------------------------------------------------------------------------

    def _trace(self, asker: _Asker, content: Reply) -> Reply | None:
        subshell = self._target(content)
        if subshell.worker is None or not subshell.worker.ready:
            return {"text": f"subshell {subshell.shown} has no process at the moment\n"}
        token = self._machine.number()
        self._dumps[token] = (asker, subshell.worker.id)
        self._machine.act(DumpStacks(token, subshell.worker.id))
        return None

    def on_stacks(self, event: StacksDumped) -> None:
        self._answer_trace(event.token, event.text)

    def _answer_trace(self, token: int, text: str) -> None:
        if token in self._dumps:
            asker, _ = self._dumps.pop(token)
            asker.answer({"status": "ok", "text": text})
