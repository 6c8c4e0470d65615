"""The table of `mpkernel ps`: one line a row, fitted to the terminal's width and coloured, or plain.

Plain means whole: with no width every column is there and every id and cell is in full. Fitted, ids are cut to the
shortest start that `mpkernel` still takes for a TARGET, then columns go, the least needed first, and the cell's
text gets what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mpkernel.cli import text
from mpkernel.cli.rows import Row

SILENT = "not answering"
# As many characters as people still compare at a glance; less would be unique, but only until the next kernel starts.
SHORT_ID = 8
# A cell's text under this width says too little, so another column goes first; a name says enough in this width.
ENOUGH_CELL = 20
LONG_NAME = 16
# A terminal needn't show modes if all have this one.
USUAL_MODE = "shared"

_GAP = "  "
_BOLD, _DIM, _RESET = "\x1b[1m", "\x1b[2m", "\x1b[0m"
_COLOURS = {
    "busy": "\x1b[32m",
    "starting": "\x1b[33m",
    "stopping": "\x1b[33m",
    "lazy": _DIM,
    "stopped": "\x1b[31m",
    "dead": "\x1b[31m",
    SILENT: "\x1b[31m",
}


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    value: Callable[[Row], str]
    right: bool = False
    need: int = 0  # the lowest goes first when there is no room; 0: never goes


def _state(row: Row) -> str:
    return row.state if row.state is not None else SILENT


def _number(value: float | None, form: str = "d") -> str:
    return "" if value is None else format(value, form)


_NAME = _Column("NAME", lambda row: text.clean(row.name or ""), need=7)
_MODE = _Column("MODE", lambda row: text.clean(row.mode or ""), need=7)
_STATE = _Column("STATE", _state)
_CELL = _Column("CELL", lambda row: text.clean(row.cell or ""))
_COLUMNS = (
    _NAME,
    _MODE,
    _STATE,
    _Column("FOR", lambda row: text.duration(row.idle_s if row.busy_s is None else row.busy_s), right=True, need=9),
    _Column("PID", lambda row: _number(row.pid), right=True, need=4),
    _Column("CPU%", lambda row: _number(row.cpu_percent, ".0f"), right=True, need=8),
    _Column("RSS", lambda row: text.size(row.rss), right=True, need=5),
    _Column("PRIV", lambda row: text.size(row.private), right=True, need=6),
    _Column("QUEUED", lambda row: _number(row.queued), right=True, need=3),
    _Column("COUNT", lambda row: _number(row.execution_count), right=True, need=2),
    _Column("AGE", lambda row: text.duration(row.age_s), right=True, need=1),
)


def render(rows: Sequence[Row], *, width: int | None = None, colour: bool = False) -> list[str]:
    """The lines of the table: a heading, then one for each of `rows`. `width` is in columns; None: what is needed."""
    targets = _targets(rows, full=width is None)
    columns = [_Column("TARGET", lambda row: text.clean(targets[row])), *_COLUMNS, _CELL]
    values = {column: [column.value(row) for row in rows] for column in columns}
    widths = {column: max(map(text.width, [column.title, *values[column]])) for column in columns}
    if width is not None:
        names, modes = any(row.name for row in rows), any(row.mode not in (None, USUAL_MODE) for row in rows)
        idle = [column for column, is_used in ((_NAME, names), (_MODE, modes)) if not is_used]
        widths = _fitted({column: widths[column] for column in widths if column not in idle}, width)
    heading = _line(widths, [column.title for column in widths])
    lines = [f"{_BOLD}{heading}{_RESET}" if colour else heading]
    for number, row in enumerate(rows):
        shade = _COLOURS.get(_state(row), "") if colour else ""
        lines.append(_line(widths, [values[column][number] for column in widths], shade))
    return lines


def _line(widths: dict[_Column, int], values: Iterable[str], shade: str = "") -> str:
    parts = []
    for (column, width), value in zip(widths.items(), values, strict=True):
        part = text.pad(text.cut(value, width), width, right=column.right)
        parts.append(f"{shade}{part}{_RESET}" if shade and column is _STATE else part)
    return _GAP.join(parts).rstrip()


def _fitted(widths: dict[_Column, int], width: int) -> dict[_Column, int]:
    """The columns that stay, and how wide, so that a line takes at most `width`."""
    widths = dict(widths)
    cell = widths.pop(_CELL)
    if _NAME in widths:
        widths[_NAME] = min(widths[_NAME], LONG_NAME)
    for column in sorted((c for c in widths if c.need), key=lambda c: c.need):
        if _total(widths) + len(_GAP) + min(cell, ENOUGH_CELL) <= width:
            break
        del widths[column]
    for column in list(widths):  # the terminal is too narrow even for the columns that never go
        widths[column] -= min(max(_total(widths) - width, 0), widths[column] - 1)
    left = width - _total(widths) - len(_GAP)
    return {**widths, _CELL: left} if left >= len(_CELL.title) else widths


def _total(widths: dict[_Column, int]) -> int:
    return sum(widths.values()) + len(_GAP) * (len(widths) - 1)


def _targets(rows: Sequence[Row], *, full: bool) -> dict[Row, str]:
    """What to call each row: its TARGET, or its kernel if it has no subshell."""
    kernels = _starts({row.kernel for row in rows}, full=full)
    by_kernel: dict[str, set[str]] = {}
    for row in rows:
        if row.subshell is not None:
            by_kernel.setdefault(row.kernel, set()).add(row.subshell)
    subshells = {kernel: _starts(ids, full=full) for kernel, ids in by_kernel.items()}
    return {
        row: kernels[row.kernel] + ("" if row.subshell is None else f"/{subshells[row.kernel][row.subshell]}")
        for row in rows
    }


def _starts(ids: set[str], *, full: bool) -> dict[str, str]:
    """For each id the shortest start, of `SHORT_ID` characters at least, that no other has."""
    if full:
        return {id_: id_ for id_ in ids}
    ordered = sorted(ids)
    starts = {}
    for before, id_, after in zip(["", *ordered], ordered, [*ordered[1:], ""], strict=False):
        shared = max(_shared(id_, before), _shared(id_, after))
        starts[id_] = id_[: max(shared + 1, SHORT_ID)]
    return starts


def _shared(one: str, other: str) -> int:
    """How many characters at the start of both are the same."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
