"""Which request an output belongs to: by context (cells, their tasks, callbacks of comms), by thread, else the cell."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from weakref import WeakKeyDictionary

from mpkernel.wire import Json

NOBODY: Json = {"header": {}}
SILENT: Json = {"header": {}}  # the very object: what is put out then isn't shown
POOLS = ("concurrent.futures.thread", "multiprocessing.pool")  # whose threads work for whoever has something to do


class Parents:
    """Requests as `Session.unserialize` would give them: a dict with header, content, and so on."""

    def __init__(self) -> None:
        self._current: Json = NOBODY  # the cell that runs or ran last in the main thread
        self._by_context: ContextVar[Json] = ContextVar("mpkernel_parent")
        self._by_thread: WeakKeyDictionary[threading.Thread, Json] = WeakKeyDictionary()

    @property
    def current(self) -> Json:
        """The header of the cell that runs or ran last in the main thread: for what C code and programs write."""
        header: Json = self._current["header"]
        return header

    def get(self) -> Json:
        """The header to use as parent for what the calling code puts out."""
        header: Json = self.request()["header"]
        return header

    def request(self) -> Json:
        """The request that the calling code belongs to."""
        request = self._by_context.get(None)
        if request is None:
            request = self._by_thread.get(threading.current_thread()) if self._by_thread else None
        return self._current if request is None else request

    def set(self, request: Json) -> None:
        """A request begins in the main thread."""
        self._current = request
        self._by_context.set(request)

    def set_here(self, request: Json) -> Token[Json]:
        """From now on what the calling code puts out, and what it starts, belongs to `request`."""
        return self._by_context.set(request)

    def reset(self, token: Token[Json]) -> None:
        """Undo `set_here`."""
        self._by_context.reset(token)

    @contextmanager
    def silent(self) -> Iterator[None]:
        """What the calling code puts out meanwhile belongs to nobody: the notebook hasn't asked for it."""
        token = self._by_context.set(SILENT)
        try:
            yield
        finally:
            self._by_context.reset(token)

    def follow_threads(self) -> None:
        """From now on a thread's output belongs to the cell that started the thread.

        Not that of a pool's thread: what it runs comes from later cells, too.
        """
        parents, start = self, threading.Thread.start

        def start_and_note(thread: threading.Thread) -> None:
            target = getattr(thread, "_target", None)
            if getattr(target, "__module__", None) not in POOLS:
                parents._by_thread[thread] = parents.request()
            start(thread)

        threading.Thread.start = start_and_note  # type: ignore[assignment]


class WithParent:
    """What libraries expect of streams, displays and the shell: to ask for, and set, whose output theirs is.

    That is one thing for all of them, and belongs to the calling code: in a task or thread it is that one's alone.
    """

    @property
    def _parents(self) -> Parents:
        raise NotImplementedError

    @property
    def parent_header(self) -> Json:
        """The header of the request that the calling code belongs to."""
        return self._parents.get()

    @parent_header.setter
    def parent_header(self, header: Json) -> None:
        self.set_parent(header)

    def set_parent(self, parent: Json) -> None:
        """What the calling code puts out belongs to this request (or header) from now on."""
        self._parents.set_here(as_request(parent))

    def set_thread_parent(self, parent: Json) -> Token[Json]:
        """As `set_parent`; returns a token for `reset_thread_parent`."""
        return self._parents.set_here(as_request(parent))

    def reset_thread_parent(self, token: Token[Json]) -> None:
        """Undo `set_thread_parent`."""
        self._parents.reset(token)


def as_request(parent: Json) -> Json:
    """A request, given as such, or as its header only."""
    if "header" in parent:
        return parent
    return {"header": parent, "parent_header": {}, "metadata": {}, "content": {}, "buffers": []}
