"""What goes out on one channel to front ends, and what waits here because one of them doesn't read.

libzmq queues for each client what the network doesn't take; that queue has a limit here. What comes when a client's
queue is full waits in this module, in order: on iopub for all clients, as they get the same; on the other channels for
that client alone. Nothing is dropped. Workers whose output waits here wait, too (`Acknowledge`), so it can't get much.
What the broker itself publishes, status above all, doesn't stay behind the output of other requests. It keeps its own
order: the status that comes last is the one that is true.

Who has taken nothing at all for so many looks is cut off (`cut_off_the_stuck`): one front end that is stopped must not
stop the kernel for the others. libzmq connects again by itself as soon as its program reads.

libzmq's limit is in messages. What is large counts in bytes instead: libzmq tells when it has let go of a message's
memory (`_Large`). So the reserve that is left for small ones is always there. (A limit in messages that moves with
their sizes was tried: setting ZMQ_SNDHWM while a client goes away crashes libzmq 4.3.5.)
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import socket
import stat
import sys
import termios
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import zmq

from mpkernel.frames import send

log = logging.getLogger("mpkernel.broker")

# What a client may be behind, beside what the network holds (some MB): small messages, and bytes of large ones.
MAX_MESSAGES = 8192
LARGE, MAX_BYTES = 1 << 14, 32 << 20
# Seconds between two looks whether a client that reads, and one that doesn't, has room again: libzmq doesn't tell.
LOOK_SOON, LOOK = 0.001, 0.01
# A connection is looked at about so often, in vain in all cases, before it is cut off.
SAMPLES = 20

PARENT = 4  # of an iopub message's frames: topic, delimiter, signature, header, parent header, …


class _Held(NamedTuple):
    frames: list[bytes]
    own: bool


Item = _Held | Callable[[], None]


class _Large:
    """The large messages that libzmq still has: it lets go of their memory when the last client has been given them."""

    def __init__(self) -> None:
        self._sent: deque[tuple[int, zmq.MessageTracker]] = deque()
        self.most = MAX_BYTES

    def has_room(self, size: int) -> bool:
        """Whether one more may be sent; one may in any case."""
        self._sent = deque((nbytes, tracker) for nbytes, tracker in self._sent if not tracker.done)
        return not self._sent or sum(nbytes for nbytes, _ in self._sent) + size <= self.most

    def add(self, size: int, tracker: zmq.MessageTracker) -> None:
        self._sent.append((size, tracker))


class Outgoing:
    """Sends on `socket` (an XPUB or a ROUTER) without ever waiting or losing anything."""

    def __init__(self, socket: zmq.Socket[bytes], channel: str) -> None:
        self._socket = socket
        self._channel = channel
        self._large = _Large()
        self._to_all = socket.type == zmq.XPUB
        self._held: dict[bytes, deque[Item]] = {}  # by client; on iopub there is one queue, of b""
        self._parents: Counter[bytes] = Counter()  # of what is held up on iopub
        self._own = 0  # so many of the broker's own are
        self._looks: dict[bytes, int] = {}  # without any progress, by client
        self._suspects: dict[int, int] | None = None  # connections to which nothing goes out, by inode: bytes that wait
        socket.sndhwm = MAX_MESSAGES
        if self._to_all:
            socket.setsockopt(zmq.XPUB_NODROP, 1)  # "full" is an error that we see
        else:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)

    @property
    def waits(self) -> bool:
        """Whether something is held up."""
        return bool(self._held)

    def send(self, frames: list[bytes], *, own: bool = False) -> None:
        """Send, after all that was sent to the same client before; if it is the broker's `own`, of the same request."""
        key = b"" if self._to_all else frames[0]
        if key in self._held:
            self._go_on(key)
        if key not in self._held and self._try(frames):
            return
        overtakes = own and self._to_all and not self._own and self._parents[frames[PARENT]] == 0
        if overtakes and self._try(frames):
            return
        self._held.setdefault(key, deque()).append(_Held(frames, own))
        if self._to_all:
            self._parents[frames[PARENT]] += 1
            self._own += own

    def when_sent(self, call: Callable[[], None]) -> None:
        """On iopub: call `call` when all that was sent before has been handed over."""
        if b"" in self._held:
            self._held[b""].append(call)
        else:
            call()

    def look(self, patience: int) -> float:
        """Go on with what is held up; returns in how many seconds to look again.

        Who has taken nothing at `patience` looks is cut off.
        """
        for key in list(self._held):
            self._looks[key] = 0 if self._go_on(key) else self._looks.get(key, 0) + 1
            if key not in self._held:
                del self._looks[key]
        stuck = max(self._looks.values(), default=0)
        if stuck < patience // 2:
            self._suspects = None
        elif stuck >= patience:
            self._looks = dict.fromkeys(self._looks, 0)
            self._cut_off_the_stuck()
        elif stuck % max(1, patience // SAMPLES) == 0:
            self._suspect()
        return LOOK if stuck else LOOK_SOON

    def release(self) -> None:
        """Before the socket is closed: libzmq has its linger time for what is still here."""
        self._large.most = sys.maxsize
        for key in list(self._held):
            self._go_on(key)

    def _go_on(self, key: bytes) -> bool:
        """Send what is held up, as far as that goes; whether it went anywhere."""
        queue = self._held[key]
        before = len(queue)
        while queue:
            item = queue[0]
            if not isinstance(item, _Held):
                item()
            elif not self._try(item.frames):
                break
            elif self._to_all:
                self._parents[item.frames[PARENT]] -= 1
                self._own -= item.own
            queue.popleft()
        if not queue:
            del self._held[key]
            if self._to_all:
                self._parents.clear()
        return len(queue) < before

    def _try(self, frames: list[bytes]) -> bool:
        """False if a client's queue is full."""
        size = sum(map(len, frames))
        large = size >= LARGE
        if large and not self._large.has_room(size):
            return False
        parts: list[Any] = list(frames)
        if large:  # libzmq lets go of all frames at once
            at, tracked = _tracked(parts)
            parts[at] = tracked
        try:
            send(self._socket, parts, wait=False, copy=not large)
        except zmq.Again:
            return False
        except zmq.ZMQError as error:  # the client is gone; JupyterLab's server closes sockets after each probe
            log.debug("a message on the %s channel could not be sent: %s", self._channel, error)
            return True
        if large:
            self._large.add(size, tracked.tracker)
        return True

    # --- clients that don't read --------------------------------------------------------------------------------------

    def _suspect(self) -> None:
        """Who is as far behind as at the last look? A slow reader isn't."""
        now = {inode: _unsent(connection) for inode, connection in self._unwritable()}
        before = now if self._suspects is None else self._suspects
        self._suspects = {inode: waiting for inode, waiting in now.items() if before.get(inode) == waiting}

    def _cut_off_the_stuck(self) -> None:
        self._suspect()
        suspects, self._suspects = self._suspects or {}, None
        for inode, connection in self._unwritable():
            if inode in suspects:
                log.warning(
                    "a front end reads nothing on the %s channel, though much waits for it: it is disconnected. "
                    "It connects again when it reads, and has missed what was sent meanwhile",
                    self._channel,
                )
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _unwritable(self) -> Iterator[tuple[int, socket.socket]]:
        """The connections of this channel to which the system takes no more: inode, and a duplicate for the moment.

        They are found among our own file descriptors, by the address that we listen at: libzmq has no list.
        """
        endpoint = self._socket.getsockopt(zmq.LAST_ENDPOINT)
        assert isinstance(endpoint, bytes)
        ours = _address(endpoint.decode().rstrip("\0"))
        fds: list[str] = []
        with suppress(OSError):  # no file is left to look with
            fds = os.listdir("/dev/fd")
        for fd in map(int, fds):
            with suppress(OSError):
                if not stat.S_ISSOCK(os.fstat(fd).st_mode):
                    continue
                with socket.socket(fileno=os.dup(fd)) as connection:
                    connection.getpeername()  # else it's the listening one
                    if _local_address(connection) == ours and not select.select([], [connection], [], 0)[1]:
                        yield os.fstat(connection.fileno()).st_ino, connection


def _tracked(frames: list[Any]) -> tuple[int, zmq.Frame]:
    """The largest frame, and a new one of the same memory that tells when libzmq has let go of it.

    (A frame that came in can't be tracked, and what is copied can't.)
    """
    at = max(range(len(frames)), key=lambda n: len(frames[n]))
    data = frames[at].buffer if isinstance(frames[at], zmq.Frame) else frames[at]
    return at, zmq.Frame(data, track=True, copy=False, copy_threshold=0)


def _unsent(connection: socket.socket) -> int:
    """How many bytes the other side hasn't taken yet (tcp(7), unix(7): SIOCOUTQ). 0 where that isn't known."""
    with suppress(OSError):
        return int.from_bytes(fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return 0


def _address(endpoint: str) -> Any:
    """What `_local_address` says of the connections that were accepted at a ZMQ endpoint."""
    transport, _, address = endpoint.partition("://")
    return address if transport == "ipc" else int(address.rpartition(":")[2])


def _local_address(connection: socket.socket) -> Any:
    name = connection.getsockname()
    return name if isinstance(name, str) else name[1] if isinstance(name, tuple) else os.fsdecode(name)
