"""The broker's logic: a state machine without sockets, clocks or processes.

Events in, actions out (see `events`). The rules that hold it together, and where each must live:

1. One request at a time is with a worker's main thread (`dispatch`); the others wait here, so that an abort, a
   deletion or a crash can answer them, and an interrupt can't hit the wrong one. Messages for comms are sent along
   (`CommRouting.send`): the worker runs their callbacks one by one, beside its cell or when it has none.
2. The broker alone publishes ``status``: busy when a request is forwarded or answered (`busy`), idle after its reply
   (`_idle`). Whoever else answers a request - a worker, an abort, a crash - goes through `finish`, once.
3. SIGINT goes to a worker only between its `Started` and its reply (also while that is held back), or while it has
   messages for comms (`Interrupts.interrupt`). What comes earlier is kept in ``interrupt_wanted``, until `Started`
   comes or is overdue.
4. A subshell and its process are two things: a process that dies, or is killed, leaves the subshell there, and the
   next request gets a new one (`Pool.worker_for`). Nothing is ever run twice.
5. The namespace store sees commits in the order in which they came, before the reply that follows them; a worker hears
   the news right before a request.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from mpkernel import messages
from mpkernel.broker import answers
from mpkernel.broker.aborting import Aborting
from mpkernel.broker.beside import LOOKS, Beside
from mpkernel.broker.comm_routing import CommRouting
from mpkernel.broker.debugging import Debugging
from mpkernel.broker.events import (
    Acknowledge,
    Action,
    Event,
    FromWorker,
    FrontendMessage,
    Inquired,
    Interrupted,
    Log,
    MeasureUsage,
    MemoryShort,
    NamespaceLoaded,
    NamespaceSaved,
    SegmentsRefused,
    Send,
    SetTimer,
    StacksDumped,
    Stop,
    Subscribed,
    TimerFired,
    ToldToStop,
    ToWorker,
    UsageMeasured,
    WorkerGone,
    WorkerLaunched,
)
from mpkernel.broker.interrupts import Interrupts
from mpkernel.broker.keeping import Keeping
from mpkernel.broker.lifetimes import Lifetimes
from mpkernel.broker.ops import Ops
from mpkernel.broker.pool import END_GRACE, Pool
from mpkernel.broker.reads import Reads
from mpkernel.broker.sharing import Sharing
from mpkernel.broker.state import MAIN, Request, Subshell, Worker
from mpkernel.broker.stdin import Stdin
from mpkernel.broker.waiting import Waiting
from mpkernel.errors import BadMessage, SubshellNotFound, TooManyRequests
from mpkernel.wire import Codec, iopub_topic


def new_subshell_id() -> str:
    """An id that nobody else gives."""
    return str(uuid.uuid4())


class Machine:
    """The state of one kernel. `codec` signs what the broker itself says."""

    def __init__(
        self,
        codec: Codec,
        facts: answers.Facts,
        *,
        kernel_id: str = "",
        interrupt_target: str = "latest",
        comms_while_busy: str = "thread",
        stop_on_error_timeout: float = 0.0,
        keep: str = "",
        now: float = 0.0,
        new_id: Callable[[], str] = new_subshell_id,
    ) -> None:
        self.codec = codec
        self.facts = facts
        self.kernel_id = kernel_id
        self.now = now
        self.created = now
        self.sharing = Sharing(self)
        self.main = Subshell(None, None, now, idle_since=now)
        self.subshells: dict[str | None, Subshell] = {None: self.main}
        self.workers: dict[int, Worker] = {}
        self.stopping = False
        self._stopped = False
        self.everywhere: list[str] = []  # code that each new process runs first
        self._description: dict[str, Any] = {}  # of a wrapper kernel's language
        self._wait_for_description: list[Request] = []
        self.restarting = False
        self._usage: dict[int, Request] = {}
        self._next = 0
        self._actions: list[Action] = []
        self.pool = Pool(self)
        self.lifetimes = Lifetimes(self, new_id)
        self.beside = Beside(self)
        self.aborting = Aborting(self, stop_on_error_timeout)
        self.comms = CommRouting(self, wait=comms_while_busy == "wait")
        self.interrupts = Interrupts(self, interrupt_target)
        self.debugging = Debugging(self)
        self.stdin = Stdin(self)
        self.ops = Ops(self)
        self.reads = Reads(self)
        self.keeping = Keeping(self, keep)
        self._events: dict[type, Callable[[Any], None]] = {
            FrontendMessage: self._on_frontend,
            Subscribed: self._on_subscribed,
            FromWorker: self._on_worker_message,
            WorkerLaunched: self.pool.on_launched,
            WorkerGone: self.pool.on_gone,
            TimerFired: self._on_timer,
            Interrupted: lambda _: self.interrupts.interrupt_any(),
            ToldToStop: self._on_told_to_stop,
            UsageMeasured: self._on_usage,
            SegmentsRefused: self.sharing.on_refused,
            MemoryShort: self.sharing.on_memory_short,
            StacksDumped: self.ops.on_stacks,
            Inquired: self.ops.on_inquired,
            NamespaceSaved: self.keeping.on_saved,
            NamespaceLoaded: self.keeping.on_loaded,
        }
        self._requests: dict[str, Callable[[Request], None]] = {
            "kernel_info_request": self._on_kernel_info,
            "connect_request": lambda r: self.answer(r, self.facts.connect()),
            "comm_info_request": self.comms.on_info,
            "interrupt_request": self.interrupts.on_request,
            "shutdown_request": self._on_shutdown,
            "execute_request": self.enqueue,
            "comm_open": self.comms.on_open,
            "comm_msg": self.comms.on_comm,
            "comm_close": self.comms.on_comm,
            **dict.fromkeys(LOOKS, self.beside.on_look),
        }
        self._control_requests: dict[str, Callable[[Request], None]] = {
            **self._requests,
            "create_subshell_request": self.lifetimes.on_create,
            "delete_subshell_request": self.lifetimes.on_delete,
            "list_subshell_request": self.lifetimes.on_list,
            "usage_request": self._on_usage_request,
            "debug_request": self.debugging.on_request,
            "mpkernel_request": lambda r: self.ops.on_request(r),
        }
        self._from_worker: dict[type, Callable[[Worker, Any], None]] = {
            messages.IOPub: self._on_output,
            messages.CommTarget: lambda w, m: self.comms.owners.note_target(m.name, w, taken=m.taken),
            messages.Reply: self._on_reply,
            messages.Started: self._on_started,
            messages.Awaits: self._on_awaits,
            messages.Commit: self.sharing.on_commit,
            messages.Resent: self.sharing.on_resent,
            messages.Missed: lambda w, m: self.sharing.store.missed(w.id, m.number, m.names),
            messages.Acquire: self.sharing.on_acquire,
            messages.Released: self.sharing.on_released,
            messages.Settled: self.sharing.on_settled,
            messages.Hello: self.pool.on_hello,
            messages.Describe: self._on_described,
            messages.Ending: self.pool.on_ending,
            messages.InputRequest: self.stdin.on_request,
            messages.InputCancelled: lambda w, m: self.stdin.drop(w, token=m.token),
            messages.Op: self.ops.on_op,
            messages.Debugged: self.debugging.on_attached,
            messages.Flush: lambda w, m: self.act(ToWorker(w.id, messages.Flushed(m.token), service=True)),
            messages.Mark: lambda w, m: self.act(Acknowledge(w.id, m.token)),
            messages.AskLive: self.reads.on_ask_live,
            messages.AskTheirs: self.reads.on_ask_theirs,
            messages.AskCall: self.reads.on_ask_call,
            messages.LiveAnswer: self.reads.on_answer,
        }

    # --- in and out -----------------------------------------------------------------------------------------------

    def start(self) -> list[Action]:
        """The first actions of a kernel's life."""
        self.publish("status", {"execution_state": "starting"})
        self.keeping.start()
        self.main.worker = self.pool.start(self.main)
        return self._flush()

    def handle(self, event: Event, now: float) -> list[Action]:
        """Take one event; returns what is to be done, in order. `now` is a monotonic time in seconds."""
        self.now = now
        self._events[type(event)](event)
        return self._flush()

    def salvage(self) -> list[Action]:
        """What was to be done when `handle` failed half-way."""
        return self._flush()

    def act(self, action: Action) -> None:
        self._actions.append(action)

    def _flush(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    def number(self) -> int:
        """A fresh number: request seqs, tokens, worker ids."""
        self._next += 1
        return self._next

    def find(self, label: object) -> Subshell | None:
        """The subshell with this id or ``"main"``; None if there is none."""
        return self.main if label == MAIN else self.subshells.get(label) if isinstance(label, str) else None

    def publish(self, msg_type: str, content: dict[str, Any], parent: bytes = b"{}") -> None:
        """Send a message of the broker's own on iopub."""
        topic = iopub_topic(self.kernel_id, msg_type)
        self.act(Send("iopub", self.codec.pack(msg_type, content, parent=parent, idents=[topic]), own=True))

    # --- a request's life -----------------------------------------------------------------------------------------

    def _on_frontend(self, event: FrontendMessage) -> None:
        message = event.message
        if event.channel == "stdin":
            self.stdin.on_reply(message)
            return
        self.stdin.note_client(message)
        request = Request(self.number(), event.channel, message, self.now)
        table = self._control_requests if event.channel == "control" else self._requests
        handler = table.get(message.msg_type, self._on_unknown)
        try:
            unknown = message.subshell_id is not None and message.subshell_id not in self.subshells
            if unknown and not self.comms.owner(request):
                self._refuse_unknown_subshell(request)
            elif self.stopping:
                self.answer(request, answers.aborted())
            else:
                handler(request)
        except BadMessage as error:
            self.answer(request, answers.error(error))

    def _on_subscribed(self, event: Subscribed) -> None:
        frames = self.codec.pack("iopub_welcome", {"subscription": event.topic.decode(errors="replace")})
        self.act(Send("iopub", [event.topic, *frames]))

    def busy(self, request: Request) -> None:
        self.publish("status", {"execution_state": "busy"}, request.message.header_frame)

    def _idle(self, request: Request) -> None:
        """Idle for `request`; then, as front ends take the last status they saw as the kernel's, busy for what runs."""
        self.publish("status", {"execution_state": "idle"}, request.message.header_frame)
        if still := self.running_cells():
            self.busy(still[-1].running)  # type: ignore[arg-type]

    def running_cells(self) -> list[Subshell]:
        """Subshells in which an execute request runs, the one started last at the end."""
        running = [s for s in self.subshells.values() if s.running is not None and s.running.is_execute]
        return sorted(running, key=lambda s: (s.running.started, s.running.seq))  # type: ignore[union-attr]

    def answer(self, request: Request, content: dict[str, Any]) -> None:
        """Answer a request that no worker has seen."""
        self.busy(request)
        self.finish(request, content)

    def finish(self, request: Request, content: dict[str, Any], *, metadata: dict[str, Any] | None = None) -> None:
        """The broker's own reply to `request`, then idle. Errors are shown on iopub as well."""
        msg_type = request.message.msg_type
        parent = request.message.header_frame
        if content.get("status") == "error" and (request.is_execute or "subshell" in content.get("ename", "").lower()):
            shown = {key: content[key] for key in ("ename", "evalue", "traceback")}
            self.publish("error", shown, request.output_frame)
        if msg_type == "debug_request":
            content = answers.debug_failure(request.content(), content)
        if msg_type.endswith("_request"):
            reply = msg_type.removesuffix("_request") + "_reply"
            if request.is_execute:
                content = {"execution_count": 0, "payload": [], "user_expressions": {}, **content}
                metadata = {"status": content["status"], "engine": self.kernel_id, **(metadata or {})}
            frames = self.codec.pack(reply, content, parent=parent, metadata=metadata, idents=request.message.idents)
            self._reply(request, frames)
        self._idle(request)

    def _on_unknown(self, request: Request) -> None:
        text = f"message type {request.message.msg_type!r} is not known on the {request.channel} channel"
        self.act(Log("warning", text))
        self.answer(request, answers.error(BadMessage(text)))

    def _refuse_unknown_subshell(self, request: Request) -> None:
        missing = request.message.subshell_id
        error = SubshellNotFound(
            f"there is no subshell {missing!r} in this kernel: it was deleted, or the kernel was restarted. "
            "Open a new subshell console, or send the request without subshell_id to reach the parent subshell."
        )
        self.answer(request, answers.error(error))

    # --- queues and workers -----------------------------------------------------------------------------------------

    def subshell_of(self, request: Request) -> Subshell:
        return self.subshells.get(request.message.subshell_id, self.main)

    def enqueue(self, request: Request, subshell: Subshell | None = None) -> None:
        subshell = subshell or self.subshell_of(request)
        if self.aborting.concerns(subshell, request):
            self.answer(request, answers.aborted())
            return
        if self.put_in(subshell.queue, request, subshell):
            self.dispatch(subshell)

    def put_in(self, queue: Waiting, request: Request, subshell: Subshell) -> bool:
        """Have `request` wait in a queue of `subshell`; False if it is refused."""
        if queue.has_room(request):
            queue.append(request)
            return True
        waiting = f"{len(queue):,} requests ({queue.nbytes >> 20} MB) wait for subshell {subshell.shown}"
        error = TooManyRequests(f"{waiting}: no more are taken. Send it again when some of them are done.")
        if request.is_comm:  # which has no reply
            self.act(Log("warning", f"a {request.message.msg_type} was dropped: {error}"))
        self.answer(request, answers.error(error))
        return False

    def submit(self, subshell: Subshell, code: str, parent: dict[str, Any] | None, *, silent: bool = False) -> Request:
        """Run `code` in `subshell` on behalf of code in a cell; output goes to that cell."""
        quiet = {"silent": silent, "store_history": not silent, "allow_stdin": False, "stop_on_error": False}
        content = {"code": code, **quiet}
        frames = self.codec.pack("execute_request", content, header=self.codec.header("execute_request"))
        message = self.codec.unpack(frames)
        request = Request(self.number(), None, message, self.now, output_parent=parent)
        self.enqueue(request, subshell)
        return request

    def dispatch(self, subshell: Subshell) -> None:
        """Forward what waits for `subshell`, as far as its worker is free. Rules 1 and 5 live here."""
        if not subshell.queue:
            return
        worker = self.pool.worker_for(subshell)
        if not worker.ready or worker.ending or self.keeping.loading:
            return  # again at its Hello, when it is gone, or when what was kept is there
        self.comms.send(subshell, worker)
        if subshell.running is not None or not subshell.queue or subshell.queue[0].is_comm:
            return
        request = subshell.queue.popleft()
        request.started = max(request.received, subshell.idle_since)  # a process that starts doesn't change the order
        subshell.running = request
        worker.served = True
        self.busy(request)
        self.keeping.tell(request)
        crowded = self.sharing.before_request(worker, subshell)
        idents = request.message.idents
        blobs = (*idents, *request.message.frames)
        beside = crowded and self.sharing.cells_run_beside(worker)
        forward = messages.Request(
            request.seq,
            request.channel,
            len(idents),
            request.output_parent,
            crowded,
            beside,
            self.sharing.is_alone(worker),
            blobs,
        )
        self.act(ToWorker(worker.id, forward))
        self.comms.send(subshell, worker)

    def answer_all(self, subshell: Subshell, error: BaseException | None) -> int:
        """Answer what `subshell` runs with `error`, what is queued with ``aborted``; returns how many were queued."""
        worker = subshell.worker
        if worker is not None:
            self.beside.answer_all(worker)
            worker.comms.clear()
            self.stdin.drop(worker)
        if subshell.running is not None:
            request, subshell.running = subshell.running, None
            subshell.idle_since = self.now
            subshell.execution_count += request.has_prompt  # the next cell's prompt is another one
            content = answers.aborted() if error is None else answers.error(error)
            self.finish(request, {**content, "execution_count": subshell.execution_count})
        queued = [*subshell.queue, *subshell.to_debugger]
        subshell.queue.clear()
        subshell.to_debugger.clear()
        for request in queued:
            self.answer(request, answers.aborted())
        return len(queued)

    # --- what workers say -------------------------------------------------------------------------------------------

    def _on_worker_message(self, event: FromWorker) -> None:
        worker = self.workers.get(event.worker)
        if worker is not None:
            self._from_worker[type(event.message)](worker, event.message)

    def _on_output(self, worker: Worker, message: messages.IOPub) -> None:
        if worker.ending == "deleted":
            return  # the front end was told that the subshell is gone
        if message.comm:
            msg_type, comm_id, target = message.comm
            self.comms.owners.note(msg_type, comm_id, target, worker)
        self.act(Send("iopub", list(message.blobs)))

    def _on_started(self, worker: Worker, message: messages.Started) -> None:
        request = worker.subshell.running if worker.subshell else None
        if request is not None and request.seq == message.seq:
            request.running = True
            self.interrupts.on_started(worker, request, missed=message.missed)

    def _on_awaits(self, worker: Worker, message: messages.Awaits) -> None:
        subshell = worker.subshell
        if subshell is not None and subshell.running is not None and subshell.running.seq == message.seq:
            subshell.running.awaits = True
            self.dispatch(subshell)

    def release_reply(self, worker: Worker) -> None:
        """The worker may have merged what its reply was held back for."""
        if worker.held_back is not None and not self.sharing.holds_back(worker):
            message, worker.held_back = worker.held_back, None
            self._on_reply(worker, message)

    def _on_reply(self, worker: Worker, message: messages.Reply) -> None:
        subshell = worker.subshell
        if message.seq in worker.seqs:
            request = self.beside.take(worker, message.seq)
            worker.background = worker.background or message.background
            if request is None:
                return  # it took too long
            if message.seq in worker.comms:
                worker.comms.discard(message.seq)
                self.sharing.on_callback_done(worker, request.last_told, background=message.background)
            self._pass_reply(request, message)
            self.comms.go_on(worker)
        elif subshell is not None and subshell.running is not None and subshell.running.seq == message.seq:
            if self.sharing.holds_back(worker):
                worker.held_back = message
                return
            worker.background = message.background
            request, subshell.running = subshell.running, None
            self.sharing.on_reply(worker)
            subshell.execution_count = message.execution_count
            subshell.idle_since = self.now
            if message.last and not worker.ending:  # somebody sent it SIGTERM
                worker.ending = "terminated"
                self.act(SetTimer(("kill", worker.id), END_GRACE))  # an exit hook may hang
            self.stdin.drop(worker, seq=message.seq)
            self._pass_reply(request, message)
            if message.abort:
                self.aborting.on_failure(subshell, request)
            self.dispatch(subshell)

    def _pass_reply(self, request: Request, message: messages.Reply) -> None:
        if message.blobs:
            self._reply(request, [*request.message.idents, *message.blobs])
        self._idle(request)

    def _reply(self, request: Request, frames: list[bytes]) -> None:
        if request.channel is not None:
            self.act(Send(request.channel, frames))

    # --- while a cell runs ------------------------------------------------------------------------------------------

    def _on_kernel_info(self, request: Request) -> None:
        if self.facts.wrapper and not self._description and self.workers:
            self._wait_for_description.append(request)
        else:
            self.answer(request, {**self.facts.kernel_info(), **self._description})

    def _on_described(self, _worker: Worker, message: messages.Describe) -> None:
        self._description = message.content
        self.answer_kernel_infos()

    def answer_kernel_infos(self) -> None:
        waiting, self._wait_for_description = self._wait_for_description, []
        for request in waiting:
            self.answer(request, {**self.facts.kernel_info(), **self._description})

    # --- timers, shutdown -------------------------------------------------------------------------------------------

    def _on_timer(self, event: TimerFired) -> None:
        match event.key:
            case ("kill", int(worker_id)):
                self.pool.on_kill_timer(worker_id)
            case ("spare",):
                self.pool.on_spare_timer()
            case ("keep",):
                self.keeping.on_keep_timer()
            case ("keep alive",):
                self.keeping.on_day_timer()
            case ("kept",):
                self.keeping.on_kept_timer()
            case ("beside", int(seq)):
                self.beside.on_timer(seq)
            case ("exit",):
                self.stop("exit was called in a cell")
            case ("kick", int(token)):
                self.sharing.on_kick_timer(token)
            case ("acquire", int(token)):
                self.sharing.on_acquire_timer(token)
            case ("tell",):
                self.sharing.on_tell_timer()
            case ("last merge", int(worker_id)):
                self.sharing.on_last_merge(worker_id)
            case ("turn", int(worker_id)):
                self.sharing.turns.on_timer(worker_id)
            case ("interrupt", int(worker_id), int(seq)):
                self.interrupts.on_timer(worker_id, seq)
            case ("aborting", subshell_id) if subshell_id in self.subshells:
                self.aborting.on_timer(self.subshells[subshell_id])

    def _on_shutdown(self, request: Request) -> None:
        content = request.message.content()
        restart = bool(content.get("restart", False))
        self.restarting = restart
        self._answer_everything()
        self.busy(request)
        self.publish("shutdown_reply", {"status": "ok", "restart": restart}, request.message.header_frame)
        self.finish(request, {"status": "ok", "restart": restart})
        self._stop()

    def _on_told_to_stop(self, event: ToldToStop) -> None:
        self.stop(event.reason)

    def stop(self, reason: str) -> None:
        """End the kernel, without anyone's shutdown_request."""
        self.act(Log("info", f"shutting down: {reason}"))
        if not self.stopping:
            self._answer_everything()
            self._stop()

    def _answer_everything(self) -> None:
        self.answer_kernel_infos()
        self.keeping.give_up()
        for subshell in list(self.subshells.values()):
            self.answer_all(subshell, None)

    def _stop(self) -> None:
        self.stopping = True
        self.keeping.at_the_end(self._end_workers)

    def _end_workers(self) -> None:
        for worker in list(self.workers.values()):
            self.pool.end(worker, "shutdown")
        self.stop_if_done()

    def stop_if_done(self) -> None:
        """When the kernel is to stop and everything has come to its end: stop."""
        if self.stopping and not self.workers and not self.keeping.busy and not self._stopped:
            self._stopped = True
            self.act(Stop())

    # --- usage ------------------------------------------------------------------------------------------------------

    def _on_usage_request(self, request: Request) -> None:
        self.busy(request)
        self._usage[request.seq] = request
        self.act(MeasureUsage(request.seq))

    def _on_usage(self, event: UsageMeasured) -> None:
        if request := self._usage.pop(event.token, None):
            self.finish(request, event.content)
