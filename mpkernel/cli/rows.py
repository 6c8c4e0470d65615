"""A row of `mpkernel ps`: the fields, in the order and by the names that ``--json`` promises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mpkernel.cli.survey import Report, Standing
from mpkernel.cli.usage import UNKNOWN, Usage, is_local

DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Row:
    """One subshell, or one kernel that has none to show: a dead one, or one that doesn't answer."""

    kernel: str
    connection_file: str
    subshell: str | None = None  # "main" or an id
    name: str | None = None
    mode: str | None = None  # how it shares variables: shared, snapshot, isolated
    state: str | None = None  # idle, busy, lazy, starting, stopping, stopped, dead; None: the kernel doesn't answer
    pid: int | None = None
    cpu_percent: float | None = None  # 100 is one core
    rss: int | None = None  # bytes
    private: int | None = None  # bytes
    execution_count: int | None = None
    cell: str | None = None  # the first line of the running cell
    busy_s: float | None = None
    idle_s: float | None = None
    queued: int | None = None
    age_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return asdict(self)


def pids_of(reports: Iterable[Report]) -> list[int]:
    """The processes on this machine of all subshells that have one."""
    return [
        row["pid"]
        for report in reports
        if is_local(report.kernel.info)
        for row in report.subshells
        if isinstance(row.get("pid"), int)
    ]


def rows_of(reports: Sequence[Report], usage: Mapping[int, Usage]) -> list[Row]:
    """A row for each subshell of `reports`, those of silent and of dead kernels last. `usage` is by pid."""
    rows = []
    for standing in (Standing.OURS, Standing.SILENT, Standing.DEAD):
        for report in reports:
            if report.standing is standing:
                rows += _of(report, usage if is_local(report.kernel.info) else {})
    return rows


def _of(report: Report, usage: Mapping[int, Usage]) -> list[Row]:
    kernel, path = report.kernel.id, str(report.kernel.path)
    if report.standing is not Standing.OURS:
        return [Row(kernel, path, state=DEAD if report.standing is Standing.DEAD else None)]
    made = []
    for said in report.subshells:
        used = usage.get(said.get("pid") or 0, UNKNOWN)
        made.append(
            Row(
                kernel,
                path,
                subshell=said["subshell"],
                name=said.get("name"),
                mode=said.get("mode"),
                state="stopped" if used.stopped else said.get("state"),
                pid=said.get("pid"),
                cpu_percent=used.cpu_percent,
                rss=used.rss,
                private=used.private,
                execution_count=said.get("execution_count"),
                cell=_first_line(said.get("cell")),
                busy_s=said.get("busy_s"),
                idle_s=said.get("idle_s"),
                queued=said.get("queued"),
                age_s=said.get("age_s"),
            )
        )
    return made


def _first_line(cell: str | None) -> str | None:
    """The first line that says something."""
    if cell is None:
        return None
    return next((line.rstrip() for line in cell.splitlines() if line.strip()), "")
