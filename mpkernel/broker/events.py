"""What happens to the broker (events) and what it does about it (actions).

`Machine.handle(event, now)` takes one event and returns actions; nothing else goes in or out. With ``--log-level
debug`` the loop prints both, so that a user's log replays as a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mpkernel.messages import LaneMessage
from mpkernel.namespace.component import Component
from mpkernel.records import Record, record
from mpkernel.wire import Message

# --- events -------------------------------------------------------------------------------------------------------


@record
class FrontendMessage(Record):
    """A verified message from a front end on ``shell``, ``control`` or ``stdin``."""

    channel: str
    message: Message


@record
class Subscribed(Record):
    """A front end subscribed to a topic of the iopub channel."""

    topic: bytes


@record
class FromWorker(Record):
    """A verified message from a worker, from either lane."""

    worker: int
    message: LaneMessage


@record
class WorkerLaunched(Record):
    """The process of a worker exists."""

    worker: int
    pid: int


@record
class WorkerGone(Record):
    """The process has ended, and all that it sent has been handled before this event.

    `returncode` is as in `subprocess`: negative for a signal; None if it never came to be (`reason` says why).
    `dump` is what `faulthandler` wrote on the way out, if anything; `last_words` what was in the pipes behind fds 1 and
    2: (stream name, text); `loading` is the variable that it was loading.
    """

    worker: int
    returncode: int | None
    reason: str = ""
    dump: str = ""
    last_words: tuple[tuple[str, str], ...] = ()
    loading: str = ""


@record
class SegmentsRefused(Record):
    """The memory of these names could not be had, so that they are left out of the commit that comes next."""

    worker: int
    names: list[str]


@record
class MemoryShort(Record):
    """Copies of large values take so many bytes, or segments, more than there is room for."""

    nbytes: int
    segments: int = 0


@record
class TimerFired(Record):
    key: tuple[Any, ...]


@record
class Interrupted(Record):
    """SIGINT to the broker: the front end's way to interrupt with ``interrupt_mode: signal``."""


@record
class ToldToStop(Record):
    """SIGTERM or SIGHUP to the broker, or the front end that started it died."""

    reason: str


@record
class UsageMeasured(Record):
    """The answer to `MeasureUsage`."""

    token: int
    content: dict[str, Any]


@record
class StacksDumped(Record):
    """The answer to `DumpStacks`."""

    token: int
    text: str


@record
class NamespaceSaved(Record):
    """The answer to `SaveNamespace`: what went wrong, if anything, else how many bytes were written."""

    token: int
    error: str
    nbytes: int = 0


@record
class NamespaceLoaded(Record):
    """The answer to `LoadNamespace`: what went wrong, if anything, else what there is; `saved` is when, for people."""

    token: int
    error: str
    components: Sequence[Component] = ()
    left_out: Sequence[list[Any]] = ()
    saved: str = ""


@record
class Inquired(Record):
    """The answer to `Inquire`."""

    token: int
    content: dict[str, Any]


Event = (
    FrontendMessage
    | Subscribed
    | FromWorker
    | WorkerLaunched
    | WorkerGone
    | TimerFired
    | SegmentsRefused
    | MemoryShort
    | Interrupted
    | ToldToStop
    | UsageMeasured
    | StacksDumped
    | NamespaceSaved
    | NamespaceLoaded
    | Inquired
)

# --- actions ------------------------------------------------------------------------------------------------------


@record
class Send(Record):
    """Send frames to front ends on ``shell``, ``control``, ``stdin`` or ``iopub``."""

    channel: str
    frames: list[bytes]
    own: bool = False  # on iopub: the broker's, small, and not to wait behind what cells print


@record
class Acknowledge(Record):
    """Tell a worker `Passed` when all that was sent on iopub before has been handed over."""

    worker: int
    token: int


@record
class ToWorker(Record):
    """Send a message on the ordered lane, or on the service lane."""

    worker: int
    message: LaneMessage
    service: bool = False


@record
class StartWorker(Record):
    """Start a process; `WorkerLaunched` and its `Hello`, or `WorkerGone`, will follow."""

    worker: int


@record
class SignalWorker(Record):
    """Signal a worker's process group: the worker and what its cells started."""

    worker: int
    signum: int


@record
class SignalProcess(Record):
    """Signal a worker, and nothing that its cells started."""

    worker: int
    signum: int


@record
class SetTimer(Record):
    """`TimerFired(key)` in `delay` seconds; replaces an earlier timer with the same key."""

    key: tuple[Any, ...]
    delay: float


@record
class CancelTimer(Record):
    key: tuple[Any, ...]


@record
class MeasureUsage(Record):
    """Sum memory and CPU over the whole process tree; `UsageMeasured` follows."""

    token: int


@record
class DumpStacks(Record):
    """Have a worker write the stacks of all its threads, whatever it does; `StacksDumped` follows."""

    token: int
    worker: int


@record
class SaveNamespace(Record):
    """Write these components into a file, replacing it; `NamespaceSaved` follows. `left_out`: see `archive`."""

    token: int
    path: str
    components: list[Component]
    left_out: list[list[Any]]


@record
class LoadNamespace(Record):
    """Read a file, after checking that this user's key signed it; `NamespaceLoaded` follows.

    With `if_there` a file that doesn't exist is one that has nothing.
    """

    token: int
    path: str
    if_there: bool = False


@record
class Inquire(Record):
    """Find out what the machine can't know: ``info`` (versions, limits, fast paths) or ``logs``; `Inquired` follows."""

    token: int
    what: str


@record
class RemoveFile(Record):
    """Remove a file, if there is one."""

    path: str


@record
class Log(Record):
    level: str  # a method name of `logging.Logger`
    text: str


@record
class Stop(Record):
    """Every worker is gone: end the loop."""


Action = (
    Send
    | Acknowledge
    | ToWorker
    | StartWorker
    | SignalWorker
    | SignalProcess
    | SetTimer
    | CancelTimer
    | MeasureUsage
    | DumpStacks
    | SaveNamespace
    | LoadNamespace
    | RemoveFile
    | Inquire
    | Log
    | Stop
)
