"""Which names a piece of code can reach: those in it and, transitively, in the functions and classes they name or use.

What a value uses, in whatever way - a dict of functions, a descriptor, a callback deep within - its pickle has told.
Code that reaches names by other ways (`eval`, `globals`, magics) reaches all.
"""

from __future__ import annotations

import builtins
import functools
import threading
import types
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

from mpkernel.namespace import loggers, patches

_REACHES_ALL = frozenset(
    ("eval", "exec", "globals", "locals", "vars", "dir", "get_ipython", "__import__", "setattr", "getattr", "delattr")
)

_FRAMES = {
    types.GeneratorType: ("gi_code", "gi_frame"),
    types.CoroutineType: ("cr_code", "cr_frame"),
    types.AsyncGeneratorType: ("ag_code", "ag_frame"),
}


def reached(
    codes: Iterable[types.CodeType],
    namespace: Mapping[Any, Any],
    used_by: Callable[[str], Iterable[Any]] = lambda _: (),
    quoted: Callable[[types.CodeType], Iterable[str]] = lambda _: (),
) -> set[str] | None:
    """The names that `codes` can reach in `namespace`, and those that aren't there (yet); None for all.

    `used_by` gives the functions and classes that the value of a name is known to use, `quoted` the names that code has
    in texts.
    """
    names: set[str] = set()
    seen: set[int] = set()
    todo = [*codes, *(code for value in patches.stand_ins() for code in _code_of(value))]
    while todo:
        code = todo.pop()
        if id(code) in seen:
            continue
        seen.add(id(code))
        todo.extend(const for const in code.co_consts if isinstance(const, types.CodeType))
        for name in (*code.co_names, *quoted(code)):
            if name in names:
                continue
            if name in _REACHES_ALL:
                return None
            names.add(name)
            if name in namespace:
                variables, handlers = loggers.used(namespace[name])
                todo += [compile(variable, "", "eval") for variable in variables]
                todo += [code for handler in handlers for code in _code_of(handler)]
                todo.extend(_code_of(namespace[name]))
                for used in used_by(name):
                    if id(used) not in seen:
                        seen.add(id(used))
                        todo.extend(_code_of(used))
            elif (builtin := vars(builtins).get(name)) is not None:
                todo.extend(_code_of(builtin))  # of the user's, if it has any
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
        elif kind in (functools.partial, functools.cached_property):
            todo.append(value.func)
        elif kind is functools._lru_cache_wrapper:
            todo.append(value.__wrapped__)
        elif kind in _FRAMES:
            code, frame = (getattr(value, name) for name in _FRAMES[kind])
            yield code
            if frame is not None:  # it isn't over
                todo += frame.f_locals.values()
        elif kind.__module__ == "__main__" or issubclass(kind, type):
            for base in (value if issubclass(kind, type) else kind).__mro__:
                if base.__module__ == "__main__":
                    todo += vars(base).values()
        elif issubclass(kind, threading.Thread):
            todo += vars(value).values()
