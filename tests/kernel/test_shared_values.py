"""Names and values: what one subshell binds, rebinds, renames or deletes is so in the others."""

from __future__ import annotations

import pytest

from .stories import Stories, blocks, needs_numpy, needs_pandas

OWN_NAMES = "subshells share IPython's own names"


@pytest.mark.parametrize(("writer", "reader"), ["MA", "AM", "AB"])
def test_what_one_binds_the_other_has(story: Stories, writer: str, reader: str) -> None:
    story(f"""
        {writer}: x = {{"a": [1, 2.5, None]}}
        {reader}? x == {{"a": [1, 2.5, None]}}
        {writer}: x = "new"
        {reader}? x == "new"
        {reader}: x = "back"
        {writer}? x == "back"
    """)


def test_a_subshell_that_is_made_later_has_all(story: Stories) -> None:
    story("""
        M: x = [1]; y = x
        A: z = {"x": x}
        M: x.append(2)
    """)
    story.without_subshells()("""
        C? x == [1, 2] and y is x and z["x"] is x
    """)


@pytest.mark.parametrize(
    "delete", ["del x", "del globals()['x']", "globals().pop('x')", "%xdel -n x", "%reset_selective -f ^x$"]
)
def test_a_deleted_name_is_gone_everywhere(story: Stories, delete: str) -> None:
    story(f"""
        A: x = [1]; keep = x
        B? x == [1]
        A: {delete}
        B! NameError: x
        B? keep == [1]
        B: x = 2
        A? x == 2
    """)


def test_a_name_that_another_made_can_be_deleted(story: Stories) -> None:
    story("""
        A: x = 1
        B: del x
        A! NameError: x
        M! NameError: x
    """)


def test_a_name_is_deleted_in_a_function(story: Stories) -> None:
    story("""
        A: x = 1
           def forget():
               global x
               del x
        B: forget()
        A! NameError: x
    """)


def test_renamed_objects_keep_their_identity(story: Stories) -> None:
    story("""
        A: x = [1]; holder = {"x": x}
        B? holder["x"] is x
        A: y = x; del x
        B? y == [1] and holder["x"] is y
        B! NameError: x
        B: z, y = y, "new"
        A? z == [1] and holder["x"] is z and y == "new"
    """)


def test_names_are_swapped(story: Stories) -> None:
    story("""
        A: x, y = [1], [2]; both = [x, y]
        B? x == [1] and both[0] is x
        B: x, y = y, x
        A? x == [2] and y == [1] and both[0] is y and both[1] is x
    """)


WAYS_TO_BIND = {
    "global": "def bind():\n    global x\n    x = 7\nbind()",
    "exec": "exec('x = 7')",
    "exec with globals": "exec('x = 7', globals())",
    "globals item": "globals()['x'] = 7",
    "globals update": "globals().update(x=7)",
    "locals item": "locals()['x'] = 7",
    "vars": "vars()['x'] = 7",
    "setattr main": "import __main__\nsetattr(__main__, 'x', 7)",
    "sys.modules": "import sys\nsys.modules['__main__'].x = 7",
    "user_ns": "get_ipython().user_ns['x'] = 7",
    "push": "get_ipython().push({'x': 7})",
    "ex": "get_ipython().ex('x = 7')",
    "run_cell": "get_ipython().run_cell('x = 7');",
    "time magic": "%time x = 7",
    "time cell": "%%time\nx = 7",
    "prun": "%%capture\nx = 7",
    "loop variable": "for x in range(8):\n    pass",
    "walrus": "[x := i for i in range(8)];",
    "with": "import contextlib\nwith contextlib.nullcontext(7) as x:\n    pass",
    "unpacking": "first, *x = [1, 7]; x = x[0]",
    "augmented": "x = 3\nx += 4",
    "annotated": "x: int = 7",
    "match": "match [1, 7]:\n    case [_, x]:\n        pass",
    "import as": "import types, sys\nsys.modules['seven'] = types.SimpleNamespace(x=7)\nfrom seven import x",
    "thread": "import threading\nt = threading.Thread(target=lambda: globals().update(x=7))\nt.start()\nt.join()",
    "await": "import asyncio\nawait asyncio.sleep(0)\nx = 7",
    "finally": "try:\n    pass\nfinally:\n    x = 7",
    "lambda in a class body": "class K:\n    globals()['x'] = 7",
}


@pytest.mark.parametrize("code", WAYS_TO_BIND.values(), ids=WAYS_TO_BIND)
def test_a_name_is_bound_by(story: Stories, code: str) -> None:
    story("A: x = 0\nB? x == 0")
    story.run("A", code)
    story.check("B", "x == 7")


def test_names_that_a_file_makes(story: Stories) -> None:
    (story.kernel.sandbox.cwd / "bring_names.py").write_text(
        "def f():\n    return g()\ndef g():\n    return 7\nrows = [1]\n"
    )
    story("""
        A: from bring_names import *
        B? f() == 7 and rows == [1]
        A: %run bring_names.py
        B? f() == 7 and g() == 7 and rows == [1]
        A: rows = 0
           %run -i bring_names.py
        B? rows == [1]
    """)


def test_functions_of_a_script_use_what_it_has_left_in_the_notebook(story: Stories) -> None:
    (story.kernel.sandbox.cwd / "helpers.py").write_text(
        "import math\nvals = [3]\ndef two(): return math.sqrt(4)\n"
        "def g():\n    vals.append(1); return len(vals) + two()\n"
        "class K:\n    def m(self): vals.append(9); return len(vals)\n"
    )
    story("""
        A: %run helpers.py
        B: n = g()
        A? vals == [3, 1] and n == 4
        A: n = g()
        B? vals == [3, 1, 1] and g() == 6
        A? vals == [3, 1, 1, 1]
        B: n = K().m()
        A? vals[-1] == 9 and n == 5 and K().m() == 6
        B? len(vals) == 6
        A: %run helpers.py
        B? vals == [3] and g() == 4 and vals == [3, 1]
    """)


def test_a_function_of_a_file_changes_a_variable_of_the_notebook(story: Stories) -> None:
    (story.kernel.sandbox.cwd / "reach_main.py").write_text(
        "def add():\n    import __main__\n    __main__.count += 1\n"
    )
    story("""
        A: count = 0; from reach_main import add
        B: add()
        A: add()
        M? count == 2
    """)


def test_shell_assignment_and_line_magics_bind(story: Stories) -> None:
    story("""
        A: words = !echo one two
        B? words[0] == "one two"
        A: %alias_magic --line tt time
           here = %pwd
        B? here.endswith("cwd")
        A: %set_env MPT_SOMETHING 1
           %env
           times = %timeit -o -n1 -r1 -q pass
        B? times.loops == 1
    """)


def test_a_failing_cell_shares_what_it_did(story: Stories) -> None:
    story("""
        A: x, y = 1, [1]
        A! ZeroDivisionError: x = 2; y.append(2); del_me = 1; 1 / 0; x = 3
        B? x == 2 and y == [1, 2] and del_me == 1
    """)


def test_the_name_of_an_exception_is_gone_after_its_clause(story: Stories) -> None:
    story("""
        A: error = "kept?"
        B? error == "kept?"
        A: try:
               1 / 0
           except ZeroDivisionError as error:
               caught = error
        B! NameError: error
        B? isinstance(caught, ZeroDivisionError) and str(caught) == "division by zero"
    """)


def test_a_builtin_is_shadowed_and_uncovered(story: Stories) -> None:
    story("""
        A: list = 5
        B? list == 5
        A: del list
        B? list((1, 2)) == [1, 2]
    """)


def test_equal_is_not_the_same(story: Stories) -> None:
    """What compares equal may still be another value."""
    story("""
        A: x, zero, order = 1, 0.0, {"a": 1, "b": 2}
        B? x == 1
        A: x = True
        B? x is True
        A: x = 1.0
        B? repr(x) == "1.0"
        A: zero = -0.0
        B? repr(zero) == "-0.0"
        A: order = {"b": 2, "a": 1}
        B? list(order) == ["b", "a"]
        A: order["b"] = order.pop("b")
        B? list(order) == ["a", "b"]
        A: order["a"] = True
        B? order["a"] is True
    """)


def test_a_name_changes_its_type(story: Stories) -> None:
    story("""
        A: x = [1, 2]
        B? x == [1, 2]
        A: x = {1, 2}
        B? x == {1, 2}
        B: x = {"a": x}
        A? x == {"a": {1, 2}}
        A: x = None
        B? x is None
        B: x = lambda: 5
        A? x() == 5
    """)


def test_names_of_other_alphabets_and_private_names(story: Stories) -> None:
    story("""
        A: größe = 1; 变量 = 2; ñ = [3]; _held = {"a": 1}; __really = 5; ﬁ = 8
        B? (größe, 变量, ñ, _held, __really, fi) == (1, 2, [3], {"a": 1}, 5, 8)
        B: größe += 1; ñ.append(4); _held["b"] = 2; del 变量, __really
        A? (größe, ñ, _held) == (2, [3, 4], {"a": 1, "b": 2})
        A! NameError: 变量
    """)


def test_a_sentinel_is_recognised(story: Stories) -> None:
    story("""
        A: MISSING = object()
           table = {"k": MISSING}
           def is_default(x=MISSING):
               return x is MISSING
        B? table["k"] is MISSING and is_default() and is_default(table["k"]) and not is_default(1)
        B: table["l"] = MISSING
        A? table["l"] is MISSING and is_default(table["l"])
    """)


@pytest.mark.mpkernel_only(OWN_NAMES)
def test_names_of_ipython_stay_at_home(story: Stories) -> None:
    story("""
        A: "of A"
        B: "of B"
        A? _ == "of A"
        B? _ == "of B"
    """)
    story.check("B", "'of A' not in Out.values() and not any('of A' in text for text in In[:2])")


def test_output_is_caught_by_a_variable(story: Stories) -> None:
    story("""
        A: import io, sys
           out = sys.stdout; caught = sys.stdout = io.StringIO()
        B? caught is not sys.stdout and caught.getvalue() == "" and out is sys.stdout
        B: sys.stdout = out
        A: print("seen"); sys.stdout = out
        B? caught.getvalue() == "seen\\n"
    """)
    assert story.run("A", "print('shown')").stdout == story.run("B", "print('shown')").stdout == "shown\n"


def test_a_standard_stream_is_that_of_the_cell(story: Stories) -> None:
    story("""
        A: import sys
           class Counted:
               def __init__(self, stream): self.stream, self.count = stream, 0
               def write(self, text): self.count += len(text); return self.stream.write(text)
           counted = Counted(sys.stdout); out = sys.stdout
        B? out is sys.stdout and counted.stream is out
        B: print("seen", file=counted)
        A? counted.count == 5 and counted.stream is sys.stdout
    """)


def test_modules_are_there(story: Stories) -> None:
    (story.kernel.sandbox.cwd / "a_module_here.py").write_text("class Thing:\n    def __init__(self): self.n = 1\n")
    story("""
        A: import math, os.path, collections.abc as abc, a_module_here; from json import dumps as to_text
        B? math.pi > 3 and os.path.sep == "/" and abc.Mapping.__name__ == "Mapping" and to_text([1]) == "[1]"
        B: thing = a_module_here.Thing()
        A? isinstance(thing, a_module_here.Thing) and thing.n == 1
        A: thing.n = 2
        B? thing.n == 2
    """)


# Each value is made in one subshell, and made once more in the other to compare it with.
VALUES = {
    "empty": "('', b'', (), [], {}, set(), frozenset(), bytearray(), range(0))",
    "numbers": "(10**400, -1, 1e-320, float('inf'), 3-4j, True, None, ..., NotImplemented)",
    "texts": r"('\ud800', '\0', 'ü€😀', 'a' * 100_000, b'\xff\0')",
    "slices": "(slice(1, None, 2), range(5, 0, -1))",
    "decimals": "(__import__('decimal').Decimal('1.10'), __import__('fractions').Fraction(1, 3))",
    "times": "__import__('datetime').datetime(2024, 2, 29, tzinfo=__import__('zoneinfo').ZoneInfo('Europe/Berlin'))",
    "path": "__import__('pathlib').Path('/a/b')",
    "pattern": "__import__('re').compile('a+', 2)",
    "uuid": "__import__('uuid').UUID(int=5)",
    "counter": "__import__('collections').Counter('abca')",
    "ordered": "__import__('collections').OrderedDict(b=1, a=2)",
    "deque": "__import__('collections').deque([1, 2], 2)",
    "chain map": "__import__('collections').ChainMap({'a': 1}, {'b': 2})",
    "array": "__import__('array').array('d', [1, 2])",
    "simple namespace": "__import__('types').SimpleNamespace(a=[1])",
    "keys of all kinds": "{1: 'a', (1, (2,)): 'b', None: 'c', frozenset({1}): 'd', b'x': 'e', 1.5: 'f'}",
    "types": "(int, list[int], dict[str, int] | None, type(None), type(...), type(len), Exception, OSError)",
    "builtins": "(len, print, str.upper, [].append.__name__, __import__('operator').itemgetter(1)([1, 2]))",
    "nested": "[[[[{'a': ({1, 2}, [bytearray(b'x')])}]]]]",
    "user types of the library": "__import__('argparse').Namespace(a=1)",
    "file permissions": "__import__('stat').filemode(0o100644), __import__('signal').SIGINT",
}


UNLIKE = """
def text(value):  # a function has its address in its repr
    return "".join(re.split(" at 0x[0-9a-f]+", repr(value)))
def unlike(name, source):
    try:
        value, expected = made[name], eval(source)
        same = type(value) is type(expected) and text(value) == text(expected)
        for what in ("dtype", "shape", "dtypes", "index"):
            same = same and text(getattr(value, what, 0)) == text(getattr(expected, what, 0))
        return "" if same else f"{name}: {value!r:.200} instead of {expected!r:.200}"
    except Exception as error:
        return f"{name}: {error!r}"
"""


def unlike(story: Stories, values: dict[str, str], preamble: str = "import re") -> str:
    """Make all values in subshell A, and say which of them are others in B."""
    makes = [f"made[{name!r}] = {expression}" for name, expression in values.items()]
    story.run("B", "pass")
    story.run("A", "\n".join([preamble, "made = {}", *makes]))
    story.run("B", preamble + UNLIKE)
    return story.run("B", f"print([row for item in {list(values.items())!r} if (row := unlike(*item))])").stdout


def test_values_arrive_as_they_are(story: Stories) -> None:
    assert unlike(story, VALUES) == "[]\n"


def test_values_come_back_as_they_were(story: Stories) -> None:
    rows = ", ".join(VALUES.values())
    story(f"""
        A: values = [{rows}]; expected = repr(values)
        B: values.append(0)
        A: last = values.pop()
        B? last == 0 and repr(values) == expected
        A? repr(values) == expected
    """)


ARRAYS = {
    "empty": "np.empty((0, 3))",
    "zero dimensions": "np.array(5)",
    "fortran order": "np.asfortranarray(np.arange(6).reshape(2, 3))",
    "strided": "np.arange(10)[::-3]",
    "broadcast": "np.broadcast_to(np.arange(3), (4, 3))",
    "booleans": "np.array([True, False])",
    "strings": "np.array(['ä', 'bcd'])",
    "times": "np.array(['2024-01-01', 'NaT'], dtype='M8[D]')",
    "structured": "np.array([(1, 2.0, b'x')], dtype=[('a', 'i4'), ('b', 'f8'), ('c', 'S3')])",
    "objects": "np.array([[1], {'a': 2}, None], dtype=object)",
    "other endian": "np.arange(4, dtype='>i4')",
    "half": "np.arange(4, dtype=np.float16)",
    "scalar": "np.float32(1.5)",
    "masked": "np.ma.masked_array([1, 2, 3], mask=[0, 1, 0])",
    "large": "np.arange(100_000.0)",
}


@needs_numpy
def test_arrays_arrive_as_they_are(story: Stories) -> None:
    assert unlike(story, ARRAYS, "import re, numpy as np") == "[]\n"


@needs_numpy
def test_a_read_only_array_stays_so_and_a_writable_one_too(story: Stories) -> None:
    story("""
        A: import numpy as np; frozen = np.arange(20_000); frozen.flags.writeable = False; free = np.arange(20_000)
        B! ValueError: frozen[0] = 1
        B: free[0] = 1
        A? free[0] == 1 and not frozen.flags.writeable
    """)


FRAMES = {
    "mixed": "pd.DataFrame({'a': [1, 2], 'b': ['x', None], 'c': [1.5, np.nan]})",
    "empty": "pd.DataFrame()",
    "series": "pd.Series([1, 2], index=['x', 'y'], name='n')",
    "categories": "pd.Series(['a', 'b', 'a'], dtype='category')",
    "times": "pd.Series(pd.date_range('2024', periods=3, tz='UTC'))",
    "multi-index": "pd.DataFrame({'v': [1, 2]}, index=pd.MultiIndex.from_tuples([('a', 1), ('b', 2)]))",
    "nullable": "pd.DataFrame({'i': pd.array([1, None], dtype='Int64'), 's': pd.array(['a', None], dtype='string')})",
}


@needs_pandas
def test_frames_arrive_as_they_are(story: Stories) -> None:
    assert unlike(story, FRAMES, "import re, numpy as np, pandas as pd") == "[]\n"


MODULES = blocks("""
# the notebook's own
A: import __main__
   import __main__ as me
   import sys
   by_name = sys.modules["__main__"]
   box = {"main": __main__}
   setattr(__main__, "x", 1)
B: me.x += 1; me.made = [1]; by_name.other = 5; vars(box["main"])["more"] = 6
A? x == 2 and made == [1] and other == 5 and more == 6
B? me is __main__ is by_name is box["main"] and me.x == 2 and "made" in dir(me)
A: del me.made
B? not hasattr(__main__, "made")

# one that is of a class of its own
A: from pathlib import Path
   code = (
       "import sys, types\\n"
       "class Lazy(types.ModuleType):\\n"
       "    def __getattr__(self, name): return name * 2\\n"
       "sys.modules[__name__].__class__ = Lazy\\n"
   )
   _ = Path("mpt_lazy_one.py").write_text(code)
   import mpt_lazy_one; box = [mpt_lazy_one]
B? mpt_lazy_one.ab == "abab" and box[0] is mpt_lazy_one
B: mpt_lazy_one.told = 3
A? mpt_lazy_one.told == 3
""")


@pytest.mark.parametrize("text", MODULES.values(), ids=MODULES)
def test_a_module_that_a_variable_is_bound_to(story: Stories, text: str) -> None:
    story(text)
