"""Events and queues of threads live in one process. In the others their stand-ins pass on what a cell does with them.

So a cell can stop another subshell's loop (``stop.set()``), and subshells can be producers and consumers. What is put
into a queue is copied.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from mpkernel.errors import MPKernelError

# Who waits asks so often (s). A queue is only asked whether there is something: if the asking cell is interrupted, no
# item is lost. A SimpleQueue has nothing to wait for that leaves the item there.
SLICE = 0.2
SIMPLE_SLICE = 0.02

KINDS = (threading.Event, queue.Queue, queue.SimpleQueue)
_EVENT = frozenset(("set", "clear", "is_set", "wait"))
_QUEUE = frozenset(("put", "put_nowait", "get", "get_nowait", "qsize", "empty", "full", "task_done", "join"))
_METHODS = {
    "threading.Event": _EVENT,
    "queue.Queue": _QUEUE,
    "queue.LifoQueue": _QUEUE,
    "queue.PriorityQueue": _QUEUE,
    "_queue.SimpleQueue": _QUEUE - {"full", "task_done", "join"},
}
_ERRORS: dict[str, type[Exception]] = {"Empty": queue.Empty, "Full": queue.Full, "ValueError": ValueError}

READY = "__ready__"  # stands for a method: `ready`

Call = Callable[[str, tuple[Any, ...]], Any]  # a method there, with its arguments


def method(kind: str, name: str, call: Call) -> Callable[..., Any] | None:
    """The method `name` of something of that kind, where it lives; None if there is no such."""
    if name not in _METHODS.get(kind, ()):
        return None

    def ask(*args: Any) -> Any:
        try:
            return call(name, args)
        except MPKernelError as error:
            reason, _, text = str(error).partition(": ")
            if reason not in _ERRORS:
                raise
            raise _ERRORS[reason](*filter(None, [text])) from None

    def wait(seconds: float) -> None:
        call(READY, (name, seconds))

    if name == "get":
        return lambda block=True, timeout=None: _patient(ask, (), queue.Empty, wait, block, timeout)
    if name == "put":
        return lambda item, block=True, timeout=None: _patient(ask, (item,), queue.Full, wait, block, timeout)
    if name == "wait":
        return lambda timeout=None: any(ask(left) for left in _slices(timeout)) or ask(0)
    return ask


def _patient(
    ask: Callable[..., Any],
    args: tuple[Any, ...],
    error: type[Exception],
    wait: Callable[[float], None],
    block: bool,
    timeout: float | None,
) -> Any:
    if block and timeout is not None and timeout < 0:
        raise ValueError("'timeout' must be a non-negative number")
    for left in _slices(timeout if block else 0):
        with suppress(error):
            return ask(*args, False)
        wait(left)
    return ask(*args, False)


def _slices(timeout: float | None) -> Iterator[float]:
    """How long to wait each time."""
    end = None if timeout is None else time.monotonic() + timeout
    while end is None or (left := end - time.monotonic()) > 0:
        yield SLICE if end is None else min(SLICE, left)


def ready(target: Any, method: str, seconds: float) -> None:
    """In the process of a queue: wait so long, or until `method` (get or put) has something to do."""
    if not isinstance(target, queue.Queue):
        time.sleep(min(seconds, SIMPLE_SLICE))
        return
    condition = target.not_empty if method == "get" else target.not_full
    with condition:
        condition.wait_for(lambda: target._qsize() if method == "get" else target._qsize() < target.maxsize, seconds)
