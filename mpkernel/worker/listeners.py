"""Which code of the notebook is called from elsewhere than its cells: nobody sees beforehand what names it uses."""

from __future__ import annotations

import functools
import gc
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from itertools import chain
from typing import Any

from IPython.core.interactiveshell import InteractiveShell


def are_set(shell: InteractiveShell) -> bool:
    """Whether there is any."""
    return bool(shell.custom_exceptions) or any(map(_is_of_the_notebook, chain(_of_shell(shell), _of_python())))


def _of_shell(shell: Any) -> Iterator[Any]:
    yield from chain.from_iterable(shell.events.callbacks.values())
    for formatter in shell.display_formatter.formatters.values():
        yield from formatter.type_printers.values()
        yield from formatter.singleton_printers.values()
        yield from formatter.deferred_printers.values()
    yield from map(type, shell.ast_transformers)
    yield from shell.input_transformers_cleanup
    yield from shell.input_transformers_post


def _of_python() -> Iterator[Any]:
    yield from (sys.stdin, sys.stdout, sys.stderr, sys.displayhook, sys.excepthook, sys.unraisablehook)
    yield from (threading.excepthook, warnings.showwarning, sys.gettrace(), sys.getprofile())
    yield from chain(sys.meta_path, sys.path_hooks, gc.callbacks)
    yield from map(signal.getsignal, signal.valid_signals())


def _is_of_the_notebook(hook: Any) -> bool:
    while isinstance(hook, functools.partial):
        hook = hook.func
    return getattr(hook, "__module__", None) == "__main__"
