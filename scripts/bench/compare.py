"""``python -m scripts.bench.compare BASE HEAD``: is one revision slower than another?

Both are taken out of git and measured in turn, by the rows of *this* tree and with this Python's libraries, so that
only mpkernel itself differs. For information: the machine, and whoever else uses it, have their say in every figure.
"""

from __future__ import annotations

import argparse
import io
import itertools
import math
import random
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.bench import rows_busy, rows_control, rows_latency, rows_output, rows_resources, rows_sharing, runner
from scripts.bench.registry import Measurement, Metric, Options, Over
from scripts.bench.report import number
from scripts.bench.runner import Results
from scripts.harness.kernel import Spec
from scripts.harness.sandbox import Sandbox, clean_up_when_terminated

ROOT = Path(__file__).resolve().parents[2]
MODULES = (rows_latency, rows_busy, rows_output, rows_control, rows_resources, rows_sharing)  # register the rows
QUICK = (  # what a change most easily makes slower, and a sample of which takes little
    "start_to_execute",
    "pass_main",
    "pass_child",
    "pass_many_names",
    "create",
    "printed_lines",
    "displays",
    "stop_loop",
    "end_idle",
)
NAMES = ("mpkernel-base", "mpkernel-head")
LEAST = 4  # rounds: with fewer, two rows of samples that don't overlap at all may be chance (2 of 20 orders of 3 and 3)
RESAMPLES = 2000
CONFIDENCE = 0.99  # of each of some ten rows; with 95 % every other run would mark one by chance
WORTH_TELLING = 1.05  # a smaller ratio is no news, however sure
METHOD = (
    f"A ratio is the median of HEAD/BASE over all pairs of samples (Hodges-Lehmann); {CONFIDENCE:.0%} of {RESAMPLES} "
    "bootstrap resamples are in the interval."
)


@dataclass(frozen=True)
class Change:
    """HEAD's value over BASE's, and the interval that holds it with that `CONFIDENCE`."""

    ratio: float
    low: float
    high: float

    @classmethod
    def between(cls, base: Sequence[float], head: Sequence[float], seed: int = 0) -> Change:
        """All values are positive; at least two of each."""
        chance = random.Random(seed)
        first, second = ([math.log(value) for value in values] for values in (base, head))
        shifts = sorted(
            _shift(chance.choices(first, k=len(first)), chance.choices(second, k=len(second))) for _ in range(RESAMPLES)
        )
        tail = int((1 - CONFIDENCE) / 2 * RESAMPLES)
        return cls(math.exp(_shift(first, second)), math.exp(shifts[tail]), math.exp(shifts[-1 - tail]))

    def verdict(self, more_is_better: bool) -> str:
        worse, better = ("less", "more") if more_is_better else ("slower", "faster")
        if self.low > 1 and self.ratio > WORTH_TELLING:
            return better if more_is_better else f"**{worse}**"
        if self.high < 1 and self.ratio < 1 / WORTH_TELLING:
            return f"**{worse}**" if more_is_better else better
        return ""


def _shift(first: Sequence[float], second: Sequence[float]) -> float:
    return statistics.median(b - a for a in first for b in second)


def check_out(revision: str, folder: Path) -> Path:
    """mpkernel's sources of `revision`, below `folder`. Raises ValueError if git doesn't have them."""
    done = subprocess.run(["git", "-C", str(ROOT), "archive", revision, "mpkernel"], capture_output=True, check=False)
    if done.returncode != 0:
        raise ValueError(f"git has no {revision!r} with mpkernel in it: {done.stderr.decode().strip()}")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def spec_of(name: str, tree: Path) -> Spec:
    """mpkernel as it is in `tree`, with this interpreter; byte code is made first, as an installation would have it."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(tree / "mpkernel")], check=True)
    argv = (sys.executable, "-m", "mpkernel", "-f", "{connection_file}")
    return Spec(name, argv, sys.executable, env={"PYTHONPATH": str(tree)})


def measure(measurements: Sequence[Measurement], specs: Sequence[Spec], minutes: float, patience: float) -> Results:
    """Rounds of all rows until the time is over, at least `LEAST`; which revision goes first changes each time."""
    results, options = Results(), Options(trips=30, idle_seconds=5, cold_seconds=15)
    end = time.monotonic() + 60 * minutes
    for turn in itertools.count():
        if turn >= LEAST and time.monotonic() >= end:
            break
        print(f"round {turn + 1}", file=sys.stderr, flush=True)
        for measurement in measurements:
            for spec in specs if turn % 2 == 0 else reversed(specs):
                runner.sample(measurement, measurement.run, spec, options, patience, results)
    return results


def changes(measurements: Sequence[Measurement], results: Results) -> Iterator[tuple[Metric, str, Change | None]]:
    """Each row, its line, and its change if that can be told: a difference may be below 0 and then has no ratio."""
    rows = [(measurement.section, metric) for measurement in measurements for metric in measurement.metrics]
    for section, metric in rows:
        base, head = (results.samples.get((metric.key, name), []) for name in NAMES)
        medians = [number(statistics.median(values), metric.unit) if values else "failed" for values in (base, head)]
        change = None
        if min(len(base), len(head)) >= LEAST and all(v > 0 and not isinstance(v, Over) for v in (*base, *head)):
            change = Change.between(base, head)
        cells = [f"{section}: {metric.title}", *medians, str(min(len(base), len(head)))]
        if change is not None:
            interval = f"{change.low:.2f} to {change.high:.2f}"
            cells += [f"{change.ratio:.2f}x", interval, change.verdict(metric.more_is_better)]
        yield metric, f"| {' | '.join([*cells, *[''] * (7 - len(cells))])} |", change


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.compare", description="Is one revision slower than another?"
    )
    parser.add_argument("base", metavar="BASE", help="a revision, as git knows it")
    parser.add_argument("head", metavar="HEAD", nargs="?", default="HEAD", help="the one that may be slower (HEAD)")
    parser.add_argument("--only", metavar="PATTERN", help="rows whose name, section or title match (a few quick ones)")
    parser.add_argument("--minutes", type=float, default=3, help="begin no round after so many (3)")
    parser.add_argument("--patience", type=float, default=0, help="wait so many seconds for a quiet machine (0)")
    parser.add_argument("--fail-above", type=float, metavar="R", help="exit with 1 if a row is surely over R times")
    return parser.parse_args()


def main() -> int:
    arguments = _arguments()
    clean_up_when_terminated()
    measurements = runner.chosen(arguments.only)
    if not arguments.only:
        measurements = [measurement for measurement in measurements if measurement.name in QUICK]
    if not measurements:
        print(f"no row matches {arguments.only!r}; python -m scripts.bench --list shows them", file=sys.stderr)
        return 2
    with Sandbox() as sandbox:
        try:
            revisions = zip(NAMES, (arguments.base, arguments.head), strict=True)
            trees = [check_out(revision, sandbox.folder(name)) for name, revision in revisions]
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        specs = [spec_of(name, tree) for name, tree in zip(NAMES, trees, strict=True)]
        results = measure(measurements, specs, arguments.minutes, arguments.patience)
    print(f"BASE is {arguments.base}, HEAD is {arguments.head}. {METHOD}\n")
    head = ("what", "BASE", "HEAD", "samples", "ratio", f"{CONFIDENCE:.0%}", "")
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    worst = 0.0
    for metric, line, change in changes(measurements, results):
        print(line)
        if change is not None:
            worst = max(worst, 1 / change.high if metric.more_is_better else change.low)
    for (metric, name), reasons in results.failures.items():
        print(f"{metric} of {name} failed: {reasons[0]}")
    return int(arguments.fail_above is not None and worst > arguments.fail_above)


if __name__ == "__main__":
    sys.exit(main())
