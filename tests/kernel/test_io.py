"""What cells write reaches the front end: all of it, in order, under the right cell, before idle."""

from __future__ import annotations

import pytest

from .driver import KERNEL, Kernel, Result, start_kernel

UNORDERED = "each stream has a buffer of its own, and file descriptors another way"


def stream_names_and_texts(result: Result) -> list[tuple[str, str]]:
    """(stream, text) for each run of one stream: how messages are cut is not promised, their order is."""
    runs: list[tuple[str, str]] = []
    for content in result.of_type("stream"):
        if runs and runs[-1][0] == content["name"]:
            runs[-1] = (content["name"], runs[-1][1] + content["text"])
        else:
            runs.append((content["name"], content["text"]))
    return runs


def test_prints_go_to_stdout_and_stderr(shared_kernel: Kernel) -> None:
    result = shared_kernel.run("import sys\nprint('ä', 1, sep='-')\nprint('🐍', file=sys.stderr)")
    assert (result.stdout, result.stderr) == ("ä-1\n", "🐍\n")


@pytest.mark.mpkernel_only(UNORDERED)
def test_stdout_and_stderr_keep_their_order(shared_kernel: Kernel) -> None:
    result = shared_kernel.run("import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c')\nsys.stderr.write('d')")
    assert stream_names_and_texts(result) == [("stdout", "a\n"), ("stderr", "b\n"), ("stdout", "c\n"), ("stderr", "d")]


def test_output_and_displays_keep_their_order(shared_kernel: Kernel) -> None:
    result = shared_kernel.run("print('a')\ndisplay('b')\nprint('c')\ndisplay('d')\n'e'")
    assert result.output_types == ["stream", "display_data", "stream", "display_data", "execute_result"]


def test_what_the_result_prints_comes_before_an_error(shared_kernel: Kernel) -> None:
    result = shared_kernel.run("print('before')\n1/0")
    assert result.output_types == ["stream", "error"]


@pytest.mark.parametrize(
    ("code", "stdout", "stderr"),
    [
        ("import os; n = os.write(1, b'raw\\n')", "raw\n", ""),
        ("import os; n = os.write(2, b'raw\\n')", "", "raw\n"),
        ("import ctypes; c = ctypes.CDLL(None); c.puts(b'puts'); n = c.fflush(None)", "puts\n", ""),
        ("import ctypes; c = ctypes.CDLL(None); c.printf(b'%d', 42); n = c.fflush(None)", "42", ""),
        ("import subprocess; p = subprocess.run(['echo', 'child'])", "child\n", ""),
        ("import subprocess; p = subprocess.run('echo child >&2', shell=True)", "", "child\n"),
        ("import os; n = os.system('echo system')", "system\n", ""),
        ("import sys, subprocess; p = subprocess.run([sys.executable, '-c', 'print(1)'])", "1\n", ""),
        ("import os; n = os.write(1, b'\\xff\\n')", "\ufffd\n", ""),
    ],
)
def test_what_goes_to_file_descriptors_is_shown(shared_kernel: Kernel, code: str, stdout: str, stderr: str) -> None:
    for _ in range(5):
        pending = shared_kernel.submit(code)
        result = pending.wait()
        if KERNEL == "ipykernel":  # under load, it comes after idle
            pending.wait_until(lambda: bool(pending.wait().outputs), "output")  # noqa: B023
            result = pending.wait()
        assert (result.status, result.stdout, result.stderr) == ("ok", stdout, stderr)


@pytest.mark.mpkernel_only("it decodes each piece by itself")
def test_a_character_written_in_two_pieces_stays_whole(shared_kernel: Kernel) -> None:
    for _ in range(5):
        assert shared_kernel.run("import os\nfor byte in 'ä🐍'.encode(): os.write(1, bytes([byte]))").stdout == "ä🐍"


def test_a_shell_escape_shows_its_output_and_keeps_its_exit_code(shared_kernel: Kernel) -> None:
    assert shared_kernel.run("!echo hi; exit 3").stdout.splitlines() == ["hi"]
    assert shared_kernel.value("_exit_code") == 3
    assert shared_kernel.run("got = !echo captured").stdout == ""
    assert shared_kernel.value("list(got)") == ["captured"]
    in_function = "def shout(word):\n    !echo $word {word.upper()}\nshout('hey')"
    assert shared_kernel.run(in_function).stdout.splitlines() == ["hey HEY"]


@pytest.mark.mpkernel_only(UNORDERED)
def test_prints_keep_their_order_with_what_children_write(shared_kernel: Kernel) -> None:
    code = "import os\nprint('a')\nos.system('echo b')\nprint('c')\nos.write(1, b'd\\n')\nprint('e')"
    for _ in range(20):
        assert shared_kernel.run(code + "\nNone").stdout == "a\nb\nc\nd\ne\n"


@pytest.mark.parametrize(
    "writer",
    [
        "sys.stdout.write('x' * n)",
        pytest.param("os.write(1, b'x' * n)", marks=pytest.mark.mpkernel_only("under load, it comes after idle")),
    ],
)
def test_nothing_is_lost_at_the_end_of_a_cell(shared_kernel: Kernel, writer: str) -> None:
    for n in (1, 10, 1000, 60_000) * 5:
        result = shared_kernel.run(f"import os, sys; n = {n}; n = {writer}")
        assert result.stdout == "x" * n
        assert result.messages[-1].type in ("status", "execute_reply")


def test_large_output_arrives_whole(shared_kernel: Kernel) -> None:
    result = shared_kernel.run("print('x' * 10_000_000)")
    assert len(result.stdout) == 10_000_001
    result = shared_kernel.run("for i in range(100_000): print(i)")
    assert result.stdout == "".join(f"{i}\n" for i in range(100_000))
    result = shared_kernel.run("import os; n = os.system('yes 0123456 | head -c 4000000')")
    assert result.stdout == "0123456\n" * 500_000


def test_a_line_written_in_two_pieces_arrives_as_one_message(shared_kernel: Kernel) -> None:
    """As `print` does it. Not promised, as a machine may be busy: so most times of many."""
    code = "import os, sys\nsys.stdout.write('x')\nfor _ in range(50): os.sched_yield()\nprint(flush=True)"
    results = [shared_kernel.run(code).of_type("stream") for _ in range(50)]
    assert sum(len(contents) > 1 for contents in results) < 10


def test_output_comes_while_the_cell_runs(kernel: Kernel, shell: str | None) -> None:
    gate = kernel.gate("gate")
    pending = kernel.submit(f"import os\nprint('printed')\nn = os.write(1, b'written\\n')\n{gate.pass_through}", shell)
    pending.wait_for_stream("printed")
    pending.wait_for_stream("written")
    gate.release()
    assert pending.wait().status == "ok"


def test_threads_print_under_the_cell_that_joins_them(kernel: Kernel, shell: str | None) -> None:
    code = (
        "import threading\n"
        "threads = [threading.Thread(target=print, args=(f'{n}\\n',), kwargs={'end': ''}) for n in range(20)]\n"
        "for thread in threads: thread.start()\nfor thread in threads: thread.join()"
    )
    assert sorted(map(int, kernel.run(code, shell).stdout.split())) == list(range(20))


@pytest.mark.mpkernel_only("a thread prints under whatever cell runs")
def test_a_thread_prints_under_the_cell_that_started_it(kernel: Kernel, shell: str | None) -> None:
    first, second = kernel.gate("first"), kernel.gate("second")
    starting = kernel.submit(
        f"import threading\ndef late():\n    {first.pass_through}\n    print('late', flush=True)\n"
        "thread = threading.Thread(target=late); thread.start()",
        shell,
    )
    starting.wait()
    later = kernel.submit(f"print('later')\n{second.pass_through}\nthread.join()", shell)
    later.wait_for_stream("later")
    first.release()
    starting.wait_for_stream("late")
    second.release()
    assert later.wait().stdout == "later\n"


def test_a_forked_child_prints_under_its_cell(shared_kernel: Kernel) -> None:
    code = (
        "import os\npid = os.fork()\nif pid == 0:\n    print('child', flush=True); os._exit(0)\n"
        "n = os.waitpid(pid, 0)\nprint('parent')"
    )
    result = shared_kernel.run(code)
    assert sorted(result.stdout.split()) == ["child", "parent"]


def test_multiprocessing_children_print_under_their_cell(shared_kernel: Kernel) -> None:
    code = (
        "import multiprocessing\nfork = multiprocessing.get_context('fork')\n"
        "def work(n): print(f'working on {n}\\n', end='')\n"
        "children = [fork.Process(target=work, args=(n,)) for n in range(3)]\n"
        "for child in children: child.start()\nfor child in children: child.join()"
    )
    result = shared_kernel.run(code)
    assert sorted(result.stdout.splitlines()) == [f"working on {n}" for n in range(3)]


def test_streams_look_like_files_to_libraries(shared_kernel: Kernel) -> None:
    code = (
        "import sys\n"
        "[(s.isatty(), s.writable(), s.encoding.upper(), isinstance(s.fileno(), int), s.write('abc'))"
        " for s in (sys.stdout, sys.stderr)]"
    )
    assert shared_kernel.value(code) == [(False, True, "UTF-8", True, 3)] * 2
    assert shared_kernel.run("sys.stdout.writelines(['a', 'b'])").stdout == "ab"
    assert shared_kernel.run("sys.stdout.write(b'x')").ename == "TypeError"


def test_redirected_output_is_not_shown(shared_kernel: Kernel) -> None:
    code = (
        "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()) as caught: print('caught')\n"
        "caught.getvalue()"
    )
    result = shared_kernel.run(code)
    assert (result.stdout, result.text) == ("", "'caught\\n'")
    assert shared_kernel.run("%%capture got\nprint('in cell')\ndisplay(1)").outputs == []
    assert shared_kernel.value("got.stdout") == "in cell\n"


def test_logging_and_warnings_go_to_stderr(shared_kernel: Kernel) -> None:
    result = shared_kernel.run("import logging, warnings\nlogging.warning('logged')\nwarnings.warn('warned')")
    assert "logged" in result.stderr
    assert "UserWarning: warned" in result.stderr


def test_a_carriage_return_is_passed_on(shared_kernel: Kernel) -> None:
    assert shared_kernel.run("print('10 %', end='\\r'); print('20 %')").stdout == "10 %\r20 %\n"


def test_a_forked_child_prints_under_its_cell_without_capture_too() -> None:
    with start_kernel("--IPKernelApp.capture_fd_output=False") as kernel:
        code = (
            "import os\npid = os.fork()\nif pid == 0:\n    print('child', flush=True); os._exit(0)\n"
            "n = os.waitpid(pid, 0)\nprint('parent')\nn = os.system('echo not captured')"
        )
        result = kernel.run(code)
        assert sorted(result.stdout.split()) == ["child", "parent"]
