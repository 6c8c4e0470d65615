"""`mpkernel clean`: remove the connection files of kernels that are no more.

Only ``kernel-*.json`` in the runtime directory, and only while the kernel's port refuses connections. Two kinds of
kernels are alive and refuse nevertheless: one that is just starting (its file comes before its sockets, so young
files are kept) and one that is being restarted (it keeps its old file, so everything is looked at twice).

A kernel with ``--keep`` that crashed for good leaves its variables (docs/keeping.md). Such a file goes if no connection
file is its kernel's and nobody has written it for a week: other machines may share the folder, but not the runtime
directory.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mpkernel.cli import kernels
from mpkernel.cli.kernels import Kernel, Reach
from mpkernel.cli.output import complain
from mpkernel.keys import kept_folder

YOUNG_S = 60.0
# ipykernel needs about one second from its end to listening again.
RESTART_S = 3.0
KEPT_S = 7 * 24 * 3600.0


def run(args: argparse.Namespace) -> int:
    """Remove what is stale and say which files that were."""
    runtime, now = kernels.runtime_directory(), time.time()
    code = clean(runtime, everything=args.all, dry_run=args.dry_run, now=now, sleep=time.sleep)
    return max(code, clean_kept(kept_folder(), runtime, dry_run=args.dry_run, now=now))


def clean(directory: Path, *, everything: bool, dry_run: bool, now: float, sleep: Callable[[float], None]) -> int:
    """The same for `directory`; `everything`: without regard for kernels that start. `now` is in s since the epoch."""
    stale = _stale(directory)
    young = [] if everything else [kernel for kernel in stale if now - kernel.modified_ns / 1e9 < YOUNG_S]
    gone = [kernel for kernel in stale if kernel not in young]
    if gone and not everything:
        sleep(RESTART_S)
        again = {(kernel.path, kernel.modified_ns) for kernel in _stale(directory)}
        gone = [kernel for kernel in gone if (kernel.path, kernel.modified_ns) in again]
    code = _remove([kernel.path for kernel in gone], dry_run=dry_run)
    for kernel in young:
        print(f"kept {kernel.path}: younger than a minute, its kernel may be starting (--all removes it too)")
    if not gone and not young:
        print("no stale connection files")
    return code


def clean_kept(folder: Path, runtime: Path, *, dry_run: bool, now: float) -> int:
    """Remove the variables, in `folder`, of kernels that are no more; `runtime` has the connection files."""
    old = []
    for path in sorted(folder.glob("*")):
        with suppress(OSError):  # a kernel that ends removes its file
            if path.is_file() and now - path.stat().st_mtime > KEPT_S and not _connection_files(path, runtime):
                old.append(path)
    return _remove(old, dry_run=dry_run)


def _connection_files(kept: Path, runtime: Path) -> list[Path]:
    """Those of the kernel that wrote a file, finished or not."""
    kernel_id = kept.name.removeprefix(".").rpartition("-")[0]
    return [path for name in (kernel_id, f"{kernels.PREFIX}{kernel_id}") if (path := runtime / f"{name}.json").exists()]


def _remove(paths: list[Path], *, dry_run: bool) -> int:
    failed = False
    for path in paths:
        try:
            if not dry_run:
                path.unlink(missing_ok=True)
        except OSError as error:
            complain(f"{path} can't be removed: {error.strerror}")
            failed = True
        else:
            print(f"{'would remove' if dry_run else 'removed'} {path}")
    return 1 if failed else 0


def _stale(directory: Path) -> list[Kernel]:
    found, _ = kernels.find(directory)
    reaches = kernels.reach_all(found)
    return [kernel for kernel, reach in zip(found, reaches, strict=True) if reach is Reach.REFUSED]
