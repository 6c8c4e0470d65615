"""A kernel on the bench: the state machine, with front ends, workers and a clock that the test plays.

`Kernel` feeds events to the machine and takes down what it does: messages decoded, timers by the time at which they
are due. A `FakeWorker` is one process; nothing happens in it but what the test says. `Kernel.check` holds for every
sequence of events, so the fixture `kernel` calls it at the end of each test.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mpkernel import messages
from mpkernel.broker.answers import Facts
from mpkernel.broker.events import (
    Action,
    CancelTimer,
    DumpStacks,
    Event,
    FromWorker,
    FrontendMessage,
    Inquire,
    Inquired,
    LoadNamespace,
    Log,
    MeasureUsage,
    NamespaceLoaded,
    NamespaceSaved,
    SaveNamespace,
    SegmentsRefused,
    Send,
    SetTimer,
    SignalWorker,
    StacksDumped,
    StartWorker,
    Stop,
    TimerFired,
    ToWorker,
    UsageMeasured,
    WorkerGone,
    WorkerLaunched,
)
from mpkernel.broker.machine import Machine
from mpkernel.broker.state import Subshell
from mpkernel.namespace.component import DELETED, HELD, Component, join
from mpkernel.wire import Codec, Json, Message, Signer

SESSION = "the-kernel"
JUPYTERLAB, CONSOLE = (b"jupyterlab",), (b"console",)  # two clients, by their ZMQ identities
START = 1000.0  # the clock's first time

L = TypeVar("L", bound=messages.LaneMessage)
_signer = Signer(b"secret")


@dataclass(frozen=True)
class Sent:
    """A message that the kernel sent."""

    channel: str
    message: Message

    @property
    def type(self) -> str:
        return self.message.msg_type

    @property
    def content(self) -> Json:
        return self.message.content()

    @property
    def parent(self) -> str | None:
        """The id of the message it is about."""
        return self.message.parent_header().get("msg_id")

    @property
    def to(self) -> tuple[bytes, ...]:
        """The client, or the topic on iopub."""
        return self.message.idents

    def __str__(self) -> str:
        return f"{self.channel}: {self.type} for {self.parent}: {self.message.frames[3].decode()}"


@dataclass(frozen=True)
class Asked:
    """A request of a front end."""

    channel: str
    message: Message

    @property
    def id(self) -> str:
        return self.message.msg_id

    @property
    def has_reply(self) -> bool:
        return self.message.msg_type.endswith("_request")


@dataclass
class FakeWorker:
    """One process, as the broker knows it: by what it says, how it is signalled, and that it ends."""

    kernel: Kernel
    id: int
    pid: int | None = None
    said_hello: bool = False
    gone: bool = False
    ordered: list[messages.LaneMessage] = field(default_factory=list)  # what it got, by lane
    service: list[messages.LaneMessage] = field(default_factory=list)
    merged: int = 0  # how many Merge messages it has answered
    released: int = 0  # and how many Release messages
    refused: int = 0  # commits of which the memory could not be had, since `resend`
    signals: list[int] = field(default_factory=list)
    running: messages.Request | None = None  # got, not yet replied to
    started: bool = False
    side: list[messages.SideRequest] = field(default_factory=list)  # got, not yet replied to
    comms: list[messages.CommRequest] = field(default_factory=list)  # got, not yet replied to
    executions: int = 0

    def __post_init__(self) -> None:
        self._codec = Codec(_signer, session=SESSION, origin=f"w{self.id}", clock=lambda: "today")
        self._tokens = itertools.count(1)

    def got(self, kind: type[L]) -> list[L]:
        """The messages of that kind, from both lanes."""
        return [message for message in (*self.ordered, *self.service) if isinstance(message, kind)]

    @property
    def cell(self) -> str | None:
        """The code that it is to run, if any."""
        return None if self.running is None else message_of(self.running).content().get("code")

    # --- its life ---------------------------------------------------------------------------------------------------

    def launch(self) -> FakeWorker:
        """Its process exists from now on."""
        self.pid = 5000 + self.id
        self.kernel.handle(WorkerLaunched(self.id, self.pid))
        return self

    def hello(self) -> FakeWorker:
        """It is ready for its first message."""
        if self.pid is None:
            self.launch()
        assert self.pid is not None
        self.said_hello = True
        self.say(messages.Hello(self.pid))
        return self

    def die(
        self,
        returncode: int | None = -signal.SIGKILL,
        *,
        dump: str = "",
        reason: str = "",
        last_words: tuple[tuple[str, str], ...] = (),
    ) -> None:
        """Its process ends."""
        self.gone = True
        self.kernel.handle(WorkerGone(self.id, returncode, reason, dump, last_words))

    def say(self, message: messages.LaneMessage) -> None:
        self.kernel.handle(FromWorker(self.id, message))

    @property
    def given_up(self) -> bool:
        """Whether the broker has stopped waiting for its end."""
        was_killed = self.pid is None or signal.SIGKILL in self.signals
        return not self.gone and was_killed and self.id not in self.kernel.machine.workers

    # --- what it does with requests ---------------------------------------------------------------------------------

    def start(self, *, missed: bool = False) -> FakeWorker:
        """Say that it has begun with the request it got, and whether an interrupt came too early for that."""
        assert self.running is not None, "it has nothing to run"
        self.started = True
        self.say(messages.Started(self.running.seq, missed))
        return self

    def reply(
        self, status: str = "ok", *, abort: bool = False, last: bool = False, background: bool = False, **content: Any
    ) -> None:
        """Be done with what it runs; with `last`, its process will end by itself; with `background`, threads go on."""
        assert self.running is not None, "it has nothing to reply to"
        if not self.started:
            self.start()
        request, message = self.running, message_of(self.running)
        self.running, self.started = None, False
        blobs: list[bytes] = []
        if message.msg_type.endswith("_request"):
            self.executions += message.msg_type == "execute_request"
            content = {"status": status, "execution_count": self.executions, **content}
            blobs = self.pack_reply(message, content)
        self.say(messages.Reply(request.seq, abort, self.executions, tuple(blobs), last, background))

    def reply_comm(self, *, background: bool = False) -> None:
        """Be done with the oldest message for a comm."""
        self.say(messages.Reply(self.comms.pop(0).seq, False, 0, (), background=background))

    def reply_aside(self, **content: Any) -> None:
        """Answer the oldest request on the service lane."""
        request = self.side.pop(0)
        blobs = self.pack_reply(message_of(request), {"status": "ok", **content})
        self.say(messages.Reply(request.seq, False, 0, tuple(blobs)))

    def pack_reply(self, message: Message, content: Json) -> list[bytes]:
        reply = message.msg_type.removesuffix("_request") + "_reply"
        return self._codec.pack(reply, content, parent=message.header_frame)

    # --- what user code does ----------------------------------------------------------------------------------------

    def publish(self, msg_type: str, content: Json, *, comm: list[str] | None = None) -> None:
        """Send on iopub, under the request that it runs."""
        parent: bytes | Json = b"{}"
        if self.running is not None:
            parent = self.running.output_parent or message_of(self.running).header_frame
        blobs = self._codec.pack(msg_type, content, parent=parent, idents=[msg_type.encode()])
        self.say(messages.IOPub(comm, tuple(blobs)))

    def print(self, text: str) -> None:
        self.publish("stream", {"name": "stdout", "text": text})

    def open_comm(self, comm_id: str, target: str = "jupyter.widget") -> None:
        content = {"comm_id": comm_id, "target_name": target, "data": {}}
        self.publish("comm_open", content, comm=["comm_open", comm_id, target])

    def close_comm(self, comm_id: str, target: str = "jupyter.widget") -> None:
        self.publish("comm_close", {"comm_id": comm_id, "data": {}}, comm=["comm_close", comm_id, target])

    def commit(self, *names: str, deleted: Iterable[str] = (), lost: Iterable[str] = ()) -> None:
        """Publish names; each value's pickle is the name itself."""
        parts = [Component((name,), blobs=(name.encode(),)) for name in names]
        parts += [Component((name,), DELETED) for name in deleted]
        parts += [Component((name,), meta={"stubs": [name]}, blobs=(b"stub",)) for name in lost]
        heads, blobs = join(parts)
        self.say(messages.Commit(self._last_told(), heads, [], False, blobs))

    def hold(self, *names: str) -> None:
        """Tell that there are new values, which are too large to be published unasked."""
        heads, blobs = join([Component((name,), HELD) for name in names])
        self.say(messages.Commit(self._last_told(), heads, [], False, blobs))

    def _last_told(self) -> int:
        told = [m.number for m in (*self.ordered, *self.service) if isinstance(m, (messages.News, messages.Merge))]
        return max(told, default=0)

    def lose_memory(self, *names: str) -> None:
        """Publish names in memory that the broker can't get at."""
        self.refused += 1
        self.kernel.handle(SegmentsRefused(self.id, list(names)))
        self.commit()

    def resend(self) -> bool:
        """Say that what was refused is committed, if anything was."""
        refused, self.refused = self.refused, 0
        for _ in range(refused):
            self.say(messages.Resent())
        return bool(refused)

    def merge(self) -> bool:
        """Answer what it was told to merge, if anything."""
        told = [message for message in self.ordered if isinstance(message, messages.Merge)]
        fresh, self.merged = told[self.merged :], len(told)
        for message in fresh:
            self.commit(*message.names)
        return bool(fresh)

    def release(self) -> bool:
        """Say that it has committed what it was asked for, if anything."""
        told = self.got(messages.Release)
        fresh, self.released = told[self.released :], len(told)
        for message in fresh:
            self.say(messages.Released(message.token))
        return bool(fresh)

    def ask_input(self, prompt: str = "") -> int:
        """`input()` in the running cell; returns the token."""
        assert self.running is not None
        message, token = message_of(self.running), next(self._tokens)
        header = self._codec.header("input_request", subshell_id=message.subshell_id)
        blobs = self._codec.pack("input_request", {"prompt": prompt}, parent=message.header_frame, header=header)
        self.say(messages.InputRequest(token, self.running.seq, header["msg_id"], tuple(blobs)))
        return token

    def cancel_input(self, token: int) -> None:
        self.say(messages.InputCancelled(token))

    @property
    def typed(self) -> list[tuple[int, str]]:
        """What users answered, with the tokens of the questions."""
        return [(reply.token, reply.value) for reply in self.got(messages.InputReply)]

    def op(self, op: str, **content: Any) -> int:
        """An operation, asked for by its cell; returns the token."""
        token = next(self._tokens)
        self.say(messages.Op(token, op, content))
        return token

    def op_reply(self, token: int) -> Json:
        [reply] = [reply for reply in self.got(messages.OpReply) if reply.token == token]
        return reply.content


class Kernel:
    """The machine and all that is around it. `settings` go to the machine."""

    def __init__(self, *, wrapper: bool = False, **settings: Any) -> None:
        self.now = START
        self.actions: list[Action | Sent] = []  # what happened since `clear`, in order
        self._all: list[Sent] = []  # since the start
        self.workers: dict[int, FakeWorker] = {}
        self.timers: dict[tuple[Any, ...], float] = {}
        self.asked: dict[str, Asked] = {}
        self.stopped = False
        self.measures_at_once = False  # as the loop does
        self.files: list[SaveNamespace | LoadNamespace] = []  # that are to be written or read
        self._tokens = itertools.count()
        ids = (f"subshell-{n}" for n in itertools.count(1))
        self._front_end = Codec(_signer, session="a-front-end", origin="f", clock=lambda: "today")
        self._reader = Codec(_signer)
        codec = Codec(_signer, session=SESSION, origin="b", clock=lambda: "today")
        facts = Facts("1.2.3", "9.9", "3.11.0", ports={"shell": 1, "control": 2}, pid=4999, wrapper=wrapper)
        self.machine = Machine(codec, facts, kernel_id="kid", now=self.now, new_id=ids.__next__, **settings)
        self._do(self.machine.start())

    # --- events in, actions out -------------------------------------------------------------------------------------

    def handle(self, event: Event) -> None:
        """Give the machine an event, and take down what it does."""
        self._do(self.machine.handle(event, self.now))

    def _do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(channel, frames):
                    assert channel in ("shell", "control", "stdin", "iopub"), action
                    sent = Sent(channel, self._reader.unpack(frames, refuse_replays=False))
                    self.actions.append(sent)
                    self._all.append(sent)
                    continue
                case StartWorker(worker):
                    assert worker not in self.workers, action
                    self.workers[worker] = FakeWorker(self, worker)
                case ToWorker(worker, message, service):
                    self._deliver(self._living(action, worker), message, service)
                case SignalWorker(worker, signum):
                    self._living(action, worker).signals.append(signum)
                    fake = self.workers[worker]
                    known = self.machine.workers.get(worker)
                    merges = known is not None and known.held_back is not None
                    busy = fake.running is not None or fake.comms or fake.side or merges
                    assert signum != signal.SIGINT or busy, "SIGINT while nothing runs"
                case SetTimer(key, delay):
                    assert delay >= 0, action
                    self.timers[key] = self.now + delay
                case CancelTimer(key):
                    self.timers.pop(key, None)
                case DumpStacks(_, worker):
                    self._living(action, worker)
                case Stop():
                    assert not self.stopped, "stopped twice"
                    assert not self.living(), "stopped before its workers"
                    assert all(worker.gone or worker.given_up for worker in self.workers.values())
                    self.stopped = True
                case SaveNamespace() | LoadNamespace():
                    self.files.append(action)
            self.actions.append(action)
            if isinstance(action, Inquire):
                self.handle(Inquired(action.token, {}))
            if isinstance(action, MeasureUsage) and self.measures_at_once:
                self.measure()

    def _living(self, action: Action, worker: int) -> FakeWorker:
        assert worker in self.workers, f"{action} is for a worker that never was"
        assert not self.workers[worker].gone, f"{action} is for a worker that is gone"
        return self.workers[worker]

    @staticmethod
    def _deliver(worker: FakeWorker, message: messages.LaneMessage, service: bool) -> None:
        assert worker.said_hello, f"{message} before Hello"
        assert messages.unpack(messages.pack(message, _signer), _signer) == message, "it doesn't survive the lane"
        if isinstance(message, messages.Request):
            assert not service, "a request for the main thread goes by the ordered lane"
            assert worker.running is None, "a second request while one runs"
            worker.running, worker.started = message, False
        elif isinstance(message, messages.SideRequest):
            worker.side.append(message)
        elif isinstance(message, messages.CommRequest):
            assert not service, "messages for comms come before the cells that come after them"
            worker.comms.append(message)
        (worker.service if service else worker.ordered).append(message)

    def pass_time(self, seconds: float) -> None:
        """Let the clock go on; timers that are due fire, in order."""
        end = self.now + seconds
        while due := [(at, key) for key, at in self.timers.items() if at <= end]:
            self.now, key = min(due, key=lambda timer: timer[0])
            del self.timers[key]
            self.handle(TimerFired(key))
        self.now = end

    # --- front ends -------------------------------------------------------------------------------------------------

    def ask(
        self,
        msg_type: str,
        content: object = None,
        *,
        channel: str = "shell",
        subshell: str | None = None,
        client: tuple[bytes, ...] = JUPYTERLAB,
        aware: bool = True,
        parent: Json | None = None,
        date: str | None = None,
    ) -> Asked:
        """A message from a front end. One that isn't `aware` of subshells sends no ``subshell_id``."""
        header = self._front_end.header(msg_type)
        if date is not None:
            header["date"] = date
        if aware:
            header["subshell_id"] = subshell
        content = {} if content is None else content
        frames = self._front_end.pack(msg_type, content, header=header, parent=parent or {}, idents=client)
        asked = Asked(channel, self._reader.unpack(frames))
        if channel != "stdin":
            self.asked[asked.id] = asked
        self.handle(FrontendMessage(channel, asked.message))
        return asked

    def control(self, msg_type: str, content: object = None, **options: Any) -> Asked:
        return self.ask(msg_type, content, channel="control", **options)

    def execute(
        self,
        code: str = "pass",
        subshell: str | None = None,
        *,
        client: tuple[bytes, ...] = JUPYTERLAB,
        channel: str = "shell",
        aware: bool = True,
        date: str | None = None,
        **content: Any,
    ) -> Asked:
        content = {"code": code, **content}
        return self.ask(
            "execute_request", content, subshell=subshell, client=client, channel=channel, aware=aware, date=date
        )

    def answer_input(
        self,
        value: object,
        *,
        to: Sent | None = None,
        parent: Json | None = None,
        subshell: str | None = None,
        client: tuple[bytes, ...] = JUPYTERLAB,
    ) -> None:
        """The user types; with `to`, the front end says which input_request this answers."""
        parent = to.message.header if to is not None else parent
        content = {"value": value}
        self.ask(
            "input_reply",
            content,
            channel="stdin",
            subshell=subshell,
            client=client,
            aware=subshell is not None,
            parent=parent,
        )

    def create(self, name: str | None = None) -> str:
        """A new subshell; returns its id."""
        reply = self.reply(self.control("create_subshell_request", {} if name is None else {"name": name}))
        return str(reply["subshell_id"])

    def delete(self, subshell: object) -> Asked:
        return self.control("delete_subshell_request", {"subshell_id": subshell})

    def interrupt(self, subshell: str | None = None) -> Asked:
        return self.control("interrupt_request", subshell=subshell)

    def op(self, op: object, **content: Any) -> Asked:
        """What ``mpkernel`` on the command line sends."""
        return self.control("mpkernel_request", {"op": op, **content})

    def ps(self) -> dict[str, Json]:
        """The rows of ``mpkernel ps``, by subshell."""
        return {row["subshell"]: row for row in self.reply(self.op("ps"))["subshells"]}

    # --- workers ----------------------------------------------------------------------------------------------------

    def subshell(self, subshell: str | None = None) -> Subshell:
        return self.machine.subshells[subshell]

    def worker(self, subshell: str | None = None) -> FakeWorker:
        """The process of a subshell, which must have one."""
        worker = self.subshell(subshell).worker
        assert worker is not None, f"{subshell} has no process"
        return self.workers[worker.id]

    def ready(self, subshell: str | None = None) -> FakeWorker:
        """The process of a subshell, ready and idle; started by a cell if need be."""
        found = self.subshell(subshell).worker
        if found is None:
            self.execute("pass", subshell)
        worker = self.worker(subshell)
        if not worker.said_hello:
            worker.hello()
        if worker.running is not None:
            worker.reply()
        return worker

    def running(self, code: str = "while True: pass", subshell: str | None = None, **content: Any) -> Asked:
        """A cell that runs in a subshell."""
        self.ready(subshell)
        asked = self.execute(code, subshell, **content)
        self.worker(subshell).start()
        return asked

    @property
    def spare(self) -> FakeWorker | None:
        return None if self.machine.pool.spare is None else self.workers[self.machine.pool.spare.id]

    def living(self) -> list[FakeWorker]:
        """Those that the broker counts with."""
        return [worker for worker in self.workers.values() if worker.id in self.machine.workers]

    # --- what happened ----------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Look only at what happens from now on."""
        self.actions.clear()

    def done(self, kind: type[Action]) -> list[Any]:
        """The actions of that kind, other than messages to front ends."""
        return [action for action in self.actions if isinstance(action, kind)]

    def sent(
        self, channel: str | None = None, msg_type: str | None = None, *, about: Asked | None = None
    ) -> list[Sent]:
        """Messages to front ends."""
        return [
            action
            for action in self.actions
            if isinstance(action, Sent)
            and channel in (None, action.channel)
            and msg_type in (None, action.type)
            and (about is None or action.parent == about.id)
        ]

    def replies(self, asked: Asked) -> list[Sent]:
        return [sent for sent in self.sent(about=asked) if sent.channel in ("shell", "control")]

    def reply(self, asked: Asked) -> Json:
        """The content of the reply, which must be there and go to where the request came from."""
        [reply] = self.replies(asked)
        assert reply.type == asked.message.msg_type.removesuffix("_request") + "_reply"
        assert (reply.channel, reply.to) == (asked.channel, asked.message.idents)
        return reply.content

    def status(self, asked: Asked) -> str | None:
        """The ``status`` of the reply, None while there is none."""
        return str(self.reply(asked).get("status")) if self.replies(asked) else None

    def story(self, asked: Asked) -> list[str]:
        """All that was sent about a request, in order: its states and the types of the other messages."""
        return [
            sent.content["execution_state"] if sent.type == "status" else sent.type for sent in self.sent(about=asked)
        ]

    def iopub_states(self) -> list[tuple[str, str | None]]:
        """Each ``status``, with the id of the request it is about."""
        return [(sent.content["execution_state"], sent.parent) for sent in self.sent("iopub", "status")]

    @property
    def state(self) -> str:
        """What a front end takes for the kernel's state: the last ``status`` that it saw."""
        return self.iopub_states()[-1][0]

    def logged(self) -> list[str]:
        return [action.text for action in self.actions if isinstance(action, Log)]

    def measure(self, **content: Any) -> None:
        """The usage that was asked for is there."""
        self.handle(UsageMeasured(self.done(MeasureUsage)[-1].token, {"status": "ok", **content}))

    def file_done(self, *parts: Component, error: str = "", saved: str = "yesterday") -> None:
        """The oldest file that was asked for is written, or has these parts; or there is an error."""
        action = self.files.pop(0)
        if isinstance(action, SaveNamespace):
            self.handle(NamespaceSaved(action.token, error, 100))
        else:
            self.handle(NamespaceLoaded(action.token, error, list(parts), [], saved))

    def dump(self, text: str) -> None:
        """The stacks that were asked for are there."""
        self.handle(StacksDumped(self.done(DumpStacks)[-1].token, text))

    # --- what always holds ------------------------------------------------------------------------------------------

    def check(self, *, all_answered: bool = False) -> None:
        """One session in all that was sent; and busy, reply, idle for each request, once and in this order."""
        for sent in self._all:
            assert sent.message.header["session"] == SESSION, sent
        courses = self._courses()
        for asked in self.asked.values():
            course = courses.get(asked.id, [])
            whole = ["busy", "reply", "idle"] if asked.has_reply else ["busy", "idle"]
            allowed = [whole] if all_answered else [[], ["busy"], whole]
            assert course in allowed, (asked.message.msg_type, course)

    def _courses(self) -> dict[str | None, list[str]]:
        """For each request its states and replies. A busy said again, after another request's idle, isn't counted."""
        courses: dict[str | None, list[str]] = {}
        last = ""
        for sent in self._all:
            course = courses.setdefault(sent.parent, [])
            if sent.channel in ("shell", "control"):
                course.append("reply")
            elif sent.type == "status":
                state = sent.content["execution_state"]
                if not (state == "busy" and course == ["busy"] and last == "idle"):
                    course.append(state)
                last = state
        return courses


def message_of(request: messages.Request | messages.SideRequest | messages.CommRequest) -> Message:
    idents, frames = request.blobs[: request.n_idents], request.blobs[request.n_idents :]
    return Codec(_signer).unpack([*idents, b"<IDS|MSG>", _signer.sign(frames[:4]), *frames])


def code_of(request: messages.Request) -> str:
    """The cell that a request carries."""
    return str(message_of(request).content().get("code"))
