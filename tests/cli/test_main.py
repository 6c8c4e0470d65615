"""The command line as a program: help, mistakes, pipes, and what it costs to import."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import mpkernel as package
from mpkernel.cli import EXIT_BROKEN_PIPE, EXIT_INTERRUPTED, ps

from .conftest import Kernels, Shell
from .fake_broker import row

ROOT = Path(package.__file__).parent.parent
PROGRAM = "import sys; from mpkernel.cli import main; sys.exit(main())"
COMMANDS = ["ps", "interrupt", "kill", "new", "delete", "trace", "clean", "install", "uninstall"]


def program(*argv: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, *argv]


def test_help_names_all_commands_and_gives_examples(mpkernel: Shell) -> None:
    outcome = mpkernel("--help")
    assert outcome.code == 0
    for command in COMMANDS:
        assert f"\n    {command} " in outcome.out
    assert "mpkernel ps -q | xargs mpkernel interrupt" in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(mpkernel: Shell, command: str) -> None:
    outcome = mpkernel(command, "--help")
    assert outcome.code == 0
    assert outcome.out.startswith(f"usage: mpkernel {command}")


def test_version(mpkernel: Shell) -> None:
    assert mpkernel("--version").out == f"mpkernel {package.__version__}\n"


@pytest.mark.parametrize(
    "argv",
    [[], ["nosuch"], ["ps", "--nosuch"], ["ps", "--json", "-q"], ["ps", "one"], ["new"], ["ps", "--timeout", "0"]],
)
def test_wrong_usage_is_exit_code_2_and_explained(mpkernel: Shell, argv: list[str]) -> None:
    outcome = mpkernel(*argv)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith("usage: mpkernel")


def test_options_are_not_guessed_from_their_start(mpkernel: Shell) -> None:
    assert mpkernel("ps", "--js").code == 2


def test_ctrl_c_is_no_traceback(mpkernel: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: ps.Look) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ps.Look, "__call__", interrupted)
    outcome = mpkernel("ps")
    assert (outcome.code, outcome.err) == (EXIT_INTERRUPTED, "")


def test_a_pipe_that_nobody_reads_is_no_traceback(kernels: Kernels) -> None:
    kernels.start("one", *(row(f"{n:04x}", cell="x" * 1000) for n in range(500)))
    process = subprocess.Popen(
        program("ps", "--timeout", "30"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == EXIT_BROKEN_PIPE


def test_characters_that_the_output_lacks_are_escaped(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    kernels.start("one", row(cell="größe = 1"))
    done = subprocess.run(program("ps", "--timeout", "30"), capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.rstrip().endswith("gr\\xf6\\xdfe = 1")


def test_importing_the_command_line_imports_neither_zmq_nor_psutil_nor_argparse() -> None:
    code = "import sys, mpkernel.cli; print(sorted({'zmq', 'psutil', 'argparse', 'json'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


def test_a_command_imports_neither_ipython_nor_jupyter_client(kernels: Kernels) -> None:
    code = (
        "import sys; from mpkernel.cli import main; main(['ps', '--json']);"
        "print(sorted({'IPython', 'jupyter_client', 'tornado', 'asyncio'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n[]\n"
