"""``python -m scripts.differential``: the cells of all areas on mpkernel and on ipykernel, and what differs.

With ``--notebooks`` the cells are notebooks that programs execute, and what is compared is the outputs in the result.
Exit code 1 if something differs without a reason (``# %% differs: REASON`` in the area's file).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from scripts.differential import cells, notebooks
from scripts.differential.play import play
from scripts.differential.show import show
from scripts.harness.kernel import Spec


def main() -> int:
    arguments = _arguments()
    areas = sorted(cells.AREAS.glob("*.ipy"))
    given = [Path(name) for name in arguments.area if arguments.notebooks and name.endswith(".ipynb")]
    if unknown := set(arguments.area) - {path.stem for path in areas} - {str(path) for path in given}:
        print(f"no area {', '.join(sorted(unknown))}; there are {', '.join(p.stem for p in areas)}", file=sys.stderr)
        return 2
    kernels = [Spec.parse(text) for text in arguments.kernel] or [
        Spec.of_interpreter("mpkernel", sys.executable),
        Spec.of_interpreter("ipykernel", arguments.ipykernel_python),
    ]
    if len(kernels) != 2:
        print("two kernels are compared: give --kernel twice, or not at all", file=sys.stderr)
        return 2
    if arguments.notebooks:
        wanted = arguments.area or notebooks.AREAS
        return notebooks.compare(kernels, [*given, *(path for path in areas if path.stem in wanted)])
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
                    show(cell, mine, other, kernels)
            else:
                different += 1
                show(cell, mine, other, kernels)
    print(f"{count} cells: {count - different - excused} the same, {excused} differ with a reason, {different} without")
    return 1 if different else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.differential", description=__doc__)
    parser.add_argument(
        "area",
        nargs="*",
        help="only these areas (files in scripts/differential/areas); with --notebooks also notebooks, FILE.ipynb, of "
        "which nbclient runs the code without what is beside the file",
    )
    parser.add_argument(
        "--kernel", action="append", default=[], metavar="NAME=WHAT", help="as in scripts.bench; ours, then theirs"
    )
    parser.add_argument(
        "--ipykernel-python", default=sys.executable, metavar="PYTHON", help="an interpreter that has ipykernel"
    )
    parser.add_argument("--patience", type=float, default=8, metavar="SECONDS", help="for one answer (8)")
    parser.add_argument("--child", action="store_true", help="ours in a child subshell, theirs in the parent")
    parser.add_argument(
        "--notebooks",
        action="store_true",
        help=f"as whole notebooks by nbclient, papermill and jupyter execute; by default {', '.join(notebooks.AREAS)}",
    )
    parser.add_argument("--all", action="store_true", help="also show what differs with a reason")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
