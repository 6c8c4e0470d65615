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
from operator import attrgetter
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
_NUMPY_ERRORS = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}


class _Options(Facet):
    """Of a module, once it is imported."""

    _first: Items | None = None

    def __init__(self, module: str) -> None:
        self._module = module
        self.name = f"options of {module}"

    def read(self) -> Items | None:
        module = sys.modules.get(self._module)
        try:
            return None if module is None else self._of(module)
        except AttributeError:  # half imported
            return None

    def ran(self, code: types.CodeType) -> None:
        if self._first is None:
            self._first = self.read()

    def base(self) -> Items:
        """As it was after the statement that imported the module."""
        return self._first or self.read() or {}

    def write(self, items: Items) -> None:
        module = sys.modules[self._module]
        for key, value in items.items():
            if value is not GONE:
                self._set(module, key, value)

    def _of(self, module: Any) -> Items:
        raise NotImplementedError

    def _set(self, module: Any, key: Any, value: Any) -> None:
        raise NotImplementedError


class Told(_Options):
    """By one function each it says what is set, by another one it is told."""

    def __init__(self, module: str, **setters: str) -> None:
        super().__init__(module)
        self._setters = setters

    def _of(self, module: Any) -> Items:
        return {getter: getattr(module, getter)() for getter in self._setters}

    def _set(self, module: Any, key: Any, value: Any) -> None:
        getattr(module, self._setters[key])(value)


class Attributes(_Options):
    """Of objects in it."""

    def __init__(self, module: str, *paths: str) -> None:
        super().__init__(module)
        self._paths = paths

    def _of(self, module: Any) -> Items:
        return {path: attrgetter(path)(module) for path in self._paths}

    def _set(self, module: Any, key: Any, value: Any) -> None:
        holder, _, name = key.rpartition(".")
        setattr(attrgetter(holder)(module), name, value)


class Table(_Options):
    """A dict, perhaps of dicts."""

    def __init__(self, module: str, name: str) -> None:
        super().__init__(module)
        self._name = name

    def _of(self, module: Any) -> Items:
        return with_own_lists(dict(flat(getattr(module, self._name))))

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


class Registries(_Options):
    """Of plugins, of which one is active: of altair."""

    def __init__(self, module: str, *names: str) -> None:
        super().__init__(module)
        self._names = names

    def _of(self, module: Any) -> Items:
        return {name: (getattr(module, name).active, dict(getattr(module, name).options)) for name in self._names}

    def _set(self, module: Any, key: Any, value: Any) -> None:
        active, options = value
        getattr(module, key).enable(active, **options)


class Notebook(_Options):
    """Whether bokeh shows its plots in the notebook."""

    def _of(self, module: Any) -> Items:
        state = module.curstate()
        return {"": state.notebook_type if state.notebook else None}

    def _set(self, module: Any, key: Any, value: Any) -> None:
        if value is not None:
            module.curstate().output_notebook(value)


class Colormaps(_Options):
    """Those that were registered beside matplotlib's own."""

    def _of(self, module: Any) -> Items:
        own, all_maps = module.colormaps._builtin_cmaps, module.colormaps._cmaps
        return {name: all_maps[name] for name in all_maps.keys() - own} if len(all_maps) > len(own) else {}

    def write(self, items: Items) -> None:
        maps = sys.modules[self._module].colormaps
        for name, value in items.items():
            if value is GONE:
                maps.unregister(name)
            else:
                maps.register(value, name=name, force=True)


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
        Told("socket", getdefaulttimeout="setdefaulttimeout"),
        Told(
            "torch",
            get_default_dtype="set_default_dtype",
            get_float32_matmul_precision="set_float32_matmul_precision",
            are_deterministic_algorithms_enabled="use_deterministic_algorithms",
        ),
        Attributes("plotly.io", "templates.default", "renderers.default"),
        Colormaps("matplotlib"),
        Registries("altair", "data_transformers", "renderers"),
        Notebook("bokeh.io.state"),
        Table("dask.config", "config"),
        Table("xarray.core.options", "OPTIONS"),
    ]
