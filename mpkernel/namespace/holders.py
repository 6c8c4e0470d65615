"""Whether anything but the calling function's own variable refers to an object."""

from __future__ import annotations

import sys


def _of_one_variable() -> int:
    obj = object()
    return sys.getrefcount(obj)


# What `sys.getrefcount` says then: since Python 3.14, a call mostly borrows its arguments from variables.
NOBODY_ELSE = _of_one_variable()
