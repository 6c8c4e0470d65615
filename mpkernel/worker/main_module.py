"""The module ``__main__``: what it has is looked up by name where no cell says so, as by ``pickle.load``."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any


def fetch_missing(module: types.ModuleType, fetch: Callable[[str], bool]) -> None:
    """Have an attribute of `module` that isn't here made by `fetch`, which tells whether it did."""

    class Main(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if fetch(name):
                return vars(self)[name]
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}", name=name, obj=self)

    Main.__name__ = Main.__qualname__ = "module"
    module.__class__ = Main
