"""How much memory there is: for the machine, for each control group around this process, and by its own limits.

A copy of a big buffer is a convenience, and must never be what brings the machine or the container to kill a process.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")
# Copies of fewer bytes are made without a look (it takes 0.1 ms).
CHECKED = 4 << 20


@dataclass(frozen=True, slots=True)
class Limit:
    """Something that bounds memory: bytes in all, and bytes that are left."""

    name: str
    total: int
    available: int


# What stands for these is tried again; a file that isn't there never will be.
_NO_LOOK = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def memory_available(root: Path = _ROOT) -> int:
    """Bytes that this process could still use before anything refuses, or kills."""
    return max(0, min(limit.available for limit in limits(root)))


def plentiful(nbytes: int, root: Path = _ROOT) -> bool:
    """Whether after a copy of that many bytes more than half of what any limit allows is known to be still there."""
    try:
        return all(limit.available - nbytes > limit.total / 2 for limit in limits(root))
    except OSError:
        return False


def cap(root: Path = _ROOT) -> int:
    """What the store may hold at most, if not told otherwise: half of the memory of machine or container, in bytes."""
    return min(limit.total for limit in (_machine(root), *_cgroups(root))) // 2


def shortage(held: int, most: int, root: Path = _ROOT) -> int:
    """How much of `held` bytes of copies should be given up: what is above `most`, or lacks to a tenth of any limit."""
    lacking = max(limit.total // 10 - limit.available for limit in limits(root))
    return max(0, held - most, min(held, lacking))


def room_for(nbytes: int, root: Path = _ROOT) -> None:
    """Raises OSError if a copy of that size would use up nearly all that is left."""
    if nbytes >= CHECKED and nbytes > 0.9 * (left := memory_available(root)):
        raise OSError(errno.ENOMEM, f"{nbytes >> 20} MB are needed, and {left >> 20} MB are left")


def limits(root: Path = _ROOT) -> list[Limit]:
    """All that bound memory here, the machine's first. `root` is where /proc and /sys are found.

    Raises OSError if it can't be found out now, as there are too few files for a look.
    """
    return [_machine(root), *_cgroups(root), *_own(root)]


def _machine(root: Path) -> Limit:
    fields = _fields(root / "proc/meminfo")
    if "MemAvailable:" in fields:
        return Limit("memory of the machine", fields["MemTotal:"] << 10, fields["MemAvailable:"] << 10)
    import psutil  # where there is no /proc

    memory = psutil.virtual_memory()
    return Limit("memory of the machine", memory.total, memory.available)


def _cgroups(root: Path) -> Iterator[Limit]:
    """Version 2 (one tree) and 1 (one for each controller): the own group, and those that it is in."""
    memory = root / "sys/fs/cgroup"
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from _groups(memory, path, ("memory.max", "memory.high"), "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            tree = memory / "memory"
            names = ("memory.limit_in_bytes",)
            yield from _groups(tree, path, names, "memory.usage_in_bytes", "total_inactive_file")


def _groups(tree: Path, path: str, limit_names: tuple[str, ...], usage_name: str, cache: str) -> Iterator[Limit]:
    # In a container the path may be one of the host's, and the container's own group be the root of the tree.
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for depth in range(len(parts), -1, -1):
        group = tree.joinpath(*parts[:depth])
        bounds = [int(text) for name in limit_names if (text := _text(group / name).strip()).isdecimal()]
        usage = _text(group / usage_name).strip()
        if bounds and min(bounds) < 1 << 60 and usage.isdecimal():
            total = min(bounds)
            used = int(usage) - _fields(group / "memory.stat").get(cache, 0)
            yield Limit(f"control group /{'/'.join(parts[:depth])}", total, total - max(used, 0))


def _own(root: Path) -> Iterator[Limit]:
    """What setrlimit(2) allows this process: all of its address space, or its data."""
    for name, number, used in (
        ("RLIMIT_AS", resource.RLIMIT_AS, "VmSize:"),
        ("RLIMIT_DATA", resource.RLIMIT_DATA, "VmData:"),
    ):
        total, _ = resource.getrlimit(number)
        if total not in (resource.RLIM_INFINITY, -1) and total < 1 << 60:
            yield Limit(name, total, total - (_fields(root / "proc/self/status").get(used, 0) << 10))


def _fields(path: Path) -> dict[str, int]:
    """The first number of each line, by the line's first word."""
    words = (line.split() for line in _text(path).splitlines())
    return {first: int(rest[0]) for first, *rest in words if rest and rest[0].isdecimal()}


def _text(path: Path) -> str:
    """What is in the file; nothing, if it isn't there or isn't for us. Raises OSError if no file can be opened."""
    try:
        return path.read_text()
    except UnicodeDecodeError:
        return ""
    except OSError as error:
        if error.errno in _NO_LOOK:
            raise
        return ""
