"""What a thread of the user's changes in a container while the new content of that is being made and written.

New content is made of what was read before. So it is exchanged, in one step, for what is there: if that isn't what was
read, the difference came late, and is made once more. Objects of other kinds have no such step: there it is lost.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from mpkernel.namespace.atoms import plain
from mpkernel.namespace.parts import MISSING, Attributes, Elements, Entries, Items, Named, Part, QueueItems
from mpkernel.namespace.sequences import Edit, by_index, combined, differing

# A thread that changes a container each time that it may run isn't waited for longer.
MAX_ROUNDS = 20
_COMPARABLE = (int, bool, str, bytes, float)


def write(part: Part, obj: Any, was: Any, fresh: Any, came_late: Callable[[], None] = lambda: None) -> Any:
    """Make `fresh` the content of `obj`, with what has changed since it was read as `was`; returns what was there.

    `came_late` is called if anything has.
    """
    first = now = _exchange(part, obj, fresh)
    for _ in range(MAX_ROUNDS):
        rebased = _rebased(part, was, now, fresh)
        if rebased is None:
            break
        came_late()
        if _amended(part, obj, fresh, rebased):
            break
        was, fresh = fresh, rebased
        now = _exchange(part, obj, fresh)
    return first


def torn(part: Part, live: Any, copy: Any) -> bool:
    """Whether a container has changed since `copy`, the content of its copy, was made."""
    if isinstance(part, Named):  # some may not be copied, or be made when a copy is
        return _differ([live[name] for name in live if name in copy], [copy[name] for name in live if name in copy])
    if type(part) not in (Items, QueueItems, Entries, Elements):
        return False
    if len(live) != len(copy) or type(part) is Elements:
        return len(live) != len(copy)
    if isinstance(part, Entries):
        other_keys = plain(live) and plain(copy) and _differ(list(live), list(copy))
        return other_keys or _differ(list(live.values()), list(copy.values()))
    return _differ(live, copy)


def _differ(now: list[Any], was: list[Any]) -> bool:
    """Whether there are values that changed for sure."""
    places = differing(now, was)
    return any(type(now[at]) is type(was[at]) in _COMPARABLE and now[at] != was[at] == was[at] for at in places)


def _exchange(part: Part, obj: Any, content: Any) -> Any:
    """Write `content`; returns what it replaced."""
    if type(part) is Items and isinstance(obj, list):
        return _in_one_step(partial(list.copy, obj), partial(list.__setitem__, obj, slice(None), content))
    if type(part) is QueueItems and type(obj) is deque:
        old = _in_one_step(partial(deque.copy, obj), partial(deque.clear, obj), partial(deque.extend, obj, content))
        return list(old)
    if type(part) is Elements and type(obj) is set:
        old = _in_one_step(partial(set.copy, obj), partial(set.clear, obj), partial(set.update, obj, content))
        return list(old)
    if type(part) is Attributes:
        return _exchange_entries(part.entries(obj), content)
    if type(part) is Entries and isinstance(obj, dict) and part.is_plain:
        return _exchange_entries(obj, content)
    old = part.read(obj)
    part.write(obj, content)
    return old


def _exchange_entries(entries: dict[Any, Any], content: dict[Any, Any]) -> dict[Any, Any]:
    steps: list[Callable[[], Any]] = [partial(dict.copy, entries), partial(dict.clear, entries)]
    steps.append(partial(dict.update, entries, content))
    if len(entries) == len(content) and plain(content) and list(dict.keys(entries)) == list(content):
        del steps[1]  # instances keep their attributes where they are
    was: dict[Any, Any] = _in_one_step(*steps)
    return was


def _amended(part: Part, obj: Any, content: Any, wanted: Any) -> bool:
    """Make `wanted` of `content` by the difference alone, so that what a thread adds meanwhile stays; whether it could.

    Each exchange of the whole takes a time in which a busy thread changes it again.
    """
    if type(part) is Elements and type(obj) is set:
        set.difference_update(obj, set(content).difference(wanted))
        set.update(obj, set(wanted).difference(content))
        return True
    if type(part) is Attributes or (type(part) is Entries and isinstance(obj, dict) and part.is_plain):
        _amend_entries(part.entries(obj) if type(part) is Attributes else obj, content, wanted)
        return True
    is_list = type(part) is Items and isinstance(obj, list)
    if not is_list and not (type(part) is QueueItems and type(obj) is deque and obj.maxlen is None):
        return False
    edit = Edit.between(content, wanted, operator.is_)
    before = part.read(obj)[: edit.stop]
    if not _identical(before, content[: edit.stop]):  # a thread has changed that again
        return False
    if is_list:
        list.__setitem__(obj, slice(edit.start, edit.stop), edit.items)
    else:
        steps = [partial(deque.rotate, obj, -edit.start), *[partial(deque.popleft, obj)] * (edit.stop - edit.start)]
        _in_one_step(*steps, partial(deque.extendleft, obj, edit.items[::-1]), partial(deque.rotate, obj, edit.start))
    return True


def _amend_entries(entries: dict[Any, Any], content: dict[Any, Any], wanted: dict[Any, Any]) -> None:
    changed = [key for key, value in wanted.items() if content.get(key, MISSING) is not value]
    for key in [*changed, *(key for key in content if key not in wanted)]:
        expected, new = content.get(key, MISSING), wanted.get(key, MISSING)
        for _ in range(MAX_ROUNDS):
            found = _exchange_entry(entries, key, new)
            if found is expected:
                break
            expected, new = new, found  # a thread has changed that again


def _exchange_entry(entries: dict[Any, Any], key: object, value: object) -> Any:
    """Write an entry, or remove it if `value` is MISSING; returns what was there."""
    write = partial(dict.__setitem__, entries, key, value)
    if value is MISSING:
        write = partial(dict.pop, entries, key, None)
    return _in_one_step(partial(dict.get, entries, key, MISSING), write)


def _in_one_step(*calls: Callable[[], Any]) -> Any:
    """What the first of some calls of C functions returns; nothing is done in Python between them."""
    return [*map(operator.call, calls)][0]  # noqa: RUF015 (all are to be called)


def _rebased(part: Part, was: Any, now: Any, fresh: Any) -> Any:
    """`fresh` with what has made `now` of `was`; None if nothing has, or the two can't both be had."""
    if isinstance(part, Entries):
        return _rebased_entries(was, now, fresh)
    if isinstance(part, Elements):
        return _rebased_set(was, now, fresh)
    return _rebased_items(was, now, fresh) if isinstance(part, Items) else None


def _identical(one: Collection[Any], other: Collection[Any]) -> bool:
    return len(one) == len(other) and all(map(operator.is_, one, other))


def _rebased_items(was: list[Any], now: list[Any], fresh: list[Any]) -> list[Any] | None:
    if _identical(was, now):
        return None
    late, own = Edit.between(was, now, operator.is_), Edit.between(was, fresh, operator.is_)
    if not late.touches(own):
        return None if late.empty else combined(was, fresh, late, own)
    count = len(was)
    if not by_index(was, now, fresh, lambda old, changed, made: old is changed or old is made):
        return None
    head = [changed if old is not changed else made for old, changed, made in zip(was, now, fresh, strict=False)]
    return head[:count] + now[count:] + fresh[count:]


def _rebased_entries(was: dict[Any, Any], now: dict[Any, Any], fresh: dict[Any, Any]) -> dict[Any, Any] | None:
    if _identical(was, now) and _identical(was.values(), now.values()):
        return None
    changed = {key: value for key, value in now.items() if was.get(key, MISSING) is not value}
    gone = [key for key in was if key not in now]
    if not changed and not gone:
        return None
    rebased = fresh | changed
    for key in gone:
        rebased.pop(key, None)
    return rebased


def _rebased_set(was: list[Any], now: list[Any], fresh: list[Any]) -> list[Any] | None:
    if _identical(was, now):
        return None
    before, after = set(was), set(now)
    if before == after:
        return None
    return [*(set(fresh) - (before - after)), *(after - before - set(fresh))]
