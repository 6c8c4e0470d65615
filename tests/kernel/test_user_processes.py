"""What users start from cells: processes, pools, threads, signals. All of it in the parent subshell and in a child."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator

import pytest

from .driver import KERNEL, Kernel, start_kernel

SQUARE = "import os, sys, multiprocessing, concurrent.futures, threading, signal, time\ndef square(x): return x * x\n"


@pytest.fixture
def kernel(shared_kernel: Kernel) -> Kernel:
    return shared_kernel


@pytest.fixture(params=["main", "child"])
def shell(request: pytest.FixtureRequest, kernel: Kernel) -> Iterator[str | None]:
    subshell = kernel.create_subshell() if request.param == "child" else None
    yield subshell
    if subshell is not None:
        kernel.delete_subshell(subshell)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_each_start_method(kernel: Kernel, shell: str | None, method: str) -> None:
    (kernel.sandbox.cwd / "own_worker.py").write_text("def cube(x): print('cube', x, flush=True); return x ** 3\n")
    code = f"{SQUARE}import own_worker\nwith multiprocessing.get_context({method!r}).Pool(1) as pool:\n"
    result = kernel.run(code + "    print(pool.map(own_worker.cube, [2, 3]))", shell)
    assert sorted(result.stdout.splitlines()) == ["[8, 27]", "cube 2", "cube 3"], str(result)


def test_a_process_pool_runs_functions_of_the_notebook(kernel: Kernel, shell: str | None) -> None:
    kernel.run(f"{SQUARE}pool = concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('fork'))", shell)
    assert kernel.run("print(list(pool.map(square, [1, 2, 3])))", shell).stdout == "[1, 4, 9]\n"
    assert kernel.run("pool.submit(int, 'x').result()", shell).ename == "ValueError"
    assert kernel.run("pool.shutdown()", shell).status == "ok"


@pytest.mark.mpkernel_only("its API")
def test_a_forked_child_that_asks_the_kernel_is_told_that_it_can_not(kernel: Kernel, shell: str | None) -> None:
    code = (
        "import mpkernel\ndef asks():\n    try: mpkernel.subshells()\n"
        "    except mpkernel.MPKernelError as error: sys.exit(7 if 'forked' in str(error) else 1)\n"
        "child = multiprocessing.get_context('fork').Process(target=asks); child.start(); child.join(); child.exitcode"
    )
    assert kernel.run(SQUARE + code, shell).text == "7"


def test_what_a_forked_child_displays_is_printed_and_takes_nothing_away(kernel: Kernel) -> None:
    code = (
        "def work(n):\n    print('start', n, flush=True); display(n); print('end', n, flush=True)\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool: _ = pool.map(work, range(10))"
    )
    shown = kernel.run(SQUARE + code).stdout
    for n in range(10):
        assert all(part in shown for part in (f"start {n}", f"end {n}"))


@pytest.mark.mpkernel_only("its children wait for ever")
def test_a_forked_child_has_no_input(kernel: Kernel) -> None:
    code = (
        "def asks():\n    try: input()\n    except EOFError: sys.exit(7)\n"
        "child = multiprocessing.get_context('fork').Process(target=asks); child.start(); child.join(); child.exitcode"
    )
    assert kernel.run(SQUARE + code, allow_stdin=True).text == "7"


def test_a_wakeup_fd_that_was_closed_harms_nothing(kernel: Kernel, shell: str | None) -> None:
    pid = kernel.value("__import__('os').getpid()", shell)
    code = "import signal, os, socket\none, other = socket.socketpair(); other.setblocking(False)\n"
    kernel.run(code + "_ = signal.set_wakeup_fd(other.fileno()); other.close()", shell)
    for _ in range(2):
        assert kernel.value("os.getpid()", shell) == pid


def test_a_cell_does_not_wait_for_c_code_that_reads_in_a_thread(kernel: Kernel) -> None:
    path = kernel.sandbox.cwd / "fifo"
    code = (
        f"import ctypes, os, threading\nos.mkfifo({str(path)!r}); libc = ctypes.CDLL(None)\n"
        "libc.fopen.restype = ctypes.c_void_p; end = os.open('fifo', os.O_RDWR); started = threading.Event()\n"
        "file = ctypes.c_void_p(libc.fopen(b'fifo', b'r')); line = ctypes.create_string_buffer(9)\n"
        "def read(): started.set(); libc.fgets(line, 9, file)\n"
        "thread = threading.Thread(target=read); thread.start(); _ = started.wait()"
    )
    kernel.run(code)
    assert kernel.value("thread.is_alive()") is True
    assert kernel.run("_ = os.write(end, b'line\\n'); thread.join(); line.value").text == "b'line\\n'"


def test_signals_do_to_a_child_what_they_do_to_one_of_a_plain_python(kernel: Kernel, shell: str | None) -> None:
    """With a handler in Python, which runs at the next bytecode, a child that waits could miss its SIGTERM."""
    code = (
        "SIGNALS = [signal.SIGINT, signal.SIGTERM]\n"
        "def handling():\n"
        "    fd = signal.set_wakeup_fd(-1)\n"
        "    return [*map(signal.getsignal, SIGNALS), fd, signal.pthread_sigmask(signal.SIG_BLOCK, [])]\n"
        "here, there = os.pipe()\n"
        "if (child := os.fork()) == 0:\n"
        "    os.write(there, repr(handling() == [signal.default_int_handler, signal.SIG_DFL, -1, set()]).encode())\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print(os.read(here, 9).decode(), signal.pthread_sigmask(signal.SIG_BLOCK, []))\n"
        "os.close(here); os.close(there)"
    )
    assert kernel.run(SQUARE + code, shell).stdout == "True set()\n"


@pytest.mark.skipif(importlib.util.find_spec("joblib") is None, reason="joblib isn't installed")
def test_joblib_runs_functions_of_the_notebook(kernel: Kernel, shell: str | None) -> None:
    code = f"{SQUARE}import joblib\nprint(joblib.Parallel(n_jobs=2)(joblib.delayed(square)(n) for n in range(3)))"
    assert kernel.run(code, shell).stdout == "[0, 1, 4]\n"


def test_a_pool_of_threads_prints_under_the_cell_that_runs(kernel: Kernel, shell: str | None) -> None:
    kernel.run("from concurrent.futures import ThreadPoolExecutor as Pool\npool = Pool(1)", shell)
    for n in (1, 2):
        assert kernel.run(f"pool.submit(print, {n}).result()", shell).stdout == f"{n}\n"
    code = "import asyncio\nawait asyncio.get_running_loop().run_in_executor(None, print, 'here')"
    assert [kernel.run(code, shell).stdout for _ in range(2)] == ["here\n", "here\n"]


def test_a_thread_that_goes_on_does_not_hold_up_other_cells(kernel: Kernel, shell: str | None) -> None:
    kernel.run("import threading\nstop = threading.Event()\nt = threading.Thread(target=stop.wait); t.start()", shell)
    assert kernel.value("t.is_alive()", shell) is True
    assert kernel.run("stop.set(); t.join()", shell).status == "ok"


def test_shutdown_does_not_wait_for_a_thread_of_the_users() -> None:
    with start_kernel() as kernel:
        kernel.run("import threading\nt = threading.Thread(target=threading.Event().wait); t.start()")
        assert kernel.shut_down() == []


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH"])
def test_users_own_signal_handlers(kernel: Kernel, shell: str | None, name: str) -> None:
    code = (
        f"{SQUARE}old = signal.signal(signal.{name}, lambda *_: print('handled'))\nos.kill(os.getpid(), signal.{name})"
    )
    assert kernel.run(code, shell).stdout == "handled\n"


def test_an_alarm_ends_a_call_that_takes_too_long(kernel: Kernel, shell: str | None) -> None:
    code = (
        f"{SQUARE}def late(*_): raise TimeoutError('late')\nold = signal.signal(signal.SIGALRM, late)\n"
        "n = signal.setitimer(signal.ITIMER_REAL, 0.05)\ntime.sleep(60)"
    )
    assert kernel.run(code, shell).ename == "TimeoutError"


def test_atexit_runs_at_shutdown() -> None:
    with start_kernel() as kernel:
        paths = [kernel.sandbox.cwd / name for name in ("main", "child")]
        for path, shell in zip(paths, (None, kernel.create_subshell()), strict=True):
            kernel.run(f"import atexit, pathlib\n_ = atexit.register(pathlib.Path({str(path)!r}).touch)", shell)
        kernel.shut_down()
        assert all(path.exists() for path in paths)


def test_children_that_were_not_waited_for_end_with_the_kernel() -> None:
    with start_kernel() as kernel:
        kernel.run("import subprocess\np = subprocess.Popen(['sleep', '1000'])\nq = subprocess.Popen(['true'])")
        assert kernel.shut_down() == []


def test_asyncio_run_fails_as_anywhere_in_a_running_loop() -> None:
    with start_kernel() as kernel:  # of its own: nest_asyncio changes that for good
        kernel.run("import asyncio\nasync def five(): return 5\nc = five()")
        assert "cannot be called from a running event loop" in kernel.run("asyncio.run(c)").content["evalue"]
        result = kernel.run("asyncio.get_event_loop().run_until_complete(c)")
        assert "already running" in result.content["evalue"]
        kernel.run("c.close()")


@pytest.mark.parametrize("module", ["nest_asyncio", "nest_asyncio2"])
def test_nest_asyncio_lets_it_run(kernel: Kernel, shell: str | None, module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} isn't installed")
    kernel.run(f"import asyncio, {module}\n{module}.apply()\nasync def five(): await asyncio.sleep(0); return 5", shell)
    assert kernel.value("asyncio.run(five())", shell) == 5
    assert kernel.value("asyncio.get_event_loop().run_until_complete(five())", shell) == 5
    assert kernel.value("await five()", shell) == 5
    assert kernel.run("1/0", shell).ename == "ZeroDivisionError"


def test_tasks_and_context_variables_go_on_between_cells(kernel: Kernel, shell: str | None) -> None:
    kernel.run(
        "import asyncio, contextvars\nvariable = contextvars.ContextVar('v'); token = variable.set(1)\n"
        "event = asyncio.Event()\nasync def waits(): await event.wait(); return 'done'\n"
        "task = asyncio.create_task(waits())",
        shell,
    )
    assert kernel.value("variable.get()", shell) == 1
    kernel.run("event.set()", shell)
    assert kernel.value("await task", shell) == "done"


def test_a_child_that_inherits_stdout_prints_under_the_cell(kernel: Kernel, shell: str | None) -> None:
    code = f"import subprocess\nn = subprocess.run([{sys.executable!r}, '-c', 'print(1)']{{0}})"
    assert kernel.run(code.format(""), shell).stdout == "1\n"
    if KERNEL == "mpkernel":  # ipykernel's sys.stdout has the terminal's file descriptor
        assert kernel.run("import sys\n" + code.format(", stdout=sys.stdout"), shell).stdout == "1\n"
