"""How worker processes come to be and end, as the broker's loop sees it.

The broker is the parent of every worker: the one process that reaps it, so that a pid that it signals can't belong to
someone else. A forked worker is the zygote's grandchild whose parent has ended, and the broker is the "subreaper" to
which the kernel hands such orphans (prctl(2), PR_SET_CHILD_SUBREAPER). A spawned one is a direct child.

`Launcher` has the verbs of jupyter_client's provisioners, so that others (a cluster engine) can take its place.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import pickle
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from mpkernel.settings import SETTINGS_SIZE, WorkerSettings
from mpkernel.surroundings import refusal

log = logging.getLogger("mpkernel.broker")

LAUNCH_FAILED = -1
# They end a kernel in good order, from the moment on in which there is something to clean up.
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)
# So many zygotes in a row may end without having forked anything; then there's no next one until it is needed.
MAX_ZYGOTE_FAILURES = 3
# A zygote forks in some ms; but it may have to be built first, from files on a network, or to wait for its turn on a
# busy machine. One that is stopped gets less patience. Looks are counted, not seconds: they stop with us when the
# machine is suspended.
LOOK_AFTER_LAUNCH = 0.5
LOOKS_IF_STOPPED, LOOKS_AT_ALL = 6, 240


class Launcher(Protocol):
    """One way to start worker processes."""

    def fileno(self) -> int | None:
        """What to poll for `launched`; None if `launch` has its answer at once."""

    def launch(self, worker: int) -> None:
        """Start a process for `worker`. Returns before it exists."""

    def launched(self) -> list[tuple[int, int]]:
        """New (worker, pid) pairs; if there could be none, the pid is a negative errno, or `LAUNCH_FAILED`."""

    def exited(self, pid: int) -> bool:
        """The broker reaped `pid`; True if it was a part of the launcher (the zygote), which is started again."""

    def look_after(self, worker: int) -> float | None:
        """Seconds after which to look again whether `worker` was started; None if it was. May start the zygote anew."""

    def close(self) -> None:
        """Let go of everything. Workers are not touched."""


def python_command(module: str) -> list[str]:
    """The command that runs `module` in this interpreter, with the options it was started with."""
    return [sys.executable, *subprocess._args_from_interpreter_flags(), "-m", module]  # type: ignore[attr-defined]


class SpawnLauncher:
    """Starts each worker as a fresh interpreter: where fork is no good."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._launched: list[tuple[int, int]] = []
        self._pids: set[int] = set()
        # The guard cleans up when the broker is killed; it is the zygote's other half.
        self._guard = start_zygote_process(settings, fork=False)

    def fileno(self) -> int | None:
        return None

    def launch(self, worker: int) -> None:
        try:
            process = _popen_with_settings("mpkernel.worker", (self._settings, worker), (self._settings.lifeline_fd,))
        except OSError as error:
            self._launched.append((worker, -(error.errno or 1)))
            return
        self._launched.append((worker, process.pid))
        self._pids.add(process.pid)
        self._guard.guard(process.pid)

    def launched(self) -> list[tuple[int, int]]:
        found, self._launched = self._launched, []
        return found

    def exited(self, pid: int) -> bool:
        if pid in self._pids:
            self._pids.discard(pid)
            self._guard.unguard(pid)
        return False

    def look_after(self, worker: int) -> float | None:
        return None

    def close(self) -> None:
        self._guard.close(now=not self._pids)


class ZygoteConnection:
    """The broker's end of the socket to the zygote: JSON lines."""

    def __init__(self, sock: socket.socket, pid: int) -> None:
        self._sock = sock
        self.pid = pid
        self._buffer = b""
        self._unsent = b""
        self.closed = False
        self.reaped = False

    def fileno(self) -> int:
        return self._sock.fileno()

    def announce(self, folder: Path) -> None:
        """This is about to be made. If the broker is killed before `settle`, the zygote removes it."""
        self._tell(folder)

    def settle(self, settings: WorkerSettings) -> None:
        """What it waits for, once it has imported what it needs."""
        self._tell(settings)

    def _tell(self, what: object) -> None:
        data = pickle.dumps(what)
        with suppress(OSError):
            self._sock.sendall(SETTINGS_SIZE.pack(len(data)) + data)

    def _send(self, **message: object) -> None:
        self._unsent += json.dumps(message).encode() + b"\n"
        self.flush()

    def flush(self) -> None:
        """Send what it has not taken yet: one that is stopped doesn't read, and nobody is to wait for it."""
        with suppress(OSError):  # or it is gone, which the loop will notice
            while self._unsent:
                self._unsent = self._unsent[self._sock.send(self._unsent, socket.MSG_DONTWAIT) :]

    def fork(self, worker: int) -> None:
        self._send(op="fork", worker=worker)

    def guard(self, pid: int) -> None:
        self._send(op="guard", pid=pid)

    def unguard(self, pid: int) -> None:
        self._send(op="unguard", pid=pid)

    def receive(self) -> list[dict[str, int]]:
        """What the zygote said since; sets `closed` at its end."""
        with suppress(BlockingIOError, ConnectionResetError):
            while chunk := self._sock.recv(65536, socket.MSG_DONTWAIT):
                self._buffer += chunk
            self.closed = True
        *lines, self._buffer = self._buffer.split(b"\n")
        return [json.loads(line) for line in lines]

    def hang_up(self) -> None:
        """Close our end of the socket."""
        self.closed = True
        self._sock.close()

    def close(self, *, now: bool) -> None:
        """Have it end, which it does at the end of the socket, and wait for that.

        `now`: there is nothing left for it to clean up, and it may be in the midst of long imports.
        """
        self.hang_up()
        if self.reaped:
            return
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL if now else signal.SIGCONT)  # it may be stopped
            os.waitpid(self.pid, 0)
        self.reaped = True


class ZygoteLauncher:
    """Asks the zygote to fork; starts another zygote if that one dies."""

    def __init__(self, zygote: ZygoteConnection, settings: WorkerSettings) -> None:
        self._zygote = zygote
        self._settings = settings
        self._waiting: list[int] = []  # asked for, not yet launched
        self._found: list[tuple[int, int]] = []  # what `launched` will say
        self._looks = self._looks_stopped = 0  # in vain
        self._failures = 0  # zygotes in a row that ended before they had forked anything
        self._pids: set[int] = set()

    def fileno(self) -> int | None:
        return None if self._zygote.closed else self._zygote.fileno()

    def launch(self, worker: int) -> None:
        self._waiting.append(worker)
        if self._zygote.closed:
            self._restart()
        else:
            self._zygote.fork(worker)  # if it is dying, its end will be noticed, and another one asked

    def launched(self) -> list[tuple[int, int]]:
        self._hear()
        found, self._found = self._found, []
        return found

    def _hear(self) -> None:
        for message in [] if self._zygote.closed else self._zygote.receive():
            worker, pid = message["worker"], message["pid"]
            if worker not in self._waiting:
                continue
            self._waiting.remove(worker)
            self._found.append((worker, pid))
            self._looks = self._looks_stopped = 0
            if pid > 0:
                self._failures = 0
                self._pids.add(pid)

    def look_after(self, worker: int) -> float | None:
        if worker not in self._waiting:
            return None
        self._zygote.flush()
        if worker != self._waiting[0]:  # else the patience would be shorter the more wait
            return LOOK_AFTER_LAUNCH
        self._looks += 1
        self._looks_stopped = self._looks_stopped + 1 if _is_stopped(self._zygote.pid) else 0
        if not self._zygote.reaped and (self._looks_stopped > LOOKS_IF_STOPPED or self._looks > LOOKS_AT_ALL):
            why = "is stopped" if self._looks_stopped else "doesn't fork"
            log.warning("the zygote (pid %d) %s: another one takes its place", self._zygote.pid, why)
            with suppress(ProcessLookupError):
                os.kill(self._zygote.pid, signal.SIGKILL)  # its end will be noticed
            self._looks = self._looks_stopped = 0
        return LOOK_AFTER_LAUNCH

    def _restart(self) -> None:
        self._looks = self._looks_stopped = 0
        self._zygote.hang_up()
        self._zygote = start_zygote_process(self._settings, fork=True)
        for pid in self._pids:
            self._zygote.guard(pid)
        for worker in self._waiting:
            self._zygote.fork(worker)

    def exited(self, pid: int) -> bool:
        if pid in self._pids:  # not what a cell had started
            self._pids.discard(pid)
            self._zygote.unguard(pid)
        if pid != self._zygote.pid:
            return False
        self._hear()  # what it said last
        self._zygote.hang_up()
        self._zygote.reaped = True
        self._failures += 1
        why = LAUNCH_FAILED
        if self._failures < MAX_ZYGOTE_FAILURES:
            try:
                self._restart()
            except OSError as error:
                log.warning("no new zygote can be started: %s", refusal(error))
                why = -(error.errno or 1)
            else:
                return True
        self._found += [(worker, why) for worker in self._waiting]  # the next launch tries again
        self._waiting = []
        return True

    def close(self) -> None:
        self._zygote.close(now=not self._pids)


def start_zygote_process(settings: WorkerSettings, *, fork: bool) -> ZygoteConnection:
    """Start a zygote as a fresh interpreter (the first one is forked by `launch`, before there are threads).

    With ``fork=False`` it imports nothing and only guards: it cleans up if the broker is killed.
    """
    ours, theirs = socket.socketpair()
    command = [*python_command("mpkernel.worker.zygote"), str(theirs.fileno()), *([] if fork else ["--guard"])]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), settings.lifeline_fd), process_group=0
    )
    theirs.close()
    zygote = ZygoteConnection(ours, process.pid)
    zygote.settle(settings)
    return zygote


def _popen_with_settings(module: str, settings: object, keep: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Start `module` with `settings` pickled on its stdin: nothing secret in argv or environment."""
    process = subprocess.Popen(
        python_command(module), stdin=subprocess.PIPE, pass_fds=keep, start_new_session=False, process_group=0
    )
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write(pickle.dumps(settings))
        process.stdin.close()
    return process


def reap(group_leaders: Container[int]) -> list[tuple[int, int]]:
    """Reap all children that have ended: (pid, returncode), negative for a signal.

    What is left of the group of one of `group_leaders` (what its cells had started) is killed first: while the leader
    is a zombie, nobody else can have its number.
    """
    ended = []
    with suppress(ChildProcessError):
        while True:
            child = -1
            if hasattr(os, "waitid"):
                peek = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if peek is None:
                    break
                if peek.si_pid in group_leaders:
                    with suppress(ProcessLookupError, PermissionError):
                        os.killpg(peek.si_pid, signal.SIGKILL)
                child = peek.si_pid  # not another one, which has ended since
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid == 0:
                break
            ended.append((pid, os.waitstatus_to_exitcode(status)))
    return ended


def signal_group(pid: int, signum: int) -> None:
    """Signal the process group that `pid` leads; the process alone if it doesn't lead one yet."""
    try:
        os.killpg(pid, signum)
    except ProcessLookupError:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)
    except PermissionError:  # macOS: the group holds a zombie
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signum)


def _is_stopped(pid: int) -> bool:
    """By SIGSTOP, say, and not just waiting for its turn (proc(5)). Where that can't be known: it may be."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] in (b"T", b"t")
    except OSError:
        return sys.platform != "linux"


def has_room_for_files(count: int) -> bool:
    """Whether this process may open `count` more files."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return limit == resource.RLIM_INFINITY or len(os.listdir("/dev/fd")) + count <= limit


def keep_directory(path: Path) -> None:
    """Make the sockets' directory again if something that tidies up has removed it. Raises OSError if it isn't ours."""
    try:
        path.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise PermissionError(errno.EPERM, f"{path} was replaced by another user's") from None
    else:
        log.warning("%s had been removed, and was made again", path)
