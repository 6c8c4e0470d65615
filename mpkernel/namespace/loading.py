"""From bytes to values, in the process that loads."""

from __future__ import annotations

import importlib
import io
import operator
import pickle
import sys
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import cloudpickle.cloudpickle as cloudpickle

from mpkernel.errors import TookTooLong
from mpkernel.namespace import bodies, patches, tracebacks, twins
from mpkernel.namespace.definitions import NEVER, ContentKey, Definition, Version
from mpkernel.namespace.dumping import Context
from mpkernel.namespace.hashing import State
from mpkernel.namespace.memory import Regions
from mpkernel.namespace.stubs import Note
from mpkernel.namespace.texts import Text

WORDS = "mpkernel.namespace.words"

# Seconds that code of the notebook may take for a value that isn't large, and what made it late when it is tried again.
LOAD_LIMIT = 3.0
AGAIN_LIMIT = 0.3
LARGE = 4 << 20
# What these have makes its objects at once, and is in many values: it needs no limit. Of builtins, the types.
_QUICK = frozenset(
    ("builtins", "collections", "copyreg", "datetime", "decimal", "fractions", "numpy", "pandas", "pathlib")
)


class MissingDefinition(pickle.UnpicklingError):
    """A payload refers to a function or class that neither came with it nor is here."""


def missing_library(module: str) -> str:
    """The package that importing `module` would bring in; "" if it is here, or a part of Python."""
    package = module.partition(".")[0]
    return "" if package in sys.modules or package in sys.stdlib_module_names else package


class NotImported(pickle.UnpicklingError):
    """A payload needs a library that isn't imported here, and wasn't to be."""

    def __init__(self, package: str) -> None:
        super().__init__(f"{package} isn't imported")
        self.package = package


@dataclass(frozen=True, slots=True)
class Beside:
    """What comes beside a pickle."""

    regions: Regions | None
    texts: Sequence[Text]

    def buffers(self) -> list[memoryview] | None:
        """Those that pickle itself asks for."""
        return self.regions.out_of_band() if self.regions is not None else None


class Loading:
    """One payload being loaded, with the definitions that came along."""

    def __init__(
        self,
        context: Context,
        bodies: Mapping[str, tuple[Version, bytes]],
        *,
        imports: bool = True,
        lacking: set[str] | None = None,
    ) -> None:
        self.namespace = context.namespace
        self.definitions = context.definitions
        self.held = context.held
        self.texts = context.texts
        self.streams = context.streams
        self.loaded: list[Definition] = []
        self.contents: dict[ContentKey, Any] = {}
        self._cells: dict[str, types.CellType] = {}  # by id, those that were not here
        self.new: set[str] = set()  # ids of definitions, and of cells, that were not here
        self.limit = context.limit
        self.late = False  # code of the notebook took too long
        self._runs_code = bool(bodies)
        self._unlimited: ExitStack | None = None  # of a value that is being loaded, to be given a limit if need be
        self._waiting = dict(bodies)
        self._imports = imports  # libraries that aren't here yet
        self._lacking = lacking  # if given: those that weren't to be imported, and what needs them is a stand-in
        self._heads = 0  # that are being loaded, one within the other
        self._unfilled: list[Callable[[], None]] = []

    def value(self, data: bytes | memoryview, beside: Beside) -> Any:
        """What a pickle is of."""
        try:
            with ExitStack() as stack:
                self._unlimited = stack if len(data) < LARGE else None
                if self._runs_code:
                    self._limit()
                return _Loader(io.BytesIO(data), self, beside, beside.buffers()).loaded()
        except (Exception, TookTooLong) as error:
            if isinstance(error, MissingDefinition) or not self.goes_on(error):
                raise
            self.late = isinstance(error, TookTooLong)
            value = _PatientLoader(data, self, beside, beside.buffers()).load()
            return value.value if type(value) is _Deep else value

    def may_call(self, module: str, found: Any) -> None:
        """A pickle names something, which it will call: it takes as long as that takes."""
        if module.partition(".")[0] not in _QUICK or (module == "builtins" and not isinstance(found, type)):
            self._limit()

    def _limit(self) -> None:
        if self._unlimited is not None:
            self._unlimited.enter_context(self.limit(LOAD_LIMIT))
            self._unlimited = None

    def check_import(self, module: str) -> None:
        """Raises NotImported if that would bring in a library, and isn't wanted."""
        if not self._imports and (package := missing_library(module)):
            raise NotImported(package)

    def goes_on(self, error: BaseException) -> bool:
        """Whether there may be a stand-in for what this was raised for."""
        if not isinstance(error, NotImported):
            return True
        if self._lacking is not None:
            self._lacking.add(error.package)
        return self._lacking is not None

    def import_module(self, name: str) -> types.ModuleType:
        """As `importlib`'s. Raises whatever that raises, and as `check_import`."""
        self.check_import(name)
        return importlib.import_module(name)

    def all_definitions(self) -> None:
        """Load definitions that the value didn't ask for, as this process has them already."""
        for def_id in list(self._waiting):
            known = self.definitions.get(def_id)
            if known is not None:
                self.definition(def_id)

    def definition(self, def_id: str, cells: Any = None) -> Any:
        """The function or class of that id, in the newest version that is known here."""
        known = self.definitions.get(def_id)
        obj = known.ref() if known is not None else None
        came = self._waiting.pop(def_id, None)
        if came is None or (known is not None and obj is not None and came[0] <= known.version):
            if obj is None:
                raise MissingDefinition(f"the definition {def_id} did not come with the value")
            return obj
        return self._load(def_id, *came, obj, cells)

    def places(self, body: bytes) -> tuple[dict[bodies.Place, Any], tuple[str, ...]]:
        """What is in a definition that has this body, and the names of those that hold content."""
        from mpkernel.namespace.pickling import unpack_body

        parts = unpack_body(body)
        head, rest = (
            _Loader(io.BytesIO(part), self, parts.beside, of_body=True).loaded() if part is not None else None
            for part in (parts.head if parts.kind == "function" else None, parts.rest)
        )
        return bodies.places(parts.kind, head, rest)

    def _load(self, def_id: str, version: Version, body: bytes, obj: Any, cells: Any) -> Any:
        from mpkernel.namespace.pickling import unpack_body

        parts = unpack_body(body)
        self._heads += 1
        try:
            head = _Loader(io.BytesIO(parts.head), self, parts.beside, of_body=True).loaded()
        finally:
            self._heads -= 1
        old = obj is not None
        if obj is None:
            # Loading the head may have loaded this very definition.
            again = self.definitions.get(def_id)
            obj = again.ref() if again is not None else None
        if obj is None:
            self.new.add(def_id)
            obj = bodies.make(parts.kind, head, cells, self.namespace, self.definitions, self.import_module)
        known = self.definitions.get(def_id) or self.definitions.add(obj, def_id)
        self.definitions.saw(version)
        self.loaded.append(known)

        def fill() -> None:
            rest = _Loader(io.BytesIO(parts.rest), self, parts.beside, of_body=True).loaded()
            known.version = NEVER  # should this fail, it may come again
            bodies.fill(obj, parts.kind, head, rest, old=old)
            known.version, known.body, known.needs = version, body, parts.needs

        # Within a head, the rest has to wait: it may refer to what that head is of.
        self._unfilled.append(fill)
        while self._unfilled and not self._heads:
            self._unfilled.pop()()
        return obj

    def hold(self, owner: str, name: str, content: Any) -> None:
        """What a definition, or a cell, holds. If that was not here, it gets it at once: what follows may need it."""
        key = self.definitions.key(owner, name)
        self.contents[key] = content
        if owner in self.new:
            self.definitions.put(key, content)

    def hold_all(self) -> None:
        """Give what was not here its content, now that all of it is."""
        for key, content in self.contents.items():
            if key.owner in self.new:
                self.definitions.put(key, content)

    def cell(self, cell_id: str | None) -> types.CellType:
        """The cell of that id; several functions may have it, and be loaded one within the other."""
        cell = (self.definitions.cell(cell_id) or self._cells.get(cell_id)) if cell_id is not None else None
        if cell is None:
            cell = types.CellType()
            self.new.add(cell_id or "")
            if cell_id is not None:
                self._cells[cell_id] = cell
        return cell

    def function(self, def_id: str, cells: tuple[types.CellType, ...], ids: list[str | None]) -> Any:
        """A function with a closure; one that is here already keeps its cells."""
        function = self.definition(def_id, cells)
        known = self.definitions.get(def_id)
        if known is not None and not known.cells and function.__closure__ is not None:
            self.definitions.adopt_cells(known, function, tuple(cell_id or "" for cell_id in ids))
        return function


# As what cloudpickle pickles modules.
_SUBIMPORT = (cloudpickle.subimport.__module__, cloudpickle.subimport.__name__)
_EXTEND: dict[Any, Any] = {list: list.extend, set: set.update, deque: deque.extend}
_VALUES: tuple[Any, ...] = (tuple, str, bytes, int, float, complex)


class _Words:
    """What the words of a payload mean here, and names of modules. A mixin for unpicklers."""

    _loading: Loading
    _beside: Beside
    _cell_ids: dict[int, tuple[types.CellType, str | None]]
    _of_body: bool

    def _own_class(self, module: str, name: str) -> Any:
        """What a payload means by this, if it isn't what it says. Raises NotImported."""
        if module == WORDS:
            return getattr(self, f"_word_{name}")
        if (module, name) == _SUBIMPORT:
            return self._loading.import_module
        self._loading.check_import(module)
        return None

    def _word_definition(self, def_id: str) -> Any:
        return self._loading.definition(def_id)

    def _word_cell(self, cell_id: str | None) -> types.CellType:
        cell = self._loading.cell(cell_id)
        self._cell_ids[id(cell)] = (cell, cell_id)
        return cell

    def _word_function(self, def_id: str, cells: tuple[types.CellType, ...]) -> Any:
        ids = [self._cell_ids[id(cell)][1] if id(cell) in self._cell_ids else None for cell in cells]
        return self._loading.function(def_id, cells, ids)

    def _word_fill(
        self, made: Any, contents: tuple[list[tuple[types.CellType, Any]], list[tuple[str, str, Any]]]
    ) -> None:
        for cell, content in contents[0]:
            cell_id = self._cell_ids[id(cell)][1]
            if cell_id is None or self._of_body:
                cell.cell_contents = content
            else:
                self._loading.hold(cell_id, "", content)
        for owner, name, content in contents[1]:
            self._loading.hold(owner, name, content)

    def _word_attributes(self, obj: Any, named: dict[str, Any]) -> None:
        obj.__dict__ = named

    def _word_references(self, obj: Any, refs: Any) -> None:
        if hasattr(obj, "refs"):
            refs.add_reference(obj)
            obj.refs = refs
        else:
            refs.add_index_reference(obj)
            obj._references = refs

    def _word_stub(self, *words: Any) -> Any:
        return self._loading.held.value(Note(*words))

    def _word_array(
        self, view: int, shape: Any, strides: Any, dtype: Any, offset: int, writeable: bool, kind: Any
    ) -> Any:
        import numpy

        regions = self._beside.regions
        assert regions is not None
        region, start = regions.place(view)
        array = numpy.ndarray(shape, dtype, region, start + offset, strides)
        if regions.alone(view):
            array = array.copy("K")  # owns its memory, as it did
        array = array.view(kind) if kind is not numpy.ndarray else array
        if not writeable:
            array.flags.writeable = False
        return array

    def _word_memmap(self, file: tuple[Any, str, int], start: int, size: int, kind: Any, *form: Any) -> Any:
        import numpy

        filename, mode, file_offset = file
        shape, strides, dtype, offset, writeable = form
        memory: Any = numpy.memmap(filename, "u1", "r" if mode == "r" else "r+", start, size)
        array: Any = numpy.ndarray(shape, dtype, memory, offset, strides).view(kind)
        if kind is numpy.memmap:
            vars(array).update(_mmap=memory._mmap, filename=memory.filename, offset=file_offset, mode=mode)
        if not writeable:
            array.flags.writeable = False
        return array

    def _word_strings(self, text: int, shape: Any) -> Any:
        self._loading.check_import("numpy")
        return self._loading.texts.received(self._beside.texts[text], shape)

    def _word_array_state(self, array: Any, state: tuple[Any, dict[str, Any]]) -> None:
        array.__setstate__(state[0])
        vars(array).update(state[1])

    def _word_tensor(self, view: int, size: int, kind: Any, dtype: Any, offset: int, *rest: Any) -> Any:
        torch = importlib.import_module("torch")

        assert self._beside.regions is not None
        shape, strides, requires_grad, *state = rest
        storage = self._beside.regions.storage(view, size, torch)
        tensor = torch.empty(0, dtype=dtype).set_(storage, offset, shape, strides)
        if kind is not torch.Tensor:
            tensor = kind(tensor, requires_grad)
        elif requires_grad:
            tensor.requires_grad_(True)
        if state:
            tensor.grad = state[0][0]
            vars(tensor).update(state[0][1])
        return tensor

    def _word_member(self, kind: Any, name: str) -> Any:
        return kind._member_map_[name]

    def _word_exception(self, kind: Any, args: Any) -> Any:
        error = kind.__new__(kind, *args)
        for base in kind.__mro__:
            init = vars(base).get("__init__")
            if init is not None and not isinstance(init, types.FunctionType):
                init(error, *args)
                break
        return error

    def _word_traceback(self, frames: tracebacks.Frames, sources: Any) -> types.TracebackType | None:
        for filename, text in sources:
            bodies.know_source(filename, text.splitlines(keepends=True))
        return tracebacks.made(frames, self._loading.namespace)

    def _word_twin(self, kind: str, made_of: Any, *note: Any) -> Any:
        return self._loading.held.twin(Note(*note), lambda: twins.make(kind, made_of))

    def _word_weak(self, kind: Any, content: Any) -> Any:
        return twins.weak(kind, content)

    def _word_match(self, pattern: Any, string: Any, pos: int, endpos: int, span: tuple[int, int]) -> Any:
        return twins.match(pattern, string, pos, endpos, span)

    def _word_instance(self, kind: Any, *args: Any) -> Any:
        for base in _VALUES:
            if getattr(kind, "__getnewargs__", None) is base.__getnewargs__:  # which knows nothing of the class's own
                return base.__new__(kind, *args)
        try:
            return kind.__new__(kind, *args)
        except TypeError:  # it wants more
            base = next(base for base in kind.__mro__ if not isinstance(vars(base).get("__new__"), staticmethod | None))
            return base.__new__(kind, *args)

    def _word_made(self, base: Any, kind: Any, *args: Any) -> Any:
        obj = base.__new__(kind, *args)
        if args and base.__init__ is not object.__init__:
            base.__init__(obj, *args)
        return obj

    def _word_called(self, _kind: Any, make: Any, *args: Any) -> Any:
        return make(*args)

    def _word_known(self, state: State, make: Any, *args: Any) -> Any:
        obj = make(*args)
        _set_attributes(obj, *state)
        return obj

    def _word_afresh(self, obj: Any, state: Any) -> None:
        object.__getattribute__(obj, "__dict__").clear()
        self._word_state(obj, state)

    def _word_module(self, globals_id: str, name: str, registered: bool) -> types.ModuleType:
        module = self._loading.definitions.module(globals_id)
        if registered:
            sys.modules.setdefault(name, module)
        return module

    def _word_main(self) -> Any:
        return sys.modules["__main__"]

    def _word_shell(self) -> Any:
        from IPython.core.getipython import get_ipython

        return get_ipython()

    def _word_content(self, obj: Any, parts: tuple[Any, ...]) -> None:
        state, items, pairs, *fields = parts
        for name, value in fields[0].items() if fields else ():
            object.__setattr__(obj, name, value)
        if items:
            extend = next(extend for base, extend in _EXTEND.items() if isinstance(obj, base))
            self._fill(obj, partial(extend, obj, items))
        if pairs:
            put = OrderedDict.__setitem__ if isinstance(obj, OrderedDict) else dict.__setitem__
            self._fill(obj, partial(_put_pairs, partial(put, obj), pairs))
        if state is not None:
            self._word_state(obj, state)

    def _word_original(self, *place: str) -> Any:
        self._loading.check_import(place[0])
        return patches.original(*place)

    def _word_stream(self, name: str) -> Any:
        return self._loading.streams[name]

    def _word_deferred(self, value: Any) -> Any:
        return _Deep(value)

    def _word_state(self, obj: Any, state: Any) -> None:
        if (setter := getattr(type(obj), "__setstate__", None)) is not None:
            setter(obj, state)
            return
        named, slots = state if type(state) is tuple and len(state) == 2 else (state, None)
        _set_attributes(obj, named or {}, slots or {})

    def _fill(self, _obj: Any, fill: Callable[[], None]) -> None:
        fill()


def _set_attributes(obj: Any, named: dict[str, Any], slots: dict[str, Any]) -> None:
    if named:
        object.__getattribute__(obj, "__dict__").update(named)
    for name, value in slots.items():
        object.__setattr__(obj, name, value)


def _put_pairs(put: Callable[[Any, Any], None], pairs: Iterable[tuple[Any, Any]]) -> None:
    for key, value in pairs:
        put(key, value)


class _Loader(_Words, pickle.Unpickler):
    def __init__(
        self, file: io.BytesIO, loading: Loading, beside: Beside, buffers: Any = None, *, of_body: bool = False
    ) -> None:
        super().__init__(file, buffers=buffers)
        self._of_body = of_body
        self._loading = loading
        self._beside = beside
        self._cell_ids: dict[int, tuple[types.CellType, str | None]] = {}

    def load(self) -> Any:
        value = super().load()
        return value.value if type(value) is _Deep else value

    def loaded(self) -> Any:
        """The value. Lets go of all else: pickle's memo, and bound methods of this, would keep large buffers alive."""
        try:
            return self.load()
        finally:
            self.memo = {}
            vars(self).clear()

    def find_class(self, module: str, name: str) -> Any:
        """Words mean a method here; everything else is what it says."""
        if (own := self._own_class(module, name)) is not None:
            return own
        found = super().find_class(module, name)
        self._loading.may_call(module, found)
        return found


_python: Any = pickle._Unpickler


class _PatientLoader(_Words, _python):  # type: ignore[misc]
    """Slow, but what an object's class refuses to load becomes a stub, and all else is loaded.

    So it is if the hash of a key or element raises, as what that comes from isn't there yet: it is put in in the end.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(_python.dispatch)
    stack: list[Any]
    memo: dict[int, Any]

    def __init__(self, data: bytes | memoryview, loading: Loading, beside: Beside, buffers: Any) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self._of_body = False
        self._loading = loading
        self._beside = beside
        self._cell_ids = {}
        self._lost = 0  # so many objects could not be loaded
        self._late: dict[int, list[Callable[[], None]]] = {}  # by id of the set or dict, what fills it

    def load(self) -> Any:
        """The value, with all in it."""
        value = super().load()
        error: Exception | None = None
        while left := sum(map(len, self._late.values())):
            for fills in self._late.values():
                try:
                    while fills:
                        fills[0]()
                        del fills[0]
                except Exception as raised:
                    error = raised
            if error is not None and left == sum(map(len, self._late.values())):
                raise error
        return value

    def _fill(self, obj: Any, fill: Callable[[], None]) -> None:
        if id(obj) not in self._late:
            with suppress(Exception):
                fill()
                return
        self._late.setdefault(id(obj), []).append(fill)  # and all that comes later, as dicts have an order

    def _set_items(self) -> None:
        items, obj = self.pop_mark(), self.stack[-1]
        self._fill(
            obj, partial(_put_pairs, partial(operator.setitem, obj), list(zip(items[::2], items[1::2], strict=True)))
        )

    def _set_item(self) -> None:
        value, key, obj = self.stack.pop(), self.stack.pop(), self.stack[-1]
        self._fill(obj, partial(operator.setitem, obj, key, value))

    def _add_items(self) -> None:
        items, obj = self.pop_mark(), self.stack[-1]
        self._fill(obj, partial(obj.update, items))

    def find_class(self, module: str, name: str) -> Any:
        """As `_Loader`."""
        return self._own_class(module, name) or super().find_class(module, name)

    def _or_stub(self, original: Any, *, made: bool = False) -> None:
        before = list(self.stack)
        try:
            with self._loading.limit(AGAIN_LIMIT) if self._loading.late else nullcontext():
                original(self)
        except (Exception, TookTooLong) as error:
            if not self._loading.goes_on(error):
                raise
            if isinstance(error, TookTooLong):
                error = TimeoutError(f"that takes longer than {LOAD_LIMIT:g} s")
            self.stack[:] = before[:-1]
            refused = self.stack[-1]
            name = _name_of_type(type(refused) if made else refused, before[-1])
            reason = f"{type(error).__name__}: {error}"[:200]
            self._lost += 1
            self.stack[-1] = stub = self._loading.held.lost(name, self._lost, reason)
            for place, known in self.memo.items():
                if made and known is refused:
                    self.memo[place] = stub

    dispatch[pickle.SETITEMS[0]] = _set_items
    dispatch[pickle.SETITEM[0]] = _set_item
    dispatch[pickle.ADDITEMS[0]] = _add_items
    dispatch[pickle.BUILD[0]] = lambda self: self._or_stub(_python.load_build, made=True)
    dispatch[pickle.REDUCE[0]] = lambda self: self._or_stub(_python.load_reduce)
    dispatch[pickle.NEWOBJ[0]] = lambda self: self._or_stub(_python.load_newobj)


def _name_of_type(maker: Any, args: Any) -> str:
    """The type of what `maker` should have made of arguments; if that isn't known, something that is no type's name."""
    told = [maker, *args] if type(args) is tuple else [maker]
    kinds = [part for part in told if isinstance(part, type) and part.__module__ != "builtins"]
    return kinds[0].__qualname__ if kinds else f"result of {getattr(maker, '__name__', 'a call')}()"


class _Deep(list[Any]):
    """Takes the states of what is nested deep, which are of no use once they are applied."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def append(self, _: Any) -> None:
        """Forget it."""

    def extend(self, _: Any) -> None:
        """Forget them."""
