"""What can't travel, but be made again: each process has one of its own, or finds the same in what has travelled.

A lock excludes the threads of one process; a context variable has a value in each thread. Whoever has a twin of such
an object and passes it on passes on the original.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import os
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable
from typing import Any


def _context_variable(made_of: tuple[str, tuple[Any, ...]]) -> contextvars.ContextVar[Any]:
    name, default = made_of
    return contextvars.ContextVar(name, default=default[0]) if default else contextvars.ContextVar(name)


def _done(made_of: tuple[Any, BaseException | None]) -> concurrent.futures.Future[Any]:
    future: concurrent.futures.Future[Any] = concurrent.futures.Future()
    _settle(future, *made_of)
    return future


def _task(made_of: tuple[Any, BaseException | None]) -> asyncio.Future[Any]:
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = asyncio.get_event_loop_policy().get_event_loop()
    future: asyncio.Future[Any] = loop.create_future()
    _settle(future, *made_of)
    future.exception()  # nobody is to be told that it wasn't looked at
    return future


def _settle(future: Any, result: Any, error: BaseException | None) -> None:
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)


def _thread_pool(made_of: tuple[int, str, bool]) -> concurrent.futures.ThreadPoolExecutor:
    count, prefix, is_shut_down = made_of
    pool = concurrent.futures.ThreadPoolExecutor(count, prefix)
    if is_shut_down:
        pool.shutdown()
    return pool


def _temporary_folder(attributes: dict[str, Any]) -> tempfile.TemporaryDirectory[Any]:
    """The same folder, but that it is removed only if it is told so: else that is up to the original."""
    folder = tempfile.TemporaryDirectory.__new__(tempfile.TemporaryDirectory)
    finalizer = weakref.finalize(folder, int)
    finalizer.detach()
    vars(folder).update(attributes, _finalizer=finalizer)
    return folder


def _ended_process(attributes: dict[str, Any]) -> subprocess.Popen[Any]:
    process = subprocess.Popen.__new__(subprocess.Popen)
    vars(process).update(attributes, _waitpid_lock=threading.Lock(), _child_created=False)
    return process


def _ended_thread(made_of: tuple[str, bool]) -> threading.Thread:
    thread = threading.Thread(name=made_of[0], daemon=made_of[1])
    thread.start()
    thread.join()
    return thread


def _closed_file(made_of: tuple[Any, str, str | None, bool]) -> Any:
    name, mode, encoding, buffered = made_of
    file: Any = open(os.devnull, mode.replace("x", "w"), -1 if buffered else 0, encoding)  # noqa: SIM115
    raw = getattr(file, "buffer", file)
    getattr(raw, "raw", raw).name = name
    if encoding is not None:
        file.mode = mode
    file.close()
    return file


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "lock": lambda _: threading.Lock(),
    "rlock": lambda _: threading.RLock(),
    "condition": lambda _: threading.Condition(),
    "semaphore": threading.Semaphore,
    "bounded semaphore": threading.BoundedSemaphore,
    "local": lambda _: threading.local(),
    "asyncio lock": lambda _: asyncio.Lock(),
    "context variable": _context_variable,
    "thread pool": _thread_pool,
    "temporary folder": _temporary_folder,
    "process": _ended_process,
    "thread": _ended_thread,
    "file": _closed_file,
    "future": _done,
    "task": _task,
}


def make(kind: str, made_of: Any) -> Any:
    """The twin of an object of another process."""
    return _MAKERS[kind](made_of)


def weak(kind: Any, content: Any) -> Any:
    """A weak reference, or a container of such. It is empty at once if nothing else has come that holds the objects."""
    if kind not in (weakref.ref, weakref.proxy):
        return kind(content)
    return kind(content) if content is not None else kind(_Gone())


class _Gone:
    """What a dead reference was to."""


def match(pattern: Any, string: Any, pos: int, endpos: int, span: tuple[int, int]) -> Any:
    """What `pattern` has found in `string`: by a search, or a search that went on there, or a full match."""
    tries = (("search", pos, endpos), ("search", span[0], endpos), ("match", span[0], endpos), ("fullmatch", *span))
    for how, *place in tries:
        if (result := getattr(pattern, how)(string, *place)) is not None and result.span() == span:
            return result
    raise ValueError(f"{pattern.pattern!r:.100} does not find again what it found")
