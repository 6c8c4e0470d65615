"""Received objects are grafted onto those that a process has: the old ones get the new content and stay.

What holds a reference to an old object (a closure, a widget, a private name) so sees the news. It goes in three steps:

1. *Pairing* walks old and new side by side, breadth first (so what has a name goes before what is nested), and gives
   each new object at most one old one, each old one to at most one new one.
2. A *survey* walks all of the new graph. It takes pairs back where keeping the old object would tear apart what is one
   object, or one memory, in the new graph: what an opaque object refers to, cells of a function that isn't patched,
   arrays whose overlap isn't the same as it was.
3. *Writing* gives each old object the content of its new one, with references to paired objects replaced. The same is
   done within new objects that stay. It is undone if anything raises, and tried again without what raised.

No step recurses, so depth doesn't matter.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from mpkernel.namespace import latecomers
from mpkernel.namespace.anatomy import Kind, Kinds, Way
from mpkernel.namespace.atoms import ATOMS, plain
from mpkernel.namespace.parts import MISSING, Attributes, Part
from mpkernel.namespace.same import glance
from mpkernel.namespace.survey import Survey, bulk, may_be_bulk
from mpkernel.namespace.untold import untold

# So many objects that can't be patched are passed over before all is taken as it came.
MAX_FAILURES = 20


def graft(
    old: dict[Any, Any],
    new: dict[Any, Any],
    keep: Callable[[Any], bool] | None = None,
    came_late: Callable[[], None] = lambda: None,
    stay: Iterable[tuple[Any, Any]] = (),
) -> dict[Any, Any]:
    """What each name, or other place, of `new` is to have, after objects of `old` were patched where their types allow.

    Of the same names, `old` is what this process has, `new` was just loaded, from one pickle. An object, old or new, of
    which `keep` is true is neither patched nor looked into: the new one is taken. `came_late` is called if another
    thread has changed something meanwhile, which isn't in `new`. Of the pairs `stay`, the second is to be where the
    first is in `new`.
    """
    stay = list(stay)
    if not stay and not any(name in old and type(value) not in ATOMS for name, value in new.items()):
        return dict(new)
    grafting = Graft(keep, came_late)
    for stub, obj in stay:
        grafting.alias(stub, obj)
    grafting.pair(old, new)
    return grafting.apply(new)


class Torn(Exception):
    """Other threads have changed an object since it was copied."""


class Graft:
    """The pairs of old and new objects, and what is done with them."""

    def __init__(self, keep: Callable[[Any], bool] | None = None, came_late: Callable[[], None] = lambda: None) -> None:
        self._came_late = came_late
        self.kinds = Kinds()
        self._alike = glance(self.kinds)
        self._keep = keep
        self._partners: dict[int, Any] = {}  # the old object, by id of the new one
        self._claimed: set[int] = set()  # ids of old objects
        self._beside: dict[int, Any] = {}  # an old tuple or the like that may be used again, by id of the new one
        self._aliases: dict[int, Any] = {}  # another new object that takes a new one's place, by id
        self._seen: dict[int, Any] = {}  # new objects; holds them, so that no id is used twice
        self._untouchable: set[int] = set()  # ids of objects that could not be written
        self._read: dict[tuple[int, Part], Any] = {}  # what parts of old objects were, by the object's id

    # --- pairing ------------------------------------------------------------------------------------------------------

    def pair(self, old: dict[Any, Any], new: dict[Any, Any], *, copies: bool = False, check: bool = False) -> None:
        """Find for each object of `new` the one of `old` that gets its content.

        If they are `copies` of `old`, what is taken as a whole stays itself. With `check`, Torn is raised if `old` has
        changed since.
        """
        todo = deque((old[name], value) for name, value in new.items() if name in old)
        while todo:
            was, now = todo.popleft()
            if was is not MISSING and type(was) is type(now) and type(now) not in ATOMS:
                if copies and self.kinds.of(type(now)).same is not None:
                    self.alias(now, was)
                else:
                    todo.extend(self._pair(was, now, check))

    def _pair(self, old: Any, new: Any, check: bool) -> Iterable[tuple[Any, Any]]:
        kind = self.kinds.of(type(new))
        if old is new or kind.way not in (Way.PATCH, Way.REBUILD) or id(new) in self._seen:
            return ()
        if (kind.atom is not None and kind.atom(new)) or id(old) in self._claimed:
            return ()
        if self._keep is not None and (self._keep(old) or self._keep(new)):
            return ()
        self._seen[id(new)] = new
        try:
            contents = [(part, part.read(old), part.read(new)) for part in kind.all_parts]
            pairs = list(self._children(kind, old, new, contents))
            self._claim(kind, old, new, contents)
            if check and any(latecomers.torn(part, was, now) for part, was, now in contents):
                raise Torn
        except Torn:
            raise
        except Exception:  # hashes and comparisons of keys are user code
            return ()
        return pairs

    def _claim(self, kind: Kind, old: Any, new: Any, contents: list[tuple[Part, Any, Any]]) -> None:
        if kind.way is Way.REBUILD:
            self._beside[id(new)] = old
        elif kind.fits(old, new) and (not kind.by_value or _same_value(contents)):
            self._partners[id(new)] = old
            self._read.update({(id(old), part): was for part, was, _ in contents})
        else:
            return
        self._claimed.add(id(old))

    def _children(
        self, kind: Kind, old: Any, new: Any, contents: list[tuple[Part, Any, Any]]
    ) -> Iterator[tuple[Any, Any]]:
        yield from zip(kind.links(old), kind.links(new), strict=False)
        for part, was, now in contents:
            if not may_be_bulk(now) or bulk(part.children(now), self.kinds) is None:
                yield from part.pairs(was, now, self._alike)

    def partner(self, new: Any) -> Any:
        """The old object that is to be patched with the content of `new`; None if there is none."""
        return self._partners.get(id(new))

    def stands_for(self, new: Any) -> Any:
        """What will be wherever `new` is."""
        return self._aliases.get(id(new), new)

    def unpair(self, new: Any) -> None:
        """Don't patch the old object that was found for `new`."""
        if (old := self._partners.pop(id(new), None)) is not None:
            self._claimed.discard(id(old))

    def alias(self, new: Any, other: Any) -> None:
        """Wherever `new` is, `other` will be, which is also new."""
        if new is not other:
            self._seen[id(new)] = new
            self._seen[id(other)] = other
            self._aliases.setdefault(id(new), other)

    # --- writing ------------------------------------------------------------------------------------------------------

    def apply(self, values: dict[Any, Any]) -> dict[Any, Any]:
        """Write the content of `values` into the old objects; what each name is to have."""
        if not (self._partners or self._beside or self._aliases):
            return dict(values)  # nothing to replace
        for _ in range(MAX_FAILURES):
            writing = self._writing(values)
            failed = writing.run()
            if failed is None:
                return {name: writing.results.get(id(value), value) for name, value in values.items()}
            self._untouchable.add(id(failed))
            self._seen[id(failed)] = failed
        return dict(values)

    def _writing(self, values: dict[Any, Any]) -> _Writing:
        survey = Survey(self.kinds, self._keep, self._partners, self._aliases, self._untouchable)
        survey.walk(values.values())
        partners = survey.sound_partners()
        results = {key: partners.get(id(other), other) for key, other in self._aliases.items()} | partners
        return _Writing(survey, partners, results, self._beside, self._read, self._came_late)


def _same_value(contents: list[tuple[Part, Any, Any]]) -> bool:
    """Whether an object that is hashed by its content still has the same hash, for sure."""
    return all(
        isinstance(was, dict) and len(was) == len(now) and all(_same_field(was.get(name), now[name]) for name in now)
        for _, was, now in contents
    )


def _same_field(old: Any, new: Any) -> bool:
    if type(old) is not type(new):
        return False
    if type(old) in ATOMS:
        return bool(old == new)
    if type(old) is tuple:
        return plain(old) and plain(new) and list(map(type, old)) == list(map(type, new)) and old == new
    return type(old).__hash__ is None  # can't be part of the hash


class _Writing:
    """One try to write everything."""

    def __init__(
        self,
        survey: Survey,
        partners: dict[int, Any],
        results: dict[int, Any],
        beside: dict[int, Any],
        read: dict[tuple[int, Part], Any],
        came_late: Callable[[], None],
    ) -> None:
        self._came_late = came_late
        self._survey = survey
        self._partners = partners
        self._beside = beside
        self._read = read
        self.results = results
        self._undo: list[tuple[Part, Any, Any]] = []
        self._now: Any = None

    def run(self) -> Any:
        """The object that could not be written, in which case nothing was; None if all went well."""
        try:
            self._rebuild()
            self._write()
        except Exception:
            for part, target, content in reversed(self._undo):
                with contextlib.suppress(Exception):
                    part.write(target, content)
            return self._now
        return None

    def _rebuild(self) -> None:
        """Tuples and the like, those within others first."""
        nodes = self._survey.immutable
        done: set[int] = set()
        opened: set[int] = set()
        for start in nodes:
            stack = [start]
            while stack:
                key = stack[-1]
                inner = {id(child) for child in nodes[key].children} if key not in opened else set()
                opened.add(key)
                if inner := {child for child in inner if child in nodes} - opened:
                    stack.extend(inner)
                    continue
                stack.pop()
                if key not in done:
                    done.add(key)
                    self._rebuild_one(key)

    def _rebuild_one(self, key: int) -> None:
        node = self._survey.immutable[key]
        part, make, self._now = node.kind.frozen, node.kind.make, node.obj
        assert part is not None
        assert make is not None
        content = part.read(node.obj)
        fresh = list(part.mapped(content, self.results))
        old = self._beside.get(key)
        if old is not None and self._may_stay(key, node.kind) and _identical(part.read(old), fresh):
            self.results[key] = old
        elif any(a is not b for a, b in zip(content, fresh, strict=True)):
            self.results[key] = make(node.obj, fresh)

    def _may_stay(self, key: int, kind: Kind) -> bool:
        """Whether an old tuple or the like of the same content may get the new attributes, if it has some."""
        return not kind.parts or not (kind.by_value or self._survey.is_pinned(key))

    def _write(self) -> None:
        late: list[tuple[Part, Any, Any]] = []
        last: list[tuple[Part, Any, Any]] = []
        for key, node in self._survey.mutable.items():
            target = self.results.get(key, node.obj)
            for part, content in node.contents:
                if part.undo(content) is None:
                    last.append((part, node.obj, content))
                elif part.hashed(content):  # what is hashed must have its new content by then
                    late.append((part, node.obj, content))
                else:
                    self._write_part(part, target, node.obj, content)
        lone = self._survey.lone_arrays() if last else set()
        last.sort(key=lambda item: id(item[1]) in lone)
        for part, obj, content in late + last:
            self._write_part(part, self.results.get(id(obj), obj), obj, content, lone=id(obj) in lone)

    def _write_part(self, part: Part, target: Any, obj: Any, content: Any, *, lone: bool = False) -> None:
        self._now = obj
        fresh = part.mapped(content, self.results)
        if target is obj and fresh is content:
            return
        was = self._read.get((id(target), part), MISSING)
        if was is MISSING:
            was = part.read(target)
        if target is not obj and type(part) is Attributes and (kept := untold(target, was, fresh)):
            fresh = {**fresh, **kept}
        if part.undo(was) is None:
            (part.take if lone else part.write)(target, fresh)
            return
        self._undo.append((part, target, was))
        self._undo[-1] = (part, target, latecomers.write(part, target, was, fresh, self._came_late))


def _identical(old: list[Any], new: list[Any]) -> bool:
    return len(old) == len(new) and all(
        a is b or (type(a) is type(b) and type(a) in ATOMS and type(a) is not float and a == b)
        for a, b in zip(old, new, strict=True)
    )
