"""What was recorded of a kernel happens again, the same way."""

from __future__ import annotations

import signal
import stat
from pathlib import Path

import pytest

from mpkernel import messages
from mpkernel.broker.answers import Facts
from mpkernel.broker.events import (
    Event,
    FromWorker,
    Interrupted,
    NamespaceLoaded,
    TimerFired,
    ToldToStop,
    WorkerGone,
    WorkerLaunched,
)
from mpkernel.broker.machine import Machine
from mpkernel.broker.recording import Recorder, pack, unpack
from mpkernel.errors import StartError
from mpkernel.namespace.component import Component
from mpkernel.wire import Codec, Signer

from .replay import replay

EVENTS: list[Event] = [
    WorkerLaunched(1, 4711),
    FromWorker(1, messages.Hello(4711)),
    FromWorker(1, messages.Commit(0, [[["x"], "value", {"nbytes": 4}, 1]], [], False, (b"\x80\xff",))),
    NamespaceLoaded(3, "", (Component(("a", "b"), meta={"take": ["a"]}, blobs=(b"1",)),), [["c", "why"]], "now"),
    TimerFired(("kill", 1)),
    Interrupted(),
    WorkerGone(1, -signal.SIGKILL, "", "dump", (("stdout", "bye"),)),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_an_event_is_the_same_when_it_is_read(event: Event) -> None:
    assert unpack(pack(event)) == event


def record(path: Path, limit: int = 1 << 20) -> None:
    recorder = Recorder(path, limit)
    facts, named = Facts("1", "2", "3"), {"session": "s", "username": "u", "origin": "b"}
    recorder.began({"kernel_id": "k", "now": 5.0}, named, facts)
    dates = recorder.drawn(iter(map(str, range(1000))).__next__)
    machine = Machine(Codec(Signer(b"key"), clock=dates, **named), facts, kernel_id="k", now=5.0)
    recorder.actions(machine.start())
    for at, event in enumerate((*EVENTS[:3], EVENTS[5], EVENTS[6])):
        recorder.event(event, 6.0 + at)
        recorder.actions(machine.handle(event, 6.0 + at))
    recorder.close()


def test_a_log_is_for_its_owner_and_replays_without_the_key(tmp_path: Path) -> None:
    path = tmp_path / "events"
    record(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    steps = list(replay(path))
    assert len(steps) == 6
    assert all(step.same for step in steps)


def test_a_difference_is_found(tmp_path: Path) -> None:
    path = tmp_path / "events"
    record(path)
    path.write_text(path.read_text().replace("4711", "4712", 1))
    path.write_text(path.read_text().replace('"kernel_id": "k"', '"kernel_id": "other"', 1))
    assert not all(step.same for step in replay(path))


def test_the_event_before_a_crash_is_there(tmp_path: Path) -> None:
    path = tmp_path / "events"
    record(path)
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:-1]))
    *_, last = replay(path)
    assert (last.event, last.same) == (EVENTS[6], None)


def test_a_log_is_bounded_and_an_older_one_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "events"
    record(path)
    record(path, limit=2000)
    assert path.stat().st_size <= 2000
    assert (tmp_path / "events.old").exists()
    assert all(step.same in (True, None) for step in replay(path))


def test_a_log_that_cannot_be_written_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="check --event-log"):
        Recorder(tmp_path / "no folder" / "events")


def test_a_file_that_is_no_event_log_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notebook.ipynb"
    path.write_text("{}")
    with pytest.raises(StartError, match="is no event log"):
        Recorder(path)
    assert path.read_text() == "{}"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_down_ends_the_log_and_not_the_kernel(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(tmp_path / "events")
    recorder.event(object(), 0.0)  # type: ignore[arg-type]
    assert "please report this" in caplog.text
    recorder.event(ToldToStop("SIGTERM"), 0.0)
    recorder.actions([])
    assert (tmp_path / "events").read_text() == ""
