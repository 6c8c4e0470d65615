"""Subshells (JEP 91): made, used side by side, each with a queue, a count and a process of its own, and deleted.

https://jupyter.org/enhancement-proposals/91-kernel-subshells/kernel-subshells.html
"""

from __future__ import annotations

import os
import resource
from typing import Any

import psutil
import pytest

from .driver import KERNEL, LOOP, Kernel, Pending

SHARED_COUNT = "subshells share execution count and history"
THREADS = "a subshell is a thread of the one process"
NO_ERROR_ON_IOPUB = "an unknown subshell is told in the reply only, which a console doesn't show"


def submit_all(kernel: Kernel, cells: list[str], subshell: str | None) -> list[Pending]:
    return [kernel.submit(cell, subshell) for cell in cells]


def test_subshells_are_created_listed_and_deleted(kernel: Kernel) -> None:
    assert kernel.list_subshells() == []
    first, second = kernel.create_subshell(), kernel.create_subshell()
    assert first != second
    assert sorted(kernel.list_subshells()) == sorted([first, second])
    assert kernel.delete_subshell(first).content == {"status": "ok"}
    assert kernel.list_subshells() == [second]


def test_deleting_an_unknown_subshell_is_an_error(kernel: Kernel) -> None:
    subshell = kernel.create_subshell()
    assert kernel.delete_subshell("unknown").status == "error"
    assert kernel.delete_subshell(subshell).status == "ok"
    assert kernel.delete_subshell(subshell).status == "error"


def test_a_cell_runs_in_the_subshell_it_names(kernel: Kernel) -> None:
    first, second = kernel.create_subshell(), kernel.create_subshell()
    for subshell in (first, second):
        assert subshell[:8] in kernel.run("%subshell", subshell).stdout.partition("subshell list")[0]
    explicit = kernel.run("1 + 1", header={"subshell_id": None})  # as JupyterLab writes "main"
    assert explicit.text == "2"


def test_a_variable_set_in_one_subshell_is_there_in_the_others(kernel: Kernel) -> None:
    first, second = kernel.create_subshell(), kernel.create_subshell()
    kernel.run("shared = [1]")
    kernel.run("shared.append(2)", first)
    kernel.run("shared.append(3)", second)
    assert kernel.value("shared") == kernel.value("shared", first) == [1, 2, 3]


@pytest.mark.parametrize(
    ("msg_type", "content"),
    [
        ("kernel_info_request", {}),
        ("complete_request", {"code": "pri", "cursor_pos": 3}),
        ("inspect_request", {"code": "print", "cursor_pos": 3, "detail_level": 0}),
        ("is_complete_request", {"code": "1"}),
        ("history_request", {"raw": True, "output": False, "hist_access_type": "tail", "n": 1}),
        ("comm_info_request", {}),
    ],
)
def test_a_subshell_answers_all_shell_requests(kernel: Kernel, msg_type: str, content: dict[str, Any]) -> None:
    assert kernel.request(msg_type, content, subshell=kernel.create_subshell()).status in ("ok", "complete")


@pytest.mark.mpkernel_only(SHARED_COUNT)
def test_each_subshell_counts_its_own_executions(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    counts = [kernel.run("1", subshell).content["execution_count"] for subshell in (None, child, None, None, child)]
    assert counts == [1, 1, 2, 3, 2]


@pytest.mark.mpkernel_only(SHARED_COUNT)
def test_each_subshell_has_its_own_history(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("'in main'")
    kernel.run("'in child'", child)
    assert kernel.value("_", child) == "in child"
    assert kernel.value("_") == "in main"
    assert kernel.value("In[1]", child) == "'in child'"


@pytest.mark.mpkernel_only(THREADS)
def test_each_subshell_is_a_process(kernel: Kernel) -> None:
    shells = [None, kernel.create_subshell(), kernel.create_subshell()]
    pids = {kernel.value("__import__('os').getpid()", shell) for shell in shells}
    assert len(pids) == len(shells)
    assert pids <= {process.pid for process in kernel.processes()}


@pytest.mark.mpkernel_only(THREADS)
def test_creating_a_subshell_makes_no_process_until_its_first_request(kernel: Kernel) -> None:
    kernel.run("pass")
    before = kernel.processes()
    subshells = [kernel.create_subshell() for _ in range(10)]
    assert sorted(kernel.list_subshells()) == sorted(subshells)
    assert len(kernel.processes() - before) <= 1  # the warm spare may have been made meanwhile
    kernel.run("pass", subshells[0])
    kernel.run("pass", subshells[1])
    assert len(kernel.processes() - before) >= 1
    # For a moment there is one more, between the zygote and each process that it forks.
    kernel.wait_until(lambda: len(kernel.processes() - before) <= 3, "two processes, and the warm spare")


def test_cells_in_two_subshells_run_at_the_same_time(kernel: Kernel) -> None:
    """Each waits for a word from the other: neither could end if one ran after the other."""
    child = kernel.create_subshell()
    forth, back = kernel.sandbox.cwd / "forth", kernel.sandbox.cwd / "back"
    os.mkfifo(forth)
    os.mkfifo(back)
    asking = kernel.submit(
        f"with open({str(forth)!r}, 'w') as f: n = f.write('ping')\nprint(open({str(back)!r}).read())"
    )
    answering = kernel.submit(
        f"heard = open({str(forth)!r}).read()\nwith open({str(back)!r}, 'w') as f: n = f.write(heard + ' pong')", child
    )
    assert answering.wait().status == "ok"
    assert asking.wait().stdout == "ping pong\n"


def test_a_queue_of_cells_runs_in_order_in_each_subshell(kernel: Kernel) -> None:
    shells = [None, kernel.create_subshell(), kernel.create_subshell()]
    pendings = [(shell, kernel.submit(f"print({n})", shell)) for n in range(5) for shell in shells]
    for pending in [pending for _, pending in pendings]:
        pending.wait()
    for shell in shells:
        results = [pending.wait() for of, pending in pendings if of == shell]
        assert [result.stdout for result in results] == [f"{n}\n" for n in range(5)]
        counts = [result.content["execution_count"] for result in results]
        assert counts == sorted(counts)


@pytest.mark.parametrize("erring", ["main", "child"])
def test_an_error_aborts_the_queue_of_its_own_subshell_only(kernel: Kernel, erring: str) -> None:
    child = kernel.create_subshell()
    first, other = (None, child) if erring == "main" else (child, None)
    gates = kernel.gate("first"), kernel.gate("other")
    failing = submit_all(kernel, [gates[0].pass_through, "1/0", "x = 3", "x = 4", "x = 5"], first)
    working = submit_all(kernel, [gates[1].pass_through, "y = 2", "y = 3", "y = 4", "y = 5"], other)
    kernel.barrier()
    for gate in gates:
        gate.release()
    assert [pending.wait().status for pending in failing] == ["ok", "error", "aborted", "aborted", "aborted"]
    assert [pending.wait().status for pending in working] == ["ok"] * 5
    assert kernel.value("6 * 7", first) == 42


def test_stop_on_error_can_be_declined(kernel: Kernel, shell: str | None) -> None:
    gate = kernel.gate("gate")
    pendings = [kernel.submit(code, shell, stop_on_error=False) for code in (gate.pass_through, "1/0", "3")]
    kernel.barrier()
    gate.release()
    assert [pending.wait().status for pending in pendings] == ["ok", "error", "ok"]


@pytest.mark.parametrize("which", ["unknown", "deleted"])
def test_a_request_to_no_subshell_gets_busy_error_and_idle(kernel: Kernel, which: str) -> None:
    subshell = kernel.create_subshell()
    kernel.run("1", subshell)
    kernel.delete_subshell(subshell)
    result = kernel.run("1", subshell if which == "deleted" else "no-such-subshell")
    assert result.status == "error"
    assert result.statuses == ["busy", "idle"]
    assert result.ename == ("SubshellNotFound" if KERNEL == "mpkernel" else "UnknownSubshellError")
    assert kernel.value("6 * 7") == 42


@pytest.mark.mpkernel_only(NO_ERROR_ON_IOPUB)
def test_a_cell_for_no_subshell_shows_an_error_output(kernel: Kernel) -> None:
    result = kernel.run("1", "no-such-subshell")
    assert result.error is not None
    assert "no-such-subshell" in result.error["evalue"]
    assert kernel.request("kernel_info_request").of_type("error") == []


@pytest.mark.parametrize("busy", ["main", "child"])
@pytest.mark.mpkernel_only("these wait for the running cell")
def test_side_requests_are_answered_while_a_cell_runs(kernel: Kernel, busy: str) -> None:
    shell = kernel.create_subshell() if busy == "child" else None
    kernel.run("a_long_name = 1", shell)
    looping = kernel.start(LOOP, shell)
    completion = kernel.request("complete_request", {"code": "a_long_n", "cursor_pos": 8}, subshell=shell)
    assert completion.content["matches"] == ["a_long_name"]
    inspection = {"code": "a_long_name", "cursor_pos": 3, "detail_level": 0}
    assert kernel.request("inspect_request", inspection, subshell=shell).content["found"]
    assert kernel.request("is_complete_request", {"code": "("}, subshell=shell).status == "incomplete"
    tail = {"raw": True, "output": False, "hist_access_type": "tail", "n": 5}
    assert kernel.request("history_request", tail, subshell=shell).status == "ok"
    assert kernel.request("comm_info_request", subshell=shell).status == "ok"
    assert kernel.request("kernel_info_request", subshell=shell).status == "ok"
    assert looping.reply is None
    statuses = [m.content["execution_state"] for m in looping.messages if m.type == "status"]
    assert statuses[-1] == "busy"
    kernel.interrupt(shell)
    assert looping.wait().ename == "KeyboardInterrupt"


@pytest.mark.mpkernel_only("deleting waits for the running cell, and holds up all shells and control")
def test_deleting_a_busy_subshell_answers_at_once(kernel: Kernel) -> None:
    busy, bystander = kernel.create_subshell(), kernel.create_subshell()
    kernel.run("1", bystander)
    looping = kernel.start(LOOP, busy)
    queued = kernel.submit("never = 1", busy)
    assert kernel.delete_subshell(busy, timeout=2).status == "ok"
    assert kernel.list_subshells() == [bystander]
    assert kernel.value("6 * 7", bystander) == 42
    assert kernel.value("6 * 7") == 42
    assert looping.wait().ename == "SubshellDeleted"
    assert queued.wait().status in ("aborted", "error")
    assert kernel.run("never").ename == "NameError"


@pytest.mark.mpkernel_only("a deleted subshell's thread can't be killed")
def test_deleting_a_subshell_ends_its_process(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    pid = kernel.value("__import__('os').getpid()", child)
    kernel.delete_subshell(child)
    kernel.wait_until(lambda: pid not in {process.pid for process in kernel.processes()}, "end of the process")


def test_what_a_subshell_defined_outlives_it(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("outlives = {'a': [1, 2]}", child)
    kernel.delete_subshell(child)
    assert kernel.value("outlives") == {"a": [1, 2]}


@pytest.mark.mpkernel_only("of 160 results at once 65 arrive")
def test_no_result_is_lost_when_eight_subshells_compute_at_once(kernel: Kernel) -> None:
    subshells = [kernel.create_subshell() for _ in range(8)]
    expected = [(n * 100 + k, kernel.submit(f"{n} * 100 + {k}", s)) for k in range(20) for n, s in enumerate(subshells)]
    assert [int(pending.wait().text) for _, pending in expected] == [number for number, _ in expected]


def test_output_goes_to_the_cell_that_made_it(kernel: Kernel) -> None:
    """Two cells print in turns, handed over by fifos; each cell's output has its own parent."""
    child = kernel.create_subshell()
    gates = kernel.gate("main"), kernel.gate("child")
    pendings = [
        kernel.submit(f"for i in range(50): print({name!r}, i, flush=True)\n{gate.pass_through}", shell)
        for name, gate, shell in zip(("main", "child"), gates, (None, child), strict=True)
    ]
    for gate in gates:
        gate.release()
    for name, pending in zip(("main", "child"), pendings, strict=True):
        assert pending.wait().stdout == "".join(f"{name} {i}\n" for i in range(50))


@pytest.mark.mpkernel_only("it needs few files")
def test_many_subshells_need_many_files_and_user_code_finds_its_own_limit(kernel: Kernel) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert kernel.process.rlimit(psutil.RLIMIT_NOFILE)[0] == max(soft, min(hard, 65536))
    limit = "import resource; resource.getrlimit(resource.RLIMIT_NOFILE)"
    assert kernel.value(limit) == kernel.value(limit, kernel.create_subshell()) == (soft, hard)
