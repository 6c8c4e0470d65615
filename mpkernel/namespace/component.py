"""A component: names that share objects, and their values as bytes. The unit of commits, versions and pickles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

VALUE = "value"
DELETED = "deleted"
PROCESS = "%"  # begins names that are no variables, but state of the process
HELD = "held"  # too dear to copy now: its owner has it, and gives it to whoever asks
LOST = "lost"  # in the broker only: its memory could not be had, and its worker is asked to send it by other means


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

    @property
    def rebound(self) -> Sequence[str]:
        """Those of the names that count as bound to another object; all, unless it is told."""
        told: Sequence[str] = self.meta.get("rebound", self.names)
        return told

    @property
    def bound(self) -> Sequence[str]:
        """Those of them that code has bound. The others were sent as a whole for another reason."""
        told: Sequence[str] = self.meta.get("bound", self.rebound)
        return told

    @property
    def given(self) -> Sequence[str]:
        """Those of the names whose values a worker is given: all, unless it was told which to take."""
        told: Sequence[str] = self.meta.get("take", self.names)
        return told


def join(components: Iterable[Component]) -> tuple[list[Any], tuple[bytes, ...]]:
    """As fields of a lane message: a JSON-able list, and the blobs of all."""
    heads: list[Any] = []
    blobs: list[bytes] = []
    for component in components:
        heads.append([list(component.names), component.kind, component.meta, len(component.blobs)])
        blobs += component.blobs
    return heads, tuple(blobs)


def check(heads: Sequence[Any], blobs: Sequence[bytes]) -> None:
    """Raises ValueError if these aren't what `join` makes."""
    count = 0
    for head in heads:
        if not isinstance(head, list) or len(head) != 4:
            raise ValueError("a component has four fields")
        names, kind, meta, blob_count = head
        if not (isinstance(names, list) and names and all(isinstance(name, str) for name in names)):
            raise ValueError("a component has names")
        if kind not in (VALUE, DELETED, HELD) or not isinstance(meta, dict):
            raise ValueError(f"a component can't be {kind!r:.40}")
        for key, of in _META.items():
            if not isinstance(meta.get(key, of()), of):
                raise ValueError(f"the {key} of a component can't be {meta[key]!r:.40}")
        for names_of in ("stubs", "rebound", "bound"):
            if not all(isinstance(name, str) for name in meta.get(names_of, ())):
                raise ValueError(f"{names_of} are names")
        for told in (meta.get("segment"), meta.get("delta")):
            if told is not None and not _is_place(told):
                raise ValueError("a segment has a name, a size, and ranges")
        if "segment" in meta and not isinstance(meta["segment"].get("key"), str):
            raise ValueError("a segment has a key")
        if "segment" in meta and "delta" in meta:
            raise ValueError("a component is a segment or a delta")
        if "onto" in meta and "delta" not in meta:
            raise ValueError("a delta needs a segment")
        for told in meta.get("left_out", ()):
            if not (isinstance(told, list) and len(told) == 2 and isinstance(told[0], list)):
                raise ValueError("what is left out has names and a reason")
            if not all(isinstance(name, str) for name in (*told[0], told[1])):
                raise ValueError("what is left out has names and a reason")
        if type(blob_count) is not int or blob_count < 0:
            raise ValueError("a component has so many blobs")
        count += blob_count
    if count != len(blobs):
        raise ValueError("a message about variables is cut short")


_META: dict[str, type] = {
    "nbytes": int,
    "stubs": list,
    "rebound": list,
    "bound": list,
    "onto": str,
    "left_out": list,
    "why": str,
    "texts": list,
    "segment": dict,
    "delta": dict,
    "deltas": tuple,  # deltas are put together by the store only
}


def _is_place(told: dict[str, Any]) -> bool:
    name, size = told.get("name"), told.get("size")
    return isinstance(name, str) and type(size) is int and 0 < size < 1 << 60 and isinstance(told.get("ranges"), list)


def split(heads: Sequence[Any], blobs: Sequence[bytes]) -> Iterator[Component]:
    """The inverse of `join`. Raises ValueError if the two don't fit."""
    if sum(head[3] for head in heads) != len(blobs):
        raise ValueError("a message about variables is cut short")
    start = 0
    for names, kind, meta, count in heads:
        yield Component(tuple(names), kind, meta, tuple(blobs[start : start + count]))
        start += count
