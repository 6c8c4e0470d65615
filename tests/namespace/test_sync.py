"""Subshells see each other's variables as if there were one namespace, as long as one cell runs at a time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpkernel.messages import News
from mpkernel.namespace import changes, sync
from mpkernel.namespace.store import NamespaceStore

from .bench import Notebook, Space


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


def test_nothing_is_committed_when_nothing_has_changed(two: Two) -> None:
    here, there = two
    here.run("x = [1]")
    assert here.run("x, 1 + 1") is None
    assert there.run("x") is None


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
    assert here.run("pass") is None
    here.run("del cfg")
    there.hear()
    assert "cfg" not in there.names


def test_what_startup_files_made_and_was_changed_elsewhere_is_changed_here() -> None:
    store = NamespaceStore()
    here = Notebook(store, 1, "cfg = {'a': 1}")
    here.run("cfg['a'] = 2")
    late = Notebook(store, 2, "cfg = {'a': 1}")
    assert late.run("pass") is None
    assert late.value("cfg") == {"a": 2}


# --- what can't travel ------------------------------------------------------------------------------------------------


def test_what_can_not_be_pickled_stays_and_the_rest_travels(two: Two) -> None:
    here, there = two
    commit = here.run("g, x = (n for n in ()), 1")
    assert commit is not None
    assert (commit.names, commit.lost) == (["x"], ["g"])
    there.hear()
    assert "g" not in there.names
    assert there.value("x") == 1


def test_what_stays_is_told_once(two: Two) -> None:
    here, _ = two
    here.run("g = (n for n in ())")
    assert here.run("g = (n for n in ())") is None
    assert here.store.lost_names(1) == ["g"]


@pytest.mark.parametrize("meanwhile", ["g = 1", "g = 1\ndel g"])
def test_what_stays_again_after_others_had_the_name_is_told_again(two: Two, meanwhile: str) -> None:
    here, there = two
    here.run("g = (n for n in ())")
    for cell in meanwhile.splitlines():
        there.run(cell)
    here.run("g = (n for n in ())")
    assert here.store.lost_names(1) == ["g"]


def test_what_is_too_large_stays(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    numpy = pytest.importorskip("numpy")
    monkeypatch.setattr(sync, "MAX_PAYLOAD", 1000)
    here, _ = two
    here.names["numpy"] = numpy
    here.commit()
    commit = here.run("small, large = numpy.zeros(10), numpy.zeros(1000)")
    assert commit is not None
    assert (commit.names, commit.lost) == (["small"], ["large"])


def test_a_value_that_can_not_be_loaded_is_logged_and_the_rest_arrives(
    two: Two, caplog: pytest.LogCaptureFixture
) -> None:
    here, _ = two
    here.run("x = 'old'")
    good = Space()
    good.execute("y = 1")
    here.sync.apply(News(5, ["x", "y"], [], (b"no pickle", good.dumps("y"))))
    assert (here.value("x"), here.value("y")) == ("old", 1)
    assert "'x'" in caplog.text
    assert here.run("x, y") is None


# --- between the statements of a cell ---------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock; its last entry is now."""
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[-1])
    return clock


def test_names_are_released_between_statements_at_intervals(two: Two, clock: list[float]) -> None:
    here, _ = two
    here.execute("x, y = 1, [1]")
    released = here.sync.release()
    assert released is not None
    assert released.names == ["x", "y"]
    here.execute("x = 2")
    assert here.sync.release() is None
    clock.append(clock[-1] + sync.RELEASE_INTERVAL)
    released = here.sync.release()
    assert released is not None
    assert released.names == ["x"]


def test_what_was_not_released_is_committed_at_the_end(two: Two, clock: list[float]) -> None:
    here, _ = two
    here.execute("x = [1]")
    here.sync.release()
    here.execute("x.append(2); y = 1")
    assert here.sync.release() is None
    commit = here.commit()
    assert commit is not None
    assert commit.names == ["x", "y"]


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
    lambda form, n, m, v: form.format(n=n, m=f"__import__('copy').deepcopy({m})", v=v),
    st.one_of(st.just("{n} = {v}"), changing),
    names,
    names,
    values,
)


@pytest.mark.parametrize("budget", [0.01, -1.0], ids=["small namespace", "large namespace"])
@settings(max_examples=60, deadline=None)
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
            late = Notebook(store, 100 + len(store._seen))
            for notebook in (*notebooks, late):
                notebook.hear()
                assert visible(notebook) == visible(alone)
    finally:
        changes.CHECK_ALL_BUDGET = before


def visible(space: Space) -> dict[str, object]:
    """The values, and of functions that they are there."""
    return {name: value if not callable(value) else "function" for name, value in space.user_names().items()}
