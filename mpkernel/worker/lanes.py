"""The worker's IO thread: it alone owns the sockets to the broker and reads the pipes behind stdout and stderr.

Any thread hands messages over with `send` (an atomic append and a wake-up), so that an interrupt can't leave a lock
held or a message cut in half. Text written to the streams is collected: the first piece goes out at once, then what
has come together every `FLUSH_INTERVAL`; anything else that is sent takes the text before it along, so order is kept.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic  # by name: a cell may put another clock into the module
from typing import Any

import zmq

from mpkernel import messages
from mpkernel.errors import BadMessage
from mpkernel.frames import send
from mpkernel.settings import WorkerSettings
from mpkernel.wire import Codec, Json
from mpkernel.worker.kicker import Kicker
from mpkernel.worker.pacing import MARK_EVERY, Pace
from mpkernel.worker.threads import KernelThread

log = logging.getLogger("mpkernel.worker")

# What isn't urgent at the start of a request goes out after so many seconds, or with what comes before: a thread that
# wakes takes the GIL from the cell that has just begun.
SOON = 0.001
# So long after a request has begun, what doesn't matter to its reply is done (seconds).
LATER = 0.05
FLUSH_INTERVAL = 0.05  # seconds between two stream messages while text keeps coming
# Text that doesn't end a line waits so many seconds for the rest: `print` writes the end of the line by itself, perhaps
# much later on a busy machine, and nbclient keeps each message as an output of its own.
REST_OF_LINE = 0.05
# Seconds for which what C code or a child wrote stays in its pipe. A process that dies right after such a write leaves
# it there, where the broker finds it.
PIPE_DELAY = 0.02
# Bytes in the wake-up pipe that are no news to the kicker: our own, and those of its own signal.
WAKES_FOR_NOTHING = frozenset((0, messages.KICK_SIGNAL, signal.SIGCHLD))
# A flush that follows the last one sooner (seconds) doesn't wait.
FLUSH_PAUSE = 0.002
MAX_STREAM_CHARS = 1 << 20  # a longer run of text becomes several messages


# A piece of text: stream name, header of the request it belongs to, the text. A tuple, as there may be millions.
Text = tuple[str, Json, str]


class WorkerLanes(KernelThread):
    """`on_message` is called in this thread with each message from the broker."""

    def __init__(
        self,
        settings: WorkerSettings,
        worker: int,
        codec: Codec,
        on_message: Callable[[messages.LaneMessage], None],
    ) -> None:
        super().__init__("io")
        self._settings = settings
        self._worker = worker
        self.codec = codec
        self._signer = settings.lane_signer()
        self._on_message = on_message
        self._lifeline_fd = settings.lifeline_fd
        self._outbox: deque[Text | tuple[list[bytes], bool] | tuple[Callable[[], None]]] = deque()
        self._tokens = itertools.count(1)
        self._flushed = 0.0  # when `flush` was called last
        self._flushing: dict[int, queue.SimpleQueue[None]] = {}  # an Event may stay locked where a handler raises
        self.pace = Pace(self.send)
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._looks_again = False  # the thread will look again by itself, before long
        self.kicker: Kicker | None = None
        self._urgent = False  # there is more than text to send
        self.later: Callable[[], None] = lambda: None  # called in this thread, `LATER` after a request has begun
        self._pipes: dict[int, Callable[[], None]] = {}
        self._stopping = False
        self.pid = os.getpid()

    # --- for any thread -----------------------------------------------------------------------------------------------

    def send(self, message: messages.LaneMessage, *, service: bool = False, soon: bool = False) -> None:
        """Queue a message for the broker. With `soon` it may wait a millisecond for others."""
        self._outbox.append((messages.pack(message, self._signer), service))
        if not (soon and self._looks_again):
            self._urgent = True
            self._wake()

    def when_sent(self, callback: Callable[[], None]) -> None:
        """Call `callback` in the IO thread when all that was queued before has been handed to the socket."""
        self._outbox.append((callback,))
        self._urgent = True
        self._wake()

    def write(self, piece: Text) -> None:
        """Queue text; it goes out soon, and before whatever is sent after it."""
        self._outbox.append(piece)
        pace = self.pace
        pace.unmarked += len(piece[2])
        if pace.unmarked >= MARK_EVERY:  # this is called for each piece of each `print`
            pace.mark()
        if not self._looks_again:
            self._looks_again = True
            self._wake()

    @property
    def forked(self) -> bool:
        """Whether this is a process that a cell has forked: nobody sends anything here."""
        return os.getpid() != self.pid

    def flush(self, timeout: float = 10.0) -> None:
        """Wait until the broker has all that was queued; no longer than `timeout` seconds.

        In a loop that flushes all the time only now and then: each costs a round trip of half a millisecond.
        """
        if self.forked or threading.current_thread() is self or not self.is_alive():
            return
        previous, self._flushed = self._flushed, monotonic()
        if self._flushed - previous < FLUSH_PAUSE:
            return
        token = next(self._tokens)
        done = self._flushing[token] = queue.SimpleQueue()
        try:
            self.send(messages.Flush(token))
            with suppress(queue.Empty):
                done.get(timeout=timeout)
        finally:
            del self._flushing[token]

    @property
    def wakeup_fd(self) -> int:
        """For `signal.set_wakeup_fd`: what is written here wakes the thread."""
        return self._wake_write

    def add_pipe(self, fd: int, read: Callable[[], None]) -> None:
        """Before `start`: call `read` soon after `fd` has become readable."""
        self._pipes[fd] = read

    def stop(self) -> None:
        """Send what is queued, close the sockets, and end the thread."""
        self._stopping = True
        self._wake()
        self.join(5)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # full: it will wake anyway
            os.write(self._wake_write, b"\0")

    # --- the thread ---------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Until `stop`. Without this thread the process is deaf and mute, so that it ends if this fails."""
        try:
            self._serve()
        except BaseException:
            with suppress(BaseException):
                log.critical("the worker's IO thread failed", exc_info=True)
            os._exit(1)

    def _serve(self) -> None:
        # Signals are for the main thread: it must be the one whose system call they end.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        context: zmq.Context[Any] = zmq.Context()
        ordered, service = (self._connect(context, kind) for kind in ("ordered", "service"))
        poller = zmq.Poller()
        for source in (ordered, service, self._wake_read, self._lifeline_fd, *self._pipes):
            poller.register(source, zmq.POLLIN)
        for socket in (ordered, service):
            socket.send_multipart(messages.pack(messages.Hello(self.pid), self._signer))
        next_flush = 0.0
        later_at: float | None = None
        held = False  # text waits for the rest of its line
        waiting: dict[int, float] = {}  # pipes that hold something, and when to read them
        while not (self._stopping and not self._outbox):
            kick_at = self.kicker.next_due() if self.kicker is not None else None
            wake_at = min(
                [*waiting.values(), *([next_flush] if self._looks_again else []), *filter(None, (kick_at, later_at))],
                default=None,
            )
            timeout = None if wake_at is None else math.ceil(max(0.0, wake_at - monotonic()) * 1000)
            ready = dict(poller.poll(timeout))
            if self._lifeline_fd in ready:
                os._exit(1)  # the broker is gone, and with it everyone who could want to know
            for fd in self._pipes:
                if fd in ready:
                    poller.unregister(fd)
                    waiting[fd] = monotonic() + PIPE_DELAY
            for fd in [fd for fd, due in waiting.items() if due <= monotonic()]:
                if self.pace.look():  # who writes to it waits
                    waiting[fd] = monotonic() + PIPE_DELAY
                    continue
                self._pipes[fd]()
                del waiting[fd]
                poller.register(fd, zmq.POLLIN)
            if self._wake_read in ready:
                with suppress(BlockingIOError):
                    woken_by = os.read(self._wake_read, 4096)
                    if self.kicker is not None and not WAKES_FOR_NOTHING.issuperset(woken_by):
                        self.kicker.noticed()
            if self.kicker is not None:
                self.kicker.act()
            for socket in (ordered, service):
                if socket in ready and self._receive(socket):
                    next_flush = monotonic() + SOON
                    later_at = later_at or monotonic() + LATER
            now = monotonic()
            if later_at is not None and now >= later_at:
                later_at = None
                self.later()
            if self._outbox and (now >= next_flush or self._stopping or self._urgent):
                self._urgent = False
                rest_is_late = self._stopping or (held and now >= next_flush)
                held, text = self._send_all(ordered, service, hold_rest=not rest_is_late)
                next_flush = now + (REST_OF_LINE if held else FLUSH_INTERVAL if text else 0)
            elif not self._outbox and now >= next_flush:
                self._looks_again = False
                if self._outbox:  # written between the look and the note
                    self._looks_again = True
        for socket in (ordered, service):
            socket.close(2000)
        context.term()

    def _connect(self, context: zmq.Context[Any], kind: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = context.socket(zmq.DEALER)
        socket.set_hwm(0)
        socket.plain_username, socket.plain_password = self._settings.lane_login(self._worker, kind)
        socket.reconnect_ivl = -1  # the address is gone once we are known: there's nothing to come back to
        socket.connect(self._settings.lane(self._worker, kind))
        return socket

    def _receive(self, socket: zmq.Socket[bytes]) -> bool:
        """Hand on what has come; returns whether there was a request that begins now."""
        begins = False
        with suppress(zmq.Again):
            while True:
                try:
                    message = messages.unpack(socket.recv_multipart(zmq.NOBLOCK), self._signer)
                except BadMessage as error:
                    log.error("a message from the broker was dropped: %s", error)
                    continue
                if isinstance(message, messages.Flushed):
                    if done := self._flushing.get(message.token):
                        done.put(None)
                elif isinstance(message, messages.Passed):
                    self.pace.passed(message.token)
                else:
                    if isinstance(message, messages.Request):
                        begins = self._looks_again = True
                    self._on_message(message)
        return begins

    def _send_all(
        self, ordered: zmq.Socket[bytes], service: zmq.Socket[bytes], *, hold_rest: bool
    ) -> tuple[bool, bool]:
        """Send the queue in order, joining neighbouring text of one stream and one cell.

        With `hold_rest`, text at its end that doesn't end a line stays there. Returns whether there was some, and
        whether there was text at all.
        """
        text = False
        pieces: list[str] = []
        name, parent, chars = "", None, 0
        take = self._outbox.popleft
        while self._outbox:
            item = take()
            if len(item) == 3:
                if item[1] is not parent or item[0] != name or (chars >= MAX_STREAM_CHARS and item[2] != "\n"):
                    self._send_text(ordered, name, parent, pieces)
                    name, parent, pieces, chars = item[0], item[1], [], 0
                pieces.append(item[2])
                text = True
                chars += len(item[2])
            else:
                self._send_text(ordered, name, parent, pieces)
                parent, pieces, chars = None, [], 0
                if len(item) == 1:
                    item[0]()
                else:
                    frames, to_service = item
                    send(service if to_service else ordered, frames)
        if hold_rest and parent is not None and not pieces[-1].endswith("\n"):
            self._outbox.appendleft((name, parent, "".join(pieces)))
            return True, True
        self._send_text(ordered, name, parent, pieces)
        return False, text

    def _send_text(self, socket: zmq.Socket[bytes], name: str, parent: Json | None, pieces: list[str]) -> None:
        """As several messages if it is long: the broker sends one on while the next is made, in memory that is warm."""
        if parent is None or not pieces:
            return
        text = "".join(pieces)
        for start in range(0, len(text), MAX_STREAM_CHARS):
            content = {"name": name, "text": text[start : start + MAX_STREAM_CHARS]}
            try:
                frames = self.codec.pack("stream", content, parent=parent, idents=[f"stream.{name}".encode()])
                send(socket, messages.pack(messages.IOPub(None, tuple(frames)), self._signer))
            except Exception:  # a cell has broken what that is made of
                log.exception("what was printed could not be sent")
