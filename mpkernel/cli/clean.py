"""`mpkernel clean`: remove the connection files of kernels that are no more.

Only ``kernel-*.json`` in the runtime directory, and only while the kernel's port refuses connections. Two kinds of
kernels are alive and refuse nevertheless: one that is just starting (its file comes before its sockets, so young
files are kept) and one that is being restarted (it keeps its old file, so everything is looked at twice).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

from mpkernel.cli import kernels
from mpkernel.cli.kernels import Kernel, Reach
from mpkernel.cli.output import complain

YOUNG_S = 60.0
# ipykernel needs about one second from its end to listening again.
RESTART_S = 3.0


def run(args: argparse.Namespace) -> int:
    """Remove what is stale and say which files that were."""
    return clean(
        kernels.runtime_directory(), everything=args.all, dry_run=args.dry_run, now=time.time(), sleep=time.sleep
    )


def clean(directory: Path, *, everything: bool, dry_run: bool, now: float, sleep: Callable[[float], None]) -> int:
    """The same for `directory`; `everything`: without regard for kernels that start. `now` is in s since the epoch."""
    stale = _stale(directory)
    young = [] if everything else [kernel for kernel in stale if now - kernel.modified_ns / 1e9 < YOUNG_S]
    gone = [kernel for kernel in stale if kernel not in young]
    if gone and not everything:
        sleep(RESTART_S)
        again = {(kernel.path, kernel.modified_ns) for kernel in _stale(directory)}
        gone = [kernel for kernel in gone if (kernel.path, kernel.modified_ns) in again]
    failed = False
    for kernel in gone:
        try:
            if not dry_run:
                kernel.path.unlink(missing_ok=True)
        except OSError as error:
            complain(f"{kernel.path} can't be removed: {error.strerror}")
            failed = True
        else:
            print(f"{'would remove' if dry_run else 'removed'} {kernel.path}")
    for kernel in young:
        print(f"kept {kernel.path}: younger than a minute, its kernel may be starting (--all removes it too)")
    if not gone and not young:
        print("no stale connection files")
    return 1 if failed else 0


def _stale(directory: Path) -> list[Kernel]:
    found, _ = kernels.find(directory)
    reaches = kernels.reach_all(found)
    return [kernel for kernel, reach in zip(found, reaches, strict=True) if reach is Reach.REFUSED]
