"""The kernelspec's entry: fork the zygote, become the broker.

The order is what makes the start fast: listen, as a client that finds nobody comes again only after 100 to 200 ms. Then
the zygote is forked as soon as there is what both need, and imports IPython on another core while the broker reads its
options and makes its sockets; its settings follow. It must come before there are threads (libzmq has some).
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from mpkernel.errors import StartError, UnsupportedPlatform
from mpkernel.surroundings import leave_deleted_folder, open_standard_files, refusal

if TYPE_CHECKING:
    from pathlib import Path


_BACKLOG = 100  # as libzmq's


class Start(NamedTuple):
    """What is there before the options are read."""

    zygote: tuple[socket.socket, int] | None  # our end of its socket, its pid; None: `start_method` is "spawn"
    lifeline_fd: int  # workers see EOF on it when the broker is gone
    listening: dict[str, socket.socket]  # by channel: who connects waits in line already


def main(
    argv: list[str] | None = None,
    *,
    kernel_class: str = "",
    user_ns: dict[str, Any] | None = None,
    ready: Callable[[Path], None] = lambda _: None,
) -> int:
    """Run a kernel until it is shut down; returns the exit code.

    `kernel_class`: of a wrapper kernel, see `wrapper`. `user_ns`: variables that the shells begin with, see `embed`;
    `ready` is called with the connection file as soon as clients can connect.
    """
    gc.disable()  # until all is imported
    open_standard_files()
    leave_deleted_folder()
    try:
        _check_platform()
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the broker handles it
        argv = sys.argv[1:] if argv is None else argv
        listening = _listen(argv)
        _import_what_both_need()
        start = _fork_zygote(user_ns, listening)
        from mpkernel.broker import process

        process.run(argv, start, kernel_class, user_ns, ready)
    except StartError as error:
        print(f"mpkernel: {error}", file=sys.stderr)
        return 1
    return 0


def run() -> NoReturn:
    """Be the kernel's program: `main`. Ends the process at once, as Python's own way to do so takes half of a shutdown.

    Nothing is left to it: what there was is closed, and no code of the user's ran here.
    """
    code = main()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code)


def _check_platform() -> None:
    if os.name != "posix":
        raise UnsupportedPlatform(
            f"mpkernel doesn't run on {sys.platform}: it needs fork, signals and unix sockets. "
            "Use it on Linux or macOS (or in WSL), or the ipykernel kernel here."
        )


def _listen(argv: list[str]) -> dict[str, socket.socket]:
    """Listen where the connection file says, if all is plain; else the broker will, and say what is wrong."""
    listening: dict[str, socket.socket] = {}
    try:
        with open(argv[argv.index("-f") + 1], encoding="utf-8") as file:
            told = json.load(file)
        ports = {channel: told[f"{channel}_port"] for channel in ("shell", "iopub", "stdin", "control", "hb")}
        if told["transport"] != "tcp" or not all(ports.values()):
            return {}
        family = socket.AF_INET6 if ":" in told["ip"] else socket.AF_INET
        for channel, port in ports.items():
            listening[channel] = socket.create_server((told["ip"], port), family=family, backlog=_BACKLOG)
            listening[channel].setblocking(False)
    except (LookupError, OSError, OverflowError, TypeError, ValueError):
        for taken in listening.values():
            taken.close()
        return {}
    return listening


def _import_what_both_need() -> None:
    """Broker and zygote have it from before the fork, so that it costs the time of one core only."""
    import traitlets.config  # noqa: F401
    import zmq  # noqa: F401  # its threads come with its first context

    from mpkernel import logs, messages, settings, wire  # noqa: F401


def _fork_zygote(user_ns: dict[str, Any] | None, listening: dict[str, socket.socket]) -> Start:
    """Fork the zygote from this process, which is still small and has no threads."""
    lifeline_read, lifeline_write = os.pipe()
    os.set_inheritable(lifeline_write, False)
    if os.environ.get("MPKERNEL_START") == "spawn":
        return Start(None, lifeline_read, listening)
    ours, theirs = socket.socketpair()
    try:
        pid = os.fork()
    except OSError as error:
        raise StartError(f"the system refuses another process: {refusal(error)}") from error
    if pid == 0:
        code = 1
        try:
            ours.close()
            for channel in listening.values():
                channel.close()
            os.close(lifeline_write)
            from mpkernel.worker import zygote

            zygote.main(theirs, user_ns)
            code = 0
        except SystemExit:  # IPython has said why it can't go on
            pass
        except BaseException:  # noqa: BLE001
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(code)
    theirs.close()
    return Start((ours, pid), lifeline_read, listening)
