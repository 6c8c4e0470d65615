"""The broker's end of the workers' lanes: two DEALER sockets for each worker, on ipc.

A lane's socket is bound when the worker is started and takes messages from that one process only. To connect takes the
lane's password, which the worker has from its settings: a DEALER deals out what it sends to all who are connected. Each
message is checked for its signature and for the process it comes from (libzmq knows it from SO_PEERCRED, on Linux), and
once the worker has said Hello, on both, the sockets' files are removed, so that nobody else can connect. (Unbinding
would end the worker's connection, too. And before that Hello a socket may have no connection yet: what is sent would be
dropped.)

When a process ends, its last messages may still be on the way. A socket monitor reports the end of the connection, and
libzmq hands over all that came before it first; so `at_end` means that everything has been received.
"""

from __future__ import annotations

import hmac
import logging
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

from mpkernel import messages
from mpkernel.errors import BadMessage
from mpkernel.frames import send
from mpkernel.namespace import component
from mpkernel.settings import STREAMS, WorkerSettings

log = logging.getLogger("mpkernel.broker")

# How a socket monitor's first frame begins (zmq_socket_monitor(3)). pyzmq's own reader imports asyncio.
_MONITOR_EVENT = struct.Struct("=H")
# Output of more bytes than this is handed on in the frame that it came in.
NOT_COPIED = 1 << 16
# Of what a process wrote last, and nobody has read, so many bytes are shown: more than a FIFO holds.
MAX_LAST_WORDS = 1 << 20


@dataclass(slots=True)
class _Lane:
    ordered: zmq.Socket[bytes]
    service: zmq.Socket[bytes]
    monitor: zmq.Socket[Any]
    outputs: dict[str, int]  # stream name: fd of the FIFO behind it
    pid: str = ""  # of the worker, once accepted
    disconnected: bool = False  # the monitor said so
    drained: bool = False  # nothing was left to receive after that
    greeted: set[zmq.Socket[bytes]] = field(default_factory=set)  # on which the worker has said Hello


KINDS = ("ordered", "service")


class Lanes:
    """`watch` and `unwatch` register a socket, with what to do when it is readable, at the loop's poller."""

    def __init__(
        self,
        context: zmq.Context[Any],
        settings: WorkerSettings,
        watch: Callable[[Any, Callable[[], None]], None],
        unwatch: Callable[[Any], None],
    ) -> None:
        self._context = context
        self._settings = settings
        self._signer = settings.lane_signer()
        self._watch = watch
        self._unwatch = unwatch
        self._lanes: dict[int, _Lane] = {}
        # libzmq asks here for leave to accept a connection (https://rfc.zeromq.org/spec/27/).
        self._doorman: zmq.Socket[bytes] = context.socket(zmq.REP)
        self._doorman.linger = 0
        self._doorman.bind("inproc://zeromq.zap.01")
        watch(self._doorman, self._answer_door)

    def open(self, worker: int, on_readable: Callable[[], None]) -> None:
        """Bind a worker's two lanes, before its process is started. Raises OSError if there are too many files."""
        with ExitStack() as stack:
            ordered = self._bind(worker, "ordered", stack)
            service = self._bind(worker, "service", stack)
            monitor = ordered.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            self._lanes[worker] = _Lane(ordered, service, monitor, self._open_outputs(worker, stack))
            stack.pop_all()
        for socket in (ordered, service, monitor):
            self._watch(socket, on_readable)

    def _open_outputs(self, worker: int, stack: ExitStack) -> dict[str, int]:
        """Make the FIFOs for the worker's fds 1 and 2. The worker reads them; we only hold them open."""
        outputs = {}
        for name, fd in STREAMS.items():
            path = self._settings.fifo(worker, fd)
            os.mkfifo(path, 0o600)
            outputs[name] = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            stack.callback(os.close, outputs[name])
        return outputs

    def last_words(self, worker: int) -> list[tuple[str, str]]:
        """What a worker that is gone wrote to fds 1 and 2 and had no time to send: (stream name, text)."""
        words = []
        for name, fd in self._lanes[worker].outputs.items() if worker in self._lanes else ():
            data = bytearray()
            with suppress(BlockingIOError):  # what it has left behind may go on writing
                while len(data) < MAX_LAST_WORDS and (chunk := os.read(fd, 1 << 16)):
                    data += chunk
            if data:
                words.append((name, data.decode(errors="replace")))
        return words

    def _bind(self, worker: int, kind: str, stack: ExitStack) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(zmq.DEALER)
        stack.callback(socket.close, 0)
        socket.linger = 0
        socket.set_hwm(0)
        socket.plain_server = True
        socket.zap_domain = self._settings.lane_login(worker, kind)[0]
        socket.bind(self._settings.lane(worker, kind))
        return socket

    def _answer_door(self) -> None:
        """Let in who knows the password of the lane. Front ends (CURVE comes here, too) are asked for no more."""
        with suppress(zmq.Again):
            while True:
                frames = self._doorman.recv_multipart(zmq.NOBLOCK)
                version, number, domain, _address, _identity, _mechanism, *login = frames
                welcome = not domain or self._knows(domain, login)
                if not welcome:
                    log.error("a process that is none of our workers tried to connect to a worker's lane: refused")
                answer = [b"200", b"OK"] if welcome else [b"400", b"wrong password"]
                self._doorman.send_multipart([version, number, *answer, b"", b""])

    def _knows(self, domain: bytes, login: list[bytes]) -> bool:
        worker, _, kind = domain.decode().partition(".")
        expected = self._settings.lane_login(int(worker), kind)
        return len(login) == 2 and login[0] == expected[0] and hmac.compare_digest(expected[1], login[1])

    def can_be_found(self, worker: int) -> bool:
        """Whether the files are there by which its process will connect."""
        return all(self._file(worker, kind).exists() for kind in KINDS)

    def accept(self, worker: int, pid: int) -> None:
        """The worker is process `pid`: nobody else may connect from now on."""
        self._lanes[worker].pid = str(pid)
        self._remove_files(worker)

    def _remove_files(self, worker: int) -> None:
        for kind in KINDS:
            self._file(worker, kind).unlink(missing_ok=True)
        for fd in STREAMS.values():
            self._settings.fifo(worker, fd).unlink(missing_ok=True)

    def _file(self, worker: int, kind: str) -> Path:
        return Path(self._settings.lane(worker, kind).removeprefix("ipc://"))

    def was_accepted(self, worker: int) -> bool:
        return worker in self._lanes and bool(self._lanes[worker].pid)

    def at_end(self, worker: int) -> bool:
        """Whether the connection has ended and everything that came has been received."""
        lane = self._lanes.get(worker)
        return lane is not None and lane.drained

    def send(self, worker: int, message: messages.LaneMessage, *, service: bool = False) -> None:
        """Queue a message for a worker; nothing if it is gone."""
        if (lane := self._lanes.get(worker)) is None:
            return
        socket = lane.service if service else lane.ordered
        try:
            send(socket, messages.pack(message, self._signer), wait=False)
        except zmq.Again:
            log.debug("%s for worker %d was not sent: it is gone", type(message).__name__, worker)

    def receive(self, worker: int, most: int) -> Iterator[Any]:
        """Up to `most` messages from each lane of `worker`."""
        lane = self._lanes.get(worker)
        if lane is None:
            return
        self._read_monitor(lane)
        more = False
        for socket in (lane.ordered, lane.service):
            for _ in range(most):
                if socket.closed:
                    return
                if len(lane.greeted) < 2 and socket in lane.greeted:
                    break  # what follows is read when the other one is there, too
                try:
                    frames = socket.recv_multipart(zmq.NOBLOCK, copy=False)
                except zmq.Again:
                    break
                message = self._checked(worker, lane, frames)
                if isinstance(message, messages.Hello):
                    lane.greeted.add(socket)
                    if len(lane.greeted) < 2:
                        continue
                if message is not None:
                    yield message
            else:
                more = True
        lane.drained = lane.disconnected and not more

    @staticmethod
    def _read_monitor(lane: _Lane) -> None:
        while lane.monitor.poll(0):
            (event,) = _MONITOR_EVENT.unpack_from(lane.monitor.recv_multipart()[0])
            lane.disconnected = lane.disconnected or (bool(lane.pid) and event == zmq.EVENT_DISCONNECTED)

    def _checked(self, worker: int, lane: _Lane, frames: list[zmq.Frame]) -> messages.LaneMessage | None:
        try:
            message = messages.unpack(_contents(frames), self._signer)
            check(message)
            hello = isinstance(message, messages.Hello)
            if not hello and not lane.pid:
                raise BadMessage("it came before the worker's Hello")
            expected = str(message.pid) if hello else lane.pid
            _, *peer = str(frames[0].get("Peer-Address")).split(":")  # "localhost:uid:gid:pid"
            if len(peer) == 3 and peer[2] != expected:
                raise BadMessage(f"it comes from process {peer[2]}, not {expected}")
        except (BadMessage, ValueError) as error:
            log.error("a message on the lane of worker %d was dropped: %s", worker, error)
            return None
        return message  # type: ignore[no-any-return]

    def shut(self, worker: int) -> None:
        """Close the lanes of a worker that is gone."""
        if (lane := self._lanes.pop(worker, None)) is not None:
            for socket in (lane.ordered, lane.service, lane.monitor):
                self._unwatch(socket)
            lane.ordered.disable_monitor()
            lane.ordered.close(0)
            lane.service.close(0)
            for fd in lane.outputs.values():
                os.close(fd)
            self._remove_files(worker)

    def close(self) -> None:
        for worker in list(self._lanes):
            self.shut(worker)
        self._unwatch(self._doorman)
        self._doorman.close()


def _contents(frames: list[zmq.Frame]) -> list[Any]:
    """The bytes of `frames`; large output stays in its frame, as libzmq can send that on without a copy."""
    output = frames[0].bytes == messages.IOPub.__name__.encode()
    return [frame if output and len(frame) > NOT_COPIED else frame.bytes for frame in frames]


_COMM = [str, str, str]  # msg_type, comm_id, target_name


def check(message: messages.LaneMessage) -> None:
    """What the machine reads of a message must be what it expects, though the worker may be mad. Raises BadMessage."""
    try:
        if isinstance(message, messages.Commit):
            component.check(message.components, message.blobs)
        comm = message.comm if isinstance(message, messages.IOPub) else None
        if comm is not None and list(map(type, comm)) != _COMM:
            raise ValueError(f"{comm!r:.80} tells nothing of a comm")
        for names in (getattr(message, "names", None), getattr(message, "overruled", None)):
            if names is not None and not all(isinstance(name, str) for name in names):
                raise ValueError("names are texts")
    except ValueError as error:
        raise BadMessage(f"a {type(message).__name__} can't be used: {error}") from error
