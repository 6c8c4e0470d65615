"""A facet's mark: it must notice whatever reading the facet would, and stay as it is as long as nothing changes."""

from __future__ import annotations

import copy
import logging
import random
import sys
import textwrap
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from mpkernel.namespace.facets import Builtins
from mpkernel.namespace.library_contents import Contents
from mpkernel.namespace.library_options import MatplotlibOptions, PandasOptions
from mpkernel.namespace.patches import parts_of_the_kernel
from mpkernel.namespace.process_state import Facet, ProcessState
from mpkernel.namespace.random_streams import NumpyRandomNumbers, RandomNumbers
from mpkernel.namespace.uses import Places, uses
from mpkernel.namespace.warning_filters import Warnings


def unnoticed(facet: Facet, changes: list[Callable[[], object]]) -> list[int]:
    """Which of the changes, made one after the other, `facet`'s mark doesn't show."""
    missed = []
    for number, change in enumerate(changes):
        before, mark = facet.read(), facet.mark()
        assert mark is None or (facet.is_marked(mark) and facet.is_marked(mark))
        change()
        assert facet.read() != before, "no change at all"
        if mark is not None and facet.is_marked(mark):
            missed.append(number)
    return missed


def test_what_ipython_sets_and_hides_while_a_cell_runs_is_no_change_of_builtins() -> None:
    shell = InteractiveShell(config=Config(HistoryManager={"enabled": False}))
    facet = Builtins()
    before = facet.read()
    with shell.builtin_trap:
        assert facet.read() == before


def test_random_numbers() -> None:
    facet = RandomNumbers()
    assert facet.mark() is not None
    changes = [random.random, lambda: random.seed(1), lambda: random.gauss(0, 1), lambda: random.gauss(0, 1)]
    assert unnoticed(facet, [*changes, lambda: random.shuffle([1, 2, 3]), random.seed]) == []


def test_filters_for_warnings_of_a_library_wait_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    library = types.ModuleType("mpt_library")
    exec("class Odd(Warning): pass\nclass Even(Warning): pass", vars(library))
    told = [("ignore", None, "mpt_library:Odd", None, 0), ("error", None, ResourceWarning, None, 0)]
    told += [("always", None, "mpt_library:Even", None, 0), ("once", None, UserWarning, None, 0)]
    facet = Warnings()
    with warnings.catch_warnings():
        facet.write({"": told})
        assert [category for _, _, category, *_ in warnings.filters] == [ResourceWarning, UserWarning]
        assert facet.read() == {"": told}
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", category=BytesWarning, append=True)
        newest, oldest = ("ignore", None, DeprecationWarning, None, 0), ("ignore", None, BytesWarning, None, 0)
        assert facet.read() == {"": [newest, *told, oldest]}
        monkeypatch.setitem(sys.modules, "mpt_library", library)
        facet.arrived()
        kinds = [category.__name__ for _, _, category, *_ in warnings.filters]
        assert kinds == ["DeprecationWarning", "Odd", "ResourceWarning", "Even", "UserWarning", "BytesWarning"]
        assert facet.read() == {"": [newest, *told, oldest]}
        warnings.resetwarnings()
        assert facet.read() == {"": []}


def test_numpys_random_numbers() -> None:
    np = pytest.importorskip("numpy")
    facet = NumpyRandomNumbers()
    np.random.seed(1)
    assert facet.mark() is not None
    changes = [np.random.rand, lambda: np.random.seed(2), np.random.randn, np.random.randn, np.random.randn]
    assert unnoticed(facet, [*changes, lambda: np.random.shuffle([1, 2, 3]), np.random.seed]) == []


def test_another_generator_of_numpys() -> None:
    np = pytest.importorskip("numpy")
    facet, ours = NumpyRandomNumbers(), np.random.get_bit_generator()
    mark = facet.mark()
    try:
        np.random.set_bit_generator(np.random.MT19937(3))
        assert not facet.is_marked(mark)
        np.random.set_bit_generator(np.random.PCG64(3))
        assert facet.mark() is None
    finally:
        np.random.set_bit_generator(ours)


def test_options_of_pandas() -> None:
    pd = pytest.importorskip("pandas")
    changes = [lambda: pd.set_option("display.width", 61), lambda: pd.reset_option("display.width")]
    assert unnoticed(PandasOptions(), changes) == []


def test_options_of_matplotlib() -> None:
    mpl = pytest.importorskip("matplotlib")
    facet = MatplotlibOptions()
    with mpl.rc_context():
        changes = [
            lambda: mpl.rcParams.update({"lines.linewidth": 7}),
            lambda: mpl.rcParams["font.serif"].append("Nothing"),
            mpl.rcdefaults,
        ]
        assert unnoticed(facet, changes) == []


# --- contents of libraries --------------------------------------------------------------------------------------------

NAME = "mpt_containers"
LIBRARY = """
from collections import deque
numbers, words, known, last = [1, 2], {"a": 1, "b": 2}, {"x"}, deque([1], maxlen=3)
class Registry:
    entries = {}
class Computing:
    @property
    def entries(self): raise AssertionError("was asked for")
computing, holder = Computing(), Registry()
def __getattr__(name): raise AssertionError(f"{name} was imported too early")
holder.own = []
"""


class Side:
    """A process that has the library, or hasn't yet."""

    def __init__(self, imported: bool = True) -> None:
        self.library = types.ModuleType(NAME)
        exec(LIBRARY, vars(self.library))
        for cls in (self.library.Registry, self.library.Computing):
            cls.__module__ = NAME
        self.names: dict[str, object] = {"lib": self.library}
        self.facet = Contents(Places(self.names, lambda module: False), parts_of_the_kernel())
        self.state = ProcessState([self.facet])
        self.imported = imported
        with self:
            self.state.rebase()

    def __enter__(self) -> None:
        sys.modules.pop(NAME, None)
        if self.imported:
            sys.modules[NAME] = self.library

    def __exit__(self, *exc: object) -> None:
        sys.modules.pop(NAME, None)

    def run(self, source: str, *, hears: dict[str, dict[object, object]] | None = None) -> Any:
        """Returns what is to be committed. It may hear something before that."""
        with self:
            code = compile(source, "<cell>", "exec")
            self.state.ran(code)
            exec(code, self.names)
        self.hear(hears or {})
        with self:
            return self.state.changes()

    def hear(self, news: dict[str, dict[object, object]]) -> None:
        with self:
            for name, items in news.items():
                self.state.receive(name, items)

    @property
    def told(self) -> tuple[object, ...]:
        lib = self.library
        return lib.numbers, lib.words, lib.known, list(lib.last), lib.Registry.entries, lib.holder.own


@pytest.mark.parametrize(
    "cell",
    [
        "lib.numbers.append(3)",
        "lib.numbers += [3]",
        "lib.numbers[0] = 5",
        "del lib.numbers[:]",
        "lib.words['c'] = 3; del lib.words['a']",
        "lib.words.update(a=5)",
        "lib.known.add('y'); lib.known.discard('x')",
        "lib.last.append(2)",
        "lib.Registry.entries.setdefault('k', 1)",
        "lib.holder.own.append(1)",
        "def change(): lib.words.clear()\nchange()",
    ],
)
@pytest.mark.parametrize("late", [False, True])
def test_what_a_cell_changes_in_a_container_of_a_library_is_told(cell: str, late: bool) -> None:
    one, other = Side(), Side(imported=not late)
    before = copy.deepcopy(one.told)
    news = one.run(cell)
    assert one.told != before
    other.hear(news)
    other.imported = True
    assert other.run("pass") == {}
    assert other.told == one.told
    assert one.run("pass") == {}
    restore = """
        lib.numbers[:] = [1, 2]; lib.words.clear(); lib.words.update(a=1, b=2); lib.known.clear(); lib.known.add('x')
        lib.last.clear(); lib.last.append(1); lib.Registry.entries.clear(); lib.holder.own.clear()
    """
    other.hear(one.run(textwrap.dedent(restore)))
    assert other.told == one.told == before


def test_two_that_change_a_container_at_once_have_both_changes() -> None:
    one, other = Side(), Side()
    first = one.run("lib.numbers.append('one'); lib.words['one'] = 1; lib.known.add('one')")
    news = other.run("lib.numbers.append('other'); lib.words['other'] = 1; lib.known.add('other')", hears=first)
    one.hear(news)
    assert one.told == other.told
    assert sorted(other.library.numbers, key=str) == [1, 2, "one", "other"]
    assert other.library.words == {"a": 1, "b": 2, "one": 1, "other": 1}
    assert other.library.known == {"x", "one", "other"}


def test_contents_that_are_computed_or_the_kernel_s_own_are_left_alone() -> None:
    one = Side()
    assert one.run("if False: lib.computing.entries.append(1)") == {}
    assert one.run("def f(): x[0] = lib.lazy.Class(); lib.lazy.entries.append(1)") == {}
    one.names["logging"] = logging
    assert one.run("logging._levelToName[5] = 'MPT'; logging._levelToName.pop(5)") == {}
    assert one.facet.read() == {}
    assert one.run("logging._levelToName[5] = 'MPT'") == {}
    del logging._levelToName[5]


@pytest.mark.parametrize("imported", [True, False])
def test_what_has_no_place_here_stays_where_it_is(imported: bool) -> None:
    one, other = Side(), Side()
    news = one.run("lib.words['c'] = 3; lib.numbers.append(3)")
    other.imported = imported
    del other.library.words
    other.hear(news)
    other.imported = True
    one.hear(other.run("lib.known.add('other')"))
    assert one.library.words == {"a": 1, "b": 2, "c": 3}
    assert one.library.numbers == other.library.numbers == [1, 2, 3]
    assert one.library.known == {"x", "other"}


@pytest.mark.parametrize(
    ("source", "sets", "changes"),
    [
        ("lib.x = 1", [(("lib",), "x")], []),
        ("lib.x += 1", [(("lib",), "x")], [("lib", "x")]),
        ("setattr(lib.C, 'x', 1)", [(("lib", "C"), "x")], []),
        ("del lib.table['x']", [], [("lib", "table")]),
        ("lib.table['x'] += 1", [], [("lib", "table")]),
        ("lib.inner.paths.append(1)", [], [("lib", "inner", "paths")]),
        ("lib.f(); x.append(1)", [], []),
    ],
)
def test_what_code_may_set_and_change(
    source: str, sets: list[tuple[tuple[str, ...], str]], changes: list[tuple[str, ...]]
) -> None:
    found = uses(compile(source, "<cell>", "exec"))
    assert list(found.sets) == sets
    assert list(found.changes) == changes
