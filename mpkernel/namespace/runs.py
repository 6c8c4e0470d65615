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


def aligned(runs: Iterable[Run], page: int, size: int, skew: int = 0) -> list[Run]:
    """Widened to whole pages of a buffer of this size that begins so far (`skew`) from the start of one."""
    result: list[Run] = []
    for offset, nbytes in runs:
        if nbytes > 0:
            first = max((offset + skew) // page * page - skew, 0)
            result.append((first, min(-(-(offset + nbytes + skew) // page) * page - skew, size) - first))
    return merged(result)


def total(runs: Iterable[Run]) -> int:
    """Bytes in all."""
    return sum(nbytes for _, nbytes in runs)
