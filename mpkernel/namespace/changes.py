"""What a cell changed: names that were rebound or deleted, and values that were mutated in place.

Rebinding is an identity diff against a shallow snapshot. Mutation is found by comparing fingerprints (a hash of the
pickle) of the values that the cell could reach: names in its code and, transitively, in the code of the functions and
classes they name. Code that reaches names by other ways (`eval`, `globals`, magics) means all names; so does a
namespace that is cheap to check as a whole.
"""

from __future__ import annotations

import pickle
import re
import time
import types
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import xxhash

from mpkernel.namespace import pickling

# Check every value if that is expected to take no longer than this (seconds).
CHECK_ALL_BUDGET = 0.01

# IPython's own names. A user's `_cfg` is not one of them.
_OWN = frozenset(("In", "Out", "exit", "quit", "get_ipython", "open"))
_OWN_UNDERSCORED = re.compile(r"_+|_i+|_i?\d+|_ih|_oh|_dh|_exit_code|__\w+__")
_ATOMS = (int, float, complex, str, bytes, bool, type(None), type(Ellipsis), types.ModuleType, range)
_REACHES_ALL = {
    "eval",
    "exec",
    "globals",
    "locals",
    "vars",
    "get_ipython",
    "__import__",
    "setattr",
    "getattr",
    "delattr",
}


def is_own(name: str) -> bool:
    """Whether `name` is IPython's or Python's own, not the user's."""
    return name in _OWN or (name[:1] == "_" and _OWN_UNDERSCORED.fullmatch(name) is not None)


@dataclass(slots=True)
class Fingerprint:
    digest: bytes | None  # None: can't be pickled
    seconds: float


@dataclass(slots=True)
class Changes:
    """What `Tracker.collect` found."""

    changed: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)


class Tracker:
    """Watches one namespace, an exact dict."""

    def __init__(self, namespace: dict[Any, Any]) -> None:
        self._namespace = namespace  # user code may put in keys that are no names
        self._base: dict[str, Any] = {}  # what each name was bound to when last looked at; holds the objects alive
        self._prints: dict[str, Fingerprint] = {}
        self._ran: list[types.CodeType] = []
        self.rebase()

    def rebase(self) -> None:
        """Take the namespace as it is for unchanged."""
        self._base = self._user_names()
        values = self._base.items()
        self._prints = {name: self._fingerprint(value) for name, value in values if not isinstance(value, _ATOMS)}

    def _user_names(self) -> dict[str, Any]:
        while True:
            try:
                return {k: v for k, v in self._namespace.items() if isinstance(k, str) and not is_own(k)}
            except RuntimeError:  # a thread added a name meanwhile
                continue

    def ran(self, code: types.CodeType) -> None:
        """Note that `code` was run at top level."""
        self._ran.append(code)

    def received(self, name: str, value: Any, *, deleted: bool = False) -> None:
        """A value that came from elsewhere is not a change of ours."""
        self._prints.pop(name, None)
        if deleted:
            self._base.pop(name, None)
            return
        self._base[name] = value
        if not isinstance(value, _ATOMS):
            self._prints[name] = self._fingerprint(value)

    def collect(self, *, mutations: bool = True) -> Changes:
        """What has changed since the last call, taken for known; without `mutations`: rebound and deleted names."""
        now, base = self._user_names(), self._base
        changes = Changes(deleted=[name for name in base if name not in now])
        for name in changes.deleted:
            self._prints.pop(name, None)
        reached = self._reached(now) if mutations else set()
        for name, value in now.items():
            rebound = base.get(name, self) is not value
            if isinstance(value, _ATOMS):
                if rebound:
                    self._prints.pop(name, None)
                    changes.changed.append(name)
            elif rebound or reached is None or name in reached:
                fresh, old = self._fingerprint(value), self._prints.get(name)
                self._prints[name] = fresh
                if rebound or old is None or old.digest != fresh.digest:
                    changes.changed.append(name)
        self._base = now
        if mutations:
            self._ran.clear()
        return changes

    def _fingerprint(self, value: Any) -> Fingerprint:
        start = time.perf_counter()
        try:
            buffers: list[pickle.PickleBuffer] = []
            digest = xxhash.xxh3_128(pickling.dumps(value, self._namespace, buffers))
            for buffer in buffers:
                digest.update(buffer.raw())
            return Fingerprint(digest.digest(), time.perf_counter() - start)
        except Exception:
            return Fingerprint(None, time.perf_counter() - start)

    def _reached(self, now: dict[str, Any]) -> set[str] | None:
        """Names whose values the code that ran can have changed; None for all."""
        if sum(known.seconds for known in self._prints.values()) <= CHECK_ALL_BUDGET:
            return None
        reached: set[str] = set()
        todo: list[types.CodeType] = list(self._ran)
        while todo:
            code = todo.pop()
            todo.extend(const for const in code.co_consts if isinstance(const, types.CodeType))
            for name in code.co_names:
                if name in _REACHES_ALL:
                    return None
                if name not in reached and name in now:
                    reached.add(name)
                    todo.extend(_code_of(now[name]))
        return reached


def _code_of(value: Any) -> Iterable[types.CodeType]:
    """The code that calling or using `value` may run, as far as one can see it."""
    todo, seen = [value], set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, types.FunctionType):
            yield value.__code__
            for cell in value.__closure__ or ():
                with suppress(ValueError):  # it is empty
                    todo.append(cell.cell_contents)
        elif isinstance(value, (types.MethodType, staticmethod, classmethod)):
            todo.append(value.__func__)
        elif isinstance(value, property):
            todo += (value.fget, value.fset, value.fdel)
        else:
            kind = value if isinstance(value, type) else type(value)
            for base in kind.__mro__:
                if base.__module__ == "__main__":
                    todo += vars(base).values()
