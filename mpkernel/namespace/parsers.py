"""Parsers of argparse. They know a text, ``argparse.SUPPRESS``, by its identity, which a copy hasn't."""

from __future__ import annotations

import sys
from typing import Any


class _Suppress:
    """Stands for the text."""

    def __reduce__(self) -> Any:
        return getattr, (sys.modules["argparse"], "SUPPRESS")


def with_marks(reduced: Any) -> Any:
    """A parser, or a part of one, as it is pickled: the text is found by its name."""
    if type(reduced) is not tuple or len(reduced) < 3 or type(reduced[2]) is not dict:
        return reduced
    suppress = sys.modules["argparse"].SUPPRESS
    state = {name: _Suppress() if value is suppress else value for name, value in reduced[2].items()}
    return (*reduced[:2], state, *reduced[3:])
