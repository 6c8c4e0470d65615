"""Variables of the notebook's own modules: those in files below the folders in which it works, or looks for modules.

A module is imported by each process for itself. What a cell then changes in it (``config.limit = 10``, a registry that
its functions fill) is a facet of the process's state, by module and name; so are attributes of its classes and
functions. Values go as small pickles, each by itself, or, if one is that of a variable of the notebook, as the name of
that: it stays one object, and is merged as variables are. So are instances within a value that are variables.
That a module was reloaded is an item as well: who has imported it before does the same.

Who imports a module later has it as others have made it before anything is bound to what is in it (`_OnImport`).
"""

from __future__ import annotations

import enum
import importlib
import io
import logging
import os
import sys
import threading
import types
from collections.abc import Collection, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Any

from mpkernel.namespace.changeable import Changeable
from mpkernel.namespace.definitions import is_installed, real_path
from mpkernel.namespace.imported import Imported
from mpkernel.namespace.process_state import GONE, UNTOLD, Facet, Items
from mpkernel.namespace.small import (
    DEFINITIONS,
    NUMBERS,
    SmallValues,
    Variables,
    is_pickle,
    merged,
    received,
    refers_to_variables,
)

log = logging.getLogger("mpkernel.namespace")

# So many modules are looked at, those first that were imported first.
MAX_MODULES = 30

Key = tuple[str, str]
_MARKS = (*NUMBERS, str, *DEFINITIONS)  # what of names like ``__version__`` is looked at
_NOT_OWN = ("__main__", "__mp_main__")
_RELOADED = "__spec__"  # of which each load makes a new one


@dataclass(frozen=True, slots=True)
class Named:
    """What is the value of a variable of the notebook as well, of a class of that name."""

    name: str
    kind: str
    told: Any = field(compare=False)  # the value itself, as it was when this became so


class OwnModules(Facet):
    """What is in them, beside what they define and import. `names` are the notebook's variables."""

    name = "modules"
    live = True
    takes_parts = True

    def __init__(self, names: Mapping[Any, Any]) -> None:
        self._names = names
        self._changeable = Changeable()
        self._named: dict[Key, Named] = {}  # when last looked at
        self._awaited: dict[Key, Named] = {}  # others have it so, but the variable hasn't come yet
        self._postponed: set[Key] = set()  # of `_early`: until variables that are just being taken over are here
        self._coming: dict[Key, Named] = {}  # the values of these variables are just being taken over
        self._library_path = frozenset(sys.path)
        self._places: tuple[str, list[str]] = ("", [])  # working directory and path when last looked at
        self._folders: tuple[str, ...] = ()  # below which own modules are
        self._find_folders()
        self._imported = Imported()
        self._own: list[str] = []
        # Of modules that this process hasn't imported yet, or made of what hasn't come yet.
        self._early: Items = {}
        self._was_set = False  # since `read`
        self._originals: dict[Key, Any] = {}  # functions and classes that others have replaced
        self._values = SmallValues()
        self._first: Items = {}  # values as they were when first looked at
        self._specs: dict[str, Any] = {}  # of the modules as they were loaded last
        self._reloads: Items = {}  # what was reloaded since, and when its file was written

    def read(self) -> Items:
        self._look()
        self._was_set = False
        found: Items = {}
        self._named = {}
        variables: Variables | None = None
        for name in self._own:
            if (module := sys.modules.get(name)) is not None:
                variables = variables or Variables(self._names)
                self._look_for_reload(name, module)
                for path, value in _variables(module):
                    if (told := self._values.told((name, path), value, variables)) is not None:
                        found[name, path] = told
                        self._first.setdefault((name, path), told)
                        if self._is_changeable((name, path), value, told):
                            self._note((name, path), value, told, variables)
        return found | self._named | self._reloads | self._early

    def _is_changeable(self, key: Key, value: Any, told: Any) -> bool:
        """Whether it can be changed in place, and other processes can have it."""
        if is_pickle(told) or (told is UNTOLD and key in self._values.large):
            return self._changeable.is_mutable(type(value))
        return False

    def _note(self, key: Key, value: Any, told: Any, variables: Variables) -> None:
        """If it is the value of a variable, and of which: rather one that is called so."""
        name = key[1] if self._names.get(key[1], GONE) is value else variables.name(value)
        if name is not None:
            self._named[key] = Named(name, type(value).__qualname__, told)

    @property
    def named(self) -> dict[str, set[str]]:
        """By package, the variables of which its modules have the values as well."""
        if self._was_set:
            self.read()
        found: dict[str, set[str]] = {}
        early = {key: value for key, value in self._early.items() if type(value) is Named}
        for (module, _), named in (self._all_named() | early).items():
            found.setdefault(module.partition(".")[0], set()).add(named.name)
        for (module, _), names in self._values.uses.items():  # type: ignore[misc]
            found.setdefault(module.partition(".")[0], set()).update(names)
        return found

    def _all_named(self) -> dict[Key, Named]:
        return self._named | self._awaited

    def counterparts(self, names: Collection[str]) -> dict[str, Any]:
        """What the modules here have that elsewhere is the value of one of `names`."""
        found = {}
        self._coming = {}
        for key, named in self._all_named().items():
            value = _value(sys.modules.get(key[0]), key[1])
            if named.name in names and (key in self._awaited or value is self._names.get(named.name)):
                self._coming[key] = named
                if value is not GONE:
                    found[named.name] = value
        return found

    def delivered(self) -> Collection[Key]:
        """These have come: the modules get the same values. Returns the keys of what was set."""
        waited = self._early.keys() | self._coming.keys()
        self._postponed.clear()
        self.arrived()
        for key, named in self._coming.items():
            if (module := sys.modules.get(key[0])) is not None:
                self._share(module, key, named)
        self._coming = {}
        return waited - self._early.keys()

    def _look_for_reload(self, name: str, module: types.ModuleType) -> None:
        spec = getattr(module, "__spec__", None)
        if self._specs.setdefault(name, spec) is not spec:
            self._specs[name] = spec
            with suppress(OSError):
                self._reloads[name, _RELOADED] = os.stat(str(module.__file__)).st_mtime_ns

    def write(self, items: Items) -> None:
        for key, value in sorted(items.items(), key=_order):
            self._postponed.discard(key)
            if refers_to_variables(value):
                self._postponed.add(key)
            if (module := sys.modules.get(key[0])) is None or key in self._postponed:
                self._early[key] = value
                _OnImport.of(self)
            else:
                self._early.pop(key, None)
                if key[1] == _RELOADED:
                    self._reload(module, key, value)
                else:
                    self._set(module, key, value)

    def _reload(self, module: types.ModuleType, key: Key, value: Any) -> None:
        self._reloads[key] = value
        with redirect_stdout(io.StringIO()):
            self._specs[key[0]] = importlib.reload(module).__spec__

    def merged(self, key: Key, base: Any, mine: Any, theirs: Any) -> Any:
        told: tuple[Any, ...] = (self._first.get(key) if base is GONE else base), mine, theirs
        if not all(map(is_pickle, told)):
            return UNTOLD
        try:
            return self._values.told(key, merged(*told), Variables(self._names))
        except Exception:  # it is made of variables that aren't here
            log.info("%s.%s can't be merged", *key, exc_info=True)
            return UNTOLD

    def ran(self, code: types.CodeType) -> None:
        self._postponed.clear()
        self.arrived()

    def arrived(self) -> None:
        if self._early:
            for name in {name for name, _ in self._early} & sys.modules.keys():
                self.imported(name)

    def awaits(self, name: str) -> bool:
        """Whether others have changed something in a module that isn't imported here."""
        return any(module == name for module, _ in self._early)

    def imported(self, name: str) -> None:
        """That module has been."""
        here = [item for item in self._early.items() if item[0][0] == name and item[0] not in self._postponed]
        for key, value in sorted(here, key=_order):
            del self._early[key]
            if key[1] == _RELOADED:
                self._reloads[key] = value  # it was imported since
            else:
                self._set(sys.modules[name], key, value)

    def _set(self, module: types.ModuleType, key: Key, value: Any) -> None:
        self._was_set = True
        self._awaited.pop(key, None)
        told = value
        if type(value) is Named:
            if self._share(module, key, value):
                return
            self._awaited[key] = value
            told = value.told
        if told is not UNTOLD:
            try:
                self._write(module, key, told)
            except (LookupError, AttributeError):  # it is made of variables that haven't come yet
                self._early[key] = value
            except Exception:
                log.info("%s.%s can't be had from another subshell", *key, exc_info=True)

    def _write(self, module: types.ModuleType, key: Key, told: Any) -> None:
        old = _value(module, key[1])
        if told is GONE:
            told = self._originals.pop(key, GONE)
        elif not is_pickle(told) and isinstance(old, DEFINITIONS):
            self._originals.setdefault(key, old)
        # What is a variable here isn't elsewhere any more: it stays as it is.
        _put(module, key[1], told if told is GONE else received(None if key in self._named else old, told))

    def _share(self, module: types.ModuleType, key: Key, named: Named) -> bool:
        """Have the module hold the value of the variable, if it is here and hasn't been bound to something else."""
        value = self._names.get(named.name, GONE)
        if type(value).__qualname__ != named.kind:
            return False
        if _value(module, key[1]) is not value:
            _put(module, key[1], value)
        self._awaited.pop(key, None)
        self._named[key] = named
        return True

    def _look(self) -> None:
        """Find the modules that are the notebook's own among those that were imported since the last look."""
        if self._find_folders():
            self._imported = Imported()
        for name, module in self._imported.new():
            if name not in self._own and len(self._own) < MAX_MODULES and self.is_own(module):
                self._own.append(name)

    def _find_folders(self) -> bool:
        """Whether the notebook has gone to another folder, or looks for modules in one, where it hasn't before."""
        try:
            places = os.getcwd(), list(sys.path)
            if places == self._places:
                return False
            named = (entry for entry in places[1] if entry not in self._library_path)
            found = [os.path.join(os.path.realpath(str(folder)), "") for folder in (places[0], *named)]
        except (OSError, TypeError, ValueError):  # a folder that was deleted, or that can't be
            return False
        self._places = places
        new = dict.fromkeys(folder for folder in found if not folder.startswith(self._folders))
        self._folders += tuple(new)
        return bool(new)

    def is_own(self, module: types.ModuleType) -> bool:
        """Whether it is in a file below one of these folders."""
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or getattr(module, "__name__", "").partition(".")[0] in _NOT_OWN:
            return False
        return real_path(file).startswith(self._folders) and not is_installed(module)


def _order(item: tuple[Key, Any]) -> int:
    """A module is reloaded first; to make instances may change numbers."""
    (_, name), value = item
    return 0 if name == _RELOADED else 1 if is_pickle(value) or type(value) is Named else 2


class _OnImport(MetaPathFinder):
    """Tells `modules` when one was imported that they await, before anything is bound to what is in it."""

    def __init__(self, modules: OwnModules) -> None:
        self._modules = modules

    @classmethod
    def of(cls, modules: OwnModules) -> None:
        """From now on."""
        if not any(isinstance(finder, cls) and finder._modules is modules for finder in sys.meta_path):
            sys.meta_path.insert(0, cls(modules))

    def find_spec(self, name: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if threading.current_thread() is not threading.main_thread() or not self._modules.awaits(name):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        loader = spec.loader

        def exec_module(module: types.ModuleType) -> None:
            __tracebackhide__ = True  # IPython's word for: this is not the user's
            del loader.exec_module
            loader.exec_module(module)
            self._modules.imported(name)

        loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _variables(module: types.ModuleType) -> Iterator[tuple[str, Any]]:
    """What is in a module, and the attributes of classes and functions that are defined there, as ``Class.name``."""
    for name, value in tuple(vars(module).items()):
        if name.startswith("__") and not isinstance(value, _MARKS):
            continue
        yield name, value
        kind = type(value)
        if kind is not types.FunctionType and not issubclass(kind, type):
            continue
        if value.__module__ == module.__name__ and value.__qualname__ == name and not issubclass(kind, enum.EnumMeta):
            for attribute, held in tuple(vars(value).items()):
                if attribute[:2] != "__" and not hasattr(type(held), "__get__"):
                    yield f"{name}.{attribute}", held


def _holder(module: Any, path: str) -> tuple[Any, str]:
    """The module, or the class or function in it, that has the variable, and how it is called there."""
    outer, dot, name = path.rpartition(".")
    return (vars(module).get(outer) if dot else module), name


def _value(module: Any, path: str) -> Any:
    """GONE if there is no such thing."""
    holder, name = _holder(module, path) if module is not None else (None, "")
    return vars(holder).get(name, GONE) if hasattr(holder, "__dict__") else GONE


def _put(module: types.ModuleType, path: str, value: Any) -> None:
    """GONE deletes it."""
    holder, name = _holder(module, path)
    if holder is None:
        return
    if value is not GONE:
        setattr(holder, name, value)
    elif name in vars(holder):
        delattr(holder, name)
