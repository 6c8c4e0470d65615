"""Every name that was bound or deleted since the last look is found, whatever happened in between, and only those."""

from __future__ import annotations

import threading
import weakref
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpkernel.namespace.bindings import _MISSING, Bindings, names_stored

NAMES = ["a", "b", "c", "_i1", "_"]
VALUES = [object(), object(), object()]
SOMETHING_ELSE = object()  # what a name was bound to before it was found to be bound anew

names = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("bind"), names, st.sampled_from(VALUES)),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("receive"), st.sampled_from(["a", "b", "c"]), st.sampled_from(VALUES)),
    st.tuples(st.just("gone"), st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("forget"), st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("clear")),
    st.tuples(st.just("lend"), st.sets(names)),
    st.tuples(st.just("let go"), st.sets(names)),
    st.tuples(st.just("look"), st.none() | st.sets(names)),
)


@given(st.lists(steps, max_size=40))
def test_a_look_finds_what_a_comparison_of_all_finds(course: list[tuple[Any, ...]]) -> None:
    namespace: dict[Any, Any] = {}
    bindings = Bindings(namespace)
    model: dict[str, Any] = {}
    lent: set[str] = set()
    for what, *rest in [*course, ("look", None)]:
        if what not in ("bind", "delete", "clear"):
            gone = {name for name in lent if namespace.get(name) is not model[name]}
            assert set(bindings.settle()) == gone
            model.update(dict.fromkeys(gone, SOMETHING_ELSE))
            lent.clear()
        if what == "lend":
            bindings.lend([name for name in rest[0] if name in bindings.known])
            lent = {name for name in rest[0] if name in model and namespace.get(name) is model[name]}
        elif what == "let go":
            gone = {name for name in rest[0] if model.get(name) in VALUES and namespace.get(name) is not model[name]}
            assert bindings.let_go(rest[0]).keys() == gone
            model.update(dict.fromkeys(gone, SOMETHING_ELSE))
        elif what == "bind":
            namespace[rest[0]] = rest[1]
        elif what == "delete":
            namespace.pop(rest[0], None)
        elif what == "clear":
            namespace.clear()
        elif what == "receive":
            namespace[rest[0]] = model[rest[0]] = rest[1]
            bindings.take({rest[0]: rest[1]})
        elif what == "gone":  # deleted elsewhere
            namespace.pop(rest[0], None)
            model.pop(rest[0], None)
            bindings.forget([rest[0]])
        elif what == "forget":
            model.pop(rest[0], None)
            bindings.forget([rest[0]])
        else:
            (only,) = rest
            looked = [name for name in ("a", "b", "c") if only is None or name in only]
            deleted = {name for name in looked if name in model and name not in namespace}
            bound = {
                name: namespace[name]
                for name in looked
                if name in namespace and (name not in model or model[name] is not namespace[name])
            }
            found = bindings.look(only)
            assert (set(found[0]), found[1]) == (deleted, bound)
            model = {name: value for name, value in model.items() if name not in deleted} | bound
            assert {name: model.get(name) for name in bindings.known} == model
            assert all(value in (model[name], _MISSING) for name, value in bindings.known.items())


def test_keys_that_are_no_names_are_left_alone() -> None:
    class Key:
        def __eq__(self, other: object) -> NoReturn:
            raise RuntimeError("compared")

        def __hash__(self) -> int:
            return 1

    namespace: dict[Any, Any] = {Key(): 1, 5: 2, "x": 3}
    bindings = Bindings(namespace)
    assert bindings.look() == ([], {"x": 3})
    del namespace[5]
    namespace["y"] = 4
    assert bindings.look() == ([], {"y": 4})


def test_a_thread_may_bind_names_meanwhile() -> None:
    namespace: dict[Any, Any] = {f"x{n}": n for n in range(1000)}
    bindings = Bindings(namespace)
    stop = threading.Event()

    def bind() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            namespace[f"y{n % 5000}"] = n
            namespace.pop(f"y{(n + 2500) % 5000}", None)

    thread = threading.Thread(target=bind)
    thread.start()
    try:
        for _ in range(200):
            bindings.look()
    finally:
        stop.set()
        thread.join()
    bindings.look()
    assert bindings.known == namespace


def test_what_was_deleted_is_let_go() -> None:
    class Value:
        ended = False

        def __del__(self) -> None:
            Value.ended = True

    namespace: dict[Any, Any] = {"x": Value()}
    bindings = Bindings(namespace)
    bindings.look()
    del namespace["x"]
    assert not Value.ended
    bindings.look()
    assert Value.ended


@pytest.mark.parametrize("only", [None, {"x"}])
def test_a_name_that_arrived_and_was_deleted_is_found(only: set[str] | None) -> None:
    namespace: dict[Any, Any] = {}
    bindings = Bindings(namespace)
    bindings.look()
    namespace["x"] = 1
    bindings.take({"x": 1})
    del namespace["x"]
    assert bindings.look(only) == (["x"], {})


def test_what_is_lent_or_let_go_is_not_kept_alive() -> None:
    class Thing:
        pass

    namespace: dict[Any, Any] = {"x": Thing(), "y": Thing()}
    bindings = Bindings(namespace)
    bindings.look()
    x, y = (weakref.ref(namespace[name]) for name in "xy")
    bindings.lend(["x"])
    del namespace["x"]
    assert x() is None
    namespace["y"] = 1
    assert bindings.settle() == ["x"]
    old = bindings.let_go(["x", "y", "z"])
    assert old["y"] is y()
    old.clear()
    assert y() is None
    assert bindings.look() == (["x"], {"y": 1})


@pytest.mark.parametrize(
    ("code", "stored"),
    [
        ("x; y.z; f(x)", set()),
        ("x = y.z = 1", {"x"}),
        ("for x in y: z += 1", {"x", "z"}),
        ("del x; import y.z; from y import z as w", {"y", "w"}),
        ("def x(): y = 1", {"x"}),
        ("; ".join(f"v{n} = {n}" for n in range(400)), {f"v{n}" for n in range(400)}),
    ],
)
def test_names_that_a_statement_stores(code: str, stored: set[str]) -> None:
    assert names_stored(compile(code, "<cell>", "exec")) == stored
