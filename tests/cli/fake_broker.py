"""A broker's control channel as the command line sees it: a ROUTER in a thread that answers from a table."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import zmq

from mpkernel import connection
from mpkernel.connection import ConnectionInfo
from mpkernel.errors import BadMessage
from mpkernel.wire import Codec, Json, Signer

KEY = b"the key of the kernel"
# What the broker answers to an op: content, a function of the request's content, or None for no answer at all.
Answer = Json | Callable[[Json], Json] | None


def row(subshell: str = "main", **changed: Any) -> Json:
    """A subshell as `ps` has it, by default an idle one without a process."""
    return {
        "subshell": subshell,
        "name": None,
        "mode": "shared",
        "state": "idle",
        "pid": None,
        "execution_count": 3,
        "cell": None,
        "busy_s": None,
        "idle_s": 5.0,
        "queued": 0,
        "age_s": 60.0,
        **changed,
    }


def failure(message: str, name: str = "RequestFailed") -> Json:
    """The content of a reply that says no."""
    return {"status": "error", "ename": name, "evalue": message, "traceback": []}


class FakeBroker:
    """Serves one kernel until `stop`; its connection file is `path`."""

    def __init__(
        self,
        directory: Path,
        kernel_id: str,
        *subshells: Json,
        implementation: str = "mpkernel",
        answers: Mapping[str, Answer] | None = None,
        key_in_file: bytes = KEY,
        curve: bool = False,
        before_answer: Callable[[str], object] = lambda msg_type: None,
    ) -> None:
        self.id = kernel_id
        self.path = directory / f"kernel-{kernel_id}.json"
        self.requests: list[tuple[str, Json]] = []  # as they came, without those that aren't signed with KEY
        self._about = {"status": "ok", "implementation": implementation}
        if implementation != "ipython":  # else it is a kernel over mpkernel, whatever it calls itself
            self._about["mpkernel_version"] = "0"
        self._answers: dict[str, Answer] = {"ps": {"subshells": list(subshells or [row()])}, **(answers or {})}
        self._before_answer = before_answer
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        keys = zmq.curve_keypair() if curve else (None, None)
        if curve:
            self._router.curve_server = True
            self._router.curve_publickey, self._router.curve_secretkey = keys
        port = self._router.bind_to_random_port("tcp://127.0.0.1")
        info = ConnectionInfo(key=key_in_file, curve_publickey=keys[0], curve_secretkey=keys[1])
        connection.write(self.path, info.with_ports(control=port))
        self._codec = Codec(Signer(KEY))
        self._stop = self._context.socket(zmq.PAIR)
        self._stop.bind("inproc://stop")
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def ops(self) -> list[Json]:
        """The contents of the mpkernel_requests but ps."""
        return [content for kind, content in self.requests if kind == "mpkernel_request" and content["op"] != "ps"]

    def kinds(self) -> list[str]:
        """The types of all requests."""
        return [kind for kind, _ in self.requests]

    def stop(self) -> None:
        self._stop.send(b"")
        self._thread.join()
        self._context.destroy(linger=0)

    def _serve(self) -> None:
        stop = self._context.socket(zmq.PAIR)
        stop.connect("inproc://stop")
        poller = zmq.Poller()
        poller.register(stop, zmq.POLLIN)
        poller.register(self._router, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if stop in ready:
                return
            try:
                message = self._codec.unpack(self._router.recv_multipart())
            except BadMessage:
                continue
            content = message.content()
            self.requests.append((message.msg_type, content))
            self._before_answer(message.msg_type)
            reply = self._reply(message.msg_type, content)
            if reply is not None:
                kind = message.msg_type.replace("_request", "_reply")
                frames = self._codec.pack(
                    kind, {"status": "ok", **reply}, parent=message.header_frame, idents=message.idents
                )
                self._router.send_multipart(frames)

    def _reply(self, msg_type: str, content: Json) -> Json | None:
        if msg_type == "kernel_info_request":
            return self._about
        answer = self._answers.get(content["op"], failure(f"no op {content['op']!r}"))
        return answer(content) if callable(answer) else answer


class DeafPort:
    """A port that is taken. It refuses connections, or, if `listening`, accepts them and never says a word."""

    def __init__(self, directory: Path, kernel_id: str, *, listening: bool) -> None:
        self.path = directory / f"kernel-{kernel_id}.json"
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        if listening:
            self._socket.listen()
        connection.write(self.path, ConnectionInfo(key=KEY).with_ports(control=self._socket.getsockname()[1]))

    def stop(self) -> None:
        self._socket.close()
