"""Values that travel as small pickles of their own, within items of the process's state: variables of modules, say."""

from __future__ import annotations

import io
import mmap
import pickle
import sys
import threading
import types
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mpkernel.namespace.bindings import is_own
from mpkernel.namespace.bodies import names_in
from mpkernel.namespace.definitions import importable
from mpkernel.namespace.graft import graft
from mpkernel.namespace.merge import merge
from mpkernel.namespace.process_state import UNTOLD
from mpkernel.namespace.stubs import Stub

MAX_BYTES = 64 << 10  # of a value

DEFINITIONS = (type, types.FunctionType, types.BuiltinFunctionType)
NUMBERS = (int, float, complex, bool)
_LOCKS: dict[type, Any] = {type(threading.Lock()): threading.Lock, type(threading.RLock()): threading.RLock}


@dataclass(frozen=True, slots=True)
class Made:
    """A pickle, and the functions and classes of the notebook that are in it but in no variable."""

    data: bytes
    definitions: tuple[Any, ...]


class Variables:
    """The notebook's variables at one moment, by their values."""

    def __init__(self, names: Mapping[Any, Any]) -> None:
        self._names = names

    @cached_property
    def _here(self) -> dict[Any, Any]:
        return dict(self._names)  # at once: threads may go on

    @cached_property
    def _by_id(self) -> dict[int, Any]:
        return dict(zip(map(id, reversed(self._here.values())), reversed(self._here), strict=True))

    def name(self, value: Any) -> str | None:
        """The name of one that has this value."""
        name = self._by_id.get(id(value))
        if name is not None and not _is_name(name):  # IPython's _, Out or the like; the variable may come later
            name = next((name for name, other in self._here.items() if other is value and _is_name(name)), None)
        return name


def _is_name(key: Any) -> bool:
    return isinstance(key, str) and not is_own(key)


def is_pickle(told: Any) -> bool:
    """Whether what was told has to be loaded."""
    return type(told) in (bytes, Made)


class SmallValues:
    """By the place where they are."""

    def __init__(self) -> None:
        self._refused: dict[Hashable, int] = {}  # by place, ids of values that can't be told
        self.large: set[Hashable] = set()  # places of those that can't be told as they are too large
        self.uses: dict[Hashable, set[str]] = {}  # by place, variables of which the values are within what was told
        # A file that takes no more, so that what is large isn't pickled to its end: no Python is run to write to it.
        self._file = mmap.mmap(-1, MAX_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._pickler = _Pickler(self._file)
        self._lock = threading.RLock()

    def told(self, place: Hashable, value: Any, variables: Variables | None = None) -> Any:
        """A value as it travels: as a pickle, but for numbers and text; UNTOLD if it can't, or is large.

        None for what each process has by itself. Instances within it that are the values of `variables` go as names.
        """
        kind = type(value)
        if issubclass(kind, DEFINITIONS):
            return value if getattr(value, "__module__", None) == "__main__" else None
        if kind in NUMBERS:
            return value
        if kind is str:
            return value if len(value) < MAX_BYTES else UNTOLD
        if issubclass(kind, types.ModuleType):
            return None
        if self._refused.get(place) == id(value):
            return UNTOLD
        with self._lock:
            return self._pickled(place, value, variables)

    def _pickled(self, place: Hashable, value: Any, variables: Variables | None) -> Any:
        self.large.discard(place)
        self._file.seek(0)
        try:
            used, definitions = self._pickler.pickle(value, variables)
        except Exception as error:
            if type(error) is ValueError:  # the file is full
                self.large.add(place)
            if not isinstance(error, RuntimeError):  # another thread has just changed it
                self._refused[place] = id(value)
            return UNTOLD
        if used or place in self.uses:
            self.uses[place] = used
        data = self._file[: self._file.tell()]
        return Made(data, definitions) if definitions else data


class _Pickler(pickle.Pickler):
    """What is in a variable goes as its name, but for the value itself; a lock is another one elsewhere."""

    def __init__(self, file: Any) -> None:
        super().__init__(file, protocol=5)
        self._variables: Variables | None = None
        self._value: Any = None
        self._used: set[str] = set()
        self._definitions: list[Any] = []

    def pickle(self, value: Any, variables: Variables | None) -> tuple[set[str], tuple[Any, ...]]:
        """Returns the names of variables that are in it, or that its functions use, and definitions in it."""
        self._variables, self._value, self._used, self._definitions = variables, value, set(), []
        try:
            self.dump(value)
            return self._used, tuple(self._definitions)
        finally:
            self._variables, self._value, self._definitions = None, None, []
            self.clear_memo()

    def reducer_override(self, obj: Any) -> Any:
        if (lock := _LOCKS.get(type(obj))) is not None:
            return lock, ()
        if self._variables is None or obj is self._value:
            return NotImplemented
        is_definition = isinstance(obj, (type, types.FunctionType))
        if is_definition and obj.__module__ != "__main__" and importable(obj):
            return NotImplemented
        if (name := self._variables.name(obj)) is not None:
            self._used.add(name)
            return variable, (name,)
        if not is_definition:
            return NotImplemented
        self._definitions.append(obj)
        if isinstance(obj, types.FunctionType):
            self._used |= names_in(obj.__code__)
        return definition, (len(self._definitions) - 1,)


class _Unpickler(pickle.Unpickler):
    """Notes the values of variables that it meets."""

    def __init__(self, told: bytes | Made) -> None:
        made = told if isinstance(told, Made) else Made(told, ())
        super().__init__(io.BytesIO(made.data))
        self.found: set[int] = set()  # their ids
        self._definitions = made.definitions
        self._words = {variable.__name__: self._variable, definition.__name__: self._definition}

    def find_class(self, module: str, name: str) -> Any:
        return (module == __name__ and self._words.get(name)) or super().find_class(module, name)

    def _definition(self, number: int) -> Any:
        found = self._definitions[number]
        if type(found) is Stub:  # it needs a library that isn't here
            raise LookupError(number)
        return found

    def _variable(self, name: str) -> Any:
        value = variable(name)
        self.found.add(id(value))
        return value


def variable(name: str) -> Any:
    """The value of a variable of the notebook. Raises LookupError if it isn't here."""
    value = vars(sys.modules["__main__"])[name]
    if type(value) is Stub:
        raise LookupError(name)
    return value


def refers_to_variables(told: Any) -> bool:
    """Whether it is to be loaded when the variables are as they were where it was told."""
    data = told.data if type(told) is Made else told
    return type(data) is bytes and variable.__module__.encode() in data and b"variable" in data


def definition(number: int) -> Any:
    """Of those that travel beside the pickle: known to what loads it."""
    raise LookupError(number)


def received(old: Any, told: Any) -> Any:
    """What is to take the place of `old`, when this was told of it: the old object with another content, if it can.

    Raises whatever loading it raises.
    """
    if not is_pickle(told):
        return told
    unpickler = _Unpickler(told)
    new = unpickler.load()
    return graft({"": old}, {"": new}, keep=lambda obj: id(obj) in unpickler.found)[""]


def merged(base: bytes | Made, mine: bytes | Made, theirs: bytes | Made) -> Any:
    """A new value with what both sides have changed; of the same thing, mine. Raises whatever loading them raises."""
    copies = [_Unpickler(told) for told in (base, mine, mine, theirs)]
    base_copy, live, frozen, their_copy = ({"": copy.load()} for copy in copies)
    variables = set().union(*(copy.found for copy in copies))
    return merge(base_copy, live, their_copy, frozen, keep=lambda obj: id(obj) in variables).values[""]
