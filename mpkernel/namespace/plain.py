"""Values of the namespace as bytes, in the plain form that `sync` still uses.

A function of the notebook travels without its globals: where it arrives, it uses the namespace of that process. An open
file counts as unpicklable (cloudpickle would send a copy of what was read, silently).
"""

from __future__ import annotations

import builtins
import io
import pickle
import sys
import types
from typing import Any

import cloudpickle

PROTOCOL = 5
# A dict or list may change its size while another thread walks it; so many tries before that is an error.
TRIES = 8


class NamespacePickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles values of `namespace`."""

    def __init__(self, file: Any, namespace: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(file, protocol=PROTOCOL, **kwargs)
        self._namespace = namespace

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, types.FunctionType) and obj.__globals__ is self._namespace:
            return self._function_of_namespace(obj)
        if isinstance(obj, (io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.FileIO)):
            raise pickle.PicklingError(
                f"an open file ({getattr(obj, 'name', '?')}) lives in the process that opened it"
            )
        return super().reducer_override(obj)

    def _function_of_namespace(self, function: types.FunctionType) -> Any:
        reduced = super().reducer_override(function)
        if reduced is NotImplemented:
            return reduced  # importable: by reference
        _, (code, _globals, *_rest, closure), (state, slots), *_ = reduced
        return (_function, (code, closure), (state, {**slots, "__globals__": {}}), None, None, _fill)


def _function(code: types.CodeType, closure: Any) -> types.FunctionType:
    """Rebuild a function on the namespace of this process."""
    return types.FunctionType(code, vars(sys.modules["__main__"]), None, None, closure)


def _fill(function: types.FunctionType, state: Any) -> None:
    """The rest of a function, by cloudpickle; which also rebinds ``__builtins__``, but this namespace has its own."""
    before = function.__globals__.get("__builtins__", builtins)
    cloudpickle.cloudpickle._function_setstate(function, state)
    function.__globals__["__builtins__"] = before


def dumps(value: Any, namespace: dict[str, Any], buffers: list[pickle.PickleBuffer] | None = None) -> bytes:
    """`value` as bytes; large buffers go into `buffers`, if given. Raises whatever pickling raises."""
    file = io.BytesIO()
    callback = buffers.append if buffers is not None else None
    NamespacePickler(file, namespace, buffer_callback=callback).dump(value)
    return file.getvalue()


def dumps_while_changing(value: Any, namespace: dict[str, Any]) -> bytes:
    """As `dumps`, for a value that another thread changes at the same time."""
    for _ in range(TRIES - 1):
        try:
            return dumps(value, namespace)
        except RuntimeError:  # "dictionary changed size during iteration"
            continue
    return dumps(value, namespace)


def loads(data: bytes) -> Any:
    """The inverse of `dumps`, in a worker."""
    return pickle.loads(data)
