"""`mpkernel info`, `mpkernel logs`, and the log's forms, of a running kernel."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest

from .driver import LOOP, Kernel, start_kernel

pytestmark = pytest.mark.mpkernel_only("ipykernel has nothing like it")

MAIN = "import sys; from mpkernel.cli import main; sys.exit(main())"


def run(kernel: Kernel, *words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-c", MAIN, words[0], kernel.connection_file, *words[1:]]
    env = kernel.sandbox.environment()
    return subprocess.run(line, env=env, capture_output=True, text=True, check=False, timeout=60)


def command(kernel: Kernel, *words: str) -> str:
    done = run(kernel, *words)
    assert done.returncode == 0, done.stderr
    return done.stdout


def crash(kernel: Kernel) -> None:
    kernel.run("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", kernel.create_subshell())


def test_info_has_versions_limits_and_fast_paths_also_while_the_kernel_is_busy(shared_kernel: Kernel) -> None:
    loop = shared_kernel.start(LOOP)
    info = json.loads(command(shared_kernel, "info", "--json"))
    assert info["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert info["limits"]["open_files"] >= info["limits"]["open_files_now"] > 5
    assert info["limits"]["memory"][0]["bytes"] > info["limits"]["memory"][0]["available_bytes"] > 0
    assert (info["limits"]["waiting_bytes"], info["limits"]["reader_patience_s"]) == (512 << 20, 10)
    assert (info["kept_in"], info["event_log"]) == (None, False)
    paths = {path["name"]: path for path in info["fast_paths"]}
    assert {"fork", "memfd", "huge pages", "userfault", "cold arrays", "mremap", "subreaper", "pidfd"} <= paths.keys()
    assert all(path["on"] or path["why"] for path in paths.values())
    said = command(shared_kernel, "info")
    assert "memfd: " in said
    assert "may wait for a subshell" in said
    shared_kernel.interrupt()
    loop.wait()


def test_info_says_why_a_fast_path_is_off() -> None:
    with start_kernel(env={"MPKERNEL_START": "spawn", "MPKERNEL_SEGMENTS": "files"}) as kernel:
        paths = {path["name"]: path for path in json.loads(command(kernel, "info", "--json"))["fast_paths"]}
        assert not paths["fork"]["on"]
        assert "MPKERNEL_START" in paths["fork"]["why"]
        assert paths["subreaper"]["why"] in ("not needed: workers are spawned", "Linux only")
        assert "MPKERNEL_SEGMENTS=files" in paths["memfd"]["why"]


def test_logs_has_what_broker_and_workers_logged_but_not_what_cells_say(kernel: Kernel) -> None:
    kernel.run("'secret of a cell'")
    crash(kernel)
    kernel.run("import logging; logging.getLogger('mpkernel.worker').warning('from a \\x1b[31mworker')")
    lines = [json.loads(line) for line in command(kernel, "logs", "--json").splitlines()]
    assert any("SIGKILL" in line["text"] and line["level"] == "warning" for line in lines)
    assert [line["pid"] for line in lines if "from a" in line["text"]] == [kernel.value("__import__('os').getpid()")]
    shown = command(kernel, "logs")
    assert "from a \\x1b[31mworker" in shown  # not as an escape sequence
    assert "secret" not in shown


def test_an_error_whose_own_methods_fail_is_logged_all_the_same(kernel: Kernel) -> None:
    kernel.run(
        "import logging\nclass Odd(Exception):\n    def __getattribute__(self, name): raise RuntimeError(name)\n"
        "try: raise Odd\nexcept Odd: logging.getLogger('mpkernel.worker').exception('odd things happen')"
    )
    logged = command(kernel, "logs")
    assert "odd things happen" in logged
    assert "its traceback can't be shown: RuntimeError" in logged


def test_logs_says_that_nothing_was_logged(kernel: Kernel) -> None:
    for words in (["logs"], ["logs", "--json"]):
        done = run(kernel, *words)
        assert (done.returncode, done.stdout) == (0, "")
        assert done.stderr.endswith("has logged nothing from level info on\n")


def test_a_json_log_is_an_object_to_a_line() -> None:
    with start_kernel("--log-format", "json") as kernel:
        crash(kernel)
        kernel.stop()
        lines = [json.loads(line) for line in kernel.sandbox.log.read_text().splitlines()]
    assert any(signal.SIGKILL.name in line["text"] and line["level"] == "warning" for line in lines)
    assert {"time", "level", "pid", "logger", "text"} <= lines[0].keys()
