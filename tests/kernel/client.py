"""A front end for tests: sends requests and files every message that comes back under the request it answers.

One thread, no callbacks: whoever waits also pumps all channels, so several requests can be under way and a test waits
for the messages of one of them, with a deadline, never for time. What holds for every message of every test is checked
here, once: it is valid by Jupyter's schemas, all carry one ``header.session``, a finished request had its busy first,
its one idle last, and a reply of its own type.
"""

from __future__ import annotations

import ast
import itertools
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.session import Session
from jupyter_kernel_test.msgspec_v5 import schema_fragments, validate_message  # type: ignore[import-untyped]

from .exchange import Channel, Json, Message, Pending, Result
from .sandbox import PATIENCE, POLL

READY = "print('ready', flush=True)\n"
LOOP = f"{READY}while True: pass"  # code that only an interrupt ends
CHANNELS: tuple[Channel, ...] = ("shell", "control", "stdin", "iopub")

TIMEOUT = 20.0 * PATIENCE  # seconds to wait for a message that must come
WELCOME_WITHIN = 2.0 * PATIENCE  # seconds, after which a message is provoked
AT_ONCE = 1000  # messages handled between two looks at a condition: a cell may print for ever
# Those of clients that a failed test left: one that is collected as garbage waits for its sockets, for ever.
_OPEN: set[zmq.Context[zmq.Socket[bytes]]] = set()
NO_SCHEMA = {"input_request"}  # jupyter_kernel_test wants a number for `password`; the spec, a bool


class Client:
    """Talks to one kernel over shell, control, stdin and iopub. See the module's docstring for what it checks."""

    def __init__(self, connection_file: str) -> None:
        self.connection_file = connection_file
        self.kernel_session = ""
        self.strays: list[Message] = []  # what answers no request of this client
        self._pendings: dict[str, Pending] = {}
        self._numbers = itertools.count()
        self._open()

    def _open(self) -> None:
        """Connect to the kernel of `connection_file`, and wait until iopub is subscribed."""
        self.kernel_session = ""
        self._hears_iopub = False
        self._context = zmq.Context()
        _OPEN.add(self._context)
        self._context.setsockopt(zmq.LINGER, 0)  # else what is unsent holds up whoever collects this as garbage
        self._context.setsockopt(zmq.RCVHWM, 0)  # a test that waits for something else must not lose output
        self.connection = json.loads(Path(self.connection_file).read_text())
        self.session = Session(
            key=self.connection["key"].encode(), signature_scheme=self.connection["signature_scheme"]
        )
        self._sockets: dict[Channel, zmq.Socket[bytes]] = {}
        for channel in CHANNELS:
            socket = self._context.socket(zmq.SUB if channel == "iopub" else zmq.DEALER)
            socket.setsockopt(zmq.IDENTITY, self.session.bsession)  # one on all: by it an input_request finds us
            if channel == "iopub":
                socket.subscribe(b"")
            if channel == "stdin":  # a kernel can't send us an input_request before this is connected
                monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
            socket.connect(self.url(channel))
            self._sockets[channel] = socket
        self.wait_until(lambda: monitor.poll(0) > 0, "connection on stdin")
        self._sockets["stdin"].disable_monitor()
        try:
            self.wait_until(lambda: self._hears_iopub, "iopub_welcome", WELCOME_WITHIN)
        except TimeoutError:  # ipykernel welcomes nobody but the first
            self.send("kernel_info_request", channel="control")
            self.wait_until(lambda: self._hears_iopub, "message on iopub")

    def url(self, channel: str) -> str:
        """Where the kernel listens; `channel` may also be "hb"."""
        info = self.connection
        separator = "-" if info["transport"] == "ipc" else ":"
        return f"{info['transport']}://{info['ip']}{separator}{info[f'{channel}_port']}"

    def close(self) -> None:
        """Close all sockets. Twice does no harm."""
        self._context.destroy(linger=0)
        _OPEN.discard(self._context)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- receiving ------------------------------------------------------------------------------------------------

    def check_alive(self) -> None:
        """Raise if the kernel that is waited for has ended. A plain client can't know."""

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float | None = None) -> None:
        """Handle messages until `condition` is true. Raises TimeoutError that names `what` if it doesn't come true."""
        deadline = time.monotonic() + (TIMEOUT if timeout is None else timeout)
        self._pump(0)
        while not condition():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"no {what} within {TIMEOUT if timeout is None else timeout:g} s")
            if not self._pump(min(left, POLL)):
                self.check_alive()

    def _pump(self, timeout: float) -> bool:
        """File what has come; wait up to `timeout` seconds for the first message. False if there was none."""
        poller = zmq.Poller()
        for socket in self._sockets.values():
            poller.register(socket, zmq.POLLIN)
        ready = dict(poller.poll(int(timeout * 1000)))
        for channel, socket in self._sockets.items():
            for _ in range(AT_ONCE if socket in ready else 0):
                idents, raw = self.session.recv(socket)
                if raw is None:
                    break
                self._file(Message(channel, raw, b"".join(idents or []), next(self._numbers)))
        return bool(ready)

    def _file(self, message: Message) -> None:
        self._hears_iopub |= message.channel == "iopub"
        if message.type in schema_fragments.keys() - NO_SCHEMA and message.content.get("status") != "aborted":
            validate_message(message.raw)
        if message.type != "iopub_welcome":  # the spec gives it no parent, and any session
            self.kernel_session = self.kernel_session or message.header["session"]
            assert message.header["session"] == self.kernel_session, f"another header.session: {message}"
        pending = self._pendings.get(message.parent.get("msg_id", ""))
        (self.strays if pending is None else pending.messages).append(message)

    # --- sending --------------------------------------------------------------------------------------------------

    def message(
        self,
        msg_type: str,
        content: Json | None = None,
        *,
        subshell: str | None = None,
        header: Json | None = None,
        metadata: Json | None = None,
        parent: Json | None = None,
    ) -> Json:
        """A message to send; `header` adds to, or changes, what a header usually has."""
        message = self.session.msg(msg_type, content, parent=parent, metadata=metadata)
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        message["header"].update(header or {})
        return dict(message)

    def send(
        self, msg_type: str, content: Json | None = None, *, channel: Channel = "shell", **options: Any
    ) -> Pending:
        """Send a message; `options` are those of `message`."""
        message = self.message(msg_type, content, **options)
        return self.send_frames(self.session.serialize(message), message["header"], channel=channel)

    def send_frames(self, frames: Sequence[bytes], header: Json, *, channel: Channel = "shell") -> Pending:
        """Send frames as they are, well-formed or not; `header` says what would be the parent of an answer."""
        pending = Pending(self, channel, str(header["msg_type"]), str(header["msg_id"]))
        self._pendings[pending.msg_id] = pending
        self._sockets[channel].send_multipart(list(frames))
        return pending

    def request(self, msg_type: str, content: Json | None = None, *, timeout: float | None = None, **to: Any) -> Result:
        """Send a request (on shell unless `to` says otherwise) and wait for its result."""
        return self.send(msg_type, content, **to).wait(timeout)

    def control(self, msg_type: str, content: Json | None = None, subshell: str | None = None) -> Result:
        """A request on the control channel."""
        return self.request(msg_type, content, channel="control", subshell=subshell)

    # --- the verbs of a front end ----------------------------------------------------------------------------------

    def submit(
        self,
        code: str,
        subshell: str | None = None,
        *,
        channel: Channel = "shell",
        silent: bool = False,
        store_history: bool = True,
        user_expressions: dict[str, str] | None = None,
        allow_stdin: bool = False,
        stop_on_error: bool = True,
        **options: Any,
    ) -> Pending:
        """Send an `execute_request` and don't wait."""
        content = {
            "code": code,
            "silent": silent,
            "store_history": store_history,
            "user_expressions": user_expressions or {},
            "allow_stdin": allow_stdin,
            "stop_on_error": stop_on_error,
        }
        return self.send("execute_request", content, channel=channel, subshell=subshell, **options)

    def start(self, code: str = LOOP, subshell: str | None = None, **options: Any) -> Pending:
        """Submit a cell that prints "ready", and wait until it is that far; `options` are those of `submit`."""
        pending = self.submit(code, subshell, **options)
        pending.wait_for_stream("ready")
        return pending

    def run(self, code: str, subshell: str | None = None, *, timeout: float | None = None, **options: Any) -> Result:
        """Run a cell to its end; `options` are those of `submit`."""
        return self.submit(code, subshell, **options).wait(timeout)

    def value(self, expression: str, subshell: str | None = None) -> Any:
        """The value of a literal (number, string, list, …) that `expression` has in the kernel."""
        result = self.run(expression, subshell)
        assert result.status == "ok", str(result)
        return ast.literal_eval(result.text)

    def create_subshell(self) -> str:
        """A new subshell's id."""
        reply = self.control("create_subshell_request")
        assert reply.status == "ok", str(reply)
        return str(reply.content["subshell_id"])

    def delete_subshell(self, subshell: str, timeout: float | None = None) -> Result:
        return self.request("delete_subshell_request", {"subshell_id": subshell}, channel="control", timeout=timeout)

    def list_subshells(self) -> list[str]:
        return list(self.control("list_subshell_request").content["subshell_id"])

    def interrupt(self, subshell: str | None = None) -> Result:
        """`interrupt_request`, to the cell started last or to that of `subshell`."""
        return self.control("interrupt_request", subshell=subshell)

    def answer_input(self, request: Message, value: str, *, with_parent: bool = True) -> None:
        """Answer an `input_request`. JupyterLab says which (`with_parent`), other clients don't."""
        parent = request.raw if with_parent else None
        self.session.send(self._sockets["stdin"], "input_reply", {"value": value}, parent=parent)

    def barrier(self) -> None:
        """Return when the kernel has received all that was sent on shell before, whatever its shells are doing.

        A request to a subshell that doesn't exist is answered at once, by mpkernel and ipykernel alike, and a DEALER
        keeps the order.
        """
        self.request("kernel_info_request", subshell="no-such-subshell")
