"""A process that ends costs the request that it ran; its subshell stays and gets another one."""

from __future__ import annotations

import signal

import pytest

from mpkernel import messages
from mpkernel.broker.events import StartWorker
from mpkernel.broker.pool import MAX_FAILED_STARTS

from .bench import Kernel, code_of


def test_the_running_cell_is_answered_with_what_happened(kernel: Kernel) -> None:
    cell = kernel.running("segfault()\n")
    kernel.worker().die(-signal.SIGSEGV)
    assert kernel.story(cell)[-3:] == ["error", "execute_reply", "idle"]
    reply = kernel.reply(cell)
    assert reply["ename"] == "WorkerDied"
    for part in ("main", str(5001), "SIGSEGV", "'segfault()'"):
        assert part in reply["evalue"]


@pytest.mark.parametrize(("returncode", "said"), [(-9, "killed by SIGKILL"), (3, "exited with code 3")])
def test_the_error_says_how_the_process_ended(kernel: Kernel, returncode: int, said: str) -> None:
    cell = kernel.running()
    kernel.worker().die(returncode)
    assert said in kernel.reply(cell)["evalue"]


def test_the_error_names_a_subshell_that_has_a_name(kernel: Kernel) -> None:
    subshell = kernel.create("plotter")
    cell = kernel.running(subshell=subshell)
    kernel.worker(subshell).die()
    assert "the process of subshell plotter (pid" in kernel.reply(cell)["evalue"]


def test_the_error_says_which_names_are_kept_and_which_are_lost(kernel: Kernel) -> None:
    kernel.running()
    kernel.worker().commit("kept", "also", lost=["handle"])
    kernel.worker().reply()
    cell = kernel.running()
    kernel.worker().die()
    assert "2 names (also, kept) kept" in kernel.reply(cell)["evalue"]
    assert "1 name (handle)" in kernel.reply(cell)["evalue"]


def test_the_stack_that_faulthandler_wrote_is_shown(kernel: Kernel) -> None:
    cell = kernel.running()
    dump = 'Fatal Python error: Aborted\n\nCurrent thread 0x1 (most recent call first):\n  File "f.py", line 3\n'
    kernel.worker().die(-signal.SIGABRT, dump=dump)
    assert '  File "f.py", line 3' in kernel.reply(cell)["traceback"]


def test_the_cells_behind_it_are_aborted(kernel: Kernel) -> None:
    kernel.running()
    queued = [kernel.execute() for _ in range(2)]
    kernel.worker().die()
    assert [kernel.status(cell) for cell in queued] == ["aborted", "aborted"]


def test_the_cells_behind_one_that_does_not_stop_run_in_a_new_process(kernel: Kernel) -> None:
    kernel.running("os._exit(1)", stop_on_error=False)
    queued = [kernel.execute(f"cell {n}") for n in range(2)]
    dead = kernel.worker()
    dead.die(1)
    fresh = kernel.worker()
    assert fresh is not dead
    fresh.hello()
    assert fresh.cell == "cell 0"
    fresh.reply()
    fresh.reply()
    assert [kernel.status(cell) for cell in queued] == ["ok", "ok"]


def test_nothing_is_run_twice(kernel: Kernel) -> None:
    kernel.running("once", stop_on_error=False)
    kernel.execute("next")
    kernel.worker().die()
    fresh = kernel.worker().hello()
    fresh.reply()
    assert [code_of(request) for request in fresh.got(messages.Request)] == ["next"]


def test_a_subshell_gets_its_next_process_at_once(kernel: Kernel) -> None:
    kernel.running()
    kernel.clear()
    kernel.worker().die()
    assert len(kernel.done(StartWorker)) == 1
    assert kernel.ps()["main"]["state"] == "starting"
    cell = kernel.execute("again")
    assert len(kernel.done(StartWorker)) == 1
    kernel.worker().hello().reply()
    assert kernel.status(cell) == "ok"


def test_a_process_that_dies_unused_is_replaced_when_a_request_needs_one(kernel: Kernel) -> None:
    kernel.worker().hello()
    kernel.clear()
    kernel.worker().die()
    assert kernel.done(StartWorker) == []
    assert kernel.ps()["main"]["state"] == "dead"
    kernel.execute()
    assert len(kernel.done(StartWorker)) == 1


def test_the_prompt_number_of_a_cell_that_died_is_not_given_out_again(kernel: Kernel) -> None:
    cell = kernel.running()
    kernel.worker().die()
    assert kernel.reply(cell)["execution_count"] == 1
    assert kernel.worker().hello().got(messages.Assign) == [messages.Assign(None, None, 1)]


def test_a_silent_cell_that_died_had_no_prompt_number(kernel: Kernel) -> None:
    kernel.running(silent=True)
    kernel.worker().die()
    assert kernel.worker().hello().got(messages.Assign) == [messages.Assign(None, None, 0)]


def test_other_subshells_do_not_notice(kernel: Kernel) -> None:
    child = kernel.create()
    cell = kernel.running()
    kernel.running(subshell=child)
    kernel.worker(child).die()
    assert kernel.story(cell)[0] == "busy"
    assert kernel.status(cell) is None
    kernel.worker().reply()
    assert kernel.status(cell) == "ok"


def test_an_idle_process_that_dies_is_logged_and_told_to_nobody(kernel: Kernel) -> None:
    kernel.ready()
    kernel.clear()
    kernel.worker().die(-signal.SIGSEGV)
    assert kernel.sent() == []
    assert "SIGSEGV" in kernel.logged()[0]


def test_a_request_that_is_no_cell_is_answered_too(kernel: Kernel) -> None:
    kernel.ready()
    completion, comm = kernel.ask("complete_request"), kernel.ask("comm_msg", {"comm_id": "c"})
    kernel.worker().die()
    assert kernel.reply(completion)["ename"] == "WorkerDied"
    assert kernel.story(comm) == ["busy", "idle"]


def test_what_a_process_said_before_it_died_comes_before_the_error(kernel: Kernel) -> None:
    cell = kernel.running()
    kernel.worker().print("last words")
    kernel.worker().die()
    assert kernel.story(cell)[1:] == ["stream", "error", "execute_reply", "idle"]


def test_what_was_left_in_its_pipes_is_shown_before_the_error(kernel: Kernel) -> None:
    cell = kernel.running()
    kernel.worker().die(last_words=(("stderr", "malloc(): corrupted"), ("stdout", "half a line")))
    assert kernel.story(cell)[1:] == ["stream", "stream", "error", "execute_reply", "idle"]
    shown = [sent.content for sent in kernel.sent("iopub", "stream")]
    assert shown == [{"name": "stderr", "text": "malloc(): corrupted"}, {"name": "stdout", "text": "half a line"}]


def test_a_process_that_ends_after_its_reply_gets_no_more_requests(kernel: Kernel) -> None:
    cell = kernel.running()
    queued = kernel.execute("next")
    worker = kernel.worker()
    worker.reply(last=True)
    assert kernel.status(cell) == "ok"
    assert worker.running is None
    worker.die(0)
    assert kernel.worker().hello().cell == "next"
    kernel.worker().reply()
    assert kernel.status(queued) == "ok"


def test_a_process_that_is_gone_is_not_listened_to(kernel: Kernel) -> None:
    kernel.running()
    worker = kernel.worker()
    worker.die()
    kernel.clear()
    worker.print("from beyond")
    worker.reply()
    worker.die()
    assert kernel.actions == []


# --- processes that don't get ready ---------------------------------------------------------------------------------


def test_a_process_that_dies_before_it_is_ready_is_started_again(kernel: Kernel) -> None:
    cell = kernel.execute()
    for _ in range(MAX_FAILED_STARTS - 1):
        kernel.worker().launch().die(1)
        assert kernel.story(cell) == []
    kernel.worker().hello().reply()
    assert kernel.status(cell) == "ok"


@pytest.mark.parametrize(("returncode", "reason"), [(None, "no process could be started"), (1, "")])
def test_after_some_failed_starts_the_request_is_answered(kernel: Kernel, returncode: int | None, reason: str) -> None:
    cell, behind = kernel.execute(), kernel.execute()
    for _ in range(MAX_FAILED_STARTS):
        kernel.worker().die(returncode, reason=reason)
    assert kernel.story(cell) == ["busy", "error", "execute_reply", "idle"]
    assert kernel.reply(cell)["ename"] == "WorkerStartFailed"
    assert (reason or "exited with code 1") in kernel.reply(cell)["evalue"]
    assert kernel.status(behind) == "aborted"
    assert kernel.state == "idle"


@pytest.mark.parametrize("says", range(MAX_FAILED_STARTS))
def test_a_limit_that_one_of_the_failed_starts_met_is_told(kernel: Kernel, says: int) -> None:
    cell = kernel.execute()
    for number in range(MAX_FAILED_STARTS):
        words = (("stderr", "RuntimeError: can't start new thread\n"),) if number == says else ()
        kernel.worker().die(1, last_words=words)
    assert "ulimit" in kernel.reply(cell)["evalue"]


def test_after_failed_starts_the_next_request_tries_again(kernel: Kernel) -> None:
    kernel.execute()
    for _ in range(MAX_FAILED_STARTS):
        kernel.worker().die(1)
    cell = kernel.execute()
    for _ in range(MAX_FAILED_STARTS - 1):
        kernel.worker().die(1)
    kernel.worker().hello().reply()
    assert kernel.status(cell) == "ok"


def test_failed_starts_are_counted_in_a_row(kernel: Kernel) -> None:
    for _ in range(MAX_FAILED_STARTS):
        cell = kernel.execute()
        kernel.worker().die(1)
        kernel.worker().hello().reply()
        assert kernel.status(cell) == "ok"
        kernel.worker().die(1)


def test_a_process_that_nobody_waits_for_is_not_started_again(kernel: Kernel) -> None:
    kernel.clear()
    kernel.worker().die(1)
    assert kernel.done(StartWorker) == []
    assert kernel.ps()["main"]["state"] == "dead"


def test_a_request_that_is_no_cell_is_answered_when_no_process_starts(kernel: Kernel) -> None:
    requests = [kernel.ask(kind) for kind in ("complete_request", "comm_open", "comm_msg", "is_complete_request")]
    for _ in range(MAX_FAILED_STARTS):
        kernel.worker().die(1)
    kernel.check(all_answered=True)
    assert kernel.reply(requests[0])["ename"] == "WorkerStartFailed"
