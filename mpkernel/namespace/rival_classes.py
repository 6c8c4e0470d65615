"""Two subshells changed a class at once: attributes that only one of them set or deleted are as it has them.

That goes before what else of theirs is loaded, as this brings the class up to date as a whole. What attributes have as
content (see `definitions`) is merged with the values.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from typing import Any

from mpkernel.namespace import bodies
from mpkernel.namespace.definitions import Definition, Definitions, Version
from mpkernel.namespace.parts import MISSING
from mpkernel.namespace.same import Dumps, same

Bodies = Mapping[str, tuple[Version, bytes]]
# Attributes, and names of those that hold content, of a class with that body; the other bodies are of what it needs.
Read = Callable[[bytes, Bodies], tuple[dict[str, Any], tuple[str, ...]]]


def merge_classes(definitions: Definitions, base: Bodies, theirs: Bodies, read: Read, dumps: Dumps) -> list[str]:
    """Merge into the classes that are here; returns the paths of what both sides had changed, where ours counts.

    The versions of `definitions` must be up to date. What was merged counts as changed.
    """
    rivals = {}
    for def_id, (version, body) in theirs.items():
        known = definitions.get(def_id)
        cls = known.ref() if known is not None else None
        if known is None or not isinstance(cls, type) or isinstance(cls, enum.EnumMeta) or def_id not in base:
            continue
        if len({version, known.version, base[def_id][0]}) == 3:
            rivals[def_id] = (known, cls, base[def_id][1], version, body)
    others = [{key: value for key, value in side.items() if key not in rivals} for side in (base, theirs)]
    conflicts: list[str] = []
    for known, cls, base_body, version, body in rivals.values():
        was, base_contents = read(base_body, others[0])
        is_there, their_contents = read(body, others[1])
        contents = {*known.contents, *base_contents, *their_contents}
        conflicts += _merged(cls, was, is_there, contents, dumps)
        _changed(definitions, known, version)
    return conflicts


def _merged(cls: Any, base: dict[str, Any], theirs: dict[str, Any], contents: set[str], dumps: Dumps) -> list[str]:
    conflicts = []
    mine = bodies.attributes(cls)
    for name in {*base, *theirs} - contents:
        b, t, m = (side.get(name, MISSING) for side in (base, theirs, mine))
        if same(b, t, dumps) or same(t, m, dumps):
            continue
        if not same(b, m, dumps):
            conflicts.append(f"{cls.__qualname__}.{name}")
        elif t is MISSING:
            type.__delattr__(cls, name)
        else:
            type.__setattr__(cls, name, t)
    return conflicts


def _changed(definitions: Definitions, known: Definition, version: Version) -> None:
    """Newer than theirs, which is passed over when it is loaded; and to be sent."""
    definitions.saw(version)
    known.version = max(known.version, version)
    known.surface, known.baseline, known.checked = None, b"", 0
