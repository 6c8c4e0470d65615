"""A kernel stops when it is told to, soon, and with everything answered."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from mpkernel import messages
from mpkernel.broker.events import StartWorker, ToldToStop
from mpkernel.broker.pool import END_GRACE, HOOKS_GRACE

from .bench import Asked, Kernel

TERM, KILL = signal.SIGTERM, signal.SIGKILL


def shut_down(kernel: Kernel, **content: Any) -> Asked:
    return kernel.control("shutdown_request", content)


def busy(kernel: Kernel) -> list[Asked]:
    """Three subshells that run cells, with a queue and a side request each."""
    asked = []
    for subshell in (None, kernel.create(), kernel.create()):
        asked.append(kernel.running(subshell=subshell))
        asked.append(kernel.execute(subshell=subshell))
        asked.append(kernel.ask("complete_request", subshell=subshell))
    return asked


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize("restart", [True, False])
def test_the_reply_says_whether_it_is_a_restart_and_is_shown_to_all(
    kernel: Kernel, channel: str, restart: bool
) -> None:
    request = kernel.ask("shutdown_request", {"restart": restart}, channel=channel)
    assert kernel.reply(request) == {"status": "ok", "restart": restart}
    [shown] = kernel.sent("iopub", "shutdown_reply")
    assert shown.content == {"status": "ok", "restart": restart}
    assert kernel.story(request) == ["busy", "shutdown_reply", "shutdown_reply", "idle"]


def test_everything_is_answered_at_once(kernel: Kernel) -> None:
    asked = busy(kernel)
    request = shut_down(kernel)
    assert [kernel.status(each) for each in asked] == ["aborted"] * 9
    kernel.check(all_answered=True)
    assert kernel.iopub_states()[-1] == ("idle", request.id)


def test_the_cell_that_ran_keeps_its_prompt(kernel: Kernel) -> None:
    cell, hidden = kernel.running(), kernel.running(subshell=kernel.create(), store_history=False)
    shut_down(kernel)
    assert kernel.reply(cell)["execution_count"] == 1
    assert kernel.reply(hidden)["execution_count"] == 1  # of the cell before it


def test_the_workers_are_asked_to_end(kernel: Kernel) -> None:
    busy(kernel)
    shut_down(kernel)
    assert [worker.signals for worker in kernel.living()] == [[TERM]] * 3
    assert all(worker.got(messages.Exit) for worker in kernel.living())


def test_workers_that_do_not_end_are_killed(kernel: Kernel) -> None:
    busy(kernel)
    shut_down(kernel)
    kernel.pass_time(END_GRACE + 0.1)
    assert [worker.signals for worker in kernel.living()] == [[TERM, KILL]] * 3


def test_exit_hooks_have_more_time(kernel: Kernel) -> None:
    busy(kernel)
    shut_down(kernel)
    stuck, *others = kernel.living()
    kernel.pass_time(END_GRACE - 0.1)
    for worker in others:
        worker.say(messages.Ending())
    kernel.pass_time(HOOKS_GRACE - 0.1)
    assert [worker.signals for worker in (stuck, *others)] == [[TERM, KILL], [TERM], [TERM]]
    kernel.pass_time(0.2)
    assert [worker.signals for worker in others] == [[TERM, KILL]] * 2


def test_the_kernel_stops_when_the_last_worker_is_gone(kernel: Kernel) -> None:
    busy(kernel)
    shut_down(kernel)
    workers = kernel.living()
    for worker in workers:
        assert not kernel.stopped
        worker.die()
    assert kernel.stopped


def test_a_kernel_without_processes_stops_at_once(kernel: Kernel) -> None:
    kernel.worker().die(1)
    shut_down(kernel)
    assert kernel.stopped


def test_a_process_that_starts_is_killed_when_it_is_there(kernel: Kernel) -> None:
    cell = kernel.execute()
    shut_down(kernel)
    assert kernel.status(cell) == "aborted"
    worker = kernel.worker()
    assert worker.signals == []
    worker.launch()
    assert worker.signals == [KILL]
    worker.die()
    assert kernel.stopped


def test_a_process_that_can_not_be_started_does_not_keep_the_kernel(kernel: Kernel) -> None:
    shut_down(kernel)
    kernel.worker().die(None, reason="no process could be started")
    assert kernel.stopped


def test_the_spare_ends_too(kernel: Kernel) -> None:
    main = kernel.worker().hello()
    kernel.pass_time(1)
    assert kernel.spare is not None
    spare = kernel.spare.hello()
    shut_down(kernel)
    assert (main.signals, spare.signals) == ([TERM], [TERM])
    main.die()
    assert not kernel.stopped
    spare.die()
    assert kernel.stopped


def test_no_process_is_started_any_more(kernel: Kernel) -> None:
    busy(kernel)
    main = kernel.worker()
    kernel.clear()
    shut_down(kernel)
    tokens = [main.op("run", code="1", subshell="new"), main.op("new"), main.op("kill", subshell="main")]
    kernel.execute()
    kernel.pass_time(0.5)  # the spare would be due
    for worker in kernel.living():
        worker.die()
    assert kernel.done(StartWorker) == []
    assert kernel.stopped
    assert [main.op_reply(token)["ename"] for token in tokens] == ["RequestFailed"] * 3


@pytest.mark.parametrize(
    "msg_type", ["execute_request", "kernel_info_request", "complete_request", "comm_msg", "shutdown_request"]
)
def test_requests_that_come_now_are_answered_with_aborted(kernel: Kernel, msg_type: str) -> None:
    kernel.running()
    shut_down(kernel)
    request = kernel.ask(msg_type)
    kernel.check(all_answered=True)
    if request.has_reply:
        assert kernel.status(request) == "aborted"


def test_what_comes_now_from_the_workers_changes_nothing(kernel: Kernel) -> None:
    cell = kernel.running("input()")
    worker = kernel.worker()
    worker.ask_input("name?")
    shut_down(kernel)
    kernel.clear()
    worker.ask_input("again?")
    worker.reply()
    kernel.answer_input("too late")
    assert kernel.sent() == []
    assert worker.typed == []
    assert kernel.status(cell) is None


def test_last_words_are_shown(kernel: Kernel) -> None:
    cell = kernel.running()
    worker = kernel.worker()
    shut_down(kernel)
    worker.print("atexit")
    assert kernel.story(cell)[-1] == "stream"


def test_a_signal_or_the_end_of_the_parent_stops_the_kernel_as_well(kernel: Kernel) -> None:
    asked = busy(kernel)
    kernel.handle(ToldToStop("SIGTERM"))
    assert "SIGTERM" in kernel.logged()[-1]
    assert [kernel.status(each) for each in asked] == ["aborted"] * 9
    assert kernel.sent("iopub", "shutdown_reply") == []
    for worker in kernel.living():
        worker.die()
    assert kernel.stopped


def test_being_told_twice_is_being_told_once(kernel: Kernel) -> None:
    worker = kernel.ready()
    shut_down(kernel)
    kernel.handle(ToldToStop("SIGTERM"))
    shut_down(kernel)
    assert worker.signals == [TERM]


@pytest.mark.parametrize("content", [b"not JSON", b"[]"])
def test_a_malformed_shutdown_request_is_answered_and_stops_nothing(kernel: Kernel, content: bytes) -> None:
    request = kernel.control("shutdown_request", content)
    assert kernel.reply(request)["ename"] == "BadMessage"
    assert kernel.worker().hello().signals == []
