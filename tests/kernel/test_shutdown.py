"""A kernel that ends, by whatever means, is gone soon and leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from .client import Client
from .driver import KERNEL, KERNELSPEC, LOOP, Kernel, install_kernelspec
from .sandbox import PATIENCE, REPOSITORY, Sandbox

ONE_PROCESS = pytest.mark.mpkernel_only("a crash loses the whole kernel")
BUSY_FOR_EVER = pytest.mark.mpkernel_only("a busy kernel waits for the front end's SIGKILL")
IDLE_AND_BUSY = pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])

FRONT_END_DIED_WITHIN = 5.0 * PATIENCE  # seconds; nothing tells a kernel but a look at its parent


@ONE_PROCESS
@IDLE_AND_BUSY
def test_nothing_is_left_when_the_broker_is_killed(kernel: Kernel, busy: bool) -> None:
    child = kernel.create_subshell()
    for shell in (None, child):
        kernel.run("import subprocess; p = subprocess.Popen(['sleep', '100'])", shell)
        if busy:
            kernel.start(LOOP, shell)
    assert len(kernel.processes()) >= 3
    kernel.process.kill()
    assert kernel.what_is_left() == []


@pytest.fixture
def front_end_process() -> Iterator[tuple[Sandbox, subprocess.Popen[str]]]:
    """A front end of its own, that has started a kernel; not in the kernel's sandbox, as far as processes go."""
    with Sandbox() as sandbox:
        install_kernelspec(sandbox.data)
        code = (
            "import sys, time\nfrom jupyter_client.manager import KernelManager\n"
            f"manager = KernelManager(kernel_name={KERNELSPEC!r}, connection_file=sys.argv[1])\n"
            "manager.start_kernel(stderr=open(sys.argv[2], 'w'), cwd=sys.argv[3])\n"
            "print(manager.provisioner.pid, flush=True)\ntime.sleep(1000)"
        )
        command = [sys.executable, "-c", code, str(sandbox.runtime / "c"), str(sandbox.log), str(sandbox.cwd)]
        with subprocess.Popen(
            command, env=sandbox.environment(), cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                yield sandbox, process
            finally:
                process.kill()


@IDLE_AND_BUSY
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
                client.start(LOOP, shell)
    assert psutil.pid_exists(kernel_pid)
    process.kill()
    process.wait()
    files = ["runtime/c"] if KERNEL == "mpkernel" else sandbox.files()
    assert sandbox.leftovers(FRONT_END_DIED_WITHIN, ignore=files) == []


@BUSY_FOR_EVER
def test_a_shutdown_request_alone_ends_a_kernel_that_is_busy_everywhere(kernel: Kernel) -> None:
    for shell in (None, kernel.create_subshell(), kernel.create_subshell()):
        kernel.start(LOOP, shell)
    assert kernel.shut_down() == []


@BUSY_FOR_EVER
@pytest.mark.parametrize(
    "code",
    [
        "import signal\nfor s in (signal.SIGINT, signal.SIGTERM): signal.signal(s, signal.SIG_IGN)\n" + LOOP,
        "print('ready', flush=True)\nwhile True:\n    try:\n        while True: pass\n    except BaseException: pass",
        "import ctypes\nprint('ready', flush=True)\nctypes.PyDLL(None).sleep(100)",
        "import subprocess\np = subprocess.Popen(['sh', '-c', \"trap '' INT TERM; sleep 100\"])\n" + LOOP,
    ],
    ids=["signals ignored", "exceptions swallowed", "GIL held in C", "stubborn child"],
)
def test_a_shutdown_request_alone_ends_stubborn_code(kernel: Kernel, shell: str | None, code: str) -> None:
    kernel.start(code, shell)
    assert kernel.shut_down() == []


@IDLE_AND_BUSY
def test_sigterm_ends_a_kernel(kernel: Kernel, busy: bool) -> None:
    kernel.run("pass")
    if busy:
        kernel.start(LOOP)
    kernel.processes()
    kernel.process.terminate()
    assert kernel.what_is_left() == []


def test_atexit_functions_run_at_shutdown(kernel: Kernel) -> None:
    shells = [None] if KERNEL == "ipykernel" else [None, kernel.create_subshell()]
    for n, shell in enumerate(shells):
        path = kernel.sandbox.cwd / f"exited-{n}"
        kernel.run(f"import atexit, pathlib; f = atexit.register(pathlib.Path({str(path)!r}).write_text, 'x')", shell)
    kernel.shut_down()
    assert [path.name for path in sorted(kernel.sandbox.cwd.glob("exited-*"))] == [
        f"exited-{n}" for n in range(len(shells))
    ]


def test_an_exit_function_has_time_to_save_something(kernel: Kernel) -> None:
    path = kernel.sandbox.cwd / "saved"
    kernel.run(f"import atexit, pathlib; f = atexit.register(pathlib.Path({str(path)!r}).touch)")
    kernel.run("import threading, time; threading.Thread(target=time.sleep, args=[0.9]).start()")  # it is waited for
    kernel.run("f = atexit.register(time.sleep, 0.9)")
    kernel.shut_down()
    assert path.exists()


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
