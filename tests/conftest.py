"""What all tests share."""

from __future__ import annotations

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "mpkernel_only(reason): states what ipykernel doesn't do; skipped there")
