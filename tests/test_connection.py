"""Connection files: read, checked, and written so that only their owner can read them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpkernel.connection import CHANNELS, ConnectionInfo, read, write
from mpkernel.errors import ConnectionFileError

PORTS = {f"{channel}_port": 50001 + n for n, channel in enumerate(CHANNELS)}
DATA: dict[str, Any] = {
    "transport": "tcp",
    "ip": "127.0.0.1",
    **PORTS,
    "key": "a-key",
    "signature_scheme": "hmac-sha256",
    "kernel_name": "mpkernel",
}


def test_a_file_as_jupyter_writes_it() -> None:
    info = ConnectionInfo.from_json(DATA)
    assert info.ports == {"shell": 50001, "iopub": 50002, "stdin": 50003, "control": 50004, "hb": 50005}
    assert (info.key, info.kernel_name) == (b"a-key", "mpkernel")
    assert info.url("shell") == "tcp://127.0.0.1:50001"


def test_what_is_missing_has_a_default() -> None:
    info = ConnectionInfo.from_json({})
    assert info == ConnectionInfo()
    assert set(info.ports.values()) == {0}


def test_an_empty_ip_is_this_machine() -> None:
    assert ConnectionInfo.from_json({"ip": ""}).ip == "127.0.0.1"


def test_ipc_addresses_are_paths() -> None:
    info = ConnectionInfo.from_json({"transport": "ipc", "ip": "/tmp/kernel", "shell_port": 1})
    assert info.url("shell") == "ipc:///tmp/kernel-1"


def test_ports_can_be_set_later() -> None:
    info = ConnectionInfo().with_ports(shell=5)
    assert (info.ports["shell"], info.ports["hb"]) == (5, 0)
    assert ConnectionInfo().ports["shell"] == 0


def test_unknown_keys_are_kept() -> None:
    data = {**DATA, "jupyter_session": "notebook.ipynb", "from_the_future": [1]}
    assert ConnectionInfo.from_json(data).to_json() == data


def test_curve_keys() -> None:
    data = {**DATA, "curve_publickey": "p" * 40, "curve_secretkey": "s" * 40}
    info = ConnectionInfo.from_json(data)
    assert (info.curve_publickey, info.curve_secretkey) == (b"p" * 40, b"s" * 40)
    assert info.to_json() == data


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ([], "not a JSON object"),
        (None, "not a JSON object"),
        ({"transport": "pgm"}, "'pgm'"),
        ({"transport": 3}, "'transport'"),
        ({"shell_port": "1"}, "'shell_port'"),
        ({"shell_port": True}, "'shell_port'"),
        ({"shell_port": 1.0}, "'shell_port'"),
        ({"hb_port": -1}, "hb_port"),
        ({"hb_port": 65536}, "hb_port"),
        ({"hb_port": 1, "shell_port": 1}, "same port"),
        ({"key": 3}, "'key'"),
        ({"key": None}, "'key'"),
        ({"ip": []}, "'ip'"),
        ({"kernel_name": 3}, "'kernel_name'"),
        ({"signature_scheme": "md5"}, "'md5'"),
        ({"signature_scheme": "hmac-none"}, "'hmac-none'"),
        ({"signature_scheme": "hmac-shake_128", "key": "k"}, "'hmac-shake_128'"),
        ({"curve_publickey": "p" * 40}, "CURVE"),
        ({"curve_secretkey": "s" * 40}, "CURVE"),
        ({"curve_publickey": "p" * 40, "curve_secretkey": "short"}, "CURVE"),
        ({"curve_publickey": 3, "curve_secretkey": 4}, "CURVE"),
    ],
)
def test_an_error_names_the_file_and_the_field(data: object, said: str) -> None:
    with pytest.raises(ConnectionFileError) as caught:
        ConnectionInfo.from_json(data, "the file k.json")
    assert "the file k.json" in str(caught.value)
    assert said in str(caught.value)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
)


@given(st.dictionaries(st.sampled_from([*DATA, "curve_publickey", "curve_secretkey", "other"]), anything))
def test_whatever_is_in_a_file_it_is_read_or_refused(data: dict[str, Any]) -> None:
    try:
        info = ConnectionInfo.from_json(data)
    except ConnectionFileError:
        return
    assert repr(ConnectionInfo.from_json(info.to_json())) == repr(info)  # by repr: NaN isn't equal to itself


# --- files ------------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path, info = tmp_path / "runtime" / "kernel-1.json", ConnectionInfo.from_json(DATA)
    write(path, info)
    assert read(path) == info
    assert json.loads(path.read_text()) == DATA


def test_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "kernel.json"
    path.write_text("{}")
    path.chmod(0o644)
    write(path, ConnectionInfo())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_others_have_put_in_its_place_is_not_written_to(tmp_path: Path) -> None:
    """In a folder that several may write to, a file of theirs, or a link, would have the key."""
    path = tmp_path / "kernel.json"
    theirs = tmp_path / f".{path.name}.{os.getpid()}"
    theirs.write_text("theirs")
    theirs.chmod(0o666)
    write(path, ConnectionInfo())
    assert theirs.read_text() == "theirs"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_else_is_left_in_the_directory(tmp_path: Path) -> None:
    path = tmp_path / "kernel.json"
    for _ in range(2):
        write(path, ConnectionInfo())
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_can_not_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConnectionFileError, match=r"kernel\.json can't be written"):
        write(tmp_path / "file" / "kernel.json", ConnectionInfo())
    (tmp_path / "kernel.json").mkdir()
    with pytest.raises(ConnectionFileError, match=r"kernel\.json can't be written"):
        write(tmp_path / "kernel.json", ConnectionInfo())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "kernel.json"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "doesn't exist"),
        (b"", "not JSON"),
        (b'{"key": "a', "not JSON"),
        (b"[]", "not a JSON object"),
        (b"\xff\xfe", "can't be read"),
        (b'{"shell_port": "x"}', "shell_port"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_file_that_can_not_be_read_is_an_error_that_names_it(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    path = tmp_path / "kernel.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConnectionFileError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert said in str(caught.value)


def test_a_directory_is_no_connection_file(tmp_path: Path) -> None:
    with pytest.raises(ConnectionFileError, match="can't be read"):
        read(tmp_path)
