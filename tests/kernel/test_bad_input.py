"""Whatever comes in on the channels or the command line, a kernel stays up and a start fails with one clear line."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .driver import Channel, Kernel

SEND_CHANNELS: list[Channel] = ["shell", "control", "stdin"]
STAYS_SILENT = "a request that can't be read gets no reply"
DELIMITER = b"<IDS|MSG>"
HEADER, PARENT, METADATA, CONTENT = 2, 3, 4, 5  # places in [DELIMITER, signature, …]

Frames = list[bytes]


def signed(kernel: Kernel, frames: Frames) -> Frames:
    """`frames` with the signature that their content has, bad as it may be."""
    return [frames[0], kernel.session.sign(frames[HEADER : CONTENT + 1]), *frames[HEADER:]]


def replaced(place: int, value: bytes) -> Callable[[Kernel, Frames], Frames]:
    return lambda kernel, frames: signed(kernel, [*frames[:place], value, *frames[place + 1 :]])


def header_with(**changes: Any) -> Callable[[Kernel, Frames], Frames]:
    """The header with some fields changed; None takes a field out."""

    def change(kernel: Kernel, frames: Frames) -> Frames:
        header = json.loads(frames[HEADER]) | changes
        header = {name: value for name, value in header.items() if value is not None}
        return replaced(HEADER, json.dumps(header).encode())(kernel, frames)

    return change


MALFORMED: dict[str, Callable[[Kernel, Frames], Frames]] = {
    "wrong signature": lambda _, f: [f[0], b"0" * 64, *f[2:]],
    "empty signature": lambda _, f: [f[0], b"", *f[2:]],
    "signature not ASCII": lambda _, f: [f[0], "ä".encode() * 32, *f[2:]],
    "content changed": lambda _, f: [*f[:CONTENT], f[CONTENT].replace(b"harm", b"hurt")],
    "no delimiter": lambda _, f: f[1:],
    "delimiter only": lambda _, f: f[:1],
    "one empty frame": lambda _, f: [b""],
    "content missing": lambda _, f: f[:CONTENT],
    "header only": lambda k, f: f[: HEADER + 1],
    "header not JSON": replaced(HEADER, b"{"),
    "header a list": replaced(HEADER, b"[1, 2]"),
    "header null": replaced(HEADER, b"null"),
    "header not UTF-8": replaced(HEADER, b'{"msg_id": "\xff"}'),
    "header nested deep": replaced(HEADER, b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "header of 4 MB": header_with(extra="x" * 4_000_000),
    "no msg_type": header_with(msg_type=None),
    "no msg_id": header_with(msg_id=None),
    "msg_type a number": header_with(msg_type=5),
    "msg_type empty": header_with(msg_type=""),
    "msg_type with slashes": header_with(msg_type="../../etc_request"),
    "subshell_id a number": header_with(subshell_id=7),
    "subshell_id a list": header_with(subshell_id=[1]),
    "subshell_id empty": header_with(subshell_id=""),
    "content not JSON": replaced(CONTENT, b'{"code": '),
    "content a list": replaced(CONTENT, b"[]"),
    "content null": replaced(CONTENT, b"null"),
    "parent not JSON": replaced(PARENT, b"parent"),
    "metadata a string": replaced(METADATA, b'"meta"'),
}
# Signed, so not an attack, and readable: a kernel may as well run these.
MAY_RUN = {"parent not JSON", "metadata a string", "msg_type with slashes", "subshell_id empty"}
UNCHECKED = {"header of 4 MB", "subshell_id a number", "subshell_id a list"}  # by ipykernel, on control at least
UNHARM = "globals().pop('harm', None)"


def check_answers(kernel: Kernel) -> None:
    assert kernel.control("kernel_info_request").status == "ok"
    assert kernel.value("6 * 7") == 42


def check_unharmed(kernel: Kernel) -> None:
    """The kernel answers, and nobody ran what the bad message said."""
    check_answers(kernel)
    assert kernel.value("'harm' in globals()") is False


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.mpkernel_only("it doesn't look") if name in UNCHECKED else ())
        for name in MALFORMED
    ],
)
def test_a_malformed_message_is_dropped_and_the_kernel_goes_on(shared_kernel: Kernel, name: str) -> None:
    shared_kernel.run(UNHARM)
    message = shared_kernel.message("execute_request", {"code": "harm = 1", "silent": False})
    for channel in SEND_CHANNELS:
        message["header"]["msg_id"] += channel
        frames = MALFORMED[name](shared_kernel, shared_kernel.session.serialize(message))
        shared_kernel.send_frames(frames, message["header"], channel=channel)
    if name in MAY_RUN:
        check_answers(shared_kernel)  # so it has run by now, on control, too
        shared_kernel.run(UNHARM)
    check_unharmed(shared_kernel)


@pytest.mark.mpkernel_only("it doesn't look")
@pytest.mark.parametrize("subshell", [7, 0, True, [1], {"a": "b"}, ""], ids=repr)
def test_a_request_for_what_can_be_no_subshell_is_answered(shared_kernel: Kernel, subshell: object) -> None:
    for channel in ("shell", "control"):
        request = shared_kernel.send("kernel_info_request", channel=channel, header={"subshell_id": subshell})
        assert request.wait().ename == "SubshellNotFound"


@pytest.mark.parametrize(
    ("channel", "msg_type", "content"),
    [
        ("shell", "execute_request", {}),
        ("shell", "execute_request", {"code": 5}),
        ("shell", "execute_request", {"code": None}),
        ("shell", "execute_request", {"code": "1", "user_expressions": [1]}),
        ("control", "execute_request", {}),
        ("shell", "complete_request", {}),
        ("shell", "complete_request", {"code": "pri", "cursor_pos": "three"}),
        ("shell", "inspect_request", {"code": "print", "cursor_pos": 10_000, "detail_level": 99}),
        ("shell", "is_complete_request", {}),
        ("shell", "history_request", {"hist_access_type": "no such", "raw": True, "output": False}),
        ("shell", "history_request", {}),
        ("shell", "comm_info_request", {"target_name": 5}),
        ("control", "delete_subshell_request", {}),
        ("control", "delete_subshell_request", {"subshell_id": [1]}),
        ("control", "interrupt_request", {"subshell_id": "unknown"}),
        ("control", "debug_request", {}),
        ("control", "debug_request", {"command": "no such", "seq": 1, "type": "request"}),
    ],
)
@pytest.mark.mpkernel_only(STAYS_SILENT)
def test_a_request_with_bad_content_gets_a_reply(
    shared_kernel: Kernel, channel: Channel, msg_type: str, content: dict[str, Any]
) -> None:
    result = shared_kernel.request(msg_type, content, channel=channel)
    assert result.statuses[-1] == "idle"
    check_unharmed(shared_kernel)


@pytest.mark.parametrize("msg_type", ["comm_open", "comm_msg", "comm_close"])
def test_a_bad_comm_message_gets_busy_and_idle(shared_kernel: Kernel, msg_type: str) -> None:
    for content in ({"comm_id": "unknown", "data": {}}, {"comm_id": "unknown"}):
        shared_kernel.send(msg_type, content | {"target_name": "unknown"}).wait_for_idle()
    check_unharmed(shared_kernel)


@pytest.mark.mpkernel_only("it shows no error")
def test_an_exception_that_cant_be_looked_at_is_shown(shared_kernel: Kernel) -> None:
    result = shared_kernel.run("class Bad(Exception):\n  def __getattribute__(self, name): 1 / 0\nraise Bad")
    assert result.ename == "ZeroDivisionError"
    assert result.error is not None
    assert "its traceback can't be shown" in result.traceback
    check_answers(shared_kernel)


@pytest.mark.mpkernel_only("it hangs")
def test_a_process_that_can_not_even_reply_is_replaced(kernel: Kernel) -> None:
    kernel.run("from mpkernel.worker import kernel as module; module.message_of = None")
    assert kernel.run("1").ename == "WorkerDied"
    check_answers(kernel)


def test_a_replayed_message_is_not_run_again(kernel: Kernel) -> None:
    kernel.run("count = 0")
    message = kernel.message("execute_request", {"code": "count += 1", "silent": False})
    frames = kernel.session.serialize(message)
    kernel.send_frames(frames, message["header"]).wait()
    for _ in range(3):
        kernel.send_frames(frames, message["header"])
    assert kernel.value("count") == 1


def test_replies_that_nobody_waits_for_are_dropped(kernel: Kernel) -> None:
    for channel in SEND_CHANNELS:
        for msg_type in ("input_reply", "execute_reply", "kernel_info_reply", "status", "comm_info_reply"):
            for parent in (None, kernel.message("input_request")):
                kernel.send(msg_type, {"value": "harm", "status": "ok"}, channel=channel, parent=parent)
    check_unharmed(kernel)
    pending = kernel.submit("print(input('? '))", allow_stdin=True)
    request = pending.wait_for_input_request()
    kernel.answer_input(request, "the real answer")
    assert pending.wait().stdout == "the real answer\n"


def test_random_frames_do_no_harm(kernel: Kernel) -> None:
    seed = int(os.environ.get("MPKERNEL_SEED", time.time_ns() % 1_000_000))
    print(f"MPKERNEL_SEED={seed}")
    chance = random.Random(seed)
    message = kernel.message("execute_request", {"code": "harm = 1"})
    for _ in range(300):
        frames = kernel.session.serialize(message)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(frames)) if frames else 0
            frames[place : place + chance.randint(0, 2)] = [
                chance.randbytes(chance.choice([0, 1, 10, 1000])) for _ in range(chance.randint(0, 2))
            ]
        if DELIMITER in frames and chance.random() < 0.5:
            start = frames.index(DELIMITER)
            frames[start + 1 : start + 2] = [kernel.session.sign(frames[start + 2 : start + 6])]
        if frames:
            kernel.send_frames(frames, message["header"], channel=chance.choice(SEND_CHANNELS))
    check_answers(kernel)


# The beginning of ZMTP 3.1, without authentication, and a READY command cut short.
GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01NULL" + bytes(16) + b"\x00" + bytes(31)
READY = b"\x04\x26\x05READY\x0bSocket-Type\x00\x00\x00\x06DEALER"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    said=st.lists(
        st.tuples(
            st.sampled_from(["shell", "control", "stdin", "iopub", "hb"]),
            st.builds(bytes.__add__, st.sampled_from([b"", GREETING, GREETING + READY]), st.binary(max_size=300))
            | st.lists(st.binary(max_size=40) | st.sampled_from([DELIMITER, b"\x01", b"\x00"]), min_size=1, max_size=8),
        ),
        max_size=6,
    )
)
def test_whatever_a_stranger_says_on_any_port(shared_kernel: Kernel, said: list[tuple[str, bytes | Frames]]) -> None:
    """By ZMQ, without the key; and other bytes. (That nothing failed inside the broker is looked at in its log.)"""
    context: zmq.Context[Any] = zmq.Context()
    try:
        for channel, frames in said:
            url = shared_kernel.url(channel)
            if isinstance(frames, bytes):
                host, port = url.removeprefix("tcp://").split(":")
                with socket.create_connection((host, int(port))) as stranger:
                    stranger.sendall(frames)
            else:
                peer: zmq.Socket[bytes] = context.socket(zmq.XSUB if channel == "iopub" else zmq.DEALER)
                peer.connect(url)
                peer.send_multipart(frames)
                peer.close(1000)
    finally:
        context.term()
    shared_kernel.control("kernel_info_request")
    assert heartbeat(shared_kernel) == b"still there?"


def heartbeat(kernel: Kernel) -> bytes:
    context: zmq.Context[Any] = zmq.Context()
    with context, context.socket(zmq.REQ) as beating:
        beating.linger = 0
        beating.connect(kernel.url("hb"))
        beating.send(b"still there?")
        assert beating.poll(30_000), "no heartbeat"
        return bytes(beating.recv())
