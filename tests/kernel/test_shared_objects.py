"""What is one object stays one object, and what holds it sees its news: it is patched, not replaced."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from .driver import Kernel
from .stories import Stories, blocks, examples, needs_numpy, needs_pandas


def test_two_names_of_one_list(story: Stories) -> None:
    story("""
        A: x = y = [1]
        B? x is y
        B: x.append(2)
        A? y == [1, 2] and x is y
        A: y.append(3)
        B? x == [1, 2, 3] and x is y
    """)


def test_an_alias_made_in_a_later_cell(story: Stories) -> None:
    story("""
        A: x = [1]
        B? x == [1]
        A: y = x
        B? y is x
        A: x.append(2)
        B? y == [1, 2] and y is x
    """)


def test_an_alias_made_in_another_subshell(story: Stories) -> None:
    story("""
        A: x = [1]
        B: y = x
        A: x.append(2)
        B? y == [1, 2] and y is x
        A? y is x
        A: y.append(3)
        C? x == [1, 2, 3] and y is x
    """)


def test_an_alias_is_cut(story: Stories) -> None:
    story("""
        A: x = y = [1]
        B: x = list(x)
        A: x.append(2)
        B? x == [1, 2] and y == [1] and x is not y
    """)


def test_aliases_of_aliases_in_three_subshells(story: Stories) -> None:
    story("""
        A: x = {"rows": []}
        B: rows = x["rows"]
        C: last = [rows, x]
        A: x["rows"].append(1)
        B: rows.append(2)
        C: last[0].append(3)
        A? rows is x["rows"] and last[0] is rows and last[1] is x and rows == [1, 2, 3]
        B? rows is x["rows"] and last[0] is rows and last[1] is x and rows == [1, 2, 3]
    """)


def test_an_object_and_what_contains_it(story: Stories) -> None:
    story("""
        A: class Node: pass
           node = Node(); node.n = 1
           table = {"first": node}; items = [node, table]; pair = (node,)
        B? table["first"] is node and items[0] is node and items[1] is table and pair[0] is node
        B: table["first"].n = 2; table["second"] = node
        A? node.n == 2 and items[1]["second"] is node and len({id(n) for n in [*pair, *table.values()]}) == 1
    """)


def test_an_element_moves_from_one_container_to_another(story: Stories) -> None:
    story("""
        A: todo, done, one = [["a"], ["b"]], [], None
        B: one = todo.pop(0); done.append(one)
        A? todo == [["b"]] and done == [["a"]] and done[0] is one
        A: one.append("more"); todo.append(one)
        B? done[0] is todo[1] is one and one == ["a", "more"]
    """)


def test_objects_that_contain_themselves(story: Stories) -> None:
    story("""
        A: x = [1]; x.append(x)
           d = {}; d["self"] = d
           class Tree:
               def __init__(self, parent=None):
                   self.parent, self.children = parent, []
                   if parent: parent.children.append(self)
           root = Tree(); leaf = Tree(Tree(root))
        B? x[1] is x and d["self"] is d and leaf.parent.parent is root and root.children[0].children[0] is leaf
        B: x.append(2); d["more"] = x; Tree(leaf)
        A? x[2] == 2 and x[1] is x and d["self"]["more"] is x and leaf.children[0].parent is leaf
    """)


def test_a_set_of_instances_and_a_dict_by_instance(story: Stories) -> None:
    story("""
        A: class Node: pass
           a, b = Node(), Node()
           group, names = {a, b}, {a: "a", b: "b"}
        B? a in group and names[a] == "a" and names[b] == "b"
        B: group.discard(a); names[a] = "A"
        A? group == {b} and names[a] == "A" and len(names) == 2
    """)


@needs_numpy
def test_views_share_memory(story: Stories) -> None:
    story("""
        A: import numpy as np
           a = np.zeros((100, 200)); row, column, turned, flat = a[3], a[:, 5], a.T, a.reshape(-1)
        B? all(np.shares_memory(a, view) for view in (row, column, turned, flat))
        B: row[5] = 1; column[0] = 2
        A? a[3, 5] == 1 and a[0, 5] == 2 and flat[605] == 1 and turned[5, 3] == 1
        A: flat[:] = 7
        B? (a == 7).all() and (row == 7).all() and np.shares_memory(a, row)
    """)


@needs_numpy
def test_views_made_elsewhere_and_of_temporary_arrays(story: Stories) -> None:
    story("""
        A: import numpy as np; a = np.arange(10.0)
        B: tail = a[5:]
        A: a[9] = -1
        B? tail[-1] == -1 and np.shares_memory(a, tail)
        C: tail[0] = -5
        A? a[5] == -5 and np.shares_memory(a, tail)
        A: whole = np.arange(8); first, second = whole[:4], whole[2:]; del whole
        B? np.shares_memory(first, second)
        B: both = [first]; del first
        A: second[0] = 9
        B? both[0][2] == 9 and np.shares_memory(both[0], second)
    """)


@needs_numpy
def test_an_array_in_a_file_is_in_that_file_for_all(story: Stories) -> None:
    story("""
        A: import numpy as np
           part = np.memmap("part.dat", dtype="i4", mode="w+", shape=(3, 4), offset=16)
           row = part[1]; column = np.asarray(part)[:, 1]
        B: row[0] = 5; column[2] = 6
        A? part[1, 0] == 5 and part[2, 1] == 6
        A: part[0, 0] = 7
        B? part[0, 0] == 7 and type(row) is np.memmap and type(column) is np.ndarray
        B: part.flush()
        C? np.fromfile("part.dat", "i4")[4:].tolist() == part.ravel().tolist() == [7, 0, 0, 0, 5, 0, 0, 0, 0, 6, 0, 0]
    """)


@needs_numpy
def test_an_array_in_a_file_that_is_only_read_or_copied_on_write(story: Stories) -> None:
    story("""
        A: import numpy as np
           np.arange(4.0).tofile("four.dat")
           read = np.memmap("four.dat", mode="r"); copied = np.memmap("four.dat", mode="c", dtype=float)
           copied[0] = 9
        B? copied[0] == 9 and read.mode == "r"
        B! ValueError: read[0] = 1
        B: copied[1] = 8
        A? copied.tolist() == [9, 8, 2, 3] and np.fromfile("four.dat").tolist() == [0, 1, 2, 3]
    """)


@needs_numpy
def test_an_array_is_patched_for_what_holds_it(story: Stories) -> None:
    story("""
        A: import numpy as np; a = np.zeros(50_000)
        B: _held = {"array": a, "view": a[10:20]}
           def total(): return float(_held["array"].sum())
        A: a[15] = 3
        B? total() == 3 and _held["view"][5] == 3 and _held["array"] is a
    """)


@needs_pandas
def test_frames_in_containers_and_aliases(story: Stories) -> None:
    story("""
        A: import pandas as pd
           f = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}); same = f; frames = {"f": f}
        B? same is f and frames["f"] is f
        B: frames["f"]["c"] = [3, 4]
        A? list(same.columns) == ["a", "b", "c"] and same is f
        A: f.loc[0, "a"] = 9
        B? int(frames["f"].loc[0, "a"]) == 9
    """)


# What B holds of A's `x`, how A changes it, and what B sees by way of what it holds.
HOLDERS = examples("""
# private name
_held = x
? _held == [1, 2]

# closure
def make(a):
    return lambda: a
get = make(x)
? get() == [1, 2] and get() is x

# default argument
def get(a=x): return a
? get() == [1, 2] and get() is x

# bound method
add = x.append
? add.__self__ == [1, 2] and add.__self__ is x

# partial
import functools; count = functools.partial(len, x)
? count() == 2

# instance
class Plot:
    def __init__(self, d): self.d = d
plot = Plot(x)
? plot.d == [1, 2] and plot.d is x

# class attribute
class Plot:
    data = x
? Plot.data == [1, 2] and Plot.data is x

# global of a module
import json; json.held = x
? json.held == [1, 2] and json.held is x

# waiting generator
def g():
    yield
    yield list(x_)
x_ = x; _held = g(); next(_held)
? next(_held) == [1, 2]

# method of an instance
class Plot:
    def __init__(self, d): self.d = d
    def draw(self): return len(self.d)
draw = Plot(x).draw
? draw() == 2

# dict view
table = {'x': x}; _held = table.values()
? list(_held) == [[1, 2]]
""")


@pytest.mark.parametrize(("hold", "check"), HOLDERS.values(), ids=HOLDERS)
def test_news_reach_what_holds_the_object(story: Stories, hold: str, check: str) -> None:
    story("A: x = [1]\nB? x == [1]")
    story.run("B", hold)
    story.run("A", "x.append(2)")
    story.check("B", check)


# The same for other kinds: B holds `x` under a private name.
PATCHED = {
    "dict": ("x = {'a': 1}", "x['b'] = 2; del x['a']", "_held == {'b': 2}"),
    "set": ("x = {1}", "x.add(2)", "_held == {1, 2}"),
    "deque": ("from collections import deque; x = deque([1], 5)", "x.append(2)", "list(_held) == [1, 2]"),
    "defaultdict": ("from collections import defaultdict; x = defaultdict(int)", "x['a'] += 1", "_held == {'a': 1}"),
    "bytearray": ("x = bytearray(b'a')", "x += b'b'", "_held == b'ab'"),
    "instance": ("class K: pass\nx = K(); x.a = 1", "x.b = 2; del x.a", "vars(_held) == {'b': 2}"),
    "slots": ("class K: __slots__ = ('a', 'b')\nx = K(); x.a = 1", "x.b = 2", "_held.b == 2"),
    "nested": ("x = {'a': [{'b': 1}]}", "x['a'][0]['b'] = 2", "_held == {'a': [{'b': 2}]}"),
    "subclass of dict": ("class K(dict): pass\nx = K(a=1)", "x['b'] = 2", "_held == {'a': 1, 'b': 2}"),
    "counter": ("from collections import Counter; x = Counter('a')", "x['a'] += 1", "_held['a'] == 2"),
    "random": ("import random; x = random.Random(1)", "x.seed(2)", "_held.random() == random.Random(2).random()"),
}


@pytest.mark.parametrize(("made", "change", "check"), PATCHED.values(), ids=PATCHED)
def test_an_object_is_patched(story: Stories, made: str, change: str, check: str) -> None:
    story.run("B", "pass")
    story.run("A", made)
    story.run("B", "_held = x; inner = [_held]")
    story.run("A", change)
    story.check("B", f"{check} and _held is x and inner[0] is x")


def test_an_inner_object_is_patched(story: Stories) -> None:
    story("""
        A: config = {"axes": {"x": [0, 1]}, "names": ["a"]}
        B: _held = config["axes"]
           limits = _held["x"].copy
        A: config["axes"]["x"][1] = 9; config["names"] = ["b"]
        B? _held is config["axes"] and limits() == [0, 9] and config["names"] == ["b"]
    """)


def test_a_rebound_name_leaves_the_old_object_alone(story: Stories) -> None:
    """What holds the old list goes on holding the old list, as with threads."""
    story("""
        A: x = [1]
        B: _held = x
        A: x = [2, 3]
        B? x == [2, 3] and _held == [1]
        B: x.append(4)
        A? x == [2, 3, 4] and _held == [1]
    """)


def test_an_element_that_is_replaced_is_another_object(story: Stories) -> None:
    story("""
        A: d = {"k": [1]}
        B: old = d["k"]
        A: d["k"] = [2]
        B? d["k"] == [2] and old == [1]
        A? old == [1] and d["k"] is not old
    """)


def test_a_callback_registered_elsewhere_sees_the_news(story: Stories) -> None:
    story("""
        A: class Model:
               def __init__(self): self.watchers, self.value = [], 0
               def set(self, value):
                   self.value = value
                   for watcher in self.watchers: watcher(self)
           model, log = Model(), []
        B: model.watchers.append(lambda m: log.append(("B", m.value)))
        A: model.set(5)
        B? log == [("B", 5)] and model.value == 5
        B: model.set(6)
        A? log == [("B", 5), ("B", 6)] and model.value == 6
    """)


def test_a_module_that_was_made_by_hand(story: Stories) -> None:
    story("""
        A: import sys, types
           tool = types.ModuleType("tool", "Counts."); exec(
               "count = 0\\n"
               "def bump():\\n"
               "    global count\\n"
               "    count += 1\\n"
               "    return count", vars(tool))
           bump = tool.bump; tools = {"tool": tool}
        B? tool.bump() == bump() - 1 == 1 and tool.count == 2 and tools["tool"] is tool and tool.__doc__ == "Counts."
        B: tool.more = []
        A? tool.bump() == 3 and tool.bump is bump and tool.more == []
        A: tool.more.append("A"); del tool.count
        B? tool.more == ["A"] and not hasattr(tool, "count")
    """)


def test_a_module_that_was_registered_by_hand(story: Stories) -> None:
    story("""
        A: import sys, types
           shapes = types.ModuleType("mpt_shapes"); sys.modules["mpt_shapes"] = shapes
           exec("class Square:\\n    def __init__(self, side): self.side = side", vars(shapes))
           from mpt_shapes import Square
           square = Square(2)
        B: import mpt_shapes
        B? mpt_shapes is shapes and shapes.Square is Square and isinstance(square, Square)
        B: square.side = 3; shapes.unit = Square(1)
        A? square.side == 3 and shapes.unit.side == 1 and type(shapes.unit) is Square
    """)


def test_a_module_from_a_file_that_is_no_longer_found(story: Stories) -> None:
    story("""
        A: import importlib.util
           open("mpt_plugin.py", "w").write("names = []\\ndef add(name): names.append(name)")
           spec = importlib.util.spec_from_file_location("mpt_plugin", "mpt_plugin.py")
           plugin = importlib.util.module_from_spec(spec); spec.loader.exec_module(plugin)
           __import__("os").remove("mpt_plugin.py")
        B: plugin.add("B")
        A? plugin.names == ["B"] and plugin.__spec__ is spec
    """)


@needs_numpy
def test_a_function_of_a_private_dict_uses_an_array(story: Stories) -> None:
    story("""
        A: import numpy as np
           names = {"weights": np.ones(3)}; exec("def total(): return weights.sum()", names); total = names["total"]
        B? total() == 3
    """)


def test_weak_references_are_to_what_is_there(story: Stories) -> None:
    story("""
        A: import weakref
           class Node:
               def __init__(self, parent=None):
                   self._parent = weakref.ref(parent) if parent else None; self.children = []
                   if parent: parent.children.append(self)
               @property
               def parent(self): return self._parent and self._parent()
           root = Node(); child = Node(root); ref = weakref.ref(root); box = {"ref": ref}
           by_name, known = weakref.WeakValueDictionary(r=root), weakref.WeakSet([root])
           tags = weakref.WeakKeyDictionary({root: 1})
        B? child.parent is root and ref() is root and by_name["r"] is root and tags[root] == 1 and root in known
        B: grandchild = Node(child); by_name["g"] = grandchild; tags[child] = 2; known.add(child); box["n"] = root.n = 1
        A? grandchild.parent is child and child.parent is root and ref() is root and box["ref"] is ref and root.n == 1
        A? by_name["g"] is grandchild and by_name["r"] is root
        A? dict(tags) == {root: 1, child: 2} and set(known) == {root, child}
        A: root.n = 2
        B? ref().n == 2 and ref() is root
    """)


def test_weak_references_die_with_the_object(story: Stories) -> None:
    """A weak dictionary in a subshell doesn't make the name's object another one."""
    story("""
        A: class Node: pass
           node = Node(); node.n = 1
        B: import weakref; _held = weakref.WeakKeyDictionary(); _held[node] = "seen"
        A: node.n = 2
        B? _held[node] == "seen" and next(iter(_held)).n == 2
    """)


SEEN_THROUGH = blocks("""
# weak proxy
A: import weakref
   class Node: n = 1
   node = Node(); proxy = weakref.proxy(node); box = [proxy]
B: node.n = 2
A? proxy.n == 2 and box[0] is proxy
C: proxy.n = 3; box[0].m = 4
A? node.n == 3 and node.m == 4
A: del node
B! ReferenceError: proxy.n

# mapping proxy
A: import types; d = {'k': [1]}; shown = types.MappingProxyType(d); attributes = vars(type('K', (), {'n': 1}))
B: d['z'] = 5; shown['k'].append(2)
A? shown['z'] == 5 and d['k'] == [1, 2] and attributes['n'] == 1
B! TypeError: shown['x'] = 1
A: d.pop('k')
B? 'k' not in shown and len(shown) == 1

# memoryviews of a bytearray
A: data = bytearray(b'hello world'); whole = memoryview(data); part = whole[6:]
B: data[0:1] = b'J'; whole[6] = ord('W')
A? data == b'Jello World' and part == b'World' and whole.obj is data
A! BufferError: data.append(1)
C: part.release(); whole.release(); data.append(1)
B? len(data) == 12

# memoryview of an array
A: import array; numbers = array.array('d', [0, 1, 2]); some = memoryview(numbers)[1:]
B: some[0] = 9.5
A? numbers[1] == 9.5
C: numbers[2] = 7
B? some.tolist() == [9.5, 7]

# dict that keeps a log of what is put into it
A: class Logged(dict):
       def __init__(self, name): super().__init__(); self.name, self.log = name, []
       def __setitem__(self, key, value): self.log.append(key); super().__setitem__(key, value)
   d = Logged('n'); d['me'] = d; other = d
B: d['x'] = [1]
A? d['me'] is d and other is d and d['x'] == [1] and d.log == ['me', 'x'] and d.name == 'n'

# list that counts what is added to it
A: class Counted(list):
       def __init__(self): super().__init__(); self.added = 0
       def append(self, item): self.added += 1; super().append(item)
       def extend(self, items): self.added += len(items); super().extend(items)
   c = Counted(); c.append(1); c.extend([2, 3])
B: c.append(4)
A? c == [1, 2, 3, 4] and c.added == 4

# dict of which the items are the attributes
A: class AttrDict(dict):
       def __init__(self, *args, **items): super().__init__(*args, **items); self.__dict__ = self
   d = AttrDict(x=1); d.y = [2]
B? d == {'x': 1, 'y': [2]} and d.x == 1 and d.y is d['y'] and vars(d) is d
B: d.z = 3; d.y.append(4); d['w'] = 5
A? d.z == 3 and d['y'] == [2, 4] and d.w == 5 and vars(d) is d

# tuple and text whose classes make them of something else
A: class Vector(tuple):
       def __new__(cls, *items): return super().__new__(cls, items)
   class Name(str):
       def __new__(cls, first, last): made = super().__new__(cls, f'{first} {last}'); made.last = last; return made
   v = Vector(1, 2); name = Name('a', 'b')
B? v == (1, 2) and type(v) is Vector and name == 'a b' and name.last == 'b'

# cache that forgets what was used least
A: from collections import OrderedDict
   class LRU(OrderedDict):
       def __init__(self, room): self.room = room; super().__init__()
       def __setitem__(self, key, value):
           super().__setitem__(key, value)
           if len(self) > self.room: self.popitem(last=False)
   cache = LRU(2); cache['a'] = 1; cache['b'] = 2
B: cache['c'] = 3
A? list(cache.items()) == [('b', 2), ('c', 3)] and cache.room == 2

# group of exceptions
A: error = ValueError('x')
B: group = ExceptionGroup('several', [error, ExceptionGroup('inner', [error])])
A? group.exceptions[0] is error and group.exceptions[1].exceptions[0] is error
A: error.add_note('seen')
B? group.exceptions[0].__notes__ == ['seen']
""")


@pytest.mark.parametrize("text", SEEN_THROUGH.values(), ids=SEEN_THROUGH)
def test_what_is_seen_through_something_else_is_one_object(story: Stories, text: str) -> None:
    story(text)


STATES = blocks("""
# a file that is left out
A: import threading
   class Model:
       def __init__(self): self.x = 1; self.fh = open("/dev/null"); self.cache = [1]
       def __getstate__(self):
           d = self.__dict__.copy(); d.pop("fh"); d.pop("cache"); return d
       def __setstate__(self, d): self.__dict__.update(d); self.fh = None; self.cache = []
   m = Model(); keep = m
B? m.x == 1 and m.fh is None
B: m.x = 2
A? m.x == 2 and m is keep
A? m.fh is not None

# a file that is left out, and not put in elsewhere
A: class Model:
       def __init__(self): self.x = 1; self.fh = open("/dev/null")
       def __getstate__(self):
           d = self.__dict__.copy(); del d["fh"]; return d
   m = Model()
B? m.x == 1 and not hasattr(m, "fh")
B: m.x = 2
A? m.x == 2
A? m.fh.name == "/dev/null"
B: m.y = 5
A? m.y == 5 and m.fh.name == "/dev/null"
B: del m.y
A? not hasattr(m, "y") and m.fh is not None

# a file that goes as None
A: class Job:
       def __init__(self, n): self.n = n; self.fh = open("/dev/null")
       def __getstate__(self):
           d = dict(self.__dict__); d["fh"] = None; return d
   jobs = [Job(1), Job(2)]
B: jobs[0].n = 10; jobs.append(3)
A? jobs[0].n == 10 and jobs[0].fh is not None and jobs[1].fh is not None and jobs[2] == 3

# what is made anew of the rest
A: class Box:
       def __init__(self, w): self.w = w; self.area = w * w
       def grow(self, w): self.w = w; self.area = w * w
       def __getstate__(self): return {"w": self.w}
       def __setstate__(self, s): self.w = s["w"]; self.area = self.w ** 2
   b = Box(2)
B? b.area == 4
B: b.grow(5)
A? b.w == 5 and b.area == 25

# a lock that is left out, and made anew by a module that comes along
A: import threading
   class Counter:
       def __init__(self): self.n = 0; self.lock = threading.Lock()
       def __getstate__(self):
           s = self.__dict__.copy(); del s["lock"]; return s
       def __setstate__(self, s): self.__dict__.update(s); self.lock = threading.Lock()
       def inc(self):
           with self.lock: self.n += 1
   c = Counter(); c.inc(); lock = c.lock
B: c.inc()
A? c.n == 2 and c.lock.acquire(False)
A: c.lock.release(); c.inc()
B? c.n == 3

# a state that can't be told
A: class Bad:
       def __init__(self): self.x = 1
       def __getstate__(self): raise ValueError("no")
   bad = Bad()
B? bad.x == 1
B: bad.x = 2
A? bad.x == 2
""")


@pytest.mark.parametrize("text", STATES.values(), ids=STATES)
def test_what_a_class_leaves_out_of_its_state_stays(story: Stories, text: str) -> None:
    story(text)


OF_THE_LIBRARY = blocks(r"""
# views of dicts
A: from collections import OrderedDict, defaultdict
   d = {'a': 1}; ks, vs, its = d.keys(), d.values(), d.items()
   od = OrderedDict(x=1); ok = od.keys(); dd = defaultdict(list); dk = dd.keys()
B: d['b'] = 2; od['y'] = 2; dd['q'].append(1)
B? (list(ks), list(vs), list(its)[-1], list(ok), list(dk)) == (['a', 'b'], [1, 2], ('b', 2), ['x', 'y'], ['q'])
A? (list(ks), list(vs), list(its)[-1], list(ok), list(dk)) == (['a', 'b'], [1, 2], ('b', 2), ['x', 'y'], ['q'])
A: del d['a']
B? list(ks) == ['b'] and ks == {'b'}

# a parser of arguments
A: import argparse
   p = argparse.ArgumentParser(prog='x'); _ = p.add_argument('--n', type=int, default=1)
   g = p.add_mutually_exclusive_group(); _ = g.add_argument('-v', action='store_true', default=argparse.SUPPRESS)
B: _ = p.add_argument('--m'); sub = p.add_subparsers(dest='cmd'); _ = sub.add_parser('go').add_argument('--deep')
B? vars(p.parse_args(['--n', '3', '--m', 'q'])) == {'n': 3, 'm': 'q', 'cmd': None}
A? vars(p.parse_args(['-v', 'go', '--deep', '1'])) == {'n': 1, 'v': True, 'm': None, 'cmd': 'go', 'deep': '1'}
A? p.parse_args([]) == argparse.Namespace(n=1, m=None, cmd=None) and '[-v]' in p.format_usage()

# a file in memory, open and closed
A: import io
   with io.StringIO('abc') as f: text = f.read()
   with io.BytesIO() as g: pass
   h = io.StringIO('abc'); _ = h.read(1)
B? f.closed and g.closed and type(g) is io.BytesIO and h.read() == 'bc'
B: _ = h.write('d')
A? h.getvalue() == 'abcd' and f.closed

# a key made of a comparison
A: import functools
   def compare(a, b): return b - a
   key = functools.cmp_to_key(compare)
B? sorted([1, 3, 2], key=key) == [3, 2, 1]
""")


@pytest.mark.parametrize("text", OF_THE_LIBRARY.values(), ids=OF_THE_LIBRARY)
def test_objects_of_the_standard_library(story: Stories, text: str) -> None:
    story(text)


ON_BUILTINS = blocks(r"""
# a counter with an owner
A: from collections import Counter
   class Inventory(Counter):
       def __init__(self, owner, *a, **k): super().__init__(*a, **k); self.owner = owner; self.log = []
       def put(self, kind): self[kind] += 1; self.log.append(kind)
   inv = Inventory('ann', apples=3); inv.me = inv; shelf = [inv]
B: inv.put('pears'); inv.put('pears')
B? inv.owner == 'ann' and dict(inv) == {'apples': 3, 'pears': 2} and inv.log == ['pears', 'pears'] and inv.me is inv
A? inv.owner == 'ann' and dict(inv) == {'apples': 3, 'pears': 2} and shelf[0] is inv and inv.me is inv
A: inv['apples'] -= 1; inv.owner = 'bob'
B? inv.owner == 'bob' and inv['apples'] == 2 and len(inv.log) == 2

# a counter that was given an attribute
A: from collections import Counter
   class Bag(Counter):
       def top(self): return self.most_common(1)[0][0]
   b = Bag('aab'); b.note = 'n'; held = [b]
B: b['c'] += 9
B? b.top() == 'c' and b.note == 'n'
A? b.top() == 'c' and b.note == 'n' and held[0] is b

# sets with a name
A: class St(set):
       def __init__(self, name, *items, kind): super().__init__(items); self.name, self.kind = name, kind
   class Watched(set):
       def __init__(self, items=()): super().__init__(items); self.log = []
       def add(self, item): self.log.append(item); super().add(item)
   st = St('s', 1, kind='k'); w = Watched([1]); w.add(2); _held = st
B: st.add(5); w.add(3)
B? (set(st), st.name, st.kind, set(w), w.log) == ({1, 5}, 's', 'k', {1, 2, 3}, [2, 3])
A? (set(st), st.name, st.kind, set(w), w.log) == ({1, 5}, 's', 'k', {1, 2, 3}, [2, 3]) and _held is st

# a defaultdict, a deque and an OrderedDict
A: from collections import OrderedDict, defaultdict, deque
   class Graph(defaultdict):
       def __init__(self, name): super().__init__(self.start); self.name = name
       def start(self): return [self.name]
   class History(deque):
       def __init__(self, size=3): super().__init__(maxlen=size); self.count = 0
       def put(self, item): self.append(item); self.count += 1
   class Recent(OrderedDict):
       def __init__(self, size): super().__init__(); self.size = size
       def __setitem__(self, key, value):
           super().__setitem__(key, value); self.move_to_end(key)
           if len(self) > self.size: self.popitem(last=False)
   g = Graph('g'); g['a'].append(1); h = History(); h.put(1); r = Recent(2); r[1] = r; _held = [g, h, r]
B: g['b'].append(2); [h.put(n) for n in (2, 3, 4)]; r[2] = 2
B? g == {'a': ['g', 1], 'b': ['g', 2]} and g.name == 'g' and g.default_factory.__self__ is g
B? (list(h), h.maxlen, h.count) == ([2, 3, 4], 3, 4) and r[1] is r and r.size == 2
A? g == {'a': ['g', 1], 'b': ['g', 2]} and g.name == 'g' and list(h) == [2, 3, 4] and h.count == 4
A? list(r) == [1, 2] and r[1] is r and _held[0] is g and _held[1] is h and _held[2] is r

# numbers, dates and texts with something to them
A: import datetime
   from decimal import Decimal
   class Money(Decimal):
       def __new__(cls, value, currency): self = super().__new__(cls, value); self.currency = currency; return self
   class Day(datetime.date):
       def __new__(cls, text): return cls.fromordinal(datetime.date.fromisoformat(text).toordinal())
       @classmethod
       def fromordinal(cls, n): return datetime.date.__new__(cls, *datetime.date.fromordinal(n).timetuple()[:3])
   class Tag(str):
       def __new__(cls, text, *, color): self = super().__new__(cls, text); self.color = color; return self
   class Odd(frozenset):
       def __new__(cls, *items): return super().__new__(cls, items)
   m = Money('5.00', 'EUR'); d = Day('2024-01-02'); d.notes = [d]; t = Tag('x', color='red'); o = Odd(1, 3); o.note = 1
   n = t; _held = [m, d, t, o]
B? (str(m), m.currency, str(d), d.notes[0] is d) == ('5.00', 'EUR', '2024-01-02', True)
B? (t.color, set(o), o.note) == ('red', {1, 3}, 1)
B: m.currency = 'CHF'; d.notes.append(1); t.color = 'blue'; o.note = 2
A? (m.currency, d.notes[1:], t.color, o.note) == ('CHF', [1], 'blue', 2) and n is t
A? _held[0] is m and _held[1] is d and _held[2] is t and _held[3] is o
B: m = Money('6', m.currency); o.other = {'t': t}
A? str(m) == '6' and o.other['t'] is t and _held[2] is t and str(_held[0]) == '5.00'
""")


@pytest.mark.parametrize("text", ON_BUILTINS.values(), ids=ON_BUILTINS)
def test_instances_of_classes_on_built_in_ones_keep_all_that_they_have(story: Stories, text: str) -> None:
    story(text)


HASHED = blocks(r"""
# friends
A: class Person:
       def __init__(self, name): self.friends = set(); self.name = name
       def __hash__(self): return hash(self.name)
       def __eq__(self, other): return self.name == other.name
       def befriend(self, other): self.friends.add(other); other.friends.add(self)
   ann, bob = Person('ann'), Person('bob'); ann.befriend(bob); _held = ann
B? bob in ann.friends and ann in bob.friends and list(vars(ann)) == ['friends', 'name']
B: carl = Person('carl'); bob.befriend(carl); ann.age = 30
A? carl in bob.friends and bob in carl.friends and len(ann.friends) == 1 and ann.age == 30 and _held is ann
A: carl.befriend(ann); ann.befriend(ann)
B? sorted(p.name for p in ann.friends) == ['ann', 'bob', 'carl'] and carl in ann.friends and ann in carl.friends
B? next(p for p in ann.friends if p.name == 'carl') is carl and carl.friends == {ann, bob}

# roads
A: class City:
       def __init__(self, name): self.name = name; self.roads = {}
       def __hash__(self): return hash(self.name)
       def __eq__(self, other): return isinstance(other, City) and other.name == self.name
       def connect(self, other, length): self.roads[other] = length; other.roads[self] = length
   cities = {name: City(name) for name in 'abc'}; cities['a'].connect(cities['b'], 1)
B: cities['b'].connect(cities['c'], 2); cities['a'].roads[cities['b']] += 5; cities['a'].roads[cities['a']] = 0
A? list(cities['b'].roads.values()) == [1, 2] and cities['c'].roads[cities['b']] == 2
A? cities['a'].roads == {cities['b']: 6, cities['a']: 0} and list(cities['a'].roads)[0] is cities['b']

# children and parents
A: from dataclasses import dataclass, field
   @dataclass(frozen=True)
   class Emp:
       name: str
       boss: object = field(default=None, compare=False)
       team: set = field(default_factory=set, compare=False, repr=False)
       def __post_init__(self):
           if self.boss: self.boss.team.add(self)
   e = Emp('e', Emp('b'))
B? e in e.boss.team and e.boss.name == 'b'
B: f = Emp('f', e.boss); g = Emp('g', f)
A? f in e.boss.team and f.boss is e.boss and g.boss is f and g in f.team and len(e.boss.team) == 2

# a hash that takes another object
A: class Subject:
       def __init__(self, name): self.watched_by = set(); self.name = name; self.counts = {}
       def __hash__(self): return hash(self.name)
   class Observer:
       def __init__(self, subject): self.subject = subject; subject.watched_by.add(self); subject.counts[self] = 0
       def __hash__(self): return hash(('o', self.subject))
   o = Observer(Subject('s')); subject = o.subject
B? o in subject.watched_by and o.subject is subject and subject.counts[o] == 0
B: p = Observer(subject); subject.counts[o] += 1; subject.counts[p] = 7
A? o in subject.watched_by and p in subject.watched_by and subject.counts == {o: 1, p: 7} and p.subject is subject

# frozensets, counters and sets of a class of the user's
A: from collections import Counter
   class Tags(set): pass
   class Node:
       def __init__(self, n):
           self.n = n; self.fam = frozenset([self]); self.seen = Counter({self: 1}); self.tags = Tags([self])
       def __hash__(self): return hash(self.n)
       def __eq__(self, other): return self.n == other.n
   a = Node(1); a.pair = (a, {a: 1}); whole = frozenset([a, Node(2)])
B? a in a.fam and a.pair[1][a] == 1 and a.seen[a] == 1 and a in a.tags and a in whole and len(whole) == 2
B: a.seen[a] += 1; a.tags.add(Node(3)); a.pair[1][a] = 5
A? a in a.fam and a.seen[a] == 2 and Node(3) in a.tags and a.pair[1][a] == 5 and list(a.fam)[0] is a
""")


@pytest.mark.parametrize("text", HASHED.values(), ids=HASHED)
def test_what_is_hashed_by_its_content_may_be_in_its_own_sets(story: Stories, text: str) -> None:
    story(text)


# Classes that tell when somebody uses them, and code of the user's own at which they do.
LOUD = {
    "the state": (
        "class C:\n    def __getstate__(self): print('state'); return vars(self)\n"
        "    def __setstate__(self, state): print('set'); vars(self).update(state)",
        "import copy; copy.copy(x)",
    ),
    "how it is reduced": (
        "class C:\n    def __reduce_ex__(self, protocol): print('reduce'); return super().__reduce_ex__(protocol)",
        "import copy; copy.copy(x)",
    ),
    "each attribute": (
        "class C:\n    def __getattribute__(self, name): print(name); return object.__getattribute__(self, name)",
        "x.__class__",
    ),
    "missing attributes of the class": (
        "class M(type):\n    def __getattr__(cls, name): print(name); raise AttributeError(name)\n"
        "class C(metaclass=M): pass",
        "hasattr(C, 'a')",
    ),
    "the items of a list": (
        "class C(list):\n    def __iter__(self): print('iter'); return super().__iter__()",
        "list(x)",
    ),
    "the items of a dict": ("class C(dict):\n    def items(self): print('items'); return super().items()", "x.items()"),
    "its class": ("class C:\n    __class__ = property(lambda self: print('class') or int)", "x.__class__"),
}


@pytest.mark.parametrize(("code", "used"), LOUD.values(), ids=LOUD)
def test_what_is_printed_when_a_value_is_shared_is_not_shown(kernel: Kernel, code: str, used: str) -> None:
    """The notebook hasn't called that code; what it calls itself is shown."""
    assert kernel.run(f"{code}\nx = C()\n_ = x").stdout == ""
    child = kernel.create_subshell()
    assert kernel.run("y = [x]", child).stdout == ""
    assert kernel.run("z = y").stdout == ""
    assert kernel.run(used).stdout != ""


CTYPES = blocks(r"""
# a structure with methods
A: import ctypes
   class S(ctypes.Structure):
       _fields_ = [('x', ctypes.c_int), ('y', ctypes.c_double)]
       def area(self): return self.x * self.y
   s = S(3, 0.5); arr = (ctypes.c_int * 3)(1, 2, 3); n = ctypes.c_int(5); d = {'s': s}
B: s.x = 9; arr[1] = 8; n.value = 6; t = S(1, 2)
A? (s.x, list(arr), n.value, t.area()) == (9, [1, 8, 3], 6, 2.0) and type(t) is S and d['s'] is s
B: S.double = lambda self: self.x * 2
A? s.double() == 18 and type(arr) is ctypes.c_int * 3

# structures in structures, unions, swapped bytes
A: import ctypes
   class P(ctypes.Structure): _fields_ = [('x', ctypes.c_int)]
   class L(ctypes.Structure): _fields_ = [('a', P), ('b', P * 2)]
   class U(ctypes.Union): _fields_ = [('i', ctypes.c_uint32), ('b', ctypes.c_ubyte * 4)]
   class BE(ctypes.BigEndianStructure):
       _pack_ = 1
       _fields_ = [('x', ctypes.c_uint16), ('f', ctypes.c_uint8, 3)]
   l = L(P(1), (P * 2)(P(2), P(3))); u = U(0x01020304); b = BE(1, 2); kind = P * 2
B? type(l.b) is kind and kind is P * 2 and kind.__module__ == '__main__'
B: l.b[1].x = 7; u.b[0] = 0xff; b.f += 1
A? (l.b[1].x, u.i, bytes(b)[:2], b.f) == (7, 0x010203ff, bytes((0, 1)), 3) and ctypes.sizeof(BE) == 3

# functions of a library
A: import ctypes
   libc = ctypes.CDLL(None); libc.strlen.restype = ctypes.c_size_t; libc.strlen.argtypes = [ctypes.c_char_p]
   f = libc.abs; libc.note = [1]
B? libc.strlen(b'abc') == 3 and f(-3) == 3 and libc.abs(-4) == 4 and libc.note == [1]
B? libc.strlen.restype is ctypes.c_size_t and libc.strlen.argtypes == [ctypes.c_char_p]
A? f is libc.abs and libc.strlen(b'abcd') == 4
""")


@pytest.mark.parametrize("text", CTYPES.values(), ids=CTYPES)
def test_what_ctypes_lays_out_is_there_in_all_subshells(story: Stories, text: str) -> None:
    story(text)


@pytest.mark.skipif(find_spec("sqlalchemy") is None, reason="needs sqlalchemy")
def test_an_engine_of_a_database_connects_anywhere(story: Stories) -> None:
    story("""
        A: import sqlalchemy as sa
           engine = sa.create_engine("sqlite:///mpt.db", connect_args={"timeout": 7})
           with engine.begin() as connection: connection.execute(sa.text("create table t (n int)"))
           del connection
        B: with engine.begin() as connection: connection.execute(sa.text("insert into t values (5)"))
           del connection
        A: with engine.connect() as connection: rows = connection.execute(sa.text("select * from t")).all()
           del connection
        B? rows == [(5,)]
        A: engine = sa.create_engine("sqlite://")
        B! LivesElsewhere: engine.connect()
        A? engine.connect().closed is False
    """)


@pytest.mark.mpkernel_only("threads have one mapper for all")
@pytest.mark.skipif(find_spec("sqlalchemy") is None, reason="needs sqlalchemy")
def test_what_sqlalchemy_maps_stays_and_remains_mapped(story: Stories) -> None:
    story("""
        A: from sqlalchemy import create_engine, select
           from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
           class Base(DeclarativeBase):
               pass
           class User(Base):
               __tablename__ = "users"
               id: Mapped[int] = mapped_column(primary_key=True)
               name: Mapped[str]
           engine, ann = create_engine("sqlite://"), User(name="ann"); box = [ann]
        B! LivesElsewhere: User(name="bob")
        B! LivesElsewhere: Base.metadata.create_all(engine)
        B! LivesElsewhere: class Other(Base): pass
        B! LivesElsewhere: ann.name
        B: box.append(1)
        A? type(box[0]) is User and box == [ann, 1]
        A: Base.metadata.create_all(engine)
           with Session(engine) as session:
               session.add(ann); session.commit()
               names = [user.name for user in session.scalars(select(User))]
        A? names == ["ann"]
    """)
