"""ctypes: its classes, whose metaclasses lay out memory when they are made, and functions of loaded libraries."""

from __future__ import annotations

import importlib
import operator
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpkernel.namespace.dumping import Dumper, Reduced

# What such a class must have from the beginning.
LAYOUT = ("_pack_", "_align_", "_layout_", "_anonymous_", "_fields_", "_length_", "_type_")


def is_c_type(cls: Any) -> bool:
    """Whether a class is one of ctypes, or a metaclass of these."""
    return "_ctypes" in (cls.__module__, *(kind.__module__ for kind in type(cls).__mro__))


def is_field(value: Any) -> bool:
    """Whether it is what ``_fields_`` becomes, and can't be made by hand."""
    return type(value).__name__ == "CField"


def derivation(cls: Any) -> tuple[Any, tuple[Any, ...]] | None:
    """How a type is had that can't be imported: a metaclass, an array's or a pointer's type, a number's with its bytes
    swapped. None for other types."""
    ctypes = sys.modules["ctypes"]
    if cls.__module__ == "ctypes":
        native = getattr(ctypes, cls.__name__[:-3], None)  # c_int of c_int_be
        swapped = (name for name in ("__ctype_be__", "__ctype_le__") if getattr(native, name, None) is cls)
        return next(((getattr, (native, name)) for name in swapped), None)
    if issubclass(cls, type):
        return next(((type, (base,)) for base in (ctypes.Structure, ctypes.Union) if type(base) is cls), None)
    of = vars(cls).get("_type_")
    if not isinstance(of, type):
        return None
    if cls is _or_none(operator.mul, of, vars(cls).get("_length_")):
        return array_of, (of, cls._length_)
    return (ctypes.POINTER, (of,)) if cls is _or_none(ctypes.POINTER, of) else None


def array_of(kind: Any, length: int) -> Any:
    """The type of arrays: there is one for each type and length."""
    made = kind * length
    if made.__module__ == __name__:  # as it has been made here, and not in a cell
        made.__module__ = "__main__"
    return made


def _or_none(make: Any, *given: Any) -> Any:
    try:
        return make(*given)
    except Exception:
        return None


def reduce_library(_dumper: Dumper, library: Any) -> Reduced:
    """By its name: each process loads it; with what was told of its functions."""
    functions = {name: _signature(value) for name, value in vars(library).items() if _library_of(value) is library}
    told = {name: value for name, value in vars(library).items() if name not in functions and name[:1] != "_"}
    return loaded, (type(library).__name__, library._name, functions, told)


def reduce_function(dumper: Dumper, function: Any) -> Reduced:
    """A function of a loaded library. Others, callbacks above all, are addresses in one process."""
    if (library := _library_of(function)) is None:
        return dumper.by_itself(function)
    return found, (library, function.__name__, _signature(function))


def _library_of(value: Any) -> Any:
    ctypes = sys.modules["ctypes"]
    if not isinstance(value, ctypes._CFuncPtr):
        return None
    library = (value._objects or {}).get("0")
    return library if type(library) in (ctypes.CDLL, ctypes.PyDLL) and hasattr(library, value.__name__) else None


def _signature(function: Any) -> tuple[Any, Any]:
    return function.restype, function.argtypes


def loaded(kind: str, name: str | None, functions: dict[str, Any], told: dict[str, Any]) -> Any:
    """A library of C; raises OSError if this process can't load it."""
    library = getattr(importlib.import_module("ctypes"), kind)(name)
    for each, signature in functions.items():
        found(library, each, signature)
    vars(library).update(told)
    return library


def found(library: Any, name: str, signature: tuple[Any, Any]) -> Any:
    """A function of a library. Raises AttributeError."""
    function = getattr(library, name)
    function.restype, function.argtypes = signature
    return function
