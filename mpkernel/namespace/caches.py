"""What a `functools.lru_cache` has in it, as a dict that can be shared, and how it gets there.

It can be seen through the garbage collector only. To put a result in, the cached function is called while, for this
thread, it is one that returns that result. Calls also bring what `cache_info` counts up to what all processes counted.
"""

from __future__ import annotations

import datetime
import decimal
import fractions
import functools
import gc
import pathlib
import threading
import types
import uuid
import weakref
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, NamedTuple

from mpkernel.namespace.stubs import Stub

LruCache = type(functools.lru_cache(lambda: None))

# What is in a larger one isn't followed any more.
MAX_RESULTS = 512
# So many hits, and misses, are counted at once for those of other processes.
MAX_COUNTED = 20_000

# Of these one process's are equal to another's, and hashed alike.
_PLAIN = frozenset(
    (
        *(int, float, complex, str, bytes, bool, type(None), type, decimal.Decimal, fractions.Fraction, uuid.UUID),
        *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, pathlib.PosixPath),
    )
)

# The arguments, those by keyword, and the types of both, if the cache goes by them; or the only one, an int or str: a
# cache has 1 and 1.0 apart.
Call = int | str | tuple[tuple[Any, ...], tuple[tuple[str, Any], ...], tuple[type, ...]]
Counter = tuple[int]  # of a worker, by its id
Results = dict[Any, Any]  # by call; and by counter, the hits and misses


class _Insides(NamedTuple):
    items: Collection[tuple[Any, Any]]  # keys and results, the oldest first
    function: Any
    mark: object  # in a key, stands before what was given by keyword
    typed: bool  # a key ends with the types of all arguments

    def calls(self) -> list[tuple[Call, Any]]:
        return [(_call(key, self.mark, self.typed), result) for key, result in self.items]


class _Seen:
    """What a cache had in it when it was last looked at."""

    def __init__(self) -> None:
        self.shared: Results = {}  # always this very dict
        self.kept: Results = {}  # what can't be copied: each process has its own
        self.counted = (0, 0)  # hits and misses
        self.busy = False
        self.followed = False


class Caches:
    """The caches of functions that the notebook defines. `travels` tells whether others can have a result."""

    def __init__(self, worker: int, travels: Callable[[Any], bool]) -> None:
        self._counter: Counter = (worker,)
        self._travels = travels
        self._seen: weakref.WeakKeyDictionary[Any, _Seen] = weakref.WeakKeyDictionary()

    def is_followed(self, cache: Any) -> bool:
        """Whether it is known what is in a cache."""
        seen = self._seen.setdefault(cache, _Seen())
        if not seen.followed:
            seen.followed = _insides(cache) is not None
        return seen.followed

    def content(self, cache: Any) -> Results:
        """The results that others can have; always the same dict."""
        seen = self._seen.setdefault(cache, _Seen())
        info = LruCache.cache_info(cache)
        if seen.busy or info.currsize > MAX_RESULTS:
            return seen.shared  # busy: a result refers to the function
        seen.busy = True
        try:
            if (insides := _insides(cache)) is not None:
                self._look(seen, insides, (info.hits, info.misses))
        finally:
            seen.busy = False
        return seen.shared

    def _look(self, seen: _Seen, insides: _Insides, counted: tuple[int, int]) -> None:
        shared: Results = {}
        kept: Results = {}
        for call, result in insides.calls():
            if not _is_plain(call):
                continue
            known = (call in seen.shared and seen.shared[call] is result) or type(result) in _PLAIN
            own = not known and call in seen.kept and seen.kept[call] is result
            (kept if own or not (known or self._travels(result)) else shared)[call] = result
        seen.kept = kept
        counts = self._counts(seen, counted)
        _change(seen.shared, shared | counts if shared else {})

    def _counts(self, seen: _Seen, counted: tuple[int, int]) -> Results:
        """What each process had counted, this one until now."""
        (hits, misses), (hits_before, misses_before) = counted, seen.counted
        if hits < hits_before or misses < misses_before:  # it was cleared
            counts: Results = {self._counter: counted}
        else:
            counts = {call: count for call, count in seen.shared.items() if _is_counter(call)}
            own_hits, own_misses = counts.get(self._counter, (0, 0))
            counts[self._counter] = own_hits + hits - hits_before, own_misses + misses - misses_before
        seen.counted = counted
        return counts

    def put(self, cache: Any, results: Results) -> None:
        """Have `results` in it, as `content` gives them, beside what can't be copied."""
        insides = _insides(cache)
        if insides is None:
            return
        counts = {call: count for call, count in results.items() if _is_counter(call)}
        results = {call: r for call, r in results.items() if call not in counts and type(r) is not Stub}
        hits, misses = (sum(count[i] for count in counts.values()) for i in (0, 1))
        found = insides.calls() if len(insides.items) <= MAX_RESULTS else []
        here = {call: result for call, result in found if _is_plain(call)}
        seen = self._seen.setdefault(cache, _Seen())
        kept = {call: result for call, result in seen.kept.items() if here.get(call) is result}
        news = [(call, result) for call, result in results.items() if call not in here]
        info = LruCache.cache_info(cache)
        counts_less = counts and (hits < info.hits or misses < info.misses + len(news))
        if counts_less or any(not _is_same(results.get(call, cache), here[call]) for call in here.keys() - kept.keys()):
            cache.cache_clear()
            own = [item for item in found if not _is_plain(item[0])]
            news = [*own, *(kept | results).items()] if results else []
        used = next((call for call, _ in reversed(news or found)), None)  # the latest
        _fill(cache, insides.function, news, used, hits, misses)
        info = LruCache.cache_info(cache)
        seen.counted = info.hits, info.misses
        _change(seen.shared, {call: result for call, result in results.items() if call not in kept} | counts)


def _change(old: Results, new: Results) -> None:
    """Give `old` what is in `new`, in its own order: that a result was used again is no change."""
    for call in old.keys() - new.keys():
        del old[call]
    old.update(new)


def _insides(cache: Any) -> _Insides | None:
    """None if they aren't as they are in CPython, or of no use: those of a library's function."""
    *found, table, function, mark, _, _, _ = gc.get_referents(cache)
    maxsize = LruCache.cache_info(cache).maxsize
    if type(table) is not dict or type(mark) is not object or maxsize == 0:
        return None
    if type(function) is not types.FunctionType or function.__globals__.get("__name__") != "__main__":
        return None
    items = table.copy().items() if maxsize is None else list(zip(found[1::3], found[2::3], strict=False))
    typed = cache.cache_parameters()["typed"]
    return _Insides(items, function, mark, typed) if len(items) == len(table) else None


def _call(key: Any, mark: object, typed: bool) -> Call:
    if type(key) is not tuple:
        return key  # type: ignore[no-any-return]
    at = next((i for i, part in enumerate(key) if part is mark), None)
    if at is None:
        args, named = (len(key) // 2 if typed else len(key)), 0
    else:
        args, named = at, (len(key) - 2 * at - 1) // 3 if typed else (len(key) - at - 1) // 2
    types_at = len(key) - args - named if typed else len(key)
    by_name = key[args + 1 : args + 1 + 2 * named]
    return key[:args], tuple(zip(by_name[::2], by_name[1::2], strict=True)), key[types_at:]


def _is_plain(value: Any) -> bool:
    """Whether others can tell by it with what a function was called."""
    kind = type(value)
    if kind is tuple or kind is frozenset:
        return all(map(_is_plain, value))
    return kind in _PLAIN and bool(value == value)  # not NaN


def _is_counter(call: Any) -> bool:
    return type(call) is tuple and len(call) == 1


def _is_same(one: Any, other: Any) -> bool:
    return one is other or (type(one) is type(other) and type(one) in (int, str, bytes) and bool(one == other))


class _NoResult(Exception):
    """What a function raises that is called to be counted only: then there is nothing to keep."""


class _Told:
    """What a function does while its cache is filled."""

    def __init__(self, function: types.FunctionType) -> None:
        self._thread = threading.get_ident()
        self.result: Any = _NoResult
        self._real = types.FunctionType(
            function.__code__, function.__globals__, function.__name__, function.__defaults__, function.__closure__
        )
        self._real.__kwdefaults__ = function.__kwdefaults__

    def told(self, *args: Any, **kwargs: Any) -> Any:
        """The result; to other threads, what the function itself returns."""
        if threading.get_ident() != self._thread:
            return self._real(*args, **kwargs)
        if self.result is _NoResult:
            raise _NoResult
        return self.result


def _stand_in(*args: Any, **kwargs: Any) -> Any:
    return (...).told(*args, **kwargs)  # type: ignore[attr-defined] # instead of the dots there is a `_Told`


def _fill(cache: Any, function: Any, results: list[tuple[Call, Any]], used: Any, hits: int, misses: int) -> None:
    """Have `results` in it, and so many hits, by calls like `used`, and misses, if it has fewer."""
    info = LruCache.cache_info(cache)
    if not results and info.hits >= hits and info.misses >= misses:
        return
    code, told = function.__code__, _Told(function)
    consts = tuple(told if const is ... else const for const in _stand_in.__code__.co_consts)
    try:
        function.__code__ = _stand_in.__code__.replace(co_consts=consts, co_freevars=code.co_freevars)
        for call, result in results:
            told.result = result
            _call_it(cache, call)
        told.result = _NoResult
        info = LruCache.cache_info(cache)
        for _ in range(min(misses - info.misses, MAX_COUNTED)):
            _call_it(cache, ((object(),), (), ()))
        for _ in range(min(hits - info.hits, MAX_COUNTED) if used is not None else 0):
            _call_it(cache, used)
    finally:
        function.__code__ = code


def _call_it(cache: Any, call: Call) -> None:
    args, named, _ = call if type(call) is tuple else ((call,), (), ())
    with suppress(Exception):  # of an argument's __hash__ or __eq__
        cache(*args, **dict(named))
