"""`mpkernel interrupt`, `kill`, `new`, `delete`, `trace`: what is asked of the brokers, what is said, exit codes."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any

import pytest

from mpkernel.cli import client
from mpkernel.cli.kernels import Kernel
from mpkernel.wire import Json

from .conftest import Kernels, Shell
from .fake_broker import failure, row

KILLED = {
    "sent": ["TERM"],
    "exited": True,
    "after_s": 0.3,
    "how": "killed by SIGTERM",
    "aborted": 2,
    "names_kept": 14,
    "names_lost": [],
}
STOPPED = {"interrupted": True, "cell": "time.sleep(1000)"}


# --- interrupt ----------------------------------------------------------------------------------------------------


def test_interrupt_reaches_the_subshell_and_says_which_cell_it_stopped(kernels: Kernels, mpkernel: Shell) -> None:
    broker = kernels.start("one", row(), row("7be0"), answers={"interrupt": STOPPED})
    outcome = mpkernel("interrupt", "one/7be0")
    assert (outcome.code, outcome.out, outcome.err) == (0, "one/7be0: interrupted: time.sleep(1000)\n", "")
    assert broker.ops() == [{"op": "interrupt", "subshell": "7be0"}]


def test_interrupt_of_a_kernel_means_its_main(kernels: Kernels, mpkernel: Shell) -> None:
    broker = kernels.start("one", answers={"interrupt": STOPPED})
    assert mpkernel("interrupt", "one").code == 0
    assert mpkernel("interrupt", "one/").code == 0
    assert broker.ops() == [{"op": "interrupt", "subshell": "main"}] * 2


def test_interrupt_of_an_idle_subshell_says_that_nothing_was_running(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", answers={"interrupt": {"interrupted": False, "cell": None}})
    outcome = mpkernel("interrupt", "one/main")
    assert (outcome.code, outcome.out) == (0, "one/main: nothing was running\n")


def test_escape_sequences_in_a_cell_do_not_reach_the_terminal(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", answers={"interrupt": {"interrupted": True, "cell": "x = '\x1b[2J'"}})
    assert mpkernel("interrupt", "one").out == "one/main: interrupted: x = '\\x1b[2J'\n"


def test_interrupt_without_targets_when_nothing_runs_says_so(mpkernel: Shell) -> None:
    outcome = mpkernel("interrupt")
    assert (outcome.code, outcome.out) == (0, "no mpkernel kernel is running\n")


def test_interrupt_without_targets_when_something_runs_lists_what_there_is(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one")
    outcome = mpkernel("interrupt")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.splitlines() == ["mpkernel: which TARGET? There are:", "  one/main"]


def test_a_kernel_that_does_not_answer_is_among_what_there_is(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.silent("hung")
    outcome = mpkernel("interrupt", "--timeout", "0.1")
    assert outcome.code == 2
    assert outcome.err.splitlines()[1:] == ["  hung (not answering)"]


# --- several targets ----------------------------------------------------------------------------------------------


def test_several_targets_in_several_kernels_are_told_in_their_order(kernels: Kernels, mpkernel: Shell) -> None:
    for name in ("one", "two"):
        kernels.start(name, row(), row("7be0"), answers={"interrupt": STOPPED})
    outcome = mpkernel("interrupt", "two/7be0", "one", "two/main")
    assert [line.partition(":")[0] for line in outcome.lines] == ["two/7be0", "one/main", "two/main"]


def test_several_targets_are_asked_at_the_same_time(kernels: Kernels, mpkernel: Shell) -> None:
    both_asked = threading.Barrier(2)

    def kill(content: Json) -> Json:
        both_asked.wait(timeout=30)
        return KILLED

    kernels.start("one", answers={"kill": kill})
    kernels.start("two", answers={"kill": kill})
    assert mpkernel("kill", "one/main", "two/main").code == 0


def test_a_target_named_twice_is_meant_once(kernels: Kernels, mpkernel: Shell) -> None:
    broker = kernels.start("one", answers={"kill": KILLED})
    assert mpkernel("kill", "one/main", "o/main").code == 0
    assert len(broker.ops()) == 1


def test_one_target_that_fails_makes_exit_code_1_and_the_others_are_done(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", answers={"interrupt": failure("the worker is gone")})
    kernels.start("two", answers={"interrupt": STOPPED})
    outcome = mpkernel("interrupt", "one", "two")
    assert outcome.code == 1
    assert outcome.err == "mpkernel: one/main: the worker is gone\n"
    assert outcome.lines == ["two/main: interrupted: time.sleep(1000)"]


def test_a_broker_that_does_not_answer_an_operation_is_a_failure(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", answers={"interrupt": None})
    outcome = mpkernel("interrupt", "one", "--timeout", "0.3")
    assert outcome.code == 1
    assert "one/main: no answer from kernel one within 0.3 s" in outcome.err


def test_nothing_is_done_if_one_of_the_targets_is_unknown(kernels: Kernels, mpkernel: Shell) -> None:
    broker = kernels.start("one", answers={"kill": KILLED})
    outcome = mpkernel("kill", "one/main", "one/nosuch")
    assert (outcome.code, outcome.out) == (2, "")
    assert broker.ops() == []


# --- kill ---------------------------------------------------------------------------------------------------------


def test_kill_says_what_it_did(kernels: Kernels, mpkernel: Shell) -> None:
    broker = kernels.start("one", answers={"kill": KILLED})
    outcome = mpkernel("kill", "one/main")
    assert outcome.code == 0
    assert outcome.out == "one/main: sent TERM; exited after 0.3 s; 2 queued cells aborted; 14 names kept\n"
    assert broker.ops() == [{"op": "kill", "subshell": "main", "signal": "TERM", "grace": 3.0}]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"aborted": 0, "how": "exited with code 0"}, "sent TERM; exited after 0.3 s; 14 names kept"),
        ({"aborted": 1, "names_kept": 1}, "sent TERM; exited after 0.3 s; 1 queued cell aborted; 1 name kept"),
        (
            {"aborted": 0, "how": "exited with code 3"},
            "sent TERM; exited after 0.3 s (exited with code 3); 14 names kept",
        ),
        (
            {"aborted": 0, "sent": ["TERM", "KILL"], "after_s": 3.04, "how": "killed by SIGKILL"},
            "sent TERM, then KILL; exited after 3.0 s; 14 names kept",
        ),
        (
            {"aborted": 0, "names_lost": ["db", "model"]},
            "sent TERM; exited after 0.3 s; 14 names kept; 2 names lost: db, model",
        ),
        ({"sent": [], "after_s": None, "aborted": 0}, "nothing was running"),
    ],
)
def test_kill_tells_all_that_matters_and_nothing_else(
    kernels: Kernels, mpkernel: Shell, changed: Json, sentence: str
) -> None:
    kernels.start("one", answers={"kill": {**KILLED, **changed}})
    outcome = mpkernel("kill", "one/main")
    assert (outcome.code, outcome.out) == (0, f"one/main: {sentence}\n")


def test_of_many_lost_names_ten_are_listed(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", answers={"kill": {**KILLED, "names_lost": [f"n{i}" for i in range(12)]}})
    assert mpkernel("kill", "one/main").out.endswith("12 names lost: n0, n1, n2, n3, n4, n5, n6, n7, n8, n9, …\n")


def test_a_process_that_outlives_kill_is_a_failure(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", answers={"kill": {**KILLED, "sent": ["TERM", "KILL"], "exited": False, "after_s": 8.0}})
    outcome = mpkernel("kill", "one/main")
    assert outcome.code == 1
    assert "one/main: sent TERM, then KILL; still running after 8.0 s" in outcome.err


@pytest.mark.parametrize("text", ["INT", "SIGINT", "int", "sigint", "2"])
def test_a_signal_may_be_written_in_all_usual_ways(kernels: Kernels, mpkernel: Shell, text: str) -> None:
    broker = kernels.start("one", answers={"kill": KILLED})
    assert mpkernel("kill", "-s", text, "--grace", "0.5", "one/main").code == 0
    assert [(op["signal"], op["grace"]) for op in broker.ops()] == [("INT", 0.5)]


@pytest.mark.parametrize("text", ["NOPE", "0", "-1", "99999", "", "SIG", "_DFL", "SIG_IGN", "²"])
def test_what_is_no_signal_is_refused(kernels: Kernels, mpkernel: Shell, text: str) -> None:
    broker = kernels.start("one")
    outcome = mpkernel("kill", f"--signal={text}", "one/main")
    assert outcome.code == 2
    assert "is not a signal" in outcome.err
    assert broker.requests == []


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "long"])
def test_a_grace_that_is_no_time_is_refused(mpkernel: Shell, text: str) -> None:
    assert mpkernel("kill", f"--grace={text}", "one/main").code == 2


def test_a_grace_does_not_count_against_the_timeout(
    kernels: Kernels, mpkernel: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeouts: list[float] = []
    hold = client.hold

    def recorded(dialogues: Iterable[tuple[Kernel, client.Dialogue[Any]]], timeout: float) -> list[Any]:
        timeouts.append(timeout)
        return hold(dialogues, timeout)

    monkeypatch.setattr(client, "hold", recorded)
    kernels.start("one", answers={"kill": KILLED})
    assert mpkernel("kill", "--timeout", "1", "--grace", "50", "one/main").code == 0
    assert timeouts[0] == 1
    assert timeouts[1] > 51


@pytest.mark.parametrize("command", ["kill", "delete"])
def test_what_destroys_wants_the_subshell_named(kernels: Kernels, mpkernel: Shell, command: str) -> None:
    broker = kernels.start("one", row(), row("7be0", name="loader"))
    outcome = mpkernel(command, "one")
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        "mpkernel: which subshell of kernel one? It has:",
        "  one/main",
        "  one/7be0 (loader)",
    ]
    assert broker.ops() == []


# --- new, delete, trace -------------------------------------------------------------------------------------------


def test_new_prints_the_target_for_the_next_command(kernels: Kernels, mpkernel: Shell) -> None:
    broker = kernels.start("one", answers={"new": {"subshell": "7be0", "name": "loader"}})
    outcome = mpkernel("new", "one", "--name", "loader")
    assert (outcome.code, outcome.out) == (0, "one/7be0\n")
    assert broker.ops() == [{"op": "new", "name": "loader", "mode": "shared"}]


def test_new_without_a_name_asks_for_none(kernels: Kernels, mpkernel: Shell) -> None:
    broker = kernels.start("one", answers={"new": {"subshell": "7be0", "name": None}})
    assert mpkernel("new", "one").code == 0
    assert broker.ops() == [{"op": "new", "name": None, "mode": "shared"}]


def test_new_refuses_a_subshell_in_place_of_a_kernel(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one")
    outcome = mpkernel("new", "one/loader")
    assert outcome.code == 2
    assert "'one', not 'one/loader'" in outcome.err


def test_new_says_why_it_failed(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", answers={"new": failure("there is already a subshell named 'loader'")})
    outcome = mpkernel("new", "one", "--name", "loader")
    assert outcome.code == 1
    assert outcome.err == "mpkernel: there is already a subshell named 'loader'\n"


def test_delete_says_how_many_cells_it_aborted(kernels: Kernels, mpkernel: Shell) -> None:
    broker = kernels.start("one", row(), row("7be0"), row("8c11"), answers={"delete": {"aborted": 2}})
    outcome = mpkernel("delete", "one/7be0")
    assert (outcome.code, outcome.out) == (0, "one/7be0: deleted; 2 queued cells aborted\n")
    assert broker.ops() == [{"op": "delete", "subshell": "7be0"}]


def test_main_can_not_be_deleted(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", answers={"delete": failure("the parent subshell can't be deleted")})
    outcome = mpkernel("delete", "one/main")
    assert outcome.code == 1
    assert "can't be deleted" in outcome.err


def test_trace_prints_the_stacks(kernels: Kernels, mpkernel: Shell) -> None:
    stacks = 'Thread 0x7f (most recent call first):\n  File "\x1b]0;", line 1 in f\n\n'
    broker = kernels.start("one", answers={"trace": {"text": stacks}})
    outcome = mpkernel("trace", "one")
    assert outcome.code == 0
    assert outcome.out == 'Thread 0x7f (most recent call first):\n  File "\\x1b]0;", line 1 in f\n'
    assert broker.ops() == [{"op": "trace", "subshell": "main"}]


def test_trace_takes_one_target(mpkernel: Shell) -> None:
    assert mpkernel("trace").code == 2
    assert mpkernel("trace", "one", "two").code == 2


def test_trace_that_fails_is_exit_code_1(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", answers={"trace": failure("no process")})
    outcome = mpkernel("trace", "one")
    assert (outcome.code, outcome.err) == (1, "mpkernel: no process\n")


# --- which target is meant ----------------------------------------------------------------------------------------


@pytest.fixture
def uuids(kernels: Kernels) -> Kernels:
    answers = {"interrupt": STOPPED}
    kernels.start("aa11", row(), row("c0de", name="loader"), row("c0fe", name="twin"), answers=answers)
    kernels.start("aa22", row(), row("beef", name="twin"), row("bead", name="twin"), answers=answers)
    kernels.start("bb33", implementation="ipython")
    return kernels


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("aa11/c0de", "aa11/loader"),
        ("aa1/c0d", "aa11/loader"),
        ("aa1/loader", "aa11/loader"),
        ("aa22/beef", "aa22/beef"),  # its name is another one's, too
        ("kernel-aa11/main", "aa11/main"),
        ("kernel-aa11.json/main", "aa11/main"),
        ("kernel-aa1/m", "aa11/main"),
        ("aa2", "aa22/main"),
        ("aa11/twin", "aa11/twin"),
    ],
)
def test_an_id_a_unique_start_of_one_and_a_name_are_understood(
    uuids: Kernels, mpkernel: Shell, text: str, meant: str
) -> None:
    outcome = mpkernel("interrupt", text)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(f"{meant}: ")


def test_the_path_of_a_connection_file_is_understood(
    uuids: Kernels, mpkernel: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = uuids.directory / "kernel-aa11.json"
    assert mpkernel("interrupt", f"{path}/c0de").out.startswith("aa11/loader: ")
    assert mpkernel("interrupt", f"{path}").out.startswith("aa11/main: ")
    monkeypatch.chdir(uuids.directory)
    assert mpkernel("interrupt", "./kernel-aa11.json/main").out.startswith("aa11/main: ")


def test_a_connection_file_may_be_elsewhere(uuids: Kernels, mpkernel: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    path = uuids.directory / "kernel-aa11.json"
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(uuids.directory / "none"))
    assert mpkernel("interrupt", f"{path}/main").code == 0


def test_a_connection_file_that_is_missing_is_exit_code_2(mpkernel: Shell) -> None:
    outcome = mpkernel("interrupt", "/nowhere/kernel-x.json")
    assert outcome.code == 2
    assert "/nowhere/kernel-x.json doesn't exist" in outcome.err


def test_an_ambiguous_kernel_is_exit_code_2_with_the_candidates(uuids: Kernels, mpkernel: Shell) -> None:
    outcome = mpkernel("interrupt", "aa/main")
    assert outcome.code == 2
    assert outcome.err.splitlines() == ["mpkernel: 'aa' may be one of several kernels:", "  aa11", "  aa22"]


def test_an_ambiguous_subshell_is_exit_code_2_with_the_candidates(uuids: Kernels, mpkernel: Shell) -> None:
    outcome = mpkernel("interrupt", "aa11/c0")
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        "mpkernel: 'c0' may be one of several subshells of kernel aa11:",
        "  aa11/c0de (loader)",
        "  aa11/c0fe (twin)",
    ]


def test_a_name_that_two_subshells_have_is_ambiguous(uuids: Kernels, mpkernel: Shell) -> None:
    outcome = mpkernel("interrupt", "aa22/twin")
    assert outcome.code == 2
    assert outcome.err.splitlines()[1:] == ["  aa22/beef (twin)", "  aa22/bead (twin)"]


def test_an_unknown_kernel_is_exit_code_2_with_all_there_is(uuids: Kernels, mpkernel: Shell) -> None:
    outcome = mpkernel("interrupt", "zz/main")
    assert outcome.code == 2
    first, *candidates = outcome.err.splitlines()
    assert first == "mpkernel: there is no kernel 'zz'; there are:"
    assert "  aa11/c0de (loader)" in candidates
    assert len(candidates) == 6


def test_an_unknown_subshell_is_exit_code_2_with_those_of_the_kernel(uuids: Kernels, mpkernel: Shell) -> None:
    outcome = mpkernel("interrupt", "aa11/nosuch")
    assert outcome.code == 2
    assert outcome.err.splitlines() == [
        "mpkernel: kernel aa11 has no subshell 'nosuch'; it has:",
        "  aa11/main",
        "  aa11/c0de (loader)",
        "  aa11/c0fe (twin)",
    ]


def test_a_kernel_of_another_implementation_is_no_target(uuids: Kernels, mpkernel: Shell) -> None:
    outcome = mpkernel("interrupt", "bb33")
    assert outcome.code == 2
    assert "kernel bb33 is not one of mpkernel's; there are:" in outcome.err


def test_an_unknown_kernel_when_nothing_runs_is_exit_code_2(mpkernel: Shell) -> None:
    outcome = mpkernel("interrupt", "one/main")
    assert outcome.code == 2
    assert outcome.err == "mpkernel: there is no kernel 'one'; no mpkernel kernel is running\n"


def test_an_empty_kernel_means_none(uuids: Kernels, mpkernel: Shell) -> None:
    assert mpkernel("interrupt", "/main").code == 2
    assert mpkernel("interrupt", "").code == 2


def test_every_wrong_target_is_explained(uuids: Kernels, mpkernel: Shell) -> None:
    outcome = mpkernel("interrupt", "aa11/nosuch", "aa/main")
    assert "has no subshell 'nosuch'" in outcome.err
    assert "'aa' may be" in outcome.err


def test_a_foreign_kernel_does_not_make_a_start_ambiguous(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("ab1", answers={"interrupt": STOPPED})
    kernels.start("ab2", implementation="ipython")
    assert mpkernel("interrupt", "ab").out.startswith("ab1/main: ")


def test_a_dead_kernel_does_make_a_start_ambiguous(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("ab1")
    kernels.dead("ab2")
    assert mpkernel("interrupt", "ab").code == 2


def test_a_dead_kernel_is_a_target_that_fails(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.dead("old")
    kernels.start("one", answers={"interrupt": STOPPED})
    outcome = mpkernel("interrupt", "old", "one")
    assert outcome.code == 1
    assert "kernel old is dead; `mpkernel clean`" in outcome.err
    assert outcome.out.startswith("one/main: interrupted")


def test_a_silent_kernel_is_a_target_that_fails(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.silent("hung")
    for command in ("interrupt", "trace", "new"):
        outcome = mpkernel(command, "hung", "--timeout", "0.1")
        assert outcome.code == 1
        assert "no answer from kernel hung" in outcome.err


def test_only_the_kernels_that_may_be_meant_are_asked(kernels: Kernels, mpkernel: Shell) -> None:
    kernels.start("one", answers={"interrupt": STOPPED})
    other = kernels.start("two")
    assert mpkernel("interrupt", "one").code == 0
    assert other.requests == []
