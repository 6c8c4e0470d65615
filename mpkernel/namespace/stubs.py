"""Stubs: what stands, in other processes, for a value that can't leave its own."""

from __future__ import annotations

import itertools
import secrets
import types
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from mpkernel.errors import LivesElsewhere, MPKernelError
from mpkernel.namespace import meeting, on_show

MAX_REPR = 200

# By worker, and its token for the object: a method with its arguments.
CallThere = Callable[[int, int, str, tuple[Any, ...], dict[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Note:
    """What is known everywhere about a value that lives in one process."""

    owner: int  # the worker; 0: nobody knows, as it came but could not be loaded
    token: int  # the owner's name for the value
    type: str
    repr: str  # as it was when first seen, at most `MAX_REPR` characters
    reason: str
    where: str  # the subshell

    @property
    def words(self) -> tuple[Any, ...]:
        """The fields, in order."""
        return (self.owner, self.token, self.type, self.repr, self.reason, self.where)


class Stub:
    """Stands for a value that lives in another process. It can be passed on; any use raises `LivesElsewhere`.

    But for what threads meet at (`meeting`), whose methods are those of the real one, and for widgets (`on_show`).
    """

    __slots__ = ("__weakref__", "_held", "_note")
    _note: Note
    _held: Held

    def __init__(self, note: Note, held: Held) -> None:
        object.__setattr__(self, "_note", note)
        object.__setattr__(self, "_held", held)

    def __repr__(self) -> str:
        note = self._note
        if not note.owner:
            return f"<{note.type} that could not be loaded here ({note.reason})>"
        return f"<{note.type} {note.repr} in subshell {note.where}: can't be pickled ({note.reason})>"

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return type(other) is Stub and self._note.words[:2] == other._note.words[:2]

    def __hash__(self) -> int:
        return hash(self._note.words[:2])

    @property
    def _there(self) -> on_show.Call | None:
        """Calls a method of what is used from afar; None for what isn't."""
        return partial(self._held.call, self._note) if self._note.reason == on_show.REASON else None

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        """Code asks whether something is a widget; `type` tells what it really is."""
        return (on_show.class_of(self._note.type) if self._there else None) or Stub

    def __dir__(self) -> Iterable[str]:
        return on_show.ask(there, "__dir__") if (there := self._there) else object.__dir__(self)

    def __getattr__(self, name: str) -> Any:
        # Display, pickling, copying and inspection probe for these, and take "no" for an answer.
        if (name.startswith("__") and name.endswith("__")) or name in Stub.__slots__:
            raise AttributeError(name)
        note, held = self._note, self._held
        if there := self._there:
            return on_show.attribute(self, note.type, name, there)
        if name.startswith(("_repr_", "_ipython_")):
            raise AttributeError(name)
        method = meeting.method(note.type, name, lambda *asked: held.call(note, *asked))
        return method or _refuse(self)


def _refuse(self: Stub, *_: Any, **__: Any) -> NoReturn:
    raise LivesElsewhere(self._held.advice(self))


def _set(self: Stub, name: str, value: Any) -> None:
    if (there := self._there) is None:
        _refuse(self)
    on_show.ask(there, "__setattr__", name, value)


def _use(name: str) -> Callable[..., Any]:
    def use(self: Stub, *args: Any, **kwargs: Any) -> Any:
        own = on_show.method_here(self, self._note.type, name) if self._there else None
        return _refuse(self) if own is None else own(*args, **kwargs)

    return use


_BINARY = "add sub mul matmul truediv floordiv mod divmod pow lshift rshift and xor or"
_USES = (
    "call iter next reversed len contains getitem setitem delitem delattr aenter aexit await aiter copy deepcopy "
    "anext neg pos abs invert int float complex index round lt le gt ge mro_entries "
    + " ".join(f"{name} r{name} i{name}" for name in _BINARY.split() if name != "divmod")
    + " divmod rdivmod"
).split()
for _name in _USES:
    setattr(Stub, f"__{_name}__", _refuse)
for _name in ("__enter__", "__exit__"):
    setattr(Stub, _name, _use(_name))
setattr(Stub, "__setattr__", _set)  # noqa: B010 # mypy knows of no other class's


def note_of(stub: Stub) -> Note:
    """What is known about the value behind a stub."""
    return stub._note


def nowhere(*_: Any) -> NoReturn:
    """Of a process without others."""
    raise MPKernelError("there are no other processes")


class Held:
    """The values of this process that others know by a stub.

    They are held weakly if their type allows: ``del file`` closes a file although others have a stub of it.
    """

    def __init__(
        self,
        worker: int,
        where: Callable[[], str],
        namespace: dict[Any, Any],
        is_alive: Callable[[int], bool],
        call: CallThere,
    ) -> None:
        self._worker = worker
        self._where = where
        self._namespace = namespace
        self._is_alive = is_alive  # whether a worker is there
        self._call = call
        # From anywhere: a stub that another kernel saved finds nothing here.
        self._tokens = itertools.count(secrets.randbits(48))
        self._notes: dict[int, Note] = {}  # by id of the value
        self._values: dict[int, Callable[[], Any]] = {}  # by token
        self._twins: dict[tuple[int, int], Any] = {}  # by owner and token
        self.losses = 0  # objects that came, or are this process's own, and could not be loaded

    def note(self, value: Any, reason: str) -> Note:
        """The note for `value`, always the same."""
        known = self._notes.get(id(value))
        if known is not None:
            return known
        token = next(self._tokens)
        note = Note(self._worker, token, _type_name(type(value)), _safe_repr(value), reason, self._where())
        self._values[token] = self._reference(value, token)
        self._notes[id(value)] = note
        return note

    def _reference(self, value: Any, token: int) -> Callable[[], Any]:
        address, notes, values = id(value), self._notes, self._values

        def gone(_: Any) -> None:
            notes.pop(address, None)
            values.pop(token, None)

        try:
            return weakref.ref(value, gone)
        except TypeError:
            return lambda: value

    def real(self, token: int) -> Any:
        """The value behind a token. Raises LookupError."""
        value = self._values[token]() if token in self._values else None
        if value is None:
            raise LookupError("the object does not exist any more")
        return value

    def stand_in(self, value: Any, owner: Any) -> Stub:
        """What others are to have for `value`, for the same reason as for `owner`, for which they have one, too."""
        return Stub(self.note(value, self._notes[id(owner)].reason), self)

    def lost(self, kind: str, number: int, reason: str) -> Stub:
        """What there is of an object that can't be loaded, the `number`-th of a pickle; `kind` names its type."""
        self.losses += 1
        return Stub(Note(0, number, kind, "?", reason, "?"), self)

    def is_on_show(self, value: Any) -> bool:
        """Whether others use `value` from afar."""
        note = self._notes.get(id(value))
        return note is not None and note.reason == on_show.REASON

    def twin(self, note: Note, make: Callable[[], Any]) -> Any:
        """What this process has for a value of another one that it can't get: always the same, and a value of its own.

        At home it is the value itself.
        """
        if note.owner == self._worker and note.token in self._values:
            found = self._values[note.token]()
        else:
            found = self._twins.get((note.owner, note.token))
        if found is None:
            found = self._twins[note.owner, note.token] = make()
            self._notes[id(found)] = note
        return found

    def value(self, note: Note) -> Any:
        """What a stub that came home stands for; the stub itself, if that is another process's, or gone."""
        real = self._values.get(note.token) if note.owner == self._worker else None
        value = real() if real is not None else None
        return Stub(note, self) if value is None else value

    def call(self, note: Note, method: str, args: tuple[Any, ...], kwargs: dict[str, Any] | None = None) -> Any:
        """Call a method of what lives elsewhere. Raises MPKernelError with what it raised, or that it is gone."""
        return self._call(note.owner, note.token, method, args, kwargs or {})

    def advice(self, stub: Stub) -> str:
        """For who uses a stub as if it were the real thing: where that is, and what to do."""
        note = stub._note
        what, where = f"this {note.type} ({note.repr})", f"subshell {note.where!r}"
        if not note.owner:
            return f"this {note.type} could not be loaded here ({note.reason}). Use it in the subshell that made it"
        if note.owner == self._worker:  # else there would be the real thing; or it comes from a kernel before this one
            return f"{what} was in {where} and is gone: make it again"
        if note.owner and not self._is_alive(note.owner):
            return f"{what} was in {where} and couldn't leave it ({note.reason}). That process has ended: make it again"
        name = next((name for name, value in list(self._namespace.items()) if value is stub), None)
        remote = "mpkernel.remote of this stand-in" if name is None else f"mpkernel.remote({name!r})"
        return (
            f"{what} lives in {where} and can't leave it ({note.reason}). Run the cell in {where}, or use {remote}. "
            "After a restart of the kernel it is gone: make it again"
        )


def _type_name(kind: type) -> str:
    module = getattr(kind, "__module__", "builtins")
    return (
        kind.__qualname__ if module in ("builtins", "__main__", "_thread", "_io") else f"{module}.{kind.__qualname__}"
    )


def _safe_repr(value: Any) -> str:
    """A short text for `value` that runs no code of the user."""
    name = value.__name__ if type(value) in _NAMED else None
    if name is not None:
        return repr(name)[:MAX_REPR]
    if isinstance(type(value).__repr__, types.FunctionType):
        return object.__repr__(value)[:MAX_REPR]
    try:
        return repr(value)[:MAX_REPR]
    except Exception:
        return object.__repr__(value)[:MAX_REPR]


_NAMED = (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)
