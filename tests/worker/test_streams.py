"""What processes write to a cell's output keeps its place in it."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from mpkernel.worker.streams import Pipe


class Lanes:
    """Takes what is queued; the first text when it may, which is told when it comes."""

    def __init__(self) -> None:
        self.queued: list[str] = []
        self.came, self.may = threading.Event(), threading.Event()
        self.nested: list[bool] = []
        self.pipe: Any = None

    def add_pipe(self, *_: Any) -> None:
        """It isn't read here by itself."""

    def write(self, item: tuple[str, Any, str]) -> None:
        self.nested.append(self.pipe.is_behind())
        self.came.set()
        assert self.may.wait(10)
        self.queued.append(item[2])


class NoParents:
    current = None


def test_what_another_thread_has_read_comes_before_what_is_written_next(tmp_path: Path) -> None:
    """It isn't in the pipe any more, and not yet queued: who writes, or ends a cell, has to wait for it."""
    os.mkfifo(tmp_path / "fifo")
    lanes: Any = Lanes()
    pipe = lanes.pipe = Pipe("stdout", 1, tmp_path / "fifo", lanes, NoParents(), capture=False)  # type: ignore[arg-type]
    try:
        assert not pipe.is_behind()
        os.write(pipe.write_end, b"of a child\n")
        assert pipe.is_behind()
        reader = threading.Thread(target=pipe.drain)
        reader.start()
        assert lanes.came.wait(10)
        assert pipe.is_behind()
        lanes.may.set()
        pipe.drain()  # waits until that is queued
        assert lanes.queued == ["of a child\n"]
        reader.join()
        assert not pipe.is_behind()
        assert lanes.nested == [False], "who reads would wait for itself"
    finally:
        os.close(pipe.write_end)
        os.close(pipe._read_end)
