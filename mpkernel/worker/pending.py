"""What an event loop has still to run: the user's callbacks, told from the kernel's own.

Asyncio tells of tasks only. Timers (`loop.call_later`, tornado's PeriodicCallback), callbacks that are due, and file
descriptors that are watched for somebody are found in attributes that all versions of its selector loops have; another
loop, that somebody's policy makes, is taken to have none. What is due of the loop's own methods is how another thread
wakes it. (Rejected: a loop class that sees all callbacks as they are
made. It costs each step of each task something.)
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterable
from itertools import chain
from typing import Any

OURS = "mpkernel."
# Ours, but the toolkit whose events it handles calls the user's code.
PUMP = "mpkernel.worker.gui"


def users_callbacks(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether code of the user's may run on `loop` without a task. To be asked in the thread of the loop."""
    inside: Any = loop
    # Copies, each made at one go: other threads add to what is due.
    handles: Iterable[asyncio.Handle] = chain(*(tuple(getattr(inside, name, ())) for name in ("_scheduled", "_ready")))
    if any(not handle.cancelled() and _is_users(handle, loop) for handle in handles):
        return True
    selector = getattr(inside, "_selector", None)
    watched = selector.get_map() if selector is not None else None
    return len(watched or ()) > 1  # one is the pipe by which other threads wake the loop


def _is_users(handle: Any, loop: asyncio.AbstractEventLoop) -> bool:
    callback = handle._callback
    while isinstance(callback, functools.partial):
        callback = callback.func
    if getattr(callback, "__self__", None) is loop:
        return False
    module = str(getattr(getattr(callback, "__func__", callback), "__module__", None))
    return module == PUMP or not module.startswith(OURS)
