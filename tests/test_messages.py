"""Lane messages survive their frames, and what is forged or broken is refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpkernel import messages
from mpkernel.errors import BadMessage, BadSignature
from mpkernel.messages import (
    Acquired,
    AskCall,
    AskLive,
    Assign,
    Call,
    Commit,
    Exit,
    Hello,
    IOPub,
    LaneMessage,
    LiveAnswer,
    LiveValue,
    Merge,
    News,
    Op,
    Reply,
    Request,
    pack,
    unpack,
)
from mpkernel.wire import Signer

SIGNER = Signer(b"lane key")
KINDS = list(messages._KINDS.values())
EXAMPLES: dict[str, Any] = {
    "str": "text",
    "str | None": None,
    "int": 3,
    "bool": True,
    "list[int]": [3, 4],
    "list[str]": ["a", "ü"],
    "list[str] | None": None,
    "dict[str, Any]": {"a": [1, None, {"b": 2.5}]},
    "dict[str, Any] | None": {"msg_id": "1"},
    "list[Any]": [[["x"], "value", {"a": 1}, 2]],
    "list[list[str]]": [["main", "x = 1"]],
    "Blobs": (b"", b"\x00\xff", b"blob"),
}


def example(kind: type[LaneMessage]) -> LaneMessage:
    """A message of that kind, with something in each field."""
    return kind(**{f.name: EXAMPLES[str(f.type)] for f in fields(kind)})


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_survives_its_frames(kind: type[LaneMessage]) -> None:
    message = example(kind)
    assert unpack(pack(message, SIGNER), SIGNER) == message


def test_every_message_that_there_is_can_be_sent() -> None:
    assert {kind.__name__ for kind in KINDS} == {kind.__name__ for kind in LaneMessage.__subclasses__()}


@pytest.mark.parametrize(
    "message",
    [
        Assign(None, None, 0),
        Request(1, None, 0, None, False, False, False, ()),
        News(0, 0, [], [], ()),
        Exit(),
        Hello(1),
        IOPub(["comm_open", "id", "target"], (b"topic", b"rest")),
        Commit(0, [], [], False, ()),
        Reply(1, False, 0, ()),
        Op(1, "run", {"code": "\ud800", "ü": "🐍"}),
        AskLive(1, "x", None),
        LiveValue(1, "no such name", [], ()),
    ],
    ids=repr,
)
def test_empty_and_odd_values_survive(message: LaneMessage) -> None:
    assert unpack(pack(message, SIGNER), SIGNER) == message


@given(st.text(), st.text(), st.lists(st.binary(max_size=50)))
def test_any_text_and_any_blobs_survive(name: str, other: str, blobs: list[bytes]) -> None:
    commit = Commit(1, [name], [other], True, tuple(blobs))
    assert unpack(pack(commit, SIGNER), SIGNER) == commit


def test_blobs_are_sent_as_they_are() -> None:
    blob = b"frame" * 1000
    assert pack(Reply(1, False, 0, (blob,)), SIGNER)[-1] is blob


@pytest.mark.parametrize("kind", KINDS)
def test_the_fields_are_signed(kind: type[LaneMessage]) -> None:
    frames = pack(example(kind), SIGNER)
    frames[2] += b" "
    with pytest.raises(BadSignature, match=kind.__name__):
        unpack(frames, SIGNER)


def test_the_kind_is_signed() -> None:
    frames = pack(messages.Started(3), SIGNER)
    frames[0] = b"InputCancelled"
    with pytest.raises(BadSignature):
        unpack(frames, SIGNER)


@pytest.mark.parametrize("kind", [News, Merge, Commit, Acquired, LiveValue, AskCall, Call, LiveAnswer])
@pytest.mark.parametrize("change", ["changed", "added", "missing"])
def test_what_will_be_unpickled_is_signed(kind: type[LaneMessage], change: str) -> None:
    frames = pack(example(kind), SIGNER)
    if change == "changed":
        frames[-1] += b"!"
    elif change == "added":
        frames.append(b"more")
    else:
        frames.pop()
    with pytest.raises(BadSignature):
        unpack(frames, SIGNER)


def test_another_key_is_refused() -> None:
    with pytest.raises(BadSignature):
        unpack(pack(Exit(), SIGNER), Signer(b"other"))


@pytest.mark.parametrize("frames", [[], [b"Exit"], [b"Exit", b""], [b"Nothing", b"", b"[]"], [b"", b"", b""]])
def test_what_is_no_lane_message_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(BadMessage, match="not a lane message"):
        unpack(frames, SIGNER)


@pytest.mark.parametrize(
    "meta", [b"", b"not JSON", b"3", b"null", b"[]", b"[1, 2]", b"{}", b'{"pid": 1}', b"[" * 100_000]
)
def test_fields_that_do_not_fit_are_refused(meta: bytes) -> None:
    with pytest.raises(BadMessage):
        unpack([b"Hello", SIGNER.sign((b"Hello", meta)), meta], SIGNER)
