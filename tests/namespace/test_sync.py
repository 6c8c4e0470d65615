"""Subshells see each other's variables as if there were one namespace, as long as one cell runs at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpkernel.namespace import changes, component, exchange, latecomers, merge, store, sync, weight
from mpkernel.namespace.store import NamespaceStore

from .bench import Notebook, Settings, Space


@pytest.fixture
def two() -> tuple[Notebook, Notebook]:
    """Two subshells of one kernel."""
    store = NamespaceStore()
    return Notebook(store, 1), Notebook(store, 2)


Two = tuple[Notebook, Notebook]


def test_a_variable_set_in_one_is_there_in_the_other(two: Two) -> None:
    here, there = two
    here.run("x = [1]")
    there.run("x.append(2)")
    here.run("x.append(3)")
    there.hear()
    assert there.value("x") == here.value("x") == [1, 2, 3]


def test_a_variable_deleted_in_one_is_gone_in_the_other(two: Two) -> None:
    here, there = two
    here.run("x = 1")
    there.run("del x")
    here.hear()
    assert "x" not in here.names


def test_a_process_that_ends_takes_nothing_along(two: Two) -> None:
    """IPython clears the namespace then, and somebody may ask for newest values at that moment."""
    here, there = two
    here.run("x = 1")
    here.sync.close()
    here.names.clear()
    here.sync.release_names(["x"])
    here.sync.sweep(1)
    there.hear()
    assert there.value("x") == 1


def test_nothing_is_committed_when_nothing_has_changed(two: Two) -> None:
    here, there = two
    here.run("x = [1]")
    assert here.run("x, 1 + 1") == []
    assert there.run("x") == []


def test_what_a_cell_changed_before_it_failed_is_committed(two: Two) -> None:
    here, there = two
    here.run("x = 1\n1/0\nx = 2")
    there.hear()
    assert there.value("x") == 1


def test_a_function_that_was_defined_elsewhere_sees_what_is_here(two: Two) -> None:
    here, there = two
    here.run("n = 1\ndef f(): return n + 1")
    there.run("n = 41")
    assert there.value("f()") == 42
    here.hear()
    assert here.value("f()") == 42


def test_an_instance_is_one_of_its_class_everywhere(two: Two) -> None:
    here, there = two
    here.run("class C: pass")
    there.run("c = C()")
    here.hear()
    assert here.value("isinstance(c, C)")


def test_what_startup_files_made_is_not_committed_and_what_they_made_can_be_deleted() -> None:
    store = NamespaceStore()
    here, there = (Notebook(store, worker, "cfg = {'a': 1}") for worker in (1, 2))
    assert here.run("pass") == []
    here.run("del cfg")
    there.hear()
    assert "cfg" not in there.names


def test_what_startup_files_made_and_was_changed_elsewhere_is_changed_here() -> None:
    store = NamespaceStore()
    here = Notebook(store, 1, "cfg = {'a': 1}")
    here.run("cfg['a'] = 2")
    late = Notebook(store, 2, "cfg = {'a': 1}")
    assert late.run("pass") == []
    assert late.value("cfg") == {"a": 2}


# --- sharing ----------------------------------------------------------------------------------------------------------


def test_names_that_share_an_object_share_it_elsewhere(two: Two) -> None:
    here, there = two
    here.run("x = [1]\ny = x\nbox = {'x': x}")
    there.run("y.append(2)")
    here.hear()
    for notebook in two:
        assert notebook.value("x is y and box['x'] is x and x == [1, 2]")


def test_what_one_container_holds_is_known_when_another_gets_it(two: Two) -> None:
    here, there = two
    here.run("outer = [[1]]")
    there.run("pass")
    here.run("other = [outer[0]]")
    there.run("other[0].append(2)")
    assert there.value("outer") == [[1, 2]]
    here.run("pass")
    assert here.value("outer[0] is other[0] and outer == [[1, 2]]")


def test_tables_that_share_nothing_are_told_of_one_by_one(two: Two) -> None:
    pytest.importorskip("pandas")
    here, there = two
    here.run("import pandas as pd; a = pd.DataFrame({'n': [1, 2], 'w': ['a', 'b']}); b = a.copy(); c = pd.Series([1])")
    here.run("d = c + 1")
    there.hear()
    assert there.run("b['x'] = 1") == ["b"]
    assert there.run("c[0] = 5") == ["c"]
    here.hear()
    assert here.value("list(a), list(b), list(c), list(d)") == (["n", "w"], ["n", "w", "x"], [5], [2])


@pytest.mark.parametrize("count", [5, 50_000])
@pytest.mark.parametrize(
    ("cell", "seen"),
    [
        ("s.iloc[1] = 7", "s[1] == 7 and d.loc[1, 'q'] == e.loc[1, 'q'] == 0 and t[1] == 0"),
        ("t.iloc[1] = 7", "t[1] == 7 and d.loc[1, 'q'] == e.loc[1, 'q'] == 0 and s[1] == 0"),
        ("d.loc[1, 'q'] = 7", "d.loc[1, 'q'] == 7 and e.loc[1, 'q'] == 0 and s[1] == t[1] == 0"),
        ("e.loc[1, 'q'] = 7", "e.loc[1, 'q'] == 7 and d.loc[1, 'q'] == 0 and s[1] == t[1] == 0"),
        ("d.loc[1, 'p'] = 7", "d.loc[1, 'p'] == 7 and e.loc[1, 'p'] == 1 and i[1] == 1"),
    ],
)
def test_what_pandas_copies_when_it_is_written_to_is_copied_elsewhere(
    two: Two, cell: str, seen: str, count: int
) -> None:
    pd = pytest.importorskip("pandas")
    if int(pd.__version__.split(".")[0]) < 3:
        pytest.skip("this pandas doesn't")
    here, there = two
    here.run(
        f"import numpy as np, pandas as pd; d = pd.DataFrame({{'p': np.arange({count}.), 'q': np.zeros({count})}})\n"
        "s = d['q']; t = s[:]; e = d.copy(deep=False); i = pd.Index(d['p'])"
    )
    begin_cell(there, "desti")
    there.run(cell)
    assert there.value(seen)
    begin_cell(here, "desti")
    assert here.value(seen)


def begin_cell(notebook: Notebook, names: str) -> None:
    notebook.hear()
    if notebook.sync.has_offers:
        notebook.ask(*names)


def test_a_copy_goes_without_a_sound_unless_somebody_has_it(two: Two) -> None:
    here, there = two
    ended: list[str] = []
    here.names["report"] = there.names["report"] = ended.append
    here.run("class Loud:\n    def __del__(self): report('ended')\nloud, other = Loud(), Loud()")
    there.run("pass")
    kept = there.value("loud")
    here.run("loud = other = None")
    there.run("pass")
    assert ended == ["ended"] * 2
    assert type(kept).__name__ == "Loud"


def test_an_alias_that_was_made_elsewhere_is_one_here(two: Two) -> None:
    here, there = two
    here.run("x = [1]")
    mine = here.value("x")
    there.run("y = x")
    here.run("y.append(2)")
    assert here.value("x") is here.value("y") is mine
    there.hear()
    assert there.value("x is y and x == [1, 2]")


def test_names_that_share_no_longer_are_on_their_own(two: Two) -> None:
    here, there = two
    here.run("x = y = [1]")
    there.run("y = [2]")
    here.run("x.append(3)")
    there.hear()
    for notebook in two:
        assert (notebook.value("x"), notebook.value("y")) == ([1, 3], [2])


def test_an_object_that_something_else_holds_is_patched(two: Two) -> None:
    here, there = two
    here.run("x = [1]")
    held = here.value("x")
    there.run("x.append(2)")
    here.hear()
    assert held == [1, 2]


# --- two at once ------------------------------------------------------------------------------------------------------


def test_what_two_cells_append_at_the_same_time_is_all_there(two: Two) -> None:
    here, there = two
    here.run("x = [0]")
    there.hear()
    here.start("x.append('here')")
    there.start("x.append('there')")
    there.commit()
    here.commit()
    there.hear()
    for notebook in two:
        assert notebook.value("x") == [0, "there", "here"]
    assert here.warnings == there.warnings == []


def test_of_two_values_the_later_commit_counts_and_says_so(two: Two) -> None:
    here, there = two
    here.run("n = 0")
    there.hear()
    here.start("n = 'here'")
    there.start("n = 'there'")
    there.commit()
    here.commit()
    there.hear()
    for notebook in two:
        assert notebook.value("n") == "here"
    assert there.warnings == []
    assert len(here.warnings) == 1
    assert "n was changed" in here.warnings[0]
    assert here.store.loser("n") is not None


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize(("change", "stays"), [("x.append(2)", False), ("x = [1, 2]", True)])
def test_what_was_deleted_in_one_is_there_only_if_the_other_bound_it(
    two: Two, first: int, change: str, stays: bool
) -> None:
    here, there = two
    here.run("x = [1]")
    there.hear()
    here.start("del x")
    there.start(change)
    for notebook in (two[first], two[1 - first]):
        notebook.commit()
    for notebook in two:
        notebook.hear()
        assert notebook.names.get("x") == ([1, 2] if stays else None)


def test_a_cell_that_starts_while_another_runs_sees_what_that_released(two: Two) -> None:
    here, there = two
    here.run("x = []")
    here.start("x.append(1)")
    here.sync.release_names(["x"])
    there.run("x.append(2)")
    here.execute("x.append(3)")
    here.commit()
    there.hear()
    for notebook in two:
        assert notebook.value("x") == [1, 2, 3]


def test_a_value_that_can_not_be_loaded_is_a_stub_and_the_rest_arrives(two: Two) -> None:
    here, there = two
    there.run("import os, sys\nclass Odd:\n    def __reduce__(self): return (sys.intern, (1,))\nodd, y = Odd(), 1")
    here.run("pass")
    assert here.value("y") == 1
    assert "could not be loaded here" in here.value("repr(odd)")


# --- between the statements of a cell ---------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock; its last entry is now."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[-1])
    return clock


def test_names_are_released_between_statements_at_intervals(two: Two, clock: list[float]) -> None:
    here, there = two
    here.execute("x, y = 1, [1]")
    here.sync.release()
    there.hear()
    assert (there.value("x"), there.value("y")) == (1, [1])
    here.execute("x = 2")
    here.sync.release()
    assert there.hear() == []
    clock.append(clock[-1] + sync.RELEASE_INTERVAL)
    here.sync.release()
    assert there.hear() == ["x"]


def test_what_was_not_released_is_committed_at_the_end(two: Two, clock: list[float]) -> None:
    here, _ = two
    here.execute("x = [1]")
    here.sync.release()
    here.execute("x.append(2); y = 1")
    here.sync.release()
    assert here.commit() == ["x", "y"]


# --- any course -------------------------------------------------------------------------------------------------------

names = st.sampled_from("abc")
values = st.sampled_from(["1", "'text'", "[1]", "{'k': [2]}", "None", "[[]]"])
changing = st.sampled_from(
    [
        *(
            "{n}.append({v})",
            "{n}['k'] = {v}",
            "{n}[0].append({v})",
            "{n}.clear()",
            "del {n}",
            "{n} = {m}",
            "{n} += {n}",
        ),
        *("def f(): {n}.append({v})", "f()", "g = lambda: {n}.clear()", "g()", "{n} = {v}\n{n} = {n}.missing"),
    ]
)
cells = st.builds(
    lambda form, n, m, v: form.format(n=n, m=m, v=v),
    st.one_of(st.just("{n} = {v}"), changing),
    names,
    names,
    values,
)


@pytest.mark.parametrize("budget", [0.01, -1.0], ids=["small namespace", "large namespace"])
@settings(max_examples=60)
@given(course=st.lists(st.tuples(st.integers(0, 2), cells), max_size=25))
def test_three_subshells_are_like_one_namespace(budget: float, course: list[tuple[int, str]]) -> None:
    store = NamespaceStore()
    notebooks = [Notebook(store, worker) for worker in range(3)]
    alone = Notebook(NamespaceStore(), 9)
    before, changes.CHECK_ALL_BUDGET = changes.CHECK_ALL_BUDGET, budget
    try:
        for who, cell in course:
            notebooks[who].run(cell)
            alone.run(cell)
            late = Notebook(store, 100 + len(store._views))
            for notebook in (*notebooks, late):
                notebook.hear()
                assert visible(notebook) == visible(alone)
    finally:
        changes.CHECK_ALL_BUDGET = before


def visible(space: Space) -> dict[str, object]:
    """The values, and of functions that they are there."""
    values = {name: value if not callable(value) else "function" for name, value in space.user_names().items()}
    shared = {(a, b) for a in values for b in values if values[a] is values[b] and isinstance(values[a], list)}
    return {**values, "shared": shared}


# --- large values -----------------------------------------------------------------------------------------------------


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is more than 1 kB counts as large."""
    monkeypatch.setattr(weight, "HEAVY", 1000)


@pytest.mark.usefixtures("light")
def test_a_large_value_is_copied_when_somebody_needs_it(two: Two) -> None:
    here, there = two
    here.run("x = list(range(1000)); n = 1")
    assert here.store.holder("x") == 1
    there.hear()
    assert (there.names.get("x"), there.value("n")) == (None, 1)
    here.sync.release_names(["x"])
    there.run("x.append('there')")
    there.sync.release_names(["x"])
    here.hear()
    assert here.value("x[-1]") == "there"


@pytest.mark.usefixtures("light")
def test_a_large_value_is_copied_in_a_pause_and_only_once(two: Two) -> None:
    here, _ = two
    here.run("x = list(range(1000))")
    assert here.sync.holds
    here.sync.back_up()
    assert here.store.holder("x") is None
    assert not here.sync.holds
    assert here.run("n = 1") == ["n"]
    assert here.run("x.append(1)") == ["x"]
    assert here.store.holder("x") == 1


@pytest.mark.usefixtures("light")
def test_who_wants_what_is_being_copied_waits_for_that_copy(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two
    here.run("x = list(range(1000)); n = 1")
    begun, go_on, copied = threading.Event(), threading.Event(), []
    to_component = exchange.to_component

    def slow(names: Iterable[str], *rest: Any, **options: Any) -> Any:
        copied.append(sorted(names))
        begun.set()
        assert go_on.wait(20)
        return to_component(names, *rest, **options)

    monkeypatch.setattr(exchange, "to_component", slow)
    back_up = threading.Thread(target=here.sync.back_up)
    wanted = threading.Thread(target=here.sync.release_names, args=(["x"],))
    back_up.start()
    assert begun.wait(20)
    wanted.start()
    here.sync.release_names(["n"])  # is nobody's affair
    go_on.set()
    for thread in (back_up, wanted):
        thread.join(20)
    assert copied == [["x"]]
    there.hear()
    assert there.value("len(x)") == 1000


@pytest.mark.usefixtures("light")
def test_what_is_large_is_not_copied_without_plenty_of_memory(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    here, _ = two
    monkeypatch.setattr(sync, "plentiful", lambda _: False)
    here.run("x = list(range(1000))")
    here.sync.back_up()
    assert here.store.lost_names(1) == ["x"]


# --- both at once -----------------------------------------------------------------------------------------------------


def test_what_changed_between_cells_is_merged_with_the_news(two: Two) -> None:
    here, there = two
    here.run("xs = []")
    there.run("xs.append('there')")
    here.sync.background = True
    here.execute("xs.append('here')")
    here.hear()
    here.commit()
    there.hear()
    assert here.value("xs") == there.value("xs") == ["there", "here"]


def test_an_answer_that_nobody_waits_for_is_taken_over_before_later_news(two: Two) -> None:
    here, there = two
    there.run("x = 1; y = 1")
    here.hear(take=False)
    there.run("x = 2")
    here.hear()
    assert here.value("(x, y)") == (2, 1)


def test_a_merge_that_fails_is_committed_nevertheless(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply waits for it."""
    here, there = two
    here.run("xs = [1]")
    there.start("xs.append(2)")
    here.run("xs.append(3)")

    def fail(*_: object) -> None:
        raise RuntimeError("odd")

    monkeypatch.setattr(merge, "merge", fail)
    there.commit()
    assert not there.store.clashing(there.worker)
    assert "could not be merged" in there.warnings[0]
    here.hear()
    assert here.value("xs") == [1, 2]


class Failing:
    """Stands for a function that fails when it is used with values of certain names."""

    def __init__(self, original: Any, *names: str, error: type[BaseException]) -> None:
        self.original, self.names, self.error = original, set(names), error

    def __call__(self, *args: Any, **options: Any) -> Any:
        given = getattr(args[0], "names", args[0])
        if not self.names.isdisjoint(given):
            raise self.error
        return self.original(*args, **options)


@pytest.fixture
def unloadable(two: Two, monkeypatch: pytest.MonkeyPatch) -> Failing:
    """In the second subshell the value of `d` can't be loaded for now."""
    here, there = two
    here.run("d = {'k': 1}; e = {'d': d}")
    there.hear()
    load = Failing(there.sync._exchange._loaded, "d", error=OSError)
    monkeypatch.setattr(there.sync._exchange, "_loaded", load)
    return load


def test_names_that_share_what_is_sent_only_to_who_asks_go_on_sharing(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two
    monkeypatch.setattr(store, "MAX_SENT_UNASKED", 100)
    here.run("xs = list(range(1000)); box = [xs]")
    there.hear()
    assert "xs" not in there.names
    there.ask("xs")
    assert there.value("box[0] is xs and len(xs)") == 1000


def test_what_could_not_be_loaded_is_had_as_soon_as_it_can(two: Two, unloadable: Failing) -> None:
    here, there = two
    here.run("d['here'] = 1")
    there.hear()
    assert there.value("d") == {"k": 1}
    assert there.sync.needs([compile("d", "", "exec")], crowded=False) == {"d"}
    assert list(there.sync.not_had(["d"])) == ["the value of d from another subshell can't be had here: OSError"]
    unloadable.names.clear()
    there.ask("d")
    assert there.value("d, e['d'] is d") == ({"k": 1, "here": 1}, True)
    assert list(there.sync.not_had(["d", "e"])) == []


def test_what_could_not_be_loaded_is_not_reverted_by_a_later_change(two: Two, unloadable: Failing) -> None:
    here, there = two
    here.run("d['here'] = 1")
    there.hear()
    unloadable.names.clear()
    there.run("d['there'] = 1")
    here.hear()
    assert here.value("d") == {"k": 1, "here": 1, "there": 1}


def test_what_can_not_be_loaded_to_be_merged_does_not_count_as_deleted(two: Two, unloadable: Failing) -> None:
    here, there = two
    there.start("e['there'] = 1")
    here.run("d['here'] = 1")
    there.commit()
    assert there.value("d, e['there']") == ({"k": 1}, 1)
    assert "could not be merged" in there.warnings[0]
    here.hear()
    assert here.value("e['there']") == 1
    assert there.store.loser("d") is not None


def test_a_message_that_could_not_be_taken_over_counts_as_not_had(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two
    here.run("d = {'k': 1}")
    there.hear()
    here.run("d['here'] = 1; new = 1")
    with monkeypatch.context() as patched:
        patched.setattr(sync, "graft", Failing(None, "d", error=MemoryError))
        with pytest.raises(MemoryError):
            there.hear()
    there.run("d['there'] = 1")
    here.hear()
    assert here.value("d") == {"k": 1, "here": 1, "there": 1}
    there.ask("new")
    assert there.value("new") == 1


def test_what_was_found_and_could_not_be_told_is_found_again(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal handler of the user's may raise at any point."""
    here, there = two
    here.run("d = {}; gone = 1; bound = 1")
    there.hear()
    here.start("d['new'] = 1; del gone; bound = 2")
    with monkeypatch.context() as patched:
        patched.setattr(sync.component, "join", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            here.commit()
    here.commit()
    there.hear()
    assert there.value("d, bound, 'gone' in globals()") == ({"new": 1}, 2, False)


def test_a_commit_that_fails_once_is_made_nevertheless(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two
    here.start("d = {'new': 1}")
    join = sync.component.join

    def fail(parts: Any) -> Any:
        monkeypatch.setattr(sync.component, "join", join)
        raise TimeoutError

    monkeypatch.setattr(sync.component, "join", fail)
    here.commit()
    there.hear()
    assert there.value("d") == {"new": 1}


def test_what_there_is_no_memory_to_pickle_stays_and_all_else_is_told(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two
    dump = here.sync._pickling.dump
    monkeypatch.setattr(here.sync._pickling, "dump", Failing(dump, "large", error=MemoryError))
    here.run("large = [1]; small = [2]")
    there.hear()
    assert there.value("small, 'large' in globals()") == ([2], False)
    monkeypatch.setattr(here.sync._pickling, "dump", dump)
    here.sync.release_names(["large"])
    there.hear()
    assert there.value("large") == [1]


def test_a_merge_that_can_not_even_be_committed_is_answered(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two
    here.run("x = 1")
    there.start("x = 2")
    here.run("x = 3")
    monkeypatch.setattr(merge, "merge", lambda *_: 1 / 0)
    dump, calls = there.sync._pickling.dump, iter([None])

    def fail(values: Any, **options: Any) -> Any:
        next(calls)
        return dump(values, **options)

    monkeypatch.setattr(there.sync._pickling, "dump", fail)
    there.commit()
    assert there.store.clashing(2) == {}


def test_what_is_refused_goes_into_a_message_if_it_is_not_large(two: Two, light: None) -> None:
    here, _ = two
    sent = here.sync._exchange
    small, large = (here.sync._pickling.dump({"x": bytes(n)}, outer=False) for n in (10, 2000))
    assert sent.component(["x"], small, in_message=True).kind == component.VALUE
    assert sent.component(["x"], large, in_message=True).kind == component.HELD


def test_process_state_is_merged_though_variables_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    store = NamespaceStore()
    ours, theirs = Settings(a=1, b=1), Settings(a=1, b=1)
    here, there = Notebook(store, 1, facets=[ours]), Notebook(store, 2, facets=[theirs])
    here.run("xs = [1]")
    there.start("xs.append(2)")
    theirs.write({"b": 2})
    ours.write({"a": 2})
    here.run("xs.append(3)")
    monkeypatch.delattr(merge, "merge")
    there.commit()
    here.hear()
    assert ours.items == theirs.items == {"a": 2, "b": 2}


def test_a_large_value_that_only_another_has_wins(two: Two) -> None:
    here, there = two
    here.run("x = 1")
    there.start("x = 2")
    here.run(f"x = [[i] for i in range({weight.HEAVY // 200 + 1})]")
    there.commit()
    assert "that value counts" in there.warnings[0]
    assert "x" in there.sync.needs([compile("x", "cell", "exec")], crowded=False)


# --- values for which there is no time --------------------------------------------------------------------------------

PART = "class Part: pass"
PARTS = "[Part() for _ in range(200)]"


@contextmanager
def nothing_to_spend(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """At the end of a cell, on being shared."""
    with monkeypatch.context() as patch:
        for limit in ("ALONE", "NOT_ALONE", "SHARE"):
            patch.setattr(sync, limit, 0.0)
        yield


@pytest.fixture
def no_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with nothing_to_spend(monkeypatch):
        yield


def at_leisure(notebook: Notebook) -> None:
    with notebook.as_main():
        notebook.sync.sweep_dear()


@pytest.mark.usefixtures("no_time")
def test_what_there_was_no_time_for_is_there_on_demand(two: Two) -> None:
    here, there = two
    here.run(PART)
    here.run(f"parts = {PARTS}; n = 2; small = [Part()]")
    there.hear()
    assert there.value("n == 2 and len(small) == 1")
    assert "parts" not in there.names
    assert there.sync.needs([compile("parts", "cell", "exec")], crowded=False) == {"parts"}
    with here.as_main():
        here.sync.release_names(["parts"])
    there.hear()
    assert there.value("len(parts)") == 200


@pytest.mark.usefixtures("no_time")
def test_what_was_told_on_demand_is_not_told_again_in_the_next_pause(two: Two) -> None:
    here, _ = two
    here.run(PART)
    here.run(f"parts = {PARTS}")
    at_leisure(here)
    here.run("alias = parts")
    with here.as_main():
        here.sync.release_names(["alias"])
    assert "parts" in here.sync._tracker.group("alias")
    here.sent.clear()
    at_leisure(here)
    assert here.sent == []


@pytest.mark.usefixtures("no_time")
def test_what_there_was_no_time_for_is_shared_in_the_next_pause(two: Two) -> None:
    here, there = two
    here.run(PART)
    here.run(f"inner = {PARTS}; outer = [inner]; other = {PARTS}")
    assert not here.sync.settled
    assert here.sync.only_dear_left(1.0)
    at_leisure(here)
    assert here.sync.settled
    there.hear()
    assert there.value("outer[0] is inner and len(other) == 200")


@pytest.mark.usefixtures("no_time")
def test_a_change_there_was_no_time_to_look_for_is_found_in_the_next_pause(two: Two) -> None:
    here, there = two
    here.run(PART)
    here.run(f"parts = {PARTS}")
    at_leisure(here)
    here.run("parts[7].seven = 7")
    assert not here.sync.settled
    at_leisure(here)
    there.hear()
    assert there.value("parts[7].seven") == 7


@pytest.mark.usefixtures("no_time")
def test_a_change_there_was_no_time_to_look_for_is_not_lost_to_news(two: Two) -> None:
    here, there = two
    here.run(PART)
    here.run(f"parts = {PARTS}")
    at_leisure(here)
    there.hear()
    there.start("parts[1].one = 1")
    here.run("parts[7].seven = 7")
    there.commit()
    at_leisure(there)
    here.hear()
    here.commit()
    at_leisure(here)
    there.hear()
    for notebook in (here, there):
        assert notebook.value("parts[1].one, parts[7].seven") == (1, 7)


@pytest.mark.parametrize("value", ["parts[0]", "parts", "[parts]", "{'key': (1, parts[0])}"])
def test_what_leads_to_a_value_that_takes_too_long_is_not_pickled_in_vain(
    two: Two, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two
    here.run("class Part:\n    def __getstate__(self):\n        met.append(1); return self.__dict__\nmet = []")
    here.run("parts = [Part() for _ in range(5000)]")
    at_leisure(here)
    with nothing_to_spend(monkeypatch):
        here.value("met.clear()")
        here.run(f"new = {value}; own = 1")
        assert here.value("len(met)") == 0
    there.hear()
    assert "new" not in there.names
    assert there.value("own") == 1
    at_leisure(here)
    there.hear()
    assert there.value(f"repr(new) == repr({value})")  # the addresses are in it


def test_a_message_ends_what_is_done_in_a_pause(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two
    with nothing_to_spend(monkeypatch):
        here.run("class Many:\n    def __reduce__(self):\n        met.append(1); return Many, ()\nmet = []")
        here.run("many = [Many() for _ in range(20_000)]")
    met = here.value("met")
    put_off = here.sync.put_off

    class Met(list):  # type: ignore[type-arg]
        def append(self, item: Any) -> None:
            super().append(item)
            put_off()

    here.names["met"] = ended = Met()
    at_leisure(here)
    assert 0 < len(ended) < 1000
    here.names["met"] = met
    assert not here.sync.settled
    at_leisure(here)
    assert here.sync.settled
    there.hear()
    assert there.value("len(many)") == 20_000


def test_who_shares_objects_with_it_is_left_alone_if_there_is_no_time(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = two
    here.run(PART)
    here.run(f"data = {PARTS}")
    with nothing_to_spend(monkeypatch):
        here.run("model = [data]")
    there.hear()
    assert there.value("len(data)") == 200
    assert "model" not in there.names
    at_leisure(here)
    there.hear()
    assert there.value("model[0] is data")


def test_what_is_changed_together_with_what_there_is_no_time_for_is_shared(two: Two, no_time: None) -> None:
    """Also if the two share objects."""
    here, there = two
    here.run(PART)
    here.run(f"data = {PARTS}")
    at_leisure(here)
    there.hear()
    here.run("small = [data[0]]; data[0].n = 1")
    at_leisure(here)
    there.hear()
    assert there.value("small[0] is data[0] and small[0].n == 1")


def test_a_long_cell_has_more_time(two: Two, clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two
    for limit in ("ALONE", "NOT_ALONE"):
        monkeypatch.setattr(sync, limit, 0.0)
    here.run(PART)
    here.sync.starts(beside=False, alone=True)
    clock.append(clock[-1] + 100)
    assert here.run(f"parts = {PARTS}") == ["parts"]
    there.hear()
    assert there.value("len(parts)") == 200


def test_values_inside_of_others_are_pickled_once(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the figure and the axes of a plot, of which each leads to all others."""
    here, there = two
    dumped: list[int] = []
    dump = here.sync._pickling.dump

    def counted(values: Any, **options: Any) -> Any:
        dumped.append(len(values))
        return dump(values, **options)

    monkeypatch.setattr(here.sync._pickling, "dump", counted)
    names = ", ".join(f"x{i}" for i in range(10))
    here.run(f"all = [[i] for i in range(10)]\nfor x in all: x.append(all)\n{names} = all\ndel x")
    assert dumped == [1, 11]
    there.hear()
    assert there.value("all[3] is x3 and x4[1] is all")


def test_large_containers_inside_of_instances_count() -> None:
    class Graph:
        def __init__(self, nodes: int) -> None:
            self.name = "graph"
            self.nodes = {i: {i + 1: {}} for i in range(nodes)}

    assert weight.in_band(Graph(10)) < 100_000
    assert weight.in_band(Graph(100_000)) > weight.HEAVY


def test_a_callback_after_a_long_pause_has_no_more_time_for_it(two: Two, clock: list[float]) -> None:
    here, _ = two
    here.sync.starts(beside=False, alone=True)
    here.run("x = 1")
    clock.append(clock[-1] + 3600)
    here.sync.before_cell(None)
    assert here.sync._allowance().left <= sync.ALONE


# --- merging, whatever is on the way ----------------------------------------------------------------------------------


def test_what_was_committed_together_with_a_rival_is_no_conflict(two: Two) -> None:
    here, there = two
    here.run("x = [1]\nz = [2]")
    there.start("x.append('mine')")
    here.run("z.append(3)\nx.append(z)")
    there.commit()
    assert there.warnings == []
    assert there.value("x == [1, [2, 3], 'mine'] and x[1] is z")


def test_what_is_to_be_merged_is_not_overwritten_by_news(two: Two) -> None:
    here, there = two
    here.run("x = [1]")
    there.start("x.append('mine')")
    here.run("x.append(2)")
    there.sync.release_names(["x"])
    here.run("x.append(3)")
    assert there.hear(take=False) == []
    there.commit()
    here.hear()
    assert here.value("x") == there.value("x") == [1, 2, 3, "mine"]


def test_news_that_meet_a_commit_on_the_way_do_not_overwrite_it(two: Two) -> None:
    here, there = two
    here.run("x = [1]")
    there.start("x.append('mine')")
    here.run("x.append(2)")
    assert there.hear(take=False) == ["x"]
    [news] = there.sync._inbox
    there.sync._inbox.clear()
    there.sync.release_names(["x"])
    there.sync._inbox.appendleft(news)
    there.commit()
    here.hear()
    assert here.value("x") == there.value("x") == [1, 2, "mine"]


def test_news_of_one_name_are_taken_over_though_what_shares_objects_with_it_is_being_merged(two: Two) -> None:
    """Else a change of that name would be one of a value that isn't here."""
    here, there = two
    here.run("x = [1]; d = {}")
    there.start("x.append('mine')")
    here.run("x.append(2); box = [x]")
    there.sync.release_names(["x"])
    here.run("d['here'] = 1; box.append(d)")
    assert there.hear(take=False) == ["d"]
    here.run("box.pop()")
    with there.as_main():
        there.sync.take()
        there.sync.prepare()  # as `pull` does
    there.execute("d['mine'] = 1")
    there.commit()
    here.hear()
    assert here.value("d") == there.value("d") == {"here": 1, "mine": 1}
    assert here.value("x") == there.value("x") == [1, 2, "mine"]


def test_what_came_as_one_with_a_variable_that_has_changed_here_counts_as_not_told(two: Two) -> None:
    """Else a change of it would be one of a value that isn't here: that of its subshell was lost."""
    here, there = two
    here.run("x = [1]; d = {}")
    there.start("x.append('mine')")
    here.run("d['here'] = 1; box = [x, d]")
    assert there.hear(take=False) == ["box", "d", "x"]
    here.run("del box; x.append(2); d['later'] = 1")
    with there.as_main():
        there.sync.take()
        there.sync.prepare()  # as `pull` does
    there.execute("d['mine'] = 1")
    there.commit()
    here.hear()
    assert here.value("d") == there.value("d") == {"here": 1, "later": 1, "mine": 1}
    assert here.value("x") == there.value("x") == [1, 2, "mine"]


def test_what_shares_objects_with_a_variable_here_is_merged_with_it_though_there_it_does_no_more(two: Two) -> None:
    """Else what came into it by way of that variable would count as a change made here: it was doubled."""
    here, there = two
    here.run("x = []; d = {}; box = [x]")
    there.start("d['mine'] = 1")
    here.run("x.append(1); box[:] = [list(x), d]")
    there.commit()
    here.hear()
    assert here.value("x") == there.value("x") == [1]
    assert here.value("box") == there.value("box") == [[1], {"mine": 1}]
    assert there.warnings == []


def test_what_is_to_be_merged_twice_is_merged_once(two: Two) -> None:
    """The second time together with what it shares objects with by then."""
    here, there = two
    here.run("x = [1]")
    there.start("x.append('mine')")
    here.run("x.append(2)")
    there.sync.release_names(["x"])
    there.execute("y = [x]")
    there.sync.release_names(["x", "y"])
    there.commit()
    here.hear()
    assert here.value("x") == there.value("x") == [1, 2, "mine"]
    assert here.value("y[0] is x")


def test_what_is_changed_before_it_is_merged_with_something_else_is_merged_too(two: Two) -> None:
    """The broker takes for granted that the news of it, on their way, are there by then; but they come too late."""
    here, there = two
    here.run("x = []; d = {}")
    there.start("x.append('mine'); d")
    here.run("x.append('here')")
    here.run("d['here'] = 1")
    there.hear(take=False)
    here.run("box = [x, d]")
    there.sync.release_names(["x"])  # to be merged, and `d` with it
    there.execute("d['mine'] = 1")
    there.sync.release_names(["d"])
    there.commit()
    here.hear()
    for notebook in two:
        assert notebook.value("box") == [["here", "mine"], {"here": 1, "mine": 1}]
        assert notebook.value("box[0] is x and box[1] is d")


def test_what_is_left_of_a_group_has_not_changed(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of values that were one, a part has come, and the others are too large to be sent unasked."""
    here, there = two
    here.run("d = {}; box = [d, 'long' * 100]; e = {'d': d}")
    there.run("d, box, e")
    monkeypatch.setattr(store, "MAX_SENT_UNASKED", 200)
    here.run("del e['d']")
    assert there.hear() == ["e"]
    assert there.run("d, box, e") == []
    here.run("box.append(1)")
    there.ask("box")
    assert there.run("box.append(2)") == ["box", "d"]
    assert there.value("box[2:]") == [1, 2]


def test_what_was_offered_and_is_merged_is_no_offer_any_more(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two
    here.run("x = [1]")
    there.hear()
    with monkeypatch.context() as patch:
        patch.setattr(weight, "HEAVY", 100)
        here.run("x.append('a' * 1000)")
        there.start("x.append('mine')")
        assert there.sync.is_offered("x")
    here.sync.release_names(["x"])
    there.commit()
    assert there.value("len(x)") == 3
    assert not there.sync.is_offered("x")


@pytest.mark.parametrize("make", ["[]", "Thing()", "np.zeros(10)", "np.zeros(300_000)"])
def test_an_equal_object_of_another_name_is_noticed_in_the_place_of_one(two: Two, make: str) -> None:
    """All looks the same until somebody changes it."""
    pytest.importorskip("numpy")
    here, there = two
    here.run(f"import numpy as np\nclass Thing: pass\nb = {make}; box = {{'x': {make}}}")
    there.ask("box", "b")
    assert here.run("box['x'] = b") == ["b", "box"]
    assert here.run("i = 1") == ["i"]
    there.ask("box", "b")
    assert there.value("box['x'] is b")


@pytest.mark.parametrize("part", ["d[['q', 'p']]", "d[::-1]", "d[n // 2:]", "d[::20]", "d['p'][::2]"])
def test_a_part_of_a_table_is_told_only_when_it_was_changed(
    two: Two, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though pandas copies some for each look at them."""
    pytest.importorskip("pandas")
    monkeypatch.setattr(weight, "HEAVY", 1 << 30)
    here, there = two
    here.run(
        "import numpy as np, pandas as pd; n = 1_500_000; "
        f"d = pd.DataFrame({{'p': np.arange(n * 1.), 'q': np.zeros(n)}}); part = {part}; del d"
    )
    assert here.run("i = 1") == ["i"]
    assert here.run("part.size; i = 2") == ["i"]
    there.ask("part")
    assert there.value("part").equals(here.value("part"))
    assert here.run("part.iloc[5] = 2.5") == ["part"]
    there.ask("part")
    assert there.value("part").equals(here.value("part"))


def test_the_first_rows_of_a_table_are_by_themselves(two: Two) -> None:
    pd = pytest.importorskip("pandas")
    here, _ = two
    here.run("import pandas as pd; d = pd.DataFrame({'p': range(100), 'q': range(100)}); first = d.head()")
    if int(pd.__version__.split(".")[0]) >= 3:
        assert here.run("first.loc[0, 'p'] = 7") == ["first"]
    assert here.value("d.loc[0, 'p']") == 0


def test_who_leaves_a_large_value_there_can_commit_what_shared_objects_with_its_own(
    two: Two, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would merge for ever, and its cell would have no reply."""
    here, there = two
    here.run("x = []\ny = [x]")
    there.hear()
    monkeypatch.setattr(weight, "HEAVY", 500)
    there.start("x.append('mine')")
    here.run("y = ['a' * 1000]")
    there.commit()
    assert there.store.clashing(there.worker) == {}
    assert there.warnings == ["y was changed in another subshell at the same time; that value counts"]
    here.hear()
    assert here.value("x") == ["mine"]
    here.run("y = [['other']]")
    there.hear()
    assert there.value("(x, y)") == (["mine"], [["other"]])


def test_what_a_thread_changes_while_news_are_applied_is_shared(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = two
    here.run("x = [1]")
    there.run("x")
    here.run("x.append(2)")
    exchange_them = latecomers._exchange

    def exchanged(part: Any, obj: Any, content: Any) -> Any:
        monkeypatch.setattr(latecomers, "_exchange", exchange_them)
        there.value("x").append("late")
        return exchange_them(part, obj, content)

    monkeypatch.setattr(latecomers, "_exchange", exchanged)
    there.hear()
    assert there.value("x") == [1, "late", 2]
    here.hear()
    assert here.value("x") == [1, "late", 2]
