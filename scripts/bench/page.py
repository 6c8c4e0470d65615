"""A page of the documentation of which tools write parts: what stands outside their marks is for people."""

from __future__ import annotations

from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def put(page: Path, part: str, text: str) -> None:
    """Replace what is between the marks of `part`. Raises ValueError if the page doesn't have them."""
    first, last = f"<!-- {part}: begin", f"<!-- {part}: end -->"
    before, found, rest = page.read_text().partition(first)
    mark, closed, old = rest.partition("-->")
    _, ended, after = old.partition(last)
    if not (found and closed and ended):
        raise ValueError(f"{page} has no lines '{first} … -->' and '{last}', between which the result would go")
    page.write_text(f"{before}{first}{mark}-->\n\n{text.strip()}\n\n{last}{after}")
