"""What tests of values share: each way for large ones to travel, and time enough."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mpkernel.namespace import changes, sync
from mpkernel.namespace import transport as ways
from mpkernel.namespace.pages import PageTracker
from mpkernel.namespace.segments import choose, memfds_work
from mpkernel.namespace.transport import Transport

HUGE = (first := ways._huge.file()) is not None
if first is not None:
    os.close(first)


@pytest.fixture(params=["memfds", "huge pages", "files"])
def transport(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Transport:
    if request.param != "files" and not memfds_work():
        pytest.skip("no memfds")
    if request.param == "huge pages" and not HUGE:
        pytest.skip("this system lets nobody mount a file system")
    monkeypatch.setattr(ways, "_HUGE_FROM", 0 if request.param == "huge pages" else 1 << 60)
    return choose(tmp_path, memfds=request.param != "files")


@pytest.fixture(autouse=True)
def nobody_watches_on(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Else nobody could watch what the next test has at that address: a process has one tracker, tests have many."""
    trackers: list[PageTracker] = []
    begin = PageTracker.__init__

    def noted(self: PageTracker, **how: Any) -> None:
        begin(self, **how)
        trackers.append(self)

    monkeypatch.setattr(PageTracker, "__init__", noted)
    yield
    for tracker in trackers:
        tracker.close()


@pytest.fixture(autouse=True)
def plenty_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cell's end isn't cut short: collecting the garbage of the whole run of tests would count, too."""
    for limit in ("ALONE", "NOT_ALONE"):
        monkeypatch.setattr(sync, limit, 60.0)
    monkeypatch.setattr(changes, "CHECK_ALL_BUDGET", 60.0)  # on a slow machine, two small lists took longer
