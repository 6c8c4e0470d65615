"""``mpkernel ps``, ``interrupt``, ``new``, ``delete``, ``run`` and ``trace``, from the command line and from a cell."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import Any

import pytest

from mpkernel import messages
from mpkernel.broker.events import DumpStacks, StartWorker

from .bench import Kernel, code_of


@pytest.mark.parametrize("op", [None, "", "no such", 3, [], {"op": "ps"}])
def test_an_unknown_op_is_an_error_that_names_the_known_ones(kernel: Kernel, op: object) -> None:
    reply = kernel.reply(kernel.op(op))
    assert reply["ename"] == "BadMessage"
    for known in ("ps", "interrupt", "kill", "new", "delete", "trace", "run"):
        assert known in reply["evalue"]


def test_each_op_is_documented_with_its_arguments(kernel: Kernel) -> None:
    page = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
    known = kernel.reply(kernel.op("no such"))["evalue"].rpartition("there are ")[2].split(", ")
    documented = re.findall(r"^\| `(\w+)` \| .+ \| .+ \|$", page.partition("| op |")[2], re.MULTILINE)
    assert documented == [op for op in known if op != "shutdown"]  # that one is for cells alone


@pytest.mark.parametrize("op", ["interrupt", "kill", "delete", "trace"])
@pytest.mark.parametrize("target", ["nobody", None, 3, [], {}])
def test_an_unknown_target_is_an_error_that_names_the_known_ones(kernel: Kernel, op: str, target: object) -> None:
    child, named = kernel.create(), kernel.create("plotter")
    reply = kernel.reply(kernel.op(op, subshell=target))
    assert reply["ename"] == "SubshellNotFound"
    assert repr(target) in reply["evalue"]
    assert f"main, {child}, plotter" in reply["evalue"]
    assert named in kernel.ps()


def test_a_target_is_main_an_id_or_a_name(kernel: Kernel) -> None:
    child = kernel.create("plotter")
    for subshell in (None, child):
        kernel.running(f"in {subshell}", subshell)
    cells = [kernel.reply(kernel.op("interrupt", subshell=target))["cell"] for target in ("main", child, "plotter")]
    assert cells == ["in None", f"in {child}", f"in {child}"]


def test_ops_are_answered_with_busy_and_idle_while_cells_run(kernel: Kernel) -> None:
    cell = kernel.running()
    request = kernel.op("ps")
    assert kernel.story(request) == ["busy", "mpkernel_reply", "idle"]
    assert kernel.iopub_states()[-1] == ("busy", cell.id)


# --- ps -------------------------------------------------------------------------------------------------------------


def test_ps_tells_of_the_kernel(kernel: Kernel) -> None:
    kernel.pass_time(5)
    assert kernel.reply(kernel.op("ps"))["kernel"] == {"pid": 4999, "version": "1.2.3", "age_s": 5.0}


def test_ps_shows_the_running_cell_by_its_first_line(kernel: Kernel) -> None:
    kernel.running("\n  \nfirst()\nsecond()")
    kernel.execute()
    kernel.pass_time(2.5)
    row = kernel.ps()["main"]
    assert (row["state"], row["cell"], row["queued"]) == ("busy", "first()", 1)
    assert (row["busy_s"], row["idle_s"]) == (2.5, None)
    assert row["pid"] == kernel.worker().pid


def test_ps_shows_since_when_a_subshell_is_idle(kernel: Kernel) -> None:
    kernel.running()
    kernel.pass_time(1)
    kernel.worker().reply()
    kernel.pass_time(2)
    row = kernel.ps()["main"]
    assert (row["state"], row["cell"], row["idle_s"], row["busy_s"]) == ("idle", None, 2.0, None)
    assert row["execution_count"] == 1


def test_ps_shows_the_state_of_each_subshell(kernel: Kernel) -> None:
    def state() -> str:
        return str(kernel.ps()[child]["state"])

    child = kernel.create()
    seen = [state()]
    kernel.execute(subshell=child)
    seen.append(state())
    kernel.worker(child).hello()
    seen.append(state())
    kernel.worker(child).reply()
    seen.append(state())
    kernel.op("kill", subshell=child)
    seen.append(state())
    kernel.worker(child).die()
    kernel.worker(child).die(1)
    seen.append(state())
    assert seen == ["lazy", "starting", "busy", "idle", "stopping", "dead"]


@pytest.mark.parametrize("content", [{"code": 3}, {"code": None}, {"code": ""}, {}, []])
def test_ps_survives_any_cell(kernel: Kernel, content: object) -> None:
    worker = kernel.ready()
    kernel.ask("execute_request", content)
    worker.start()
    assert kernel.ps()["main"]["cell"] in (None, "")


# --- interrupt ------------------------------------------------------------------------------------------------------


def test_interrupt_tells_what_it_interrupted(kernel: Kernel) -> None:
    kernel.running("while True: pass")
    reply = kernel.reply(kernel.op("interrupt"))
    assert reply == {"status": "ok", "interrupted": True, "cell": "while True: pass"}
    assert kernel.worker().signals == [signal.SIGINT]


def test_interrupt_of_an_idle_subshell_says_so(kernel: Kernel) -> None:
    kernel.ready()
    assert kernel.reply(kernel.op("interrupt")) == {"status": "ok", "interrupted": False, "cell": None}


# --- new, delete ----------------------------------------------------------------------------------------------------


def test_new_makes_a_subshell_and_tells_its_id(kernel: Kernel) -> None:
    reply = kernel.reply(kernel.op("new", name="plotter"))
    assert kernel.ps()[reply["subshell"]]["name"] == "plotter"
    assert kernel.reply(kernel.op("new"))["name"] is None


@pytest.mark.parametrize("name", ["", "a/b", "/", 3, [], True])
def test_a_name_that_can_not_be_typed_is_refused(kernel: Kernel, name: object) -> None:
    reply = kernel.reply(kernel.op("new", name=name))
    assert reply["ename"] == "BadMessage"
    assert repr(name) in reply["evalue"]
    assert list(kernel.ps()) == ["main"]


@pytest.mark.parametrize("name", ["main", "taken", "subshell-1"])
def test_a_name_is_given_once(kernel: Kernel, name: str) -> None:
    kernel.create("taken")
    for request in (kernel.op("new", name=name), kernel.control("create_subshell_request", {"name": name})):
        assert "already" in kernel.reply(request)["evalue"]
    assert len(kernel.ps()) == 2


def test_delete_tells_how_many_requests_were_aborted(kernel: Kernel) -> None:
    child = kernel.create()
    cell = kernel.running(subshell=child)
    queued = kernel.execute(subshell=child)
    worker = kernel.worker(child)
    assert kernel.reply(kernel.op("delete", subshell=child)) == {"status": "ok", "aborted": 1}
    assert (kernel.reply(cell)["ename"], kernel.status(queued)) == ("SubshellDeleted", "aborted")
    worker.release()
    assert worker.signals == [signal.SIGTERM]
    assert list(kernel.ps()) == ["main"]


@pytest.mark.parametrize("content", [{"subshell": "main"}, {}])
def test_main_can_not_be_deleted(kernel: Kernel, content: dict[str, str]) -> None:
    assert kernel.reply(kernel.op("delete", **content))["ename"] == "RequestFailed"


# --- run ------------------------------------------------------------------------------------------------------------


def test_run_queues_code_and_answers_at_once(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.ready(child)
    assert kernel.reply(kernel.op("run", code="plot()", subshell=child)) == {"status": "ok", "subshell": child}
    assert kernel.worker(child).cell == "plot()"
    assert kernel.ps()[child]["cell"] == "plot()"


def test_run_makes_a_subshell_of_that_name_once(kernel: Kernel) -> None:
    for _ in range(2):
        kernel.op("run", code="plot()", subshell="plotter")
    assert [row["name"] for row in kernel.ps().values()] == [None, "plotter"]
    [child] = [row["subshell"] for row in kernel.ps().values() if row["name"]]
    assert kernel.ps()[child]["queued"] == 2


@pytest.mark.parametrize("content", [{}, {"code": "1"}, {"subshell": "a"}, {"code": 1, "subshell": "a"}])
def test_run_needs_code_and_a_subshell(kernel: Kernel, content: dict[str, Any]) -> None:
    assert kernel.reply(kernel.op("run", **content))["ename"] == "BadMessage"
    assert list(kernel.ps()) == ["main"]


@pytest.mark.parametrize("parent", ["text", 3, [], ["a"], True])
def test_the_cell_whose_output_it_is_must_be_a_header(kernel: Kernel, parent: object) -> None:
    reply = kernel.reply(kernel.op("run", code="1", subshell="main", parent=parent))
    assert reply["ename"] == "BadMessage"


def test_the_output_of_code_that_is_run_goes_to_the_asking_cell(kernel: Kernel) -> None:
    asking = kernel.running()
    main, child = kernel.worker(), kernel.create()
    kernel.ready(child)
    kernel.clear()
    main.op("run", code="print(1)", subshell=child, parent=asking.message.header)
    kernel.worker(child).print("1")
    assert kernel.sent("iopub", "stream")[0].parent == asking.id


def test_nobody_gets_the_reply_to_code_that_is_run(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.ready(child)
    kernel.op("run", code="1", subshell=child)
    kernel.clear()
    kernel.worker(child).reply()
    assert [sent.type for sent in kernel.sent()] == ["status"]
    assert kernel.state == "idle"


@pytest.mark.parametrize("end", ["deletion", "shutdown"])
def test_nobody_gets_a_reply_when_code_that_is_run_ends_with_its_process(kernel: Kernel, end: str) -> None:
    child = kernel.create()
    kernel.ready(child)
    for _ in range(2):
        kernel.op("run", code="1", subshell=child)
    kernel.clear()
    request = kernel.delete(child) if end == "deletion" else kernel.control("shutdown_request")
    assert [sent.parent for sent in kernel.sent("control")] == [request.id]
    assert kernel.state == "idle"


def test_code_behind_code_that_ends_with_its_process_is_run(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.ready(child)
    for code in ("os._exit(1)", "next"):
        kernel.op("run", code=code, subshell=child)
    kernel.worker(child).die(1)
    assert kernel.worker(child).hello().cell == "next"


def test_an_error_of_code_that_was_run_is_shown_under_the_asking_cell(kernel: Kernel) -> None:
    asking = kernel.running()
    child = kernel.create()
    kernel.ready(child)
    kernel.worker().op("run", code="1", subshell=child, parent=asking.message.header)
    kernel.worker(child).die()
    [shown] = kernel.sent("iopub", "error")
    assert shown.parent == asking.id


def test_code_that_comes_within_the_stop_on_error_timeout_is_dropped() -> None:
    kernel = Kernel(stop_on_error_timeout=1.0)
    child = kernel.create()
    worker = kernel.ready(child)
    kernel.execute("1/0", child)
    worker.reply("error", abort=True)
    assert kernel.status(kernel.op("run", code="1", subshell=child)) == "ok"
    assert worker.running is None


# --- from a cell ----------------------------------------------------------------------------------------------------


def test_a_cell_gets_the_answer_and_no_status_is_shown_for_it(kernel: Kernel) -> None:
    kernel.running()
    kernel.clear()
    token = kernel.worker().op("ps")
    assert [row["subshell"] for row in kernel.worker().op_reply(token)["subshells"]] == ["main"]
    assert kernel.sent() == []


def test_a_cell_may_ask_whether_another_process_is_there(kernel: Kernel) -> None:
    child = kernel.create()
    main, other = kernel.ready(), kernel.ready(child)
    kernel.running()

    def is_alive(worker: object) -> object:
        return main.op_reply(main.op("alive", worker=worker))["alive"]

    assert [is_alive(worker) for worker in (other.id, 4711, None, [])] == [True, False, False, False]
    other.die()
    assert is_alive(other.id) is False


@pytest.mark.parametrize(("op", "content"), [("no such", {}), ("delete", {"subshell": "nobody"})])
def test_a_cell_gets_an_error_as_a_reply(kernel: Kernel, op: str, content: dict[str, str]) -> None:
    kernel.running()
    assert kernel.worker().op_reply(kernel.worker().op(op, **content))["status"] == "error"


def test_a_cell_can_interrupt_another_subshell(kernel: Kernel) -> None:
    child = kernel.create("trainer")
    kernel.running(subshell=child)
    kernel.running()
    reply = kernel.worker().op_reply(kernel.worker().op("interrupt", subshell="trainer"))
    assert reply["interrupted"] is True
    assert kernel.worker(child).signals == [signal.SIGINT]


def test_a_cell_can_not_queue_code_in_its_own_subshell(kernel: Kernel) -> None:
    kernel.running()
    assert kernel.worker().op_reply(kernel.worker().op("run", code="1", subshell="main"))["ename"] == "RequestFailed"


def test_a_cell_can_run_code_in_a_new_subshell(kernel: Kernel) -> None:
    kernel.running()
    reply = kernel.worker().op_reply(kernel.worker().op("run", code="plot()", subshell="plotter"))
    child = kernel.worker(reply["subshell"]).hello()
    assert [code_of(request) for request in child.got(messages.Request)] == ["plot()"]


def test_a_cell_that_deletes_its_own_subshell_is_gone(kernel: Kernel) -> None:
    child = kernel.create()
    cell = kernel.running(subshell=child)
    kernel.worker(child).op("delete", subshell=child)
    assert kernel.reply(cell)["ename"] == "SubshellDeleted"


def test_a_cell_whose_process_is_gone_gets_no_answer(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.running(subshell=child)
    kernel.running()
    asking = kernel.worker(child)
    asking.op("trace", subshell="main")
    asking.die()
    kernel.dump("stacks")
    assert asking.got(messages.OpReply) == []


# --- trace ----------------------------------------------------------------------------------------------------------


def test_trace_tells_the_stacks_when_they_are_there(kernel: Kernel) -> None:
    kernel.running()
    request = kernel.op("trace", subshell="main")
    assert kernel.story(request) == ["busy"]
    assert kernel.done(DumpStacks)[0].worker == kernel.worker().id
    kernel.dump("Thread 0x1")
    assert kernel.reply(request) == {"status": "ok", "text": "Thread 0x1"}


def test_trace_of_a_subshell_without_process_says_so(kernel: Kernel) -> None:
    child = kernel.create()
    assert "no process" in kernel.reply(kernel.op("trace", subshell=child))["text"]
    assert "no process" in kernel.reply(kernel.op("trace", subshell="main"))["text"]  # it isn't ready


@pytest.mark.parametrize("end", ["death", "shutdown"])
def test_trace_is_answered_if_the_process_ends(kernel: Kernel, end: str) -> None:
    kernel.running()
    request = kernel.op("trace", subshell="main")
    worker = kernel.worker()
    if end == "shutdown":
        kernel.control("shutdown_request")
    worker.die()
    assert kernel.status(request) == "ok"
    kernel.dump("too late")
    kernel.check(all_answered=end == "shutdown")


def test_an_op_makes_no_process(kernel: Kernel) -> None:
    child = kernel.create()
    kernel.clear()
    for op in ("interrupt", "kill", "trace", "delete"):
        kernel.op(op, subshell=child)
    assert kernel.done(StartWorker) == []
