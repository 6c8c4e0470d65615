"""What a cell sees of a cell that is still running elsewhere: the newest value, and it isn't held up."""

from __future__ import annotations

import json
import time

import pytest

import mpkernel

from .sandbox import PATIENCE
from .stories import Stories, needs_numpy

NO_API = "a kernel without an API for this"
AT_ONCE = 5.0 * PATIENCE  # seconds that a cell may take that must not wait for a cell elsewhere


def test_a_list_that_grows(story: Stories) -> None:
    story("M: losses = []\nA: pass")
    cell = story.open_cell("M", "for epoch in range(3): losses.append(epoch / 2)", "losses.append('end')")
    story("A? losses == [0.0, 0.5, 1.0] and epoch == 2")
    story.run("A", "seen = list(losses)")
    assert cell.finish().status == "ok"
    story("A? losses[-1] == 'end' and seen == [0.0, 0.5, 1.0] and len(losses) == 4 and len(losses) == 4")


def test_names_that_are_made_and_deleted(story: Stories) -> None:
    story("M: old = 1\nA: pass")
    cell = story.open_cell("M", "new = [1]; del old; alias = new", "new.append(2)")
    story("A? new == [1] and alias is new\nA! NameError: old")
    assert cell.finish().status == "ok"
    story("A? new == [1, 2] and alias is new\nA! NameError: old")


def test_a_loop_in_a_function(story: Stories) -> None:
    """No statement of the top level ends meanwhile."""
    gate = story.gate()
    story("M: state = {'step': 0}; rows = []; n = 0\nA: pass")
    story.run(
        "M",
        "def work():\n    global n\n    for n in range(1, 4):\n        state['step'] = n; rows.append([n])\n"
        f"    print('ready', flush=True)\n    {gate.pass_through}\n    rows.clear()",
    )
    working = story.kernel.start("work()")
    story("A? state == {'step': 3} and rows == [[1], [2], [3]] and n == 3")
    gate.release()
    working.wait()
    story("A? rows == [] and n == 3")


@pytest.mark.parametrize("letter", ["M", "A"])
def test_a_loop_in_pure_python(story: Stories, letter: str) -> None:
    """It never lets go of the processor by itself."""
    stop = story.kernel.sandbox.cwd / "stop"
    story(f"{letter}: count, xs, import_os = 0, [], __import__('os')\nB: pass")
    loop = story.kernel.start(
        "print('ready', flush=True)\n"
        "while count % 5000 or not import_os.path.exists('stop'):\n    count += 1\n"
        "    xs.append(count) if count < 1000 else 0",
        story.subshell(letter),
    )
    story.eventually("B", "count > 1000")
    first = int(story.run("B", "count").text)
    story.eventually("B", f"count > {first} and xs[:3] == [1, 2, 3] and len(xs) == 999")
    stop.touch()
    assert loop.wait().status == "ok"
    stop.unlink()
    story.check("B", "count % 5000 == 0")


@needs_numpy
def test_an_array_that_is_being_filled(story: Stories) -> None:
    story("M: import numpy as np; a = np.zeros(200_000); b = np.zeros(10)\nA: import numpy as np")
    cell = story.open_cell("M", "a[:100_000] = 1; b[3] = 4", "a[100_000:] = 2")
    story("A? a.sum() == 100_000 and b[3] == 4")
    assert cell.finish().status == "ok"
    story("A? a.sum() == 300_000")


def test_functions_and_classes_of_a_running_cell(story: Stories) -> None:
    story("A: pass")
    cell = story.open_cell("M", "def f(): return base + 1\nbase = 1\nclass K:\n    n = 5\nk = K()", "base = 10")
    story("A? f() == 2 and isinstance(k, K) and k.n == 5")
    assert cell.finish().status == "ok"
    story("A? f() == 11")


def test_a_name_is_reached_through_a_function(story: Stories) -> None:
    story("M: xs = []\nA: def length(): return len(xs)\nM? length() == 0")
    cell = story.open_cell("M", "xs.extend('abc')")
    story("A? length() == 3\nA? eval('xs') == ['a', 'b', 'c']\nA? globals()['xs'] == ['a', 'b', 'c']")
    cell.finish()


def test_a_change_of_the_reader_and_of_the_running_cell(story: Stories) -> None:
    story("M: d = {}\nA: pass")
    cell = story.open_cell("M", "d['m1'] = 1", "d['m2'] = 2")
    story.run("A", "d['a'] = sorted(d)")
    assert cell.finish().status == "ok"
    story("A? d == {'m1': 1, 'm2': 2, 'a': ['m1']}\nM? d == {'m1': 1, 'm2': 2, 'a': ['m1']}")


def test_the_running_cell_reads_what_others_end_with_in_its_next_cell(story: Stories) -> None:
    story("M: x = [0]\nA: pass")
    cell = story.open_cell("M", "y = 1", "z = 1")
    story.run("A", "x.append(1)")
    assert cell.finish().status == "ok"
    story("M? x == [0, 1]\nA? y == z == 1")


def test_three_running_cells_at_once(story: Stories) -> None:
    story("M: d = {}\nA: pass\nB: pass\nC: pass")
    cells = [
        story.open_cell(letter, f"d[{letter!r}] = [1]; n_{letter} = 1", f"d[{letter!r}].append(2)") for letter in "MAB"
    ]
    # On a busy machine one of them may not answer in time.
    story.eventually("C", "d == {'M': [1], 'A': [1], 'B': [1]} and n_M + n_A + n_B == 3")
    for cell in cells:
        assert cell.finish().status == "ok"
    story("C? d == {'M': [1, 2], 'A': [1, 2], 'B': [1, 2]}")


@pytest.mark.mpkernel_only("a thread in C code holds up all others")
@pytest.mark.parametrize(
    "busy",
    [
        "sorted(huge);",
        "import re; re.match('(a|aa)+$', 'a' * 34 + 'b')",
        "sum(huge); sum(huge); sum(huge); sum(huge); sum(huge)",
    ],
    ids=["sort", "regular expression", "sums"],
)
def test_an_owner_that_sits_in_c_code(story: Stories, busy: str) -> None:
    """The last committed value, a line that says so, and no waiting."""
    story("A: n = 1; import random; make = lambda: [random.random() for _ in range(3_000_000)]\nB: n = 2")
    prepare = "huge = make()\n" if "sorted" in busy else "huge = range(2 * 10**8)\n"
    sitting = story.kernel.start(f"{prepare}n = 3\nprint('ready', flush=True)\n{busy}", story.subshell("A"))
    began = time.monotonic()
    result = story.run("B", "n")
    took = time.monotonic() - began
    still_running = sitting.reply is None
    assert took < AT_ONCE, f"held up for {took:.1f} s"
    assert result.text in ("2", "3")
    if still_running and result.text == "2":
        assert result.stderr.count("\n") == 1, f"one line of note expected: {result.stderr!r}"
        assert "n" in result.stderr
    story.kernel.interrupt(story.subshell("A"))
    sitting.wait(60)  # the interrupt waits until the C code is through
    story.run("A", "huge = None")


@pytest.mark.mpkernel_only(NO_API)
def test_live_is_a_copy_of_what_is_there_now(story: Stories) -> None:
    story("M: x = [1]; y = 5\nA: import mpkernel")
    cell = story.open_cell("M", "x.append(2)", "x.append(3)")
    story("A? mpkernel.live('x') == [1, 2] and mpkernel.live('x', 'main') == [1, 2] and mpkernel.live('x') is not x")
    story("A! MPKernelError: mpkernel.live('there_is_none')\nA! MPKernelError: mpkernel.live('x', 'no-such-subshell')")
    cell.finish()
    story("A? mpkernel.live('x', 'main') == [1, 2, 3]")


@pytest.mark.mpkernel_only(NO_API)
@pytest.mark.parametrize("pull", ["mpkernel.pull('x')", "mpkernel.pull()", "get_ipython().run_line_magic('pull', 'x')"])
def test_names_stay_under_a_running_cell_until_it_pulls(story: Stories, pull: str) -> None:
    story("M: import mpkernel; x = [1]; held = x\nA: pass")
    cell = story.open_cell("M", "before = list(x)", f"unpulled = list(x); {pull}; pulled = list(x); same = held is x")
    story.run("A", "x.append(2)")
    assert cell.finish().status == "ok"
    story("M? (before, unpulled, pulled, same) == ([1], [1], [1, 2], True)")


@pytest.mark.mpkernel_only(NO_API)
def test_who_gives_a_value_instead_of_its_name_is_told(story: Stories) -> None:
    story("""
        M: import mpkernel; x = [1]
        M! TypeError: mpkernel.live(x)
        M! TypeError: mpkernel.live("x", 5)
        M! TypeError: mpkernel.theirs(None)
        M! TypeError: mpkernel.pull(x)
        M! TypeError: mpkernel.publish(["x"])
        M! MPKernelError: mpkernel.remote("there_is_none")
        M! UsageError: get_ipython().run_line_magic("theirs", "")
    """)


@pytest.mark.mpkernel_only(NO_API)
def test_to_pull_what_nobody_has_is_an_error_and_what_somebody_has_deleted_is_not(story: Stories) -> None:
    story("""
        M: import mpkernel; x = 1
        A: import mpkernel
        M! NameError: mpkernel.pull("x", "there_is_none")
        A! NameError: get_ipython().run_line_magic("pull", "there_is_none")
        M: mpkernel.pull("x"); mpkernel.pull()
    """)
    cell = story.open_cell("M", "pass", "mpkernel.pull('x'); gone = 'x' not in globals()")
    story.run("A", "del x")
    assert cell.finish().status == "ok"
    story("M? gone")


@pytest.mark.mpkernel_only(NO_API)
def test_what_was_pulled_may_be_changed_in_the_same_cell(story: Stories) -> None:
    story("M: x = [1]\nA: import mpkernel; x")
    cell = story.open_cell("A", "pass", "mpkernel.pull('x'); x.append(3)")
    story.run("M", "x.append(2)")
    assert cell.finish().status == "ok"
    story("M? x == [1, 2, 3]\nA? x == [1, 2, 3]")


@pytest.mark.mpkernel_only(NO_API)
@pytest.mark.parametrize("call", ["pull()", "publish()"])
def test_an_interrupt_in_the_midst_of_sharing_loses_nothing(story: Stories, call: str) -> None:
    story(
        "M: import mpkernel, os, signal; bound = 1; d = {}\n"
        "M: class K:\n    def __getstate__(self):\n        os.kill(os.getpid(), signal.SIGINT)\n        return {}\n"
        "A: bound, d"
    )
    story.run(
        "M",
        "def f():\n    global bound, k\n    bound = 2; d['new'] = 1; k = K()\n"
        f"    try:\n        mpkernel.{call}\n    except KeyboardInterrupt:\n        del k\nf()",
    )
    story("A? bound == 2 and d == {'new': 1}\nM? 'k' not in globals()")


@pytest.mark.mpkernel_only(NO_API)
def test_pull_takes_from_a_running_cell_as_well(story: Stories) -> None:
    story("M: import mpkernel; x = 1\nA: pass")
    waiting = story.open_cell("M", "before = x", "mpkernel.pull('x'); after = x")
    other = story.open_cell("A", "x = 2")
    assert waiting.finish().status == "ok"
    other.finish()
    story("M? (before, after) == (1, 2)")


@pytest.mark.mpkernel_only(NO_API)
@pytest.mark.parametrize("publish", ["mpkernel.publish('x')", "mpkernel.publish()", "%publish x"])
def test_publish_in_the_midst_of_a_cell(story: Stories, publish: str) -> None:
    story("M: import mpkernel; x = [1]\nA: pass")
    cell = story.open_cell("M", f"x.append(2)\n{publish}", "x.append(3)")
    story("A? x == [1, 2]")
    cell.finish()
    story("A? x == [1, 2, 3]\nM! NameError: mpkernel.publish('there_is_none')")


@pytest.mark.mpkernel_only(NO_API)
def test_everywhere_runs_in_all_processes_also_in_later_ones(story: Stories) -> None:
    """By way of what isn't shared."""
    story("M: import mpkernel\nA: pass\nB: pass")
    story.run("M", 'mpkernel.everywhere(\'import os; os.environ["MPT_EVERYWHERE"] = "yes"\')')
    for letter in "MABC":
        story.eventually(letter, "__import__('os').environ.get('MPT_EVERYWHERE') == 'yes'")
    story.run("A", "%everywhere import sys; sys.mpt_mark = 5")
    for letter in "MAB":
        story.eventually(letter, "getattr(__import__('sys'), 'mpt_mark', 0) == 5")


@pytest.mark.mpkernel_only(NO_API)
@pytest.mark.parametrize("way", ["mpkernel.everywhere(code)", "get_ipython().run_line_magic('everywhere', code)"])
@pytest.mark.parametrize(("fails", "ename"), [("raise ValueError(7)", "ValueError"), ("1 +", "SyntaxError")])
def test_what_fails_here_is_not_run_elsewhere(story: Stories, way: str, fails: str, ename: str) -> None:
    code = f"import sys; sys.mpt_failed = 1\n{fails}"
    story(f"M: import mpkernel, sys; code = {code!r}; sys.__dict__.pop('mpt_failed', None)\nA: pass")
    result = story.kernel.run(way)
    assert f"the code failed here ({ename}" in str(result.content.get("evalue")) + result.stderr
    assert result.status == "error"
    for letter in "AN":
        story.check(letter, "not hasattr(__import__('sys'), 'mpt_failed')")


@pytest.mark.mpkernel_only(NO_API)
def test_remote_uses_an_object_where_it_lives(story: Stories) -> None:
    story("""
        A: import mpkernel, sqlite3
           db = sqlite3.connect(":memory:", check_same_thread=False); db.execute("create table t (n)")
           gen = (n * n for n in range(10)); next(gen)
        B? next(mpkernel.remote("gen")) == 1 and next(mpkernel.remote(gen)) == 4
        B: mpkernel.remote(db).executescript("insert into t values (7)"); x = 1
        B! MPKernelError: mpkernel.remote("x")
        A? db.execute("select n from t").fetchall() == [(7,)] and next(gen) == 9
    """)


@pytest.mark.mpkernel_only(NO_API)
def test_remote_reads_and_sets_attributes_where_the_object_lives(story: Stories) -> None:
    story("""
        A: import mpkernel, threading
           class Worker(threading.Thread):
               label = "a"; _secret = 1
               def double(self, n): return 2 * n
               def __getattr__(self, name):
                   if name != "lazy": raise AttributeError(f"no {name} here")
                   return [1, 2]
           worker = Worker()
        B: import mpkernel; far = mpkernel.remote("worker")
        B? (far.label, far.daemon, far.lazy, far.double(4)) == ("a", False, [1, 2], 8)
        B: far.label = "b"
        B? far.label == "b" and getattr(far, "missing", 5) == 5
        B! AttributeError: far.missing
        B! AttributeError: far._secret
        B! AttributeError: far._secret = 2
        A? worker.label == "b" and worker._secret == 1
    """)
    assert "no missing here" in story.kernel.run("far.missing", story.subshell("B")).traceback
    assert "'_secret' is private" in story.kernel.run("far._secret", story.subshell("B")).traceback
    assert "mpkernel.Remote" in story.run("B", "far").text


@pytest.mark.mpkernel_only(NO_API)
def test_subshells_says_what_there_is(story: Stories) -> None:
    story("M: import mpkernel\nA: pass")
    cell = story.open_cell("A", "pass")
    rows = json.loads(story.run("M", "import json; print(json.dumps(mpkernel.subshells()))").stdout)
    cell.finish()
    found = {row["subshell"]: row for row in rows}
    assert {"main", story.subshell("A")} <= set(found)
    assert [field for field in found["main"] if f"``{field}``" not in str(mpkernel.subshells.__doc__)] == []
    assert len({row["pid"] for row in rows if row["pid"]}) == len([row for row in rows if row["pid"]])
    assert found["main"]["mode"] == "shared"
    assert found["main"]["state"] != "idle", "main runs the cell that asks"
    assert found[story.subshell("A")]["state"] != "idle"


@pytest.mark.parametrize("code", ["fresh_na", "fresh_object.attr"], ids=["name", "attribute"])
def test_completion_knows_names_from_elsewhere(story: Stories, code: str) -> None:
    story("A: pass\nM: class K: attribute = 1\n   fresh_name, fresh_object = 1, K()")
    request = {"code": code, "cursor_pos": len(code)}
    completion = story.kernel.request("complete_request", request, subshell=story.subshell("A"))
    wanted = {"fresh_na": "fresh_name", "fresh_object.attr": "attribute"}[code]
    assert any(match.endswith(wanted) for match in completion.content["matches"]), completion.content


def test_inspection_knows_names_from_elsewhere(story: Stories) -> None:
    story("A: pass\nM: def fresh_function(a, *, b=2):\n       'Does what is said.'")
    request = {"code": "fresh_function", "cursor_pos": 5, "detail_level": 0}
    inspection = story.kernel.request("inspect_request", request, subshell=story.subshell("A"))
    assert inspection.content["found"]
    assert "Does what is said." in inspection.content["data"]["text/plain"]
