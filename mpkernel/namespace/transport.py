"""Two ways to have memory that another process finds and that doesn't change any more: sealed memfds, and files.

Memfds are found through /proc/<pid>/fd, are nobody's to write or shorten once they are sealed, and vanish with their
last user. What is large is in files of huge pages (`hugepages`) instead, where there are such: found and gone in the
same way, but sealed by permission alone. Files in the kernel's private directory are for systems that have no memfds,
or no /proc, or hide it.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mpkernel.errors import BadSegment
from mpkernel.namespace.hugepages import HugePages

PAGE = mmap.PAGESIZE
_PREFIX = "segment-"
_READ_ONLY = 0o400
_JOINT = "+"  # between the names of parts
# From so many bytes on huge pages are wanted.
_HUGE_FROM = 8 << 20
_HUGE = "h"  # before the number of a handle
_huge = HugePages()


@dataclass(frozen=True, slots=True)
class Part:
    """Where a process finds it: the fd `name` of process `pid`, or the file `name`; and its size in bytes."""

    pid: int
    name: str
    size: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process finds a segment: the names of its parts, equally long but for the last; its size in all."""

    pid: int
    name: str
    size: int

    @classmethod
    def of(cls, pid: int, names: Sequence[str], size: int) -> Place:
        return cls(pid, _JOINT.join(names), size)

    def names(self) -> list[str]:
        return self.name.split(_JOINT)

    @property
    def stripe(self) -> int:
        """Bytes of each part but the last: whole pages."""
        return -(-self.size // len(self.names()) // PAGE) * PAGE

    def parts(self) -> list[Part]:
        """Raises BadSegment if so many parts don't make this size."""
        names, stripe = self.names(), self.stripe
        if not 0 < self.size - stripe * (len(names) - 1) <= stripe:
            raise BadSegment(f"no segment has {len(names)} parts and {self.size} bytes")
        return [Part(self.pid, name, min(stripe, self.size - i * stripe)) for i, name in enumerate(names)]


class Transport(Protocol):
    """A way to have memory that other processes can find. The same in all processes of a kernel."""

    parallel: bool  # whether several parts are written faster by as many threads

    def create(self, size: int) -> tuple[int, str]:
        """A new, empty part of this process, for so many bytes: an fd to write to, and its name."""

    def seal(self, fd: int, name: str) -> None:
        """It is written."""

    def drop(self, fd: int, name: str) -> None:
        """Close the writer's fd, of which the broker has taken over what it wants by now."""

    def hold(self, part: Part) -> Part:
        """Check a worker's part and keep it; returns where readers find it. Raises BadSegment."""

    def release(self, part: Part) -> None:
        """Let go of what `hold` returned."""

    def open(self, part: Part) -> int:
        """An fd to read from it. Raises BadSegment."""


class Memfds:
    """Sealed memfds, or files of huge pages, opened through /proc (Linux)."""

    parallel = True  # one file is written by one thread at a time

    def __init__(self) -> None:
        """Raises AttributeError where Python knows no memfds."""
        self._seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

    def create(self, size: int) -> tuple[int, str]:
        if size >= _HUGE_FROM and (fd := _huge.file()) is not None:
            return fd, f"{_HUGE}{fd}"
        fd = os.memfd_create("mpkernel", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        return fd, str(fd)

    def seal(self, fd: int, name: str) -> None:
        if name.startswith(_HUGE):
            os.fchmod(fd, _READ_ONLY)
        else:
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, self._seals)

    def drop(self, fd: int, name: str) -> None:
        os.close(fd)

    def hold(self, part: Part) -> Part:
        fd = self.open(part)
        return Part(os.getpid(), (_HUGE if part.name.startswith(_HUGE) else "") + str(fd), part.size)

    def release(self, part: Part) -> None:
        os.close(int(part.name.removeprefix(_HUGE)))

    def open(self, part: Part) -> int:
        number = part.name.removeprefix(_HUGE)
        if not (number.isascii() and number.isdecimal()):
            raise BadSegment(f"{part.name!r} is not the number of a file handle")
        path = f"/proc/{part.pid}/fd/{number}"
        with _checked(path, part) as fd:
            if number != part.name:
                _check_permission(fd, path)
                return fd
            try:
                seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
            except OSError:
                raise BadSegment(f"{path} is no memfd") from None
            if seals & self._seals != self._seals:
                raise BadSegment(f"{path} is not sealed: its content could still change")
        return fd


class Files:
    """Files in a directory that is this user's only, where there are no memfds or /proc hides them.

    They are sealed by permission alone: a process of the same user could change them.
    """

    parallel = False

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def create(self, size: int) -> tuple[int, str]:
        fd, path = tempfile.mkstemp(prefix=_PREFIX, dir=self._directory)
        return fd, os.path.basename(path)

    def seal(self, fd: int, name: str) -> None:
        os.fchmod(fd, _READ_ONLY)

    def drop(self, fd: int, name: str) -> None:
        os.close(fd)
        with suppress(OSError):
            if (self._directory / name).stat().st_mode & 0o200:  # never finished
                (self._directory / name).unlink()

    def hold(self, part: Part) -> Part:
        os.close(self.open(part))
        return part

    def release(self, part: Part) -> None:
        (self._directory / part.name).unlink(missing_ok=True)

    def open(self, part: Part) -> int:
        if not part.name.startswith(_PREFIX) or os.path.basename(part.name) != part.name:
            raise BadSegment(f"{part.name!r} is not the name of a segment")
        with _checked(str(self._directory / part.name), part, os.O_NOFOLLOW) as fd:
            _check_permission(fd, part.name)
        return fd


def _check_permission(fd: int, name: str) -> None:
    status = os.fstat(fd)
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) != _READ_ONLY:
        raise BadSegment(f"{name} is not sealed, or another user's")


@contextmanager
def _checked(path: str, part: Part, flags: int = 0) -> Iterator[int]:
    """Open what is a plain file of the right size; it is closed again if the caller isn't content with it."""
    try:
        if not flags & os.O_NOFOLLOW and not stat.S_ISREG(os.stat(path).st_mode):
            raise BadSegment(f"{path} is no segment")  # opening a device may do something
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    except OSError as error:
        raise BadSegment(f"{path} can't be opened ({error.strerror}): its process may be gone") from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != part.size:
            raise BadSegment(f"{path} has {status.st_size} bytes, not the {part.size} that were announced")
        yield fd
    except BaseException:
        os.close(fd)
        raise
