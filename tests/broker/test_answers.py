"""What the broker says itself reads well, and holds what front ends look for."""

from __future__ import annotations

import signal

import pytest

from mpkernel.broker import answers
from mpkernel.broker.answers import Facts, crash_excerpt, death_notice, how_it_ended
from mpkernel.errors import SubshellNotFound

DUMP = """\
Fatal Python error: Segmentation fault

Thread 0x1 (most recent call first):
  File "/lib/threading.py", line 324 in wait

Current thread 0x2 (most recent call first):
  File "/lib/ctypes/__init__.py", line 519 in string_at
  File "<ipython-input-1>", line 2 in boom
  File "/lib/IPython/core/interactiveshell.py", line 3000 in run_code
  File "/lib/mpkernel/worker/kernel.py", line 10 in _run

Extension modules: numpy
"""


@pytest.mark.parametrize(
    ("returncode", "reason", "said"),
    [
        (0, "", "exited with code 0"),
        (3, "", "exited with code 3"),
        (-signal.SIGKILL, "", "killed by SIGKILL"),
        (-250, "", "killed by signal 250"),
        (None, "no memory", "no memory"),
        (None, "", "it could not be started"),
    ],
)
def test_how_a_process_ended(returncode: int | None, reason: str, said: str) -> None:
    assert how_it_ended(returncode, reason) == said


def test_an_error_is_what_front_ends_show() -> None:
    error = SubshellNotFound("no such thing")
    error.add_note("first\nsecond")
    content = answers.error(error)
    assert content["status"] == "error"
    assert (content["ename"], content["evalue"]) == ("SubshellNotFound", "no such thing")
    assert "SubshellNotFound" in content["traceback"][0]
    assert content["traceback"][1:] == ["first", "second"]


def test_a_death_notice_is_a_sentence_for_people() -> None:
    notice = death_notice("main", 42, "exited with code 3", "os._exit(3)", ["x"], [])
    assert notice == (
        "the process of subshell main (pid 42) exited with code 3 while it ran 'os._exit(3)'. The kernel and its other "
        "subshells go on; the next cell here gets a new process. 1 name (x) kept as of the last finished cell."
    )


def test_a_death_notice_says_what_is_lost_and_why_it_may_have_been() -> None:
    notice = death_notice("main", 42, "killed by SIGKILL", None, [], ["file", "lock"])
    assert "was killed by SIGKILL." in notice
    assert "No names had been kept yet" in notice
    assert "lost, because only that process could have them: 2 names (file, lock)" in notice
    assert "memory ran out" in notice


def test_a_death_notice_says_which_older_values_count_again() -> None:
    notice = death_notice("main", 42, "exited with code 3", None, [], ["x", "y"], ["x"])
    assert "2 names (x, y); there is an older value, which counts again: x." in notice


def test_a_death_notice_stays_short() -> None:
    notice = death_notice("main", 42, "killed by SIGSEGV", "x" * 1000, [f"n{n}" for n in range(100)], [])
    assert "100 names (n0, " in notice
    assert ", …)" in notice
    assert len(notice) < 500


def test_of_a_dump_the_error_and_the_users_frames_are_shown() -> None:
    assert crash_excerpt(DUMP).splitlines() == [
        "Fatal Python error: Segmentation fault",
        "most recent call first:",
        '  File "/lib/ctypes/__init__.py", line 519 in string_at',
        '  File "<ipython-input-1>", line 2 in boom',
    ]


@pytest.mark.parametrize("dump", ["", "\n", "some noise", "Current thread 0x1"])
def test_of_a_dump_that_says_nothing_nothing_is_shown(dump: str) -> None:
    assert crash_excerpt(dump) == ""


def test_facts_name_the_ports_as_connect_reply_has_them() -> None:
    facts = Facts("1", "9", "3.11", ports={"shell": 1, "hb": 2})
    assert facts.connect() == {"status": "ok", "shell_port": 1, "hb_port": 2}
