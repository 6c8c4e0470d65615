"""What proxies and views are of, which travels with them, and how others like them are made."""

from __future__ import annotations

import array
import gc
import types
import weakref
from typing import Any

from mpkernel.namespace.address import address_of

_IN_MEMORY = (bytearray, array.array)
_FORMATS = frozenset("bBhHiIlLqQfd")


def proxy(weak: Any) -> Any:
    """What a weak proxy refers to; None if that is gone."""
    try:
        return weak.__reduce_ex__.__self__
    except ReferenceError:
        return None


def mapping(shown: types.MappingProxyType[Any, Any]) -> Any:
    """What a mapping proxy shows; None if that is the namespace of a class."""
    (found,) = gc.get_referents(shown)
    return None if _may_be_of_class(found) else found


def _may_be_of_class(names: Any) -> bool:
    return type(names) is dict and "__module__" in names and "__doc__" in names


class ClassNames:
    """Stands in a pickle for the namespace of a class, which annotations and type parameters in its body refer to."""

    def __init__(self, cls: type) -> None:
        self._cls = cls

    def __reduce__(self) -> tuple[Any, ...]:
        return _names_of, (self._cls,)


def _names_of(cls: type) -> dict[str, Any]:
    (names,) = gc.get_referents(vars(cls))
    return names  # type: ignore[no-any-return]


def _remember(address: int, cls: type) -> None:
    _classes[address] = weakref.ref(cls, lambda _: _classes.pop(address, None))


_classes: dict[int, weakref.ref[type]] = {}  # by the id of their namespace


def class_of(names: Any) -> type | None:
    """The class whose very namespace this is."""
    if not _may_be_of_class(names):
        return None
    known = _classes.get(id(names))
    cls = known() if known is not None else None
    if cls is None or _names_of(cls) is not names:
        owners = (getattr(value, "__objclass__", None) for value in tuple(names.values()))
        cls = next((owner for owner in owners if owner is not None and _names_of(owner) is names), None)
        if cls is None:  # what its base has, it has no descriptors for
            referrers = gc.get_referrers(names)
            cls = next((kind for kind in referrers if isinstance(kind, type) and _names_of(kind) is names), None)
        if cls is not None:
            _remember(id(names), cls)
    return cls


def closure(function: types.FunctionType) -> dict[str, types.CellType]:
    """Its variables that cells hold, but for the namespace of a class: nobody may clear that, or fill it by hand."""
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return {name: cell for name, cell in cells if name != "__classdict__"}


def content_of(cell: types.CellType) -> Any:
    """What is in a cell, as it goes into a pickle. Raises ValueError if it is empty."""
    cls = class_of(cell.cell_contents)
    return cell.cell_contents if cls is None else ClassNames(cls)


def view_of(obj: Any, offset: int, nbytes: int, form: str, readonly: bool) -> memoryview:
    """A view of a part of what `obj` has in memory."""
    view: memoryview = memoryview(obj).cast("B")[offset : offset + nbytes].cast(form)  # type: ignore[call-overload]
    return view.toreadonly() if readonly else view


def place_of(view: memoryview) -> tuple[int, int, str, bool] | None:
    """What `view_of` needs to make `view` again; None if that can't be done, as when it was released."""
    try:
        plain = view.c_contiguous and view.ndim == 1 and view.nbytes > 0 and view.format in _FORMATS
        if not plain or type(view.obj) not in _IN_MEMORY:
            return None
    except ValueError:
        return None
    begin, low = address_of(memoryview(view.obj).cast("B")), address_of(view.cast("B"))
    return None if begin is None or low is None else (low - begin, view.nbytes, view.format, view.readonly)
