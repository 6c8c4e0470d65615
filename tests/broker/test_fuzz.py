"""Whatever comes in, as frames, fields or content: it is handled, or refused, and nothing but BadMessage is raised."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpkernel import messages
from mpkernel.broker.events import FromWorker
from mpkernel.broker.lanes import check
from mpkernel.errors import BadMessage
from mpkernel.wire import DELIMITER, Codec, Signer

from .bench import Kernel
from .test_any_course import REQUESTS

KEY = Signer(b"key")
KINDS = sorted(kind for kind in messages._KINDS)
FROM_WORKERS = [
    *(messages.Hello, messages.Describe, messages.Started, messages.IOPub, messages.CommTarget, messages.Commit),
    *(messages.Acquire, messages.Released, messages.Settled, messages.InputRequest, messages.InputCancelled),
    *(messages.Reply, messages.Debugged, messages.Flush, messages.Op, messages.Awaits, messages.Ending),
    *(messages.Missed, messages.Resent, messages.Mark),
    *(messages.AskLive, messages.LiveAnswer, messages.AskTheirs, messages.AskCall),
]
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**70) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
# What requests and components have as keys, so that values of the wrong type get to where they are read.
KEYS = ["subshell_id", "comm_id", "target_name", "op", "subshell", "name", "code", "parent", "signal", "grace", "path"]
contents = (
    st.dictionaries(st.sampled_from([*KEYS, "mode", "data", "restart", "command", "seq"]), json_values) | json_values
)
heads = st.lists(
    st.tuples(
        st.lists(st.sampled_from("xyz"), max_size=3) | json_values,
        st.sampled_from(["value", "deleted", "held"]) | json_values,
        st.dictionaries(
            st.sampled_from(["nbytes", "stubs", "rebound", "segment", "onto", "delta", "deltas", "left_out"]),
            json_values | st.lists(st.text(max_size=2)),
        )
        | json_values,
        st.integers(-1, 3) | json_values,
    ).map(list)
    | json_values,
    max_size=3,
)
frames = st.lists(st.binary(max_size=20) | st.sampled_from([DELIMITER, b"{}", b"[]", *KINDS]), max_size=8)


@given(frames=frames)
def test_frames_on_a_channel(frames: list[bytes]) -> None:
    with pytest.raises(BadMessage):
        Codec(KEY).unpack(frames)


@given(
    parts=st.lists(json_values.map(lambda v: json.dumps(v).encode()) | st.binary(max_size=30), min_size=4, max_size=6)
)
def test_signed_frames_on_a_channel(parts: list[bytes]) -> None:
    try:
        message = Codec(KEY).unpack([b"id", DELIMITER, KEY.sign(parts[:4]), *parts])
    except BadMessage:
        return
    assert isinstance(message.msg_type, str)


@given(frames=frames)
def test_frames_on_a_lane(frames: list[bytes]) -> None:
    with pytest.raises(BadMessage):
        messages.unpack(frames, KEY)


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(REQUESTS), channel=st.sampled_from(["shell", "control", "stdin"]), content=contents)
def test_content_of_any_kind_is_answered(kind: str, channel: str, content: object) -> None:
    kernel = Kernel()
    kernel.measures_at_once = True
    kernel.ready()
    if kind != "execute_request":
        kernel.running()
    kernel.ask(kind, content, channel=channel)
    kernel.check()


def test_fields_that_are_no_list() -> None:
    for meta in (b"\x000", b"{}", b"null", b'""'):  # the first one is UTF-16 for 0
        with pytest.raises(BadMessage):
            messages.unpack([b"Settled", KEY.sign((b"Settled", meta)), meta], KEY)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), kind=st.sampled_from(FROM_WORKERS))
def test_a_signed_message_of_a_worker_with_any_fields(data: st.DataObject, kind: type[messages.LaneMessage]) -> None:
    """A worker that has gone mad: what the broker can't use it refuses, and the machine copes with the rest."""
    drawn: list[Any] = []
    for name in messages._FIELDS[kind]:
        good = {"components": heads, "token": st.integers(0, 5), "seq": st.integers(0, 5), "after": st.integers(0, 9)}
        typed = {"abort": st.booleans(), "force": st.booleans(), "last": st.booleans(), "pid": st.just(5001)}
        drawn.append(data.draw({**good, **typed}.get(name, json_values) | json_values, label=name))
    blobs = tuple(data.draw(st.lists(st.binary(max_size=5), max_size=3), label="blobs"))
    meta = json.dumps(drawn).encode()
    name = kind.__name__.encode()
    signed = (name, meta, *blobs) if kind.sign_blobs else (name, meta)
    try:
        message = messages.unpack([name, KEY.sign(signed), meta, *blobs], KEY)
        check(message)
    except BadMessage:
        return
    kernel = Kernel()
    kernel.running()
    kernel.machine.handle(FromWorker(kernel.worker().id, message), kernel.now)


def test_a_component_is_in_one_place() -> None:
    place = {"name": "0", "size": 1, "ranges": [], "key": ""}
    head = [["x"], "value", {"segment": place, "delta": place}, 0]
    with pytest.raises(BadMessage, match="a segment or a delta"):
        check(messages.Commit(0, [head], [], False, ()))
