"""Which names a piece of code can reach: those in it and, transitively, in the functions and classes they name or use.

What a value uses, in whatever way - a dict of functions, a descriptor, a callback deep within - its pickle has told.
Code that reaches names by other ways (`eval`, `globals`, frames, magics) reaches all.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import threading
import types
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain, islice
from types import MappingProxyType
from typing import Any

from mpkernel.namespace import loggers, patches, registries

_BUILTINS = ("eval", "exec", "globals", "locals", "vars", "dir", "__import__", "setattr", "getattr", "delattr")
_ATTRIBUTES = ("f_globals", "f_locals", "__globals__", "user_ns")
_REACHES_ALL = {*_BUILTINS, *_ATTRIBUTES, "get_ipython", "__main__", "breakpoint", "set_trace", "post_mortem"}
_MAX_TEXTS, _MAX_TEXT = 200, 10_000  # so many elements of a value, and characters of each text, are looked at

_CONTAINERS = (list, dict, tuple, set, frozenset)
_FRAMES = {
    types.GeneratorType: ("gi_code", "gi_frame"),
    types.CoroutineType: ("cr_code", "cr_frame"),
    types.AsyncGeneratorType: ("ag_code", "ag_frame"),
}


def reached(
    codes: Iterable[types.CodeType],
    namespace: Mapping[Any, Any],
    used_by: Callable[[str], Iterable[Any]] = lambda _: (),
    quoted: Callable[[str, types.CodeType], Iterable[str]] | None = None,
    named: Mapping[str, Collection[str]] = MappingProxyType({}),
) -> set[str] | None:
    """The names that `codes` can reach in `namespace`, and those that aren't there (yet); None for all.

    `used_by` gives the functions and classes that the value of a name is known to use, `quoted` the names that a text
    may mean: one in code, or in a variable that it names; `named` those that code of a package can reach.
    """
    names: set[str] = set()
    seen: set[int] = set()
    set_by_cells = chain(patches.stand_ins(), registries.registered())
    todo = [*codes, *(code for value in set_by_cells for code in _code_of(value))]
    while todo:
        code = todo.pop()
        if id(code) in seen:
            continue
        seen.add(id(code))
        todo.extend(const for const in code.co_consts if isinstance(const, types.CodeType))
        found = list(code.co_names)
        if quoted is not None:
            found += [name for text in _texts(code.co_consts) for name in quoted(text, code)]
        while found:
            name = found.pop()
            if name in names:
                continue
            if name in _REACHES_ALL:
                return None
            names.add(name)
            if named:
                found += [other for package in _packages(name, namespace) for other in named.get(package, ())]
            if name in namespace:
                if quoted is not None:
                    found += [other for text in _texts(namespace[name]) for other in quoted(text, code)]
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


def _packages(name: str, namespace: Mapping[Any, Any]) -> Iterator[str]:
    """Packages of which code may run when `name` is imported or used."""
    yield name.partition(".")[0]
    value: Any = namespace.get(name)
    if type(value) in _CONTAINERS:
        value = next(iter(value.values() if type(value) is dict else value), None)
    if issubclass(type(value), types.ModuleType):
        yield value.__name__.partition(".")[0]
    elif type(value) is types.FunctionType:
        yield str(value.__module__).partition(".")[0]
    else:
        yield from (str(base.__module__).partition(".")[0] for base in inspect.getmro(_class_of(value)))


def _class_of(value: Any) -> type:
    return value if isinstance(value, type) else type(value)


def _texts(value: Any) -> Iterator[str]:
    """Texts in `value` that may name variables: formulas, queries, annotations."""
    todo = [value]
    for _ in range(_MAX_TEXTS):
        if not todo:
            return
        value = todo.pop()
        kind = type(value)
        if kind is str:
            yield value[:_MAX_TEXT]
        elif kind in (tuple, list, set, frozenset):
            todo += islice(value, _MAX_TEXTS)
        elif kind is dict:
            todo += islice(value.values(), _MAX_TEXTS)
        elif kind is types.FunctionType or issubclass(kind, type):
            with suppress(Exception):  # they are code, from Python 3.14 on
                todo.append(inspect.get_annotations(value))
        elif kind.__module__ == "__main__" and hasattr(value, "__dict__"):
            todo.append(value.__dict__)


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
