"""A process that dies costs its cell and nothing else; a kernel that ends leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .client import Client
from .driver import KERNEL, Kernel, Pending, install_kernelspec
from .sandbox import GONE_WITHIN, PATIENCE, REPOSITORY, Sandbox

ONE_PROCESS = pytest.mark.mpkernel_only("a crash loses the whole kernel")
BUSY_FOR_EVER = pytest.mark.mpkernel_only("a busy kernel waits for the front end's SIGKILL")

DEATHS = {
    "SIGKILL": "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "os._exit": "import os; os._exit(7)",
    "os._exit(0)": "import os; os._exit(0)",
    "abort": "import os; os.abort()",
    "SIGTERM from itself": "import os, signal; os.kill(os.getpid(), signal.SIGTERM); import time; time.sleep(10)",
    "in an await": "import asyncio, os; await asyncio.sleep(0.01); os._exit(7)",
    "in a thread": "import os, threading, time\nthreading.Thread(target=os._exit, args=(7,)).start()\ntime.sleep(100)",
}
PID = "__import__('os').getpid()"
LOOP = "print('looping', flush=True)\nwhile True: pass"
FRONT_END_DIED_WITHIN = 5.0 * PATIENCE  # seconds; nothing tells a kernel but a look at its parent


def start_looping(kernel: Kernel, subshell: str | None = None, code: str = LOOP) -> Pending:
    pending = kernel.submit(code, subshell)
    pending.wait_for_stream("looping")
    return pending


# --- workers ---------------------------------------------------------------------------------------------------------


@ONE_PROCESS
@pytest.mark.parametrize("death", DEATHS)
def test_a_dying_worker_costs_its_cell_only(kernel: Kernel, shell: str | None, death: str) -> None:
    bystander = kernel.create_subshell()
    kernel.run("kept = [1, 2, 3]", shell)
    kernel.run("import math", bystander)
    pids = kernel.value(PID, shell), kernel.value(PID, bystander)
    broker = kernel.process.pid

    result = kernel.run("lost = 1\nprint('before')\n" + DEATHS[death], shell)

    expected = ("WorkerDied", "Killed") if death == "SIGTERM from itself" else ("WorkerDied",)
    assert result.ename in expected
    assert result.error is not None
    assert result.error["ename"] == result.ename
    assert result.statuses[-1] == "idle"
    assert "before\n" in result.stdout
    after = kernel.run("kept", shell)
    assert (after.status, after.text) == ("ok", "[1, 2, 3]")
    assert kernel.value(PID, shell) != pids[0]
    assert kernel.value(PID, bystander) == pids[1]
    assert kernel.process.pid == broker
    assert kernel.process.is_running()


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
    looping = start_looping(kernel, shell, f"print('looping', {PID}, flush=True)\nwhile True: pass")
    os.kill(int(looping.stdout.split()[1]), signal.SIGKILL)
    assert looping.wait().ename == "WorkerDied"
    assert kernel.value("kept", shell) == "kept"
    pid = kernel.value(PID, shell)
    os.kill(pid, signal.SIGKILL)
    assert psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=GONE_WITHIN)[1] == []
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

    def sleeping() -> bool:
        return any(process.name() == "sleep" for process in kernel.processes())

    kernel.wait_until(lambda: not sleeping(), "end of the child", GONE_WITHIN)


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


@ONE_PROCESS
def test_an_out_of_memory_error_is_the_cell_s_own(kernel: Kernel, shell: str | None) -> None:
    code = "import resource\nresource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\nx = bytearray(8 << 30)"
    assert kernel.run(code, shell).ename == "MemoryError"
    assert kernel.value("6 * 7", shell) == 42


# --- the whole kernel ------------------------------------------------------------------------------------------------


@ONE_PROCESS
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_nothing_is_left_when_the_broker_is_killed(kernel: Kernel, busy: bool) -> None:
    child = kernel.create_subshell()
    for shell in (None, child):
        kernel.run("import subprocess; p = subprocess.Popen(['sleep', '100'])", shell)
        if busy:
            start_looping(kernel, shell)
    assert len(kernel.processes()) >= 3
    kernel.process.kill()
    kernel.process.wait(GONE_WITHIN)
    connection_file = Path(kernel.connection_file).relative_to(kernel.sandbox.root)
    assert kernel.sandbox.leftovers(ignore=[str(connection_file)]) == []


@pytest.fixture
def front_end_process() -> Iterator[tuple[Sandbox, subprocess.Popen[str]]]:
    """A front end of its own, that has started a kernel; not in the kernel's sandbox, as far as processes go."""
    with Sandbox() as sandbox:
        install_kernelspec(sandbox.data)
        code = (
            "import sys, time\nfrom jupyter_client.manager import KernelManager\n"
            f"manager = KernelManager(kernel_name='kernel-under-test', connection_file={str(sandbox.runtime / 'c')!r})\n"
            "manager.start_kernel(stderr=open(sys.argv[1], 'w'), cwd=sys.argv[2])\n"
            "print(manager.provisioner.pid, flush=True)\ntime.sleep(1000)"
        )
        command = [sys.executable, "-c", code, str(sandbox.log), str(sandbox.cwd)]
        with subprocess.Popen(
            command, env=sandbox.environment(), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield sandbox, process
            finally:
                process.kill()


@pytest.mark.parametrize("busy", [False, pytest.param(True, marks=BUSY_FOR_EVER)], ids=["idle", "busy"])
def test_a_kernel_goes_when_its_front_end_dies(
    front_end_process: tuple[Sandbox, subprocess.Popen[str]], busy: bool
) -> None:
    sandbox, process = front_end_process
    assert process.stdout is not None
    kernel_pid = int(process.stdout.readline())
    with Client(str(sandbox.runtime / "c")) as client:
        assert client.value("6 * 7") == 42
        child = client.create_subshell()
        client.value("6 * 7", child)
        if busy:
            for shell in (None, child):
                client.submit(LOOP, shell).wait_for_stream("looping")
    assert psutil.pid_exists(kernel_pid)
    process.kill()
    process.wait()
    files = ["runtime/c"] if KERNEL == "mpkernel" else sandbox.files()
    assert sandbox.leftovers(FRONT_END_DIED_WITHIN, ignore=files) == []


@BUSY_FOR_EVER
def test_a_shutdown_request_alone_ends_a_kernel_that_is_busy_everywhere(kernel: Kernel) -> None:
    for shell in (None, kernel.create_subshell(), kernel.create_subshell()):
        start_looping(kernel, shell)
    before = time.monotonic()
    assert kernel.shut_down() == []
    assert time.monotonic() - before < GONE_WITHIN


@BUSY_FOR_EVER
@pytest.mark.parametrize(
    "code",
    [
        "import signal\nfor s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\n" + LOOP,
        "print('looping', flush=True)\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "import ctypes\nprint('looping', flush=True)\nctypes.PyDLL(None).sleep(100)",
        "import subprocess\np = subprocess.Popen(['sh', '-c', \"trap '' INT TERM; sleep 100\"])\n" + LOOP,
    ],
    ids=["signals ignored", "exceptions swallowed", "GIL held in C", "stubborn child"],
)
def test_a_shutdown_request_alone_ends_stubborn_code(kernel: Kernel, shell: str | None, code: str) -> None:
    start_looping(kernel, shell, code)
    assert kernel.shut_down() == []


@pytest.mark.parametrize("busy", [False, pytest.param(True, marks=BUSY_FOR_EVER)], ids=["idle", "busy"])
def test_sigterm_ends_a_kernel(kernel: Kernel, busy: bool) -> None:
    kernel.run("pass")
    if busy:
        start_looping(kernel)
    kernel.processes()
    kernel.process.terminate()
    kernel.process.wait(GONE_WITHIN)
    assert kernel.sandbox.leftovers(ignore=kernel.sandbox.files() if KERNEL == "ipykernel" else ["runtime"]) == []


def test_atexit_functions_run_at_shutdown(kernel: Kernel) -> None:
    shells = [None] if KERNEL == "ipykernel" else [None, kernel.create_subshell()]
    for n, shell in enumerate(shells):
        path = kernel.sandbox.cwd / f"exited-{n}"
        kernel.run(f"import atexit, pathlib; f = atexit.register(pathlib.Path({str(path)!r}).write_text, 'x')", shell)
    kernel.shut_down()
    assert [path.name for path in sorted(kernel.sandbox.cwd.glob("exited-*"))] == [
        f"exited-{n}" for n in range(len(shells))
    ]


def test_a_restarted_kernel_is_fresh_and_has_no_subshells(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("old = 1", child)
    session, pid = kernel.kernel_session, kernel.process.pid
    kernel.restart()
    assert kernel.list_subshells() == []
    assert kernel.run("old").ename == "NameError"
    assert kernel.run("1", child).status == "error"
    assert kernel.kernel_session != session
    assert kernel.process.pid != pid
    assert kernel.value("6 * 7", kernel.create_subshell()) == 42
