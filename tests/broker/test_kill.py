"""``mpkernel kill``: TERM, then KILL after a grace; the subshell stays and its queue is aborted."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from mpkernel import messages
from mpkernel.broker.pool import KILL_LIMIT

from .bench import Asked, Kernel

TERM, KILL = signal.SIGTERM, signal.SIGKILL


def kill(kernel: Kernel, subshell: str = "main", **content: Any) -> Asked:
    return kernel.op("kill", subshell=subshell, **content)


def test_the_process_gets_term_and_is_waited_for(kernel: Kernel) -> None:
    kernel.running()
    worker = kernel.worker()
    request = kill(kernel)
    assert worker.signals == [TERM]
    assert kernel.story(request) == ["busy"]
    kernel.pass_time(0.5)
    worker.die(-TERM)
    assert kernel.reply(request) == {
        "status": "ok",
        "sent": ["TERM"],
        "exited": True,
        "after_s": 0.5,
        "how": "killed by SIGTERM",
        "aborted": 0,
        "names_kept": 0,
        "names_lost": [],
    }


def test_after_the_grace_it_gets_kill(kernel: Kernel) -> None:
    kernel.running()
    worker = kernel.worker()
    request = kill(kernel, grace=2)
    kernel.pass_time(1.9)
    assert worker.signals == [TERM]
    kernel.pass_time(0.2)
    assert worker.signals == [TERM, KILL]
    worker.die(-KILL)
    reply = kernel.reply(request)
    assert (reply["sent"], reply["how"]) == (["TERM", "KILL"], "killed by SIGKILL")
    assert 2 < reply["after_s"] < 2.2


def test_exit_hooks_have_what_is_left_of_the_grace(kernel: Kernel) -> None:
    kernel.running()
    worker = kernel.worker()
    kill(kernel, grace=0.5)
    worker.say(messages.Ending())
    kernel.pass_time(0.6)
    assert worker.signals == [TERM, KILL]


def test_a_process_that_ended_in_time_gets_no_kill(kernel: Kernel) -> None:
    kernel.running()
    worker = kernel.worker()
    kill(kernel)
    worker.die(-TERM)
    kernel.pass_time(100)
    assert worker.signals == [TERM]


def test_the_running_cell_is_answered_with_killed(kernel: Kernel) -> None:
    cell = kernel.running("while True: pass")
    kill(kernel)
    kernel.worker().die(-KILL)
    reply = kernel.reply(cell)
    assert reply["ename"] == "Killed"
    assert "while True" in reply["evalue"]
    assert kernel.logged() == []


def test_a_cell_that_ends_by_itself_on_term_gives_its_own_answer(kernel: Kernel) -> None:
    cell = kernel.running()
    kill(kernel)
    worker = kernel.worker()
    worker.reply("error", ename="Killed", abort=True)
    worker.die(0)
    assert kernel.reply(cell)["ename"] == "Killed"
    assert len(kernel.replies(cell)) == 1


def test_the_queue_is_aborted_and_counted(kernel: Kernel) -> None:
    kernel.running()
    queued = [kernel.execute() for _ in range(2)]
    request = kill(kernel)
    assert [kernel.status(cell) for cell in queued] == ["aborted", "aborted"]
    kernel.worker().die()
    assert kernel.reply(request)["aborted"] == 2


@pytest.mark.parametrize("running", [True, False])
def test_what_comes_after_the_kill_runs_in_the_next_process(kernel: Kernel, running: bool) -> None:
    if running:
        kernel.running()
    else:
        kernel.ready()
    kill(kernel)
    cell = kernel.execute("after")
    old = kernel.worker()
    assert kernel.story(cell) == []
    old.die()
    fresh = kernel.worker().hello()
    assert fresh is not old
    assert fresh.cell == "after"
    fresh.reply()
    assert kernel.status(cell) == "ok"


def test_the_answer_tells_which_names_are_kept_and_which_are_lost(kernel: Kernel) -> None:
    kernel.running()
    kernel.worker().commit("a", "b", lost=["handle", "file"])
    request = kill(kernel)
    kernel.worker().die()
    reply = kernel.reply(request)
    assert (reply["names_kept"], reply["names_lost"]) == (2, ["file", "handle"])


def test_names_that_were_lost_before_are_not_told_again(kernel: Kernel) -> None:
    kernel.running()
    kernel.worker().commit(lost=["handle"])
    kernel.worker().die()
    kernel.ready()
    request = kill(kernel)
    kernel.worker().die()
    assert kernel.reply(request)["names_lost"] == []


def test_a_second_kill_is_refused_while_one_is_under_way(kernel: Kernel) -> None:
    kernel.running()
    first, second = kill(kernel), kill(kernel)
    assert kernel.reply(second)["ename"] == "RequestFailed"
    worker = kernel.worker()
    assert worker.signals == [TERM]
    worker.die()
    assert kernel.status(first) == "ok"


def test_the_next_process_can_be_killed_again(kernel: Kernel) -> None:
    for _ in range(2):
        kernel.running()
        request = kill(kernel)
        kernel.worker().die()
        assert kernel.reply(request)["sent"] == ["TERM"]


def test_an_idle_process_can_be_killed(kernel: Kernel) -> None:
    worker = kernel.ready()
    request = kill(kernel)
    kernel.clear()
    worker.die(-TERM)
    assert kernel.reply(request)["exited"] is True
    assert [sent.type for sent in kernel.sent()] == ["mpkernel_reply", "status"]
    assert kernel.state == "idle"


def test_a_process_that_is_not_ready_can_be_killed(kernel: Kernel) -> None:
    cell = kernel.execute()
    worker = kernel.worker().launch()
    request = kill(kernel)
    assert kernel.status(cell) == "aborted"
    worker.die(-TERM)
    assert kernel.reply(request)["aborted"] == 1


@pytest.mark.parametrize("state", ["lazy", "dead"])
def test_without_a_process_there_is_nothing_to_do(kernel: Kernel, state: str) -> None:
    if state == "lazy":
        subshell = kernel.create()
    else:
        kernel.worker().hello().die()
        subshell = "main"
    assert kernel.reply(kill(kernel, subshell)) == {
        "status": "ok",
        "sent": [],
        "exited": True,
        "after_s": None,
        "how": "",
        "aborted": 0,
        "names_kept": 0,
        "names_lost": [],
    }


@pytest.mark.parametrize("name", ["INT", "KILL", "HUP", "USR1"])
def test_another_signal_may_be_sent(kernel: Kernel, name: str) -> None:
    worker = kernel.ready()
    kernel.execute()
    worker.start()
    request = kill(kernel, signal=name)
    assert worker.signals == [getattr(signal, f"SIG{name}")]
    worker.die()
    assert kernel.reply(request)["sent"] == [name]


NO_SIGNALS: list[object] = ["", "term", "SIGTERM", "NONE", "_IGN", 15, None, []]
NO_GRACES: list[object] = [-1, "3", None, 1e9, float("nan"), float("inf"), []]


@pytest.mark.parametrize(
    "content", [*({"signal": name} for name in NO_SIGNALS), *({"grace": grace} for grace in NO_GRACES)], ids=str
)
def test_a_wrong_signal_or_grace_is_refused_and_nothing_is_done(kernel: Kernel, content: dict[str, Any]) -> None:
    kernel.running()
    request = kill(kernel, **content)
    assert kernel.reply(request)["ename"] == "BadMessage"
    assert kernel.worker().signals == []


def test_other_subshells_do_not_notice(kernel: Kernel) -> None:
    child = kernel.create()
    cell = kernel.running()
    kernel.running(subshell=child)
    kill(kernel, child)
    kernel.worker(child).die()
    assert kernel.story(cell)[0] == "busy"
    assert kernel.status(cell) is None
    assert kernel.worker().signals == []


def test_a_subshell_that_is_being_killed_may_be_deleted(kernel: Kernel) -> None:
    child = kernel.create()
    cell = kernel.running(subshell=child)
    request = kill(kernel, child)
    worker = kernel.worker(child)
    kernel.delete(child)
    worker.die()
    assert kernel.reply(cell)["ename"] == "SubshellDeleted"
    assert kernel.reply(request)["exited"] is True


def test_a_kill_is_answered_when_the_kernel_shuts_down(kernel: Kernel) -> None:
    kernel.running()
    request = kill(kernel)
    kernel.control("shutdown_request")
    kernel.worker().die()
    assert kernel.reply(request)["exited"] is True
    kernel.check(all_answered=True)


def test_a_cell_can_kill_another_subshell(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running(subshell=child)
    kernel.running()
    token = kernel.worker().op("kill", subshell=child)
    kernel.worker(child).die()
    assert kernel.worker().op_reply(token)["exited"] is True


def test_a_cell_can_kill_its_own_process(kernel: Kernel) -> None:
    cell = kernel.running()
    kernel.worker().op("kill", subshell="main")
    kernel.worker().die(-TERM)
    assert kernel.reply(cell)["ename"] == "Killed"


def test_a_subshell_whose_process_is_being_started_has_nothing_to_run_then(kernel: Kernel) -> None:
    child = kernel.create()
    cell = kernel.execute("1", child)
    reply = kernel.reply(kill(kernel, child))
    assert (reply["sent"], reply["exited"], reply["aborted"]) == ([], True, 1)
    assert kernel.status(cell) == "aborted"
    kernel.pass_time(10)
    kernel.ready(child)
    after = kernel.execute("2", child)
    kernel.worker(child).reply()
    assert kernel.status(after) == "ok"


def test_one_that_the_system_does_not_end_is_given_up(kernel: Kernel) -> None:
    cell = kernel.running()
    worker = kernel.worker()
    request = kill(kernel, grace=1)
    later = kernel.execute("1")
    kernel.pass_time(1 + KILL_LIMIT + 0.1)
    assert worker.signals == [TERM, KILL]
    reply = kernel.reply(request)
    assert (reply["exited"], reply["sent"]) == (False, ["TERM", "KILL"])
    assert "the system doesn't let it end" in reply["how"]
    assert "the system doesn't let it end" in kernel.reply(cell)["evalue"]
    kernel.worker().hello().reply()
    assert kernel.status(later) == "ok", "the subshell has another process"
    worker.die(-KILL)
    again = kernel.execute("2")
    kernel.worker().reply()
    assert kernel.status(again) == "ok"


def test_a_kernel_ends_though_a_process_does_not(kernel: Kernel) -> None:
    kernel.running()
    kernel.control("shutdown_request")
    kernel.pass_time(20)
    assert kernel.stopped


def test_one_that_starts_after_it_was_given_up_is_killed(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.execute("1", child)
    worker = kernel.worker(child)
    kernel.delete(child)
    kernel.pass_time(20)
    assert worker.given_up
    worker.signals.clear()  # they reached nobody
    worker.launch()
    assert worker.signals == [KILL]
