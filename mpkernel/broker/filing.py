"""Writes and reads files of saved namespaces for the loop, each in a thread, as the loop must not wait for a disk.

The threads get bytes and places of segments, and hand back what they read. What holds segments (`holding`) stays with
the loop's thread, which drops it when it has heard of the end.
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from mpkernel.broker.events import LoadNamespace, NamespaceLoaded, NamespaceSaved, SaveNamespace
from mpkernel.broker.holding import Note, hold
from mpkernel.errors import MPKernelError
from mpkernel.keys import data_folder, kept_folder, signing_key
from mpkernel.namespace import archive
from mpkernel.namespace.archive import Content
from mpkernel.namespace.component import Component
from mpkernel.namespace.segments import Segments
from mpkernel.namespace.transport import Transport

log = logging.getLogger("mpkernel.broker")

# When the kernel ends, threads have so many seconds to clean up.
CLOSE_LIMIT = 2.0

Outcome = int | Content | Exception | None
Done = NamespaceSaved | NamespaceLoaded


class Filing:
    """`fileno` is readable when `finished` has something."""

    def __init__(self, segments: Segments, transport: Transport) -> None:
        self._segments = segments
        self._transport = transport
        self._results: queue.SimpleQueue[tuple[int, Outcome]] = queue.SimpleQueue()
        self._jobs: dict[int, SaveNamespace | LoadNamespace] = {}  # their components hold the segments
        self._threads: list[tuple[str, threading.Thread]] = []  # and the path that each is for
        self._removed: set[str] = set()  # what isn't to be there when the kernel has ended
        self._cancelled = threading.Event()
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)

    def fileno(self) -> int:
        return self._read

    def begin(self, action: SaveNamespace | LoadNamespace) -> None:
        """Begin to write or read a file. Raises RuntimeError if there is no thread for it."""
        if isinstance(action, SaveNamespace):
            self._save(action)
        else:
            self._load(action)

    def _save(self, action: SaveNamespace) -> None:
        path, left_out, transport = Path(action.path), action.left_out, self._transport
        content = archive.describe(action.components)
        earlier = [thread for of, thread in self._threads if of == action.path]

        def cancelled() -> bool:
            return self._cancelled.is_set() or action.path in self._removed

        def write() -> int:
            for thread in earlier:
                thread.join()
            key = signing_key(data_folder())
            saved = f"{datetime.now():%Y-%m-%d %H:%M:%S}"
            if path.parent == kept_folder():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                for left in path.parent.glob(archive.unfinished(path)):  # by this kernel, when it crashed
                    left.unlink()
            return archive.write(path, key, content, left_out, transport, saved=saved, cancelled=cancelled)

        self._begin(action, write)

    def _load(self, action: LoadNamespace) -> None:
        path, if_there = Path(action.path), action.if_there

        def read() -> Content | None:
            if if_there and not path.exists():
                return None
            return archive.read(path, signing_key(data_folder()), self._transport, cancelled=self._cancelled.is_set)

        self._begin(action, read)

    def _begin(self, action: SaveNamespace | LoadNamespace, work: Callable[[], Outcome]) -> None:
        def run() -> None:
            outcome: Outcome
            try:
                outcome = work()
            except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for the answer
                outcome = error
            self._results.put((token, outcome))
            os.write(self._write, b"\0")

        token = action.token
        thread = threading.Thread(target=run, name="filing", daemon=True)
        thread.start()
        self._jobs[token] = action
        self._threads = [one for one in self._threads if one[1].is_alive()] + [(action.path, thread)]

    def remove(self, path: str) -> None:
        """Remove a file before the kernel ends, also if it is just being written. Raises OSError."""
        self._removed.add(path)
        with suppress(FileNotFoundError):
            os.unlink(path)

    def finished(self) -> list[Done]:
        """What has come of files since."""
        events: list[Done] = []
        with suppress(BlockingIOError):
            os.read(self._read, 4096)
        while not self._results.empty():
            token, outcome = self._results.get()
            action = self._jobs.pop(token)
            events.append(self._event(action, outcome))
        return events

    def _event(self, action: SaveNamespace | LoadNamespace, outcome: Outcome) -> Done:
        error = ""
        if isinstance(outcome, Exception):
            error = _why(action, outcome)
        if isinstance(action, SaveNamespace):
            return NamespaceSaved(action.token, error, outcome if isinstance(outcome, int) else 0)
        if not isinstance(outcome, Content):
            return NamespaceLoaded(action.token, error)
        try:
            components = _held(self._segments, self._transport, outcome, f"file-{secrets.token_hex(4)}")
        except MPKernelError as refused:
            return NamespaceLoaded(action.token, str(refused))
        return NamespaceLoaded(action.token, "", components, outcome.left_out, outcome.saved)

    def close(self) -> None:
        """Give up what is not finished."""
        self._cancelled.set()
        for _, thread in self._threads:
            thread.join(CLOSE_LIMIT)
        for path in self._removed:  # it may have been finished just then
            with suppress(OSError):
                os.unlink(path)
        while not self._results.empty():
            _, outcome = self._results.get()
            if isinstance(outcome, Content):
                archive.drop(outcome.segments, self._transport)
        if not any(thread.is_alive() for _, thread in self._threads):
            os.close(self._read)
            os.close(self._write)


def _why(action: SaveNamespace | LoadNamespace, error: Exception) -> str:
    if isinstance(error, MPKernelError):
        return str(error)
    if isinstance(error, archive.Cancelled):
        return "the kernel is shutting down"
    saving = isinstance(action, SaveNamespace)
    failed = f"{action.path} can't be {'written' if saving else 'read'}"
    if isinstance(error, FileNotFoundError):
        return f"{failed}: {f'there is no folder {Path(action.path).parent}' if saving else 'there is no such file'}"
    if isinstance(error, OSError) and error.strerror is not None:
        return f"{failed}: {error.strerror}"
    log.error("%s", failed, exc_info=error)
    return f"{failed}: {error} (see `mpkernel logs`)"


def _held(segments: Segments, transport: Transport, content: Content, origin: str) -> list[Component]:
    """Take hold of what was read from a file; returns its components, with where readers find their memory.

    `origin` makes the segments' keys unlike all others. Raises BadSegment.
    """
    try:
        notes = [hold(segments, os.getpid(), {"name": made.name, "size": made.size}) for made in content.segments]
    finally:
        archive.drop(content.segments, transport)

    def placed(told: dict[str, Any]) -> Note:
        own = {key: value for key, value in told.items() if key != "part"}
        note: Note = notes[told["part"]]
        if "key" in own:
            own["key"] = f"{origin}.{told['part']}"
        note.update(own)
        return note

    components = []
    for component in content.components:
        meta = dict(component.meta)
        if "segment" in meta:
            meta["segment"] = placed(meta["segment"])
        if "deltas" in meta:
            meta["deltas"] = [placed(told) for told in meta["deltas"]]
        components.append(Component(component.names, component.kind, meta, component.blobs))
    return components
