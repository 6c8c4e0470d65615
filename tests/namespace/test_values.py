"""Values go from one process to the other and back: what they are, what they share, what stays where it is."""

from __future__ import annotations

import inspect
import linecache
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mpkernel.errors import LivesElsewhere, TookTooLong
from mpkernel.namespace.definitions import ContentKey
from mpkernel.namespace.pickling import Pickled, Pickling
from mpkernel.namespace.stubs import Stub

from .bench import Space
from .kinds_of_values import CASES, Case


class Process(Space):
    """A namespace with a pickling of its own."""

    def __init__(self, worker: int, where: str, cell: str = "", **options: Any) -> None:
        super().__init__()
        self.pickling = Pickling(self.names, worker, lambda: where, **options)
        self.execute(cell)

    def dump(self, *names: str) -> Pickled:
        values = {name: self.names[name] for name in names}
        with self.as_main():
            return self.pickling.dump(values, outer=False)

    def load(self, pickled: Pickled, *, put: bool = True) -> None:
        """Have the values, and `put` what definitions hold in its place."""
        contents: dict[ContentKey, Any] = {}
        with self.as_main():
            self.names.update(self.pickling.load(pickled, contents))
            if put:
                self.pickling.put(contents)

    def digest(self, name: str) -> bytes | None:
        value = self.names[name]
        with self.as_main():
            return self.pickling.digest(value)

    def shared(self, name: str) -> frozenset[int]:
        return self.dump(name).shared


Pair = Callable[[str], tuple[Process, Process]]


@pytest.fixture
def pair() -> Pair:
    return lambda cell: (Process(1, "main", cell), Process(2, "7be0"))


def needed(case: Case) -> None:
    for module in ("numpy", "pandas", "pydantic"):
        if module in case.cell:
            pytest.importorskip(module)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_value_is_the_same_there_and_when_it_is_back(case: Case, pair: Pair) -> None:
    needed(case)
    here, there = pair(case.cell)
    names = case.names.split()
    there.execute(case.before)
    there.load(here.dump(*names))
    assert there.value(case.holds)
    here.load(there.dump(*names))
    assert here.value(case.holds)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_a_value_that_nobody_changes_has_one_digest(case: Case, pair: Pair) -> None:
    needed(case)
    here, there = pair(case.cell)
    names = case.names.split()
    first = [here.digest(name) for name in names]
    pickled = here.dump(*names)
    assert [here.digest(name) for name in names] == first
    there.load(pickled)
    assert [there.digest(name) for name in names] == [there.digest(name) for name in names]


# --- definitions ------------------------------------------------------------------------------------------------------

CLASS = "class K:\n    n = 1\n    items = []\n    def m(self): return 1\nk = K()"


def test_a_changed_class_is_brought_up_to_date_in_place(pair: Pair) -> None:
    here, there = pair(CLASS)
    there.load(here.dump("K", "k"))
    known = there.names["K"]
    here.execute("K.n = 2\nK.z = 5\ndef m(self): return 2\nK.m = m")
    there.load(here.dump("K"))
    assert there.names["K"] is known
    assert there.value("(K.n, K.z, k.m(), type(k) is K)") == (2, 5, 2, True)


def test_an_old_instance_never_brings_back_an_old_class(pair: Pair) -> None:
    here, there = pair(CLASS)
    old = here.dump("k")
    there.load(here.dump("K", "k"))
    there.execute("K.n = 2; K.m = lambda self: 2")
    there.load(old)
    assert there.value("(K.n, k.m(), type(k) is K)") == (2, 2, True)
    here.load(there.dump("K"))
    assert here.value("(K.n, k.m())") == (2, 2)


def test_what_was_deleted_from_a_class_is_deleted_there(pair: Pair) -> None:
    here, there = pair(CLASS)
    there.load(here.dump("k"))
    here.execute("del K.n")
    there.load(here.dump("k"))
    assert not there.value("hasattr(k, 'n')")


@pytest.mark.parametrize("change", ["K.n = 5", "K.items.append(1)", "K.m = lambda self: 2", "del K.n", "K.m.note = 1"])
def test_a_change_of_a_class_changes_the_digest_of_its_instances(change: str, pair: Pair) -> None:
    here, _ = pair(CLASS)
    before = here.digest("k")
    here.execute(change)
    assert here.digest("k") != before


def test_a_class_statement_makes_another_class(pair: Pair) -> None:
    here, there = pair(CLASS)
    there.load(here.dump("K", "k"))
    here.execute("class K:\n    n = 7")
    there.load(here.dump("K"))
    assert there.value("(K.n, k.n, isinstance(k, K))") == (7, 1, False)


def test_a_changed_function_is_brought_up_to_date_in_place(pair: Pair) -> None:
    here, there = pair("def f(x): return 1")
    there.load(here.dump("f"))
    known = there.names["f"]
    here.execute("def g(x, y=3): return y\nf.__code__ = g.__code__; f.__defaults__ = g.__defaults__; f.note = 1")
    there.load(here.dump("f"))
    assert there.names["f"] is known
    assert there.value("(f(1), f.note)") == (3, 1)


def test_a_function_uses_the_globals_of_where_it_arrives(pair: Pair) -> None:
    here, there = pair("x = 'here'\ndef f(): return x\ndef g():\n    global made\n    made = 1")
    there.load(here.dump("f", "g"))
    there.execute("x = 'there'; g()")
    assert there.value("(f(), made)") == ("there", 1)


COUNTER = "def make():\n    n = 0\n    def up():\n        nonlocal n; n += 1; return n\n    return up\nup = make()"


def test_the_state_of_a_closure_travels(pair: Pair) -> None:
    here, there = pair(COUNTER)
    before = here.digest("up")
    there.load(here.dump("up"))
    there.execute("up(); up()")
    here.load(there.dump("up"))
    assert here.digest("up") != before
    assert here.value("up()") == 3


def test_the_state_of_a_closure_is_left_alone_if_wanted(pair: Pair) -> None:
    here, there = pair(COUNTER)
    there.load(here.dump("up"))
    there.execute("up(); up()")
    there.load(here.dump("up"), put=False)
    assert there.value("up()") == 3


def test_the_source_of_a_cell_travels_with_its_functions(pair: Pair) -> None:
    source, filename = "def f():\n    return 1 / 0\n", "/tmp/ipykernel_1/3141592.py"
    here, there = pair("")
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    here.execute(compile(source, filename, "exec"))
    pickled = here.dump("f")
    del linecache.cache[filename]
    try:
        there.load(pickled)
        linecache.checkcache()
        assert inspect.getsource(there.names["f"]) == source
    finally:
        linecache.cache.pop(filename, None)


def test_a_definition_that_is_missing_is_named(pair: Pair) -> None:
    here, there = pair(CLASS)
    with pytest.raises(Exception, match=r"definition 1-\w+\.1 did not come"):
        there.load(Pickled(here.dump("k").data))


# --- who shares what --------------------------------------------------------------------------------------------------


def test_names_that_share_an_object_say_so(pair: Pair) -> None:
    here, _ = pair("x = [1]; y = {'x': (x,)}; z = [1]\nclass K: pass\nk = K(); k.x = x\nm = k.__init__")
    assert here.shared("x") & here.shared("y") & here.shared("k")
    assert here.shared("m") & here.shared("k")
    assert not here.shared("x") & here.shared("z")


def test_views_of_one_memory_say_so(pair: Pair) -> None:
    pytest.importorskip("numpy")
    here, _ = pair("import numpy as np\na = np.zeros(9)\nb = a[:4]\nc = a[4:]\nd = np.zeros(9)")
    assert here.shared("a") & here.shared("b")
    assert here.shared("b") & here.shared("c")
    assert not here.shared("a") & here.shared("d")


def test_what_is_made_for_the_pickle_only_is_not_shared(pair: Pair) -> None:
    cell = "class K:\n    def __reduce__(self): return (K, (), {'a': [1]})\n    def __setstate__(self, s): pass\n"
    here, _ = pair(cell + "k = K(); l = K()")
    assert not here.shared("k") & here.shared("l")


@pytest.mark.parametrize("cell", ["x = 5", "x = 'a'", "x = (1, (2, 'a'))", "def x(): pass", "import os as x"])
def test_what_can_not_change_is_not_shared(cell: str, pair: Pair) -> None:
    assert pair(cell)[0].shared("x") == set()


def test_a_big_value_is_told_to_be_big(pair: Pair) -> None:
    here, _ = pair("x = [[] for _ in range(60_000)]")
    pickled = here.pickling.dump(here.names["x"])
    assert pickled.big
    assert pickled.shared == {id(here.names["x"])}


# --- buffers ----------------------------------------------------------------------------------------------------------


def test_large_views_of_one_memory_are_one_buffer(pair: Pair) -> None:
    pytest.importorskip("numpy")
    here, there = pair("import numpy as np\na = np.zeros((1000, 100))\nb = a[10:20]\nc = a[:, 3:9]\nd = a.T")
    pickled = here.dump("a", "b", "c", "d")
    assert [memoryview(buffer).nbytes for buffer in pickled.buffers] == [800_000]
    assert len(pickled.data) < 1000
    there.load(pickled)
    there.execute("a[15, 4] = 7")
    assert there.value("(b[5, 4], c[15, 1], d[4, 15])") == (7, 7, 7)


def test_a_writable_buffer_is_used_as_it_is(pair: Pair) -> None:
    pytest.importorskip("numpy")
    here, there = pair("import numpy as np\na = np.zeros(100_000)")
    pickled = here.dump("a")
    buffer = bytearray(pickled.buffers[0])
    there.load(Pickled(pickled.data, (buffer,)))
    there.execute("a[0] = 1")
    assert any(buffer[:8])


def test_an_array_that_can_not_be_written_to_stays_so(pair: Pair) -> None:
    pytest.importorskip("numpy")
    here, there = pair(
        "import numpy as np\na = np.zeros(9); a.flags.writeable = False\nb = np.frombuffer(b'abc', 'u1')"
    )
    there.load(here.dump("a", "b"))
    assert there.value("a.flags.writeable or b.flags.writeable") is False


# --- stubs ------------------------------------------------------------------------------------------------------------

LOCAL = {
    "generator": "x = (i for i in [1])",
    "coroutine": "async def f(): pass\nx = f()",
    "event": "import threading; x = threading.Event()",
    "thread": "import threading; x = threading.Thread()",
    "socket": "import socket; x = socket.socket()",
    "file": "x = open('/dev/null')",
    "binary file": "x = open('/dev/null', 'rb')",
    "temporary file": "import tempfile; x = tempfile.NamedTemporaryFile()",
    "database": "import sqlite3; x = sqlite3.connect(':memory:')",
    "queue": "import queue; x = queue.Queue()",
    "executor": "import concurrent.futures as c; x = c.ProcessPoolExecutor()",
    "memoryview": "x = memoryview(b'abc')",
    "weak reference with a callback": "import weakref\nclass K: pass\nk = K(); x = weakref.ref(k, print)",
    "running future": "import concurrent.futures as c; x = c.Future()",
    "iterator on a generator": "x = enumerate(i for i in [1])",
    "reduce raises": "class K:\n    def __reduce__(self): raise ValueError('no')\nx = K()",
    "reduce recurses": "class K:\n    def __reduce__(self): return self.__reduce__()\nx = K()",
    "reduce returns nonsense": "class K:\n    def __reduce__(self): return 5\nx = K()",
    "getstate exits": "class K:\n    def __getstate__(self): raise SystemExit\nx = K()",
    "deep": "x = []\nfor _ in range(100_000): x = [x]",
}


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the coroutine is never awaited
@pytest.mark.parametrize("cell", LOCAL.values(), ids=LOCAL)
def test_what_can_not_be_pickled_is_a_stub_there_and_itself_at_home(cell: str, pair: Pair) -> None:
    here, there = pair(cell + "\nbox = {'x': x, 'y': 1}")
    real = here.names["x"]
    pickled = here.dump("x", "box") if "100_000" not in cell else here.dump("x")
    there.load(pickled)
    stub = there.names["x"]
    assert type(stub) is Stub
    assert len({note.token for note in pickled.stubs}) == 1
    assert "in subshell main: can't be pickled" in repr(stub)
    if "100_000" not in cell:
        assert there.value("box['x'] is x and box['y'] == 1")
    third = Process(3, "third")
    third.load(there.dump("x"))
    here.load(third.dump("x"))
    assert here.names["x"] is real


TWINS = {
    "lock": "import threading; x = threading.Lock()",
    "reentrant lock": "import threading; x = threading.RLock()",
    "semaphore": "import threading; x = threading.BoundedSemaphore(2)",
    "condition": "import threading; x = threading.Condition()",
    "thread-local": "import threading; x = threading.local()",
    "context variable": "import contextvars; x = contextvars.ContextVar('x', default=[1])",
    "context variable without a default": "import contextvars; x = contextvars.ContextVar('x')",
    "future that is over": "import concurrent.futures as c; x = c.Future(); x.set_result(5)",
    "future that failed": "import concurrent.futures as c; x = c.Future(); x.set_exception(KeyError(5))",
}


@pytest.mark.parametrize("cell", TWINS.values(), ids=TWINS)
def test_what_each_process_has_one_of_its_own_for_is_always_the_same_and_itself_at_home(cell: str, pair: Pair) -> None:
    here, there = pair(cell + "\nbox = {'x': x}")
    real = here.names["x"]
    there.load(here.dump("x", "box"))
    twin = there.names["x"]
    assert type(twin) is type(real)
    assert there.value("box['x'] is x")
    there.load(here.dump("x"))
    assert there.names["x"] is twin
    third = Process(3, "third")
    third.load(there.dump("x"))
    here.load(third.dump("x"))
    assert here.names["x"] is real


MATCHES = ["re.match('a(.)', 'abc')", "re.search('(?<=a)b', 'abc')", "list(re.finditer('a.', 'abacad'))[2]"]
MATCHES += ["re.fullmatch('a|ab', 'ab')", "re.compile('^b', re.M).search('a\\nb', 1)", "re.match(b'', b'')"]


@pytest.mark.parametrize("found", MATCHES)
def test_a_match_is_the_same_elsewhere(found: str, pair: Pair) -> None:
    here, there = pair(f"import re\nx = {found}")
    there.load(here.dump("x"))
    told = "(x.span(), x.groups(), x.group(), x.string)"
    assert there.value(told) == here.value(told)


def test_a_stub_does_not_change(pair: Pair) -> None:
    here, there = pair("g = (i for i in [1]); box = [g]")
    first = here.digest("box")
    there.load(here.dump("box"))
    assert here.digest("box") == first
    assert there.digest("box") == there.digest("box")


USES = ["x()", "next(x)", "iter(x)", "len(x)", "x.send(1)", "x + 1", "1 + x", "x[0]", "x.y = 1", "x < 1", "int(x)"]


@pytest.mark.parametrize("use", [*USES, "with x: pass", "for i in x: pass", "1 in x", "-x", "x += 1", "del x[0]"])
def test_any_use_of_a_stub_says_where_the_value_is(use: str, pair: Pair) -> None:
    here, there = pair("x = (i for i in [1])")
    there.load(here.dump("x"))
    with pytest.raises(LivesElsewhere, match=r"generator .* lives in subshell 'main' .* Run the cell in .*remote"):
        there.execute(use)


def test_a_stub_names_the_variable_that_remote_takes(pair: Pair) -> None:
    here, there = pair("x = (i for i in [1]); xs = [(i for i in [1])]")
    there.load(here.dump("x"))
    there.load(here.dump("xs"))
    with pytest.raises(LivesElsewhere, match=r"mpkernel\.remote\('x'\)"):
        there.execute("next(x)")
    with pytest.raises(LivesElsewhere, match=r"mpkernel\.remote of this"):
        there.execute("next(xs[0])")


def test_a_stub_whose_process_has_ended_advises_to_make_it_again() -> None:
    here, there = Process(1, "main", "x = (i for i in [1])"), Process(3, "main", is_alive=lambda worker: worker != 1)
    there.load(here.dump("x"))
    with pytest.raises(LivesElsewhere, match=r"was in subshell 'main' .* That process has ended: make it again$"):
        there.execute("next(x)")


def test_a_stub_at_home_of_what_is_gone_says_so(pair: Pair) -> None:
    here, there = pair("x = (i for i in [1])")
    there.load(here.dump("x"))
    here.execute("del x")
    here.load(there.dump("x"))
    with pytest.raises(LivesElsewhere, match=r"was in subshell 'main' and is gone: make it again"):
        here.execute("next(x)")


def test_displaying_a_stub_is_no_use(pair: Pair) -> None:
    here, there = pair("x = (i for i in [1])")
    there.load(here.dump("x"))
    assert there.value("(bool(x), hasattr(x, '_repr_html_'), hasattr(x, '__array__'))") == (True, False, False)


def test_a_file_with_a_stub_is_closed_when_it_is_deleted(pair: Pair) -> None:
    here, _ = pair("import weakref\nf = open('/dev/null'); r = weakref.ref(f)")
    here.dump("f")
    here.execute("del f")
    assert here.value("r()") is None


class Interruption(BaseException):
    """Comes from outside."""


def test_an_exception_from_outside_passes_and_nothing_is_left_over(pair: Pair) -> None:
    here, there = pair("class K:\n    def __reduce__(self): raise error\nk = [K()]; fine = [1]")
    here.names["error"] = Interruption()
    for _ in range(3):
        with pytest.raises(Interruption):
            here.dump("k")
        there.load(here.dump("fine"))
    assert there.names["fine"] == [1]


def test_a_reduce_that_pickles_something_itself_does_no_harm(pair: Pair) -> None:
    here, there = pair("class K:\n    def __reduce__(self):\n        hook(); return (K, ())\nk = [K(), K(), [1]]")
    here.names["hook"] = lambda: here.pickling.dump(here.names["other"])
    here.names["other"] = [1, 2]
    there.load(here.dump("k"))
    assert there.value("len(k)") == 3


def test_a_container_that_a_thread_changes_is_tried_again(pair: Pair) -> None:
    cell = (
        "tries = 0\nclass K:\n    def __reduce__(self):\n        global tries; tries += 1\n"
        "        if tries < 5: raise RuntimeError('dictionary changed size during iteration')\n"
        "        return (int, ())\n"
    )
    here, there = pair(cell + "k = [K()]")
    there.load(here.dump("k"))
    assert there.names["k"] == [0]


def test_a_figure_is_not_shown_where_it_arrives(pair: Pair) -> None:
    pytest.importorskip("matplotlib")
    import matplotlib as mpl

    mpl.use("agg")
    import matplotlib.pyplot as plt

    here, there = pair("import matplotlib.pyplot as plt\nf = plt.figure(); f.gca().plot([1, 2])")
    pickled = here.dump("f")
    plt.close("all")
    there.load(pickled)
    assert plt.get_fignums() == []
    assert there.value("len(f.axes)") == 1


def test_importable_things_travel_by_name(pair: Pair) -> None:
    here, there = pair("import json, os.path\nx = [json, json.dumps, json.JSONEncoder, len, os.path]")
    there.load(here.dump("x"))
    assert all(map(lambda a, b: a is b, here.names["x"], there.names["x"]))
    assert here.dump("x").definitions == {}


# --- code that takes its time ----------------------------------------------------------------------------------------


class Clock:
    """Of a limit; time passes when the test says so."""

    left = 0.0
    running = False

    @contextmanager
    def limit(self, seconds: float) -> Iterator[Clock]:
        self.left, self.running = seconds, True
        try:
            yield self
        finally:
            self.running = False

    def pause(self) -> None:
        self.running = False

    def go_on(self) -> None:
        self.running = True

    def take(self, seconds: float) -> None:
        """In code that takes so long."""
        if self.running:
            self.left -= seconds
        if self.left < 0:
            raise TookTooLong


CLOCK = Clock()


class Part:
    """Of a library, and slow."""

    def __reduce__(self) -> tuple[type[Part], tuple[()]]:
        CLOCK.take(0.6)
        return Part, ()


def process_with_a_clock() -> Process:
    process = Process(1, "main", limit=CLOCK.limit)
    process.names.update(Part=Part, take=CLOCK.take)
    return process


def test_a_class_of_the_notebook_is_not_blamed_for_what_its_instances_hold() -> None:
    here = process_with_a_clock()
    here.execute("class Box:\n    def __getstate__(self): return vars(self)\nbox = Box(); box.parts = [Part(), Part()]")
    assert not here.dump("box").stubs
    here.execute("part = Part()")
    assert not here.dump("part").stubs


def test_a_class_of_the_notebook_that_takes_too_long_is_blamed_for_it_alone() -> None:
    here = process_with_a_clock()
    here.execute(
        "class Slow:\n    def __getstate__(self): take(9)\n"
        "class Box:\n    def __getstate__(self): return vars(self)\n"
        "box = Box(); box.parts = [Part(), Slow(), Part()]"
    )
    assert [note.type for note in here.dump("box").stubs] == ["Slow"]
    here.execute("box = Box()")
    assert not here.dump("box").stubs


def test_a_class_that_goes_on_and_on_is_blamed_whatever_it_gives() -> None:
    here = process_with_a_clock()
    here.execute(
        "class Fount:\n    def __reduce__(self):\n        return Fount, (), None, self.parts()\n"
        "    def parts(self):\n        while True: take(9); yield Part()\n"
        "fount = Fount()"
    )
    assert [note.type for note in here.dump("fount").stubs] == ["Fount"]
