"""Process state of several processes: who changed what is told to the others, and both changes of two are there."""

from __future__ import annotations

import importlib
import pickle
import sys
import types
from pathlib import Path

import pytest

from mpkernel.namespace.imported import Imported
from mpkernel.namespace.own_modules import OwnModules
from mpkernel.namespace.process_state import GONE, UNTOLD, Items, ProcessState

from .bench import Settings


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


def test_an_item_that_cannot_be_set_here_does_not_keep_others_away() -> None:
    class Choosy(Settings):
        def write(self, items: Items) -> None:
            if "odd" in items:
                raise ValueError("there is no such option")
            super().write(items)

    settings = Choosy(a=1)
    state = process(settings)
    state.receive(NAME, {"odd": 1, "a": 2})
    assert settings.items == {"a": 2}
    assert state.changes() == {}


def test_what_cannot_be_read_at_the_moment_counts_as_unchanged() -> None:
    class Broken(Settings):
        broken = False

        def read(self) -> Items | None:
            if self.broken:
                raise RuntimeError("its insides are in motion")
            return super().read()

    settings = Broken(a=1, b=2)
    state = process(settings)
    settings.broken = True
    state.receive(NAME, {"a": 3})
    assert settings.items == {"a": 3, "b": 2}
    settings.broken = False
    assert state.changes().get(NAME, {"a": 3}) == {"a": 3}


def test_an_option_that_is_set_in_the_cell_that_imports_its_library_stays() -> None:
    class Library(Settings):
        def base(self) -> Items:
            return {"a": 1, "b": 1}

    settings = Library()
    settings.items = None
    state = process(settings)
    state.receive(NAME, {"a": 5, "b": 5})
    settings.items = {"a": 2, "b": 1}
    assert state.changes() == {NAME: {"a": 2, "b": 5}}
    assert settings.items == {"a": 2, "b": 5}


def test_what_is_on_its_way_to_the_others_is_told_again_if_it_came_too_late() -> None:
    settings = Settings(a=1, b=1)
    state = process(settings)
    assert settings.items is not None
    settings.items["a"] = "mine"
    assert state.changes() == {NAME: {"a": "mine"}}
    state.receive(NAME, {"b": "theirs"})
    assert state.merge(NAME, {"b": "theirs"}, {}) == {"a": "mine", "b": "theirs"}


def test_what_has_been_imported_since(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a", "b", "c"]
    modules = {name: types.ModuleType(name) for name in names}
    monkeypatch.setattr(sys, "modules", modules)
    imported = Imported()

    def new() -> list[str]:
        return [name for name, _ in imported.new()]

    assert new() == names
    assert new() == []
    modules["d"] = modules["e"] = types.ModuleType("d")
    assert new() == ["d", "e"]
    del modules["b"]
    assert "b" not in new()
    modules["b"] = types.ModuleType("b")
    assert new()[-1:] == ["b"]
    del modules["b"]
    modules["f"] = types.ModuleType("f")
    assert new()[-1:] == ["f"]
    assert new() == []
    modules.clear()
    assert new() == []
    modules["g"] = types.ModuleType("g")
    assert new() == ["g"]


def test_of_a_module_of_ones_own_what_is_small_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mpt_own.py").write_text("small = [1]\nlarge = list(range(100_000))\nmany = [b'x' * 70_000]\n")
    module = importlib.import_module("mpt_own")
    try:
        facet = OwnModules({})
        told = facet.read()
        own = {key: value for key, value in told.items() if not key[1].startswith("__")}
        large = dict.fromkeys([("mpt_own", "large"), ("mpt_own", "many")], UNTOLD)
        assert own == {("mpt_own", "small"): pickle.dumps([1], 5), **large}
        module.small.append(2)
        assert facet.changed(told, facet.read()) == {("mpt_own", "small"): pickle.dumps([1, 2], 5)}
    finally:
        del sys.modules["mpt_own"]
