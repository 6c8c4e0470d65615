"""`mpkernel ps`, `interrupt`, `kill`, …: look at running kernels and steer them, however busy they are.

Everything is asked of the brokers on their control channels, with the keys of the connection files. No process is
ever looked for by its command line.
"""

from __future__ import annotations

import contextlib
import os
import sys

from mpkernel.errors import MPKernelError, TargetError

EXIT_FAILED = 1
EXIT_USAGE = 2  # what argparse exits with, too
# 128 + SIGINT and 128 + SIGPIPE: what a shell reports of a program that died of them.
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (default: this process's) and return the exit code.

    0: done; 1: a kernel or a target failed; 2: `argv` is wrong, or a TARGET means nothing or several things, and
    nothing was done.
    """
    for stream in (sys.stdout, sys.stderr):  # a terminal that lacks a character is no reason to fail
        if callable(reconfigure := getattr(stream, "reconfigure", None)):
            reconfigure(errors="backslashreplace")
    try:
        code = _run(argv)
        sys.stdout.flush()  # so that a pipe that is closed shows here, not in the interpreter's exit
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `mpkernel ps | head -1`
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    return code


def _run(argv: list[str] | None) -> int:
    from mpkernel.cli.arguments import build_parser

    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # --help, --version, or a mistake that argparse has explained
        return int(stop.code or 0)
    try:
        return int(args.run(args))
    except MPKernelError as error:
        from mpkernel.cli.output import complain

        complain(str(error))
        return EXIT_USAGE if isinstance(error, TargetError) else EXIT_FAILED
