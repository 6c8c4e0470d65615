"""What ``lazy import`` binds a name to until it is used (since Python 3.15). It travels as a statement."""

from __future__ import annotations

import gc
import types
from typing import Any

_KIND: Any = vars(types).get("LazyImportType")
KINDS: tuple[type, ...] = () if _KIND is None else (_KIND,)


def describe(lazy: Any) -> tuple[str, str]:
    """A statement that makes another like it, importing nothing, and the name that it binds."""
    path = repr(lazy).split("'")[1]
    if all(type(part) is not _KIND for part in gc.get_referents(lazy)):  # a package, perhaps with modules in it
        return f"lazy import {path}", path.split(".")[0]
    package, _, name = path.rpartition(".")
    return f"lazy from {package} import {name}", name


def make(statement: str, name: str) -> Any:
    """Execute that."""
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(statement, names)
    return names[name]
