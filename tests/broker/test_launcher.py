"""The launcher asks the zygote to fork. One that is stopped is replaced, one that is but slow is not."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from mpkernel.broker import processes
from mpkernel.broker.processes import LOOKS_AT_ALL, LOOKS_IF_STOPPED, ZygoteConnection, ZygoteLauncher

FIRST, WORKER = 6, 7
NO_SETTINGS: Any = None


@pytest.fixture
def zygote() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, in its place."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


class Ends:
    """Both ends of a launcher's socket."""

    def __init__(self, pid: int) -> None:
        ours, self.zygotes = socket.socketpair()
        self.launcher = ZygoteLauncher(ZygoteConnection(ours, pid), NO_SETTINGS)
        self.launcher.launch(FIRST)
        self.say(worker=FIRST, pid=1233)
        assert self.launcher.launched() == [(FIRST, 1233)]
        self.launcher.launch(WORKER)

    def say(self, **message: int) -> None:
        self.zygotes.sendall(json.dumps(message).encode() + b"\n")


def test_a_zygote_that_waits_for_its_turn_is_left_alone(zygote: subprocess.Popen[bytes]) -> None:
    ends = Ends(zygote.pid)
    for _ in range(LOOKS_AT_ALL):
        assert ends.launcher.look_after(WORKER)
    assert zygote.poll() is None
    ends.say(worker=WORKER, pid=1234)
    assert ends.launcher.launched() == [(WORKER, 1234)]
    assert ends.launcher.look_after(WORKER) is None


def test_many_who_wait_are_as_patient_as_one(zygote: subprocess.Popen[bytes]) -> None:
    ends = Ends(zygote.pid)
    others = range(WORKER + 1, WORKER + 5)
    for other in others:
        ends.launcher.launch(other)
    for _ in range(LOOKS_AT_ALL):
        for worker in (WORKER, *others):
            assert ends.launcher.look_after(worker)
    assert zygote.poll() is None


def test_a_zygote_that_never_forks_is_killed(zygote: subprocess.Popen[bytes]) -> None:
    ends = Ends(zygote.pid)
    for _ in range(LOOKS_AT_ALL + 1):
        ends.launcher.look_after(WORKER)
    assert zygote.wait() == -signal.SIGKILL


def test_a_zygote_that_is_stopped_is_killed_soon(
    zygote: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_is_stopped", lambda _: True)
    ends = Ends(zygote.pid)
    for _ in range(LOOKS_IF_STOPPED + 1):
        ends.launcher.look_after(WORKER)
    assert zygote.wait() == -signal.SIGKILL


def test_a_zygote_that_reads_nothing_holds_nobody_up(zygote: subprocess.Popen[bytes]) -> None:
    """More than its socket takes; it has all of it when it reads again."""
    ends = Ends(zygote.pid)
    workers = range(WORKER, WORKER + 20_000)
    for worker in workers[1:]:
        ends.launcher.launch(worker)
    heard = b""
    while heard.count(b"\n") < 1 + len(workers):
        ends.launcher.look_after(WORKER)
        heard += ends.zygotes.recv(1 << 20)
    assert [json.loads(line)["worker"] for line in heard.splitlines()] == [FIRST, *workers]


def test_a_zygote_is_not_told_of_what_it_does_not_guard(zygote: subprocess.Popen[bytes]) -> None:
    """What cells had started and left behind is reaped by the broker, too."""
    ends = Ends(zygote.pid)
    ends.zygotes.recv(1 << 20)
    assert not ends.launcher.exited(4321)
    assert not ends.launcher.exited(1233)
    assert ends.zygotes.recv(1 << 20).splitlines() == [json.dumps({"op": "unguard", "pid": 1233}).encode()]


def test_what_a_zygote_said_before_its_end_counts(
    zygote: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    nexts: list[ZygoteConnection] = []

    def start(*_: object, **__: object) -> ZygoteConnection:
        nexts.append(ZygoteConnection(socket.socketpair()[0], 0))
        return nexts[-1]

    monkeypatch.setattr(processes, "start_zygote_process", start)
    ends = Ends(zygote.pid)
    ends.say(worker=WORKER, pid=1234)
    assert ends.launcher.exited(zygote.pid)
    assert nexts, "another one takes its place"
    assert ends.launcher.launched() == [(WORKER, 1234)]
