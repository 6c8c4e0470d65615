"""Types whose instances have no parts that could be replaced, and the quick test for them."""

from __future__ import annotations

import _thread
import datetime
import decimal
import fractions
import functools
import re
import types
import uuid
from collections.abc import Iterable
from pathlib import PosixPath, PurePosixPath, PureWindowsPath
from typing import Any

from mpkernel.namespace import lazy_imports, type_params

# Exactly these types. What is a process's own (a lock) counts as well: it is never patched or looked into.
# fmt: off
ATOMS: frozenset[type] = frozenset((
    int, float, complex, str, bytes, bool, type(None), type(Ellipsis), type(NotImplemented), range, type, object,
    types.CodeType, types.MethodDescriptorType,
    types.WrapperDescriptorType, types.ClassMethodDescriptorType, types.GetSetDescriptorType,
    types.MemberDescriptorType, types.GenericAlias, types.UnionType, types.FrameType, types.GeneratorType,
    types.CoroutineType, types.AsyncGeneratorType, types.TracebackType,
    datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone,
    decimal.Decimal, fractions.Fraction, re.Pattern, uuid.UUID, PosixPath, PurePosixPath, PureWindowsPath,
    re.Match, *type_params.KINDS, *lazy_imports.KINDS,
    _thread.LockType, _thread.RLock, type(functools.lru_cache(lambda: None)),
))
# fmt: on


def plain(items: Iterable[Any]) -> bool:
    """Whether all `items` are atoms; a loop in C."""
    return ATOMS.issuperset(map(type, items))
