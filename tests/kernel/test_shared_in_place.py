"""What one subshell changes in place is changed in the others, whatever the object and whatever the way."""

from __future__ import annotations

import textwrap

import pytest

from .driver import LOOP
from .stories import Stories, blocks, needs_numpy, needs_pandas, needs_pydantic

# What is made in A, what A does to it, and what is true of it in B.
CHANGES = {
    "list append": ("x = [1]", "x.append(2)", "x == [1, 2]"),
    "list insert at the front": ("x = [1, 2]", "x.insert(0, 0)", "x == [0, 1, 2]"),
    "list slice": ("x = list(range(9))", "x[2:7] = ['a']; del x[-1]", "x == [0, 1, 'a', 7]"),
    "list sort": ("x = [3, 1, 2]", "x.sort(); x.reverse()", "x == [3, 2, 1]"),
    "list cleared": ("x = [3, 1, 2]", "x.clear()", "x == []"),
    "list multiplied": ("x = [[1]]", "x *= 2", "x == [[1], [1]] and x[0] is x[1]"),
    "list in a tuple": ("x = (1, [])", "x[1].append(2)", "x == (1, [2])"),
    "dict item": ("x = {'a': 1}", "x['b'] = 2; x['a'] = 3", "x == {'a': 3, 'b': 2}"),
    "dict popped": ("x = {'a': 1, 'b': 2}", "x.pop('a')", "x == {'b': 2}"),
    "dict union": ("x = {'a': 1}", "x |= {'b': 2}", "x == {'a': 1, 'b': 2}"),
    "dict nested": ("x = {'a': {'b': [1]}}", "x['a']['b'] += [2]", "x == {'a': {'b': [1, 2]}}"),
    "set": ("x = {1, 2}", "x.add(3); x.discard(1)", "x == {2, 3}"),
    "set emptied": ("x = {1, 2}", "x -= {1, 2}", "x == set()"),
    "deque": ("from collections import deque; x = deque([1, 2], 2)", "x.appendleft(0)", "x == deque([0, 1])"),
    "deque turned": ("from collections import deque; x = deque([1, 2, 3])", "x.rotate()", "list(x) == [3, 1, 2]"),
    "defaultdict by reading": (
        "from collections import defaultdict; x = defaultdict(list)",
        "x['a']",
        "x == {'a': []}",
    ),
    "ordered dict": (
        "from collections import OrderedDict; x = OrderedDict(a=1, b=2)",
        "x.move_to_end('a')",
        "list(x) == ['b', 'a']",
    ),
    "counter": ("from collections import Counter; x = Counter('a')", "x.update('ab')", "x == {'a': 2, 'b': 1}"),
    "chain map": (
        "from collections import ChainMap; x = ChainMap({}, {'a': 1})",
        "x['a'] = 2",
        "x.maps == [{'a': 2}, {'a': 1}]",
    ),
    "bytearray": ("x = bytearray(b'abc')", "x[1] = 66; x.extend(b'd')", "x == b'aBcd'"),
    "array.array": ("from array import array; x = array('i', [1])", "x.append(2); x[0] = 5", "x.tolist() == [5, 2]"),
    "instance": ("class K: pass\nx = K()", "x.a = 1", "x.a == 1"),
    "attribute deleted": ("class K: pass\nx = K(); x.a = 1", "del x.a", "not hasattr(x, 'a')"),
    "instance by __dict__": ("class K: pass\nx = K()", "x.__dict__.update(a=1)", "x.a == 1"),
    "instance by setattr": ("class K: pass\nx = K()", "setattr(x, 'a', 1)", "x.a == 1"),
    "slots": ("class K: __slots__ = ('a',)\nx = K(); x.a = 1", "x.a = 2", "x.a == 2"),
    "class of an instance": ("class K: pass\nclass L: pass\nx = K()", "x.__class__ = L", "type(x) is L"),
    "list with attributes": ("class K(list): pass\nx = K([1])", "x.append(2); x.a = 3", "x == [1, 2] and x.a == 3"),
    "dict with attributes": (
        "class K(dict): pass\nx = K(a=1)",
        "x['b'] = 2; x.a = 3",
        "x == {'a': 1, 'b': 2} and x.a == 3",
    ),
    "simple namespace": ("import types; x = types.SimpleNamespace(a=1)", "x.a = 2", "x.a == 2"),
    "dataclass": (
        "import dataclasses\n@dataclasses.dataclass\nclass K:\n    a: list\nx = K([])",
        "x.a.append(1)",
        "x == K([1])",
    ),
    "iterator": ("x = iter([1, 2, 3])", "next(x)", "next(x) == 2"),
    "text buffer": ("import io; x = io.StringIO('ab')", "x.seek(2); x.write('c')", "x.getvalue() == 'abc'"),
    "random": (
        "import random; x, y = random.Random(5), random.Random(5)",
        "x.random(); y.random()",
        "x.random() == y.random()",
    ),
    "heap": ("import heapq; x = [3, 5]; heapq.heapify(x)", "heapq.heappush(x, 1)", "x[0] == 1"),
    "exception": ("x = ValueError('a')", "x.add_note('b'); x.args = ('c',)", "x.__notes__ == ['b'] and str(x) == 'c'"),
    "function attribute": ("def x(): pass", "x.calls = 3", "x.calls == 3"),
    "traits": ("import traitlets\nclass K(traitlets.HasTraits): a = traitlets.Int()\nx = K()", "x.a = 3", "x.a == 3"),
    "queue-like class": (
        "class K:\n    def __init__(self): self.q = []\n    def put(self, v): self.q.append(v)\nx = K()",
        "x.put(1)",
        "x.q == [1]",
    ),
    "deep inside": ("x = [[[[[[[[[[0]]]]]]]]]]", "x[0][0][0][0][0][0][0][0][0][0] = 1", "x == [[[[[[[[[[1]]]]]]]]]]"),
    "one of many": ("x = [{'n': n} for n in range(5000)]", "x[4321]['n'] = 0", "x[4321] == {'n': 0}"),
}
ARRAY_CHANGES = {
    "element": ("a = np.zeros(5)", "a[2] = 1", "a.tolist() == [0, 0, 1, 0, 0]"),
    "element of a large one": ("a = np.zeros(300_000)", "a[299_999] = 1", "a[-1] == 1 and a.sum() == 1"),
    "operator": ("a = np.arange(3)", "a += 1", "a.tolist() == [1, 2, 3]"),
    "out": ("a = np.arange(3.0)", "np.sqrt(np.array([4, 9, 16]), out=a)", "a.tolist() == [2, 3, 4]"),
    "mask": ("a = np.arange(6)", "a[a > 3] = 0", "a.sum() == 6"),
    "shape": ("a = np.arange(6)", "a.shape = (2, 3)", "a.shape == (2, 3)"),
    "resize": ("a = np.arange(3)", "a.resize(5, refcheck=False)", "a.tolist() == [0, 1, 2, 0, 0]"),
    "sort": ("a = np.array([3, 1, 2])", "a.sort()", "a.tolist() == [1, 2, 3]"),
    "fill": ("a = np.arange(100_000)", "a.fill(7)", "(a == 7).all()"),
    "through a view": ("a = np.zeros((3, 3))", "a.T[0][1:] = 1", "a[:, 0].tolist() == [0, 1, 1]"),
    "through memoryview": ("a = np.zeros(3, 'u1')", "memoryview(a)[1] = 9", "a.tolist() == [0, 9, 0]"),
    "not a number to a number": ("a = np.array([np.nan, np.nan])", "a[0] = 1", "a[0] == 1 and np.isnan(a[1])"),
    "object in it": ("a = np.array([[1], None], dtype=object)", "a[0].append(2)", "a[0] == [1, 2]"),
    "field": ("a = np.zeros(2, dtype=[('n', int), ('x', float)])", "a['n'][1] = 3", "a['n'].tolist() == [0, 3]"),
    "generator": (
        "a, b = np.random.default_rng(1), np.random.default_rng(1)",
        "a.random(3); b.random(3)",
        "a.random() == b.random()",
    ),
    "random state": (
        "a, b = np.random.RandomState(1), np.random.RandomState(1)",
        "a.rand(3); b.rand(3)",
        "a.rand() == b.rand()",
    ),
    "array in a list": ("a = [np.zeros(3), np.ones(3)]", "a[0][1] = 5", "a[0].tolist() == [0, 5, 0]"),
    "attribute of a class of arrays": (
        "K = type('K', (np.ndarray,), {}); a = np.arange(3).view(K); a.tag = ['x']",
        "a.tag.append('y'); a[0] = 5",
        "a.tag == ['x', 'y'] and type(a) is K and a.tolist() == [5, 1, 2]",
    ),
    "read-only flag": ("a = np.zeros(3)", "a.flags.writeable = False", "not a.flags.writeable"),
}
FRAME_CHANGES = {
    "cell": ("f = pd.DataFrame({'a': [1, 2]})", "f.loc[1, 'a'] = 5", "f['a'].tolist() == [1, 5]"),
    "iloc": ("f = pd.DataFrame({'a': range(50_000)})", "f.iloc[-1, 0] = 0", "f['a'].iloc[-1] == 0"),
    "new column": ("f = pd.DataFrame({'a': [1, 2]})", "f['b'] = f['a'] * 2", "f['b'].tolist() == [2, 4]"),
    "column deleted": ("f = pd.DataFrame({'a': [1], 'b': [2]})", "del f['a']", "list(f.columns) == ['b']"),
    "drop in place": ("f = pd.DataFrame({'a': [1, 2]})", "f.drop(index=0, inplace=True)", "f['a'].tolist() == [2]"),
    "row added": ("f = pd.DataFrame({'a': [1, 2]})", "f.loc[2] = 3", "f['a'].tolist() == [1, 2, 3]"),
    "columns renamed": ("f = pd.DataFrame({'a': [1]})", "f.columns = ['ä']", "list(f.columns) == ['ä']"),
    "index": ("f = pd.DataFrame({'a': [1]})", "f.index = ['row']", "list(f.index) == ['row']"),
    "sorted in place": (
        "f = pd.DataFrame({'a': [2, 1]})",
        "f.sort_values('a', inplace=True)",
        "f['a'].tolist() == [1, 2]",
    ),
    "attrs": ("f = pd.DataFrame({'a': [1]})", "f.attrs['unit'] = 'm'", "f.attrs == {'unit': 'm'}"),
    "text": ("f = pd.DataFrame({'a': ['x', 'y']})", "f.loc[0, 'a'] = 'zz'", "f['a'].tolist() == ['zz', 'y']"),
    "series": ("f = pd.Series([1, 2], index=['a', 'b'])", "f['a'] = 5; f.name = 'n'", "f['a'] == 5 and f.name == 'n'"),
    "missing": ("f = pd.DataFrame({'a': [1.0, None]})", "f.fillna(0, inplace=True)", "f['a'].tolist() == [1, 0]"),
    "query": ("f = pd.DataFrame({'a': [1, 2]})", "f.eval('b = a + 1', inplace=True)", "f['b'].tolist() == [2, 3]"),
}


def changed(story: Stories, made: str, change: str, check: str) -> None:
    story.run("B", "pass")
    story.run("A", made)
    story.run("B", "pass")
    story.run("A", change)
    story.check("B", check)


@pytest.mark.parametrize(("made", "change", "check"), CHANGES.values(), ids=CHANGES)
def test_change_in_place(story: Stories, made: str, change: str, check: str) -> None:
    changed(story, made, change, check)


@needs_numpy
@pytest.mark.parametrize(("made", "change", "check"), ARRAY_CHANGES.values(), ids=ARRAY_CHANGES)
def test_change_of_an_array_in_place(story: Stories, made: str, change: str, check: str) -> None:
    changed(story, f"import numpy as np; {made}", change, f"bool({check})")


@needs_pandas
@pytest.mark.parametrize(("made", "change", "check"), FRAME_CHANGES.values(), ids=FRAME_CHANGES)
def test_change_of_a_frame_in_place(story: Stories, made: str, change: str, check: str) -> None:
    changed(story, f"import pandas as pd; {made}", change, f"bool({check})")


@needs_pydantic
def test_change_of_a_pydantic_model_in_place(story: Stories) -> None:
    story("""
        A: import pydantic
           class Point(pydantic.BaseModel):
               x: int
               tags: list[str] = []
           point = Point(x="1")
        B: other = Point(x=5)
        B? point.x == 1 and isinstance(point, Point)
        B: point.x = 2; point.tags.append("b")
        A? point.x == 2 and point.tags == ["b"] and other.x == 5 and type(other) is Point
    """)


# What is told to A before, and how A changes `x = [1]` into [1, 2].
WAYS = {
    "function with it as argument": ("def f(a): a.append(2)", "f(x)"),
    "function that names it": ("def f(): x.append(2)", "f()"),
    "function that calls a function": ("def f(): x.append(2)\ndef g(): f()", "g()"),
    "function in a dict": ("def f(): x.append(2)\nactions = {'f': f}", "actions['f']()"),
    "method": ("class K:\n    def m(self): x.append(2)\nk = K()", "k.m()"),
    "alias": ("y = x", "y.append(2)"),
    "alias in a container": ("y = {'x': (x,)}", "y['x'][0].append(2)"),
    "bound method": ("add = x.append", "add(2)"),
    "partial": ("import functools; add = functools.partial(x.append, 2)", "add()"),
    "lambda": ("add = lambda v, to=x: to.append(v)", "add(2)"),
    "closure": ("def make(a):\n    def add(): a.append(2)\n    return add\nadd = make(x)", "add()"),
    "default argument": ("def add(v, to=x): to.append(v)", "add(2)"),
    "callback": ("def each(items, do):\n    for i in items: do(i)", "each([2], x.append)"),
    "map": ("", "list(map(x.append, [2]));"),
    "comprehension": ("", "[x.append(i) for i in [2]];"),
    "decorated function": (
        "def log(f):\n    def g(*a):\n        x.append(f(*a))\n    return g\n@log\ndef two(): return 2",
        "two()",
    ),
    "property setter": (
        "class K:\n    @property\n    def p(self): return x\n    @p.setter\n    def p(self, v): x.append(v)\nk = K()",
        "k.p = 2",
    ),
    "context manager": (
        "import contextlib\n@contextlib.contextmanager\ndef adding():\n    yield\n    x.append(2)",
        "with adding(): pass",
    ),
    "__repr__ of the result": ("class K:\n    def __repr__(self): x.append(2); return 'K'\nk = K()", "k"),
    "__del__": ("class K:\n    def __del__(self): x.append(2)\nk = K()", "k = None"),
    "generator": (
        "def g():\n    v = yield\n    x.append(v)\n    yield",
        "it = g(); next(it); it.send(2); it.close(); del it",
    ),
    "eval": ("", "eval('x.append(2)')"),
    "exec": ("", "exec('x.append(2)')"),
    "by a name made up": ("", "globals()[chr(120)].append(2)"),
    "getattr": ("", "getattr(x, 'app' + 'end')(2)"),
    "__main__": ("", "import __main__; __main__.x.append(2)"),
    "module function": ("import bisect", "bisect.insort(x, 2)"),
    "operator": ("import operator", "operator.iadd(x, [2])"),
    "garbage collector": ("", "import gc\n[o.append(2) for o in gc.get_referents(globals()) if o is x];"),
    "except clause": ("", "try:\n    1 / 0\nexcept ZeroDivisionError:\n    x.append(2)"),
    "finally clause": ("", "for _try in [1]:\n    try:\n        continue\n    finally:\n        x.append(2)"),
    "thread that is joined": (
        "",
        "import threading\nt = threading.Thread(target=x.append, args=[2])\nt.start(); t.join(); del t",
    ),
    "thread pool": (
        "",
        "import concurrent.futures as cf\nwith cf.ThreadPoolExecutor() as pool: pool.submit(x.append, 2)\ndel pool",
    ),
    "await": ("import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    x.append(2)", "await f()"),
    "magic": ("", "%timeit -n1 -r1 x.append(2)"),
    "user magic": (
        "from IPython.core.magic import register_line_magic\n@register_line_magic\ndef addtwo(line): x.append(2)",
        "%addtwo",
    ),
    "trace function": (
        "import sys\ndef trace(frame, event, arg):\n    if frame.f_code.co_name == 'marked': x.append(2)\n"
        "def marked(): pass",
        "old = sys.gettrace(); sys.settrace(trace); marked(); sys.settrace(old)",
    ),
    "class statement": ("class Meta(type):\n    def __init__(cls, *a): x.append(2)", "class K(metaclass=Meta): pass"),
    "sort key": ("def key(v):\n    x.append(v)\n    return v", "sorted([2], key=key);"),
    "operator of a user class": ("class K:\n    def __add__(self, o): x.append(o)\nk = K()", "k + 2"),
}


@pytest.mark.parametrize(("before", "change"), WAYS.values(), ids=WAYS)
def test_a_list_is_changed_by(story: Stories, before: str, change: str) -> None:
    story.run("B", "pass")
    story.run("A", f"x = [1]\n{before}")
    story.check("B", "x == [1]")
    story.run("A", change)
    story.check("B", "x == [1, 2]")


# How B gets at `x = [1]` of A by something that it has from A as well: it changes what its cell doesn't name.
INDIRECT = blocks("""
# function in a dict
def f(): x.append(2)
actions = {'f': f}; del f
? actions['f']()

# functions in a list
actions = [lambda: x.append(2)]
? [action() for action in actions]

# deep within
config = {'a': {'b': [None, {'c': lambda: x.append(2)}]}}
? config['a']['b'][1]['c']()

# partial that an instance holds
import functools
class K: pass
k = K(); k.call = functools.partial(lambda v: x.append(v), 2)
? k.call()

# attribute of a namespace
import types; space = types.SimpleNamespace(go=lambda: x.append(2))
? space.go()

# cached property
import functools
class K:
    @functools.cached_property
    def v(self): x.append(2)
k = K()
? k.v

# descriptor
class Computed:
    def __init__(self, f): self.f = f
    def __get__(self, o, t=None): return self.f(o)
def compute(o): x.append(2)
class K: v = Computed(compute)
k = K()
? k.v

# singledispatch
import functools
@functools.singledispatch
def go(v): pass
@go.register
def _(v: int): x.append(2)
? go(5)

# metaclass
class Meta(type):
    def __call__(cls): x.append(2); return super().__call__()
class K(metaclass=Meta): pass
? K()

# dict of a class
class K: hooks = {}
K.hooks['a'] = lambda: x.append(2)
? K.hooks['a']()

# factory of a defaultdict
from collections import defaultdict
def make(): x.append(2)
table = defaultdict(make); del make
? table['k']

# bound method in a tuple
class K:
    def m(self): x.append(2)
pair = (K().m,)
? pair[0]()

# decorator that is a class
class Called:
    def __init__(self, f): self.f = f
    def __call__(self): return self.f()
@Called
def go(): x.append(2)
? go()

# hook of a context manager
class K:
    def __enter__(self): return self
    def __exit__(self, *a): self.done()
k = K(); k.done = lambda: x.append(2)
? k.__exit__()

# weak reference
import weakref
class K:
    def m(self): x.append(2)
k = K(); ref = weakref.ref(k)
? ref().m()
""")


@pytest.mark.parametrize("text", INDIRECT.values(), ids=INDIRECT)
def test_a_received_list_is_changed_by_a_received(story: Stories, text: str) -> None:
    before, _, change = text.partition("\n? ")
    story.run("B", "pass")
    story.run("A", f"x = [1]\n{before}")
    story.run("B", f"{change};")
    story.eventually("A", "x == [1, 2]")


# How A changes `x`, which B has changed meanwhile, by what can't be pickled, or only in part.
OPAQUE = blocks("""
# generator
def numbers():
    for n in (0, 3):
        yield
        if n: x.append(n)
go = numbers(); next(go); next(go)
? next(go, None)

# generator in an instance
class K: pass
k = K(); k.rows = (x.append(n) for n in [3])
? next(k.rows)

# generator in a map
go = map(abs, (x.append(n) or n for n in [3]))
? next(go)

# coroutine
async def append(): x.append(3)
go = append()
? await go

# function that a coroutine has as argument
async def call(f): f()
go = call(lambda: x.append(3))
? await go

# thread that hasn't begun
import threading
go = threading.Thread(target=lambda: x.append(3))
? go.start(); go.join()

# context manager that was entered
import contextlib
@contextlib.contextmanager
def appending():
    yield
    x.append(3)
go = appending(); go.__enter__()
? go.__exit__(None, None, None)

# exit stack with a file
import contextlib
go = contextlib.ExitStack(); go.callback(lambda: x.append(3)); go.enter_context(open('/dev/null'))
? go.close()

# callback of a future
from concurrent.futures import Future
go = Future(); go.add_done_callback(lambda future: x.append(future.result()))
? go.set_result(3)

# function of a database
import sqlite3
go = sqlite3.connect(':memory:'); go.create_function('note', 1, lambda n: x.append(n))
? go.execute('select note(3)').fetchall()
""")


@pytest.mark.parametrize("text", OPAQUE.values(), ids=OPAQUE)
def test_what_was_received_is_changed_by_what_stays(story: Stories, text: str) -> None:
    before, _, change = text.partition("\n? ")
    story("A: x = [1]\nB: pass")
    story.run("A", before)
    story.run("B", "x.append(2)")
    story.run("A", f"{change};")
    story.check("B", "x == [1, 2, 3]")


def test_what_was_received_is_changed_by_the_receiver(story: Stories) -> None:
    story("""
        A: x = {"rows": [1]}
           def add(row): x["rows"].append(row)
        B: add(2)
        C: add(3)
        A: add(4)
        B? x == {"rows": [1, 2, 3, 4]}
        M? x == {"rows": [1, 2, 3, 4]}
    """)


def test_a_change_and_its_undoing(story: Stories) -> None:
    story("""
        A: x = [1, 2]
        B: x.append(3)
        A: x.pop()
        B? x == [1, 2]
        B: x[0] = 9
        A: x[0] = 1
        C? x == [1, 2]
    """)


def test_a_failing_cell_shares_what_it_changed_in_place(story: Stories) -> None:
    story("""
        A: x = {"a": [1]}
           def f():
               x["a"].append(2)
               raise KeyError("no")
        B? x == {"a": [1]}
        A! KeyError: f()
        B? x == {"a": [1, 2]}
    """)


def test_an_interrupted_cell_shares_what_it_changed(story: Stories) -> None:
    story("M: x = [1]\nA? x == [1]")
    looping = story.kernel.start(f"x.append(2); y = 3\n{LOOP}")
    story.kernel.interrupt()
    assert looping.wait().ename == "KeyboardInterrupt"
    story.check("A", "x == [1, 2] and y == 3")


@pytest.mark.parametrize("letter", ["M", "A"])
def test_a_thread_changes_things_after_its_cell(story: Stories, letter: str) -> None:
    gate = story.gate()
    story(f"B: pass\n{letter}: x = [1]; n = 0")
    story.run(
        letter,
        "import threading\n"
        f"def later():\n    global n\n    {gate.pass_through}\n    x.append(2)\n    n = 5\n    globals()['new'] = 6\n"
        "threading.Thread(target=later, daemon=True).start()",
    )
    story.check("B", "x == [1] and n == 0")
    gate.release()
    story.eventually("B", "x == [1, 2] and n == 5 and globals().get('new') == 6")


@pytest.mark.parametrize("letter", ["M", "A"])
def test_a_task_changes_things_after_its_cell(story: Stories, letter: str) -> None:
    story(f"B: pass\n{letter}: x, flag, n = [1], [], 0")
    story.run(
        letter,
        "import asyncio, os\n"
        "async def later():\n"
        "    global n\n"
        f"    while not os.path.exists('go-on-{letter}'): await asyncio.sleep(0.01)\n"
        "    x.append(2)\n    n = 5\n"
        "task = asyncio.ensure_future(later())",
    )
    story.check("B", "x == [1] and n == 0")
    go_on = story.kernel.sandbox.cwd / f"go-on-{letter}"
    go_on.touch()
    story.eventually("B", "x == [1, 2] and n == 5")
    go_on.unlink()


WATCHERS = {
    "thread": """
        import threading, time
        def watch():
            while running:
                if not seen or seen[-1] != rate: seen.append(rate)
                time.sleep(0.01)
            ended.append(len(settings))
        threading.Thread(target=watch, daemon=True).start()
    """,
    "task": """
        import asyncio
        async def watch():
            while running:
                if not seen or seen[-1] != rate: seen.append(rate)
                await asyncio.sleep(0.01)
            ended.append(len(settings))
        task = asyncio.ensure_future(watch())
    """,
    "timer": """
        import asyncio
        def watch():
            if not seen or seen[-1] != rate: seen.append(rate)
            if running: loop.call_later(0.01, watch)
            else: ended.append(len(settings))
        loop = asyncio.get_running_loop(); loop.call_soon(watch)
    """,
}


@pytest.mark.parametrize("letter", ["M", "A"])
@pytest.mark.parametrize("watcher", WATCHERS)
def test_what_goes_on_after_a_cell_uses_what_others_change(story: Stories, watcher: str, letter: str) -> None:
    """Though no cell is run in its subshell."""
    story(f"B: pass\n{letter}: running, rate, seen, ended, settings = True, 1, [], [], {{}}")
    story.run(letter, textwrap.dedent(WATCHERS[watcher]))
    story.eventually("B", "seen == [1]")
    story.run("B", "rate = 2; settings['k'] = 1")
    story.eventually("B", "seen == [1, 2]")
    story.run("B", "running = False")
    story.eventually("B", "ended == [1]")


LATER = {
    "call_later": "loop.call_later(0.01, look)",
    "call_soon": "loop.call_soon(look)",
    "periodic": "",
}


@pytest.mark.parametrize("again", LATER.values(), ids=LATER)
@pytest.mark.parametrize("letter", ["M", "A"])
def test_a_callback_of_the_loop_changes_things_after_its_cell(story: Stories, letter: str, again: str) -> None:
    story(f"B: pass\n{letter}: x, n = [1], 0")
    periodic = "from tornado.ioloop import PeriodicCallback; timer = PeriodicCallback(look, 10); timer.start()"
    story.run(
        letter,
        "import asyncio, os; loop = asyncio.get_running_loop()\n"
        "def look():\n"
        "    global n\n"
        "    if not os.path.exists('go-on'):\n"
        f"        {again}\n"
        "        return\n"
        "    if n == 0: x.append(2); n = 5\n"
        f"{again or periodic}",
    )
    story.check("B", "x == [1] and n == 0")
    go_on = story.kernel.sandbox.cwd / "go-on"
    go_on.touch()
    story.eventually("B", "x == [1, 2] and n == 5")
    story.run("B", "x.append(3)")
    story.check(letter, "x == [1, 2, 3]")
    story.run(letter, "" if again else "timer.stop()")
    go_on.unlink()


def test_what_a_task_changed_before_the_next_cell_is_not_forgotten(story: Stories) -> None:
    """Where there is so much that a cell's end looks only at what the cell could reach."""
    gate = story.gate()
    story("M: x = [1]; much = [{i: [i] for i in range(20_000)} for _ in range(3)]; more = [[i] for i in range(50_000)]")
    story.run(
        "M",
        "import asyncio, os\n"
        "async def later():\n"
        "    while not os.path.exists('go-on'): await asyncio.sleep(0.01)\n"
        "    x.append(2)\n"
        f"    {gate.pass_through}\n"
        "task = asyncio.ensure_future(later())",
    )
    story.check("B", "x == [1]")
    go_on = story.kernel.sandbox.cwd / "go-on"
    go_on.touch()
    gate.release()
    story.run("M", "pass")
    story.eventually("B", "x == [1, 2]")
    go_on.unlink()


@pytest.mark.mpkernel_only("its own look at the loop")
def test_the_kernel_s_own_callbacks_are_not_taken_for_the_user_s(story: Stories) -> None:
    story("""
        M: import asyncio; from mpkernel.worker.pending import users_callbacks; loop = asyncio.get_running_loop()
           await asyncio.sleep(0); await asyncio.wait_for(asyncio.sleep(0), 100); x = [[i] for i in range(50_000)]
        A? len(x) == 50_000
        M? not users_callbacks(loop)
        M: timer = loop.call_later(1000, print)
        M? users_callbacks(loop)
        M: timer.cancel()
        M? not users_callbacks(loop)
    """)


def test_a_callback_of_ipython_changes_things_after_its_cell(story: Stories) -> None:
    story("""
        M: count = [0]
           def counting(result): count[0] += 1
           get_ipython().events.register("post_run_cell", counting)
    """)
    story.run("M", "pass")
    story.eventually("A", "count[0] >= 1")
    story.run("M", "get_ipython().events.unregister('post_run_cell', counting)")
