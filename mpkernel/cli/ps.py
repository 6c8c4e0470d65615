"""`mpkernel ps`: every subshell of every kernel, what it does and what it uses."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from mpkernel.cli import kernels, table
from mpkernel.cli.output import complain
from mpkernel.cli.rows import DEAD, Row, pids_of, rows_of
from mpkernel.cli.survey import NOTHING, Memory, Standing, shown, survey
from mpkernel.cli.text import clean, cut
from mpkernel.cli.usage import Meter
from mpkernel.outcomes import count

_CLEAR, _HOME = "\x1b[2J", "\x1b[H"
_ERASE_REST_OF_LINE, _ERASE_REST_OF_SCREEN = "\x1b[K", "\x1b[J"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All there is at one moment."""

    rows: list[Row]
    problems: list[str]  # sentences for stderr
    failed: bool  # a kernel gave no answer

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0


class Look:
    """Takes snapshots. Knows from the last one who is ours, and how much CPU had been used."""

    def __init__(self, timeout: float, *, measure: bool = True) -> None:
        self._timeout = timeout
        self._memory = Memory()
        self._meter = Meter() if measure else None

    def __call__(self) -> Snapshot:
        found, problems = kernels.find(kernels.runtime_directory())
        reports = shown(survey(found, timeout=self._timeout, memory=self._memory))
        usage = self._meter.read(pids_of(reports)) if self._meter else {}
        silent = [report.problem for report in reports if report.standing is Standing.SILENT]
        return Snapshot(rows_of(reports, usage), [*problems, *silent], failed=bool(silent))


Format = Callable[[Snapshot], list[str]]


def run(args: argparse.Namespace) -> int:
    """Show everything once, or again and again until Ctrl-C."""
    look = Look(args.timeout, measure=not args.quiet)
    out = sys.stdout
    form = _as_json if args.json else _as_targets if args.quiet else _as_table(out)
    if args.watch is not None:
        return watch(look, form, args.watch, out, time.sleep)
    snapshot = look()
    for line in form(snapshot):
        print(line, file=out)
    _tell(snapshot, args, out)
    return snapshot.exit_code


def watch(
    look: Callable[[], Snapshot],
    form: Format,
    interval: float,
    out: TextIO,
    sleep: Callable[[float], None],
) -> int:
    """Show a new snapshot every `interval` seconds; Ctrl-C ends it.

    On a terminal each takes the place of the one before, elsewhere they follow each other.
    """
    on_screen = out.isatty()
    if on_screen:
        out.write(_CLEAR)
    try:
        while True:
            snapshot = look()
            lines = form(snapshot)
            if on_screen:
                columns = shutil.get_terminal_size().columns
                _redraw([*lines, "", *(cut(clean(problem), columns) for problem in snapshot.problems)], out)
            else:
                out.writelines(f"{line}\n" for line in lines)
                out.flush()
                for problem in snapshot.problems:
                    complain(problem)
            sleep(interval)
    except KeyboardInterrupt:
        return 0


def _redraw(lines: list[str], out: TextIO) -> None:
    """Write over the last frame instead of clearing it: no flicker. What doesn't fit on the screen is left out."""
    size = shutil.get_terminal_size()
    if len(lines) >= size.lines:
        kept = max(size.lines - 2, 0)
        lines = [*lines[:kept], f"({len(lines) - kept} more lines)"]
    out.write(_HOME + "".join(f"{line}{_ERASE_REST_OF_LINE}\n" for line in lines) + _ERASE_REST_OF_SCREEN)
    out.flush()


def _as_json(snapshot: Snapshot) -> list[str]:
    return [json.dumps([row.to_json() for row in snapshot.rows])]


def _as_targets(snapshot: Snapshot) -> list[str]:
    return [f"{row.kernel}/{row.subshell}" for row in snapshot.rows if row.subshell is not None]


def _as_table(out: TextIO) -> Format:
    on_screen = out.isatty()
    colour = on_screen and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def form(snapshot: Snapshot) -> list[str]:
        if not snapshot.rows:
            return [NOTHING]
        width = shutil.get_terminal_size().columns if on_screen else None
        return table.render(snapshot.rows, width=width, colour=colour)

    return form


def _tell(snapshot: Snapshot, args: argparse.Namespace, out: TextIO) -> None:
    """What a person should know besides, on stderr."""
    for problem in snapshot.problems:
        complain(problem)
    if args.quiet and not any(row.subshell for row in snapshot.rows):
        complain(NOTHING)
    dead = sum(row.state == DEAD for row in snapshot.rows)
    if dead and out.isatty() and not args.quiet and not args.json:
        complain(f"{count(dead, 'stale connection file')} (dead); `mpkernel clean` removes what is stale")
