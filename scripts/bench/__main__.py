"""``python -m scripts.bench``: options, and one run."""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from scripts.bench import report, rows_control, rows_latency, rows_output, rows_resources, rows_sharing, runner
from scripts.bench.registry import Options
from scripts.harness import proc
from scripts.harness.kernel import Spec, install_ipykernel
from scripts.harness.sandbox import Sandbox

ROWS = (rows_latency, rows_output, rows_control, rows_resources, rows_sharing)  # the order of the report


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench", description=__doc__)
    parser.add_argument(
        "--kernel",
        action="append",
        default=[],
        metavar="NAME=WHAT",
        help="a kernel to measure, as interpreter, folder with a kernel.json, or command line; the first is the one "
        "under test, the second the one it's compared with (default: mpkernel of this Python, and ipykernel)",
    )
    parser.add_argument(
        "--ipykernel-python", metavar="PYTHON", help="an interpreter that has ipykernel (else installed)"
    )
    parser.add_argument("--repeat", type=int, default=9, metavar="N", help="samples of each row (9)")
    parser.add_argument("--only", metavar="PATTERN", help="only rows whose name, section or title match")
    parser.add_argument("--quick", action="store_true", help="3 samples, fewer round trips: for a look")
    parser.add_argument("--patience", type=float, default=20, help="wait so many seconds for a quiet machine (20)")
    parser.add_argument("--deadline", type=float, default=8, help="seconds after which something doesn't end (8)")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    order = [module.__name__ for module in ROWS]
    measurements = sorted(runner.chosen(arguments.only), key=lambda m: order.index(m.run.__module__))
    if arguments.list:
        for measurement in measurements:
            for metric in measurement.metrics:
                print(f"{metric.key:18} {measurement.section}: {metric.title}")
        return 0
    if not measurements:
        print(f"no row matches {arguments.only!r}; --list shows them", file=sys.stderr)
        return 2
    started, load = time.time(), proc.load()
    with ExitStack() as stack:
        specs = [Spec.parse(text) for text in arguments.kernel]
        if not specs:
            specs = [Spec.of_interpreter("mpkernel", sys.executable)]
            theirs = arguments.ipykernel_python or install_ipykernel(stack.enter_context(Sandbox()).root / "venv")
            specs.append(Spec.of_interpreter("ipykernel", theirs))
        repeat = 3 if arguments.quick else arguments.repeat
        options = Options(
            trips=30 if arguments.quick else 100,
            deadline=arguments.deadline,
            idle_seconds=5 if arguments.quick else 10,
            interpreter={spec.name: spec.python for spec in specs if spec.python is not None},
        )
        results = runner.run(measurements, specs, options, repeat, arguments.patience)
        facts = report.facts(specs, results, options, started, load)
    text = report.markdown(measurements, specs, results, facts, repeat)
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text)
    if arguments.json:
        arguments.json.write_text(json.dumps(report.as_json(measurements, specs, results, facts), indent=1))
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
