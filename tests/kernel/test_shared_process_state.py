"""The process's own state is shared as far as threads of one process share it: a cell sees what others have set."""

from __future__ import annotations

import os
import textwrap
from importlib.util import find_spec
from pathlib import Path

import pytest

from .driver import Kernel, start_kernel
from .sandbox import REPOSITORY
from .stories import Stories, blocks, needs_numpy, needs_pandas

needs_matplotlib = pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs matplotlib")

STORIES = blocks("""
# environment
A: import os; os.environ["MPT_STATE"] = "1"
B? os.environ["MPT_STATE"] == os.getenv("MPT_STATE") == "1"
B: %env MPT_STATE=2
A? os.environ["MPT_STATE"] == "2"
A: del os.environ["MPT_STATE"]
B? "MPT_STATE" not in os.environ
B: words = !echo ${MPT_STATE:-gone}
A? words[0] == "gone"

# working directory
A: import os; here = os.getcwd(); os.makedirs("mpt_inner/deeper"); os.chdir("mpt_inner")
   with open("found.txt", "w") as file: file.write("found")
B? open("found.txt").read() == "found" and os.path.basename(os.getcwd()) == "mpt_inner"
B: %cd -q deeper
A? os.getcwd() == os.path.join(here, "mpt_inner", "deeper")
A: os.chdir(".."); os.rmdir("deeper")
B? os.path.basename(os.getcwd()) == "mpt_inner"
B: os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
A? os.path.basename(os.getcwd()) == "mpt_inner"
A: os.remove("found.txt"); os.chdir(here); os.rmdir("mpt_inner")
B? os.getcwd() == here

# arguments
A: import sys; kept = sys.argv; sys.argv = ["prog", "--n=3"]
B: import argparse; parser = argparse.ArgumentParser(); _ = parser.add_argument("--n", type=int)
B? parser.parse_args().n == 3
B: sys.argv.append("--n=4")
A? parser.parse_args().n == 4
A: sys.argv = kept
B? sys.argv == kept

# an attribute of a library's module
A: import string; string.mpt_extra = [5]
B: import string
B? string.mpt_extra == [5]
B: del string.mpt_extra
A? not hasattr(string, "mpt_extra")

# a method of a library's class
A: from fractions import Fraction
   def halved(self): return self / 2
   Fraction.halved = halved; Fraction.is_half = property(lambda self: self == Fraction(1, 2))
B? Fraction(1).halved() == Fraction(1, 2) and Fraction(1, 2).is_half and Fraction.halved is halved
B: setattr(Fraction, "halved", lambda self: "another")
A? Fraction(1).halved() == "another"
A: del Fraction.halved, Fraction.is_half
B? not hasattr(Fraction, "halved") and not hasattr(Fraction, "is_half")

# lists and a dict of libraries
A: import xml.sax, imaplib, optparse; xml.sax.default_parser_list.append("mpt"); kept = imaplib.Commands["NOOP"]
   imaplib.Commands["MPT"] = ("AUTH",); del imaplib.Commands["NOOP"]
B: import xml.sax, imaplib, optparse
B? xml.sax.default_parser_list[-1] == "mpt" and imaplib.Commands["MPT"] == ("AUTH",) and "NOOP" not in imaplib.Commands
B: def change():
       optparse.Option.ATTRS += ["mpt"]
       imaplib.Commands.update(NOOP=kept)
   change(); xml.sax.default_parser_list[0] = "other"
A? "mpt" in optparse.Option.ATTRS and imaplib.Commands["NOOP"] == kept
A? xml.sax.default_parser_list == ["other", "mpt"]
A: imaplib.Commands.pop("MPT"); xml.sax.default_parser_list.remove("mpt"); optparse.Option.ATTRS.remove("mpt")
B? "MPT" not in imaplib.Commands and xml.sax.default_parser_list == ["other"] and "mpt" not in optparse.Option.ATTRS
C: import xml.sax, imaplib
C? xml.sax.default_parser_list == ["other"] and "MPT" not in imaplib.Commands
C: xml.sax.default_parser_list[:] = ["xml.sax.expatreader"]
A? xml.sax.default_parser_list == ["xml.sax.expatreader"]

# an entry of a library's dict that can't be copied
A: import imaplib; imaplib.Commands["GENERATOR"] = (i for i in [1]); imaplib.Commands["MPT"] = 1
B: import imaplib
B? imaplib.Commands["MPT"] == 1
B: del imaplib.Commands["MPT"]
A? "MPT" not in imaplib.Commands and next(imaplib.Commands["GENERATOR"]) == 1
A: del imaplib.Commands["GENERATOR"]
B? "GENERATOR" not in imaplib.Commands

# a number of a library that is counted up
A: import wave; kept = wave.WAVE_FORMAT_PCM; wave.WAVE_FORMAT_PCM += 1
B: import wave
B? wave.WAVE_FORMAT_PCM == kept + 1
B: wave.WAVE_FORMAT_PCM -= 1
A? wave.WAVE_FORMAT_PCM == kept

# a function that another one stands in for, for a while
A: import time, json; kept = time.sleep, json.JSONEncoder.default; slept = []
   def fake(seconds): slept.append(seconds)
   time.sleep = fake
   json.JSONEncoder.default = lambda self, value: str(value)
B: time.sleep(60)
B? slept == [60] and json.dumps({"a": 1j}) == '{"a": "1j"}'
B: time.sleep, json.JSONEncoder.default = kept
A: time.sleep(0.001)
A? slept == [60]
A! TypeError: json.dumps(1j)

# what tests replace
A: import random, subprocess, time; kept = random.random, subprocess.run, time.time
   random.random = lambda: 0.5
   subprocess.run = lambda *_, **__: "done"
   time.time = lambda: 7.0
B? (random.random(), subprocess.run(["none"]), time.time()) == (0.5, "done", 7.0)
B: random.random, subprocess.run, time.time = kept
A? time.time() > 8 and random.random() != 0.5

# a function of a library that the kernel is made of is replaced in one process only
A: import json, signal, zmq; kept = json.load, signal.pause, zmq.proxy
   signal.mpt_extra = 1; signal.pause = json.load = zmq.proxy = None
B? (json.load, signal.pause, zmq.proxy) == kept
B? signal.mpt_extra == 1

# a function that sets it
A: import string
   def patch(value): string.mpt_set = value
B: patch(7)
A? string.mpt_set == 7
A: del string.mpt_set
B? not hasattr(string, "mpt_set")

# time zone
A: import os, time; os.environ["TZ"] = "Asia/Tokyo"; time.tzset()
B? time.tzname[0] == "JST" and time.localtime(0).tm_hour == 9
B: del os.environ["TZ"]; time.tzset()
A? time.tzname[0] != "JST"

# where modules are found, and a module from there
A: import os, sys
   os.makedirs("somewhere", exist_ok=True)
   open("somewhere/mpt_found.py", "w").write("value = 9")
   sys.path.insert(0, os.path.abspath("somewhere"))
   import mpt_found
B? mpt_found.value == 9 and sys.path[0].endswith("somewhere")
B: sys.path.pop(0)
A? not sys.path[0].endswith("somewhere")

# modules within packages
A: import xml.dom.minidom, logging.handlers
B? xml.dom.minidom.Document and logging.handlers.RotatingFileHandler and True

# a module within a package that is there already
A: import xml
B: import xml.sax.saxutils
A? xml.sax.saxutils.escape("<") == "&lt;"

# a library that asks whether it is in a notebook
A: text = "class Asked:\\n try: there = bool(get_ipython())\\n except NameError: there = False"
   open("mpt_asks.py", "w").write(text); import mpt_asks
A? mpt_asks.Asked.there
B? mpt_asks.Asked.there

# warnings
A: import warnings; kept = list(warnings.filters); warnings.simplefilter("error")
B! UserWarning: warnings.warn("an error")
A: warnings.filters[:] = kept; warnings._filters_mutated()

# dialects of files with separated values
A: import csv, io; csv.register_dialect("semi", delimiter=";", quoting=csv.QUOTE_ALL)
B? next(csv.reader(io.StringIO("a;b"), dialect="semi")) == ["a", "b"]
B: csv.unregister_dialect("semi")
A? "semi" not in csv.list_dialects()

# limits of Python
A: import sys; sys.set_int_max_str_digits(0); kept = sys.getswitchinterval(); sys.setswitchinterval(0.02)
B? len(str(10**5000)) == 5001 and sys.getswitchinterval() == 0.02
B: sys.set_int_max_str_digits(4300); sys.setswitchinterval(kept)
A? sys.get_int_max_str_digits() == 4300 and sys.getswitchinterval() == kept

# abstract classes of libraries that are told of the notebook's
A: import collections.abc, numbers
   from collections.abc import Sequence
   class Row: pass
   @numbers.Number.register
   class Money: pass
   _ = Sequence.register(Row)
   row, money = Row(), Money()
B? isinstance(row, Sequence) and isinstance(money, numbers.Number) and not isinstance(money, Sequence)
B: _ = collections.abc.Sized.register(Money)
A? isinstance(money, collections.abc.Sized)

# what is done with classes of the notebook in databases, and in pickles
A: import copyreg, pickle, sqlite3
   class Place:
       def __init__(self, at): self.at = at
   factor = 2
   def make(at): return Place(at * factor)
   copyreg.pickle(Place, lambda place: (make, (place.at,)))
   sqlite3.register_adapter(Place, lambda place: str(place.at))
   sqlite3.register_converter("place", lambda data: Place(int(data)))
B: db = sqlite3.connect(":memory:", detect_types=sqlite3.PARSE_COLNAMES)
B? db.execute("select ?", (Place(5),)).fetchone() == ("5",)
B? db.execute("select '7' as \\"x [place]\\"").fetchone()[0].at == 7
B? pickle.loads(pickle.dumps(Place(4))).at == 8
B: del copyreg.dispatch_table[Place]
A? pickle.loads(pickle.dumps(Place(4))).at == 4

# handlers of errors of codecs
A: import codecs; asked = []
   def handler(error): asked.append(error.start); return "?!", error.end
   codecs.register_error("mpt_handler", handler)
B? "a\xe4".encode("ascii", "mpt_handler") == b"a?!"
A? asked == [1]

# levels of logging
A: import logging; logging.addLevelName(25, "NOTICE"); logging.disable(logging.CRITICAL)
B? logging.getLevelName(25) == "NOTICE" and logging.getLevelName("NOTICE") == 25
B? not logging.getLogger("mpt").isEnabledFor(logging.CRITICAL)
B: logging.disable(logging.NOTSET)
A? logging.getLogger("mpt").isEnabledFor(logging.CRITICAL)

# prefixes in XML, and how files are opened from the web
A: import xml.etree.ElementTree as ET, urllib.request; ET.register_namespace("my", "http://my")
   opener = urllib.request.build_opener(); opener.addheaders = [("User-agent", "mine")]
   urllib.request.install_opener(opener)
B? b"my:a" in ET.tostring(ET.Element("{http://my}a"))
B? urllib.request._opener.addheaders == [("User-agent", "mine")]

# how processes are started
A: import multiprocessing; multiprocessing.set_start_method("spawn")
B? multiprocessing.get_start_method() == "spawn"
B: multiprocessing.set_start_method(None, force=True)

# what is made to be replaced
A: import tempfile, threading; failed = []; kept = threading.excepthook
   threading.excepthook = lambda args: failed.append(args.exc_type.__name__)
   tempfile.tempdir = "/"
B: thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
B? failed == ["ZeroDivisionError"] and tempfile.gettempdir() == "/"
B: threading.excepthook = kept; tempfile.tempdir = None

# locale
A: import locale; _ = locale.setlocale(locale.LC_ALL, "C.UTF-8")
B? locale.setlocale(locale.LC_ALL) == "C.UTF-8"
B: _ = locale.setlocale(locale.LC_ALL, "C")
A? locale.setlocale(locale.LC_ALL) == "C"

# timeout of sockets
A: import socket; socket.setdefaulttimeout(7)
B? socket.getdefaulttimeout() == 7
B: socket.setdefaulttimeout(None)
A? socket.getdefaulttimeout() is None

# recursion limit
A: import sys; limit = sys.getrecursionlimit(); sys.setrecursionlimit(2345)
B? sys.getrecursionlimit() == 2345
B: sys.setrecursionlimit(limit)
A? sys.getrecursionlimit() == limit

# context of decimal numbers
A: import decimal; decimal.getcontext().prec = 3; decimal.getcontext().traps[decimal.Inexact] = True
B! Inexact: decimal.Decimal(1) / 7
B: kept = decimal.getcontext().copy(); decimal.setcontext(decimal.Context(prec=5, traps=[]))
A? str(decimal.Decimal(1) / 7) == "0.14286"
A: decimal.setcontext(decimal.DefaultContext)

# random numbers
A: import random; random.seed(5); expected = [random.random() for _ in range(3)]; random.seed(5)
B: drawn = [random.random()]
A: drawn.append(random.random())
C: drawn.append(random.random())
A? drawn == expected

# random numbers beside many variables, whose changes are looked for after the cell
A: many = {f"many_{n}": [[k] for k in range(1000)] for n in range(300)}; globals().update(many)
B: pass
A: import random; random.seed(6); expected = [random.random() for _ in range(3)]; random.seed(6)
B: drawn = [random.random()]
A: drawn.append(random.random())
B: drawn.append(random.random())
A? drawn == expected
A: for name in many: del globals()[name]

# functions of random
A: from random import random, seed
B: seed(3)
A: first = random()
B? first == __import__("random").Random(3).random()

# builtins
A: import builtins; builtins.mpt_shout = lambda text: text.upper()
B? mpt_shout("a") == "A"
B: import builtins; del builtins.mpt_shout
A! NameError: mpt_shout

# loggers
A: import logging; logger = logging.getLogger("mpt.state"); logger.setLevel(15)
   logging.basicConfig(level=25, format="%(message)s!", force=True)
B? logger.level == 15 and logger is logging.getLogger("mpt.state") and logging.root.level == 25
B? [handler.formatter._fmt for handler in logging.root.handlers] == ["%(message)s!"]
B: logger.setLevel(0); logging.root.handlers.clear(); logging.root.setLevel(30)
A? logger.level == 0 and logging.root.handlers == []

# loggers that write to variables
A: import io, logging
   logger = logging.getLogger("mpt.variables"); logger.setLevel("INFO"); logger.propagate = False
   class Kept(logging.Handler):
       def __init__(self): super().__init__(); self.lines = []
       def emit(self, record): self.lines.append(self.format(record))
   text = io.StringIO(); kept = Kept(); counts = {}
   class Counting(logging.Handler):
       def emit(self, record): counts[record.levelname] = counts.get(record.levelname, 0) + 1
   for handler in (logging.StreamHandler(text), kept, Counting()): logger.addHandler(handler)
   del handler
   logger.info("first %d", 1)
B: def tell(what): logger.warning(what)
   tell("second"); logger.debug("never")
A? text.getvalue().split() == ["first", "1", "second"] and kept.lines == ["first 1", "second"]
A? counts == {"INFO": 1, "WARNING": 1}
A: kept.setLevel("ERROR"); tell("third")
B: tell("fourth")
A? len(text.getvalue().splitlines()) == 4 and kept.lines == ["first 1", "second"] and counts["WARNING"] == 3
B: logger.handlers.clear(); logger.setLevel(0)
A? logger.handlers == []

# a handler that another subshell removes
A: import io, logging
   logger = logging.getLogger("mpt.removed"); logger.setLevel("INFO"); logger.propagate = False
   text = io.StringIO(); handler = logging.StreamHandler(text); logger.addHandler(handler)
B? handler in logger.handlers
B: logger.info("told"); logger.removeHandler(handler); logger.info("not told")
A? logger.handlers == [] and text.getvalue() == "told\\n"

# magics of the notebook
A: from IPython.core.magic import register_line_magic, magics_class, Magics, line_magic
   @register_line_magic
   def mpt_line(line): return line + "!"
   @magics_class
   class MptMagics(Magics):
       @line_magic
       def mpt_method(self, line): return line + "?"
   get_ipython().register_magics(MptMagics)
   %alias_magic mpt_t timeit
B: one = %mpt_line a
   two = %mpt_method b
   %mpt_t -n1 -r1 -q pass
A? (one, two) == ("a!", "b?")

# what magics of the notebook keep
A: from IPython.core.magic import magics_class, Magics, line_magic
   from traitlets import Int
   @magics_class
   class MptKeeping(Magics):
       level = Int(1)
       def __init__(self, shell):
           super().__init__(shell)
           self.count, self.seen = 0, []
       @line_magic
       def mpt_keep(self, line):
           self.count += 1; self.seen.append(line); self.level += 1
           return self.count, list(self.seen), self.level
   get_ipython().register_magics(MptKeeping)
   one = %mpt_keep a
B: two = %mpt_keep b
A: three = %mpt_keep c
   seen = get_ipython().magics_manager.registry["MptKeeping"].seen
B? (one, two, three) == ((1, ["a"], 2), (2, ["a", "b"], 3), (3, ["a", "b", "c"], 4))
B: get_ipython().magics_manager.registry["MptKeeping"].last = 5
   four = %mpt_keep d
A? seen == ["a", "b", "c", "d"] and get_ipython().magics_manager.registry["MptKeeping"].last == 5

# aliases of commands
A: %alias mpt_say echo hello %s
B: get_ipython().system = lambda command: said.append(command); said = []
   %mpt_say there
A: %alias mpt_say echo bye %s
B: %mpt_say then
   del get_ipython().system
B? [command.split() for command in said] == [["echo", "hello", "there"], ["echo", "bye", "then"]]
B: %unalias mpt_say
A? get_ipython().alias_manager.get_alias("mpt_say") is None

# extensions
A: open("mpt_extension.py", "w").write(
       "def load_ipython_extension(shell):\\n"
       "    shell.register_magic_function(lambda line: line * 2, magic_name='mpt_twice')\\n"
   )
   %load_ext mpt_extension
B: twice = %mpt_twice ab
A? twice == "abab"

# options of the shell
A: shell = get_ipython(); shell.ast_node_interactivity = "all"
   %precision 2
B? get_ipython().ast_node_interactivity == "all" and shell is get_ipython()
B: get_ipython().ast_node_interactivity = "last_expr"
   %precision
A? shell.ast_node_interactivity == "last_expr"

# future imports
A: from __future__ import annotations
B: class Tree: kids: list[Tree | Unknown]
B? Tree.__annotations__ == {"kids": "list[Tree | Unknown]"}

# a builtin is replaced, and put back elsewhere
A: import builtins, functools
   original, said, part = print, [], functools.partial(print, end="!")
   def loud(*args): said.append(args); original("loud", *args)
   builtins.print = loud
B: print("x"); part("y")
B? said == [("x",)] and original is not loud
B: builtins.print = original
A? print is original and said == [("x",)]
A: print("z")
B? said == [("x",)]

# reloading of modules that have changed
A: import itertools, os
   times = itertools.count(2_000_000_000, 10)
   def rewrite(path, code):
       with open(path, "w") as file: file.write(code)
       os.utime(path, (next(times),) * 2)
   rewrite("mpt_reloaded.py", "def f(): return 1")
   import mpt_reloaded
   %load_ext autoreload
   %autoreload 2
B? mpt_reloaded.f() == 1
A: rewrite("mpt_reloaded.py", "def f(): return 22")
A? mpt_reloaded.f() == 22
B? mpt_reloaded.f() == 22
B: %aimport -mpt_reloaded
A: rewrite("mpt_reloaded.py", "def f(): return 333")
A? mpt_reloaded.f() == 22
A: %autoreload 0
B? not get_ipython().magics_manager.registry["AutoreloadMagics"]._reloader.enabled

# formatters
A: class Formatted: pass
   plain = get_ipython().display_formatter.formatters["text/plain"]
   plain.for_type(Formatted, lambda o, p, cycle: p.text("FORMATTED")); del plain
B? get_ipython().display_formatter.format(Formatted())[0]["text/plain"] == "FORMATTED"

# formatters of a library
A: text = "def init(formatter):\\n def show(x, p, _): p.text('shown')\\n formatter.for_type(complex, show)"
   open("mpt_printing.py", "w").write(text); import mpt_printing
   mpt_printing.init(get_ipython().display_formatter.formatters["text/plain"])
B? get_ipython().display_formatter.format(1j)[0]["text/plain"] == "shown"
A: get_ipython().display_formatter.formatters["text/plain"].pop(complex); del mpt_printing
B? get_ipython().display_formatter.format(1j)[0]["text/plain"] == "1j"

# transformers of cells
A: import ast
   def plus(lines): return [line.replace("PLUS", "+") for line in lines]
   class Doubling(ast.NodeTransformer):
       def visit_Constant(self, node): return ast.Constant(2 * node.value)
   get_ipython().input_transformers_post.append(plus)
B? 1 PLUS 2 == 3
B: get_ipython().ast_transformers.append(Doubling())
A: twice = 2 PLUS 3
C: get_ipython().ast_transformers.clear(); get_ipython().input_transformers_post.remove(plus)
A? twice == 10
A! SyntaxError: 1 PLUS 2

# transformers of the text of a cell, and who makes tracebacks
A: failed = []
   get_ipython().input_transformers_cleanup.append(lambda lines: [line.replace("PLUS", "+") for line in lines])
   def handler(self, etype, value, tb, tb_offset=None): failed.append(etype.__name__)
   get_ipython().set_custom_exc((ZeroDivisionError,), handler)
B? 2 PLUS 2 == 4
B! ZeroDivisionError: 1 / 0
A? failed == ["ZeroDivisionError"]
C: get_ipython().set_custom_exc((), None); get_ipython().input_transformers_cleanup.pop()
A! ZeroDivisionError: 1 / 0
A! SyntaxError: 2 PLUS 2
A? failed == ["ZeroDivisionError"]

# callbacks at events
A: ran = []
   def note(*_): ran.append(len(ran))
   get_ipython().events.register("pre_run_cell", note)
B: pass
B: pass
A: get_ipython().events.unregister("pre_run_cell", note)
B: pass
A? ran == [0, 1, 2]

# names that no variable can have
A: listed = []; globals()["%listed"] = listed
B? listed == []
A: del globals()["%listed"]

# names that begin and end with underscores
A: __version__ = "1.0"; __all__ = ["a"]
B? __version__ == "1.0" and __all__ == ["a"]
B: del __version__
A! NameError: __version__
""")


@pytest.mark.parametrize("text", STORIES.values(), ids=STORIES)
def test_what_one_sets_is_set_for_the_others(story: Stories, text: str) -> None:
    story(text)


@needs_numpy
def test_numpys_random_numbers(story: Stories) -> None:
    story("""
        A: import numpy as np; np.random.seed(4); expected = np.random.rand(2).tolist(); np.random.seed(4)
        B: drawn = [np.random.rand()]
        A: from numpy.random import rand; drawn.append(rand())
        B? drawn == expected
    """)


@needs_numpy
def test_options_of_numpy(story: Stories) -> None:
    story("""
        A: import numpy as np; np.set_printoptions(precision=2); old = np.seterr(divide="raise")
           np.set_printoptions(formatter={"int": hex})
        B? str(np.array([1.23456])) == "[1.23]" and str(np.array([255])) == "[0xff]"
        B! FloatingPointError: np.array([1.0]) / 0
        B: np.set_printoptions(suppress=True); _ = np.seterr(**old)
        A? str(np.array([1e-9])) == "[0.]" and np.geterr() == old
        A: np.set_printoptions(precision=8, suppress=False)
        B? str(np.array([1.23456])) == "[1.23456]"
    """)


@needs_numpy
def test_what_numpy_calls(story: Stories) -> None:
    story("""
        A: import numpy as np; kinds = []
           kept = np.seterr(all="call"), np.seterrcall(lambda kind, _: kinds.append(kind))
        B: ratio = np.array([1.0]) / np.array([0.0])
        A? kinds == ["divide by zero"]
        B: _ = np.seterr(**kept[0]), np.seterrcall(kept[1])
        A? np.geterrcall() is None
    """)


@needs_pandas
@pytest.mark.skipif(find_spec("tqdm") is None, reason="needs tqdm")
def test_progress_bars_of_pandas(story: Stories) -> None:
    story("""
        A: import pandas as pd; from tqdm import tqdm; tqdm.pandas(disable=True); frame = pd.DataFrame({"a": [1, 2]})
        B? list(frame.a.progress_apply(lambda x: x + 1)) == [2, 3]
    """)


@pytest.mark.skipif(find_spec("nest_asyncio") is None, reason="needs nest_asyncio")
def test_loops_within_loops(kernel: Kernel) -> None:
    story = Stories(kernel)
    story("""
        A: import asyncio, nest_asyncio; nest_asyncio.apply()
           async def five(): await asyncio.sleep(0); return 5
        B? asyncio.run(five()) == 5
        C? asyncio.run(five()) == 5
    """)


@needs_pandas
def test_an_option_that_only_one_knows_does_not_keep_others_away(story: Stories) -> None:
    story("""
        A: import pandas as pd; from pandas._config import config; config.register_option("mpt.own", 1)
        A: pd.set_option("mpt.own", 2); pd.set_option("display.width", 77)
        B? pd.get_option("display.width") == 77
        A: pd.reset_option("display.width"); del config._registered_options["mpt.own"], config._global_config["mpt"]
    """)


@needs_matplotlib
def test_lists_among_the_options_of_matplotlib(story: Stories) -> None:
    story("""
        A: import matplotlib as mpl; fonts = list(mpl.rcParams["font.sans-serif"])
        B: mpl.rcParams["font.sans-serif"].insert(0, "Mpt")
        A? mpl.rcParams["font.sans-serif"] == ["Mpt", *fonts]
        A: mpl.rcParams["font.sans-serif"].remove("Mpt")
        B? mpl.rcParams["font.sans-serif"] == fonts
    """)


@needs_matplotlib
def test_colormaps(story: Stories) -> None:
    story("""
        A: import matplotlib as mpl; from matplotlib.colors import ListedColormap
        A: mpl.colormaps.register(ListedColormap(["red", "blue"], name="mpt"))
        B: import matplotlib.pyplot as plt; _ = plt.imshow([[1, 2]], cmap="mpt"); plt.close()
        B: mpl.colormaps.register(ListedColormap(["red", "green"], name="mpt"), force=True)
        A? mpl.colormaps["mpt"].colors == ["red", "green"] and "viridis" in mpl.colormaps
        A: mpl.colormaps.unregister("mpt")
        B? "mpt" not in mpl.colormaps
    """)


@needs_matplotlib
def test_the_first_plot_of_a_subshell_is_as_the_others_are_set(story: Stories) -> None:
    story("""
        A: %matplotlib inline
        A: %config InlineBackend.figure_formats = ["svg"]
        A: from matplotlib_inline.config import InlineBackend as backend
        B: import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show(); there = backend.instance().figure_formats
        A? there == backend.instance().figure_formats == {"svg"}
        B: %config InlineBackend.figure_formats = ["png"]
        A? backend.instance().figure_formats == {"png"}
    """)


@needs_pandas
def test_options_of_pandas(story: Stories) -> None:
    story("""
        A: import pandas as pd; pd.set_option("display.max_rows", 7)
        B? pd.get_option("display.max_rows") == 7
        B: pd.reset_option("display.max_rows")
        A? pd.get_option("display.max_rows") == 60
    """)


@needs_matplotlib
def test_options_of_matplotlib(story: Stories) -> None:
    story("""
        A: import matplotlib as mpl; params = mpl.rcParams; params["lines.linewidth"] = 33
        B? mpl.rcParams["lines.linewidth"] == 33 and params is mpl.rcParams
        B: mpl.rcdefaults()
        A? mpl.rcParams["lines.linewidth"] != 33
    """)


@needs_matplotlib
def test_what_figures_are_shown_as(story: Stories) -> None:
    formats = """
        import matplotlib.pyplot as plt
        from matplotlib_inline.backend_inline import set_matplotlib_formats
        def formats():
            figure, axes = plt.subplots()
            plt.close(figure)
            return get_ipython().display_formatter.format(figure)[0].keys() - {"text/plain"}
    """
    story.run("A", textwrap.dedent(formats))
    story("""
        A: set_matplotlib_formats("svg")
        B? formats() == {"image/svg+xml"}
        B: set_matplotlib_formats("retina")
        A? formats() == {"image/png"}
        A: %config InlineBackend.figure_format = "svg"
        B? formats() == {"image/svg+xml"}
        B: set_matplotlib_formats("png")
        A? formats() == {"image/png"}
    """)


@needs_matplotlib
def test_scales_units_and_fonts(story: Stories) -> None:
    story("""
        A: import os, shutil, matplotlib
           import matplotlib.font_manager as fonts, matplotlib.scale as scales, matplotlib.units as units
           class Scale(scales.LinearScale): name = "mpt"
           scales.register_scale(Scale)
           class Money: pass
           class Converter(units.ConversionInterface):
               @staticmethod
               def convert(value, unit, axis): return 5
           units.registry[Money] = Converter()
           path = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
        A: fonts.fontManager.addfont(shutil.copy(path, "mpt.ttf"))
        B? "mpt" in scales.get_scale_names()
        B? units.registry.get_converter([Money()]).convert(0, 0, 0) == 5
        B? any(font.fname == "mpt.ttf" for font in fonts.fontManager.ttflist)
    """)


def test_a_subshell_that_is_made_later_has_it(story: Stories) -> None:
    story("A: import os, random; os.environ['MPT_LATER'] = '1'; random.seed(3)")
    story.without_subshells()("""
        C? os.environ.pop("MPT_LATER") == "1" and random.random() == random.Random(3).random()
        M? "MPT_LATER" not in os.environ
    """)


def test_two_cells_at_once_change_different_parts_of_it(story: Stories) -> None:
    story("M: import os, sys\nA: pass\nB: pass")
    first, second = story.at_once(
        A="os.environ['MPT_A'] = '1'; sys.path.append('/mpt-a')",
        B="os.environ['MPT_B'] = '2'; sys.path.append('/mpt-b')",
    )
    assert (first.stderr, second.stderr) == ("", "")
    for letter in "ABM":
        story.check(
            letter, "os.environ['MPT_A'] + os.environ['MPT_B'] == '12' and {'/mpt-a', '/mpt-b'} <= set(sys.path)"
        )
    story.run(
        "A", "del os.environ['MPT_A'], os.environ['MPT_B']; sys.path[:] = [p for p in sys.path if 'mpt' not in p]"
    )
    story("B? not {'MPT_A', 'MPT_B'} & {*os.environ} and not {'/mpt-a', '/mpt-b'} & {*sys.path}")


@pytest.mark.mpkernel_only("threads draw from one stream")
def test_cells_that_run_at_once_draw_different_random_numbers(story: Stories) -> None:
    """And the stream that was seeded goes on afterwards, if they have not drawn from it."""
    story("A: import random; random.seed(7); drawn = {}\nB: pass")
    cell = story.open_cell("A", "drawn['A'] = random.random()")
    story.run("B", "drawn['B'] = random.random()")
    cell.finish()
    story("M? drawn['A'] != drawn['B']\nA: random.seed(8)")
    cell = story.open_cell("A", "pass")
    story.run("B", "idle = 1")
    cell.finish()
    story("B? random.random() == random.Random(8).random()")


# Each with a module of the notebook's own.
MODULES = blocks(r"""
# attribute of a module of one's own
A: %%writefile mpt_conf1.py
   limit = 1
   items = []
   registry = {}
   def add(x):
       global limit
       items.append(x)
       limit += 1
       return len(items)
   class S:
       def __init__(self): self.debug, self.names = False, []
   settings = S()
A: import mpt_conf1
B? mpt_conf1.limit == 1
B: mpt_conf1.limit = 10; mpt_conf1.items.append('b'); mpt_conf1.registry['k'] = [1]
A? mpt_conf1.limit == 10 and mpt_conf1.items == ['b'] and mpt_conf1.registry == {'k': [1]}
A: n = mpt_conf1.add('a')
B? n == 2 and mpt_conf1.items == ['b', 'a'] and mpt_conf1.limit == 11
B: mpt_conf1.settings.debug = True; mpt_conf1.settings.names.append('x'); s = mpt_conf1.settings
A? mpt_conf1.settings.debug and mpt_conf1.settings.names == ['x']
A: mpt_conf1.new = 'text'; del mpt_conf1.registry
B? mpt_conf1.new == 'text' and not hasattr(mpt_conf1, 'registry')

# imported and changed in one cell
A: open('mpt_conf2.py', 'w').write('limit = 1\nitems = []\n') and None
   import mpt_conf2
   mpt_conf2.limit = 5; mpt_conf2.items.append(1)
B? mpt_conf2.limit == 5 and mpt_conf2.items == [1]
C: import mpt_conf2 as c
C? c.limit == 5 and c.items == [1]

# from import of a function that keeps state
A: open('mpt_conf3.py', 'w').write('_seen = []\ndef see(x):\n    _seen.append(x)\n    return list(_seen)\n') and None
   from mpt_conf3 import see
   a = see(1)
B: b = see(2)
A? see(3) == [1, 2, 3] and b == [1, 2]

# a list imported by name
A: open('mpt_conf4.py', 'w').write('items = []\ndef add(x): items.append(x)\n') and None
   from mpt_conf4 import items, add
   add(1)
B: add(2)
A? items == [1, 2]
B? items == [1, 2]
A: items.append(3)
B? items == [1, 2, 3]
B: add(4)
A? items == [1, 2, 3, 4]

# a folder of modules elsewhere
A: import pathlib, sys, tempfile; folder = pathlib.Path(tempfile.mkdtemp()); sys.path.append(str(folder))
   _ = (folder / "mpt_elsewhere.py").write_text("seen = []")
   import mpt_elsewhere; mpt_elsewhere.seen.append(1)
B? mpt_elsewhere.seen == [1]
B: mpt_elsewhere.seen.append(2)
A? mpt_elsewhere.seen == [1, 2]
A: import shutil; sys.path.remove(str(folder)); shutil.rmtree(folder)

# a list of a module that gets too large to be told
A: open("mpt_grows.py", "w").write("items = []\n") and None
   import mpt_grows
B: mpt_grows.items.append("b")
A: mpt_grows.items.extend(range(100_000))
B? mpt_grows.items == ["b"]
A: del mpt_grows.items[1:]; mpt_grows.items = ["a"]
B? mpt_grows.items == ["a"]

# a function of a module replaced
A: open('mpt_conf5.py', 'w').write('def f(): return 1\ndef g(): return f()\n') and None
   import mpt_conf5
B: mpt_conf5.f = lambda: 2
A? mpt_conf5.g() == 2
B: import importlib; importlib.reload(mpt_conf5) and None
B? mpt_conf5.g() == 1
A? mpt_conf5.g() == 1

# reloaded after its file has changed
A: open('mpt_conf7.py', 'w').write('count = 0\ndef f(): return 1\n') and None
   import mpt_conf7, importlib
   mpt_conf7.count = 5
B? mpt_conf7.f() == 1 and mpt_conf7.count == 5
B: open('mpt_conf7.py', 'w').write('print("loaded")\ncount = 0\ndef f(): return "two"\n') and None
   importlib.reload(mpt_conf7)
A? mpt_conf7.f() == 'two' and mpt_conf7.count == 0
C? mpt_conf7.f() == 'two' and mpt_conf7.count == 0
A: mpt_conf7.count = 7
B? mpt_conf7.count == 7 and mpt_conf7.f() == 'two'

# writefile and import
A: %%writefile mpt_conf6.py
   count = 0
   def up():
       global count
       count += 1
       return count
A: import mpt_conf6; a = mpt_conf6.up()
B: b = mpt_conf6.up()
A? mpt_conf6.up() == 3 and (a, b) == (1, 2)

# an object imported by name that its functions change
A: %%writefile mpt_conf8.py
   class Tracker:
       def __init__(self): self.events, self.n = [], 0
       def log(self, event): self.events.append(event); self.n += 1
   tracker = Tracker()
   def log(event): tracker.log(event)
   def count(): return tracker.n
A: from mpt_conf8 import tracker, log, count
   log("a")
B: log("b")
B? tracker.events == ["a", "b"] and count() == 2
A: tracker.log("c")
B? count() == 3
B: import mpt_conf8; tracker.log("d")
B? mpt_conf8.tracker is tracker and count() == 4
A? mpt_conf8.tracker is tracker and count() == 4
C: from mpt_conf8 import tracker; n = tracker.n
A? n == 4 and tracker.n == 4 and count() == 4

# settings imported by name in each subshell
A: open('mpt_conf9.py', 'w').write('import threading\nclass S:\n    lr = 1\n    lock = threading.RLock()\n'
                                   '    def __init__(self): self.lock = threading.Lock()\ns = S()\n'
                                   'def lr(): return s.lr\n') and None
   from mpt_conf9 import s
   s.lr = 5
B: from mpt_conf9 import s, lr
   s.lr += lr()
A? s.lr == 10 and lr() == 10

# a class with locks
A: %%writefile mpt_conf14.py
   import threading
   class Store:
       def __init__(self):
           self.lock, self.changed, self.items = threading.Lock(), threading.Condition(threading.RLock()), {}
       def put(self, key, value):
           with self.lock, self.changed:
               self.items[key] = value
               self.changed.notify_all()
A: from mpt_conf14 import Store
   store = Store(); store.put("a", 1)
B: store.put("b", 2)
A? store.items == {"a": 1, "b": 2}

# attributes of classes and functions
A: %%writefile mpt_conf10.py
   class Db:
       instance, opened = None, 0
       def __new__(cls):
           if cls.instance is None:
               cls.instance = super().__new__(cls)
               cls.instance.rows, Db.opened = [], cls.opened + 1
           return cls.instance
   class Base:
       known = {}
       def __init_subclass__(cls): cls.known[cls.__name__] = cls
   def f():
       f.calls += 1
       return f.calls
   f.calls = 0
A: from mpt_conf10 import *
   db = Db(); db.rows.append(1); f()
   class First(Base): pass
B: same = Db(); same.rows.append(2); calls = f()
   class Second(Base): pass
A? Db().rows == [1, 2] and Db.opened == 1 and same is db and (calls, f()) == (2, 3)
A? Base.known == {"First": First, "Second": Second} and Base.known["Second"]() is not None
B? Base.known == {"First": First, "Second": Second}

# classes that aren't variables any more, of a module that another subshell hasn't imported
A: %%writefile mpt_conf20.py
   class Base:
       kinds = []
       def __init_subclass__(cls): cls.kinds.append(cls)
A: %%writefile mpt_conf21.py
   known = {}
   def put(key): known[key] = 1
A: from mpt_conf20 import Base
   class Kind(Base): pass
A: class Kind(Base): pass
A: from mpt_conf21 import known, put; put("a")
B: put("b")
C? __import__('mpt_conf21').known is known and sorted(known) == ["a", "b"]
B? len(Base.kinds) == 2 and Base.kinds[1] is Kind
C? [(kind.__name__, kind is Kind) for kind in Base.kinds] == [("Kind", False), ("Kind", True)]
C: class Third(Base): pass
A? Base.kinds[1:] == [Kind, Third]

# variables within what a module has
A: %%writefile mpt_conf11.py
   class Node:
       all = []
       def __init__(self, name): self.name = name; Node.all.append(self)
   current, handlers = None, []
   def rename(name): current.name = name
   def fire(event): return [handler(event) for handler in handlers]
A: import mpt_conf11
   from mpt_conf11 import Node
   a = Node("a"); mpt_conf11.current = a; got = []
   def first(event): got.append(("first", event))
   mpt_conf11.handlers.append(first)
B: b = Node("b"); mpt_conf11.rename("other"); mpt_conf11.fire(1)
   def second(event): got.append(("second", event))
   mpt_conf11.handlers.append(second)
A? Node.all == [a, b] and a.name == "other" and got == [("first", 1)]
A: b.name = "one"; mpt_conf11.fire(2)
B? Node.all[1] is b and b.name == "one" and got[1:] == [("first", 2), ("second", 2)] and mpt_conf11.current is a
B: mpt_conf11.current = Node("c"); mpt_conf11.rename("d")
A? a.name == "other" and mpt_conf11.current.name == "d"

# what has no name
A: %%writefile mpt_conf15.py
   handlers, made = {}, []
   def on(event, handler): handlers.setdefault(event, []).append(handler)
   def fire(event, *values): return [handler(*values) for handler in handlers.get(event, [])]
A: import mpt_conf15
   got, factor = [], 2
   mpt_conf15.on("e", lambda x: got.append(x))
   class P: v = 1
   mpt_conf15.made.append(P())
B: mpt_conf15.fire("e", 5)
   class Ear:
       def __init__(self): self.heard = []
       def hear(self, x): self.heard.append(x)
   ear = Ear(); mpt_conf15.on("e", ear.hear); mpt_conf15.on("e", lambda x: x * factor)
   class P: v = 2
   mpt_conf15.made.append(P())
A? mpt_conf15.fire("e", 3) == [None, None, 6] and ear.heard == [3] and got == [5, 3]
B? ear.heard == [3] and got == [5, 3] and [p.v for p in mpt_conf15.made] == [1, 2]
A? [p.v for p in mpt_conf15.made] == [1, 2] and isinstance(mpt_conf15.made[1], P)
C: factor = 10
C? mpt_conf15.fire("e", 1)[2] == 10
A? got == [5, 3, 1] and ear.heard == [3, 1]

# imported in a function
A: open('mpt_conf12.py', 'w').write('state = {"n": 0}\n') and None
   def up():
       import mpt_conf12
       mpt_conf12.state["n"] += 1
       return mpt_conf12.state["n"]
   one = up()
B: two = up()
A? (one, two, up()) == (1, 2, 3)

# a large array that it has
A: open('mpt_conf13.py', 'w').write('data = bytearray(100_000)\ndef total(): return sum(data)\n') and None
   from mpt_conf13 import data, total
   data[0] = 5
B? total() == 5
B: data[1] = 6
A? total() == 11
B? total() == 11
""")


@pytest.mark.parametrize("text", MODULES.values(), ids=MODULES)
def test_variables_of_modules_of_ones_own(story: Stories, text: str) -> None:
    story(text)


def test_two_cells_at_once_fill_what_a_module_has(story: Stories) -> None:
    """It is merged as a variable, as it is one."""
    story("""
        A: open("mpt_filled.py", "w").write("known, log = {}, []\\ndef put(k): known[k] = k; log.append(k)\\n") and None
        A: from mpt_filled import known, log, put
    """)
    story.at_once(A="put('a')", B="put('b')")
    for letter in "ABC":
        story.check(letter, "sorted(known) == sorted(log) == ['a', 'b']")
        story.check(letter, "__import__('mpt_filled').known is known and __import__('mpt_filled').log is log")


def test_two_cells_at_once_change_what_only_a_module_has(story: Stories) -> None:
    """Items of dicts and lists are merged, and instances that are variables stay what they are."""
    story("""
        A: open("mpt_merged.py", "w").write("known, log = {}, []\\nclass C:\\n    counts = {}\\n"
               "def put(k, v): known[k] = v; log.append(k); C.counts[k] = 1\\n") and None
           import mpt_merged
           class J: pass
           a, b = J(), J()
        B: import mpt_merged
    """)
    story.at_once(A="mpt_merged.put('a', a); a.n = 1", B="mpt_merged.put('b', b); b.n = 2")
    for letter in "ABC":
        story.check(letter, "mpt_merged.known == {'a': a, 'b': b} and (a.n, b.n) == (1, 2)")
        story.check(letter, "sorted(mpt_merged.log) == ['a', 'b'] and mpt_merged.C.counts == {'a': 1, 'b': 1}")
    story.at_once(A="mpt_merged.put('a', 0)", B="del mpt_merged.known['b']")
    for letter in "ABC":
        story.check(letter, "mpt_merged.known == {'a': 0}")


def test_what_a_running_cell_has_made_of_a_module_is_seen(story: Stories) -> None:
    """As what it has made of variables; also by a function, and in attributes of classes."""
    story("""
        A: open("mpt_trains.py", "w").write("class Job:\\n    done = 0\\nhistory, stop = [], False\\n"
                                            "def step(): history.append(len(history)); Job.done += 1\\n") and None
           import mpt_trains
        B: import mpt_trains
    """)
    training = story.open_cell("A", "(lambda: [mpt_trains.step() for _ in range(3)])()", "mpt_trains.step()")
    story.check("B", "mpt_trains.history == [0, 1, 2] and mpt_trains.Job.done == 3")
    story.run("B", "mpt_trains.stop = True")
    assert training.finish().status == "ok"
    for letter in "ABC":
        story.check(letter, "mpt_trains.history == [0, 1, 2, 3] and mpt_trains.Job.done == 4 and mpt_trains.stop")


# As the libraries of these names keep what they are set to.
LIBRARIES = {
    "torch.py": "kind = 32\nget_default_dtype = lambda: kind\ndef set_default_dtype(new): global kind; kind = new\n"
    "get_float32_matmul_precision = are_deterministic_algorithms_enabled = lambda: True\n"
    "set_float32_matmul_precision = use_deterministic_algorithms = lambda _: None",
    "plotly/io.py": "class Renderers: default = ''\n"
    "class Templates:\n    _default, _templates = 'light', {'light': 1, 'dark': 2}\n"
    "    def __setitem__(self, name, template): self._templates[name] = template\n"
    "    @property\n    def default(self): return self._default\n"
    "    @default.setter\n    def default(self, name): self._templates[name]; self._default = name\n"
    "templates, renderers = Templates(), Renderers()",
    "altair.py": "class Registry:\n    active, options = 'default', {}\n"
    "    def enable(self, active, **options): self.active, self.options = active, options\n"
    "data_transformers, renderers = Registry(), Registry()",
    "bokeh/io/state.py": "class State:\n    notebook, notebook_type = False, None\n"
    "    def output_notebook(self, kind): self.notebook, self.notebook_type = True, kind\n"
    "state = State()\ncurstate = lambda: state",
    "dask/config.py": "config = {'array': {'chunk': 1, 'other': [2]}}",
}

OPTIONS = blocks("""
# told by a function
A: import torch; torch.set_default_dtype(64)
B? torch.get_default_dtype() == 64
B: torch.set_default_dtype(16)
A? torch.get_default_dtype() == 16

# an attribute
A: import plotly.io as pio; pio.templates.default = "dark"
B? pio.templates.default == "dark" and pio.renderers.default == ""

# something that is registered first
A: import plotly.io as pio; pio.templates["mine"] = {"title": "T"}; pio.templates.default = "mine"
B? pio.templates.default == "mine" and pio.templates._templates["mine"] == {"title": "T"}
C: import plotly.io
C? plotly.io.templates.default == "mine"

# imported later elsewhere
A: import altair; altair.data_transformers.enable("default", max_rows=None)
C: import altair
C? altair.data_transformers.options == {"max_rows": None}

# shown in the notebook
A: from bokeh.io import state; state.curstate().output_notebook("jupyter")
B? state.curstate().notebook

# tables
A: import dask.config
A: dask.config.config["array"]["chunk"] = 5; dask.config.config["new"] = {"deep": 1}
B: dask.config.config["array"]["other"].append(3)
A? dask.config.config == {"array": {"chunk": 5, "other": [2, 3]}, "new": {"deep": 1}}
""")


def test_options_of_libraries(tmp_path: Path) -> None:
    for name, text in LIBRARIES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with start_kernel(env={"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}) as kernel:
        for text in OPTIONS.values():
            Stories(kernel)(text)


def test_a_log_file_that_several_write_to(story: Stories) -> None:
    story("""
        A: import logging
           logging.basicConfig(filename='app.log', filemode='w', level=logging.INFO, force=True, format='%(message)s')
           logging.info('one')
        B: import logging; logging.info('two')
        A: logging.info('three')
        A? open('app.log').read().split() == ['one', 'two', 'three']
        A: logging.basicConfig(handlers=[], force=True)
    """)


def test_a_log_file_that_its_owner_rotates(story: Stories) -> None:
    story("""
        A: import glob, logging.handlers
           log = logging.getLogger('mpt.rotating'); log.setLevel(20)
           log.addHandler(logging.handlers.RotatingFileHandler('rotating.log', maxBytes=40, backupCount=3))
           log.info('a' * 20)
        B: log.info('b' * 20)
        A: log.info('c' * 20); log.info('d' * 20)
        B: log.info('e' * 20)
        A? sorted(line[0] for path in glob.glob('rotating.log*') for line in open(path).read().split()) == [*'abcde']
        A: log.handlers.clear()
    """)
