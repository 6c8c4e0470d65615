"""``python -m scripts.soak``: wears a kernel out, and says what broke. Exit code 1 if anything did."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from scripts.harness import proc
from scripts.harness.kernel import Spec
from scripts.soak import interrupts, mixed, starts
from scripts.soak.report import Part


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.soak", description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000, help="mixed messages (100,000; 0: none)")
    parser.add_argument("--interrupts", type=int, default=10_000, help="interrupts (10,000; 0: none)")
    parser.add_argument("--starts", type=int, default=200, help="kernels started and ended (200; 0: none)")
    parser.add_argument("--seed", type=int, help="of all that is random (default: another one each time)")
    parser.add_argument("--minutes", type=float, default=60, help="the most that each of the three may take (60)")
    parser.add_argument("--kernel", metavar="NAME=WHAT", help="as for the benchmark (default: mpkernel of this Python)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the report there, too")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    seed = arguments.seed if arguments.seed is not None else random.randrange(10**6)
    spec = Spec.parse(arguments.kernel) if arguments.kernel else Spec.of_interpreter("mpkernel", sys.executable)
    tests: list[tuple[int, Callable[[Spec, int, int, float], Part]]] = [
        (arguments.messages, mixed.run),
        (arguments.interrupts, interrupts.run),
        (arguments.starts, starts.run),
    ]
    head = f"{time.strftime('%Y-%m-%d %H:%M %Z')}, {spec.versions()}, seed {seed}, load {proc.load()}"
    print(head, flush=True)
    parts = []
    for amount, run in tests:
        if amount > 0:
            parts.append(run(spec, amount, seed, arguments.minutes))
            print(f"\n{parts[-1].markdown()}", flush=True)
    if arguments.markdown:
        arguments.markdown.write_text("\n\n".join([head, *(part.markdown() for part in parts)]) + "\n")
    bad = sum(len(part.violations) for part in parts)
    print(f"\n{bad or 'no'} violations; seed {seed}; load {proc.load()}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
