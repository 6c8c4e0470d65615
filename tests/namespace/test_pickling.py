"""Values travel: functions without their globals, classes as themselves, open files not at all."""

from __future__ import annotations

import builtins
import io
import pickle
from pathlib import Path
from typing import Any

import pytest

from mpkernel.namespace import pickling

from .bench import Space


def travel(definition: str, name: str = "f") -> Space:
    """Define something here; returns another namespace that got it."""
    here, there = Space(), Space()
    here.execute(definition)
    there.loads(here.dumps(name), name)
    return there


def test_a_function_uses_the_globals_of_where_it_arrives() -> None:
    there = travel("x = 'here'\ndef f(): return x")
    assert "x" not in there.names
    there.execute("x = 'there'")
    assert there.value("f()") == "there"


def test_a_function_binds_globals_where_it_arrives() -> None:
    there = travel("def f():\n    global made\n    made = 1")
    there.execute("f()")
    assert there.names["made"] == 1


def test_a_function_leaves_the_builtins_of_where_it_arrives_alone() -> None:
    assert travel("def f(): ...").names["__builtins__"] is builtins


def test_a_functions_globals_do_not_travel() -> None:
    here = Space()
    here.execute("big = 'needle' * 1000\ndef f(): return big")
    assert b"needle" not in here.dumps("f")


@pytest.mark.parametrize(
    ("definition", "call", "result"),
    [
        ("def f(a, b=2, *, c=3): return a, b, c", "f(1)", (1, 2, 3)),
        ("def f(n): return 1 if n < 2 else n * f(n - 1)", "f(5)", 120),
        ("def make(n):\n    def f(): return n\n    return f\nf = make(7)", "f()", 7),
        ("def make():\n    def f(n): return n and f(n - 1)\n    return f\nf = make()", "f(3)", 0),
        ("f = [lambda n=n: n for n in range(3)]", "[each() for each in f]", [0, 1, 2]),
        ("def f(): 'doc'\nf.note = 1", "(f.__doc__, f.note, f.__name__, f.__module__)", ("doc", 1, "f", "__main__")),
        ("def f(a: int) -> str: ...", "f.__annotations__", {"a": "int", "return": "str"}),
    ],
)
def test_a_function_arrives_whole(definition: str, call: str, result: object) -> None:
    future = "from __future__ import annotations\n" if "->" in definition else ""
    assert travel(future + definition).value(call) == result


@pytest.mark.xfail(reason="cloudpickle fills a new cell for each function")
def test_two_functions_that_share_a_closure_go_on_sharing_it() -> None:
    up_and_get = "    n = 0\n    def up():\n        nonlocal n; n += 1\n    def get(): return n\n    return up, get\n"
    there = travel(f"def make():\n{up_and_get}f = make()")
    there.execute("f[0](); f[0]()")
    assert there.value("f[1]()") == 2


def test_a_class_arrives_with_methods_that_use_the_globals_of_where_it_arrives() -> None:
    there = travel("class C:\n    n = 1\n    def m(self): return x + self.n\nf = C()")
    there.execute("x = 41")
    assert there.value("f.m()") == 42


def test_instances_and_their_class_belong_together_when_they_come_one_by_one() -> None:
    here, there = Space(), Space()
    here.execute("class B: pass\nclass C(B): pass\nc = C()")
    for name in ("c", "C", "B"):
        there.loads(here.dumps(name), name)
    assert there.value("type(c) is C and isinstance(c, B)")


def test_an_importable_function_travels_by_reference() -> None:
    assert travel("from json import dumps as f").value("f") is __import__("json").dumps


def test_a_module_travels_by_reference() -> None:
    assert travel("import json as f").value("f") is __import__("json")


@pytest.mark.parametrize(
    ("mode", "buffering"), [*((mode, -1) for mode in ("r", "w", "a", "rb", "wb", "r+b")), ("rb", 0), ("wb", 0)]
)
def test_an_open_file_does_not_travel(tmp_path: Path, mode: str, buffering: int) -> None:
    path = tmp_path / "file"
    path.touch()
    with open(path, mode, buffering) as file, pytest.raises(pickle.PicklingError, match=str(path)):
        pickling.dumps([file], {})


@pytest.mark.parametrize("value", [io.StringIO("text"), io.BytesIO(b"bytes")])
def test_a_file_in_memory_travels(value: Any) -> None:
    assert pickling.loads(pickling.dumps(value, {})).getvalue() == value.getvalue()


def test_large_buffers_go_out_of_band_if_wanted() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(100_000)
    buffers: list[pickle.PickleBuffer] = []
    data = pickling.dumps(array, {}, buffers)
    assert len(data) < 1000
    assert [buffer.raw().nbytes for buffer in buffers] == [array.nbytes]
    assert (pickle.loads(data, buffers=buffers) == array).all()
    assert len(pickling.dumps(array, {})) > array.nbytes


class Restless:
    """Changes while it is pickled, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def __reduce__(self) -> Any:
        if self.times:
            self.times -= 1
            raise RuntimeError("dictionary changed size during iteration")
        return str, ("calm",)


def test_a_value_that_changes_meanwhile_is_tried_again() -> None:
    assert pickling.loads(pickling.dumps_while_changing(Restless(pickling.TRIES - 1), {})) == "calm"


def test_a_value_that_never_stops_changing_is_given_up() -> None:
    with pytest.raises(RuntimeError, match="changed size"):
        pickling.dumps_while_changing(Restless(pickling.TRIES), {})


def test_what_can_not_be_pickled_raises() -> None:
    with pytest.raises(TypeError, match="generator"):
        pickling.dumps((n for n in [0]), {})
