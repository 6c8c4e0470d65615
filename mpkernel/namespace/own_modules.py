"""Variables of the notebook's own modules: those in files below the folder in which the kernel works.

A module is imported by each process for itself. What a cell then changes in it (``config.limit = 10``, a registry that
its functions fill) is a facet of the process's state, by module and name. Values go as small pickles, each by itself.
That a module was reloaded is an item as well: who has imported it before does the same.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import types
from contextlib import redirect_stdout, suppress
from typing import Any

from mpkernel.namespace.process_state import GONE, UNTOLD, Facet, Items
from mpkernel.namespace.small import DEFINITIONS, NUMBERS, SmallValues, received

# So many modules are looked at, those first that were imported first.
MAX_MODULES = 30

Key = tuple[str, str]
_MARKS = (*NUMBERS, str, *DEFINITIONS)  # what of names like ``__version__`` is looked at
_NOT_OWN = ("__main__", "__mp_main__", "mpkernel")
_RELOADED = "__spec__"  # of which each load makes a new one


class OwnModules(Facet):
    """What is in them, beside what they define and import."""

    name = "modules"
    _folder = os.devnull

    def __init__(self) -> None:
        with suppress(OSError):  # it was deleted
            self._folder = os.path.join(os.path.realpath(os.getcwd()), "")
        self._known: set[str] = set()  # modules that were looked at
        self._own: list[str] = []
        self._early: Items = {}  # of modules that this process hasn't imported yet
        self._originals: dict[Key, Any] = {}  # functions and classes that others have replaced
        self._values = SmallValues()
        self._specs: dict[str, Any] = {}  # of the modules as they were loaded last
        self._reloads: Items = {}  # what was reloaded since, and when its file was written

    def read(self) -> Items:
        self._look()
        found = dict(self._early)
        for name in self._own:
            if (module := sys.modules.get(name)) is not None:
                self._look_for_reload(name, module)
                for key, value in tuple(vars(module).items()):
                    if key.startswith("__") and not isinstance(value, _MARKS):
                        continue
                    if (told := self._values.told((name, key), value)) is not None:
                        found[name, key] = told
        return found | self._reloads

    def _look_for_reload(self, name: str, module: types.ModuleType) -> None:
        spec = getattr(module, "__spec__", None)
        if self._specs.setdefault(name, spec) is not spec:
            self._specs[name] = spec
            with suppress(OSError):
                self._reloads[name, _RELOADED] = os.stat(str(module.__file__)).st_mtime_ns

    def write(self, items: Items) -> None:
        for key, value in sorted(items.items(), key=lambda item: item[0][1] != _RELOADED):  # before its variables
            if (module := sys.modules.get(key[0])) is None:
                self._early[key] = value
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

    def ran(self, code: types.CodeType) -> None:
        self.arrived()

    def arrived(self) -> None:
        if self._early:
            for key in [key for key in self._early if key[0] in sys.modules]:
                value = self._early.pop(key)
                if key[1] == _RELOADED:
                    self._reloads[key] = value  # it was imported since
                else:
                    self._set(sys.modules[key[0]], key, value)

    def _set(self, module: types.ModuleType, key: Key, value: Any) -> None:
        if value is UNTOLD:
            return
        name = key[1]
        old = vars(module).get(name, GONE)
        if value is GONE:
            value = self._originals.pop(key, GONE)
            if value is GONE:
                vars(module).pop(name, None)
                return
        elif type(value) is not bytes and isinstance(old, DEFINITIONS):
            self._originals.setdefault(key, old)
        setattr(module, name, received(old, value))

    def _look(self) -> None:
        """Find the modules that are the notebook's own among those that were imported since the last look."""
        if len(sys.modules) == len(self._known):
            return
        for name, module in tuple(sys.modules.items()):
            if name not in self._known:
                self._known.add(name)
                if len(self._own) < MAX_MODULES and self.is_own(module):
                    self._own.append(name)
        self._known &= sys.modules.keys()

    def is_own(self, module: types.ModuleType) -> bool:
        """Whether it is in a file below the kernel's folder."""
        name, file = getattr(module, "__name__", ""), getattr(module, "__file__", None)
        if not isinstance(file, str) or not file.endswith(".py") or name.partition(".")[0] in _NOT_OWN:
            return False
        file = os.path.realpath(file)
        installed = any(file.startswith(os.path.join(prefix, "lib")) for prefix in (sys.prefix, sys.base_prefix))
        return file.startswith(self._folder) and not installed and "-packages" + os.sep not in file
