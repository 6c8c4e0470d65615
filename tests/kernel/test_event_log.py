"""A real run replays, event by event, as it was."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.broker.replay import replay

from .driver import LOOP, start_kernel

pytestmark = pytest.mark.mpkernel_only("ipykernel has nothing like it")


def test_a_run_is_replayed_as_it_was(tmp_path: Path) -> None:
    log = tmp_path / "events"
    with start_kernel("--event-log", str(log)) as kernel:
        child = kernel.create_subshell()
        kernel.run("xs = [1]; names = {f'n{i}' for i in range(20)}; globals().update(dict.fromkeys(names, 0))")
        kernel.run("xs.append(2); print(xs)", child)
        kernel.run("1 / 0")
        loop = kernel.start(LOOP, child)
        kernel.interrupt(child)
        loop.wait()
        kernel.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", child)
        kernel.control("usage_request")
        kernel.control("mpkernel_request")
        kernel.send("comm_open", {"comm_id": "c", "target_name": "t", "data": {}}).wait_for_idle()
        pending = kernel.submit("input('? ')", allow_stdin=True)
        kernel.answer_input(pending.wait_for_input_request(), "typed")
        pending.wait()
        kernel.run("import mpkernel; mpkernel.save('file'); xs.clear(); mpkernel.restore('file')")
        assert kernel.value("xs", child) == [1, 2]
        key = kernel.connection["key"]
    assert key not in log.read_text()
    steps = list(replay(log))
    assert len(steps) > 50
    assert not [step for step in steps if not step.same]


def test_a_run_that_was_killed_replays_to_its_last_event(tmp_path: Path) -> None:
    log = tmp_path / "events"
    with start_kernel("--event-log", str(log)) as kernel:
        kernel.run("print('before')")
        kernel.process.send_signal(signal.SIGKILL)
        kernel.process.wait()
    assert any(b"before" in repr(step.event).encode() for step in replay(log))
