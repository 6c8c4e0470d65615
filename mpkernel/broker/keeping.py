"""Saving the namespace into files and restoring it: on request, and by itself across restarts (docs/keeping.md).

A file has the store's components as they are. Before it is written, running cells and the owners of large values are
asked for what only they have; what nobody gives, and what can't be pickled, is listed as left out.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpkernel.broker import answers
from mpkernel.broker.events import (
    CancelTimer,
    LoadNamespace,
    Log,
    NamespaceLoaded,
    NamespaceSaved,
    RemoveFile,
    SaveNamespace,
    SetTimer,
)
from mpkernel.broker.state import Request
from mpkernel.errors import BadMessage, RequestFailed
from mpkernel.namespace.component import HELD, PROCESS, Component

if TYPE_CHECKING:
    from mpkernel.broker.machine import Machine

# By itself, the namespace is written so many seconds after a change, or so many times as long as it took last.
PAUSE, SHARE = 2.0, 10.0
# A file that nobody has written for a week counts as left behind (`mpkernel clean`): it is written anew after a day.
DAY = 24 * 3600.0
# When the kernel is restarted, large values have so many seconds to come; when it starts, its file has.
LAST_CALL, LOAD_LIMIT = 1.0, 120.0
# The kernel doesn't end before its last file is written, but for so many seconds.
WRITE_LIMIT = 60.0
_MANY = 10

Answer = Callable[[dict[str, Any]], None]


@dataclass(slots=True)
class _Job:
    """A file that is being written or read, and whom to tell."""

    path: str
    names: list[str]
    left_out: list[list[Any]]
    answer: Answer | None  # None: done by itself
    started: float
    given_up: bool = False  # the kernel ends, and who asked was told so


class Keeping:
    """`path` is where the namespace is kept across restarts; empty: it isn't."""

    def __init__(self, machine: Machine, path: str = "") -> None:
        self._machine = machine
        self.path = path
        self._jobs: dict[int, _Job] = {}  # by the token of the action
        self._asked: list[_Job] = []  # that wait for values
        self._dirty = False
        self._waits = False  # for the timer after which it is written
        self._took = 0.0  # seconds
        self._notice = ""  # for the next cell
        self.loading = False  # cells wait for what was kept
        self.busy = False  # the last file is being made: the kernel doesn't end yet
        self._last: int | None = None  # the token of that

    # --- on request -------------------------------------------------------------------------------------------------

    def save(self, content: dict[str, Any], answer: Answer) -> None:
        """The operation ``save``. Raises BadMessage."""
        job = _Job(_path_of(content), [], [], answer, self._machine.now)
        self._asked.append(job)

        def write() -> None:
            self._asked.remove(job)
            if not job.given_up:
                self._write(job)

        self._machine.sharing.gather(write)

    def restore(self, content: dict[str, Any], answer: Answer) -> None:
        """The operation ``restore``. Raises BadMessage."""
        self._load(_path_of(content), answer)

    # --- by itself --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """When the kernel starts: what was kept comes first."""
        if self.path:
            self._machine.act(SetTimer(("keep alive",), DAY))
            self.loading = True
            self._machine.act(SetTimer(("kept",), LOAD_LIMIT))
            self._load(self.path, None)

    def changed(self) -> None:
        """Something was committed."""
        self._dirty = True
        if self.path and not self._waits and not self.loading and not self._machine.stopping:
            self._waits = True
            self._machine.act(SetTimer(("keep",), max(PAUSE, SHARE * self._took)))

    def on_keep_timer(self) -> None:
        """The pause is over."""
        if not self._machine.stopping:
            self._write_by_itself()

    def on_day_timer(self) -> None:
        """Nothing need have changed."""
        self.changed()
        self._machine.act(SetTimer(("keep alive",), DAY))

    def on_kept_timer(self) -> None:
        """Reading what was kept, or writing it for the last time, takes too long."""
        if self.busy:
            self._done_for_good()
        elif self.loading:
            self._ready(f"what was kept in {self.path} can't be read in time: try mpkernel.restore")

    def at_the_end(self, end: Callable[[], None]) -> None:
        """Before the processes are ended by `end`: write what they have if the kernel is to start again."""
        if not self.path:
            end()
            return
        self._machine.act(CancelTimer(("keep",)))
        if not self._machine.restarting:
            self._machine.act(RemoveFile(self.path))
            end()
            return
        if self.loading:  # it is all in the file
            end()
            return
        self.busy = True
        self._machine.act(SetTimer(("kept",), WRITE_LIMIT))

        def write() -> None:
            self._last = self._write_by_itself()
            end()

        self._machine.sharing.gather(write, LAST_CALL)

    def tell(self, request: Request) -> None:
        """With the first cell after a restart: say what is there again."""
        if self._notice and request.is_execute and not request.content().get("silent"):
            text, self._notice = f"mpkernel: {self._notice}\n", ""
            self._machine.publish("stream", {"name": "stderr", "text": text}, request.output_frame)

    # --- files ------------------------------------------------------------------------------------------------------

    def give_up(self) -> None:
        """The kernel ends: tell those who wait for a file."""
        for job in (*self._asked, *self._jobs.values()):
            if job.answer is not None and not job.given_up:
                job.given_up = True
                job.answer(_reply("the kernel is shutting down", {}))

    def _write_by_itself(self) -> int:
        self._dirty = False
        return self._write(_Job(self.path, [], [], None, self._machine.now))

    def _write(self, job: _Job) -> int:
        """Returns the token by which its end is known. One file is written after the other."""
        components, job.left_out = choose(self._machine.sharing.store.heads())
        job.names = sorted(name for component in components for name in component.names)
        token = self._machine.number()
        self._jobs[token] = job
        self._machine.act(SaveNamespace(token, job.path, components, job.left_out))
        return token

    def on_saved(self, event: NamespaceSaved) -> None:
        """A file is written, or can't be."""
        job = self._jobs.pop(event.token)
        if job.given_up:
            return
        if job.answer is not None:
            content = {"names": job.names, "left_out": job.left_out, "path": job.path, "nbytes": event.nbytes}
            job.answer(_reply(event.error, content))
            return
        if event.error:
            self._machine.act(Log("warning", f"the namespace isn't kept: {event.error}"))
        self._took, self._waits = self._machine.now - job.started, False
        if self.busy:
            if event.token == self._last:
                self._done_for_good()
        elif self._dirty:
            self.changed()

    def _load(self, path: str, answer: Answer | None) -> None:
        token = self._machine.number()
        self._jobs[token] = _Job(path, [], [], answer, self._machine.now)
        self._machine.act(LoadNamespace(token, path, if_there=answer is None))

    def on_loaded(self, event: NamespaceLoaded) -> None:
        """A file was read, or refused."""
        job = self._jobs.pop(event.token)
        if job.given_up:
            return
        names = sorted(name for component in event.components for name in component.names)
        if not event.error and (job.answer is not None or self.loading):
            self._machine.sharing.store.put_back(event.components)
            self.changed()
        if job.answer is not None:
            job.answer(_reply(event.error, {"names": names, "left_out": event.left_out, "saved": event.saved}))
        elif self.loading and event.error:
            self._ready(f"nothing of what was kept is there again: {event.error}")
        elif self.loading:
            self._ready(_notice(names, event) if event.saved else "")

    def _ready(self, notice: str) -> None:
        self.loading, self._notice = False, notice
        self._machine.act(CancelTimer(("kept",)))
        for subshell in list(self._machine.subshells.values()):
            self._machine.dispatch(subshell)

    def _done_for_good(self) -> None:
        self.busy = False
        self._machine.act(CancelTimer(("kept",)))
        self._machine.stop_if_done()


def choose(heads: list[Component]) -> tuple[list[Component], list[list[Any]]]:
    """Of all components those that can be kept, with the names that can; and what is left out: names, and why."""
    kept: list[Component] = []
    left_out: list[list[Any]] = []
    for component in heads:
        if component.names[0].startswith(PROCESS):  # of these processes, not of the notebook
            continue
        if component.kind == HELD:
            left_out.append([list(component.names), "it is large, and its subshell gave no copy of it"])
            continue
        told = component.meta.get("left_out", [])
        stubs = {name for names, _ in told for name in names} | set(component.meta.get("stubs", ()))
        names = tuple(name for name in component.names if name not in stubs)
        if names:
            kept.append(Component(names, component.kind, component.meta, component.blobs))
        for of, why in told:
            whole = [name for name in of if name in component.names]
            if whole:
                left_out.append([whole, why])
            if names:  # what shares objects with it
                left_out.append([list(names), f"may have in it: {why}" if of else f"in it: {why}"])
    return kept, left_out


def _notice(names: list[str], event: NamespaceLoaded) -> str:
    shown = ", ".join(names[:_MANY]) + (", …" if len(names) > _MANY else "")
    text = f"kept over the restart, as of {event.saved}: {len(names)} names" + (f" ({shown})" if names else "")
    return "\n  ".join([text, *(f"not kept: {', '.join(of)} ({why})" for of, why in event.left_out)])


def _reply(error: str, content: dict[str, Any]) -> dict[str, Any]:
    return answers.error(RequestFailed(error)) if error else {"status": "ok", **content}


def _path_of(content: dict[str, Any]) -> str:
    path = content.get("path")
    if not isinstance(path, str) or not os.path.isabs(path) or "\0" in path:
        raise BadMessage(f"the path of a saved namespace must be a text, and absolute, not {path!r}")
    return path
