"""Functions and classes that one subshell defines are those of the others: globals, identity, redefinition, source."""

from __future__ import annotations

import pytest

from .stories import Stories, blocks, examples, needs_numpy

# What A defines, and what is true in B (and in A afterwards).
FUNCTIONS = examples(r"""
# recursion
def fact(n): return 1 if n < 2 else n * fact(n - 1)
? fact(10) == 3628800

# mutual recursion
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
? even(10) and odd(7)

# lambda
double = lambda n: n * 2
? double(4) == 8

# lambdas in a table
table = {n: (lambda v, n=n: v + n) for n in range(3)}
? [f(10) for f in table.values()] == [10, 11, 12]

# late binding
late = [lambda: n for n in range(3)]
? [f() for f in late] == [2, 2, 2]

# keyword-only and defaults
def f(a, /, b=[1], *c, d=2, **e): return a, b, c, d, e
? f(0, d=5, z=1) == (0, [1], (), 5, {'z': 1})

# annotations
def f(a: 'int', b: list[int] = []) -> None: ...
? f.__annotations__ == {'a': 'int', 'b': list[int], 'return': None}

# doc and name
def f():
    'Does it.'
f.__name__ = 'g'
? f.__doc__ == 'Does it.' and f.__name__ == 'g' and f.__module__ == '__main__'

# generator function
def count(n):
    for i in range(n):
        got = yield i
? list(count(3)) == [0, 1, 2]

# decorator with arguments
import functools
def times(n):
    def wrap(f):
        @functools.wraps(f)
        def g(*a): return [f(*a)] * n
        return g
    return wrap
@times(2)
def one():
    'One.'
    return 1
? one() == [1, 1]
? one.__name__ == 'one'
? one.__doc__ == 'One.'
? one.__wrapped__() == 1

# partial
import functools
def add(a, b): return a + b
add5 = functools.partial(add, 5)
? add5(1) == 6 and add5.func is add

# partial method
import functools
class K:
    def m(self, a, b): return a + b
    five = functools.partialmethod(m, 5)
? K().five(1) == 6

# lru_cache
import functools
@functools.lru_cache
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
? fib(80) == 23416728348467685

# cache by call
import functools
fib = functools.cache(lambda n: n if n < 2 else fib(n - 1) + fib(n - 2))
? fib(80) == 23416728348467685

# singledispatch
import functools
@functools.singledispatch
def kind(v): return 'other'
@kind.register
def _(v: int): return 'int'
? kind(1) == 'int' and kind('') == 'other'

# operator objects
import operator; get = operator.itemgetter('a'); by = operator.attrgetter('real')
? get({'a': 1}) == 1 and by(2) == 2

# closure over a loop
def make():
    return [lambda i=i: i for i in range(3)]
made = make()
? [f() for f in made] == [0, 1, 2]

# nested definitions
def outer():
    class Inner:
        def m(self): return helper()
    return Inner
def helper(): return 7
? outer()().m() == 7

# vectorize-like object
class Map:
    def __init__(self, f): self.f = f
    def __call__(self, xs): return [self.f(x) for x in xs]
squares = Map(lambda x: x * x)
? squares([1, 2]) == [1, 4]

# dynamic code
exec('def f(): return g()'); g = lambda: 3
? f() == 3

# context manager
import contextlib
@contextlib.contextmanager
def tag(name):
    out.append(name)
    yield name
    out.pop()
out = []
def use():
    with tag('b') as name: return name, list(out)
? use() == ('b', ['b']) and out == []

# context manager as decorator
import contextlib
@contextlib.contextmanager
def tag(name, times=1):
    out.append(name * times)
    yield
    out.pop()
out = []
@tag('b', times=2)
def use(): return list(out)
? use() == use() == ['bb'] and out == []

# asynchronous context manager as decorator
import contextlib
@contextlib.asynccontextmanager
async def tag(name):
    out.append(name)
    yield
    out.pop()
out = []
@tag('b')
async def use(): return list(out)
? await use() == await use() == ['b'] and out == []

# context manager that waits to be entered
import contextlib
@contextlib.contextmanager
def tag(name): yield name
waiting = {'tag': tag('b')}
def use():
    with waiting.pop('tag', tag('c')) as name: return name
? use() in 'bc' and use() == 'c'
""")


NUMPY_FUNCTIONS = examples("""
# ufunc of a function
import numpy as np
scale = 2
scaled = np.frompyfunc(lambda n: n * scale, 1, 1)
? scaled([1, 2]).tolist() == [2, 4]

# ufunc with an identity
import numpy as np
joined = np.frompyfunc(lambda a, b: a + b, 2, 1, identity='')
? joined.reduce(np.array([], object)) == ''

# vectorized function
import numpy as np
@np.vectorize
def sign(n): return 'negative' if n < 0 else 'positive'
? sign([-1, 1]).tolist() == ['negative', 'positive']
""")


@needs_numpy
@pytest.mark.parametrize(("definition", "check"), NUMPY_FUNCTIONS.values(), ids=NUMPY_FUNCTIONS)
def test_a_function_of_numpy_works_elsewhere(story: Stories, definition: str, check: str) -> None:
    story.run("B", "pass")
    story.run("A", definition)
    story.check("B", check)
    story.check("A", check)


@pytest.mark.parametrize(("definition", "check"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_function_works_elsewhere(story: Stories, definition: str, check: str) -> None:
    story.run("B", "pass")
    story.run("A", definition)
    story.check("B", check)
    story.check("A", check)


def test_globals_of_a_function_are_those_of_the_notebook(story: Stories) -> None:
    story("""
        A: n = 1
           def get(): return n
           def put(value):
               global n
               n = value
        B? get() == 1 and get.__globals__ is globals() and put.__globals__ is globals()
        B: n = 2
        A? get() == 2
        A: put(3)
        B? get() == 3 and n == 3
        B: put(4)
        A? n == 4
        A: del n
        B! NameError: get()
    """)


def test_a_function_finds_what_is_defined_later_and_elsewhere(story: Stories) -> None:
    story("""
        A: def outer(): return inner() + 1
        B: def inner(): return 10
        A? outer() == 11
        C? outer() == 11
        C: def inner(): return 20
        A? outer() == 21
        B? outer() == 21
    """)


def test_closures_keep_state(story: Stories) -> None:
    story("""
        A: def counter():
               n = 0
               def step():
                   nonlocal n
                   n += 1
                   return n
               def peek(): return n
               return step, peek
           step, peek = counter()
        A: step()
        B? step() == 2 and peek() == 2
        A? peek() == 2 and step() == 3
        C? peek() == 3
    """)


def test_default_arguments_and_attributes_keep_state(story: Stories) -> None:
    story("""
        A: def remember(v, seen=[]):
               seen.append(v)
               remember.calls = getattr(remember, "calls", 0) + 1
               return seen
        A: remember(1)
        B: remember(2)
        A? remember(3) == [1, 2, 3] and remember.calls == 3
        B? remember.calls == 3
    """)


def test_a_decorator_that_registers(story: Stories) -> None:
    story("""
        A: registry = {}
           def register(f):
               registry[f.__name__] = f
               return f
        B: @register
           def area(): return 5
        A? registry["area"] is area and registry["area"]() == 5
        A: @register
           def length(): return 6
        B? sorted(registry) == ["area", "length"] and registry["length"] is length
    """)


def test_redefinition_reaches_all(story: Stories) -> None:
    story("""
        A: def f(): return 1
           def g(): return f()
           table = {"f": f}
        B? g() == 1
        B: def f(): return 2
        A? g() == 2 and table["f"]() == 1
        A: def g(): return f() * 10
        B? g() == 20
    """)


CACHES = blocks(
    """
# calls with arguments by keyword
A: import functools; calls = []
   @functools.lru_cache
   def area(n, unit="m"): calls.append(n); return [n, unit]
   first = area(2); _ = area(3, unit="km")
B? area(2) is first and area(3, unit="km") == [3, "km"] and calls == [2, 3]
B: area(2).append("seen"); _ = area(5)
A? area(2)[-1] == "seen" and area(2) is first and area(5) == [5, "m"] and calls == [2, 3, 5]
A? area.cache_info().currsize == 3
A: area.cache_clear()
B? area.cache_info().currsize == 0
B: _ = area(7)
A? calls[-1] == 7 and area(7) and calls == [2, 3, 5, 7]

# settings made once
A: import functools
   class Settings: debug = False
   @functools.cache
   def settings(): return Settings()
   settings().debug = True
B? settings().debug
B: settings().level = 3
A? settings().level == 3 and settings() is settings()

# results that can't be copied
A: import sqlite3, functools
   @functools.cache
   def connection(name=":memory:"): return sqlite3.connect(name)
   _ = connection().execute("create table t (x)")
B? connection().execute("select 1").fetchone() == (1,)
A? connection().execute("select count(*) from t").fetchone() == (0,)
B? connection().execute("select 2").fetchone() == (2,)

# results with parts that can't be copied
A: import sqlite3, functools
   class Client:
       def __init__(self): self.conn = sqlite3.connect(":memory:")
       def ask(self): return self.conn.execute("select 5").fetchone()
   @functools.lru_cache
   def client(): return Client()
   _ = client().ask()
B? client().ask() == (5,)
A? client().ask() == (5,)

# a small cache
A: import functools
   @functools.lru_cache(3)
   def sq(n): return n * n
   _ = [sq(i) for i in range(10)]
B? sq.cache_info().currsize == 3 and sq(9) == 81 and sq.cache_info().misses == 10
B: _ = [sq(i) for i in range(20, 30)]
A? sq(29) == 841 and sq.cache_info() == (2, 20, 3, 3)

# hits and misses
A: import functools
   @functools.lru_cache(maxsize=None)
   def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
   _ = fib(30)
B? fib.cache_info() == (28, 31, None, 31)
B: _ = fib(30), fib(40)
A? fib.cache_info() == (40, 41, None, 41)
A: try: fib("x")
   except TypeError: pass
B? fib.cache_info() == (40, 42, None, 41)
B: fib.cache_clear(); _ = fib(10)
A? fib.cache_info() == (8, 11, None, 11)
A: fib.cache_clear()
B? fib.cache_info() == (0, 0, None, 0)
B: _ = fib(1)
A? fib.cache_info() == (0, 1, None, 1)
A: fib.cache_clear(); _ = fib(1)
B? fib.cache_info() == (0, 1, None, 1)

# methods
A: import functools
   class Shape:
       def __init__(self, a): self.a = a
       @functools.lru_cache
       def area(self): return [self.a ** 2]
       @staticmethod
       @functools.cache
       def table(n): return [n] * 3
   s = Shape(2); _ = s.area(); t = Shape.table(4)
B? s.area() == [4] and Shape.table(4) is t and Shape(3).area() == [9]
B: Shape.table(4).append(0); _ = Shape.table(5)
A? t[-1] == 0 and Shape.table.cache_info().currsize == 2

# result that refers to the function
A: import functools
   class Node:
       @staticmethod
       @functools.cache
       def of(n): return Node()
   n = Node.of(1); n.me = Node.of
B? Node.of(1) is n and n.me(1) is n

# in closures
A: import functools
   def make(k):
       @functools.cache
       def times(n): return [n * k]
       return times
   t2, t3 = make(2), make(3); x = t2(5), t3(5)
B? t2(5) is x[0] and t3(5) is x[1]
B: t2(5).append(1)
A? x[0] == [10, 1]

# a function that is defined again
A: import functools
   @functools.cache
   def f(n): return n + 1
   _ = f(1)
B? f(1) == 2
A: @functools.cache
   def f(n): return n + 2
B? f(1) == 3
B: _ = f(5)
A? f(5) == 7 and f.cache_info().currsize == 2

# that a result is used again is no change
A: import functools
   @functools.lru_cache(4)
   def sq(n): return n * n
   _ = [sq(i) for i in range(4)]
B? sq(0) == 0
B? sq(2) == 4 and sq.cache_info().misses == 4
A? sq(1) == 1 and sq.cache_info().misses == 4
B: _ = sq(10)
A? sq(10) == 100 and sq.cache_info().currsize == 4

# of equal arguments that a cache has apart
A: import functools
   @functools.cache
   def show(x): return repr(x)
   _ = show(1.0), show(1), show(0), show(False)
B? (show(1), show(1.0), show(0), show(False)) == ("1", "1.0", "0", "False")
A? (show(1), show(1.0), show(0), show(False)) == ("1", "1.0", "0", "False")

# apart by the types of arguments
A: import functools
   @functools.lru_cache(typed=True)
   def show(x, *rest, **named): return repr([x, *rest, named])
   told = [show(x) for x in (1, 1.0, True, "1")], show(1, 2.0, a=3), show(1.0, 2, a=3), show(1, b=True), show((1, 2))
B? show.cache_info() == (0, 8, 128, 8)
B? ([show(x) for x in (1, 1.0, True, "1")], show(1, 2.0, a=3), show(1.0, 2, a=3), show(1, b=True), show((1, 2))) == told
A? show.cache_info() == (8, 8, 128, 8) and show(1, b=1) == "[1, {'b': 1}]" and show.cache_info() == (8, 9, 128, 9)

# beside those that others can't have
A: import functools, enum
   class Kind(enum.Enum):
       one = 1
   class Number(int): pass
   class Owner: pass
   @functools.cache
   def items(owner): return f"text {owner}" * 3 if type(owner) is int else [owner]
   keys = [Owner(), Kind.one, Number(7), float("nan"), (1, Kind.one)]; own = [items(k) for k in keys]; _ = items(1)
B: _ = items(2)
A? all(items(k) is x for k, x in zip(keys, own)) and items.cache_info().currsize == 7
B: items.cache_clear(); _ = items(3)
A? all(items(k) is x for k, x in zip(keys, own)) and items.cache_info().currsize == 6
B: items.cache_clear()
A? items.cache_info().currsize == 0

# of a partial, with a list as attribute
A: import functools
   binary = functools.lru_cache(functools.partial(int, base=2)); binary.seen = [binary("1")]
B: binary.seen.append(binary("10"))
A? binary.seen == [1, 2]

# of a library's function
A: import functools, math, json
   root = functools.lru_cache(math.sqrt); dec = functools.lru_cache(json.loads)
   _ = root(4), dec("[1]")
B? root(4) == 2 and dec("[1]") == [1]
B? root(9) == 3

# with another decorator
A: import functools
   def logged(f):
       @functools.wraps(f)
       def inner(*a, **k): seen.append(a); return f(*a, **k)
       return inner
   seen = []
   @functools.lru_cache
   @logged
   def add(a, b=1): return a + b
   _ = add(1), add(2, b=5)
B? add(1) == 2 and add(2, b=5) == 7 and seen == [(1,), (2,)]
B: @logged
   @functools.cache
   def mul(a): return [a * 2]
   m = mul(4)
A? mul(4) is m and len(seen) == 4

# cleared elsewhere
A: import functools, sqlite3
   @functools.cache
   def both(n): return sqlite3.connect(":memory:") if n else [n]
   _ = both(0), both(1)
B? both(0) == [0] and both(1).execute("select 1") is not None
B: both.cache_clear()
A? both.cache_info().currsize == 0

# a thread calls it meanwhile
A: import functools, threading, time
   @functools.lru_cache(None)
   def slow(n): return [n * 2]
   stop = threading.Event(); wrong = []
   def loop():
       i = 1000
       while not stop.is_set():
           i += 1
           if slow(i) != [i * 2]: wrong.append(i)
           time.sleep(0.0005)
   t = threading.Thread(target=loop, daemon=True); t.start()
B: for i in range(50): slow(-i)
A? slow(-3) == [-6]
B: for i in range(50, 500): slow(-i)
A? slow(-400) == [-800] and wrong == []
A: stop.set(); t.join()
B? wrong == [] and slow(-499) == [-998]

# generators
A: import functools
   @functools.cache
   def g(n): return (i for i in range(n))
A: first = list(g(3))
A? first == [0, 1, 2] and list(g(3)) == []
B: 1
A? list(g(3)) == []
B: b = list(g(3))
A: z = list(g(3))
A? z == []
"""
)


@pytest.mark.parametrize("text", CACHES.values(), ids=CACHES)
def test_results_that_a_function_keeps_are_shared(story: Stories, text: str) -> None:
    story(text)


def test_hits_in_cells_that_run_at_once_add_up(story: Stories) -> None:
    story("""
        A: import functools
           @functools.cache
           def double(n): return n * 2
           _ = double(0)
        B? double(0) == 0
    """)
    first, second = story.at_once(A="double(0), double(1), double(1)", B="double(0), double(2), double(2)")
    assert (first.status, second.status, first.stderr + second.stderr) == ("ok", "ok", "")
    story("""
        A? double.cache_info() == (5, 3, None, 3)
        B? double.cache_info() == (5, 3, None, 3)
    """)


def test_coroutines_and_async_generators(story: Stories) -> None:
    story("""
        A: import asyncio
           async def fetch(n):
               await asyncio.sleep(0)
               return n * 2
           async def many(n):
               for i in range(n):
                   yield await fetch(i)
        B: values = [v async for v in many(3)]; one = await fetch(4)
        A? values == [0, 2, 4] and one == 8
    """)


def test_singledispatch_is_extended_elsewhere(story: Stories) -> None:
    story("""
        A: import functools
           @functools.singledispatch
           def kind(v): return "other"
        B: @kind.register
           def kind_of_list(v: list): return "list"
        A? kind([]) == "list" and kind(1) == "other"
    """)


def test_source_and_traceback_of_a_function_from_elsewhere(story: Stories) -> None:
    story("""
        A: def divide(a, b):
               # a comment in the source
               return a / b
           class Maker:
               def make(self): return divide(1, 0)
        B: import inspect
        B? "# a comment in the source" in inspect.getsource(divide)
        B? inspect.getsource(Maker.make).strip() == "def make(self): return divide(1, 0)"
    """)
    result = story.kernel.run("Maker().make()", story.subshell("B"))
    assert result.ename == "ZeroDivisionError"
    assert "return a / b" in result.traceback
    assert "# a comment in the source" in result.traceback
    source = story.kernel.run("divide??", story.subshell("B"))
    assert "a comment in the source" in str(source.content["payload"])


def test_classes_are_the_same_everywhere(story: Stories) -> None:
    story("""
        A: class Point:
               def __init__(self, x): self.x = x
               def __eq__(self, o): return type(o) is type(self) and o.x == self.x
               def __hash__(self): return hash(self.x)
           p = Point(1)
        B: q = Point(1); seen = {p}
        B? isinstance(p, Point) and type(p) is Point and p == q and q in seen and type(q) is type(p)
        A? isinstance(q, Point) and type(q) is Point and q == p and p in seen and issubclass(type(q), Point)
        A? Point.__module__ == "__main__" and Point.__qualname__ == "Point"
    """)


def test_inheritance_across_subshells(story: Stories) -> None:
    story("""
        A: class Animal:
               kinds = []
               def __init_subclass__(cls): Animal.kinds.append(cls.__name__)
               def speak(self): return f"I am {self.name()}"
        B: class Dog(Animal):
               def name(self): return "dog"
               def speak(self): return super().speak() + "!"
           rex = Dog()
        A? rex.speak() == "I am dog!" and isinstance(rex, Animal) and Dog.__mro__[1] is Animal
        A? Animal.kinds == ["Dog"] and Animal.__subclasses__() == [Dog]
        C: class Puppy(Dog): pass
        A? Puppy().speak() == "I am dog!" and Animal.kinds == ["Dog", "Puppy"] and issubclass(Puppy, Animal)
        B? Animal.kinds == ["Dog", "Puppy"] and issubclass(Puppy, Dog)
    """)


def test_a_redefined_class_and_its_old_instances(story: Stories) -> None:
    """As in one process: the old instance keeps the old class, new ones have the new one."""
    story("""
        A: class K:
               def v(self): return 1
           old = K()
        B? old.v() == 1
        B: class K:
               def v(self): return 2
        A? K().v() == 2 and old.v() == 1 and not isinstance(old, K)
        A: old.n = 5
        B? old.v() == 1 and old.n == 5 and K().v() == 2
        C? K().v() == 2 and old.v() == 1
    """)


def test_no_stale_revert(story: Stories) -> None:
    """An object that a subshell hasn't looked at for long doesn't bring back an older version of its class."""
    story("""
        A: class K:
               def v(self): return 1
           k, ks = K(), []
        B? k.v() == 1
        A: K.v = lambda self: 2
        B: ks.append(k)
        A? K.v(None) == 2 and k.v() == 2 and ks[0] is k
        C: ks.append(K())
        A? [k.v() for k in ks] == [2, 2]
        B: def f(): return 1
           fs = [f]
        A: def f(): return 2
        B: fs.append(1)
        A? f() == 2 and fs[0]() == 1
    """)


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ("K.m = lambda self: 'new'", "k.m() == 'new' and K().m() == 'new'"),
        ("K.added = property(lambda self: 5)", "k.added == 5"),
        ("K.count += 1", "K.count == 1 and k.count == 1"),
        ("K.log.append(1)", "K.log == [1] and k.log is K.log"),
        ("k.bump()", "K.count == 1"),
        ("setattr(K, 'made_up', 3)", "k.made_up == 3"),
        ("del K.m", "not hasattr(k, 'm')"),
        ("K.m.tag = 'x'", "K.m.tag == 'x'"),
        ("K.__doc__ = 'A class.'", "K.__doc__ == 'A class.'"),
        ("type(k).count = 7", "K.count == 7"),
    ],
)
def test_a_class_is_changed_in_place(story: Stories, change: str, check: str) -> None:
    story("""
        B: pass
        A: class K:
               count, log = 0, []
               def m(self): return "old"
               @classmethod
               def bump(cls): cls.count += 1
           k = K()
        B? k.m() == "old" and K.count == 0
    """)
    story.run("A", change)
    story.check("B", check)
    story.run("B", "K.marked = True")
    story.check("A", f"{check} and K.marked")


CLASSES = examples(r"""
# dataclass
import dataclasses
@dataclasses.dataclass(frozen=True, order=True)
class P:
    x: int
    y: list = dataclasses.field(default_factory=list)
p = P(1)
? p == P(1)
? p < P(2)
? dataclasses.asdict(p) == {'x': 1, 'y': []}
? dataclasses.replace(p, x=5).x == 5

# slotted dataclass
import dataclasses
@dataclasses.dataclass(slots=True)
class P:
    x: int
p = P(1)
? p == P(1) and type(p) is P and not hasattr(p, '__dict__')

# enum
import enum
class Color(enum.Enum):
    RED = 1
    BLUE = 2
c = Color.RED; by = {Color.BLUE: 'b'}
? c is Color.RED
? by[Color.BLUE] == 'b'
? Color(2) is Color.BLUE
? list(Color) == [Color.RED, Color.BLUE]

# flag
import enum
class F(enum.Flag):
    A = enum.auto()
    B = enum.auto()
f = F.A | F.B
? f is F.A | F.B and F.A in f

# named tuple
import collections
P = collections.namedtuple('P', 'x y')
p = P(1, 2)
? p == P(1, 2) and p.x == 1 and type(p) is P

# typed named tuple
import typing
class P(typing.NamedTuple):
    x: int = 0
    def twice(self): return self.x * 2
p = P(3)
? p.twice() == 6 and type(p) is P

# abstract class
import abc
class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...
class Square(Shape):
    def area(self): return 4
s = Square()
? s.area() == 4
? isinstance(s, Shape)
? Shape.__abstractmethods__ == {'area'}
? Square() is not s

# registered with an abstract class
import collections.abc
class K:
    pass
class Shape(collections.abc.Sized): pass
Shape.register(K); k = K()
? isinstance(k, Shape) and issubclass(K, Shape)

# metaclass
class Meta(type):
    def __len__(cls): return 3
class K(metaclass=Meta): pass
k = K()
? len(K) == 3 and type(K) is Meta and type(k) is K

# generic
import typing
T = typing.TypeVar('T')
class Box(typing.Generic[T]):
    def __init__(self, v): self.v = v
b = Box[int](3)
? b.v == 3 and isinstance(b, Box) and Box[int].__origin__ is Box

# protocol
import typing
@typing.runtime_checkable
class Closes(typing.Protocol):
    def close(self): ...
class K:
    def close(self): ...
k = K()
? isinstance(k, Closes)

# typed dict
import typing
class Row(typing.TypedDict):
    a: int
row = Row(a=1)
? row == {'a': 1} and Row.__annotations__ == {'a': int}

# exception
class MyError(ValueError):
    def __init__(self, code, *, hint): super().__init__(code); self.code, self.hint = code, hint
error = MyError(5, hint='h')
? error.code == 5
? error.hint == 'h'
? isinstance(error, MyError)
? isinstance(error, ValueError)

# cached property
import functools
class K:
    runs = 0
    @functools.cached_property
    def v(self):
        type(self).runs += 1
        return [self.n]
    def __init__(self, n): self.n = n
k = K(4); k.v
? k.v == [4] and k.v is k.v and K(5).v == [5]

# property, static and class methods
class K:
    @property
    def p(self): return self._p
    @p.setter
    def p(self, v): self._p = v
    @staticmethod
    def s(): return 's'
    @classmethod
    def c(cls): return cls
k = K(); k.p = 3
? k.p == 3 and K.s() == 's' and k.c() is K

# descriptor
class Positive:
    def __set_name__(self, owner, name): self.name = '_' + name
    def __get__(self, o, t=None): return self if o is None else getattr(o, self.name)
    def __set__(self, o, v): setattr(o, self.name, abs(v))
class K:
    n = Positive()
k = K(); k.n = -5
? k.n == 5 and K.n.name == '_n'

# slots with inheritance
class A_:
    __slots__ = ('a',)
class B_(A_):
    __slots__ = ('b', '__dict__')
k = B_(); k.a, k.b, k.c = 1, 2, 3
? (k.a, k.b, k.c) == (1, 2, 3)

# nested class
class Outer:
    class Inner:
        v = 5
k = Outer.Inner()
? type(k) is Outer.Inner and k.v == 5

# local class
def make():
    class Local:
        v = 5
    return Local
L = make(); k = L()
? type(k) is L and k.v == 5

# made by type()
K = type('K', (), {'v': 5}); k = K()
? type(k) is K and k.v == 5

# subclass of int
class Metres(int):
    def __add__(self, o): return Metres(int(self) + o)
m = Metres(3)
? type(m + 1) is Metres and m + 1 == 4

# subclass of str
class Tag(str): pass
t = Tag('x'); t.note = 'n'
? t == 'x' and t.note == 'n' and type(t) is Tag

# own pickling
class K:
    def __init__(self, v): self.v = v
    def __getstate__(self): return {'v': self.v}
    def __setstate__(self, s): self.v = s['v']
k = K([1])
? k.v == [1]

# singleton
class One:
    _it = None
    def __new__(cls):
        cls._it = cls._it or super().__new__(cls)
        return cls._it
one = One()
? One() is one and One._it is one

# __getattr__ that needs what is not there yet
class Proxy:
    def __init__(self, target): object.__setattr__(self, '_target', target)
    def __getattr__(self, name): return getattr(self._target, name)
    def __setattr__(self, name, value): setattr(self._target, name, value)
class Target: pass
target = Target(); target.a = 1; proxy = Proxy(target); proxy.b = 2
? proxy.a == 1 and proxy._target is target and target.b == 2

# __new__ that wants arguments
class Money(float):
    def __new__(cls, amount, currency):
        money = super().__new__(cls, amount); money.currency = currency
        return money
class Pair:
    def __new__(cls, a, b):
        pair = super().__new__(cls); pair.ab = a, b
        return pair
money, pair = Money(3.5, 'EUR'), Pair(1, 2)
? (money, money.currency, type(money)) == (3.5, 'EUR', Money) and (pair.ab, type(pair)) == ((1, 2), Pair)

# mock
from unittest.mock import Mock, MagicMock
m = Mock(return_value=3); m(1, a=2); mm = MagicMock(); mm.a.b.return_value = 7
? m.call_args.kwargs == {'a': 2} and m.return_value == 3 and mm.a.b() == 7

# lock
import threading
class Account:
    def __init__(self): self.lock, self.money = threading.Lock(), 0
    def pay(self, n):
        with self.lock: self.money += n
        return self.money
account = Account()
? account.pay(1) >= 1 and not account.lock.locked()

# new type
from typing import NewType
UserId = NewType('UserId', int)
? UserId(5) == 5 and UserId.__name__ == 'UserId'

# operators
class V:
    def __init__(self, x): self.x = x
    def __matmul__(self, o): return self.x * o.x
    def __getitem__(self, i): return i
    def __contains__(self, i): return True
    def __iter__(self): yield self.x
v = V(3)
? v @ v == 9 and v[1:2] == slice(1, 2) and 5 in v and list(v) == [3]
""")


@pytest.mark.parametrize(("definition", "check"), CLASSES.values(), ids=CLASSES)
def test_a_class_works_elsewhere(story: Stories, definition: str, check: str) -> None:
    story.run("B", "pass")
    story.run("A", definition)
    story.check("B", check)
    story.run("B", "made_in_b = [1]")
    story.check("A", check)


def test_a_cached_value_is_shared(story: Stories) -> None:
    story("""
        A: import functools
           class K:
               @functools.cached_property
               def v(self): return [1]
           k = K()
        B: k.v.append(2)
        A? k.v == [1, 2]
    """)


def test_isinstance_in_both_directions_after_edits(story: Stories) -> None:
    """The class is edited and run again in one subshell while the other makes instances."""
    story("""
        A: class Job:
               def __init__(self): self.state = "new"
           jobs = [Job()]
        B: jobs.append(Job())
        A: class Job(Job):
               def done(self): self.state = "done"
           jobs.append(Job())
        B: jobs[2].done()
        A? [j.state for j in jobs] == ["new", "new", "done"]
        B? [isinstance(j, Job) for j in jobs] == [False, False, True]
    """)


def test_exceptions_travel_with_their_cause(story: Stories) -> None:
    story("""
        A: class Broken(Exception): pass
           try:
               try:
                   {}["k"]
               except KeyError as e:
                   raise Broken("outer") from e
           except Broken as e:
               caught = e
        B? isinstance(caught, Broken) and isinstance(caught.__cause__, KeyError) and caught.args == ("outer",)
        B! Broken: raise caught
    """)


def test_exceptions_travel_with_their_traceback(story: Stories) -> None:
    story("""
        A: import traceback
           def ratio(n): return 1 / n
           errors = []
           for work in (lambda: ratio(0), lambda: open("is/not/there"), lambda: [].gone):
               try: work()
               except Exception as e: errors.append(e)
           told = ["".join(traceback.format_exception(e)) for e in errors]
           where = errors[0].__traceback__
        B? ["".join(traceback.format_exception(e)) for e in errors] == told
        B? "return 1 / n" in told[0] and traceback.extract_tb(where)[-1].name == "ratio"
        B: errors[0].add_note("seen by B"); errors[1].seen = True
        A? errors[0].__notes__ == ["seen by B"] and errors[1].seen
        A? errors[0].__traceback__.tb_next.tb_next.tb_frame.f_locals == {"n": 0}
    """)
    result = story.kernel.run("raise errors[0]", story.subshell("B"))
    assert "def ratio(n): return 1 / n" in result.traceback


def test_what_members_of_an_enum_have_in_attributes(story: Stories) -> None:
    story("""
        A: import enum
           class E(enum.Enum):
               A = 1
               B = 2
               def __init__(self, n): self.count = 0
               def hit(self): self.count += 1
           E.A.hit()
        B: E.A.hit()
        A? E.A.count == 2
        B: E.B.tag = [3]
        A? E.B.tag == [3]
        A: E.B.tag.append(4); E.A.hit()
        B? E.B.tag == [3, 4] and E.A.count == 3 and E.A is E(1)
    """)


def test_a_sentinel_that_says_its_name_when_it_is_pickled(story: Stories) -> None:
    story("""
        A: class S:
               def __init__(self, name): self.name = name
               def __reduce__(self): return self.name
           SING = S('SING'); opts = {'x': SING, 'y': 1}
        B? opts['x'] is SING and opts['y'] == 1 and type(SING) is S
        B: opts['z'] = SING
        A? opts['z'] is SING and opts['x'] is SING
    """)


def test_lists_and_dicts_that_tell_something_else_than_what_they_have(story: Stories) -> None:
    story("""
        A: class Rows(list):
               def __iter__(self): return iter(enumerate(list.__iter__(self)))
           class Stream(list):
               def __iter__(self):
                   while len(self): yield self.pop(0)
           class Lazy(dict):
               def items(self): return [(k, v()) for k, v in dict.items(self)]
           r = Rows(['a', 'b']); s = Stream([1, 2]); z = Lazy(a=lambda: 5)
        B: r.append('c'); s.append(3); z['b'] = lambda: 6
        A? r[0] == 'a' and len(r) == 3 and len(s) == 3 and s[0] == 1 and z['a']() == 5 and z['b']() == 6
        B? r[0] == 'a' and len(s) == 3 and z['a']() == 5
    """)
