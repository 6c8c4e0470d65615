"""The worker's half of the namespace service: commits what a cell changed, applies what others committed.

The plain form: at the end of a cell each changed name is pickled by itself; the last writer wins.
"""

from __future__ import annotations

import logging
import time
import types
from typing import Any

from mpkernel.messages import Commit, News
from mpkernel.namespace import pickling
from mpkernel.namespace.changes import Changes, Tracker

log = logging.getLogger("mpkernel.namespace")

# What is larger stays with its owner: it would be copied into a message, and once more by the broker.
MAX_PAYLOAD = 256 << 20

# Statements of a cell that follow each other faster are published together (seconds).
RELEASE_INTERVAL = 0.1


class NamespaceSync:
    """Attached to a shell; all calls come from the main thread."""

    def __init__(self, shell: Any) -> None:
        self._namespace: dict[str, Any] = shell.user_ns
        self._tracker = Tracker(self._namespace)
        self._committed = 0.0  # when: monotonic seconds
        self._lost: set[str] = set()  # names that we could not commit

    def startup_done(self) -> None:
        """Startup files and the like have run: each worker has what they made by itself."""
        self._tracker.rebase()

    def ran(self, code: types.CodeType) -> None:
        """A top-level statement of a cell was run."""
        self._tracker.ran(code)

    def apply(self, news: News) -> None:
        """Take over what other subshells committed."""
        for name, payload in zip(news.names, news.blobs, strict=True):
            try:
                value = pickling.loads(payload)
            except Exception as error:
                log.warning("the value of %r from another subshell could not be loaded: %s", name, error)
                continue
            self._namespace[name] = value
            self._tracker.received(name, value)
            self._lost.discard(name)
        for name in news.deleted:
            self._namespace.pop(name, None)
            self._tracker.received(name, None, deleted=True)
            self._lost.discard(name)

    def release(self) -> Commit | None:
        """After a top-level statement: names that were rebound or deleted, if the last commit isn't just over."""
        if time.monotonic() - self._committed < RELEASE_INTERVAL:
            return None
        return self._commit(self._tracker.collect(mutations=False))

    def commit(self) -> Commit | None:
        """At the end of a cell: what it changed, None if nothing."""
        return self._commit(self._tracker.collect())

    def _commit(self, changes: Changes) -> Commit | None:
        self._committed = time.monotonic()
        names: list[str] = []
        lost: list[str] = []
        blobs: list[bytes] = []
        for name in changes.changed:
            value = self._namespace.get(name)
            try:
                if getattr(value, "nbytes", 0) > MAX_PAYLOAD:
                    raise ValueError(f"more than {MAX_PAYLOAD >> 20} MB")
                blobs.append(pickling.dumps(value, self._namespace))
                names.append(name)
            except Exception as error:
                log.debug("%r stays in this subshell: %s", name, error)
                lost.append(name)
        fresh_lost = [name for name in lost if name not in self._lost]
        self._lost = (self._lost | set(lost)) - set(names) - set(changes.deleted)
        if not names and not changes.deleted and not fresh_lost:
            return None
        return Commit(names, changes.deleted, fresh_lost, tuple(blobs))
