"""What cells set libraries to, as far as these keep it in places that can be named.

Those that keep their options otherwise have facets of their own (`facets`).
"""

from __future__ import annotations

import locale
import sys
import types
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from mpkernel.namespace.process_state import GONE, Facet, Items


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


class Locale(Facet):
    name = "locale"

    def read(self) -> Items:
        return {"": locale.setlocale(locale.LC_ALL)}

    def write(self, items: Items) -> None:
        locale.setlocale(locale.LC_ALL, items[""])


def options_of_libraries() -> list[Facet]:
    """One of each."""
    return [
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
