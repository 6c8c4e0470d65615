"""Whatever a kernel is started in - a service, a container, a small machine - it works, or says what is wrong."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from .driver import COMMAND, Kernel, start_kernel
from .sandbox import GONE_WITHIN, PATIENCE, Sandbox, poll_until

pytestmark = [
    pytest.mark.mpkernel_only("no subshells' processes"),
    pytest.mark.skipif(sys.platform != "linux", reason="made of what Linux has"),
]
IS_ROOT = os.geteuid() == 0
# Another user, who may read and write the files of the tests. Root has no limit of processes.
SOMEONE = [
    *("setpriv", "--reuid=54321", "--clear-groups"),
    *(f"--{kind}-caps=+dac_override,+dac_read_search" for kind in ("inh", "ambient")),
]
SYSTEM_CALLS = {
    "memfd": 319,
    "userfault": 323,
    "pidfd": 434,
    "subreaper": 157,
}  # by what `mpkernel info` calls it; x86_64
FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def by_shell(before: str) -> list[str]:
    """A kernel's command that runs a line of shell first."""
    return ["sh", "-c", f'{before}\nexec "$@"', "sh", *COMMAND]


def check_works(kernel: Kernel) -> None:
    """Cells, output, sharing, errors, interrupts, a new subshell, and one whose process dies."""
    child = kernel.create_subshell()
    kernel.run("shared = [1]; big = b'1' * (3 << 20)")
    assert kernel.value("shared, len(big)", child) == ([1], 3 << 20)
    shown = kernel.run("print('printed')\nimport os; os.system('echo by a child')\n1 / 0")
    assert shown.stdout == "printed\nby a child\n"
    assert shown.ename == "ZeroDivisionError"
    loop = kernel.start(subshell=child)
    kernel.interrupt(child)
    assert loop.wait().ename == "KeyboardInterrupt"
    assert kernel.run("os._exit(3)").ename == "WorkerDied"
    assert kernel.value("shared") == [1]


@pytest.mark.parametrize("closed", ["0<&-", "1>&- 2>&-", "0<&- 1>&- 2>&-"])
def test_standard_files_that_are_closed(closed: str) -> None:
    with start_kernel(command=by_shell(f"exec {closed}")) as kernel:
        check_works(kernel)


def test_a_log_that_nobody_reads() -> None:
    read, write = os.pipe()
    try:
        fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
        os.write(write, b"x" * 4096)
        with start_kernel(command=by_shell(f"exec 1>/proc/{os.getpid()}/fd/{write} 2>&1")) as kernel:
            check_works(kernel)
    finally:
        os.close(read)
        os.close(write)


def test_a_working_directory_that_was_deleted() -> None:
    with start_kernel(command=by_shell("mkdir gone; cd gone; rmdir ../gone")) as kernel:
        check_works(kernel)
        assert kernel.run("import os; os.getcwd()").text == repr(str(kernel.sandbox.home))
        assert "working directory was deleted" in kernel.sandbox.log_tail()


def test_no_folder_for_a_profile_leaves_none_behind(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with start_kernel(env={"IPYTHONDIR": str(tmp_path / "file" / "ipython")}) as kernel:
        check_works(kernel)


def test_completion_without_a_place_for_jedis_cache(tmp_path: Path) -> None:
    (tmp_path / "jedi").touch()
    with start_kernel(env={"XDG_CACHE_HOME": str(tmp_path)}) as kernel:
        assert "isdigit" in kernel.request("complete_request", {"code": "str.isdi", "cursor_pos": 8}).content["matches"]


def test_completion_when_jedi_can_not_be_imported(kernel: Kernel) -> None:
    kernel.run("import sys\nsys.modules.update(dict.fromkeys(['jedi', 'jedi.api', 'jedi.api.classes']))")
    reply = kernel.request("complete_request", {"code": "str.isdi", "cursor_pos": 8}).content
    assert "str.isdi"[: reply["cursor_start"]] + reply["matches"][0] == "str.isdigit"


def test_an_environment_that_is_almost_empty() -> None:
    with start_kernel(command=["env", "-i", *COMMAND]) as kernel:
        check_works(kernel)


def test_folders_that_are_tidied_up_while_it_runs(kernel: Kernel) -> None:
    kernel.run("kept = 1")
    for folder in (kernel.sandbox.xdg, kernel.sandbox.tmp, kernel.sandbox.runtime):
        shutil.rmtree(folder)
    check_works(kernel)
    assert kernel.value("kept") == 1


def test_sockets_that_are_tidied_up_before_a_process_has_connected(kernel: Kernel) -> None:
    """The zygote is stopped meanwhile, so that it can't be quicker."""
    kernel.run("pass")
    zygote = min(kernel.process.children(), key=psutil.Process.create_time)
    zygote.suspend()
    [folder] = kernel.sandbox.xdg.iterdir()
    before = set(folder.iterdir())
    pending = [kernel.submit("6 * 7", kernel.create_subshell()) for _ in range(2)]  # one may have the spare process
    assert poll_until(lambda: any(path.suffix == ".o" for path in set(folder.iterdir()) - before), GONE_WITHIN)
    kernel.barrier()
    shutil.rmtree(folder)
    zygote.resume()
    assert [request.wait().text for request in pending] == ["42", "42"]


@pytest.mark.skipif(not IS_ROOT or shutil.which("unshare") is None, reason="needs root and unshare(1)")
def test_process_1_of_a_container_reaps_and_ends() -> None:
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *COMMAND]
    with start_kernel(command=command) as kernel:
        check_works(kernel)
        assert kernel.value("__import__('os').getppid()") == 1
        kernel.run("import os\nif os.fork() == 0:\n    if os.fork() == 0: os._exit(0)\n    os._exit(0)\nos.wait()")

        def zombies() -> list[psutil.Process]:
            found = []
            for process in kernel.process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # it ends just now
                    found += [process] if process.status() == psutil.STATUS_ZOMBIE else []
            return found

        assert poll_until(lambda: not zombies(), GONE_WITHIN)
        kernel.process.children()[0].terminate()
        assert poll_until(lambda: not kernel.manager.is_alive(), GONE_WITHIN)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls")
@pytest.mark.parametrize("names", [*([name] for name in SYSTEM_CALLS), list(SYSTEM_CALLS)], ids=" ".join)
def test_system_calls_that_a_container_forbids(names: list[str]) -> None:
    numbers = ",".join(str(SYSTEM_CALLS[name]) for name in names)
    refusing = [sys.executable, str(Path(__file__).parent / "refusing.py"), numbers]
    with start_kernel(command=[*refusing, *COMMAND]) as kernel:
        check_works(kernel)
        paths = kernel.control("mpkernel_request", {"op": "info"}).content["fast_paths"]
        assert set(names) <= {path["name"] for path in paths if path["why"]}


# --- few processes ------------------------------------------------------------------------------------------------


def with_processes(count: int) -> list[str]:
    return [*SOMEONE, "prlimit", f"--nproc={count}:{count}", *COMMAND]


few_processes = pytest.mark.skipif(
    not IS_ROOT or None in (shutil.which("setpriv"), shutil.which("prlimit")),
    reason="needs root, setpriv(1), prlimit(1)",
)


@few_processes
def test_too_few_processes_for_another_subshell_cost_that_subshell() -> None:
    with start_kernel(command=with_processes(20)) as kernel:
        kernel.run("kept = 1")
        for _ in range(20):
            result = kernel.run("kept", kernel.create_subshell())
            if result.status == "error":
                break
        assert result.ename == "WorkerStartFailed"
        assert "ulimit" in result.content["evalue"]
        assert kernel.value("kept") == 1
        loop = kernel.start()
        kernel.interrupt()
        assert loop.wait().ename == "KeyboardInterrupt"


@few_processes
@pytest.mark.parametrize("count", [2, 4])
def test_too_few_processes_for_a_kernel_are_said(count: int) -> None:
    with Sandbox() as sandbox:
        sandbox.root.chmod(0o777)  # IPython, if it comes to that, says more when it can't write there
        file = sandbox.runtime / "connection.json"
        done = subprocess.run(
            [*with_processes(count), "-f", str(file)],
            env=sandbox.environment(),
            capture_output=True,
            text=True,
            timeout=10 * PATIENCE,
            check=False,
        )
        assert done.returncode == 1
        assert "ulimit" in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert sandbox.leftovers() == []


# --- memory -------------------------------------------------------------------------------------------------------


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group of ours (version 1) that has 700 MB."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = next(path for _, kind, path in (line.split(":", 2) for line in lines) if kind == "memory")
        group = Path(f"/sys/fs/cgroup/memory{own}/mpkernel-test-{os.getpid()}")
        group.mkdir()
    except (StopIteration, OSError):
        pytest.skip("no memory control group (version 1) can be made here")
    try:
        (group / "memory.limit_in_bytes").write_text(str(700 << 20))
        yield group
    finally:
        poll_until(lambda: not (group / "cgroup.procs").read_text(), GONE_WITHIN)
        group.rmdir()


def test_a_cell_that_eats_a_containers_memory_costs_its_process(memory_group: Path) -> None:
    with start_kernel(command=by_shell(f"echo $$ > {memory_group}/cgroup.procs")) as kernel:
        child = kernel.create_subshell()
        kernel.run("kept = 1")
        assert kernel.value("kept", child) == 1
        eats = kernel.run("eaten = []\nwhile True: eaten.append(b'1' * (1 << 20))")
        assert eats.ename == "WorkerDied"
        assert "memory ran out" in eats.content["evalue"]
        assert kernel.value("kept") == kernel.value("kept", child) == 1


def test_large_values_in_a_small_container(memory_group: Path) -> None:
    with start_kernel(command=by_shell(f"echo $$ > {memory_group}/cgroup.procs")) as kernel:
        child = kernel.create_subshell()
        kernel.run("import numpy\nbig = numpy.ones(20 << 20)  # 160 MB")
        for number in range(3):
            kernel.run(f"big[5] = {number}")
            assert kernel.value("len(big), int(big[5])", child) == (20 << 20, number)
        kernel.run("big[:] = 1", child)
        assert kernel.value("len(big)") == kernel.value("len(big)", child) == 20 << 20
        assert "ended" not in kernel.sandbox.log_tail()


# --- what a process can run out of --------------------------------------------------------------------------------

EXHAUST = {
    "files": "import os\ntaken = []\ntry:\n    while True: taken.append(os.open('/dev/null', 0))\nexcept OSError: pass",
    "mappings": "import mmap\ntaken = []\ntry:\n"
    "    while True: taken.append(mmap.mmap(-1, 4096, prot=1 + 2 * (len(taken) % 2)))\nexcept OSError: pass",
}
GIVE_BACK = {"files": "for fd in taken: os.close(fd)", "mappings": "taken.clear()"}


@pytest.mark.parametrize("what", EXHAUST)
def test_what_a_cell_has_used_up_is_its_own(kernel: Kernel, what: str) -> None:
    child = kernel.create_subshell()
    kernel.run("kept = 1")
    assert kernel.value("kept", child) == 1
    kernel.run(EXHAUST[what])
    assert kernel.value("kept", child) == 1
    kernel.run("small = 2")
    assert kernel.value("6 * 7") == 42
    kernel.run(GIVE_BACK[what])
    kernel.run("big = b'1' * (3 << 20)")
    assert kernel.value("kept, small, len(big)", child) == (1, 2, 3 << 20)


FEW_FILES = {
    "opened": "import os\ntaken = []\nwhile True: taken.append(os.open('/dev/null', 0))",
    "allowed": "import resource\nbefore = resource.getrlimit(resource.RLIMIT_NOFILE)\n"
    "resource.setrlimit(resource.RLIMIT_NOFILE, (16, before[1]))\nopen('/dev/null')",
}
MANY_AGAIN = {
    "opened": "for fd in taken: os.close(fd)",
    "allowed": "resource.setrlimit(resource.RLIMIT_NOFILE, before)",
}


@pytest.mark.parametrize("how", FEW_FILES)
def test_a_process_without_files_goes_on(kernel: Kernel, shell: str | None, how: str) -> None:
    """pyzmq needs some when it sends the first large frame that it doesn't copy."""
    other = kernel.create_subshell()
    kernel.run("kept = 1", shell)
    pid = kernel.value("__import__('os').getpid()", shell)
    assert kernel.run(FEW_FILES[how], shell).ename == "OSError"
    assert kernel.run("print('x' * (3 << 20))", shell).stdout == "x" * (3 << 20) + "\n"
    assert kernel.run("big = b'1' * (3 << 20)\n'x' * (1 << 20)", shell).text == repr("x" * (1 << 20))
    assert kernel.value("kept", other) == 1
    assert kernel.run(MANY_AGAIN[how], shell).status == "ok"
    kernel.run("bigger = b'1' * (4 << 20)", shell)
    assert kernel.value("len(big), len(bigger)", other) == (3 << 20, 4 << 20)
    assert kernel.value("__import__('os').getpid()", shell) == pid


# --- clocks -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(FAKETIME is None, reason="needs libfaketime")
def test_the_wall_clock_is_set_back_and_forth(tmp_path: Path) -> None:
    clock = tmp_path / "clock"

    def put(offset: str) -> None:
        (tmp_path / "new").write_text(offset)
        (tmp_path / "new").replace(clock)

    put("+0")
    fake = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"}
    real = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}  # by which clocks waits are measured
    with start_kernel("--debug", env={**fake, **real}) as kernel:
        child = kernel.create_subshell()
        for offset in ("-400d", "+400d"):
            put(offset)
            kernel.run(f"offset = {offset!r}")
            assert kernel.value("offset", child) == offset
            module = kernel.sandbox.cwd / "edited.py"
            module.write_text(f"value = {offset!r}\n")
            assert kernel.value("__import__('importlib').reload(__import__('edited')).value") == offset
            assert f"# {offset}" in kernel.run(f"def f():\n    1 / 0  # {offset}\nf()").traceback
            told = kernel.request("history_request", {"hist_access_type": "tail", "n": 1, "output": False, "raw": True})
            assert told.content["history"][0][2].startswith("def f()")
            failing, aborted = kernel.submit("1 / 0"), kernel.submit("pass")
            assert (failing.wait().status, aborted.wait().status) == ("error", "aborted")
            loop = kernel.start(subshell=child)
            kernel.interrupt(child)
            assert loop.wait().ename == "KeyboardInterrupt"
            assert kernel.value("__import__('time').gmtime().tm_year", child) != time.gmtime().tm_year
