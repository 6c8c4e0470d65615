"""Names of which other subshells have values that aren't here."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from mpkernel.namespace.wording import listed


class Offers:
    """They are too large to be sent unasked, or could not be loaded: who needs them asks for them."""

    def __init__(self) -> None:
        self._why: dict[str, str] = {}  # why they could not be loaded; empty if they are large

    def __len__(self) -> int:
        return len(self._why)

    def __contains__(self, name: str) -> bool:
        return name in self._why

    def add(self, names: Iterable[str], why: str = "") -> None:
        self._why.update(dict.fromkeys(names, why))

    def drop(self, names: Iterable[str]) -> None:
        """Their values are here now, or there are none any more."""
        for name in names:
            self._why.pop(name, None)

    def among(self, names: Collection[str]) -> set[str]:
        """Those of `names` that are offered."""
        return self._why.keys() & names

    def complaints(self, names: Collection[str]) -> Iterator[str]:
        """What to tell a user whose code needs `names`, and who has asked."""
        wanted = sorted(self.among(names))
        for why in dict.fromkeys(self._why[name] for name in wanted):
            those = listed([name for name in wanted if self._why[name] == why])
            if why:
                yield f"the value of {those} from another subshell can't be had here: {why}"
            else:
                yield (
                    f"{those} stays in its subshell: there isn't enough memory for a copy here. "
                    "%%subshell runs a cell there"
                )
