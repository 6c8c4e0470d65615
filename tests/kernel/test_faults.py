"""The worst that a cell, the system or a user can do: the kernel stays, the other subshells and the variables stay."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from .driver import COMMAND, LOOP, Kernel, start_kernel
from .sandbox import GONE_WITHIN, is_gone, poll_until

pytestmark = pytest.mark.mpkernel_only("a crash loses the whole kernel")

# What a cell does to its own process, and whether the process lives on.
BREAKS = {
    "stack overflow in C": "import sys\nsys.setrecursionlimit(10**9)\nx = []\nfor _ in range(10**6): x = [x]\nrepr(x)",
    "file descriptors closed": "import os; os.closerange(0, 101)",
    "builtins replaced": "import builtins\nfor n in ('print', 'len', 'isinstance', 'open'): setattr(builtins, n, None)",
    "functions of modules replaced": "import json, signal, zmq\nsignal.signal = json.loads = zmq.Socket.send = None",
    "a clock that stands still": "import time; time.monotonic = lambda: 0.0",
    "classes of modules replaced": (
        "import datetime, json, time\ndatetime.datetime = json.JSONEncoder = json.dumps = None\n"
        "for n in range(3): print(n); time.sleep(0.1)"
    ),
    "modules gone": "import sys; sys.modules.clear()",
    "no stdout": "import sys; sys.stdout = sys.stderr = None; print('nowhere')",
    "hooks that raise": (
        "def bad(*_): raise RuntimeError('hook')\nip = get_ipython()\n"
        "for e in ('pre_execute', 'pre_run_cell', 'post_execute', 'post_run_cell'): ip.events.register(e, bad)\n"
        "ip.ast_transformers.append(type('T', (), {'visit': bad})())\nimport sys\nip.display_pub.publish = bad\n"
        "sys.displayhook = sys.excepthook = sys.unraisablehook = bad\nip.set_custom_exc((Exception,), bad)\n1 / 0"
    ),
    "parts of the shell that raise": (
        "def bad(*_, **__): raise RuntimeError('hook')\nip = get_ipython()\nip.history_manager.store_inputs = bad\n"
        "ip.showtraceback = ip.run_cell = ip.payload_manager.read_payload = bad"
    ),
    "a tracer, and imports, that raise": (
        "import builtins, sys\ndef bad(*_, **__): raise RuntimeError('hook')\n"
        "sys.settrace(bad); builtins.__import__ = bad"
    ),
    "an audit hook that raises": "import sys\ndef bad(*_): raise RuntimeError('hook')\nsys.addaudithook(bad)",
    "200 children": "import os, time\nfor _ in range(200):\n    if not os.fork(): time.sleep(1000)",
    "another file behind stdout": (
        "import os, stat\nnull, out = os.open('/dev/null', os.O_RDWR), os.fstat(1)\n"
        "for fd in range(3, 50):\n    try: same = os.path.samestat(os.fstat(fd), out)\n    except OSError: continue\n"
        "    if same: os.dup2(null, fd)"
    ),
    "a loop that takes no more": (
        "import asyncio\ndef refuse(*_, **__): raise RuntimeError('closed')\n"
        "asyncio.get_running_loop().call_soon_threadsafe = refuse"
    ),
    "sys.exit in a thread": "import sys, threading\nt = threading.Thread(target=sys.exit); t.start(); t.join()",
    "a thread that never ends": "import threading\nthreading.Thread(target=threading.Event().wait).start()",
    "the stdin of all is closed": "import sys; sys.stdin.close(); sys.__stdout__.close()",
}
PID = "__import__('os').getpid()"
RUN = "sys.argv[0] = 'mpkernel'; runpy.run_module('mpkernel', run_name='__main__')"


@pytest.mark.parametrize("code", BREAKS.values(), ids=BREAKS)
def test_a_subshell_works_on_whatever_a_cell_breaks(kernel: Kernel, shell: str | None, code: str) -> None:
    other = kernel.create_subshell()
    kernel.run("kept = [1, 2, 3]", shell)
    kernel.value("1", other)
    kernel.run(code, shell)
    probe = kernel.run("6 * 7", shell)
    if probe.ename == "WorkerDied":  # that was the end of what the cell had broken
        assert "exited with" in probe.content["evalue"] or "killed" in probe.content["evalue"]
    elif probe.status == "error":  # it says why: then a new process helps
        assert probe.content["evalue"] == "hook"
        kernel.control("mpkernel_request", {"op": "kill", "subshell": shell or "main"})
    assert kernel.value("kept", shell) == [1, 2, 3]
    assert kernel.value("kept", other) == [1, 2, 3]


def test_a_finalizer_that_never_ends_is_interrupted(kernel: Kernel) -> None:
    other = kernel.create_subshell()
    kernel.run("kept = [1, 2, 3]")
    forever = "class D:\n    def __del__(self):\n        print('ready', flush=True)\n        while True: pass\n"
    stuck = kernel.start(f"{forever}d = D()\ndel d")
    assert kernel.value("kept", other) == [1, 2, 3]
    kernel.interrupt()
    stuck.wait()
    assert kernel.value("kept") == [1, 2, 3]


@pytest.mark.parametrize("ignored", [("SIGINT",), ("SIGINT", "SIGTERM")])
def test_who_ignores_signals_is_killed(kernel: Kernel, ignored: tuple[str, ...]) -> None:
    kernel.run("kept = 1")
    names = ", ".join(f"signal.{name}" for name in ignored)
    stubborn = kernel.start(f"import signal\nfor s in ({names},): signal.signal(s, signal.SIG_IGN)\n{LOOP}")
    kernel.interrupt()
    assert stubborn.reply is None
    grace = 20.0 if len(ignored) == 1 else 0.2
    killed = kernel.control("mpkernel_request", {"op": "kill", "subshell": "main", "grace": grace})
    assert killed.content["sent"] == (["TERM"] if len(ignored) == 1 else ["TERM", "KILL"])
    assert stubborn.wait().ename == "Killed"
    assert kernel.value("kept") == 1


def test_a_stopped_process_is_shown_as_such_and_can_be_killed(kernel: Kernel) -> None:
    pid = kernel.value(PID)
    stopped = kernel.submit("import os, signal; os.kill(os.getpid(), signal.SIGSTOP)")
    process = psutil.Process(pid)
    kernel.wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "stop")
    command = [sys.executable, "-m", "mpkernel", "ps", "--json"]
    done = subprocess.run(command, env=kernel.sandbox.environment(), capture_output=True, text=True, check=True)
    assert [row["state"] for row in json.loads(done.stdout)] == ["stopped"]
    kernel.control("mpkernel_request", {"op": "kill", "subshell": "main", "grace": 0.1})
    assert stopped.wait().ename == "Killed"


def test_workers_go_before_the_broker_when_memory_runs_out(kernel: Kernel) -> None:
    def score(pid: int) -> int:
        return int(Path(f"/proc/{pid}/oom_score_adj").read_text())

    assert score(kernel.value(PID)) > score(kernel.process.pid)


def zygote(kernel: Kernel) -> psutil.Process:
    """The broker's first child."""
    return min(kernel.process.children(), key=lambda process: process.create_time())


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_new_subshells_when_the_zygote_is_killed_or_stopped(kernel: Kernel, signum: signal.Signals) -> None:
    kernel.run("kept = 1")
    zygote(kernel).send_signal(signum)
    assert [kernel.value("kept", kernel.create_subshell()) for _ in range(3)] == [1, 1, 1]


def test_a_kernel_that_was_suspended_goes_on(kernel: Kernel) -> None:
    other = kernel.create_subshell()
    running = kernel.start(f"{LOOP.splitlines()[0]}\nimport time\nfor _ in range(20): time.sleep(0.05)", other)
    tree = [kernel.process, *kernel.process.children(recursive=True)]
    for process in tree:
        process.suspend()
    stopped = {psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE}
    assert poll_until(lambda: {process.status() for process in tree} <= stopped, GONE_WITHIN)
    for process in reversed(tree):
        process.resume()
    assert running.wait().status == "ok"
    assert kernel.value("6 * 7") == 42


def test_nothing_is_left_two_seconds_after_the_broker_was_killed(kernel: Kernel) -> None:
    kernel.start(LOOP, kernel.create_subshell())
    kernel.start("import subprocess; print('ready', flush=True); subprocess.run(['sleep', '100'])")
    tree = kernel.processes()
    kernel.process.kill()
    assert poll_until(lambda: all(map(is_gone, tree)), GONE_WITHIN), tree


def test_what_cells_started_ends_with_the_broker_though_the_zygote_is_stopped(kernel: Kernel) -> None:
    kernel.start("import subprocess; print('ready', flush=True); subprocess.run(['sleep', '100'])")
    zygote(kernel).suspend()
    tree = kernel.processes()
    kernel.process.kill()
    assert poll_until(lambda: all(map(is_gone, tree)), GONE_WITHIN), tree


@contextlib.contextmanager
def limited(name: str, value: int) -> Iterator[Kernel]:
    code = f"import resource, runpy, sys; resource.setrlimit(resource.{name}, ({value}, {value})); {RUN}"
    with start_kernel(command=[sys.executable, "-c", code]) as kernel:
        yield kernel


def test_too_few_files_for_another_subshell_cost_that_subshell() -> None:
    with limited("RLIMIT_NOFILE", 80) as kernel:
        kernel.run("kept = 1")
        failed = None
        while failed is None:
            result = kernel.run("kept", kernel.create_subshell())
            failed = result if result.status == "error" else None
        assert failed.ename == "WorkerStartFailed"
        assert "Too many open files" in failed.content["evalue"]
        assert "ulimit" in failed.content["evalue"]
        assert kernel.value("kept") == 1


def test_more_large_values_than_files_cost_nothing_but_the_copies() -> None:
    with limited("RLIMIT_NOFILE", 300) as kernel:
        kernel.run("import numpy as np")
        made = kernel.run("for i in range(300): globals()[f'a{i}'] = np.full(10_000, i)")
        assert made.status == "ok", made.error
        other = kernel.create_subshell()
        total = kernel.run("sum(int(globals()[f'a{i}'][0]) for i in range(300))", other)
        assert total.text == str(sum(range(300))), total.error
        assert kernel.value("6 * 7") == 42


def test_a_broker_without_files_answers_all_the_same() -> None:
    """Whoever reaches its ports can take them, as can a cell: each connection is a file."""
    with limited("RLIMIT_NOFILE", 200) as kernel, contextlib.ExitStack() as connections:
        kernel.run("import os; kept = 1")
        for _ in range(200):
            connection = connections.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex((kernel.connection["ip"], kernel.connection["iopub_port"]))
        kernel.wait_until(lambda: kernel.process.num_fds() >= 200, "end of files")
        assert len(kernel.run("print('x' * (1 << 20))").stdout) == (1 << 20) + 1
        kernel.run("kept", kernel.create_subshell())  # has the spare process
        assert kernel.run("kept", kernel.create_subshell()).ename == "WorkerStartFailed"
        for request, content in (
            ("usage_request", {}),
            ("mpkernel_request", {"op": "info"}),
            ("mpkernel_request", {"op": "save", "path": "/file"}),
        ):
            assert "Too many open files" in kernel.control(request, content).content["evalue"]
        assert kernel.run("os._exit(3)").ename == "WorkerDied"
        connections.close()
        kernel.wait_until(lambda: kernel.process.num_fds() < 100, "end of connections")
        assert kernel.value("kept") == kernel.value("kept", kernel.create_subshell()) == 1


@pytest.mark.parametrize(
    ("name", "code"),
    [("a.py", "import os; os.system('seq 30000')"), ("a.ipy", "for n in range(6): print('x' * (1 << 20))")],
    ids=["by a program", "by itself"],
)
def test_a_startup_file_may_print_much(tmp_path: Path, name: str, code: str) -> None:
    startup = tmp_path / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / name).write_text(code)
    with start_kernel(env={"IPYTHONDIR": str(tmp_path)}) as kernel:
        for shell in (None, kernel.create_subshell()):
            assert kernel.value("6 * 7", shell) == 42


def test_a_reply_that_has_no_json_form_costs_no_process(kernel: Kernel, shell: str | None) -> None:
    kernel.run("class Odd:\n    def _repr_json_(self): return {'a': object()}\nodd = Odd()", shell)
    pid = kernel.value(PID, shell)
    assert kernel.run("1", shell, user_expressions={"odd": "odd"}).ename in ("TypeError", "")
    kernel.run("get_ipython().payload_manager.write_payload({'source': 'x', 'data': object()})", shell)
    assert kernel.value(PID, shell) == pid


def test_a_home_that_can_not_be_written_to_costs_the_history(tmp_path: Path) -> None:
    nowhere = tmp_path / "file"
    nowhere.write_text("no folder")
    (tmp_path / "ipython" / "profile_default" / "history.sqlite").mkdir(parents=True)  # no file can be there
    with start_kernel(env={"HOME": str(nowhere), "IPYTHONDIR": str(tmp_path / "ipython")}) as kernel:
        for shell in (None, kernel.create_subshell()):
            first, second = (kernel.run("6 * 7", shell) for _ in range(2))
            assert (first.text, second.text) == ("42", "42")
            assert first.stderr + second.stderr == ""
        assert kernel.sandbox.log_tail().count("\n") < 10, kernel.sandbox.log_tail()


# How the disk is mounted at a folder, and what the log says of it.
MOUNTS = {
    "full": (
        "mount -t tmpfs -o size=64k none {0} && (head -c 1m /dev/zero > {0}/fill 2>/dev/null; true)",
        "history will not be saved",
    ),
    "read-only": ("mount -t tmpfs -o ro none {0}", "using a temp directory"),
}


def _may_mount() -> bool:
    command = ["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /mnt"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize(("mount", "said"), MOUNTS.values(), ids=MOUNTS)
def test_a_disk_that_takes_nothing_costs_the_history(tmp_path: Path, mount: str, said: str) -> None:
    if not _may_mount():
        pytest.skip("only root may mount a disk that is full")
    command = ["unshare", "--mount", "sh", "-c", f'{mount.format(tmp_path)} && exec "$@"', "sh", *COMMAND]
    with start_kernel(env={"HOME": str(tmp_path), "IPYTHONDIR": str(tmp_path)}, command=command) as kernel:
        for shell in (None, kernel.create_subshell()):
            for number in range(3):
                result = kernel.run(f"kept = {number}; kept", shell)
                assert (result.text, result.stderr) == (str(number), "")
            told = kernel.request("history_request", {"hist_access_type": "tail", "n": 1, "output": False, "raw": True})
            assert told.content["status"] == "ok"
        assert said in kernel.sandbox.log_tail()
        assert kernel.sandbox.log_tail().count("\n") < 10, kernel.sandbox.log_tail()


def test_a_history_that_others_have_locked_holds_nobody_up(kernel: Kernel) -> None:
    """As a process does that has begun to write, and then has other things to do."""
    child = kernel.create_subshell()
    for shell in (None, child):
        kernel.run("first = 1", shell)
        kernel.run("second = 1", shell)  # after it, the database is open
    file = kernel.value("str(get_ipython().history_manager.hist_file)")
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("BEGIN IMMEDIATE")
        cells = [f"number = {number}" for number in range(4)]
        for cell in cells:
            for shell in (None, child):
                kernel.run(cell, shell)
        for _ in range(3):
            kernel.run("another = 1", kernel.create_subshell())
        database.execute("ROLLBACK")

        def kept() -> list[str]:
            return [row[0] for row in database.execute("SELECT source FROM history ORDER BY session, line")]

        kernel.wait_until(lambda: kept().count(cells[-1]) == 2, "what was entered meanwhile")
        assert [source for source in kept() if source in cells] == cells * 2


def test_a_history_that_can_not_even_be_read_for_a_while_is_kept(kernel: Kernel) -> None:
    """As while another process writes to a slow disk."""
    kernel.run("first = 1")
    kernel.run("second = 1")  # after it, the database is open
    where = "str(get_ipython().history_manager.hist_file)"
    file = kernel.value(where)
    child = kernel.create_subshell()
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as database:
        database.execute("BEGIN EXCLUSIVE")
        assert kernel.run("%history -g first").ename == "Busy"
        kernel.run("third = 1", child)
        kernel.run("fourth = 1", child)
        database.execute("ROLLBACK")
        assert kernel.value(where) == kernel.value(where, child) == file
        kernel.run("fifth = 1")
        kernel.wait_until(
            lambda: database.execute("SELECT 1 FROM history WHERE source = 'fifth = 1'").fetchone() is not None,
            "what was entered",
        )


def test_a_stuck_exit_does_not_hold_up_the_end(kernel: Kernel) -> None:
    kernel.run("import threading\nthreading.Thread(target=threading.Event().wait).start()")
    kernel.run("import atexit; atexit.register(lambda: [None for _ in iter(int, 1)])", kernel.create_subshell())
    assert kernel.shut_down() == []


def test_large_values_when_there_is_no_memory_for_copies() -> None:
    with limited("RLIMIT_FSIZE", 1 << 20) as kernel:  # of memfds, too
        kernel.run("big = bytearray(8 << 20); small = 1")
        other = kernel.create_subshell()
        assert kernel.value("small", other) == 1
        assert kernel.run("len(big)", other).status in ("ok", "error")
        assert kernel.value("len(big)") == 8 << 20


def test_exec_of_another_program(kernel: Kernel) -> None:
    result = kernel.run("import os; os.execv('/bin/true', ['true'])")
    assert result.ename == "WorkerDied"
    assert kernel.value("6 * 7") == 42
