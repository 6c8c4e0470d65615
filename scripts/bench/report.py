"""Results as a markdown table and as JSON."""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from scripts.bench.registry import Measurement, Metric, Options, Over
from scripts.bench.runner import Results
from scripts.harness import proc
from scripts.harness.kernel import Spec


@dataclass(frozen=True)
class Summary:
    median: float
    low: float  # quartiles
    high: float
    count: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Summary:
        """The median is an `Over` if the sample in the middle is one."""
        ordered = sorted(samples)
        middle = ordered[len(ordered) // 2]
        if len(ordered) == 1:
            return cls(middle, middle, middle, 1)
        low, median, high = statistics.quantiles(ordered, n=4, method="inclusive")
        return cls(middle if isinstance(middle, Over) else median, low, high, len(ordered))


def number(value: float, unit: str) -> str:
    """For people: three digits, seconds from 1 s on."""
    sign = "> " if isinstance(value, Over) else ""
    if unit == "ms" and abs(value) >= 1000:
        return f"{sign}{value / 1000:.3g} s"
    digits = f"{value:.2f}" if unit in ("x", "%") or abs(value) < 10 else f"{value:.3g}"
    if abs(value) >= 1000:
        digits = f"{value:,.0f}"
    if unit in ("x", "%", "/s"):
        return f"{sign}{digits}{'' if unit == '/s' else ' ' if unit == '%' else ''}{unit}"
    return f"{sign}{digits} {unit}"


def _cell(summary: Summary | None, unit: str) -> str:
    if summary is None:
        return "-"
    text = number(summary.median, unit)
    if summary.count > 1 and not isinstance(summary.median, Over):
        text += f" ({number(summary.low, unit).split(' ')[0]} to {number(summary.high, unit).split(' ')[0]})"
    return text


def _ratio(mine: Summary | None, theirs: Summary | None, metric: Metric) -> float | None:
    if mine is None or theirs is None or theirs.median <= 0 or mine.median <= 0 or isinstance(mine.median, Over):
        return None
    ratio = mine.median / theirs.median
    return ratio if metric.unit not in ("%",) else None


def _verdict(mine: Summary | None, theirs: Summary | None, metric: Metric) -> str:
    if mine is None or metric.target is None:
        return ""
    share = metric.target.share(mine.median, theirs.median if theirs is not None else None)
    if share is None:
        return ""
    if share <= 1:
        return "holds"
    beyond = 1 - 1 / share if metric.more_is_better else share - 1
    return f"**misses by {math.ceil(round(100 * beyond, 3))} %**"


def machine() -> dict[str, str]:
    """Without which a figure says nothing."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "date": time.strftime("%Y-%m-%d %H:%M %Z"),
        "machine": f"{model[0].partition(':')[2].strip() if model else platform.machine()}, {len(model)} cores",
        "system": f"{platform.system()} {platform.release()}",
    }


def facts(
    specs: Sequence[Spec], missing: Sequence[str], results: Results, options: Options, started: float, load: str
) -> dict[str, Any]:
    here = machine()
    return {
        **here,
        "date": ", ".join([*results.dates, here["date"]]),
        "kernels": {spec.name: spec.versions() for spec in specs},
        "missing": list(missing),
        "minutes": results.minutes + (time.time() - started) / 60,
        "load at start": load,
        "load at end": proc.load(),
        "cores in use before a sample (median, worst)": [
            round(statistics.median(results.busy), 3) if results.busy else None,
            round(max(results.busy), 3) if results.busy else None,
        ],
        "options": {k: v for k, v in asdict(options).items() if k != "interpreter"},
    }


def markdown(
    measurements: Sequence[Measurement], specs: Sequence[Spec], results: Results, facts_: dict[str, Any], repeat: int
) -> str:
    """The whole report. The first kernel is the one under test, the second the one it is compared with.

    `facts_["missing"]` says which kernels couldn't be had.
    """
    names = [spec.name for spec in specs]
    elsewhere = ("kernels", "options", "minutes", "missing")
    lines = [f"- {key}: {value}" for key, value in facts_.items() if key not in elsewhere]
    lines += [f"- {name}: {version}" for name, version in facts_["kernels"].items()]
    lines += [f"- not measured: {reason}" for reason in facts_["missing"]]
    lines.append(f"- {repeat} samples of each row (a third of that where a sample takes long")
    lines[-1] += ", and of the kernels behind the second)" if len(names) > 2 else ")"
    lines[-1] += f", kernels in turn, {facts_['minutes']:.0f} minutes in all; median (quartiles)"
    if results.unable:
        lines.append('- "none": that kernel has nothing of the kind; "failed": see the end')
    head = ["what", *names[:2], *(["ratio"] if len(names) > 1 else []), "target", "", *names[2:]]
    section = None
    for measurement in measurements:
        if measurement.section != section:
            section = measurement.section
            lines += ["", f"### {section}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        for metric in measurement.metrics:
            lines.append(_row(metric, names, results))
    failures = [f"- {metric} of {name}: {reasons[0]}" for (metric, name), reasons in results.failures.items()]
    if failures:
        lines += ["", "### Failed", "", *failures]
    return "\n".join(lines) + "\n"


def _row(metric: Metric, names: Sequence[str], results: Results) -> str:
    found: list[Summary | None] = []
    shown: list[str] = []
    for name in names:
        samples = results.samples.get((metric.key, name))
        found.append(Summary.of(samples) if samples else None)
        unable = "none" if (metric.key, name) in results.unable else ""
        failed = "failed" if (metric.key, name) in results.failures else ""
        shown.append(_cell(found[-1], metric.unit) if samples else unable or failed or "-")
    cells = [metric.title, *shown[:2]]
    mine, theirs = found[0], found[1] if len(found) > 1 else None
    if len(names) > 1:
        ratio = _ratio(mine, theirs, metric)
        below = "< " if theirs is not None and isinstance(theirs.median, Over) else ""
        cells.append(f"{below}{ratio:.2g}x" if ratio is not None else "")
    cells += [str(metric.target) if metric.target else "", _verdict(mine, theirs, metric), *shown[2:]]
    return f"| {' | '.join(cells)} |"


def as_json(
    measurements: Sequence[Measurement], specs: Sequence[Spec], results: Results, facts_: dict[str, Any]
) -> dict[str, Any]:
    """All samples; a value that is only known to be larger than a deadline is ``{"over": deadline}``."""

    def plain(value: float) -> Any:
        return {"over": float(value)} if isinstance(value, Over) else value

    rows = [
        {
            "section": measurement.section,
            "key": metric.key,
            "title": metric.title,
            "unit": metric.unit,
            "target": str(metric.target) if metric.target else None,
            "samples": {
                spec.name: [plain(v) for v in results.samples.get((metric.key, spec.name), ())] for spec in specs
            },
            "failures": {spec.name: results.failures.get((metric.key, spec.name), []) for spec in specs},
        }
        for measurement in measurements
        for metric in measurement.metrics
    ]
    unable = sorted(map(list, results.unable))
    return {"facts": facts_, "rows": rows, "done": results.done, "unable": unable, "busy": results.busy}


def from_json(read: dict[str, Any]) -> Results:
    """What `as_json` wrote."""
    results = Results(
        unable={(metric, name) for metric, name in read["unable"]},
        busy=read["busy"],
        done=read["done"],
        minutes=read["facts"]["minutes"],
        dates=read["facts"]["date"].split(", "),
    )
    for row in read["rows"]:
        for name, samples in row["samples"].items():
            for value in samples:
                results.add(row["key"], name, Over(value["over"]) if isinstance(value, dict) else value)
        for name, reasons in row["failures"].items():
            for reason in reasons:
                results.fail(row["key"], name, reason)
    return results
