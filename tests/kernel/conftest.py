"""Kernels for the tests in this folder, and what a failure shows of them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from .driver import KERNEL, Kernel, start_kernel
from .sandbox import PATIENCE
from .stories import Stories

TEST_TIMEOUT = 90.0  # seconds; a hang must not take the whole run with it
USABLE_WITHIN = 2.0 * PATIENCE  # seconds for a trivial cell, after which a shared kernel isn't used again


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_TIMEOUT))
        only = item.get_closest_marker("mpkernel_only")
        if only and KERNEL != "mpkernel" and not os.environ.get("MPKERNEL_TEST_ALL"):
            item.add_marker(pytest.mark.skip(reason=f"mpkernel only: {only.args[0]}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the log of the kernels that a failed test used."""
    report = yield
    if report.failed:
        for name, value in getattr(item, "funcargs", {}).items():
            if isinstance(value, Kernel) and value.sandbox.root.exists():
                report.sections.append((f"log of the {name}", value.sandbox.log_tail()))
    return report


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    """A fresh kernel for one test."""
    with start_kernel() as kernel:
        yield kernel


class _Reused:
    """One kernel for a module's tests, replaced when a test has left it busy or dead."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._kernel: Kernel | None = None

    def get(self) -> Kernel:
        if self._kernel is None:
            self._kernel = self._stack.enter_context(start_kernel())
        return self._kernel

    def drop(self) -> None:
        self._kernel = None
        self._stack.close()


@pytest.fixture(scope="module")
def _reused_kernel() -> Iterator[_Reused]:
    reused = _Reused()
    yield reused
    reused.drop()


@pytest.fixture
def shared_kernel(_reused_kernel: _Reused) -> Iterator[Kernel]:
    """A kernel that other tests of the module use, too: for tests to which its state doesn't matter."""
    kernel = _reused_kernel.get()
    yield kernel
    try:
        usable = kernel.run("pass", timeout=USABLE_WITHIN).status == "ok"
    except (TimeoutError, ChildProcessError):
        usable = False
    if not usable:
        _reused_kernel.drop()


@pytest.fixture(scope="module")
def _storytellers() -> dict[Kernel, Stories]:
    return {}


@pytest.fixture
def story(shared_kernel: Kernel, _storytellers: dict[Kernel, Stories]) -> Iterator[Stories]:
    """Plays stories of cells in several subshells, all of whose names are gone afterwards."""
    stories = _storytellers.setdefault(shared_kernel, Stories(shared_kernel))
    yield stories
    stories.close()


@pytest.fixture(params=["main", "child"])
def shell(request: pytest.FixtureRequest, kernel: Kernel) -> str | None:
    """Runs a test twice: in the parent subshell of `kernel` (None), and in a child subshell (its id)."""
    return kernel.create_subshell() if request.param == "child" else None
