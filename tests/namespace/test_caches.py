"""What is in the caches of functions."""

from __future__ import annotations

from typing import Any

import pytest

from mpkernel.namespace import caches

DEFINED = """
import functools
@functools.lru_cache(maxsize)
def double(n): return [n, n]
"""


@pytest.mark.parametrize("maxsize", [None, 1_000_000])
def test_a_large_cache_is_not_looked_at_again_and_again(maxsize: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    names: dict[str, Any] = {"__name__": "__main__", "maxsize": maxsize}
    exec(DEFINED, names)
    double = names["double"]
    known = caches.Caches(1, lambda _: True)
    results = known.content(double)
    for n in range(caches.MAX_RESULTS):
        double(n)
    assert known.is_followed(double)
    assert len(known.content(double)) == caches.MAX_RESULTS + 1  # and what was counted
    double(-1)
    monkeypatch.setattr(caches, "_insides", lambda _: pytest.fail("looked at all of it"))
    assert known.is_followed(double)
    assert known.content(double) is results
