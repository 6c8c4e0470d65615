"""Notebooks on the bench: namespaces that share a store, each with a ``__main__`` of its own, in this one process."""

from __future__ import annotations

import builtins
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from mpkernel import messages
from mpkernel.namespace import pickling
from mpkernel.namespace.changes import Changes, Tracker, is_own
from mpkernel.namespace.store import NamespaceStore
from mpkernel.namespace.sync import NamespaceSync
from mpkernel.wire import Signer

M = TypeVar("M", bound=messages.LaneMessage)
_signer = Signer(b"secret")


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
        with self.as_main():
            exec(code, self.names)

    def value(self, expression: str) -> Any:
        with self.as_main():
            return eval(expression, self.names)

    def dumps(self, expression: str) -> bytes:
        """The pickle of an expression's value."""
        value = self.value(expression)
        with self.as_main():
            return pickling.dumps(value, self.names)

    def loads(self, data: bytes, name: str) -> None:
        """Bind `name` to the value of a pickle."""
        with self.as_main():
            self.names[name] = pickling.loads(data)

    def user_names(self) -> dict[str, Any]:
        return {name: value for name, value in self.names.items() if isinstance(name, str) and not is_own(name)}


class Watched(Space):
    """A namespace with a tracker."""

    def __init__(self, startup: str = "") -> None:
        super().__init__()
        self.execute(startup)
        with self.as_main():
            self.tracker = Tracker(self.names)

    def run(self, cell: str) -> None:
        """Run a cell as the shell does: statement by statement isn't needed, the tracker hears of the code."""
        code = compile(cell, "cell", "exec")
        self.tracker.ran(code)
        self.execute(code)

    def collect(self, *, mutations: bool = True) -> Changes:
        with self.as_main():
            return self.tracker.collect(mutations=mutations)

    def changed(self, cell: str) -> list[str]:
        """Run a cell; returns the names that it changed, of which none may be deleted."""
        self.run(cell)
        changes = self.collect()
        assert changes.deleted == []
        return sorted(changes.changed)


class Notebook(Space):
    """A subshell's namespace, in sync with others through `store`."""

    def __init__(self, store: NamespaceStore, worker: int, startup: str = "") -> None:
        super().__init__()
        self.store = store
        self.worker = worker
        with self.as_main():
            self.sync = NamespaceSync(self)
        self.execute(startup)
        with self.as_main():
            self.sync.startup_done()

    @property
    def user_ns(self) -> dict[Any, Any]:
        """As a shell has it."""
        return self.names

    def hear(self) -> messages.News | None:
        """Take over what others committed, as before a cell."""
        news = self.store.news(self.worker)
        if news is not None:
            with self.as_main():
                self.sync.apply(through_lane(news))
        return news

    def commit(self) -> messages.Commit | None:
        """Publish what has changed, as after a cell."""
        with self.as_main():
            commit = self.sync.commit()
        if commit is not None:
            self.store.commit(self.worker, through_lane(commit))
        return commit

    def run(self, cell: str) -> messages.Commit | None:
        """A cell, from the news to the commit. Errors of the cell don't matter."""
        self.hear()
        code = compile(cell, "cell", "exec")
        self.sync.ran(code)
        with suppress(Exception):  # as in a notebook
            self.execute(code)
        return self.commit()


def through_lane(message: M) -> M:
    """The message as it arrives at the other end."""
    return messages.unpack(messages.pack(message, _signer), _signer)  # type: ignore[no-any-return]
