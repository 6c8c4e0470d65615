"""Files whose memory has huge pages: a gigabyte is written to them as fast as it is copied, to a memfd much slower.

Memfds have pages of 4 kB on nearly all systems (``/sys/kernel/mm/transparent_hugepage/shmem_enabled``). A tmpfs of
one's own may have huge ones. It is mounted nowhere: only its handle leads to it, and it is gone with its last file.
Mounting takes the rights of an administrator, or a user namespace, where everybody has them; many systems let a process
make one, which is then done by a helper process, as one of a process with threads can't be made. Linux 5.2 or newer.

Run as a program: mounts such a file system in a user namespace, and sends its handle to the socket that is its stdin.
"""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from contextlib import suppress

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same on all machines
_SET_STRING, _CREATE = 1, 6
_CLOEXEC = 1
_NEW_USER_AND_MOUNTS = 0x10000000 | 0x00020000
_HELPER_PATIENCE = 2.0  # seconds
_CAP_SYS_ADMIN = 21
# With these values, users may not make namespaces in which they could mount something.
_FORBID = {
    "/proc/sys/user/max_user_namespaces": "0",
    "/proc/sys/kernel/unprivileged_userns_clone": "0",
    "/proc/sys/kernel/apparmor_restrict_unprivileged_userns": "1",
}


class HugePages:
    """One process's file system of huge pages, made when the first file is wanted."""

    def __init__(self) -> None:
        self._root: int | None = None
        self._is: tuple[int, int] | None = None  # user code may close what it doesn't know, and open something else
        self._tried = False

    def file(self) -> int | None:
        """A new file without a name, for this user only; None if there can't be one."""
        if not self._tried:
            self._tried = True
            self._root = _mounted()
            self._is = _identity(self._root) if self._root is not None else None
        if self._root is None:
            return None
        try:
            if _identity(self._root) != self._is:
                return None
            return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._root)
        except OSError:
            return None


def why_not() -> str:
    """What seems to be in the way of huge pages here; "" if nothing. Nothing is mounted to find out."""
    with suppress(OSError, ValueError, KeyError), open("/proc/self/status") as file:
        status = dict(line.split(":\t", 1) for line in file if ":\t" in line)
        if int(status["CapEff"], 16) >> _CAP_SYS_ADMIN & 1:
            return ""
    for path, value in _FORBID.items():
        with suppress(OSError), open(path) as file:
            if file.read().strip() == value:
                return f"users may not make namespaces ({path} is {value})"
    return ""


def _identity(root: int) -> tuple[int, int]:
    status = os.fstat(root)
    return status.st_dev, status.st_ino


def _mounted() -> int | None:
    """A handle of a new file system's root; None if this system doesn't let us."""
    if sys.platform != "linux":
        return None
    try:
        return _mount()
    except PermissionError:
        return _mounted_by_helper()
    except OSError:
        return None


def _mount() -> int:
    """Raises OSError."""
    context = _call(_FSOPEN, b"tmpfs", _CLOEXEC)
    try:
        # Only as many huge pages as a file fills; as much memory as there is.
        for key, value in ((b"huge", b"within_size"), (b"size", b"0"), (b"mode", b"0700")):
            _call(_FSCONFIG, context, _SET_STRING, key, value, 0)
        _call(_FSCONFIG, context, _CREATE, None, None, 0)
        return _call(_FSMOUNT, context, _CLOEXEC, 0)
    finally:
        os.close(context)


def _call(number: int, *arguments: int | bytes | None) -> int:
    result = int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _mounted_by_helper() -> int | None:
    ours, helpers = socket.socketpair()
    with ours, helpers:
        try:
            helper = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__],
                stdin=helpers.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        except (OSError, TypeError):  # user code may have taken `sys.executable` away
            return None
        helpers.close()  # else it would be waited for if the helper fails
        ours.settimeout(_HELPER_PATIENCE)
        try:
            _, handles, _, _ = socket.recv_fds(ours, 1, 1)
        except OSError:
            handles = []
            helper.kill()
        helper.wait()
    if not handles:
        return None
    os.set_inheritable(handles[0], False)
    return handles[0]


def _help() -> None:
    uid, gid = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER_AND_MOUNTS) < 0:
        sys.exit("no user namespace")
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    with socket.socket(fileno=0) as parent:
        socket.send_fds(parent, [b"m"], [_mount()])


if __name__ == "__main__":
    _help()
