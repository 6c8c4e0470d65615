"""What proxies and views are of, which travels with them, and how others like them are made."""

from __future__ import annotations

import array
import gc
import types
from typing import Any

from mpkernel.namespace.memory import address_of

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
    return None if type(found) is dict and "__module__" in found and "__doc__" in found else found


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
