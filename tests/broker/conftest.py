"""A kernel for each test, checked at its end."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .bench import Kernel


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A kernel that has just started: main's process is asked for, but not there yet."""
    made = Kernel()
    yield made
    made.check()
