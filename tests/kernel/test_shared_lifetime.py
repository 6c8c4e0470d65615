"""Modes of subshells, crashes, memory, and what a namespace may be put through."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path

import psutil
import pytest

from mpkernel.namespace.pages import PageTracker
from scripts.harness import proc

from .driver import Kernel
from .sandbox import PATIENCE, poll_until
from .stories import SOON, Stories, needs_numpy

NO_MODES = "subshells have no modes"
ONE_PROCESS = "a thread can't die alone"
MEGABYTE = 1 << 20


def create(kernel: Kernel, mode: str, name: str | None = None) -> str:
    content = {"mode": mode} | ({"name": name} if name else {})
    reply = kernel.control("create_subshell_request", content)
    assert reply.status == "ok", str(reply)
    return str(reply.content["subshell_id"])


@pytest.mark.mpkernel_only(NO_MODES)
def test_a_snapshot_starts_with_a_copy_and_goes_its_own_way(kernel: Kernel) -> None:
    kernel.run("import mpkernel; x = [1]; y = x; z = 0")
    snapshot = create(kernel, "snapshot", "trial")
    assert kernel.value("x == [1] and y is x", snapshot)
    kernel.run("x.append('mine'); z = 1; w = 5", snapshot)
    assert kernel.value("x, z, 'w' in globals()") == ([1], 0, False)
    kernel.run("x.append('main'); z = 2")
    assert kernel.value("x, z", snapshot) == ([1, "mine"], 1)
    kernel.run("mpkernel.publish('w')", snapshot)
    assert kernel.value("w, z") == (5, 2)


@pytest.mark.mpkernel_only(NO_MODES)
def test_a_snapshot_publishes_only_what_it_is_told_to(kernel: Kernel) -> None:
    kernel.run("import mpkernel; x = [0]")
    snapshot = create(kernel, "snapshot")
    kernel.run("x.append(1); y = [2]", snapshot)
    kernel.run("mpkernel.publish('x')", snapshot)
    assert kernel.value("x, 'y' in globals()") == ([0, 1], False)
    kernel.run("del x", snapshot)
    assert kernel.value("x") == [0, 1]


@pytest.mark.mpkernel_only(NO_MODES)
def test_an_isolated_subshell_shares_nothing(kernel: Kernel) -> None:
    kernel.run("import mpkernel; x = 1")
    isolated = create(kernel, "isolated")
    assert kernel.run("x", isolated).ename == "NameError"
    kernel.run("x = 'own'; y = 2", isolated)
    kernel.run("x = 3")
    assert kernel.value("x", isolated) == "own"
    assert kernel.value("x, 'y' in globals()") == (3, False)
    kernel.run("import mpkernel; mpkernel.publish('y')", isolated)
    assert kernel.value("y") == 2


@pytest.mark.mpkernel_only("it has no such forms")
def test_the_magic_makes_kills_and_deletes_subshells(kernel: Kernel) -> None:
    assert kernel.run("%subshell new watcher").stdout == "subshell watcher, shared\n"
    kernel.run("import mpkernel")
    cell = kernel.run("%%subshell watcher\nimport os; pid = os.getpid()")
    assert cell.status == "ok"
    kernel.wait_until(lambda: kernel.value("'pid' in globals()"), "the cell in watcher")
    killed = kernel.run("%subshell kill watcher").stdout
    assert killed.startswith("subshell watcher: sent TERM; exited after ")
    assert "kept" in killed
    names = "[row['name'] for row in mpkernel.subshells()]"
    assert kernel.value(names) == [None, "watcher"]
    assert kernel.run("%subshell delete watcher").stdout == "subshell watcher: deleted\n"
    assert kernel.value(names) == [None]


@pytest.mark.mpkernel_only("it prints ids, whatever is asked")
@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("%subshell bogus", "%subshell bogus: there are %subshell, %subshell new"),
        ("%subshell new two words", "one word: %subshell new NAME"),
        ("%subshell new kill", "can't be called 'kill'"),
        ("%subshell new --mode odd one", "snapshot"),
        ("%subshell delete", "one word: %subshell delete NAME"),
        ("%subshell delete nobody", "there is no subshell 'nobody'; there are: main"),
        ("%subshell delete main", "can't be deleted"),
        ("%subshell kill nobody", "there is no subshell 'nobody'"),
        ("%subshell kill a b", "one word: %subshell kill NAME"),
        ("%%subshell new\n1", "can't be called 'new'"),
        ("%%subshell\n1", "one word: %%subshell NAME"),
        ("%%subshell delete x\n1", "one word: %%subshell NAME"),
    ],
)
def test_the_magic_says_which_forms_there_are(shared_kernel: Kernel, code: str, says: str) -> None:
    before = shared_kernel.list_subshells()
    result = shared_kernel.run(code)
    assert result.status == "error"
    assert says in result.stderr
    assert shared_kernel.list_subshells() == before


@pytest.mark.mpkernel_only(NO_MODES)
def test_modes_and_names_are_listed_and_checked(kernel: Kernel) -> None:
    create(kernel, "snapshot", "trial")
    create(kernel, "shared", "plotter")
    kernel.run("%subshell new --mode isolated alone")
    kernel.run("import mpkernel; found = {row['name']: row['mode'] for row in mpkernel.subshells()}")
    rows = "[found[name] for name in ('trial', 'plotter', 'alone')]"
    assert kernel.value(rows) == ["snapshot", "shared", "isolated"]
    heading, *lines = kernel.run("%subshell").stdout.splitlines()
    assert heading.split()[:4] == ["subshell", "name", "mode", "state"]
    assert [line.split()[2] for line in lines[1:]] == ["snapshot", "shared", "isolated"]
    for mode in ("", "SHARED", 5, None, ["shared"]):
        reply = kernel.control("create_subshell_request", {"mode": mode})
        assert reply.status == "error", f"mode {mode!r}"
        assert "snapshot" in str(reply.content["evalue"]), "the error doesn't say which modes there are"
    assert kernel.value("6 * 7") == 42


@pytest.mark.mpkernel_only(ONE_PROCESS)
@pytest.mark.parametrize("victim", ["main", "child"])
def test_what_was_committed_survives_a_kill(kernel: Kernel, victim: str) -> None:
    child = kernel.create_subshell()
    dies, lives = (None, child) if victim == "main" else (child, None)
    kernel.run("a = [1]; b = {'a': a}; gen = (n for n in 'ab')", dies)
    kernel.run("def f(): return len(a)\nclass K: pass\nk = K(); k.n = 5; a.append(2)", dies)
    kernel.run("c = 3; k.n += 1", lives)
    result = kernel.run("lost = 1; a.append('lost'); import os; os.kill(os.getpid(), 9)", dies)
    assert result.ename == "WorkerDied"
    for shell in (dies, lives):
        values = kernel.value("a, b['a'] is a, f(), k.n, type(k) is K, c", shell)
        assert values[1:] == (True, len(values[0]), 6, True, 3), shell
        assert values[0][:2] == [1, 2]
    assert kernel.run("lost", lives).ename in ("", "NameError")
    kernel.run("a.append(3); d = 4", dies)
    assert kernel.value("a[-1], d", lives) == (3, 4)


@pytest.mark.mpkernel_only(ONE_PROCESS)
def test_what_is_lost_by_a_kill_is_named(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("kept = 1; gen = (n for n in 'ab'); box = [gen, 2]", child)
    result = kernel.run("import os; os.kill(os.getpid(), 9)", child)
    assert result.ename == "WorkerDied"
    kept, _, lost = str(result.content["evalue"]).partition("lost")
    assert "gen" in lost
    assert "gen" not in kept
    assert kernel.value("kept, box[1]") == (1, 2)
    assert kernel.value("kept, box[1]", child) == (1, 2)
    assert kernel.run("next(gen)", child).status == "error"
    assert kernel.run("gen = 5; box[0] = gen", child).status == "ok"
    assert kernel.value("gen, box") == (5, [5, 2])


@pytest.mark.mpkernel_only(ONE_PROCESS)
def test_a_deleted_subshell_leaves_what_was_too_dear_to_be_shared_at_once(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("pass")
    kernel.run(
        "dear = {'a': {'b': {'c': [[i] for i in range(150_000)], 'n': []}}}; large = list(range(2_000_000))", child
    )
    kernel.run("dear['a']['b']['n'].append('changed')", child)
    kernel.delete_subshell(child)
    assert kernel.value("dear['a']['b']['n'], len(large)") == (["changed"], 2_000_000)


@pytest.mark.mpkernel_only(ONE_PROCESS)
def test_kills_at_any_moment_lose_nothing_that_was_replied(kernel: Kernel) -> None:
    """Cells that have been answered are there, also if the process dies in the midst of the next one's commit."""
    child = kernel.create_subshell()
    kernel.run("rows = {}", child)
    done: set[int] = set()
    for number in range(12):
        pid = kernel.value("__import__('os').getpid()", child)
        pending = kernel.submit(f"rows[{number}] = list(range(30_000))", child)
        time.sleep(0.003 * number)
        with contextlib.suppress(psutil.NoSuchProcess):
            psutil.Process(pid).send_signal(signal.SIGKILL)
        if pending.wait().status == "ok":
            done.add(number)
        kernel.run("pass", child)  # the kernel may not have seen the death yet: then it is this cell's
        there = kernel.value("{k: len(v) for k, v in rows.items()}")
        assert done <= set(there), f"answered with ok, but lost: {done - set(there)}"
        assert set(there.values()) <= {30_000}, "half a commit"
        assert kernel.value("{k: len(v) for k, v in rows.items()}", child) == there


COUNTING = """
import itertools, time
def count():
    for n in itertools.count():
        rows.append(n)
        latest['n'] = n
        print(n, file=log, flush=True)
        time.sleep(0.002)
"""


@pytest.mark.mpkernel_only(ONE_PROCESS)
@pytest.mark.parametrize("start", ["count()", "__import__('threading').Thread(target=count, daemon=True).start()"])
def test_what_a_subshell_does_until_it_is_deleted_is_merged(kernel: Kernel, tmp_path: Path, start: str) -> None:
    """Others change the same objects meanwhile."""
    log = tmp_path / "log"
    for _ in range(3):
        child = kernel.create_subshell()
        kernel.run("rows = []; latest = {}")
        pid = kernel.value("__import__('os').getpid()", child)
        kernel.run(f"log = open({str(log)!r}, 'w')\n{COUNTING}", child)
        kernel.submit(start, child)
        assert poll_until(lambda: kernel.value("len(rows)") > 5, SOON)
        kernel.run("rows.append('main'); latest['main'] = 1")
        count = log.read_text().count("\n")
        assert kernel.control("delete_subshell_request", {"subshell_id": child}).status == "ok"
        kernel.run("rows.append('main'); latest['main'] = 2")
        assert poll_until(lambda pid=pid: not psutil.pid_exists(pid), SOON)  # type: ignore[misc]
        assert kernel.value("[n for n in rows if n != 'main']")[:count] == list(range(count))
        assert kernel.value("rows.count('main'), latest['main']") == (2, 2)
        assert kernel.value("latest['n']") >= count - 1


def memory_of(kernel: Kernel) -> float:
    """Megabytes of all processes, what they share counted once, without what others may share with them."""
    return proc.pss_beside_libraries(process.pid for process in kernel.processes()) / MEGABYTE


@needs_numpy
def test_memory_of_a_deleted_array_comes_back(kernel: Kernel) -> None:
    shells = [None, kernel.create_subshell(), kernel.create_subshell()]
    for shell in shells:
        kernel.run("import numpy as np", shell)
    before = memory_of(kernel)
    kernel.run("a = np.ones(100 * 2**17); view = a[5:]")
    for shell in shells:
        assert kernel.value("float(a.sum()) == 100 * 2**17 and np.shares_memory(a, view)", shell)
    full = memory_of(kernel)
    assert full > before + 90, "the array takes no memory"
    assert full < before + 330, f"{full - before:.0f} MB for an array of 100 MB"
    kernel.run("del a, view", shells[1])
    for shell in shells:
        kernel.run("pass", shell)
    assert poll_until(lambda: memory_of(kernel) < before + 35, SOON), (
        f"{memory_of(kernel) - before:.0f} MB more than before the array"
    )


@needs_numpy
def test_memory_does_not_grow_with_each_change(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    for shell in (None, child):
        kernel.run("import numpy as np", shell)
    kernel.run("a = np.zeros(2**21)")
    for number in range(20):
        kernel.run(f"a = a + 1; a[{number}] = 0" if number % 2 else f"a[:] = {number}")
        assert kernel.value("float(a[-1])", child) == number
        if number == 4:  # a spare process may come after this
            before = memory_of(kernel)
    # Two copies more or less, and a spare process; of each change one would be 240 MB.
    assert poll_until(lambda: memory_of(kernel) < before + 80, SOON), (
        f"{memory_of(kernel) - before:.0f} MB more after 15 changes of an array of 16 MB"
    )


@needs_numpy
@pytest.mark.mpkernel_only(ONE_PROCESS)
@pytest.mark.skipif(not PageTracker.available(), reason="the system doesn't track pages")
def test_an_array_that_nobody_changes_is_there_once(kernel: Kernel) -> None:
    shells = [None, kernel.create_subshell(), kernel.create_subshell()]
    for shell in shells:
        kernel.run("import numpy as np", shell)
    kernel.run(
        "import mpkernel.namespace.cold, mpkernel.worker.background\n"
        "mpkernel.namespace.cold.COLD = mpkernel.worker.background.COOL_PAUSE = 0.3"
    )
    before = memory_of(kernel)
    kernel.run("a = np.arange(100 * 2**17); view = a[5:]")
    for shell in shells[1:]:
        assert kernel.value("int(a.sum()) == sum(range(100 * 2**17))", shell)
    assert poll_until(lambda: memory_of(kernel) < before + 130, SOON), (
        f"{memory_of(kernel) - before:.0f} MB for an array of 100 MB"
    )
    for number, shell in enumerate(shells):
        kernel.run(f"a[{number}] = -1; view[-1 - {number}] = -2", shell)
    for shell in shells:
        assert kernel.value("a[:4].tolist(), a[-4:].tolist()", shell) == (
            [-1, -1, -1, 3],
            [100 * 2**17 - 4, -2, -2, -2],
        )
        assert kernel.value("int(a[3:-3].sum()) == sum(range(3, 100 * 2**17 - 3)), np.shares_memory(a, view)", shell)


def test_fifty_thousand_names(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("pass", child)
    kernel.run("for n in range(50_000): globals()[f'name_{n}'] = [n]", timeout=60)
    count = kernel.run("name_49999[0] + len([n for n in globals() if n.startswith('name_')])", child, timeout=60)
    assert count.text == "99999"
    kernel.run("name_7.append(8); name_8 = 'new'; del name_9", child)
    assert kernel.value("name_7, name_8, 'name_9' in globals()") == ([7, 8], "new", False)
    began = time.monotonic()
    kernel.run("x = 1")
    assert kernel.value("x", child) == 1
    took = time.monotonic() - began
    assert took < 2 * PATIENCE, f"a small change took {took:.1f} s"
    kernel.run("for n in range(50_000): globals().pop(f'name_{n}', None)")
    assert kernel.value("len([n for n in globals() if n.startswith('name_')])", child) == 0


def test_a_thread_changes_the_namespace_all_the_time(story: Stories) -> None:
    story("B: pass")
    story.run(
        "A",
        "import threading, itertools\nstop = threading.Event(); d = {}; xs = []\n"
        "def churn():\n    for n in itertools.count():\n"
        "        globals()[f'churn_{n % 50}'] = n; globals().pop(f'churn_{(n + 7) % 50}', None)\n"
        "        d[n % 200] = n; d.pop((n + 9) % 200, None); xs.append(n)\n"
        "        if len(xs) > 500: xs.clear()\n"
        "        if stop.wait(0 if n % 100 else 0.001): break\n"
        "thread = threading.Thread(target=churn, daemon=True); thread.start()",
    )
    for number in range(10):
        story.run("A", f"calm = {number}")
        story.check("B", f"calm == {number} and isinstance(d, dict) and isinstance(xs, list)")
        story.run("B", f"other = {number}")
        story.check("A", f"other == {number}")
    story.run("A", "stop.set(); thread.join(); final = dict(d), list(xs)")
    story.check("B", "(d, xs) == final")


@pytest.mark.parametrize("clear", ["globals().clear()", "get_ipython().user_ns.clear()"])
def test_a_namespace_is_cleared(kernel: Kernel, clear: str) -> None:
    """All variables are gone, and the kernel goes on; IPython's own names are another matter."""
    child = kernel.create_subshell()
    kernel.run("pass", child)
    kernel.run("x = [1]; y = 2")
    kernel.run("x.append(2)", child)
    kernel.run(clear)
    assert kernel.run("x").ename == "NameError"
    steps = [
        ("z = 3", None),
        ("assert z == 3 and 'y' not in globals(); w = z + 1", child),
        ("assert w == 4 and 'x' not in globals()", None),
    ]
    for code, shell in steps:  # without results: ipykernel can't show any now
        assert kernel.run(code, shell).traceback == ""


@pytest.mark.parametrize("who", ["main", "child"])
def test_reset_deletes_all_variables_everywhere(kernel: Kernel, who: str) -> None:
    child = kernel.create_subshell()
    resets, other = (None, child) if who == "main" else (child, None)
    kernel.run("x = [1]; y = x", other)
    kernel.run("def f(): return x", resets)
    assert kernel.run("%reset -f", resets).status == "ok"
    for shell in (resets, other):
        assert kernel.value("[n for n in ('x', 'y', 'f') if n in globals()]", shell) == []
    kernel.run("x = 2", resets)
    assert kernel.value("x", other) == 2
    assert kernel.run("get_ipython()", other).status == "ok"
    assert kernel.run("1 + 1", resets).text == "2"


@pytest.mark.parametrize("replacement", ["types.ModuleType('__main__')", "None", "types.SimpleNamespace(x=5)"])
def test_main_is_replaced(kernel: Kernel, replacement: str) -> None:
    child = kernel.create_subshell()
    kernel.run("pass", child)
    kernel.run(
        f"import sys, types\nold_main = sys.modules['__main__']\nsys.modules['__main__'] = {replacement}\nx = [1]"
    )
    kernel.run("class K: pass\nk = K(); x.append(2)\ndef f(): return x")
    assert kernel.value("x, f() is x, type(k) is K", child) == ([1, 2], True, True)
    kernel.run("x.append(3)", child)
    assert kernel.value("x") == [1, 2, 3]
    kernel.run("sys.modules['__main__'] = old_main; y = 4")
    assert kernel.value("x, y", child) == ([1, 2, 3], 4)


def test_odd_keys_of_the_namespace_harm_nobody(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("pass", child)
    for number, key in enumerate(["'not an identifier'", "''", "5", "(1, 2)", r"'\ud800'", "None"]):
        assert kernel.run(f"globals()[{key}] = 1; x = [{number}]").status == "ok"
        assert kernel.value("x", child) == [number], f"after a key {key}"
        kernel.run("x.append('b')", child)
        assert kernel.value("x") == [number, "b"], f"after a key {key}"


def test_builtins_are_deleted_and_replaced(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("pass", child)
    kernel.run("x = 1; del globals()['__builtins__']")
    assert kernel.value("x", child) == 1
    kernel.run("__name__ = 'other'; __doc__ = 'mine'; y = 2")
    assert kernel.value("y", child) == 2
    kernel.run("z = len('abc')")
    assert kernel.value("z", child) == 3


@needs_numpy
@pytest.mark.mpkernel_only(ONE_PROCESS)
def test_there_is_no_memory_for_a_copy(kernel: Kernel) -> None:
    """A limit of the process stands for a small machine: the value stays where it is, and the reader is told."""
    child = kernel.create_subshell()
    kernel.run("here = 1", child)
    kernel.run(
        "import numpy as np, resource\nbig = np.ones(20_000_000)\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (100 << 20), resource.RLIM_INFINITY))"
    )
    result = kernel.run("big[0]", child)
    assert result.ename == "NameError"
    assert "big stays in its subshell: there isn't enough memory for a copy here" in result.stderr
    assert kernel.value("here, len(big)") == (1, 20_000_000)
    kernel.run("resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))")
    assert kernel.value("float(big[0])", child) == 1.0
