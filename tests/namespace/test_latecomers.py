"""What threads change in a container while its new content is made and written is neither lost nor undone."""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any

import pytest

from mpkernel.namespace import latecomers
from mpkernel.namespace.anatomy import Kinds
from mpkernel.namespace.graft import Torn
from mpkernel.namespace.merge import merge


class Thing:
    def __init__(self, **names: Any) -> None:
        self.__dict__.update(names)


SAME = object()
NAN = float("nan")


@pytest.mark.parametrize(
    ("was", "now", "fresh", "result"),
    [
        ([1, 2], [1, 2], [1, 2, "B"], [1, 2, "B"]),
        ([1, 2], [1, 2, 3], [1, 2, "B"], [1, 2, 3, "B"]),
        ([1, 2], [2], [1, 2, "B"], [2, "B"]),
        ([1, 2], [1, 7], ["B", 2], ["B", 7]),
        ([1, 2], [1, 7, 8], ["B", 2, "C"], ["B", 7, 8, "C"]),
        ([1, 2], [1, 7], [1, "B"], [1, "B"]),  # not both can be had
        ([SAME], [SAME, 1], [SAME, "B"], [SAME, 1, "B"]),
        (deque([1, 2]), deque([2, 3]), deque([1, 2, "B"]), deque([2, 3, "B"])),
        ({"a": 1}, {"a": 1, "t": 2}, {"a": 1, "B": 3}, {"a": 1, "t": 2, "B": 3}),
        ({"a": 1, "b": 2}, {"b": 5}, {"a": 1, "b": 2, "B": 3}, {"b": 5, "B": 3}),
        ({"a": 1}, {"a": 2}, {"a": 1}, {"a": 2}),
        (Counter("a"), Counter("ab"), Counter("ac"), Counter("abc")),
        ({1, 2}, {2, 3}, {1, 2, "B"}, {2, 3, "B"}),
        (Thing(n=1), Thing(n=2, m=3), Thing(n=1, b="B"), Thing(n=2, m=3, b="B")),
    ],
)
def test_a_late_change_is_there_with_the_new_content(was: Any, now: Any, fresh: Any, result: Any) -> None:
    part = Kinds().of(type(now)).parts[-1 if type(now) is Thing else 0]
    replaced = latecomers.write(part, now, part.read(was), part.read(fresh))
    assert now == result or vars(now) == vars(result)
    assert type(replaced) is type(part.read(was))


def test_a_kind_that_can_not_be_exchanged_gets_the_new_content() -> None:
    ordered = OrderedDict(a=1)
    part = Kinds().of(OrderedDict).parts[0]
    assert latecomers.write(part, ordered, {"a": 1}, {"b": 2}) == {"a": 1}
    assert ordered == {"b": 2}


@pytest.mark.usefixtures("many_switches")
@pytest.mark.parametrize("kind", [list, deque, dict, set])
def test_no_change_by_a_thread_is_lost(kind: type[Any]) -> None:
    """It adds numbers all the time; meanwhile others are added by reading, making new content and writing that."""
    target = kind()
    part = Kinds().of(kind).parts[0]
    thread = threading.Thread(target=lambda: [_add(target, number) for number in range(30_000)])
    thread.start()
    rounds = 0
    while thread.is_alive():
        was = part.read(target)
        fresh = part.read(_add(kind(was), f"B{rounds}"))
        latecomers.write(part, target, was, fresh)
        rounds += 1
    assert sorted(map(str, target)) == sorted([*map(str, range(30_000)), *(f"B{n}" for n in range(rounds))])


def _add(target: Any, value: object) -> Any:
    if isinstance(target, dict):
        target[value] = 1
    else:
        getattr(target, "add" if isinstance(target, set) else "append")(value)
    return target


@pytest.mark.parametrize(
    ("live", "copy"),
    [
        ([1, 2], [1]),
        ([1, 2], [1, 3]),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 2}),
        ({"a": 1.5, "b": []}, {"a": 2.5, "b": []}),
        ({(1,): 1}, {(1,): 2}),
        ({1}, {1, 2}),
        ([[1]], [[1, 2]]),
        (deque([1]), deque()),
        (Thing(n=1), Thing(n=2)),
    ],
)
def test_a_copy_that_is_out_of_date_is_not_merged(live: Any, copy: Any) -> None:
    with pytest.raises(Torn):
        merge({"x": live}, {"x": live}, {"x": copy}, {"x": copy}, check=True)


@pytest.mark.parametrize(
    "make", [lambda: [float("nan")], lambda: {float("nan"): 1}, lambda: {1, 2}, lambda: [Thing()], lambda: Thing(n=NAN)]
)
def test_a_copy_that_only_looks_different_is_merged(make: Callable[[], Any]) -> None:
    live, copy = make(), make()
    assert merge({"x": live}, {"x": live}, {"x": copy}, {"x": copy}, check=True).values["x"] is live
