"""Runs: the parts of a buffer that changed, as sorted (offset, nbytes) pairs that neither overlap nor touch."""

from __future__ import annotations

from collections.abc import Iterable

Run = tuple[int, int]


def merged(runs: Iterable[Run]) -> list[Run]:
    """Sorted, with those joined that overlap or touch, and without empty ones."""
    result: list[Run] = []
    for offset, nbytes in sorted(runs):
        if nbytes <= 0:
            continue
        if result and offset <= result[-1][0] + result[-1][1]:
            first, length = result[-1]
            result[-1] = (first, max(length, offset + nbytes - first))
        else:
            result.append((offset, nbytes))
    return result


def aligned(runs: Iterable[Run], page: int, size: int) -> list[Run]:
    """Widened to whole pages of a buffer of this size; only its end may be in the midst of a page."""
    pages = ((offset // page * page, offset + nbytes) for offset, nbytes in runs if nbytes > 0)
    return merged((first, min(-(-end // page) * page, size) - first) for first, end in pages)


def total(runs: Iterable[Run]) -> int:
    """Bytes in all."""
    return sum(nbytes for _, nbytes in runs)
