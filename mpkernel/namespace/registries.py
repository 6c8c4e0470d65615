"""What cells register in libraries: entries of tables, by which code of the libraries finds what is of the notebook.

Libraries register things, too, as they are imported: each process does that for itself.
"""

from __future__ import annotations

import abc
import asyncio
import codecs
import importlib
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from operator import attrgetter
from typing import Any

from mpkernel.namespace.library_options import OfContext, OfModule, Options
from mpkernel.namespace.process_state import GONE, Facet, Items

_OURS = ("__main__", "builtins")  # where entries of the notebook are from: `sqlite3.register_adapter(numpy.int64, int)`
_DIALECTS = ("excel", "excel-tab", "unix")  # Python's own
_DIALECT = (
    *("delimiter", "doublequote", "escapechar", "lineterminator"),
    *("quotechar", "quoting", "skipinitialspace", "strict"),
)
_NESTERS = ("nest_asyncio", "nest_asyncio2")

_called: dict[str, tuple[Any, ...]] = {}  # by facet, what it has


def registered() -> Iterator[Any]:
    """What cells have registered: code of libraries may call it."""
    return chain.from_iterable(_called.values())


def may_call(facet: str, values: Iterable[Any]) -> None:
    """This is what is registered by now, of one kind."""
    _called[facet] = tuple(values)


def _is_of_the_notebook(value: Any) -> bool:
    return getattr(value, "__module__", None) in _OURS


class _Registry(OfModule):
    """What a library has been told of things that are called."""

    def read(self) -> Items | None:
        found = super().read()
        may_call(self.name, (found or {}).values())
        return found


class Entries(_Registry):
    """Of dicts in a module."""

    def __init__(self, module: str, *paths: str) -> None:
        super().__init__(module, *paths)
        self._paths = paths

    def _of(self, module: Any) -> Items:
        return {
            (path, key): value
            for path in self._paths
            for key, value in attrgetter(path)(module).copy().items()
            if _is_of_the_notebook(value)
        }

    def _set(self, module: Any, key: Any, value: Any) -> None:
        path, key = key
        attrgetter(path)(module)[key] = value

    def mark(self) -> Any:
        module = sys.modules[self._module]
        return [list(attrgetter(path)(module).values()) for path in self._paths]

    def _delete(self, module: Any, key: Any) -> None:
        path, key = key
        attrgetter(path)(module).pop(key, None)


class VirtualSubclasses(Facet):
    """Classes of the notebook that abstract classes of libraries were told of: ``Sequence.register(Mine)``."""

    name = "virtual subclasses"

    def __init__(self, names: Mapping[str, Any]) -> None:
        self._names = names
        self._bases: dict[tuple[str, str], Any] = {}

    def ran(self, code: types.CodeType) -> None:
        if "register" in code.co_names:
            found = [self._names.get(name) for name in code.co_names]
            for _ in range(2):  # ``collections.abc.Sequence``
                modules = [value for value in found if isinstance(value, types.ModuleType)]
                found += [vars(module).get(name) for module in modules for name in code.co_names]
            for value in found:
                if isinstance(value, abc.ABCMeta) and value.__module__ != "__main__":
                    self._bases[value.__module__, value.__qualname__] = value

    def read(self) -> Items:
        return {key: told for key, base in self._bases.items() if (told := self._told_to(base))}

    def _told_to(self, base: Any) -> tuple[type, ...]:
        classes = [ref() for ref in abc._get_dump(base)[0]]  # type: ignore[attr-defined]
        ours = [cls for cls in classes if cls is not None and cls.__module__ == "__main__"]
        return tuple(sorted(ours, key=attrgetter("__qualname__")))

    def write(self, items: Items) -> None:
        for key, classes in items.items():
            if classes is not GONE:
                base = self._bases[key] = attrgetter(key[1])(importlib.import_module(key[0]))
                for cls in classes:
                    base.register(cls)


class ErrorHandlers(Facet):
    """Of codecs. They can't be listed: what is looked up are the texts in code that registers one."""

    name = "error handlers of codecs"

    def __init__(self) -> None:
        self._names: set[str] = set()

    def ran(self, code: types.CodeType) -> None:
        if "register_error" in code.co_names:
            self._names.update(const for const in code.co_consts if type(const) is str)

    def read(self) -> Items:
        found = {}
        for name in self._names:
            with suppress(LookupError):
                if _is_of_the_notebook(handler := codecs.lookup_error(name)):
                    found[name] = handler
        may_call(self.name, found.values())
        return found

    def write(self, items: Items) -> None:
        for name, handler in items.items():
            if handler is not GONE:
                self._names.add(name)
                codecs.register_error(name, handler)


class Dialects(OfModule):
    """Of files with comma-separated values, by their attributes."""

    def _of(self, module: Any) -> Items:
        return {
            name: {attribute: getattr(module.get_dialect(name), attribute) for attribute in _DIALECT}
            for name in module.list_dialects()
            if name not in _DIALECTS
        }

    def _set(self, module: Any, key: Any, value: Any) -> None:
        module.register_dialect(key, **value)

    def _delete(self, module: Any, key: Any) -> None:
        with suppress(module.Error):  # it is gone
            module.unregister_dialect(key)


class Colormaps(OfModule):
    """Those that were registered beside matplotlib's own."""

    def _of(self, module: Any) -> Items:
        own, all_maps = module.colormaps._builtin_cmaps, module.colormaps._cmaps
        return {name: all_maps[name] for name in all_maps.keys() - own} if len(all_maps) > len(own) else {}

    def _set(self, module: Any, key: Any, value: Any) -> None:
        module.colormaps.register(value, name=key, force=True)

    def _delete(self, module: Any, key: Any) -> None:
        module.colormaps.unregister(key)


class Fonts(Options):
    """Files of fonts that matplotlib was told of."""

    def mark(self) -> Any:
        return len(sys.modules[self._module].fontManager.ttflist)

    def _of(self, module: Any) -> Items:
        return dict.fromkeys((font.fname for font in module.fontManager.ttflist), True)

    def _set(self, module: Any, key: Any, value: Any) -> None:
        module.fontManager.addfont(key)


class Templates(OfModule):
    """Of plotly's figures, beside its own."""

    _own: frozenset[str] | None = None

    def ran(self, code: types.CodeType) -> None:
        if self._own is None:
            self.read()

    def _of(self, module: Any) -> Items:
        templates = module.templates._templates
        if self._own is None:
            self._own = frozenset(templates)
        return {name: templates[name] for name in templates.keys() - self._own}

    def _set(self, module: Any, key: Any, value: Any) -> None:
        module.templates[key] = value

    def _delete(self, module: Any, key: Any) -> None:
        module.templates._templates.pop(key, None)


class ProgressBars(OfModule):
    """What `tqdm.pandas` was called with, by the class of the bars: it adds methods to pandas' classes."""

    def _of(self, module: Any) -> Items:
        method = vars(module.Series).get("progress_apply")
        if method is None:
            return {}
        within = dict(zip(method.__code__.co_freevars, method.__closure__ or (), strict=True))
        if not within.keys() >= {"cls", "tqdm_kwargs"}:  # another library's, or another tqdm's
            return {}
        bars, arguments = within["cls"].cell_contents, within["tqdm_kwargs"].cell_contents
        return {"": (bars.__module__, bars.__qualname__, dict(arguments))}

    def _set(self, module: Any, key: Any, value: Any) -> None:
        library, name, arguments = value
        attrgetter(name)(importlib.import_module(library)).pandas(**arguments)


class NestedLoops(Facet):
    """Whether asyncio has been patched so that a loop may be run within another one, and by which library."""

    name = "nested event loops"

    def read(self) -> Items:
        return {name: True for name in _NESTERS if name in sys.modules and hasattr(asyncio, "_nest_patched")}

    def write(self, items: Items) -> None:
        for name, patched in items.items():
            if patched is True and not hasattr(asyncio, "_nest_patched"):
                importlib.import_module(name).apply()


class ErrorCall(OfContext):
    """What numpy calls in case of a division by zero and the like."""

    name = "numpy.errcall"
    library = "numpy"

    def read(self) -> Items | None:
        numpy: Any = sys.modules.get("numpy")
        if not hasattr(numpy, "geterrcall"):
            return None
        call = self._in_cells(numpy.geterrcall)
        may_call(self.name, [call])
        return {"": call}

    def base(self) -> Items:
        return {"": None}

    def write(self, items: Items) -> None:
        self._in_cells(sys.modules["numpy"].seterrcall, items[""])


def registries(names: Mapping[str, Any], context: Any) -> list[Facet]:
    """One of each; `names` are the notebook's variables, cells run in `context`."""
    return [
        Entries("copyreg", "dispatch_table"),
        Entries("sqlite3", "adapters", "converters"),
        Entries("matplotlib.units", "registry"),
        Entries("matplotlib.scale", "_scale_mapping"),
        Entries("matplotlib.projections", "projection_registry._all_projection_types"),
        Entries(
            "yaml",
            *("SafeLoader.yaml_constructors", "FullLoader.yaml_constructors", "Loader.yaml_constructors"),
            *("SafeDumper.yaml_representers", "Dumper.yaml_representers"),
        ),
        Entries("altair", "data_transformers._plugins", "renderers._plugins"),
        Entries("altair.theme", "_themes._plugins"),
        Dialects("csv"),
        VirtualSubclasses(names),
        ErrorHandlers(),
        ErrorCall(context),
        Colormaps("matplotlib"),
        Fonts("matplotlib.font_manager"),
        Templates("plotly.io"),
        ProgressBars("pandas"),
        NestedLoops(),
    ]
