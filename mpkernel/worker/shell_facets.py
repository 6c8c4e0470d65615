"""The facets of IPython's own state that subshells share: magics, extensions, formatters, options of the shell."""

from __future__ import annotations
import __future__

import contextlib
import copy
import functools
import importlib
import io
import sys
import types
from typing import Any

from mpkernel.namespace import registries
from mpkernel.namespace.process_state import GONE, UNTOLD, Facet, Items
from mpkernel.namespace.small import SmallValues, received

_SHELL_OPTIONS = ("ast_node_interactivity", "autocall", "automagic", "autoawait", "show_rewritten_input")
_INLINE_OPTIONS = ("figure_formats", "close_figures", "print_figure_kwargs")
_AUTORELOAD_OPTIONS = {"enabled": False, "check_all": False, "autoload_obj": False, "modules": {}, "skip_modules": {}}
_COMPLETER_OPTIONS = ("use_jedi", "jedi_compute_type_timeout", "evaluation", "greedy", "omit__names")
# What ``from __future__ import`` has switched on for all cells that follow.
_FUTURE = __future__.annotations.compiler_flag | __future__.barry_as_FLUFL.compiler_flag
_FORMATS = {"retina_figure": "retina"}  # of functions that make pictures of figures: those that aren't told it
_TEXT_OPTIONS = ("pprint", "float_precision", "max_width", "max_seq_length")


class Magics(Facet):
    """Magics that the notebook has defined, aliases, and extensions, which each process loads by itself.

    Of classes of magics each process has an instance; what these have in attributes is shared.
    """

    name = "magics"

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._values = SmallValues()

    def read(self) -> Items:
        from IPython.core.alias import Alias
        from IPython.core.magic import MagicAlias

        manager = self._shell.magics_manager
        found: Items = {}
        for kind, magics in manager.magics.items():
            for name, call in magics.items():
                if type(call) is types.FunctionType and call.__module__ == "__main__":
                    found["function", kind, name] = call
                elif type(call) is MagicAlias:
                    found["alias", kind, name] = (call.magic_name, call.magic_kind, getattr(call, "magic_params", None))
                elif type(call) is Alias:
                    found["command", kind, name] = call.cmd
        for name, registered in self._own_instances():
            found["class", "", name] = type(registered)
            for attribute, value in self._state(registered).items():
                if (told := self._values.told((name, attribute), value)) is not None:
                    found["attribute", name, attribute] = told
        for name in self._shell.extension_manager.loaded:
            found["extension", "", name] = True
        return found

    def _own_instances(self) -> list[tuple[str, Any]]:
        from IPython.core.magic import Magics as MagicsClass

        registry = self._shell.magics_manager.registry.items()
        return [(n, o) for n, o in registry if isinstance(o, MagicsClass) and type(o).__module__ == "__main__"]

    def _state(self, magics: Any) -> Items:
        """Attributes and traits of the notebook's own."""
        none = self._shell.magics_manager.user_magics
        attributes = {name: value for name, value in vars(magics).items() if name not in vars(none)}
        return attributes | {name: value for name, value in magics._trait_values.items() if not none.has_trait(name)}

    def mark(self) -> Any:
        if self._own_instances():
            return None
        manager, loaded = self._shell.magics_manager, self._shell.extension_manager.loaded
        return [dict(magics) for magics in manager.magics.values()], dict(manager.registry), set(loaded)

    def is_marked(self, mark: Any) -> bool:
        manager, loaded = self._shell.magics_manager, self._shell.extension_manager.loaded
        return bool(([*manager.magics.values()], manager.registry, loaded) == mark)

    def write(self, items: Items) -> None:
        manager = self._shell.magics_manager
        for (what, kind, name), value in items.items():
            if what == "extension":
                self._extension(name, load=value is not GONE)
            elif what == "attribute" and value is not UNTOLD:
                self._set(manager.registry[kind], name, value)
            elif value is GONE:
                manager.magics.get(kind, {}).pop(name, None)
            elif what == "function":
                manager.register_function(value, kind, name)
            elif what == "alias":
                target, target_kind, params = value
                manager.register_alias(name, target, target_kind, params)
            elif what == "command":
                self._shell.alias_manager.define_alias(name, value)
            elif what == "class":
                manager.register(value)

    def _set(self, magics: Any, name: str, value: Any) -> None:
        if value is not GONE:
            setattr(magics, name, received(getattr(magics, name, None), value))
        elif name in vars(magics):
            delattr(magics, name)

    def _extension(self, name: str, *, load: bool) -> None:
        manager = self._shell.extension_manager
        with contextlib.redirect_stdout(io.StringIO()):
            if load:
                manager.load_extension(name)
            else:
                manager.unload_extension(name)


class Formatters(Facet):
    """Formatters that the notebook has registered for types, or a library for it (``sympy.init_printing``)."""

    name = "formatters"

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def read(self) -> Items:
        return {
            (kind, of): call
            for kind, formatter in self._shell.display_formatter.formatters.items()
            for of, call in formatter.type_printers.items()
            if getattr(call, "__module__", None) == "__main__" or _is_made_at_run_time(call)
        }

    def write(self, items: Items) -> None:
        for (kind, of), call in items.items():
            formatter = self._shell.display_formatter.formatters[kind]
            if call is GONE:
                formatter.type_printers.pop(of, None)
            else:
                formatter.for_type(of, call)


def _is_made_at_run_time(call: Any) -> bool:
    """A function within one of a library; those of IPython are everywhere."""
    local = type(call) is types.FunctionType and "<locals>" in call.__qualname__
    return local and not str(call.__module__).startswith("IPython.")


class ShellOptions(Facet):
    """What ``%config``, ``%precision``, ``%pprint``, ``%xmode``, ``%autoreload`` and ``from __future__ import`` set."""

    name = "shell options"

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def read(self) -> Items:
        shell = self._shell
        found: Items = {("shell", name): getattr(shell, name) for name in _SHELL_OPTIONS if hasattr(shell, name)}
        text = shell.display_formatter.formatters["text/plain"]
        found |= {("text", name): getattr(text, name) for name in _TEXT_OPTIONS if hasattr(text, name)}
        completer = shell.Completer
        found |= {
            ("completer", name): getattr(completer, name) for name in _COMPLETER_OPTIONS if hasattr(completer, name)
        }
        found["xmode", ""] = shell.InteractiveTB.mode
        found["__future__", ""] = shell.compile.flags & _FUTURE
        for name, default in _AUTORELOAD_OPTIONS.items():
            # As by default until it is loaded: that this happens is no change of options.
            found["autoreload", name] = copy.copy(getattr(self._reloader(), name, default))
        found |= {("inline", name): value for name, value in self._of_inline().items()}
        return found

    def write(self, items: Items) -> None:
        for (what, name), value in items.items():
            if what == "inline":
                self._set_inline(name, value)
                continue
            if value is GONE:
                continue
            if what == "xmode":
                self._shell.InteractiveTB.set_mode(value)
                continue
            if what == "__future__":
                self._shell.compile.flags |= value
                continue
            target = {
                "shell": self._shell,
                "text": self._shell.display_formatter.formatters["text/plain"],
                "completer": self._shell.Completer,
                "autoreload": self._reloader(),
            }[what]
            if target is not None:
                setattr(target, name, copy.copy(value))

    def _reloader(self) -> Any:
        return getattr(self._shell.magics_manager.registry.get("AutoreloadMagics"), "_reloader", None)

    def _of_inline(self) -> Items:
        """What isn't as it was made: that a subshell plots for the first time is no change of options."""
        config = sys.modules.get("matplotlib_inline.config")
        kind = getattr(config, "InlineBackend", None)
        if kind is None or not kind.initialized():
            return {}
        backend = kind.instance()
        options = {name: (getattr(backend, name), backend.traits()[name].default(backend)) for name in _INLINE_OPTIONS}
        if formats := self._figure_formats():
            options["figure_formats"] = (formats, options["figure_formats"][1])
        return {name: copy.copy(value) for name, (value, default) in options.items() if value != default}

    def _set_inline(self, name: str, value: Any) -> None:
        """Before this subshell has plotted, too: its first plot is to look like the others'."""
        kind = importlib.import_module("matplotlib_inline.config").InlineBackend
        backend = kind.instance(parent=self._shell)
        value = backend.traits()[name].default(backend) if value is GONE else value
        setattr(backend, name, value)
        if name == "figure_formats" and self._figure_formats() not in (None, value):
            importlib.import_module("IPython.core.pylabtools").select_figure_formats(
                self._shell, value, **backend.print_figure_kwargs
            )

    def _figure_formats(self) -> set[str] | None:
        """What figures are shown as, if that is known by now: `set_matplotlib_formats` tells nobody else."""
        figure = getattr(sys.modules.get("matplotlib.figure"), "Figure", None)
        formatters = self._shell.display_formatter.formatters.values()
        calls = [call for of in formatters if isinstance(call := of.type_printers.get(figure), functools.partial)]
        formats: set[Any] = {call.keywords.get("fmt", _FORMATS.get(call.func.__name__)) for call in calls}
        return formats if formats and None not in formats else None  # the notebook's own


class Hooks(Facet):
    """Functions and transformers of the notebook that IPython calls: at events, for the text and the tree of a cell."""

    name = "hooks"
    _TRANSFORMERS = ("input_transformers_cleanup", "input_transformers_post", "ast_transformers")

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def read(self) -> Items:
        found = {where: [hook for hook in hooks if _is_of_notebook(hook)] for where, hooks in self._places().items()}
        return {where: hooks for where, hooks in found.items() if hooks}

    def write(self, items: Items) -> None:
        places = self._places()
        for where, hooks in items.items():
            others = [hook for hook in places[where] if not _is_of_notebook(hook)]
            places[where][:] = others + ([] if hooks is GONE else hooks)

    def _places(self) -> dict[Any, list[Any]]:
        """The lists that IPython goes through."""
        places: dict[Any, list[Any]] = {("event", name): calls for name, calls in self._shell.events.callbacks.items()}
        return places | {name: getattr(self._shell, name) for name in self._TRANSFORMERS}


class ExceptionHandler(Facet):
    """What the notebook has tracebacks of some exceptions made by: `InteractiveShell.set_custom_exc`."""

    name = "exception handler"

    def __init__(self, shell: Any) -> None:
        self._shell = shell

    def read(self) -> Items:
        handler = self._handler() if self._shell.custom_exceptions else None
        registries.may_call(self.name, [handler])
        return {} if handler is None else {"": (self._shell.custom_exceptions, handler)}

    def _handler(self) -> Any:
        called = self._shell.CustomTB.__func__
        within = dict(zip(called.__code__.co_freevars, called.__closure__ or (), strict=True))
        return within["handler"].cell_contents if "handler" in within else None

    def write(self, items: Items) -> None:
        kinds, handler = ((), None) if items[""] is GONE else items[""]
        self._shell.set_custom_exc(kinds, handler)


def _is_of_notebook(hook: Any) -> bool:
    """A function, or an instance of a class; a method is of an object of one process."""
    kind = type(hook)
    return (hook if kind is types.FunctionType else kind).__module__ == "__main__"


def shell_facets(shell: Any) -> list[Facet]:
    """One of each. Extensions first, whose options come after them."""
    return [Magics(shell), Formatters(shell), Hooks(shell), ExceptionHandler(shell), ShellOptions(shell)]
