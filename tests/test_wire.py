"""Messages on the wire: what is packed is what jupyter_client reads, what is forged or broken is refused."""

from __future__ import annotations

import datetime
import json
import math
import pathlib
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpkernel import wire
from mpkernel.errors import BadMessage, BadSignature
from mpkernel.wire import DELIMITER, Codec, Signer, dumps, loads

KEY = b"secret"


@pytest.fixture
def codec() -> Codec:
    return Codec(Signer(KEY), session="s", origin="o", username="u", clock=lambda: "now")


def other() -> Codec:
    """The other end: same key, another session."""
    return Codec(Signer(KEY))


# --- JSON -------------------------------------------------------------------------------------------------------------

UTC = datetime.UTC
STRANGE: list[tuple[Any, Any]] = [
    (datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), "2026-01-02T03:04:05Z"),
    (datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone(datetime.timedelta(hours=2))), "2026-01-02T00:00:00+02:00"),
    (b"bytes", "Ynl0ZXM="),
    (bytearray(b"bytes"), "Ynl0ZXM="),
    (memoryview(b"bytes"), "Ynl0ZXM="),
    ((1, 2), [1, 2]),
    ({1}, [1]),
    (frozenset([1]), [1]),
    ((n for n in range(3)), [0, 1, 2]),
    (pathlib.Path("a/b"), "a/b"),
    ({"a": {"b": {2}}}, {"a": {"b": [2]}}),
    ({1: "a", None: "b", False: "c", 0.5: "d"}, {"1": "a", "null": "b", "false": "c", "0.5": "d"}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
]


@pytest.mark.parametrize(("value", "read"), STRANGE, ids=[type(value).__name__ for value, _ in STRANGE])
def test_what_json_lacks_is_converted(value: object, read: object) -> None:
    assert json.loads(dumps(value)) == read


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (math.nan, "nan"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        ([1.5, {"a": math.nan}], [1.5, {"a": "nan"}]),
        (
            {math.inf: 0, "nan": math.nan, "rest": {3}, "others": (1, None, True, "x", b"y")},
            {"inf": 0, "nan": "nan", "rest": [3], "others": [1, None, True, "x", "eQ=="]},
        ),
    ],
)
def test_nan_and_infinity_are_text(value: object, read: object) -> None:
    assert json.loads(dumps(value), parse_constant=pytest.fail) == read


def test_a_date_without_a_zone_is_taken_for_local() -> None:
    naive = datetime.datetime(2026, 1, 2, 3, 4, 5)
    assert datetime.datetime.fromisoformat(json.loads(dumps(naive))) == naive.astimezone()


def test_numpys_numbers_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    numbers = [numpy.int64(1), numpy.float64(1.5), numpy.float32(0.5), numpy.uint8(3)]
    assert json.loads(dumps(numbers)) == [1, 1.5, 0.5, 3]
    assert json.loads(dumps([numpy.float64("nan"), numpy.float32("inf"), *numbers])) == ["nan", "inf", 1, 1.5, 0.5, 3]


@pytest.mark.parametrize("value", [object(), {(1, 2): 3}, 1j, {"a": [math.nan, object()]}], ids=range(4))
def test_what_has_no_json_form_raises(value: object) -> None:
    with pytest.raises(TypeError):
        dumps(value)


def test_what_contains_itself_raises() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(TypeError):
        dumps(value)


@pytest.mark.parametrize("text", ["\ud800", "a\udcffb", {"\ud800": ["\udfff"]}])
def test_lone_surrogates_do_not_break_the_encoding(text: object) -> None:
    dumps(text).decode("utf-8")


def test_text_is_sent_as_utf_8() -> None:
    assert dumps("Grüße 🐍") == '"Grüße 🐍"'.encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@given(json_values)
def test_all_that_json_has_survives(value: object) -> None:
    text = dumps(value)
    if "\\ud" not in json.dumps(value):
        assert loads(text) == value


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\xfd", b"[" * 100_000, b"1" * 5000, b"nul"])
def test_what_is_no_json_raises(data: bytes) -> None:
    with pytest.raises(BadMessage, match="not JSON"):
        loads(data)


# --- signatures -------------------------------------------------------------------------------------------------------


def test_a_signature_is_the_hmac_of_all_frames() -> None:
    signer = Signer(KEY)
    assert signer.sign([b"a", b"b"]) == signer.sign([b"ab"])  # as Jupyter defines it
    assert signer.sign([b"a", b"b"]) != signer.sign([b"a", b"c"])
    assert signer.verify(signer.sign([b"a"]), [b"a"])


@pytest.mark.parametrize("signature", [b"", b"0", b"0" * 64, "ü".encode()])
def test_a_wrong_signature_is_refused(signature: bytes) -> None:
    assert not Signer(KEY).verify(signature, [b"a"])


def test_without_a_key_nothing_is_signed() -> None:
    signer = Signer(b"")
    assert signer.sign([b"a"]) == b""
    assert signer.verify(b"whatever", [b"a"])


@pytest.mark.parametrize("scheme", ["hmac-sha256", "hmac-sha512", "hmac-md5"])
def test_other_schemes_work(scheme: str) -> None:
    signer = Signer(KEY, scheme)
    assert signer.verify(signer.sign([b"a"]), [b"a"])
    assert not Signer(b"other", scheme).verify(signer.sign([b"a"]), [b"a"])


@pytest.mark.parametrize("scheme", ["", "sha256", "hmac", "hmac-", "hmac-none", "plain-sha256", "hmac-shake_128"])
@pytest.mark.parametrize("key", [KEY, b""])
def test_unknown_schemes_are_refused(scheme: str, key: bytes) -> None:
    with pytest.raises(ValueError, match="unknown signature scheme"):
        Signer(key, scheme)


# --- messages ---------------------------------------------------------------------------------------------------------


def test_what_is_packed_is_unpacked(codec: Codec) -> None:
    parent = codec.header("execute_request")
    frames = codec.pack(
        "stream",
        {"name": "stdout"},
        parent=parent,
        metadata={"m": 1},
        buffers=[b"1", b"2"],
        idents=[b"a", b"b"],
    )
    message = other().unpack(frames)
    assert message.idents == (b"a", b"b")
    assert (message.msg_type, message.parent_header(), message.metadata()) == ("stream", parent, {"m": 1})
    assert (message.content(), message.buffers) == ({"name": "stdout"}, (b"1", b"2"))


def test_a_header_has_what_the_protocol_asks_for(codec: Codec) -> None:
    header = codec.header("status", subshell_id="x")
    assert header == {
        "msg_id": "s_o_0",
        "msg_type": "status",
        "username": "u",
        "session": "s",
        "date": "now",
        "version": "5.5",
        "subshell_id": "x",
    }
    assert codec.header("status")["msg_id"] == "s_o_1"


def test_the_date_is_utc_as_jupyter_writes_it() -> None:
    date = Codec(Signer(KEY)).header("status")["date"]
    assert date.endswith("Z")
    assert abs((datetime.datetime.now(UTC) - datetime.datetime.fromisoformat(date)).total_seconds()) < 60


def test_a_parent_frame_is_passed_on_as_it_came(codec: Codec) -> None:
    strange = b'{ "msg_id" : "1" }'
    assert other().unpack(codec.pack("status", {}, parent=strange)).frames[1] == strange


def test_jupyter_client_reads_what_we_pack_and_we_read_what_it_packs(codec: Codec) -> None:
    session = pytest.importorskip("jupyter_client.session").Session(key=KEY)
    frames = codec.pack("status", {"execution_state": "busy"}, idents=[b"topic"])
    idents, rest = session.feed_identities(frames)
    assert idents == [b"topic"]
    assert session.deserialize(rest)["content"] == {"execution_state": "busy"}
    message = session.msg("execute_request", {"code": "1", "when": datetime.datetime.now(UTC)})
    assert codec.unpack(session.serialize(message, ident=[b"me"])).content()["code"] == "1"


@pytest.mark.parametrize("subshell", [None, "abc"])
def test_a_subshell_is_none_if_it_is_null_or_missing(codec: Codec, subshell: str | None) -> None:
    header = codec.header("status", subshell_id=subshell)
    assert other().unpack(codec.pack("status", {}, header=header)).subshell_id == subshell
    assert other().unpack(codec.pack("status", {})).subshell_id is None


@pytest.mark.parametrize("frame", range(4))
def test_a_message_that_was_changed_is_refused(codec: Codec, frame: int) -> None:
    frames = codec.pack("status", {"a": 1}, parent={"b": 2}, metadata={"c": 3})
    frames[2 + frame] += b" "
    with pytest.raises(BadSignature, match="connection file"):
        other().unpack(frames)


def test_a_message_with_another_key_is_refused(codec: Codec) -> None:
    with pytest.raises(BadSignature):
        Codec(Signer(b"other")).unpack(codec.pack("status", {}))


def test_a_message_is_taken_once(codec: Codec) -> None:
    frames, receiver = codec.pack("status", {}), other()
    receiver.unpack(frames)
    with pytest.raises(BadSignature, match="replay"):
        receiver.unpack(frames)
    receiver.unpack(frames, refuse_replays=False)


def test_without_a_key_equal_messages_may_come() -> None:
    codec = Codec(Signer(b""))
    frames = codec.pack("status", {})
    for signature in (b"", b"", b"00", b"00", b"unsigned"):
        frames[frames.index(DELIMITER) + 1] = signature
        codec.unpack(frames)


def test_only_so_many_signatures_are_remembered(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_REMEMBERED_SIGNATURES", 10)
    receiver = other()
    messages = [codec.pack("status", {}) for _ in range(100)]
    for frames in messages:
        receiver.unpack(frames)
        with pytest.raises(BadSignature):
            receiver.unpack(frames)
    assert len(receiver._seen) + len(receiver._seen_before) <= 10


@pytest.mark.parametrize("n", range(5))
def test_a_message_that_is_cut_short_is_refused(codec: Codec, n: int) -> None:
    with pytest.raises(BadMessage, match="frames after the signature"):
        other().unpack(codec.pack("status", {})[: 1 + n])


@pytest.mark.parametrize("frames", [[], [b""], [b"a", b"b"], [b"x"] * 10])
def test_what_is_no_message_is_refused(frames: list[bytes]) -> None:
    with pytest.raises(BadMessage, match="delimiter"):
        other().unpack(frames)


@pytest.mark.parametrize(
    "header",
    [
        *(b"null", b"[]", b"3", b"{}", b"not JSON"),
        *(
            b'{"msg_type": "a"}',
            b'{"msg_id": "b"}',
            b'{"msg_type": 1, "msg_id": "b"}',
            b'{"msg_type": "a", "msg_id": []}',
        ),
    ],
)
def test_a_message_with_a_broken_header_is_refused(header: bytes) -> None:
    signed = [header, b"{}", b"{}", b"{}"]
    with pytest.raises(BadMessage):
        other().unpack([DELIMITER, Signer(KEY).sign(signed), *signed])


@pytest.mark.parametrize("frame", [0, 1])
def test_a_huge_header_is_not_even_hashed(frame: int) -> None:
    signed = [b"{}", b"{}", b"{}", b"{}"]
    signed[frame] = b" " * (wire.MAX_HEADER_BYTES + 1)
    with pytest.raises(BadMessage, match="bytes"):
        other().unpack([DELIMITER, b"", *signed])


@pytest.mark.parametrize("frame", [b"[]", b"null", b"not JSON"])
def test_the_other_dicts_are_checked_when_they_are_asked_for(frame: bytes) -> None:
    signed = [dumps(Codec(Signer(KEY)).header("status")), frame, frame, frame]
    message = other().unpack([DELIMITER, Signer(KEY).sign(signed), *signed])
    for ask in (message.parent_header, message.metadata, message.content):
        with pytest.raises(BadMessage):
            ask()


@given(st.lists(st.binary(max_size=20), max_size=12))
def test_no_frames_whatever_raise_anything_else(frames: list[bytes]) -> None:
    for prefix in ([], [DELIMITER]):
        with pytest.raises(BadMessage):
            Codec(Signer(KEY)).unpack([*prefix, *frames])
