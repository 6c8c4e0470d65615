"""What other subshells could not load stays what it is where it was made, whatever is done around it."""

from __future__ import annotations

import pytest

from mpkernel.namespace.store import NamespaceStore

from .bench import Notebook

CLASS = """
class Bad:
    def __init__(self, n=0): self.n = n
    def __setstate__(self, state): raise RuntimeError("no")
def numbers(of): return [getattr(item, 'n', item) for item in of]
"""
# What there is, what another subshell does to it, and what is true then where it was made.
CHANGED = {
    "with a name": ("bad = Bad(); box = [bad, 1]", "box.append(2)", "box[0] is bad and box[1:] == [1, 2]"),
    "two": (
        "box = [Bad(1), 1, Bad(2)]; first = [box[0]]",
        "box.pop(1)",
        "numbers(box) == [1, 2] and first[0] is box[0]",
    ),
    "in another order": (
        "xs = [Bad(1), Bad(2)]; d = {'x': xs[0], 'y': [xs[1]]}",
        "xs.reverse(); d['z'] = 5",
        "numbers(xs) == [2, 1] and d['x'] is xs[1] and d['y'][0] is xs[0]",
    ),
    "in each other's place": (
        "d = {'x': [Bad(1)], 'y': [Bad(2)]}",
        "d['x'], d['y'] = d['y'], d['x']",
        "numbers(d['x'] + d['y']) == [2, 1]",
    ),
    "in two values": (
        "d = {'x': Bad(1)}; t = Bad(3), []",
        "d['y'] = 3; t[1].append(1)",
        "(d['x'].n, d['y'], t[0].n, t[1]) == (1, 3, 3, [1])",
    ),
    "in a set": ("s = {Bad(1), Bad(2), 5}", "s.add(6)", "sorted(numbers(s)) == [1, 2, 5, 6]"),
    "taken out": ("d = {'x': Bad(1)}", "d['x'] = 7", "d == {'x': 7}"),
}
# The same, and what the two do at once.
AT_ONCE = {
    "beside it": ("box = [Bad(1), 1]", "box.append(5)", "box.append(6)", "sorted(numbers(box)) == [1, 1, 5, 6]"),
    "within it": ("box = [Bad(1), 1]", "box[0].n = 5", "box.append(6)", "numbers(box) == [5, 1, 6]"),
    "where it has a name": (
        "bad = Bad(4); d = {1: bad, 2: []}",
        "d[2].append(1)",
        "d[2].append(2)",
        "d[1] is bad and bad.n == 4 and sorted(d[2]) == [1, 2]",
    ),
    "it is new": ("box = [1]", "box.append(Bad(9))", "box.append(6)", "sorted(numbers(box)) == [1, 6, 9]"),
}


def notebooks(before: str) -> tuple[Notebook, Notebook]:
    store = NamespaceStore()
    here, there = Notebook(store, 1), Notebook(store, 2)
    here.run(CLASS + before)
    there.run("pass")
    return here, there


@pytest.mark.parametrize(("before", "change", "true"), CHANGED.values(), ids=CHANGED)
def test_what_is_around_it_is_changed_elsewhere(before: str, change: str, true: str) -> None:
    here, there = notebooks(before)
    there.run(change)
    here.run("pass")
    assert here.value(true)
    assert here.warnings + there.warnings == []


@pytest.mark.parametrize("later", ["here", "there"])
@pytest.mark.parametrize(("before", "in_here", "in_there", "true"), AT_ONCE.values(), ids=AT_ONCE)
def test_what_is_around_it_is_changed_by_two(before: str, in_here: str, in_there: str, true: str, later: str) -> None:
    here, there = notebooks(before)
    here.start(in_here)
    there.start(in_there)
    for notebook in (there, here) if later == "here" else (here, there):
        notebook.commit()
    here.run("pass")
    assert here.value(true)
    assert here.warnings + there.warnings == []


def test_what_a_function_should_make_is_not_taken_for_the_function() -> None:
    here, there = notebooks("""
class Worse:
    def __reduce__(self): return numbers, (None,)
d = {'worse': Worse(), 'numbers': numbers}
""")
    assert there.value("repr(d['worse'])").startswith("<Worse that could not be loaded here (TypeError")
    there.run("d['x'] = 1")
    here.run("pass")
    assert here.value("type(d['worse']) is Worse and d['numbers'] is numbers and d['x'] == 1")


def test_elsewhere_there_is_a_stand_in_for_each() -> None:
    _, there = notebooks("s = {Bad(1), Bad(2), 5}")
    assert there.value("len(s)") == 3
    assert there.value("[type(item).__name__ for item in s].count('Stub')") == 2
