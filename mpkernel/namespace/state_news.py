"""What others have made of the process's state, on its way here."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable
from typing import Any

from mpkernel.namespace.component import Component
from mpkernel.namespace.loading import NotImported
from mpkernel.namespace.process_state import ProcessState

log = logging.getLogger("mpkernel.namespace")


class StateNews:
    """Passes it on to `state`. What needs a library waits until that is imported here for another reason: before, it
    makes no difference (a filter for warnings of a class of pandas). `load` is `Exchange.load`."""

    def __init__(self, state: ProcessState, load: Callable[..., dict[str, Any]]) -> None:
        self._state = state
        self._load = load
        self._waiting: dict[str, tuple[set[str], Component]] = {}  # by name: packages, and what needs them

    def receive(self, part: Component, *, imports: bool) -> None:
        (name,) = part.names
        self._waiting.pop(name, None)
        try:
            items = self._load(part, imports=imports)[name]
            self._state.receive(name, items)
        except NotImported as error:
            self._waiting[name] = {error.package}, part
            if self._state.takes_parts(name):
                self._receive_partly(name, part)
        except Exception:
            log.warning("%s can't be had from another subshell", name, exc_info=True)

    def _receive_partly(self, name: str, part: Component) -> None:
        """What doesn't need libraries that aren't here."""
        try:
            lacking, _ = self._waiting[name]
            self._state.receive(name, self._load(part, imports=False, lacking=lacking)[name])
        except Exception:
            log.debug("nothing of %s can be had from another subshell yet", name, exc_info=True)

    def imported(self) -> None:
        """Libraries may have been imported since the last call."""
        for packages, part in list(self._waiting.values()):
            if not sys.modules.keys().isdisjoint(packages):
                self.receive(part, imports=False)

    def before_commit(self) -> None:
        """What has changed here is to be told with what others have changed before."""
        for name, (_, part) in list(self._waiting.items()):
            if self._state.has_changed(name):
                self.receive(part, imports=True)

    def drop(self, names: Iterable[str]) -> None:
        """There is something newer."""
        for name in names:
            self._waiting.pop(name, None)
