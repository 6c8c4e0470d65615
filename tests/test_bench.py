"""The benchmarks' own arithmetic: what they say of samples, and where they write it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.bench import page
from scripts.bench.compare import Change, check_out
from scripts.bench.curves import slope
from scripts.bench.registry import AtLeast, AtMost, Measurement, Metric, Options, Over, RatioAtMost, Values
from scripts.bench.report import as_json, facts, from_json, markdown, number
from scripts.bench.runner import Results, run
from scripts.harness.kernel import Kernel, Spec

MB = 1 << 20
QUICK = [1.00, 1.02, 1.05, 1.01]
SLOW = [1.30, 1.33, 1.28, 1.31]


def test_what_is_surely_slower_is_marked() -> None:
    change = Change.between(QUICK, SLOW)
    assert change.low < change.ratio < change.high
    assert change.ratio == pytest.approx(1.28, abs=0.02)
    assert change.verdict(more_is_better=False) == "**slower**"
    assert Change.between(SLOW, QUICK).verdict(more_is_better=False) == "faster"
    assert Change.between(SLOW, QUICK).verdict(more_is_better=True) == "**less**"


def test_what_may_be_chance_is_not_marked() -> None:
    noisy = [0.7, 1.6, 0.9, 1.4]
    assert Change.between(QUICK, noisy).verdict(more_is_better=False) == ""
    assert Change.between(QUICK, [value * 1.03 for value in QUICK]).verdict(more_is_better=False) == "", "too little"


def test_a_revision_that_git_does_not_have_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no-such-revision"):
        check_out("no-such-revision", tmp_path)


def test_a_part_of_a_page_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("by hand\n<!-- a: begin, by a tool -->\nold\n<!-- a: end -->\nalso by hand\n")
    for text in ("first", "second"):
        page.put(file, "a", text)
    assert file.read_text() == ("by hand\n<!-- a: begin, by a tool -->\n\nsecond\n\n<!-- a: end -->\nalso by hand\n")
    with pytest.raises(ValueError, match="<!-- b: begin"):
        page.put(file, "b", "text")
    assert page.BENCHMARKS.read_text().count(": begin") == 2


def test_a_slope_that_is_too_steep_is_told() -> None:
    assert number(1280.4, "MB") == "1,280 MB"
    assert slope([(10, 1.0), (100, 1.1)], "ms").endswith("it doesn't grow.")
    proportional = slope([(10, 1.0), (100, 10.0)], "ms")
    assert "exponent 1.00" in proportional
    assert "steeper" not in proportional
    assert slope([(1, 1.0), (10, 3.0), (100, 2.5)], "ms").endswith("no more from 10 on.")
    assert "steeper than in proportion from 10 to 100 (2.00)" in slope([(10, 1.0), (100, 100.0)], "ms")


def test_a_row_says_who_has_nothing_of_the_kind_and_who_failed() -> None:
    metrics = (Metric("a", "a cell", "ms", RatioAtMost(0.5)), Metric("b", "another", "ms", AtMost(2, "ms")))
    measurement = Measurement("both", "Cells", metrics, lambda kernel, options: {}, False, None, False)
    results = Results()
    for value in (1.0, 3.0, 2.0):
        results.add("a", "mine", value)
    results.add("a", "theirs", 8.0)
    results.unable.add(("a", "other"))
    results.fail("b", "mine", "it broke")
    facts = {"kernels": {}, "missing": ["fourth: no such package"], "minutes": 1.0}
    text = markdown([measurement], [Spec(name, ()) for name in ("mine", "theirs", "other")], results, facts, 3)
    assert "| a cell | 2.00 ms (1.50 to 2.50) | 8.00 ms | 0.25x | ≤ 0.5x | holds | none |" in text
    assert "| another | failed | - |  | ≤ 2 ms |  | - |" in text
    assert "not measured: fourth: no such package" in text


@pytest.mark.parametrize(
    ("value", "target", "said"),
    [
        (2.0, AtMost(2, "ms"), "holds"),
        (2.1, AtMost(2, "ms"), "**misses by 5 %**"),
        (2.002, AtMost(2, "ms"), "**misses by 1 %**"),
        (5.0, AtMost(2, "ms"), "**misses by 150 %**"),
        (1.5, AtLeast(2, "x"), "**misses by 25 %**"),
    ],
    ids=str,
)
def test_a_row_says_by_how_much_it_misses_its_target(value: float, target: AtMost | AtLeast, said: str) -> None:
    metric = Metric("a", "a cell", target.unit, target)
    results = Results()
    results.add("a", "mine", value)
    measurement = Measurement("one", "Cells", (metric,), lambda kernel, options: {}, False, None, False)
    facts = {"kernels": {}, "missing": [], "minutes": 1.0}
    assert f"| {target} | {said} |" in markdown([measurement], [Spec("mine", ())], results, facts, 1)


# In a small process: what a large one has of libraries counts for less as soon as others have them, too.
_MEASURE = """
import mmap, os
from scripts.harness import proc

me = [os.getpid()]
whole, part = bytes(64 << 20), b"x" * (16 << 20)  # before, as malloc keeps what it gets
before = proc.footprint(me)
fd = os.memfd_create("bench")
os.ftruncate(fd, 64 << 20)
with mmap.mmap(fd, 64 << 20) as shared:
    shared[:] = whole
    print(proc.footprint(me) - before)
    with mmap.mmap(fd, 64 << 20, mmap.MAP_PRIVATE) as private:
        private[: 16 << 20] = part
        print(proc.footprint(me) - before)
print(proc.footprint(me) - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="memfds are Linux's")
def test_memory_in_memfds_counts_once_mapped_or_not() -> None:
    done = subprocess.run([sys.executable, "-c", _MEASURE], capture_output=True, text=True, check=True)
    mapped, written, unmapped = map(int, done.stdout.split())
    assert mapped == pytest.approx(64 * MB, abs=4 * MB)
    assert written == pytest.approx(80 * MB, abs=4 * MB), "what was written in private is memory besides"
    assert unmapped == pytest.approx(64 * MB, abs=4 * MB)


@pytest.mark.parametrize("tool", ["scripts.bench", "scripts.bench.compare", "scripts.bench.curves"])
def test_each_tool_explains_itself(tool: str) -> None:
    done = subprocess.run([sys.executable, "-m", tool, "--help"], capture_output=True, text=True, check=True)
    assert tool in done.stdout


def test_a_run_that_was_ended_goes_on_with_what_it_has() -> None:
    spec = Spec.of_interpreter("mpkernel", sys.executable)
    both = [
        Measurement(name, "section", (Metric(key, "title", "ms"),), _never, fresh=True, only=None, rarely=False)
        for name, key in (("one", "m"), ("two", "n"))
    ]
    results = Results(busy=[0.5], done=["one", "two"])
    results.add("m", "mpkernel", 1.5)
    results.add("m", "mpkernel", Over(8.0))
    results.fail("m", "mpkernel", "it broke")
    results.unable.add(("m", "ipykernel"))
    written = as_json(both, [spec], results, facts([spec], [], results, Options(), time.time() - 60, "load"))
    again = from_json(json.loads(json.dumps(written)))
    assert (again.samples, again.busy, again.done) == (results.samples, results.busy, results.done)
    assert isinstance(again.samples["m", "mpkernel"][1], Over)
    assert again.unable == results.unable
    assert again.minutes == pytest.approx(1, abs=0.1)
    run(both, [spec], Options(), 1, 0.0, again)
    assert again.samples == results.samples, "both were done"
    again.done.remove("two")
    run(both, [spec], Options(), 1, 0.0, again, seconds=-1)
    assert again.done == ["one"], "there was no time left for the other"
    later = facts([spec], [], again, Options(), time.time(), "load")
    assert later["date"].startswith(again.dates[0] + ", ")


def _never(kernel: Kernel, options: Options) -> Values:
    raise AssertionError("measured once more")
