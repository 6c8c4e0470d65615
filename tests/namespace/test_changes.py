"""What a cell changed is found, and nothing else is taken for changed."""

from __future__ import annotations

import pytest

from mpkernel.namespace import changes
from mpkernel.namespace.bindings import is_own

from .bench import Watched

LARGE = pytest.mark.parametrize("budget", [0.01, -1.0], ids=["small namespace", "large namespace"])


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace that takes too long to check as a whole: only what the code can reach is."""
    monkeypatch.setattr(changes, "CHECK_ALL_BUDGET", -1.0)


@pytest.mark.parametrize(
    "name", ["_", "__", "___", "_i", "_ii", "_iii", "_i1", "_12", "_ih", "_oh", "_dh", "In", "Out"]
)
@pytest.mark.parametrize("suffix", ["", " "])
def test_names_that_ipython_makes_are_its_own(name: str, suffix: str) -> None:
    assert is_own(name + suffix) == (not suffix)


@pytest.mark.parametrize("name", ["__name__", "__builtins__", "__spec__", "_exit_code", "exit", "quit", "open"])
def test_names_that_python_makes_are_its_own(name: str) -> None:
    assert is_own(name)


@pytest.mark.parametrize("name", ["_cfg", "_x1", "_i1x", "_index", "x", "In1", "opened", "__private", "i", "_1x", ""])
def test_names_that_users_make_are_theirs(name: str) -> None:
    assert not is_own(name)


# --- rebinding and deleting -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1", "'text'", "None", "...", "[1]", "{}", "lambda: 0", "object()", "print"])
def test_a_name_that_is_bound_is_changed_once(value: str) -> None:
    space = Watched()
    assert space.changed(f"x = {value}") == ["x"]
    assert space.changed("pass") == []


def test_a_module_is_a_value_like_others() -> None:
    space = Watched()
    assert space.changed("import json") == ["json"]
    assert space.changed("json.some_attribute = 1; del json.some_attribute") == []


def test_a_name_that_is_bound_to_the_same_object_again_is_not_changed() -> None:
    assert Watched("x = 'text'").changed("x = x") == []


def test_a_name_that_is_bound_to_an_equal_object_is_changed() -> None:
    assert Watched("x = [1]").changed("x = [1]") == ["x"]


def test_a_deleted_name_is_told_once() -> None:
    space = Watched("x, y = 1, [2]")
    space.run("del x, y")
    assert sorted(space.collect().deleted) == ["x", "y"]
    assert space.collect().deleted == []


def test_a_name_that_comes_and_goes_within_a_cell_never_was() -> None:
    assert Watched().changed("for i in [1]: pass\ndel i") == []


@pytest.mark.parametrize("name", ["_", "_i3", "In", "__name__"])
def test_names_that_are_not_the_users_are_not_looked_at(name: str) -> None:
    assert Watched().changed(f"{name} = [1]") == []


def test_keys_that_are_no_names_are_not_looked_at() -> None:
    assert Watched().changed("globals()[1] = 2; globals()[None] = 3; x = 1") == ["x"]


def test_what_startup_files_made_is_not_changed() -> None:
    assert Watched("a, b, f = 1, [2], lambda: 0").changed("pass") == []


# --- changing in place ------------------------------------------------------------------------------------------------


@LARGE
@pytest.mark.parametrize(
    ("value", "mutation"),
    [
        ("[1]", "x.append(2)"),
        ("{'a': 1}", "x['b'] = 2"),
        ("{1}", "x.add(2)"),
        ("bytearray(b'a')", "x[0] = 98"),
        ("[[1]]", "x[0].append(2)"),
        ("type('C', (), {})()", "x.attribute = 1"),
        ("lambda: 0", "x.attribute = 1"),
        ("type('C', (), {})", "x.attribute = 1"),
    ],
)
def test_a_value_that_is_changed_in_place_is_found(
    monkeypatch: pytest.MonkeyPatch, budget: float, value: str, mutation: str
) -> None:
    monkeypatch.setattr(changes, "CHECK_ALL_BUDGET", budget)
    space = Watched(f"x = {value}\ny = [0]")
    assert space.changed(mutation) == ["x"]
    assert space.changed("x, y") == []


def test_an_array_that_is_changed_in_place_is_found() -> None:
    pytest.importorskip("numpy")
    space = Watched("import numpy\nx = numpy.zeros((100, 100))\nview = x[::2, ::2]")
    assert space.changed("x[3, 3] = 1") == ["view", "x"]
    assert space.changed("view[0, 0] = 1") == ["view", "x"]
    assert space.changed("x.sum()") == []


def test_a_change_that_leaves_the_value_as_it_was_is_none() -> None:
    assert Watched("x = [1]").changed("x.append(2); x.pop()") == []


def test_of_two_names_of_one_object_both_are_changed() -> None:
    assert Watched("x = y = [1]").changed("x.append(2)") == ["x", "y"]


def test_what_can_not_be_pickled_is_changed_when_it_is_bound_and_not_again() -> None:
    space = Watched()
    assert space.changed("g = (n for n in range(9))") == ["g"]
    assert space.changed("next(g)") == []
    assert space.changed("g = (n for n in range(9))") == ["g"]


def test_what_can_no_longer_be_pickled_is_changed() -> None:
    space = Watched("x = [1]")
    assert space.changed("x.append(n for n in x)") == ["x"]
    assert space.changed("x.pop()") == ["x"]


def test_a_value_whose_pickling_fails_oddly_does_not_harm() -> None:
    space = Watched("class Odd:\n    def __reduce__(self): return 1/0")
    assert space.changed("x = Odd(); y = 1") == ["x", "y"]
    assert space.changed("x, y") == []


# --- only rebinding, between two statements of a cell -----------------------------------------------------------------


def test_between_statements_only_bindings_are_looked_at() -> None:
    space = Watched("x, y, z = [1], [2], [3]")
    space.run("x.append(2); y = 5; del z")
    released = space.collect(mutations=False)
    assert (released.changed, released.deleted) == (["y"], ["z"])
    assert space.collect().changed == ["x"]


@pytest.mark.usefixtures("large")
def test_what_the_first_statements_reached_is_looked_at_in_the_end() -> None:
    space = Watched("x = [1]")
    space.run("x.append(2)")
    space.collect(mutations=False)
    space.run("y = 1")
    assert sorted(space.collect().changed) == ["x", "y"]


def test_what_is_changed_after_it_was_released_is_changed_again() -> None:
    space = Watched()
    space.run("x = [1]")
    assert space.collect(mutations=False).changed == ["x"]
    space.run("x.append(2)")
    assert space.collect().changed == ["x"]


# --- what came from elsewhere -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [1, [1], {"a": 1}])
def test_what_came_from_elsewhere_is_not_changed_here(value: object) -> None:
    space = Watched("x = 'old'")
    space.names["x"] = value
    space.tracker.received({"x": value}, [(["x"], [])], {})
    assert space.changed("x") == []


def test_what_came_from_elsewhere_and_is_changed_here_is_found() -> None:
    space = Watched()
    space.names["x"] = value = [1]
    space.tracker.received({"x": value}, [(["x"], [])], {})
    assert space.changed("x.append(2)") == ["x"]


def test_what_was_deleted_elsewhere_is_not_deleted_here() -> None:
    space = Watched("x = [1]")
    del space.names["x"]
    space.tracker.forget(["x"])
    assert space.collect().deleted == []
    assert space.changed("x = [1]") == ["x"]


# --- what code can reach ----------------------------------------------------------------------------------------------

REACHING = {
    "by name": ("", "x.append(1)"),
    "in a comprehension": ("", "[x.append(n) for n in (1, 2)]"),
    "in a function that is defined here": ("", "def g():\n    def h(): x.append(1)\n    h()\ng()"),
    "in a function": ("def f(): x.append(1)", "f()"),
    "in a function that a function calls": ("def f(): x.append(1)\ndef g(): f()", "g()"),
    "in functions that call each other": ("def f(n):\n    n and g(n - 1)\ndef g(n):\n    x.append(1); f(n)", "f(3)"),
    "in a method": ("class C:\n    def m(self): x.append(1)", "C().m()"),
    "in a method of an instance": ("class C:\n    def m(self): x.append(1)\nc = C()", "c.m()"),
    "in a bound method": ("class C:\n    def m(self): x.append(1)\nm = C().m", "m()"),
    "in an inherited method": ("class B:\n    def m(self): x.append(1)\nclass C(B): pass\ndel B", "C().m()"),
    "in a class method": ("class C:\n    @classmethod\n    def m(cls): x.append(1)", "C.m()"),
    "in a static method": ("class C:\n    @staticmethod\n    def m(): x.append(1)", "C.m()"),
    "in a property": ("class C:\n    @property\n    def p(self): x.append(1)\nc = C()", "c.p"),
    "in a decorated function": (
        "def twice(f):\n    def call(): f(); f()\n    return call\n@twice\ndef f(): x.append(1)",
        "f()",
    ),
    "by eval": ("", "eval('x.app' + 'end(1)')"),
    "by globals": ("", "globals()['x'].append(1)"),
    "by getattr": ("import sys", "getattr(sys.modules['__main__'], 'x').append(1)"),
}


@LARGE
@pytest.mark.parametrize("way", REACHING)
def test_what_code_changes_is_found_wherever_the_code_is(
    monkeypatch: pytest.MonkeyPatch, budget: float, way: str
) -> None:
    monkeypatch.setattr(changes, "CHECK_ALL_BUDGET", budget)
    startup, cell = REACHING[way]
    space = Watched(f"x, unreached = [0], [0]\n{startup}")
    space.run(cell)
    assert "x" in space.collect().changed


@pytest.mark.usefixtures("large")
def test_what_no_code_can_reach_is_not_even_looked_at() -> None:
    counting = "class Count:\n    n = 0\n    def __reduce__(self):\n        Count.n += 1\n        return Count, ()\n"
    space = Watched(counting + "x = Count()")
    seen = space.value("Count.n")
    space.run("y = 1")
    space.collect()
    assert space.value("Count.n") == seen
    space.run("x")
    space.collect()
    assert space.value("Count.n") > seen


@pytest.mark.usefixtures("large")
def test_what_an_earlier_cell_could_reach_does_not_count() -> None:
    space = Watched("x = [1]")
    assert space.changed("x") == []
    space.names["x"].append(2)  # by a thread, say
    assert space.changed("y = 1") == ["y"]
    assert space.changed("x") == ["x"]


@pytest.mark.parametrize(
    ("cell", "bound"), [("xs.append(1)", set()), ("xs = [1]", {"xs"}), ("xs, ys = ys, xs", {"xs", "ys"})]
)
def test_what_could_not_be_told_counts_as_bound_only_if_it_was(cell: str, bound: set[str]) -> None:
    space = Watched("xs, ys = [], []")
    space.run(cell)
    for _ in range(2):
        with space.as_main():
            changes = space.tracker.collect()
            space.tracker.take_back()
        assert changes.bound == bound
        assert changes.names >= {"xs"}
    with space.as_main():
        space.tracker.collect()
        space.tracker.told()
    assert space.changed("xs = [2]") == ["xs"]
