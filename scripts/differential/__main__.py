"""``python -m scripts.differential``: the cells of all areas on mpkernel and on ipykernel, and what differs.

Exit code 1 if something differs without a reason (``# %% differs: REASON`` in the area's file).
"""

from __future__ import annotations

import argparse
import difflib
import itertools
import sys

from scripts.differential import cells
from scripts.differential.cells import Cell
from scripts.differential.play import play
from scripts.harness.kernel import Spec

SHOWN = 300  # characters of a line from where it differs


def main() -> int:
    arguments = _arguments()
    areas = sorted(cells.AREAS.glob("*.ipy"))
    if unknown := set(arguments.area) - {path.stem for path in areas}:
        print(f"no area {', '.join(sorted(unknown))}; there are {', '.join(p.stem for p in areas)}", file=sys.stderr)
        return 2
    kernels = [Spec.parse(text) for text in arguments.kernel] or [
        Spec.of_interpreter("mpkernel", sys.executable),
        Spec.of_interpreter("ipykernel", arguments.ipykernel_python),
    ]
    if len(kernels) != 2:
        print("two kernels are compared: give --kernel twice, or not at all", file=sys.stderr)
        return 2
    count = different = excused = 0
    for path in areas:
        if arguments.area and path.stem not in arguments.area:
            continue
        asked = cells.read(path)
        ours = play(kernels[0], asked, arguments.patience, in_child=arguments.child)
        theirs = play(kernels[1], asked, arguments.patience)
        for cell, mine, other in zip(asked, ours, theirs, strict=True):
            count += 1
            if mine == other:
                if cell.differs:
                    print(f"{cell.label} no longer differs: {cell.title}")
            elif cell.differs:
                excused += 1
                if arguments.all:
                    _show(cell, mine, other, kernels)
            else:
                different += 1
                _show(cell, mine, other, kernels)
    print(f"{count} cells: {count - different - excused} the same, {excused} differ with a reason, {different} without")
    return 1 if different else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.differential", description=__doc__)
    parser.add_argument("area", nargs="*", help="only these areas (files in scripts/differential/areas)")
    parser.add_argument(
        "--kernel", action="append", default=[], metavar="NAME=WHAT", help="as in scripts.bench; ours, then theirs"
    )
    parser.add_argument(
        "--ipykernel-python", default=sys.executable, metavar="PYTHON", help="an interpreter that has ipykernel"
    )
    parser.add_argument("--patience", type=float, default=8, metavar="SECONDS", help="for one answer (8)")
    parser.add_argument("--child", action="store_true", help="ours in a child subshell, theirs in the parent")
    parser.add_argument("--all", action="store_true", help="also show what differs with a reason")
    return parser.parse_args()


def _show(cell: Cell, ours: list[str], theirs: list[str], kernels: list[Spec]) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
