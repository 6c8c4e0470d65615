"""The table of `mpkernel ps`: what is left out when there is little room, and what never gets to a terminal."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from mpkernel.cli import table, text
from mpkernel.cli.rows import Row

UUID = "0d6f1c52-8b7e-4a53-9a6f-3f5d0c1f7e11"
BUSY = Row(
    UUID,
    f"/run/kernel-{UUID}.json",
    "7be0c2aa91f84d53b6",
    name="loader",
    state="busy",
    pid=123456,
    cpu_percent=99.7,
    rss=1_300_000_000,
    private=900_000_000,
    execution_count=12,
    cell="frame = pandas.read_parquet('measurements.parquet', columns=['time', 'temperature', 'pressure'])",
    busy_s=75.0,
    queued=2,
    age_s=90_000.0,
)
IDLE = replace(BUSY, subshell="main", name=None, state="idle", cell=None, busy_s=None, idle_s=3.0, queued=0)
LAZY = Row(UUID, BUSY.connection_file, "9c11b7", state="lazy", execution_count=0, queued=0, age_s=1.0, idle_s=1.0)
DEAD = Row("feed", "/run/kernel-feed.json", state="dead")
SILENT = Row("beef", "/run/kernel-beef.json")
ROWS = [IDLE, BUSY, LAZY, SILENT, DEAD]
LAST = ["QUEUED", "COUNT", "AGE", "CELL"]
WIDE = "数据 = 读取('文件') # 🚀 " * 9


def plain(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line)


@pytest.mark.parametrize("width", [10, 20, 40, 60, 80, 100, 120, 200])
@pytest.mark.parametrize("cell", [BUSY.cell, WIDE, "e\u0301" * 200, "\x1b[31m" * 60, "x\u202e\u2028" * 50, ""])
@pytest.mark.parametrize("colour", [False, True])
def test_no_line_is_wider_than_the_terminal(width: int, cell: str, colour: bool) -> None:
    lines = table.render([replace(row, cell=cell) for row in ROWS], width=width, colour=colour)
    assert len(lines) == 1 + len(ROWS)
    assert max(text.width(plain(line)) for line in lines) <= width


def test_60_columns_show_what_is_needed_most() -> None:
    assert table.render(ROWS, width=60) == [
        "TARGET             STATE           FOR  CELL",
        "0d6f1c52/main      idle           3.0s",
        "0d6f1c52/7be0c2aa  busy            75s  frame = pandas.read…",
        "0d6f1c52/9c11b7    lazy           1.0s",
        "beef               not answering",
        "feed               dead",
    ]


def test_80_columns_show_names_and_memory_too() -> None:
    assert table.render([IDLE, BUSY, LAZY], width=80) == [
        "TARGET             NAME    STATE   FOR  CPU%   RSS  PRIV  CELL",
        "0d6f1c52/main              idle   3.0s   100  1.2G  858M",
        "0d6f1c52/7be0c2aa  loader  busy    75s   100  1.2G  858M  frame = pandas.read_p…",
        "0d6f1c52/9c11b7            lazy   1.0s",
    ]


def test_120_columns_show_everything() -> None:
    heading, _, busy, *_ = table.render(ROWS, width=120)
    assert heading.split() == ["TARGET", "NAME", "STATE", "FOR", "PID", "CPU%", "RSS", "PRIV", *LAST]
    assert busy.endswith("…")


def test_without_a_width_ids_and_cells_are_whole() -> None:
    _, _, busy, *_ = table.render(ROWS)
    assert busy.startswith(f"{UUID}/7be0c2aa91f84d53b6  loader")
    assert busy.endswith(str(BUSY.cell))


def test_shortened_ids_stay_unique() -> None:
    ids = ["0d6f1c52-8b7e", "0d6f1c52-8c00", "0d6f1c52", "12345", "ffffffffffff"]
    lines = table.render([Row(id_, "/f", "main", state="idle") for id_ in ids], width=80)
    assert [line.split()[0] for line in lines[1:]] == [
        "0d6f1c52-8b/main",
        "0d6f1c52-8c/main",
        "0d6f1c52/main",
        "12345/main",
        "ffffffff/main",
    ]


def test_names_have_a_column_on_a_terminal_only_if_there_are_some() -> None:
    assert "NAME" not in table.render([IDLE], width=120)[0]
    assert "NAME" in table.render([IDLE])[0]


def test_modes_have_a_column_on_a_terminal_only_if_they_differ_from_the_usual_one() -> None:
    shared = replace(IDLE, mode="shared")
    assert "MODE" not in table.render([shared, DEAD], width=120)[0]
    assert "MODE" in table.render([shared])[0]
    heading, *lines = table.render([shared, replace(BUSY, mode="isolated"), DEAD], width=120)
    assert heading.split()[:4] == ["TARGET", "NAME", "MODE", "STATE"]
    assert lines[1].split()[1:4] == ["loader", "isolated", "busy"]


def test_a_long_name_is_cut_on_a_terminal() -> None:
    assert "nnnnnnnnnnnnnnn…  idle" in table.render([replace(IDLE, name="n" * 50)], width=120)[1]


def test_control_characters_are_shown_as_escapes_and_rows_stay_one_line() -> None:
    hostile = replace(BUSY, name="a\nb", cell="\x1b]0;title\x07\r\u202e\u2028\ud800\x9b")
    line = table.render([hostile])[1]
    assert line.endswith(r"\x1b]0;title\x07\r\u202e\u2028\ud800\x9b")
    assert r"a\nb" in line
    assert line.splitlines() == [line]


def test_columns_line_up_under_wide_characters() -> None:
    lines = table.render([replace(IDLE, name="数据", cell="a"), replace(BUSY, name="x\u0301", cell="b")])
    assert {text.width(line[: -len(cell)]) for line, cell in zip(lines, ["CELL", "a", "b"], strict=True)} == {
        text.width(lines[0]) - len("CELL")
    }


def test_only_states_that_matter_are_coloured() -> None:
    heading, idle, busy, lazy, silent, dead = table.render(ROWS, width=120, colour=True)
    assert heading.startswith("\x1b[1m")
    assert "\x1b" not in idle
    assert "\x1b[32mbusy" in busy
    assert "\x1b[2mlazy" in lazy
    assert "\x1b[31mnot answering" in silent
    assert "\x1b[31mdead" in dead


def test_colour_changes_no_column() -> None:
    coloured = [plain(line).rstrip() for line in table.render(ROWS, width=100, colour=True)]
    assert coloured == table.render(ROWS, width=100)


# --- text ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("whole", "columns", "part"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("abcdef", 1, "…"),
        ("abcdef", 0, ""),
        ("数据数据", 8, "数据数据"),
        ("数据数据", 7, "数据数…"),
        ("数据数据", 6, "数据…"),
        ("e\u0301e\u0301e\u0301", 2, "e\u0301…"),
    ],
)
def test_text_is_cut_by_columns_not_by_characters(whole: str, columns: int, part: str) -> None:
    assert text.cut(whole, columns) == part


@pytest.mark.parametrize(
    ("bytes_", "shown"),
    [
        (None, ""),
        (0, "0B"),
        (999, "999B"),
        (1000, "1.0K"),
        (10 * 1024, "10K"),
        (1_300_000, "1.2M"),
        (1023 * 1024 * 1024, "1.0G"),
        (34 << 30, "34G"),
        (2**62, "4.0E"),
    ],
)
def test_sizes_take_at_most_four_characters(bytes_: int | None, shown: str) -> None:
    assert text.size(bytes_) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(None, ""), (-0.001, "0.0s"), (0.26, "0.3s"), (9.96, "10s"), (99, "99s"), (150, "2m"), (7200, "2h"), (2e5, "2d")],
)
def test_times_are_short(seconds: float | None, shown: str) -> None:
    assert text.duration(seconds) == shown
