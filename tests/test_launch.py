"""Before anything is imported: listening where the connection file says."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpkernel.connection import CHANNELS
from mpkernel.launch import _listen


def free_ports() -> dict[str, Any]:
    taken = {f"{channel}_port": socket.create_server(("127.0.0.1", 0)) for channel in CHANNELS}
    ports = {name: server.getsockname()[1] for name, server in taken.items()}
    for server in taken.values():
        server.close()
    return ports


@pytest.fixture
def told() -> dict[str, Any]:
    return {"transport": "tcp", "ip": "127.0.0.1", "key": "", **free_ports()}


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    before = set(os.listdir("/dev/fd"))
    yield
    assert set(os.listdir("/dev/fd")) == before


def listen(told: object, folder: Path, *others: str) -> dict[str, socket.socket]:
    file = folder / "kernel.json"
    file.write_text(told if isinstance(told, str) else json.dumps(told))
    return _listen([*others, "-f", str(file)])


def test_who_connects_early_waits_in_line(told: dict[str, Any], tmp_path: Path) -> None:
    listening = listen(told, tmp_path, "--debug")
    assert set(listening) == set(CHANNELS)
    for channel, server in listening.items():
        with server, socket.create_connection(("127.0.0.1", told[f"{channel}_port"]), timeout=5):
            assert not server.getblocking()
            assert not server.get_inheritable()


def test_a_port_that_is_taken_is_the_brokers_to_tell_of(told: dict[str, Any], tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", told["hb_port"])):
        assert listen(told, tmp_path) == {}
    for channel in CHANNELS:  # none is held
        socket.create_server(("127.0.0.1", told[f"{channel}_port"])).close()


@pytest.mark.parametrize(
    "change",
    [
        {"transport": "ipc"},
        {"shell_port": 0},
        {"shell_port": 1 << 20},
        {"shell_port": "x"},
        {"ip": "*"},
        {"ip": None},
        {"control_port": None},
    ],
    ids=str,
)
def test_what_is_not_plain_is_left_to_the_broker(change: dict[str, Any], told: dict[str, Any], tmp_path: Path) -> None:
    assert listen({**told, **change}, tmp_path) == {}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"ip": 1}', "null"])
def test_a_file_that_is_none_is_left_to_the_broker(text: str, tmp_path: Path) -> None:
    assert listen(text, tmp_path) == {}


@pytest.mark.parametrize("argv", [[], ["-f"], ["-f", "/nowhere.json"], ["--help"]], ids=str)
def test_no_file_is_left_to_the_broker(argv: list[str]) -> None:
    assert _listen(argv) == {}
