"""What the broker knows: subshells, workers, requests. Plain data; the rules are in `machine`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from mpkernel.broker.waiting import Waiting
from mpkernel.errors import BadMessage
from mpkernel.messages import Reply
from mpkernel.wire import Message, dumps

COMM_TYPES = frozenset(("comm_open", "comm_msg", "comm_close"))
MAIN = "main"  # how people and the command line call the parent subshell, whose id on the wire is null


# How a subshell takes part in the namespace: fully; with a copy of it as it was at its first cell; not at all.
MODES = ("shared", "snapshot", "isolated")


@dataclass(slots=True, eq=False)
class Request:
    """One request of a front end that waits or runs."""

    seq: int
    channel: str | None  # None: nobody waits for the reply (code that a cell had run in another subshell)
    message: Message
    received: float
    started: float | None = None  # once it was forwarded: since when no other request kept it waiting
    running: bool = False  # the worker said `Started`
    last_told: int = 0  # number of the last news that its worker was sent before it, if it is for a comm
    awaits: bool = False  # it is a cell that has come to an await: messages for comms needn't wait for its end
    interrupt_wanted: bool = False  # interrupted before it ran
    signalled: bool = False  # so the signal was sent though it may not have run
    interrupts: int = 0
    interrupted: float | None = None  # when it was, the first time while it ran
    output_parent: dict[str, Any] | None = None

    @property
    def output_frame(self) -> bytes:
        """The parent header of what it prints and shows."""
        return self.message.header_frame if self.output_parent is None else dumps(self.output_parent)

    @property
    def is_execute(self) -> bool:
        return self.message.msg_type == "execute_request"

    @property
    def has_prompt(self) -> bool:
        """Whether it is a cell with a number of its own."""
        content = self.content() if self.is_execute else {"silent": True}
        return not content.get("silent") and bool(content.get("store_history", True))

    @property
    def is_comm(self) -> bool:
        return self.message.msg_type in COMM_TYPES

    @property
    def is_urgent(self) -> bool:
        """Whether it is for a comm and came under a subshell's id: so it needn't wait for the main subshell's cells."""
        return self.is_comm and self.message.subshell_id is not None

    def content(self) -> dict[str, Any]:
        """The content, or an empty dict if it can't be parsed (the worker reports that)."""
        try:
            return self.message.content()
        except BadMessage:
            return {}

    @property
    def cell(self) -> str | None:
        """First line of the code, for people."""
        code = self.content().get("code") if self.is_execute else None
        return next((line for line in code.splitlines() if line.strip()), "") if isinstance(code, str) else None


@dataclass(slots=True, eq=False)
class Worker:
    """One process."""

    id: int
    pid: int | None = None
    ready: bool = False  # it said Hello
    served: bool = False  # it was given a request
    subshell: Subshell | None = None
    ending: str | None = None  # why we asked it to end: "deleted", "killed", "shutdown"
    seqs: set[int] = field(default_factory=set)  # requests that it has beside the one it runs
    nbytes_beside: int = 0  # what these take: if it is stopped, they are all in its lane
    comms: set[int] = field(default_factory=set)  # those of them that are messages for comms
    held_back: Reply | None = None  # its last reply, until it has merged what its cell changed
    unkillable: bool = False  # it was sent SIGKILL, and the system hasn't ended it yet
    told: bool = False  # it was given what others had committed
    last_told: int = 0  # number of the last news that were sent before a request
    debugged: bool = False  # a debugger is attached
    debug_parent: bytes = b"{}"  # header of the last request to its debugger
    background: bool = False  # it may have changed variables, or change them, though it runs no cell


@dataclass(frozen=True, slots=True)
class Failure:
    """The cell that failed last, with whose client and when."""

    session: object  # the client's
    sent: float  # by the client's clock
    received: float  # by ours
    took: float  # seconds from receipt to error


@dataclass(slots=True, eq=False)
class Subshell:
    """The logical thing with an id; has a process once a request needs one."""

    id: str | None
    name: str | None
    created: float
    worker: Worker | None = None
    queue: Waiting = field(default_factory=Waiting)
    to_debugger: Waiting = field(default_factory=Waiting)  # until the process is ready
    running: Request | None = None
    execution_count: int = 0
    idle_since: float = 0.0
    failed_starts: int = 0
    refused: str = ""  # why the system let one of these fail, if that is known
    died: str | None = None  # how its last worker ended, until the next one is there
    mode: str = "shared"  # how it takes part in the namespace
    failed: Failure | None = None
    aborting: bool = False  # within `stop_on_error_timeout` after an error

    @property
    def label(self) -> str:
        return self.id or MAIN

    @property
    def shown(self) -> str:
        """What people know it by."""
        return self.name or self.label

    @property
    def current(self) -> Request | None:
        """The request that an interrupt means: the running one, or the one that waits for the process to start."""
        if self.running is not None or not self.queue:
            return self.running
        is_there = self.worker is not None and self.worker.ready and not self.worker.ending
        return None if is_there and self.queue[0].is_comm else self.queue[0]

    @property
    def state(self) -> str:
        """As ``mpkernel ps`` shows it."""
        if self.worker is None:
            return "dead" if self.died else "lazy"
        if self.worker.ending:
            return "stopping"
        if not self.worker.ready:
            return "starting"
        return "busy" if self.running or self.worker.comms else "idle"


@dataclass(slots=True, eq=False)
class OpenInput:
    """A worker waits for what the user types."""

    worker: Worker
    token: int
    request: Request
    msg_id: str
    frames: tuple[bytes, ...]
    shown: bool = False


@dataclass(slots=True, eq=False)
class KillJob:
    """``mpkernel kill`` in progress; answered when the process is gone."""

    request: Request | None  # None: asked by code in a cell
    reply_to: tuple[int, int] | None  # (worker id, token) then
    started: float
    sent: list[str]
    aborted: int
    lost: list[str]
