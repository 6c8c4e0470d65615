"""Values of the shared namespace as bytes, and back: one worker's way of doing it."""

from __future__ import annotations

import pickle
import struct
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any

import xxhash

from mpkernel.namespace import bodies, on_show
from mpkernel.namespace.changeable import Changeable
from mpkernel.namespace.definitions import NEVER, ContentKey, Definition, Definitions, Version, same, walk
from mpkernel.namespace.dumping import PROTOCOL, Beyond, Context, Dumper, Limit, Local
from mpkernel.namespace.holders import NOBODY_ELSE
from mpkernel.namespace.loading import Beside, Loading
from mpkernel.namespace.memory import Regions, table
from mpkernel.namespace.reducers import handler_for
from mpkernel.namespace.rival_definitions import Bodies, merge_definitions
from mpkernel.namespace.stubs import CallThere, Held, Note, nowhere
from mpkernel.namespace.texts import Text
from mpkernel.namespace.weight import UNLIMITED, Allowance

# A value of more objects than this is a component of its own: who shares what isn't looked at.
MAX_NODES = 50_000
# If there are more, it isn't looked whether some belong to others.
MAX_MET = 256

_ATOMS = frozenset((int, float, complex, str, bytes, bool, type(None), type(Ellipsis), range))
_VIEWS = b"V"
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Pickled:
    """Values as bytes."""

    data: bytes | memoryview
    buffers: tuple[Any, ...] = ()  # what is large, and travels by itself: bytes-like
    texts: tuple[Text, ...] = ()  # large arrays of strings
    definitions: dict[str, tuple[Version, bytes]] | None = None  # functions and classes that the values need
    shared: frozenset[int] = frozenset()  # ids of the mutable objects that the values consist of
    memory: frozenset[int] = frozenset()  # those of `shared` of which only a part was looked at
    big: bool = False  # there are too many of them: `shared` has only the outermost
    stubs: tuple[Note, ...] = ()  # what couldn't be pickled
    versions: tuple[tuple[str, Version], ...] | None = ()  # of all definitions; None if something failed as a whole
    seconds: float = 0.0  # of CPU that it took
    made: frozenset[int] = frozenset()  # indices of the buffers that were made for this pickle, each time anew

    @property
    def uses(self) -> frozenset[str]:
        """The ids of all functions and classes that the values need."""
        return frozenset(self.definitions or ()).union(key for key, _ in self.versions or ())

    def digest(self) -> bytes | None:
        """A fingerprint, the same that `Pickling.digest` makes of the values."""
        if self.versions is None:
            return None
        result = xxhash.xxh3_128(self.data)
        for buffer in self.buffers:
            result.update(buffer)
        for text in self.texts:
            result.update(b"%d" % text.stamp)
        for version in self.versions:
            result.update(repr(version).encode())
        return result.digest()


class Pickling:
    """Turns values of `namespace` into bytes and back. `worker` is the id of this process, never used by another;
    `where` tells how the subshell is called; `limit` ends code of the notebook's classes that takes too long;
    `is_alive` tells whether another process, by id, is still there; `call` calls a method of what it has; `quietly`
    hides what that code prints, which the notebook hasn't called."""

    def __init__(
        self,
        namespace: dict[Any, Any],
        worker: int,
        where: Callable[[], str],
        limit: Limit = lambda _: nullcontext(),
        is_alive: Callable[[int], bool] = lambda _: True,
        call: CallThere = nowhere,
        quietly: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.worker = worker
        self._quietly = quietly
        self._namespace = namespace
        self._changeable = Changeable()
        self._definitions = Definitions(worker, self._changeable.is_content, self._travels)
        self._held = Held(worker, where, namespace, is_alive, call)
        self._context = Context(namespace, self._definitions, self._refresh, self._held, handler_for, limit)
        self._sweep = 0  # 0: no dump is under way
        self._sweeps = 0

    @contextmanager
    def sweep(self) -> Iterator[None]:
        """While many values are looked at, and no user code runs: look at each definition only once."""
        if self._sweep:
            yield
            return
        self._sweeps += 1
        self._sweep = self._sweeps
        try:
            with self._quietly():
                yield
        finally:
            self._sweep = 0

    def dump(
        self, values: Any, *, outer: bool = True, allowance: Allowance = UNLIMITED, beyond: Beyond | None = None
    ) -> Pickled:
        """`values` as bytes. What can't be pickled becomes a stub; only BaseExceptions from outside are raised.

        Without `outer`, `values` itself is but a parcel, made for this call: its id isn't in `shared`. Raises TooDear,
        also when an object is met that is `beyond`, and MemoryError.
        """
        if type(values) in _ATOMS:
            return Pickled(pickle.dumps(values, PROTOCOL), definitions={})
        start = time.thread_time()
        with self.sweep(), self._context.dumper(allowance, beyond=beyond) as dumper:
            data, whole = self._pickle(dumper, values)
            notes = tuple(dumper.notes.values())
            data, buffers, made = _with_views(dumper, data)
            texts = tuple(dumper.texts)
            memory = frozenset(dumper.memory)
            definitions = self._fresh(list(dumper.used)) if dumper.used else []
            shared, big = _shared(dumper, values, data, self._changeable.is_mutable)
        if not outer:
            shared.discard(id(values))
        needed = {d.id: (d.version, d.body) for d in definitions if d.body is not None}
        versions = tuple((definition.id, definition.version) for definition in definitions) if whole else None
        seconds = time.thread_time() - start
        return Pickled(data, buffers, texts, needed, frozenset(shared), memory, big, notes, versions, seconds, made)

    def digest(self, values: Any, *, allowance: Allowance = UNLIMITED) -> bytes | None:
        """A fingerprint: the same as long as nothing was changed in place. None if there is no way to know.

        Raises TooDear.
        """
        return self.look(values, allowance=allowance)[0]

    def look(
        self, values: Any, known: Set[int] = frozenset(), *, allowance: Allowance = UNLIMITED
    ) -> tuple[bytes | None, Set[int]]:
        """A fingerprint, as `digest`; and which of `known`, ids of mutable objects, are of objects in the values.

        The latter if there are a few objects: for plain data it takes ten times as long as to pickle them.
        """
        if type(values) in _ATOMS:
            return xxhash.xxh3_128_digest(pickle.dumps(values, PROTOCOL)), frozenset()
        with self.sweep(), self._context.dumper(allowance) as dumper:
            data, whole = self._pickle(dumper, values)
            if not whole:
                return None, frozenset()
            met = self._met(dumper, data, known, len(values)) if known else frozenset()
            if not (dumper.used or dumper.views or dumper.texts):
                return xxhash.xxh3_128_digest(data), met
            definitions = self._fresh(list(dumper.used)) if dumper.used else []
            data, buffers, _ = _with_views(dumper, data)
            texts = tuple(dumper.texts)
        versions = tuple((definition.id, definition.version) for definition in definitions)
        return Pickled(data, buffers, texts, versions=versions).digest(), met

    def _met(self, dumper: Dumper, data: bytes, known: Set[int], names: int) -> Set[int]:
        if not 1 + 2 * names < data.count(pickle.MEMOIZE) <= MAX_MET:  # the dict, its keys and values
            return frozenset()
        memo = dumper.memo.copy()
        return {key for key in memo.keys() & known if self._changeable.is_mutable(type(memo[key][1]))}

    def load(
        self,
        pickled: Pickled,
        contents: dict[ContentKey, Any] | None = None,
        *,
        imports: bool = True,
        lacking: set[str] | None = None,
    ) -> Any:
        """What `dump` was given. Functions and classes are brought up to date in place, never back.

        The content of those that this process has had before stays as it is; what travelled is put into `contents`.
        Unless `imports`, raises NotImported if that takes a library that isn't here. With `lacking`, definitions that
        need some are stubs, and their names are put there.
        """
        loading = Loading(self._context, pickled.definitions or {}, imports=imports, lacking=lacking)
        data, regions = _split(pickled.data, pickled.buffers)
        with self._quietly():
            value = loading.value(data, Beside(regions, pickled.texts))
            loading.all_definitions()
            loading.hold_all()
            for definition in loading.loaded:
                bodies.finish(definition.ref())
            for definition in loading.loaded:
                self._take_for_known(definition)
        if contents is not None:
            contents.update(loading.contents)
        return value

    def merge_definitions(self, base: Bodies, theirs: Bodies) -> list[str]:
        """See `rival_definitions`."""
        for def_id in theirs:
            if (known := self._definitions.get(def_id)) is not None:
                self._refresh(known)

        def read(body: bytes, others: Bodies) -> tuple[dict[bodies.Place, Any], tuple[str, ...]]:
            return Loading(self._context, others).places(body)

        return merge_definitions(self._definitions, base, theirs, read, lambda value: bytes(self.dump(value).data))

    def contents(self, keys: Iterable[ContentKey]) -> dict[ContentKey, Any]:
        """What this process has of those."""
        found = {}
        for key in keys:
            with suppress(LookupError, AttributeError):
                found[key] = self._definitions.content(key)
        return found

    def put(self, contents: Mapping[ContentKey, Any]) -> None:
        """Have the definitions that are here hold these."""
        for key, content in contents.items():
            self._definitions.put(key, content)

    def defined(self, ids: Iterable[str]) -> Iterator[Any]:
        """The functions and classes of these ids that this process has."""
        for def_id in ids:
            known = self._definitions.get(def_id)
            if known is not None and (obj := known.ref()) is not None:
                yield obj

    @property
    def losses(self) -> int:
        """How many objects could not be loaded so far."""
        return self._held.losses

    def held(self, token: int) -> Any:
        """The object for which other processes have a stub. Raises LookupError if it is gone."""
        return self._held.real(token)

    def from_afar(self, owner: Any, value: Any) -> Any:
        """What others are to have for `value`, which an object has that is held for them."""
        if not self._held.is_on_show(owner):
            return value
        return on_show.with_stand_ins(owner, value, lambda part: self._held.stand_in(part, owner))

    def is_held(self, value: Any, notes: Iterable[Note]) -> bool:
        """Whether one of the notes is about `value` itself, which this process has."""
        for note in notes:
            with suppress(LookupError):
                if note.owner == self.worker and self.held(note.token) is value:
                    return True
        return False

    # --- values -----------------------------------------------------------------------------------------------------

    def _pickle(self, dumper: Dumper, values: Any) -> tuple[bytes, bool]:
        """The pickle, and whether it is of all: what fails as a whole is in it as a stub."""
        try:
            return dumper.pickle(values), True
        except MemoryError:
            raise
        except Exception as error:
            return dumper.pickle(self._without_failing(dumper, values, error)), False

    def _without_failing(self, dumper: Dumper, values: Any, error: Exception) -> Any:
        if type(values) is dict:
            return {name: self._or_stub(dumper, value) for name, value in list(values.items())}
        if type(values) in (list, tuple):
            return type(values)([self._or_stub(dumper, value) for value in list(values)])
        return Local(values, _why(error))

    def _or_stub(self, dumper: Dumper, value: Any) -> Any:
        try:
            dumper.pickle(value)
            return value
        except Exception as error:
            return Local(value, _why(error))

    def _travels(self, value: Any) -> bool:
        """Whether all of `value` can be copied."""
        with self._context.dumper() as dumper:
            return self._pickle(dumper, value)[1] and not dumper.notes

    # --- definitions --------------------------------------------------------------------------------------------------

    def _fresh(self, roots: list[str]) -> list[Definition]:
        """Definitions with all that they need, each with a body that is up to date."""
        return list(walk(self._definitions, roots, self._refresh, set()))

    def _refresh(self, definition: Definition) -> None:
        if self._sweep and definition.checked == self._sweep:
            return
        obj = definition.ref()
        if obj is None:
            return
        surface, definition.contents = self._definitions.surface(obj)
        if definition.body is not None and same(surface, definition.surface):
            definition.checked = self._sweep
            return
        body, digest, needs = self._body(obj, definition.contents)
        if definition.body is None or digest != definition.baseline:
            # In this order: whoever is interrupted here only takes the definition for changed once more.
            definition.version = self._definitions.next_version()
            definition.body, definition.needs = body, needs
            definition.baseline = digest
        definition.surface = surface
        definition.checked = self._sweep

    def _take_for_known(self, definition: Definition) -> None:
        """A definition came from elsewhere: it counts as changed only if it is changed from now on."""
        obj = definition.ref()
        if obj is not None and definition.version != NEVER:
            definition.surface, definition.contents = self._definitions.surface(obj)
            definition.baseline = self._body(obj, definition.contents)[1] if definition.surface is None else b""

    def _body(self, obj: Any, contents: tuple[str, ...]) -> tuple[bytes, bytes, tuple[str, ...]]:
        kind, head, rest = bodies.describe(obj, self._namespace, self._definitions, contents)
        with self._context.dumper(of_body=True) as dumper:
            head_data = self._pickle(dumper, head)[0]
            assert not [*dumper.texts, *range(len(dumper.views))], "arrays belong into the rest"
            needs = dict.fromkeys(dumper.used)
            dumper.clear()
            rest_data = self._pickle(dumper, rest)[0]
            needs.update(dict.fromkeys(dumper.used))
            rest_data, *_ = _with_views(dumper, rest_data, inline=True)
            texts = [text.packed() for text in dumper.texts]
        body = pickle.dumps((kind, tuple(needs), head_data, rest_data, texts), PROTOCOL)
        return body, xxhash.xxh3_128_digest(body), tuple(needs)


@dataclass(frozen=True, slots=True)
class Body:
    """The parts of a definition's body."""

    kind: str
    needs: tuple[str, ...]
    head: bytes
    rest: bytes | memoryview
    beside: Beside


def unpack_body(body: bytes) -> Body:
    """The parts of a definition's body."""
    kind, needs, head, rest, packed = pickle.loads(body)
    rest, regions = _split(rest, ())
    return Body(kind, needs, head, rest, Beside(regions, [Text(packed=text) for text in packed]))


def _with_views(
    dumper: Dumper, data: bytes, *, inline: bool = False
) -> tuple[bytes, tuple[memoryview, ...], frozenset[int]]:
    """The pickle with what it takes to load its views, the large buffers, and which of these were made for it."""
    if not dumper.views:
        return data, (), frozenset()
    regions, places = dumper.views.regions()
    told, apart = table(places, regions, dumper.views.buffers, inline=inline)
    made = frozenset(index for index, region in enumerate(apart) if region.made)
    return b"".join((_VIEWS, _LENGTH.pack(len(told)), told, data)), tuple(region.raw() for region in apart), made


def _split(data: bytes | memoryview, buffers: tuple[Any, ...]) -> tuple[bytes | memoryview, Regions | None]:
    if data[:1] != _VIEWS:
        return data, None
    start = 1 + _LENGTH.size
    (length,) = _LENGTH.unpack_from(data, 1)
    view = memoryview(data)
    return view[start + length :], Regions(bytes(view[start : start + length]), buffers)


def _shared(dumper: Dumper, values: Any, data: bytes, is_mutable: Callable[[type], bool]) -> tuple[set[int], bool]:
    """Ids of the mutable objects that were met, but not of those that were made for the pickle only."""
    if len(data) > MAX_NODES * 2 and data.count(pickle.MEMOIZE) > MAX_NODES:
        return {id(values)} | dumper.memory | dumper.content, True
    dumper.views.clear()
    memo = dumper.memo.copy()
    nodes = sorted(item for item in memo.values() if is_mutable(type(item[1])))
    memo.clear()
    dumper.clear_memo()
    nodes.reverse()
    shared = set(dumper.memory)
    while nodes:
        _, obj = nodes.pop()
        if sys.getrefcount(obj) > NOBODY_ELSE:  # else it is let go now, and so are its parts
            shared.add(id(obj))
    return shared, False


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    return f"{type(error).__name__}: {error}"[:200]
