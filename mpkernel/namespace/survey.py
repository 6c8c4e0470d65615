"""A walk over all that a received value consists of, to find which old objects may soundly take a new one's place."""

from __future__ import annotations

import gc
import types
from collections.abc import Callable, Iterable, Sequence, Sized
from dataclasses import dataclass
from typing import Any

from mpkernel.namespace import science
from mpkernel.namespace.anatomy import Kind, Kinds, Way
from mpkernel.namespace.atoms import ATOMS, plain
from mpkernel.namespace.parts import Attributes, Part, Slots
from mpkernel.namespace.science import Extent

# Containers with more objects than this aren't paired one by one if all of these are plain data.
BULK = 20_000
# So many objects behind opaque ones are looked at: more means that it isn't part of the value (a logger, a registry).
MAX_BEHIND = 10_000
_CONTAINERS = frozenset((list, dict, tuple, set, frozenset))
_OUTSIDE = (type, types.ModuleType, types.FunctionType, types.FrameType)


@dataclass(slots=True, eq=False)
class Node:
    """An object of the new graph."""

    obj: Any
    kind: Kind
    contents: list[tuple[Part, Any]]
    children: Sequence[Any] = ()


class Survey:
    """All objects of a new graph, by id; and which pairs hold."""

    def __init__(
        self,
        kinds: Kinds,
        keep: Callable[[Any], bool] | None,
        partners: dict[int, Any],
        aliases: dict[int, Any],
        untouchable: set[int],
    ) -> None:
        self._kinds, self._keep, self._untouchable = kinds, keep, untouchable
        self._partners = dict(partners)
        self._aliases = aliases
        self.mutable: dict[int, Node] = {}
        self.immutable: dict[int, Node] = {}
        self._other: dict[int, Any] = {}
        self._pinned: dict[int, Any] = {}  # must stay as they are
        self._behind = 0
        self._bulks: list[list[Sequence[Any]]] = []
        self._arrays: list[Node] = []
        self._taken = partners.keys() | aliases.keys()

    def walk(self, values: Iterable[Any]) -> None:
        """Visit all that can be reached from `values`."""
        todo = [value for value in values if type(value) not in ATOMS]
        while True:
            while todo:
                obj = todo.pop()
                cls = type(obj)
                if cls in ATOMS:
                    continue
                obj = self._aliases.get(id(obj), obj)
                if not (id(obj) in self.mutable or id(obj) in self.immutable or id(obj) in self._other):
                    self._visit(obj, todo)
            # Bulk data was not looked into; that's no good if something in it is paired.
            for items, *inner in self._bulks:
                if all(self._taken.isdisjoint(map(id, level)) for level in inner):
                    todo += [item for item in items if id(item) in self._taken] if self._mixed(items) else ()
                else:
                    todo += items
            self._bulks = []
            if not todo:
                return

    def _visit(self, obj: Any, todo: list[Any]) -> None:
        kind = self._kinds.of(type(obj))
        key = id(obj)
        if kind.memory is not None:
            self._arrays.append(Node(obj, kind, []))
        if kind.way is Way.ATOM or (kind.atom is not None and kind.atom(obj)):
            self._other[key] = obj
        elif kind.way is Way.OPAQUE or key in self._untouchable or (self._keep is not None and self._keep(obj)):
            self._other[key] = obj
            self._look_behind(obj, todo)
        elif key not in self._taken and kind.memory is not None and science.has_atoms_only(obj):
            self._other[key] = obj
        else:
            try:
                contents = [(part, part.read(obj)) for part in kind.parts]
            except Exception:  # a hash of the user's, or another thread that changes it
                self._other[key] = obj
                self._look_behind(obj, todo)
            else:
                self._take_apart(obj, kind, contents, todo)

    def _take_apart(self, obj: Any, kind: Kind, contents: list[tuple[Part, Any]], todo: list[Any]) -> None:
        node = Node(obj, kind, contents)
        if kind.frozen is not None:
            node.children = list(kind.frozen.children(kind.frozen.read(obj)))
            self.immutable[id(obj)] = node
            todo += node.children
        if kind.frozen is None or contents:
            self.mutable[id(obj)] = node
        todo += kind.links(obj)
        for part, content in contents:
            children = part.children(content)
            levels = bulk(children, self._kinds)
            if levels is None:
                todo += children
            else:
                self._bulks.append(levels)

    def _mixed(self, items: Sequence[Any]) -> bool:
        return not self._taken.isdisjoint(map(id, items))

    def _look_behind(self, obj: Any, todo: list[Any]) -> None:
        """What an opaque object refers to can't be replaced there."""
        inside: list[Any] = []
        for child in gc.get_referents(obj):
            if type(child) in ATOMS or isinstance(child, _OUTSIDE) or self._behind > MAX_BEHIND:
                continue
            if id(child) not in self._pinned:
                self._behind += 1
                self._pinned[id(child)] = child
                todo.append(child)
                if self._kinds.of(type(child)).way is Way.REBUILD:  # another can't take its place there
                    inside.append(child)
        for child in inside:
            self._look_behind(child, todo)

    def is_pinned(self, key: int) -> bool:
        """Whether the object of that id must stay as it is."""
        return key in self._pinned

    # --- which pairs hold ---------------------------------------------------------------------------------------------

    def sound_partners(self) -> dict[int, Any]:
        """The pairs that don't tear apart what belongs together."""
        for key in (*self._pinned, *self._untouchable):
            self._partners.pop(key, None)
        nodes = {key: self.mutable[key] for key in self._partners if key in self.mutable}
        self._partners = {key: old for key, old in self._partners.items() if key in nodes}
        while self._drop_arrays() or self._drop_links():
            pass
        return self._partners

    def _drop_links(self) -> bool:
        """A function is patched if and only if all its cells are."""
        before = len(self._partners)
        for key, node in self.mutable.items():
            cells = node.kind.links(node.obj)
            if not cells:
                continue
            old = self._partners.get(key)
            olds = node.kind.links(old) if old is not None else ()
            if len(olds) != len(cells) or any(
                self._partners.get(id(cell), cell) is not was for cell, was in zip(cells, olds, strict=True)
            ):
                for part in (node.obj, *cells):
                    self._partners.pop(id(part), None)
        return len(self._partners) < before

    def _drop_arrays(self) -> bool:
        """Arrays on the same memory are patched together or not at all."""
        before = len(self._partners)
        whole: list[tuple[Extent, list[Node]]] = []
        for group in self.memories():
            olds = self._old_memory(group)
            if olds is None:
                self._drop(node for _, node in group)
            else:
                whole += [(extent, [node for _, node in group]) for extent in olds]
        for clash in _overlapping(whole):
            if len({id(nodes) for _, nodes in clash}) > 1 and len({id(nodes[0]) for _, nodes in clash}) > 1:
                self._drop(node for _, nodes in clash for node in nodes)
        return len(self._partners) < before

    def memories(self) -> Iterable[list[tuple[Extent, Node]]]:
        """The arrays of the graph, by the memory that they share."""
        return _overlapping(
            [
                (extent, node)
                for node in self._arrays
                if node.kind.memory is not None and (extent := node.kind.memory(node.obj)) is not None
            ]
        )

    def lone_arrays(self) -> set[int]:
        """Ids of new arrays that share memory with no other."""
        return {id(group[0][1].obj) for group in self.memories() if len(group) == 1}

    def _drop(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self._partners.pop(id(node.obj), None)

    def _old_memory(self, group: list[tuple[Extent, Node]]) -> list[Extent] | None:
        """Where the old arrays of a group are; None if not all are there, at the same distances."""
        olds: list[Extent] = []
        for extent, node in group:
            old = self._partners.get(id(node.obj))
            place = node.kind.memory(old) if old is not None and node.kind.memory is not None else None
            if place is None:
                return None
            olds.append(place)
            if len(group) > 1:
                moved = place.low - extent.low != olds[0].low - group[0][0].low
                if moved or place.layout != extent.layout:
                    return None
        return olds


def _overlapping(items: list[tuple[Extent, Any]]) -> Iterable[list[tuple[Extent, Any]]]:
    groups: list[list[tuple[Extent, Any]]] = []
    end = -1
    for extent, item in sorted(items, key=lambda pair: pair[0].low):
        if extent.low >= end or not groups:
            groups.append([])
            end = extent.high
        end = max(end, extent.high)
        groups[-1].append((extent, item))
    return groups


def directly_in(obj: Any, kinds: Kinds, *, bulk_too: bool = True) -> list[Any]:
    """The objects that are in one, in the order in which they are pickled; large plain data only if `bulk_too`."""
    kind = kinds.of(type(obj))
    if kind.way not in (Way.PATCH, Way.REBUILD) or (kind.atom is not None and kind.atom(obj)):
        return []
    found = list(kind.links(obj))
    for part in kind.all_parts:
        content = part.read(obj)
        if bulk_too or not may_be_bulk(content) or bulk(part.children(content), kinds) is None:
            found += part.children(content)
    return found


def may_be_bulk(content: Any) -> bool:
    """Whether the content of a part, its keys included, has so many objects in it that it is worth asking `bulk`."""
    return not isinstance(content, (list, dict)) or len(content) * 2 > BULK


def bulk(children: Iterable[Any], kinds: Kinds) -> list[Sequence[Any]] | None:
    """The objects of a large container of plain data, level by level, the direct ones first; else None."""
    if not isinstance(children, Sized):
        return None
    if len(children) <= BULK:
        return None
    classes = set(map(type, children))
    if classes <= ATOMS:
        return [[]]
    if not all(_is_open(cls, kinds) for cls in classes):
        return None
    levels: list[Sequence[Any]] = [[item for item in children if type(item) not in ATOMS]]
    for _ in range(4):
        inner = gc.get_referents(*levels[-1])
        if plain(inner):
            return levels
        if not _CONTAINERS.issuperset(set(map(type, inner)) - ATOMS):
            return None
        levels.append([item for item in inner if type(item) in _CONTAINERS])
    return None


def _is_open(cls: type, kinds: Kinds) -> bool:
    """Whether the garbage collector shows all that an instance has in it."""
    if cls in ATOMS or cls in _CONTAINERS:
        return True
    kind = kinds.of(cls)
    return kind.way is Way.PATCH and all(type(part) in (Attributes, Slots) for part in kind.parts) and not kind.by_value
