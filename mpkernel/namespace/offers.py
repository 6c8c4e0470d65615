"""Names of which other subshells have values that aren't here."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Collection, Iterable, Iterator

from mpkernel.namespace.loading import NotImported
from mpkernel.namespace.wording import listed, told

WORD = re.compile(r"[^\W\d]\w*")
# What takes texts in which variables are named: SQL over DataFrames, expressions. Formulas of models have a tilde.
_READ_TEXTS = frozenset(("sql", "sqldf", "query", "execute", "evaluate"))
_READ_SQL = frozenset(("sql", "sqldf"))  # over variables, wherever the text comes from


class Offers:
    """Who needs them asks for them: they are too large to be sent unasked, could not be loaded, or need a library that
    isn't imported here."""

    def __init__(self) -> None:
        self._why: dict[str, str] = {}  # why they could not be loaded; empty if that was not tried
        self._packages: dict[str, str] = {}  # of libraries that weren't imported here when they were needed

    def __len__(self) -> int:
        return len(self._why)

    def __contains__(self, name: str) -> bool:
        return name in self._why

    def add(self, names: Iterable[str], error: BaseException | None = None, why: str = "") -> None:
        """`error`: why they could not be loaded; or `why` they aren't to be."""
        for name in names:
            self.drop([name])
            if isinstance(error, NotImported):
                self._packages[name] = error.package
            self._why[name] = told(error) if error is not None else why

    def drop(self, names: Iterable[str]) -> None:
        """Their values are here now, or there are none any more."""
        for name in names:
            self._why.pop(name, None)
            self._packages.pop(name, None)

    def among(self, names: Iterable[str]) -> set[str]:
        """Those of `names` that are offered."""
        return self._why.keys() & names

    def loadable(self) -> set[str]:
        """Those that wait for a library that has been imported since."""
        return {name for name, package in self._packages.items() if package in sys.modules}

    def named_in(self, text: str) -> set[str]:
        """Those that stand in `text`."""
        return self.among(WORD.findall(text))

    def waiting_in(self, text: str) -> set[str]:
        """Those of these that wait for a library."""
        return self.named_in(text) & self._packages.keys()

    def quoted(self, text: str, code: types.CodeType) -> set[str]:
        """Those that `code` may mean by `text`: who asks for a large one for nothing may wait long."""
        named = self.named_in(text)
        if not _READ_SQL.isdisjoint(code.co_names):
            return named | self._packages.keys()
        if "~" in text or not _READ_TEXTS.isdisjoint(code.co_names):
            return named
        return self.waiting_in(text)

    def of_packages(self, names: Collection[str]) -> set[str]:
        """Those that wait for a library which is among `names`: who imports it may use them by any way."""
        return {name for name, package in self._packages.items() if package in names}

    def complaints(self, names: Collection[str]) -> Iterator[str]:
        """What to tell a user whose code needs `names`, and who has asked."""
        wanted = sorted(self.among(names) - self._packages.keys())
        for why in dict.fromkeys(self._why[name] for name in wanted):
            those = listed([name for name in wanted if self._why[name] == why])
            if why:
                yield f"the value of {those} from another subshell can't be had here: {why}"
            else:
                yield (
                    f"{those} stays in its subshell: there isn't enough memory for a copy here. "
                    "%%subshell runs a cell there"
                )
