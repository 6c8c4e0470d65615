"""A Jupyter runtime directory with kernels in it, and a way to run the command line there."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mpkernel.cli import main

from .fake_broker import DeafPort, FakeBroker

LONG_AGO = 1_000_000_000  # seconds since the epoch: a file that nobody would take for new


class Kernels:
    """Makes kernels in the runtime directory; they end with the test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._running: list[FakeBroker | DeafPort] = []

    def start(self, kernel_id: str, *subshells: dict[str, Any], **options: Any) -> FakeBroker:
        broker = FakeBroker(self.directory, kernel_id, *subshells, **options)
        self._running.append(broker)
        return broker

    def dead(self, kernel_id: str, *, modified: float = LONG_AGO) -> Path:
        """A stale connection file."""
        return self._deaf(kernel_id, listening=False, modified=modified)

    def silent(self, kernel_id: str) -> Path:
        """The connection file of something that listens and never answers."""
        return self._deaf(kernel_id, listening=True, modified=LONG_AGO)

    def _deaf(self, kernel_id: str, *, listening: bool, modified: float) -> Path:
        port = DeafPort(self.directory, kernel_id, listening=listening)
        self._running.append(port)
        os.utime(port.path, (modified, modified))
        return port.path

    def stop(self) -> None:
        for kernel in self._running:
            kernel.stop()


@pytest.fixture
def kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernels]:
    directory = tmp_path / "runtime"
    directory.mkdir()
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(directory))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    made = Kernels(directory)
    yield made
    made.stop()


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Shell:
    """Runs `mpkernel` with some words, its output piped."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *argv: str) -> Outcome:
        self._capsys.readouterr()
        code = main(list(argv))
        return Outcome(code, *self._capsys.readouterr())


@pytest.fixture
def mpkernel(kernels: Kernels, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)


class Terminal(io.StringIO):
    """A stdout that is a terminal, and keeps what it gets."""

    def isatty(self) -> bool:
        return True

    def __call__(self, *argv: str) -> int:
        """Run `mpkernel` here."""
        with contextlib.redirect_stdout(self):
            return main(list(argv))


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """A terminal with 80 columns and 24 lines."""
    for name, value in {"COLUMNS": "80", "LINES": "24", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()
