"""The words between broker and workers: dataclasses, and their frames on the lanes.

A lane message is ``[kind, signature, fields as JSON, *blobs]``. `blobs` are bytes that the receiver hands on (Jupyter
frames) or gives to the namespace code (pickles); they are never parsed here. Lanes:

- ordered lane: FIFO in both directions. Output comes before the commit, the commit before the reply.
- service lane: what must not wait for the running cell. A thread of the worker answers it.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from dataclasses import field, fields
from typing import Any, ClassVar

from mpkernel.errors import BadMessage, BadSignature
from mpkernel.records import Record, record
from mpkernel.wire import Signer

Blobs = tuple[bytes, ...]

# Has faulthandler write the stacks of all threads of a worker, even when C code holds the GIL. A signal that nobody
# uses: SIGUSR1 and SIGUSR2 belong to the user's code.
DUMP_SIGNAL: int = signal.SIGRTMAX - 2 if hasattr(signal, "SIGRTMAX") else signal.SIGIO
# Ends a system call of the main thread, for a signal whose Python handler has to run. See `worker.interrupts.Kicker`.
KICK_SIGNAL: int = signal.SIGRTMAX - 3 if hasattr(signal, "SIGRTMAX") else signal.SIGURG


@record
class LaneMessage(Record):
    """Base: subclasses add JSON-able fields; `sign_blobs` is set where a receiver unpickles the blobs."""

    sign_blobs: ClassVar[bool] = False


# --- broker to worker, ordered lane -------------------------------------------------------------------------------


@record
class Assign(LaneMessage):
    """The worker now is the process of this subshell. First message that a worker gets.

    `mode` says how it takes part in the namespace; `everywhere` is code that all subshells are to have run.
    """

    subshell: str | None
    name: str | None
    execution_count: int
    mode: str = "shared"
    everywhere: list[str] = field(default_factory=list)


@record
class Request(LaneMessage):
    """Run a front end's request; `blobs` are ``n_idents`` identities, then the Jupyter frames from the header on.

    `output_parent`, if set, replaces the request's header as parent of what it prints and shows. `crowded`: other
    subshells run cells, or may change their variables in the background. `beside`: they run cells. `alone`: there is no
    other one that has run anything.
    """

    seq: int
    channel: str | None
    n_idents: int
    output_parent: dict[str, Any] | None
    crowded: bool
    beside: bool
    alone: bool
    blobs: Blobs


@record
class CommRequest(LaneMessage):
    """A front end's message for a comm of this worker, while a cell runs here; as in `Request`.

    It is answered with a `Reply`. Unless it is `urgent` it waits until the cell awaits something, or ends.
    """

    seq: int
    urgent: bool
    n_idents: int
    blobs: Blobs


@record
class News(LaneMessage):
    """What other subshells committed since this worker last heard. `number` counts such messages.

    `commits` of the worker's own had come by then: what a later one has in it isn't to be taken over, but merged.
    `components` and `blobs` as `namespace.component.join` makes them. `offers` are components without their values:
    large ones, that the worker asks for when it needs them.
    """

    sign_blobs: ClassVar[bool] = True
    number: int
    commits: int
    components: list[Any]
    offers: list[Any]
    blobs: Blobs


@record
class Merge(LaneMessage):
    """A commit came too late: others have changed the same names meanwhile.

    The first `n_theirs` of the components are what they have now, the others what this worker started from: of `names`,
    and of those that were committed together with these. It answers with a `Commit` of `names`, and its last reply is
    held back until then. `bound_there` are those of all these names that others have bound to another object meanwhile,
    and `bound_here` those that the worker had by its first `commits`.

    It is void if the worker has changed one of the other names in a commit later than the first `commits`, or if a
    message of `relies_on` was void: then that may not be what it started from. Another `Merge` comes.
    """

    sign_blobs: ClassVar[bool] = True
    number: int
    commits: int
    relies_on: list[int]
    names: list[str]
    bound_there: list[str]
    bound_here: list[str]
    components: list[Any]
    n_theirs: int
    blobs: Blobs


@record
class InputReply(LaneMessage):
    """What the user typed for the `InputRequest` with this token."""

    token: int
    value: str


@record
class OpReply(LaneMessage):
    """The answer to `Op`."""

    token: int
    content: dict[str, Any]


@record
class Flushed(LaneMessage):
    """All that the worker sent before the `Flush` with this token has arrived. On the service lane."""

    token: int


@record
class Passed(LaneMessage):
    """Front ends have been given, or will soon be, what came before the `Mark` with this token. On the service lane."""

    token: int


@record
class Exit(LaneMessage):
    """Run the exit hooks and end. `restart`: the front end will start the kernel again."""

    restart: bool = False


# --- broker to worker, service lane -------------------------------------------------------------------------------


@record
class SideRequest(LaneMessage):
    """Like `Request`, for the service thread: while the main thread runs a cell, and for the debugger always."""

    seq: int
    channel: str | None
    n_idents: int
    blobs: Blobs


@record
class Taken(LaneMessage):
    """The broker holds the segments of these names now, and could not get hold of those that it refuses.

    What was in the latter is committed again, and then there is a `Resent`.
    """

    segments: list[str]
    refused: list[str]


@record
class Keep(LaneMessage):
    """The broker gave up its copy of what was sent as `key`, as memory is short: the worker will be asked for it."""

    key: str
    names: list[str]


@record
class Release(LaneMessage):
    """Commit now what has changed of `names` (None: all), though a cell is running."""

    token: int
    names: list[str] | None


@record
class Acquired(LaneMessage):
    """The answer to `Acquire`, which had these `names`. As in `News`.

    `silent` are the subshells that did not answer in time, each with the code of the cell that it runs.
    """

    sign_blobs: ClassVar[bool] = True
    token: int
    names: list[str] | None
    number: int
    commits: int
    components: list[Any]
    offers: list[Any]
    silent: list[list[str]]
    blobs: Blobs


@record
class ReadLive(LaneMessage):
    """Another worker asks for the value that `name` has now."""

    token: int
    name: str


@record
class Call(LaneMessage):
    """See `AskCall`."""

    sign_blobs: ClassVar[bool] = True
    token: int
    held: int
    method: str
    parent: dict[str, Any]
    components: list[Any]
    blobs: Blobs


@record
class LiveValue(LaneMessage):
    """The answer to `AskLive`, `AskTheirs` or `AskCall`: one component, or the reason why there is none."""

    sign_blobs: ClassVar[bool] = True
    token: int
    error: str | None
    components: list[Any]
    blobs: Blobs


# --- worker to broker, ordered lane -------------------------------------------------------------------------------


@record
class Hello(LaneMessage):
    """The worker is ready for its first message. On both lanes."""

    pid: int


@record
class Describe(LaneMessage):
    """From a wrapper kernel, after `Hello`: what a kernel_info_reply says of its language."""

    content: dict[str, Any]


@record
class Started(LaneMessage):
    """The request with this seq is being run: from now on until its reply, SIGINT means it."""

    seq: int
    missed: bool = False  # whether a SIGINT came before, that found no request


@record
class Awaits(LaneMessage):
    """The cell with this seq has come to a top-level await that doesn't end at once: callbacks can run beside it."""

    seq: int


@record
class Ending(LaneMessage):
    """The exit hooks are about to run."""


@record
class IOPub(LaneMessage):
    """A signed Jupyter message for the iopub channel: topic, then frames from the delimiter on.

    For comm_open and comm_close `comm` is ``[msg_type, comm_id, target_name]``, so that the broker knows the owner.
    """

    comm: list[str] | None
    blobs: Blobs


@record
class CommTarget(LaneMessage):
    """From now on the worker takes comms of this target, or no longer."""

    name: str
    taken: bool


@record
class Commit(LaneMessage):
    """What a cell changed. `after` is the number of the last `News` or `Merge` that was applied before.

    `overruled` are names of which a merge kept this worker's value and not the other's; `force`: take it in any case.
    """

    sign_blobs: ClassVar[bool] = True
    after: int
    components: list[Any]
    overruled: list[str]
    force: bool
    blobs: Blobs


@record
class Resent(LaneMessage):
    """What a `Taken` refused is committed by other means."""


@record
class Missed(LaneMessage):
    """Of what the `News` or `Acquired` with this number told, the values of `names` could not be loaded."""

    number: int
    names: list[str]


@record
class Acquire(LaneMessage):
    """A cell that starts needs the newest values of `names` (None: all), also from cells that run elsewhere.

    Offered values of the names in `also` could be loaded by now, and are taken along.
    """

    token: int
    names: list[str] | None
    also: list[str]


@record
class Released(LaneMessage):
    """The answer to `Release`: what was to be committed has been."""

    token: int


@record
class Settled(LaneMessage):
    """All that the last cells have changed is committed now, and nothing goes on in the background."""


@record
class InputRequest(LaneMessage):
    """The running cell waits for the user; `blobs` is the signed input_request from the delimiter on."""

    token: int
    seq: int
    msg_id: str
    blobs: Blobs


@record
class InputCancelled(LaneMessage):
    """Nobody waits for this input any more (interrupted)."""

    token: int


@record
class Reply(LaneMessage):
    """The request is done; `blobs` are the signed reply from the delimiter on, none where the type has no reply.

    `abort` asks to abort what the subshell has queued (an error, and the request said stop_on_error). `last` says that
    the worker ends after this.
    """

    seq: int
    abort: bool
    execution_count: int
    blobs: Blobs
    last: bool = False
    background: bool = False


@record
class Debugged(LaneMessage):
    """A debugger attaches to the worker, or lets go of it."""

    attached: bool


@record
class Logged(LaneMessage):
    """A line of the worker's log, as `logs` has it."""

    line: dict[str, Any]


@record
class Flush(LaneMessage):
    """Somebody waits until what was sent before this has left the process for good."""

    token: int


@record
class Mark(LaneMessage):
    """Much output came before this; the worker wants to know when front ends have taken it (`Passed`)."""

    token: int


@record
class Op(LaneMessage):
    """An operation of the command line, asked for by code in a cell: ``ps``, ``interrupt``, ``new``, ``run``, …"""

    token: int
    op: str
    content: dict[str, Any]


# --- worker to broker, service lane -------------------------------------------------------------------------------


@record
class AskLive(LaneMessage):
    """The value that `name` has now in `subshell` (``"main"``, an id or a name; None: wherever a cell is running)."""

    token: int
    name: str
    subshell: str | None


@record
class LiveAnswer(LaneMessage):
    """The answer to `ReadLive` or `Call`. `background`: code runs on, or ran beside it, as in `Reply`."""

    sign_blobs: ClassVar[bool] = True
    token: int
    error: str | None
    background: bool
    components: list[Any]
    blobs: Blobs


@record
class AskTheirs(LaneMessage):
    """The value of `name` that lost the last conflict."""

    token: int
    name: str


@record
class AskCall(LaneMessage):
    """Call `method` of an object that lives in `worker`, where it is known by `held`; the arguments are a component.

    What it puts out belongs to `parent`, the header of a request.
    """

    sign_blobs: ClassVar[bool] = True
    token: int
    worker: int
    held: int
    method: str
    parent: dict[str, Any]
    components: list[Any]
    blobs: Blobs


_KINDS: dict[bytes, type[LaneMessage]] = {
    kind.__name__.encode(): kind
    for kind in (
        *(Assign, Request, CommRequest, News, Merge, InputReply, OpReply, Flushed, Passed, Exit),
        *(SideRequest, Taken, Keep, Release, Acquired, ReadLive, Call, LiveValue),
        *(Hello, Describe, Started, Awaits, IOPub, CommTarget, Commit, Resent, Missed, Acquire, Released, Settled),
        *(Ending, Reply, Flush, Mark, Logged, Op, Debugged),
        *(InputRequest, InputCancelled),
        *(AskLive, AskTheirs, AskCall, LiveAnswer),
    )
}
_FIELDS = {kind: tuple(f.name for f in fields(kind) if f.name != "blobs") for kind in _KINDS.values()}
_TYPES: dict[str, type | tuple[type, ...]] = {
    "int": int,
    "str": str,
    "bool": bool,
    "list": list,
    "dict": dict,
    "None": type(None),
}


def _types(kind: type[LaneMessage]) -> tuple[tuple[Any, ...], ...]:
    """What the fields of a message may be, read off their annotations, which are texts such as ``list[str] | None``."""
    return tuple(
        tuple(_TYPES[part.partition("[")[0].strip()] for part in str(field.type).split(" | "))
        for field in fields(kind)
        if field.name != "blobs"
    )


_FIELD_TYPES = {kind: _types(kind) for kind in _KINDS.values()}
# Kept here, as a cell may replace what is in the module.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_decode = json.loads


def pack(message: LaneMessage, signer: Signer) -> list[bytes]:
    """The frames of `message`."""
    kind = type(message)
    name = kind.__name__.encode()
    meta = _encode([getattr(message, field) for field in _FIELDS[kind]]).encode()
    blobs: Blobs = getattr(message, "blobs", ())
    signed = (name, meta, *blobs) if kind.sign_blobs else (name, meta)
    return [name, signer.sign(signed), meta, *blobs]


def unpack(frames: Sequence[bytes], signer: Signer) -> Any:
    """The message in `frames`. Raises BadMessage or BadSignature."""
    if len(frames) < 3 or frames[0] not in _KINDS:
        raise BadMessage(f"not a lane message: {len(frames)} frames, kind {frames[0] if frames else b''!r:.40}")
    name, signature, meta, *blobs = frames
    kind = _KINDS[name]
    if not signer.verify(signature, (name, meta, *blobs) if kind.sign_blobs else (name, meta)):
        raise BadSignature(f"the signature of a {name.decode()} message doesn't match")
    try:
        given = _decode(meta)
        if not isinstance(given, list):
            raise ValueError("they are no list")
        values = dict(zip(_FIELDS[kind], given, strict=True))
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"the fields of a {name.decode()} message can't be read: {error}") from error
    for value, types in zip(given, _FIELD_TYPES[kind], strict=True):
        if not isinstance(value, types):
            raise BadMessage(f"a field of a {name.decode()} message has a wrong type: {value!r:.40}")
    if "blobs" in kind.__dataclass_fields__:
        values["blobs"] = tuple(blobs)
    return kind(**values)
