"""The variables of a subshell as debuggers show them while nothing is stopped: a tree, opened level by level."""

from __future__ import annotations

import re
from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

from mpkernel.wire import Json
from mpkernel.worker.dap import import_pydevd

# What each module has, and what IPython puts into its namespace: not the user's.
_MODULES_OWN = frozenset(("__name__", "__doc__", "__package__", "__loader__", "__spec__", "__annotations__"))
_IPYTHONS_OWN = frozenset(
    (
        *("__builtin__", "__builtins__", "__display__", "__session__", "get_ipython", "open", "exit", "quit"),
        *("In", "Out", "_ih", "_oh", "_dh", "_", "__", "___"),
    )
)
_HISTORY = re.compile(r"_\d+|_i\d*|_ii|_iii")


def is_shown(name: str) -> bool:
    """Whether a variable with this name is the user's."""
    return name not in _MODULES_OWN and name not in _IPYTHONS_OWN and not _HISTORY.fullmatch(name)


def users(variables: Iterable[Json]) -> list[Json]:
    """Those of a "variables" response that are the user's."""
    return [variable for variable in variables if is_shown(str(variable.get("name")))]


class Explorer:
    """A tree of `namespace` as it was at the last `look`. Raises DebuggerUnavailable."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self._namespace = namespace
        self._known: dict[int, Any] = {}

    def look(self) -> list[Json]:
        """The variables; references from before are no longer known."""
        import_pydevd()
        from _pydevd_bundle.pydevd_api import PyDevdAPI
        from _pydevd_bundle.pydevd_suspended_frames import _FrameVariable

        self._known = {}
        names = {name: value for name, value in self._namespace.copy().items() if is_shown(name)}
        # What pydevd looks at in a debugger and in a frame of a stopped thread.
        debugger = SimpleNamespace(variable_presentation=PyDevdAPI.VariablePresentation())
        frame = SimpleNamespace(f_code=SimpleNamespace(co_name="<module>"), f_globals=names, f_locals=names)
        return self._children(_FrameVariable(debugger, frame, self._register))

    def children(self, reference: int) -> list[Json]:
        """What is in the variable with this reference. Raises KeyError if there is none."""
        return self._children(self._known[reference])

    def _register(self, variable: Any) -> None:
        self._known[variable.get_variable_reference()] = variable

    def _children(self, variable: Any) -> list[Json]:
        return [child.get_var_data() for child in variable.get_children_variables()]
