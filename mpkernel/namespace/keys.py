"""Which keys of a dict, or elements of a set, are the same ones on the three sides of a merge.

What is hashed by its content is known by that; where its bytes differ, by its own hash and equality. An instance that
is equal to nothing but itself is known by what it has in it, but for other instances: what these become is no change
of it. If a side has changed it, what the two have in common tells (`counterparts`).
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from types import FunctionType
from typing import Any, NamedTuple

from mpkernel.namespace.alignment import Mark, Unclear, counterparts
from mpkernel.namespace.anatomy import Kinds, Way
from mpkernel.namespace.atoms import ATOMS, plain
from mpkernel.namespace.parts import by_identity
from mpkernel.namespace.same import Dumps, dumps_own, mark_alone, mark_own, same, token

Entry = tuple[Any, Any]  # a key, or an element, and its value
Entries = dict[Hashable, Entry]  # by what the key is known as: a token
_Pair = dict[Hashable, Hashable]  # by token in the base: that in another side


class Matched(NamedTuple):
    """The entries of each side; and, of those that all have, the ones whose keys may have been changed."""

    base: Entries
    theirs: Entries
    mine: Entries
    changeable: list[Hashable]


class Keys:
    """`known` gives what stands for a key that is known from elsewhere, else None; `mark` is as for lists."""

    def __init__(self, kinds: Kinds, dumps: Dumps, known: Callable[[Any], Hashable], mark: Mark) -> None:
        self._kinds = kinds
        self._dumps = dumps
        self._known = known
        self._mark = mark

    def matched(self, contents: tuple[Iterable[Entry], ...], *, is_set: bool) -> Matched:
        """`contents` are those of the base, theirs and mine. Raises Unclear if it can't be told."""
        sides = [list(content) for content in contents]
        if all(map(_simple, sides)):
            base, theirs, mine = ({entry[0]: entry for entry in side} for side in sides)
            return Matched(base, theirs, mine, [])
        base, theirs, mine = self._with_tokens(sides, is_set=is_set)
        everywhere = base.keys() & theirs.keys() & mine.keys()
        base, theirs, mine = self._equal([base, theirs, mine], everywhere)
        equal = base.keys() & theirs.keys() & mine.keys() - everywhere
        theirs, mine = self._instances(base, theirs, mine, is_set=is_set)
        common = [name for name in mine if name in base and name in theirs]
        return Matched(base, theirs, mine, [name for name in common if name in equal or self.is_one(mine[name][0])])

    def own_mark(self, obj: Any) -> Any:
        """What is equal for objects that have the same in them, whatever other instances they refer to have."""
        return mark_alone(obj, self.is_one) if self.is_one(obj) else object()

    def is_one(self, key: Any) -> bool:
        """Whether it may be changed in place, and is equal to nothing but itself."""
        kind = type(key)
        return by_identity(kind) and kind is not FunctionType and self._kinds.of(kind).way is Way.PATCH

    def _with_tokens(self, sides: list[list[Entry]], *, is_set: bool) -> list[Entries]:
        """Those that are alike are told apart by all that is in them, by their values, or by their order."""
        names = [[self._token(key) for key, _ in side] for side in sides]
        names = _finer(names, sides, lambda entry: self.is_one(entry[0]) and token(entry[0], self._dumps))
        if not is_set:
            names = _finer(names, sides, lambda entry: self._mark(entry[1]), if_missing=True)
        return [dict(zip(_numbered(known), side, strict=True)) for known, side in zip(names, sides, strict=True)]

    def _token(self, key: Any) -> Hashable:
        if type(key) in ATOMS:
            return key if key == key else (type(key), repr(key))  # a NaN isn't
        if not self.is_one(key):
            return token(key, self._dumps)  # type: ignore[no-any-return]
        if (known := self._known(key)) is not None:
            return Keys, known
        try:
            return type(key), dumps_own(key, self.is_one)
        except Exception:  # it runs code of the user's
            return type(key), id(key)

    # --- what was changed ---------------------------------------------------------------------------------------------

    def _equal(self, sides: list[Entries], everywhere: set[Hashable]) -> list[Entries]:
        """What is hashed by its content has one token if it is equal, though there is more in it."""
        first: dict[Any, Hashable] = {}
        found = []
        for side in sides:
            left = [name for name in side if name not in everywhere and _by_content(side[name][0])]
            try:
                names = {name: first.setdefault(side[name][0], name) for name in left}
            except Exception as error:  # it is code of the user's
                raise Unclear from error
            found.append(_renamed(side, names))
        return found

    def _instances(self, base: Entries, theirs: Entries, mine: Entries, *, is_set: bool) -> tuple[Entries, Entries]:
        """Theirs and mine, where those that were changed have the tokens of what they were."""
        sides = [theirs, mine]
        gone = [self._by_type(base, side) for side in sides]
        new = [self._by_type(side, base) for side in sides]
        for kind in dict.fromkeys(kind for found in (*gone, *new) for kind in found):
            were, are = ([found.get(kind, []) for found in both] for both in (gone, new))
            became = self._became(base, sides, were, are, is_set=is_set)
            names = [{name: was for was, name in pairs.items()} for pairs in became]
            lost = [set(keys) - pairs.keys() for keys, pairs in zip(were, became, strict=True)]
            if is_set and lost[0].isdisjoint(lost[1]):  # what looks the same, each has put in for itself
                names[0] |= {name: ("theirs", name) for name in are[0] if name not in names[0] and not _is_known(name)}
            sides = [_renamed(side, new_names) for side, new_names in zip(sides, names, strict=True)]
        return sides[0], sides[1]

    def _by_type(self, these: Entries, others: Entries) -> dict[type, list[Hashable]]:
        """Instances that others don't have."""
        found: dict[type, list[Hashable]] = {}
        for name in these:
            if name not in others and self.is_one(these[name][0]):
                found.setdefault(type(these[name][0]), []).append(name)
        return found

    def _became(
        self,
        base: Entries,
        sides: list[Entries],
        gone: list[list[Hashable]],
        new: list[list[Hashable]],
        *,
        is_set: bool,
    ) -> list[_Pair]:
        """What instances of one type that are gone from the base became, on each side."""
        became = [
            self._counterparts({name: base[name][0] for name in were}, {name: side[name][0] for name in are})
            for side, were, are in zip(sides, gone, new, strict=True)
        ]
        left = [set(are) - set(pairs.values()) for are, pairs in zip(new, became, strict=True)]
        lost = [set(were) - pairs.keys() for were, pairs in zip(gone, became, strict=True)]
        if lost[0] & lost[1] and left[0] and left[1] and left[0] != left[1]:
            if not len(gone[0]) == len(gone[1]) == len(new[0]) == len(new[1]) == 1 or _is_numbered(gone[0][0]):
                raise Unclear
            return [{gone[0][0]: new[0][0]}, {gone[0][0]: new[1][0]}]
        for at, other in ((0, 1), (1, 0)):
            for name in lost[at]:
                if name in became[other]:  # what one has taken out while the other changed it stays
                    if left[at]:
                        raise Unclear
                    del became[other][name]
                elif left[at] and not is_set and name in sides[other]:
                    values = base[name][1], sides[other][name][1]
                    if len(left[at]) == len(lost[at]) == 1 and not same(*values, self._dumps, self._kinds):
                        raise Unclear
        return became

    def _counterparts(self, gone: dict[Hashable, Any], new: dict[Hashable, Any]) -> _Pair:
        """By what they have in themselves in common, or in other instances as well."""
        names = list(gone), list(new)
        keys = list(gone.values()), list(new.values())
        try:
            found = counterparts(*keys, lambda value: mark_own(value, self.is_one))
        except Unclear:
            found = counterparts(*keys, self._mark)
        return {names[0][at]: names[1][its] for at, its in found.items()}


def _simple(side: list[Entry]) -> bool:
    """Whether the keys are numbers, texts and the like, which are equal to themselves."""
    keys = [key for key, _ in side]
    return plain(keys) and not any(map(operator.ne, keys, keys))


def _by_content(key: Any) -> bool:
    return type(key) not in ATOMS and not by_identity(type(key))


def _finer(
    names: list[list[Hashable]], sides: list[list[Entry]], more: Callable[[Entry], Any], *, if_missing: bool = False
) -> list[list[Hashable]]:
    """Tokens that several on a side have, with more; `if_missing`: only those that not all sides have as often."""
    counts = [Counter(known) for known in names]
    alike = {name for count in counts for name, times in count.items() if times > 1}
    if if_missing:
        alike = {name for name in alike if len({count[name] for count in counts}) > 1}
    if not alike:
        return names
    return [
        [(name, more(entry)) if name in alike else name for name, entry in zip(known, side, strict=True)]
        for known, side in zip(names, sides, strict=True)
    ]


class _Number(NamedTuple):
    """Of several that are alike."""

    token: Hashable
    number: int


def _numbered(names: list[Hashable]) -> list[Hashable]:
    times: Counter[Hashable] = Counter(names)
    if len(times) == len(names):
        return names
    last: Counter[Hashable] = Counter()
    found: list[Hashable] = []
    for name in names:
        found.append(_Number(name, last[name]) if last[name] else name)
        last[name] += 1
    return found


def _is_numbered(name: Hashable) -> bool:
    return isinstance(name, _Number)


def _is_known(name: Hashable) -> bool:
    return isinstance(name, tuple) and name[0] is Keys


def _renamed(side: Entries, names: dict[Hashable, Hashable]) -> Entries:
    if not names:
        return side
    found = {names.get(name, name): entry for name, entry in side.items()}
    if len(found) < len(side):
        raise Unclear
    return found
