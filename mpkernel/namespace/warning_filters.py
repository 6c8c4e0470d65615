"""The filters of `warnings`, as far as subshells share them."""

from __future__ import annotations

import sys
import types
import warnings
from typing import Any

from mpkernel.namespace.process_state import Facet, Items

# As in `warnings.filters`, but for the category: that of a library is told by name, as "module:class".
Filter = tuple[Any, ...]
_CATEGORY = 2


class Warnings(Facet):
    """A filter for a class of a library that isn't imported here waits until it is: nothing warns of that before."""

    name = "warnings"

    def __init__(self) -> None:
        self._all: list[Filter] = []
        self._waiting: list[Filter] = []  # some of these

    def read(self) -> Items:
        found = [_told(each) for each in warnings.filters]
        if found:  # else somebody has reset them all
            for place, each in reversed(list(enumerate(self._all))):
                if each in self._waiting and each not in found:
                    found.insert(_before(self._all[place + 1 :], found), each)
        return {"": found}

    def mark(self) -> Any:
        return list(warnings.filters), self._waiting

    def write(self, items: Items) -> None:
        if not isinstance(warnings.filters, list):
            return
        self._all = list(items[""])
        known = [_known(each) for each in self._all]
        self._waiting = [each for each, here in zip(self._all, known, strict=True) if here is None]
        warnings.filters[:] = [each for each in known if each is not None]
        for changed in ("_filters_mutated", "_filters_mutated_lock_held"):
            if call := getattr(warnings, changed, None):
                call()
                return

    def ran(self, code: types.CodeType) -> None:
        self.arrived()

    def arrived(self) -> None:
        if any(_known(each) is not None for each in self._waiting):
            self.write(self.read())


def _told(each: Filter) -> Filter:
    category = each[_CATEGORY]
    module, name = getattr(category, "__module__", ""), getattr(category, "__qualname__", "")
    if module in ("builtins", "__main__") or getattr(sys.modules.get(module), name, None) is not category:
        return each
    return (*each[:_CATEGORY], f"{module}:{name}", *each[_CATEGORY + 1 :])


def _known(each: Filter) -> Filter | None:
    """With the class itself; None if it isn't imported."""
    category = each[_CATEGORY]
    if type(category) is not str:
        return each
    module, _, name = category.partition(":")
    found = getattr(sys.modules.get(module), name, None)
    return (*each[:_CATEGORY], found, *each[_CATEGORY + 1 :]) if isinstance(found, type) else None


def _before(followers: list[Filter], there: list[Filter]) -> int:
    """The place of the first of `followers` that is `there`."""
    return next((there.index(each) for each in followers if each in there), len(there))
