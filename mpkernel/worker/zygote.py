"""The zygote: a single-threaded process with IPython imported and a shell built, which forks the workers.

It has no thread, no zmq context and no socket but the one to the broker, so that a fork of it is whole. It is also the
guard: when the broker is killed, it kills what is left of the workers and removes the sockets' directory. (In its own
process group, as front ends kill a kernel by group.)

A worker must not be the zygote's child but the broker's, which reaps it. So it is forked from a process in between,
which ends at once; the kernel then hands the worker to the broker, the nearest "subreaper" (prctl(2)). The worker waits
until that has happened, and the broker has been told its pid: then there is a byte in a pipe.
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import socket
import sys
import traceback
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpkernel import logs
from mpkernel.settings import SETTINGS_SIZE, WorkerSettings
from mpkernel.surroundings import leave_deleted_folder

if TYPE_CHECKING:
    from mpkernel.worker.template import Template

LAUNCH_FAILED = -1


class Zygote:
    def __init__(self, settings: WorkerSettings, sock: socket.socket, template: Template | None) -> None:
        self._settings = settings
        self._sock = sock
        self._template = template
        self._guarded: set[int] = set()

    def serve(self) -> None:
        """Until the broker closes the socket, or is gone."""
        buffer = b""
        while chunk := self._receive():
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                message = json.loads(line)
                if message["op"] == "fork":
                    self._fork(message["worker"])
                elif message["op"] == "guard":
                    self._guarded.add(message["pid"])
                else:
                    self._guarded.discard(message["pid"])
        self._clean_up()

    def _receive(self) -> bytes:
        try:
            return self._sock.recv(65536)
        except OSError:
            return b""

    def _clean_up(self) -> None:
        for pid in self._guarded:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        shutil.rmtree(self._settings.directory, ignore_errors=True)

    def _fork(self, worker: int) -> None:
        with ExitStack() as opened:
            try:
                pid_read, pid_write = _pipe(opened)
                go_read, go_write = _pipe(opened)
                middle = os.fork()
            except OSError as error:
                self._tell(worker, -(error.errno or 1))
                return
            opened.pop_all()
        if middle == 0:
            self._be_in_between(worker, (pid_read, go_write), pid_write, go_read)
        os.close(pid_write)
        os.close(go_read)
        pid = int(os.read(pid_read, 32) or str(LAUNCH_FAILED))
        os.waitpid(middle, 0)  # now the worker is the broker's child
        os.close(pid_read)
        if pid > 0:
            self._guarded.add(pid)
        self._tell(worker, pid)
        with suppress(OSError):
            os.write(go_write, b"g")
        os.close(go_write)
        if self._template is not None:
            self._template.warm_up()

    def _tell(self, worker: int, pid: int) -> None:
        """A negative `pid` is what was wrong, an errno."""
        with suppress(OSError):
            self._sock.sendall(json.dumps({"worker": worker, "pid": pid}).encode() + b"\n")

    def _be_in_between(self, worker: int, close: tuple[int, ...], pid_write: int, go_read: int) -> None:
        """In the process between zygote and worker, and in the worker itself: never returns."""
        try:
            for fd in close:
                os.close(fd)
            pid = os.fork()
            if pid == 0:
                os.close(pid_write)
                self._be_worker(worker, go_read)
            os.write(pid_write, str(pid).encode())
        except OSError as error:
            with suppress(OSError):
                os.write(pid_write, str(-(error.errno or 1)).encode())
        finally:
            os._exit(0)

    def _be_worker(self, worker: int, go_read: int) -> None:
        code = 1
        try:
            os.setpgid(0, 0)
            self._sock.close()
            assert self._template is not None, "a mere guard forks no worker"
            if not os.read(go_read, 1):
                os._exit(1)  # the zygote was killed before it could say who we are
            os.close(go_read)
            from mpkernel.worker.process import run

            run(self._template, self._settings, worker)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0
        except BaseException:
            with suppress(OSError):  # sys.stderr may be a cell's output already, which nobody sends any more
                os.write(2, traceback.format_exc().encode(errors="backslashreplace"))
        finally:
            _end(code)


def _pipe(opened: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for fd in ends:
        opened.callback(os.close, fd)
    return ends


def _end(code: int) -> None:
    """End like an interpreter does: threads, exit hooks, buffers. (`sys.exit` would unwind the zygote's frames.)"""
    import atexit
    import threading

    with suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]
    with suppress(BaseException):
        atexit._run_exitfuncs()
    with suppress(BaseException):
        from mpkernel.worker.shell import ZMQInteractiveShell

        shell = ZMQInteractiveShell.instance()
        shell.kernel.streams.drain()
        shell.kernel.lanes.stop()
    os._exit(code)


def main(sock: socket.socket, user_ns: dict[str, Any] | None = None, *, fork: bool = True) -> None:
    """Be the zygote, or with ``fork=False`` only the guard, until the broker is gone. `user_ns`: see `launch.main`."""
    with suppress(OSError):
        os.setpgid(0, 0)
    leave_deleted_folder()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGHUP))
    if fork:
        import mpkernel.worker.process  # noqa: F401, all that workers need; meanwhile the broker makes the settings
        from mpkernel.worker.template import Template
    settings = receive_settings(sock)
    if settings is None:
        return  # the kernel doesn't start
    settings = replace(settings, user_ns=user_ns)
    logs.silence(settings.silenced)
    logs.to_fd(2, settings.log_level, settings.log_format)
    if sys.platform == "linux":
        from mpkernel.prctl import PR_SET_PDEATHSIG, prctl

        with suppress(OSError):  # when the broker ends, it cleans up though somebody has stopped it
            prctl(PR_SET_PDEATHSIG, signal.SIGCONT)
    Zygote(settings, sock, Template(settings) if fork else None).serve()


def receive_settings(sock: socket.socket) -> WorkerSettings | None:
    """What the broker says first, after the folders that it is about to make.

    None if it is gone; then these are, too.
    """
    folders: list[Path] = []
    while len(size := sock.recv(SETTINGS_SIZE.size, socket.MSG_WAITALL)) == SETTINGS_SIZE.size:
        (nbytes,) = SETTINGS_SIZE.unpack(size)
        data = sock.recv(nbytes, socket.MSG_WAITALL)
        if len(data) < nbytes:
            break
        told: WorkerSettings | Path = pickle.loads(data)
        if isinstance(told, WorkerSettings):
            return told
        folders.append(told)
    for folder in folders:
        with suppress(OSError):
            folder.rmdir()
    return None


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), fork="--guard" not in sys.argv)
