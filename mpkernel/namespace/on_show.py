"""Widgets on show, and other comms, live in the process that made them: the page talks to that one.

In the others their stand-ins pass on what a cell does with them. Attributes are read and set, and methods called, where
the widget lives; what the page is told belongs to the cell that did it. But what an Output widget does is done here: it
is about the output of the cell that uses it.
"""

from __future__ import annotations

import builtins
import enum
import importlib
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from mpkernel.errors import MPKernelError

REASON = "it talks to the page from there"

_OUTPUTS = frozenset(("__enter__", "__exit__", "clear_output", "capture", "append_display_data", "_flush"))
_SHOWN = "_repr_mimebundle_"

Call = Callable[..., Any]  # a method there: its name, arguments, arguments by keyword


def class_of(kind: str, *, load: bool = False) -> type | None:
    """The class of that name, if it is here; with `load`, its module is imported for that."""
    module, _, name = kind.rpartition(".")
    if load and module:
        with suppress(Exception):
            importlib.import_module(module)
    found = getattr(sys.modules.get(module or "__main__"), name, None)
    return found if isinstance(found, type) else None


def attribute(widget: Any, kind: str, name: str, call: Call) -> Any:
    """What the stand-in `widget`, of that kind, has as its attribute `name`. Raises AttributeError, LookupError."""
    if name.startswith(("_repr_", "_ipython_")) and name != _SHOWN:
        raise AttributeError(name)  # display asks for many such
    if (own := method_here(widget, kind, name)) is not None:
        return own
    found, value = ask(call, "__getattr__", name)
    if found == "nothing":
        raise AttributeError(value)
    return value if found == "value" else partial(ask, call, name)


def with_stand_ins(owner: Any, value: Any, stand_in: Callable[[Any], Any]) -> Any:
    """In the widget's process: `value`, which its attribute has, for others.

    Objects of its own library or of the notebook, as the traces of a figure, are to be changed here, too.
    """
    if type(value) in (tuple, list):
        return type(value)(with_stand_ins(owner, part, stand_in) for part in value)
    packages = [type(obj).__module__.partition(".")[0] for obj in (owner, value)]
    belongs = packages[0] == packages[1] and hasattr(value, "__dict__") and not isinstance(value, (type, enum.Enum))
    return stand_in(value) if belongs else value


def method_here(widget: Any, kind: str, name: str) -> Any:
    """What an Output widget does here; None for all else."""
    if name not in _OUTPUTS:
        return None
    cls = class_of(kind, load=True)
    output = getattr(sys.modules.get("ipywidgets"), "Output", None)
    if output is None or cls is None or not issubclass(cls, output):
        return None
    return getattr(cls, name).__get__(widget)


def ask(call: Call, method: str, /, *args: Any, **kwargs: Any) -> Any:
    """Call a method there. What it raises is raised here, as far as everybody knows such errors."""
    try:
        return call(method, args, kwargs)
    except MPKernelError as error:
        name, _, text = str(error).partition(": ")
        known = getattr(sys.modules.get("traitlets"), "TraitError", None) if name == "TraitError" else None
        known = known or getattr(builtins, name, None)
        if isinstance(known, type) and issubclass(known, Exception):
            raise known(text) from None
        raise
