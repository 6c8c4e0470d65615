"""Every request gets busy, a reply and idle with its own parent, whatever becomes of it."""

from __future__ import annotations

from typing import Any

import pytest

from mpkernel import messages
from mpkernel.broker.events import MeasureUsage, Subscribed

from .bench import CONSOLE, JUPYTERLAB, SESSION, Kernel

ANSWERED_BY_THE_BROKER = {
    "kernel_info_request": {},
    "connect_request": {},
    "comm_info_request": {},
    "interrupt_request": {},
    "shutdown_request": {"restart": False},
}
ON_CONTROL_ONLY: dict[str, Any] = {
    "create_subshell_request": {},
    "delete_subshell_request": {"subshell_id": "nobody"},
    "list_subshell_request": {},
    "mpkernel_request": {"op": "ps"},
}
ANSWERED_BY_A_WORKER: dict[str, Any] = {
    "execute_request": {"code": "1"},
    "complete_request": {"code": "pri", "cursor_pos": 3},
    "inspect_request": {"code": "print", "cursor_pos": 3},
    "is_complete_request": {"code": "1"},
    "history_request": {"hist_access_type": "tail"},
}
FOR_A_DEBUGGER: dict[str, Any] = {"debug_request": {"type": "request", "command": "debugInfo"}}
WITHOUT_REPLY: dict[str, Any] = {
    "comm_open": {"comm_id": "c", "target_name": "t"},
    "comm_msg": {"comm_id": "c"},
    "comm_close": {"comm_id": "c"},
}
ALL = {
    **ANSWERED_BY_THE_BROKER,
    **ON_CONTROL_ONLY,
    **ANSWERED_BY_A_WORKER,
    **FOR_A_DEBUGGER,
    **WITHOUT_REPLY,
    "usage_request": {},
}
NOT_CONTENTS = ["not JSON", "null", "[]", "3", '"text"', '{"code": 1', "[" * 100_000]
WRONG_TYPES: list[dict[str, Any]] = [
    dict.fromkeys(
        ("code", "comm_id", "target_name", "subshell_id", "name", "op", "subshell", "restart", "signal", "grace"), value
    )
    for value in (None, 3, 1.5, True, "", "nobody", [], ["main"], {}, {"a": None}, "\ud800")
]


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize("msg_type", ANSWERED_BY_THE_BROKER)
def test_the_broker_answers_while_the_worker_is_busy(kernel: Kernel, channel: str, msg_type: str) -> None:
    kernel.running()
    request = kernel.ask(msg_type, ANSWERED_BY_THE_BROKER[msg_type], channel=channel)
    assert kernel.story(request)[0] == "busy"
    assert kernel.story(request)[-1] == "idle"
    assert kernel.status(request) == "ok"


@pytest.mark.parametrize("msg_type", ON_CONTROL_ONLY)
def test_the_broker_answers_on_control(kernel: Kernel, msg_type: str) -> None:
    request = kernel.control(msg_type, ON_CONTROL_ONLY[msg_type])
    assert kernel.story(request)[0] == "busy"
    assert kernel.story(request)[-2:] == [msg_type.replace("_request", "_reply"), "idle"]


@pytest.mark.parametrize("msg_type", [*ON_CONTROL_ONLY, *FOR_A_DEBUGGER, "usage_request"])
def test_what_is_for_control_is_refused_on_shell(kernel: Kernel, msg_type: str) -> None:
    request = kernel.ask(msg_type, ON_CONTROL_ONLY.get(msg_type))
    assert kernel.reply(request)["ename"] == "BadMessage"


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize("msg_type", ANSWERED_BY_A_WORKER)
def test_a_worker_answers_between_busy_and_idle(kernel: Kernel, channel: str, msg_type: str) -> None:
    worker = kernel.ready()
    request = kernel.ask(msg_type, ANSWERED_BY_A_WORKER[msg_type], channel=channel)
    assert kernel.story(request) == ["busy"]
    worker.reply()
    assert kernel.story(request) == ["busy", msg_type.replace("_request", "_reply"), "idle"]
    assert kernel.status(request) == "ok"


@pytest.mark.parametrize("msg_type", WITHOUT_REPLY)
def test_a_comm_message_gets_busy_and_idle(kernel: Kernel, msg_type: str) -> None:
    worker = kernel.ready()
    message = kernel.ask(msg_type, WITHOUT_REPLY[msg_type])
    assert kernel.story(message) == ["busy"]
    worker.reply_comm()
    assert kernel.story(message) == ["busy", "idle"]


def test_a_reply_goes_to_the_client_that_asked(kernel: Kernel) -> None:
    worker = kernel.ready()
    for client in (JUPYTERLAB, CONSOLE, (b"a", b"route")):
        request = kernel.execute(client=client)
        worker.reply()
        assert [reply.to for reply in kernel.replies(request)] == [client]


def test_a_workers_frames_are_passed_on_as_they_are(kernel: Kernel) -> None:
    worker = kernel.ready()
    request = kernel.execute("1")
    worker.publish("execute_result", {"data": {"text/plain": "1"}})
    worker.reply(payload=[{"source": "page"}])
    assert kernel.story(request) == ["busy", "execute_result", "execute_reply", "idle"]
    assert kernel.reply(request)["payload"] == [{"source": "page"}]
    assert kernel.sent("iopub", "execute_result")[0].to == (b"execute_result",)


def test_a_worker_gets_the_request_with_its_frames_and_identities(kernel: Kernel) -> None:
    worker = kernel.ready()
    asked = kernel.execute("1", client=(b"a", b"route"))
    assert worker.running is not None
    assert worker.running.n_idents == 2
    assert worker.running.blobs == (b"a", b"route", *asked.message.frames)


def test_all_that_is_sent_carries_one_session(kernel: Kernel) -> None:
    kernel.running()
    for msg_type, content in ALL.items():
        kernel.control(msg_type, content)
    kernel.worker().print("text")
    kernel.worker().die()
    assert {sent.message.header["session"] for sent in kernel.sent()} == {SESSION}


def test_a_worker_that_asks_is_told_that_what_it_sent_has_arrived(kernel: Kernel) -> None:
    kernel.running()
    worker = kernel.worker()
    worker.print("text")
    worker.say(messages.Flush(7))
    assert worker.service == [messages.Flushed(7)]


def test_message_ids_are_unique(kernel: Kernel) -> None:
    for _ in range(3):
        kernel.running()
        kernel.control("kernel_info_request")
        kernel.worker().reply()
    ids = [sent.message.msg_id for sent in kernel.sent()]
    assert len(set(ids)) == len(ids)


def test_a_kernel_begins_with_starting(kernel: Kernel) -> None:
    assert kernel.iopub_states() == [("starting", None)]


def test_status_messages_name_the_kernel_in_their_topic(kernel: Kernel) -> None:
    assert kernel.sent("iopub", "status")[0].to == (b"kernel.kid.status",)


def test_a_subscriber_is_welcomed_by_its_topic(kernel: Kernel) -> None:
    for topic in (b"", b"kernel.kid.status", b"\xff"):
        kernel.handle(Subscribed(topic))
    welcomes = kernel.sent("iopub", "iopub_welcome")
    assert [welcome.to for welcome in welcomes] == [(b"",), (b"kernel.kid.status",), (b"\xff",)]
    assert [welcome.content["subscription"] for welcome in welcomes] == ["", "kernel.kid.status", "\ufffd"]


# --- the kernel's state, as front ends see it -----------------------------------------------------------------------


def test_the_running_cells_busy_follows_the_idle_of_another_request(kernel: Kernel) -> None:
    cell = kernel.running()
    request = kernel.control("kernel_info_request")
    assert kernel.iopub_states()[-3:] == [("busy", request.id), ("idle", request.id), ("busy", cell.id)]


def test_of_two_running_cells_the_one_started_last_is_shown_busy(kernel: Kernel) -> None:
    child = kernel.create()
    first, second = kernel.running(), kernel.running(subshell=child)
    kernel.control("kernel_info_request")
    assert kernel.iopub_states()[-1] == ("busy", second.id)
    kernel.worker(child).reply()
    assert kernel.iopub_states()[-2:] == [("idle", second.id), ("busy", first.id)]
    kernel.worker().reply()
    assert kernel.iopub_states()[-1] == ("idle", first.id)


def test_a_kernel_whose_cells_have_ended_is_idle(kernel: Kernel) -> None:
    kernel.running()
    kernel.worker().reply()
    kernel.control("kernel_info_request")
    assert kernel.state == "idle"


def test_a_busy_cell_stays_the_state_when_another_subshell_fails(kernel: Kernel) -> None:
    cell, child = kernel.running(), kernel.create()
    kernel.running(subshell=child)
    kernel.execute(subshell=child)
    kernel.worker(child).die()
    assert kernel.iopub_states()[-1] == ("busy", cell.id)


# --- what the broker knows ------------------------------------------------------------------------------------------


def test_kernel_info_tells_that_there_are_subshells(kernel: Kernel) -> None:
    info = kernel.reply(kernel.ask("kernel_info_request"))
    assert info["implementation"] == "mpkernel"
    assert info["supported_features"] == ["kernel subshells", "debugger"]
    assert info["language_info"]["name"] == "python"


def test_connect_tells_the_ports(kernel: Kernel) -> None:
    assert kernel.reply(kernel.ask("connect_request")) == {"status": "ok", "shell_port": 1, "control_port": 2}


def test_usage_is_answered_when_it_has_been_measured(kernel: Kernel) -> None:
    request = kernel.control("usage_request")
    assert kernel.story(request) == ["busy"]
    kernel.measure(kernel_cpu=12.5)
    assert kernel.reply(request) == {"status": "ok", "kernel_cpu": 12.5}


# --- requests for nobody, and malformed ones ------------------------------------------------------------------------


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize("msg_type", ALL)
def test_a_request_to_an_unknown_subshell_is_answered_with_an_error(
    kernel: Kernel, channel: str, msg_type: str
) -> None:
    kernel.ready()
    request = kernel.ask(msg_type, ALL[msg_type], channel=channel, subshell="nobody")
    kernel.check(all_answered=True)
    if request.has_reply:
        assert kernel.reply(request)["ename"] == "SubshellNotFound"
        assert "'nobody'" in kernel.reply(request)["evalue"]


def test_a_cell_for_an_unknown_subshell_shows_the_error(kernel: Kernel) -> None:
    request = kernel.execute(subshell="nobody")
    assert kernel.story(request) == ["busy", "error", "execute_reply", "idle"]
    [shown] = kernel.sent("iopub", "error")
    assert shown.content == {key: kernel.reply(request)[key] for key in ("ename", "evalue", "traceback")}


def test_an_error_reply_to_a_cell_has_all_that_an_execute_reply_has(kernel: Kernel) -> None:
    request = kernel.execute(subshell="nobody")
    reply = kernel.reply(request)
    assert (reply["execution_count"], reply["payload"], reply["user_expressions"]) == (0, [], {})
    assert kernel.replies(request)[0].message.metadata()["status"] == "error"


def test_main_is_not_an_id_on_the_wire(kernel: Kernel) -> None:
    assert kernel.reply(kernel.execute(subshell="main"))["ename"] == "SubshellNotFound"


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize("msg_type", ["no_such_request", "execute_reply", "input_reply", "status", ""])
def test_a_message_of_an_unknown_type_is_answered_and_logged(kernel: Kernel, channel: str, msg_type: str) -> None:
    request = kernel.ask(msg_type, channel=channel)
    kernel.check(all_answered=True)
    assert repr(msg_type) in kernel.logged()[0]
    if request.has_reply:
        assert kernel.reply(request)["ename"] == "BadMessage"


@pytest.mark.parametrize("channel", ["shell", "control"])
@pytest.mark.parametrize("content", NOT_CONTENTS, ids=lambda content: content[:10])
@pytest.mark.parametrize("msg_type", ALL)
def test_a_request_whose_content_is_no_object_is_answered(
    kernel: Kernel, channel: str, msg_type: str, content: str
) -> None:
    worker = kernel.ready()
    kernel.ask(msg_type, content.encode(), channel=channel)
    answer_what_is_open(kernel)
    kernel.check(all_answered=True)
    assert not worker.gone


@pytest.mark.parametrize("content", WRONG_TYPES, ids=lambda content: repr(content["code"]))
@pytest.mark.parametrize("msg_type", ALL)
def test_a_request_with_values_of_wrong_types_is_answered(
    kernel: Kernel, msg_type: str, content: dict[str, Any]
) -> None:
    kernel.ready()
    kernel.control(msg_type, content)
    answer_what_is_open(kernel)
    kernel.check(all_answered=True)


def answer_what_is_open(kernel: Kernel) -> None:
    """What is with a worker is replied to, what was to be measured is measured."""
    if kernel.worker().running is not None:
        kernel.worker().reply("error")
    while kernel.worker().comms:
        kernel.worker().reply_comm()
    if kernel.worker().side:
        kernel.worker().reply_aside()
    if kernel.done(MeasureUsage):
        kernel.measure()
