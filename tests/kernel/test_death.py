"""A worker process that dies costs its cell and nothing else."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from .driver import LOOP, Kernel, start_kernel
from .sandbox import GONE_WITHIN, REPOSITORY

ONE_PROCESS = pytest.mark.mpkernel_only("a crash loses the whole kernel")

DEATHS = {
    "SIGKILL": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "os._exit": "import os; os._exit(7)",
    "os._exit(0)": "import os; os._exit(0)",
    "abort": "import os; os.abort()",
    "SIGTERM from itself": "import os, signal; os.kill(os.getpid(), signal.SIGTERM); import time; time.sleep(10)",
    "another program in its place": "import os; os.execvp('sleep', ['sleep', '100'])",
    "in an await": "import asyncio, os; await asyncio.sleep(0.01); os._exit(7)",
    "in a thread": "import os, threading, time\nthreading.Thread(target=os._exit, args=(7,)).start()\ntime.sleep(100)",
}
PID = "__import__('os').getpid()"


@ONE_PROCESS
@pytest.mark.parametrize("death", DEATHS)
def test_a_dying_worker_costs_its_cell_only(kernel: Kernel, shell: str | None, death: str) -> None:
    bystander = kernel.create_subshell()
    kernel.run("kept = [1, 2, 3]", shell)
    kernel.run("import math", bystander)
    pids = kernel.value(PID, shell), kernel.value(PID, bystander)
    broker = kernel.process.pid

    result = kernel.run("lost = 1\n" + DEATHS[death], shell)

    expected = ("WorkerDied", "Killed") if death == "SIGTERM from itself" else ("WorkerDied",)
    assert result.ename in expected
    assert "SIGTERM" in result.content["evalue"] or result.ename == "WorkerDied"
    assert result.error is not None
    assert result.error["ename"] == result.ename
    assert result.statuses[-1] == "idle"
    after = kernel.run("kept", shell)
    assert (after.status, after.text) == ("ok", "[1, 2, 3]")
    assert kernel.value(PID, shell) != pids[0]
    assert kernel.value(PID, bystander) == pids[1]
    assert kernel.process.pid == broker
    assert kernel.process.is_running()


@pytest.mark.mpkernel_only("nothing is loaded there")
def test_a_value_that_ends_who_loads_it_ends_one_process(kernel: Kernel) -> None:
    """It is sent to nobody thereafter, whatever becomes of it, until its name is bound to another."""
    others = [kernel.create_subshell(), kernel.create_subshell()]
    kernel.run("kept = 1")
    assert [kernel.value("kept", other) for other in others] == [1, 1]
    kernel.run(
        "import os\nclass Bomb:\n    def __reduce__(self): return os._exit, (3,)\nbomb = Bomb(); box = [bomb, 1]"
    )
    died = kernel.run("kept", others[0])
    assert died.ename == "WorkerDied"
    assert "bomb, box" in "".join(died.content["traceback"])
    for change in ("kept = 2", "box.append(2)", "kept = 3"):
        kernel.run(change)
        assert [kernel.run("kept", other).status for other in (*others, kernel.create_subshell())] == ["ok"] * 3
    assert kernel.value("kept", others[0]) == 3
    asked = kernel.run("box", others[0])
    assert asked.ename == "NameError"
    assert "box from another subshell can't be had here: a process that loaded it has ended" in asked.stderr
    assert kernel.value("len(box)") == 3
    kernel.run("box = [1, 2]; bomb = 5")
    assert [kernel.value("box, bomb", other) for other in others] == [([1, 2], 5)] * 2


@pytest.mark.mpkernel_only("nothing is loaded there")
def test_a_value_that_ends_who_loads_it_is_lost_with_its_owner(kernel: Kernel) -> None:
    other = kernel.create_subshell()
    kernel.run("kept = 1")
    kernel.run("import os\nclass Bomb:\n    def __reduce__(self): return os._exit, (3,)\nbomb = Bomb()")
    kernel.run("os._exit(7)")
    for subshell in (None, other):
        kernel.run("pass", subshell)  # the first of them dies
    assert [kernel.value("kept", subshell) for subshell in (None, other)] == [1, 1]
    assert kernel.run("bomb").ename == "NameError"


@ONE_PROCESS
def test_the_error_says_what_happened_and_what_was_lost(kernel: Kernel) -> None:
    kernel.run("kept = 1")
    killed = kernel.run(DEATHS["SIGKILL"])
    assert "SIGKILL" in killed.content["evalue"] + killed.traceback
    exited = kernel.run(DEATHS["os._exit"])
    assert "7" in exited.content["evalue"]
    crashed = kernel.run(DEATHS["segfault"])
    assert "SIGSEGV" in crashed.content["evalue"] + crashed.traceback
    assert "string_at" in crashed.traceback  # from faulthandler


@ONE_PROCESS
@pytest.mark.parametrize("death", ["SIGKILL", "segfault", "os._exit"])
@pytest.mark.parametrize("say", ["print('last words', flush=True)", "import os; n = os.write(1, b'last words\\n')"])
def test_the_last_words_of_a_dying_worker_are_shown(kernel: Kernel, say: str, death: str) -> None:
    for _ in range(5):
        assert kernel.run(f"{say}\n{DEATHS[death]}").stdout == "last words\n"


@ONE_PROCESS
def test_the_next_process_works_in_the_folder_of_the_last_one(kernel: Kernel, shell: str | None) -> None:
    kernel.run("import os; os.makedirs('inner', exist_ok=True); os.chdir('inner')", shell)
    before = kernel.value("os.getcwd()", shell)
    kernel.run(DEATHS["SIGKILL"], shell)
    assert kernel.value("os.getcwd()", shell) == before
    kernel.run("os.chdir('..')", shell)


@ONE_PROCESS
def test_the_execution_count_goes_on_after_a_death(kernel: Kernel, shell: str | None) -> None:
    counts = [kernel.run(code, shell).reply.content.get("execution_count") for code in ("1", DEATHS["SIGKILL"], "2")]
    assert counts[0] == 1
    assert counts[2] == 3


@ONE_PROCESS
def test_the_queue_behind_a_dying_cell_is_aborted(kernel: Kernel, shell: str | None) -> None:
    gate = kernel.gate("gate")
    dying = kernel.submit(f"{gate.pass_through}\n{DEATHS['SIGKILL']}", shell)
    queued = [kernel.submit(f"late = {n}", shell) for n in range(3)]
    kernel.barrier()
    gate.release()
    assert dying.wait().ename == "WorkerDied"
    assert [pending.wait().status for pending in queued] == ["aborted"] * 3
    assert kernel.run("late", shell).ename == "NameError"


@ONE_PROCESS
def test_a_worker_killed_from_outside_while_busy_or_idle_is_replaced(kernel: Kernel, shell: str | None) -> None:
    kernel.run("kept = 'kept'", shell)
    pid = kernel.value(PID, shell)
    looping = kernel.start(LOOP, shell)
    os.kill(pid, signal.SIGKILL)
    assert looping.wait().ename == "WorkerDied"
    assert kernel.value("kept", shell) == "kept"
    pid = kernel.value(PID, shell)
    os.kill(pid, signal.SIGKILL)
    kernel.wait_until(lambda: not psutil.pid_exists(pid), "end of the process", GONE_WITHIN)
    assert kernel.value("kept", shell) == "kept"


@ONE_PROCESS
def test_workers_may_die_ten_times_in_turn(kernel: Kernel, shell: str | None) -> None:
    kernel.run("kept = []", shell)
    for n in range(10):
        kernel.run(f"kept.append({n})", shell)
        assert kernel.run(DEATHS["SIGKILL"], shell).ename == "WorkerDied"
    assert kernel.value("kept", shell) == list(range(10))


@ONE_PROCESS
def test_the_children_of_a_dead_worker_die_with_it(kernel: Kernel) -> None:
    code = "import subprocess\np = subprocess.Popen(['sleep', '100'])\n"
    assert kernel.run(code + DEATHS["SIGKILL"]).ename == "WorkerDied"

    kernel.wait_until(lambda: "sleep" not in kernel.told(psutil.Process.name), "end of the child", GONE_WITHIN)


@ONE_PROCESS
def test_a_pending_input_dies_with_its_worker(kernel: Kernel) -> None:
    pid = kernel.value(PID)
    asking = kernel.submit("input('first? ')", allow_stdin=True)
    stale = asking.wait_for_input_request()
    os.kill(pid, signal.SIGKILL)
    assert asking.wait().ename == "WorkerDied"
    again = kernel.submit("print(input('second? '))", allow_stdin=True)
    request = again.wait_for_input_request()
    kernel.answer_input(stale, "to the dead")
    kernel.answer_input(request, "to the living")
    assert again.wait().stdout == "to the living\n"


def test_an_out_of_memory_error_is_the_cell_s_own(kernel: Kernel, shell: str | None) -> None:
    code = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\nx = bytearray(8 << 30)"
    assert kernel.run(code, shell).ename == "MemoryError"
    assert kernel.value("6 * 7", shell) == 42


@ONE_PROCESS
def test_a_worker_that_can_not_start_is_told_of(tmp_path: Path) -> None:
    """Here because IPython is broken; the broker doesn't need it."""
    (tmp_path / "IPython").mkdir()
    (tmp_path / "IPython" / "__init__.py").write_text("raise ImportError('IPython is broken here')")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    with start_kernel(env={"PYTHONPATH": path}) as kernel:
        for _ in range(2):
            result = kernel.run("1")
            assert result.ename == "WorkerStartFailed"
            assert result.error is not None
        assert kernel.control("kernel_info_request").status == "ok"
        assert kernel.sandbox.log_tail().count("IPython is broken here") < 20  # not tried again and again
