"""Linux's write-protect tracking by ctypes: which pages of this process were written since they were last asked for.

userfaultfd(2) with UFFD_FEATURE_WP_ASYNC lets the kernel itself note each first write to a page, without a handler and
without privileges; ioctl(PAGEMAP_SCAN) reads these notes and takes them back in one atomic step per page (Linux 6.7,
Documentation/admin-guide/mm/pagemap.rst). Numbers are from linux/userfaultfd.h and linux/fs.h.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import platform
from collections.abc import Iterator
from contextlib import suppress

PAGE = mmap.PAGESIZE

_SYSCALL = {"x86_64": 323, "aarch64": 282, "riscv64": 282, "ppc64le": 364, "s390x": 355}
_USER_MODE_ONLY = 1
_API = 0xAA
_IO_API = 0xC018AA3F
_IO_REGISTER = 0xC020AA00
_IO_UNREGISTER = 0x8010AA01
_MODE_WP = 2
# HUGETLBFS_SHMEM: file-backed mappings; UNPOPULATED: pages not there yet; ASYNC: the kernel resolves the faults.
_FEATURES = 1 << 12 | 1 << 13 | 1 << 15

_IO_SCAN = 0xC0606610
_WP_MATCHING = 1
_CHECK_WPASYNC = 2
_WRITTEN = 2
_REGIONS = 512  # regions that one call returns at most


class _Words(ctypes.Structure):
    """Any of the structs here: they are made of 64 bit words."""

    _fields_ = (("word", ctypes.c_uint64 * 12),)


def _words(*values: int) -> _Words:
    words = _Words()
    words.word[: len(values)] = values
    return words


class Userfault:
    """Tracks pages of the process that opened it; a child after fork can't use it, as it would scan its parent."""

    def __init__(self) -> None:
        """Raises OSError where the kernel or a sandbox doesn't give it."""
        self._pid = os.getpid()
        self._uffd = _userfaultfd()
        self._pagemap = -1
        try:
            fcntl.ioctl(self._uffd, _IO_API, _words(_API, _FEATURES))
            self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self.close()
            raise

    @property
    def usable(self) -> bool:
        """False after close, and in a child of the process that it belongs to."""
        return self._uffd >= 0 and os.getpid() == self._pid

    def register(self, start: int, end: int) -> None:
        """Begin to track the pages from start to end, with all of them counted as clean."""
        fcntl.ioctl(self._uffd, _IO_REGISTER, _words(start, end - start, _MODE_WP))
        for _ in self.written(start, end):
            pass

    def unregister(self, start: int, end: int) -> None:
        """Stop tracking; memory that is gone or was never tracked is no error."""
        if self.usable:
            with suppress(OSError):
                fcntl.ioctl(self._uffd, _IO_UNREGISTER, _words(start, end - start))

    def written(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The runs (start, end) written since the last time; to be read to the end. Raises OSError if not tracked."""
        return self._scan(start, end, _WP_MATCHING | _CHECK_WPASYNC)

    def tracked(self, start: int, end: int) -> bool:
        """Whether all memory there still is what was registered: what is unmapped, moved or mapped anew is not."""
        try:
            for _ in self._scan(start, end, _CHECK_WPASYNC):
                pass
        except OSError:
            return False
        return True

    def close(self) -> None:
        """Give all tracking up; the last holder of the handle ends it."""
        for fd in (self._uffd, self._pagemap):
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self._uffd = self._pagemap = -1

    def _scan(self, start: int, end: int, flags: int) -> Iterator[tuple[int, int]]:
        # Not kept for the next call: the GIL is released in ioctl, and another thread may scan as well.
        regions = (ctypes.c_uint64 * (3 * _REGIONS))()
        while start < end:
            if not self.usable:
                raise OSError(errno.EBADF, "page tracking of another process, or closed")
            scan = _words(96, flags, start, end, 0, ctypes.addressof(regions), _REGIONS, 0, 0, _WRITTEN, 0, _WRITTEN)
            found = fcntl.ioctl(self._pagemap, _IO_SCAN, scan)
            for i in range(found):
                yield regions[3 * i], regions[3 * i + 1]
            start = scan.word[4]  # where the walk ended


def _userfaultfd() -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None or platform.system() != "Linux":
        raise OSError(errno.ENOSYS, "no userfaultfd on this system")
    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.syscall(number, os.O_CLOEXEC | os.O_NONBLOCK | _USER_MODE_ONLY)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "userfaultfd")
    return fd
