"""What several threads do with the shell at once."""

from __future__ import annotations

import builtins
from concurrent.futures import ThreadPoolExecutor

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from mpkernel.worker.shell import LockedBuiltinTrap


@pytest.mark.usefixtures("many_switches")
def test_completions_and_cells_may_begin_and_end_at_any_moment() -> None:
    trap = LockedBuiltinTrap(InteractiveShell(config=Config(HistoryManager={"enabled": False})))
    before = {name: vars(builtins).get(name) for name in ("exit", "quit", "get_ipython")}

    def work(_: int) -> None:
        for _ in range(3000):
            with trap:
                pass

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, range(3))) == [None] * 3
    assert {name: vars(builtins).get(name) for name in before} == before
