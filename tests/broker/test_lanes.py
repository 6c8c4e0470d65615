"""Worker's lanes over real sockets: who isn't the worker is neither told anything nor believed."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpkernel import messages
from mpkernel.broker.lanes import KINDS, Lanes
from mpkernel.settings import WorkerSettings
from mpkernel.wire import Signer

WORKER = 7
PATIENCE = 10_000  # ms
SILENCE = 200  # ms in which nothing must come


class Broker:
    """Lanes, and a poller as in the loop."""

    def __init__(self, directory: Path) -> None:
        self.settings = WorkerSettings(
            directory=directory,
            broker_pid=os.getpid(),
            lifeline_fd=-1,
            lane_key=secrets.token_hex(32).encode(),
            key=b"",
            signature_scheme="hmac-sha256",
            session="s",
            username="u",
            connection_file="",
        )
        self.context: zmq.Context[Any] = zmq.Context()
        self._poller = zmq.Poller()
        self._handlers: dict[Any, Callable[[], None]] = {}
        self.heard: list[messages.LaneMessage] = []
        self.lanes = Lanes(self.context, self.settings, self._watch, self._unwatch)
        self.lanes.open(WORKER, self._receive)

    def _watch(self, source: Any, handler: Callable[[], None]) -> None:
        self._poller.register(source, zmq.POLLIN)
        self._handlers[source] = handler

    def _unwatch(self, source: Any) -> None:
        self._poller.unregister(source)
        del self._handlers[source]

    def _receive(self) -> None:
        for message in self.lanes.receive(WORKER, 100):
            if isinstance(message, messages.Hello):
                self.lanes.accept(WORKER, message.pid)
            self.heard.append(message)

    def turn(self, timeout: int) -> bool:
        """Handle what comes; False if nothing has."""
        ready = self._poller.poll(timeout)
        for source, _ in ready:
            if source in self._handlers:
                self._handlers[source]()
        return bool(ready)

    def until(self, kind: type[messages.LaneMessage]) -> None:
        while not any(isinstance(message, kind) for message in self.heard):
            assert self.turn(PATIENCE), f"no {kind.__name__}; {self.heard}"

    def rest(self) -> None:
        while self.turn(SILENCE):
            pass

    def connect(self, kind: str, login: tuple[bytes, bytes] | None) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self.context.socket(zmq.DEALER)
        socket.linger = 0
        if login is not None:
            socket.plain_username, socket.plain_password = login
        socket.connect(self.settings.lane(WORKER, kind))
        return socket

    def worker(self) -> dict[str, zmq.Socket[bytes]]:
        """The worker itself: here, this process."""
        sockets = {kind: self.connect(kind, self.settings.lane_login(WORKER, kind)) for kind in ("ordered", "service")}
        for lane in sockets.values():
            lane.send_multipart(messages.pack(messages.Hello(os.getpid()), self.settings.lane_signer()))
        return sockets


@pytest.fixture
def broker() -> Iterator[Broker]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # a short path
        broker = Broker(Path(directory))
        yield broker
        broker.lanes.close()
        broker.context.destroy(linger=0)


STRANGERS: dict[str, Callable[[Broker], tuple[bytes, bytes] | None]] = {
    "nothing": lambda _: None,
    "a wrong password": lambda b: (b.settings.lane_login(WORKER, "ordered")[0], b"0" * 64),
    "the password of another lane": lambda b: b.settings.lane_login(WORKER + 1, "ordered"),
    "the other lane's password": lambda b: b.settings.lane_login(WORKER, "service"),
    "odd names": lambda _: (b"\xff", b"\xff"),
}


@pytest.mark.parametrize("login", STRANGERS)
def test_a_stranger_who_is_there_first_gets_nothing_of_what_the_worker_is_sent(broker: Broker, login: str) -> None:
    stranger = broker.connect("ordered", STRANGERS[login](broker))
    broker.rest()
    worker = broker.worker()
    broker.until(messages.Hello)
    for count in range(10):
        broker.lanes.send(WORKER, messages.Assign(None, None, count))
    for count in range(10):
        assert worker["ordered"].poll(PATIENCE)
        message = messages.unpack(worker["ordered"].recv_multipart(), broker.settings.lane_signer())
        assert message.execution_count == count
    assert not stranger.poll(0)


def test_a_forged_commit_is_dropped(broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    worker = broker.worker()
    broker.until(messages.Hello)
    commit = messages.Commit(0, [[["x"], "value", {}, 1]], [], False, (b"evil",))
    worker["ordered"].send_multipart(messages.pack(commit, Signer(b"a guess")))
    genuine = messages.pack(messages.Commit(0, [[["x"], "value", {}, 1]], [], False, (b"good",)), _signer(broker))
    worker["ordered"].send_multipart([*genuine[:-1], b"evil"])  # another pickle under a good signature
    worker["ordered"].send_multipart(messages.pack(messages.Settled(), _signer(broker)))
    broker.until(messages.Settled)
    assert not [message for message in broker.heard if isinstance(message, messages.Commit)]


OTHER_PROCESS = """
import sys, zmq
address, name, password, *frames = [bytes.fromhex(word) for word in sys.argv[1:]]
socket = zmq.Context().socket(zmq.DEALER)
socket.plain_username, socket.plain_password = name, password
socket.connect(address.decode())
socket.send_multipart(frames)
socket.close(5000)
zmq.Context.instance().term()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the sender's pid isn't known elsewhere")
def test_what_another_process_says_is_dropped_though_it_knows_every_secret(broker: Broker) -> None:
    address = broker.settings.lane(WORKER, "ordered").encode()
    hello = messages.pack(messages.Hello(os.getpid()), _signer(broker))  # as if it were the worker
    words = [word.hex() for word in (address, *broker.settings.lane_login(WORKER, "ordered"), *hello)]
    other = subprocess.Popen([sys.executable, "-c", OTHER_PROCESS, *words])
    while other.poll() is None:
        broker.turn(SILENCE)
    broker.rest()
    assert other.returncode == 0
    assert not broker.heard
    worker = broker.worker()
    broker.until(messages.Hello)
    assert worker


def test_frames_of_any_kind_from_a_worker_raise_nothing(broker: Broker) -> None:
    worker = broker.worker()
    broker.until(messages.Hello)
    for frames in ([b""], [b"Hello"], [b"Commit", b"", b"{"], [b"\xff"] * 5, [b"Settled", b"x" * 64, b"[]"]):
        worker["ordered"].send_multipart(frames)
    worker["ordered"].send_multipart(messages.pack(messages.Settled(), _signer(broker)))
    broker.until(messages.Settled)
    assert [type(message) for message in broker.heard] == [messages.Hello, messages.Settled]


lane_frames = st.lists(st.binary(max_size=30) | st.sampled_from(sorted(messages._KINDS)), min_size=1, max_size=6)
# What a program may say that isn't ZMQ, also after it has begun as ZMQ does (ZMTP 3.1's greeting).
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01PLAIN" + bytes(15) + b"\x00" + bytes(31)
raw_bytes = st.builds(bytes.__add__, st.sampled_from([b"", GREETING[:12], GREETING]), st.binary(max_size=200))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(said=st.lists(st.tuples(st.sampled_from(KINDS), raw_bytes | lane_frames, st.booleans()), max_size=5))
def test_whatever_a_process_says_that_is_no_worker(
    broker: Broker, said: list[tuple[str, bytes | list[bytes], bool]]
) -> None:
    """By ZMQ, with and without the lane's password; and by other bytes. (It has this pid; the signature is missing.)"""
    for kind, frames, knows_password in said:
        if isinstance(frames, bytes):
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(broker.settings.lane(WORKER, kind).removeprefix("ipc://"))
                stranger.sendall(frames)
                broker.turn(0)
        else:
            peer = broker.connect(kind, broker.settings.lane_login(WORKER, kind) if knows_password else None)
            peer.send_multipart(frames)
            broker.turn(1)
            peer.close(0)
    while broker.turn(1):
        pass
    assert broker.heard == []


def test_after_all_that_the_worker_is_heard(broker: Broker) -> None:
    for _ in range(30):
        for kind in KINDS:
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.connect(broker.settings.lane(WORKER, kind).removeprefix("ipc://"))
                stranger.sendall(GREETING)
    worker = broker.worker()
    broker.until(messages.Hello)
    worker["ordered"].send_multipart(messages.pack(messages.Settled(), _signer(broker)))
    broker.until(messages.Settled)


def _signer(broker: Broker) -> Signer:
    return broker.settings.lane_signer()
