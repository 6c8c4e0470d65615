"""Notebooks on the bench: namespaces that share a store, each with a ``__main__`` of its own, in this one process."""

from __future__ import annotations

import builtins
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from mpkernel import messages
from mpkernel.broker.holding import take_segments
from mpkernel.broker.sharing import clash_fields
from mpkernel.namespace.bindings import is_own
from mpkernel.namespace.changes import Tracker
from mpkernel.namespace.component import join, split
from mpkernel.namespace.pickling import Pickling
from mpkernel.namespace.process_state import GONE, Facet, Items, ProcessState
from mpkernel.namespace.segments import Segments
from mpkernel.namespace.store import NamespaceStore
from mpkernel.namespace.sync import NamespaceSync
from mpkernel.namespace.transport import Memfds
from mpkernel.wire import Signer

M = TypeVar("M", bound=messages.LaneMessage)
_signer = Signer(b"secret")


@contextmanager
def counted_calls() -> Iterator[Callable[[], int]]:
    """A function that tells how many calls there were: what takes long, without a clock."""
    calls = 0

    def count(_frame: types.FrameType, event: str, _arg: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield lambda: calls
    finally:
        sys.setprofile(before)


class Space:
    """A namespace that is ``__main__`` while code of it runs, as in a worker."""

    def __init__(self) -> None:
        self._module = types.ModuleType("__main__")
        self.names: dict[Any, Any] = vars(self._module)
        self.names["__builtins__"] = builtins

    @contextmanager
    def as_main(self) -> Iterator[None]:
        """Be ``__main__``: where pickled functions look for their globals."""
        before = sys.modules["__main__"]
        sys.modules["__main__"] = self._module
        try:
            yield
        finally:
            sys.modules["__main__"] = before

    def execute(self, code: types.CodeType | str) -> None:
        if isinstance(code, str):
            code = compile(code, "<cell>", "exec", dont_inherit=True)
        with self.as_main():
            exec(code, self.names)

    def value(self, expression: str) -> Any:
        with self.as_main():
            return eval(expression, self.names)

    def user_names(self) -> dict[str, Any]:
        return {name: value for name, value in self.names.items() if isinstance(name, str) and not is_own(name)}


@dataclass
class Found:
    """What a tracker found, by names."""

    changed: list[str]
    deleted: list[str]
    held: list[str]


class Watched(Space):
    """A namespace with a tracker."""

    def __init__(self, startup: str = "") -> None:
        super().__init__()
        self.execute(startup)
        with self.as_main():
            self.tracker = Tracker(self.names, Pickling(self.names, 1, lambda: "main"))
            self.tracker.rebase()

    def run(self, cell: str) -> None:
        """Run a cell as the shell does: statement by statement isn't needed, the tracker hears of the code."""
        code = compile(cell, "cell", "exec", dont_inherit=True)
        with self.as_main():
            self.tracker.prepare(code)
        self.tracker.ran(code)
        self.execute(code)

    def collect(self, *, mutations: bool = True) -> Found:
        with self.as_main():
            changes = self.tracker.collect(mutations=mutations)
        held = [name for names in changes.held for name in names]
        return Found(sorted(name for names, _ in changes.changed for name in names), changes.deleted, held)

    def changed(self, cell: str) -> list[str]:
        """Run a cell; returns the names that it changed, of which none may be deleted."""
        self.run(cell)
        changes = self.collect()
        assert changes.deleted == []
        return changes.changed


class Notebook(Space):
    """A subshell's namespace, in sync with others through `store`."""

    def __init__(
        self,
        store: NamespaceStore,
        worker: int,
        startup: str = "",
        facets: Iterable[Facet] = (),
        segments: Segments | None = None,
    ) -> None:
        """With `segments`, large values travel by memfds, which these hold."""
        super().__init__()
        self._segments = segments
        self._taken: list[messages.Taken] = []
        self.store = store
        self.worker = worker
        self.sent: list[messages.Commit] = []
        self.warnings: list[str] = []
        with self.as_main():
            pickling = Pickling(self.names, worker, lambda: f"subshell {worker}")
            state, transport = ProcessState(facets), None if segments is None else Memfds()
            self.sync = NamespaceSync(self.names, pickling, self._send, self.warnings.append, transport, state)
        self.execute(startup)
        with self.as_main():
            self.sync.startup_done()

    def _send(self, message: messages.LaneMessage) -> None:
        """To the broker, which answers at once if the commit came too late."""
        if isinstance(message, messages.Missed):
            self.store.missed(self.worker, message.number, message.names)
            return
        assert isinstance(message, messages.Commit)
        commit = through_lane(message)
        self.sent.append(commit)
        if self._segments is not None:
            taken, _ = take_segments(self._segments, self.worker, os.getpid(), commit)
            self._taken += [taken] if taken is not None else []
        parts = split(commit.components, commit.blobs)
        clash = self.store.commit(self.worker, commit.after, parts, force=commit.force, lost=commit.overruled)
        if clash is not None:
            number = self.store.clash_told(self.worker, clash)
            merge = messages.Merge(number, self.store.commits(self.worker), *clash_fields(clash))
            self.sync.put(through_lane(merge))

    def rest(self) -> None:
        """A pause: the broker has what was sent, and what is cold is put together."""
        with self.as_main():
            for taken in self._taken:
                self.sync.taken(taken.segments, taken.refused)
            self._taken.clear()
            self.sync.cool()

    def hear(self, *, take: bool = True) -> list[str]:
        """Take over what others committed, as before a cell; returns its names."""
        telling = self.store.news(self.worker)
        if telling is None:
            return []
        heads, blobs = join(telling.sent)
        offers, commits = join(telling.offered)[0], self.store.commits(self.worker)
        self.sync.put(through_lane(messages.News(telling.number, commits, heads, offers, blobs)))
        if take:
            with self.as_main():
                self.sync.take()
        return [name for part in telling.sent for name in part.meta["take"]]

    def ask(self, *names: str) -> None:
        """Have the values of `names`, as a cell that needs them."""
        telling = self.store.news(self.worker, names)
        assert telling is not None
        heads, blobs = join(telling.sent)
        commits = self.store.commits(self.worker)
        self.sync.put(through_lane(messages.Acquired(1, list(names), telling.number, commits, heads, [], [], blobs)))
        with self.as_main():
            self.sync.take()

    def commit(self) -> list[str]:
        """Publish what has changed, as after a cell; returns the names."""
        self.sent.clear()
        with self.as_main():
            self.sync.commit()
            self.sync.take()
        return sorted({name for message in self.sent for head in message.components for name in head[0]})

    def start(self, cell: str) -> None:
        """Begin a cell: the news, and its code runs."""
        self.hear()
        code = compile(cell, "cell", "exec", dont_inherit=True)
        with self.as_main():
            self.sync.before_cell(code)
        self.sync.ran(code)
        with suppress(Exception):  # as in a notebook
            self.execute(code)

    def run(self, cell: str) -> list[str]:
        """A cell, from the news to the commit. Errors of the cell don't matter. Returns the names it committed."""
        self.start(cell)
        return self.commit()


def at_once(before: str, in_a: str, in_b: str) -> tuple[Notebook, Notebook]:
    """Two notebooks in which cells have run at once; that of the second ended later."""
    store = NamespaceStore()
    a, b = Notebook(store, 1), Notebook(store, 2)
    a.run(before)
    b.run("pass")
    a.start(in_a)
    b.start(in_b)
    a.commit()
    b.commit()
    a.run("pass")
    b.run("pass")
    return a, b


class Amount(float):
    """On a built-in class, as the next one."""


class Group(frozenset):  # type: ignore[type-arg]
    pass


def noted(value: Any, **names: Any) -> Any:
    """The value, with these attributes."""
    vars(value).update(names)
    return value


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


def through_lane(message: M) -> M:
    """The message as it arrives at the other end."""
    return messages.unpack(messages.pack(message, _signer), _signer)  # type: ignore[no-any-return]
