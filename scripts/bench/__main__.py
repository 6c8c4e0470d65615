"""``python -m scripts.bench``: options, and one run."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from scripts.bench import (
    page,
    peers,
    report,
    rows_busy,
    rows_control,
    rows_ipyparallel,
    rows_latency,
    rows_output,
    rows_resources,
    rows_sharing,
    runner,
)
from scripts.bench.registry import Options
from scripts.bench.runner import Results
from scripts.harness import proc
from scripts.harness.kernel import Spec
from scripts.harness.sandbox import Sandbox, clean_up_when_terminated

ROWS = (rows_latency, rows_busy, rows_output, rows_control, rows_resources, rows_sharing)  # the order of the report
OTHER_WAYS = (rows_ipyparallel,)  # to do the same; their rows are those of the modules above


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
    parser.add_argument(
        "--peers",
        type=Path,
        metavar="FOLDER",
        help=f"also measure {', '.join(peer.name for peer in peers.OTHERS)}; environments for them and for ipykernel "
        "are made in FOLDER, where a later run finds them",
    )
    parser.add_argument("--repeat", type=int, default=9, metavar="N", help="samples of each row (9)")
    parser.add_argument("--only", metavar="PATTERN", help="only rows whose name, section or title match")
    parser.add_argument("--quick", action="store_true", help="3 samples, fewer round trips: for a look")
    parser.add_argument("--patience", type=float, default=20, help="wait so many seconds for a quiet machine (20)")
    parser.add_argument("--deadline", type=float, default=8, help="seconds after which something doesn't end (8)")
    parser.add_argument("--list", action="store_true", help="list the rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all samples; written after each row")
    parser.add_argument("--resume", action="store_true", help="go on where the run that wrote the --json FILE ended")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, metavar="N", help="begin no row after that; for --resume later"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--page", action="store_true", help=f"put the tables into docs/{page.BENCHMARKS.name}")
    arguments = parser.parse_args()
    if arguments.page and arguments.only:
        parser.error("--page replaces all tables, so it goes without --only")
    if (arguments.resume or arguments.minutes < math.inf) and not arguments.json:
        parser.error("--resume and --minutes need --json FILE, which has the samples of the rows before")
    if arguments.resume and not arguments.json.exists():
        parser.error(f"there is no {arguments.json} to go on from; without --resume it is begun")
    return arguments


def _specs(arguments: argparse.Namespace, stack: ExitStack) -> tuple[list[Spec], list[str]]:
    """The kernels to measure, and what is to be said of those that can't be had."""
    specs = [Spec.parse(text) for text in arguments.kernel]
    missing: list[str] = []
    folder = arguments.peers.absolute() if arguments.peers else stack.enter_context(Sandbox()).root / "peers"
    if not specs:
        specs.append(Spec.of_interpreter("mpkernel", sys.executable))
        if arguments.ipykernel_python:
            specs.append(Spec.of_interpreter("ipykernel", arguments.ipykernel_python))
        else:
            specs.append(peers.spec_of(peers.IPYKERNEL, folder))
    for peer in peers.OTHERS if arguments.peers else ():
        try:
            specs.append(peers.spec_of(peer, folder))
        except peers.NotInstalled as error:
            missing.append(str(error))
    return specs, missing


def main() -> int:
    arguments = _arguments()
    clean_up_when_terminated()
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
        specs, missing = _specs(arguments, stack)
        repeat = 3 if arguments.quick else arguments.repeat
        options = Options(
            trips=30 if arguments.quick else 100,
            deadline=arguments.deadline,
            idle_seconds=5 if arguments.quick else 60,
            cold_seconds=15 if arguments.quick else 30,
            interpreter={spec.name: spec.python for spec in specs if spec.python is not None},
        )

        def write_down(results: Results) -> None:
            facts = report.facts(specs, missing, results, options, started, load)
            arguments.json.write_text(json.dumps(report.as_json(measurements, specs, results, facts), indent=1))

        after_each = write_down if arguments.json else None
        results = report.from_json(json.loads(arguments.json.read_text())) if arguments.resume else Results()
        seconds = arguments.minutes * 60
        runner.run(
            measurements, specs, options, repeat, arguments.patience, results, after_each=after_each, seconds=seconds
        )
        if left := [one.name for one in measurements if one.name not in results.done]:
            print(f"{len(left)} measurements are left: the same again with --resume", file=sys.stderr)
            return 3
        facts = report.facts(specs, missing, results, options, started, load)
    text = report.markdown(measurements, specs, results, facts, repeat)
    print(text)
    if arguments.markdown:
        arguments.markdown.write_text(text)
    if arguments.page:
        page.put(page.BENCHMARKS, "figures", text)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
