"""Process state of several processes: who changed what is told to the others, and both changes of two are there."""

from __future__ import annotations

from typing import Any

from mpkernel.namespace.process_state import GONE, Facet, Items, ProcessState


class Settings(Facet):
    """Stands for a library's options."""

    name = "settings"

    def __init__(self, **items: Any) -> None:
        self.items: Items | None = dict(items)

    def read(self) -> Items | None:
        return None if self.items is None else dict(self.items)

    def write(self, items: Items) -> None:
        assert self.items is not None
        for key, value in items.items():
            if value is GONE:
                self.items.pop(key, None)
            else:
                self.items[key] = value


class Stream(Settings):
    """Stands for random numbers."""

    draws = True

    def fork(self) -> None:
        self.items = {"": "a stream of its own"}


NAME = "%settings"


def process(facet: Settings) -> ProcessState:
    state = ProcessState([facet])
    state.rebase()
    return state


def test_only_what_has_changed_is_told() -> None:
    settings = Settings(a=1, b=2)
    state = process(settings)
    assert state.changes() == {}
    settings.items = {"b": 3}
    assert state.changes() == {NAME: {"a": GONE, "b": 3}}
    assert state.changes() == {}


def test_what_is_told_is_set_and_not_told_again() -> None:
    settings = Settings(a=1, b=2)
    state = process(settings)
    state.receive(NAME, {"a": GONE, "b": None, "c": 4})
    assert settings.items == {"b": None, "c": 4}
    assert state.changes() == {}


def test_what_was_changed_here_since_stays_and_is_told() -> None:
    settings = Settings(a=1, b=2)
    state = process(settings)
    assert settings.items is not None
    settings.items["a"] = "mine"
    state.receive(NAME, {"a": "theirs", "b": "theirs"})
    assert settings.items == {"a": "mine", "b": "theirs"}
    assert state.changes() == {NAME: {"a": "mine", "b": "theirs"}}


def test_what_both_added_to_a_list_is_there() -> None:
    settings = Settings(path=["x", "y"])
    state = process(settings)
    settings.items = {"path": ["x", "y", "mine"]}
    assert state.changes() == {NAME: {"path": ["x", "y", "mine"]}}
    merged = state.merge(NAME, {"path": ["theirs", "x"], "more": 1}, {"path": ["x", "y"]})
    assert merged == {"path": ["theirs", "x", "mine"], "more": 1}
    assert settings.items == merged
    assert state.changes() == {}


def test_state_of_a_library_that_is_imported_later() -> None:
    settings = Settings()
    settings.items = None
    state = process(settings)
    state.receive(NAME, {"a": 5})
    state.arrived()
    settings.items = {"a": 1}
    state.arrived()
    assert settings.items == {"a": 5}
    assert state.changes() == {}


def test_a_stream_that_came_from_elsewhere_is_not_drawn_from_twice() -> None:
    stream = Stream(**{"": "at first"})
    state = process(stream)
    state.receive(NAME, {"": "seeded"})
    state.before_cell(beside=True)
    assert stream.items == {"": "a stream of its own"}
    assert state.changes() == {}, "nothing was drawn"
    state.before_cell(beside=False)
    assert stream.items == {"": "seeded"}


def test_a_stream_that_was_seeded_here_is_used_also_beside_others() -> None:
    stream = Stream(**{"": "at first"})
    state = process(stream)
    stream.items = {"": "seeded"}
    state.changes()
    state.before_cell(beside=True)
    assert stream.items == {"": "seeded"}
