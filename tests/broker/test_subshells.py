"""Subshells are created at once, listed, and deleted without waiting for anything."""

from __future__ import annotations

import signal

import pytest

from mpkernel import messages
from mpkernel.broker.pool import END_GRACE
from mpkernel.broker.sharing import ANSWER_LIMIT, IDLE_LIMIT, LAST_MERGE_LIMIT

from .bench import Kernel


def test_created_subshells_are_listed(kernel: Kernel) -> None:
    assert kernel.reply(kernel.control("list_subshell_request"))["subshell_id"] == []
    first, second = kernel.create(), kernel.create()
    assert first != second
    assert kernel.reply(kernel.control("list_subshell_request"))["subshell_id"] == [first, second]


def test_a_subshell_may_be_given_a_name(kernel: Kernel) -> None:
    child = kernel.create("plotter")
    assert kernel.ps()[child]["name"] == "plotter"


def test_a_subshell_is_created_while_all_workers_are_busy(kernel: Kernel) -> None:
    kernel.running()
    kernel.running(subshell=kernel.create())
    assert kernel.create() in kernel.ps()


def test_a_deleted_subshell_is_gone_for_its_requests(kernel: Kernel) -> None:
    child = kernel.create()
    assert kernel.status(kernel.delete(child)) == "ok"
    assert kernel.reply(kernel.control("list_subshell_request"))["subshell_id"] == []
    assert kernel.reply(kernel.execute(subshell=child))["ename"] == "SubshellNotFound"


@pytest.mark.parametrize("target", ["nobody", "main", None, 3, [], {}])
def test_deleting_what_is_no_subshell_is_an_error(kernel: Kernel, target: object) -> None:
    reply = kernel.reply(kernel.delete(target))
    assert reply["ename"] == "SubshellNotFound"
    assert repr(target) in reply["evalue"]


def test_a_subshell_can_be_deleted_once(kernel: Kernel) -> None:
    child = kernel.create()
    assert [kernel.status(kernel.delete(child)) for _ in range(2)] == ["ok", "error"]


def test_deleting_a_subshell_without_process_touches_no_process(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.ready()
    kernel.delete(child)
    assert [worker.signals for worker in kernel.living()] == [[]]


def test_deleting_an_idle_subshell_ends_its_process(kernel: Kernel) -> None:
    child = kernel.create()
    worker = kernel.ready(child)
    kernel.delete(child)
    worker.release()
    assert worker.got(messages.Exit)
    assert worker.signals == [signal.SIGTERM]
    worker.die(0)
    kernel.pass_time(10)
    assert worker.signals == [signal.SIGTERM]


def test_a_process_that_does_not_end_is_killed(kernel: Kernel) -> None:
    child = kernel.create()
    worker = kernel.ready(child)
    kernel.delete(child)
    worker.release()
    kernel.pass_time(END_GRACE - 0.1)
    assert worker.signals == [signal.SIGTERM]
    kernel.pass_time(0.2)
    assert worker.signals == [signal.SIGTERM, signal.SIGKILL]


def test_what_only_a_deleted_subshell_has_is_had_before_its_process_ends(kernel: Kernel) -> None:
    child = kernel.create()
    worker = kernel.ready(child)
    kernel.running("xs = huge()", child)
    worker.hold("xs")
    worker.reply()
    kernel.delete(child)
    assert [message.names for message in worker.got(messages.Release)] == [None]
    kernel.pass_time(IDLE_LIMIT)
    assert worker.signals == []
    kernel.running("xs")
    kernel.worker().say(messages.Acquire(1, ["xs"], []))
    worker.commit("xs")
    worker.release()
    assert [len(answer.components) for answer in kernel.worker().got(messages.Acquired)] == [1]
    assert worker.signals == [signal.SIGTERM]
    worker.die(0)
    assert kernel.machine.sharing.store.kept_names() == ["xs"]


@pytest.mark.parametrize("in_time", [True, False])
def test_a_deleted_subshell_merges_what_it_has_told_before_its_process_ends(kernel: Kernel, in_time: bool) -> None:
    child = kernel.create()
    main, worker = kernel.ready(), kernel.ready(child)
    kernel.running("x.append(1)", child)
    worker.commit("x")
    worker.reply()
    kernel.delete(child)
    kernel.running("x.append(2)")
    main.commit("x")
    worker.say(messages.Commit(0, [[["x"], "value", {}, 1]], [], False, (b"a thread's",)))
    worker.release()
    assert len(worker.got(messages.Merge)) == 1
    assert worker.signals == []
    if in_time:
        worker.merge()
    else:
        kernel.pass_time(LAST_MERGE_LIMIT)
    assert worker.signals == [signal.SIGTERM]


def test_a_deleted_subshell_that_does_not_answer_is_not_waited_for(kernel: Kernel) -> None:
    child = kernel.create()
    worker = kernel.ready(child)
    kernel.running("in_c_code()", child)
    kernel.delete(child)
    kernel.pass_time(ANSWER_LIMIT + IDLE_LIMIT)
    assert worker.signals == [signal.SIGTERM]


def test_deleting_a_busy_subshell_answers_at_once(kernel: Kernel) -> None:
    child = kernel.create()
    cell = kernel.running(subshell=child)
    queued = [kernel.execute(subshell=child) for _ in range(2)]
    deletion = kernel.delete(child)
    assert kernel.status(deletion) == "ok"
    assert kernel.reply(cell)["ename"] == "SubshellDeleted"
    assert kernel.story(cell)[-3:] == ["error", "execute_reply", "idle"]
    assert [kernel.status(cell) for cell in queued] == ["aborted", "aborted"]
    assert kernel.state == "idle"


def test_the_error_names_the_subshell(kernel: Kernel) -> None:
    child = kernel.create("plotter")
    cell = kernel.running(subshell=child)
    kernel.delete(child)
    assert "plotter" in kernel.reply(cell)["evalue"]


def test_deleting_a_subshell_whose_process_starts_kills_it_when_it_is_there(kernel: Kernel) -> None:
    child = kernel.create()
    cell = kernel.execute(subshell=child)
    worker = kernel.worker(child)
    kernel.delete(child)
    assert kernel.status(cell) == "aborted"
    assert worker.signals == []
    worker.launch()
    assert worker.signals == [signal.SIGKILL]
    worker.die()
    assert kernel.status(kernel.execute()) is None  # main is there


def test_deleting_a_subshell_whose_process_is_not_ready_kills_it(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.execute(subshell=child)
    worker = kernel.worker(child).launch()
    kernel.delete(child)
    assert worker.signals == [signal.SIGKILL]


def test_a_deleted_subshells_process_that_gets_ready_gets_no_request(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.execute(subshell=child)
    worker = kernel.worker(child).launch()
    kernel.delete(child)
    worker.hello()
    assert worker.ordered == []


def test_what_a_deleted_subshell_still_says_is_not_shown(kernel: Kernel) -> None:
    child = kernel.create()
    cell = kernel.running(subshell=child)
    worker = kernel.worker(child)
    kernel.delete(child)
    kernel.clear()
    worker.print("late")
    worker.open_comm("late")
    worker.reply()
    assert kernel.sent() == []
    assert kernel.reply(kernel.ask("comm_info_request"))["comms"] == {}
    assert kernel.story(cell) == []


def test_what_a_deleted_subshell_committed_is_kept(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running("x = 1", child)
    kernel.worker(child).commit("x")
    worker = kernel.worker(child)
    kernel.delete(child)
    worker.die(0)
    kernel.worker().hello()
    kernel.execute("x")
    assert kernel.worker().got(messages.News)[0].components[0][0] == ["x"]


def test_the_end_of_a_deleted_subshells_process_is_told_to_nobody(kernel: Kernel) -> None:
    child = kernel.create()
    worker = kernel.ready(child)
    kernel.delete(child)
    kernel.clear()
    worker.die()
    assert kernel.sent() == []
    assert kernel.logged() == []
