"""Every name that was bound or deleted since the last look is found, whatever happened in between, and only those."""

from __future__ import annotations

import threading
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpkernel.namespace.bindings import Bindings

NAMES = ["a", "b", "c", "_i1", "_"]
VALUES = [object(), object(), object()]

names = st.sampled_from(NAMES)
steps = st.one_of(
    st.tuples(st.just("bind"), names, st.sampled_from(VALUES)),
    st.tuples(st.just("delete"), names),
    st.tuples(st.just("receive"), st.sampled_from(["a", "b", "c"]), st.sampled_from(VALUES)),
    st.tuples(st.just("gone"), st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("forget"), st.sampled_from(["a", "b", "c"])),
    st.tuples(st.just("clear")),
    st.tuples(st.just("look"), st.none() | st.sets(names)),
)


@given(st.lists(steps, max_size=40))
def test_a_look_finds_what_a_comparison_of_all_finds(course: list[tuple[Any, ...]]) -> None:
    namespace: dict[Any, Any] = {}
    bindings = Bindings(namespace)
    model: dict[str, Any] = {}
    for what, *rest in [*course, ("look", None)]:
        if what == "bind":
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
            assert bindings.known == model


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
