"""Coverage-guided fuzzing of what parses bytes from outside: ``python -m scripts.fuzz [TARGET] [-max_total_time=60]``.

Targets: `wire` (front ends), `lane` (workers), `archive` (saved namespaces), and the state machine, as claimed in
tests/broker: `course` (any course of events), `content` (of requests), `worker` (fields of what workers say). Needs
atheris, and hypothesis for the last three, which also need long inputs (give -len_control=0, and a folder with some
random files of a kilobyte to begin with); says so if it isn't there.
Whatever is raised but the target's own error ends it, with the input in a file.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

try:
    import atheris  # type: ignore[import-not-found]
except ImportError:
    print("skipped: atheris is not installed (pip install atheris; there are wheels for some Pythons only)")
    sys.exit(0)

PLAYED = {"course", "content", "worker"}
with atheris.instrument_imports(include=["mpkernel", "json"]):
    from mpkernel import messages
    from mpkernel.broker.lanes import check
    from mpkernel.errors import BadArchive, BadMessage
    from mpkernel.namespace import archive
    from mpkernel.namespace.transport import Files
    from mpkernel.wire import DELIMITER, Codec, Signer

    if PLAYED & set(sys.argv):  # these need hypothesis
        from hypothesis import settings
        from hypothesis.stateful import get_state_machine_test

        from tests.broker import test_any_course, test_fuzz

        ANY_COURSE: Any = get_state_machine_test(
            test_any_course.AnyCourse, settings=settings(stateful_step_count=40, deadline=None, database=None)
        )

KINDS = list(messages._KINDS)
NO_KEY = Signer(b"")  # so that signatures don't keep it out


def wire(data: bytes) -> None:
    """Frames of a front end."""
    try:
        message = Codec(NO_KEY).unpack([DELIMITER, b"", *data.split(b"|")])
        message.content(), message.parent_header(), message.metadata()
    except BadMessage:
        pass


def lane(data: bytes) -> None:
    """Frames of a worker."""
    kind, rest = KINDS[data[0] % len(KINDS)] if data else b"", data[1:]
    with contextlib.suppress(BadMessage):
        check(messages.unpack([kind, b"", *rest.split(b"|")], NO_KEY))


def saved(data: bytes) -> None:
    """A file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(archive.MAGIC + data)
        with contextlib.suppress(BadArchive):
            archive.read(path, b"key", Files(Path(folder)))


def course(data: bytes) -> None:
    """Front ends, workers, disks and the clock do whatever they like."""
    _play(ANY_COURSE, data)


def content(data: bytes) -> None:
    """A request with any content."""
    _play(test_fuzz.test_content_of_any_kind_is_answered, data)


def worker(data: bytes) -> None:
    """A signed message with any fields."""
    _play(test_fuzz.test_a_signed_message_of_a_worker_with_any_fields, data)


def _play(test: Any, data: bytes) -> None:
    test.hypothesis.fuzz_one_input(data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "wire": wire,
    "lane": lane,
    "archive": saved,
    "course": course,
    "content": content,
    "worker": worker,
}

if __name__ == "__main__":
    name = sys.argv.pop(1) if len(sys.argv) > 1 and sys.argv[1] in TARGETS else "wire"
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()
