"""Type parameters and type aliases of statements (``def f[T: int](x: T)``, ``type Pair[T] = tuple[T, T]``).

No constructor makes one whose bound, default or value is looked at only when somebody asks for it, so that it may speak
of what is defined later, and of itself. A statement does; what it says is filled in afterwards.
"""

from __future__ import annotations

import sys
import typing
from contextlib import suppress
from typing import Any

_NAMES = ("TypeVar", "ParamSpec", "TypeVarTuple", "TypeAliasType")
_BY_NAME: dict[str, type] = {name: vars(typing)[name] for name in _NAMES if name in vars(typing)}
KINDS: tuple[type, ...] = tuple(_BY_NAME.values())
ALIAS: Any = _BY_NAME.get("TypeAliasType")

_STARS = {"ParamSpec": "**", "TypeVarTuple": "*"}
# Not to be mistaken for the name of a parameter.
_SAID = "_mpkernel_said"
_said: dict[int, dict[str, Any]] = {}  # by id: of those made here that aren't filled yet


class _Said(dict[str, Any]):
    def __missing__(self, what: str) -> Any:
        raise NameError(f"its {what} spoke of what was not yet defined when this came from another subshell")


def made_by_statement(obj: Any) -> bool:
    """Whether neither a library nor a call has made it, or there is no other way to make it again."""
    module = sys.modules.get(obj.__module__)
    if obj.__module__ != "__main__" and getattr(module, obj.__name__, None) is obj:
        return False
    return type(obj) is not typing.TypeVar or getattr(obj, "__infer_variance__", False)


def describe(obj: Any) -> tuple[Any, Any]:
    """The head and the rest of it. Of an alias with parameters all is in the head."""
    kind, name = type(obj).__name__, obj.__name__
    if type(obj) is ALIAS:
        if obj.__type_params__:
            return (kind, name, obj.__type_params__, obj.__value__), {}
        return (kind, name), _known(value=lambda: obj.__value__)
    rest = _known(bound=lambda: obj.__bound__, constraints=lambda: obj.__constraints__)
    if getattr(obj, "has_default", bool)():
        rest |= _known(default=lambda: obj.__default__)
    rest = {said: value for said, value in rest.items() if value is not None and value != ()}
    return (kind, name, "bound" in rest, len(rest.get("constraints", ())), "default" in rest), rest


def _known(**said: Any) -> dict[str, Any]:
    """What each says, but for those that speak of something that isn't there (yet)."""
    found = {}
    for name, value in said.items():
        with suppress(Exception):
            found[name] = value()
    return found


def make(kind: str, name: str, *more: Any) -> Any:
    """One of that kind and name, to be filled."""
    if kind == "TypeAliasType" and more:
        params, value = more
        return _BY_NAME[kind](name, value, type_params=params)
    said = _Said()
    if kind == "TypeAliasType":
        obj = _executed(f"type {name} = {_SAID}['value']", said)[name]
    elif sys.version_info < (3, 12):
        obj = _BY_NAME[kind](name)
        obj.__module__ = "__main__"
    else:
        has_bound, constraints, has_default = more
        told = f"{_STARS.get(kind, '')}{name}"
        if has_bound:
            told += f": {_SAID}['bound']"
        elif constraints:
            told += ": ({})".format("".join(f"{_SAID}['constraints'][{index}], " for index in range(constraints)))
        if has_default:
            told += f" = {_SAID}['default']"
        (obj,) = _executed(f"type _[{told}] = None", said)["_"].__type_params__
    _said[id(obj)] = said
    return obj


def _executed(statement: str, said: dict[str, Any]) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(statement, {"__name__": "__main__", _SAID: said}, names)
    return names


def fill(obj: Any, rest: dict[str, Any]) -> None:
    """Have it say what the original said."""
    if (said := _said.pop(id(obj), None)) is not None:
        said.update(rest)
