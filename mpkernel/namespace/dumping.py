"""From values to bytes: one pickler, which is asked about everything but plain containers and atoms."""

from __future__ import annotations

import copyreg
import dis
import functools
import io
import pickle
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import cloudpickle

from mpkernel.errors import TookTooLong
from mpkernel.namespace import behind, hashing, words
from mpkernel.namespace.address import address_of
from mpkernel.namespace.definitions import DISPATCHER, ContentKey, Definition, Definitions, walk
from mpkernel.namespace.kinds import why_local
from mpkernel.namespace.memory import OUT_OF_BAND, Views
from mpkernel.namespace.stubs import Held, Note
from mpkernel.namespace.texts import Text, Texts
from mpkernel.namespace.untold import NEWOBJ, whole_state
from mpkernel.namespace.weight import UNLIMITED, Allowance, TooDear

PROTOCOL = 5
# A dict or list may change its size while another thread walks it; so many tries before that is an error.
TRIES = 8
# After a larger pickle (bytes) the pickler isn't used again.
MAX_REUSED = 20_000
# So many picklers are kept: for a value, and for the definitions that it needs.
MAX_FREE = 2
# So many values of one dump can turn out to be unpicklable before it is given up as a whole.
MAX_FAILED = 100
# The allowance is looked at once for so many objects: values of fewer are always pickled.
CHECK_EVERY = 64
# In longer lists nobody looks for a dict that is the ``__dict__`` of an instance.
MAX_BOUND = 64
# Seconds that a notebook's classes have for their part in one pickle.
HOOK_LIMIT = 1.0

_STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
Reduced = Any  # a tuple as `__reduce__` returns it, a string, or NotImplemented
Handler = Callable[["Dumper", Any], Reduced]
Beyond = Callable[[int], bool]  # whether an object, by its id, leads to more than may be pickled now


class Clock(Protocol):
    """Runs until `pause`, and again from `go_on`."""

    def pause(self) -> None: ...
    def go_on(self) -> None: ...


# Ends what runs in the context that it returns by TookTooLong after so many seconds of the clock; None: it doesn't.
Limit = Callable[[float], AbstractContextManager[Clock | None]]


class Restless(RuntimeError):
    """A container changed its size while it was walked."""


class Dumper(pickle.Pickler):
    """Pickles values of one namespace; may be used again and again."""

    def __init__(self, context: Context) -> None:
        self._file = io.BytesIO()
        super().__init__(self._file, protocol=PROTOCOL, buffer_callback=self._buffer)
        self.context = context
        self.views = Views()
        self.texts: list[Text] = []
        self.used: dict[str, Definition] = {}
        self.notes: dict[tuple[int, int], Note] = {}
        self.memory: set[int] = set()  # ids and addresses that arrays share, beside their own
        self.cells: dict[int, str] = {}  # of functions: contents travel with the function
        self.filled: set[int] = set()
        self.given: set[str] = set()  # ids of definitions whose content is in the pickle
        self.content: set[int] = set()  # its ids
        self.of_body = False  # it is a definition that is pickled, without content
        self.failed: dict[int, tuple[Any, str]] = {}
        self.last: Any = None
        self.allowance = UNLIMITED
        self.beyond: Beyond | None = None
        self.met = 0  # objects
        self._used = False
        self.size = 0  # of the last pickle
        self._handlers: dict[type, Handler] = {}  # of this dump
        self._ways: dict[type, tuple[tuple[bool, bool], bool, bool, bool]] = {}  # how instances are made: `_gently`, …
        self._hashing: dict[type, bool] = {}  # types whose instances may need their state to be hashed
        self._common = context.handlers
        self._deferred: list[Any] | None = None
        self._alarm = ExitStack()  # set from the first object on for which code of the notebook's classes is run
        self._clock: Clock | None = None  # of that alarm, which counts the time that such code takes
        self._counts = False  # the clock runs until the next object
        self._runs_on = False  # it runs until the end: the class goes on giving us objects
        self._bound: Set[int] = frozenset()
        self._blamed: type | None = None  # if the alarm goes off

    def pickle(self, value: Any) -> bytes:
        """The bytes of `value`; what was met on the way is in the attributes until `clear`.

        Raises RecursionError, PicklingError, MemoryError, or whatever comes from outside (BaseException).
        """
        self._bound = _bound_dicts(value)
        try:
            return self._pickle(value)
        finally:
            self._stop_clock()

    def _pickle(self, value: Any) -> bytes:
        restless = 0
        while True:
            if self._used:
                self._restart()
            self._used = True
            try:
                self.dump(value)
                data = self._file.getvalue()
                self.size = max(self.size, len(data))
                return data
            except RecursionError:
                if self._deferred is not None:
                    raise
                return self._pickle_deep(value)
            except MemoryError:
                self.size = MAX_REUSED + 1  # the file is closed
                raise
            except TookTooLong:
                if self._blamed is None:
                    raise  # it is the alarm of a dump around this one
                blamed = self._blamed
                self._stop_clock()
                self.context.give_up_on(blamed)
            except Exception as error:
                if _changed_size(error) and (restless := restless + 1) < TRIES:
                    continue
                if self.last is None or id(self.last) in self.failed or len(self.failed) >= MAX_FAILED:
                    raise
                self.failed[id(self.last)] = (self.last, _reason(error))

    def _pickle_deep(self, value: Any) -> bytes:
        """As `pickle`, where objects are nested so deep that their states must be put down one after the other."""
        self._deferred = []
        try:
            return self._pickle(_Deep(value))
        finally:
            self._deferred = None

    def _restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self.clear_memo()
        self.views.clear()
        self.texts.clear()
        self.used.clear()
        self.notes.clear()
        self.memory.clear()
        self.cells.clear()
        self.filled.clear()
        self.given.clear()
        self.content.clear()
        self._handlers.clear()
        self._ways.clear()
        self._hashing.clear()
        self.last = None
        if self._deferred:
            self._deferred.clear()

    def clear(self) -> None:
        """Let go of everything that the last value consists of."""
        if self._used:
            self._restart()
            self.failed.clear()
            self._used = False

    def _buffer(self, buffer: Any) -> bool:
        """Whether a buffer that pickle meets is to be put into the pickle itself."""
        view = buffer.raw()
        if view.nbytes < OUT_OF_BAND or (address := address_of(view)) is None:
            return True
        self.views.buffers.append((self.views.add(address, address + view.nbytes, buffer), view.nbytes))
        return False

    def reducer_override(self, obj: Any) -> Reduced:
        """Asked for everything that isn't a plain container or atom. Raises TooDear."""
        self.met += 1
        if self._counts:
            self._pause_clock()
        if not self.met % CHECK_EVERY:
            self.allowance.check()
        if self.beyond is not None and self.beyond(id(obj)):
            raise TooDear
        if self.failed and (failed := self.failed.get(id(obj))) is not None:
            return self.stub(obj, failed[1])
        kind = type(obj)
        handler = self._handlers.get(kind)
        if handler is None:
            handler = self._handlers[kind] = self._common.get(kind) or self.context.handler(kind)
        return handler(self, obj)

    # --- the time that a notebook's classes take ----------------------------------------------------------------------

    def _start_clock(self, kind: type) -> None:
        """Until the next object, what runs is code of `kind`."""
        if self._clock is None:
            self._blamed = kind
            self._clock = self._alarm.enter_context(self.context.limit(HOOK_LIMIT))
            self._counts = self._clock is not None
            if self._clock is None:  # there is no limit here
                self._alarm.close()
                self._blamed = None
        elif not self._counts and not self._runs_on:
            self._blamed = kind
            self._counts = True
            self._clock.go_on()

    def _pause_clock(self) -> None:
        assert self._clock is not None
        self._clock.pause()
        self._counts = False

    def _stop_clock(self) -> None:
        self._alarm.close()
        self._clock = self._blamed = None
        self._counts = self._runs_on = False

    # --- what handlers use --------------------------------------------------------------------------------------------

    def stub(self, obj: Any, reason: str) -> Reduced:
        """Others get a stub of `obj`."""
        note = self.context.held.note(obj, reason)
        self.notes[note.owner, note.token] = note
        return words.stub, note.words

    def twin(self, obj: Any, kind: str, made_of: Any) -> Reduced:
        """Others get one of their own, and this comes home as itself."""
        return words.twin, (kind, made_of, *self.context.held.note(obj, "").words)

    def use(self, obj: Any) -> Definition:
        """Note that the pickle refers to a function or class."""
        definition = self.context.definitions.of(obj)
        self.used[definition.id] = definition
        return definition

    def by_reference(self, obj: Any, made: Reduced = None, cells: Iterable[types.CellType] = ()) -> Reduced:
        """As a definition, with what it and those that it needs hold, as far as that isn't in the pickle yet.

        `made`: how it is found, if its id isn't enough; `cells`: those of its closure whose content goes with it.
        """
        self.last = obj
        definition = self.use(obj)
        made = made or (words.definition, (definition.id,))
        filled = [pair for cell in cells if (pair := self._filled(cell))]
        entries = [] if self.of_body else list(self._contents(definition, filled))
        return (*made, (filled, entries), None, None, words.fill) if filled or entries else made

    def _contents(
        self, definition: Definition, filled: list[tuple[types.CellType, Any]]
    ) -> Iterator[tuple[str, str, Any]]:
        """Owner, name and content of places; what is in cells is put into `filled`."""
        definitions = self.context.definitions
        for needed in walk(definitions, [definition.id], self.context.refresh, self.given):
            obj = needed.ref()
            if needed is not definition and isinstance(obj, types.FunctionType) and obj.__code__ is not DISPATCHER:
                for cell in self.cells_of(obj):
                    if self.holds(cell) and (pair := self._filled(cell)):
                        filled.append(pair)
            for name in needed.contents:
                with suppress(LookupError, AttributeError):  # deleted by another thread
                    content = definitions.content(ContentKey(needed.id, name, name))
                    self.content.add(id(content))
                    yield needed.id, name, content

    def cells_of(self, function: types.FunctionType) -> tuple[types.CellType, ...]:
        """The cells of a function, which are known from now on."""
        cells = function.__closure__ or ()
        definitions = self.context.definitions
        ids = definitions.cells_of(definitions.of(function), function)
        self.cells.update((id(cell), cell_id) for cell, cell_id in zip(cells, ids, strict=True))
        return cells

    def holds(self, cell: types.CellType) -> bool:
        """Whether what is in a cell can be changed in place."""
        try:
            content = cell.cell_contents
        except ValueError:  # it is empty
            return False
        return self.context.definitions.is_content(content) and behind.class_of(content) is None

    def _filled(self, cell: types.CellType) -> tuple[types.CellType, Any] | None:
        """The cell and what is in it, unless that is in the pickle already, or nothing."""
        if id(cell) in self.filled:
            return None
        self.filled.add(id(cell))
        try:
            return cell, behind.content_of(cell)
        except ValueError:  # it is empty
            return None

    def apart(self, text: Text) -> int:
        """Note that a text travels beside the pickle; returns its number."""
        self.texts.append(text)
        return len(self.texts) - 1

    def by_itself(self, obj: Any, way: Callable[[Any], Reduced] | None = None) -> Reduced:
        """As the object, its class or `copyreg` says, or else by `way`; if that raises, a stub of it."""
        self.last = obj
        kind = type(obj)
        reducer = self.context.reducers.get(kind) or way
        if hooked := kind.__module__ == "__main__" and _has_hooks(kind):
            self._start_clock(kind)
        try:
            reduced = _reduced(obj) if reducer is None else reducer(obj)
            if type(reduced) is str and kind.__module__ == "__main__":  # found by that name, if it is there already
                reduced = (NEWOBJ, (kind,), object.__getstate__(obj))
            if type(reduced) is tuple and reduced[0] is NEWOBJ:
                if (ways := self._ways.get(kind)) is None:
                    ways = _asks(kind), _shares_attributes(kind), _fills_itself(kind), _tells_itself(kind)
                    self._ways[kind] = ways
                if ways[3]:
                    reduced = _with_own_items(obj, reduced)
                is_bound = id(reduced[2]) in self._bound
                wrong, reduced = None, _gently(ways[0], reduced)
                if ways[1] or is_bound:  # which may be the object itself
                    reduced = (*reduced[:2], vars(obj), *(*reduced[3:], None, None)[:2], words.attributes)
                elif ways[2]:
                    reduced = _filled(reduced)
            elif (wrong := _wrong(obj, reduced)) is None and kind.__module__ == "__main__":
                reduced = _with_type(kind, reduced)
        except RecursionError:
            if self._deferred is None:
                raise
            return self.stub(obj, "its __reduce__ recurses without end")
        except (SystemExit, GeneratorExit, KeyboardInterrupt) as error:
            return self.stub(obj, _reason(error))
        except Exception as error:
            if _changed_size(error):
                raise
            return self.stub(obj, _reason(error))
        if wrong is not None:
            return self.stub(obj, wrong)
        if len(reduced) > 2 and reduced[0] in _MAKERS and reduced[2] is not None:
            reduced = self._with_hash(obj, kind, reduced)
        if hooked and self._counts and any(isinstance(part, types.GeneratorType) for part in reduced[3:]):
            self._counts, self._runs_on = False, True
        return reduced if self._deferred is None else self._defer(obj, reduced)

    def _with_hash(self, obj: Any, kind: type, reduced: Reduced) -> Reduced:
        """So that it can be hashed, as far as possible, before its state is loaded, which may be full of it."""
        if (hashes := self._hashing.get(kind)) is None:
            hashes = self._hashing[kind] = hashing.hashes_itself(kind)
        setter = (*reduced, None, None, None)[5]
        if not hashes or setter is words.attributes:
            return reduced
        state = reduced[2][0] if setter is words.content else reduced[2]
        if (known := hashing.known_at_once(obj, state)) is None:
            return reduced
        made = words.known, (known, reduced[0], *reduced[1])
        if setter is words.content or not known[0]:
            return (*made, *reduced[2:])
        return (*made, reduced[2], *(*reduced[3:], None, None)[:2], words.afresh)

    def _defer(self, obj: Any, reduced: Reduced) -> Reduced:
        if self._deferred is None or type(reduced) is not tuple or len(reduced) < 3 or reduced[2] is None:
            return reduced
        if any(part is not None for part in reduced[3:5]) or reduced[5:] not in _SETTERS:
            return reduced
        self._deferred.append((obj, reduced[2]))
        return reduced[:2]

    def deferred(self) -> Iterator[Any]:
        """The states that were put off, as long as there are any; each may put off others.

        The pickler asks for two items before it saves the first of a batch, so every other one is a blank.
        """
        while self._deferred:
            yield _State(*self._deferred.pop())
            yield None


_MAKERS = (NEWOBJ, words.instance, words.made)
_SETTERS = ((), (None,), (words.state,), (words.afresh,))  # that do what `words.state` does


class _Deep:
    """Asks the loader for a value whose parts get their states later."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _State:
    def __init__(self, obj: Any, state: Any) -> None:
        self.obj, self.state = obj, state


class Local:
    """Marks a value of which it is known that it can't be pickled as a whole."""

    def __init__(self, value: Any, reason: str) -> None:
        self.value, self.reason = value, reason


def reduce_local(dumper: Dumper, local: Local) -> Reduced:
    """A stub of the value."""
    return dumper.stub(local.value, local.reason)


def reduce_deep(dumper: Dumper, deep: _Deep) -> Reduced:
    """The value first, then the states, which the loader applies and forgets."""
    return words.deferred, (deep.value,), None, dumper.deferred()


def reduce_state(_: Dumper, state: _State) -> Reduced:
    """One state."""
    return words.state, (state.obj, state.state)


class Context:
    """What all dumps of a process have in common."""

    def __init__(
        self,
        namespace: dict[Any, Any],
        definitions: Definitions,
        refresh: Callable[[Definition], None],
        held: Held,
        kinds: Any,
        limit: Limit,
    ) -> None:
        self.namespace = namespace
        self.limit = limit
        self.definitions = definitions
        self.refresh = refresh
        self.held = held
        self.reducers = _Reducers()
        self.streams = {name: getattr(sys, name, None) for name in _STREAMS}  # whatever a cell puts in their place
        self.texts = Texts()
        self._handler_for: Callable[[type], tuple[Handler, bool]] = kinds
        self.handlers: dict[type, Handler] = {_Deep: reduce_deep, _State: reduce_state, Local: reduce_local}
        self._own_handlers: WeakKeyDictionary[type, Handler] = WeakKeyDictionary()  # the notebook's classes may go away
        self._local: dict[type, bool] = {}
        self._free: list[Dumper] = []

    def handler(self, kind: type) -> Handler:
        """What turns objects of a type not met before into bytes."""
        handler = self._own_handlers.get(kind)
        if handler is None:
            handler, keep = self._handler_for(kind)
            (self.handlers if keep else self._own_handlers)[kind] = handler
        return handler

    def give_up_on(self, kind: type) -> None:
        """Pickling an object of that type took too long; it isn't tried again."""
        reason = f"pickling it takes longer than {HOOK_LIMIT:g} s"
        self.handlers[kind] = lambda dumper, obj: dumper.stub(obj, reason)

    def is_local(self, kind: type) -> bool:
        """Whether instances of `kind`, which isn't the notebook's own, live in one process only."""
        known = self._local.get(kind)
        if known is None:
            known = kind.__module__ != "__main__" and why_local(kind) is not None
            if kind.__module__ != "__main__":  # the notebook's own classes may go away
                self._local[kind] = known
        return known

    @contextmanager
    def dumper(
        self, allowance: Allowance = UNLIMITED, *, beyond: Beyond | None = None, of_body: bool = False
    ) -> Iterator[Dumper]:
        """A pickler that nobody else uses meanwhile: another thread, or a ``__reduce__`` that comes back here."""
        dumper = self._free.pop() if self._free else Dumper(self)
        dumper.allowance, dumper.beyond, dumper.met, dumper.of_body = allowance, beyond, 0, of_body
        try:
            yield dumper
        except TooDear:
            dumper.size = MAX_REUSED + 1  # it may be
            raise
        finally:
            # The memo never shrinks, and it takes long to clear a large one.
            if dumper.size <= MAX_REUSED and len(self._free) < MAX_FREE:
                dumper.clear()
                self._free.append(dumper)


class _Reducers:
    """`copyreg`'s table, and cloudpickle's for what Python leaves out."""

    def __init__(self) -> None:
        self._extra = dict(getattr(cloudpickle.Pickler, "_dispatch_table", {}))

    def get(self, kind: type) -> Callable[[Any], Any] | None:
        return self._extra.get(kind) or copyreg.dispatch_table.get(kind)


def _with_type(kind: type, reduced: Reduced) -> Reduced:
    """With the type of what a function is to make, for who can't have it made."""
    maker, args, *rest = reduced
    told = isinstance(maker, type) or any(arg is kind for arg in args)
    return reduced if told else (words.called, (kind, maker, *args), *rest)


def _gently(asks: tuple[bool, bool], reduced: Any) -> Any:
    """So that loading asks the class for nothing that it may not answer.

    A ``__new__`` may want arguments that nobody knows any more; a ``__getattr__``, asked for ``__setstate__`` before
    there is any state, recurses.
    """
    by_new, by_getattr = asks
    if by_new:
        reduced = (words.instance, *reduced[1:])
    if by_getattr and len(reduced) > 2 and reduced[2] is not None:
        rest = (*reduced[3:], None, None)[:2]
        reduced = (*reduced[:3], *rest, words.state)
    return reduced


def _asks(kind: type) -> tuple[bool, bool]:
    """Whether instances of `kind` are made, and filled, by code of theirs."""
    new = getattr(kind, "__new__", None)
    hooked = getattr(kind, "__getattr__", None) is not None or type(kind.__getattribute__) is types.FunctionType
    return type(new) is types.FunctionType, hooked and not hasattr(kind, "__setstate__")


def _reduced(obj: Any) -> Any:
    try:
        return obj.__reduce_ex__(PROTOCOL)
    except RecursionError:
        raise
    except Exception as error:
        if type(obj).__module__ != "__main__" or _changed_size(error) or (reduced := whole_state(obj)) is None:
            raise
        return reduced


def _fills_itself(kind: type) -> bool:
    """Whether a method of the class puts in what such a list or dict has in it, when it has no attributes yet."""
    names = ("append", "extend") if issubclass(kind, list) else ("__setitem__",) if issubclass(kind, dict) else ()
    return any(type(getattr(kind, name)) is types.FunctionType for name in names)


def _tells_itself(kind: type) -> bool:
    """Whether a method of the class says what such a list or dict has in it."""
    names = ("__iter__",) if issubclass(kind, list) else ("__iter__", "keys", "items") if issubclass(kind, dict) else ()
    return any(type(getattr(kind, name)) is types.FunctionType for name in names)


def _with_own_items(obj: Any, reduced: Any) -> Any:
    items = list.__iter__(obj) if isinstance(obj, list) else None
    pairs = iter(dict.items(obj)) if isinstance(obj, dict) else None
    return (*reduced[:3], items, pairs)


def _filled(reduced: Any) -> Any:
    """So that items are put in without asking the class."""
    state, items, pairs = (*reduced[2:], None, None, None)[:3]
    return (*reduced[:2], (state, list(items or ()), list(pairs or ())), None, None, words.content)


def _bound_dicts(value: Any) -> Set[int]:
    """The ids of dicts that variables are bound to, or lists of these: some may be the ``__dict__`` of an instance."""
    if type(value) is not dict:
        return frozenset()
    few = [items for items in value.values() if type(items) in (list, tuple) and len(items) <= MAX_BOUND]
    return {id(item) for items in (value.values(), *map(tuple, few)) for item in items if type(item) is dict}


def _shares_attributes(kind: type) -> bool:
    """Whether a method sets ``__dict__``: several instances may have one dict (the "Borg" pattern)."""
    if kind.__module__ != "__main__" or any("__getstate__" in vars(base) for base in kind.__mro__[:-1]):
        return False
    return any(
        type(method) is types.FunctionType and _sets_dict(method.__code__)
        for base in kind.__mro__
        if base.__module__ == "__main__"
        for method in tuple(vars(base).values())
    )


@functools.lru_cache(256)
def _sets_dict(code: types.CodeType) -> bool:
    return "__dict__" in code.co_names and any(
        step.opname == "STORE_ATTR" and step.argval == "__dict__" for step in dis.get_instructions(code)
    )


_HOOKS = frozenset(
    ("__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__", "__getattr__")
)


def _has_hooks(kind: type) -> bool:
    """Whether pickling an object runs code of its class."""
    return any(base.__module__ == "__main__" and not _HOOKS.isdisjoint(vars(base)) for base in kind.__mro__)


def _changed_size(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "during iteration" in str(error)


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200] if text else type(error).__name__


def _wrong(obj: Any, reduced: Any) -> str | None:
    """Why the answer of a ``__reduce__`` is of no use."""
    if isinstance(reduced, str):
        module = sys.modules.get(getattr(obj, "__module__", None) or "")
        if module is None:
            return None  # pickle searches all modules
        found: Any = module
        for part in reduced.split("."):
            found = getattr(found, part, None)
        return None if found is obj else f"it isn't found as {reduced}"
    if type(reduced) is not tuple or not 2 <= len(reduced) <= 6:
        return "its __reduce__ returned nonsense"
    if not callable(reduced[0]) or type(reduced[1]) is not tuple:
        return "its __reduce__ returned nonsense"
    return None
