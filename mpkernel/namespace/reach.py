"""Which names a piece of code can reach: those in it and, transitively, in the functions and classes they name.

Code that reaches names by other ways (`eval`, `globals`, magics) reaches all.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

_REACHES_ALL = frozenset(
    ("eval", "exec", "globals", "locals", "vars", "get_ipython", "__import__", "setattr", "getattr", "delattr")
)


def reached(codes: Iterable[types.CodeType], namespace: Mapping[Any, Any]) -> set[str] | None:
    """The names that `codes` can reach in `namespace`, and those that aren't there (yet); None for all."""
    names: set[str] = set()
    todo = list(codes)
    while todo:
        code = todo.pop()
        todo.extend(const for const in code.co_consts if isinstance(const, types.CodeType))
        for name in code.co_names:
            if name in names:
                continue
            if name in _REACHES_ALL:
                return None
            names.add(name)
            if name in namespace:
                todo.extend(_code_of(namespace[name]))
    return names


def _code_of(value: Any) -> Iterable[types.CodeType]:
    """The code that calling or using `value` may run, as far as one can see it."""
    todo, seen = [value], set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        kind = type(value)
        if kind is types.FunctionType:
            yield value.__code__
            for cell in value.__closure__ or ():
                with suppress(ValueError):  # it is empty
                    todo.append(cell.cell_contents)
            if wrapped := value.__dict__.get("__wrapped__"):
                todo.append(wrapped)
        elif kind in (types.MethodType, staticmethod, classmethod):
            todo.append(value.__func__)
        elif kind is property:
            todo += (value.fget, value.fset, value.fdel)
        elif kind is functools.partial:
            todo.append(value.func)
        elif kind is functools._lru_cache_wrapper:
            todo.append(value.__wrapped__)
        elif kind.__module__ == "__main__" or issubclass(kind, type):
            for base in (value if issubclass(kind, type) else kind).__mro__:
                if base.__module__ == "__main__":
                    todo += vars(base).values()
