"""Dataclasses that are quick to make.

Of messages and events there are some sixty classes, which each process makes as it starts. A frozen dataclass takes six
times as long to make as one that is frozen for the type checker only, and compares by what is written here once.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def record(cls: type[T]) -> type[T]:
    """Make `cls`, a subclass of `Record`, a dataclass."""
    return dataclass(slots=True, eq=False, repr=False)(cls)


class Record:
    """Base: records are equal if they are of one class and all their fields are."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in _names(self))

    __hash__ = None  # type: ignore[assignment]  # fields may be lists

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in _names(self))
        return f"{type(self).__name__}({shown})"


def _names(record: Any) -> list[str]:
    return [field.name for field in fields(record)]
