"""SIGINT reaches the worker that is meant, and only between a request's `Started` and its reply."""

from __future__ import annotations

import signal

import pytest

from mpkernel import messages
from mpkernel.broker.events import Interrupted
from mpkernel.broker.interrupts import STARTED_BY_NOW

from .bench import Kernel

INT = signal.SIGINT


def test_a_running_cell_is_interrupted_at_once(kernel: Kernel) -> None:
    kernel.running()
    request = kernel.interrupt()
    assert kernel.worker().signals == [INT]
    assert kernel.status(request) == "ok"


def test_an_interrupt_before_the_cell_runs_is_kept_until_it_does(kernel: Kernel) -> None:
    worker = kernel.ready()
    kernel.execute()
    kernel.interrupt()
    assert worker.signals == []
    worker.start()
    assert worker.signals == [INT]


def test_an_interrupt_of_a_cell_that_waits_for_what_was_kept_is_not_lost() -> None:
    kernel = Kernel(keep="/kept")
    worker = kernel.worker().hello()
    kernel.execute()
    kernel.interrupt()
    kernel.file_done(saved="")
    worker.start()
    assert worker.signals == [INT]


def test_an_interrupt_of_a_cell_that_waits_for_the_old_process_to_end_is_not_lost(kernel: Kernel) -> None:
    old = kernel.ready()
    kernel.op("kill")
    kernel.execute()
    kernel.interrupt()
    old.die(-signal.SIGTERM)
    new = kernel.worker()
    if not new.said_hello:
        new.hello()
    new.start()
    assert new.signals == [INT]


@pytest.mark.parametrize(("missed", "signals"), [(True, [INT, INT]), (False, [INT])])
def test_an_interrupt_is_sent_though_the_worker_cannot_say_that_the_cell_runs(
    kernel: Kernel, missed: bool, signals: list[signal.Signals]
) -> None:
    """C code holds the GIL. If the cell had not begun, the signal finds nothing there, and is sent again."""
    worker = kernel.ready()
    kernel.execute()
    kernel.interrupt()
    kernel.pass_time(STARTED_BY_NOW / 2)
    assert worker.signals == []
    kernel.pass_time(STARTED_BY_NOW)
    assert worker.signals == [INT]
    worker.start(missed=missed)
    assert worker.signals == signals


def test_an_interrupt_for_a_cell_that_has_ended_meanwhile_is_not_sent(kernel: Kernel) -> None:
    worker = kernel.ready()
    kernel.execute()
    kernel.interrupt()
    worker.start().reply("ok")
    kernel.execute()
    kernel.pass_time(1)
    assert worker.signals == [INT]


def test_an_interrupt_while_the_process_starts_is_kept_for_the_first_cell(kernel: Kernel) -> None:
    kernel.execute("first")
    kernel.execute("second")
    kernel.interrupt()
    worker = kernel.worker().hello().start()
    assert (worker.cell, worker.signals) == ("first", [INT])
    worker.reply("error")
    worker.start()
    assert (worker.cell, worker.signals) == ("second", [INT])


def test_an_interrupt_while_the_process_starts_outlives_a_failed_start(kernel: Kernel) -> None:
    kernel.execute()
    kernel.interrupt()
    kernel.worker().die(1)
    assert kernel.worker().hello().start().signals == [INT]


def test_many_interrupts_before_the_cell_runs_are_one(kernel: Kernel) -> None:
    worker = kernel.ready()
    kernel.execute()
    for _ in range(3):
        kernel.interrupt()
    worker.start()
    assert worker.signals == [INT]


def test_an_interrupt_after_the_reply_is_not_sent(kernel: Kernel) -> None:
    kernel.running()
    worker = kernel.worker()
    worker.reply()
    request = kernel.interrupt()
    assert worker.signals == []
    assert kernel.status(request) == "ok"


def test_an_interrupt_reaches_who_is_to_merge_before_its_reply_goes_out(kernel: Kernel) -> None:
    """A task that the cell has left may hog the main thread."""
    child = kernel.create()
    main, other = kernel.ready(), kernel.ready(child)
    kernel.running("x = 1")
    cell = kernel.running("x = 2", child)
    main.commit("x")
    main.reply()
    other.say(messages.Commit(0, [[["x"], "value", {}, 1]], [], False, (b"2",)))
    other.reply()
    kernel.interrupt()
    assert (other.signals, kernel.status(cell)) == ([INT], None)
    other.commit("x")
    assert kernel.status(cell) == "ok"
    kernel.interrupt()
    assert other.signals == [INT]


def test_an_interrupt_after_the_reply_is_not_kept_for_the_next_cell(kernel: Kernel) -> None:
    kernel.running()
    kernel.worker().reply()
    kernel.interrupt()
    kernel.execute()
    assert kernel.worker().start().signals == []


def test_an_interrupt_between_two_cells_is_for_the_second_when_it_runs(kernel: Kernel) -> None:
    kernel.running("first")
    kernel.execute("second")
    worker = kernel.worker()
    worker.reply()
    kernel.interrupt()
    assert worker.signals == []
    assert worker.start().signals == [INT]


def test_an_interrupt_that_was_kept_dies_with_its_cell(kernel: Kernel) -> None:
    kernel.ready()
    kernel.execute()
    kernel.interrupt()
    kernel.worker().die()
    kernel.execute()
    assert kernel.worker().hello().start().signals == []


def test_a_running_cell_can_be_interrupted_again_and_again(kernel: Kernel) -> None:
    kernel.running()
    for _ in range(3):
        kernel.interrupt()
    assert kernel.worker().signals == [INT] * 3


# --- with a target --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize("where", ["header", "content"])
def test_an_interrupt_request_reaches_the_subshell_that_it_names(kernel: Kernel, channel: str, where: str) -> None:
    child = kernel.create()
    kernel.running(subshell=child)
    kernel.running()
    content, header = ({"subshell_id": child}, None) if where == "content" else ({}, child)
    kernel.ask("interrupt_request", content, channel=channel, subshell=header)
    assert (kernel.worker(child).signals, kernel.worker().signals) == ([INT], [])


def test_main_can_be_named_in_the_content(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running()
    kernel.running(subshell=child)
    kernel.control("interrupt_request", {"subshell_id": "main"})
    assert (kernel.worker(child).signals, kernel.worker().signals) == ([], [INT])


def test_an_interrupt_of_an_idle_subshell_interrupts_no_other(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running()
    kernel.ready(child)
    assert kernel.status(kernel.interrupt(child)) == "ok"
    assert kernel.worker().signals == []


@pytest.mark.parametrize("target", ["nobody", "", 3, [], {}])
def test_an_interrupt_of_an_unknown_subshell_is_an_error_and_interrupts_nothing(kernel: Kernel, target: object) -> None:
    kernel.running()
    request = kernel.control("interrupt_request", {"subshell_id": target})
    assert kernel.reply(request)["ename"] == "SubshellNotFound"
    assert kernel.worker().signals == []


# --- without a target: by setting -----------------------------------------------------------------------------------


def by_message(kernel: Kernel) -> None:
    kernel.interrupt()


def by_signal(kernel: Kernel) -> None:
    kernel.handle(Interrupted())


BY_BOTH = pytest.mark.parametrize("how", [by_message, by_signal])


def interrupts(kernel: Kernel, *subshells: str | None) -> list[int]:
    """How many interrupts each subshell's worker got."""
    return [kernel.worker(subshell).signals.count(INT) for subshell in subshells]


@BY_BOTH
def test_the_cell_that_was_started_last_is_interrupted_then_the_one_before(kernel: Kernel, how: type) -> None:
    first, second = kernel.create(), kernel.create()
    for subshell in (second, None, first):  # not in the order of their creation
        kernel.running(subshell=subshell)
        kernel.pass_time(0.1)
    seen = []
    for _ in range(4):
        how(kernel)
        seen.append(interrupts(kernel, second, None, first))
    assert seen == [[0, 0, 1], [0, 1, 1], [1, 1, 1], [1, 1, 2]]


def test_what_was_interrupted_by_name_comes_last(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running()
    kernel.running(subshell=child)
    kernel.interrupt(child)
    kernel.interrupt()
    assert interrupts(kernel, None, child) == [1, 1]


def test_a_cell_that_ended_is_not_counted(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running()
    kernel.running(subshell=child)
    kernel.interrupt()
    kernel.worker(child).reply("error")
    kernel.running(subshell=child)
    kernel.interrupt()
    assert interrupts(kernel, None, child) == [0, 2]


def test_a_cell_is_meant_rather_than_a_completion_that_came_later(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running()
    kernel.ready(child)
    kernel.ask("complete_request", subshell=child)
    kernel.worker(child).start()
    kernel.interrupt()
    assert interrupts(kernel, None, child) == [1, 0]


def test_a_cell_whose_process_starts_counts_as_the_last_one(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running()
    kernel.pass_time(1)
    kernel.execute(subshell=child)
    kernel.interrupt()
    assert interrupts(kernel, None) == [0]
    kernel.worker(child).hello().start()
    assert interrupts(kernel, None, child) == [0, 1]


def test_a_cell_whose_process_took_long_to_start_counts_from_when_it_was_sent(kernel: Kernel) -> None:
    """A cell in the background is sent first, though the one that the user runs next begins before its process does."""
    child = kernel.create()
    kernel.execute(subshell=child)
    kernel.pass_time(1)
    kernel.running()
    kernel.pass_time(1)
    kernel.worker(child).hello().start()
    kernel.interrupt()
    assert interrupts(kernel, None, child) == [1, 0]


def test_a_cell_that_waited_for_another_counts_from_the_end_of_that(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running()
    kernel.execute()
    kernel.running(subshell=child)
    kernel.pass_time(1)
    kernel.worker().reply()
    kernel.worker().start()
    kernel.interrupt()
    assert interrupts(kernel, None, child) == [1, 0]


@BY_BOTH
def test_with_target_parent_main_alone_is_interrupted(how: type) -> None:
    kernel = Kernel(interrupt_target="parent")
    child = kernel.create()
    kernel.running()
    kernel.running(subshell=child)
    how(kernel)
    how(kernel)
    assert interrupts(kernel, None, child) == [2, 0]


@BY_BOTH
def test_with_target_all_every_cell_is_interrupted(how: type) -> None:
    kernel = Kernel(interrupt_target="all")
    children = [kernel.create() for _ in range(2)]
    kernel.running()
    kernel.running(subshell=children[0])
    kernel.ready(children[1])
    how(kernel)
    assert interrupts(kernel, None, *children) == [1, 1, 0]


@BY_BOTH
@pytest.mark.parametrize("target", ["latest", "parent", "all"])
def test_an_interrupt_of_an_idle_kernel_does_nothing(how: type, target: str) -> None:
    kernel = Kernel(interrupt_target=target)
    kernel.ready()
    how(kernel)
    kernel.execute()
    assert kernel.worker().start().signals == []


def test_who_interrupts_in_vain_is_told_once_what_helps(kernel: Kernel) -> None:
    cell = kernel.running()
    kernel.interrupt()
    kernel.interrupt()  # a double click
    assert "stream" not in kernel.story(cell)
    kernel.pass_time(5)
    kernel.interrupt()
    kernel.interrupt()
    kernel.pass_time(5)
    kernel.interrupt()
    (said,) = kernel.sent("iopub", "stream")
    assert said.parent == cell.id
    assert "`mpkernel kill " in said.content["text"]
    assert kernel.worker().signals == [INT] * 5


def test_who_interrupts_what_does_not_begin_is_told_what_helps(kernel: Kernel) -> None:
    kernel.ready()
    cell = kernel.execute("it loads what another has made")
    kernel.interrupt()
    kernel.pass_time(5)
    kernel.interrupt()
    (said,) = kernel.sent("iopub", "stream")
    assert said.parent == cell.id
    assert "`mpkernel kill " in said.content["text"]


@BY_BOTH
def test_a_completion_that_outlives_its_cell_can_be_interrupted(how: type) -> None:
    kernel = Kernel()
    kernel.running()
    kernel.ask("complete_request")
    worker = kernel.worker()
    worker.reply()
    how(kernel)
    assert worker.signals == [INT]
    worker.reply_aside()
    how(kernel)
    assert worker.signals == [INT]
