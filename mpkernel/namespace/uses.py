"""What the notebook's code sets or changes in libraries, read from its bytecode: the names that lead there.

What libraries do by themselves isn't looked at. So it has to be in a statement or a function of the notebook.
"""

from __future__ import annotations

import dis
import functools
import inspect
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

# A module, and what in it: "" for the module itself, else names with dots.
Place = tuple[str, str]
Chain = tuple[str, ...]  # the names that lead from a variable to something

_OPS = frozenset(dis.opmap[name] for name in ("STORE_ATTR", "DELETE_ATTR"))
_CALLS = frozenset(("setattr", "delattr"))
_ITEM_OPS = frozenset(dis.opmap[name] for name in ("STORE_SUBSCR", "DELETE_SUBSCR", "STORE_SLICE") if name in dis.opmap)
_ASSIGNMENTS = _OPS | _ITEM_OPS
_METHODS = frozenset(
    (
        *("append", "appendleft", "extend", "extendleft", "insert", "remove", "pop", "popleft", "clear"),
        *("sort", "reverse", "add", "discard", "update", "setdefault", "popitem"),
    )
)
_NOT_THESE = ("", "__main__", "__mp_main__", "builtins", "sys", "mpkernel", "IPython")


class Uses(NamedTuple):
    """Attributes that may be set, each after the chain to what it is set on; and chains to what may change in place."""

    sets: tuple[tuple[Chain, str], ...]
    changes: tuple[Chain, ...]


class Places:
    """`names` are the notebook's variables; `is_own` tells modules of which the variables are shared anyway."""

    def __init__(self, names: Mapping[str, Any], is_own: Callable[[types.ModuleType], bool]) -> None:
        self._names = names
        self._is_own = is_own

    def at(self, chain: Chain, *kinds: type) -> Place | None:
        """Where others find what the names in `chain` lead to; None if it isn't in a library.

        With `kinds`, None also if it is of another one, and nothing is computed on the way: no module is imported that
        is imported when it is needed. Without, it may raise whatever attributes raise.
        """
        lookup = inspect.getattr_static if kinds else getattr
        found: Any = self._names.get(chain[0])
        module, path = "", list[str]()
        for name in (*chain[1:], None):
            kind = type(found)  # `isinstance` would ask the object
            if issubclass(kind, types.ModuleType):
                module, path = ("" if self._is_own(found) else found.__name__), []
            elif issubclass(kind, type):
                module, path = found.__module__, [found.__qualname__]
            if module.partition(".")[0] in _NOT_THESE:
                return None
            if name is not None:
                found = lookup(found, name, None)
                path.append(name)
        if kinds and type(found) not in kinds:
            return None
        place = module, ".".join(path)
        return place if found_in(*place) is found else None

    def reached(self, code: types.CodeType) -> Iterator[types.CodeType]:
        """`code`, what is defined in it, and the notebook's functions that these name."""
        todo, seen = [code], set[int]()
        while todo:
            code = todo.pop()
            if id(code) in seen:
                continue
            seen.add(id(code))
            yield code
            todo += [const for const in code.co_consts if isinstance(const, types.CodeType)]
            named = map(self._names.get, code.co_names)
            todo += [value.__code__ for value in named if type(value) is types.FunctionType]


def found_in(module: str, path: str) -> Any:
    """What is at a place; None if it isn't there, or the module isn't imported here."""
    found: Any = sys.modules.get(module)
    for name in path.split(".") if path else ():
        try:
            found = getattr(found, name)
        except Exception:
            return None
    return found


def uses(code: types.CodeType) -> Uses:
    """What `code` itself may set, or change in place."""
    called = not _CALLS.isdisjoint(code.co_names)
    if called or not _METHODS.isdisjoint(code.co_names) or not _ASSIGNMENTS.isdisjoint(code.co_code[::2]):
        return _uses(code)
    return Uses((), ())


@functools.lru_cache(maxsize=256)
def _uses(code: types.CodeType) -> Uses:
    called = not _CALLS.isdisjoint(code.co_names)
    assigns = not _ASSIGNMENTS.isdisjoint(code.co_code[::2])
    sets: dict[tuple[Chain, str], None] = {}
    changes: dict[Chain, None] = {}
    chain: Chain = ()
    copied: Chain = ()  # what ``+=`` reads and sets an attribute of
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("EXTENDED_ARG", "CACHE"):
            continue
        name = instruction.argval
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD"):
            chain = chain and (*chain, name)
            continue
        if instruction.opname == "COPY" and chain:
            copied = chain
            continue
        named = instruction.opcode in _OPS or (called and instruction.opname == "LOAD_CONST" and isinstance(name, str))
        if named and (target := chain or copied):
            sets[target, name] = None
        if len(chain) > 2 and chain[-1] in _METHODS:
            changes[chain[:-1]] = None
        elif len(chain) > 1 and assigns:
            changes[chain] = None
        chain = (name,) if instruction.opname in ("LOAD_NAME", "LOAD_GLOBAL") else ()
    return Uses(tuple(sets), tuple(changes))
