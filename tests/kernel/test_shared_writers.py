"""Two cells that run at the same time: their changes are merged, and of the same thing the later one counts."""

from __future__ import annotations

import os
import random

import pytest

from .shared_model import play_at_random
from .stories import Stories, needs_numpy, needs_pandas

THREADS = "one object, no conflict"
ROUNDS = int(os.environ.get("MPKERNEL_TEST_ROUNDS", "40"))

# What is there, what the cells of A and B do while both are open (A ends first), and what is true then everywhere.
BOTH = {
    "different names": ("x = y = 0", "x = 1", "y = 2", "(x, y) == (1, 2)"),
    "a new name each": ("pass", "x = 1", "y = 2", "(x, y) == (1, 2)"),
    "keys of a dict": ("d = {'k': 0}", "d['a'] = 1", "d['b'] = 2", "d == {'k': 0, 'a': 1, 'b': 2}"),
    "a key deleted, one added": ("d = {'k': 0, 'l': 1}", "del d['k']", "d['b'] = 2", "d == {'l': 1, 'b': 2}"),
    "nested dicts": (
        "d = {'x': {}, 'y': {}}",
        "d['x']['a'] = 1",
        "d['y']['a'] = 2",
        "d == {'x': {'a': 1}, 'y': {'a': 2}}",
    ),
    "one nested dict": (
        "d = {'x': {'k': 0}}",
        "d['x']['a'] = 1",
        "d['x']['b'] = 2",
        "d == {'x': {'k': 0, 'a': 1, 'b': 2}}",
    ),
    "appended items": ("xs = [0]", "xs.append(1)", "xs.append(2)", "sorted(xs) == [0, 1, 2] and xs[0] == 0"),
    "extended lists": ("xs = [0]", "xs += [1, 2]", "xs.extend([3, 4])", "sorted(xs) == [0, 1, 2, 3, 4]"),
    "items of a list": ("xs = [0] * 5", "xs[0] = 1", "xs[4] = 2", "xs == [1, 0, 0, 0, 2]"),
    "one appends, one changes": ("xs = [0, 0]", "xs.append(1)", "xs[0] = 2", "xs == [2, 0, 1]"),
    "elements of a set": ("s = {1, 2}", "s.add(3)", "s.remove(1)", "s == {2, 3}"),
    "attributes": ("class K: pass\nk = K()", "k.a = 1", "k.b = 2", "vars(k) == {'a': 1, 'b': 2}"),
    "a list in a class": (
        "class K: xs = [0]\nk = K()",
        "K.xs.append(1)",
        "k.xs.append(2)",
        "sorted(k.xs) == [0, 1, 2] and K.xs is k.xs",
    ),
    "a class that lists its instances": (
        "class K:\n    all = []\n    def __init__(self): K.all.append(self)\nk = K()",
        "a = K(); k.a = 1",
        "b = K(); k.b = 2",
        "K.all[0] is k and {*K.all} == {k, a, b} and vars(k) == {'a': 1, 'b': 2}",
    ),
    "a default argument": ("def f(d={}): return d", "f()['a'] = 1", "f()['b'] = 2", "f() == {'a': 1, 'b': 2}"),
    "attributes of a function": (
        "def f(): pass\nf.seen = {}; seen = f.seen",
        "f.seen['a'] = 1",
        "seen['b'] = 2",
        "f.seen == {'a': 1, 'b': 2} and seen is f.seen",
    ),
    "in a closure": (
        "def make():\n    xs = []\n    return (lambda x: xs.append(x)), (lambda: xs)\nput, get = make()",
        "put(1)",
        "put(2)",
        "sorted(get()) == [1, 2]",
    ),
    "attributes of a class": ("class K: pass", "K.a = 1", "K.b = 2", "K.a == 1 and K.b == 2"),
    "methods of a class": (
        "class K:\n    a = b = 0\n    def f(self): return 0\nk = K()",
        "K.f = lambda self: 1; del K.a",
        "K.g = lambda self: 2; K.b = 3",
        "k.f() == 1 and k.g() == 2 and not hasattr(K, 'a') and K.b == 3",
    ),
    "attributes and defaults of a function": (
        "def f(n=1): return n\nf.calls = 0",
        "f.calls += 5; f.__defaults__ = 7,",
        "f.note = 2",
        "(f(), f.calls, f.note) == (7, 5, 2)",
    ),
    "cases of singledispatch": (
        "import functools\n@functools.singledispatch\ndef f(x): return 'other'",
        "f.register(int, lambda x: 'int')",
        "f.register(str, lambda x: 'str')",
        "(f(1), f(''), f(None)) == ('int', 'str', 'other')",
    ),
    "sorted here, an element changed there": (
        "xs = [{'n': n} for n in (3, 1, 2)]",
        "xs.sort(key=lambda x: x['n'])",
        "xs[0]['new'] = 1",
        "xs == [{'n': 1}, {'n': 2}, {'n': 3, 'new': 1}]",
    ),
    "an element changed here, all counted on there": (
        "xs = [{'n': n} for n in range(3)]",
        "xs[1]['new'] = 5",
        "for x in xs: x['n'] += 1",
        "xs == [{'n': 1}, {'n': 2, 'new': 5}, {'n': 3}]",
    ),
    "some elements taken out, another changed": (
        "xs = [[n] for n in range(6)]",
        "xs[3].append(9)",
        "xs[:] = [x for x in xs if x[0] % 2]",
        "xs == [[1], [3, 9], [5]]",
    ),
    "instances in a set": (
        "class K:\n    def __init__(self, n): self.n = n\n"
        "s = {K(0), K(1), K(2)}\ndef k(n): return next(k for k in s if k.n == n)",
        "k(0).m = 1; s.remove(k(2))",
        "k(1).m = 2; s.add(K(2)); s.add(K(3))",
        "sorted(tuple(vars(k).values()) for k in s) == [(0, 1), (1, 2), (2,), (3,)]",
    ),
    "deque, both ends": (
        "from collections import deque; q = deque([0])",
        "q.append(1)",
        "q.appendleft(2)",
        "list(q) == [2, 0, 1]",
    ),
    "defaultdict": (
        "from collections import defaultdict; d = defaultdict(list)",
        "d['a'].append(1)",
        "d['b'].append(2)",
        "d == {'a': [1], 'b': [2]}",
    ),
    "bytes": ("b = bytearray(5)", "b[0] = 1", "b[4] = 2", "b == b'\\1\\0\\0\\0\\2'"),
    "list in a list": ("xs = [[], []]", "xs[0].append(1)", "xs[1].append(2)", "xs == [[1], [2]]"),
    "through aliases": ("d = {}; e = d", "d['a'] = 1", "e['b'] = 2", "d == {'a': 1, 'b': 2} and d is e"),
    "content and a new alias": ("x = [0]", "x.append(1)", "y = x", "y == [0, 1] and y is x"),
    "two aliases of one": ("x = [0]", "y = x", "z = x", "y is x and z is x"),
    "both append elements that they share": (
        "x, one = [], [0]",
        "x.append(one)",
        "one.append(1)",
        "x == [[0, 1]] and x[0] is one",
    ),
    "rebound here, something else in place there": ("x, d = 0, {}", "x = 1", "d['x'] = x + 1", "x == 1 and 'x' in d"),
    "functions": ("pass", "def f(): return 1", "def g(): return f() + 1", "f() == 1 and g() == 2"),
    "deleted here, other there": ("x, y = 1, [1]", "del x", "y.append(2)", "'x' not in globals() and y == [1, 2]"),
    "the same thing twice": ("d = {}", "d['a'] = 1", "d['a'] = 1", "d == {'a': 1}"),
    "dict of instances": (
        "class K: pass\nd = {'a': K(), 'b': K()}",
        "d['a'].n = 1",
        "d['b'].n = 2",
        "d['a'].n == 1 and d['b'].n == 2",
    ),
}
# One binds a name to another object, while the other changes the object that it had, or binds it as well.
_ROWS = "rows = [{'id': i} for i in range(4)]"
_FIRST, _LAST = (f"for row in rows[{part}]: row['score'] = row['id'] * 10" for part in (":2", "2:"))
_ALL = "[r.get('score') for r in rows] == [0, 10, 20, 30] and any(r is row for r in rows)"
BOUND = {
    "loops": (_ROWS, _FIRST, _LAST, _ALL),
    "loops, the name was there": (f"{_ROWS}\nfor row in rows: row['ok'] = True", _FIRST, _LAST, _ALL),
    "loops with other names": (
        _ROWS,
        _FIRST,
        _LAST.replace("row ", "other ").replace("row[", "other["),
        f"{_ALL} and other is rows[3] and row is rows[1]",
    ),
    "loops over instances": (
        "class K: pass\nrows = [K() for i in range(4)]",
        "for i, r in enumerate(rows[:2]): r.n = i",
        "for i, r in enumerate(rows[2:]): r.n = i + 2",
        "[r.n for r in rows] == [0, 1, 2, 3] and r in rows",
    ),
    "loops over all": (
        _ROWS,
        "for row in rows: row['a'] = 1",
        "for row in rows: row['b'] = 2",
        "rows == [{'id': i, 'a': 1, 'b': 2} for i in range(4)] and row is rows[3]",
    ),
    "nested": (
        "t = {'a': {'x': []}, 'b': {'x': []}}",
        "for v in t.values(): v['x'].append(1)",
        "for w in t.values(): w['y'] = 2",
        "t == {k: {'x': [1], 'y': 2} for k in 'ab'} and v is w is t['b']",
    ),
    "another item": (
        f"{_ROWS}; row = rows[0]",
        "row = rows[1]",
        "rows[0]['n'] = 7",
        "rows[:2] == [{'id': 0, 'n': 7}, {'id': 1}] and row is rows[1]",
    ),
    "another item, and the old one through the name": (
        f"{_ROWS}; row = rows[0]",
        "row['n'] = 7",
        "row = rows[1]",
        "rows[:2] == [{'id': 0, 'n': 7}, {'id': 1}] and row is rows[1]",
    ),
    "an item of a long list": (
        "rows = [{'id': i} for i in range(4000)]",
        "row = rows[1000]",
        "rows[2000]['n'] = 1; rows[1000]['m'] = 2",
        "row is rows[1000] and row == {'id': 1000, 'm': 2} and rows[2000]['n'] == 1",
    ),
    "some of the items": (
        _ROWS,
        "some = [r for r in rows if r['id'] > 1]; some[0]['a'] = 1",
        "others = [r for r in rows if r['id'] < 3]; others[2]['b'] = 2",
        "some[0] is others[2] is rows[2] and rows[2] == {'id': 2, 'a': 1, 'b': 2}",
    ),
    "one of two names": ("a = [1]; b = a", "a = [9]", "b.append(2)", "a == [9] and b == [1, 2]"),
    "one of two names, later": ("a = [1]; b = a", "b.append(2)", "a = [9]", "a == [9] and b == [1, 2]"),
    "one of two names, to a third": (
        "a = [1]; b = a; c = [5]",
        "b.append(2)",
        "a = c; c.append(6)",
        "a is c and a == [5, 6] and b == [1, 2]",
    ),
    "in a list with the old one": (
        "a = [1]; box = [a]",
        "a = [9]; box.append(a)",
        "box[0].append(2)",
        "box == [[1, 2], [9]] and a is box[1]",
    ),
    "made of what was": ("d = {'k': 0}", "d = {**d, 'a': 1}", "d['b'] = 2", "d == {'k': 0, 'a': 1, 'b': 2}"),
    "made of what was, later": ("d = {'k': 0}", "d['b'] = 2", "d = {**d, 'a': 1}", "d == {'k': 0, 'a': 1, 'b': 2}"),
    "made of what was, which has another name": (
        "xs = [0]; old = xs",
        "xs = [*xs, 1]",
        "xs.append(2)",
        "sorted(xs) == [0, 1, 2] and old == [0, 2]",
    ),
}
ARRAYS = {
    "elements": ("a = np.zeros(10)", "a[0] = 1", "a[9] = 2", "a[0] == 1 and a[9] == 2 and a.sum() == 3"),
    "rows of a large one": (
        "a = np.zeros((1000, 200))",
        "a[:500] = 1",
        "a[500:] = 2",
        "a[:500].sum() + a[500:].sum() == 300_000",
    ),
    "every other element": (
        "a = np.zeros(20_000, 'u1')",
        "a[::2] = 1",
        "a[1::2] = 2",
        "a[::2].tolist() == [1] * 10_000 and a.sum() == 30_000",
    ),
    "a view that is new": (
        "a = np.zeros(6)",
        "v = a[2:4]; w = a[::-1]",
        "a[2] = 1; x = a[1:3]",
        "v[0] == w[3] == x[1] == 1 and all(np.shares_memory(a, each) for each in (v, w, x))",
    ),
    "bound to another": (
        "a = np.zeros(3); b = a",
        "a = a + 1",
        "b[0] = 5",
        "a.tolist() == [1, 1, 1] and b.tolist() == [5, 0, 0]",
    ),
    "a view and its array": (
        "a = np.zeros(10); v = a[5:]",
        "a[0] = 1",
        "v[0] = 2",
        "a[0] == 1 and a[5] == 2 and np.shares_memory(a, v)",
    ),
}
FRAMES = {
    "columns": (
        "f = pd.DataFrame({'k': [0, 0]})",
        "f['a'] = [1, 1]",
        "f['b'] = [2, 2]",
        "sorted(f.columns) == ['a', 'b', 'k'] and int(f.sum().sum()) == 6",
    ),
    "values of columns": (
        "f = pd.DataFrame({'a': [0, 0], 'b': [0, 0]})",
        "f.loc[0, 'a'] = 1",
        "f.loc[1, 'b'] = 2",
        "f.to_dict('list') == {'a': [1, 0], 'b': [0, 2]}",
    ),
    "rows of one column": (
        "f = pd.DataFrame({'a': [0, 0]})",
        "f.loc[0, 'a'] = 1",
        "f.loc[1, 'a'] = 2",
        "f['a'].tolist() == [1, 2]",
    ),
    "a column deleted": (
        "f = pd.DataFrame({'a': [0], 'b': [0]})",
        "del f['a']",
        "f['c'] = 1",
        "list(f.columns) == ['b', 'c']",
    ),
    "series": ("f = pd.Series([0, 0, 0])", "f[0] = 1", "f[2] = 3", "f.tolist() == [1, 0, 3]"),
}


def merged(story: Stories, before: str, in_a: str, in_b: str, check: str, prepare: str = "pass") -> None:
    story.run("B", prepare)
    story.run("A", f"{prepare}\n{before}")
    story.run("B", "pass")
    first, second = story.at_once(A=in_a, B=in_b)
    assert (first.stderr, second.stderr) == ("", ""), "a warning, although both changes can be had"
    for letter in "ABM":
        story.check(letter, check)


@pytest.mark.parametrize(("before", "in_a", "in_b", "check"), BOUND.values(), ids=BOUND)
def test_a_name_is_bound_to_another_object(story: Stories, before: str, in_a: str, in_b: str, check: str) -> None:
    merged(story, before, in_a, in_b, check)


@pytest.mark.parametrize(("before", "in_a", "in_b", "check"), BOTH.values(), ids=BOTH)
def test_both_changes_are_there(story: Stories, before: str, in_a: str, in_b: str, check: str) -> None:
    merged(story, before, in_a, in_b, check)


@needs_numpy
@pytest.mark.parametrize(("before", "in_a", "in_b", "check"), ARRAYS.values(), ids=ARRAYS)
def test_both_changes_of_an_array_are_there(story: Stories, before: str, in_a: str, in_b: str, check: str) -> None:
    merged(story, before, in_a, in_b, check, "import numpy as np")


@needs_pandas
@pytest.mark.parametrize("last", [True, False], ids=["here", "there"])
def test_a_table_of_some_of_the_rows_is_not_changed_with_the_whole_one(story: Stories, last: bool) -> None:
    """A line says so, as it may not be what was meant."""
    story.run("B", "pass")
    story.run("A", "import pandas as pd; f = pd.DataFrame({'x': range(4), 'y': 0}); all_of_it = f")
    story.run("B", "pass")
    cells = ["f.loc[2, 'y'] = 5", "f = f[f.x > 1]"]
    first, second = story.at_once(A=cells[not last], B=cells[last])
    assert first.stderr == ""
    counts = "this cell's" if last else "that"
    assert f"f was changed in another subshell at the same time; {counts} value counts" in second.stderr
    for letter in "ABM":
        story.check(letter, "f.y.tolist() == [0, 0] and all_of_it.y.tolist() == [0, 0, 5, 0]")


@needs_pandas
@pytest.mark.parametrize(("before", "in_a", "in_b", "check"), FRAMES.values(), ids=FRAMES)
def test_both_changes_of_a_frame_are_there(story: Stories, before: str, in_a: str, in_b: str, check: str) -> None:
    merged(story, before, in_a, in_b, check, "import pandas as pd")


def test_four_subshells_append_at_once(story: Stories) -> None:
    story("M: xs, d = [], {}\nA: pass\nB: pass\nC: pass")
    story.at_once(**{letter: f"xs.append({letter!r}); d[{letter!r}] = [{letter!r}]" for letter in "MABC"})
    for letter in "MABC":
        story.check(letter, "sorted(xs) == sorted('MABC') and d == {k: [k] for k in 'MABC'}")


def test_many_short_cells_in_two_subshells_lose_nothing(story: Stories) -> None:
    """Nobody waits for anybody: the cells meet as they come, and overtake each other time and again."""
    for _ in range(8):
        story("A: xs, d = [], {}\nB: pass")
        pendings = [
            story.kernel.submit(f"xs.append({letter!r} + '{n}'); d[{letter!r} + '{n}'] = {n}", story.subshell(letter))
            for n in range(15)
            for letter in "AB"
        ]
        assert [pending.wait().status for pending in pendings] == ["ok"] * 30
        for letter in "AB":
            story.check(letter, "len(xs) == len(d) == 30 and set(xs) == set(d)")
            story.check(letter, "[x for x in xs if x[0] == 'A'] == [f'A{n}' for n in range(15)]")


def test_a_loop_here_while_cells_come_and_go_there(story: Stories) -> None:
    """A long cell of A fills one end while short cells of B fill the other."""
    story("A: d = {}\nB: pass")
    long = story.open_cell("A", "d['a1'] = 1", "d['a2'] = 2")
    for n in range(5):
        story.run("B", f"d['b{n}'] = {n}")
    assert long.finish().status == "ok"
    for letter in "AB":
        story.check(letter, "sorted(d) == ['a1', 'a2', 'b0', 'b1', 'b2', 'b3', 'b4']")


@pytest.mark.parametrize(
    ("before", "in_a", "in_b", "value", "lost"),
    [
        ("x = 0", "x = 1", "x = 2", "x == 2", "1"),
        ("x = {'k': 0}", "x['k'] = 1", "x['k'] = 2", "x == {'k': 2}", "{'k': 1}"),
        ("x = [0, 0]", "x[1] = 1", "x[1] = 2", "x == [0, 2]", "[0, 1]"),
        ("class K: pass\nx = K(); x.n = 0", "x.n = 1", "x.n = 2", "x.n == 2", None),
        ("x = 'text'", "x = [1]", "x = {2}", "x == {2}", "[1]"),
    ],
)
@pytest.mark.mpkernel_only(THREADS)
def test_the_later_cell_counts_and_says_so(
    story: Stories, before: str, in_a: str, in_b: str, value: str, lost: str | None
) -> None:
    story.run("A", f"import mpkernel\n{before}")
    story.run("B", "pass")
    first, second = story.at_once(A=in_a, B=in_b)
    assert first.stderr == ""
    assert second.stderr.count("\n") == 1, f"one line of warning expected: {second.stderr!r}"
    assert "x" in second.stderr
    assert "theirs" in second.stderr
    for letter in "AB":
        story.check(letter, value)
    if lost is not None:
        story.check("B", f"mpkernel.theirs('x') == {lost}")
        assert story.run("B", "%theirs x").text == lost
    else:
        story.check("B", "mpkernel.theirs('x').n == 1")


@pytest.mark.mpkernel_only(THREADS)
def test_where_much_was_overruled_the_other_values_of_all_names_are_there(story: Stories) -> None:
    story("A: import mpkernel; d = dict.fromkeys(range(30), 0); y = [0]; z = 0\nB: pass")
    _, second = story.at_once(
        A="d.update(dict.fromkeys(d, 1)); y[0] = z = 1", B="d.update(dict.fromkeys(d, 2)); y[0] = z = 2"
    )
    assert "d, y, z was changed" in second.stderr
    story.check("B", "(d[29], y, z) == (2, [2], 2)")
    story.check("B", "[mpkernel.theirs(name) for name in 'yz'] == [[1], 1] and mpkernel.theirs('d')[29] == 1")


@pytest.mark.mpkernel_only(THREADS)
def test_the_same_attribute_of_a_class_is_the_later_cells(story: Stories) -> None:
    story("A: class K: n = m = 0\nB: pass")
    first, second = story.at_once(A="K.n += 1; K.m = 5", B="K.n += 2")
    assert first.stderr == ""
    assert second.stderr.count("\n") == 1
    assert "K.n was changed in another subshell" in second.stderr
    for letter in "AB":
        story.check(letter, "(K.n, K.m) == (2, 5)")


def test_what_one_of_two_keeps_to_itself_is_merged_too(story: Stories) -> None:
    """It takes too long to pickle to be shared unasked."""
    story("A: class Point: pass\nA: d = {}\nB: d")
    first, second = story.at_once(A="d = {**d, 'a': [Point() for _ in range(100_000)]}", B="d['b'] = 1")
    assert (first.stderr, second.stderr) == ("", "")
    story("A? sorted(d) == ['a', 'b']\nB? sorted(d) == ['a', 'b']")


@pytest.mark.mpkernel_only("threads need not merge")
@pytest.mark.parametrize("left", ["asyncio.ensure_future(task())", "loop.call_soon(hog)"])
def test_an_interrupt_reaches_what_keeps_a_cell_from_merging(story: Stories, left: str) -> None:
    story("""
        A: import asyncio; d = {}; loop = asyncio.get_running_loop()
           def hog():
               print("hogs", flush=True)
               while True: pass
           async def task(): hog()
        B: d
    """)
    gate = story.gate()
    cell = story.kernel.start(
        f"print('ready', flush=True)\n{gate.pass_through}\nd['a'] = 1; left = {left}", story.subshell("A")
    )
    story.run("B", "d['b'] = 1")
    gate.release()
    cell.wait_for_stream("hogs")
    assert cell.reply is None
    while cell.reply is None:  # the first one may come before the process knows that there is something to merge
        story.kernel.interrupt(story.subshell("A"))
    result = cell.wait()
    assert (result.status, "an interrupt has ended a task" in result.stderr) == ("ok", True)
    story("A? sorted(d) == ['a', 'b']\nB? sorted(d) == ['a', 'b']")


@pytest.mark.mpkernel_only(THREADS)
def test_theirs_of_a_variable_that_shares_objects_with_others(story: Stories) -> None:
    story("A: import mpkernel; x = [0]; y = {'x': x}\nB: pass")
    story.at_once(A="x[0] = 1", B="x[0] = 2")
    story("B? mpkernel.theirs('x') == [1] and x == [2] and y['x'] is x")


@pytest.mark.mpkernel_only(THREADS)
def test_theirs_of_a_variable_without_a_conflict_is_an_error(story: Stories) -> None:
    story("""
        A: import mpkernel; calm = 1
        A! MPKernelError: mpkernel.theirs("calm")
        A! MPKernelError: mpkernel.theirs("there is none")
    """)


def test_a_name_is_deleted_and_later_bound(story: Stories) -> None:
    story("A: x = [1]\nB: pass")
    story.at_once(A="del x", B="x = [5]")
    story("A? x == [5]\nB? x == [5]")


def test_an_object_is_changed_and_later_its_name_deleted(story: Stories) -> None:
    story("A: x = [1]; y = [x]\nB: pass")
    story.at_once(A="x.append(2)", B="del x")
    story("A! NameError: x\nB! NameError: x\nA? y == [[1, 2]]\nB? y == [[1, 2]]")


def test_a_counter_in_turns(story: Stories) -> None:
    story("A: n = 0; d = {'n': 0}")
    for number in range(20):
        story.run("AB"[number % 2], "n += 1; d['n'] += 1")
    story("A? n == d['n'] == 20\nB? n == d['n'] == 20")


@pytest.mark.parametrize("letter", ["M", "A"])
def test_a_thread_goes_on_changing_what_cells_elsewhere_change(story: Stories, letter: str) -> None:
    """Also while its subshell hears of those changes."""
    story(f"M: rows = []\nA: pass\nB: pass\n{letter}: import threading, itertools, time; stop = threading.Event()")
    story.run(
        letter,
        "def work():\n    for n in itertools.count():\n        rows.append(n)\n        if stop.wait(0.001): break\n"
        "    done.append(n)\ndone = []\nthread = threading.Thread(target=work, daemon=True); thread.start()",
    )
    for n in range(8):
        story.run("B", f"rows.append('B{n}')")
        story.check(letter, f"'B{n}' in rows")
    story.run(letter, "stop.set(); thread.join()")
    expected = "[f'B{n}' for n in range(8)]"
    for reader in (letter, "B"):
        story.check(reader, "[row for row in rows if isinstance(row, int)] == [*range(done[0] + 1)]")
        story.check(reader, f"[row for row in rows if isinstance(row, str)] == {expected}")


@pytest.mark.timeout(60 + ROUNDS)
def test_changes_at_random_against_a_model(story: Stories) -> None:
    """More of it by MPKERNEL_TEST_ROUNDS and MPKERNEL_TEST_SEED."""
    seed = int(os.environ.get("MPKERNEL_TEST_SEED", random.randrange(10**6)))
    print(f"seed {seed}")
    assert play_at_random(story, seed, seconds=max(6.0, ROUNDS / 2), rounds=ROUNDS) > 0
