"""Shows where two kernels' answers to a cell part."""

from __future__ import annotations

import difflib
import itertools

from scripts.differential.cells import Cell
from scripts.harness.kernel import Spec

SHOWN = 300  # characters of a line from where it differs


def show(cell: Cell, ours: list[str], theirs: list[str], kernels: list[Spec]) -> None:
    """Print what the kernels (ours, theirs) said differently to a cell."""
    print(f"\n{cell.label} {cell.title}" + (f"\n  (differs: {cell.differs})" if cell.differs else ""))
    matcher = difflib.SequenceMatcher(None, theirs, ours, autojunk=False)
    for what, start, end, our_start, our_end in matcher.get_opcodes():
        if what == "equal":
            continue
        for their_line, our_line in itertools.zip_longest(theirs[start:end], ours[our_start:our_end], fillvalue=""):
            for kernel, line in zip(kernels[::-1], _where_they_part(their_line, our_line), strict=True):
                print(f"  {kernel.name:10} {line}")


def _where_they_part(first: str, second: str) -> tuple[str, str]:
    """The lines' kinds, and what follows where they begin to differ."""
    same = next((n for n, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1]), 0)
    start = max(0, same - 60)
    kinds = [" ".join(line.split(" ", 2)[:2]) for line in (first, second)]
    return tuple(  # type: ignore[return-value]
        f"{kind} …{line[start : same + SHOWN]}" if start else line[: same + SHOWN]
        for kind, line in zip(kinds, (first, second), strict=True)
    )
