"""Two subshells changed a class or function at once: attributes that one of them set or deleted are as it has them.

So are defaults, states of an enum's members, and what was registered. That goes before what else of theirs is loaded,
as this brings the definition up to date as a whole. What attributes have as content (see `definitions`) is merged with
the values.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from typing import Any

from mpkernel.namespace import bodies
from mpkernel.namespace.definitions import Definition, Definitions, Version
from mpkernel.namespace.parts import MISSING
from mpkernel.namespace.same import Dumps, same

Bodies = Mapping[str, tuple[Version, bytes]]
# What is in a body (`bodies.places`), and names of attributes that hold content; the other bodies are of what it needs.
Read = Callable[[bytes, Bodies], tuple[dict[bodies.Place, Any], tuple[str, ...]]]


def merge_definitions(definitions: Definitions, base: Bodies, theirs: Bodies, read: Read, dumps: Dumps) -> list[str]:
    """Merge into what is here; returns the paths of what both sides had changed, where ours counts.

    The versions of `definitions` must be up to date. What was merged counts as changed.
    """
    rivals = {}
    for def_id, (version, body) in theirs.items():
        known = definitions.get(def_id)
        obj = known.ref() if known is not None else None
        if known is None or obj is None or def_id not in base or not bodies.has_places(obj):
            continue
        if len({version, known.version, base[def_id][0]}) == 3:
            rivals[def_id] = (known, obj, base[def_id][1], version, body)
    others = [{key: value for key, value in side.items() if key not in rivals} for side in (base, theirs)]
    conflicts: list[str] = []
    for known, obj, base_body, version, body in rivals.values():
        was, base_contents = read(base_body, others[0])
        is_there, their_contents = read(body, others[1])
        contents = {*known.contents, *base_contents, *their_contents}
        conflicts += _merged(obj, was, is_there, contents, dumps)
        _changed(definitions, known, version)
    return conflicts


def _merged(
    obj: Any, base: dict[bodies.Place, Any], theirs: dict[bodies.Place, Any], contents: set[str], dumps: Dumps
) -> list[str]:
    conflicts = []
    mine = bodies.places_of(obj)
    for place in dict.fromkeys((*base, *theirs)):
        if not place.of and place.name in contents:
            continue
        b, t, m = (side.get(place, MISSING) for side in (base, theirs, mine))
        if _same(b, t, dumps) or _same(t, m, dumps):
            continue
        if not _same(b, m, dumps):
            conflicts.append(f"{obj.__qualname__}.{place}")
        else:
            bodies.put(obj, place, t)
    return conflicts


def _same(a: Any, b: Any, dumps: Dumps) -> bool:
    return a == b if type(a) is type(b) is types.CodeType else same(a, b, dumps)


def _changed(definitions: Definitions, known: Definition, version: Version) -> None:
    """Newer than theirs, which is passed over when it is loaded; and to be sent."""
    definitions.saw(version)
    known.version = max(known.version, version)
    known.surface, known.baseline, known.checked = None, b"", 0
