"""``python -m scripts.bench.curves``: how cost grows, with pictures.

Each sweep goes through its sizes in one kernel of each kind, kernels in turn. `--page` puts pictures and sentences into
the documentation; the sentences' figures are computed, and what a slope comes from is said by hand in `sweeps.Curve`.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from scripts.bench import page, peers
from scripts.bench.registry import Unable
from scripts.bench.report import machine, number
from scripts.bench.runner import wait_for_quiet
from scripts.bench.sweeps import SWEEPS, Curve, Sweep
from scripts.harness.kernel import Spec
from scripts.harness.sandbox import Sandbox

IMAGES = page.BENCHMARKS.parent / "img"
COLOURS = ("#1f77b4", "#d0702b", "#4c9a4c", "#8a5fb0", "#777777")
FLAT = 1.25  # a cost that grows by less over the whole range doesn't depend on the size
STEEP = 1.2  # an exponent from which growth is more than in proportion
Points = list[tuple[int, float]]


@dataclass
class Measured:
    """The values of one sweep: by kernel and curve, then by size."""

    values: dict[tuple[str, str], dict[int, list[float]]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # kernel: why it has none

    def add(self, kernel: str, size: int, values: Mapping[str, float]) -> None:
        for key, value in values.items():
            self.values.setdefault((kernel, key), {}).setdefault(size, []).append(value)

    def points(self, kernel: str, curve: str) -> Points:
        """Medians, by size."""
        return [(size, statistics.median(of)) for size, of in sorted(self.values.get((kernel, curve), {}).items())]


def measure(sweep: Sweep, specs: Sequence[Spec], repeat: int, largest: int | None, patience: float) -> Measured:
    sizes = [size for size in sweep.sizes if largest is None or size <= largest]
    measured = Measured()
    for _ in range(repeat):
        for spec in specs:
            wait_for_quiet(patience)
            try:
                for size, values in sweep.run(spec, sizes):
                    shown = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
                    print(f"    {spec.name}, {size:,} {sweep.of}: {shown}", file=sys.stderr, flush=True)
                    measured.add(spec.name, size, values)
            except Unable as error:
                measured.missing[spec.name] = str(error)
            except Exception as error:  # noqa: BLE001 - the others go on, and the page says so
                print(f"{spec.name}: {sweep.key}: {error!r}", file=sys.stderr)
                measured.missing[spec.name] = f"{type(error).__name__}: {error}"
    return measured


def exponent(first: tuple[int, float], second: tuple[int, float]) -> float:
    """b of cost ~ size**b between two points."""
    return math.log(second[1] / first[1]) / math.log(second[0] / first[0])


def slope(points: Points, unit: str) -> str:
    """How the cost grows, in words with figures."""
    (start, least), (end, most) = points[0], points[-1]
    text = f"{number(least, unit)} at {start:,}, {number(most, unit)} at {end:,}"
    if most < FLAT * least:
        return f"{text}: it doesn't grow."
    before = points[-2]
    each = (most - before[1]) / (end - before[0])
    scale = 10 ** max(0, math.ceil(-math.log10(abs(each)))) if each else 1
    text += f"; from {before[0]:,} on {number(each * scale, unit)} for "
    text += f"{'each more' if scale == 1 else f'{scale:,} more'}, exponent {exponent(before, points[-1]):.2f}"
    steep = [pair for pair in pairwise(points) if pair[1][1] > FLAT * pair[0][1] and exponent(*pair) > STEEP]
    if steep:
        places = ", ".join(f"{a:,} to {b:,} ({exponent((a, x), (b, y)):.2f})" for (a, x), (b, y) in steep)
        text += f"; **steeper than in proportion from {places}**"
    return f"{text}."


def draw(sweep: Sweep, measured: Measured, names: Sequence[str], file: Path) -> None:
    """A picture with a panel for each curve."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    style = {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}
    with plt.rc_context({**style, "axes.spines.right": False}):
        width = len(sweep.curves)
        figure, grid = plt.subplots(1, width, figsize=(3.6 * width + 0.4, 2.9), squeeze=False)
        for axes, curve in zip(grid[0], sweep.curves, strict=True):
            for name, colour in zip(names, COLOURS, strict=False):
                points = measured.points(name, curve.key)
                if points:
                    axes.plot(*zip(*points, strict=True), "o-", ms=3, lw=1.4, color=colour, label=name)
            axes.set(xscale="log", yscale="log", xlabel=sweep.of, title=curve.title.replace("`", ""))
            axes.set_ylabel(curve.unit)
            axes.title.set_fontsize(9)
            axes.grid(alpha=0.3, lw=0.5, which="major")
        grid[0][0].legend(frameon=False)
        figure.tight_layout()
        figure.savefig(file, metadata={"Date": None})
        plt.close(figure)


def section(sweep: Sweep, measured: Measured, names: Sequence[str]) -> str:
    """The part of the page for one sweep."""
    lines = [f"### {sweep.title}", "", f"![{sweep.title}](img/{picture(sweep)})", ""]
    for curve in sweep.curves:
        lines.append(f"- **{curve.title}**: {_told(curve, measured, names)} {curve.cause}")
    lines += [f"- {name} isn't there: {reason}" for name, reason in measured.missing.items()]
    return "\n".join(lines)


def _told(curve: Curve, measured: Measured, names: Sequence[str]) -> str:
    mine = measured.points(names[0], curve.key)
    if len(mine) < 2:
        return "not measured."
    text = slope(mine, curve.unit)
    for name in names[1:]:
        theirs = measured.points(name, curve.key)
        if theirs:
            end, value = theirs[-1]
            text += f" ({name}: {number(theirs[0][1], curve.unit)}, at {end:,} {number(value, curve.unit)}.)"
    return text


def picture(sweep: Sweep) -> str:
    return f"curve-{sweep.key}.svg"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.curves", description="How cost grows, with pictures."
    )
    parser.add_argument(
        "--kernel", action="append", default=[], metavar="NAME=WHAT", help="as of python -m scripts.bench"
    )
    parser.add_argument("--ipykernel-python", metavar="PYTHON", help="an interpreter with ipykernel (else installed)")
    parser.add_argument("--only", metavar="PATTERN", default="*", help=f"of {', '.join(s.key for s in SWEEPS)}")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="go through each sweep so often (3)")
    parser.add_argument("--largest", type=int, metavar="SIZE", help="leave out larger sizes (of all sweeps)")
    parser.add_argument("--patience", type=float, default=20, help="wait so many seconds for a quiet machine (20)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="pictures go there")
    parser.add_argument("--page", action="store_true", help="put text and pictures into docs/ (all sweeps)")
    arguments = parser.parse_args()
    if arguments.page and arguments.only != "*":
        parser.error("--page replaces all curves, so it goes without --only")
    return arguments


def main() -> int:
    arguments = _arguments()
    chosen = [sweep for sweep in SWEEPS if fnmatch.fnmatch(sweep.key, arguments.only)]
    if not chosen:
        print(f"no sweep is called {arguments.only!r}; there are {', '.join(s.key for s in SWEEPS)}", file=sys.stderr)
        return 2
    images = IMAGES if arguments.page else arguments.images
    start, parts, kept = time.monotonic(), [], {}
    with ExitStack() as stack:
        specs = [Spec.parse(text) for text in arguments.kernel]
        if not specs:
            specs.append(Spec.of_interpreter("mpkernel", sys.executable))
            if arguments.ipykernel_python:
                specs.append(Spec.of_interpreter("ipykernel", arguments.ipykernel_python))
            else:
                specs.append(peers.spec_of(peers.IPYKERNEL, stack.enter_context(Sandbox()).root / "peers"))
        names = [spec.name for spec in specs]
        for sweep in chosen:
            print(sweep.title, file=sys.stderr, flush=True)
            measured = measure(sweep, specs, arguments.repeat, arguments.largest, arguments.patience)
            parts.append(section(sweep, measured, names))
            kept[sweep.key] = {f"{name}: {key}": of for (name, key), of in measured.values.items()}
            if images is not None:
                draw(sweep, measured, names, images / picture(sweep))
            if arguments.json:
                arguments.json.write_text(json.dumps({**machine(), "sweeps": kept}, indent=1))
    facts = "; ".join([*machine().values(), *(f"{spec.name}: {spec.versions()}" for spec in specs)])
    about = f"{facts}; medians of {arguments.repeat} runs, {(time.monotonic() - start) / 60:.0f} minutes in all. "
    text = "\n\n".join(["## How cost grows", f"{about}Both axes are logarithmic.", *parts])
    print(text)
    if arguments.page:
        page.put(page.BENCHMARKS, "curves", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
