"""How objects are taken apart: a handler for each kind of type, found once per type.

A handler gets the pickler and the object, and answers as ``__reduce__`` does.
"""

from __future__ import annotations

import _thread
import asyncio
import collections
import concurrent.futures
import contextlib
import contextvars
import dataclasses
import enum
import functools
import gc
import inspect
import io
import os
import random
import re
import struct
import subprocess
import sys
import tempfile
import threading
import types
import typing
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle

from mpkernel.namespace import (
    arrays,
    behind,
    bodies,
    c_types,
    databases,
    derived,
    lazy_imports,
    on_show,
    parsers,
    plots,
    tracebacks,
    type_params,
    words,
)
from mpkernel.namespace.caches import LruCache
from mpkernel.namespace.databases import MAPPED
from mpkernel.namespace.definitions import DISPATCHER, importable, is_installed, made_by_hand
from mpkernel.namespace.dumping import Dumper, Handler, Reduced
from mpkernel.namespace.kinds import has_open_comm, why_local
from mpkernel.namespace.parts import MODULE_NAMES
from mpkernel.namespace.patches import original_of
from mpkernel.namespace.stubs import Stub, note_of
from mpkernel.namespace.untold import NEWOBJ
from mpkernel.namespace.wholes import reduce_library, reduce_own

_FILES = (io.TextIOWrapper, io.BufferedReader, io.BufferedWriter, io.BufferedRandom, io.FileIO)
_CONTEXT_MANAGERS = [vars(contextlib)[f"_{kind}GeneratorContextManager"] for kind in ("", "Async")]


def handler_for(kind: type) -> tuple[Handler, bool]:
    """The handler for instances of `kind`, and whether that is worth remembering."""
    if kind in _EXACT:
        return _EXACT[kind], True
    if issubclass(kind, type):
        return reduce_class, True
    keep = importable(kind)
    if issubclass(kind, types.ModuleType):
        return reduce_module, keep
    if issubclass(kind, io.TextIOBase) and not keep:
        return reduce_stream, False
    if databases.is_mapped(kind):
        return _local(MAPPED), False
    for module, name, handler in _IF_LOADED:
        loaded = getattr(sys.modules.get(module), name, None)
        if loaded is not None and kind is loaded:
            return handler, keep
    if (reason := why_local(kind)) is not None:
        return _local(reason), keep
    for module, name, handler in _BASE_IF_LOADED:
        loaded = getattr(sys.modules.get(module), name, None)
        if isinstance(loaded, type) and issubclass(kind, loaded):
            return handler, keep
    for base, handler in _BASES:
        if issubclass(kind, base):
            return handler, keep
    if _is_iterator(kind):
        return reduce_iterator, keep
    if (builtin := derived.base_of(kind)) is not None:
        reduce = reduce_own if keep else Dumper.by_itself
        return (lambda dumper, obj: reduce(dumper, obj, lambda _: derived.reduced(obj, builtin))), keep
    if not keep:
        return Dumper.by_itself, keep
    return (reduce_library if is_installed(sys.modules[kind.__module__]) else reduce_own), keep


def _is_iterator(kind: type) -> bool:
    return kind.__module__ in ("builtins", "itertools") and issubclass(kind, Iterator)


def _local(reason: str) -> Handler:
    def handler(dumper: Dumper, obj: Any) -> Reduced:
        return _standard(dumper, obj) or dumper.stub(obj, reason)

    return handler


def reduce_stream(dumper: Dumper, obj: Any) -> Reduced:
    """Standard output is each process's own."""
    return _standard(dumper, obj) or dumper.by_itself(obj)


def reduce_buffer(dumper: Dumper, obj: Any) -> Reduced:
    """A file in memory; what ``with`` has left of one is closed."""
    return (closed_buffer, (type(obj),)) if obj.closed else dumper.by_itself(obj)


def closed_buffer(kind: Any) -> Any:
    """A file in memory that is closed."""
    made = kind()
    made.close()
    return made


def _standard(dumper: Dumper, obj: Any) -> Reduced:
    name = next((name for name, stream in dumper.context.streams.items() if stream is obj), None)
    return None if name is None else (words.stream, (name,))


def reduce_iterator(dumper: Dumper, iterator: Any) -> Reduced:
    """One of Python's own. If something that it goes through can't leave this process, neither can it."""
    stays = _that_stays(dumper, iterator)
    return reduce_library(dumper, iterator) if stays is None else dumper.stub(iterator, f"it holds a {_name(stays)}")


_VIEWS = {
    type(getattr(kind(), name)()): getattr(kind, name)
    for kind in (dict, collections.OrderedDict)
    for name in ("keys", "values", "items")
}


def reduce_dict_view(_dumper: Dumper, view: Any) -> Reduced:
    """A view of the very dict."""
    return _VIEWS[type(view)], tuple(gc.get_referents(view))


def _argparse(dumper: Dumper, obj: Any) -> Reduced:
    return parsers.with_marks(reduce_library(dumper, obj))


_KeyFunction: Any = type(functools.cmp_to_key(lambda *_: 0))


def reduce_key_function(dumper: Dumper, key: Any) -> Reduced:
    """What `functools.cmp_to_key` made of a function."""
    made_of = [part for part in gc.get_referents(key) if part is not _KeyFunction]
    return (functools.cmp_to_key, tuple(made_of)) if len(made_of) == 1 else dumper.by_itself(key)


def _that_stays(dumper: Dumper, part: Any) -> Any:
    kind = type(part)
    if issubclass(kind, types.BuiltinMethodType):  # what `iter` was given
        return _that_stays(dumper, part.__self__)
    if kind is Stub or dumper.context.is_local(kind):
        return part
    if kind is tuple:
        return next((stays for inner in part if (stays := _that_stays(dumper, inner)) is not None), None)
    if not _is_iterator(kind):
        return None
    reduced = dumper.by_itself(part)
    return part if reduced[0] is words.stub else _that_stays(dumper, reduced[1:])


def _name(obj: Any) -> str:
    return note_of(obj).type if type(obj) is Stub else type(obj).__name__


# --- definitions ----------------------------------------------------------------------------------------------------


def reduce_class(dumper: Dumper, cls: Any) -> Reduced:
    """A class: by import, or as a definition."""
    if importable(cls):
        return NotImplemented
    if (place := original_of(cls)) is not None:
        return words.original, place
    if c_types.is_c_type(cls) and (derived := c_types.derivation(cls)) is not None:
        return derived
    if databases.is_mapped(cls):
        return dumper.stub(cls, MAPPED)
    builtin = getattr(cloudpickle.cloudpickle, "_BUILTIN_TYPE_NAMES", {}).get(cls) if type(cls) is type else None
    if builtin is not None:
        return getattr, (types, builtin)
    if cls.__module__ == "builtins" or cls in (type(None), type(Ellipsis), type(NotImplemented)):
        return NotImplemented
    return dumper.by_reference(cls)


def reduce_function(dumper: Dumper, function: types.FunctionType) -> Reduced:
    """A function: by import, or as a definition; what its closure holds goes with the value."""
    if importable(function):
        return NotImplemented
    if (place := original_of(function)) is not None:
        return words.original, place
    if function.__closure__ is None or function.__code__ is DISPATCHER:
        return dumper.by_reference(function)
    cells = dumper.cells_of(function)
    made = words.function, (dumper.use(function).id, cells)
    if dumper.of_body:
        cells = tuple(cell for cell in cells if not dumper.holds(cell))
    return dumper.by_reference(function, made, cells)


def reduce_cell(dumper: Dumper, cell: types.CellType) -> Reduced:
    """A cell: of a function, which takes care of its content, or by itself."""
    if (cell_id := dumper.cells.get(id(cell))) is not None:
        return words.cell, (cell_id,)
    try:
        return words.cell, (None,), ([(cell, behind.content_of(cell))], []), None, None, words.fill
    except ValueError:  # it is empty
        return words.cell, (None,)


def reduce_definition(dumper: Dumper, obj: Any) -> Reduced:
    """A cached function, or a bare object, whose only meaning is its identity."""
    if importable(obj):
        return dumper.by_itself(obj)
    return dumper.by_reference(obj)


def reduce_type_param(dumper: Dumper, obj: Any) -> Reduced:
    """A type parameter or alias: as a definition, if a statement of the notebook made it."""
    return dumper.by_reference(obj) if type_params.made_by_statement(obj) else dumper.by_itself(obj)


def reduce_builtin(dumper: Dumper, function: types.BuiltinFunctionType) -> Reduced:
    """One that is written in C, perhaps bound to an object."""
    by_name = function.__module__ != "builtins" and importable(function)  # these may be replaced where it arrives
    place = None if by_name else original_of(function)
    return dumper.by_itself(function) if place is None else (words.original, place)


def reduce_module(dumper: Dumper, module: types.ModuleType) -> Reduced:
    """By name, or, if nobody else can import it, with what is in it. ``__main__`` is another one in each process."""
    if module is sys.modules.get("__main__"):
        return words.main, ()
    if not made_by_hand(module):
        return cloudpickle.subimport, (module.__name__,)
    dumper.memory.add(id(module))
    globals_id = dumper.context.definitions.globals_id(vars(module))
    registered = sys.modules.get(module.__name__) is module
    return words.module, (globals_id, module.__name__, registered), MODULE_NAMES.read(module)


def reduce_lazy_import(_: Dumper, lazy: Any) -> Reduced:
    """What nobody has used yet."""
    return lazy_imports.make, lazy_imports.describe(lazy)


def reduce_stub(dumper: Dumper, stub: Stub) -> Reduced:
    """Passed on as it is."""
    note = note_of(stub)
    dumper.notes[note.owner, note.token] = note
    return words.stub, note.words


# --- small things that would lose something otherwise ----------------------------------------------------------------


def reduce_member(dumper: Dumper, member: enum.Enum) -> Reduced:
    """A member of an enum, which there is only one of; composite flags as they like."""
    name = member.__dict__.get("_name_")
    if isinstance(name, str) and type(member)._member_map_.get(name) is member:
        return words.member, (type(member), name)
    return dumper.by_itself(member)


def reduce_exception(dumper: Dumper, error: BaseException) -> Reduced:
    """An exception with all that hangs on it, even if its ``__init__`` wants other arguments than it passed on."""
    kind = type(error)
    if kind.__reduce__ is BaseException.__reduce__ and kind.__reduce_ex__ is object.__reduce_ex__:
        reduced: Reduced = (words.exception, (kind, error.args), error.__dict__)
    else:
        reduced = dumper.by_itself(error)
        if type(reduced) is not tuple or reduced[0] is not kind or kind.__setstate__ is not BaseException.__setstate__:
            return reduced
    made, state = reduced[:2], dict((*reduced, None)[2] or {})
    for name in ("__cause__", "__context__", "__traceback__"):
        if (other := getattr(error, name)) is not None:
            state[name] = other
    if error.__suppress_context__:
        state["__suppress_context__"] = True
    return (*made, state) if state else made


def reduce_traceback(_: Dumper, traceback: types.TracebackType) -> Reduced:
    """Its frames without their variables, and the cells that they are of."""
    frames = tracebacks.described(traceback)
    sources = (bodies.source(filename) for filename in dict.fromkeys(frame[1] for frame in frames))
    return words.traceback, (frames, tuple((name, "".join(lines)) for name, lines in filter(None, sources)))


def reduce_counter(_: Dumper, counter: Any) -> Reduced:
    """With its attributes, and entries that are put in when it is there: their keys may refer to it."""
    return NEWOBJ, (collections.Counter,), vars(counter) or None, None, iter(dict.items(counter))


def reduce_cached_property(_: Dumper, prop: Any) -> Reduced:
    """Without the lock that Python 3.11 gives it."""
    state = {name: value for name, value in vars(prop).items() if name not in ("lock", "func")}
    return functools.cached_property, (prop.func,), state


def reduce_context_manager(dumper: Dumper, manager: Any) -> Reduced:
    """One that nobody has entered is made again; who enters it deletes what it is made of."""
    made_of = [vars(manager).get(name) for name in ("func", "args", "kwds")]
    if inspect.isgeneratorfunction(made_of[0]) or inspect.isasyncgenfunction(made_of[0]):
        return type(manager), tuple(made_of)
    return reduce_library(dumper, manager)


def reduce_dispatching_method(_: Dumper, method: Any) -> Reduced:
    """Without the cache that Python 3.13 gives it."""
    return functools.singledispatchmethod, (method.func,), {"dispatcher": method.dispatcher}


def reduce_sentinel(dumper: Dumper, obj: Any) -> Reduced:
    """The constants of `dataclasses` are compared by identity."""
    for name in ("MISSING", "KW_ONLY", "_HAS_DEFAULT_FACTORY"):
        if obj is getattr(dataclasses, name, None):
            return getattr, (dataclasses, name)
    return dumper.by_itself(obj)


def reduce_widget(dumper: Dumper, obj: Any) -> Reduced:
    """Widgets talk to the front end from the process that made them."""
    if has_open_comm(obj):
        return dumper.stub(obj, on_show.REASON)
    return reduce_library(dumper, obj)


def reduce_shell(_: Dumper, __: Any) -> Reduced:
    """IPython's shell is another one in each process."""
    return words.shell, ()


def reduce_reference(dumper: Dumper, ref: Any) -> Reduced:
    """A weak reference, with what it refers to."""
    if ref.__callback__ is not None:
        return dumper.stub(ref, "a weak reference with a callback can't leave its process")
    return words.weak, (weakref.ref, ref())


def reduce_proxy(_: Dumper, proxy: Any) -> Reduced:
    """A weak proxy, with what it refers to."""
    return words.weak, (weakref.proxy, behind.proxy(proxy))


def reduce_mapping_proxy(dumper: Dumper, proxy: Any) -> Reduced:
    """With the very mapping that it shows."""
    mapping = behind.mapping(proxy)
    return dumper.by_itself(proxy) if mapping is None else (types.MappingProxyType, (mapping,))


def reduce_memory_view(dumper: Dumper, view: memoryview) -> Reduced:
    """With what it is a view of, if that is bytes that can be changed."""
    place = behind.place_of(view)
    return dumper.stub(view, "it is memory of that process") if place is None else (behind.view_of, (view.obj, *place))


def reduce_weak_mapping(_: Dumper, mapping: Any) -> Reduced:
    """With what is in it, as pairs."""
    return words.weak, (type(mapping), list(mapping.items()))


def reduce_weak_set(_: Dumper, weak_set: Any) -> Reduced:
    """With what is in it."""
    return words.weak, (weakref.WeakSet, list(weak_set))


def reduce_log_handler(dumper: Dumper, handler: Any) -> Reduced:
    """One of the notebook's own, or one that writes to something that can travel."""
    logging = sys.modules["logging"]
    if isinstance(handler, logging.FileHandler) or (importable(type(handler)) and not _is_simple(handler)):
        return dumper.stub(handler, "it belongs to the loggers of that process")
    return dumper.by_itself(handler)


def _is_simple(handler: Any) -> bool:
    logging = sys.modules["logging"]
    return type(handler) in (logging.StreamHandler, logging.NullHandler)


def reduce_match(_: Dumper, match: re.Match[Any]) -> Reduced:
    """What was looked for where, and found."""
    return words.match, (match.re, match.string, match.pos, match.endpos, match.span())


def _twin(kind: str, made_of: Callable[[Any], Any] = lambda _: None) -> Handler:
    return lambda dumper, obj: dumper.twin(obj, kind, made_of(obj))


def _of_folder(folder: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(folder).items() if name != "_finalizer"}


def _of_pool(pool: Any) -> tuple[int, str, bool]:
    return pool._max_workers, pool._thread_name_prefix, pool._shutdown


def reduce_context_variable(dumper: Dumper, variable: contextvars.ContextVar[Any]) -> Reduced:
    """Its value belongs to a thread; the default is shared."""
    default: tuple[Any, ...] = ()
    with contextlib.suppress(LookupError):
        default = (contextvars.Context().run(variable.get),)
    return dumper.twin(variable, "context variable", (variable.name, default))


def reduce_future(dumper: Dumper, future: Any) -> Reduced:
    """Of one that is over there is but the result."""
    if not future.done() or future.cancelled():
        why = "something in that process will set it" if not future.done() else "it was cancelled"
        return dumper.stub(future, why)
    kind = "task" if asyncio.isfuture(future) else "future"
    error = future.exception()
    return dumper.twin(future, kind, (None if error is not None else future.result(), error))


def reduce_process(dumper: Dumper, process: Any) -> Reduced:
    """Of one that has ended there is what it said."""
    if process.returncode is None:
        return dumper.stub(process, "a child process has one parent")
    left_out = ("_waitpid_lock", "_child_created", "_devnull")
    return dumper.twin(process, "process", {k: v for k, v in vars(process).items() if k not in left_out})


def reduce_thread(dumper: Dumper, thread: threading.Thread) -> Reduced:
    """Of one that has ended there is the name."""
    if thread.ident is None or thread.is_alive():
        return dumper.stub(thread, "a thread can't leave its process")
    return dumper.twin(thread, "thread", (thread.name, thread.daemon))


def reduce_file(dumper: Dumper, file: Any) -> Reduced:
    """What ``with`` has left of one is closed."""
    if not file.closed:
        return _standard(dumper, file) or dumper.stub(file, "an open file")
    encoding = getattr(file, "encoding", None)
    mode = getattr(file, "mode", None) or file.buffer.mode.replace("b", "")  # of a pipe
    return dumper.twin(file, "file", (file.name, mode, encoding, type(file) is not io.FileIO))


def reduce_struct(_: Dumper, form: struct.Struct) -> Reduced:
    """By its format."""
    return struct.Struct, (form.format,)


def reduce_new_type(dumper: Dumper, new_type: Any) -> Reduced:
    """By its parts, as its name may mean nothing where it arrives."""
    if new_type.__module__ != "__main__":
        return dumper.by_itself(new_type)
    return typing.NewType, (new_type.__name__, new_type.__supertype__), {"__module__": "__main__"}


def reduce_singleton(module: str, *names: str) -> Handler:
    """A handler for objects of which each process's library has one, which is meant: it travels by name."""

    def handler(dumper: Dumper, obj: Any) -> Reduced:
        loaded = sys.modules.get(module)
        for name in names:
            if loaded is not None and obj is getattr(loaded, name, None):
                return getattr, (loaded, name)
        return dumper.by_itself(obj)

    return handler


_EXACT: dict[type, Handler] = {
    types.FunctionType: reduce_function,
    types.CellType: reduce_cell,
    types.ModuleType: reduce_module,
    types.BuiltinFunctionType: reduce_builtin,
    object: reduce_definition,
    LruCache: reduce_definition,
    Stub: reduce_stub,
    functools.cached_property: reduce_cached_property,
    _KeyFunction: reduce_key_function,
    collections.Counter: reduce_counter,
    io.StringIO: reduce_buffer,
    io.BytesIO: reduce_buffer,
    **dict.fromkeys(_VIEWS, reduce_dict_view),
    functools.singledispatchmethod: reduce_dispatching_method,
    **dict.fromkeys(_CONTEXT_MANAGERS, reduce_context_manager),
    type(dataclasses.MISSING): reduce_sentinel,
    type(dataclasses.KW_ONLY): reduce_sentinel,
    type(getattr(dataclasses, "_HAS_DEFAULT_FACTORY", dataclasses.MISSING)): reduce_sentinel,
    weakref.ref: reduce_reference,
    weakref.WeakSet: reduce_weak_set,
    weakref.WeakValueDictionary: reduce_weak_mapping,
    weakref.WeakKeyDictionary: reduce_weak_mapping,
    weakref.ProxyType: reduce_proxy,
    weakref.CallableProxyType: reduce_proxy,
    types.MappingProxyType: reduce_mapping_proxy,
    memoryview: reduce_memory_view,
    re.Match: reduce_match,
    struct.Struct: reduce_struct,
    types.TracebackType: reduce_traceback,
    typing.NewType: reduce_new_type,
    **dict.fromkeys(type_params.KINDS, reduce_type_param),
    **dict.fromkeys(lazy_imports.KINDS, reduce_lazy_import),
    random.Random: reduce_singleton("random", "_inst"),
    type(os.environ): reduce_singleton("os", "environ", "environb"),
    _thread.LockType: _twin("lock"),
    _thread.RLock: _twin("rlock"),
    threading.Condition: _twin("condition"),
    threading.Semaphore: _twin("semaphore", lambda semaphore: semaphore._value),
    threading.BoundedSemaphore: _twin("bounded semaphore", lambda semaphore: semaphore._initial_value),
    threading.local: _twin("local"),
    threading.Thread: reduce_thread,
    subprocess.Popen: reduce_process,
    **dict.fromkeys(_FILES, reduce_file),
    tempfile.TemporaryDirectory: _twin("temporary folder", _of_folder),
    asyncio.Lock: _twin("asyncio lock"),
    contextvars.ContextVar: reduce_context_variable,
    concurrent.futures.Future: reduce_future,
    asyncio.Future: reduce_future,
    asyncio.Task: reduce_future,
}
_BASES: tuple[tuple[type, Handler], ...] = (
    (enum.Enum, reduce_member),
    (BaseException, reduce_exception),
    (io.TextIOBase, reduce_stream),
)
# Only if something has imported the module: (module, class, handler), for exactly the class, or for subclasses too.
_IF_LOADED: tuple[tuple[str, str, Handler], ...] = (
    ("numpy", "ndarray", arrays.reduce_array),
    ("numpy", "memmap", arrays.reduce_memmap),
    ("numpy", "matrix", arrays.reduce_array),
    ("numpy", "ufunc", arrays.reduce_ufunc),
    ("numpy", "recarray", arrays.reduce_array),
    ("sqlite3", "Row", databases.reduce_row),
    ("concurrent.futures.thread", "ThreadPoolExecutor", _twin("thread pool", _of_pool)),
    ("numpy.random", "RandomState", reduce_singleton("numpy.random.mtrand", "_rand")),
    ("matplotlib", "RcParams", reduce_singleton("matplotlib", "rcParams")),
    ("pandas._libs.internals", "BlockValuesRefs", arrays.reduce_references),
    *(("pandas", name, arrays.reduce_index) for name in ("Index", "DatetimeIndex", "TimedeltaIndex")),
    ("pandas.core.internals.managers", "SingleBlockManager", arrays.reduce_single_manager),
    ("sqlalchemy", "Engine", databases.reduce_engine),
    ("ctypes", "CDLL", c_types.reduce_library),
    ("ctypes", "PyDLL", c_types.reduce_library),
    ("torch", "Tensor", arrays.reduce_tensor),
    ("torch.nn", "Parameter", arrays.reduce_tensor),
)
_BASE_IF_LOADED: tuple[tuple[str, str, Handler], ...] = (
    ("numpy", "ndarray", arrays.reduce_own_array),
    *plots.REDUCERS,
    ("ipywidgets", "Widget", reduce_widget),
    ("IPython.core.interactiveshell", "InteractiveShell", reduce_shell),
    ("traitlets", "HasTraits", reduce_widget),
    ("ctypes", "_CFuncPtr", c_types.reduce_function),
    ("logging", "Handler", reduce_log_handler),
    *(("argparse", name, _argparse) for name in ("_AttributeHolder", "_ActionsContainer")),
    ("pandas.core.internals.blocks", "Block", arrays.reduce_block),
    ("pandas.core.generic", "NDFrame", arrays.reduce_frame),
)
