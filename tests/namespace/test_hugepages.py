"""Files of huge pages: had by whatever right there is, found by nobody, and no harm if they can't be had."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

from mpkernel.namespace import hugepages
from mpkernel.namespace.hugepages import HugePages
from mpkernel.namespace.segments import choose, write

MB = 1 << 20


@pytest.fixture
def mount_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], HugePages]:
    """Makes a file system in one of the two ways; skips where that isn't allowed."""

    def mount(way: str) -> HugePages:
        root = getattr(hugepages, way)() if hugepages.why_not() == "" else None
        if root is None:
            pytest.skip(hugepages.why_not() or "not allowed here")
        monkeypatch.setattr(hugepages, "_mounted", lambda: root)
        return HugePages()

    return mount


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    for fd in set(os.listdir("/proc/self/fd")) - before:
        with suppress(OSError):  # that of the listing
            os.close(int(fd))


@pytest.mark.parametrize("way", ["_mounted", "_mounted_by_helper"])
def test_a_file_has_no_name_and_is_gone_with_its_handle(way: str, mount_by: Callable[[str], HugePages]) -> None:
    pages = mount_by(way)
    fd = pages.file()
    assert fd is not None
    status = os.fstat(fd)
    assert (stat.S_IMODE(status.st_mode), status.st_nlink, status.st_uid) == (0o600, 0, os.geteuid())
    assert pages._root is not None
    assert os.listdir(f"/proc/self/fd/{pages._root}") == []
    assert not any("mpkernel" in line for line in Path("/proc/self/mounts").read_text().splitlines())
    assert not os.get_inheritable(fd)
    assert not os.get_inheritable(pages._root)


def test_nothing_is_written_to_what_took_the_handles_place(
    mount_by: Callable[[str], HugePages], tmp_path: Path
) -> None:
    pages = mount_by("_mounted")
    assert pages.file() is not None
    assert pages._root is not None
    other = os.open(tmp_path, os.O_DIRECTORY)
    os.dup2(other, pages._root)  # as code that closes all handles it doesn't know, and goes on
    assert pages.file() is None
    os.close(pages._root)
    assert pages.file() is None


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EINVAL])
def test_where_there_are_none_memfds_are_used(number: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refused(*_: object) -> NoReturn:
        raise OSError(number, "refused")

    monkeypatch.setattr(hugepages, "_call", refused)
    monkeypatch.setattr(hugepages, "_mounted_by_helper", lambda: None)
    monkeypatch.setattr("mpkernel.namespace.transport._huge", HugePages())
    transport = choose(tmp_path)
    with write(transport, [b"x" * (20 * MB)]) as segment:
        assert all(name.isdecimal() for name in segment.place.names())


def test_only_what_is_large_is_in_them(mount_by: Callable[[str], HugePages], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mpkernel.namespace.transport._huge", mount_by("_mounted"))
    transport = choose(Path("."))
    with write(transport, [b"x" * (20 * MB)]) as large, write(transport, [b"x" * MB]) as small:
        assert [name[0] for name in large.place.names()] == ["h"] * len(large.fds)
        assert small.place.name.isdecimal()


def test_a_helper_that_fails_is_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    assert hugepages._mounted_by_helper() is None
    monkeypatch.setattr("sys.executable", "/nowhere")
    assert hugepages._mounted_by_helper() is None
    monkeypatch.setattr("sys.executable", None)
    assert hugepages._mounted_by_helper() is None
