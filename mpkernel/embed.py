"""A kernel over a program's variables: `embed_kernel`, and `start_kernel` for one that runs beside the program.

The kernel is forked from the program. Its cells see all variables as they were at that moment, whatever they are, but
as copies: what a cell changes stays in the kernel. (With ipykernel they are the program's own objects, and the program
stands still meanwhile.)
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from mpkernel.errors import StartError

# `stop` asks; after so many seconds it kills.
STOP_WITHIN = 5.0


class EmbeddedKernel:
    """A kernel that was started by `start_kernel`. A context manager: it is stopped at the end."""

    def __init__(self, pid: int, connection_file: Path) -> None:
        self.pid = pid
        self.connection_file = connection_file
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.returncode: int | None = None
        threading.Thread(target=self._reap, name="mpkernel-embedded", daemon=True).start()

    def _reap(self) -> None:
        try:
            _, status = os.waitpid(self.pid, 0)
            returncode = os.waitstatus_to_exitcode(status)
        except ChildProcessError:  # somebody else did
            returncode = 0
        with self._lock:
            self.returncode = returncode
            self._ended.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the kernel has ended, because a client shut it down or `stop` was called; False if it hasn't."""
        return self._ended.wait(timeout)

    def stop(self, timeout: float = STOP_WITHIN) -> None:
        """End the kernel, with whatever it runs, and return when it is gone. From any thread, and more than once."""
        self._signal(signal.SIGTERM)
        if not self._ended.wait(timeout):
            self._signal(signal.SIGKILL)
            self._ended.wait()

    def _signal(self, signum: int) -> None:
        with self._lock:  # not reaped yet, so it's still that process
            if self.returncode is None:
                os.kill(self.pid, signum)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.stop()


def start_kernel(user_ns: Mapping[str, Any] | None = None, argv: Sequence[str] = ()) -> EmbeddedKernel:
    """Start a kernel whose cells see the variables in `user_ns`; returns as soon as clients can connect.

    They are copies, as they are now: what cells change stays in the kernel, and what the program changes isn't seen.
    `argv` as on the command line. Raises MPKernelError if the kernel can't start; it says why on stderr.
    """
    read_end, write_end = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_the_kernel(dict(user_ns or {}), list(argv), write_end)
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        path = os.fsdecode(pipe.readline().rstrip(b"\n"))
    if not path:
        os.waitpid(pid, 0)
        raise StartError("the embedded kernel could not start; its reason is on stderr")
    return EmbeddedKernel(pid, Path(path))


def embed_kernel(module: ModuleType | None = None, local_ns: Mapping[str, Any] | None = None, **options: Any) -> None:
    """Start a kernel over the caller's variables, and wait until a client shuts it down.

    They are copies: what cells change stays in the kernel, and the caller finds its variables as they were.
    `module` and `local_ns` default to the caller's. `options` are those of the command line: ``ip="0.0.0.0"``.
    """
    frame = sys._getframe(1)
    names = {
        **(vars(module) if module is not None else frame.f_globals),
        **(local_ns if local_ns is not None else frame.f_locals),
    }
    argv = [f"--MPKernelApp.{name}={value}" for name, value in options.items()]
    with start_kernel({k: v for k, v in names.items() if k not in ("__name__", "__builtins__")}, argv) as kernel:
        kernel.wait()


def _be_the_kernel(user_ns: dict[str, Any], argv: list[str], write_end: int) -> None:
    """In the forked process: never returns."""
    code = 1
    try:
        os.setpgid(0, 0)  # else an interrupt of the program would be the kernel's
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(signum, signal.SIG_DFL)
        os.environ["JPY_PARENT_PID"] = str(os.getppid())  # it ends with the program
        _forget_ipython()
        from mpkernel import launch

        def ready(path: Path) -> None:
            os.write(write_end, os.fsencode(path) + b"\n")
            os.close(write_end)

        code = launch.main(argv, user_ns=user_ns, ready=ready)
    except BaseException:  # noqa: BLE001
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(code)


def _forget_ipython() -> None:
    """The program may run in IPython, of which there can be one shell only."""
    core = sys.modules.get("IPython.core.getipython")
    shell = core.get_ipython() if core is not None else None
    if shell is not None:
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
        type(shell).clear_instance()
