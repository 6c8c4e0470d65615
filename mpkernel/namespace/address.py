"""Where memory is."""

from __future__ import annotations

import ctypes
import sys


def address_of(view: memoryview) -> int | None:
    """Where a contiguous buffer is; None if there is no way to know."""
    if not view.readonly:
        return ctypes.addressof(ctypes.c_char.from_buffer(view))
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    return int(numpy.frombuffer(view, "u1").__array_interface__["data"][0])
