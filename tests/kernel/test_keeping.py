"""What was computed is saved, restored, kept over restarts; what can't be trusted is refused before it is loaded."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .driver import Kernel, start_kernel
from .sandbox import poll_until

pytestmark = pytest.mark.mpkernel_only("ipykernel has nothing like it")

DEFINITIONS = """
import math, collections as c
class Point:
    def __init__(self, x): self.x = x
    def double(self): return Point(2 * self.x)
def area(r): return math.pi * r * scale
scale = 2
xs = [1, 2]
ys = xs
p = Point(21)
numbers = c.Counter('aab')
"""


@pytest.fixture
def file(shared_kernel: Kernel) -> Iterator[Path]:
    path = shared_kernel.sandbox.cwd / "saved.mpk"
    yield path
    path.unlink(missing_ok=True)
    shared_kernel.run("%reset -f")


def save(kernel: Kernel, path: Path) -> str:
    result = kernel.run(f"import mpkernel\nmpkernel.save({str(path)!r})")
    assert result.status == "ok", result.traceback
    return result.text


def restore(kernel: Kernel, path: Path) -> str:
    result = kernel.run(f"import mpkernel\nmpkernel.restore({str(path)!r})")
    assert result.status == "ok", result.traceback
    return result.text


def refusal(kernel: Kernel, path: Path) -> str:
    result = kernel.run(f"import mpkernel\nmpkernel.restore({str(path)!r})")
    assert result.status == "error"
    return str(result.content["evalue"])


def check_definitions(kernel: Kernel, subshell: str | None = None) -> None:
    assert kernel.value("p.double().x, isinstance(p, Point)", subshell) == (42, True)
    assert kernel.value("round(area(1), 2)", subshell) == 6.28
    assert kernel.value("xs is ys and numbers['a']", subshell) == 2


def test_values_and_definitions_come_back_in_another_kernel(shared_kernel: Kernel, file: Path) -> None:
    shared_kernel.run(DEFINITIONS)
    save(shared_kernel, file)
    with start_kernel(env={"JUPYTER_DATA_DIR": str(shared_kernel.sandbox.data)}) as other:
        other.run("class Point: pass\nmine = 1")  # has the ids that the file has, if ids were numbers
        restore(other, file)
        check_definitions(other)
        check_definitions(other, other.create_subshell())
        assert other.value("mine") == 1


def test_what_was_changed_or_deleted_since_is_as_it_was(shared_kernel: Kernel, file: Path) -> None:
    child = shared_kernel.create_subshell()
    shared_kernel.run(DEFINITIONS)
    save(shared_kernel, file)
    shared_kernel.run("xs.append(3); del p\ndef area(r): return 0")
    shared_kernel.run("scale = 100", child)
    restore(shared_kernel, file)
    check_definitions(shared_kernel)
    check_definitions(shared_kernel, child)
    assert shared_kernel.value("ys", child) == [1, 2]


def test_the_values_of_running_cells_are_saved(shared_kernel: Kernel, file: Path) -> None:
    child = shared_kernel.create_subshell()
    gate = shared_kernel.gate("gate")
    running = shared_kernel.start(f"count = 7\nprint('ready', flush=True)\n{gate.pass_through}", child)
    shared_kernel.run(f"import mpkernel\nhere = 1\nmpkernel.save({str(file)!r})\nhere = 2")
    gate.release()
    running.wait()
    shared_kernel.run("count = here = None")
    restore(shared_kernel, file)
    assert shared_kernel.value("count, here", child) == (7, 1)


def test_large_arrays_stream_and_keep_their_views(shared_kernel: Kernel, file: Path) -> None:
    pytest.importorskip("numpy")
    child = shared_kernel.create_subshell()
    shared_kernel.run("import numpy as np\nbig = np.arange(4_000_000)\npart = big[10:20]")
    shared_kernel.run("part[0] = -5", child)  # a delta on the segment
    save(shared_kernel, file)
    shared_kernel.run("del big, part", child)
    restore(shared_kernel, file)
    for subshell in (None, child):
        assert shared_kernel.value("int(big[10]), int(big[-1]), np.shares_memory(big, part)", subshell) == (
            *(-5, 3_999_999),
            True,
        )


def test_what_could_not_be_kept_is_listed_with_the_reason(shared_kernel: Kernel, file: Path) -> None:
    shared_kernel.run("gen = (i for i in 'ab')\nboth = [1, gen]\nfine = 3")
    shown = save(shared_kernel, file)
    assert "left out: gen (generator" in shown
    assert "left out: both (may have in it: generator" in shown
    with start_kernel(env={"JUPYTER_DATA_DIR": str(shared_kernel.sandbox.data)}) as other:
        other.run("mine = (i for i in 'cd')\nothers = [mine]")  # its stand-in must not be taken for the other
        assert "gen (generator" in restore(other, file)
        assert other.value("'gen' in globals(), fine, both[0]") == (False, 3, 1)
        assert "make it again" in other.run("next(both[1])").content["evalue"]


def test_a_file_and_the_key_are_for_their_owner_only(shared_kernel: Kernel, file: Path) -> None:
    save(shared_kernel, file)
    key = shared_kernel.sandbox.data / "mpkernel" / "signing-key"
    for path in (file, key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [path.name for path in file.parent.iterdir() if "saved" in path.name] == ["saved.mpk"]


TRAP = """
class Trap:
    def __reduce__(self): return open, (__TRAP__, 'w')
trap = Trap()
"""


@pytest.mark.parametrize("what", ["header", "blob", "last byte", "cut", "cut to nothing", "appended", "not one", "key"])
def test_a_file_that_cannot_be_trusted_is_refused_before_it_is_loaded(
    shared_kernel: Kernel, file: Path, what: str
) -> None:
    sprung = file.with_name("sprung")
    shared_kernel.run(TRAP.replace("__TRAP__", repr(str(sprung))))
    save(shared_kernel, file)
    shared_kernel.run("del trap, Trap")
    sprung.unlink(missing_ok=True)
    data = bytearray(file.read_bytes())
    expected = "altered"
    if what == "header":
        data[60] ^= 1
    elif what == "blob":
        data[-60] ^= 1
    elif what == "last byte":
        data[-1] ^= 1
    elif what.startswith("cut"):
        data, expected = data[: len(data) - 1 if what == "cut" else 5], "cut short"
    elif what == "appended":
        data += b"."
    elif what == "not one":
        data[0] ^= 1
        expected = "not a namespace"
    else:
        expected = "not signed with your key"
        (shared_kernel.sandbox.data / "mpkernel" / "signing-key").unlink()
    file.write_bytes(data)
    assert expected in refusal(shared_kernel, file)
    shared_kernel.run("pass", shared_kernel.create_subshell())
    assert not sprung.exists()


def test_a_key_that_others_could_read_is_refused(shared_kernel: Kernel, file: Path) -> None:
    save(shared_kernel, file)
    key = shared_kernel.sandbox.data / "mpkernel" / "signing-key"
    key.chmod(0o644)
    try:
        assert "chmod 600" in refusal(shared_kernel, file)
    finally:
        key.chmod(0o600)


def test_errors_say_what_to_do(shared_kernel: Kernel, file: Path) -> None:
    assert f"{file} can't be read: there is no such file" in refusal(shared_kernel, file)
    assert "is not a file" in refusal(shared_kernel, file.parent)
    os.mkfifo(file)
    assert "is not a file" in refusal(shared_kernel, file)
    file.unlink()
    file.write_text("my thesis")
    result = shared_kernel.run(f"import mpkernel\nmpkernel.save({str(file)!r})")
    assert "choose another name" in result.content["evalue"]
    assert file.read_text() == "my thesis"
    said = shared_kernel.run("mpkernel.save('/no/such/folder/x')").content["evalue"]
    assert said == "/no/such/folder/x can't be written: there is no folder /no/such/folder"


def test_from_the_command_line(kernel: Kernel) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "import sys; from mpkernel.cli import main; sys.exit(main())", words[0]]
        command += [kernel.connection_file, *words[1:]]
        env, cwd = kernel.sandbox.environment(), kernel.sandbox.cwd
        return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, check=False)

    kernel.run(DEFINITIONS + "gen = (i for i in 'ab')")
    saved = run("save", "file.mpk")
    assert (saved.returncode, "saved 9 names" in saved.stdout) == (0, True), saved
    assert "left out: gen (generator" in saved.stderr
    kernel.run("del p, Point, area, xs")
    assert "restored 9 names" in run("restore", "file.mpk").stdout
    check_definitions(kernel)
    wrong = run("restore", "nothing.mpk")
    assert (wrong.returncode, "no such file" in wrong.stderr) == (1, True)


# --- over restarts ------------------------------------------------------------------------------------------------


def kept(kernel: Kernel) -> list[Path]:
    files = (kernel.sandbox.data / "mpkernel" / "kept").glob("*")
    return [file for file in files if not file.name.startswith(".")]  # else it is being written


def test_with_keep_a_restart_keeps_variables_and_says_so() -> None:
    with start_kernel("--keep") as kernel:
        kernel.run(DEFINITIONS + "gen = (i for i in 'ab')")
        kernel.restart()
        first = kernel.run("xs", silent=False)
        assert first.text == "[1, 2]"
        assert "9 names" in first.stderr
        assert "not kept: gen (generator" in first.stderr
        check_definitions(kernel)
        assert not kernel.run("xs").stderr
        [file] = kept(kernel)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        left = kernel.shut_down()
        assert not left
        assert not kept(kernel)


def test_with_keep_a_crash_of_the_broker_keeps_variables() -> None:
    with start_kernel("--keep") as kernel:
        kernel.run("import numpy as np\nxs = [1]\nbig = np.ones(1_000_000)\nprint(big.sum())")
        assert poll_until(lambda: bool(kept(kernel)), 10)
        kernel.process.send_signal(signal.SIGKILL)
        kernel.restart()
        assert kernel.run("xs, float(big.sum())").text == "([1], 1000000.0)"


def test_a_kept_file_that_was_altered_is_not_loaded() -> None:
    with start_kernel("--keep") as kernel:
        kernel.run("xs = [1]")
        assert poll_until(lambda: bool(kept(kernel)), 10)
        kernel.process.send_signal(signal.SIGKILL)
        [file] = kept(kernel)
        file.write_bytes(file.read_bytes()[:-1] + b"?")
        kernel.restart()
        result = kernel.run("print('xs' in globals())")
        assert result.stdout == "False\n"
        assert "altered" in result.stderr


def test_without_keep_nothing_is_kept(kernel: Kernel) -> None:
    kernel.run("xs = [1]")
    kernel.restart()
    assert kernel.value("'xs' in globals()") is False
    assert not kept(kernel)
