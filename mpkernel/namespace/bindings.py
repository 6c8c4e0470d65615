"""What the names of a namespace are bound to, and which of them were bound to something else, or deleted."""

from __future__ import annotations

import dis
import operator
import re
import types
from collections.abc import Collection, Iterable
from itertools import compress, islice
from typing import Any

from mpkernel.namespace.component import PROCESS

# IPython's own names. A user's `_cfg` is not one of them.
_OWN = frozenset(("In", "Out", "exit", "quit", "get_ipython", "open"))
_OWN_UNDERSCORED = re.compile(
    r"_+|_i+|_i?\d+|_ih|_oh|_dh|_exit_code"
    r"|__(name|builtins?|loader|spec|package|file|path|cached|annotate|conditional_annotations|warningregistry)__"
)
_MISSING = object()
_STORES = frozenset((dis.opmap["STORE_NAME"], dis.opmap["STORE_GLOBAL"]))


def is_own(name: str) -> bool:
    """Whether `name` is IPython's or Python's own, or could be mistaken for what is ours, and not the user's."""
    if name[:1] == "_":
        return _OWN_UNDERSCORED.fullmatch(name) is not None
    return name in _OWN or name.startswith(PROCESS)


def names_stored(code: types.CodeType) -> set[str]:
    """The names that `code`, run at top level, itself may bind."""
    names: set[str] = set()
    instructions, argument = code.co_code, 0
    if _STORES.isdisjoint(instructions[::2]):
        return names
    for operation, low in zip(instructions[::2], instructions[1::2], strict=True):
        argument = argument << 8 | low
        if operation == dis.EXTENDED_ARG:
            continue
        if operation in _STORES:
            names.add(code.co_names[argument])
        argument = 0
    return names


class Bindings:
    """Of one namespace, an exact dict in which user code may have keys that are no names.

    `known`: the user's names, and what they were bound to at the last look; it holds the objects alive, but for what is
    lent to code that runs: that sees how many references there are (`sys.getrefcount`, ``ndarray.resize``), and what it
    deletes is gone.
    """

    def __init__(self, namespace: dict[Any, Any]) -> None:
        self.known: dict[str, Any] = {}
        self._namespace = namespace
        self._then: dict[Any, Any] = {}  # all keys at the last look, in order; those in `known` are always there
        self._own: set[Any] = set()  # keys that aren't the user's
        self._lent: dict[str, int] = {}  # by name: the id of the object

    def look(self, only: Collection[str] | None = None) -> tuple[list[str], dict[str, Any]]:
        """The names (of those in `only`) that were deleted since the last look, and those that were bound, with their
        values. Taken for known."""
        deleted, bound = self._all() if only is None else self._some(only)
        self.forget(deleted)
        self.known.update(bound)
        return deleted, bound

    def forget(self, names: Iterable[str]) -> None:
        """`names` are not there any more, or will count as new."""
        for name in names:
            self.known.pop(name, None)
            self._then.pop(name, None)

    def bring_back(self, names: Iterable[str]) -> None:
        """`names` were deleted, and will count as that again."""
        self.take(dict.fromkeys(names, _MISSING))

    def lend(self, names: Iterable[str]) -> None:
        """Until `settle`, hold no reference to what these are bound to.

        A look in between would take them for bound anew.
        """
        for name in names:
            value = self.known[name]
            if value is not _MISSING and value is self._namespace.get(name):
                self._lent[name] = id(value)
                self.known[name] = self._then[name] = _MISSING

    def settle(self) -> list[str]:
        """Hold again what was lent; returns the names that are bound to something else by now, or deleted.

        (If that has the very place in memory, it is as if the object had been changed.)
        """
        gone: list[str] = []
        if not self._lent:
            return gone
        lent, self._lent = self._lent, {}
        for name, key in lent.items():
            value = self._namespace.get(name, _MISSING)
            if id(value) == key:
                self.known[name] = self._then[name] = value
            else:
                gone.append(name)
        return gone

    def let_go(self, names: Iterable[str]) -> dict[str, Any]:
        """Hold no longer what those of `names` were bound to that are bound to something else by now, or deleted.

        Returns that. The next look finds them.
        """
        old = {}
        for name in names:
            value = self.known.get(name, _MISSING)
            if value is not _MISSING and value is not self._namespace.get(name, _MISSING):
                old[name] = value
        self.take(dict.fromkeys(old, _MISSING))
        return old

    def take(self, values: dict[str, Any]) -> None:
        """These are no news."""
        self.known.update(values)
        self._then.update(values)

    def _all(self) -> tuple[list[str], dict[str, Any]]:
        """If no key was deleted, each is where it was: then it takes a fifth of the time to find what is different."""
        now, then = self._namespace.copy(), self._then  # at once: threads may go on
        if _begins_with(now, then):
            different = dict(compress(now.items(), map(operator.is_not, now.values(), then.values())))
            different.update(islice(now.items(), len(then), None))
            deleted: list[str] = []
        else:
            different = now
            deleted = [name for name in self.known if name not in now]
        self._then, known = now, self.known.get
        return deleted, {k: v for k, v in different.items() if known(k, _MISSING) is not v and self._is_users(k)}

    def _some(self, names: Collection[str]) -> tuple[list[str], dict[str, Any]]:
        known, namespace = self.known, self._namespace
        found = {name: namespace.get(name, _MISSING) for name in names}
        deleted = [name for name, value in found.items() if value is _MISSING and name in known]
        bound = {
            name: value
            for name, value in found.items()
            if value is not _MISSING and known.get(name, _MISSING) is not value and self._is_users(name)
        }
        self._then.update(bound)
        return deleted, bound

    def _is_users(self, key: Any) -> bool:
        if key in self._own:
            return False
        if isinstance(key, str) and not is_own(key):
            return True
        self._own.add(key)
        return False


def _begins_with(keys: dict[Any, Any], first: dict[Any, Any]) -> bool:
    """Whether these are the first keys, in the same order."""
    try:
        return list(islice(keys, len(first))) == list(first)
    except Exception:  # a key of the user's that can't be compared
        return False
