"""Merging DataFrames by column, and columns by row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from mpkernel.namespace import science
from mpkernel.namespace.alignment import in_order
from mpkernel.namespace.parts import MISSING


class Walk(Protocol):
    """What is wanted of the merge as a whole."""

    def same(self, a: Any, b: Any) -> bool: ...

    def conflict(self, path: str) -> None: ...

    def leaf(self, base: Any, theirs: Any, mine: Any, path: str) -> Any: ...


def merge_managers(walk: Walk, base: Any, theirs: Any, mine: Any, path: str) -> Any:
    """The block manager that a DataFrame or Series is to have; the objects are of one class."""
    frames = _Frames(walk, path)
    return frames.one_column(base, theirs, mine) if mine.ndim == 1 else frames.columns(base, theirs, mine)


class _Frames:
    def __init__(self, walk: Walk, path: str) -> None:
        self._walk = walk
        self._path = path

    def columns(self, base: Any, theirs: Any, mine: Any) -> Any:
        """By column, if the rows are the same and columns have different names."""
        three = (base, theirs, mine)
        if not (science.same_axis(*(df.index for df in three)) and all(df.columns.is_unique for df in three)):
            return self._whole(base, theirs, mine, self._same_frame)
        renamed_there, renamed_here = self._renamed(base, theirs), self._renamed(base, mine)
        for old in renamed_there.keys() & renamed_here.keys():
            if renamed_there[old] != renamed_here[old]:
                self._walk.conflict(self._path)
        if new := renamed_there | renamed_here:
            base = base.rename(columns=new)
            theirs = theirs.rename(columns={renamed_there.get(old, old): label for old, label in new.items()})
            mine = mine.rename(columns={renamed_here.get(old, old): label for old, label in new.items()})
        b, t, m = ({label: df[label] for label in df.columns} for df in (base, theirs, mine))
        order = in_order(list(b), list(t), list(m))
        merged = {
            label: self._column(b.get(label, MISSING), t.get(label, MISSING), m.get(label, MISSING), label)
            for label in order
        }
        merged = {label: column for label, column in merged.items() if column is not MISSING}
        if list(merged) == list(m) and all(merged[label] is m[label] for label in m):
            return mine._mgr
        result = mine[[label for label in m if label in merged]].copy()
        for label, column in merged.items():
            if column is not m.get(label):
                result[label] = column
        return result[list(merged)].copy()._mgr

    def _renamed(self, base: Any, now: Any) -> dict[Any, Any]:
        """The labels that columns with the same values have by now; empty if that isn't all that was done."""
        if len(base.columns) != len(now.columns):
            return {}
        pairs = list(zip(base.columns, now.columns, strict=True))
        new = {old: label for old, label in pairs if old != label}
        if not new or now.columns.difference(base.columns).size != len(new):
            return {}
        return new if all(self._same_column(base[old], now[label]) for old, label in new.items()) else {}

    def one_column(self, base: Any, theirs: Any, mine: Any) -> Any:
        """A Series by row, if the rows are the same."""
        if not science.same_axis(base.index, theirs.index, mine.index):
            return self._whole(
                base, theirs, mine, lambda a, b: science.same_axis(a.index, b.index) and self._same_column(a, b)
            )
        return self._values(base, theirs, mine, self._path)._mgr

    def _whole(self, base: Any, theirs: Any, mine: Any, same: Callable[[Any, Any], bool]) -> Any:
        if same(base, theirs) or same(theirs, mine):
            return mine._mgr
        if same(base, mine):
            return theirs._mgr
        self._walk.conflict(self._path)
        return mine._mgr

    def _column(self, base: Any, theirs: Any, mine: Any, label: Any) -> Any:
        if mine is MISSING or theirs is MISSING:
            other = theirs if mine is MISSING else mine
            return MISSING if base is not MISSING and self._same_column(base, other) else other
        path = f"{self._path}[{label!r}]" if type(label) in (str, int, float) else self._path
        if base is MISSING:
            if not self._same_column(theirs, mine):
                self._walk.conflict(path)
            return mine
        return self._values(base, theirs, mine, path)

    def _values(self, base: Any, theirs: Any, mine: Any, path: str) -> Any:
        """A column by row."""
        if self._same_column(base, theirs) or self._same_column(theirs, mine):
            return mine
        if self._same_column(base, mine):
            return theirs
        if not (base.dtype == theirs.dtype == mine.dtype):
            self._walk.conflict(path)
            return mine
        if _is_plain(mine):
            values = mine.to_numpy().copy()
            if science.merge_arrays(base.to_numpy(), theirs.to_numpy(), values):
                self._walk.conflict(path)
        else:
            rows = zip(base, theirs, mine, strict=True)
            values = [self._walk.leaf(*row, path) for row in rows]
        return type(mine)(values, index=mine.index, dtype=mine.dtype, name=mine.name)

    def _same_column(self, a: Any, b: Any) -> bool:
        if a.dtype != b.dtype:
            return False
        if _is_plain(a):
            return science.same_bits(a.to_numpy(), b.to_numpy())
        if a.dtype == object:
            return self._walk.same(list(a), list(b))
        return bool(a.array.equals(b.array))

    def _same_frame(self, a: Any, b: Any) -> bool:
        if not (science.same_axis(a.index, b.index) and science.same_axis(a.columns, b.columns)):
            return False
        return all(self._same_column(a.iloc[:, at], b.iloc[:, at]) for at in range(a.shape[1]))


def _is_plain(column: Any) -> bool:
    """Whether its values are an array of numbers."""
    return type(column.dtype).__module__.startswith("numpy") and column.dtype != object
