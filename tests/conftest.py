"""What all tests share."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import suppress

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "mpkernel_only(reason): states what ipykernel doesn't do; skipped there")
    with suppress(ImportError):  # the tests in a browser do without
        from hypothesis import HealthCheck, settings

        # How quickly examples are made says something of the machine and what else it does.
        settings.register_profile("mpkernel", deadline=None, suppress_health_check=[HealthCheck.too_slow])
        settings.load_profile("mpkernel")


@pytest.fixture
def many_switches() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)
