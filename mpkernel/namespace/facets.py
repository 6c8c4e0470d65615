"""The facets of process state that subshells share, but for those of the shell itself.

Here are those of the process; those of libraries are in modules of their own, and `all_facets` lists all.
"""

from __future__ import annotations

import builtins
import importlib
import logging
import os
import sys
import time
import types
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from typing import Any

from mpkernel.namespace import loggers
from mpkernel.namespace.library_contents import Contents
from mpkernel.namespace.library_options import options_of_libraries
from mpkernel.namespace.loading import missing_library
from mpkernel.namespace.own_modules import OwnModules
from mpkernel.namespace.patches import Patches, parts_of_the_kernel
from mpkernel.namespace.process_state import GONE, Facet, Items
from mpkernel.namespace.random_streams import NumpyRandomNumbers, RandomNumbers, TorchRandomNumbers
from mpkernel.namespace.registries import registries
from mpkernel.namespace.uses import Places
from mpkernel.namespace.warning_filters import Warnings


class Environment(Facet):
    name = "environ"

    def read(self) -> Items:
        return dict(getattr(os.environ, "_data", os.environ))  # as bytes, without decoding each

    def write(self, items: Items) -> None:
        for key, value in items.items():
            if value is GONE:
                os.environb.pop(key, None)
            else:
                os.environb[key] = value
        if b"TZ" in items:
            time.tzset()


class WorkingDirectory(Facet):
    name = "cwd"
    _last = os.sep

    def read(self) -> Items:
        with suppress(OSError):  # it was deleted, perhaps by another process
            self._last = os.getcwd()
        return {"": self._last}

    def write(self, items: Items) -> None:
        os.chdir(items[""])


class SearchPath(Facet):
    name = "sys.path"

    def read(self) -> Items:
        return {"": list(sys.path)}

    def write(self, items: Items) -> None:
        sys.path[:] = items[""]


class Arguments(Facet):
    """As parsers of command lines read them."""

    name = "sys.argv"

    def read(self) -> Items:
        return {"": tuple(sys.argv)}

    def write(self, items: Items) -> None:
        sys.argv = list(items[""])


class Imports(Facet):
    """Modules within packages: ``import a.b`` binds only ``a``, and yet ``a.b`` is there for all."""

    name = "imports"

    def __init__(self) -> None:
        self._named: dict[str, bool] = {}
        self._new: list[str] = []
        self._later: set[str] = set()  # in libraries that aren't imported here

    def ran(self, code: types.CodeType) -> None:
        self._new += [name for name in code.co_names if "." in name]
        if self._later:
            self._import(lambda package: package in code.co_names)

    def arrived(self) -> None:
        if self._later:
            self._import(lambda _: False)

    def _import(self, wanted: Callable[[str], bool]) -> None:
        """Those in packages that are here, or are `wanted`."""
        for name in list(self._later):
            package = missing_library(name)
            if not package or wanted(package):
                self._later.discard(name)
                with suppress(Exception):
                    importlib.import_module(name)

    def read(self) -> Items:
        self._named |= {name: True for name in self._new if name in sys.modules}
        self._new.clear()
        return dict(self._named)

    def write(self, items: Items) -> None:
        for name, there in items.items():
            if there is True:
                self._named[name] = True
                self._later.add(name)
        self.arrived()


class RecursionLimit(Facet):
    name = "recursion limit"

    def read(self) -> Items:
        return {"": sys.getrecursionlimit()}

    def write(self, items: Items) -> None:
        sys.setrecursionlimit(items[""])


class Builtins(Facet):
    """What was added to the builtins, or replaced there."""

    name = "builtins"
    _LEFT_OUT = ("_", "__", "___", "display", "get_ipython", "exit", "quit")  # IPython sets or hides these as it runs

    def read(self) -> Items:
        found = dict(vars(builtins))
        for key in self._LEFT_OUT:
            found.pop(key, None)
        return found

    def write(self, items: Items) -> None:
        for key, value in items.items():
            if value is GONE:
                vars(builtins).pop(key, None)
            else:
                setattr(builtins, key, value)


class Logging(Facet):
    """Levels of loggers, and those of their handlers that can be made elsewhere."""

    name = "logging"
    _OURS = ("mpkernel", "IPKernelApp", "traitlets")

    def read(self) -> Items:
        found = {}
        for name, logger in loggers.loggers():
            if name.startswith(self._OURS):
                continue
            told = (logger.level, logger.propagate, logger.disabled, tuple(loggers.described(logger.handlers)))
            if told != (0, True, False, ()):
                found[name] = told
        return found

    def write(self, items: Items) -> None:
        for name, told in items.items():
            logger = logging.getLogger(name) if name else logging.root
            level, logger.propagate, logger.disabled, handlers = (0, True, False, ()) if told is GONE else told
            logger.setLevel(level)
            here = {}
            for handler in list(logger.handlers):
                for description in loggers.described([handler]):
                    here[description] = handler
            for description in here.keys() - set(handlers):
                logger.removeHandler(here[description])
            for description in handlers:
                if description not in here:
                    logger.addHandler(loggers.made(*description))


def all_facets(context: Context, names: Mapping[str, Any]) -> list[Facet]:
    """One of each; cells run in `context`, `names` are their variables.

    Those come first of which loading values may need the rest: where modules are found, and how.
    """
    modules = OwnModules(names)
    places = Places(names, modules.is_own)
    parts = parts_of_the_kernel()
    return [
        Environment(),
        WorkingDirectory(),
        SearchPath(),
        Arguments(),
        Imports(),
        Warnings(),
        RecursionLimit(),
        RandomNumbers(),
        NumpyRandomNumbers(),
        TorchRandomNumbers(),
        *registries(names, context),  # before what options say of them
        *options_of_libraries(context),
        Builtins(),
        Logging(),
        modules,
        Patches(places, parts),
        Contents(places, parts),
    ]
