"""What classes and functions hold - class attributes, default arguments, closures - is one object with variables."""

from __future__ import annotations

import pytest

from .stories import Stories, blocks, needs_numpy, needs_pydantic

STORIES = blocks(r"""
# class registry holds its instances
A: class Reg:
       items = []
       def __init__(self, n): self.n = n; Reg.items.append(self)
   r = Reg(1)
B? Reg.items[0] is r
B: r.n = 5
A? Reg.items[0].n == 5 and Reg.items[0] is r
B? Reg.items[0].n == 5
B: s = Reg(2)
A? Reg.items[1] is s and len(Reg.items) == 2

# singleton by __new__
A: class Single:
       _inst = None
       def __new__(cls):
           if cls._inst is None: cls._inst = super().__new__(cls)
           return cls._inst
   s = Single(); s.v = 1
B? Single() is s
B: Single().v = 2
A? s.v == 2 and Single() is s

# default argument is a variable
A: cache = {}
   def f(x, c=cache):
       c[x] = x * 2
       return c
   _ = f(1)
B: r = f(2)
B? cache == {1: 2, 2: 4} and r is cache
A? cache == {1: 2, 2: 4} and f(1) is cache

# function attribute
A: def f():
       f.calls.append(1)
       return len(f.calls)
   f.calls = []
   calls = f.calls
   n = f()
B: n = f()
B? n == 2 and calls == [1, 1] and f.calls is calls
A? calls == [1, 1] and f() == 3

# memo decorator with visible cache
A: def memo(fn):
       cache = {}
       def w(x):
           if x not in cache: cache[x] = fn(x)
           return cache[x]
       w.cache = cache
       return w
   @memo
   def sq(x): return x * x
   _ = sq(3)
B: y = sq(4)
B? sq.cache == {3: 9, 4: 16}
A? sq.cache == {3: 9, 4: 16} and sq(4) == 16

# weak instances
A: import weakref
   class W:
       live = weakref.WeakSet()
       def __init__(self): W.live.add(self)
   w = W()
B? len(W.live) == 1 and w in W.live
B: w2 = W()
A? len(W.live) == 2 and w2 in W.live

# observer with bound methods
A: class Bus:
       handlers = []
       @classmethod
       def fire(cls, x):
           for h in cls.handlers: h(x)
   class L:
       def __init__(self): self.got = []
       def on(self, x): self.got.append(x)
   l = L(); Bus.handlers.append(l.on)
B: Bus.fire(3)
A? l.got == [3]
B? l.got == [3]
A: Bus.fire(4)
B? l.got == [3, 4]

# attribute replaced by a variable
A: class Reg: items = []
   r = Reg()
B: other = [1]; Reg.items = other
A? Reg.items is other and r.items == [1]
A: other.append(2)
B? Reg.items == [1, 2] and Reg.items is other

# attribute deleted
A: class Reg: items = []
   r = Reg()
B: del Reg.items
A? not hasattr(Reg, 'items')
A: Reg.items = {'a': r}
B? Reg.items['a'] is r

# none to list to none
A: class P: cur = None
B: P.cur = P()
A: P.cur.x = 1
B? P.cur.x == 1
B: p = P.cur
A? P.cur is p
A: P.cur = None
B? P.cur is None and p.x == 1
B: P.cur = p
A? P.cur is p

# subclass and base share
A: class Base: reg = {}
   class Sub(Base): pass
   b, s = Base(), Sub()
B: Sub.reg['x'] = s
A? Base.reg['x'] is s and Sub.reg is Base.reg
A: class Sub2(Base): reg = dict(Base.reg)
B? Sub2.reg['x'] is s and Sub2.reg is not Base.reg

# redefinition with old instances
A: class R: items = []
   r = R(); R.items.append(r)
B: old = R
A: class R:
       items = ['new']
   n = R()
B? old.items[0] is r and R.items == ['new'] and type(r) is old
B: R.items.append(n); old.items.append('more')
A? R.items[1] is n and type(r).items == [r, 'more']

# dataclass with a registry
A: from dataclasses import dataclass, field
   from typing import ClassVar
   @dataclass
   class User:
       name: str
       tags: list = field(default_factory=list)
       all: ClassVar[dict] = {}
       def __post_init__(self): User.all[self.name] = self
   u = User('ann')
B: v = User('bob'); u.tags.append('x')
A? User.all == {'ann': u, 'bob': v} and User.all['ann'] is u and u.tags == ['x'] and User.all['bob'] is v
A: User.all['bob'].tags.append('y')
B? v.tags == ['y']

# method closure counter
A: def counted(fn):
       calls = []
       def w(self, *a):
           calls.append(fn.__name__)
           return fn(self, *a)
       w.calls = calls
       return w
   class S:
       @counted
       def go(self): return len(S.go.calls)
   s = S(); s.go()
B? s.go() == 2
A? S.go.calls == ['go', 'go'] and s.go() == 3
B? s.go() == 4

# super and closures in methods
A: class Base:
       log = []
       def __init__(self, n): self.n = n; self.log.append(n)
   class Sub(Base):
       def __init__(self, n): super().__init__(n * 10)
   a = Sub(1)
B: b = Sub(2)
A? Base.log == [10, 20] and Sub.log is Base.log and b.n == 20

# list with a lock and a generator in class attribute
A: import threading
   class C: stuff = [threading.Lock(), (i for i in range(3)), 5]
   c = C()
B: C.stuff.append(6)
A? C.stuff[3] == 6 and next(C.stuff[1]) == 0 and C.stuff[0].acquire(blocking=False)

# default arguments of methods
A: class Acc:
       def add(self, x, seen=[]):
           seen.append(x); return list(seen)
   a = Acc(); r1 = a.add(1)
B: r2 = a.add(2)
A? a.add(3) == [1, 2, 3]
B? r2 == [1, 2]

# keyword default
A: box = {}
   def f(k, *, box=box, n=3):
       box[k] = n
B: f('a'); f('b', n=4)
A? box == {'a': 3, 'b': 4}
B? f.__kwdefaults__['box'] is box

# lambda default captures
A: xs = [1, 2]
   fs = [lambda i=i, xs=xs: xs.append(i) for i in range(3)]
B: [f() for f in fs] and None
A? xs == [1, 2, 0, 1, 2]

# callbacks list in closure and variable
A: handlers = []
   def on(fn, hs=handlers): hs.append(fn); return fn
   @on
   def a(x): return x + 1
B: @on
   def b(x): return x * 2
A? [h(5) for h in handlers] == [6, 10] and handlers[1] is b
B? [h(5) for h in handlers] == [6, 10] and handlers[0] is a

# class decorator registry
A: REG = {}
   def register(cls): REG[cls.__name__] = cls; cls.registry = REG; return cls
   @register
   class A1: pass
B: @register
   class B1: pass
A? REG == {'A1': A1, 'B1': B1} and A1.registry is REG and B1.registry is REG
B? REG == {'A1': A1, 'B1': B1} and A1.registry is REG and B1.registry is REG

# metaclass registry
A: class Meta(type):
       reg = {}
       def __new__(m, name, bases, ns):
           c = super().__new__(m, name, bases, ns); m.reg[name] = c; return c
   class X(metaclass=Meta): pass
B: class Y(X): pass
A? Meta.reg == {'X': X, 'Y': Y}
B? Meta.reg == {'X': X, 'Y': Y}

# descriptor with state
A: class Typed:
       def __init__(self): self.data = {}
       def __set_name__(self, o, n): self.n = n
       def __get__(self, obj, t=None): return self if obj is None else self.data.get(id(obj) and obj.key)
       def __set__(self, obj, v): self.data[obj.key] = v
   class Rec:
       val = Typed()
       def __init__(self, key): self.key = key
   r = Rec('k'); r.val = 5
B? r.val == 5
B: r.val = 6
A? r.val == 6 and Rec.val.data == {'k': 6}

# flyweight by new with args
A: class Fly:
       pool = {}
       def __new__(cls, k):
           if k not in cls.pool:
               o = super().__new__(cls); o.k = k; cls.pool[k] = o
           return cls.pool[k]
   a = Fly('a')
B: x = Fly('a'); y = Fly('b')
A? x is a and Fly('b') is y and len(Fly.pool) == 2
B? Fly('a') is a and x is a

# stack machine in closures
A: def make():
       stack = []
       def push(x): stack.append(x)
       def pop(): return stack.pop()
       def peek(): return stack[-1]
       return push, pop, peek
   push, pop, peek = make()
   push(1); push(2)
B: t = pop(); push(9)
A? t == 2 and peek() == 9
A: push(10)
B? pop() == 10 and pop() == 9 and pop() == 1

# the attributes of an instance, as a dict
A: class Config:
       def __init__(self): self.rate = 0.1
   config = Config(); options = vars(config); other = Config(); of_others = [vars(other)]
B: options["rate"] = 0.5; options.update(steps=3); of_others[0]["x"] = 1
B? config.rate == 0.5 and config.steps == 3 and other.x == 1
A? config.rate == 0.5 and options is config.__dict__ and of_others[0] is vars(other) and other.x == 1
A: config.more = 4; del config.steps
B? options == {"rate": 0.5, "more": 4} and vars(config) is options

# functions of one closure, one an attribute of the other
A: def memo(f):
       kept = {}
       def inner(x): return kept.setdefault(x, f(x))
       inner.clear = lambda: kept.clear()
       inner.kept = kept
       return inner
   @memo
   def square(x): return x * x
   _ = square(2)
B? square.kept == {2: 4}
B: square(3); square.clear()
A? square(4) == 16 and square.kept == {4: 16}
A: square.clear()
B? square.kept == {}

# a number that functions of one closure count
A: def make():
       n = 0
       def bump():
           nonlocal n
           n += 1
           return n
       def now(): return n
       now.bump = lambda: bump()
       return now
   now = make()
B? now.bump() == 1 and now() == 1
A? now.bump() == 2 and now() == 2
B? now() == 2

# functions of one closure that refer to each other
A: def make():
       count = [0]
       def one(): count[0] += 1; return count[0]
       def two(): return one() + 10
       one.other, two.other = two, one
       return one
   one = make()
B? (one(), one.other(), one.other.other()) == (1, 12, 3) and one.other.other is one
A? one() == 4

# monkeypatch with shared dict
A: data = {'n': 0}
   class T: pass
   t = T()
B: def bump(self, d=data): d['n'] += 1
   T.bump = bump
   t.bump()
A: t.bump()
B? data == {'n': 2}
A? data == {'n': 2} and T.bump.__defaults__[0] is data

# lru cache attributes
A: import functools
   hits = []
   @functools.lru_cache(None)
   def sq(x): hits.append(x); return x * x
   sq.log = hits
   sq(3)
B: sq(4)
A? 4 in hits and sq.log is hits

# later subshell
A: class Reg: items = []
   r = Reg(); Reg.items.append(r)
C? Reg.items[0] is r
C: r.z = 3; q = Reg(); Reg.items.append(q)
B? Reg.items == [r, q] and r.z == 3
D? Reg.items[0] is r and Reg.items[1] is q

# singledispatch with state
A: import functools
   seen = []
   @functools.singledispatch
   def show(x, seen=seen): seen.append(('obj', x)); return 'obj'
   @show.register
   def _i(x: int, seen=seen): seen.append(('int', x)); return 'int'
B: a = show(1); b = show('s')
A? seen == [('int', 1), ('obj', 's')] and a == 'int'

# class attribute holds function with state
A: def mk():
       n = [0]
       def f(): n[0] += 1; return n[0]
       return f
   f = mk()
   class H: hook = staticmethod(f)
   f()
B? H.hook() == 2
A? f() == 3 and H.hook is f
B? H.hook is f and f() == 4

# exception class with registry
A: class E(Exception):
       raised = []
       def __init__(self, m): super().__init__(m); E.raised.append(m)
   try: raise E('a')
   except E as e: err = e
B: try: raise E('b')
   except E: pass
A? E.raised == ['a', 'b'] and isinstance(err, E)

# abstract plugin
A: from abc import ABC, abstractmethod
   class Plugin(ABC):
       plugins = []
       def __init_subclass__(cls, **k): super().__init_subclass__(**k); Plugin.plugins.append(cls())
       @abstractmethod
       def run(self): ...
   class P1(Plugin):
       def run(self): return 1
B: class P2(Plugin):
       def run(self): return 2
A? [p.run() for p in Plugin.plugins] == [1, 2]
A: first = Plugin.plugins[0]
B? Plugin.plugins[0] is first and type(first) is P1

# enum with mutable attribute
A: from enum import Enum
   class Col(Enum):
       RED = 1
       BLUE = 2
   Col.names = []
   Col.names.append('r')
B: Col.names.append('b')
A? Col.names == ['r', 'b'] and Col.RED is Col(1)

# dispatcher within a class
A: import functools
   seen = []
   class V:
       log = []
       @functools.singledispatchmethod
       def visit(self, x): V.log.append(('obj', x)); return 'obj'
       @visit.register
       def _(self, x: int): V.log.append(('int', x)); return 'int'
   @functools.singledispatch
   def kind(x): return 'obj'
   @kind.register
   def _i(x: list): return 'list'
   class U:
       def go(self, x, f=kind): return f(x)
   v = V(); u = U(); del _i
B? v.visit(1) == 'int' and v.visit('s') == 'obj' and u.go([]) == 'list'
A? V.log == [('int', 1), ('obj', 's')] and v.visit(2) == 'int'
B: kind.register(dict)(lambda x: 'dict') and None
A? u.go({}) == 'dict' and kind({}) == 'dict'

# class made in a function, with state in its closure
A: def make(name):
       made = []
       class Made:
           def __init__(self): made.append(self)
           def count(self): return len(made)
       Made.__name__ = Made.__qualname__ = name
       return Made
   K1 = make('K1'); K2 = make('K2'); a = K1()
B: b = K1(); c = K2()
A? a.count() == 2 and c.count() == 1 and b.count() == 2
B? a.count() == 2 and c.count() == 1

# properties that share a cache in a closure
A: def cached(fn):
       cache = {}
       @property
       def get(self):
           if id(self) not in cache: cache[self.k] = fn(self)
           return cache[self.k]
       get_cache[fn.__name__] = cache
       return get
   get_cache = {}
   class P:
       def __init__(self, k): self.k = k
       @cached
       def value(self): return self.k * 2
   p = P(3); p.value
B: q = P(4); q.value
A? get_cache['value'] == {3: 6, 4: 8} and P(4).value == 8

# undo stack with lambdas over shared state
A: state = {'n': 0}; undo = []
   def do(k, v):
       old = state.get(k)
       undo.append(lambda: state.__setitem__(k, old))
       state[k] = v
   do('n', 5)
B: do('n', 7); undo.pop()()
A? state == {'n': 5}
A: undo.pop()()
B? state == {'n': 0} and undo == []
""")

# As above, with numpy.
ARRAYS = blocks(r"""
# class attribute numpy
A: import numpy as np
   class Net:
       w = np.zeros(3)
   w = Net.w
B: w += 1
B? Net.w.sum() == 3
A? Net.w is w and Net.w.sum() == 3

# big array in class
A: import numpy as np
   class W: w = np.zeros(300000)
   w = W.w; v = w[:10]
B: W.w[3] = 1
A? v[3] == 1 and np.shares_memory(v, W.w) and w is W.w
B? v[3] == 1 and np.shares_memory(v, W.w)
""")


@pytest.mark.parametrize("text", STORIES.values(), ids=STORIES)
def test_it_is_one_object(story: Stories, text: str) -> None:
    story(text)


@needs_numpy
@pytest.mark.parametrize("text", ARRAYS.values(), ids=ARRAYS)
def test_an_array_is_one_object(story: Stories, text: str) -> None:
    story(text)


@needs_pydantic
def test_a_list_in_the_class_of_a_pydantic_model(story: Stories) -> None:
    story("""
        A: from pydantic import BaseModel
           from typing import ClassVar
           class M(BaseModel):
               reg: ClassVar[list] = []
               x: int = 0
               tags: list = []
           m = M(x=1); M.reg.append(m)
        B: M.reg[0].tags.append('t')
        A? m.tags == ['t'] and M.reg[0] is m
        B: m.x = 5
        A? M.reg[0].x == 5
    """)


def test_instances_that_have_one_dict_of_attributes(story: Stories) -> None:
    story("""
        A: class Borg:
               _shared = {}
               def __init__(self): self.__dict__ = self._shared
           a = Borg(); a.x = 1
        B: b = Borg(); b.y = 2
        A? a.y == 2 and b.x == 1
        A: a.z = 3
        B? b.z == 3 and a.__dict__ is Borg._shared
    """)


def test_what_holds_a_list_of_a_class_by_a_private_name_sees_its_news(story: Stories) -> None:
    story("""
        A: class Reg: items = []
           r = Reg()
        B: _held = Reg.items
        A: Reg.items.append(1)
        B? _held == [1] and Reg.items is _held
    """)


def test_a_crash_takes_nothing_of_it(story: Stories) -> None:
    story("""
        A: class Reg: items = []
           r = Reg(); Reg.items.append(r)
        B: Reg.items[0].n = 1
        B! WorkerDied: import os; os._exit(3)
        B? Reg.items[0] is r and r.n == 1
        B: Reg.items.append('back')
        A? Reg.items == [r, 'back']
    """)


def test_a_class_in_a_snapshot_has_lists_of_its_own(story: Stories) -> None:
    story("""
        A: class Reg: items = []
           r = Reg(); Reg.items.append(r)
    """)
    reply = story.kernel.control("create_subshell_request", {"mode": "snapshot"})
    snapshot = str(reply.content["subshell_id"])
    assert story.kernel.value("Reg.items[0] is r", snapshot) is True
    story.kernel.run("Reg.items.append(2)", snapshot)
    story.kernel.delete_subshell(snapshot)
    story.check("A", "Reg.items == [r]")
