"""Functions and classes that two cells changed at once."""

from __future__ import annotations

import pytest

from .bench import at_once

_F = "def f(a, b=1, *, c=2): return a + b + c\nf.calls = 0; f.log = []"
_E = "import enum\nclass E(enum.Enum):\n    A = 1\n    B = 2\nE.x = E.y = 0; E.A.n = 0"
_SD = "import functools\n@functools.singledispatch\ndef f(x): return 'o'\nf.n = 0"
# What is there, what both cells do, and what is true then everywhere.
KEPT = {
    "attributes of a function": (
        _F,
        "f.calls += 100; f.log.append(1)",
        "f.note = 200; f.log.append(2)",
        "(f.calls, f.note, f.log) == (100, 200, [1, 2])",
    ),
    "one deleted": (_F, "del f.calls", "f.note = 200", "not hasattr(f, 'calls') and f.note == 200"),
    "defaults": (_F, "f.__defaults__ = 5,", "f.__kwdefaults__ = {'c': 7}", "f(0) == 12"),
    "defaults and an attribute": (_F, "f.note = 1", "f.__defaults__ = 5,", "f(0) == 7 and f.note == 1"),
    "the code": (
        _F,
        "def g(a, b=1, *, c=2): return a * b * c\nf.__code__ = g.__code__",
        "f.note = 1",
        "f(4) == 8 and f.note == 1",
    ),
    "a method": (
        "class K:\n    def m(self): pass\nK.m.calls = 0",
        "K.m.calls = 5",
        "K.m.other = 7; K.z = 1",
        "(K.m.calls, K.m.other, K.z) == (5, 7, 1)",
    ),
    "an enum": (_E, "E.x = 1; E.A.n = 5", "E.y = 2; E.B.n = 6", "(E.x, E.y, E.A.n, E.B.n) == (1, 2, 5, 6)"),
    "singledispatch": (
        _SD,
        "f.register(int, lambda x: 'i'); f.n = 1",
        "f.register(str, lambda x: 's'); f.m = 2",
        "(f(1), f(''), f(None), f.n, f.m) == ('i', 's', 'o', 1, 2)",
    ),
    "a cached function": (
        "import functools\n@functools.lru_cache\ndef f(x): return x",
        "f.n = 1",
        "f.m = 2",
        "(f.n, f.m, f(3)) == (1, 2, 3)",
    ),
    "registered": (
        "import abc\nclass A(abc.ABC): pass",
        "A.register(int); A.x = 1",
        "A.register(str); A.y = 2",
        "isinstance(1, A) and isinstance('', A) and (A.x, A.y) == (1, 2)",
    ),
}
# The same, and what a line names.
TOLD = {
    "an attribute": (_F, "f.calls = 1; f.a = 1", "f.calls = 2; f.b = 2", "(f.calls, f.a, f.b) == (2, 1, 2)", "f.calls"),
    "defaults": (_F, "f.__defaults__ = 5,", "f.__defaults__ = 6,", "f(0) == 8", "f.__defaults__"),
    "a member": (_E, "E.A.n = 1", "E.A.n = 2", "E.A.n == 2", "E.A.n"),
    "singledispatch": (
        _SD,
        "f.register(int, lambda x: 'a')",
        "f.register(int, lambda x: 'b')",
        "f(1) == 'b'",
        "f.registry[int]",
    ),
}


@pytest.mark.parametrize(("before", "in_a", "in_b", "wanted"), KEPT.values(), ids=KEPT)
def test_what_both_did_to_a_definition_is_there(before: str, in_a: str, in_b: str, wanted: str) -> None:
    a, b = at_once(before, in_a, in_b)
    assert a.warnings + b.warnings == []
    assert a.value(wanted)
    assert b.value(wanted)


@pytest.mark.parametrize(("before", "in_a", "in_b", "wanted", "named"), TOLD.values(), ids=TOLD)
def test_a_line_says_where_one_definition_counts(before: str, in_a: str, in_b: str, wanted: str, named: str) -> None:
    a, b = at_once(before, in_a, in_b)
    assert [line.split(" was")[0] for line in a.warnings + b.warnings] == [named]
    assert a.value(wanted)
    assert b.value(wanted)
