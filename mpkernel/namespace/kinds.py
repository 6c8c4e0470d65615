"""Types of which it is known beforehand that their instances live in one process only."""

from __future__ import annotations

import _thread
import asyncio
import concurrent.futures
import contextvars
import io
import mmap
import queue
import re
import select
import socket
import subprocess
import sys
import tempfile
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any

from mpkernel.namespace import on_show

# fmt: off
_LOCAL: tuple[tuple[type, str], ...] = (
    (types.GeneratorType, "it is a running function"),
    (types.CoroutineType, "it is a running function"),
    (types.AsyncGeneratorType, "it is a running function"),
    (types.FrameType, "it is a running function"),
    (_thread.LockType, "threads of that process wait for it"),
    (_thread.RLock, "threads of that process wait for it"),
    (threading.Thread, "a thread can't leave its process"),
    (threading.Event, "threads of that process wait for it"),
    (threading.Condition, "threads of that process wait for it"),
    (threading.Semaphore, "threads of that process wait for it"),
    (threading.Barrier, "threads of that process wait for it"),
    (threading.local, "it belongs to threads of that process"),
    (queue.Queue, "threads of that process wait for it"),
    (queue.SimpleQueue, "threads of that process wait for it"),
    (socket.socket, "a connection can't leave its process"),
    (subprocess.Popen, "a child process has one parent"),
    (concurrent.futures.Executor, "its workers belong to that process"),
    (concurrent.futures.Future, "something in that process will set it"),
    (asyncio.Future, "it belongs to the event loop of that process"),
    (asyncio.AbstractEventLoop, "an event loop can't leave its process"),
    (asyncio.Event, "it belongs to the event loop of that process"),
    (asyncio.Lock, "it belongs to the event loop of that process"),
    (asyncio.Queue, "it belongs to the event loop of that process"),
    (contextvars.ContextVar, "it belongs to threads of that process"),
    (contextvars.Context, "it belongs to threads of that process"),
    (contextvars.Token, "it belongs to threads of that process"),
    (weakref.ReferenceType, "a weak reference can't leave its process"),
    (weakref.ProxyType, "a weak reference can't leave its process"),
    (weakref.CallableProxyType, "a weak reference can't leave its process"),
    (weakref.WeakValueDictionary, "a weak reference can't leave its process"),
    (weakref.WeakKeyDictionary, "a weak reference can't leave its process"),
    (weakref.finalize, "it waits for an object of that process"),
    (io.FileIO, "an open file"),
    (io.BufferedReader, "an open file"),
    (io.BufferedWriter, "an open file"),
    (io.BufferedRandom, "an open file"),
    (io.BufferedRWPair, "an open file"),
    (io.TextIOWrapper, "an open file"),
    (tempfile._TemporaryFileWrapper, "an open file"),
    (type(re.compile("").scanner("")), "it is in the midst of a text"),  # type: ignore[attr-defined]
    (mmap.mmap, "it is memory of that process"),
    (memoryview, "it is memory of that process"),
    (select.epoll if hasattr(select, "epoll") else select.poll, "it waits for files of that process"),
)
# Only if something has imported the module: (module, class, reason).
_LOCAL_IF_LOADED = (
    ("comm.base_comm", "BaseComm", on_show.REASON),
    ("comm.base_comm", "CommManager", on_show.REASON),
    ("sqlite3", "Connection", "a connection can't leave its process"),
    ("sqlite3", "Cursor", "a connection can't leave its process"),
    ("multiprocessing.process", "BaseProcess", "a child process has one parent"),
    ("multiprocessing.pool", "Pool", "its workers belong to that process"),
    ("multiprocessing.connection", "_ConnectionBase", "a connection can't leave its process"),
    ("zmq", "Socket", "a connection can't leave its process"),
    ("zmq", "Context", "a connection can't leave its process"),
    ("matplotlib.backend_bases", "FigureManagerBase", "it is a window of that process"),
)
# fmt: on


def why_local(kind: type) -> str | None:
    """Why instances of `kind` can't leave their process; None if nothing is known against it."""
    mro = kind.__mro__
    for local, reason in _local():
        if local in mro:
            return reason
    return None


def _local() -> Iterator[tuple[type, str]]:
    yield from _LOCAL
    for module, name, reason in _LOCAL_IF_LOADED:
        if (loaded := sys.modules.get(module)) is not None and isinstance(kind := getattr(loaded, name, None), type):
            yield kind, reason


def has_open_comm(obj: Any) -> bool:
    """Whether a widget is on show: the front end talks to the process that made it."""
    try:
        return vars(type(obj)).get("comm") is not None or getattr(obj, "comm", None) is not None
    except Exception:
        return False
