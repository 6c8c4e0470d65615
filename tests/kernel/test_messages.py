"""Every message of the messaging spec, on its channel (protocol 5.5).

https://jupyter-client.readthedocs.io/en/stable/messaging.html. That messages are valid, carry one session and are
bracketed by busy and idle is checked by the client for all tests; here are the answers.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import zmq

from .client import TIMEOUT
from .driver import KERNEL, Channel, Kernel, Message

HISTORY: dict[str, Any] = {"raw": True, "output": False, "hist_access_type": "tail", "n": 1}
REQUESTS: dict[str, dict[str, Any]] = {
    "execute_request": {"code": "1"},
    "complete_request": {"code": "pri", "cursor_pos": 3},
    "inspect_request": {"code": "print", "cursor_pos": 5, "detail_level": 0},
    "is_complete_request": {"code": "1"},
    "history_request": HISTORY,
    "comm_info_request": {},
    "kernel_info_request": {},
    "connect_request": {},
    "interrupt_request": {},
}
CONTROL_REQUESTS: dict[str, dict[str, Any]] = {
    **{name: content for name, content in REQUESTS.items() if name != "comm_info_request"},
    "usage_request": {},
    "create_subshell_request": {},
    "list_subshell_request": {},
    "debug_request": {"type": "request", "seq": 1, "command": "debugInfo", "arguments": {}},
}
INTERRUPTS_ITSELF = pytest.mark.mpkernel_only("an interrupt on shell interrupts its own handler, unanswered")
TABLE = [
    *(pytest.param("shell", name, marks=INTERRUPTS_ITSELF if name == "interrupt_request" else ()) for name in REQUESTS),
    *(("control", name) for name in CONTROL_REQUESTS),
]


@contextmanager
def raw_socket(kernel: Kernel, kind: int, channel: str, timeout: float = TIMEOUT) -> Iterator[zmq.Socket[bytes]]:
    """A bare socket, for what `jupyter_client` hides."""
    with zmq.Context() as context, context.socket(kind) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RCVTIMEO, int(timeout * 1000))
        socket.connect(kernel.url(channel))
        yield socket


@pytest.mark.parametrize(("channel", "msg_type"), TABLE)
def test_every_request_gets_busy_reply_and_idle_with_its_own_parent(
    shared_kernel: Kernel, channel: Channel, msg_type: str
) -> None:
    content = (CONTROL_REQUESTS if channel == "control" else REQUESTS)[msg_type]
    pending = shared_kernel.send(msg_type, content, channel=channel)
    result = pending.wait()
    assert result.statuses == ["busy", "idle"]
    assert result.reply.parent["msg_id"] == pending.msg_id
    assert result.reply.parent["msg_type"] == msg_type
    if msg_type not in ("is_complete_request", "usage_request", "debug_request"):  # these have no status, or another
        assert result.status == "ok"


@pytest.mark.mpkernel_only("IPython 9 makes the traceback again, to store it, before the reply goes out")
def test_a_traceback_is_made_once(shared_kernel: Kernel) -> None:
    shared_kernel.run(
        "shell = get_ipython(); made = []; make = shell.InteractiveTB.structured_traceback\n"
        "shell.InteractiveTB.structured_traceback = lambda *a, **kw: made.append(1) or make(*a, **kw)"
    )
    try:
        failed = shared_kernel.run("1 / 0")
        kept = "getattr(shell.history_manager, 'exceptions', {})"  # a younger thing than the oldest IPython supported
        result = shared_kernel.run(f"print(len(made), *(e['traceback'] for e in list({kept}.values())[-1:]))")
    finally:
        shared_kernel.run("shell.InteractiveTB.structured_traceback = make; del shell, made, make")
    assert failed.error is not None
    assert result.stdout.strip() in ("1", f"1 {failed.error['traceback']}")


@pytest.mark.parametrize("channel", ["shell", "control"])
def test_kernel_info_tells_protocol_language_and_features(shared_kernel: Kernel, channel: Channel) -> None:
    info = shared_kernel.request("kernel_info_request", channel=channel).content
    assert info["protocol_version"] == ("5.5" if KERNEL == "mpkernel" else "5.3")
    assert info["implementation"] == ("mpkernel" if KERNEL == "mpkernel" else "ipython")
    assert "kernel subshells" in info["supported_features"]
    language = info["language_info"]
    assert (language["name"], language["file_extension"]) == ("python", ".py")
    assert language["mimetype"] == "text/x-python"
    assert {"version", "pygments_lexer", "codemirror_mode", "nbconvert_exporter"} <= set(language)
    assert info["banner"]
    assert all({"text", "url"} <= set(link) for link in info["help_links"])


def test_connect_reply_has_the_ports_of_the_connection_file(shared_kernel: Kernel) -> None:
    reply = shared_kernel.request("connect_request").content
    ports = {f"{channel}_port" for channel in ("shell", "iopub", "stdin", "control", "hb")}
    assert {name: reply[name] for name in ports} == {name: shared_kernel.connection[name] for name in ports}


def test_usage_reply_tells_memory_and_cpu_of_kernel_and_host(shared_kernel: Kernel) -> None:
    usage = shared_kernel.control("usage_request").content
    assert usage["hostname"]
    assert usage["pid"] in {process.pid for process in shared_kernel.processes()}
    assert usage["kernel_memory"] > 1_000_000
    assert usage["kernel_cpu"] >= 0
    assert usage["cpu_count"] >= 1
    assert usage["host_virtual_memory"]["total"] > usage["kernel_memory"]


def test_completion_knows_the_variables_of_earlier_cells(shared_kernel: Kernel) -> None:
    shared_kernel.run("import os; a_long_name = 1")
    code = "x = a_long_n"
    reply = shared_kernel.request("complete_request", {"code": code, "cursor_pos": len(code)}).content
    assert reply["matches"] == ["a_long_name"]
    assert code[reply["cursor_start"] : reply["cursor_end"]] == "a_long_n"
    types = reply["metadata"]["_jupyter_types_experimental"]
    assert [kind["text"] for kind in types] == ["a_long_name"]
    attributes = shared_kernel.request("complete_request", {"code": "os.getpi", "cursor_pos": 8}).content
    assert any(match.endswith("getpid") for match in attributes["matches"])


def test_completion_counts_its_cursor_in_characters(shared_kernel: Kernel) -> None:
    code = "s = 'äöü🐍'; pri"
    reply = shared_kernel.request("complete_request", {"code": code, "cursor_pos": len(code)}).content
    assert "print" in reply["matches"]
    assert (reply["cursor_start"], reply["cursor_end"]) == (len(code) - 3, len(code))


def test_inspect_finds_signature_docstring_and_source(shared_kernel: Kernel) -> None:
    shared_kernel.run("def inspected(first, second=2):\n    'What it is for.'\n    return first  # the source\n")
    request: dict[str, Any] = {"code": "inspected(", "cursor_pos": 10, "detail_level": 0}
    reply = shared_kernel.request("inspect_request", request).content
    assert reply["found"]
    assert "What it is for." in reply["data"]["text/plain"]
    assert "second" in reply["data"]["text/plain"]
    assert "# the source" not in reply["data"]["text/plain"]
    detailed = shared_kernel.request("inspect_request", request | {"detail_level": 1}).content
    assert "# the source" in detailed["data"]["text/plain"]


def test_inspect_says_when_nothing_is_found(shared_kernel: Kernel) -> None:
    request = {"code": "no_such_name", "cursor_pos": 5, "detail_level": 0}
    reply = shared_kernel.request("inspect_request", request).content
    assert (reply["status"], reply["found"], reply["data"]) == ("ok", False, {})


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("1 + 1", "complete"),
        ("for i in range(3):", "incomplete"),
        ("x = (1,", "incomplete"),
        ("1 + * 2", "invalid"),
        ("await f()", "complete"),
        ("%time 1", "complete"),
    ],
)
def test_is_complete_judges(shared_kernel: Kernel, code: str, status: str) -> None:
    assert shared_kernel.request("is_complete_request", {"code": code}).content["status"] == status


def test_is_complete_proposes_an_indent(shared_kernel: Kernel) -> None:
    reply = shared_kernel.request("is_complete_request", {"code": "for i in range(3):"}).content
    assert reply["indent"] == "    "


def test_history_by_tail_range_and_search(kernel: Kernel) -> None:
    for code in ("first_entry = 1", "first_entry + 1", "first_entry = 3"):
        kernel.run(code)

    def history(**content: Any) -> list[Any]:
        return list(kernel.request("history_request", HISTORY | content).content["history"])

    codes = ["first_entry = 1", "first_entry + 1", "first_entry = 3"]
    tail = history(n=3)
    assert [entry[2] for entry in tail] == codes
    assert [entry[1] for entry in tail] == [1, 2, 3]
    with_output = history(hist_access_type="range", session=0, start=2, stop=3, output=True)
    assert [entry[2] for entry in with_output] == [["first_entry + 1", "2"]]
    ranged = history(hist_access_type="range", session=0, start=1, stop=3)
    assert [entry[2] for entry in ranged] == codes[:2]
    found = history(hist_access_type="search", pattern="first_entry = *", n=10)
    assert [entry[2] for entry in found] == [codes[0], codes[2]]
    kernel.run("first_entry = 1")
    unique = history(hist_access_type="search", pattern="first_entry = 1", n=10, unique=True)
    assert len(unique) == 1


def test_comm_info_lists_open_comms_by_target(shared_kernel: Kernel) -> None:
    shared_kernel.run("from comm import create_comm; listed = create_comm(target_name='listed')")
    comm_id = shared_kernel.value("listed.comm_id")
    everything = shared_kernel.request("comm_info_request").content["comms"]
    assert everything[comm_id] == {"target_name": "listed"}
    assert shared_kernel.request("comm_info_request", {"target_name": "listed"}).content["comms"] == {
        comm_id: {"target_name": "listed"}
    }
    assert shared_kernel.request("comm_info_request", {"target_name": "other"}).content["comms"] == {}


def test_a_comm_opened_by_the_front_end_is_answered(shared_kernel: Kernel) -> None:
    shared_kernel.run(
        "import comm\n"
        "def opened(c, message):\n"
        "    c.on_msg(lambda m: c.send({'echo': m['content']['data']}))\n"
        "comm.get_comm_manager().register_target('echo', opened)"
    )
    shared_kernel.send("comm_open", {"comm_id": "c1", "target_name": "echo", "data": {}}).wait_for_idle()
    messages = shared_kernel.send("comm_msg", {"comm_id": "c1", "data": {"n": 1}}).wait_for_idle()
    answers = [message.content for message in messages if message.type == "comm_msg"]
    assert answers == [{"comm_id": "c1", "data": {"echo": {"n": 1}}}]
    shared_kernel.send("comm_close", {"comm_id": "c1", "data": {}}).wait_for_idle()
    assert "c1" not in shared_kernel.request("comm_info_request").content["comms"]


def test_a_comm_to_an_unknown_target_is_closed_at_once(shared_kernel: Kernel) -> None:
    pending = shared_kernel.send("comm_open", {"comm_id": "c2", "target_name": "nobody", "data": {}})
    closed = [message.content for message in pending.wait_for_idle() if message.type == "comm_close"]
    assert [content["comm_id"] for content in closed] == ["c2"]


def test_execute_works_on_control(shared_kernel: Kernel) -> None:
    assert shared_kernel.run("from_control = 42", channel="control").status == "ok"
    assert shared_kernel.value("from_control") == 42


def test_the_execute_reply_carries_metadata(shared_kernel: Kernel) -> None:
    ok = shared_kernel.run("1").reply.metadata
    assert {"started", "dependencies_met", "engine", "status"} <= set(ok)
    assert ok["status"] == "ok"
    assert shared_kernel.run("1/0").reply.metadata["status"] == "error"


def test_debug_info_is_answered_before_the_debugger_has_started(shared_kernel: Kernel) -> None:
    body = shared_kernel.control("debug_request", CONTROL_REQUESTS["debug_request"]).content["body"]
    assert body["isStarted"] is False
    assert body["breakpoints"] == []
    assert {"hashMethod", "hashSeed", "tmpFilePrefix", "tmpFileSuffix"} <= set(body)


@pytest.mark.parametrize("channel", ["shell", "control"])
def test_an_unknown_message_type_gets_busy_and_idle(shared_kernel: Kernel, channel: Channel) -> None:
    for msg_type in ("no_such_request", "no_such_thing"):
        statuses = shared_kernel.send(msg_type, {}, channel=channel).wait_for_idle()
        assert [m.content["execution_state"] for m in statuses if m.type == "status"] == ["busy", "idle"]


@pytest.mark.mpkernel_only("ipykernel doesn't reply to an unknown request")
@pytest.mark.parametrize("channel", ["shell", "control"])
def test_an_unknown_request_gets_an_error_reply_of_its_name(shared_kernel: Kernel, channel: Channel) -> None:
    result = shared_kernel.request("no_such_request", {}, channel=channel)
    assert result.reply.type == "no_such_reply"
    assert result.status == "error"


@pytest.mark.mpkernel_only("its XPUB isn't verbose, so a second subscription to the same topic goes unnoticed")
def test_iopub_welcomes_each_subscription(shared_kernel: Kernel) -> None:
    for topic in (b"", b"stream."):
        with raw_socket(shared_kernel, zmq.SUB, "iopub") as socket:
            socket.subscribe(topic)
            idents, welcome = shared_kernel.session.clone().recv(socket, mode=0)
            assert idents == [topic]
            assert welcome is not None
            assert welcome["header"]["msg_type"] == "iopub_welcome"
            assert welcome["content"] == {"subscription": topic.decode()}


def test_iopub_topics_name_stream_and_kernel(shared_kernel: Kernel) -> None:
    result = shared_kernel.run("import sys; print('out'); print('err', file=sys.stderr); 1; display(2)")
    topics = {message.content.get("name", message.type): message.topic for message in result.messages}
    assert topics["stdout"] == b"stream.stdout"
    assert topics["stderr"] == b"stream.stderr"
    kernel_topic, _, name = topics["status"].rpartition(b".")
    assert kernel_topic.startswith(b"kernel.")
    assert name == b"status"
    assert topics["display_data"] == b"display_data"


def test_the_heartbeat_echoes_while_main_is_busy(kernel: Kernel) -> None:
    kernel.start()
    with raw_socket(kernel, zmq.REQ, "hb", timeout=2) as socket:
        for payload in (b"ping", b"", b"x" * 100_000):
            socket.send(payload)
            assert socket.recv() == payload
    kernel.interrupt()


def test_main_subshells_and_control_send_under_one_session(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    results = [kernel.run("print(1); 2"), kernel.run("print(1); 2", child), kernel.run("1/0", child)]
    results += [kernel.control("kernel_info_request"), kernel.request("kernel_info_request", subshell="unknown")]
    messages: list[Message] = [message for result in results for message in (*result.messages, result.reply)]
    assert {message.header["session"] for message in messages} == {kernel.kernel_session}
    ids = [message.header["msg_id"] for message in messages if message.channel == "iopub"]
    assert len(set(ids)) == len(ids)


def test_shutdown_is_answered_on_control_and_told_on_iopub(kernel: Kernel) -> None:
    pending = kernel.send("shutdown_request", {"restart": False}, channel="control")
    pending.wait_until(lambda: pending.reply is not None, "shutdown_reply")
    assert pending.reply is not None
    assert pending.reply.content == {"status": "ok", "restart": False}

    def told() -> bool:
        return any(m.type == "shutdown_reply" and m.channel == "iopub" for m in pending.messages)

    pending.wait_until(told, "shutdown_reply on iopub")


def test_completion_in_a_running_cell_and_right_after_it(kernel: Kernel) -> None:
    """The first ones of a process, perhaps two at a time."""
    for seconds in (0.05, 0.1, 0.2, 0.3, 0.4, 0.5):
        child = kernel.create_subshell()
        cell = kernel.submit(f"import time; time.sleep({seconds})", child)
        content = {"code": "str.isdi", "cursor_pos": 8}
        asked = [kernel.send("complete_request", content, subshell=child) for _ in range(2)]
        cell.wait()
        asked += [kernel.send("complete_request", content, subshell=child) for _ in range(2)]
        assert [pending.wait().content["matches"] for pending in asked] == [["isdigit"]] * 4


@pytest.mark.mpkernel_only("others may send what they publish meanwhile first")
def test_the_welcome_comes_first_while_much_is_published(kernel: Kernel) -> None:
    printing = kernel.start("print('ready')\nwhile True: print('x' * 100)")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    for _ in range(20):
        with context.socket(zmq.SUB) as late:
            late.linger = 0
            late.rcvtimeo = 20_000
            late.subscribe(b"")
            late.connect(kernel.url("iopub"))
            frames = late.recv_multipart()
            assert json.loads(frames[frames.index(b"<IDS|MSG>") + 2])["msg_type"] == "iopub_welcome"
    context.destroy(linger=0)
    kernel.interrupt()
    printing.wait()
