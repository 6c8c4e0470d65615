"""A component: names that share objects, and their values as bytes. The unit of commits, versions and pickles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

VALUE = "value"
DELETED = "deleted"
HELD = "held"  # too dear to copy now: its owner has it, and gives it to whoever asks


@dataclass(frozen=True, slots=True)
class Component:
    """`blobs` and `meta` (JSON-able) are for workers; the broker reads ``nbytes`` and ``stubs`` of `meta` only."""

    names: tuple[str, ...]
    kind: str = VALUE
    meta: dict[str, Any] = field(default_factory=dict)
    blobs: tuple[bytes, ...] = ()

    @property
    def nbytes(self) -> int:
        """What it costs to send and load."""
        return int(self.meta.get("nbytes", 0)) or sum(len(blob) for blob in self.blobs)


def join(components: Iterable[Component]) -> tuple[list[Any], tuple[bytes, ...]]:
    """As fields of a lane message: a JSON-able list, and the blobs of all."""
    heads: list[Any] = []
    blobs: list[bytes] = []
    for component in components:
        heads.append([list(component.names), component.kind, component.meta, len(component.blobs)])
        blobs += component.blobs
    return heads, tuple(blobs)


def split(heads: Sequence[Any], blobs: Sequence[bytes]) -> Iterator[Component]:
    """The inverse of `join`. Raises ValueError if the two don't fit."""
    if sum(head[3] for head in heads) != len(blobs):
        raise ValueError("a message about variables is cut short")
    start = 0
    for names, kind, meta, count in heads:
        yield Component(tuple(names), kind, meta, tuple(blobs[start : start + count]))
        start += count
