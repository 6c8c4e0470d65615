"""Memory that is left is what the tightest of machine, control groups and own limits leaves."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from mpkernel.namespace.pressure import cap, limits, memory_available, plentiful, shortage

GB = 1 << 30


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with 16 GB, of which 12 are left."""
    put(tmp_path, "proc/meminfo", "MemTotal: 16777216 kB\nMemFree: 1 kB\nMemAvailable: 12582912 kB\n")
    return tmp_path


def put(root: Path, name: str, content: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_the_machine_alone(root: Path) -> None:
    assert memory_available(root) == 12 * GB
    assert cap(root) == 8 * GB
    assert plentiful(3 * GB, root)
    assert not plentiful(4 * GB, root)


def test_that_no_file_can_be_opened_is_said(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It isn't taken for a system without /proc."""

    def refuse(path: Path) -> str:
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert not plentiful(1, root)
    with pytest.raises(OSError, match="Too many open files"):
        shortage(1, GB, root)


def test_control_groups_of_version_2_and_their_parents(root: Path) -> None:
    put(root, "proc/self/cgroup", "0::/user/kernel\n")
    put(root, "sys/fs/cgroup/user/kernel/memory.max", "max\n")
    put(root, "sys/fs/cgroup/user/kernel/memory.current", str(GB))
    put(root, "sys/fs/cgroup/user/memory.max", f"{4 * GB}\n")
    put(root, "sys/fs/cgroup/user/memory.current", str(3 * GB))
    put(root, "sys/fs/cgroup/user/memory.stat", f"anon 7\ninactive_file {GB}\n")  # a cache that can go
    assert memory_available(root) == 2 * GB
    assert cap(root) == 2 * GB
    assert not plentiful(0, root)


def test_memory_high_counts_as_a_limit(root: Path) -> None:
    put(root, "proc/self/cgroup", "0::/\n")
    put(root, "sys/fs/cgroup/memory.max", f"{4 * GB}\n")
    put(root, "sys/fs/cgroup/memory.high", f"{2 * GB}\n")
    put(root, "sys/fs/cgroup/memory.current", str(GB))
    assert memory_available(root) == GB


def test_a_container_that_sees_the_path_of_its_host(root: Path) -> None:
    put(root, "proc/self/cgroup", "12:memory:/docker/0123\n0::/docker/0123\n")
    put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", str(2 * GB))
    put(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", str(GB))
    put(root, "sys/fs/cgroup/memory/memory.stat", f"total_inactive_file {GB // 2}\n")
    assert memory_available(root) == GB + GB // 2
    assert cap(root) == GB


def test_no_limit_of_version_1_is_a_huge_number(root: Path) -> None:
    put(root, "proc/self/cgroup", "12:memory:/\n")
    put(root, "sys/fs/cgroup/memory/memory.limit_in_bytes", str(0x7FFFFFFFFFFFF000))
    put(root, "sys/fs/cgroup/memory/memory.usage_in_bytes", str(GB))
    assert memory_available(root) == 12 * GB


def test_this_machine_has_memory() -> None:
    assert 0 < memory_available() < limits()[0].total
    assert not plentiful(1 << 60)


@pytest.mark.skipif(sys.platform != "linux", reason="VmSize is Linux's")
def test_the_limit_of_the_process_itself() -> None:
    code = (
        "import resource; from mpkernel.namespace.pressure import memory_available, plentiful;"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30));"
        "print(memory_available() < 1 << 30, plentiful(0), plentiful(1 << 29))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["True", "True", "False"]
