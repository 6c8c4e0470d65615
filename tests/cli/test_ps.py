"""`mpkernel ps`."""

from __future__ import annotations

import json
import os
import threading
from typing import Any

import pytest

from mpkernel.cli import ps
from mpkernel.cli.rows import Row

from .conftest import Kernels, Outcome, Shell, Terminal
from .fake_broker import failure, row

FIELDS = [
    "kernel",
    "connection_file",
    "subshell",
    "name",
    "mode",
    "state",
    "pid",
    "cpu_percent",
    "rss",
    "private",
    "execution_count",
    "cell",
    "busy_s",
    "idle_s",
    "queued",
    "age_s",
]
MINE = os.getpid()


def objects(outcome: Outcome) -> list[dict[str, Any]]:
    found = json.loads(outcome.out)
    assert isinstance(found, list)
    return found


# --- what is shown ------------------------------------------------------------------------------------------------


def test_there_is_a_line_for_each_subshell_under_a_heading(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", row(), row("7be0", name="loader", state="busy", cell="load()", busy_s=2.0, idle_s=None))
    kernels.start("two")
    outcome = mpkernel("ps")
    assert outcome.code == 0
    assert outcome.err == ""
    heading, *lines = outcome.lines
    assert heading.split()[0] == "TARGET"
    assert [line.split()[0] for line in lines] == ["one/main", "one/7be0", "two/main"]
    assert lines[1].split()[1:5] == ["loader", "shared", "busy", "2.0s"]
    assert lines[1].endswith("load()")


def test_json_has_exactly_the_promised_fields_in_order(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one")
    kernels.dead("old")
    for item in objects(mpkernel("ps", "--json")):
        assert list(item) == FIELDS


def test_json_gives_what_the_broker_says(kernels: Kernels, mpkernel: Shell) -> None:
    said = row("7be0", name="loader", state="busy", execution_count=7, cell="load()", busy_s=2.5, idle_s=None, queued=2)
    broker = kernels.start("one", said)
    [item] = objects(mpkernel("ps", "--json"))
    assert {name: item[name] for name in said} == said
    assert item["kernel"] == "one"
    assert item["connection_file"] == str(broker.path)


def test_cpu_and_memory_are_measured_for_the_process_and_null_without_one(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", row(pid=MINE), row("lazy1", state="lazy"))
    main_row, lazy = objects(mpkernel("ps", "--json"))
    assert main_row["rss"] >= main_row["private"] > 1 << 20
    assert main_row["cpu_percent"] >= 0
    assert (lazy["cpu_percent"], lazy["rss"], lazy["private"]) == (None, None, None)


def test_a_process_that_has_just_ended_is_shown_without_measures(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", row(pid=2**22 + 1))  # above the largest pid of Linux
    [item] = objects(mpkernel("ps", "--json"))
    assert item["rss"] is None


def test_only_the_first_line_of_a_cell_is_shown(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", row(cell="\n\nfirst()\nsecond()\n"))
    [item] = objects(mpkernel("ps", "--json"))
    assert item["cell"] == "first()"
    assert "second" not in mpkernel("ps").out


def test_quiet_prints_only_targets(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", row(), row("7be0", name="loader"))
    kernels.dead("old")
    outcome = mpkernel("ps", "-q")
    assert (outcome.code, outcome.out, outcome.err) == (0, "one/main\none/7be0\n", "")


def test_quiet_targets_are_taken_by_the_other_commands(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", row(), row("7be0"), answers={"interrupt": {"interrupted": False, "cell": None}})
    assert mpkernel("interrupt", *mpkernel("ps", "-q").lines).code == 0


# --- nothing, dead, foreign, silent -----------------------------------------------------------------------------


def test_nothing_running_is_said_and_is_no_failure(mpkernel: Shell) -> None:
    outcome = mpkernel("ps")
    assert (outcome.code, outcome.out) == (0, "no mpkernel kernel is running\n")


def test_nothing_running_is_an_empty_array_in_json(mpkernel: Shell) -> None:
    outcome = mpkernel("ps", "--json")
    assert (outcome.code, outcome.out, outcome.err) == (0, "[]\n", "")


def test_nothing_running_leaves_stdout_empty_with_quiet(mpkernel: Shell) -> None:
    outcome = mpkernel("ps", "-q")
    assert (outcome.code, outcome.out) == (0, "")
    assert "no mpkernel kernel is running" in outcome.err


def test_a_missing_runtime_directory_is_nothing_running(
    kernels: Kernels, mpkernel: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(kernels.directory / "none"))
    assert mpkernel("ps").code == 0


def test_a_stale_connection_file_is_one_dead_row_after_the_living(kernels: Kernels, mpkernel: Shell) -> None:
    path = kernels.dead("a-old")
    kernels.start("one")
    outcome = mpkernel("ps", "--json")
    assert outcome.code == 0
    assert objects(outcome)[0]["kernel"] == "one"
    expected = dict.fromkeys(FIELDS) | {"kernel": "a-old", "connection_file": str(path), "state": "dead"}
    assert objects(outcome)[1] == expected
    assert mpkernel("ps").lines[2].split() == ["a-old", "dead"]


def test_a_file_without_a_control_port_is_dead(kernels: Kernels, mpkernel: Shell) -> None:
    (kernels.directory / "kernel-early.json").write_text("{}")
    assert objects(mpkernel("ps", "--json"))[0]["state"] == "dead"


def test_kernels_of_other_implementations_are_not_shown_and_are_asked_nothing_else(
    kernels: Kernels, mpkernel: Shell
) -> None:
    foreign = kernels.start("theirs", implementation="ipython")
    kernels.start("ours")
    assert [item["kernel"] for item in objects(mpkernel("ps", "--json"))] == ["ours"]
    assert foreign.kinds() == ["kernel_info_request"]


def test_a_wrapper_kernel_is_ours_whatever_it_calls_itself(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("echo", implementation="Echo")
    assert [item["kernel"] for item in objects(mpkernel("ps", "--json"))] == ["echo"]


def test_files_that_are_not_connection_files_are_left_alone(kernels: Kernels, mpkernel: Shell) -> None:
    for name in ("jpserver-12.json", "kernel-x.json.lock", "nbsignatures.db"):
        (kernels.directory / name).write_text("{}")
    (kernels.directory / "kernel-folder.json").mkdir()
    assert mpkernel("ps", "--json").out == "[]\n"


def test_an_unreadable_connection_file_is_reported_and_the_others_are_shown(kernels: Kernels, mpkernel: Shell) -> None:
    (kernels.directory / "kernel-broken.json").write_text('{"shell_port": 5')
    kernels.start("one")
    outcome = mpkernel("ps", "-q")
    assert (outcome.code, outcome.out) == (0, "one/main\n")
    assert "kernel-broken.json is not JSON" in outcome.err


def test_a_kernel_that_does_not_answer_is_shown_as_such_and_is_a_failure(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.silent("hung")
    kernels.start("one")
    outcome = mpkernel("ps", "--timeout", "0.3")
    assert outcome.code == 1
    assert outcome.lines[1].startswith("one/main")
    assert outcome.lines[2].split() == ["hung", "not", "answering"]
    assert "no answer from kernel hung within 0.3 s" in outcome.err
    assert "can't be told" in outcome.err


def test_a_kernel_that_does_not_answer_has_no_state_in_json(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.silent("hung")
    outcome = mpkernel("ps", "--json", "--timeout", "0.1")
    assert outcome.code == 1
    assert [(item["kernel"], item["state"]) for item in objects(outcome)] == [("hung", None)]


def test_one_of_ours_that_stops_answering_is_called_ours(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("stuck", answers={"ps": None})
    outcome = mpkernel("ps", "--timeout", "0.3")
    assert outcome.code == 1
    assert "it is one of mpkernel's" in outcome.err


def test_a_wrong_key_gets_no_answer(kernels: Kernels, mpkernel: Shell) -> None:
    broker = kernels.start("one", key_in_file=b"another key")
    outcome = mpkernel("ps", "--timeout", "0.3")
    assert outcome.code == 1
    assert "no answer from kernel one" in outcome.err
    assert broker.requests == []


def test_a_broker_that_answers_with_an_error_is_quoted(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", answers={"ps": failure("out of order")})
    outcome = mpkernel("ps")
    assert outcome.code == 1
    assert "out of order" in outcome.err


def test_an_encrypted_kernel_is_reached_with_the_keys_of_its_file(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", curve=True)
    assert mpkernel("ps", "-q").out == "one/main\n"


def test_a_hundred_kernels_are_asked_at_the_same_time(kernels: Kernels, mpkernel: Shell) -> None:
    everyone_asked = threading.Barrier(100)

    def wait_for_the_others(msg_type: str) -> None:
        if msg_type == "kernel_info_request":
            everyone_asked.wait(timeout=60)  # one after the other, the first would never be answered

    for number in range(100):
        kernels.start(f"{number:03}", before_answer=wait_for_the_others)
    outcome = mpkernel("ps", "-q", "--timeout", "60")
    assert outcome.code == 0
    assert outcome.lines == [f"{number:03}/main" for number in range(100)]


def test_a_hung_kernel_does_not_keep_the_others_from_being_asked(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.silent("a-hung")
    broker = kernels.start("one")
    assert mpkernel("ps", "-q", "--timeout", "0.3").out == "one/main\n"
    assert broker.kinds() == ["kernel_info_request", "mpkernel_request"]


# --- on a terminal ------------------------------------------------------------------------------------------------


def test_a_terminal_gets_colours_and_lines_that_fit(kernels: Kernels, terminal: Terminal) -> None:
    kernels.start("0123456789abcdef", row(state="busy", busy_s=1.0, cell="x" * 500))
    assert terminal("ps") == 0
    heading, line = terminal.getvalue().splitlines()
    assert heading.startswith("\x1b[1m")
    assert "\x1b[32mbusy" in line
    assert "01234567/main" in line
    assert "…" in line


def test_a_pipe_gets_whole_ids_and_no_colours(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("0123456789abcdef", row(state="busy", busy_s=1.0, cell="x" * 500))
    outcome = mpkernel("ps")
    assert "\x1b" not in outcome.out
    assert "0123456789abcdef/main" in outcome.out
    assert "x" * 500 in outcome.out


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_declined(
    kernels: Kernels, terminal: Terminal, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    kernels.start("one")
    terminal("ps")
    assert "\x1b" not in terminal.getvalue()


def test_a_terminal_is_told_of_clean_when_there_are_stale_files(
    kernels: Kernels, terminal: Terminal, capsys: pytest.CaptureFixture[str]
) -> None:
    kernels.dead("old")
    assert terminal("ps") == 0
    assert "1 stale connection file (dead); `mpkernel clean`" in capsys.readouterr().err


# --- --watch ------------------------------------------------------------------------------------------------------


class CtrlC:
    """In place of `time.sleep`: Ctrl-C after some rounds."""

    def __init__(self, rounds: int) -> None:
        self.left = rounds
        self.slept: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_watch_repeats_until_ctrl_c_and_ends_quietly(
    kernels: Kernels, mpkernel: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels.start("one")
    ctrl_c = CtrlC(rounds=3)
    monkeypatch.setattr("time.sleep", ctrl_c)
    outcome = mpkernel("ps", "--watch", "5", "-q")
    assert (outcome.code, outcome.out, outcome.err) == (0, "one/main\n" * 3, "")
    assert ctrl_c.slept == [5.0, 5.0, 5.0]


def test_watch_in_json_is_one_array_to_a_line(
    kernels: Kernels, mpkernel: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels.start("one")
    monkeypatch.setattr("time.sleep", CtrlC(rounds=2))
    outcome = mpkernel("ps", "--watch", "--json")
    assert [json.loads(line)[0]["kernel"] for line in outcome.lines] == ["one", "one"]


def test_watch_asks_a_kernel_only_once_who_it_is(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = kernels.start("ours"), kernels.start("theirs", implementation="ipython")
    look = ps.Look(timeout=10)
    for _ in range(3):
        assert [r.kernel for r in look().rows] == ["ours"]
    assert ours.kinds() == ["kernel_info_request", *["mpkernel_request"] * 3]
    assert theirs.kinds() == ["kernel_info_request"]


def test_watch_draws_over_the_last_frame_on_a_terminal(terminal: Terminal) -> None:
    snapshot = ps.Snapshot([Row("one", "/one", "main", state="idle")], ["kernel two is silent" + " " * 99], failed=True)
    assert ps.watch(lambda: snapshot, lambda s: ["TABLE"], 2, terminal, CtrlC(rounds=2)) == 0
    frame = "\x1b[HTABLE\x1b[K\n\x1b[K\nkernel two is silent" + " " * 59 + "…\x1b[K\n\x1b[J"
    assert terminal.getvalue() == "\x1b[2J" + frame * 2


def test_watch_leaves_out_what_does_not_fit_on_the_screen(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINES", "5")
    ps.watch(lambda: ps.Snapshot([], [], failed=False), lambda s: list("abcdefgh"), 2, terminal, CtrlC(rounds=1))
    assert terminal.getvalue().count("\n") == 4
    assert "(6 more lines)" in terminal.getvalue()


@pytest.mark.parametrize("interval", ["0", "-1", "nan", "inf", "soon"])
def test_watch_refuses_an_interval_that_is_none(mpkernel: Shell, interval: str) -> None:
    outcome = mpkernel("ps", f"--watch={interval}")
    assert outcome.code == 2
    assert "not a number of seconds" in outcome.err
