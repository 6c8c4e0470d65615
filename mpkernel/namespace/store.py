"""The broker's half of the namespace service: what each name was last committed as. Opaque bytes, never unpickled.

One clock orders all commits. A worker is told, before each request, what others committed since it last heard
(`news`); a fresh worker is told everything, which is how a subshell survives the death of its process.

This is the plain form: one pickle per name, the last writer wins, everything rides in messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mpkernel.messages import Commit, News


@dataclass(frozen=True, slots=True)
class _Entry:
    version: int
    writer: int
    payload: bytes | None  # None: deleted
    lost: bool = False  # lives in its owner only: could not be pickled


@dataclass(slots=True)
class NamespaceStore:
    """Names by their last commit; `writer` and `worker` are worker ids."""

    clock: int = 0
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _seen: dict[int, int] = field(default_factory=dict)

    def commit(self, worker: int, commit: Commit) -> None:
        """Take over what `worker` changed."""
        self.clock += 1
        for name, payload in zip(commit.names, commit.blobs, strict=True):
            self._put(name, worker, payload)
        for name in commit.deleted:  # also what nobody committed: startup files made it in every worker
            self._put(name, worker, None)
        for name in commit.lost:
            self._put(name, worker, None, lost=True)

    def _put(self, name: str, worker: int, payload: bytes | None, *, lost: bool = False) -> None:
        self._entries.pop(name, None)  # re-inserted at the end: the dict stays ordered by version
        self._entries[name] = _Entry(self.clock, worker, payload, lost)

    def news(self, worker: int) -> News | None:
        """What `worker` has not heard of, None if nothing. It counts as told."""
        seen = self._seen.get(worker, 0)
        self._seen[worker] = self.clock
        if seen == self.clock:
            return None
        fresh: list[tuple[str, bytes]] = []
        deleted: list[str] = []
        for name in reversed(self._entries):
            entry = self._entries[name]
            if entry.version <= seen:
                break
            if entry.writer == worker or entry.lost:
                continue
            if entry.payload is None:
                deleted.append(name)
            else:
                fresh.append((name, entry.payload))
        if not fresh and not deleted:
            return None
        fresh.reverse()
        return News(self.clock, [name for name, _ in fresh], deleted, tuple(payload for _, payload in fresh))

    def forget(self, worker: int) -> None:
        """`worker` is gone: what only it had is gone too."""
        self._seen.pop(worker, None)
        for name in self.lost_names(worker):
            del self._entries[name]

    def lost_names(self, worker: int) -> list[str]:
        """Names whose value only `worker` has."""
        return sorted(name for name, entry in self._entries.items() if entry.lost and entry.writer == worker)

    def kept_names(self) -> list[str]:
        """Names that a new worker would get."""
        return sorted(name for name, entry in self._entries.items() if entry.payload is not None)
