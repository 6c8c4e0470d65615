"""`mpkernel clean`: which connection files go, and which must stay."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from mpkernel import connection
from mpkernel.cli import clean as module
from mpkernel.connection import ConnectionInfo

from .conftest import LONG_AGO, Kernels, Shell


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_stale_files_are_removed_and_named(kernels: Kernels, mpkernel: Shell) -> None:
    first, second = kernels.dead("a"), kernels.dead("b")
    outcome = mpkernel("clean")
    assert (outcome.code, outcome.lines) == (0, [f"removed {first}", f"removed {second}"])
    assert not first.exists()
    assert not second.exists()


def test_files_of_living_foreign_and_silent_kernels_stay(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("ours")
    kernels.start("theirs", implementation="ipython")
    kernels.silent("hung")
    outcome = mpkernel("clean", "--all")
    assert (outcome.code, outcome.out) == (0, "no stale connection files\n")
    assert len(list(kernels.directory.iterdir())) == 3


def test_only_connection_files_of_kernels_are_looked_at(kernels: Kernels, mpkernel: Shell) -> None:
    stale = kernels.dead("a").read_text()
    others = ["jpserver-1.json", "kernel-a.json.bak", "mykernel-a.json", "kernel-broken.json"]
    for name in others:
        (kernels.directory / name).write_text(stale if name != "kernel-broken.json" else "{")
    mpkernel("clean", "--all")
    assert sorted(path.name for path in kernels.directory.iterdir()) == sorted(others)


def test_a_file_younger_than_a_minute_stays_because_its_kernel_may_be_starting(
    kernels: Kernels, mpkernel: Shell
) -> None:
    path = kernels.dead("new", modified=time.time())
    outcome = mpkernel("clean")
    assert outcome.code == 0
    assert outcome.out.startswith(f"kept {path}: younger than a minute")
    assert path.exists()


def test_all_removes_young_files_too(kernels: Kernels, mpkernel: Shell) -> None:
    path = kernels.dead("new", modified=time.time())
    assert mpkernel("clean", "--all").out == f"removed {path}\n"
    assert not path.exists()


def test_a_dry_run_removes_nothing(kernels: Kernels, mpkernel: Shell) -> None:
    path = kernels.dead("a")
    assert mpkernel("clean", "--dry-run").out == f"would remove {path}\n"
    assert path.exists()


def test_a_kernel_that_is_back_at_the_second_look_keeps_its_file(
    kernels: Kernels, capsys: pytest.CaptureFixture[str]
) -> None:
    path = kernels.dead("restarting")

    def restart(seconds: float) -> None:
        kernels.start("restarting")
        os.utime(path, (LONG_AGO, LONG_AGO))

    assert module.clean(kernels.directory, everything=False, dry_run=False, now=time.time(), sleep=restart) == 0
    assert path.exists()
    assert capsys.readouterr().out == "no stale connection files\n"


def test_a_file_that_is_written_anew_between_the_looks_stays(kernels: Kernels) -> None:
    path = kernels.dead("restarting")
    module.clean(kernels.directory, everything=False, dry_run=False, now=time.time(), sleep=lambda _: os.utime(path))
    assert path.exists()


def test_a_file_that_can_not_be_removed_is_a_failure(
    kernels: Kernels, mpkernel: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = kernels.dead("a")

    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    outcome = mpkernel("clean")
    assert outcome.code == 1
    assert outcome.err == f"mpkernel: {path} can't be removed: Permission denied\n"


def test_a_kernel_whose_host_does_not_answer_stays(
    kernels: Kernels, mpkernel: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silence(address: tuple[str, int], timeout: float) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr("socket.create_connection", silence)
    path = kernels.dead("far")
    assert mpkernel("clean", "--all").out == "no stale connection files\n"
    assert path.exists()
    outcome = mpkernel("ps")
    assert outcome.code == 1
    assert "kernel far can't be reached at tcp://127.0.0.1:" in outcome.err


def test_a_kernel_with_a_relative_ipc_address_stays(kernels: Kernels, mpkernel: Shell) -> None:
    info = ConnectionInfo(transport="ipc", ip="kernel-ipc").with_ports(control=4)  # relative to the kernel's directory
    path = kernels.directory / "kernel-far.json"
    connection.write(path, info)
    assert mpkernel("clean", "--all").out == "no stale connection files\n"
    assert path.exists()


def test_a_kernel_whose_ipc_socket_is_gone_is_stale(kernels: Kernels, mpkernel: Shell) -> None:
    info = ConnectionInfo(transport="ipc", ip=str(kernels.directory / "gone")).with_ports(control=4)
    path = kernels.directory / "kernel-a.json"
    connection.write(path, info)
    assert mpkernel("clean", "--all").out == f"removed {path}\n"


def kept(tmp_path: Path, name: str, modified: float = LONG_AGO) -> Path:
    """A file with variables that a kernel with ``--keep`` has left."""
    path = tmp_path / "data" / "mpkernel" / "kept" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    os.utime(path, (modified, modified))
    return path


def test_what_a_kernel_kept_that_is_no_more_is_removed(kernels: Kernels, mpkernel: Shell, tmp_path: Path) -> None:
    kernels.start("alive")
    alive, new = kept(tmp_path, "alive-0123456789abcdef"), kept(tmp_path, "new-0123456789abcdef", time.time())
    gone, half = kept(tmp_path, "gone-0123456789abcdef"), kept(tmp_path, ".gone-0123456789abcdef.x1.part")
    assert f"would remove {gone}" in mpkernel("clean", "--dry-run").lines
    assert gone.exists()
    outcome = mpkernel("clean")
    assert outcome.code == 0
    assert set(outcome.lines) == {"no stale connection files", f"removed {gone}", f"removed {half}"}
    assert alive.exists()
    assert new.exists()
    assert not gone.exists()
