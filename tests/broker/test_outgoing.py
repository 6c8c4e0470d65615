"""Front ends that don't read: what is held back for them, and that the others get theirs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import zmq

from mpkernel.broker.outgoing import LARGE, MAX_BYTES, MAX_MESSAGES, Outgoing

TEXT = b"x" * (1 << 17)
NEVER = 1 << 30  # looks
DEADLINE = 10.0


def message(*start: bytes, parent: bytes = b"{}", text: bytes = b"", buffers: tuple[bytes, ...] = ()) -> list[bytes]:
    return [*start, b"delimiter", b"signature", b"header", parent, text, *buffers]


@dataclass
class Bench:
    """One channel, with as many clients as a test wants. Small buffers: the network holds next to nothing."""

    context: zmq.Context[Any]
    kind: int
    clients: list[zmq.Socket[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.socket = self.context.socket(self.kind)
        self.socket.linger = 0
        self.socket.sndbuf = 1 << 16
        if self.kind == zmq.XPUB:
            self.socket.xpub_verbose = 1
        self.outgoing = Outgoing(self.socket, "test")
        self.port = self.socket.bind_to_random_port("tcp://127.0.0.1")

    def client(self, name: bytes = b"") -> zmq.Socket[bytes]:
        """A connected client, known to the kernel."""
        client = self.context.socket(zmq.SUB if self.kind == zmq.XPUB else zmq.DEALER)
        client.linger, client.rcvhwm, client.rcvbuf = 0, 1, 1 << 16
        if self.kind == zmq.XPUB:
            client.subscribe(b"")
        else:
            client.identity = name
        client.connect(f"tcp://127.0.0.1:{self.port}")
        if self.kind == zmq.ROUTER:
            client.send(b"hello")
        self.socket.recv_multipart()  # its subscription, or its hello
        self.clients.append(client)
        return client

    def until(self, condition: Callable[[], bool], patience: int = NEVER) -> None:
        """Look as the loop does until `condition` is true."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline
            self.socket.poll(int(self.outgoing.look(patience) * 1000) or 1)

    def fill(self, *idents: bytes, text: bytes = TEXT, buffers: tuple[bytes, ...] = ()) -> int:
        """Send until something is held up; returns how many messages that took."""
        for n in range(10 * MAX_MESSAGES):
            self.outgoing.send(message(*idents, b"%d" % n, text=text, buffers=buffers))
            if self.outgoing.waits:
                return n + 1
        raise AssertionError("there is no limit")


@pytest.fixture(params=[zmq.XPUB, zmq.ROUTER], ids=["iopub", "shell"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    with zmq.Context() as context:
        made = Bench(context, request.param)
        yield made
        context.destroy(linger=0)


def numbers(bench: Bench, client: zmq.Socket[bytes], n: int) -> list[int]:
    """The next `n` messages that `client` gets; the bench goes on meanwhile."""
    found: list[int] = []

    def got_all() -> bool:
        while len(found) < n and client.poll(0):
            found.append(int(client.recv_multipart()[0]))
        return len(found) == n

    bench.until(got_all)
    return found


def test_a_client_that_reads_later_gets_everything_in_order(bench: Bench) -> None:
    client = bench.client(b"me")
    idents = [] if bench.kind == zmq.XPUB else [b"me"]
    sent = bench.fill(*idents)
    for n in range(sent, sent + 10):
        bench.outgoing.send(message(*idents, b"%d" % n))
    assert numbers(bench, client, sent + 10) == list(range(sent + 10))
    assert not bench.outgoing.waits


def test_what_a_client_can_be_behind_is_limited(bench: Bench) -> None:
    bench.client(b"me")
    idents = [] if bench.kind == zmq.XPUB else [b"me"]
    assert bench.fill(*idents, text=b"x" * (LARGE // 2)) < 2 * MAX_MESSAGES


@pytest.mark.parametrize(
    "parts", [(TEXT,), (TEXT, b"tail"), (b"{}", TEXT), (b"{}", *[TEXT[:4000]] * 32)], ids=["", "+", "buffer", "small"]
)
def test_large_messages_have_a_limit_in_bytes(bench: Bench, parts: tuple[bytes, ...]) -> None:
    client = bench.client(b"me")
    idents = [] if bench.kind == zmq.XPUB else [b"me"]
    sent = bench.fill(*idents, text=parts[0], buffers=parts[1:])
    assert sent < 10 + MAX_BYTES // sum(map(len, parts))
    # (libzmq 4.3.5 aborts if its socket is closed when it has sent a message in part.)
    assert numbers(bench, client, sent) == list(range(sent))


def test_who_reads_nothing_is_cut_off_and_the_others_go_on(bench: Bench) -> None:
    bench.client(b"stuck")
    reader = bench.client(b"reader")
    sent = bench.fill(*([] if bench.kind == zmq.XPUB else [b"stuck"]))
    if bench.kind == zmq.ROUTER:  # others don't wait for it
        bench.outgoing.send(message(b"reader", b"0"))
        assert numbers(bench, reader, 1) == [0]
        bench.until(lambda: not bench.outgoing.waits, patience=3)
        return
    received: list[int] = []

    def read() -> bool:
        while reader.poll(0):
            received.append(int(reader.recv_multipart()[0]))
        return not bench.outgoing.waits and len(received) == sent

    bench.until(read, patience=200)  # looks; on a busy machine the reader may need a moment
    assert received == list(range(sent))


def test_who_comes_back_is_served_again(bench: Bench) -> None:
    if bench.kind == zmq.ROUTER:
        pytest.skip("replies to requests of a connection that is gone have no address")
    stuck = bench.client()
    bench.fill()
    bench.until(lambda: not bench.outgoing.waits, patience=3)
    last: list[int] = []

    def hears_again() -> bool:
        bench.outgoing.send(message(b"-1"))
        while stuck.poll(0):
            last.append(int(stuck.recv_multipart()[0]))
        return bool(last) and last[-1] == -1

    bench.until(hears_again)


def test_an_acknowledgement_waits_for_what_was_sent_before(bench: Bench) -> None:
    if bench.kind == zmq.ROUTER:
        pytest.skip("only output is acknowledged")
    called: list[str] = []
    bench.outgoing.when_sent(lambda: called.append("at once"))
    assert called == ["at once"]
    client = bench.client()
    sent = bench.fill()
    bench.outgoing.when_sent(lambda: called.append("later"))
    assert called == ["at once"]
    numbers(bench, client, sent)
    bench.until(lambda: called == ["at once", "later"])


def test_one_message_may_be_larger_than_the_limit(bench: Bench) -> None:
    client = bench.client(b"me")
    bench.outgoing.send(message(*([] if bench.kind == zmq.XPUB else [b"me"]), b"0", text=b"x" * (MAX_BYTES + 1)))
    assert numbers(bench, client, 1) == [0]


def behind(bench: Bench) -> tuple[zmq.Socket[bytes], int]:
    """One of two clients of iopub that don't read, and how many messages were sent."""
    if bench.kind == zmq.ROUTER:
        pytest.skip("it is on iopub")
    reader, _ = bench.client(), bench.client()
    return reader, bench.fill()


def test_status_does_not_wait_behind_the_output_of_others(bench: Bench) -> None:
    reader, sent = behind(bench)
    bench.outgoing.send(message(b"1000", parent=b"another"), own=True)
    bench.outgoing.send(message(b"2000", parent=b"another"))
    bench.outgoing.send(message(b"3000", parent=b"another"), own=True)  # but in order
    bench.outgoing.send(message(b"4000", parent=b"one more"), own=True)  # what was last is last
    assert numbers(bench, reader, sent) == [*range(sent - 1), 1000]
    bench.until(lambda: not bench.outgoing.waits, patience=20)
    assert numbers(bench, reader, 4) == [sent - 1, 2000, 3000, 4000]


def test_status_of_the_request_that_prints_comes_after_what_it_prints(bench: Bench) -> None:
    reader, sent = behind(bench)
    bench.outgoing.send(message(b"1000", parent=b"{}"), own=True)
    bench.outgoing.send(message(b"2000", parent=b"another"), own=True)
    assert numbers(bench, reader, sent - 1) == [*range(sent - 1)]
    bench.until(lambda: not bench.outgoing.waits, patience=20)
    assert numbers(bench, reader, 3) == [sent - 1, 1000, 2000]
