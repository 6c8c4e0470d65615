"""Kernels for other languages (`mpkernel.wrapper`): each subshell has an instance of the class, in its own process."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

import mpkernel

from .driver import KERNEL, Kernel, Pending, start_kernel

pytestmark = pytest.mark.skipif(KERNEL != "mpkernel", reason="mpkernel's base class")


@pytest.fixture(scope="module")
def echo() -> Iterator[Kernel]:
    with start_kernel(command=[sys.executable, "-m", "tests.kernel.echo_kernel"]) as kernel:
        yield kernel


def test_kernel_info_is_the_languages(echo: Kernel) -> None:
    info = echo.request("kernel_info_request").content
    assert (info["implementation"], info["language_info"]["name"]) == ("Echo", "echo")
    assert info["mpkernel_version"] == mpkernel.__version__  # by which `mpkernel ps` knows it
    assert info["banner"].startswith("echo, in process")
    assert "kernel subshells" in info["supported_features"]


def test_cells_are_run_by_do_execute(echo: Kernel) -> None:
    first, second = echo.run("echo hello"), echo.run("echo again")
    assert (first.status, first.stdout, second.stdout) == ("ok", "hello", "again")
    assert second.content["execution_count"] == first.content["execution_count"] + 1
    assert first.of_type("execute_input")[0]["code"] == "echo hello"


def test_each_subshell_has_its_own_process_and_state(echo: Kernel) -> None:
    child = echo.create_subshell()
    assert echo.run("pid").stdout != echo.run("pid", child).stdout
    assert echo.run("count", child).stdout == "2"
    assert echo.run("count", child).content["execution_count"] == 3


def test_the_other_requests_reach_their_methods(echo: Kernel) -> None:
    assert echo.request("complete_request", {"code": "co", "cursor_pos": 2}).content["matches"] == ["count"]
    found = echo.request("inspect_request", {"code": "pid", "cursor_pos": 1, "detail_level": 0})
    assert found.content["data"] == {"text/plain": "pid at 1"}
    assert echo.request("is_complete_request", {"code": "a\\"}).content["status"] == "incomplete"
    history = echo.request("history_request", {"hist_access_type": "tail", "output": False, "raw": True, "n": 1})
    assert history.content["history"] == [[0, 1, "tail"]]


def test_a_completion_waits_for_the_cell(echo: Kernel) -> None:
    cell = echo.submit("sleep 0.3")
    cell.wait_for_stream("asleep")
    completion = echo.send("complete_request", {"code": "p", "cursor_pos": 1})
    assert cell.wait().stdout.endswith("slept")
    assert completion.wait().content["matches"] == ["pid"]


def ask_for_completion(kernel: Kernel, code: str) -> Pending:
    return kernel.send("complete_request", {"code": code, "cursor_pos": len(code)})


@pytest.mark.parametrize(("code", "beside"), [("hang", False), ("hang", True), ("hang and await", False)])
def test_a_completion_that_hangs_can_be_interrupted(echo: Kernel, code: str, beside: bool) -> None:
    cell = echo.submit("sleep 0.3")
    if not beside:
        cell.wait()
    else:
        cell.wait_for_stream("asleep")
    completion = ask_for_completion(echo, code)
    cell.wait()

    def answered() -> bool:
        echo.interrupt()
        return completion.reply is not None

    echo.wait_until(answered, "the completion's reply")
    assert completion.wait().ename == "KeyboardInterrupt"
    assert echo.run("echo on").stdout == "on"


@pytest.mark.parametrize("beside", [False, True])
def test_a_completion_that_has_no_json_form_is_an_error(echo: Kernel, beside: bool) -> None:
    cell = echo.submit("sleep 0.3")
    if beside:
        cell.wait_for_stream("asleep")
    else:
        cell.wait()
    assert ask_for_completion(echo, "odd").wait().ename == "TypeError"
    assert cell.wait().status == "ok"


def test_what_do_execute_raises_is_the_cells_error(echo: Kernel) -> None:
    before = echo.submit("sleep 0.3")  # until the others are there
    behind = echo.submit("fail"), echo.submit("echo never")
    before.wait()
    failed, aborted = (pending.wait() for pending in behind)
    assert (failed.ename, failed.error and failed.error["ename"]) == ("ZeroDivisionError", "ZeroDivisionError")
    assert aborted.status == "aborted"


def test_an_interrupt_stops_it(echo: Kernel) -> None:
    pending = echo.submit("sleep 60")
    pending.wait_for_stream("asleep")
    echo.interrupt()
    assert pending.wait().ename == "KeyboardInterrupt"
    assert echo.run("echo on").stdout == "on"


def test_it_can_ask(echo: Kernel) -> None:
    pending = echo.submit("ask who?", allow_stdin=True)
    request = pending.wait_for_input_request()
    assert request.content["prompt"] == "who?"
    echo.answer_input(request, "me")
    assert pending.wait().stdout == "me"


def test_its_death_costs_one_cell(echo: Kernel) -> None:
    assert echo.run("exit").ename == "WorkerDied"
    assert echo.run("count").stdout == "1"


def test_do_shutdown_is_called_and_told_of_a_restart() -> None:
    with start_kernel(command=[sys.executable, "-m", "tests.kernel.echo_kernel"]) as kernel:
        kernel.run("echo")
        kernel.restart()
        kernel.run("echo")
        assert (kernel.sandbox.cwd / "shutdown").read_text().splitlines()[0] == "True"
        kernel.shut_down()
        assert (kernel.sandbox.cwd / "shutdown").read_text().splitlines()[-1] == "False"
