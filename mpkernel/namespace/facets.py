"""The facets of process state that subshells share, but for those of the shell itself.

Libraries are never imported for it: who hasn't imported pandas has no options of it.
"""

from __future__ import annotations

import _random
import builtins
import ctypes
import importlib
import logging
import os
import random
import sys
import time
import types
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context
from typing import Any

from mpkernel.namespace import loggers
from mpkernel.namespace.library_options import flat, options_of_libraries, with_own_lists
from mpkernel.namespace.loading import missing_library
from mpkernel.namespace.own_modules import OwnModules
from mpkernel.namespace.patches import Patches
from mpkernel.namespace.process_state import GONE, Facet, Items
from mpkernel.namespace.warning_filters import Warnings

_NUMPY_PRINTS = {
    "suppress": False,
    "legacy": False,
    "edgeitems": 3,
    "threshold": 1000,
    "precision": 8,
    "linewidth": 75,
    "floatmode": "maxprec",
    "nanstr": "nan",
    "infstr": "inf",
    "sign": "-",
}
_NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
_MT19937_BYTES = 625 * 4  # numpy's generator: 624 numbers, and which is the next one


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


class RandomNumbers(Facet):
    name = "random"
    draws = True

    def read(self) -> Items:
        return {"": random.getstate()}

    def mark(self) -> Any:
        """What the generator has in memory, but for what every object has: its numbers, and which is the next one."""
        generator: Any = random._inst
        head = object.__basicsize__
        return generator.gauss_next, ctypes.string_at(id(generator) + head, _random.Random.__basicsize__ - head)

    def write(self, items: Items) -> None:
        random.setstate(items[""])

    def fork(self) -> None:
        random.seed()


class NumpyRandomNumbers(Facet):
    name = "numpy.random"
    draws = True

    def read(self) -> Items | None:
        if (numpy_random := sys.modules.get("numpy.random")) is None or not hasattr(numpy_random, "get_state"):
            return None
        kind, key, *rest = numpy_random.get_state()
        return {"": (kind, key.tobytes(), *rest)}

    def mark(self) -> Any:
        """What the generator has in memory. The second of two normal numbers is drawn already, and kept elsewhere."""
        numpy_random = sys.modules["numpy.random"]
        generator = numpy_random.get_bit_generator()
        if type(generator) is not numpy_random.MT19937 or numpy_random.get_state(legacy=False)["has_gauss"]:
            return None
        return self._memory()

    def is_marked(self, mark: Any) -> bool:
        return bool(mark == self._memory())

    @staticmethod
    def _memory() -> tuple[int, bytes]:
        address = sys.modules["numpy.random"].get_bit_generator().ctypes.state_address
        return address, ctypes.string_at(address, _MT19937_BYTES)

    def prepare(self) -> None:
        if "numpy" in sys.modules:  # whose `random` is imported when it is used
            importlib.import_module("numpy.random")

    def write(self, items: Items) -> None:
        import numpy as np

        kind, key, *rest = items[""]
        np.random.set_state((kind, np.frombuffer(key, dtype=np.uint32), *rest))

    def fork(self) -> None:
        import numpy as np

        np.random.seed()


class TorchRandomNumbers(Facet):
    name = "torch.random"
    draws = True

    def read(self) -> Items | None:
        if (torch := sys.modules.get("torch")) is None or not hasattr(torch, "get_rng_state"):
            return None
        return {"": torch.get_rng_state().numpy().tobytes()}

    def write(self, items: Items) -> None:
        torch = importlib.import_module("torch")
        torch.set_rng_state(torch.frombuffer(bytearray(items[""]), dtype=torch.uint8))

    def fork(self) -> None:
        importlib.import_module("torch").seed()


class PandasOptions(Facet):
    name = "pandas.options"

    def read(self) -> Items | None:
        config = sys.modules.get("pandas._config.config")
        if config is None or "pandas.core.config_init" not in sys.modules:
            return None
        return {".".join(path): value for path, value in flat(config._global_config)}

    def mark(self) -> Any:
        return _copied(sys.modules["pandas._config.config"]._global_config)

    def is_marked(self, mark: Any) -> bool:
        return bool(sys.modules["pandas._config.config"]._global_config == mark)

    def base(self) -> Items:
        config = sys.modules["pandas._config.config"]
        return {key: option.defval for key, option in config._registered_options.items()}

    def write(self, items: Items) -> None:
        pd = importlib.import_module("pandas")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an option that is deprecated
            for key, value in items.items():
                if value is not GONE:
                    pd.set_option(key, value)


def _copied(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value for key, value in tree.items()}


class MatplotlibOptions(Facet):
    """The backend stays: each subshell has its own figures."""

    name = "matplotlib.rcParams"
    _LEFT_OUT = ("backend", "backend_fallback", "interactive")

    def read(self) -> Items | None:
        return self._of("rcParams")

    def base(self) -> Items:
        return self._of("rcParamsOrig") or {}

    def _of(self, which: str) -> Items | None:
        matplotlib = sys.modules.get("matplotlib")
        params = getattr(matplotlib, which, None)
        if params is None:
            return None
        items = dict(dict.items(params))  # without asking for the backend, which would choose one
        for key in self._LEFT_OUT:
            items.pop(key, None)
        return with_own_lists(items)

    def mark(self) -> Any:
        return with_own_lists(dict(dict.items(sys.modules["matplotlib"].rcParams)))

    def is_marked(self, mark: Any) -> bool:
        return dict.__eq__(sys.modules["matplotlib"].rcParams, mark) is True

    def write(self, items: Items) -> None:
        import matplotlib as mpl

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            mpl.rcParams.update({key: value for key, value in items.items() if value is not GONE})


class OfContext(Facet):
    """What libraries keep in context variables: that of the context in which cells run."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def _in_cells(self, call: Callable[..., Any], *args: Any) -> Any:
        try:
            return self._context.run(call, *args)
        except RuntimeError:  # it is entered: by the cell that asks
            return call(*args)


class NumpyOptions(OfContext):
    """How arrays are printed, and what is done about a division by zero and the like."""

    name = "numpy.options"

    def read(self) -> Items | None:
        numpy: Any = sys.modules.get("numpy")
        if not hasattr(numpy, "set_printoptions"):  # half imported
            return None
        return dict(self._in_cells(numpy.get_printoptions)) | dict(self._in_cells(numpy.geterr))

    def base(self) -> Items:
        return dict.fromkeys(self.read() or ()) | _NUMPY_PRINTS | _NUMPY_ERRORS

    def write(self, items: Items) -> None:
        self._in_cells(self._set, items)

    def _set(self, items: Items) -> None:
        import numpy as np

        np.seterr(**{key: value for key, value in items.items() if key in _NUMPY_ERRORS})
        printing = {key: value for key, value in items.items() if key not in _NUMPY_ERRORS}
        np.set_printoptions(**{**np.get_printoptions(), **printing})  # some are reset if they aren't given


class DecimalContext(OfContext):
    """Precision, rounding and traps of decimal numbers."""

    name = "decimal"
    _ATTRIBUTES = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")

    def read(self) -> Items | None:
        decimal: Any = sys.modules.get("decimal")
        return self._of(self._in_cells(decimal.getcontext)) if hasattr(decimal, "getcontext") else None

    def base(self) -> Items:
        return self._of(sys.modules["decimal"].DefaultContext)

    def _of(self, context: Any) -> Items:
        return {name: getattr(context, name) for name in self._ATTRIBUTES} | dict(context.traps)

    def write(self, items: Items) -> None:
        context = self._in_cells(importlib.import_module("decimal").getcontext)
        for key, value in items.items():
            if isinstance(key, str):
                setattr(context, key, value)
            else:
                context.traps[key] = value


class SklearnOptions(Facet):
    """What `sklearn.set_config` sets."""

    name = "sklearn.config"

    def read(self) -> Items | None:
        config: Any = sys.modules.get("sklearn._config")
        return dict(config.get_config()) if hasattr(config, "config_context") else None

    def base(self) -> Items:
        return dict(sys.modules["sklearn._config"]._global_config)

    def write(self, items: Items) -> None:
        importlib.import_module("sklearn").set_config(**items)


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
        PandasOptions(),
        MatplotlibOptions(),
        NumpyOptions(context),
        DecimalContext(context),
        SklearnOptions(),
        *options_of_libraries(),
        Builtins(),
        Logging(),
        modules,
        Patches(names, modules.is_own),
    ]
