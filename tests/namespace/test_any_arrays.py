"""Whatever cells do with large arrays, tables and their views, one after the other: all subshells have what one has."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpkernel.namespace import cold
from mpkernel.namespace.segments import Segments, memfds_work
from mpkernel.namespace.store import NamespaceStore
from mpkernel.namespace.transport import Memfds

from .bench import Notebook, Space

np = pytest.importorskip("numpy")
pytestmark = pytest.mark.skipif(not memfds_work(), reason="no memfds")

COUNT = 150_000  # numbers in an array: large enough for it to be watched, and told of in deltas


@dataclass(frozen=True)
class World:
    """What cells do in a test. In them, {v} is a name, {i} a place, {x} a number."""

    start: str
    seen: list[str]  # expressions that are looked at
    cells: list[str]
    names: str = "ab"


ARRAYS = World(
    f"import numpy as np; n = {COUNT}\na = np.arange(n * 1.); b = np.zeros(n); box = [a]; part = a[3:]; even = b[::2]\n"
    "rows = b.reshape(-1, 1250)",
    ["a", "b", "box[0]", "part", "even", "rows"],
    [
        "{v}[{i}] = {x}",
        "{v}[{i}:] += {x}",
        "{v} += 1",
        "{v} = {v} + 1",
        "{v} = np.arange(n * 1.) * {x}",
        "{v}[::1000] = {x}",
        "box[0][{i}] = {x}",
        "box[0] = {v}",
        "part = {v}[{i}:]",
        "part[{x}] = {x}",
        "even = {v}[::2]",
        "even[{x}] += {x}",
        "rows = {v}.reshape(-1, 1250)",
        "rows[{x}, ::2] = {x}",
        "{v} = box[0]",
    ],
)

TABLES = World(
    f"import numpy as np, pandas as pd; n = {COUNT}\nd = pd.DataFrame({{'p': np.arange(n * 1.), 'q': np.zeros(n)}})\n"
    "e = d.copy(); box = [d]; s = d['q']; a = e['p'].to_numpy(copy=True); e['r'] = np.arange(n) // 1000\n"
    "head = d.head(); rest = e[n // 3:]",
    ["d", "e", "box[0]", "s.to_frame()", "a", "head", "rest"],
    [
        "{v}.loc[{i}, 'p'] = {x}",
        "{v}.iloc[{i}:, 0] += {x}",
        "{v}['q'] *= 2",
        "{v}['q'] = {v}['p'] + {x}",
        "{v}['r'] = {x}",
        "{v} = {v}.copy()",
        "{v} = {v}[['q', 'p']]",
        "{v}.pop('r')",
        "s = {v}['p']",
        "s.iloc[{i}] = {x}",
        "box[0] = {v}",
        "box[0].loc[{i}, 'q'] = {x}",
        "a[{i}] = {x}",
        "{v}['p'] = a",
        "a = {v}['q'].to_numpy(copy=True)",
        "{v} = {v}[::-1].reset_index(drop=True)",
        "head = {v}[{i}:][:{x}]",
        "rest = {v}[{x}:]",
        "rest.iloc[{i}, 0] = {x}; head.iloc[0, 0] = {x}",
        "{v}['w'] = ['word %d' % (number % {x}) for number in range(1, n + 1)] if {x} else ''",
    ],
    "de",
)

steps = st.tuples(
    st.integers(0, 2),  # who runs it
    st.integers(0, 19),  # which cell
    st.integers(0, 1),  # name
    st.integers(0, COUNT - 200),
    st.integers(0, 119),
    st.booleans(),  # whether that subshell is looked at thereafter, and another one
)


@pytest.fixture(autouse=True)
def always_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cold, "COLD", 0.0)
    monkeypatch.setattr(cold, "LEAST", 1 << 20)
    if sys.platform == "linux":
        threshold, default = -3, 128 << 10  # M_MMAP_THRESHOLD: memory of its own for each array, as for larger ones
        ctypes.CDLL(None).mallopt(threshold, default)


@pytest.mark.parametrize(("world", "library"), [(ARRAYS, "numpy"), (TABLES, "pandas")], ids=["arrays", "tables"])
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(program=st.lists(steps, min_size=4, max_size=12))
def test_all_subshells_have_what_one_would_have(
    world: World, library: str, program: list[tuple[int, int, int, int, int, bool]]
) -> None:
    play(world, library, program)


def play(world: World, library: str, program: list[tuple[int, int, int, int, int, bool]]) -> None:
    """Run its cells in three subshells, and in one process; they have the same."""
    if pytest.importorskip(library).__name__ == "pandas" and int(sys.modules["pandas"].__version__.split(".")[0]) < 3:
        pytest.skip("which columns have their table's memory is nobody's to tell before pandas 3")
    store, segments, alone = NamespaceStore(), Segments(Memfds()), Space()
    notebooks = [Notebook(store, worker, segments=segments) for worker in (1, 2, 3)]
    alone.execute(world.start)
    notebooks[0].run(world.start)
    begin_cell(notebooks, 1)
    try:
        for who, which, name, place, number, look in program:
            code = world.cells[which % len(world.cells)].format(v=world.names[name], i=place, x=number)
            begin_cell(notebooks, who)
            notebooks[who].run(code)
            with suppress(Exception):  # as in a notebook
                alone.execute(code)
            if look:
                check(notebooks, who, alone, world)
                check(notebooks, who - 1, alone, world)
        for who in range(len(notebooks)):
            check(notebooks, who, alone, world)
    finally:
        for notebook in notebooks:
            notebook.rest()
        segments.close()


def check(notebooks: list[Notebook], who: int, alone: Space, world: World) -> None:
    begin_cell(notebooks, who)
    mine, wanted = ([space.value(expression) for expression in world.seen] for space in (notebooks[who], alone))
    assert [name for name, a, b in zip(world.seen, mine, wanted, strict=True) if not equal(a, b)] == []
    for (i, a), (j, b) in combinations(enumerate(wanted), 2):
        assert (mine[i] is mine[j]) == (a is b), (world.seen[i], world.seen[j])
        if type(a) is type(b) is np.ndarray:
            assert np.shares_memory(mine[i], mine[j]) == np.shares_memory(a, b), (world.seen[i], world.seen[j])


def equal(a: Any, b: Any) -> bool:
    return bool(a.equals(b)) if hasattr(a, "equals") else np.array_equal(a, b)


def begin_cell(notebooks: list[Notebook], who: int) -> None:
    """As a cell begins that reaches everything; there was a pause before it."""
    for notebook in notebooks:
        notebook.rest()
    notebooks[who].hear()
    if notebooks[who].sync.has_offers:
        names = [*"abdes", "box", "part", "even", "rows", "head", "rest"]
        for other in notebooks:
            if other is not notebooks[who]:
                with other.as_main():
                    other.sync.release_names(names)
                    other.sync.take()
        notebooks[who].ask(*names)


# --- what deltas are laid over ----------------------------------------------------------------------------------------


@pytest.fixture
def three() -> Iterator[list[Notebook]]:
    store, segments = NamespaceStore(), Segments(Memfds())
    notebooks = [Notebook(store, worker, segments=segments) for worker in (1, 2, 3)]
    notebooks[0].run(f"import numpy as np; n = {COUNT}")
    yield notebooks
    for notebook in notebooks:
        notebook.rest()
    segments.close()


def have(notebooks: list[Notebook], who: int, name: str) -> Notebook:
    """That subshell, as it begins a cell that uses `name`."""
    for notebook in notebooks:
        notebook.rest()
    notebooks[who].hear()
    if notebooks[who].sync.needs([compile(name, "cell", "exec")], crowded=False):
        notebooks[who].ask(name)
    return notebooks[who]


def are_deltas(notebook: Notebook) -> list[bool]:
    """Of what its last commit told."""
    return ["delta" in head[2] for message in notebook.sent for head in message.components]


@pytest.mark.parametrize("told", ["", "self.number = number"], ids=["alike", "numbered"])
@pytest.mark.parametrize("items", ["np.full(n, number * 1.)", "np.full(n, str(number), object), np.zeros(n)"])
def test_a_change_of_arrays_whose_order_differs_between_processes(three: list[Notebook], told: str, items: str) -> None:
    """Those of instances in a set, which are in the order of their addresses."""
    first = three[0]
    first.run(f"class Holder:\n    def __init__(self, number):\n        {told or 'pass'}; self.items = {items}")
    if "str" in items:
        first.run("def place(holder): return holder.items[1], holder.items[0][5]")
    else:
        first.run("def place(holder): return holder.items, holder.items[5]")
    for attempt in range(8):
        first.run(f"junk = [object() for _ in range({attempt * 7})]")
        first.run("found = {Holder(number) for number in range(4)}")
        other = have(three, 1, "found")
        other.run("[place(holder)[0].__setitem__(7, 77) for holder in found if place(holder)[1] in (2, '2')]")
        for who in (0, 2):
            seen = have(three, who, "found").value("sorted((str(place(h)[1]), float(place(h)[0][7])) for h in found)")
            mine = other.value("sorted((str(place(h)[1]), float(place(h)[0][7])) for h in found)")
            assert seen == mine
            assert [number for _, number in seen].count(77.0) == 1


@pytest.mark.parametrize(
    ("made", "change", "seen"),
    [
        ("[np.zeros(n), np.zeros(n)]", "value[1][5] = 1", "value"),
        ("{'a': np.zeros(n), 'b': np.ones(n)}", "value['b'][5] = 3", "value['b']"),
        (
            "pd.DataFrame({'a': np.zeros(n), 'b': range(n), 's': ['word %d' % i for i in range(n)]})",
            "value.loc[5, 'a'] = 1",
            "value",
        ),
    ],
    ids=["list", "dict", "table"],
)
def test_of_a_large_value_that_came_from_elsewhere_a_change_is_a_delta(
    three: list[Notebook], made: str, change: str, seen: str
) -> None:
    if "pd" in made:
        pytest.importorskip("pandas", "3")
        three[0].run("import pandas as pd")
    three[0].run(f"value = {made}")
    for who in (1, 2, 0):
        have(three, who, "value").run(change)
        assert are_deltas(three[who]) == [True]
        change = change.replace("5", "5" * 2)
    values = [have(three, who, "value").value(seen) for who in range(3)]
    assert equal(values[0], values[1])
    assert equal(values[0], values[2])


@pytest.mark.parametrize("who", [1, 2])
def test_a_change_of_a_table_whose_texts_were_another_table_s(who: int) -> None:
    """A reversed view of strings is none of those that travel as texts; what is loaded from it is."""
    always = [(0, 0, 1, 0, 0, False)] * 8
    program = [*always, (0, 19, 1, 0, 0, False), (0, 15, 1, 0, 0, False), (who, 0, 1, 0, 0, False)]
    play(TABLES, "pandas", program)
