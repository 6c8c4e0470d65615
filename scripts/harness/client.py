"""A light front end: five sockets, one poller, one thread, a record for each request.

It has a codec of its own. That of the kernel under test would not notice its own mistakes; that of `jupyter_client`
takes longer for a message than the kernels do.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import itertools
import json
import math
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import zmq

Json = dict[str, Any]
DELIMITER = b"<IDS|MSG>"
CHANNELS = ("shell", "control", "stdin", "iopub")
PATIENCE = 60.0  # seconds for an answer that must come


class NoAnswer(Exception):
    """Something that must come didn't."""


@dataclass(slots=True)
class Message:
    """A received message; `at` is `time.perf_counter()`."""

    channel: str
    at: float
    header: Json
    parent: Json
    content: Json
    frames: list[bytes]

    @property
    def msg_type(self) -> str:
        return str(self.header["msg_type"])


@dataclass(slots=True)
class Pending:
    """A request and all that came with it as parent, in order of arrival."""

    msg_id: str
    msg_type: str
    channel: str
    subshell: str | None
    sent: float
    content: Json = field(default_factory=dict)
    replies: list[Message] = field(default_factory=list)
    iopub: list[Message] = field(default_factory=list)
    inputs: list[Message] = field(default_factory=list)
    replied_at: float | None = None
    idle_at: float | None = None

    @property
    def done(self) -> bool:
        """Reply and idle are there."""
        return self.replied_at is not None and self.idle_at is not None

    @property
    def reply(self) -> Json:
        return self.replies[0].content

    @property
    def status(self) -> str:
        return str(self.reply.get("status"))

    @property
    def seconds(self) -> float:
        """From sending until both reply and idle had come."""
        assert self.replied_at is not None
        assert self.idle_at is not None
        return max(self.replied_at, self.idle_at) - self.sent

    def shown(self, msg_type: str) -> list[Message]:
        return [message for message in self.iopub if message.msg_type == msg_type]

    def text(self, stream: str = "stdout") -> str:
        """All that was printed."""
        return "".join(m.content["text"] for m in self.shown("stream") if m.content["name"] == stream)


Listener = Callable[[Message, Pending | None], None]


class FrontEnd:
    """Connected to one kernel. `on_message` sees each message before it is filed."""

    def __init__(self, connection_file: Path, on_message: Listener | None = None) -> None:
        info = json.loads(connection_file.read_text())
        self.session = uuid.uuid4().hex
        self.pending: dict[str, Pending] = {}
        self.strays: list[Message] = []  # parents that are not ours
        self.keep_strays = True
        self._on_message = on_message
        self._mac = hmac.new(info["key"].encode(), digestmod=hashlib.sha256)
        self._count = itertools.count()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        for channel in CHANNELS:
            socket = self._context.socket(zmq.SUB if channel == "iopub" else zmq.DEALER)
            socket.linger = 0
            socket.set_hwm(0)
            if channel == "iopub":
                socket.subscribe(b"")
            else:
                socket.identity = self.session.encode()
            joint = ":" if info["transport"] == "tcp" else "-"
            socket.connect(f"{info['transport']}://{info['ip']}{joint}{info[f'{channel}_port']}")
            self._sockets[channel] = socket
            self._poller.register(socket, zmq.POLLIN)

    def close(self) -> None:
        self._context.destroy(linger=0)

    # --- sending ------------------------------------------------------------------------------------------------------

    def header(self, msg_type: str, subshell: str | None = None) -> Json:
        header = {
            "msg_id": f"{self.session}_{next(self._count)}",
            "msg_type": msg_type,
            "username": "harness",
            "session": self.session,
            "date": datetime.datetime.now(datetime.UTC).isoformat(),
            "version": "5.5",
        }
        return header if subshell is None else {**header, "subshell_id": subshell}

    def frames(self, header: Any, content: Any, parent: Any = None, metadata: Any = None) -> list[bytes]:
        """A signed message, well-formed or not."""
        parts = [json.dumps(part).encode() for part in (header, parent or {}, metadata or {}, content)]
        return [DELIMITER, self._sign(parts), *parts]

    def _sign(self, parts: Sequence[bytes]) -> bytes:
        mac = self._mac.copy()
        for part in parts:
            mac.update(part)
        return mac.hexdigest().encode()

    def send(
        self, msg_type: str, content: Any = None, *, channel: str = "shell", subshell: str | None = None
    ) -> Pending:
        header = self.header(msg_type, subshell)
        content = {} if content is None else content
        return self.send_frames(self.frames(header, content), header, channel, content)

    def send_frames(self, frames: list[bytes], header: Json, channel: str = "shell", content: Any = None) -> Pending:
        """Send frames as they are; `header` says what would be the parent of an answer."""
        content = content if isinstance(content, dict) else {}
        subshell = header.get("subshell_id")
        pending = Pending(header["msg_id"], str(header["msg_type"]), channel, subshell, time.perf_counter(), content)
        self.pending[pending.msg_id] = pending
        self._sockets[channel].send_multipart(frames)
        return pending

    def execute(self, code: str, subshell: str | None = None, *, channel: str = "shell", **options: Any) -> Pending:
        """Send an execute_request; `options` add to its content."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
            **options,
        }
        return self.send("execute_request", content, channel=channel, subshell=subshell)

    def answer_input(self, request: Message, value: str) -> None:
        header = self.header("input_reply")
        self._sockets["stdin"].send_multipart(self.frames(header, {"value": value}, parent=request.header))

    # --- receiving ----------------------------------------------------------------------------------------------------

    def pump(self, timeout: float) -> bool:
        """Wait at most `timeout` seconds for messages and take all that are there; whether there was any."""
        ready = self._poller.poll(max(0, math.ceil(timeout * 1000)))
        for socket, _ in ready:
            channel = next(name for name, known in self._sockets.items() if known is socket)
            for _ in range(1000):
                try:
                    frames = socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                self._take(channel, time.perf_counter(), frames)
        return bool(ready)

    def _take(self, channel: str, at: float, frames: list[bytes]) -> None:
        split = frames.index(DELIMITER)
        signature, *parts = frames[split + 1 : split + 6]
        if not hmac.compare_digest(signature, self._sign(parts)):
            raise NoAnswer(f"a message on {channel} has a wrong signature: {parts[0]!r}")
        header, parent, _, content = (json.loads(part) for part in parts)
        parent = parent or {}  # xeus has null where there is none
        message = Message(channel, at, header, parent, content, frames)
        pending = self.pending.get(parent.get("msg_id", ""))
        if self._on_message is not None:
            self._on_message(message, pending)
        if pending is None:
            if self.keep_strays:
                self.strays.append(message)
        elif channel == "iopub":
            pending.iopub.append(message)
            if header["msg_type"] == "status" and content["execution_state"] == "idle":
                pending.idle_at = at
        elif channel == "stdin":
            pending.inputs.append(message)
        else:
            pending.replies.append(message)
            pending.replied_at = pending.replied_at or at

    def wait_until(self, condition: Callable[[], Any], timeout: float = PATIENCE) -> bool:
        """Whether `condition` came true within `timeout` seconds; it is looked at after each message."""
        deadline = time.monotonic() + timeout
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self.pump(min(left, 0.5))
        return True

    def wait(self, *pendings: Pending, timeout: float = PATIENCE) -> None:
        """Until all have reply and idle. Raises NoAnswer."""
        for pending in pendings:
            if not self.wait_until(lambda p=pending: p.done, timeout):  # type: ignore[misc]
                what = "no reply" if pending.replied_at is None else "no idle"
                raise NoAnswer(f"{what} to {pending.msg_type} {pending.content!r:.200} within {timeout:g} s")

    def forget(self, pending: Pending) -> None:
        del self.pending[pending.msg_id]

    def wait_for_iopub(self, timeout: float = PATIENCE) -> None:
        """Until the kernel knows of our subscription: what it publishes before doesn't reach us. Raises NoAnswer."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            pending = self.send("kernel_info_request")
            if self.wait_until(lambda p=pending: p.idle_at, 0.5):  # type: ignore[misc]
                return
        raise NoAnswer(f"nothing came on iopub within {timeout:g} s")

    # --- both ---------------------------------------------------------------------------------------------------------

    def ask(
        self,
        msg_type: str,
        content: Any = None,
        *,
        channel: str = "shell",
        subshell: str | None = None,
        timeout: float = PATIENCE,
    ) -> Pending:
        """Send a request and wait for its reply and idle."""
        pending = self.send(msg_type, content, channel=channel, subshell=subshell)
        self.wait(pending, timeout=timeout)
        return pending

    def run(self, code: str, subshell: str | None = None, *, timeout: float = PATIENCE, **options: Any) -> Pending:
        """Run a cell to its end. Raises NoAnswer, and RuntimeError if it failed."""
        pending = self.execute(code, subshell, **options)
        self.wait(pending, timeout=timeout)
        if pending.status != "ok":
            raise RuntimeError(f"{code!r:.100} failed: {pending.reply.get('ename')}: {pending.reply.get('evalue')}")
        return pending

    def create_subshell(self) -> str:
        return str(self.ask("create_subshell_request", channel="control").reply["subshell_id"])
