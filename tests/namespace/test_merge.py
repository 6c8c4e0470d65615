from __future__ import annotations

import array
import collections
import pickle
import random
import types
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Any

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpkernel.namespace.merge import DELETED, MAX_CONFLICTS, Merged, merge
from mpkernel.namespace.same import mark, same
from mpkernel.namespace.store import NamespaceStore

from .bench import Amount, Group, Notebook, Space, counted_calls, noted

np = pytest.importorskip("numpy")


class Thing:
    def __init__(self, **names: Any) -> None:
        self.__dict__.update(names)

    def __eq__(self, other: object) -> bool:
        raise AssertionError("user code ran")

    __hash__ = object.__hash__


class Opaque:
    def __init__(self, n: int) -> None:
        self.n = n

    def __reduce__(self) -> Any:
        return (Opaque, (self.n,))


class Tagged(str):
    pass


def loaded(value: Any) -> Any:
    return pickle.loads(cloudpickle.dumps(value))


def merged_names(base: dict[str, Any] | None, mine: dict[str, Any], theirs: dict[str, Any]) -> Merged:
    return merge(loaded(base), mine, loaded(theirs), loaded(mine))


def merged(base: Any, mine: Any, theirs: Any) -> tuple[Any, list[str]]:
    result = merged_names({"x": base}, {"x": mine}, {"x": theirs})
    return result.values["x"], result.conflicts


def edits(base: Any, *changes: Callable[[Any], Any]) -> list[Any]:
    """The base, and what each change makes of a copy of it."""
    made = [base]
    for change in changes:
        made.append(copy := loaded(base))
        change(copy)
    return made


DISJOINT: list[tuple[Any, Any, Any, Any]] = [  # base, mine, theirs, wanted
    ({"a": 1, "b": 2}, {"a": 5, "b": 2}, {"a": 1, "c": 3}, {"a": 5, "c": 3}),
    ({"k": {"a": 1, "b": 1}}, {"k": {"a": 2, "b": 1}}, {"k": {"a": 1, "b": 2}}, {"k": {"a": 2, "b": 2}}),
    ({1, 2, 3}, {2, 3, 4}, {1, 2, 5}, {2, 4, 5}),
    ({(1, "a")}, {(1, "a"), (2, "b")}, set(), {(2, "b")}),
    ([1], [1, 2], [1, 3], [1, 3, 2]),
    ([1, 2, 3], [9, 2, 3], [1, 2, 8], [9, 2, 8]),
    ([1, 2, 3], [0, 1, 2, 3], [1, 2, 3, 4], [0, 1, 2, 3, 4]),
    ([1, 2, 3], [2, 3], [1, 2, 3, 4], [2, 3, 4]),
    ([{"a": 1, "b": 1}], [{"a": 2, "b": 1}, 1], [{"a": 1, "b": 2}, 2], [{"a": 2, "b": 2}, 2, 1]),
    (collections.deque([1]), collections.deque([1, 2]), collections.deque([1, 3]), collections.deque([1, 3, 2])),
    (bytearray(b"abc"), bytearray(b"Abc"), bytearray(b"abC"), bytearray(b"AbC")),
    (array.array("i", [1]), array.array("i", [1, 2]), array.array("i", [1, 3]), array.array("i", [1, 3, 2])),
    (collections.Counter(a=1), collections.Counter(a=2), collections.Counter(a=1, b=1), collections.Counter(a=2, b=1)),
    (Thing(a=1, b=[1]), Thing(a=2, b=[1]), Thing(a=1, b=[2]), Thing(a=2, b=[2])),
    (([1], [1]), ([2], [1]), ([1], [2]), ([2], [2])),
    ((1, 2), (3, 2), (1, 4), (3, 4)),
    (frozenset((1, 2)), frozenset((1, 3)), frozenset((1, 2, 4)), frozenset((1, 3, 4))),
    (types.SimpleNamespace(a=1), types.SimpleNamespace(a=2), types.SimpleNamespace(a=1, b=1), None),
    (np.zeros(4), np.array([1.0, 0, 0, 0]), np.array([0, 0, 0, np.nan]), np.array([1, 0, 0, np.nan])),
    (np.zeros(2, complex), np.array([1j, 0]), np.array([0, 2j]), np.array([1j, 2j])),
    (np.array(["a", "b"]), np.array(["c", "b"]), np.array(["a", "d"]), np.array(["c", "d"])),
    (np.array([None, None]), np.array([[1], None], object), np.array([None, {}]), np.array([[1], {}], dtype=object)),
    ([3, 1, 2], [1, 2, 3], [30, 1, 2], [1, 2, 30]),
    ([3, 1, 2], [3, 10, 2], [1, 2, 3], [10, 2, 3]),
    ([{"n": 2}, {"n": 1}], [{"n": 1}, {"n": 2}], [{"n": 2, "new": 0}, {"n": 1}], [{"n": 1}, {"n": 2, "new": 0}]),
    ([[0], [1], [2]], [[0], [1, 9], [2]], [[2], [1], [0]], [[2], [1, 9], [0]]),
    ([[0], [1], [2], [3]], [[1], [3]], [[0], [1], [2], [3, 9]], [[1], [3, 9]]),
    ([1, 2, 7, 4], [2, 7, 4, 5], [1, 2, 7, 40], [2, 7, 40, 5]),
    ([1, 2, 7, 4], [2, 7, 4, 5], [1, 2, 7, 6], [2, 7, 6, 5]),
    ([[1], [2], [3]], [[2], [3], [4]], [[1], [2, 9], [3]], [[2, 9], [3], [4]]),
    ([[1], [2], [3]], [[2], [3], [4]], [[1], [2], [3], [9]], [[2], [3], [9], [4]]),
    ([1, 2, 3, 4, 5], [1, 3, 5], [1, 2, 4, 5], [1, 5]),
    ([1, 2, 3, 4], [7, 1, 2, 8, 4], [1, 2, 3, 9, 4], [7, 1, 2, 8, 9, 4]),
    ([1, 2], [0, 1, 20], [1, 2, 3], [0, 1, 20, 3]),
    (
        [{"n": 1}, {"n": 2}],
        [{"n": 0}, {"n": 1, "a": 1}, {"n": 2}],
        [{"n": 1, "b": 2}, {"n": 2}],
        [{"n": 0}, {"n": 1, "a": 1, "b": 2}, {"n": 2}],
    ),
    (  # counted on in each
        [{"n": 0}, {"n": 1}, {"n": 2}],
        [{"n": 1}, {"n": 2}, {"n": 3}],
        [{"n": 0}, {"n": 1, "x": 5}, {"n": 2}],
        [{"n": 1}, {"n": 2, "x": 5}, {"n": 3}],
    ),
    (
        [Thing(n=1, of="a"), Thing(n=2, of="a"), Thing(n=4, of="a")],
        [Thing(n=2, of="a"), Thing(n=4, of="a"), Thing(n=8, of="a")],
        [Thing(n=4, of="a"), Thing(n=2, of="a"), Thing(n=1, of="b")],
        [Thing(n=8, of="a"), Thing(n=4, of="a"), Thing(n=2, of="b")],
    ),
    (
        [[date(2024, 1, day), 0] for day in (1, 2, 3)],
        [[date(2024, 1, day), 0] for day in (2, 3, 4)],
        [[date(2024, 1, day), day] for day in (1, 2, 3)],
        [[date(2024, 1, day + 1), day] for day in (1, 2, 3)],
    ),
    (
        [[datetime(2024, 1, day)] for day in (1, 2, 3)],
        [[datetime(2024, 1, 2)], [datetime(2024, 1, 3)], [datetime(2024, 1, 4, tzinfo=UTC)]],
        [[datetime(2024, 1, 1)], [datetime(2024, 1, 2), 0], [datetime(2024, 1, 3)]],
        [[datetime(2024, 1, 2), 0], [datetime(2024, 1, 3)], [datetime(2024, 1, 4, tzinfo=UTC)]],
    ),
    (
        [{"at": datetime(2024, 1, day), "n": 0} for day in (1, 2, 3)],
        [{"at": datetime(2024, 1, day, tzinfo=zone), "n": 0} for day, zone in ((2, None), (3, None), (4, UTC))],
        [{"at": datetime(2024, 1, day), "n": 0} for day in (1, 2, 3, 4)],
        [
            {"at": datetime(2024, 1, day, tzinfo=zone), "n": 0}
            for day, zone in ((2, None), (3, None), (4, None), (4, UTC))
        ],
    ),
    ([1, 2, 3, 4], [2, 3, 4, 5], [1, 2, 3, 4, 9], [2, 3, 4, 5, 9]),
    ([0.1, 0.2, 0.3], [0.2, 0.1 + 0.2, 0.4], [0.3, 0.2, 0.1], [0.4, 0.1 + 0.2, 0.2]),
    (  # not counted on: one was taken out, one put in
        [{"n": 1, "t": 5}, {"n": 2, "t": 3}, {"n": 3, "t": 4}],
        [{"n": 2, "t": 3}, {"n": 3, "t": 4}, {"n": 4, "t": 9}],
        [{"n": 1, "t": 5}, {"n": 2, "t": 3}, {"n": 3, "t": 4, "x": 5}],
        [{"n": 2, "t": 3}, {"n": 3, "t": 4, "x": 5}, {"n": 4, "t": 9}],
    ),
    ([0.0, 1, 2, 3], [-0.0, True, 3], [0.0, 1, 2, 3, 4], [-0.0, True, 3, 4]),
    ([3, 5, 7], [1, 3, 7, 5], [2, 3, 7, 5], [2, 1, 3, 7, 5]),
    ([Thing(n=2), Thing(n=1)], [Thing(n=1), Thing(n=2)], [Thing(n=2), Thing(n=5)], [Thing(n=5), Thing(n=2)]),
    ({"x": 1}, {"x": 1}, {"y": 2}, {"y": 2}),
    ([1], [1], "now a string", "now a string"),
    ([1], (2,), [1], (2,)),
]


@pytest.mark.parametrize(("base", "mine", "theirs", "wanted"), DISJOINT, ids=lambda value: type(value).__name__)
def test_disjoint_changes_merge(base: Any, mine: Any, theirs: Any, wanted: Any) -> None:
    patched = type(mine) not in (str, tuple, frozenset) and type(mine) is type(theirs)
    value, conflicts = merged(base, mine, theirs)
    assert conflicts == []
    assert same(value, types.SimpleNamespace(a=2, b=1) if wanted is None else wanted)
    assert (value is mine) == patched or not patched


CLASHES: list[tuple[Any, Any, Any, Any, str]] = [  # base, mine, theirs, wanted, path
    ({"lr": 1, "n": 1}, {"lr": 2, "n": 1}, {"lr": 3, "n": 4}, {"lr": 2, "n": 4}, "x['lr']"),
    ({}, {"a": [1]}, {"a": [2]}, {"a": [1]}, "x['a']"),
    (Thing(w=1), Thing(w=2), Thing(w=3), Thing(w=2), "x.w"),
    ([1, 2], [1, 3], [1, 4], [1, 3], "x[1]"),
    ([1, 2, 3], [1, 9], [1, 2, 8, 3], [1, 9], "x"),
    ([0, 1], [1, 0], [2, 1], [1, 0], "x[0]"),  # two numbers were written
    ([1, 2, 3, 4], [2, 3, 4, 5], [1, 2, 100, 4], [2, 3, 4, 5], "x[2]"),
    ([1, 2, 3, 4], [2, 3, 4, 5], [2, 3, 4], [2, 3, 4, 5], "x"),
    ([[0], [1], [2]], [[2], [0]], [[0], [1, 9], [2]], [[2], [0]], "x"),
    ([[0], [1], [2]], [[1], [0], [2]], [[2], [1], [0]], [[1], [0], [2]], "x"),
    (1, 2, 3, 2, "x"),
    (1.0, float("nan"), 2.0, float("nan"), "x"),
    ([1], {1}, (1, 2), {1}, "x"),
    (np.zeros(2), np.array([1.0, 0]), np.array([2.0, 3]), np.array([1.0, 3]), "x"),
    (np.zeros(2), np.zeros(3), np.zeros(4), np.zeros(3), "x"),
    (Opaque(1), Opaque(2), Opaque(3), Opaque(2), "x"),
    ({(1, "a"): 1}, {(1, "a"): 2}, {(1, "a"): 3}, {(1, "a"): 2}, "x[(1, 'a')]"),
    ([[{"m": Thing(w=[1])}]], [[{"m": Thing(w=[2])}]], [[{"m": Thing(w=[3])}]], None, "x[0][0]['m'].w[0]"),
]


@pytest.mark.parametrize(("base", "mine", "theirs", "wanted", "path"), CLASHES, ids=lambda value: type(value).__name__)
def test_where_both_changed_the_same_mine_wins_and_the_path_is_told(
    base: Any, mine: Any, theirs: Any, wanted: Any, path: str
) -> None:
    wanted = loaded(mine) if wanted is None else wanted
    value, conflicts = merged(base, mine, theirs)
    assert conflicts == [path]
    assert same(value, wanted)


@pytest.mark.parametrize(
    "value", [1, "a", [1, [2]], {"a": {1}}, Thing(a=1), Opaque(1), np.ones(2), float("nan"), (1, [2])], ids=range(9)
)
def test_the_same_value_on_both_sides_is_no_conflict(value: Any) -> None:
    result, conflicts = merged(None, loaded(value), loaded(value))
    assert conflicts == []
    assert same(result, value)


def test_names_that_are_made_and_deleted() -> None:
    result = merged_names(
        {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1},
        {"b": 1, "c": 5, "mine": 1, "both": 1, "e": 1},  # a and d were deleted,
        {"a": 1, "d": 5, "theirs": 1, "both": 2, "e": 1},  # b and c were
    )
    assert result.values == {
        "a": DELETED,
        "b": DELETED,
        "c": 5,
        "d": 5,
        "mine": 1,
        "theirs": 1,
        "both": 1,
        "e": 1,
    }
    assert result.conflicts == ["both"]


def test_a_key_deleted_here_and_changed_there_survives() -> None:
    assert merged({"a": 1, "b": 1}, {"b": 1}, {"a": 2, "b": 1}) == ({"b": 1, "a": 2}, [])
    assert merged({"a": 1, "b": 1}, {"a": 2, "b": 1}, {"b": 1}) == ({"a": 2, "b": 1}, [])


def test_without_a_base_all_that_differs_is_a_conflict() -> None:
    result = merged_names(None, {"a": [1], "b": 1, "m": 1}, {"a": [2], "b": 1, "t": 1})
    assert result.values == {"a": [1], "b": 1, "m": 1, "t": 1}
    assert result.conflicts == ["a"]


def test_at_most_so_many_conflicts_are_told() -> None:
    base, mine, theirs = (dict.fromkeys(range(100), side) for side in range(3))
    assert len(merged(base, mine, theirs)[1]) == MAX_CONFLICTS


def test_of_all_names_of_which_anything_was_overruled_it_is_told() -> None:
    base, mine, theirs = ({"d": dict.fromkeys(range(30), side), "y": [side], "z": side} for side in range(3))
    result = merged_names(base, mine, theirs)
    assert len(result.conflicts) == MAX_CONFLICTS
    assert result.overruled == {"d", "y", "z"}


def test_live_objects_are_patched_and_stay() -> None:
    inner: list[int] = [1]
    mine = {"xs": inner, "n": 2}
    value, _ = merged({"xs": [1], "n": 1}, mine, {"xs": [1, 5], "n": 1})
    assert value is mine
    assert mine["xs"] is inner
    assert inner == [1, 5]


@pytest.mark.parametrize("made", [Amount(1.5), Tagged("a"), Group([1, 2])], ids=lambda made: type(made).__name__)
def test_attributes_of_what_is_otherwise_fixed_are_merged(made: Any) -> None:
    vars(made).update(a=1, b=[1], me=made)
    _, mine, theirs = edits(made, lambda it: it.b.append(2), lambda it: vars(it).update(a=5))
    value, conflicts = merged(made, mine, theirs)
    assert value is mine
    assert (value.a, value.b, value.me is value, conflicts) == (5, [1, 2], True, [])


def test_a_value_that_they_replaced_has_the_attributes_of_both() -> None:
    base, mine, theirs = ({"m": noted(Amount(n), **names)} for n, names in ((1, {}), (1, {"a": 1}), (2, {"b": 2})))
    value, conflicts = merged(base, mine, theirs)
    assert (value["m"], vars(value["m"]), conflicts) == (2.0, {"a": 1, "b": 2}, [])
    assert type(value["m"]) is Amount


def test_a_list_to_which_both_appended_keeps_my_objects() -> None:
    base = [Thing(n=1)]
    mine = loaded(base)
    first, own = mine[0], Thing(n="mine")
    mine.append(own)
    value, conflicts = merged(base, mine, [*loaded(base), Thing(n="theirs")])
    assert value is mine
    assert (mine[0] is first, mine[2] is own, mine[1].n, conflicts) == (True, True, "theirs", [])


def sorted_and_half_changed(rows: list[dict[str, int]]) -> None:
    for row in rows[::2]:
        row["half"] = 1
    rows.sort(key=lambda row: row["order"])


def half_gone_and_changed(rows: list[dict[str, int]]) -> None:
    del rows[::2]
    for row in rows:
        row["half"] = 1


@pytest.mark.parametrize("change", [sorted_and_half_changed, half_gone_and_changed])
@pytest.mark.parametrize("here", [True, False])
@pytest.mark.parametrize("count", [20, 4000])  # to compare each with each would take a minute
def test_the_items_of_a_long_list_are_found_where_they_are(
    change: Callable[[list[dict[str, int]]], None], here: bool, count: int
) -> None:
    rows = [{"number": number, "order": number * 7919 % 4001} for number in range(count)]
    changes = [change, lambda rows: rows[3].update(other=1)]
    base, mine, theirs = edits(rows, *(changes if here else reversed(changes)))
    wanted = loaded(mine if here else theirs)
    next(row for row in wanted if row["number"] == 3)["other"] = 1
    assert merged(base, mine, theirs) == (wanted, [])


@pytest.mark.parametrize("made", [set, frozenset, dict.fromkeys, lambda things: [set(things)]])
def test_instances_that_are_elements_or_keys_are_merged_where_both_changed_them(
    made: Callable[[list[Thing]], Any],
) -> None:
    def things(container: Any) -> list[Thing]:
        return sorted(container[0] if isinstance(container, list) else container, key=lambda thing: thing.number)

    def here(container: Any) -> None:
        for thing in things(container):
            thing.here = thing.number

    def there(container: Any) -> None:
        things(container)[1].there = 1

    base, mine, theirs = edits(made([Thing(number=number) for number in range(3)]), here, there)
    value, conflicts = merged(base, mine, theirs)
    assert [vars(thing) for thing in things(value)] == [
        {"number": 0, "here": 0},
        {"number": 1, "here": 1, "there": 1},
        {"number": 2, "here": 2},
    ]
    assert conflicts == []


CLASS = """
class Node:
    count, all = 0, []
    def __init__(self, number):
        self.number = number
        Node.all.append(self)
    def counted(self): return total
"""


def test_what_methods_of_a_class_use_is_no_part_of_its_instances() -> None:
    store = NamespaceStore()
    here, there = Notebook(store, 1), Notebook(store, 2)
    here.run(f"{CLASS}xs = [Node(n) for n in range(3)]; total = [*range(50_000)]")
    there.run("pass")
    here.start("xs.reverse()")
    there.start("xs[0].seen = 1")
    for notebook in (here, there):
        notebook.commit()
    here.run("pass")
    assert here.value("[(node.number, getattr(node, 'seen', 0)) for node in xs]") == [(2, 0), (1, 0), (0, 1)]


def test_marks_take_no_work_for_what_a_class_holds() -> None:
    calls = []
    for count in (100, 200):
        cell = Space()
        cell.execute(f"{CLASS}xs = [Node(n) for n in range({count})]")
        with cell.as_main(), counted_calls() as counted:
            assert len({mark(value) for value in cell.names["xs"]}) == count
        calls.append(counted())
    assert calls[1] < 2.5 * calls[0]


def test_where_it_can_not_be_told_which_element_became_which_mine_counts() -> None:
    base = {Thing(kind="same", number=number) for number in range(3)}

    def change(by: int) -> Callable[[Any], None]:
        return lambda things: [setattr(thing, "number", thing.number + by) for thing in things] and None

    base, mine, theirs = edits(base, change(10), change(20))
    value, conflicts = merged(base, mine, theirs)
    assert sorted(thing.number for thing in value) == [10, 11, 12]
    assert conflicts == ["x"]


def test_an_object_on_two_paths_is_merged_once() -> None:
    def names() -> dict[str, Any]:
        shared: list[int] = [1]
        return {"a": shared, "b": {"a": shared}}

    mine, theirs = names(), names()
    mine["a"].append("mine")
    theirs["a"].append("theirs")
    result = merged_names(names(), mine, theirs)
    assert result.values["a"] is result.values["b"]["a"] is mine["a"]
    assert mine["a"] == [1, "theirs", "mine"]


@pytest.mark.parametrize("order", ["d box", "box d"])
def test_what_was_merged_on_another_path_was_not_changed_here(order: str) -> None:
    def names(make: Callable[[dict[Any, Any]], Any], **content: int) -> dict[str, Any]:
        d: dict[Any, Any] = {**content}
        values = {"d": d, "box": make(d)}
        return {name: values[name] for name in order.split()}

    def two(d: dict[Any, Any]) -> Any:
        return [d, "n"]

    mine = names(two)
    result = merged_names(names(two), mine, names(lambda d: ["s", d, d], theirs=7))
    assert result.conflicts == []
    assert result.values == {"d": {"theirs": 7}, "box": ["s", mine["d"], mine["d"]]}
    result = merged_names(names(lambda d: {"d": d}), names(lambda d: {"d": d}), names(lambda d: {}, theirs=7))
    assert result.values == {"d": {"theirs": 7}, "box": {}}


def test_an_object_with_a_name_has_the_base_of_that_name() -> None:
    """Also where both sides have put it in place of another one."""
    mine, theirs = [4, 7], [4, 8]
    result = merged_names({"box": [[]], "x": [4]}, {"box": [mine], "x": mine}, {"box": [theirs, theirs], "x": theirs})
    assert result.values["x"] == [4, 8, 7]
    assert result.values["x"] is result.values["box"][0] is mine


def test_what_is_new_there_refers_to_objects_that_are_here() -> None:
    def names() -> dict[str, Any]:
        return {"a": [1], "b": {}}

    mine, theirs = names(), names()
    theirs["b"]["new"] = {"a": theirs["a"]}
    mine["a"].append(2)
    result = merged_names(names(), mine, theirs)
    assert result.values["b"]["new"]["a"] is mine["a"]
    assert mine["a"] == [1, 2]


def test_what_they_made_two_objects_of_one_is_two() -> None:
    def names() -> dict[str, Any]:
        shared = {1, 2}
        return {"a": shared, "b": shared}

    mine, theirs = names(), {"a": {1, 2, 3}, "b": {4}}
    result = merged_names(names(), mine, theirs)
    assert result.values == {"a": {1, 2, 3}, "b": {4}}
    assert result.values["a"] is mine["a"]
    mine = names()
    mine["a"].add(9)
    result = merged_names(names(), mine, theirs)
    assert result.values["a"] == {1, 2, 3, 9}
    assert result.conflicts == ["b"]


@pytest.mark.parametrize("box", ["a box", "the box"])  # before the others, or after
@pytest.mark.parametrize(
    "make", [lambda n: [n], lambda n: {"n": n}, Thing, Opaque], ids=["list", "dict", "instance", "opaque"]
)
@pytest.mark.parametrize("content", [0, 1], ids=["same", "other"])
def test_an_item_becomes_the_value_of_another_name_while_that_or_the_old_one_is_changed(
    box: str, make: Callable[..., Any], content: int
) -> None:
    """Neither is lost, and neither is taken for a change of the other."""

    def names() -> dict[str, Any]:
        d, e = (make(n=number) if make is Thing else make(number) for number in (0, content))
        return {"d": d, "e": e, box: [d, "other"]}

    def move(sides: dict[str, Any]) -> None:
        sides[box][0] = sides["e"]

    def change(value: Any) -> None:
        if isinstance(value, list):
            value.append(3)
        elif isinstance(value, dict):
            value["new"] = 3
        else:
            value.n = 3

    for changed, other in (("e", "d"), ("d", "e")):
        for movers in ((True, False), (False, True), (True, True)):
            mine, theirs, wanted = names(), names(), names()
            for side, moves in zip((mine, theirs), movers, strict=True):
                if moves:
                    move(side)
            change((theirs if movers[0] else mine)[changed])
            change(wanted[changed])
            result = merged_names(names(), mine, theirs)
            assert result.conflicts == []
            assert result.values[box][0] is result.values["e"]
            assert result.values["e"] is not result.values["d"]
            assert same(result.values["d"], wanted["d"]), (changed, movers)
            assert same(result.values["e"], wanted["e"]), (changed, movers)
            assert make is Opaque or result.values[other] is mine[other]


def test_an_item_becomes_the_values_of_two_names_at_once() -> None:
    def names() -> dict[str, Any]:
        return {"d": [1], "e": [2], "box": [[0]]}

    mine, theirs = names(), names()
    mine["box"][0], theirs["box"][0] = mine["d"], theirs["e"]
    result = merged_names(names(), mine, theirs)
    assert result.conflicts == ["box[0]"]
    assert result.values["box"][0] is result.values["d"] is mine["d"]
    assert result.values["e"] == [2]
    mine, theirs = names(), names()
    mine["box"][0].append(7)
    theirs["box"][0] = theirs["e"]
    result = merged_names(names(), mine, theirs)
    assert result.conflicts == ["box[0]"]
    assert result.values == {"d": [1], "e": [2], "box": [[0, 7]]}


def test_an_item_that_was_replaced_is_not_what_another_place_has() -> None:
    def names() -> dict[str, Any]:
        x = [1]
        return {"x": x, "box": [x], "d": {}}

    mine, theirs = names(), names()
    mine["box"][0] = [9]
    theirs["box"].append(5)
    theirs["d"]["x"] = theirs["x"]
    result = merged_names(names(), mine, theirs)
    assert result.conflicts == []
    assert result.values == {"x": [1], "box": [[9], 5], "d": {"x": [1]}}
    assert result.values["d"]["x"] is result.values["x"]


def test_a_value_that_gets_a_name_is_merged_with_what_it_was() -> None:
    def names() -> dict[str, Any]:
        return {"e": [2], "box": [[0]]}

    mine, theirs = names(), names()
    mine["box"][0].append(7)
    theirs["e"] = theirs["box"][0]
    result = merge(names(), mine, loaded(theirs), loaded(mine), bound=({"e"}, set()))
    assert result.conflicts == []
    assert result.values["box"] == [[0, 7]]
    assert result.values["e"] is result.values["box"][0]


def test_what_has_another_place_than_its_name_was_replaced() -> None:
    def names() -> dict[str, Any]:
        x = [1]
        return {"x": x, "y": x, "box": [x]}

    mine, theirs = names(), names()
    theirs["x"].append(2)
    theirs["box"][0] = [9]
    mine["x"] = [5]
    result = merge(names(), mine, loaded(theirs), loaded(mine), bound=(set(), {"x"}))
    assert result.conflicts == []
    assert result.values == {"x": [5], "y": [1, 2], "box": [[9]]}


@pytest.mark.parametrize(
    "make", [lambda n: [n], lambda n: {"n": n}, Thing, Opaque], ids=["list", "dict", "instance", "opaque"]
)
@pytest.mark.parametrize("here", [True, False], ids=["here", "there"])
def test_a_name_that_was_bound_to_what_is_elsewhere(make: Callable[..., Any], here: bool) -> None:
    """Both have it then, and neither is taken for what became of the object that the name had."""

    def names(bound: int) -> dict[str, Any]:
        rows = [make(n=number) if make is Thing else make(number) for number in range(3)]
        return {"row": rows[bound], "rows": rows}

    mine, theirs = names(1 if here else 0), names(0 if here else 1)
    changing = theirs if here else mine
    for index, row in enumerate(changing["rows"][:2]):
        if isinstance(row, list):
            row.append(index)
        elif isinstance(row, dict):
            row["new"] = index
        else:
            row.n = index + 10
    changed = loaded(changing["rows"])
    bound = (set(), {"row"}) if here else ({"row"}, set())
    result = merge(loaded(names(0)), mine, loaded(theirs), loaded(mine), bound=bound)
    assert result.conflicts == []
    assert same(result.values["rows"], changed)
    assert result.values["row"] is result.values["rows"][1] or make is Opaque
    assert same(result.values["row"], changed[1])


def test_a_name_was_bound_here_while_its_only_object_was_changed_there() -> None:
    def names() -> dict[str, Any]:
        return {"row": {"n": 0}, "rows": [{"n": 1}]}

    for here in (True, False):
        mine, theirs = names(), names()
        binding, changing = (mine, theirs) if here else (theirs, mine)
        binding["row"] = binding["rows"][0]
        changing["row"]["lost"] = 1
        bound = (set(), {"row"}) if here else ({"row"}, set())
        result = merge(loaded(names()), mine, loaded(theirs), loaded(mine), bound=bound)
        assert result.conflicts == ["row"]
        assert result.values["rows"] == [{"n": 1}]
        assert result.values["row"] == ({"n": 1} if here else {"n": 0, "lost": 1})


FRESH: list[tuple[Any, Any, Any]] = [  # base, mine, theirs
    ({"k": 0}, {"a": 1}, {"b": 2}),
    ([1, 2], [3], [4, 5]),
    ({1}, {2}, {3}),
    (Thing(a=0, b=0, c=0), Thing(a=1, b=0, c=0), Thing(a=0, b=2, c=0)),
    (np.zeros(3), np.ones(3), np.array([0, 2, 0])),
]


@pytest.mark.parametrize(("base", "mine", "theirs"), FRESH, ids=[type(case[0]).__name__ for case in FRESH])
def test_two_new_objects_of_one_name_are_not_mixed(base: Any, mine: Any, theirs: Any) -> None:
    both = {"x"}, {"x"}
    result = merge({"x": loaded(base)}, {"x": mine}, {"x": loaded(theirs)}, {"x": loaded(mine)}, bound=both)
    assert result.conflicts == ["x"]
    assert result.values["x"] is mine
    assert same(mine, loaded(mine))


def test_two_new_tables_of_one_name_are_not_mixed() -> None:
    pd = pytest.importorskip("pandas")

    def merged_both(base: Any, mine: Any, theirs: Any) -> Merged:
        both = {"df"}, {"df"}
        return merge({"df": base}, {"df": mine}, {"df": theirs}, {"df": mine.copy()}, bound=both)

    base = pd.DataFrame({"a": [1, 2]})
    result = merged_both(base, pd.DataFrame({"c": [3, 4]}), pd.DataFrame({"d": [5, 6]}))
    assert (list(result.values["df"]), result.conflicts) == (["c"], ["df"])
    result = merged_both(base, base.assign(c=1), base.assign(d=2))
    assert (sorted(result.values["df"]), result.conflicts) == (["a", "c", "d"], [])
    column = base["a"]
    result = merged_both(column, column * 10, column * 20)
    assert (result.values["df"].tolist(), result.conflicts) == ([10, 20], ["df"])


def test_both_have_bound_a_name_to_one_object() -> None:
    def names(bound: int) -> dict[str, Any]:
        rows = [[0], [1], [2]]
        return {"row": rows[bound], "rows": rows, "i": bound}

    both = {"row", "i"}, {"row", "i"}
    for theirs, others in ((names(1), set()), (names(2), {"row"})):
        theirs["i"] = 1
        mine = names(1)
        result = merge(loaded(names(0)), mine, loaded(theirs), loaded(mine), bound=both)
        assert result.conflicts == []
        assert result.values["row"] is mine["rows"][1]
        assert result.bound == others


def test_cycles_merge() -> None:
    def names() -> Any:
        node = Thing(a=1, b=1)
        node.me = node  # type: ignore[attr-defined]
        return node

    mine, theirs = names(), names()
    mine.a, theirs.b = 2, 2
    value, conflicts = merged(names(), mine, theirs)
    assert value.me.me is mine
    assert (mine.a, mine.b, conflicts) == (2, 2, [])


def test_none_is_put_in_the_place_of_a_variable_s_value_that_is_changed() -> None:
    for mine_puts in (True, False):
        base, mine, theirs = ({"d": d, "box": [d]} for d in ([1], [1], [1]))
        putting, changing = (mine, theirs) if mine_puts else (theirs, mine)
        putting["box"][0] = None
        changing["d"].append(2)
        result = merged_names(base, mine, theirs)
        assert result.values == {"d": [1, 2], "box": [None]}
        assert result.conflicts == []


def test_empty_tuples_are_not_taken_for_one_object() -> None:
    value, _ = merged({"a": (), "b": ()}, {"a": (), "b": ()}, {"a": (1,), "b": ()})
    assert value == {"a": (1,), "b": ()}


def test_sets_and_keys_of_objects_without_equality() -> None:
    base, mine, theirs = edits(
        {Thing(n=1)}, lambda things: things.add(Thing(n=2)), lambda things: things.add(Thing(n=3))
    )
    value, _ = merged(base, mine, theirs)
    assert sorted(thing.n for thing in value) == [1, 2, 3]


def test_a_closure_in_which_one_side_counted_on() -> None:
    def counter(count: int, names: list[str]) -> Any:
        def step() -> Any:
            nonlocal count
            count += 1
            return count, names

        return step

    def like(function: Any, cells: Any) -> Any:
        return types.FunctionType(function.__code__, function.__globals__, "step", None, cells.__closure__)

    mine = counter(1, ["m"])
    names = mine.__closure__[1].cell_contents
    frozen, base, theirs = (like(mine, counter(*state)) for state in ((1, ["m"]), (1, []), (5, ["t"])))
    result = merge({"f": base}, {"f": mine}, {"f": theirs}, {"f": frozen})
    assert result.values["f"] is mine
    assert result.conflicts == []
    assert mine() == (6, ["t", "m"])
    assert mine()[1] is names


def test_structured_arrays_merge_by_field() -> None:
    base = np.zeros(2, [("a", "i4"), ("b", "f8", 2)])
    mine, theirs = base.copy(), base.copy()
    mine["a"][0], theirs["b"][0, 1] = 1, 2
    value, conflicts = merged(base, mine, theirs)
    assert conflicts == []
    assert value is mine
    assert (mine["a"][0], mine["b"][0, 1]) == (1, 2)


def test_views_stay_views() -> None:
    def names() -> dict[str, Any]:
        whole = np.zeros(6)
        return {"a": whole, "v": whole[2:4]}

    base, mine, theirs, frozen = names(), names(), names(), names()
    for side in (mine, frozen):
        side["a"][2] = 1
    theirs["v"][1] = 2
    result = merge(base, mine, theirs, frozen)
    assert np.shares_memory(result.values["a"], result.values["v"])
    assert result.values["a"].tolist() == [0, 0, 1, 2, 0, 0]
    assert result.conflicts == []


def test_a_name_that_was_bound_to_another_view_writes_nothing() -> None:
    def names(start: int) -> dict[str, Any]:
        whole = np.arange(6)
        return {"a": whole, "v": whole[start : start + 2]}

    for here in (True, False):
        mine, theirs = names(1 if here else 2), names(2 if here else 1)
        (theirs if here else mine)["a"][0] = 9
        bound = (set(), {"v"}) if here else ({"v"}, set())
        frozen = names(1 if here else 2)
        frozen["a"][:] = mine["a"]
        result = merge(names(2), mine, theirs, frozen, bound=bound)
        assert result.conflicts == []
        assert result.values["a"].tolist() == [9, 1, 2, 3, 4, 5]
        assert result.values["v"].tolist() == [1, 2]
        assert np.shares_memory(result.values["a"], result.values["v"])


def test_views_of_merged_arrays() -> None:
    for make in (
        lambda a: a[1:3],
        lambda a: a[::-1],
        lambda a: a[::2],
        lambda a: a.reshape(2, 3)[:, 1],
        lambda a: a[5:6],
        lambda a: a.reshape(3, 2).T,
    ):
        base, mine, theirs = np.zeros(6), np.zeros(6), np.zeros(6)
        mine[[0, 2]], theirs[[4, 5]] = 1, 2
        frozen = {"a": mine.copy()}
        result = merge({"a": base}, {"a": mine}, {"a": theirs, "new": [make(theirs)]}, frozen)
        whole, view = result.values["a"], result.values["new"][0]
        assert whole.tolist() == [1, 0, 1, 0, 2, 2]
        assert view.tolist() == make(whole).tolist()
        assert np.shares_memory(whole, view)


def test_large_plain_lists_merge() -> None:
    base = [{"n": n} for n in range(5_000)]
    _, mine, theirs = edits(base, lambda rows: rows[7].update(n="mine"), lambda rows: rows[4_000].update(n="theirs"))
    theirs.append({"n": "new"})
    value, conflicts = merged(base, mine, theirs)
    assert conflicts == []
    assert (value[7], value[4_000], value[-1]) == ({"n": "mine"}, {"n": "theirs"}, {"n": "new"})
    assert value is mine


def test_what_is_nested_deep_is_merged() -> None:
    def deep(end: Any, *, top: int = 0) -> Any:
        value = end
        for _ in range(300):
            value = {"down": value, "n": 1}
        return {**value, "n": top}

    value, conflicts = merged(deep([1]), deep([1]), deep([2]))
    assert same(value, deep([2]))
    assert conflicts == []
    value, conflicts = merged(deep([1]), deep([1, 3]), deep([1, 2], top=5))
    assert same(value, deep([1, 2, 3], top=5))
    assert conflicts == []
    value, conflicts = merged(deep([1]), deep([3]), deep([2]))
    assert same(value, deep([3]))
    assert len(conflicts) == 1


def test_data_frames_merge_by_column_and_row() -> None:
    pd = pytest.importorskip("pandas")
    base = pd.DataFrame({"a": [1, 2], "s": ["x", "y"], "gone": [0, 0], "o": pd.Series([[1], None], dtype=object)})
    _, mine, theirs = edits(base, lambda _: None, lambda _: None)
    mine.loc[0, "a"] = 10
    mine.loc[0, "s"] = "mine"
    mine["m"] = [1.0, None]
    theirs.loc[1, "a"] = 20
    theirs.loc[1, "s"] = "theirs"
    theirs["t"] = [True, False]
    del theirs["gone"]
    value, conflicts = merged(base, mine, theirs)
    assert conflicts == []
    assert value is mine
    assert sorted(mine.columns) == ["a", "m", "o", "s", "t"]
    assert mine["a"].tolist() == [10, 20]
    assert mine["s"].tolist() == ["mine", "theirs"]
    assert mine["t"].tolist() == [True, False]
    assert mine["o"].tolist() == [[1], None]
    assert mine.dtypes["s"] == base.dtypes["s"]


def test_columns_of_data_frames_in_order_and_renamed() -> None:
    pd = pytest.importorskip("pandas")
    base = pd.DataFrame({"a": [1, 2], "b": [3, 4], "c": [5, 6]})
    _, mine, theirs = edits(base, lambda df: df.insert(0, "z", 0), lambda df: df.insert(3, "end", 9))
    value, conflicts = merged(base, mine, theirs)
    assert (list(value), conflicts) == (["z", "a", "b", "c", "end"], [])
    for renaming_first in (True, False):
        renamed, changed = base.rename(columns={"b": "B"}), base.copy()
        changed.loc[0, "b"] = 30
        mine, theirs = (renamed, changed) if renaming_first else (changed, renamed)
        value, conflicts = merged(base, mine, theirs)
        assert (value.to_dict("list"), conflicts) == ({"a": [1, 2], "B": [30, 4], "c": [5, 6]}, [])


def test_a_column_that_both_renamed_is_one_column() -> None:
    pd = pytest.importorskip("pandas")
    base = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    value, conflicts = merged(base, base.rename(columns={"a": "A"}), base.rename(columns={"b": "B"}))
    assert (value.to_dict("list"), conflicts) == ({"A": [1, 2], "B": [3, 4]}, [])
    value, conflicts = merged(base, base.rename(columns={"a": "A"}), base.rename(columns={"a": "A", "b": "B"}))
    assert (value.to_dict("list"), conflicts) == ({"A": [1, 2], "B": [3, 4]}, [])
    value, conflicts = merged(base, base.rename(columns={"a": "mine"}), base.rename(columns={"a": "theirs"}))
    assert (value.to_dict("list"), conflicts) == ({"mine": [1, 2], "b": [3, 4]}, ["x"])


@pytest.mark.parametrize("left", [True, False])
def test_a_full_deque_lets_go_at_the_other_end(left: bool) -> None:
    def put(item: int) -> Callable[[Any], None]:
        return lambda queue: (queue.appendleft if left else queue.append)(item)

    base, mine, theirs = edits(collections.deque([1, 2, 3], maxlen=3), put(10), put(20))
    value, conflicts = merged(base, mine, theirs)
    assert (list(value), conflicts) == ([20, 10, 1] if left else [3, 20, 10], [])


def test_keys_are_in_the_order_that_both_sides_gave_them() -> None:
    base = {"a": 1, "b": 2, "c": 3}
    value, _ = merged(base, {"a": 1, "c": 3, "mine": 0}, {"new": 0, **base, "theirs": 0})
    assert list(value) == ["new", "a", "c", "theirs", "mine"]
    value, _ = merged(base, {"b": 2, "c": 3, "a": 1}, {**base, "theirs": 0})
    assert list(value) == ["b", "c", "a", "theirs"]


def test_data_frames_with_other_rows() -> None:
    pd = pytest.importorskip("pandas")
    base = pd.DataFrame({"a": [1, 2]})
    longer = pd.DataFrame({"a": [1, 2, 3]})
    value, conflicts = merged(base, mine := base.copy(), longer)
    assert value is mine
    assert (mine["a"].tolist(), conflicts) == ([1, 2, 3], [])
    mine = base.copy()
    mine.loc[0, "a"] = 5
    value, conflicts = merged(base, mine, longer)
    assert (mine["a"].tolist(), conflicts) == ([5, 2], ["x"])
    mine, theirs = base.copy(), base.copy()
    mine.loc[0, "a"], theirs.loc[0, "a"] = 5, 6
    assert merged(base, mine, theirs)[1] == ["x['a']"]


def test_series_merge_by_row() -> None:
    pd = pytest.importorskip("pandas")
    base = pd.Series([1.0, 2.0, None], name="s")
    mine, theirs = base.copy(), base.copy()
    mine[0], theirs[1] = 5, 6
    value, conflicts = merged(base, mine, theirs)
    assert value is mine
    assert conflicts == []
    assert mine.fillna(0).tolist() == [5, 6, 0]


# --- properties ---------------------------------------------------------------------------------------------------


def build(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.choice(("dict", "list", "set", "thing", "array", "atom")) if depth < 3 else "atom"
    count = rng.randrange(1, 4)
    if kind == "dict":
        return {rng.choice("abcdefg"): build(rng, depth + 1) for _ in range(count)}
    if kind == "list":
        return [build(rng, depth + 1) for _ in range(count)]
    if kind == "set":
        return {rng.randrange(10) for _ in range(count)}
    if kind == "thing":
        return Thing(**{rng.choice("abc"): build(rng, depth + 1) for _ in range(count)})
    if kind == "array":
        return np.array([rng.random() for _ in range(count)])
    return rng.choice([1, 2.5, "text", None, True])


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all containers."""
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value))
    elif isinstance(value, Thing):
        inner = list(vars(value).items())
    else:
        return [path] if isinstance(value, (set, np.ndarray)) else []
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


def at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = vars(value)[key] if isinstance(value, Thing) else value[key]
    return value


def edit(value: Any, path: tuple[Any, ...], tag: str) -> None:
    """Change the container at `path`, not what is in it."""
    place = at(value, path)
    if isinstance(place, dict):
        place[tag] = [tag]
    elif isinstance(place, list):
        place.append(tag)
    elif isinstance(place, set):
        place.add(tag)
    elif isinstance(place, Thing):
        setattr(place, tag, {tag})
    else:
        place[-1 if tag == "mine" else 0] += 1


@settings(max_examples=300)
@given(st.randoms(use_true_random=False))
def test_merging_disjoint_changes_is_making_both_in_turn(rng: random.Random) -> None:
    base = {"x": build(rng), "y": build(rng)}
    paths = places(base)
    count = min(len(paths), 6)
    chosen = rng.sample(paths, count)
    arrays = {path for path in chosen if isinstance(at(base, path), np.ndarray)}
    edits_of_mine, edits_of_theirs = chosen[: count // 2], chosen[count // 2 :]
    # Both may add to the same container, but not change the same element of an array.
    edits_of_theirs += [path for path in edits_of_mine if path not in arrays and rng.random() < 0.5]
    mine, theirs, wanted = loaded(base), loaded(base), loaded(base)
    for path in edits_of_theirs:
        edit(theirs, path, "theirs")
        edit(wanted, path, "theirs")
    for path in edits_of_mine:
        edit(mine, path, "mine")
        edit(wanted, path, "mine")
    before = {path: id(at(mine, path)) for path in places(mine) if path}
    result = merged_names(base, mine, theirs)
    assert result.conflicts == []
    assert same(result.values, wanted)
    assert {path: id(at(result.values, path)) for path in before if "mine" not in path} == {
        path: key for path, key in before.items() if "mine" not in path
    }


@settings(max_examples=200)
@given(st.randoms(use_true_random=False))
def test_if_only_one_side_changed_its_value_is_taken(rng: random.Random) -> None:
    base, other = {"x": build(rng), "y": build(rng)}, {"x": build(rng), "z": build(rng)}
    for mine, theirs in ((other, base), (base, other)):
        result = merged_names(base, loaded(mine), theirs)
        assert result.conflicts == []
        assert same({name: value for name, value in result.values.items() if value is not DELETED}, other)
        assert result.values["y"] is DELETED
