"""A comm's messages go to the worker that owns it, whatever subshell they come under."""

from __future__ import annotations

import signal

import pytest

from mpkernel import messages
from mpkernel.broker import beside
from mpkernel.broker.comm_routing import MOST_AT_A_TIME
from mpkernel.broker.events import StartWorker

from .bench import Asked, Kernel, message_of


def message(kernel: Kernel, comm_id: object, subshell: str | None = None, kind: str = "comm_msg") -> Asked:
    return kernel.ask(kind, {"comm_id": comm_id, "data": {}}, subshell=subshell)


def open_by_front_end(kernel: Kernel, comm_id: str, subshell: str | None = None) -> Asked:
    return kernel.ask("comm_open", {"comm_id": comm_id, "target_name": "target", "data": {}}, subshell=subshell)


def comms(kernel: Kernel, **content: object) -> dict[str, str]:
    """What comm_info tells: the target of each comm."""
    reply = kernel.reply(kernel.ask("comm_info_request", content))
    return {comm_id: comm["target_name"] for comm_id, comm in reply["comms"].items()}


def got(kernel: Kernel, asked: Asked, subshell: str | None) -> bool:
    """Whether the worker of that subshell has the message, and nothing before it to do for comms."""
    comms = kernel.worker(subshell).comms
    return bool(comms) and asked.message.frames == comms[0].blobs[comms[0].n_idents :]


@pytest.fixture
def child(kernel: Kernel) -> str:
    """A second subshell; its process and main's are ready."""
    child = kernel.create()
    kernel.ready()
    kernel.ready(child)
    return child


def test_a_message_goes_to_the_worker_that_opened_the_comm(kernel: Kernel, child: str) -> None:
    kernel.worker(child).open_comm("c")
    for subshell in (None, child):
        asked = message(kernel, "c", subshell)
        assert got(kernel, asked, child)
        kernel.worker(child).reply_comm()
        assert kernel.story(asked) == ["busy", "idle"]
    assert kernel.worker().running is None


def test_a_message_that_comes_under_a_subshells_id_reaches_the_worker_while_that_runs_a_cell(
    kernel: Kernel, child: str
) -> None:
    kernel.worker().open_comm("c")
    cell = kernel.running()
    asked = message(kernel, "c", child)
    assert got(kernel, asked, None)
    assert kernel.worker().comms[0].urgent
    kernel.worker().reply_comm()
    assert kernel.story(asked) == ["busy", "idle"]
    assert kernel.iopub_states()[-1] == ("busy", cell.id)  # front ends take the last status for the kernel's


def test_a_message_under_no_subshells_id_is_not_urgent(kernel: Kernel) -> None:
    kernel.worker().hello().open_comm("c")
    kernel.running()
    asked = message(kernel, "c")
    assert got(kernel, asked, None)
    assert not kernel.worker().comms[0].urgent


def test_a_message_under_no_subshells_id_stays_behind_cells_that_came_before(kernel: Kernel) -> None:
    kernel.worker().hello().open_comm("c")
    kernel.running()
    kernel.execute("the next")
    asked = message(kernel, "c")
    assert kernel.worker().comms == []
    kernel.worker().reply()
    assert kernel.worker().cell == "the next"
    assert got(kernel, asked, None)  # nothing is before it now but the cell that runs


def test_no_message_stays_behind_a_cell_that_awaits(kernel: Kernel) -> None:
    """The cell may await that very message."""
    kernel.worker().hello().open_comm("c")
    kernel.running()
    kernel.execute("the next")
    before = message(kernel, "c")
    kernel.worker().say(messages.Awaits(kernel.worker().running.seq))
    assert got(kernel, before, None)
    kernel.worker().reply_comm()
    assert got(kernel, message(kernel, "c"), None)


def test_a_message_under_a_subshells_id_takes_those_before_it_along(kernel: Kernel, child: str) -> None:
    kernel.worker().open_comm("c")
    kernel.running()
    kernel.execute("the next")
    waiting = message(kernel, "c")
    assert kernel.story(waiting) == []
    urgent = message(kernel, "c", child)
    assert got(kernel, waiting, None)
    kernel.worker().reply_comm()
    assert got(kernel, urgent, None)


def test_messages_follow_one_another_without_waiting_for_answers(kernel: Kernel) -> None:
    kernel.worker().hello().open_comm("c")
    for _ in range(3):
        message(kernel, "c")
    assert len(kernel.worker().comms) == 3


def test_an_error_aborts_no_message(kernel: Kernel) -> None:
    kernel.worker().hello().open_comm("c")
    kernel.running()
    aborted, asked = kernel.execute("the next"), message(kernel, "c")
    kernel.worker().reply("error", abort=True)
    assert kernel.status(aborted) == "aborted"
    assert got(kernel, asked, None)


def test_messages_wait_for_the_cell_where_that_is_wanted() -> None:
    kernel = Kernel(comms_while_busy="wait")
    kernel.worker().hello().open_comm("c")
    child = kernel.create()
    kernel.running()
    asked = message(kernel, "c", child)
    assert kernel.worker().comms == []
    kernel.worker().reply()
    assert got(kernel, asked, None)


def test_a_callback_that_runs_alone_can_be_interrupted(kernel: Kernel) -> None:
    kernel.worker().hello().open_comm("c")
    message(kernel, "c")
    kernel.interrupt()
    assert kernel.worker().signals == [signal.SIGINT]


def test_a_callback_that_holds_up_a_cell_is_interrupted_and_then_the_cell(kernel: Kernel) -> None:
    kernel.worker().hello().open_comm("c")
    message(kernel, "c")
    kernel.execute("held up")
    kernel.interrupt()
    assert kernel.worker().signals == [signal.SIGINT]
    kernel.worker().reply_comm()
    kernel.worker().start()
    assert kernel.worker().signals == [signal.SIGINT] * 2


def test_what_a_callback_may_have_changed_is_asked_for_until_all_is_settled(kernel: Kernel, child: str) -> None:
    kernel.worker().open_comm("c")
    message(kernel, "c")
    kernel.worker().reply_comm(background=True)
    kernel.execute(subshell=child)
    assert kernel.worker(child).running is not None
    assert kernel.worker(child).running.crowded


def test_a_callback_hears_the_news_first(kernel: Kernel, child: str) -> None:
    kernel.worker().open_comm("c")
    kernel.worker(child).commit("x")
    message(kernel, "c")
    kinds = [type(told) for told in kernel.worker().ordered]
    assert kinds.index(messages.News) < kinds.index(messages.CommRequest)


def test_messages_that_come_before_the_comm_open_was_forwarded_follow_it(kernel: Kernel) -> None:
    child = kernel.create()
    opened, asked = open_by_front_end(kernel, "c", child), message(kernel, "c", None)
    kernel.worker(child).hello()
    assert got(kernel, opened, child)
    kernel.worker(child).reply_comm()
    assert got(kernel, asked, child)


def test_a_front_ends_comm_goes_to_a_worker_that_takes_its_target(kernel: Kernel, child: str) -> None:
    kernel.worker().say(messages.CommTarget("target", taken=True))
    opened = open_by_front_end(kernel, "c", child)
    assert got(kernel, opened, None)
    kernel.worker().reply_comm()
    kernel.worker(child).say(messages.CommTarget("target", taken=True))
    assert got(kernel, open_by_front_end(kernel, "d", child), child)
    kernel.worker(child).say(messages.CommTarget("target", taken=False))
    assert got(kernel, open_by_front_end(kernel, "e", child), None)


def test_the_states_of_widgets_are_asked_of_the_worker_that_has_widgets(kernel: Kernel, child: str) -> None:
    for worker in (kernel.worker(), kernel.worker(child)):
        worker.say(messages.CommTarget("jupyter.widget.control", taken=True))
    kernel.worker(child).open_comm("slider", "jupyter.widget")
    content = {"comm_id": "ctl", "target_name": "jupyter.widget.control", "data": {}}
    assert got(kernel, kernel.ask("comm_open", content), child)


def test_if_several_workers_have_widgets_the_front_end_is_made_to_ask_each_widget(kernel: Kernel, child: str) -> None:
    kernel.worker().open_comm("a", "jupyter.widget")
    kernel.worker(child).open_comm("b", "jupyter.widget")
    asked = kernel.ask("comm_open", {"comm_id": "ctl", "target_name": "jupyter.widget.control", "data": {}})
    assert kernel.story(asked) == ["busy", "comm_close", "idle"]


def test_a_message_for_a_known_comm_under_a_deleted_subshells_id_reaches_its_owner(kernel: Kernel, child: str) -> None:
    kernel.worker().open_comm("c")
    kernel.delete(child)
    assert got(kernel, message(kernel, "c", child), None)


@pytest.mark.parametrize("later", [None, "child"])
def test_a_comm_that_the_front_end_opened_belongs_to_the_worker_that_got_it(
    kernel: Kernel, child: str, later: str | None
) -> None:
    open_by_front_end(kernel, "c", child)
    kernel.worker(child).reply_comm()
    asked = message(kernel, "c", child if later else None)
    assert got(kernel, asked, child)
    assert comms(kernel) == {"c": "target"}


def test_a_comm_open_that_waits_for_a_process_is_followed_too(kernel: Kernel) -> None:
    kernel.ready()
    child = kernel.create()
    open_by_front_end(kernel, "c", child)
    asked = message(kernel, "c", None)
    kernel.worker(child).die(1)
    kernel.worker(child).hello().reply_comm()
    assert got(kernel, asked, child)
    assert kernel.sent("iopub", "comm_close") == []


def test_a_comm_whose_target_is_unknown_is_forgotten(kernel: Kernel, child: str) -> None:
    open_by_front_end(kernel, "c")
    kernel.worker().close_comm("c", "target")
    kernel.worker().reply_comm()
    assert comms(kernel) == {}


def test_a_message_for_an_unknown_comm_goes_where_it_says(kernel: Kernel, child: str) -> None:
    asked = message(kernel, "unknown", child)
    assert got(kernel, asked, child)


def test_comm_info_has_the_comms_of_all_subshells(kernel: Kernel, child: str) -> None:
    kernel.worker().open_comm("a", "widget")
    kernel.worker(child).open_comm("b", "widget")
    kernel.worker(child).open_comm("c", "plot")
    assert comms(kernel) == {"a": "widget", "b": "widget", "c": "plot"}
    assert comms(kernel, target_name="widget") == {"a": "widget", "b": "widget"}
    assert comms(kernel, target_name="none such") == {}


def test_comm_info_is_the_same_under_every_subshell(kernel: Kernel, child: str) -> None:
    kernel.worker(child).open_comm("a")
    replies = [kernel.reply(kernel.ask("comm_info_request", subshell=subshell)) for subshell in (None, child)]
    assert replies[0] == replies[1]


def test_a_comm_that_the_worker_closes_is_forgotten(kernel: Kernel, child: str) -> None:
    kernel.worker().open_comm("c")
    kernel.worker().close_comm("c")
    assert comms(kernel) == {}
    assert len(kernel.sent("iopub", "comm_close")) == 1


def test_a_comm_that_the_front_end_closes_is_forgotten_once_its_owner_is_told(kernel: Kernel, child: str) -> None:
    kernel.worker().open_comm("c")
    closing = message(kernel, "c", child, "comm_close")
    assert got(kernel, closing, None)
    kernel.worker().reply_comm()
    assert comms(kernel) == {}
    assert kernel.sent("iopub", "comm_close") == []


def test_what_a_worker_says_of_its_comms_is_passed_on(kernel: Kernel, child: str) -> None:
    kernel.worker(child).open_comm("c", "widget")
    assert [sent.content["target_name"] for sent in kernel.sent("iopub", "comm_open")] == ["widget"]


@pytest.mark.parametrize("end", ["death", "deletion"])
def test_the_comms_of_a_process_that_is_gone_are_closed(kernel: Kernel, child: str, end: str) -> None:
    kernel.worker(child).open_comm("a")
    kernel.worker(child).open_comm("b")
    kernel.worker().open_comm("main's")
    worker = kernel.worker(child)
    if end == "deletion":
        kernel.delete(child)
    worker.die()
    closed = kernel.sent("iopub", "comm_close")
    assert [sent.content for sent in closed] == [{"comm_id": "a", "data": {}}, {"comm_id": "b", "data": {}}]
    assert comms(kernel) == {"main's": "jupyter.widget"}


def test_a_comm_of_a_deleted_subshell_is_closed_before_its_process_has_ended(kernel: Kernel, child: str) -> None:
    kernel.worker(child).open_comm("c")
    kernel.delete(child)
    assert len(kernel.sent("iopub", "comm_close")) == 1


def test_a_message_for_a_comm_whose_process_is_being_killed_is_answered(kernel: Kernel, child: str) -> None:
    kernel.running(subshell=child)
    kernel.worker(child).open_comm("c")
    kernel.op("kill", subshell=child)
    asked = message(kernel, "c")
    assert kernel.story(asked) == ["busy", "idle"]


def test_a_comm_that_the_spare_opened_belongs_to_the_subshell_that_takes_it(kernel: Kernel) -> None:
    kernel.ready()
    kernel.pass_time(1)
    assert kernel.spare is not None
    kernel.spare.hello().open_comm("startup")
    lonely = message(kernel, "startup")
    assert kernel.story(lonely) == ["busy", "idle"]
    child = kernel.create()
    kernel.ready(child)
    assert got(kernel, message(kernel, "startup"), child)


@pytest.mark.parametrize("comm_id", [None, 3, [], {}])
def test_a_message_with_no_proper_comm_id_reaches_the_worker(kernel: Kernel, child: str, comm_id: object) -> None:
    kernel.clear()
    for kind in ("comm_open", "comm_msg", "comm_close"):
        asked = message(kernel, comm_id, None, kind)
        assert got(kernel, asked, None)
        kernel.worker().reply_comm()
    assert kernel.done(StartWorker) == []


def test_a_worker_that_does_not_handle_its_messages_gets_no_more(kernel: Kernel) -> None:
    worker = kernel.ready()
    worker.open_comm("c")
    asked = [message(kernel, "c") for _ in range(MOST_AT_A_TIME + 10)]
    cell = kernel.execute("1")
    assert len(worker.comms) == MOST_AT_A_TIME
    assert worker.running is None, "the cell stays behind the messages"
    for _ in range(MOST_AT_A_TIME // 2):
        worker.reply_comm()
    assert len(worker.comms) == MOST_AT_A_TIME // 2 + 10
    assert worker.cell == "1"
    while worker.comms:
        worker.reply_comm()
    worker.reply()
    assert kernel.status(cell) == "ok"
    states = kernel.iopub_states()
    assert [state for state, about in states if about == asked[0].id] == ["busy", "idle"]
    assert {states.count((state, one.id)) for one in asked for state in ("busy", "idle")} == {1}


def test_nor_more_than_so_many_bytes(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "MAX_BESIDE", 100_000)
    worker = kernel.ready()
    worker.open_comm("c")
    content = {"comm_id": "c", "data": "x" * 40_000}
    asked = [kernel.ask("comm_msg", content, subshell=None) for _ in range(5)]
    assert len(worker.comms) == 2
    for number in range(5):
        assert message_of(worker.comms[0]).msg_id == asked[number].id, "they stay in order"
        worker.reply_comm()
    assert worker.comms == []
