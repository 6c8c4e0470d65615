"""What cells set libraries to, and modules of the standard library that are used like those.

Libraries are never imported for it: who hasn't imported pandas has no options of it.
"""

from __future__ import annotations

import importlib
import locale
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from contextvars import Context
from operator import attrgetter, methodcaller
from typing import Any

from mpkernel.namespace.process_state import GONE, Facet, Items

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
_TORCH_PRINTS = ("precision", "threshold", "edgeitems", "linewidth", "sci_mode")
_NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


class OfModule(Facet):
    """What is in a module, once it is imported. `parts` say what of it."""

    def __init__(self, module: str, *parts: str) -> None:
        self._module = self.library = module
        self.name = " ".join(("what is in", module, *parts))

    def read(self) -> Items | None:
        module = sys.modules.get(self._module)
        try:
            return None if module is None else self._of(module)
        except AttributeError:  # half imported
            return None

    def write(self, items: Items) -> None:
        module = sys.modules[self._module]
        for key, value in items.items():
            if value is GONE:
                self._delete(module, key)
            else:
                self._set(module, key, value)

    def _of(self, module: Any) -> Items:
        raise NotImplementedError

    def _set(self, module: Any, key: Any, value: Any) -> None:
        raise NotImplementedError

    def _delete(self, module: Any, key: Any) -> None:
        """Unless it stays."""


class Options(OfModule):
    """Which have values from the beginning."""

    _first: Items | None = None

    def ran(self, code: types.CodeType) -> None:
        if self._first is None:
            self._first = self.read()

    def base(self) -> Items:
        """As it was after the statement that imported the module."""
        return self._first or self.read() or {}


class Methods(Options):
    """By one function each it is asked what is set, by another one it is told."""

    def __init__(self, module: str, **methods: tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]) -> None:
        super().__init__(module, *methods)
        self._methods = methods

    def _of(self, module: Any) -> Items:
        return {name: get(module) for name, (get, _) in self._methods.items()}

    def _set(self, module: Any, key: Any, value: Any) -> None:
        self._methods[key][1](module, value)


class Told(Methods):
    """By functions of the module, of which the names are given: what says it, and what is told it."""

    def __init__(self, module: str, **setters: str) -> None:
        super().__init__(module, **{getter: (methodcaller(getter), _teller(name)) for getter, name in setters.items()})


def _teller(name: str) -> Callable[[Any, Any], Any]:
    return lambda module, value: getattr(module, name)(value)


class Attributes(Options):
    """Of objects in it."""

    def __init__(self, module: str, *paths: str) -> None:
        super().__init__(module, *paths)
        self._paths = paths

    def _of(self, module: Any) -> Items:
        return {path: attrgetter(path)(module) for path in self._paths}

    def _set(self, module: Any, key: Any, value: Any) -> None:
        holder, _, name = key.rpartition(".")
        setattr(attrgetter(holder)(module) if holder else module, name, value)


class Table(Options):
    """A dict, perhaps of dicts."""

    def __init__(self, module: str, name: str) -> None:
        super().__init__(module, name)
        self._name = name

    def _of(self, module: Any) -> Items:
        return with_own_lists(dict(flat(getattr(module, self._name))))

    def mark(self) -> Any:
        return _copied(getattr(sys.modules[self._module], self._name))

    def is_marked(self, mark: Any) -> bool:
        return bool(getattr(sys.modules[self._module], self._name) == mark)

    def _set(self, module: Any, key: Any, value: Any) -> None:
        table = getattr(module, self._name)
        for part in key[:-1]:
            table = table.setdefault(part, {})
        table[key[-1]] = value


def flat(table: dict[Any, Any], path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """The values of a dict of dicts, with the keys that lead to each."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, (*path, key))
        else:
            yield (*path, key), value


def with_own_lists(items: Items) -> Items:
    """Copies of the lists: those of a library are changed in place."""
    return {key: list(value) if type(value) is list else value for key, value in items.items()}


class Registries(Options):
    """Of plugins, of which one is active: of altair."""

    def __init__(self, module: str, *names: str) -> None:
        super().__init__(module, *names)
        self._names = names

    def _of(self, module: Any) -> Items:
        return {name: (getattr(module, name).active, dict(getattr(module, name).options)) for name in self._names}

    def _set(self, module: Any, key: Any, value: Any) -> None:
        active, options = value
        getattr(module, key).enable(active, **options)


class Notebook(Options):
    """Whether bokeh shows its plots in the notebook."""

    def _of(self, module: Any) -> Items:
        state = module.curstate()
        return {"": state.notebook_type if state.notebook else None}

    def _set(self, module: Any, key: Any, value: Any) -> None:
        if value is not None:
            module.curstate().output_notebook(value)


class Polars(Options):
    """What isn't in the environment."""

    def _of(self, module: Any) -> Items:
        return {name: value for name, value in module.Config.state().items() if name.startswith("set_")}

    def _set(self, module: Any, key: Any, value: Any) -> None:
        getattr(module.Config, key)(value)


class PandasOptions(Facet):
    name = "pandas.options"
    library = "pandas"

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


def _copied(value: Any) -> Any:
    """With copies of the dicts and lists in it."""
    if isinstance(value, dict):
        return {key: _copied(part) for key, part in value.items()}
    return list(value) if type(value) is list else value


class MatplotlibOptions(Facet):
    """The backend stays: each subshell has its own figures."""

    name = "matplotlib.rcParams"
    library = "matplotlib"
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


class SklearnOptions(Facet):
    """What `sklearn.set_config` sets."""

    name = "sklearn.config"
    library = "sklearn._config"

    def read(self) -> Items | None:
        config: Any = sys.modules.get("sklearn._config")
        return dict(config.get_config()) if hasattr(config, "config_context") else None

    def base(self) -> Items:
        return dict(sys.modules["sklearn._config"]._global_config)

    def write(self, items: Items) -> None:
        importlib.import_module("sklearn").set_config(**items)


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
    library = "numpy"

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

    name = library = "decimal"
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


def _headers_of_opener(module: Any) -> Any:
    return None if module._opener is None else list(module._opener.addheaders)


def _install_opener(module: Any, headers: Any) -> None:
    """One with these headers; what handles passwords, cookies and the like stays where it was made."""
    opener = module.build_opener()
    opener.addheaders = headers or []
    module.install_opener(opener if headers is not None else None)


class Locale(Facet):
    name = "locale"

    def read(self) -> Items:
        return {"": locale.setlocale(locale.LC_ALL)}

    def write(self, items: Items) -> None:
        locale.setlocale(locale.LC_ALL, items[""])


def options_of_libraries(context: Context) -> list[Facet]:
    """One of each; cells run in `context`."""
    return [
        PandasOptions(),
        MatplotlibOptions(),
        NumpyOptions(context),
        DecimalContext(context),
        SklearnOptions(),
        Locale(),
        Told("sys", get_int_max_str_digits="set_int_max_str_digits", getswitchinterval="setswitchinterval"),
        Told("socket", getdefaulttimeout="setdefaulttimeout"),
        Methods("logging", disabled=(lambda m: m.root.manager.disable, lambda m, level: m.disable(level))),
        Table("logging", "_levelToName"),
        Table("logging", "_nameToLevel"),
        Table("xml.etree.ElementTree", "_namespace_map"),
        Methods("urllib.request", headers=(_headers_of_opener, _install_opener)),
        Methods(
            "multiprocessing",
            start_method=(
                lambda m: m.get_start_method(allow_none=True),
                lambda m, method: m.set_start_method(method, force=True),
            ),
        ),
        Told(
            "torch",
            get_default_dtype="set_default_dtype",
            get_float32_matmul_precision="set_float32_matmul_precision",
            are_deterministic_algorithms_enabled="use_deterministic_algorithms",
        ),
        Told("torch", get_num_threads="set_num_threads"),
        Attributes("torch._tensor_str", *(f"PRINT_OPTS.{name}" for name in _TORCH_PRINTS)),
        Polars("polars"),
        Attributes("plotly.io", "templates.default", "renderers.default"),
        Registries("altair", "data_transformers", "renderers"),
        Registries("altair", "theme"),
        Notebook("bokeh.io.state"),
        Table("dask.config", "config"),
        Table("xarray.core.options", "OPTIONS"),
    ]
