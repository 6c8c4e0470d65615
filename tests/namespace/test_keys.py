"""Keys and elements that two cells at once changed, took out or put in."""

from __future__ import annotations

import pytest

from .bench import at_once, counted_calls

CLASSES = """
from dataclasses import dataclass, field
import math
class P: pass
class R:
    def __init__(self, n): self.n, self.next = n, []
class H:
    def __init__(self, v): self.v, self.uses = v, 0
    def __hash__(self): return hash(self.v)
    def __eq__(self, other): return self.v == other.v
@dataclass(frozen=True)
class K:
    n: int
    cache: dict = field(default_factory=dict, compare=False)
def f(n, of=None): return next(r for r in (s if of is None else of) if r.n == n)
def shown(rs): return sorted((r.n, getattr(r, 'x', 0), getattr(r, 'y', 0)) for r in rs)
def ring(count):
    rs = [R(n) for n in range(count)]
    for r in rs: r.next.append(rs[(r.n + 1) % count])
    return set(rs)
def first(d): return next(iter(d))
"""
# What is there, what both cells do, and what is true then everywhere.
KEPT = {
    "alike, and others put in": ("s = {P(), P(), P()}", "s.add(1)", "s.add(2)", "len(s) == 5"),
    "alike, put in by both": ("s = {P()}", "s.add(P())", "s.add(P())", "len(s) == 3"),
    "instances, put in by both": ("s = {R(1)}", "s.add(R(7))", "s.add(R(7))", "shown(s)[1:] == [(7, 0, 0)] * 2"),
    "put in by both, one taken out": (
        "s = {R(1), R(2)}; f(1).next = [1]; f(2).next = [2]",
        "s.add(R(7)); f(2).x = 3",
        "s.add(R(7)); s.remove(f(1)); f(2).y = 4",
        "shown(s) == [(2, 3, 4), (7, 0, 0), (7, 0, 0)]",
    ),
    "alike, one taken out": ("s = {P(), P(), P()}", "s.pop()", "s.add(2)", "len(s) == 3"),
    "alike, and their values": (
        "a, b = P(), P(); d = {a: 1, b: 2}",
        "d[a] = 5",
        "d[b] = 6",
        "d == {a: 5, b: 6}",
    ),
    "alike, without names": (
        "d = {P(): 1, P(): 2}",
        "d[first(d)] = 5",
        "d[[*d][1]] = 6",
        "[*d.values()] == [5, 6]",
    ),
    "alike, one taken out, the other's value": (
        "d = {P(): 1, P(): 2}",
        "del d[first(d)]",
        "d[[*d][1]] = 6",
        "[*d.values()] == [6]",
    ),
    "NaN": (
        "d = {math.nan: 1}; s = {math.nan}",
        "d['a'] = 1; s.add(1)",
        "d['b'] = 2; s.add(2)",
        "(len(d), len(s)) == (3, 3)",
    ),
    "one changed, one taken out": (
        "s = {R(3), R(5)}",
        "f(3).x = 1",
        "s.remove(f(3)); f(5).y = 2",
        "shown(s) == [(3, 1, 0), (5, 0, 2)]",
    ),
    "one taken out, one changed": (
        "s = {R(3), R(5)}",
        "s.remove(f(3)); f(5).y = 2",
        "f(3).x = 1",
        "shown(s) == [(3, 1, 0), (5, 0, 2)]",
    ),
    "each changed another": ("s = {R(3), R(5)}", "f(3).x = 1", "f(5).y = 2", "shown(s) == [(3, 1, 0), (5, 0, 2)]"),
    "both changed all": (
        "s = {P()}",
        "first(s).x = 1",
        "first(s).y = 2",
        "[vars(p) for p in s] == [{'x': 1, 'y': 2}]",
    ),
    "a key here, its value there": (
        "d = {R(1): [1], R(2): [2]}",
        "f(1, d).x = 10",
        "d[f(1, d)].append(11)",
        "shown(d) == [(1, 10, 0), (2, 0, 0)] and d[f(1, d)] == [1, 11]",
    ),
    "its value here, a key there": (
        "d = {R(1): [1], R(2): [2]}",
        "d[f(1, d)].append(11)",
        "f(1, d).x = 10",
        "shown(d) == [(1, 10, 0), (2, 0, 0)] and d[f(1, d)] == [1, 11]",
    ),
    "a ring, of which one is taken out": (
        "s = ring(5)",
        "s.discard(f(0))",
        "f(3).x = 2",
        "shown(s) == [(1, 0, 0), (2, 0, 0), (3, 2, 0), (4, 0, 0)] and f(4).next[0].next[0] is f(1)",
    ),
    "a ring, where each changed one": (
        "s = ring(4)",
        "f(0).x = 1",
        "f(3).y = 2",
        "shown(s) == [(0, 1, 0), (1, 0, 0), (2, 0, 0), (3, 0, 2)] and f(3).next[0] is f(0)",
    ),
    "what a key has in it": (
        "s = {R(0), R(1)}; f(0).next = [R(7)]; f(1).next = [R(7)]",
        "f(0).next[0].x = 1",
        "f(0).next[0].y = 2; f(1).x = 5",
        "shown(f(0).next) == [(7, 1, 2)] and shown(s) == [(0, 0, 0), (1, 5, 0)]",
    ),
    "what is in a list, too": (
        "rs = [R(n) for n in range(3)]; s = {*rs}; d = dict.fromkeys(rs, 0)",
        "rs[0].n = 10; rs[1].x = 1; d[rs[2]] = 5",
        "rs[0].x = 2; s.discard(rs[2]); d[rs[0]] = 7",
        "shown(rs) == [(1, 1, 0), (2, 0, 0), (10, 2, 0)] and s == {*rs[:2]} and [d[r] for r in rs] == [7, 0, 5]",
    ),
    "hashed by value, with more": (
        "d = {H(1): [1], H(2): [2]}",
        "k = first(d); k.uses += 1; d[k].append(10); del k",
        "d[H(1)].append(20)",
        "(len(d), sorted(d[H(1)]), first(d).uses) == (2, [1, 10, 20], 1)",
    ),
    "hashed by value, with more, here": (
        "d = {H(1): [1], H(2): [2]}",
        "d[H(1)].append(20)",
        "k = first(d); k.uses += 1; d[k].append(10); del k",
        "(len(d), sorted(d[H(1)]), first(d).uses) == (2, [1, 10, 20], 1)",
    ),
    "a frozen dataclass with a cache": (
        "d = {K(1): [1], (K(2), 0): [2]}; s = {K(1)}",
        "k = first(d); k.cache['a'] = 1; d[k].append(10); first(s).cache['a'] = 1; [*d][1][0].cache['a'] = 1; del k",
        "k = first(d); k.cache['b'] = 2; d[k].append(20); first(s).cache['b'] = 2; [*d][1][0].cache['b'] = 2; del k",
        "(len(d), sorted(d[K(1)]), len(s)) == (2, [1, 10, 20], 1) and"
        " first(d).cache == first(s).cache == [*d][1][0].cache == {'a': 1, 'b': 2}",
    ),
}
# The same, where one overrules the other, or may have, and a line says so.
TOLD = {
    "one of several that are alike": (
        "s = {P(), P()}",
        "first(s).x = 1",
        "first(s).y = 2",
        "len(s) == 2",
    ),
    "changed there, and perhaps here": (
        "s = {R(3)}",
        "f(3).x = 1",
        "r = s.pop(); r.n = 5; r.next = None; s.add(r); del r",
        "shown(s) == [(5, 0, 0)]",
    ),
    "equal by now": (
        "d = {H(1): 1, H(2): 2}",
        "first(d).v = 3",
        "d[H(3)] = 3",
        "d[H(3)] == 3",
    ),
    "hash fails": (
        "d = {H(1): 1, H(2): 2}",
        "d['x'] = 1; first(d).v = []",
        "d['y'] = 2",
        "d['y'] == 2",
    ),
}


@pytest.mark.parametrize(("before", "in_a", "in_b", "wanted"), KEPT.values(), ids=KEPT)
def test_what_both_did_is_there(before: str, in_a: str, in_b: str, wanted: str) -> None:
    a, b = at_once(CLASSES + before, in_a, in_b)
    assert a.warnings + b.warnings == []
    assert a.value(wanted)
    assert b.value(wanted)


@pytest.mark.parametrize(("before", "in_a", "in_b", "wanted"), TOLD.values(), ids=TOLD)
def test_a_line_says_where_one_counts(before: str, in_a: str, in_b: str, wanted: str) -> None:
    a, b = at_once(CLASSES + before, in_a, in_b)
    assert len(a.warnings + b.warnings) == 1
    assert b.value(wanted)


LINKED = """
rs = [R(n) for n in range({count})]
for r in rs: r.next += [rs[(r.n + step) % {count}] for step in (1, 2, 5)]
del r
"""


@pytest.mark.parametrize(
    ("before", "in_a", "in_b"),
    [
        ("s = ring({count})", "f(0).x = 1; s.add(1)", "f(3).y = 2; s.add(2)"),
        (LINKED, "rs[0].x = 1", "rs[3].y = 2"),
    ],
    ids=["set", "list"],
)
def test_a_graph_of_twice_the_size_takes_twice_the_work(before: str, in_a: str, in_b: str) -> None:
    calls = []
    for count in (100, 200):
        with counted_calls() as counted:
            a, b = at_once(CLASSES + before.format(count=count), in_a, in_b)
        calls.append(counted())
        assert b.warnings == []
        rs = "(rs if 'rs' in globals() else s - {1, 2})"
        assert a.value(f"len({rs}), f(0, {rs}).x, f(3, {rs}).y") == (count, 1, 2)
    assert calls[1] < 2.5 * calls[0]
