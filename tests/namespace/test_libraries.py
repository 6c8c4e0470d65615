"""What needs a library is loaded by who has imported that, or needs the value."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpkernel.namespace.store import NamespaceStore

from .bench import Notebook

LIBRARY = "mpt_lib"

Tell = Callable[[str], Notebook]


@pytest.fixture
def tell(monkeypatch: pytest.MonkeyPatch) -> Iterator[Tell]:
    """Runs a cell with the library; returns the notebook of another subshell, which has heard of it, without."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent / "libraries"))
    store = NamespaceStore()
    here, there = Notebook(store, 1), Notebook(store, 2)

    def run(cell: str) -> Notebook:
        here.run(f"import {LIBRARY}")
        here.run(cell)
        del sys.modules[LIBRARY]
        there.hear()
        assert LIBRARY not in sys.modules
        return there

    yield run
    sys.modules.pop(LIBRARY, None)


@pytest.mark.parametrize(
    "others",
    [
        "class Own(Base, mpt_lib.Numbers): pass",
        "class Own(Base, mpt_lib.Numbers): pass\nown = Own(); own.base = Base()",
        "class Own(mpt_lib.Numbers): base = Base",
        "class Meta(type): base = Base\nclass Own(mpt_lib.Numbers, metaclass=Meta): pass",
    ],
)
@pytest.mark.parametrize("noted", ["", "noted = []"])
def test_a_class_that_came_with_one_that_waits_for_a_library_is_whole(tell: Tell, others: str, noted: str) -> None:
    there = tell(f"class Base:\n    def f(self): return 1\n    {noted}\n{others}")
    if not there.sync.is_offered("Base"):
        assert there.value("Base().f()") == 1
    there.ask("Own", "Base", "own")
    assert there.value("Base().f()") == 1
    if noted:
        there.run("Base.noted.append(1)")
        assert there.value("Base.noted, Own().noted if issubclass(Own, Base) else [1]") == ([1], [1])


@pytest.mark.parametrize("cell", ["f = mpt_lib.giver()", "f = [mpt_lib.giver()]"])
def test_a_function_of_a_library_waits_for_it(tell: Tell, cell: str) -> None:
    there = tell(cell)
    assert there.sync.is_offered("f")
    there.ask("f")
    assert there.value("f[0]() if type(f) is list else f()") == 1


@pytest.mark.parametrize("needs", ["mpt_lib", "mpt_lib.giver()", "mpt_lib.Numbers()", "Own()"])
def test_what_cannot_be_loaded_does_not_hide_that_a_library_is_needed(tell: Tell, needs: str) -> None:
    there = tell(
        "class Odd:\n    def __setstate__(self, state): raise ValueError\n"
        f"class Own(mpt_lib.Numbers): pass\nodd = Odd(); odd.x = 1; waits = [odd, {needs}]"
    )
    assert there.sync.is_offered("waits")
    there.ask("waits")
    assert there.value("'Numbers' in repr(type(waits[1]).mro()) or waits[1].__name__")


def test_what_waits_for_a_library_keeps_nothing_alive(tell: Tell) -> None:
    there = tell("class Kind: pass\nkind = Kind()")
    old = weakref.ref(there.value("kind"))
    gc.disable()
    try:
        tell("kind = 5; waits = mpt_lib.Numbers()")
        assert there.sync.is_offered("waits")
        assert old() is None
    finally:
        gc.enable()
