"""Interrupts stop the cell they are meant for, whatever it is doing, and nothing else."""

from __future__ import annotations

import os
import random
import time

import psutil
import pytest

from .driver import KERNEL, READY, Kernel, Pending, Result
from .sandbox import PATIENCE, poll_until

SOON = 5.0 * PATIENCE  # seconds in which an interrupted cell must have ended; it would run for 100

NEVER_IN_A_CHILD = "an interrupt never reaches a subshell"
NOT_ALONE = "a lone await is interrupted at the next message only"
ONLY_MAIN = "an interrupt always goes to main"

BLOCKING = {
    "time.sleep": f"import time\n{READY}time.sleep(100)",
    "a loop": f"{READY}while True: pass",
    "a loop in a function": f"def f():\n    while True: sum(range(100))\n{READY}f()",
    "a lock": f"import threading; lock = threading.Lock(); lock.acquire()\n{READY}lock.acquire()",
    "a pipe": f"import os\nends = os.pipe()\n{READY}os.read(ends[0], 1)",
    "numpy": f"import numpy\na = numpy.random.rand(300, 300)\n{READY}while True: a = a @ a; a /= a.max()",
    "subprocess.run": "import subprocess\nsubprocess.run(['sh', '-c', 'echo ready; exec sleep 100'])",
    "printing": "while True: print('ready', flush=True)",
    "a comprehension": f"{READY}[sum(range(i)) for i in range(10**9)]",
}
AWAITING = {
    "await": f"import asyncio\n{READY}await asyncio.sleep(100)",
    "await future": f"import asyncio\n{READY}await asyncio.get_running_loop().create_future()",
    "TaskGroup": (
        f"import asyncio\nasync with asyncio.TaskGroup() as g:\n"
        f"    tasks = [g.create_task(asyncio.sleep(100)) for _ in range(3)]\n    {READY}"
    ),
    "busy await": f"import asyncio\n{READY}while True: await asyncio.sleep(0)",
}
SHELLING_OUT = {
    "subprocess.run": BLOCKING["subprocess.run"],
    "os.system": "import os\nx = os.system('echo ready; exec sleep 100')",
    "!": "!echo ready; exec sleep 100",
}
KEEP_SIGNALS_OUT = [
    "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "for s in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}: signal.signal(s, signal.SIG_IGN)",
    "resource.setrlimit(resource.RLIMIT_SIGPENDING, (0, 0))",
    "signal.set_wakeup_fd(-1)",
]
CODES = BLOCKING | AWAITING
CASES = [
    *(pytest.param(name, None, id=f"{name}-main") for name in BLOCKING),
    *(pytest.param(name, None, id=f"{name}-main", marks=pytest.mark.mpkernel_only(NOT_ALONE)) for name in AWAITING),
    *(
        pytest.param(name, "child", id=f"{name}-child", marks=pytest.mark.mpkernel_only(NEVER_IN_A_CHILD))
        for name in CODES
    ),
]

IN_BOTH = pytest.mark.parametrize(
    "where", ["main", pytest.param("child", marks=pytest.mark.mpkernel_only(NEVER_IN_A_CHILD))]
)
BY_BOTH = pytest.mark.parametrize("how", ["message", "signal"])


def interrupt(kernel: Kernel, how: str, subshell: str | None) -> None:
    """By `interrupt_request`, or by a signal, which can't say what it is for."""
    if how == "message":
        assert kernel.interrupt(subshell).status == "ok"
    else:
        kernel.interrupt_by_signal()


def check_interrupted(pending: Pending) -> Result:
    """The cell ended soon with a KeyboardInterrupt whose traceback shows the user's frames only."""
    result = pending.wait(SOON)
    assert result.ename == "KeyboardInterrupt", str(result)
    assert result.error is not None
    assert result.error["ename"] == "KeyboardInterrupt"
    assert "KeyboardInterrupt" in result.traceback
    between_statements = ", line " not in result.traceback  # then there's no frame of the user's
    assert "Cell In[" in result.traceback or between_statements
    assert "/mpkernel/" not in result.traceback
    assert "IPython/core" not in result.traceback
    return result


def check_works(kernel: Kernel, *subshells: str | None) -> None:
    for subshell in subshells:
        assert kernel.value("6 * 7", subshell) == 42


@pytest.mark.parametrize(("name", "where"), CASES)
@BY_BOTH
def test_an_interrupt_stops(shared_kernel: Kernel, name: str, where: str | None, how: str) -> None:
    subshell = shared_kernel.create_subshell() if where else None
    pending = shared_kernel.start(CODES[name], subshell)
    interrupt(shared_kernel, how, subshell)
    check_interrupted(pending)
    check_works(shared_kernel, subshell, None)


@IN_BOTH
@BY_BOTH
@pytest.mark.parametrize("code", SHELLING_OUT.values(), ids=SHELLING_OUT)
def test_an_interrupt_ends_the_children_of_the_cell(kernel: Kernel, where: str, how: str, code: str) -> None:
    subshell = kernel.create_subshell() if where == "child" else None
    pending = kernel.start(code, subshell)

    def asleep() -> list[psutil.Process]:
        return [of for of, line in kernel.told(lambda of: (of, of.cmdline())) if line == ["sleep", "100"]]

    assert poll_until(lambda: len(asleep()) == 1, SOON), "the shell that starts it may not have come to that yet"
    sleeping = asleep()
    interrupt(kernel, how, subshell)
    result = pending.wait(SOON)
    # os.system ignores SIGINT while it waits, as C's system() does: the cell ends, but as if nothing had been
    assert result.ename == "KeyboardInterrupt" or code != BLOCKING["subprocess.run"]
    assert psutil.wait_procs(sleeping, timeout=SOON)[1] == []


@IN_BOTH
def test_an_interrupt_cancels_an_input_request(kernel: Kernel, where: str) -> None:
    subshell = kernel.create_subshell() if where == "child" else None
    pending = kernel.submit("x = input('first? ')", subshell, allow_stdin=True)
    stale = pending.wait_for_input_request()
    kernel.interrupt(subshell)
    check_interrupted(pending)
    again = kernel.submit("x = input('second? '); print(x)", subshell, allow_stdin=True)
    request = again.wait_for_input_request()
    assert request.content["prompt"] == "second? "
    if KERNEL == "mpkernel":  # ipykernel takes whatever comes
        kernel.answer_input(stale, "answer to the first")
    kernel.answer_input(request, "answer to the second")
    assert again.wait().stdout == "answer to the second\n"


@BY_BOTH
def test_an_interrupt_of_an_idle_kernel_does_nothing_to_the_next_cell(
    kernel: Kernel, shell: str | None, how: str
) -> None:
    for _ in range(25):
        interrupt(kernel, how, shell)
        check_works(kernel, shell)


@IN_BOTH
def test_an_interrupt_leaves_other_subshells_alone(kernel: Kernel, where: str) -> None:
    child, bystander = kernel.create_subshell(), kernel.create_subshell()
    target, spared = (None, child) if where == "main" else (child, None)
    gates = kernel.gate("spared"), kernel.gate("bystander")
    others = [kernel.start(READY + g.pass_through, s) for g, s in zip(gates, (spared, bystander), strict=True)]
    pending = kernel.start(BLOCKING["a loop"], target)
    kernel.interrupt(target)
    check_interrupted(pending)
    for gate in gates:
        gate.release()
    assert [other.wait().status for other in others] == ["ok", "ok"]


@pytest.mark.mpkernel_only(NEVER_IN_A_CHILD)
@pytest.mark.parametrize("channel", ["control", "shell"])
@pytest.mark.parametrize("place", ["header", "content"])
def test_an_interrupt_may_name_its_subshell_in_header_or_content(kernel: Kernel, channel: str, place: str) -> None:
    first, last = kernel.create_subshell(), kernel.create_subshell()
    pendings = [kernel.start(BLOCKING["time.sleep"], subshell) for subshell in (first, last)]
    kernel.request(
        "interrupt_request",
        {"subshell_id": first} if place == "content" else {},
        channel="control" if channel == "control" else "shell",
        subshell=first if place == "header" else None,
    )
    check_interrupted(pendings[0])
    assert pendings[1].reply is None
    kernel.interrupt(last)
    check_interrupted(pendings[1])


@pytest.mark.mpkernel_only(ONLY_MAIN)
@BY_BOTH
def test_without_a_name_the_cell_started_last_is_hit_then_the_one_before(kernel: Kernel, how: str) -> None:
    shells = [kernel.create_subshell(), None, kernel.create_subshell()]
    pendings = [kernel.start(BLOCKING["a loop"], subshell) for subshell in shells]
    for latest in reversed(pendings):
        assert latest.reply is None
        interrupt(kernel, how, None)
        check_interrupted(latest)
    check_works(kernel, *shells)


def test_an_interrupt_aborts_the_queue_behind_the_cell(kernel: Kernel) -> None:
    pending = kernel.start(BLOCKING["a loop"], None)
    queued = [kernel.submit("1"), kernel.submit("2")]
    kernel.barrier()
    kernel.interrupt()
    check_interrupted(pending)
    assert [other.wait().status for other in queued] == ["aborted", "aborted"]
    check_works(kernel, None)


def test_a_cell_may_catch_its_interrupt(kernel: Kernel) -> None:
    code = f"try:\n    {READY}    while True: pass\nexcept KeyboardInterrupt:\n    print('caught')"
    pending = kernel.start(code, None)
    kernel.interrupt()
    result = pending.wait(SOON)
    assert result.status == "ok"
    assert "caught" in result.stdout


@pytest.mark.mpkernel_only(NOT_ALONE)
def test_the_traceback_of_an_interrupted_await_ends_with_who_awaited(kernel: Kernel) -> None:
    code = (
        "import asyncio\n"
        "async def nap():\n"
        "    asyncio.get_running_loop().call_soon(print, 'ready')\n"  # once it waits
        "    await asyncio.sleep(100)\n"
        "await nap()"
    )
    pending = kernel.start(code, None)
    kernel.interrupt()
    result = check_interrupted(pending)
    assert "nap" in result.traceback
    assert "sleep(delay" not in result.traceback, "asyncio's own frames say nothing"


def test_a_cell_may_install_its_own_handler_and_give_it_back(kernel: Kernel) -> None:
    code = (
        "import signal\nhits = []\nold = signal.signal(signal.SIGINT, lambda *a: hits.append(1))\n"
        f"{READY}while not hits: pass\nsignal.signal(signal.SIGINT, old)\nprint('handled')"
    )
    pending = kernel.start(code, None)
    kernel.interrupt()
    assert "handled" in pending.wait(SOON).stdout
    pending = kernel.start(BLOCKING["a loop"], None)
    kernel.interrupt()
    check_interrupted(pending)


@pytest.mark.mpkernel_only("what a cell does to signals stays")
@pytest.mark.parametrize("code", KEEP_SIGNALS_OUT)
def test_an_interrupt_reaches_a_cell_whatever_the_one_before_did_to_signals(kernel: Kernel, code: str) -> None:
    assert kernel.run(f"import resource, signal\n{code}").status == "ok"
    pending = kernel.start(BLOCKING["time.sleep"])
    kernel.interrupt()
    check_interrupted(pending)


def interrupt_stress(kernel: Kernel, shells: list[str | None], count: int, chance: random.Random) -> None:
    """Short cells, an interrupt at a random moment around each; then a cell that must not feel it."""
    cells = (
        "for _ in range(20_000): pass",
        "import time; time.sleep(0.002)",
        "import asyncio; await asyncio.sleep(0.002)",
        "for i in range(20): print(i)",
        "pass",
        "1 + 1",
        "def f(n): return f(n - 1) if n else 0\nf(50)",
    )
    for _ in range(count):
        shell = chance.choice(shells)
        pending = kernel.submit(chance.choice(cells), shell)
        moment = time.monotonic() + chance.uniform(0, 0.008)
        kernel.wait_until(lambda moment=moment: time.monotonic() > moment, "moment")  # type: ignore[misc]
        assert kernel.interrupt(shell).status == "ok"
        result = pending.wait()
        assert result.status == "ok" or result.ename == "KeyboardInterrupt", str(result)
        assert (result.error is not None) == (result.status == "error"), str(result)
        after = kernel.run("print('after'); 6 * 7", shell)
        assert (after.status, after.stdout, after.text) == ("ok", "after\n", "42"), str(after)


@pytest.mark.mpkernel_only("a late signal hits the next cell, and never a subshell")
@pytest.mark.timeout(600)
def test_interrupts_at_random_moments_hit_their_cell_or_nothing(kernel: Kernel) -> None:
    seed = int(os.environ.get("MPKERNEL_SEED", time.time_ns() % 1_000_000))
    print(f"MPKERNEL_SEED={seed}")
    kernel.run("remembered = [1, 2, 3]")
    shells = [None, kernel.create_subshell()]
    pids = [kernel.value("__import__('os').getpid()", shell) for shell in shells]
    interrupt_stress(kernel, shells, int(os.environ.get("MPKERNEL_STRESS", "300")), random.Random(seed))
    assert [kernel.value("__import__('os').getpid()", shell) for shell in shells] == pids
    assert [kernel.value("remembered", shell) for shell in shells] == [[1, 2, 3]] * 2


def test_an_interrupt_in_the_midst_of_logging_stops_no_other_thread(kernel: Kernel, shell: str | None) -> None:
    """It may come between the acquiring of logging's lock and the `try` whose end releases it."""
    kernel.run("import logging, threading\nlogging._lock.acquire(); raise KeyboardInterrupt", shell)
    kernel.run(
        "thread = threading.Thread(target=logging.getLogger('any').debug, args=('word',))\nthread.start()", shell
    )
    assert kernel.value("thread.join(10) or thread.is_alive()", shell) is False
