"""The broker takes no more segments than leave it files for new workers and clients."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mpkernel.broker.holding import LEFT, crowded, take_segments
from mpkernel.messages import Commit
from mpkernel.namespace.component import LOST, VALUE
from mpkernel.namespace.segments import Segments, choose, write


@contextmanager
def files_left(count: int) -> Iterator[None]:
    """So many more files may be opened."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_what_would_leave_too_few_files_is_refused(tmp_path: Path) -> None:
    transport = choose(tmp_path)
    segments = Segments(transport)
    with write(transport, [b"content"]) as segment:
        told = {"name": segment.place.name, "size": segment.size, "ranges": segment.ranges, "key": "1.1"}
        heads = [[["x"], VALUE, {"segment": told, "rebound": []}, 1], [["y"], VALUE, {}, 1]]
        commit = Commit(0, heads, [], False, (b"x", b"y"))
        with files_left(LEFT):
            assert crowded(commit)
            answer, refused = take_segments(segments, 1, os.getpid(), commit)
    assert answer is not None
    assert (answer.refused, refused) == ([segment.place.name], ["x"])
    assert commit.components == [[["x"], LOST, {"rebound": []}, 0], [["y"], VALUE, {}, 1]]
    assert commit.blobs == (b"y",)
    assert len(segments) == 0


def test_what_leaves_enough_is_taken(tmp_path: Path) -> None:
    transport = choose(tmp_path)
    segments = Segments(transport)
    with write(transport, [b"content"]) as segment:
        told = {"name": segment.place.name, "size": segment.size, "ranges": segment.ranges, "key": "1.1"}
        commit = Commit(0, [[["x"], VALUE, {"segment": told}, 0]], [], False, ())
        with files_left(2 * LEFT):
            assert not crowded(commit)
            assert take_segments(segments, 1, os.getpid(), commit)[1] == []
    assert len(segments) == 1
    segments.close()
