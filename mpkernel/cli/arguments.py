"""The words of the command line: which commands there are, and what each may be told."""

from __future__ import annotations

import argparse
import importlib
import math
import signal
from collections.abc import Callable
from typing import Any

from mpkernel import __version__
from mpkernel.cli import kernelspec

DEFAULT_TIMEOUT_S = 2.0
DEFAULT_GRACE_S = 3.0
DEFAULT_WATCH_S = 2.0
MIN_WATCH_S = 0.1

_EXAMPLES = """\
examples:
  mpkernel ps                          what runs, and what it uses
  mpkernel interrupt 7be0c2            stop the cell that runs in main
  mpkernel kill 7be0c2/loader          end the process of a subshell, here by its name; the kernel goes on
  mpkernel trace 7be0c2/main           where is it stuck?
  mpkernel ps -q | xargs mpkernel interrupt

A TARGET is KERNEL/SUBSHELL as `mpkernel ps` shows it. KERNEL is an id, the start of one, or the path of a connection
file; SUBSHELL is `main`, an id, the start of one, or a name.

exit codes: 0 done; 1 a kernel or a target failed; 2 wrong usage, or a TARGET that is unknown or ambiguous: nothing
was done.
"""


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line. Its result has ``run``: a function of that result, giving the exit code."""
    parser = argparse.ArgumentParser(
        prog="mpkernel",
        description="Look at running mpkernel kernels, and steer their subshells, however busy they are.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-V", "--version", action="version", version=f"mpkernel {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_ps(commands)
    _add_interrupt(commands)
    _add_kill(commands)
    _add_new(commands)
    _add_delete(commands)
    _add_trace(commands)
    _add_look(commands, "info", "versions, limits, and which fast paths are on")
    _add_look(commands, "logs", "the last lines of a kernel's log")
    _add_file_command(commands, "save", "write the variables of a kernel to a file")
    _add_file_command(commands, "restore", "put what `save` wrote back into a kernel")
    _add_clean(commands)
    kernelspec.add_parsers(commands)
    return parser


_Commands = Any  # argparse._SubParsersAction[argparse.ArgumentParser], which is private


def _add_ps(commands: _Commands) -> None:
    parser = _command(commands, "ps", "ps:run", "list all subshells of all kernels")
    parser.description = (
        "A row for each subshell: its state, its process, the running cell. CPU and memory are those of the "
        "subshell's process and of all that it started. RSS counts memory that processes share once for each; PRIV is "
        "what ending them would free. Dead kernels are connection files that `mpkernel clean` would remove."
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="an array of objects; with --watch, one to a line")
    form.add_argument("-q", "--quiet", action="store_true", help="only the TARGETs, one to a line")
    parser.add_argument(
        "--watch",
        nargs="?",
        type=_watch_interval,
        const=DEFAULT_WATCH_S,
        metavar="SECONDS",
        help=f"again and again, until Ctrl-C (every {DEFAULT_WATCH_S:g} seconds)",
    )
    _add_timeout(parser)


def _add_interrupt(commands: _Commands) -> None:
    parser = _command(commands, "interrupt", "act:interrupt", "stop the running cell")
    parser.description = "Stop the cell that runs in each TARGET, as Ctrl-C would. KERNEL alone means its main."
    _add_targets(parser)
    _add_timeout(parser)


def _add_kill(commands: _Commands) -> None:
    parser = _command(commands, "kill", "act:kill", "end the process of a subshell")
    parser.description = (
        "End the process of each TARGET; the subshell gets a new one, and its queued cells are aborted. What names of "
        "the namespace are kept or lost is said. If the signal doesn't do it, KILL follows after a grace."
    )
    parser.add_argument(
        "-s",
        "--signal",
        type=signal_name,
        default="TERM",
        metavar="SIG",
        help="a signal, by name or by number (default: TERM)",
    )
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=DEFAULT_GRACE_S,
        metavar="SECONDS",
        help=f"how long to wait before KILL (default: {DEFAULT_GRACE_S:g})",
    )
    _add_targets(parser)
    _add_timeout(parser)


def _add_new(commands: _Commands) -> None:
    parser = _command(commands, "new", "act:new", "make a subshell and print its TARGET")
    parser.add_argument("kernel", metavar="KERNEL", help="an id, the start of one, or a connection file")
    parser.add_argument("--name", metavar="N", help="a name for it")
    parser.add_argument(
        "--mode",
        choices=("shared", "snapshot", "isolated"),
        default="shared",
        help="shared: it shares all variables (default); snapshot: it starts with a copy; isolated: it starts empty",
    )
    _add_timeout(parser)


def _add_delete(commands: _Commands) -> None:
    parser = _command(commands, "delete", "act:delete", "delete a subshell")
    parser.description = "Delete each TARGET with its process, whether it is busy or not. main can't be deleted."
    _add_targets(parser)
    _add_timeout(parser)


def _add_trace(commands: _Commands) -> None:
    parser = _command(commands, "trace", "act:trace", "print the stacks of all threads")
    parser.description = "Print the stacks of all threads of TARGET, while it goes on. KERNEL alone means its main."
    parser.add_argument("target", metavar="TARGET", help="KERNEL/SUBSHELL")
    _add_timeout(parser)


def _add_look(commands: _Commands, name: str, summary: str) -> None:
    parser = _command(commands, name, f"look:{name}", summary)
    parser.add_argument("kernel", metavar="KERNEL", help="an id, the start of one, or a connection file")
    parser.add_argument("--json", action="store_true", help="for programs")
    _add_timeout(parser)


def _add_file_command(commands: _Commands, name: str, summary: str) -> None:
    parser = _command(commands, name, f"act:{name}", summary)
    if name == "save":
        parser.description = (
            "Write what the subshells of KERNEL share - variables, functions, classes, imports - to FILE, signed with "
            "your key. What can't be copied is listed. An older FILE is replaced when the new one is complete."
        )
    else:
        parser.description = (
            "Put the variables and definitions in FILE into KERNEL; cells that start see them, other variables stay. "
            "A FILE that your key didn't sign, or that was altered or cut short, is refused before anything is loaded."
        )
    parser.add_argument("kernel", metavar="KERNEL", help="an id, the start of one, or a connection file")
    parser.add_argument("file", metavar="FILE", help="such as today.mpk")
    _add_timeout(parser)


def _add_clean(commands: _Commands) -> None:
    parser = _command(commands, "clean", "clean:run", "remove connection files of kernels that are no more")
    parser.description = (
        "Remove the connection files in the Jupyter runtime directory whose ports refuse connections, of whatever "
        "kernel they were. Looks twice, some seconds apart, because a kernel may just be restarting. Also removes the "
        "variables that kernels with --keep have left, if they haven't been written for a week."
    )
    parser.add_argument("--all", action="store_true", help="also files younger than a minute, and don't look twice")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only say what would be removed")


def _command(commands: _Commands, name: str, function: str, summary: str) -> argparse.ArgumentParser:
    """The parser for one command. `function` is ``module:function`` in this package, imported when it is to run."""

    def run(args: argparse.Namespace) -> int:
        module, _, attribute = function.partition(":")
        perform: Callable[[argparse.Namespace], int] = getattr(
            importlib.import_module(f"mpkernel.cli.{module}"), attribute
        )
        return perform(args)

    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary.capitalize()}.", allow_abbrev=False
    )
    parser.set_defaults(run=run)
    return parser


def _add_targets(parser: argparse.ArgumentParser) -> None:
    # None at all is allowed for `mpkernel ps -q | xargs mpkernel …` when nothing runs.
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="KERNEL/SUBSHELL")


def _add_timeout(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--timeout",
        type=_timeout,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help=f"how long kernels may take to answer (default: {DEFAULT_TIMEOUT_S:g})",
    )


# --- values: each raises ArgumentTypeError with what is wrong -----------------------------------------------------


def signal_name(text: str) -> str:
    """``TERM`` for each of ``TERM``, ``SIGTERM``, ``term``, ``15``."""
    try:
        if text.isdecimal():
            return signal.Signals(int(text)).name.removeprefix("SIG")
        return signal.Signals[f"SIG{text.upper().removeprefix('SIG')}"].name.removeprefix("SIG")
    except (KeyError, ValueError):
        raise argparse.ArgumentTypeError(f"{text!r} is not a signal; such as TERM, INT, KILL or 15") from None


def _seconds(text: str) -> float:
    return _number(text, at_least=0.0)


def _timeout(text: str) -> float:
    return _number(text, at_least=0.001)


def _watch_interval(text: str) -> float:
    return _number(text, at_least=MIN_WATCH_S)


def _number(text: str, *, at_least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < at_least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, at least {at_least:g}")
    return value
