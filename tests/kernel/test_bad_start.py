"""A kernel that can't start says why in one line, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .driver import COMMAND
from .sandbox import PATIENCE, Sandbox


def connection(**changes: Any) -> dict[str, Any]:
    ports = {f"{channel}_port": 0 for channel in ("shell", "iopub", "stdin", "control", "hb")}
    return {"ip": "127.0.0.1", "transport": "tcp", "key": "k", "signature_scheme": "hmac-sha256", **ports, **changes}


@contextlib.contextmanager
def listening() -> Iterator[int]:
    """A port that somebody else has."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def check_start_fails(sandbox: Sandbox, path: Path, *arguments: str) -> str:
    """A start with `path` ends with code 1 and one line on stderr, and leaves nothing. Returns the line."""
    before = sandbox.files()
    process = subprocess.run(
        [*COMMAND, "-f", str(path), *arguments],
        env=sandbox.environment(),
        cwd=sandbox.cwd,
        capture_output=True,
        text=True,
        timeout=10 * PATIENCE,
        check=False,
    )
    assert process.returncode == 1, process.stderr
    assert "Traceback" not in process.stderr
    assert process.stdout == ""
    lines = process.stderr.splitlines()
    assert len(lines) == 1, process.stderr
    assert sandbox.leftovers(ignore=before) == []
    return lines[0]


BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "JSON"),
    "cut short": (b'{"ip": "127', "JSON"),
    "not UTF-8": (b"\xff\xfe\x00", "read"),
    "a list": (b"[]", "object"),
    "port not a number": (json.dumps(connection(shell_port="many")).encode(), "shell_port"),
    "port too large": (json.dumps(connection(hb_port=70_000)).encode(), "hb_port"),
    "one port twice": (json.dumps(connection(hb_port=50_001, shell_port=50_001)).encode(), "port"),
    "unknown transport": (json.dumps(connection(transport="pigeon")).encode(), "pigeon"),
    "unknown signature scheme": (json.dumps(connection(signature_scheme="rot-13")).encode(), "rot-13"),
    "an address of another host": (json.dumps(connection(ip="192.0.2.1")).encode(), "192.0.2.1"),
}


@pytest.mark.mpkernel_only("a traceback, or a start regardless")
class TestTheCommandLine:
    @pytest.mark.parametrize("name", BAD_FILES)
    def test_says_what_is_wrong_with_a_connection_file(self, name: str) -> None:
        content, said = BAD_FILES[name]
        with Sandbox() as sandbox:
            path = sandbox.runtime / "connection.json"
            path.write_bytes(content)
            line = check_start_fails(sandbox, path)
            assert said in line
            assert path.read_bytes() == content

    def test_says_that_a_connection_file_is_a_directory(self) -> None:
        with Sandbox() as sandbox:
            assert str(sandbox.cwd) in check_start_fails(sandbox, sandbox.cwd)

    @pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
    def test_says_that_a_connection_file_may_not_be_read(self) -> None:
        with Sandbox() as sandbox:
            path = sandbox.runtime / "connection.json"
            path.write_text(json.dumps(connection()))
            path.chmod(0)
            assert str(path) in check_start_fails(sandbox, path)

    @pytest.mark.parametrize("channel", ["shell", "iopub", "stdin", "control", "hb"])
    def test_says_which_port_is_in_use(self, channel: str) -> None:
        with Sandbox() as sandbox, listening() as port:
            path = sandbox.runtime / "connection.json"
            path.write_text(json.dumps(connection(**{f"{channel}_port": port})))
            line = check_start_fails(sandbox, path)
            assert str(port) in line
            assert channel in line

    def test_says_that_there_is_no_such_profile(self) -> None:
        with Sandbox() as sandbox:
            line = check_start_fails(sandbox, sandbox.runtime / "connection.json", "--profile", "nosuch")
            assert line.endswith("profile 'nosuch' not found; make it with: ipython profile create nosuch")
