"""Completion, inspection and the like don't wait for a running cell; nor do live reads of another's variables."""

from __future__ import annotations

import signal

import pytest

from mpkernel import messages
from mpkernel.broker import beside, waiting
from mpkernel.broker.beside import ANSWER_WITHIN

from .bench import Kernel

SIDE = ["complete_request", "inspect_request", "is_complete_request", "history_request"]


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize("msg_type", SIDE)
def test_while_a_cell_runs_the_service_lane_answers(kernel: Kernel, channel: str, msg_type: str) -> None:
    cell = kernel.running()
    request = kernel.ask(msg_type, {"code": "a"}, channel=channel, client=(b"a", b"route"))
    [side] = kernel.worker().side
    assert (side.n_idents, side.blobs) == (2, (b"a", b"route", *request.message.frames))
    assert kernel.story(request) == ["busy"]
    kernel.worker().reply_aside(matches=["abc"])
    assert kernel.reply(request)["matches"] == ["abc"]
    assert kernel.iopub_states()[-2:] == [("idle", request.id), ("busy", cell.id)]
    assert kernel.status(cell) is None


@pytest.mark.parametrize("msg_type", SIDE)
def test_an_idle_worker_answers_in_its_main_thread(kernel: Kernel, msg_type: str) -> None:
    worker = kernel.ready()
    kernel.ask(msg_type)
    assert worker.side == []
    assert worker.running is not None


@pytest.mark.parametrize("msg_type", SIDE)
def test_while_the_process_starts_it_waits_in_the_queue(kernel: Kernel, msg_type: str) -> None:
    cell, request = kernel.execute(), kernel.ask(msg_type)
    worker = kernel.worker().hello()
    assert worker.side == []
    worker.reply()
    worker.reply()
    assert (kernel.status(cell), kernel.status(request)) == ("ok", "ok")


def test_while_another_request_than_a_cell_runs_it_waits_its_turn(kernel: Kernel) -> None:
    worker = kernel.ready()
    kernel.ask("complete_request")
    request = kernel.ask("complete_request")
    assert worker.side == []
    worker.reply()
    worker.reply()
    assert kernel.status(request) == "ok"


def test_a_busy_subshell_sends_nobody_elses_requests_aside(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running()
    kernel.ready(child)
    kernel.ask("complete_request", subshell=child)
    assert kernel.worker(child).running is not None
    assert kernel.worker().side == kernel.worker(child).side == []


def test_answers_may_come_in_any_order_and_after_the_cell(kernel: Kernel) -> None:
    kernel.running()
    worker = kernel.worker()
    first, second = kernel.ask("complete_request"), kernel.ask("inspect_request")
    worker.reply()
    worker.side.reverse()
    worker.reply_aside()
    assert (kernel.status(first), kernel.status(second)) == (None, "ok")
    worker.reply_aside()
    assert kernel.status(first) == "ok"
    assert kernel.state == "idle"


def test_an_answer_aside_is_not_the_cells(kernel: Kernel) -> None:
    kernel.running()
    kernel.worker().reply()
    cell = kernel.running()
    kernel.ask("complete_request")
    kernel.worker().reply_aside()
    assert kernel.status(cell) is None
    assert kernel.ps()["main"]["execution_count"] == 1


@pytest.mark.parametrize("end", ["death", "deletion"])
def test_it_is_answered_if_the_process_ends(kernel: Kernel, end: str) -> None:
    child = kernel.create()
    kernel.running(subshell=child)
    requests = [kernel.ask("complete_request", subshell=child) for _ in range(2)]
    if end == "deletion":
        kernel.delete(child)
    else:
        kernel.worker(child).die()
    assert [kernel.status(request) for request in requests] == ["aborted", "aborted"]
    assert kernel.state == "idle"


def test_an_answer_that_comes_too_late_is_ignored(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running(subshell=child)
    worker = kernel.worker(child)
    request = kernel.ask("complete_request", subshell=child)
    kernel.delete(child)
    worker.reply_aside()
    assert kernel.status(request) == "aborted"


def test_while_the_process_is_killed_it_waits_for_the_next_one(kernel: Kernel) -> None:
    kernel.ready()
    kernel.op("kill", subshell="main")
    request = kernel.ask("complete_request")
    assert kernel.story(request) == []
    kernel.worker().die()
    kernel.worker().hello().reply()
    assert kernel.status(request) == "ok"


# --- live reads -----------------------------------------------------------------------------------------------------


@pytest.fixture
def child(kernel: Kernel) -> str:
    """A second subshell with a ready process."""
    child = kernel.create("trainer")
    kernel.ready(child)
    return child


def ask_live(kernel: Kernel, subshell: str | None = None, *, token: int = 7) -> None:
    """main's cell asks for the value of x."""
    kernel.worker().say(messages.AskLive(token, "x", subshell))


def live_values(kernel: Kernel) -> list[messages.LiveValue]:
    return kernel.worker().got(messages.LiveValue)


@pytest.mark.parametrize("target", [None, "trainer", "subshell-1"])
def test_a_live_read_asks_the_owner_and_brings_its_answer(kernel: Kernel, child: str, target: str | None) -> None:
    kernel.running(subshell=child)
    kernel.running()
    ask_live(kernel, target)
    [read] = kernel.worker(child).got(messages.ReadLive)
    assert read.name == "x"
    kernel.worker(child).say(messages.LiveAnswer(read.token, None, True, [], (b"pickle",)))
    assert live_values(kernel) == [messages.LiveValue(7, None, [], (b"pickle",))]


def test_a_live_read_of_an_idle_subshell_says_how_to_name_it(kernel: Kernel, child: str) -> None:
    kernel.running(subshell=child)
    kernel.worker(child).say(messages.AskLive(7, "x", None))
    [answer] = kernel.worker(child).got(messages.LiveValue)
    assert answer.error is not None
    assert answer.error.endswith(
        'no other subshell runs a cell; name the one that is meant: mpkernel.live("x", "main")'
    )


def test_a_live_read_of_a_subshell_that_is_not_there_says_which_there_are(kernel: Kernel, child: str) -> None:
    kernel.running()
    ask_live(kernel, "nosub")
    [answer] = live_values(kernel)
    assert answer.error == "there is no live value of 'x': there is no subshell 'nosub'; there are: main, trainer"


def test_a_live_read_and_its_answer_do_not_wait_in_the_ordered_lane(kernel: Kernel, child: str) -> None:
    kernel.running(subshell=child)
    kernel.running()
    ask_live(kernel)
    read = kernel.worker(child).service[-1]
    assert isinstance(read, messages.ReadLive)
    kernel.worker(child).say(messages.LiveAnswer(read.token, None, True, [], (b"pickle",)))
    assert isinstance(kernel.worker().service[-1], messages.LiveValue)


def test_without_a_target_the_cell_that_was_started_last_is_read(kernel: Kernel, child: str) -> None:
    other = kernel.create()
    for subshell in (other, child, None):
        kernel.running(subshell=subshell)
        kernel.pass_time(1)
    ask_live(kernel)
    assert len(kernel.worker(child).got(messages.ReadLive)) == 1
    assert kernel.worker(other).got(messages.ReadLive) == []


@pytest.mark.parametrize("target", [None, "nobody", "lazy"])
def test_a_live_read_of_nobody_is_answered_with_the_reason(kernel: Kernel, child: str, target: str | None) -> None:
    kernel.create("lazy")
    kernel.running()
    ask_live(kernel, target)
    [value] = live_values(kernel)
    assert (value.token, value.blobs) == (7, ())
    assert value.error is not None
    assert "'x'" in value.error


def test_a_live_read_of_an_owner_that_dies_is_answered(kernel: Kernel, child: str) -> None:
    kernel.running(subshell=child)
    kernel.running()
    ask_live(kernel)
    kernel.worker(child).die()
    [value] = live_values(kernel)
    assert value.error is not None
    assert "SIGKILL" in value.error


def test_an_answer_for_an_asker_that_died_is_dropped(kernel: Kernel, child: str) -> None:
    kernel.running(subshell=child)
    kernel.running()
    ask_live(kernel)
    [read] = kernel.worker(child).got(messages.ReadLive)
    kernel.worker().die()
    kernel.worker(child).say(messages.LiveAnswer(read.token, None, True, [], (b"pickle",)))
    assert kernel.worker().ordered == kernel.worker().service == []


def test_only_the_owner_can_answer(kernel: Kernel, child: str) -> None:
    kernel.running(subshell=child)
    kernel.running()
    ask_live(kernel)
    [read] = kernel.worker(child).got(messages.ReadLive)
    other = kernel.create()
    kernel.ready(other)
    kernel.worker(other).say(messages.LiveAnswer(read.token, None, True, [], (b"forged",)))
    assert live_values(kernel) == []
    kernel.worker(child).say(messages.LiveAnswer(read.token, None, True, [], (b"pickle",)))
    assert [value.blobs for value in live_values(kernel)] == [(b"pickle",)]


# --- calls of methods -----------------------------------------------------------------------------------------------


def call(kernel: Kernel, child: str) -> messages.Call:
    """main's cell calls a method of what lives in the child."""
    kernel.worker().say(messages.AskCall(7, kernel.worker(child).id, 1, "move", {"msg_id": "main's"}, [], (b"args",)))
    made = kernel.worker(child).got(messages.Call)[-1]
    assert (made.method, made.parent, made.blobs) == ("move", {"msg_id": "main's"}, (b"args",))
    return made


def test_a_call_of_an_idle_process_comes_after_the_news_and_before_later_cells(kernel: Kernel, child: str) -> None:
    owner = kernel.worker(child)
    kernel.running()
    kernel.worker().commit("x")
    call(kernel, child)
    kernel.execute(subshell=child)
    assert [type(told) for told in owner.ordered[-3:]] == [messages.News, messages.Call, messages.Request]


def test_a_call_of_a_process_that_runs_a_cell_does_not_wait(kernel: Kernel, child: str) -> None:
    kernel.running(subshell=child)
    kernel.running()
    assert call(kernel, child) in kernel.worker(child).service


@pytest.mark.parametrize("background", [False, True])
def test_what_a_call_may_have_changed_is_asked_for(kernel: Kernel, child: str, *, background: bool) -> None:
    kernel.running()
    made = call(kernel, child)
    kernel.worker(child).say(messages.LiveAnswer(made.token, None, background, [], (b"result",)))
    assert live_values(kernel) == [messages.LiveValue(7, None, [], (b"result",))]
    kernel.worker().reply()
    kernel.execute()
    assert kernel.worker().running is not None
    assert kernel.worker().running.crowded == background


@pytest.mark.parametrize("msg_type", SIDE)
def test_it_is_answered_without_a_process_that_does_not_answer(kernel: Kernel, msg_type: str) -> None:
    cell = kernel.running()
    request = kernel.ask(msg_type)
    worker = kernel.worker()
    kernel.pass_time(ANSWER_WITHIN + 1)
    assert kernel.story(request)[-1] == "idle"
    assert kernel.reply(request)["ename"] == "NoAnswer"
    assert kernel.iopub_states()[-1] == ("busy", cell.id)
    worker.reply_aside()
    assert len(kernel.replies(request)) == 1, "what the process says after all comes too late"
    worker.reply()
    assert kernel.status(cell) == "ok"


def test_what_is_answered_late_can_be_interrupted_still(kernel: Kernel) -> None:
    kernel.running()
    kernel.ask("complete_request")
    worker = kernel.worker()
    kernel.pass_time(ANSWER_WITHIN + 1)
    worker.reply()
    kernel.interrupt()
    assert worker.signals == [signal.SIGINT]


def test_an_answer_in_time_is_the_only_one(kernel: Kernel) -> None:
    kernel.running()
    request = kernel.ask("complete_request")
    kernel.worker().reply_aside()
    kernel.pass_time(ANSWER_WITHIN + 1)
    assert kernel.status(request) == "ok"
    assert len(kernel.replies(request)) == 1


def test_a_request_to_a_debugger_has_all_the_time(kernel: Kernel) -> None:
    kernel.running()
    request = kernel.control("debug_request", {"command": "evaluate", "seq": 1})
    kernel.pass_time(10 * ANSWER_WITHIN)
    assert kernel.story(request) == ["busy"]


@pytest.mark.parametrize("msg_type", ["complete_request", "debug_request"])
def test_a_process_that_does_not_answer_gets_no_more(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, msg_type: str
) -> None:
    monkeypatch.setattr(beside, "MAX_BESIDE", 100_000)
    kernel.running()
    worker = kernel.worker()
    first, refused = (kernel.control(msg_type, {"code": "x" * 90_000}) for _ in range(2))
    assert kernel.reply(refused)["ename"] == "TooManyRequests"
    assert len(worker.side) == 1
    worker.reply_aside()
    again = kernel.control(msg_type, {"code": "x" * 90_000})
    worker.reply_aside()
    assert [kernel.status(request) for request in (first, again)] == ["ok", "ok"]


def test_a_process_that_is_given_up_leaves_no_count(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "MAX_BESIDE", 100_000)
    kernel.running()
    kernel.ask("complete_request", {"code": "x" * 90_000})
    kernel.worker().die()
    kernel.worker().hello()
    kernel.running()
    request = kernel.ask("complete_request", {"code": "x" * 90_000})
    kernel.worker().reply_aside()
    assert kernel.status(request) == "ok"


def test_requests_to_a_debugger_whose_process_starts_have_a_limit(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "MAX_WAITING", 100_000)
    first, refused = (kernel.control("debug_request", {"command": "x" * 90_000}) for _ in range(2))
    assert kernel.story(first) == []
    assert kernel.reply(refused)["ename"] == "TooManyRequests"
    kernel.worker().hello().reply_aside()
    assert kernel.status(first) == "ok"
