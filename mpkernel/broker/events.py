"""What happens to the broker (events) and what it does about it (actions).

`Machine.handle(event, now)` takes one event and returns actions; nothing else goes in or out. With ``--log-level
debug`` the loop prints both, so that a user's log replays as a test.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mpkernel.messages import LaneMessage
from mpkernel.wire import Message

# --- events -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FrontendMessage:
    """A verified message from a front end on ``shell``, ``control`` or ``stdin``."""

    channel: str
    message: Message


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A front end subscribed to a topic of the iopub channel."""

    topic: bytes


@dataclass(frozen=True, slots=True)
class FromWorker:
    """A verified message from a worker, from either lane."""

    worker: int
    message: LaneMessage


@dataclass(frozen=True, slots=True)
class WorkerLaunched:
    """The process of a worker exists."""

    worker: int
    pid: int


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """The process has ended, and all that it sent has been handled before this event.

    `returncode` is as in `subprocess`: negative for a signal; None if it never came to be (`reason` says why).
    `dump` is what `faulthandler` wrote on the way out, if anything; `last_words` what was in the pipes behind fds 1 and
    2: (stream name, text).
    """

    worker: int
    returncode: int | None
    reason: str = ""
    dump: str = ""
    last_words: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MemoryShort:
    """Copies of large values take so many bytes more than there is room for."""

    nbytes: int


@dataclass(frozen=True, slots=True)
class TimerFired:
    key: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Interrupted:
    """SIGINT to the broker: the front end's way to interrupt with ``interrupt_mode: signal``."""


@dataclass(frozen=True, slots=True)
class ToldToStop:
    """SIGTERM or SIGHUP to the broker, or the front end that started it died."""

    reason: str


@dataclass(frozen=True, slots=True)
class UsageMeasured:
    """The answer to `MeasureUsage`."""

    token: int
    content: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StacksDumped:
    """The answer to `DumpStacks`."""

    token: int
    text: str


Event = (
    FrontendMessage
    | Subscribed
    | FromWorker
    | WorkerLaunched
    | WorkerGone
    | TimerFired
    | MemoryShort
    | Interrupted
    | ToldToStop
    | UsageMeasured
    | StacksDumped
)

# --- actions ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send frames to front ends on ``shell``, ``control``, ``stdin`` or ``iopub``."""

    channel: str
    frames: list[bytes]
    own: bool = False  # on iopub: the broker's, small, and not to wait behind what cells print


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell a worker `Passed` when all that was sent on iopub before has been handed over."""

    worker: int
    token: int


@dataclass(frozen=True, slots=True)
class ToWorker:
    """Send a message on the ordered lane, or on the service lane."""

    worker: int
    message: LaneMessage
    service: bool = False


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a process; `WorkerLaunched` and its `Hello`, or `WorkerGone`, will follow."""

    worker: int


@dataclass(frozen=True, slots=True)
class SignalWorker:
    """Signal a worker's process group: the worker and what its cells started."""

    worker: int
    signum: int


@dataclass(frozen=True, slots=True)
class SignalProcess:
    """Signal a worker, and nothing that its cells started."""

    worker: int
    signum: int


@dataclass(frozen=True, slots=True)
class SetTimer:
    """`TimerFired(key)` in `delay` seconds; replaces an earlier timer with the same key."""

    key: tuple[Any, ...]
    delay: float


@dataclass(frozen=True, slots=True)
class CancelTimer:
    key: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class MeasureUsage:
    """Sum memory and CPU over the whole process tree; `UsageMeasured` follows."""

    token: int


@dataclass(frozen=True, slots=True)
class DumpStacks:
    """Have a worker write the stacks of all its threads, whatever it does; `StacksDumped` follows."""

    token: int
    worker: int


@dataclass(frozen=True, slots=True)
class Log:
    level: str  # a method name of `logging.Logger`
    text: str


@dataclass(frozen=True, slots=True)
class Stop:
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
    | Log
    | Stop
)
