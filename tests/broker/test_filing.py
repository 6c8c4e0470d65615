"""Files of saved namespaces, written and read beside the loop."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpkernel.broker import filing
from mpkernel.broker.events import LoadNamespace, NamespaceLoaded, NamespaceSaved, SaveNamespace
from mpkernel.broker.filing import Filing
from mpkernel.namespace import archive
from mpkernel.namespace.component import Component
from mpkernel.namespace.segments import Files, Segments


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filing]:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    transport = Files(tmp_path)
    made = Filing(Segments(transport), transport)
    yield made
    made.close()


@pytest.fixture
def path() -> Path:
    return filing.kept_folder() / "file"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Each file, when it has been written but for its name, waits for this."""
    found, fsync = threading.Event(), archive.os.fsync  # type: ignore[attr-defined]

    def wait(fd: int) -> None:
        fsync(fd)
        assert found.wait(10)

    monkeypatch.setattr(archive.os, "fsync", wait)  # type: ignore[attr-defined]
    return found


def save(files: Filing, path: Path, token: int) -> None:
    files.begin(SaveNamespace(token, str(path), [Component((f"name{token}",))], []))


def ended(files: Filing) -> list[Any]:
    for _, thread in files._threads:
        thread.join()
    return files.finished()


def test_one_file_is_written_after_the_other(files: Filing, path: Path, gate: threading.Event) -> None:
    save(files, path, 1)
    save(files, path, 2)
    gate.set()
    assert [(type(done), done.token, done.error) for done in ended(files)] == [
        (NamespaceSaved, 1, ""),
        (NamespaceSaved, 2, ""),
    ]
    files.begin(LoadNamespace(3, str(path), if_there=False))
    [loaded] = ended(files)
    assert isinstance(loaded, NamespaceLoaded)
    assert [component.names for component in loaded.components] == [("name2",)]
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_to_be_removed_is_not_left_by_who_writes_it(
    files: Filing, path: Path, gate: threading.Event
) -> None:
    save(files, path, 1)
    files.remove(str(path))
    gate.set()
    assert ended(files)[0].error
    assert list(path.parent.iterdir()) == []


def test_what_is_done_is_told_though_its_signal_has_not_come(
    files: Filing, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    with monkeypatch.context() as patch:
        patch.setattr(files, "_write", -1)  # to write into the pipe fails
        save(files, path, 1)
        assert [done.token for done in ended(files)] == [1]
