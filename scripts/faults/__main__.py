"""``python -m scripts.faults [--ipykernel-python PYTHON] [--only TEXT] [--load]``: a markdown table on stdout."""

from __future__ import annotations

import argparse
import sys

from scripts.faults.cells import CELLS
from scripts.faults.kernels import kernels
from scripts.faults.load import subshells
from scripts.faults.many import many
from scripts.faults.play import NAMES, Outcome, play
from scripts.harness.kernel import Spec


def cell_of(outcome: Outcome | None) -> str:
    """What the table says of one fault on one kernel."""
    if outcome is None:
        return "| | "
    if not outcome.survived:
        return "| **lost** | - "
    parts = [f"{outcome.seconds:.1f} s"]
    if outcome.helped:
        parts.append("after " + ", ".join(outcome.helped))
    if not outcome.others:
        parts.append("**another subshell was harmed**")
    return f"| yes, {' '.join(parts)} | {outcome.kept}/{NAMES} "


def load(spec: Spec, kernels_: int, messages: int) -> int:
    """Print what much of everything takes; 1 if a figure is more than it may be."""
    parts = [
        lambda: subshells(spec),
        lambda: kernels(spec, kernels_) if kernels_ else [],
        lambda: many(spec, messages) if messages else [],
    ]
    bad = 0
    for part in parts:
        for row in part():
            print(row.markdown(), flush=True)
            bad += row.bad
    return 1 if bad else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.faults", description=__doc__)
    parser.add_argument("--python", default=sys.executable, help="interpreter with mpkernel")
    parser.add_argument("--ipykernel-python", help="interpreter with ipykernel, to compare with")
    parser.add_argument("--load", action="store_true", help="many subshells, kernels and messages instead")
    parser.add_argument("--kernels", type=int, default=100, help="of these so many (100; 0: none)")
    parser.add_argument("--messages", type=int, default=1_000_000, help="and so many (1,000,000: an hour; 0: none)")
    parser.add_argument("--only", default="", help="faults with this text in their name")
    arguments = parser.parse_args()
    specs = [Spec.of_interpreter("mpkernel", arguments.python)]
    if arguments.ipykernel_python:
        specs.append(Spec.of_interpreter("ipykernel", arguments.ipykernel_python))
    if arguments.load:
        return load(specs[0], arguments.kernels, arguments.messages)
    head = "".join(f"| {spec.name}: next good reply | names kept " for spec in specs)
    print(f"| what the cell does {head}|\n|---{'|---|---' * len(specs)}|")
    lost = 0
    for name, code in CELLS.items():
        if arguments.only not in name:
            continue
        outcomes = [play(spec, code) for spec in specs]
        lost += not (outcomes[0].survived and outcomes[0].kept == NAMES and outcomes[0].others)
        print(f"| {name} {''.join(map(cell_of, outcomes))}|", flush=True)
        for spec, outcome in zip(specs, outcomes, strict=True):
            print(f"{spec.name}: {name}: {outcome.note}", file=sys.stderr, flush=True)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
