"""Code sees as many references as in any Python: what it deletes is gone, and what only it has is its own."""

from __future__ import annotations

import pytest

from .driver import Kernel
from .stories import Stories, blocks, needs_numpy

STORIES = blocks(r"""
# one of two names is deleted, and bound anew
A: a = [1]; b = a; c = {'a': a}
B? b is c['a']
A: del a; b.append(2); a = [5]
B? (a, b, c) == ([5], [1, 2], {'a': [1, 2]}) and b is c['a']

# bound to several objects in one cell
A: x = [1]; y = x
B: y.append(2)
A: x = None; x = [9]; x = [10]; y.append(3)
B? (x, y) == ([10], [1, 2, 3])
A: x = y; del y; y = x
B? x is y and x == [1, 2, 3]

# a statement that uses a name rebinds it by a function
A: acc = [0]; n = 1000; other = acc
   def inc():
       global n, acc
       n += 1; acc = acc + [n]
B? other is acc and n == 1000
A: for _ in range(2): inc(); _n = (n, acc)
B? n == 1002 and acc == [0, 1001, 1002] and other == [0]
A: for _ in range(4): inc(); acc, n
B? n == 1006 and len(acc) == 7 and other == [0]

# a statement that uses a name rebinds it by other means
A: x = [1]; y = x
B? x is y
A: exec("x = [2]; _n = x"); _n = x
B? (x, y) == ([2], [1])
A: globals()['x'] = [3]; _n = x; y.append(5)
B? (x, y) == ([3], [1, 5])
A: globals().pop('x'), y
B? 'x' not in globals() and y == [1, 5]

# a statement that uses a name changes its object
A: x = [1]; y = (x,)
B? y[0] is x
A: x.append(2)
B: x.append(3)
A? x == [1, 2, 3] and y[0] is x
B? x == [1, 2, 3] and y[0] is x
""")


@pytest.mark.parametrize("text", STORIES.values(), ids=STORIES)
def test_a_name_is_bound_or_its_object_changed(story: Stories, text: str) -> None:
    story(text)


def test_others_read_a_variable_while_the_statement_that_uses_it_goes_on(kernel: Kernel) -> None:
    child = kernel.create_subshell()
    kernel.run("x = [0]; alias = x; d = {}")
    kernel.value("x", child)
    loop = kernel.start("print('ready', flush=True)\nwhile d is not x: x[0] += 1")
    kernel.wait_until(lambda: kernel.value("x[0] > 0", child), "what the loop does")
    assert kernel.value("x is alias", child) is True
    kernel.interrupt()
    loop.wait()
    kernel.run("d['x'] = x")
    assert kernel.value("d['x'] is x and x is alias", child) is True


COUNTS = """
import sys, weakref
class D:
    def __del__(self): print('gone')
d = D(); shown = weakref.ref(d)
kept = []; same = kept; inner = [[]]
"""


@pytest.mark.parametrize("others", [0, 1])
def test_references_are_counted_as_in_any_python(kernel: Kernel, others: int) -> None:
    kernel.run(COUNTS)
    for _ in range(others):
        kernel.value("kept is same and inner", kernel.create_subshell())
    counts = kernel.run("print(sys.getrefcount(kept), sys.getrefcount(inner), sys.getrefcount(inner[0]))")
    assert counts.stdout == "3 2 2\n"
    assert kernel.run("del same; print(sys.getrefcount(kept))").stdout == "2\n"
    assert kernel.run("del d; print(shown())").stdout == "gone\nNone\n"
    assert kernel.run("d = D()\nd = None; print('after')").stdout == "gone\nafter\n"


@needs_numpy
def test_an_array_can_be_resized_in_place(kernel: Kernel) -> None:
    kernel.run("import numpy as np; a = np.arange(6); b = a")
    child = kernel.create_subshell()
    kernel.value("a is b", child)
    assert kernel.run("a.resize(8)").ename == "ValueError"  # there is another reference
    assert kernel.run("del b\na.resize((2, 3)); print(a.shape)").stdout == "(2, 3)\n"
    assert kernel.value("a.shape, 'b' in globals()", child) == ((2, 3), False)
